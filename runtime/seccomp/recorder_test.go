package seccomp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// count is how often a call was made, by the workload itself.
func count(p *Profile, abi ABI, name string) uint64 {
	for _, c := range p.Calls {
		if c.ABI == abi && c.Name == name && c.Origin == OriginRecorded {
			return c.Count
		}
	}
	return 0
}

func TestRecordProvenance(t *testing.T) {
	sh, ls := tool(t, "sh"), tool(t, "ls")
	p := record(t, Options{Learn: true, Stacks: true}, "sh", "-c", "ls / >/dev/null; ls /tmp >/dev/null; exit 3")
	run := p.Runs[0]
	if run.Exit != "exit status 3" || run.Tasks < 3 || !slices.Equal(run.Command, []string{"sh", "-c", "ls / >/dev/null; ls /tmp >/dev/null; exit 3"}) || len(run.Lost) > 0 {
		t.Errorf("run: %+v", run)
	}
	if n := count(p, p.ABI, "execve"); n != 3 {
		t.Errorf("%d execve, want 3: the first instruction and two commands", n)
	}
	dents := p.recorded("getdents64")
	if dents == nil || filepath.Base(dents.Program) != "ls" || !slices.Equal(dents.Threads, []string{"ls"}) || len(dents.Example) != 6 || dents.First.Before(run.Started) {
		t.Fatalf("getdents64: %+v", dents)
	}
	if len(dents.Stack) == 0 {
		t.Error("no stack, though it was asked for")
	}
	want := []Program{{Path: ls}, {Path: sh}}
	slices.SortFunc(want, func(a, b Program) int { return strings.Compare(a.Path, b.Path) })
	if len(run.Programs) != 2 || run.Programs[0].Path != want[0].Path || run.Programs[1].Path != want[1].Path {
		t.Errorf("programs %v, want %v", run.Programs, want)
	}
	var sum uint64
	for _, c := range p.Calls {
		sum += c.Count
		if n := c.Runs[0].Count; len(c.Runs) != 1 || n != c.Count {
			t.Errorf("%s: runs %v", c.Name, c.Runs)
		}
	}
	if sum != run.Calls {
		t.Errorf("%d calls in the run, %d in the entries", run.Calls, sum)
	}
}

const sourceManyProcesses = `
#include <stdio.h>
#include <unistd.h>
#include <sys/wait.h>
int main(void) {
	int bad = 0;
	for (int i = 0; i < 10000; i++) {
		pid_t p = i % 2 ? vfork() : fork();
		if (p < 0) { perror("fork"); return 1; }
		if (!p) { getppid(); _exit(7); }
		int st;
		if (waitpid(p, &st, 0) != p || st != 7 << 8) bad++;
	}
	return bad != 0;
}
`

func TestRecordManyProcesses(t *testing.T) {
	tool(t, "gcc")
	p := record(t, Options{}, compileC(t, t.TempDir(), "many", sourceManyProcesses))
	run := p.Runs[0]
	if run.Exit != "" || len(run.Lost) > 0 {
		t.Errorf("run: %+v", run)
	}
	for name, want := range map[string]uint64{"getppid": 10000, "wait4": 10000, "vfork": 5000, "exit_group": 10001} {
		if got := count(p, p.ABI, name); got != want {
			t.Errorf("%s: %d recorded, %d made", name, got, want)
		}
	}
	if run.Tasks < 10001 {
		t.Errorf("%d threads, want at least 10001", run.Tasks)
	}
}

// TestRecordTooManyTasks must say what it could not follow.
func TestRecordTooManyTasks(t *testing.T) {
	tool(t, "sh")
	p := record(t, Options{Tasks: 4, Programs: 3}, "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 600 & p=\"$p $!\"; done; kill $p; wait; sleep 0; ls >/dev/null")
	var text []string
	for k := range p.Runs[0].Lost {
		text = append(text, k)
	}
	slices.Sort(text)
	if len(text) < 2 || !strings.Contains(strings.Join(text, "\n"), "threads that were not followed") || !strings.Contains(strings.Join(text, "\n"), "no counters of its own") {
		t.Errorf("lost: %q", text)
	}
}

const sourceExecFromThread = `
#define _GNU_SOURCE
#include <pthread.h>
#include <unistd.h>
static void *work(void *arg) {
	char *argv[] = {"sh", "-c", "umask 027", 0}, *envp[] = {0};
	execve("/bin/sh", argv, envp);
	return 0;
}
int main(void) {
	pthread_t t;
	pthread_create(&t, 0, work, 0);
	pthread_join(t, 0);
	pause();
	return 0;
}
`

// TestRecordExecFromThread: the thread takes over the number of the first one, which ended.
func TestRecordExecFromThread(t *testing.T) {
	tool(t, "gcc")
	p := record(t, Options{}, compileC(t, t.TempDir(), "execer", sourceExecFromThread, "-pthread"))
	if n := count(p, p.ABI, "umask"); n == 0 {
		t.Errorf("nothing of the program that was executed by a thread was recorded")
	}
	if n := count(p, p.ABI, "execve"); n != 2 {
		t.Errorf("%d execve, want 2", n)
	}
}

const sourceCompat = `
#include <unistd.h>
int main(void) {
	for (int i = 0; i < 5; i++) {
		long r;
		__asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
		__asm__ volatile("int $0x80" : "=a"(r) : "a"(24), "b"(7) : "memory", "r8", "r9", "r10", "r11");
	}
	long r;
	__asm__ volatile("syscall" : "=a"(r) : "a"(0x40000000 + 39) : "rcx", "r11", "memory");
	__asm__ volatile("syscall" : "=a"(r) : "a"(0x12345) : "rcx", "r11", "memory");
	return 0;
}
`

// TestRecordABIs: number 20 is getpid on i386 and writev on x86-64.
func TestRecordABIs(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("needs an x86-64 machine: no other runs i386 and x32 calls")
	}
	tool(t, "gcc")
	p := record(t, Options{}, compileC(t, t.TempDir(), "compat", sourceCompat))
	for _, tt := range []struct {
		abi   ABI
		name  string
		count uint64
	}{{X86, "getpid", 5}, {X86, "getuid", 5}, {X32, "getpid", 1}, {X8664, "writev", 0}, {X8664, "sched_yield", 0}, {X8664, "getpid", 0}} {
		if got := count(p, tt.abi, tt.name); got != tt.count {
			t.Errorf("%s %s: %d recorded, want %d", tt.abi, tt.name, got, tt.count)
		}
	}
	if got := p.Find(X86, 24); got == nil || got.Example[0] != 7 {
		t.Errorf("arguments of a 32-bit call: %+v", got)
	}
	if p.Runs[0].Lost["calls with numbers that no kernel has"] != 1 {
		t.Errorf("the number 0x12345 is not reported: %v", p.Runs[0].Lost)
	}
}

func TestRecordArguments(t *testing.T) {
	tool(t, "python3")
	// Isolated: at its start, Python may otherwise ask a name service for the user's home, through a socket of its own.
	p := record(t, Options{Learn: true}, "python3", "-I", "-S", "-c", "import socket,fcntl\nfor i in range(3): socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\nsocket.socket(socket.AF_UNIX)\nimport ctypes\nl=ctypes.CDLL(None)\n[l.prctl(1000+i,0,0,0,0) for i in range(100)]")
	s := p.recorded("socket")
	if s == nil || s.Args == nil || s.Args.Wide {
		t.Fatalf("socket: %+v", s)
	}
	// With a home that is not set, Python may still ask the C library for it, and that a daemon: a stream that does not block.
	s.Args.Values = slices.DeleteFunc(s.Args.Values, func(v []Hex) bool { return slices.Equal(v, []Hex{1, 0x80801, 0}) })
	want := [][]Hex{{1, 0x80001, 0}, {2, 0x80002, 0}}
	if !slices.EqualFunc(s.Args.Values, want, slices.Equal[[]Hex]) {
		t.Errorf("socket was learned as %s", s.Args)
	}
	if pr := p.recorded("prctl"); pr == nil || !pr.Args.Wide {
		t.Errorf("prctl with 100 options must not be restricted: %+v", pr)
	}
	if r := p.recorded("read"); r == nil || r.Args != nil {
		t.Errorf("read takes descriptors and pointers: %+v", r)
	}
}

// TestRecordProcess follows what runs already: two threads and a child.
func TestRecordProcess(t *testing.T) {
	tool(t, "python3")
	_, _, cmd := talk(t, "python3", "-c", `
import threading,os,sys,time
def work():
    while True: os.getppid(); time.sleep(0.01)
threading.Thread(target=work,daemon=True).start()
if os.fork()==0:
    while os.getppid()!=1: os.getpgid(0); time.sleep(0.01)
    os._exit(0)
print("up",flush=True)
sys.stdin.readline()
`)
	r := startRecording(t, Options{PIDs: []int{cmd.Process.Pid}})
	// The threads make the same calls again and again; each makes them every 10 ms when it is not kept from it.
	var live Live
	for end := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err := r.Wait(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("wait: %v", err)
		}
		if live, err = r.Live(); err != nil {
			t.Fatal(err)
		}
		if live.Calls >= 200 || time.Now().After(end) {
			break
		}
	}
	if live.Calls == 0 || live.Kinds < 2 {
		t.Errorf("live: %+v", live)
	}
	p, err := r.Stop()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"getppid", "getpgid"} {
		if count(p, p.ABI, name) == 0 {
			t.Errorf("%s was not recorded", name)
		}
	}
	if len(p.Denials) > 0 {
		t.Errorf("denials out of nothing: %v", p.Denials)
	}
	if len(p.Runs[0].Programs) == 0 || !strings.Contains(p.Runs[0].Programs[0].Path, "python") {
		t.Errorf("programs: %v", p.Runs[0].Programs)
	}
	if _, err := Start(Options{Kernel: testKernel(t), PIDs: []int{1 << 22}}); err == nil || !strings.Contains(err.Error(), "no such process") {
		t.Errorf("a process that is not there: %v", err)
	}
}

func TestRecordCgroup(t *testing.T) {
	k := testKernel(t)
	root, err := k.CgroupMount()
	if err != nil {
		t.Skipf("needs a cgroup2 file system: %v", err)
	}
	outer := filepath.Join(root, fmt.Sprintf("sonde-test-%d", os.Getpid()))
	inner := filepath.Join(outer, "inner")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Skipf("needs the right to make cgroups: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(inner); _ = os.Remove(outer) })
	r := startRecording(t, Options{Cgroup: outer})
	run := func(group, script string) {
		t.Helper()
		cmd := exec.Command("sh", "-c", "echo $$ > "+filepath.Join(group, "cgroup.procs")+" && "+script)
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
	}
	run(inner, "umask 022; ls / >/dev/null")
	run(root, "mkfifo /tmp/sonde-$$; rm /tmp/sonde-$$") // outside
	p, err := r.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if count(p, p.ABI, "umask") == 0 || count(p, p.ABI, "execve") != 1 || count(p, p.ABI, "getdents64") == 0 {
		t.Errorf("what ran inside is missing: umask %d, execve %d", count(p, p.ABI, "umask"), count(p, p.ABI, "execve"))
	}
	if count(p, p.ABI, "mknodat") != 0 || count(p, p.ABI, "mknod") != 0 {
		t.Error("what ran outside was recorded")
	}
	dir, err := FindCgroup(k, "", filepath.Base(outer))
	if err != nil || dir != outer {
		t.Errorf("found %q, %v", dir, err)
	}
	if _, err := FindCgroup(k, "0123456789abcdef", ""); err == nil {
		t.Error("a container that is not there was found")
	}
}

func TestStartRefuses(t *testing.T) {
	k := testKernel(t)
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"no target", Options{}, "one target"},
		{"two targets", Options{Command: []string{"ls"}, PIDs: []int{1}}, "one target"},
		{"no such command", Options{Command: []string{"no-such-command-here"}}, "no-such-command-here"},
		{"no such cgroup", Options{Cgroup: "/no/such"}, "/no/such"},
		{"not a cgroup", Options{Cgroup: "/tmp"}, "not a directory of a cgroup"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Kernel = k
			r, err := Start(tt.o)
			if err == nil {
				_ = r.Close()
				t.Fatal("accepted")
			}
			var rights *RightsError
			if errors.As(err, &rights) {
				t.Skipf("needs rights: %v", err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want it to say %q", err, tt.want)
			}
		})
	}
}
