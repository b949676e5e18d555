package bpf

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/lang/source"
)

// selector selects machine instructions for one function. Values are given virtual registers; constants, addresses and map
// references are made again at each use, which is as cheap as a copy and keeps registers free.
type selector struct {
	f      *ir.Func
	opts   *Options
	mf     *function
	regs   []reg // by value ID, noReg when none yet
	uses   []int
	narrow []bool // by value ID: selected together with the zero extension that is its only use
	folded []bool // by value ID: selected as the address or condition of each of its uses
	blocks []*block
	b      *block
	room   []inst   // for the instructions of a block while they are made
	cache  []cached // constants and addresses that are in registers until the next call
	err    error
}

// cached is a value that was made in this block since the last call.
type cached struct {
	v *ir.Value
	r reg
}

// Error is a reason why a function cannot be compiled; Span is the place in the script.
type Error struct {
	Span source.Span
	Msg  string
}

func (e *Error) Error() string { return e.Msg }

// selectFunc translates a legal function.
func selectFunc(f *ir.Func, opts *Options) (*function, error) {
	n := f.NumIDs()
	s := &selector{
		f: f, opts: opts,
		mf:     &function{ir: f, nregs: firstVirtual},
		regs:   make([]reg, n),
		uses:   f.UseCounts(),
		narrow: make([]bool, n),
		folded: make([]bool, n),
		blocks: make([]*block, f.NumBlocks()),
	}
	for i := range s.regs {
		s.regs[i] = noReg
	}
	dom := ir.NewDomTree(f)
	depth, _ := dom.LoopDepths(f)
	for _, b := range dom.Order {
		mb := &block{id: b.ID, cold: b.Cold, depth: depth[b.Seq]}
		s.blocks[b.Seq] = mb
		s.mf.blocks = append(s.mf.blocks, mb)
	}
	s.prepare(dom.Order)
	for _, b := range dom.Order {
		s.block(b)
	}
	if s.err != nil {
		return nil, s.err
	}
	return s.mf, nil
}

func (s *selector) errorf(v *ir.Value, format string, args ...any) {
	if s.err == nil {
		s.err = &Error{v.Span, fmt.Sprintf(format, args...)}
	}
}

// prepare finds the values that are selected as part of their users.
func (s *selector) prepare(order []*ir.Block) {
	address := make([]int, s.f.NumIDs()) // uses as the base of a memory op with a fitting offset
	cond := make([]int, s.f.NumIDs())
	for _, b := range order {
		for _, v := range b.Values {
			if info := &ir.Ops[v.Op]; info.HasOff && !info.HasAux {
				if p := v.Args[0]; p.Op == ir.OpPtrAdd {
					if _, off := splitAddr(p); fitsOff(off + int64(v.Off)) {
						address[p.ID]++
					}
				}
			}
			if v.Op == ir.OpSelect {
				if c := v.Args[0]; ir.Ops[c.Op].Compare && c.Block == b {
					cond[c.ID]++
				}
			}
			if v.Op == ir.OpZExt && v.Size == 32 {
				if x := v.Args[0]; s.uses[x.ID] == 1 && x.Block == b && canNarrow(x) {
					s.narrow[x.ID] = true
				}
			}
		}
	}
	for _, b := range order {
		for i := len(b.Values) - 1; i >= 0; i-- {
			v := b.Values[i]
			switch {
			case v.Op == ir.OpPtrAdd && v.Args[1].Op == ir.OpConst:
				s.folded[v.ID] = address[v.ID] == s.uses[v.ID]
			case ir.Ops[v.Op].Compare:
				s.folded[v.ID] = cond[v.ID] == s.uses[v.ID]
			}
		}
	}
}

// canNarrow reports whether the low half of the result depends only on the low halves of the operands, in one 32-bit instruction.
func canNarrow(v *ir.Value) bool {
	switch v.Op {
	case ir.OpAdd, ir.OpSub, ir.OpMul, ir.OpAnd, ir.OpOr, ir.OpXor, ir.OpNeg, ir.OpNot:
		return true
	case ir.OpShl:
		return v.Args[1].Op == ir.OpConst && v.Args[1].Imm&63 < 32
	}
	return false
}

// splitAddr splits off the constant parts of an address.
func splitAddr(p *ir.Value) (base *ir.Value, off int64) {
	for p.Op == ir.OpPtrAdd && p.Args[1].Op == ir.OpConst {
		off += p.Args[1].Imm
		p = p.Args[0]
	}
	return p, off
}

func (s *selector) emit(in inst) {
	if s.b.insts == nil {
		s.b.insts = s.room[:0:cap(s.room)]
	}
	s.b.insts = append(s.b.insts, in)
}

// in returns an instruction with no registers.
func in(k kind, sp source.Span) inst {
	return inst{kind: k, dst: noReg, src: noReg, x: noReg, z: noReg, span: sp}
}

func (s *selector) mov(dst, src reg, sp source.Span) {
	m := in(kMov, sp)
	m.dst, m.src = dst, src
	s.emit(m)
}

func (s *selector) aluImm(op asm.ALUOp, dst reg, imm int64, w32 bool, sp source.Span) {
	m := in(kALU, sp)
	m.alu, m.dst, m.imm, m.useImm, m.w32 = op, dst, imm, true, w32
	s.emit(m)
}

func (s *selector) alu(op asm.ALUOp, dst, src reg, w32 bool, sp source.Span) {
	m := in(kALU, sp)
	m.alu, m.dst, m.src, m.w32 = op, dst, src, w32
	s.emit(m)
}

// strip follows ops that have no code of their own.
func strip(v *ir.Value) *ir.Value {
	for v.Op == ir.OpNonNil || v.Op == ir.OpBTFCast {
		v = v.Args[0]
	}
	return v
}

// isLazy reports whether a value is made at each use.
func isLazy(v *ir.Value) bool {
	switch v.Op {
	case ir.OpConst, ir.OpSlotAddr, ir.OpMapRef, ir.OpMapValAddr, ir.OpFuncRef:
		return true
	}
	return false
}

// into puts a value into a given register.
func (s *selector) into(dst reg, v *ir.Value, sp source.Span) {
	v = strip(v)
	m := in(kMov, sp)
	m.dst = dst
	switch v.Op {
	case ir.OpConst:
		m.kind, m.imm = kMovImm, v.Imm
	case ir.OpSlotAddr:
		m.kind, m.slot, m.off = kFrame, v.Aux.(*ir.Slot), v.Off
	case ir.OpMapRef:
		m.kind, m.name = kMapRef, v.Aux.(string)
	case ir.OpMapValAddr:
		if r := s.cachedReg(v); r != noReg {
			m.src = r
			break
		}
		m.kind, m.name, m.off = kMapVal, v.Aux.(string), v.Off
	case ir.OpFuncRef:
		m.kind, m.fn = kFuncRef, v.Aux.(*ir.Func)
	default:
		m.src = s.reg(v)
	}
	s.emit(m)
}

func (s *selector) cachedReg(v *ir.Value) reg {
	for _, c := range s.cache {
		if c.v == v || c.v.Op == v.Op && c.v.Imm == v.Imm && c.v.Aux == v.Aux && c.v.Off == v.Off {
			return c.r
		}
	}
	return noReg
}

// reg returns the register of a value, making lazy ones.
func (s *selector) reg(v *ir.Value) reg {
	v = strip(v)
	if isLazy(v) {
		keep := v.Op == ir.OpMapValAddr || v.Op == ir.OpConst && !fitsImm(v.Imm)
		if keep {
			if r := s.cachedReg(v); r != noReg {
				return r
			}
		}
		r := s.mf.newReg()
		s.into(r, v, v.Span)
		if keep {
			s.cache = append(s.cache, cached{v, r})
		}
		return r
	}
	if s.regs[v.ID] == noReg {
		s.regs[v.ID] = s.mf.newReg()
	}
	return s.regs[v.ID]
}

// result returns the register for the result of v.
func (s *selector) result(v *ir.Value) reg { return s.reg(v) }

// addr returns the base register and offset of a memory op; slot is set for the frame.
func (s *selector) addr(p *ir.Value, off int64) (base reg, o int32, slot *ir.Slot) {
	root, c := splitAddr(strip(p))
	root = strip(root)
	if !fitsOff(c + off) {
		if fitsOff(off) {
			return s.reg(p), int32(off), nil
		}
		r := s.mf.newReg()
		s.into(r, p, p.Span)
		s.aluImm(asm.Add, r, off, false, p.Span)
		return r, 0, nil
	}
	if strip(p).Op == ir.OpPtrAdd && !s.folded[strip(p).ID] && fitsOff(off) && root.Op != ir.OpSlotAddr {
		return s.reg(p), int32(off), nil // it is in a register anyway
	}
	off += c
	switch root.Op {
	case ir.OpSlotAddr:
		return fp, root.Off + int32(off), root.Aux.(*ir.Slot)
	case ir.OpMapValAddr:
		// Any address in the same map that is at hand will do.
		for _, k := range s.cache {
			if d := int64(root.Off) - int64(k.v.Off) + off; k.v.Op == ir.OpMapValAddr && k.v.Aux == root.Aux && fitsOff(d) {
				return k.r, int32(d), nil
			}
		}
	}
	return s.reg(root), int32(off), nil
}

func (s *selector) block(b *ir.Block) {
	s.b = s.blocks[b.Seq]
	s.cache = s.cache[:0]
	if b == s.f.Blocks[0] {
		for i, p := range b.Params {
			s.mov(s.reg(p), r1+reg(i), p.Span)
		}
	}
	for _, v := range b.Values {
		if !isLazy(v) && !s.narrow[v.ID] && !s.folded[v.ID] {
			s.value(v)
		}
	}
	t := &b.Term
	s.b.span = t.Span
	for _, e := range t.Succs {
		s.b.succs = append(s.b.succs, s.blocks[e.To.Seq])
	}
	switch t.Kind {
	case ir.Jump:
		s.copies(t.Succs[0])
	case ir.Return:
		s.into(r0, t.X, t.Span)
		s.b.exit = true
	case ir.Branch:
		s.b.cond, s.b.x, s.b.y, s.b.imm = s.condition(t.Cond, t.X, t.Y)
	}
	if s.b.insts != nil {
		s.room = s.b.insts[:0]
		s.b.insts = slices.Clone(s.b.insts)
	}
}

var jumpOps = [ir.NumOps]asm.JumpOp{
	ir.OpEq: asm.JEq, ir.OpNe: asm.JNE, ir.OpULt: asm.JLT, ir.OpULe: asm.JLE, ir.OpUGt: asm.JGT, ir.OpUGe: asm.JGE,
	ir.OpSLt: asm.JSLT, ir.OpSLe: asm.JSLE, ir.OpSGt: asm.JSGT, ir.OpSGe: asm.JSGE, ir.OpSet: asm.JSet,
}

// mirrored maps a comparison to the one with its operands exchanged.
var mirrored = [ir.NumOps]ir.Op{
	ir.OpEq: ir.OpEq, ir.OpNe: ir.OpNe, ir.OpSet: ir.OpSet,
	ir.OpULt: ir.OpUGt, ir.OpULe: ir.OpUGe, ir.OpUGt: ir.OpULt, ir.OpUGe: ir.OpULe,
	ir.OpSLt: ir.OpSGt, ir.OpSLe: ir.OpSGe, ir.OpSGt: ir.OpSLt, ir.OpSGe: ir.OpSLe,
}

// condition returns the operands of a conditional jump; y is noReg for an immediate.
func (s *selector) condition(op ir.Op, x, y *ir.Value) (cond asm.JumpOp, rx, ry reg, imm int64) {
	if x.Op == ir.OpConst && y.Op != ir.OpConst {
		op, x, y = mirrored[op], y, x
	}
	// The counter of a loop goes to the right. The verifier knows its value in each round; kernels before 6.8 see that a jump is not taken only
	// where it is the right side that they know, and walk on with a limit whose least value is above its greatest.
	if x.Op == ir.OpParam && y.Op != ir.OpParam && y.Op != ir.OpConst {
		op, x, y = mirrored[op], y, x
	}
	rx, ry = s.reg(x), noReg
	if y.Op == ir.OpConst && fitsImm(y.Imm) {
		imm = y.Imm
	} else {
		ry = s.reg(y)
	}
	return jumpOps[op], rx, ry, imm
}

// copies sets the parameters of an edge's block; the copies happen at once, so their order and cycles matter.
func (s *selector) copies(e ir.Edge) {
	type pair struct {
		dst reg
		src reg
		sp  source.Span
	}
	var pending []pair
	for i, a := range e.Args {
		a = strip(a)
		if !isLazy(a) {
			if d, r := s.reg(e.To.Params[i]), s.reg(a); d != r {
				pending = append(pending, pair{d, r, a.Span})
			}
		}
	}
	for len(pending) > 0 {
		done := false
		for i, p := range pending {
			needed := false
			for j, q := range pending {
				if j != i && q.src == p.dst {
					needed = true
				}
			}
			if !needed {
				s.mov(p.dst, p.src, p.sp)
				pending = append(pending[:i], pending[i+1:]...)
				done = true
				break
			}
		}
		if !done { // a cycle: go through one more register
			t := s.mf.newReg()
			s.mov(t, pending[0].src, pending[0].sp)
			pending[0].src = t
		}
	}
	for i, a := range e.Args {
		if a = strip(a); isLazy(a) {
			s.into(s.reg(e.To.Params[i]), a, a.Span)
		}
	}
}

var aluOps = [ir.NumOps]asm.ALUOp{
	ir.OpAdd: asm.Add, ir.OpSub: asm.Sub, ir.OpMul: asm.Mul, ir.OpUDiv: asm.Div, ir.OpUMod: asm.Mod, ir.OpSDiv: asm.SDiv, ir.OpSMod: asm.SMod,
	ir.OpAnd: asm.And, ir.OpOr: asm.Or, ir.OpXor: asm.Xor, ir.OpShl: asm.LSh, ir.OpLShr: asm.RSh, ir.OpAShr: asm.ArSh,
	ir.OpPtrAdd: asm.Add, ir.OpPtrDiff: asm.Sub,
}

// binary selects dst = x op y.
func (s *selector) binary(dst reg, v *ir.Value, w32 bool) {
	x, y := v.Args[0], v.Args[1]
	if ir.Ops[v.Op].Commutative {
		dies := func(a *ir.Value) bool { return s.uses[a.ID] == 1 && a.Block == v.Block }
		if x.Op == ir.OpConst || y.Op != ir.OpConst && !dies(x) && dies(y) {
			x, y = y, x
		}
	}
	// A pointer plus an address that is cheaper to make in place.
	if y.Op == ir.OpConst && (fitsImm(y.Imm) || w32) {
		imm := y.Imm
		if w32 {
			imm = int64(int32(imm))
		}
		switch v.Op {
		case ir.OpShl, ir.OpLShr, ir.OpAShr:
			imm &= 63
		}
		s.into(dst, x, v.Span)
		s.aluImm(aluOps[v.Op], dst, imm, w32, v.Span)
		return
	}
	ry := s.reg(y)
	s.into(dst, x, v.Span)
	s.alu(aluOps[v.Op], dst, ry, w32, v.Span)
}

// unary selects dst = -x or ^x.
func (s *selector) unary(dst reg, v *ir.Value, w32 bool) {
	s.into(dst, v.Args[0], v.Span)
	if v.Op == ir.OpNot {
		s.aluImm(asm.Xor, dst, -1, w32, v.Span)
		return
	}
	m := in(kNeg, v.Span)
	m.dst, m.w32 = dst, w32
	s.emit(m)
}

// extend sign extends dst in place.
func (s *selector) signExtend(dst reg, src *ir.Value, bits uint8, sp source.Span) {
	if s.opts.CPUv4 {
		m := in(kMovSX, sp)
		m.dst, m.src, m.size = dst, s.reg(src), bits
		s.emit(m)
		return
	}
	s.into(dst, src, sp)
	s.shiftPair(dst, bits, sp)
}

func (s *selector) shiftPair(dst reg, bits uint8, sp source.Span) {
	s.aluImm(asm.LSh, dst, int64(64-bits), false, sp)
	s.aluImm(asm.ArSh, dst, int64(64-bits), false, sp)
}

func (s *selector) value(v *ir.Value) {
	switch v.Op {
	case ir.OpNonNil, ir.OpBTFCast:
	case ir.OpAdd, ir.OpSub, ir.OpMul, ir.OpUDiv, ir.OpUMod, ir.OpSDiv, ir.OpSMod, ir.OpAnd, ir.OpOr, ir.OpXor, ir.OpShl, ir.OpLShr, ir.OpAShr, ir.OpPtrAdd, ir.OpPtrDiff:
		s.binary(s.result(v), v, false)
	case ir.OpNeg, ir.OpNot:
		s.unary(s.result(v), v, false)
	case ir.OpPtrInt:
		s.pointerToInt(v)
	case ir.OpZExt:
		s.zeroExtend(v)
	case ir.OpSExt:
		s.signExtend(s.result(v), v.Args[0], v.Size, v.Span)
	case ir.OpBswap:
		d := s.result(v)
		s.into(d, v.Args[0], v.Span)
		m := in(kSwap, v.Span)
		m.dst, m.size = d, v.Size
		s.emit(m)
	case ir.OpSelect:
		s.choose(v)
	case ir.OpBound:
		d := s.result(v)
		s.into(d, v.Args[0], v.Span)
		m := in(kBound, v.Span)
		m.dst, m.imm = d, v.Imm
		s.emit(m)
	case ir.OpLoad:
		s.load(v)
	case ir.OpStore:
		s.store(v)
	case ir.OpAtomicAdd, ir.OpFetchAdd, ir.OpXchg, ir.OpCmpXchg:
		s.atomic(v)
	case ir.OpHelper, ir.OpKfunc, ir.OpCall:
		s.call(v)
	default:
		if ir.Ops[v.Op].Compare {
			cond, x, y, imm := s.condition(v.Op, v.Args[0], v.Args[1])
			m := in(kSet, v.Span)
			m.cond, m.x, m.src, m.imm, m.useImm, m.dst = cond, x, y, imm, y == noReg, s.result(v)
			s.emit(m)
			return
		}
		s.errorf(v, "internal: no instruction for %s", v.LongString())
	}
}

// pointerToInt turns a pointer into an integer. The verifier lets no arithmetic near a pointer, and a pointer stored in the frame is
// still one when it is loaded; an atomic addition to zero makes it forget.
func (s *selector) pointerToInt(v *ir.Value) {
	slot := v.Aux.(*ir.Slot)
	p := s.reg(v.Args[0])
	m := in(kStore, v.Span)
	m.x, m.slot, m.size, m.useImm = fp, slot, 8, true
	s.emit(m)
	m = in(kAtomic, v.Span)
	m.atomic, m.x, m.slot, m.size, m.src = asm.AddAtomic, fp, slot, 8, p
	s.emit(m)
	m = in(kLoad, v.Span)
	m.src, m.slot, m.size, m.dst = fp, slot, 8, s.result(v)
	s.emit(m)
}

func (s *selector) zeroExtend(v *ir.Value) {
	d, x := s.result(v), v.Args[0]
	switch {
	case s.narrow[x.ID]:
		if len(x.Args) == 2 {
			s.binary(d, x, true)
		} else {
			s.unary(d, x, true)
		}
	case v.Size == 32:
		m := in(kMov32, v.Span)
		m.dst, m.src = d, s.reg(x)
		s.emit(m)
	default:
		s.into(d, x, v.Span)
		s.aluImm(asm.And, d, 1<<v.Size-1, false, v.Span)
	}
}

func (s *selector) choose(v *ir.Value) {
	c, a, b := v.Args[0], v.Args[1], v.Args[2]
	m := in(kSelect, v.Span)
	if s.folded[c.ID] && ir.Ops[c.Op].Compare {
		m.cond, m.x, m.src, m.imm = s.condition(c.Op, c.Args[0], c.Args[1])
	} else {
		m.cond, m.x = asm.JNE, s.reg(c)
	}
	m.useImm = m.src == noReg
	if b.Op == ir.OpConst && fitsImm(b.Imm) {
		m.imm2 = b.Imm
	} else {
		m.z = s.reg(b)
	}
	m.dst = s.result(v)
	s.into(m.dst, a, v.Span)
	s.emit(m)
}

func (s *selector) load(v *ir.Value) {
	m := in(kLoad, v.Span)
	m.src, m.off, m.slot = s.addr(v.Args[0], int64(v.Off))
	m.dst, m.size = s.result(v), v.Size
	// Context loads are rewritten by the kernel, which knows nothing of sign extension there.
	m.signed = v.Signed && s.opts.CPUv4 && v.Args[0].Type != ir.Ctx
	s.emit(m)
	if v.Signed && !m.signed {
		s.shiftPair(m.dst, v.Size*8, v.Span)
	}
}

func (s *selector) store(v *ir.Value) {
	m := in(kStore, v.Span)
	m.x, m.off, m.slot = s.addr(v.Args[0], int64(v.Off))
	m.size = v.Size
	x := v.Args[1]
	if x.Op == ir.OpConst {
		imm := x.Imm
		switch v.Size {
		case 1:
			imm = int64(int8(imm))
		case 2:
			imm = int64(int16(imm))
		case 4:
			imm = int64(int32(imm))
		}
		if fitsImm(imm) {
			m.imm, m.useImm = imm, true
			s.emit(m)
			return
		}
	}
	m.src = s.reg(x)
	s.emit(m)
}

func (s *selector) atomic(v *ir.Value) {
	m := in(kAtomic, v.Span)
	m.x, m.off, m.slot = s.addr(v.Args[0], int64(v.Off))
	m.size = v.Size
	used := s.uses[v.ID] > 0
	switch v.Op {
	case ir.OpAtomicAdd, ir.OpFetchAdd:
		m.atomic = asm.AddAtomic
		if v.Op == ir.OpFetchAdd && used {
			m.atomic = asm.FetchAdd
		}
	case ir.OpXchg:
		m.atomic = asm.Xchg
	case ir.OpCmpXchg:
		m.kind, m.atomic = kCmpXchg, asm.CmpXchg
		m.src = s.reg(v.Args[2])
		s.into(r0, v.Args[1], v.Span)
		s.emit(m)
		if used {
			s.mov(s.result(v), r0, v.Span)
		}
		return
	}
	if m.isFetch() {
		d := s.result(v)
		s.into(d, v.Args[1], v.Span)
		m.src = d
	} else {
		m.src = s.reg(v.Args[1])
	}
	s.emit(m)
}

func (s *selector) call(v *ir.Value) {
	// Values in registers first: what is made in place may then use the registers that they leave.
	for i, a := range v.Args {
		if !isLazy(strip(a)) {
			s.into(r1+reg(i), a, v.Span)
		}
	}
	for i, a := range v.Args {
		if isLazy(strip(a)) {
			s.into(r1+reg(i), a, v.Span)
		}
	}
	m := in(kHelper, v.Span)
	m.nargs = uint8(len(v.Args))
	switch v.Op {
	case ir.OpHelper:
		m.imm = v.Imm
	case ir.OpKfunc:
		m.kind, m.name = kKfunc, v.Aux.(string)
		id, err := s.opts.kfunc(m.name)
		if err != nil {
			s.errorf(v, "%v", err)
		}
		m.imm = id
	case ir.OpCall:
		m.kind, m.fn = kCall, v.Aux.(*ir.Func)
	}
	s.emit(m)
	s.cache = s.cache[:0]
	if s.uses[v.ID] > 0 {
		s.mov(s.result(v), r0, v.Span)
	}
}
