package seccomp

import (
	"fmt"
	"slices"
	"strings"
)

// Severity orders findings.
type Severity string

// The severities, worst first.
const (
	SeverityError   Severity = "error"   // the profile cannot mean what it says
	SeverityWarning Severity = "warning" // a workload may fail, or more is possible than it looks
	SeverityNote    Severity = "note"
)

// Finding is something a person should know about a profile or about a format that it was written in.
type Finding struct {
	Severity Severity
	Entry    string // the call or the run, "" for the whole
	Text     string
	Hint     string
}

// String is one line without the hint.
func (f Finding) String() string {
	if f.Entry != "" {
		return fmt.Sprintf("%s: %s: %s", f.Severity, f.Entry, f.Text)
	}
	return fmt.Sprintf("%s: %s", f.Severity, f.Text)
}

// risky are the calls that a person should have a reason for, with what they open.
var risky = []struct{ names, why string }{
	{"ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp process_madvise", "reaches into other processes"},
	{"bpf perf_event_open", "runs programs in the kernel or reads its counters"},
	{"mount umount2 pivot_root chroot open_tree move_mount fsopen fsmount fsconfig fspick mount_setattr open_tree_attr", "changes the file system tree"},
	{"setns unshare", "enters or makes namespaces; user namespaces open much of the kernel to attack"},
	{"init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff", "changes the running kernel"},
	{"iopl ioperm modify_ldt vm86 vm86old", "reaches hardware or changes segments"},
	{"keyctl add_key request_key", "uses the kernel's key rings, which namespaces do not separate"},
	{"userfaultfd", "stops the kernel in the middle of a copy, which exploits build on"},
	{"open_by_handle_at name_to_handle_at", "opens files by number, past any mount"},
	{"settimeofday clock_settime clock_adjtime adjtimex stime", "sets the machine's clock"},
	{"acct quotactl quotactl_fd syslog lookup_dcookie nfsservctl sysfs ustat _sysctl uselib", "is for administration, or is obsolete"},
	{"setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid capset", "changes whose rights the process has"},
	{"personality", "can turn off address space randomisation"},
}

// ringCalls submit operations without making their system calls.
const ringCalls = "io_uring_setup io_uring_enter io_uring_register"

func riskOf(name string) string {
	for _, r := range risky {
		if slices.Contains(strings.Fields(r.names), name) {
			return r.why
		}
	}
	return ""
}

// Lint says what in a profile deserves a look before it is enforced.
func (p *Profile) Lint() []Finding {
	var out []Finding
	add := func(s Severity, entry, hint, format string, args ...any) {
		out = append(out, Finding{s, entry, fmt.Sprintf(format, args...), hint})
	}
	if len(p.Calls) == 0 {
		add(SeverityError, "", "record again; the workload must run while recording", "there is no call in it: nothing could run")
		return out
	}
	if p.recorded("execve") == nil && p.recorded("execveat") == nil {
		add(SeverityWarning, "execve", "record the start too: `sonde seccomp record -- COMMAND`", "was not seen, so the recording began after the start; what the start needs is missing")
	}
	for i, r := range p.Runs {
		for _, k := range lostKeys(r.Lost) {
			hint := "record again with larger limits"
			if k == lostMissed {
				hint = "mount tracefs at /sys/kernel/tracing and record again"
			}
			add(SeverityWarning, fmt.Sprintf("run %d", i+1), hint, "%d lost: %s", r.Lost[k], k)
		}
	}
	u := p.Unseen()
	switch {
	case u.Samples == 1:
		add(SeverityNote, "", "record several times and merge: threads and timing make runs differ", "there is one run only, so nothing tells how complete it is")
	case u.Once > 0:
		add(SeverityNote, "", "record more runs until the number stays near zero", "%d of %d calls were made in one of %d runs only; at least %.1f more are probably missing", u.Once, len(p.Calls), u.Samples, u.Missing)
	}
	for _, c := range p.Calls {
		label := callLabel(p.ABI, c.ABI, c.Name)
		if c.Origin == OriginRuntime {
			continue
		}
		if why := riskOf(c.Name); why != "" {
			add(SeverityNote, label, "", "%s (made by %s)", why, orDash(c.Program))
		}
		if slices.Contains(strings.Fields(ringCalls), c.Name) {
			add(SeverityWarning, label, "deny it if the program can do without, most can", "operations that are submitted through the ring make no system call: this list does not bound them")
		}
		if c.ABI.Name(c.Number) == "" {
			add(SeverityWarning, label, "use the bpf or go format, which go by number", "has no name that consumers know, so formats made of names leave it out")
		}
		if c.Args != nil && c.Args.Wide {
			add(SeverityNote, label, "", "was made with more than %d combinations of arguments and is not restricted", maxTuples)
		}
		if c.ABI != p.ABI {
			add(SeverityNote, label, "list this ABI where you emit (it is by default), or the thread is killed", "is a call of another ABI (%s)", c.ABI)
		}
	}
	if len(p.Denials) > 0 {
		add(SeverityWarning, p.Denials[0].Name, "look at them with `sonde seccomp show`; `sonde seccomp check --accept` adds calls", "%d calls were denied while recording, so what would come after them is missing", len(p.Denials))
	}
	if clone := p.recorded("clone"); clone != nil && clone.Args != nil && !clone.Args.Wide && p.recorded("clone3") != nil {
		add(SeverityWarning, "clone3", "emit with --clone3=enosys: C libraries then use clone", "takes its flags from memory, so the restriction of clone does not bind it")
	}
	return out
}

func (p *Profile) recorded(name string) *Call {
	for _, c := range p.Calls {
		if c.Name == name && c.ABI == p.ABI && c.Origin != OriginRuntime {
			return c
		}
	}
	return nil
}
