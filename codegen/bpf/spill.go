package bpf

import "fmt"

// insertSpills puts the spilled registers into the frame: a store behind each definition, a load before each use. Constants and
// addresses are made again instead. Registers that were coalesced share a slot.
func insertSpills(f *function, a *allocator, noSpill map[reg]bool, round int) error {
	slot := map[reg]int64{} // by representative
	remat := map[reg]*inst{}
	defs := map[reg]int{}
	spilled := map[reg]bool{}
	for _, r := range a.spilled {
		if noSpill[r] {
			return fmt.Errorf("%s: not enough registers", f.ir.Name)
		}
		spilled[r] = true
	}
	rep := func(r reg) reg {
		if r == noReg || r <= fp {
			return noReg
		}
		if r = a.find(r); spilled[r] {
			return r
		}
		return noReg
	}
	for _, b := range f.blocks {
		for i := range b.insts {
			in := &b.insts[i]
			if in.kind == kMov && rep(in.dst) != noReg && rep(in.dst) == rep(in.src) {
				continue
			}
			in.each(func(r *reg, _, d bool) {
				if c := rep(*r); d && c != noReg {
					defs[c]++
					if in.isRemat() {
						remat[c] = in
					}
				}
			})
		}
	}
	for c := range remat {
		if defs[c] != 1 {
			delete(remat, c)
		} else {
			clone := *remat[c]
			remat[c] = &clone
		}
	}
	for _, r := range a.spilled {
		if remat[r] == nil {
			slot[r] = int64(f.spills)
			f.spills++
		}
	}
	for _, b := range f.blocks {
		insertBlock(f, b, rep, slot, remat, noSpill, round)
	}
	return nil
}

func insertBlock(f *function, b *block, rep func(reg) reg, slot map[reg]int64, remat map[reg]*inst, noSpill map[reg]bool, round int) {
	out := make([]inst, 0, len(b.insts)+8)
	at := map[reg]reg{} // representative -> register that holds it since the last call or definition
	fresh := func() reg {
		t := f.newReg()
		if round > 0 {
			noSpill[t] = true
		}
		return t
	}
	fetch := func(c reg, span inst) reg {
		if t, ok := at[c]; ok {
			return t
		}
		t := fresh()
		var m inst
		if p := remat[c]; p != nil {
			m = *p
		} else {
			m = in(kReload, span.span)
			m.imm = slot[c]
			f.reloads++
		}
		m.dst = t
		out = append(out, m)
		if round == 0 {
			at[c] = t
		}
		return t
	}
	for i := range b.insts {
		in0 := b.insts[i]
		dst, src := rep(in0.dst), rep(in0.src)
		if in0.kind == kMov {
			if dst != noReg && dst == src {
				continue
			}
			// A move from or to memory is itself the load or store.
			if src != noReg && dst == noReg && at[src] == 0 {
				var m inst
				if p := remat[src]; p != nil {
					m = *p
				} else {
					m = in(kReload, in0.span)
					m.imm = slot[src]
					f.reloads++
				}
				m.dst = in0.dst
				out = append(out, m)
				continue
			}
			if dst != noReg && src == noReg && remat[dst] == nil {
				m := in(kSpill, in0.span)
				m.src, m.imm = in0.src, slot[dst]
				out = append(out, m)
				f.reloads++
				delete(at, dst)
				continue
			}
		}
		if in0.isRemat() && dst != noReg && remat[dst] != nil {
			continue // made again at each use
		}
		var store []inst
		local := map[reg]reg{}
		in0.each(func(r *reg, use, def bool) {
			c := rep(*r)
			if c == noReg {
				return
			}
			t, ok := local[c]
			if !ok {
				if use {
					t = fetch(c, in0)
				} else {
					t = fresh()
				}
				local[c] = t
			}
			*r = t
			if def {
				m := in(kSpill, in0.span)
				m.src, m.imm = t, slot[c]
				store = append(store, m)
				f.reloads++
				delete(at, c)
				if round == 0 {
					at[c] = t
				}
			}
		})
		out = append(out, in0)
		out = append(out, store...)
		if in0.clobbers()&callClobbers == callClobbers {
			clear(at)
		}
	}
	if c := rep(b.x); c != noReg && len(b.succs) == 2 {
		b.x = fetch(c, in(kMov, b.span))
	}
	if c := rep(b.y); c != noReg && len(b.succs) == 2 {
		b.y = fetch(c, in(kMov, b.span))
	}
	b.insts = out
}

// shareSpillSlots numbers the spill slots anew so that values that are never in memory at the same time use the same one.
func shareSpillSlots(f *function) {
	n := f.spills
	if n == 0 {
		return
	}
	in := make(map[*block]bitset, len(f.blocks))
	for _, b := range f.blocks {
		in[b] = newBitset(n)
	}
	atEnd := func(b *block, live bitset) {
		clear(live)
		for _, s := range b.succs {
			live.or(in[s])
		}
	}
	live := newBitset(n)
	for changed := true; changed; {
		changed = false
		for i := len(f.blocks) - 1; i >= 0; i-- {
			b := f.blocks[i]
			atEnd(b, live)
			for j := len(b.insts) - 1; j >= 0; j-- {
				stepSpill(&b.insts[j], live)
			}
			if in[b].or(live) {
				changed = true
			}
		}
	}
	conflict := make([]bitset, n)
	for i := range conflict {
		conflict[i] = newBitset(n)
	}
	used := newBitset(n)
	for _, b := range f.blocks {
		atEnd(b, live)
		for j := len(b.insts) - 1; j >= 0; j-- {
			in := &b.insts[j]
			if in.kind == kSpill {
				s := reg(in.imm)
				used.add(s)
				for o := range reg(n) {
					if o != s && live.has(o) {
						conflict[s].add(o)
						conflict[o].add(s)
					}
				}
			}
			stepSpill(in, live)
		}
	}
	color := make([]int, n)
	total := 0
	for s := range reg(n) {
		if !used.has(s) {
			continue
		}
		taken := make([]bool, total+1)
		for o := range s {
			if conflict[s].has(o) && used.has(o) {
				taken[color[o]] = true
			}
		}
		for taken[color[s]] {
			color[s]++
		}
		total = max(total, color[s]+1)
	}
	for _, b := range f.blocks {
		for i := range b.insts {
			if in := &b.insts[i]; in.kind == kSpill || in.kind == kReload {
				in.imm = int64(color[in.imm])
			}
		}
	}
	f.spills = total
}

// stepSpill goes backwards over an instruction.
func stepSpill(in *inst, live bitset) {
	switch in.kind {
	case kSpill:
		live.remove(reg(in.imm))
	case kReload:
		live.add(reg(in.imm))
	default:
	}
}
