package stdlib

import (
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
)

// mapAndKey finds the map of a call and the key, which is the second argument or, in the old form, in the first.
func mapAndKey(g *lower.Gen, c *check.Call) (*lower.Map, []ast.Expr) {
	m, keys := g.MapArg(c, 0)
	if m != nil && keys == nil && len(c.Args) > 1 {
		keys = c.Args[1:2]
	}
	return m, keys
}

func lowerDelete(g *lower.Gen, c *check.Call) lower.Operand {
	unused := g.Unused()
	m, keys := mapAndKey(g, c)
	rc := g.Delete(m, keys)
	if unused {
		g.DeleteError(rc)
		return lower.Operand{}
	}
	return lower.Scalar(g.Type(c.Node), g.B.CmpImm(ir.OpEq, rc, 0))
}

func lowerHasKey(g *lower.Gen, c *check.Call) lower.Operand {
	m, keys := mapAndKey(g, c)
	p := g.Lookup(m, g.Key(m, keys))
	return lower.Scalar(g.Type(c.Node), g.B.CmpImm(ir.OpNe, p, 0))
}

// lowerFind looks a key up once: whether it is there, and its value for the variable.
func lowerFind(g *lower.Gen, c *check.Call) lower.Operand {
	m, keys := g.MapArg(c, 0)
	if keys == nil {
		keys = c.Args[1:2]
	}
	v := g.Body.Vars[c.Args[2].(*ast.Var)]
	key := g.Key(m, keys)
	found := g.B.NewVar("found", ir.I64)
	g.B.Set(found, g.B.Const(0))
	if m.IsAggregation() {
		g.B.If(g.B.CmpImm(ir.OpNe, g.Lookup(m, key), 0), func() {
			g.WriteVar(v, g.MapValue(m, key, v.Type))
			g.B.Set(found, g.B.Const(1))
		}, nil)
		return lower.Scalar(g.Type(c.Node), g.B.Get(found))
	}
	g.DeclareVar(v)
	g.B.IfNonNil(g.Lookup(m, key), func(p *ir.Value) {
		g.WriteVar(v, g.Load(lower.Place{Ptr: p, Size: m.Value.Size}, m.Value))
		g.B.Set(found, g.B.Const(1))
	}, nil)
	return lower.Scalar(g.Type(c.Node), g.B.Get(found))
}

func lowerLen(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	if ref, ok := c.Args[0].(*ast.MapRef); ok && (c.Type(0) == nil || !c.Type(0).IsStack()) {
		return lower.Scalar(t, g.Len(c.Node, g.Map(ref.Name)))
	}
	return lower.Scalar(t, g.StackLen(g.Scalar(c.Args[0])))
}
