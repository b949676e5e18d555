package opt

import (
	"math"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/ir/interp"
)

// fact is a comparison that is known to hold, or not to.
type fact struct {
	cond  ir.Op
	x, y  *ir.Value
	holds bool
}

// implied decides comparisons, branches and bounds by the branches that dominate them.
func implied(c *context, f *ir.Func) bool {
	dom, preds := c.dom(f), c.preds(f)
	kids := make([][]*ir.Block, f.NumBlocks())
	for _, b := range dom.Order[1:] {
		p := dom.IDom(b)
		kids[p.Seq] = append(kids[p.Seq], b)
	}
	w := &impliedWalk{c: c, f: f, by: map[*ir.Value]*ir.Value{}}
	var walk func(b *ir.Block)
	walk = func(b *ir.Block) {
		mark := len(w.facts)
		if ps := preds[b.Seq]; len(ps) == 1 {
			t := &ps[0].Term
			if t.Kind == ir.Branch && t.Succs[0].To != t.Succs[1].To {
				w.facts = append(w.facts, fact{t.Cond, t.X, t.Y, t.Succs[0].To == b})
			}
		}
		w.block(b)
		for _, k := range kids[b.Seq] {
			walk(k)
		}
		w.facts = w.facts[:mark]
	}
	walk(f.Blocks[0])
	f.Replace(w.by)
	return w.changed
}

type impliedWalk struct {
	c       *context
	f       *ir.Func
	facts   []fact
	by      map[*ir.Value]*ir.Value
	changed bool
}

func (w *impliedWalk) block(b *ir.Block) {
	for i, v := range b.Values {
		switch {
		case v.Op == ir.OpBound:
			if w.max(v.Args[0]) <= uint64(v.Imm) {
				w.by[v] = v.Args[0]
				w.c.counts["implied-bound"]++
				w.changed = true
			}
		case ir.Ops[v.Op].Compare:
			if result, ok := w.decide(v.Op, v.Args[0], v.Args[1]); ok {
				n := w.f.NewValue(ir.OpConst, ir.I64, v.Span)
				n.Block = b
				if result {
					n.Imm = 1
				}
				w.by[v] = n
				b.Values[i] = n
				w.c.counts["implied-comparison"]++
				w.changed = true
			}
		}
	}
	if len(w.by) > 0 {
		kept := b.Values[:0]
		for _, v := range b.Values {
			if w.by[v] == nil {
				kept = append(kept, v)
			}
		}
		clear(b.Values[len(kept):])
		b.Values = kept
	}
	t := &b.Term
	if t.Kind != ir.Branch {
		return
	}
	if result, ok := w.decide(t.Cond, t.X, t.Y); ok {
		keep := 1
		if result {
			keep = 0
		}
		*t = ir.Term{Kind: ir.Jump, Succs: []ir.Edge{t.Succs[keep]}, Span: t.Span}
		w.c.counts["implied-branch"]++
		w.changed = true
	}
}

// decide finds the result of a comparison among the facts.
func (w *impliedWalk) decide(op ir.Op, x, y *ir.Value) (result, ok bool) {
	for _, f := range w.facts {
		cond, fx, fy := f.cond, f.x, f.y
		if fx == y && fy == x {
			cond, fx, fy = mirrored[cond], fy, fx
		}
		if fx != x || fy != y {
			continue
		}
		switch {
		case cond == op:
			return f.holds, true
		case cond == inverted[op] && op != ir.OpSet:
			return !f.holds, true
		}
	}
	if isConst(y) && x.Type == ir.I64 {
		if m := w.max(x); m != math.MaxUint64 {
			return decide(op, upTo(m), y.Imm)
		}
	}
	return false, false
}

// max is the largest unsigned value that the facts leave to x; the verifier has seen the same branches.
func (w *impliedWalk) max(x *ir.Value) uint64 {
	most := uint64(math.MaxUint64)
	for _, f := range w.facts {
		if f.x != x || !isConst(f.y) || x.Type != ir.I64 {
			continue
		}
		cond, ok := f.cond, true
		if !f.holds {
			cond, ok = inverted[f.cond]
		}
		if !ok {
			continue
		}
		n := uint64(f.y.Imm)
		switch {
		case cond == ir.OpULt && n > 0:
			most = min(most, n-1)
		case cond == ir.OpULe || cond == ir.OpEq:
			most = min(most, n)
		}
	}
	return most
}

// branches simplifies the shape of the function.
func branches(c *context, f *ir.Func) bool {
	changed := false
	for n := 0; n < 50; n++ {
		again := false
		for _, step := range []struct {
			name string
			fn   func(f *ir.Func) bool
		}{
			{"equal-edges", equalEdges},
			{"skipped-block", skipEmpty},
			{"threaded-jump", threadConstants},
			{"merged-block", mergeBlocks},
		} {
			if step.fn(f) {
				c.counts[step.name]++
				again = true
			}
		}
		if !again {
			break
		}
		changed = true
	}
	return changed
}

// equalEdges turns a branch whose edges are the same into a jump.
func equalEdges(f *ir.Func) bool {
	changed := false
	for _, b := range f.Blocks {
		t := &b.Term
		if t.Kind != ir.Branch || t.Succs[0].To != t.Succs[1].To {
			continue
		}
		same := true
		for i, a := range t.Succs[0].Args {
			same = same && a == t.Succs[1].Args[i]
		}
		if same {
			*t = ir.Term{Kind: ir.Jump, Succs: t.Succs[:1], Span: t.Span}
			changed = true
		}
	}
	return changed
}

// skipEmpty leads edges past blocks that only jump on.
func skipEmpty(f *ir.Func) bool {
	changed := false
	for _, b := range f.Blocks {
		for i := range b.Term.Succs {
			e := &b.Term.Succs[i]
			for n := 0; n < len(f.Blocks); n++ {
				to := e.To
				if len(to.Params) > 0 || len(to.Values) > 0 || to.Term.Kind != ir.Jump || to.Term.Succs[0].To == to {
					break
				}
				// The block may be how a nil check is known to have passed.
				if t := &b.Term; t.Kind == ir.Branch && t.X.Type != ir.I64 {
					break
				}
				next := to.Term.Succs[0]
				*e = ir.Edge{To: next.To, Args: append([]*ir.Value(nil), next.Args...)}
				changed = true
			}
		}
	}
	if changed {
		f.DropUnreachable()
	}
	return changed
}

// threadConstants sends edges that bring a constant to a block that only branches on it straight to where it branches.
func threadConstants(f *ir.Func) bool {
	preds := f.Preds()
	foreign := foreignParams(f)
	changed := false
	for _, b := range f.Blocks[1:] {
		t := &b.Term
		if t.Kind != ir.Branch || len(b.Values) > 0 || !isConst(t.Y) || t.X.Op != ir.OpParam || t.X.Block != b || t.X.Type != ir.I64 || foreign[b.Seq] {
			continue
		}
		index := 0
		for b.Params[index] != t.X {
			index++
		}
		for _, p := range preds[b.Seq] {
			for i := range p.Term.Succs {
				e := &p.Term.Succs[i]
				if e.To != b || p == b || !isConst(e.Args[index]) {
					continue
				}
				way := t.Succs[1]
				if interp.Compare(t.Cond, uint64(e.Args[index].Imm), uint64(t.Y.Imm)) {
					way = t.Succs[0]
				}
				args := append([]*ir.Value(nil), way.Args...)
				for j, a := range args {
					for k, param := range b.Params {
						if a == param {
							args[j] = e.Args[k]
						}
					}
				}
				*e = ir.Edge{To: way.To, Args: args}
				preds[way.To.Seq] = append(preds[way.To.Seq], p)
				changed = true
			}
		}
	}
	if changed {
		f.DropUnreachable()
	}
	return changed
}

// foreignParams tells, by Block.Seq, which blocks have parameters that other blocks use.
func foreignParams(f *ir.Func) []bool {
	foreign := make([]bool, f.NumBlocks())
	f.EachUse(func(at *ir.Block, u **ir.Value) {
		if v := *u; v.Op == ir.OpParam && v.Block != at {
			foreign[v.Block.Seq] = true
		}
	})
	return foreign
}

// mergeBlocks joins a block with the only block it jumps to when nothing else goes there.
func mergeBlocks(f *ir.Func) bool {
	preds := f.Preds()
	by := map[*ir.Value]*ir.Value{}
	gone := make([]bool, f.NumBlocks())
	merged := false
	for _, b := range f.Blocks {
		for !gone[b.Seq] && b.Term.Kind == ir.Jump {
			e := b.Term.Succs[0]
			s := e.To
			if s == b || s == f.Blocks[0] || len(preds[s.Seq]) != 1 {
				break
			}
			for i, p := range s.Params {
				by[p] = e.Args[i]
			}
			for _, v := range s.Values {
				v.Block = b
			}
			b.Values = append(b.Values, s.Values...)
			b.Term = s.Term
			b.Cold = b.Cold || s.Cold
			gone[s.Seq], merged = true, true
			for _, n := range b.Term.Succs {
				for i, p := range preds[n.To.Seq] {
					if p == s {
						preds[n.To.Seq][i] = b
					}
				}
			}
		}
	}
	if !merged {
		return false
	}
	kept := f.Blocks[:0:0]
	for _, b := range f.Blocks {
		if !gone[b.Seq] {
			kept = append(kept, b)
		}
	}
	f.Blocks = kept
	f.Replace(by)
	return true
}
