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
	"testing"
	"time"
)

type testCase struct {
	file, name, prog string
	run, env         []string
	expect           []string
	regex, none      []string
	exit             int
	timeout          time.Duration
	same             bool
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
			c.file, c.timeout = name, 20*time.Second
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
		case "TIMEOUT":
			var n int
			n, err = strconv.Atoi(rest)
			c.timeout = time.Duration(n) * time.Second
		case "SAME":
			c.same = true
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

// runCase runs one case and gives both streams in one, and the status.
func runCase(path string, c testCase) (text string, status int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"-e", c.prog}, c.run...)...)
	cmd.Env = append(append(os.Environ(), "BPFTRACE_COLOR=never"), c.env...)
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
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
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases(t) {
		t.Run(c.file+"/"+c.name, func(t *testing.T) {
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

func TestSameAsBpftrace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	peer, err := exec.LookPath("bpftrace")
	if err != nil {
		t.Skip("needs bpftrace")
	}
	if testing.Short() {
		t.Skip("needs minutes: bpftrace takes a second to start")
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases(t) {
		if !c.same {
			continue
		}
		t.Run(c.file+"/"+c.name, func(t *testing.T) {
			ours, _, err := runCase(path, c)
			if err != nil {
				t.Fatal(err)
			}
			c.timeout = time.Minute
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
