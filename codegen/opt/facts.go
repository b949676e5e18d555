package opt

import (
	"math"
	"math/bits"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
)

// interval is what is known of a value: at most max as an unsigned number, between smin and smax as a signed one.
type interval struct {
	max        uint64
	smin, smax int64
}

var anything = interval{math.MaxUint64, math.MinInt64, math.MaxInt64}

// upTo is the interval from 0 to n.
func upTo(n uint64) interval {
	if n > math.MaxInt64 {
		return interval{n, math.MinInt64, math.MaxInt64}
	}
	return interval{n, 0, int64(n)}
}

// signedBits is the interval of sign-extended integers of n bits.
func signedBits(n int) interval {
	return interval{math.MaxUint64, -1 << (n - 1), 1<<(n-1) - 1}
}

// maxDepth bounds how far facts look back.
const maxDepth = 6

// factsOf derives an interval from the ops that make the value. With plain set only ops are used whose bounds every kernel's verifier tracks as
// well, which is what the removal of a bound needs.
func factsOf(v *ir.Value, plain bool, depth int) interval {
	if depth > maxDepth {
		return anything
	}
	arg := func(i int) interval { return factsOf(v.Args[i], plain, depth+1) }
	constant := func(i int) (uint64, bool) { return uint64(v.Args[i].Imm), v.Args[i].Op == ir.OpConst }
	if ir.Ops[v.Op].Compare {
		return upTo(1)
	}
	switch v.Op {
	case ir.OpConst:
		return interval{uint64(v.Imm), v.Imm, v.Imm}
	case ir.OpLoad:
		switch {
		case v.Type != ir.I64 || v.Size == 8:
		case v.Signed:
			return signedBits(int(v.Size) * 8)
		default:
			return upTo(1<<(8*v.Size) - 1)
		}
	case ir.OpZExt:
		if in := arg(0); in.max <= 1<<v.Size-1 {
			return in
		}
		return upTo(1<<v.Size - 1)
	case ir.OpSExt:
		if in := arg(0); fits(in, int(v.Size)) {
			return in
		}
		return signedBits(int(v.Size))
	case ir.OpBswap:
		if v.Size < 64 {
			return upTo(1<<v.Size - 1)
		}
	case ir.OpAnd:
		x, y := arg(0), arg(1)
		return upTo(min(x.max, y.max))
	case ir.OpOr, ir.OpXor:
		x, y := arg(0), arg(1)
		if n := bits.Len64(x.max | y.max); n < 64 {
			return upTo(1<<n - 1)
		}
	case ir.OpLShr:
		if n, ok := constant(1); ok {
			return upTo(arg(0).max >> (n & 63))
		}
	case ir.OpShl:
		if n, ok := constant(1); ok {
			if x := arg(0); bits.Len64(x.max)+int(n&63) < 64 {
				return upTo(x.max << (n & 63))
			}
		}
	case ir.OpAShr:
		if n, ok := constant(1); ok {
			x := arg(0)
			if x.max <= math.MaxInt64 {
				return upTo(x.max >> (n & 63))
			}
			return interval{math.MaxUint64, x.smin >> (n & 63), x.smax >> (n & 63)}
		}
	case ir.OpAdd:
		x, y := arg(0), arg(1)
		if sum := x.max + y.max; sum >= x.max && x.smin >= 0 && y.smin >= 0 {
			return upTo(sum)
		}
	case ir.OpMul:
		x, y := arg(0), arg(1)
		if hi, lo := bits.Mul64(x.max, y.max); hi == 0 {
			return upTo(lo)
		}
	case ir.OpUDiv:
		if n, ok := constant(1); ok && n > 0 && !plain {
			return upTo(arg(0).max / n)
		}
	case ir.OpUMod:
		if n, ok := constant(1); ok && n > 0 && !plain {
			return upTo(min(n-1, arg(0).max))
		}
	case ir.OpBound:
		return upTo(min(uint64(v.Imm), arg(0).max))
	case ir.OpSelect:
		if v.Type == ir.I64 {
			x, y := arg(1), arg(2)
			return interval{max(x.max, y.max), min(x.smin, y.smin), max(x.smax, y.smax)}
		}
	case ir.OpHelper:
		if asm.BuiltinFunc(v.Imm) == asm.FnGetSmpProcessorId && !plain {
			return upTo(math.MaxInt32)
		}
		if asm.BuiltinFunc(v.Imm) == asm.FnGetPrandomU32 && !plain {
			return upTo(math.MaxUint32)
		}
	}
	return anything
}

// facts is factsOf with all knowledge.
func facts(v *ir.Value) interval { return factsOf(v, false, 0) }

// fits reports whether sign extension from n bits changes nothing.
func fits(in interval, n int) bool {
	s := signedBits(n)
	return in.smin >= s.smin && in.smax <= s.smax
}

// isStable lists the helpers whose result is the same during one run of a program and that do nothing else.
func isStable(v *ir.Value) bool {
	if v.Op != ir.OpHelper {
		return false
	}
	switch asm.BuiltinFunc(v.Imm) {
	case asm.FnGetCurrentPidTgid, asm.FnGetCurrentUidGid, asm.FnGetCurrentTask, asm.FnGetCurrentTaskBtf, asm.FnGetSmpProcessorId,
		asm.FnGetCurrentCgroupId, asm.FnGetNumaNodeId, asm.FnGetAttachCookie, asm.FnGetFuncIp:
		return true
	default:
	}
	return false
}

// dropStable removes calls of stable helpers whose result is not used.
func dropStable(f *ir.Func) bool {
	uses := f.UseCounts()
	changed := false
	for _, b := range f.Blocks {
		kept := b.Values[:0]
		for _, v := range b.Values {
			if isStable(v) && uses[v.ID] == 0 {
				changed = true
				continue
			}
			kept = append(kept, v)
		}
		clear(b.Values[len(kept):])
		b.Values = kept
	}
	return changed
}
