package seccomp

import "github.com/cilium/ebpf/asm"

// fork follows a new thread: sched_process_fork(parent, child). It runs before the child does.
func (p *programs) fork() asm.Instructions {
	p.emit(asm.Mov.Reg(asm.R6, asm.R1), asm.LoadMem(asm.R8, asm.R6, 8, asm.DWord))
	p.entry(asm.R7, asm.R8)
	p.leave(asm.R8, "new") // a thread that had the same address, if its end was dropped
	p.at("new")
	p.find(false, "stranger")
	p.emit(asm.LoadMem(asm.R9, asm.R7, stateSlot, asm.DWord)) // and what is pending
	p.at("insert")
	p.emit(asm.LoadMem(asm.R8, asm.R6, 8, asm.DWord))
	p.entry(asm.R7, asm.R8)
	p.stat(statTasks)
	p.claim(asm.R7, "spill")
	for off := int16(stateCalls); off < stateSize; off += 8 {
		p.emit(storeWide(asm.R7, off, 0))
	}
	p.emit(asm.StoreMem(asm.R7, stateSlot, asm.R9, asm.DWord), storeWide(asm.R7, statePhase, phaseUnknown), // it returns from the call that made it
		asm.LoadMem(asm.R1, asm.R8, p.l.taskPID, asm.Word), asm.StoreMem(asm.R7, stateTID, asm.R1, asm.Word), asm.StoreMem(asm.R7, stateOwner, asm.R8, asm.DWord),
		asm.Ja.Label("out"))
	p.at("spill")
	p.clearState()
	p.emit(asm.StoreMem(asm.RFP, stackState+stateSlot, asm.R9, asm.DWord), asm.StoreImm(asm.RFP, stackState+statePhase, phaseUnknown, asm.Word),
		asm.LoadMem(asm.R1, asm.R8, p.l.taskPID, asm.Word), asm.StoreMem(asm.RFP, stackKey, asm.R1, asm.Word))
	p.spilled(1) // before it can be found
	p.update("tasks", stackKey, stackState, 0)
	p.emit(asm.JEq.Imm(asm.R0, 0, "out"))
	p.spilled(-1)
	p.stat(statTasksFull)
	p.emit(asm.Ja.Label("out"))
	p.at("stranger")
	if p.launcher != 0 {
		p.emit(asm.FnGetCurrentPidTgid.Call(), asm.RSh.Imm(asm.R0, 32), asm.Mov.Imm(asm.R1, int32(p.launcher)), asm.JNE.Reg(asm.R0, asm.R1, "out"),
			asm.LoadMem(asm.R8, asm.R6, 8, asm.DWord), asm.LoadMem(asm.R1, asm.R8, p.l.taskTGID, asm.Word), asm.JEq.Reg(asm.R1, asm.R0, "out"), // a thread of ours
			asm.StoreImm(asm.RFP, stackScratch, 0, asm.Word))
		p.lookup("armed", stackScratch)
		p.emit(asm.JEq.Imm(asm.R0, 0, "out"), asm.LoadMem(asm.R1, asm.R0, 0, asm.Word), asm.JEq.Imm(asm.R1, 0, "out"),
			asm.LoadImm(asm.R9, p.pending<<32|slotUnknown, asm.DWord), asm.Ja.Label("insert"))
	}
	return p.finish("process_fork")
}

// exec finds the counters of the new program: sched_process_exec(task, old pid, binprm).
func (p *programs) exec() asm.Instructions {
	p.emit(asm.Mov.Reg(asm.R6, asm.R1))
	p.oldNumber()
	p.find(false, "out")
	p.emit(asm.FnGetCurrentPidTgid.Call(), asm.StoreMem(asm.R7, stateTID, asm.R0, asm.Word), asm.StoreImm(asm.R7, statePhase, phaseUnknown, asm.Word))
	for off := int16(stateCalls); off < stateSize; off += 8 {
		p.emit(storeWide(asm.R7, off, 0))
	}
	p.emit(asm.LoadMem(asm.R1, asm.R6, 16, asm.DWord), asm.LoadMem(asm.R1, asm.R1, p.l.binprmFile, asm.DWord), asm.LoadMem(asm.R1, asm.R1, p.l.fileInode, asm.DWord),
		asm.LoadMem(asm.R2, asm.R1, p.l.inodeIno, asm.DWord), asm.StoreMem(asm.RFP, stackProg, asm.R2, asm.DWord),
		asm.LoadMem(asm.R1, asm.R1, p.l.inodeSB, asm.DWord), asm.LoadMem(asm.R2, asm.R1, p.l.superDev, asm.Word),
		asm.StoreMem(asm.RFP, stackProg+8, asm.R2, asm.DWord))
	p.lookup("programs", stackProg)
	p.emit(asm.JNE.Imm(asm.R0, 0, "found"))
	p.emit(asm.Mov.Imm(asm.R8, slotFirst))
	p.at("claim")
	p.emit(asm.StoreMem(asm.RFP, stackScratch, asm.R8, asm.Word), storeWide(asm.RFP, stackOne, 1))
	p.update("claimed", stackScratch, stackOne, 1) // BPF_NOEXIST
	p.emit(asm.JEq.Imm(asm.R0, 0, "claimed"), asm.Add.Imm(asm.R8, 1), asm.JLT.Imm(asm.R8, int32(p.slots), "claim"))
	p.stat(statProgramsFull)
	p.emit(asm.StoreImm(asm.R7, stateSlot, slotUnknown, asm.Word), asm.Ja.Label("out"))
	p.at("claimed")
	p.emit(asm.StoreMem(asm.RFP, stackOne, asm.R8, asm.DWord))
	p.update("programs", stackProg, stackOne, 1)
	p.lookup("programs", stackProg) // another CPU may have been faster
	p.emit(asm.JEq.Imm(asm.R0, 0, "out"), asm.LoadMem(asm.R1, asm.R0, 0, asm.Word), asm.StoreMem(asm.R7, stateSlot, asm.R1, asm.Word))
	p.mapPtr(asm.R1, "events")
	p.emit(asm.Mov.Imm(asm.R2, evSize), asm.Mov.Imm(asm.R3, 0), asm.FnRingbufReserve.Call(), asm.JEq.Imm(asm.R0, 0, "full"), asm.Mov.Reg(asm.R8, asm.R0),
		asm.StoreImm(asm.R8, evKind, eventProgram, asm.Word), asm.LoadMem(asm.R1, asm.R7, stateSlot, asm.Word), asm.StoreMem(asm.R8, evSlot, asm.R1, asm.Word),
		asm.FnGetCurrentPidTgid.Call(), asm.StoreMem(asm.R8, evTID, asm.R0, asm.Word), asm.RSh.Imm(asm.R0, 32), asm.StoreMem(asm.R8, evTGID, asm.R0, asm.Word),
		asm.FnKtimeGetNs.Call(), asm.StoreMem(asm.R8, evTime, asm.R0, asm.DWord),
		asm.LoadMem(asm.R3, asm.R6, 16, asm.DWord), asm.LoadMem(asm.R3, asm.R3, p.l.binprmInterp, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R8), asm.Add.Imm(asm.R1, evComm), asm.Mov.Imm(asm.R2, evSize-evComm), asm.FnProbeReadKernelStr.Call(),
		asm.Mov.Reg(asm.R1, asm.R8), asm.Mov.Imm(asm.R2, 0), asm.FnRingbufSubmit.Call(), asm.Ja.Label("out"))
	p.at("full")
	p.stat(statRingFull)
	p.emit(asm.Ja.Label("out"))
	p.at("found")
	p.emit(asm.LoadMem(asm.R1, asm.R0, 0, asm.Word), asm.StoreMem(asm.R7, stateSlot, asm.R1, asm.Word))
	return p.finish("process_exec")
}

// oldNumber moves what "tasks" has of a thread that is not the first of its process and takes over the first one's number.
func (p *programs) oldNumber() {
	p.emit(asm.FnGetCurrentPidTgid.Call(), asm.StoreMem(asm.RFP, stackKey, asm.R0, asm.Word), asm.Mov.Reg32(asm.R9, asm.R0),
		asm.LoadMem(asm.R8, asm.R6, 8, asm.DWord), asm.Mov.Reg32(asm.R8, asm.R8), asm.JEq.Reg(asm.R8, asm.R9, "same"),
		asm.StoreMem(asm.RFP, stackScratch, asm.R8, asm.Word))
	p.lookup("tasks", stackScratch)
	p.emit(asm.JEq.Imm(asm.R0, 0, "same"))
	for off := int16(0); off < stateSize; off += 8 {
		p.emit(asm.LoadMem(asm.R1, asm.R0, off, asm.DWord), asm.StoreMem(asm.RFP, stackState+off, asm.R1, asm.DWord))
	}
	p.update("tasks", stackKey, stackState, 0)
	p.remove("tasks", stackScratch)
	p.at("same")
}

// gone forgets a thread: sched_process_exit(task). One that our process put under observation may be in both places.
func (p *programs) gone() asm.Instructions {
	p.task()
	p.emit(asm.Mov.Reg(asm.R9, asm.R0))
	p.entry(asm.R7, asm.R9)
	p.leave(asm.R9, "byNumber")
	p.at("byNumber")
	if !p.seeded {
		p.head(asm.R1, headSpilled)
		p.emit(asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord), asm.JEq.Imm(asm.R1, 0, "out"))
	}
	p.emit(asm.FnGetCurrentPidTgid.Call(), asm.StoreMem(asm.RFP, stackKey, asm.R0, asm.Word))
	p.remove("tasks", stackKey)
	p.emit(asm.JNE.Imm(asm.R0, 0, "out"))
	p.spilled(-1)
	p.stat(statGone)
	return p.finish("process_exit")
}

// leave frees the entry in r7 if it belongs to the thread in a register; it goes to other if not.
func (p *programs) leave(task asm.Register, other string) {
	p.emit(asm.LoadMem(asm.R1, asm.R7, stateOwner, asm.DWord), asm.JNE.Reg(asm.R1, task, other), storeWide(asm.R7, stateOwner, 0))
	p.claims(asm.R7, -1)
	p.stat(statGone)
}
