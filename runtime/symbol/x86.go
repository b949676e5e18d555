package symbol

import (
	"encoding/binary"

	"golang.org/x/arch/x86/x86asm"
)

// X86Length returns the length in bytes of a 64-bit mode instruction, 0 when it is none. The decoder of x/arch does not
// know every extension (endbr64 comes back as a lone rep) and takes vzeroupper for one byte too many; a function with
// one wrong length would have its return probes in the wrong places. The length of all of these follows from the
// encoding alone.
func X86Length(code []byte) int {
	if len(code) == 0 {
		return 0
	}
	vector := code[0] == 0xc4 || code[0] == 0xc5 || code[0] == 0x62 // VEX and EVEX prefixes
	if !vector {
		in, err := x86asm.Decode(code, 64)
		if err == nil && (in.Len > 1 || !x86Prefix(code[0])) {
			return in.Len
		}
	}
	return x86EncodedLength(code)
}

func x86Prefix(b byte) bool {
	switch b {
	case 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65:
		return true
	}
	return b&0xf0 == 0x40
}

// x86EncodedLength reads the length off the encoding: prefixes, opcode map, ModRM, displacement, immediate.
func x86EncodedLength(code []byte) int {
	i := 0
	operand16 := false
prefixes:
	for ; i < len(code) && i < 15; i++ {
		switch code[i] {
		case 0x66:
			operand16 = true
		case 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67:
		default:
			break prefixes
		}
	}
	wide := false
	if i < len(code) && code[i]&0xf0 == 0x40 { // REX
		wide = code[i]&8 != 0
		i++
	}
	if i >= len(code) {
		return 0
	}
	immediate := func(op byte, table int) int {
		switch table {
		case 3:
			return 1
		case 1:
			switch {
			case op >= 0x70 && op <= 0x73, op == 0xa4, op == 0xac, op == 0xba, op == 0xc2, op >= 0xc4 && op <= 0xc6:
				return 1
			}
		}
		return 0
	}
	op, table, modrm := code[i], 0, true
	switch {
	case op == 0x62 || op == 0xc4 || op == 0xc5: // EVEX, VEX
		payload := map[byte]int{0x62: 3, 0xc4: 2, 0xc5: 1}[op]
		if i+1+payload >= len(code) {
			return 0
		}
		table = 1
		if op != 0xc5 {
			table = int(code[i+1] & 0x1f)
			if op == 0x62 {
				table = int(code[i+1] & 7)
			}
		}
		i += 1 + payload
		op = code[i]
		if table == 1 && op == 0x77 { // vzeroupper, vzeroall
			return i + 1
		}
	case op == 0x0f && i+1 < len(code):
		i++
		op, table = code[i], 1
		switch op {
		case 0x38, 0x3a:
			table = 2
			if op == 0x3a {
				table = 3
			}
			if i++; i >= len(code) {
				return 0
			}
			op = code[i]
		case 0x0f: // 3DNow!: the opcode comes last
			table = 3
		}
		if table == 1 {
			switch {
			case op >= 0x80 && op <= 0x8f:
				return fit(i+1+4, code)
			case op <= 0x01, op == 0x02, op == 0x03, op == 0x0d, op >= 0x10 && op <= 0x2f, op >= 0x40 && op <= 0x76, op >= 0x78 && op <= 0x7f,
				op >= 0x90 && op <= 0x9f, op == 0xa3, op == 0xa4, op == 0xa5, op >= 0xab && op <= 0xaf, op >= 0xb0 && op <= 0xc7, op >= 0xd0:
			default:
				modrm = false
			}
		}
	default:
		switch {
		case op >= 0xd8 && op <= 0xdf, op == 0xc6, op == 0xc7, op == 0x63, op >= 0x80 && op <= 0x8f && op != 0x82, op == 0xf6, op == 0xf7, op == 0xfe, op == 0xff, op >= 0xd0 && op <= 0xd3, op == 0x69, op == 0x6b, op == 0xc0, op == 0xc1, op < 0x40 && op&7 < 4:
		default:
			return 0 // the rest is what every decoder knows
		}
	}
	i++
	if modrm {
		if i >= len(code) {
			return 0
		}
		m := code[i]
		mod, reg, rm := m>>6, m>>3&7, m&7
		i++
		if mod != 3 {
			if rm == 4 {
				if i >= len(code) {
					return 0
				}
				if code[i]&7 == 5 && mod == 0 {
					i += 4
				}
				i++
			} else if rm == 5 && mod == 0 {
				i += 4
			}
			switch mod {
			case 1:
				i++
			case 2:
				i += 4
			}
		}
		if table == 0 {
			full := 4
			if operand16 && !wide {
				full = 2
			}
			switch {
			case op == 0x80 || op == 0x83 || op == 0xc0 || op == 0xc1 || op == 0xc6 || op == 0x6b || op == 0xf6 && reg < 2:
				i++
			case op == 0x81 || op == 0xc7 || op == 0x69 || op == 0xf7 && reg < 2:
				i += full
			}
		}
	}
	return fit(i+immediate(op, table), code)
}

func fit(n int, code []byte) int {
	if n > len(code) || n > 15 {
		return 0
	}
	return n
}

// x86Class follows arch/x86/kernel/uprobes.c: what it refuses, what it emulates.
func x86Class(code []byte) InstructionClass {
	if len(code) == 4 && binary.LittleEndian.Uint32(code) == 0xfa1e0ff3 {
		return InstructionLanding
	}
	i, rep := 0, false
	for ; i < len(code); i++ {
		switch code[i] {
		case 0xf0, 0x26, 0x2e, 0x36, 0x3e:
			return InstructionUnprobeable
		case 0xf2, 0xf3:
			rep = true
			continue
		case 0x66, 0x67, 0x64, 0x65:
			continue
		}
		break
	}
	prefixes := i
	rexB := false
	if i < len(code) && code[i]&0xf0 == 0x40 {
		rexB = code[i]&1 != 0
		i++
	}
	if i >= len(code) {
		return InstructionOther
	}
	switch op := code[i]; {
	case op >= 0x50 && op <= 0x57:
		return InstructionPush
	case op == 0x90:
		switch {
		case rep: // pause
			return InstructionOther
		case rexB: // xchg r8, rax
			return InstructionOther
		case len(code) == 1:
			return InstructionNop1
		}
		return InstructionNop
	case op == 0xc3, op == 0xc2:
		return InstructionReturn
	case op == 0xe8, op == 0xe9, op == 0xeb, op >= 0x70 && op <= 0x7f:
		return InstructionBranch
	case op == 0xcc:
		return InstructionTrap
	case op == 0xcd, op == 0xce, op == 0xcf, op == 0xf1, op == 0xf4, op == 0xfa, op == 0xfb, op >= 0xe4 && op <= 0xe7, op >= 0xec && op <= 0xef, op >= 0x6c && op <= 0x6f:
		return InstructionUnprobeable
	case op == 0x0f && i+1 < len(code):
		switch op2 := code[i+1]; {
		case op2 == 0x1f:
			// The optimised form is exactly nopl 0(%rax,%rax,1).
			if len(code) == 5 && prefixes == 0 {
				return InstructionNop5
			}
			return InstructionNop
		case op2 >= 0x80 && op2 <= 0x8f:
			return InstructionBranch
		case op2 >= 0x06 && op2 <= 0x09, op2 == 0x0b, op2 == 0x30, op2 == 0x32, op2 == 0x34, op2 == 0x35, op2 == 0xff, op2 == 0xaa:
			return InstructionUnprobeable
		}
	}
	return InstructionOther
}
