package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// load is a process of ours that makes events: cheap system calls in a tight loop of one thread.
type load struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	pid int
}

// chunk is what one order to the load took.
type chunk struct {
	cpu, wall time.Duration // of the whole loop
	n         int
}

// perCall gives nanoseconds of thread CPU time.
func (c chunk) perCall() float64 { return float64(c.cpu.Nanoseconds()) / float64(c.n) }

func startLoad(ctx context.Context) (*load, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l := &load{cmd: exec.CommandContext(ctx, self, "load")}
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	l.cmd.Stderr = os.Stderr
	if l.in, err = l.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.out = bufio.NewReader(out)
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	l.pid = l.cmd.Process.Pid
	return l, nil
}

func (l *load) close() {
	l.in.Close()
	_ = l.cmd.Wait()
}

// run makes n calls of a kind. With pause, a call is made every so often instead of at once.
func (l *load) run(call string, n int, pause time.Duration) (chunk, error) {
	if _, err := fmt.Fprintln(l.in, call, n, pause.Nanoseconds()); err != nil {
		return chunk{}, err
	}
	line, err := l.out.ReadString('\n')
	if err != nil {
		return chunk{}, fmt.Errorf("the load ended: %w", err)
	}
	c := chunk{n: n}
	_, err = fmt.Sscan(line, &c.cpu, &c.wall)
	return c, err
}

// runLoad obeys orders: a line names a call, a number and the nanoseconds between two calls; the answer is CPU and wall time in nanoseconds.
func runLoad(in io.Reader, out io.Writer) int {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	sc := bufio.NewScanner(in)
	for sc.Scan() {
		var call string
		var n int
		var pause int64
		if _, err := fmt.Sscan(sc.Text(), &call, &n, &pause); err != nil {
			fmt.Fprintln(os.Stderr, "load:", err)
			return 2
		}
		f := calls()[call]
		if f == nil {
			fmt.Fprintln(os.Stderr, "load: no call", call)
			return 2
		}
		c0, w0 := clock(unix.CLOCK_THREAD_CPUTIME_ID), clock(unix.CLOCK_MONOTONIC)
		cpu := int64(0)
		if pause == 0 {
			f(n)
			cpu = clock(unix.CLOCK_THREAD_CPUTIME_ID) - c0
		} else {
			next := w0
			for range n {
				for clock(unix.CLOCK_MONOTONIC) < next {
				}
				before := clock(unix.CLOCK_THREAD_CPUTIME_ID)
				f(1)
				cpu += clock(unix.CLOCK_THREAD_CPUTIME_ID) - before // of the calls, and of one reading of the clock each
				next += pause
			}
		}
		fmt.Fprintln(out, cpu, clock(unix.CLOCK_MONOTONIC)-w0)
	}
	return 0
}

func clock(id int32) int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(id, &ts)
	return ts.Nano()
}

// missingFile is opened in vain; it is about as long as a path usually is.
const missingFile = "/usr/share/sonde/bench/no/such/file"

// calls are the system calls of the load. They go straight to the kernel: nothing of Go's scheduler is in the loop.
func calls() map[string]func(n int) {
	pid := uintptr(os.Getpid())
	path, name := append([]byte(missingFile), 0), []byte("load\x00")
	at := unix.AT_FDCWD // a variable, the constant does not fit a uintptr
	return map[string]func(int){
		"getpgid": func(n int) {
			for range n {
				_, _, _ = unix.RawSyscall(unix.SYS_GETPGID, pid, 0, 0)
			}
		},
		// Every call with another argument, from 1 on.
		"getpgids": func(n int) {
			for i := range n {
				_, _, _ = unix.RawSyscall(unix.SYS_GETPGID, uintptr(i+1), 0, 0)
			}
		},
		"rename": func(n int) {
			for range n {
				_, _, _ = unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0)
			}
		},
		"endbr": func(n int) {
			for range n {
				endbr()
			}
		},
		"openat": func(n int) {
			for range n {
				_, _, _ = unix.RawSyscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(&path[0])), 0, 0, 0, 0)
			}
		},
	}
}

// program is one of the programs whose code is compared.
type program struct {
	name, script, call string
	insns              float64 // how many of the peer's instructions sonde's may be; 0: as many
	anySize            bool    // of those that are executed only: the code itself may be long
}

// insnLimit is the limit of a program's instructions.
func (p *program) insnLimit() float64 {
	if p.insns == 0 {
		return 1
	}
	return p.insns
}

// script of a single probe on the entry of the cheap call.
func onEntry(body string) string { return "tracepoint:syscalls:sys_enter_getpgid " + body }

// emptyProgram is what is subtracted.
func emptyProgram(call string) program {
	return program{name: "empty", script: "tracepoint:syscalls:sys_enter_" + call + " { }", call: call}
}

func (o *options) programs() []program {
	list := []program{
		{name: "@ = count()", script: onEntry("{ @ = count(); }"), call: "getpgid"},
		{name: "@[pid] = count()", script: onEntry("{ @[pid] = count(); }"), call: "getpgid"},
		{name: "@[comm] = count()", script: onEntry("{ @[comm] = count(); }"), call: "getpgid", insns: 0.6},
		{name: "@ = hist(x)", script: onEntry("{ @ = hist(args->pid); }"), call: "getpgid", insns: 0.6},
		{name: "@[pid] = sum(x)", script: onEntry("{ @[pid] = sum(args->pid); }"), call: "getpgid"},
		{name: "@ = x", script: onEntry("{ @ = args->pid; }"), call: "getpgid", insns: 0.6},
		{name: "@[ustack] = count()", script: onEntry("{ @[ustack] = count(); }"), call: "getpgid", anySize: true},
		{name: "start/hist/delete pair", call: "getpgid", script: onEntry("{ @s[tid] = nsecs; }") +
			" tracepoint:syscalls:sys_exit_getpgid /@s[tid]/ { @ = hist(nsecs - @s[tid]); delete(@s[tid]); }"},
		{name: "printf of a path", script: `tracepoint:syscalls:sys_enter_openat { printf("%d %s %s\n", pid, comm, str(args->filename)); }`, call: "openat"},
	}
	return slices.DeleteFunc(list, func(p program) bool { return !o.wanted(p.name) })
}

// wanted reports whether a program is to be measured.
func (o *options) wanted(name string) bool { return o.match == nil || o.match.MatchString(name) }

// oneLine makes a script fit a table.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
