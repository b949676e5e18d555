package codegen_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/diag"
)

// TestGolden compiles scripts for the fixture target and compares the IR, the object, and what is reported. A file shows one feature. Its
// comment may have a line `target: old` for the target without what Linux 5.10 lacks, `ir: optimised`, and `compiled: again` for what becomes of a
// program that was too long for the verifier.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var script string
			want := map[string]string{}
			for _, f := range a.Files {
				if f.Name == "script.bt" {
					script = string(f.Data)
				} else {
					want[f.Name] = string(f.Data)
				}
			}
			got := compileGolden(t, script, string(a.Comment))
			if *update {
				out := &txtar.Archive{Comment: a.Comment, Files: []txtar.File{{Name: "script.bt", Data: []byte(script)}}}
				for _, name := range []string{"ir", "object", "errors"} {
					if got[name] != "" {
						out.Files = append(out.Files, txtar.File{Name: name, Data: []byte(got[name])})
					}
				}
				if err := os.WriteFile(file, txtar.Format(out), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, name := range []string{"ir", "object", "errors"} {
				if got[name] != want[name] {
					t.Errorf("%s differs (run with -update and look at the change):\n%s", name, got[name])
				}
			}
		})
	}
}

func compileGolden(t *testing.T, script, comment string) map[string]string {
	t.Helper()
	info := fixtureInfo(t, script)
	var without []target.Feature
	if strings.Contains(comment, "target: old") {
		without = old
	}
	var sb strings.Builder
	stage := "ir"
	if strings.Contains(comment, "ir: optimised") {
		stage = "ir-opt"
	}
	budget := 0
	if strings.Contains(comment, "compiled: again") {
		budget = 40_000
	}
	obj, err := codegen.Compile(info, fixtureTarget(without...), codegen.Options{
		Verify: true, LoopBudget: budget, HelperErrors: strings.Contains(comment, "errors: all"),
		Dump: func(s string, m *ir.Module) {
			if s != stage {
				return
			}
			text := m.String()
			parsed, err := ir.Parse(text)
			if err != nil || parsed.String() != text {
				t.Errorf("the IR does not survive its text form: %v", err)
			}
			sb.WriteString(text)
		},
	})
	out := map[string]string{}
	var list *diag.List
	switch {
	case errors.As(err, &list):
		for _, d := range list.All() {
			out["errors"] += fmt.Sprintf("%s %s\n", d.Severity, d.Error())
			for _, h := range d.Hints {
				out["errors"] += "hint: " + h + "\n"
			}
		}
		return out
	case err != nil:
		t.Fatal(err)
	}
	out["ir"] = sb.String()
	out["object"] = describeObject(obj)
	return out
}

// describeObject writes what the runtime needs of an object, without instructions.
func describeObject(o *object.Object) string {
	var sb strings.Builder
	for i, p := range o.Programs {
		fmt.Fprintf(&sb, "program %d %s: %s, role %d, %d links\n", i, p.Name, p.Type, p.Role, len(p.Attach))
		for _, a := range p.Attach {
			fmt.Fprintf(&sb, "  %s points %v cookie %d\n", a.Target, a.Points, a.Cookie)
		}
	}
	for _, m := range o.Maps {
		fmt.Fprintf(&sb, "map %s: role %d, %s, key %d, value %d, entries %d, flags %#x", m.Name, m.Role, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags)
		if g := m.Global; g != nil {
			fmt.Fprintf(&sb, ", at %s+%d, %d copies, %d apart, set at %d", g.Map, g.Off, g.Copies, g.Stride, g.SetOff)
		}
		sb.WriteByte('\n')
	}
	for _, e := range o.Events {
		fmt.Fprintf(&sb, "event %d: kind %d, size %d, format %q, map %q, text %q\n", e.ID, e.Kind, e.Size, e.Format, e.Map, e.Text)
		for _, f := range e.Fields {
			tail := ""
			if f.Tail {
				tail = ", in the tail"
			}
			fmt.Fprintf(&sb, "  %s at %d%s\n", f.Type, f.Off, tail)
		}
	}
	return sb.String()
}
