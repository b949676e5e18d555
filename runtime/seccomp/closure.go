package seccomp

import (
	"fmt"
	"slices"
	"strings"
)

// Closure says how much is added to what was recorded.
type Closure string

const (
	// ClosureUsual adds what chance decides: how a process ends, signals, locks, the allocator, Go's scheduler.
	ClosureUsual Closure = ""
	// ClosureNone adds nothing.
	ClosureNone Closure = "none"
	// ClosurePortable also adds what another machine or C library would call in place of what was recorded.
	ClosurePortable Closure = "portable"
)

// ParseClosure reads none, usual or portable.
func ParseClosure(s string) (Closure, error) {
	switch s {
	case "usual", "":
		return ClosureUsual, nil
	case "none", "portable":
		return Closure(s), nil
	}
	return "", fmt.Errorf("unknown closure `%s`; known are none, usual, portable", s)
}

// addition is a row: calls that belong to what was recorded, and why.
type addition struct {
	names    string
	when     string // one of these was recorded; "" always; "go" a Go program ran
	why      string
	portable bool
}

var additions = []addition{
	{names: "exit exit_group", why: "ends a thread or the process; who is killed never shows it"},
	{names: "restart_syscall", why: "the kernel continues a sleep or poll with it that a stop interrupted"},
	{names: "rt_sigreturn sigreturn", when: "rt_sigaction sigaction", why: "returns from a signal handler; no handler may have run yet"},
	{names: "futex", when: "clone3 clone set_robust_list", why: "is called only when threads meet at a lock"},
	{names: "rt_sigsuspend", when: "wait4 waitpid", why: "a shell waits with it for a child that has not ended yet"},
	{names: "munmap mremap madvise brk", when: "mmap mmap2 brk", why: "the allocator decides by sizes"},
	{names: "futex nanosleep sched_yield epoll_create1 epoll_ctl epoll_pwait eventfd2 pipe2 tgkill getpid gettid rt_sigreturn rt_sigaction rt_sigprocmask sigaltstack mmap munmap madvise clone " +
		"fcntl read write close openat pread64", when: "go", why: "Go's scheduler, collector and poller make it when timing asks for it"},
	{names: "clock_gettime gettimeofday time getcpu clock_getres", portable: true, why: "is answered without a call while the machine's clock allows it"},
	{names: "newfstatat fstatat64", when: "statx stat lstat fstat", portable: true, why: "other C libraries use it for stat"},
	{names: "fstat statx", when: "newfstatat stat lstat fstat", portable: true, why: "other C libraries use it for stat"},
	{names: "faccessat faccessat2", when: "access faccessat faccessat2", portable: true, why: "other C libraries use it for access"},
	{names: "clone", when: "clone3 fork vfork", portable: true, why: "other C libraries make threads and processes with it"},
	{names: "pselect6 ppoll", when: "select poll pselect6", portable: true, why: "other C libraries use it for select and poll"},
	{names: "epoll_wait epoll_pwait", when: "epoll_wait epoll_pwait", portable: true, why: "other C libraries use the other one"},
	{names: "gettid getpid tgkill rt_sigprocmask", portable: true, why: "abort() makes it"},
	{names: "clock_nanosleep nanosleep", when: "clock_nanosleep nanosleep", portable: true, why: "other C libraries use the other one"},
	{names: "wait4 waitid", when: "wait4 waitid", portable: true, why: "other C libraries use the other one"},
	{names: "getrandom rseq set_robust_list set_tid_address prlimit64", portable: true, why: "C libraries make it at the start of a program"},
}

// close adds the rows that hold for what was recorded, ABI by ABI.
func (p *Policy) close(prof *Profile, level Closure) {
	if level == ClosureNone {
		return
	}
	ranGo := false
	for _, r := range prof.Runs {
		ranGo = ranGo || slices.ContainsFunc(r.Programs, func(q Program) bool { return q.Language == "go" })
	}
	for _, abi := range p.ABIs {
		var recorded []string
		for _, r := range p.Rules {
			if r.ABI == abi && r.Origin != "" {
				recorded = append(recorded, r.Name)
			}
		}
		if len(recorded) == 0 {
			continue
		}
		for _, a := range additions {
			if a.portable && level != ClosurePortable || !a.applies(recorded, ranGo && abi == p.Native) {
				continue
			}
			for _, name := range strings.Fields(a.names) {
				if n, ok := abi.Number(name); ok && p.find(abi, n) == nil {
					p.allow(abi, name, n, a.why, "")
				}
			}
		}
	}
}

func (a addition) applies(recorded []string, ranGo bool) bool {
	switch a.when {
	case "":
		return true
	case "go":
		return ranGo
	}
	return slices.ContainsFunc(strings.Fields(a.when), func(n string) bool { return slices.Contains(recorded, n) })
}
