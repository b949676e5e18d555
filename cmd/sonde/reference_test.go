package main

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/runtime/kernel/needs"
	"github.com/sonde-sh/sonde/stdlib"
)

// TestKernelReference loads every example of the reference: the kernel may lack what one needs, and then the message says so, but its verifier
// refuses none, and no example has an error of its own.
func TestKernelReference(t *testing.T) {
	needs.BPF(t)
	r := stdlib.New(stdlib.ProbeKinds(nil))
	examples := map[string]string{}
	for _, b := range r.Builtins() {
		kind := "variable "
		if b.Func != nil {
			kind = "function "
		}
		examples[kind+b.Name] = b.Doc.Example
	}
	for _, k := range r.Kinds() {
		examples["probe "+k.Kind.Name()] = k.Doc.Example
	}
	for _, m := range r.MapKinds() {
		examples["map "+m.Kind.Name] = m.Doc.Example
	}
	for _, c := range r.Config() {
		examples["config "+c.Key.Name] = c.Doc.Example
	}
	for name, text := range examples {
		var out, errs bytes.Buffer
		code := run(context.Background(), []string{"sonde", "--dry-run", "--unsafe", "-e", text}, stdio{strings.NewReader(""), &out, &errs})
		if strings.Contains(errs.String(), "give it with -p PID") {
			errs.Reset()
			code = run(context.Background(), []string{"sonde", "--dry-run", "-p", strconv.Itoa(os.Getpid()), "-e", text}, stdio{strings.NewReader(""), &out, &errs})
		}
		if strings.Contains(errs.String(), "which this kernel does not have") || strings.Contains(errs.String(), "use a newer kernel") {
			t.Logf("%s is newer than this kernel: %s", name, text)
			continue
		}
		for _, bad := range []string{"verifier refused", "internal error", "bug in sonde", "not supported yet"} {
			if strings.Contains(errs.String(), bad) {
				t.Errorf("%s: %s\n%s", name, text, errs.String())
			}
		}
		// Status 1 is an error of the script: only a point or a type that this kernel does not have excuses it.
		if code == 1 && !strings.Contains(errs.String(), "[E065") && !strings.Contains(errs.String(), "[E07") {
			t.Errorf("%s: %s\nstatus %d\n%s", name, text, code, errs.String())
		}
	}
}
