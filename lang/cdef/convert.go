package cdef

import (
	"fmt"
	"strconv"
	"strings"

	"modernc.org/cc/v4"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/types"
)

// converter turns the front end's types into ours.
type converter struct {
	defs    *Defs
	ast     *cc.AST
	prelude *prelude
	memo    map[cc.Type]*types.Type // structs and unions
	aligns  map[*types.Type]int     // their alignment
	attrs   map[cc.Type]memberAttrs
	faults  conversionFaults
	filled  map[cc.Type]bool // structs and unions whose members are known
	unnamed []*cc.EnumType   // enums without a tag
	behind  []structLike     // structs and unions behind pointers, to be filled when everything around them is
}

// conversionFaults are mistakes that the front end lets pass.
type conversionFaults []conversionFault

type conversionFault struct {
	code diag.Code
	word string // where to point: its place in the script
	msg  string
	hint string
}

func (f conversionFaults) Error() string { return f[0].msg }

// memberAttrs is what a struct's text says beyond its types: its own attributes, those of members by name, and the widths of
// its unnamed bit-fields in order. The front end uses but does not keep them.
type memberAttrs struct {
	own     memberAttr
	members map[string]memberAttr
	unnamed []int
}

type memberAttr struct {
	aligned int
	packed  bool
}

// unit converts everything at file scope.
func (c *converter) unit() (*unit, error) {
	u := &unit{
		structs: map[string]*types.Type{}, enums: map[string]*types.Type{}, typedefs: map[string]*types.Type{},
		consts: map[string]enumConst{}, macros: map[string]*Define{},
	}
	c.aligns = map[*types.Type]int{}
	for tu := c.ast.TranslationUnit; tu != nil; tu = tu.TranslationUnit {
		if d := tu.ExternalDeclaration; d != nil && d.Declaration != nil {
			c.scanAttrs(d.Declaration.DeclarationSpecifiers)
		}
	}
	for name, nodes := range c.ast.Scope.Nodes {
		for _, n := range nodes {
			switch n := n.(type) {
			case *cc.StructOrUnionSpecifier:
				if t := n.Type(); t != nil && !c.fromPrelude(name) && !isDeclaredOnly(t.(structLike)) {
					u.structs[name] = c.convert(t)
				}
			case *cc.EnumSpecifier:
				if t, ok := n.Type().(*cc.EnumType); ok && !c.fromPrelude(name) && n.EnumeratorList != nil {
					u.enums[name] = c.enum(t)
				}
			case *cc.Enumerator:
				c.enumerator(u, name, n)
			case *cc.Declarator:
				if n.IsTypename() && (c.prelude == nil || c.prelude.typedefs[name] == nil) && !strings.HasPrefix(name, "__predefined_") {
					t := *c.convert(n.Type())
					t.Name = name
					u.typedefs[name] = &t
				}
			}
		}
	}
	for len(c.behind) > 0 {
		t := c.behind[len(c.behind)-1]
		c.behind = c.behind[:len(c.behind)-1]
		c.convert(t)
	}
	for _, t := range c.unnamed {
		c.nameEnum(u, c.enum(t))
	}
	c.nameEnums(u)
	for name, m := range c.ast.Macros {
		def := &Define{Name: name, FuncLike: m.IsFnLike}
		switch v := m.Value().(type) {
		case cc.Int64Value:
			def.Value = &Value{Int: int64(v)}
		case cc.UInt64Value:
			def.Value = &Value{Int: int64(v), Unsigned: uint64(v) > 1<<63-1}
		case cc.StringValue:
			def.Value = &Value{Str: strings.TrimSuffix(string(v), "\x00"), IsString: true}
		}
		u.macros[name] = def
	}
	if len(c.faults) > 0 {
		return nil, c.faults
	}
	return u, nil
}

func (c *converter) fromPrelude(tag string) bool {
	return c.prelude != nil && c.prelude.structs[tag] != nil
}

func (c *converter) enumerator(u *unit, name string, n *cc.Enumerator) {
	if strings.HasPrefix(name, "__sonde_enum_") {
		return
	}
	e := enumConst{typ: types.TInt32}
	switch v := n.Value().(type) {
	case cc.Int64Value:
		e.value = int64(v)
	case cc.UInt64Value:
		e.value = int64(v)
	}
	u.consts[name] = e
}

// nameEnums gives each enumerator the type of its enum, so that values print by name.
func (c *converter) nameEnums(u *unit) {
	for _, t := range u.enums {
		c.nameEnum(u, t)
	}
}

func (c *converter) nameEnum(u *unit, t *types.Type) {
	for _, v := range t.Enum.Values {
		if e, ok := u.consts[v.Name]; ok {
			e.typ = t
			u.consts[v.Name] = e
		}
	}
}

// maxArrayBytes keeps sizes far from overflow; nothing in a kernel comes near it.
const maxArrayBytes = 1 << 30

func (c *converter) convert(t cc.Type) *types.Type {
	if td := t.Typedef(); td != nil && c.prelude != nil {
		if base := c.prelude.typedefs[td.Name()]; base != nil {
			return base
		}
	}
	switch t := t.(type) {
	case *cc.PointerType:
		return types.PointerTo(c.pointee(t.Elem()), types.SpaceNone, types.ProvRaw)
	case *cc.ArrayType:
		elem := t.Elem()
		if size := max(elem.Size(), 1); t.Len() > maxArrayBytes/size {
			c.fault("E0205", "[", "array of %d elements is too large", t.Len())
			return types.ArrayOf(types.TUint8, 0)
		}
		n := int(max(t.Len(), 0))
		if elem.Kind() == cc.Char && elem.Typedef() == nil && n > 0 {
			return types.StringOf(n) // as BTF's char arrays are taken
		}
		return types.ArrayOf(c.convert(elem), n)
	case *cc.StructType:
		return c.record(t, t.Tag(), false)
	case *cc.UnionType:
		return c.record(t, t.Tag(), true)
	case *cc.EnumType:
		return c.enum(t)
	case *cc.FunctionType:
		return types.TVoid
	}
	return c.scalar(t)
}

// pointee converts what a pointer points to; functions and incomplete types are void unless Base knows the struct.
func (c *converter) pointee(t cc.Type) *types.Type {
	if t == nil {
		return types.TVoid
	}
	// A struct may hold one that holds a pointer to it: what is behind a pointer must not be laid out on the way.
	if s, ok := t.(structLike); ok && !isDeclaredOnly(s) && !c.fromPrelude(tagOf(s)) && (s.Typedef() == nil || c.prelude == nil || c.prelude.typedefs[s.Typedef().Name()] == nil) {
		_, union := s.(*cc.UnionType)
		c.behind = append(c.behind, s)
		return c.place(s, union)
	}
	return c.convert(t)
}

func (c *converter) scalar(t cc.Type) *types.Type {
	size := int(t.Size())
	switch {
	case t.Kind() == cc.Void:
		return types.TVoid
	case t.Kind() == cc.Bool:
		return named(types.TUint8, "_Bool") // as bpftrace takes it in a script's own struct: it prints as 0 or 1
	case t.Kind() == cc.Char:
		return named(types.TInt8, "char") // plain char is signed here, whatever the architecture says
	case cc.IsIntegerType(t) && (size == 1 || size == 2 || size == 4 || size == 8):
		return named(types.IntOf(size, cc.IsSignedInteger(t)), typedefName(t))
	case cc.IsIntegerType(t) && size == 16:
		return types.ArrayOf(types.TUint64, 2)
	case size > 0:
		return types.ArrayOf(types.TUint8, size) // floating point: only the bytes can be shown
	}
	return types.TVoid
}

func typedefName(t cc.Type) string {
	if d := t.Typedef(); d != nil {
		return d.Name()
	}
	return ""
}

func named(t *types.Type, name string) *types.Type {
	if name == "" {
		return t
	}
	n := *t
	n.Name = name
	return &n
}

// structLike is what cc.StructType and cc.UnionType have in common.
type structLike interface {
	cc.Type
	NumFields() int
	FieldByIndex(int) *cc.Field
}

func (c *converter) record(t structLike, tagToken cc.Token, union bool) *types.Type {
	tag := tagToken.SrcStr()
	if c.fromPrelude(tag) {
		return c.prelude.structs[tag]
	}
	out := c.place(t, union)
	if c.filled[t] {
		return out
	}
	c.filled[t] = true
	def := out.Struct
	if isDeclaredOnly(t) {
		if tag != "" && c.defs.opts.Base != nil {
			if base := c.defs.opts.Base.StructType(tag); base != nil {
				c.memo[t] = base
				return base
			}
		}
		def.Resolve = func() []types.Field { return nil }
		return out
	}
	packed, attrAlign := c.structAttrs(t)
	members := make([]member, 0, t.NumFields())
	seen := map[string]bool{}
	unnamed := c.attrs[t].unnamed
	for i := range t.NumFields() {
		if c.declaresNothing(t.FieldByIndex(i)) {
			continue
		}
		m := c.member(t, t.FieldByIndex(i))
		if m.bits >= 0 && m.name == "" && len(unnamed) > 0 {
			m.bits, unnamed = unnamed[0], unnamed[1:]
		}
		if m.name != "" && seen[m.name] {
			c.fault("E0205", m.name, "member `%s` is there twice in `%s`", m.name, out)
		}
		seen[m.name] = true
		members = append(members, m)
	}
	fields, size, align := layout(members, union, packed, attrAlign)
	def.Size, out.Size = size, size
	def.Resolve = func() []types.Field { return fields }
	c.aligns[out] = align
	return out
}

// declaresNothing reports whether a member only names a struct that is not defined, or is being defined: `struct s { int a; struct s; }`.
func (c *converter) declaresNothing(f *cc.Field) bool {
	t, ok := f.Type().(structLike)
	if !ok || f.Name() != "" || f.IsBitfield() {
		return false
	}
	return isDeclaredOnly(t) || c.beingDefined(t)
}

// beingDefined reports whether the members of a struct are being read: it has no size yet.
func (c *converter) beingDefined(t structLike) bool {
	return c.filled[t] && !isDeclaredOnly(t) && c.aligns[c.memo[t]] == 0
}

// place is the type of a struct or union, whose members may follow later.
func (c *converter) place(t structLike, union bool) *types.Type {
	if out := c.memo[t]; out != nil {
		return out
	}
	out := &types.Type{Kind: types.Struct, Struct: &types.StructDef{Name: tagOf(t), Union: union, Resolve: func() []types.Field { return nil }}}
	c.memo[t] = out
	return out
}

func tagOf(t structLike) string {
	switch t := t.(type) {
	case *cc.StructType:
		tag := t.Tag()
		return tag.SrcStr()
	case *cc.UnionType:
		tag := t.Tag()
		return tag.SrcStr()
	}
	return ""
}

// structAttrs returns what the struct's own attributes say.
func (c *converter) structAttrs(t structLike) (packed bool, align int) {
	if a := t.Attributes(); a != nil {
		packed = a.IsAttrSet("packed") || a.IsAttrSet("__packed__")
	}
	switch align = c.attrs[t].own.aligned; {
	case align < 0:
		align = t.Align() // an expression that only the front end can evaluate
	case align == 0 && t.Attributes() != nil:
		align = int(max(t.Attributes().Aligned(), 0))
	}
	return packed, align
}

func (c *converter) member(t structLike, f *cc.Field) member {
	typ := c.convert(f.Type())
	m := member{name: f.Name(), typ: typ, size: typ.Size, align: c.alignOf(typ), bits: -1}
	if tag, ok := incompleteTag(f.Type()); ok && typ.Size == 0 {
		c.fault("E0202", tag, "unknown type `struct %s` of member `%s`", tag, m.name)
	}
	if s, ok := elemOf(f.Type()).(structLike); ok && c.beingDefined(s) {
		f := c.fault("E0202", m.name, "member `%s` is of the type `%s`, which is not complete before its closing brace", m.name, typ)
		f.hint = fmt.Sprintf("a pointer can be a member: `%s *%s`", c.convert(s), m.name)
	}
	if _, scalar := elemOf(f.Type()).(*cc.PredefinedType); scalar && f.Type().Typedef() == nil {
		m.align = f.Type().Align() // for floating point, which we keep as bytes
	}
	if f.IsBitfield() {
		m.bits = int(f.ValueBits())
	}
	attr := c.attrs[t].members[m.name]
	m.aligned, m.packed = max(attr.aligned, 0), attr.packed
	return m
}

// isDeclaredOnly reports whether a struct has no definition. (One that embeds such a struct is incomplete, too, but has members.)
func isDeclaredOnly(t structLike) bool { return t.IsIncomplete() && t.NumFields() == 0 }

// elemOf returns the type of the elements of an array of any dimension, other types as they are.
func elemOf(t cc.Type) cc.Type {
	for {
		a, ok := t.(*cc.ArrayType)
		if !ok {
			return t
		}
		t = a.Elem()
	}
}

// incompleteTag returns the tag of a struct that was declared but not defined, also as the element of an array.
func incompleteTag(t cc.Type) (string, bool) {
	switch t := elemOf(t).(type) {
	case *cc.StructType:
		tag := t.Tag()
		return tag.SrcStr(), isDeclaredOnly(t)
	case *cc.UnionType:
		tag := t.Tag()
		return tag.SrcStr(), isDeclaredOnly(t)
	}
	return "", false
}

func (c *converter) fault(code diag.Code, word, format string, args ...any) *conversionFault {
	c.faults = append(c.faults, conversionFault{code, word, fmt.Sprintf(format, args...), "check the definition"})
	return &c.faults[len(c.faults)-1]
}

// alignOf returns the alignment of a converted type.
func (c *converter) alignOf(t *types.Type) int {
	if a := c.aligns[t]; a > 0 {
		return a
	}
	if t.Kind == types.Array && t.Elem != nil {
		return c.alignOf(t.Elem)
	}
	return alignOf(t)
}

func (c *converter) enum(t *cc.EnumType) *types.Type {
	if done := c.memo[t]; done != nil {
		return done
	}
	tag := t.Tag()
	name := tag.SrcStr()
	if c.fromPrelude(name) {
		return c.prelude.structs[name]
	}
	size := int(t.Size())
	if a := t.Attributes(); a != nil && a.IsAttrSet("packed") {
		size = packedEnumSize(t.Min(), t.Max())
	}
	def := &types.EnumDef{Name: name, Size: size, Signed: t.Min() < 0}
	for _, e := range t.Enumerators() {
		v := types.EnumValue{Name: e.Token.SrcStr()}
		switch x := e.Value().(type) {
		case cc.Int64Value:
			v.Value = int64(x)
		case cc.UInt64Value:
			v.Value = int64(x)
		}
		def.Values = append(def.Values, v)
	}
	out := &types.Type{Kind: types.Enum, Size: size, Signed: def.Signed, Enum: def}
	c.memo[t] = out
	return out
}

func packedEnumSize(low int64, high uint64) int {
	for _, size := range []int{1, 2, 4} {
		bits := uint(size * 8)
		if low < 0 {
			if low >= -1<<(bits-1) && high < 1<<(bits-1) {
				return size
			}
		} else if high < 1<<bits {
			return size
		}
	}
	return 8
}

var alignedPattern = lazyPattern(`aligned(?:__)?\s*(?:\(\s*(\d+)\s*\)|\()?`)

// scanAttrs notes the attributes of members and of packed structs, which the front end keeps only in its tree.
func (c *converter) scanAttrs(s *cc.DeclarationSpecifiers) {
	for ; s != nil; s = s.DeclarationSpecifiers {
		if s.TypeSpecifier != nil {
			c.scanType(s.TypeSpecifier)
		}
	}
}

// scanType looks at what a declaration defines; it reports whether that is a struct or union.
func (c *converter) scanType(s *cc.TypeSpecifier) bool {
	if e := s.EnumSpecifier; e != nil && e.EnumeratorList != nil {
		if t, ok := e.Type().(*cc.EnumType); ok {
			if tag := t.Tag(); tag.SrcStr() == "" {
				c.unnamed = append(c.unnamed, t)
			}
		}
	}
	if s.StructOrUnionSpecifier == nil {
		return false
	}
	c.scanStruct(s.StructOrUnionSpecifier)
	return true
}

func (c *converter) scanStruct(s *cc.StructOrUnionSpecifier) {
	if s.StructDeclarationList == nil || s.Type() == nil {
		return
	}
	attrs := memberAttrs{members: map[string]memberAttr{}}
	for _, list := range []*cc.AttributeSpecifierList{s.AttributeSpecifierList, s.AttributeSpecifierList2} {
		if list != nil {
			if a := parseAttr(cc.NodeSource(list)); a.aligned != 0 {
				attrs.own = a
			}
		}
	}
	for l := s.StructDeclarationList; l != nil; l = l.StructDeclarationList {
		d := l.StructDeclaration
		if d == nil {
			continue
		}
		nested := false
		for q := d.SpecifierQualifierList; q != nil; q = q.SpecifierQualifierList {
			if q.TypeSpecifier != nil && c.scanType(q.TypeSpecifier) {
				nested = true
			}
		}
		var attr memberAttr
		switch {
		case d.AttributeSpecifierList != nil:
			attr = parseAttr(cc.NodeSource(d.AttributeSpecifierList))
		case !nested:
			// An attribute in front of or behind the type.
			attr = parseAttr(cc.NodeSource(d))
		}
		for dl := d.StructDeclaratorList; dl != nil; dl = dl.StructDeclaratorList {
			switch sd := dl.StructDeclarator; {
			case sd == nil:
			case sd.Declarator != nil:
				if attr != (memberAttr{}) {
					attrs.members[sd.Declarator.Name()] = attr
				}
			case sd.ConstantExpression != nil:
				attrs.unnamed = append(attrs.unnamed, width(sd.ConstantExpression.Value()))
			}
		}
	}
	c.attrs[s.Type()] = attrs
}

func width(v cc.Value) int {
	switch v := v.(type) {
	case cc.Int64Value:
		return int(v)
	case cc.UInt64Value:
		return int(v)
	}
	return 0
}

// parseAttr reads the two attributes that matter out of their text.
func parseAttr(text string) memberAttr {
	if !strings.Contains(text, "__attribute") && !strings.Contains(text, "_Alignas") {
		return memberAttr{}
	}
	a := memberAttr{packed: strings.Contains(text, "packed")}
	if m := alignedPattern().FindStringSubmatch(text); m != nil {
		switch {
		case m[1] != "":
			a.aligned, _ = strconv.Atoi(m[1])
		case strings.HasSuffix(m[0], "("):
			a.aligned = -1
		default:
			a.aligned = 16 // without a number it means the largest alignment of the machine
		}
	}
	return a
}
