package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// busyPrograms compute for about a second, however long they have to wait for a processor, in functions whose names must be found in stacks after the
// program has ended.
var busyPrograms = []struct{ name, file, text, build, run, want string }{
	{
		"C", "busy.c", `#include <time.h>
__attribute__((noinline)) static int leaf(int n) { volatile int s = 0; for (int i = 0; i < n; i++) s += i; return s; }
__attribute__((noinline)) int middle(int n) { return leaf(n) + 1; }
int main(void) { struct timespec a; do { middle(100000); clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a); } while (a.tv_sec < 1); return 0; }
`,
		"gcc -O1 -fno-omit-frame-pointer -fno-optimize-sibling-calls -o busy busy.c", "./busy", `(?m)^\s+leaf\+\d+\n\s+middle\+\d+\n\s+main\+\d+$`,
	},
	{
		"C++", "busy.cc", `#include <ctime>
namespace work { struct Loop { __attribute__((noinline)) int spin(int n) { volatile int s = 0; for (int i = 0; i < n; i++) s += i; return s; } }; }
int main() { work::Loop l; timespec a; do { l.spin(100000); clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a); } while (a.tv_sec < 1); return 0; }
`,
		"g++ -O1 -fno-omit-frame-pointer -o busy busy.cc", "./busy", `(?m)^\s+work::Loop::spin\(int\)\+\d+\n\s+main\+\d+$`,
	},
	{
		"Rust", "busy.rs", `mod work { #[inline(never)] pub fn spin(n: u64) -> u64 { let mut s = 0u64; for i in 0..n { s = std::hint::black_box(s + i); } s } }
fn main() { for _ in 0..20000 { std::hint::black_box(work::spin(100000)); } }
`,
		"rustc -O -C force-frame-pointers=yes -o busy busy.rs", "./busy", `(?m)^\s+busy::work::spin(::h[0-9a-f]+)?\+\d+\n\s+busy::main(::h[0-9a-f]+)?\+\d+$`,
	},
	{
		"Go", "busy.go", `package main

type T struct{ n int }

//go:noinline
func (t *T) Spin() { for i := 0; i < 100000; i++ { t.n += i } }

func main() { t := &T{}; for range 30000 { t.Spin() } }
`,
		"go build -o busy busy.go", "./busy", `(?m)^\s+main\.\(\*T\)\.Spin\+\d+\n(\s+main\.main\+\d+\n)?\s+runtime\.main\+\d+$`, // a leaf without a frame hides its caller
	},
	{
		"Python", "busy.py", `import time
def work(n): return sum(i * i for i in range(n))
while time.process_time() < 1: work(10000)
`,
		"", "python3 busy.py", `(?m)^\s+\w*(PyEval|gen_iternext|Py|long_)\w*\+\d+$`,
	},
}

// TestKernelStacks samples programs in several languages and prints their stacks when they have ended.
func TestKernelStacks(t *testing.T) {
	openKernel(t)
	for _, p := range busyPrograms {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, line := range []string{p.build, p.run} {
				if tool, _, _ := strings.Cut(line, " "); tool != "" && !strings.HasPrefix(tool, "./") {
					if err := exec.Command(tool, "--version").Run(); err != nil && tool != "go" {
						t.Skipf("needs %s: %v", tool, err)
					}
				}
			}
			if err := os.WriteFile(filepath.Join(dir, p.file), []byte(p.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if p.build != "" {
				args := strings.Fields(p.build)
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Skipf("needs a compiler: %v\n%s", err, out)
				}
			}
			command := strings.ReplaceAll(p.run, "busy.py", filepath.Join(dir, "busy.py"))
			command = strings.ReplaceAll(command, "./", dir+"/")
			var out, errs bytes.Buffer
			code := run(context.Background(), []string{"sonde", "-c", command, "-e", `profile:hz:99 /pid == cpid/ { @[ustack, kstack] = count(); }`}, stdio{strings.NewReader(""), &out, &errs})
			if code != 0 || !regexp.MustCompile(p.want).MatchString(out.String()) {
				text := out.String()
				t.Errorf("status %d, %s\nno stack like %s in\n%s", code, errs.String(), p.want, text[:min(len(text), 3000)])
			}
		})
	}
}

// TestKernelUnwoundStacks samples a program that keeps no frame pointers, through the C library, a signal handler and the linkage table.
func TestKernelUnwoundStacks(t *testing.T) {
	k := openKernel(t)
	if !k.Features().Has("bpf_loop") {
		t.Skip("needs bpf_loop")
	}
	if k.Arch() != "amd64" {
		t.Skip("needs x86-64")
	}
	const text = `#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <time.h>
static volatile int x;
__attribute__((noinline)) void work(int n) { for (int i = 0; i < n; i++) x += i; __asm__ volatile(""); }
__attribute__((noinline)) int cmp(const void *a, const void *b) { work(20000); return *(int *)a - *(int *)b; }
__attribute__((noinline)) void handler(int s) { work(200000); x++; }
__attribute__((noinline)) void sorter(void) { int a[8]; for (int i = 0; i < 8; i++) a[i] = (i * 7919) % 8; qsort(a, 8, 4, cmp); x += a[3]; }
int main(int argc, char **argv) { // a second of computing, or for ever
	struct timespec a;
	signal(SIGUSR1, handler);
	do { sorter(); raise(SIGUSR1); clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a); } while (argc > 1 || a.tv_sec < 1);
	return 0;
}
`
	dir := t.TempDir()
	source, bin := filepath.Join(dir, "nofp.c"), filepath.Join(dir, "nofp")
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-O2", "-fomit-frame-pointer", "-o", bin, source).CombinedOutput(); err != nil {
		t.Skipf("needs gcc: %v\n%s", err, out)
	}
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"sonde", "-c", bin, "-e", `profile:hz:499 /pid == cpid/ { @[dw_ustack] = count(); @b[ustack(build_id)] = count(); }`}, stdio{strings.NewReader(""), &out, &errs})
	if code != 0 {
		t.Errorf("status %d", code)
	}
	for _, want := range []string{
		`(?m)^\s+work\+\d+\n\s+cmp\+\d+\n(\s+\S+\+\d+\n){1,8}\s+sorter\+\d+\n\s+main\+\d+\n`, // through the C library
		`(?m)^\s+work\+\d+\n\s+handler\+\d+\n(\s+\S+\+\d+\n){1,6}\s+main\+\d+\n`,             // through the signal
		`(?m)\s+_start\+\d+\n\]: \d+$`,
		`(?m)^@b\[\n[0-9a-f]{40} 0x[0-9a-f]+\n`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no stack like %s", want)
		}
	}
	if t.Failed() {
		t.Log(errs.String(), out.String()[:min(out.Len(), 4000)])
	}
	out.Reset()
	errs.Reset()
	if code := run(context.Background(), []string{"sonde", "-e", `profile:hz:99 { @[dw_ustack] = count(); }`}, stdio{strings.NewReader(""), &out, &errs}); code != exitUser ||
		!strings.Contains(errs.String(), "needs a process") {
		t.Errorf("without a process: status %d, %s", code, errs.String())
	}
	out.Reset()
	errs.Reset()
	cmd := exec.Command(bin, "forever")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	complete := regexp.MustCompile(`(?m)^\s+work\+\d+\n(\s+\S+\+\d+\n){1,12}\s+_start\+\d+\n`)
	var shown lockedBuffer
	in, feed := io.Pipe()
	go func() {
		fmt.Fprintln(feed, `profile:hz:499 { @[dw_ustack] = count(); }`)
		for end := time.Now().Add(patience); !complete.MatchString(shown.String()) && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			fmt.Fprintln(feed, `print(@)`)
		}
		feed.Close()
	}()
	run(context.Background(), []string{"sonde", "-p", strconv.Itoa(cmd.Process.Pid)}, stdio{in, &shown, &errs})
	if !complete.MatchString(shown.String()) {
		t.Errorf("no complete stack at the prompt:\n%s%s", shown.String(), errs.String())
	}
}

// TestKernelStacksUnderUretprobe takes stacks through a function whose return address a uretprobe has replaced: what the program walks itself
// is what the kernel's helper gives.
func TestKernelStacksUnderUretprobe(t *testing.T) {
	openKernel(t)
	dir := t.TempDir()
	const text = `#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>
__attribute__((noinline)) long inner(void) { long r = syscall(SYS_getpgid, 7654321); __asm__ volatile(""); return r; }
__attribute__((noinline)) long outer(void) { long r = inner(); __asm__ volatile(""); return r + 1; }
int main(void) { long s = 0; for (int i = 0; i < 5; i++) s += outer(); s += inner(); usleep(500000); return s == 12345; } // long enough for its maps to be read
`
	if err := os.WriteFile(filepath.Join(dir, "p.c"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("gcc", "-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-o", "p", "p.c")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("needs a compiler: %v\n%s", err, out)
	}
	var got [2]string
	for i, attach := range []string{"auto", "literal"} {
		script := fmt.Sprintf(`config = { attach = %s } uretprobe:%s/p:outer { @r = count(); }
tracepoint:syscalls:sys_enter_getpgid /args.pid == 7654321/ { @[ustack(4)] = count(); }`, attach, dir)
		var out, errs bytes.Buffer
		if code := run(context.Background(), []string{"sonde", "-c", dir + "/p", "-e", script}, stdio{strings.NewReader(""), &out, &errs}); code != 0 {
			t.Fatalf("status %d, %s", code, errs.String())
		}
		got[i] = out.String()
	}
	if got[0] != got[1] || !strings.Contains(got[0], "outer+") || !strings.Contains(got[0], "@r: 5") {
		t.Errorf("by the program\n%s\nby the kernel\n%s", got[0], got[1])
	}
}
