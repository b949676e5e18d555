package seccomp

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// ShowOptions choose what [Profile.Show] prints.
type ShowOptions struct {
	Counts  bool // order by count, not by name
	Details bool // per call: programs, threads, example, stack, runs
}

// Show prints a profile as a table.
func (p *Profile) Show(w io.Writer, o ShowOptions) error {
	p.sort()
	out := &printer{w: w}
	out.f("%s on %s", p.Tool, p.ABI)
	if p.Kernel != "" {
		out.f(", Linux %s", p.Kernel)
	}
	out.f("\n")
	for i, r := range p.Runs {
		out.f("run %d: %s\n", i+1, r.summary())
		for _, k := range lostKeys(r.Lost) {
			out.f("    LOST %d: %s\n", r.Lost[k], k)
		}
	}
	calls := slices.Clone(p.Calls)
	if o.Counts {
		slices.SortStableFunc(calls, func(a, b *Call) int { return cmp.Compare(b.Count, a.Count) })
	}
	start := time.Time{}
	for _, r := range p.Runs {
		if start.IsZero() || r.Started.Before(start) {
			start = r.Started
		}
	}
	out.f("\n%d calls\n", len(calls))
	learned := slices.ContainsFunc(calls, func(c *Call) bool { return c.Args != nil })
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	row := func(cells ...string) {
		if !learned {
			cells = cells[:len(cells)-1]
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	row("CALL", "COUNT", "RUNS", "FIRST", "PROGRAM", "THREADS", "ARGUMENTS")
	for _, c := range calls {
		name := callLabel(p.ABI, c.ABI, c.Name)
		if c.Origin != OriginRecorded {
			name += " [" + string(c.Origin) + "]"
		}
		first := "-"
		if !c.First.IsZero() && !start.IsZero() {
			first = "+" + c.First.Sub(start).Round(10*time.Microsecond).String()
		}
		args := ""
		if c.Args != nil {
			args = c.Args.String()
		}
		row(name, strconv.FormatUint(c.Count, 10), p.runsOf(c), first, orDash(filepath.Base(c.Program)), orDash(short(c.Threads, 3)), args)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(table.String(), "\n"), "\n")
	out.f("%s\n", strings.TrimRight(lines[0], " "))
	for i, c := range calls {
		out.f("%s\n", strings.TrimRight(lines[i+1], " "))
		if o.Details {
			c.details(out)
		}
	}
	p.showRuns(out)
	if len(p.Denials) > 0 {
		out.f("\n%d denied\n", len(p.Denials))
		for _, d := range p.Denials {
			out.f("    %s\n", d.String(p.ABI))
			for _, f := range d.Stack {
				out.f("        %s\n", f)
			}
		}
	}
	return out.err
}

// Counted is a number with its noun.
func Counted(n uint64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

func (r *Run) summary() string {
	s := r.Target
	if len(r.Command) > 0 {
		s = strings.Join(r.Command, " ")
	}
	s += fmt.Sprintf(": %s of %s in %v", Counted(r.Calls, "call"), Counted(r.Tasks, "thread"), r.Duration.Round(time.Millisecond))
	if len(r.Programs) > 0 {
		s += ", " + Counted(uint64(len(r.Programs)), "program")
	}
	if r.Exit != "" {
		s += ", " + r.Exit
	}
	if r.Runtime != nil {
		s += fmt.Sprintf(", container of %s %s, no_new_privs %v", r.Runtime.Name, r.Runtime.Version, r.Runtime.NoNewPrivileges)
	}
	return s
}

// runsOf says in how many runs a call was made, of how many.
func (p *Profile) runsOf(c *Call) string {
	n := p.Unseen().Samples
	if c.Origin != OriginRecorded || n == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", len(c.Runs), n)
}

// showRuns says with numbers what another run added, which is the reason to record several.
func (p *Profile) showRuns(out *printer) {
	u := p.Unseen()
	if u.Samples < 2 {
		return
	}
	only := p.OnlyIn()
	out.f("\n")
	for i, r := range p.Runs {
		if cs := only[r.ID]; len(cs) > 0 {
			names := make([]string, len(cs))
			for j, c := range cs {
				names[j] = callLabel(p.ABI, c.ABI, c.Name)
			}
			out.f("calls that appeared only in run %d: %s\n", i+1, strings.Join(names, " "))
		}
	}
	out.f("%d runs; seen in one run only: %s, in two: %d; estimate of what is still unseen: at least %.1f\n", u.Samples, Counted(uint64(u.Once), "call"), u.Twice, u.Missing)
}

func (c *Call) details(w io.Writer) {
	if c.Program != "" {
		fmt.Fprintf(w, "    first by %s\n", c.Program)
	}
	if len(c.Example) > 0 {
		fmt.Fprintf(w, "    example %s\n", invocation(c.Name, c.Name, c.Example))
	}
	for _, q := range c.Programs {
		fmt.Fprintf(w, "    %d by %s\n", q.Count, q.Path)
	}
	if len(c.Threads) > 3 {
		fmt.Fprintf(w, "    threads: %s\n", strings.Join(c.Threads, ", "))
	}
	for _, f := range c.Stack {
		fmt.Fprintf(w, "        %s\n", f)
	}
}

// String says who was refused what.
func (d *Denial) String(native ABI) string {
	s := invocation(callLabel(native, d.ABI, d.Name), d.Name, d.Example)
	if d.Result != 0 { // 0 for a call that was let through
		s += " = " + resultText(d.Result)
	}
	if d.Count > 1 {
		s += fmt.Sprintf(", %d times", d.Count)
	}
	if d.Program != "" {
		s += ", " + d.Program
	}
	if d.Thread != "" {
		s += fmt.Sprintf(", thread %s", d.Thread)
	}
	if d.PID != 0 {
		s += fmt.Sprintf(" of process %d", d.PID)
	}
	return s
}

func short(list []string, n int) string {
	if len(list) <= n {
		return strings.Join(list, ",")
	}
	return fmt.Sprintf("%s,+%d", strings.Join(list[:n], ","), len(list)-n)
}

func orDash(s string) string {
	if s == "" || s == "." {
		return "-"
	}
	return s
}

func lostKeys(m map[string]uint64) []string {
	var out []string
	for k, n := range m {
		if n > 0 {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// printer remembers the first error, so that printing needs no check per line.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) Write(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.w.Write(b)
	p.err = err
	return n, err
}
