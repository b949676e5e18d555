package symbol

import (
	"cmp"
	"debug/elf"
	"fmt"
	"slices"
	"strings"
)

// dynamic returns the table of exported symbols.
func (f *File) dynamic() (*symTable, error) {
	if f.dyn == nil {
		t, err := loadSymbols(f, elf.SHT_DYNSYM)
		if err != nil {
			return t, err
		}
		f.dyn = t
	}
	return f.dyn, nil
}

// symtab returns the full symbol table, from the file or its debug file; nil when there is none.
func (f *File) symtab() *symTable {
	if f.static != nil {
		return f.static
	}
	t, err := loadSymbols(f, elf.SHT_SYMTAB)
	if err != nil || len(t.entries) == 0 {
		t = &symTable{}
		if d := f.debugFile(); d != nil {
			if dt, err := loadSymbols(d, elf.SHT_SYMTAB); err == nil {
				t = dt
			}
		}
	}
	if len(t.entries) == 0 {
		if m := f.miniDebug(); m != nil {
			if mt, err := loadSymbols(m, elf.SHT_SYMTAB); err == nil {
				t = mt
			}
		}
	}
	f.static = t
	return t
}

// symbols returns all symbols: the full table, the exported ones, and Go's function table for a Go program whose
// symbols were stripped.
func (f *File) symbols() *symTable {
	if f.full != nil {
		return f.full
	}
	static := f.symtab()
	dyn, _ := f.dynamic()
	switch {
	case len(static.entries) == 0 && len(dyn.entries) == 0:
		f.full = &symTable{}
	case len(dyn.entries) == 0:
		f.full = static
	case len(static.entries) == 0:
		f.full = dyn
	default:
		f.full = &symTable{}
		f.full.add(static)
		f.full.add(dyn)
	}
	if len(static.entries) == 0 {
		if g := f.goBinary(); g != nil {
			t := &symTable{}
			t.add(f.full)
			t.add(g.symbols())
			f.full = t
		}
	}
	return f.full
}

// Lookup returns the symbols called name, each address once; a name may stand for several static functions. The error
// wraps [ErrNoSymbol] when there is none.
func (f *File) Lookup(name string) ([]Symbol, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// Exported names are found without reading the full table, which debug builds have megabytes of.
	if dyn, err := f.dynamic(); err == nil {
		if out := dedupe(dyn.lookup(name)); len(out) > 0 {
			return out, nil
		}
	}
	if out := dedupe(f.symbols().lookup(name)); len(out) > 0 {
		return out, nil
	}
	return nil, fmt.Errorf("%s: %w: %s", f.path, ErrNoSymbol, name)
}

// Function returns the function called name. Where several have the name, the exported one is preferred, then the one at
// the lowest address.
func (f *File) Function(name string) (Symbol, error) {
	syms, err := f.Lookup(name)
	if err != nil {
		return Symbol{}, err
	}
	var best *Symbol
	for i := range syms {
		s := &syms[i]
		if s.Kind != KindFunc && (s.Kind != KindOther || !f.executable(s.Addr)) {
			continue
		}
		if best == nil || best.Local && !s.Local {
			best = s
		}
	}
	if best == nil {
		return Symbol{}, fmt.Errorf("%s: %s is a variable, not a function", f.path, name)
	}
	return *best, nil
}

func dedupe(syms []Symbol) []Symbol {
	slices.SortStableFunc(syms, func(a, b Symbol) int { return cmp.Compare(a.Addr, b.Addr) })
	return slices.CompactFunc(syms, func(a, b Symbol) bool { return a.Addr == b.Addr })
}

// Functions returns every function of the file, sorted by name and then by address: what wildcards, listings and
// completion work on. Aliases are all there.
func (f *File) Functions() []Symbol {
	return f.match(func(string) bool { return true })
}

// Glob returns the functions whose name matches a pattern in which * stands for any characters and ? for one; sorted by
// name and then by address.
func (f *File) Glob(pattern string) []Symbol {
	return f.match(func(name string) bool { return Match(pattern, name) })
}

func (f *File) match(want func(name string) bool) []Symbol {
	f.mu.Lock()
	t := f.symbols()
	f.mu.Unlock()
	var out []Symbol
	for i := range t.entries {
		e := &t.entries[i]
		if e.kind != KindFunc {
			continue
		}
		if name := t.name(e); name != "" && want(name) {
			out = append(out, t.symbol(e))
		}
	}
	slices.SortFunc(out, func(a, b Symbol) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Addr, b.Addr)) })
	return slices.CompactFunc(out, func(a, b Symbol) bool { return a.Addr == b.Addr && a.Name == b.Name })
}

// At returns the symbol that covers an address of the image.
func (f *File) At(addr uint64) (Symbol, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.symbols()
	if e, ok := t.at(addr, f.sectionEnd); ok {
		return t.symbol(e), true
	}
	if t := f.pltStubs(); t != nil {
		if e, ok := t.at(addr, f.sectionEnd); ok {
			return t.symbol(e), true
		}
	}
	return Symbol{}, false
}

// HasSymbols reports whether the file, or its debug file, has a full symbol table; without one only exported names and
// those of MiniDebugInfo are known.
func (f *File) HasSymbols() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.symtab().entries) > 0
}

// FunctionEnd returns the address behind a function: from its size, or the start of the next symbol, or the end of its
// section.
func (f *File) FunctionEnd(s Symbol) uint64 {
	if s.Size > 0 {
		return s.Addr + s.Size
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.symbols()
	t.sort()
	end := f.codeEnd(s.Addr)
	i, _ := slices.BinarySearchFunc(t.sorted, s.Addr+1, func(e symEntry, a uint64) int { return cmp.Compare(e.addr, a) })
	if i < len(t.sorted) && t.sorted[i].addr < end {
		return t.sorted[i].addr
	}
	return end
}

func (f *File) codeEnd(addr uint64) uint64 {
	for _, s := range f.elf.Sections {
		if s.Flags&elf.SHF_ALLOC != 0 && addr >= s.Addr && addr-s.Addr < s.Size {
			return s.Addr + s.Size
		}
	}
	for _, p := range f.elf.Progs {
		if p.Type == elf.PT_LOAD && addr >= p.Vaddr && addr-p.Vaddr < p.Filesz {
			return p.Vaddr + p.Filesz
		}
	}
	return addr
}

func (f *File) sectionEnd(section uint16) uint64 {
	if int(section) >= len(f.elf.Sections) {
		return 0
	}
	s := f.elf.Sections[section]
	return s.Addr + s.Size
}

// Match reports whether name matches a pattern in which * stands for any characters.
func Match(pattern, name string) bool {
	if !strings.Contains(pattern, "*") {
		return pattern == name
	}
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && pattern[p] == name[n]:
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
