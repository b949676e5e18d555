package seccomp

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func emitted(t testing.TB, format string, pol *Policy, o EmitOptions) (string, []Finding) {
	t.Helper()
	var b bytes.Buffer
	fs, err := Emit(&b, format, pol, o)
	if err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	return b.String(), fs
}

func restrictedProfile() *Profile {
	p := sample("a", call(X8664, "execve", 1), call(X8664, "socket", 1), call(X8664, "read", 1))
	p.Calls[1].Args = &ArgSet{Indexes: []int{0, 1, 2}, Bits: []int{32, 32, 32}, Values: [][]Hex{{1, 1, 0}, {2, 1, 0}}}
	return p
}

func TestEmitOCI(t *testing.T) {
	text, _ := emitted(t, "oci", mustPolicy(t, restrictedProfile(), PolicyOptions{}), EmitOptions{})
	var got ociProfile
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.DefaultAction != "SCMP_ACT_ERRNO" || *got.DefaultErrnoRet != 1 || !slices.Equal(got.Architectures, []string{"SCMP_ARCH_X86_64"}) || got.ArchMap != nil {
		t.Errorf("%+v", got)
	}
	sockets, clone3 := 0, false
	for _, r := range got.Syscalls {
		if r.Action == "SCMP_ACT_ALLOW" && r.ErrnoRet != nil {
			t.Error("crun refuses an error number beside another action")
		}
		if slices.Contains(r.Names, "socket") {
			sockets++
			if len(r.Args) != 3 || r.Args[0].Op != "SCMP_CMP_MASKED_EQ" || r.Args[0].Value != 0xffffffff {
				t.Errorf("socket: %+v", r)
			}
		}
		clone3 = clone3 || slices.Equal(r.Names, []string{"clone3"}) && *r.ErrnoRet == 38
	}
	if sockets != 2 || !clone3 {
		t.Errorf("%d rules for socket, want one per combination; clone3 answers ENOSYS: %v", sockets, clone3)
	}
	docker, _ := emitted(t, "docker", mustPolicy(t, restrictedProfile(), PolicyOptions{}), EmitOptions{})
	if strings.Contains(docker, `"architectures"`) || !strings.Contains(docker, `"archMap"`) {
		t.Errorf("docker takes archMap alone:\n%s", docker)
	}
}

func TestEmitSaysWhatItCannot(t *testing.T) {
	pol := mustPolicy(t, restrictedProfile(), PolicyOptions{})
	for _, f := range []string{"systemd", "firejail"} {
		if _, err := Emit(&bytes.Buffer{}, f, pol, EmitOptions{}); err == nil || !strings.HasPrefix(err.Error(), "socket:") {
			t.Errorf("%s with restricted arguments: %v", f, err)
		}
	}
	if _, err := Emit(&bytes.Buffer{}, "systemmd", pol, EmitOptions{}); err == nil || !strings.Contains(err.Error(), "did you mean `systemd`") {
		t.Errorf("unknown format: %v", err)
	}
	_, fs := emitted(t, "oci", pol, EmitOptions{Known: func(_ ABI, n string) bool { return n != "read" }})
	if !slices.ContainsFunc(fs, func(f Finding) bool { return f.Entry == "read" && f.Severity == SeverityWarning }) {
		t.Errorf("a name that the consumer does not know: %v", fs)
	}
	p := sample("a", &Call{ABI: X8664, Name: "syscall_600", Number: 600, Origin: OriginRecorded}, call(X8664, "read", 1), call(X86, "getpid", 1))
	_, fs = emitted(t, "oci", mustPolicy(t, p, PolicyOptions{}), EmitOptions{})
	var text []string
	for _, f := range fs {
		text = append(text, f.String())
	}
	all := strings.Join(text, "\n")
	if !strings.Contains(all, "syscall_600: has no name") || !strings.Contains(all, "it is allowed on x86_64 too") {
		t.Errorf("findings:\n%s", all)
	}
	if _, err := Emit(&bytes.Buffer{}, "kubernetes-spo", mustPolicy(t, p, PolicyOptions{Default: ENOSYS}), EmitOptions{}); err == nil {
		t.Error("the operator has no default error number")
	}
}

func TestLibraryNames(t *testing.T) {
	known, path, err := LibraryNames("")
	if err != nil {
		t.Skipf("needs libseccomp: %v", err)
	}
	if !known(X8664, "openat") || known(X8664, "no_such_call") {
		t.Errorf("%s: wrong names", path)
	}
	if _, _, err := LibraryNames("/bin/sh"); err == nil {
		t.Error("another file was taken for libseccomp")
	}
}

// installedNames leaves out what the consumers here do not know: a uretprobe of someone else on the machine puts its call into
// every recording.
func installedNames(t *testing.T) func(ABI, string) bool {
	t.Helper()
	known, _, err := LibraryNames("")
	if err != nil {
		t.Skipf("needs libseccomp: %v", err)
	}
	return known
}

// lsProfile is what ls does, with what its consumers run it by.
func lsProfile(t *testing.T) *Profile {
	t.Helper()
	tool(t, "ls")
	return record(t, Options{}, "sh", "-c", "ls /; exec ls /")
}

// confined runs a command that must work and one whose mkdir must fail.
func confined(t *testing.T, run func(args ...string) *exec.Cmd) {
	t.Helper()
	for i := range *launches {
		if b, err := run("ls", "/").CombinedOutput(); err != nil || !strings.Contains(string(b), "etc") {
			t.Fatalf("launch %d: %v\n%s", i, err, b)
		}
	}
	b, err := run("mkdir", filepath.Join(t.TempDir(), "x")).CombinedOutput()
	if err == nil || !strings.Contains(string(b), "not permitted") {
		t.Errorf("mkdir was not denied: %v\n%s", err, b)
	}
}

func TestEmitBubblewrap(t *testing.T) {
	bwrap := tool(t, "bwrap")
	text, _ := emitted(t, "bpf", mustPolicy(t, lsProfile(t), PolicyOptions{}), EmitOptions{})
	path := filepath.Join(t.TempDir(), "filter")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	confined(t, func(args ...string) *exec.Cmd {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		cmd := exec.Command(bwrap, append([]string{"--bind", "/", "/", "--seccomp", "3", "--"}, args...)...)
		cmd.ExtraFiles = []*os.File{f}
		return cmd
	})
}

func TestEmitLibseccomp(t *testing.T) {
	tool(t, "gcc")
	if _, err := os.Stat("/usr/include/seccomp.h"); err != nil {
		t.Skipf("needs libseccomp's header: %v", err)
	}
	p := lsProfile(t)
	p.Calls = append(p.Calls, restrictedProfile().Calls[1])
	text, _ := emitted(t, "libseccomp-c", mustPolicy(t, p, PolicyOptions{}), EmitOptions{Known: installedNames(t)})
	text += "#include <stdio.h>\n#include <unistd.h>\nint main(int c, char **v) { int rc = install_seccomp(); if (rc) { printf(\"%d\\n\", rc); return 99; } execvp(v[1], v + 1); return 98; }\n"
	exe := compileC(t, t.TempDir(), "confined", text, "-Wall", "-Werror", "-lseccomp")
	confined(t, func(args ...string) *exec.Cmd { return exec.Command(exe, args...) })
}

func TestEmitGo(t *testing.T) {
	tool(t, "go")
	p := lsProfile(t)
	p.Runs[0].Programs = append(p.Runs[0].Programs, Program{Path: "/x", Language: "go"})
	text, _ := emitted(t, "go", mustPolicy(t, p, PolicyOptions{}), EmitOptions{})
	text = strings.Replace(text, "package seccomp\n", "package main\n", 1)
	text = strings.Replace(text, "import (", "import (\n\t\"os\"\n\t\"os/exec\"", 1)
	text += "\nfunc main() { path, err := exec.LookPath(os.Args[1]); if err != nil { panic(err) }; if err := Install(); err != nil { panic(err) }; panic(syscall.Exec(path, os.Args[1:], os.Environ())) }\n"
	exe := buildGo(t, t.TempDir(), "confined", text)
	confined(t, func(args ...string) *exec.Cmd { return exec.Command(exe, args...) })
}

func TestEmitSystemd(t *testing.T) {
	analyze := tool(t, "systemd-analyze")
	text, _ := emitted(t, "systemd", mustPolicy(t, lsProfile(t), PolicyOptions{}), EmitOptions{Known: installedNames(t)})
	unit := filepath.Join(t.TempDir(), "sonde-test.service")
	if err := os.WriteFile(unit, []byte(text+"ExecStart=/bin/ls /\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(analyze, "verify", unit)
	cmd.Stderr = &stderr
	err := cmd.Run()
	// Every mistake in a filter is only a warning there, so nothing at all may be said about our unit.
	if err != nil || strings.Contains(stderr.String(), "sonde-test") {
		t.Errorf("%v\n%s\n%s", err, stderr.String(), text)
	}
}

func TestEmitFirejail(t *testing.T) {
	firejail := tool(t, "firejail")
	if b, err := exec.Command(firejail, "--quiet", "--noprofile", "ls", "/").CombinedOutput(); err != nil {
		t.Skipf("needs a machine on which firejail starts programs: %v %s", err, b)
	}
	text, _ := emitted(t, "firejail", mustPolicy(t, lsProfile(t), PolicyOptions{}), EmitOptions{Known: installedNames(t)})
	path := filepath.Join(t.TempDir(), "test.profile")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	confined(t, func(args ...string) *exec.Cmd {
		return exec.Command(firejail, append([]string{"--quiet", "--profile=" + path}, args...)...)
	})
}

// TestEmitName: nothing of the name gets out of the comment that it is in.
func TestEmitName(t *testing.T) {
	for _, format := range []string{"systemd", "libseccomp-c", "minijail", "firejail", "go"} {
		var b strings.Builder
		if _, err := Emit(&b, format, mustPolicy(t, sample("a", call(X8664, "read", 1)), PolicyOptions{}), EmitOptions{Name: "x */\nout"}); err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(b.String(), "\n")
		if !strings.Contains(head, "out") || format == "libseccomp-c" && strings.Index(head, "*/") < strings.Index(head, "out") {
			t.Errorf("%s begins with %q", format, head)
		}
	}
}
