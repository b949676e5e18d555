package syntax

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
)

// FuzzParse checks that no text makes the parser panic, that every node of an accepted script has a sane span, and that
// what the formatter prints parses to the same tree and formats to itself.
func FuzzParse(f *testing.F) {
	for _, text := range accepted {
		f.Add(text)
	}
	for _, c := range rejected {
		f.Add(c.text)
	}
	files, _ := filepath.Glob("/usr/sbin/*.bt")
	for _, name := range files {
		if text, err := os.ReadFile(name); err == nil {
			f.Add(string(text))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		set, file := source.NewSet("fuzz", text)
		var diags diag.List
		s := Parse(set, file, &diags)
		r := &diag.Renderer{Set: set}
		for _, d := range diags.All() {
			if d.Code == "" || d.Message == "" || r.Render(d) == "" {
				t.Fatalf("diagnostic without code or message: %+v", d)
			}
		}
		ast.Inspect(s, func(n ast.Node) bool {
			if sp := n.Span(); sp.Start < file.Base || sp.End > file.Base+int32(len(text)) || sp.End < sp.Start {
				t.Fatalf("%T has span %v in a text of %d bytes", n, sp, len(text))
			}
			return true
		})
		Incomplete(text)
		if !diags.HasErrors() {
			checkFormat(t, "fuzz", text, ast.FormatOptions{})
		}
	})
}
