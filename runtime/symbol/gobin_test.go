package symbol

import (
	"errors"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestStrippedGoPrograms(t *testing.T) {
	cgo := strings.Replace(goSource, "import (", "// int three(void) { return 3; }\nimport \"C\"\n\nimport (", 1)
	cgo = strings.Replace(cgo, "a, b := Many(", "_ = C.three()\n\ta, b := Many(", 1)
	for _, c := range []struct {
		name, source string
		args         []string
	}{
		{"plain", goSource, []string{"build"}},
		{"PIE", goSource, []string{"build", "-buildmode=pie"}},
		{"linked with C", cgo, []string{"build", "-ldflags=-linkmode=external"}},
		{"linked with C, PIE", cgo, []string{"build", "-buildmode=pie", "-ldflags=-linkmode=external"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.Contains(c.name, "linked") {
				t.Setenv("CGO_ENABLED", "1")
				tool(t, "gcc")
			}
			path := build(t, "go", "prog.go", c.source, c.args...)
			full := mustOpen(t, path)
			want := map[string]Symbol{}
			for _, s := range full.Functions() {
				want[s.Name] = s
			}
			stripped := filepath.Join(t.TempDir(), "stripped")
			run(t, "strip", "-o", stripped, path)
			f := mustOpen(t, stripped)
			if f.HasSymbols() {
				t.Fatal("the fixture is not stripped")
			}
			seen, wrong := 0, 0
			for _, s := range f.Functions() {
				w, ok := want[s.Name]
				if !ok || strings.HasPrefix(s.Name, "go:") {
					continue // names of generic functions differ: the table has no type arguments
				}
				seen++
				// Assembly functions have a wrapper of the same name in the table, NAME.abi0 or the like in symbols.
				found := false
				same, _ := f.Lookup(s.Name)
				for _, o := range same {
					found = found || o.Addr == w.Addr
				}
				if !found {
					if wrong++; wrong < 5 {
						t.Errorf("%s at %#x, want %#x", s.Name, s.Addr, w.Addr)
					}
				}
			}
			if seen < 1000 {
				t.Errorf("only %d functions compared", seen)
			}
			s, err := f.Function("main.Many")
			if err != nil {
				t.Fatal(err)
			}
			a, err := f.Returns(s)
			if err != nil {
				t.Fatal(err)
			}
			b, err := full.Returns(want["main.Many"])
			if err != nil || len(a) == 0 || len(a) != len(b) {
				t.Errorf("returns of the stripped one %x, of the full one %x, %v", a, b, err)
			}
			info, err := f.GoInfo()
			if err != nil || info.Version != runtime.Version() || !info.RegisterABI || info.Main != "command-line-arguments" {
				t.Errorf("%+v, %v", info, err)
			}
			lines := f.Lines(s.Addr + 1)
			if len(lines) == 0 || filepath.Base(lines[len(lines)-1].File) != "prog.go" || lines[len(lines)-1].Line != 1+strings.Count(c.source[:strings.Index(c.source, "func Many")], "\n") {
				t.Errorf("lines of main.Many: %+v", lines)
			}
		})
	}
}

func TestNotGo(t *testing.T) {
	path := build(t, "gcc", "prog.c", cSource)
	f := mustOpen(t, path)
	if _, err := f.GoInfo(); f.IsGo() || !errors.Is(err, ErrNotGo) {
		t.Errorf("a C program is Go: %v", err)
	}
}

func TestRegisterABI(t *testing.T) {
	for _, c := range []struct {
		version string
		want    bool
	}{{"go1.16.3", false}, {"go1.17", true}, {"go1.26.0", true}, {"go1.26rc1", true}, {"devel go1.27-abc", true}} {
		if got := registerABI(c.version, 62); got != c.want {
			t.Errorf("%s: %v", c.version, got)
		}
	}
	if registerABI("go1.17.1", 183) {
		t.Error("go1.17 on arm64 passes arguments on the stack")
	}
}

func BenchmarkGoSymbols(b *testing.B) {
	path, err := exec.LookPath("go")
	if err != nil {
		b.Skip("needs a Go program: " + err.Error())
	}
	b.ReportAllocs()
	for b.Loop() {
		f, err := Open(path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, ok := f.At(0x500000); !ok {
			b.Fatal("not found")
		}
		f.Close()
	}
}
