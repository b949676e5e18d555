package stdlib

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/types"
)

// watchpoint is a hardware breakpoint on memory.
type watchpoint struct{ m *Machine }

type watchPoint struct {
	addr, length uint64
	mode         string
	pid          int
	children     bool // the script's filter decides which processes
}

func watchKinds(m *Machine) []KindEntry {
	return []KindEntry{{Kind: &watchpoint{m}, Aliases: []string{"w", "asyncwatchpoint", "aw"}, Doc: Doc{
		Group: "processor", Summary: "memory is read, written or executed",
		Text: "`watchpoint:ADDRESS:LENGTH:MODE` with a length of 1, 2, 4 or 8 and a mode of r, w, x. With -p or -c the address is one of that process, else of the kernel. " +
			"Processors have four of them.",
		Example: `watchpoint:0xffffffff82000000:8:w { @[kstack] = count(); }`,
	}}}
}

func (k *watchpoint) Name() string { return "watchpoint" }

// watchModes are what an architecture can watch.
func watchModes(arch string) []string {
	if arch == "arm64" {
		return []string{"r", "w", "rw", "x"}
	}
	return []string{"w", "rw", "x"}
}

func (k *watchpoint) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest("watchpoint", ap, env, diags)
	if len(r.seg) != 3 {
		r.errorf(codeSegments, "watchpoint probe type requires 3 arguments, found %d", len(r.seg)).Hint("write `watchpoint:ADDRESS:LENGTH:MODE`")
		return nil
	}
	d := &watchPoint{pid: env.PID, children: env.Children}
	var err error
	if d.addr, err = parseNumber(r.seg[0]); err != nil {
		diag := r.segErrorf(0, codeOffset, "Invalid function/address argument: %v", err)
		if strings.Contains(r.seg[0], "+arg") {
			diag.Hint("print the argument with a uprobe first, and watch that address: watchpoints on arguments are not supported")
		}
		return nil
	}
	if d.length, err = parseNumber(r.seg[1]); err != nil {
		r.segErrorf(1, codeOffset, "Invalid length argument: %v", err)
		return nil
	}
	if d.pid == 0 {
		d.pid = env.ChildPID
	}
	mode := []byte(r.seg[2])
	slices.Sort(mode)
	d.mode = string(mode)
	switch {
	case d.addr == 0:
		r.segErrorf(0, codeOffset, "watchpoint must be attached to a non-zero address")
		return nil
	case !slices.Contains([]uint64{1, 2, 4, 8}, d.length):
		r.segErrorf(1, codeOffset, "watchpoint length must be one of (1,2,4,8)")
		return nil
	case d.mode == "" || strings.Trim(d.mode, "rwx") != "":
		r.segErrorf(2, codeOffset, "watchpoint mode must be combination of (r,w,x)")
		return nil
	case len(slices.Compact(mode)) != len(d.mode):
		r.segErrorf(2, codeOffset, "watchpoint modes may not be duplicated")
		return nil
	case !slices.Contains(watchModes(env.Arch), d.mode):
		r.segErrorf(2, codeOffset, "invalid watchpoint mode: %s", d.mode).Hint("supported modes: %s", strings.Join(watchModes(env.Arch), ","))
		return nil
	case d.mode != "x" && d.addr%d.length != 0:
		r.segErrorf(0, codeOffset, "the address %#x is not a multiple of the length %d", d.addr, d.length).Hint("processors watch aligned memory only")
		return nil
	}
	p := r.point(k, fmt.Sprintf("watchpoint:%d:%d:%s", d.addr, d.length, d.mode))
	p.Space, p.Data = types.SpaceKernel, d
	if d.pid != 0 {
		p.Space = types.SpaceUser
	}
	return []*check.Point{p}
}

func (k *watchpoint) List([]string, ListOptions, func(Listed) bool) error { return nil }

func (k *watchpoint) Hook(p *check.Point, _ *lower.Uses, _ *target.Target) *lower.Hook {
	h := &lower.Hook{Point: p, Share: "watchpoint", Type: ebpf.PerfEvent, Context: registerContext(), Data: p.Data}
	// An event of a process would watch for the one thread that gave the process its number, so each CPU watches, and the program looks
	// whether it is the process.
	if d := p.Data.(*watchPoint); d.pid != 0 && !d.children {
		h.Enter = func(g *lower.Gen) { g.LeaveUnless(g.B.CmpImm(ir.OpEq, pidOf(g), int64(d.pid))) }
	}
	return h
}

func (k *watchpoint) Links(hooks []*lower.Hook, _ bool, _ *target.Target) []*object.Attach {
	return eachHook(hooks, func(h *lower.Hook) *object.Attach {
		d := h.Data.(*watchPoint)
		length := d.length
		if d.mode == "x" {
			length = 8 // what the kernel wants for execution, sizeof(long)
		}
		return &object.Attach{
			Mechanism: object.Breakpoint, Address: d.addr, Length: length, Mode: d.mode, AllCPUs: true,
			Reason: "the processor's debug registers watch memory",
		}
	})
}
