package kernel

import (
	"fmt"
	"iter"
)

// Type is one decoded BTF type. It is a small value that points into the mapped BTF; copying it is free and nothing of
// it is on the heap. The zero Type is void.
type Type struct {
	ID   ID
	Kind Kind
	Name string // "" for anonymous types, pointers, arrays and the like

	// Size in bytes of an int, float, struct, union, enum or datasec; 0 for all others (use BTF.Sizeof).
	Size uint32

	// Ref is the type that a pointer, typedef, qualifier, tag or variable refers to, the prototype of a func, the
	// result of a func_proto and the element of an array.
	Ref ID

	flag bool
	n    uint32
	body []byte
	b    *BTF
}

// Type decodes the type with the given ID. An ID that does not exist, or whose bytes are malformed, gives an error.
func (b *BTF) Type(id ID) (Type, error) {
	if id == 0 {
		return Type{b: b}, nil
	}
	if id < b.firstID {
		if b.base == nil {
			return Type{}, fmt.Errorf("BTF type %d does not exist", id)
		}
		return b.base.Type(id)
	}
	off, ok := b.offset(id)
	if !ok {
		return Type{}, fmt.Errorf("BTF type %d does not exist", id)
	}
	return b.decode(id, off)
}

func (b *BTF) decode(id ID, off uint32) (Type, error) {
	h, next, ok := b.header(off)
	if !ok {
		return Type{}, fmt.Errorf("BTF type %d is malformed", id)
	}
	t := Type{
		ID: id, Kind: h.kind(), Name: b.str(h.name), flag: h.info>>31 != 0, n: h.vlen(),
		body: b.types[off+12 : next : next], b: b,
	}
	switch t.Kind {
	case KindInt, KindStruct, KindUnion, KindEnum, KindEnum64, KindDatasec, KindFloat:
		t.Size = h.size
	case KindArray:
		t.Ref = ID(b.order.Uint32(t.body))
	case KindFwd:
	default:
		t.Ref = ID(h.size)
	}
	return t, nil
}

// Len is how many members, enumerators, parameters or section entries the type has, and the number of elements of an
// array. It is 0 for all other kinds.
func (t Type) Len() int {
	switch t.Kind {
	case KindStruct, KindUnion, KindEnum, KindEnum64, KindFuncProto, KindDatasec:
		return int(t.n)
	case KindArray:
		return int(t.b.order.Uint32(t.body[8:]))
	default:
		return 0
	}
}

// IntEncoding is what an int means besides its size.
type IntEncoding struct {
	Signed, Char, Bool bool
	Bits               int // 8*Size except for old-style bit-field types and some bools
	Offset             int // bit offset inside the storage; 0 in practice
}

// Int is the encoding of an int; the zero value for other kinds.
func (t Type) Int() IntEncoding {
	if t.Kind != KindInt {
		return IntEncoding{}
	}
	v := t.b.order.Uint32(t.body)
	enc := v >> 24 & 0xf
	return IntEncoding{Signed: enc&1 != 0, Char: enc&2 != 0, Bool: enc&4 != 0, Bits: int(v & 0xff), Offset: int(v >> 16 & 0xff)}
}

// Signed reports whether an int or enum is signed. A 32-bit enum without the flag may predate it (Linux 6.0); its
// values then read as the compiler chose, and Enumerator takes care of negative ones.
func (t Type) Signed() bool {
	switch t.Kind {
	case KindInt:
		return t.Int().Signed
	case KindEnum, KindEnum64:
		return t.flag
	default:
		return false
	}
}

// IsUnion tells for a forward declaration whether it is one of a union.
func (t Type) IsUnion() bool { return t.Kind == KindUnion || t.Kind == KindFwd && t.flag }

// Index is the index type of an array.
func (t Type) Index() ID {
	if t.Kind != KindArray {
		return 0
	}
	return ID(t.b.order.Uint32(t.body[4:]))
}

// Member is one member of a struct or union. Anonymous members (whose fields belong to the enclosing struct) have no name.
type Member struct {
	Name      string
	Type      ID
	BitOffset uint32 // from the start of the struct
	BitSize   uint32 // width of a bit-field, 0 for an ordinary member
}

// Offset is the offset in bytes. For a bit-field it is the byte that holds its first bit.
func (m Member) Offset() uint32 { return m.BitOffset / 8 }

// Member returns the i-th member of a struct or union. It panics when i is not below Len.
func (t Type) Member(i int) Member {
	if t.Kind != KindStruct && t.Kind != KindUnion {
		return Member{}
	}
	o, p := t.b.order, t.body[12*i:12*i+12]
	m := Member{Name: t.b.str(o.Uint32(p)), Type: ID(o.Uint32(p[4:]))}
	off := o.Uint32(p[8:])
	if t.flag {
		m.BitOffset, m.BitSize = off&0xffffff, off>>24
		return m
	}
	m.BitOffset = off
	// Compilers before the flag existed describe a bit-field by an int that is narrower than its storage.
	if mt, err := t.b.Type(m.Type); err == nil && mt.Kind == KindInt {
		if e := mt.Int(); e.Bits != 0 && (uint32(e.Bits) != mt.Size*8 || e.Offset != 0) && !e.Bool {
			m.BitOffset += uint32(e.Offset)
			m.BitSize = uint32(e.Bits)
		}
	}
	return m
}

// Members goes through the members of a struct or union.
func (t Type) Members() iter.Seq2[int, Member] {
	return func(yield func(int, Member) bool) {
		if t.Kind != KindStruct && t.Kind != KindUnion {
			return
		}
		for i := range t.Len() {
			if !yield(i, t.Member(i)) {
				return
			}
		}
	}
}

// MemberByName finds a member, also inside anonymous structs and unions, whose offset is then added. ok is false when
// there is none.
func (t Type) MemberByName(name string) (m Member, ok bool) {
	if name == "" {
		return Member{}, false
	}
	budget := maxVisits
	return t.memberByName(name, &budget)
}

func (t Type) memberByName(name string, budget *int) (Member, bool) {
	for _, m := range t.Members() {
		if *budget--; *budget < 0 {
			return Member{}, false
		}
		if m.Name == name {
			return m, true
		}
		if m.Name != "" {
			continue
		}
		in, err := t.b.Resolve(m.Type)
		if err != nil {
			continue
		}
		if f, ok := in.memberByName(name, budget); ok {
			f.BitOffset += m.BitOffset
			return f, true
		}
	}
	return Member{}, false
}

// Enumerator is one constant of an enum. Value holds the 64 bits of it: convert to int64 when the enum is signed.
type Enumerator struct {
	Name  string
	Value uint64
}

// Enumerator returns the i-th constant of an enum, sign- or zero-extended to 64 bits. It panics when i is not below Len.
func (t Type) Enumerator(i int) Enumerator {
	switch t.Kind {
	case KindEnum:
		o, p := t.b.order, t.body[8*i:8*i+8]
		v := o.Uint32(p[4:])
		e := Enumerator{Name: t.b.str(o.Uint32(p)), Value: uint64(v)}
		if t.flag {
			e.Value = uint64(int64(int32(v)))
		}
		return e
	case KindEnum64:
		o, p := t.b.order, t.body[12*i:12*i+12]
		return Enumerator{Name: t.b.str(o.Uint32(p)), Value: uint64(o.Uint32(p[4:])) | uint64(o.Uint32(p[8:]))<<32}
	default:
		return Enumerator{}
	}
}

// Enumerators goes through the constants of an enum.
func (t Type) Enumerators() iter.Seq2[int, Enumerator] {
	return func(yield func(int, Enumerator) bool) {
		if t.Kind != KindEnum && t.Kind != KindEnum64 {
			return
		}
		for i := range t.Len() {
			if !yield(i, t.Enumerator(i)) {
				return
			}
		}
	}
}

// Param is one parameter of a function prototype.
type Param struct {
	Name string
	Type ID
}

// Params returns the parameters of a func_proto, and whether it takes more (`...`).
func (t Type) Params() (params []Param, variadic bool) {
	if t.Kind != KindFuncProto {
		return nil, false
	}
	o := t.b.order
	params = make([]Param, 0, t.n)
	for i := range int(t.n) {
		p := t.body[8*i : 8*i+8]
		pa := Param{Name: t.b.str(o.Uint32(p)), Type: ID(o.Uint32(p[4:]))}
		if i == int(t.n)-1 && pa.Type == 0 && pa.Name == "" {
			return params, true
		}
		params = append(params, pa)
	}
	return params, false
}

// VarEntry is one variable of a section.
type VarEntry struct {
	Type   ID // of the var
	Offset uint32
	Size   uint32
}

// VarEntry returns the i-th variable of a datasec. It panics when i is not below Len.
func (t Type) VarEntry(i int) VarEntry {
	if t.Kind != KindDatasec {
		return VarEntry{}
	}
	o, p := t.b.order, t.body[12*i:12*i+12]
	return VarEntry{ID(o.Uint32(p)), o.Uint32(p[4:]), o.Uint32(p[8:])}
}

// Linkage of a func (0 static, 1 global, 2 extern) or a var; 0 for other kinds.
func (t Type) Linkage() uint32 {
	switch t.Kind {
	case KindFunc:
		return t.n
	case KindVar:
		return t.b.order.Uint32(t.body)
	default:
		return 0
	}
}

// Component is, for a decl_tag, the member or parameter that is tagged, or -1 for the whole type.
func (t Type) Component() int {
	if t.Kind != KindDeclTag {
		return -1
	}
	return int(int32(t.b.order.Uint32(t.body)))
}

// maxTypeDepth bounds chains of references: real ones are below ten, malformed BTF can be a circle.
const maxTypeDepth = 64

// maxVisits bounds what one question may look at in malformed BTF, where a struct can contain itself several times over.
// The largest struct of a kernel has some 10,000 members, those of its anonymous structs counted.
const maxVisits = 200_000

// Strip follows qualifiers (const, volatile, restrict, type tags) but not typedefs.
func (b *BTF) Strip(id ID) (Type, error) { return b.follow(id, false) }

// Resolve follows qualifiers and typedefs to the type that says what the bytes are.
func (b *BTF) Resolve(id ID) (Type, error) { return b.follow(id, true) }

func (b *BTF) follow(id ID, typedefs bool) (Type, error) {
	for range maxTypeDepth {
		t, err := b.Type(id)
		if err != nil {
			return t, err
		}
		switch t.Kind {
		case KindConst, KindVolatile, KindRestrict, KindTypeTag:
		case KindTypedef:
			if !typedefs {
				return t, nil
			}
		default:
			return t, nil
		}
		id = t.Ref
	}
	return Type{}, fmt.Errorf("BTF type %d refers to itself", id)
}

// Sizeof is the size in bytes of a value of the type. Functions, void and forward declarations have none.
func (b *BTF) Sizeof(id ID) (uint64, error) {
	n := uint64(1)
	for range maxTypeDepth {
		t, err := b.Resolve(id)
		if err != nil {
			return 0, err
		}
		switch t.Kind {
		case KindInt, KindStruct, KindUnion, KindEnum, KindEnum64, KindFloat, KindDatasec:
			return mulSize(n, uint64(t.Size))
		case KindPtr:
			return mulSize(n, 8)
		case KindVar:
			id = t.Ref
		case KindArray:
			if n, err = mulSize(n, uint64(t.Len())); err != nil {
				return 0, err
			}
			id = t.Ref
		default:
			return 0, fmt.Errorf("a %s has no size", t.Kind)
		}
	}
	return 0, fmt.Errorf("BTF type %d refers to itself", id)
}

func mulSize(a, b uint64) (uint64, error) {
	if a != 0 && b > (1<<40)/a {
		return 0, fmt.Errorf("BTF array is too large")
	}
	return a * b, nil
}

// String writes the type as C would name it, for messages and listings: "struct task_struct *", "char[16]". It needs no
// more than the names on the way. Malformed types read as "?".
func (b *BTF) String(id ID) string {
	budget := 200
	return b.cString(id, &budget)
}

func (b *BTF) cString(id ID, budget *int) string {
	t, err := b.Type(id)
	if *budget--; err != nil || *budget < 0 {
		return "?"
	}
	name := t.Name
	if name == "" {
		name = "{...}"
	}
	switch t.Kind {
	case KindVoid:
		return "void"
	case KindPtr:
		in, err := b.Strip(t.Ref)
		if err == nil && in.Kind == KindFuncProto {
			return b.protoString(in, "(*)", budget)
		}
		s := b.cString(t.Ref, budget)
		if s != "" && s[len(s)-1] == '*' {
			return s + "*"
		}
		return s + " *"
	case KindArray:
		// The outer dimension is written first, so it goes before those the element already has.
		s, dims := b.cString(t.Ref, budget), ""
		if i := indexDims(s); i >= 0 {
			s, dims = s[:i], s[i:]
		}
		return fmt.Sprintf("%s[%d]%s", s, t.Len(), dims)
	case KindStruct:
		return "struct " + name
	case KindUnion:
		return "union " + name
	case KindFwd:
		if t.IsUnion() {
			return "union " + name
		}
		return "struct " + name
	case KindEnum, KindEnum64:
		return "enum " + name
	case KindConst:
		if in, err := b.Type(t.Ref); err == nil && in.Kind == KindPtr {
			return b.cString(t.Ref, budget) + " const"
		}
		return "const " + b.cString(t.Ref, budget)
	case KindVolatile:
		return "volatile " + b.cString(t.Ref, budget)
	case KindRestrict, KindTypeTag, KindDeclTag:
		return b.cString(t.Ref, budget)
	case KindFuncProto:
		return b.protoString(t, "", budget)
	case KindFunc, KindVar:
		return b.cString(t.Ref, budget)
	default:
		return name
	}
}

func indexDims(s string) int {
	for i := range len(s) {
		if s[i] == '[' {
			return i
		}
	}
	return -1
}

func (b *BTF) protoString(t Type, name string, budget *int) string {
	s := b.cString(t.Ref, budget) + " " + name + "("
	ps, variadic := t.Params()
	for i, p := range ps {
		if i > 0 {
			s += ", "
		}
		if *budget < 0 {
			return s + "?)"
		}
		s += b.cString(p.Type, budget)
	}
	if variadic {
		if len(ps) > 0 {
			s += ", "
		}
		s += "..."
	}
	return s + ")"
}
