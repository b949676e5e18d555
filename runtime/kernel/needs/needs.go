// Package needs tells tests what the machine that they run on lets them do. Only tests import it.
package needs

import (
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/runtime/kernel"
)

// BPF skips a test where BPF programs cannot be loaded and attached to the whole machine: without root's rights, and in containers whose root lacks
// them.
func BPF(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to load BPF programs")
	}
	err := TryBPF()
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.ENOSYS):
		t.Skip("needs the right to use BPF: ", err)
	case err != nil:
		t.Fatal(err)
	}
}

// Kernel opens the running kernel for a test that needs BPF, and closes it at the end of the test.
func Kernel(t testing.TB) *kernel.Kernel {
	t.Helper()
	BPF(t)
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

// TryBPF asks the kernel for a map, a program and an event of all processes, and gives its first refusal.
func TryBPF() error {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return err
	}
	defer m.Close()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return err
	}
	defer p.Close()
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_DUMMY, Size: unix.PERF_ATTR_SIZE_VER1}
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if errors.Is(err, unix.ENODEV) { // the first CPU is off
		return nil
	}
	if err != nil {
		return err
	}
	return unix.Close(fd)
}
