package lower

import (
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/types"
)

// maxUnrolledWords is the number of 8-byte comparisons up to which a comparison of memory is written out.
const maxUnrolledWords = 16

// equal ends the block with a branch: to yes when two large values are equal.
func (g *Gen) equal(x, y ast.Expr, yes, no *ir.Block) {
	if _, ok := g.stringConst(x); ok {
		x, y = y, x
	}
	if s, ok := g.stringConst(y); ok && !g.isConst(x) {
		g.equalLiteral(x, s, yes, no)
		return
	}
	a := g.Expr(x)
	b := g.Expr(y)
	g.EqualOperands(a, b, yes, no)
}

func (g *Gen) isConst(e ast.Expr) bool {
	_, ok := g.Body.Consts[e]
	return ok
}

func (g *Gen) stringConst(e ast.Expr) (string, bool) {
	if c, ok := g.Body.Consts[e]; ok && c.IsString {
		return c.Str, true
	}
	if l, ok := unparen(e).(*ast.StrLit); ok {
		return l.Value, true
	}
	return "", false
}

// equalLiteral compares a string with one known while compiling: the bytes up to its NUL decide.
func (g *Gen) equalLiteral(x ast.Expr, s string, yes, no *ir.Block) {
	a := g.exprWant(x, want{str: true, prefix: len(s) + 1})
	if a.Type.Kind == types.Probe {
		g.equalProbe(a.V, s, yes, no)
		return
	}
	if a.Type.IsScalar() {
		g.bug(x, "a scalar beside a string")
	}
	g.EqualLiteral(a, s, yes, no)
}

// equalProbe compares `probe`, which is the number of an attach point, with a name: the numbers of the points of that name decide.
func (g *Gen) equalProbe(point *ir.Value, name string, yes, no *ir.Block) {
	for _, h := range g.prog.Hooks {
		if h.Point.Name != name {
			continue
		}
		next := g.B.NewBlock("other")
		g.B.Branch(ir.OpEq, point, g.B.Const(int64(h.Index)), yes, next)
		g.B.Seal(next)
		g.B.SetBlock(next)
	}
	g.B.Jump(no)
}

// EqualLiteral branches on whether a string equals one known while compiling.
func (g *Gen) EqualLiteral(a Operand, s string, yes, no *ir.Block) {
	if len(s) >= a.Type.Size && a.Type.Kind == types.String {
		// The peer compares what the shorter operand has room for.
		s = s[:a.Type.Size]
	} else {
		s += "\x00"
	}
	n := min(len(s), a.P.Size)
	p := a.P
	if !p.IsPlain() {
		p = g.local(p, n)
	}
	for off := 0; off < n; {
		size, keep := 8, n-off
		if keep < 8 {
			// A word that reaches behind the literal is cut by a mask when it is all there, else read in pieces.
			if off+8 > p.Size || !g.plainLoad(p.At(off, 8), 8) {
				for size = 8; size > keep; size /= 2 {
				}
				keep = size
			}
		} else {
			keep = 8
			for size > 1 && !g.plainLoad(p.At(off, size), size) {
				size /= 2
				keep = size
			}
		}
		var want uint64
		for i := min(keep, size) - 1; i >= 0; i-- {
			want = want<<8 | uint64(s[off+i])
		}
		v := g.B.Load(p.Ptr, int(p.Off)+off, size, false)
		if keep < size {
			v = g.B.OpImm(ir.OpAnd, v, int64(uint64(1)<<(8*keep)-1))
		}
		off += min(keep, size)
		next := yes
		if off < n {
			next = g.B.NewBlock("same")
		}
		g.B.Branch(ir.OpEq, v, g.B.Const(int64(want)), next, no)
		if off < n {
			g.B.Seal(next)
			g.B.SetBlock(next)
		}
	}
	if n == 0 {
		g.B.Jump(yes)
	}
}

// local makes n bytes at p readable by plain loads, copying them where they are not.
func (g *Gen) local(p Place, n int) Place {
	n8 := (n + 7) / 8 * 8
	ok := p.Size >= n
	for off := 0; off < n && ok; off += 8 {
		ok = g.plainLoad(p.At(off, min(8, pow2(n-off))), min(8, pow2(n-off)))
	}
	if ok {
		return p
	}
	t := g.Temp("local", n8)
	m := min(n, p.Size)
	g.ReadMem(t.At(0, m), p.At(0, m))
	if m < n8 {
		g.zero(t.At(m, n8-m))
	}
	return t
}

func pow2(n int) int {
	for n&(n-1) != 0 {
		n &= n - 1
	}
	return n
}

// EqualOperands branches on whether two large values are equal: strings by their common size, anything else byte by byte.
func (g *Gen) EqualOperands(a, b Operand, yes, no *ir.Block) {
	if a.Type.IsScalar() || b.Type.IsScalar() {
		g.B.Branch(ir.OpEq, g.ToInt(a), g.ToInt(b), yes, no)
		return
	}
	switch a.Type.Kind {
	case types.Tuple, types.Record:
		if !sameLayout(a.Type, b.Type) {
			g.equalTuples(a, b, yes, no)
			return
		}
	}
	n := min(a.P.Size, b.P.Size)
	if a.Type.Kind == types.Buffer && b.Type.Kind == types.Buffer {
		n = min(a.Type.Size, b.Type.Size)
	}
	g.equalMem(g.local(a.P, n), g.local(b.P, n), n, yes, no)
}

// equalTuples compares field by field, where the layouts differ.
func (g *Gen) equalTuples(a, b Operand, yes, no *ir.Block) {
	n := min(len(a.Type.Fields), len(b.Type.Fields))
	for i := range n {
		x, y := a.Type.Fields[i], b.Type.Fields[types.Partner(a.Type, i, b.Type)]
		next := yes
		if i < n-1 {
			next = g.B.NewBlock("same")
		}
		g.EqualOperands(g.Load(a.P.At(x.Offset, x.Type.Size), x.Type), g.Load(b.P.At(y.Offset, y.Type.Size), y.Type), next, no)
		if next != yes {
			g.B.Seal(next)
			g.B.SetBlock(next)
		}
	}
	if n == 0 {
		g.B.Jump(yes)
	}
}

// equalMem compares n bytes of memory that plain loads may read.
func (g *Gen) equalMem(a, b Place, n int, yes, no *ir.Block) {
	if n == 0 {
		g.B.Jump(yes)
		return
	}
	if n > 8*maxUnrolledWords && a.IsPlain() && b.IsPlain() {
		g.equalLoop(a, b, n, yes, no)
		return
	}
	for off := 0; off < n; {
		size := 8
		for size > n-off || !g.plainLoad(a.At(off, size), size) || !g.plainLoad(b.At(off, size), size) {
			size /= 2
		}
		x := g.B.Load(a.Ptr, int(a.Off)+off, size, false)
		y := g.B.Load(b.Ptr, int(b.Off)+off, size, false)
		off += size
		next := yes
		if off < n {
			next = g.B.NewBlock("same")
		}
		g.B.Branch(ir.OpEq, x, y, next, no)
		if next != yes {
			g.B.Seal(next)
			g.B.SetBlock(next)
		}
	}
}

// equalLoop compares memory in a loop of 8-byte words.
func (g *Gen) equalLoop(a, b Place, n int, yes, no *ir.Block) {
	pa, pb := g.pointer(a), g.pointer(b)
	words := int64(n / 8)
	differ := g.B.NewBlock("differ")
	g.B.For(g.B.Const(0), g.B.Const(words), func(i *ir.Value, l *ir.Loop) {
		off := g.B.OpImm(ir.OpShl, i, 3)
		x := g.B.Load(g.B.PtrAdd(pa, off), 0, 8, false)
		y := g.B.Load(g.B.PtrAdd(pb, off), 0, 8, false)
		same := g.B.NewBlock("same")
		g.B.Branch(ir.OpEq, x, y, same, differ)
		g.B.Seal(same)
		g.B.SetBlock(same)
	})
	rest := n % 8
	if rest == 0 {
		g.B.Jump(yes)
	} else {
		off := n - rest
		g.equalMem(Place{Ptr: pa, Off: int32(off), Size: rest}, Place{Ptr: pb, Off: int32(off), Size: rest}, rest, yes, differ)
	}
	g.B.Seal(differ)
	g.B.SetBlock(differ)
	g.B.Jump(no)
}
