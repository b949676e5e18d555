package codegen_test

import (
	"testing"

	"github.com/sonde-sh/sonde/codegen"
)

// small are the programs that the instruction counts of generated code are measured by. peer is what bpftrace 0.27.1 has (translated
// instructions), hand what was written by hand on a raw tracepoint; limit is what we have: who makes a program longer has to say why here.
// The kernel puts its own code in place of some calls; TestKernelCodeSize counts what comes of that.
var small = []struct {
	name, script      string
	peer, hand, limit int
}{
	{"scalar count", `tracepoint:a:b { @ = count(); }`, 60, 16, 11},
	{"count by pid", `tracepoint:a:b { @[pid] = count(); }`, 61, 32, 39},
	{"count by comm", `tracepoint:a:b { @[comm] = count(); }`, 96, 34, 41},
	{"hist", `tracepoint:a:b { @ = hist(args.bytes); }`, 97, 59, 46},
	{"sum by key", `tracepoint:a:b { @[pid] = sum(args.bytes); }`, 62, 32, 40},
	{"plain store", `tracepoint:a:b { @ = args.bytes; }`, 45, 9, 7},
	{"start of a pair", `config = { maps = literal } tracepoint:c:d { delete(@start, tid); } tracepoint:a:b { @start[tid] = nsecs; }`, 60, 30, 24},
	{"end of a pair", `begin { @start[1] = 1; } tracepoint:a:b /@start[tid]/ { @ns = hist(nsecs - @start[tid]); delete(@start, tid); }`, 117, 80, 67},
	// Longer than the plain form, of which nobody runs more: the rest is for threads whose slot is taken. They execute a fifth.
	{"start of a pair in a slot", `tracepoint:c:d { delete(@start, tid); } tracepoint:a:b { @start[tid] = nsecs; }`, 60, 30, 60},
	{"end of a pair in a slot", `begin { @start[tid] = 1; } tracepoint:a:b /@start[tid]/ { @ns = hist(nsecs - @start[tid]); delete(@start, tid); }`, 117, 80, 102},
	{"printf of a path", `tracepoint:a:b { printf("%d %s %s\n", pid, comm, str(args.filename)); }`, 135, 100, 107},
}

// TestInstructionCounts keeps the size of these programs. Run with -v for the table.
func TestInstructionCounts(t *testing.T) {
	for _, p := range small {
		obj := compile(t, fixtureInfo(t, p.script), fixtureTarget(), codegen.Options{})
		s := obj.Programs[len(obj.Programs)-1].Stats
		t.Logf("%-25s %4d instructions (peer %d, by hand %d), stack %d, scratch %d, spills %d", p.name, s.Insns, p.peer, p.hand, s.StackBytes, s.ScratchBytes, s.Spills)
		if s.Insns > p.limit {
			t.Errorf("%s: %d instructions, more than %d", p.name, s.Insns, p.limit)
		}
		if s.Insns < p.limit {
			t.Errorf("%s: %d instructions, fewer than %d: lower the limit", p.name, s.Insns, p.limit)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	info := fixtureInfo(b, small[len(small)-1].script)
	for b.Loop() {
		if _, err := codegen.Compile(info, fixtureTarget(), codegen.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
