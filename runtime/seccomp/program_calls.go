package seccomp

import "github.com/cilium/ebpf/asm"

// enter counts a call: sys_enter(regs, number). Its main line is what a native call of a followed thread without a filter takes; all
// the rest lies behind it.
func (p *programs) enter() asm.Instructions {
	p.mov(asm.R6, asm.R1)
	p.inCgroup()
	if p.cgroup != 0 {
		p.find(true, "adopt")
		p.at("follow")
		p.seldom = append(p.seldom, p.adopt)
	} else {
		p.find(true, "out")
	}
	p.load(asm.R8, asm.R6, 8, asm.DWord).store(asm.R7, statePhase, asm.R8, asm.Word)
	if p.slowTask {
		p.anyCall()
	} else {
		if p.lazy {
			p.load(asm.R1, asm.R9, p.l.taskFiltered, asm.Word).jumpIf(asm.JSet, asm.R1, p.l.filteredMask, "filtered")
			p.at("watched")
			p.seldom = append(p.seldom, p.filtered)
		}
		p.load(asm.R1, asm.R9, p.l.taskFlags, asm.Word).jumpIf(asm.JSet, asm.R1, int32(p.l.compatMask), "odd").
			jumpIf(asm.JGE, asm.R8, plainCalls, "odd").
			load(asm.R1, asm.R7, stateSlot, asm.DWord).jumpIf(asm.JGE, asm.R1, int32(p.slots), "plainpending") // more than a slot: execves are left
		if !p.shared {
			p.ownRow()
		}
		p.set(asm.R9, 0)
		p.bump("plain", !p.shared, "out")
		p.seldom = append(p.seldom, func() {
			p.at("odd")
			p.mov(asm.R0, asm.R9)
			p.anyCall()
			if p.learn {
				p.jump("counted")
			} else {
				p.names(false)
				p.jump("out")
			}
			p.at("plainpending")
			p.set(asm.R9, 0).jump("pending")
		})
	}
	if p.learn {
		p.at("counted")
		if p.parked { // the runtime's arguments are not the program's
			p.load(asm.R1, asm.R7, stateSlot, asm.Word).jumpIf(asm.JEq, asm.R1, slotNone, "named")
		}
		p.args()
		p.at("named")
	}
	p.names(!p.learn && !p.slowTask)
	p.seldom = append(p.seldom, p.pendingCall)
	return p.finish("sys_enter")
}

// ownRow makes the row of the program in r1 the one of this CPU. The thread is in r9.
func (p *programs) ownRow() {
	if p.l.taskCPU != 0 {
		p.load(asm.R2, asm.R9, p.l.taskCPU, asm.Word).alu32(asm.Mul, asm.R2, int32(p.slots)).aluReg(asm.Add, asm.R1, asm.R2)
		return
	}
	p.mov(asm.R9, asm.R1).call(asm.FnGetSmpProcessorId).mov(asm.R1, asm.R0).alu(asm.Mul, asm.R1, int32(p.slots)).aluReg(asm.Add, asm.R1, asm.R9)
}

// inCgroup leaves when the current thread is not in the cgroup that is recorded.
func (p *programs) inCgroup() {
	switch {
	case p.cgroup != 0 && p.slowTask && p.l.ancestorIDs != 0:
		p.task()
		for _, off := range []int16{p.l.taskCgroups, p.l.cssDefault} {
			p.field(asm.R9, off, asm.DWord)
			p.mov(asm.R0, asm.R9)
		}
		p.field(asm.R8, p.l.cgroupLevel, asm.Word)
		p.jumpIf(asm.JLT, asm.R8, int32(p.cgroupLevel), "out").mov(asm.R0, asm.R9)
		p.field(asm.R9, p.l.ancestorIDs+int16(8*p.cgroupLevel), asm.DWord)
		p.wide(asm.R1, int64(p.cgroup)).jumpIfReg(asm.JNE, asm.R9, asm.R1, "out")
	case p.cgroup != 0:
		p.set(asm.R1, int32(p.cgroupLevel)).call(asm.FnGetCurrentAncestorCgroupId).wide(asm.R1, int64(p.cgroup)).
			jumpIfReg(asm.JNE, asm.R0, asm.R1, "out")
	}
}

// adopt follows a thread that was moved into the cgroup: nothing is known of it but that it is inside a call now. Its number is a key already.
func (p *programs) adopt() {
	p.at("adopt")
	p.clearState()
	p.storeImm(asm.RFP, stackState+stateSlot, slotUnknown, asm.Word).storeImm(asm.RFP, stackState+statePhase, phaseUnknown, asm.Word)
	p.update("tasks", stackKey, stackState, 0)
	p.mov(asm.R7, asm.R0)
	p.stat(statTasks)
	p.jumpIf(asm.JEq, asm.R7, 0, "adopted")
	p.stat(statTasksFull)
	p.jump("out")
	p.at("adopted")
	p.lookup("tasks", stackKey)
	p.jumpIf(asm.JEq, asm.R0, 0, "out").mov(asm.R7, asm.R0).jump("follow")
}

// anyCall counts a call of any ABI and number, in tables that all CPUs share. The thread is in r0 where its type is known.
func (p *programs) anyCall() {
	if p.slowTask {
		p.abi()
	} else {
		p.abiOfTask()
	}
	p.load(asm.R1, asm.R7, stateSlot, asm.DWord).jumpIf(asm.JGE, asm.R1, int32(p.slots), "pending")
	p.at("active")
	p.load(asm.R1, asm.R7, stateSlot, asm.Word).alu(asm.Mul, asm.R1, abisPerKernel).aluReg(asm.Add, asm.R1, asm.R9)
	p.bump("counts", false, "out")
}

// pendingCall is a call before the workload's own execve.
func (p *programs) pendingCall() {
	p.at("pending")
	p.jumpIf(asm.JNE, asm.R9, 0, "out")
	for _, name := range []string{"execve", "execveat"} {
		n, _ := p.native.Number(name)
		p.jumpIf(asm.JEq, asm.R8, int32(n), "begin")
	}
	if p.parked {
		p.jump("active")
	} else {
		p.jump("out")
	}
	p.at("begin")
	p.load(asm.R1, asm.R7, statePending, asm.Word).alu(asm.Sub, asm.R1, 1).store(asm.R7, statePending, asm.R1, asm.Word).
		jumpIf(asm.JNE, asm.R1, 0, "out").jump("active")
}
