package symbol

import (
	"debug/buildinfo"
	"debug/elf"
	"fmt"
)

func (f *File) goVersion() (string, error) {
	info, err := buildinfo.Read(f.reader)
	if err != nil {
		return "", err
	}
	return info.GoVersion, nil
}

// placeGo places parameters and results by Go's internal calling convention: each basic part of a value in a register of
// its own, or the whole value on the stack when they do not all fit.
func placeGo(machine elf.Machine, registers bool, params, results []Parameter) {
	conv, ok := goABI(machine)
	if !ok {
		for _, list := range [][]Parameter{params, results} {
			for i := range list {
				list[i].Place.Why = fmt.Sprintf("the calling convention of Go on %v is not known", machine)
			}
		}
		return
	}
	if !registers {
		conv.ints, conv.floats = nil, 0
	}
	a := &allocation{machine: machine, abi: conv}
	for i := range params {
		params[i].Place = a.placeGo(params[i].Type)
	}
	// Results use the registers anew; those on the stack follow the parameters.
	b := &allocation{machine: machine, abi: conv, stack: (a.stack + 7) &^ 7}
	for i := range results {
		results[i].Place = b.placeGo(results[i].Type)
	}
}

func (a *allocation) placeGo(full *Type) Place {
	size := full.bytes(0)
	if size < 0 {
		return Place{Why: "its type has no known size"}
	}
	if size == 0 {
		return Place{Why: "it is empty"}
	}
	ints, floats, ok := full.goParts(0)
	if !ok || a.ints+ints > len(a.abi.ints) || a.floats+floats > a.abi.floats {
		return a.onGoStack(full, size)
	}
	a.floats += floats
	if floats > 0 {
		a.ints += ints
		if ints > 0 {
			return Place{Why: "a part of " + vectorWhy}
		}
		return Place{Why: vectorWhy}
	}
	return Place{Kind: PlaceRegisters, Registers: a.registers(ints)}
}

// onGoStack places a value with its own alignment; Go's stack arguments are packed like the fields of a structure.
func (a *allocation) onGoStack(t *Type, size int64) Place {
	align := t.goAlign(0)
	a.stack = (a.stack + align - 1) &^ (align - 1)
	p := Place{Kind: PlaceStack, Offset: a.abi.stackAt + a.stack}
	a.stack += size
	return p
}

func (t *Type) goAlign(depth int) int64 {
	t = t.strip()
	if t == nil || depth > 16 {
		return 8
	}
	switch t.Kind {
	case TypeStruct:
		align := int64(1)
		for _, f := range t.members() {
			align = max(align, f.Type.goAlign(depth+1))
		}
		return align
	case TypeArray:
		return t.element().goAlign(depth + 1)
	}
	size := t.bytes(0)
	if size == 1 || size == 2 || size == 4 {
		return size
	}
	return 8
}

// goParts counts the registers of a value; false for values that are always on the stack (arrays of more than one).
func (t *Type) goParts(depth int) (ints, floats int, ok bool) {
	t = t.strip()
	if t == nil || depth > 16 {
		return 0, 0, false
	}
	switch t.Kind {
	case TypeFloat:
		if t.bytes(0) > 8 || t.Name == "complex64" {
			return 0, 2, true
		}
		return 0, 1, true
	case TypeStruct:
		for _, f := range t.members() {
			i, fl, ok := f.Type.goParts(depth + 1)
			if !ok {
				return 0, 0, false
			}
			ints, floats = ints+i, floats+fl
		}
		return ints, floats, true
	case TypeArray:
		switch t.Count {
		case 0:
			return 0, 0, true
		case 1:
			return t.element().goParts(depth + 1)
		}
		return 0, 0, false
	case TypeUnion, TypeUnknown, TypeVoid:
		return 0, 0, false
	}
	return 1, 0, true
}
