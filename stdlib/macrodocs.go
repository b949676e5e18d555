package stdlib

import (
	"io/fs"
	"strings"
)

// MacroDoc documents a macro of the library: what stands in the comment above it.
type MacroDoc struct {
	Name, Params string // "assert", "cond, msg"
	Summary      string // the comment's first line
	Text         string // the rest of it
	File         string // where it is, below stdlib/
}

// MacroDocs reads the comments of the macros that are written in the language itself, in the order of the files.
func (r *Registry) MacroDocs() []MacroDoc {
	var out []MacroDoc
	names, _ := fs.Glob(library, "*.bt")
	for _, file := range names {
		text, err := library.ReadFile(file)
		if err != nil {
			continue
		}
		var comment []string
		for line := range strings.Lines(string(text)) {
			line = strings.TrimRight(line, "\n")
			switch rest, isMacro := strings.CutPrefix(line, "macro "); {
			case strings.HasPrefix(line, "//"):
				comment = append(comment, strings.TrimPrefix(strings.TrimPrefix(line, "//"), " "))
				continue
			case isMacro && len(comment) > 0:
				name, rest, _ := strings.Cut(rest, "(")
				params, _, _ := strings.Cut(rest, ")")
				out = append(out, MacroDoc{
					Name: strings.TrimSpace(name), Params: params, Summary: comment[0],
					Text: strings.TrimSpace(strings.Join(comment[1:], "\n")), File: file,
				})
			}
			comment = nil
		}
	}
	return out
}
