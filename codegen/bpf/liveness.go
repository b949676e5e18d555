package bpf

import "math/bits"

// liveness computes the registers live at the start and end of each block. It goes from each use of a register back to its definitions, so
// that it takes time and memory by the length of the live ranges, not by the number of blocks times that of registers.
func liveness(f *function) {
	exposed := make([][]int32, f.nregs) // blocks that read the register before they write it
	defs := make([][]int32, f.nregs)    // blocks that write it
	preds := make([][]int32, len(f.blocks))
	for i, b := range f.blocks {
		b.index = int32(i)
		b.liveOut = b.liveOut[:0]
	}
	last := func(list []int32, i int32) bool { return len(list) > 0 && list[len(list)-1] == i }
	for _, b := range f.blocks {
		for _, s := range b.succs {
			preds[s.index] = append(preds[s.index], b.index)
		}
		use := func(r reg) {
			if r != noReg && r != fp && !last(defs[r], b.index) && !last(exposed[r], b.index) {
				exposed[r] = append(exposed[r], b.index)
			}
		}
		def := func(r reg) {
			if !last(defs[r], b.index) {
				defs[r] = append(defs[r], b.index)
			}
		}
		for i := range b.insts {
			in := &b.insts[i]
			in.each(func(r *reg, u, _ bool) {
				if u {
					use(*r)
				}
			})
			for m := in.uses(); m != 0; m &= m - 1 {
				use(reg(bits.TrailingZeros32(m)))
			}
			in.each(func(r *reg, _, d bool) {
				if d {
					def(*r)
				}
			})
			for m := in.clobbers(); m != 0; m &= m - 1 {
				def(reg(bits.TrailingZeros32(m)))
			}
		}
		for _, r := range b.termUses() {
			use(r)
		}
	}
	in, out, defined := make([]reg, len(f.blocks)), make([]reg, len(f.blocks)), make([]reg, len(f.blocks))
	for i := range in {
		in[i], out[i], defined[i] = noReg, noReg, noReg
	}
	var work []int32
	for r := range f.nregs {
		for _, i := range defs[r] {
			defined[i] = r
		}
		work = append(work[:0], exposed[r]...)
		for _, i := range work {
			in[i] = r
		}
		for len(work) > 0 {
			i := pop(&work)
			for _, p := range preds[i] {
				if out[p] == r {
					continue
				}
				out[p] = r
				f.blocks[p].liveOut = append(f.blocks[p].liveOut, r)
				if defined[p] != r && in[p] != r {
					in[p] = r
					work = append(work, p)
				}
			}
		}
	}
}

// regset is a set of registers that can be walked in the time of its size.
type regset struct {
	list []reg
	at   []int32 // by register: one more than its place in list, 0 when it is not in it
}

func newRegset(n reg) *regset { return &regset{at: make([]int32, n)} }

func (s *regset) add(r reg) {
	if s.at[r] == 0 {
		s.list = append(s.list, r)
		s.at[r] = int32(len(s.list))
	}
}

func (s *regset) remove(r reg) {
	i := s.at[r]
	if i == 0 {
		return
	}
	moved := s.list[len(s.list)-1]
	s.list[i-1], s.at[moved] = moved, i
	s.list = s.list[:len(s.list)-1]
	s.at[r] = 0
}

func (s *regset) set(list []reg) {
	for _, r := range s.list {
		s.at[r] = 0
	}
	s.list = s.list[:0]
	for _, r := range list {
		s.add(r)
	}
}
