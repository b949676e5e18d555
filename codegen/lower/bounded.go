package lower

import (
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// Loops that the verifier walks through, because the kernel has no bpf_loop or because they are short: how many rounds they get, and how rounds
// are written out where even that was too much.

// writeOut repeats the code of body n times; last is what follows the last round, which a jump to the loop's end does not come to. break and continue
// are those of the loop around: the caller says where they mean this one.
func (g *Gen) writeOut(n int64, body func(i int64, l *ir.Loop), last func()) {
	end := g.B.NewBlock("unrolled")
	for i := range n {
		if g.B.Terminated() || g.tooLong {
			break
		}
		next := g.B.NewBlock("next")
		l := &ir.Loop{Continue: next, Break: end}
		body(i, l)
		if !g.B.Terminated() {
			g.B.Jump(next)
		}
		g.B.Seal(next)
		g.B.SetBlock(next)
	}
	if !g.B.Terminated() {
		last()
		g.B.Jump(end)
	}
	g.B.Seal(end)
	g.B.SetBlock(end)
}

// loopBudget gives Options.LoopBudget where code depends on it.
func (u *Unit) loopBudget() int {
	u.Object.Budgeted = true
	return u.Opts.LoopBudget
}

// writtenRounds is how many rounds of a loop of unknown length are written out: none, but where its loop was too much for a verifier that must walk
// through it, even with few rounds.
func (g *Gen) writtenRounds() int64 {
	if g.u.loopBudget() == 0 || g.u.loopBudget() > 5000 || g.Target.Features.Has(target.BpfLoop) {
		return 0
	}
	return int64(max(min(g.u.loopBudget()/80, maxInlineRounds)/g.inlineRounds(), 2))
}

// writtenOut writes rounds out as [Gen.writeOut], counted as those of the loops around.
func (g *Gen) writtenOut(n int64, round func(i int64, l *ir.Loop), last func()) {
	g.rounds = append(g.rounds, int(n))
	g.writeOut(n, func(i int64, l *ir.Loop) {
		g.fr.loops = append(g.fr.loops, loopTarget{l})
		g.scoped(func() { round(i, l) })
		g.fr.loops = g.fr.loops[:len(g.fr.loops)-1]
	}, last)
	g.rounds = g.rounds[:len(g.rounds)-1]
}

// boundedRounds is the limit of a loop where bpf_loop is missing: what the verifier can walk through, shared out to the loops inside.
func (g *Gen) boundedRounds(s ast.Stmt) int {
	if n := len(g.rounds); n > 0 {
		return g.rounds[n-1]
	}
	budget := g.u.loopBudget()
	if budget <= 0 {
		budget = verifierBudget
	}
	if g.allRounds(s, 1<<20) < 1<<20 {
		budget *= 3 // all lengths are known: no round may be left out if it can be helped
	}
	total := budget / max(g.outerLoops(), 1) / g.loopCost(s)
	n := maxBoundedRounds
	for n > minBoundedRounds && g.allRounds(s, n) > total {
		n /= 2
	}
	return n
}

// constInt gives the value of an integer known while compiling.
func (g *Gen) constInt(e ast.Expr) (int64, bool) {
	if c, ok := g.Body.Consts[e]; ok {
		return c.Int, !c.IsString
	}
	if l, ok := unparen(e).(*ast.IntLit); ok && !l.Neg {
		return int64(l.Value), true
	}
	return 0, false
}

const (
	verifierBudget   = 300_000 // instructions that the verifier may process for loops; its limit is a million
	maxBoundedRounds = 1024
	minBoundedRounds = 4
)

// outerLoops counts the loops of the program that are in no other loop.
func (g *Gen) outerLoops() int {
	n := 0
	for _, b := range g.prog.Bodies {
		if b.Block != nil {
			n += countLoops(b.Block)
		}
	}
	return n
}

// countLoops counts the loops of a part of a program that are in no other loop of it.
func countLoops(s ast.Node) int {
	switch s.(type) {
	case *ast.While, *ast.ForRange:
		return 1
	}
	n := 0
	each(s, func(c ast.Node) { n += countLoops(c) })
	return n
}

// allRounds is the number of rounds of the innermost loop of a statement when loops of unknown length have n.
func (g *Gen) allRounds(s ast.Node, n int) int {
	most := 1
	each(s, func(c ast.Node) { most = max(most, g.allRounds(c, n)) })
	switch s := s.(type) {
	case *ast.While:
		return most * n
	case *ast.ForRange:
		lo, ok := g.constInt(s.Lo)
		hi, ok2 := g.constInt(s.Hi)
		if ok && ok2 && hi-lo < int64(n) {
			return most * int(max(hi-lo, 1))
		}
		return most * n
	}
	return most
}

// loopCost guesses the instructions of one round.
func (g *Gen) loopCost(s ast.Stmt) int {
	cost := 1
	inspect(s, func(n ast.Node) bool {
		cost += 10
		switch n := n.(type) {
		case *ast.Call:
			cost += 250
			c := g.Body.Calls[n]
			if c == nil {
				break
			}
			if _, ok := c.Func.Lower.(Searcher); ok {
				most := 64
				for _, a := range n.Args {
					if t := g.Type(a); t != nil {
						most = max(most, t.Size)
					}
				}
				cost += 30 * most
			}
		case *ast.Index, *ast.If:
			cost += 80
		}
		return true
	})
	return cost
}

// branches reports whether the code of a statement has different ways through it.
func branches(s ast.Stmt) bool {
	found := false
	inspect(s, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.If, *ast.Ternary, *ast.Jump, *ast.While, *ast.ForRange, *ast.IfExpr:
			found = true
		case *ast.Binary:
			found = found || n.Op == "&&" || n.Op == "||"
		}
		return !found
	})
	return found
}

// inMemory runs fn, a loop, with the variables that s changes in scratch memory. The verifier walks through all rounds of such a loop, and it
// would follow every combination of values that it knows; of scratch memory it knows nothing.
func (g *Gen) inMemory(s ast.Stmt, fn func()) {
	type moved struct {
		v   *check.LocalVar
		old *binding
		off int
	}
	var vars []moved
	seen := map[*check.LocalVar]bool{}
	change := func(e ast.Expr) {
		x, ok := unparen(e).(*ast.Var)
		if !ok {
			return
		}
		v := g.Body.Vars[x]
		b := g.fr.vars[v]
		if v == nil || seen[v] || b == nil || b.kind != bindSSA {
			return
		}
		seen[v] = true
		vars = append(vars, moved{v, b, 8 * len(vars)})
	}
	inspect(s, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Assign:
			change(n.Target)
		case *ast.Unary:
			if n.Op == "++" || n.Op == "--" {
				change(n.X)
			}
		case *ast.Call:
			for _, a := range n.Args {
				change(a)
			}
		}
		return true
	})
	if len(vars) == 0 {
		fn()
		return
	}
	slot := g.B.NewSlot("loop", 8*len(vars), 8)
	slot.Class = ir.SlotScratch
	p := g.B.SlotAddr(slot, 0)
	for _, m := range vars {
		g.B.Store(p, m.off, 8, g.B.Get(m.old.ssa))
		g.fr.vars[m.v] = &binding{kind: bindMem, mem: Place{Ptr: p, Off: int32(m.off), Size: 8, Space: types.SpaceBPF}}
	}
	fn()
	p = g.B.SlotAddr(slot, 0)
	for _, m := range vars {
		g.fr.vars[m.v] = m.old
		g.B.Set(m.old.ssa, g.B.Load(p, m.off, 8, false))
	}
}

// boundedRange is a range loop where bpf_loop is missing. The number of rounds lies in scratch memory: the verifier would learn from each test
// of it, and see a different state behind each round.
func (g *Gen) boundedRange(s *ast.ForRange, v *check.LocalVar, wide *types.Type, lo, n *ir.Value) {
	limit, written := g.boundedRounds(s), g.writtenRounds()
	round := func(i *ir.Value) { g.rangeRound(s, v, wide, g.B.Add(lo, i)) }
	if n.Op == ir.OpConst && n.Imm <= int64(limit) {
		g.inMemory(s, func() {
			g.B.For(g.B.Const(0), n, func(i *ir.Value, l *ir.Loop) {
				g.inlineLoop(limit, l, func() { round(i) })
			})
		})
		return
	}
	count := g.Keep("rounds", 8, ir.SlotScratch)
	g.B.Store(count.Ptr, 0, 8, n)
	check := func(i *ir.Value, l *ir.Loop) {
		again := g.B.NewBlock("round")
		g.B.Branch(ir.OpULt, i, g.B.Load(count.Ptr, 0, 8, false), again, l.Break)
		g.B.Seal(again)
		g.B.SetBlock(again)
	}
	g.inMemory(s, func() {
		if written > 0 {
			limit = int(written)
			g.writtenOut(written, func(i int64, l *ir.Loop) {
				check(g.B.Const(i), l)
				round(g.B.Const(i))
			}, func() {})
			return
		}
		g.B.For(g.B.Const(0), g.B.Const(int64(limit)), func(i *ir.Value, l *ir.Loop) {
			check(i, l)
			g.inlineLoop(limit, l, func() { round(i) })
		})
	})
	left := g.B.Load(count.Ptr, 0, 8, false)
	g.B.Unless(g.B.CmpImm(ir.OpULe, left, int64(limit)), func() { g.scoped(func() { g.Count(object.CounterLoop) }) })
}

// boundedWhile is a while loop where bpf_loop is missing.
func (g *Gen) boundedWhile(s *ast.While) {
	written := g.writtenRounds()
	g.inMemory(s, func() {
		if written == 0 {
			g.boundedWhile1(s, g.boundedRounds(s))
			return
		}
		g.writtenOut(written, func(_ int64, l *ir.Loop) {
			body := g.B.NewBlock("body")
			g.Cond(s.Cond, body, l.Break)
			g.B.Seal(body)
			g.B.SetBlock(body)
			g.block(s.Body, false)
		}, func() { g.B.Cold(func() { g.scoped(func() { g.Count(object.CounterLoop) }) }) })
	})
}

func (g *Gen) boundedWhile1(s *ast.While, limit int) {
	n := g.B.NewVar("rounds", ir.I64)
	g.B.Set(n, g.B.Const(0))
	head, check, body, exit := g.B.NewBlock("while"), g.B.NewBlock("check"), g.B.NewBlock("body"), g.B.NewBlock("endwhile")
	stop := g.B.NewBlock("stopped")
	stop.Cold = true
	g.B.Jump(head)
	g.B.SetBlock(head)
	g.B.Branch(ir.OpULt, g.B.Get(n), g.B.Const(int64(limit)), check, stop)
	g.B.Seal(check)
	g.B.SetBlock(check)
	g.pushScope()
	g.Cond(s.Cond, body, exit)
	g.B.Seal(body)
	g.B.SetBlock(body)
	post := g.B.NewBlock("post")
	g.inlineLoop(limit, &ir.Loop{Continue: post, Break: exit}, func() { g.block(s.Body, false) })
	g.popScope()
	if !g.B.Terminated() {
		g.B.Jump(post)
	}
	g.B.Seal(post)
	g.B.SetBlock(post)
	g.B.Set(n, g.B.AddImm(g.B.Get(n), 1))
	g.B.Jump(head)
	g.B.Seal(head)
	g.B.Seal(stop)
	g.B.SetBlock(stop)
	g.B.Cold(func() { g.scoped(func() { g.Count(object.CounterLoop) }) })
	g.B.Jump(exit)
	g.B.Seal(exit)
	g.B.SetBlock(exit)
}
