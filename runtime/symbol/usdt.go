package symbol

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"sort"
	"strings"
)

// Marker is one place of a USDT probe: a nop in the code that the program's author named. One probe (provider and name)
// can have many places, because the code around it was inlined or copied.
type Marker struct {
	// Provider and Name are the two names that an attach point has.
	Provider, Name string
	// Addr is the address of the nop in the image, Offset its place in the file; the second is what a uprobe needs.
	Addr, Offset uint64
	// Semaphore is the address of a counter that says how many tracers watch, 0 when there is none; the program computes
	// the arguments only while it is not 0. SemaphoreOffset is its place in the file, which the kernel wants as the
	// reference counter offset.
	Semaphore, SemaphoreOffset uint64
	// ArgText is the text of the argument specifications as the compiler wrote it.
	ArgText string
	// Args are the specifications. One that cannot be read has Err set.
	Args []MarkerArg
}

// MarkerArgKind tells where an argument is.
type MarkerArgKind int

const (
	// MarkerRegister is an argument in Reg.
	MarkerRegister MarkerArgKind = iota + 1
	// MarkerConst is the constant Const.
	MarkerConst
	// MarkerMemory is Size bytes in user memory at Reg + Index<<Scale + Disp; Reg and Index may be missing.
	MarkerMemory
)

// MarkerArg is one argument of a marker.
type MarkerArg struct {
	// Text is the specification as written, such as -4@%eax.
	Text string
	// Size is 1, 2, 4 or 8 bytes, Signed tells how to extend it, Float that it is a floating-point number.
	Size   int
	Signed bool
	Float  bool
	// Kind tells which of the following are meant.
	Kind  MarkerArgKind
	Const int64
	// Reg is the register, or the base of the memory address when HasReg is set.
	Reg    Register
	HasReg bool
	// Index is added to the address, shifted left by Scale bits, when HasIndex is set.
	Index    Register
	HasIndex bool
	Scale    int
	// Disp is added to the address.
	Disp int64
	// Err says why the argument cannot be read; "" when it can.
	Err string
}

// Markers returns the USDT probes of the file, sorted by provider, name and address. A file without them has none and no
// error.
func (f *File) Markers() ([]Marker, error) {
	sec := f.elf.Section(".note.stapsdt")
	if sec == nil {
		return nil, nil
	}
	data, err := f.readSection(sec)
	if err != nil {
		return nil, err
	}
	var base uint64
	if s := f.elf.Section(".stapsdt.base"); s != nil {
		base = s.Addr
	}
	resolve := func(name string) (uint64, bool) {
		syms, err := f.Lookup(name)
		if err != nil {
			return 0, false
		}
		return syms[0].Addr, true
	}
	out := parseMarkers(data, f.elf.ByteOrder, f.elf.Class == elf.ELFCLASS64, f.elf.Machine, base, resolve)
	for i := range out {
		m := &out[i]
		off, ok := f.OffsetOf(m.Addr)
		if !ok {
			return nil, fmt.Errorf("%s: USDT marker %s:%s at %#x is outside the code of the file", f.path, m.Provider, m.Name, m.Addr)
		}
		m.Offset = off
		if m.Semaphore != 0 {
			if m.SemaphoreOffset, ok = f.OffsetOf(m.Semaphore); !ok {
				return nil, fmt.Errorf("%s: USDT marker %s:%s: its semaphore at %#x is outside the file", f.path, m.Provider, m.Name, m.Semaphore)
			}
		}
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := &out[i], &out[j]
		if c := cmp.Or(strings.Compare(a.Provider, b.Provider), strings.Compare(a.Name, b.Name)); c != 0 {
			return c < 0
		}
		return a.Addr < b.Addr
	})
	return out, nil
}

// parseMarkers reads the notes: three addresses, then three texts. The second address is where a special empty section
// was at link time; when it has moved since (prelink), the other two moved with it.
func parseMarkers(data []byte, order binary.ByteOrder, wide bool, machine elf.Machine, base uint64, resolve func(string) (uint64, bool)) []Marker {
	const ntStapSDT = 3
	var out []Marker
	eachNote(data, order, 4, func(owner string, typ uint32, desc []byte) bool {
		if owner != "stapsdt" || typ != ntStapSDT {
			return true
		}
		size := 8
		if !wide {
			size = 4
		}
		if len(desc) < 3*size {
			return true
		}
		word := func(i int) uint64 {
			if wide {
				return order.Uint64(desc[8*i:])
			}
			return uint64(order.Uint32(desc[4*i:]))
		}
		m := Marker{Addr: word(0), Semaphore: word(2)}
		if linked := word(1); base != 0 && linked != 0 {
			m.Addr += base - linked
			if m.Semaphore != 0 {
				m.Semaphore += base - linked
			}
		}
		texts := bytes.SplitN(desc[3*size:], []byte{0}, 4)
		if len(texts) < 3 {
			return true
		}
		m.Provider, m.Name, m.ArgText = string(texts[0]), string(texts[1]), string(texts[2])
		if m.Provider == "" || m.Name == "" {
			return true
		}
		for _, spec := range splitMarkerArgs(m.ArgText) {
			m.Args = append(m.Args, parseMarkerArg(machine, spec, m.Addr, resolve))
		}
		out = append(out, m)
		return true
	})
	return out
}

// splitMarkerArgs splits at spaces outside brackets: arm64 writes 8@[sp, 16].
func splitMarkerArgs(text string) []string {
	depth := 0
	return strings.FieldsFunc(text, func(r rune) bool {
		switch r {
		case '[', '(':
			depth++
		case ']', ')':
			depth--
		}
		return r == ' ' && depth <= 0
	})
}
