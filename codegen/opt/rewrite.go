package opt

import "github.com/sonde-sh/sonde/codegen/ir"

// Rule rewrites one kind of value. Apply returns the value that replaces v, or nil when the rule does not apply; it may emit new values in
// front of v, and it may change v itself and return it.
type Rule struct {
	Name  string
	Ops   []ir.Op
	Apply func(r *rewriter, v *ir.Value) *ir.Value
}

// rewriter applies rules to the values of a function in order.
type rewriter struct {
	f       *ir.Func
	c       *context
	uses    []int
	b       *ir.Block
	at      *ir.Value
	out     []*ir.Value
	buf     []*ir.Value // for out
	by      map[*ir.Value]*ir.Value
	named   idSet // of by
	byOp    *[ir.NumOps][]*Rule
	changed bool
}

// resolve gives what stands for v now.
func (r *rewriter) resolve(v *ir.Value) *ir.Value {
	for r.named.has(v.ID) {
		v = r.by[v]
	}
	return v
}

// replace lets w stand for v.
func (r *rewriter) replace(v, w *ir.Value) {
	r.by[v] = w
	r.named.add(v.ID)
}

// start begins a block; finish gives it the values that were put out.
func (r *rewriter) start(b *ir.Block) { r.b, r.out = b, r.buf[:0] }

func (r *rewriter) finish() {
	clear(r.b.Values[min(len(r.out), len(r.b.Values)):])
	r.b.Values = append(r.b.Values[:0], r.out...)
	r.buf = r.out
}

// idSet is a set of values or slots, by ID. It tells faster than a map that something is not in it.
type idSet []uint64

func (s idSet) has(id int) bool { return id/64 < len(s) && s[id/64]&(1<<(id%64)) != 0 }

func (s *idSet) add(id int) {
	if n := id/64 + 1; n > len(*s) {
		*s = append(*s, make(idSet, n-len(*s))...)
	}
	(*s)[id/64] |= 1 << (id % 64)
}

func (r *rewriter) emit(op ir.Op, t ir.Type, args ...*ir.Value) *ir.Value {
	v := r.f.NewValue(op, t, r.at.Span, args...)
	v.Block = r.b
	r.out = append(r.out, v)
	return v
}

// imm gives a constant.
func (r *rewriter) imm(n int64) *ir.Value {
	v := r.emit(ir.OpConst, ir.I64)
	v.Imm = n
	return v
}

// op2 gives x op y.
func (r *rewriter) op2(op ir.Op, x, y *ir.Value) *ir.Value { return r.emit(op, ir.I64, x, y) }

// opImm gives x op n.
func (r *rewriter) opImm(op ir.Op, x *ir.Value, n int64) *ir.Value { return r.op2(op, x, r.imm(n)) }

// ext gives the extension of x.
func (r *rewriter) ext(op ir.Op, x *ir.Value, size uint8) *ir.Value {
	v := r.emit(op, ir.I64, x)
	v.Size = size
	return v
}

// once reports whether v has a single use, so that a rewrite of its user makes it dead.
func (r *rewriter) once(v *ir.Value) bool { return v.ID < len(r.uses) && r.uses[v.ID] == 1 }

// simplify applies the rules to each value until none applies to it.
func simplify(c *context, f *ir.Func) bool {
	r := &rewriter{f: f, c: c, uses: f.UseCounts(), by: map[*ir.Value]*ir.Value{}, byOp: c.rules}
	for _, b := range c.dom(f).Order {
		r.start(b)
		for _, v := range b.Values {
			r.value(v)
		}
		b.Term.EachUse(func(u **ir.Value) { *u = r.resolve(*u) })
		r.branch(b)
		r.finish()
	}
	f.Replace(r.by)
	return r.changed
}

// value rewrites v and what it becomes.
func (r *rewriter) value(v *ir.Value) {
	for i, a := range v.Args {
		v.Args[i] = r.resolve(a)
	}
	for n := 0; n < 20; n++ {
		w := r.apply(v)
		if w == nil {
			break
		}
		r.changed = true
		if w == v {
			continue
		}
		r.replace(v, w)
		return // what the rule emitted is rewritten in the next round
	}
	r.out = append(r.out, v)
}

// branch applies the rules for comparisons to the condition of a branch.
func (r *rewriter) branch(b *ir.Block) {
	t := &b.Term
	for n := 0; n < 20 && t.Kind == ir.Branch; n++ {
		v := &ir.Value{Op: t.Cond, Type: ir.I64, Args: []*ir.Value{t.X, t.Y}, Span: t.Span, Block: b}
		w := r.apply(v)
		switch {
		case w == nil:
			return
		case isConst(w):
			keep := 0
			if w.Imm == 0 {
				keep = 1
			}
			*t = ir.Term{Kind: ir.Jump, Succs: []ir.Edge{t.Succs[keep]}, Span: t.Span}
		case ir.Ops[w.Op].Compare:
			t.Cond, t.X, t.Y = w.Op, w.Args[0], w.Args[1]
		default:
			t.Cond, t.X, t.Y = ir.OpNe, w, r.imm(0)
		}
		r.changed = true
	}
}

func (r *rewriter) apply(v *ir.Value) *ir.Value {
	r.at = v
	for _, rule := range r.byOp[v.Op] {
		mark := len(r.out)
		if w := rule.Apply(r, v); w != nil {
			r.c.counts[rule.Name]++
			return w
		}
		r.out = r.out[:mark]
	}
	return nil
}

func ruleIndex() *[ir.NumOps][]*Rule {
	var idx [ir.NumOps][]*Rule
	rules := Rules()
	for i := range rules {
		for _, op := range rules[i].Ops {
			idx[op] = append(idx[op], &rules[i])
		}
	}
	return &idx
}
