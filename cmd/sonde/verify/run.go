package verify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sonde-sh/sonde/runtime/lab"
)

// Item is a row to check.
type Item struct {
	// Path is how the user named it; Host is the absolute path of the file.
	Path, Host string
	// Files are what else it needs in a guest: imports, traced programs and their libraries.
	Files []lab.File
	// Names are what its probes name in the kernel.
	Names KernelNames
}

// Options say what to check and where.
type Options struct {
	Items   []Item
	Objects bool // the items are compiled BPF objects, not scripts
	// Kernels are specs: `running`, a name of the lab's catalogue, the path of a kernel image.
	Kernels []string
	Archs   []lab.Arch
	// Seconds is how long each script runs; 0 means that it is attached and taken down again.
	Seconds int
	Unsafe  bool
	// Init gives the static program of an architecture that is this program.
	Init func(lab.Arch) (string, error)
	// Here checks an item on the running kernel.
	Here func(context.Context, Item) Row
	// Release is that of the running kernel.
	Release   string
	Catalogue *lab.Catalogue
	// Modules are kernel modules to load beside those that the items name.
	Modules  []string
	Parallel int // guests at a time; 0 means one per CPU
	// Progress is told in a few words what begins; nil does without. It may be called from several goroutines.
	Progress func(string)
	// Limits that tests lower; 0 means guestTime, guestMemoryMiB and reportBytes.
	itemTime    time.Duration
	memoryMiB   int
	outputBytes int64
}

// guestTime is what a guest under emulation may take to compile and load one script, beside [Options.Seconds].
const guestTime = 2 * time.Minute

// reportBytes is more than the report of one row can be.
const reportBytes = 16 * MaxOutput

// guestMemoryMiB is the memory of a guest: its root, which holds this program and the traced ones, lives in it too.
const guestMemoryMiB = 768

// Run checks all items on all kernels. The error is about what was asked for, such as an unknown kernel; what goes wrong in a guest
// is in its column.
func Run(ctx context.Context, o *Options) (*Report, error) {
	r := &Report{Host: string(lab.HostArch())}
	var boots []lab.Kernel
	for _, arch := range o.Archs {
		for _, spec := range o.Kernels {
			if spec == "running" {
				if arch == lab.HostArch() {
					r.Columns = append(r.Columns, o.running(ctx))
				}
				continue
			}
			if err := lab.Available(arch); err != nil {
				return nil, err
			}
			k, err := o.Catalogue.Fetch(ctx, spec, arch)
			if err != nil {
				return nil, err
			}
			boots = append(boots, k)
		}
	}
	inits := map[lab.Arch]string{}
	for _, k := range boots {
		if _, ok := inits[k.Arch]; ok {
			continue
		}
		init, err := o.Init(k.Arch)
		if err != nil {
			return nil, err
		}
		inits[k.Arch] = init
	}
	first := make([]boot, len(boots))
	for i, k := range boots {
		first[i] = boot{kernel: k, items: o.Items}
		if err := o.bring(ctx, &first[i], o.named(o.Items)); err != nil {
			return nil, err
		}
	}
	columns := o.bootAll(ctx, first, inits)
	// A name that a kernel does not know may be that of a module that nobody has named.
	var second []boot
	var again []int
	for i := range columns {
		if columns[i].Failure != "" || ctx.Err() != nil {
			continue
		}
		b, err := o.retry(ctx, boots[i], &columns[i])
		switch {
		case err != nil:
			o.Catalogue.Say(lab.Message(err)) // the first answer stands
		case b != nil:
			second, again = append(second, *b), append(again, i)
		}
	}
	for j, c := range o.bootAll(ctx, second, inits) {
		columns[again[j]].replace(&c)
	}
	r.Columns = append(r.Columns, columns...)
	return r, ctx.Err()
}

// count says how many files are looked at.
func count(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

// bootAll runs guests and gives the column of each.
func (o *Options) bootAll(ctx context.Context, boots []boot, inits map[lab.Arch]string) []Column {
	kernels := make([]lab.Kernel, len(boots))
	of := map[lab.Kernel]*boot{}
	for i := range boots {
		kernels[i] = boots[i].kernel
		of[kernels[i]] = &boots[i]
	}
	outcomes := lab.Matrix(ctx, kernels, o.Parallel, func(k lab.Kernel) (lab.Config, error) {
		if o.Progress != nil {
			o.Progress(fmt.Sprintf("%s (%s): booting, for %s", k.Name, k.Arch, count(len(of[k].items))))
		}
		return o.config(of[k], inits[k.Arch]), nil
	})
	columns := make([]Column, len(boots))
	for i := range outcomes {
		columns[i] = column(&outcomes[i], boots[i].items)
		boots[i].note(&columns[i], outcomes[i].Result.Modules)
	}
	return columns
}

// replace puts the rows of another boot of the same kernel in the place of those that they answer again.
func (c *Column) replace(other *Column) {
	for _, row := range other.Rows {
		for i := range c.Rows {
			if c.Rows[i].Path == row.Path {
				c.Rows[i] = row
			}
		}
	}
	c.Modules = other.Modules
	if other.Failure != "" {
		c.Failure, c.Console = other.Failure, other.Console
	}
}

func (o *Options) running(ctx context.Context) Column {
	c := Column{Kernel: "running", Release: o.Release, Arch: string(lab.HostArch())}
	for _, it := range o.Items {
		c.Rows = append(c.Rows, o.Here(ctx, it))
	}
	return c
}

// config is the boot of one kernel: a job for each item, so that one that hangs is killed alone.
func (o *Options) config(b *boot, init string) lab.Config {
	c := lab.Config{Kernel: b.kernel, Init: init, MemoryMiB: cmp.Or(o.memoryMiB, guestMemoryMiB), CPUs: 2, Modules: b.modules}
	have := map[string]bool{"/init": true}
	add := func(f lab.File) {
		if !have[f.Path] {
			have[f.Path] = true
			c.Files = append(c.Files, f)
		}
	}
	for _, it := range b.items {
		add(lab.File{Path: it.Host, Host: it.Host, Mode: 0o644})
		for _, f := range it.Files {
			add(f)
		}
		args := []string{"/init", "verify", "--kernel", "running", "-f", "json", "--run", strconv.Itoa(o.Seconds)}
		if o.Objects {
			args = append(args, "--object")
		}
		if o.Unsafe {
			args = append(args, "--unsafe")
		}
		c.Jobs = append(c.Jobs, lab.Job{
			Args: append(args, "--", it.Host), Dir: filepath.Dir(it.Host),
			Timeout: cmp.Or(o.itemTime, guestTime) + time.Duration(o.Seconds)*time.Second, MaxOutputBytes: cmp.Or(o.outputBytes, reportBytes),
		})
	}
	return c
}

// column reads what a guest sent.
func column(out *lab.Outcome, items []Item) Column {
	res := &out.Result
	c := Column{Kernel: out.Kernel.Name, Release: res.Release, Arch: string(out.Kernel.Arch), Boot: res.Boot.Seconds()}
	if c.Release == "" {
		c.Release = out.Kernel.Release
	}
	if out.Err != nil {
		c.Failure = out.Err.Error()
		if le := (*lab.Error)(nil); errors.As(out.Err, &le) {
			c.Failure = fmt.Sprintf("%s: %s", le.Kind, le.Detail)
			c.Console = lastWords(le.Console, le.Detail)
		}
	}
	for i, it := range items {
		row := Row{Path: it.Path, State: Guest, Reason: c.Failure}
		if i < len(res.Jobs) {
			row = guestRow(it, &res.Jobs[i], c.Failure)
		}
		c.Rows = append(c.Rows, row)
	}
	return c
}

func guestRow(it Item, j *lab.JobResult, failure string) Row {
	row := Row{Path: it.Path, State: Guest, Seconds: j.Duration.Seconds(), Log: lastLines(string(j.Stderr), 15)}
	switch err := j.Err(); {
	case !j.Started:
		row.Reason = "not started"
	case !j.Ended:
		row.Reason = "running when the kernel failed"
	case j.Code < 0 || j.TimedOut || j.Flooded || j.OOMKilled || j.StartError != "":
		row.Reason = err.Error() // a guest that failed later has nothing to do with it
		return row
	default:
		var r Report
		if err := json.Unmarshal(j.Stdout, &r); err != nil || len(r.Columns) != 1 || len(r.Columns[0].Rows) != 1 {
			row.Reason = fmt.Sprintf("no report came back: exit status %d", j.Code)
			return row
		}
		got := r.Columns[0].Rows[0]
		got.Path = it.Path
		for i := range got.Diagnostics { // the guest has the file by its full path
			if d := &got.Diagnostics[i]; d.File == it.Host {
				d.File = it.Path
				d.Text = strings.ReplaceAll(d.Text, it.Host+":", it.Path+":")
			}
		}
		return got
	}
	if failure != "" {
		row.Reason += ": " + failure
	}
	return row
}

// consoleLines is how much of a console is kept.
const consoleLines = 15

// lastWords are the lines of a console that tell most: from the one with the detail on, else the last ones.
func lastWords(console, detail string) string {
	lines := strings.Split(strings.TrimRight(console, "\n"), "\n")
	for i, l := range lines {
		if detail != "" && strings.Contains(l, detail) {
			return strings.Join(lines[max(0, i-1):min(len(lines), max(0, i-1)+consoleLines)], "\n")
		}
	}
	return lastLines(console, consoleLines)
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
