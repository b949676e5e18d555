package scan

import (
	"maps"
	"slices"
)

// valueKind is what is known of a register or a place on the stack.
type valueKind uint8

const (
	valueUnknown valueKind = iota
	valueSet               // one of some constants, or one of some parameters
	valueFrame             // an address: the stack pointer at the function's entry plus a constant
)

// maxConstants is where a set becomes unknown.
const maxConstants = 16

// value is immutable.
type value struct {
	kind   valueKind
	params uint64 // bit 0 to 31: a register at the entry; from bit 32 on: a place on the stack at the entry, by 8 bytes
	consts []uint64
	frame  int64
}

const (
	paramStack  = 32 // first bit of places on the stack
	paramPlaces = 32
)

func constantValue(v ...uint64) value {
	slices.Sort(v)
	return value{kind: valueSet, consts: slices.Compact(v)}
}

func paramValue(bit int) value { return value{kind: valueSet, params: 1 << bit} }

func (v *value) equal(o *value) bool {
	return v.kind == o.kind && v.params == o.params && v.frame == o.frame && slices.Equal(v.consts, o.consts)
}

// join is what is known when either may be there.
func (v value) join(o value) value {
	switch {
	case v.kind != o.kind || v.kind == valueUnknown:
		return value{}
	case v.kind == valueFrame:
		if v.frame != o.frame {
			return value{}
		}
		return v
	case v.equal(&o):
		return v
	}
	out := constantValue(append(slices.Clone(v.consts), o.consts...)...)
	out.params = v.params | o.params
	if len(out.consts) > maxConstants {
		return value{}
	}
	return out
}

// narrow keeps the lower bytes.
func (v value) narrow(bytes uint8) value {
	if bytes >= 8 || v.kind == valueUnknown {
		return v
	}
	if v.kind == valueFrame || bytes < 4 && v.params != 0 {
		return value{}
	}
	m := uint64(1)<<(8*uint(bytes)) - 1
	if !slices.ContainsFunc(v.consts, func(c uint64) bool { return c > m }) {
		return v
	}
	out := make([]uint64, len(v.consts))
	for i, c := range v.consts {
		out[i] = c & m
	}
	w := constantValue(out...)
	w.params = v.params
	return w
}

// apply is arithmetic on all combinations.
func (f fn) apply(a, b value) value {
	if a.kind == valueFrame || b.kind == valueFrame {
		switch {
		case f == fnAdd && a.kind == valueFrame && len(b.consts) == 1 && b.params == 0:
			return value{kind: valueFrame, frame: a.frame + int64(b.consts[0])}
		case f == fnAdd && b.kind == valueFrame && len(a.consts) == 1 && a.params == 0:
			return value{kind: valueFrame, frame: b.frame + int64(a.consts[0])}
		case f == fnSub && a.kind == valueFrame && len(b.consts) == 1 && b.params == 0:
			return value{kind: valueFrame, frame: a.frame - int64(b.consts[0])}
		case f == fnAnd && a.kind == valueFrame: // aligns the stack: where it is then is not known, and distances from there are
			return value{}
		}
		return value{}
	}
	// A mask of a whole register's lower half leaves a number that was passed as it was.
	if f == fnAnd && a.params != 0 && len(a.consts) == 0 && len(b.consts) == 1 && b.params == 0 && b.consts[0] == 0xffffffff {
		return a
	}
	if f == fnSext32 && a.kind == valueSet && a.params != 0 && len(a.consts) == 0 {
		return a
	}
	// A comparison's result, of which a mask takes bits: what else is in the register does not matter.
	if f == fnAnd && a.kind == valueUnknown && len(b.consts) == 1 && b.params == 0 && b.consts[0] < 4 {
		return constantValue(subsets(b.consts[0])...)
	}
	if a.kind != valueSet || b.kind != valueSet || a.params != 0 || b.params != 0 || len(a.consts)*len(b.consts) > 4*maxConstants {
		return value{}
	}
	var out []uint64
	for _, x := range a.consts {
		for _, y := range b.consts {
			out = append(out, f.of(x, y))
		}
	}
	v := constantValue(out...)
	if len(v.consts) > maxConstants {
		return value{}
	}
	return v
}

func subsets(m uint64) []uint64 {
	var out []uint64
	for v := range m + 1 {
		if v&^m == 0 {
			out = append(out, v)
		}
	}
	return out
}

func (f fn) of(x, y uint64) uint64 {
	switch f {
	case fnAdd:
		return x + y
	case fnSub:
		return x - y
	case fnAnd:
		return x & y
	case fnOr:
		return x | y
	case fnXor:
		return x ^ y
	case fnShl:
		return x << (y & 63)
	case fnShr:
		return x >> (y & 63)
	case fnSext8:
		return uint64(int64(int8(x)))
	case fnSext16:
		return uint64(int64(int16(x)))
	case fnSext32:
		return uint64(int64(int32(x)))
	case fnKeep16:
		shift := uint(y & 63)
		return x&^(0xffff<<shift) | y>>16<<shift
	}
	return 0
}

// state is what is known at a place of a function.
type state struct {
	regs  [32]value
	slots map[int64]value // by distance from the stack pointer at the entry
	// doubtful is set right behind a call, which may be one that never returns: what follows then is another path's code.
	doubtful bool
}

// entryState has every register and place on the stack as a parameter.
func (m *machine) entryState() *state {
	s := &state{slots: map[int64]value{}}
	for r := range m.registers {
		s.regs[r] = paramValue(r)
	}
	s.regs[m.sp] = value{kind: valueFrame}
	return s
}

// unknownState knows nothing but where the stack was if nothing had moved it.
func unknownState() *state { return &state{slots: map[int64]value{}} }

func (s *state) clone() *state {
	return &state{s.regs, maps.Clone(s.slots), s.doubtful}
}

// slot is the value of a place: parameters lie above the entry's stack pointer until something is written there.
func (s *state) slot(off int64) value {
	if v, ok := s.slots[off]; ok {
		return v
	}
	if off >= 0 && off%8 == 0 && off/8 < paramPlaces {
		return paramValue(paramStack + int(off/8))
	}
	return value{}
}

func (s *state) setSlot(off int64, v value) {
	// A small write into a larger place changes it.
	for _, o := range [...]int64{off - 4, off + 4} {
		if _, ok := s.slots[o]; ok {
			s.slots[o] = value{}
		}
	}
	s.slots[off] = v
}

// merge joins another state into s and reports a change. Compilers have one height of the stack at each place: where two differ,
// one comes from behind a call that never returns.
func (s *state) merge(o *state, sp reg) bool {
	if differ := !s.regs[sp].equal(&o.regs[sp]); differ && o.doubtful {
		return false
	} else if differ && s.doubtful {
		*s = *o.clone()
		return true
	} else if differ {
		return s.mergeRegisters(o, sp)
	}
	s.doubtful = s.doubtful && o.doubtful
	changed := s.mergeRegisters(o, sp)
	for off := range o.slots {
		if _, ok := s.slots[off]; !ok {
			s.slots[off] = s.slot(off)
		}
	}
	for off, have := range s.slots {
		if v := have.join(o.slot(off)); !v.equal(&have) {
			s.slots[off] = v
			changed = true
		}
	}
	return changed
}

func (s *state) mergeRegisters(o *state, sp reg) bool {
	changed := false
	for r := range s.regs {
		if reg(r) == sp {
			continue
		}
		if v := s.regs[r].join(o.regs[r]); !v.equal(&s.regs[r]) {
			s.regs[r] = v
			changed = true
		}
	}
	return changed
}

func (s *state) operand(o operand) value {
	switch {
	case o.isConst():
		return value{kind: valueSet, consts: []uint64{o.imm}}
	case o.reg >= 32:
		return value{}
	}
	return s.regs[o.reg]
}

// place is the distance of a memory operand from the entry's stack pointer.
func (s *state) place(m *memory) (int64, bool) {
	if m.other || m.base == noReg || m.base >= 32 || m.index != noReg {
		return 0, false
	}
	b := s.regs[m.base]
	if b.kind != valueFrame {
		return 0, false
	}
	return b.frame + m.disp, true
}
