package bpf

import "github.com/cilium/ebpf/asm"

// layout orders the blocks: those on the likely path in reverse postorder, so that most jumps fall through, cold ones behind them.
func layout(f *function) {
	threadJumps(f)
	var hot, cold []*block
	seen := map[*block]bool{}
	var visit func(b *block)
	var post []*block
	visit = func(b *block) {
		seen[b] = true
		for i := len(b.succs) - 1; i >= 0; i-- {
			if s := b.succs[i]; !seen[s] {
				visit(s)
			}
		}
		post = append(post, b)
	}
	visit(f.blocks[0])
	for i := len(post) - 1; i >= 0; i-- {
		if b := post[i]; b.cold && b != f.blocks[0] {
			cold = append(cold, b)
		} else {
			hot = append(hot, b)
		}
	}
	f.blocks = append(hot, cold...)
	shareReturns(f)
	fallIntoReturns(f)
	rotateLoops(f)
	returnInPlace(f)
}

// shareReturns lets all edges to equal returning blocks go to the first of them.
func shareReturns(f *function) {
	first := map[int64]*block{} // by result
	of := func(b *block) (int64, bool) {
		if !b.exit || len(b.insts) != 1 || b.insts[0].kind != kMovImm {
			return 0, false
		}
		return b.insts[0].imm, true
	}
	for _, b := range f.blocks {
		if r, ok := of(b); ok && first[r] == nil {
			first[r] = b
		}
	}
	for _, b := range f.blocks {
		for i, s := range b.succs {
			if r, ok := of(s); ok {
				b.succs[i] = first[r]
			}
		}
		if len(b.succs) == 2 && b.succs[0] == b.succs[1] {
			b.succs = b.succs[:1]
		}
	}
}

// fallIntoReturns moves a cold returning block behind a block on the likely path that ends in the same way, which then falls into it.
func fallIntoReturns(f *function) {
	for _, r := range f.blocks {
		if !r.cold || !r.exit || len(r.insts) != 1 || r.insts[0].kind != kMovImm {
			continue
		}
		for i := len(f.blocks) - 1; i >= 0; i-- {
			b := f.blocks[i]
			n := len(b.insts) - 1
			if b.cold || !b.exit || n < 1 || b.insts[n].kind != kMovImm || b.insts[n].dst != r0 || b.insts[n].imm != r.insts[0].imm {
				continue
			}
			b.insts, b.exit, b.succs = b.insts[:n], false, []*block{r}
			r.cold = false
			var order []*block
			for _, x := range f.blocks {
				if x != r {
					order = append(order, x)
				}
				if x == b {
					order = append(order, r)
				}
			}
			f.blocks = order
			fallIntoReturns(f)
			return
		}
	}
}

// maxHead is the number of instructions of a loop's head that are repeated at its end.
const maxHead = 2

// rotateLoops replaces the jump back to a loop's head by the head's own test: one jump less in each turn.
func rotateLoops(f *function) {
	at := map[*block]int{}
	for i, b := range f.blocks {
		at[b] = i
	}
	for i, b := range f.blocks {
		if len(b.succs) != 1 {
			continue
		}
		h := b.succs[0]
		if at[h] > i || h == b || len(h.succs) != 2 || len(h.insts) > maxHead {
			continue
		}
		b.insts = append(b.insts, h.insts...)
		b.succs = append([]*block(nil), h.succs...)
		b.cond, b.x, b.y, b.imm, b.span = h.cond, h.x, h.y, h.imm, h.span
	}
}

// threadJumps lets edges skip blocks that only jump on, and turns branches with equal edges into jumps.
func threadJumps(f *function) {
	target := func(b *block) *block {
		for n := 0; n < len(f.blocks); n++ {
			if len(b.insts) > 0 || b.exit || len(b.succs) != 1 {
				break
			}
			b = b.succs[0]
		}
		return b
	}
	for _, b := range f.blocks {
		for i, s := range b.succs {
			b.succs[i] = target(s)
		}
		if len(b.succs) == 2 && b.succs[0] == b.succs[1] {
			b.succs = b.succs[:1]
		}
	}
}

// maxReturn is the number of instructions of a returning block that are repeated in the place of a jump to it.
const maxReturn = 1

// returnInPlace replaces jumps to a short returning block by the block's instructions: one jump less is run. Cold blocks stay short
// instead.
func returnInPlace(f *function) {
	uses := map[*block]int{f.blocks[0]: 1}
	for i, b := range f.blocks {
		if len(b.succs) == 1 {
			s := b.succs[0]
			falls := i+1 < len(f.blocks) && f.blocks[i+1] == s
			if s.exit && len(s.insts) <= maxReturn && !falls && !b.cold {
				b.insts = append(b.insts, s.insts...)
				b.exit, b.succs, b.span = true, nil, s.span
			}
		}
		for _, s := range b.succs {
			uses[s]++
		}
	}
	kept := f.blocks[:0]
	for _, b := range f.blocks {
		if uses[b] > 0 {
			kept = append(kept, b)
		}
	}
	f.blocks = kept
}

// inverse maps a condition to its opposite; JSet has none.
var inverse = map[asm.JumpOp]asm.JumpOp{
	asm.JEq: asm.JNE, asm.JNE: asm.JEq, asm.JLT: asm.JGE, asm.JGE: asm.JLT, asm.JGT: asm.JLE, asm.JLE: asm.JGT,
	asm.JSLT: asm.JSGE, asm.JSGE: asm.JSLT, asm.JSGT: asm.JSLE, asm.JSLE: asm.JSGT,
}
