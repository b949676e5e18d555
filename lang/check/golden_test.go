package check_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
)

var update = flag.Bool("update", false, "rewrite golden files")

var wantComment = regexp.MustCompile(`// (ERROR|WARNING) ([EW]\d{4}) "([^"]*)"`)

// Each script of testdata/errors says at the end of a line what must be reported there, and nothing else may be.
func TestErrorComments(t *testing.T) {
	files, err := filepath.Glob("testdata/errors/*.bt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".bt"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			type want struct {
				line     int
				severity string
				code     string
				re       *regexp.Regexp
				seen     bool
			}
			var wants []*want
			for i, line := range strings.Split(string(text), "\n") {
				for _, m := range wantComment.FindAllStringSubmatch(line, -1) {
					wants = append(wants, &want{line: i + 1, severity: m[1], code: m[2], re: regexp.MustCompile(m[3])})
				}
			}
			_, set, diags := run(string(text), nil)
		next:
			for _, d := range diags.All() {
				pos := set.Position(d.Span.Start)
				for _, w := range wants {
					if !w.seen && w.line == pos.Line && w.code == string(d.Code) && w.severity == d.Severity.String() && w.re.MatchString(d.Message) {
						w.seen = true
						continue next
					}
				}
				t.Errorf("%s:%d:%d: unexpected %s: %s", name, pos.Line, pos.Col, d.Severity, d.Error())
			}
			for _, w := range wants {
				if !w.seen {
					t.Errorf("%s:%d: no %s %s %q", name, w.line, w.severity, w.code, w.re)
				}
			}
		})
	}
}

// Each archive of testdata/checked holds a script and what -d checked prints for it.
func TestDump(t *testing.T) {
	files, err := filepath.Glob("testdata/checked/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no archives", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			info, _, diags := run(string(a.Files[0].Data), nil)
			for _, d := range diags.All() {
				if d.Severity == diag.Error {
					t.Fatalf("%s", d.Error())
				}
			}
			got := check.Dump(info)
			if *update {
				a.Files = append(a.Files[:1], txtar.File{Name: "checked", Data: []byte(got)})
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(a.Files) != 2 || string(a.Files[1].Data) != got {
				t.Errorf("%s differs, got:\n%s", name, got)
			}
		})
	}
}
