package lower

import (
	"fmt"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// Loops whose number of rounds is known and small stay loops: the verifier walks through every round. All others become callbacks of
// bpf_loop or bpf_for_each_map_elem, which the verifier checks once whatever their number of rounds. Where the kernel has no bpf_loop, a
// hidden counter bounds them, and a loop that it stops is counted (CounterLoop). Where a program was too much for the verifier
// (Options.LoopBudget), loops that stayed loops, and blocks that are written out, become callbacks too; where there are none, they become global
// functions if they can (global.go), or loops are written out.
const (
	maxInlineRounds  = 32      // of a loop with constant bounds, times those of the loops around it
	maxCallbackLoops = 1 << 23 // BPF_MAX_LOOPS
)

// loopTarget is where break and continue go.
type loopTarget struct {
	loop *ir.Loop // nil: a callback
}

func (l loopTarget) jump(g *Gen, kind ast.JumpKind) {
	switch {
	case l.loop != nil && kind == ast.Break:
		g.B.Jump(l.loop.Break)
	case l.loop != nil:
		g.B.Jump(l.loop.Continue)
	case kind == ast.Break:
		g.fr.cb.exit(g, leaveLoop)
	default:
		g.B.ReturnConst(0)
	}
}

// Exit codes of a callback.
const (
	leaveLoop   = 1
	leaveClause = 2
)

// callback is the function that the body of a loop became.
//
// Its context argument is a block of pointers in the caller's stack frame (only there the verifier remembers what a stored pointer points
// to). The first leads to the shared frame, which lies in scratch memory because the verifier knows nothing of values there: it would
// otherwise follow each round of a loop whose counter it knows. Scalars of the function around the loop are copied to
// the shared frame before the loop and back behind it.
type callback struct {
	f       *ir.Func
	param   *ir.Value // the context argument
	block   *ir.Slot  // of the caller: pointers
	frame   *ir.Slot  // of the caller: scalars; word 0 is the exit code, word 1 the return value
	words   int
	ptrs    []capturedPtr
	scalars []capturedVar
	copies  []capturedWord
	base    *ir.Value // in the callback: the shared frame
	leaves  bool
	returns bool

	global  bool          // a global function instead of a callback
	in      *ir.Func      // global: the function around the loop
	stmt    ast.Stmt      // global: the loop, nil for a search
	blocked bool          // global: it needs what it cannot have
	ctx     *ir.Value     // global: stands for the program's context until readContext
	context []contextWord // global
	stacks  []stackWord   // global
}

type capturedPtr struct {
	key  any
	make func() *ir.Value // in the caller
	v    *ir.Value        // in the callback
}

type capturedVar struct {
	v   *check.LocalVar
	off int
}

type capturedWord struct {
	off int
	v   *ir.Value // in the caller
}

const frameHeader = 2 // words: exit code, return value

// newCallback prepares the function for the body of a loop; params are those that come before the context, which is parameter at.
func (g *Gen) newCallback(name string, at int, params ...ir.Type) *callback {
	f := ir.NewFunc(fmt.Sprintf("%s_%s%d", g.prog.Name, name, len(g.module.Funcs)), ir.Callback, params...)
	g.module.Funcs = append(g.module.Funcs, f)
	cb := &callback{f: f, words: frameHeader}
	cb.block = g.B.NewSlot(name+"_ctx", 8, 8)
	cb.block.Class = ir.SlotStack
	cb.frame = g.B.NewSlot(name+"_frame", 8*frameHeader, 8)
	cb.frame.Class = ir.SlotScratch
	cb.param = f.Blocks[0].Params[at]
	return cb
}

// generate runs body as the callback's code.
func (cb *callback) generate(g *Gen, body func()) {
	outerB, outerFr, span := g.B, g.fr, g.B.Span
	g.B = ir.NewBuilder(cb.f)
	g.B.Span = span
	g.fr = newFrame(g.B, outerFr)
	g.fr.cb = cb
	g.fr.loops = []loopTarget{{}}
	slot := cb.frame
	cb.base = cb.pointer(g, slot, ir.Stack, func() *ir.Value { return outerB.SlotAddr(slot, 0) })
	start := g.B.NewBlock("round")
	g.B.Jump(start)
	g.B.Seal(start)
	g.B.SetBlock(start)
	body()
	if !g.B.Terminated() {
		g.B.ReturnConst(0)
	}
	if cb.global { // the sizes are known behind this
		cb.readContext()
		cb.frame.Size = 8 * cb.words
		cb.f.Alias(cb.frame, cb.in).Size = cb.frame.Size
	}
	if !cb.blocked {
		if err := g.B.Finish(); err != nil {
			panic(err.Error())
		}
	}
	g.B, g.fr = outerB, outerFr
	g.B.Span = span
}

// pointer gives a pointer of the caller inside the callback. It is loaded in the entry block, which is closed already: loads are
// put before its jump.
func (cb *callback) pointer(g *Gen, key any, t ir.Type, make func() *ir.Value) *ir.Value {
	for _, p := range cb.ptrs {
		if p.key == key {
			return p.v
		}
	}
	if cb.global {
		v := cb.sharedPointer(g, key, t)
		cb.ptrs = append(cb.ptrs, capturedPtr{key, make, v})
		return v
	}
	entry := cb.f.Blocks[0]
	v := cb.f.NewValue(ir.OpLoad, t, g.B.Span, cb.param)
	v.Off, v.Size = int32(8*len(cb.ptrs)), 8
	entry.Append(v)
	cb.ptrs = append(cb.ptrs, capturedPtr{key, make, v})
	return v
}

// imported gives a value of the program's entry function inside callbacks, however deep.
func (g *Gen) imported(v *ir.Value) *ir.Value {
	cb := g.fr.cb
	outer := g.fr.outer
	return cb.pointer(g, v, v.Type, func() *ir.Value {
		if outer.cb == nil {
			return v
		}
		return g.imported(v) // runs in the function around this one
	})
}

// capture binds a variable of the function around the loop inside the callback.
func (cb *callback) capture(g *Gen, v *check.LocalVar) *binding {
	inner, innerFr := g.B, g.fr
	g.B, g.fr = innerFr.outer.b, innerFr.outer
	ob := g.bindingOf(v)
	g.B, g.fr = inner, innerFr
	outer := innerFr.outer
	t := v.Type
	switch ob.kind {
	case bindSlot:
		if ob.slot.Class == ir.SlotAuto { // on the stack the verifier would know its value, and follow each round of a loop that counts with it
			ob.slot.Class = ir.SlotScratch
		}
		p := cb.pointer(g, ob.slot, ir.Stack, func() *ir.Value { return outer.b.SlotAddr(ob.slot, 0) })
		return &binding{kind: bindMem, mem: Place{Ptr: p, Size: t.Size, Space: types.SpaceBPF}}
	case bindMem:
		if ob.mem.Ptr.Type == ir.Stack && (!t.IsScalar() && !isReference(t) || v.Addr) {
			p := cb.pointer(g, ob.mem.Ptr, ir.Stack, func() *ir.Value { return ob.mem.Ptr })
			m := ob.mem
			m.Ptr = p
			return &binding{kind: bindMem, mem: m}
		}
	case bindPair:
		b := &binding{kind: bindPair}
		b.key = cb.captureOperand(g, ob.key)
		b.value = cb.captureOperand(g, ob.value)
		return b
	case bindValue:
		if ob.op.V.Type != ir.I64 {
			o := ob.op
			src := o.V
			o.V = cb.pointer(g, src, src.Type, func() *ir.Value { return src })
			return &binding{kind: bindValue, op: o}
		}
	}
	off := cb.word()
	cb.scalars = append(cb.scalars, capturedVar{v, off})
	return &binding{kind: bindMem, mem: Place{Ptr: cb.base, Off: int32(off), Size: 8, Space: types.SpaceBPF}}
}

// captureOperand makes a value of the function around the loop usable inside. Its loads are in the entry block, so it may be used anywhere.
func (cb *callback) captureOperand(g *Gen, o Operand) Operand {
	switch {
	case o.V != nil && o.V.Type == ir.I64:
		src, off := o.V, cb.word()
		cb.copies = append(cb.copies, capturedWord{off, src})
		v := cb.f.NewValue(ir.OpLoad, ir.I64, g.B.Span, cb.base)
		v.Off, v.Size = int32(off), 8
		o.V = cb.f.Blocks[0].Append(v)
	case o.V != nil:
		src := o.V
		o.V = cb.pointer(g, src, src.Type, func() *ir.Value { return src })
	default:
		src := o.P.Ptr
		o.P.Ptr = cb.pointer(g, src, src.Type, func() *ir.Value { return src })
	}
	return o
}

func (cb *callback) word() int {
	off := 8 * cb.words
	cb.words++
	return off
}

// exit ends the callback and the loop.
func (cb *callback) exit(g *Gen, code int64) {
	if code == leaveClause {
		cb.leaves = true
		g.B.Store(cb.base, 0, 8, g.B.Const(code))
	}
	g.B.ReturnConst(1)
}

func (cb *callback) setReturn(g *Gen, v *ir.Value) {
	cb.returns = true
	g.B.Store(cb.base, 8, 8, v)
}

// run emits the call, with the captured values copied in before and out behind it.
func (cb *callback) run(g *Gen, call func(fn, ctx *ir.Value) *ir.Value) {
	B := g.B
	cb.frame.Size = 8 * cb.words
	if !cb.global {
		cb.block.Size = 8 * len(cb.ptrs)
	}
	frame := B.SlotAddr(cb.frame, 0)
	if cb.leaves {
		B.Store(frame, 0, 8, B.Const(0))
	}
	if cb.returns {
		B.Store(frame, 8, 8, g.currentReturn())
	}
	for _, c := range cb.scalars {
		B.Store(frame, c.off, 8, g.rawVar(c.v))
	}
	for _, c := range cb.copies {
		B.Store(frame, c.off, 8, c.v)
	}
	for _, c := range cb.stacks {
		B.Store(frame, c.off, 8, g.Stack(c.user, c.frames))
	}
	for _, c := range cb.context {
		B.Store(frame, c.off, 8, B.Load(g.Ctx(), int(c.load.Off), int(c.load.Size), c.load.Signed))
	}
	var rc *ir.Value
	if cb.global {
		rc = call(nil, nil)
		frame = B.SlotAddr(cb.frame, 0)
	} else {
		ctx := B.SlotAddr(cb.block, 0)
		for i, p := range cb.ptrs {
			B.Store(ctx, 8*i, 8, p.make())
		}
		rc = call(B.FuncRef(cb.f), ctx)
	}
	g.checkHelper(rc, "loop", object.CounterLoop)
	for _, c := range cb.scalars {
		g.setRawVar(c.v, B.Load(frame, c.off, 8, false))
	}
	if cb.returns {
		ret := B.Load(frame, 8, 8, false)
		if g.Hook.Errno {
			ret = g.errnoOrZero(ret)
		}
		g.setReturn(ret)
	}
	if cb.leaves {
		g.LeaveUnless(B.CmpImm(ir.OpEq, B.Load(frame, 0, 8, false), 0))
	}
}

// errnoOrZero shows the verifier that v is 0 or a negative error number, which it has forgotten of memory that a callback wrote.
func (g *Gen) errnoOrZero(v *ir.Value) *ir.Value {
	const most = 4095 // MAX_ERRNO
	ret := g.B.NewVar("errno", ir.I64)
	g.B.Set(ret, v)
	g.B.If(g.B.CmpImm(ir.OpSLt, v, -most), func() { g.B.Set(ret, g.B.Const(-most)) }, nil)
	g.B.If(g.B.CmpImm(ir.OpSGt, g.B.Get(ret), 0), func() { g.B.Set(ret, g.B.Const(0)) }, nil)
	return g.B.Get(ret)
}

func (g *Gen) currentReturn() *ir.Value {
	if g.fr.cb == nil {
		return g.B.Get(g.ret)
	}
	return g.B.Load(g.fr.cb.base, 8, 8, false)
}

// rawVar gives the 64 bits of a scalar variable or reference.
func (g *Gen) rawVar(v *check.LocalVar) *ir.Value {
	b := g.bindingOf(v)
	switch b.kind {
	case bindSSA:
		return g.B.Get(b.ssa)
	case bindMem:
		return g.B.Load(b.mem.Ptr, int(b.mem.Off), 8, false)
	}
	return g.asInt(b.op.V)
}

func (g *Gen) setRawVar(v *check.LocalVar, x *ir.Value) {
	b := g.bindingOf(v)
	switch b.kind {
	case bindSSA:
		g.B.Set(b.ssa, x)
	case bindMem:
		g.B.Store(b.mem.Ptr, int(b.mem.Off), 8, x)
	}
}

// inlineRounds is the number of rounds of all the loops around that the verifier walks through.
func (g *Gen) inlineRounds() int {
	n := 1
	for _, r := range g.rounds {
		n *= r
	}
	return n
}

// inlineLoop runs fn as part of a loop that the verifier walks through.
func (g *Gen) inlineLoop(rounds int, l *ir.Loop, fn func()) {
	g.rounds = append(g.rounds, rounds)
	g.fr.loops = append(g.fr.loops, loopTarget{l})
	g.scoped(fn)
	g.fr.loops = g.fr.loops[:len(g.fr.loops)-1]
	g.rounds = g.rounds[:len(g.rounds)-1]
}

func (g *Gen) unroll(s *ast.Unroll) {
	n := int64(0)
	if c, ok := g.Body.Consts[s.Count]; ok {
		n = c.Int
	} else if l, ok := unparen(s.Count).(*ast.IntLit); ok {
		n = int64(l.Value)
	}
	again := n > 1 && g.u.loopBudget() > 0 && !leavesLoop(s.Body)
	switch {
	case again && g.Target.Features.Has(target.BpfLoop):
		cb := g.newCallback("unroll", 1, ir.I64, ir.Stack)
		cb.generate(g, func() { g.block(s.Body, false) })
		cb.run(g, func(_, ctx *ir.Value) *ir.Value { return g.callLoop(cb, g.B.Const(n), ctx) })
		return
	case again && g.globalLoop("unroll", s, int(n), func(*callback) { g.block(s.Body, false) }, func() *ir.Value { return g.B.Const(0) }):
		return
	}
	g.writeOut(n, func(int64, *ir.Loop) { g.block(s.Body, true) }, func() {})
}

// leavesLoop reports whether a block has a break or continue of a loop around it.
func leavesLoop(n ast.Node) bool {
	found := false
	each(n, func(c ast.Node) {
		switch c := c.(type) {
		case *ast.While, *ast.ForRange, *ast.ForMap: // their own
		case *ast.Jump:
			found = found || c.Kind != ast.Return
		default:
			found = found || leavesLoop(c)
		}
	})
	return found
}

// forRange lowers `for ($i : lo..hi)`.
func (g *Gen) forRange(s *ast.ForRange) {
	v := g.Body.Vars[s.Var]
	t := v.Type
	wide := types.IntOf(8, t.Signed)
	lo, hi := g.ScalarAs(s.Lo, wide), g.ScalarAs(s.Hi, wide)
	if lo.Op == ir.OpConst && hi.Op == ir.OpConst {
		rounds := hi.Imm - lo.Imm
		if rounds <= 0 {
			return
		}
		again, callbacks := g.u.loopBudget() > 0, g.Target.Features.Has(target.BpfLoop)
		if again && !callbacks && g.globalRange(s, lo, g.B.Const(rounds)) {
			return
		}
		if rounds*int64(g.inlineRounds()) <= maxInlineRounds && (!again || !callbacks) {
			// The verifier looks for a known state only every hundred instructions of a loop, and follows all ways through the code between. Where
			// that was too much for it, the rounds are written out: between them it looks far more often.
			if again {
				g.writtenOut(rounds, func(i int64, _ *ir.Loop) {
					g.rangeRound(s, v, wide, g.B.Const(lo.Imm+i))
				}, func() {})
				return
			}
			loop := func() {
				g.B.For(lo, hi, func(i *ir.Value, l *ir.Loop) {
					g.inlineLoop(int(rounds), l, func() { g.rangeRound(s, v, wide, i) })
				})
			}
			if rounds > 4 && branches(s.Body) {
				g.inMemory(s, loop)
			} else {
				loop()
			}
			return
		}
	}
	n := g.rangeLength(lo, hi)
	if !g.Target.Features.Has(target.BpfLoop) {
		if g.globalRange(s, lo, n) {
			return
		}
		g.boundedRange(s, v, wide, lo, n)
		return
	}
	cb := g.newCallback("for", 1, ir.I64, ir.Stack)
	first := lo
	cb.generate(g, func() {
		i := g.B.Ext(g.B.Param(0), 32, false)
		if first.Op != ir.OpConst {
			o := cb.captureOperand(g, Scalar(wide, first))
			i = g.B.Add(i, o.V)
		} else if first.Imm != 0 {
			i = g.B.AddImm(i, first.Imm)
		}
		g.writeVar(v, Scalar(wide, i))
		g.block(s.Body, false)
	})
	cb.run(g, func(_, ctx *ir.Value) *ir.Value { return g.callLoop(cb, n, ctx) })
}

// rangeRound is a round of a range loop that is no callback: i is the variable's value.
func (g *Gen) rangeRound(s *ast.ForRange, v *check.LocalVar, wide *types.Type, i *ir.Value) {
	delete(g.fr.vars, v)
	g.writeVar(v, Scalar(wide, i))
	g.block(s.Body, false)
}

// callLoop runs a callback n times. A call with n of 0 is left out: the verifier does not look at the callback of a loop that it knows to be
// empty, takes it for dead code, and then misses it.
func (g *Gen) callLoop(cb *callback, n, ctx *ir.Value) *ir.Value {
	call := func() *ir.Value { return g.B.Helper(asm.FnLoop, n, g.B.FuncRef(cb.f), ctx, g.B.Const(0)) }
	if n.Op == ir.OpConst {
		if n.Imm == 0 {
			return n
		}
		return call()
	}
	rc := g.B.NewVar("rounds", ir.I64)
	g.B.Set(rc, g.B.Const(0))
	g.B.If(g.B.CmpImm(ir.OpNe, n, 0), func() { g.scoped(func() { g.B.Set(rc, call()) }) }, nil)
	return g.B.Get(rc)
}

// rangeLength gives the number of rounds: hi-lo, 0 when that is negative, at most what bpf_loop takes plus one (which it refuses,
// and which is counted).
func (g *Gen) rangeLength(lo, hi *ir.Value) *ir.Value {
	if lo.Op == ir.OpConst && hi.Op == ir.OpConst {
		return g.B.Const(min(max(hi.Imm-lo.Imm, 0), maxCallbackLoops+1))
	}
	d := g.B.Sub(hi, lo)
	d = g.B.Select(g.B.Cmp(ir.OpSLt, lo, hi), d, g.B.Const(0))
	return g.B.Bound(d, maxCallbackLoops+1)
}

// while lowers a while loop.
func (g *Gen) while(s *ast.While) {
	if !g.Target.Features.Has(target.BpfLoop) {
		if !g.globalWhile(s) {
			g.boundedWhile(s)
		}
		return
	}
	cb := g.newCallback("while", 1, ir.I64, ir.Stack)
	cb.generate(g, func() {
		body, done := g.B.NewBlock("body"), g.B.NewBlock("done")
		g.Cond(s.Cond, body, done)
		g.B.Seal(body)
		g.B.Seal(done)
		g.B.SetBlock(done)
		g.B.ReturnConst(1)
		g.B.SetBlock(body)
		g.block(s.Body, false)
	})
	cb.run(g, func(fn, ctx *ir.Value) *ir.Value {
		rounds := g.B.Helper(asm.FnLoop, g.B.Const(maxCallbackLoops), fn, ctx, g.B.Const(0))
		g.B.Unless(g.B.CmpImm(ir.OpNe, rounds, maxCallbackLoops), func() { g.scoped(func() { g.Count(object.CounterLoop) }) })
		return g.B.Const(0)
	})
}

// forMap lowers `for ($kv : @map)`.
func (g *Gen) forMap(s *ast.ForMap) {
	if !g.Target.Features.Has(target.ForEachMapElem) {
		g.Errorf("E0701", s, "a loop over a map needs a newer kernel").
			Hint("use a kernel from 5.13 on, which has bpf_for_each_map_elem")
		return
	}
	m := g.Map(s.Map.Name)
	v := g.Body.Vars[s.Var]
	if m == nil || !m.plan.hasKernelMap() {
		g.bug(s, "%s cannot be iterated", s.Map.Name)
	}
	cb := g.newCallback("foreach", 3, ir.MapRef, ir.MapVal, ir.MapVal, ir.Stack)
	cb.generate(g, func() {
		b := &binding{kind: bindPair}
		own := v.Addr || g.facts.assigned[v] > 0 // the body may change it: it is a variable like others, with the pair as its first value
		if !own {
			g.fr.vars[v] = b
		}
		key, value := v.Type.Fields[0].Type, v.Type.Fields[1].Type
		b.key = g.snapshot(g.B.Param(1), m.Key, key)
		if m.plan.agg() {
			b.value = g.Convert(g.readAgg(m, g.B.Param(1), m.Value), value)
		} else {
			b.value = g.snapshot(g.B.Param(2), m.Value, value)
		}
		if own {
			p := g.varPlace(v)
			g.StoreValue(p.At(v.Type.Fields[0].Offset, key.Size), key, b.key)
			g.padTuple(p, v.Type)
			g.StoreValue(p.At(v.Type.Fields[1].Offset, value.Size), value, b.value)
		}
		g.block(s.Body, false)
	})
	cb.run(g, func(fn, ctx *ir.Value) *ir.Value {
		return g.B.Helper(asm.FnForEachMapElem, g.B.MapRef(m.Name), fn, ctx, g.B.Const(0))
	})
}

// snapshot copies a part of a map element, which may change or vanish while the body runs.
func (g *Gen) snapshot(p *ir.Value, from, to *types.Type) Operand {
	src := Place{Ptr: p, Size: from.Size, Space: types.SpaceBPF}
	if from.IsScalar() {
		return g.Convert(Scalar(from, g.LoadScalar(src, from)), to)
	}
	k := g.Keep("elem", from.Size, ir.SlotAuto)
	g.ReadMem(k, src)
	return g.Convert(Operand{Type: from, P: k}, to)
}

// maxInlineRepeat is the number of rounds of a Repeat up to which it stays a loop of the program.
const maxInlineRepeat = 64

// Repeat runs body n times (at most limit), with i counting from 0, until it calls stop, which ends the code of the round. On kernels with
// bpf_loop a long one becomes a callback, so body may use nothing of the surrounding code but the memory in mem, which it is given
// again, and values that it makes itself. Where the verifier must walk through all rounds, at most maxSteps are run and the rest is counted.
func (g *Gen) Repeat(n *ir.Value, limit int, mem []Place, body func(i *ir.Value, mem []Place, stop func())) {
	long := maxInlineRepeat
	if g.u.loopBudget() > 0 {
		long = 4
	}
	if limit > long && g.Target.Features.Has(target.BpfLoop) {
		cb := g.newCallback("repeat", 1, ir.I64, ir.Stack)
		cb.generate(g, func() {
			inner := make([]Place, len(mem))
			for k, m := range mem {
				inner[k] = m
				ptr := m.Ptr
				inner[k].Ptr = cb.pointer(g, ptr, ptr.Type, func() *ir.Value { return ptr })
			}
			i := g.B.Bound(g.B.Ext(g.B.Param(0), 32, false), int64(limit-1))
			body(i, inner, func() { g.B.ReturnConst(1) })
		})
		cb.run(g, func(_, ctx *ir.Value) *ir.Value { return g.callLoop(cb, g.B.Bound(n, int64(limit)), ctx) })
		return
	}
	if g.globalRepeat(n, limit, mem, body) {
		return
	}
	rounds := min(limit, maxSteps)
	done := g.B.NewBlock("repeated")
	g.B.For(g.B.Const(0), g.B.Const(int64(rounds)), func(i *ir.Value, l *ir.Loop) {
		if n.Op != ir.OpConst || n.Imm < int64(rounds) {
			more := g.B.NewBlock("round")
			g.B.Branch(ir.OpULt, i, n, more, done)
			g.B.Seal(more)
			g.B.SetBlock(more)
		}
		g.scoped(func() { body(i, mem, func() { g.B.Jump(done) }) })
	})
	if rounds < limit {
		g.B.Cold(func() { g.scoped(func() { g.Count(object.CounterLoop) }) })
	}
	g.B.Jump(done)
	g.B.Seal(done)
	g.B.SetBlock(done)
}

// maxSteps bounds a Repeat that the verifier must walk through.
const maxSteps = 1024

// Searcher is a Func that goes through a string byte by byte: where the verifier must walk through loops, one around it has fewer rounds.
type Searcher Func
