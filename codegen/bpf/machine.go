package bpf

import (
	"fmt"
	"math"
	"strings"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/lang/source"
)

// reg is a register: 0 to 9 are r0 to r9, 10 is the frame pointer, those from firstVirtual on are virtual until allocation.
type reg int32

const (
	r0           reg = 0
	r1           reg = 1
	fp           reg = 10
	firstVirtual reg = 11
	noReg        reg = -1
	numColors        = 10 // r0 to r9
)

// callClobbers is the set of registers that a call destroys.
const callClobbers = 0b111111

// kind is the kind of a machine instruction.
type kind uint8

const (
	kMov     kind = iota // dst = src
	kMov32               // dst = zero extended low half of src
	kMovSX               // dst = src's low size bits, sign extended (cpu v4)
	kMovImm              // dst = imm
	kALU                 // dst alu= src, or imm when useImm
	kNeg                 // dst = -dst
	kSwap                // dst = low size bits of dst, bytes reversed
	kLoad                // dst = *(size*)(src + off)
	kStore               // *(size*)(x + off) = src, or imm
	kAtomic              // atomic op on *(size*)(x + off) with src; fetch: src becomes the old value
	kCmpXchg             // r0 expected and old, src new
	kFrame               // dst = fp + slot + off: two instructions
	kMapRef              // dst = map name
	kMapVal              // dst = address of byte off in the value of map name
	kFuncRef             // dst = function
	kHelper              // r0 = helper imm(r1 ... r nargs)
	kKfunc               // r0 = kfunc name
	kCall                // r0 = fn(r1 ...)
	kSet                 // dst = x cond (src or imm): dst = 1; if x cond y goto +1; dst = 0
	kSelect              // if x cond (src or imm) goto +1; dst = z or imm2
	kBound               // if dst <= imm goto +1; dst = imm; dst &= a mask that holds imm
	kReload              // dst = spill slot imm
	kSpill               // spill slot imm = src
)

// inst is one machine instruction. Registers that an instruction lacks are noReg. A load or store with slot set is relative to
// that slot in the frame and its base register is fp.
type inst struct {
	kind   kind
	alu    asm.ALUOp
	atomic asm.AtomicOp
	cond   asm.JumpOp
	dst    reg
	src    reg
	x      reg
	z      reg
	imm    int64
	imm2   int64
	off    int32
	size   uint8 // bytes of a memory access, bits of an extension or swap
	useImm bool
	w32    bool // 32-bit ALU op
	signed bool
	nargs  uint8
	slot   *ir.Slot
	name   string
	fn     *ir.Func
	span   source.Span
}

// each calls fn for every register that the instruction names. Call arguments and clobbers are not named; see uses and clobbers.
func (in *inst) each(fn func(r *reg, use, def bool)) {
	named := func(r *reg, use, def bool) {
		if *r != noReg && *r != fp {
			fn(r, use, def)
		}
	}
	switch in.kind {
	case kMov, kMov32, kMovSX, kLoad:
		named(&in.src, true, false)
		named(&in.dst, false, true)
	case kMovImm, kFrame, kMapRef, kMapVal, kFuncRef, kReload:
		named(&in.dst, false, true)
	case kALU:
		named(&in.src, true, false)
		named(&in.dst, true, true)
	case kNeg, kSwap, kBound:
		named(&in.dst, true, true)
	case kStore, kCmpXchg:
		named(&in.x, true, false)
		named(&in.src, true, false)
	case kAtomic:
		named(&in.x, true, false)
		named(&in.src, true, in.isFetch())
	case kSet:
		named(&in.x, true, false)
		named(&in.src, true, false)
		named(&in.dst, false, true)
	case kSelect:
		named(&in.x, true, false)
		named(&in.src, true, false)
		named(&in.z, true, false)
		named(&in.dst, true, true)
	case kSpill:
		named(&in.src, true, false)
	default:
	}
}

// isFetch reports whether an atomic op changes its source register.
func (in *inst) isFetch() bool { return in.atomic == asm.FetchAdd || in.atomic == asm.Xchg }

// uses returns the physical registers that the instruction reads without naming them.
func (in *inst) uses() uint32 {
	switch in.kind {
	case kHelper, kKfunc, kCall:
		return (1<<in.nargs - 1) << 1
	case kCmpXchg:
		return 1
	default:
	}
	return 0
}

// clobbers returns the physical registers that the instruction writes without naming them.
func (in *inst) clobbers() uint32 {
	switch in.kind {
	case kHelper, kKfunc, kCall:
		return callClobbers
	case kCmpXchg:
		return 1
	default:
	}
	return 0
}

// isEarly reports whether the instruction writes its result before it has read all operands.
func (in *inst) isEarly() bool { return in.kind == kSet }

// isRemat reports whether the result can be had again for the same price wherever it is used. A reload is used only until its spill slot
// changes.
func (in *inst) isRemat() bool {
	switch in.kind {
	case kMovImm, kFrame, kMapRef, kMapVal, kFuncRef, kReload:
		return true
	default:
	}
	return false
}

// block is a machine block. The terminator is a jump to succs[0]; or, with a condition, a branch to succs[0] when x cond y holds, else to
// succs[1]; or an exit.
type block struct {
	id    int
	insts []inst
	succs []*block
	cold  bool
	depth int // loop depth
	exit  bool
	cond  asm.JumpOp
	x, y  reg // y noReg: imm
	imm   int64
	span  source.Span

	index   int32 // in function.blocks, set by liveness
	liveOut []reg
	pos     int // raw offset, set by layout
}

// function is a machine function.
type function struct {
	ir      *ir.Func
	blocks  []*block // blocks[0] is the entry
	nregs   reg      // one more than the largest register
	spills  int      // number of spill slots
	reloads int      // loads and stores of spill slots, for statistics
	frame   int      // bytes of stack below the frame pointer used by slots
}

func (f *function) newReg() reg {
	f.nregs++
	return f.nregs - 1
}

// fitsImm reports whether n can be the sign-extended 32-bit immediate of an instruction.
func fitsImm(n int64) bool { return n >= math.MinInt32 && n <= math.MaxInt32 }

// fitsOff reports whether n can be the offset of a load or store.
func fitsOff(n int64) bool { return n >= math.MinInt16 && n <= math.MaxInt16 }

// bitset is a set of small integers.
type bitset []uint64

func newBitset(n int) bitset    { return make(bitset, (n+63)/64) }
func (s bitset) has(i reg) bool { return s[i>>6]&(1<<(i&63)) != 0 }
func (s bitset) add(i reg)      { s[i>>6] |= 1 << (i & 63) }
func (s bitset) remove(i reg)   { s[i>>6] &^= 1 << (i & 63) }
func (s bitset) or(t bitset) (ch bool) {
	for i, w := range t {
		if n := s[i] | w; n != s[i] {
			s[i] = n
			ch = true
		}
	}
	return ch
}

// edgeSet is a set of edges between virtual registers, whose key is never 0: a table that is searched from the place of the hash on.
type edgeSet struct {
	table []uint64
	n     int
}

// find gives the place of an edge, or the free one where it belongs.
func (s *edgeSet) find(k uint64) int {
	i := int((k*0x9e3779b97f4a7c15)>>32) & (len(s.table) - 1)
	for s.table[i] != 0 && s.table[i] != k {
		i = (i + 1) & (len(s.table) - 1)
	}
	return i
}

func (s *edgeSet) has(k uint64) bool { return s.n > 0 && s.table[s.find(k)] == k }

// add reports whether the edge is new.
func (s *edgeSet) add(k uint64) bool {
	if 2*s.n >= len(s.table) {
		old := s.table
		s.table = make([]uint64, max(64, 2*len(old)))
		for _, e := range old {
			if e != 0 {
				s.table[s.find(e)] = e
			}
		}
	}
	i := s.find(k)
	if s.table[i] == k {
		return false
	}
	s.table[i] = k
	s.n++
	return true
}

func (r reg) String() string {
	switch {
	case r == noReg:
		return "-"
	case r <= fp:
		return fmt.Sprintf("r%d", int(r))
	}
	return fmt.Sprintf("%%%d", int(r-firstVirtual))
}

var kindNames = [...]string{
	"mov", "mov32", "movsx", "movimm", "alu", "neg", "swap", "load", "store", "atomic", "cmpxchg", "frame", "mapref", "mapval", "funcref",
	"helper", "kfunc", "call", "set", "select", "bound", "reload", "spill",
}

// String prints the machine code, for debugging and tests.
func (f *function) String() string {
	var sb strings.Builder
	for _, b := range f.blocks {
		fmt.Fprintf(&sb, "m%d:\n", b.id)
		for i := range b.insts {
			in := &b.insts[i]
			fmt.Fprintf(&sb, "  %s %s", kindNames[in.kind], in.dst)
			if in.kind == kALU {
				fmt.Fprintf(&sb, " %s", in.alu)
			}
			for _, r := range []reg{in.src, in.x, in.z} {
				fmt.Fprintf(&sb, " %s", r)
			}
			fmt.Fprintf(&sb, " imm %d off %d size %d %s\n", in.imm, in.off, in.size, in.name)
		}
		switch {
		case b.exit:
			sb.WriteString("  exit\n")
		case len(b.succs) == 2:
			fmt.Fprintf(&sb, "  if %s %s %s %d -> m%d m%d\n", b.x, b.cond, b.y, b.imm, b.succs[0].id, b.succs[1].id)
		default:
			fmt.Fprintf(&sb, "  jump m%d\n", b.succs[0].id)
		}
	}
	return sb.String()
}
