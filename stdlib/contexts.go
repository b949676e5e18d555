package stdlib

import (
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// The contexts of programs: how a program reads its arguments.

func noContext() lower.Context       { return lower.NoContext{} }
func registerContext() lower.Context { return lower.Registers{} }

// typedArgs are the arguments of a program with BTF types (fentry, fexit, tp_btf, LSM): an array of 64-bit words. The verifier allows plain loads
// only of words whose type it understands; the others are read by a helper.
type typedArgs struct {
	lower.ArgArray
}

// wordContext makes the context for a prototype; nilable tells that pointers may be nil to the verifier (tracepoints).
func wordContext(words int, nilable bool) lower.Context {
	return typedArgs{lower.ArgArray{Args: words, Nilable: nilable}}
}

// argWords is how many words the parameters of a prototype take: two for a struct by value of more than eight bytes.
func argWords(b *kernel.BTF, params []kernel.Param) int {
	n := 0
	for _, p := range params {
		n += words(sizeOf(b, p.Type))
	}
	return n
}

func words(size int) int { return max(1, (size+7)/8) }

func sizeOf(b *kernel.BTF, id kernel.ID) int {
	n, err := b.Sizeof(id)
	if err != nil {
		return 8
	}
	return int(n)
}

// Member implements lower.Context.
func (c typedArgs) Member(g *lower.Gen, f types.Field) lower.Operand {
	if refusedAsWord(f.Type) {
		return rawWord(g, f.ArgIndex, f.Type)
	}
	return c.ArgArray.Member(g, f)
}

// Arg implements lower.Context: an untyped word.
func (c typedArgs) Arg(g *lower.Gen, n int, t *types.Type) lower.Operand { return rawWord(g, n, t) }

// Retval implements lower.Context.
func (c typedArgs) Retval(g *lower.Gen, t *types.Type) lower.Operand {
	if refusedAsWord(t) {
		return rawWord(g, c.Args, t)
	}
	return c.ArgArray.Retval(g, t)
}

// refusedAsWord tells which types a verifier refuses to load from the context: pointers to anything but structs, characters and void, and to
// structs that are only declared where the function is. Since
// Linux 5.18 it takes pointers to all integers; there is no cheap way to find out, and they are rare.
func refusedAsWord(t *types.Type) bool {
	if t.Kind != types.Pointer || t.Elem == nil {
		return false
	}
	switch e := t.Elem; e.Kind {
	case types.Struct:
		return t.Declared || e.Struct == nil || e.Struct.Size == 0 || e.Struct.Name == ""
	case types.Void:
		return e.Name != "" // a function
	case types.Int:
		return e.Size > 1 || !e.Signed
	}
	return true
}

// rawWord reads a word of the context without telling the verifier what it is.
func rawWord(g *lower.Gen, n int, t *types.Type) lower.Operand {
	v := g.LoadScalar(lower.Place{Ptr: g.B.PtrInt(g.Ctx()), Off: int32(8 * n), Size: 8, Space: types.SpaceKernel}, types.TUint64)
	if t.Kind != types.Pointer && t.Size < 8 && t.Size > 0 {
		v = g.B.Ext(v, t.Size*8, t.Signed)
	}
	return lower.Scalar(withProvenance(t, types.ProvRaw), v)
}

// untypedArgs are the same words in a program without BTF types (raw tracepoint): pointers are plain addresses.
type untypedArgs struct {
	lower.ArgArray
}

// Member implements lower.Context.
func (c untypedArgs) Member(g *lower.Gen, f types.Field) lower.Operand {
	f.Type = withProvenance(f.Type, types.ProvRaw)
	return c.ArgArray.Member(g, f)
}

// markerArgs reads the arguments of a USDT marker, which are wherever its places in the code have them.
type markerArgs struct {
	lower.Registers
	point *usdtPoint
}

// Arg implements lower.Context.
func (c markerArgs) Arg(g *lower.Gen, n int, t *types.Type) lower.Operand {
	v := c.value(g, n)
	if t.Kind != types.Pointer && t.Size < 8 && t.Size > 0 {
		v = g.B.Ext(v, t.Size*8, t.Signed)
	}
	return lower.Scalar(t, v)
}

// value reads an argument; where the places differ, the address that was hit decides. Its offset in the page is the same wherever the file is
// mapped.
func (c markerArgs) value(g *lower.Gen, n int) *ir.Value {
	variants := c.point.variants
	if len(variants) == 1 {
		return c.place(g, variants[0], n)
	}
	reg := "ip"
	if g.Target.Arch == "arm64" {
		reg = "pc"
	}
	ip, _ := c.Reg(g, reg)
	page := g.B.OpImm(ir.OpAnd, ip, pageMask)
	v := g.B.NewVar("usdt", ir.I64)
	g.B.Set(v, g.B.Const(0))
	for _, m := range variants {
		hit := g.B.CmpImm(ir.OpEq, page, int64(m.addrs[0]&pageMask))
		for _, a := range m.addrs[1:] {
			hit = g.B.Op2(ir.OpOr, hit, g.B.CmpImm(ir.OpEq, page, int64(a&pageMask)))
		}
		g.B.If(hit, func() { g.B.Set(v, c.place(g, m, n)) }, nil)
	}
	return g.B.Get(v)
}

func (c markerArgs) place(g *lower.Gen, m *usdtVariant, n int) *ir.Value {
	if n >= len(m.args) {
		return g.B.Const(0)
	}
	return m.args[n].load(g, c.Registers)
}

// iterObjects is the context of an iterator: a struct of pointers, each of which may be nil.
type iterObjects struct{ lower.NoContext }

// Member implements lower.Context.
func (iterObjects) Member(g *lower.Gen, f types.Field) lower.Operand {
	if t := f.Type; t.Kind == types.Pointer && t.Elem != nil && t.Elem.Kind == types.Struct {
		return lower.Operand{Type: t, V: g.B.LoadPtr(g.Ctx(), f.Offset, ir.BTFNil)}
	}
	v := g.B.Load(g.Ctx(), f.Offset, max(f.Type.Size, 1), f.Type.Signed)
	return lower.Scalar(f.Type, v)
}
