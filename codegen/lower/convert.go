package lower

import (
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/types"
)

// asInt gives a value as an integer: pointers give their address.
func (g *Gen) asInt(v *ir.Value) *ir.Value {
	if v.Type == ir.I64 {
		return v
	}
	return g.B.PtrInt(v)
}

// ToInt gives an operand as a 64-bit integer, extended according to its type. Arrays of up to 8 bytes are read as one.
func (g *Gen) ToInt(o Operand) *ir.Value {
	if o.V != nil {
		return g.asInt(o.V)
	}
	return g.intOf(o)
}

// intOf reads a large value as an integer: the word that it starts with, up to 8 bytes.
func (g *Gen) intOf(o Operand) *ir.Value {
	size := 8
	for size > o.P.Size && size > 1 {
		size /= 2
	}
	return g.LoadScalar(o.P.At(0, size), types.IntOf(size, false))
}

// Convert gives an operand as type t.
func (g *Gen) Convert(o Operand, t *types.Type) Operand {
	if o.IsVoid() || t == nil || o.Type == t {
		return o
	}
	from := o.Type
	switch {
	case t.IsScalar() && from.IsScalar():
		if from.Kind == types.Pointer && t.Kind == types.Pointer {
			return Operand{Type: t, V: g.castPtr(o, t)}
		}
		return Scalar(t, g.convertInt(g.asInt(o.V), from, t))
	case t.IsScalar():
		if t.Kind == types.Pointer { // arrays and structs decay to their address
			return Scalar(t, g.Address(o.P))
		}
		return Scalar(t, g.convertInt(g.intOf(o), types.IntOf(8, false), t))
	case from.IsScalar(): // integer to array
		p := g.TempOf(t)
		if from.Kind == types.Int && from.Size < t.Size { // the bytes behind the integer's own are zero
			o = Scalar(types.IntOf(8, false), g.wrap(g.asInt(o.V), types.IntOf(from.Size, false)))
		}
		g.StoreValue(p, t, o)
		return Operand{Type: t, P: p}
	case sameLayout(from, t) && (t.Kind != types.String || from.Size == t.Size):
		o.Type = t
		return o
	}
	p := g.TempOf(t)
	g.StoreValue(p, t, o)
	return Operand{Type: t, P: p}
}

// convertInt converts between integer types.
func (g *Gen) convertInt(v *ir.Value, from, to *types.Type) *ir.Value {
	if to.Kind == types.Bool {
		if from.Kind == types.Bool {
			return v
		}
		return g.B.CmpImm(ir.OpNe, v, 0)
	}
	if !to.IsInteger() || to.Size >= 8 || to.Size == 0 {
		return v
	}
	fs := from.Size
	if from.Kind == types.Bool {
		fs = 1
	}
	fits := fs < to.Size && (!from.Signed || to.Signed) || fs == to.Size && from.Signed == to.Signed
	if fits && from.IsInteger() {
		return v
	}
	if v.Op == ir.OpConst {
		return g.B.Const(wrapConst(v.Imm, to.Size, to.Signed))
	}
	return g.B.Ext(v, to.Size*8, to.Signed)
}

func wrapConst(v int64, size int, signed bool) int64 {
	sh := uint(64 - 8*size)
	if signed {
		return v << sh >> sh
	}
	return int64(uint64(v) << sh >> sh)
}

// castPtr gives a pointer as another pointer type. A BTF pointer stays one only while it points to the same struct.
func (g *Gen) castPtr(o Operand, t *types.Type) *ir.Value {
	if o.V.Type != ir.BTF && o.V.Type != ir.BTFNil {
		return o.V
	}
	a, b := o.Type.Elem, t.Elem
	if a != nil && b != nil && a.Kind == types.Struct && types.Equal(a, b) {
		return o.V
	}
	return g.asInt(o.V)
}

func (g *Gen) cast(e *ast.Cast, t *types.Type) Operand {
	w := g.want
	g.want = want{}
	from := g.Type(e.X)
	if from != nil && from.Kind == types.String && t != nil && t.Kind == types.Pointer {
		return g.addressOfString(e.X, t)
	}
	if from != nil && !from.IsScalar() && t != nil && !t.IsScalar() {
		return g.Convert(g.exprWant(e.X, want{dest: w.dest}), t)
	}
	return g.Convert(g.Expr(e.X), t)
}

// addressOfString gives the address of a string as type t. What is in no place of its own is copied to one that lives as long as the program.
func (g *Gen) addressOfString(e ast.Expr, t *types.Type) Operand {
	if v, ok := unparen(e).(*ast.Var); ok && t.Space == types.SpaceBPF {
		return Operand{Type: t, V: g.pointer(g.varPlace(g.Body.Vars[v]))}
	}
	o := g.Expr(e)
	if t.Space != types.SpaceBPF && o.P.Space == t.Space {
		return Scalar(t, g.Address(o.P))
	}
	p := g.Keep("text", o.Type.Size, ir.SlotAuto)
	g.StoreValue(p, o.Type, o)
	if t.Space != types.SpaceBPF {
		return Scalar(t, g.Address(p))
	}
	return Operand{Type: t, V: g.pointer(p)}
}

// StoreValue puts an operand into memory as a value of type t: integers cut or extended, strings and buffers padded with zeros. When the
// operand is there already, only the padding is written.
func (g *Gen) StoreValue(dst Place, t *types.Type, o Operand) {
	dst.Size = t.Size
	if t.Kind == types.Args && !o.IsVoid() {
		dst.Size = min(max(t.Size, argsSize(t)), o.P.Size)
		if !samePlace(o.P, dst) {
			g.ReadMem(dst, o.P)
		}
		return
	}
	if o.IsVoid() {
		return
	}
	if t.IsScalar() {
		o = g.Convert(o, t)
		if t.Size > 0 {
			g.B.Store(dst.Ptr, int(dst.Off), t.Size, g.asInt(o.V))
		}
		return
	}
	if o.Type.IsScalar() { // integer into an array
		v := g.asInt(o.V)
		n := min(8, dst.Size)
		for n&(n-1) != 0 {
			n &= n - 1
		}
		g.B.Store(dst.Ptr, int(dst.Off), n, v)
		if dst.Size > n {
			g.zero(dst.At(n, dst.Size-n))
		}
		return
	}
	if dst.Size == 0 {
		return
	}
	if t.Kind == types.Struct && o.Type.Kind == types.Args {
		n := min(o.P.Size, dst.Size)
		g.ReadMem(dst.At(0, n), o.P.At(0, n))
		g.zero(dst.At(n, dst.Size-n))
		return
	}
	same := samePlace(o.P, dst)
	switch t.Kind {
	case types.Tuple, types.Record:
		if sameLayout(o.Type, t) {
			break
		}
		g.storeTuple(dst, t, o)
		return
	case types.String:
		if o.Len != nil {
			if same {
				panic("lower: a string without padding where one with padding is wanted")
			}
			g.zero(dst)
			g.B.Helper(asm.FnProbeReadKernelStr, g.pointer(dst), g.B.Const(int64(t.Size)), g.Address(o.P))
			return
		}
		if o.Type.Kind != types.String { // int8[n]: the last byte must be a NUL
			n := min(o.Type.Size, t.Size)
			g.ReadMem(dst.At(0, n), o.P.At(0, n))
			g.zero(dst.At(n, t.Size-n))
			if n == t.Size {
				g.B.Store(dst.Ptr, int(dst.Off)+n-1, 1, g.B.Const(0))
			}
			return
		}
	}
	n := min(o.Type.Size, t.Size)
	if !same {
		g.ReadMem(dst.At(0, n), o.P.At(0, n))
	}
	if t.Size > n {
		g.zero(dst.At(n, t.Size-n))
	} else if t.Kind == types.String && o.Type.Size > t.Size {
		g.B.Store(dst.Ptr, int(dst.Off)+n-1, 1, g.B.Const(0))
	}
}

// storeTuple converts field by field.
func (g *Gen) storeTuple(dst Place, t *types.Type, o Operand) {
	if len(o.Type.Fields) != len(t.Fields) {
		return
	}
	end := 0
	for i, f := range t.Fields {
		if f.Offset > end {
			g.zero(dst.At(end, f.Offset-end))
		}
		from := o.Type.Fields[types.Partner(t, i, o.Type)]
		g.StoreValue(dst.At(f.Offset, f.Type.Size), f.Type, g.Load(o.P.At(from.Offset, from.Type.Size), from.Type))
		end = f.Offset + f.Type.Size
	}
	if t.Size > end {
		g.zero(dst.At(end, t.Size-end))
	}
}

func samePlace(a, b Place) bool {
	if a.Ptr == nil || b.Ptr == nil || a.Off != b.Off && a.Ptr == b.Ptr {
		return false
	}
	if a.Ptr == b.Ptr {
		return true
	}
	x, ok := a.Ptr.Aux.(*ir.Slot)
	y, ok2 := b.Ptr.Aux.(*ir.Slot)
	return ok && ok2 && x == y && a.Ptr.Op == ir.OpSlotAddr && b.Ptr.Op == ir.OpSlotAddr && a.Ptr.Off+a.Off == b.Ptr.Off+b.Off
}
