package symbol

import (
	"debug/buildinfo"
	"debug/elf"
	"debug/gosym"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// goBinary is what a Go program tells about itself even when its symbols were stripped.
type goBinary struct {
	file    *File
	addr    uint64 // of the table in memory
	pclntab []byte
	text    uint64 // address that the table counts from

	tableOnce sync.Once
	table     *gosym.Table
}

// GoInfo describes a Go program.
type GoInfo struct {
	// Version is the toolchain, such as go1.26.0; "" when it is not recorded.
	Version string
	// Main is the path of the main package.
	Main string
	// RegisterABI is set when functions take arguments in registers: since Go 1.17 on x86-64, 1.18 on arm64.
	RegisterABI bool
}

// IsGo reports whether the image was built by the Go toolchain. A return probe (uretprobe) crashes such programs, as
// their stacks move; probe [File.Returns] in its place.
func (f *File) IsGo() bool {
	for _, s := range f.elf.Sections {
		switch s.Name {
		case ".go.buildinfo", ".gopclntab", ".note.go.buildid", ".data.rel.ro.gopclntab":
			return true
		}
	}
	return false
}

// GoInfo tells the toolchain of a Go program. The error wraps [ErrNotGo] for anything else.
func (f *File) GoInfo() (GoInfo, error) {
	if !f.IsGo() {
		return GoInfo{}, fmt.Errorf("%s: %w", f.path, ErrNotGo)
	}
	info, err := buildinfo.Read(f.reader)
	if err != nil {
		// Very old or deliberately emptied build information: still Go, as the sections say.
		return GoInfo{RegisterABI: true}, nil
	}
	return GoInfo{Version: info.GoVersion, Main: info.Path, RegisterABI: registerABI(info.GoVersion, f.elf.Machine)}, nil
}

// ErrNotGo is wrapped by the error of [File.GoInfo] for a file that the Go toolchain did not build.
var ErrNotGo = errors.New("not a Go program")

func registerABI(version string, machine elf.Machine) bool {
	rest, ok := strings.CutPrefix(version, "go1.")
	if !ok {
		return true // a development version
	}
	digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if digits >= 0 {
		rest = rest[:digits]
	}
	minor, err := strconv.Atoi(rest)
	if err != nil {
		return true
	}
	if machine == elf.EM_AARCH64 {
		return minor >= 18
	}
	return minor >= 17
}

// goBinary finds Go's function table, nil when there is none that we understand.
func (f *File) goBinary() *goBinary {
	if f.gobins {
		return f.gobin
	}
	f.gobins = true
	for _, name := range []string{".gopclntab", ".data.rel.ro.gopclntab"} {
		s := f.elf.Section(name)
		if s == nil {
			continue
		}
		data, err := f.readSection(s)
		if err != nil || len(data) < 8+8*8 {
			continue
		}
		g := &goBinary{file: f, addr: s.Addr, pclntab: data}
		if g.header() == nil {
			continue
		}
		g.text = f.goText(g)
		f.gobin = g
		return g
	}
	return nil
}

// Magic numbers of the table; its layout changed with these versions.
const (
	goMagic116 = 0xfffffffa
	goMagic118 = 0xfffffff0
	goMagic120 = 0xfffffff1
)

// goHeader is the head of the table of Go 1.16 and newer.
type goHeader struct {
	functions uint64
	textStart uint64 // 0 before Go 1.18 and since 1.26
	names     []byte
	funcs     []byte // function table, and the base of the function records
	wide      bool   // entries are absolute addresses (before Go 1.18)
}

func (g *goBinary) header() *goHeader {
	d, order := g.pclntab, g.file.elf.ByteOrder
	magic := order.Uint32(d)
	if d[4] != 0 || d[5] != 0 || d[7] != 8 {
		return nil // 32-bit programs are not looked into
	}
	word := func(i int) uint64 { return order.Uint64(d[8+8*i:]) }
	h := &goHeader{functions: word(0)}
	var nameOff, cuOff, funcOff uint64
	switch magic {
	case goMagic118, goMagic120:
		h.textStart, nameOff, cuOff, funcOff = word(2), word(3), word(4), word(7)
	case goMagic116:
		nameOff, cuOff, funcOff, h.wide = word(2), word(3), word(6), true
	default:
		return nil
	}
	size := uint64(len(d))
	if nameOff > cuOff || cuOff > size || funcOff > size || h.functions > size {
		return nil
	}
	h.names, h.funcs = d[nameOff:cuOff], d[funcOff:]
	return h
}

// symbols turns the function table into symbols.
func (g *goBinary) symbols() *symTable {
	h, order := g.header(), g.file.elf.ByteOrder
	t := &symTable{strs: []string{string(h.names)}}
	step, base := uint64(8), g.text
	if h.wide {
		step, base = 16, 0
	}
	if (h.functions+1)*step > uint64(len(h.funcs)) {
		return t
	}
	entry := func(i uint64) (addr, record uint64) {
		d := h.funcs[i*step:]
		if h.wide {
			return order.Uint64(d), order.Uint64(d[8:])
		}
		return base + uint64(order.Uint32(d)), uint64(order.Uint32(d[4:]))
	}
	t.entries = make([]symEntry, 0, h.functions)
	for i := range h.functions {
		addr, record := entry(i)
		end := order.Uint32(h.funcs[(i+1)*step:])
		size := uint64(end) + base - addr
		if h.wide {
			size = order.Uint64(h.funcs[(i+1)*step:]) - addr
		}
		nameAt := record + 4
		if h.wide {
			nameAt = record + 8
		}
		if nameAt+4 > uint64(len(h.funcs)) || size > 1<<31 {
			continue
		}
		name := order.Uint32(h.funcs[nameAt:])
		if uint64(name) >= uint64(len(h.names)) {
			continue
		}
		t.entries = append(t.entries, symEntry{addr: addr, size: uint32(size), name: name, kind: KindFunc, bind: bindGlobal})
	}
	return t
}

// goText finds the address that function offsets count from. Where C code is linked in, it is not the start of .text;
// before Go 1.26 the table says it; afterwards the runtime's module record does, which a PIE fills by relocations.
func (f *File) goText(g *goBinary) uint64 {
	h := g.header()
	if h.wide {
		return 0
	}
	if h.textStart != 0 {
		return h.textStart
	}
	if syms := f.symtab().lookup("runtime.text"); len(syms) > 0 {
		return syms[0].Addr
	}
	if text, ok := f.goModuleText(g); ok {
		return text
	}
	if s := f.elf.Section(".text"); s != nil {
		return s.Addr
	}
	return 0
}

// goModuleText reads the text address from runtime.moduledata, the record that begins with a pointer to the table.
func (f *File) goModuleText(g *goBinary) (uint64, bool) {
	// pcHeader, six slices, findfunctab, minpc, maxpc come in front of text (Go 1.16 to 1.26).
	const textAt = 8 + 6*24 + 3*8
	pointers := map[uint64]uint64{}
	var module uint64
	found := false
	for _, s := range f.elf.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		data, err := f.readSection(s)
		if err != nil {
			continue
		}
		for ; len(data) >= 24; data = data[24:] {
			where, info, addend := f.elf.ByteOrder.Uint64(data), f.elf.ByteOrder.Uint64(data[8:]), f.elf.ByteOrder.Uint64(data[16:])
			if typ := uint32(info); typ != uint32(elf.R_X86_64_RELATIVE) && typ != uint32(elf.R_AARCH64_RELATIVE) {
				continue
			}
			pointers[where] = addend
			if addend == g.addr && !found {
				module, found = where, true
			}
		}
	}
	if found {
		text, ok := pointers[module+textAt]
		return text, ok && f.executable(text)
	}
	var want [8]byte
	f.elf.ByteOrder.PutUint64(want[:], g.addr)
	for _, name := range []string{".go.module", ".noptrdata", ".data", ".data.rel.ro"} {
		data, err := f.sectionData(name)
		if err != nil {
			continue
		}
		for i := 0; i+textAt+8 <= len(data); i += 8 {
			if [8]byte(data[i:i+8]) == want {
				text := f.elf.ByteOrder.Uint64(data[i+textAt:])
				if f.executable(text) {
					return text, true
				}
			}
		}
	}
	return 0, false
}

// line returns the source line of an address by Go's own table, which stripped programs have too.
func (g *goBinary) line(addr uint64) (file string, line int, function string) {
	g.tableOnce.Do(func() {
		defer func() {
			if recover() != nil { // the standard library trusts the table
				g.table = nil
			}
		}()
		g.table, _ = gosym.NewTable(nil, gosym.NewLineTable(g.pclntab, g.text))
	})
	if g.table == nil {
		return "", 0, ""
	}
	defer func() {
		if recover() != nil {
			file, line, function = "", 0, ""
		}
	}()
	file, line, fn := g.table.PCToLine(addr)
	if fn != nil {
		function = fn.Name
	}
	return file, line, function
}
