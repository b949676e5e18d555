package seccomp

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// From Linux 6.19 on a thread can be taken off its CPU while it runs a program of a tracepoint. The program counts as active on that CPU
// until the thread comes back, and the kernel runs it for no other thread there meanwhile: what those do is dropped, and only their number
// kept. Nothing in the program helps, for it is counted before its first instruction.
//
// Trace events are another way to the same place: their handlers run with preemption switched off, and nothing is dropped. They cost about
// 25 ns more, so they are used for the two events of a system call where the kernel needs it. Those of threads (fork, exec, exit) need what
// trace events do not have, the addresses of threads and files, and are rare: each has followers, programs that do the same once more
// unless it was done. An event is dropped when a thread was taken off inside of each of them, all on one CPU, which nobody has seen.

// followers is how many programs an event of a thread has where they can be interrupted.
const followers = 3

// Where trace events of system calls have the number and, at the end of one, the result.
const (
	eventNumber = 8
	eventResult = 16
)

// preemptible tells whether the programs of tracepoints can be interrupted by other threads.
func (r *Recorder) preemptible() bool { return r.opts.Kernel.VersionCode() >= 6<<16|19<<8 }

// findEvents gives the numbers of the trace events that stand in for tracepoints, by tracepoint: none where they are not needed and where
// they cannot be found, as without tracefs.
func (r *Recorder) findEvents() map[string]int {
	if !r.preemptible() && !r.opts.events {
		return nil
	}
	t, err := r.opts.Kernel.Tracefs()
	if err != nil {
		return nil
	}
	ids := map[string]int{}
	for _, name := range []string{"sys_enter", "sys_exit"} {
		if ids[name], err = t.EventID("raw_syscalls", name); err != nil {
			return nil
		}
	}
	return ids
}

// attach puts a program on its tracepoint.
func (r *Recorder) attach(tracepoint string, prog *ebpf.Program) error {
	ln, err := r.hook(tracepoint, prog)
	if err == nil {
		r.links = append(r.links, ln)
	}
	return err
}

func (r *Recorder) hook(tracepoint string, prog *ebpf.Program) (io.Closer, error) {
	if prog.Type() != ebpf.TracePoint {
		return link.AttachTracing(link.TracingOptions{Program: prog, AttachType: ebpf.AttachTraceRawTp})
	}
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Size: unix.PERF_ATTR_SIZE_VER1, Config: uint64(r.eventIDs[tracepoint]), Sample: 1}
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC) // the program runs for all CPUs
	if err != nil {
		return nil, os.NewSyscallError("perf_event_open", err)
	}
	event := os.NewFile(uintptr(fd), "perf_event")
	if err := errors.Join(unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, prog.FD()), unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0)); err != nil {
		_ = event.Close()
		return nil, fmt.Errorf("attach a program to an event: %w", err)
	}
	return event, nil
}

// misses is how many events the kernel did not run a program for, since it ran already. One that has followers is missed by all or seen.
func (r *Recorder) misses() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.missed
	for _, programs := range r.progs {
		least := ^uint64(0)
		for _, p := range programs {
			st, err := p.Stats()
			if err != nil { // before Linux 5.12
				return n
			}
			least = min(least, st.RecursionMisses)
		}
		n += least
	}
	return n
}
