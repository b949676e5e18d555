package kernel

import (
	"errors"
	"runtime"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The bpf(2) calls that feature probes make. They are made directly: a probe must send exactly the bytes in question, and the
// library would fill in names, BTF and log buffers of its own and probe for them first.

const (
	cmdMapCreate  = 0
	cmdProgLoad   = 5
	cmdRawTPOpen  = 17
	cmdBTFLoad    = 18
	cmdLinkCreate = 28
	cmdStats      = 32
)

func sysBPF(cmd int, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		fd, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(attr), size)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EAGAIN, unix.EINTR: // the verifier was interrupted by a signal (Go preempts threads with them)
			continue
		default:
			return -1, errno
		}
	}
}

// insn is one eBPF instruction as the kernel reads it, on the little-endian machines that we support.
type insn struct {
	op   uint8
	regs uint8 // destination in the low, source in the high four bits
	off  int16
	imm  int32
}

// The instructions that probes are made of.
func movImm(dst uint8, imm int32) insn   { return insn{op: 0xb7, regs: dst, imm: imm} }
func movReg(dst, src uint8) insn         { return insn{op: 0xbf, regs: dst | src<<4} }
func addImm(dst uint8, imm int32) insn   { return insn{op: 0x07, regs: dst, imm: imm} }
func storeImm(off int16, imm int32) insn { return insn{op: 0x7a, regs: regFP, off: off, imm: imm} } // *(u64 *)(fp+off)
func callHelper(id int32) insn           { return insn{op: 0x85, imm: id} }
func callKfunc(id ID) insn               { return insn{op: 0x85, regs: 2 << 4, imm: int32(id)} }
func exitInsn() insn                     { return insn{op: 0x95} }

const regFP = 10

// progAttr is the part of union bpf_attr for BPF_PROG_LOAD that we use. A kernel takes a shorter one than its own.
type progAttr struct {
	progType     uint32
	insnCnt      uint32
	insns        unsafe.Pointer
	license      unsafe.Pointer
	logLevel     uint32
	logSize      uint32
	logBuf       unsafe.Pointer
	kernVersion  uint32
	flags        uint32
	name         [16]byte
	ifindex      uint32
	attachType   uint32
	btfFD        uint32
	funcInfoSize uint32
	funcInfo     unsafe.Pointer
	funcInfoCnt  uint32
	lineInfoSize uint32
	lineInfo     unsafe.Pointer
	lineInfoCnt  uint32
	attachBTFID  uint32
	attachBTFFD  uint32
	_            uint32
}

// program is what a probe loads.
type program struct {
	typ       ebpf.ProgramType
	attach    ebpf.AttachType
	attachID  ID
	insns     []insn
	sleepable bool
	btfFD     int // with funcInfo
	funcInfo  []uint32
}

const (
	flagSleepable = 1 << 4
	probeLogSize  = 16 << 10
)

// load gives a descriptor to close, or the kernel's errno. When withLog is set, the verifier's words come with it.
func (p program) load(withLog bool) (fd int, log string, err error) {
	lic := append([]byte("GPL"), 0)
	insns := p.insns
	a := progAttr{
		progType: uint32(p.typ), insnCnt: uint32(len(insns)), insns: unsafe.Pointer(unsafe.SliceData(insns)),
		license: unsafe.Pointer(unsafe.SliceData(lic)), attachType: uint32(p.attach), attachBTFID: uint32(p.attachID),
	}
	copy(a.name[:], "sonde_probe")
	if p.sleepable {
		a.flags |= flagSleepable
	}
	if len(p.funcInfo) > 0 {
		a.btfFD = uint32(p.btfFD)
		a.funcInfo, a.funcInfoSize, a.funcInfoCnt = unsafe.Pointer(unsafe.SliceData(p.funcInfo)), 8, uint32(len(p.funcInfo)/2)
	}
	var buf []byte
	if withLog {
		buf = make([]byte, probeLogSize)
		a.logLevel, a.logSize, a.logBuf = 1, uint32(len(buf)), unsafe.Pointer(unsafe.SliceData(buf))
	}
	fd, err = sysBPF(cmdProgLoad, unsafe.Pointer(&a), unsafe.Sizeof(a))
	runtime.KeepAlive(lic)
	runtime.KeepAlive(insns)
	runtime.KeepAlive(p.funcInfo)
	if withLog {
		log = unix.ByteSliceToString(buf)
	}
	return fd, log, err
}

// loads tells whether the kernel takes the program.
func (p program) loads() error {
	fd, _, err := p.load(false)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

type mapAttr struct {
	mapType, keySize, valueSize, maxEntries uint32
	flags, innerFD, numaNode                uint32
	name                                    [16]byte
	ifindex, btfFD, btfKey, btfValue        uint32
	btfVmlinuxValue                         uint32
	extra                                   uint64
}

func (a mapAttr) creates() error {
	copy(a.name[:], "sonde_probe")
	fd, err := sysBPF(cmdMapCreate, unsafe.Pointer(&a), unsafe.Sizeof(a))
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// linkHead starts the arguments of BPF_LINK_CREATE; what follows depends on the kind of link.
type linkHead struct{ progFD, targetFD, attachType, flags uint32 }

type kprobeMultiAttr struct {
	linkHead
	multiFlags, cnt      uint32
	syms, addrs, cookies unsafe.Pointer
}

type uprobeMultiAttr struct {
	linkHead
	path, offsets, refCtrs, cookies unsafe.Pointer
	cnt, multiFlags, pid, _         uint32
}

func createLink(attr unsafe.Pointer, size uintptr) error {
	fd, err := sysBPF(cmdLinkCreate, attr, size)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// rawTPOpen attaches a tracing program to what it was loaded for.
func rawTPOpen(prog int) (int, error) {
	a := struct {
		name unsafe.Pointer
		fd   uint32
		_    uint32
	}{fd: uint32(prog)}
	return sysBPF(cmdRawTPOpen, unsafe.Pointer(&a), unsafe.Sizeof(a))
}

// loadBTF gives the kernel type information for a program and returns its descriptor.
func loadBTF(blob []byte) (int, error) {
	a := struct {
		btf, log         unsafe.Pointer
		size, logSize    uint32
		logLevel, unused uint32
	}{btf: unsafe.Pointer(unsafe.SliceData(blob)), size: uint32(len(blob))}
	fd, err := sysBPF(cmdBTFLoad, unsafe.Pointer(&a), unsafe.Sizeof(a))
	runtime.KeepAlive(blob)
	return fd, err
}

func isErr(err error, errnos ...unix.Errno) bool {
	for _, e := range errnos {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func containsAny(s string, subs ...string) bool {
	for _, sub := range subs {
		if strings.Contains(s, sub) {
			return true
		}
	}
	return false
}

func ptr[T any](p *T) unsafe.Pointer { return unsafe.Pointer(p) }
