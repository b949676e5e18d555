package cdef

import "github.com/sonde-sh/sonde/lang/types"

// member is one member of a struct or union before it has a place.
type member struct {
	name    string
	typ     *types.Type
	size    int // bytes, of the declared type
	align   int // natural alignment of the declared type in bytes
	aligned int // from an attribute of the member, 0 for none
	packed  bool
	bits    int // width of a bit-field, -1 for a whole member
}

// layout places members by the System V rules as gcc and clang apply them to x86-64 and arm64 (little endian). attrAlign is
// the struct's own aligned attribute, 0 for none. It returns the fields, the size and the alignment, in bytes.
func layout(members []member, union, packed bool, attrAlign int) (fields []types.Field, size, align int) {
	align = max(attrAlign, 1)
	bit, endBit := 0, 0
	for _, m := range members {
		if union {
			bit = 0
		}
		a := m.align
		if packed || m.packed {
			a = 1
		}
		a = max(a, m.aligned, 1)
		if m.bits >= 0 {
			bit = placeBits(m, bit, a, packed || m.packed)
			if m.bits == 0 {
				continue // a separator, which has no place of its own
			}
			if m.name != "" {
				align = max(align, a)
				fields = append(fields, types.Field{
					Name: m.name, Type: m.typ, Offset: bit / 8, BitOffset: bit % 8, BitSize: m.bits, ArgIndex: -1,
				})
			}
			bit += m.bits
		} else {
			align = max(align, a)
			off := roundUp((bit+7)/8, a)
			fields = append(fields, types.Field{Name: m.name, Type: m.typ, Offset: off, ArgIndex: -1})
			bit = (off + m.size) * 8
		}
		endBit = max(endBit, bit)
	}
	endBit = max(endBit, bit)
	return fields, roundUp((endBit+7)/8, align), align
}

// placeBits returns the bit at which a bit-field starts: it must not cross a boundary of its declared type, unless packed.
func placeBits(m member, bit, align int, packed bool) int {
	unit := m.size * 8
	switch {
	case m.bits == 0:
		return roundUp(bit, unit)
	case m.aligned > 0:
		bit = roundUp(bit, m.aligned*8)
	}
	if packed || unit == 0 {
		return bit
	}
	if bit/unit != (bit+m.bits-1)/unit {
		bit = roundUp(bit, align*8)
	}
	return bit
}

func roundUp(n, to int) int {
	if to <= 1 {
		return n
	}
	return (n + to - 1) / to * to
}

// alignOf computes the alignment of a type of Base from its fields, since BTF does not record it. A member that lies at an
// offset that its own alignment does not divide shows a packed struct.
func alignOf(t *types.Type) int {
	switch t.Kind {
	case types.Array:
		if t.Elem == nil {
			return 1
		}
		return alignOf(t.Elem)
	case types.Struct:
		a := 1
		for _, f := range t.Struct.Resolve() {
			if f.BitSize > 0 {
				continue
			}
			fa := alignOf(f.Type)
			if fa > 1 && f.Offset%fa != 0 {
				return 1
			}
			a = max(a, fa)
		}
		if a > 1 && t.Size%a != 0 {
			return 1
		}
		return a
	default:
		return types.Align(t)
	}
}
