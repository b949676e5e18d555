// Package irgen makes random IR modules that are valid by construction: they end, read only what they have written, stay in bounds and
// check for nil. The same module must give the same result in the interpreter, after every pass, and in the kernel.
//
// Imports: codegen/ir. A generator belongs to one goroutine. Read Module first.
package irgen

import (
	"fmt"
	"math/rand/v2"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
)

// Options bound what is generated.
type Options struct {
	Statements int  // about how many; 30 when 0
	Vars       int  // variables alive all the time; 6 when 0
	Callbacks  bool // bpf_loop (Linux 5.17)
	Fetch      bool // fetching atomics (Linux 5.12)
	Subprogs   bool
	Globals    bool // Global functions, which share a place with their caller; they need scratch memory
	Scratch    bool // large places and variable offsets
}

// Maps that modules use: arrays of one value "in" and "out" of MapBytes, and a hash "h" with HashKey and HashValue bytes.
const (
	MapBytes  = 256
	HashKey   = 8
	HashValue = 16
)

// Module returns a random module; its first function is the entry. Variables begin with words of "in" and are stored in "out".
func Module(r *rand.Rand, o Options) *ir.Module {
	if o.Statements == 0 {
		o.Statements = 30
	}
	if o.Vars == 0 {
		o.Vars = 6
	}
	g := &gen{r: r, o: o, m: &ir.Module{}}
	f := ir.NewFunc("main", ir.Entry, ir.Ctx)
	g.m.Funcs = append(g.m.Funcs, f)
	g.function(f, o.Vars, func(b *ir.Builder, i int) *ir.Value {
		return b.Load(b.MapValAddr("in", 0), 8*(i%(MapBytes/8)), 8, false)
	})
	return g.m
}

type gen struct {
	r     *rand.Rand
	o     Options
	m     *ir.Module
	b     *ir.Builder
	vars  []ir.Var
	slots []place
	left  int // statements
	loops int // nesting
	subs  int
	inSub bool
}

// place is memory that is initialised here.
type place struct {
	p    *ir.Value
	size int
}

func (g *gen) function(f *ir.Func, vars int, start func(b *ir.Builder, i int) *ir.Value) {
	outer := *g
	g.b, g.vars, g.slots, g.loops = ir.NewBuilder(f), nil, nil, 0
	g.left = g.o.Statements
	if g.inSub {
		g.left = 6
	}
	for i := range vars {
		v := g.b.NewVar(fmt.Sprint("x", i), ir.I64)
		g.b.Set(v, start(g.b, i))
		g.vars = append(g.vars, v)
	}
	g.body()
	if !g.b.Terminated() {
		if f.Kind == ir.Entry {
			out := g.b.MapValAddr("out", 0)
			for i, v := range g.vars {
				if 8*i < MapBytes {
					g.b.Store(out, 8*i, 8, g.b.Get(v))
				}
			}
			g.b.ReturnConst(0)
		} else {
			sum := g.b.Get(g.vars[0])
			for _, v := range g.vars[1:] {
				sum = g.b.Xor(sum, g.b.Get(v))
			}
			if f.Kind == ir.Callback {
				sum = g.b.And(sum, g.b.Const(1)) // ends the loop in half of the cases
			}
			g.b.Return(sum)
		}
	}
	if err := g.b.Finish(); err != nil {
		panic(fmt.Sprintf("irgen: %v\n%s", err, f))
	}
	left := g.left
	m, subs := g.m, g.subs
	*g = outer
	g.m, g.subs = m, subs
	_ = left
}

func (g *gen) n(n int) int           { return g.r.IntN(n) }
func (g *gen) chance(n int) bool     { return g.r.IntN(n) == 0 }
func (g *gen) variable() ir.Var      { return g.vars[g.n(len(g.vars))] }
func (g *gen) get() *ir.Value        { return g.b.Get(g.variable()) }
func (g *gen) set(x *ir.Value)       { g.b.Set(g.variable(), x) }
func (g *gen) place() place          { return g.slots[g.n(len(g.slots))] }
func (g *gen) small(n int) *ir.Value { return g.b.Bound(g.expr(1), int64(n)) }

// body emits statements until the budget is used or chance ends it. Places made in it end with it.
func (g *gen) body() {
	keep := len(g.slots)
	for g.left > 0 && !g.b.Terminated() {
		g.left--
		g.statement()
		if g.loops > 0 && g.chance(6) {
			break
		}
	}
	g.slots = g.slots[:keep]
}

func (g *gen) statement() {
	b := g.b
	switch g.n(16) {
	case 0, 1, 2, 3:
		g.set(g.expr(3))
	case 4:
		g.newPlace()
	case 5:
		if len(g.slots) > 0 {
			g.access()
		}
	case 6:
		b.If(g.cond(), g.nested, g.maybe())
	case 7:
		if g.loops < 2 && !g.inSub {
			g.loops++
			b.For(b.Const(0), b.Const(int64(1+g.n(4))), func(i *ir.Value, l *ir.Loop) {
				g.set(b.Add(g.get(), i))
				g.nested()
				if !b.Terminated() && g.chance(3) {
					b.If(g.cond(), func() { b.Jump(l.Break) }, nil)
				}
				if !b.Terminated() && g.chance(3) {
					b.If(g.cond(), func() { b.Jump(l.Continue) }, nil)
				}
			})
			g.loops--
		}
	case 8, 9:
		g.hash()
	case 10:
		// The processor is not the same everywhere; what counts is that a call destroys registers.
		g.set(b.Add(g.get(), b.Bound(b.Helper(asm.FnGetSmpProcessorId), 0)))
	case 11:
		p := b.MapValAddr("out", 8*g.n(MapBytes/8))
		if g.o.Fetch && g.chance(2) {
			switch g.n(3) {
			case 0:
				g.set(b.FetchAdd(p, 0, 8, g.get()))
			case 1:
				g.set(b.Xchg(p, 0, 4, g.get()))
			case 2:
				g.set(b.CmpXchg(p, 0, 8, g.get(), g.get()))
			}
		} else {
			b.AtomicAdd(p, 0, 8, g.get())
		}
	case 12:
		switch {
		case g.inSub || g.subs >= 3:
		case g.o.Globals && g.chance(2):
			g.global()
		case g.o.Subprogs:
			g.call()
		}
	case 13:
		if g.o.Callbacks && !g.inSub && g.subs < 3 {
			g.loop()
		}
	case 14:
		if g.chance(4) && g.loops == 0 && !g.inSub {
			b.If(g.cond(), func() {
				b.Store(b.MapValAddr("out", 0), 0, 8, g.get())
				b.ReturnConst(0)
			}, nil)
		}
	default:
		g.set(b.Select(g.cond(), g.expr(1), g.expr(1)))
	}
}

func (g *gen) nested() {
	save := g.left
	g.left = min(g.left, 1+g.n(6))
	used := g.left
	g.body()
	g.left = save - (used - g.left)
}

func (g *gen) maybe() func() {
	if g.chance(2) {
		return nil
	}
	return g.nested
}

var compares = []ir.Op{ir.OpEq, ir.OpNe, ir.OpULt, ir.OpULe, ir.OpUGt, ir.OpUGe, ir.OpSLt, ir.OpSLe, ir.OpSGt, ir.OpSGe, ir.OpSet}

func (g *gen) cond() *ir.Value { return g.b.Cmp(compares[g.n(len(compares))], g.expr(1), g.expr(1)) }

func (g *gen) constant() *ir.Value {
	switch g.n(6) {
	case 0:
		return g.b.Const(int64(g.r.Uint64()))
	case 1:
		return g.b.Const(int64(int32(g.r.Uint32())))
	case 2:
		return g.b.Const(-int64(g.n(10)))
	case 3:
		return g.b.Const(1 << g.n(64))
	}
	return g.b.Const(int64(g.n(20)))
}

func (g *gen) expr(depth int) *ir.Value {
	b := g.b
	if depth == 0 || g.chance(3) {
		if g.chance(3) {
			return g.constant()
		}
		return g.get()
	}
	switch k := g.n(20); {
	case k < 14:
		op := ir.OpAdd + ir.Op(g.n(int(ir.OpAShr-ir.OpAdd)+1))
		return b.Op2(op, g.expr(depth-1), g.expr(depth-1))
	case k == 14:
		return b.Neg(g.expr(depth - 1))
	case k == 15:
		return b.Not(g.expr(depth - 1))
	case k == 16:
		return b.Ext(g.expr(depth-1), 8<<g.n(3), g.chance(2))
	case k == 17:
		return b.Bswap(g.expr(depth-1), 16<<g.n(3))
	case k == 18:
		return b.Bound(g.expr(depth-1), int64(g.n(1000)))
	}
	return g.cond()
}

// newPlace makes a place and clears it.
func (g *gen) newPlace() {
	sizes := []int{1, 4, 8, 12, 16, 24, 40, 64, 100}
	if g.o.Scratch {
		sizes = append(sizes, 200, 600, 1500)
	}
	if g.inSub {
		sizes = sizes[:6]
	}
	size := sizes[g.n(len(sizes))]
	aligns := []int{1, 2, 4, 8}
	s := g.b.NewSlot("s", size, aligns[g.n(4)])
	p := g.b.SlotAddr(s, 0)
	g.b.Zero(p, 0, size)
	g.slots = append(g.slots, place{p, size})
}

// access reads, writes or copies in the places.
func (g *gen) access() {
	b := g.b
	q := g.place()
	size := 1 << g.n(4)
	for size > q.size {
		size /= 2
	}
	off := g.n(q.size - size + 1)
	switch g.n(6) {
	case 0:
		b.Store(q.p, off, size, g.get())
	case 1:
		g.set(b.Load(q.p, off, size, g.chance(2)))
	case 2:
		b.Store(q.p, off, size, g.constant())
	case 3:
		to := g.place()
		if to.p != q.p {
			n := 1 + g.n(min(to.size, q.size))
			b.Copy(to.p, g.n(to.size-n+1), q.p, g.n(q.size-n+1), n)
		}
	case 4:
		n := 1 + g.n(q.size)
		b.Zero(q.p, g.n(q.size-n+1), n)
	case 5:
		if g.o.Scratch && q.size > 8 && !g.inSub {
			p := b.PtrAdd(q.p, g.small(q.size-8))
			if g.chance(2) {
				b.Store(p, 0, 8, g.get())
			}
			g.set(b.Load(p, 0, 4, true))
		}
	}
}

// hash does something with map h.
func (g *gen) hash() {
	b := g.b
	k := b.SlotAddr(b.NewSlot("key", HashKey, 8), 0)
	x := g.get()
	if g.chance(2) {
		x = b.Get(g.vars[0]) // often the same key as before
	}
	b.Store(k, 0, 8, b.And(x, b.Const(7)))
	h := b.MapRef("h")
	switch g.n(4) {
	case 0:
		v := b.SlotAddr(b.NewSlot("val", HashValue, 8), 0)
		b.Store(v, 0, 8, g.get())
		b.Store(v, 8, 8, g.get())
		b.Helper(asm.FnMapUpdateElem, h, k, v, b.Const(0))
	case 1:
		r := b.Helper(asm.FnMapDeleteElem, h, k)
		g.set(b.Cmp(ir.OpEq, r, b.Const(0)))
	default:
		b.IfNonNil(b.Helper(asm.FnMapLookupElem, h, k), func(p *ir.Value) {
			g.set(b.Load(p, 0, 8, false))
			if g.chance(2) {
				b.Store(p, 8, 4, g.get())
			}
			if g.chance(2) {
				b.AtomicAdd(p, 8, 8, g.get())
			}
			g.nested() // which may replace the element, so that p must not be used behind it
		}, g.maybe())
	}
}

// call makes a subprogram and calls it.
func (g *gen) call() {
	g.subs++
	b := g.b
	n := g.n(4)
	types := []ir.Type{}
	args := []*ir.Value{}
	for range n {
		types = append(types, ir.I64)
		args = append(args, g.get())
	}
	f := ir.NewFunc(fmt.Sprint("sub", g.subs), ir.Subprog, types...)
	g.m.Funcs = append(g.m.Funcs, f)
	g.inSub = true
	g.function(f, 3, func(b *ir.Builder, i int) *ir.Value {
		if i < n {
			return b.Param(i)
		}
		return b.Const(int64(i))
	})
	g.inSub = false
	g.b = b
	g.set(b.Call(f, args...))
}

// global makes a Global function and calls it; the two share a place.
func (g *gen) global() {
	g.subs++
	b := g.b
	s := b.NewSlot("shared", 16, 8)
	p := b.SlotAddr(s, 0)
	b.Store(p, 0, 8, g.get())
	b.Store(p, 8, 8, g.get())
	n := g.n(ir.MaxGlobalArgs)
	types := []ir.Type{}
	args := []*ir.Value{}
	for range n {
		types = append(types, ir.I64)
		args = append(args, g.get())
	}
	f := ir.NewFunc(fmt.Sprint("global", g.subs), ir.Global, types...)
	alias := f.Alias(s, b.F)
	g.m.Funcs = append(g.m.Funcs, f)
	g.inSub = true
	g.function(f, n+1, func(b *ir.Builder, i int) *ir.Value {
		if i < n {
			return b.Param(i)
		}
		q := b.SlotAddr(alias, 0)
		x := b.Load(q, 0, 8, false)
		b.Store(q, 8, 8, b.Add(x, b.Load(q, 8, 8, false)))
		return x
	})
	g.inSub = false
	g.b = b
	g.set(b.Call(f, args...))
	g.set(b.Load(p, 8, 8, false))
}

// loop makes a callback and runs it with bpf_loop; the two share a place.
func (g *gen) loop() {
	g.subs++
	b := g.b
	ctx := b.SlotAddr(b.NewSlot("ctx", 16, 8), 0)
	b.Store(ctx, 0, 8, g.get())
	b.Store(ctx, 8, 8, g.get())
	f := ir.NewFunc(fmt.Sprint("each", g.subs), ir.Callback, ir.I64, ir.Stack)
	g.m.Funcs = append(g.m.Funcs, f)
	g.inSub = true
	g.function(f, 3, func(b *ir.Builder, i int) *ir.Value {
		switch i {
		case 0:
			return b.Param(0)
		case 1:
			x := b.Load(b.Param(1), 0, 8, false)
			b.Store(b.Param(1), 8, 8, b.Add(x, b.Load(b.Param(1), 8, 8, false)))
			return x
		}
		b.Store(b.Param(1), 0, 8, b.Param(0))
		return b.Const(5)
	})
	g.inSub = false
	g.b = b
	g.set(b.Helper(asm.FnLoop, b.Const(int64(1+g.n(5))), b.FuncRef(f), ctx, b.Const(0)))
	g.set(b.Load(ctx, 8, 8, false))
}
