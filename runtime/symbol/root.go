package symbol

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is a file system to find files in: our own, or that of another process (a container). The zero value is our own.
type Root struct {
	// Dir is the directory that stands for /, such as /proc/1234/root; "" is our own root.
	Dir string
}

// Own reports whether r is our own file system.
func (r Root) Own() bool { return r.Dir == "" || r.Dir == "/" }

// Host returns the path under which the kernel finds path from our side, symbolic links included as they are.
func (r Root) Host(path string) string {
	if r.Own() {
		return path
	}
	return r.Dir + filepath.Join("/", path)
}

// Resolve returns the path, seen from our side, of a path in the root, with all symbolic links followed inside the root:
// an absolute link in a container must lead to the container's file, and the kernel would take ours. In our own root it
// returns the path with links resolved.
func (r Root) Resolve(path string) (string, error) {
	if r.Own() {
		return filepath.EvalSymlinks(path)
	}
	const maxLinks = 40 // as the kernel has
	done := ""          // resolved part, inside the root, without trailing slash
	todo := strings.Split(path, "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = done[:max(0, strings.LastIndexByte(done, '/'))]
			continue
		}
		next := done + "/" + part
		target, err := os.Readlink(r.Dir + next)
		if err == nil {
			if links++; links > maxLinks {
				return "", &fs.PathError{Op: "resolve", Path: r.Host(path), Err: errors.New("too many levels of symbolic links")}
			}
			if strings.HasPrefix(target, "/") {
				done = ""
			}
			todo = append(strings.Split(target, "/"), todo...)
			continue
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return "", err
		}
		done = next // not a link
	}
	if done == "" {
		done = "/"
	}
	return r.Dir + done, nil
}

// Open opens a path of the root for reading.
func (r Root) Open(path string) (*os.File, error) {
	host := path
	if !r.Own() {
		var err error
		if host, err = r.Resolve(path); err != nil {
			return nil, err
		}
	}
	// Without O_NONBLOCK, a named pipe that somebody put there would hold us for ever.
	return os.OpenFile(host, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// stat is os.Stat inside the root.
func (r Root) stat(path string) (os.FileInfo, error) {
	if r.Own() {
		return os.Stat(path)
	}
	host, err := r.Resolve(path)
	if err != nil {
		return nil, err
	}
	return os.Stat(host)
}

// Namespace tells where a process lives.
type Namespace struct {
	// PID is the process as we see it.
	PID int
	// PIDs are its ids in each pid namespace from ours to its own; the last is what the process itself sees.
	PIDs []int
	// Root is the file system that the process sees; the zero Root when it sees the same as we do.
	Root Root
	// OtherMounts is set when the process has another mount namespace than ours.
	OtherMounts bool
}

// Inner is the process id that the process itself sees.
func (n Namespace) Inner() int {
	if len(n.PIDs) == 0 {
		return n.PID
	}
	return n.PIDs[len(n.PIDs)-1]
}

// Inspect finds out where a process lives. The error wraps fs.ErrNotExist when there is no such process and
// fs.ErrPermission when we may not look at it.
func Inspect(pid int) (Namespace, error) { return inspect("/proc", pid) }

func inspect(proc string, pid int) (Namespace, error) {
	n := Namespace{PID: pid}
	dir := filepath.Join(proc, strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return n, fmt.Errorf("process %d: %w", pid, err)
	}
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "NSpid:"); ok {
			for _, field := range strings.Fields(rest) {
				if v, err := strconv.Atoi(field); err == nil {
					n.PIDs = append(n.PIDs, v)
				}
			}
		}
	}
	if len(n.PIDs) == 0 {
		n.PIDs = []int{pid}
	}
	theirs, err := os.Readlink(filepath.Join(dir, "ns/mnt"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return n, nil // a zombie has no namespaces left
		}
		return n, fmt.Errorf("process %d: mount namespace: %w", pid, err)
	}
	ours, err := os.Readlink(filepath.Join(proc, "self/ns/mnt"))
	if err == nil && ours != theirs {
		n.OtherMounts = true
	}
	if n.OtherMounts {
		n.Root = Root{Dir: filepath.Join(dir, "root")}
	} else if target, err := os.Readlink(filepath.Join(dir, "root")); err == nil && target != "/" {
		n.Root = Root{Dir: filepath.Join(dir, "root")} // chroot
	}
	return n, nil
}
