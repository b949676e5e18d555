package stdlib

import (
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// scalarVar makes a variable from a function that gives its 64 bits.
func scalarVar(f func(g *lower.Gen) *ir.Value) lower.VarFunc {
	return func(g *lower.Gen, u *check.VarUse) lower.Operand {
		t := g.Type(u.Node)
		return g.Convert(lower.Scalar(types.TUint64, f(g)), t)
	}
}

func helperValue(fn asm.BuiltinFunc) func(g *lower.Gen) *ir.Value {
	return func(g *lower.Gen) *ir.Value { return g.B.Helper(fn) }
}

// cachedHelper is a helper whose result stays the same during a run.
func cachedHelper(key string, fn asm.BuiltinFunc) func(g *lower.Gen) *ir.Value {
	return func(g *lower.Gen) *ir.Value {
		return g.Cached(key, func() *ir.Value { return g.B.Helper(fn) })
	}
}

// hostPID and hostTID are numbers of the initial pid namespace.
func hostPID(g *lower.Gen) *ir.Value {
	if v := taskNumber(g, "tgid"); v != nil {
		return v
	}
	return g.B.OpImm(ir.OpLShr, g.PIDTGID(), 32)
}

func hostTID(g *lower.Gen) *ir.Value {
	if v := taskNumber(g, "pid"); v != nil {
		return v
	}
	return g.B.Ext(g.PIDTGID(), 32, false)
}

// taskNumber reads a 32-bit number from the current task; nil when that needs a helper. The address of the task is one instruction where the
// kernel puts it in place of the call (Linux 6.10, x86-64), so that pid costs a load; the helper for it is a call of a dozen instructions.
func taskNumber(g *lower.Gen, member string) *ir.Value {
	if !g.Target.Features.Has(target.TaskBTF) {
		return nil
	}
	if t := g.Target.Types; t == nil || t.StructType("task_struct") == nil {
		return nil
	} else if f, ok := t.StructType("task_struct").Struct.Field(member); !ok || f.BitSize > 0 || f.Type.Size != 4 {
		return nil
	}
	return g.Cached("task."+member, func() *ir.Value {
		o, _ := g.TaskMember(member)
		return g.B.Ext(o.V, 32, false)
	})
}

// pidOf gives the process, tidOf the thread, as the tool's own pid namespace sees them.
func pidOf(g *lower.Gen) *ir.Value { return g.B.OpImm(ir.OpLShr, g.OwnPIDTGID(), 32) }

func tidOf(g *lower.Gen) *ir.Value { return g.B.Ext(g.OwnPIDTGID(), 32, false) }

// lowerPIDCall lowers pid() and tid() with their mode.
func lowerPIDCall(own, host func(*lower.Gen) *ir.Value) lower.Func {
	return func(g *lower.Gen, c *check.Call) lower.Operand {
		f := own
		if mode, _ := c.Str(0); mode == "init" {
			f = host
		}
		return g.Convert(lower.Scalar(types.TUint64, f(g)), g.Type(c.Node))
	}
}

func uidGID(g *lower.Gen) *ir.Value {
	return g.Cached("uid_gid", func() *ir.Value { return g.B.Helper(asm.FnGetCurrentUidGid) })
}

func uidOf(g *lower.Gen) *ir.Value { return g.B.Ext(uidGID(g), 32, false) }

func gidOf(g *lower.Gen) *ir.Value { return g.B.OpImm(ir.OpLShr, uidGID(g), 32) }

// commSize is TASK_COMM_LEN.
const commSize = 16

// comm gives the current thread's name: its place in the task, which costs nothing until it is read, or a copy by the helper.
func comm(g *lower.Gen) lower.Operand {
	t := types.StringOf(commSize)
	if g.Target.Features.Has(target.TaskBTF) {
		if o, ok := g.TaskMember("comm"); ok && o.P.Ptr != nil && o.P.Size == commSize {
			return lower.Operand{Type: t, P: o.P}
		}
	}
	p := g.Dest(t)
	g.B.Helper(asm.FnGetCurrentComm, g.Pointer(p), g.B.Const(commSize))
	return lower.Operand{Type: t, P: p}
}

func lowerComm(g *lower.Gen, _ *check.VarUse) lower.Operand { return comm(g) }

// lowerCommCall looks a process up and copies its name before it lets the process go.
func lowerCommCall(g *lower.Gen, c *check.Call) lower.Operand {
	pid := g.ScalarAs(c.Args[0], types.TInt32)
	t := types.StringOf(commSize)
	dst := g.Dest(t)
	dst.Size = commSize
	g.B.Zero(dst.Ptr, int(dst.Off), commSize)
	task := g.Target.Types.StructType("task_struct")
	if task == nil {
		return lower.Operand{Type: t, P: dst}
	}
	name, ok := task.Struct.Field("comm")
	if !ok || name.Type.Size != commSize {
		return lower.Operand{Type: t, P: dst}
	}
	g.B.IfNonNil(g.B.Kfunc(ir.BTFNil, taskFromPID, pid), func(p *ir.Value) {
		g.ReadMem(dst, lower.Place{Ptr: p, Off: int32(name.Offset), Size: commSize, Space: types.SpaceKernel, Base: task.Struct})
		g.B.Kfunc(ir.Void, taskRelease, p)
	}, nil)
	return lower.Operand{Type: t, P: dst}
}

// taskChain reads members of the current task, or of the task that a call gets.
func taskChain(g *lower.Gen, c *check.Call, names ...string) (lower.Operand, bool) {
	if c != nil && len(c.Args) > 0 {
		return g.Follow(g.Expr(c.Args[0]), names...)
	}
	o, ok := g.TaskMember(names[0])
	if !ok {
		return o, false
	}
	return g.Follow(o, names[1:]...)
}

// taskScalar makes a builtin from a chain of members of the task.
func taskScalar(g *lower.Gen, c *check.Call, t *types.Type, names ...string) lower.Operand {
	o, ok := taskChain(g, c, names...)
	if !ok {
		if c != nil {
			g.Errorf("E0721", c.Node, "the kernel's types have no `task_struct` with `%s`", names[len(names)-1])
		}
		return g.ZeroOf(t)
	}
	return g.Convert(o, t)
}

func lowerPPID(g *lower.Gen, u *check.VarUse) lower.Operand {
	return taskScalar(g, nil, g.Type(u.Node), "real_parent", "tgid")
}

func lowerPPIDCall(g *lower.Gen, c *check.Call) lower.Operand {
	return taskScalar(g, c, g.Type(c.Node), "real_parent", "tgid")
}

// taskName gives the name of a task that a chain of members leads to.
func taskName(g *lower.Gen, c *check.Call, names ...string) lower.Operand {
	o, ok := taskChain(g, c, names...)
	t := types.StringOf(commSize)
	if !ok {
		return g.ZeroOf(t)
	}
	return lower.Operand{Type: t, P: o.P}
}

// nameOf makes the variable that is the name of a relative of the current task, nameOfCall the function of a task.
func nameOf(relative string) lower.VarFunc {
	return func(g *lower.Gen, _ *check.VarUse) lower.Operand { return taskName(g, nil, relative, "comm") }
}

func nameOfCall(relative string) lower.Func {
	return func(g *lower.Gen, c *check.Call) lower.Operand { return taskName(g, c, relative, "comm") }
}

func lowerLeaderTID(g *lower.Gen, u *check.VarUse) lower.Operand {
	return taskScalar(g, nil, g.Type(u.Node), "group_leader", "pid")
}

func lowerLeaderTIDCall(g *lower.Gen, c *check.Call) lower.Operand {
	return taskScalar(g, c, g.Type(c.Node), "group_leader", "pid")
}

func lowerCurtask(g *lower.Gen, u *check.VarUse) lower.Operand {
	return curtask(g, g.Type(u.Node))
}

func curtask(g *lower.Gen, t *types.Type) lower.Operand {
	if t.Kind == types.Pointer {
		if v, _ := g.Task(); v != nil {
			return lower.Operand{Type: t, V: v}
		}
	}
	return lower.Scalar(t, g.Cached("rawtask", func() *ir.Value { return g.B.Helper(asm.FnGetCurrentTask) }))
}

// userMode tells from the saved registers whether the CPU ran user code.
func userMode(g *lower.Gen) *ir.Value {
	reg, mask, want := "cs", int64(3), int64(3)
	if g.Target.Arch == "arm64" {
		reg, mask, want = "pstate", 0xf, 0 // EL0
	}
	v, ok := g.Hook.Context.Reg(g, reg)
	if !ok {
		if r := g.Hook.Role; r == object.RoleBegin || r == object.RoleEnd { // they run on behalf of this program
			return g.B.Const(1)
		}
		return g.B.Const(0)
	}
	return g.B.CmpImm(ir.OpEq, g.B.OpImm(ir.OpAnd, v, mask), want)
}

func lowerArgs(g *lower.Gen, u *check.VarUse) lower.Operand {
	t := g.Type(u.Node)
	if p, ok := g.Hook.Context.Record(g); ok {
		return lower.Operand{Type: t, P: p}
	}
	return g.BuildArgs(t)
}

func lowerArgN(g *lower.Gen, u *check.VarUse) lower.Operand {
	return g.Hook.Context.Arg(g, u.Index, g.Type(u.Node))
}

// lowerStackArg reads a word behind the return address.
func lowerStackArg(g *lower.Gen, u *check.VarUse) lower.Operand {
	sp, _ := g.Hook.Context.Reg(g, "sp")
	return lower.Scalar(g.Type(u.Node), g.StackWord(sp, int(u.Node.Name[len("sarg")]-'0')))
}

func lowerRetval(g *lower.Gen, u *check.VarUse) lower.Operand {
	return g.Hook.Context.Retval(g, g.Type(u.Node))
}

func lowerReg(g *lower.Gen, c *check.Call) lower.Operand {
	name, _ := c.Str(0)
	v, ok := g.Hook.Context.Reg(g, name)
	if !ok {
		g.Errorf("E0722", c.Args[0], "`%s` is no register of %s in this probe", name, g.Target.Arch).
			Hint("use one of %s", registerList(g.Target.Arch))
		v = g.B.Const(0)
	}
	return lower.Scalar(g.Type(c.Node), v)
}

func probeIndex(g *lower.Gen) *ir.Value { return g.PointIndex() }

func funcValue(g *lower.Gen) *ir.Value { return g.FuncValue() }

// lowerCgroupPath keeps the id; the path is looked up when it is printed.
func lowerCgroupPath(g *lower.Gen, c *check.Call) lower.Operand {
	return lateText(g, c, g.ScalarAs(c.Args[0], types.TUint64))
}

// lateText is a text that is made of a number when it is printed: the number lies in its first word.
func lateText(g *lower.Gen, c *check.Call, n *ir.Value) lower.Operand {
	t := g.Type(c.Node)
	p := g.Dest(t)
	g.B.Store(p.Ptr, int(p.Off), 8, n)
	if t.Size > 8 {
		g.B.Zero(p.Ptr, int(p.Off)+8, t.Size-8)
	}
	return lower.Operand{Type: t, P: p}
}
