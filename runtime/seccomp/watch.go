package seccomp

import (
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// Denials are found by sys_exit, which costs about as much as counting the call. So it is attached only when a filter comes, which
// sys_enter notices in two ways: a followed thread is about to install one, or it has one. The first thread that does wakes our process
// and is held, by a loop in the program, until sys_exit is attached: between the filter and the watch there is then no call. That takes
// the time of one attachment (0.1 to 0.2 ms), once in a recording, and at most watchLimit. A thread that went on before is counted, and
// the recording says for how long denials were not seen.
const watchLimit = 5_000_000 // ns

// Rows of the map "watch".
const (
	watchOn    = iota // not 0: sys_exit is attached
	watchUntil        // when held threads go on, in ns of the kernel's monotonic clock
	watchRows
)

// forceWakeup is BPF_RB_FORCE_WAKEUP.
const forceWakeup = 2

// filtered is a call of a thread that has a filter.
func (p *programs) filtered() {
	p.at("filtered")
	p.watch()
	p.jump("watched")
}

// installs looks whether the call r8 of ABI r9 puts a filter on the thread. For the calls that can, it goes to noted, so that they are
// looked at each time.
func (p *programs) installs(noted string) {
	no := p.unique("noinstall")
	family := p.native.Family()
	for i, abi := range family {
		next := no
		if i < len(family)-1 {
			next = p.unique("installabi")
		}
		p.jumpIf(asm.JNE, asm.R9, int32(abiIndex(i)), next)
		regs := p.l.regArgs
		if abi.facts().bits == 32 && abi != X32 {
			regs = p.l.compatArg
		}
		for _, c := range []struct {
			name          string
			first, second int32 // -1: any
			filter        int   // the argument that points to the filter; nil probes whether filters exist
		}{
			{"seccomp", 1, -1, 2}, // SECCOMP_SET_MODE_FILTER
			{"prctl", 22, 2, 2},   // PR_SET_SECCOMP, SECCOMP_MODE_FILTER
		} {
			other := p.unique("other")
			n, ok := abi.Number(c.name)
			if !ok {
				continue
			}
			p.jumpIf(asm.JNE, asm.R8, int32(n), other)
			if p.events {
				p.store(asm.RFP, stackTuple, asm.R3, asm.DWord).store(asm.RFP, stackTuple+8, asm.R4, asm.DWord).store(asm.RFP, stackTuple+16, asm.R5, asm.DWord)
			}
			p.regs(asm.R1)
			if p.events {
				p.load(asm.R3, asm.RFP, stackTuple, asm.DWord).load(asm.R4, asm.RFP, stackTuple+8, asm.DWord).load(asm.R5, asm.RFP, stackTuple+16, asm.DWord)
			}
			for j, want := range []int32{c.first, c.second} {
				if want >= 0 {
					p.load(asm.R2, asm.R1, regs[j], asm.Word).jumpIf(asm.JNE, asm.R2, want, noted)
				}
			}
			p.load(asm.R2, asm.R1, regs[c.filter], asm.DWord).jumpIf(asm.JEq, asm.R2, 0, noted)
			p.watch()
			p.jump(noted)
			p.at(other)
		}
		p.jump(no)
		p.at(next) // the last one is no
	}
}

// watch calls for sys_exit, unless it is attached, and holds the thread until it is.
func (p *programs) watch() {
	done, wait := p.unique("watching"), p.unique("wait")
	p.storeImm(asm.RFP, stackScratch, watchOn, asm.Word)
	p.lookup("watch", stackScratch)
	p.jumpIf(asm.JEq, asm.R0, 0, done).load(asm.R1, asm.R0, 0, asm.DWord).jumpIf(asm.JNE, asm.R1, 0, done)
	p.storeImm(asm.RFP, stackScratch, watchUntil, asm.Word)
	p.lookup("watch", stackScratch)
	p.jumpIf(asm.JEq, asm.R0, 0, done).load(asm.R1, asm.R0, 0, asm.DWord).jumpIf(asm.JNE, asm.R1, 0, wait)
	p.call(asm.FnKtimeGetNs).alu(asm.Add, asm.R0, watchLimit).store(asm.RFP, stackOne, asm.R0, asm.DWord)
	p.update("watch", stackScratch, stackOne, 0)
	p.mapPtr(asm.R1, "alarms")
	p.mov(asm.R2, asm.RFP).alu(asm.Add, asm.R2, stackOne).set(asm.R3, 8).set(asm.R4, forceWakeup).call(asm.FnRingbufOutput)
	p.at(wait)
	loop := asm.Instruction{OpCode: asm.LoadImmOp(asm.DWord), Dst: asm.R2, Src: asm.PseudoFunc, Constant: -1}.WithReference("held")
	p.set(asm.R1, 1<<22).emit(loop).set(asm.R3, 0).set(asm.R4, 0).call(asm.FnLoop)
	p.storeImm(asm.RFP, stackScratch, watchOn, asm.Word)
	p.lookup("watch", stackScratch)
	p.jumpIf(asm.JEq, asm.R0, 0, done).load(asm.R1, asm.R0, 0, asm.DWord).jumpIf(asm.JNE, asm.R1, 0, done)
	p.stat(statBlind)
	p.at(done)
}

// held is the body of the loop that holds a thread. It returns 1 to leave.
func (p *programs) held() asm.Instructions {
	p.storeImm(asm.RFP, stackScratch, watchOn, asm.Word)
	p.lookup("watch", stackScratch)
	p.jumpIf(asm.JEq, asm.R0, 0, "leave").load(asm.R1, asm.R0, 0, asm.DWord).jumpIf(asm.JNE, asm.R1, 0, "leave")
	p.storeImm(asm.RFP, stackScratch, watchUntil, asm.Word)
	p.lookup("watch", stackScratch)
	p.jumpIf(asm.JEq, asm.R0, 0, "leave").load(asm.R6, asm.R0, 0, asm.DWord).call(asm.FnKtimeGetNs).jumpIfReg(asm.JGE, asm.R0, asm.R6, "leave").
		set(asm.R0, 0).ret()
	p.at("leave")
	p.set(asm.R0, 1).ret()
	out := p.ins
	p.ins, p.label = nil, ""
	long := &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
	proto := &btf.FuncProto{Return: long, Params: []btf.FuncParam{{Name: "index", Type: long}, {Name: "unused", Type: long}}}
	out[0] = btf.WithFuncMetadata(out[0].WithSymbol("held"), &btf.Func{Name: "held", Type: proto, Linkage: btf.StaticFunc})
	return out
}

// holding is the program of sys_enter with the loop's body behind it. The kernel wants both described when it calls one back.
func (p *programs) holding() asm.Instructions {
	main := p.enter()
	if !p.lazy {
		return main
	}
	proto := &btf.FuncProto{Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}, Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: &btf.Void{}}}}}
	main[0] = btf.WithFuncMetadata(main[0], &btf.Func{Name: "sys_enter", Type: proto, Linkage: btf.GlobalFunc})
	return append(main, p.held()...)
}

// exit finds denied calls: sys_exit(regs, result). Every followed thread's phase is kept, as another thread may put a filter on it; without
// one there are no denials, but a tracer can skip a call.
func (p *programs) exit() asm.Instructions {
	p.mov(asm.R6, asm.R1)
	p.find(false, "out")
	if p.cgroup != 0 { // what a thread does outside is not looked at: nothing is known of the call in which it may come back
		p.load(asm.R1, asm.R7, statePhase, asm.Word).store(asm.RFP, stackOne, asm.R1, asm.DWord).
			storeImm(asm.R7, statePhase, phaseUnknown, asm.Word)
		p.inCgroup()
		p.load(asm.R1, asm.RFP, stackOne, asm.DWord).store(asm.R7, statePhase, asm.R1, asm.Word)
	}
	p.load(asm.R1, asm.R7, statePhase, asm.Word).storeImm(asm.R7, statePhase, phaseOutside, asm.Word).jumpIf(asm.JEq, asm.R1, phaseUnknown, "out")
	if p.events {
		p.load(asm.R2, asm.R6, eventNumber, asm.Word)
	} else {
		p.load(asm.R2, asm.R6, 0, asm.DWord).load(asm.R2, asm.R2, p.l.regNumber, asm.Word)
	}
	p.jumpIfReg(asm.JEq, asm.R1, asm.R2, "out").jumpIf(asm.JSGT, asm.R2, 0x7fffffff, "out") // rt_sigreturn forgets its number
	p.task()
	p.field(asm.R1, p.l.taskSeccompMode, asm.Word)
	p.jumpIf(asm.JNE, asm.R1, 2, "out")
	result := int16(8)
	if p.events {
		result = eventResult
	}
	p.denied(func() { p.load(asm.R1, asm.R6, result, asm.DWord) })
	return p.finish("sys_exit")
}

// denied counts and reports a call that never entered. r6 is the context.
func (p *programs) denied(result func()) {
	p.regs(asm.R3)
	size := asm.DWord
	if p.l.regNumberBytes == 4 {
		size = asm.Word
	}
	p.load(asm.R8, asm.R3, p.l.regNumber, size)
	p.abi()
	p.stat(statDenied)
	p.load(asm.R1, asm.R7, stateSlot, asm.Word).store(asm.RFP, stackProg, asm.R1, asm.Word).store(asm.RFP, stackProg+4, asm.R9, asm.Half).
		store(asm.RFP, stackProg+6, asm.R8, asm.Half).set(asm.R0, 0)
	result()
	p.store(asm.RFP, stackProg+8, asm.R1, asm.DWord)
	p.lookup("denied", stackProg)
	p.jumpIf(asm.JEq, asm.R0, 0, "newdenial")
	p.add(asm.R0, 0)
	p.jump("out")
	p.at("newdenial")
	p.storeWide(asm.RFP, stackOne, 1)
	p.update("denied", stackProg, stackOne, 0)
	p.event(eventDenied, result)
}
