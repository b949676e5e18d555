package seccomp

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// preempted makes calls on one CPU: two threads all the time, and one that takes the CPU from them wherever they are, makes a call and
// a thread, and gives it back. It writes how many calls of each kind were made.
func preempted() {
	const rounds = 2000
	runtime.GOMAXPROCS(4) // each has its own thread, and none gives it up
	var stop atomic.Bool
	counts := make(chan uint64)
	pin := func() {
		runtime.LockOSThread()
		var all, one unix.CPUSet
		err := unix.SchedGetaffinity(0, &all)
		for cpu := range 8 * int(unsafe.Sizeof(all)) { // the first that this process may use
			if all.IsSet(cpu) {
				one.Set(cpu)
				break
			}
		}
		if err = errors.Join(err, unix.SchedSetaffinity(0, &one)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	for range 2 {
		go func() {
			pin()
			n := uint64(0)
			for ; !stop.Load(); n++ {
				_, _, _ = unix.RawSyscall(unix.SYS_GETPGID, 0, 0, 0)
			}
			counts <- n
		}()
	}
	go func() {
		pin()
		_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
		for range rounds {
			t := unix.Timespec{Nsec: 100_000}
			_, _, _ = unix.RawSyscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, 0, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
		}
		stop.Store(true)
	}()
	fmt.Println(<-counts+<-counts, rounds)
}

// TestKernelRecordPreempted: a thread is taken off its CPU anywhere in the kernel's way to a program of ours.
func TestKernelRecordPreempted(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	p := record(t, Options{Env: append(os.Environ(), testCalls+"=preempt", "GODEBUG=asyncpreemptoff=1"), Stdout: &out, Stderr: os.Stderr}, exe)
	var getpgid, sleep uint64
	if _, err := fmt.Sscan(out.String(), &getpgid, &sleep); err != nil {
		t.Fatalf("%q: %v", out.String(), err)
	}
	if a, b := count(p, p.ABI, "getpgid"), count(p, p.ABI, "clock_nanosleep"); a != getpgid || b != sleep || len(p.Runs[0].Lost) > 0 {
		t.Errorf("%d of %d getpgid and %d of %d clock_nanosleep were recorded; lost: %v", a, getpgid, b, sleep, p.Runs[0].Lost)
	}
}

// TestRecordEvents repeats tests of the recorder by way of trace events, which it goes where the programs of tracepoints can be interrupted.
func TestRecordEvents(t *testing.T) {
	if _, err := testKernel(t).Tracefs(); err != nil {
		t.Skipf("needs tracefs: %v", err)
	}
	before := *events
	*events = true
	defer func() { *events = before }()
	for name, test := range map[string]func(*testing.T){
		"provenance": TestRecordProvenance, "tables": TestRecordABIs, "arguments": TestRecordArguments, "many processes": TestRecordManyProcesses,
		"too many": TestRecordTooManyTasks, "execve of a thread": TestRecordExecFromThread, "own filter": TestRecordOwnFilter, "denials": TestRecordDenials,
		"process": TestRecordProcess, "cgroup": TestRecordCgroup, "cgroup left": TestRecordCgroupLeft, "preempted": TestKernelRecordPreempted,
	} {
		t.Run(name, test)
	}
}
