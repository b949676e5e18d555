package kernel

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

//go:generate sh -c "go run ./gensyscalls > syscalls_table.tmp && mv syscalls_table.tmp syscalls_table.go"

func syscallTable(arch string) []string {
	switch arch {
	case "amd64":
		return amd64Syscalls[:]
	case "arm64":
		return arm64Syscalls[:]
	case "386":
		return i386Syscalls[:]
	case "arm":
		return armSyscalls[:]
	}
	return nil
}

// SyscallName is the name of a system call by its number on an architecture (amd64, arm64, or the 32-bit 386 and arm that they also run),
// "" for an unknown one. Names are those of the manual, for example newfstatat and pread64.
func SyscallName(arch string, number int) string {
	t := syscallTable(arch)
	if number < 0 || number >= len(t) {
		return ""
	}
	return t[number]
}

// SyscallNumber is the number of a system call by its name. The kernel's own names of trace events and functions (newstat,
// newuname, sendfile64) are taken too.
func SyscallNumber(arch, name string) (int, bool) {
	if name == "" {
		return 0, false
	}
	t := syscallTable(arch)
	for n, s := range t {
		if s == name {
			return n, true
		}
	}
	for _, a := range syscallAliases {
		if a.event == name && a.applies(arch) {
			for n, s := range t {
				if s == a.name {
					return n, true
				}
			}
		}
	}
	return 0, false
}

// SyscallNames lists an architecture's system calls by number, without holes.
func SyscallNames(arch string) []string {
	var out []string
	for _, s := range syscallTable(arch) {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// syscallAlias is a system call whose function in the kernel has another name, which its trace events then have too.
type syscallAlias struct{ name, event, arch string }

func (a syscallAlias) applies(arch string) bool { return a.arch == "" || a.arch == arch }

var syscallAliases = []syscallAlias{
	{"stat", "newstat", "amd64"},
	{"lstat", "newlstat", "amd64"},
	{"fstat", "newfstat", ""},
	{"uname", "newuname", ""},
	{"sendfile", "sendfile64", ""},
	{"umount2", "umount", ""},
	{"fadvise64", "fadvise64_64", "arm64"},
	{"personality", "arm64_personality", "arm64"},
}

// SyscallEvent is the name that the kernel's trace events (sys_enter_NAME) and functions (__x64_sys_NAME, __arm64_sys_NAME) use for
// a system call: mostly its own.
func SyscallEvent(arch, name string) string {
	for _, a := range syscallAliases {
		if a.name == name && a.applies(arch) {
			return a.event
		}
	}
	return name
}

// SyscallFunction is the name of the kernel function that does a system call on an architecture.
func SyscallFunction(arch, name string) string {
	switch arch {
	case "amd64":
		return "__x64_sys_" + SyscallEvent(arch, name)
	case "arm64":
		return "__arm64_sys_" + SyscallEvent(arch, name)
	}
	return "sys_" + SyscallEvent(arch, name)
}

// ErrnoName is the name of an error number (also when it is given negative, as the kernel returns it): ENOENT for 2 or -2. It is ""
// for a number without a name.
func ErrnoName(n int) string {
	if n < 0 {
		n = -n
	}
	if n == 0 || n > 4095 {
		return ""
	}
	return unix.ErrnoName(syscall.Errno(n))
}

// sigRTMin is the kernel's first real-time signal. The C library takes the first two for itself and counts from 34.
const sigRTMin, sigRTMax = 34, 64

// SignalName is the name of a signal, for example SIGKILL and SIGRTMIN+2; "" for a number that is none.
func SignalName(n int) string {
	if s := unix.SignalName(syscall.Signal(n)); s != "" {
		return s
	}
	switch {
	case n == sigRTMin:
		return "SIGRTMIN"
	case n == sigRTMax:
		return "SIGRTMAX"
	case n > sigRTMin && n < sigRTMax:
		return fmt.Sprintf("SIGRTMIN+%d", n-sigRTMin)
	}
	return ""
}

// SignalNumber is the number of a signal by its name in any case, with or without SIG, or by its number.
func SignalNumber(name string) (int, bool) {
	s := strings.ToUpper(strings.TrimSpace(name))
	if n, err := strconv.Atoi(s); err == nil {
		return n, n > 0 && n <= sigRTMax
	}
	s = strings.TrimPrefix(s, "SIG")
	if rest, ok := strings.CutPrefix(s, "RTMIN"); ok {
		return realtime(rest, sigRTMin)
	}
	if rest, ok := strings.CutPrefix(s, "RTMAX"); ok {
		return realtime(rest, sigRTMax)
	}
	if s == "CLD" {
		s = "CHLD"
	}
	if s == "IOT" {
		s = "ABRT"
	}
	if s == "POLL" {
		s = "IO"
	}
	n := unix.SignalNum("SIG" + s)
	return int(n), n != 0
}

func realtime(rest string, base int) (int, bool) {
	if rest == "" {
		return base, true
	}
	d, err := strconv.Atoi(rest) // "+2", "-1"
	n := base + d
	return n, err == nil && (rest[0] == '+' || rest[0] == '-') && n >= sigRTMin && n <= sigRTMax
}
