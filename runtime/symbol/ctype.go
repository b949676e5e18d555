package symbol

import (
	"debug/dwarf"
	"fmt"
	"slices"
	"strings"
)

// TypeKind is the shape of a [Type].
type TypeKind int

const (
	// TypeVoid is no value: the target of void *, the result of a procedure.
	TypeVoid TypeKind = iota + 1
	// TypeInt is an integer or a character.
	TypeInt
	// TypeBool is a truth value.
	TypeBool
	// TypeFloat is a floating-point number.
	TypeFloat
	// TypePointer is a pointer to Elem.
	TypePointer
	// TypeReference is a C++ reference to Elem; in machine code it is a pointer.
	TypeReference
	// TypeStruct is a structure or class.
	TypeStruct
	// TypeUnion is a union.
	TypeUnion
	// TypeEnum is an enumeration.
	TypeEnum
	// TypeArray is Count elements of type Elem.
	TypeArray
	// TypeFunc is a function.
	TypeFunc
	// TypeTypedef is another name for Elem.
	TypeTypedef
	// TypeQualified is a const, volatile, restrict or atomic Elem; Name is the qualifier.
	TypeQualified
	// TypeUnknown is something that this package does not model.
	TypeUnknown
)

// Type is a type of a program, as its debug information describes it.
type Type struct {
	// Kind is the shape.
	Kind TypeKind
	// Name is the name in the source text, "" for anonymous types; of TypeQualified the qualifier.
	Name string
	// Size is in bytes, -1 when unknown (an incomplete type).
	Size int64
	// Signed is set for integers and enumerations with a sign.
	Signed bool
	// Char is set for integers that stand for characters.
	Char bool
	// Count is the number of elements of an array, over all dimensions; -1 when it is not known.
	Count int64
	// Incomplete is set for structures that are only declared.
	Incomplete bool

	class   bool // declared with the keyword class
	foreign bool // C++, Go or Rust: names stand without struct or enum
	golang  bool
	at      die
	elem    die
	hasElem bool
	dims    []int64
	params  []die
	varargs bool
	fields  []Field
	fieldsP bool
	size    bool // Size is final
}

// Field is a member of a structure or union.
type Field struct {
	// Name is "" for anonymous members.
	Name string
	// Offset is in bytes from the start of the structure.
	Offset int64
	// BitOffset and BitSize place a bit field: BitSize bits, BitOffset bits from the start of the structure, counted from
	// the lowest bit. BitSize is 0 for whole fields.
	BitOffset, BitSize int64
	// Type is the type of the member.
	Type *Type
}

// Enumerator is a value of an enumeration.
type Enumerator struct {
	Name  string
	Value int64
}

var (
	attrBitSize       = dwarf.AttrBitSize
	attrDataBitOffset = dwarf.AttrDataBitOffset
)

// typeAt decodes a type. Types refer to each other in circles, so what a type refers to is decoded when asked for.
func (d die) typeAt() *Type {
	if t, ok := d.ix.types[d.off]; ok {
		return t
	}
	t := &Type{Kind: TypeUnknown, Size: -1, Count: -1, at: d}
	d.ix.types[d.off] = t
	e := d.entry()
	if e == nil {
		return t
	}
	ix := d.ix
	t.Name = ix.text(e, dwarf.AttrName)
	if size, ok := e.Val(dwarf.AttrByteSize).(int64); ok {
		t.Size, t.size = size, true
	}
	t.elem, t.hasElem = ix.ref(e, dwarf.AttrType)
	if u := ix.unitOf(d.off); u != nil {
		t.golang = u.language == langGo
		t.foreign = t.golang || u.language == langRust || u.cplusplus()
	}
	switch e.Tag {
	case dwarf.TagBaseType:
		encoding, _ := e.Val(dwarf.AttrEncoding).(int64)
		switch encoding {
		case 2: // boolean
			t.Kind = TypeBool
		case 3, 4, 0x9, 0xf: // complex, float
			t.Kind = TypeFloat
		case 5:
			t.Kind, t.Signed = TypeInt, true
		case 6:
			t.Kind, t.Signed, t.Char = TypeInt, true, true
		case 8, 0x10:
			t.Kind, t.Char = TypeInt, true
		default:
			t.Kind = TypeInt
		}
	case dwarf.TagPointerType:
		t.Kind = TypePointer
	case dwarf.TagReferenceType, dwarf.TagRvalueReferenceType:
		t.Kind, t.Name = TypeReference, "&"
		if e.Tag == dwarf.TagRvalueReferenceType {
			t.Name = "&&"
		}
	case dwarf.TagStructType, dwarf.TagClassType:
		t.Kind, t.class = TypeStruct, e.Tag == dwarf.TagClassType
		t.Incomplete, _ = e.Val(dwarf.AttrDeclaration).(bool)
	case dwarf.TagUnionType:
		t.Kind = TypeUnion
		t.Incomplete, _ = e.Val(dwarf.AttrDeclaration).(bool)
	case dwarf.TagEnumerationType:
		t.Kind = TypeEnum
		t.Incomplete, _ = e.Val(dwarf.AttrDeclaration).(bool)
		if t.hasElem {
			if under := t.elem.typeAt().strip(); under != nil {
				t.Signed = under.Signed
			}
		} else {
			for _, v := range t.enumerators() {
				t.Signed = t.Signed || v.Value < 0
			}
		}
	case dwarf.TagArrayType:
		t.Kind = TypeArray
		t.arrayCount(d)
	case dwarf.TagSubroutineType:
		t.Kind = TypeFunc
		d.children(func(c *dwarf.Entry) bool {
			switch c.Tag {
			case dwarf.TagFormalParameter:
				if p, ok := ix.ref(c, dwarf.AttrType); ok {
					t.params = append(t.params, p)
				}
			case dwarf.TagUnspecifiedParameters:
				t.varargs = true
			}
			return true
		})
	case dwarf.TagTypedef, dwarf.TagTemplateAlias:
		t.Kind = TypeTypedef
	case dwarf.TagConstType:
		t.Kind, t.Name = TypeQualified, "const"
	case dwarf.TagVolatileType:
		t.Kind, t.Name = TypeQualified, "volatile"
	case dwarf.TagRestrictType:
		t.Kind, t.Name = TypeQualified, "restrict"
	case dwarf.TagAtomicType:
		t.Kind, t.Name = TypeQualified, "_Atomic"
	case dwarf.TagUnspecifiedType:
		t.Kind = TypeVoid
	}
	if (t.Kind == TypePointer || t.Kind == TypeReference) && t.Size < 0 {
		t.Size, t.size = 8, true
	}
	return t
}

// arrayCount reads the lengths of an array's dimensions, of which DWARF writes several into one type.
func (t *Type) arrayCount(d die) {
	var counts []int64
	d.children(func(c *dwarf.Entry) bool {
		if c.Tag == dwarf.TagSubrangeType {
			n := int64(-1)
			if v, ok := c.Val(dwarf.AttrCount).(int64); ok {
				n = v
			} else if v, ok := c.Val(dwarf.AttrUpperBound).(int64); ok {
				n = v + 1
			}
			counts = append(counts, n)
		}
		return true
	})
	t.dims = counts
	t.Count = 1
	for _, n := range counts {
		if n < 0 || t.Count < 0 || t.Count > 1<<40 {
			t.Count = -1
			break
		}
		t.Count *= n
	}
	if len(counts) == 0 {
		t.Count = -1
	}
}

func (ix *dwarfIndex) unitOf(off dwarf.Offset) *unit {
	i, found := slices.BinarySearchFunc(ix.units, off, func(u *unit, o dwarf.Offset) int { return int(int64(u.entry.Offset) - int64(o)) })
	if !found {
		i--
	}
	if i < 0 {
		return nil
	}
	return ix.units[i]
}

// Elem is what a pointer points to, an array consists of, a typedef or qualifier stands for, or a function returns; nil
// for void and for types without.
func (t *Type) Elem() *Type {
	t.at.ix.mu.Lock()
	defer t.at.ix.mu.Unlock()
	return t.element()
}

func (t *Type) element() *Type {
	if !t.hasElem {
		return nil
	}
	return t.elem.typeAt()
}

// Strip returns the type without typedefs and qualifiers; nil for void.
func (t *Type) Strip() *Type {
	t.at.ix.mu.Lock()
	defer t.at.ix.mu.Unlock()
	return t.strip()
}

func (t *Type) strip() *Type {
	for depth := 0; t != nil && depth < 64 && (t.Kind == TypeTypedef || t.Kind == TypeQualified); depth++ {
		t = t.element()
	}
	return t
}

// Bytes is the size in bytes, of typedefs and arrays too; -1 when it is unknown.
func (t *Type) Bytes() int64 {
	t.at.ix.mu.Lock()
	defer t.at.ix.mu.Unlock()
	return t.bytes(0)
}

func (t *Type) bytes(depth int) int64 {
	if t == nil || t.size || depth > 64 {
		if t == nil {
			return -1
		}
		return t.Size
	}
	switch t.Kind {
	case TypeTypedef, TypeQualified, TypeEnum:
		return t.element().bytes(depth + 1)
	case TypeArray:
		if n := t.element().bytes(depth + 1); n >= 0 && t.Count >= 0 && (n == 0 || t.Count <= (1<<50)/n) {
			return n * t.Count
		}
	}
	return -1
}

// Fields are the members of a structure or union in order; base classes come first, without a name.
func (t *Type) Fields() []Field {
	t.at.ix.mu.Lock()
	defer t.at.ix.mu.Unlock()
	return t.members()
}

func (t *Type) members() []Field {
	if t.fieldsP || t.Kind != TypeStruct && t.Kind != TypeUnion {
		return t.fields
	}
	t.fieldsP = true
	ix := t.at.ix
	t.at.children(func(c *dwarf.Entry) bool {
		if c.Tag != dwarf.TagMember && c.Tag != dwarf.TagInheritance {
			return true
		}
		typ, ok := ix.ref(c, dwarf.AttrType)
		if !ok {
			return true
		}
		f := Field{Name: ix.text(c, dwarf.AttrName), Type: typ.typeAt()}
		switch v := c.Val(dwarf.AttrDataMemberLoc).(type) {
		case int64:
			f.Offset = v
		case nil:
			if static, _ := c.Val(dwarf.AttrExternal).(bool); static {
				return true
			}
			if decl, _ := c.Val(dwarf.AttrDeclaration).(bool); decl {
				return true // a static member
			}
		default:
			return true // computed at run time: a virtual base class
		}
		if bits, ok := c.Val(attrBitSize).(int64); ok {
			f.BitSize = bits
			if off, ok := c.Val(attrDataBitOffset).(int64); ok {
				f.BitOffset = off
			} else if off, ok := c.Val(dwarf.AttrBitOffset).(int64); ok {
				// The old form counts from the highest bit of the storage unit.
				size, has := c.Val(dwarf.AttrByteSize).(int64)
				if !has {
					size = f.Type.bytes(0)
				}
				f.BitOffset = 8*f.Offset + 8*size - off - bits
			} else {
				f.BitOffset = 8 * f.Offset
			}
			f.Offset = f.BitOffset / 8
		}
		t.fields = append(t.fields, f)
		return true
	})
	return t.fields
}

// Enumerators are the values of an enumeration in order.
func (t *Type) Enumerators() []Enumerator {
	t.at.ix.mu.Lock()
	defer t.at.ix.mu.Unlock()
	return t.enumerators()
}

func (t *Type) enumerators() []Enumerator {
	var out []Enumerator
	t.at.children(func(c *dwarf.Entry) bool {
		if c.Tag == dwarf.TagEnumerator {
			v, _ := c.Val(dwarf.AttrConstValue).(int64)
			out = append(out, Enumerator{t.at.ix.text(c, dwarf.AttrName), v})
		}
		return true
	})
	return out
}

// String is the type as its language writes it: const char *, int (*)(const char *, ...), []string.
func (t *Type) String() string {
	if t == nil {
		return "void"
	}
	t.at.ix.mu.Lock()
	defer t.at.ix.mu.Unlock()
	return t.text("", 0)
}

// text writes a declaration of name with the type, inside out as C has it.
func (t *Type) text(inner string, depth int) string {
	join := func(left string) string {
		switch {
		case inner == "":
			return left
		case strings.HasPrefix(inner, "["):
			return left + inner
		}
		return left + " " + inner
	}
	if t == nil {
		return join("void")
	}
	if depth > 32 {
		return join("...")
	}
	if t.golang {
		return join(t.goText(depth))
	}
	elem := t.element()
	switch t.Kind {
	case TypePointer, TypeReference:
		mark := "*"
		if t.Kind == TypeReference {
			mark = t.Name
		}
		if elem != nil && (elem.Kind == TypeFunc || elem.Kind == TypeArray) {
			return elem.text("("+mark+inner+")", depth+1)
		}
		if t.foreign && t.Kind == TypePointer && t.Name != "" {
			return join(t.Name) // Rust names its pointers: &str, *const u8
		}
		return elem.text(mark+inner, depth+1)
	case TypeQualified:
		if elem != nil && (elem.Kind == TypePointer || elem.Kind == TypeReference) || t.Name == "restrict" {
			word := t.Name
			if inner != "" && !strings.HasPrefix(inner, "[") {
				word += " "
			}
			if elem == nil {
				return join(t.Name + " void")
			}
			return elem.text(word+inner, depth+1)
		}
		return t.Name + " " + elem.text(inner, depth+1)
	case TypeArray:
		count := ""
		for _, n := range t.dims {
			if n < 0 {
				count += "[]"
			} else {
				count += fmt.Sprintf("[%d]", n)
			}
		}
		if count == "" {
			count = "[]"
		}
		return elem.text(inner+count, depth+1)
	case TypeFunc:
		var params []string
		for _, p := range t.params {
			params = append(params, p.typeAt().text("", depth+1))
		}
		if t.varargs {
			params = append(params, "...")
		}
		if len(params) == 0 && !t.foreign {
			params = []string{"void"}
		}
		return elem.text(inner+"("+strings.Join(params, ", ")+")", depth+1)
	case TypeStruct, TypeUnion, TypeEnum:
		keyword := map[TypeKind]string{TypeStruct: "struct", TypeUnion: "union", TypeEnum: "enum"}[t.Kind]
		switch {
		case t.Name == "":
			return join(keyword + " {...}")
		case t.foreign:
			return join(t.Name)
		}
		return join(keyword + " " + t.Name)
	case TypeVoid:
		if t.Name != "" {
			return join(t.Name)
		}
		return join("void")
	}
	if t.Name == "" {
		return join("?")
	}
	return join(t.Name)
}

// goText is a type of a Go program. The debug information has Go's own names nearly everywhere.
func (t *Type) goText(depth int) string {
	if t.Name != "" {
		return t.Name
	}
	elem := t.element()
	switch t.Kind {
	case TypePointer:
		if elem == nil {
			return "unsafe.Pointer"
		}
		return "*" + elem.text("", depth+1)
	case TypeArray:
		return fmt.Sprintf("[%d]%s", t.Count, elem.text("", depth+1))
	case TypeFunc:
		return "func(...)"
	case TypeStruct:
		return "struct {...}"
	}
	return "?"
}
