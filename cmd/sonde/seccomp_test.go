package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/runtime/seccomp"
)

// TestMain lets the test's binary be the helper that puts a filter on a command.
func TestMain(m *testing.M) {
	if seccomp.IsLaunch(os.Args) {
		seccomp.LaunchChild()
	}
	os.Exit(m.Run())
}

// seccompRun runs a command and gives its exit code, output and errors.
func seccompRun(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var out, diag bytes.Buffer
	code := runSeccomp(t.Context(), args, stdio{in: strings.NewReader(""), out: &out, err: &diag})
	return code, out.String(), diag.String()
}

// seccompFile writes a profile that has some calls.
func seccompFile(t *testing.T, restricted bool, names ...string) string {
	t.Helper()
	p := seccomp.New(seccomp.X8664, "sonde test", "")
	p.Runs = []*seccomp.Run{{ID: "a", Target: "command", Calls: 1}}
	for _, n := range names {
		nr, ok := p.ABI.Number(n)
		if !ok {
			t.Fatalf("no call %s", n)
		}
		c := &seccomp.Call{ABI: p.ABI, Name: n, Number: nr, Count: 1, Origin: seccomp.OriginRecorded, Runs: []seccomp.RunCount{{Run: "a", Count: 1}}}
		if restricted && n == "socket" {
			c.Args = &seccomp.ArgSet{Indexes: []int{0, 1, 2}, Bits: []int{32, 32, 32}, Values: [][]seccomp.Hex{{1, 1, 0}}}
		}
		p.Calls = append(p.Calls, c)
	}
	path := filepath.Join(t.TempDir(), "a.profile")
	if err := p.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestSeccompWrongInput: whatever is wrong is said with the entry that it is about, and nothing is written.
// foreignProfile is one of a machine that is not this one.
func foreignProfile(t *testing.T, dir string) string {
	abi, number := "aarch64", 63
	if seccomp.Native() == seccomp.AArch64 {
		abi, number = "x86_64", 0
	}
	path := filepath.Join(dir, "foreign")
	text := fmt.Sprintf(`{"type": "sonde seccomp profile", "version": 1, "abi": %q, "calls": [{"abi": %q, "name": "read", "number": %d, "origin": "recorded"}]}`, abi, abi, number)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSeccompWrongInput(t *testing.T) {
	good := seccompFile(t, false, "execve", "read", "write", "exit_group")
	restricted := seccompFile(t, true, "execve", "socket", "read")
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	b, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	_, oci, _ := seccompRun(t, "emit", "--format", "oci", good)
	for _, tt := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"not JSON", []string{"show", write("text", "hello")}, exitUser, []string{"text: is not a profile: line 1", "sonde seccomp record -o"}},
		{"an emitted list", []string{"emit", "--format", "oci", write("oci", oci)}, exitUser, []string{"a filter for a container runtime, not a recording"}},
		{"other JSON", []string{"lint", write("other", `{"a": 1}`)}, exitUser, []string{"JSON, but not a profile"}},
		{"an unknown call", []string{"emit", "--format", "oci", write("call", strings.ReplaceAll(text, `"read"`, `"raed"`))}, exitUser, []string{"unknown system call `raed`", "did you mean `read`"}},
		{"a name with another number", []string{"emit", "--format", "bpf", write("number", strings.Replace(text, `"number": 1,`, `"number": 2,`, 1))}, exitUser, []string{"has number 1 on x86_64, not 2"}},
		{"a key that is not known", []string{"show", write("key", strings.Replace(text, `"abi"`, `"only_if": "x", "abi"`, 1))}, exitUser, []string{"unknown key `only_if`"}},
		{"a newer version", []string{"show", write("version", strings.Replace(text, `"version": 1`, `"version": 9`, 1))}, exitUser, []string{"is version 9", "newer sonde"}},
		{"no file", []string{"show", filepath.Join(dir, "nothing")}, exitUser, []string{"no such file"}},
		{"a format without argument rules", []string{"emit", "--format", "firejail", restricted}, exitUser, []string{"socket: firejail cannot restrict arguments", "--any-args"}},
		{"another one", []string{"emit", "--format", "systemd", restricted}, exitUser, []string{"socket: systemd cannot restrict arguments"}},
		{"an unknown format", []string{"emit", "--format", "ocii", good}, exitUsage, []string{"unknown format `ocii`", "did you mean `oci`?"}},
		{"no format", []string{"emit", good}, exitUsage, []string{"--format is missing; known are oci"}},
		{"an unknown action", []string{"emit", "--format", "oci", "--default", "EWHAT", good}, exitUsage, []string{"EWHAT"}},
		{"a default that allows", []string{"emit", "--format", "oci", "--default", "allow", good}, exitUser, []string{"allows makes no allowlist"}},
		{"an unknown runtime", []string{"emit", "--format", "oci", "--runtime", "runk", good}, exitUsage, []string{"unknown container runtime `runk`; known are runc, crun"}},
		{"an unknown closure", []string{"emit", "--format", "oci", "--closure", "all", good}, exitUsage, []string{"unknown closure `all`"}},
		{"systemd cannot log", []string{"emit", "--format", "systemd", "--default", "log", good}, exitUser, []string{"systemd cannot answer with `log`"}},
		{"the operator's default error", []string{"emit", "--format", "kubernetes-spo", "--default", "ENOSYS", good}, exitUser, []string{"no default error number"}},
		{"a library that is none", []string{"emit", "--format", "oci", "--libseccomp", "/bin/sh", good}, exitUser, []string{"/bin/sh"}},
		{"nothing to record", []string{"record"}, exitUsage, []string{"nothing to record"}},
		{"a command without --", []string{"record", "ls"}, exitUsage, []string{"put `--` before the command"}},
		{"a container without a command", []string{"record", "--runtime-create"}, exitUsage, []string{"-- runc create --bundle DIR ID"}},
		{"two targets", []string{"record", "--unit", "a.service", "--cgroup", "/x"}, exitUsage, []string{"one target; given are --cgroup and --unit"}},
		{"a process that cannot be", []string{"record", "--pid", "-5"}, exitUsage, []string{"-5 is no process number"}},
		{"a process that is no number", []string{"record", "--pid", "abc"}, exitUsage, []string{`invalid argument "abc" for "--pid" flag: invalid syntax`}},
		{"a time that is over", []string{"record", "--duration", "-1s", "--", "true"}, exitUsage, []string{"--duration is -1s"}},
		{"too few programs", []string{"record", "--max-programs", "1", "--", "true"}, exitUsage, []string{"the number of programs is 1; it is from 3 to 4096"}},
		{"too many threads", []string{"record", "--max-tasks", "-1", "--", "true"}, exitUsage, []string{"the number of threads is -1"}},
		{"a directory that is not there", []string{"record", "-o", filepath.Join(dir, "no", "x"), "--", "touch", good + ".ran"}, exitUser, []string{"-o " + filepath.Join(dir, "no", "x"), "no such file or directory"}},
		{"a directory for a file", []string{"record", "-o", dir, "--", "touch", good + ".ran"}, exitUser, []string{"is a directory"}},
		{"lint of nothing", []string{"lint"}, exitUsage, []string{"no profile given"}},
		{"a directory for a profile", []string{"show", dir}, exitUser, []string{"read " + dir + ": is a directory"}},
		{"a directory to merge into", []string{"merge", "-o", dir, good}, exitUser, []string{"write " + dir + ": is a directory"}},
		{"two profiles to show", []string{"show", good, good}, exitUsage, []string{"one profile expected, 2 given"}},
		{"run for another machine", []string{"run", foreignProfile(t, dir), "--", "ls"}, exitUser, []string{"is of a machine with ABI"}},
		{"run without a command", []string{"run", good}, exitUsage, []string{"no command"}},
		{"an unknown command", []string{"tape"}, exitUsage, []string{"unknown command `seccomp tape`"}},
		{"an unknown option", []string{"show", "--counts", good}, exitUsage, []string{"unknown flag: --counts"}},
		{"a scan of nothing", []string{"scan"}, exitUsage, []string{"nothing to scan"}},
		{"a scan of a script", []string{"scan", write("script", "#!/bin/sh\n")}, exitUser, []string{"not an ELF file (a script"}},
		{"a scan of a text", []string{"scan", write("plain", "text")}, exitUser, []string{"not an ELF file"}},
		{"a scan with something else", []string{"scan", "--with", good + "x", "/bin/true"}, exitUser, []string{"no such file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out, diag := seccompRun(t, tt.args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if out != "" {
				t.Errorf("something was written: %.200s", out)
			}
			for _, w := range tt.want {
				if !strings.Contains(diag, w) {
					t.Errorf("errors do not say %q:\n%s", w, diag)
				}
			}
		})
	}
}

// TestSeccompHelp: each command has the help, as an answer and not as a mistake.
func TestSeccompHelp(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"record", "--help"}, {"emit", "-h"}, {"scan", "--help"}} {
		if code, out, diag := seccompRun(t, args...); code != exitOK || !strings.Contains(out, "USAGE: sonde seccomp COMMAND") || diag != "" {
			t.Errorf("%v: exit code %d\n%s%s", args, code, out, diag)
		}
	}
}

// TestSeccompCommands goes the whole way with a program.
func TestSeccompCommands(t *testing.T) {
	if _, err := exec.LookPath("ls"); err != nil {
		t.Skipf("needs ls: %v", err)
	}
	dir := t.TempDir()
	one, two, all := filepath.Join(dir, "1"), filepath.Join(dir, "2"), filepath.Join(dir, "all")
	if code, _, diag := seccompRun(t, "record", "-o", one, "--", "ls", "/"); code != exitOK {
		if code == exitKernel {
			t.Skipf("needs rights and BTF: %s", diag)
		}
		t.Fatalf("record: %d %s", code, diag)
	}
	if code, _, diag := seccompRun(t, "record", "--args", "-o", two, "--", "ls", "-l", "/"); code != exitOK {
		t.Fatalf("record: %s", diag)
	}
	if code, _, diag := seccompRun(t, "record", "-o", all, "--", "ls", filepath.Join(dir, "nothing")); code != exitOK || !strings.Contains(diag, "note: the command ended with exit status 2") {
		t.Errorf("record of a command that fails: %d %s", code, diag)
	}
	if code, _, diag := seccompRun(t, "merge", "-o", all, one, two); code != exitOK {
		t.Fatalf("merge: %s", diag)
	}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"show", all}, exitOK, "calls that appeared only in run 2: "},
		{[]string{"show", "--count", "-v", all}, exitOK, "first by /"},
		{[]string{"diff", one, two}, exitOK, "+ "},
		{[]string{"lint", all}, exitOK, "estimate"},
		{[]string{"scan", "--with", all}, exitOK, "reachable, never seen: "},
		{[]string{"scan", "--with", all, "-f", "json", "ls"}, exitOK, `"observed": `},
		{[]string{"emit", "--format", "oci", "--runtime", "runc", all}, exitOK, `"SCMP_ACT_ALLOW"`},
		{[]string{"run", all, "--", "ls", "-l", "/"}, exitOK, "etc"},
		{[]string{"check", all, "--", "ls", "/"}, exitOK, "etc"},
	} {
		code, out, diag := seccompRun(t, tt.args...)
		if tt.want == "estimate" { // one note of several, worded by what was seen
			tt.want = ":"
		}
		if code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%v: exit code %d, want %d and %q:\n%.2000s\n%s", tt.args, code, tt.code, tt.want, out, diag)
		}
		if strings.Contains(strings.Join(tt.args, " "), "json") && !json.Valid([]byte(out)) {
			t.Errorf("%v: not JSON", tt.args)
		}
	}
	code, _, diag := seccompRun(t, "check", all, "--", "mkdir", filepath.Join(dir, "new"))
	if code != exitUser || !strings.Contains(diag, "denied: mkdir(") || !strings.Contains(diag, "--accept") {
		t.Errorf("check of another program: %d %s", code, diag)
	}
	if code, out, diag := seccompRun(t, "check", "--dry-run", "--accept", all, "--", "mkdir", filepath.Join(dir, "new")); code != exitOK || !strings.Contains(out, "+ mkdir") {
		t.Errorf("accept: %d %s %s", code, out, diag)
	}
	if code, _, diag := seccompRun(t, "check", all, "--", "mkdir", filepath.Join(dir, "new2")); code != exitOK {
		t.Errorf("after accepting: %d %s", code, diag)
	}
}
