package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unsafe"
)

// Tracefs is the kernel's tracing file system. It is safe for concurrent use.
type Tracefs struct {
	dir  string
	list func() (string, error) // available_events, read once

	mu     sync.Mutex
	events map[string]*Event
}

// ErrNoEvent says that there is no such trace event (the category, the name or both do not exist, or its module is not loaded).
var ErrNoEvent = errors.New("no such trace event")

// Tracefs is the tracing file system: where it is mounted, else (with CAP_SYS_ADMIN) a mount that only this process sees.
func (k *Kernel) Tracefs() (*Tracefs, error) { return k.tracefs() }

// TracefsDir is where the trace file system is; see [Tracefs.Dir].
func (k *Kernel) TracefsDir() (string, error) {
	t, err := k.Tracefs()
	if err != nil {
		return "", err
	}
	return t.Dir(), nil
}

func (k *Kernel) openTracefs() (*Tracefs, error) {
	dir, err := k.view("tracefs", "events", "/sys/kernel/tracing", "/sys/kernel/debug/tracing")
	if err != nil {
		return nil, fmt.Errorf("tracefs: %w", err)
	}
	return newTracefs(dir), nil
}

func newTracefs(dir string) *Tracefs {
	t := &Tracefs{dir: dir, events: map[string]*Event{}}
	t.list = sync.OnceValues(func() (string, error) {
		b, err := readLarge(filepath.Join(dir, "available_events"))
		if err != nil {
			return "", fmt.Errorf("list trace events: %w", err)
		}
		return unsafe.String(unsafe.SliceData(b), len(b)), nil
	})
	return t
}

// Dir is where the file system is. It may be a path below /proc/self, which is good only inside this process.
func (t *Tracefs) Dir() string { return t.dir }

// Events goes through the events whose category and name match, in the kernel's order. The list is read once and kept; a pattern
// without any wildcard does not need it.
func (t *Tracefs) Events(category, name string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		c, n := CompileGlob(category), CompileGlob(name)
		if c.IsLiteral() && n.IsLiteral() {
			if t.Has(category, name) {
				yield(category, name)
			}
			return
		}
		all, err := t.list()
		if err != nil {
			t.walkDirs(c, n, yield)
			return
		}
		for line := range strings.SplitSeq(all, "\n") {
			cat, ev, ok := strings.Cut(line, ":")
			if ok && c.Match(cat) && n.Match(ev) && !yield(cat, ev) {
				return
			}
		}
	}
}

// walkDirs lists by directory, for a tracefs whose list cannot be read.
func (t *Tracefs) walkDirs(c, n Glob, yield func(string, string) bool) {
	cats, err := os.ReadDir(filepath.Join(t.dir, "events"))
	if err != nil {
		return
	}
	for _, cat := range cats {
		if !cat.IsDir() || !c.Match(cat.Name()) {
			continue
		}
		evs, err := os.ReadDir(filepath.Join(t.dir, "events", cat.Name()))
		if err != nil {
			continue
		}
		for _, ev := range evs {
			if ev.IsDir() && n.Match(ev.Name()) && !yield(cat.Name(), ev.Name()) {
				return
			}
		}
	}
}

// Categories lists the categories that have events, sorted.
func (t *Tracefs) Categories() ([]string, error) {
	all, err := t.list()
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.SplitSeq(all, "\n") {
		if cat, _, ok := strings.Cut(line, ":"); ok && (len(out) == 0 || out[len(out)-1] != cat) {
			out = append(out, cat)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func validEventName(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.Contains(s, "/")
}

// Has tells whether an event exists.
func (t *Tracefs) Has(category, name string) bool {
	if !validEventName(category) || !validEventName(name) {
		return false
	}
	_, err := os.Stat(filepath.Join(t.dir, "events", category, name, "format"))
	return err == nil
}

// Event reads and keeps the format of an event. The error wraps ErrNoEvent when there is none.
func (t *Tracefs) Event(category, name string) (*Event, error) {
	key := category + ":" + name
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.events[key]; e != nil {
		return e, nil
	}
	b, err := t.readEvent(category, name, "format")
	if err != nil {
		return nil, err
	}
	e, err := ParseFormat(category, string(b))
	if err != nil {
		return nil, err
	}
	t.events[key] = e
	return e, nil
}

// EventID reads an event's number, which costs less than its whole format.
func (t *Tracefs) EventID(category, name string) (int, error) {
	t.mu.Lock()
	if e := t.events[category+":"+name]; e != nil {
		t.mu.Unlock()
		return e.ID, nil
	}
	t.mu.Unlock()
	b, err := t.readEvent(category, name, "id")
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil {
		return 0, fmt.Errorf("trace event %s:%s: bad ID %q", category, name, b)
	}
	return n, nil
}

func (t *Tracefs) readEvent(category, name, file string) ([]byte, error) {
	if !validEventName(category) || !validEventName(name) {
		return nil, fmt.Errorf("%s:%s: %w", category, name, ErrNoEvent)
	}
	b, err := os.ReadFile(filepath.Join(t.dir, "events", category, name, file))
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s:%s: %w", category, name, ErrNoEvent)
	}
	return nil, fmt.Errorf("trace event %s:%s: %w", category, name, err)
}

// Syscalls lists the system calls that have an entry event, without the `sys_enter_`, sorted by the kernel's order of events.
func (t *Tracefs) Syscalls() []string {
	var out []string
	for _, ev := range t.Events("syscalls", "sys_enter_*") {
		out = append(out, strings.TrimPrefix(ev, "sys_enter_"))
	}
	return out
}

// readLarge reads a file that the kernel writes line by line while it is read. Each read call costs the kernel a seek into its
// list, so the buffer is large.
func readLarge(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, 0, 256<<10)
	for {
		if cap(buf)-len(buf) < 64<<10 {
			buf = slices.Grow(buf, cap(buf))
		}
		n, err := f.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n == 0 || err != nil {
			if err == nil || errors.Is(err, io.EOF) {
				return buf, nil
			}
			return nil, err
		}
	}
}
