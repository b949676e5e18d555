package bpf

import (
	"fmt"

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
func (p *placer) claim(opts *Options) (need, error) {
	var slots []*ir.Slot
	for _, s := range p.f.Slots {
		if s.Class == ir.SlotScratch && p.ranges[s] != nil {
			slots = append(slots, s)
		}
	}
	if len(slots) == 0 {
		return need{}, nil
	}
	if opts.Scratch.Map == "" {
		return need{}, &Error{Msg: fmt.Sprintf("%s needs more than the %d bytes of the stack and there is no scratch memory", p.f.Name, StackLimit)}
	}
	n, err := p.chunks(slots)
	if err != nil {
		return n, err
	}
	expand(p.f, opts, foldAddress)
	sinkAddresses(p.f, func(s *ir.Slot) bool { return s.Class == ir.SlotScratch })
	p.f.DropDead()
	q := newPlacer(p.f)
	b, i := q.claimPoint()
	c := &claimer{f: p.f, opts: opts, chunks: n.chunks}
	c.insert(b, i)
	c.address()
	c.release()
	return n, nil
}

// chunks gives scratch slots their offsets: chunk*ScratchChunk + offset in the chunk.
func (p *placer) chunks(slots []*ir.Slot) (need, error) {
	off, size := p.arrange(slots)
	n := need{chunks: 1, used: size}
	if ScratchHeader+size <= ScratchChunk {
		for _, s := range slots {
			s.Off = ScratchHeader + off[s]
		}
		n.bytes = (ScratchHeader + size + 7) &^ 7
		return n, nil
	}
	// Too much for one value: fill values one after the other.
	at := ScratchHeader
	n.bytes = ScratchChunk
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
	scratch := func(v *ir.Value) bool {
		for s := range p.derived[v] {
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
		// Reservations that may be open here: the claim moves before them.
		for _, b := range p.f.Blocks {
			for i, v := range b.Values {
				if !holds(v) || b == at && i >= first(at) {
					continue
				}
				reach := flood([]*ir.Block{b}, func(b *ir.Block) []*ir.Block {
					var out []*ir.Block
					for _, e := range b.Term.Succs {
						out = append(out, e.To)
					}
					return out
				})
				if b == at || reach[at] {
					if c := dom.Common(at, b); c != at {
						at = c
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

// claimer inserts the claim, the addresses and the release.
type claimer struct {
	f      *ir.Func
	opts   *Options
	chunks int
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
	// try claims a level and goes on when it can; the builder is then in a block where it could not.
	try := func(level *ir.Value, cold bool) {
		base := lookup(level, fail, cold)
		busy, mine := f.NewBlock("busy"), f.NewBlock("")
		busy.Cold, mine.Cold = true, cold
		if c.opts.AtomicFetch {
			bl.Branch(ir.OpEq, bl.Xchg(base, 0, 8, bl.Const(1)), bl.Const(0), mine, busy)
			bl.SetBlock(mine)
		} else {
			bl.Branch(ir.OpEq, bl.Load(base, 0, 8, false), bl.Const(0), mine, busy)
			bl.SetBlock(mine)
			bl.Store(base, 0, 8, bl.Const(1))
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
