package runtime

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/lang/diag"
)

// Child is a command that sonde starts stopped, so that probes are attached before it runs: before its execve, unless the kernel or the machine's
// policy does not run programs from memory; then it is stopped after it.
type Child struct {
	PID     int
	cmd     *exec.Cmd
	name    string
	load    chan struct{} // closed to let the child become the command
	loaded  chan struct{} // closed when it has, or cannot
	release chan struct{} // closed to let the command run
	done    chan struct{}
	toLoad  sync.Once
	once    sync.Once

	mu    sync.Mutex
	err   error
	state *os.ProcessState
}

// A ChildError is a command that could not be executed.
type ChildError struct {
	Command string
	Err     error
}

func (e *ChildError) Error() string { return fmt.Sprintf("failed to execute %q: %v", e.Command, e.Err) }

func (e *ChildError) Unwrap() error { return e.Err }

// childError is why there is no such program.
func childError(err error) error {
	var (
		pe *os.PathError
		ee *exec.Error
	)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		err = syscall.ENOENT
	case errors.As(err, &pe):
		err = pe.Err
	case errors.As(err, &ee):
		err = ee.Err
	}
	return errors.New(diag.Sentence(err.Error()))
}

// StartChild starts a command line, split at blanks with quotes as a shell does (no expansion). The child is stopped before its execve.
// Its output goes to this process's own.
func StartChild(line string, env []string) (*Child, error) {
	argv, err := SplitCommand(line)
	if err != nil {
		return nil, err
	}
	if len(argv) == 0 {
		return nil, errors.New("the command is empty")
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, fmt.Errorf("failed to fork child: Path '%s' does not exist or is not executable (%w)", argv[0], childError(err))
	}
	launcher, err := newLauncher()
	if err == nil {
		defer launcher.Close()
		c, err := startChild(fmt.Sprintf("/proc/self/fd/%d", launcher.Fd()), append([]string{path}, argv...), env, argv[0], true)
		if err == nil {
			return c, nil
		}
	}
	return startChild(path, argv, env, argv[0], false)
}

func startChild(path string, argv, env []string, name string, launched bool) (*Child, error) {
	c := &Child{name: name, load: make(chan struct{}), loaded: make(chan struct{}), release: make(chan struct{}), done: make(chan struct{})}
	c.cmd = &exec.Cmd{Path: path, Args: argv, Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	// Ptrace stops the child at its first instruction. Setpgid is not used: Ctrl-C must reach the child as it would without us.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go c.run(started, launched)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %q: %w", name, err)
	}
	return c, nil
}

// run stays on one thread: only the thread that started a traced child may let it go.
func (c *Child) run(started chan<- error, launched bool) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	if err := c.cmd.Start(); err != nil {
		started <- err
		return
	}
	c.PID = c.cmd.Process.Pid
	_, err := c.stopped()
	if err == nil && launched {
		if err = syscall.PtraceSetOptions(c.PID, syscall.PTRACE_O_TRACEEXEC); err == nil {
			err = c.until(func(ws syscall.WaitStatus) bool { return ws.StopSignal() == syscall.SIGSTOP })
		}
	}
	if err != nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		started <- fmt.Errorf("the child did not stop at its start: %w", err)
		return
	}
	started <- nil
	<-c.load
	if launched {
		err = c.until(func(ws syscall.WaitStatus) bool { return ws.TrapCause() == syscall.PTRACE_EVENT_EXEC })
	}
	close(c.loaded)
	if err == nil {
		<-c.release
		err = syscall.PtraceDetach(c.PID)
	}
	waited := c.cmd.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = c.cmd.ProcessState
	var exit *exec.ExitError
	switch ws, _ := c.state.Sys().(syscall.WaitStatus); {
	case errors.Is(err, errEnded) && ws.Exited():
		c.err = &ChildError{c.name, syscall.Errno(ws.ExitStatus())}
	case err != nil && !errors.Is(err, errEnded) && !errors.Is(err, syscall.ESRCH):
		c.err = fmt.Errorf("let the child run: %w", err)
	case waited != nil && !errors.As(waited, &exit):
		c.err = waited
	}
}

// errEnded says that the child is no more; its status has not been taken yet.
var errEnded = errors.New("it ended")

// stopped waits for the next stop of the child.
func (c *Child) stopped() (syscall.WaitStatus, error) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, c.PID, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		break
	}
	const exited, killed, dumped = 1, 2, 3 // CLD_EXITED and the like
	if info.Code == exited || info.Code == killed || info.Code == dumped {
		return 0, errEnded
	}
	var ws syscall.WaitStatus
	_, err := syscall.Wait4(c.PID, &ws, 0, nil)
	return ws, err
}

// until lets the child run until a stop that reached accepts. Signals that come meanwhile are the child's.
func (c *Child) until(reached func(syscall.WaitStatus) bool) error {
	signal := 0
	for {
		if err := syscall.PtraceCont(c.PID, signal); err != nil {
			return err
		}
		ws, err := c.stopped()
		if err != nil || reached(ws) {
			return err
		}
		signal = int(ws.StopSignal())
	}
}

// Load lets the child become the command without running it: its memory is that of the command then, and its execve is over. Calling it twice
// is harmless.
func (c *Child) Load() {
	c.toLoad.Do(func() { close(c.load) })
	<-c.loaded
}

// Resume lets the child run. Calling it twice is harmless.
func (c *Child) Resume() {
	c.once.Do(func() {
		c.toLoad.Do(func() { close(c.load) })
		close(c.release)
	})
}

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Stop sends SIGTERM to a child that is still running and waits for it.
func (c *Child) Stop() error {
	select {
	case <-c.done:
	default:
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		c.Resume()
		<-c.done
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Status tells how the child ended, "" while it runs or when it ended with status 0.
func (c *Child) Status() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == nil || c.state.Success() {
		return ""
	}
	return c.state.String()
}

// SplitCommand splits a command line at blanks; single and double quotes and the backslash work as in a shell.
func SplitCommand(line string) ([]string, error) {
	var out []string
	var cur strings.Builder
	in, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '\'' && c != '\'':
			cur.WriteByte(c)
		case c == '\\' && i+1 < len(line) && (quote == 0 || strings.IndexByte("\\\"$`", line[i+1]) >= 0):
			i++
			cur.WriteByte(line[i])
			in = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, in = c, true
		case quote == 0 && (c == ' ' || c == '\t' || c == '\n'):
			if in {
				out = append(out, cur.String())
				cur.Reset()
				in = false
			}
		default:
			cur.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("the command has an unclosed %c", quote)
	}
	if in {
		out = append(out, cur.String())
	}
	return out, nil
}
