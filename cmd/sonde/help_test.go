package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Every way to ask for help answers on standard output, and what is no way says so with status 2.
func TestHelp(t *testing.T) {
	cases := []struct {
		args string
		code int
		want string // how the answer starts
	}{
		{"--help", exitOK, "USAGE:\n    sonde "},
		{"help", exitOK, "USAGE:\n    sonde "},
		{"help help", exitOK, "USAGE:\n    sonde "},
		{"help E0305", exitOK, "E0305: unknown field\n"},
		{"explain e0305", exitOK, "E0305: unknown field\n"},
		{"explain [W0211]", exitOK, "W0211: macro defined again\n"},
		{"explain E9999", exitUser, "ERROR: there is no code `E9999`\nHINT: codes stand in brackets"},
		{"explain", exitUsage, "ERROR: no program given\nUSAGE: sonde explain"},
		{"explain begin {}", exitUsage, "ERROR: more than one program given"},
		{"help nonsense", exitUsage, "ERROR: there is no such command\nHINT: `sonde help` lists"},
		{"learn -x", exitUsage, "ERROR: not a lesson: -x\nUSAGE: sonde learn"},
		{"triage -x", exitUsage, "ERROR: unknown shorthand flag: 'x' in -x\nUSAGE: sonde triage"},
		{"triage now", exitUsage, "ERROR: `now` is not understood\nUSAGE: sonde triage"},
		{"secomp", exitUser, "ERROR: failed to open file 'secomp': No such file or directory\nHINT: use `sonde seccomp`?"},
		{"tracepoint:*", exitUser, "ERROR: failed to open file 'tracepoint:*': No such file or directory\nHINT: put -l before a pattern"},
		{"begin{}", exitUser, "ERROR: failed to open file 'begin{}': No such file or directory\nHINT: put -e before a program"},
	}
	for _, name := range commandNames {
		if name != "help" {
			cases = append(cases, struct {
				args string
				code int
				want string
			}{"help " + name, exitOK, "USAGE:"})
		}
	}
	for _, c := range cases {
		var out, errs bytes.Buffer
		code := run(context.Background(), append([]string{"sonde"}, strings.Fields(c.args)...), stdio{strings.NewReader(""), &out, &errs})
		got, silent := out.String(), errs.String()
		if c.code != exitOK {
			got, silent = silent, got
		}
		if code != c.code || !strings.HasPrefix(got, c.want) || silent != "" {
			t.Errorf("sonde %s: status %d, wanted %d\n%s%s", c.args, code, c.code, got, silent)
		}
	}
}

const noTracefsEnv = "SONDE_TEST_WITHOUT_TRACEFS"

// TestKernelNoTracefs traces an event where nobody has mounted tracefs, as in many containers.
func TestKernelNoTracefs(t *testing.T) {
	if os.Getenv(noTracefsEnv) == "" {
		openKernel(t)
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKernelNoTracefs$", "-test.v")
		cmd.Env = append(os.Environ(), noTracefsEnv+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Skip("needs mount namespaces: ", err)
		}
		if err != nil || !bytes.Contains(out, []byte("traced 1")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug"} {
		_ = unix.Mount("tmpfs", dir, "tmpfs", 0, "") // an empty one in its place
	}
	if _, err := os.Stat("/sys/kernel/tracing/events"); err == nil {
		t.Fatal("tracefs is still there")
	}
	stop := make(chan struct{})
	defer close(stop)
	go activity(stop)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	code := run(ctx, []string{"sonde", "-e", `tracepoint:syscalls:sys_enter_openat { printf("traced %d\n", probe == "tracepoint:syscalls:sys_enter_openat"); exit(); }`}, stdio{strings.NewReader(""), os.Stdout, os.Stdout})
	if code != exitOK {
		t.Errorf("status %d", code)
	}
}

// The completion for bash knows every command, and every option that the help names.
func TestCompletionIsComplete(t *testing.T) {
	b, err := os.ReadFile("completion.bash")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, w := range strings.FieldsFunc(string(b), func(r rune) bool { return strings.ContainsRune(" \t\n\"=", r) }) {
		known[w] = true
	}
	for _, name := range commandNames {
		if !known[name] {
			t.Errorf("the command %s is missing", name)
		}
	}
	options, _, _ := strings.Cut(usageText, "OTHER COMMANDS")
	for _, o := range regexp.MustCompile(`--[a-z][a-z-]+`).FindAllString(options, -1) {
		if !known[o] {
			t.Errorf("the option %s is missing", o)
		}
	}
}

// Help fits 80 columns, but for commands that are shown as they would be typed, and no word is lost or moved.
func TestHelpFolds(t *testing.T) {
	for _, text := range []string{
		fmt.Sprintf(usageText, "sonde"), explainUsage, flameUsage, fmtUsage, labUsage, learnUsage, portabilityUsage, seccompUsage, triageUsage, verifyUsage,
	} {
		got := foldHelp(text, 80)
		if a, b := strings.Join(strings.Fields(got), " "), strings.Join(strings.Fields(text), " "); a != b {
			t.Errorf("folding changed the words:\n%s\n%s", a, b)
		}
		for line := range strings.Lines(got) {
			if n := len(strings.TrimRight(line, "\n")); n > 80 && !strings.HasPrefix(strings.TrimSpace(line), "sonde ") && !strings.HasPrefix(line, "USAGE: sonde ") {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
}
