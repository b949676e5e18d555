package scan

import (
	"encoding/binary"
	"math/bits"
)

// The words are read here and not by x/arch's decoder: it keeps the offsets of loads to itself, and takes microseconds for each.

const armSP reg = 31

var arm64Machine = machine{
	registers: 32, sp: armSP, number: 8, result: mask(0),
	lost:   0x7ffff | 1<<30,
	lostGo: 0xffffffff &^ mask(28, 29, armSP),
	decode: decodeARM64,
}

// armDecoder turns the words of one function into micro operations.
type armDecoder struct {
	out  []micro
	addr uint64
	// pages are what adrp put into registers: an addition or a load right behind completes the address.
	pages [32]uint64
}

func decodeARM64(code []byte, addr uint64, out []micro) []micro {
	d := &armDecoder{out: out}
	for ; len(code) >= 4; code = code[4:] {
		d.addr = addr
		d.one(binary.LittleEndian.Uint32(code))
		addr += 4
	}
	return d.out
}

func (d *armDecoder) put(m micro) {
	m.addr, m.next = d.addr, d.addr+4
	d.out = append(d.out, m)
	switch m.kind {
	case opMove, opBinary, opEither, opLoad:
		if m.dst < 32 {
			d.pages[m.dst] = 0
		}
	case opClobber:
		for r := range d.pages {
			if m.mask>>r&1 == 1 {
				d.pages[r] = 0
			}
		}
	case opCall, opJump, opEnd:
		d.pages = [32]uint64{}
	default:
	}
}

// field takes n bits from a place.
func field(w uint32, at, n uint) uint32 { return w >> at & (1<<n - 1) }

// signed takes n bits as a signed number.
func signed(w uint32, at, n uint) int64 { return int64(field(w, at, n)) << (64 - n) >> (64 - n) }

// zero is an operand where 31 means the number zero, not the stack pointer.
func zero(r uint32) operand {
	if r == 31 {
		return constant(0)
	}
	return register(reg(r))
}

func width(sf uint32) uint8 {
	if sf == 1 {
		return 8
	}
	return 4
}

// set puts an operation whose destination 31 means nowhere.
func (d *armDecoder) set(m micro) {
	if m.dst == 31 {
		m = micro{}
	}
	d.put(m)
}

func (d *armDecoder) one(w uint32) {
	rd, rn := reg(field(w, 0, 5)), reg(field(w, 5, 5))
	rm := field(w, 16, 5)
	sf := field(w, 31, 1)
	switch {
	case w&0x9f000000 == 0x90000000: // adrp
		page := d.addr&^0xfff + uint64((signed(w, 5, 19)<<2|int64(field(w, 29, 2)))<<12)
		d.set(move(rd, constant(page), 8))
		if rd != 31 {
			d.pages[rd] = page
		}
	case w&0x9f000000 == 0x10000000: // adr
		d.set(move(rd, addressOf(d.addr+uint64(signed(w, 5, 19)<<2|int64(field(w, 29, 2)))), 8))
	case w&0x1f800000 == 0x11000000: // add, sub with a constant
		d.addImmediate(w)
	case w&0x1f800000 == 0x12800000: // movn, movz, movk
		v, shift := uint64(field(w, 5, 16)), uint(field(w, 21, 2))*16
		switch field(w, 29, 2) {
		case 0:
			d.set(move(rd, constant(^(v << shift)), width(sf)))
		case 2:
			d.set(move(rd, constant(v<<shift), width(sf)))
		case 3:
			d.set(micro{kind: opBinary, fn: fnKeep16, dst: rd, src: register(rd), other: constant(v<<16 | uint64(shift)), width: width(sf)})
		default:
			d.put(micro{})
		}
	case w&0x7f8003e0 == 0x320003e0: // mov of a pattern of bits
		d.set(move(rd, constant(bitPattern(field(w, 22, 1), field(w, 16, 6), field(w, 10, 6))), width(sf)))
	case w&0x7fe0ffe0 == 0x2a0003e0: // mov between registers
		d.set(move(rd, zero(rm), width(sf)))
	case w&0x7f200000 == 0x2a000000 && field(w, 10, 6) == 0 && field(w, 22, 2) == 0: // orr
		d.set(binaryOp(fnOr, rd, zero(uint32(rn)), zero(rm), width(sf)))
	case w&0x1f200000 == 0x0b000000: // add, sub of registers
		f := fnAdd
		if field(w, 30, 1) == 1 {
			f = fnSub
		}
		if field(w, 10, 6) != 0 {
			d.set(micro{kind: opMove, dst: rd, src: register(noUnknown), width: 8})
			return
		}
		d.set(binaryOp(f, rd, zero(uint32(rn)), zero(rm), width(sf)))
	case w&0x1fe00000 == 0x1a800000: // csel and relatives
		switch field(w, 30, 1)<<2 | field(w, 10, 2) {
		case 0:
			d.set(micro{kind: opEither, dst: rd, src: zero(uint32(rn)), other: zero(rm), width: width(sf)})
		case 1:
			if rm == 31 {
				d.set(micro{kind: opEither, dst: rd, src: zero(uint32(rn)), other: constant(1), width: width(sf)})
				return
			}
			fallthrough
		default:
			d.set(micro{kind: opMove, dst: rd, src: register(noUnknown), width: 8})
		}
	case w&0x3b000000 == 0x39000000: // load, store with an offset
		size := field(w, 30, 2)
		d.access(w, memory{base: rn, index: noReg, disp: int64(field(w, 10, 12)) << size}, size)
	case w&0x3b200000 == 0x38000000: // the same with a small offset, before or after
		size, off := field(w, 30, 2), signed(w, 12, 9)
		switch field(w, 10, 2) {
		case 1:
			d.access(w, memory{base: rn, index: noReg}, size)
			d.put(binaryOp(fnAdd, rn, register(rn), constant(uint64(off)), 8))
		case 3:
			d.put(binaryOp(fnAdd, rn, register(rn), constant(uint64(off)), 8))
			d.access(w, memory{base: rn, index: noReg}, size)
		default:
			d.access(w, memory{base: rn, index: noReg, disp: off}, size)
		}
	case w&0x3a000000 == 0x28000000:
		d.pair(w)
	case w&0x3b000000 == 0x18000000: // load relative to the program counter
		if field(w, 26, 1) == 0 {
			d.set(load(rd, memory{base: noReg, index: noReg, disp: int64(d.addr) + signed(w, 5, 19)<<2}, 8))
			return
		}
		d.put(micro{})
	case w&0x3b200000 == 0x38200000: // offset in a register, and atomic operations
		if field(w, 26, 1) == 0 && (field(w, 22, 2) != 0 || field(w, 10, 2) == 0) {
			d.lose(rd)
			return
		}
		d.put(micro{})
	default:
		d.control(w, rd)
	}
}

// bitPattern is the constant of a logical instruction: a run of ones, rotated, repeated over the register.
func bitPattern(n, rotate, ones uint32) uint64 {
	size := uint32(1) << (bits.Len32(n<<6|^ones&0x3f) - 1)
	if size < 2 {
		return 0
	}
	v := uint64(1)<<(ones&(size-1)+1) - 1
	if r := rotate & (size - 1); r != 0 {
		v = v>>r | v<<(size-r)
	}
	if size < 64 {
		v &= 1<<size - 1
	}
	for ; size < 64; size *= 2 {
		v |= v << size
	}
	return v
}

func (d *armDecoder) lose(r reg) {
	if r == 31 {
		d.put(micro{})
		return
	}
	d.put(clobber(1 << r))
}

func (d *armDecoder) addImmediate(w uint32) {
	rd, rn := reg(field(w, 0, 5)), reg(field(w, 5, 5))
	v := uint64(field(w, 10, 12))
	if field(w, 22, 1) == 1 {
		v <<= 12
	}
	f := fnAdd
	if field(w, 30, 1) == 1 {
		f = fnSub
	}
	if rd == 31 && field(w, 29, 1) == 1 { // a comparison
		d.put(micro{})
		return
	}
	if page := d.pages[rn]; page != 0 && f == fnAdd && rn != 31 {
		d.put(move(rd, addressOf(page+v), 8))
		return
	}
	d.put(binaryOp(f, rd, register(rn), constant(v), width(field(w, 31, 1))))
}

// access is a load or a store of one register.
func (d *armDecoder) access(w uint32, m memory, size uint32) {
	rt := reg(field(w, 0, 5))
	if field(w, 26, 1) == 1 { // of a floating point register
		if field(w, 22, 1) == 0 {
			d.put(store(m, register(noUnknown), 8))
			return
		}
		d.put(micro{})
		return
	}
	if m.base != armSP && d.pages[m.base] != 0 {
		m.disp += int64(d.pages[m.base])
		m.base = noReg
	}
	switch opc := field(w, 22, 2); {
	case opc == 0:
		d.put(store(m, zero(uint32(rt)), 1<<size))
	case opc == 1 && size >= 2:
		d.set(load(rt, m, 1<<size))
	case opc >= 2 && size == 3: // prefetch
		d.put(micro{})
	default:
		d.lose(rt)
	}
}

// pair is a load or a store of two registers.
func (d *armDecoder) pair(w uint32) {
	rt, rn, rt2 := reg(field(w, 0, 5)), reg(field(w, 5, 5)), reg(field(w, 10, 5))
	opc, off := field(w, 30, 2), signed(w, 15, 7)
	bytes := int64(4)
	if opc == 2 || field(w, 26, 1) == 1 {
		bytes = 8
	}
	if field(w, 26, 1) == 1 {
		bytes = 4 << opc
	}
	off *= bytes
	m := memory{base: rn, index: noReg, disp: off}
	before, after := field(w, 23, 2) == 3, field(w, 23, 2) == 1
	if before {
		d.put(binaryOp(fnAdd, rn, register(rn), constant(uint64(off)), 8))
	}
	if before || after {
		m.disp = 0
	}
	m2 := m
	m2.disp += bytes
	switch {
	case field(w, 26, 1) == 1 && field(w, 22, 1) == 0:
		d.put(store(m, register(noUnknown), 8))
		d.put(store(m2, register(noUnknown), 8))
	case field(w, 26, 1) == 1:
		d.put(micro{})
	case field(w, 22, 1) == 0:
		d.put(store(m, zero(uint32(rt)), uint8(bytes)))
		d.put(store(m2, zero(uint32(rt2)), uint8(bytes)))
	case opc == 1:
		d.lose(rt)
		d.lose(rt2)
	default:
		d.set(load(rt, m, uint8(bytes)))
		d.set(load(rt2, m2, uint8(bytes)))
	}
	if after {
		d.put(binaryOp(fnAdd, rn, register(rn), constant(uint64(off)), 8))
	}
}

// control are jumps, system instructions, and what is left.
func (d *armDecoder) control(w uint32, rd reg) {
	none := memory{base: noReg, index: noReg, other: true}
	jump := func(k kind, off int64) {
		d.put(micro{kind: k, target: d.addr + uint64(off), mem: none, src: register(noUnknown)})
	}
	through := func(k kind) {
		d.put(micro{kind: k, mem: none, src: register(reg(field(w, 5, 5)))})
	}
	switch {
	case w&0xfc000000 == 0x14000000:
		jump(opJump, signed(w, 0, 26)<<2)
	case w&0xfc000000 == 0x94000000:
		jump(opCall, signed(w, 0, 26)<<2)
	case w&0xff000000 == 0x54000000, w&0x7e000000 == 0x34000000:
		jump(opBranch, signed(w, 5, 19)<<2)
	case w&0x7e000000 == 0x36000000:
		jump(opBranch, signed(w, 5, 14)<<2)
	case w&0xfe9ff000 == 0xd61f0000, w&0xfffff000 == 0xd71f0000:
		through(opJump)
	case w&0xfe9ff000 == 0xd63f0000, w&0xfffff000 == 0xd73f0000, w&0xfffffc00 == 0xd63f0000:
		through(opCall)
	case w&0xfffff000 == 0xd65f0000, w&0xffe0001f == 0xd4200000, w>>16 == 0: // ret, brk, udf
		d.put(micro{kind: opEnd})
	case w&0xffe0001f == 0xd4000001:
		d.put(micro{kind: opSyscall})
	case w&0xfffff01f == 0xd503201f, w&0xfffff000 == 0xd5033000, w&0xfff00000 == 0xd5100000, w&0xfff80000 == 0xd5000000: // hints, barriers, writes of system registers
		d.put(micro{})
	case w&0x3f000000 == 0x08000000: // exclusive accesses
		if field(w, 22, 1) == 1 {
			d.lose(rd)
		}
		if rs := reg(field(w, 16, 5)); rs != 31 {
			d.lose(rs)
		}
		d.put(micro{})
	case field(w, 25, 3) == 7: // floating point and vectors: few write a general register
		if w&0x5f20fc00 == 0x1e200000 || w&0xbfe0fc00 == 0x0e003c00 {
			d.lose(rd)
			return
		}
		d.put(micro{})
	default:
		d.lose(rd)
	}
}
