package opt

import (
	"math/bits"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/ir/interp"
)

// span of ops in the op table.
func between(lo, hi ir.Op) []ir.Op {
	var out []ir.Op
	for op := lo; op <= hi; op++ {
		out = append(out, op)
	}
	return out
}

var (
	intOps     = append(between(ir.OpAdd, ir.OpSet), ir.OpSelect, ir.OpBound)
	compareOps = between(ir.OpEq, ir.OpSet)
)

// mirrored is the comparison with exchanged operands, inverted the opposite one (OpSet has none).
var (
	mirrored = map[ir.Op]ir.Op{
		ir.OpEq: ir.OpEq, ir.OpNe: ir.OpNe, ir.OpSet: ir.OpSet, ir.OpULt: ir.OpUGt, ir.OpULe: ir.OpUGe, ir.OpUGt: ir.OpULt, ir.OpUGe: ir.OpULe,
		ir.OpSLt: ir.OpSGt, ir.OpSLe: ir.OpSGe, ir.OpSGt: ir.OpSLt, ir.OpSGe: ir.OpSLe,
	}
	inverted = map[ir.Op]ir.Op{
		ir.OpEq: ir.OpNe, ir.OpNe: ir.OpEq, ir.OpULt: ir.OpUGe, ir.OpULe: ir.OpUGt, ir.OpUGt: ir.OpULe, ir.OpUGe: ir.OpULt,
		ir.OpSLt: ir.OpSGe, ir.OpSLe: ir.OpSGt, ir.OpSGt: ir.OpSLe, ir.OpSGe: ir.OpSLt,
	}
)

func isConst(v *ir.Value) bool { return v.Op == ir.OpConst }

// is reports whether v is the constant n.
func is(v *ir.Value, n int64) bool { return v.Op == ir.OpConst && v.Imm == n }

// Rules returns the rewrite rules in the order in which they are tried.
func Rules() []Rule {
	return []Rule{
		{"fold", intOps, fold},
		{"constant-right", append(compareOps, ir.OpAdd, ir.OpMul, ir.OpAnd, ir.OpOr, ir.OpXor), constantRight},
		{"identity", between(ir.OpAdd, ir.OpAShr), identity},
		{"same-operands", []ir.Op{ir.OpSub, ir.OpXor, ir.OpAnd, ir.OpOr}, sameOperands},
		{"subtract-constant", []ir.Op{ir.OpSub}, subtractConstant},
		{"negate", []ir.Op{ir.OpSub, ir.OpAdd, ir.OpNeg, ir.OpNot}, negate},
		{"reassociate", []ir.Op{ir.OpAdd, ir.OpMul, ir.OpAnd, ir.OpOr, ir.OpXor}, reassociate},
		{"shift-of-shift", []ir.Op{ir.OpShl, ir.OpLShr, ir.OpAShr}, shiftOfShift},
		{"power-of-two", []ir.Op{ir.OpMul, ir.OpUDiv, ir.OpUMod, ir.OpSDiv, ir.OpSMod}, powerOfTwo},
		{"positive", []ir.Op{ir.OpSDiv, ir.OpSMod, ir.OpAShr}, positive},
		{"needless-mask", []ir.Op{ir.OpAnd}, needlessMask},
		{"needless-extension", []ir.Op{ir.OpZExt, ir.OpSExt}, needlessExtension},
		{"extension-of-extension", []ir.Op{ir.OpZExt, ir.OpSExt}, extensionOfExtension},
		{"extended-load", []ir.Op{ir.OpZExt, ir.OpSExt}, extendedLoad},
		{"compare-itself", compareOps, compareItself},
		{"compare-range", compareOps, compareRange},
		{"compare-comparison", []ir.Op{ir.OpEq, ir.OpNe}, compareComparison},
		{"compare-sum", []ir.Op{ir.OpEq, ir.OpNe}, compareSum},
		{"compare-edge", []ir.Op{ir.OpULt, ir.OpUGe, ir.OpULe, ir.OpUGt}, compareEdge},
		{"select", []ir.Op{ir.OpSelect}, simplifySelect},
		{"needless-bound", []ir.Op{ir.OpBound}, needlessBound},
		{"address", []ir.Op{ir.OpPtrAdd}, address},
		{"distance", []ir.Op{ir.OpPtrDiff}, distance},
		{"narrow-store", []ir.Op{ir.OpStore}, narrowStore},
		{"bare-address", []ir.Op{ir.OpHelper}, bareAddress},
		{"unused-old-value", []ir.Op{ir.OpFetchAdd}, unusedOldValue},
		{"loaded-address", []ir.Op{ir.OpLoad, ir.OpStore, ir.OpZero, ir.OpAtomicAdd, ir.OpFetchAdd, ir.OpXchg, ir.OpCmpXchg}, loadedAddress},
	}
}

// fold computes ops on constants.
func fold(r *rewriter, v *ir.Value) *ir.Value {
	var args [3]uint64
	for i, a := range v.Args {
		if !isConst(a) {
			return nil
		}
		args[i] = uint64(a.Imm)
	}
	if v.Type != ir.I64 {
		return nil
	}
	x, ok := interp.Arith(v.Op, v.Size, v.Imm, args[:]...)
	if !ok {
		return nil
	}
	return r.imm(int64(x))
}

// constantRight moves a constant to the right.
func constantRight(_ *rewriter, v *ir.Value) *ir.Value {
	x, y := v.Args[0], v.Args[1]
	if !isConst(x) || isConst(y) {
		return nil
	}
	if op, ok := mirrored[v.Op]; ok {
		v.Op = op
	}
	v.Args[0], v.Args[1] = y, x
	return v
}

// identity drops operations with a neutral or absorbing constant.
func identity(r *rewriter, v *ir.Value) *ir.Value {
	x, y := v.Args[0], v.Args[1]
	switch v.Op {
	case ir.OpAdd, ir.OpSub, ir.OpOr, ir.OpXor:
		if is(y, 0) {
			return x
		}
		if v.Op == ir.OpOr && is(y, -1) {
			return y
		}
	case ir.OpShl, ir.OpLShr, ir.OpAShr:
		if isConst(y) && y.Imm&63 == 0 {
			return x
		}
		if is(x, 0) {
			return x
		}
	case ir.OpMul:
		if is(y, 1) {
			return x
		}
		if is(y, 0) {
			return y
		}
		if is(y, -1) {
			return r.emit(ir.OpNeg, ir.I64, x)
		}
	case ir.OpUDiv, ir.OpSDiv:
		if is(y, 1) {
			return x
		}
		if is(y, 0) || is(x, 0) {
			return r.imm(0)
		}
	case ir.OpUMod, ir.OpSMod:
		if is(y, 1) || is(x, 0) {
			return r.imm(0)
		}
		if is(y, 0) {
			return x
		}
	case ir.OpAnd:
		if is(y, 0) {
			return y
		}
		if is(y, -1) {
			return x
		}
	}
	return nil
}

func sameOperands(r *rewriter, v *ir.Value) *ir.Value {
	if v.Args[0] != v.Args[1] {
		return nil
	}
	if v.Op == ir.OpSub || v.Op == ir.OpXor {
		return r.imm(0)
	}
	return v.Args[0]
}

// subtractConstant turns x - n into x + -n, which reassociates.
func subtractConstant(r *rewriter, v *ir.Value) *ir.Value {
	if y := v.Args[1]; isConst(y) {
		return r.opImm(ir.OpAdd, v.Args[0], -y.Imm)
	}
	return nil
}

func negate(r *rewriter, v *ir.Value) *ir.Value {
	x := v.Args[0]
	switch v.Op {
	case ir.OpNeg:
		if x.Op == ir.OpNeg {
			return x.Args[0]
		}
		if x.Op == ir.OpSub {
			return r.op2(ir.OpSub, x.Args[1], x.Args[0])
		}
	case ir.OpNot:
		if x.Op == ir.OpNot {
			return x.Args[0]
		}
	case ir.OpSub:
		if is(x, 0) {
			return r.emit(ir.OpNeg, ir.I64, v.Args[1])
		}
		if y := v.Args[1]; y.Op == ir.OpNeg {
			return r.op2(ir.OpAdd, x, y.Args[0])
		}
	case ir.OpAdd:
		if y := v.Args[1]; y.Op == ir.OpNeg {
			return r.op2(ir.OpSub, x, y.Args[0])
		}
		if x.Op == ir.OpNeg {
			return r.op2(ir.OpSub, v.Args[1], x.Args[0])
		}
	}
	return nil
}

// reassociate joins the constants of (x op n) op m.
func reassociate(r *rewriter, v *ir.Value) *ir.Value {
	x, y := v.Args[0], v.Args[1]
	if x.Op != v.Op || !isConst(y) || !isConst(x.Args[1]) {
		return nil
	}
	n, _ := interp.Arith(v.Op, 0, 0, uint64(x.Args[1].Imm), uint64(y.Imm))
	return r.opImm(v.Op, x.Args[0], int64(n))
}

func shiftOfShift(r *rewriter, v *ir.Value) *ir.Value {
	x, y := v.Args[0], v.Args[1]
	if !isConst(y) {
		return nil
	}
	if y.Imm&63 != y.Imm {
		return r.opImm(v.Op, x, y.Imm&63)
	}
	if len(x.Args) != 2 || !isConst(x.Args[1]) {
		return nil
	}
	n := x.Args[1].Imm & 63
	switch {
	case x.Op == v.Op:
		n += y.Imm
		if n > 63 && v.Op != ir.OpAShr {
			return r.imm(0)
		}
		return r.opImm(v.Op, x.Args[0], min(n, 63))
	case x.Op == ir.OpShl && n == y.Imm && (n == 32 || n == 48 || n == 56):
		if v.Op == ir.OpLShr {
			return r.ext(ir.OpZExt, x.Args[0], uint8(64-n))
		}
		return r.ext(ir.OpSExt, x.Args[0], uint8(64-n))
	}
	return nil
}

// powerOfTwo turns multiplication and division by powers of two into shifts.
func powerOfTwo(r *rewriter, v *ir.Value) *ir.Value {
	x, y := v.Args[0], v.Args[1]
	if !isConst(y) || y.Imm <= 1 || y.Imm&(y.Imm-1) != 0 {
		return nil
	}
	k := int64(bits.TrailingZeros64(uint64(y.Imm)))
	// The quotient rounds towards zero: negative numbers get 2^k-1 more.
	rounded := func() *ir.Value {
		sign := r.opImm(ir.OpAShr, x, 63)
		return r.op2(ir.OpAdd, x, r.opImm(ir.OpLShr, sign, 64-k))
	}
	switch v.Op {
	case ir.OpMul:
		return r.opImm(ir.OpShl, x, k)
	case ir.OpUDiv:
		return r.opImm(ir.OpLShr, x, k)
	case ir.OpUMod:
		return r.opImm(ir.OpAnd, x, y.Imm-1)
	case ir.OpSDiv:
		if facts(x).smin < 0 {
			return r.opImm(ir.OpAShr, rounded(), k)
		}
	case ir.OpSMod:
		if facts(x).smin < 0 {
			return r.op2(ir.OpSub, x, r.opImm(ir.OpAnd, rounded(), -y.Imm))
		}
	}
	return nil
}

// positive uses unsigned ops where no operand is negative.
func positive(r *rewriter, v *ir.Value) *ir.Value {
	x, y := v.Args[0], v.Args[1]
	if facts(x).smin < 0 || v.Op != ir.OpAShr && facts(y).smin < 0 {
		return nil
	}
	op := map[ir.Op]ir.Op{ir.OpSDiv: ir.OpUDiv, ir.OpSMod: ir.OpUMod, ir.OpAShr: ir.OpLShr}[v.Op]
	return r.op2(op, x, y)
}

// needlessMask drops x & mask where x has no other bits. Where the verifier cannot see that itself, the mask may be what makes an
// address safe, and stays.
func needlessMask(_ *rewriter, v *ir.Value) *ir.Value {
	x, y := v.Args[0], v.Args[1]
	if !isConst(y) || y.Imm < 0 {
		return nil
	}
	if m := factsOf(x, true, 0).max; m <= 1<<bits.TrailingZeros64(^uint64(y.Imm))-1 {
		return x
	}
	return nil
}

func needlessExtension(_ *rewriter, v *ir.Value) *ir.Value {
	in := facts(v.Args[0])
	if v.Op == ir.OpZExt && factsOf(v.Args[0], true, 0).max <= 1<<v.Size-1 || v.Op == ir.OpSExt && fits(in, int(v.Size)) {
		return v.Args[0]
	}
	return nil
}

// extensionOfExtension looks through what changes only bits that the extension drops.
func extensionOfExtension(r *rewriter, v *ir.Value) *ir.Value {
	x := v.Args[0]
	switch {
	case (x.Op == ir.OpZExt || x.Op == ir.OpSExt) && x.Size >= v.Size:
		return r.ext(v.Op, x.Args[0], v.Size)
	case x.Op == ir.OpAnd && isConst(x.Args[1]) && uint64(x.Args[1].Imm)&(1<<v.Size-1) == 1<<v.Size-1:
		return r.ext(v.Op, x.Args[0], v.Size)
	}
	return nil
}

// extendedLoad makes the load extend. Loads from the context have fixed sizes.
func extendedLoad(r *rewriter, v *ir.Value) *ir.Value {
	x := v.Args[0]
	if x.Op != ir.OpLoad || x.Type != ir.I64 || x.Args[0].Type == ir.Ctx || x.Size*8 != v.Size {
		return nil
	}
	signed := v.Op == ir.OpSExt
	if x.Signed != signed && !r.once(x) {
		return nil
	}
	x.Signed = signed
	return x
}

func compareItself(r *rewriter, v *ir.Value) *ir.Value {
	if v.Args[0] != v.Args[1] || v.Op == ir.OpSet {
		return nil
	}
	if interp.Compare(v.Op, 0, 0) {
		return r.imm(1)
	}
	return r.imm(0)
}

// decide tells the result of a comparison with a constant that is the same for every value of an interval.
func decide(op ir.Op, in interval, n int64) (result, ok bool) {
	switch op {
	case ir.OpULt:
		return true, in.max < uint64(n)
	case ir.OpULe:
		return true, in.max <= uint64(n)
	case ir.OpUGt:
		return false, in.max <= uint64(n)
	case ir.OpUGe:
		return false, in.max < uint64(n)
	case ir.OpEq:
		return false, n < in.smin || n > in.smax || uint64(n) > in.max
	case ir.OpNe:
		return true, n < in.smin || n > in.smax || uint64(n) > in.max
	case ir.OpSLt:
		return in.smax < n, in.smax < n || in.smin >= n
	case ir.OpSLe:
		return in.smax <= n, in.smax <= n || in.smin > n
	case ir.OpSGt:
		return in.smin > n, in.smin > n || in.smax <= n
	case ir.OpSGe:
		return in.smin >= n, in.smin >= n || in.smax < n
	}
	return false, false
}

func compareRange(r *rewriter, v *ir.Value) *ir.Value {
	if !isConst(v.Args[1]) || v.Args[0].Type != ir.I64 {
		return nil
	}
	result, ok := decide(v.Op, facts(v.Args[0]), v.Args[1].Imm)
	switch {
	case !ok:
		return nil
	case result:
		return r.imm(1)
	}
	return r.imm(0)
}

// compareComparison looks through comparisons of comparisons with 0 and 1.
func compareComparison(r *rewriter, v *ir.Value) *ir.Value {
	x, y := v.Args[0], v.Args[1]
	if !ir.Ops[x.Op].Compare || !is(y, 0) && !is(y, 1) {
		return nil
	}
	if (v.Op == ir.OpNe) == is(y, 0) {
		return x
	}
	if op, ok := inverted[x.Op]; ok {
		return r.op2(op, x.Args[0], x.Args[1])
	}
	return nil
}

// compareSum moves a constant out of one side of an equality.
func compareSum(r *rewriter, v *ir.Value) *ir.Value {
	x, y := v.Args[0], v.Args[1]
	if !isConst(y) || x.Type != ir.I64 || len(x.Args) != 2 {
		return nil
	}
	switch {
	case x.Op == ir.OpAdd && isConst(x.Args[1]):
		return r.op2(v.Op, x.Args[0], r.imm(y.Imm-x.Args[1].Imm))
	case x.Op == ir.OpXor && isConst(x.Args[1]):
		return r.op2(v.Op, x.Args[0], r.imm(y.Imm^x.Args[1].Imm))
	case (x.Op == ir.OpSub || x.Op == ir.OpXor) && y.Imm == 0:
		return r.op2(v.Op, x.Args[0], x.Args[1])
	}
	return nil
}

// compareEdge uses equality at the ends of the unsigned numbers.
func compareEdge(r *rewriter, v *ir.Value) *ir.Value {
	x, y := v.Args[0], v.Args[1]
	if x.Type != ir.I64 {
		return nil
	}
	switch {
	case v.Op == ir.OpULt && is(y, 1):
		return r.opImm(ir.OpEq, x, 0)
	case v.Op == ir.OpUGe && is(y, 1):
		return r.opImm(ir.OpNe, x, 0)
	case v.Op == ir.OpULe && is(y, 0):
		return r.op2(ir.OpEq, x, y)
	case v.Op == ir.OpUGt && is(y, 0):
		return r.op2(ir.OpNe, x, y)
	}
	return nil
}

func simplifySelect(r *rewriter, v *ir.Value) *ir.Value {
	c, x, y := v.Args[0], v.Args[1], v.Args[2]
	switch {
	case x == y:
		return x
	case isConst(c) && c.Imm != 0:
		return x
	case isConst(c):
		return y
	case v.Type == ir.I64 && is(x, 1) && is(y, 0) && ir.Ops[c.Op].Compare:
		return c
	case v.Type == ir.I64 && is(x, 0) && is(y, 1) && ir.Ops[c.Op].Compare:
		if op, ok := inverted[c.Op]; ok {
			return r.op2(op, c.Args[0], c.Args[1])
		}
	case c.Op == ir.OpNe && is(c.Args[1], 0) && c.Args[0].Type == ir.I64:
		return r.emit(ir.OpSelect, v.Type, c.Args[0], x, y)
	case c.Op == ir.OpEq && is(c.Args[1], 0) && c.Args[0].Type == ir.I64:
		return r.emit(ir.OpSelect, v.Type, c.Args[0], y, x)
	}
	return nil
}

// needlessBound drops a bound that the verifier knows anyway.
func needlessBound(r *rewriter, v *ir.Value) *ir.Value {
	x := v.Args[0]
	if factsOf(x, true, 0).max <= uint64(v.Imm) {
		return x
	}
	if x.Op == ir.OpBound {
		w := r.emit(ir.OpBound, ir.I64, x.Args[0])
		w.Imm = min(x.Imm, v.Imm)
		return w
	}
	return nil
}

// address joins constant offsets.
func address(r *rewriter, v *ir.Value) *ir.Value {
	p, x := v.Args[0], v.Args[1]
	if !isConst(x) {
		return nil
	}
	n := x.Imm
	switch {
	case n == 0 && p.Type == v.Type:
		return p
	case p.Op == ir.OpPtrAdd && isConst(p.Args[1]):
		return r.emit(ir.OpPtrAdd, v.Type, p.Args[0], r.imm(p.Args[1].Imm+n))
	case p.Op == ir.OpSlotAddr && int64(p.Off)+n >= 0 && int64(p.Off)+n <= int64(p.Aux.(*ir.Slot).Size),
		p.Op == ir.OpMapValAddr && int64(p.Off)+n >= 0 && int64(p.Off)+n < 1<<31 && p.Type == v.Type:
		w := r.emit(p.Op, p.Type)
		w.Aux, w.Off = p.Aux, p.Off+int32(n)
		return w
	}
	return nil
}

// distance computes the difference of two addresses in the same place.
func distance(r *rewriter, v *ir.Value) *ir.Value {
	offset := func(p *ir.Value) (*ir.Value, int64) {
		n := int64(0)
		for p.Op == ir.OpPtrAdd && isConst(p.Args[1]) {
			n += p.Args[1].Imm
			p = p.Args[0]
		}
		return p, n
	}
	p, n := offset(v.Args[0])
	q, m := offset(v.Args[1])
	switch {
	case p == q:
		return r.imm(n - m)
	case p.Op == ir.OpSlotAddr && q.Op == ir.OpSlotAddr && p.Aux == q.Aux:
		return r.imm(int64(p.Off) + n - int64(q.Off) - m)
	}
	return nil
}

// narrowStore stores what an extension or mask was made of.
func narrowStore(_ *rewriter, v *ir.Value) *ir.Value {
	x := v.Args[1]
	n := uint(v.Size) * 8
	switch {
	case n == 64:
	case (x.Op == ir.OpZExt || x.Op == ir.OpSExt) && uint(x.Size) >= n,
		x.Op == ir.OpAnd && isConst(x.Args[1]) && uint64(x.Args[1].Imm)&(1<<n-1) == 1<<n-1:
		v.Args[1] = x.Args[0]
		return v
	}
	return nil
}

// bareAddress gives a helper that reads memory a pointer of the kernel as it is: it takes any.
func bareAddress(_ *rewriter, v *ir.Value) *ir.Value {
	switch asm.BuiltinFunc(v.Imm) {
	case asm.FnProbeRead, asm.FnProbeReadKernel, asm.FnProbeReadUser, asm.FnProbeReadStr, asm.FnProbeReadKernelStr, asm.FnProbeReadUserStr:
		if a := v.Args[2]; a.Op == ir.OpPtrInt && (a.Args[0].Type == ir.BTF || a.Args[0].Type == ir.BTFNil) {
			v.Args[2] = a.Args[0]
			return v
		}
	default:
	}
	return nil
}

// unusedOldValue needs no fetching atomic.
func unusedOldValue(r *rewriter, v *ir.Value) *ir.Value {
	if v.ID >= len(r.uses) || r.uses[v.ID] != 0 {
		return nil
	}
	v.Op, v.Type = ir.OpAtomicAdd, ir.Void
	return v
}

// loadedAddress moves the constant part of an address into the access.
func loadedAddress(_ *rewriter, v *ir.Value) *ir.Value {
	p := v.Args[0]
	if p.Op != ir.OpPtrAdd || !isConst(p.Args[1]) || p.Type != p.Args[0].Type {
		return nil
	}
	n := int64(v.Off) + p.Args[1].Imm
	if n < -1<<15 || n >= 1<<15 {
		return nil
	}
	v.Args[0], v.Off = p.Args[0], int32(n)
	return v
}
