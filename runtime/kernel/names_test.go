package kernel

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSyscalls(t *testing.T) {
	for _, c := range []struct {
		arch string
		n    int
		name string
	}{
		{"amd64", 0, "read"},
		{"amd64", 257, "openat"},
		{"amd64", 435, "clone3"},
		{"amd64", 63, "uname"},
		{"arm64", 63, "read"},
		{"arm64", 56, "openat"},
		{"arm64", 79, "newfstatat"},
		{"arm64", 435, "clone3"},
	} {
		if got := SyscallName(c.arch, c.n); got != c.name {
			t.Errorf("SyscallName(%s, %d) = %q, want %q", c.arch, c.n, got, c.name)
		}
		if n, ok := SyscallNumber(c.arch, c.name); !ok || n != c.n {
			t.Errorf("SyscallNumber(%s, %s) = %d, %v", c.arch, c.name, n, ok)
		}
	}
	for _, c := range []struct {
		arch string
		n    int
	}{{"amd64", -1}, {"amd64", 1 << 20}, {"amd64", 400}, {"riscv64", 0}} {
		if got := SyscallName(c.arch, c.n); got != "" {
			t.Errorf("SyscallName(%s, %d) = %q", c.arch, c.n, got)
		}
	}
	for _, name := range []string{"", "no_such_call", "newstat_"} {
		if n, ok := SyscallNumber("amd64", name); ok {
			t.Errorf("SyscallNumber(%q) = %d", name, n)
		}
	}
	if n, ok := SyscallNumber("amd64", "newuname"); !ok || n != 63 {
		t.Errorf("newuname = %d %v", n, ok)
	}
	if _, ok := SyscallNumber("arm64", "newstat"); ok {
		t.Error("arm64 has stat")
	}
	if got := SyscallFunction("arm64", "uname"); got != "__arm64_sys_newuname" {
		t.Errorf("SyscallFunction = %s", got)
	}
	if got := SyscallFunction("amd64", "openat"); got != "__x64_sys_openat" {
		t.Errorf("SyscallFunction = %s", got)
	}
	if l := SyscallNames("amd64"); len(l) < 350 || l[0] != "read" {
		t.Errorf("SyscallNames = %v", l)
	}
}

// TestHostSyscallEvents checks that every system call event of the running kernel has a number, through the aliases.
func TestHostSyscallEvents(t *testing.T) {
	_, tr := hostTracefs(t)
	calls := tr.Syscalls()
	if len(calls) == 0 {
		t.Skip("needs CONFIG_FTRACE_SYSCALLS")
	}
	// Calls of kernels before and after the table, and of 32-bit programs only.
	other := map[string]bool{"newstat": true, "newlstat": true, "stat": true, "lstat": true, "fstat": true}
	for _, c := range calls {
		if n, ok := SyscallNumber(runtime.GOARCH, c); !ok && !other[c] {
			t.Errorf("event sys_enter_%s has no number", c)
		} else if ok {
			if ev := SyscallEvent(runtime.GOARCH, SyscallName(runtime.GOARCH, n)); ev != c {
				t.Errorf("event of %s is %s, not %s", SyscallName(runtime.GOARCH, n), ev, c)
			}
		}
	}
}

func TestSyscallTableIsGenerated(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go tool")
	}
	out, err := exec.Command("go", "run", "./gensyscalls").Output()
	if err != nil {
		t.Skip("needs the sources of golang.org/x/sys: ", err)
	}
	have, err := os.ReadFile("syscalls_table.go")
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != string(out) {
		t.Error("syscalls_table.go is not what `go generate` writes")
	}
}

func TestErrnoAndSignals(t *testing.T) {
	for n, want := range map[int]string{2: "ENOENT", -13: "EACCES", 0: "", 5000: "", 100000: ""} {
		if got := ErrnoName(n); got != want {
			t.Errorf("ErrnoName(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int]string{9: "SIGKILL", 34: "SIGRTMIN", 36: "SIGRTMIN+2", 64: "SIGRTMAX", 0: "", 65: "", -1: ""} {
		if got := SignalName(n); got != want {
			t.Errorf("SignalName(%d) = %q, want %q", n, got, want)
		}
	}
	for name, want := range map[string]int{
		"KILL": 9, "SIGKILL": 9, "sigterm": 15, "10": 10, "RTMIN+2": 36, "SIGRTMAX-1": 63, "RTMAX": 64, "poll": int(unix.SIGIO),
		"": 0, "0": 0, "65": 0, "SIGNOTHING": 0, "RTMIN+99": 0, "RTMIN2": 0,
	} {
		n, ok := SignalNumber(name)
		if ok != (want != 0) || ok && n != want {
			t.Errorf("SignalNumber(%q) = %d, %v, want %d", name, n, ok, want)
		}
	}
}

func TestInfo(t *testing.T) {
	for _, c := range []struct {
		k    *Kernel
		want []string
	}{
		{fixture(t), []string{"6.1.0-13-amd64", "integrity", "4 in testdata/machine/sys/kernel/tracing", "from available_filter_functions", "cannot tell"}},
		{host(t), []string{"kernel:", "map_ringbuf:", "bpf_loop:", "Helpers", "  OS: Linux ", "  version: 1.2.3\n", "  Instruction limit: 1000000\n", "\nProbe types\n", "  uprobe_multi: "}},
	} {
		got := c.k.Info("1.2.3")
		for _, w := range c.want {
			if !strings.Contains(got, w) {
				t.Errorf("no %q in\n%s", w, got)
			}
		}
	}
	t.Log("\n" + host(t).Info("1.2.3"))
}
