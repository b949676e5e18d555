package opt

import (
	"slices"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
)

// tameSlots returns the slots that are reached only by loads, stores and calls that name their address, so that every access is known.
func tameSlots(f *ir.Func) map[*ir.Slot]bool {
	tame := map[*ir.Slot]bool{}
	for _, s := range f.Slots {
		if s.Tame() {
			tame[s] = true
		}
	}
	wild := func(v *ir.Value) {
		if v.Op == ir.OpSlotAddr {
			delete(tame, v.Aux.(*ir.Slot))
		}
	}
	for _, b := range f.Blocks {
		for _, v := range b.Values {
			for i, a := range v.Args {
				if !accesses(v, i) {
					wild(a)
				}
			}
			if v.Op == ir.OpPtrInt {
				wild(v.Args[0])
			}
		}
		b.Term.EachUse(func(u **ir.Value) { wild(*u) })
	}
	return tame
}

// accesses reports whether argument i of v is an address that v itself reads or writes, and nothing else.
func accesses(v *ir.Value, i int) bool {
	switch v.Op {
	case ir.OpLoad, ir.OpStore, ir.OpZero, ir.OpAtomicAdd, ir.OpFetchAdd, ir.OpXchg, ir.OpCmpXchg:
		return i == 0
	case ir.OpCopy:
		return true
	}
	return ir.Ops[v.Op].Call
}

// slotOf returns the slot and offset that an address names.
func slotOf(p *ir.Value, off int32) (*ir.Slot, int) {
	if p.Op != ir.OpSlotAddr {
		return nil, 0
	}
	return p.Aux.(*ir.Slot), int(p.Off) + int(off)
}

// stored is what is known of some bytes of a slot.
type stored struct {
	slot      *ir.Slot
	off, size int
	x         *ir.Value // nil: zero
}

// forward replaces loads from slots by the value stored there.
func forward(c *context, f *ir.Func) bool {
	tame := tameSlots(f)
	if len(tame) == 0 {
		return false
	}
	preds := c.preds(f)
	order := c.dom(f).Order
	last := lastLoads(order)
	end := make([]knownEnd, f.NumBlocks())
	r := &rewriter{f: f, c: c, by: map[*ir.Value]*ir.Value{}}
	for i, b := range order {
		known := atStart(preds[b.Seq], end)
		known = slices.DeleteFunc(known, func(k stored) bool { return last[k.slot] < i })
		r.start(b)
		for _, v := range b.Values {
			r.at = v
			for i, a := range v.Args {
				v.Args[i] = r.resolve(a)
			}
			if w := r.forwarded(v, known); w != nil {
				r.replace(v, w)
				c.counts["forwarded-load"]++
				continue
			}
			known = learn(v, known, tame)
			r.out = append(r.out, v)
		}
		r.finish()
		end[b.Seq] = knownEnd{known, true}
	}
	f.Replace(r.by)
	return len(r.by) > 0
}

// lastLoads gives the place in the order of the last block that loads from a slot. What is known of the slot is of no use later: it does not
// come along an edge back.
func lastLoads(order []*ir.Block) map[*ir.Slot]int {
	last := map[*ir.Slot]int{}
	for i, b := range order {
		for _, v := range b.Values {
			if v.Op != ir.OpLoad {
				continue
			}
			if s, _ := slotOf(v.Args[0], v.Off); s != nil {
				last[s] = i
			}
		}
	}
	return last
}

// knownEnd is what is known at the end of a block, when that was looked at.
type knownEnd struct {
	stored []stored
	done   bool
}

// atStart returns what is known at the start of a block: what is known at the end of all its predecessors.
func atStart(preds []*ir.Block, end []knownEnd) []stored {
	var known []stored
	for i, p := range preds {
		at := end[p.Seq].stored
		if !end[p.Seq].done {
			return nil // the edge back of a loop
		}
		if i == 0 {
			known = append(known, at...)
			continue
		}
		next := 0 // the order is the same, mostly
		known = slices.DeleteFunc(known, func(k stored) bool {
			n := slices.Index(at[next:], k)
			if n >= 0 {
				next += n + 1
				return false
			}
			return !slices.Contains(at[:next], k)
		})
	}
	return known
}

// forwarded returns what a load gives, when that is known.
func (r *rewriter) forwarded(v *ir.Value, known []stored) *ir.Value {
	if v.Op != ir.OpLoad {
		return nil
	}
	s, off := slotOf(v.Args[0], v.Off)
	if s == nil {
		return nil
	}
	size := int(v.Size)
	for i := len(known) - 1; i >= 0; i-- {
		k := known[i]
		if k.slot != s || off >= k.off+k.size || k.off >= off+size {
			continue
		}
		switch {
		case off < k.off || off+size > k.off+k.size:
			return nil
		case k.x == nil && v.Type == ir.I64:
			return r.imm(0)
		case k.x == nil || k.off != off || k.x.Type != v.Type:
			return nil
		case size == 8:
			return k.x
		case v.Signed:
			return r.ext(ir.OpSExt, k.x, v.Size*8)
		}
		return r.ext(ir.OpZExt, k.x, v.Size*8)
	}
	return nil
}

// mostKnown bounds what is known at a time, so that a pass over thousands of statements takes linear time: the oldest of twice as much is forgotten.
const mostKnown = 128

// learn updates what is known by what v writes. The list is the caller's own.
func learn(v *ir.Value, known []stored, tame map[*ir.Slot]bool) []stored {
	forget := func(s *ir.Slot, off, size int) {
		known = slices.DeleteFunc(known, func(k stored) bool { return k.slot == s && off < k.off+k.size && k.off < off+size })
	}
	switch {
	case ir.Ops[v.Op].Call:
		for i, a := range v.Args {
			if s, _ := slotOf(a, 0); s != nil && !onlyReads(v, i) {
				forget(s, 0, s.Size)
			}
		}
		return known
	case ir.Ops[v.Op].Effect != ir.Writes:
		return known
	}
	s, off := slotOf(v.Args[0], v.Off)
	if s == nil || !tame[s] {
		return known
	}
	if len(known) >= 2*mostKnown {
		known = slices.Delete(known, 0, len(known)-mostKnown)
	}
	switch v.Op {
	case ir.OpStore:
		forget(s, off, int(v.Size))
		known = append(known, stored{s, off, int(v.Size), v.Args[1]})
	case ir.OpZero:
		forget(s, off, int(v.Imm))
		known = append(known, stored{s, off, int(v.Imm), nil})
	case ir.OpCopy:
		forget(s, off, int(v.Imm))
	default:
		forget(s, off, int(v.Size))
	}
	return known
}

// onlyReads reports whether a helper leaves the memory at argument i as it is.
func onlyReads(v *ir.Value, i int) bool {
	if v.Op != ir.OpHelper {
		return false
	}
	switch asm.BuiltinFunc(v.Imm) {
	case asm.FnMapLookupElem, asm.FnMapUpdateElem, asm.FnMapDeleteElem, asm.FnMapLookupPercpuElem, asm.FnRingbufOutput, asm.FnPerfEventOutput,
		asm.FnSkbOutput:
		return true
	case asm.FnProbeReadKernel, asm.FnProbeReadUser, asm.FnProbeRead:
		return i == 2
	default:
	}
	return false
}
