// Labrun boots lab kernels for developers:
//
//	labrun -kernel 6.12 -- ./binary args         a static program
//	labrun -kernel all -test ./runtime/attach    a package's tests
//	labrun -kernel all -test ./... -json         in the format of go test -json
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sonde-sh/sonde/runtime/lab"
)

func main() {
	lab.Init() // this program is also the guest's init
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

type options struct {
	kernels  string
	arch     lab.Arch
	test     string
	json     bool
	parallel int
	timeout  time.Duration
	config   lab.Config
	args     []string
	stdout   io.Writer
	stderr   io.Writer
	verbose  bool
}

func run(ctx context.Context, argv []string, stdout, stderr io.Writer) int {
	o, catalogue, err := parse(argv, stdout, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "labrun:", err)
		return 2
	}
	ok, err := o.run(ctx, catalogue)
	if err != nil {
		fmt.Fprintln(stderr, "labrun:", err)
		return 1
	}
	if !ok {
		return 1
	}
	return 0
}

func parse(argv []string, stdout, stderr io.Writer) (*options, *lab.Catalogue, error) {
	o := &options{stdout: stdout, stderr: stderr}
	c := lab.NewCatalogue()
	fs := flag.NewFlagSet("labrun", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.kernels, "kernel", "all", "`specs`, comma-separated: "+strings.Join(lab.Names(), ", ")+", all, or the path of a vmlinuz")
	arch := fs.String("arch", string(lab.HostArch()), "`architecture`: amd64 or arm64")
	fs.StringVar(&o.test, "test", "", "`package` whose tests to run; what follows -- goes to the test binary")
	fs.BoolVar(&o.json, "json", false, "with -test: print as go test -json does, package names with @kernel added")
	fs.IntVar(&o.parallel, "parallel", 0, "guests at a `time`, 0 means one per host CPU")
	fs.DurationVar(&o.timeout, "timeout", 5*time.Minute, "`limit` for the command, on the guest's clock")
	fs.IntVar(&o.config.MemoryMiB, "memory", 2048, "guest memory in `MiB`")
	fs.IntVar(&o.config.CPUs, "cpus", 2, "guest `CPUs`")
	fs.StringVar(&o.config.Cmdline, "append", "", "`words` added to the kernel command line")
	fs.BoolVar(&o.config.ICount, "icount", false, "count instructions: the guest's clock advances 1 ns per instruction")
	fs.BoolVar(&o.verbose, "v", false, "show boot times and the console's end")
	fs.StringVar(&c.Mirror, "mirror", "", "`address` of a Debian archive instead of apt's")
	fs.BoolVar(&c.Refresh, "refresh", false, "fetch kernels again")
	if err := fs.Parse(argv); err != nil {
		return nil, nil, err
	}
	o.args = fs.Args()
	if o.test == "" && len(o.args) == 0 {
		return nil, nil, errors.New("nothing to run: give -test PACKAGE, or -- BINARY ARGS")
	}
	var err error
	if o.arch, err = lab.ParseArch(*arch); err != nil {
		return nil, nil, err
	}
	c.Log = func(s string) { fmt.Fprintln(stderr, "labrun:", s) }
	return o, c, nil
}

// load is what one boot runs.
type load struct {
	name  string // of the command or package
	files []lab.File
	job   lab.Job
}

func (o *options) run(ctx context.Context, c *lab.Catalogue) (bool, error) {
	if err := lab.Available(o.arch); err != nil {
		return false, err
	}
	dir, err := os.MkdirTemp("", "labrun-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if o.config.Init, err = o.initBinary(ctx, dir); err != nil {
		return false, err
	}
	loads, err := o.loads(ctx, dir)
	if err != nil {
		return false, err
	}
	var kernels []lab.Kernel
	for _, spec := range lab.ParseSpecs(o.kernels) {
		k, err := o.fetch(ctx, c, spec)
		if err != nil {
			return false, err
		}
		kernels = append(kernels, k)
	}
	if len(kernels) == 0 {
		return false, errors.New("no kernel given")
	}
	ok := true
	outcomes := lab.Matrix(ctx, kernels, o.parallel, func(lab.Kernel) (lab.Config, error) {
		cfg := o.config
		for _, l := range loads {
			cfg.Files = append(cfg.Files, l.files...)
			cfg.Jobs = append(cfg.Jobs, l.job)
		}
		return cfg, nil
	})
	for _, out := range outcomes {
		if !o.report(out, loads) {
			ok = false
		}
	}
	return ok, nil
}

// fetch gets a kernel. An archive that is changing at the moment, or a network that fails, gets two more chances.
func (o *options) fetch(ctx context.Context, c *lab.Catalogue, spec string) (k lab.Kernel, err error) {
	for n := range 3 {
		if n > 0 {
			c.Say(err.Error() + "; once more in 20 s")
			select {
			case <-ctx.Done():
				return k, context.Cause(ctx)
			case <-time.After(20 * time.Second):
			}
		}
		k, err = c.Fetch(ctx, spec, o.arch)
		var missing *lab.MissingError
		if err == nil || errors.Is(err, lab.ErrNoKernel) || errors.As(err, &missing) || strings.Contains(spec, "/") {
			break
		}
	}
	return k, err
}

// initBinary returns a static binary that calls lab.Init: this program, or the
// same built again when this one does not run in the guest.
func (o *options) initBinary(ctx context.Context, dir string) (string, error) {
	self, err := os.Executable()
	if err == nil && lab.CheckStatic(self, o.arch) == nil {
		return self, nil
	}
	out := filepath.Join(dir, "init")
	return out, o.build(ctx, "build", "-o", out, "github.com/sonde-sh/sonde/runtime/lab/labrun")
}

func (o *options) build(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+string(o.arch))
	cmd.Stdout, cmd.Stderr = o.stderr, o.stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

func (o *options) loads(ctx context.Context, dir string) ([]load, error) {
	if o.test == "" {
		bin := "/bin/" + filepath.Base(o.args[0])
		if err := lab.CheckStatic(o.args[0], o.arch); err != nil {
			return nil, err
		}
		return []load{{
			name:  filepath.Base(o.args[0]),
			files: []lab.File{{Path: bin, Host: o.args[0]}},
			job:   lab.Job{Args: append([]string{bin}, o.args[1:]...), Timeout: o.timeout},
		}}, nil
	}
	out, err := exec.CommandContext(ctx, "go", append([]string{
		"list", "-f",
		"{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}",
	}, strings.Fields(o.test)...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", o.test, err)
	}
	var loads []load
	for line := range strings.Lines(string(out)) {
		importPath, pkgDir, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		l, err := o.testLoad(ctx, dir, len(loads), importPath, pkgDir)
		if err != nil {
			return nil, err
		}
		loads = append(loads, l)
	}
	if len(loads) == 0 {
		return nil, fmt.Errorf("%s has no tests", o.test)
	}
	return loads, nil
}

func (o *options) testLoad(ctx context.Context, dir string, n int, importPath, pkgDir string) (load, error) {
	bin := filepath.Join(dir, fmt.Sprintf("%d.test", n))
	if err := o.build(ctx, "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", bin, importPath); err != nil {
		return load{}, err
	}
	guestDir := "/src/" + importPath
	guestBin := "/bin/" + strings.ReplaceAll(importPath, "/", "_") + ".test"
	l := load{name: importPath, files: []lab.File{{Path: guestBin, Host: bin}}}
	mode := "-test.v=true"
	if o.json {
		mode = "-test.v=test2json"
	}
	l.job = lab.Job{
		Args:    append([]string{guestBin, mode, "-test.timeout=" + o.timeout.String()}, o.args...),
		Dir:     guestDir,
		Timeout: o.timeout + 10*time.Second,
	}
	var err error
	if l.files, err = hostFiles(l.files, filepath.Join(pkgDir, "testdata", "host-files")); err != nil {
		return l, err
	}
	err = filepath.WalkDir(filepath.Join(pkgDir, "testdata"), func(p string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(pkgDir, p)
		l.files = append(l.files, lab.File{Path: guestDir + "/" + filepath.ToSlash(rel), Host: p, Mode: 0o644})
		return err
	})
	return l, err
}

// hostFiles adds the files of this machine that a package's tests look at in the guest too, at the same place: list has a pattern on each line. What
// is not installed is left out; the tests skip then.
func hostFiles(files []lab.File, list string) ([]lab.File, error) {
	text, err := os.ReadFile(list)
	if errors.Is(err, os.ErrNotExist) {
		return files, nil
	} else if err != nil {
		return nil, err
	}
	for pattern := range strings.FieldsSeq(string(text)) {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", list, err)
		}
		for _, f := range found {
			files = append(files, lab.File{Path: f, Host: f, Mode: 0o644})
		}
	}
	return files, nil
}

// report prints what a guest gave and tells whether all went well.
func (o *options) report(out lab.Outcome, loads []load) bool {
	ok := out.Err == nil
	head := o.stdout
	if o.json {
		head = o.stderr
	}
	fmt.Fprintf(head, "=== %s (%s), boot %.1f s, total %.1f s, %s\n", out.Kernel.Name, out.Kernel,
		out.Result.Boot.Seconds(), out.Result.Total.Seconds(), out.Result.Accel)
	for i, r := range out.Result.Jobs {
		err := r.Err()
		if err != nil {
			ok = false
		}
		if o.json {
			o.emitJSON(loads[i].name+"@"+out.Kernel.Name, &r, out.Err)
			continue
		}
		o.stdout.Write(r.Stdout)
		o.stdout.Write(r.Stderr)
		if err != nil {
			fmt.Fprintf(o.stdout, "--- %s: %v\n", loads[i].name, err)
		}
	}
	if out.Err != nil {
		fmt.Fprintf(head, "--- %v\n", out.Err)
	}
	if o.verbose || out.Err != nil {
		fmt.Fprintf(o.stderr, "console:\n%s\n", out.Result.Console)
	}
	return ok
}
