package stdlib

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/symbol"
)

// Machine is the machine that scripts are compiled for and probe kinds look at: its kernel, types, programs and libraries. Everything in it
// is read when it is first needed. It is safe for concurrent use.
type Machine struct {
	Kernel *kernel.Kernel
	Types  *BTFSource
	// Features replaces what the kernel has, for machines that are not the running one; nil probes the kernel.
	Features *kernel.Features
	// Without are features that scripts must not use though the kernel has them, by their names there. It is set before the first script.
	Without []string
	// DebugDirs are searched for the debug files of programs, beside /usr/lib/debug. It is set before the first script.
	DebugDirs []string

	target func() *target.Target

	mu           sync.Mutex
	files        map[string]*symbol.File
	programTypes map[*symbol.File]*programTypes
	programs     []*ebpf.Program // targets of fentry on BPF programs
}

// NewMachine makes the view of a kernel; it reads nothing.
func NewMachine(k *kernel.Kernel) *Machine {
	m := &Machine{Kernel: k, Types: NewBTFSource(k.BTF, k.ModuleBTF), files: make(map[string]*symbol.File)}
	m.target = sync.OnceValue(m.newTarget)
	return m
}

// Close releases the files that are open for their symbols.
func (m *Machine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	errs := []error{closePrograms(m.programs)}
	m.programs = nil
	for _, f := range m.files {
		errs = append(errs, f.Close())
	}
	clear(m.files)
	return errors.Join(errs...)
}

// NoteTypes says with errors about types and their members that the kernel tells nothing about its types, where that is so: the script may be
// right.
func (m *Machine) NoteTypes(diags *diag.List) {
	for _, d := range diags.All() {
		switch d.Code {
		case check.CodeUnknownType, check.CodeUnknownField, check.CodeUnavailable:
		default:
			continue
		}
		if _, err := m.Types.Kernel(); err != nil {
			d.Notes = append(d.Notes, "the types of this kernel are not known: "+strings.TrimPrefix(err.Error(), "open BTF: ")+"; with its vmlinux or BTF file set BPFTRACE_BTF=FILE")
		}
		return
	}
}

// Target is what scripts are compiled for. Features are probed one by one as they are asked for.
func (m *Machine) Target() *target.Target { return m.target() }

func (m *Machine) newTarget() *target.Target {
	t := &target.Target{Arch: m.Kernel.Arch(), Types: m.Types, CPUs: runtime.NumCPU(), PageSize: m.Kernel.PageSize(), Features: target.Lazy(m.has)}
	t.KfuncID = func(name string) (int64, error) {
		b, err := m.Kernel.BTF()
		if err != nil {
			return 0, err
		}
		id, ok := b.TypeByName(name, kernel.KindFunc)
		if !ok {
			return 0, noSymbol{name, "the kernel's types"}
		}
		return int64(id), nil
	}
	if cpus, err := m.Kernel.PossibleCPUs(); err == nil && len(cpus) > 0 {
		t.CPUs = cpus[len(cpus)-1] + 1
	}
	if inInit, err := m.Kernel.InInitPIDNamespace(); err == nil && !inInit {
		if ns, err := m.Kernel.PIDNamespace(0); err == nil {
			t.PIDNSDev, t.PIDNSIno = ns.Dev, ns.Inode
		}
	}
	return t
}

// TargetFor is the target of one script, whose config may ask for the literal way to attach.
func (m *Machine) TargetFor(c *check.Config) *target.Target {
	t := *m.Target()
	t.LiteralAttach = c.Extra["attach"] == "literal"
	return &t
}

// Env is what the checker needs of the machine and of the files of a script; the caller adds what the user said.
func (m *Machine) Env(set *source.Set) *check.Env {
	return &check.Env{
		Types: m.Types, Arch: m.Kernel.Arch(), CPUs: m.Target().CPUs, Machine: m, Named: map[string]string{}, NamedUsed: map[string]bool{},
		ReadFile: os.ReadFile, ReadDir: readDir,
		ParseScript: func(f *source.File, diags *diag.List) *ast.Script { return syntax.Parse(set, f, diags) },
		ParseExpr:   func(f *source.File) ast.Expr { return syntax.ParseExpr(f, &diag.List{}) },
		ParseC:      ParseC(set),
	}
}

func readDir(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// HasKfunc tells whether the kernel has a function of this name that programs may call.
func (m *Machine) HasKfunc(name string) bool { return m.Kernel.Features().HasKfunc(name) }

// HZ is how many jiffies the kernel has per second, 0 when it cannot be known. It is not part of Target because finding out reads the
// kernel's configuration.
func (m *Machine) HZ() int {
	hz, _ := m.Kernel.HZ()
	return hz
}

// features names what runtime/kernel probes for each feature of a target.
var features = [target.NumFeatures]string{
	target.AtomicFetch:      kernel.FeatureAtomicFetch,
	target.BpfLoop:          "bpf_loop",
	target.ForEachMapElem:   "bpf_for_each_map_elem",
	target.TaskBTF:          "bpf_get_current_task_btf",
	target.ProbeReadKernel:  "bpf_probe_read_kernel",
	target.AttachCookie:     "bpf_get_attach_cookie",
	target.GetFuncIP:        "bpf_get_func_ip",
	target.RingBuf:          kernel.FeatureMapRingBuf,
	target.TaskStorageTrace: "bpf_task_storage_get",
	target.MapLookupPercpu:  "bpf_map_lookup_percpu_elem",
	target.Jiffies64:        "bpf_jiffies64",
	target.BootNS:           "bpf_ktime_get_boot_ns",
	target.TaiNS:            "bpf_ktime_get_tai_ns",
	target.NsPidTgid:        "bpf_get_ns_current_pid_tgid",
	target.DPath:            "bpf_d_path",
	target.IterPath:         kernel.FeatureIterPath,
	target.SendSignal:       "bpf_send_signal",
	target.SendSignalThread: "bpf_send_signal_thread",
	target.OverrideReturn:   "bpf_override_return",
	target.GetStack:         "bpf_get_stack",
	target.SkbOutput:        "bpf_skb_output",
	target.StrncmpHelper:    "bpf_strncmp",
	target.SignedDiv:        kernel.FeatureCPUv4,
	target.Jmp32:            kernel.FeatureJmp32,
	target.IterNum:          kernel.FeatureIterNum,
	target.MayGoto:          kernel.FeatureMayGoto,
	target.CgroupID:         "bpf_get_current_cgroup_id",
	target.KprobeMulti:      kernel.FeatureKprobeMulti,
	target.KprobeSession:    kernel.FeatureKprobeSession,
	target.UprobeMulti:      kernel.FeatureUprobeMulti,
	target.UprobeMultiPID:   kernel.FeatureUprobeSession, // the next feature that can be asked for: Linux 6.13
	target.Fentry:           kernel.FeatureFentry,
	target.TPBTF:            kernel.FeatureTPBTF,
	target.LSM:              kernel.FeatureLSM,
	target.PerfLink:         kernel.FeaturePerfLink,
	target.Kprobes:          kernel.FeatureKprobes,
	target.Mmapable:         kernel.FeatureMmapableArray,
	target.LongKeys:         kernel.FeatureLongKeys,
	target.StackBuildID:     kernel.FeatureMapStackBuildID,
}

func (m *Machine) has(f target.Feature) bool {
	return !slices.Contains(m.Without, features[f]) && m.features().Has(features[f])
}

func (m *Machine) features() *kernel.Features {
	if m.Features != nil {
		return m.Features
	}
	return m.Kernel.Features()
}

// file opens an ELF file once; root is the file system of the process that the path belongs to.
func (m *Machine) file(path string, root symbol.Root) (*symbol.File, error) {
	key := root.Dir + "\x00" + path
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.files[key]; f != nil {
		return f, nil
	}
	f, err := symbol.Open(path, symbol.Options{Root: root, DebugDirs: symbol.DebugDirs(m.DebugDirs)})
	if err != nil {
		return nil, err
	}
	m.files[key] = f
	return f, nil
}

// root is the file system that a process sees, our own for pid 0.
func (m *Machine) root(pid int) (symbol.Root, error) {
	if pid == 0 {
		if m.Kernel.Running() {
			return symbol.Root{}, nil
		}
		return symbol.Root{Dir: m.Kernel.Path("")}, nil
	}
	ns, err := symbol.Inspect(pid)
	if err != nil {
		return symbol.Root{}, err
	}
	return ns.Root, nil
}

// pathHere is how a path of a root is reached from our side, for the kernel to open.
func pathHere(root symbol.Root, path string) string {
	if root.Own() {
		return path
	}
	if p, err := root.Resolve(path); err == nil {
		return p
	}
	return filepath.Join(root.Dir, path)
}

// AttachID gives the number in the kernel's type information of what a program attaches to, and the descriptor of the module's BTF (0 for the
// kernel itself). For a function of a BPF program it is the number in that program's types and the program's descriptor.
func (m *Machine) AttachID(typ ebpf.ProgramType, attach ebpf.AttachType, module, name string) (id uint32, btfFD int, err error) {
	if strings.HasPrefix(module, bpfModule) {
		return m.bpfTarget(module, name)
	}
	kind := kernel.KindFunc
	switch {
	case attach == ebpf.AttachTraceRawTp:
		name, kind = "btf_trace_"+name, kernel.KindTypedef
	case typ == ebpf.LSM:
		name = "bpf_lsm_" + name
	case attach == ebpf.AttachTraceIter:
		name = "bpf_iter_" + name
	}
	b, err := m.Types.Module(module)
	if err != nil {
		return 0, 0, err
	}
	t, ok := b.TypeByName(name, kind)
	if !ok {
		return 0, 0, fmt.Errorf("%s: %w", name, kernel.ErrNoFunc)
	}
	fd, err := m.Kernel.ModuleBTFFD(module)
	return uint32(t), fd, err
}

// FeatureInfo says what a feature of a target is in the kernel, and since which mainline version it is there.
func FeatureInfo(f target.Feature) kernel.FeatureInfo {
	if f < target.NumFeatures {
		for _, i := range kernel.FeatureNames() {
			if i.Name == features[f] {
				return i
			}
		}
	}
	return kernel.FeatureInfo{Name: f.String()}
}
