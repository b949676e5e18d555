package seccomp

import (
	"math/bits"

	"github.com/cilium/ebpf/asm"
)

// Threads that are followed are kept in two places. The table has an entry where the thread's own address leads: that is two lines of the
// cache, of which most calls touch one, and no function is called. An entry belongs to the thread whose address is in it, from its fork or
// its first call on until it ends; the kernel does not give the address to another thread before that. A thread whose entry is taken, and
// one that our process put under observation, whose address nobody knows yet, is in the map "tasks" by its number.

// An entry of the table is a state and stands at the begin of a line.
const (
	entryBits  = 7
	entrySize  = 1 << entryBits
	maxEntries = 1 << 13
	// addressFactor spreads addresses over the table: 2^32 divided by the golden ratio.
	addressFactor = 0x9e3779b1
)

// tableEntries is how many entries the table has when so many threads are expected: as many, up to a limit.
func tableEntries(tasks int) int {
	return min(max(4, 1<<bits.Len(uint(tasks-1))), maxEntries)
}

// Behind the entries is a line of words for all.
const headSpilled = 0 // u64: how many of those that fork put under observation are in "tasks"

// head loads the address of a word behind the entries.
func (p *programs) head(dst asm.Register, off int) {
	p.emit(asm.LoadMapValue(dst, p.maps["table"].FD(), uint32(p.entries*entrySize+off)))
}

// entry loads the address of the entry for the thread in a register. It uses r1.
func (p *programs) entry(dst, task asm.Register) {
	factor := uint32(addressFactor)
	p.emit(asm.Mov.Reg32(asm.R1, task), asm.Mul.Imm32(asm.R1, int32(factor)), asm.RSh.Imm32(asm.R1, int32(32-bits.Len(uint(p.entries-1)))),
		asm.LSh.Imm32(asm.R1, entryBits), asm.LoadMapValue(dst, p.maps["table"].FD(), 0), asm.Add.Reg(dst, asm.R1))
}

// find puts the current thread into r9 and its state into r7; it goes to missing when it is not followed. With promote, a state in "tasks"
// moves into the table if its entry is free. It uses r0 to r5, and r8 outside of the main line.
func (p *programs) find(promote bool, missing string) {
	p.task()
	p.emit(asm.Mov.Reg(asm.R9, asm.R0))
	p.entry(asm.R7, asm.R9)
	elsewhere, found := p.unique("elsewhere"), p.unique("found")
	p.emit(asm.LoadMem(asm.R1, asm.R7, stateOwner, asm.DWord), asm.JNE.Reg(asm.R1, asm.R9, elsewhere))
	p.at(found)
	p.seldom = append(p.seldom, func() {
		p.at(elsewhere)
		if !p.seeded {
			p.head(asm.R1, headSpilled)
			p.emit(asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord), asm.JEq.Imm(asm.R1, 0, missing))
		}
		p.number()
		p.lookup("tasks", stackKey)
		p.emit(asm.JEq.Imm(asm.R0, 0, missing))
		if promote {
			p.promote(found)
		}
		p.emit(asm.Mov.Reg(asm.R7, asm.R0), asm.Ja.Label(found))
	})
}

// promote moves the state in r0 to the entry in r7, if that is free, and goes to found. The thread is in r9.
func (p *programs) promote(found string) {
	stay := p.unique("stay")
	p.emit(asm.Mov.Reg(asm.R8, asm.R0))
	p.claim(asm.R7, stay)
	for off := int16(stateFrom); off < stateSize; off += 8 {
		p.emit(asm.LoadMem(asm.R1, asm.R8, off, asm.DWord), asm.StoreMem(asm.R7, off, asm.R1, asm.DWord))
	}
	p.emit(asm.LoadMem(asm.R1, asm.RFP, stackKey, asm.Word), asm.StoreMem(asm.R7, stateTID, asm.R1, asm.Word), asm.StoreMem(asm.R7, stateOwner, asm.R9, asm.DWord))
	p.remove("tasks", stackKey)
	p.spilled(-1)
	p.emit(asm.Ja.Label(found))
	p.at(stay)
	p.emit(asm.Mov.Reg(asm.R0, asm.R8))
}

// claim takes the entry in a register, which has no owner yet afterwards, or goes to taken. It uses r1. Of those that come at the same
// time, one gets it or none: the sum is one for the first only, as long as no other has added to it.
func (p *programs) claim(entry asm.Register, taken string) {
	back, mine := p.unique("back"), p.unique("mine")
	p.emit(asm.LoadMem(asm.R1, entry, stateClaims, asm.Word), asm.JNE.Imm(asm.R1, 0, taken))
	p.claims(entry, 1)
	p.emit(asm.LoadMem(asm.R1, entry, stateClaims, asm.Word), asm.JEq.Imm(asm.R1, 1, mine))
	p.at(back)
	p.claims(entry, -1)
	p.emit(asm.Ja.Label(taken))
	p.at(mine)
}

func (p *programs) claims(entry asm.Register, n int32) {
	x := asm.StoreXAdd(entry, asm.R1, asm.Word)
	x.Offset = stateClaims
	p.emit(asm.Mov.Imm(asm.R1, n), x)
}

// spilled counts what fork put into "tasks". It uses r1 and r2.
func (p *programs) spilled(n int32) {
	if p.seeded {
		return // it is looked at for every thread
	}
	p.head(asm.R2, headSpilled)
	p.emit(asm.Mov.Imm(asm.R1, n), asm.StoreXAdd(asm.R2, asm.R1, asm.DWord))
}

// number stores the number of the thread in r9 as a key.
func (p *programs) number() {
	if p.slowTask {
		p.emit(asm.FnGetCurrentPidTgid.Call(), asm.StoreMem(asm.RFP, stackKey, asm.R0, asm.Word))
		return
	}
	p.emit(asm.LoadMem(asm.R1, asm.R9, p.l.taskPID, asm.Word), asm.StoreMem(asm.RFP, stackKey, asm.R1, asm.Word))
}
