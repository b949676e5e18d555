package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/mattn/go-isatty"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/lexer"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/stdlib"
)

// app is one run of the program.
type app struct {
	// recompile is what [runtime.Options] asks for.
	recompile func(budget int) (*object.Object, error)

	opts    *options
	std     stdio
	kernel  *kernel.Kernel
	machine *stdlib.Machine
	set     *source.Set
	child   *runtime.Child
	starts  func() bool // to be called when a script begins to run; see exitOnSignal
	closers []func() error
	// collect takes the diagnostics in place of standard error; nil prints them.
	collect func(*diag.Diagnostic)
	// readFile reads imports and headers; nil is [os.ReadFile].
	readFile  func(string) ([]byte, error)
	badColour sync.Once
}

func (a *app) close() {
	if a.child != nil {
		_ = a.child.Stop()
	}
	for i := len(a.closers) - 1; i >= 0; i-- {
		_ = a.closers[i]()
	}
}

// errReported says that the diagnostics are printed already.
var errReported = errors.New("reported")

// kernelError marks an error as the kernel's refusal: exit code 3.
type kernelError struct{ error }

func (e kernelError) Unwrap() error { return e.error }

// fail prints an error and gives its exit code.
func (a *app) fail(err error) int {
	var ue *usageError
	var us *userError
	var ke kernelError
	switch {
	case errors.Is(err, errReported):
		return exitUser
	case errors.As(err, &ue):
		fmt.Fprintf(a.std.err, "ERROR: %v\nHINT: run `%s --help` for the options\n", err, a.opts.name)
		return exitUsage
	case errors.As(err, &us):
		fmt.Fprintf(a.std.err, "ERROR: %s\n", us.text)
		if us.hint != "" {
			fmt.Fprintf(a.std.err, "HINT: %s\n", us.hint)
		}
		return exitUser
	case errors.As(err, &ke):
		if d := runtime.Diagnose(err); d != nil {
			a.report(d)
		} else {
			fmt.Fprintf(a.std.err, "ERROR: %v\n", err)
		}
		return exitKernel
	}
	fmt.Fprintf(a.std.err, "ERROR: %v\n", err)
	return exitInternal
}

func (a *app) renderer() *diag.Renderer {
	return &diag.Renderer{Set: a.set, Color: a.colour()}
}

// colour reports whether messages are coloured: on a terminal, unless NO_COLOR or BPFTRACE_COLOR says otherwise.
func (a *app) colour() bool {
	switch v := os.Getenv("BPFTRACE_COLOR"); v {
	case "always":
		return true
	case "never":
		return false
	case "", "auto":
	default:
		a.badColour.Do(func() {
			fmt.Fprintf(a.std.err, "WARNING: Invalid env value! The valid values of `BPFTRACE_COLOR` are [auto|always|never]. The current value is %s!\n", v)
		})
	}
	f, ok := a.std.err.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isatty.IsTerminal(f.Fd())
}

func (a *app) report(d *diag.Diagnostic) {
	if d.Severity == diag.Warning && a.opts.noWarn {
		return
	}
	if a.collect != nil {
		a.collect(d)
		return
	}
	fmt.Fprint(a.std.err, a.renderer().Render(d))
}

func (a *app) reportAll(l *diag.List) error {
	out := l
	if a.opts.noWarn {
		out = &diag.List{}
		for _, d := range l.All() {
			if d.Severity != diag.Warning {
				out.Add(d)
			}
		}
	}
	if a.collect != nil {
		for _, d := range out.All() {
			a.collect(d)
		}
	} else if err := a.renderer().Write(a.std.err, out, diag.DefaultLimit); err != nil {
		return err
	}
	if l.HasErrors() {
		return errReported
	}
	return nil
}

func (a *app) openMachine() error {
	if a.machine != nil {
		return nil
	}
	if path := a.opts.functions; path != "" {
		if _, err := os.ReadFile(path); err != nil {
			return &userError{fmt.Sprintf("Failed to open kernel function info: Could not read functions from %s. (%s)", path, diag.Sentence(errors.Unwrap(err).Error())), ""}
		}
	}
	k, err := kernel.Open(kernel.Options{BTF: os.Getenv("BPFTRACE_BTF"), Functions: a.opts.functions})
	if err != nil {
		return &userError{err.Error(), ""}
	}
	a.kernel = k
	a.machine = stdlib.NewMachine(k)
	a.machine.Without, a.machine.DebugDirs = a.opts.noFeature, a.opts.debugDirs
	a.closers = append(a.closers, k.Close, a.machine.Close)
	return nil
}

// checkPID refuses a process that does not exist.
func (a *app) checkPID() error {
	if a.opts.pid == 0 {
		return nil
	}
	if err := syscall.Kill(a.opts.pid, 0); !errors.Is(err, syscall.ESRCH) {
		return nil
	}
	u := &userError{fmt.Sprintf("there is no process %d", a.opts.pid), "`ps -e` lists the processes"}
	if inInit, err := a.kernel.InInitPIDNamespace(); err == nil && !inInit {
		u.hint = "ids are those of this pid namespace: `ps -e` lists its processes"
	}
	return u
}

func (a *app) main(ctx context.Context) (int, error) {
	if err := a.openMachine(); err != nil {
		return 0, err
	}
	switch {
	case a.opts.info:
		_, err := fmt.Fprint(a.std.out, a.kernel.Info(versionText()))
		return exitOK, err
	case a.opts.list:
		return exitOK, a.listProbes()
	case a.opts.prompt():
		return a.shell(ctx)
	}
	if err := a.checkPID(); err != nil {
		return 0, err
	}
	a.starts = exitOnSignal(ctx)
	defer a.starts()
	set, file, err := a.script()
	if err != nil {
		return 0, err
	}
	a.set = set
	if a.opts.command != "" {
		if a.child, err = runtime.StartChild(a.opts.command, os.Environ()); err != nil {
			return 0, &userError{diag.Sentence(err.Error()), "give a command that can be run, such as -c 'ls /tmp'"}
		}
	}
	if a.opts.tidy {
		return a.tidy(file)
	}
	obj, err := a.compile(file)
	if err != nil || obj == nil {
		return exitOK, err
	}
	if len(obj.Programs) == 0 || !a.anyWanted(obj) {
		return 0, &userError{"No probes to attach", "a script needs at least one probe, such as BEGIN { printf(\"hello\\n\"); }"}
	}
	if err := a.chooseMode(obj); err != nil {
		return 0, err
	}
	return a.trace(ctx, obj)
}

// anyWanted reports whether the mode of tests or benchmarks finds a probe to run.
func (a *app) anyWanted(obj *object.Object) bool {
	role := object.RoleTest
	switch {
	case a.opts.bench:
		role = object.RoleBench
	case !a.opts.test:
		return true
	}
	return a.opts.filter == nil || slices.ContainsFunc(obj.Programs, func(p *object.Program) bool { return p.Role == role && a.opts.filter.MatchString(p.Name) })
}

// tidy prints the program in canonical form.
func (a *app) tidy(file *source.File) (int, error) {
	diags := &diag.List{}
	script := syntax.Parse(a.set, file, diags)
	if diags.HasErrors() {
		return 0, a.reportAll(diags)
	}
	_, err := fmt.Fprint(a.std.out, ast.FormatWith(script, a.set, ast.FormatOptions{}))
	return exitOK, err
}

// chooseMode leaves a mode that the script has no probes of: it runs as always then. A script that has nothing but probes of a mode that was not
// asked for is refused.
func (a *app) chooseMode(obj *object.Object) error {
	tests, benches := 0, 0
	for _, p := range obj.Programs {
		switch p.Role {
		case object.RoleTest:
			tests++
		case object.RoleBench:
			benches++
		default:
		}
	}
	a.opts.test = a.opts.test && tests > 0
	a.opts.bench = a.opts.bench && benches > 0
	switch {
	case a.opts.test || a.opts.bench || a.opts.dryRun || tests+benches < len(obj.Programs):
		return nil
	case tests > 0:
		return &userError{"No probes attached; use --test to run test probes.", ""}
	}
	return &userError{"No probes attached; use --bench to run benchmark probes.", ""}
}

// env is what the checker is told from outside.
func (a *app) env() *check.Env {
	o := a.opts
	e := a.machine.Env(a.set)
	e.PID, e.Children, e.Command, e.Unsafe = o.pid, o.children, o.command, o.unsafe || o.dryAction
	e.Positional, e.Named, e.NamedBare, e.Environ = o.args, o.named, o.bare, environ(os.Environ())
	e.IncludeDirs, e.Includes, e.NoWarnings = o.incDirs, o.include, o.noWarn
	e.TestMode, e.BenchMode, e.Unwinds = o.test, o.bench, len(o.unwind) > 0
	if a.readFile != nil {
		e.ReadFile = a.readFile
	}
	if a.child != nil {
		e.PID, e.ChildPID = 0, a.child.PID
	}
	return e
}

// Scripts of thousands of lines are compiled with fewer runs of the collector. The peak of small ones stays as low as it is.
const (
	largeScript   = 64 << 10 // bytes
	largeScriptGC = 500
)

// compile takes the script to an object. A nil object without an error means that only stages were printed or help was asked for.
func (a *app) compile(file *source.File) (*object.Object, error) {
	if len(file.Text) > largeScript {
		// A compilation keeps most of what it makes until its end: the collector would go through all of it again and again, which takes as long as
		// the compilation itself.
		defer debug.SetGCPercent(debug.SetGCPercent(largeScriptGC))
	}
	diags := &diag.List{}
	if a.opts.stage("tokens") {
		fmt.Fprint(a.std.out, lexer.Lex(file, &diag.List{}).Dump(a.set)) // the parser reports the errors
	}
	script := syntax.Parse(a.set, file, diags)
	if a.opts.stage("ast") {
		fmt.Fprint(a.std.out, ast.Dump(script))
	}
	info, err := a.check(script, diags)
	if info == nil || err != nil {
		return nil, err
	}
	if a.opts.stage("checked") {
		fmt.Fprint(a.std.out, check.Dump(info))
	}
	if err := a.unknownOptions(info); err != nil {
		return nil, err
	}
	t := a.machine.TargetFor(info.Config)
	filter, err := a.filter(t)
	if err != nil {
		return nil, err
	}
	opts := codegen.Options{HelperErrors: a.opts.helperErr, DryActions: a.opts.dryAction || a.opts.dryRun, Filter: filter}
	generate := func(opts codegen.Options) (*object.Object, error) {
		obj, err := codegen.Compile(info, t, opts)
		if err == nil && a.opts.children {
			everywhere(obj)
		}
		return obj, err
	}
	a.recompile = func(budget int) (*object.Object, error) {
		again := opts
		again.LoopBudget = budget
		return generate(again)
	}
	opts.Diags, opts.Dump = diags, a.dump
	obj, err := generate(opts)
	if err := a.reportAll(diags); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	if a.opts.stage("bpf") {
		printBPF(a.std.out, obj)
	}
	if a.opts.explain {
		printPlan(a.std.out, obj)
	}
	return obj, nil
}

// check types a script. A nil info without an error means that the script's help was asked for.
func (a *app) check(script *ast.Script, diags *diag.List) (*check.Info, error) {
	if diags.HasErrors() {
		return nil, a.reportAll(diags)
	}
	info := check.Check(script, a.set, stdlib.New(stdlib.ProbeKinds(a.machine)), a.env(), diags)
	a.machine.NoteTypes(diags)
	if !diags.HasErrors() && (a.opts.help || a.opts.bare["help"] && !hasOption(info, "help")) {
		return nil, a.scriptHelp(info)
	}
	if diags.HasErrors() {
		return nil, a.reportAll(diags)
	}
	return info, nil
}

// dump prints an intermediate stage of the compiler.
func (a *app) dump(stage string, m *ir.Module) {
	if a.opts.stage(stage) {
		fmt.Fprint(a.std.out, m)
	}
}

// trace runs an object.
func (a *app) trace(ctx context.Context, obj *object.Object) (int, error) {
	graph, err := a.graph(obj)
	if err != nil {
		return 0, err
	}
	w := a.std.out
	if a.opts.output != "" && !graph.svg() {
		f, err := os.Create(a.opts.output)
		if err != nil {
			return 0, &userError{fmt.Sprintf("Failed to open output file: \"%s\": %s", a.opts.output, diag.Sentence(errors.Unwrap(err).Error())), ""}
		}
		defer f.Close()
		w = f
	}
	out := runtime.NewOutput(w, a.opts.format == "json", a.opts.buffer)
	opts := runtime.Options{
		Object: obj, Recompile: a.recompile, Kernel: a.kernel, Targets: a.machine, Output: out, Report: a.report, PID: a.opts.pid, Child: a.child,
		Stats: a.opts.stats, DryRun: a.opts.dryRun, Unsafe: a.opts.unsafe || a.opts.dryAction, DryActions: a.opts.dryAction || a.opts.dryRun, NoWarnings: a.opts.noWarn,
		Attached: func(n int) { a.attached(out, n) },
		Unwind:   a.opts.unwind, DebugDirs: a.opts.debugDirs,
	}
	if re := a.opts.filter; re != nil {
		opts.ProbeFilter = re.MatchString
	}
	if a.opts.verbose {
		opts.Log = a.std.err
	}
	graph.set(&opts)
	s, err := runtime.New(opts)
	if err != nil {
		return 0, kernelError{err}
	}
	defer s.Close()
	a.starts()
	if a.opts.test || a.opts.bench {
		return a.special(ctx, s, out)
	}
	stopSignals := a.forwardSignals(s)
	defer stopSignals()
	code, err := s.Run(ctx)
	if ce := (*runtime.ChildError)(nil); errors.As(err, &ce) {
		return 0, &userError{diag.Sentence(ce.Error()), "give a command that can be run, such as -c 'ls /tmp'"}
	}
	if err != nil {
		return 0, kernelError{err}
	}
	return code, a.quality(s)
}

// attached prints what bpftrace prints once all probes are attached, and the word that wrappers wait for.
func (a *app) attached(out *runtime.Output, n int) {
	if !a.opts.quiet {
		plural := "s"
		if n == 1 {
			plural = ""
		}
		if out.JSON() {
			out.Append(func(dst []byte) []byte {
				return fmt.Appendf(dst, `{"type": "attached_probes", "count": %[1]d, "data": {"probes": %[1]d}}`+"\n", n)
			})
		} else {
			out.Flush()
			fmt.Fprintf(a.std.err, "Attached %d probe%s\n", n, plural)
		}
	}
	out.Flush()
	if _, ok := os.LookupEnv("__BPFTRACE_NOTIFY_PROBES_ATTACHED"); ok {
		fmt.Fprintln(a.std.out, "__BPFTRACE_NOTIFY_PROBES_ATTACHED")
	}
}

// forwardSignals runs self:signal probes.
func (a *app) forwardSignals(s *runtime.Session) func() {
	ch := make(chan os.Signal, 8)
	signal.Notify(ch, syscall.SIGUSR1)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-ch:
				s.Signal("SIGUSR1")
			case <-done:
				return
			}
		}
	}()
	return func() { signal.Stop(ch); close(done) }
}

// actions prints what the script did to the system.
func (a *app) actions(s *runtime.Session) error {
	if a.opts.quiet {
		return nil
	}
	lines, err := s.ActionReport()
	if err != nil {
		return kernelError{err}
	}
	for _, l := range lines {
		fmt.Fprintln(a.std.err, l)
	}
	return nil
}

// quality prints what was lost, refused or missed, and the costs of --stats.
func (a *app) quality(s *runtime.Session) error {
	lines, err := s.QualityReport()
	if err != nil {
		return kernelError{err}
	}
	for _, l := range lines {
		fmt.Fprintf(a.std.err, "WARNING: %s\n", l)
	}
	if err := a.actions(s); err != nil {
		return err
	}
	if a.opts.format == "json" {
		b, err := s.QualityJSON(nil)
		if err != nil {
			return kernelError{err}
		}
		if b, err = s.ActionJSON(b); err != nil {
			return kernelError{err}
		}
		if len(b) > 0 {
			if _, err := a.std.out.Write(b); err != nil {
				return err
			}
		}
	}
	if !a.opts.stats {
		return nil
	}
	stats, err := s.Stats()
	if err != nil {
		return kernelError{err}
	}
	fmt.Fprintf(a.std.err, "%-48s %12s %10s %8s\n", "PROBE", "HITS", "NS/HIT", "CPU %")
	for _, st := range stats {
		per := 0.0
		if st.Runs > 0 {
			per = float64(st.Time.Nanoseconds()) / float64(st.Runs)
		}
		fmt.Fprintf(a.std.err, "%-48s %12d %10.0f %8.3f\n", strings.TrimSpace(st.Probe), st.Runs, per, 100*st.CPU)
	}
	return nil
}
