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

// Runtime is the container runtime that the profile was recorded with, nil when it was none, or several that differ.
func (p *Profile) Runtime() *RuntimeInfo {
	var out *RuntimeInfo
	for _, r := range p.Runs {
		switch {
		case r.Runtime == nil:
		case out == nil:
			out = r.Runtime
		case out.Name != r.Runtime.Name || out.NoNewPrivileges != r.Runtime.NoNewPrivileges:
			return nil
		}
	}
	return out
}

// RuntimeBase is [RuntimeBase], or for a runtime that is not known what the profile recorded of it.
func (p *Profile) RuntimeBase(name string, noNewPrivileges bool) (*Base, error) {
	b, err := RuntimeBase(name, noNewPrivileges)
	if err == nil {
		return b, nil
	}
	for _, r := range p.Runs {
		if r.Runtime != nil && r.Runtime.Name == name {
			return &Base{Runtime: name, Version: r.Runtime.Version, NoNewPrivileges: noNewPrivileges}, nil
		}
	}
	return nil, err
}

// madeBy reports whether a runtime made a call, in one of the runs that have it.
func (p *Profile) madeBy(c *Call, runtime string) bool {
	for _, n := range c.Runs {
		for _, r := range p.Runs {
			if r.ID == n.Run && r.Runtime != nil && r.Runtime.Name == runtime {
				return true
			}
		}
	}
	return false
}

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
