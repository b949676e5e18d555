package stdlib

import (
	encoding "encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// Tracepoints are attached by the cheapest way that means the same (measured with an empty program, ns per event): a perf event 33 to 42, a raw
// or BTF tracepoint 17 to 22. A raw program on all system calls makes every call pay 22 ns, so it is only taken where the script names many
// of them; a perf event on one call costs the others 8. Raw tracepoints also detach in 0.2 ms instead of 65.
//
// Target.LiteralAttach switches all of this off.

// manySyscalls is from how many system calls of one pattern on one program sees them all.
const manySyscalls = 16

// rawFields are members of args that are arguments of the raw tracepoint as they are, by event: the index of the argument.
var rawFields = map[string]map[string]int{
	"raw_syscalls:sys_enter": {"id": 1},
	"raw_syscalls:sys_exit":  {"ret": 1},
}

// isTracepoint tells whether the events of a category are tracepoints of the same name.
func isTracepoint(category string) bool {
	switch category {
	case "syscalls", "ftrace", "kprobes", "uprobes", "eprobes", "fprobes", "synthetic", "probe":
		return false
	}
	return true
}

// lowerTracepoint gives a cheaper hook for a trace event, nil when there is none that means the same.
func lowerTracepoint(p *check.Point, d *tracepointPoint, u *lower.Uses, t *target.Target) *lower.Hook {
	if t.LiteralAttach || u.WholeArgs || u.Has("kstack") { // the innermost frames of the kernel's stack would differ
		return nil
	}
	if d.group != nil && !u.Has("args") && t.Features.Has(target.TPBTF) {
		return syscallsHook(p, d)
	}
	if !isTracepoint(d.category) || u.Has("probe", "func") {
		return nil
	}
	fields := rawFields[d.category+":"+d.name]
	for f := range u.Fields {
		if _, ok := fields[f]; !ok {
			return nil
		}
	}
	if !d.raw() {
		return nil
	}
	h := &lower.Hook{Point: p, Share: "raw " + p.Base, Type: ebpf.RawTracepoint, Context: rawEvent{fields: fields}, Data: d}
	if u.Has("args") {
		h.Share = "raw " + p.Scope
	}
	return h
}

// rawEvent reads the members of a trace event that the raw tracepoint has as arguments.
type rawEvent struct {
	lower.NoContext
	fields map[string]int
}

// Member implements lower.Context.
func (c rawEvent) Member(g *lower.Gen, f types.Field) lower.Operand {
	v := g.B.Load(g.Ctx(), 8*c.fields[f.Name], 8, false)
	if f.Type.Size < 8 {
		v = g.B.Ext(v, f.Type.Size*8, f.Type.Signed)
	}
	return lower.Scalar(f.Type, v)
}

// syscallGroup are the system calls that one pattern named, in one direction.
type syscallGroup struct {
	exit    bool
	numbers map[string]int // by event
}

func (s *syscallGroup) tracepoint() string {
	if s.exit {
		return "sys_exit"
	}
	return "sys_enter"
}

// syscallsHook is one program on all system calls.
func syscallsHook(p *check.Point, d *tracepointPoint) *lower.Hook {
	return &lower.Hook{
		Point: p, Share: "all " + d.group.tracepoint(), Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: d.group.tracepoint(),
		Context: lower.NoContext{}, Data: d, Enter: enterSyscalls, Which: whichSyscall,
	}
}

// syscallTableSize is above every number of a system call; numbers of x32 programs, which have a bit set far above, are none.
const syscallTableSize = 512

// enterSyscalls leaves the program unless the call is one of its points, and one of a 64-bit program: 32-bit programs have other numbers.
func enterSyscalls(g *lower.Gen) {
	entry := syscallEntry(g)
	g.LeaveUnless(entry)
}

// whichSyscall gives the point of the call.
func whichSyscall(g *lower.Gen, _ []*lower.Hook) *ir.Value { return g.B.AddImm(syscallEntry(g), -1) }

// syscallEntry gives 1 + the index of the call's point, 0 when it has none.
func syscallEntry(g *lower.Gen) *ir.Value {
	return g.Cached("syscall entry", func() *ir.Value {
		table := syscallTable(g)
		regs := syscallRegisters[g.Target.Arch]
		reg := g.B.LoadPtr(g.Ctx(), 0, ir.BTF)
		var nr *ir.Value
		if g.Hook.Data.(*tracepointPoint).group.exit {
			nr = g.B.Load(reg, int(regs.number), regs.numberSize, false)
		} else {
			nr = g.B.Load(g.Ctx(), 8, 8, false)
		}
		v := g.B.NewVar("entry", ir.I64)
		g.B.Set(v, g.B.Const(0))
		g.B.If(g.B.CmpImm(ir.OpULt, nr, syscallTableSize), func() {
			mode := g.B.Load(reg, int(regs.mode), 8, false)
			g.B.If(g.B.CmpImm(ir.OpEq, g.B.OpImm(ir.OpAnd, mode, regs.modeMask), regs.mode64), func() {
				at := g.B.PtrAdd(g.B.MapValAddr(table, 0), g.B.OpImm(ir.OpShl, g.B.Bound(nr, syscallTableSize-1), 2))
				g.B.Set(v, g.B.Load(at, 0, 4, false))
			}, nil)
		}, nil)
		return g.B.Get(v)
	})
}

// syscallTable makes the table from the number of a call to 1 + the index of its point.
func syscallTable(g *lower.Gen) string {
	hooks := g.Hooks()
	name := fmt.Sprintf("sys%d", hooks[0].Index)
	contents := make([]byte, 4*syscallTableSize)
	for _, h := range hooks {
		d := h.Data.(*tracepointPoint)
		if n := d.group.numbers[d.name]; n < syscallTableSize {
			encoding.NativeEndian.PutUint32(contents[4*n:], uint32(h.Index)+1)
		}
	}
	g.Unit().Internal(&object.Map{Name: name, Role: object.MapConst, Type: ebpf.Array, KeySize: 4, ValueSize: len(contents), MaxEntries: 1, Contents: contents})
	return name
}
