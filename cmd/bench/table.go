package main

import (
	_ "embed"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// row is one measured quantity: smaller is better.
type row struct {
	name, unit   string
	ours, theirs float64 // theirs is NaN when there is nothing to compare with
	limit        float64 // of ours/theirs, or of ours when absolute; 0 for none
	absolute     bool
	// noise is the standard error of ours less theirs, in unit; 0 when it is not known.
	noise float64
}

// group is a table with a title and a remark.
type group struct {
	title, remark string
	rows          []row
}

// table collects what was measured.
type table struct {
	facts  []string
	notes  []string
	groups []*group
	ours   string
	theirs string // empty without a peer
}

func (t *table) group(title, remark string) *group {
	g := &group{title: title, remark: remark}
	t.groups = append(t.groups, g)
	return g
}

func (g *group) add(r row) { g.rows = append(g.rows, r) }

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// head says what was measured where.
func (t *table) head(b *bench) {
	t.ours = "sonde"
	var u unix.Utsname
	_ = unix.Uname(&u)
	cpus := 0
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) == nil {
		cpus = set.Count()
	}
	t.facts = append(t.facts, fmt.Sprintf("Linux %s, %s, %d CPUs, %s", unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]), cpus, time.Now().Format("2006-01-02")),
		"sonde "+b.ours.version)
	if b.theirs == nil {
		t.facts = append(t.facts, "bpftrace is not installed: its columns are empty", "medians of "+plural(b.rounds, "round"))
		return
	}
	t.theirs = "bpftrace " + b.theirs.version
	t.facts = append(t.facts, t.theirs)
	mode := "medians of " + plural(b.rounds, "interleaved round")
	if b.quick {
		mode += ", quick: rough numbers"
	}
	t.facts = append(t.facts, mode)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (r row) ratio() float64 { return r.ours / r.theirs }

// verdict is "ok", "MISSED", "even" when the limit is passed by less than the rounds differ among themselves, or empty when nothing is promised
// or nothing can be said.
func (r row) verdict() string {
	value := r.ratio()
	if r.absolute {
		value = r.ours
	}
	switch {
	case r.limit == 0 || math.IsNaN(value):
		return ""
	case value <= r.limit*1.0001:
		return "ok"
	case !r.absolute && r.ours-r.limit*r.theirs <= 2*r.noise:
		return "even"
	}
	return "MISSED"
}

func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "-"
	case v == math.Trunc(v) && math.Abs(v) < 1e9, math.Abs(v) >= 1000:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	case math.Abs(v) >= 0.1 || v == 0:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.4f", v)
}

// cells gives the columns of a row.
func (r row) cells() []string {
	ratio, limit := "-", ""
	if v := r.ratio(); !math.IsNaN(v) && !math.IsInf(v, 0) {
		ratio = fmt.Sprintf("%.3f", v)
	}
	if r.limit != 0 {
		if limit = fmt.Sprintf("%.3g", r.limit); r.absolute {
			limit = number(r.limit) + " " + r.unit
		}
	}
	return []string{r.name, r.unit, number(r.ours), number(r.theirs), ratio, limit, r.verdict()}
}

func (t *table) columns() []string {
	theirs := t.theirs
	if theirs == "" {
		theirs = "bpftrace"
	}
	return []string{"", "unit", t.ours, theirs, "ratio", "at most", ""}
}

// text is the table for the terminal.
func (t *table) text() string {
	var sb strings.Builder
	for _, f := range t.facts {
		sb.WriteString(f + "\n")
	}
	for _, g := range t.groups {
		lines := [][]string{t.columns()}
		for _, r := range g.rows {
			lines = append(lines, r.cells())
		}
		width := make([]int, len(lines[0]))
		for _, l := range lines {
			for i, c := range l {
				width[i] = max(width[i], utf8.RuneCountInString(c))
			}
		}
		fmt.Fprintf(&sb, "\n%s\n", g.title)
		for _, l := range lines {
			var out strings.Builder
			for i, c := range l {
				pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
				if i < 2 || i == len(l)-1 {
					out.WriteString(c + pad + "  ")
				} else {
					out.WriteString(pad + c + "  ")
				}
			}
			sb.WriteString("  " + strings.TrimRight(out.String(), " ") + "\n")
		}
	}
	for _, n := range t.notes {
		fmt.Fprintf(&sb, "note: %s\n", n)
	}
	if m := t.missed(); m > 0 {
		fmt.Fprintf(&sb, "\n%s\n", plural(m, "limit")+" missed")
	}
	return sb.String()
}

func (t *table) missed() int {
	n := 0
	for _, g := range t.groups {
		for _, r := range g.rows {
			if r.verdict() == "MISSED" {
				n++
			}
		}
	}
	return n
}

// method is what the page says about how its numbers came about.
//
//go:embed method.md
var method string

// page is the table as Markdown.
func (t *table) page() string {
	var sb strings.Builder
	sb.WriteString("# Performance\n\nWritten by `make bench-write`; do not edit. Smaller is better in every row. The ratio is that of the two numbers beside it, " +
		"measured in the same run; \"at most\" is what it may be.\n\n")
	for _, f := range t.facts {
		fmt.Fprintf(&sb, "- %s\n", f)
	}
	sb.WriteString(method)
	for _, g := range t.groups {
		fmt.Fprintf(&sb, "\n## %s\n\n", g.title)
		if g.remark != "" {
			fmt.Fprintf(&sb, "%s\n\n", g.remark)
		}
		cols := t.columns()
		fmt.Fprintf(&sb, "| %s |\n|---|---|---:|---:|---:|---:|---|\n", strings.Join(cols, " | "))
		for _, r := range g.rows {
			cells := r.cells()
			cells[0] = "`" + cells[0] + "`"
			if !strings.ContainsAny(r.name, "@{") {
				cells[0] = r.name
			}
			fmt.Fprintf(&sb, "| %s |\n", strings.Join(cells, " | "))
		}
	}
	if len(t.notes) > 0 {
		sb.WriteString("\n## Notes\n\n")
		for _, n := range t.notes {
			fmt.Fprintf(&sb, "- %s\n", n)
		}
	}
	return sb.String()
}

func (t *table) writePage(path string) error { return os.WriteFile(path, []byte(t.page()), 0o644) }

// median of the values; NaN of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Clone(v)
	slices.Sort(s)
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
