package shell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sonde-sh/sonde/runtime/value"
)

// look is one question of the first look at a machine: the script that answers it and the map that holds the answer. Scripts use tracepoints
// and system calls only, so that they work where kprobes are not allowed. State that is no answer is in maps that begin with @_.
type look struct {
	title, question, script, answer, unit string
	div                                   float64 // what values are divided by for the unit
}

// The looks in the order in which an incident is worked on: does work wait for a CPU, what starts, what fails, disks, files, network, errors,
// what threads wait for, what the CPUs do.
func looks() []look {
	return []look{
		{
			"run queue", "how long do threads wait for a CPU?", `tracepoint:sched:sched_wakeup, tracepoint:sched:sched_wakeup_new { @_ready[args.pid] = nsecs; }
tracepoint:sched:sched_switch {
	if (args.prev_state == 0) { @_ready[args.prev_pid] = nsecs; }
	$t = @_ready[args.next_pid];
	if ($t != 0) { @runq_us = hist((nsecs - $t) / 1000); delete(@_ready, args.next_pid); }
}`, "@runq_us", "µs", 1,
		},
		{"new processes", "what starts, again and again?", `tracepoint:sched:sched_process_exec { @new_processes[str(args.filename, 64)] = count(); }`, "@new_processes", "", 1},
		{
			"opens that fail", "which files are missing?", `tracepoint:syscalls:sys_enter_openat { @_open[tid] = args.filename; }
tracepoint:syscalls:sys_exit_openat /@_open[tid]/ {
	if (args.ret < 0) { @failed_opens[comm, str(@_open[tid], 64), strerror(-args.ret)] = count(); }
	delete(@_open, tid);
}`, "@failed_opens", "", 1,
		},
		{
			"block I/O", "how long do disks take?", `tracepoint:block:block_rq_issue { @_issued[args.dev, args.sector] = nsecs; }
tracepoint:block:block_rq_complete /@_issued[args.dev, args.sector]/ {
	@block_us = hist((nsecs - @_issued[args.dev, args.sector]) / 1000);
	delete(@_issued, (args.dev, args.sector));
}`, "@block_us", "µs", 1,
		},
		{
			"file system", "which file operations take longer than 10 ms?", `tracepoint:syscalls:sys_enter_fsync, tracepoint:syscalls:sys_enter_fdatasync, tracepoint:syscalls:sys_enter_openat,
tracepoint:syscalls:sys_enter_unlinkat, tracepoint:syscalls:sys_enter_renameat2, tracepoint:syscalls:sys_enter_getdents64 { @_file[tid] = nsecs; }
tracepoint:syscalls:sys_exit_fsync, tracepoint:syscalls:sys_exit_fdatasync, tracepoint:syscalls:sys_exit_openat,
tracepoint:syscalls:sys_exit_unlinkat, tracepoint:syscalls:sys_exit_renameat2, tracepoint:syscalls:sys_exit_getdents64 /@_file[tid]/ {
	if (nsecs - @_file[tid] > 10000000) { @slow_files[comm, probe] = count(); }
	delete(@_file, tid);
}`, "@slow_files", "", 1,
		},
		{
			"TCP connects", "who connects where, who is connected to?", `tracepoint:sock:inet_sock_set_state /args.protocol == 6/ {
	if (args.newstate == 2) { @tcp["connect", comm, args.family == 2 ? ntop(args.daddr) : ntop(args.daddr_v6), args.dport] = count(); }
	if (args.oldstate == 3 && args.newstate == 1) { @tcp["accept", "", args.family == 2 ? ntop(args.saddr) : ntop(args.saddr_v6), args.sport] = count(); }
}`, "@tcp", "", 1,
		},
		{"TCP retransmits", "does the network lose packets?", `tracepoint:tcp:tcp_retransmit_skb { @retransmits[args.family == 2 ? ntop(args.daddr) : ntop(args.daddr_v6), args.dport] = count(); }`, "@retransmits", "", 1},
		{"syscall errors", "which system calls fail?", `tracepoint:raw_syscalls:sys_exit /args.ret < 0 && args.ret > -4096/ { @errors[comm, syscall_name(args.id), strerror(-args.ret)] = count(); }`, "@errors", "", 1},
		{
			"off CPU", "who waits for disks and locks (uninterruptible)?", `tracepoint:sched:sched_switch {
	if ((args.prev_state & 2) != 0) { @_off[args.prev_pid] = nsecs; }
	$o = @_off[args.next_pid];
	if ($o != 0) { @off_cpu_us[args.next_comm] = sum((nsecs - $o) / 1000); delete(@_off, args.next_pid); }
}`, "@off_cpu_us", "ms", 1000,
		},
		{"top stacks", "what do the CPUs do?", `profile:hz:49 /pid != 0/ { @stacks[comm, kstack(4)] = count(); }`, "@stacks", "", 1},
	}
}

// TriageReport is the first look at a machine.
type TriageReport struct {
	Host     string          `json:"host"`
	Kernel   string          `json:"kernel"`
	When     time.Time       `json:"when"`
	Seconds  float64         `json:"seconds"`
	System   []TriageRow     `json:"system"`
	Sections []TriageSection `json:"sections"`
	Cost     string          `json:"cost"`
	CPUShare float64         `json:"cpu_share_percent"`
}

// TriageSection answers one question.
type TriageSection struct {
	Title    string      `json:"title"`
	Question string      `json:"question"`
	Finding  string      `json:"finding"`
	Rows     []TriageRow `json:"rows,omitempty"`
	Hist     bool        `json:"histogram,omitempty"`
	Item     int         `json:"item,omitempty"` // of the session: its script can be attached again
	Script   string      `json:"script"`
	CPUShare float64     `json:"cpu_share_percent"`
	Missing  string      `json:"missing,omitempty"` // why there is no answer
	Quality  []string    `json:"data_quality,omitempty"`
}

// TriageRow is one line of an answer.
type TriageRow struct {
	Label string  `json:"label"`
	Value float64 `json:"value"`
	Text  string  `json:"text"`
}

// Triage looks at the machine for a time. Its scripts stay in the session as detached items. A canceled context ends it early, with what there
// is.
func (sh *Shell) Triage(ctx context.Context, length time.Duration) (*TriageReport, error) {
	sh.enableStats()
	r := &TriageReport{When: time.Now(), System: systemRows()}
	r.Host, _ = os.Hostname()
	r.Kernel, _ = sh.cfg.Kernel.Release()
	list := looks()
	items := make([]*item, len(list))
	r.Sections = make([]TriageSection, len(list))
	for i, l := range list {
		r.Sections[i] = TriageSection{Title: l.title, Question: l.question, Script: l.script}
		it, why := sh.attachQuietly(l.script)
		if why != "" {
			r.Sections[i].Missing = why
			continue
		}
		items[i] = it
		r.Sections[i].Item = it.id
	}
	if !slices.ContainsFunc(items, func(it *item) bool { return it != nil }) {
		return nil, hintf("run as root, or with CAP_BPF and CAP_PERFMON", "nothing can be traced here: %s", r.Sections[len(list)-1].Missing)
	}
	start := time.Now()
	select {
	case <-time.After(length):
	case <-ctx.Done():
	}
	r.Seconds = time.Since(start).Seconds()
	var wg sync.WaitGroup
	for i, it := range items {
		if it == nil {
			continue
		}
		sec := &r.Sections[i]
		sh.mu.Lock()
		s := it.session
		sh.mu.Unlock()
		if s != nil {
			sec.Quality, _ = s.QualityReport()
		}
		wg.Go(func() { sh.stop(it) }) // all at once: the waits of a detach are not part of the answers
	}
	wg.Wait()
	for i, it := range items {
		if it == nil {
			continue
		}
		sec := &r.Sections[i]
		for _, st := range it.stats {
			sec.CPUShare += 100 * st.CPU
		}
		r.CPUShare += sec.CPUShare
		if err := sh.answer(sec, list[i]); err != nil {
			sec.Missing = err.Error()
		}
	}
	r.Cost = fmt.Sprintf("%.2f%% of one CPU of %d over %.0f s", r.CPUShare, runtime.NumCPU(), r.Seconds)
	return r, nil
}

// attachQuietly attaches a script as an item without a word; why says what is missing.
func (sh *Shell) attachQuietly(script string) (it *item, why string) {
	u := newUnit("triage", script)
	u.parse()
	if u.diags.HasErrors() || !sh.check(u) {
		return nil, firstMessage(u)
	}
	if err := sh.generate(u, 0); err != nil {
		return nil, err.Error()
	}
	u.quiet = true
	it = &item{text: script, unit: u}
	if err := sh.attach(context.Background(), it, time.Now()); err != nil {
		return nil, err.Error()
	}
	return it, ""
}

func firstMessage(u *unit) string {
	for _, d := range u.diags.All() {
		return d.Message
	}
	return "the script does not compile here"
}

// answer reads the map of a look.
func (sh *Shell) answer(sec *TriageSection, l look) error {
	list, _, err := sh.entries(l.answer)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		sec.Finding = "nothing"
		return nil
	}
	if h := list[0].row.Val.Hist; h != nil {
		sec.Hist = true
		sec.Rows = histRows(h, l.unit)
		sec.Finding = percentiles(h, l.unit)
		return nil
	}
	slices.Reverse(list)
	total := 0.0
	for _, e := range list {
		total += e.n
	}
	for _, e := range list[:min(10, len(list))] {
		v := e.n / l.div
		text := fmt.Sprintf("%.0f", v)
		if l.unit != "" {
			text = fmt.Sprintf("%.1f %s", v, l.unit)
		}
		label := strings.Join(strings.Fields(e.key), " ")
		if head, ok := strings.CutSuffix(label, ","); ok {
			label = head + ", in user space" // an empty stack of the kernel
		}
		sec.Rows = append(sec.Rows, TriageRow{Label: label, Value: v, Text: text})
	}
	noun := fmt.Sprintf("%s in all, %d different", group(int(total/l.div)), len(list))
	if l.unit != "" {
		noun = fmt.Sprintf("%.1f %s in all, %d different", total/l.div, l.unit, len(list))
	}
	sec.Finding = noun
	return nil
}

func histRows(h *value.Hist, unit string) []TriageRow {
	var rows []TriageRow
	for i, n := range h.Counts {
		label := "[" + h.Bounds[i].Label + ", " + h.Bounds[i+1].Label + ") " + unit
		rows = append(rows, TriageRow{Label: label, Value: float64(n), Text: group(int(n))})
	}
	return rows
}

// percentiles says below what half and 99 % of the values are: the upper bounds of their buckets.
func percentiles(h *value.Hist, unit string) string {
	var total uint64
	for _, n := range h.Counts {
		total += n
	}
	below := func(part float64) string {
		var sum uint64
		for i, n := range h.Counts {
			if sum += n; float64(sum) >= part*float64(total) {
				b := h.Bounds[i+1]
				if unit == "µs" {
					return shortDuration(time.Duration(b.Value) * time.Microsecond)
				}
				return strings.TrimSpace(b.Label + " " + unit)
			}
		}
		return "?"
	}
	return fmt.Sprintf("%s: half below %s, 99%% below %s, all below %s", group(int(total)), below(0.5), below(0.99), below(1))
}

// systemRows are what the kernel counts without being traced.
func systemRows() []TriageRow {
	var rows []TriageRow
	add := func(label, text string) { rows = append(rows, TriageRow{Label: label, Text: strings.TrimSpace(text)}) }
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		f := strings.Fields(string(b))
		if len(f) >= 4 {
			add("load", fmt.Sprintf("%s %s %s on %d CPUs, %s threads run", f[0], f[1], f[2], runtime.NumCPU(), f[3]))
		}
	}
	for _, what := range []string{"cpu", "memory", "io"} {
		if b, err := os.ReadFile(path.Join("/proc/pressure", what)); err == nil {
			line, _, _ := strings.Cut(string(b), " total")
			add(what+" pressure", strings.ReplaceAll(line, "some ", "")+" (% of time, somebody waits)")
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		m := map[string]string{}
		for line := range strings.Lines(string(b)) {
			k, v, _ := strings.Cut(line, ":")
			m[k] = strings.TrimSpace(v)
		}
		add("memory", fmt.Sprintf("%s available of %s, swap free %s of %s", m["MemAvailable"], m["MemTotal"], m["SwapFree"], m["SwapTotal"]))
	}
	return rows
}

// Format gives the report as text, json or html.
func (r *TriageReport) Format(format string, width int) (string, error) {
	switch format {
	case "text":
		return r.Text(width), nil
	case "json":
		b, err := json.MarshalIndent(r, "", "  ")
		return string(b) + "\n", err
	case "html":
		return r.HTML(), nil
	}
	return "", errors.New("the format is not one of text, json, html")
}

// shownRows is how many rows of an answer the one screen has room for.
const shownRows = 3

// Text is the report on one screen.
func (r *TriageReport) Text(width int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, Linux %s, %.0f s from %s\n", r.Host, r.Kernel, r.Seconds, r.When.Format("2006-01-02 15:04:05"))
	for _, row := range r.System {
		fmt.Fprintf(&b, "  %-16s %s\n", row.Label, cut(row.Text, width-19))
	}
	for _, s := range r.Sections {
		item := ""
		if s.Item > 0 {
			item = fmt.Sprintf(" #%d", s.Item)
		}
		switch {
		case s.Missing != "":
			fmt.Fprintf(&b, "%-16s%-4s %s\n", s.Title, item, cut("not available here: "+oneLine(s.Missing, 200), width-22))
			continue
		default:
			fmt.Fprintf(&b, "%-16s%-4s %s\n", s.Title, item, cut(s.Finding, width-22))
		}
		if s.Hist {
			continue
		}
		for _, row := range s.Rows[:min(shownRows, len(s.Rows))] {
			fmt.Fprintf(&b, "  %12s  %s\n", row.Text, cut(row.Label, width-17))
		}
		for _, q := range s.Quality {
			fmt.Fprintf(&b, "  WARNING: %s\n", cut(q, width-11))
		}
	}
	fmt.Fprintf(&b, "cost: %s; \\d #N shows a script, \\attach #N goes on\n", r.Cost)
	return b.String()
}

// HTML is the report as one file with charts.
func (r *TriageReport) HTML() string {
	var b strings.Builder
	esc := html.EscapeString
	fmt.Fprintf(&b, "<p>%s, Linux %s, %.0f seconds from %s. Cost: %s.</p>\n<table>", esc(r.Host), esc(r.Kernel), r.Seconds, r.When.Format(time.RFC1123), esc(r.Cost))
	for _, row := range r.System {
		fmt.Fprintf(&b, "<tr><th>%s<td>%s</tr>", esc(row.Label), esc(row.Text))
	}
	b.WriteString("</table>\n")
	for _, s := range r.Sections {
		fmt.Fprintf(&b, "<h2>%s</h2><p>%s <strong>%s</strong></p>\n", esc(s.Title), esc(s.Question), esc(s.Finding))
		if s.Missing != "" {
			fmt.Fprintf(&b, "<p>not available here: %s</p>\n", esc(s.Missing))
		}
		b.WriteString(chart(s.Rows))
		for _, q := range s.Quality {
			fmt.Fprintf(&b, "<p>WARNING: %s</p>\n", esc(q))
		}
		fmt.Fprintf(&b, "<details><summary>script, %.3f%% of a CPU</summary><pre>%s</pre></details>\n", s.CPUShare, esc(s.Script))
	}
	return page("sonde triage: "+r.Host, b.String())
}

// chart draws rows as bars.
func chart(rows []TriageRow) string {
	if len(rows) == 0 {
		return ""
	}
	largest, label := 0.0, 0
	for _, r := range rows {
		largest = max(largest, r.Value)
		label = max(label, len([]rune(cut(r.Label, 70))))
	}
	const line, bar = 18, 380
	left := 8*label + 12
	var b strings.Builder
	fmt.Fprintf(&b, `<svg width="%d" height="%d" role="img">`, left+bar+140, line*len(rows)+4)
	for i, r := range rows {
		w := 0.0
		if largest > 0 {
			w = bar * r.Value / largest
		}
		y := line * i
		fmt.Fprintf(&b, `<text x="0" y="%d">%s</text><rect class="bar" x="%d" y="%d" width="%.1f" height="%d"/><text x="%.0f" y="%d">%s</text>`,
			y+13, html.EscapeString(cut(r.Label, 70)), left, y+3, w, line-5, float64(left)+w+6, y+13, html.EscapeString(r.Text))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
