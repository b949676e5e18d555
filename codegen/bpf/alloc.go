package bpf

import (
	"fmt"
	"math"
	"math/bits"
)

// allocate gives every virtual register one of r0 to r9, spilling where they do not suffice. It is iterated register coalescing
// (George and Appel 1996): the interference graph is simplified, coalesced, frozen and spilled until it is empty, then coloured
// in reverse. Interferences with r0 to r9 are kept as a mask per register instead of as edges.
func allocate(f *function) error {
	noSpill := map[reg]bool{} // registers that exist only to reach a spill slot
	trimmed := false
	for round := 0; ; round++ {
		if round > 40 {
			return fmt.Errorf("%s: register allocation does not end", f.ir.Name)
		}
		liveness(f)
		a := newAllocator(f, noSpill)
		a.run()
		if len(a.spilled) == 0 && !trimmed {
			trimmed = true
			a.trim()
		}
		if len(a.spilled) == 0 {
			a.rewrite()
			shareSpillSlots(f)
			return nil
		}
		if err := insertSpills(f, a, noSpill, round); err != nil {
			return err
		}
	}
}

// termUses returns the registers that the terminator reads.
func (b *block) termUses() []reg {
	switch {
	case b.exit:
		return []reg{r0}
	case len(b.succs) == 2 && b.y != noReg:
		return []reg{b.x, b.y}
	case len(b.succs) == 2:
		return []reg{b.x}
	}
	return nil
}

// node states of the allocator.
const (
	stInitial uint8 = iota
	stSimplify
	stFreeze
	stSpill
	stStack
	stCoalesced
	stColored
	stSpilled
)

// move states.
const (
	mvWorklist uint8 = iota
	mvActive
	mvCoalesced
	mvConstrained
	mvFrozen
)

type move struct {
	dst, src reg
	state    uint8
	weight   float64
}

type allocator struct {
	f       *function
	adj     [][]reg
	adjSet  edgeSet
	mask    []uint32 // physical registers a node interferes with
	degree  []int    // neighbours not removed from the graph, physical ones included
	state   []uint8
	alias   []reg
	color   []reg
	cost    []float64
	looped  []bool // used inside of a loop
	moves   []move
	moveOf  [][]int32
	active  []bool // a move of the node may be mvActive
	noSpill map[reg]bool

	simplify, freeze, spill []reg // worklists; entries may be stale, state decides
	moveWork                []int32
	stack                   []reg
	spilled                 []reg
}

func newAllocator(f *function, noSpill map[reg]bool) *allocator {
	n := int(f.nregs)
	a := &allocator{
		f: f, adj: make([][]reg, n), mask: make([]uint32, n), degree: make([]int, n), state: make([]uint8, n),
		alias: make([]reg, n), color: make([]reg, n), cost: make([]float64, n), looped: make([]bool, n), moveOf: make([][]int32, n), active: make([]bool, n), noSpill: noSpill,
	}
	for i := range a.alias {
		a.alias[i], a.color[i] = reg(i), noReg
	}
	for i := r0; i < numColors; i++ {
		a.color[i] = i
		a.state[i] = stColored
		a.degree[i] = math.MaxInt32 / 2
	}
	a.build()
	return a
}

func isPhys(r reg) bool { return r < numColors }

func key(u, v reg) uint64 {
	if u > v {
		u, v = v, u
	}
	return uint64(u)<<32 | uint64(v)
}

func (a *allocator) interferes(u, v reg) bool {
	switch {
	case isPhys(u) && isPhys(v):
		return u != v
	case isPhys(u):
		return a.mask[v]&(1<<u) != 0
	case isPhys(v):
		return a.mask[u]&(1<<v) != 0
	}
	return a.adjSet.has(key(u, v))
}

func (a *allocator) addEdge(u, v reg) {
	switch {
	case u == v || u == fp || v == fp || isPhys(u) && isPhys(v):
	case isPhys(u):
		if a.mask[v]&(1<<u) == 0 {
			a.mask[v] |= 1 << u
			a.degree[v]++
		}
	case isPhys(v):
		a.addEdge(v, u)
	default:
		if a.adjSet.add(key(u, v)) {
			a.adj[u] = append(a.adj[u], v)
			a.adj[v] = append(a.adj[v], u)
			a.degree[u]++
			a.degree[v]++
		}
	}
}

// weight estimates how often a block runs.
func (b *block) weight() float64 {
	w := math.Pow(10, float64(min(b.depth, 5)))
	if b.cold {
		w /= 100
	}
	return w
}

// build walks the code backwards and makes the interference graph, the list of moves and the spill costs.
func (a *allocator) build() {
	live := newRegset(a.f.nregs)
	var defs []reg
	for _, b := range a.f.blocks {
		w := b.weight()
		live.set(b.liveOut)
		for _, r := range b.termUses() {
			live.add(r)
			a.cost[r] += w
		}
		for i := len(b.insts) - 1; i >= 0; i-- {
			in := &b.insts[i]
			if in.kind == kMov && in.dst != in.src && in.src != fp {
				live.remove(in.src)
				mi := int32(len(a.moves))
				a.moves = append(a.moves, move{dst: in.dst, src: in.src, weight: w})
				a.moveOf[in.dst] = append(a.moveOf[in.dst], mi)
				a.moveOf[in.src] = append(a.moveOf[in.src], mi)
				a.moveWork = append(a.moveWork, mi)
			}
			defs = defs[:0]
			in.each(func(r *reg, _, d bool) {
				if d {
					defs = append(defs, *r)
				}
			})
			for m := in.clobbers(); m != 0; m &= m - 1 {
				defs = append(defs, reg(bits.TrailingZeros32(m)))
			}
			for _, d := range defs {
				live.add(d)
			}
			for _, d := range defs {
				for _, r := range live.list {
					a.addEdge(d, r)
				}
				if in.isEarly() {
					in.each(func(r *reg, u, _ bool) {
						if u {
							a.addEdge(d, *r)
						}
					})
				}
			}
			for _, d := range defs {
				live.remove(d)
			}
			in.each(func(r *reg, u, d bool) {
				if u {
					live.add(*r)
				}
				c := w
				if in.isRemat() {
					c = 0 // a spilled constant costs nothing where it was made
				}
				a.cost[*r] += c
				a.looped[*r] = a.looped[*r] || b.depth > 0
			})
			for m := in.uses(); m != 0; m &= m - 1 {
				live.add(reg(bits.TrailingZeros32(m)))
			}
		}
	}
	for r := range a.noSpill {
		a.cost[r] = math.Inf(1)
	}
}

// isMoveRelated reports whether a node takes part in a move that may still be coalesced.
func (a *allocator) isMoveRelated(r reg) bool {
	for _, m := range a.moveOf[r] {
		if s := a.moves[m].state; s == mvWorklist || s == mvActive {
			return true
		}
	}
	return false
}

// inGraph reports whether a node has not been removed.
func (a *allocator) inGraph(r reg) bool { return a.state[r] != stStack && a.state[r] != stCoalesced }

func (a *allocator) run() {
	used := newBitset(int(a.f.nregs))
	for _, b := range a.f.blocks {
		for i := range b.insts {
			b.insts[i].each(func(r *reg, _, _ bool) { used.add(*r) })
		}
		for _, r := range b.termUses() {
			used.add(r)
		}
	}
	for r := firstVirtual; r < a.f.nregs; r++ {
		if used.has(r) {
			a.classify(r)
		} else {
			a.state[r] = stColored
		}
	}
	for {
		switch {
		case len(a.simplify) > 0:
			r := pop(&a.simplify)
			if a.state[r] == stSimplify {
				a.remove(r)
			}
		case len(a.moveWork) > 0:
			a.coalesce()
		case len(a.freeze) > 0:
			r := pop(&a.freeze)
			if a.state[r] == stFreeze {
				a.freezeMoves(r)
				a.setState(r, stSimplify)
			}
		default:
			if !a.selectSpill() {
				a.assign()
				return
			}
		}
	}
}

func pop[T any](s *[]T) T {
	n := len(*s) - 1
	x := (*s)[n]
	*s = (*s)[:n]
	return x
}

func (a *allocator) setState(r reg, st uint8) {
	a.state[r] = st
	switch st {
	case stSimplify:
		a.simplify = append(a.simplify, r)
	case stFreeze:
		a.freeze = append(a.freeze, r)
	case stSpill:
		a.spill = append(a.spill, r)
	}
}

func (a *allocator) classify(r reg) {
	switch {
	case a.degree[r] >= numColors:
		a.setState(r, stSpill)
	case a.isMoveRelated(r):
		a.setState(r, stFreeze)
	default:
		a.setState(r, stSimplify)
	}
}

// remove takes a node off the graph and puts it on the stack.
func (a *allocator) remove(r reg) {
	a.state[r] = stStack
	a.stack = append(a.stack, r)
	for _, n := range a.adj[r] {
		if a.inGraph(n) {
			a.decrement(n)
		}
	}
}

func (a *allocator) decrement(r reg) {
	d := a.degree[r]
	a.degree[r]--
	if d != numColors || a.state[r] == stColored {
		return
	}
	a.enableMoves(r)
	for _, n := range a.adj[r] {
		if a.inGraph(n) {
			a.enableMoves(n)
		}
	}
	if a.state[r] == stSpill {
		if a.isMoveRelated(r) {
			a.setState(r, stFreeze)
		} else {
			a.setState(r, stSimplify)
		}
	}
}

func (a *allocator) enableMoves(r reg) {
	if !a.active[r] { // mostly: a value that lives through the program has thousands of moves and neighbours
		return
	}
	a.active[r] = false
	for _, m := range a.moveOf[r] {
		if a.moves[m].state == mvActive {
			a.moves[m].state = mvWorklist
			a.moveWork = append(a.moveWork, m)
		}
	}
}

func (a *allocator) find(r reg) reg {
	for a.alias[r] != r {
		a.alias[r] = a.alias[a.alias[r]]
		r = a.alias[r]
	}
	return r
}

func (a *allocator) coalesce() {
	mi := pop(&a.moveWork)
	m := &a.moves[mi]
	if m.state != mvWorklist {
		return
	}
	x, y := a.find(m.dst), a.find(m.src)
	if isPhys(y) {
		x, y = y, x
	}
	switch {
	case x == y:
		m.state = mvCoalesced
		a.unfreeze(x)
	case isPhys(y) || a.interferes(x, y):
		m.state = mvConstrained
		a.unfreeze(x)
		a.unfreeze(y)
	case isPhys(x) && a.george(x, y) || !isPhys(x) && a.briggs(x, y):
		m.state = mvCoalesced
		a.combine(x, y)
		a.unfreeze(x)
	default:
		m.state = mvActive
		a.active[x], a.active[y] = true, true
	}
}

// unfreeze lets a node that no longer takes part in moves be simplified.
func (a *allocator) unfreeze(r reg) {
	if !isPhys(r) && a.state[r] == stFreeze && !a.isMoveRelated(r) && a.degree[r] < numColors {
		a.setState(r, stSimplify)
	}
}

// george tells whether v may take the physical register p: every neighbour of v is insignificant or interferes with p already.
func (a *allocator) george(p, v reg) bool {
	for _, n := range a.adj[v] {
		if a.inGraph(n) && a.degree[n] >= numColors && !a.interferes(p, n) {
			return false
		}
	}
	return true
}

// briggs tells whether the union of two nodes has fewer than numColors significant neighbours.
func (a *allocator) briggs(u, v reg) bool {
	k := bits.OnesCount32(a.mask[u] | a.mask[v])
	for _, n := range a.adj[u] {
		if a.inGraph(n) {
			d := a.degree[n]
			if a.interferes(n, v) {
				d--
			}
			if d >= numColors {
				k++
			}
		}
	}
	for _, n := range a.adj[v] {
		if a.inGraph(n) && !a.interferes(n, u) && a.degree[n] >= numColors {
			k++
		}
	}
	return k < numColors
}

func (a *allocator) combine(u, v reg) {
	a.state[v] = stCoalesced
	a.alias[v] = u
	a.moveOf[u] = append(a.moveOf[u], a.moveOf[v]...)
	a.active[u] = a.active[u] || a.active[v]
	a.enableMoves(v)
	if !isPhys(u) {
		a.cost[u] += a.cost[v]
		a.looped[u] = a.looped[u] || a.looped[v]
		if a.noSpill[v] {
			a.cost[u] = math.Inf(1)
		}
		for m := a.mask[v] &^ a.mask[u]; m != 0; m &= m - 1 {
			a.addEdge(reg(bits.TrailingZeros32(m)), u)
		}
	}
	for _, n := range a.adj[v] {
		if a.inGraph(n) {
			a.addEdge(n, u)
			a.decrement(n)
		} // nodes on the stack find u through v's alias when they are coloured
	}
	if !isPhys(u) && a.degree[u] >= numColors && a.state[u] == stFreeze {
		a.setState(u, stSpill)
	}
}

func (a *allocator) freezeMoves(r reg) {
	for _, mi := range a.moveOf[r] {
		m := &a.moves[mi]
		if m.state != mvWorklist && m.state != mvActive {
			continue
		}
		m.state = mvFrozen
		other := a.find(m.dst)
		if other == a.find(r) {
			other = a.find(m.src)
		}
		a.unfreeze(other)
	}
}

// selectSpill removes the node that is cheapest to spill for what it frees; it may still get a register when colours are assigned.
func (a *allocator) selectSpill() bool {
	best, bestCost := noReg, 0.0
	kept := a.spill[:0]
	for _, r := range a.spill {
		if a.state[r] != stSpill {
			continue
		}
		kept = append(kept, r)
		c := a.cost[r] / float64(a.degree[r])
		if best == noReg || c < bestCost {
			best, bestCost = r, c
		}
	}
	a.spill = kept
	if best == noReg {
		return false
	}
	a.freezeMoves(best)
	a.setState(best, stSimplify)
	return true
}

// colorOrder prefers registers that calls destroy, so that the others stay free for what lives across calls, and leaves r0 and the
// first arguments to results and arguments.
var colorOrder = [numColors]reg{5, 4, 3, 2, 1, 0, 6, 7, 8, 9}

func (a *allocator) assign() {
	for i := len(a.stack) - 1; i >= 0; i-- {
		r := a.stack[i]
		taken := a.mask[r]
		for _, n := range a.adj[r] {
			if c := a.color[a.find(n)]; c != noReg {
				taken |= 1 << c
			}
		}
		free := ^taken & (1<<numColors - 1)
		if free == 0 {
			a.state[r] = stSpilled
			a.spilled = append(a.spilled, r)
			continue
		}
		a.state[r] = stColored
		a.color[r] = a.pick(r, free)
	}
}

// saveCost is what the native code of a function pays for each of r6 to r9 that it uses: it saves and restores it, whatever path is taken.
const saveCost = 2

// trim spills what alone makes the function use one of r6 to r9 where that is cheaper, such as a value that lives only on a cold path. What a
// loop uses stays: old verifiers must see the values that end it.
func (a *allocator) trim() {
	for c := reg(6); c < numColors; c++ {
		var nodes []reg
		cost := 0.0
		for r := firstVirtual; r < a.f.nregs; r++ {
			if a.state[r] == stColored && a.color[r] == c && a.cost[r] > 0 {
				nodes = append(nodes, r)
				cost += a.cost[r]
				if a.looped[r] {
					cost = math.Inf(1)
				}
			}
		}
		if len(nodes) > 0 && cost < saveCost {
			a.spilled = append(a.spilled, nodes...)
		}
	}
}

// pick chooses among the free registers: one that makes a move needless, else the first of colorOrder.
func (a *allocator) pick(r reg, free uint32) reg {
	var gain [numColors]float64
	for _, mi := range a.moveOf[r] {
		m := &a.moves[mi]
		if m.state == mvCoalesced {
			continue
		}
		other := a.find(m.dst)
		if other == r {
			other = a.find(m.src)
		}
		if c := a.color[other]; c != noReg && free&(1<<c) != 0 {
			gain[c] += m.weight
		}
	}
	best := noReg
	for _, c := range colorOrder {
		if free&(1<<c) != 0 && (best == noReg || gain[c] > gain[best]) {
			best = c
		}
	}
	return best
}

// rewrite replaces virtual registers by their colours and drops the moves that became needless.
func (a *allocator) rewrite() {
	final := func(r reg) reg {
		if r == noReg || r <= fp {
			return r
		}
		return a.color[a.find(r)]
	}
	for _, b := range a.f.blocks {
		kept := b.insts[:0]
		for i := range b.insts {
			in := &b.insts[i]
			in.each(func(r *reg, _, _ bool) { *r = final(*r) })
			if in.kind == kMov && in.dst == in.src {
				continue
			}
			kept = append(kept, *in)
		}
		b.insts = kept
		b.x, b.y = final(b.x), final(b.y)
	}
}
