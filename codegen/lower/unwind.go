package lower

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/types"
)

// Offsets in struct pt_regs of x86-64.
const (
	regsBP = 32
	regsIP = 128
	regsSP = 152
)

// The walker's state, in scratch memory: the verifier then sees one round for all.
const (
	walkIP    = 0
	walkSP    = 8
	walkBP    = 16
	walkN     = 24 // frames so far
	walkFirst = 32 // the process's ranges
	walkCount = 40
	walkRow   = 48 // the row of the place, 0 where there is none
	walkWord  = 56 // where words of the stack are read to
	walkSize  = 64
)

const (
	maxRangeSteps = 14 // rounds of the search: 1<<14 ranges
	maxRowSteps   = 21
)

// UnwoundStack takes the stack of user space by the unwind tables of the process, and gives its id as Stack does. Where the process has
// none it is the stack by frame pointers. The runtime fills the tables (object.UnwindRowsMap).
func (g *Gen) UnwoundStack(at ast.Node, frames int) *ir.Value {
	if frames == types.NoFrames {
		return g.B.Const(0)
	}
	if frames <= 0 || frames > object.StackMaxFrames {
		frames = object.StackMaxFrames
	}
	task, _ := g.Task()
	if task == nil || !g.Target.Features.Has(target.BpfLoop) {
		g.Errorf("E0701", at, "unwinding without frame pointers needs a newer kernel").Hint("use a kernel from 5.17 on, which has bpf_loop, or `ustack`")
		return g.B.Const(0)
	}
	g.u.unwindMaps()
	id := g.B.NewVar("unwound", ir.I64)
	g.B.Set(id, g.B.Const(0))
	key := g.Temp("tgid", 8)
	g.B.Store(key.Ptr, 0, 4, g.B.OpImm(ir.OpLShr, g.OwnPIDTGID(), 32))
	g.B.IfNonNil(g.B.Helper(asm.FnMapLookupElem, g.B.MapRef(object.UnwindProcsMap), key.Ptr), func(proc *ir.Value) {
		g.scoped(func() { g.B.Set(id, g.walkStack(proc, task, frames)) })
	}, func() {
		g.scoped(func() { g.B.Set(id, g.Stack(true, frames)) })
	})
	return g.B.Get(id)
}

// walkStack fills the record of the stack, a frame in each round, and stores it.
func (g *Gen) walkStack(proc, task *ir.Value, frames int) *ir.Value {
	g.u.stacks()
	if g.Hook.Type == ebpf.PerfEvent {
		g.u.stacksAtOnce()
	}
	if g.fr.stack == nil {
		g.fr.stack = g.B.NewSlot("stack", object.StackRecordSize, 8)
		g.fr.stack.Class = ir.SlotScratch
	}
	outer, recSlot := g.B, g.fr.stack
	state := g.Keep("walk", walkSize, ir.SlotScratch)
	st := state.Ptr
	regs := g.B.PtrInt(g.B.Helper(asm.FnTaskPtRegs, task))
	for _, r := range []struct{ off, at int }{{regsIP, walkIP}, {regsSP, walkSP}, {regsBP, walkBP}} {
		v := g.LoadScalar(Place{Ptr: regs, Off: int32(r.off), Size: 8, Space: types.SpaceKernel}, types.TUint64)
		g.B.Store(st, r.at, 8, v)
	}
	g.B.Store(st, walkN, 8, g.B.Const(0))
	g.B.Store(st, walkFirst, 8, g.B.Load(proc, 0, 4, false))
	g.B.Store(st, walkCount, 8, g.B.Load(proc, 4, 4, false))
	cb := g.newCallback("unwind", 1, ir.I64, ir.Stack)
	cb.generate(g, func() {
		st := cb.pointer(g, state.Ptr, ir.Stack, func() *ir.Value { return state.Ptr })
		rec := cb.pointer(g, recSlot, ir.Stack, func() *ir.Value { return outer.SlotAddr(recSlot, 0) })
		n := g.B.Bound(g.B.Load(st, walkN, 8, false), object.StackMaxFrames-1)
		g.B.Store(g.B.PtrAdd(rec, g.B.OpImm(ir.OpShl, n, 3)), object.StackHeader, 8, g.B.Load(st, walkIP, 8, false))
		g.B.Store(st, walkN, 8, g.B.AddImm(n, 1))
		g.findRow(st)
		g.stepOut(st)
		g.B.ReturnConst(0)
	})
	cb.run(g, func(fn, ctx *ir.Value) *ir.Value {
		g.B.Helper(asm.FnLoop, g.B.Const(int64(frames)), fn, ctx, g.B.Const(0))
		return g.B.Const(0)
	})
	rec := g.B.SlotAddr(g.fr.stack, 0)
	return g.storeStack(rec, g.hashStack(rec, g.B.Load(st, walkN, 8, false), frames, true), true)
}

// search finds the last entry of an array, from first on, that before says is not behind the wanted place; its index, -1 where there is none.
func (g *Gen) search(name string, steps int, first, count *ir.Value, before func(entry *ir.Value) *ir.Value) *ir.Value {
	lo, hi, found := g.B.NewVar("lo", ir.I64), g.B.NewVar("hi", ir.I64), g.B.NewVar("found", ir.I64)
	g.B.Set(lo, first)
	g.B.Set(hi, g.B.Add(first, count))
	g.B.Set(found, g.B.Const(-1))
	key := g.Temp("index", 8)
	g.B.For(g.B.Const(0), g.B.Const(int64(steps)), func(_ *ir.Value, l *ir.Loop) {
		more := g.B.NewBlock("more")
		g.B.Branch(ir.OpULt, g.B.Get(lo), g.B.Get(hi), more, l.Break)
		g.B.Seal(more)
		g.B.SetBlock(more)
		mid := g.B.OpImm(ir.OpLShr, g.B.Add(g.B.Get(lo), g.B.Get(hi)), 1)
		g.B.Store(key.Ptr, 0, 4, mid)
		entry := g.B.Helper(asm.FnMapLookupElem, g.B.MapRef(name), key.Ptr)
		entry = g.B.CheckNonNil(entry, func() { g.B.Jump(l.Break) })
		g.B.If(before(entry), func() {
			g.B.Set(found, mid)
			g.B.Set(lo, g.B.AddImm(mid, 1))
		}, func() { g.B.Set(hi, mid) })
	})
	return g.B.Get(found)
}

// findRow looks the place up: the range of the process's memory, then the row of the file. The return address of a call may be behind the
// function's end, so all but the innermost frame look for the byte in front of it.
func (g *Gen) findRow(st *ir.Value) {
	g.B.Store(st, walkRow, 8, g.B.Const(object.UnwindKindUnknown))
	ip := g.B.Load(st, walkIP, 8, false)
	place := g.B.NewVar("place", ir.I64)
	g.B.Set(place, ip)
	g.B.If(g.B.CmpImm(ir.OpUGt, g.B.Load(st, walkN, 8, false), 1), func() { g.B.Set(place, g.B.AddImm(ip, -1)) }, nil)
	at := g.search(object.UnwindRangesMap, maxRangeSteps, g.B.Load(st, walkFirst, 8, false), g.B.Load(st, walkCount, 8, false), func(r *ir.Value) *ir.Value {
		return g.B.Cmp(ir.OpULe, g.B.Load(r, 0, 8, false), g.B.Get(place))
	})
	key := g.Temp("range", 8)
	g.B.Store(key.Ptr, 0, 4, at)
	g.B.IfNonNil(g.B.Helper(asm.FnMapLookupElem, g.B.MapRef(object.UnwindRangesMap), key.Ptr), func(r *ir.Value) {
		inside := g.B.Cmp(ir.OpULt, g.B.Get(place), g.B.Load(r, 8, 8, false))
		g.B.If(inside, func() {
			rel := g.B.Sub(g.B.Get(place), g.B.Load(r, 16, 8, false))
			row := g.search(object.UnwindRowsMap, maxRowSteps, g.B.Load(r, 24, 4, false), g.B.Load(r, 28, 4, false), func(row *ir.Value) *ir.Value {
				return g.B.Cmp(ir.OpULe, g.B.Load(row, 0, 4, false), rel)
			})
			g.B.Store(key.Ptr, 0, 4, row)
			g.B.IfNonNil(g.B.Helper(asm.FnMapLookupElem, g.B.MapRef(object.UnwindRowsMap), key.Ptr), func(row *ir.Value) {
				g.B.Store(st, walkRow, 8, g.B.Load(row, 0, 8, false))
			}, nil)
		}, nil)
	}, nil)
}

// stackWord reads a word of the stack; where that fails the walk ends.
func (g *Gen) stackWord(st, addr *ir.Value) *ir.Value {
	rc := g.B.Helper(asm.FnProbeReadUser, g.B.PtrAddImm(st, walkWord), g.B.Const(8), addr)
	g.stopUnless(g.B.CmpImm(ir.OpEq, rc, 0))
	return g.B.Load(st, walkWord, 8, false)
}

// stopUnless ends the walk where cond is 0.
func (g *Gen) stopUnless(cond *ir.Value) { g.B.Unless(cond, func() { g.B.ReturnConst(1) }) }

// stepOut goes to the caller by the row of the place.
func (g *Gen) stepOut(st *ir.Value) {
	row := g.B.Load(st, walkRow, 8, false)
	part := func(shift, mask int64) *ir.Value {
		return g.B.OpImm(ir.OpAnd, g.B.OpImm(ir.OpLShr, row, shift), mask)
	}
	kind := part(object.UnwindKindShift, object.UnwindKindMask)
	is := func(k int64) *ir.Value { return g.B.CmpImm(ir.OpEq, kind, k) }
	g.stopUnless(g.B.CmpImm(ir.OpNe, kind, object.UnwindKindEnd))
	g.B.If(is(object.UnwindKindSignal), func() {
		const greg = 40 // uc_mcontext in struct ucontext
		const bp, sp, ip = greg + 10*8, greg + 15*8, greg + 16*8
		uc := g.B.Load(st, walkSP, 8, false)
		newBP := g.stackWord(st, g.B.AddImm(uc, bp))
		newSP := g.stackWord(st, g.B.AddImm(uc, sp))
		newIP := g.stackWord(st, g.B.AddImm(uc, ip))
		g.goTo(st, newIP, newSP, newBP)
	}, nil)
	sp, bp := g.B.Load(st, walkSP, 8, false), g.B.Load(st, walkBP, 8, false)
	cfa, from := g.B.NewVar("cfa", ir.I64), g.B.NewVar("from", ir.I64) // from: where the caller's rbp is, 0 where it is in rbp
	offset := g.B.OpImm(ir.OpShl, part(object.UnwindCFAShift, object.UnwindCFAMask), 3)
	saved := g.B.OpImm(ir.OpShl, g.B.OpImm(ir.OpAShr, row, object.UnwindBPShift), 3)
	// Without a row: the frame pointer, which points to the caller's one with the return address behind it.
	g.B.Set(cfa, g.B.AddImm(bp, 16))
	g.B.Set(from, bp)
	byRow := func() {
		g.B.Set(from, g.B.Const(0))
		g.B.If(g.B.CmpImm(ir.OpNe, saved, 0), func() { g.B.Set(from, g.B.Add(g.B.Get(cfa), saved)) }, nil)
	}
	g.B.If(is(object.UnwindKindSP), func() {
		g.B.Set(cfa, g.B.Add(sp, offset))
		byRow()
	}, nil)
	g.B.If(is(object.UnwindKindBP), func() {
		g.B.Set(cfa, g.B.Add(bp, offset))
		byRow()
	}, nil)
	g.B.If(is(object.UnwindKindPLT), func() {
		g.B.Set(cfa, g.B.AddImm(sp, 8))
		g.B.Set(from, g.B.Const(0))
		low := g.B.OpImm(ir.OpAnd, g.B.Load(st, walkIP, 8, false), 15)
		g.B.If(g.B.Cmp(ir.OpUGe, g.B.OpImm(ir.OpShl, low, 3), saved), func() { g.B.Set(cfa, g.B.AddImm(sp, 16)) }, nil)
	}, nil)
	g.B.If(is(object.UnwindKindAligned), func() {
		g.B.Set(cfa, g.stackWord(st, g.B.Sub(bp, offset)))
	}, nil)
	g.stopUnless(g.B.Cmp(ir.OpUGt, g.B.Get(cfa), sp)) // a stack only grows towards its callers
	ret := g.stackWord(st, g.B.AddImm(g.B.Get(cfa), -8))
	newBP := g.B.NewVar("bp", ir.I64)
	g.B.Set(newBP, bp)
	g.B.If(g.B.CmpImm(ir.OpNe, g.B.Get(from), 0), func() { g.B.Set(newBP, g.stackWord(st, g.B.Get(from))) }, nil)
	g.goTo(st, ret, g.B.Get(cfa), g.B.Get(newBP))
}

// goTo ends a round at another place; the first page is never code.
func (g *Gen) goTo(st, ip, sp, bp *ir.Value) {
	g.stopUnless(g.B.CmpImm(ir.OpUGt, ip, 4095))
	g.B.Store(st, walkIP, 8, ip)
	g.B.Store(st, walkSP, 8, sp)
	g.B.Store(st, walkBP, 8, bp)
	g.B.ReturnConst(0)
}

// unwindMaps declares the tables.
func (u *Unit) unwindMaps() {
	if u.internal[object.UnwindRowsMap] != nil {
		return
	}
	u.addInternal(&object.Map{Name: object.UnwindProcsMap, Role: object.MapUnwind, Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: object.UnwindProcs})
	u.addInternal(&object.Map{Name: object.UnwindRangesMap, Role: object.MapUnwind, Type: ebpf.Array, KeySize: 4, ValueSize: object.UnwindRangeSize, MaxEntries: object.UnwindRanges})
	u.addInternal(&object.Map{Name: object.UnwindRowsMap, Role: object.MapUnwind, Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: object.UnwindRows})
}
