package opt

import (
	"math/bits"
	"slices"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
)

// memory classes: a write through one kind of pointer does not change what another kind reaches.
const (
	memStack = iota
	memMap
	memRing
	memKernel
	memClasses
)

// class returns the memory class of a pointer type, -1 for the context, which does not change while a program runs.
func class(t ir.Type) int {
	switch t {
	case ir.Stack:
		return memStack
	case ir.MapVal:
		return memMap
	case ir.Ring:
		return memRing
	case ir.Ctx:
		return -1
	default:
	}
	return memKernel
}

// versions numbers the states of each memory class.
type versions [memClasses]int

// exprTable finds the latest of equal values.
type exprTable struct {
	heads   []int32 // by hash: one more than the place of the first entry
	entries []expr
}

// expr is a value that was computed, and the version of the memory that it was read from.
type expr struct {
	v       *ir.Value
	version int
	hash    uint32
	next    int32 // as in heads
}

func newExprTable(n int) *exprTable {
	return &exprTable{heads: make([]int32, 1<<bits.Len(uint(n))), entries: make([]expr, 0, n)}
}

// at gives the place for a value: that of the latest equal one, or a new one with no value.
func (t *exprTable) at(x *ir.Value, version int) *expr {
	h := hash(x, version)
	head := &t.heads[int(h)&(len(t.heads)-1)]
	for i := *head; i != 0; {
		e := &t.entries[i-1]
		if e.hash == h && e.version == version && equal(e.v, x) {
			return e
		}
		i = e.next
	}
	t.entries = append(t.entries, expr{version: version, hash: h, next: *head})
	*head = int32(len(t.entries))
	return &t.entries[len(t.entries)-1]
}

// operands gives the first two arguments, those of a commutative op in the order of their IDs.
func operands(v *ir.Value) (x, y *ir.Value) {
	x, y = v.Args[0], v.Args[1]
	if ir.Ops[v.Op].Commutative && x.ID > y.ID {
		x, y = y, x
	}
	return x, y
}

func hash(v *ir.Value, version int) uint32 {
	h := uint64(v.Op) | uint64(v.Type)<<8 | uint64(v.Size)<<16 | uint64(uint32(v.Off))<<24
	mix := func(n uint64) { h = (h ^ n) * 0x9e3779b97f4a7c15; h ^= h >> 29 }
	mix(uint64(v.Imm))
	mix(uint64(version))
	if len(v.Args) >= 2 {
		x, y := operands(v)
		mix(uint64(x.ID))
		mix(uint64(y.ID))
		for _, a := range v.Args[2:] {
			mix(uint64(a.ID))
		}
	} else if len(v.Args) == 1 {
		mix(uint64(v.Args[0].ID))
	}
	switch a := v.Aux.(type) {
	case *ir.Slot:
		mix(uint64(a.ID))
	case string:
		for i := range len(a) {
			mix(uint64(a[i]))
		}
	}
	return uint32(h ^ h>>32)
}

func equal(v, w *ir.Value) bool {
	if v.Op != w.Op || v.Type != w.Type || v.Size != w.Size || v.Signed != w.Signed || v.Off != w.Off || v.Imm != w.Imm || len(v.Args) != len(w.Args) || v.Aux != w.Aux {
		return false
	}
	if len(v.Args) < 2 {
		return slices.Equal(v.Args, w.Args)
	}
	a, b := operands(v)
	c, d := operands(w)
	return a == c && b == d && slices.Equal(v.Args[2:], w.Args[2:])
}

// cse computes equal values once, in the block that dominates the others.
func cse(c *context, f *ir.Func) bool {
	dom, preds := c.dom(f), c.preds(f)
	w := &cseWalk{dom: dom, table: newExprTable(numValues(f)), by: map[*ir.Value]*ir.Value{}, named: make([]bool, f.NumIDs()), end: make([]versions, f.NumBlocks()), done: make([]bool, f.NumBlocks())}
	// In this order a block comes behind its predecessors, as in Order, and the blocks that one dominates follow it without a gap.
	for _, b := range dom.Preorder {
		w.block(b, w.start(preds[b.Seq]))
	}
	f.Replace(w.by)
	return len(w.by) > 0
}

// numValues is how many values the blocks of a function have.
func numValues(f *ir.Func) int {
	n := 0
	for _, b := range f.Blocks {
		n += len(b.Values)
	}
	return n
}

type cseWalk struct {
	dom   *ir.DomTree
	table *exprTable
	by    map[*ir.Value]*ir.Value
	named []bool     // values that by replaces, by ID
	end   []versions // by Block.Seq
	done  []bool     // end is known
	clock int
}

// start returns the state of memory at the start of a block: that at the end of its predecessors where they agree.
func (c *cseWalk) start(preds []*ir.Block) versions {
	var v versions
	for i, p := range preds {
		end := &c.end[p.Seq]
		if !c.done[p.Seq] { // the edge back of a loop
			c.write(&v, -1)
			return v
		}
		for k := range v {
			if i == 0 {
				v[k] = end[k]
			} else if v[k] != end[k] {
				c.write(&v, k)
			}
		}
	}
	return v
}

// write starts a new version of one class of memory, or of all for -1.
func (c *cseWalk) write(v *versions, class int) {
	c.clock++
	for i := range v {
		if class < 0 || i == class {
			v[i] = c.clock
		}
	}
}

// call starts new versions of what a call may write: a helper changes only what it is given, and the kernel's own memory.
func (c *cseWalk) call(v *versions, x *ir.Value) {
	if x.Op != ir.OpHelper || hasFunc(x) {
		c.write(v, -1)
		return
	}
	c.write(v, memKernel)
	for i, a := range x.Args {
		switch {
		case a.Type == ir.MapRef && asm.BuiltinFunc(x.Imm) != asm.FnMapLookupElem:
			c.write(v, memMap)
		case a.Type == ir.Stack || a.Type == ir.MapVal || a.Type == ir.Ring:
			if !onlyReads(x, i) {
				c.write(v, class(a.Type))
			}
		}
	}
}

func (c *cseWalk) block(b *ir.Block, v versions) {
	kept := b.Values[:0]
	for _, x := range b.Values {
		for i, a := range x.Args {
			if c.named[a.ID] {
				x.Args[i] = c.by[a]
			}
		}
		info := &ir.Ops[x.Op]
		if info.Effect == ir.Writes && !isStable(x) {
			if info.Call {
				c.call(&v, x)
			} else if k := class(x.Args[0].Type); k >= 0 {
				c.write(&v, k)
			}
			kept = append(kept, x)
			continue
		}
		version := 0
		if x.Op == ir.OpLoad {
			if m := class(x.Args[0].Type); m >= 0 {
				version = v[m]
			}
		}
		// One that does not dominate this block does not dominate those that follow in the walk either.
		e := c.table.at(x, version)
		if w := e.v; w != nil && (w.Block == b || c.dom.Dominates(w.Block, b)) {
			c.by[x] = w
			c.named[x.ID] = true
			continue
		}
		e.v = x
		kept = append(kept, x)
	}
	clear(b.Values[len(kept):])
	b.Values = kept
	c.end[b.Seq], c.done[b.Seq] = v, true
}
