// Package source holds script text and byte spans into it.
//
// Several files may take part in one compilation (the script, imported files, library scripts), so a [Span] is a pair
// of offsets into a [Set], which lays its files out one behind the other. A span never crosses a file border.
// The package imports nothing of ours. A Set is safe for concurrent reading once no more files are added.
package source

import (
	"sort"
	"strings"
	"unicode/utf8"
)

// Span is a half-open byte range [Start, End) in a Set. The zero Span means "no position".
type Span struct{ Start, End int32 }

// IsValid reports whether the span points anywhere.
func (s Span) IsValid() bool { return s.End > 0 }

// To returns the smallest span that covers s and t; an invalid operand is ignored.
func (s Span) To(t Span) Span {
	switch {
	case !s.IsValid():
		return t
	case !t.IsValid():
		return s
	}
	return Span{min(s.Start, t.Start), max(s.End, t.End)}
}

// Position is a place in a file as people count: line and column start at 1, a column is a byte offset plus one.
type Position struct {
	File *File
	Line int
	Col  int
}

// File is one script text. Base is the offset of its first byte in the Set that holds it; offsets of a Set start at 1
// so that the zero Span stays invalid.
type File struct {
	Name  string // as diagnostics print it: "stdin" for -e and -, else the path given
	Text  string
	Base  int32
	lines []int32 // offsets in Text of the first byte of each line
}

// Span returns the span of the byte range [start, end) of the file's text.
func (f *File) Span(start, end int) Span { return Span{f.Base + int32(start), f.Base + int32(end)} }

// Line returns the text of line n (from 1) without its line break; "" where there is no such line.
func (f *File) Line(n int) string {
	if n < 1 || n > len(f.lines) {
		return ""
	}
	start, end := int(f.lines[n-1]), len(f.Text)
	if n < len(f.lines) {
		end = int(f.lines[n])
	}
	return strings.TrimRight(f.Text[start:end], "\r\n")
}

// Lines returns the number of lines; a text that ends in a line break has one empty last line.
func (f *File) Lines() int { return len(f.lines) }

// Set is a list of files that share one space of offsets.
type Set struct{ files []*File }

// NewSet returns a set with one file, which is the common case.
func NewSet(name, text string) (*Set, *File) {
	s := &Set{}
	return s, s.Add(name, text)
}

// Add appends a file.
func (s *Set) Add(name, text string) *File {
	base := int32(1)
	if n := len(s.files); n > 0 {
		last := s.files[n-1]
		base = last.Base + int32(len(last.Text)) + 1
	}
	f := &File{Name: name, Text: text, Base: base, lines: []int32{0}}
	for i := 0; i < len(text); i++ {
		if text[i] == '\n' {
			f.lines = append(f.lines, int32(i+1))
		}
	}
	s.files = append(s.files, f)
	return f
}

// Files returns the files in the order they were added. The caller must not change the slice.
func (s *Set) Files() []*File { return s.files }

// File returns the file that holds the offset, or nil.
func (s *Set) File(off int32) *File {
	i := sort.Search(len(s.files), func(i int) bool { return s.files[i].Base > off }) - 1
	if i < 0 || off > s.files[i].Base+int32(len(s.files[i].Text)) {
		return nil
	}
	return s.files[i]
}

// Position returns the line and column of an offset; the zero Position for an offset in no file.
func (s *Set) Position(off int32) Position {
	f := s.File(off)
	if f == nil {
		return Position{}
	}
	rel := off - f.Base
	line := sort.Search(len(f.lines), func(i int) bool { return f.lines[i] > rel })
	return Position{File: f, Line: line, Col: int(rel-f.lines[line-1]) + 1}
}

// Text returns the text of a span, "" for an invalid one.
func (s *Set) Text(sp Span) string {
	f := s.File(sp.Start)
	if f == nil || !sp.IsValid() {
		return ""
	}
	lo, hi := int(sp.Start-f.Base), int(sp.End-f.Base)
	if lo > hi || hi > len(f.Text) {
		return ""
	}
	return f.Text[lo:hi]
}

// Width returns the number of terminal columns of text when tabs count as four; runes count as one.
func Width(text string) int {
	return utf8.RuneCountInString(text) + 3*strings.Count(text, "\t")
}
