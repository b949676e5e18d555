package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const pairThreadsEnv = "SONDE_TEST_PAIR_THREADS"

// shortThreads makes up to n threads, a few at a time, which do something and end. It gives the number of those that it made in a quarter of a minute.
func shortThreads(n int, do func(i int)) int {
	var wg sync.WaitGroup
	room := make(chan struct{}, 16)
	began := time.Now()
	made := 0
	for ; made < n && time.Since(began) < 15*time.Second; made++ {
		room <- struct{}{}
		wg.Go(func() {
			runtime.LockOSThread() // and the thread ends with its goroutine
			do(made)
			<-room
		})
	}
	wg.Wait()
	return made
}

// TestKernelPairs has 100,000 threads start and end something, and some that only start it: slots of threads lose nothing and mean the same as
// the hash alone.
func TestKernelPairs(t *testing.T) {
	if name := os.Getenv(pairThreadsEnv); name != "" {
		n := shortThreads(100_000, func(int) { _, _ = unix.Getpgid(0) })
		left := shortThreads(1000, func(int) { _, _ = unix.Getsid(0) })
		if err := os.WriteFile(name, fmt.Appendf(nil, "%d %d", n, left), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	openKernel(t)
	report := filepath.Join(t.TempDir(), "made")
	t.Setenv(pairThreadsEnv, report)
	for _, maps := range []string{"auto", "literal"} {
		t.Run(maps, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			prog := `config = { maps = ` + maps + ` }
			tracepoint:syscalls:sys_enter_getpgid /pid == cpid/ { @start[tid] = nsecs; @in = count(); }
			tracepoint:syscalls:sys_exit_getpgid /@start[tid]/ { @out = count(); if (nsecs - @start[tid] > 100000000000) { @wrong = count(); } delete(@start, tid); }
			tracepoint:syscalls:sys_exit_getpgid /pid == cpid && @start[tid]/ { @twice = count(); }
			tracepoint:syscalls:sys_enter_getsid /pid == cpid/ { @left[tid] = 0; }
			tracepoint:syscalls:sys_exit_getsid /@left[tid]/ { delete(@left, tid); }
			end { print(@left); clear(@left); @left[tid] = 77; printf("end %d\n", @left[tid]); }`
			var buf, errs bytes.Buffer
			command := "/proc/" + strconv.Itoa(os.Getpid()) + "/exe -test.run=^TestKernelPairs$"
			if code := run(ctx, []string{"sonde", "-e", prog, "-c", command}, stdio{strings.NewReader(""), &buf, &errs}); code != 0 {
				t.Fatalf("status %d\n%s", code, errs.String())
			}
			text := buf.String()
			b, err := os.ReadFile(report)
			if err != nil {
				t.Fatal(err)
			}
			var made, left int
			if _, err := fmt.Sscan(string(b), &made, &left); err != nil {
				t.Fatal(err)
			}
			// The kernel leaves a program out where another of its kind is running on the processor, and counts that.
			missed := 0
			for _, m := range regexp.MustCompile(`: (\d+) hits missed by the kernel`).FindAllStringSubmatch(errs.String(), -1) {
				n, _ := strconv.Atoi(m[1])
				missed += n
			}
			count := func(name string) int {
				m := regexp.MustCompile(`(?m)^` + name + `: (\d+)$`).FindStringSubmatch(text)
				if m == nil {
					return 0
				}
				n, _ := strconv.Atoi(m[1])
				return n
			}
			lines := func(re string) int { return len(regexp.MustCompile(`(?m)^`+re).FindAllString(text, -1)) }
			in, out := count("@in"), count("@out")
			if in > made || in < made-missed || out > in || out < in-missed {
				t.Errorf("%d threads, %d started, %d ended, %d programs left out", made, in, out, missed)
			}
			if n := lines(`@start\[`); n != in-out {
				t.Errorf("%d keys are left, want %d", n, in-out)
			}
			if n := lines(`@left\[\d+\]: 0$`); n > left || n < left-missed {
				t.Errorf("%d keys of threads that did not end, want %d", n, left)
			}
			for re, want := range map[string]int{`@wrong`: 0, `@twice`: 0, `@left\[\d+\]: 77$`: 1, `end 77$`: 1} {
				if n := lines(re); n != want {
					t.Errorf("%d lines like %s, want %d", n, re, want)
				}
			}
			if missed == 0 && strings.Contains(errs.String(), "WARNING") {
				t.Error(errs.String())
			}
		})
	}
}
