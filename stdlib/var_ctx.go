package stdlib

import (
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// ctxStructs are the structs that `ctx` points to: the registers where a function was hit, and those beside the count of a perf event.
var ctxStructs = map[string]string{
	"kprobe": lower.FunctionContext, "kretprobe": lower.FunctionContext, "uprobe": lower.FunctionContext, "uretprobe": lower.FunctionContext,
	"usdt": lower.FunctionContext, "profile": lower.PerfContext, "interval": lower.PerfContext, "software": lower.PerfContext,
	"hardware": lower.PerfContext, "watchpoint": lower.PerfContext,
}

func ctxType(u *check.VarUse) *types.Type {
	for _, p := range u.Body.Points {
		switch kind := p.Kind.Name(); {
		case kind == "iter" && p.Args != nil:
			return p.Args
		case ctxStructs[kind] == "":
			return unavailable(u, p, ctxHint(p))
		}
	}
	return types.PointerTo(lower.ContextStruct(u.Env.Types, u.Env.Arch, ctxStructs[u.Body.Points[0].Kind.Name()]), types.SpaceKernel, types.ProvCtx)
}

// ctxHint says what has the values in a probe without `ctx`.
func ctxHint(p *check.Point) string {
	switch {
	case p.Args != nil:
		return "use `args`, whose members have names and types"
	case p.NumArgs >= 0 && p.Kind.Name() == "rawtracepoint":
		return "use `arg0`, `arg1` ..."
	}
	return "this program is given nothing by the kernel"
}

// lowerCtx gives the context of iterators as its members are, that of others as the pointer that it is.
func lowerCtx(g *lower.Gen, u *check.VarUse) lower.Operand {
	t := g.Type(u.Node)
	if t.Kind == types.Args {
		return lowerArgs(g, u)
	}
	return lower.Operand{Type: t, V: g.Ctx()}
}
