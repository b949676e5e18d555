package bpf

import (
	"math/bits"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
)

// Sizes up to which memory is cleared and copied by single stores; larger pieces go through a helper call.
const (
	maxInlineZero = 256
	maxInlineCopy = 128
)

// expander rewrites values of one block after the other.
type expander struct {
	f    *ir.Func
	b    *ir.Block
	out  []*ir.Value
	by   map[*ir.Value]*ir.Value
	at   *ir.Value // the value being rewritten
	opts *Options
}

// expand runs rule on every value. The rule returns false to keep the value; else it has emitted what replaces it and returns the
// value that stands for it (nil for one without a result).
func expand(f *ir.Func, opts *Options, rule func(e *expander, v *ir.Value) (*ir.Value, bool)) {
	e := &expander{f: f, by: map[*ir.Value]*ir.Value{}, opts: opts}
	for _, b := range f.Blocks {
		e.b, e.out = b, make([]*ir.Value, 0, len(b.Values))
		for _, v := range b.Values {
			e.at = v
			for i, a := range v.Args {
				for e.by[a] != nil {
					a = e.by[a]
				}
				v.Args[i] = a
			}
			if w, ok := rule(e, v); !ok {
				e.out = append(e.out, v)
			} else if w != nil {
				e.by[v] = w
			}
		}
		b.Values = e.out
	}
	f.Replace(e.by)
}

func (e *expander) emit(op ir.Op, t ir.Type, args ...*ir.Value) *ir.Value {
	v := e.f.NewValue(op, t, e.at.Span, args...)
	v.Block = e.b
	e.out = append(e.out, v)
	return v
}

func (e *expander) imm(n int64) *ir.Value {
	v := e.emit(ir.OpConst, ir.I64)
	v.Imm = n
	return v
}

func (e *expander) op(op ir.Op, x, y *ir.Value) *ir.Value { return e.emit(op, ir.I64, x, y) }

func (e *expander) load(p *ir.Value, off int64, size int) *ir.Value {
	v := e.emit(ir.OpLoad, ir.I64, p)
	v.Off, v.Size = int32(off), uint8(size)
	return v
}

func (e *expander) store(p *ir.Value, off int64, size int, x *ir.Value) {
	v := e.emit(ir.OpStore, ir.Void, p, x)
	v.Off, v.Size = int32(off), uint8(size)
}

func (e *expander) ptrAdd(p *ir.Value, off int64) *ir.Value {
	if off == 0 {
		return p
	}
	return e.emit(ir.OpPtrAdd, p.Type, p, e.imm(off))
}

func (e *expander) helper(fn asm.BuiltinFunc, args ...*ir.Value) *ir.Value {
	v := e.emit(ir.OpHelper, ir.I64, args...)
	v.Imm = int64(fn)
	return v
}

// legalSlots rewrites what needs slots, before they are placed.
func legalSlots(f *ir.Func) {
	for _, b := range f.Blocks {
		for _, v := range b.Values {
			if v.Op == ir.OpPtrInt && v.Args[0].Type != ir.I64 {
				s := f.NewSlot("ptrint", 8, 8)
				s.Class = ir.SlotStack
				v.Aux = s
			}
		}
	}
}

// legalize rewrites ops that have no instruction, once slots are placed.
func legalize(f *ir.Func, opts *Options) {
	fuseBranches(f)
	expand(f, opts, foldAddress)
	expand(f, opts, legalValue)
	expand(f, opts, foldAddress)
	f.DropDead()
	splitCritical(f)
}

// fuseBranches lets a branch on a comparison's result compare by itself.
func fuseBranches(f *ir.Func) {
	for _, b := range f.Blocks {
		t := &b.Term
		for t.Kind == ir.Branch && (t.Cond == ir.OpEq || t.Cond == ir.OpNe) && ir.Ops[t.X.Op].Compare && t.Y.Op == ir.OpConst && t.Y.Imm == 0 {
			if t.Cond == ir.OpEq {
				t.Succs[0], t.Succs[1] = t.Succs[1], t.Succs[0]
				t.Likely = -t.Likely
			}
			t.Cond, t.X, t.Y = t.X.Op, t.X.Args[0], t.X.Args[1]
		}
	}
}

// foldAddress merges constant offsets of addresses.
func foldAddress(e *expander, v *ir.Value) (*ir.Value, bool) {
	if v.Op != ir.OpPtrAdd || v.Args[1].Op != ir.OpConst {
		return nil, false
	}
	p, n := v.Args[0], v.Args[1].Imm
	switch {
	case n == 0 && p.Type == v.Type:
		return p, true
	case p.Op == ir.OpPtrAdd && p.Args[1].Op == ir.OpConst:
		return e.emit(ir.OpPtrAdd, v.Type, p.Args[0], e.imm(p.Args[1].Imm+n)), true
	case p.Op == ir.OpSlotAddr && int64(p.Off)+n >= 0 && int64(p.Off)+n <= int64(p.Aux.(*ir.Slot).Size),
		p.Op == ir.OpMapValAddr && int64(p.Off)+n >= 0 && int64(p.Off)+n < 1<<31 && p.Type == v.Type:
		w := e.emit(p.Op, p.Type)
		w.Aux, w.Off = p.Aux, p.Off+int32(n)
		return w, true
	}
	return nil, false
}

func legalValue(e *expander, v *ir.Value) (*ir.Value, bool) {
	switch v.Op {
	case ir.OpUDiv:
		if y := v.Args[1]; y.Op == ir.OpConst && y.Imm == 0 {
			return e.imm(0), true
		}
	case ir.OpUMod:
		if y := v.Args[1]; y.Op == ir.OpConst && y.Imm == 0 {
			return v.Args[0], true
		}
	case ir.OpSDiv, ir.OpSMod:
		return e.signedDiv(v)
	case ir.OpZero:
		return nil, e.zero(v)
	case ir.OpCopy:
		return nil, e.copyMem(v)
	case ir.OpLoad:
		return e.splitLoad(v)
	case ir.OpStore:
		return nil, e.splitStore(v)
	}
	return nil, false
}

// signedDiv divides absolute values and corrects the sign. The instructions of cpu v4 are used only for constant divisors: kernels
// before 6.12 trap on the smallest integer divided by -1.
func (e *expander) signedDiv(v *ir.Value) (*ir.Value, bool) {
	x, y := v.Args[0], v.Args[1]
	div := v.Op == ir.OpSDiv
	if y.Op == ir.OpConst {
		switch {
		case y.Imm == 0 && div:
			return e.imm(0), true
		case y.Imm == 0:
			return x, true
		case y.Imm == -1 && div:
			return e.emit(ir.OpNeg, ir.I64, x), true
		case y.Imm == 1 && div:
			return x, true
		case y.Imm == -1 || y.Imm == 1:
			return e.imm(0), true
		case e.opts.CPUv4:
			return nil, false
		}
	}
	abs := func(a *ir.Value) (sign, n *ir.Value) {
		sign = e.op(ir.OpAShr, a, e.imm(63))
		return sign, e.op(ir.OpSub, e.op(ir.OpXor, a, sign), sign)
	}
	sx, ux := abs(x)
	sign, uy := sx, y
	switch {
	case y.Op == ir.OpConst && y.Imm > 0:
	case y.Op == ir.OpConst:
		uy = e.imm(-y.Imm)
		if div {
			sign = e.emit(ir.OpNot, ir.I64, sx)
		}
	default:
		var sy *ir.Value
		sy, uy = abs(y)
		if div {
			sign = e.op(ir.OpXor, sx, sy)
		}
	}
	op := ir.OpUMod
	if div {
		op = ir.OpUDiv
	}
	u := e.op(op, ux, uy)
	return e.op(ir.OpSub, e.op(ir.OpXor, u, sign), sign), true
}

// alignment is what is known of an address's alignment: it is off plus a multiple of align. The kernel insists on natural alignment in the
// stack frame and the context only; elsewhere align is 0, which stands for whatever is wanted.
type alignment struct{ off, align int64 }

// where tells what is known of an address's alignment.
func where(p *ir.Value) alignment {
	root, c := splitAddr(strip(p))
	root = strip(root)
	switch {
	case root.Op == ir.OpSlotAddr:
		s := root.Aux.(*ir.Slot)
		return alignment{int64(s.Off) + int64(root.Off) + c, 8}
	case root.Op == ir.OpPtrAdd && root.Type == ir.Stack:
		base := root.Args[0]
		if base.Type != ir.Stack {
			return alignment{}
		}
		w := where(base)
		return alignment{w.off + c, min(w.align, 1<<lowZeros(root.Args[1], 0))}
	case root.Type == ir.Stack || root.Type == ir.Ctx:
		return alignment{c, 8}
	}
	return alignment{}
}

// lowZeros returns how many low bits of an index, up to three, are zero by its making.
func lowZeros(v *ir.Value, depth int) int {
	n := 0
	switch {
	case depth > 4:
	case v.Op == ir.OpConst:
		n = bits.TrailingZeros64(uint64(v.Imm))
	case v.Op == ir.OpShl && v.Args[1].Op == ir.OpConst:
		n = int(v.Args[1].Imm&63) + lowZeros(v.Args[0], depth+1)
	case v.Op == ir.OpAnd:
		n = max(lowZeros(v.Args[0], depth+1), lowZeros(v.Args[1], depth+1))
	case v.Op == ir.OpAdd:
		n = min(lowZeros(v.Args[0], depth+1), lowZeros(v.Args[1], depth+1))
	}
	return min(n, 3)
}

// chunk returns the size of the next access, i bytes behind addresses of the given alignments: at most n bytes, a power of two.
func chunk(n, i int64, at ...alignment) int64 {
	size := int64(8)
	for size > n {
		size /= 2
	}
	for _, a := range at {
		for a.align > 0 && (size > a.align || (a.off+i)%size != 0) {
			size /= 2
		}
	}
	return size
}

func (e *expander) zero(v *ir.Value) bool {
	p, off, n := v.Args[0], int64(v.Off), v.Imm
	if n > maxInlineZero {
		// A failed read of kernel memory clears its buffer.
		e.helper(asm.FnProbeReadKernel, e.ptrAdd(p, off), e.imm(n), e.imm(0))
		return true
	}
	at := where(p)
	zero := e.imm(0)
	for i := int64(0); i < n; {
		size := chunk(n-i, off+i, at)
		e.store(p, off+i, int(size), zero)
		i += size
	}
	return true
}

func (e *expander) copyMem(v *ir.Value) bool {
	dst, src, off, n := v.Args[0], v.Args[1], int64(v.Off), v.Imm
	if n > maxInlineCopy || src.Type == ir.BTF || src.Type == ir.BTFNil {
		e.helper(asm.FnProbeReadKernel, e.ptrAdd(dst, off), e.imm(n), src)
		return true
	}
	da, sa := where(dst), where(src)
	da.off += off
	for i := int64(0); i < n; {
		size := chunk(n-i, i, da, sa)
		e.store(dst, off+i, int(size), e.load(src, i, int(size)))
		i += size
	}
	return true
}

// splitLoad reads a misaligned place of the stack frame in pieces.
func (e *expander) splitLoad(v *ir.Value) (*ir.Value, bool) {
	p, off, n := v.Args[0], int64(v.Off), int64(v.Size)
	at := where(p)
	if v.Type != ir.I64 || p.Type != ir.Stack || chunk(n, off, at) == n {
		return nil, false
	}
	var sum *ir.Value
	for i := int64(0); i < n; {
		size := chunk(n-i, off+i, at)
		x := e.load(p, off+i, int(size))
		if i > 0 {
			x = e.op(ir.OpOr, sum, e.op(ir.OpShl, x, e.imm(8*i)))
		}
		sum = x
		i += size
	}
	if v.Signed {
		sum = e.emit(ir.OpSExt, ir.I64, sum)
		sum.Size = v.Size * 8
	}
	return sum, true
}

// splitStore writes a misaligned place of the stack frame in pieces.
func (e *expander) splitStore(v *ir.Value) bool {
	p, x, off, n := v.Args[0], v.Args[1], int64(v.Off), int64(v.Size)
	at := where(p)
	if x.Type != ir.I64 || p.Type != ir.Stack || chunk(n, off, at) == n {
		return false
	}
	for i := int64(0); i < n; {
		size := chunk(n-i, off+i, at)
		part := x
		if i > 0 {
			part = e.op(ir.OpLShr, x, e.imm(8*i))
		}
		e.store(p, off+i, int(size), part)
		i += size
	}
	return true
}

// splitCritical puts a block on each edge that leaves a branch and carries arguments, so that the copies have a place.
func splitCritical(f *ir.Func) {
	for _, b := range f.Blocks {
		if len(b.Term.Succs) < 2 {
			continue
		}
		for i := range b.Term.Succs {
			if e := &b.Term.Succs[i]; len(e.Args) > 0 {
				splitEdge(f, b, i)
			}
		}
	}
}

// splitEdge puts an empty block on an edge and returns it.
func splitEdge(f *ir.Func, b *ir.Block, i int) *ir.Block {
	e := &b.Term.Succs[i]
	mid := f.NewBlock("")
	mid.Cold = e.To.Cold || b.Cold
	mid.Term = ir.Term{Kind: ir.Jump, Succs: []ir.Edge{*e}, Span: b.Term.Span}
	*e = ir.Edge{To: mid}
	return mid
}
