package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// guestMarker is set by the kernel command line, which turns words it
	// does not know into init's environment.
	guestMarker = "SONDE_LAB"
	planPath    = "/lab/plan.json"
	modulesPath = "/lab/modules/"
	hangForever = 1 << 62
	// initComplaint starts what init says on the console.
	initComplaint = "lab: init: "
)

// plan is what the host tells init, in the initramfs.
type plan struct {
	// Line is the device of the result line.
	Line string
	Jobs []Job
	// Terminal is the device of the terminal, empty for none.
	Terminal      string `json:",omitempty"`
	Rows, Columns int    `json:",omitempty"`
	// Modules are loaded in this order before the first job; their files are in modulesPath.
	Modules []string `json:",omitempty"`
}

type guestHello struct {
	Release string
	CPUs    int
	// UptimeMS is the guest's clock when init started.
	UptimeMS int64
}

type jobExit struct {
	Code       int
	Signal     string        `json:",omitempty"`
	TimedOut   bool          `json:",omitempty"`
	Flooded    bool          `json:",omitempty"`
	OOMKilled  bool          `json:",omitempty"`
	StartError string        `json:",omitempty"`
	Duration   time.Duration // on the guest's clock
}

// InGuest reports whether this process runs in a guest of the lab.
func InGuest() bool { return os.Getenv(guestMarker) == "1" }

// Init makes this process the guest's init when it is: process 1 of a kernel
// that the lab booted. Then it does not return; it runs the jobs and powers
// the guest off. In every other process it returns at once, after one
// system call, so a main function can call it first.
func Init() {
	if os.Getpid() != 1 || !InGuest() {
		return
	}
	g := &guest{}
	if err := g.run(); err != nil {
		g.fatal(err)
	}
	g.powerOff()
}

// RunTests is for the TestMain function of a package whose test binary is to
// be usable as the init of a guest. Outside of a guest it runs the tests as
// always.
func RunTests(m interface{ Run() int }) {
	Init()
	os.Exit(m.Run())
}

type guest struct {
	line *os.File
	out  *frameWriter
	plan plan
}

func (g *guest) fatal(err error) {
	fmt.Fprintf(os.Stderr, "%s%v\n", initComplaint, err)
	if g.out != nil {
		_ = g.out.write(frameFatal, 0, []byte(err.Error()))
	}
}

func (g *guest) powerOff() {
	if g.line != nil {
		// TCSBRK with 1 waits until the line has sent everything.
		_ = unix.IoctlSetInt(int(g.line.Fd()), unix.TCSBRK, 1)
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	time.Sleep(hangForever)
}

func (g *guest) run() error {
	up := uptime()
	mountErr := mountAll()
	data, err := os.ReadFile(planPath)
	if err != nil {
		return err
	}
	p := &g.plan
	if err := json.Unmarshal(data, p); err != nil {
		return fmt.Errorf("%s: %w", planPath, err)
	}
	if g.line, err = openLine(p.Line); err != nil {
		return fmt.Errorf("result line: %w", err)
	}
	g.out = &frameWriter{w: g.line}
	if mountErr != nil {
		return mountErr
	}
	if err := prepare(); err != nil {
		return err
	}
	if err := g.sendJSON(frameHello, 0, guestHello{Release: release(), CPUs: runtime.NumCPU(), UptimeMS: up.Milliseconds()}); err != nil {
		return err
	}
	if len(p.Modules) > 0 {
		if err := g.sendJSON(frameModules, 0, loadModules(p.Modules)); err != nil {
			return err
		}
	}
	var background []func()
	for i := range p.Jobs {
		finish := g.start(i, &p.Jobs[i])
		if p.Jobs[i].Background {
			background = append(background, finish)
		} else {
			finish()
		}
	}
	for _, finish := range background {
		finish()
	}
	return g.out.write(frameDone, 0, nil)
}

// loadModules loads files of modulesPath.
func loadModules(names []string) []ModuleResult {
	var out []ModuleResult
	for _, name := range names {
		r := ModuleResult{Name: name}
		f, err := os.Open(modulesPath + name)
		if err == nil {
			err = unix.FinitModule(int(f.Fd()), "", 0)
			f.Close()
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			r.Error = err.Error()
		}
		_ = os.Remove(modulesPath + name) // the root is memory
		out = append(out, r)
	}
	return out
}

func (g *guest) sendJSON(kind frameKind, job int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return g.out.write(kind, job, b)
}

// limited counts what a job writes and stops it at the limit.
type limited struct {
	g     *guest
	kind  frameKind
	job   int
	left  *atomic.Int64
	flood func()
}

func (l *limited) Write(p []byte) (int, error) {
	n := len(p)
	left := l.left.Add(-int64(n)) + int64(n) // before this write
	if left <= 0 {
		if n > 0 {
			l.flood() // exactly the limit was not too much; this is
		}
		return n, nil // the job is being killed; its pipe is drained
	}
	if int64(n) > left {
		p = p[:left]
		defer l.flood()
	}
	return n, l.g.out.write(l.kind, l.job, p)
}

// start starts a job and returns the function that waits for it and reports.
// A background job is stopped by that function.
func (g *guest) start(index int, j *Job) (finish func()) {
	_ = g.out.write(frameStart, index, nil)
	begin := time.Now()
	ctx, cancel := context.WithCancelCause(context.Background())
	errTimeout, errFlood, errStop := errors.New("timeout"), errors.New("flood"), errors.New("stop")

	cmd := exec.CommandContext(ctx, j.Args[0], j.Args[1:]...)
	cmd.Dir = j.Dir
	cmd.Env = append([]string{
		guestMarker + "=1", "PATH=/bin", "HOME=/root", "TMPDIR=/tmp", "USER=root", "TERM=dumb",
	}, j.Env...)
	cmd.Stdin = bytes.NewReader(j.Stdin)
	var left atomic.Int64
	left.Store(j.MaxOutputBytes)
	flood := func() { cancel(errFlood) }
	cmd.Stdout = &limited{g: g, kind: frameStdout, job: index, left: &left, flood: flood}
	cmd.Stderr = &limited{g: g, kind: frameStderr, job: index, left: &left, flood: flood}
	// A group of its own, so that its children die with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if j.Terminal {
		tty, err := g.openTerminal()
		if err != nil {
			cancel(nil)
			return func() { _ = g.sendJSON(frameExit, index, jobExit{Code: -1, StartError: err.Error()}) }
		}
		defer tty.Close()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true} // a session is a group too
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// Someone who left the group may keep the pipes open.
	cmd.WaitDelay = time.Second

	oomBefore := oomKills()
	if err := cmd.Start(); err != nil {
		cancel(nil)
		return func() {
			_ = g.sendJSON(frameExit, index, jobExit{Code: -1, StartError: err.Error()})
		}
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", cmd.Process.Pid), []byte("500"), 0)
	timer := time.AfterFunc(j.Timeout, func() { cancel(errTimeout) })
	return func() {
		if j.Background {
			cancel(errStop)
		}
		err := cmd.Wait()
		timer.Stop()
		// Whatever the job left in its group ends now.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		exit := jobExit{Code: cmd.ProcessState.ExitCode(), Duration: time.Since(begin)}
		if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			exit.Signal = unix.SignalName(ws.Signal())
			exit.OOMKilled = ws.Signal() == syscall.SIGKILL && oomKills() > oomBefore
		}
		cause := context.Cause(ctx)
		exit.TimedOut = errors.Is(cause, errTimeout)
		exit.Flooded = errors.Is(cause, errFlood)
		if err != nil && cause == nil && cmd.ProcessState.Success() && !errors.Is(err, exec.ErrWaitDelay) {
			exit.StartError = err.Error()
		}
		cancel(nil)
		_ = g.sendJSON(frameExit, index, exit)
	}
}

// oomKills returns the kernel's count of processes killed for memory.
func oomKills() int64 {
	b, _ := os.ReadFile("/proc/vmstat")
	for line := range strings.Lines(string(b)) {
		var n int64
		if _, err := fmt.Sscanf(line, "oom_kill %d", &n); err == nil {
			return n
		}
	}
	return 0
}

type mount struct {
	dir, kind string
	flags     uintptr
	data      string
	// optional mounts may be missing from a kernel.
	optional bool
}

func guestMounts() []mount {
	const std = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return []mount{
		{dir: "/proc", kind: "proc", flags: std},
		{dir: "/sys", kind: "sysfs", flags: std},
		{dir: "/dev", kind: "devtmpfs", flags: unix.MS_NOSUID, data: "mode=0755"},
		{dir: "/dev/pts", kind: "devpts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, optional: true},
		{dir: "/dev/shm", kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV},
		{dir: "/tmp", kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=1777"},
		{dir: "/run", kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV},
		{dir: "/sys/kernel/debug", kind: "debugfs", flags: std, optional: true},
		{dir: "/sys/kernel/tracing", kind: "tracefs", flags: std, optional: true},
		{dir: "/sys/kernel/security", kind: "securityfs", flags: std, optional: true},
		{dir: "/sys/fs/bpf", kind: "bpf", flags: std, optional: true},
		{dir: "/sys/fs/cgroup", kind: "cgroup2", flags: std, optional: true},
	}
}

func mountAll() error {
	for _, m := range guestMounts() {
		_ = os.MkdirAll(m.dir, 0o755) // refused below sysfs, where the folder is there or the mount fails
		if m.kind == "tmpfs" && !empty(m.dir) {
			continue // files that were brought along must stay in sight; the root lives in memory too
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, m.flags, m.data); err != nil && !m.optional {
			return fmt.Errorf("mount %s on %s: %w", m.kind, m.dir, err)
		}
	}
	return nil
}

func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// prepare does what a distribution's early boot does and tests rely on.
func prepare() error {
	_ = os.Symlink("/proc/self/fd", "/dev/fd")
	_ = unix.Sethostname([]byte("lab"))
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	// Before 5.11 BPF memory counts against this limit.
	inf := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &inf); err != nil {
		return fmt.Errorf("setrlimit: %w", err)
	}
	return linkUp("lo")
}

func linkUp(name string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}

// openLine opens a serial device for bytes as they are.
func openLine(dev string) (*os.File, error) {
	fd, err := unix.Open(filepath.Clean(dev), unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dev, Err: err}
	}
	f := os.NewFile(uintptr(fd), dev)
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dev, err), f.Close())
	}
	t.Iflag = 0
	t.Oflag = 0
	t.Lflag = 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dev, err), f.Close())
	}
	return f, nil
}

func uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

var _ io.Writer = (*limited)(nil)
