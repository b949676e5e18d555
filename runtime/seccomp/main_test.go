package seccomp

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/runtime/kernel"
)

func TestMain(m *testing.M) {
	if IsLaunch(os.Args) {
		LaunchChild()
	}
	if how := os.Getenv(testCalls); how != "" {
		if how == "preempt" {
			preempted()
			os.Exit(0)
		}
		if how == "filter" {
			denyGetpgid()
		}
		makeCalls()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var events = flag.Bool("events", false, "record by way of trace events where tracepoints would do")

// testCalls is set for the workload of tests on kernels where nothing else is installed: this program.
const testCalls = "SONDE_TEST_CALLS"

// makeCalls makes calls that nothing else makes here.
func makeCalls() {
	for range 5 {
		unix.Umask(0o22)
	}
	_, _ = unix.Getpgid(0)
}

// denyGetpgid puts a filter on the thread. It answers getpgid with an error of its own, and allows all else.
func denyGetpgid() {
	runtime.LockOSThread()
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_GETPGID},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | 42},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil {
		err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestKernelRecordOwnFilter: a program puts a filter on itself, and what that denies is in the recording.
func TestKernelRecordOwnFilter(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := record(t, Options{Env: append(os.Environ(), testCalls+"=filter", "GODEBUG=asyncpreemptoff=1"), Stderr: os.Stderr}, exe)
	if run := p.Runs[0]; run.Exit != "" {
		t.Fatalf("run: %+v", run)
	}
	wantDenials(t, p, "getpgid", 1)
	if n := count(p, p.ABI, "umask"); n != 5 {
		t.Errorf("%d umask, want 5", n)
	}
}

// TestKernelRecord needs nothing but the kernel: counts, the first execve, provenance, and a denial.
func TestKernelRecord(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Without preemption by signals, which makes calls when it happens.
	env := append(os.Environ(), testCalls+"=1", "GODEBUG=asyncpreemptoff=1")
	p := record(t, Options{Env: env, Learn: true}, exe)
	if run := p.Runs[0]; run.Exit != "" || len(run.Lost) > 0 || run.Tasks == 0 || len(run.Programs) != 1 {
		t.Errorf("run: %+v", run)
	}
	for name, want := range map[string]uint64{"umask": 5, "getpgid": 1, "execve": 1, "exit_group": 1} {
		if got := count(p, p.ABI, name); got != want {
			t.Errorf("%s: %d recorded, want %d", name, got, want)
		}
	}
	if c := p.recorded("umask"); c != nil && (c.Program != exe || len(c.Threads) == 0 || len(c.Example) != 6 || c.Example[0] != 0o22) {
		t.Errorf("umask: %+v", c)
	}
	filter, err := Compile(mustPolicy(t, without(p, "getpgid"), PolicyOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	q := record(t, Options{Env: env, Filter: &LaunchFilter{Program: Bytes(filter)}}, exe)
	if len(q.Denials) != 1 || q.Denials[0].Name != "getpgid" || q.Denials[0].Count != 1 || q.Denials[0].Result != -1 {
		t.Errorf("denials: %+v", q.Denials)
	}
}

// TestKernelRecordCgroup records what enters a cgroup below the recorded one, and nothing else.
func TestKernelRecordCgroup(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	root, err := testKernel(t).CgroupMount()
	if err != nil {
		t.Skipf("needs a cgroup2 file system: %v", err)
	}
	outer := filepath.Join(root, fmt.Sprintf("sonde-kernel-%d", os.Getpid()))
	inner := filepath.Join(outer, "inner")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Skipf("needs the right to make cgroups: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(inner); _ = os.Remove(outer) })
	dir, err := os.Open(inner)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	r := startRecording(t, Options{Cgroup: outer})
	for _, inside := range []bool{true, false} {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), testCalls+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: inside, CgroupFD: int(dir.Fd())}
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
	}
	p, err := r.Stop()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint64{"umask": 5, "getpgid": 1, "execve": 1} {
		if got := count(p, p.ABI, name); got != want {
			t.Errorf("%s: %d recorded, want %d", name, got, want)
		}
	}
}

func testKernel(t testing.TB) *kernel.Kernel {
	t.Helper()
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// startRecording skips where recording is not possible, for the reason that the recorder itself gives.
func startRecording(t testing.TB, o Options) *Recorder {
	t.Helper()
	o.Kernel, o.Tool, o.events = testKernel(t), "sonde test", *events
	r, err := Start(o)
	var rights *RightsError
	if errors.As(err, &rights) || errors.Is(err, ErrNeedsBTF) {
		t.Skipf("needs rights and BTF: %v", err)
	}
	if err != nil {
		t.Fatalf("start: %+v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

// patience is how long tests wait for what must happen. A machine that does much else takes long for everything: only a hang reaches it.
const patience = 5 * time.Minute

// record records a command to its end.
func record(t testing.TB, o Options, command ...string) *Profile {
	t.Helper()
	o.Command = command
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	r := startRecording(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.Wait(ctx); err != nil {
		t.Fatalf("wait: %v", err)
	}
	p, err := r.Stop()
	if err != nil {
		t.Fatalf("stop: %v", err)
	}
	return p
}
