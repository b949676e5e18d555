package bpf

import (
	"slices"

	"github.com/sonde-sh/sonde/codegen/ir"
)

// use is a part of a block, from one value to another, in which something is used.
type use struct{ block, lo, hi int }

// flooder finds where control may go to and come from.
type flooder struct {
	f             *ir.Func
	places        []int
	preds         [][]*ir.Block
	seq           []int // position in f.Blocks, by Block.Seq
	rank          []int // see ranks; by position
	after, before []int // by position: the number of the search that came here
	search        int
	work          []int
}

func newFlooder(f *ir.Func) *flooder {
	w := &flooder{f: f, places: places(f), preds: f.Preds(), seq: make([]int, f.NumBlocks()), after: make([]int, len(f.Blocks)), before: make([]int, len(f.Blocks))}
	for i, b := range f.Blocks {
		w.seq[b.Seq] = i
	}
	w.rank = w.ranks()
	return w
}

// ranks numbers the blocks so that control goes to equal or higher numbers only; the blocks of a loop have the same. (Tarjan's strongly connected
// components, which come out last first.)
func (w *flooder) ranks() []int {
	n := len(w.f.Blocks)
	rank, low, entered := make([]int, n), make([]int, n), make([]int, n)
	type visit struct{ at, edge int }
	var open []int // entered, and not yet of a component
	var path []visit
	count, next := 0, n
	enter := func(at int) {
		count++
		entered[at], low[at] = count, count
		open = append(open, at)
		path = append(path, visit{at: at})
	}
	for root := range n {
		if entered[root] != 0 {
			continue
		}
		for enter(root); len(path) > 0; {
			v := &path[len(path)-1]
			at := v.at
			if succs := w.f.Blocks[at].Term.Succs; v.edge < len(succs) {
				to := w.seq[succs[v.edge].To.Seq]
				v.edge++
				switch {
				case entered[to] == 0:
					enter(to)
				case rank[to] == 0:
					low[at] = min(low[at], entered[to])
				}
				continue
			}
			path = path[:len(path)-1]
			if len(path) > 0 {
				from := path[len(path)-1].at
				low[from] = min(low[from], low[at])
			}
			if low[at] != entered[at] {
				continue
			}
			for last := -1; last != at; {
				last = open[len(open)-1]
				open = open[:len(open)-1]
				rank[last] = next
			}
			next--
		}
	}
	return rank
}

// between gives where a slot is live that is used in the given places: there, and on every way from one to another.
func (w *flooder) between(used []use) []span {
	if len(used) == 0 {
		return nil
	}
	w.search++
	lo, hi := w.rank[used[0].block], w.rank[used[0].block]
	for _, u := range used {
		lo, hi = min(lo, w.rank[u.block]), max(hi, w.rank[u.block])
	}
	var blocks []int
	// A way from one place to another has no block of a rank outside of theirs.
	enter := func(seen []int, b *ir.Block) {
		if i := w.seq[b.Seq]; seen[i] != w.search && lo <= w.rank[i] && w.rank[i] <= hi {
			seen[i] = w.search
			w.work = append(w.work, i)
		}
	}
	drain := func(next func(*ir.Block), came func(int)) {
		for _, u := range used {
			next(w.f.Blocks[u.block])
		}
		for len(w.work) > 0 {
			i := w.work[len(w.work)-1]
			w.work = w.work[:len(w.work)-1]
			came(i)
			next(w.f.Blocks[i])
		}
	}
	drain(func(b *ir.Block) {
		for i := range b.Term.Succs {
			enter(w.after, b.Term.Succs[i].To)
		}
	}, func(int) {})
	drain(func(b *ir.Block) {
		for _, e := range w.preds[b.Seq] {
			enter(w.before, e)
		}
	}, func(i int) {
		if w.after[i] == w.search {
			blocks = append(blocks, i)
		}
	})
	for _, u := range used {
		blocks = append(blocks, u.block)
	}
	slices.Sort(blocks)
	blocks = slices.Compact(blocks)
	var out []span
	for _, i := range blocks {
		r := span{w.places[i], w.places[i+1] - 1}
		if len(used) > 0 && used[0].block == i {
			if w.after[i] != w.search { // not used on the way here
				r.lo = w.places[i] + used[0].lo
			}
			if w.before[i] != w.search { // nor further on
				r.hi = w.places[i] + used[0].hi
			}
			used = used[1:]
		}
		if n := len(out); n > 0 && out[n-1].hi+1 == r.lo {
			out[n-1].hi = r.hi
		} else {
			out = append(out, r)
		}
	}
	return out
}
