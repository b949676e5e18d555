package seccomp

import "github.com/cilium/ebpf/asm"

// The instructions, as methods that can be chained: a row of them reads from left to right, and each costs less of the binary than a value
// that is made and appended.

func (p *programs) emit(i asm.Instruction) *programs {
	if p.label != "" {
		i = i.WithSymbol(p.label)
		p.label = ""
	}
	p.ins = append(p.ins, i)
	return p
}

// load reads memory at src+off.
func (p *programs) load(dst, src asm.Register, off int16, size asm.Size) *programs {
	return p.emit(asm.LoadMem(dst, src, off, size))
}

// store writes a register to memory at dst+off.
func (p *programs) store(dst asm.Register, off int16, src asm.Register, size asm.Size) *programs {
	return p.emit(asm.StoreMem(dst, off, src, size))
}

// storeImm writes a number to memory at dst+off.
func (p *programs) storeImm(dst asm.Register, off int16, v int64, size asm.Size) *programs {
	return p.emit(asm.StoreImm(dst, off, v, size))
}

// storeWide writes a small number as eight bytes, which cilium/ebpf has no constructor for.
func (p *programs) storeWide(dst asm.Register, off int16, v int64) *programs {
	i := asm.StoreImm(dst, off, v, asm.Word)
	i.OpCode = i.OpCode.SetSize(asm.DWord)
	return p.emit(i)
}

// set gives a register a small number, wide any.
func (p *programs) set(dst asm.Register, v int32) *programs {
	return p.alu(asm.Mov, dst, v)
}

func (p *programs) wide(dst asm.Register, v int64) *programs {
	return p.emit(asm.LoadImm(dst, v, asm.DWord))
}

func (p *programs) mov(dst, src asm.Register) *programs {
	return p.aluReg(asm.Mov, dst, src)
}

func (p *programs) alu(op asm.ALUOp, dst asm.Register, v int32) *programs {
	return p.emit(op.Imm(dst, v))
}

func (p *programs) aluReg(op asm.ALUOp, dst, src asm.Register) *programs {
	return p.emit(op.Reg(dst, src))
}

func (p *programs) alu32(op asm.ALUOp, dst asm.Register, v int32) *programs {
	return p.emit(op.Imm32(dst, v))
}

func (p *programs) aluReg32(op asm.ALUOp, dst, src asm.Register) *programs {
	return p.emit(op.Reg32(dst, src))
}

func (p *programs) jump(label string) *programs {
	return p.emit(asm.Ja.Label(label))
}

func (p *programs) jumpIf(op asm.JumpOp, dst asm.Register, v int32, label string) *programs {
	return p.emit(op.Imm(dst, v, label))
}

func (p *programs) jumpIfReg(op asm.JumpOp, dst, src asm.Register, label string) *programs {
	return p.emit(op.Reg(dst, src, label))
}

func (p *programs) call(f asm.BuiltinFunc) *programs {
	return p.emit(f.Call())
}

// ret ends the program.
func (p *programs) ret() *programs {
	return p.emit(asm.Return())
}
