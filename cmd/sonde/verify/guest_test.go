package verify

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sonde-sh/sonde/runtime/lab"
)

// TestGuestsThatMisbehave checks that each way to go wrong is told in its own cell and spoils no other, in every form of the report.
func TestGuestsThatMisbehave(t *testing.T) {
	switch {
	case lab.InGuest():
		t.Skip("needs a host: guests do not nest")
	case testing.Short():
		t.Skip("needs a run without -short: it boots a kernel")
	}
	if err := lab.Available(lab.AMD64); err != nil || lab.HostArch() != lab.AMD64 {
		t.Skipf("needs QEMU for x86-64: %v", err)
	}
	dir := t.TempDir()
	init := filepath.Join(dir, "guest")
	cmd := exec.Command("go", "build", "-o", init, "./testdata/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("needs the go command: %v\n%s", err, b)
	}
	catalogue := lab.NewCatalogue()
	if _, err := catalogue.Fetch(t.Context(), "5.10", lab.AMD64); err != nil {
		t.Skipf("needs a kernel: %v", err)
	}
	tests := []struct {
		name, reason string
		state        State
	}{
		{"good.bt", "", OK},
		{"hang.bt", "timeout", Guest},
		{"flood.bt", "killed: too much output", Guest},
		{"eat.bt", "killed: the guest ran out of memory", Guest},
		{"broken.bt", "no report came back: exit status 2", Guest},
		{"panic.bt", "running when the kernel failed: kernel panic: sysrq triggered crash", Guest},
		{"after.bt", "not started: kernel panic: sysrq triggered crash", Guest},
	}
	o := &Options{
		Kernels: []string{"5.10"}, Archs: []lab.Arch{lab.AMD64}, Catalogue: catalogue, itemTime: 45 * time.Second, memoryMiB: 192, outputBytes: 64 << 10,
		Init: func(lab.Arch) (string, error) { return init, nil },
	}
	for _, tt := range tests {
		path := filepath.Join(dir, tt.name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		o.Items = append(o.Items, Item{Path: tt.name, Host: path})
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c := &r.Columns[0]
	if c.Failure != "kernel panic: sysrq triggered crash" || !strings.Contains(c.Console, "Kernel panic") || !r.Broken() {
		t.Errorf("the column says %q\n%s", c.Failure, c.Console)
	}
	for i, tt := range tests {
		if row := c.Rows[i]; row.State != tt.state || !strings.Contains(row.Reason, tt.reason) || tt.reason == "" && row.Reason != "" {
			t.Errorf("%s: %s, %q", tt.name, row.State, row.Reason)
		}
	}

	var table, js, junit bytes.Buffer
	if err := Table(&table, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"good.bt    ok\n", "hang.bt    guest\n", "after.bt   guest\n", "5.10: kernel panic: sysrq triggered crash\n", "the end of its console:\n",
		"hang.bt on 5.10: guest\nkilled after 45", "eat.bt on 5.10: guest\nkilled: the guest ran out of memory\n",
		"broken.bt on 5.10: guest\nno report came back: exit status 2\n    goroutine 1 [running]\n",
	} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &table)
		}
	}
	if err := JSON(&js, r); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(js.Bytes(), &back); err != nil || len(back.Columns) != 1 || len(back.Columns[0].Rows) != len(tests) {
		t.Errorf("JSON: %v\n%s", err, &js)
	}
	if err := JUnit(&junit, r); err != nil {
		t.Fatal(err)
	}
	var suites junitSuites
	if err := xml.Unmarshal(junit.Bytes(), &suites); err != nil || len(suites.Suites) != 1 {
		t.Fatalf("JUnit: %v\n%s", err, &junit)
	}
	if s := suites.Suites[0]; s.Tests != len(tests) || s.Errors != len(tests)-1 || s.Failures != 0 || !strings.Contains(s.Output, "Kernel panic") {
		t.Errorf("JUnit: %d tests, %d errors, %d failures, output %q", s.Tests, s.Errors, s.Failures, s.Output)
	}
}
