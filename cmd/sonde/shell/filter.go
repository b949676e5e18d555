package shell

import (
	"context"
	"strings"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
)

// Filter says which processes the items see: what the options --cgroup, --container, --pod, --comm, -p and --children of the command line say.
// A nil filter is none.
type Filter struct {
	Options  []string // as on the command line
	PID      int      // 0 for all processes
	Children bool
	// Lower gives what the programs test before anything else; a nil result when PID says everything.
	Lower func(*target.Target) (func(*lower.Gen), error)
	// Compiled, when set, changes an object before it is loaded.
	Compiled func(*object.Object)
}

// String is the filter as the command line has it, "" for none.
func (f *Filter) String() string {
	if f == nil {
		return ""
	}
	words := make([]string, len(f.Options))
	for i, w := range f.Options {
		if strings.ContainsAny(w, " \t'\"*\\$") {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		words[i] = w
	}
	return strings.Join(words, " ")
}

func (f *Filter) pid() int {
	if f == nil {
		return 0
	}
	return f.PID
}

// emit is Lower, for a filter that may be nil.
func (f *Filter) emit(t *target.Target) (func(*lower.Gen), error) {
	if f == nil || f.Lower == nil {
		return nil, nil
	}
	return f.Lower(t)
}

// cmdFilter shows or changes the filter of the items that follow.
func (sh *Shell) cmdFilter(_ context.Context, args string) error {
	const how = "write `\\filter comm NAME`, `cgroup PATH`, `container ID`, `pod UID`, `pid N`, `pid N children`, or `\\filter off`"
	switch args {
	case "":
		if sh.filter == nil {
			sh.say("items see all processes")
		} else {
			sh.say("items that follow see only: %s", sh.filter)
		}
		return nil
	case "off", "none":
		sh.filter = nil
		sh.say("items that follow see all processes")
		return nil
	}
	if sh.cfg.ParseFilter == nil {
		return hintf("", "filters are not available in this session")
	}
	f, err := sh.cfg.ParseFilter(strings.Fields(args))
	if err != nil {
		if Hint(err) == "" {
			return hintf(how, "%v", err)
		}
		return err
	}
	sh.filter = f
	sh.say("items that follow see only: %s", f)
	return nil
}

// NewHintError is for what a session is configured with: a mistake of the user and what to do about it.
func NewHintError(text, hint string) error { return &hintError{text, hint} }
