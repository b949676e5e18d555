package kernel

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Where `bpf` is not among the active security modules, programs on security hooks load and attach, and never run. The list says so where it
// can be read; a program of our own on a harmless hook proves it.

// probeLSMActive tells whether security hook programs run.
func probeLSMActive(f *Features) error {
	list, err := f.k.LSMs()
	if err == nil {
		if on, _ := f.k.BPFLSM(); !on {
			return fmt.Errorf("%w: the active modules are %s", ErrNotSupported, strings.Join(list, ","))
		}
	}
	fired, err := lsmCanary(f)
	if err == nil && !fired {
		return fmt.Errorf("%w: a program on the hook task_getsid did not run", ErrNotSupported)
	}
	return err
}

// canaryHook is asked when a process reads a session id, which nothing does often and nobody misses.
const canaryHook = "bpf_lsm_task_getsid"

// lsmCanary attaches a program to a hook, does what the hook is about, and looks whether the program ran.
func lsmCanary(f *Features) (fired bool, err error) {
	b, err := f.btf()
	if err != nil {
		return false, err
	}
	id, ok := b.TypeByName(canaryHook, KindFunc)
	if !ok {
		return false, fmt.Errorf("%w: type information has no %s", ErrNotSupported, canaryHook)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "sonde_canary", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return false, err
	}
	defer m.Close()
	const loadMapValue, pseudoMapValue, storeDW = 0x18, 2, 0x7a
	p := program{typ: ebpf.LSM, attach: ebpf.AttachLSMMac, attachID: id, insns: append([]insn{
		{op: loadMapValue, regs: 1 | pseudoMapValue<<4, imm: int32(m.FD())},
		{},
		{op: storeDW, regs: 1, imm: 1},
	}, ret0()...)}
	fd, _, err := p.load(false)
	if err != nil {
		return false, missingIf(err, unix.EINVAL, unix.E2BIG, errNotSupp, unix.EOPNOTSUPP)
	}
	defer unix.Close(fd)
	link, err := rawTPOpen(fd)
	if err != nil {
		return false, missingIf(err, errNotSupp, unix.EOPNOTSUPP, unix.EINVAL)
	}
	defer unix.Close(link)
	_, sidErr := unix.Getsid(os.Getpid())
	var v uint64
	if err := m.Lookup(uint32(0), &v); err != nil {
		return false, errors.Join(err, sidErr)
	}
	return v != 0, nil
}
