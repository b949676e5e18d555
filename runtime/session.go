package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime/attach"
	"github.com/sonde-sh/sonde/runtime/event"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/value"
)

// Options say how a session runs.
type Options struct {
	Object *object.Object
	// Recompile makes the object again, with loops that are easier for the verifier: its limit on steps cannot be foretold. Loops become
	// callbacks; where the kernel has no bpf_loop, those of unknown length get room for fewer rounds, and short ones are written out. nil: as it is.
	Recompile func(budget int) (*object.Object, error)

	Kernel  *kernel.Kernel
	Targets Targets
	// Output takes what the script prints; Report takes warnings and errors with their place in the script.
	Output *Output
	Report func(*diag.Diagnostic)
	// Log takes progress lines of -v; nil for none.
	Log io.Writer
	// PID ends the run when that process ends; 0 for none.
	PID int
	// Unwind are the processes whose tables dw_ustack loads beside that of PID or Child.
	Unwind []int
	// DebugDirs are searched for the debug files of programs, beside /usr/lib/debug.
	DebugDirs []string
	// Child is the command of -c, stopped; it runs once everything is attached.
	Child *Child
	// Attached is called once all probes are attached, with their number, before anything is printed.
	Attached func(probes int)
	// Stats switches the kernel's run-time statistics on for the life of the session.
	Stats bool
	// DryRun ends right after attaching.
	DryRun bool
	Unsafe bool
	// DryActions: the object only counts what it would do to the system, and system() runs nothing.
	DryActions bool
	// Graph, when set, is called at the end in place of printing the map GraphMap, to make a picture of it; see Session.Samples.
	Graph    func(*Session) error
	GraphMap string
	// NoWarnings drops warnings that would be part of the output.
	NoWarnings bool
	// ProbeFilter chooses among test: and bench: probes by their names; nil takes all.
	ProbeFilter func(name string) bool
	// Hub lends the maps that the object shares with the other items of a prompt. Such a session prints no maps at its end and leaves Output
	// open. nil for a script that stands alone.
	Hub *Hub
}

// Session is a running object.
type Session struct {
	opts     Options
	obj      *object.Object
	out      *Output
	resolver *resolver
	values   *value.Decoder
	attacher *attach.Attacher

	maps     map[string]*ebpf.Map
	user     map[string]*userMap
	borrowed map[string]bool // maps of the hub; true for those that this session made
	globals  []byte
	programs []*ebpf.Program
	events   []*event.Decoder
	reader   *event.Reader
	captures *captures

	mu    sync.Mutex
	links []*attached

	exit     chan struct{} // closed by the first exit event
	exitOnce sync.Once
	exitCode atomic.Int64
	errors   atomic.Int32 // calls of errorf
	exits    atomic.Int64 // calls of exit()
	stats    io.Closer
	unwind   *unwinder // nil when there is no dw_ustack
	started  time.Time
	lost     lostRecords
	left     int              // events that were not handled in time after the end
	commands uint64           // run by system(), or not run with DryActions
	reported []bool           // by index of object.Failures
	failed   []object.Failure // what was reported
	closed   bool
}

type attached struct {
	program int
	link    *attach.Link
}

// lostRecords counts records that could not be decoded, which would be a bug of ours; they are reported, never dropped in silence.
type lostRecords struct {
	n   uint64
	err error
}

// LoopBudgets are the rooms for loops, in instructions, that are tried one after the other when a program was too long for the verifier.
var LoopBudgets = []int{40_000, 5_000, 625}

// New makes the maps and loads the programs. On an error nothing stays open. A refused program gives a *LoadError, a refused map a *MapError.
// Where programs are too long for the verifier, New compiles again with less room for loops, if that makes a difference; rounds that are cut off are counted.
func New(opts Options) (*Session, error) {
	s, err := load(opts)
	for _, budget := range LoopBudgets {
		var le *LoadError
		if opts.Recompile == nil || !opts.Object.Budgeted || !errors.As(err, &le) || !le.TooLong() {
			break
		}
		obj, cerr := opts.Recompile(budget)
		if cerr != nil {
			break
		}
		if sameCode(obj, opts.Object) {
			continue // with a smaller one more loops may be compiled otherwise
		}
		opts.Object = obj
		s, err = load(opts)
	}
	return s, err
}

// sameCode tells whether two objects have the same instructions.
func sameCode(a, b *object.Object) bool {
	return slices.EqualFunc(a.Programs, b.Programs, func(p, q *object.Program) bool {
		return slices.EqualFunc(p.Insns, q.Insns, func(x, y asm.Instruction) bool {
			return x.OpCode == y.OpCode && x.Dst == y.Dst && x.Src == y.Src && x.Offset == y.Offset && x.Constant == y.Constant
		})
	})
}

func load(opts Options) (s *Session, err error) {
	s = &Session{opts: opts, obj: opts.Object, out: opts.Output, maps: map[string]*ebpf.Map{}, user: map[string]*userMap{}, exit: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
			s = nil
		}
	}()
	if opts.Hub != nil {
		opts.Hub.join(s.obj)
		s.resolver = opts.Hub.resolver
	} else {
		s.resolver = &resolver{kernel: opts.Kernel, obj: s.obj, debugDirs: opts.DebugDirs, stacks: func() *ebpf.Map { return s.mapOf(object.MapStacks) }}
	}
	s.values = &value.Decoder{R: s.resolver, Trailer: s.obj.Config.StrTruncTrailer, Indent: 8}
	var cfg attach.Config
	if opts.Kernel != nil {
		cfg.NoTraceFS = opts.Kernel.TracefsDir // one that only this process sees
	}
	s.attacher = attach.New(cfg)
	if err := s.createMaps(); err != nil {
		return s, err
	}
	for _, ev := range s.obj.Events {
		d, err := event.NewDecoder(ev, s.values)
		if err != nil {
			return s, err
		}
		s.events = append(s.events, d)
	}
	if err := s.loadPrograms(); err != nil {
		return s, err
	}
	for name := range s.borrowed {
		s.borrowed[name] = false // they stay now, whatever becomes of the session
	}
	return s, nil
}

func (s *Session) mapOf(role object.MapRole) *ebpf.Map {
	for _, m := range s.obj.Maps {
		if m.Role == role {
			return s.maps[m.Name]
		}
	}
	return nil
}

func (s *Session) createMaps() error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the CPUs: %w", err)
	}
	raised := false
	create := func(m *object.Map) (*ebpf.Map, error) {
		em, err := createMap(m)
		if err != nil && !raised && errors.Is(err, unix.EPERM) {
			// Before Linux 5.11 maps count against RLIMIT_MEMLOCK, and the refusal says EPERM.
			raised = true
			if kernel.RaiseMemlock() == nil {
				em, err = createMap(m)
			}
		}
		return em, err
	}
	memory := map[string][]byte{} // of arrays that the hub has mapped
	for _, m := range s.obj.Maps {
		if m.Shared && s.opts.Hub != nil {
			isNew := !s.opts.Hub.has(m.Name)
			hm, err := s.opts.Hub.borrow(m, create)
			if err != nil {
				return err
			}
			if s.borrowed == nil {
				s.borrowed = map[string]bool{}
			}
			s.borrowed[m.Name] = isNew
			if hm.m != nil {
				s.maps[m.Name], memory[m.Name] = hm.m, hm.mem
			}
			continue
		}
		if m.Global != nil {
			continue
		}
		em, err := create(m)
		if err != nil {
			return err
		}
		s.maps[m.Name] = em
	}
	for _, m := range s.obj.Maps {
		if m.Role != object.MapUser {
			continue
		}
		u := &userMap{spec: m, m: s.maps[m.Name], pair: s.maps[m.Pair], cpus: cpus, since: time.Now()}
		if m.Global != nil {
			if u.m = s.maps[m.Global.Map]; u.m == nil {
				return &MapError{m, fmt.Errorf("the array %q that holds it is missing", m.Global.Map)}
			}
			mem, lent := memory[m.Global.Map]
			if !lent && s.globals == nil {
				if s.globals, err = mapGlobals(u.m); err != nil {
					return err
				}
			}
			if u.mem = s.globals; lent {
				u.mem = mem
			}
		}
		s.user[m.Name] = u
	}
	if m := s.maps[object.GlobalsMap]; m != nil && s.globals == nil && len(s.obj.Failures) > 0 {
		if s.globals, err = mapGlobals(m); err != nil {
			return err
		}
	}
	if err := s.startClock(); err != nil {
		return err
	}
	ring := s.mapOf(object.MapRing)
	if ring == nil {
		return nil
	}
	// Two ticks of the slowest clock (HZ=100) and a bit: see the wake-up rule of the programs.
	s.reader, err = event.NewReader(ring, 25*time.Millisecond)
	return err
}

// startClock tells programs when the session started and how far TAI is from the clock that they read.
func (s *Session) startClock() error {
	m := s.maps[object.GlobalsMap]
	if m == nil || m.ValueSize() < object.GlobalsHeader {
		return nil
	}
	var boot, tai unix.Timespec
	if err := errors.Join(unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot), unix.ClockGettime(unix.CLOCK_TAI, &tai)); err != nil {
		return fmt.Errorf("read the clocks: %w", err)
	}
	mem := s.globals
	if mem == nil {
		mem = make([]byte, m.ValueSize())
	}
	binary.NativeEndian.PutUint64(mem[object.GlobalsStartNS:], uint64(boot.Nano()))
	binary.NativeEndian.PutUint64(mem[object.GlobalsTAI:], uint64(tai.Nano()-boot.Nano()))
	if s.globals != nil {
		return nil
	}
	if err := m.Put(uint32(0), mem); err != nil {
		return fmt.Errorf("write the start time: %w", err)
	}
	return nil
}

func (s *Session) loadPrograms() error {
	s.programs = make([]*ebpf.Program, len(s.obj.Programs))
	errs := make([]error, len(s.obj.Programs))
	load := func(i int) {
		s.programs[i], errs[i] = loadProgram(s.obj.Programs[i], s.obj.License, s.maps, s.opts.Targets, s.obj.Config.LogSize)
	}
	if len(s.obj.Programs) < 8 {
		for i := range s.obj.Programs {
			if load(i); errs[i] != nil {
				return errs[i]
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	next := atomic.Int64{}
	for range 4 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(errs); i = int(next.Add(1)) - 1 {
				load(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(slices.DeleteFunc(errs, func(e error) bool { return e == nil })...)
}

// runProgram runs a begin, end, signal, test or bench program once through the kernel's test run and returns its result.
func (s *Session) runProgram(i int) (uint32, error) {
	ret, err := s.programs[i].Run(&ebpf.RunOptions{})
	if err != nil {
		return 0, fmt.Errorf("run %s: %w", s.obj.Programs[i].Name, err)
	}
	return ret, nil
}

func (s *Session) runRole(role object.Role) error {
	for i, p := range s.obj.Programs {
		if p.Role == role {
			if _, err := s.runProgram(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// Signal runs the programs of self:signal:NAME. It reports whether there was one.
func (s *Session) Signal(name string) bool {
	found := false
	for i, p := range s.obj.Programs {
		if p.Role == object.RoleSignal && p.Name == name {
			found = true
			if _, err := s.runProgram(i); err != nil {
				s.report(diag.Error, "E0803", p.Probe, err.Error())
			}
		}
	}
	return found
}

// attachAll attaches every program. Attach points that the kernel does not have are handled as the missing_probes key says.
func (s *Session) attachAll(ctx context.Context) (probes int, err error) {
	for i, p := range s.obj.Programs {
		if p.Role != object.RoleProbe {
			if p.Role != object.RoleTest && p.Role != object.RoleBench { // those have modes of their own
				probes += max(1, len(p.Attach)) * max(1, p.Bodies)
			}
			continue
		}
		for _, a := range p.Attach {
			if ctx.Err() != nil {
				return probes, nil // Ctrl-C while attaching: what is attached is taken down by the caller
			}
			l, err := s.attacher.Attach(a, s.programs[i])
			if err != nil {
				if err := s.missing(a, err); err != nil {
					return probes, err
				}
				continue
			}
			s.mu.Lock()
			s.links = append(s.links, &attached{i, l})
			s.mu.Unlock()
			probes += max(1, len(a.Points)) * max(1, p.Bodies)
			if s.opts.Log != nil {
				fmt.Fprintf(s.opts.Log, "Attaching %s\n", s.pointNames(a))
			}
		}
	}
	return probes, nil
}

func (s *Session) pointNames(a *object.Attach) string {
	if len(a.Points) == 0 {
		return a.Target
	}
	name := s.resolver.ProbeName(uint64(a.Points[0]))
	if n := len(a.Points); n > 1 {
		name += fmt.Sprintf(" and %d more", n-1)
	}
	return name
}

func (s *Session) missing(a *object.Attach, err error) error {
	d := &diag.Diagnostic{Severity: diag.Error, Code: "E0801", Span: a.Span, Message: fmt.Sprintf("cannot attach %s: %v", s.pointNames(a), err)}
	var ae *attach.Error
	if errors.As(err, &ae) {
		d.Message = fmt.Sprintf("cannot attach %s: %s", s.pointNames(a), ae.Reason)
		if ae.Hint != "" {
			d.Hints = append(d.Hints, ae.Hint)
		}
	}
	switch s.obj.Config.MissingProbes {
	case "ignore":
		return nil
	case "warn":
		d.Severity, d.Code = diag.Warning, "W0801"
		s.opts.Report(d)
		return nil
	}
	return &AttachError{Diagnostic: d, Err: err}
}

// AttachError says that a probe could not be attached.
type AttachError struct {
	Diagnostic *diag.Diagnostic
	Err        error
}

func (e *AttachError) Error() string { return e.Diagnostic.Message }

func (e *AttachError) Unwrap() error { return e.Err }

// Run runs the script to its end: until ctx ends, exit() is called, the child or process ends, or only begin and end probes are there. It
// returns the argument of exit().
func (s *Session) Run(ctx context.Context) (code int, err error) {
	s.started = time.Now()
	if s.opts.Stats {
		const runTime = 0 // BPF_STATS_RUN_TIME
		if s.stats, err = ebpf.EnableStats(runTime); err != nil {
			return 0, fmt.Errorf("switch on the kernel's run-time statistics: %w", err)
		}
	}
	s.resolver.follow(s.obj)
	if s.opts.Child != nil && s.needsImage() {
		s.opts.Child.Load()
	}
	if err := s.startUnwinder(); err != nil {
		return 0, err
	}
	if err := s.startCaptures(); err != nil {
		return 0, err
	}
	if !s.opts.DryRun {
		if err := s.runRole(object.RoleBegin); err != nil {
			return 0, err
		}
	}
	goruntime.UnlockOSThread() // the main function holds the first thread for the begin programs
	probes, err := s.attachAll(ctx)
	if err != nil {
		return 0, err
	}
	if s.opts.Attached != nil {
		s.opts.Attached(probes)
	}
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	go s.watch(stop, cancel)
	if s.opts.Child != nil {
		s.opts.Child.Resume()
	}
	readErr := s.read(stop)
	code, err = s.finish()
	return code, errors.Join(readErr, err)
}

// needsImage reports whether the memory of the command of -c must be there when probes are attached: watchpoints are lost at an execve, and the
// tables of dw_ustack are those of the mapped files.
func (s *Session) needsImage() bool {
	watches := func(p *object.Program) bool {
		return slices.ContainsFunc(p.Attach, func(a *object.Attach) bool { return a.Mechanism == object.Breakpoint })
	}
	return s.maps[object.UnwindRowsMap] != nil || slices.ContainsFunc(s.obj.Programs, watches)
}

// watch ends the run when one of its reasons comes.
func (s *Session) watch(ctx context.Context, end func()) {
	defer end()
	if s.opts.DryRun || !s.waits() || s.runIterators(ctx) {
		return
	}
	var child <-chan struct{}
	if s.opts.Child != nil {
		child = s.opts.Child.Done()
	}
	process, closeProcess := processEnd(s.opts.PID)
	defer closeProcess()
	select {
	case <-ctx.Done():
	case <-s.exit:
	case <-child:
	case <-process:
	}
}

// waits reports whether anything can still happen once the begin programs have run.
func (s *Session) waits() bool {
	if s.opts.Child != nil {
		return true
	}
	for _, p := range s.obj.Programs {
		if p.Role == object.RoleProbe || p.Role == object.RoleSignal {
			return true
		}
	}
	return false
}

// read handles events until ctx ends.
func (s *Session) read(ctx context.Context) error {
	if s.reader == nil {
		<-ctx.Done()
		return nil
	}
	return s.reader.Run(ctx, s.handle, func() {
		s.out.Flush()
		s.failures()
	})
}

// finish detaches, runs the end programs, prints the maps.
func (s *Session) finish() (int, error) {
	errs := []error{s.detach()}
	s.stopUnwinder()
	if c := s.opts.Child; c != nil {
		errs = append(errs, c.Stop())
	}
	select {
	case <-s.exit:
		// What probes sent after the one that called exit() is not shown: `{ printf("hit"); exit(); }` prints once.
		if s.reader != nil {
			s.reader.Drain(func([]byte) bool { return true })
		}
	default:
		s.handleBacklog()
	}
	if !s.opts.DryRun {
		errs = append(errs, s.runRole(object.RoleEnd))
	}
	// The first exit() of an end probe takes the place of the one that ended the run.
	before, calls := s.exitCode.Swap(0), s.exits.Load()
	if s.reader != nil {
		s.reader.Drain(s.handleRest)
	}
	if s.exits.Load() == calls {
		s.exitCode.Store(before)
	}
	s.failures()
	errs = append(errs, s.captures.stop())
	if s.opts.Hub != nil {
		s.out.Flush()
		return int(s.exitCode.Load()), errors.Join(errs...)
	}
	if !s.out.JSON() && s.opts.Graph == nil && !s.opts.DryRun {
		s.out.Message("", "\n\n")
	}
	if s.obj.Config.PrintMapsOnExit && !s.opts.DryRun {
		errs = append(errs, s.printMaps())
	}
	errs = append(errs, s.out.Close())
	return int(s.exitCode.Load()), errors.Join(errs...)
}

// How long events that were sent before the end are handled after it. A flood of short records that each print a large map would else go on for
// minutes.
const (
	backlogTime       = 3 * time.Second
	backlogTimePrompt = time.Second
)

// handleBacklog handles what was sent before the probes were detached, for a limited time. What is left is counted.
func (s *Session) handleBacklog() {
	if s.reader == nil {
		return
	}
	limit := backlogTime
	if s.opts.Hub != nil {
		limit = backlogTimePrompt
	}
	end, goesOn := time.Now().Add(limit), true
	s.reader.Drain(func(rec []byte) bool {
		goesOn = s.handle(rec)
		return goesOn && time.Now().Before(end)
	})
	if left := s.reader.Drain(func([]byte) bool { return true }); goesOn {
		s.left += left
	}
}

// fewLinks is up to how many links the kernel tears down so fast that nobody needs to wait for it.
const fewLinks = 4

// detach stops all probes. The counts of missed runs stay readable. Nothing may run once end programs do; without them a few links are given to
// the kernel, which saves the 30 to 60 ms that it waits for each perf event.
func (s *Session) detach() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	links := make([]*attach.Link, len(s.links))
	for i, l := range s.links {
		links[i] = l.link
	}
	hasEnd := false
	for _, p := range s.obj.Programs {
		hasEnd = hasEnd || p.Role == object.RoleEnd
	}
	if !hasEnd && len(links) <= fewLinks && s.opts.Hub == nil {
		return attach.Leave(links)
	}
	// Where maps live on, what they hold must not change any more once the item is said to be detached.
	return attach.Detach(links)
}

// Used lists how the probes that are attached were attached, in the order of the plan.
func (s *Session) Used() []*object.Attach {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*object.Attach, len(s.links))
	for i, l := range s.links {
		out[i] = l.link.Used
	}
	return out
}

// Programs gives the loaded programs in the order of the object's. They stay the session's.
func (s *Session) Programs() []*ebpf.Program { return s.programs }

// Close releases everything. It does not wait for perf events to be torn down; the kernel does that behind the process.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var errs []error
	links := make([]*attach.Link, len(s.links))
	for i, l := range s.links {
		links[i] = l.link
	}
	errs = append(errs, attach.Leave(links))
	s.stopUnwinder()
	errs = append(errs, s.captures.stop())
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	for _, p := range s.programs {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	if s.globals != nil {
		errs = append(errs, unix.Munmap(s.globals))
	}
	for name, m := range s.maps {
		if _, lent := s.borrowed[name]; !lent {
			errs = append(errs, m.Close())
		}
	}
	for name, made := range s.borrowed {
		s.opts.Hub.giveBack(name, made)
	}
	if s.stats != nil {
		errs = append(errs, s.stats.Close())
	}
	if s.opts.Hub == nil {
		errs = append(errs, s.resolver.close())
	}
	return errors.Join(errs...)
}

// processEnd gives a channel that is closed when a process ends; nil for pid 0.
func processEnd(pid int) (<-chan struct{}, func()) {
	if pid == 0 {
		return nil, func() {}
	}
	done := make(chan struct{})
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		close(done) // it is gone already
		return done, func() {}
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(fd)
		return nil, func() {}
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(fds, -1)
			if err == unix.EINTR {
				continue
			}
			if n > 0 && fds[0].Revents != 0 {
				close(done)
			}
			return
		}
	}()
	return done, func() {
		_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		<-finished
		unix.Close(fd)
		unix.Close(wake)
	}
}

func possibleCPUs() (int, error) { return ebpf.PossibleCPU() }
