package ir

import (
	"fmt"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/lang/source"
)

// Builder appends values to the blocks of one function. It keeps a current block and a current span; named variables ([Var])
// become SSA values and block parameters as they are read (Braun and others, "Simple and Efficient Construction of Static
// Single Assignment Form"). Code emitted behind a terminator goes to a block that Finish drops.
//
//	b := ir.NewBuilder(f)
//	n := b.NewVar("n", ir.I64)
//	b.Set(n, b.Const(1))
//	b.If(b.Cmp(ir.OpEq, x, y), func() { b.Set(n, b.Const(2)) }, nil)
//	b.Return(b.Get(n))
//	err := b.Finish()
type Builder struct {
	F    *Func
	Span source.Span // of the values that follow; callers set it as they walk the tree

	cur       *Block
	cold      bool
	states    [][]blockState // by Block.Seq, in pages
	vars      []variable
	undefined map[Var]*Value

	preds slab[pred]
	defs  slab[def]
	edges slab[Edge]
}

// blockState is what a Builder knows of a block.
type blockState struct {
	sealed     bool
	preds      []pred
	defs       []def          // what variables hold at its end
	defined    map[Var]*Value // the same, once there are many
	incomplete []incomplete
}

type def struct {
	v Var
	x *Value
}

// statePage is the length of a page of Builder.states.
const statePage = 32

// fewDefs is the length up to which a list of definitions is searched.
const fewDefs = 8

// Var is a named variable of a Builder.
type Var int

type variable struct {
	name string
	typ  Type
}

type pred struct {
	b *Block
	i int // index of the edge in b.Term.Succs
}

type incomplete struct {
	v Var
	p *Value
}

// NewBuilder returns a builder that continues at the end of the function's first block, which must have no terminator yet.
func NewBuilder(f *Func) *Builder {
	b := &Builder{
		F: f, cur: f.Blocks[0],
		undefined: map[Var]*Value{},
	}
	b.state(f.Blocks[0]).sealed = true
	return b
}

// state gives what is known of a block.
func (b *Builder) state(blk *Block) *blockState {
	page := blk.Seq / statePage
	for page >= len(b.states) {
		b.states = append(b.states, nil)
	}
	if b.states[page] == nil {
		b.states[page] = make([]blockState, statePage)
	}
	return &b.states[page][blk.Seq%statePage]
}

// Param returns parameter i of the function.
func (b *Builder) Param(i int) *Value { return b.F.Blocks[0].Params[i] }

// Block returns the current block; nil after a terminator.
func (b *Builder) Block() *Block { return b.cur }

// Terminated reports whether code emitted now could never run, because the last thing emitted was a terminator.
func (b *Builder) Terminated() bool { return b.cur == nil }

// NewBlock adds a block without moving to it. Its explicit parameters must be added before anything jumps to it.
func (b *Builder) NewBlock(name string) *Block {
	blk := b.F.NewBlock(name)
	blk.Cold = b.cold
	return blk
}

// SetBlock makes blk, which has no terminator yet, the current block.
func (b *Builder) SetBlock(blk *Block) { b.cur = blk }

// Cold runs fn with new blocks marked as off the likely path.
func (b *Builder) Cold(fn func()) {
	old := b.cold
	b.cold = true
	fn()
	b.cold = old
}

// Seal tells that no more jumps to blk will come, which lets variables be read there without a parameter. It is only an
// economy: Finish seals what is left. A jump to a sealed block panics.
func (b *Builder) Seal(blk *Block) {
	st := b.state(blk)
	if st.sealed {
		return
	}
	st.sealed = true
	for _, in := range st.incomplete {
		b.addArgs(in.v, blk)
	}
	b.state(blk).incomplete = nil
}

// Finish seals all blocks, drops unreachable ones and needless parameters, and verifies the function.
func (b *Builder) Finish() error {
	if b.cur != nil {
		return fmt.Errorf("ir: %s: block b%d has no terminator", b.F.Name, b.cur.ID)
	}
	for i := 0; i < len(b.F.Blocks); i++ {
		b.Seal(b.F.Blocks[i])
	}
	for _, blk := range b.F.Blocks {
		if blk.Term.Kind == TermNone {
			if len(b.state(blk).preds) > 0 || blk == b.F.Blocks[0] {
				return fmt.Errorf("ir: %s: block b%d %s has no terminator", b.F.Name, blk.ID, blk.Name)
			}
		}
	}
	b.F.DropUnreachable()
	b.F.DropTrivialParams()
	if err := b.dropUndefined(); err != nil {
		return err
	}
	return Verify(b.F)
}

// emit appends a value to the current block.
func (b *Builder) emit(v *Value) *Value {
	if b.cur == nil {
		b.cur = b.F.NewBlock("unreachable")
		b.state(b.cur).sealed = true
	}
	return b.cur.Append(v)
}

// Emit appends a value with any op; the other methods are more convenient.
func (b *Builder) Emit(op Op, t Type, args ...*Value) *Value {
	return b.emit(b.F.NewValue(op, t, b.Span, args...))
}

// Const gives a constant.
func (b *Builder) Const(n int64) *Value {
	v := b.F.NewValue(OpConst, I64, b.Span)
	v.Imm = n
	return b.emit(v)
}

// Bool gives 1 or 0.
func (b *Builder) Bool(x bool) *Value {
	if x {
		return b.Const(1)
	}
	return b.Const(0)
}

// Op2 applies an integer op of two arguments.
func (b *Builder) Op2(op Op, x, y *Value) *Value { return b.Emit(op, I64, x, y) }

// OpImm applies an integer op with a constant as the second argument.
func (b *Builder) OpImm(op Op, x *Value, n int64) *Value { return b.Emit(op, I64, x, b.Const(n)) }

// Add gives x + y.
func (b *Builder) Add(x, y *Value) *Value { return b.Op2(OpAdd, x, y) }

// Sub gives x - y.
func (b *Builder) Sub(x, y *Value) *Value { return b.Op2(OpSub, x, y) }

// Mul gives x * y.
func (b *Builder) Mul(x, y *Value) *Value { return b.Op2(OpMul, x, y) }

// And gives x & y.
func (b *Builder) And(x, y *Value) *Value { return b.Op2(OpAnd, x, y) }

// Or gives x | y.
func (b *Builder) Or(x, y *Value) *Value { return b.Op2(OpOr, x, y) }

// Xor gives x ^ y.
func (b *Builder) Xor(x, y *Value) *Value { return b.Op2(OpXor, x, y) }

// AddImm gives x + n.
func (b *Builder) AddImm(x *Value, n int64) *Value { return b.OpImm(OpAdd, x, n) }

// Neg gives -x.
func (b *Builder) Neg(x *Value) *Value { return b.Emit(OpNeg, I64, x) }

// Not gives the bitwise complement of x.
func (b *Builder) Not(x *Value) *Value { return b.Emit(OpNot, I64, x) }

// Cmp gives 1 or 0; op is a comparison.
func (b *Builder) Cmp(op Op, x, y *Value) *Value { return b.Emit(op, I64, x, y) }

// CmpImm compares with a constant.
func (b *Builder) CmpImm(op Op, x *Value, n int64) *Value { return b.Cmp(op, x, b.Const(n)) }

// Select gives cond != 0 ? x : y.
func (b *Builder) Select(cond, x, y *Value) *Value { return b.Emit(OpSelect, x.Type, cond, x, y) }

// Bound gives min(x, limit) with x taken as unsigned.
func (b *Builder) Bound(x *Value, limit int64) *Value {
	v := b.F.NewValue(OpBound, I64, b.Span, x)
	v.Imm = limit
	return b.emit(v)
}

// Ext extends the low bits (8, 16 or 32) of x to 64, with its sign when signed; 64 gives x itself.
func (b *Builder) Ext(x *Value, bits int, signed bool) *Value {
	if bits == 64 {
		return x
	}
	op := OpZExt
	if signed {
		op = OpSExt
	}
	v := b.F.NewValue(op, I64, b.Span, x)
	v.Size = uint8(bits)
	return b.emit(v)
}

// Bswap reverses the bytes of the low 16, 32 or 64 bits of x and clears the rest.
func (b *Builder) Bswap(x *Value, bits int) *Value {
	v := b.F.NewValue(OpBswap, I64, b.Span, x)
	v.Size = uint8(bits)
	return b.emit(v)
}

func (b *Builder) addr(op Op, t Type, aux any, off int) *Value {
	v := b.F.NewValue(op, t, b.Span)
	v.Aux, v.Off = aux, int32(off)
	return b.emit(v)
}

// NewSlot adds a place of size bytes to the function.
func (b *Builder) NewSlot(name string, size, align int) *Slot { return b.F.NewSlot(name, size, align) }

// SlotAddr gives the address of byte off of a slot.
func (b *Builder) SlotAddr(s *Slot, off int) *Value { return b.addr(OpSlotAddr, Stack, s, off) }

// MapRef gives the map of that name, as an argument for helpers.
func (b *Builder) MapRef(name string) *Value { return b.addr(OpMapRef, MapRef, name, 0) }

// MapValAddr gives the address of byte off in the only value of an array map.
func (b *Builder) MapValAddr(name string, off int) *Value {
	return b.addr(OpMapValAddr, MapVal, name, off)
}

// FuncRef gives a function as a callback argument for helpers.
func (b *Builder) FuncRef(f *Func) *Value { return b.addr(OpFuncRef, FuncRef, f, 0) }

// PtrAdd gives p + x.
func (b *Builder) PtrAdd(p, x *Value) *Value { return b.Emit(OpPtrAdd, p.Type, p, x) }

// PtrAddImm gives p + n.
func (b *Builder) PtrAddImm(p *Value, n int64) *Value {
	if n == 0 {
		return p
	}
	return b.PtrAdd(p, b.Const(n))
}

// PtrDiff gives p - q in bytes.
func (b *Builder) PtrDiff(p, q *Value) *Value { return b.Emit(OpPtrDiff, I64, p, q) }

// PtrInt gives a pointer's address as an integer.
func (b *Builder) PtrInt(p *Value) *Value { return b.Emit(OpPtrInt, I64, p) }

// nonNil maps the pointer types that may be nil to those that are not.
var nonNil = map[Type]Type{MapNil: MapVal, RingNil: Ring, BTFNil: BTF}

// NonNil gives p as a pointer that is known not to be nil here because of a branch on it; see IfNonNil.
func (b *Builder) NonNil(p *Value) *Value {
	t, ok := nonNil[p.Type]
	if !ok {
		return p
	}
	return b.Emit(OpNonNil, t, p)
}

// BTFCast gives p as a pointer to the named kernel type.
func (b *Builder) BTFCast(p *Value, typeName string) *Value {
	v := b.F.NewValue(OpBTFCast, BTF, b.Span, p)
	v.Aux = typeName
	return b.emit(v)
}

// Load reads size bytes (1, 2, 4, 8) at p+off, extended to 64 bits.
func (b *Builder) Load(p *Value, off, size int, signed bool) *Value {
	v := b.F.NewValue(OpLoad, I64, b.Span, p)
	v.Off, v.Size, v.Signed = int32(off), uint8(size), signed && size < 8
	return b.emit(v)
}

// LoadPtr reads a pointer of type t at p+off: a pointer stored before in a slot, or a field of a BTF object or context.
func (b *Builder) LoadPtr(p *Value, off int, t Type) *Value {
	v := b.F.NewValue(OpLoad, t, b.Span, p)
	v.Off, v.Size = int32(off), 8
	return b.emit(v)
}

// mem appends an op on memory at p+off.
func (b *Builder) mem(op Op, t Type, off, size int, imm int64, args ...*Value) *Value {
	v := b.F.NewValue(op, t, b.Span, args...)
	v.Off, v.Size, v.Imm = int32(off), uint8(size), imm
	return b.emit(v)
}

// Store writes the low size bytes of x to p+off.
func (b *Builder) Store(p *Value, off, size int, x *Value) { b.mem(OpStore, Void, off, size, 0, p, x) }

// Zero clears n bytes at p+off.
func (b *Builder) Zero(p *Value, off, n int) { b.mem(OpZero, Void, off, 0, int64(n), p) }

// Copy copies n bytes from src+srcOff to dst+off.
func (b *Builder) Copy(dst *Value, off int, src *Value, srcOff, n int) {
	b.mem(OpCopy, Void, off, 0, int64(n), dst, b.PtrAddImm(src, int64(srcOff)))
}

// AtomicAdd adds x to the size bytes (4 or 8) at p+off.
func (b *Builder) AtomicAdd(p *Value, off, size int, x *Value) {
	b.mem(OpAtomicAdd, Void, off, size, 0, p, x)
}

// FetchAdd is AtomicAdd that gives the old value (Linux 5.12).
func (b *Builder) FetchAdd(p *Value, off, size int, x *Value) *Value {
	return b.mem(OpFetchAdd, I64, off, size, 0, p, x)
}

// Xchg stores x and gives the old value (Linux 5.12).
func (b *Builder) Xchg(p *Value, off, size int, x *Value) *Value {
	return b.mem(OpXchg, I64, off, size, 0, p, x)
}

// CmpXchg stores x if the memory holds expected and gives the old value (Linux 5.12).
func (b *Builder) CmpXchg(p *Value, off, size int, expected, x *Value) *Value {
	return b.mem(OpCmpXchg, I64, off, size, 0, p, expected, x)
}

// helperResults lists the helpers whose result is a pointer.
var helperResults = map[asm.BuiltinFunc]Type{
	asm.FnMapLookupElem:       MapNil,
	asm.FnMapLookupPercpuElem: MapNil,
	asm.FnTaskStorageGet:      MapNil,
	asm.FnInodeStorageGet:     MapNil,
	asm.FnCgrpStorageGet:      MapNil,
	asm.FnSkStorageGet:        MapNil,
	asm.FnGetLocalStorage:     MapVal,
	asm.FnRingbufReserve:      RingNil,
	asm.FnGetCurrentTaskBtf:   BTF,
	asm.FnTaskPtRegs:          BTF,
	asm.FnSockFromFile:        BTFNil,
	asm.FnThisCpuPtr:          BTF,
	asm.FnPerCpuPtr:           BTFNil,
}

// Helper calls a kernel helper; the result is I64, or a pointer for the helpers that give one.
func (b *Builder) Helper(fn asm.BuiltinFunc, args ...*Value) *Value {
	t, ok := helperResults[fn]
	if !ok {
		t = I64
	}
	v := b.F.NewValue(OpHelper, t, b.Span, args...)
	v.Imm = int64(fn)
	return b.emit(v)
}

// Kfunc calls a kernel function by name.
func (b *Builder) Kfunc(t Type, name string, args ...*Value) *Value {
	v := b.F.NewValue(OpKfunc, t, b.Span, args...)
	v.Aux = name
	return b.emit(v)
}

// Call calls a Subprog or Global function of the same module.
func (b *Builder) Call(f *Func, args ...*Value) *Value {
	v := b.F.NewValue(OpCall, I64, b.Span, args...)
	v.Aux = f
	return b.emit(v)
}

// terminate ends the current block.
func (b *Builder) terminate(t Term) {
	if b.cur == nil {
		b.cur = b.F.NewBlock("unreachable")
		b.state(b.cur).sealed = true
	}
	t.Span = b.Span
	b.cur.Term = t
	for i, e := range t.Succs {
		st := b.state(e.To)
		if st.sealed {
			panic(fmt.Sprintf("ir: jump to sealed block b%d %s", e.To.ID, e.To.Name))
		}
		if st.preds == nil {
			st.preds = b.preds.list(2)
		}
		st.preds = append(st.preds, pred{b.cur, i})
	}
	b.cur = nil
}

// Jump ends the block with a jump.
func (b *Builder) Jump(to *Block, args ...*Value) {
	b.terminate(Term{Kind: Jump, Succs: append(b.edges.list(1), Edge{To: to, Args: b.F.args.copy(args)})})
}

// Branch ends the block: to then when x cond y holds, else to els. The blocks have no explicit parameters.
func (b *Builder) Branch(cond Op, x, y *Value, then, els *Block) {
	t := Term{Kind: Branch, Cond: cond, X: x, Y: y, Succs: append(b.edges.list(2), Edge{To: then}, Edge{To: els})}
	switch {
	case then.Cold && !els.Cold:
		t.Likely = -1
	case els.Cold && !then.Cold:
		t.Likely = 1
	}
	b.terminate(t)
}

// BranchIf ends the block with a branch on cond != 0; a comparison is used directly.
func (b *Builder) BranchIf(cond *Value, then, els *Block) {
	if Ops[cond.Op].Compare {
		b.Branch(cond.Op, cond.Args[0], cond.Args[1], then, els)
		return
	}
	b.Branch(OpNe, cond, b.Const(0), then, els)
}

// Return ends the function.
func (b *Builder) Return(x *Value) { b.terminate(Term{Kind: Return, X: x}) }

// ReturnConst ends the function with a constant.
func (b *Builder) ReturnConst(n int64) { b.Return(b.Const(n)) }
