package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Defaults of [Config] and [Job].
const (
	DefaultMemoryMiB      = 512
	DefaultBootTimeout    = 5 * time.Minute
	DefaultJobTimeout     = 60 * time.Second
	DefaultJobOutputBytes = 8 << 20
	defaultLSM            = "lsm=landlock,lockdown,yama,bpf"
	consoleTailBytes      = 64 << 10
	jobGrace              = 5 * time.Second
)

// Config describes one boot.
type Config struct {
	// Kernel is what to boot.
	Kernel Kernel
	// Init is the host path of the static binary that becomes /init. It must
	// call [Init] first thing in main. Empty means this very program.
	Init string
	// Files are put into the guest's root beside /init.
	Files []File
	// Modules are loaded in this order before the first job, see [Modules.Load]. One that cannot be loaded is noted in the result.
	Modules []ModuleFile
	// Jobs run one after the other.
	Jobs []Job
	// MemoryMiB is the guest's memory; zero means [DefaultMemoryMiB]. The
	// initramfs with Init and Files lives in it.
	MemoryMiB int
	// CPUs is the number of guest CPUs; zero means one.
	CPUs int
	// Timeout limits the whole run; zero means the boot's and the jobs' limits
	// together.
	Timeout time.Duration
	// BootTimeout limits the time until init reports; zero means
	// [DefaultBootTimeout].
	BootTimeout time.Duration
	// MaxOutputBytes limits what the guest sends in all; zero means the jobs'
	// limits together.
	MaxOutputBytes int64
	// Cmdline is added to the kernel command line and wins over what the lab
	// sets itself, for example "lsm=lockdown".
	Cmdline string
	// ICount makes the guest's clock count instructions: one nanosecond is one
	// guest instruction, exactly repeatable. One CPU, emulation only.
	ICount bool
	// Accel is how QEMU runs the guest; the zero value probes.
	Accel Accel
	// Output, when set, gets the jobs' output as it comes. It is called from
	// one goroutine.
	Output func(job int, stderr bool, p []byte)
	// Terminal, when set, is the terminal of the jobs that want one.
	Terminal *Terminal
}

// Terminal is a terminal of the host, in raw mode.
type Terminal struct {
	In  io.Reader
	Out io.Writer
	// Rows and Columns are its size when the guest starts.
	Rows, Columns int
}

// Job is one command in the guest.
type Job struct {
	// Args is the command, its first word a path in the guest: "/init" is the
	// init binary.
	Args []string
	// Env is added to a small environment: PATH, HOME, TMPDIR.
	Env []string `json:",omitempty"`
	// Dir is the folder to start in; empty means "/".
	Dir string `json:",omitempty"`
	// Stdin is what the command reads.
	Stdin []byte `json:",omitempty"`
	// Timeout is on the guest's clock; zero means [DefaultJobTimeout].
	Timeout time.Duration
	// MaxOutputBytes ends a job that writes more; zero means
	// [DefaultJobOutputBytes].
	MaxOutputBytes int64
	// Terminal gives the job [Config.Terminal] as its controlling terminal in
	// place of Stdin and captured output.
	Terminal bool `json:",omitempty"`
	// Background lets the next job start at once; the job is killed when all
	// others have ended.
	Background bool `json:",omitempty"`
}

// JobResult is what came of a [Job].
type JobResult struct {
	Args []string
	// Started and Ended say how far the guest came.
	Started, Ended bool
	// Code is the exit status, -1 when there is none.
	Code int
	// Signal is the name of the signal that ended the job, as "SIGKILL".
	Signal string
	// TimedOut, Flooded and OOMKilled say why the lab or the kernel killed it.
	TimedOut, Flooded, OOMKilled bool
	// StartError says why it could not be started.
	StartError string
	// Duration is on the guest's clock.
	Duration       time.Duration
	Stdout, Stderr []byte
}

// Err returns nil when the job ended by itself with status 0, else an error
// that says in a few words what happened.
func (r *JobResult) Err() error {
	switch {
	case !r.Started:
		return errors.New("not started")
	case !r.Ended:
		return errors.New("did not end")
	case r.StartError != "":
		return errors.New(r.StartError)
	case r.TimedOut:
		return fmt.Errorf("killed after %s: timeout", r.Duration.Round(time.Millisecond))
	case r.Flooded:
		return errors.New("killed: too much output")
	case r.OOMKilled:
		return errors.New("killed: the guest ran out of memory")
	case r.Signal != "":
		return fmt.Errorf("killed by %s", r.Signal)
	case r.Code != 0:
		return fmt.Errorf("exit status %d", r.Code)
	}
	return nil
}

// Result is what came of a boot. It is filled as far as the guest came, also
// when [Run] returns an error.
type Result struct {
	// Release is the guest's uname release.
	Release string
	// Accel is what QEMU used.
	Accel Accel
	// CPUs is the number of CPUs that the guest has.
	CPUs int
	// Boot is the time from starting QEMU to init's report, Total that to
	// QEMU's end.
	Boot, Total time.Duration
	// Console is the tail of the kernel's console.
	Console string
	// SkippedBytes counts bytes on the result line that belonged to no frame.
	SkippedBytes int64
	// Modules are those of the config, each with why it is not loaded.
	Modules []ModuleResult
	Jobs    []JobResult
}

// Err returns the first failure of a job.
func (r *Result) Err() error {
	for i := range r.Jobs {
		if err := r.Jobs[i].Err(); err != nil {
			return fmt.Errorf("lab: %s: %s: %w", r.Release, strings.Join(r.Jobs[i].Args, " "), err)
		}
	}
	return nil
}

// withDefaults returns c with its zero values replaced.
func (c Config) withDefaults() (Config, error) {
	if c.Kernel.Image == "" {
		return c, errors.New("lab: no kernel image")
	}
	if c.Init == "" {
		exe, err := os.Executable()
		if err != nil {
			return c, fmt.Errorf("lab: %w", err)
		}
		c.Init = exe
	}
	if len(c.Jobs) > 1<<16-1 {
		return c, fmt.Errorf("lab: %d jobs in one boot, at most %d", len(c.Jobs), 1<<16-1)
	}
	if c.MemoryMiB == 0 {
		c.MemoryMiB = DefaultMemoryMiB
	}
	if c.CPUs == 0 || c.ICount {
		c.CPUs = 1
	}
	if c.BootTimeout == 0 {
		c.BootTimeout = DefaultBootTimeout
	}
	c.Jobs = append([]Job(nil), c.Jobs...)
	timeout, output := c.BootTimeout, int64(1<<20)
	for i := range c.Jobs {
		j := &c.Jobs[i]
		if len(j.Args) == 0 {
			return c, fmt.Errorf("lab: job %d has no command", i)
		}
		if j.Timeout == 0 {
			j.Timeout = DefaultJobTimeout
		}
		if j.MaxOutputBytes == 0 {
			j.MaxOutputBytes = DefaultJobOutputBytes
		}
		if j.Dir == "" {
			j.Dir = "/"
		}
		timeout += j.Timeout + jobGrace
		output += j.MaxOutputBytes
	}
	if c.Timeout == 0 {
		c.Timeout = timeout
	}
	if c.MaxOutputBytes == 0 {
		c.MaxOutputBytes = output
	}
	return c, nil
}

// Run boots a guest, runs its jobs and returns what they gave. The error is an
// [*Error] when the guest failed as a whole, a [*MissingError] when QEMU is
// not there, and ctx's error when ctx ended; a job that failed is no error of
// Run, see [Result.Err].
func Run(ctx context.Context, config Config) (Result, error) {
	c, err := config.withDefaults()
	if err != nil {
		return Result{}, err
	}
	machine, err := machineFor(c.Kernel.Arch)
	if err != nil {
		return Result{}, err
	}
	qemu, err := machine.find()
	if err != nil {
		return Result{}, err
	}
	if err := CheckStatic(c.Init, c.Kernel.Arch); err != nil {
		return Result{}, err
	}
	initrd, err := buildInitrd(&c, machine)
	if err != nil {
		return Result{}, err
	}
	defer initrd.Close()
	if err := enoughMemory(&c, initrd); err != nil {
		return Result{}, err
	}
	kernel, unpacked, err := bootImage(c.Kernel)
	if err != nil {
		return Result{}, err
	}
	defer kernel.Close()
	res, err := runProbed(ctx, &c, machine, qemu, initrd, kernel)
	if err == nil || !unpacked || res.Boot > 0 || res.Console != "" || ctx.Err() != nil {
		return res, err
	}
	// Not one word from the kernel: perhaps it only starts the way that it was made for.
	image, err := os.Open(c.Kernel.Image)
	if err != nil {
		return res, fmt.Errorf("lab: %w", err)
	}
	defer image.Close()
	return runProbed(ctx, &c, machine, qemu, initrd, image)
}

// buildInitrd returns an anonymous file, which cannot be left behind.
func buildInitrd(c *Config, m *machine) (*os.File, error) {
	todo := plan{Line: m.line, Jobs: c.Jobs}
	if c.Terminal != nil {
		todo.Terminal, todo.Rows, todo.Columns = m.terminal, c.Terminal.Rows, c.Terminal.Columns
	}
	for _, m := range c.Modules {
		todo.Modules = append(todo.Modules, m.Name)
	}
	p, err := json.Marshal(todo)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("lab-initramfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("lab: memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "lab-initramfs")
	files := append([]File{{Path: "/init", Host: c.Init}, {Path: planPath, Data: p, Mode: 0o600}}, c.Files...)
	for _, m := range c.Modules {
		files = append(files, File{Path: modulesPath + m.Name, Data: m.Data, Mode: 0o600})
	}
	for i := range c.Jobs {
		if d := path.Clean(c.Jobs[i].Dir); d != "/" && d != "/tmp" {
			files = append(files, File{Path: path.Join(d, ".lab"), Data: []byte{}, Mode: 0o600})
		}
	}
	if err := writeInitramfs(f, files); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: initramfs: %w", err), f.Close())
	}
	return f, nil
}

// kernelMiB is what a kernel of the lab takes at the least, its image and tables together.
const kernelMiB = 24

// enoughMemory refuses a guest whose files cannot fit. The kernel holds the archive and what comes out of it at the same time; with too
// little memory for both it may stop before it can say anything.
func enoughMemory(c *Config, initrd *os.File) error {
	st, err := initrd.Stat()
	if err != nil {
		return fmt.Errorf("lab: initramfs: %w", err)
	}
	size := int((st.Size() + 1<<20 - 1) >> 20)
	if need := 2*size + kernelMiB; need > c.MemoryMiB {
		return &Error{
			Kernel: c.Kernel.String(), Kind: KindMemory,
			Detail: fmt.Sprintf("its files are %d MiB, and twice that while they are unpacked; it needs at least %d MiB (the guest has %d MiB)", size, need, c.MemoryMiB),
		}
	}
	return nil
}

// tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
	max int
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*t.max {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-t.max:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ReplaceAll(string(t.buf[max(0, len(t.buf)-t.max):]), "\r\n", "\n")
}

// receiver turns frames into a result.
type receiver struct {
	c     *Config
	res   *Result
	begin time.Time
	hello chan struct{} // closed by the first report
	fatal string
	done  bool
	flood bool
}

// receive reads until the stream ends, the guest is done or sends too much.
func (r *receiver) receive(in io.Reader) {
	limit := &io.LimitedReader{R: in, N: r.c.MaxOutputBytes + r.c.MaxOutputBytes/8}
	frames := newFrameReader(limit)
	defer func() { r.res.SkippedBytes = frames.skipped }()
	for {
		f, err := frames.next()
		if err != nil {
			r.flood = limit.N <= 0
			return
		}
		if done := r.take(f); done {
			return
		}
	}
}

func (r *receiver) take(f frame) (done bool) {
	switch f.kind {
	case frameHello:
		var h guestHello
		if json.Unmarshal(f.payload, &h) == nil && r.res.Boot == 0 {
			r.res.Release, r.res.CPUs = h.Release, h.CPUs
			r.res.Boot = time.Since(r.begin)
			close(r.hello)
		}
	case frameModules:
		_ = json.Unmarshal(f.payload, &r.res.Modules) // its sum was right; a list that cannot be read stays empty
	case frameFatal:
		r.fatal = string(f.payload)
		return true
	case frameDone:
		r.done = true
		return true
	default:
		if f.job < len(r.res.Jobs) {
			r.takeJob(f, &r.res.Jobs[f.job])
		}
	}
	return false
}

func (r *receiver) takeJob(f frame, j *JobResult) {
	switch f.kind {
	case frameStart:
		j.Started = true
	case frameStdout, frameStderr:
		dst := &j.Stdout
		if f.kind == frameStderr {
			dst = &j.Stderr
		}
		*dst = append(*dst, f.payload...)
		if r.c.Output != nil {
			r.c.Output(f.job, f.kind == frameStderr, f.payload)
		}
	case frameExit:
		var e jobExit
		if json.Unmarshal(f.payload, &e) != nil {
			return
		}
		j.Ended = true
		j.Code, j.Signal, j.StartError, j.Duration = e.Code, e.Signal, e.StartError, e.Duration
		j.TimedOut, j.Flooded, j.OOMKilled = e.TimedOut, e.Flooded, e.OOMKilled
	default: // of the guest, not of a job
	}
}

// runOnce starts QEMU and waits for its end.
func runOnce(ctx context.Context, c *Config, m *machine, qemu string, accel Accel, initrd, kernel *os.File) (Result, error) {
	res := Result{Accel: accel, Jobs: make([]JobResult, len(c.Jobs))}
	for i := range res.Jobs {
		res.Jobs[i] = JobResult{Args: c.Jobs[i].Args, Code: -1}
	}
	// The kernel kills QEMU when the thread that started it ends; this one
	// lives until QEMU is gone, or this process dies.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	conR, conW, err := os.Pipe()
	if err != nil {
		return res, fmt.Errorf("lab: %w", err)
	}
	defer conR.Close()
	runCtx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	cmd := exec.CommandContext(runCtx, qemu, m.args(c, accel)...)
	cmd.ExtraFiles = []*os.File{initrd, conW, kernel} // descriptors 3, 4 and 5, see machine.args
	detach, err := connect(c.Terminal, cmd)
	if err != nil {
		conW.Close()
		return res, err
	}
	defer detach()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	complaint := &tail{max: 4 << 10}
	cmd.Stderr = complaint
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		conW.Close()
		return res, fmt.Errorf("lab: %w", err)
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		conW.Close()
		return res, fmt.Errorf("lab: %w", err)
	}
	conW.Close()

	console := &tail{max: consoleTailBytes}
	var readers sync.WaitGroup
	readers.Go(func() { _, _ = io.Copy(console, conR) })
	rec := &receiver{c: c, res: &res, begin: begin, hello: make(chan struct{})}
	received := make(chan struct{})
	go func() { defer close(received); rec.receive(out) }()

	late := false
	boot := time.NewTimer(c.BootTimeout)
	defer boot.Stop()
	select {
	case <-rec.hello:
		<-received // ends at the latest when runCtx ends QEMU
	case <-received:
	case <-boot.C:
		late = true
	}
	cancel()
	<-received
	waitErr := cmd.Wait()
	readers.Wait()
	res.Total = time.Since(begin)
	res.Console = console.String()
	if rec.done {
		return res, nil
	}
	if err := context.Cause(ctx); err != nil {
		return res, err
	}
	return res, explain(c, rec, &res, late, complaint.String(), waitErr)
}

// explain finds out why the guest did not finish.
func explain(c *Config, rec *receiver, res *Result, late bool, complaint string, waitErr error) error {
	e := &Error{Kernel: c.Kernel.String(), Console: res.Console}
	panicLine, noMemory := findPanic(res.Console)
	switch {
	case rec.flood:
		e.Kind, e.Detail = KindFlood, fmt.Sprintf("more than %d bytes on the result line", c.MaxOutputBytes)
	case rec.fatal != "":
		e.Kind, e.Detail = KindInit, rec.fatal
	case strings.Contains(res.Console, initComplaint):
		// Init failed before it had the result line.
		_, text, _ := strings.Cut(res.Console, initComplaint)
		text, _, _ = strings.Cut(text, "\n")
		e.Kind, e.Detail = KindInit, text
	case noMemory:
		e.Kind, e.Detail = KindMemory, panicLine+" (the guest has "+strconv.Itoa(c.MemoryMiB)+" MiB)"
	case panicLine != "":
		e.Kind, e.Detail = KindPanic, panicLine
	case late:
		e.Kind, e.Detail = KindBoot, fmt.Sprintf("no report from init within %s", c.BootTimeout)
	case res.Total >= c.Timeout:
		e.Kind, e.Detail = KindTimeout, fmt.Sprintf("not done after %s", c.Timeout)
		if res.Boot == 0 {
			e.Kind = KindBoot
		}
	default:
		e.Kind, e.Detail = KindLost, "QEMU ended early"
		if line := lastLines(complaint, 1); line != "" {
			e.Detail = line
		} else if waitErr != nil {
			e.Detail = waitErr.Error()
		}
	}
	return e
}

// findPanic returns the console line that tells why the kernel stopped, and
// whether that was for lack of memory.
func findPanic(console string) (line string, noMemory bool) {
	for l := range strings.Lines(console) {
		l = strings.TrimSpace(l)
		// Strip the time stamp.
		if _, rest, ok := strings.Cut(l, "] "); ok && strings.HasPrefix(l, "[") {
			l = rest
		}
		switch {
		case strings.Contains(l, "Initramfs unpacking failed: write error"),
			strings.Contains(l, "System is deadlocked on memory"),
			strings.Contains(l, "Out of memory and no killable processes"):
			return l, true
		case strings.HasPrefix(l, "Kernel panic - not syncing: "):
			if line == "" {
				line = strings.TrimPrefix(l, "Kernel panic - not syncing: ")
			}
		case strings.HasPrefix(l, "BUG: "), strings.HasPrefix(l, "kernel BUG at "),
			strings.HasPrefix(l, "Oops: "), strings.HasPrefix(l, "general protection fault"):
			if line == "" {
				line = l
			}
		}
	}
	return line, false
}
