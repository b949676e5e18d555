package lower

import (
	"fmt"
	"slices"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/types"
)

// Where the kernel has no bpf_loop and a program was too long for the verifier, the bodies of loops and the rounds of searches become global
// functions. The verifier checks each once, on its own, and a call costs it no more than the call: so a loop may have thousands of rounds, and
// what nested loops cost adds up where it would multiply.
//
// Such a function is given integers only. It shares scratch memory with the code around the loop (ir.Slot.Of), so the frame that a callback has
// lies there too, and variables in memory are moved there. What is read of the context is read before the loop, and stacks are taken there. What
// cannot be had is the context itself, for other helpers, and pointers that the verifier knows the origin of: a loop that needs those is left as it was.

const (
	// maxGlobalDepth bounds how deep global functions are nested. The kernel allows 8 frames: the program's, and one for a function that the
	// innermost may call.
	maxGlobalDepth = 5
	// maxGlobalRounds is how many rounds all loops of a function have together. In each the verifier puts off one way to go on; it takes 8192.
	maxGlobalRounds = 4096
	// globalRoundCost is what the verifier does for a round, in instructions.
	globalRoundCost = 8
	// maxGlobals is how many functions a program has at most before its loops stay as they are: the kernel takes 256.
	maxGlobals = 200
)

// usesGlobals reports whether loops here become global functions.
func (g *Gen) usesGlobals() bool {
	if g.u.loopBudget() == 0 || g.Target.Features.Has(target.BpfLoop) || len(g.module.Funcs) > maxGlobals {
		return false
	}
	return g.fr.cb == nil || g.fr.cb.global && g.globalDepth() < maxGlobalDepth
}

// globalDepth is the number of global functions that the current one is in, itself included.
func (g *Gen) globalDepth() int {
	n := 0
	for f := g.fr; f.cb != nil; f = f.outer {
		n++
	}
	return n
}

// newGlobal prepares the global function for the rounds of a loop. Its parameter is the number of the round.
func (g *Gen) newGlobal(name string) *callback {
	f := ir.NewFunc(fmt.Sprintf("%s_%s%d", g.prog.Name, name, len(g.module.Funcs)), ir.Global, ir.I64)
	g.module.Funcs = append(g.module.Funcs, f)
	cb := &callback{f: f, words: frameHeader, global: true, in: g.B.F}
	cb.frame = g.B.NewSlot(name+"_frame", 8*frameHeader, 8)
	return cb
}

// shared gives the memory of a slot of the function around the loop, or of one around that.
func (cb *callback) shared(g *Gen, s *ir.Slot, off int32) *ir.Value {
	v := cb.f.NewValue(ir.OpSlotAddr, ir.Stack, g.B.Span)
	v.Aux, v.Off = cb.f.Alias(s, cb.in), off
	return cb.f.Blocks[0].Append(v)
}

// sharedPointer gives a pointer of the function around the loop in a global function. That works for pointers into slots; for others the function
// cannot be made.
func (cb *callback) sharedPointer(g *Gen, key any, t ir.Type) *ir.Value {
	switch k := key.(type) {
	case *ir.Slot:
		return cb.shared(g, k, 0)
	case *ir.Value:
		off := int64(0)
		for k.Op == ir.OpPtrAdd && k.Args[1].Op == ir.OpConst {
			off += k.Args[1].Imm
			k = k.Args[0]
		}
		if s, ok := k.Aux.(*ir.Slot); ok && k.Op == ir.OpSlotAddr {
			return cb.shared(g, s, k.Off+int32(off))
		}
	}
	stand := cb.f.NewValue(ir.OpConst, t, g.B.Span)
	if t == ir.Ctx {
		cb.ctx = stand
	} else {
		cb.blocked = true // the function is thrown away
	}
	return cb.f.Blocks[0].Append(stand)
}

// contextWord is a word of the shared frame for what is read of the context.
type contextWord struct {
	off  int
	load ir.Value // as it was in the global function
}

// stackWord is a word of the shared frame for the id of a stack.
type stackWord struct {
	off    int
	user   bool
	frames int
}

// stack gives the id of a stack, which is taken before the loop, as it takes the context. It does not change in a run of the program.
func (cb *callback) stack(g *Gen, user bool, frames int) *ir.Value {
	i := slices.IndexFunc(cb.stacks, func(w stackWord) bool { return w.user == user && w.frames == frames })
	if i < 0 {
		i = len(cb.stacks)
		cb.stacks = append(cb.stacks, stackWord{cb.word(), user, frames})
	}
	return g.B.Load(cb.base, cb.stacks[i].off, 8, false)
}

// readContext turns what the function reads of the context into reads of the shared frame. Where it needs the context for something else, the
// function cannot be made.
func (cb *callback) readContext() {
	if cb.ctx == nil {
		return
	}
	entry := cb.f.Blocks[0]
	entry.Values = slices.DeleteFunc(entry.Values, func(v *ir.Value) bool { return v == cb.ctx })
	for _, b := range cb.f.Blocks {
		for _, v := range b.Values {
			if !slices.Contains(v.Args, cb.ctx) {
				continue
			}
			if v.Op != ir.OpLoad || v.Type != ir.I64 {
				cb.blocked = true
				return
			}
			i := slices.IndexFunc(cb.context, func(w contextWord) bool {
				return w.load.Off == v.Off && w.load.Size == v.Size && w.load.Signed == v.Signed
			})
			if i < 0 {
				i = len(cb.context)
				cb.context = append(cb.context, contextWord{cb.word(), *v})
			}
			v.Args, v.Off, v.Size, v.Signed = []*ir.Value{cb.base}, int32(cb.context[i].off), 8, false
		}
	}
}

// globalLoop makes a loop of at most limit rounds whose rounds are a global function, and reports whether it could: round generates the
// function's code, which gives 1 to end the loop. left tells, where the loop came to its limit, whether there was more to do; nil means that
// there was.
func (g *Gen) globalLoop(name string, key ast.Stmt, limit int, round func(cb *callback), left func() *ir.Value) bool {
	if !g.usesGlobals() || g.noGlobal[key] {
		return false
	}
	funcs, rounds, bucket, hists := len(g.module.Funcs), g.rounds, g.bucket, g.hists
	g.rounds = nil
	cb := g.newGlobal(name)
	cb.stmt = key
	cb.generate(g, func() { round(cb) })
	g.rounds = rounds
	if cb.blocked {
		g.module.Funcs, g.bucket, g.hists = g.module.Funcs[:funcs], bucket, hists
		g.B.F.Slots = slices.DeleteFunc(g.B.F.Slots, func(s *ir.Slot) bool { return s == cb.frame })
		if key != nil {
			g.noGlobal[key] = true
		}
		return false
	}
	cb.run(g, func(_, _ *ir.Value) *ir.Value {
		done := g.B.NewBlock("done")
		g.B.For(g.B.Const(0), g.B.Const(int64(limit)), func(i *ir.Value, l *ir.Loop) {
			g.B.Branch(ir.OpEq, g.B.Call(cb.f, i), g.B.Const(0), l.Continue, done)
		})
		count := func() { g.scoped(func() { g.Count(object.CounterLoop) }) }
		if left == nil {
			g.B.Cold(count)
		} else {
			g.B.Unless(g.B.CmpImm(ir.OpEq, left(), 0), count)
		}
		g.B.Jump(done)
		g.B.Seal(done)
		g.B.SetBlock(done)
		return g.B.Const(0)
	})
	return true
}

// globalWhile is a while loop as a global function.
func (g *Gen) globalWhile(s *ast.While) bool {
	return g.globalLoop("while", s, g.globalLimit(), func(*callback) {
		body, done := g.B.NewBlock("body"), g.B.NewBlock("done")
		g.Cond(s.Cond, body, done)
		g.B.Seal(body)
		g.B.Seal(done)
		g.B.SetBlock(done)
		g.B.ReturnConst(1)
		g.B.SetBlock(body)
		g.block(s.Body, false)
	}, nil)
}

// globalRounds is the number of rounds of all loops of a function together.
func (g *Gen) globalRounds() int { return min(g.u.loopBudget()/globalRoundCost, maxGlobalRounds) }

// globalLimit is the number of rounds that a loop of the current function gets.
func (g *Gen) globalLimit() int {
	n := 0
	if cb := g.fr.cb; cb != nil && cb.stmt != nil {
		each(cb.stmt, func(c ast.Node) { n += countLoops(c) })
	} else {
		n = g.outerLoops()
	}
	return max(g.globalRounds()/max(n, 1), minBoundedRounds)
}

// globalRange is a range loop of n rounds as a global function.
func (g *Gen) globalRange(s *ast.ForRange, lo, n *ir.Value) bool {
	limit := g.globalLimit()
	left := func() *ir.Value { return g.B.CmpImm(ir.OpUGt, n, int64(limit)) }
	if n.Op == ir.OpConst && n.Imm <= int64(limit) {
		limit = int(n.Imm)
		left = func() *ir.Value { return g.B.Const(0) }
	}
	v := g.Body.Vars[s.Var]
	wide := types.IntOf(8, v.Type.Signed)
	return g.globalLoop("for", s, limit, func(cb *callback) {
		i := g.B.Param(0)
		if n.Op != ir.OpConst {
			again, done := g.B.NewBlock("again"), g.B.NewBlock("done")
			g.B.Branch(ir.OpULt, i, cb.captureOperand(g, Scalar(wide, n)).V, again, done)
			g.B.Seal(again)
			g.B.Seal(done)
			g.B.SetBlock(done)
			g.B.ReturnConst(1)
			g.B.SetBlock(again)
		}
		switch {
		case lo.Op != ir.OpConst:
			i = g.B.Add(i, cb.captureOperand(g, Scalar(wide, lo)).V)
		case lo.Imm != 0:
			i = g.B.AddImm(i, lo.Imm)
		}
		g.writeVar(v, Scalar(wide, i))
		g.block(s.Body, false)
	}, left)
}

// globalRepeat is a Repeat as a global function.
func (g *Gen) globalRepeat(n *ir.Value, limit int, mem []Place, body func(i *ir.Value, mem []Place, stop func())) bool {
	if !g.usesGlobals() || limit <= minBoundedRounds {
		return false
	}
	for k, m := range mem { // what is in no slot is only read
		if m.Ptr.Op != ir.OpSlotAddr {
			t := g.Temp("searched", m.Size)
			t.Size = m.Size
			g.ReadMem(t, m)
			mem[k] = t
		}
	}
	rounds := min(limit, max(g.globalRounds()/2, minBoundedRounds))
	left := func() *ir.Value { return g.B.CmpImm(ir.OpUGt, n, int64(rounds)) }
	return g.globalLoop("repeat", nil, rounds, func(cb *callback) {
		i := g.B.Param(0)
		if n.Op != ir.OpConst || n.Imm < int64(rounds) {
			again, done := g.B.NewBlock("again"), g.B.NewBlock("done")
			g.B.Branch(ir.OpULt, i, cb.captureOperand(g, Scalar(types.TUint64, n)).V, again, done)
			g.B.Seal(again)
			g.B.Seal(done)
			g.B.SetBlock(done)
			g.B.ReturnConst(1)
			g.B.SetBlock(again)
		}
		inner := make([]Place, len(mem))
		for k, m := range mem {
			inner[k] = m
			inner[k].Ptr = cb.sharedPointer(g, m.Ptr, m.Ptr.Type)
		}
		body(g.B.Bound(i, int64(limit-1)), inner, func() { g.B.ReturnConst(1) })
	}, left)
}
