package stdlib_test

import (
	"io"
	"testing"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/stdlib"
)

// TestKernelCodeSize loads the eight programs that generated code is measured by and compares what the kernel holds after its verifier has
// put its own code in place of calls with what it holds of bpftrace 0.27.1's (Linux 6.18). codegen's TestInstructionCounts keeps the counts
// before that.
func TestKernelCodeSize(t *testing.T) {
	m := stdlib.TracingMachine(t)
	const enter = "t:syscalls:sys_enter_getpgid "
	for _, c := range []struct {
		name, text string
		peer       int
	}{
		{"scalar count", enter + `{ @ = count(); }`, 60},
		{"count by pid", enter + `{ @[pid] = count(); }`, 61},
		{"count by comm", enter + `{ @[comm] = count(); }`, 96},
		{"hist", enter + `{ @ = hist(args.pid); }`, 97},
		{"sum by key", enter + `{ @[pid] = sum(args.pid); }`, 62},
		{"plain store", enter + `{ @ = args.pid; }`, 45},
		{"pair", enter + `{ @s[tid] = nsecs; } t:syscalls:sys_exit_getpgid /@s[tid]/ { @ = hist(nsecs - @s[tid]); delete(@s, tid); }`, 177},
		{"printf of a path", `t:syscalls:sys_enter_openat { printf("%d %s %s\n", pid, comm, str(args.filename)); }`, 135},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := runtime.New(runtime.Options{
				Object: compiled(t, m, c.text, true), Kernel: m.Kernel, Targets: m, Output: runtime.NewOutput(io.Discard, false, runtime.BufferFull),
				Report: func(d *diag.Diagnostic) { t.Log(d) },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			stats, err := s.Stats()
			if err != nil {
				t.Fatal(err)
			}
			slots := 0
			for _, st := range stats {
				slots += st.Slots
			}
			if slots == 0 {
				t.Skip("needs a kernel that tells the size of translated programs")
			}
			t.Logf("%d instructions, bpftrace's %d", slots, c.peer)
			if slots > c.peer {
				t.Errorf("%d instructions in the kernel, more than bpftrace's %d", slots, c.peer)
			}
		})
	}
}
