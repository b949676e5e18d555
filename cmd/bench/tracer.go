package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tracer is a program that is measured.
type tracer struct {
	name, version string
	command       []string // what to run, the arguments follow
	files         []string // what it needs in another kernel: itself, its loader and libraries
}

func newTracer(name, path, root string) (*tracer, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	t := &tracer{name: name, command: []string{abs}, files: []string{abs}}
	libs, interp, err := libraries(abs, root)
	if err != nil {
		return nil, err
	}
	t.files = append(t.files, libs...)
	if interp != "" {
		t.files = append(t.files, interp)
	}
	if root != "" && interp != "" {
		t.command = []string{interp, "--library-path", strings.Join(libraryDirs(root), ":"), abs}
	}
	out, err := exec.Command(t.command[0], append(slices.Clone(t.command[1:]), "--version")...).Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", path, err)
	}
	t.version = strings.TrimSpace(string(out))
	if f := strings.Fields(t.version); len(f) > 0 {
		t.version = f[len(f)-1]
	}
	return t, nil
}

// findPeer finds bpftrace; nil without an error when it is not installed.
func findPeer(path, root string) (*tracer, error) {
	if path == "none" {
		return nil, nil
	}
	if path == "" {
		p, err := exec.LookPath("bpftrace")
		if err != nil {
			return nil, nil
		}
		path = p
	}
	// Links are followed: sonde may be installed by that name.
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	if filepath.Base(real) == "sonde" {
		return nil, nil
	}
	return newTracer("bpftrace", real, root)
}

func libraryDirs(root string) []string {
	return []string{root + "/usr/lib/x86_64-linux-gnu", root + "/usr/lib/aarch64-linux-gnu", root + "/usr/lib64", root + "/usr/lib", root + "/usr/local/lib"}
}

// libraries lists the shared libraries that a program needs, and its loader; nothing for a static one.
func libraries(path, root string) (libs []string, interp string, err error) {
	seen := map[string]bool{}
	var add func(path string, main bool) error
	add = func(path string, main bool) error {
		f, err := elf.Open(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		defer f.Close()
		if s := f.Section(".interp"); main && s != nil {
			b, err := s.Data()
			if err != nil {
				return err
			}
			interp = root + string(bytes.TrimRight(b, "\x00"))
			if _, err := os.Stat(interp); err != nil {
				interp = root + "/usr" + string(bytes.TrimRight(b, "\x00"))
			}
		}
		needed, err := f.ImportedLibraries()
		if err != nil {
			return nil // static
		}
		for _, n := range needed {
			if seen[n] {
				continue
			}
			seen[n] = true
			p := findLibrary(n, root)
			if p == "" {
				return fmt.Errorf("%s needs %s, which is not there", path, n)
			}
			libs = append(libs, p)
			if err := add(p, false); err != nil {
				return err
			}
		}
		return nil
	}
	return libs, interp, add(path, true)
}

func findLibrary(name, root string) string {
	for _, d := range libraryDirs(root) {
		if p := filepath.Join(d, name); fileExists(p) {
			return p
		}
	}
	return ""
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// usage is what a process used, from its start to its end.
type usage struct {
	Wall, User, Sys time.Duration
	MaxRSS          int64 // bytes
	Code            int
}

func (u usage) cpu() time.Duration { return u.User + u.Sys }

// session is a running tracer.
type session struct {
	PID      int
	Attached time.Duration // from its start to its word that all probes are attached

	cmd     *exec.Cmd
	report  *bufio.Scanner
	started time.Time
	mu      sync.Mutex
	text    strings.Builder
	word    chan struct{}
	ended   chan struct{}
	copied  sync.WaitGroup
}

// notify is the variable, and the line, by which both tracers say that all probes are attached.
const notify = "__BPFTRACE_NOTIFY_PROBES_ATTACHED"

// begin starts a tracer. Its standard output is only searched for the word; results go where -o says.
func (t *tracer) begin(ctx context.Context, env []string, args ...string) (*session, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	// A small process of our own starts it, see the package's comment.
	s := &session{word: make(chan struct{}), ended: make(chan struct{}), report: bufio.NewScanner(r)}
	s.cmd = exec.CommandContext(ctx, self, slices.Concat([]string{"launch"}, t.command, args)...)
	s.cmd.ExtraFiles = []*os.File{w}
	s.cmd.Env = append(append(os.Environ(), notify+"=1"), env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	err = s.cmd.Start()
	w.Close()
	if err != nil {
		return nil, err
	}
	var launched launched
	if !s.report.Scan() || json.Unmarshal(s.report.Bytes(), &launched) != nil {
		return nil, errors.Join(fmt.Errorf("%s did not start: %s", t.name, s.messages()), s.cmd.Wait())
	}
	s.PID, s.started = launched.PID, time.Unix(0, launched.Started)
	s.copied.Go(func() { s.copy(stdout, false) })
	s.copied.Go(func() { s.copy(stderr, true) })
	return s, nil
}

// copy looks for the word in what the tracer prints, and keeps its messages. Old versions of bpftrace end no line after the word.
func (s *session) copy(pipe io.Reader, messages bool) {
	buf := make([]byte, 64<<10)
	var text []byte
	for found := false; ; {
		n, err := pipe.Read(buf)
		if text = append(text, buf[:n]...); !found && bytes.Contains(text, []byte(notify)) {
			found = true
			s.Attached = time.Since(s.started)
			close(s.word)
		}
		if messages && n > 0 {
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// messages gives what the tracer wrote to its standard error.
func (s *session) messages() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// wait waits until all probes are attached.
func (s *session) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { s.copied.Wait(); close(done) }()
	select {
	case <-s.word:
		// Old versions of bpftrace lose a signal that comes between the word and their first wait for events.
		time.Sleep(150 * time.Millisecond)
		return nil
	case <-done:
		select {
		case <-s.word:
			return nil
		default:
		}
		return fmt.Errorf("ended before it was attached: %s", s.messages())
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * time.Minute):
		return errors.New("not attached after two minutes")
	}
}

// interrupt ends the tracer as Ctrl-C does. Old versions of bpftrace lose a signal that comes before their first wait for events: who is still
// there much later gets another one.
func (s *session) interrupt() error {
	time.AfterFunc(10*time.Second, func() {
		select {
		case <-s.ended:
		default:
			_ = syscall.Kill(s.PID, syscall.SIGINT)
		}
	})
	return syscall.Kill(s.PID, syscall.SIGINT)
}

// end waits for the tracer's end.
func (s *session) end() (usage, error) {
	var u usage
	defer close(s.ended)
	if !s.report.Scan() {
		return u, errors.Join(errors.New("no report of the launched process"), s.cmd.Wait())
	}
	if err := json.Unmarshal(s.report.Bytes(), &u); err != nil {
		return u, err
	}
	s.copied.Wait()
	if err := s.cmd.Wait(); err != nil {
		return u, fmt.Errorf("%w: %s", err, s.messages())
	}
	if u.Code != 0 {
		return u, fmt.Errorf("exit status %d: %s", u.Code, s.messages())
	}
	return u, nil
}

// once runs a tracer to its end.
func (t *tracer) once(ctx context.Context, args ...string) (usage, error) {
	s, err := t.begin(ctx, nil, args...)
	if err != nil {
		return usage{}, err
	}
	u, err := s.end()
	if err != nil {
		return u, fmt.Errorf("%s %s: %w", t.name, strings.Join(args, " "), err)
	}
	return u, nil
}
