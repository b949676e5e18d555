package bpf_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/sonde-sh/sonde/codegen/bpf"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/opt"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestGolden compiles the IR in testdata for fixed features. Each archive has the IR in "ir", words for the options in its comment line
// "options:", and the instructions in "asm".
func TestGolden(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	if len(files) == 0 {
		t.Fatal("no golden files")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m, err := ir.Parse(string(ar.Files[0].Data))
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Verify(); err != nil {
				t.Fatal(err)
			}
			_, comment, _ := strings.Cut(string(ar.Comment), "options:")
			if strings.Contains(comment, "optimise") {
				if _, err := opt.Run(m, opt.Options{Verify: true}); err != nil {
					t.Fatal(err)
				}
			}
			opts := bpf.Options{
				AtomicFetch: strings.Contains(comment, "atomics"), CPUv4: strings.Contains(comment, "v4"),
				Scratch: bpf.Scratch{Map: "scratch", Counters: "counters", CounterKey: 4},
			}
			code, err := bpf.Emit(m, m.Funcs[0], opts)
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprintf("%v; %+v\n", code.Insns, code.Stats)
			if *update {
				ar.Files = append(ar.Files[:1], txtar.File{Name: "asm", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(ar.Files) < 2 || string(ar.Files[1].Data) != got {
				t.Errorf("got:\n%s", got)
			}
		})
	}
}
