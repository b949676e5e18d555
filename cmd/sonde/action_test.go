package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/kernel/needs"
)

// lockedBuffer takes output of a script that runs beside the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// patience is how long tests wait for what must happen. A machine that does much else takes long for everything: only a hang reaches it.
const patience = 3 * time.Minute

// beside runs a script while do runs, and gives its output, messages and status. do starts when the probes are attached.
func beside(t *testing.T, argv []string, do func()) (out, errs string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var o, e lockedBuffer
	done := make(chan int, 1)
	go func() { done <- run(ctx, append([]string{"sonde"}, argv...), stdio{strings.NewReader(""), &o, &e}) }()
	for !strings.Contains(e.String()+o.String(), "ttached") {
		select {
		case code := <-done:
			return o.String(), e.String(), code
		case <-time.After(time.Millisecond):
		}
	}
	do()
	cancel()
	code = <-done
	return o.String(), e.String(), code
}

// openKernel gives the running kernel to tests that need root.
func openKernel(t testing.TB) *kernel.Kernel {
	t.Helper()
	return needs.Kernel(t)
}

// canDeny skips where neither security hooks nor the functions that ask them can be answered for.
func canDeny(t testing.TB) {
	t.Helper()
	f := openKernel(t).Features()
	if f.Has(kernel.FeatureLSM) && f.Has(kernel.FeatureLSMActive) || f.Has(kernel.FeatureFmodRet) {
		return
	}
	t.Skip("needs a kernel that runs security hook programs, or programs that change a return value")
}

// TestKernelDeny denies making directories with certain names and sees that nothing else is denied and that what is denied has no effect.
func TestKernelDeny(t *testing.T) {
	canDeny(t)
	const name = `str(args.dentry.d_name.name)`
	mine := fmt.Sprintf("pid == %d", os.Getpid())
	cases := []struct {
		what, prog string
		want       error
		feature    string
	}{
		{"the default error", `lsm:inode_mkdir /` + mine + ` && ` + name + ` == "denied"/ { deny(); }`, unix.EPERM, ""},
		{"a named error", `lsm:inode_mkdir /` + mine + ` && ` + name + ` == "denied"/ { deny(EACCES); }`, unix.EACCES, ""},
		{"the last clause counts", `lsm:inode_mkdir /` + mine + ` && ` + name + ` == "denied"/ { deny(EACCES); deny(EROFS); } lsm:inode_mkdir /` + mine + ` && ` + name + ` == "denied"/ { deny(EBUSY); } lsm:inode_mkdir { @ = count(); }`, unix.EBUSY, ""},
		{"in a branch", `lsm:inode_mkdir /` + mine + `/ { if (` + name + ` == "denied") { deny(30); return; } @[comm] = count(); }`, unix.EROFS, ""},
		{"in a loop", `lsm:inode_mkdir /` + mine + `/ { $n = nsecs % 2 + 2; for ($i : 0..$n) { if (` + name + ` == "denied") { deny(ENOSPC); } } }`, unix.ENOSPC, "bpf_loop"},
	}
	dir := t.TempDir()
	for _, c := range cases {
		t.Run(c.what, func(t *testing.T) {
			if c.feature != "" && !openKernel(t).Features().Has(c.feature) {
				t.Skip("needs " + c.feature)
			}
			denied, allowed := filepath.Join(dir, "denied"), filepath.Join(dir, "allowed")
			_, errs, code := beside(t, []string{"--unsafe", "-e", c.prog}, func() {
				for range 20 {
					if err := os.Mkdir(denied, 0o700); !errors.Is(err, c.want) {
						t.Errorf("mkdir: %v, want %v", err, c.want)
						break
					}
					if err := os.Mkdir(allowed, 0o700); err != nil {
						t.Error(err)
					}
					if err := os.Remove(allowed); err != nil {
						t.Error(err)
					}
				}
				if _, err := os.Stat(denied); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("the directory is there: %v", err)
				}
			})
			if code != 0 || !regexp.MustCompile(`(?m)^lsm:inode_mkdir.*: [1-9][0-9]+ operations denied$`).MatchString(errs) {
				t.Errorf("status %d, messages:\n%s", code, errs)
			}
			// The kernel takes links down behind the process.
			err := os.Mkdir(denied, 0o700)
			for end := time.Now().Add(patience); err != nil && time.Now().Before(end); err = os.Mkdir(denied, 0o700) {
				time.Sleep(time.Millisecond)
			}
			if err != nil {
				t.Errorf("after the end: %v", err)
			}
			_ = os.Remove(denied)
		})
	}
}

// TestKernelDryActions counts the same and changes nothing.
func TestKernelDryActions(t *testing.T) {
	openKernel(t)
	prog := fmt.Sprintf(`tracepoint:syscalls:sys_enter_getpgid /pid == %d/ { signal("KILL"); signal_thread("KILL"); system("echo no"); }`, os.Getpid())
	for _, format := range []string{"text", "json"} {
		out, errs, code := beside(t, []string{"--dry-run-actions", "-f", format, "-e", prog}, func() {
			for range 10 {
				_, _ = unix.Getpgid(0)
			}
		})
		want := "tracepoint:syscalls:sys_enter_getpgid: 10 signals sent, 10 signals sent to threads (not done: --dry-run-actions)\n10 commands run (not done: --dry-run-actions)\n"
		if format == "json" {
			want = `{"type": "actions", "data": {"probe": "tracepoint:syscalls:sys_enter_getpgid", "signal": 10, "signal_thread": 10, "dry_run": true}}`
		}
		if code != 0 || !strings.Contains(out+errs, want) || strings.Contains(out, "no") && format == "text" {
			t.Errorf("status %d\n%s%s", code, out, errs)
		}
	}
}

// TestKernelSignal kills a process by what it calls, and counts it.
func TestKernelSignal(t *testing.T) {
	openKernel(t)
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("needs the sleep command")
	}
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{
		"sonde", "--unsafe", "-c", sleep + " 60", "-e",
		`tracepoint:syscalls:sys_enter_*nanosleep /pid == cpid/ { signal("TERM"); }`,
	}, stdio{strings.NewReader(""), &out, &errs})
	if code != 0 || !strings.Contains(errs.String(), ": 1 signal sent\n") {
		t.Errorf("status %d, messages:\n%s", code, errs.String())
	}
}

func TestLateSignals(t *testing.T) {
	openKernel(t)
	cases := []struct{ prog, want string }{
		{`tracepoint:syscalls:sys_enter_unlinkat { signal("KILL"); }`, "too late for `unlinkat`, which still"},
		{`tracepoint:syscalls:sys_exit_openat { signal(9); }`, "too late for `openat`, which has"},
		{`syscall:mkdirat { signal("STOP"); }`, "too late for `mkdirat`"},
		{`syscall:connect { signal_thread("TERM"); }`, "too late for `connect`"},
		{`tracepoint:syscalls:sys_enter_execve { signal("KILL"); }`, ""},
		{`tracepoint:syscalls:sys_enter_write { signal("KILL"); }`, ""},
		{`tracepoint:syscalls:sys_enter_unlinkat { signal("USR1"); }`, ""},
		{`tracepoint:sched:sched_process_exec { signal("KILL"); }`, ""},
		{`uprobe:/proc/self/exe:runtime.main { signal("KILL"); }`, ""},
	}
	for _, c := range cases {
		var out, errs bytes.Buffer
		run(context.Background(), []string{"sonde", "--unsafe", "-d", "checked", "--dry-run", "-e", c.prog}, stdio{strings.NewReader(""), &out, &errs})
		late := strings.Contains(errs.String(), "W0731")
		if late != (c.want != "") || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%s: %s", c.prog, errs.String())
		}
	}
}

// TestKernelOverride changes what a system call returns where the kernel has that, and is refused in words where it does not, also when nothing would
// be done.
func TestKernelOverride(t *testing.T) {
	k := openKernel(t)
	prog := fmt.Sprintf(`kprobe:%s /pid == %d/ { override(4242); }`, map[string]string{"amd64": "__x64_sys_getpgid", "arm64": "__arm64_sys_getpgid"}[k.Arch()], os.Getpid())
	if err := k.Features().Check("bpf_override_return"); err != nil {
		for _, arg := range []string{"--unsafe", "--dry-run", "--dry-run-actions"} {
			var out, errs bytes.Buffer
			code := run(context.Background(), []string{"sonde", "--unsafe", arg, "-e", prog}, stdio{strings.NewReader(""), &out, &errs})
			if code != exitUser || !strings.Contains(errs.String(), "cannot override what a function returns [E0701]") || !strings.Contains(errs.String(), "CONFIG_BPF_KPROBE_OVERRIDE") {
				t.Errorf("%s: status %d, messages:\n%s", arg, code, errs.String())
			}
		}
		return
	}
	_, errs, code := beside(t, []string{"--unsafe", "-e", prog}, func() {
		if got, err := unix.Getpgid(0); got != 4242 {
			t.Errorf("getpgid: %d, %v", got, err)
		}
	})
	if code != 0 || !strings.Contains(errs, "return value overridden") {
		t.Errorf("status %d, messages:\n%s", code, errs)
	}
}

// Ctrl-C ends a script that sends more than can be printed: each record stands for a map of thousands of entries. What is left is counted, and the
// end probe prints.
func TestKernelFloodEnds(t *testing.T) {
	openKernel(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var errs bytes.Buffer
	const prog = `begin { for ($i : 0..4000) { @x[$i] = $i; } } interval:ms:2 { unroll(10) { print(@x); } } end { printf("the end\n"); }`
	out := &floodWriter{enough: cancel}
	code := run(ctx, []string{"sonde", "--no-warnings", "-e", prog}, stdio{strings.NewReader(""), out, &errs})
	took := time.Since(out.when)
	if code != exitOK || took > patience {
		t.Errorf("status %d, %v after it should have ended\n%s", code, took, errs.String())
	}
	const limit = 3 * time.Second // as long as the runtime handles what was sent before the end
	if took > limit && !strings.Contains(errs.String(), "events sent before the end are not shown") {
		t.Errorf("after %v nothing is said about what is missing: %s", took, errs.String())
	}
	if !out.saw {
		t.Error("the end probe did not print")
	}
}

// floodWriter calls enough once much was written, and keeps whether the end was announced.
type floodWriter struct {
	enough func()
	when   time.Time // of the call
	n      int
	last   []byte
	saw    bool
}

func (w *floodWriter) Write(b []byte) (int, error) {
	const much = 100 << 10
	if w.n += len(b); w.n >= much && w.when.IsZero() {
		w.when = time.Now()
		w.enough()
	}
	w.last = append(w.last, b...)
	w.saw = w.saw || bytes.Contains(w.last, []byte("the end\n"))
	w.last = w.last[max(0, len(w.last)-16):]
	return len(b), nil
}
