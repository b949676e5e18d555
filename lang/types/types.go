// Package types holds the semantic types of the language: what a value is, how many bytes it takes and how it prints.
//
// Types are immutable pointers; compare them with [Equal], not with ==. The package imports nothing of ours and knows no
// kernel: structs, enums and function prototypes come from a [Source] (BTF, DWARF, C definitions of the script, fixtures).
package types

import (
	"strconv"
	"strings"
)

// Kind is the kind of a type. The zero Kind is invalid.
type Kind uint8

// The kinds. Those from Count to TSeries are aggregations and appear only as map values.
const (
	Invalid Kind = iota
	Void
	Bool
	Int     // Size 1, 2, 4, 8; Signed
	Enum    // Enum set; stored as an integer of Size bytes
	Pointer // Elem, Space, Prov
	String  // Size bytes, NUL-terminated within, zero padded
	Buffer  // u32 length, then Size-4 bytes of data
	Array   // Elem, Len
	Struct  // Struct set: C struct or union by name
	Tuple   // Fields without names
	Record  // Fields with names
	Inet    // u64 family, then 16 bytes of address (Size 24)
	Mac     // 6 bytes
	KStack  // see StackMode, Frames; representation: u64 stack id (codegen/object.StackRef)
	UStack
	KSym      // u64 address
	USym      // u64 address, u32 pid, u32 reserved (Size 16)
	Username  // u32 uid in a u64
	Probe     // u64 index into the object's table of attach point names
	Func      // u64 address, or index when the target names functions by table
	Timestamp // u64 ns since boot and the format's index (Size 16)
	CgroupPath
	Strerror // i64 errno
	Signal   // i64 signal number, prints its name
	Syscall  // i64 syscall number, prints its name
	Args     // the `args` builtin as a whole: Struct set
	Module   // typeinfo and similar compile-time values
	TypeValue
	Count // aggregations: per-CPU values summed by user space
	Sum
	Avg
	Min
	Max
	Stats
	Hist
	LHist
	TSeries
	MapKind // a map used as a value (`&@m`, passing @m to a macro)
)

// Space is an address space of a pointer.
type Space uint8

// Address spaces. SpaceNone is an integer cast to a pointer in a probe where either may be meant.
const (
	SpaceNone Space = iota
	SpaceKernel
	SpaceUser
	SpaceBPF // points into the program's own memory: stack, scratch, map value
)

// Provenance says how a pointer may be read; lowering picks a plain load where the verifier allows one.
type Provenance uint8

// Provenances.
const (
	ProvRaw Provenance = iota // an address: needs a probe_read helper
	ProvCtx                   // the program's context
	ProvBTF                   // trusted or at least BTF-typed kernel pointer (PTR_TO_BTF_ID): plain loads
	ProvBPF                   // stack, scratch or map value: plain loads and stores
)

// StackMode is how a stack prints.
type StackMode uint8

// Stack modes.
const (
	StackBpftrace StackMode = iota
	StackPerf
	StackRaw
	StackBuildID
)

// NoFrames is the limit of a stack that keeps nothing: kstack(0).
const NoFrames = -1

// DefaultFrames is the limit of a stack without one.
const DefaultFrames = 127

// Type is one type.
type Type struct {
	Kind   Kind
	Size   int  // bytes; 0 for Void, Invalid and not yet known strings
	Signed bool // Int, Enum, Sum/Min/Max/Avg/Stats of signed values
	Elem   *Type
	Len    int // Array length
	Space  Space
	Prov   Provenance
	Fields []Field // Tuple, Record
	Struct *StructDef
	Enum   *EnumDef
	Name   string // the name the type was written with (typedef), for messages and printing; may be ""
	// Declared marks a pointer to a struct that its own type information only declares (a BTF_KIND_FWD): Elem is from elsewhere, and the
	// verifier knows no more than an address.
	Declared bool

	// Stacks.
	Mode   StackMode
	Frames int // limit; 0 is the default of 127, NoFrames none at all

	// Hist: Bits is the second argument (sub-buckets per power of two = 1<<Bits); LHist: Lo, Hi, Step.
	Bits         int
	Lo, Hi, Step int64
	// TSeries: interval in ns, number of intervals, aggregation.
	IntervalNS int64
	Buckets    int
	Agg        Kind

	// Timestamp: strftime's format and mode; Buffer: how %r prints. Free for builtins that need a literal at render time.
	Format string
}

// Field is a member of a tuple, record or struct.
type Field struct {
	Name   string
	Type   *Type
	Offset int // bytes
	// Bit-fields: BitSize > 0; BitOffset counts from the byte Offset, in the target's bit order (little endian).
	BitOffset, BitSize int
	// DataLoc marks a tracepoint's __data_loc field: the u32 there holds offset (low 16) and length (high 16) of the data
	// relative to the record; Type is then the type of the data. RelLoc is relative to the end of the field.
	DataLoc, RelLoc bool
	// ArgIndex is the position of a function argument (Args structs of fentry, rawtracepoint, uprobe); -1 when it lives in
	// memory at Offset. CtxOffset fields are read from the context with plain loads.
	ArgIndex int
	// Text marks a pointer to text: where no number is needed, the member stands for the string that it points to.
	Text bool
}

// StructDef is a C struct or union. Fields are read lazily, because kernel structs are large.
type StructDef struct {
	Name    string // tag without "struct"; "" for anonymous
	Union   bool
	Size    int
	Resolve func() []Field // may be called more than once and concurrently; must return the same fields
}

// Field finds a member by name, looking through anonymous members; the offset of the result counts from the start of s.
func (s *StructDef) Field(name string) (Field, bool) {
	for _, f := range s.Resolve() {
		if f.Name == name {
			return f, true
		}
		if f.Name == "" && f.Type.Kind == Struct {
			if g, ok := f.Type.Struct.Field(name); ok {
				g.Offset += f.Offset
				return g, true
			}
		}
	}
	return Field{}, false
}

// EnumDef is a C enum.
type EnumDef struct {
	Name   string
	Size   int
	Signed bool
	Values []EnumValue
	// Bits marks a set of flags: a value prints as the names of its bits, joined by |. The bits in Choice are one number, which Values
	// names as a whole (the access mode of open's flags).
	Bits   bool
	Choice int64
	// Base is the base in which what has no name prints: 8, 16, or 0 for the usual one (16 for flags, 10 for all else).
	Base int
}

// EnumValue is one enumerator.
type EnumValue struct {
	Name  string
	Value int64
}

// ValueName returns the first enumerator with the value.
func (e *EnumDef) ValueName(v int64) (string, bool) {
	for _, x := range e.Values {
		if x.Value == v {
			return x.Name, true
		}
	}
	return "", false
}

// Text writes a value as it prints: by name where it has one.
func (e *EnumDef) Text(v int64) string {
	if !e.Bits {
		if name, ok := e.ValueName(v); ok {
			return name
		}
		return e.number(v)
	}
	var names []string
	rest := uint64(v)
	if e.Choice != 0 {
		if name, ok := e.ValueName(v & e.Choice); ok {
			names, rest = append(names, name), rest&^uint64(e.Choice)
		}
	}
	for _, x := range e.Values { // names of several bits stand before those of their parts
		bits := uint64(x.Value)
		if bits == 0 || bits&uint64(e.Choice) != 0 || rest&bits != bits {
			continue
		}
		names, rest = append(names, x.Name), rest&^bits
	}
	switch {
	case len(names) == 0 && rest == 0:
		if name, ok := e.ValueName(0); ok {
			return name
		}
		return "0"
	case rest != 0:
		names = append(names, e.number(int64(rest)))
	}
	return strings.Join(names, "|")
}

func (e *EnumDef) number(v int64) string {
	switch {
	case v == 0:
		return "0"
	case e.Base == 8:
		return "0" + strconv.FormatUint(uint64(v), 8)
	case e.Base == 16 || e.Bits && e.Base == 0:
		return "0x" + strconv.FormatUint(uint64(v), 16)
	}
	return strconv.FormatInt(v, 10)
}

// Proto is a function's prototype.
type Proto struct {
	Name   string
	Params []Field // ArgIndex counts from 0
	Result *Type
	Module string // "" or "vmlinux" for the kernel itself
}

// Source gives named types. Implementations: BTF of the target, C definitions of the script (which shadow it), fixtures.
// Lookups return nil when the name is unknown. Implementations are safe for concurrent use.
type Source interface {
	StructType(name string) *Type // struct or union by tag
	EnumType(name string) *Type
	Typedef(name string) *Type
	EnumConst(name string) (value int64, typ *Type, ok bool)
	FuncProto(name string) *Proto
	// Names returns names with the prefix for suggestions and completion: what is "struct", "enum", "typedef", "const" or "func".
	Names(what, prefix string, limit int) []string
}
