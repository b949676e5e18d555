package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/stdlib"
)

// The committed reference is what the registry says.
func TestReferenceIsUpToDate(t *testing.T) {
	dir := filepath.Join("..", "..", "docs", "reference")
	known := map[string]bool{}
	for _, p := range pages() {
		known[p.name] = true
		got, err := os.ReadFile(filepath.Join(dir, p.name))
		if err != nil {
			t.Errorf("%v: run make generate", err)
			continue
		}
		if string(got) != p.text {
			t.Errorf("docs/reference/%s is not what the registry says: run make generate", p.name)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !known[f.Name()] {
			t.Errorf("docs/reference/%s is written by nothing: remove it", f.Name())
		}
	}
}

// Every builtin and every macro of the library has its place in the reference.
func TestReferenceIsComplete(t *testing.T) {
	all := map[string]string{}
	for _, p := range pages() {
		all[p.name] = p.text
	}
	r := stdlib.New(stdlib.ProbeKinds(nil))
	for _, b := range r.Builtins() {
		file, head := "variables.md", "### `"+b.Name+"`\n"
		if b.Func != nil {
			file, head = "functions.md", "### `"+b.Name+"("
		}
		if !strings.Contains(all[file], head) {
			t.Errorf("%s lacks %s", file, b.Name)
		}
	}
	docs := map[string]bool{}
	for _, m := range r.MacroDocs() {
		docs[m.Name] = true
	}
	for _, name := range r.Names("macro") {
		if !docs[name] {
			t.Errorf("the macro %s has no comment", name)
		}
	}
}
