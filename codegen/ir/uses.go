package ir

// EachUse calls fn for every place of the function that uses a value: arguments, terminator operands and edge arguments.
// fn may change what it points to.
func (f *Func) EachUse(fn func(b *Block, use **Value)) {
	for _, b := range f.Blocks {
		for _, v := range b.Values {
			for i := range v.Args {
				fn(b, &v.Args[i])
			}
		}
		b.Term.EachUse(func(u **Value) { fn(b, u) })
	}
}

// EachUse calls fn for every operand and edge argument of the terminator.
func (t *Term) EachUse(fn func(use **Value)) {
	if t.X != nil {
		fn(&t.X)
	}
	if t.Y != nil {
		fn(&t.Y)
	}
	for i := range t.Succs {
		for j := range t.Succs[i].Args {
			fn(&t.Succs[i].Args[j])
		}
	}
}

// UseCounts returns how often each value is used, indexed by ID.
func (f *Func) UseCounts() []int {
	n := make([]int, f.NumIDs())
	f.EachUse(func(_ *Block, u **Value) { n[(*u).ID]++ })
	return n
}

// Replace puts by[v] in the place of every use of v; chains are followed.
func (f *Func) Replace(by map[*Value]*Value) {
	if len(by) == 0 {
		return
	}
	// Most values stay, which a bit tells faster than the map.
	named := make([]uint64, f.NumIDs()/64+1)
	for v := range by {
		named[v.ID/64] |= 1 << (v.ID % 64)
	}
	f.EachUse(func(_ *Block, u **Value) {
		for named[(*u).ID/64]&(1<<((*u).ID%64)) != 0 {
			w, ok := by[*u]
			if !ok || w == *u {
				return
			}
			*u = w
		}
	})
}

// RemoveParam drops parameter i of b and the argument of every edge to it.
func (f *Func) RemoveParam(b *Block, i int) {
	b.Params = append(b.Params[:i:i], b.Params[i+1:]...)
	for _, p := range f.Blocks {
		for s := range p.Term.Succs {
			if e := &p.Term.Succs[s]; e.To == b {
				e.Args = append(e.Args[:i:i], e.Args[i+1:]...)
			}
		}
	}
}

// DropTrivialParams removes block parameters that always receive the same value and those that nobody uses, until none is left.
func (f *Func) DropTrivialParams() bool {
	any := false
	for {
		into := f.edgesInto()
		used := f.liveValues(true, into)
		by := make(map[*Value]*Value)
		find := func(v *Value) *Value {
			for by[v] != nil {
				v = by[v]
			}
			return v
		}
		var kept []int
		for _, b := range f.Blocks[1:] {
			kept = kept[:0]
			for i, p := range b.Params {
				var same *Value
				trivial := true
				if used[p.ID] {
					for _, e := range into[b.Seq] {
						a := find(e.Args[i])
						if a == p || a == same {
							continue
						}
						if same != nil {
							trivial = false
							break
						}
						same = a
					}
					trivial = trivial && same != nil
				}
				switch {
				case !trivial:
					kept = append(kept, i)
				case same != nil:
					by[p] = same
				}
			}
			if len(kept) == len(b.Params) {
				continue
			}
			any = true
			b.Params = pick(b.Params, kept)
			for _, e := range into[b.Seq] {
				e.Args = pick(e.Args, kept)
			}
		}
		if len(by) == 0 {
			return any
		}
		f.Replace(by)
	}
}

// pick returns the chosen elements of a list that others may share.
func pick(list []*Value, chosen []int) []*Value {
	out := make([]*Value, len(chosen))
	for i, n := range chosen {
		out[i] = list[n]
	}
	return out
}

// edgesInto returns the edges to each block that has parameters, indexed by Block.Seq.
func (f *Func) edgesInto() [][]*Edge {
	into := make([][]*Edge, f.NumBlocks())
	for _, b := range f.Blocks {
		for s := range b.Term.Succs {
			if e := &b.Term.Succs[s]; len(e.To.Params) > 0 {
				into[e.To.Seq] = append(into[e.To.Seq], e)
			}
		}
	}
	return into
}

// liveValues returns, by ID, the values on which an effect or a branch depends; with all set, also those that any other value uses.
func (f *Func) liveValues(all bool, into [][]*Edge) []bool {
	live := make([]bool, f.NumIDs())
	var work []*Value
	mark := func(v *Value) {
		if v != nil && !live[v.ID] {
			live[v.ID] = true
			work = append(work, v)
		}
	}
	for _, b := range f.Blocks {
		for _, v := range b.Values {
			if all || Ops[v.Op].Effect == Writes {
				mark(v)
			}
		}
		mark(b.Term.X)
		mark(b.Term.Y)
		for len(work) > 0 {
			v := work[len(work)-1]
			work = work[:len(work)-1]
			if v.Op != OpParam {
				for _, a := range v.Args {
					mark(a)
				}
				continue
			}
			for i, p := range v.Block.Params {
				if p == v {
					for _, e := range into[v.Block.Seq] {
						mark(e.Args[i])
					}
				}
			}
		}
	}
	return live
}

// DropDead removes values without effect that nothing needs, and parameters likewise. It reports whether there were any.
func (f *Func) DropDead() bool {
	into := f.edgesInto()
	live := f.liveValues(false, into)
	any := false
	for bi, b := range f.Blocks {
		kept := b.Values[:0]
		for _, v := range b.Values {
			if live[v.ID] {
				kept = append(kept, v)
			} else {
				any = true
			}
		}
		clear(b.Values[len(kept):])
		b.Values = kept
		if bi == 0 {
			continue
		}
		for i := len(b.Params) - 1; i >= 0; i-- {
			if !live[b.Params[i].ID] {
				b.Params = append(b.Params[:i:i], b.Params[i+1:]...)
				for _, e := range into[b.Seq] {
					e.Args = append(e.Args[:i:i], e.Args[i+1:]...)
				}
				any = true
			}
		}
	}
	return any
}

// Clone returns a copy of the module that shares nothing with it but Aux strings.
func (m *Module) Clone() *Module {
	out := &Module{}
	funcs := make(map[*Func]*Func)
	slots := make(map[*Slot]*Slot)
	for _, f := range m.Funcs {
		g := f.clone(slots)
		funcs[f] = g
		out.Funcs = append(out.Funcs, g)
	}
	for _, f := range out.Funcs {
		for _, s := range f.Slots {
			if s.Of != nil {
				s.Of, s.In = slots[s.Of], funcs[s.In]
			}
		}
		for _, b := range f.Blocks {
			for _, v := range b.Values {
				if g, ok := v.Aux.(*Func); ok && funcs[g] != nil {
					v.Aux = funcs[g]
				}
			}
		}
	}
	return out
}

func (f *Func) clone(slots map[*Slot]*Slot) *Func {
	g := &Func{Name: f.Name, Kind: f.Kind, nextID: f.nextID, blocks: f.blocks}
	for _, s := range f.Slots {
		c := *s
		slots[s] = &c
		g.Slots = append(g.Slots, &c)
	}
	blocks := make([]*Block, f.NumBlocks())
	values := make([]*Value, f.NumIDs())
	copyOf := func(v *Value, b *Block) *Value {
		c := g.values.one()
		*c = *v
		c.Block, c.Args = b, g.args.copy(v.Args)
		if s, ok := c.Aux.(*Slot); ok {
			c.Aux = slots[s]
		}
		values[v.ID] = c
		return c
	}
	for _, b := range f.Blocks {
		c := g.blockSpace.one()
		*c = Block{ID: b.ID, Seq: b.Seq, Name: b.Name, Cold: b.Cold, Term: b.Term}
		blocks[b.Seq] = c
		c.Values = make([]*Value, 0, len(b.Values))
		for _, p := range b.Params {
			c.Params = append(c.Params, copyOf(p, c))
		}
		for _, v := range b.Values {
			c.Values = append(c.Values, copyOf(v, c))
		}
		g.Blocks = append(g.Blocks, c)
	}
	for _, c := range g.Blocks {
		c.Term.Succs = append([]Edge(nil), c.Term.Succs...)
		for i := range c.Term.Succs {
			e := &c.Term.Succs[i]
			e.To = blocks[e.To.Seq]
			e.Args = g.args.copy(e.Args)
		}
	}
	g.EachUse(func(_ *Block, u **Value) { *u = values[(*u).ID] })
	return g
}
