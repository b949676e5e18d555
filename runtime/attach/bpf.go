package attach

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/object"
)

// Attach types and flags of bpf(2) that are used here.
const (
	attachPerfEvent   = 41 // BPF_PERF_EVENT
	attachTraceIter   = 28
	attachKprobeMulti = 42
	attachUprobeMulti = 48

	multiReturn = 1 // BPF_F_KPROBE_MULTI_RETURN, BPF_F_UPROBE_MULTI_RETURN
)

func bpf(cmd int, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		fd, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(attr), size)
		runtime.KeepAlive(attr)
		switch errno {
		case 0:
			return int(fd), nil
		case unix.EINTR, unix.EAGAIN:
			continue
		}
		return -1, errno
	}
}

// linkAttr is the part of union bpf_attr for BPF_LINK_CREATE: 16 bytes that all links share, then what the kind needs.
type linkAttr struct {
	prog, target, attachType, flags uint32
	rest                            [7]uint64
}

func createLink(attr *linkAttr, words int) (int, error) {
	return bpf(unix.BPF_LINK_CREATE, unsafe.Pointer(attr), 16+8*uintptr(words))
}

func perfLink(prog, event int, cookie uint64) (int, error) {
	attr := linkAttr{prog: uint32(prog), target: uint32(event), attachType: attachPerfEvent}
	attr.rest[0] = cookie
	words := 0
	if cookie != 0 {
		words = 1
	}
	return createLink(&attr, words)
}

func rawTracepoint(name string, prog int) (int, error) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return -1, err
	}
	attr := struct {
		name uint64
		prog uint32
		_    uint32
	}{uint64(uintptr(unsafe.Pointer(p))), uint32(prog), 0}
	fd, err := bpf(unix.BPF_RAW_TRACEPOINT_OPEN, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	runtime.KeepAlive(p)
	return fd, err
}

// tracing attaches a program that carries its target: tp_btf, fentry, fexit, fmod_ret, LSM. A cookie needs 5.18.
func tracing(prog int, cookie uint64) (int, error) {
	if cookie == 0 {
		attr := struct {
			name uint64
			prog uint32
			_    uint32
		}{prog: uint32(prog)}
		return bpf(unix.BPF_RAW_TRACEPOINT_OPEN, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	}
	attr := struct {
		name   uint64
		prog   uint32
		_      uint32
		cookie uint64
	}{prog: uint32(prog), cookie: cookie}
	return bpf(unix.BPF_RAW_TRACEPOINT_OPEN, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

func kprobeMulti(a *object.Attach, prog int) (int, error) {
	n := len(a.Targets)
	if n == 0 {
		return -1, fmt.Errorf("no function to attach to")
	}
	if len(a.Cookies) != 0 && len(a.Cookies) != n {
		return -1, fmt.Errorf("%d cookies for %d functions", len(a.Cookies), n)
	}
	// One block of memory for all names: 60,000 separate strings would be 60,000 allocations.
	total := 0
	for _, name := range a.Targets {
		total += len(name) + 1
	}
	text := make([]byte, 0, total)
	ptrs := make([]*byte, n)
	for i, name := range a.Targets {
		at := len(text)
		text = append(append(text, name...), 0)
		ptrs[i] = &text[at]
	}
	attr := linkAttr{prog: uint32(prog), attachType: attachKprobeMulti}
	var flags uint32
	if a.Mechanism == object.KretprobeMulti {
		flags = multiReturn
	}
	attr.rest[0] = uint64(flags) | uint64(n)<<32
	attr.rest[1] = uint64(uintptr(unsafe.Pointer(&ptrs[0])))
	if len(a.Cookies) > 0 {
		attr.rest[3] = uint64(uintptr(unsafe.Pointer(&a.Cookies[0])))
	}
	fd, err := createLink(&attr, 4)
	runtime.KeepAlive(ptrs)
	runtime.KeepAlive(text)
	runtime.KeepAlive(a)
	return fd, err
}

func uprobeMulti(a *object.Attach, prog int) (int, error) {
	n := len(a.Offsets)
	if n == 0 {
		return -1, fmt.Errorf("no function to attach to")
	}
	if len(a.Cookies) != 0 && len(a.Cookies) != n || len(a.RefCounters) != 0 && len(a.RefCounters) != n {
		return -1, fmt.Errorf("%d cookies and %d counters for %d offsets", len(a.Cookies), len(a.RefCounters), n)
	}
	path, err := unix.BytePtrFromString(a.Path)
	if err != nil {
		return -1, err
	}
	attr := linkAttr{prog: uint32(prog), attachType: attachUprobeMulti}
	attr.rest[0] = uint64(uintptr(unsafe.Pointer(path)))
	attr.rest[1] = uint64(uintptr(unsafe.Pointer(&a.Offsets[0])))
	if len(a.RefCounters) > 0 {
		attr.rest[2] = uint64(uintptr(unsafe.Pointer(&a.RefCounters[0])))
	}
	if len(a.Cookies) > 0 {
		attr.rest[3] = uint64(uintptr(unsafe.Pointer(&a.Cookies[0])))
	}
	var flags uint32
	if a.Mechanism == object.UretprobeMulti {
		flags = multiReturn
	}
	attr.rest[4] = uint64(uint32(n)) | uint64(flags)<<32
	attr.rest[5] = uint64(uint32(a.PID))
	fd, err := createLink(&attr, 6)
	runtime.KeepAlive(path)
	runtime.KeepAlive(a)
	return fd, err
}

func iterator(l *Link, a *object.Attach, prog int) error {
	attr := linkAttr{prog: uint32(prog), attachType: attachTraceIter}
	words := 0
	var info [2]uint64 // union bpf_iter_link_info
	if a.Target == "cgroup" {
		const descendantsFirst = 2 // BPF_CGROUP_ITER_DESCENDANTS_PRE: all, parents first, from the root, which no group means
		info[0] = descendantsFirst
		attr.rest[0], attr.rest[1], words = uint64(uintptr(unsafe.Pointer(&info))), uint64(unsafe.Sizeof(info)), 2
	}
	fd, err := createLink(&attr, words)
	runtime.KeepAlive(&info)
	if err != nil {
		return err
	}
	l.links = append(l.links, fd)
	if a.PinPath == "" {
		return nil
	}
	p, err := unix.BytePtrFromString(a.PinPath)
	if err != nil {
		return err
	}
	pin := struct {
		path  uint64
		fd    uint32
		flags uint32
	}{uint64(uintptr(unsafe.Pointer(p))), uint32(fd), 0}
	_, err = bpf(unix.BPF_OBJ_PIN, unsafe.Pointer(&pin), unsafe.Sizeof(pin))
	runtime.KeepAlive(p)
	if err != nil {
		return fmt.Errorf("pin to %s: %w", a.PinPath, err)
	}
	return nil
}

func openIterator(link int) (*os.File, error) {
	attr := struct{ link, flags uint32 }{uint32(link), 0}
	fd, err := bpf(unix.BPF_ITER_CREATE, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return nil, fmt.Errorf("open iterator: %w", err)
	}
	return os.NewFile(uintptr(fd), "bpf_iter"), nil
}

// linkMissed reads how often the kernel could not run the program of a link; ok is false when it does not say (before 6.7).
func linkMissed(fd int) (n uint64, ok bool) {
	const (
		typePerfEvent   = 7
		typeKprobeMulti = 8
		kprobeEntry     = 3 // BPF_PERF_EVENT_KPROBE
		kretprobe       = 4
	)
	var info [128]byte
	attr := struct {
		fd, size uint32
		info     uint64
	}{uint32(fd), uint32(len(info)), uint64(uintptr(unsafe.Pointer(&info)))}
	if _, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return 0, false
	}
	word := func(off int) uint64 { return *(*uint64)(unsafe.Pointer(&info[off])) }
	half := func(off int) uint32 { return *(*uint32)(unsafe.Pointer(&info[off])) }
	switch half(0) {
	case typeKprobeMulti:
		return word(32), attr.size >= 40
	case typePerfEvent:
		if k := half(16); k == kprobeEntry || k == kretprobe {
			return word(48), attr.size >= 56
		}
	}
	return 0, false
}
