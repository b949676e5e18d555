package attach

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/object"
)

// Class says what kind of obstacle an [Error] met; callers decide on it, the text is for people.
type Class uint8

// Classes.
const (
	Other       Class = iota
	Rights            // the process may not do this (not root, no CAP_BPF or CAP_PERFMON)
	Locked            // the kernel forbids it to everybody (lockdown, LSM, configuration)
	Missing           // the target does not exist
	Untraceable       // the target exists but cannot be probed
	Unsupported       // this kernel does not have the mechanism
	Limit             // too many descriptors, memory, breakpoints
)

// Error says why an attach point could not be attached, and what to do.
type Error struct {
	Attach *object.Attach
	Class  Class
	Text   string // what could not be attached and why, lower case, no full stop
	Reason string // why, without what
	Hint   string // what to do, starts with a verb; "" when there is nothing
	Err    error  // the system's error
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Err }

// refused reports whether another mechanism may succeed where this one did not.
func (e *Error) refused() bool {
	switch {
	case errors.Is(e.Err, unix.EPERM), errors.Is(e.Err, unix.EACCES), errors.Is(e.Err, unix.EOPNOTSUPP), errors.Is(e.Err, unix.EINVAL),
		errors.Is(e.Err, unix.ENOTSUP), errors.Is(e.Err, enotsupp), e.Class == Unsupported:
		return true
	}
	return false
}

// enotsupp is an errno of the kernel that user space has no name for.
const enotsupp = unix.Errno(524)

// mechanismNames are the words of messages.
var mechanismNames = [...]string{
	object.MechNone: "nothing", object.PerfTracepoint: "tracepoint", object.RawTracepoint: "raw tracepoint", object.TPBTF: "BTF tracepoint",
	object.Kprobe: "kprobe", object.Kretprobe: "kretprobe", object.KprobeMulti: "kprobe.multi", object.KretprobeMulti: "kretprobe.multi",
	object.Fentry: "fentry", object.Uprobe: "uprobe", object.Uretprobe: "uretprobe", object.UprobeMulti: "uprobe.multi",
	object.UretprobeMulti: "uretprobe.multi", object.PerfEvent: "perf event", object.Iter: "iterator", object.Breakpoint: "watchpoint",
	object.LSM: "LSM hook",
}

// MechanismName is how a mechanism is called in messages and in the attach plan that people read.
func MechanismName(m object.Mechanism) string {
	if int(m) < len(mechanismNames) {
		return mechanismNames[m]
	}
	return fmt.Sprintf("mechanism %d", m)
}

func targetName(a *object.Attach) string {
	switch {
	case a.Path != "" && a.Target != "":
		return a.Path + ":" + a.Target
	case a.Path != "" && len(a.Offsets) == 1:
		return fmt.Sprintf("%s at offset %#x", a.Path, a.Offsets[0])
	case a.Path != "":
		return fmt.Sprintf("%d places in %s", len(a.Offsets), a.Path)
	case len(a.Targets) == 1:
		return a.Targets[0]
	case len(a.Targets) > 1:
		return fmt.Sprintf("%d functions", len(a.Targets))
	case a.Module != "" && a.Target != "" && a.Module != "vmlinux":
		return a.Module + ":" + a.Target
	case a.Target != "" && a.Offset != 0:
		return fmt.Sprintf("%s+%d", a.Target, a.Offset)
	case a.Target != "":
		return a.Target
	case a.Address != 0:
		return fmt.Sprintf("%#x", a.Address)
	}
	return ""
}

func newError(a *object.Attach, err error) *Error {
	e := &Error{Attach: a, Err: err}
	what := strings.TrimSpace(MechanismName(a.Mechanism) + " " + targetName(a))
	set := func(c Class, reason, hint string) *Error {
		e.Class, e.Text, e.Reason, e.Hint = c, "cannot attach "+what+": "+reason, reason, hint
		return e
	}
	switch {
	case errors.Is(err, ErrNoKprobes):
		hint := "use a tracepoint, or a kernel with CONFIG_KPROBES"
		if a.Target != "" {
			kind := "fentry"
			if a.Mechanism == object.Kretprobe || a.Mechanism == object.KretprobeMulti {
				kind = "fexit"
			}
			hint = fmt.Sprintf("use `%s:%s` or a tracepoint, or a kernel with CONFIG_KPROBES", kind, a.Target)
		}
		return set(Unsupported, "this kernel has no kprobes", hint)
	case errors.Is(err, ErrNoUprobes):
		return set(Unsupported, "this kernel has no uprobes", "use a kernel with CONFIG_UPROBES")
	case errors.Is(err, ErrNoTracepoint):
		return set(Missing, "the kernel has no such tracepoint", "list tracepoints with -l 'tracepoint:*'")
	case errors.Is(err, unix.EMFILE):
		return set(Limit, "too many open files for this process", "raise the limit (ulimit -n), or probe fewer places")
	case errors.Is(err, unix.ENFILE):
		return set(Limit, "too many open files in the system", "")
	case errors.Is(err, unix.ENOMEM):
		return set(Limit, "the kernel has no memory for it", "")
	}
	if a.Mechanism == object.Iter && a.PinPath != "" && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOENT)) {
		return set(Missing, a.PinPath+" is not in a BPF file system", "mount it: mount -t bpf bpf /sys/fs/bpf")
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		if os.Geteuid() != 0 {
			return set(Rights, "not allowed", "run as root, or with CAP_BPF and CAP_PERFMON")
		}
		return set(Locked, "the kernel does not allow it", "check kernel lockdown (/sys/kernel/security/lockdown), the container's "+
			"capabilities and kernel.perf_event_paranoid")
	}
	if c, reason, hint := explain(a, err); reason != "" {
		return set(c, reason, hint)
	}
	return set(Other, err.Error(), "")
}

// explain gives the meaning that an errno has for a mechanism. The kernel reuses a handful of numbers for dozens of reasons.
func explain(a *object.Attach, err error) (Class, string, string) {
	is := func(e error) bool { return errors.Is(err, e) }
	switch a.Mechanism {
	case object.Kprobe, object.Kretprobe:
		switch {
		case is(unix.ENOENT):
			return Missing, "the kernel has no such function", "check the name with -l 'kprobe:*NAME*'; the compiler may have inlined it"
		case is(unix.EADDRNOTAVAIL):
			return Untraceable, "the kernel has several functions of that name", "name its module, or probe another function"
		case is(unix.EILSEQ):
			return Untraceable, "the offset is not the start of an instruction", "use an offset that the disassembly of the function shows"
		case is(unix.EINVAL):
			if a.Offset != 0 {
				return Untraceable, "the function cannot be probed at this offset", "use the start of the function"
			}
			return Untraceable, "the function cannot be probed (marked notrace, or part of kprobes itself)", "probe its caller or a function that it calls"
		case is(unix.EBUSY):
			return Untraceable, "the place is in use by another kind of patch", ""
		}
	case object.KprobeMulti, object.KretprobeMulti:
		switch {
		case is(unix.ESRCH), is(unix.ENOENT):
			return Missing, "at least one of the functions is not traceable", "list those that are with -l"
		case is(unix.EINVAL), is(unix.EOPNOTSUPP), is(enotsupp):
			return Unsupported, "this kernel does not attach to many functions at once", ""
		}
	case object.Uprobe, object.Uretprobe, object.UprobeMulti, object.UretprobeMulti:
		switch {
		case is(unix.ENOENT):
			return Missing, "the file does not exist", ""
		case is(unix.ESRCH):
			return Missing, fmt.Sprintf("there is no process %d", a.PID), ""
		case is(unix.EOPNOTSUPP), is(enotsupp), is(unix.EILSEQ):
			return Untraceable, "the first instruction at the place cannot be probed", "probe a place a few instructions later (function+OFFSET)"
		case is(unix.EIO):
			return Untraceable, "the file system does not allow probes in the file", ""
		case is(unix.EINVAL):
			return Untraceable, "the offset is outside of the file's code, or not the start of an instruction", ""
		}
	case object.PerfEvent:
		switch {
		case is(unix.ENOENT), is(unix.EOPNOTSUPP), is(unix.ENODEV):
			return Unsupported, "this machine does not have the event", "use software:cpu-clock: virtual machines often have no hardware counters"
		case is(unix.ESRCH):
			return Missing, fmt.Sprintf("there is no process %d", a.PID), ""
		case is(unix.EBUSY):
			return Limit, "the counters are in use", ""
		}
	case object.Breakpoint:
		switch {
		case is(unix.ENOSPC):
			return Limit, "all hardware breakpoints are in use (x86-64 has four)", "watch fewer addresses"
		case is(unix.EINVAL):
			return Untraceable, "the address is not aligned to the length, or the mode is not possible here", "align the address to 1, 2, 4 or 8 bytes"
		case is(unix.ESRCH):
			return Missing, fmt.Sprintf("there is no process %d", a.PID), ""
		}
	case object.RawTracepoint, object.TPBTF:
		switch {
		case is(unix.ENOENT):
			return Missing, "the kernel has no such tracepoint", "list them with -l 'rawtracepoint:*'"
		case is(unix.EINVAL):
			return Untraceable, "the tracepoint does not have the arguments that the program reads", ""
		}
	case object.Fentry, object.LSM:
		switch {
		case is(unix.EBUSY):
			return Untraceable, "the function is in use by another kind of patch", ""
		case is(unix.EINVAL):
			return Untraceable, "the function cannot be traced this way", "use a kprobe"
		case is(unix.E2BIG):
			return Limit, "too many programs are attached to the function", ""
		case is(enotsupp), is(unix.EOPNOTSUPP):
			return Unsupported, "this kernel has no trampolines for this architecture", "use a kprobe"
		}
	case object.Iter:
		if is(unix.EEXIST) {
			return Other, fmt.Sprintf("%s exists already", a.PinPath), "remove the file or choose another name"
		}
	}
	return Other, "", ""
}
