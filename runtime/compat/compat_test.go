package compat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sonde-sh/sonde/runtime/kernel/needs"
)

type testCase struct {
	file, name, prog string
	run, env         []string
	before, after    string // commands of the shell beside the program
	requires         string
	expect           []string
	regex, none      []string
	exit             int
	timeout          time.Duration
	same             bool
	since            string // version of bpftrace that it is the same from on, "" for all
}

// parseCases reads the cases of one file; a mistake in it is an error with its line.
func parseCases(name, text string) ([]testCase, error) {
	var out []testCase
	var c testCase
	seen := map[string]bool{}
	end := func(line int) error {
		if c.name == "" && c.prog == "" {
			return nil
		}
		if c.name == "" || c.prog == "" || len(c.expect)+len(c.regex)+len(c.none) == 0 && c.exit == 0 || seen[c.name] {
			return fmt.Errorf("%s:%d: case %q needs a name of its own, a program and something to check", name, line, c.name)
		}
		seen[c.name] = true
		out = append(out, c)
		c = testCase{}
		return nil
	}
	for i, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(l, "#") {
			continue
		}
		word, rest, _ := strings.Cut(l, " ")
		if c.timeout == 0 {
			c.file, c.timeout = name, 2*time.Minute // only a hang reaches it
		}
		var err error
		switch word {
		case "":
			err = end(i + 1)
		case "NAME":
			c.name = rest
		case "PROG":
			c.prog = rest
		case "RUN":
			c.run = strings.Fields(rest)
		case "ENV":
			c.env = append(c.env, rest)
		case "EXPECT":
			c.expect = append(c.expect, rest)
		case "EXPECT_REGEX":
			c.regex = append(c.regex, rest)
			_, err = regexp.Compile(rest)
		case "EXPECT_NONE":
			c.none = append(c.none, rest)
			_, err = regexp.Compile(rest)
		case "EXIT":
			c.exit, err = strconv.Atoi(rest)
		case "BEFORE":
			c.before = rest
		case "AFTER":
			c.after = rest
		case "REQUIRES":
			c.requires = rest
		case "TIMEOUT":
			var n int
			n, err = strconv.Atoi(rest)
			c.timeout = time.Duration(n) * time.Second
		case "SAME":
			c.same, c.since = true, rest
		case "DIFFERS":
		default:
			err = fmt.Errorf("unknown directive %q", word)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
	}
	return out, end(0)
}

func cases(t *testing.T) []testCase {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	var out []testCase
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		list, err := parseCases(strings.TrimSuffix(filepath.Base(f), ".txt"), string(b))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, list...)
	}
	return out
}

// binary builds sonde once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "compat")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "sonde")
	cmd := exec.Command("go", "build", "-o", path, "github.com/sonde-sh/sonde/cmd/sonde")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sonde: %w\n%s", err, b)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Geteuid() == 0 {
		if path, err := binary(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

// output collects what a program prints and tells when it says that its probes are attached.
type output struct {
	mu       sync.Mutex
	buf      bytes.Buffer
	attached chan struct{}
	told     bool
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.buf.Write(p)
	if !o.told && bytes.Contains(o.buf.Bytes(), []byte("Attach")) {
		o.told = true
		close(o.attached)
	}
	return n, err
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start starts a command of the shell; the function that it returns ends it with all that it started.
func start(command string) (stop func()) {
	cmd := exec.Command("sh", "-c", command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if cmd.Start() != nil {
		return func() {}
	}
	return func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}
}

// lacks is what keeps a case from running here, "" for nothing.
func (c *testCase) lacks() string {
	if c.requires == "" || exec.Command("sh", "-c", c.requires).Run() == nil {
		return ""
	}
	return c.requires
}

// runCase runs one case and gives both streams in one, and the status.
func runCase(path string, c testCase) (text string, status int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"-e", c.prog}, c.run...)...)
	cmd.Env = append(append(os.Environ(), "BPFTRACE_COLOR=never"), c.env...)
	buf := &output{attached: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = buf, buf
	if c.before != "" {
		defer start(c.before)()
	}
	if c.after != "" {
		go func() {
			select {
			case <-buf.attached:
				_ = exec.CommandContext(ctx, "sh", "-c", c.after).Run()
			case <-ctx.Done():
			}
		}()
	}
	err = cmd.Run()
	if ctx.Err() != nil {
		return buf.String(), 0, fmt.Errorf("still running after %v", c.timeout)
	}
	if errors.As(err, new(*exec.ExitError)) {
		err = nil
	}
	if cmd.ProcessState == nil {
		return buf.String(), 0, err
	}
	return buf.String(), cmd.ProcessState.ExitCode(), err
}

func TestCompat(t *testing.T) {
	needs.BPF(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases(t) {
		t.Run(c.file+"/"+c.name, func(t *testing.T) {
			if what := c.lacks(); what != "" {
				t.Skipf("needs %s", what)
			}
			out, status, err := runCase(path, c)
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, c.prog, out)
			}
			if status != c.exit {
				t.Errorf("status %d, want %d", status, c.exit)
			}
			lines := strings.Split(out, "\n")
			at := 0
			for _, want := range c.expect {
				i := at
				for i < len(lines) && lines[i] != want {
					i++
				}
				if i == len(lines) {
					t.Errorf("no line %q", want)
					continue
				}
				at = i + 1
			}
			for _, re := range c.regex {
				if !regexp.MustCompile(re).MatchString(out) {
					t.Errorf("does not match %q", re)
				}
			}
			for _, re := range c.none {
				if regexp.MustCompile(re).MatchString(out) {
					t.Errorf("matches %q", re)
				}
			}
			if t.Failed() {
				t.Logf("program: %s\noutput:\n%s", c.prog, out)
			}
		})
	}
}

// results keeps what a script printed: no blank lines, and not the line that counts probes, whose wording changed.
func results(out string) string {
	var kept []string
	for _, l := range strings.Split(out, "\n") {
		l = strings.TrimRight(l, " ") // older versions put a blank behind the name of a histogram
		if l != "" && !strings.HasPrefix(l, "Attach") && !strings.Contains(l, "RLIMIT_MEMLOCK") {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept, "\n")
}

// batchSize is how many cases become one script, because bpftrace takes a second to start.
const batchSize = 16

// joinable is a case that only prints: one action without maps.
var joinable = regexp.MustCompile(`^BEGIN \{ ([^@]*) exit\(\); \}$`)

var scratch = regexp.MustCompile(`\$([a-z]\w*)`)

func (c *testCase) joins() bool {
	return joinable.MatchString(c.prog) && len(c.run)+len(c.env) == 0 && c.exit == 0 && c.before+c.after+c.requires == ""
}

// runJoined runs cases as one script, with a line between them and variables of their own, and gives what each printed.
func runJoined(t *testing.T, path string, list []testCase) []string {
	t.Helper()
	const mark = "-- next --"
	var b strings.Builder
	b.WriteString("BEGIN { ")
	for i, c := range list {
		body := joinable.FindStringSubmatch(c.prog)[1]
		fmt.Fprintf(&b, "%s printf(\"%s\\n\"); ", scratch.ReplaceAllString(body, fmt.Sprintf("$$c%d_$1", i)), mark)
	}
	b.WriteString("exit(); }")
	out, _, err := runCase(path, testCase{prog: b.String(), run: []string{"--no-warnings"}, timeout: 2 * time.Minute})
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, &b, out)
	}
	parts := strings.Split(out, mark+"\n")
	if len(parts) != len(list)+1 {
		t.Fatalf("%s: %d parts for %d cases\n%s\n%s", path, len(parts), len(list), &b, out)
	}
	return parts
}

var versionNumber = regexp.MustCompile(`\d+\.\d+`)

// older reports whether a version, with words around it, is below another; "" is below none.
func older(have, want string) bool {
	var h, w [2]int
	for i, text := range []string{have, want} {
		to := []*[2]int{&h, &w}[i]
		_, _ = fmt.Sscanf(versionNumber.FindString(text), "%d.%d", &to[0], &to[1])
	}
	return h[0] < w[0] || h[0] == w[0] && h[1] < w[1]
}

func TestSameAsBpftrace(t *testing.T) {
	needs.BPF(t)
	name := "bpftrace"
	if other := os.Getenv("SONDE_COMPAT_PEER"); other != "" {
		name = other
	}
	peer, err := exec.LookPath(name)
	if err != nil {
		t.Skip("needs bpftrace")
	}
	version, err := exec.Command(peer, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if testing.Short() {
		t.Skip("needs minutes: bpftrace takes a second to start")
	}
	if _, err := os.Stat("/sys/kernel/tracing/events"); err != nil {
		peer = withTracefs(t, peer)
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var single []testCase
	var batches [][]testCase
	for _, c := range cases(t) {
		switch n := len(batches); {
		case !c.same || older(string(version), c.since):
		case !c.joins():
			single = append(single, c)
		case n == 0 || len(batches[n-1]) == batchSize:
			batches = append(batches, []testCase{c})
		default:
			batches[n-1] = append(batches[n-1], c)
		}
	}
	for _, list := range batches {
		ours, theirs := runJoined(t, path, list), runJoined(t, peer, list)
		for i, c := range list {
			t.Run(c.file+"/"+c.name, func(t *testing.T) {
				if results(ours[i]) != results(theirs[i]) {
					t.Errorf("%s\nsonde prints:\n%s\nbpftrace prints:\n%s", c.prog, results(ours[i]), results(theirs[i]))
				}
			})
		}
	}
	for _, c := range single {
		t.Run(c.file+"/"+c.name, func(t *testing.T) {
			c.run = append([]string{"--no-warnings"}, c.run...)
			ours, _, err := runCase(path, c)
			if err != nil {
				t.Fatal(err)
			}
			c.timeout = 2 * time.Minute
			theirs, _, err := runCase(peer, c)
			if err != nil {
				t.Fatal(err)
			}
			if results(ours) != results(theirs) {
				t.Errorf("%s\nsonde prints:\n%s\nbpftrace prints:\n%s", c.prog, results(ours), results(theirs))
			}
		})
	}
}

// withTracefs gives a command that runs another one with the trace file system mounted, which bpftrace does not do itself. Nothing else sees the mount.
func withTracefs(t *testing.T, command string) string {
	t.Helper()
	mount := "mount -t tracefs tracefs /sys/kernel/tracing && exec \"$0\" \"$@\""
	text := fmt.Sprintf("#!/bin/sh\nexec unshare --mount --propagation private sh -c '%s' '%s' \"$@\"\n", mount, command)
	path := filepath.Join(t.TempDir(), filepath.Base(command))
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestParseCases(t *testing.T) {
	good, err := parseCases("x", "# remark\nNAME a\nPROG p\nEXPECT 1\n\nNAME b\nPROG q\nEXIT 1\n")
	if err != nil || len(good) != 2 || good[1].exit != 1 {
		t.Errorf("got %v, %v", good, err)
	}
	for _, bad := range []string{"NAME a\n", "NAME a\nPROG p\n", "NAME a\nPROG p\nEXPECT_REGEX (\n", "FOO x\n", "NAME a\nPROG p\nEXIT 1\n\nNAME a\nPROG p\nEXIT 1\n"} {
		if _, err := parseCases("x", bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
