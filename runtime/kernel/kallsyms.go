package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"
	"sync"
	"unsafe"
)

// Symbols is a snapshot of /proc/kallsyms: the kernel's symbols, then those of modules, of the function tracer and of loaded
// BPF programs. It holds about 17 bytes per symbol and the text of the file, all without pointers, and is safe for concurrent use.
type Symbols struct {
	text  string   // the file
	addrs []uint64 // sorted
	name  []uint32 // where the name starts in text
	size  []uint16 // length of the name
	typ   []byte
	mod   []uint16 // index into mods
	mods  []string // mods[0] is the kernel itself

	hidden bool

	byNameOnce sync.Once
	heads      []uint32 // hash of a name -> 1 + index of a symbol, 0 = none
	next       []uint32 // index of a symbol -> 1 + index of the next with the same hash
}

// Symbol is one symbol of the kernel.
type Symbol struct {
	Name   string
	Addr   uint64
	Type   byte   // as nm(1) has it: t, T, w, W, i are code; lower case is local
	Module string // "" for the kernel itself, "bpf" for programs, "__builtin__ftrace" and the like for trampolines
}

// IsText reports whether the symbol is code.
func (s Symbol) IsText() bool { return isText(s.Type) }

func isText(t byte) bool {
	switch t {
	case 't', 'T', 'w', 'W', 'i':
		return true
	}
	return false
}

// ErrHiddenSymbols says that the kernel shows all addresses as zero: kernel.kptr_restrict is set, or CAP_SYSLOG is missing.
var ErrHiddenSymbols = errors.New("the kernel hides symbol addresses (kernel.kptr_restrict, or CAP_SYSLOG is missing)")

// Symbols reads /proc/kallsyms on first use (about 30 ms, most of it the kernel's formatting) and keeps the snapshot.
func (k *Kernel) Symbols() (*Symbols, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.syms != nil {
		return k.syms, nil
	}
	return k.readSymbols()
}

// ReloadSymbols reads the symbols again, for modules and BPF programs loaded since. Snapshots handed out before do not change.
func (k *Kernel) ReloadSymbols() (*Symbols, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.readSymbols()
}

func (k *Kernel) readSymbols() (*Symbols, error) {
	b, err := readLarge(k.Path("/proc/kallsyms"))
	if err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	s, err := parseKallsyms(b)
	if err != nil {
		return nil, err
	}
	k.syms = s
	return s, nil
}

// parseKallsyms reads lines "ffffffff81000000 T name\t[module]". It keeps b.
func parseKallsyms(b []byte) (*Symbols, error) {
	if uint64(len(b)) >= 1<<32 {
		return nil, errors.New("read kernel symbols: more than 4 GiB")
	}
	n := bytes.Count(b, []byte{'\n'}) + 1
	s := &Symbols{
		text: unsafe.String(unsafe.SliceData(b), len(b)), mods: []string{""},
		addrs: make([]uint64, 0, n), name: make([]uint32, 0, n), size: make([]uint16, 0, n), typ: make([]byte, 0, n), mod: make([]uint16, 0, n),
	}
	sorted, nonzero := true, false
	curMod, curID := "", uint16(0)
	ids := map[string]uint16{"": 0}
	for pos := 0; pos < len(b); {
		end := bytes.IndexByte(b[pos:], '\n')
		if end < 0 {
			end = len(b)
		} else {
			end += pos
		}
		line := b[pos:end]
		start := pos
		pos = end + 1
		addr, i := uint64(0), 0
		for ; i < len(line) && i < 16; i++ {
			c := hexDigit[line[i]]
			if c > 15 {
				break
			}
			addr = addr<<4 | uint64(c)
		}
		// "ADDR T NAME"
		if i == 0 || len(line) < i+4 || line[i] != ' ' || line[i+2] != ' ' {
			continue
		}
		nameAt := i + 3
		nameEnd := len(line)
		mod := uint16(0)
		if t := bytes.IndexByte(line[nameAt:], '\t'); t >= 0 {
			nameEnd = nameAt + t
			m := bytes.TrimLeft(line[nameEnd+1:], "[ ")
			modAt := start + len(line) - len(m)
			m = bytes.TrimRight(m, "] ")
			if string(m) != curMod {
				curMod = s.text[modAt : modAt+len(m)]
				if id, ok := ids[curMod]; ok {
					curID = id
				} else if len(s.mods) < 1<<16 {
					curID = uint16(len(s.mods))
					s.mods = append(s.mods, curMod)
					ids[curMod] = curID
				}
			}
			mod = curID
		}
		if nameEnd == nameAt || nameEnd-nameAt > 1<<16-1 {
			continue
		}
		if k := len(s.addrs); k > 0 && s.addrs[k-1] > addr {
			sorted = false
		}
		nonzero = nonzero || addr != 0
		s.addrs = append(s.addrs, addr)
		s.name = append(s.name, uint32(start+nameAt))
		s.size = append(s.size, uint16(nameEnd-nameAt))
		s.typ = append(s.typ, line[i+1])
		s.mod = append(s.mod, mod)
	}
	s.hidden = !nonzero && len(s.addrs) > 0
	if !sorted {
		s.sort()
	}
	return s, nil
}

var hexDigit = func() (t [256]uint8) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range 10 {
		t['0'+i] = uint8(i)
	}
	for i := range 6 {
		t['a'+i], t['A'+i] = uint8(10+i), uint8(10+i)
	}
	return
}()

// sort orders by address; of symbols at one address the order of the file is kept.
func (s *Symbols) sort() {
	perm := make([]uint32, len(s.addrs))
	for i := range perm {
		perm[i] = uint32(i)
	}
	slices.SortFunc(perm, func(a, b uint32) int {
		switch x, y := s.addrs[a], s.addrs[b]; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return int(a) - int(b)
	})
	s.addrs = permuted(s.addrs, perm)
	s.name = permuted(s.name, perm)
	s.size = permuted(s.size, perm)
	s.typ = permuted(s.typ, perm)
	s.mod = permuted(s.mod, perm)
}

func permuted[T any](in []T, perm []uint32) []T {
	out := make([]T, len(in))
	for i, p := range perm {
		out[i] = in[p]
	}
	return out
}

// Len is the number of symbols.
func (s *Symbols) Len() int { return len(s.addrs) }

// Hidden tells whether addresses are all zero; see ErrHiddenSymbols. Names, types and modules are there all the same.
func (s *Symbols) Hidden() bool { return s.hidden }

// At returns the i-th symbol by address. It panics when i is not below Len.
func (s *Symbols) At(i int) Symbol {
	return Symbol{s.nameAt(i), s.addrs[i], s.typ[i], s.mods[s.mod[i]]}
}

func (s *Symbols) nameAt(i int) string {
	return s.text[s.name[i] : uint64(s.name[i])+uint64(s.size[i])]
}

// All goes through the symbols by address.
func (s *Symbols) All() iter.Seq[Symbol] {
	return func(yield func(Symbol) bool) {
		for i := range s.addrs {
			if !yield(s.At(i)) {
				return
			}
		}
	}
}

// minKernelAddr is below every address of kernel code on x86-64 and arm64: per-CPU offsets and absolute values are not addresses.
const minKernelAddr = 1 << 63

// maxSymbolGap is how far behind the last symbol before it an address may be. Nothing that is listed is larger; an address in
// a hole between modules is not named after the module below.
const maxSymbolGap = 16 << 20

// Lookup names an address: the last symbol at or before it, and the offset in it. Where several symbols share an address, a
// function wins over aliases and section marks.
func (s *Symbols) Lookup(addr uint64) (sym Symbol, offset uint64, ok bool) {
	if s.hidden || addr < minKernelAddr {
		return Symbol{}, 0, false
	}
	i := sort.Search(len(s.addrs), func(i int) bool { return s.addrs[i] > addr }) - 1
	if i < 0 || addr-s.addrs[i] > maxSymbolGap || s.addrs[i] < minKernelAddr {
		return Symbol{}, 0, false
	}
	best := i
	for j := i; j >= 0 && s.addrs[j] == s.addrs[i]; j-- {
		if s.rank(j) >= s.rank(best) {
			best = j
		}
	}
	return s.At(best), addr - s.addrs[best], true
}

// rank orders aliases at one address; the kernel itself prefers the first, and does not know marks such as _stext.
func (s *Symbols) rank(i int) int {
	name := s.nameAt(i)
	r := 0
	if isText(s.typ[i]) {
		r += 4
	}
	if !sectionMarks[name] && !strings.HasPrefix(name, "__pfx_") && !strings.HasPrefix(name, "__cfi_") && !strings.HasPrefix(name, "$") {
		r += 2
	}
	return r
}

var sectionMarks = map[string]bool{
	"_text": true, "_stext": true, "__pi__text": true, "_etext": true, "__end_rodata": true,
	"__init_begin": true, "_sinittext": true, "_einittext": true, "__irqentry_text_start": true, "__irqentry_text_end": true,
	"__softirqentry_text_start": true, "__softirqentry_text_end": true, "__entry_text_start": true, "__entry_text_end": true,
	"__kprobes_text_start": true, "__kprobes_text_end": true, "__lock_text_start": true, "__lock_text_end": true,
	"__sched_text_start": true, "__sched_text_end": true, "__cpuidle_text_start": true, "__cpuidle_text_end": true,
	"__noinstr_text_start": true, "__noinstr_text_end": true, "__exittext_begin": true, "__exittext_end": true,
}

// named goes through the indexes of the symbols with this name, by address.
func (s *Symbols) named(name string) iter.Seq[int] {
	s.indexNames()
	return func(yield func(int) bool) {
		for i := s.heads[hashName(name)&uint32(len(s.heads)-1)]; i != 0; i = s.next[i-1] {
			if s.nameAt(int(i-1)) == name && !yield(int(i-1)) {
				return
			}
		}
	}
}

// ByName returns all symbols with exactly this name, by address: static functions of the same name are common.
func (s *Symbols) ByName(name string) []Symbol {
	var out []Symbol
	for i := range s.named(name) {
		out = append(out, s.At(i))
	}
	return out
}

// Addr is the address of a symbol by name, the first one when there are several. ok is false when there is none, and when
// addresses are hidden.
func (s *Symbols) Addr(name string) (addr uint64, ok bool) {
	if s.hidden {
		return 0, false
	}
	for i := range s.named(name) {
		return s.addrs[i], true
	}
	return 0, false
}

// HasText tells whether there is a function of this name.
func (s *Symbols) HasText(name string) bool {
	for i := range s.named(name) {
		if isText(s.typ[i]) {
			return true
		}
	}
	return false
}

// FunctionModules lists the modules that have a function of this name; "" is the kernel itself.
func (s *Symbols) FunctionModules(name string) []string {
	var out []string
	for _, sym := range s.ByName(name) {
		if sym.IsText() && !slices.Contains(out, sym.Module) {
			out = append(out, sym.Module)
		}
	}
	return out
}

// Modules lists the modules that have symbols, in the order of addresses, without the kernel itself.
func (s *Symbols) Modules() []string { return s.mods[1:] }

func (s *Symbols) indexNames() {
	s.byNameOnce.Do(func() {
		size := 1
		for size < len(s.addrs) {
			size <<= 1
		}
		s.heads, s.next = make([]uint32, size), make([]uint32, len(s.addrs))
		for i := len(s.addrs) - 1; i >= 0; i-- { // backwards, so that a chain goes by address
			h := hashName(s.nameAt(i)) & uint32(size-1)
			s.next[i] = s.heads[h]
			s.heads[h] = uint32(i) + 1
		}
	})
}
