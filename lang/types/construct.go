package types

import (
	"fmt"
	"strings"
)

// Predeclared types.
var (
	TVoid    = &Type{Kind: Void}
	TBool    = &Type{Kind: Bool, Size: 1}
	TInt8    = &Type{Kind: Int, Size: 1, Signed: true}
	TInt16   = &Type{Kind: Int, Size: 2, Signed: true}
	TInt32   = &Type{Kind: Int, Size: 4, Signed: true}
	TInt64   = &Type{Kind: Int, Size: 8, Signed: true}
	TUint8   = &Type{Kind: Int, Size: 1}
	TUint16  = &Type{Kind: Int, Size: 2}
	TUint32  = &Type{Kind: Int, Size: 4}
	TUint64  = &Type{Kind: Int, Size: 8}
	TInvalid = &Type{Kind: Invalid}
)

// IntOf returns the integer type of size bytes.
func IntOf(size int, signed bool) *Type {
	switch {
	case signed && size == 1:
		return TInt8
	case signed && size == 2:
		return TInt16
	case signed && size == 4:
		return TInt32
	case signed:
		return TInt64
	case size == 1:
		return TUint8
	case size == 2:
		return TUint16
	case size == 4:
		return TUint32
	}
	return TUint64
}

// StringOf returns string[size]; the size counts the terminating NUL.
func StringOf(size int) *Type { return &Type{Kind: String, Size: size} }

// BufferOf returns a buffer that holds up to n bytes of data.
func BufferOf(n int) *Type { return &Type{Kind: Buffer, Size: n + 4} }

// PointerTo returns a pointer type.
func PointerTo(elem *Type, space Space, prov Provenance) *Type {
	return &Type{Kind: Pointer, Size: 8, Elem: elem, Space: space, Prov: prov}
}

// ArrayOf returns elem[n].
func ArrayOf(elem *Type, n int) *Type {
	return &Type{Kind: Array, Size: elem.Size * n, Elem: elem, Len: n}
}

// SameEnum reports whether two definitions are one enum: by name, where they have one.
func SameEnum(a, b *EnumDef) bool {
	return a == b || a != nil && b != nil && a.Name != "" && a.Name == b.Name
}

// TupleOf lays out a tuple as C would a struct: natural alignment (8 at most), size rounded up to the alignment.
// Equal values have equal bytes only when padding is zero; lowering zeroes it. Names make it a Record.
func TupleOf(elems []*Type, names []string) *Type {
	t := &Type{Kind: Tuple}
	if names != nil {
		t.Kind = Record
	}
	off, align := 0, 1
	for i, e := range elems {
		a := Align(e)
		align = max(align, a)
		off = (off + a - 1) / a * a
		f := Field{Type: e, Offset: off, ArgIndex: -1}
		if names != nil {
			f.Name = names[i]
		}
		t.Fields = append(t.Fields, f)
		off += e.Size
	}
	t.Size = (off + align - 1) / align * align
	return t
}

// Align returns the alignment of a type in bytes.
func Align(t *Type) int {
	switch t.Kind {
	case Int, Enum, Bool:
		return max(t.Size, 1)
	case String, Mac:
		return 1
	case Buffer:
		return 4
	case Array:
		return Align(t.Elem)
	case Tuple, Record:
		a := 1
		for _, f := range t.Fields {
			a = max(a, Align(f.Type))
		}
		return a
	case Struct:
		return 1 // packed structs exist; readers never assume more
	}
	return 8
}

// IsInteger reports whether t takes part in integer arithmetic.
func (t *Type) IsInteger() bool { return t.Kind == Int || t.Kind == Bool || t.Kind == Enum }

// IsAggregation reports whether t is the value of an aggregation map.
func (t *Type) IsAggregation() bool { return t.Kind >= Count && t.Kind <= TSeries }

// IsScalar reports whether a value of t is one 64-bit IR value; everything else is a place in memory.
func (t *Type) IsScalar() bool {
	switch t.Kind {
	case Bool, Int, Enum, Pointer, KSym, Username, Probe, Func, Strerror, Signal, Syscall, KStack, UStack:
		return true
	}
	return false
}

// IsStack reports whether t is a kernel or user stack.
func (t *Type) IsStack() bool { return t.Kind == KStack || t.Kind == UStack }

// Equal reports whether two types are the same, sizes and signs included; address space and provenance of pointers do not count.
func Equal(a, b *Type) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || a.Kind != b.Kind || a.Size != b.Size || a.Signed != b.Signed || a.Len != b.Len ||
		len(a.Fields) != len(b.Fields) || a.Mode != b.Mode || a.Frames != b.Frames ||
		a.Bits != b.Bits || a.Lo != b.Lo || a.Hi != b.Hi || a.Step != b.Step || a.Format != b.Format ||
		a.IntervalNS != b.IntervalNS || a.Buckets != b.Buckets || a.Agg != b.Agg {
		return false
	}
	switch a.Kind {
	case Pointer, Array:
		if (a.Elem == nil) != (b.Elem == nil) {
			return false
		}
		return a.Elem == nil || Equal(a.Elem, b.Elem)
	case Struct, Args:
		return a.Struct == b.Struct || (a.Struct != nil && b.Struct != nil && a.Struct.Name == b.Struct.Name && a.Struct.Name != "")
	case Enum:
		return SameEnum(a.Enum, b.Enum)
	case Tuple, Record:
		for i := range a.Fields {
			if a.Fields[i].Name != b.Fields[i].Name || !Equal(a.Fields[i].Type, b.Fields[i].Type) {
				return false
			}
		}
	}
	return true
}

var kindNames = [...]string{
	Invalid: "invalid", Void: "void", Bool: "bool", Inet: "inet", Mac: "mac_address", KStack: "kstack", UStack: "ustack", KSym: "ksym_t", USym: "usym_t",
	Username: "username", Probe: "probe", Func: "func", Timestamp: "timestamp", CgroupPath: "cgroup_path_t", Strerror: "strerror_t",
	Signal: "signal", Syscall: "syscall", Args: "args", Module: "module", TypeValue: "type", Count: "count_t", Sum: "sum_t", Avg: "avg_t",
	Min: "min_t", Max: "max_t", Stats: "stats_t", Hist: "hist_t", LHist: "lhist_t", TSeries: "tseries_t", MapKind: "map",
}

var stackModes = [...]string{StackBpftrace: "bpftrace", StackPerf: "perf", StackRaw: "raw", StackBuildID: "build_id"}

// String returns the type as the language writes it: uint64, string[64], struct task_struct *, (int64,string[16]).
func (t *Type) String() string {
	if t == nil {
		return "none"
	}
	switch t.Kind {
	case Int:
		s := fmt.Sprintf("int%d", t.Size*8)
		if !t.Signed {
			s = "u" + s
		}
		return s
	case Enum:
		if t.Enum.Name == "" {
			return "enum (anonymous)"
		}
		return "enum " + t.Enum.Name
	case KStack, UStack: // two stacks of one kind are of one type only if they print alike and have as many frames
		frames := t.Frames
		switch frames {
		case 0:
			frames = DefaultFrames
		case NoFrames:
			frames = 0
		}
		return fmt.Sprintf("%s_%s_%d", kindNames[t.Kind], stackModes[t.Mode], frames)
	case String:
		return fmt.Sprintf("string[%d]", t.Size)
	case Buffer:
		return fmt.Sprintf("buffer[%d]", t.Size-4)
	case Pointer:
		if t.Elem == nil || t.Elem.Kind == Void {
			return "void *"
		}
		sep := " *"
		if strings.HasSuffix(t.Elem.String(), "*") {
			sep = "*"
		}
		return t.Elem.String() + sep
	case Array:
		return fmt.Sprintf("%s[%d]", t.Elem, t.Len)
	case Struct:
		kw := "struct "
		if t.Struct.Union {
			kw = "union "
		}
		if t.Struct.Name == "" {
			return kw + "(anonymous)"
		}
		return kw + t.Struct.Name
	case Tuple:
		names := make([]string, len(t.Fields))
		for i, f := range t.Fields {
			names[i] = f.Type.String()
		}
		return "(" + strings.Join(names, ",") + ")"
	case Record:
		names := make([]string, len(t.Fields))
		for i, f := range t.Fields {
			names[i] = "." + f.Name + " = " + f.Type.String()
		}
		return "record { " + strings.Join(names, ", ") + " }"
	}
	if int(t.Kind) < len(kindNames) && kindNames[t.Kind] != "" {
		return kindNames[t.Kind]
	}
	return fmt.Sprintf("kind(%d)", t.Kind)
}

// Partner returns the place in b of the field that belongs to field i of a, -1 when b has none: the same place in tuples, the same name in
// records, whose order does not matter.
func Partner(a *Type, i int, b *Type) int {
	if a.Kind != Record {
		if i < len(b.Fields) {
			return i
		}
		return -1
	}
	for j := range b.Fields {
		if b.Fields[j].Name == a.Fields[i].Name {
			return j
		}
	}
	return -1
}
