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

	"github.com/sonde-sh/sonde/lang/diag"
)

// Child is a command that sonde starts stopped at its first instruction, so that probes are attached before it runs.
type Child struct {
	PID     int
	cmd     *exec.Cmd
	release chan struct{} // closed to let the child run
	done    chan struct{}
	once    sync.Once

	mu    sync.Mutex
	err   error
	state *os.ProcessState
}

// childError is why there is no such program.
func childError(err error) error {
	var pe *os.PathError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		err = syscall.ENOENT
	case errors.As(err, &pe):
		err = pe.Err
	}
	return errors.New(diag.Sentence(err.Error()))
}

// StartChild starts a command line, split at blanks with quotes as a shell does (no expansion). The child is stopped after its execve.
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
	c := &Child{release: make(chan struct{}), done: make(chan struct{})}
	c.cmd = exec.Command(path, argv[1:]...)
	c.cmd.Args[0] = argv[0]
	c.cmd.Env = env
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// Ptrace stops the child at its first instruction. Setpgid is not used: Ctrl-C must reach the child as it would without us.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go c.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %q: %w", argv[0], err)
	}
	return c, nil
}

// run stays on one thread: only the thread that started a traced child may let it go.
func (c *Child) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	if err := c.cmd.Start(); err != nil {
		started <- err
		return
	}
	c.PID = c.cmd.Process.Pid
	var ws syscall.WaitStatus
	_, err := syscall.Wait4(c.PID, &ws, 0, nil)
	if err == nil && !ws.Stopped() {
		err = errors.New("it ended")
	}
	if err != nil {
		_ = c.cmd.Process.Kill()
		started <- fmt.Errorf("the child did not stop at its start: %w", err)
		return
	}
	started <- nil
	<-c.release
	if err := syscall.PtraceDetach(c.PID); err != nil && !errors.Is(err, syscall.ESRCH) {
		c.mu.Lock()
		c.err = fmt.Errorf("let the child run: %w", err)
		c.mu.Unlock()
	}
	err = c.cmd.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = c.cmd.ProcessState
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && c.err == nil {
		c.err = err
	}
}

// Resume lets the child run. Calling it twice is harmless.
func (c *Child) Resume() { c.once.Do(func() { close(c.release) }) }

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
