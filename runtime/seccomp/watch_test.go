package seccomp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sourceOwnFilter denies itself getppid in the way that its first argument names, and calls it 100 times from the first moment on.
const sourceOwnFilter = `
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile int go;
static void calls(void) { for (int i = 0; i < 100; i++) syscall(SYS_getppid); }
static void *other(void *arg) {
	syscall(SYS_getuid);
	go = 1;
	while (go != 2) syscall(SYS_getuid);
	calls();
	return 0;
}
int main(int argc, char **argv) {
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 42),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {4, code};
	const char *how = argv[1];
	pthread_t t;
	if (!strcmp(how, "wait")) { puts("up"); fflush(stdout); getchar(); }
	if (!strcmp(how, "other")) {
		pthread_create(&t, 0, other, 0);
		while (!go) ;
	}
	prctl(PR_SET_NAME, how);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 0);
	long r;
	if (!strcmp(how, "prctl")) r = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
	else r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, !strcmp(how, "other") ? SECCOMP_FILTER_FLAG_TSYNC : 0, &prog);
	if (r) return 1;
	if (!strcmp(how, "other")) { go = 2; pthread_join(t, 0); }
	else if (!strcmp(how, "child")) {
		if (!fork()) { calls(); _exit(0); }
		wait(0);
	}
	else if (!strcmp(how, "exec") && argc < 3) {
		char *again[] = {argv[0], "calls", "x", 0};
		execv("/proc/self/exe", again);
	}
	else calls();
	if (!strcmp(how, "wait")) { puts("done"); fflush(stdout); getchar(); calls(); puts("more"); fflush(stdout); if (getchar() > 0) calls(); }
	return 0;
}
`

// TestRecordOwnFilter: a program that puts a filter on itself is denied something right afterwards.
func TestRecordOwnFilter(t *testing.T) {
	tool(t, "gcc")
	exe := compileC(t, t.TempDir(), "own", strings.Replace(sourceOwnFilter, "int main(int argc, char **argv) {\n", "int main(int argc, char **argv) {\n\tif (argc > 2) { calls(); return 0; }\n", 1), "-pthread")
	for _, how := range []string{"seccomp", "prctl", "child", "exec", "other"} {
		t.Run(how, func(t *testing.T) { wantDenials(t, record(t, Options{}, exe, how), "getppid", 100) })
	}
	for _, c := range []struct {
		name   string
		cgroup bool // recorded is a group that the process enters
		before bool // the filter is there before the recording
		want   uint64
	}{
		{"of a process that runs", false, false, 200},
		{"that was there before the recording", false, true, 100},
		{"of a process that enters the cgroup", true, false, 200},
		{"of a process that enters the cgroup with it", true, true, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, next, cmd := talk(t, exe, "wait")
			call := func() { _, _ = io.WriteString(in, "\n"); next() }
			if c.before {
				call()
			}
			opts := Options{PIDs: []int{cmd.Process.Pid}}
			if c.cgroup {
				opts = Options{Cgroup: makeCgroup(t)}
			}
			r := startRecording(t, opts)
			if c.cgroup {
				enter(t, opts.Cgroup, cmd)
			}
			if !c.before || c.cgroup {
				call() // what it writes is, in a cgroup that it brings its filter to, its first call that is not denied
			}
			wantDenials(t, finish(t, r, in, cmd), "getppid", c.want)
		})
	}
}

// TestRecordCgroupLeft: what a thread under a filter does while it is not in the cgroup is neither recorded nor denied.
func TestRecordCgroupLeft(t *testing.T) {
	tool(t, "gcc")
	group := makeCgroup(t)
	in, next, cmd := talk(t, compileC(t, t.TempDir(), "own", sourceOwnFilter, "-pthread"), "wait")
	call := func() { _, _ = io.WriteString(in, "\n"); next() }
	r := startRecording(t, Options{Cgroup: group})
	enter(t, group, cmd)
	call()
	enter(t, filepath.Dir(group), cmd)
	call()
	enter(t, group, cmd)
	wantDenials(t, finish(t, r, in, cmd), "getppid", 200)
}

// talk starts a program that says when it is ready and waits for a line each time.
func talk(t *testing.T, command ...string) (in io.WriteCloser, next func(), cmd *exec.Cmd) {
	t.Helper()
	cmd = exec.Command(command[0], command[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewReader(out)
	next = func() {
		t.Helper()
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	next()
	return in, next, cmd
}

func makeCgroup(t *testing.T) string {
	t.Helper()
	root, err := testKernel(t).CgroupMount()
	if err != nil {
		t.Skipf("needs a cgroup2 file system: %v", err)
	}
	dir := filepath.Join(root, fmt.Sprintf("sonde-watch-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("needs the right to make cgroups: %v", err)
	}
	t.Cleanup(func() {
		for range 100 { // its process ends first
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return dir
}

func enter(t *testing.T, dir string, cmd *exec.Cmd) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
}

// wantDenials holds for a recording in which a call was denied n times, unless it says that it did not see all.
func wantDenials(t *testing.T, p *Profile, name string, n uint64) {
	t.Helper()
	for text, lost := range p.Runs[0].Lost {
		if strings.Contains(text, "denied calls") {
			t.Logf("%d %s", lost, text)
			return
		}
	}
	if len(p.Denials) != 1 || p.Denials[0].Name != name || p.Denials[0].Count != n || p.Denials[0].Result != -42 || count(p, p.ABI, name) != 0 {
		t.Errorf("denials %+v, want %d of %s; %d were counted as made", p.Denials, n, name, count(p, p.ABI, name))
	}
}

// finish lets the program end, and stops the recording then.
func finish(t *testing.T, r *Recorder, in io.WriteCloser, cmd *exec.Cmd) *Profile {
	t.Helper()
	_, _ = io.WriteString(in, "\n")
	_ = in.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if r.opts.Cgroup != "" {
		_ = cmd.Wait()
	} else if err := r.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	p, err := r.Stop()
	if err != nil {
		t.Fatal(err)
	}
	return p
}
