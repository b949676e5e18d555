package bpf

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
)

// Scratch memory is a per-CPU array of ScratchLevels values per chunk. The first eight bytes of a value are its busy word. A run of a
// program claims the first level whose busy word it can change from 0 to 1, and gives it back when it is done; a program that interrupts
// it, or runs while it is preempted, finds that level busy and takes the next. Value number chunk*ScratchLevels+level is
// the chunk's memory at that level; only the values of chunk 0 are claimed.
//
// With fetching atomics the claim is an exchange. Kernels without them (5.10) run programs with preemption disabled: whoever comes between the
// load and the store of a busy word is done, and has put it back, before we go on, so a plain load and store will do.
//
// Global functions use the memory of the program that calls them: its level and one, which is never 0, is its busy word then, and is passed
// to them as a last parameter behind those of the IR. So the verifier does not know the number, and does not follow it.
const (
	ScratchLevels = 4
	// ScratchHeader is the size of the busy word.
	ScratchHeader = 8
	// ScratchChunk is the largest value of a per-CPU map (PCPU_MIN_UNIT_SIZE).
	ScratchChunk = 32 << 10
)

// Scratch names the maps behind scratch memory.
type Scratch struct {
	Map string // per-CPU array of scratch values; "" when there is none
	// Counters is a per-CPU array of u64 (object.MapCounters); CounterKey is the entry that counts runs skipped because all levels
	// were in use. "" counts nowhere.
	Counters   string
	CounterKey int
	// Levels is the number of values per chunk; 0 means ScratchLevels. A loop's callback claims memory of its own while that of the code around
	// it is in use, so each nesting needs one more.
	Levels int
	// Direct says that Counters is an array of one entry, all CPUs', and CounterKey the offset in its value in bytes.
	Direct bool
}

func (s *Scratch) levels() int { return max(s.Levels, ScratchLevels) }

// claim rewrites the function so that its scratch slots are offsets from memory that it claims before their first use.
func (p *placer) claim(opts *Options, base int) (need, error) {
	var slots, aliases []*ir.Slot
	for _, s := range p.f.Slots {
		switch {
		case s.Class != ir.SlotScratch || p.ranges[s] == nil:
		case s.Of != nil:
			aliases = append(aliases, s)
		default:
			slots = append(slots, s)
		}
	}
	calls := callsGlobal(p.f)
	if len(slots)+len(aliases) == 0 && !calls && p.f.Kind != ir.Global {
		return need{}, nil
	}
	if opts.Scratch.Map == "" {
		return need{}, &Error{Msg: fmt.Sprintf("%s needs more than the %d bytes of the stack and there is no scratch memory", p.f.Name, StackLimit)}
	}
	n, err := p.chunks(slots, base)
	if err != nil {
		return n, err
	}
	last := n.chunks
	for _, s := range aliases {
		s.Off = s.Of.Off
		last = max(last, s.Off/ScratchChunk+1)
	}
	expand(p.f, opts, foldAddress)
	sinkAddresses(p.f, func(s *ir.Slot) bool { return s.Class == ir.SlotScratch })
	p.f.DropDead()
	c := &claimer{f: p.f, opts: opts, chunks: last, shared: calls}
	if p.f.Kind == ir.Global {
		c.enter()
		c.address()
		c.passOn()
		return n, nil
	}
	q := derivePlacer(p.f)
	b, i := q.claimPoint()
	c.insert(b, i)
	c.address()
	c.passOn()
	c.release()
	return n, nil
}

// callsGlobal tells whether f calls a Global function itself.
func callsGlobal(f *ir.Func) bool {
	return slices.ContainsFunc(callees(f), func(g *ir.Func) bool { return g.Kind == ir.Global })
}

// chunks gives scratch slots their offsets, from base up: chunk*ScratchChunk + offset in the chunk.
func (p *placer) chunks(slots []*ir.Slot, base int) (need, error) {
	off, size := p.arrange(slots)
	n := need{chunks: 1, used: size}
	if base+size <= ScratchChunk {
		for _, s := range slots {
			s.Off = base + off[s]
		}
		n.bytes = (base + size + 7) &^ 7
		n.end = n.bytes
		return n, nil
	}
	// Too much for one value: fill values one after the other.
	at := base % ScratchChunk
	n.bytes = ScratchChunk
	n.chunks += base / ScratchChunk
	n.used = 0
	for _, s := range slots {
		size := (s.Size + 7) &^ 7
		if ScratchHeader+size > ScratchChunk {
			return n, &Error{Msg: fmt.Sprintf("%s: %d bytes in one piece are more than the %d that per-CPU memory gives", s.Name, s.Size, ScratchChunk-ScratchHeader)}
		}
		if at+size > ScratchChunk {
			n.chunks++
			at = ScratchHeader
		}
		s.Off = (n.chunks-1)*ScratchChunk + at
		at += size
		n.used += size
	}
	n.end = (n.chunks-1)*ScratchChunk + at
	return n, nil
}

// sinkAddresses makes the addresses of chosen slots again right before each use, so that only true uses say where memory is needed.
func sinkAddresses(f *ir.Func, chosen func(*ir.Slot) bool) {
	again := func(b *ir.Block, a *ir.Value, out *[]*ir.Value) *ir.Value {
		if a.Op != ir.OpSlotAddr || !chosen(a.Aux.(*ir.Slot)) {
			return a
		}
		v := f.NewValue(ir.OpSlotAddr, a.Type, a.Span)
		v.Aux, v.Off, v.Block = a.Aux, a.Off, b
		*out = append(*out, v)
		return v
	}
	for _, b := range f.Blocks {
		out := make([]*ir.Value, 0, len(b.Values))
		for _, v := range b.Values {
			for i, a := range v.Args {
				v.Args[i] = again(b, a, &out)
			}
			out = append(out, v)
		}
		b.Term.EachUse(func(u **ir.Value) { *u = again(b, *u, &out) })
		b.Values = out
	}
}

// claimPoint returns the block and the position in it where memory must be claimed: as late as possible, but before every use, outside of
// loops, and not while a ring-buffer record is reserved, because a failed claim returns.
func (p *placer) claimPoint() (*ir.Block, int) {
	dom := ir.NewDomTree(p.f)
	_, header := dom.LoopDepths(p.f)
	preds := p.f.Preds()
	scratch := func(v *ir.Value) bool {
		if g, ok := v.Aux.(*ir.Func); ok && g.Kind == ir.Global {
			return true
		}
		for _, s := range p.derived[v.ID] {
			if s.Class == ir.SlotScratch {
				return true
			}
		}
		return false
	}
	var at *ir.Block
	for _, b := range p.f.Blocks {
		hit := false
		for _, v := range append(b.Params[:len(b.Params):len(b.Params)], b.Values...) {
			hit = hit || scratch(v)
		}
		if hit {
			if at == nil {
				at = b
			} else {
				at = dom.Common(at, b)
			}
		}
	}
	holds := func(v *ir.Value) bool {
		return v.Type == ir.RingNil || v.Op == ir.OpKfunc
	}
	first := func(b *ir.Block) int {
		for i, v := range b.Values {
			if scratch(v) || holds(v) {
				return i
			}
		}
		return len(b.Values)
	}
	for again := true; again; {
		again = false
		for header[at.Seq] != nil {
			at = dom.IDom(header[at.Seq])
			again = true
		}
		leads := leadTo(p.f, preds, at)
		// Reservations that may be open here: the claim moves before them.
		for _, b := range p.f.Blocks {
			for i, v := range b.Values {
				if !holds(v) || b == at && i >= first(at) {
					continue
				}
				if b == at || leads[b.Seq] {
					if c := dom.Common(at, b); c != at {
						at, leads = c, leadTo(p.f, preds, c)
						again = true
					}
				}
			}
		}
	}
	for _, q := range at.Params {
		if scratch(q) {
			panic("bpf: scratch pointer at its own claim") // its source is in a dominator, which would be the claim
		}
	}
	return at, first(at)
}

// leadTo tells, by Block.Seq, from which blocks one can get to another over at least one edge.
func leadTo(f *ir.Func, preds [][]*ir.Block, to *ir.Block) []bool {
	leads := make([]bool, f.NumBlocks())
	for work := []*ir.Block{to}; len(work) > 0; {
		b := work[len(work)-1]
		work = work[:len(work)-1]
		for _, p := range preds[b.Seq] {
			if !leads[p.Seq] {
				leads[p.Seq] = true
				work = append(work, p)
			}
		}
	}
	return leads
}

// claimer inserts the claim, the addresses and the release.
type claimer struct {
	f      *ir.Func
	opts   *Options
	chunks int
	shared bool // Global functions use the memory too
	got    *ir.Block
	bases  []*ir.Value // parameters of got: the memory of each chunk
}

// insert splits block b before value i and claims in between.
func (c *claimer) insert(b *ir.Block, i int) {
	f := c.f
	got := f.NewBlock("claimed")
	got.Cold = b.Cold
	c.got = got
	got.Values = append(got.Values, b.Values[i:]...)
	for _, v := range got.Values {
		v.Block = got
	}
	got.Term = b.Term
	b.Values, b.Term = b.Values[:i:i], ir.Term{}
	for range c.chunks {
		c.bases = append(c.bases, f.AddParam(got, ir.MapVal))
	}
	bl := ir.NewBuilder(f)
	bl.SetBlock(b)
	if i < len(got.Values) {
		bl.Span = got.Values[i].Span
	}
	key := f.NewSlot("scratch_key", 4, 4)
	key.Class = ir.SlotStack
	fail := f.NewBlock("no_scratch")
	fail.Cold = true
	lookup := func(entry *ir.Value, none *ir.Block, cold bool) *ir.Value {
		k := bl.SlotAddr(key, 0)
		bl.Store(k, 0, 4, entry)
		v := bl.Helper(asm.FnMapLookupElem, bl.MapRef(c.opts.Scratch.Map), k)
		ok := f.NewBlock("")
		ok.Cold = cold
		bl.Branch(ir.OpNe, v, bl.Const(0), ok, none)
		bl.SetBlock(ok)
		return bl.NonNil(v)
	}
	// mark gives the busy word of a level in use.
	mark := func(level *ir.Value) *ir.Value {
		switch {
		case !c.shared:
			return bl.Const(1)
		case level.Op == ir.OpConst:
			return bl.Const(level.Imm + 1)
		}
		return bl.AddImm(level, 1)
	}
	// try claims a level and goes on when it can; the builder is then in a block where it could not.
	try := func(level *ir.Value, cold bool) {
		base := lookup(level, fail, cold)
		busy, mine := f.NewBlock("busy"), f.NewBlock("")
		busy.Cold, mine.Cold = true, cold
		if c.opts.AtomicFetch {
			bl.Branch(ir.OpEq, bl.Xchg(base, 0, 8, mark(level)), bl.Const(0), mine, busy)
			bl.SetBlock(mine)
		} else {
			bl.Branch(ir.OpEq, bl.Load(base, 0, 8, false), bl.Const(0), mine, busy)
			bl.SetBlock(mine)
			bl.Store(base, 0, 8, mark(level))
		}
		args := []*ir.Value{base}
		for n := 1; n < c.chunks; n++ {
			back := f.NewBlock("")
			back.Cold = true
			args = append(args, lookup(bl.AddImm(level, int64(n*c.opts.Scratch.levels())), back, cold))
			here := bl.Block()
			bl.SetBlock(back)
			bl.Store(base, 0, 8, bl.Const(0))
			bl.Jump(fail)
			bl.SetBlock(here)
		}
		bl.Jump(got, args...)
		bl.SetBlock(busy)
	}
	// Nearly always the first level is free, so it has straight code of its own; the others, a loop, need no code for each of them.
	try(bl.Const(0), b.Cold)
	again := f.NewBlock("next_level")
	again.Cold = true
	level := f.AddParam(again, ir.I64)
	bl.Jump(again, bl.Const(1))
	bl.SetBlock(again)
	try(level, true)
	step := f.NewBlock("")
	step.Cold = true
	bl.Branch(ir.OpULt, level, bl.Const(int64(c.opts.Scratch.levels()-1)), step, fail)
	bl.SetBlock(step)
	bl.Jump(again, bl.AddImm(level, 1))
	bl.SetBlock(fail)
	if m := c.opts.Scratch.Counters; m != "" && c.opts.Scratch.Direct {
		bl.AtomicAdd(bl.MapValAddr(m, c.opts.Scratch.CounterKey), 0, 8, bl.Const(1))
	} else if m != "" {
		k := bl.SlotAddr(key, 0)
		bl.Store(k, 0, 4, bl.Const(int64(c.opts.Scratch.CounterKey)))
		bl.Cold(func() {
			bl.IfNonNil(bl.Helper(asm.FnMapLookupElem, bl.MapRef(m), k), func(n *ir.Value) { bl.AtomicAdd(n, 0, 8, bl.Const(1)) }, nil)
		})
	}
	if f.Kind == ir.Callback {
		bl.ReturnConst(1) // ends the iteration
	} else {
		bl.ReturnConst(0)
	}
}

// enter finds the memory of the program that calls a Global function, whose last parameter says which it is.
func (c *claimer) enter() {
	f := c.f
	entry := f.Blocks[0]
	level := f.AddParam(entry, ir.I64)
	got := f.NewBlock("memory")
	c.got = got
	got.Values, got.Term = entry.Values, entry.Term
	for _, v := range got.Values {
		v.Block = got
	}
	entry.Values, entry.Term = nil, ir.Term{}
	bl := ir.NewBuilder(f)
	key := f.NewSlot("scratch_key", 4, 4)
	key.Class = ir.SlotStack
	fail := f.NewBlock("no_scratch")
	fail.Cold = true
	for n := range c.chunks {
		k := bl.SlotAddr(key, 0)
		bl.Store(k, 0, 4, bl.AddImm(level, int64(n*c.opts.Scratch.levels()-1)))
		v := bl.Helper(asm.FnMapLookupElem, bl.MapRef(c.opts.Scratch.Map), k)
		ok := f.NewBlock("")
		bl.Branch(ir.OpNe, v, bl.Const(0), ok, fail)
		bl.SetBlock(ok)
		c.bases = append(c.bases, bl.NonNil(v))
	}
	bl.Jump(got)
	bl.SetBlock(fail)
	bl.ReturnConst(1) // ends the loop
}

// passOn adds the level to the calls of Global functions.
func (c *claimer) passOn() {
	for _, b := range c.f.Blocks {
		out := make([]*ir.Value, 0, len(b.Values))
		for _, v := range b.Values {
			if g, ok := v.Aux.(*ir.Func); ok && g.Kind == ir.Global {
				level := c.f.NewValue(ir.OpLoad, ir.I64, v.Span, c.bases[0])
				level.Size, level.Block = 8, b
				out = append(out, level)
				v.Args = append(v.Args[:len(v.Args):len(v.Args)], level)
			}
			out = append(out, v)
		}
		b.Values = out
	}
}

// address rewrites addresses of scratch slots to offsets from the claimed memory.
func (c *claimer) address() {
	expand(c.f, c.opts, func(e *expander, v *ir.Value) (*ir.Value, bool) {
		if v.Op != ir.OpSlotAddr {
			return nil, false
		}
		s := v.Aux.(*ir.Slot)
		if s.Class != ir.SlotScratch {
			return nil, false
		}
		at := s.Off + int(v.Off)
		chunk := s.Off / ScratchChunk
		return e.emit(ir.OpPtrAdd, ir.Stack, c.bases[chunk], e.imm(int64(at-chunk*ScratchChunk))), true
	})
}

// release gives the memory back at every return, and on every edge that leaves the blocks that the claim dominates.
func (c *claimer) release() {
	dom := ir.NewDomTree(c.f)
	free := func(b *ir.Block) {
		zero := c.f.NewValue(ir.OpConst, ir.I64, b.Term.Span)
		st := c.f.NewValue(ir.OpStore, ir.Void, b.Term.Span, c.bases[0], zero)
		st.Size = 8
		b.Append(zero)
		b.Append(st)
	}
	blocks := append([]*ir.Block(nil), dom.Order...)
	for _, b := range blocks {
		if !dom.Dominates(c.got, b) {
			continue
		}
		if b.Term.Kind == ir.Return {
			free(b)
		}
		for i := range b.Term.Succs {
			if !dom.Dominates(c.got, b.Term.Succs[i].To) {
				free(splitEdge(c.f, b, i))
			}
		}
	}
}
