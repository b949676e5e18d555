// Package target describes what a script is compiled for. It knows no running machine: what the target can do is
// data. A package of its own so that every stage of codegen may import it. Imports: lang/types.
package target

import (
	"sync"

	"github.com/sonde-sh/sonde/lang/types"
)

// Target is what a script is compiled for. All of it is data, so that a fixture target gives the same code on every machine.
type Target struct {
	Arch     string // "amd64" or "arm64"
	Types    types.Source
	CPUs     int // possible CPUs
	PageSize int
	Features Features
	// LiteralAttach makes probe kinds attach by the mechanism that they are named after, not by the cheapest that means the same, and takes
	// stacks of user space by the kernel's helper.
	LiteralAttach bool
	// Jiffies is the HZ of the kernel (ticks per second); 0 when unknown.
	HZ int
	// PIDNamespace is the device and inode of the tool's pid namespace when it is not the initial one, for pid and tid.
	PIDNSDev, PIDNSIno uint64
	// KfuncID gives the number of a kernel function that programs may call, in the kernel's type information; nil when there are none.
	KfuncID func(name string) (int64, error)
}

// Feature is a named fact about the target that code generation depends on; each is probed by runtime/kernel, never derived from a version.
type Feature uint8

// The features.
const (
	AtomicFetch      Feature = iota // fetching atomics and cmpxchg (5.12)
	BpfLoop                         // bpf_loop (5.17)
	ForEachMapElem                  // bpf_for_each_map_elem (5.13)
	TaskBTF                         // bpf_get_current_task_btf (5.11)
	ProbeReadKernel                 // bpf_probe_read_{kernel,user}(_str) (5.5)
	AttachCookie                    // bpf_get_attach_cookie (5.15)
	GetFuncIP                       // bpf_get_func_ip (5.15; uprobes 6.6)
	RingBuf                         // BPF_MAP_TYPE_RINGBUF (5.8)
	TaskStorageTrace                // BPF_MAP_TYPE_TASK_STORAGE from tracing programs (5.11..)
	MapLookupPercpu                 // bpf_map_lookup_percpu_elem (5.19)
	Jiffies64                       // bpf_jiffies64
	BootNS                          // bpf_ktime_get_boot_ns (5.8)
	TaiNS                           // bpf_ktime_get_tai_ns (6.1)
	NsPidTgid                       // bpf_get_ns_current_pid_tgid
	DPath
	IterPath // bpf_d_path in iterators (5.12)
	SendSignal
	SendSignalThread
	OverrideReturn
	GetStack
	SkbOutput
	StrncmpHelper // bpf_strncmp (5.17)
	SignedDiv     // cpu v4 (6.6): sdiv, smod, movsx, bswap
	Jmp32         // cpu v3
	IterNum       // open-coded iterators (6.4)
	MayGoto       // 6.9
	CgroupID
	KprobeMulti
	KprobeSession
	UprobeMulti
	UprobeMultiPID // and of one process: before Linux 6.10 its first thread alone
	Fentry         // loads here
	TPBTF
	LSM
	PerfLink // BPF links for perf events (5.15)
	Kprobes  // the kernel has kprobes at all
	Mmapable // BPF_F_MMAPABLE arrays (5.5)
	StackBuildID
	LongKeys // hash keys of more than 512 bytes (5.11)

	NumFeatures
)

var featureNames = [NumFeatures]string{
	AtomicFetch:      "AtomicFetch",
	BpfLoop:          "BpfLoop",
	ForEachMapElem:   "ForEachMapElem",
	TaskBTF:          "TaskBTF",
	ProbeReadKernel:  "ProbeReadKernel",
	AttachCookie:     "AttachCookie",
	GetFuncIP:        "GetFuncIP",
	RingBuf:          "RingBuf",
	TaskStorageTrace: "TaskStorageTrace",
	MapLookupPercpu:  "MapLookupPercpu",
	Jiffies64:        "Jiffies64",
	BootNS:           "BootNS",
	TaiNS:            "TaiNS",
	NsPidTgid:        "NsPidTgid",
	DPath:            "DPath",
	IterPath:         "IterPath",
	SendSignal:       "SendSignal",
	SendSignalThread: "SendSignalThread",
	OverrideReturn:   "OverrideReturn",
	GetStack:         "GetStack",
	SkbOutput:        "SkbOutput",
	StrncmpHelper:    "StrncmpHelper",
	SignedDiv:        "SignedDiv",
	Jmp32:            "Jmp32",
	IterNum:          "IterNum",
	MayGoto:          "MayGoto",
	CgroupID:         "CgroupID",
	KprobeMulti:      "KprobeMulti",
	KprobeSession:    "KprobeSession",
	UprobeMulti:      "UprobeMulti",
	UprobeMultiPID:   "UprobeMultiPID",
	Fentry:           "Fentry",
	TPBTF:            "TPBTF",
	LSM:              "LSM",
	PerfLink:         "PerfLink",
	Kprobes:          "Kprobes",
	Mmapable:         "Mmapable",
	StackBuildID:     "StackBuildID",
	LongKeys:         "LongKeys",
}

func (f Feature) String() string {
	if f < NumFeatures {
		return featureNames[f]
	}
	return "Feature?"
}

// Features answers which features a target has. It may find out when it is first asked (a probe costs the kernel 30 us, and a
// one-liner needs three of forty), so ask for what the script needs and nothing else. The zero value has none. It is safe for concurrent use.
type Features struct{ has func(Feature) bool }

// Has reports whether the target has a feature.
func (f Features) Has(x Feature) bool { return f.has != nil && f.has(x) }

// Lazy makes features that are looked up by has, at most once each. has must be safe for concurrent use.
func Lazy(has func(Feature) bool) Features {
	var known [NumFeatures]struct {
		once sync.Once
		has  bool
	}
	return Features{func(x Feature) bool {
		if x >= NumFeatures {
			return false
		}
		k := &known[x]
		k.once.Do(func() { k.has = has(x) })
		return k.has
	}}
}

// With makes features that are fixed: those named and no others.
func With(list ...Feature) Features {
	var set [NumFeatures]bool
	for _, x := range list {
		set[x] = true
	}
	return Features{func(x Feature) bool { return x < NumFeatures && set[x] }}
}

// AllBut makes features that are fixed: all except those named. AllBut() is the newest kernel.
func AllBut(list ...Feature) Features {
	var without [NumFeatures]bool
	for _, x := range list {
		without[x] = true
	}
	return Features{func(x Feature) bool { return x < NumFeatures && !without[x] }}
}
