package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/examples"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/kernel/needs"
	"github.com/sonde-sh/sonde/runtime/symbol"
)

// TestKernelExamples attaches every example and takes it down again.
func TestKernelExamples(t *testing.T) {
	needs.BPF(t)
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	entries, err := examples.Scripts.ReadDir(".")
	if err != nil || len(entries) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, e := range entries {
		t.Run(e.Name(), func(t *testing.T) {
			text, err := examples.Scripts.ReadFile(e.Name())
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(text, []byte("kprobe:")) && !k.Features().Has(kernel.FeatureKprobes) {
				t.Skip("needs kprobes")
			}
			if bytes.Contains(text, []byte("uprobe:libc:")) {
				if _, err := (symbol.Finder{}).Find("libc"); err != nil {
					t.Skip("needs a C library")
				}
			}
			path := filepath.Join(t.TempDir(), e.Name())
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			if code := run(t.Context(), []string{"sonde", "--dry-run", path, "bash"}, stdio{strings.NewReader(""), &out, &errs}); code != 0 {
				t.Errorf("status %d\n%s%s", code, &out, &errs)
			}
			if strings.Contains(errs.String(), "ERROR") || strings.Contains(errs.String(), "No matches") {
				t.Errorf("it says:\n%s", &errs)
			}
		})
	}
}

// TestExamplesAreFormatted: what people copy from is in the form that sonde fmt gives.
func TestExamplesAreFormatted(t *testing.T) {
	entries, err := examples.Scripts.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := examples.Scripts.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		set, file := source.NewSet(e.Name(), string(text))
		diags := &diag.List{}
		script := syntax.Parse(set, file, diags)
		if diags.HasErrors() {
			t.Errorf("%s does not parse", e.Name())
		} else if got := ast.FormatWith(script, set, ast.FormatOptions{}); got != string(text) {
			t.Errorf("%s: sonde fmt would make it\n%s", e.Name(), got)
		}
	}
}
