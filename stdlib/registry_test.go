package stdlib

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	src "github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// hostRegistry is the registry of the running machine, with what the checker needs from it.
func hostRegistry(t testing.TB) (*Registry, *check.Env) {
	t.Helper()
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Skip("needs a kernel that can be looked at:", err)
	}
	m := NewMachine(k)
	t.Cleanup(func() { m.Close() })
	target := m.Target()
	return New(ProbeKinds(m)), &check.Env{Types: target.Types, Arch: target.Arch, CPUs: target.CPUs, Unsafe: true, Machine: m}
}

func checkText(r *Registry, env *check.Env, name, text string) (*check.Info, *diag.List) {
	set, f := src.NewSet(name, text)
	diags := &diag.List{}
	e := *env
	e.ParseC = ParseC(set)
	e.ParseScript = func(f *src.File, d *diag.List) *ast.Script { return syntax.Parse(set, f, d) }
	e.ParseExpr = func(f *src.File) ast.Expr { return syntax.ParseExpr(f, &diag.List{}) }
	script := syntax.Parse(set, f, diags)
	if diags.HasErrors() {
		return nil, diags
	}
	return check.Check(script, set, r, &e, diags), diags
}

var (
	lowerStart = regexp.MustCompile(`^[^A-Z]|^[A-Z]+[ -]`)
	fullStop   = regexp.MustCompile(`\.$`)
)

// Every entry of the registry is documented, and its example is accepted.
func TestRegistryDocs(t *testing.T) {
	r := New(nil)
	check := func(name string, d Doc) {
		switch {
		case d.Summary == "" || d.Example == "" || d.Group == "":
			t.Errorf("%s: summary, example or group is missing", name)
		case !lowerStart.MatchString(d.Summary) || fullStop.MatchString(d.Summary):
			t.Errorf("%s: the summary starts in lower case and has no full stop: %q", name, d.Summary)
		}
		for _, s := range d.SeeAlso {
			if r.Builtin(s) == nil {
				t.Errorf("%s: see also %q, which does not exist", name, s)
			}
		}
	}
	for _, b := range r.Builtins() {
		check(b.Name, b.Doc)
		if b.Doc.Text == "" {
			t.Errorf("%s has no text", b.Name)
		}
		if (b.Func == nil) == (b.Var == nil) {
			t.Errorf("%s must be a function or a variable", b.Name)
		}
	}
	for _, m := range r.MapKinds() {
		check(m.Kind.Name, m.Doc)
	}
	for _, c := range r.Config() {
		check(c.Key.Name, c.Doc)
	}
	if !slices.IsSortedFunc(r.Builtins(), func(a, b *Builtin) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("builtins are not sorted")
	}
}

// needsOther matches findings about what this machine does not have; they say nothing about the example.
func needsOther(d *diag.Diagnostic) bool {
	return strings.HasPrefix(string(d.Code), "E065") || strings.HasPrefix(string(d.Code), "E07")
}

func TestExamplesAreAccepted(t *testing.T) {
	r, env := hostRegistry(t)
	try := func(name, text string) {
		env := *env
		if strings.Contains(text, "dw_ustack") { // it reads the tables of one process
			env.PID = os.Getpid()
		}
		_, diags := checkText(r, &env, name, text)
		for _, d := range diags.All() {
			if d.Severity == diag.Error && !needsOther(d) {
				t.Errorf("%s: %s\n%s", name, d.Error(), text)
			}
		}
	}
	for _, b := range r.Builtins() {
		try(b.Name, b.Doc.Example)
	}
	for _, m := range r.MapKinds() {
		try(m.Kind.Name, m.Doc.Example)
	}
	for _, c := range r.Config() {
		try(c.Key.Name, c.Doc.Example)
	}
	for _, k := range r.Kinds() {
		try(k.Kind.Name(), k.Doc.Example)
	}
}

// missingHere are scripts of Debian's bpftrace that use what kernels since then do not have.
var missingHere = map[string]string{
	"runqlen.bt": "struct cfs_rq has no nr_running any more",
}

// The scripts that Debian ships with bpftrace are accepted, but for functions that this kernel does not have.
func TestDebianScriptsAreAccepted(t *testing.T) {
	files, _ := filepath.Glob("/usr/sbin/*.bt")
	if len(files) == 0 {
		t.Skip("needs the scripts of Debian's bpftrace package")
	}
	r, env := hostRegistry(t)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, diags := checkText(r, env, filepath.Base(name), string(text))
		for _, d := range diags.All() {
			if d.Severity == diag.Error && !needsOther(d) && missingHere[filepath.Base(name)] == "" {
				t.Errorf("%s: %s", name, d.Error())
			}
		}
	}
}
