package scan

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// importOf gives a name that other files define a number.
func (img *image) importOf(name string) uint64 {
	i, ok := img.imported[name]
	if !ok {
		i = len(img.imports)
		img.imports = append(img.imports, name)
		img.imported[name] = i
	}
	return importBase + uint64(i)
}

// readDynamic reads what the loader reads: symbols, relocations, libraries, constructors.
func (img *image) readDynamic(f *elf.File) error {
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			b := make([]byte, p.Filesz)
			if _, err := p.ReadAt(b, 0); err != nil {
				return fmt.Errorf("read the interpreter's name: %w", err)
			}
			img.interp = string(bytes.TrimRight(b, "\x00"))
		}
	}
	syms, err := f.DynamicSymbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return err
	}
	for _, s := range syms {
		if s.Section != elf.SHN_UNDEF && s.Value != 0 && (elf.ST_TYPE(s.Info) == elf.STT_FUNC || elf.ST_TYPE(s.Info) == elf.STT_GNU_IFUNC) {
			// Several versions of one name: the default one has no mark that debug/elf keeps, but comes with the larger version.
			if old, ok := img.exports[s.Name]; !ok || old != s.Value && !s.VersionIndex.IsHidden() {
				img.exports[s.Name] = s.Value
			}
		}
	}
	img.needed, _ = f.ImportedLibraries()
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		list, _ := f.DynString(tag)
		for _, s := range list {
			for _, dir := range strings.Split(s, ":") {
				origin := filepath.Dir(img.path)
				dir = strings.ReplaceAll(strings.ReplaceAll(dir, "${ORIGIN}", origin), "$ORIGIN", origin)
				img.search = append(img.search, dir)
			}
		}
	}
	img.entry = f.Entry
	soname, _ := f.DynString(elf.DT_SONAME)
	img.library = f.Type == elf.ET_DYN && len(soname) > 0 || f.Entry == 0
	if err := img.readRelocations(f, syms); err != nil {
		return err
	}
	for _, tag := range []elf.DynTag{elf.DT_INIT, elf.DT_FINI} {
		if v, err := f.DynValue(tag); err == nil && len(v) > 0 && v[0] != 0 {
			img.starts = append(img.starts, v[0])
		}
	}
	for _, s := range f.Sections {
		if s.Type != elf.SHT_INIT_ARRAY && s.Type != elf.SHT_FINI_ARRAY && s.Type != elf.SHT_PREINIT_ARRAY {
			continue
		}
		data := img.dataAt(s.Addr)
		for off := uint64(0); off+8 <= s.Size && off+8 <= uint64(len(data)); off += 8 {
			to := img.slots[s.Addr+off]
			if to == 0 {
				to = binary.LittleEndian.Uint64(data[off:])
			}
			if to != 0 && to < importBase {
				img.starts = append(img.starts, to)
			}
		}
	}
	return nil
}

// readRelocations finds what the loader writes into memory: which functions data points to, and through which places code calls
// other files.
func (img *image) readRelocations(f *elf.File, syms []elf.Symbol) error {
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 || s.Type != elf.SHT_RELA && s.Type != shtRelr {
			continue
		}
		data, err := s.Data()
		if err != nil {
			return fmt.Errorf("section %s: %w", s.Name, err)
		}
		if s.Type == shtRelr {
			img.readPacked(data)
			continue
		}
		for ; len(data) >= 24; data = data[24:] {
			where, info, addend := binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint64(data[8:]), binary.LittleEndian.Uint64(data[16:])
			k := relocationOf(f.Machine, uint32(info))
			sym := int(info >> 32)
			to := uint64(0)
			switch {
			case k == relocationOther:
				continue
			case k == relocationRelative:
				to = addend
			case sym == 0 || sym > len(syms):
				continue
			case syms[sym-1].Section != elf.SHN_UNDEF && syms[sym-1].Value != 0:
				// Its own definition is the likely one, whatever comes before it in the search.
				to = syms[sym-1].Value
				if k == relocationAddress {
					to += addend
				}
			case syms[sym-1].Name != "":
				to = img.importOf(syms[sym-1].Name)
			}
			if to == 0 || to >= importBase+uint64(len(img.imports)) {
				continue
			}
			img.slots[where] = to
			if k != relocationSlot {
				img.pointers = append(img.pointers, to)
			}
		}
	}
	return nil
}

// readPacked reads relative relocations in their short form: an address, then bits for the words behind it. The values are in place.
func (img *image) readPacked(data []byte) {
	at := uint64(0)
	one := func(where uint64) {
		if b := img.dataAt(where); len(b) >= 8 {
			if to := binary.LittleEndian.Uint64(b); to != 0 && to < importBase {
				img.slots[where] = to
				img.pointers = append(img.pointers, to)
			}
		}
	}
	for ; len(data) >= 8; data = data[8:] {
		w := binary.LittleEndian.Uint64(data)
		if w&1 == 0 {
			one(w)
			at = w + 8
			continue
		}
		for i := range uint64(63) {
			if w>>(i+1)&1 == 1 {
				one(at + 8*i)
			}
		}
		at += 63 * 8
	}
}

// shtRelr is a section of packed relocations.
const shtRelr elf.SectionType = 19

// relocationKind is what the loader writes.
type relocationKind uint8

const (
	relocationOther    relocationKind = iota
	relocationRelative                // an address of the same file
	relocationAddress                 // that of a symbol, in the program's data
	relocationSlot                    // that of a symbol, in the linker's table
)

func relocationOf(m elf.Machine, typ uint32) relocationKind {
	arm, x86 := elf.R_AARCH64(typ), elf.R_X86_64(typ)
	onARM := m == elf.EM_AARCH64
	switch {
	case onARM && (arm == elf.R_AARCH64_RELATIVE || arm == 1032), // the second is that of a function that chooses its implementation
		!onARM && (x86 == elf.R_X86_64_RELATIVE || x86 == elf.R_X86_64_IRELATIVE):
		return relocationRelative
	case onARM && arm == elf.R_AARCH64_ABS64, !onARM && x86 == elf.R_X86_64_64:
		return relocationAddress
	case onARM && (arm == elf.R_AARCH64_GLOB_DAT || arm == elf.R_AARCH64_JUMP_SLOT), !onARM && (x86 == elf.R_X86_64_GLOB_DAT || x86 == elf.R_X86_64_JMP_SLOT):
		return relocationSlot
	}
	return relocationOther
}

// readPointers keeps the functions among what data points to: tables of operations, callbacks. A file that is not moved when it is
// loaded has no list of these places, so all of its data is looked at.
func (img *image) readPointers() {
	all := img.pointers
	img.pointers = nil
	if img.fixed {
		for i := range img.sections {
			s := &img.sections[i]
			if s.code || !s.program || s.addr%8 != 0 {
				continue
			}
			for b := s.data; len(b) >= 8; b = b[8:] {
				if v := binary.LittleEndian.Uint64(b); v < importBase {
					all = append(all, v)
				}
			}
		}
	}
	for _, v := range all {
		if v >= importBase || v != 0 && img.isStart(v) {
			img.pointers = append(img.pointers, v)
		}
	}
	slices.Sort(img.pointers)
	img.pointers = slices.Compact(img.pointers)
}

// byteRange is where a function lies.
type byteRange struct{ start, end uint64 }

// unwindRanges are the functions of .eh_frame: it describes every function of C and C++ for unwinding, and strip leaves it.
func unwindRanges(f *elf.File) []byteRange {
	s := f.Section(".eh_frame")
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil
	}
	data, err := s.Data()
	if err != nil {
		return nil
	}
	var out []byteRange
	encodings := map[int]byte{} // of addresses, by where the common part lies
	for at := 0; at+8 <= len(data); {
		n := int(binary.LittleEndian.Uint32(data[at:]))
		if n == 0 || n == -1 || n < 4 || n > len(data)-at-4 {
			if n == 0 { // a terminator, behind which another object's part may come
				at += 4
				continue
			}
			break
		}
		body := data[at+4 : at+4+n]
		id := int(binary.LittleEndian.Uint32(body))
		if id == 0 {
			encodings[at] = pointerEncoding(body[4:])
		} else if enc, ok := encodings[at+4-id]; ok {
			if r, ok := unwindRange(body[4:], enc, s.Addr+uint64(at)+8); ok {
				out = append(out, r)
			}
		}
		at += 4 + n
	}
	return out
}

// pointerEncoding reads how a common information entry says that addresses are written; 0 is eight bytes.
func pointerEncoding(b []byte) byte {
	if len(b) < 2 {
		return 0
	}
	version := b[0]
	text, rest, ok := bytes.Cut(b[1:], []byte{0})
	if !ok || len(text) == 0 || text[0] != 'z' {
		return 0
	}
	leb := func() {
		for len(rest) > 0 && rest[0]&0x80 != 0 {
			rest = rest[1:]
		}
		if len(rest) > 0 {
			rest = rest[1:]
		}
	}
	leb() // code alignment
	leb() // data alignment
	if version == 1 && len(rest) > 0 {
		rest = rest[1:]
	} else {
		leb()
	}
	leb() // length of what follows
	for _, c := range text[1:] {
		if len(rest) == 0 {
			return 0
		}
		switch c {
		case 'R':
			return rest[0]
		case 'L':
			rest = rest[1:]
		case 'P':
			n := 1 + pointerBytes(rest[0])
			if len(rest) < n {
				return 0
			}
			rest = rest[n:]
		}
	}
	return 0
}

func pointerBytes(enc byte) int {
	switch enc & 7 {
	case 2:
		return 2
	case 3:
		return 4
	}
	return 8
}

func unwindRange(b []byte, enc byte, addr uint64) (byteRange, bool) {
	n := pointerBytes(enc)
	if len(b) < 2*n {
		return byteRange{}, false
	}
	read := func(b []byte) uint64 {
		switch n {
		case 2:
			return uint64(int64(int16(binary.LittleEndian.Uint16(b))))
		case 4:
			return uint64(int64(int32(binary.LittleEndian.Uint32(b))))
		}
		return binary.LittleEndian.Uint64(b)
	}
	start := read(b)
	switch enc & 0x70 {
	case 0:
	case 0x10:
		start += addr
	default:
		return byteRange{}, false
	}
	size := read(b[n:])
	if n == 4 {
		size &= 0xffffffff
	}
	return byteRange{start, start + size}, size > 0
}
