package symbol

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// The calling convention says where arguments should be; an optimiser that sees all callers of a function may put them
// elsewhere or drop them. The debug information says where they really are at the first instruction.

// locations reads location lists, which the standard library leaves alone.
type locations struct {
	order     binary.ByteOrder
	loc       []byte // .debug_loc, up to DWARF 4
	loclists  []byte // .debug_loclists, DWARF 5
	addresses []byte // .debug_addr
}

func loadLocations(f *File) *locations {
	l := &locations{order: f.elf.ByteOrder}
	l.loc, _ = f.sectionData(".debug_loc")
	l.loclists, _ = f.sectionData(".debug_loclists")
	l.addresses, _ = f.sectionData(".debug_addr")
	return l
}

// Attributes that the standard library has under other names or not at all.
const (
	attrLoclistsBase = dwarf.Attr(0x8c)
	attrAddrBase     = dwarf.Attr(0x73)
)

// at returns the location expression of a parameter that holds at addr. known is false when the debug information has
// no attribute for the parameter at all; an empty expression with known set means that the value does not exist there.
func (l *locations) at(u *unit, e *dwarf.Entry, addr uint64) (expr []byte, known bool) {
	f := e.AttrField(dwarf.AttrLocation)
	if f == nil {
		return nil, false
	}
	switch v := f.Val.(type) {
	case []byte:
		return v, true
	case int64:
		base, _ := u.entry.Val(dwarf.AttrLowpc).(uint64)
		if len(l.loclists) > 0 {
			return l.list5(u, uint64(v), f.Class == dwarf.ClassLocList, base, addr)
		}
		return l.list4(uint64(v), base, addr)
	}
	return nil, false
}

// list4 walks a list of address pairs, each followed by an expression.
func (l *locations) list4(off, base, addr uint64) ([]byte, bool) {
	d := l.loc
	for off+16 <= uint64(len(d)) {
		low, high := l.order.Uint64(d[off:]), l.order.Uint64(d[off+8:])
		off += 16
		switch {
		case low == 0 && high == 0:
			return nil, true
		case low == ^uint64(0):
			base = high
			continue
		}
		if off+2 > uint64(len(d)) {
			break
		}
		n := uint64(l.order.Uint16(d[off:]))
		off += 2
		if off+n > uint64(len(d)) {
			break
		}
		if addr >= base+low && addr < base+high {
			return d[off : off+n], true
		}
		off += n
	}
	return nil, false
}

// list5 walks a list of DWARF 5, whose entries have seven forms.
func (l *locations) list5(u *unit, off uint64, sectionOffset bool, base, addr uint64) ([]byte, bool) {
	d := l.loclists
	if v, ok := u.entry.Val(attrLoclistsBase).(int64); ok && !sectionOffset {
		at := uint64(v) + 4*off // an index into the offset table of the unit
		if at+4 > uint64(len(d)) {
			return nil, false
		}
		off = uint64(v) + uint64(l.order.Uint32(d[at:]))
	}
	if off >= uint64(len(d)) {
		return nil, false
	}
	r := reader{data: d[off:], order: l.order}
	addrBase, _ := u.entry.Val(attrAddrBase).(int64)
	indexed := func(i uint64) uint64 {
		at := uint64(addrBase) + 8*i
		if i > uint64(len(l.addresses)) || at+8 > uint64(len(l.addresses)) {
			r.bad = true
			return 0
		}
		return l.order.Uint64(l.addresses[at:])
	}
	for !r.bad {
		var low, high uint64
		byDefault := false
		switch r.byte() {
		case 0: // end_of_list
			return nil, !r.bad
		case 1: // base_addressx
			base = indexed(r.uleb())
			continue
		case 2: // startx_endx
			low = indexed(r.uleb())
			high = indexed(r.uleb())
		case 3: // startx_length
			low = indexed(r.uleb())
			high = low + r.uleb()
		case 4: // offset_pair
			low = base + r.uleb()
			high = base + r.uleb()
		case 5: // default_location
			byDefault = true
		case 6: // base_address
			base = r.word()
			continue
		case 7: // start_end
			low = r.word()
			high = r.word()
		case 8: // start_length
			low = r.word()
			high = low + r.uleb()
		default: // view pairs stand in a list of their own
			return nil, false
		}
		expr := r.bytes(r.uleb())
		if !r.bad && (byDefault || addr >= low && addr < high) {
			return expr, true
		}
	}
	return nil, false
}

// reader decodes numbers and remembers that it ran off the end.
type reader struct {
	data  []byte
	order binary.ByteOrder
	bad   bool
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.data)) {
		r.bad, r.data = true, nil
		return nil
	}
	out := r.data[:n]
	r.data = r.data[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) word() uint64 {
	if b := r.bytes(8); b != nil {
		return r.order.Uint64(b)
	}
	return 0
}

func (r *reader) uleb() uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.bad, r.data = true, nil
		return 0
	}
	r.data = r.data[n:]
	return v
}

// piece is a part of a value and where it is.
type piece struct {
	kind     pieceKind
	register Register
}

type pieceKind int

const (
	pieceGone     pieceKind = iota // nowhere: not needed, so not kept
	pieceRegister                  // in a register
	pieceMemory                    // in the frame
	pieceOther                     // a constant or a computed value
)

// piecesOf reads a location expression as the 8-byte pieces of a value; a single location is one piece.
func piecesOf(machine elf.Machine, expr []byte) []piece {
	const (
		opReg0, opReg31   = 0x50, 0x6f
		opBreg0, opBreg31 = 0x70, 0x8f
		opRegx, opFbreg   = 0x90, 0x91
		opPiece           = 0x93
	)
	var out []piece
	r := reader{data: expr}
	for len(r.data) > 0 && !r.bad {
		p := piece{}
		switch op := r.byte(); {
		case op >= opReg0 && op <= opReg31, op == opRegx:
			n := uint64(op - opReg0)
			if op == opRegx {
				n = r.uleb()
			}
			reg, ok := dwarfRegister(machine, n)
			p = piece{pieceRegister, reg}
			if !ok {
				p.kind = pieceOther // a vector register
			}
		case op >= opBreg0 && op <= opBreg31, op == opFbreg:
			r.uleb() // a signed number of the same length
			p.kind = pieceMemory
		case op == opPiece:
			r.uleb()
			out = append(out, p)
			continue
		default:
			return append(out, piece{kind: pieceOther})
		}
		if len(r.data) > 0 && !r.bad {
			if r.byte() != opPiece {
				return append(out, piece{kind: pieceOther})
			}
			if size := r.uleb(); size < 8 && len(r.data) > 0 {
				return append(out, piece{kind: pieceOther}) // two pieces in one word
			}
		}
		out = append(out, p)
	}
	if r.bad {
		return []piece{{kind: pieceOther}}
	}
	return out
}

// dwarfRegister translates the register numbers of debug information.
func dwarfRegister(machine elf.Machine, n uint64) (Register, bool) {
	switch machine {
	case elf.EM_X86_64:
		names := [...]string{"rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"}
		if n < uint64(len(names)) {
			return x86Register(names[n])
		}
	case elf.EM_AARCH64:
		if n < 31 {
			return arm64Register(fmt.Sprintf("x%d", n))
		}
		if n == 31 {
			return arm64Register("sp")
		}
	}
	return Register{}, false
}

// correct compares the place that the calling convention gives with the one that the debug information has. Registers
// that differ replace it; a place that the two cannot agree on becomes unknown. strict says that the optimiser may have
// changed the function, because it knows all callers or the language promises no convention.
func (p *Parameter) correct(l *locations, u *unit, e *dwarf.Entry, machine elf.Machine, addr uint64, strict bool) {
	expr, _ := l.at(u, e, addr)
	pieces := piecesOf(machine, expr)
	agree, all, some := true, len(pieces) > 0, false
	var regs []Register
	for i, q := range pieces {
		switch q.kind {
		case pieceGone:
			all = false
			continue
		case pieceRegister:
			regs = append(regs, q.register)
			agree = agree && p.Place.Kind != PlaceStack && i < len(p.Place.Registers) && p.Place.Registers[i].Offset == q.register.Offset
		case pieceMemory:
			all = false
			// In the frame is what unoptimised code says of everything, and of what the caller left on the stack.
			agree = agree && (p.Place.Kind == PlaceStack || len(pieces) == 1)
		default:
			all, agree = false, false
		}
		some = true
	}
	switch {
	case some && agree:
	case all && p.Place.Kind != PlacePointer && p.Type.bytes(0) <= 8*int64(len(regs)):
		p.Place = Place{Kind: PlaceRegisters, Registers: regs}
	case strict && p.Place.Kind != PlaceUnknown:
		p.Place = Place{Why: "the optimiser removed it or moved it"}
	}
}
