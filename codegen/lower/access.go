package lower

import (
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/types"
)

// field lowers x.name and x->name.
func (g *Gen) field(e *ast.Field) Operand {
	t := g.Type(e)
	xt := g.Type(e.X)
	if xt.Kind == types.Args {
		f, ok := xt.Struct.Field(e.Name)
		if !ok {
			g.bug(e, "args has no member %s", e.Name)
		}
		return g.retype(g.Hook.Context.Member(g, f), t)
	}
	g.want = want{}
	o := g.Expr(e.X)
	if xt.Kind == types.Record || xt.Kind == types.Tuple {
		for _, f := range xt.Fields {
			if f.Name == e.Name {
				return g.member(o.P, f, t)
			}
		}
		g.bug(e, "no field %s", e.Name)
	}
	p := o.P
	st := xt
	if xt.Kind == types.Pointer {
		st = xt.Elem
		if st.Kind == types.Pointer { // a pointer to a pointer: `.` looks through both
			p = g.target(g.Load(g.target(o), st))
			st = st.Elem
		} else {
			p = g.target(o)
		}
	}
	if st.Kind != types.Struct {
		g.bug(e, "%s has no fields", st)
	}
	f, ok := st.Struct.Field(e.Name)
	if !ok {
		g.bug(e, "no field %s", e.Name)
	}
	return g.member(p, f, t)
}

// retype gives a value the type that the checker found for the expression, which may know more of the address space.
func (g *Gen) retype(o Operand, t *types.Type) Operand {
	if t == nil || o.IsVoid() {
		return o
	}
	if t.IsScalar() == o.Type.IsScalar() {
		if o.Type.Kind == types.Int && t.Kind == types.Int && (o.Type.Size != t.Size || o.Type.Signed != t.Signed) {
			return g.Convert(o, t)
		}
		o.Type = t
		return o
	}
	return g.Convert(o, t)
}

// target gives the memory that a pointer points to.
func (g *Gen) target(o Operand) Place {
	p := Place{Ptr: o.V, Size: 8, Space: o.Type.Space}
	e := o.Type.Elem
	if e != nil {
		p.Size = e.Size
	}
	if o.Type.Prov == types.ProvCtx { // such a pointer is the context, wherever it was kept
		p.Ptr, p.Space = g.Ctx(), types.SpaceKernel
		return p
	}
	if g.strayContext(o) {
		return p
	}
	switch o.V.Type {
	case ir.BTF, ir.BTFNil:
		if e != nil && e.Kind == types.Struct {
			p.Base = g.kernelStruct(e.Struct)
		}
		if p.Base == nil {
			p.Ptr = g.asInt(p.Ptr)
		}
		p.Space = types.SpaceKernel
	case ir.Stack, ir.MapVal, ir.Ring:
		p.Space = types.SpaceBPF
	}
	return p
}

// PlaceOf gives the memory that a pointer points to, or the memory of a large value.
func (g *Gen) PlaceOf(o Operand) Place {
	if o.V == nil {
		return o.P
	}
	return g.target(o)
}

// member reads a member of a struct, record or tuple at p.
func (g *Gen) member(p Place, f types.Field, t *types.Type) Operand {
	if f.BitSize > 0 {
		return Scalar(t, g.bitField(p, f))
	}
	if f.DataLoc || f.RelLoc {
		return g.retype(g.dataLoc(p, f), t)
	}
	if t == nil || t.Size != f.Type.Size || t.Kind != f.Type.Kind {
		return g.retype(g.Load(p.At(f.Offset, f.Type.Size), f.Type), t)
	}
	return g.Load(p.At(f.Offset, f.Type.Size), t)
}

// bitField reads a bit-field (little endian) by the smallest aligned load that holds all of it.
func (g *Gen) bitField(p Place, f types.Field) *ir.Value {
	first, last := f.Offset*8+f.BitOffset, f.Offset*8+f.BitOffset+f.BitSize-1
	size := 1
	for size < 8 && first/8/size != last/8/size {
		size *= 2
	}
	start := first / 8 / size * size
	v := g.LoadScalar(p.At(start, size), types.IntOf(size, false))
	if up := 64 - (last + 1 - start*8); f.Type.Signed {
		if up > 0 {
			v = g.B.OpImm(ir.OpShl, v, int64(up))
		}
		return g.B.OpImm(ir.OpAShr, v, int64(64-f.BitSize))
	}
	if sh := first - start*8; sh > 0 {
		v = g.B.OpImm(ir.OpLShr, v, int64(sh))
	}
	if f.BitSize < 64 && first-start*8+f.BitSize < size*8 {
		v = g.B.OpImm(ir.OpAnd, v, 1<<f.BitSize-1)
	}
	return v
}

// dataLoc finds the data of a __data_loc or __rel_loc member of a trace record: it lies at an offset that the member holds.
func (g *Gen) dataLoc(p Place, f types.Field) Operand {
	loc := g.LoadScalar(p.At(f.Offset, 4), types.TUint32)
	off := g.B.OpImm(ir.OpAnd, loc, 0xffff)
	if f.RelLoc {
		off = g.B.AddImm(off, int64(f.Offset)+4)
	}
	addr := g.B.Add(g.Address(p.At(0, 0)), off)
	t := f.Type
	if t.Kind == types.Pointer || t.Kind == types.Int {
		return Scalar(t, addr)
	}
	size := t.Size
	return Operand{Type: t, P: Place{Ptr: addr, Size: size, Space: types.SpaceKernel}}
}

func (g *Gen) tupleField(x ast.Expr, i int) Operand {
	g.want = want{}
	if v, ok := unparen(x).(*ast.Var); ok {
		if o, ok := g.loopPart(g.Body.Vars[v], i); ok {
			return o
		}
	}
	o := g.Expr(x)
	t := o.Type
	if i >= len(t.Fields) {
		g.bug(x, "tuple has no field %d", i)
	}
	f := t.Fields[i]
	return g.Load(o.P.At(f.Offset, f.Type.Size), f.Type)
}

// index lowers x[i].
func (g *Gen) index(e *ast.Index, t *types.Type) Operand {
	if m, ok := unparen(e.X).(*ast.MapRef); ok {
		return g.readMap(e, m.Name, e.Keys, t)
	}
	g.want = want{}
	xt := g.Type(e.X)
	if xt.Kind == types.Tuple || xt.Kind == types.Record {
		c, ok := g.Body.Consts[e.Keys[0]]
		if !ok {
			if l, isInt := unparen(e.Keys[0]).(*ast.IntLit); isInt {
				c.Int = int64(l.Value)
			}
		}
		return g.tupleField(e.X, int(c.Int))
	}
	o := g.Expr(e.X)
	i := g.Scalar(e.Keys[0])
	switch xt.Kind {
	case types.Pointer:
		p := g.target(o)
		p.Size = elemSize(xt)
		return g.Load(g.element(p, i, elemSize(xt), -1, o), t)
	case types.Array:
		return g.arrayElement(o, xt, i, t)
	case types.String, types.Buffer:
		base := 0
		if xt.Kind == types.Buffer {
			base = 4
		}
		return g.Load(g.element(o.P.At(base, xt.Size-base), i, 1, xt.Size-base, o), t)
	}
	g.bug(e, "%s has no elements", xt)
	return Operand{}
}

// arrayElement lowers an element of an array. An index outside of it that only shows at run time is reported; in the program's own memory it gives 0,
// elsewhere what lies there.
func (g *Gen) arrayElement(o Operand, array *types.Type, i *ir.Value, t *types.Type) Operand {
	p, n, size := o.P, array.Len, array.Elem.Size
	if n == 0 { // a flexible array: what follows the struct is read like any other memory
		if p.IsPlain() {
			p.Ptr, p.Base = g.asInt(g.pointer(p)), nil
			p.Off = 0
		}
		return g.Load(g.element(p, i, size, -1, o), t)
	}
	if i.Op == ir.OpConst && i.Imm >= 0 && i.Imm < int64(n) {
		return g.Load(g.element(p, i, size, n, o), t)
	}
	const outOfRange = -34 // ERANGE
	inside := g.B.CmpImm(ir.OpULt, i, int64(n))
	report := func() { g.scoped(func() { g.failed(g.B.Const(outOfRange), object.ArrayIndex) }) }
	if !p.IsPlain() || !t.IsInteger() {
		g.B.Unless(inside, report)
		return g.Load(g.element(p, i, size, n, o), t)
	}
	v := g.B.NewVar("element", ir.I64)
	g.B.If(inside, func() {
		g.scoped(func() { g.B.Set(v, g.LoadScalar(g.element(p, i, size, n, o), t)) })
	}, func() {
		report()
		g.B.Set(v, g.B.Const(0))
	})
	return Scalar(t, g.B.Get(v))
}

// element gives element i of the array at p; n is its length, -1 when it is not known. Behind the end of the program's own memory lies
// its last element.
func (g *Gen) element(p Place, i *ir.Value, size, n int, o Operand) Place {
	if p.IsPlain() && n < 0 && o.V != nil { // a pointer into memory of the program does not say how much there is
		p.Ptr, p.Base, p.Off = g.asInt(g.pointer(p)), nil, 0
	}
	if i.Op == ir.OpConst && (n < 0 || i.Imm >= 0 && i.Imm < int64(n) || !p.IsPlain()) {
		if off := i.Imm * int64(size); off > -1<<24 && off < 1<<24 {
			if n < 0 && p.Ptr.Type == ir.BTF && off != 0 {
				p.Ptr, p.Base = g.asInt(p.Ptr), nil
			}
			return p.At(int(off), size)
		}
	}
	if p.IsPlain() {
		if n < 0 {
			n = 1
			if s := o.P.Size; s > size {
				n = s / size
			}
		}
		i = g.B.Bound(i, int64(n-1))
		if size > 1 {
			i = g.B.OpImm(ir.OpMul, i, int64(size))
		}
		p.Ptr = g.B.PtrAdd(p.Ptr, i)
		p.Size = size
		return p
	}
	if size > 1 {
		i = g.B.OpImm(ir.OpMul, i, int64(size))
	}
	space := g.spaceOf(p)
	g.needMemory(p)
	return Place{Ptr: g.B.Add(g.Address(p), i), Size: size, Space: space}
}

// deref reads what a pointer points to.
func (g *Gen) deref(o Operand, t *types.Type) Operand {
	if o.Type.Kind == types.Pointer {
		return g.Load(g.target(o), t)
	}
	if o.Type.IsScalar() { // *kaddr("x"): an integer used as an address
		return g.Load(Place{Ptr: g.asInt(o.V), Size: t.Size, Space: o.Type.Space}, t)
	}
	return g.Load(o.P, t) // an array decays to its first element
}

// addressOf lowers &x.
func (g *Gen) addressOf(e *ast.Unary, t *types.Type) Operand {
	g.want = want{}
	switch x := unparen(e.X).(type) {
	case *ast.Var:
		return Operand{Type: t, V: g.pointer(g.varPlace(g.Body.Vars[x]))}
	case *ast.MapRef:
		return g.mapAddress(x, t)
	}
	o := g.Expr(e.X)
	if o.V != nil {
		g.bug(e, "no address")
	}
	if o.P.IsPlain() {
		return Operand{Type: t, V: g.pointer(o.P)}
	}
	return Operand{Type: t, V: g.Address(o.P)}
}
