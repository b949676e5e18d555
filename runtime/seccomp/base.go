package seccomp

import (
	"fmt"
	"strings"
)

// Base is what a container runtime calls itself between installing the filter and starting the workload. A profile without it
// makes containers that start by luck only.
type Base struct {
	Runtime         string
	Version         string // that it was recorded with
	NoNewPrivileges bool
	Names           []string
}

// Recorded over 300 starts (runc) and 200 (crun). Those of runc include what its Go runtime calls when timing asks for it.
const (
	runcBase  = "close execve fstatfs getdents64 openat write futex epoll_ctl epoll_pwait getpid rt_sigreturn nanosleep sched_yield tgkill sigaltstack rt_sigprocmask fcntl mmap munmap madvise"
	runcPrivs = "capget capset chdir faccessat2 fstat getcwd getppid newfstatat prctl read setgid setgroups setuid"
	crunBase  = "execve"
	crunPrivs = "capset prctl rt_sigaction rt_sigprocmask setresgid setresuid write"
)

// RuntimeBase is the base of a runtime. Without no_new_privs runtimes install the filter earlier, before they set users and
// capabilities, so more calls come after it.
func RuntimeBase(name string, noNewPrivileges bool) (*Base, error) {
	b := &Base{Runtime: name, NoNewPrivileges: noNewPrivileges}
	text, more := "", ""
	switch name {
	case "runc":
		b.Version, text, more = "1.1.5", runcBase, runcPrivs
	case "crun":
		b.Version, text, more = "1.8.1", crunBase, crunPrivs
	default:
		return nil, fmt.Errorf("unknown container runtime `%s`; known are runc, crun", name)
	}
	if !noNewPrivileges {
		text += " " + more
	}
	b.Names = strings.Fields(text)
	return b, nil
}
