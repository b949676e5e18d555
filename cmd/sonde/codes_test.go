package main

import (
	"bytes"
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/kernel/needs"
)

// Every example of the table of codes reports the code that it documents, and nothing else.
func TestCodeExamples(t *testing.T) {
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if _, err := k.Tracefs(); err != nil {
		t.Skip("needs the kernel's list of events: ", err)
	}
	able := needs.TryBPF() == nil
	reported := regexp.MustCompile(`(?m)^(?:\S+: )?(?:ERROR|WARNING): .* \[([EW]0\d\d\d)\]$`)
	for _, e := range diag.Codes() {
		if e.Example == "" {
			continue
		}
		if strings.HasPrefix(string(e.Code), "W") && !able {
			continue // a script with a warning only is loaded, which needs rights
		}
		var out, errs bytes.Buffer
		code := run(context.Background(), []string{"sonde", "--dry-run", "-e", e.Example}, stdio{strings.NewReader(""), &out, &errs})
		var got []string
		for _, m := range reported.FindAllStringSubmatch(errs.String(), -1) {
			got = append(got, m[1])
		}
		if got = slices.Compact(got); len(got) != 1 || got[0] != string(e.Code) {
			t.Errorf("%s: %q reports %v\n%s", e.Code, e.Example, got, errs.String())
		}
		if wantFail := e.Code[0] == 'E'; wantFail != (code == 1) {
			t.Errorf("%s: %q ends with status %d", e.Code, e.Example, code)
		}
	}
}
