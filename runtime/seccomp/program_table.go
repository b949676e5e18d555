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
	p.aluReg32(asm.Mov, asm.R1, task).alu32(asm.Mul, asm.R1, int32(factor)).alu32(asm.RSh, asm.R1, int32(32-bits.Len(uint(p.entries-1)))).
		alu32(asm.LSh, asm.R1, entryBits).emit(asm.LoadMapValue(dst, p.maps["table"].FD(), 0)).aluReg(asm.Add, dst, asm.R1)
}

// find puts the current thread into r9 and its state into r7; it goes to missing when it is not followed. With promote, a state in "tasks"
// moves into the table if its entry is free. It uses r0 to r5, and r8 outside of the main line.
func (p *programs) find(promote bool, missing string) {
	p.task()
	p.mov(asm.R9, asm.R0)
	p.entry(asm.R7, asm.R9)
	elsewhere, found := p.unique("elsewhere"), p.unique("found")
	p.load(asm.R1, asm.R7, stateOwner, asm.DWord).jumpIfReg(asm.JNE, asm.R1, asm.R9, elsewhere)
	p.at(found)
	p.seldom = append(p.seldom, func() {
		p.at(elsewhere)
		if !p.seeded {
			p.head(asm.R1, headSpilled)
			p.load(asm.R1, asm.R1, 0, asm.DWord).jumpIf(asm.JEq, asm.R1, 0, missing)
		}
		p.number()
		p.lookup("tasks", stackKey)
		p.jumpIf(asm.JEq, asm.R0, 0, missing)
		if promote {
			p.promote(found)
		}
		p.mov(asm.R7, asm.R0).jump(found)
	})
}

// promote moves the state in r0 to the entry in r7, if that is free, and goes to found. The thread is in r9.
func (p *programs) promote(found string) {
	stay := p.unique("stay")
	p.mov(asm.R8, asm.R0)
	p.claim(asm.R7, stay)
	for off := int16(stateFrom); off < stateSize; off += 8 {
		p.load(asm.R1, asm.R8, off, asm.DWord).store(asm.R7, off, asm.R1, asm.DWord)
	}
	p.load(asm.R1, asm.RFP, stackKey, asm.Word).store(asm.R7, stateTID, asm.R1, asm.Word).store(asm.R7, stateOwner, asm.R9, asm.DWord)
	p.remove("tasks", stackKey)
	p.spilled(-1)
	p.jump(found)
	p.at(stay)
	p.mov(asm.R0, asm.R8)
}

// claim takes the entry in a register, which has no owner yet afterwards, or goes to taken. It uses r1. Of those that come at the same
// time, one gets it or none: the sum is one for the first only, as long as no other has added to it.
func (p *programs) claim(entry asm.Register, taken string) {
	back, mine := p.unique("back"), p.unique("mine")
	p.load(asm.R1, entry, stateClaims, asm.Word).jumpIf(asm.JNE, asm.R1, 0, taken)
	p.claims(entry, 1)
	p.load(asm.R1, entry, stateClaims, asm.Word).jumpIf(asm.JEq, asm.R1, 1, mine)
	p.at(back)
	p.claims(entry, -1)
	p.jump(taken)
	p.at(mine)
}

func (p *programs) claims(entry asm.Register, n int32) {
	x := asm.StoreXAdd(entry, asm.R1, asm.Word)
	x.Offset = stateClaims
	p.set(asm.R1, n).emit(x)
}

// spilled counts what fork put into "tasks". It uses r1 and r2.
func (p *programs) spilled(n int32) {
	if p.seeded {
		return // it is looked at for every thread
	}
	p.head(asm.R2, headSpilled)
	p.set(asm.R1, n).emit(asm.StoreXAdd(asm.R2, asm.R1, asm.DWord))
}

// number stores the number of the thread in r9 as a key.
func (p *programs) number() {
	if p.slowTask {
		p.call(asm.FnGetCurrentPidTgid).store(asm.RFP, stackKey, asm.R0, asm.Word)
		return
	}
	p.load(asm.R1, asm.R9, p.l.taskPID, asm.Word).store(asm.RFP, stackKey, asm.R1, asm.Word)
}
