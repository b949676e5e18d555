package check_test

import (
	"testing"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
)

// A variable that leaks out of its block is one variable with one type; two variables of the same name in separate blocks stay two.
func TestLeakedVariables(t *testing.T) {
	for _, tt := range []struct {
		script string
		warns  int
		errors bool
	}{
		{`BEGIN { if (pid) { $a = 1; } else { $a = 2000; } print($a); }`, 1, false},
		{`BEGIN { if (pid) { $a = 1; } if (tid) { $a = "x"; } }`, 0, false},
		{`BEGIN { if (pid) { $a = 1; } $a = "x"; print($a); }`, 0, false},
		{`BEGIN { if (pid) { let $a = 1; } print($a); }`, 0, true},
		{`BEGIN { for ($i : 0..3) { $a = $i; } print($i); }`, 0, true},
		{`BEGIN { while (pid) { $a = 1; } @x[$a] = 1; }`, 1, false},
	} {
		_, _, diags := run(tt.script, nil)
		n := 0
		for _, d := range diags.All() {
			if d.Severity == diag.Warning && d.Code == check.CodeLeakedVar {
				n++
			}
		}
		if n != tt.warns || diags.HasErrors() != tt.errors {
			t.Errorf("%s\n%d warnings, errors %v; want %d, %v\n%s", tt.script, n, diags.HasErrors(), tt.warns, tt.errors, errorsOf(diags))
		}
	}
}
