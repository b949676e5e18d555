package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/object"
)

// pmu is a source of perf events that has a number of its own on each machine: kprobe and uprobe.
type pmu struct {
	number   uint32
	retprobe uint // bit of config that makes it a return probe
}

var (
	// ErrNoKprobes says that the kernel was built without kprobes.
	ErrNoKprobes = errors.New("this kernel has no kprobes")
	// ErrNoUprobes says that the kernel was built without uprobes.
	ErrNoUprobes = errors.New("this kernel has no uprobes")
	// ErrNoTracepoint says that the kernel has no tracepoint of that name.
	ErrNoTracepoint = errors.New("no such tracepoint")
)

func (t *Attacher) pmu(name string, missing error) (pmu, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.pmus[name]; ok {
		return p, nil
	}
	dir := filepath.Join(t.cfg.SysFS, "bus/event_source/devices", name)
	text, err := os.ReadFile(filepath.Join(dir, "type"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return pmu{}, missing
		}
		return pmu{}, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return pmu{}, fmt.Errorf("%s/type: %w", dir, err)
	}
	p := pmu{number: uint32(n)}
	if text, err := os.ReadFile(filepath.Join(dir, "format/retprobe")); err == nil {
		bit := strings.TrimPrefix(strings.TrimSpace(string(text)), "config:")
		if n, err := strconv.ParseUint(bit, 10, 6); err == nil {
			p.retprobe = uint(n)
		}
	}
	t.pmus[name] = p
	return p, nil
}

// open opens a perf event and attaches the program to it.
func (t *Attacher) open(l *Link, attr *unix.PerfEventAttr, pid, cpu, prog int, cookie uint64) error {
	attr.Size = uint32(unsafe.Sizeof(*attr))
	fd, err := unix.PerfEventOpen(attr, pid, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return err
	}
	link, err := t.bind(fd, prog, cookie)
	if err != nil {
		return errors.Join(err, closeFDs([]int{fd}))
	}
	l.links = append(l.links, link)
	if link != fd {
		l.events = append(l.events, fd)
	}
	return ioctl(fd, unix.PERF_EVENT_IOC_ENABLE, 0)
}

// bind attaches a program to an open event and returns what has to be closed to stop it: a BPF link, which detaches at once, or the event itself.
func (t *Attacher) bind(event, prog int, cookie uint64) (int, error) {
	t.mu.Lock()
	noLink := t.noLink
	t.mu.Unlock()
	if !noLink || cookie != 0 {
		fd, err := perfLink(prog, event, cookie)
		if err == nil || cookie != 0 || !errors.Is(err, unix.EINVAL) {
			return fd, err
		}
	}
	// Before 5.15 the kernel knows no such link; EINVAL has other causes too, so this way decides.
	if err := ioctl(event, unix.PERF_EVENT_IOC_SET_BPF, prog); err != nil {
		return 0, err
	}
	t.mu.Lock()
	t.noLink = true
	t.mu.Unlock()
	return event, nil
}

func ioctl(fd int, req uint, arg int) error {
	for {
		err := unix.IoctlSetInt(fd, req, arg)
		if err != unix.EINTR {
			return err
		}
	}
}

// perfTracepoint opens the event on one CPU only: the program belongs to the tracepoint, not to the event, and runs on all of them.
func (t *Attacher) perfTracepoint(l *Link, a *object.Attach, prog int) error {
	category, name, ok := strings.Cut(a.Target, ":")
	if !ok {
		return fmt.Errorf("%q is not a tracepoint (category:name)", a.Target)
	}
	text, err := os.ReadFile(filepath.Join(t.traceFS(), "events", category, name, "id"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return ErrNoTracepoint
		}
		return err
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return fmt.Errorf("id of tracepoint %s: %w", a.Target, err)
	}
	cpu, err := t.firstCPU()
	if err != nil {
		return err
	}
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Sample: 1, Sample_type: unix.PERF_SAMPLE_RAW, Wakeup: 1}
	return t.open(l, &attr, -1, cpu, prog, a.Cookie)
}

func (t *Attacher) firstCPU() (int, error) {
	cpus, err := t.onlineCPUs()
	if err != nil {
		return 0, err
	}
	return cpus[0], nil
}

func (t *Attacher) kprobe(l *Link, a *object.Attach, prog int) error {
	p, err := t.pmu("kprobe", ErrNoKprobes)
	if err != nil {
		return err
	}
	attr := unix.PerfEventAttr{Type: p.number, Sample: 1, Wakeup: 1}
	if a.Mechanism == object.Kretprobe {
		attr.Config |= 1 << p.retprobe
	}
	var name *byte
	if a.Target == "" {
		attr.Ext2 = a.Address
	} else {
		symbol := a.Target
		if a.Module != "" && a.Module != "vmlinux" {
			symbol = a.Module + ":" + symbol
		}
		if name, err = unix.BytePtrFromString(symbol); err != nil {
			return err
		}
		attr.Ext1, attr.Ext2 = uint64(uintptr(unsafe.Pointer(name))), a.Offset
	}
	cpu, err := t.firstCPU()
	if err != nil {
		return err
	}
	err = t.open(l, &attr, -1, cpu, prog, a.Cookie)
	runtime.KeepAlive(name)
	return err
}

func (t *Attacher) uprobe(l *Link, a *object.Attach, prog int) error {
	p, err := t.pmu("uprobe", ErrNoUprobes)
	if err != nil {
		return err
	}
	path, err := unix.BytePtrFromString(a.Path)
	if err != nil {
		return err
	}
	pid, cpu := a.PID, -1
	if pid == 0 {
		pid = -1
		if cpu, err = t.firstCPU(); err != nil {
			return err
		}
	}
	for i, off := range a.Offsets {
		attr := unix.PerfEventAttr{Type: p.number, Sample: 1, Wakeup: 1}
		if a.Mechanism == object.Uretprobe {
			attr.Config |= 1 << p.retprobe
		}
		if i < len(a.RefCounters) {
			attr.Config |= a.RefCounters[i] << 32
		}
		attr.Ext1, attr.Ext2 = uint64(uintptr(unsafe.Pointer(path))), off
		cookie := a.Cookie
		if i < len(a.Cookies) {
			cookie = a.Cookies[i]
		}
		if err := t.open(l, &attr, pid, cpu, prog, cookie); err != nil {
			return err
		}
	}
	runtime.KeepAlive(path)
	return nil
}

func (t *Attacher) perfEvent(l *Link, a *object.Attach, prog int) error {
	attr := unix.PerfEventAttr{Type: uint32(a.PerfType), Config: a.PerfConfig, Sample: a.Period}
	if a.Freq != 0 {
		attr.Sample = a.Freq
		attr.Bits |= unix.PerfBitFreq
	}
	return t.perCPU(l, &attr, a, prog)
}

// perCPU opens the event on every CPU (or the first), for every process (or one and its children).
func (t *Attacher) perCPU(l *Link, attr *unix.PerfEventAttr, a *object.Attach, prog int) error {
	cpus, err := t.onlineCPUs()
	if err != nil {
		return err
	}
	pid := -1
	if a.PID != 0 {
		pid = a.PID
		attr.Bits |= unix.PerfBitInherit
	}
	if !a.AllCPUs {
		cpus = cpus[:1]
	}
	for _, cpu := range cpus {
		if err := t.open(l, attr, pid, cpu, prog, a.Cookie); err != nil {
			return err
		}
	}
	return nil
}

// Values of bp_type, see hw_breakpoint.h.
const (
	breakpointR = 1
	breakpointW = 2
	breakpointX = 4
)

func (t *Attacher) breakpoint(l *Link, a *object.Attach, prog int) error {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_BREAKPOINT, Sample: 1, Wakeup: 1, Ext1: a.Address, Ext2: a.Length}
	for _, m := range a.Mode {
		switch m {
		case 'r':
			attr.Bp_type |= breakpointR
		case 'w':
			attr.Bp_type |= breakpointW
		case 'x':
			attr.Bp_type |= breakpointX
		default:
			return fmt.Errorf("watchpoint mode %q is not made of r, w and x", a.Mode)
		}
	}
	if a.PID != 0 {
		attr.Bits |= unix.PerfBitInherit
		return t.open(l, &attr, a.PID, -1, prog, a.Cookie)
	}
	all := *a
	all.AllCPUs = true
	return t.perCPU(l, &attr, &all, prog)
}
