package opt

import (
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

// exprKey is equal for values that are equal.
type exprKey struct {
	op      ir.Op
	typ     ir.Type
	size    uint8
	signed  bool
	off     int32
	imm     int64
	aux     any
	args    [ir.MaxArgs]*ir.Value
	version int
}

// cse computes equal values once, in the block that dominates the others.
func cse(c *context, f *ir.Func) bool {
	dom, preds := c.dom(f), c.preds(f)
	w := &cseWalk{dom: dom, table: make(map[exprKey]*ir.Value, f.NumIDs()/2), by: map[*ir.Value]*ir.Value{}, named: make([]bool, f.NumIDs()), end: make([]versions, f.NumBlocks()), done: make([]bool, f.NumBlocks())}
	// In this order a block comes behind its predecessors, as in Order, and the blocks that one dominates follow it without a gap.
	for _, b := range dom.Preorder {
		w.block(b, w.start(preds[b.Seq]))
	}
	f.Replace(w.by)
	return len(w.by) > 0
}

type cseWalk struct {
	dom   *ir.DomTree
	table map[exprKey]*ir.Value // the latest of each
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
		k := exprKey{op: x.Op, typ: x.Type, size: x.Size, signed: x.Signed, off: x.Off, imm: x.Imm, aux: x.Aux}
		copy(k.args[:], x.Args)
		if info.Commutative && k.args[0].ID > k.args[1].ID {
			k.args[0], k.args[1] = k.args[1], k.args[0]
		}
		if x.Op == ir.OpLoad {
			if m := class(x.Args[0].Type); m >= 0 {
				k.version = v[m]
			}
		}
		// One that does not dominate this block does not dominate those that follow in the walk either.
		if w := c.table[k]; w != nil && (w.Block == b || c.dom.Dominates(w.Block, b)) {
			c.by[x] = w
			c.named[x.ID] = true
			continue
		}
		c.table[k] = x
		kept = append(kept, x)
	}
	clear(b.Values[len(kept):])
	b.Values = kept
	c.end[b.Seq], c.done[b.Seq] = v, true
}
