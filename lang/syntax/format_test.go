package syntax

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
)

// checkFormat formats text and checks that the result parses to the same tree and formats to itself.
func checkFormat(t testing.TB, name, text string, opts ast.FormatOptions) string {
	t.Helper()
	set, f := source.NewSet(name, text)
	var diags diag.List
	s := Parse(set, f, &diags)
	if diags.HasErrors() {
		t.Fatalf("%s: %v", name, &diags)
	}
	out := ast.FormatWith(s, set, opts)
	set2, f2 := source.NewSet(name, out)
	s2 := Parse(set2, f2, &diags)
	if diags.HasErrors() {
		t.Fatalf("%s: the formatted text does not parse: %v at %d\n%s", name, &diags, diags.All()[0].Span.Start, out)
	}
	if a, b := ast.Dump(s), ast.Dump(s2); a != b && !opts.Modern {
		t.Fatalf("%s: the formatted text parses to another tree\n--- text\n%s\n--- formatted\n%s\n--- was\n%s\n--- is\n%s", name, text, out, a, b)
	}
	if len(s.Comments) != len(s2.Comments) {
		t.Fatalf("%s: %d comments became %d\n%s", name, len(s.Comments), len(s2.Comments), out)
	}
	if again := ast.FormatWith(s2, set2, opts); again != out {
		t.Fatalf("%s: formatting twice changes the text\n--- once\n%s\n--- twice\n%s", name, out, again)
	}
	return out
}

func TestFormatRoundTrip(t *testing.T) {
	for _, text := range accepted {
		checkFormat(t, text, text, ast.FormatOptions{})
		checkFormat(t, text, text, ast.FormatOptions{Modern: true})
	}
}

func TestFormatDebianScripts(t *testing.T) {
	files, _ := filepath.Glob("/usr/sbin/*.bt")
	if len(files) == 0 {
		t.Skip("needs Debian's bpftrace package: no /usr/sbin/*.bt")
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out := checkFormat(t, name, string(text), ast.FormatOptions{})
		checkFormat(t, name, string(text), ast.FormatOptions{Modern: true})
		if dir := os.Getenv("SONDE_FMT_OUT"); dir != "" {
			os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(out), 0o644)
		}
	}
}
