package ir

import "fmt"

// NewVar declares a variable. It may be read only where it was set on every path; a read where it was not gives 0 for an
// integer and is an error of Finish for a pointer.
func (b *Builder) NewVar(name string, t Type) Var {
	b.vars = append(b.vars, variable{name, t})
	return Var(len(b.vars) - 1)
}

// Set assigns to a variable.
func (b *Builder) Set(v Var, x *Value) {
	if b.cur == nil {
		return // unreachable
	}
	b.write(b.cur, v, x)
}

// Get reads a variable.
func (b *Builder) Get(v Var) *Value {
	if b.cur == nil {
		return b.undef(v)
	}
	return b.read(b.cur, v)
}

func (b *Builder) write(blk *Block, v Var, x *Value) {
	st := b.state(blk)
	if st.defined != nil {
		st.defined[v] = x
		return
	}
	for i := range st.defs {
		if st.defs[i].v == v {
			st.defs[i].x = x
			return
		}
	}
	if len(st.defs) == fewDefs {
		st.defined = make(map[Var]*Value, 2*fewDefs)
		for _, d := range st.defs {
			st.defined[d.v] = d.x
		}
		st.defined[v] = x
		return
	}
	if st.defs == nil {
		st.defs = b.defs.list(2)
	}
	st.defs = append(st.defs, def{v, x})
}

// holds gives what a variable holds at the end of a block, nil when that is not known yet.
func (st *blockState) holds(v Var) *Value {
	if st.defined != nil {
		return st.defined[v]
	}
	for i := range st.defs {
		if st.defs[i].v == v {
			return st.defs[i].x
		}
	}
	return nil
}

func (b *Builder) read(blk *Block, v Var) *Value {
	st := b.state(blk)
	if x := st.holds(v); x != nil {
		return x
	}
	var x *Value
	switch {
	case !st.sealed:
		x = b.F.AddParam(blk, b.vars[v].typ)
		st.incomplete = append(st.incomplete, incomplete{v, x})
	case len(st.preds) == 0:
		x = b.undef(v)
	case len(st.preds) == 1:
		x = b.read(st.preds[0].b, v)
	default:
		x = b.F.AddParam(blk, b.vars[v].typ)
		b.write(blk, v, x) // before the arguments, which may lead back here
		b.addArgs(v, blk)
		return x
	}
	b.write(blk, v, x)
	return x
}

// addArgs appends what v holds at the end of each predecessor to the edges to blk.
func (b *Builder) addArgs(v Var, blk *Block) {
	for _, p := range b.state(blk).preds {
		x := b.read(p.b, v)
		e := &p.b.Term.Succs[p.i]
		if e.Args == nil {
			e.Args = b.F.args.list(1)
		}
		e.Args = append(e.Args, x)
	}
}

// undef gives what a variable holds before it was ever set: 0, at the start of the function.
func (b *Builder) undef(v Var) *Value {
	if x := b.undefined[v]; x != nil {
		return x
	}
	entry := b.F.Blocks[0]
	x := b.F.NewValue(OpConst, b.vars[v].typ, b.Span)
	x.Block = entry
	entry.Values = append([]*Value{x}, entry.Values...)
	b.undefined[v] = x
	return x
}

// If runs then where cond is not 0 and els (may be nil) where it is, and goes on behind both.
func (b *Builder) If(cond *Value, then, els func()) {
	thenB := b.NewBlock("then")
	var elsB *Block
	join := b.NewBlock("endif")
	if els == nil {
		b.BranchIf(cond, thenB, join)
	} else {
		elsB = b.NewBlock("else")
		b.BranchIf(cond, thenB, elsB)
	}
	b.arms(join, thenB, then, elsB, els)
}

// Unless runs els where cond is 0, on a cold path, and goes on; it is for checks that nearly always pass.
func (b *Builder) Unless(cond *Value, els func()) {
	join := b.NewBlock("ok")
	elsB := b.NewBlock("fail")
	elsB.Cold = true
	b.BranchIf(cond, join, elsB)
	b.Cold(func() { b.arms(join, elsB, els, nil, nil) })
}

// IfNonNil runs then with p known not to be nil, or els (may be nil) when it is nil, and goes on behind both.
func (b *Builder) IfNonNil(p *Value, then func(p *Value), els func()) {
	thenB := b.NewBlock("found")
	elsB := b.NewBlock("nil")
	join := b.NewBlock("endif")
	b.Branch(OpNe, p, b.Const(0), thenB, elsB)
	if els == nil {
		els = func() {}
	}
	b.arms(join, thenB, func() { then(b.NonNil(p)) }, elsB, els)
}

// CheckNonNil runs els on a cold path when p is nil; els must end in a terminator (a return or jump). The result is p, known not to be nil.
func (b *Builder) CheckNonNil(p *Value, els func()) *Value {
	ok := b.NewBlock("found")
	elsB := b.NewBlock("nil")
	elsB.Cold = true
	b.Branch(OpNe, p, b.Const(0), ok, elsB)
	b.Seal(ok)
	b.Seal(elsB)
	b.SetBlock(elsB)
	b.Cold(els)
	if b.cur != nil {
		panic("ir: CheckNonNil: the nil path goes on")
	}
	b.SetBlock(ok)
	return b.NonNil(p)
}

// IfValue is If with a value: that of then or of els.
func (b *Builder) IfValue(cond *Value, t Type, then, els func() *Value) *Value {
	v := b.NewVar("", t)
	b.If(cond, func() {
		if x := then(); b.cur != nil {
			b.Set(v, x)
		}
	}, func() {
		if x := els(); b.cur != nil {
			b.Set(v, x)
		}
	})
	return b.Get(v)
}

func (b *Builder) arms(join, thenB *Block, then func(), elsB *Block, els func()) {
	b.Seal(thenB)
	b.SetBlock(thenB)
	then()
	if b.cur != nil {
		b.Jump(join)
	}
	if elsB != nil {
		b.Seal(elsB)
		b.SetBlock(elsB)
		els()
		if b.cur != nil {
			b.Jump(join)
		}
	}
	b.Seal(join)
	if len(b.state(join).preds) == 0 {
		b.cur = nil // both arms left; the empty join is dropped by Finish
		return
	}
	b.SetBlock(join)
}

// Loop is where break and continue of a loop go.
type Loop struct {
	Continue, Break *Block
}

// While runs body as long as cond gives a value that is not 0. post (may be nil) runs after the body and after a
// continue. The verifier must be able to see that the loop ends.
func (b *Builder) While(cond func() *Value, body func(l *Loop), post func()) {
	head := b.NewBlock("loop")
	inner := b.NewBlock("body")
	exit := b.NewBlock("endloop")
	l := &Loop{Continue: head, Break: exit}
	if post != nil {
		l.Continue = b.NewBlock("post")
	}
	b.Jump(head)
	b.SetBlock(head)
	b.BranchIf(cond(), inner, exit)
	b.Seal(inner)
	b.SetBlock(inner)
	body(l)
	if b.cur != nil {
		b.Jump(l.Continue)
	}
	if post != nil {
		b.Seal(l.Continue)
		if len(b.state(l.Continue).preds) > 0 {
			b.SetBlock(l.Continue)
			post()
			b.Jump(head)
		}
	}
	b.Seal(head)
	b.Seal(exit)
	b.SetBlock(exit)
}

// For counts a variable from start to limit-1 (signed) in steps of one. The limit is evaluated before.
func (b *Builder) For(start, limit *Value, body func(i *Value, l *Loop)) {
	i := b.NewVar("i", I64)
	b.Set(i, start)
	b.While(func() *Value { return b.Cmp(OpSLt, b.Get(i), limit) },
		func(l *Loop) { body(b.Get(i), l) },
		func() { b.Set(i, b.AddImm(b.Get(i), 1)) })
}

// dropUndefined removes the zeros that stand for variables read before they were set where nothing uses them any more, and
// returns an error when a pointer is among the rest.
func (b *Builder) dropUndefined() error {
	uses := b.F.UseCounts()
	entry := b.F.Blocks[0]
	drop := map[*Value]bool{}
	var err error
	for v, x := range b.undefined {
		switch {
		case uses[x.ID] == 0:
			drop[x] = true
		case x.Type != I64:
			err = fmt.Errorf("ir: %s: pointer variable %q is read where it was not set", b.F.Name, b.vars[v].name)
		}
	}
	kept := entry.Values[:0:0]
	for _, x := range entry.Values {
		if !drop[x] {
			kept = append(kept, x)
		}
	}
	entry.Values = kept
	return err
}
