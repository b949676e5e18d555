package bpf

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/source"
)

// encoder appends functions to one stream of instructions.
type encoder struct {
	insns   asm.Instructions
	raw     asm.RawInstructionOffset // size of insns
	spans   []object.SpanAt
	starts  []int // index in insns of each function's first instruction
	symbols map[*ir.Func]string
	taken   map[string]bool

	f    *function
	far  bool // every jump can reach any place (cpu v4)
	jump []fixup
}

type fixup struct {
	index int // in insns
	at    asm.RawInstructionOffset
	to    *block
	span  source.Span
}

// name returns the symbol of a function, unique in the program.
func (e *encoder) name(f *ir.Func) string {
	if e.symbols == nil {
		e.symbols, e.taken = map[*ir.Func]string{}, map[string]bool{}
	}
	if s, ok := e.symbols[f]; ok {
		return s
	}
	base := symbol(f)
	s := base
	for i := 1; e.taken[s]; i++ {
		s = fmt.Sprintf("%s_%d", base, i)
	}
	e.symbols[f], e.taken[s] = s, true
	return s
}

// function encodes one function with allocated registers.
func (e *encoder) function(f *function, opts *Options) error {
	mark, raw, spans := len(e.insns), e.raw, len(e.spans)
	most := 0
	for _, b := range f.blocks {
		most += len(b.insts) + 2 // and the jumps at its end
	}
	e.insns = slices.Grow(e.insns, most)
	for e.far = false; ; e.far = true {
		e.f = f
		e.jump = e.jump[:0]
		for i, b := range f.blocks {
			var next *block
			if i+1 < len(f.blocks) {
				next = f.blocks[i+1]
			}
			e.block(b, next)
		}
		bad, ok := e.patch()
		if ok {
			break
		}
		if e.far || !opts.CPUv4 {
			return &Error{bad.span, fmt.Sprintf("%s is too large: a jump over %d instructions", f.ir.Name, math.MaxInt16)}
		}
		e.insns, e.raw, e.spans = e.insns[:mark], raw, e.spans[:spans]
	}
	e.insns[mark] = e.insns[mark].WithSymbol(e.name(f.ir))
	e.starts = append(e.starts, mark)
	return nil
}

// patch sets the offsets of the jumps; it returns the first that does not reach.
func (e *encoder) patch() (fixup, bool) {
	for _, j := range e.jump {
		d := int64(j.to.pos) - int64(j.at) - 1
		in := &e.insns[j.index]
		if in.OpCode.Class() == asm.Jump32Class {
			in.Constant = d
			continue
		}
		if d != int64(int16(d)) {
			return j, false
		}
		in.Offset = int16(d)
	}
	return fixup{}, true
}

func (e *encoder) put(in asm.Instruction, sp source.Span) {
	if sp.IsValid() && (len(e.spans) == 0 || e.spans[len(e.spans)-1].Span != sp) {
		if n := len(e.spans); n > 0 && e.spans[n-1].Offset == e.raw {
			e.spans = e.spans[:n-1]
		}
		e.spans = append(e.spans, object.SpanAt{Offset: e.raw, Span: sp})
	}
	e.insns = append(e.insns, in)
	e.raw += in.Width()
}

func (e *encoder) block(b, next *block) {
	b.pos = int(e.raw)
	for i := range b.insts {
		e.inst(&b.insts[i])
	}
	switch {
	case b.exit:
		e.put(asm.Return(), b.span)
	case len(b.succs) == 1:
		if b.succs[0] != next {
			e.goTo(b.succs[0], b.span)
		}
	default:
		yes, no := b.succs[0], b.succs[1]
		cond := b.cond
		if inv, ok := inverse[cond]; ok && yes == next {
			cond, yes, no = inv, no, yes
		}
		e.branch(cond, b, yes)
		if no != next {
			e.goTo(no, b.span)
		}
	}
}

func (e *encoder) goTo(to *block, sp source.Span) {
	in := asm.Instruction{OpCode: asm.Ja.Op(asm.ImmSource)}
	if e.far {
		in.OpCode = asm.OpCode(asm.Jump32Class).SetJumpOp(asm.Ja).SetSource(asm.ImmSource)
	}
	e.jump = append(e.jump, fixup{len(e.insns), e.raw, to, sp})
	e.put(in, sp)
}

func (e *encoder) branch(cond asm.JumpOp, b *block, to *block) {
	if e.far {
		// Over the long jump when the condition does not hold.
		if inv, ok := inverse[cond]; ok {
			e.put(condJump(inv, b.x, b.y, b.imm, 1), b.span)
		} else {
			e.put(condJump(cond, b.x, b.y, b.imm, 1), b.span)
			e.put(asm.Instruction{OpCode: asm.Ja.Op(asm.ImmSource), Offset: 1}, b.span)
		}
		e.goTo(to, b.span)
		return
	}
	e.jump = append(e.jump, fixup{len(e.insns), e.raw, to, b.span})
	e.put(condJump(cond, b.x, b.y, b.imm, 0), b.span)
}

func condJump(cond asm.JumpOp, x, y reg, imm int64, off int16) asm.Instruction {
	in := asm.Instruction{OpCode: cond.Op(asm.ImmSource), Dst: asm.Register(x), Offset: off}
	if y == noReg {
		in.Constant = imm
	} else {
		in.OpCode, in.Src = cond.Op(asm.RegSource), asm.Register(y)
	}
	return in
}

var sizes = [9]asm.Size{1: asm.Byte, 2: asm.Half, 4: asm.Word, 8: asm.DWord}

func movImm(dst asm.Register, imm int64) asm.Instruction {
	if fitsImm(imm) {
		return asm.Mov.Imm(dst, int32(imm))
	}
	return asm.LoadImm(dst, imm, asm.DWord)
}

// spillOff returns the frame offset of a spill slot.
func (e *encoder) spillOff(i int64) int16 { return int16(-e.f.frame - 8*int(i) - 8) }

func (e *encoder) inst(in *inst) {
	dst, src, x := asm.Register(in.dst), asm.Register(in.src), asm.Register(in.x)
	off := int16(in.off)
	if in.slot != nil {
		off = int16(in.slot.Off + int(in.off))
	}
	put := func(i asm.Instruction) { e.put(i, in.span) }
	switch in.kind {
	case kMov:
		put(asm.Mov.Reg(dst, src))
	case kMov32:
		put(asm.Mov.Reg32(dst, src))
	case kMovSX:
		op := map[uint8]asm.ALUOp{8: asm.MovSX8, 16: asm.MovSX16, 32: asm.MovSX32}[in.size]
		put(op.Reg(dst, src))
	case kMovImm:
		put(movImm(dst, in.imm))
	case kALU:
		switch {
		case in.useImm && in.w32:
			put(in.alu.Imm32(dst, int32(in.imm)))
		case in.useImm:
			put(in.alu.Imm(dst, int32(in.imm)))
		case in.w32:
			put(in.alu.Reg32(dst, src))
		default:
			put(in.alu.Reg(dst, src))
		}
	case kNeg:
		if in.w32 {
			put(asm.Neg.Imm32(dst, 0))
		} else {
			put(asm.Neg.Imm(dst, 0))
		}
	case kSwap:
		put(asm.HostTo(asm.BE, dst, sizes[in.size/8]))
	case kLoad:
		if in.signed {
			put(asm.LoadMemSX(dst, src, off, sizes[in.size]))
		} else {
			put(asm.LoadMem(dst, src, off, sizes[in.size]))
		}
	case kStore:
		if in.useImm {
			put(asm.Instruction{OpCode: asm.StoreImmOp(sizes[in.size]), Dst: x, Offset: off, Constant: in.imm})
		} else {
			put(asm.StoreMem(x, off, src, sizes[in.size]))
		}
	case kAtomic, kCmpXchg:
		a := in.atomic.Mem(x, src, sizes[in.size], off)
		// The assembler of cilium/ebpf 0.22 writes the constant, not the op, into the instruction.
		a.Constant = int64(in.atomic >> 8)
		put(a)
	case kFrame:
		put(asm.Mov.Reg(dst, asm.RFP))
		put(asm.Add.Imm(dst, int32(in.slot.Off)+in.off))
	case kMapRef:
		put(asm.LoadMapPtr(dst, 0).WithReference(in.name))
	case kMapVal:
		put(asm.LoadMapValue(dst, 0, uint32(in.off)).WithReference(in.name))
	case kFuncRef:
		put(asm.Instruction{OpCode: asm.LoadImmOp(asm.DWord), Dst: dst, Src: asm.PseudoFunc, Constant: -1}.WithReference(e.name(in.fn)))
	case kHelper:
		put(asm.BuiltinFunc(in.imm).Call())
	case kKfunc:
		put(asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: in.imm})
	case kCall:
		put(asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoCall, Constant: -1}.WithReference(e.name(in.fn)))
	case kSet:
		put(asm.Mov.Imm(dst, 1))
		put(condJump(in.cond, in.x, in.src, in.imm, 1))
		put(asm.Mov.Imm(dst, 0))
	case kSelect:
		put(condJump(in.cond, in.x, in.src, in.imm, 1))
		if in.z == noReg {
			put(asm.Mov.Imm(dst, int32(in.imm2)))
		} else {
			put(asm.Mov.Reg(dst, asm.Register(in.z)))
		}
	case kBound:
		put(condJump(asm.JLE, in.dst, noReg, in.imm, 1))
		put(asm.Mov.Imm(dst, int32(in.imm)))
		// On a path that cannot be taken, Linux 6.1 may know that the value is at least 3 and at most 1, and then nothing about a pointer
		// to which it is added. A mask that changes no value brings both limits together.
		put(asm.And.Imm(dst, int32(1<<bits.Len64(uint64(in.imm))-1)))
	case kReload:
		put(asm.LoadMem(dst, asm.RFP, e.spillOff(in.imm), asm.DWord))
	case kSpill:
		put(asm.StoreMem(asm.RFP, e.spillOff(in.imm), src, asm.DWord))
	}
}
