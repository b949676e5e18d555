package stdlib

import (
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// lowerFormatted serves all that take a format and arguments.
func lowerFormatted(kind object.EventKind) lower.Func {
	return func(g *lower.Gen, c *check.Call) lower.Operand {
		if pinned(g) && kind == object.EvPrintf {
			return lowerSeqPrintf(g, c)
		}
		if pinned(g) {
			return noReader(g, c)
		}
		format, _ := c.Str(0)
		g.Event(&object.Event{Kind: kind, Format: format}, c.Args[1:]...)
		return lower.Operand{}
	}
}

// noReader refuses what user space would have to do for a pinned iterator.
func noReader(g *lower.Gen, c *check.Call) lower.Operand {
	g.Errorf(check.CodeUnavailable, c.Node, "%s() does not work in a pinned iterator, which runs when its file is read", c.Node.Func).Hint("use printf()")
	return lower.Operand{}
}

// lowerNothing serves what was done while compiling.
func lowerNothing(*lower.Gen, *check.Call) lower.Operand { return lower.Operand{} }

// lowerDebugf calls bpf_trace_printk. All values are widened to 64 bits, so each conversion gets the length for that.
func lowerDebugf(g *lower.Gen, c *check.Call) lower.Operand {
	format, _ := c.Str(0)
	text, last := "", 0
	for _, v := range check.ParseFormat(format) {
		text += format[last:v.Start]
		switch v.Conv {
		case "p":
			text += "%p"
		case "i":
			text += "%lld"
		default:
			text += "%ll" + v.Conv
		}
		last = v.End
	}
	text += format[last:]
	args := make([]*ir.Value, 0, maxDebugArgs)
	for _, a := range c.Args[1:] {
		args = append(args, g.Scalar(a))
	}
	size := len(text) + 1
	p := g.Temp("debugf", size)
	p.Size = size
	g.StoreValue(p, types.StringOf(size), g.Literal(text))
	g.B.Helper(asm.FnTracePrintk, append([]*ir.Value{g.Pointer(p), g.B.Const(int64(size))}, args...)...)
	return lower.Operand{}
}

// lowerPrint prints a whole map by reference, and everything else by value.
func lowerPrint(g *lower.Gen, c *check.Call) lower.Operand {
	if pinned(g) {
		return noReader(g, c)
	}
	if x, ok := c.Args[0].(*ast.MapRef); ok {
		ev := &object.Event{Kind: object.EvPrintMap, Map: x.Name, Text: viewWords(c)}
		g.Map(x.Name)
		var numbers [2]int64 // top and div
		for i, k := 1, 0; i < len(c.Args) && k < len(numbers); i++ {
			if n, ok := c.Int(i); ok {
				numbers[k] = n
				k++
			}
		}
		g.EventValues(ev, lower.Scalar(types.TUint64, g.B.Const(numbers[0])), lower.Scalar(types.TUint64, g.B.Const(numbers[1])))
		return lower.Operand{}
	}
	g.Event(&object.Event{Kind: object.EvPrintValue}, c.Args[0])
	return lower.Operand{}
}

// lowerMapEvent serves clear and zero, which user space does.
func lowerMapEvent(kind object.EventKind) lower.Func {
	return func(g *lower.Gen, c *check.Call) lower.Operand {
		if m, _ := g.MapArg(c, 0); m != nil {
			g.EventValues(&object.Event{Kind: kind, Map: m.Name})
		}
		return lower.Operand{}
	}
}

// lowerExit tells user space and leaves the clause.
func lowerExit(g *lower.Gen, c *check.Call) lower.Operand {
	code := g.B.Const(0)
	if len(c.Args) > 0 {
		code = g.ScalarAs(c.Args[0], types.TInt64)
	}
	g.EventValues(&object.Event{Kind: object.EvExit}, lower.Scalar(types.TInt64, code))
	g.Leave()
	return lower.Operand{}
}

const defaultTimeFormat = "%H:%M:%S\n"

func lowerTime(g *lower.Gen, c *check.Call) lower.Operand {
	format, ok := c.Str(0)
	if !ok {
		format = defaultTimeFormat
	}
	g.EventValues(&object.Event{Kind: object.EvTime, Format: format, Text: format})
	return lower.Operand{}
}

// maxJoin is the number of strings that join reads.
const maxJoin = 16

// lowerJoin sends the strings of an array of pointers, which a nil ends, one behind the other.
func lowerJoin(g *lower.Gen, c *check.Call) lower.Operand {
	sep, ok := c.Str(1)
	if !ok {
		sep = " "
	}
	limit := maxStrlen(g)
	arr := g.Expr(c.Args[0])
	base, space := g.ToInt(arr), arr.Type.Space
	room := maxJoin * limit
	fill := func(dst lower.Place) *ir.Value {
		pos := g.B.NewVar("pos", ir.I64)
		g.B.Set(pos, g.B.Const(0))
		g.B.For(g.B.Const(0), g.B.Const(maxJoin), func(i *ir.Value, l *ir.Loop) {
			at := lower.Place{Ptr: g.B.Add(base, g.B.OpImm(ir.OpShl, i, 3)), Size: 8, Space: space}
			p := g.LoadScalar(at, types.TUint64)
			some := g.B.NewBlock("string")
			g.B.Branch(ir.OpNe, p, g.B.Const(0), some, l.Break)
			g.B.Seal(some)
			g.B.SetBlock(some)
			off := g.B.Bound(g.B.Get(pos), int64(room-limit))
			to := lower.Place{Ptr: g.B.PtrAdd(g.Pointer(dst), off), Size: limit, Space: types.SpaceBPF}
			n := g.ReadStr(to, limit, lower.Place{Ptr: p, Size: limit, Space: space})
			g.B.Set(pos, g.B.Add(g.B.AddImm(off, 1), n))
		})
		return g.B.Bound(g.B.Get(pos), int64(room))
	}
	g.EventItems(&object.Event{Kind: object.EvJoin, Text: sep}, lower.Item{Type: types.BufferOf(room), Fill: fill})
	return lower.Operand{}
}

// maxStrlen is the limit of strings: their size with the NUL.
func maxStrlen(g *lower.Gen) int {
	if c := g.Info.Config; c != nil && c.MaxStrlen > 0 {
		return c.MaxStrlen
	}
	return 1024
}

func lowerUnwatch(g *lower.Gen, c *check.Call) lower.Operand {
	g.EventValues(&object.Event{Kind: object.EvUnwatch}, lower.Scalar(types.TUint64, g.ScalarAs(c.Args[0], types.TUint64)))
	return lower.Operand{}
}
