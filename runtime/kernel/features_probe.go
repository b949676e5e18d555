package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// HasHelper tells whether programs of a type may call a helper. Tracing and LSM programs are tried on a raw tracepoint with types.
func (f *Features) HasHelper(id asm.BuiltinFunc, typ ebpf.ProgramType) bool {
	if f.fixed != nil || !f.k.Running() {
		return false
	}
	key := fmt.Sprintf("helper:%d:%d", id, typ)
	f.mu.Lock()
	err, ok := f.done[key]
	f.mu.Unlock()
	if ok {
		return err == nil
	}
	f.once.Do(func() { _ = RaiseMemlock() })
	p := program{typ: typ, sleepable: typ == ebpf.Syscall}
	if typ == ebpf.Tracing {
		if p, err = f.scope(inTPBTF); err != nil {
			return false
		}
	}
	err = tryHelper(p, id)
	if err == nil || errors.Is(err, ErrNotSupported) {
		f.mu.Lock()
		f.done[key] = err
		f.mu.Unlock()
	}
	return err == nil
}

// probeHelper tries a helper in the kind of program that its row says.
func (f *Features) probeHelper(id asm.BuiltinFunc, in helperScope) error {
	p, err := f.scope(in)
	if err != nil {
		return err
	}
	return tryHelper(p, id)
}

// scope is the program in which helpers of that scope are tried, without instructions.
func (f *Features) scope(in helperScope) (program, error) {
	switch in {
	case inKprobe:
		return program{typ: ebpf.Kprobe}, nil
	case inSyscall:
		return program{typ: ebpf.Syscall, sleepable: true}, nil
	default:
	}
	b, err := f.btf()
	if err != nil {
		return program{}, err
	}
	p := program{typ: ebpf.Tracing}
	var names []string
	kind := KindFunc
	switch in {
	case inTPBTF:
		p.attach, kind, names = ebpf.AttachTraceRawTp, KindTypedef, []string{"btf_trace_sched_switch", "btf_trace_sys_enter"}
	case inFentry:
		p.attach, names = ebpf.AttachTraceFEntry, []string{"bpf_fentry_test1", "vfs_read"}
	case inIter:
		p.attach, names = ebpf.AttachTraceIter, []string{"bpf_iter_task"}
	case inSleep:
		// Security hooks may sleep since 5.10, at first only this one; uprobes since 6.0.
		p.typ, p.attach, p.sleepable, names = ebpf.LSM, ebpf.AttachLSMMac, true, []string{"bpf_lsm_bprm_committed_creds"}
	default:
	}
	for _, n := range names {
		if id, ok := b.TypeByName(n, kind); ok {
			p.attachID = id
			return p, nil
		}
	}
	if in == inSleep {
		return program{typ: ebpf.Syscall, sleepable: true}, nil
	}
	return program{}, fmt.Errorf("%w: type information has no %s", ErrNotSupported, names[0])
}

// tryHelper calls a helper with arguments that are not set. A kernel that has it complains about them (EACCES), or not at all
// when it takes none; one that lacks it says EINVAL, and why in its log.
func tryHelper(p program, id asm.BuiltinFunc) error {
	p.insns = []insn{callHelper(int32(uint32(id) & 0xffff)), movImm(0, 0), exitInsn()}
	err := p.loads()
	switch {
	case err == nil, isErr(err, unix.EACCES):
		return nil
	case isErr(err, unix.EINVAL):
		_, log, err2 := p.load(true)
		if isErr(err2, unix.EINVAL) && containsAny(log, "not allowed in probe") {
			return nil // known, but not for this one attach point
		}
		return fmt.Errorf("%w: %s", ErrNotSupported, lastLine(log))
	case isErr(err, unix.EPERM) && p.typ == ebpf.LSM:
		// This machine refuses security hooks. System call programs may sleep too.
		return tryHelper(program{typ: ebpf.Syscall, sleepable: true}, id)
	}
	return missingIf(err, unix.E2BIG)
}

// lastLine is the verifier's complaint: the last line of its log that is not about its own statistics.
func lastLine(log string) string {
	last := ""
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "processed ") && !strings.HasPrefix(line, "verification time") {
			last = line
		}
	}
	if last == "" {
		return "the verifier gives no reason"
	}
	return last
}

// HasKfunc tells whether the kernel has a function of this name that BPF programs may call, by its type information. Which kinds
// of program may call it is for the verifier to say; see KfuncIn.
func (f *Features) HasKfunc(name string) bool { return f.Has("kfunc:" + name) }

// probeKfunc looks for the function and, where the kernel marks them (6.10 and a recent pahole), for its mark as callable.
func (f *Features) probeKfunc(name string) error {
	b, err := f.btf()
	if err != nil {
		return err
	}
	if _, ok := b.TypeByName(name, KindFunc); ok {
		marked, any := b.kfuncMark(name)
		if any && !marked {
			return fmt.Errorf("%w: %s is not marked as callable by programs", ErrNotSupported, name)
		}
		return nil
	}
	if _, err := f.k.FindFunc("", name); err == nil {
		return nil
	}
	return ErrNotSupported
}

// kfuncMark reads the decl tags "bpf_kfunc": whether this function has one, and whether any has.
func (b *BTF) kfuncMark(name string) (marked, any bool) {
	for id := range b.Each("bpf_kfunc", KindDeclTag) {
		any = true
		tag, err := b.Type(id)
		if err != nil {
			continue
		}
		if fn, err := b.Type(tag.Ref); err == nil && fn.Kind == KindFunc && fn.Name == name {
			return true, true
		}
	}
	return false, any
}

// KfuncIn tells whether programs of a type (on a raw tracepoint for Tracing) may call a kernel function: nil, or why not.
func (f *Features) KfuncIn(name string, typ ebpf.ProgramType) error {
	b, err := f.btf()
	if err != nil {
		return err
	}
	id, ok := b.TypeByName(name, KindFunc)
	if !ok {
		return f.missing("kfunc:"+name, "")
	}
	p := program{typ: typ, sleepable: typ == ebpf.Syscall}
	if typ == ebpf.Tracing {
		if p, err = f.scope(inTPBTF); err != nil {
			return err
		}
	}
	f.once.Do(func() { _ = RaiseMemlock() })
	p.insns = []insn{callKfunc(id), movImm(0, 0), exitInsn()}
	fd, log, err := p.load(true)
	switch {
	case err == nil:
		unix.Close(fd)
		return nil
	case isErr(err, unix.EPERM):
		return &RefusedError{Name: "kfunc:" + name, Err: errnoOf(err)}
	case containsAny(log, "is not allowed", "is not marked", "not supported", "cannot call kernel function", "invalid func", "unrecognized"):
		return f.missing("kfunc:"+name, lastLine(log))
	case isErr(err, unix.EACCES), containsAny(log, "arg#", "R1", "R2", "must be"):
		return nil // only the arguments, which the probe did not set
	}
	return f.missing("kfunc:"+name, lastLine(log))
}

// ErrorInjectable tells whether override() may change what a kernel function returns: it must be in the kernel's list for it.
func (k *Kernel) ErrorInjectable(function string) (bool, error) {
	l, err := k.errorInjection()
	if err != nil {
		return false, err
	}
	_, ok := l[function]
	return ok, nil
}

// errorInjection reads "function\tkind" lines. It is not kept: it is asked at most once per override.
func (k *Kernel) errorInjection() (map[string]string, error) {
	dir, err := k.view("debugfs", "error_injection/list", "/sys/kernel/debug")
	if err != nil {
		if !errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w (%w)", err, fs.ErrNotExist)
		}
		return nil, fmt.Errorf("error injection list: %w", err)
	}
	b, err := readLarge(filepath.Join(dir, "error_injection/list"))
	if err != nil {
		return nil, fmt.Errorf("error injection list: %w", err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if fn, kind, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			out[fn] = kind
		}
	}
	return out, nil
}

// btfWriter writes the few bytes of type information that a probe loads.
type btfWriter struct{ types, strs []byte }

func (w *btfWriter) typ(name uint32, k Kind, vlen int, size uint32, rest ...uint32) {
	for _, v := range append([]uint32{name, uint32(k)<<24 | uint32(vlen), size}, rest...) {
		w.types = binary.LittleEndian.AppendUint32(w.types, v)
	}
}

func (w *btfWriter) blob() []byte {
	h := []byte{0x9f, 0xeb, 1, 0}
	for _, v := range []int{btfHeaderSize, 0, len(w.types), len(w.types), len(w.strs)} {
		h = binary.LittleEndian.AppendUint32(h, uint32(v))
	}
	return append(append(h, w.types...), w.strs...)
}

// probeFuncInfo loads a program whose one function has a name.
func probeFuncInfo() error {
	w := btfWriter{strs: []byte("\x00int\x00f\x00")}
	w.typ(1, KindInt, 0, 4, 1<<24|32)
	w.typ(0, KindFuncProto, 0, 1)
	w.typ(5, KindFunc, 0, 2)
	fd, err := loadBTF(w.blob())
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return program{typ: ebpf.Kprobe, insns: ret0(), btfFD: fd, funcInfo: []uint32{0, 3}}.loads()
}

// EnableStats makes the kernel count runs and times of programs until the returned function is called (or the process ends).
// It needs CAP_SYS_ADMIN and Linux 5.8; with an older kernel the sysctl kernel.bpf_stats_enabled is the way.
func (k *Kernel) EnableStats() (stop func(), err error) {
	kind := uint32(0) // BPF_STATS_RUN_TIME
	fd, err := sysBPF(cmdStats, ptr(&kind), 4)
	if err != nil {
		return nil, fmt.Errorf("enable program statistics: %w", err)
	}
	return sync.OnceFunc(func() { unix.Close(fd) }), nil
}
