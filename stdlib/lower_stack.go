package stdlib

import (
	"slices"
	"strings"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

func lowerStackVar(user bool) lower.VarFunc {
	return func(g *lower.Gen, u *check.VarUse) lower.Operand {
		t := g.Type(u.Node)
		return lower.Scalar(t, g.Stack(user, t.Frames))
	}
}

func lowerStackCall(user bool) lower.Func {
	return func(g *lower.Gen, c *check.Call) lower.Operand {
		t := g.Type(c.Node)
		return lower.Scalar(t, g.Stack(user, t.Frames))
	}
}

func lowerUnwoundCall(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	return lower.Scalar(t, g.UnwoundStack(c.Node, t.Frames))
}

// lowerScalarOf passes the first argument on as a value that user space renders (ksym, strerror, signal_name, syscall_name), or under another
// type (kptr, uptr).
func lowerScalarOf(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	o := g.Expr(c.Args[0])
	if !t.IsScalar() {
		o.Type = t
		o.P.Space = t.Space
		return o
	}
	if o.V == nil {
		return lower.Scalar(t, g.ToInt(o))
	}
	if t.Kind == types.Pointer || o.Type.Kind == types.Pointer {
		return lower.Scalar(t, g.ToInt(o))
	}
	return lower.Scalar(t, g.ToInt(g.Convert(o, wide(o.Type))))
}

func wide(t *types.Type) *types.Type { return types.IntOf(8, t.Signed) }

// lowerUSym keeps the address with the process, in which it means something.
func lowerUSym(g *lower.Gen, c *check.Call) lower.Operand {
	addr := g.Scalar(c.Args[0])
	t := g.Type(c.Node)
	p := g.Dest(t)
	g.B.Store(p.Ptr, int(p.Off), 8, addr)
	g.B.Store(p.Ptr, int(p.Off)+8, 8, pidOf(g))
	return lower.Operand{Type: t, P: p}
}

func registerList(arch string) string {
	names := lower.RegisterNames(arch)
	slices.Sort(names)
	return strings.Join(names, ", ")
}
