package shell

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/runtime"
)

// item is one script of the session.
type item struct {
	id   int
	text string
	unit *unit
	// filter is that of the session when the item was made.
	filter *Filter

	// Changed under Shell.mu by the item's goroutine and the prompt.
	session  *runtime.Session // nil while detached
	stopRun  context.CancelFunc
	done     chan struct{}
	attached chan struct{} // gets a value once the probes are attached
	muted    bool
	ended    string // why it is not attached any more: "detached", "exit(0)", an error
	probes   int
	how      string
	since    time.Time
	stats    []runtime.Stat // of the last session, once it is closed
	stopping bool
}

// addItem compiles and attaches a script, or keeps it when it holds definitions only.
func (sh *Shell) addItem(ctx context.Context, u *unit, text string) error {
	start := time.Now()
	if !hasProbe(u.script) {
		return sh.define(u, text)
	}
	if !sh.check(u) {
		return sh.report(u.set, u.diags)
	}
	if err := sh.compile(u); err != nil {
		return err
	}
	if len(u.obj.Programs) == 0 {
		return hintf("name an event that exists; `\\d PATTERN` lists probes", "no probe to attach")
	}
	it := &item{text: text, unit: u, filter: u.filter}
	return sh.attach(ctx, it, start)
}

func hasProbe(s *ast.Script) bool {
	for _, it := range s.Items {
		if _, ok := it.(*ast.Probe); ok {
			return true
		}
	}
	return false
}

// define keeps definitions for the items that follow.
func (sh *Shell) define(u *unit, text string) error {
	sh.prelude = append(sh.prelude, text)
	// The definitions are checked with an empty probe behind them, so that a mistake is reported now.
	probe := u.set.Add("prompt", "begin {}")
	u.script = &ast.Script{Items: syntax.Parse(u.set, probe, u.diags).Items}
	ok := sh.check(u)
	if err := sh.report(u.set, u.diags); err != nil || !ok {
		sh.prelude = sh.prelude[:len(sh.prelude)-1]
		return err
	}
	return nil
}

// open makes the session of an item.
func (sh *Shell) open(it *item) (*runtime.Session, *itemWriter, error) {
	w := &itemWriter{sh: sh, item: it, direct: !runsOn(it.unit.obj)}
	opts := runtime.Options{
		Object: it.unit.obj, Kernel: sh.cfg.Kernel, Targets: sh.cfg.Machine, Output: runtime.NewOutput(w, false, runtime.BufferLine),
		Report: func(d *diag.Diagnostic) { sh.reportLater(it, d) }, Unsafe: sh.cfg.Unsafe, Hub: sh.hub,
	}
	if pid := it.unit.filter.pid(); pid != 0 {
		opts.Unwind = []int{pid}
	}
	opts.Attached = func(n int) {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		it.probes = n
		if it.done != nil && it.session != nil {
			it.how = mechanisms(it.session.Used())
			select {
			case it.attached <- struct{}{}:
			default:
			}
		}
	}
	opts.Recompile = func(budget int) (*object.Object, error) {
		err := sh.generate(it.unit, budget)
		return it.unit.obj, err
	}
	s, err := runtime.New(opts)
	return s, w, err
}

// reportLater prints what a running item has to say.
func (sh *Shell) reportLater(it *item, d *diag.Diagnostic) {
	if d.Severity == diag.Warning && (sh.cfg.NoWarnings || !sh.set.warnings) {
		return
	}
	r := &diag.Renderer{Set: it.unit.set, Color: sh.cfg.Color}
	if !runsOn(it.unit.obj) {
		sh.out.print(r.Render(d))
		return
	}
	sh.out.events([]byte(r.Render(d)))
}

// attach starts an item and waits until its probes are attached.
func (sh *Shell) attach(ctx context.Context, it *item, start time.Time) error {
	s, w, err := sh.open(it)
	if err != nil {
		return sh.explainError(it.unit, err)
	}
	sh.adopt(it.unit)
	if !runsOn(it.unit.obj) {
		defer s.Close()
		_, err := s.Run(ctx)
		w.end()
		if err != nil {
			return sh.explainError(it.unit, err)
		}
		return nil
	}
	sh.enableStats()
	run, cancel := context.WithCancel(context.Background())
	attached := make(chan struct{}, 1)
	sh.mu.Lock()
	it.session, it.stopRun, it.done, it.ended, it.stopping = s, cancel, make(chan struct{}), "", false
	it.attached = attached
	it.since = time.Now()
	it.stats = nil
	sh.mu.Unlock()
	failed := make(chan error, 1)
	go sh.run(run, it, s, w, failed)
	select {
	case <-attached:
	case <-ctx.Done(): // Ctrl-C while many probes are attached
		cancel()
		<-it.done
		return ctx.Err()
	case err := <-failed:
		<-it.done
		if err != nil {
			return sh.explainError(it.unit, err)
		}
	}
	sh.mu.Lock()
	if it.id == 0 {
		it.id = sh.next
		sh.next++
		sh.items = append(sh.items, it)
	}
	n, how := it.probes, it.how
	sh.mu.Unlock()
	if it.unit.quiet {
		it.unit.quiet = false
		return nil
	}
	if f := it.filter.String(); f != "" {
		how += " for " + f
	}
	sh.say("#%d attached %d probe%s%s in %s", it.id, n, plural(n), how, shortDuration(time.Since(start)))
	return nil
}

// run is the goroutine of an item. It ends with the item's probes detached and its session closed.
func (sh *Shell) run(ctx context.Context, it *item, s *runtime.Session, w *itemWriter, failed chan<- error) {
	code, err := 0, error(nil)
	func() {
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("internal error, which is a bug in sonde: %v\n%s", r, innerStack())
			}
		}()
		code, err = s.Run(ctx)
	}()
	w.end()
	lines, _ := s.QualityReport()
	stats, _ := s.Stats()
	_ = s.Close()
	sh.mu.Lock()
	it.session, it.stats = nil, stats
	name := fmt.Sprintf("#%d", it.id)
	for _, l := range lines {
		sh.quality = append(sh.quality, name+" "+l)
	}
	self := !it.stopping && ctx.Err() == nil
	switch {
	case err != nil:
		it.ended = "failed"
	case self:
		it.ended = fmt.Sprintf("exit(%d)", code)
	default:
		it.ended = "detached"
	}
	id, ended := it.id, it.ended
	sh.mu.Unlock()
	if id != 0 {
		for _, l := range lines {
			sh.out.events([]byte(fmt.Sprintf("WARNING: %s %s\n", name, l)))
		}
		switch {
		case err != nil:
			sh.out.events([]byte(fmt.Sprintf("#%d failed: %v\n", id, err)))
		case self:
			sh.out.events([]byte(fmt.Sprintf("#%d ended with %s\n", id, ended)))
		}
	}
	failed <- err
	close(it.done)
}

// stop detaches an item and waits until it is gone.
func (sh *Shell) stop(it *item) {
	sh.mu.Lock()
	running := it.session != nil
	it.stopping = true
	cancel, done := it.stopRun, it.done
	sh.mu.Unlock()
	if running {
		cancel()
	}
	if done != nil {
		<-done
	}
}

// runsOn reports whether anything is left to do once the begin programs ran.
func runsOn(obj *object.Object) bool {
	for _, p := range obj.Programs {
		if p.Role == object.RoleProbe || p.Role == object.RoleSignal {
			return true
		}
	}
	return false
}

// mechanisms says by what probes were attached: " by perf tracepoint", " (2 by kprobe, 1 by perf event)".
func mechanisms(used []*object.Attach) string {
	count := map[string]int{}
	var names []string
	for _, a := range used {
		name := a.Mechanism.String()
		if count[name] == 0 {
			names = append(names, name)
		}
		count[name] += max(1, len(a.Points))
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return " by " + names[0]
	}
	slices.Sort(names)
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = fmt.Sprintf("%d by %s", count[n], n)
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// find gives an item by "#3" or "3".
func (sh *Shell) find(arg string) (*item, error) {
	name := strings.TrimPrefix(strings.TrimSpace(arg), "#")
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if name == "" && len(sh.items) > 0 {
		return sh.items[len(sh.items)-1], nil
	}
	for _, it := range sh.items {
		if fmt.Sprint(it.id) == name {
			return it, nil
		}
	}
	return nil, hintf("`\\list` shows the items of the session", "there is no item `%s`", strings.TrimSpace(arg))
}
