package seccomp

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/sonde-sh/sonde/runtime/kernel"
)

// ABI is one of the ways to call the kernel; each has numbers of its own. Its text is libseccomp's name for it.
type ABI string

// The ABIs that are known.
const (
	X8664   ABI = "x86_64"
	X86     ABI = "x86" // int 0x80 and sysenter, also from 64-bit programs
	X32     ABI = "x32"
	AArch64 ABI = "aarch64"
	ARM     ABI = "arm"
)

// abiFacts is what differs between ABIs.
type abiFacts struct {
	abi    ABI
	native ABI    // the ABI of the kernel that runs it
	table  string // of runtime/kernel
	audit  uint32 // AUDIT_ARCH_ value in seccomp_data
	oci    string
	unit   string // systemd's name
	docker string // in Docker's archMap and includes
	bits   int
}

const x32Bit = 0x40000000

// audit values: the ELF machine, 0x80000000 for 64 bits, 0x40000000 for little endian.
var abiTable = [...]abiFacts{
	{X8664, X8664, "amd64", 0xc000003e, "SCMP_ARCH_X86_64", "x86-64", "amd64", 64},
	{X86, X8664, "386", 0x40000003, "SCMP_ARCH_X86", "x86", "x86", 32},
	{X32, X8664, "amd64", 0xc000003e, "SCMP_ARCH_X32", "x32", "x32", 32},
	{AArch64, AArch64, "arm64", 0xc00000b7, "SCMP_ARCH_AARCH64", "arm64", "arm64", 64},
	{ARM, AArch64, "arm", 0x40000028, "SCMP_ARCH_ARM", "arm", "arm", 32},
}

func (a ABI) facts() *abiFacts {
	for i := range abiTable {
		if abiTable[i].abi == a {
			return &abiTable[i]
		}
	}
	return nil
}

// ParseABI reads an ABI in libseccomp's, Go's, Docker's or systemd's spelling.
func ParseABI(s string) (ABI, error) {
	l := strings.ToLower(s)
	for _, f := range abiTable {
		switch l {
		case string(f.abi), strings.ToLower(f.oci), f.unit, f.docker:
			return f.abi, nil
		}
	}
	switch l {
	case "i386", "386", "i686":
		return X86, nil
	}
	return "", fmt.Errorf("unknown ABI `%s`; known are x86_64, x86, x32, aarch64, arm", s)
}

// Native is the first ABI of the machine this program was built for.
func Native() ABI {
	if runtime.GOARCH == "arm64" {
		return AArch64
	}
	return X8664
}

// Family lists the ABIs that one kernel may run, the native one first.
func (a ABI) Family() []ABI {
	f := a.facts()
	if f == nil {
		return nil
	}
	out := []ABI{f.native}
	for _, g := range abiTable {
		if g.native == f.native && g.abi != f.native {
			out = append(out, g.abi)
		}
	}
	return out
}

// x32Only are the numbers that x32 has for itself: calls whose arguments hold pointers or longs in memory.
var x32Only = [...]string{
	"rt_sigaction", "rt_sigreturn", "ioctl", "readv", "writev", "recvfrom", "sendmsg", "recvmsg", "execve", "ptrace",
	"rt_sigpending", "rt_sigtimedwait", "rt_sigqueueinfo", "sigaltstack", "timer_create", "mq_notify", "kexec_load", "waitid",
	"set_robust_list", "get_robust_list", "vmsplice", "move_pages", "preadv", "pwritev", "rt_tgsigqueueinfo", "recvmmsg",
	"sendmmsg", "process_vm_readv", "process_vm_writev", "setsockopt", "getsockopt", "io_setup", "io_submit", "execveat",
	"preadv2", "pwritev2",
}

const x32First = 512

// Number is the number of a call, without the bit that marks x32. Names are those of the manual.
func (a ABI) Number(name string) (int, bool) {
	f := a.facts()
	if f == nil {
		return 0, false
	}
	if a == X32 {
		for i, n := range x32Only {
			if n == name {
				return x32First + i, true
			}
		}
	}
	// Not kernel.SyscallNumber alone: it also takes the kernel's own spellings, which no consumer of a profile knows.
	n, ok := kernel.SyscallNumber(f.table, name)
	if !ok || kernel.SyscallName(f.table, n) != name {
		return 0, false
	}
	return n, true
}

// Name is the name of a number (without the x32 bit), "" when it has none.
func (a ABI) Name(number int) string {
	f := a.facts()
	if f == nil || number < 0 {
		return ""
	}
	if a == X32 {
		if number >= x32First {
			if number-x32First < len(x32Only) {
				return x32Only[number-x32First]
			}
			return ""
		}
		// Those with a number of their own are refused under the old one.
		name := kernel.SyscallName(f.table, number)
		for _, n := range x32Only {
			if n == name {
				return ""
			}
		}
		return name
	}
	return kernel.SyscallName(f.table, number)
}

// Names lists the calls of the ABI by number.
func (a ABI) Names() []string {
	f := a.facts()
	if f == nil {
		return nil
	}
	return kernel.SyscallNames(f.table)
}

// exists tells whether any ABI of the family has a call of that name.
func exists(family []ABI, name string) bool {
	for _, a := range family {
		if _, ok := a.Number(name); ok {
			return true
		}
	}
	return false
}

// callLabel names a call for people: its name, and its ABI where that is not the native one.
func callLabel(native, a ABI, name string) string {
	if a == native {
		return name
	}
	return name + " (" + string(a) + ")"
}

// Unnamed is how a number without a name is written.
func Unnamed(number int) string { return fmt.Sprintf("syscall_%d", number) }
