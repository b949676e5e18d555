package runtime

import (
	"fmt"
	"strings"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/runtime/value"
)

// Actions counts what the script did to the system, or, with Options.DryActions, would have done.
type Actions struct {
	Probe string // the program's first attach point, and how many more; "" for what user space does
	// Counts has one number for each of ActionKinds.
	Counts [numActions]uint64
}

const (
	actionSystem = 5
	numActions   = 6
)

// actionKinds are the kinds of actions: the counter of the kernel, the key in JSON, and what is said of one and of several.
var actionKinds = [numActions]struct {
	counter          int
	key, one, plural string
}{
	{object.CounterSignal, "signal", "signal sent", "signals sent"},
	{object.CounterSignalThread, "signal_thread", "signal sent to a thread", "signals sent to threads"},
	{object.CounterOverride, "override", "return value overridden", "return values overridden"},
	{object.CounterDeny, "deny", "operation denied", "operations denied"},
	{object.CounterWriteUser, "write_user", "write to a process", "writes to processes"},
	{-1, "system", "command run", "commands run"},
}

// Actions reads what was done, one entry for each program that did something.
func (s *Session) Actions() ([]Actions, error) {
	counts, err := s.counters()
	if err != nil {
		return nil, err
	}
	var out []Actions
	for i, p := range s.obj.Programs {
		c := counts[min(i*object.CountersPerProgram, len(counts)):]
		if len(c) < object.CountersPerProgram {
			break
		}
		a := Actions{Probe: programName(s.obj, p)}
		for k := range actionSystem {
			a.Counts[k] = c[actionKinds[k].counter]
		}
		if a.Counts != [numActions]uint64{} {
			out = append(out, a)
		}
	}
	if s.commands > 0 {
		a := Actions{}
		a.Counts[actionSystem] = s.commands
		out = append(out, a)
	}
	return out, nil
}

// ActionReport says in lines of text what was done.
func (s *Session) ActionReport() ([]string, error) {
	list, err := s.Actions()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, a := range list {
		var parts []string
		for k, n := range a.Counts {
			switch {
			case n == 1:
				parts = append(parts, "1 "+actionKinds[k].one)
			case n > 1:
				parts = append(parts, fmt.Sprintf("%d %s", n, actionKinds[k].plural))
			}
		}
		line := strings.Join(parts, ", ")
		if a.Probe != "" {
			line = a.Probe + ": " + line
		}
		if s.opts.DryActions {
			line += " (not done: --dry-run-actions)"
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// ActionJSON appends one line for each program that did something.
func (s *Session) ActionJSON(dst []byte) ([]byte, error) {
	list, err := s.Actions()
	if err != nil {
		return dst, err
	}
	for _, a := range list {
		dst = value.AppendJSONString(append(dst, `{"type": "actions", "data": {"probe": `...), a.Probe)
		for k, n := range a.Counts {
			if n > 0 {
				dst = value.AppendJSONUint(append(append(append(dst, `, "`...), actionKinds[k].key...), `": `...), n)
			}
		}
		dst = fmt.Appendf(dst, `, "dry_run": %v}}`+"\n", s.opts.DryActions)
	}
	return dst, nil
}
