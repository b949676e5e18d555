package runtime

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/object"
)

// Targets finds what tracing programs attach to. runtime/kernel's type index implements it without reading all of BTF.
type Targets interface {
	// AttachID gives the BTF id of a program's target and the descriptor of the module's BTF (0 for the kernel itself).
	AttachID(typ ebpf.ProgramType, attach ebpf.AttachType, module, name string) (id uint32, btfFD int, err error)
}

// LoadError says that the kernel refused a program. Log holds the verifier's text, which may be empty.
type LoadError struct {
	Program *object.Program
	Err     error
	Log     string
}

func (e *LoadError) Error() string { return fmt.Sprintf("load %s: %v", e.Program.Name, e.Err) }

func (e *LoadError) Unwrap() error { return e.Err }

// TooLong tells whether the verifier gave up on the program for its length.
func (e *LoadError) TooLong() bool { return tooLong(e.Err) }

func tooLong(err error) bool {
	return errors.Is(err, unix.E2BIG) || errors.Is(err, unix.EFAULT) // EFAULT: too many jumps, on older kernels
}

// MapError says that a map could not be made.
type MapError struct {
	Map *object.Map
	Err error
}

func (e *MapError) Error() string { return fmt.Sprintf("create map %s: %v", e.Map.Name, e.Err) }

func (e *MapError) Unwrap() error { return e.Err }

// kernelName makes a name that the kernel accepts for maps and programs: 15 characters of letters, digits, dot and underscore.
func kernelName(name string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '.':
			return r
		case r == '@':
			return -1
		}
		return '_'
	}, name)
	if clean == "" {
		clean = "anon"
	}
	if len(clean) > 15 {
		clean = clean[:15]
	}
	return clean
}

func createMap(m *object.Map) (*ebpf.Map, error) {
	spec := &ebpf.MapSpec{
		Name: kernelName(m.Name), Type: m.Type, KeySize: uint32(m.KeySize), ValueSize: uint32(m.ValueSize),
		MaxEntries: uint32(m.MaxEntries), Flags: m.Flags,
	}
	em, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, &MapError{m, err}
	}
	if m.Contents != nil {
		// What was too long for the value would be cut without a word, so it is an error here.
		if len(m.Contents) > m.ValueSize {
			em.Close()
			return nil, &MapError{m, fmt.Errorf("%d bytes of contents for a value of %d", len(m.Contents), m.ValueSize)}
		}
		value := make([]byte, m.ValueSize)
		copy(value, m.Contents)
		if err := em.Put(uint32(0), value); err != nil {
			em.Close()
			return nil, &MapError{m, err}
		}
	}
	return em, nil
}

// linkMaps resolves the map references of a program's instructions.
func linkMaps(p *object.Program, maps map[string]*ebpf.Map) (asm.Instructions, error) {
	insns := append(asm.Instructions(nil), p.Insns...)
	for i := range insns {
		ins := &insns[i]
		if !ins.IsLoadFromMap() || ins.Reference() == "" {
			continue
		}
		m := maps[ins.Reference()]
		if m == nil {
			return nil, fmt.Errorf("program %s refers to map %q, which the object does not have", p.Name, ins.Reference())
		}
		if err := ins.AssociateMap(m); err != nil {
			return nil, fmt.Errorf("program %s, map %s: %w", p.Name, ins.Reference(), err)
		}
	}
	return insns, nil
}

// loadProgram loads one program. The verifier's log is asked for only when the first attempt fails, because writing it is slow.
func loadProgram(p *object.Program, license string, maps map[string]*ebpf.Map, targets Targets, logSize int) (*ebpf.Program, error) {
	insns, err := linkMaps(p, maps)
	if err != nil {
		return nil, err
	}
	return loadInstructions(p, insns, license, targets, logSize)
}

// loadInstructions loads the instructions of a program, whose maps are linked.
func loadInstructions(p *object.Program, insns asm.Instructions, license string, targets Targets, logSize int) (_ *ebpf.Program, err error) {
	l := loader{program: p, license: license, logSize: max(logSize, 1<<16)}
	if p.AttachTo != "" {
		if targets == nil {
			return nil, &LoadError{Program: p, Err: errors.New("no type information of the kernel")}
		}
		if l.btfID, l.btfFD, err = targets.AttachID(p.Type, p.AttachType, p.Module, p.AttachTo); err != nil {
			return nil, &LoadError{Program: p, Err: err}
		}
	}
	fd, log, err := l.load(insns)
	if err != nil {
		return nil, &LoadError{Program: p, Err: err, Log: log}
	}
	prog, err := ebpf.NewProgramFromFD(fd)
	if err != nil {
		return nil, &LoadError{Program: p, Err: err}
	}
	return prog, nil
}

// loader is one BPF_PROG_LOAD. We make the call ourselves because the library reads all of the kernel's type information for every
// program with a target (20 to 36 ms each, four times our whole start).
type loader struct {
	program *object.Program
	license string
	logSize int
	btfID   uint32
	btfFD   int
}

// progLoadAttr is the part of union bpf_attr for BPF_PROG_LOAD up to attach_prog_fd (include/uapi/linux/bpf.h).
type progLoadAttr struct {
	progType, insnCount         uint32
	insns, license              uint64
	logLevel, logSize           uint32
	logBuf                      uint64
	kernelVersion, flags        uint32
	name                        [16]byte
	ifindex, expectedAttachType uint32
	btfFD, funcInfoSize         uint32
	funcInfo                    uint64
	funcInfoCount, lineInfoSize uint32
	lineInfo                    uint64
	lineInfoCount, attachBTFID  uint32
	attachBTFObjFD, coreReloCnt uint32
}

func (l *loader) load(insns asm.Instructions) (fd int, log string, err error) {
	p := l.program
	attr := progLoadAttr{progType: uint32(p.Type), expectedAttachType: uint32(p.AttachType), flags: p.Flags, attachBTFID: l.btfID, attachBTFObjFD: uint32(l.btfFD)}
	if p.Type == ebpf.Kprobe && p.AttachType == ebpf.AttachNone {
		attr.kernelVersion = kernelVersionCode() // checked before Linux 5.0 only, but harmless later
	}
	copy(attr.name[:15], kernelName(p.Name))
	var builder btf.Builder
	funcs, lines, err := btf.MarshalExtInfos(insns, &builder)
	if err != nil {
		return 0, "", fmt.Errorf("function information: %w", err)
	}
	if len(funcs)+len(lines) > 0 {
		if len(funcs) == 0 { // the kernel wants a type, even where only lines are told
			if _, err := builder.Add(&btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}); err != nil {
				return 0, "", fmt.Errorf("function information: %w", err)
			}
		}
		handle, err := btf.NewHandle(&builder)
		if err != nil {
			return 0, "", fmt.Errorf("load function information: %w", err)
		}
		defer handle.Close()
		attr.btfFD = uint32(handle.FD())
		if len(funcs) > 0 {
			attr.funcInfoSize, attr.funcInfoCount, attr.funcInfo = btf.FuncInfoSize, uint32(len(funcs))/btf.FuncInfoSize, pointer(funcs)
		}
		if len(lines) > 0 {
			attr.lineInfoSize, attr.lineInfoCount, attr.lineInfo = btf.LineInfoSize, uint32(len(lines))/btf.LineInfoSize, pointer(lines)
		}
	}
	var code bytes.Buffer
	// Both supported architectures are little endian; the library refuses binary.NativeEndian.
	if err := insns.Marshal(&code, binary.LittleEndian); err != nil {
		return 0, "", fmt.Errorf("encode: %w", err)
	}
	license := append([]byte(l.license), 0)
	attr.insns, attr.insnCount, attr.license = pointer(code.Bytes()), uint32(code.Len()/asm.InstructionSize), pointer(license)
	fd, err = progLoad(&attr)
	if err != nil && !errors.Is(err, unix.EPERM) {
		attr.logLevel = 1
		if tooLong(err) {
			// The steps of a program that has too many are no help, and writing a million of them takes minutes.
			attr.logLevel = 4 // messages and statistics
		}
		log = l.explain(attr)
	}
	runtime.KeepAlive([]any{funcs, lines, license, code})
	return fd, log, err
}

// explain loads again with a log. The kernel cuts a log that is too long at the front only from 6.4 on, so the buffer grows.
func (l *loader) explain(attr progLoadAttr) string {
	for size := l.logSize; size <= 1<<26; size *= 8 {
		buf := make([]byte, size)
		attr.logSize, attr.logBuf = uint32(size), pointer(buf)
		fd, err := progLoad(&attr)
		if err == nil { // a transient refusal: out of memory, an interrupted call
			unix.Close(fd)
			return ""
		}
		text := unix.ByteSliceToString(buf)
		if !errors.Is(err, unix.ENOSPC) {
			return text
		}
	}
	return ""
}

func pointer(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// progLoad retries what the kernel asks to retry: the verifier gives up with EAGAIN when a signal arrives, which the Go scheduler sends often.
func progLoad(attr *progLoadAttr) (int, error) {
	const bpfProgLoad = 5
	for range 30 {
		fd, _, errno := unix.Syscall(unix.SYS_BPF, bpfProgLoad, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
		switch {
		case errno == 0:
			return int(fd), nil
		case errno != unix.EAGAIN && errno != unix.EINTR:
			return -1, errno
		}
	}
	return -1, unix.EAGAIN
}

func kernelVersionCode() uint32 {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return 0
	}
	var a, b, c uint32
	_, _ = fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d.%d", &a, &b, &c)
	return a<<16 | b<<8 | min(c, 255)
}
