package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sonde-sh/sonde/"

// layers is the architecture table: a package, and what it may import of ours.
// An entry that ends in a slash stands for every package below that folder.
func layers() map[string][]string {
	lang, codegen, runtime := "lang/", "codegen/", "runtime/"
	return map[string][]string{
		"lang/source":   {},
		"lang/diag":     {"lang/source"},
		"lang/lexer":    {"lang/source", "lang/diag"},
		"lang/ast":      {"lang/source"},
		"lang/syntax":   {"lang/source", "lang/diag", "lang/lexer", "lang/ast"},
		"lang/types":    {},
		"lang/cdef":     {"lang/source", "lang/diag", "lang/types"},
		"lang/check":    {"lang/source", "lang/diag", "lang/ast", "lang/types", "lang/cdef"},
		"codegen/ir":    {"lang/source", "lang/types"},
		"codegen/lower": {"lang/source", "lang/diag", "lang/ast", "lang/types", "lang/check", "codegen/ir", "codegen/object", "codegen/target"},
		// The folding of constants is the interpreter's arithmetic, so that both agree by construction.
		"codegen/opt":     {"lang/source", "lang/types", "codegen/ir", "codegen/ir/interp"},
		"codegen/bpf":     {"lang/source", "lang/types", "codegen/ir", "codegen/object", "codegen/target"},
		"codegen/object":  {"lang/source", "lang/types"},
		"codegen/target":  {"lang/types"},
		"codegen":         {lang, codegen},
		"runtime/kernel":  {},
		"runtime/lab":     {},
		"runtime/flame":   {},
		"runtime/attach":  {"lang/source", "lang/types", "codegen/object", "codegen/target", "runtime/kernel"},
		"runtime/value":   {"lang/source", "lang/types", "codegen/object"}, // aggregations are laid out there
		"runtime/event":   {"lang/source", "lang/types", "codegen/object", "runtime/value"},
		"runtime/symbol":  {"runtime/kernel"},
		"runtime/seccomp": {"runtime/kernel", "runtime/symbol"},
		"runtime":         {"lang/source", "lang/diag", "lang/types", "codegen/object", "codegen/target", runtime},
		"stdlib":          {lang, codegen, "codegen", runtime, "runtime"},
		"examples":        {},
		"cmd":             {"cmd/", lang, codegen, "codegen", runtime, "runtime", "stdlib", "stdlib/", "examples"},
	}
}

// ruleFor returns the rule of a package, or that of the folder it is in.
func ruleFor(pkg string) (string, []string) {
	all := layers()
	for {
		if rule, ok := all[pkg]; ok {
			return pkg, rule
		}
		i := strings.LastIndexByte(pkg, '/')
		if i < 0 {
			return "", nil
		}
		pkg = pkg[:i]
	}
}

func allowed(rule []string, self, imported string) bool {
	return slices.ContainsFunc(rule, func(r string) bool {
		return imported == r || strings.HasSuffix(r, "/") && strings.HasPrefix(imported, r)
	}) || strings.HasPrefix(imported, self+"/") || imported == self
}

func TestLayers(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command")
	}
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		pkg := strings.TrimPrefix(f[0], module)
		name, rule := ruleFor(pkg)
		if name == "" {
			continue
		}
		seen++
		for _, imported := range f[1:] {
			own, ok := strings.CutPrefix(imported, module)
			if ok && !allowed(rule, name, own) {
				t.Errorf("%s imports %s, which its layer (%s) does not allow; see docs/architecture.md", pkg, own, name)
			}
		}
	}
	if seen < 5 {
		t.Errorf("checked %d packages only", seen)
	}
}
