package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// hasFilter tells whether a thread runs under a seccomp filter.
func hasFilter(tid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	return err == nil && strings.Contains(string(b), "\nSeccomp:\t2\n")
}

// awaitFilters attaches sys_exit's program when a program of ours says that a filter comes. It holds a thread meanwhile, and with it one
// CPU, on which whoever is to answer may have been put. So two threads listen, each on a CPU of its own, before all others there.
func (r *Recorder) awaitFilters() error {
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	var ready sync.WaitGroup
	defer ready.Wait()
	for cpu := 0; len(r.alarms) < 2 && cpu < len(cpus)*64; cpu++ {
		if !cpus.IsSet(cpu) {
			continue
		}
		alarms, err := ringbuf.NewReader(r.maps["alarms"])
		if err != nil {
			return fmt.Errorf("read alarms: %w", err)
		}
		r.alarms = append(r.alarms, alarms)
		ready.Add(1)
		r.watcher.Go(func() { r.awaitFilter(alarms, cpu, ready.Done) })
	}
	return nil
}

func (r *Recorder) awaitFilter(alarms *ringbuf.Reader, cpu int, ready func()) {
	runtime.LockOSThread() // never unlocked: the thread ends with its CPU and its priority
	var one unix.CPUSet
	one.Set(cpu)
	_ = unix.SchedSetaffinity(0, &one)
	if unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0) != nil {
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
	}
	ready()
	rec, err := alarms.Read()
	if err != nil {
		return // closed: no filter came
	}
	attached := r.lookOut()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil || len(rec.RawSample) < 8 || !attached {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blind = time.Duration(now.Nano()) - (time.Duration(binary.NativeEndian.Uint64(rec.RawSample)) - watchLimit)
}

// lookOut attaches sys_exit's program, and reports false when that has happened before.
func (r *Recorder) lookOut() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lookout == nil {
		return false
	}
	err := r.attach("sys_exit", r.lookout)
	if err == nil {
		err = r.maps["watch"].Update(uint32(watchOn), uint64(1), ebpf.UpdateAny)
	}
	if err != nil {
		r.blindErr = err
	}
	r.lookout = nil
	return true
}

// fillBlind says what was not looked at.
func (r *Recorder) fillBlind(run *Run) error {
	n, err := r.stat(statBlind)
	if err != nil || n == 0 && r.blindErr == nil {
		return err
	}
	if r.blindErr != nil {
		run.lost(fmt.Sprintf("looks for denied calls (%v)", errors.Unwrap(r.blindErr)), 1)
	} else {
		run.lost("milliseconds after the first filter came, in which denied calls were not seen", uint64(max(r.blind.Milliseconds(), 1)))
	}
	return nil
}
