package kernel

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Names of the features that code generation and attaching ask for. The helpers have their kernel names, see helperTable.
const (
	FeatureAtomicFetch   = "atomic_fetch"
	FeatureJmp32         = "jmp32"
	FeatureCPUv4         = "cpu_v4"
	FeatureBoundedLoops  = "bounded_loops"
	FeatureMayGoto       = "may_goto"
	FeatureIterNum       = "iter_num"
	FeatureGlobalData    = "global_data"
	FeatureLongKeys      = "map_long_keys"
	FeatureMmapableArray = "map_mmapable_array"
	FeatureBTF           = "btf"
	FeatureModuleBTF     = "btf_modules"
	FeatureFuncInfo      = "btf_func_info"
	FeatureEnum64        = "btf_enum64"

	FeatureMapPerCPUHash    = "map_percpu_hash"
	FeatureMapPerCPUArray   = "map_percpu_array"
	FeatureMapLRUHash       = "map_lru_hash"
	FeatureMapLRUPerCPUHash = "map_lru_percpu_hash"
	FeatureMapStackTrace    = "map_stack_trace"
	FeatureMapStackBuildID  = "map_stack_build_id"
	FeatureMapRingBuf       = "map_ringbuf"
	FeatureMapTaskStorage   = "map_task_storage"
	FeatureMapCgroupStorage = "map_cgroup_storage"
	FeatureMapArena         = "map_arena"
	FeatureMapBloomFilter   = "map_bloom_filter"

	FeatureProgKprobe     = "prog_kprobe"
	FeatureProgTracepoint = "prog_tracepoint"
	FeatureProgRawTP      = "prog_raw_tracepoint"
	FeatureProgPerfEvent  = "prog_perf_event"
	FeatureProgSyscall    = "prog_syscall"
	FeatureTPBTF          = "tp_btf"
	FeatureFentry         = "fentry"
	FeatureFexit          = "fexit"
	FeatureFentryStruct   = "fentry_struct"
	FeatureFentryArgs     = "fentry_args"
	FeatureFmodRet        = "fmod_ret"
	FeatureLSM            = "lsm"
	FeatureIter           = "iter"
	FeatureIterPath       = "iter_path"

	FeaturePerfLink        = "perf_link"
	FeatureKprobeMulti     = "kprobe_multi"
	FeatureKprobeSession   = "kprobe_session"
	FeatureUprobeMulti     = "uprobe_multi"
	FeatureUprobeSession   = "uprobe_session"
	FeatureSleepableUprobe = "sleepable_uprobe"
	FeatureKprobes         = "kprobes"
	FeatureKprobePMU       = "kprobe_pmu"
	FeatureUprobePMU       = "uprobe_pmu"
	FeatureUprobeRefCount  = "uprobe_refcount"
	FeatureKprobeEvents    = "kprobe_events"

	FeatureStats          = "bpf_stats"
	FeatureLSMActive      = "lsm_active"
	FeatureErrorInjection = "error_injection"
)

// featureRows makes the table. It is a function and not a variable because some probes ask for other features.
func featureRows() []feature {
	rows := slices.Concat(insnFeatures(), mapFeatures(), progFeatures(), attachFeatures(), systemFeatures())
	for _, h := range helperTable {
		rows = append(rows, feature{h.name, h.since, "the helper " + h.name, func(f *Features) error { return f.probeHelper(h.id, h.in) }})
	}
	return rows
}

// lookup finds a row by name. Kernel functions make their rows on the way.
func (f *Features) lookup(name string) (feature, bool) {
	if fn, ok := strings.CutPrefix(name, "kfunc:"); ok {
		return feature{name: name, about: "the kernel function " + fn, probe: func(f *Features) error { return f.probeKfunc(fn) }}, true
	}
	r, ok := f.rows()[name]
	return r, ok
}

func rowsByName() map[string]feature {
	m := map[string]feature{}
	for _, r := range featureRows() {
		m[r.name] = r
	}
	return m
}

// missingIf turns the errnos by which a kernel says that it does not know something into ErrNotSupported.
func missingIf(err error, errnos ...unix.Errno) error {
	if isErr(err, errnos...) {
		return fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return err
}

// accepted is for programs whose instructions are in question: any complaint of the verifier but a missing right means no.
func accepted(insns ...insn) func(*Features) error {
	return func(*Features) error {
		return missingIf(program{typ: ebpf.Kprobe, insns: insns}.loads(), unix.EINVAL, unix.EACCES, unix.E2BIG, errNotSupp, unix.EOPNOTSUPP)
	}
}

func insnFeatures() []feature {
	return []feature{
		{FeatureAtomicFetch, "5.12", "atomic operations that return the old value", accepted(
			storeImm(-8, 1), movImm(1, 1),
			insn{op: 0xdb, regs: regFP | 1<<4, off: -8, imm: 0x01}, // r1 = fetch_add(fp-8, r1)
			movImm(0, 0),
			insn{op: 0xdb, regs: regFP | 1<<4, off: -8, imm: 0xf1}, // r0 = cmpxchg(fp-8, r0, r1)
			movImm(0, 0), exitInsn())},
		{FeatureJmp32, "5.1", "jumps that compare 32 bits", accepted(
			movImm(0, 0), insn{op: 0x16, off: 1}, movImm(0, 1), exitInsn())},
		{FeatureCPUv4, "6.6", "the instruction set version 4 (signed division, sign extension, byte swap)", accepted(
			storeImm(-8, -1),
			insn{op: 0x91, regs: 1 | regFP<<4, off: -8}, // r1 = *(s8 *)(fp-8)
			insn{op: 0xbf, regs: 1 | 1<<4, off: 16},     // r1 = (s16) r1
			insn{op: 0x37, regs: 1, off: 1, imm: 3},     // r1 s/= 3
			insn{op: 0x97, regs: 1, off: 1, imm: 3},     // r1 s%= 3
			insn{op: 0xd7, regs: 1, imm: 32},            // r1 = bswap32 r1
			insn{op: 0x06, imm: 0},                      // gotol +0
			movImm(0, 0), exitInsn())},
		{FeatureBoundedLoops, "5.3", "loops whose end the verifier can prove", accepted(
			movImm(0, 10), addImm(0, -1), insn{op: 0x55, regs: 0, off: -2}, exitInsn())},
		{FeatureMayGoto, "6.9", "loops that the kernel bounds while they run (may_goto)", accepted(
			movImm(0, 0), insn{op: 0xe5, off: 1}, insn{op: 0x05, off: -2}, exitInsn())},
		{FeatureIterNum, "6.4", "open-coded number iterators", func(f *Features) error {
			b, err := f.btf()
			if err != nil {
				return err
			}
			var ids [3]ID
			for i, name := range []string{"bpf_iter_num_new", "bpf_iter_num_next", "bpf_iter_num_destroy"} {
				id, ok := b.TypeByName(name, KindFunc)
				if !ok {
					return ErrNotSupported
				}
				ids[i] = id
			}
			return accepted(
				movReg(1, regFP), addImm(1, -8), movImm(2, 0), movImm(3, 10), callKfunc(ids[0]),
				movReg(1, regFP), addImm(1, -8), callKfunc(ids[1]),
				insn{op: 0x55, regs: 0, off: -4}, // back to the next number while there is one
				movReg(1, regFP), addImm(1, -8), callKfunc(ids[2]),
				movImm(0, 0), exitInsn())(f)
		}},
		{FeatureGlobalData, "5.2", "global data (addresses inside of array maps)", func(*Features) error {
			fd, err := sysBPF(cmdMapCreate, unsafe.Pointer(&mapAttr{mapType: uint32(ebpf.Array), keySize: 4, valueSize: 16, maxEntries: 1}), unsafe.Sizeof(mapAttr{}))
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			// r1 = &map[0] + 8; *(u64 *)r1 = 1
			return accepted(insn{op: 0x18, regs: 1 | 2<<4, imm: int32(fd)}, insn{imm: 8},
				insn{op: 0x7a, regs: 1, imm: 1}, movImm(0, 0), exitInsn())(nil)
		}},
		{FeatureFuncInfo, "5.0", "function names in loaded programs", func(*Features) error {
			return missingIf(probeFuncInfo(), unix.EINVAL, unix.E2BIG)
		}},
		{FeatureEnum64, "6.0", "64-bit enums in a program's type information", func(*Features) error {
			w := btfWriter{strs: []byte("\x00e\x00V\x00")}
			w.typ(1, KindEnum64, 1, 8, 3, 1, 1)
			fd, err := loadBTF(w.blob())
			if err == nil {
				unix.Close(fd)
			}
			return missingIf(err, unix.EINVAL)
		}},
	}
}

// mapProbe tries to create a map.
func mapProbe(a mapAttr) func(*Features) error {
	return func(*Features) error { return missingIf(a.creates(), unix.EINVAL, unix.E2BIG) }
}

// storageProbe asks for a map in kernel objects with a value that is too large. A kernel that knows the map says E2BIG, one that does
// not EINVAL. Creating a real one would cost its destruction, a wait of 30 to 140 ms for all CPUs.
func storageProbe(typ ebpf.MapType) func(*Features) error {
	return func(*Features) error {
		err := mapAttr{mapType: uint32(typ), keySize: 4, valueSize: 1 << 24, flags: 1, btfKey: 1, btfValue: 1, btfFD: ^uint32(0)}.creates()
		if isErr(err, unix.E2BIG) {
			return nil
		}
		return missingIf(err, unix.EINVAL)
	}
}

func mapFeatures() []feature {
	return []feature{
		{FeatureLongKeys, "5.11", "hash maps with keys of more than 512 bytes", mapProbe(mapAttr{mapType: uint32(ebpf.Hash), keySize: 520, valueSize: 8, maxEntries: 1})},
		{FeatureMmapableArray, "5.5", "array maps that user space can map", mapProbe(mapAttr{mapType: uint32(ebpf.Array), keySize: 4, valueSize: 8, maxEntries: 1, flags: 1 << 10})},
		{FeatureMapPerCPUHash, "4.6", "per-CPU hash maps", mapProbe(mapAttr{mapType: uint32(ebpf.PerCPUHash), keySize: 4, valueSize: 8, maxEntries: 1, flags: 1})},
		{FeatureMapPerCPUArray, "4.6", "per-CPU array maps", mapProbe(mapAttr{mapType: uint32(ebpf.PerCPUArray), keySize: 4, valueSize: 8, maxEntries: 1})},
		{FeatureMapLRUHash, "4.10", "LRU hash maps", mapProbe(mapAttr{mapType: uint32(ebpf.LRUHash), keySize: 4, valueSize: 8, maxEntries: 1})},
		{FeatureMapLRUPerCPUHash, "4.10", "LRU per-CPU hash maps", mapProbe(mapAttr{mapType: uint32(ebpf.LRUCPUHash), keySize: 4, valueSize: 8, maxEntries: 1})},
		{FeatureMapStackTrace, "4.6", "stack trace maps", mapProbe(mapAttr{mapType: uint32(ebpf.StackTrace), keySize: 4, valueSize: 8, maxEntries: 1})},
		{FeatureMapStackBuildID, "4.17", "stack trace maps with build IDs", mapProbe(mapAttr{mapType: uint32(ebpf.StackTrace), keySize: 4, valueSize: 32, maxEntries: 1, flags: 1 << 5})},
		{FeatureMapRingBuf, "5.8", "ring buffers", mapProbe(mapAttr{mapType: uint32(ebpf.RingBuf), maxEntries: uint32(os.Getpagesize())})},
		{FeatureMapTaskStorage, "5.11", "storage in tasks", storageProbe(ebpf.TaskStorage)},
		{FeatureMapCgroupStorage, "6.2", "storage in cgroups", storageProbe(ebpf.CgroupStorage)},
		{FeatureMapBloomFilter, "5.16", "bloom filters", mapProbe(mapAttr{mapType: uint32(ebpf.BloomFilter), valueSize: 8, maxEntries: 1})},
		{FeatureMapArena, "6.9", "memory shared with user space (arena)", mapProbe(mapAttr{mapType: uint32(ebpf.Arena), maxEntries: 1, flags: 1 << 10})},
	}
}

// ret0 is the smallest program.
func ret0() []insn { return []insn{movImm(0, 0), exitInsn()} }

func progProbe(typ ebpf.ProgramType) func(*Features) error {
	return func(*Features) error {
		return missingIf(program{typ: typ, insns: ret0(), sleepable: typ == ebpf.Syscall}.loads(), unix.EINVAL, unix.E2BIG)
	}
}

// btf is the kernel's BTF for a probe: a kernel without it lacks what needs it.
func (f *Features) btf() (*BTF, error) {
	b, err := f.k.BTF()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSupported, err)
	}
	return b, nil
}

// tracing loads a program for a BTF-described target, the first of the names that the kernel has.
func (f *Features) tracing(typ ebpf.ProgramType, attach ebpf.AttachType, kind Kind, names ...string) (fd int, err error) {
	b, err := f.btf()
	if err != nil {
		return -1, err
	}
	for _, name := range names {
		id, ok := b.TypeByName(name, kind)
		if !ok {
			continue
		}
		fd, _, err := program{typ: typ, attach: attach, attachID: id, insns: ret0()}.load(false)
		return fd, missingIf(err, unix.EINVAL, unix.E2BIG, errNotSupp, unix.EOPNOTSUPP)
	}
	return -1, fmt.Errorf("%w: type information has no %s", ErrNotSupported, strings.Join(names, " or "))
}

func tracingProbe(typ ebpf.ProgramType, attach ebpf.AttachType, kind Kind, names ...string) func(*Features) error {
	return func(f *Features) error {
		fd, err := f.tracing(typ, attach, kind, names...)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

// trampolineProbe also attaches to a function that only tests call: arm64 loads such programs since 5.5 and attaches them since
// 6.4. On x86-64 loading says enough, and attaching would cost a wait for the whole machine.
func trampolineProbe(attach ebpf.AttachType, names ...string) func(*Features) error {
	return attachProbe(attach, false, names...)
}

func attachProbe(attach ebpf.AttachType, always bool, names ...string) func(*Features) error {
	return func(f *Features) error {
		fd, err := f.tracing(ebpf.Tracing, attach, KindFunc, names...)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if f.k.Arch() == "amd64" && !always {
			return nil
		}
		link, err := rawTPOpen(fd)
		if err == nil {
			unix.Close(link)
		}
		return missingIf(err, errNotSupp, unix.EOPNOTSUPP, unix.EINVAL)
	}
}

func progFeatures() []feature {
	return []feature{
		{FeatureProgKprobe, "4.1", "programs on kprobes and uprobes", progProbe(ebpf.Kprobe)},
		{FeatureProgTracepoint, "4.7", "programs on tracepoints", progProbe(ebpf.TracePoint)},
		{FeatureProgPerfEvent, "4.9", "programs on perf events", progProbe(ebpf.PerfEvent)},
		{FeatureProgRawTP, "4.17", "programs on raw tracepoints", progProbe(ebpf.RawTracepoint)},
		{FeatureProgSyscall, "5.14", "programs that make system calls", progProbe(ebpf.Syscall)},
		{FeatureTPBTF, "5.5", "raw tracepoints with typed arguments", tracingProbe(ebpf.Tracing, ebpf.AttachTraceRawTp, KindTypedef, "btf_trace_sched_switch", "btf_trace_sys_enter")},
		{FeatureFentry, "5.5", "function entry programs", trampolineProbe(ebpf.AttachTraceFEntry, "bpf_fentry_test1", "vfs_read")},
		{FeatureFexit, "5.5", "function exit programs", trampolineProbe(ebpf.AttachTraceFExit, "bpf_fentry_test1", "vfs_read")},
		{FeatureFentryStruct, "6.1", "function entry programs where an argument is a struct", tracingProbe(ebpf.Tracing, ebpf.AttachTraceFEntry, KindFunc, "from_kuid", "vm_normal_page")},
		{FeatureFentryArgs, "6.6", "function entry programs on functions with more than six arguments", attachProbe(ebpf.AttachTraceFEntry, true, "do_mmap")},
		{FeatureFmodRet, "5.7", "programs that change a return value", onTrampoline(ebpf.Tracing, ebpf.AttachModifyReturn, "security_file_open", "bpf_modify_return_test")},
		{FeatureLSM, "5.7", "security hook programs", onTrampoline(ebpf.LSM, ebpf.AttachLSMMac, "bpf_lsm_file_open")},
		{FeatureIter, "5.8", "iterators over kernel objects", tracingProbe(ebpf.Tracing, ebpf.AttachTraceIter, KindFunc, "bpf_iter_task")},
		{FeatureIterPath, "5.12", "paths of files in iterators", iterPath},
	}
}

// iterPath calls bpf_d_path in an iterator with arguments that are not set: a kernel that allows the call complains about them.
func iterPath(f *Features) error {
	p, err := f.scope(inIter)
	if err != nil {
		return err
	}
	p.insns = []insn{callHelper(int32(asm.FnDPath)), movImm(0, 0), exitInsn()}
	if err = p.loads(); isErr(err, unix.EACCES) {
		return nil
	}
	return missingIf(err, unix.EINVAL)
}

// onTrampoline is tracingProbe for programs that attach as function entry does, which an architecture may lack; see trampolineProbe.
func onTrampoline(typ ebpf.ProgramType, attach ebpf.AttachType, names ...string) func(*Features) error {
	load := tracingProbe(typ, attach, KindFunc, names...)
	return func(f *Features) error {
		if err := load(f); err != nil || f.k.Arch() == "amd64" {
			return err
		}
		return f.Check(FeatureFentry)
	}
}

// withProgram loads the smallest program and hands its descriptor to try.
func withProgram(p program, try func(fd int) error) error {
	p.insns = ret0()
	fd, _, err := p.load(false)
	if err != nil {
		return missingIf(err, unix.EINVAL, unix.E2BIG)
	}
	defer unix.Close(fd)
	return try(fd)
}

// kprobeMultiProbe gives an address list that cannot be read. A kernel that knows the link gets as far as reading it.
func kprobeMultiProbe(attach ebpf.AttachType) func(*Features) error {
	return func(*Features) error {
		return withProgram(program{typ: ebpf.Kprobe, attach: attach}, func(fd int) error {
			page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Munmap(page) }()
			a := kprobeMultiAttr{linkHead: linkHead{progFD: uint32(fd), attachType: uint32(attach)}, cnt: 1, addrs: unsafe.Pointer(unsafe.SliceData(page))}
			return expect(createLink(unsafe.Pointer(&a), unsafe.Sizeof(a)), unix.EFAULT)
		})
	}
}

// uprobeMultiProbe asks to attach to the root directory. A kernel that knows the link says that it is not a file.
func uprobeMultiProbe(attach ebpf.AttachType) func(*Features) error {
	return func(*Features) error {
		return withProgram(program{typ: ebpf.Kprobe, attach: attach}, func(fd int) error {
			path, offset := []byte("/\x00"), new(uint64)
			a := uprobeMultiAttr{
				linkHead: linkHead{progFD: uint32(fd), attachType: uint32(attach)}, cnt: 1,
				path: unsafe.Pointer(unsafe.SliceData(path)), offsets: unsafe.Pointer(offset),
			}
			return expect(createLink(unsafe.Pointer(&a), unsafe.Sizeof(a)), unix.EBADF)
		})
	}
}

// expect takes the one error that proves a feature; all others that the kernel gives for what it does not know are "missing".
func expect(err error, want unix.Errno) error {
	if isErr(err, want) {
		return nil
	}
	return missingIf(err, unix.EINVAL, unix.E2BIG, unix.EOPNOTSUPP, errNotSupp, unix.ENOSYS)
}

// fileProbe looks for a file that stands for a feature.
func fileProbe(path string) func(*Features) error {
	return func(f *Features) error {
		_, err := os.Stat(f.k.Path(path))
		if os.IsNotExist(err) {
			return fmt.Errorf("%w: no %s", ErrNotSupported, path)
		}
		return err
	}
}

// errNotSupp is the kernel's own ENOTSUPP, which has no place among user space's error numbers.
const errNotSupp = unix.Errno(524)

const pmuDir = "/sys/bus/event_source/devices/"

// attachUprobeSession is BPF_TRACE_UPROBE_SESSION, which the library does not name yet.
const attachUprobeSession = ebpf.AttachType(57)

func attachFeatures() []feature {
	return []feature{
		{FeaturePerfLink, "5.15", "links for perf events, and cookies", func(*Features) error {
			return withProgram(program{typ: ebpf.TracePoint}, func(fd int) error {
				a := linkHead{progFD: uint32(fd), targetFD: ^uint32(0), attachType: uint32(ebpf.AttachPerfEvent)}
				return expect(createLink(unsafe.Pointer(&a), unsafe.Sizeof(a)), unix.EBADF)
			})
		}},
		{FeatureKprobeMulti, "5.18", "one link for many kernel functions", kprobeMultiProbe(ebpf.AttachTraceKprobeMulti)},
		{FeatureKprobeSession, "6.10", "one program for entry and return of kernel functions", kprobeMultiProbe(ebpf.AttachTraceKprobeSession)},
		{FeatureUprobeMulti, "6.6", "one link for many user functions", uprobeMultiProbe(ebpf.AttachTraceUprobeMulti)},
		{FeatureUprobeSession, "6.13", "one program for entry and return of user functions", uprobeMultiProbe(attachUprobeSession)},
		{FeatureSleepableUprobe, "6.0", "uprobe programs that may sleep", func(*Features) error {
			return missingIf(program{typ: ebpf.Kprobe, insns: ret0(), sleepable: true}.loads(), unix.EINVAL)
		}},
		{FeatureKprobes, "2.6.9", "kprobes", func(f *Features) error {
			if f.Has(FeatureKprobePMU) || f.Has(FeatureKprobeEvents) {
				return nil
			}
			return fmt.Errorf("%w: built without CONFIG_KPROBES or CONFIG_KPROBE_EVENTS", ErrNotSupported)
		}},
		{FeatureKprobePMU, "4.17", "kprobes opened as perf events", fileProbe(pmuDir + "kprobe/type")},
		{FeatureUprobePMU, "4.17", "uprobes opened as perf events", fileProbe(pmuDir + "uprobe/type")},
		{FeatureUprobeRefCount, "4.20", "uprobes that raise a USDT semaphore", fileProbe(pmuDir + "uprobe/format/ref_ctr_offset")},
		{FeatureKprobeEvents, "2.6.33", "kprobes defined through tracefs", func(f *Features) error {
			t, err := f.k.Tracefs()
			if err != nil {
				return err
			}
			if _, err := os.Stat(t.Dir() + "/kprobe_events"); os.IsNotExist(err) {
				return fmt.Errorf("%w: tracefs has no kprobe_events", ErrNotSupported)
			}
			return nil
		}},
	}
}

func systemFeatures() []feature {
	return []feature{
		{FeatureBTF, "4.18", "type information of the kernel", func(f *Features) error { _, err := f.btf(); return err }},
		{FeatureModuleBTF, "5.11", "type information of modules", func(f *Features) error {
			mods, err := f.k.BTFModules()
			if err == nil && len(mods) == 0 {
				if loaded, err := f.k.Modules(); err == nil && len(loaded) > 0 {
					return fmt.Errorf("%w: none of %d loaded modules has any", ErrNotSupported, len(loaded))
				}
				return fmt.Errorf("no module is loaded")
			}
			return err
		}},
		{FeatureStats, "5.1", "run counts and times of programs", fileProbe("/proc/sys/kernel/bpf_stats_enabled")},
		{FeatureLSMActive, "5.7", "security hook programs that run: BPF in the list of active security modules (boot with lsm=...,bpf)", probeLSMActive},
		{FeatureErrorInjection, "4.16", "the list of functions whose return value may be overridden", func(f *Features) error {
			_, err := f.k.errorInjection()
			if err != nil && isNotExist(err) {
				return fmt.Errorf("%w: no error_injection/list in debugfs", ErrNotSupported)
			}
			return err
		}},
	}
}

// helperRow is a kernel helper and a kind of program that may use it.
type helperRow struct {
	name  string
	id    asm.BuiltinFunc
	since string // in that kind of program
	in    helperScope
}

// helperScope is the program in which a helper is tried.
type helperScope uint8

const (
	inKprobe  helperScope = iota // any tracing program
	inTPBTF                      // raw tracepoints with types
	inFentry                     // function entry
	inIter                       // iterators
	inSleep                      // programs that may sleep
	inSyscall                    // programs that make system calls
)

var helperTable = []helperRow{
	{"bpf_probe_read_kernel", asm.FnProbeReadKernel, "5.5", inKprobe},
	{"bpf_probe_read_user", asm.FnProbeReadUser, "5.5", inKprobe},
	{"bpf_probe_read_kernel_str", asm.FnProbeReadKernelStr, "5.5", inKprobe},
	{"bpf_probe_read_user_str", asm.FnProbeReadUserStr, "5.5", inKprobe},
	{"bpf_probe_write_user", asm.FnProbeWriteUser, "4.8", inKprobe},
	{"bpf_ktime_get_ns", asm.FnKtimeGetNs, "4.1", inKprobe},
	{"bpf_ktime_get_boot_ns", asm.FnKtimeGetBootNs, "5.8", inKprobe},
	{"bpf_ktime_get_tai_ns", asm.FnKtimeGetTaiNs, "6.1", inKprobe},
	{"bpf_jiffies64", asm.FnJiffies64, "5.6", inKprobe},
	{"bpf_get_prandom_u32", asm.FnGetPrandomU32, "4.1", inKprobe},
	{"bpf_get_smp_processor_id", asm.FnGetSmpProcessorId, "4.1", inKprobe},
	{"bpf_get_numa_node_id", asm.FnGetNumaNodeId, "4.10", inKprobe},
	{"bpf_get_current_pid_tgid", asm.FnGetCurrentPidTgid, "4.2", inKprobe},
	{"bpf_get_current_uid_gid", asm.FnGetCurrentUidGid, "4.2", inKprobe},
	{"bpf_get_current_comm", asm.FnGetCurrentComm, "4.2", inKprobe},
	{"bpf_get_current_task", asm.FnGetCurrentTask, "4.8", inKprobe},
	{"bpf_get_current_task_btf", asm.FnGetCurrentTaskBtf, "5.11", inKprobe},
	{"bpf_task_pt_regs", asm.FnTaskPtRegs, "5.15", inKprobe},
	{"bpf_get_ns_current_pid_tgid", asm.FnGetNsCurrentPidTgid, "5.7", inKprobe},
	{"bpf_get_current_cgroup_id", asm.FnGetCurrentCgroupId, "4.18", inKprobe},
	{"bpf_get_current_ancestor_cgroup_id", asm.FnGetCurrentAncestorCgroupId, "5.15", inKprobe},
	{"bpf_current_task_under_cgroup", asm.FnCurrentTaskUnderCgroup, "4.9", inKprobe},
	{"bpf_get_stack", asm.FnGetStack, "4.18", inKprobe},
	{"bpf_get_stackid", asm.FnGetStackid, "4.6", inKprobe},
	{"bpf_get_task_stack", asm.FnGetTaskStack, "5.9", inKprobe},
	{"bpf_send_signal", asm.FnSendSignal, "5.3", inKprobe},
	{"bpf_send_signal_thread", asm.FnSendSignalThread, "5.5", inKprobe},
	{"bpf_override_return", asm.FnOverrideReturn, "4.16", inKprobe},
	{"bpf_get_func_ip", asm.FnGetFuncIp, "5.15", inKprobe},
	{"bpf_get_attach_cookie", asm.FnGetAttachCookie, "5.15", inKprobe},
	{"bpf_get_func_arg", asm.FnGetFuncArg, "5.17", inFentry},
	{"bpf_get_func_ret", asm.FnGetFuncRet, "5.17", inFentry},
	{"bpf_loop", asm.FnLoop, "5.17", inKprobe},
	{"bpf_for_each_map_elem", asm.FnForEachMapElem, "5.13", inKprobe},
	{"bpf_map_lookup_percpu_elem", asm.FnMapLookupPercpuElem, "5.19", inKprobe},
	{"bpf_snprintf", asm.FnSnprintf, "5.13", inKprobe},
	{"bpf_snprintf_btf", asm.FnSnprintfBtf, "5.10", inKprobe},
	{"bpf_strncmp", asm.FnStrncmp, "5.17", inKprobe},
	{"bpf_trace_vprintk", asm.FnTraceVprintk, "5.16", inKprobe},
	{"bpf_perf_event_output", asm.FnPerfEventOutput, "4.4", inKprobe},
	{"bpf_ringbuf_output", asm.FnRingbufOutput, "5.8", inKprobe},
	{"bpf_ringbuf_reserve", asm.FnRingbufReserve, "5.8", inKprobe},
	{"bpf_ringbuf_query", asm.FnRingbufQuery, "5.8", inKprobe},
	{"bpf_dynptr_from_mem", asm.FnDynptrFromMem, "5.19", inKprobe},
	{"bpf_per_cpu_ptr", asm.FnPerCpuPtr, "5.10", inKprobe},
	{"bpf_this_cpu_ptr", asm.FnThisCpuPtr, "5.10", inKprobe},
	{"bpf_task_storage_get", asm.FnTaskStorageGet, "5.13", inKprobe},
	{"bpf_task_storage_delete", asm.FnTaskStorageDelete, "5.13", inKprobe},
	{"bpf_find_vma", asm.FnFindVma, "5.17", inKprobe},
	{"bpf_tail_call", asm.FnTailCall, "4.2", inKprobe},
	{"bpf_skb_output", asm.FnSkbOutput, "5.5", inTPBTF},
	{"bpf_get_socket_cookie", asm.FnGetSocketCookie, "5.12", inTPBTF},
	{"bpf_sock_from_file", asm.FnSockFromFile, "5.11", inTPBTF},
	{"bpf_d_path", asm.FnDPath, "5.10", inIter},
	{"bpf_seq_write", asm.FnSeqWrite, "5.8", inIter},
	{"bpf_seq_printf", asm.FnSeqPrintf, "5.8", inIter},
	{"bpf_copy_from_user", asm.FnCopyFromUser, "5.10", inSleep},
	{"bpf_copy_from_user_task", asm.FnCopyFromUserTask, "5.18", inSleep},
	{"bpf_sys_bpf", asm.FnSysBpf, "5.14", inSyscall},
	{"bpf_sys_close", asm.FnSysClose, "5.14", inSyscall},
	{"bpf_kallsyms_lookup_name", asm.FnKallsymsLookupName, "5.16", inSyscall},
}
