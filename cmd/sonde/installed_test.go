package main

import (
	"bytes"
	"context"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/kernel/needs"
)

// installedLacks are the messages with which a script of the bpftrace package may be refused: what the script names is not on this machine, and
// bpftrace refuses it there as well. The first group names it.
var installedLacks = []*regexp.Regexp{
	regexp.MustCompile(`No matches for \w+probe (\S+?)\.(?: \[|$)`),
	regexp.MustCompile(`No matches for (tracepoint \S+?)\.(?: \[|$)`),
	regexp.MustCompile(`Failed to resolve kernel symbol: (\S+)`),
	regexp.MustCompile(`does not contain a field named '(nr_running|disk)'`), // of cfs_rq until 6.14, of request_queue since 5.17
	regexp.MustCompile(`cannot attach \S+: (this kernel has no kprobes)`),
	regexp.MustCompile(`target file '(\S+)' does not exist`),
	regexp.MustCompile(`Struct/union of type 'struct tracepoint:\S+' does not contain a field named '(\w+)'`), // newer than the kernel
}

// TestKernelInstalledScripts runs each script that the distribution's bpftrace package installs, unchanged, and ends it as Ctrl-C does. The lab
// ships them to its guests (testdata/host-files).
func TestKernelInstalledScripts(t *testing.T) {
	needs.BPF(t)
	scripts, err := filepath.Glob("/usr/sbin/*.bt")
	if err != nil || len(scripts) == 0 {
		t.Skip("needs the scripts of the bpftrace package")
	}
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for _, path := range scripts {
		t.Run(filepath.Base(path), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stop := time.AfterFunc(500*time.Millisecond, cancel) // what Ctrl-C does in main
			defer stop.Stop()
			var out, errs bytes.Buffer
			code := run(ctx, []string{"sonde", path}, stdio{strings.NewReader(""), &out, &errs})
			text := errs.String()
			if strings.Contains(text, "this kernel has no kprobes") && k.Features().Has(kernel.FeatureKprobes) {
				t.Errorf("kprobes are there:\n%s", text)
			}
			if code == 0 {
				return
			}
			first := ""
			for line := range strings.Lines(text) {
				if strings.Contains(line, "ERROR") {
					first = line
					break
				}
			}
			for _, re := range installedLacks {
				if m := re.FindStringSubmatch(strings.TrimSpace(first)); m != nil {
					t.Skipf("needs %s", strings.Replace(m[1], "this kernel has no ", "", 1))
				}
			}
			t.Errorf("status %d\n%s%s", code, &out, text)
		})
	}
}
