package scan

import (
	"golang.org/x/arch/x86/x86asm"

	"github.com/sonde-sh/sonde/runtime/symbol"
)

// Registers of x86-64 by their number in the encoding.
const (
	rax reg = iota
	rcx
	rdx
	rbx
	rsp
	rbp
	rsi
	rdi
	r8
	r9
	r10
	r11
	r12
	r13
	r14
	r15
)

var x86Machine = machine{
	registers: 16, sp: rsp, number: rax, result: mask(rax, rcx, r11), callPush: 8,
	lost:   mask(rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11),
	lostGo: 0xffff &^ mask(rsp, rbp, r14),
	decode: decodeX86,
}

// x86Register is a general register and the bytes of it that an operand names.
func x86Register(a x86asm.Arg) (r reg, width uint8, ok bool) {
	x, isReg := a.(x86asm.Reg)
	if !isReg {
		return noReg, 0, false
	}
	switch {
	case x >= x86asm.AL && x <= x86asm.BL:
		return reg(x - x86asm.AL), 1, true
	case x >= x86asm.AH && x <= x86asm.BH:
		return reg(x - x86asm.AH), 0, true // the second byte: no width that can be followed
	case x >= x86asm.SPB && x <= x86asm.R15B:
		return 4 + reg(x-x86asm.SPB), 1, true
	case x >= x86asm.AX && x <= x86asm.R15W:
		return reg(x - x86asm.AX), 2, true
	case x >= x86asm.EAX && x <= x86asm.R15L:
		return reg(x - x86asm.EAX), 4, true
	case x >= x86asm.RAX && x <= x86asm.R15:
		return reg(x - x86asm.RAX), 8, true
	}
	return noReg, 0, false
}

func x86Memory(m x86asm.Mem, next uint64) memory {
	out := memory{base: noReg, index: noReg, disp: m.Disp}
	if m.Segment == x86asm.FS || m.Segment == x86asm.GS {
		out.other = true
	}
	switch {
	case m.Base == x86asm.RIP:
		out.disp += int64(next)
	case m.Base != 0:
		out.base, _, _ = x86Register(m.Base)
	}
	if m.Index != 0 && m.Scale != 0 {
		out.index, _, _ = x86Register(m.Index)
		out.scale = m.Scale
	}
	return out
}

// x86Decoder turns the instructions of one function into micro operations.
type x86Decoder struct {
	out        []micro
	addr, next uint64
	in         x86asm.Inst
}

func decodeX86(code []byte, addr uint64, out []micro) []micro {
	d := &x86Decoder{out: out}
	for at := 0; at < len(code); {
		n := d.one(code[at:], addr+uint64(at))
		at += n
	}
	return d.out
}

func (d *x86Decoder) put(m micro) {
	m.addr, m.next = d.addr, d.next
	d.out = append(d.out, m)
}

// one decodes an instruction and gives its length.
func (d *x86Decoder) one(code []byte, addr uint64) int {
	d.addr = addr
	if code[0] == 0xc4 || code[0] == 0xc5 || code[0] == 0x62 {
		n := symbol.X86Length(code)
		if n > 0 {
			d.next = addr + uint64(n)
			d.vector(code[:n])
			return n
		}
	}
	in, err := x86asm.Decode(code, 64)
	if err != nil || in.Len <= 1 && isX86Prefix(code[0]) {
		n := symbol.X86Length(code)
		d.next = addr + uint64(max(n, 1))
		if n == 0 {
			d.put(micro{kind: opBadBytes})
			return 1
		}
		d.put(micro{}) // endbr64 and others that change no register
		return n
	}
	d.in, d.next = in, addr+uint64(in.Len)
	d.instruction()
	return in.Len
}

func isX86Prefix(b byte) bool {
	switch b {
	case 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65:
		return true
	}
	return b&0xf0 == 0x40
}

// vector handles VEX and EVEX instructions: few of them write a general register, which one does not matter.
func (d *x86Decoder) vector(code []byte) {
	table, op := byte(1), byte(0)
	switch code[0] {
	case 0xc5:
		op = code[2]
	case 0xc4:
		table, op = code[1]&0x1f, code[3]
	default:
		table, op = code[1]&7, code[4]
	}
	general := false
	switch table {
	case 1:
		general = op == 0x50 || op == 0xd7 || op == 0x7e || op == 0x2c || op == 0x2d || op == 0xc5 || op >= 0x92 && op <= 0x93
	case 2:
		general = op >= 0xf2 && op <= 0xf7
	case 3:
		general = op == 0xf0 || op >= 0x14 && op <= 0x17
	}
	if general {
		d.put(clobber(0xffff &^ mask(rsp, rbp)))
		return
	}
	d.put(micro{})
}

// operand reads an argument that is not memory.
func (d *x86Decoder) operand(a x86asm.Arg) (operand, bool) {
	switch x := a.(type) {
	case x86asm.Imm:
		return constant(uint64(int64(x))), true
	case x86asm.Reg:
		if r, width, ok := x86Register(x); ok && width >= 4 {
			return register(r), true
		}
	}
	return operand{}, false
}

// lose says that a register has an unknown value.
func (d *x86Decoder) lose(a x86asm.Arg) {
	switch x := a.(type) {
	case x86asm.Reg:
		if r, _, ok := x86Register(x); ok {
			d.put(clobber(1 << r))
			return
		}
	case x86asm.Mem:
		d.put(store(x86Memory(x, d.next), register(noUnknown), 8))
		return
	}
	d.put(micro{})
}

// noUnknown is a register that never has a known value: for stores of something that is not followed.
const noUnknown reg = 254

func (d *x86Decoder) instruction() {
	in := &d.in
	a, b := in.Args[0], in.Args[1]
	switch in.Op {
	case x86asm.MOV:
		d.mov(a, b)
	case x86asm.MOVZX, x86asm.MOVSX, x86asm.MOVSXD:
		d.extend(a, b)
	case x86asm.LEA:
		d.lea(a, b)
	case x86asm.ADD, x86asm.SUB, x86asm.AND, x86asm.OR, x86asm.XOR, x86asm.SHL, x86asm.SHR, x86asm.SBB:
		d.arithmetic(a, b)
	case x86asm.INC, x86asm.DEC, x86asm.NEG, x86asm.NOT:
		d.unary(a)
	case x86asm.CMOVA, x86asm.CMOVAE, x86asm.CMOVB, x86asm.CMOVBE, x86asm.CMOVE, x86asm.CMOVG, x86asm.CMOVGE, x86asm.CMOVL, x86asm.CMOVLE, x86asm.CMOVNE,
		x86asm.CMOVNO, x86asm.CMOVNP, x86asm.CMOVNS, x86asm.CMOVO, x86asm.CMOVP, x86asm.CMOVS:
		d.either(a, b)
	case x86asm.SETA, x86asm.SETAE, x86asm.SETB, x86asm.SETBE, x86asm.SETE, x86asm.SETG, x86asm.SETGE, x86asm.SETL, x86asm.SETLE, x86asm.SETNE,
		x86asm.SETNO, x86asm.SETNP, x86asm.SETNS, x86asm.SETO, x86asm.SETP, x86asm.SETS:
		// Who reads more than the byte has cleared the register before, or clears it afterwards.
		if r, width, ok := x86Register(a); ok && width == 1 {
			d.put(micro{kind: opEither, dst: r, src: constant(0), other: constant(1), width: 8})
			return
		}
		d.lose(a)
	case x86asm.PUSH:
		d.put(binaryOp(fnSub, rsp, register(rsp), constant(8), 8))
		src, ok := d.operand(a)
		if !ok {
			src = register(noUnknown)
		}
		d.put(store(memory{base: rsp, index: noReg}, src, 8))
	case x86asm.POP:
		if r, _, ok := x86Register(a); ok {
			d.put(load(r, memory{base: rsp, index: noReg}, 8))
		}
		d.put(binaryOp(fnAdd, rsp, register(rsp), constant(8), 8))
	case x86asm.LEAVE:
		d.put(move(rsp, register(rbp), 8))
		d.put(load(rbp, memory{base: rsp, index: noReg}, 8))
		d.put(binaryOp(fnAdd, rsp, register(rsp), constant(8), 8))
	case x86asm.CALL, x86asm.LCALL:
		d.transfer(opCall, a)
	case x86asm.JMP, x86asm.LJMP:
		d.transfer(opJump, a)
	case x86asm.JA, x86asm.JAE, x86asm.JB, x86asm.JBE, x86asm.JCXZ, x86asm.JE, x86asm.JECXZ, x86asm.JG, x86asm.JGE, x86asm.JL, x86asm.JLE, x86asm.JNE, x86asm.JNO,
		x86asm.JNP, x86asm.JNS, x86asm.JO, x86asm.JP, x86asm.JRCXZ, x86asm.JS, x86asm.LOOP, x86asm.LOOPE, x86asm.LOOPNE:
		d.transfer(opBranch, a)
	case x86asm.RET, x86asm.LRET, x86asm.UD0, x86asm.UD1, x86asm.UD2, x86asm.HLT, x86asm.IRET, x86asm.IRETQ:
		d.put(micro{kind: opEnd})
	case x86asm.INT:
		switch v, _ := a.(x86asm.Imm); v {
		case 0x80:
			d.put(micro{kind: opSyscall, sys: sysInt80})
		case 3:
			d.put(micro{kind: opEnd})
		default:
			d.put(micro{})
		}
	case x86asm.SYSCALL:
		d.put(micro{kind: opSyscall})
	case x86asm.SYSENTER:
		d.put(micro{kind: opSyscall, sys: sysInt80})
	default:
		d.rest()
	}
}

func (d *x86Decoder) mov(a, b x86asm.Arg) {
	if m, ok := a.(x86asm.Mem); ok {
		src, ok := d.operand(b)
		if !ok {
			src = register(noUnknown)
		}
		d.put(store(x86Memory(m, d.next), src, uint8(max(d.in.MemBytes, 1))))
		return
	}
	r, width, ok := x86Register(a)
	if !ok {
		d.put(micro{})
		return
	}
	if m, ok := b.(x86asm.Mem); ok && width >= 4 {
		d.put(load(r, x86Memory(m, d.next), width))
		return
	}
	if src, ok := d.operand(b); ok && width >= 4 {
		d.put(move(r, src, width))
		return
	}
	d.put(clobber(1 << r))
}

// extend is a move from a smaller operand.
func (d *x86Decoder) extend(a, b x86asm.Arg) {
	r, width, ok := x86Register(a)
	if !ok {
		d.put(micro{})
		return
	}
	src, from, ok := x86Register(b)
	if !ok || from == 0 || width < 4 {
		d.put(clobber(1 << r))
		return
	}
	if d.in.Op == x86asm.MOVZX {
		d.put(binaryOp(fnAnd, r, register(src), constant(1<<(8*uint(from))-1), width))
		return
	}
	f := map[uint8]fn{1: fnSext8, 2: fnSext16}[from]
	if from == 4 {
		f = fnSext32
	}
	d.put(binaryOp(f, r, register(src), constant(0), width))
}

func (d *x86Decoder) lea(a, b x86asm.Arg) {
	r, width, ok := x86Register(a)
	m, isMem := b.(x86asm.Mem)
	if !ok || !isMem {
		d.lose(a)
		return
	}
	at := x86Memory(m, d.next)
	switch {
	case at.other || width < 4:
		d.put(clobber(1 << r))
	case at.base == noReg && at.index == noReg:
		d.put(move(r, addressOf(uint64(at.disp)), width))
	case at.index == noReg:
		d.put(binaryOp(fnAdd, r, register(at.base), constant(uint64(at.disp)), width))
	case at.base == noReg && at.scale == 1:
		d.put(binaryOp(fnAdd, r, register(at.index), constant(uint64(at.disp)), width))
	default:
		d.put(clobber(1 << r))
	}
}

func (d *x86Decoder) arithmetic(a, b x86asm.Arg) {
	r, width, ok := x86Register(a)
	if !ok || width < 4 {
		// A byte of a register: xor al, al and the like leave nothing that can be followed.
		d.lose(a)
		return
	}
	if s, _, isReg := x86Register(b); isReg && s == r {
		switch d.in.Op {
		case x86asm.XOR, x86asm.SUB:
			d.put(move(r, constant(0), width))
			return
		case x86asm.SBB:
			d.put(micro{kind: opEither, dst: r, src: constant(0), other: constant(^uint64(0)), width: width})
			return
		default:
		}
	}
	f, known := map[x86asm.Op]fn{x86asm.ADD: fnAdd, x86asm.SUB: fnSub, x86asm.AND: fnAnd, x86asm.OR: fnOr, x86asm.XOR: fnXor, x86asm.SHL: fnShl, x86asm.SHR: fnShr}[d.in.Op]
	src, ok := d.operand(b)
	if !ok || !known {
		d.put(clobber(1 << r))
		return
	}
	d.put(binaryOp(f, r, register(r), src, width))
}

func (d *x86Decoder) unary(a x86asm.Arg) {
	r, width, ok := x86Register(a)
	if !ok || width < 4 {
		d.lose(a)
		return
	}
	switch d.in.Op {
	case x86asm.INC:
		d.put(binaryOp(fnAdd, r, register(r), constant(1), width))
	case x86asm.DEC:
		d.put(binaryOp(fnSub, r, register(r), constant(1), width))
	case x86asm.NEG:
		d.put(binaryOp(fnSub, r, constant(0), register(r), width))
	default:
		d.put(binaryOp(fnXor, r, register(r), constant(^uint64(0)), width))
	}
}

func (d *x86Decoder) either(a, b x86asm.Arg) {
	r, width, ok := x86Register(a)
	src, known := d.operand(b)
	if !ok || width < 4 || !known {
		d.lose(a)
		return
	}
	d.put(micro{kind: opEither, dst: r, src: register(r), other: src, width: width})
}

func (d *x86Decoder) transfer(k kind, a x86asm.Arg) {
	m := micro{kind: k, mem: memory{base: noReg, index: noReg, other: true}, src: register(noUnknown)}
	switch x := a.(type) {
	case x86asm.Rel:
		m.target = d.next + uint64(int64(x))
	case x86asm.Mem:
		m.mem = x86Memory(x, d.next)
	case x86asm.Reg:
		if r, _, ok := x86Register(x); ok {
			m.src = register(r)
		}
	}
	d.put(m)
}

// rest are the instructions that are not followed: what they write is unknown afterwards.
func (d *x86Decoder) rest() {
	switch d.in.Op {
	case x86asm.CMP, x86asm.TEST, x86asm.NOP, x86asm.BT, x86asm.PAUSE, x86asm.PREFETCHNTA, x86asm.PREFETCHT0, x86asm.PREFETCHT1, x86asm.PREFETCHT2, x86asm.PREFETCHW,
		x86asm.MFENCE, x86asm.LFENCE, x86asm.SFENCE, x86asm.CLD, x86asm.STD:
		d.put(micro{})
	case x86asm.CPUID:
		d.put(clobber(mask(rax, rbx, rcx, rdx)))
	case x86asm.RDTSC, x86asm.XGETBV, x86asm.MUL, x86asm.DIV, x86asm.IDIV, x86asm.CQO, x86asm.CDQ, x86asm.CWD, x86asm.CMPXCHG8B, x86asm.CMPXCHG16B:
		d.put(clobber(mask(rax, rdx)))
		if d.in.Op == x86asm.CMPXCHG8B || d.in.Op == x86asm.CMPXCHG16B {
			d.lose(d.in.Args[0])
		}
	case x86asm.RDTSCP:
		d.put(clobber(mask(rax, rcx, rdx)))
	case x86asm.IMUL:
		if d.in.Args[1] == nil {
			d.put(clobber(mask(rax, rdx)))
			return
		}
		d.lose(d.in.Args[0])
	case x86asm.CDQE:
		d.put(binaryOp(fnSext32, rax, register(rax), constant(0), 8))
	case x86asm.CBW, x86asm.CWDE:
		d.put(clobber(mask(rax)))
	case x86asm.CMPXCHG:
		d.put(clobber(mask(rax)))
		d.lose(d.in.Args[0])
	case x86asm.XCHG, x86asm.XADD:
		d.lose(d.in.Args[0])
		d.lose(d.in.Args[1])
	case x86asm.MOVSB, x86asm.MOVSW, x86asm.MOVSQ, x86asm.STOSB, x86asm.STOSW, x86asm.STOSD, x86asm.STOSQ, x86asm.CMPSB, x86asm.CMPSW, x86asm.CMPSD, x86asm.CMPSQ,
		x86asm.SCASB, x86asm.SCASW, x86asm.SCASD, x86asm.SCASQ, x86asm.MOVSD:
		d.put(clobber(mask(rcx, rsi, rdi)))
	case x86asm.LODSB, x86asm.LODSW, x86asm.LODSD, x86asm.LODSQ:
		d.put(clobber(mask(rax, rcx, rsi)))
	default:
		d.lose(d.in.Args[0])
	}
}
