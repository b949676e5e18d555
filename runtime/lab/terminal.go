package lab

import (
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// connect gives QEMU one end of a socket as descriptor 6, see machine.args, and copies between the other and the terminal. A blocked read
// of the terminal outlives the run; what it reads then is lost.
func connect(t *Terminal, cmd *exec.Cmd) (detach func(), err error) {
	if t == nil {
		return func() {}, nil
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "terminal"), os.NewFile(uintptr(fds[1]), "terminal")
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(t.Out, ours) }()
	go func() { _, _ = io.Copy(ours, t.In) }()
	return func() {
		theirs.Close()
		<-done // QEMU has ended: the reader comes to the end
		ours.Close()
	}, nil
}

// openTerminal opens the guest's side, with the size of the host's terminal.
func (g *guest) openTerminal() (*os.File, error) {
	if g.plan.Terminal == "" {
		return nil, fmt.Errorf("the guest has no terminal")
	}
	f, err := os.OpenFile(g.plan.Terminal, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	size := unix.Winsize{Row: uint16(g.plan.Rows), Col: uint16(g.plan.Columns)}
	if size.Row > 0 && size.Col > 0 {
		_ = unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &size)
	}
	return f, nil
}
