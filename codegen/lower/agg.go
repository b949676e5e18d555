package lower

import (
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/types"
)

// Slot is one CPU's copy of an aggregation, or the only one (Shared), which must be changed atomically.
type Slot struct {
	Place
	Shared bool
	g      *Gen
}

// Aggregate updates the aggregation that the current call is assigned to. args are its evaluated arguments, of which prepare, when it is not nil,
// makes what update needs beside the memory, which starts as zeros. What both do must depend on the map's type and on the args alone: the code
// may be shared with other updates of the map.
func (g *Gen) Aggregate(args []*ir.Value, prepare func(args []*ir.Value) []*ir.Value, update func(s Slot, args []*ir.Value)) {
	m, keys := g.aggMap, g.aggKeys
	if m == nil {
		panic("lower: an aggregation that is not assigned to a map")
	}
	g.aggMap, g.aggKeys = nil, nil
	if prepare == nil {
		prepare = func(args []*ir.Value) []*ir.Value { return args }
	}
	slot := func(p *ir.Value) Slot {
		return Slot{Place: Place{Ptr: p, Size: m.plan.size, Space: types.SpaceBPF}, Shared: m.plan.store == storeShared, g: g}
	}
	do := func(key func() Place, args []*ir.Value) {
		args = prepare(args)
		if m.plan.store != storeLines {
			g.aggregate(m, key(), func(p *ir.Value) { update(slot(p), args) })
			return
		}
		p := g.cpuLine(m.Spec.Global)
		update(slot(p), args)
		if gs := m.Spec.Global; m.Value.Kind == types.Sum { // zero may be a sum
			g.B.Store(p, gs.SetOff-gs.Off, 8, g.B.Const(1))
		}
	}
	key := func() Place { return g.Key(m, keys) }
	if m.plan.store == storeLines {
		switch m.Value.Kind {
		case types.Count, types.Sum, types.Avg, types.Stats: // as short as a call
			do(key, args)
			return
		}
	}
	g.withKey("aggregate ", m, key, args, do)
}

// aggregate changes the value of a key, which begins as zeros.
func (g *Gen) aggregate(m *Map, key Place, update func(p *ir.Value)) {
	found, miss, end := g.B.NewBlock("found"), g.B.NewBlock("insert"), g.B.NewBlock("aggregated")
	v := g.B.NewVar("slot", ir.MapVal)
	first := g.B.NewBlock("first")
	p := g.Lookup(m, key)
	miss.Cold = true
	g.B.Branch(ir.OpNe, p, g.B.Const(0), first, miss)
	g.B.Seal(first)
	g.B.SetBlock(first)
	g.B.Set(v, g.B.NonNil(p))
	g.B.Jump(found)
	g.B.Seal(miss)
	g.B.SetBlock(miss)
	g.B.Cold(func() { g.scoped(func() { g.insertZero(m, key, v, found, end) }) })
	g.B.Seal(found)
	g.B.SetBlock(found)
	update(g.B.Get(v))
	g.B.Jump(end)
	g.B.Seal(end)
	g.B.SetBlock(end)
}

// insertZero adds a value of zeros under a key and goes on to found with its address in v, or to end when the map is full.
func (g *Gen) insertZero(m *Map, key Place, v ir.Var, found, end *ir.Block) {
	var zero Place
	if m.plan.size <= 64 {
		zero = g.Temp("zero", m.plan.size)
		g.B.Zero(zero.Ptr, 0, (m.plan.size+7)/8*8)
	} else {
		g.u.zeros(m.plan.size)
		zero = Place{Ptr: g.B.MapValAddr(zerosMap, 0), Size: m.plan.size}
	}
	rc := g.Update(m, key, zero, updateNoExist)
	p := g.Lookup(m, key)
	p = g.B.CheckNonNil(p, func() {
		g.helperFailed(rc, "map_update_elem", object.CounterMapFull)
		g.B.Jump(end)
	})
	g.B.Set(v, p)
	g.B.Jump(found)
}

// CPU gives the number of the current CPU.
func (g *Gen) CPU() *ir.Value {
	return g.Cached("cpu", func() *ir.Value { return g.B.Helper(asm.FnGetSmpProcessorId) })
}

// cpuLine gives this CPU's copy in the shared array.
func (g *Gen) cpuLine(s *object.GlobalSlot) *ir.Value {
	p := g.B.MapValAddr(s.Map, s.Off)
	if s.Copies <= 1 {
		return p
	}
	cpu := g.B.OpImm(ir.OpAnd, g.CPU(), int64(s.Copies-1))
	return g.B.PtrAdd(p, g.scale(cpu, s.Stride))
}

// scale gives x times n, by a shift where n is a power of two.
func (g *Gen) scale(x *ir.Value, n int) *ir.Value {
	for i := range 31 {
		if n == 1<<i {
			if i == 0 {
				return x
			}
			return g.B.OpImm(ir.OpShl, x, int64(i))
		}
	}
	return g.B.OpImm(ir.OpMul, x, int64(n))
}

// Word gives word i of the slot.
func (s Slot) Word(i int) *ir.Value { return s.g.B.Load(s.Ptr, int(s.Off)+8*i, 8, false) }

// Set stores word i.
func (s Slot) Set(i int, v *ir.Value) { s.g.B.Store(s.Ptr, int(s.Off)+8*i, 8, v) }

// Add adds to word i.
func (s Slot) Add(i int, v *ir.Value) {
	if s.Shared {
		s.g.B.AtomicAdd(s.Ptr, int(s.Off)+8*i, 8, v)
		return
	}
	s.Set(i, s.g.B.Add(s.Word(i), v))
}

// AddAt adds to the word with a computed index, which is clamped to the slot.
func (s Slot) AddAt(i *ir.Value, v *ir.Value) {
	g := s.g
	i = g.B.Bound(i, int64(s.Size/8-1))
	t := s
	t.Ptr = g.B.PtrAdd(s.Ptr, g.scale(i, 8))
	t.Add(0, v)
}

// readAgg gives the value of an aggregation over all CPUs as a 64-bit integer: total, average, minimum or maximum. key is the address
// of the key in memory; nil for a map without key in the shared array.
func (g *Gen) readAgg(m *Map, key *ir.Value, t *types.Type) Operand {
	out := types.IntOf(8, t.Signed)
	a, b := g.B.NewVar("a", ir.I64), g.B.NewVar("b", ir.I64) // total or value; count or set
	g.B.Set(a, g.B.Const(0))
	g.B.Set(b, g.B.Const(0))
	one := func(p *ir.Value) {
		switch t.Kind {
		case types.Min, types.Max:
			g.foldMinMax(t, p, a, b)
		case types.Avg, types.Stats:
			g.B.Set(a, g.B.Add(g.B.Get(a), g.B.Load(p, 0, 8, false)))
			g.B.Set(b, g.B.Add(g.B.Get(b), g.B.Load(p, 8, 8, false)))
		default:
			g.B.Set(a, g.B.Add(g.B.Get(a), g.B.Load(p, 0, 8, false)))
		}
	}
	cpus := g.B.Const(int64(max(g.Target.CPUs, 1)))
	switch m.plan.store {
	case storeLines:
		s := m.Spec.Global
		if s.Copies == 1 {
			one(g.B.MapValAddr(s.Map, s.Off))
			break
		}
		g.B.For(g.B.Const(0), cpus, func(i *ir.Value, _ *ir.Loop) {
			one(g.B.PtrAdd(g.B.MapValAddr(s.Map, s.Off), g.scale(i, s.Stride)))
		})
	case storePerCPU:
		g.B.For(g.B.Const(0), cpus, func(i *ir.Value, _ *ir.Loop) {
			p := g.B.Helper(asm.FnMapLookupPercpuElem, g.B.MapRef(m.Name), key, i)
			g.B.IfNonNil(p, one, nil)
		})
	default:
		g.B.IfNonNil(g.B.Helper(asm.FnMapLookupElem, g.B.MapRef(m.Name), key), one, nil)
	}
	if t.Kind == types.Avg || t.Kind == types.Stats {
		op := ir.OpUDiv
		if t.Signed {
			op = ir.OpSDiv
		}
		return Scalar(out, g.B.Op2(op, g.B.Get(a), g.B.Get(b)))
	}
	return Scalar(out, g.B.Get(a))
}

// foldMinMax takes one CPU's minimum or maximum into a; b tells whether a is set.
func (g *Gen) foldMinMax(t *types.Type, p *ir.Value, a, b ir.Var) {
	op := minMaxOp(t)
	g.B.If(g.B.CmpImm(ir.OpNe, g.B.Load(p, 8, 8, false), 0), func() {
		x := g.B.Load(p, 0, 8, false)
		better := g.B.NewVar("better", ir.I64)
		g.B.Set(better, g.B.Cmp(op, x, g.B.Get(a)))
		g.B.If(g.B.CmpImm(ir.OpEq, g.B.Get(b), 0), func() { g.B.Set(better, g.B.Const(1)) }, nil)
		g.B.If(g.B.CmpImm(ir.OpNe, g.B.Get(better), 0), func() { g.B.Set(a, x) }, nil)
		g.B.Set(b, g.B.Const(1))
	}, nil)
}

// minMaxOp is the comparison that tells whether a new value replaces the old one.
func minMaxOp(t *types.Type) ir.Op {
	switch {
	case t.Kind == types.Min && t.Signed:
		return ir.OpSLt
	case t.Kind == types.Min:
		return ir.OpULt
	case t.Signed:
		return ir.OpSGt
	}
	return ir.OpUGt
}

// MinMax updates a slot of min or max.
func (s Slot) MinMax(t *types.Type, v *ir.Value) {
	g := s.g
	set, test, end := g.B.NewBlock("set"), g.B.NewBlock("test"), g.B.NewBlock("kept")
	g.B.Branch(ir.OpEq, s.Word(1), g.B.Const(0), set, test)
	g.B.Seal(test)
	g.B.SetBlock(test)
	g.B.Branch(minMaxOp(t), v, s.Word(0), set, end)
	g.B.Seal(set)
	g.B.SetBlock(set)
	s.Set(0, v)
	s.Set(1, g.B.Const(1))
	g.B.Jump(end)
	g.B.Seal(end)
	g.B.SetBlock(end)
}

// inlineHists is how many histograms of a program get the code for the bucket in line. The verifier follows the 64 ways through it at each of
// them, so the others call one function, which it checks once.
const inlineHists = 4

// HistIndex computes object.HistIndex(v, k).
func (g *Gen) HistIndex(v *ir.Value, k int) *ir.Value {
	g.hists++
	if g.hists <= inlineHists && len(g.rounds) == 0 {
		return histIndex(g.B, v, g.B.Const(int64(k)))
	}
	if g.bucket == nil {
		f := ir.NewFunc(g.prog.Name+"_bucket", ir.Subprog, ir.I64, ir.I64)
		b := ir.NewBuilder(f)
		b.Span = g.B.Span
		b.Return(histIndex(b, b.Param(0), b.Param(1)))
		if err := b.Finish(); err != nil {
			panic(err.Error())
		}
		g.module.Funcs = append(g.module.Funcs, f)
		g.bucket = f
	}
	return g.B.Call(g.bucket, v, g.B.Const(int64(k)))
}

func histIndex(b *ir.Builder, v, k *ir.Value) *ir.Value {
	idx := b.NewVar("bucket", ir.I64)
	small, big, end := b.NewBlock("small"), b.NewBlock("log2"), b.NewBlock("bucket")
	width := b.Op2(ir.OpShl, b.Const(1), k)
	b.Branch(ir.OpSLt, v, width, small, big)
	b.Seal(small)
	b.SetBlock(small)
	b.Set(idx, b.Const(0))
	b.If(b.CmpImm(ir.OpSGe, v, 0), func() { b.Set(idx, b.AddImm(v, 1)) }, nil)
	b.Jump(end)
	b.Seal(big)
	b.SetBlock(big)
	// p = floor(log2 v) by halves.
	p, x := b.NewVar("log2", ir.I64), b.NewVar("rest", ir.I64)
	b.Set(p, b.Const(0))
	b.Set(x, v)
	for _, s := range []int64{32, 16, 8, 4, 2, 1} {
		var cond *ir.Value
		if s == 32 {
			cond = b.CmpImm(ir.OpNe, b.OpImm(ir.OpLShr, b.Get(x), 32), 0)
		} else {
			cond = b.CmpImm(ir.OpUGe, b.Get(x), 1<<s)
		}
		b.If(cond, func() {
			if s > 1 {
				b.Set(x, b.OpImm(ir.OpLShr, b.Get(x), s))
			}
			b.Set(p, b.AddImm(b.Get(p), s))
		}, nil)
	}
	if k.Op == ir.OpConst && k.Imm == 0 {
		b.Set(idx, b.AddImm(b.Get(p), 2))
	} else {
		q := b.Sub(b.Get(p), k)
		hi := b.Op2(ir.OpShl, b.AddImm(q, 1), k)
		lo := b.Op2(ir.OpLShr, v, q)
		b.Set(idx, b.AddImm(b.Sub(b.Add(hi, lo), width), 1))
	}
	b.Jump(end)
	b.Seal(end)
	b.SetBlock(end)
	return b.Get(idx)
}

// LHistIndex computes object.LHistIndex(v, t).
func (g *Gen) LHistIndex(v *ir.Value, t *types.Type) *ir.Value {
	idx := g.B.NewVar("bucket", ir.I64)
	g.B.If(g.B.CmpImm(ir.OpSLt, v, t.Lo), func() { g.B.Set(idx, g.B.Const(0)) }, func() {
		g.B.If(g.B.CmpImm(ir.OpSGe, v, t.Hi), func() {
			g.B.Set(idx, g.B.Const(int64(object.LHistBuckets(t)-1)))
		}, func() {
			d := v
			if t.Lo != 0 {
				d = g.B.AddImm(v, -t.Lo)
			}
			if t.Step != 1 {
				d = g.B.OpImm(ir.OpUDiv, d, t.Step)
			}
			g.B.Set(idx, g.B.AddImm(d, 1))
		})
	})
	return g.B.Get(idx)
}

// AggregateType gives the type of the aggregation that the current call is assigned to.
func (g *Gen) AggregateType() *types.Type {
	if g.aggMap == nil {
		return nil
	}
	return g.aggMap.Value
}

// Element gives element i of a slot that is an array of elements of size bytes; i is clamped to the slot.
func (s Slot) Element(i *ir.Value, size int) Slot {
	g := s.g
	i = g.B.Bound(i, int64(max(s.Size/size-1, 0)))
	s.Ptr = g.B.PtrAdd(s.Ptr, g.scale(i, size))
	s.Size = size
	return s
}

// From gives the slot from word i on.
func (s Slot) From(i int) Slot {
	s.Off += int32(8 * i)
	s.Size -= 8 * i
	return s
}
