package symbol

import (
	"debug/elf"
	"strconv"
	"strings"
)

// Register is a machine register as it lies in the kernel's struct pt_regs, the context of a uprobe.
type Register struct {
	// Name is the name as written, such as eax.
	Name string
	// Offset is the byte offset in struct pt_regs of the 8-byte slot.
	Offset int
	// Size is the width in bytes: 4 for eax.
	Size int
	// Shift is how many bits to shift the slot to the right first: 8 for ah.
	Shift int
	// Zero is set for arm64's xzr and wzr, which have no slot and read as 0.
	Zero bool
}

// RegisterByName finds a register of an architecture by the name that assembly uses, with or without %. It reports
// false for registers that pt_regs does not have (vector registers) and for unknown names.
func RegisterByName(machine elf.Machine, name string) (Register, bool) {
	name = strings.TrimPrefix(strings.ToLower(name), "%")
	switch machine {
	case elf.EM_X86_64:
		return x86Register(name)
	case elf.EM_AARCH64:
		return arm64Register(name)
	}
	return Register{}, false
}

func x86Register(name string) (Register, bool) {
	// Order of struct pt_regs, 8 bytes each.
	slots := [...]string{"r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di", "orig_ax", "ip", "cs", "flags", "sp", "ss"}
	base, size, shift := name, 8, 0
	switch {
	case len(name) >= 2 && name[0] == 'r' && name[1] >= '0' && name[1] <= '9':
		switch name[len(name)-1] {
		case 'd':
			base, size = name[:len(name)-1], 4
		case 'w':
			base, size = name[:len(name)-1], 2
		case 'b', 'l':
			base, size = name[:len(name)-1], 1
		}
	case len(name) == 3 && name[0] == 'r':
		base = name[1:]
	case len(name) == 3 && name[0] == 'e':
		base, size = name[1:], 4
	case len(name) == 3 && name[2] == 'l': // sil, dil, bpl, spl
		base, size = name[:2], 1
	case len(name) == 2 && strings.ContainsRune("abcd", rune(name[0])) && name[1] == 'l':
		base, size = name[:1]+"x", 1
	case len(name) == 2 && strings.ContainsRune("abcd", rune(name[0])) && name[1] == 'h':
		base, size, shift = name[:1]+"x", 1, 8
	case len(name) == 2:
		size = 2
	default:
		return Register{}, false
	}
	for i, s := range slots {
		if s == base && s != "orig_ax" {
			return Register{Name: name, Offset: 8 * i, Size: size, Shift: shift}, true
		}
	}
	return Register{}, false
}

func arm64Register(name string) (Register, bool) {
	switch name {
	case "sp":
		return Register{Name: name, Offset: 31 * 8, Size: 8}, true
	case "wsp":
		return Register{Name: name, Offset: 31 * 8, Size: 4}, true
	case "pc":
		return Register{Name: name, Offset: 32 * 8, Size: 8}, true
	case "fp":
		return Register{Name: name, Offset: 29 * 8, Size: 8}, true
	case "lr":
		return Register{Name: name, Offset: 30 * 8, Size: 8}, true
	case "xzr":
		return Register{Name: name, Size: 8, Zero: true}, true
	case "wzr":
		return Register{Name: name, Size: 4, Zero: true}, true
	}
	if len(name) < 2 || name[0] != 'x' && name[0] != 'w' {
		return Register{}, false
	}
	n, err := strconv.Atoi(name[1:])
	if err != nil || n < 0 || n > 30 || name[1] == '+' || len(name) > 2 && name[1] == '0' {
		return Register{}, false
	}
	size := 8
	if name[0] == 'w' {
		size = 4
	}
	return Register{Name: name, Offset: 8 * n, Size: size}, true
}
