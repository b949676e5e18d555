package symbol

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Kind says what a symbol stands for.
type Kind uint8

const (
	// KindFunc is a function.
	KindFunc Kind = iota + 1
	// KindObject is a variable.
	KindObject
	// KindOther is a label without a type, as hand-written assembly has.
	KindOther
)

// Symbol is a name of an ELF file.
type Symbol struct {
	// Name has no symbol version (write, not write@@GLIBC_2.2.5).
	Name string
	// Addr is an address of the image, before it is loaded anywhere; [File.OffsetOf] makes a file offset of it.
	Addr uint64
	// Size is in bytes, 0 when the file does not say.
	Size uint64
	// Kind is function, object or other.
	Kind Kind
	// Local is set for names that are not visible outside their source file (static in C).
	Local bool
	// Indirect is set for functions that pick their implementation when the program starts (GNU IFUNC): the address is
	// that of the picker.
	Indirect bool
}

const (
	bindLocal = iota
	bindWeak
	bindGlobal
)

// symEntry is a Symbol in 24 bytes: libraries have thousands, browsers have millions.
type symEntry struct {
	addr    uint64
	size    uint32 // saturates at 4 GiB
	name    uint32 // offset in the string table
	section uint16
	kind    Kind
	bind    uint8
	ifunc   bool
	str     uint8 // which string table
}

// symTable holds symbols in two orders: as the file has them, and by address with one symbol for each address.
type symTable struct {
	strs    []string
	entries []symEntry
	sorted  []symEntry // by address, best symbol of each address; nil until needed
	reach   []uint64   // reach[i] is the highest end of sorted[:i+1]
	byName  map[string][]int32
	lookups int
	whole   bool // an @ is part of the name
}

func (t *symTable) name(e *symEntry) string {
	s := t.strs[e.str]
	if int(e.name) >= len(s) {
		return ""
	}
	s = s[e.name:]
	if i := strings.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	// A linker that keeps .symtab writes the version behind the name there: name@VERSION, name@@VERSION.
	if i := strings.IndexByte(s, '@'); i > 0 && !t.whole {
		s = s[:i]
	}
	return s
}

func (t *symTable) symbol(e *symEntry) Symbol {
	return Symbol{Name: t.name(e), Addr: e.addr, Size: uint64(e.size), Kind: e.kind, Local: e.bind == bindLocal, Indirect: e.ifunc}
}

// loadSymbols decodes one symbol section (.symtab or .dynsym); a file without it gives an empty table.
func loadSymbols(f *File, typ elf.SectionType) (*symTable, error) {
	t := &symTable{}
	sec := f.elf.SectionByType(typ)
	if sec == nil || sec.Size == 0 {
		return t, nil
	}
	if int(sec.Link) >= len(f.elf.Sections) {
		return t, fmt.Errorf("%s: section %s has no string table", f.path, sec.Name)
	}
	strs, err := readString(f, f.elf.Sections[sec.Link])
	if err != nil {
		return t, err
	}
	data, err := f.readSection(sec)
	if err != nil {
		return t, err
	}
	t.strs = []string{strs}
	t.decode(data, f.elf)
	return t, nil
}

// readString reads a section into a string without a second copy.
func readString(f *File, s *elf.Section) (string, error) {
	if s.Type == elf.SHT_NOBITS {
		return "", nil
	}
	if s.Flags&elf.SHF_COMPRESSED != 0 || s.Size > maxSectionBytes || s.FileSize > uint64(f.size) {
		data, err := f.readSection(s)
		return string(data), err
	}
	var b strings.Builder
	b.Grow(int(s.Size))
	if _, err := io.Copy(&b, io.NewSectionReader(s, 0, int64(s.Size))); err != nil {
		return "", fmt.Errorf("%s: section %s: %w", f.path, s.Name, err)
	}
	return b.String(), nil
}

func (t *symTable) decode(data []byte, e *elf.File) {
	order := e.ByteOrder
	size := 24
	if e.Class == elf.ELFCLASS32 {
		size = 16
	}
	t.entries = make([]symEntry, 0, len(data)/size)
	for i := size; i+size <= len(data); i += size { // the first entry is always empty
		d := data[i : i+size]
		var name uint32
		var info uint8
		var section uint16
		var addr, length uint64
		if size == 24 {
			if order == binary.ByteOrder(binary.LittleEndian) {
				le := binary.LittleEndian
				name, info, section = le.Uint32(d), d[4], le.Uint16(d[6:])
				addr, length = le.Uint64(d[8:]), le.Uint64(d[16:])
			} else {
				name, info, section = order.Uint32(d), d[4], order.Uint16(d[6:])
				addr, length = order.Uint64(d[8:]), order.Uint64(d[16:])
			}
		} else {
			name, info, section = order.Uint32(d), d[12], order.Uint16(d[14:])
			addr, length = uint64(order.Uint32(d[4:])), uint64(order.Uint32(d[8:]))
		}
		if section == uint16(elf.SHN_UNDEF) || section == uint16(elf.SHN_ABS) || name == 0 {
			continue
		}
		entry := symEntry{addr: addr, size: uint32(min(length, math.MaxUint32)), name: name, section: section}
		switch elf.SymType(info & 0xf) {
		case elf.STT_FUNC:
			entry.kind = KindFunc
		case elf.STT_GNU_IFUNC:
			entry.kind, entry.ifunc = KindFunc, true
		case elf.STT_OBJECT, elf.STT_COMMON:
			entry.kind = KindObject
		case elf.STT_NOTYPE:
			entry.kind = KindOther
			// Mapping symbols of the ARM ABIs ($x, $d) mark code and data; they name nothing.
			if s := t.strs[0]; int(name) < len(s) && s[name] == '$' {
				continue
			}
		default:
			continue
		}
		switch elf.SymBind(info >> 4) {
		case elf.STB_LOCAL:
			entry.bind = bindLocal
		case elf.STB_WEAK:
			entry.bind = bindWeak
		default:
			entry.bind = bindGlobal
		}
		t.entries = append(t.entries, entry)
	}
}

// add appends the symbols of another table.
func (t *symTable) add(o *symTable) {
	base := uint8(len(t.strs))
	t.strs = append(t.strs, o.strs...)
	t.entries = slices.Grow(t.entries, len(o.entries))
	for _, e := range o.entries {
		e.str += base
		t.entries = append(t.entries, e)
	}
}

// rank orders the symbols of one address; the smallest is the one that people know it by. A name with fewer leading
// underscores wins before binding does: glibc's write is weak and its __write global.
func (t *symTable) rank(a, b *symEntry) int {
	kindRank := func(k Kind) int {
		if k == KindOther {
			return 1
		}
		return 0
	}
	zero := func(e *symEntry) int {
		if e.size == 0 {
			return 1
		}
		return 0
	}
	local := func(e *symEntry) int {
		if e.bind == bindLocal {
			return 1
		}
		return 0
	}
	if c := cmp.Or(cmp.Compare(kindRank(a.kind), kindRank(b.kind)), cmp.Compare(zero(a), zero(b)), cmp.Compare(local(a), local(b))); c != 0 {
		return c
	}
	an, bn := t.name(a), t.name(b)
	underscores := func(s string) int { return len(s) - len(strings.TrimLeft(s, "_")) }
	return cmp.Or(cmp.Compare(underscores(an), underscores(bn)), cmp.Compare(b.bind, a.bind), cmp.Compare(len(an), len(bn)), cmp.Compare(an, bn))
}

func (t *symTable) sort() {
	if t.sorted != nil {
		return
	}
	all := slices.Clone(t.entries)
	slices.SortFunc(all, func(a, b symEntry) int {
		if c := cmp.Compare(a.addr, b.addr); c != 0 {
			return c
		}
		return t.rank(&a, &b)
	})
	t.sorted = slices.CompactFunc(all, func(a, b symEntry) bool { return a.addr == b.addr })
	if t.sorted == nil {
		t.sorted = []symEntry{}
	}
	t.reach = make([]uint64, len(t.sorted))
	var high uint64
	for i := range t.sorted {
		high = max(high, t.sorted[i].addr+uint64(t.sorted[i].size))
		t.reach[i] = high
	}
}

// at finds the symbol that covers addr. A symbol without a size covers the bytes up to the next one in its section.
func (t *symTable) at(addr uint64, sectionEnd func(section uint16) uint64) (*symEntry, bool) {
	t.sort()
	i, exact := slices.BinarySearchFunc(t.sorted, addr, func(e symEntry, a uint64) int { return cmp.Compare(e.addr, a) })
	if !exact {
		i--
	}
	for first := true; i >= 0; i, first = i-1, false {
		e := &t.sorted[i]
		if addr-e.addr < uint64(e.size) {
			return e, true
		}
		if first && e.size == 0 && addr < sectionEnd(e.section) {
			// Inside a sized symbol, a label without a size (a loop in assembly) does not win.
			for j := i - 1; j >= 0 && t.reach[j] > addr; j-- {
				if o := &t.sorted[j]; addr-o.addr < uint64(o.size) {
					return o, true
				}
			}
			return e, true
		}
		if t.reach[i] <= addr {
			break
		}
	}
	return nil, false
}

// lookup returns the symbols with exactly this name. The first lookups scan (a one-liner makes one); from then on an
// index answers.
func (t *symTable) lookup(name string) []Symbol {
	var out []Symbol
	if name == "" {
		return nil
	}
	const scans = 8
	if t.lookups++; t.lookups <= scans {
		for i := range t.entries {
			e := &t.entries[i]
			s := t.strs[e.str]
			if uint64(e.name)+uint64(len(name)) > uint64(len(s)) || s[e.name:int(e.name)+len(name)] != name {
				continue
			}
			if end := int(e.name) + len(name); end == len(s) || s[end] == 0 || s[end] == '@' {
				out = append(out, t.symbol(e))
			}
		}
		return out
	}
	if t.byName == nil {
		t.byName = make(map[string][]int32, len(t.entries))
		for i := range t.entries {
			n := t.name(&t.entries[i])
			t.byName[n] = append(t.byName[n], int32(i))
		}
	}
	for _, i := range t.byName[name] {
		out = append(out, t.symbol(&t.entries[i]))
	}
	return out
}
