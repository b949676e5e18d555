package ir

import (
	"fmt"
	"math"
	"slices"
)

// MaxArgs is the number of arguments that a call can have: registers r1 to r5.
const MaxArgs = 5

// Verify checks the invariants of a function: each value is defined once and before its uses on every path, arguments have
// the types that their op takes, edges match the parameters of their blocks, every block ends in a terminator, and nothing
// reads through a pointer that may be nil. The error names the function, the block and the line.
func Verify(f *Func) error {
	if len(f.Blocks) == 0 {
		return fmt.Errorf("ir: %s: no blocks", f.Name)
	}
	c := &verifier{f: f, defined: make([]*Value, f.NumIDs()), pos: make([]int, f.NumIDs()), slots: map[*Slot]bool{}}
	return c.run()
}

// Verify checks all functions and that calls name functions of the module.
func (m *Module) Verify() error {
	funcs := map[*Func]bool{}
	names := map[string]bool{}
	for _, f := range m.Funcs {
		funcs[f] = true
		if names[f.Name] {
			return fmt.Errorf("ir: two functions %q", f.Name)
		}
		names[f.Name] = true
	}
	for _, f := range m.Funcs {
		if err := Verify(f); err != nil {
			return err
		}
		for _, b := range f.Blocks {
			for _, v := range b.Values {
				if g, ok := v.Aux.(*Func); ok && !funcs[g] {
					return fmt.Errorf("ir: %s: %s: function %q is not in the module", f.Name, v.LongString(), g.Name)
				}
			}
		}
		for _, s := range f.Slots {
			if s.Of != nil && (!funcs[s.In] || !slices.Contains(s.In.Slots, s.Of)) {
				return fmt.Errorf("ir: %s: slot s%d %s stands for a slot that is not in the module", f.Name, s.ID, s.Name)
			}
		}
	}
	return nil
}

type verifier struct {
	f       *Func
	defined []*Value
	pos     []int // by ID: position in the block, parameters -1
	slots   map[*Slot]bool
	dom     *DomTree
	preds   [][]*Block
	b       *Block
	v       *Value
}

func (c *verifier) errorf(format string, args ...any) error {
	where := c.f.Name
	if c.b != nil {
		where += fmt.Sprintf(": b%d", c.b.ID)
	}
	if c.v != nil {
		where += ": " + c.v.LongString()
	} else if c.b != nil {
		where += ": " + c.b.Term.String()
	}
	return fmt.Errorf("ir: %s: %s", where, fmt.Sprintf(format, args...))
}

func (c *verifier) run() error {
	blocks := make([]*Block, c.f.NumBlocks())
	ids := make([]bool, c.f.NumIDs())
	claim := func(id int) bool {
		if id <= 0 || id >= len(ids) || ids[id] {
			return false
		}
		ids[id] = true
		return true
	}
	for _, s := range c.f.Slots {
		if s.Size <= 0 || s.Align != 1 && s.Align != 2 && s.Align != 4 && s.Align != 8 {
			return c.errorf("slot s%d %s: size %d, align %d", s.ID, s.Name, s.Size, s.Align)
		}
		switch {
		case !s.Tame() && s.Class != SlotScratch:
			return c.errorf("slot s%d %s: shared, but not in scratch memory", s.ID, s.Name)
		case s.Of != nil && (c.f.Kind != Global || s.Shared || !s.Of.Shared || s.Of.Size != s.Size):
			return c.errorf("slot s%d %s: does not match the slot that it stands for", s.ID, s.Name)
		}
		if !claim(s.ID) {
			return c.errorf("slot s%d: ID used twice or out of range", s.ID)
		}
		c.slots[s] = true
	}
	for _, b := range c.f.Blocks {
		c.b = b
		if !claim(b.ID) {
			return c.errorf("block ID used twice or out of range")
		}
		if b.Seq >= len(blocks) || blocks[b.Seq] != nil {
			return c.errorf("block's place in tables used twice or out of range")
		}
		blocks[b.Seq] = b
		for i, v := range append(b.Params[:len(b.Params):len(b.Params)], b.Values...) {
			c.v = v
			switch {
			case !claim(v.ID):
				return c.errorf("value ID used twice or out of range")
			case v.Block != b:
				return c.errorf("value does not know its block")
			case (v.Op == OpParam) != (i < len(b.Params)):
				return c.errorf("parameter out of place")
			case v.Op == OpParam && v.Type == Void:
				return c.errorf("parameter without a type")
			}
			c.defined[v.ID] = v
			c.pos[v.ID] = i - len(b.Params)
		}
		c.v = nil
	}
	for _, b := range c.f.Blocks {
		c.b = b
		for _, e := range b.Term.Succs {
			if e.To.Seq >= len(blocks) || blocks[e.To.Seq] != e.To {
				return c.errorf("edge to a block that is not in the function")
			}
			if e.To == c.f.Blocks[0] {
				return c.errorf("edge to the entry block")
			}
		}
	}
	c.dom = NewDomTree(c.f)
	c.preds = c.f.Preds()
	if err := c.entry(); err != nil {
		return err
	}
	for _, b := range c.f.Blocks {
		c.b = b
		if !c.dom.Reachable(b) {
			return c.errorf("block cannot be reached")
		}
		for i, v := range b.Values {
			c.v = v
			for _, a := range v.Args {
				if err := c.use(a, i); err != nil {
					return err
				}
			}
			if err := c.value(v); err != nil {
				return err
			}
		}
		c.v = nil
		if err := c.term(b); err != nil {
			return err
		}
	}
	return nil
}

func (c *verifier) entry() error {
	c.b = c.f.Blocks[0]
	ps := c.b.Params
	if c.f.Kind == Entry && (len(ps) != 1 || ps[0].Type != Ctx) {
		return c.errorf("an entry function takes one ctx")
	}
	if len(ps) > MaxArgs {
		return c.errorf("more than %d parameters", MaxArgs)
	}
	if c.f.Kind == Global {
		if len(ps) > MaxGlobalArgs {
			return c.errorf("more than %d parameters", MaxGlobalArgs)
		}
		for _, p := range ps {
			if p.Type != I64 {
				return c.errorf("parameter %s is a %s", p, p.Type)
			}
		}
	}
	return nil
}

// use checks that a, used at position i of the current block (or at its end), is defined there.
func (c *verifier) use(a *Value, i int) error {
	switch {
	case a == nil:
		return c.errorf("missing argument")
	case a.ID <= 0 || a.ID >= len(c.defined) || c.defined[a.ID] != a:
		return c.errorf("%s is not in the function", a)
	case a.Type == Void:
		return c.errorf("%s has no value", a)
	case a.Block == c.b:
		if c.pos[a.ID] >= i {
			return c.errorf("%s is used before its definition", a)
		}
	case !c.dom.Dominates(a.Block, c.b):
		return c.errorf("%s of b%d is not defined on every path to here", a, a.Block.ID)
	}
	return nil
}

func (c *verifier) term(b *Block) error {
	t := &b.Term
	end := len(b.Values)
	want := map[TermKind]int{Jump: 1, Branch: 2, Return: 0}
	n, ok := want[t.Kind]
	if !ok {
		return c.errorf("no terminator")
	}
	if len(t.Succs) != n {
		return c.errorf("%d edges", len(t.Succs))
	}
	switch t.Kind {
	case Branch:
		if !Ops[min(t.Cond, NumOps-1)].Compare {
			return c.errorf("%s is not a comparison", t.Cond)
		}
		for _, x := range []*Value{t.X, t.Y} {
			if err := c.use(x, end); err != nil {
				return err
			}
		}
		if err := c.compare(t.Cond, t.X, t.Y); err != nil {
			return err
		}
	case Return:
		if err := c.use(t.X, end); err != nil {
			return err
		}
		if t.X.Type != I64 {
			return c.errorf("returns a %s", t.X.Type)
		}
	}
	for _, e := range t.Succs {
		if len(e.Args) != len(e.To.Params) {
			return c.errorf("%d arguments for the %d parameters of b%d", len(e.Args), len(e.To.Params), e.To.ID)
		}
		for i, a := range e.Args {
			if err := c.use(a, end); err != nil {
				return err
			}
			if p := e.To.Params[i]; a.Type != p.Type {
				return c.errorf("%s is a %s, parameter %s is a %s", a, a.Type, p, p.Type)
			}
		}
	}
	return nil
}

// compare checks the operands of a comparison: integers, a pointer with nil, or two pointers of the same kind.
func (c *verifier) compare(op Op, x, y *Value) error {
	switch {
	case x.Type == I64 && y.Type == I64:
	case x.Type.IsPtr() && y.Op == OpConst && y.Imm == 0 && (op == OpEq || op == OpNe):
	case x.Type.IsPtr() && x.Type == y.Type && op != OpSet:
	default:
		return c.errorf("%s does not compare %s with %s", op, x.Type, y.Type)
	}
	return nil
}

func isOneOf(t Type, ts ...Type) bool {
	for _, x := range ts {
		if t == x {
			return true
		}
	}
	return false
}

func (c *verifier) value(v *Value) error {
	if v.Op == OpInvalid || v.Op == OpParam || v.Op >= NumOps {
		return c.errorf("op out of place")
	}
	info := &Ops[v.Op]
	if info.Args >= 0 && len(v.Args) != info.Args || len(v.Args) > MaxArgs {
		return c.errorf("%d arguments", len(v.Args))
	}
	if err := c.result(v); err != nil {
		return err
	}
	switch v.Op {
	case OpSlotAddr, OpMapRef, OpMapValAddr, OpFuncRef:
		return c.address(v)
	case OpPtrAdd, OpPtrDiff, OpPtrInt, OpNonNil, OpBTFCast:
		return c.pointer(v)
	case OpLoad, OpStore, OpZero, OpCopy, OpAtomicAdd, OpFetchAdd, OpXchg, OpCmpXchg:
		return c.memory(v)
	case OpHelper, OpKfunc, OpCall:
		return c.call(v)
	case OpConst:
		return nil
	case OpSelect:
		if v.Args[0].Type != I64 {
			return c.errorf("%s is a %s", v.Args[0], v.Args[0].Type)
		}
		if v.Args[1].Type != v.Type || v.Args[2].Type != v.Type {
			return c.errorf("selects between %s and %s", v.Args[1].Type, v.Args[2].Type)
		}
		return nil
	}
	if info.Compare {
		return c.compare(v.Op, v.Args[0], v.Args[1])
	}
	for _, a := range v.Args {
		if a.Type != I64 {
			return c.errorf("%s is a %s", a, a.Type)
		}
	}
	switch v.Op {
	case OpZExt, OpSExt:
		if v.Size != 8 && v.Size != 16 && v.Size != 32 {
			return c.errorf("extends %d bits", v.Size)
		}
	case OpBswap:
		if v.Size != 16 && v.Size != 32 && v.Size != 64 {
			return c.errorf("swaps %d bits", v.Size)
		}
	case OpBound:
		if v.Imm < 0 || v.Imm > math.MaxInt32 {
			return c.errorf("bound out of range")
		}
	}
	return nil
}

// result checks the type of a value against its op.
func (c *verifier) result(v *Value) error {
	ok := false
	switch v.Op {
	case OpSlotAddr:
		ok = v.Type == Stack
	case OpMapRef:
		ok = v.Type == MapRef
	case OpMapValAddr:
		ok = v.Type == MapVal
	case OpFuncRef:
		ok = v.Type == FuncRef
	case OpBTFCast:
		ok = v.Type == BTF || v.Type == BTFNil
	case OpStore, OpZero, OpCopy, OpAtomicAdd:
		ok = v.Type == Void
	case OpHelper, OpKfunc:
		ok = v.Type == I64 || v.Type == Void || v.Type.IsPtr() && v.Type != Ctx
	case OpLoad:
		ok = v.Type == I64 || v.Type.IsPtr() && v.Size == 8 && !v.Signed
	case OpPtrAdd, OpNonNil, OpSelect:
		ok = true // checked with the arguments
	default:
		ok = v.Type == I64
	}
	if !ok {
		return c.errorf("has type %s", v.Type)
	}
	return nil
}

func (c *verifier) address(v *Value) error {
	switch v.Op {
	case OpSlotAddr:
		s, ok := v.Aux.(*Slot)
		if !ok || !c.slots[s] {
			return c.errorf("no slot of this function")
		}
		if v.Off < 0 || int(v.Off) > s.Size {
			return c.errorf("outside the slot's %d bytes", s.Size)
		}
	case OpFuncRef:
		if f, ok := v.Aux.(*Func); !ok || f.Kind != Callback {
			return c.errorf("no callback")
		}
	default:
		if s, ok := v.Aux.(string); !ok || s == "" {
			return c.errorf("no map name")
		}
		if v.Off < 0 {
			return c.errorf("negative offset")
		}
	}
	return nil
}

func (c *verifier) pointer(v *Value) error {
	p := v.Args[0]
	if !p.Type.IsPtr() {
		return c.errorf("%s is a %s", p, p.Type)
	}
	switch v.Op {
	case OpPtrAdd:
		if isOneOf(p.Type, MapNil, RingNil) {
			return c.errorf("%s may be nil", p)
		}
		if v.Args[1].Type != I64 {
			return c.errorf("%s is a %s", v.Args[1], v.Args[1].Type)
		}
		// Scratch memory is map memory that serves as the stack.
		if v.Type != p.Type && (v.Type != Stack || p.Type != MapVal) {
			return c.errorf("has type %s", v.Type)
		}
	case OpPtrDiff:
		if v.Args[1].Type != p.Type {
			return c.errorf("%s minus %s", p.Type, v.Args[1].Type)
		}
	case OpNonNil:
		if t, ok := nonNil[p.Type]; !ok || t != v.Type {
			return c.errorf("%s from %s", v.Type, p.Type)
		}
		if !c.checked(p) {
			return c.errorf("no branch on %s != 0 dominates", p)
		}
	case OpBTFCast:
		if s, ok := v.Aux.(string); !ok || s == "" {
			return c.errorf("no type name")
		}
		if !isOneOf(p.Type, BTF, BTFNil) {
			return c.errorf("%s is a %s", p, p.Type)
		}
	}
	return nil
}

// checked reports whether a block that dominates the current one is entered only where p is not nil.
func (c *verifier) checked(p *Value) bool {
	for b := c.b; b != nil; b = c.dom.IDom(b) {
		if preds := c.preds[b.Seq]; len(preds) == 1 {
			t := &preds[0].Term
			if t.Kind == Branch && t.X == p && t.Y.Op == OpConst && t.Y.Imm == 0 && t.Succs[0].To != t.Succs[1].To {
				if t.Cond == OpNe && t.Succs[0].To == b || t.Cond == OpEq && t.Succs[1].To == b {
					return true
				}
			}
		}
	}
	return false
}

func (c *verifier) memory(v *Value) error {
	p := v.Args[0]
	readable := []Type{Ctx, Stack, MapVal, Ring, BTF, BTFNil}
	writable := []Type{Stack, MapVal, Ring}
	size := int64(v.Size)
	switch v.Op {
	case OpLoad:
		if !isOneOf(p.Type, readable...) {
			return c.errorf("loads through a %s", p.Type)
		}
		if v.Size != 1 && v.Size != 2 && v.Size != 4 && v.Size != 8 || v.Size == 8 && v.Signed {
			return c.errorf("size %d", v.Size)
		}
	case OpStore:
		if !isOneOf(p.Type, writable...) {
			return c.errorf("stores through a %s", p.Type)
		}
		if v.Size != 1 && v.Size != 2 && v.Size != 4 && v.Size != 8 {
			return c.errorf("size %d", v.Size)
		}
		// Pointers keep their provenance only in the stack frame, eight bytes wide.
		if t := v.Args[1].Type; t != I64 && (!t.IsPtr() || p.Type != Stack || v.Size != 8) {
			return c.errorf("stores a %s", t)
		}
	case OpZero, OpCopy:
		if !isOneOf(p.Type, writable...) {
			return c.errorf("writes through a %s", p.Type)
		}
		if v.Op == OpCopy && !isOneOf(v.Args[1].Type, readable...) {
			return c.errorf("copies from a %s", v.Args[1].Type)
		}
		if v.Imm <= 0 || v.Imm > 1<<20 {
			return c.errorf("size %d", v.Imm)
		}
		size = v.Imm
	default:
		if !isOneOf(p.Type, writable...) {
			return c.errorf("atomic on a %s", p.Type)
		}
		if v.Size != 4 && v.Size != 8 {
			return c.errorf("size %d", v.Size)
		}
		for _, a := range v.Args[1:] {
			if a.Type != I64 {
				return c.errorf("%s is a %s", a, a.Type)
			}
		}
	}
	if p.Op == OpSlotAddr {
		s, _ := p.Aux.(*Slot)
		if lo := int64(p.Off) + int64(v.Off); s != nil && (lo < 0 || lo+size > int64(s.Size)) {
			return c.errorf("bytes %d to %d of the %d of slot %s", lo, lo+size, s.Size, s.Name)
		}
	}
	return nil
}

func (c *verifier) call(v *Value) error {
	for _, a := range v.Args {
		if isOneOf(a.Type, MapNil, RingNil) {
			return c.errorf("%s may be nil", a)
		}
	}
	switch v.Op {
	case OpHelper:
		if v.Imm <= 0 || v.Imm > math.MaxInt32 {
			return c.errorf("helper number %d", v.Imm)
		}
	case OpKfunc:
		if s, ok := v.Aux.(string); !ok || s == "" {
			return c.errorf("no function name")
		}
	case OpCall:
		f, ok := v.Aux.(*Func)
		if !ok || f.Kind != Subprog && f.Kind != Global {
			return c.errorf("no subprog")
		}
		ps := f.Blocks[0].Params
		if len(ps) != len(v.Args) {
			return c.errorf("%d arguments for the %d parameters of %s", len(v.Args), len(ps), f.Name)
		}
		for i, a := range v.Args {
			if a.Type != ps[i].Type {
				return c.errorf("%s is a %s, parameter %d is a %s", a, a.Type, i, ps[i].Type)
			}
		}
	}
	return nil
}
