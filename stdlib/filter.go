package stdlib

import (
	encoding "encoding/binary"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// Filter says which tasks a script sees, on the command line and for every kind of probe. Programs test it before anything else.
type Filter struct {
	// Cgroup is the control group that a task must be in, or in one below it; nil for all.
	Cgroup *kernel.Cgroup
	// Comm is the name of the thread, with a `*` at its end the start of it; "" for all.
	Comm string
	// Ancestor is a process that a task must belong to or descend from, as the initial pid namespace counts; 0 for all.
	Ancestor int
	// Ancestors makes the test of cgroups by one helper; see kernel.Cgroup.Members.
	Ancestors bool
}

// Empty reports whether the filter lets everything through.
func (f *Filter) Empty() bool { return f.Cgroup == nil && f.Comm == "" && f.Ancestor == 0 }

// maxGenerations is how far up a process looks for its ancestor.
const maxGenerations = 32

// Check reports what the filter cannot do.
func (f *Filter) Check() error {
	if n := len(f.Comm); n > commSize {
		return fmt.Errorf("`%s` is longer than the %d characters that the kernel keeps of a name", f.Comm, commSize-1)
	}
	return nil
}

// Lower emits the test. Programs that belong to no task (interval) or look at others (iter) are not filtered, nor those that sonde runs itself.
func (f *Filter) Lower(g *lower.Gen) {
	h := g.Hook
	if h.Role != object.RoleProbe || h.Seldom || h.AttachType == ebpf.AttachTraceIter || h.Point.Kind.Name() == "interval" {
		return
	}
	if f.Cgroup != nil {
		g.LeaveUnless(f.inCgroup(g))
	}
	if f.Comm != "" {
		f.comm(g)
	}
	if f.Ancestor != 0 {
		g.LeaveUnless(f.descends(g))
	}
}

// inCgroup compares the ancestor on the wanted level, or, on kernels without that helper, the group itself with all that were below the
// wanted one when the script was compiled.
func (f *Filter) inCgroup(g *lower.Gen) *ir.Value {
	c := f.Cgroup
	if f.Ancestors && c.Level >= 0 {
		id := g.B.Helper(asm.FnGetCurrentAncestorCgroupId, g.B.Const(int64(c.Level)))
		return g.B.Cmp(ir.OpEq, id, g.B.Const(int64(c.ID)))
	}
	id := g.B.Helper(asm.FnGetCurrentCgroupId)
	in := g.B.Cmp(ir.OpEq, id, g.B.Const(int64(c.ID)))
	for _, m := range c.Members {
		if m != c.ID {
			in = g.B.Or(in, g.B.Cmp(ir.OpEq, id, g.B.Const(int64(m))))
		}
	}
	return in
}

// comm compares the two words of the name. The helper of some kernels leaves what is behind the name as it was, so that is zero.
func (f *Filter) comm(g *lower.Gen) {
	name, isPrefix := strings.CutSuffix(f.Comm, "*")
	p := g.Temp("comm", commSize)
	g.B.Zero(p.Ptr, 0, commSize)
	g.B.Helper(asm.FnGetCurrentComm, p.Ptr, g.B.Const(commSize))
	var want, mask [commSize]byte
	for i := range mask {
		if !isPrefix || i < len(name) {
			mask[i] = 0xff
		}
	}
	copy(want[:commSize-1], name)
	for off := 0; off < commSize; off += 8 {
		m := int64(encoding.LittleEndian.Uint64(mask[off:]))
		if m == 0 {
			break
		}
		w := g.B.Op2(ir.OpAnd, g.B.Load(p.Ptr, off, 8, false), g.B.Const(m))
		g.LeaveUnless(g.B.Cmp(ir.OpEq, w, g.B.Const(int64(encoding.LittleEndian.Uint64(want[off:]))&m)))
	}
}

// descends walks up the parents. A process whose parent has ended is a child of init, or of the nearest reaper, from then on.
func (f *Filter) descends(g *lower.Gen) *ir.Value {
	found := g.B.NewVar("found", ir.I64)
	g.B.Set(found, g.B.Const(0))
	var task *types.StructDef
	if t := g.Target.Types.StructType("task_struct"); t != nil {
		task = t.Struct
	}
	if task == nil {
		return g.B.CmpImm(ir.OpEq, g.B.OpImm(ir.OpLShr, g.PIDTGID(), 32), int64(f.Ancestor))
	}
	tgid, _ := task.Field("tgid")
	parent, _ := task.Field("real_parent")
	at := g.B.NewVar("task", ir.I64)
	g.B.Set(at, g.B.Helper(asm.FnGetCurrentTask))
	member := func(off, size int) *ir.Value {
		return g.LoadScalar(lower.Place{Ptr: g.B.Get(at), Off: int32(off), Size: size, Space: types.SpaceKernel}, types.IntOf(size, false))
	}
	g.B.For(g.B.Const(0), g.B.Const(maxGenerations), func(_ *ir.Value, l *ir.Loop) {
		pid := member(tgid.Offset, 4)
		other, more, hit := g.B.NewBlock("other"), g.B.NewBlock("parent"), g.B.NewBlock("found")
		g.B.Branch(ir.OpEq, pid, g.B.Const(int64(f.Ancestor)), hit, other)
		g.B.Seal(hit)
		g.B.SetBlock(hit)
		g.B.Set(found, g.B.Const(1))
		g.B.Jump(l.Break)
		g.B.Seal(other)
		g.B.SetBlock(other)
		g.B.Branch(ir.OpULe, pid, g.B.Const(1), l.Break, more)
		g.B.Seal(more)
		g.B.SetBlock(more)
		g.B.Set(at, member(parent.Offset, 8))
	})
	return g.B.Get(found)
}
