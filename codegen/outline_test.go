package codegen_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/lab"
)

// TestKernelManyStatements runs actions of more statements than the verifier takes branches on one way through a program.
func TestKernelManyStatements(t *testing.T) {
	const n = 5000
	h := openHost(t)
	for _, c := range []struct {
		name, line, end, want string
	}{
		{"counts", "@c[%d %% 7] = count();", "print((uint64)@c[4]);", "714"},
		{"sums", "@s[%d %% 3] = sum(%[1]d);", "print((uint64)@s[2]);", "4164167"},
		{"statistics", "@st[1] = stats(%d);", "print(@st);", "@st[1]: { .count = 5000, .average = 2499, .total = 12497500 }"},
		{"maxima", "@m = max(%d);", "print((int64)@m);", "4999"},
		{"histograms", "@h = hist(%d %% 2 + 100);", "print(@h);", "[64, 128)           5000 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|"},
		{"linear histograms", "@l[pid] = lhist(%d, 0, 10000, 5000);", "print(@l);", "[0, 5000)           5000 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|"},
		{"assignments", "@k[pid, %d] = %[1]d;", "print((len(@k), @k[pid, 4321]));", "(5000, 4321)"},
		{"increments", "@i[%d %% 5]++;", "print(@i[4]);", "1000"},
		{"subtractions", "@i[%d %% 5, \"x\"] -= 2;", "print(@i[4, \"x\"]);", "-2000"},
		{"bytes as keys", "@b[(uint8)%d] = %[1]d;", "print((len(@b), @b[(uint8)135]));", "(256, 4999)"},
		{"events", "printf(\"%%d %%s\\n\", %d, \"of many\");", "", "4999 of many"},
	} {
		if lab.InGuest() && c.name != "counts" && c.name != "events" {
			continue // an emulated machine takes half a minute for one
		}
		t.Run(c.name, func(t *testing.T) {
			if c.name == "events" && !h.machine.Target().Features.Has(target.IterNum) {
				t.Skip("needs bpf_iter_num (Linux 6.4), or another sign of a verifier that compares references")
			}
			var text strings.Builder
			text.WriteString("config = { max_map_keys=10000 }\nbegin {\n")
			for i := range n {
				fmt.Fprintf(&text, c.line+"\n", i)
			}
			text.WriteString(c.end + "\n}\n")
			obj := compile(t, h.info(t, text.String()), h.machine.Target(), codegen.Options{})
			got := strings.TrimSpace(h.run(t, obj))
			if last := strings.TrimSpace(got[strings.LastIndexByte(got, '\n')+1:]); last != c.want {
				t.Errorf("got %q, want %q", last, c.want)
			}
		})
	}
}

// TestKernelFailureOfSharedCode checks that a failure has its own place where the statement shares the code of others.
func TestKernelFailureOfSharedCode(t *testing.T) {
	h := openHost(t)
	var text strings.Builder
	text.WriteString("let @a = hash(70);\nbegin {\n")
	for i := range 80 {
		fmt.Fprintf(&text, "@a[%d] = 1;\n", i)
	}
	text.WriteString("}\n")
	obj := compile(t, h.info(t, text.String()), h.machine.Target(), codegen.Options{})
	obj.Config.PrintMapsOnExit = false
	var lines []int
	s, err := runtime.New(runtime.Options{
		Object: obj, Kernel: h.kernel, Targets: h.machine, Output: runtime.NewOutput(&bytes.Buffer{}, false, 0),
		Report: func(d *diag.Diagnostic) { lines = append(lines, obj.Files.Position(d.Span.Start).Line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "[73 74 75 76 77 78 79 80 81 82]" // two lines are in front of key 0
	if got := fmt.Sprint(lines); got != want {
		t.Errorf("failures in lines %s, want %s", got, want)
	}
}

// TestKernelManyEvents sends records of one form one after the other: while a record is reserved, older verifiers take no two ways for the same.
func TestKernelManyEvents(t *testing.T) {
	h := openHost(t)
	for _, c := range []struct{ name, line, last string }{
		{"numbers", "printf(\"%%d\\n\", %d);", "99"},
		{"values", "print((%d, pid > 0));", "(99, true)"},
		{"words", "printf(\"%%d %%s %%d %%d %%s\\n\", %d, \"a\", 2, 3, \"b\");", "99 a 2 3 b"},
		{"branches", "if (pid > 0) { printf(\"%%d\\n\", %d); } else { printf(\"no\\n\"); }", "99"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var text strings.Builder
			text.WriteString("begin {\n")
			for i := range 100 {
				fmt.Fprintf(&text, c.line+"\n", i)
			}
			text.WriteString("}\n")
			got := strings.TrimSpace(h.run(t, compile(t, h.info(t, text.String()), h.machine.Target(), codegen.Options{})))
			if last := got[strings.LastIndexByte(got, '\n')+1:]; last != c.last || strings.Count(got, "\n") != 99 {
				t.Errorf("got %d lines, the last %q, want 100, %q", strings.Count(got, "\n")+1, last, c.last)
			}
		})
	}
}
