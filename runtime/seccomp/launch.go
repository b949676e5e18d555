package seccomp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// LaunchFilter is a filter that a command gets before its execve.
type LaunchFilter struct {
	Program []byte // struct sock_filter, 8 bytes each, in the machine's byte order
	// Listener asks for the descriptor on which the kernel tells of calls with the action SECCOMP_RET_USER_NOTIF.
	Listener bool
	// KeepPrivileges leaves no_new_privs unset: set-user-ID programs keep working, and installing needs CAP_SYS_ADMIN.
	KeepPrivileges bool
}

// LaunchArgs are the arguments with which this program starts itself to put a filter on a command: between fork and execve Go
// cannot run code of ours. main must call [LaunchChild] when it finds them.
var launchArgs = [...]string{"seccomp", "__launch"}

// IsLaunch reports whether a program's arguments (os.Args) ask for [LaunchChild].
func IsLaunch(args []string) bool {
	return len(args) == 3 && args[1] == launchArgs[0] && args[2] == launchArgs[1]
}

// launchSpec goes to the helper in a file in memory, behind the first page, which both sides have mapped.
type launchSpec struct {
	Path   string
	Args   []string
	Env    []string
	Filter LaunchFilter
}

// Words of the shared page.
const (
	wordState = iota
	wordValue
)

// States of a launch.
const (
	launchBegun     = iota
	launchInstalled // value: the listener's descriptor
	launchGo        // from the parent: it has the listener
	launchRefused   // value: errno of seccomp
	launchNoExec    // value: errno of execve
)

const launchPage = 4096

// child is a started command.
type child struct {
	cmd      *exec.Cmd
	path     string
	page     []byte // nil without a filter
	listener int    // -1 without

	done chan struct{}
	mu   sync.Mutex
	err  error
}

// start starts a command; armed is called right before the fork and disarmed right after it.
func start(opts *Options, armed, disarmed func() error) (*child, error) {
	path, err := exec.LookPath(opts.Command[0])
	if err != nil {
		return nil, &CommandError{opts.Command[0], errors.Unwrap(err)}
	}
	env := opts.Env
	if env == nil {
		env = os.Environ()
	}
	c := &child{path: path, listener: -1, done: make(chan struct{})}
	var memory *os.File
	if opts.Filter == nil {
		c.cmd = exec.Command(path, opts.Command[1:]...)
		c.cmd.Args[0] = opts.Command[0]
		c.cmd.Env = env
	} else {
		memory, c.page, err = launchMemory(launchSpec{path, opts.Command, env, *opts.Filter})
		if err != nil {
			return nil, err
		}
		defer memory.Close()
		c.cmd = exec.Command("/proc/self/exe", launchArgs[:]...)
		c.cmd.Args[0] = "sonde"
		// A signal of Go's scheduler between the filter and execve would need rt_sigreturn.
		c.cmd.Env = []string{"GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=1", "GOTRACEBACK=none"}
		c.cmd.ExtraFiles = []*os.File{memory}
	}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = opts.Stdin, opts.Stdout, opts.Stderr
	if err := armed(); err != nil {
		return nil, err
	}
	err = c.cmd.Start()
	if err2 := disarmed(); err == nil {
		err = err2
	}
	if err != nil {
		return nil, &CommandError{opts.Command[0], err}
	}
	go func() {
		defer close(c.done)
		err := c.cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			c.mu.Lock()
			c.err = err
			c.mu.Unlock()
		}
	}()
	if opts.Filter != nil && opts.Filter.Listener {
		if err := c.takeListener(); err != nil {
			_ = c.stop()
			return nil, err
		}
	}
	return c, nil
}

// CommandError says that a command could not be started.
type CommandError struct {
	Name string
	Err  error
}

func (e *CommandError) Error() string { return fmt.Sprintf("start `%s`: %v", e.Name, e.Err) }

func (e *CommandError) Unwrap() error { return e.Err }

func launchMemory(spec launchSpec) (*os.File, []byte, error) {
	fd, err := unix.MemfdCreate("sonde-launch", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "launch")
	b, err := json.Marshal(spec)
	if err == nil {
		_, err = f.WriteAt(b, launchPage)
	}
	var page []byte
	if err == nil {
		page, err = unix.Mmap(fd, 0, launchPage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("prepare the launch: %w", err)
	}
	return f, page, nil
}

func word(page []byte, i int) *uint32 { return (*uint32)(unsafe.Pointer(&page[4*i])) }

// takeListener waits until the filter is installed and takes its descriptor out of the child, which spins until then.
func (c *child) takeListener() error {
	deadline := time.Now().Add(30 * time.Second)
	for atomic.LoadUint32(word(c.page, wordState)) != launchInstalled {
		select {
		case <-c.done:
			if err := c.launchError(); err != nil {
				return err
			}
			return &CommandError{c.path, errors.New("it ended before its filter was installed: " + c.status())}
		default:
		}
		if time.Now().After(deadline) {
			return &CommandError{c.path, errors.New("its filter was not installed within 30 s")}
		}
		time.Sleep(200 * time.Microsecond)
	}
	pidfd, err := unix.PidfdOpen(c.cmd.Process.Pid, 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	c.listener, err = unix.PidfdGetfd(pidfd, int(atomic.LoadUint32(word(c.page, wordValue))), 0)
	if err != nil {
		return fmt.Errorf("take the listener of the filter (needs Linux 5.6): %w", err)
	}
	atomic.StoreUint32(word(c.page, wordState), launchGo)
	return nil
}

// launchError tells what went wrong in the helper; nil when the command was executed.
func (c *child) launchError() error {
	if c.page == nil {
		return nil
	}
	errno := unix.Errno(atomic.LoadUint32(word(c.page, wordValue)))
	switch atomic.LoadUint32(word(c.page, wordState)) {
	case launchRefused:
		if errno == unix.EBUSY {
			return &CommandError{c.path, errors.New("a filter with a listener is above us already (we run under `sonde seccomp check` or in a container with one)")}
		}
		return &CommandError{c.path, fmt.Errorf("the kernel refused the filter: %w", errno)}
	case launchNoExec:
		return &CommandError{c.path, fmt.Errorf("execve under the filter: %w (the profile must allow execve)", errno)}
	}
	return nil
}

// stop ends a command that still runs: SIGTERM, and SIGKILL five seconds later.
func (c *child) stop() error {
	select {
	case <-c.done:
	default:
		_ = c.cmd.Process.Signal(unix.SIGTERM)
		select {
		case <-c.done:
		case <-time.After(5 * time.Second):
			_ = c.cmd.Process.Kill()
			<-c.done
		}
	}
	if c.listener >= 0 {
		_ = unix.Close(c.listener)
		c.listener = -1
	}
	if c.page != nil {
		defer func() { _ = unix.Munmap(c.page); c.page = nil }()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.launchError(), c.err)
}

// status says how the command ended, "" for exit status 0.
func (c *child) status() string {
	select {
	case <-c.done:
	default:
		return "still running"
	}
	if s := c.cmd.ProcessState; s == nil || s.Success() {
		return ""
	}
	return c.cmd.ProcessState.String()
}

// exitCode is the command's, or 128 and the signal that ended it.
func (c *child) exitCode() int {
	s := c.cmd.ProcessState
	if s == nil {
		return -1
	}
	if ws, ok := s.Sys().(interface {
		Signaled() bool
		Signal() unix.Signal
	}); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}

// LaunchChild is the life of the helper: it installs the filter on its own thread and becomes the command. It does not return.
func LaunchChild() {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	f := os.NewFile(3, "launch")
	fail := func(what string, err error) {
		fmt.Fprintf(os.Stderr, "sonde: launch: %s: %v\n", what, err)
		os.Exit(127)
	}
	st, err := f.Stat()
	if err != nil {
		fail("no specification", err)
	}
	b := make([]byte, st.Size()-launchPage)
	if _, err := f.ReadAt(b, launchPage); err != nil && err != io.EOF {
		fail("read the specification", err)
	}
	var spec launchSpec
	if err := json.Unmarshal(b, &spec); err != nil {
		fail("read the specification", err)
	}
	page, err := unix.Mmap(3, 0, launchPage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		fail("map the page", err)
	}
	unix.CloseOnExec(3)
	l := &launchCall{state: word(page, wordState), value: word(page, wordValue)}
	if l.path, err = unix.BytePtrFromString(spec.Path); err != nil {
		fail("path", err)
	}
	if l.argv, err = pointers(spec.Args); err != nil {
		fail("arguments", err)
	}
	if l.envv, err = pointers(spec.Env); err != nil {
		fail("environment", err)
	}
	code := spec.Filter.Program
	if len(code) == 0 || len(code)%8 != 0 || len(code) > 8*unix.BPF_MAXINSNS {
		fail("filter", fmt.Errorf("%d bytes are no filter", len(code)))
	}
	l.prog = unix.SockFprog{Len: uint16(len(code) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&code[0]))}
	if spec.Filter.Listener {
		l.flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	if !spec.Filter.KeepPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			fail("no_new_privs", err)
		}
	}
	l.run()
	select {} // not reached
}

func pointers(list []string) ([]*byte, error) {
	out := make([]*byte, 0, len(list)+1)
	for _, s := range list {
		if strings.IndexByte(s, 0) >= 0 {
			return nil, errors.New("a string with a NUL byte")
		}
		p, err := unix.BytePtrFromString(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return append(out, nil), nil
}

// launchCall is everything that run needs, made before the filter is there.
type launchCall struct {
	state, value *uint32
	path         *byte
	argv, envv   []*byte
	prog         unix.SockFprog
	flags        uintptr
}

// waitKillable is SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (Linux 5.19): signals do not restart a call that is being decided.
const waitKillable = 1 << 5

// run makes no system call between the filter and execve, not even one of Go's scheduler: no function it calls may be preempted.
//
//go:nosplit
func (l *launchCall) run() {
	extra := uintptr(0)
	if l.flags != 0 {
		extra = waitKillable
	}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, l.flags|extra, uintptr(unsafe.Pointer(&l.prog)))
	if errno == unix.EINVAL && extra != 0 {
		fd, _, errno = unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, l.flags, uintptr(unsafe.Pointer(&l.prog)))
	}
	if errno != 0 {
		atomic.StoreUint32(l.value, uint32(errno))
		atomic.StoreUint32(l.state, launchRefused)
	} else {
		atomic.StoreUint32(l.value, uint32(fd))
		atomic.StoreUint32(l.state, launchInstalled)
		for l.flags != 0 && atomic.LoadUint32(l.state) != launchGo {
		}
		_, _, errno = unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(l.path)), uintptr(unsafe.Pointer(&l.argv[0])), uintptr(unsafe.Pointer(&l.envv[0])))
		atomic.StoreUint32(l.value, uint32(errno))
		atomic.StoreUint32(l.state, launchNoExec)
	}
	// The filter may deny even this; a fault ends the process then.
	unix.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
	*(*uint32)(nil) = 0
}
