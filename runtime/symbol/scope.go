package symbol

import (
	"cmp"
	"debug/dwarf"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// scope is a function, or an inlined copy of one, with its code.
type scope struct {
	off      dwarf.Offset
	inlined  bool
	ranges   [][2]uint64
	callFile int32
	callLine int32
	callCol  int32
	children []*scope // inlined copies inside
}

func (s *scope) contains(addr uint64) bool {
	for _, r := range s.ranges {
		if addr >= r[0] && addr < r[1] {
			return true
		}
	}
	return false
}

// scopes decodes the functions of a unit, inlined copies below the functions that they are in.
func (ix *dwarfIndex) scopes(u *unit) []*scope {
	if u.rootsOK {
		return u.roots
	}
	u.rootsOK = true
	r := ix.data.Reader()
	r.Seek(u.entry.Offset)
	if e, err := r.Next(); err != nil || e == nil || !e.Children {
		return nil
	}
	type level struct{ owner *scope }
	stack := []level{{nil}}
	for len(stack) > 0 {
		e, err := r.Next()
		if err != nil || e == nil {
			break
		}
		if e.Tag == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		owner := stack[len(stack)-1].owner
		switch e.Tag {
		case dwarf.TagSubprogram, dwarf.TagInlinedSubroutine:
			s := ix.scope(e)
			switch {
			case len(s.ranges) == 0:
				// A declaration, or the abstract description of a function that was inlined everywhere.
				if e.Children {
					r.SkipChildren()
					continue
				}
			case s.inlined && owner != nil:
				owner.children = append(owner.children, s)
				owner = s
			case !s.inlined:
				u.roots = append(u.roots, s)
				owner = s
			}
		case dwarf.TagStructType, dwarf.TagClassType, dwarf.TagUnionType, dwarf.TagEnumerationType, dwarf.TagSubroutineType, dwarf.TagArrayType:
			// Methods are defined outside their class, except where a function has classes of its own.
			if !u.cplusplus() && u.language != langRust {
				r.SkipChildren()
				continue
			}
		case dwarf.TagFormalParameter, dwarf.TagVariable, dwarf.TagMember:
			r.SkipChildren()
			continue
		}
		if e.Children {
			stack = append(stack, level{owner})
		}
	}
	slices.SortFunc(u.roots, func(a, b *scope) int { return cmp.Compare(a.ranges[0][0], b.ranges[0][0]) })
	return u.roots
}

func (ix *dwarfIndex) scope(e *dwarf.Entry) *scope {
	s := &scope{off: e.Offset, inlined: e.Tag == dwarf.TagInlinedSubroutine}
	ranges, err := ix.data.Ranges(e)
	if err == nil {
		for _, r := range ranges {
			if r[0] < r[1] && r[0] != 0 {
				s.ranges = append(s.ranges, r)
			}
		}
	}
	if s.inlined {
		number := func(attr dwarf.Attr) int32 {
			v, _ := e.Val(attr).(int64)
			return int32(v)
		}
		s.callFile, s.callLine, s.callCol = number(dwarf.AttrCallFile), number(dwarf.AttrCallLine), number(dwarf.AttrCallColumn)
	}
	return s
}

// chain returns the function at an address and the inlined copies in it that cover the address, outermost first.
func (ix *dwarfIndex) chain(u *unit, addr uint64) []*scope {
	var out []*scope
	level := ix.scopes(u)
	for level != nil {
		var next *scope
		for _, s := range level {
			if s.contains(addr) {
				next = s
				break
			}
		}
		if next == nil {
			break
		}
		out = append(out, next)
		level = next.children
	}
	return out
}

// SourceLine is a place in source text.
type SourceLine struct {
	// Function is the function that the line belongs to, mangled as in the symbol table where known.
	Function string
	// File is the path that the compiler recorded.
	File string
	// Line and Column count from 1; 0 is unknown.
	Line, Column int
}

// Lines returns the source lines of an address of the image: the innermost inlined function first, the real function
// last. Nothing is returned when the file has no debug information for it. For the return addresses of a stack, ask for
// the byte before.
func (f *File) Lines(addr uint64) []SourceLine {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ix, err := f.index(); err == nil {
		if lines := ix.lines(addr); len(lines) > 0 {
			return lines
		}
	}
	if g := f.goBinary(); g != nil {
		if file, line, function := g.line(addr); line > 0 {
			return []SourceLine{{Function: function, File: file, Line: line}}
		}
	}
	return nil
}

func (ix *dwarfIndex) lines(addr uint64) []SourceLine {
	u := ix.unitAt(addr)
	if u == nil {
		return nil
	}
	r, ok := ix.rowAt(u, addr)
	if !ok {
		return nil
	}
	at := SourceLine{File: u.file(r.file), Line: int(r.line), Column: int(r.column)}
	chain := ix.chain(u, addr)
	var out []SourceLine
	for _, s := range slices.Backward(chain) {
		if e := (die{ix, s.off}).entry(); e != nil {
			at.Function = ix.functionName(e)
		}
		out = append(out, at)
		if s.inlined {
			at = SourceLine{File: u.file(s.callFile), Line: int(s.callLine), Column: int(s.callCol)}
		}
	}
	if len(out) == 0 {
		out = append(out, at)
	}
	return out
}

// SourceAddress is a place in the code that belongs to a source line.
type SourceAddress struct {
	// Addr is the address in the image, Offset the place in the file.
	Addr, Offset uint64
	// Function is the function that the code is in; where the line was inlined, the one that holds the copy.
	Function string
	// Line is the source line, with its own function.
	Line SourceLine
}

// FindLine returns the addresses at which the code of a source line starts, one for each function that has a copy. The
// file is a path or the last parts of one (main.c, net/tcp.c); column 0 means any. Where the line has no code, the error
// wraps [ErrNoSymbol] and tells the nearest line that has; for a file without DWARF it wraps [ErrNoDebugInfo].
func (f *File) FindLine(file string, line, column int) ([]SourceAddress, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ix, err := f.index()
	if err != nil {
		return nil, err
	}
	var out []SourceAddress
	seen := map[string]bool{}
	nearest, known := 0, false
	var columns []int
	for _, u := range ix.units {
		match := map[int32]bool{}
		for i, name := range ix.fileTable(u) {
			if pathEndsWith(name, file) {
				match[int32(i)] = true
			}
		}
		if len(match) == 0 {
			continue
		}
		known = true
		for _, r := range ix.lineTable(u) {
			if r.end || !r.statement || !match[r.file] || r.line == 0 {
				continue
			}
			if int(r.line) != line {
				if nearest == 0 || distance(int(r.line), line) < distance(nearest, line) {
					nearest = int(r.line)
				}
				continue
			}
			if column != 0 && int(r.column) != column {
				columns = append(columns, int(r.column))
				continue
			}
			off, ok := f.OffsetOf(r.addr)
			if !ok {
				continue
			}
			a := SourceAddress{Addr: r.addr, Offset: off}
			lines := ix.lines(r.addr)
			if len(lines) > 0 {
				a.Line, a.Function = lines[0], lines[len(lines)-1].Function
			}
			// Another row may have the same address; this one was asked for.
			a.Line.File, a.Line.Line, a.Line.Column = u.file(r.file), int(r.line), int(r.column)
			// One probe for each copy: the lowest address of the line in each function and inlined copy.
			key := fmt.Sprint(a.Function)
			for _, s := range ix.chain(u, r.addr) {
				key += fmt.Sprintf(" %#x", s.off)
			}
			if !seen[key] {
				seen[key] = true
				out = append(out, a)
			}
		}
	}
	if len(out) > 0 {
		sort.Slice(out, func(i, j int) bool { return out[i].Addr < out[j].Addr })
		return slices.CompactFunc(out, func(a, b SourceAddress) bool { return a.Addr == b.Addr }), nil
	}
	switch {
	case !known:
		return nil, fmt.Errorf("%s: %w: no source file %s", f.path, ErrNoSymbol, file)
	case len(columns) > 0:
		slices.Sort(columns)
		return nil, fmt.Errorf("%s: %w: %s:%d has no code at column %d, but at %s", f.path, ErrNoSymbol, file, line, column, joinInts(slices.Compact(columns)))
	case nearest != 0:
		return nil, fmt.Errorf("%s: %w: %s:%d has no code, the nearest line with code is %d", f.path, ErrNoSymbol, file, line, nearest)
	}
	return nil, fmt.Errorf("%s: %w: %s has no code", f.path, ErrNoSymbol, file)
}

// SourceFiles lists the source files of the debug information, sorted: for completion and for the nearest name of a
// misspelt one.
func (f *File) SourceFiles() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ix, err := f.index()
	if err != nil {
		return nil, err
	}
	set := map[string]bool{}
	for _, u := range ix.units {
		for _, name := range ix.fileTable(u) {
			if name != "" {
				set[name] = true
			}
		}
	}
	out := make([]string, 0, len(set))
	for name := range set {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

// InlinedAt returns the addresses at which the code of a function was copied into its callers; an explanation for a
// function that exists in the source text but cannot be probed. It reads all debug information of the file.
func (f *File) InlinedAt(function string) ([]SourceAddress, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ix, err := f.index()
	if err != nil {
		return nil, err
	}
	var out []SourceAddress
	for _, u := range ix.units {
		var walk func(s *scope)
		walk = func(s *scope) {
			if s.inlined {
				if e := (die{ix, s.off}).entry(); e != nil {
					name := ix.functionName(e)
					if name == function || mangled(name) && DemangleShort(name) == function {
						addr := s.ranges[0][0]
						off, _ := f.OffsetOf(addr)
						a := SourceAddress{Addr: addr, Offset: off}
						if lines := ix.lines(addr); len(lines) > 0 {
							a.Line, a.Function = lines[0], lines[len(lines)-1].Function
						}
						out = append(out, a)
					}
				}
			}
			for _, c := range s.children {
				walk(c)
			}
		}
		for _, s := range ix.scopes(u) {
			walk(s)
		}
	}
	return out, nil
}

// pathEndsWith reports whether want is path or its last components.
func pathEndsWith(path, want string) bool {
	want = strings.TrimPrefix(want, "./")
	rest, ok := strings.CutSuffix(path, want)
	return ok && want != "" && (rest == "" || want[0] == '/' || strings.HasSuffix(rest, "/"))
}

func distance(a, b int) int {
	if a < b {
		return b - a
	}
	return a - b
}

func joinInts(v []int) string {
	text := make([]string, len(v))
	for i, n := range v {
		text[i] = fmt.Sprint(n)
	}
	return strings.Join(text, ", ")
}
