package stdlib

import (
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// syscallKind is the entry or the return of a system call, under one name on every kernel and architecture.
type syscallKind struct{ m *Machine }

type syscallPoint struct {
	name   string // as people know it: openat
	event  string // as the kernel's events call it
	number int
	ret    bool
}

func syscallKinds(m *Machine) []KindEntry {
	return []KindEntry{{Kind: &syscallKind{m}, Aliases: []string{"sc"}, Doc: Doc{
		Group: "kernel", Summary: "a system call begins, or returns",
		Text: "`syscall:NAME` has the call's arguments in `args`; pointers are addresses of user space. `syscall:NAME:return` has the same arguments and `retval`. " +
			"Wildcards are allowed in NAME.\n\n" +
			"Flags, modes, signals, address families and the like print by name (`O_WRONLY|O_CREAT`, `PROT_READ`, `AT_FDCWD`), and are numbers to compute with. An argument that is a path or a name " +
			"stands for its text: `args.filename == \"/etc/passwd\"`, `@[args.filename]`; where a number is needed it is the address. `print(args)` shows a whole call.",
		Example: `syscall:openat { printf("%s %s %s\n", comm, args.filename, args.flags); exit(); }`, SeeAlso: []string{"tracepoint"},
	}}}
}

func (k *syscallKind) Name() string { return "syscall" }

func (k *syscallKind) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest("syscall", ap, env, diags)
	if !r.count(1, 2, "syscall:NAME") {
		return nil
	}
	isReturn := false
	if len(r.seg) == 2 {
		if r.seg[1] != "return" {
			r.segErrorf(1, codeSegments, "`%s` is no moment of a system call", r.seg[1]).Hint("write `syscall:%s` or `syscall:%s:return`", r.seg[0], r.seg[0])
			return nil
		}
		isReturn = true
	}
	tr, err := k.m.Kernel.Tracefs()
	if err != nil {
		r.errorf(codeNoMeans, "cannot read the kernel's system calls: %v", err).Hint("run as root, and mount tracefs: mount -t tracefs tracefs /sys/kernel/tracing")
		return nil
	}
	found := k.find(tr, env.Arch, r.seg[0])
	if len(found) == 0 {
		r.noMatch(0, r.seg[0], nearest(r.seg[0], func(yield func(string) bool) {
			for _, d := range k.find(tr, env.Arch, "*") {
				if !yield(d.name) {
					return
				}
			}
		}))
		return nil
	}
	points := make([]*check.Point, 0, len(found))
	for _, d := range found {
		d.ret = isReturn
		points = append(points, k.point(r, tr, d))
	}
	return points
}

// find lists the system calls that match, by name.
func (k *syscallKind) find(tr *kernel.Tracefs, arch, pattern string) []*syscallPoint {
	if !kernel.HasWildcard(pattern) {
		event := kernel.SyscallEvent(arch, pattern)
		number, ok := kernel.SyscallNumber(arch, pattern)
		if !ok || !tr.Has("syscalls", "sys_enter_"+event) {
			return nil
		}
		return []*syscallPoint{{name: pattern, event: event, number: number}}
	}
	g := kernel.CompileGlob(pattern)
	var out []*syscallPoint
	for _, event := range tr.Syscalls() {
		number, ok := kernel.SyscallNumber(arch, event)
		if !ok {
			continue
		}
		if name := kernel.SyscallName(arch, number); g.Match(name) {
			out = append(out, &syscallPoint{name: name, event: event, number: number})
		}
	}
	slices.SortFunc(out, func(a, b *syscallPoint) int { return strings.Compare(a.name, b.name) })
	return out
}

func (k *syscallKind) point(r *request, tr *kernel.Tracefs, d *syscallPoint) *check.Point {
	name := "syscall:" + d.name
	if d.ret {
		name += ":return"
	}
	p := r.point(k, name)
	p.Scope, p.Base, p.FuncName, p.Space, p.Data = name, "syscall", d.name, types.SpaceUser, d
	if d.ret {
		p.Base, p.Retval = "syscall:return", types.TInt64
	}
	p.Args = k.args(tr, r.env.Arch, d)
	return p
}

// args are the arguments of the call: the fields of its entry event that are none of the bookkeeping.
func (k *syscallKind) args(tr *kernel.Tracefs, arch string, d *syscallPoint) *types.Type {
	def := &types.StructDef{Name: "syscall_" + d.name + "_args"}
	def.Resolve = sync.OnceValue(func() []types.Field {
		ev, err := tr.Event("syscalls", "sys_enter_"+d.event)
		if err != nil {
			return nil
		}
		var out []types.Field
		for _, f := range ev.Args() {
			if f.Name == "__syscall_nr" || strings.HasPrefix(f.Name, "__") && f.Loc != kernel.InPlace {
				continue // newer kernels add copies of what pointers point to
			}
			out = append(out, types.Field{
				Name: f.Name, Type: syscallArgType(k.m.Types, arch, d.name, f), Offset: f.Offset, ArgIndex: len(out), Text: isText(d.name, f),
			})
		}
		return out
	})
	return &types.Type{Kind: types.Args, Struct: def}
}

func (k *syscallKind) List(segments []string, opts ListOptions, yield func(Listed) bool) error {
	pattern, suffix := "*", ""
	switch len(segments) {
	case 0:
	case 1:
		pattern = segments[0]
	case 2:
		if !kernel.CompileGlob(segments[1]).Match("return") {
			return nil
		}
		pattern, suffix = segments[0], ":return"
	default:
		return nil
	}
	tr, err := k.m.Kernel.Tracefs()
	if err != nil {
		return err
	}
	for _, d := range k.find(tr, k.m.Kernel.Arch(), pattern) {
		l := Listed{Name: "syscall:" + d.name + suffix}
		if opts.Verbose {
			if ev, err := tr.Event("syscalls", "sys_enter_"+d.event); err == nil {
				for _, f := range ev.Args() {
					if !strings.HasPrefix(f.Name, "__") {
						l.Args = append(l.Args, declare(f))
					}
				}
			}
			if suffix != "" {
				l.Args = append(l.Args, "long retval")
			}
		}
		if !yield(l) {
			return nil
		}
	}
	return nil
}

func (k *syscallKind) Hook(p *check.Point, u *lower.Uses, t *target.Target) *lower.Hook {
	d := p.Data.(*syscallPoint)
	h := &lower.Hook{Point: p, Data: d}
	if d.ret && u.Has("args") {
		// Only the raw tracepoint has the registers, which still hold the arguments when the call returns.
		h.Type, h.Context, h.Enter = ebpf.RawTracepoint, syscallExit{}, func(g *lower.Gen) { onlySyscall(g, d.number) }
		return h
	}
	h.Type, h.Context, h.Share = ebpf.TracePoint, lower.TraceRecord{}, p.Base
	if u.Has("args") {
		h.Share = p.Scope
	}
	if d.ret {
		h.Context = syscallResult{}
	}
	h.Cookies = t.Features.Has(target.PerfLink) && t.Features.Has(target.AttachCookie)
	return h
}

func (k *syscallKind) Links(hooks []*lower.Hook, cookies bool, _ *target.Target) []*object.Attach {
	return eachHook(hooks, func(h *lower.Hook) *object.Attach {
		d := h.Data.(*syscallPoint)
		if h.Type == ebpf.RawTracepoint {
			return &object.Attach{Mechanism: object.RawTracepoint, Target: "sys_exit", Reason: "arguments at the return are in the registers, which only the raw tracepoint has"}
		}
		a := &object.Attach{Mechanism: object.PerfTracepoint, Target: "syscalls:sys_enter_" + d.event, Reason: "the event of one system call does not slow down the others"}
		if d.ret {
			a.Target = "syscalls:sys_exit_" + d.event
		}
		if cookies {
			a.Cookie = uint64(h.Index)
		}
		return a
	})
}

// syscallResult is the record of a return event: one field.
type syscallResult struct{ lower.NoContext }

// Retval implements lower.Context.
func (syscallResult) Retval(g *lower.Gen, t *types.Type) lower.Operand {
	const retOffset = 16 // of `long ret` in every sys_exit event
	return lower.Scalar(t, g.B.Load(g.Ctx(), retOffset, 8, false))
}

// syscallExit is the context of the raw tracepoint sys_exit: the registers and the result.
type syscallExit struct{ lower.NoContext }

// syscallRegisters are the offsets in pt_regs of a system call's arguments as they are at its return, and of its number.
var syscallRegisters = map[string]struct {
	args       [6]int32
	number     int32
	numberSize int
	// A program is a 64-bit one when the register at mode, masked, is mode64.
	mode             int32
	modeMask, mode64 int64
}{
	"amd64": {[6]int32{112, 104, 96, 56, 72, 64}, 120, 8, 136, 0xffff, 0x33}, // cs is __USER_CS
	"arm64": {[6]int32{272, 8, 16, 24, 32, 40}, 280, 4, 264, 0x10, 0},        // x0 holds the result: orig_x0 is the first argument; the nRW bit of pstate
}

// Member implements lower.Context.
func (syscallExit) Member(g *lower.Gen, f types.Field) lower.Operand {
	v := readRegister(g, syscallRegisters[g.Target.Arch].args[min(f.ArgIndex, 5)], 8)
	if f.Type.Kind != types.Pointer && f.Type.Size < 8 && f.Type.Size > 0 { // the upper half of a register may hold anything
		v = g.B.Ext(v, f.Type.Size*8, f.Type.Signed)
	}
	return lower.Scalar(f.Type, v)
}

// Retval implements lower.Context.
func (syscallExit) Retval(g *lower.Gen, t *types.Type) lower.Operand {
	return lower.Scalar(t, g.B.Load(g.Ctx(), 8, 8, false))
}

func readRegister(g *lower.Gen, off int32, size int) *ir.Value {
	regs := g.Cached("syscall regs", func() *ir.Value { return g.B.Load(g.Ctx(), 0, 8, false) })
	return g.LoadScalar(lower.Place{Ptr: regs, Off: off, Size: size, Space: types.SpaceKernel}, types.IntOf(size, false))
}

// onlySyscall leaves the program unless the call that returns is the wanted one of a 64-bit program: 32-bit programs have other numbers.
func onlySyscall(g *lower.Gen, number int) {
	regs := syscallRegisters[g.Target.Arch]
	nr := readRegister(g, regs.number, regs.numberSize)
	g.LeaveUnless(g.B.CmpImm(ir.OpEq, nr, int64(number)))
	mode := readRegister(g, regs.mode, 8)
	g.LeaveUnless(g.B.CmpImm(ir.OpEq, g.B.OpImm(ir.OpAnd, mode, regs.modeMask), regs.mode64))
}
