package check_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/lang/check"
)

// FuzzCheck: whatever parses is checked without a panic, and what is accepted has a type on every expression of its bodies.
func FuzzCheck(f *testing.F) {
	for _, pattern := range []string{"testdata/errors/*.bt", "testdata/checked/*.txtar", "/usr/sbin/*.bt"} {
		files, _ := filepath.Glob(pattern)
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err == nil {
				f.Add(strings.Split(string(text), "\n-- checked --")[0])
			}
		}
	}
	for _, s := range accepted {
		f.Add(s)
	}
	for _, tt := range rejected {
		f.Add(tt.script)
	}
	f.Fuzz(func(t *testing.T, script string) {
		if len(script) > 4000 {
			return
		}
		info, _, diags := run(script, func(env *check.Env) { env.Unsafe = true })
		if info == nil || diags.HasErrors() {
			return
		}
		if err := check.Complete(info); err != nil {
			t.Errorf("%s\n%v", script, err)
		}
		check.Dump(info)
	})
}

// A probe of 10,000 statements, each of which reads what the one before wrote, is checked in a time that grows linearly.
func TestLinear(t *testing.T) {
	script := func(n int, line string) string {
		var sb strings.Builder
		sb.WriteString("BEGIN { $x0 = 1; @m = 0;\n")
		for i := 1; i <= n; i++ {
			sb.WriteString(strings.NewReplacer("NEXT", fmt.Sprint(i), "LAST", fmt.Sprint(i-1)).Replace(line) + "\n")
		}
		return sb.String() + "}"
	}
	for _, line := range []string{
		"$xNEXT = $xLAST + 1;",
		"@m = @m + NEXT; $xNEXT = @m;",
		"$x0 = $x0 + NEXT; if ($x0 > 5) { $x0 = 3; }",
		"printf(\"%d %s\\n\", NEXT, comm);",
	} {
		check := func(n int) time.Duration {
			text := script(n, line)
			best := time.Hour
			for range 2 {
				start := cpuTime(t) // what else the machine does counts for nothing
				_, _, diags := run(text, nil)
				if diags.HasErrors() {
					t.Fatal(errorsOf(diags))
				}
				best = min(best, cpuTime(t)-start)
			}
			return best
		}
		small, large := check(1000), check(10000)
		t.Logf("%s: %v for 1,000, %v for 10,000", line, small, large)
		if large > 40*small && large > 3*time.Second {
			t.Errorf("%s: %v for 1,000 statements, %v for 10,000", line, small, large)
		}
	}
}

// cpuTime is what this process has computed so far, in user mode.
func cpuTime(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano())
}
