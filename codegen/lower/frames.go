package lower

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/types"
)

// The kernel's own walk along the frame pointers of user space (perf_callchain_user) ends with the first one that cannot be read. Nearly
// always that is the 0 of the outermost frame, and finding that out takes a page fault, which costs more than all other frames together. The
// walk here does the same and stops at the 0.
const (
	userCode64 = 0x33 // code segment of 64-bit programs on x86-64
	// firstAddress is the least address that a frame can have: nothing is mapped in the first page.
	firstAddress = 4096
	frameSize    = 16 // the caller's frame pointer, the return address
	// maxFrameWalks bounds the walks of a program: the verifier goes through all rounds of each, 1,000 instructions and more.
	maxFrameWalks = 8
)

// walksFrames reports whether walkFrames means the same as bpf_get_stack: in programs that run in the kernel's context, where the registers
// of user space are those that it was left with.
func (g *Gen) walksFrames() bool {
	t := g.Target
	if t.Arch != "amd64" || t.LiteralAttach || g.u.loopBudget() > 0 || g.frameWalks == maxFrameWalks || g.inlineRounds() > 1 {
		return false
	}
	if !t.Features.Has(target.BpfLoop) || !t.Features.Has(target.TaskBTF) { // bpf_task_pt_regs is older than bpf_loop
		return false
	}
	switch g.Hook.Type {
	case ebpf.TracePoint, ebpf.RawTracepoint, ebpf.Tracing:
		return t.Types != nil && t.Types.StructType("task_struct") != nil && t.Types.StructType("pt_regs") != nil
	}
	return false
}

// walkFrames walks along the frame pointers of user space, stores at most frames addresses and their number in rec, and sets id to that
// of the stack. The kernel's own walk, get, is for all that is not a 64-bit program (kernel threads, tasks of 32 bits) and for tasks in
// functions with uretprobes, whose return addresses are replaced, or at a uprobe: it knows what they mean. The hash is made meanwhile: were the number of frames used
// behind the loop, the verifier would go through the rest of the program once for each number.
func (g *Gen) walkFrames(rec *ir.Value, frames int, id ir.Var, get func()) {
	g.frameWalks++
	task, _ := g.Task()
	regs := Place{Ptr: g.B.Helper(asm.FnTaskPtRegs, task), Space: types.SpaceKernel, Base: g.Target.Types.StructType("pt_regs").Struct}
	reg := func(name string, t *types.Type) *ir.Value {
		return g.LoadScalar(regs.At(registers["amd64"][name], t.Size), t)
	}
	whole, own, done := g.B.NewBlock("whole"), g.B.NewBlock("own"), g.B.NewBlock("walked")
	whole.Cold = true
	need := func(cond *ir.Value) {
		next := g.B.NewBlock("next")
		g.B.BranchIf(cond, next, whole)
		g.B.Seal(next)
		g.B.SetBlock(next)
	}
	if utask, ok := g.TaskMember("utask"); ok {
		probed, clean := g.B.NewBlock("probed"), g.B.NewBlock("clean")
		g.B.BranchIf(g.B.CmpImm(ir.OpEq, utask.V, 0), clean, probed)
		g.B.Seal(probed)
		g.B.SetBlock(probed)
		if returns, ok := g.Follow(utask, "return_instances"); ok {
			need(g.B.CmpImm(ir.OpEq, returns.V, 0))
			if active, ok := g.Follow(utask, "auprobe"); ok {
				need(g.B.CmpImm(ir.OpEq, active.V, 0))
			}
			g.B.Jump(clean)
		} else {
			g.B.Jump(whole)
		}
		g.B.Seal(clean)
		g.B.SetBlock(clean)
	}
	need(g.B.CmpImm(ir.OpEq, reg("cs", types.TUint16), userCode64))
	ip := reg("ip", types.TUint64)
	g.B.BranchIf(g.B.CmpImm(ir.OpNe, ip, 0), own, whole)
	g.B.Seal(own)
	g.B.Seal(whole)

	g.B.SetBlock(own)
	g.scoped(func() {
		g.B.Store(rec, object.StackHeader, 8, ip)
		fp := g.B.NewVar("fp", ir.I64)
		g.B.Set(fp, reg("bp", types.TUint64))
		n, h := g.B.NewVar("frames", ir.I64), g.B.NewVar("hash", ir.I64)
		g.B.Set(n, g.B.Const(1))
		g.B.Set(h, g.hashFrame(g.hashSeed(true), ip))
		frame := g.Temp("frame", frameSize)
		g.B.While(func() *ir.Value { return g.B.CmpImm(ir.OpSLt, g.B.Get(n), int64(frames)) }, func(l *ir.Loop) {
			more, stored := g.B.NewBlock("more"), g.B.NewBlock("stored")
			g.B.Branch(ir.OpUGe, g.B.Get(fp), g.B.Const(firstAddress), more, l.Break)
			g.B.Seal(more)
			g.B.SetBlock(more)
			rc := g.B.Helper(asm.FnProbeReadUser, frame.Ptr, g.B.Const(frameSize), g.B.Get(fp))
			g.B.Branch(ir.OpEq, rc, g.B.Const(0), stored, l.Break)
			g.B.Seal(stored)
			g.B.SetBlock(stored)
			p := g.B.PtrAdd(rec, g.B.OpImm(ir.OpShl, g.B.Get(n), 3))
			addr := g.B.Load(frame.Ptr, 8, 8, false)
			g.B.Store(p, object.StackHeader, 8, addr)
			g.B.Set(h, g.hashFrame(g.B.Get(h), addr))
			g.B.Set(fp, g.B.Load(frame.Ptr, 0, 8, false))
		}, func() { g.B.Set(n, g.B.AddImm(g.B.Get(n), 1)) })
		g.B.Store(rec, 0, 4, g.B.Get(n))
		g.B.Set(id, g.hashed(g.B.Get(h)))
		g.B.Jump(done)
	})

	g.B.SetBlock(whole)
	g.B.Cold(func() {
		g.scoped(func() {
			get()
			g.B.Jump(done)
		})
	})
	g.B.Seal(done)
	g.B.SetBlock(done)
}
