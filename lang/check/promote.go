package check

import "github.com/sonde-sh/sonde/lang/types"

// Integers of the checker carry two things that types.Equal does not see: the address space that they point into when they are used as
// an address, and whether their sign is still open. Both are interned here, so that the same integer is the same pointer.
//
// The sign is open for a literal that fits both signs of its size, and for what is computed from literals alone. A wide literal fits its
// size only without a sign: 200 is an int16 by itself, but fits a uint8.
type intKey struct {
	size   int
	signed bool
	space  types.Space
	open   bool
	wide   bool
}

type intPool struct {
	ints map[intKey]*types.Type
	// old is set for a script of an older dialect: a comparison was an integer before 0.24, and so was an aggregation that is read before 0.25.
	old bool
	// settled is set when all types are known. Until then a pointer follows the variable or map that it points to as that grows; afterwards two
	// that point to different types are what the script made different.
	settled bool
}

func newIntPool() intPool {
	p := intPool{ints: map[intKey]*types.Type{}}
	for _, size := range []int{1, 2, 4, 8} {
		p.ints[intKey{size: size}] = types.IntOf(size, false)
		p.ints[intKey{size: size, signed: true}] = types.IntOf(size, true)
	}
	return p
}

// get returns the integer of a key.
func (p intPool) get(k intKey) *types.Type {
	if t := p.ints[k]; t != nil {
		return t
	}
	t := &types.Type{Kind: types.Int, Size: k.size, Signed: k.signed, Space: k.space}
	switch {
	case k.open:
		t.Name = openName
	case k.wide:
		t.Name = wideName
	}
	p.ints[k] = t
	return t
}

// openName and wideName mark an integer whose sign is open and a wide literal; they are no identifiers, so no typedef has them.
const (
	openName = "?"
	wideName = "?wide"
)

func isOpen(t *types.Type) bool { return t.Kind == types.Int && t.Name == openName }

func isWide(t *types.Type) bool { return t.Kind == types.Int && t.Name == wideName }

// isLiteral tells whether t is the type of a positive literal.
func isLiteral(t *types.Type) bool { return isOpen(t) && !t.Signed || isWide(t) }

// named is t as messages and typeinfo call it: literals are signed there. Their values are kept without a sign, where that is cheaper and
// cannot be seen.
func (p intPool) named(t *types.Type) *types.Type {
	switch {
	case isOpen(t) && !t.Signed:
		return types.IntOf(t.Size, true)
	case isWide(t):
		return types.IntOf(2*t.Size, true)
	}
	return p.closed(t)
}

// literal returns the smallest type of an integer literal.
func (p intPool) literal(v uint64, neg bool) *types.Type {
	if neg {
		s := int64(-v)
		switch {
		case s >= -1<<7:
			return types.TInt8
		case s >= -1<<15:
			return types.TInt16
		case s >= -1<<31:
			return types.TInt32
		}
		return types.TInt64
	}
	for _, size := range []int{1, 2, 4} {
		if v>>(8*size) == 0 {
			open := v>>(8*size-1) == 0
			return p.get(intKey{size: size, open: open, wide: !open})
		}
	}
	return p.get(intKey{size: 8, open: v>>63 == 0})
}

// literalInt is literal for a signed value.
func (p intPool) literalInt(v int64) *types.Type {
	if v < 0 {
		return p.literal(-uint64(v), true)
	}
	return p.literal(uint64(v), false)
}

// closed returns t with its sign decided: that of an open literal is unsigned, that of what is computed from literals signed.
func (p intPool) closed(t *types.Type) *types.Type {
	if t == nil || !isOpen(t) && !isWide(t) {
		return t
	}
	return p.get(intKey{size: t.Size, signed: t.Signed, space: t.Space})
}

// withSpace returns t as something read from, or pointing into, an address space.
func (p intPool) withSpace(t *types.Type, space types.Space, prov types.Provenance) *types.Type {
	if t == nil {
		return nil
	}
	switch t.Kind {
	case types.Int:
		if t.Space == space || (t.Name != "" && t.Name != openName && t.Name != wideName) {
			if t.Space == space {
				return t
			}
			c := *t
			c.Space = space
			return &c
		}
		return p.get(intKey{size: t.Size, signed: t.Signed, space: space, open: isOpen(t), wide: isWide(t)})
	case types.Pointer, types.Struct, types.Array, types.String, types.Args, types.Tuple, types.Record:
		if t.Space == space && t.Prov == prov {
			return t
		}
		c := *t
		c.Space, c.Prov = space, prov
		return &c
	}
	return t
}

// promoteInt returns the smallest integer that holds both. There is none for a signed one and a uint64: they become an int64, and the caller
// warns of it.
func (p intPool) promoteInt(a, b *types.Type) *types.Type {
	space := a.Space
	if space == types.SpaceNone {
		space = b.Space
	} else if b.Space != types.SpaceNone && b.Space != space {
		space = types.SpaceNone
	}
	size := max(a.Size, b.Size)
	ao, bo := isOpen(a), isOpen(b)
	switch {
	case isLiteral(a) && isLiteral(b) && (isWide(a) || isWide(b)):
		wide := isWide(a) && a.Size == size || isWide(b) && b.Size == size
		return p.get(intKey{size: size, space: space, open: !wide, wide: wide})
	case ao && bo:
		return p.get(intKey{size: size, signed: a.Signed || b.Signed, space: space, open: true})
	case ao:
		return p.get(intKey{size: size, signed: b.Signed, space: space})
	case bo || a.Signed == b.Signed:
		return p.get(intKey{size: size, signed: a.Signed, space: space})
	}
	s, u := a, b
	if b.Signed {
		s, u = b, a
	}
	if s.Size > u.Size {
		return p.get(intKey{size: s.Size, signed: true, space: space})
	}
	return p.get(intKey{size: min(2*u.Size, 8), signed: true, space: space})
}

// promote returns the smallest type that holds values of both; nil operands are types that are not known yet.
func (p intPool) promote(a, b *types.Type) (*types.Type, bool) {
	switch {
	case a == nil:
		return b, true
	case b == nil, a == b:
		return a, true
	case a.Kind == types.Invalid:
		return b, true
	case b.Kind == types.Invalid:
		return a, true
	}
	if (a.Kind == types.Bool) != (b.Kind == types.Bool) && !p.old {
		return nil, false
	}
	if a.Kind == types.Enum && b.Kind == types.Enum && types.SameEnum(a.Enum, b.Enum) {
		if b.Size > a.Size { // an enumerator by itself has 64 bits, a field as many as in C
			return b, true
		}
		return a, true
	}
	if a.IsInteger() && b.IsInteger() && (a.Kind != b.Kind || a.Kind == types.Enum) {
		return p.promoteInt(plainInt(a), plainInt(b)), true
	}
	if a.Kind != b.Kind {
		return nil, false
	}
	switch a.Kind {
	case types.Int:
		return p.promoteInt(a, b), true
	case types.String, types.Buffer:
		if b.Size > a.Size {
			return b, true
		}
		return a, true
	case types.Pointer:
		return p.promotePointer(a, b)
	case types.Tuple, types.Record:
		return p.promoteTuple(a, b)
	case types.Timestamp, types.Inet, types.Mac, types.KSym, types.USym, types.Probe, types.Func, types.Username, types.CgroupPath:
		return a, true
	}
	if a.IsAggregation() {
		return p.promoteAgg(a, b)
	}
	if types.Equal(a, b) {
		return a, true
	}
	return nil, false
}

// plainInt is the integer that an enum or bool counts as beside another integer.
func plainInt(t *types.Type) *types.Type {
	if t.Kind == types.Int {
		return t
	}
	return types.IntOf(max(t.Size, 1), t.Signed)
}

func (p intPool) promotePointer(a, b *types.Type) (*types.Type, bool) {
	elem := a.Elem
	if !samePointee(a, b) {
		if p.settled || a.Elem == nil || b.Elem == nil {
			return nil, false
		}
		var ok bool
		if elem, ok = p.promote(a.Elem, b.Elem); !ok {
			return nil, false
		}
	}
	space, prov := a.Space, a.Prov
	switch {
	case space == types.SpaceNone:
		space = b.Space
	case b.Space != types.SpaceNone && b.Space != space:
		space = types.SpaceNone
	}
	if b.Prov != prov {
		prov = types.ProvRaw
	}
	if space == a.Space && prov == a.Prov && elem == a.Elem {
		return a, true
	}
	return types.PointerTo(elem, space, prov), true
}

func samePointee(a, b *types.Type) bool {
	if a.Elem == nil || b.Elem == nil {
		return a.Elem == b.Elem || isVoid(a.Elem) && isVoid(b.Elem)
	}
	return types.Equal(a.Elem, b.Elem)
}

func isVoid(t *types.Type) bool { return t == nil || t.Kind == types.Void }

func (p intPool) promoteTuple(a, b *types.Type) (*types.Type, bool) {
	if len(a.Fields) != len(b.Fields) {
		return nil, false
	}
	elems := make([]*types.Type, len(a.Fields))
	var names []string
	sameA, sameB := true, true
	for i := range a.Fields {
		other := types.Partner(a, i, b)
		if other < 0 {
			return nil, false
		}
		ft := b.Fields[other].Type
		t, ok := p.promote(a.Fields[i].Type, ft)
		if !ok {
			return nil, false
		}
		sameA, sameB = sameA && t == a.Fields[i].Type, sameB && t == ft && other == i
		elems[i] = t
		if a.Kind == types.Record {
			names = append(names, a.Fields[i].Name)
		}
	}
	switch {
	case sameA:
		return a, true
	case sameB:
		return b, true
	}
	return types.TupleOf(elems, names), true
}

// promoteAgg unites two uses of an aggregation on one map. Elem holds the type of the aggregated value.
func (p intPool) promoteAgg(a, b *types.Type) (*types.Type, bool) {
	if a.Bits != b.Bits || a.Lo != b.Lo || a.Hi != b.Hi || a.Step != b.Step || a.IntervalNS != b.IntervalNS || a.Buckets != b.Buckets || a.Agg != b.Agg {
		return nil, false
	}
	if a.Elem == nil || b.Elem == nil {
		return a, true
	}
	elem, ok := p.promote(a.Elem, b.Elem)
	if !ok {
		return nil, false
	}
	if elem == a.Elem {
		return a, true
	}
	c := *a
	c.Elem, c.Signed = elem, elem.Signed && !isOpen(elem)
	return &c, true
}

// isCastable tells whether an aggregation has one integer as its value.
func isCastable(t *types.Type) bool {
	switch t.Kind {
	case types.Count, types.Sum, types.Min, types.Max, types.Avg:
		return true
	}
	return false
}

// decay is the type of a value read out of a map: an aggregation with one value becomes an integer.
func decay(t *types.Type) *types.Type {
	if t != nil && isCastable(t) {
		return types.IntOf(8, t.Signed)
	}
	return t
}

// grown reports whether b is a bigger type than a: storing it needs a new round.
func grown(a, b *types.Type) bool {
	if a == b {
		return false
	}
	if a == nil || b == nil {
		return true
	}
	return !types.Equal(a, b) || a.Space != b.Space || a.Prov != b.Prov || isOpen(a) != isOpen(b) || isWide(a) != isWide(b) ||
		(a.Elem != b.Elem && a.IsAggregation() && !types.Equal(a.Elem, b.Elem))
}

// growth counts how often the type of a variable or map changed. Sizes and signs only ever grow, but address spaces of two assignments that
// disagree could push each other back and forth for ever; after some changes they count no more.
type growth int

const enoughChanges = 32

func (g *growth) grown(a, b *types.Type) bool {
	if !grown(a, b) || (*g > enoughChanges && a != nil && b != nil && types.Equal(a, b)) {
		return false
	}
	*g++
	return true
}

// widest is the type that a map of a session stores a value in: integers take 64 bits, because a map that exists cannot grow when a later
// item of the session stores more in it.
func (p intPool) widest(t *types.Type) *types.Type {
	switch t.Kind {
	case types.Int:
		if t.Size == 8 && !isOpen(t) || t.Name != "" && !isOpen(t) {
			return t
		}
		return p.get(intKey{size: 8, signed: t.Signed || isOpen(t), space: t.Space})
	case types.Tuple, types.Record:
		elems := make([]*types.Type, len(t.Fields))
		var names []string
		same := true
		for i, f := range t.Fields {
			elems[i] = p.widest(f.Type)
			same = same && elems[i] == f.Type
			if t.Kind == types.Record {
				names = append(names, f.Name)
			}
		}
		if !same {
			return types.TupleOf(elems, names)
		}
	}
	return t
}
