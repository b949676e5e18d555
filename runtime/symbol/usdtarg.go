package symbol

import (
	"debug/elf"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// parseMarkerArg reads one argument specification: [-]SIZE@OPERAND, the operand in the assembler syntax of the
// architecture. addr is that of the marker, resolve finds the addresses of variables named in operands.
func parseMarkerArg(machine elf.Machine, spec string, addr uint64, resolve func(string) (uint64, bool)) MarkerArg {
	a := MarkerArg{Text: spec, Size: 8}
	fail := func(format string, args ...any) MarkerArg {
		a.Err = fmt.Sprintf(format, args...)
		return a
	}
	operand := spec
	if size, rest, ok := strings.Cut(spec, "@"); ok {
		operand = rest
		size, a.Float = strings.CutSuffix(size, "f")
		size, a.Signed = strings.CutPrefix(size, "-")
		n, err := strconv.Atoi(size)
		if err != nil || n != 1 && n != 2 && n != 4 && n != 8 {
			return fail("unknown size in %q", spec)
		}
		a.Size = n
	}
	if operand == "" {
		return fail("no operand in %q", spec)
	}
	var err string
	switch machine {
	case elf.EM_X86_64:
		err = a.parseX86(operand, addr, resolve)
	case elf.EM_AARCH64:
		err = a.parseARM64(operand)
	default:
		err = fmt.Sprintf("operands of %v are not known", machine)
	}
	if err != "" {
		return fail("%s in %q", err, spec)
	}
	return a
}

func (a *MarkerArg) parseX86(op string, addr uint64, resolve func(string) (uint64, bool)) string {
	switch {
	case op[0] == '$':
		v, ok := parseInteger(op[1:])
		if !ok {
			return "unknown constant"
		}
		a.Kind, a.Const = MarkerConst, v
		return ""
	case op[0] == '%' && !strings.ContainsAny(op, "(:"):
		r, ok := x86Register(op[1:])
		if !ok {
			return "register " + op + ", which a probe cannot see"
		}
		a.Kind, a.Reg, a.HasReg = MarkerRegister, r, true
		return ""
	case strings.Contains(op, ":"):
		return "segment-relative operand (thread-local variable)"
	}
	a.Kind = MarkerMemory
	disp, rest, hasBase := strings.Cut(op, "(")
	symbolic := false
	if disp != "" {
		v, sym, ok := parseDisplacement(disp, resolve)
		if !ok {
			return "unknown displacement " + disp
		}
		a.Disp, symbolic = v, sym
	}
	if !hasBase {
		return ""
	}
	inner, ok := strings.CutSuffix(rest, ")")
	if !ok {
		return "missing parenthesis"
	}
	parts := strings.Split(inner, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	switch base := parts[0]; {
	case base == "%rip":
		if !symbolic || len(parts) > 1 {
			return "address relative to the instruction pointer without a symbol"
		}
		// The symbol is as far from the marker in memory as it is in the file.
		r, _ := x86Register("rip")
		a.Reg, a.HasReg, a.Disp = r, true, a.Disp-int64(addr)
	case base != "":
		r, ok := x86Register(strings.TrimPrefix(base, "%"))
		if !ok || base[0] != '%' {
			return "unknown base register " + base
		}
		a.Reg, a.HasReg = r, true
	}
	if len(parts) > 1 {
		r, ok := x86Register(strings.TrimPrefix(parts[1], "%"))
		if !ok {
			return "unknown index register " + parts[1]
		}
		a.Index, a.HasIndex = r, true
	}
	if len(parts) > 2 {
		n, err := strconv.ParseUint(parts[2], 10, 8)
		if err != nil || n != 1 && n != 2 && n != 4 && n != 8 {
			return "unknown scale " + parts[2]
		}
		a.Scale = bits.TrailingZeros64(n)
	}
	if len(parts) > 3 {
		return "too many parts of an address"
	}
	return ""
}

// parseDisplacement reads NUMBER, SYMBOL, SYMBOL+NUMBER or NUMBER+SYMBOL.
func parseDisplacement(text string, resolve func(string) (uint64, bool)) (value int64, symbolic, ok bool) {
	for len(text) > 0 {
		negative := false
		switch text[0] {
		case '+':
			text = text[1:]
		case '-':
			negative, text = true, text[1:]
		}
		end := strings.IndexAny(text, "+-")
		if end < 0 {
			end = len(text)
		}
		term := text[:end]
		text = text[end:]
		if term == "" {
			return 0, false, false
		}
		v, number := parseInteger(term)
		if !number {
			addr, found := uint64(0), false
			if resolve != nil {
				addr, found = resolve(term)
			}
			if !found || symbolic || negative {
				return 0, false, false
			}
			v, symbolic = int64(addr), true
		}
		if negative {
			v = -v
		}
		value += v
	}
	return value, symbolic, true
}

func parseInteger(s string) (int64, bool) {
	if v, err := strconv.ParseInt(s, 0, 64); err == nil {
		return v, true
	}
	v, err := strconv.ParseUint(s, 0, 64)
	return int64(v), err == nil
}

func (a *MarkerArg) parseARM64(op string) string {
	if v, ok := parseInteger(strings.TrimPrefix(op, "#")); ok {
		a.Kind, a.Const = MarkerConst, v
		return ""
	}
	if op[0] != '[' {
		r, ok := arm64Register(op)
		if !ok {
			return "register " + op + ", which a probe cannot see"
		}
		a.Kind, a.Reg, a.HasReg = MarkerRegister, r, true
		if r.Zero {
			a.Kind, a.HasReg, a.Const = MarkerConst, false, 0
		}
		return ""
	}
	inner, ok := strings.CutSuffix(op[1:], "]")
	if !ok {
		return "missing bracket"
	}
	a.Kind = MarkerMemory
	parts := strings.Split(inner, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	r, ok := arm64Register(parts[0])
	if !ok || r.Zero {
		return "unknown base register " + parts[0]
	}
	a.Reg, a.HasReg = r, true
	if len(parts) == 1 {
		return ""
	}
	if v, ok := parseInteger(strings.TrimPrefix(parts[1], "#")); ok {
		a.Disp = v
		if len(parts) > 2 {
			return "too many parts of an address"
		}
		return ""
	}
	if a.Index, ok = arm64Register(parts[1]); !ok {
		return "unknown offset " + parts[1]
	}
	a.HasIndex = !a.Index.Zero
	if len(parts) > 2 {
		shift, ok := strings.CutPrefix(parts[2], "lsl ")
		n, err := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(shift), "#"))
		if !ok || err != nil || n < 0 || n > 4 || len(parts) > 3 {
			return "unknown extension " + parts[2]
		}
		a.Scale = n
	}
	return ""
}
