package diag

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestCodes(t *testing.T) {
	seen := map[Code]bool{}
	for _, e := range Codes() {
		if seen[e.Code] {
			t.Errorf("%s is documented twice", e.Code)
		}
		seen[e.Code] = true
		if !regexp.MustCompile(`^[EW]0[1-9]\d\d$`).MatchString(string(e.Code)) {
			t.Errorf("%s is not of the form E0101 or W0101", e.Code)
		}
		if e.Title == "" || !strings.HasSuffix(e.Doc, ".") {
			t.Errorf("%s needs a title and a paragraph", e.Code)
		}
	}
	if e, ok := Explain("E0101"); !ok || e.Title == "" {
		t.Error("E0101 is not explained")
	}
	if _, ok := Explain("E9999"); ok {
		t.Error("E9999 is explained")
	}
}

// Every code that the sources report is in the table.
func TestEveryCodeIsDocumented(t *testing.T) {
	literal := regexp.MustCompile(`"([EW]0[1-9]\d\d)"`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(d.Name(), "codes_") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range literal.FindAllStringSubmatch(string(text), -1) {
			if _, ok := Explain(Code(m[1])); !ok {
				t.Errorf("%s reports %s, which is not in the table", path, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
