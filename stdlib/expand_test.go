package stdlib

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/attach"
)

var update = flag.Bool("update", false, "rewrite golden files")

// attachPoints parses "kind:a:b, kind:c" as a script has it.
func attachPoints(t testing.TB, text string) []*ast.AttachPoint {
	t.Helper()
	var diags diag.List
	set, f := source.NewSet("stdin", text+" { }")
	script := syntax.Parse(set, f, &diags)
	if diags.HasErrors() {
		t.Fatalf("%s: %v", text, diags.Error())
	}
	for _, item := range script.Items {
		if p, ok := item.(*ast.Probe); ok {
			return p.Attach
		}
	}
	t.Fatalf("%s: no probe", text)
	return nil
}

// TestExpand runs each line of testdata/expand/*.txtar through its kind and compares points, argument types, plans and diagnostics.
func TestExpand(t *testing.T) {
	files, err := filepath.Glob("testdata/expand/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data", err)
	}
	m := fixtureMachine(t)
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for line := range strings.Lines(string(ar.Files[0].Data)) {
				if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
					describe(t, m, &out, line)
				}
			}
			got := strings.ReplaceAll(out.String(), m.Kernel.Path(""), "ROOT")
			if *update {
				ar.Files = append(ar.Files[:1], txtar.File{Name: "out", Data: []byte(got)})
				if err := os.WriteFile(name, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(ar.Files) < 2 || got != string(ar.Files[1].Data) {
				t.Errorf("got:\n%s\nrun with -update to accept", got)
			}
		})
	}
}

// describe expands a line. Words behind ` !` are builtins that the action uses; `missing=warn` sets the config key.
func describe(t *testing.T, m *Machine, out *strings.Builder, line string) {
	fmt.Fprintf(out, "# %s\n", line)
	text, uses, _ := strings.Cut(line, " !")
	env := &check.Env{Types: m.Types, Arch: "amd64", CPUs: 4}
	u := &lower.Uses{Names: map[string]bool{}, Fields: map[string]bool{}, MaxArg: -1}
	for _, w := range strings.Fields(uses) {
		if v, ok := strings.CutPrefix(w, "missing="); ok {
			env.Config = &check.Config{MissingProbes: v}
			continue
		}
		u.Names[w] = true
		if w == "args" {
			u.WholeArgs = true
		}
	}
	entries := ProbeKinds(m)
	for _, ap := range attachPoints(t, text) {
		var diags diag.List
		kind := FindKind(entries, ap.Kind)
		if kind == nil {
			fmt.Fprintf(out, "no kind %s\n", ap.Kind)
			continue
		}
		points := kind.Expand(ap, env, &diags)
		for i, p := range points {
			describePoint(m, out, p, i, u)
		}
		for _, d := range diags.All() {
			fmt.Fprintf(out, "%s %s %s\n", d.Severity, d.Code, d.Message)
			for _, h := range d.Hints {
				fmt.Fprintf(out, "  HINT %s\n", h)
			}
		}
		describePlan(m, out, points, u)
	}
	out.WriteByte('\n')
}

func describePoint(m *Machine, out *strings.Builder, p *check.Point, i int, u *lower.Uses) {
	fmt.Fprintf(out, "%s", p.Name)
	if p.FuncName != "" {
		fmt.Fprintf(out, " func=%s", p.FuncName)
	}
	fmt.Fprintf(out, " scope=%s", p.Scope)
	if p.Base != "" && p.Base != p.Scope {
		fmt.Fprintf(out, " base=%s", p.Base)
	}
	fmt.Fprintf(out, " space=%d args=%d", p.Space, p.NumArgs)
	if p.Retval != nil {
		fmt.Fprintf(out, " retval=%s", typeText(p.Retval))
	}
	out.WriteByte('\n')
	if p.Args != nil && u.Has("args") {
		for _, f := range p.Args.Struct.Resolve() {
			fmt.Fprintf(out, "  %s %s @%d", typeText(f.Type), f.Name, f.Offset)
			if f.ArgIndex >= 0 {
				fmt.Fprintf(out, " arg%d", f.ArgIndex)
			}
			if f.DataLoc {
				out.WriteString(" data_loc")
			}
			if f.RelLoc {
				out.WriteString(" rel_loc")
			}
			out.WriteByte('\n')
		}
	}
}

func typeText(t *types.Type) string {
	s := t.String()
	if t.Kind == types.Pointer {
		s += map[types.Space]string{types.SpaceUser: " (user", types.SpaceKernel: " (kernel"}[t.Space]
		if t.Prov == types.ProvBTF {
			s += ", BTF"
		}
		s += ")"
	}
	return s
}

// describePlan makes the programs and links as the compiler would, with one program for all points that may share one.
func describePlan(m *Machine, out *strings.Builder, points []*check.Point, u *lower.Uses) {
	shares := make(map[string][]*lower.Hook)
	var order []string
	for i, p := range points {
		h := p.Kind.(lower.ProbeKind).Hook(p, u, m.Target())
		h.Index = i
		share := h.Share
		if share == "" || u.Has("probe") && !h.Cookies {
			share = fmt.Sprintf("own %d", i)
		}
		if shares[share] == nil {
			order = append(order, share)
		}
		shares[share] = append(shares[share], h)
	}
	for _, share := range order {
		hooks := shares[share]
		h := hooks[0]
		fmt.Fprintf(out, "  program %s", h.Type)
		if h.AttachType != 0 {
			fmt.Fprintf(out, " %s", h.AttachType)
		}
		if h.AttachTo != "" {
			fmt.Fprintf(out, " to %s", h.AttachTo)
		}
		if h.Role != object.RoleProbe {
			fmt.Fprintf(out, " role %d", h.Role)
		}
		out.WriteByte('\n')
		for _, a := range h.Point.Kind.(lower.ProbeKind).Links(hooks, u.Has("probe") && len(hooks) > 1, m.Target()) {
			for ; a != nil; a = a.Fallback {
				describeLink(out, a)
			}
		}
	}
}

func describeLink(out *strings.Builder, a *object.Attach) {
	fmt.Fprintf(out, "    %s", attach.MechanismName(a.Mechanism))
	add := func(format string, show bool, v ...any) {
		if show {
			fmt.Fprintf(out, " "+format, v...)
		}
	}
	add("%s", a.Target != "", a.Target)
	add("%v", a.Targets != nil, a.Targets)
	add("module %s", a.Module != "", a.Module)
	add("+%d", a.Offset != 0, a.Offset)
	add("%#x", a.Address != 0, a.Address)
	add("%s", a.Path != "", a.Path)
	add("offsets %#x", a.Offsets != nil, a.Offsets)
	add("refs %#x", a.RefCounters != nil, a.RefCounters)
	add("cookies %v", a.Cookies != nil, a.Cookies)
	add("cookie %d", a.Cookie != 0, a.Cookie)
	add("perf %d/%d", a.PerfType != 0 || a.PerfConfig != 0, a.PerfType, a.PerfConfig)
	add("period %d", a.Period != 0, a.Period)
	add("freq %d", a.Freq != 0, a.Freq)
	add("all CPUs", a.AllCPUs)
	add("pid %d", a.PID != 0, a.PID)
	add("length %d mode %s", a.Length != 0, a.Length, a.Mode)
	add("pin %s", a.PinPath != "", a.PinPath)
	add("points %v", len(a.Points) > 0, a.Points)
	out.WriteByte('\n')
	if a.Reason == "" {
		out.WriteString("    (no reason given)\n")
	}
}
