package stdlib

import (
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// nanoseconds reads the clock that counts time in suspend too, or the monotonic one where the kernel has only that.
func nanoseconds(g *lower.Gen) *ir.Value {
	if g.Target.Features.Has(target.BootNS) {
		return g.B.Helper(asm.FnKtimeGetBootNs)
	}
	return g.B.Helper(asm.FnKtimeGetNs)
}

func elapsed(g *lower.Gen) *ir.Value { return g.B.Sub(nanoseconds(g), g.StartNS()) }

// lowerNsecs lowers nsecs(mode).
func lowerNsecs(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	mode, _ := c.Str(0)
	switch mode {
	case "monotonic":
		return lower.Scalar(t, g.B.Helper(asm.FnKtimeGetNs))
	case "tai":
		if !g.Target.Features.Has(target.TaiNS) {
			g.Errorf("E0723", c.Node, "the kernel has no `nsecs(tai)`").Hint("use `nsecs(sw_tai)`")
			return g.ZeroOf(t)
		}
		return lower.Scalar(t, g.B.Helper(asm.FnKtimeGetTaiNs))
	case "sw_tai":
		// What the runtime measured at the start: TAI minus the clock that we can read.
		return lower.Scalar(t, g.B.Add(nanoseconds(g), g.TAIOffset()))
	}
	return lower.Scalar(t, nanoseconds(g))
}

// lowerStrftime keeps the time; the text is made when it is printed.
func lowerStrftime(g *lower.Gen, c *check.Call) lower.Operand {
	return lateText(g, c, g.ScalarAs(c.Args[1], types.TUint64))
}
