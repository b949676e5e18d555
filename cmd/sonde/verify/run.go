package verify

import (
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
	Parallel  int // guests at a time; 0 means one per CPU
}

// guestTime is what a guest under emulation may take to compile and load one script.
const guestTime = 2 * time.Minute

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
	outcomes := lab.Matrix(ctx, boots, o.Parallel, func(k lab.Kernel) (lab.Config, error) { return o.config(k, inits[k.Arch]), nil })
	for i := range outcomes {
		r.Columns = append(r.Columns, o.column(&outcomes[i]))
	}
	return r, ctx.Err()
}

func (o *Options) running(ctx context.Context) Column {
	c := Column{Kernel: "running", Release: o.Release, Arch: string(lab.HostArch())}
	for _, it := range o.Items {
		c.Rows = append(c.Rows, o.Here(ctx, it))
	}
	return c
}

// config is the boot of one kernel: a job for each item, so that one that hangs is killed alone.
func (o *Options) config(k lab.Kernel, init string) lab.Config {
	c := lab.Config{Kernel: k, Init: init, MemoryMiB: guestMemoryMiB, CPUs: 2}
	have := map[string]bool{"/init": true}
	add := func(f lab.File) {
		if !have[f.Path] {
			have[f.Path] = true
			c.Files = append(c.Files, f)
		}
	}
	for _, it := range o.Items {
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
			Timeout: guestTime + time.Duration(o.Seconds)*time.Second,
		})
	}
	return c
}

// column reads what a guest sent.
func (o *Options) column(out *lab.Outcome) Column {
	res := &out.Result
	c := Column{Kernel: out.Kernel.Name, Release: res.Release, Arch: string(out.Kernel.Arch), Boot: res.Boot.Seconds()}
	if c.Release == "" {
		c.Release = out.Kernel.Release
	}
	if out.Err != nil {
		c.Failure = out.Err.Error()
		if le := (*lab.Error)(nil); errors.As(out.Err, &le) {
			c.Failure = fmt.Sprintf("%s: %s", le.Kind, le.Detail)
			c.Console = lastLines(le.Console, 15)
		}
	}
	for i, it := range o.Items {
		row := Row{Path: it.Path, State: Guest, Reason: c.Failure}
		if i < len(res.Jobs) {
			row = guestRow(it.Path, &res.Jobs[i], c.Failure)
		}
		c.Rows = append(c.Rows, row)
	}
	return c
}

func guestRow(path string, j *lab.JobResult, failure string) Row {
	row := Row{Path: path, State: Guest, Seconds: j.Duration.Seconds(), Log: lastLines(string(j.Stderr), 15)}
	switch err := j.Err(); {
	case !j.Started:
		row.Reason = "not started"
	case !j.Ended:
		row.Reason = "running when the kernel failed"
	case j.Code < 0 || j.TimedOut || j.Flooded || j.OOMKilled || j.StartError != "":
		row.Reason = err.Error()
		return row
	default:
		var r Report
		if err := json.Unmarshal(j.Stdout, &r); err != nil || len(r.Columns) != 1 || len(r.Columns[0].Rows) != 1 {
			row.Reason = fmt.Sprintf("no report came back: exit status %d", j.Code)
			return row
		}
		got := r.Columns[0].Rows[0]
		got.Path = path
		return got
	}
	if failure != "" {
		row.Reason += ": " + failure
	}
	return row
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
