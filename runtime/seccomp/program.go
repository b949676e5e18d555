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

	ins   asm.Instructions
	label string // of the next instruction
	fresh int
	// seldom is code that is put behind the end: what nearly every call runs through lies together, in few lines of the cache.
	seldom []func()
}

func (p *programs) emit(ins ...asm.Instruction) {
	for _, i := range ins {
		if p.label != "" {
			i = i.WithSymbol(p.label)
			p.label = ""
		}
		p.ins = append(p.ins, i)
	}
}

// storeWide stores a small number as eight bytes, which cilium/ebpf has no constructor for.
func storeWide(dst asm.Register, off int16, v int64) asm.Instruction {
	i := asm.StoreImm(dst, off, v, asm.Word)
	i.OpCode = i.OpCode.SetSize(asm.DWord)
	return i
}

// at names the next instruction.
func (p *programs) at(label string) {
	if p.label != "" { // two names for one place
		p.emit(asm.Mov.Imm(asm.R5, 0)) // never live where blocks meet
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
	p.emit(asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, key), asm.FnMapLookupElem.Call())
}

func (p *programs) update(name string, key, value int32, flags int32) {
	p.mapPtr(asm.R1, name)
	p.emit(asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, key), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, value),
		asm.Mov.Imm(asm.R4, flags), asm.FnMapUpdateElem.Call())
}

func (p *programs) remove(name string, key int32) {
	p.mapPtr(asm.R1, name)
	p.emit(asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, key), asm.FnMapDeleteElem.Call())
}

// add adds one to a number in memory that other CPUs also add to.
func (p *programs) add(reg asm.Register, off int16) {
	x := asm.StoreXAdd(reg, asm.R1, asm.DWord)
	x.Offset = off
	p.emit(asm.Mov.Imm(asm.R1, 1), x)
}

// stat counts in the map "stats". It uses r0 to r5 and the word at the bottom of the stack.
func (p *programs) stat(row int64) {
	skip := p.unique("stat")
	p.emit(asm.StoreImm(asm.RFP, stackScratch, row, asm.Word))
	p.lookup("stats", stackScratch)
	p.emit(asm.JEq.Imm(asm.R0, 0, skip))
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
		p.emit(asm.FnGetCurrentTask.Call())
		return
	}
	p.emit(asm.FnGetCurrentTaskBtf.Call())
}

// field loads a member of the thread in r0 into a register other than r0; r1 to r5 are lost on old kernels.
func (p *programs) field(dst asm.Register, off int16, size asm.Size) {
	if !p.slowTask {
		p.emit(asm.LoadMem(dst, asm.R0, off, size))
		return
	}
	p.emit(storeWide(asm.RFP, stackComm, 0), asm.Mov.Reg(asm.R3, asm.R0), asm.Add.Imm(asm.R3, int32(off)),
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, stackComm), asm.Mov.Imm(asm.R2, int32(size.Sizeof())), asm.FnProbeReadKernel.Call(),
		asm.LoadMem(dst, asm.RFP, stackComm, asm.DWord))
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
	p.emit(asm.And.Imm(asm.R9, int32(p.l.compatMask)), asm.RSh.Imm(asm.R9, p.l.compatShift))
	if p.native == X8664 {
		plain := p.unique("plain")
		p.emit(asm.JNE.Imm(asm.R9, 0, plain), asm.Mov.Reg(asm.R1, asm.R8), asm.And.Imm(asm.R1, x32Bit), asm.JEq.Imm(asm.R1, 0, plain),
			asm.Mov.Imm(asm.R9, 2), asm.Xor.Imm(asm.R8, x32Bit))
		p.at(plain)
	}
	fits := p.unique("fits")
	p.emit(asm.Mov.Reg32(asm.R8, asm.R8), asm.JLT.Imm(asm.R8, tableSize, fits), asm.Mov.Imm(asm.R8, tableSize-1))
	p.at(fits)
	known := p.unique("known")
	p.emit(asm.JLT.Imm(asm.R9, abisPerKernel, known), asm.Mov.Imm(asm.R9, 0))
	p.at(known)
}

// bump counts the call r8 of ABI r9 in the row in r1 of a table. r7 is the thread's state. What was zero before is reported. Two
// programs never run on one CPU at a time (the kernel counts a miss instead), so a CPU's own counters need no atomic addition.
func (p *programs) bump(table string, own bool, done string) {
	p.emit(asm.StoreMem(asm.RFP, stackKey, asm.R1, asm.Word))
	p.lookup(table, stackKey)
	p.emit(asm.JEq.Imm(asm.R0, 0, done), asm.Mov.Reg(asm.R1, asm.R8), asm.LSh.Imm(asm.R1, 3), asm.Add.Reg(asm.R0, asm.R1),
		asm.LoadMem(asm.R2, asm.R0, 0, asm.DWord))
	first, known := p.unique("first"), p.unique("seen")
	if own {
		p.emit(asm.Add.Imm(asm.R2, 1), asm.StoreMem(asm.R0, 0, asm.R2, asm.DWord), asm.JEq.Imm(asm.R2, 1, first))
	} else {
		p.add(asm.R0, 0)
		p.emit(asm.JEq.Imm(asm.R2, 0, first))
	}
	p.at(known)
	p.seldom = append(p.seldom, func() {
		p.at(first)
		p.event(eventFirst, nil)
		p.emit(asm.Ja.Label(known))
	})
}

// event sends what is known of the call r8 of ABI r9. r6 is the context, r7 the thread's state. result loads what the call
// returned into r1, nil when it has not.
func (p *programs) event(kind int64, result func()) {
	full, sent := p.unique("full"), p.unique("sent")
	p.mapPtr(asm.R1, "events")
	p.emit(asm.Mov.Imm(asm.R2, evSize), asm.Mov.Imm(asm.R3, 0), asm.FnRingbufReserve.Call(), asm.JEq.Imm(asm.R0, 0, full))
	// Every register that lives through calls is taken; the record waits on the stack.
	p.emit(asm.StoreMem(asm.RFP, stackTuple, asm.R0, asm.DWord))
	p.emit(asm.StoreImm(asm.R0, evKind, kind, asm.Word), asm.StoreMem(asm.R0, evNumber, asm.R8, asm.Word), asm.StoreMem(asm.R0, evABI, asm.R9, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, stateSlot, asm.Word), asm.StoreMem(asm.R0, evSlot, asm.R1, asm.Word))
	p.emit(asm.LoadMem(asm.R3, asm.R6, 0, asm.DWord))
	compat, done := p.unique("compat"), p.unique("args")
	p.emit(asm.JEq.Imm(asm.R9, 1, compat))
	for i, off := range p.l.regArgs {
		p.emit(asm.LoadMem(asm.R1, asm.R3, off, asm.DWord), asm.StoreMem(asm.R0, evArgs+int16(8*i), asm.R1, asm.DWord))
	}
	p.emit(asm.Ja.Label(done))
	p.at(compat)
	for i, off := range p.l.compatArg {
		p.emit(asm.LoadMem(asm.R1, asm.R3, off, asm.Word), asm.StoreMem(asm.R0, evArgs+int16(8*i), asm.R1, asm.DWord))
	}
	p.at(done)
	if result != nil {
		result()
		p.emit(asm.StoreMem(asm.R0, evResult, asm.R1, asm.DWord))
	} else {
		p.emit(storeWide(asm.R0, evResult, 0))
	}
	p.emit(asm.FnKtimeGetNs.Call(), asm.LoadMem(asm.R1, asm.RFP, stackTuple, asm.DWord), asm.StoreMem(asm.R1, evTime, asm.R0, asm.DWord))
	p.emit(asm.FnGetCurrentPidTgid.Call(), asm.LoadMem(asm.R1, asm.RFP, stackTuple, asm.DWord), asm.StoreMem(asm.R1, evTID, asm.R0, asm.Word),
		asm.RSh.Imm(asm.R0, 32), asm.StoreMem(asm.R1, evTGID, asm.R0, asm.Word))
	p.emit(asm.Add.Imm(asm.R1, evComm), asm.Mov.Imm(asm.R2, 16), asm.FnGetCurrentComm.Call())
	if p.stacks || kind == eventDenied {
		p.emit(asm.Mov.Reg(asm.R1, asm.R6), asm.LoadMem(asm.R2, asm.RFP, stackTuple, asm.DWord), asm.Add.Imm(asm.R2, evFrames),
			asm.Mov.Imm(asm.R3, evSize-evFrames), asm.Mov.Imm(asm.R4, 1<<8), asm.FnGetStack.Call(),
			asm.LoadMem(asm.R1, asm.RFP, stackTuple, asm.DWord), asm.StoreMem(asm.R1, evStack, asm.R0, asm.DWord))
	} else {
		p.emit(asm.LoadMem(asm.R1, asm.RFP, stackTuple, asm.DWord), storeWide(asm.R1, evStack, 0))
	}
	p.emit(asm.Mov.Imm(asm.R2, 0), asm.FnRingbufSubmit.Call(), asm.Ja.Label(sent))
	p.at(full)
	p.stat(statRingFull)
	p.at(sent)
}

// names remembers the thread's name beside the call, once per thread and call.
func (p *programs) names() {
	done, known, fresh := p.unique("named"), p.unique("namecount"), p.unique("newname")
	// The 32-bit tables share the bits: at worst a name of a thread that uses two ABIs is missing.
	p.emit(asm.Mov.Reg(asm.R1, asm.R9), asm.Mul.Imm(asm.R1, 171), asm.Add.Reg(asm.R1, asm.R8), asm.And.Imm(asm.R1, 511),
		asm.Mov.Reg(asm.R2, asm.R1), asm.RSh.Imm(asm.R2, 6), asm.LSh.Imm(asm.R2, 3), asm.Mov.Reg(asm.R3, asm.R7), asm.Add.Reg(asm.R3, asm.R2),
		asm.And.Imm(asm.R1, 63), asm.LoadMem(asm.R5, asm.R3, stateCalls, asm.DWord), asm.Mov.Reg(asm.R4, asm.R5),
		asm.RSh.Reg(asm.R4, asm.R1), asm.And.Imm(asm.R4, 1), asm.JEq.Imm(asm.R4, 0, fresh))
	p.at(done)
	p.seldom = append(p.seldom, func() { p.newName(fresh, known, done) })
}

func (p *programs) newName(fresh, known, done string) {
	p.at(fresh)
	p.emit(asm.Mov.Imm(asm.R4, 1), asm.LSh.Reg(asm.R4, asm.R1))
	noted := p.unique("noted")
	if p.lazy {
		p.installs(noted)
	}
	p.emit(asm.Or.Reg(asm.R5, asm.R4), asm.StoreMem(asm.R3, stateCalls, asm.R5, asm.DWord))
	p.at(noted)
	p.emit(asm.LoadMem(asm.R1, asm.R7, stateSlot, asm.Word), asm.StoreMem(asm.RFP, stackName, asm.R1, asm.Word),
		asm.StoreMem(asm.RFP, stackName+4, asm.R9, asm.Half), asm.StoreMem(asm.RFP, stackName+6, asm.R8, asm.Half),
		asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, stackName+8), asm.Mov.Imm(asm.R2, 16), asm.FnGetCurrentComm.Call())
	p.lookup("names", stackName)
	p.emit(asm.JNE.Imm(asm.R0, 0, known), storeWide(asm.RFP, stackOne, 1))
	p.update("names", stackName, stackOne, 0)
	p.emit(asm.JEq.Imm(asm.R0, 0, done))
	p.stat(statNamesFull)
	p.emit(asm.Ja.Label(done))
	p.at(known)
	p.add(asm.R0, 0)
	p.emit(asm.Ja.Label(done))
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
		p.emit(asm.JNE.Imm(asm.R9, int32(abiIndex(i)), next))
		var tree func(rows []row)
		tree = func(rows []row) {
			if len(rows) > 1 {
				mid := len(rows) / 2
				right := p.unique("right")
				p.emit(asm.JGE.Imm(asm.R8, int32(rows[mid].number), right))
				tree(rows[:mid])
				p.at(right)
				tree(rows[mid:])
				return
			}
			r := rows[0]
			p.emit(asm.JNE.Imm(asm.R8, int32(r.number), done))
			p.emit(asm.LoadMem(asm.R3, asm.R6, 0, asm.DWord))
			regs := p.l.regArgs
			if abi.facts().bits == 32 && abi != X32 {
				regs = p.l.compatArg
			}
			for j := range 3 {
				at := int16(stackTuple + 8 + 8*j)
				if j >= len(r.args) {
					p.emit(storeWide(asm.RFP, at, 0))
					continue
				}
				size := asm.DWord
				if r.bits == 32 {
					size = asm.Word
				}
				p.emit(asm.LoadMem(asm.R1, asm.R3, regs[r.args[j]], size), asm.StoreMem(asm.RFP, at, asm.R1, asm.DWord))
			}
			p.emit(asm.Ja.Label("tuple"))
		}
		tree(rows)
		p.at(next)
	}
	p.emit(asm.Ja.Label(done))
	p.at("tuple")
	known := p.unique("tupleknown")
	p.emit(asm.Mov.Reg(asm.R1, asm.R9), asm.LSh.Imm(asm.R1, 16), asm.Or.Reg(asm.R1, asm.R8), asm.StoreMem(asm.RFP, stackTuple, asm.R1, asm.DWord))
	p.lookup("args", stackTuple)
	p.emit(asm.JNE.Imm(asm.R0, 0, known))
	// A call with too many combinations stops here, so that it cannot push out the others.
	p.emit(asm.Mov.Reg(asm.R1, asm.R9), asm.Mul.Imm(asm.R1, tableSize), asm.Add.Reg(asm.R1, asm.R8), asm.StoreMem(asm.RFP, stackScratch, asm.R1, asm.Word))
	p.lookup("tuples", stackScratch)
	p.emit(asm.JEq.Imm(asm.R0, 0, done), asm.LoadMem(asm.R2, asm.R0, 0, asm.DWord))
	p.add(asm.R0, 0)
	p.emit(asm.JGT.Imm(asm.R2, 2*maxTuples, done), storeWide(asm.RFP, stackOne, 1))
	p.update("args", stackTuple, stackOne, 0)
	p.emit(asm.JEq.Imm(asm.R0, 0, done))
	p.stat(statArgsFull)
	p.emit(asm.Ja.Label(done))
	p.at(known)
	p.add(asm.R0, 0)
	p.at(done)
}

// abiIndex is the number of an ABI in the kernel's maps, from its place in the family: x32 comes last on x86-64.
func abiIndex(i int) int { return i }

// clearState makes an empty state on the stack.
func (p *programs) clearState() {
	for off := int16(stackState); off < stackState+stateSize; off += 8 {
		p.emit(storeWide(asm.RFP, off, 0))
	}
}

func (p *programs) finish(name string) asm.Instructions {
	p.at("out")
	p.emit(asm.Mov.Imm(asm.R0, 0), asm.Return())
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
