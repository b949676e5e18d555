package bpf

import (
	"fmt"
	"slices"
	"sort"

	"github.com/sonde-sh/sonde/codegen/ir"
)

// Need is the scratch memory that a set of functions needs; see [Code].
type Need struct {
	Bytes, Chunks int
	Used          int // bytes of slots in scratch memory
}

type need struct {
	bytes, chunks, used int
	end                 int // where the memory of a Global function that it calls may start
}

// PlaceSlots gives every slot of the module's functions (the first is the entry) a place: an offset in the stack frame or, rewritten
// to an offset from a base that is claimed at run time, in per-CPU scratch memory. It is a part of Emit, exported so that
// tests can run its result in the interpreter.
func PlaceSlots(m *ir.Module, opts *Options) (Need, error) {
	n, err := placeSlots(m, opts, stackLimits{})
	return Need{n.bytes, n.chunks, n.used}, err
}

// calleeFrame is the most that slots of a callback or subprogram take from the stack that all frames of a chain share.
const calleeFrame = 192

// globalFrame is the same of a Global function: there may be many in a chain, and scratch memory costs them nothing more.
const globalFrame = 64

func placeSlots(m *ir.Module, opts *Options, limits stackLimits) (need, error) {
	var total need
	frames := map[*ir.Func]int{}
	claim := func(p *placer, base int) (int, error) {
		n, err := p.claim(opts, base)
		if err != nil {
			return 0, err
		}
		total.bytes, total.chunks = max(total.bytes, n.bytes), max(total.chunks, n.chunks)
		total.used += n.used
		p = newPlacer(p.f) // the claim has added a slot and blocks
		p.pack(p.onStack())
		for s, off := range p.off {
			s.Class, s.Off = ir.SlotStack, off
		}
		frames[p.f] = frameSize(p.f)
		return n.end, nil
	}
	global := slices.ContainsFunc(m.Funcs, func(f *ir.Func) bool { return f.Kind == ir.Global })
	placers := map[*ir.Func]*placer{}
	for i := len(m.Funcs) - 1; i >= 0; i-- {
		f := m.Funcs[i]
		limit := calleeFrame
		switch {
		case i == 0:
			below := deepest(f, frames, 0)
			limit = StackLimit - (below+31)/32*32
		case f.Kind == ir.Global:
			limit = globalFrame
		}
		limit -= limits.reserve
		p := newPlacer(f)
		if err := p.classify(opts, limit); err != nil {
			return total, err
		}
		if global {
			placers[f] = p
			frames[f] = p.pack(p.onStack()) + claimBytes
			continue
		}
		if _, err := claim(p, ScratchHeader); err != nil {
			return total, err
		}
	}
	if !global {
		return total, nil
	}
	// A Global function's part of the memory is behind that of the functions that may be running when it is called.
	base := map[*ir.Func]int{}
	for _, f := range callersFirst(m) {
		end, err := claim(placers[f], max(base[f], ScratchHeader))
		if err != nil {
			return total, err
		}
		for _, g := range callees(f) {
			if g.Kind == ir.Global {
				base[g] = max(base[g], end)
			}
		}
	}
	return total, nil
}

// callersFirst returns the functions of a module in an order in which each comes behind those that call it.
func callersFirst(m *ir.Module) []*ir.Func {
	var order []*ir.Func
	seen := map[*ir.Func]bool{}
	var visit func(f *ir.Func)
	visit = func(f *ir.Func) {
		seen[f] = true
		for _, g := range callees(f) {
			if !seen[g] {
				visit(g)
			}
		}
		order = append(order, f)
	}
	visit(m.Funcs[0])
	slices.Reverse(order)
	return order
}

// frameSize returns the bytes that the function's slots take below the frame pointer.
func frameSize(f *ir.Func) int {
	low := 0
	for _, s := range f.Slots {
		if s.Class == ir.SlotStack {
			low = min(low, s.Off)
		}
	}
	return (-low + 7) &^ 7
}

// placer knows which instructions use which slots.
type placer struct {
	f        *ir.Func
	derived  map[*ir.Value]map[*ir.Slot]bool // pointers into slots
	ranges   map[*ir.Slot]map[*ir.Block][2]int
	pinned   map[*ir.Slot]bool // holds pointers, which must stay in the frame
	variable map[*ir.Slot]bool // reached with variable offsets
	escapes  map[*ir.Slot]bool // its address is in memory: live all the time
	off      map[*ir.Slot]int  // result of pack
}

func newPlacer(f *ir.Func) *placer {
	p := &placer{
		f: f, derived: map[*ir.Value]map[*ir.Slot]bool{}, pinned: map[*ir.Slot]bool{}, variable: map[*ir.Slot]bool{}, escapes: map[*ir.Slot]bool{},
	}
	p.derive()
	p.live()
	return p
}

// derive finds the pointers into slots and how slots are used.
func (p *placer) derive() {
	grow := func(v *ir.Value, from map[*ir.Slot]bool) bool {
		changed := false
		for s := range from {
			if !p.derived[v][s] {
				if p.derived[v] == nil {
					p.derived[v] = map[*ir.Slot]bool{}
				}
				p.derived[v][s] = true
				changed = true
			}
		}
		return changed
	}
	for changed := true; changed; {
		changed = false
		for _, b := range p.f.Blocks {
			for _, v := range b.Values {
				switch v.Op {
				case ir.OpSlotAddr:
					changed = grow(v, map[*ir.Slot]bool{v.Aux.(*ir.Slot): true}) || changed
				default:
					if !carries(v) {
						continue
					}
					for _, a := range v.Args {
						changed = grow(v, p.derived[a]) || changed
					}
				}
			}
			for _, e := range b.Term.Succs {
				for i, a := range e.Args {
					changed = grow(e.To.Params[i], p.derived[a]) || changed
				}
			}
		}
	}
	mark := func(set map[*ir.Slot]bool, v *ir.Value) {
		for s := range p.derived[v] {
			set[s] = true
		}
	}
	for _, b := range p.f.Blocks {
		for _, v := range b.Values {
			switch v.Op {
			case ir.OpPtrAdd:
				if v.Args[1].Op != ir.OpConst {
					mark(p.variable, v.Args[0])
				}
			case ir.OpStore:
				mark(p.escapes, v.Args[1])
				if v.Args[1].Type != ir.I64 {
					mark(p.pinned, v.Args[0])
				}
			case ir.OpLoad:
				if v.Type != ir.I64 {
					mark(p.pinned, v.Args[0])
				}
			}
		}
	}
}

// carries tells whether the result of an op is an address when an argument is one, as a pointer or as an integer.
func carries(v *ir.Value) bool {
	info := &ir.Ops[v.Op]
	return info.Effect == ir.Pure && !info.Compare && v.Op != ir.OpPtrDiff
}

// live computes for each slot in which part of each block it holds something that is used later. A slot is live where it may have been
// used before and may be used again.
func (p *placer) live() {
	p.ranges = map[*ir.Slot]map[*ir.Block][2]int{}
	for _, s := range p.f.Slots {
		if s.Shared && callsGlobal(p.f) { // another function may be using it whatever this one does
			m := map[*ir.Block][2]int{}
			for _, b := range p.f.Blocks {
				m[b] = [2]int{0, len(b.Values)}
			}
			p.ranges[s] = m
		}
	}
	touch := func(s *ir.Slot, b *ir.Block, i int) {
		m := p.ranges[s]
		if m == nil {
			m = map[*ir.Block][2]int{}
			p.ranges[s] = m
		}
		r, ok := m[b]
		if !ok {
			r = [2]int{i, i}
		}
		m[b] = [2]int{min(r[0], i), max(r[1], i)}
	}
	touchAll := func(v *ir.Value, b *ir.Block, i int) {
		for s := range p.derived[v] {
			touch(s, b, i)
		}
	}
	for _, b := range p.f.Blocks {
		for i, v := range b.Values {
			if s, ok := v.Aux.(*ir.Slot); ok && v.Op == ir.OpPtrInt {
				touch(s, b, i)
			}
			if v.Op == ir.OpPtrAdd || v.Op == ir.OpSelect || v.Op == ir.OpNonNil {
				continue // an address alone uses nothing
			}
			for _, a := range v.Args {
				touchAll(a, b, i)
			}
		}
		b.Term.EachUse(func(u **ir.Value) {
			if *u == b.Term.X || *u == b.Term.Y {
				touchAll(*u, b, len(b.Values))
			}
		})
	}
	preds := p.f.Preds()
	for s, m := range p.ranges {
		var touched []*ir.Block
		for b := range m {
			touched = append(touched, b)
		}
		after := flood(touched, func(b *ir.Block) []*ir.Block {
			var out []*ir.Block
			for _, e := range b.Term.Succs {
				out = append(out, e.To)
			}
			return out
		})
		before := flood(touched, func(b *ir.Block) []*ir.Block { return preds[b.Seq] })
		for _, b := range p.f.Blocks {
			in := after[b] // touched on the way here
			out := before[b]
			r, has := m[b]
			switch {
			case p.escapes[s], in && out:
				m[b] = [2]int{0, len(b.Values)}
			case has && in:
				m[b] = [2]int{0, r[1]}
			case has && out:
				m[b] = [2]int{r[0], len(b.Values)}
			}
		}
	}
}

// flood returns the blocks that can be reached from the given ones over at least one edge.
func flood(from []*ir.Block, next func(*ir.Block) []*ir.Block) map[*ir.Block]bool {
	seen := map[*ir.Block]bool{}
	work := append([]*ir.Block(nil), from...)
	for len(work) > 0 {
		b := work[len(work)-1]
		work = work[:len(work)-1]
		for _, s := range next(b) {
			if !seen[s] {
				seen[s] = true
				work = append(work, s)
			}
		}
	}
	return seen
}

// conflict reports whether two slots are live at the same place.
func (p *placer) conflict(s, t *ir.Slot) bool {
	a, b := p.ranges[s], p.ranges[t]
	if len(a) > len(b) {
		a, b = b, a
	}
	for blk, r := range a {
		if q, ok := b[blk]; ok && r[0] <= q[1] && q[0] <= r[1] {
			return true
		}
	}
	return false
}

// align returns the alignment that a slot gets: that of the largest access its size allows.
func align(s *ir.Slot) int {
	a := s.Align
	for a < 8 && s.Size >= 2*a {
		a *= 2
	}
	return a
}

// arrange finds the lowest offsets, from 0 up, at which no two conflicting slots overlap, and the size of it all.
func (p *placer) arrange(slots []*ir.Slot) (map[*ir.Slot]int, int) {
	order := append([]*ir.Slot(nil), slots...)
	sort.SliceStable(order, func(i, j int) bool {
		if a, b := align(order[i]), align(order[j]); a != b {
			return a > b
		}
		return order[i].Size > order[j].Size
	})
	off := map[*ir.Slot]int{}
	size := 0
	for n, s := range order {
		at := 0
		for again := true; again; {
			again = false
			for _, t := range order[:n] {
				if at < off[t]+t.Size && off[t] < at+s.Size && p.conflict(s, t) {
					at = off[t] + t.Size
					again = true
				}
			}
			a := align(s)
			if r := (at + a - 1) &^ (a - 1); r != at {
				at = r
				again = true
			}
		}
		off[s] = at
		size = max(size, at+s.Size)
	}
	return off, size
}

// pack arranges slots in the stack frame and returns its size.
func (p *placer) pack(slots []*ir.Slot) int {
	off, size := p.arrange(slots)
	p.off = map[*ir.Slot]int{}
	// The first offsets are those nearest to the frame pointer.
	for s, o := range off {
		p.off[s] = -((o + s.Size + align(s) - 1) &^ (align(s) - 1))
	}
	return (size + 7) &^ 7
}

// onStack returns the slots that are not in scratch memory and that anything uses.
func (p *placer) onStack() []*ir.Slot {
	var out []*ir.Slot
	for _, s := range p.f.Slots {
		if s.Class != ir.SlotScratch && p.ranges[s] != nil {
			out = append(out, s)
		}
	}
	return out
}

// claimBytes is the stack that claiming scratch memory takes itself.
const claimBytes = 8

// classify decides which slots go to scratch memory: those that do not fit the frame, the largest first.
func (p *placer) classify(opts *Options, limit int) error {
	for _, s := range p.f.Slots {
		if s.Class == ir.SlotAuto && (s.Size > StackLimit || p.variable[s] && !opts.StackVarOff) && !p.pinned[s] {
			s.Class = ir.SlotScratch
		}
		if s.Class == ir.SlotScratch && p.pinned[s] {
			return fmt.Errorf("%s: slot %s holds pointers and cannot be in scratch memory", p.f.Name, s.Name)
		}
	}
	for {
		stack := p.onStack()
		size := p.pack(stack)
		for _, s := range p.f.Slots {
			if s.Class == ir.SlotScratch && p.ranges[s] != nil {
				size += claimBytes
				break
			}
		}
		if size <= limit {
			return nil
		}
		var largest *ir.Slot
		for _, s := range stack {
			if s.Class == ir.SlotAuto && !p.pinned[s] && (largest == nil || s.Size > largest.Size) {
				largest = s
			}
		}
		if largest == nil {
			return &Error{Msg: fmt.Sprintf("%s needs %d bytes of stack, the kernel allows %d", p.f.Name, size, limit)}
		}
		largest.Class = ir.SlotScratch
	}
}
