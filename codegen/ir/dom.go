package ir

// NumIDs returns one more than the largest ID of the function's blocks, values and slots: the length of a table indexed by ID.
func (f *Func) NumIDs() int { return f.nextID + 1 }

// NumBlocks returns how many blocks were ever made: the length of a table indexed by Block.Seq.
func (f *Func) NumBlocks() int { return f.blocks }

// Preds returns the predecessors of each block, indexed by Block.Seq; a block that branches to the same block with both edges
// is listed twice.
func (f *Func) Preds() [][]*Block {
	preds := make([][]*Block, f.NumBlocks())
	n := make([]int32, f.NumBlocks())
	all := 0
	for _, b := range f.Blocks {
		for _, e := range b.Term.Succs {
			n[e.To.Seq]++
			all++
		}
	}
	list := make([]*Block, all) // one piece of memory for all lists
	for _, b := range f.Blocks {
		if k := n[b.Seq]; k > 0 {
			preds[b.Seq], list = list[:0:k], list[k:]
		}
	}
	for _, b := range f.Blocks {
		for _, e := range b.Term.Succs {
			preds[e.To.Seq] = append(preds[e.To.Seq], b)
		}
	}
	return preds
}

// ReversePostorder returns the blocks that can be reached from the entry, each before its successors except along back edges.
func (f *Func) ReversePostorder() []*Block {
	seen := make([]bool, f.NumBlocks())
	order := make([]*Block, 0, len(f.Blocks))
	type frame struct {
		b *Block
		i int
	}
	stack := append(make([]frame, 0, 64), frame{b: f.Blocks[0]})
	seen[f.Blocks[0].Seq] = true
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		// Successors are visited last to first so that Succs[0] comes first in the reversed order.
		if n := len(top.b.Term.Succs); top.i < n {
			s := top.b.Term.Succs[n-1-top.i].To
			top.i++
			if !seen[s.Seq] {
				seen[s.Seq] = true
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
	order := f.ReversePostorder()
	if len(order) == len(f.Blocks) {
		return false
	}
	reach := make([]bool, f.NumBlocks())
	for _, b := range order {
		reach[b.Seq] = true
	}
	kept := f.Blocks[:0:0]
	for _, b := range f.Blocks {
		if reach[b.Seq] {
			kept = append(kept, b)
		}
	}
	f.Blocks = kept
	return true
}

// DomTree is the dominator tree of a function at the time it was made.
type DomTree struct {
	Order    []*Block // reverse postorder
	Preorder []*Block // of the tree: each block is followed by those that it dominates, siblings as in Order
	idom     []*Block // by Block.Seq; nil for the entry and unreachable blocks
	num      []int    // by Block.Seq: position in Order, -1 when unreachable
	in       []int    // by Block.Seq: preorder interval of the subtree
	out      []int
}

// NewDomTree computes dominators (Cooper, Harvey and Kennedy's iteration; without an edge back the first time is the last).
func NewDomTree(f *Func) *DomTree {
	n := f.NumBlocks()
	d := &DomTree{Order: f.ReversePostorder(), idom: make([]*Block, n), num: make([]int, n), in: make([]int, n), out: make([]int, n)}
	for i := range d.num {
		d.num[i] = -1
	}
	for i, b := range d.Order {
		d.num[b.Seq] = i
	}
	preds := f.Preds()
	entry := d.Order[0]
	d.idom[entry.Seq] = entry
	for changed, back := true, false; changed; {
		changed = false
		for i, b := range d.Order[1:] {
			var best *Block
			for _, p := range preds[b.Seq] {
				back = back || d.num[p.Seq] > i
				if d.num[p.Seq] < 0 || d.idom[p.Seq] == nil {
					continue
				}
				if best == nil {
					best = p
				} else {
					best = d.meet(best, p)
				}
			}
			if d.idom[b.Seq] != best {
				d.idom[b.Seq] = best
				changed = back
			}
		}
	}
	d.idom[entry.Seq] = nil
	kids := make([][]*Block, n)
	for _, b := range d.Order[1:] {
		p := d.idom[b.Seq]
		kids[p.Seq] = append(kids[p.Seq], b)
	}
	// The interval of a subtree makes Dominates a comparison.
	clock := 0
	type frame struct {
		b *Block
		i int
	}
	stack := []frame{{b: entry}}
	d.in[entry.Seq] = clock
	d.Preorder = append(make([]*Block, 0, len(d.Order)), entry)
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if k := kids[top.b.Seq]; top.i < len(k) {
			c := k[top.i]
			top.i++
			clock++
			d.in[c.Seq] = clock
			d.Preorder = append(d.Preorder, c)
			stack = append(stack, frame{b: c})
			continue
		}
		d.out[top.b.Seq] = clock
		stack = stack[:len(stack)-1]
	}
	return d
}

func (d *DomTree) meet(a, b *Block) *Block {
	for a != b {
		for d.num[a.Seq] > d.num[b.Seq] {
			a = d.idom[a.Seq]
		}
		for d.num[b.Seq] > d.num[a.Seq] {
			b = d.idom[b.Seq]
		}
	}
	return a
}

// IDom returns the immediate dominator of b, nil for the entry.
func (d *DomTree) IDom(b *Block) *Block { return d.idom[b.Seq] }

// Reachable reports whether b can be reached from the entry.
func (d *DomTree) Reachable(b *Block) bool { return b.Seq < len(d.num) && d.num[b.Seq] >= 0 }

// Number returns b's position in Order, -1 for an unreachable block.
func (d *DomTree) Number(b *Block) int { return d.num[b.Seq] }

// Dominates reports whether every path from the entry to b goes through a; a block dominates itself.
func (d *DomTree) Dominates(a, b *Block) bool {
	return d.Reachable(a) && d.Reachable(b) && d.in[a.Seq] <= d.in[b.Seq] && d.out[b.Seq] <= d.out[a.Seq]
}

// Common returns the nearest block that dominates both.
func (d *DomTree) Common(a, b *Block) *Block {
	for !d.Dominates(a, b) {
		a = d.idom[a.Seq]
	}
	return a
}

// LoopDepths returns, by Block.Seq, in how many natural loops each block lies, and the headers of the innermost loops (nil outside loops).
func (d *DomTree) LoopDepths(f *Func) (depth []int, header []*Block) {
	n := f.NumBlocks()
	depth, header = make([]int, n), make([]*Block, n)
	preds := f.Preds()
	size := make([]int, n) // size of the smallest loop seen so far
	for _, h := range d.Order {
		var body map[*Block]bool
		var work []*Block
		for _, p := range preds[h.Seq] {
			if d.Dominates(h, p) && !body[p] {
				if body == nil {
					body = map[*Block]bool{}
				}
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
			for _, p := range preds[b.Seq] {
				if d.Reachable(p) && !body[p] {
					body[p] = true
					work = append(work, p)
				}
			}
		}
		for b := range body {
			depth[b.Seq]++
			if header[b.Seq] == nil || len(body) < size[b.Seq] {
				header[b.Seq], size[b.Seq] = h, len(body)
			}
		}
	}
	return depth, header
}
