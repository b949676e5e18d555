package symbol

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/arch/arm64/arm64asm"
	"golang.org/x/arch/x86/x86asm"
)

// ErrNoDecoder is wrapped by errors about code of an architecture that cannot be decoded here.
var ErrNoDecoder = errors.New("machine code of this architecture cannot be decoded")

// InstructionClass tells what the kernel does with an instruction under a uprobe.
type InstructionClass int

const (
	// InstructionOther is executed out of line by single-stepping: a second trap for each hit.
	InstructionOther InstructionClass = iota
	// InstructionPush saves a register on the stack: the usual start of a function with a frame pointer. The kernel
	// emulates it.
	InstructionPush
	// InstructionNop1 is the one-byte nop, which the kernel emulates.
	InstructionNop1
	// InstructionNop5 is the five-byte nop, which newer x86-64 kernels replace by a call: the cheapest place of all.
	InstructionNop5
	// InstructionNop is any other nop.
	InstructionNop
	// InstructionLanding is endbr64 or bti, the landing mark of indirect calls; Instruction.Next has the class of the
	// one behind it.
	InstructionLanding
	// InstructionBranch is a direct jump or call, which the kernel emulates.
	InstructionBranch
	// InstructionReturn leaves the function.
	InstructionReturn
	// InstructionTrap is a breakpoint: a debugger or another uprobe is there already.
	InstructionTrap
	// InstructionUnprobeable is refused by the kernel: lock and segment prefixes, privileged and input/output
	// instructions on x86-64, exclusive accesses and system instructions on arm64.
	InstructionUnprobeable
)

// String names the class.
func (c InstructionClass) String() string {
	names := [...]string{"other", "push", "nop1", "nop5", "nop", "landing", "branch", "return", "trap", "unprobeable"}
	if c < 0 || int(c) >= len(names) {
		return fmt.Sprintf("class %d", int(c))
	}
	return names[c]
}

// Instruction is one machine instruction.
type Instruction struct {
	// Addr is its address in the image.
	Addr uint64
	// Len is in bytes.
	Len int
	// Class tells how a uprobe on it behaves.
	Class InstructionClass
	// Next is the class of the following instruction, filled by [File.Instruction] only.
	Next InstructionClass
	// Text is the instruction in GNU syntax, filled by [File.Instruction] only; "" when the decoder knows only the length.
	Text string
}

// Instruction decodes the instruction at an address of the image.
func (f *File) Instruction(addr uint64) (Instruction, error) {
	code, err := f.Code(addr, 32)
	if err != nil {
		return Instruction{}, err
	}
	in, err := decode(f.elf.Machine, code, addr)
	if err != nil {
		return Instruction{}, fmt.Errorf("%s: %#x: %w", f.path, addr, err)
	}
	in.Text = disassemble(f.elf.Machine, code, addr, in, nil)
	if next, err := decode(f.elf.Machine, code[in.Len:], addr+uint64(in.Len)); err == nil {
		in.Next = next.Class
	}
	return in, nil
}

// Returns lists the addresses of a function's return instructions, in order: where a return probe is placed in a
// program whose stack must not be changed (Go). A function that never returns has none. It also works for other
// languages, but tail calls leave a function without a return.
func (f *File) Returns(s Symbol) ([]uint64, error) {
	var out []uint64
	err := f.eachInstruction(s, func(in Instruction) bool {
		if in.Class == InstructionReturn {
			out = append(out, in.Addr)
		}
		return true
	})
	return out, err
}

// Boundary reports whether an instruction of the function starts offset bytes into it, and the nearest offsets around at
// which one does. A probe inside an instruction would destroy it.
func (f *File) Boundary(s Symbol, offset uint64) (ok bool, before, after uint64, err error) {
	end := f.FunctionEnd(s)
	if s.Addr+offset >= end {
		return false, 0, 0, fmt.Errorf("offset outside the function bounds ('%s' size is %d)", s.Name, end-s.Addr)
	}
	err = f.eachInstruction(s, func(in Instruction) bool {
		start := in.Addr - s.Addr
		next := start + uint64(in.Len)
		if offset < next {
			ok, before, after = start == offset, start, next
			if ok {
				after = start
			}
			return false
		}
		return true
	})
	return ok, before, after, err
}

// maxFunction is where decoding a function stops; the largest known ones (generated interpreters) have a few megabytes.
const maxFunction = 64 << 20

func (f *File) eachInstruction(s Symbol, visit func(Instruction) bool) error {
	if m := f.elf.Machine; m != elf.EM_X86_64 && m != elf.EM_AARCH64 {
		return fmt.Errorf("%s: %w: %v", f.path, ErrNoDecoder, m)
	}
	size := f.FunctionEnd(s) - s.Addr
	if size > maxFunction {
		return fmt.Errorf("%s: function %s has %d bytes", f.path, s.Name, size)
	}
	code, err := f.Code(s.Addr, int(size))
	if err != nil {
		return err
	}
	for at := 0; at < len(code); {
		in, err := decode(f.elf.Machine, code[at:], s.Addr+uint64(at))
		if err != nil {
			return fmt.Errorf("%s: function %s, offset %d: %w", f.path, s.Name, at, err)
		}
		if !visit(in) {
			return nil
		}
		at += in.Len
	}
	return nil
}

func decode(machine elf.Machine, code []byte, addr uint64) (Instruction, error) {
	in := Instruction{Addr: addr}
	switch machine {
	case elf.EM_X86_64:
		n := X86Length(code)
		if n <= 0 || n > len(code) {
			return in, fmt.Errorf("unknown instruction % x", code[:min(len(code), 8)])
		}
		in.Len, in.Class = n, x86Class(code[:n])
		return in, nil
	case elf.EM_AARCH64:
		if len(code) < 4 {
			return in, errors.New("cut instruction")
		}
		in.Len, in.Class = 4, arm64Class(binary.LittleEndian.Uint32(code))
		return in, nil
	}
	return in, fmt.Errorf("%w: %v", ErrNoDecoder, machine)
}

func disassemble(machine elf.Machine, code []byte, addr uint64, in Instruction, name func(uint64) (string, uint64)) string {
	switch machine {
	case elf.EM_X86_64:
		if in.Class == InstructionLanding {
			return "endbr64"
		}
		if x, err := x86asm.Decode(code, 64); err == nil && x.Len == in.Len {
			return x86asm.GNUSyntax(x, addr, name)
		}
	case elf.EM_AARCH64:
		if x, err := arm64asm.Decode(code); err == nil {
			return arm64asm.GNUSyntax(x)
		}
	}
	return ""
}

// arm64Class follows what arch/arm64/kernel/probes refuses to step.
func arm64Class(w uint32) InstructionClass {
	switch {
	case w == 0xd503201f:
		return InstructionNop
	case w&0xffffff1f == 0xd503241f, w == 0xd503233f, w == 0xd503237f: // bti, paciasp, pacibsp
		return InstructionLanding
	case w&0xfffffc1f == 0xd65f0000, w == 0xd65f0bff, w == 0xd65f0fff: // ret, retaa, retab
		return InstructionReturn
	case w&0xffc07fff == 0xa9807bfd: // stp x29, x30, [sp, #n]!
		return InstructionPush
	case w&0x7c000000 == 0x14000000, w&0xff000010 == 0x54000000, w&0x7e000000 == 0x34000000, w&0x7e000000 == 0x36000000: // b, bl, b.cond, cbz, tbz
		return InstructionBranch
	case w&0xffe0001f == 0xd4200000: // brk
		return InstructionTrap
	case w&0xff000000 == 0xd4000000, // svc, hvc, smc, hlt
		w&0xffffffe0 == 0xd53b4220,                      // mrs daif
		w&0xfff00000 == 0xd5100000,                      // msr
		w&0xfff8f01f == 0xd500401f,                      // msr immediate
		w&0xffffffff == 0xd69f03e0,                      // eret
		w&0x3b000000 == 0x18000000,                      // loads relative to the program counter
		w&0x3f000000 == 0x08000000 && w&0x00800000 == 0: // exclusive accesses
		return InstructionUnprobeable
	}
	return InstructionOther
}

// NativeInsn is one instruction of machine code.
type NativeInsn struct {
	Offset int // bytes from the start of the code
	Text   string
}

// NativeCode disassembles machine code of this machine, such as the kernel's translation of a BPF program. name, which may be nil, gives the
// symbol that an address belongs to and where it starts, "" for none. What cannot be decoded ends the list with its bytes.
func NativeCode(code []byte, addr uint64, name func(uint64) (string, uint64)) []NativeInsn {
	var out []NativeInsn
	machine := NativeMachine()
	for at := 0; at < len(code); {
		here := addr + uint64(at)
		in, err := decode(machine, code[at:], here)
		if err != nil || in.Len <= 0 || at+in.Len > len(code) {
			return append(out, NativeInsn{at, fmt.Sprintf(".byte % x", code[at:min(at+8, len(code))])})
		}
		text := disassemble(machine, code[at:at+in.Len], here, in, name)
		if text == "" {
			text = fmt.Sprintf(".byte % x", code[at:at+in.Len])
		}
		out = append(out, NativeInsn{at, text})
		at += in.Len
	}
	return out
}
