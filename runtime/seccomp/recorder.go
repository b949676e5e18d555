package seccomp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/symbol"
)

// Options configure a recording. Exactly one of Command, PIDs, Cgroup and Create is given.
type Options struct {
	Kernel *kernel.Kernel
	Tool   string // name and version, for the file

	// Command is started and followed from its execve, with everything it starts. Stdin, Stdout and Stderr are its own.
	Command        []string
	Env            []string // nil: ours
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Filter is put on the command before its execve; nil for none.
	Filter *LaunchFilter

	// PIDs are processes that run already, with their threads and descendants.
	PIDs []int

	// Cgroup is the directory of a control group; everything in it and below it.
	Cgroup string

	// Create is a command of an OCI runtime that creates a container (runc create --bundle DIR ID). The container is started once it is
	// followed, recorded from its execve on, and deleted by Close. Stdin, Stdout and Stderr are its own.
	Create []string

	Learn  bool // keep argument values of the calls in the table (see [ArgSet])
	Stacks bool // keep the user stack of the first call of each kind

	// Programs is how many executables are told apart, 0 means 128. Tasks is how many threads live at one time, 0 means 32768.
	// What does not fit is counted and reported, never dropped in silence.
	Programs, Tasks int

	events bool // by trace events where tracepoints would do, for tests
}

// Recorder is a recording in progress. It is safe for concurrent use.
type Recorder struct {
	opts    Options
	native  ABI
	maps    map[string]*ebpf.Map
	progs   map[string][]*ebpf.Program // by tracepoint
	links   []io.Closer
	events  *ringbuf.Reader
	drained chan struct{}
	// alarms tell that a filter comes; there are none when sys_exit is attached from the start.
	alarms  []*ringbuf.Reader
	watcher sync.WaitGroup
	lookout *ebpf.Program // sys_exit's, until it is attached
	started time.Time
	boot    time.Duration // to turn the kernel's clock into ours
	child   *child
	// container is the one that Options.Create made.
	container *container
	seeded    uint64         // threads that were there already
	forgotten uint64         // threads whose end the kernel did not tell us of
	rows      int            // of the map "plain": one for each program, or for each of each CPU
	eventIDs  map[string]int // see findEvents
	names     *symbol.Symbolizer

	mu      sync.Mutex
	paths   map[uint32]string // by slot
	first   map[callKey]*firstCall
	denials []deniedCall
	live    liveState
	closed  bool
	// blind is for how long denials of the first filter were not seen, when blindErr is nil.
	blind    time.Duration
	blindErr error
	missed   uint64 // events that the kernel did not run a program for
	// sameNumbers tells that threads have the numbers here that they have in the kernel.
	sameNumbers bool
}

// callKey is a counter.
type callKey struct {
	slot, abi, number uint32
}

// firstCall is who made a call first.
type firstCall struct {
	at    time.Time
	comm  string
	pid   int
	tid   int
	args  [6]uint64
	stack []string
}

type deniedCall struct {
	callKey
	result int64
	firstCall
}

// RightsError says what a recording needs that the process does not have.
type RightsError struct{ Err error }

func (e *RightsError) Error() string {
	return "recording system calls needs root, or CAP_BPF and CAP_PERFMON: " + e.Err.Error()
}

func (e *RightsError) Unwrap() error { return e.Err }

// Start begins a recording: programs are attached first and the workload starts or is found afterwards. Needs Linux 5.8 with
// type information (BTF).
func Start(opts Options) (r *Recorder, err error) {
	if opts.Programs == 0 {
		opts.Programs = 128
	}
	if opts.Tasks == 0 {
		opts.Tasks = 32768
	}
	r = &Recorder{opts: opts, native: Native(), maps: map[string]*ebpf.Map{}, paths: map[uint32]string{}, first: map[callKey]*firstCall{}, drained: make(chan struct{})}
	defer func() {
		if err != nil {
			_ = r.Close()
			r = nil
		}
	}()
	if err = r.check(); err != nil {
		return r, err
	}
	if err = r.load(); err != nil {
		if errors.Is(err, os.ErrPermission) {
			err = &RightsError{err}
		}
		return r, err
	}
	var mono unix.Timespec
	if err = unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		return r, fmt.Errorf("read the clock: %w", err)
	}
	r.started = time.Now()
	r.boot = time.Duration(mono.Nano())
	r.names = symbol.New(symbol.Config{Demangle: true})
	go r.read()
	if err = r.begin(); err != nil {
		return r, err
	}
	return r, nil
}

func (r *Recorder) check() error {
	n := 0
	for _, given := range []bool{len(r.opts.Command) > 0, len(r.opts.PIDs) > 0, r.opts.Cgroup != "", len(r.opts.Create) > 0} {
		if given {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("a recording has one target: a command, processes, a cgroup or a container; %d given", n)
	}
	return CheckLimits(r.opts.Programs, r.opts.Tasks)
}

// CheckLimits tells whether Options can have these numbers.
func CheckLimits(programs, tasks int) error {
	if programs != 0 && (programs <= slotFirst || programs > 1<<12) {
		return fmt.Errorf("the number of programs is %d; it is from %d to %d", programs, slotFirst+1, 1<<12)
	}
	if tasks < 0 || tasks > 1<<22 {
		return fmt.Errorf("the number of threads is %d; it is from 1 to %d", tasks, 1<<22)
	}
	return nil
}

// begin starts or finds the workload.
func (r *Recorder) begin() error {
	switch {
	case len(r.opts.Command) > 0:
		return r.launch()
	case len(r.opts.PIDs) > 0:
		return r.seedProcesses(r.opts.PIDs)
	case len(r.opts.Create) > 0:
		return r.park()
	}
	return r.seedCgroup(r.opts.Cgroup)
}

func (r *Recorder) load() error {
	l, err := findLayout(r.opts.Kernel)
	if err != nil {
		return err
	}
	// Needed before Linux 5.11 only, so a refusal matters only when the maps cannot be made.
	memlock := kernel.RaiseMemlock()
	if err := r.createMaps(); err != nil {
		if r.opts.Kernel.VersionCode() >= 5<<16|11<<8 {
			memlock = nil
		}
		return errors.Join(err, memlock)
	}
	p := &programs{
		l: l, maps: r.maps, slots: r.opts.Programs, learn: r.opts.Learn, stacks: r.opts.Stacks, native: r.native, parked: len(r.opts.Create) > 0,
		shared: r.rows == r.opts.Programs, entries: tableEntries(r.opts.Tasks), seeded: len(r.opts.Command) == 0,
	}
	r.eventIDs = r.findEvents()
	p.events = r.eventIDs != nil
	// A held thread and the one that lets it go need a CPU each. Where another thread can take the CPU from a program, what happens to that
	// one is dropped while a program of ours is not through: none is held there.
	p.lazy = r.opts.Filter == nil && runtime.NumCPU() > 1 && !hasFilter(os.Getpid()) && (p.events || !r.preemptible())
	if n, err := ourNumber(); err == nil {
		r.sameNumbers = n == uint32(os.Getpid())
	}
	if len(r.opts.Command) > 0 {
		p.pending = 1
		if r.opts.Filter != nil { // the helper that installs it comes first
			p.pending = 2
		}
		if p.launcher, err = ourNumber(); err != nil {
			return err
		}
	} else if err := r.hostNumbers(); err != nil {
		return err
	}
	if r.opts.Cgroup != "" {
		if p.cgroup, p.cgroupLevel, err = r.cgroupIdentity(); err != nil {
			return err
		}
	}
	if err := r.loadPrograms(p); err != nil {
		// Linux 5.10 has the helper that gives the current thread only without its type, Linux 5.16 has no loops.
		refused := err
		for _, p.slowTask = range []bool{false, true} {
			p.lazy, p.events = false, false
			if err = r.loadPrograms(p); err == nil {
				break
			}
		}
		if err != nil {
			return errors.Join(refused, err)
		}
	}
	r.events, err = ringbuf.NewReader(r.maps["events"])
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return nil
}

func (r *Recorder) createMaps() error {
	abis := uint32(abisPerKernel)
	r.rows = r.opts.Programs
	if n, err := ebpf.PossibleCPU(); err == nil && n*r.rows*plainCalls*8 <= plainBytes {
		r.rows *= n
	}
	for _, m := range []ebpf.MapSpec{
		{Name: "counts", Type: ebpf.Array, KeySize: 4, ValueSize: tableSize * 8, MaxEntries: uint32(r.opts.Programs) * abis},
		{Name: "plain", Type: ebpf.Array, KeySize: 4, ValueSize: plainCalls * 8, MaxEntries: uint32(r.rows)},
		{Name: "table", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(tableEntries(r.opts.Tasks)+1) * entrySize, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE},
		{Name: "tasks", Type: ebpf.Hash, KeySize: 4, ValueSize: stateSize, MaxEntries: uint32(r.opts.Tasks)},
		{Name: "programs", Type: ebpf.Hash, KeySize: 16, ValueSize: 8, MaxEntries: uint32(r.opts.Programs)},
		{Name: "claimed", Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: uint32(r.opts.Programs)},
		{Name: "names", Type: ebpf.Hash, KeySize: 24, ValueSize: 8, MaxEntries: 32768, Flags: unix.BPF_F_NO_PREALLOC},
		{Name: "args", Type: ebpf.Hash, KeySize: 32, ValueSize: 8, MaxEntries: 4096, Flags: unix.BPF_F_NO_PREALLOC},
		{Name: "tuples", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: abis * tableSize},
		{Name: "denied", Type: ebpf.Hash, KeySize: 16, ValueSize: 8, MaxEntries: 8192, Flags: unix.BPF_F_NO_PREALLOC},
		{Name: "stats", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: stats, Flags: unix.BPF_F_MMAPABLE},
		{Name: "armed", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1},
		{Name: "events", Type: ebpf.RingBuf, MaxEntries: 4 << 20},
		{Name: "watch", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: watchRows},
		{Name: "alarms", Type: ebpf.RingBuf, MaxEntries: uint32(os.Getpagesize())},
	} {
		em, err := ebpf.NewMap(&m)
		if errors.Is(err, unix.EPERM) {
			err = unix.EPERM // the library's text guesses at a limit
		}
		if err != nil {
			return fmt.Errorf("create map %s: %w", m.Name, err)
		}
		r.maps[m.Name] = em
	}
	return nil
}

// loadPrograms loads and attaches everything; on an error nothing stays.
func (r *Recorder) loadPrograms(p *programs) (err error) {
	defer func() {
		if err != nil {
			r.detach()
		}
	}()
	// As a collection, for the library reads the kernel's type information once for all (15 ms).
	list := []hooked{
		{"sched_process_exit", p.gone, 1}, {"sched_process_exec", p.exec, 1}, {"sched_process_fork", p.fork, 1}, {"sys_exit", p.exit, 1}, {"sys_enter", p.holding, 1},
	}
	spec := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{}}
	copies := 1
	if r.preemptible() || r.opts.events {
		copies = followers
	}
	for i := range list {
		t := &list[i]
		t.copies = copies
		program := ebpf.ProgramSpec{
			Name: "seccomp_" + t.tracepoint[len(t.tracepoint)-4:], Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: t.tracepoint, License: "GPL",
		}
		if strings.HasPrefix(t.tracepoint, "sys_") {
			t.copies = 1
			if p.events {
				program.Type, program.AttachType, program.AttachTo = ebpf.TracePoint, ebpf.AttachNone, ""
			}
		}
		for c := range t.copies {
			p.fresh, p.ins, p.label, p.again = 0, nil, "", c > 0
			program := program
			program.Instructions = t.code()
			spec.Programs[t.name(c)] = &program
		}
	}
	loaded, err := ebpf.NewCollection(spec)
	if err != nil {
		return fmt.Errorf("load the recorder: %w", err)
	}
	r.progs = map[string][]*ebpf.Program{}
	for _, t := range list {
		for c := range t.copies {
			r.progs[t.tracepoint] = append(r.progs[t.tracepoint], loaded.Programs[t.name(c)])
		}
	}
	if p.lazy {
		r.lookout = r.progs["sys_exit"][0]
		if err := r.awaitFilters(); err != nil {
			return err
		}
	}
	// sys_enter comes last: what it counts then has its threads and programs known.
	for _, t := range list {
		if p.lazy && t.tracepoint == "sys_exit" {
			continue
		}
		for _, prog := range r.progs[t.tracepoint] {
			if err := r.attach(t.tracepoint, prog); err != nil {
				return fmt.Errorf("attach to %s: %w", t.tracepoint, err)
			}
		}
	}
	return nil
}

// hooked is what runs at one tracepoint.
type hooked struct {
	tracepoint string
	code       func() asm.Instructions
	copies     int
}

func (h *hooked) name(copy int) string { return fmt.Sprint(h.tracepoint, copy) }

func (r *Recorder) detach() {
	for _, a := range r.alarms {
		_ = a.Close()
	}
	r.watcher.Wait()
	var wg sync.WaitGroup
	for _, l := range r.links {
		wg.Go(func() { _ = l.Close() })
	}
	wg.Wait()
	missed := r.misses()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.missed = missed
	for _, programs := range r.progs {
		for _, p := range programs {
			_ = p.Close()
		}
	}
	r.links, r.progs, r.lookout, r.alarms = nil, nil, nil, nil
}

// ourNumber is this process's number as the kernel counts, which in a container is not the one that getpid gives: a program is run
// in our own context and asks.
func ourNumber() (uint32, error) {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "seccomp_self", Type: ebpf.RawTracepoint, License: "GPL",
		Instructions: asm.Instructions{asm.FnGetCurrentPidTgid.Call(), asm.RSh.Imm(asm.R0, 32), asm.Return()},
	})
	if err != nil {
		return 0, fmt.Errorf("load a program: %w", err)
	}
	defer prog.Close()
	n, err := prog.Run(&ebpf.RunOptions{})
	if err != nil {
		return uint32(os.Getpid()), nil //nolint:nilerr // before Linux 5.10 such programs cannot be run on request
	}
	return n, nil
}

// hostNumbers makes sure that the numbers of processes that a user gives are those of the kernel.
func (r *Recorder) hostNumbers() error {
	if n, err := ourNumber(); err != nil || n == uint32(os.Getpid()) {
		return err
	}
	return errors.New("processes have other numbers here than in the kernel (this is a PID namespace); run sonde in the host's, or record a command")
}

// read keeps what the programs report until the reader is closed.
func (r *Recorder) read() {
	defer close(r.drained)
	for {
		rec, err := r.events.Read()
		if err != nil {
			return // closed, or flushed at the end
		}
		r.event(rec.RawSample)
	}
}

func (r *Recorder) event(b []byte) {
	if len(b) < evSize {
		return
	}
	le := binary.NativeEndian
	slot, pid := le.Uint32(b[evSlot:]), int(le.Uint32(b[evTGID:]))
	if le.Uint32(b) == eventProgram {
		path := resolveProgram(pid, cString(b[evComm:]))
		r.mu.Lock()
		r.paths[slot] = path
		r.mu.Unlock()
		return
	}
	k := callKey{slot, le.Uint32(b[evABI:]), le.Uint32(b[evNumber:])}
	f := &firstCall{at: r.wall(le.Uint64(b[evTime:])), comm: cString(b[evComm:evArgs]), pid: pid, tid: int(le.Uint32(b[evTID:]))}
	for i := range f.args {
		f.args[i] = le.Uint64(b[evArgs+8*i:])
	}
	if n := int64(le.Uint64(b[evStack:])); n > 0 {
		for i := 0; i < int(n)/8 && evFrames+8*i+8 <= evSize; i++ {
			if addr := le.Uint64(b[evFrames+8*i:]); addr != 0 {
				f.stack = append(f.stack, r.frame(pid, addr))
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if le.Uint32(b) == eventDenied {
		r.denials = append(r.denials, deniedCall{k, int64(le.Uint64(b[evResult:])), *f})
	} else if old := r.first[k]; old == nil || f.at.Before(old.at) {
		r.first[k] = f
	}
}

func (r *Recorder) frame(pid int, addr uint64) string {
	f := r.names.User(pid, addr)
	switch {
	case f.Name != "":
		return fmt.Sprintf("%s+%d (%s)", f.Name, f.Offset, f.Module)
	case f.Module != "":
		return fmt.Sprintf("%#x (%s)", f.FileOffset, f.Module)
	}
	return fmt.Sprintf("%#x", addr)
}

// wall turns the kernel's monotonic nanoseconds into a time.
func (r *Recorder) wall(ns uint64) time.Time { return r.started.Add(time.Duration(ns) - r.boot) }

func cString(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// resolveProgram makes a path absolute, while the process is there to ask.
func resolveProgram(pid int, path string) string {
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && (path == "" || path[0] != '/') {
		return exe
	}
	return path
}

// Close ends the recording without a result. It leaves nothing attached; a command that was started is ended with SIGTERM.
func (r *Recorder) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	var errs []error
	if r.child != nil {
		errs = append(errs, r.child.stop())
	}
	if r.container != nil {
		errs = append(errs, r.container.remove())
	}
	r.detach()
	if r.events != nil {
		errs = append(errs, r.events.Close())
		if r.names != nil {
			<-r.drained
		}
	}
	for _, m := range r.maps {
		errs = append(errs, m.Close())
	}
	if r.names != nil {
		errs = append(errs, r.names.Close())
	}
	return errors.Join(errs...)
}
