package check

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/types"
)

// field types x.name and x->name; pointers are followed by either.
func (b *body) field(e *ast.Field) *types.Type {
	x := b.value(e.X)
	if x == nil || bad(x) {
		return x
	}
	base := x
	for base.Kind == types.Pointer && base.Elem != nil {
		next := b.pointee(base)
		if next.Kind == types.Pointer {
			next = b.c.pool.withSpace(next, next.Space, types.ProvRaw)
		}
		base = next
	}
	switch base.Kind {
	case types.Args:
		return b.argsField(e, base)
	case types.Struct:
		return b.structField(e, base)
	case types.Record:
		for _, f := range base.Fields {
			if f.Name == e.Name {
				b.constField(e, f)
				return f.Type
			}
		}
		d := b.errorf(CodeUnknownField, e.Sp, "Record does not contain a field named '%s'", e.Name)
		d.Hint("it is a %s", b.name(base))
		didYouMean(d, e.Name, fieldNames(base.Fields))
		return types.TInvalid
	}
	d := b.errorf(CodeUnknownField, e.Sp, "Can not access field '%s' on expression of type '%s'", e.Name, b.name(x))
	if base.IsInteger() {
		d.Hint("cast it first: `((struct T *)x).%s`", e.Name)
	}
	return types.TInvalid
}

// constField makes a field of a typeinfo record a constant.
func (b *body) constField(e *ast.Field, f types.Field) {
	ti, ok := unparen(e.X).(*ast.Typeinfo)
	if !ok {
		return
	}
	t := b.infoType[ti]
	if t == nil {
		return
	}
	switch f.Name {
	case "btf_id":
		b.setLit(e, intVal(0))
	case "base_type":
		b.setLit(e, strVal(baseTypeName(t)))
	case "full_type":
		b.setLit(e, strVal(b.name(t)))
	}
}

func fieldNames(fields []types.Field) []string {
	var names []string
	for _, f := range fields {
		if f.Name == "" && f.Type != nil && f.Type.Kind == types.Struct && f.Type.Struct != nil {
			names = append(names, fieldNames(f.Type.Struct.Resolve())...)
			continue
		}
		names = append(names, f.Name)
	}
	return names
}

func (b *body) argsField(e *ast.Field, args *types.Type) *types.Type {
	if args.Struct == nil {
		return types.TInvalid
	}
	f, ok := args.Struct.Field(e.Name)
	if rest, old := strings.CutPrefix(e.Name, "data_loc_"); !ok && old { // the name that the format of the tracepoint has for it
		f, ok = args.Struct.Field(rest)
	}
	if ok && strings.HasPrefix(e.Name, "common_") && f.ArgIndex < 0 && f.Offset < 8 {
		d := b.errorf(CodeUnknownField, e.Sp, "the kernel does not let programs read the common fields of tracepoints")
		if e.Name == "common_pid" {
			d.Hint("use `pid` or `tid`")
		}
		return types.TInvalid
	}
	if !ok {
		names := fieldNames(args.Struct.Resolve())
		text := fmt.Sprintf("Can't find function parameter %s", e.Name)
		if b.Points[0].Kind.Name() == "tracepoint" {
			text = fmt.Sprintf("Struct/union of type 'struct %s_args' does not contain a field named '%s'", b.Points[0].Name, e.Name)
		}
		d := b.errorf(CodeUnknownField, e.Sp, "%s", text)
		if n := diag.Nearest(e.Name, names); n != "" {
			d.Hint("use `%s`?", n)
		} else if len(names) > 0 {
			d.Hint("choose one of %s", strings.Join(names[:min(len(names), 12)], ", "))
		}
		return types.TInvalid
	}
	if f.Type == nil || bad(f.Type) {
		return b.invalid(CodeUnknownField, e.NameSp, "field `%s` has a type that cannot be read", e.Name)
	}
	return f.Type
}

func (b *body) structField(e *ast.Field, base *types.Type) *types.Type {
	s := base.Struct
	f, ok := s.Field(e.Name)
	if !ok {
		if base.Size == 0 && len(s.Resolve()) == 0 {
			d := b.errorf(CodeUnknownType, e.NameSp, "the definition of `%s` is not known", base)
			didYouMean(d, s.Name, b.c.defs.Names("struct", prefix(s.Name, 3), 200))
			return types.TInvalid
		}
		d := b.errorf(CodeUnknownField, e.Sp, "Struct/union of type '%s' does not contain a field named '%s'", base, e.Name)
		didYouMean(d, e.Name, fieldNames(s.Resolve()))
		return types.TInvalid
	}
	return b.member(f.Type, base)
}

func prefix(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// member is the type of something inside of base: it lives where base lives.
func (b *body) member(t, base *types.Type) *types.Type {
	if t.Kind == types.Pointer {
		return b.innerPointer(t, base.Space, base.Prov, base.Prov)
	}
	return b.inside(t, base)
}

// inside is the type of what lies in base. A number in the context is a register of what is probed: as an address it is one there.
func (b *body) inside(t, base *types.Type) *types.Type {
	if base.Prov == types.ProvCtx && t.Kind == types.Int {
		return b.c.pool.withSpace(t, b.Points[0].Space, types.ProvRaw)
	}
	return b.c.pool.withSpace(t, base.Space, base.Prov)
}

// innerPointer is the type of a pointer that is stored in memory of the given space. What it points to is in the same space unless its type
// says user (__user). It is trusted only when it was read from a trusted struct: the verifier knows nothing about what an array of
// pointers or a pointer to a pointer leads to.
func (b *body) innerPointer(t *types.Type, space types.Space, prov, holder types.Provenance) *types.Type {
	switch {
	case t.Space == types.SpaceUser && space == types.SpaceKernel:
		space = types.SpaceUser
	case space == types.SpaceNone || space == types.SpaceBPF:
		space = t.Space
	}
	if prov != types.ProvBTF || holder != types.ProvBTF || space == types.SpaceUser {
		prov = types.ProvRaw
	}
	return b.c.pool.withSpace(t, space, prov)
}

// tupleField types x.0.
func (b *body) tupleField(e *ast.TupleField) *types.Type {
	x := b.value(e.X)
	if x == nil || bad(x) {
		return x
	}
	if x.Kind != types.Tuple {
		return b.invalid(CodeIndex, e.Sp, "Can not access index '%d' on expression of type '%s'", e.Index, b.name(x))
	}
	return b.tupleElem(e, x, int64(e.Index))
}

// elements says how many elements a tuple has, as bpftrace does.
func elements(n int) string { return strconv.Itoa(n) + " elements" }

func (b *body) tupleElem(e ast.Expr, x *types.Type, i int64) *types.Type {
	if i < 0 || i >= int64(len(x.Fields)) {
		return b.invalid(CodeIndex, e.Span(), "Invalid tuple index: %d. Found %s in tuple.", i, elements(len(x.Fields)))
	}
	return x.Fields[i].Type
}

// index types x[i] and @m[keys].
func (b *body) index(e *ast.Index) *types.Type {
	if m, ok := unparen(e.X).(*ast.MapRef); ok {
		return b.mapIndex(e, m)
	}
	x := b.value(e.X)
	var i *types.Type
	for n, k := range e.Keys {
		t := b.value(k)
		if n == 0 {
			i = t
		}
	}
	if x == nil || bad(x) || i == nil || bad(i) {
		if bad(x) || bad(i) {
			return types.TInvalid
		}
		return nil
	}
	if len(e.Keys) != 1 {
		return b.invalid(CodeIndex, e.Sp, "one index is needed here, got %d", len(e.Keys))
	}
	n, known := b.Consts[e.Keys[0]]
	known = known && !n.IsString
	if x.Kind == types.Tuple {
		if !known {
			return b.invalid(CodeIndex, e.Sp, "Array-style access for tuples only valid for integer literals")
		}
		return b.tupleElem(e, x, n.Int)
	}
	if i.Kind != types.Int && i.Kind != types.Enum && i.Kind != types.Bool && !isCastable(i) {
		return b.invalid(CodeIndex, e.Keys[0].Span(), "The array index operator [] only accepts non-negative integer indices. Got: %s", b.name(i))
	}
	if known && n.Int < 0 && i.Signed || !known && i.Kind == types.Int && i.Signed && !isOpen(i) {
		d := b.errorf(CodeIndex, e.Keys[0].Span(), "The array index operator [] only accepts non-negative integer indices. Got: %s", b.name(i))
		d.Hint("cast it to an unsigned type")
		return types.TInvalid
	}
	var t *types.Type
	length := int64(0)
	switch x.Kind {
	case types.Array:
		t, length = b.arrayElem(x), int64(x.Len)
	case types.String:
		t, length = b.c.pool.withSpace(types.TInt8, x.Space, x.Prov), int64(x.Size)
	case types.Pointer:
		if isVoid(x.Elem) || x.Elem.Size == 0 {
			return b.invalid(CodeIndex, e.Sp, "a pointer to a type without a size cannot be indexed: `%s`", x)
		}
		raw := b.c.pool.withSpace(x, x.Space, rawUnlessBPF(x.Prov))
		t = b.pointee(raw)
	default:
		return b.invalid(CodeIndex, e.Sp, "The array index operator [] can only be used on arrays, pointers, and tuples, found %s.", b.name(x))
	}
	if known && length > 0 && n.Int >= length {
		return b.invalid(CodeIndex, e.Sp, "the index %d is out of bounds for array of size %d", n.Int, length)
	}
	return t
}

func rawUnlessBPF(p types.Provenance) types.Provenance {
	if p == types.ProvBPF || p == types.ProvCtx {
		return p
	}
	return types.ProvRaw
}

func (b *body) arrayElem(x *types.Type) *types.Type {
	if x.Elem.Kind == types.Pointer {
		return b.innerPointer(x.Elem, x.Space, types.ProvRaw, x.Prov)
	}
	return b.inside(x.Elem, x)
}

// sizeof types sizeof(type) and sizeof(expr), which are literals.
func (b *body) sizeof(e *ast.Sizeof) *types.Type {
	t := b.operand(e.Type, e.X)
	if t == nil || bad(t) {
		return t
	}
	size := t.Size
	switch {
	case t.Kind == types.Args && t.Struct != nil:
		size = t.Struct.Size
	case t.Kind == types.KStack || t.Kind == types.UStack: // the limit of frames, and a word in front (two for a process's)
		size = 8 + 8*127
		if t.Frames != 0 {
			size = 8 + 8*max(t.Frames, 0)
		}
		if t.Kind == types.UStack {
			size += 8
		}
	case t.Kind == types.Enum && e.Type != nil:
		size = 8 // an enumerator is a 64-bit value
	}
	v := intVal(int64(size))
	b.setLit(e, v)
	return b.litType(v)
}

// operand is the type of the operand of sizeof and its like, which is not evaluated.
func (b *body) operand(spec *ast.TypeSpec, x ast.Expr) *types.Type {
	if spec != nil {
		return b.typeSpec(spec)
	}
	if t := b.bareType(x); t != nil {
		return t
	}
	if m, ok := unparen(x).(*ast.MapRef); ok {
		st := b.c.mapOf(m)
		st.asked = true
		b.readMap(st)
		if st.keyed.IsValid() && !st.scalar.IsValid() { // a map with keys as a whole stands for its keys
			b.Types[x], b.Types[m] = mapType, mapType
			return st.m.Key
		}
	}
	t := b.infer(x)
	b.ask(x)
	return t
}

// ask notes the variables and maps whose type was looked at.
func (b *body) ask(x ast.Expr) {
	ast.Inspect(x, func(n ast.Node) bool {
		switch e := n.(type) {
		case *ast.Var:
			if v := b.Vars[e]; v != nil {
				b.states[v].asked = true
			}
		case *ast.MapRef:
			b.c.mapOf(e).asked = true
		}
		return true
	})
}

// bareType is the type that a bare name stands for inside of sizeof, typeof and typeinfo; nil when x is none.
func (b *body) bareType(x ast.Expr) *types.Type {
	id, ok := unparen(x).(*ast.Ident)
	if !ok || b.c.u.Var(id.Name) != nil {
		return nil
	}
	t := builtinType(id.Name)
	if t == nil {
		t = b.c.defs.Typedef(id.Name)
	}
	if t != nil {
		b.Types[x] = &types.Type{Kind: types.TypeValue}
		b.Idents[id] = &Ident{Type: t}
	}
	return t
}

func (b *body) offsetof(e *ast.Offsetof) *types.Type {
	t := b.operand(e.Type, e.X)
	if t == nil || bad(t) {
		return t
	}
	if t.Kind == types.Pointer {
		d := b.errorf(CodeUnknownField, e.Sp, "'%s' is not a C type.", b.name(t))
		if e.X != nil {
			d.Hint("take the struct that it points to: `offsetof(*...)`")
		}
		return types.TInvalid
	}
	off := 0
	for _, name := range e.Fields {
		if t.Kind != types.Struct && t.Kind != types.Args && t.Kind != types.Record || t.Kind != types.Record && t.Struct == nil {
			return b.invalid(CodeUnknownField, e.Sp, "'%s' is not a C type.", b.name(t))
		}
		var f types.Field
		var ok bool
		if t.Kind == types.Record {
			for _, g := range t.Fields {
				if g.Name == name {
					f, ok = g, true
				}
			}
		} else {
			f, ok = t.Struct.Field(name)
		}
		if !ok {
			d := b.errorf(CodeUnknownField, e.Sp, "'%s' has no field named '%s'", b.name(t), name)
			if t.Struct != nil {
				didYouMean(d, name, fieldNames(t.Struct.Resolve()))
			}
			return types.TInvalid
		}
		off += f.Offset
		t = f.Type
	}
	v := intVal(int64(off))
	b.setLit(e, v)
	return b.litType(v)
}

// typeinfo gives a record that describes a type; all of it is known while compiling.
func (b *body) typeinfo(e *ast.Typeinfo) *types.Type {
	t := b.operand(e.Type, e.X)
	if t == nil || bad(t) {
		return t
	}
	t = b.c.mapInts(t, b.c.pool.named)
	if b.infoType == nil {
		b.infoType = map[*ast.Typeinfo]*types.Type{}
	}
	b.infoType[e] = t
	rec := types.TupleOf([]*types.Type{types.TUint64, types.StringOf(len(baseTypeName(t)) + 1), types.StringOf(len(b.name(t)) + 1)},
		[]string{"btf_id", "base_type", "full_type"})
	lits := []ast.Expr{&ast.IntLit{Base: e.Base}, &ast.StrLit{Base: e.Base, Value: baseTypeName(t)}, &ast.StrLit{Base: e.Base, Value: b.name(t)}}
	for i, v := range []Const{{}, {Str: baseTypeName(t), IsString: true}, {Str: b.name(t), IsString: true}} {
		b.Types[lits[i]], b.Consts[lits[i]] = rec.Fields[i].Type, v
	}
	if b.Infos == nil {
		b.Infos = map[*ast.Typeinfo][]ast.Expr{}
	}
	b.Infos[e] = lits
	return rec
}

// TypeInfo returns what typeinfo says about a type.
func TypeInfo(t *types.Type) (baseType, fullType string) { return baseTypeName(t), t.String() }

// baseTypeName is the kind of a type as typeinfo names it.
func baseTypeName(t *types.Type) string {
	switch t.Kind {
	case types.Int, types.Enum:
		return "int"
	case types.String:
		return "string"
	case types.Buffer:
		return "buffer"
	case types.Pointer:
		return "pointer"
	case types.Array:
		return "array"
	case types.Struct, types.Args:
		return "struct"
	case types.Tuple:
		return "tuple"
	case types.Record:
		return "record"
	}
	return t.String()
}
