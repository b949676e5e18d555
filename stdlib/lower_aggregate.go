package stdlib

import (
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// Aggregations: the value is evaluated first, then this CPU's copy is changed in place.

func lowerCount(g *lower.Gen, _ *check.Call) lower.Operand {
	g.Aggregate(nil, nil, func(s lower.Slot, _ []*ir.Value) { s.Add(0, g.B.Const(1)) })
	return lower.Operand{}
}

// aggValue evaluates the first argument as a 64-bit value.
func aggValue(g *lower.Gen, c *check.Call) *ir.Value { return g.Scalar(c.Args[0]) }

func lowerSum(g *lower.Gen, c *check.Call) lower.Operand {
	v := aggValue(g, c)
	g.Aggregate([]*ir.Value{v}, nil, func(s lower.Slot, args []*ir.Value) { s.Add(0, args[0]) })
	return lower.Operand{}
}

// lowerAvg serves avg and stats: total, count.
func lowerAvg(g *lower.Gen, c *check.Call) lower.Operand {
	v := aggValue(g, c)
	g.Aggregate([]*ir.Value{v}, nil, func(s lower.Slot, args []*ir.Value) {
		s.Add(0, args[0])
		s.Add(1, g.B.Const(1))
	})
	return lower.Operand{}
}

func lowerMinMax(g *lower.Gen, c *check.Call) lower.Operand {
	v := aggValue(g, c)
	t := aggType(g, c)
	g.Aggregate([]*ir.Value{v}, nil, func(s lower.Slot, args []*ir.Value) { s.MinMax(t, args[0]) })
	return lower.Operand{}
}

// aggType is the type of the map's value, which knows the sign of all the values together.
func aggType(g *lower.Gen, c *check.Call) *types.Type {
	if t := g.AggregateType(); t != nil {
		return t
	}
	return g.Type(c.Node)
}

func lowerHist(g *lower.Gen, c *check.Call) lower.Operand {
	v := aggValue(g, c)
	t := aggType(g, c)
	g.Aggregate([]*ir.Value{v}, func(args []*ir.Value) []*ir.Value {
		return []*ir.Value{g.HistIndex(args[0], t.Bits)}
	}, addToBucket(g))
	return lower.Operand{}
}

// addToBucket counts in the word that is the argument.
func addToBucket(g *lower.Gen) func(s lower.Slot, args []*ir.Value) {
	return func(s lower.Slot, args []*ir.Value) { s.AddAt(args[0], g.B.Const(1)) }
}

func lowerLHist(g *lower.Gen, c *check.Call) lower.Operand {
	v := aggValue(g, c)
	t := aggType(g, c)
	g.Aggregate([]*ir.Value{v}, func(args []*ir.Value) []*ir.Value {
		return []*ir.Value{g.LHistIndex(args[0], t)}
	}, addToBucket(g))
	return lower.Operand{}
}

// lowerTSeries updates the interval that the current time falls in: {epoch, value, aux}, see codegen/object.
func lowerTSeries(g *lower.Gen, c *check.Call) lower.Operand {
	v := aggValue(g, c)
	t := aggType(g, c)
	g.Aggregate([]*ir.Value{v}, func(args []*ir.Value) []*ir.Value {
		now := g.B.Add(nanoseconds(g), g.TAIOffset()) // so that intervals start at whole seconds of the day
		number := g.B.OpImm(ir.OpUDiv, now, max(t.IntervalNS, 1))
		return []*ir.Value{args[0], now, g.B.OpImm(ir.OpUMod, number, int64(max(t.Buckets, 1))), g.B.AddImm(number, 1)}
	}, func(s lower.Slot, args []*ir.Value) {
		v, now, bucket, epoch := args[0], args[1], args[2], args[3]
		e := s.Element(bucket, 24)
		g.B.If(g.B.Cmp(ir.OpNe, e.Word(0), epoch), func() {
			e.Set(0, epoch)
			e.Set(1, g.B.Const(0))
			e.Set(2, g.B.Const(0))
		}, nil)
		switch t.Agg {
		case types.Avg:
			e.Add(1, v)
			e.Add(2, g.B.Const(1))
		case types.Sum:
			e.Add(1, v)
		case types.Min, types.Max:
			mm := *t
			mm.Kind = t.Agg
			e.From(1).MinMax(&mm, v)
		default:
			e.Set(1, v)
			e.Set(2, now)
		}
	})
	return lower.Operand{}
}
