package opt

import (
	"encoding/binary"
	stdmaps "maps"
	"slices"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
)

// lookups finds elements of maps once: a lookup of the same key in the same map, with nothing between that changes the map, gives what
// the one before gave. Only lookups whose result is read, not written, are replaced: another processor may have deleted the element and
// used its memory for another key, and the longer a pointer is kept the likelier that is. A read races with that in any
// case; a write must not. Keys with the same bytes are also made once.
func lookups(c *context, f *ir.Func) bool {
	w := &lookupWalk{
		c: c, f: f, dom: c.dom(f), tame: tameSlots(f), ends: writtenEnds(f), readOnly: readOnlyLookups(f, c.dom(f).Order), found: map[string][]foundElem{},
		by: map[*ir.Value]*ir.Value{}, mapEnd: make([]mapVersions, f.NumBlocks()), slotEnd: make([]knownEnd, f.NumBlocks()),
	}
	preds := c.preds(f)
	for _, b := range w.dom.Order {
		w.block(b, w.start(preds[b.Seq]), atStart(preds[b.Seq], w.slotEnd))
	}
	f.Replace(w.by)
	return w.changed
}

// mapVersions numbers the states of maps; all stands for those not named.
type mapVersions struct {
	all   int
	named map[string]int
	lent  bool // named belongs to another block
}

func (v mapVersions) of(name string) int { return max(v.all, v.named[name]) }

type foundElem struct {
	v       *ir.Value
	version int
}

type lookupWalk struct {
	c        *context
	f        *ir.Func
	dom      *ir.DomTree
	tame     map[*ir.Slot]bool
	ends     map[*ir.Slot]int
	readOnly []bool                 // by ID
	found    map[string][]foundElem // by map and key bytes
	by       map[*ir.Value]*ir.Value
	named    idSet // of by
	kept     []*ir.Value
	parts    []stored
	text     []byte
	mapEnd   []mapVersions // by Block.Seq
	slotEnd  []knownEnd
	clock    int
	changed  bool
}

// start returns the versions of maps at the start of a block.
func (w *lookupWalk) start(preds []*ir.Block) mapVersions {
	w.clock++
	if len(preds) == 1 && w.slotEnd[preds[0].Seq].done {
		v := w.mapEnd[preds[0].Seq]
		v.lent = true
		return v
	}
	v := mapVersions{named: map[string]int{}}
	for i, p := range preds {
		end := w.mapEnd[p.Seq]
		if !w.slotEnd[p.Seq].done {
			return mapVersions{all: w.clock, named: map[string]int{}}
		}
		if i == 0 {
			v.all = end.all
			for name, n := range end.named {
				v.named[name] = n
			}
			continue
		}
		if v.all != end.all {
			v.all = w.clock
		}
		for name, n := range end.named {
			if v.named[name] != n {
				v.named[name] = w.clock
			}
		}
		for name, n := range v.named {
			if end.named[name] != n {
				v.named[name] = w.clock
			}
		}
	}
	return v
}

func (w *lookupWalk) block(b *ir.Block, maps mapVersions, known []stored) {
	kept := w.kept[:0]
	for _, v := range b.Values {
		for i, a := range v.Args {
			if w.named.has(a.ID) {
				v.Args[i] = w.by[a]
			}
		}
		if ir.Ops[v.Op].Call && !isStable(v) {
			kept = w.shareKeys(b, v, known, kept)
			if w.lookup(b, v, maps, known) {
				continue
			}
			w.mutate(v, &maps)
		}
		known = learn(v, known, w.tame)
		kept = append(kept, v)
	}
	clear(b.Values[min(len(kept), len(b.Values)):])
	b.Values = append(b.Values[:0], kept...)
	w.kept = kept
	w.mapEnd[b.Seq], w.slotEnd[b.Seq] = maps, knownEnd{known, true}
}

// mutate makes new versions of the maps that a call may change.
func (w *lookupWalk) mutate(v *ir.Value, maps *mapVersions) {
	w.clock++
	if v.Op == ir.OpHelper && !hasFunc(v) {
		switch asm.BuiltinFunc(v.Imm) {
		case asm.FnMapLookupElem:
			return
		default:
		}
		for _, a := range v.Args {
			if a.Op == ir.OpMapRef {
				if maps.lent {
					maps.named, maps.lent = stdmaps.Clone(maps.named), false
				}
				maps.named[a.Aux.(string)] = w.clock
			}
		}
		return
	}
	maps.all = w.clock
}

// hasFunc reports whether a helper calls back.
func hasFunc(v *ir.Value) bool {
	for _, a := range v.Args {
		if a.Type == ir.FuncRef {
			return true
		}
	}
	return false
}

// writtenEnds returns how many bytes of each slot, from the first, are ever written: a key cannot be longer.
func writtenEnds(f *ir.Func) map[*ir.Slot]int {
	end := map[*ir.Slot]int{}
	grow := func(p *ir.Value, off int32, n int) {
		if s, at := slotOf(p, off); s != nil {
			end[s] = max(end[s], at+n)
		}
	}
	for _, b := range f.Blocks {
		for _, v := range b.Values {
			switch {
			case v.Op == ir.OpZero || v.Op == ir.OpCopy:
				grow(v.Args[0], v.Off, int(v.Imm))
			case ir.Ops[v.Op].Call:
				for i, a := range v.Args {
					if s, _ := slotOf(a, 0); s != nil && !onlyReads(v, i) {
						end[s] = s.Size
					}
				}
			case ir.Ops[v.Op].Effect == ir.Writes:
				grow(v.Args[0], v.Off, int(v.Size))
			}
		}
	}
	return end
}

// content describes the written bytes of a slot from off on, "" when some are not known.
func (w *lookupWalk) content(known []stored, s *ir.Slot, off int) string {
	parts := w.parts[:0]
	size := 0
	for _, k := range known {
		if k.slot == s && k.off >= off {
			parts = append(parts, k)
			size += k.size
		} else if k.slot == s && k.off+k.size > off {
			return ""
		}
	}
	if size != w.ends[s]-off || size == 0 {
		return ""
	}
	w.parts = parts
	slices.SortFunc(parts, func(a, b stored) int { return a.off - b.off })
	text := w.text[:0]
	for _, k := range parts {
		text = binary.AppendVarint(text, int64(k.off-off))
		text = binary.AppendVarint(text, int64(k.size))
		switch {
		case k.x == nil:
			text = append(text, 'v', 0)
		case k.x.Op == ir.OpConst:
			text = binary.AppendVarint(append(text, '#'), k.x.Imm)
		default:
			text = binary.AppendVarint(append(text, 'v'), int64(k.x.ID))
		}
	}
	w.text = text
	return string(text)
}

// shareKeys lets a map helper use a key that is already in memory; the stores to its own become dead.
func (w *lookupWalk) shareKeys(b *ir.Block, v *ir.Value, known []stored, out []*ir.Value) []*ir.Value {
	if v.Op != ir.OpHelper || len(v.Args) < 2 || v.Args[0].Op != ir.OpMapRef || !onlyReads(v, 1) {
		return out
	}
	s, off := slotOf(v.Args[1], 0)
	if s == nil || off != 0 || !w.tame[s] {
		return out
	}
	key := w.content(known, s, 0)
	if key == "" {
		return out
	}
	for _, k := range known {
		if t := k.slot; t != s && t.Size == s.Size && t.Align >= s.Align && t.ID < s.ID && w.content(known, t, 0) == key {
			a := w.f.NewValue(ir.OpSlotAddr, ir.Stack, v.Span)
			a.Aux, a.Block = t, b
			v.Args[1] = a
			w.c.counts["shared-key"]++
			w.changed = true
			return append(out, a)
		}
	}
	return out
}

// lookup reports whether an earlier lookup stands for v.
func (w *lookupWalk) lookup(b *ir.Block, v *ir.Value, maps mapVersions, known []stored) bool {
	if v.Op != ir.OpHelper || asm.BuiltinFunc(v.Imm) != asm.FnMapLookupElem || v.Args[0].Op != ir.OpMapRef {
		return false
	}
	s, off := slotOf(v.Args[1], 0)
	if s == nil || !w.tame[s] {
		return false
	}
	key := w.content(known, s, off)
	if key == "" {
		return false
	}
	name := v.Args[0].Aux.(string)
	key = name + "\x00" + key
	version := maps.of(name)
	if w.readOnly[v.ID] {
		for _, e := range w.found[key] {
			if e.version == version && (e.v.Block == b || w.dom.Dominates(e.v.Block, b)) {
				w.by[v] = e.v
				w.named.add(v.ID)
				w.c.counts["merged-lookup"]++
				w.changed = true
				return true
			}
		}
	}
	w.found[key] = append(w.found[key], foundElem{v, version})
	return false
}

// readOnlyLookups tells, by ID, which are the lookups whose results are only compared and read.
func readOnlyLookups(f *ir.Func, order []*ir.Block) []bool {
	ok := make([]bool, f.NumIDs())
	root := make([]*ir.Value, f.NumIDs()) // pointer -> lookup that it comes from
	for _, b := range order {
		for _, v := range b.Values {
			if v.Op == ir.OpHelper && v.Type == ir.MapNil {
				ok[v.ID], root[v.ID] = true, v
			}
			for i, a := range v.Args {
				r := root[a.ID]
				if r == nil {
					continue
				}
				switch {
				case v.Op == ir.OpNonNil, v.Op == ir.OpPtrAdd && i == 0:
					root[v.ID] = r
				case v.Op == ir.OpLoad, ir.Ops[v.Op].Compare, v.Op == ir.OpCopy && i == 1:
				default:
					ok[r.ID] = false
				}
			}
		}
		for _, e := range b.Term.Succs {
			for _, a := range e.Args {
				if r := root[a.ID]; r != nil {
					ok[r.ID] = false
				}
			}
		}
	}
	return ok
}
