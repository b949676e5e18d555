package shell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/stdlib"
)

// Config is what a session is started with.
type Config struct {
	In      io.Reader
	Out     io.Writer
	Err     io.Writer
	Kernel  *kernel.Kernel
	Machine *stdlib.Machine
	// Terminal is set when In and Out are a terminal: lines are edited, events are printed above the line and floods are throttled.
	Terminal bool
	// Plain is a terminal without cursor movement (TERM=dumb): lines are read as they come.
	Plain bool
	// Color is set when colours may be used.
	Color                 bool
	Unsafe, NoWarnings    bool
	IncludeDirs, Includes []string
	Version               string
	// Filter says which processes the items see; ParseFilter reads one from the words behind \filter, its errors are those of NewHintError.
	Filter      *Filter
	ParseFilter func(words []string) (*Filter, error)
	// First is a line that is handled before the first one is read.
	First string
	// History is the file of the lines that were typed; "" keeps none.
	History string
}

// Shell is one session.
type Shell struct {
	cfg   Config
	reg   *stdlib.Registry
	kinds []stdlib.KindEntry
	hub   *runtime.Hub
	out   *screen
	set   settings

	prior   map[string]*check.Map // what the checker knows of the session's maps
	vars    map[string]bool       // $names that were assigned at the prompt
	prelude []string              // definitions that items see: macros, C types, imports

	mu    sync.Mutex // guards items and what their goroutines change
	items []*item
	next  int

	filter  *Filter   // of the items that follow
	stats   io.Closer // the kernel's run-time statistics are on
	timing  bool
	quit    bool
	record  *os.File
	depth   int // of \load
	editor  *editor
	failed  bool // a line of a session that is not typed failed
	lesson  *lessonRun
	seccomp *recording
	cancel  context.CancelFunc // ends what runs in the foreground; under mu
	// listening says that Ctrl-C comes as a signal, interrupted that it came before the command that it is for; both under mu.
	listening, interrupted bool
	quality                []string // of items that are gone
}

// New starts a session. Nothing is attached yet.
func New(cfg Config) (*Shell, error) {
	sh := &Shell{cfg: cfg, prior: map[string]*check.Map{}, vars: map[string]bool{}, next: 1, set: defaultSettings(), filter: cfg.Filter}
	sh.kinds = stdlib.ProbeKinds(cfg.Machine)
	sh.reg = stdlib.New(sh.kinds)
	hub, err := runtime.NewHub(cfg.Kernel, hubConfig())
	if err != nil {
		return nil, err
	}
	sh.hub = hub
	sh.out = newScreen(cfg.Out, cfg.Terminal)
	return sh, nil
}

// Close detaches every item and releases the maps.
func (sh *Shell) Close() error {
	var errs []error
	for _, it := range slices.Clone(sh.items) {
		sh.stop(it)
	}
	if sh.seccomp != nil && sh.seccomp.r != nil {
		errs = append(errs, sh.seccomp.r.Close())
	}
	sh.reportQuality()
	sh.out.close()
	if sh.stats != nil {
		errs = append(errs, sh.stats.Close())
	}
	if sh.record != nil {
		errs = append(errs, sh.record.Close())
	}
	return errors.Join(append(errs, sh.hub.Close())...)
}

// reportQuality says what is missing from the results of the session.
func (sh *Shell) reportQuality() {
	if len(sh.quality) == 0 {
		if sh.next > 1 {
			sh.say("data quality: complete, nothing was lost")
		}
		return
	}
	sh.say("data quality:")
	for _, l := range sh.quality {
		sh.say("  WARNING: %s", l)
	}
}

// enableStats switches on the kernel's counts of runs and time, once something is attached.
func (sh *Shell) enableStats() {
	if sh.stats != nil || !sh.set.stats {
		return
	}
	const runTime = 0 // BPF_STATS_RUN_TIME
	if c, err := ebpf.EnableStats(runTime); err == nil {
		sh.stats = c
	}
}

// say prints a line of the session's own.
func (sh *Shell) say(format string, args ...any) {
	sh.out.print(fmt.Sprintf(format, args...) + "\n")
}

// write prints text as it is.
func (sh *Shell) write(text string) { sh.out.print(text) }

// fail prints an error of a command.
func (sh *Shell) fail(err error) {
	sh.mu.Lock()
	sh.failed = true
	sh.mu.Unlock()
	var he *hintError
	text := "ERROR: " + err.Error() + "\n"
	if errors.As(err, &he) && he.hint != "" {
		text += "HINT: " + he.hint + "\n"
	}
	sh.out.print(text)
}

// hintError is a mistake of the user in a command, with what to do.
type hintError struct{ text, hint string }

func (e *hintError) Error() string { return e.text }

func hintf(hint, format string, args ...any) error {
	return &hintError{fmt.Sprintf(format, args...), hint}
}

// errReported says that the diagnostics are printed already.
var errReported = errors.New("reported")

// Reported tells whether an error was printed already, as a diagnostic with its place.
func Reported(err error) bool { return errors.Is(err, errReported) }

// Hint is what to do about a mistake; "" when nothing is known.
func Hint(err error) string {
	var he *hintError
	if errors.As(err, &he) {
		return he.hint
	}
	return ""
}

// ReadAll handles all lines of a reader as if they were typed, and tells whether all of them worked.
func (sh *Shell) ReadAll(ctx context.Context, r io.Reader) (ok bool, err error) {
	sh.first(ctx)
	br := bufio.NewReader(r)
	var block strings.Builder
	for !sh.quit && ctx.Err() == nil {
		line, err := br.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return false, fmt.Errorf("read the session: %w", err)
		}
		block.WriteString(line)
		text := block.String()
		if !errors.Is(err, io.EOF) && sh.incomplete(text) {
			continue
		}
		block.Reset()
		if strings.TrimSpace(text) != "" {
			sh.Line(ctx, text)
		}
		if err != nil {
			break
		}
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return !sh.failed, nil
}

// first handles the line of the configuration.
func (sh *Shell) first(ctx context.Context) {
	if line := sh.cfg.First; line != "" {
		sh.cfg.First = ""
		sh.Line(ctx, line)
	}
}

// incomplete tells whether a text needs more lines. Commands are one line.
func (sh *Shell) incomplete(text string) bool {
	trimmed := strings.TrimSpace(text)
	if trimmed == "" || strings.HasPrefix(trimmed, `\`) {
		return false
	}
	if cmd, _ := sh.command(trimmed); cmd != nil {
		return false
	}
	if !looksLikeItem(trimmed) {
		return syntax.IncompleteStatements(text)
	}
	return syntax.Incomplete(text)
}

// Line handles one complete line or block. Nothing that it does ends the session but `\quit`: mistakes are reported, and a panic is.
func (sh *Shell) Line(ctx context.Context, text string) {
	sh.transcript(text)
	defer func() {
		if r := recover(); r != nil {
			sh.fail(hintf("this is a bug in sonde; the session goes on. Please report it with these lines", "internal error: %v\n%s", r, innerStack()))
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sh.mu.Lock()
	outer := sh.cancel // of the line that loads a file with this one
	sh.cancel = cancel
	if outer != nil {
		sh.cancel = func() { cancel(); outer() }
	}
	if sh.interrupted {
		sh.interrupted = false
		cancel()
	}
	sh.mu.Unlock()
	defer func() {
		sh.mu.Lock()
		sh.cancel = outer
		sh.mu.Unlock()
	}()
	text = strings.TrimSpace(text)
	if text == "" {
		return
	}
	start := time.Now()
	var err error
	if cmd, args := sh.command(text); cmd != nil {
		err = cmd.run(sh, ctx, args)
	} else if strings.HasPrefix(text, `\`) {
		err = sh.unknownCommand(text)
	} else {
		err = sh.code(ctx, text)
	}
	switch {
	case err == nil, errors.Is(err, context.Canceled):
	case errors.Is(err, errReported):
		sh.mu.Lock()
		sh.failed = true
		sh.mu.Unlock()
	default:
		sh.fail(err)
	}
	if sh.timing {
		sh.say("time: %s", shortDuration(time.Since(start)))
	}
	if sh.lesson != nil && !sh.quit {
		sh.lesson.after(sh, text, err == nil)
	}
}

// innerStack is the part of a panic's stack that says where it was.
func innerStack() string {
	lines := strings.Split(string(debug.Stack()), "\n")
	var out []string
	for i, l := range lines {
		if strings.Contains(l, "sonde-sh/sonde/") && !strings.HasPrefix(l, "\t") && !strings.Contains(l, "innerStack") {
			out = append(out, "    "+l)
			if i+1 < len(lines) {
				out = append(out, "    "+lines[i+1])
			}
		}
		if len(out) >= 8 {
			break
		}
	}
	return strings.Join(out, "\n")
}

// Interrupt cancels what runs in the foreground, a view or a long command; the items run on.
func (sh *Shell) Interrupt() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch {
	case sh.cancel != nil:
		sh.cancel()
	case sh.listening:
		sh.interrupted = true
	}
}

// listen says whether the terminal turns Ctrl-C into a signal, as it does from the end of a typed line on: one that comes before the line's
// command has begun ends the command too.
func (sh *Shell) listen(on bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.listening, sh.interrupted = on, false
}

// Done reports whether the user left.
func (sh *Shell) Done() bool { return sh.quit }

// report prints diagnostics with their place in the typed text.
func (sh *Shell) report(set *source.Set, diags *diag.List) error {
	out := &diag.List{}
	for _, d := range diags.All() {
		if d.Severity == diag.Warning && (sh.cfg.NoWarnings || !sh.set.warnings) {
			continue
		}
		out.Add(d)
	}
	var b strings.Builder
	r := &diag.Renderer{Set: set, Color: sh.cfg.Color}
	if err := r.Write(&b, out, diag.DefaultLimit); err != nil {
		return err
	}
	if b.Len() > 0 {
		sh.out.print(b.String())
	}
	if diags.HasErrors() {
		return errReported
	}
	return nil
}

// shortDuration prints a time with three digits.
func shortDuration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", float64(d)/1e3)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
