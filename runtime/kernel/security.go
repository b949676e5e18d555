package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Lockdown is how much of the kernel is closed even to root.
type Lockdown string

// The lockdown modes. Integrity still lets tracing read kernel memory; confidentiality does not: programs that use
// bpf_probe_read_kernel are then refused.
const (
	LockdownNone            Lockdown = "none"
	LockdownIntegrity       Lockdown = "integrity"
	LockdownConfidentiality Lockdown = "confidentiality"
	LockdownUnknown         Lockdown = "unknown"
)

// Lockdown reads the mode. A kernel without the lockdown module is LockdownNone.
func (k *Kernel) Lockdown() (Lockdown, error) {
	s, err := k.securityfs("lockdown")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return LockdownNone, nil
	case err != nil:
		return LockdownUnknown, fmt.Errorf("lockdown mode: %w", err)
	}
	// "none [integrity] confidentiality"
	if _, in, ok := strings.Cut(s, "["); ok {
		if mode, _, ok := strings.Cut(in, "]"); ok {
			return Lockdown(mode), nil
		}
	}
	return LockdownUnknown, fmt.Errorf("lockdown mode: cannot read %q", s)
}

// LSMs lists the active security modules in order. BPF LSM programs only ever run when "bpf" is among them.
func (k *Kernel) LSMs() ([]string, error) {
	s, err := k.securityfs("lsm")
	if err != nil {
		return nil, fmt.Errorf("list security modules: %w", err)
	}
	return strings.Split(s, ","), nil
}

// BPFLSM tells whether BPF LSM programs run on this kernel.
func (k *Kernel) BPFLSM() (bool, error) {
	l, err := k.LSMs()
	return slices.Contains(l, "bpf"), err
}

func (k *Kernel) securityfs(file string) (string, error) {
	dir, err := k.view("securityfs", "lsm", "/sys/kernel/security")
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join(dir, file))
	return strings.TrimSpace(string(b)), err
}

// Capability is one of the rights that tracing needs.
type Capability int

// The capabilities that matter here.
const (
	CapSysAdmin  Capability = unix.CAP_SYS_ADMIN
	CapSysPtrace Capability = unix.CAP_SYS_PTRACE
	CapSyslog    Capability = unix.CAP_SYSLOG
	CapPerfmon   Capability = unix.CAP_PERFMON
	CapBPF       Capability = unix.CAP_BPF
)

// String is the name that setcap(8) and container runtimes take.
func (c Capability) String() string {
	switch c {
	case CapSysAdmin:
		return "CAP_SYS_ADMIN"
	case CapSysPtrace:
		return "CAP_SYS_PTRACE"
	case CapSyslog:
		return "CAP_SYSLOG"
	case CapPerfmon:
		return "CAP_PERFMON"
	case CapBPF:
		return "CAP_BPF"
	}
	return fmt.Sprintf("capability %d", int(c))
}

// Capabilities is a set of rights.
type Capabilities uint64

// Has tells whether c is in the set. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON, as in the kernel.
func (s Capabilities) Has(c Capability) bool {
	if s>>uint(c)&1 != 0 {
		return true
	}
	return (c == CapBPF || c == CapPerfmon) && s>>uint(CapSysAdmin)&1 != 0
}

// Capabilities are the effective rights of this process.
func (k *Kernel) Capabilities() (Capabilities, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return 0, fmt.Errorf("read capabilities: %w", err)
	}
	return Capabilities(data[0].Effective) | Capabilities(data[1].Effective)<<32, nil
}

// RightsError says which rights tracing needs and this process lacks.
type RightsError struct {
	Missing []Capability
	Root    bool // the user is root: a container or service manager has taken the rights away
}

// Error names what is missing.
func (e *RightsError) Error() string {
	names := make([]string, len(e.Missing))
	for i, c := range e.Missing {
		names[i] = c.String()
	}
	return "missing " + strings.Join(names, ", ")
}

// Hint says what to do about it.
func (e *RightsError) Hint() string {
	if e.Root {
		return "this root user has been deprived of rights: run outside of the container, or start it with --privileged or --cap-add " + capAdd(e.Missing)
	}
	return "run it as root (sudo), or give the binary the rights: setcap cap_bpf,cap_perfmon,cap_sys_admin+ep"
}

func capAdd(cs []Capability) string {
	names := make([]string, len(cs))
	for i, c := range cs {
		names[i] = strings.TrimPrefix(c.String(), "CAP_")
	}
	return strings.Join(names, " --cap-add ")
}

// CheckRights tells whether this process may trace at all: nil, or a *RightsError. Kernels before 5.8 know only
// CAP_SYS_ADMIN, which later ones take for the two finer rights.
func (k *Kernel) CheckRights() error {
	have, err := k.Capabilities()
	if err != nil {
		return err
	}
	return checkRights(have, os.Geteuid() == 0)
}

func checkRights(have Capabilities, root bool) error {
	e := &RightsError{Root: root}
	for _, c := range []Capability{CapBPF, CapPerfmon} {
		if !have.Has(c) {
			e.Missing = append(e.Missing, c)
		}
	}
	if len(e.Missing) > 0 {
		return e
	}
	return nil
}
