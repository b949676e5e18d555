package stdlib

import (
	"strconv"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// A pinned iterator runs when somebody reads its file, long after the tool has ended: what it prints goes to the reader, through the
// kernel's own formatting.

// maxSeqArgs is how many values bpf_seq_printf takes.
const maxSeqArgs = 12

// pinned tells whether the program is an iterator that is pinned.
func pinned(g *lower.Gen) bool {
	d, ok := g.Hook.Data.(*iterPoint)
	return ok && d.pin != ""
}

// lowerSeqPrintf prints to the file of the iterator. Numbers are widened to 64 bits, so each conversion gets the length for that.
func lowerSeqPrintf(g *lower.Gen, c *check.Call) lower.Operand {
	format, _ := c.Str(0)
	args := c.Args[1:]
	if len(args) > maxSeqArgs {
		g.Errorf(check.CodeArgCount, c.Node, "a pinned iterator prints up to %d values at once (%d given)", maxSeqArgs, len(args)).Hint("call printf() twice")
		return lower.Operand{}
	}
	data := g.Temp("values", 8*max(len(args), 1))
	text, last := "", 0
	for i, v := range check.ParseFormat(format) {
		if i >= len(args) {
			break
		}
		text += format[last:v.Start]
		last = v.End
		t := g.Type(args[i])
		conv := v.Conv
		switch {
		case t.Kind == types.String:
			size := t.Size
			p := g.Keep("text", size+1, ir.SlotAuto)
			p.Size = size
			g.Into(args[i], t, p)
			g.B.Store(p.Ptr, int(p.Off)+size, 1, g.B.Const(0))
			g.B.Store(data.Ptr, int(data.Off)+8*i, 8, g.B.PtrInt(g.Pointer(p)))
			text += "%" + v.Flags + width(v) + "s"
			continue
		case t.IsInteger() || t.Kind == types.Pointer:
			g.B.Store(data.Ptr, int(data.Off)+8*i, 8, g.Scalar(args[i]))
		default:
			g.Errorf(check.CodeUnavailable, args[i], "a pinned iterator prints numbers and strings; this is a %s", t).Hint("without a name for the file, sonde prints it itself")
			return lower.Operand{}
		}
		switch {
		case conv == "s" && t.Kind == types.Pointer:
			text += "0x%llx"
		case conv == "s", conv == "i":
			text += "%lld"
		case conv == "p":
			text += "0x%llx"
		case conv == "c":
			text += "%c"
		default:
			text += "%" + v.Flags + width(v) + "ll" + conv
		}
	}
	text += format[last:]
	size := len(text) + 1
	p := g.Temp("format", size)
	p.Size = size
	g.StoreValue(p, types.StringOf(size), g.Literal(text))
	// struct bpf_iter_meta is the first member of the context, its seq_file its own first one.
	seq := g.B.LoadPtr(g.B.LoadPtr(g.Ctx(), 0, ir.BTF), 0, ir.BTF)
	g.B.Helper(asm.FnSeqPrintf, seq, g.Pointer(p), g.B.Const(int64(size)), g.Pointer(data), g.B.Const(int64(8*len(args))))
	return lower.Operand{}
}

func width(v check.Verb) string {
	if v.Width < 0 {
		return ""
	}
	return strconv.Itoa(v.Width)
}
