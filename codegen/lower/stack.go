package lower

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// Flags of bpf_get_stack.
const (
	stackSkipMask  = 0xff
	stackUser      = 1 << 8
	maxStacks      = 16384 // records of MapStacks where they are allocated one by one
	maxStacksEager = 4096  // where all are allocated at once
	// maxStacksSampled is for sampling programs: 8 MB, made in 3 ms.
	maxStacksSampled = 8192
	hashMultiplier   = -0x61c8864680b583eb
	errExist         = -17
)

// Stack takes the current stack and gives its id (see object.StackRecord): a hash of its frames. The frames are stored once for each
// id. frames is the limit, 0 the default, types.NoFrames for the id of the empty stack.
func (g *Gen) Stack(user bool, frames int) *ir.Value {
	if frames == types.NoFrames {
		return g.B.Const(0)
	}
	if frames <= 0 || frames > object.StackMaxFrames {
		frames = object.StackMaxFrames
	}
	if cb := g.fr.cb; cb != nil && cb.global {
		return cb.stack(g, user, frames)
	}
	g.u.stacks()
	if g.Hook.Type == ebpf.PerfEvent {
		g.u.stacksAtOnce()
	}
	flags := int64(0)
	if user {
		flags = stackUser
	} else {
		flags = int64(g.Hook.StackSkip & stackSkipMask)
	}
	if g.fr.stack == nil {
		g.fr.stack = g.B.NewSlot("stack", object.StackRecordSize, 8)
		g.fr.stack.Class = ir.SlotScratch
	}
	rec := g.B.SlotAddr(g.fr.stack, 0)
	id := g.B.NewVar("stack", ir.I64)
	get := func() {
		g.B.Set(id, g.B.Const(0))
		addrs := g.B.SlotAddr(g.fr.stack, object.StackHeader)
		size := g.B.Helper(asm.FnGetStack, g.Ctx(), addrs, g.B.Const(int64(8*frames)), g.B.Const(flags))
		g.B.If(g.B.CmpImm(ir.OpSGt, size, 7), func() {
			g.scoped(func() { g.B.Set(id, g.hashStack(rec, g.B.OpImm(ir.OpLShr, size, 3), frames, user)) })
		}, nil)
	}
	if user && g.walksFrames() {
		g.walkFrames(rec, frames, id, get)
	} else {
		get()
	}
	g.B.If(g.B.CmpImm(ir.OpNe, g.B.Get(id), 0), func() {
		g.scoped(func() { g.B.Set(id, g.storeStack(rec, g.B.Get(id), user)) })
	}, nil)
	return g.B.Get(id)
}

// hashSeed is what the hash of a stack begins with.
func (g *Gen) hashSeed(user bool) *ir.Value {
	if !user {
		return g.B.Const(1)
	}
	tgid := g.B.OpImm(ir.OpLShr, g.PIDTGID(), 32)
	return g.B.OpImm(ir.OpOr, g.B.OpImm(ir.OpShl, tgid, 1), 1<<40)
}

// hashFrame adds a frame to the hash of a stack.
func (g *Gen) hashFrame(h, addr *ir.Value) *ir.Value {
	x := g.B.OpImm(ir.OpMul, g.B.Xor(h, addr), hashMultiplier)
	return g.B.Xor(x, g.B.OpImm(ir.OpLShr, x, 32))
}

// hashed gives the id that belongs to the hash of a whole stack.
func (g *Gen) hashed(h *ir.Value) *ir.Value {
	id := g.B.NewVar("id", ir.I64)
	g.B.Set(id, h)
	g.B.If(g.B.CmpImm(ir.OpEq, h, 0), func() { g.B.Set(id, g.B.Const(1)) }, nil)
	return g.B.Get(id)
}

// hashStack completes a record with n frames, and gives the id of the stack.
func (g *Gen) hashStack(rec, n *ir.Value, frames int, user bool) *ir.Value {
	n = g.B.Bound(n, int64(frames))
	g.B.Store(rec, 0, 4, n)
	h := g.B.NewVar("hash", ir.I64)
	g.B.Set(h, g.hashSeed(user))
	g.B.For(g.B.Const(0), n, func(i *ir.Value, _ *ir.Loop) {
		p := g.B.PtrAdd(rec, g.B.OpImm(ir.OpShl, i, 3))
		g.B.Set(h, g.hashFrame(g.B.Get(h), g.B.Load(p, object.StackHeader, 8, false)))
	})
	return g.hashed(g.B.Get(h))
}

// storeStack stores a record, which is complete but for the process, under an id unless it is known. It gives the id, 0 when there is no room.
func (g *Gen) storeStack(rec, id *ir.Value, user bool) *ir.Value {
	key := g.Temp("stackid", 8)
	g.B.Store(key.Ptr, 0, 8, id)
	old := g.B.Helper(asm.FnMapLookupElem, g.B.MapRef(stacksMap), key.Ptr)
	g.B.If(g.B.CmpImm(ir.OpEq, old, 0), func() {
		g.scoped(func() { g.describeStack(rec, user) })
		rc := g.B.Helper(asm.FnMapUpdateElem, g.B.MapRef(stacksMap), key.Ptr, rec, g.B.Const(updateNoExist))
		fails := g.B.NewBlock("refused")
		ok := g.B.NewBlock("stored")
		bad := g.B.NewBlock("failed")
		fails.Cold, bad.Cold = true, true
		g.B.Branch(ir.OpEq, rc, g.B.Const(0), ok, fails)
		g.B.Seal(fails)
		g.B.SetBlock(fails)
		why := g.B.Ext(rc, 32, true) // see Update
		g.B.Branch(ir.OpEq, why, g.B.Const(errExist), ok, bad)
		g.B.Seal(bad)
		g.B.SetBlock(bad)
		g.B.Cold(func() { g.scoped(func() { g.helperFailed(why, "map_update_elem", object.CounterMapFull) }) })
		g.B.Jump(ok)
		g.B.Seal(ok)
		g.B.SetBlock(ok)
	}, nil)
	return id
}

// describeStack says in the header of a stack's record whose it is.
func (g *Gen) describeStack(rec *ir.Value, user bool) {
	flag, process := g.B.Const(0), g.B.Const(0)
	if user {
		flag = g.B.Const(1)
		process = g.B.OpImm(ir.OpLShr, g.OwnPIDTGID(), 32) // user space looks it up in its own /proc
	}
	g.B.Store(rec, 4, 4, flag)
	g.B.Store(rec, 8, 4, process)
	g.B.Store(rec, 12, 4, g.PIDTGID())
}

// stacks declares the store of stacks.
func (u *Unit) stacks() {
	if u.internal[stacksMap] != nil {
		return
	}
	m := &object.Map{
		Name: stacksMap, Role: object.MapStacks, Type: ebpf.Hash, KeySize: 8, ValueSize: object.StackRecordSize, MaxEntries: maxStacksEager,
	}
	if u.allocatesSafely() {
		m.MaxEntries, m.Flags = maxStacks, flagNoPrealloc
	}
	m.Shared = u.Opts.Shared != nil // a stack in a map of the session is a key of this one
	u.addInternal(m)
}

// stacksAtOnce allocates the whole store beforehand. Sampling programs run in interrupts, where the kernel's allocator has one record of this
// size ready on each CPU, so that every second sample would be refused.
func (u *Unit) stacksAtOnce() {
	m := u.internal[stacksMap]
	m.MaxEntries, m.Flags = maxStacksSampled, m.Flags&^flagNoPrealloc
}

// StackLen gives the number of frames of a stack id.
func (g *Gen) StackLen(id *ir.Value) *ir.Value {
	g.u.stacks()
	key := g.Temp("stackid", 8)
	g.B.Store(key.Ptr, 0, 8, id)
	n := g.B.NewVar("frames", ir.I64)
	g.B.Set(n, g.B.Const(0))
	g.B.IfNonNil(g.B.Helper(asm.FnMapLookupElem, g.B.MapRef(stacksMap), key.Ptr), func(p *ir.Value) {
		g.B.Set(n, g.B.Load(p, 0, 4, false))
	}, nil)
	return g.B.Get(n)
}

// PIDTGID gives the process (high half) and thread (low half) as the initial pid namespace sees them.
func (g *Gen) PIDTGID() *ir.Value {
	return g.Cached("pid_tgid", func() *ir.Value { return g.B.Helper(asm.FnGetCurrentPidTgid) })
}

// OwnPIDTGID gives the process (high half) and thread (low half) as the tool's own pid namespace sees them, 0 for a task that it does not see.
func (g *Gen) OwnPIDTGID() *ir.Value {
	t := g.Target
	if t.PIDNSIno == 0 || !t.Features.Has(target.NsPidTgid) {
		return g.PIDTGID()
	}
	return g.Cached("ns_pid_tgid", func() *ir.Value {
		p := g.Temp("pidns", 8) // struct bpf_pidns_info {u32 pid (the thread); u32 tgid}
		g.B.Store(p.Ptr, 0, 8, g.B.Const(0))
		g.B.Helper(asm.FnGetNsCurrentPidTgid, g.B.Const(int64(t.PIDNSDev)), g.B.Const(int64(t.PIDNSIno)), p.Ptr, g.B.Const(8))
		return g.B.Load(p.Ptr, 0, 8, false)
	})
}

// PointIndex gives the index of the point that fired in object.Points.
func (g *Gen) PointIndex() *ir.Value {
	hooks := g.prog.Hooks
	switch {
	case len(hooks) == 1:
		return g.B.Const(int64(hooks[0].Index))
	case g.Hook.Which != nil:
		return g.Cached("point", func() *ir.Value { return g.Hook.Which(g, hooks) })
	}
	return g.Cached("point", func() *ir.Value { return g.B.Helper(asm.FnGetAttachCookie, g.Ctx()) })
}

// FuncValue gives what `func` stands for: an index in object.Funcs, or a kernel address.
func (g *Gen) FuncValue() *ir.Value {
	named := true
	for _, h := range g.prog.Hooks {
		named = named && h.Point.FuncName != ""
	}
	if named {
		return g.PointIndex()
	}
	return g.Hook.Context.IP(g)
}

// StartNS gives the time at which the tool started, on the clock of bpf_ktime_get_boot_ns.
func (g *Gen) StartNS() *ir.Value {
	g.u.global(0, 1)
	return g.B.Load(g.B.MapValAddr(object.GlobalsMap, object.GlobalsStartNS), 0, 8, false)
}

// Follow reads a chain of members that starts at a struct or a pointer to one; false when a name is unknown.
func (g *Gen) Follow(o Operand, names ...string) (Operand, bool) {
	for _, n := range names {
		t := o.Type
		p := o.P
		if t.Kind == types.Pointer {
			p, t = g.target(o), t.Elem
		}
		if t == nil || t.Kind != types.Struct {
			return Operand{}, false
		}
		f, ok := t.Struct.Field(n)
		if !ok {
			return Operand{}, false
		}
		o = g.member(p, f, f.Type)
	}
	return o, true
}

// Points gives the points that the program serves.
func (g *Gen) Points() []*check.Point {
	out := make([]*check.Point, len(g.prog.Hooks))
	for i, h := range g.prog.Hooks {
		out[i] = h.Point
	}
	return out
}

// Point gives the first of the points that the program serves.
func (g *Gen) Point() *check.Point { return g.prog.Hooks[0].Point }
