package seccomp

import (
	"fmt"
	"sort"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// The state of a thread that is followed. What each call touches lies together.
const (
	stateOwner   = 0  // u64: the thread's address, in the table only
	stateClaims  = 8  // u32: how many want the entry, in the table only
	stateTID     = 12 // u32: in the table only
	stateFrom    = 16 // what follows is the same in the table and in "tasks"
	stateSlot    = 16 // u32: which program's counters
	statePending = 20 // u32: how many execve are left until the workload's own program; one load gets both
	statePhase   = 24 // u32: see phaseOutside
	stateCalls   = 32 // 512 bits: calls that the thread made already, for thread names
	stateSize    = 96
)

// Phases tell a denied call: its exit comes without an enter. A thread inside a call has the call's number for a phase, which also tells
// an exit from another call than the one that was entered last, when sys_exit was not attached all the time.
const (
	phaseOutside = 0x7ffffffe
	phaseUnknown = 0x7fffffff // it may be inside a call: found running, new, or its number was changed by an execve
)

// Slots that are not programs.
const (
	slotNone    = 0
	slotUnknown = 1 // threads whose program was not seen
	slotFirst   = 2
)

// abisPerKernel is how many tables of counters a slot has: native, 32-bit, x32.
const abisPerKernel = 3

// plainCalls is how many numbers the table has in which nearly every call is counted: native ones. It is one of each CPU, unless there
// are so many CPUs that the tables would take more than plainBytes.
const (
	plainCalls = 512
	plainBytes = 64 << 20
)

// Events in the ring buffer.
const (
	eventFirst = iota + 1
	eventDenied
	eventProgram
)

// Offsets in an event, which has one size for all kinds.
const (
	evKind   = 0
	evSlot   = 4
	evTime   = 8
	evTID    = 16
	evTGID   = 20
	evABI    = 24
	evNumber = 28
	evComm   = 32 // 16 bytes, or the path of a program up to the end
	evArgs   = 48
	evResult = 96
	evStack  = 104 // length in bytes or an error, then addresses
	evFrames = 112
	evSize   = 112 + 24*8
)

// Rows of the map "stats".
const (
	statTasks = iota
	statTasksFull
	statProgramsFull
	statNamesFull
	statRingFull
	statArgsFull
	statDenied
	statBlind // threads that went on under a filter before denials were looked for
	statGone
	stats
)

// programs writes the code of one recording.
type programs struct {
	l           *layout
	maps        map[string]*ebpf.Map
	slots       int
	entries     int    // of the table, a power of two
	launcher    uint32 // our own process in the kernel's numbering, 0 when nothing is launched
	pending     int64  // execve calls of a launched process up to the workload's own
	cgroup      uint64 // 0: by tree
	cgroupLevel int
	parked      bool // what comes before the execve is counted too, for no program
	learn       bool
	stacks      bool
	slowTask    bool // before Linux 5.11 the current thread's type is not known to the verifier
	native      ABI
	shared      bool // the counters of plain calls are the same for all CPUs
	seeded      bool // our process puts threads into "tasks"
	lazy        bool // sys_exit is attached when a filter comes; see watch.go
	events      bool // sys_enter and sys_exit are trace events; see preempt.go
	again       bool // the program runs behind another one of its kind, which the kernel may have left out

	ins   asm.Instructions
	label string // of the next instruction
	fresh int
	// seldom is code that is put behind the end: what nearly every call runs through lies together, in few lines of the cache.
	seldom []func()
}

// at names the next instruction.
func (p *programs) at(label string) {
	if p.label != "" { // two names for one place
		p.set(asm.R5, 0) // never live where blocks meet
	}
	p.label = label
}

func (p *programs) unique(prefix string) string {
	p.fresh++
	return fmt.Sprintf("%s_%d", prefix, p.fresh)
}

func (p *programs) mapPtr(reg asm.Register, name string) {
	p.emit(asm.LoadMapPtr(reg, p.maps[name].FD()))
}

// lookup finds a value by the key at an offset of the stack: r0.
func (p *programs) lookup(name string, key int32) {
	p.mapPtr(asm.R1, name)
	p.mov(asm.R2, asm.RFP).alu(asm.Add, asm.R2, key).call(asm.FnMapLookupElem)
}

func (p *programs) update(name string, key, value int32, flags int32) {
	p.mapPtr(asm.R1, name)
	p.mov(asm.R2, asm.RFP).alu(asm.Add, asm.R2, key).mov(asm.R3, asm.RFP).alu(asm.Add, asm.R3, value).
		set(asm.R4, flags).call(asm.FnMapUpdateElem)
}

func (p *programs) remove(name string, key int32) {
	p.mapPtr(asm.R1, name)
	p.mov(asm.R2, asm.RFP).alu(asm.Add, asm.R2, key).call(asm.FnMapDeleteElem)
}

// add adds one to a number in memory that other CPUs also add to.
func (p *programs) add(reg asm.Register, off int16) {
	x := asm.StoreXAdd(reg, asm.R1, asm.DWord)
	x.Offset = off
	p.set(asm.R1, 1).emit(x)
}

// stat counts in the map "stats". It uses r0 to r5 and the word at the bottom of the stack.
func (p *programs) stat(row int64) {
	skip := p.unique("stat")
	p.storeImm(asm.RFP, stackScratch, row, asm.Word)
	p.lookup("stats", stackScratch)
	p.jumpIf(asm.JEq, asm.R0, 0, skip)
	p.add(asm.R0, 0)
	p.at(skip)
}

// Places on the stack.
const (
	stackKey     = -8   // u32: thread or counter
	stackScratch = -16  // u32
	stackName    = -40  // 24 bytes: key of "names"
	stackOne     = -48  // u64
	stackTuple   = -80  // 32 bytes: key of "args"
	stackState   = -176 // 96 bytes
	stackProg    = -192 // 16 bytes: key of "programs"
	stackComm    = -208
)

// task puts the current thread into r0.
func (p *programs) task() {
	if p.slowTask {
		p.call(asm.FnGetCurrentTask)
		return
	}
	p.call(asm.FnGetCurrentTaskBtf)
}

// regs puts the address of the thread's registers into one. The trace events do not have it: r0 to r5 are lost there.
func (p *programs) regs(dst asm.Register) {
	if !p.events {
		p.load(dst, asm.R6, 0, asm.DWord)
		return
	}
	p.task()
	p.mov(asm.R1, asm.R0).call(asm.FnTaskPtRegs).mov(dst, asm.R0)
}

// field loads a member of the thread in r0 into a register other than r0; r1 to r5 are lost on old kernels.
func (p *programs) field(dst asm.Register, off int16, size asm.Size) {
	if !p.slowTask {
		p.load(dst, asm.R0, off, size)
		return
	}
	p.storeWide(asm.RFP, stackComm, 0).mov(asm.R3, asm.R0).alu(asm.Add, asm.R3, int32(off)).
		mov(asm.R1, asm.RFP).alu(asm.Add, asm.R1, stackComm).set(asm.R2, int32(size.Sizeof())).call(asm.FnProbeReadKernel).
		load(dst, asm.RFP, stackComm, asm.DWord)
}

// abi takes the number in r8 apart: the ABI in r9, the number without marks in r8, both within the tables.
func (p *programs) abi() {
	p.task()
	p.abiOfTask()
}

// abiOfTask is abi for the thread in r0.
func (p *programs) abiOfTask() {
	size := asm.Word
	if p.native == AArch64 {
		size = asm.DWord
	}
	p.field(asm.R9, p.l.taskFlags, size)
	p.alu(asm.And, asm.R9, int32(p.l.compatMask)).alu(asm.RSh, asm.R9, p.l.compatShift)
	if p.native == X8664 {
		plain := p.unique("plain")
		p.jumpIf(asm.JNE, asm.R9, 0, plain).mov(asm.R1, asm.R8).alu(asm.And, asm.R1, x32Bit).jumpIf(asm.JEq, asm.R1, 0, plain).
			set(asm.R9, 2).alu(asm.Xor, asm.R8, x32Bit)
		p.at(plain)
	}
	fits := p.unique("fits")
	p.aluReg32(asm.Mov, asm.R8, asm.R8).jumpIf(asm.JLT, asm.R8, tableSize, fits).set(asm.R8, tableSize-1)
	p.at(fits)
	known := p.unique("known")
	p.jumpIf(asm.JLT, asm.R9, abisPerKernel, known).set(asm.R9, 0)
	p.at(known)
}

// bump counts the call r8 of ABI r9 in the row in r1 of a table. r7 is the thread's state. What was zero before is reported. Two
// programs never run on one CPU at a time (the kernel counts a miss instead), so a CPU's own counters need no atomic addition.
func (p *programs) bump(table string, own bool, done string) {
	p.store(asm.RFP, stackKey, asm.R1, asm.Word)
	p.lookup(table, stackKey)
	p.jumpIf(asm.JEq, asm.R0, 0, done).mov(asm.R1, asm.R8).alu(asm.LSh, asm.R1, 3).aluReg(asm.Add, asm.R0, asm.R1).
		load(asm.R2, asm.R0, 0, asm.DWord)
	first, known := p.unique("first"), p.unique("seen")
	if own {
		p.alu(asm.Add, asm.R2, 1).store(asm.R0, 0, asm.R2, asm.DWord).jumpIf(asm.JEq, asm.R2, 1, first)
	} else {
		p.add(asm.R0, 0)
		p.jumpIf(asm.JEq, asm.R2, 0, first)
	}
	p.at(known)
	p.seldom = append(p.seldom, func() {
		p.at(first)
		p.event(eventFirst, nil)
		p.jump(known)
	})
}

// event sends what is known of the call r8 of ABI r9. r6 is the context, r7 the thread's state. result loads what the call
// returned into r1, nil when it has not.
func (p *programs) event(kind int64, result func()) {
	full, sent := p.unique("full"), p.unique("sent")
	p.mapPtr(asm.R1, "events")
	p.set(asm.R2, evSize).set(asm.R3, 0).call(asm.FnRingbufReserve).jumpIf(asm.JEq, asm.R0, 0, full)
	// Every register that lives through calls is taken; the record waits on the stack.
	p.store(asm.RFP, stackTuple, asm.R0, asm.DWord)
	p.storeImm(asm.R0, evKind, kind, asm.Word).store(asm.R0, evNumber, asm.R8, asm.Word).store(asm.R0, evABI, asm.R9, asm.Word).
		load(asm.R1, asm.R7, stateSlot, asm.Word).store(asm.R0, evSlot, asm.R1, asm.Word)
	p.regs(asm.R3)
	if p.events {
		p.load(asm.R0, asm.RFP, stackTuple, asm.DWord)
	}
	compat, done := p.unique("compat"), p.unique("args")
	p.jumpIf(asm.JEq, asm.R9, 1, compat)
	for i, off := range p.l.regArgs {
		p.load(asm.R1, asm.R3, off, asm.DWord).store(asm.R0, evArgs+int16(8*i), asm.R1, asm.DWord)
	}
	p.jump(done)
	p.at(compat)
	for i, off := range p.l.compatArg {
		p.load(asm.R1, asm.R3, off, asm.Word).store(asm.R0, evArgs+int16(8*i), asm.R1, asm.DWord)
	}
	p.at(done)
	if result != nil {
		result()
		p.store(asm.R0, evResult, asm.R1, asm.DWord)
	} else {
		p.storeWide(asm.R0, evResult, 0)
	}
	p.call(asm.FnKtimeGetNs).load(asm.R1, asm.RFP, stackTuple, asm.DWord).store(asm.R1, evTime, asm.R0, asm.DWord)
	p.call(asm.FnGetCurrentPidTgid).load(asm.R1, asm.RFP, stackTuple, asm.DWord).store(asm.R1, evTID, asm.R0, asm.Word).
		alu(asm.RSh, asm.R0, 32).store(asm.R1, evTGID, asm.R0, asm.Word)
	p.alu(asm.Add, asm.R1, evComm).set(asm.R2, 16).call(asm.FnGetCurrentComm)
	if p.stacks || kind == eventDenied {
		p.mov(asm.R1, asm.R6).load(asm.R2, asm.RFP, stackTuple, asm.DWord).alu(asm.Add, asm.R2, evFrames).
			set(asm.R3, evSize-evFrames).set(asm.R4, 1<<8).call(asm.FnGetStack).
			load(asm.R1, asm.RFP, stackTuple, asm.DWord).store(asm.R1, evStack, asm.R0, asm.DWord)
	} else {
		p.load(asm.R1, asm.RFP, stackTuple, asm.DWord).storeWide(asm.R1, evStack, 0)
	}
	p.set(asm.R2, 0).call(asm.FnRingbufSubmit).jump(sent)
	p.at(full)
	p.stat(statRingFull)
	p.at(sent)
}

// names remembers the thread's name beside the call, once per thread and call. A plain call has the ABI 0 and a number below plainCalls.
func (p *programs) names(plain bool) {
	done, known, fresh := p.unique("named"), p.unique("namecount"), p.unique("newname")
	if plain {
		p.mov(asm.R1, asm.R8)
	} else { // the 32-bit tables share the bits: at worst a name of a thread that uses two ABIs is missing
		p.mov(asm.R1, asm.R9).alu(asm.Mul, asm.R1, 171).aluReg(asm.Add, asm.R1, asm.R8).alu(asm.And, asm.R1, plainCalls-1)
	}
	p.mov(asm.R2, asm.R1).alu(asm.RSh, asm.R2, 6).alu(asm.LSh, asm.R2, 3).mov(asm.R3, asm.R7).aluReg(asm.Add, asm.R3, asm.R2).
		alu(asm.And, asm.R1, 63).load(asm.R5, asm.R3, stateCalls, asm.DWord).mov(asm.R4, asm.R5).
		aluReg(asm.RSh, asm.R4, asm.R1).alu(asm.And, asm.R4, 1).jumpIf(asm.JEq, asm.R4, 0, fresh)
	p.at(done)
	p.seldom = append(p.seldom, func() { p.newName(fresh, known, done) })
}

func (p *programs) newName(fresh, known, done string) {
	p.at(fresh)
	p.set(asm.R4, 1).aluReg(asm.LSh, asm.R4, asm.R1)
	noted := p.unique("noted")
	if p.lazy {
		p.installs(noted)
	}
	p.aluReg(asm.Or, asm.R5, asm.R4).store(asm.R3, stateCalls, asm.R5, asm.DWord)
	p.at(noted)
	p.load(asm.R1, asm.R7, stateSlot, asm.Word).store(asm.RFP, stackName, asm.R1, asm.Word).
		store(asm.RFP, stackName+4, asm.R9, asm.Half).store(asm.RFP, stackName+6, asm.R8, asm.Half).
		mov(asm.R1, asm.RFP).alu(asm.Add, asm.R1, stackName+8).set(asm.R2, 16).call(asm.FnGetCurrentComm)
	p.lookup("names", stackName)
	p.jumpIf(asm.JNE, asm.R0, 0, known).storeWide(asm.RFP, stackOne, 1)
	p.update("names", stackName, stackOne, 0)
	p.jumpIf(asm.JEq, asm.R0, 0, done)
	p.stat(statNamesFull)
	p.jump(done)
	p.at(known)
	p.add(asm.R0, 0)
	p.jump(done)
}

// args counts the combination of arguments of a call that is looked at.
func (p *programs) args() {
	done := p.unique("learned")
	type row struct {
		number int
		*learnRow
	}
	for i, abi := range p.native.Family() {
		var rows []row
		for _, r := range learnTable {
			if n, ok := abi.Number(r.name); ok {
				rows = append(rows, row{n, learned(abi, r.name)})
			}
		}
		sort.Slice(rows, func(i, j int) bool { return rows[i].number < rows[j].number })
		next := p.unique("nextabi")
		p.jumpIf(asm.JNE, asm.R9, int32(abiIndex(i)), next)
		var tree func(rows []row)
		tree = func(rows []row) {
			if len(rows) > 1 {
				mid := len(rows) / 2
				right := p.unique("right")
				p.jumpIf(asm.JGE, asm.R8, int32(rows[mid].number), right)
				tree(rows[:mid])
				p.at(right)
				tree(rows[mid:])
				return
			}
			r := rows[0]
			p.jumpIf(asm.JNE, asm.R8, int32(r.number), done)
			p.regs(asm.R3)
			regs := p.l.regArgs
			if abi.facts().bits == 32 && abi != X32 {
				regs = p.l.compatArg
			}
			for j := range 3 {
				at := int16(stackTuple + 8 + 8*j)
				if j >= len(r.args) {
					p.storeWide(asm.RFP, at, 0)
					continue
				}
				size := asm.DWord
				if r.bits == 32 {
					size = asm.Word
				}
				p.load(asm.R1, asm.R3, regs[r.args[j]], size).store(asm.RFP, at, asm.R1, asm.DWord)
			}
			p.jump("tuple")
		}
		tree(rows)
		p.at(next)
	}
	p.jump(done)
	p.at("tuple")
	known := p.unique("tupleknown")
	p.mov(asm.R1, asm.R9).alu(asm.LSh, asm.R1, 16).aluReg(asm.Or, asm.R1, asm.R8).store(asm.RFP, stackTuple, asm.R1, asm.DWord)
	p.lookup("args", stackTuple)
	p.jumpIf(asm.JNE, asm.R0, 0, known)
	// A call with too many combinations stops here, so that it cannot push out the others.
	p.mov(asm.R1, asm.R9).alu(asm.Mul, asm.R1, tableSize).aluReg(asm.Add, asm.R1, asm.R8).store(asm.RFP, stackScratch, asm.R1, asm.Word)
	p.lookup("tuples", stackScratch)
	p.jumpIf(asm.JEq, asm.R0, 0, done).load(asm.R2, asm.R0, 0, asm.DWord)
	p.add(asm.R0, 0)
	p.jumpIf(asm.JGT, asm.R2, 2*maxTuples, done).storeWide(asm.RFP, stackOne, 1)
	p.update("args", stackTuple, stackOne, 0)
	p.jumpIf(asm.JEq, asm.R0, 0, done)
	p.stat(statArgsFull)
	p.jump(done)
	p.at(known)
	p.add(asm.R0, 0)
	p.at(done)
}

// abiIndex is the number of an ABI in the kernel's maps, from its place in the family: x32 comes last on x86-64.
func abiIndex(i int) int { return i }

// clearState makes an empty state on the stack.
func (p *programs) clearState() {
	for off := int16(stackState); off < stackState+stateSize; off += 8 {
		p.storeWide(asm.RFP, off, 0)
	}
}

func (p *programs) finish(name string) asm.Instructions {
	p.at("out")
	p.set(asm.R0, 0).ret()
	for len(p.seldom) > 0 {
		block := p.seldom[0]
		p.seldom = p.seldom[1:]
		block()
	}
	out := p.ins
	out[0] = out[0].WithSymbol(name)
	p.ins, p.label = nil, ""
	return out
}
