package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name string
		r    row
		want string
	}{
		{"below the limit", row{ours: 1, theirs: 10, limit: 0.2}, "ok"},
		{"at the limit", row{ours: 2, theirs: 10, limit: 0.2}, "ok"},
		{"above the limit", row{ours: 3, theirs: 10, limit: 0.2}, "MISSED"},
		{"above the limit by less than the noise", row{ours: 11, theirs: 10, limit: 1, noise: 0.6}, "even"},
		{"above the limit by more than the noise", row{ours: 11, theirs: 10, limit: 1, noise: 0.4}, "MISSED"},
		{"no limit", row{ours: 3, theirs: 10}, ""},
		{"nothing to compare with", row{ours: 3, theirs: math.NaN(), limit: 0.2}, ""},
		{"absolute", row{ours: 14, theirs: math.NaN(), limit: 15, absolute: true}, "ok"},
		{"absolute, above", row{ours: 16, theirs: math.NaN(), limit: 15, absolute: true}, "MISSED"},
	} {
		if got := c.r.verdict(); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLostEvents(t *testing.T) {
	for text, want := range map[string]int{
		"Lost 12 events\n":                      12,
		"WARNING: Lost 3 events\nLost 4 events": 7,
		"stdin:1:1-2: WARNING: tracepoint:a:b: 55 events lost because the ring buffer was full": 55,
		"Attached 1 probe\n": 0,
	} {
		if got := lostEvents(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestMedian(t *testing.T) {
	if m := median([]float64{3, 1, 2}); m != 2 {
		t.Errorf("of three: %v", m)
	}
	if m := median([]float64{4, 1, 2, 3}); m != 2.5 {
		t.Errorf("of four: %v", m)
	}
	if m := median(nil); !math.IsNaN(m) {
		t.Errorf("of none: %v", m)
	}
}

func TestMedianError(t *testing.T) {
	if e := medianError([]float64{1, 1, 1}); e != 0 {
		t.Errorf("of three: %v", e)
	}
	// Deviations 2, 1, 0, 1, 2: their median is 1, whatever the last value is.
	want := 1.2533 * 1.4826 / math.Sqrt(5)
	for _, last := range []float64{5, 500} {
		if e := medianError([]float64{1, 2, 3, 4, last}); math.Abs(e-want) > 1e-9 {
			t.Errorf("with %v: %v, want %v", last, e, want)
		}
	}
}

// TestPage renders both forms with and without a peer.
func TestPage(t *testing.T) {
	tab := table{ours: "sonde", theirs: "bpftrace 1"}
	g := tab.group("Title", "Remark.")
	g.add(row{name: "@ = x", unit: "ns", ours: 1, theirs: 4, limit: 0.5})
	g.add(row{name: "slow", unit: "ns", ours: 8, theirs: 4, limit: 1})
	tab.note("a note")
	text, page := tab.text(), tab.page()
	for _, want := range []string{"0.250", "ok", "2.000", "MISSED", "note: a note", "1 limit missed"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, want := range []string{"## Title", "Remark.", "| `@ = x` | ns | 1 | 4 | 0.250 | 0.5 | ok |", "- a note"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	alone := table{ours: "sonde"}
	alone.group("Title", "").add(row{name: "x", unit: "ns", ours: 1, theirs: math.NaN(), limit: 1})
	if text := alone.text(); strings.Contains(text, "NaN") || strings.Contains(text, "MISSED") {
		t.Errorf("without a peer:\n%s", text)
	}
}

func TestChosen(t *testing.T) {
	names := func(o options) string {
		list, err := o.chosen()
		if err != nil {
			return err.Error()
		}
		var out []string
		for _, s := range list {
			out = append(out, s.name)
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		o    options
		want string
	}{
		{options{}, "start size code choice flood keys stages icount"},
		{options{quick: true}, "start size code choice flood keys stages"},
		{options{icount: true}, "icount"},
		{options{only: []string{"keys", "start"}}, "start keys"},
		{options{only: []string{"kesy"}}, `no section "kesy"`},
	} {
		if got := names(c.o); got != c.want {
			t.Errorf("%+v: %q, want %q", c.o, got, c.want)
		}
	}
}

func TestLimits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits")
	counts := func(a, b float64) *group {
		return &group{rows: []row{{name: "@ = a", ours: a}, {name: "@ = b", ours: b}}}
	}
	if err := writeLimits(path, "6.12.1", counts(100, 1000)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, release string
		a, b          float64
		want          string // in the error; empty: none
	}{
		{"the same", "6.12.1", 100, 1000, ""},
		{"a little more", "6.12.1", 102, 1020, ""},
		{"too much", "6.12.1", 100, 1040, "@ = b: 1040.0 instructions"},
		{"another kernel", "6.12.2", 100, 1090, ""},
		{"too much for another kernel", "6.12.2", 100, 1190, "@ = b"},
		{"less", "6.12.1", 50, 500, ""},
	} {
		err := checkLimits(path, c.release, counts(c.a, c.b))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := checkLimits(path, "6.12.1", &group{rows: []row{{name: "new", ours: 1}}}); err == nil {
		t.Error("a program without a limit passes")
	}
	if err := os.WriteFile(path, []byte("many @ = a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkLimits(path, "6.12.1", counts(1, 1)); err == nil {
		t.Error("a broken file passes")
	}
}
