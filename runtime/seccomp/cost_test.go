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
const costRounds = 25

// TestCost prints what a recording costs per call, beside nothing and beside a program that does nothing, in interleaved rounds. It only
// runs in the long campaign: its numbers are for people.
func TestCost(t *testing.T) {
	if os.Getenv("SONDE_SOAK") == "" {
		t.Skip("needs SONDE_SOAK: it measures for a minute")
	}
	tool(t, "gcc")
	loop := compileC(t, t.TempDir(), "cheap", sourceCheapCalls)
	number := func(b []byte) float64 {
		var ns float64
		if _, err := fmt.Sscan(string(b), &ns); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		return ns
	}
	alone := func() float64 {
		b, err := exec.Command(loop).Output()
		if err != nil {
			t.Fatal(err)
		}
		return number(b)
	}
	empty := func() float64 {
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
		return alone()
	}
	recorded := func() float64 {
		var out bytes.Buffer
		record(t, Options{Stdout: &out}, loop)
		return number(out.Bytes())
	}
	ways := []struct {
		name    string
		measure func() float64
		ns      []float64
	}{{"nothing", alone, nil}, {"an empty program", empty, nil}, {"recorded", recorded, nil}}
	for range costRounds {
		for i := range ways {
			ways[i].ns = append(ways[i].ns, ways[i].measure())
		}
	}
	for _, w := range ways {
		var more []float64
		for i, ns := range w.ns {
			more = append(more, ns-ways[0].ns[i])
		}
		t.Logf("%-17s median %6.1f ns, least %6.1f; more than nothing: median %5.1f, least to least %5.1f",
			w.name, median(w.ns), slices.Min(w.ns), median(more), slices.Min(w.ns)-slices.Min(ways[0].ns))
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
