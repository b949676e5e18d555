package bpf_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/sonde-sh/sonde/codegen/bpf"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/lang/source"
)

// built is a module under construction with its entry.
func built(tb testing.TB, build func(b *ir.Builder)) *ir.Module {
	tb.Helper()
	b := ir.NewBuilder(ir.NewFunc("main", ir.Entry, ir.Ctx))
	build(b)
	f := finish(tb, b)
	m := &ir.Module{Funcs: []*ir.Func{f}}
	for i := 0; i < len(m.Funcs); i++ { // functions that it names
		for _, blk := range m.Funcs[i].Blocks {
			for _, v := range blk.Values {
				if g, ok := v.Aux.(*ir.Func); ok {
					m.Funcs = append(m.Funcs, g)
				}
			}
		}
	}
	return m
}

// out stores x in word i of map "out".
func out(b *ir.Builder, i int, x *ir.Value) { b.Store(b.MapValAddr("out", 0), 8*i, 8, x) }

// compare loads and runs a module and compares word by word what it leaves in "out" with the interpreter. It returns the words.
func compare(t *testing.T, opts bpf.Options, mod *ir.Module, specs ...*ebpf.MapSpec) (*bpf.Code, []uint64) {
	t.Helper()
	needBPF(t)
	const words = 64
	m := newMachine(t, opts, append(specs, arraySpec("in", 8*words), arraySpec("out", 8*words))...)
	var in []byte
	for i := range uint64(words) {
		in = binary.LittleEndian.AppendUint64(in, i*0x0123456789abcdef+i)
	}
	m.setArray("in", in)
	p, code, err := m.load(mod)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, mod, dump(code))
	}
	run(t, p, 1, 2)
	im := m.interpreter()
	copy(im.ArrayBytes("in", 0), in)
	if _, err := im.Run(mod.Funcs[0], make([]byte, 16)); err != nil {
		t.Fatalf("%v\n%s", err, mod)
	}
	got, want := m.arrayValue("out"), im.ArrayBytes("out", 0)
	var xs []uint64
	for i := range words {
		g, w := binary.LittleEndian.Uint64(got[8*i:]), binary.LittleEndian.Uint64(want[8*i:])
		xs = append(xs, g)
		if g != w {
			t.Errorf("word %d: kernel %#x, interpreter %#x", i, g, w)
		}
	}
	if t.Failed() {
		t.Logf("%s\n%s", mod, dump(code))
	}
	return code, xs
}

func eachVariant(t *testing.T, fn func(t *testing.T, opts bpf.Options)) {
	needBPF(t)
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) { fn(t, opts) })
	}
}

func TestKernelSpilling(t *testing.T) {
	eachVariant(t, func(t *testing.T, opts bpf.Options) {
		mod := built(t, func(b *ir.Builder) {
			var xs []*ir.Value
			in := b.MapValAddr("in", 0)
			for i := range 30 {
				xs = append(xs, b.Load(in, 8*i, 8, false))
			}
			b.Helper(asm.FnKtimeGetNs)
			for i := range xs {
				xs[i] = b.Mul(xs[i], xs[(i*7+3)%30])
			}
			b.Helper(asm.FnKtimeGetNs)
			n := b.NewVar("n", ir.I64)
			b.Set(n, b.Const(0))
			b.For(b.Const(0), b.Const(5), func(i *ir.Value, _ *ir.Loop) {
				for _, x := range xs {
					b.Set(n, b.Add(b.Mul(b.Get(n), b.Const(31)), b.Xor(x, i)))
				}
				b.Helper(asm.FnKtimeGetNs)
			})
			out(b, 0, b.Get(n))
			for i, x := range xs {
				out(b, 1+i, x)
			}
			b.ReturnConst(0)
		})
		code, _ := compare(t, opts, mod)
		if code.Stats.Spills == 0 {
			t.Error("thirty values fit ten registers")
		}
		if code.Stats.StackBytes > 8*40 { // the thirty loaded ones and some of the products
			t.Errorf("%d bytes of stack for thirty values", code.Stats.StackBytes)
		}
	})
}

func TestKernelPointersAreSpilled(t *testing.T) {
	eachVariant(t, func(t *testing.T, opts bpf.Options) {
		mod := built(t, func(b *ir.Builder) {
			key := b.SlotAddr(b.NewSlot("key", 8, 8), 0)
			val := b.SlotAddr(b.NewSlot("val", 8, 8), 0)
			h := b.MapRef("h")
			var ps []*ir.Value
			for i := range 8 {
				b.Store(key, 0, 8, b.Const(int64(i)))
				b.Store(val, 0, 8, b.Const(int64(100+i)))
				b.Helper(asm.FnMapUpdateElem, h, key, val, b.Const(0))
				ps = append(ps, b.CheckNonNil(b.Helper(asm.FnMapLookupElem, h, key), func() { b.ReturnConst(0) }))
			}
			b.Helper(asm.FnKtimeGetNs)
			sum := b.Const(0)
			for _, p := range ps {
				sum = b.Add(b.Mul(sum, b.Const(3)), b.Load(p, 0, 8, false))
			}
			out(b, 0, sum)
			b.ReturnConst(0)
		})
		code, xs := compare(t, opts, mod, hashSpec("h", 8, 8))
		if code.Stats.Spills == 0 || xs[0] == 0 {
			t.Errorf("spills %d, result %d", code.Stats.Spills, xs[0])
		}
	})
}

// big uses places of the given sizes all at the same time.
func big(b *ir.Builder, sizes ...int) {
	var ps []*ir.Value
	for i, n := range sizes {
		p := b.SlotAddr(b.NewSlot(fmt.Sprint("big", i), n, 8), 0)
		b.Zero(p, 0, n)
		b.Store(p, n-8, 8, b.Load(b.MapValAddr("in", 0), 8*i, 8, false))
		b.Store(p, 0, 4, b.Const(int64(i)))
		ps = append(ps, p)
	}
	b.Helper(asm.FnKtimeGetNs)
	for i, n := range sizes {
		out(b, i, b.Add(b.Load(ps[i], n-8, 8, false), b.Load(ps[i], 0, 8, false)))
	}
}

func TestKernelFrames(t *testing.T) {
	tests := []struct {
		name    string
		sizes   []int
		scratch bool
	}{
		{"stack only", []int{200, 200, 100}, false},
		{"all of the stack", []int{512}, false},
		{"one byte too much", []int{200, 200, 120}, true},
		{"one large place", []int{4096}, true},
		{"a full chunk", []int{bpf.ScratchChunk - bpf.ScratchHeader}, true},
		{"several chunks", []int{30000, 20000, 20000, 64, 30000}, true},
	}
	eachVariant(t, func(t *testing.T, opts bpf.Options) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				code, _ := compare(t, opts, built(t, func(b *ir.Builder) {
					big(b, tt.sizes...)
					b.ReturnConst(0)
				}))
				if (code.ScratchBytes > 0) != tt.scratch {
					t.Errorf("scratch bytes %d, stack %d", code.ScratchBytes, code.Stats.StackBytes)
				}
				if code.Stats.StackBytes > bpf.StackLimit {
					t.Errorf("%d bytes of stack", code.Stats.StackBytes)
				}
			})
		}
	})
}

// TestKernelScratchLevels marks levels as busy by hand: the program must take the next, give back only its own, and count when none is left.
func TestKernelScratchLevels(t *testing.T) {
	eachVariant(t, func(t *testing.T, opts bpf.Options) {
		m := newMachine(t, opts, arraySpec("in", 64), arraySpec("out", 64))
		p, code, err := m.load(built(t, func(b *ir.Builder) {
			b.If(b.CmpImm(ir.OpEq, b.Load(b.Param(0), 0, 8, false), 1), func() {
				big(b, 2000)
				b.If(b.CmpImm(ir.OpEq, b.Load(b.Param(0), 8, 8, false), 1), func() { b.ReturnConst(5) }, nil)
			}, nil)
			b.ReturnConst(7)
		}))
		if err != nil {
			t.Fatalf("%v\n%s", err, dump(code))
		}
		scratch := m.maps["scratch"]
		busy := func() (words [bpf.ScratchLevels]uint64) {
			for level := range words {
				var values [][]byte
				if err := scratch.Lookup(uint32(level), &values); err != nil {
					t.Fatal(err)
				}
				for _, v := range values {
					words[level] += binary.LittleEndian.Uint64(v)
				}
			}
			return words
		}
		setBusy := func(level int, x uint64) {
			cpus, err := ebpf.PossibleCPU()
			if err != nil {
				t.Fatal(err)
			}
			values := make([][]byte, cpus)
			for i := range values {
				values[i] = make([]byte, scratch.ValueSize())
				binary.LittleEndian.PutUint64(values[i], x)
			}
			if err := scratch.Put(uint32(level), values); err != nil {
				t.Fatal(err)
			}
		}
		counter := func() (n uint64) {
			var values []uint64
			if err := m.maps["counters"].Lookup(uint32(opts.Scratch.CounterKey), &values); err != nil {
				t.Fatal(err)
			}
			for _, v := range values {
				n += v
			}
			return n
		}
		cpus, _ := ebpf.PossibleCPU()
		var want [bpf.ScratchLevels]uint64
		for level := range bpf.ScratchLevels {
			for _, second := range []uint64{0, 1} {
				if got, want := run(t, p, 1, second), uint32(7-2*second); got != want {
					t.Errorf("with %d levels busy: result %d, want %d", level, got, want)
				}
			}
			if got := busy(); got != want {
				t.Errorf("with %d levels busy: busy words %v, want %v", level, got, want)
			}
			setBusy(level, 1)
			want[level] = uint64(cpus)
		}
		if n := counter(); n != 0 {
			t.Errorf("%d runs counted as skipped too early", n)
		}
		if got := run(t, p, 1, 0); got != 0 {
			t.Errorf("with all levels busy: result %d", got)
		}
		if got := run(t, p, 0, 0); got != 7 {
			t.Errorf("a run that needs no scratch memory: result %d", got)
		}
		if n := counter(); n != 1 {
			t.Errorf("%d runs counted as skipped, want 1", n)
		}
		if got := busy(); got != want {
			t.Errorf("at the end: busy words %v, want %v", got, want)
		}
	})
}

func TestKernelScratchWhileReserved(t *testing.T) {
	// A failed claim returns, which must not happen while a record is reserved.
	eachVariant(t, func(t *testing.T, opts bpf.Options) {
		ring := &ebpf.MapSpec{Name: "ring", Type: ebpf.RingBuf, MaxEntries: 1 << 16}
		code, _ := compare(t, opts, built(t, func(b *ir.Builder) {
			r := b.CheckNonNil(b.Helper(asm.FnRingbufReserve, b.MapRef("ring"), b.Const(64), b.Const(0)), func() { b.ReturnConst(0) })
			big(b, 3000)
			b.Store(r, 0, 8, b.Const(1))
			b.Helper(asm.FnRingbufSubmit, r, b.Const(0))
			b.ReturnConst(0)
		}), ring)
		if code.ScratchBytes == 0 {
			t.Error("no scratch memory")
		}
	})
}

func TestKernelCalls(t *testing.T) {
	needBPF(t)
	loop := haveLoop()
	each := haveHelper(asm.FnForEachMapElem)
	eachVariant(t, func(t *testing.T, opts bpf.Options) {
		t.Run("subprogram", func(t *testing.T) {
			sub := ir.NewFunc("sub", ir.Subprog, ir.I64, ir.Stack, ir.I64, ir.I64, ir.I64)
			b := ir.NewBuilder(sub)
			s := b.SlotAddr(b.NewSlot("s", 64, 8), 0)
			b.Zero(s, 0, 64)
			b.Store(s, 8, 8, b.Param(0))
			b.Copy(b.Param(1), 0, s, 0, 16)
			b.Helper(asm.FnKtimeGetNs)
			b.Return(b.Add(b.Mul(b.Param(2), b.Param(3)), b.Param(4)))
			finish(t, b)
			compare(t, opts, built(t, func(b *ir.Builder) {
				in := b.MapValAddr("in", 0)
				p := b.SlotAddr(b.NewSlot("s", 16, 8), 0)
				b.Zero(p, 0, 16)
				x, y := b.Load(in, 8, 8, false), b.Load(in, 16, 8, false)
				out(b, 0, b.Call(sub, x, p, y, b.Const(3), x))
				out(b, 1, b.Load(p, 8, 8, false))
				out(b, 2, b.Call(sub, y, p, x, b.Const(1<<40), x))
				out(b, 3, b.Load(p, 8, 8, false))
				b.ReturnConst(0)
			}))
		})
		for _, large := range []int{64, 30 << 10, 100 << 10} {
			t.Run(fmt.Sprintf("global functions that share memory with %d bytes in between", large), func(t *testing.T) {
				// main calls outer calls inner, in loops, and all three write to the same place. What outer has for itself stays as it is.
				main := ir.NewFunc("main", ir.Entry, ir.Ctx)
				outer, inner := ir.NewFunc("outer", ir.Global, ir.I64), ir.NewFunc("inner", ir.Global, ir.I64, ir.I64)
				b := ir.NewBuilder(main)
				var between []*ir.Slot // in use all the time
				for left := large; left > 0; left -= 16 << 10 {
					s := scratchSlot(b, min(left, 16<<10))
					b.Store(b.SlotAddr(s, 0), 0, 8, b.Const(int64(left)))
					between = append(between, s)
				}
				sum := scratchSlot(b, 16)
				b.Zero(b.SlotAddr(sum, 0), 0, 16)
				b.For(b.Const(0), b.Const(200), func(i *ir.Value, l *ir.Loop) {
					b.Branch(ir.OpEq, b.Call(outer, i), b.Const(0), l.Continue, l.Break)
				})
				out(b, 0, b.Load(b.SlotAddr(sum, 0), 0, 8, false))
				out(b, 1, b.Load(b.SlotAddr(sum, 0), 8, 8, false))
				for i, s := range between {
					out(b, 2+i, b.Load(b.SlotAddr(s, 0), 0, 8, false))
				}
				b.ReturnConst(0)

				o := ir.NewBuilder(outer)
				own := scratchSlot(o, 8)
				o.Store(o.SlotAddr(own, 0), 0, 8, o.Param(0))
				p := o.SlotAddr(outer.Alias(sum, main), 0)
				o.For(o.Const(0), o.Const(300), func(i *ir.Value, l *ir.Loop) {
					o.Branch(ir.OpEq, o.Call(inner, i, o.Param(0)), o.Const(0), l.Continue, l.Break)
				})
				o.Store(p, 8, 8, o.Add(o.Load(p, 8, 8, false), o.Load(o.SlotAddr(own, 0), 0, 8, false)))
				o.Return(o.CmpImm(ir.OpEq, o.Param(0), 150))
				finish(t, o)

				n := ir.NewBuilder(inner)
				q := n.SlotAddr(inner.Alias(outer.Alias(sum, main), outer), 0)
				n.Store(n.SlotAddr(scratchSlot(n, 8), 0), 0, 8, n.Const(-1))
				n.Store(q, 0, 8, n.Add(n.Load(q, 0, 8, false), n.Param(0)))
				n.Return(n.Cmp(ir.OpEq, n.Param(0), n.Param(1)))
				finish(t, n)
				finish(t, b)
				_, xs := compare(t, opts, &ir.Module{Funcs: []*ir.Func{main, outer, inner}})
				var want uint64
				for i := range uint64(151) {
					want += i * (i + 1) / 2
				}
				if xs[0] != want || xs[1] != 150*151/2 {
					t.Errorf("got %d and %d, want %d and %d", xs[0], xs[1], want, 150*151/2)
				}
			})
		}
		t.Run("bpf_loop", func(t *testing.T) {
			if !loop {
				t.Skip("needs bpf_loop (Linux 5.17)")
			}
			cb := ir.NewFunc("turn", ir.Callback, ir.I64, ir.Stack)
			b := ir.NewBuilder(cb)
			ctx := b.Param(1)
			b.Store(ctx, 0, 8, b.Add(b.Mul(b.Load(ctx, 0, 8, false), b.Const(3)), b.Param(0)))
			b.Return(b.CmpImm(ir.OpEq, b.Param(0), 500))
			finish(t, b)
			_, xs := compare(t, opts, built(t, func(b *ir.Builder) {
				ctx := b.SlotAddr(b.NewSlot("ctx", 8, 8), 0)
				b.Store(ctx, 0, 8, b.Const(1))
				out(b, 0, b.Helper(asm.FnLoop, b.Const(1000), b.FuncRef(cb), ctx, b.Const(0)))
				out(b, 1, b.Load(ctx, 0, 8, false))
				b.ReturnConst(0)
			}))
			if xs[0] != 501 {
				t.Errorf("%d turns", xs[0])
			}
		})
		t.Run("callback with scratch memory and a pointer from its caller", func(t *testing.T) {
			if !loop {
				t.Skip("needs bpf_loop (Linux 5.17)")
			}
			cb := ir.NewFunc("turn", ir.Callback, ir.I64, ir.Stack)
			b := ir.NewBuilder(cb)
			// The caller's context holds a pointer to a map value.
			p := b.LoadPtr(b.Param(1), 0, ir.MapVal)
			s := b.SlotAddr(b.NewSlot("s", 1000, 8), 0)
			b.Zero(s, 0, 1000)
			b.Store(s, 800, 8, b.Param(0))
			b.Store(p, 0, 8, b.Add(b.Load(p, 0, 8, false), b.Load(s, 800, 8, false)))
			b.ReturnConst(0)
			finish(t, b)
			_, xs := compare(t, opts, built(t, func(b *ir.Builder) {
				big(b, 2000)
				ctx := b.SlotAddr(b.NewSlot("ctx", 8, 8), 0)
				b.Store(ctx, 0, 8, b.MapValAddr("out", 8))
				b.Helper(asm.FnLoop, b.Const(10), b.FuncRef(cb), ctx, b.Const(0))
				b.ReturnConst(0)
			}))
			if xs[1] != 45 {
				t.Errorf("sum is %d", xs[1])
			}
		})
		t.Run("bpf_for_each_map_elem", func(t *testing.T) {
			if !each {
				t.Skip("needs bpf_for_each_map_elem (Linux 5.13)")
			}
			cb := ir.NewFunc("each", ir.Callback, ir.MapRef, ir.MapVal, ir.MapVal, ir.Stack)
			b := ir.NewBuilder(cb)
			ctx := b.Param(3)
			b.Store(ctx, 0, 8, b.Add(b.Load(ctx, 0, 8, false), b.Mul(b.Load(b.Param(1), 0, 8, false), b.Load(b.Param(2), 0, 8, false))))
			b.ReturnConst(0)
			finish(t, b)
			_, xs := compare(t, opts, built(t, func(b *ir.Builder) {
				key := b.SlotAddr(b.NewSlot("key", 8, 8), 0)
				val := b.SlotAddr(b.NewSlot("val", 8, 8), 0)
				ctx := b.SlotAddr(b.NewSlot("ctx", 8, 8), 0)
				h := b.MapRef("h")
				for i := range 5 {
					b.Store(key, 0, 8, b.Const(int64(i)))
					b.Store(val, 0, 8, b.Const(int64(10*i)))
					b.Helper(asm.FnMapUpdateElem, h, key, val, b.Const(0))
				}
				b.Store(ctx, 0, 8, b.Const(0))
				out(b, 0, b.Helper(asm.FnForEachMapElem, h, b.FuncRef(cb), ctx, b.Const(0)))
				out(b, 1, b.Load(ctx, 0, 8, false))
				b.ReturnConst(0)
			}), hashSpec("h", 8, 8))
			if xs[0] != 5 || xs[1] != 300 {
				t.Errorf("%d elements, sum %d", xs[0], xs[1])
			}
		})
	})
}

func TestKernelPointerAsInteger(t *testing.T) {
	needBPF(t)
	if !haveHelper(asm.FnGetCurrentTaskBtf) {
		t.Skip("needs bpf_get_current_task_btf (Linux 5.11)")
	}
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, opts, arraySpec("out", 64))
			p, code, err := m.load(built(t, func(b *ir.Builder) {
				task := b.Helper(asm.FnGetCurrentTask)
				out(b, 0, b.Xor(b.PtrInt(b.Helper(asm.FnGetCurrentTaskBtf)), task))
				out(b, 1, b.And(task, b.Const(7)))
				b.ReturnConst(0)
			}))
			if err != nil {
				t.Fatalf("%v\n%s", err, dump(code))
			}
			m.setArray("out", make([]byte, 64))
			run(t, p, 0)
			if got := binary.LittleEndian.Uint64(m.arrayValue("out")); got != 0 {
				t.Errorf("the two addresses differ in bits %#x", got)
			}
		})
	}
}

func TestKernelKfunc(t *testing.T) {
	needBPF(t)
	opts := features()
	opts.KfuncID = func(name string) (int64, error) {
		spec, err := btf.LoadKernelSpec()
		if err != nil {
			return 0, err
		}
		var fn *btf.Func
		if err := spec.TypeByName(name, &fn); err != nil {
			return 0, err
		}
		id, err := spec.TypeID(fn)
		return int64(id), err
	}
	if _, err := opts.KfuncID("bpf_rcu_read_lock"); err != nil {
		t.Skipf("needs the kernel function bpf_rcu_read_lock (Linux 6.2): %v", err)
	}
	m := newMachine(t, opts)
	p, code, err := m.load(built(t, func(b *ir.Builder) {
		b.Kfunc(ir.Void, "bpf_rcu_read_lock")
		b.Kfunc(ir.Void, "bpf_rcu_read_unlock")
		b.ReturnConst(3)
	}))
	if err != nil {
		t.Fatalf("%v\n%s", err, dump(code))
	}
	if got := run(t, p, 0); got != 3 {
		t.Errorf("result %d", got)
	}
}

// TestKernelFarJump has a branch over more instructions than a 16-bit offset reaches.
func TestKernelFarJump(t *testing.T) {
	mod := built(t, func(b *ir.Builder) {
		x := b.Load(b.Param(0), 0, 8, false)
		b.Span = source.Span{Start: 10, End: 20}
		b.If(b.CmpImm(ir.OpEq, x, 1), func() {
			p := b.MapValAddr("out", 0)
			for i := range 40000 {
				b.Store(p, 8*(i%8), 8, b.Const(int64(i)))
			}
		}, nil)
		b.ReturnConst(3)
	})
	if _, err := bpf.Emit(mod, mod.Funcs[0], bpf.Options{}); err == nil {
		t.Error("a jump over 40000 instructions was encoded without long jumps")
	} else if e, ok := bpf.AsError(err); !ok || e.Span.Start != 10 {
		t.Errorf("error without its place: %v", err)
	}
	needBPF(t)
	if !features().CPUv4 {
		t.Skip("needs cpu v4 (Linux 6.6)")
	}
	m := newMachine(t, features(), arraySpec("out", 64))
	p, _, err := m.load(mod)
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, p, 0); got != 3 {
		t.Errorf("result %d", got)
	}
	run(t, p, 1)
	if got := binary.LittleEndian.Uint64(m.arrayValue("out")); got != 39992 {
		t.Errorf("the last store to the first word was %d", got)
	}
}

func TestEmitErrors(t *testing.T) {
	noScratch := bpf.Options{}
	with := bpf.Options{Scratch: bpf.Scratch{Map: "scratch"}}
	tests := []struct {
		name  string
		opts  bpf.Options
		build func(b *ir.Builder)
		want  string
	}{
		{"no scratch memory", noScratch, func(b *ir.Builder) { big(b, 1000) }, "there is no scratch memory"},
		{"a place larger than a chunk", with, func(b *ir.Builder) { big(b, 40000) }, "more than the 32760"},
		{"places that must be on the stack", with, func(b *ir.Builder) {
			s := b.NewSlot("s", 600, 8)
			s.Class = ir.SlotStack
			b.Zero(b.SlotAddr(s, 0), 0, 600)
			b.Helper(asm.FnTracePrintk, b.SlotAddr(s, 0), b.Const(600))
		}, "the kernel allows"},
		{"no kernel functions", with, func(b *ir.Builder) { b.Kfunc(ir.Void, "bpf_x") }, "no kernel functions"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mod := built(t, func(b *ir.Builder) {
				tt.build(b)
				b.ReturnConst(0)
			})
			_, err := bpf.Emit(mod, mod.Funcs[0], tt.opts)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestSpans(t *testing.T) {
	mod := built(t, func(b *ir.Builder) {
		b.Span = source.Span{Start: 1, End: 5}
		x := b.Load(b.Param(0), 0, 8, false)
		b.Span = source.Span{Start: 6, End: 9}
		b.Store(b.MapValAddr("out", 0), 0, 8, x)
		b.Span = source.Span{Start: 10, End: 12}
		b.ReturnConst(0)
	})
	code, err := bpf.Emit(mod, mod.Funcs[0], bpf.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(code.Spans)
	// load; two slots of an address; store; mov and exit
	if want := "[{0 {1 5}} {1 {6 9}} {4 {10 12}}]"; got != want {
		t.Errorf("got %s, want %s\n%s", got, want, dump(code))
	}
}

// scratchSlot is a place that must lie in scratch memory.
func scratchSlot(b *ir.Builder, size int) *ir.Slot {
	s := b.NewSlot("scratch", size, 8)
	s.Class = ir.SlotScratch
	return s
}
