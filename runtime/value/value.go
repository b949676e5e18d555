package value

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/sonde-sh/sonde/lang/types"
)

// Kind is the kind of a decoded value.
type Kind uint8

// Kinds of values.
const (
	Null Kind = iota
	Bool
	Int
	Uint
	Str
	Number // S is the text of a number that is no integer
	Array  // List
	Buf    // S holds the bytes
	Tuple  // List
	Record // List, Names
	Sym    // S is what text shows, U what JSON shows
	Histogram
	Series
)

// V is a decoded value.
type V struct {
	Kind  Kind
	Int   int64
	U     uint64
	S     string
	List  []V
	Names []string
	Hist  *Hist
	TS    []Point
	Stack bool // S is the lines of a stack
}

// Resolver answers what only the machine knows.
type Resolver interface {
	// KernelSymbol gives "name" or, with offset, "name+12"; the address in hexadecimal when there is none.
	KernelSymbol(addr uint64, offset bool) string
	UserSymbol(pid uint32, addr uint64, offset bool) string
	// Stack gives the text of a stack value: lines indented by indent spaces, with a leading line break; "" for no stack.
	Stack(t *types.Type, id uint64, indent int) string
	Username(uid uint32) string
	// WallTime converts a timestamp taken with the clock of the mode ("", "boot", "monotonic", "tai", "sw_tai") to wall time.
	WallTime(mode string, ns uint64) time.Time
	CgroupPath(id uint64, filter string) string
	ProbeName(index uint64) string
	// FuncName names the function of an attach point.
	FuncName(index uint64) string
	SyscallName(nr int64) string
}

// Decoder decodes values.
type Decoder struct {
	R Resolver
	// Trailer is added to strings that fill their type ("..").
	Trailer string
	// Indent of stack lines; bpftrace's 8 for values (4 in older versions).
	Indent int
}

var order = binary.NativeEndian

// Word reads an integer of n bytes, extended to 64 bits.
func Word(b []byte, n int, signed bool) uint64 {
	switch n {
	case 1:
		if signed {
			return uint64(int64(int8(b[0])))
		}
		return uint64(b[0])
	case 2:
		if v := order.Uint16(b); signed {
			return uint64(int64(int16(v)))
		} else {
			return uint64(v)
		}
	case 4:
		if v := order.Uint32(b); signed {
			return uint64(int64(int32(v)))
		} else {
			return uint64(v)
		}
	}
	return order.Uint64(b)
}

func integer(v uint64, signed bool) V {
	if signed {
		return V{Kind: Int, Int: int64(v)}
	}
	return V{Kind: Uint, U: v}
}

// Value decodes a value of type t from b, which holds at least t.Size bytes (less gives a Null).
func (d *Decoder) Value(t *types.Type, b []byte) V {
	if len(b) < t.Size || t == nil {
		return V{}
	}
	switch t.Kind {
	case types.Bool:
		return V{Kind: Bool, U: uint64(b[0])}
	case types.Int:
		return integer(Word(b, t.Size, t.Signed), t.Signed)
	case types.Enum:
		v := Word(b, t.Size, t.Signed)
		return V{Kind: Sym, S: t.Enum.Text(int64(v)), U: v}
	case types.Pointer:
		v := order.Uint64(b)
		return V{Kind: Sym, S: "0x" + strconv.FormatUint(v, 16), U: v}
	case types.String:
		return V{Kind: Str, S: d.str(b[:t.Size])}
	case types.Buffer:
		n := min(int(order.Uint32(b)), t.Size-4)
		return V{Kind: Buf, S: string(b[4 : 4+n])}
	case types.Array:
		return d.array(t, b)
	case types.Struct, types.Args:
		return d.structure(t.Struct.Resolve(), b)
	case types.Tuple, types.Record:
		v := V{Kind: Tuple, List: make([]V, len(t.Fields))}
		for i, f := range t.Fields {
			v.List[i] = d.Value(f.Type, b[f.Offset:])
			if t.Kind == types.Record {
				v.Names = append(v.Names, f.Name)
			}
		}
		if t.Kind == types.Record {
			v.Kind = Record
		}
		return v
	}
	return d.special(t, b)
}

func (d *Decoder) str(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return string(b[:i])
	}
	return string(b) + d.Trailer
}

func (d *Decoder) array(t *types.Type, b []byte) V {
	v := V{Kind: Array, List: make([]V, t.Len)}
	for i := range v.List {
		v.List[i] = d.Value(t.Elem, b[i*t.Elem.Size:])
	}
	return v
}

func (d *Decoder) structure(fields []types.Field, b []byte) V {
	v := V{Kind: Record}
	for _, f := range fields {
		if f.Name == "" && f.Type.Kind == types.Struct && f.Offset <= len(b) { // its members are those of the struct around it
			inner := d.structure(f.Type.Struct.Resolve(), b[f.Offset:])
			v.Names, v.List = append(v.Names, inner.Names...), append(v.List, inner.List...)
			continue
		}
		v.Names = append(v.Names, f.Name)
		switch {
		case f.Offset > len(b):
			v.List = append(v.List, V{})
		case f.BitSize > 0:
			v.List = append(v.List, bitfield(f, b))
		default:
			v.List = append(v.List, d.Value(f.Type, b[f.Offset:]))
		}
	}
	return v
}

func bitfield(f types.Field, b []byte) V {
	var word uint64
	for i := 7; i >= 0; i-- {
		if f.Offset+i < len(b) {
			word = word<<8 | uint64(b[f.Offset+i])
		}
	}
	word = word >> f.BitOffset << (64 - f.BitSize)
	if f.Type.Signed {
		return V{Kind: Int, Int: int64(word) >> (64 - f.BitSize)}
	}
	return V{Kind: Uint, U: word >> (64 - f.BitSize)}
}

// special decodes the types whose text needs the machine or more than the bytes.
func (d *Decoder) special(t *types.Type, b []byte) V {
	switch t.Kind {
	case types.KStack, types.UStack:
		return V{Kind: Str, S: d.R.Stack(t, order.Uint64(b), d.Indent), Stack: true}
	case types.KSym:
		return V{Kind: Str, S: d.R.KernelSymbol(order.Uint64(b), false)}
	case types.USym:
		return V{Kind: Str, S: d.R.UserSymbol(order.Uint32(b[8:]), order.Uint64(b), false)}
	case types.Inet:
		return V{Kind: Str, S: inet(order.Uint64(b), b[8:24])}
	case types.Mac:
		return V{Kind: Str, S: fmt.Sprintf("%02X:%02X:%02X:%02X:%02X:%02X", b[0], b[1], b[2], b[3], b[4], b[5])}
	case types.Username:
		return V{Kind: Str, S: d.R.Username(uint32(order.Uint64(b)))}
	case types.Probe:
		return V{Kind: Str, S: d.R.ProbeName(order.Uint64(b))}
	case types.Func:
		if n := order.Uint64(b); n>>63 == 0 {
			return V{Kind: Str, S: d.R.FuncName(n)}
		}
		return V{Kind: Str, S: d.R.KernelSymbol(order.Uint64(b), false)}
	case types.Timestamp:
		return V{Kind: Str, S: Strftime(t.Format, d.R.WallTime(t.Name, order.Uint64(b)))}
	case types.CgroupPath:
		return V{Kind: Str, S: d.R.CgroupPath(order.Uint64(b), t.Format)}
	case types.Strerror:
		return V{Kind: Str, S: ErrnoText(int64(order.Uint64(b)))}
	case types.Signal:
		return V{Kind: Str, S: signalName(int64(order.Uint64(b)))}
	case types.Syscall:
		return V{Kind: Str, S: d.R.SyscallName(int64(order.Uint64(b)))}
	}
	return V{}
}

func inet(family uint64, addr []byte) string {
	const afInet, afInet6 = 2, 10
	switch family {
	case afInet:
		return netip.AddrFrom4([4]byte(addr[:4])).String()
	case afInet6:
		a := netip.AddrFrom16([16]byte(addr[:16]))
		// inet_ntop writes v4-mapped addresses as ::ffff:1.2.3.4, as netip does.
		return a.String()
	}
	return ""
}
