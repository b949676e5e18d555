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
		if n != (need{}) {
			p = newPlacer(p.f) // the claim has added a slot and blocks
		}
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
	derived  [][]*ir.Slot // the slots that a value points into, by its ID
	ranges   map[*ir.Slot][]span
	pinned   map[*ir.Slot]bool       // holds pointers, which must stay in the frame
	variable map[*ir.Slot]bool       // reached with variable offsets
	escapes  map[*ir.Slot]bool       // its address is in memory: live all the time
	off      map[*ir.Slot]int        // result of pack
	beside   map[*ir.Slot][]*ir.Slot // see conflicts
}

// span is a part of a function in which a slot is live, from one place to another; see places. Spans of a slot are in order, and none touches
// the next.
type span struct{ lo, hi int }

// places numbers the values and the terminators of a function's blocks, block by block: value i of block b is at places[b]+i.
func places(f *ir.Func) []int {
	at := make([]int, len(f.Blocks)+1)
	for i, b := range f.Blocks {
		at[i+1] = at[i] + len(b.Values) + 1
	}
	return at
}

func newPlacer(f *ir.Func) *placer {
	p := derivePlacer(f)
	p.live()
	return p
}

// derivePlacer knows only the pointers into slots, and how slots are used.
func derivePlacer(f *ir.Func) *placer {
	p := &placer{f: f, derived: make([][]*ir.Slot, f.NumIDs()), pinned: map[*ir.Slot]bool{}, variable: map[*ir.Slot]bool{}, escapes: map[*ir.Slot]bool{}}
	p.derive()
	return p
}

// derive finds the pointers into slots and how slots are used.
func (p *placer) derive() {
	add := func(v *ir.Value, s *ir.Slot) bool {
		if slices.Contains(p.derived[v.ID], s) {
			return false
		}
		p.derived[v.ID] = append(p.derived[v.ID], s)
		return true
	}
	grow := func(v, from *ir.Value) bool {
		changed := false
		for _, s := range p.derived[from.ID] {
			changed = add(v, s) || changed
		}
		return changed
	}
	for changed := true; changed; {
		changed = false
		for _, b := range p.f.Blocks {
			for _, v := range b.Values {
				switch v.Op {
				case ir.OpSlotAddr:
					changed = add(v, v.Aux.(*ir.Slot)) || changed
				default:
					if !carries(v) {
						continue
					}
					for _, a := range v.Args {
						changed = grow(v, a) || changed
					}
				}
			}
			for _, e := range b.Term.Succs {
				for i, a := range e.Args {
					changed = grow(e.To.Params[i], a) || changed
				}
			}
		}
	}
	mark := func(set map[*ir.Slot]bool, v *ir.Value) {
		for _, s := range p.derived[v.ID] {
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
	p.ranges = map[*ir.Slot][]span{}
	touched := map[*ir.Slot]*[]use{}
	touch := func(s *ir.Slot, b, i int) {
		l := touched[s]
		if l == nil {
			l = new([]use)
			touched[s] = l
		}
		if n := len(*l); n > 0 && (*l)[n-1].block == b {
			(*l)[n-1].hi = i
			return
		}
		*l = append(*l, use{b, i, i})
	}
	touchAll := func(v *ir.Value, b, i int) {
		for _, s := range p.derived[v.ID] {
			touch(s, b, i)
		}
	}
	for at, b := range p.f.Blocks {
		for i, v := range b.Values {
			if s, ok := v.Aux.(*ir.Slot); ok && v.Op == ir.OpPtrInt {
				touch(s, at, i)
			}
			if v.Op == ir.OpPtrAdd || v.Op == ir.OpSelect || v.Op == ir.OpNonNil {
				continue // an address alone uses nothing
			}
			for _, a := range v.Args {
				touchAll(a, at, i)
			}
		}
		b.Term.EachUse(func(u **ir.Value) {
			if *u == b.Term.X || *u == b.Term.Y {
				touchAll(*u, at, len(b.Values))
			}
		})
	}
	shared := callsGlobal(p.f)
	for _, s := range p.f.Slots {
		if s.Shared && shared { // another function may be using it whatever this one does
			p.ranges[s] = p.everywhere()
			delete(touched, s)
		}
	}
	w := newFlooder(p.f)
	for s, l := range touched {
		if p.escapes[s] {
			p.ranges[s] = p.everywhere()
			continue
		}
		p.ranges[s] = w.between(*l)
	}
}

// everywhere is the range of a slot that is always live.
func (p *placer) everywhere() []span {
	return []span{{0, places(p.f)[len(p.f.Blocks)]}}
}

// conflicts returns for each slot the others that are live at a place where it is.
func (p *placer) conflicts() map[*ir.Slot][]*ir.Slot {
	if p.beside != nil {
		return p.beside
	}
	type life struct {
		span
		slot *ir.Slot
	}
	var lives []life
	for _, s := range p.f.Slots {
		for _, r := range p.ranges[s] {
			lives = append(lives, life{r, s})
		}
	}
	sort.SliceStable(lives, func(i, j int) bool { return lives[i].lo < lives[j].lo })
	p.beside = map[*ir.Slot][]*ir.Slot{}
	var open []life // those that go on at the place that is looked at
	for _, l := range lives {
		open = slices.DeleteFunc(open, func(o life) bool { return o.hi < l.lo })
		for _, o := range open {
			p.beside[l.slot] = append(p.beside[l.slot], o.slot)
			p.beside[o.slot] = append(p.beside[o.slot], l.slot)
		}
		open = append(open, l)
	}
	return p.beside
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
	off := make(map[*ir.Slot]int, len(order))
	size := 0
	beside := p.conflicts()
	var near []*ir.Slot
	for _, s := range order {
		near = near[:0]
		for _, t := range beside[s] {
			if _, placed := off[t]; placed {
				near = append(near, t)
			}
		}
		sort.Slice(near, func(i, j int) bool { return off[near[i]] < off[near[j]] })
		at, a := 0, align(s)
		for _, t := range near {
			if off[t] >= at+s.Size {
				break
			}
			if end := off[t] + t.Size; at < end {
				at = (end + a - 1) &^ (a - 1)
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
	frame := func() int {
		size := p.pack(p.onStack())
		if slices.ContainsFunc(p.f.Slots, func(s *ir.Slot) bool { return s.Class == ir.SlotScratch && p.ranges[s] != nil }) {
			size += claimBytes
		}
		return size
	}
	if frame() <= limit {
		return nil
	}
	var movable []*ir.Slot
	for _, s := range p.onStack() {
		if s.Class == ir.SlotAuto && !p.pinned[s] {
			movable = append(movable, s)
		}
	}
	sort.SliceStable(movable, func(i, j int) bool { return movable[i].Size > movable[j].Size })
	moveTo := func(n int) int {
		for i, s := range movable {
			s.Class = ir.SlotAuto
			if i < n {
				s.Class = ir.SlotScratch
			}
		}
		return frame()
	}
	n := sort.Search(len(movable), func(n int) bool { return moveTo(n) <= limit })
	if size := moveTo(n); size > limit {
		return &Error{Msg: fmt.Sprintf("%s needs %d bytes of stack, the kernel allows %d", p.f.Name, size, limit)}
	}
	return nil
}
