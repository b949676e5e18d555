package symbol

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
)

// ErrNoUnwind is wrapped by the errors about images without unwind information that a program in the kernel can use.
var ErrNoUnwind = errors.New("no unwind information")

// UnwindTable says how to find the caller of each place in the code of an image.
type UnwindTable struct {
	// Base is the address of the image that the rows count from.
	Base uint64
	// Rows are sorted by place. A row holds up to the next one.
	Rows []UnwindRow
}

// UnwindKind says how a row finds the frame, which is the address behind the return address, and with it the caller.
type UnwindKind uint8

// The kinds.
const (
	UnwindUnknown UnwindKind = iota // try the frame pointer
	UnwindEnd                       // the outermost function
	UnwindSP                        // rsp + CFA*8
	UnwindBP                        // rbp + CFA*8
	UnwindPLT                       // rsp + 8, and 8 more from byte BP of a 16-byte entry on
	UnwindSignal                    // rsp points to the registers that the kernel saved before a signal handler
	UnwindAligned                   // what is stored at rbp - CFA*8; the caller's rbp is at rbp
)

// UnwindRow is a rule for a piece of code.
type UnwindRow struct {
	PC   uint32 // from the table's Base
	Kind UnwindKind
	CFA  int16 // see Kind; at most 1<<13-1
	BP   int16 // where the caller's rbp is, from the frame, in units of 8 bytes; 0 where it is still in rbp
}

const maxUnwindCFA = 1<<13 - 1

// UnwindTable reads .eh_frame, which compilers write for x86-64 whether or not functions keep a frame pointer.
func (f *File) UnwindTable() (*UnwindTable, error) {
	if f.elf.Machine != elf.EM_X86_64 || f.elf.Class != elf.ELFCLASS64 {
		return nil, fmt.Errorf("%s: %w: it is not an x86-64 image", f.path, ErrNoUnwind)
	}
	data, err := f.sectionData(".eh_frame")
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("%s: %w: it has no .eh_frame", f.path, ErrNoUnwind)
	}
	p := frameParser{data: data, addr: f.elf.Section(".eh_frame").Addr, cies: map[int]*frameCIE{}}
	p.parse()
	if len(p.funcs) == 0 {
		return nil, fmt.Errorf("%s: %w: its .eh_frame describes no function", f.path, ErrNoUnwind)
	}
	return p.table(), nil
}

// frameCIE is what the descriptions of many functions have in common.
type frameCIE struct {
	codeAlign, dataAlign int64
	ra                   uint64
	encoding             byte
	augmented, signal    bool
	initial              []byte
}

// funcRows are the rows of one function.
type funcRows struct {
	start, end uint64
	rows       []placedRow
}

type placedRow struct {
	addr uint64
	row  UnwindRow
}

type frameParser struct {
	data  []byte
	addr  uint64 // of the section
	cies  map[int]*frameCIE
	funcs []funcRows
}

// parse walks over the records; what it does not understand is left out, so that there the frame pointer is tried.
func (p *frameParser) parse() {
	for at := 0; at+4 <= len(p.data); {
		n := int(binary.LittleEndian.Uint32(p.data[at:]))
		body := at + 4
		if n == 0 {
			at = body // a terminator; a linked file may go on behind it
			continue
		}
		if n == 0xffffffff || n < 4 || body+n > len(p.data) {
			return
		}
		if id := int(binary.LittleEndian.Uint32(p.data[body:])); id != 0 {
			if cie := p.cie(body - id); cie != nil {
				p.fde(cie, body+4, body+n)
			}
		}
		at = body + n
	}
}

// cie reads the record whose length word is at an offset.
func (p *frameParser) cie(at int) *frameCIE {
	if c, ok := p.cies[at]; ok {
		return c
	}
	p.cies[at] = nil
	if at < 0 || at+9 > len(p.data) {
		return nil
	}
	n := int(binary.LittleEndian.Uint32(p.data[at:]))
	if n < 5 || at+4+n > len(p.data) || binary.LittleEndian.Uint32(p.data[at+4:]) != 0 {
		return nil
	}
	r := frameReader{data: p.data[:at+4+n], at: at + 8}
	version := r.u8()
	aug := r.text()
	c := &frameCIE{codeAlign: int64(r.uleb()), dataAlign: r.sleb(), encoding: encAbs}
	if version == 1 {
		c.ra = uint64(r.u8())
	} else {
		c.ra = r.uleb()
	}
	if aug != "" {
		if aug[0] != 'z' {
			return nil
		}
		c.augmented = true
		size := r.uleb()
		if size > uint64(len(r.data)) {
			return nil
		}
		end := r.at + int(size)
		for _, a := range aug[1:] {
			switch a {
			case 'R':
				c.encoding = r.u8()
			case 'P':
				enc := r.u8()
				r.encoded(enc, 0)
			case 'L':
				r.u8()
			case 'S':
				c.signal = true
			}
		}
		if end > len(r.data) {
			return nil
		}
		r.at = end
	}
	if r.bad || c.codeAlign == 0 || c.dataAlign == 0 {
		return nil
	}
	c.initial = r.data[r.at:]
	p.cies[at] = c
	return c
}

func (p *frameParser) fde(c *frameCIE, at, end int) {
	r := frameReader{data: p.data[:end], at: at}
	start := r.encoded(c.encoding, p.addr+uint64(at))
	size := r.encoded(c.encoding&encFormat, 0)
	if c.augmented {
		skip := r.uleb()
		if skip > uint64(end) {
			return
		}
		r.at += int(skip)
	}
	if r.bad || r.at > end || start == 0 || size == 0 || start+size < start {
		return
	}
	m := frameMachine{cie: c, addr: start, end: start + size}
	m.run(c.initial)
	m.initial, m.rows = m.rules, nil
	if c.signal {
		m.add(UnwindRow{Kind: UnwindSignal})
	} else {
		m.run(p.data[r.at:end])
		m.note()
	}
	p.funcs = append(p.funcs, funcRows{start, start + size, m.rows})
}

// table puts the rows of all functions in order; between functions nothing is known.
func (p *frameParser) table() *UnwindTable {
	sort.Slice(p.funcs, func(i, j int) bool { return p.funcs[i].start < p.funcs[j].start })
	t := &UnwindTable{Base: p.funcs[0].start}
	last := UnwindRow{CFA: -1} // none
	put := func(addr uint64, r UnwindRow) {
		if addr < t.Base || addr-t.Base > 1<<32-1 {
			return
		}
		r.PC = uint32(addr - t.Base)
		if n := len(t.Rows); n > 0 && t.Rows[n-1].PC == r.PC {
			t.Rows = t.Rows[:n-1]
			last.CFA = -1
		}
		if r.Kind == last.Kind && r.CFA == last.CFA && r.BP == last.BP {
			return
		}
		t.Rows, last = append(t.Rows, r), r
	}
	end := t.Base
	for _, f := range p.funcs {
		if f.start < end {
			continue // described twice
		}
		if f.start > end {
			put(end, UnwindRow{Kind: UnwindUnknown})
		}
		for _, r := range f.rows {
			put(r.addr, r.row)
		}
		end = f.end
	}
	put(end, UnwindRow{Kind: UnwindUnknown})
	return t
}

// Registers of x86-64 in DWARF.
const (
	dwarfBP = 6
	dwarfSP = 7
	dwarfRA = 16
)

// frameRules say where the caller's registers are.
type frameRules struct {
	reg    uint64
	off    int64
	expr   []byte // of the frame's address, in place of reg and off
	bp     int64  // where the caller's rbp is, from the frame's address; 0: it is in rbp
	bpAtBP bool   // rbp points to the caller's rbp
	badBP  bool
	noRA   bool // the outermost function
	oddRA  bool
}

// frameMachine runs the instructions of a function's description.
type frameMachine struct {
	cie       *frameCIE
	addr, end uint64
	rules     frameRules
	initial   frameRules
	saved     []frameRules
	rows      []placedRow
}

func (m *frameMachine) add(r UnwindRow) { m.rows = append(m.rows, placedRow{m.addr, r}) }

// note adds the row for the current place.
func (m *frameMachine) note() { m.add(m.rules.row()) }

func (m *frameMachine) advance(n uint64) {
	m.note()
	m.addr += n * uint64(m.cie.codeAlign)
}

// row packs the rules; what does not fit is unknown.
func (r frameRules) row() UnwindRow {
	unknown := UnwindRow{Kind: UnwindUnknown}
	fits := func(n int64, limit int64) bool { return n%8 == 0 && n/8 <= limit && n/8 >= -limit }
	switch {
	case r.noRA:
		return UnwindRow{Kind: UnwindEnd}
	case r.oddRA || r.badBP || !fits(r.bp, 1<<15-1):
		return unknown
	}
	out := UnwindRow{BP: int16(r.bp / 8)}
	if r.expr != nil {
		return r.expression(out)
	}
	if r.bpAtBP || r.off < 0 || !fits(r.off, maxUnwindCFA) {
		return unknown
	}
	out.CFA = int16(r.off / 8)
	switch r.reg {
	case dwarfSP:
		out.Kind = UnwindSP
	case dwarfBP:
		out.Kind = UnwindBP
	default:
		return unknown
	}
	return out
}

// Operations of expressions.
const (
	opDeref = 0x06
	opAnd   = 0x1a
	opLit0  = 0x30
	opLit31 = 0x4f
	opBreg6 = 0x70 + dwarfBP
	opBreg7 = 0x70 + dwarfSP
	opBreg  = 0x70 + dwarfRA
)

// expression knows the two that compilers and linkers write: that of the procedure linkage table, whose entries push once after a few
// bytes, and that of functions that align their stack.
func (r frameRules) expression(out UnwindRow) UnwindRow {
	e := frameReader{data: r.expr}
	switch op := e.u8(); op {
	case opBreg7:
		// rsp + 8 + ((rip & 15) >= N) * 8
		if e.sleb() == 8 && e.u8() == opBreg && e.sleb() == 0 && e.u8() == opLit0+15 && e.u8() == opAnd {
			if n := e.u8(); !e.bad && n >= opLit0 && n <= opLit31 {
				out.Kind, out.CFA, out.BP = UnwindPLT, 1, int16(n-opLit0)
				return out
			}
		}
	case opBreg6:
		if off := e.sleb(); e.u8() == opDeref && e.at == len(e.data) && off <= 0 && off%8 == 0 && -off/8 <= maxUnwindCFA && r.bpAtBP {
			out.Kind, out.CFA, out.BP = UnwindAligned, int16(-off/8), 0
			return out
		}
	}
	return UnwindRow{Kind: UnwindUnknown}
}

// run executes instructions (DWARF 5, 6.4.2).
func (m *frameMachine) run(code []byte) {
	r := frameReader{data: code}
	for r.at < len(r.data) && !r.bad {
		op := r.u8()
		arg := uint64(op & 0x3f)
		switch op >> 6 {
		case 1:
			m.advance(arg)
			continue
		case 2:
			m.saveAt(arg, int64(r.uleb())*m.cie.dataAlign)
			continue
		case 3:
			m.restore(arg)
			continue
		}
		switch op {
		case 0x00: // nop
		case 0x01: // set_loc
			m.note()
			m.addr = r.encoded(m.cie.encoding, 0)
		case 0x02:
			m.advance(uint64(r.u8()))
		case 0x03:
			m.advance(r.fixed(2))
		case 0x04:
			m.advance(r.fixed(4))
		case 0x05: // offset_extended
			reg := r.uleb()
			m.saveAt(reg, int64(r.uleb())*m.cie.dataAlign)
		case 0x06: // restore_extended
			m.restore(r.uleb())
		case 0x07: // undefined
			if reg := r.uleb(); reg == m.cie.ra {
				m.rules.noRA = true
			} else if reg == dwarfBP {
				m.rules.bp, m.rules.bpAtBP = 0, false
			}
		case 0x08: // same_value
			if r.uleb() == dwarfBP {
				m.rules.bp, m.rules.bpAtBP = 0, false
			}
		case 0x09: // register
			m.odd(r.uleb())
			r.uleb()
		case 0x0a: // remember_state
			m.saved = append(m.saved, m.rules)
		case 0x0b: // restore_state
			if n := len(m.saved); n > 0 {
				m.rules, m.saved = m.saved[n-1], m.saved[:n-1]
			}
		case 0x0c: // def_cfa
			m.rules.reg, m.rules.off, m.rules.expr = r.uleb(), int64(r.uleb()), nil
		case 0x0d: // def_cfa_register
			m.rules.reg, m.rules.expr = r.uleb(), nil
		case 0x0e: // def_cfa_offset
			m.rules.off = int64(r.uleb())
		case 0x0f: // def_cfa_expression
			m.rules.expr = r.block()
		case 0x10: // expression
			reg, e := r.uleb(), frameReader{data: r.block()}
			if reg == dwarfBP && e.u8() == opBreg6 && e.sleb() == 0 && e.at == len(e.data) {
				m.rules.bp, m.rules.bpAtBP = 0, true
			} else {
				m.odd(reg)
			}
		case 0x11: // offset_extended_sf
			reg := r.uleb()
			m.saveAt(reg, r.sleb()*m.cie.dataAlign)
		case 0x12: // def_cfa_sf
			m.rules.reg, m.rules.off, m.rules.expr = r.uleb(), r.sleb()*m.cie.dataAlign, nil
		case 0x13: // def_cfa_offset_sf
			m.rules.off = r.sleb() * m.cie.dataAlign
		case 0x14, 0x15: // val_offset
			m.odd(r.uleb())
			r.uleb()
		case 0x16: // val_expression
			m.odd(r.uleb())
			r.block()
		case 0x2e: // GNU_args_size
			r.uleb()
		default:
			m.rules.oddRA = true // the length of its operands is not known
			return
		}
	}
}

func (m *frameMachine) saveAt(reg uint64, off int64) {
	switch reg {
	case dwarfBP:
		m.rules.bp, m.rules.bpAtBP, m.rules.badBP = off, false, false
	case m.cie.ra:
		m.rules.oddRA, m.rules.noRA = off != -8, false
	}
}

func (m *frameMachine) restore(reg uint64) {
	switch reg {
	case dwarfBP:
		m.rules.bp, m.rules.bpAtBP, m.rules.badBP = m.initial.bp, m.initial.bpAtBP, m.initial.badBP
	case m.cie.ra:
		m.rules.oddRA, m.rules.noRA = m.initial.oddRA, m.initial.noRA
	}
}

// odd notes that a register is somewhere that rows cannot say.
func (m *frameMachine) odd(reg uint64) {
	switch reg {
	case dwarfBP:
		m.rules.badBP = true
	case m.cie.ra:
		m.rules.oddRA = true
	}
}

// Encodings of addresses.
const (
	encAbs    = 0x00
	encULEB   = 0x01
	encU2     = 0x02
	encU4     = 0x03
	encU8     = 0x04
	encSigned = 0x08
	encFormat = 0x0f
	encPCRel  = 0x10
	encHow    = 0x70
)

// frameReader reads a record; behind its end everything is zero and bad is set.
type frameReader struct {
	data []byte
	at   int
	bad  bool
}

func (r *frameReader) u8() byte {
	if r.at < 0 || r.at >= len(r.data) {
		r.bad = true
		return 0
	}
	r.at++
	return r.data[r.at-1]
}

func (r *frameReader) fixed(n int) uint64 {
	var v uint64
	for i := range n {
		v |= uint64(r.u8()) << (8 * i)
	}
	return v
}

func (r *frameReader) uleb() uint64 {
	var v uint64
	for shift := 0; ; shift += 7 {
		b := r.u8()
		if shift < 64 {
			v |= uint64(b&0x7f) << shift
		}
		if b&0x80 == 0 || r.bad {
			return v
		}
	}
}

func (r *frameReader) sleb() int64 {
	var v int64
	for shift := 0; ; shift += 7 {
		b := r.u8()
		if shift < 64 {
			v |= int64(b&0x7f) << shift
		}
		if b&0x80 == 0 || r.bad {
			if shift+7 < 64 && b&0x40 != 0 {
				v |= -1 << (shift + 7)
			}
			return v
		}
	}
}

func (r *frameReader) text() string {
	from := r.at
	for r.u8() != 0 {
	}
	if r.bad {
		return ""
	}
	return string(r.data[from : r.at-1])
}

func (r *frameReader) block() []byte {
	n := r.uleb()
	if n > uint64(len(r.data)-min(r.at, len(r.data))) {
		r.bad = true
		return []byte{}
	}
	r.at += int(n)
	return r.data[r.at-int(n) : r.at : r.at]
}

// encoded reads an address that is stored at here.
func (r *frameReader) encoded(enc byte, here uint64) uint64 {
	if enc == 0xff { // left out
		return 0
	}
	var v uint64
	switch enc & encFormat {
	case encAbs, encU8, encU8 | encSigned:
		v = r.fixed(8)
	case encULEB:
		v = r.uleb()
	case encULEB | encSigned:
		v = uint64(r.sleb())
	case encU2:
		v = r.fixed(2)
	case encU2 | encSigned:
		v = uint64(int64(int16(r.fixed(2))))
	case encU4:
		v = r.fixed(4)
	case encU4 | encSigned:
		v = uint64(int64(int32(r.fixed(4))))
	default:
		r.bad = true
	}
	switch enc & encHow {
	case 0:
	case encPCRel:
		v += here
	default:
		r.bad = true
	}
	return v
}
