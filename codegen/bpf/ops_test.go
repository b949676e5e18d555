package bpf_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/ir/interp"
)

// edges are the operands that break arithmetic.
var edges = []uint64{
	0, 1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 65, 100, 127, 128, 255, 256, 1000, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0x80000001, 0xffffffff,
	0x100000000, 0x123456789abcdef0, 0x7fffffffffffffff, 0x8000000000000000, 0x8000000000000001, 0xdeadbeefcafebabe, 0xffffffff7fffffff, 0xffffffff80000000, 0xffffffffffff8000,
	0xffffffffffffff80, 0xffffffffffffff00, 0xfffffffffffffffd, 0xfffffffffffffffe, 0xffffffffffffffff, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa, 0x00ff00ff00ff00ff, 0xff00ff00ff00ff00,
}

// tableEntry is one op of the semantics table.
type tableEntry struct {
	name  string
	arity int
	build func(b *ir.Builder, x, y *ir.Value) *ir.Value
}

func semantics() []tableEntry {
	var t []tableEntry
	add := func(name string, arity int, fn func(b *ir.Builder, x, y *ir.Value) *ir.Value) {
		t = append(t, tableEntry{name, arity, fn})
	}
	for op := ir.OpAdd; op < ir.OpLoad; op++ {
		info := ir.Ops[op]
		switch {
		case info.Compare || info.Args == 2 && !info.HasAux && op < ir.OpNeg:
			add(op.String(), 2, func(b *ir.Builder, x, y *ir.Value) *ir.Value { return b.Op2(op, x, y) })
			add(op.String()+" narrowed", 2, func(b *ir.Builder, x, y *ir.Value) *ir.Value { return b.Ext(b.Op2(op, x, y), 32, false) })
			for _, c := range []int64{0, 1, -1, 7, 8, 64, 65, -5, math.MaxInt32, math.MinInt32, math.MaxInt32 + 1, math.MinInt64, math.MaxInt64} {
				add(fmt.Sprintf("%s by %d", op, c), 1, func(b *ir.Builder, x, _ *ir.Value) *ir.Value { return b.Op2(op, x, b.Const(c)) })
				add(fmt.Sprintf("%d %s", c, op), 1, func(b *ir.Builder, x, _ *ir.Value) *ir.Value { return b.Op2(op, b.Const(c), x) })
				add(fmt.Sprintf("%s by %d narrowed", op, c), 1, func(b *ir.Builder, x, _ *ir.Value) *ir.Value {
					return b.Ext(b.Op2(op, x, b.Const(c)), 32, false)
				})
			}
		case op == ir.OpNeg || op == ir.OpNot:
			add(op.String(), 1, func(b *ir.Builder, x, _ *ir.Value) *ir.Value { return b.Emit(op, ir.I64, x) })
			add(op.String()+" narrowed", 1, func(b *ir.Builder, x, _ *ir.Value) *ir.Value { return b.Ext(b.Emit(op, ir.I64, x), 32, false) })
		}
		if info.Compare {
			add("branch "+op.String(), 2, func(b *ir.Builder, x, y *ir.Value) *ir.Value {
				return b.IfValue(b.Cmp(op, x, y), ir.I64, func() *ir.Value { return b.Const(7) }, func() *ir.Value { return x })
			})
			add("select "+op.String(), 2, func(b *ir.Builder, x, y *ir.Value) *ir.Value {
				return b.Select(b.Cmp(op, x, y), b.AddImm(x, 3), b.AddImm(y, 5))
			})
			add("not "+op.String(), 2, func(b *ir.Builder, x, y *ir.Value) *ir.Value {
				return b.IfValue(b.CmpImm(ir.OpEq, b.Cmp(op, x, y), 0), ir.I64, func() *ir.Value { return b.Const(7) }, func() *ir.Value { return y })
			})
		}
	}
	for _, bits := range []int{8, 16, 32} {
		add(fmt.Sprintf("zext %d", bits), 1, func(b *ir.Builder, x, _ *ir.Value) *ir.Value { return b.Ext(x, bits, false) })
		add(fmt.Sprintf("sext %d", bits), 1, func(b *ir.Builder, x, _ *ir.Value) *ir.Value { return b.Ext(x, bits, true) })
	}
	for _, bits := range []int{16, 32, 64} {
		add(fmt.Sprintf("bswap %d", bits), 1, func(b *ir.Builder, x, _ *ir.Value) *ir.Value { return b.Bswap(x, bits) })
	}
	for _, n := range []int64{0, 1, 255, math.MaxInt32} {
		add(fmt.Sprintf("bound %d", n), 1, func(b *ir.Builder, x, _ *ir.Value) *ir.Value { return b.Bound(x, n) })
	}
	add("select value", 2, func(b *ir.Builder, x, y *ir.Value) *ir.Value { return b.Select(x, y, b.Const(-9)) })
	add("select large", 2, func(b *ir.Builder, x, y *ir.Value) *ir.Value {
		return b.Select(x, b.Const(math.MinInt64), b.Const(math.MaxInt64))
	})
	for _, size := range []int{1, 2, 4, 8} {
		for _, signed := range []bool{false, true} {
			for off := range 9 {
				add(fmt.Sprintf("store and load %d at %d signed %v", size, off, signed), 1, func(b *ir.Builder, x, _ *ir.Value) *ir.Value {
					s := b.SlotAddr(b.NewSlot("s", 24, 8), 0)
					b.Zero(s, 0, 24)
					b.Store(s, off, size, x)
					return b.Add(b.Load(s, off, size, signed), b.Mul(b.Load(s, 8, 8, false), b.Const(3)))
				})
			}
		}
		add(fmt.Sprintf("store %d of a constant", size), 1, func(b *ir.Builder, x, _ *ir.Value) *ir.Value {
			s := b.SlotAddr(b.NewSlot("s", 8, 8), 0)
			b.Store(s, 0, 8, x)
			b.Store(s, 0, size, b.Const(-0x123456789abcdef))
			return b.Load(s, 0, 8, false)
		})
	}
	for _, size := range []int{4, 8} {
		add(fmt.Sprintf("atomicadd %d", size), 2, func(b *ir.Builder, x, y *ir.Value) *ir.Value {
			s := b.SlotAddr(b.NewSlot("s", 8, 8), 0)
			b.Store(s, 0, 8, x)
			b.AtomicAdd(s, 0, size, y)
			return b.Load(s, 0, 8, false)
		})
		if !features().AtomicFetch {
			continue
		}
		mix := func(b *ir.Builder, s, old *ir.Value) *ir.Value {
			return b.Add(b.Mul(old, b.Const(31)), b.Load(s, 0, 8, false))
		}
		add(fmt.Sprintf("fetchadd %d", size), 2, func(b *ir.Builder, x, y *ir.Value) *ir.Value {
			s := b.SlotAddr(b.NewSlot("s", 8, 8), 0)
			b.Store(s, 0, 8, x)
			return mix(b, s, b.FetchAdd(s, 0, size, y))
		})
		add(fmt.Sprintf("xchg %d", size), 2, func(b *ir.Builder, x, y *ir.Value) *ir.Value {
			s := b.SlotAddr(b.NewSlot("s", 8, 8), 0)
			b.Store(s, 0, 8, x)
			return mix(b, s, b.Xchg(s, 0, size, y))
		})
		add(fmt.Sprintf("cmpxchg %d", size), 2, func(b *ir.Builder, x, y *ir.Value) *ir.Value {
			s := b.SlotAddr(b.NewSlot("s", 8, 8), 0)
			b.Store(s, 0, 8, x)
			return mix(b, s, b.CmpXchg(s, 0, size, y, b.Const(77)))
		})
	}
	for _, n := range []int{1, 3, 7, 8, 12, 15, 16, 31, 64, 129, 200, 300} {
		add(fmt.Sprintf("zero and copy %d", n), 1, func(b *ir.Builder, x, _ *ir.Value) *ir.Value {
			size := n + 16
			src, dst := b.SlotAddr(b.NewSlot("src", size, 1), 0), b.SlotAddr(b.NewSlot("dst", size, 1), 0)
			for i := 0; i < size; i++ {
				b.Store(src, i, 1, b.AddImm(x, int64(i)))
				b.Store(dst, i, 1, b.Const(int64(i)))
			}
			b.Zero(dst, 3, n)
			b.Copy(dst, 5, src, 2, n)
			sum := b.Const(0)
			for i := 0; i < size; i++ {
				sum = b.Add(b.Mul(sum, b.Const(31)), b.Load(dst, i, 1, true))
			}
			return sum
		})
	}
	return t
}

// TestKernelSemantics computes every op of the table on pairs of edge cases in the interpreter and in the kernel. One program handles all
// pairs of one op: its context is the two operands.
func TestKernelSemantics(t *testing.T) {
	needBPF(t)
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			for _, e := range semantics() {
				m := newMachine(t, opts, arraySpec("in", 16), arraySpec("out", 8))
				f := ir.NewFunc("f", ir.Entry, ir.Ctx)
				b := ir.NewBuilder(f)
				in := b.MapValAddr("in", 0)
				x, y := b.Load(in, 0, 8, false), b.Load(in, 8, 8, false)
				b.Store(b.MapValAddr("out", 0), 0, 8, e.build(b, x, y))
				b.ReturnConst(0)
				finish(t, b)
				mod := &ir.Module{Funcs: []*ir.Func{f}}
				p, code, err := m.load(mod)
				if err != nil {
					t.Fatalf("%s: %v\n%s\n%s", e.name, err, f, dump(code))
				}
				im := m.interpreter()
				ys := edges
				if e.arity == 1 {
					ys = edges[:1]
				}
				bad := 0
				for _, x := range edges {
					for _, y := range ys {
						m.setArray("in", words(x, y))
						run(t, p, 0)
						copy(im.ArrayBytes("in", 0), words(x, y))
						if _, err := im.Run(f, make([]byte, 8)); err != nil {
							t.Fatalf("%s: %v\n%s", e.name, err, f)
						}
						got, want := binary.LittleEndian.Uint64(m.arrayValue("out")), binary.LittleEndian.Uint64(im.ArrayBytes("out", 0))
						if got != want {
							t.Errorf("%s of %#x and %#x: kernel %#x, interpreter %#x", e.name, x, y, got, want)
							if bad++; bad == 3 {
								t.Fatalf("%s\n%s", f, dump(code))
							}
						}
					}
				}
				p.Close()
				for _, km := range m.maps {
					km.Close()
				}
			}
		})
	}
}

// TestArith checks the definition of the ops against facts stated by hand.
func TestArith(t *testing.T) {
	tests := []struct {
		op   ir.Op
		size uint8
		args []uint64
		want uint64
	}{
		{ir.OpUDiv, 0, []uint64{7, 0}, 0},
		{ir.OpUMod, 0, []uint64{7, 0}, 7},
		{ir.OpSDiv, 0, []uint64{1 << 63, ^uint64(0)}, 1 << 63},
		{ir.OpSMod, 0, []uint64{1 << 63, ^uint64(0)}, 0},
		{ir.OpSDiv, 0, []uint64{^uint64(6), 2}, ^uint64(2)},
		{ir.OpSMod, 0, []uint64{^uint64(6), 2}, ^uint64(0)},
		{ir.OpShl, 0, []uint64{1, 65}, 2},
		{ir.OpSExt, 8, []uint64{0x80}, 0xffffffffffffff80},
		{ir.OpZExt, 16, []uint64{0x12345}, 0x2345},
		{ir.OpBswap, 32, []uint64{0x1122334455667788}, 0x88776655},
		{ir.OpSet, 0, []uint64{6, 8}, 0},
		{ir.OpSet, 0, []uint64{6, 4}, 1},
	}
	for _, tt := range tests {
		got, ok := interp.Arith(tt.op, tt.size, 0, tt.args...)
		if !ok || got != tt.want {
			t.Errorf("%s %x: got %#x, want %#x", tt.op, tt.args, got, tt.want)
		}
	}
}
