package codegen_test

import (
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen"
)

// statements are probes of many statements of one kind.
var statements = []struct {
	name string
	line func(i int) string
}{
	{"stores", func(i int) string { return fmt.Sprintf("@x%d = %d;", i%50, i) }},
	{"variables", func(i int) string { return fmt.Sprintf("$v%d = %d;", i, i) }},
	{"counts", func(i int) string { return fmt.Sprintf("@c[%d] = count();", i) }},
	{"keys", func(i int) string { return fmt.Sprintf("@k[pid, %d] = nsecs;", i) }},
	{"strings", func(i int) string { return fmt.Sprintf(`@s[comm] = "text %d";`, i) }},
	{"events", func(i int) string { return fmt.Sprintf(`printf("%%d %%s\n", %d, comm);`, i) }},
	{"branches", func(i int) string { return fmt.Sprintf("if (pid == %d) { @a = %d; }", i, i) }},
	{"increments", func(i int) string { return fmt.Sprintf("@i[%d]++;", i) }},
	{"comparisons", func(i int) string { return fmt.Sprintf(`if (comm == "name %d") { @a = %d; }`, i, i) }},
	{"histograms", func(int) string { return "@h = hist(nsecs);" }},
	{"tuples", func(i int) string { return fmt.Sprintf(`$t = (%d, pid, "x"); @t = $t.1;`, i) }},
	{"copies", func(i int) string { return fmt.Sprintf(`$a = comm; @s%d = $a;`, i%5) }},
	{"reads", func(i int) string { return fmt.Sprintf(`@z = str((uint8*)%d);`, 4096*i) }},
	{"whiles", func(int) string { return "while ($v < 10) { $v++; }" }},
	{"keyed histograms", func(i int) string { return fmt.Sprintf("@l[%d] = lhist(nsecs, 0, 100, 10);", i%7) }},
	{"statistics", func(i int) string { return fmt.Sprintf("@st[pid] = stats(%d);", i) }},
	{"arguments", func(i int) string { return fmt.Sprintf(`printf("%%d %%s %%d %%s\n", pid, comm, %d, "s%d");`, i, i) }},
	{"texts", func(i int) string { return fmt.Sprintf(`$s%d = str((uint8*)%d); print($s%d);`, i, 4096*i, i) }},
	{"printed tuples", func(i int) string { return fmt.Sprintf(`$t%d = (pid, comm, %d); print($t%d);`, i, i, i) }},
	{"keys of tuples", func(i int) string { return fmt.Sprintf(`@a[pid, comm, %d] = avg(pid);`, i) }},
	{"loops", func(int) string { return "for ($i : 0..10) { @n += $i; }" }},
}

func manyStatements(line func(int) string, n int) string {
	var sb strings.Builder
	sb.WriteString("begin { $v = 0;\n")
	for i := range n {
		sb.WriteString(line(i) + "\n")
	}
	sb.WriteString("}\n")
	return sb.String()
}

// compileTime is the least CPU time of a few compilations, from the text to the object or to a diagnostic.
func compileTime(t testing.TB, text string) time.Duration {
	cpu := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano())
	}
	best := time.Duration(math.MaxInt64)
	// The collector would run in the longer compilations only, and work for what the tests before have left.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for range 3 {
		runtime.GC()
		start := cpu()
		_, _ = codegen.Compile(fixtureInfo(t, text), fixtureTarget(), codegen.Options{})
		best = min(best, cpu()-start)
	}
	return best
}

// TestCompileTimeIsLinear compiles probes of 150 and of 1,200 statements. Eight times the statements may take eight times the time and some;
// a pass that looks at all pairs of something takes far more.
func TestCompileTimeIsLinear(t *testing.T) {
	for _, s := range statements {
		var few, many time.Duration
		for range 4 { // a busy machine may have had a bad moment
			few, many = compileTime(t, manyStatements(s.line, 150)), compileTime(t, manyStatements(s.line, 1200))
			t.Logf("%-10s %8v for 150, %8v for 1200", s.name, few.Round(time.Millisecond/10), many.Round(time.Millisecond/10))
			if many <= 24*max(few, 5*time.Millisecond) {
				break
			}
		}
		if many > 24*max(few, 5*time.Millisecond) {
			t.Errorf("%s: %v for 1200 statements, %v for 150", s.name, many, few)
		}
	}
}

// BenchmarkStatements compiles probes of ten thousand statements.
func BenchmarkStatements(b *testing.B) {
	for _, s := range statements {
		b.Run(s.name, func(b *testing.B) {
			text := manyStatements(s.line, 10_000)
			for b.Loop() {
				_, _ = codegen.Compile(fixtureInfo(b, text), fixtureTarget(), codegen.Options{})
			}
		})
	}
}

// An address that is a sum of shared sums is not followed along all of their ways.
func TestAddressOfSharedSums(t *testing.T) {
	text := "kprobe:f { $x = arg0; " + strings.Repeat("$x = $x + $x; ", 60) + "@ = *(uint8 *)$x; }"
	if took := compileTime(t, text); took > time.Second {
		t.Errorf("took %v", took)
	}
}
