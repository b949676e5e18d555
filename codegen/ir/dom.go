package ir

// NumIDs returns one more than the largest ID of the function's blocks, values and slots: the length of a table indexed by ID.
func (f *Func) NumIDs() int { return f.nextID + 1 }

// Preds returns the predecessors of each block, indexed by block ID; a block that branches to the same block with both edges
// is listed twice.
func (f *Func) Preds() [][]*Block {
	preds := make([][]*Block, f.NumIDs())
	for _, b := range f.Blocks {
		for _, e := range b.Term.Succs {
			preds[e.To.ID] = append(preds[e.To.ID], b)
		}
	}
	return preds
}

// ReversePostorder returns the blocks that can be reached from the entry, each before its successors except along back edges.
func (f *Func) ReversePostorder() []*Block {
	seen := make([]bool, f.NumIDs())
	order := make([]*Block, 0, len(f.Blocks))
	type frame struct {
		b *Block
		i int
	}
	stack := []frame{{b: f.Blocks[0]}}
	seen[f.Blocks[0].ID] = true
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		// Successors are visited last to first so that Succs[0] comes first in the reversed order.
		if n := len(top.b.Term.Succs); top.i < n {
			s := top.b.Term.Succs[n-1-top.i].To
			top.i++
			if !seen[s.ID] {
				seen[s.ID] = true
				stack = append(stack, frame{b: s})
			}
			continue
		}
		order = append(order, top.b)
		stack = stack[:len(stack)-1]
	}
	for i, j := 0, len(order)-1; i < j; i, j = i+1, j-1 {
		order[i], order[j] = order[j], order[i]
	}
	return order
}

// DropUnreachable removes the blocks that cannot be reached from the entry and reports whether there were any. The verifier of
// Linux refuses programs with unreachable instructions.
func (f *Func) DropUnreachable() bool {
	reach := make([]bool, f.NumIDs())
	for _, b := range f.ReversePostorder() {
		reach[b.ID] = true
	}
	kept := f.Blocks[:0:0]
	for _, b := range f.Blocks {
		if reach[b.ID] {
			kept = append(kept, b)
		}
	}
	dropped := len(kept) < len(f.Blocks)
	f.Blocks = kept
	return dropped
}

// DomTree is the dominator tree of a function at the time it was made.
type DomTree struct {
	Order    []*Block // reverse postorder
	Preorder []*Block // of the tree: each block is followed by those that it dominates, siblings as in Order
	idom     []*Block // by block ID; nil for the entry and unreachable blocks
	num      []int    // by block ID: position in Order, -1 when unreachable
	depth    []int
	in       []int // by block ID: preorder interval of the subtree
	out      []int
}

// NewDomTree computes dominators (Cooper, Harvey and Kennedy's iteration).
func NewDomTree(f *Func) *DomTree {
	n := f.NumIDs()
	d := &DomTree{Order: f.ReversePostorder(), idom: make([]*Block, n), num: make([]int, n), depth: make([]int, n), in: make([]int, n), out: make([]int, n)}
	for i := range d.num {
		d.num[i] = -1
	}
	for i, b := range d.Order {
		d.num[b.ID] = i
	}
	preds := f.Preds()
	entry := d.Order[0]
	d.idom[entry.ID] = entry
	for changed := true; changed; {
		changed = false
		for _, b := range d.Order[1:] {
			var best *Block
			for _, p := range preds[b.ID] {
				if d.num[p.ID] < 0 || d.idom[p.ID] == nil {
					continue
				}
				if best == nil {
					best = p
				} else {
					best = d.meet(best, p)
				}
			}
			if d.idom[b.ID] != best {
				d.idom[b.ID] = best
				changed = true
			}
		}
	}
	d.idom[entry.ID] = nil
	kids := make([][]*Block, n)
	for _, b := range d.Order[1:] {
		p := d.idom[b.ID]
		d.depth[b.ID] = d.depth[p.ID] + 1
		kids[p.ID] = append(kids[p.ID], b)
	}
	// The interval of a subtree makes Dominates a comparison.
	clock := 0
	type frame struct {
		b *Block
		i int
	}
	stack := []frame{{b: entry}}
	d.in[entry.ID] = clock
	d.Preorder = append(make([]*Block, 0, len(d.Order)), entry)
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if k := kids[top.b.ID]; top.i < len(k) {
			c := k[top.i]
			top.i++
			clock++
			d.in[c.ID] = clock
			d.Preorder = append(d.Preorder, c)
			stack = append(stack, frame{b: c})
			continue
		}
		d.out[top.b.ID] = clock
		stack = stack[:len(stack)-1]
	}
	return d
}

func (d *DomTree) meet(a, b *Block) *Block {
	for a != b {
		for d.num[a.ID] > d.num[b.ID] {
			a = d.idom[a.ID]
		}
		for d.num[b.ID] > d.num[a.ID] {
			b = d.idom[b.ID]
		}
	}
	return a
}

// IDom returns the immediate dominator of b, nil for the entry.
func (d *DomTree) IDom(b *Block) *Block { return d.idom[b.ID] }

// Reachable reports whether b can be reached from the entry.
func (d *DomTree) Reachable(b *Block) bool { return b.ID < len(d.num) && d.num[b.ID] >= 0 }

// Number returns b's position in Order, -1 for an unreachable block.
func (d *DomTree) Number(b *Block) int { return d.num[b.ID] }

// Dominates reports whether every path from the entry to b goes through a; a block dominates itself.
func (d *DomTree) Dominates(a, b *Block) bool {
	return d.Reachable(a) && d.Reachable(b) && d.in[a.ID] <= d.in[b.ID] && d.out[b.ID] <= d.out[a.ID]
}

// Common returns the nearest block that dominates both.
func (d *DomTree) Common(a, b *Block) *Block {
	for a != b {
		if d.depth[a.ID] > d.depth[b.ID] {
			a = d.idom[a.ID]
		} else {
			b = d.idom[b.ID]
		}
	}
	return a
}

// LoopDepths returns, by block ID, in how many natural loops each block lies, and the headers of the innermost loops (nil outside loops).
func (d *DomTree) LoopDepths(f *Func) (depth []int, header []*Block) {
	n := f.NumIDs()
	depth, header = make([]int, n), make([]*Block, n)
	preds := f.Preds()
	size := make([]int, n) // size of the smallest loop seen so far
	for _, h := range d.Order {
		body := map[*Block]bool{}
		var work []*Block
		for _, p := range preds[h.ID] {
			if d.Dominates(h, p) && !body[p] {
				body[p] = true
				work = append(work, p)
			}
		}
		if len(work) == 0 {
			continue
		}
		body[h] = true
		for len(work) > 0 {
			b := work[len(work)-1]
			work = work[:len(work)-1]
			if b == h {
				continue
			}
			for _, p := range preds[b.ID] {
				if d.Reachable(p) && !body[p] {
					body[p] = true
					work = append(work, p)
				}
			}
		}
		for b := range body {
			depth[b.ID]++
			if header[b.ID] == nil || len(body) < size[b.ID] {
				header[b.ID], size[b.ID] = h, len(body)
			}
		}
	}
	return depth, header
}
