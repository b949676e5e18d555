package attach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/object"
)

// Config says where the kernel's files are. The zero value is the running machine.
type Config struct {
	TraceFS string // "" looks in /sys/kernel/tracing and /sys/kernel/debug/tracing
	SysFS   string // "" is /sys
	// NoTraceFS is asked for the trace file system when none is mounted there; nil does without.
	NoTraceFS func() (string, error)
}

// Attacher attaches programs. It reads a file of the kernel when it first needs it and remembers it.
type Attacher struct {
	cfg Config

	mu     sync.Mutex
	pmus   map[string]pmu
	cpus   []int
	noLink bool // the kernel has no BPF links for perf events
}

// New makes an attacher. It touches nothing.
func New(cfg Config) *Attacher {
	if cfg.SysFS == "" {
		cfg.SysFS = "/sys"
	}
	return &Attacher{cfg: cfg, pmus: make(map[string]pmu)}
}

// Link is one attached program. Closing it twice is harmless.
type Link struct {
	// Attach is what was asked for; Used is what was made: the same, or one of its fallbacks.
	Attach, Used *object.Attach

	mu     sync.Mutex
	links  []int   // closing one stops the program: BPF links, and before 5.15 perf events, which hold the program themselves
	events []int   // perf events that have a BPF link: closing one is slow
	last   *uint64 // missed runs, once detached
}

// Attach attaches prog as a says. When the kernel refuses the mechanism, the fallbacks of a are tried in order. The error is an *[Error].
func (t *Attacher) Attach(a *object.Attach, prog *ebpf.Program) (*Link, error) {
	var first *Error
	for try := a; try != nil; try = try.Fallback {
		l := &Link{Attach: a, Used: try}
		err := t.attach(l, try, prog.FD())
		if err == nil {
			return l, nil
		}
		l.Close()
		e := newError(try, err)
		if first == nil {
			first = e
		}
		if !e.refused() {
			return nil, e
		}
	}
	return nil, first
}

func (t *Attacher) attach(l *Link, a *object.Attach, prog int) error {
	switch a.Mechanism {
	case object.PerfTracepoint:
		return t.perfTracepoint(l, a, prog)
	case object.RawTracepoint:
		return l.link(rawTracepoint(a.Target, prog))
	case object.TPBTF, object.Fentry, object.LSM:
		return l.link(tracing(prog, a.Cookie))
	case object.Kprobe, object.Kretprobe:
		return t.kprobe(l, a, prog)
	case object.KprobeMulti, object.KretprobeMulti:
		return l.link(kprobeMulti(a, prog))
	case object.Uprobe, object.Uretprobe:
		return t.uprobe(l, a, prog)
	case object.UprobeMulti, object.UretprobeMulti:
		return l.link(uprobeMulti(a, prog))
	case object.PerfEvent:
		return t.perfEvent(l, a, prog)
	case object.Breakpoint:
		return t.breakpoint(l, a, prog)
	case object.Iter:
		return iterator(l, a, prog)
	}
	return fmt.Errorf("mechanism %d is not one that can be attached", a.Mechanism)
}

// link takes over the descriptor of a BPF link.
func (l *Link) link(fd int, err error) error {
	if err == nil {
		l.links = append(l.links, fd)
	}
	return err
}

// Close detaches the program and closes everything. It blocks until the kernel is done; see [CloseAll] for many links.
func (l *Link) Close() error { return CloseAll([]*Link{l}) }

// takeLinks gives up the descriptors that hold the program, and keeps the count of missed runs.
func (l *Link) takeLinks() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remember()
	fds := l.links
	l.links = nil
	return fds
}

func (l *Link) takeEvents() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	fds := l.events
	l.events = nil
	return fds
}

func closeFDs(fds []int) error {
	var errs []error
	for _, fd := range fds {
		if err := unix.Close(fd); err != nil {
			errs = append(errs, fmt.Errorf("close link: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Iterator opens a new run of an iterator program; reading it to the end runs the program for every object.
func (l *Link) Iterator() (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Used.Mechanism != object.Iter || len(l.links) == 0 {
		return nil, errors.New("open iterator: the link is not one of an iterator, or is closed")
	}
	return openIterator(l.links[0])
}

// onlineCPUs lists the CPUs that a perf event can be opened on.
func (t *Attacher) onlineCPUs() ([]int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cpus != nil {
		return t.cpus, nil
	}
	text, err := os.ReadFile(filepath.Join(t.cfg.SysFS, "devices/system/cpu/online"))
	if err != nil {
		return nil, fmt.Errorf("list the online CPUs: %w", err)
	}
	cpus, err := parseCPUs(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, err
	}
	t.cpus = cpus
	return cpus, nil
}

// parseCPUs reads the kernel's list format: "0-3,8,10-11".
func parseCPUs(list string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		lo, err := strconv.Atoi(from)
		hi := lo
		if err == nil && isRange {
			hi, err = strconv.Atoi(to)
		}
		if err != nil || lo < 0 || hi < lo || hi > 1<<16 {
			return nil, fmt.Errorf("list the online CPUs: %q is not a list of CPUs", list)
		}
		for cpu := lo; cpu <= hi; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

func (t *Attacher) traceFS() string {
	if t.cfg.TraceFS != "" {
		return t.cfg.TraceFS
	}
	for _, dir := range []string{"kernel/tracing", "kernel/debug/tracing"} {
		path := filepath.Join(t.cfg.SysFS, dir)
		if _, err := os.Stat(filepath.Join(path, "events")); err == nil {
			return path
		}
	}
	if t.cfg.NoTraceFS != nil {
		if dir, err := t.cfg.NoTraceFS(); err == nil {
			return dir
		}
	}
	return filepath.Join(t.cfg.SysFS, "kernel/tracing")
}
