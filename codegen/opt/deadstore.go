package opt

import "github.com/sonde-sh/sonde/codegen/ir"

// maxTracked is the size of the largest slot whose bytes deadStores follows.
const maxTracked = 512

// mostFollowed bounds the sets of all blocks together, in words: in a function of thousands of statements only the first slots are followed.
const mostFollowed = 4 << 20

// byteSet is a set of bytes of all followed slots.
type byteSet []uint64

func (s byteSet) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s byteSet) set(i int)      { s[i/64] |= 1 << (i % 64) }
func (s byteSet) unset(i int)    { s[i/64] &^= 1 << (i % 64) }

// slotBytes follows which bytes of the tame slots are read later.
type slotBytes struct {
	base  map[*ir.Slot]int
	total int
}

func deadStores(c *context, f *ir.Func) bool {
	tame := tameSlots(f)
	sb := &slotBytes{base: map[*ir.Slot]int{}}
	for _, s := range f.Slots {
		if tame[s] && s.Size <= maxTracked && (sb.total+s.Size)/64*len(f.Blocks) <= mostFollowed {
			sb.base[s] = sb.total
			sb.total += s.Size
		}
	}
	if sb.total == 0 {
		return false
	}
	words := (sb.total + 63) / 64
	in := make([]byteSet, f.NumBlocks()) // by Block.Seq
	room := make(byteSet, words*(len(f.Blocks)+1))
	for _, b := range f.Blocks {
		in[b.Seq], room = room[:words:words], room[words:]
	}
	live := room
	atEnd := func(b *ir.Block) byteSet {
		clear(live)
		for _, e := range b.Term.Succs {
			for i, w := range in[e.To.Seq] {
				live[i] |= w
			}
		}
		return live
	}
	for changed := true; changed; {
		changed = false
		for i := len(f.Blocks) - 1; i >= 0; i-- {
			b := f.Blocks[i]
			live := atEnd(b)
			for j := len(b.Values) - 1; j >= 0; j-- {
				sb.step(b.Values[j], live)
			}
			for k, w := range live {
				if in[b.Seq][k] != w {
					in[b.Seq][k] = w
					changed = true
				}
			}
		}
	}
	changed := false
	for _, b := range f.Blocks {
		live := atEnd(b)
		drop := map[*ir.Value]bool{}
		for j := len(b.Values) - 1; j >= 0; j-- {
			v := b.Values[j]
			if sb.isDead(v, live) {
				drop[v] = true
				c.counts["dead-store"]++
				continue
			}
			if v.Op == ir.OpZero && sb.trim(v, live) {
				c.counts["trimmed-zero"]++
				changed = true
			}
			sb.step(v, live)
		}
		if len(drop) == 0 {
			continue
		}
		changed = true
		kept := b.Values[:0]
		for _, v := range b.Values {
			if !drop[v] {
				kept = append(kept, v)
			}
		}
		clear(b.Values[len(kept):])
		b.Values = kept
	}
	return changed
}

// written returns the bytes that a plain write covers, n 0 when v is none on a followed slot.
func (sb *slotBytes) written(v *ir.Value) (at, n int) {
	switch v.Op {
	case ir.OpStore:
		n = int(v.Size)
	case ir.OpZero, ir.OpCopy:
		n = int(v.Imm)
	default:
		return 0, 0
	}
	s, off := slotOf(v.Args[0], v.Off)
	base, ok := sb.base[s]
	if s == nil || !ok {
		return 0, 0
	}
	return base + off, n
}

// step goes backwards over v: what it writes is not live before it, what it reads is.
func (sb *slotBytes) step(v *ir.Value, live byteSet) {
	at, n := sb.written(v)
	for i := at; i < at+n; i++ {
		live.unset(i)
	}
	read := func(p *ir.Value, off int32, n int) {
		s, o := slotOf(p, off)
		base, ok := sb.base[s]
		if s == nil || !ok {
			return
		}
		if n < 0 {
			o, n = 0, s.Size
		}
		for i := base + o; i < base+o+n; i++ {
			live.set(i)
		}
	}
	switch v.Op {
	case ir.OpLoad, ir.OpAtomicAdd, ir.OpFetchAdd, ir.OpXchg, ir.OpCmpXchg:
		read(v.Args[0], v.Off, int(v.Size))
	case ir.OpCopy:
		read(v.Args[1], 0, int(v.Imm))
	default:
		if ir.Ops[v.Op].Call {
			for _, a := range v.Args {
				read(a, 0, -1)
			}
		}
	}
}

func (sb *slotBytes) isDead(v *ir.Value, live byteSet) bool {
	at, n := sb.written(v)
	for i := at; i < at+n; i++ {
		if live.has(i) {
			return false
		}
	}
	return n > 0
}

// trim shortens a zero whose first or last bytes are overwritten before they are read, in steps of eight bytes.
func (sb *slotBytes) trim(v *ir.Value, live byteSet) bool {
	at, n := sb.written(v)
	dead := func(i int) bool {
		for j := i; j < i+8; j++ {
			if live.has(j) {
				return false
			}
		}
		return true
	}
	changed := false
	for n > 8 && dead(at) {
		at += 8
		n -= 8
		v.Off += 8
		v.Imm -= 8
		changed = true
	}
	for n > 8 && dead(at+n-8) {
		n -= 8
		v.Imm -= 8
		changed = true
	}
	return changed
}
