package stdlib

import (
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// addressOf gives the memory that an argument of str, buf and so on means: what a pointer or an integer points to, or a value in memory.
func addressOf(g *lower.Gen, o lower.Operand, size int) lower.Place {
	if o.V == nil {
		return o.P
	}
	if o.Type.Kind == types.Pointer {
		p := g.PlaceOf(o)
		p.Size = size
		return p
	}
	return lower.Place{Ptr: g.ToInt(o), Size: size, Space: o.Type.Space}
}

// lowerStr reads a string: straight to where it is sent when it goes into an event, padded with zeros elsewhere.
func lowerStr(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	bare, prefix := g.WantsStr(), g.WantsPrefix()
	size := t.Size
	src := addressOf(g, g.Expr(c.Args[0]), size)
	_, explicit := c.Int(1)
	var limit *ir.Value
	if len(c.Args) > 1 && !explicit {
		n := g.Scalar(c.Args[1])
		limit = g.B.Bound(n, int64(size))
	}
	var want lower.Place
	if bare && prefix > 0 && prefix+1 < size && limit == nil {
		size = prefix + 1
		t = types.StringOf(size)
		want = g.Temp("prefix", size)
	} else {
		want = g.Reserve(t)
	}
	dst := want
	dst.Size = size
	if !bare || limit != nil && !want.IsPlain() {
		g.B.Zero(dst.Ptr, int(dst.Off), size)
		if limit == nil {
			limit = g.B.Const(int64(size))
		}
		g.ReadStrDyn(dst, limit, size, src)
		return lower.Operand{Type: t, P: dst}
	}
	if limit != nil {
		// How much is written is not known: older verifiers want what they can see of the memory to be set before, and a comparison reads
		// whole words.
		n := size
		if size > 512 { // not in the stack frame
			n = min(size, (prefix+8)/8*8)
		}
		if dst.Ptr.Type == ir.Stack {
			g.B.Zero(dst.Ptr, int(dst.Off), n)
		}
		return lower.Operand{Type: t, P: dst, Len: g.ReadStrDyn(dst, limit, size, src)}
	}
	if explicit || prefix > 0 || want.Size <= size {
		return lower.Operand{Type: t, P: dst, Len: g.ReadStr(dst, size, src)}
	}
	// One byte more than the string may have tells a string that fits from one that is cut.
	n := g.ReadStr(dst, size+1, src)
	cut, length := g.B.NewVar("cut", ir.I64), g.B.NewVar("len", ir.I64)
	g.B.Set(cut, g.B.Const(0))
	g.B.Set(length, n)
	g.B.Unless(g.B.CmpImm(ir.OpULt, n, int64(size)), func() {
		g.B.Set(cut, g.B.Const(1<<31))
		g.B.Set(length, g.B.Const(int64(size-1)))
		g.Count(object.CounterCut)
	})
	return lower.Operand{Type: t, P: dst, Len: g.B.Get(length), Cut: g.B.Get(cut)}
}

// lowerBuf reads bytes: a length word and the data, or the data alone where they are sent.
func lowerBuf(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	limit := t.Size - 4
	if limit <= 0 {
		limit = 1
	}
	bare := g.WantsStr()
	o := g.Expr(c.Args[0])
	src := addressOf(g, o, limit)
	if o.V == nil && src.Space == types.SpaceBPF {
		limit = min(limit, src.Size) // behind a value of the script lies another one
	}
	var n *ir.Value
	if k, ok := c.Int(1); ok {
		if n = g.B.Const(min(k, int64(limit))); k < 0 { // unsigned
			n = g.B.Const(int64(limit))
		}
	} else if len(c.Args) > 1 {
		n = g.B.Bound(g.Scalar(c.Args[1]), int64(limit))
	} else {
		n = g.B.Const(int64(limit))
	}
	want := g.Reserve(t)
	data := want.At(4, limit)
	if bare {
		data = want.At(0, limit)
	} else {
		g.B.Zero(want.Ptr, int(want.Off), t.Size)
		g.B.Store(want.Ptr, int(want.Off), 4, n)
	}
	if n.Op == ir.OpConst && n.Imm > 0 {
		data.Size = int(n.Imm)
		g.ReadMem(data, src.At(0, int(n.Imm)))
	} else {
		g.ReadDyn(data, n, src)
	}
	if bare {
		return lower.Operand{Type: t, P: data, Len: n}
	}
	return lower.Operand{Type: t, P: want}
}

// text evaluates a string argument; a byte array counts as one.
func stringText(g *lower.Gen, e ast.Expr) (lower.Operand, int) {
	o := g.Expr(e)
	if o.V != nil { // a pointer to characters
		n := maxStrlen(g)
		p := g.Temp("text", n)
		g.B.Zero(p.Ptr, int(p.Off), n)
		g.ReadStr(p, n, addressOf(g, o, n))
		return lower.Operand{Type: types.StringOf(n), P: p}, n
	}
	n := o.P.Size
	o.P = g.Local(o.P, n)
	return o, n
}

func lowerStrlen(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	if s, ok := c.Str(0); ok {
		s, _, _ = strings.Cut(s, "\x00")
		return lower.Scalar(t, g.B.Const(int64(len(s))))
	}
	o := g.Expr(c.Args[0])
	n := maxStrlen(g)
	if o.V == nil {
		n = max(o.P.Size, 1)
	}
	p := g.Temp("strlen", n)
	return lower.Scalar(t, g.ReadStr(p, n, addressOf(g, o, n)))
}

// lowerStrncmp compares up to n characters: 0 when they are equal, else 1.
func lowerStrncmp(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	n64, _ := c.Int(2)
	a, na := stringText(g, c.Args[0])
	b, nb := stringText(g, c.Args[1])
	n := min(int(min(n64, 1<<20)), na, nb)
	v := g.B.NewVar("strncmp", ir.I64)
	g.B.Set(v, g.B.Const(0))
	if n <= 0 {
		return lower.Scalar(t, g.B.Get(v))
	}
	compareBytes(g, a.P, b.P, g.B.Const(int64(n)), n, v, true)
	return lower.Scalar(t, g.B.CmpImm(ir.OpNe, g.B.Get(v), 0))
}

// lowerStrConcat copies the first string and then the second one to the place of its NUL.
func lowerStrConcat(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	p := g.Dest(t)
	p.Size = t.Size
	g.B.Zero(p.Ptr, int(p.Off), t.Size)
	a, na := stringText(g, c.Args[0])
	b, nb := stringText(g, c.Args[1])
	na, nb = concatRoom(c.Type(0), na), concatRoom(c.Type(1), nb)
	n := g.ReadStr(p.At(0, na), na, a.P)
	to := lower.Place{Ptr: g.B.PtrAdd(g.Pointer(p), g.B.Bound(n, int64(na-1))), Size: nb, Space: types.SpaceBPF}
	g.ReadStr(to, nb, b.P)
	return lower.Operand{Type: t, P: p}
}

// concatRoom is the size of a text with a NUL, which arrays need not have.
func concatRoom(t *types.Type, n int) int {
	if isByteArray(t) {
		return n + 1
	}
	return n
}

// compareBytes sets v to the difference of the first bytes that differ among the first n (at most limit), 0 when there are none; text
// ends at a NUL.
func compareBytes(g *lower.Gen, a, b lower.Place, n *ir.Value, limit int, v ir.Var, text bool) {
	pa, pb := g.Pointer(a), g.Pointer(b)
	end := g.B.NewBlock("compared")
	g.B.For(g.B.Const(0), g.B.Bound(n, int64(limit)), func(i *ir.Value, _ *ir.Loop) {
		x := g.B.Load(g.B.PtrAdd(pa, i), 0, 1, false)
		y := g.B.Load(g.B.PtrAdd(pb, i), 0, 1, false)
		same, differ := g.B.NewBlock("same"), g.B.NewBlock("differ")
		g.B.Branch(ir.OpEq, x, y, same, differ)
		g.B.Seal(differ)
		g.B.SetBlock(differ)
		g.B.Set(v, g.B.Sub(x, y))
		g.B.Jump(end)
		g.B.Seal(same)
		g.B.SetBlock(same)
		if text {
			more := g.B.NewBlock("more")
			g.B.Branch(ir.OpNe, x, g.B.Const(0), more, end)
			g.B.Seal(more)
			g.B.SetBlock(more)
		}
	})
	g.B.Jump(end)
	g.B.Seal(end)
	g.B.SetBlock(end)
}

func lowerMemcmp(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	v := g.B.NewVar("memcmp", ir.I64)
	g.B.Set(v, g.B.Const(0))
	n := g.ScalarAs(c.Args[2], types.TUint64)
	a, na := bytesOf(g, c.Args[0], n)
	b, nb := bytesOf(g, c.Args[1], n)
	limit := min(na, nb)
	compareBytes(g, a, b, n, limit, v, false)
	return lower.Scalar(t, g.B.Get(v))
}

// bytesOf makes the memory that an expression is, or points to, readable: at most max_strlen bytes behind a pointer.
func bytesOf(g *lower.Gen, e ast.Expr, n *ir.Value) (lower.Place, int) {
	o := g.Expr(e)
	if o.V == nil {
		size := o.P.Size
		return g.Local(o.P, size), size
	}
	size := maxStrlen(g)
	p := g.Temp("bytes", size)
	g.B.Zero(p.Ptr, int(p.Off), size)
	if o.Type.Kind == types.Pointer {
		g.ReadDyn(p, g.B.Bound(n, int64(size)), addressOf(g, o, size))
		return p, size
	}
	g.B.Store(p.Ptr, int(p.Off), 8, g.ToInt(o))
	return p, 8
}

func lowerStrcontains(g *lower.Gen, c *check.Call) lower.Operand {
	at := findText(g, c)
	return lower.Scalar(g.Type(c.Node), g.B.CmpImm(ir.OpSGe, at, 0))
}

func lowerStrstr(g *lower.Gen, c *check.Call) lower.Operand {
	return lower.Scalar(g.Type(c.Node), findText(g, c))
}

// findText gives the index of the needle in the haystack, -1 when it is not there.
func findText(g *lower.Gen, c *check.Call) *ir.Value {
	if s, ok := c.Str(1); ok {
		hay, size := searchable(g, c.Args[0])
		return findLiteral(g, hay, size, s)
	}
	hay, nh := stringText(g, c.Args[0])
	needle, nn := stringText(g, c.Args[1])
	return findComputed(g, hay.P, nh, needle.P, nn)
}

// slack is how far a word that starts in a text may reach behind it.
const slack = 16

// searchable puts a text where words may be read at any place of it: zeros follow it.
func searchable(g *lower.Gen, e ast.Expr) (lower.Place, int) {
	t := g.Type(e)
	size := maxStrlen(g)
	if !t.IsScalar() {
		size = t.Size
	}
	p := g.Temp("haystack", size+slack)
	if t.Kind == types.String {
		g.Into(e, t, p)
		g.B.Zero(p.Ptr, int(p.Off)+size, slack)
		return p, size
	}
	o := g.Expr(e)
	g.B.Zero(p.Ptr, int(p.Off), size+slack)
	if o.V != nil {
		g.ReadStr(p, size, addressOf(g, o, size))
	} else {
		p.Size = size
		g.ReadMem(p, o.P)
	}
	return p, size
}

// findLiteral searches for a text known while compiling: its first word is compared at each place, the rest where that is equal.
func findLiteral(g *lower.Gen, hay lower.Place, size int, s string) *ir.Value {
	if s == "" {
		return g.B.Const(0)
	}
	places := size - len(s) // the last byte is a NUL
	if places <= 0 {
		return g.B.Const(-1)
	}
	result := g.Keep("index", 8, ir.SlotScratch)
	g.B.Store(result.Ptr, 0, 8, g.B.Const(-1))
	const chunk = 8 // places in one round
	rounds := (places + chunk - 1) / chunk
	g.Repeat(g.B.Const(int64(rounds)), rounds, []lower.Place{hay, result}, func(i *ir.Value, mem []lower.Place, stop func()) {
		first := g.B.OpImm(ir.OpShl, i, 3)
		base := g.B.PtrAdd(g.Pointer(mem[0]), first)
		for k := range min(chunk, places) {
			at := lower.Place{Ptr: base, Off: int32(k), Size: slack}
			miss := g.B.NewBlock("miss")
			word := matchWords(g, at, s, miss)
			g.B.Store(mem[1].Ptr, int(mem[1].Off), 8, g.B.AddImm(first, int64(k)))
			stop()
			g.B.Seal(miss)
			g.B.SetBlock(miss)
			if k == chunk-1 { // behind the end of the text there is nothing to find
				more := g.B.NewBlock("more")
				end := g.B.NewBlock("end")
				g.B.Branch(ir.OpNe, g.B.OpImm(ir.OpAnd, word, 0xff), g.B.Const(0), more, end)
				g.B.Seal(end)
				g.B.SetBlock(end)
				stop()
				g.B.Seal(more)
				g.B.SetBlock(more)
			}
		}
	})
	return g.B.Load(result.Ptr, 0, 8, false)
}

// matchWords goes on where the bytes at p are s, and to miss elsewhere; it gives the first word that it read.
func matchWords(g *lower.Gen, p lower.Place, s string, miss *ir.Block) (first *ir.Value) {
	for off := 0; off < len(s); off += 8 {
		n := min(8, len(s)-off)
		var want uint64
		for i := n - 1; i >= 0; i-- {
			want = want<<8 | uint64(s[off+i])
		}
		w := g.B.Load(p.Ptr, int(p.Off)+off, 8, false)
		if first == nil {
			first = w
		}
		if n < 8 {
			w = g.B.OpImm(ir.OpAnd, w, int64(uint64(1)<<(8*n)-1))
		}
		next := g.B.NewBlock("match")
		g.B.Branch(ir.OpEq, w, g.B.Const(int64(want)), next, miss)
		g.B.Seal(next)
		g.B.SetBlock(next)
	}
	return first
}

// findComputed searches for a text that is computed: the needle is compared at one place after the other, and a mismatch goes back to the
// place behind the last start. Where we are lies in scratch memory, of which the verifier knows nothing: it would otherwise follow every
// combination.
func findComputed(g *lower.Gen, hay lower.Place, nh int, needle lower.Place, nn int) *ir.Value {
	state := g.Keep("search", 24, ir.SlotScratch) // result, start, position in the needle
	g.B.Store(state.Ptr, 0, 8, g.B.Const(-1))
	g.B.Zero(state.Ptr, 8, 16)
	steps := min(nh*nn, 1<<22)
	g.Repeat(g.B.Const(int64(steps)), steps, []lower.Place{hay, needle, state}, func(_ *ir.Value, mem []lower.Place, stop func()) {
		ph, pn, st := g.Pointer(mem[0]), g.Pointer(mem[1]), mem[2].Ptr
		s, a := g.B.Load(st, 8, 8, false), g.B.Load(st, 16, 8, false)
		y := g.B.Load(g.B.PtrAdd(pn, g.B.Bound(a, int64(nn-1))), 0, 1, false)
		hit, look := g.B.NewBlock("hit"), g.B.NewBlock("look")
		g.B.Branch(ir.OpEq, y, g.B.Const(0), hit, look)
		g.B.Seal(hit)
		g.B.SetBlock(hit)
		g.B.Store(st, 0, 8, s)
		stop()
		g.B.Seal(look)
		g.B.SetBlock(look)
		x := g.B.Load(g.B.PtrAdd(ph, g.B.Bound(g.B.Add(s, a), int64(nh-1))), 0, 1, false)
		g.B.If(g.B.Cmp(ir.OpEq, x, y), func() {
			g.B.Store(st, 16, 8, g.B.AddImm(a, 1))
		}, func() {
			stopAtNUL(g, x, stop)
			g.B.Store(st, 8, 8, g.B.AddImm(s, 1))
			g.B.Store(st, 16, 8, g.B.Const(0))
		})
	})
	return g.B.Load(state.Ptr, 0, 8, false)
}

// stopAtNUL ends the loop that it stands in when a character is the end of its text.
func stopAtNUL(g *lower.Gen, x *ir.Value, stop func()) {
	more, end := g.B.NewBlock("more"), g.B.NewBlock("end")
	g.B.Branch(ir.OpNe, x, g.B.Const(0), more, end)
	g.B.Seal(end)
	g.B.SetBlock(end)
	stop()
	g.B.Seal(more)
	g.B.SetBlock(more)
}

// lowerPath asks the kernel for the full path of a struct path.
func lowerPath(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	if g.Hook.AttachType == ebpf.AttachTraceIter && !g.Target.Features.Has(target.IterPath) {
		g.Errorf(codeNoMeans, c.Node, "this kernel does not give paths in iterators").Hint("use a kernel from 5.12 on")
	}
	dst := g.Dest(t)
	g.B.Zero(dst.Ptr, int(dst.Off), t.Size)
	if !g.IfBTFPointer(c.Args[0], func(p *ir.Value) {
		rc := g.B.Helper(asm.FnDPath, p, g.Pointer(dst), g.B.Const(int64(t.Size)))
		g.CheckHelper(rc, "d_path", object.CounterReadFail)
	}) {
		g.Errorf("E0725", c.Args[0], "`path` needs a pointer that the kernel gave with its type").
			Hint("use it in fentry, fexit, iter or lsm probes, with a member of `args`")
	}
	return lower.Operand{Type: t, P: dst}
}
