package shell

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Marks that a terminal puts around pasted text once bracketed paste is on.
const (
	pasteStart  = "\x1b[200~"
	pasteEnd    = "\x1b[201~"
	pasteModeOn = "\x1b[?2004h"
	pasteOff    = "\x1b[?2004l"
)

// keyboard reads a terminal only while somebody asks: the line editor, a view, or a program that got the terminal in between. It takes the marks
// of bracketed paste away and makes pasted tabs blanks, so that a paste never asks for completion. Zero bytes (Ctrl-Space) do nothing.
type keyboard struct {
	f       *os.File
	wake    int // eventfd that ends a wait for good
	ready   []byte
	pending []byte // the beginning of a mark that is not complete yet
	pasting bool
}

func newKeyboard(f *os.File) (*keyboard, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return &keyboard{f: f, wake: wake}, nil
}

// Read waits for keys.
func (k *keyboard) Read(p []byte) (int, error) {
	for len(k.ready) == 0 {
		if _, err := k.fill(-1); err != nil {
			return 0, err
		}
	}
	n := copy(p, k.ready)
	k.ready = k.ready[n:]
	return n, nil
}

// key waits at most d for one byte; ok is false when none came.
func (k *keyboard) key(d time.Duration) (b byte, ok bool, err error) {
	if len(k.ready) == 0 {
		if _, err := k.fill(d); err != nil {
			return 0, false, err
		}
	}
	if len(k.ready) == 0 {
		return 0, false, nil
	}
	b, k.ready = k.ready[0], k.ready[1:]
	return b, true, nil
}

// fill waits for input and takes it in; a negative time waits for ever. It reports whether anything came.
func (k *keyboard) fill(d time.Duration) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(k.f.Fd()), Events: unix.POLLIN}, {Fd: int32(k.wake), Events: unix.POLLIN}}
	ms := -1
	if d >= 0 {
		ms = int(d.Milliseconds())
	}
	if len(k.pending) > 0 {
		ms = 30 // the rest of a mark comes at once; a lone escape key does not
	}
	n, err := unix.Poll(fds, ms)
	switch {
	case errors.Is(err, unix.EINTR):
		return false, nil
	case err != nil:
		return false, err
	case n == 0:
		k.ready, k.pending = append(k.ready, k.pending...), nil
		return false, nil
	case fds[1].Revents != 0:
		return false, io.EOF
	}
	buf := make([]byte, 4096)
	n, err = unix.Read(int(k.f.Fd()), buf)
	switch {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		return false, nil
	case err != nil: // the terminal is gone: EIO
		return false, io.EOF
	case n == 0:
		return false, io.EOF
	}
	k.accept(buf[:n])
	return true, nil
}

// accept takes marks out of what was read.
func (k *keyboard) accept(b []byte) {
	b = append(k.pending, b...)
	k.pending = nil
	for len(b) > 0 {
		mark := pasteStart
		if k.pasting {
			mark = pasteEnd
		}
		i := bytes.Index(b, []byte(mark))
		if i < 0 {
			// The end of the input may be the beginning of a mark.
			for n := min(len(mark)-1, len(b)); n > 0; n-- {
				if bytes.HasSuffix(b, []byte(mark[:n])) && (n > 1 || k.pasting) {
					k.pending = bytes.Clone(b[len(b)-n:])
					b = b[:len(b)-n]
					break
				}
			}
			k.take(b)
			return
		}
		k.take(b[:i])
		k.pasting = !k.pasting
		b = b[i+len(mark):]
	}
}

func (k *keyboard) take(b []byte) {
	if k.pasting {
		b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\r"))
		b = bytes.ReplaceAll(b, []byte("\n"), []byte("\r"))
		b = bytes.ReplaceAll(b, []byte("\t"), []byte("    "))
	}
	b = bytes.ReplaceAll(b, []byte{0}, nil) // Ctrl-Space; the line editor takes a zero for the end
	k.ready = append(k.ready, b...)
}

// Close ends a Read that waits.
func (k *keyboard) Close() error {
	_, err := unix.Write(k.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return err
}

// rawMode makes the terminal give every key at once, without echo and without signals; restore undoes it.
func (k *keyboard) rawMode() (restore func(), err error) {
	fd := int(k.f.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	raw := *old
	raw.Lflag &^= unix.ICANON | unix.ECHO | unix.ISIG
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }, nil
}

// screenSize gives the columns and rows of a terminal, 80 by 24 where it does not tell.
func screenSize(w io.Writer) (cols, rows int) {
	if cols, rows, ok := TerminalSize(w); ok {
		return cols, rows
	}
	return 80, 24
}

// TerminalSize gives the columns and rows of the terminal that w writes to; not ok when it is none, or does not tell.
func TerminalSize(w io.Writer) (cols, rows int, ok bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, 0, false
	}
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Col == 0 || ws.Row == 0 {
		return 0, 0, false
	}
	return int(ws.Col), int(ws.Row), true
}
