package check

import (
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// cast types (T)x.
func (b *body) cast(e *ast.Cast) *types.Type {
	x := b.value(e.X)
	t := b.typeSpec(e.Type)
	if x == nil || t == nil {
		return nil
	}
	if bad(x) || bad(t) {
		return types.TInvalid
	}
	if t = b.castTo(e, t, x); bad(t) {
		return t
	}
	b.needlessCast(e, t, x)
	b.constCast(e, t)
	return t
}

// needlessCast warns of a cast to the type that the value has anyway.
func (b *body) needlessCast(e *ast.Cast, t, x *types.Type) {
	switch x.Kind {
	case types.Int, types.Bool, types.String, types.Array, types.Pointer:
	default:
		return
	}
	if !b.final || b.fromMacro() {
		return
	}
	if v, lit := b.lits[e.X]; lit {
		if !literalOf(v, t) {
			return
		}
	} else if isOpen(x) {
		return
	} else if !sameTarget(t, x) {
		return
	}
	b.warnf(CodeNeedlessCast, castSpan(e), "Unnecessary cast: expression is already of type %s", t)
}

// sameTarget tells whether two types are equal; pointers are when what they point to is, whatever space that lies in.
func sameTarget(t, x *types.Type) bool {
	if x.Kind != types.Pointer {
		return types.Equal(t, x)
	}
	return t.Kind == types.Pointer && (t.Elem == x.Elem || types.Equal(t.Elem, x.Elem))
}

// literalOf tells whether t is the type of an integer literal: the smallest signed one that holds it, or uint64.
func literalOf(v value, t *types.Type) bool {
	if v.kind == intValue && !v.neg && v.bits>>63 != 0 {
		return t.Kind == types.Int && !t.Signed && t.Size == 8
	}
	if v.kind != intValue || t.Kind != types.Int || !t.Signed {
		return false
	}
	fits := func(size int) bool { return truncate(int64(v.bits), size, true) == int64(v.bits) }
	return fits(t.Size) && (t.Size == 1 || !fits(t.Size/2))
}

// castSpan is the type of a cast with its parentheses.
func castSpan(e *ast.Cast) source.Span {
	sp := e.Sp
	if x := e.X.Span(); x.Start > sp.Start && x.Start < sp.End {
		sp.End = x.Start
	}
	return sp
}

func (b *body) castTo(e *ast.Cast, t, x *types.Type) *types.Type {
	fail := func() *types.Type {
		return b.invalid(CodeCast, castSpan(e), "Cannot cast from \"%s\" to \"%s\"", b.name(x), t)
	}
	if t.Kind == types.Array && t.Len == 0 && t.Elem.Size > 0 {
		size := x.Size
		if x.Kind == types.String || x.IsScalar() || x.Kind == types.Array || x.Kind == types.Mac || x.Kind == types.Inet {
			if size%t.Elem.Size != 0 {
				return b.invalid(CodeCast, e.Sp, "cannot tell the length of the array: %d bytes are no multiple of `%s`", size, t.Elem)
			}
			t = types.ArrayOf(t.Elem, size/t.Elem.Size)
		}
	}
	if t.Kind == types.String && t.Size == 0 {
		t = types.StringOf(max(x.Size, 1))
	}
	if limit := b.c.info.Config.MaxStrlen; t.Kind == types.String && limit > 0 && t.Size > limit {
		d := b.errorf(CodeStringTooLong, e.Sp, "`%s` is longer than the limit of %d bytes", t, limit)
		d.Hint("raise `max_strlen` in the config block")
		return types.TInvalid
	}
	space, prov := b.castSpace(x), types.ProvRaw
	switch {
	case x.Kind == types.Struct || x.Kind == types.Tuple || x.Kind == types.Record || x.Kind == types.TypeValue:
		if t.Kind == x.Kind {
			if j, ok := b.c.pool.promote(t, x); ok && types.Equal(j, t) {
				return t
			}
		}
		return fail()
	case x.Kind == types.Args && (t.Kind == types.Int || t.Kind == types.Pointer): // old scripts cast args
		return b.c.pool.withSpace(t, space, types.ProvRaw)
	case x.IsAggregation() && !isCastable(x):
		return fail()
	}
	switch t.Kind {
	case types.Int, types.Enum:
		return b.castInt(e, t, x, fail)
	case types.Bool:
		if x.IsInteger() || x.Kind == types.Pointer || isCastable(x) || x.Kind == types.String {
			return t
		}
	case types.Pointer:
		switch {
		case x.Kind == types.Pointer:
			if x.Prov == types.ProvBPF {
				prov = types.ProvBPF
			} else if samePointee(x, t) || x.Prov == types.ProvCtx {
				prov = x.Prov
			}
			return b.c.pool.withSpace(t, space, prov)
		case x.IsInteger() || isCastable(x):
			return b.c.pool.withSpace(t, space, prov)
		case x.Kind == types.String:
			return b.addressOfString(e, t, x)
		case x.Kind == types.KSym:
			return b.c.pool.withSpace(t, types.SpaceKernel, prov)
		case x.Kind == types.Array && x.Size == 8:
			return b.c.pool.withSpace(t, space, prov)
		}
	case types.Array:
		return b.castArray(t, x, fail)
	case types.String:
		switch {
		case x.Kind == types.String && t.Size >= x.Size:
			return t
		case x.Kind == types.Array && x.Elem.Kind == types.Int && x.Elem.Size == 1 && t.Size >= x.Size:
			return t
		}
	case types.Username:
		if x.IsInteger() {
			return t
		}
	}
	if types.Equal(t, x) {
		return t
	}
	return fail()
}

// addressOfString is the type of the address of a string: in the kernel or the process if the string is a field there, else in memory of the
// program, which for a variable is that of the variable.
func (b *body) addressOfString(e *ast.Cast, t, x *types.Type) *types.Type {
	switch v := unparen(e.X).(type) {
	case *ast.Var:
		b.Vars[v].Addr = true
	case *ast.Field:
		if x.Space != types.SpaceNone {
			return b.c.pool.withSpace(t, x.Space, types.ProvRaw)
		}
	}
	return types.PointerTo(t.Elem, types.SpaceBPF, types.ProvBPF)
}

// castSpace is the address space of a pointer made from x: that of the value, else the one of the probe.
func (b *body) castSpace(x *types.Type) types.Space {
	if x.Space != types.SpaceNone {
		return x.Space
	}
	return b.Points[0].Space
}

func (b *body) castInt(e *ast.Cast, t, x *types.Type, fail func() *types.Type) *types.Type {
	switch {
	case x.IsInteger() || x.Kind == types.Pointer || isCastable(x):
	case x.Kind == types.KSym || x.Kind == types.Func || x.Kind == types.Username || x.Kind == types.Strerror:
	case x.Kind == types.Array && x.Size == t.Size && x.Elem.IsInteger():
	default:
		return fail()
	}
	if t.Kind == types.Enum {
		if c, ok := b.lits[e.X]; ok && c.kind == intValue && t.Enum != nil {
			if _, known := t.Enum.ValueName(int64(c.bits)); !known {
				return b.invalid(CodeCast, castSpan(e), "Enum: %s doesn't contain a variant value of %d", t.Enum.Name, int64(c.bits))
			}
		}
		return t
	}
	return b.c.pool.withSpace(t, x.Space, types.ProvRaw)
}

func (b *body) fromMacro() bool { return b.current != nil && len(b.current.origin) > 0 }

func (b *body) castArray(t, x *types.Type, fail func() *types.Type) *types.Type {
	if t.Elem.Kind != types.Int && t.Elem.Kind != types.Bool {
		return fail()
	}
	switch {
	case x.Kind == types.Int && (t.Size == x.Size || t.Size <= 8 && t.Size > x.Size):
	case x.Kind == types.Bool && t.Size == x.Size:
	case x.Kind == types.String && t.Size == x.Size:
	case (x.Kind == types.Array || x.Kind == types.Mac) && t.Size == x.Size:
	case x.Kind == types.Enum && t.Size == x.Size:
	default:
		return fail()
	}
	return b.c.pool.withSpace(t, x.Space, types.ProvBPF)
}

// constCast notes the value of a cast of a known integer.
func (b *body) constCast(e *ast.Cast, t *types.Type) {
	c, ok := b.Consts[e.X]
	if !ok {
		return
	}
	if c.IsString {
		if t.Kind == types.String {
			b.Consts[e] = c
		}
		return
	}
	switch t.Kind {
	case types.Int, types.Enum, types.Pointer:
		b.Consts[e] = Const{Int: truncate(c.Int, t.Size, t.Signed)}
	case types.Bool:
		b.Consts[e] = boolVal(c.Int != 0).constant()
	}
}

// truncate wraps v to an integer of size bytes.
func truncate(v int64, size int, signed bool) int64 {
	shift := 64 - 8*uint(size)
	if size <= 0 || size >= 8 {
		return v
	}
	if signed {
		return v << shift >> shift
	}
	return int64(uint64(v) << shift >> shift)
}
