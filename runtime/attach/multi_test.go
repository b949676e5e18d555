package attach

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/object"
)

// traceableFunctions lists n functions that may be probed, far apart in the kernel.
func traceableFunctions(t testing.TB, dir string, n int) []string {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "available_filter_functions"))
	if err != nil {
		t.Skip("needs the list of traceable functions: ", err)
	}
	defer f.Close()
	var all []string
	seen := map[string]int{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		name, rest, _ := strings.Cut(sc.Text(), " ")
		if rest == "" && !strings.HasPrefix(name, "__ftrace_invalid") && !strings.ContainsAny(name, ".") {
			all = append(all, name)
			seen[name]++
		}
	}
	out := make([]string, 0, n)
	for i := 0; i < len(all) && len(out) < n; i += max(1, len(all)/(n+n/8)) {
		if seen[all[i]] == 1 {
			out = append(out, all[i])
		}
	}
	if len(out) < n {
		t.Skipf("needs %d functions, the kernel has %d", n, len(out))
	}
	return out
}

// TestKernelManyFunctions attaches one program to 5,000 functions and takes it down again.
func TestKernelManyFunctions(t *testing.T) {
	cfg, dir := tracefs(t)
	prog, count := counter(t, ebpf.ProgramSpec{Type: ebpf.Kprobe, AttachType: ebpf.AttachTraceKprobeMulti})
	at := &object.Attach{Mechanism: object.KprobeMulti, Targets: traceableFunctions(t, dir, 5000)}
	start := time.Now()
	l, err := New(cfg).Attach(at, prog)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		t.Skip("needs kprobe_multi: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	attached := time.Since(start)
	defer l.Close()
	until(t, "the program runs", func() bool { _, _ = os.ReadFile("/proc/self/stat"); return count() > 0 })
	start = time.Now()
	if err := Detach([]*Link{l}); err != nil {
		t.Fatal(err)
	}
	detached := time.Since(start)
	t.Logf("5000 functions: attached in %v, detached in %v", attached, detached)
	if limit := time.Minute; attached > limit || detached > limit { // a second where nothing is emulated
		t.Errorf("attached in %v, detached in %v", attached, detached)
	}
}
