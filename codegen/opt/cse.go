package opt

import "github.com/sonde-sh/sonde/codegen/ir"

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
func cse(_ *context, f *ir.Func) bool {
	dom := ir.NewDomTree(f)
	preds := f.Preds()
	kids := make(map[*ir.Block][]*ir.Block)
	for _, b := range dom.Order[1:] {
		p := dom.IDom(b)
		kids[p] = append(kids[p], b)
	}
	c := &cseWalk{table: map[exprKey]*ir.Value{}, by: map[*ir.Value]*ir.Value{}, end: map[*ir.Block]versions{}}
	var walk func(b *ir.Block)
	walk = func(b *ir.Block) {
		v := versions{}
		if ps := preds[b.ID]; len(ps) == 1 && ps[0] == dom.IDom(b) {
			v = c.end[ps[0]]
		} else {
			c.write(&v, -1)
		}
		added := c.block(b, v)
		for _, k := range kids[b] {
			walk(k)
		}
		for _, k := range added {
			delete(c.table, k)
		}
	}
	walk(f.Blocks[0])
	f.Replace(c.by)
	return len(c.by) > 0
}

type cseWalk struct {
	table map[exprKey]*ir.Value
	by    map[*ir.Value]*ir.Value
	end   map[*ir.Block]versions
	clock int
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

func (c *cseWalk) block(b *ir.Block, v versions) (added []exprKey) {
	kept := b.Values[:0]
	for _, x := range b.Values {
		for i, a := range x.Args {
			if w := c.by[a]; w != nil {
				x.Args[i] = w
			}
		}
		info := &ir.Ops[x.Op]
		if info.Effect == ir.Writes && !isStable(x) {
			if info.Call {
				c.write(&v, -1)
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
		if w := c.table[k]; w != nil {
			c.by[x] = w
			continue
		}
		c.table[k] = x
		added = append(added, k)
		kept = append(kept, x)
	}
	clear(b.Values[len(kept):])
	b.Values = kept
	c.end[b] = v
	return added
}
