package symbol

import (
	"bytes"
	"cmp"
	"debug/dwarf"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
)

// ErrNoDebugInfo is wrapped by errors about a file without DWARF: compile it with -g, or install its debug package.
var ErrNoDebugInfo = errors.New("no debug information")

// dwarfIndex finds its way in the DWARF of one file. Units are decoded when something in them is asked for.
type dwarfIndex struct {
	mu        *sync.Mutex // the owning File's
	data      *dwarf.Data
	units     []*unit
	ranges    []unitRange
	types     map[dwarf.Offset]*Type
	names     map[dwarf.Offset]string
	alt       *dwarfIndex // what dwz moved into a common file
	strs      []byte      // .debug_str, only of an alt file
	locations *locations
	byName    *typeNames // nil until asked for
}

// unit is one compilation unit.
type unit struct {
	entry    *dwarf.Entry
	language int64
	dir      string
	producer string
	files    []string
	filesOK  bool
	rows     []row
	rowsOK   bool
	roots    []*scope
	rootsOK  bool
}

type unitRange struct {
	low, high uint64
	unit      int
}

// row is one line of a line table: it holds from its address to that of the next row.
type row struct {
	addr      uint64
	file      int32
	line      int32
	column    int32
	statement bool
	end       bool
}

// DWARF language codes (DW_LANG).
const (
	langRust    = 0x1c
	langGo      = 0x16
	langCPP     = 0x04
	langCPP03   = 0x19
	langCPP11   = 0x1a
	langCPP14   = 0x21
	langCPP17   = 0x2a
	langCPP20   = 0x2b
	attrDwoName = dwarf.Attr(0x76)
	attrGNUDwo  = dwarf.Attr(0x2130)
)

func (u *unit) cplusplus() bool {
	switch u.language {
	case langCPP, langCPP03, langCPP11, langCPP14, langCPP17, langCPP20:
		return true
	}
	return false
}

// index loads the debug information of the file, or of its separate debug file.
func (f *File) index() (*dwarfIndex, error) {
	if f.dwarfs {
		return f.dwarf, f.dwarfE
	}
	f.dwarfs = true
	src := f
	if !src.hasDWARF() {
		src = nil
		if d := f.debugFile(); d != nil && d.hasDWARF() {
			src = d
		}
	}
	if src == nil {
		f.dwarfE = fmt.Errorf("%s: %w", f.path, ErrNoDebugInfo)
		return nil, f.dwarfE
	}
	f.dwarf, f.dwarfE = loadDWARF(src, &f.mu)
	return f.dwarf, f.dwarfE
}

func (f *File) hasDWARF() bool {
	return f.elf.Section(".debug_info") != nil || f.elf.Section(".zdebug_info") != nil
}

// HasDebugInfo reports whether source lines and parameters of the file are known.
func (f *File) HasDebugInfo() bool {
	if f.hasDWARF() {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.debugFile()
	return d != nil && d.hasDWARF()
}

func loadDWARF(f *File, mu *sync.Mutex) (*dwarfIndex, error) {
	var total uint64
	for _, s := range f.elf.Sections {
		if strings.HasPrefix(s.Name, ".debug_") {
			total += s.Size
		}
	}
	if total > 4*maxSectionBytes {
		return nil, fmt.Errorf("%s: %d MiB of debug information is too much", f.path, total>>20)
	}
	data, err := f.elf.DWARF()
	if err != nil {
		return nil, fmt.Errorf("%s: debug information: %w", f.path, err)
	}
	ix := &dwarfIndex{mu: mu, data: data, types: map[dwarf.Offset]*Type{}, names: map[dwarf.Offset]string{}}
	ix.alt = f.altIndex(mu)
	ix.locations = loadLocations(f)
	r := data.Reader()
	for nulls := 0; ; {
		e, err := r.Next()
		if err != nil || e == nil {
			break // what was read before a broken unit is still good
		}
		if e.Tag == 0 {
			// Padding between units; for a number cut by the end of the section, the reader never gets past it.
			if nulls++; nulls > 1<<16 {
				break
			}
			continue
		}
		if e.Tag == dwarf.TagCompileUnit || e.Tag == dwarf.TagSkeletonUnit {
			u := &unit{entry: e}
			u.language, _ = e.Val(dwarf.AttrLanguage).(int64)
			u.dir = ix.text(e, dwarf.AttrCompDir)
			u.producer = ix.text(e, dwarf.AttrProducer)
			ranges, err := data.Ranges(e)
			if err == nil {
				for _, p := range ranges {
					// A discarded section leaves its ranges behind, starting at 0.
					if p[0] < p[1] && p[0] != 0 {
						ix.ranges = append(ix.ranges, unitRange{p[0], p[1], len(ix.units)})
					}
				}
			}
			ix.units = append(ix.units, u)
		}
		r.SkipChildren()
	}
	sort.Slice(ix.ranges, func(i, j int) bool { return ix.ranges[i].low < ix.ranges[j].low })
	return ix, nil
}

// altIndex opens the file that dwz moved shared debug information to.
func (f *File) altIndex(mu *sync.Mutex) *dwarfIndex {
	link, err := f.sectionData(".gnu_debugaltlink")
	if err != nil {
		return nil
	}
	end := bytes.IndexByte(link, 0)
	if end <= 0 {
		return nil
	}
	path, id := string(link[:end]), link[end+1:]
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(f.path), path)
	}
	opts := f.opts
	opts.NoDebugFiles = true
	alt, err := Open(path, opts)
	if err != nil {
		return nil
	}
	if !bytes.Equal(alt.BuildID(), id) {
		alt.Close()
		return nil
	}
	defer alt.Close()
	data, err := alt.elf.DWARF()
	if err != nil {
		return nil
	}
	strs, _ := alt.sectionData(".debug_str")
	return &dwarfIndex{mu: mu, data: data, strs: strs, types: map[dwarf.Offset]*Type{}, names: map[dwarf.Offset]string{}}
}

// die is a place in the debug information of a file or of its alt file.
type die struct {
	ix  *dwarfIndex
	off dwarf.Offset
}

func (d die) entry() *dwarf.Entry {
	r := d.ix.data.Reader()
	r.Seek(d.off)
	e, err := r.Next()
	if err != nil {
		return nil
	}
	return e
}

// children calls visit for the direct children of a die.
func (d die) children(visit func(e *dwarf.Entry) bool) {
	r := d.ix.data.Reader()
	r.Seek(d.off)
	e, err := r.Next()
	if err != nil || e == nil || !e.Children {
		return
	}
	for {
		c, err := r.Next()
		if err != nil || c == nil || c.Tag == 0 || !visit(c) {
			return
		}
		r.SkipChildren()
	}
}

// text reads a string attribute.
func (ix *dwarfIndex) text(e *dwarf.Entry, attr dwarf.Attr) string {
	f := e.AttrField(attr)
	if f == nil {
		return ""
	}
	switch v := f.Val.(type) {
	case string:
		return v
	case int64:
		if f.Class == dwarf.ClassStringAlt && ix.alt != nil && v >= 0 && v < int64(len(ix.alt.strs)) {
			s := ix.alt.strs[v:]
			if end := bytes.IndexByte(s, 0); end >= 0 {
				return string(s[:end])
			}
		}
	}
	return ""
}

// ref reads an attribute that refers to another die.
func (ix *dwarfIndex) ref(e *dwarf.Entry, attr dwarf.Attr) (die, bool) {
	f := e.AttrField(attr)
	if f == nil {
		return die{}, false
	}
	switch v := f.Val.(type) {
	case dwarf.Offset:
		return die{ix, v}, true
	case int64:
		if f.Class == dwarf.ClassReferenceAlt && ix.alt != nil {
			return die{ix.alt, dwarf.Offset(v)}, true
		}
	}
	return die{}, false
}

// functionName returns the name of a function as the symbol table has it: the linkage name of the declaration or the
// plain name.
func (ix *dwarfIndex) functionName(e *dwarf.Entry) string {
	if name, ok := ix.names[e.Offset]; ok {
		return name
	}
	plain, at, entry := "", ix, e
	name := ""
	for depth := 0; depth < 8 && entry != nil; depth++ {
		if n := at.text(entry, dwarf.AttrLinkageName); n != "" {
			name = n
			break
		}
		if plain == "" {
			plain = at.text(entry, dwarf.AttrName)
		}
		next, ok := at.ref(entry, dwarf.AttrAbstractOrigin)
		if !ok {
			if next, ok = at.ref(entry, dwarf.AttrSpecification); !ok {
				break
			}
		}
		at, entry = next.ix, next.entry()
	}
	if name == "" {
		name = plain
	}
	ix.names[e.Offset] = name
	return name
}

func (ix *dwarfIndex) unitAt(addr uint64) *unit {
	i, found := slices.BinarySearchFunc(ix.ranges, addr, func(r unitRange, a uint64) int { return cmp.Compare(r.low, a) })
	if !found {
		i--
	}
	// Ranges of different units do not overlap, but a broken one may swallow its neighbours.
	for n := 0; i >= 0 && n < 4; i, n = i-1, n+1 {
		if addr < ix.ranges[i].high {
			return ix.units[ix.ranges[i].unit]
		}
	}
	return nil
}

// fileTable reads the names of a unit's source files.
func (ix *dwarfIndex) fileTable(u *unit) []string {
	if u.filesOK {
		return u.files
	}
	u.filesOK = true
	lr, err := ix.data.LineReader(u.entry)
	if err != nil || lr == nil {
		return nil
	}
	for _, f := range lr.Files() {
		name := ""
		if f != nil {
			name = f.Name
			if !filepath.IsAbs(name) && u.dir != "" {
				name = filepath.Join(u.dir, name)
			}
		}
		u.files = append(u.files, name)
	}
	return u.files
}

// lineTable decodes the line table of a unit, sorted by address.
func (ix *dwarfIndex) lineTable(u *unit) []row {
	if u.rowsOK {
		return u.rows
	}
	u.rowsOK = true
	lr, err := ix.data.LineReader(u.entry)
	if err != nil || lr == nil {
		return nil
	}
	index := map[*dwarf.LineFile]int32{}
	for i, f := range lr.Files() {
		if f != nil {
			index[f] = int32(i)
		}
	}
	ix.fileTable(u)
	var le dwarf.LineEntry
	for lr.Next(&le) == nil {
		file, ok := index[le.File]
		if !ok {
			file = -1
			if le.File != nil {
				file = int32(len(u.files))
				index[le.File] = file
				u.files = append(u.files, le.File.Name)
			}
		}
		u.rows = append(u.rows, row{le.Address, file, int32(le.Line), int32(le.Column), le.IsStmt, le.EndSequence})
	}
	slices.SortStableFunc(u.rows, func(a, b row) int {
		if c := cmp.Compare(a.addr, b.addr); c != 0 {
			return c
		}
		// The end of one sequence comes before the start of the next one at the same address.
		switch {
		case a.end && !b.end:
			return -1
		case b.end && !a.end:
			return 1
		}
		return 0
	})
	return u.rows
}

// rowAt finds the row of an address: the last one at or before it. Its line may be 0: the compiler could not say.
func (ix *dwarfIndex) rowAt(u *unit, addr uint64) (row, bool) {
	rows := ix.lineTable(u)
	i, _ := slices.BinarySearchFunc(rows, addr, func(r row, a uint64) int {
		if r.addr <= a {
			return -1
		}
		return 1
	})
	if i--; i < 0 || rows[i].end {
		return row{}, false
	}
	return rows[i], true
}

func (u *unit) file(i int32) string {
	if i < 0 || int(i) >= len(u.files) {
		return ""
	}
	return u.files[i]
}
