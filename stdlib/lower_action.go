package stdlib

import (
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// What changes the system is counted, each kind for itself, when it was done; with --dry-run-actions it is counted and not done.

// acted counts an action whose helper gave rc: a refused one is no action.
func acted(g *lower.Gen, rc *ir.Value, counter int, helper string) {
	g.B.If(g.B.CmpImm(ir.OpEq, rc, 0), func() { g.Count(counter) }, nil)
	g.HelperError(rc, helper)
}

// lowerSignal sends a signal to the current process or thread.
func lowerSignal(fn asm.BuiltinFunc, name string, counter int) lower.Func {
	return func(g *lower.Gen, c *check.Call) lower.Operand {
		var sig *ir.Value
		if s, ok := c.Str(0); ok {
			n, known := kernel.SignalNumber(s)
			if !known {
				g.Errorf("E0720", c.Args[0], "unknown signal `%s`", s).Hint("use a name such as `SIGTERM`, or its number")
			}
			sig = g.B.Const(int64(n))
		} else {
			sig = g.ScalarAs(c.Args[0], types.TUint32)
		}
		if g.Unit().Opts.DryActions {
			g.Count(counter)
			return lower.Operand{}
		}
		acted(g, g.B.Helper(fn, sig), counter, name)
		return lower.Operand{}
	}
}

// lowerOverride sets the return value of the probed function, which does not run.
func lowerOverride(g *lower.Gen, c *check.Call) lower.Operand {
	if !g.Target.Features.Has(target.OverrideReturn) {
		g.Errorf("E0701", c.Node, "this kernel cannot override what a function returns").
			Hint("use a kernel that is built with CONFIG_BPF_KPROBE_OVERRIDE; to refuse operations, see `deny()` in `lsm` probes")
	}
	v := g.ScalarAs(c.Args[0], types.TUint64)
	if !g.Unit().Opts.DryActions {
		g.B.Helper(asm.FnOverrideReturn, g.Ctx(), v)
	}
	g.Count(object.CounterOverride)
	return lower.Operand{}
}

// lowerDeny makes the hook refuse. What the program returns last counts, so a later deny() in the same or another clause sets another error
// number; nothing lifts a denial.
func lowerDeny(g *lower.Gen, c *check.Call) lower.Operand {
	errno, _ := denyErrno(c)
	if !g.Unit().Opts.DryActions {
		g.SetReturn(g.B.Const(-errno))
	}
	g.Count(object.CounterDeny)
	return lower.Operand{}
}

// lowerWriteUser writes bytes to the memory of the current process, from a copy of them: the helper takes memory of the program only.
func lowerWriteUser(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	addr := g.Scalar(c.Args[0])
	from := g.Expr(c.Args[1])
	if g.Unit().Opts.DryActions {
		g.Count(object.CounterWriteUser)
		return g.ZeroOf(t)
	}
	size := maxStrlen(g)
	var n *ir.Value
	if k, ok := c.Int(2); ok && k > 0 {
		size = int(min(k, int64(size)))
		n = g.B.Const(int64(size))
	} else {
		n = g.B.Bound(g.ScalarAs(c.Args[2], types.TUint64), int64(size))
	}
	src := addressOf(g, from, size)
	p := g.Temp("user", size)
	p.Size = size
	if n.Op == ir.OpConst {
		g.ReadMem(p, src.At(0, size))
	} else {
		g.ReadDyn(p, n, src)
	}
	rc := g.B.Helper(asm.FnProbeWriteUser, addr, g.Pointer(p), n)
	acted(g, rc, object.CounterWriteUser, "probe_write_user")
	return lower.Scalar(t, g.B.CmpImm(ir.OpEq, rc, 0))
}
