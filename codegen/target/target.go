// Package target describes what a script is compiled for. It knows no running machine: what the target can do is
// data. A package of its own so that every stage of codegen may import it. Imports: lang/types.
package target

import "github.com/sonde-sh/sonde/lang/types"

// Target is what a script is compiled for. All of it is data, so that a fixture target gives the same code on every machine.
type Target struct {
	Arch     string // "amd64" or "arm64"
	Types    types.Source
	CPUs     int // possible CPUs
	PageSize int
	Features Features
	// Jiffies is the HZ of the kernel (ticks per second); 0 when unknown.
	HZ int
	// PIDNamespace is the device and inode of the tool's pid namespace when it is not the initial one, for pid and tid.
	PIDNSDev, PIDNSIno uint64
}

// Features are the named facts that code generation depends on; each is probed by runtime/kernel, never derived from a version.
type Features struct {
	AtomicFetch      bool // fetching atomics and cmpxchg (5.12)
	BpfLoop          bool // bpf_loop (5.17)
	ForEachMapElem   bool // bpf_for_each_map_elem (5.13)
	TaskBTF          bool // bpf_get_current_task_btf (5.11)
	ProbeReadKernel  bool // bpf_probe_read_{kernel,user}(_str) (5.5)
	AttachCookie     bool // bpf_get_attach_cookie (5.15)
	GetFuncIP        bool // bpf_get_func_ip (5.15; uprobes 6.6)
	RingBuf          bool // BPF_MAP_TYPE_RINGBUF (5.8)
	TaskStorageTrace bool // BPF_MAP_TYPE_TASK_STORAGE from tracing programs (5.11..)
	MapLookupPercpu  bool // bpf_map_lookup_percpu_elem (5.19)
	Jiffies64        bool // bpf_jiffies64
	BootNS           bool // bpf_ktime_get_boot_ns (5.8)
	TaiNS            bool // bpf_ktime_get_tai_ns (6.1)
	NsPidTgid        bool // bpf_get_ns_current_pid_tgid
	DPath            bool
	SendSignal       bool
	SendSignalThread bool
	OverrideReturn   bool
	GetStack         bool
	SkbOutput        bool
	StrncmpHelper    bool // bpf_strncmp (5.17)
	SignedDiv        bool // cpu v4 (6.6): sdiv, smod, movsx, bswap
	Jmp32            bool // cpu v3
	IterNum          bool // open-coded iterators (6.4)
	MayGoto          bool // 6.9
	CgroupID         bool
	KprobeMulti      bool
	KprobeSession    bool
	UprobeMulti      bool
	Fentry           bool // loads here
	TPBTF            bool
	LSM              bool
	PerfLink         bool // BPF links for perf events (5.15)
	Kprobes          bool // the kernel has kprobes at all
	Mmapable         bool // BPF_F_MMAPABLE arrays (5.5)
	StackBuildID     bool
}
