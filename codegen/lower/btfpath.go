package lower

import (
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/types"
)

// IfBTFPointer calls then with the address of what e is (a struct inside of what a BTF pointer points to, or such a pointer), where no pointer on
// the way is nil. It reports whether e is reached by such pointers alone. Each one that is loaded is looked at: helpers do not all do, and the
// verifier wants it of those that it knows may be nil.
func (g *Gen) IfBTFPointer(e ast.Expr, then func(p *ir.Value)) bool {
	if f, ok := unparen(e).(*ast.Field); ok && g.isObject(f.X) {
		return g.ifPlace(f, func(p Place) { then(g.B.PtrAddImm(p.Ptr, int64(p.Off))) })
	}
	o := g.Expr(e)
	base, off := o.V, int64(0)
	if base == nil {
		base, off = o.P.Ptr, int64(o.P.Off)
	}
	return g.ifNonNil(base, func(p *ir.Value) { then(g.B.PtrAddImm(p, off)) })
}

// isObject reports whether members of e lie in an object of the kernel, or in a struct inside of one.
func (g *Gen) isObject(e ast.Expr) bool {
	t := g.Type(e)
	if t.Kind == types.Pointer {
		t = t.Elem
	}
	return t != nil && t.Kind == types.Struct && g.kernelStruct(t.Struct) != nil
}

// ifPlace calls then with the place of a member whose object is isObject, where the pointers on the way are not nil.
func (g *Gen) ifPlace(e *ast.Field, then func(p Place)) bool {
	xt := g.Type(e.X)
	if xt.Kind == types.Pointer {
		f, known := xt.Elem.Struct.Field(e.Name)
		base := g.kernelStruct(xt.Elem.Struct)
		return known && g.ifObject(e.X, func(p *ir.Value) { then(Place{Ptr: p, Base: base, Space: types.SpaceKernel}.At(f.Offset, f.Type.Size)) })
	}
	f, known := xt.Struct.Field(e.Name)
	x, ok := unparen(e.X).(*ast.Field)
	return known && ok && g.isObject(x.X) && g.ifPlace(x, func(p Place) { then(p.At(f.Offset, f.Type.Size)) })
}

// ifObject calls then with a pointer to an object, where it is not nil.
func (g *Gen) ifObject(e ast.Expr, then func(p *ir.Value)) bool {
	f, ok := unparen(e).(*ast.Field)
	if !ok || !g.isObject(f.X) {
		return g.ifNonNil(g.Expr(e).V, then)
	}
	want, typed := g.Type(e).Elem.Struct.Name, false
	reached := g.ifPlace(f, func(p Place) {
		if res, to := walk(p.Base, int(p.Off), 8); res == walkPtr && to.Name == want {
			typed = g.ifNonNil(g.B.LoadPtr(p.Ptr, int(p.Off), ir.BTFNil), then)
		}
	})
	return reached && typed
}

// ifNonNil calls then with a BTF pointer, where it is not nil; false when it is none.
func (g *Gen) ifNonNil(p *ir.Value, then func(p *ir.Value)) bool {
	switch {
	case p == nil:
		return false
	case p.Type == ir.BTF:
		then(p)
	case p.Type == ir.BTFNil:
		g.B.IfNonNil(p, then, nil)
	default:
		return false
	}
	return true
}
