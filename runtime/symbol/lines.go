package symbol

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
// last. Nothing is returned when the file has no debug information for it.
func (f *File) Lines(addr uint64) []SourceLine {
	f.mu.Lock()
	defer f.mu.Unlock()
	if g := f.goBinary(); g != nil {
		if file, line, function := g.line(addr); line > 0 {
			return []SourceLine{{Function: function, File: file, Line: line}}
		}
	}
	return nil
}
