package codegen_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/stdlib"
)

// FuzzCompile: what the checker accepts is compiled, for a kernel that has everything and for one that has little, or refused with a diagnostic.
// The IR is verified after each pass.
func FuzzCompile(f *testing.F) {
	for _, c := range semanticsTable {
		f.Add(c.script())
	}
	for _, c := range small {
		f.Add(c.script)
	}
	files, _ := filepath.Glob("../lang/check/testdata/checked/*.txtar")
	for _, name := range files {
		if text, err := os.ReadFile(name); err == nil {
			f.Add(string(text))
		}
	}
	f.Fuzz(func(t *testing.T, script string) {
		if len(script) > 2000 {
			return
		}
		set := &source.Set{}
		diags := &diag.List{}
		parsed := syntax.Parse(set, set.Add("fuzz", script), diags)
		if parsed == nil || diags.HasErrors() || repeats(parsed) > 1000 {
			return
		}
		for _, tg := range []bool{false, true} {
			diags := &diag.List{}
			env := &check.Env{Types: newFixture(), Arch: "amd64", CPUs: 2, Unsafe: true, NamedUsed: map[string]bool{}, ParseC: stdlib.ParseC(set)}
			env.ParseScript = func(f *source.File, d *diag.List) *ast.Script { return syntax.Parse(set, f, d) }
			env.ParseExpr = func(f *source.File) ast.Expr { return syntax.ParseExpr(f, &diag.List{}) }
			info := check.Check(parsed, set, stdlib.New(fixtureKinds()), env, diags)
			if info == nil || diags.HasErrors() {
				return
			}
			target := fixtureTarget()
			if tg {
				target = fixtureTarget(old...)
			}
			_, err := codegen.Compile(info, target, codegen.Options{Verify: true, Diags: diags})
			var list *diag.List
			var ie *codegen.InternalError
			switch {
			case err == nil, errors.As(err, &list) && list.HasErrors():
			case errors.As(err, &ie):
				t.Fatalf("%v\n%s\n%s", err, script, ie.Stack)
			default:
				t.Fatalf("%v\n%s", err, script)
			}
		}
	})
}

// repeats is how often a script has its statements repeated by unroll: the fuzzer learns nothing from much code.
func repeats(s *ast.Script) uint64 {
	n := uint64(1)
	ast.Inspect(s, func(m ast.Node) bool {
		if u, ok := m.(*ast.Unroll); ok {
			l, isInt := u.Count.(*ast.IntLit)
			if !isInt {
				n = 1 << 40
				return false
			}
			n *= max(1, min(l.Value, 1<<10))
		}
		return n < 1<<30
	})
	return n
}

// TestTooMuchCode: a million statements get a diagnostic.
func TestTooMuchCode(t *testing.T) {
	_, err := codegen.Compile(fixtureInfo(t, "begin { unroll (100) { unroll (100) { unroll (100) { @x = nsecs; } } } }"), fixtureTarget(), codegen.Options{})
	var list *diag.List
	if !errors.As(err, &list) || list.All()[0].Code != "E0710" {
		t.Errorf("%v, want E0710", err)
	}
}

// TestTooManyFunctions: loops become functions, of which the kernel takes 256.
func TestTooManyFunctions(t *testing.T) {
	for _, n := range []int{255, 256, 2000} {
		text := "begin { $i = 0; " + strings.Repeat("while ($i < 10) { $i++; } ", n) + "}"
		_, err := codegen.Compile(fixtureInfo(t, text), fixtureTarget(), codegen.Options{})
		var list *diag.List
		switch refused := errors.As(err, &list) && list.HasErrors(); {
		case refused != (n > 255), err != nil && !refused:
			t.Errorf("%d loops: %v", n, err)
		case refused && (list.Len() != 1 || list.All()[0].Code != "E0710" || !strings.Contains(list.All()[0].Message, "functions")):
			t.Errorf("%d loops: %v, want one E0710 about functions", n, list.All())
		}
	}
}
