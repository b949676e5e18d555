package seccomp

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

const sourceCheapCalls = `
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int main(void) {
	struct timespec a, b;
	int n = 2000000;
	for (int i = 0; i < n / 20; i++) syscall(SYS_getppid);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
	for (int i = 0; i < n; i++) syscall(SYS_getppid);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
	printf("%.2f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / n);
	return 0;
}
`

// costRounds is how often each way is measured.
const costRounds = 31

// costWays are how a command runs: by itself, beside a program that does nothing, recorded, and recorded by way of trace events. Each gives what the command writes.
func costWays(t *testing.T) []func(command ...string) []byte {
	alone := func(command ...string) []byte {
		b, err := exec.Command(command[0], command[1:]...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	empty := func(command ...string) []byte {
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sys_enter", License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		})
		if err != nil {
			t.Skipf("needs rights and BTF: %v", err)
		}
		defer prog.Close()
		ln, err := link.AttachTracing(link.TracingOptions{Program: prog, AttachType: ebpf.AttachTraceRawTp})
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		return alone(command...)
	}
	recorded := func(byEvents bool) func(...string) []byte {
		return func(command ...string) []byte {
			var out bytes.Buffer
			before := *events
			*events = byEvents
			defer func() { *events = before }()
			record(t, Options{Stdout: &out}, command...)
			return out.Bytes()
		}
	}
	return []func(...string) []byte{alone, empty, recorded(false), recorded(true)}
}

// TestCost prints what a recording costs, beside nothing and beside a program that does nothing, in interleaved rounds. It only runs in
// the long campaign: its numbers are for people.
func TestCost(t *testing.T) {
	if os.Getenv("SONDE_SOAK") == "" {
		t.Skip("needs SONDE_SOAK: it measures for minutes")
	}
	tool(t, "gcc")
	tool(t, "find")
	bash := tool(t, "bash")
	ways := costWays(t)
	for _, tt := range []struct {
		name    string
		command []string
	}{
		{"getppid, ns per call", []string{compileC(t, t.TempDir(), "cheap", sourceCheapCalls)}},
		{"find /usr in the cache, ms of CPU time", []string{bash, "-c", "TIMEFORMAT='%3U %3S'; { time find /usr >/dev/null 2>&1; } 2>&1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			results := make([][]float64, len(ways))
			ways[0](tt.command...) // fills the caches
			for range costRounds {
				for i, way := range ways {
					out := way(tt.command...)
					var a, b float64
					switch n, err := fmt.Sscan(string(out), &a, &b); n {
					case 1: // ns
					case 2:
						a = 1000 * (a + b)
					default:
						t.Fatalf("%q: %v", out, err)
					}
					results[i] = append(results[i], a)
				}
			}
			for i, name := range []string{"nothing", "an empty program", "recorded", "by trace events"} {
				var more []float64
				for j, v := range results[i] {
					more = append(more, v-results[0][j])
				}
				t.Logf("%-17s median %6.1f, least %6.1f; more than nothing: median of differences %5.1f, of medians %+5.1f %%, of the least %+5.1f %%",
					name, median(results[i]), slices.Min(results[i]), median(more),
					100*(median(results[i])/median(results[0])-1), 100*(slices.Min(results[i])/slices.Min(results[0])-1))
			}
		})
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
