package scan

import (
	"encoding/binary"
	"slices"
	"sort"
)

// unit is a function looked at from one of its entries: what registers hold wherever control leaves it or enters the kernel.
type unit struct {
	img   *image
	entry uint64
	code  []micro
	// first is the index of an instruction's first operation.
	first map[uint64]int
	lead  map[uint64]bool   // addresses where paths meet
	in    map[uint64]*state // what is known there
	work  []uint64
	// through is what is known where control leaves through a register: a table of jumps, mostly.
	through *state
	// leaves are the places where control goes to another function, or comes back; sites those that enter the kernel.
	leaves []departure
	sites  []entering
	// wanted are the targets whose callers are asked for.
	wanted map[uint64]bool
	tables []uint64 // sorted
}

// departure is a call, or a jump out of the function.
type departure struct {
	at     uint64
	target uint64
	state  *state
	call   bool
}

// entering is an instruction that enters the kernel.
type entering struct {
	at    uint64
	sys   sysKind
	state *state // nil: no path leads there
}

// analyse follows values from all entries of a function, each on its own, and tells what is known where they go to one of the wanted
// targets or into the kernel.
func (img *image) analyse(f int, wanted map[uint64]bool) []*unit {
	fn := &img.funcs[f]
	visited := map[uint64]bool{}
	var out []*unit
	for _, entry := range img.inner[f] {
		u := img.follow(fn, entry, wanted)
		u.reach(entry, img.machine.entryState())
		u.run()
		u.collect()
		for a := range u.in {
			visited[a] = true
		}
		out = append(out, u)
	}
	u := img.follow(fn, fn.start, wanted)
	if len(out) == 0 || img.entered(fn.start) {
		u.reach(fn.start, img.machine.entryState())
		u.run()
	}
	u.rest(visited)
	u.collect()
	return append(out, u)
}

// follow prepares a unit.
func (img *image) follow(f *function, entry uint64, wanted map[uint64]bool) *unit {
	u := &unit{img: img, entry: entry, wanted: wanted, first: map[uint64]int{}, lead: map[uint64]bool{entry: true}, in: map[uint64]*state{}}
	u.code = img.decode(f)
	last := ^uint64(0)
	tables := false
	for i := range u.code {
		m := &u.code[i]
		if m.addr != last {
			u.first[m.addr] = i
			last = m.addr
		}
	}
	inside := func(a uint64) bool { _, ok := u.first[a]; return ok }
	for i := range u.code {
		m := &u.code[i]
		switch m.kind {
		case opJump, opBranch:
			if m.target != 0 && inside(m.target) {
				u.lead[m.target] = true
			}
			if m.kind == opJump {
				tables = tables || m.target == 0
				u.lead[m.next] = true
			}
		case opEnd, opBadBytes:
			u.lead[m.next] = true
		default:
		}
	}
	if tables {
		u.findTables()
		for _, a := range u.tables {
			u.lead[a] = true
		}
	}
	return u
}

// reach notes that a state may be there at an address.
func (u *unit) reach(addr uint64, s *state) {
	if have := u.in[addr]; have != nil {
		if have.merge(s, u.img.machine.sp) {
			u.work = append(u.work, addr)
		}
		return
	}
	u.in[addr] = s.clone()
	u.work = append(u.work, addr)
}

// maxSteps bounds the work on one function: no one that was seen needs a hundredth.
const maxSteps = 2_000_000

func (u *unit) run() {
	steps := 0
	for len(u.work) > 0 && steps < maxSteps {
		addr := u.work[len(u.work)-1]
		u.work = u.work[:len(u.work)-1]
		steps += u.block(addr, false)
	}
	u.work = nil
}

// rest goes into what no path leads to: cases of tables that could not be read, landing places of exceptions. With tables, what
// is known at the jumps through registers holds there; otherwise nothing does.
func (u *unit) rest(visited map[uint64]bool) {
	for _, m := range u.code {
		if !u.lead[m.addr] || u.in[m.addr] != nil || visited[m.addr] {
			continue
		}
		if u.padding(u.first[m.addr], visited) {
			continue
		}
		if u.through != nil {
			u.reach(m.addr, u.through)
		} else {
			s := unknownState()
			s.regs[u.img.machine.sp] = value{kind: valueFrame, frame: -1 << 40} // somewhere: distances hold
			u.reach(m.addr, s)
		}
		u.run()
	}
}

// padding reports whether nothing happens from an operation on until the code ends, or comes to where a path leads.
func (u *unit) padding(i int, visited map[uint64]bool) bool {
	for ; i < len(u.code); i++ {
		m := &u.code[i]
		switch {
		case u.in[m.addr] != nil || visited[m.addr] || m.kind == opEnd || m.kind == opBadBytes:
			return true
		case m.kind != opNone:
			return false
		}
	}
	return true
}

// collect walks all blocks once more, with what is known in the end.
func (u *unit) collect() {
	for addr := range u.in {
		u.block(addr, true)
	}
	sort.Slice(u.leaves, func(i, j int) bool { return u.leaves[i].at < u.leaves[j].at })
	sort.Slice(u.sites, func(i, j int) bool { return u.sites[i].at < u.sites[j].at })
}

// block runs from an address to where paths meet or end and gives the number of operations. With note it writes down what
// leaves, and follows nothing.
func (u *unit) block(addr uint64, note bool) int {
	i, ok := u.first[addr]
	if !ok {
		return 1
	}
	mach := u.img.machine
	s := u.in[addr].clone()
	start := i
	for ; i < len(u.code); i++ {
		m := &u.code[i]
		if i > start && u.lead[m.addr] && u.first[m.addr] == i {
			if !note {
				u.reach(m.addr, s)
			}
			return i - start + 1
		}
		switch m.kind {
		case opCall:
			u.leave(m, s, note, true)
			s.afterCall(u.img)
			s.doubtful = true
			continue
		case opJump:
			u.leave(m, s, note, false)
			return i - start + 1
		case opBranch:
			u.leave(m, s, note, false)
		case opEnd, opBadBytes:
			return i - start + 1
		case opSyscall:
			if note {
				u.sites = append(u.sites, entering{m.addr, m.sys, s.clone()})
			}
			s.forget(mach.result)
			if mach.result == 0 {
				s.regs[0] = value{}
			}
		default:
			s.step(m, u.img)
		}
		s.doubtful = s.doubtful && m.kind == opNone
	}
	// The function's end without a jump: what follows is another name's code.
	if last := &u.code[len(u.code)-1]; note && u.wanted[last.next] {
		u.leaves = append(u.leaves, departure{last.addr, last.next, s.clone(), false})
	}
	return i - start + 1
}

// leave follows a jump or a call.
func (u *unit) leave(m *micro, s *state, note, call bool) {
	target, mach := m.target, u.img.machine
	if target == 0 {
		target = u.img.through(m)
	}
	if target == 0 {
		if v := s.operand(m.src); v.kind == valueSet && v.params == 0 && len(v.consts) == 1 && u.img.functionAt(v.consts[0]) >= 0 {
			target = v.consts[0]
		}
	}
	if target == 0 {
		if !call && !note {
			if u.through == nil {
				u.through = s.clone()
			} else {
				u.through.merge(s, mach.sp)
			}
			for _, a := range u.tables {
				u.reach(a, s)
			}
		}
		return
	}
	_, inside := u.first[target]
	if inside && !call {
		if !note {
			u.reach(target, s)
		}
		return
	}
	if note && u.wanted[target] {
		u.leaves = append(u.leaves, departure{m.addr, target, s.clone(), call})
	}
}

func (s *state) forget(m uint32) {
	for r := range s.regs {
		if m>>r&1 == 1 {
			s.regs[r] = value{}
		}
	}
}

func (s *state) afterCall(img *image) {
	if img.isGo {
		s.forget(img.machine.lostGo)
		return
	}
	s.forget(img.machine.lost)
}

// step is an operation that stays in the function.
func (s *state) step(m *micro, img *image) {
	switch m.kind {
	case opMove:
		s.regs[m.dst] = s.operand(m.src).narrow(m.width)
	case opBinary:
		s.regs[m.dst] = m.fn.apply(s.operand(m.src), s.operand(m.other)).narrow(m.width)
	case opEither:
		s.regs[m.dst] = s.operand(m.src).join(s.operand(m.other)).narrow(m.width)
	case opLoad:
		v := value{}
		if off, ok := s.place(&m.mem); ok {
			v = s.slot(off)
		} else if m.mem.absolute() {
			if x, ok := img.readOnly(uint64(m.mem.disp), m.width); ok {
				v = constantValue(x)
			}
		}
		s.regs[m.dst] = v.narrow(m.width)
	case opStore:
		if off, ok := s.place(&m.mem); ok {
			s.setSlot(off, s.operand(m.src).narrow(m.width))
		}
	case opClobber:
		s.forget(m.mask)
	default:
	}
}

// findTables finds places of the function that data names: the cases of a switch. Compilers write them as addresses, or as
// distances of four bytes from the table.
func (u *unit) findTables() {
	const most = 4096
	add := func(a uint64) bool {
		_, ok := u.first[a]
		if ok {
			u.tables = append(u.tables, a)
		}
		return ok
	}
	for i := range u.code {
		m := &u.code[i]
		table := uint64(0)
		switch {
		case m.kind == opMove && m.src.isConst():
			table = m.src.imm
		case (m.kind == opJump || m.kind == opLoad) && m.mem.index != noReg && m.mem.base == noReg && !m.mem.other:
			table = uint64(m.mem.disp)
		}
		data := u.img.dataAt(table)
		for n := 0; n < most && len(data) >= 4*(n+1); n++ {
			if !add(table + uint64(int64(int32(binary.LittleEndian.Uint32(data[4*n:]))))) {
				break
			}
		}
		for n := 0; n < most && len(data) >= 8*(n+1); n++ {
			if !add(binary.LittleEndian.Uint64(data[8*n:])) {
				break
			}
		}
	}
	slices.Sort(u.tables)
	u.tables = slices.Compact(u.tables)
}
