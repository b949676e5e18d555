package kernel

import (
	"strconv"
	"strings"
)

// CKind is the class of a C type as text names it.
type CKind uint8

// The classes of C types. A name that is neither a C integer nor a well-known typedef is CTypedef: its class is in BTF.
const (
	CTypedef CKind = iota
	CVoid
	CInt
	CBool
	CStruct
	CUnion
	CEnum
	CFunc // pointer to function, Pointers is then 1
)

// CType is a C type given as text, taken apart: what a trace event's format file says, or a user's cast.
type CType struct {
	Kind CKind

	// Base is the name without qualifiers and in one spelling: "unsigned int", "char", "u32", "struct file", "pid_t".
	Base string

	// Size in bytes and signedness of the base when the name alone tells them, else 0 and false. `char` is signed here
	// (as on x86; fields of trace events carry their own signedness).
	Size   int
	Signed bool

	Pointers int   // levels of `*`
	Dims     []int // array dimensions, outermost first; -1 where the text has none or a name
	User     bool  // marked __user
}

// IsPointer reports whether a value is an address (and not an array of them).
func (c CType) IsPointer() bool { return c.Pointers > 0 && len(c.Dims) == 0 }

// IsChar reports whether the base is a plain byte of text.
func (c CType) IsChar() bool { return c.Base == "char" }

// Elem is the size of one element of an array or the size of the whole when it is none; 0 when unknown.
func (c CType) Elem() int {
	if c.Pointers > 0 {
		return 8
	}
	return c.Size
}

// cInts are the names whose size does not depend on the kernel's configuration on 64-bit machines. Typedefs that do (or
// that only some kernel part knows) are left to BTF.
var cInts = map[string]struct {
	size   int
	signed bool
}{
	"char": {1, true}, "signed char": {1, true}, "unsigned char": {1, false},
	"short": {2, true}, "unsigned short": {2, false}, "int": {4, true}, "unsigned int": {4, false},
	"long": {8, true}, "unsigned long": {8, false}, "long long": {8, true}, "unsigned long long": {8, false},
	"s8": {1, true}, "u8": {1, false}, "s16": {2, true}, "u16": {2, false}, "s32": {4, true}, "u32": {4, false},
	"s64": {8, true}, "u64": {8, false}, "__s8": {1, true}, "__u8": {1, false}, "__s16": {2, true}, "__u16": {2, false},
	"__s32": {4, true}, "__u32": {4, false}, "__s64": {8, true}, "__u64": {8, false},
	"int8_t": {1, true}, "uint8_t": {1, false}, "int16_t": {2, true}, "uint16_t": {2, false}, "int32_t": {4, true},
	"uint32_t": {4, false}, "int64_t": {8, true}, "uint64_t": {8, false}, "uint": {4, false}, "ulong": {8, false},
	"__le16": {2, false}, "__le32": {4, false}, "__le64": {8, false}, "__be16": {2, false}, "__be32": {4, false},
	"__be64": {8, false}, "size_t": {8, false}, "ssize_t": {8, true}, "uintptr_t": {8, false}, "intptr_t": {8, true},
	"pid_t": {4, true}, "uid_t": {4, false}, "gid_t": {4, false}, "dev_t": {4, false}, "ino_t": {8, false},
	"loff_t": {8, true}, "off_t": {8, true}, "umode_t": {2, false}, "mode_t": {4, false}, "gfp_t": {4, false},
	"sector_t": {8, false}, "blkcnt_t": {8, false}, "time64_t": {8, true}, "clockid_t": {4, true}, "key_t": {4, true},
	"timer_t": {4, true}, "mqd_t": {4, true}, "qid_t": {4, true}, "key_serial_t": {4, true}, "rwf_t": {4, true},
	"aio_context_t": {8, false}, "phys_addr_t": {8, false}, "dma_addr_t": {8, false}, "resource_size_t": {8, false},
	"fmode_t": {4, false}, "socklen_t": {4, true}, "sa_family_t": {2, false}, "ktime_t": {8, true}, "blk_opf_t": {4, false},
}

// ParseCType takes a type apart that is written in C: qualifiers, annotations such as __user and __attribute__, pointers,
// arrays and pointers to functions. It never fails; what it cannot name is a CTypedef with the text as Base.
func ParseCType(text string) CType {
	c := CType{}
	if i := strings.IndexByte(text, '['); i >= 0 {
		c.Dims = parseDims(text[i:])
		text = text[:i]
	}
	if strings.Contains(text, "(*") {
		c.Kind, c.Base, c.Pointers = CFunc, strings.TrimSpace(text), 1
		return c
	}
	c.Pointers = strings.Count(text, "*")
	text = strings.ReplaceAll(text, "*", " ")
	var words []string
	tag := ""
	unsigned, signed, longs, short, char, integer := false, false, 0, false, false, false
	for w := range strings.FieldsSeq(text) {
		switch w {
		case "const", "volatile", "restrict", "__restrict", "register", "static", "extern", "inline", "__rcu", "__percpu",
			"__iomem", "__force", "__private", "__bitwise", "__attribute__((packed))":
		case "__user":
			c.User = true
		case "struct", "union", "enum":
			tag = w
		case "unsigned":
			unsigned = true
		case "signed", "__signed__":
			signed = true
		case "long":
			longs++
		case "short":
			short = true
		case "char":
			char = true
		case "int":
			integer = true
		default:
			if !strings.HasPrefix(w, "__attribute__") {
				words = append(words, w)
			}
		}
	}
	name := strings.Join(words, " ")
	switch {
	case tag != "":
		c.Base = tag + " " + name
		c.Kind = map[string]CKind{"struct": CStruct, "union": CUnion, "enum": CEnum}[tag]
		if c.Kind == CEnum {
			c.Size = 4
		}
		return c
	case name == "" && (unsigned || signed || longs > 0 || short || char || integer):
		switch {
		case char:
			c.Base = "char"
		case short:
			c.Base = "short"
		case longs >= 2:
			c.Base = "long long"
		case longs == 1:
			c.Base = "long"
		default:
			c.Base = "int"
		}
		if unsigned {
			c.Base = "unsigned " + c.Base
		} else if signed && char {
			c.Base = "signed char"
		}
	case name == "void" || name == "":
		c.Base, c.Kind = "void", CVoid
		return c
	case name == "bool" || name == "_Bool":
		c.Base, c.Kind, c.Size = "bool", CBool, 1
		return c
	default:
		c.Base = name
	}
	if i, ok := cInts[c.Base]; ok {
		c.Kind, c.Size, c.Signed = CInt, i.size, i.signed
	}
	return c
}

func parseDims(s string) (dims []int) {
	for strings.HasPrefix(s, "[") {
		in, rest, _ := strings.Cut(s[1:], "]")
		n, err := strconv.ParseUint(strings.TrimSpace(in), 0, 31)
		if err != nil {
			dims = append(dims, -1)
		} else {
			dims = append(dims, int(n))
		}
		s = strings.TrimSpace(rest)
	}
	return dims
}

// String writes the type in the usual spelling: "const" and annotations are gone.
func (c CType) String() string {
	var s strings.Builder
	s.WriteString(c.Base)
	if c.Pointers > 0 && c.Kind != CFunc {
		s.WriteString(" " + strings.Repeat("*", c.Pointers))
	}
	for _, d := range c.Dims {
		s.WriteByte('[')
		if d >= 0 {
			s.WriteString(strconv.Itoa(d))
		}
		s.WriteByte(']')
	}
	return s.String()
}
