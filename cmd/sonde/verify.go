package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/cmd/sonde/verify"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/lab"
	"github.com/sonde-sh/sonde/runtime/symbol"
)

const verifyUsage = `USAGE: sonde verify [OPTIONS] SCRIPT...
       sonde verify [OPTIONS] --object FILE.o...

Says for each kernel whether a script compiles there, whether the verifier takes it, whether its probes attach, and with --run what it
prints. Kernels other than the running one are booted under QEMU; no root is needed for them.

    --kernel SPEC      a catalogue name or release (5.10, debian:12, newest), the path of a vmlinuz or of its package
                       (.deb), ` + "`running`" + `, or ` + "`all`" + ` (default); may be repeated, or a list with commas
    --arch LIST        x86_64, arm64; default: this machine's
    --guest FILE       sonde built for the other architecture; default: sonde-ARCH beside this program
    --run SECONDS      run each script that long and show what it prints
    --object           the files are compiled BPF objects
    --unsafe           allow actions
    --module LIST      kernel modules to load, beside those that the probes name
    -f FORMAT          text, json or junit
    --parallel N       guests at a time; default: one for each CPU
    --mirror URL       a Debian archive in place of the one that apt is configured with

EXIT STATUS: 0 all fine, 1 something is refused somewhere, 2 wrong usage, 3 a kernel could not be tested
`

// verifyOptions are the command line of sonde verify.
type verifyOptions struct {
	kernels        []string // specs, `all` spelled out
	archs          []lab.Arch
	guest, format  string
	mirror         string
	run, parallel  int
	object, unsafe bool
	modules        []string
	files          []string
}

func parseVerify(argv []string) (*verifyOptions, error) {
	o := &verifyOptions{}
	fs := pflag.NewFlagSet("verify", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	fs.StringSliceVar(&o.kernels, "kernel", []string{"all"}, "")
	var archs []string
	fs.StringSliceVar(&archs, "arch", []string{string(lab.HostArch())}, "")
	fs.StringVar(&o.guest, "guest", "", "")
	fs.StringVar(&o.mirror, "mirror", "", "")
	fs.StringVarP(&o.format, "format", "f", "text", "")
	fs.IntVar(&o.run, "run", 0, "")
	fs.IntVar(&o.parallel, "parallel", 0, "")
	fs.BoolVar(&o.object, "object", false, "")
	fs.BoolVar(&o.unsafe, "unsafe", false, "")
	fs.StringSliceVar(&o.modules, "module", nil, "")
	if err := fs.Parse(argv); err != nil {
		return nil, flagError(err)
	}
	o.files = fs.Args()
	var specs []string
	for _, s := range o.kernels {
		specs = append(specs, lab.ParseSpecs(s)...)
	}
	o.kernels = specs
	for _, s := range archs {
		a, err := lab.ParseArch(s)
		if err != nil {
			return nil, usagef("%s", lab.Message(err))
		}
		o.archs = append(o.archs, a)
	}
	switch {
	case len(o.files) == 0:
		return nil, usagef("no script given")
	case len(o.kernels) == 0:
		return nil, usagef("no kernel given: use one of %s, running, all, or the path of a kernel image or of its package", strings.Join(lab.Names(), ", "))
	case len(o.archs) == 0:
		return nil, usagef("no architecture given: use x86_64 or arm64")
	case !o.boots() && !slices.Contains(o.archs, lab.HostArch()):
		return nil, usagef("the running kernel is for %s", lab.HostArch())
	case !o.boots() && len(o.modules) > 0:
		return nil, usagef("--module is for kernels that are booted: nothing is loaded into the running one")
	case o.parallel < 0:
		return nil, usagef("--parallel takes a number of guests, not %d", o.parallel)
	case o.format != "text" && o.format != "json" && o.format != "junit":
		return nil, usagef("unknown format `%s`: use text, json or junit", o.format)
	case o.run < 0:
		return nil, usagef("--run takes a number of seconds, not %d", o.run)
	case o.run > 0 && o.object:
		return nil, usagef("--run needs scripts: an object does not say how to attach and print")
	}
	return o, nil
}

// runVerify is the sub-command `verify`.
func runVerify(ctx context.Context, argv []string, std stdio) int {
	o, err := parseVerify(argv)
	if errors.Is(err, pflag.ErrHelp) {
		printHelp(std.out, verifyUsage)
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(std.err, "ERROR: %v\nHINT: run `sonde verify --help` for the options\n", err)
		return exitUsage
	}
	r, err := o.verify(ctx, std)
	if err != nil {
		code := verifyFailed(std, err)
		if errors.Is(err, lab.ErrNoKernel) {
			fmt.Fprintln(std.err, "HINT: `running` is the kernel of this machine, `all` are those that have a name")
		}
		return code
	}
	print := map[string]func(io.Writer, *verify.Report) error{"text": verify.Table, "json": verify.JSON, "junit": verify.JUnit}[o.format]
	if err := print(std.out, r); err != nil {
		fmt.Fprintf(std.err, "ERROR: %v\n", err)
		return exitInternal
	}
	switch {
	case r.Broken():
		return exitKernel
	case !r.OK():
		return exitUser
	}
	return exitOK
}

// verifyFailed explains what kept the lab from starting.
func verifyFailed(std stdio, err error) int {
	fmt.Fprintf(std.err, "ERROR: %s\n", lab.Message(err))
	var us *userError
	switch {
	case errors.Is(err, lab.ErrNoKernel):
		return exitUsage
	case errors.As(err, &us):
		if us.hint != "" {
			fmt.Fprintf(std.err, "HINT: %s\n", us.hint)
		}
		return exitUser
	}
	return exitKernel
}

// flagError is an error of the flag package in its own words, without those of the number parser.
func flagError(err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	text, _, _ := strings.Cut(err.Error(), ": strconv.")
	return usagef("%s", text)
}

func (o *verifyOptions) verify(ctx context.Context, std stdio) (*verify.Report, error) {
	v := &verify.Options{
		Kernels: o.kernels, Archs: o.archs, Objects: o.object, Seconds: o.run, Unsafe: o.unsafe, Parallel: o.parallel, Release: kernelRelease(),
		Catalogue: lab.NewCatalogue(), Modules: o.modules, Init: func(a lab.Arch) (string, error) { return guestBinary(a, o.guest) }, Here: o.here,
	}
	v.Catalogue.Mirror = o.mirror
	v.Catalogue.Log = func(s string) { fmt.Fprintln(std.err, s) }
	if f, ok := std.err.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		v.Progress = v.Catalogue.Log // guests under emulation take a minute
	}
	for _, f := range o.files {
		host, err := filepath.Abs(f)
		if err != nil {
			return nil, err
		}
		if st, err := os.Stat(host); err != nil {
			return nil, &userError{fmt.Sprintf("cannot open `%s`: %v", f, errors.Unwrap(err)), "give the path of a script"}
		} else if !st.Mode().IsRegular() {
			return nil, &userError{fmt.Sprintf("`%s` is no file", f), "give the path of a script"}
		}
		it := verify.Item{Path: f, Host: host}
		if !o.object && o.boots() {
			it.Files, it.Names = companions(host, o.unsafe)
		}
		v.Items = append(v.Items, it)
	}
	return verify.Run(ctx, v)
}

// boots tells whether a guest is needed.
func (o *verifyOptions) boots() bool {
	for _, s := range o.kernels {
		if s != "running" {
			return true
		}
	}
	return false
}

// guestBinary is the program that a guest of an architecture runs: this one, or one built for it, which guest may name.
func guestBinary(arch lab.Arch, guest string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if arch == lab.HostArch() {
		if err := lab.CheckStatic(self, arch); err != nil {
			return "", &userError{fmt.Sprintf("this sonde cannot run in a guest: %s", lab.Message(err)), "build it with `make build`, or CGO_ENABLED=0"}
		}
		return self, nil
	}
	if guest == "" {
		guest = filepath.Join(filepath.Dir(self), "sonde-"+string(arch))
	}
	if err := lab.CheckStatic(guest, arch); err != nil {
		return "", &userError{
			fmt.Sprintf("no sonde for %s: %s", arch, lab.Message(err)),
			fmt.Sprintf("build one with `make build-%s`, or name it with --guest", arch),
		}
	}
	return guest, nil
}

// here checks one item on the running kernel.
func (o *verifyOptions) here(ctx context.Context, it verify.Item) verify.Row {
	start := time.Now()
	var row verify.Row
	if o.object {
		row = verify.Object(it.Host)
	} else {
		row = o.script(ctx, it)
	}
	row.Path, row.Seconds = it.Path, time.Since(start).Seconds()
	return row
}

// script compiles, loads, attaches and perhaps runs a script.
func (o *verifyOptions) script(ctx context.Context, it verify.Item) (row verify.Row) {
	row.State = verify.Compile
	a := &app{opts: &options{name: "sonde", file: it.Host, named: map[string]string{}, unsafe: o.unsafe, dryRun: o.run == 0, quiet: true}}
	out, log := &limitedWriter{max: verify.MaxOutput}, &limitedWriter{max: verify.MaxOutput}
	a.std = stdio{in: strings.NewReader(""), out: io.Discard, err: log}
	a.collect = func(d *diag.Diagnostic) { row.Diagnostics = append(row.Diagnostics, finding(a, d, it.Path)) }
	defer a.close()
	fail := func(err error) verify.Row {
		var ke kernelError
		if errors.As(err, &ke) || row.State != verify.Compile {
			if d := runtime.Diagnose(err); d != nil {
				a.report(d)
			}
		}
		if row.Reason = verify.FirstError(row.Diagnostics); row.Reason == "" {
			row.Reason = err.Error()
		}
		return row
	}
	if err := a.openMachine(); err != nil {
		return fail(err)
	}
	set, file, err := a.script()
	if err != nil {
		return fail(err)
	}
	a.set = set
	obj, err := a.compile(file)
	if err != nil {
		return fail(err)
	}
	row.State = verify.Load
	s, err := runtime.New(runtime.Options{
		Object: obj, Recompile: a.recompile, Kernel: a.kernel, Targets: a.machine, Output: runtime.NewOutput(out, false, runtime.BufferLine),
		Report: a.report, DryRun: a.opts.dryRun, Unsafe: o.unsafe, Attached: func(n int) { row.Probes, row.State = n, verify.Running },
	})
	if err != nil {
		return fail(err)
	}
	defer s.Close()
	for _, p := range obj.Programs {
		row.Programs = append(row.Programs, verify.Program{Name: p.Name, Instructions: p.Stats.Insns})
	}
	row.State = verify.Attach
	if o.run > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, time.Duration(o.run)*time.Second)
		defer cancel()
	}
	code, err := s.Run(ctx)
	if o.run > 0 {
		row.Output = out.text()
	}
	if err != nil {
		return fail(err)
	}
	if err := a.quality(s); err != nil {
		return fail(err)
	}
	row.Log = log.text()
	if code != 0 {
		row.State, row.Reason = verify.Running, fmt.Sprintf("exit status %d", code)
		return row
	}
	if row.Reason = verify.FirstError(row.Diagnostics); row.Reason != "" { // it went on, but not everything worked
		row.State = verify.Running
		return row
	}
	row.State = verify.OK
	return row
}

// finding is a diagnostic with its place in a file that the user named.
func finding(a *app, d *diag.Diagnostic, path string) verify.Diagnostic {
	f := verify.Diagnostic{Severity: "error", Code: string(d.Code), Message: d.Message, Hints: d.Hints, Text: (&diag.Renderer{Set: a.set}).Render(d)}
	if d.Severity == diag.Warning {
		f.Severity = "warning"
	}
	if a.set != nil && d.Span.IsValid() {
		p := a.set.Position(d.Span.Start)
		f.File, f.Line, f.Column = p.File.Name, p.Line, p.Col
		if f.File == a.opts.file {
			f.File = path
			f.Text = strings.Replace(f.Text, a.opts.file, path, 1)
		}
	}
	return f
}

// limitedWriter keeps the first bytes and counts the rest.
type limitedWriter struct {
	b       bytes.Buffer
	max     int
	dropped int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	n := min(len(p), max(l.max-l.b.Len(), 0))
	l.b.Write(p[:n])
	l.dropped += len(p) - n
	return len(p), nil
}

// text is what was kept, whole lines, and how much was not.
func (l *limitedWriter) text() string {
	s := l.b.String()
	if l.dropped == 0 {
		return s
	}
	end := strings.LastIndexByte(s, '\n') + 1
	return fmt.Sprintf("%s... and %d bytes more\n", s[:end], l.dropped+len(s)-end)
}

// companions are the files that a script needs in a guest: what it imports and includes, and the programs and libraries that its probes
// name, with the cache by which libraries are found, and the shell of actions. What is not found here is missed there, and said there. names are those of the kernel
// that its probes have, which may be a module's.
func companions(path string, unsafe bool) (files []lab.File, names verify.KernelNames) {
	add := func(p string) {
		abs, err := filepath.Abs(p)
		if st, serr := os.Stat(abs); err == nil && serr == nil && st.Mode().IsRegular() {
			files = append(files, lab.File{Path: abs, Host: abs, Mode: st.Mode().Perm()})
		}
	}
	a := &app{opts: &options{name: "sonde", file: path, named: map[string]string{}, noWarn: true}, std: stdio{out: io.Discard, err: io.Discard}}
	a.collect = func(*diag.Diagnostic) {} // this compilation is only to see what it reads
	a.readFile = func(name string) ([]byte, error) {
		b, err := os.ReadFile(name)
		if err == nil {
			add(name)
		}
		return b, err
	}
	defer a.close()
	set, file, err := a.script()
	if err != nil {
		return nil, names
	}
	a.set = set
	libraries := false
	for _, p := range attachPoints(set, file) {
		namesOf(&names, p)
		switch p.Kind {
		case "uprobe", "uretprobe", "u", "ur", "usdt", "U":
		default:
			continue
		}
		if len(p.Segments) == 0 {
			continue
		}
		name := p.Segments[0].Text
		if found, err := (symbol.Finder{}).Find(name); err == nil {
			add(found)
			libraries = libraries || !strings.Contains(name, "/")
		}
	}
	if libraries {
		add("/etc/ld.so.cache")
	}
	if unsafe && strings.Contains(file.Text, "system") { // its commands are a shell's
		if sh, err := programFiles("/bin/sh"); err == nil {
			files = append(files, sh...)
		}
	}
	if a.openMachine() == nil {
		_, _ = a.compile(file)
	}
	return files, names
}

// namesOf adds what an attach point names in the kernel.
func namesOf(n *verify.KernelNames, p *ast.AttachPoint) {
	var seg []string
	for _, s := range p.Segments {
		seg = append(seg, s.Text)
	}
	switch p.Kind {
	case "kprobe", "k", "kretprobe", "kr", "fentry", "f", "kfunc", "fexit", "fr", "kretfunc":
		if len(seg) > 1 && seg[0] != "vmlinux" && !glob(seg[0]) {
			n.Modules = append(n.Modules, seg[0])
		} else if len(seg) == 1 {
			name, _, _ := strings.Cut(seg[0], "+")
			n.Functions = append(n.Functions, name)
		}
	case "tracepoint", "t":
		if len(seg) == 2 {
			n.Tracepoints = append(n.Tracepoints, verify.Tracepoint{Category: seg[0], Event: seg[1]})
		}
	case "rawtracepoint", "rt":
		if len(seg) > 1 && seg[0] != "vmlinux" && !glob(seg[0]) {
			n.Modules = append(n.Modules, seg[0])
		}
		if len(seg) > 0 {
			n.Tracepoints = append(n.Tracepoints, verify.Tracepoint{Event: seg[len(seg)-1]})
		}
	}
	slices.Sort(n.Modules)
	n.Modules = slices.Compact(n.Modules)
}

func glob(s string) bool { return strings.ContainsAny(s, "*?[") }

func attachPoints(set *source.Set, file *source.File) []*ast.AttachPoint {
	var out []*ast.AttachPoint
	for _, it := range syntax.Parse(set, file, &diag.List{}).Items {
		if p, ok := it.(*ast.Probe); ok {
			out = append(out, p.Attach...)
		}
	}
	return out
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
