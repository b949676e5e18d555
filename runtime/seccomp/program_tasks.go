package seccomp

import "github.com/cilium/ebpf/asm"

// fork follows a new thread: sched_process_fork(parent, child). It runs before the child does.
func (p *programs) fork() asm.Instructions {
	p.mov(asm.R6, asm.R1).load(asm.R8, asm.R6, 8, asm.DWord)
	p.entry(asm.R7, asm.R8)
	if p.again {
		p.load(asm.R1, asm.R7, stateOwner, asm.DWord).jumpIfReg(asm.JEq, asm.R1, asm.R8, "out").
			load(asm.R1, asm.R8, p.l.taskPID, asm.Word).store(asm.RFP, stackKey, asm.R1, asm.Word)
		p.lookup("tasks", stackKey)
		p.jumpIf(asm.JNE, asm.R0, 0, "out")
	} else {
		p.leave(asm.R8, "new") // a thread that had the same address, if its end was dropped
		p.at("new")
	}
	p.find(false, "stranger")
	p.load(asm.R9, asm.R7, stateSlot, asm.DWord) // and what is pending
	p.at("insert")
	p.load(asm.R8, asm.R6, 8, asm.DWord)
	p.entry(asm.R7, asm.R8)
	p.stat(statTasks)
	p.claim(asm.R7, "spill")
	for off := int16(stateCalls); off < stateSize; off += 8 {
		p.storeWide(asm.R7, off, 0)
	}
	// It returns from the call that made it.
	p.store(asm.R7, stateSlot, asm.R9, asm.DWord).storeWide(asm.R7, statePhase, phaseUnknown).
		load(asm.R1, asm.R8, p.l.taskPID, asm.Word).store(asm.R7, stateTID, asm.R1, asm.Word).store(asm.R7, stateOwner, asm.R8, asm.DWord).
		jump("out")
	p.at("spill")
	p.clearState()
	p.store(asm.RFP, stackState+stateSlot, asm.R9, asm.DWord).storeImm(asm.RFP, stackState+statePhase, phaseUnknown, asm.Word).
		load(asm.R1, asm.R8, p.l.taskPID, asm.Word).store(asm.RFP, stackKey, asm.R1, asm.Word)
	p.spilled(1) // before it can be found
	p.update("tasks", stackKey, stackState, 0)
	p.jumpIf(asm.JEq, asm.R0, 0, "out")
	p.spilled(-1)
	p.stat(statTasksFull)
	p.jump("out")
	p.at("stranger")
	if p.launcher != 0 {
		p.call(asm.FnGetCurrentPidTgid).alu(asm.RSh, asm.R0, 32).set(asm.R1, int32(p.launcher)).jumpIfReg(asm.JNE, asm.R0, asm.R1, "out").
			load(asm.R8, asm.R6, 8, asm.DWord).load(asm.R1, asm.R8, p.l.taskTGID, asm.Word).jumpIfReg(asm.JEq, asm.R1, asm.R0, "out"). // a thread of ours
			storeImm(asm.RFP, stackScratch, 0, asm.Word)
		p.lookup("armed", stackScratch)
		p.jumpIf(asm.JEq, asm.R0, 0, "out").load(asm.R1, asm.R0, 0, asm.Word).jumpIf(asm.JEq, asm.R1, 0, "out").
			wide(asm.R9, p.pending<<32|slotUnknown).jump("insert")
	}
	return p.finish("process_fork")
}

// exec finds the counters of the new program: sched_process_exec(task, old pid, binprm).
func (p *programs) exec() asm.Instructions {
	p.mov(asm.R6, asm.R1)
	p.oldNumber()
	p.find(false, "out")
	p.call(asm.FnGetCurrentPidTgid).store(asm.R7, stateTID, asm.R0, asm.Word).storeImm(asm.R7, statePhase, phaseUnknown, asm.Word)
	for off := int16(stateCalls); off < stateSize; off += 8 {
		p.storeWide(asm.R7, off, 0)
	}
	p.load(asm.R1, asm.R6, 16, asm.DWord).load(asm.R1, asm.R1, p.l.binprmFile, asm.DWord).load(asm.R1, asm.R1, p.l.fileInode, asm.DWord).
		load(asm.R2, asm.R1, p.l.inodeIno, asm.DWord).store(asm.RFP, stackProg, asm.R2, asm.DWord).
		load(asm.R1, asm.R1, p.l.inodeSB, asm.DWord).load(asm.R2, asm.R1, p.l.superDev, asm.Word).
		store(asm.RFP, stackProg+8, asm.R2, asm.DWord)
	p.lookup("programs", stackProg)
	p.jumpIf(asm.JNE, asm.R0, 0, "found")
	p.set(asm.R8, slotFirst)
	p.at("claim")
	p.store(asm.RFP, stackScratch, asm.R8, asm.Word).storeWide(asm.RFP, stackOne, 1)
	p.update("claimed", stackScratch, stackOne, 1) // BPF_NOEXIST
	p.jumpIf(asm.JEq, asm.R0, 0, "claimed").alu(asm.Add, asm.R8, 1).jumpIf(asm.JLT, asm.R8, int32(p.slots), "claim")
	if !p.again {
		p.stat(statProgramsFull)
	}
	p.storeImm(asm.R7, stateSlot, slotUnknown, asm.Word).jump("out")
	p.at("claimed")
	p.store(asm.RFP, stackOne, asm.R8, asm.DWord)
	p.update("programs", stackProg, stackOne, 1)
	p.lookup("programs", stackProg) // another CPU may have been faster
	p.jumpIf(asm.JEq, asm.R0, 0, "out").load(asm.R1, asm.R0, 0, asm.Word).store(asm.R7, stateSlot, asm.R1, asm.Word)
	p.mapPtr(asm.R1, "events")
	p.set(asm.R2, evSize).set(asm.R3, 0).call(asm.FnRingbufReserve).jumpIf(asm.JEq, asm.R0, 0, "full").mov(asm.R8, asm.R0).
		storeImm(asm.R8, evKind, eventProgram, asm.Word).load(asm.R1, asm.R7, stateSlot, asm.Word).store(asm.R8, evSlot, asm.R1, asm.Word).
		call(asm.FnGetCurrentPidTgid).store(asm.R8, evTID, asm.R0, asm.Word).alu(asm.RSh, asm.R0, 32).store(asm.R8, evTGID, asm.R0, asm.Word).
		call(asm.FnKtimeGetNs).store(asm.R8, evTime, asm.R0, asm.DWord).
		load(asm.R3, asm.R6, 16, asm.DWord).load(asm.R3, asm.R3, p.l.binprmInterp, asm.DWord).
		mov(asm.R1, asm.R8).alu(asm.Add, asm.R1, evComm).set(asm.R2, evSize-evComm).call(asm.FnProbeReadKernelStr).
		mov(asm.R1, asm.R8).set(asm.R2, 0).call(asm.FnRingbufSubmit).jump("out")
	p.at("full")
	p.stat(statRingFull)
	p.jump("out")
	p.at("found")
	p.load(asm.R1, asm.R0, 0, asm.Word).store(asm.R7, stateSlot, asm.R1, asm.Word)
	return p.finish("process_exec")
}

// oldNumber moves what "tasks" has of a thread that is not the first of its process and takes over the first one's number.
func (p *programs) oldNumber() {
	p.call(asm.FnGetCurrentPidTgid).store(asm.RFP, stackKey, asm.R0, asm.Word).aluReg32(asm.Mov, asm.R9, asm.R0).
		load(asm.R8, asm.R6, 8, asm.DWord).aluReg32(asm.Mov, asm.R8, asm.R8).jumpIfReg(asm.JEq, asm.R8, asm.R9, "same").
		store(asm.RFP, stackScratch, asm.R8, asm.Word)
	p.lookup("tasks", stackScratch)
	p.jumpIf(asm.JEq, asm.R0, 0, "same")
	for off := int16(0); off < stateSize; off += 8 {
		p.load(asm.R1, asm.R0, off, asm.DWord).store(asm.RFP, stackState+off, asm.R1, asm.DWord)
	}
	p.update("tasks", stackKey, stackState, 0)
	p.remove("tasks", stackScratch)
	p.at("same")
}

// gone forgets a thread: sched_process_exit(task). One that our process put under observation may be in both places.
func (p *programs) gone() asm.Instructions {
	p.task()
	p.mov(asm.R9, asm.R0)
	p.entry(asm.R7, asm.R9)
	p.leave(asm.R9, "byNumber")
	p.at("byNumber")
	if !p.seeded {
		p.head(asm.R1, headSpilled)
		p.load(asm.R1, asm.R1, 0, asm.DWord).jumpIf(asm.JEq, asm.R1, 0, "out")
	}
	p.call(asm.FnGetCurrentPidTgid).store(asm.RFP, stackKey, asm.R0, asm.Word)
	p.remove("tasks", stackKey)
	p.jumpIf(asm.JNE, asm.R0, 0, "out")
	p.spilled(-1)
	p.stat(statGone)
	return p.finish("process_exit")
}

// leave frees the entry in r7 if it belongs to the thread in a register; it goes to other if not.
func (p *programs) leave(task asm.Register, other string) {
	p.load(asm.R1, asm.R7, stateOwner, asm.DWord).jumpIfReg(asm.JNE, asm.R1, task, other).storeWide(asm.R7, stateOwner, 0)
	p.claims(asm.R7, -1)
	p.stat(statGone)
}
