package syntax

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/lexer"
	"github.com/sonde-sh/sonde/lang/source"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden runs every testdata/*.txtar: input.bt goes in; tokens, ast, fmt, modern (the formatter's other mode) and
// errors (as a terminal shows them) are compared, those that the file has.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var input string
			for _, f := range ar.Files {
				if f.Name == "input.bt" {
					input = string(f.Data)
				}
			}
			set, file := source.NewSet("input.bt", input)
			var diags diag.List
			s := Parse(set, file, &diags)
			for i, f := range ar.Files {
				var got string
				switch f.Name {
				case "input.bt":
					continue
				case "tokens":
					got = lexer.Lex(file, &diag.List{}).Dump(set)
				case "ast":
					got = ast.Dump(s)
				case "fmt":
					got = ast.Format(s, set)
				case "modern":
					got = ast.FormatWith(s, set, ast.FormatOptions{Modern: true})
				case "errors":
					var b strings.Builder
					if err := (&diag.Renderer{Set: set}).Write(&b, &diags, 0); err != nil {
						t.Fatal(err)
					}
					got = b.String()
				default:
					t.Fatalf("unknown section %s", f.Name)
				}
				if *update {
					ar.Files[i].Data = []byte(got)
				} else if got != string(f.Data) {
					t.Errorf("%s: got\n%s\nwant\n%s", f.Name, got, f.Data)
				}
			}
			if *update {
				if err := os.WriteFile(name, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
