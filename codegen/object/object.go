// Package object is the result of a compilation: programs, maps, event layouts and the attach plan, as plain data.
//
// The same script and target give the same object on any machine; only loading looks at the running kernel.
// Imports: lang/source, lang/types, cilium/ebpf.
package object

import (
	"sort"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// Object is everything the runtime needs.
type Object struct {
	Programs []*Program
	Maps     []*Map
	Events   []*Event // Events[i].ID == i
	Points   []string // names of attach points as `probe` prints them; a Probe value is an index into it
	// Funcs[i] is what `func` prints for Points[i]. A Func value is an index into it, or, with its top bit set, a kernel address.
	Funcs []string
	// Probes is the number of attach points of the script, as "Attached N probes" counts them: a point that several probes name counts
	// once for each.
	Probes int
	Config Config
	// Budgeted tells that the code depends on the room for loops that was allowed: with less it may be shorter.
	Budgeted bool
	// Failures are the places where a map operation, or an index, may fail without -k: each has a word of the globals that holds the last error.
	Failures []Failure
	// Captures are the files that skboutput writes packets to; a packet's record holds an index into it.
	Captures []string
	License  string
	Files    *source.Set
}

// Failure is a place of the script where a helper, or what Helper names in its place, may fail. The i64 at Off of GlobalsMap is 0 until it does,
// then the kernel's error in its lower half.
type Failure struct {
	Off    int
	Helper string
	Span   source.Span
}

// ArrayIndex stands for a helper where an index lies outside of its array.
const ArrayIndex = "array index"

// Config is what the runtime must know of the script's config.
type Config struct {
	PrintMapsOnExit bool
	StrTruncTrailer string // ".." by default
	MaxStrlen       int
	RingBytes       int    // size of the ring buffer, a power of two; 0 when no event is sent
	PacketBytes     int    // size of the buffer of packets of each CPU; 0 chooses
	MissingProbes   string // "error", "warn", "ignore"
	CppDemangle     bool
	LazySymbols     bool
	UserSymbolCache string // "PER_PID", "PER_PROGRAM", "NONE"
	ShowDebugInfo   bool
	MaxCatBytes     int
	LogSize         int
	MaxProbes       int
}

// Program is one BPF program.
type Program struct {
	Name       string
	Type       ebpf.ProgramType
	AttachType ebpf.AttachType
	AttachTo   string // BTF function or tracepoint for fentry, fexit, tp_btf, LSM, iter
	Module     string // kernel module of AttachTo
	Flags      uint32 // BPF_F_SLEEPABLE ...
	Insns      asm.Instructions
	Spans      []SpanAt // ascending offsets
	Probe      source.Span
	Attach     []*Attach // how to attach it; empty for programs that sonde runs itself (begin, end, test, bench)
	Role       Role
	Bodies     int // actions of the script that it runs, one after the other: each counts as a probe
	Stats      Stats
}

// Stats are facts about the generated code, for `explain` and the benchmarks.
type Stats struct {
	Insns, StackBytes, ScratchBytes, Spills int
}

// Role tells the session when a program runs.
type Role uint8

// Roles.
const (
	RoleProbe  Role = iota // attached
	RoleBegin              // run once before the others are attached
	RoleEnd                // run once after the others are detached
	RoleSignal             // run when sonde receives the signal in Name (self:signal:SIGUSR1)
	RoleTest               // run by --test
	RoleBench              // run by --bench
)

// SpanAt maps raw instruction offsets from Offset on to a range of the script.
type SpanAt struct {
	Offset asm.RawInstructionOffset
	Span   source.Span
}

// SpanOf returns the script range of a raw instruction offset.
func (p *Program) SpanOf(off asm.RawInstructionOffset) source.Span {
	n := sort.Search(len(p.Spans), func(i int) bool { return p.Spans[i].Offset > off })
	if n == 0 {
		return p.Probe
	}
	return p.Spans[n-1].Span
}

// Mechanism is a way to attach a program.
type Mechanism uint8

// Mechanisms.
const (
	MechNone       Mechanism = iota
	PerfTracepoint           // Target "category:name"
	RawTracepoint            // Target "name"
	TPBTF                    // Target "name"; the program carries AttachTo
	Kprobe                   // Target function, Offset; perf event or tracefs
	Kretprobe                //
	KprobeMulti              // Targets, Cookies
	KretprobeMulti           //
	Fentry                   // also LSM, fmod_ret: the program carries everything
	Uprobe                   // Path, Offsets[0]
	Uretprobe                //
	UprobeMulti              // Path, Offsets, Cookies, RefCounters
	UretprobeMulti           //
	PerfEvent                // PerfType, PerfConfig, Period or Freq; AllCPUs
	Iter                     // PinPath
	Breakpoint               // watchpoint: Address, Length, Mode
	LSM
)

// Attach is one link to make. Script and Kernel name it for `--explain-attach`.
type Attach struct {
	Mechanism                          Mechanism
	Target                             string   // see Mechanism
	Targets                            []string // multi: functions
	Module                             string
	Offset                             uint64
	Path                               string
	Offsets                            []uint64 // file offsets
	RefCounters                        []uint64
	Cookies                            []uint64 // one per target; what bpf_get_attach_cookie gives
	Cookie                             uint64
	PID                                int // 0: every process
	PerfType, PerfConfig, Period, Freq uint64
	AllCPUs                            bool
	Address, Length                    uint64
	Mode                               string
	PinPath                            string
	Points                             []int // indexes into Object.Points that this link serves
	Span                               source.Span
	Reason                             string  // why this mechanism
	Fallback                           *Attach // tried when the kernel refuses this one with EPERM, EOPNOTSUPP or EINVAL; needs the same program type
}

// MapRole says what the runtime does with a map.
type MapRole uint8

// Map roles.
const (
	MapUser     MapRole = iota // a map of the script
	MapRing                    // the ring buffer of events
	MapScratch                 // per-CPU scratch memory
	MapCounters                // see Counter* below
	MapStacks                  // stack storage: id -> StackRecord
	MapConst                   // read-only tables
	MapState                   // other internal state; never printed
	MapPackets                 // perf event array of skboutput; see PacketHeader
	MapUnwind                  // tables of dw_ustack, filled by the runtime; see UnwindRowsMap
)

// Map is one BPF map.
type Map struct {
	Name               string // with the leading @ for user maps; internal names have none
	Role               MapRole
	Type               ebpf.MapType
	KeySize, ValueSize int
	MaxEntries         int
	Flags              uint32
	Contents           []byte // initial value of a one-entry array (MapConst)
	Shared             bool   // belongs to the session of the prompt: made once, by name, and used by all objects of the session

	// User maps.
	Key, Value *types.Type // Key nil for a scalar map
	PerCPU     bool        // values of all CPUs are combined by user space, as Value's kind says
	Global     *GlobalSlot // the scalar lives in a shared array instead of a map of its own
	Declared   bool        // by `let @m = ...`
	// Pair names the array of slots (see PairMap) that holds keys of this hash, "" when it has none: the map is both together.
	Pair string
	Span source.Span // first use
}

// GlobalSlot places a scalar map in the one-entry mmap-able array that holds all scalars of an object: one copy per CPU, Stride
// bytes apart when PerCPU, one copy otherwise.
type GlobalSlot struct {
	Map    string // name of the array
	Off    int
	Stride int // 0 when there is one copy
	Copies int
	// SetOff, when >= 0, is the offset in the same array of a u64 that tells whether the scalar was ever set (unset scalars do not print);
	// with a Stride there is one for each copy, Stride bytes apart. A scalar is set when one of these words or a byte of a copy is not
	// zero: programs write the word only where a value that was set may be zero, and zero() writes the first.
	SetOff int
}

// Event is a record layout and what to do with it. A record is: u32 event id, u32 reserved (padding, the attach point index where
// HasProbe), then the fixed part of Size bytes (header included) with the fields, then the tails of the fields with Tail set, in
// field order.
type Event struct {
	ID     uint32
	Kind   EventKind
	Format string // printf-like kinds: the format string, parsed once by the runtime
	Fields []EventField
	Size   int // bytes of the fixed part, header included, a multiple of 8
	Map    string
	Text   string // kind-specific literal: system's command name, helper's name for HelperError, strftime's format ...
	Span   source.Span
}

// EventHeader is the size of the header of every record.
const EventHeader = 8

// EventField is one value in a record. Without Tail the value's bytes are at Off, Type.Size long. With Tail the fixed part has a u32 there:
// the number of bytes that the value has in the tail area (a string without its NUL; for a buffer its data without the length word).
type EventField struct {
	Type *types.Type
	Off  int
	Tail bool
	Cut  bool // a Tail field whose top bit (1<<31) tells that the value was cut
}

// EventKind says what the runtime does with a record.
type EventKind uint8

// Event kinds. Fields are given in brackets.
const (
	EvPrintf      EventKind = iota // printf [args]
	EvErrorf                       // errorf: as printf, to standard error with the script's position
	EvWarnf                        // warnf
	EvCat                          // cat(fmt, args): Format is the path's format
	EvSystem                       // system(fmt, args)
	EvJoin                         // join(argv, sep): Fields are one buffer of NUL-separated strings; Text is the separator
	EvTime                         // time(fmt) [i64 none]: Format is strftime's
	EvExit                         // exit(code) [i64 code]
	EvPrintMap                     // print(@m) [u64 top, u64 div]; Map names it
	EvPrintValue                   // print(x) [value]
	EvClear                        // clear(@m)
	EvZero                         // zero(@m)
	EvHelperError                  // [i64 errno]; Text names the helper, Span the place
	EvUnwatch                      // unwatch(addr) [u64]
)

// Counters: MapCounters is an array of one value, which is u64 words, CountersPerProgram for each program in this order; program i's
// words start at i*CountersPerProgram. All CPUs share them: what they count is rare.
const (
	CounterLost         = iota // events that did not fit the ring
	CounterMapFull             // keys refused by a full map
	CounterReadFail            // failed probe reads
	CounterCut                 // strings cut at their limit
	CounterScratch             // runs skipped because all scratch slots of the CPU were in use
	CounterLoop                // loops stopped by a limit
	CounterSignal              // signals sent to processes
	CounterSignalThread        // signals sent to threads
	CounterOverride            // return values overridden
	CounterDeny                // denials
	CounterWriteUser           // writes to memory of user space
	CountersPerProgram  = 12
)

// A packet that skboutput sends goes through the perf event array PacketsMap, because only there can the kernel append a packet's bytes. A record
// is a head of PacketHeader bytes and the packet from its first byte on:
//
//	u64 time      of the clock that `nsecs` reads
//	u32 capture   index into Captures
//	u32 skip      bytes at the front that are not wanted
//	u32 bytes     bytes of the packet in the record, with those to skip; what follows them is padding
//	u32 whole     length of the packet, without those to skip
//
// PacketMax is the longest packet in one piece: the length of a record of the kernel's has 16 bits.
const (
	PacketsMap   = "packets"
	PacketHeader = 24
	PacketMax    = 65_472
)

// StackRecord: stacks are stored once in MapStacks, keyed by a 64-bit hash of their frames and (for user stacks) the process. A KStack or
// UStack value is that key; 0 is the empty stack. A record is StackRecordSize bytes:
//
//	u32 frames    number of addresses that follow, at most StackMaxFrames; what is behind them is garbage
//	u32 user      1 for a user stack, 0 for a kernel stack
//	u32 tgid      process, as the pid namespace of the tool sees it; 0 for kernel stacks
//	u32 tid       thread that the stack was first seen in
//	u64 addr[]    innermost first
const (
	StackMaxFrames  = types.DefaultFrames
	StackHeader     = 16
	StackRecordSize = StackHeader + 8*StackMaxFrames
)

// Unwinding of stacks without frame pointers: three maps that the runtime fills for given processes while they map files.
//
// UnwindProcsMap is a hash from u32 process id, as the tool's pid namespace has it, to {u32 first, u32 count}: its ranges. UnwindRangesMap is
// an array of {u64 start, u64 end, u64 base, u32 first, u32 count}: code from start to end, sorted, whose rows are first to first+count-1 of
// UnwindRowsMap and count their places from base. A row is a u64: 32 bits of place, 3 bits of kind, 13 bits CFA, 16 bits BP (signed), see
// the kinds. A row holds up to the next one.
const (
	UnwindProcsMap    = "unwind_procs"
	UnwindRangesMap   = "unwind_ranges"
	UnwindRowsMap     = "unwind_rows"
	UnwindProcs       = 1024
	UnwindRanges      = 1 << 14
	UnwindRows        = 1 << 20
	UnwindRangeSize   = 32
	UnwindKindShift   = 32
	UnwindKindMask    = 7
	UnwindCFAShift    = 35
	UnwindCFAMask     = 1<<13 - 1
	UnwindBPShift     = 48
	UnwindKindUnknown = 0 // step by the frame pointer
	UnwindKindEnd     = 1 // the outermost function
	UnwindKindSP      = 2 // the frame is at rsp + CFA*8
	UnwindKindBP      = 3 // the frame is at rbp + CFA*8
	UnwindKindPLT     = 4 // the frame is at rsp + 8, or rsp + 16 from byte BP of a 16-byte entry on
	UnwindKindSignal  = 5 // rsp points to a struct ucontext
	UnwindKindAligned = 6 // the frame's address is stored at rbp - CFA*8, the caller's rbp at rbp
)

// GlobalsMap is the one-entry mmap-able array (role MapState) that holds what all programs share. It starts with a header of GlobalsHeader
// bytes; behind it are the wake-up lines (below) and the scalars of the script (GlobalSlot.Map names this array).
//
// Wake-ups: a program passes BPF_RB_NO_WAKEUP with every event, but the first one of each CPU in each tick of the clock (1/HZ s)
// forces a wake-up, and so does exit. A reader that found the ring empty must therefore look again for one tick and a bit before it
// blocks, or block with that timeout once after each batch.
const (
	GlobalsMap     = "globals"
	GlobalsHeader  = 64
	GlobalsStartNS = 0  // u64 written by the runtime before the first program runs: bpf_ktime_get_boot_ns's clock, what `elapsed` counts from
	GlobalsTAI     = 16 // i64 written by the runtime: TAI minus that clock, in ns
	GlobalsZero    = 8  // u64 that stays 0; an unknown value to the verifier
)
