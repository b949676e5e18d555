package ir

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/cilium/ebpf/asm"
)

var update = flag.Bool("update", false, "rewrite golden files")

// everyOp is a module that uses each op once.
func everyOp(tb testing.TB) *Module {
	tb.Helper()
	cb := NewFunc("each", Callback, I64, Stack)
	b := NewBuilder(cb)
	b.ReturnConst(0)
	mustFinish(tb, b)
	sub := NewFunc("sub", Subprog, I64, Stack)
	b = NewBuilder(sub)
	b.Return(b.Add(b.Param(0), b.Load(b.Param(1), 0, 8, false)))
	mustFinish(tb, b)

	f := NewFunc("main", Entry, Ctx)
	b = NewBuilder(f)
	s := b.NewSlot("buf", 32, 8)
	x, y := b.Load(b.Param(0), 8, 4, true), b.Const(-3)
	for op := OpAdd; op <= OpAShr; op++ {
		b.Op2(op, x, y)
	}
	b.Neg(x)
	b.Not(x)
	b.Ext(x, 16, false)
	b.Ext(x, 8, true)
	b.Bswap(x, 32)
	for op := OpEq; op <= OpSet; op++ {
		b.Cmp(op, x, y)
	}
	b.Select(x, x, y)
	bound := b.Bound(x, 16)
	p := b.SlotAddr(s, 0)
	b.PtrAdd(p, bound)
	b.PtrDiff(p, p)
	b.PtrInt(p)
	b.Store(p, 0, 8, x)
	b.Store(p, 8, 8, p)
	b.LoadPtr(p, 8, Stack)
	b.Zero(p, 16, 16)
	g := b.MapValAddr("globals", 8)
	b.Copy(p, 16, g, 0, 8)
	b.AtomicAdd(g, 0, 8, x)
	b.FetchAdd(g, 0, 4, x)
	b.Xchg(g, 0, 8, x)
	b.CmpXchg(g, 0, 8, y, x)
	task := b.Helper(asm.FnGetCurrentTaskBtf)
	b.BTFCast(task, "task_struct")
	b.Call(sub, x, p)
	b.Kfunc(I64, "bpf_cpumask_first", x)
	b.Helper(asm.FnForEachMapElem, b.MapRef("@x"), b.FuncRef(cb), p, b.Const(0))
	v := b.NewVar("v", I64)
	b.Set(v, y)
	b.IfNonNil(b.Helper(asm.FnMapLookupElem, b.MapRef("@x"), p), func(p *Value) {
		b.Set(v, b.Load(p, 0, 8, false))
	}, nil)
	b.Return(b.Get(v))
	mustFinish(tb, b)
	m := &Module{Funcs: []*Func{f, sub, cb}}
	if err := m.Verify(); err != nil {
		tb.Fatal(err)
	}
	return m
}

func mustFinish(tb testing.TB, b *Builder) {
	tb.Helper()
	if err := b.Finish(); err != nil {
		tb.Fatalf("%v\n%s", err, b.F)
	}
}

func TestEveryOpRoundTrips(t *testing.T) {
	m := everyOp(t)
	text := m.String()
	for op := OpConst; op < NumOps; op++ {
		if !strings.Contains(text, " "+Ops[op].Name) {
			t.Errorf("%s is not in the text", op)
		}
	}
	back, err := Parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if got := back.String(); got != text {
		t.Errorf("text changed:\n%s\nto:\n%s", text, got)
	}
	if err := back.Verify(); err != nil {
		t.Error(err)
	}
	if got := m.Clone().String(); got != text {
		t.Errorf("clone differs:\n%s", got)
	}
	if err := m.Clone().Verify(); err != nil {
		t.Error(err)
	}
}

func TestBuilderGolden(t *testing.T) {
	builds := map[string]func(b *Builder){
		"loop_with_break_and_continue": func(b *Builder) {
			sum := b.NewVar("sum", I64)
			b.Set(sum, b.Const(0))
			b.For(b.Const(0), b.Const(10), func(i *Value, l *Loop) {
				b.If(b.CmpImm(OpEq, i, 3), func() { b.Jump(l.Continue) }, nil)
				b.If(b.CmpImm(OpEq, i, 7), func() { b.Jump(l.Break) }, nil)
				b.Set(sum, b.Add(b.Get(sum), i))
			})
			b.Return(b.Get(sum))
		},
		"variable_unchanged_in_a_loop_needs_no_parameter": func(b *Builder) {
			k := b.NewVar("k", I64)
			b.Set(k, b.Load(b.Param(0), 0, 8, false))
			b.For(b.Const(0), b.Get(k), func(_ *Value, _ *Loop) { b.Get(k) })
			b.Return(b.Get(k))
		},
		"value_of_two_arms": func(b *Builder) {
			x := b.Load(b.Param(0), 0, 8, false)
			b.Return(b.IfValue(b.CmpImm(OpSLt, x, 0), I64, func() *Value { return b.Neg(x) }, func() *Value { return x }))
		},
		"code_behind_a_return_is_dropped": func(b *Builder) {
			x := b.Load(b.Param(0), 0, 8, false)
			b.If(x, func() { b.ReturnConst(1) }, func() { b.ReturnConst(2) })
			p := b.NewVar("p", MapVal)
			b.Store(b.Get(p), 0, 8, b.Const(1))
			b.If(x, func() { b.Const(5) }, nil)
			b.ReturnConst(3)
		},
		"nil_check_and_cold_path": func(b *Builder) {
			s := b.NewSlot("key", 8, 8)
			key := b.SlotAddr(s, 0)
			b.Store(key, 0, 8, b.Const(0))
			p := b.Helper(asm.FnMapLookupElem, b.MapRef("@"), key)
			b.Store(b.CheckNonNil(p, func() { b.ReturnConst(0) }), 0, 8, b.Const(1))
			b.ReturnConst(0)
		},
	}
	const file = "testdata/builder.txtar"
	golden := map[string]string{}
	if ar, err := txtar.ParseFile(file); err == nil {
		for _, f := range ar.Files {
			golden[f.Name] = string(f.Data)
		}
	} else if !*update {
		t.Fatal(err)
	}
	out := &txtar.Archive{}
	for _, name := range sortedKeys(builds) {
		t.Run(name, func(t *testing.T) {
			b := NewBuilder(NewFunc("f", Entry, Ctx))
			builds[name](b)
			mustFinish(t, b)
			got := b.F.String()
			out.Files = append(out.Files, txtar.File{Name: name, Data: []byte(got)})
			if !*update && got != golden[name] {
				t.Errorf("got:\n%s\nwant:\n%s", got, golden[name])
			}
			back, err := ParseFunc(got)
			if err != nil {
				t.Fatal(err)
			}
			if back.String() != got {
				t.Errorf("text changed to:\n%s", back)
			}
		})
	}
	if *update {
		writeGolden(t, file, out)
	}
}

func writeGolden(tb testing.TB, file string, ar *txtar.Archive) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
		tb.Fatal(err)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	for i := range keys {
		for j := i; j > 0 && keys[j] < keys[j-1]; j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
		}
	}
	return keys
}

func TestBuilderPointerReadBeforeSet(t *testing.T) {
	b := NewBuilder(NewFunc("f", Entry, Ctx))
	p := b.NewVar("p", MapVal)
	b.Return(b.Load(b.Get(p), 0, 8, false))
	if err := b.Finish(); err == nil || !strings.Contains(err.Error(), `"p" is read where it was not set`) {
		t.Errorf("got %v", err)
	}
}

// TestVerify gives function bodies (what follows `func "f" entry {`) and what is wrong with them.
func TestVerify(t *testing.T) {
	const head = "b1(v2:ctx):\n"
	tests := []struct{ name, text, want string }{
		{"fine", head + "v3 = const 1\nret v3", ""},
		{"used before definition", head + "v3 = add v4 v4\nv4 = const 1\nret v3", "v4 is used before its definition"},
		{"not defined on one path", head + "v3 = const 1\nbr v3 eq v3 -> b4 b5\nb4:\nv6 = const 1\njump b5\nb5:\nret v6", "v6 of b4 is not defined on every path"},
		{"edge without argument", head + "v3 = const 1\njump b4\nb4(v5):\nret v5", "0 arguments for the 1 parameters"},
		{"edge with wrong type", head + "jump b4(v2)\nb4(v5):\nret v5", "v2 is a ctx, parameter v5 is a i64"},
		{"arithmetic on pointer", head + "v3 = add v2 v2\nret v3", "v2 is a ctx"},
		{"load through nil", head + "v3:map = map \"m\"\nv4:mapnil = helper FnMapLookupElem v3 v3\nv5 = load.8 [v4]\nret v5", "loads through a mapnil"},
		{"nonnil without check", head + "v3:map = map \"m\"\nv4:mapnil = helper FnMapLookupElem v3 v3\nv5:mapval = nonnil v4\nv6 = load.8 [v5]\nret v6", "no branch on v4"},
		{"nonnil on the nil side", head + "v3:map = map \"m\"\nv4:mapnil = helper FnMapLookupElem v3 v3\nv7 = const 0\nbr v4 eq v7 -> b8 b9\nb8:\nv5:mapval = nonnil v4\nret v7\nb9:\nret v7", "no branch on v4"},
		{"nil as an argument", head + "v3:map = map \"m\"\nv4:mapnil = helper FnMapLookupElem v3 v3\nv5 = helper 6 v4\nret v5", "v4 may be nil"},
		{"outside the slot", "slot s9 \"k\" size 8 align 8 stack\n" + head + "v3:stack = slot s9\nv4 = load.8 [v3+4]\nret v4", "bytes 4 to 12 of the 8"},
		{"store of a pointer into a map", head + "v3:mapval = mapval \"g\"\nstore.8 [v3] v2\nv4 = const 1\nret v4", "stores a ctx"},
		{"bad extension", head + "v3 = const 1\nv4 = zext.9 v3\nret v4", "extends 9 bits"},
		{"negative bound", head + "v3 = const 1\nv4 = bound v3 -1\nret v4", "bound out of range"},
		{"unreachable block", head + "v3 = const 1\nret v3\nb4:\nret v3", "cannot be reached"},
		{"jump to entry", head + "jump b1", "edge to the entry block"},
		{"returns a pointer", head + "ret v2", "returns a ctx"},
		{"wrong result type", head + "v3:ctx = const 1\nv4 = const 1\nret v4", "has type ctx"},
		{"context stored to", head + "v3 = const 1\nstore.8 [v2] v3\nret v3", "stores through a ctx"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := ParseFunc("func \"f\" entry {\n" + tt.text + "\n}")
			if err != nil {
				t.Fatal(err)
			}
			err = Verify(f)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestVerifyGlobal checks the rules for functions that the kernel checks on their own, and that their slots survive text and copies.
func TestVerifyGlobal(t *testing.T) {
	const main = "func \"main\" entry {\nslot s9 \"x\" size 8 align 8 scratch shared\nb1(v2:ctx):\nv3 = const 1\nv4 = call \"f\" v3\nret v4\n}\n"
	const slot = "slot s5 \"x\" size 8 align 8 scratch of \"main\" s9\n"
	const code = "b1(v2):\nret v2\n"
	tests := []struct{ name, text, want string }{
		{"fine", main + "func \"f\" global {\n" + slot + "b1(v2):\nv3:stack = slot s5\nstore.8 [v3] v2\nret v2\n}", ""},
		{"pointer as a parameter", "func \"f\" global {\nb1(v2:stack):\nv3 = const 1\nret v3\n}\n" + main, "v2 is a stack"},
		{"five parameters", "func \"f\" global {\nb1(v2 v3 v4 v5 v6):\nret v2\n}\n" + main, "more than 4 parameters"},
		{"a subprog with a shared slot", main + "func \"f\" subprog {\n" + slot + code + "}", "does not match the slot"},
		{"another size", main + "func \"f\" global {\nslot s5 \"x\" size 4 align 4 scratch of \"main\" s9\n" + code + "}", "does not match the slot"},
		{"on the stack", main + "func \"f\" global {\nslot s5 \"x\" size 8 align 8 stack of \"main\" s9\n" + code + "}", "not in scratch memory"},
		{"not shared", strings.Replace(main, " shared", "", 1) + "func \"f\" global {\n" + slot + code + "}", "does not match the slot"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Parse(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			text := m.String()
			if back, err := Parse(text); err != nil || back.String() != text {
				t.Errorf("text changed: %v", err)
			}
			for _, m := range []*Module{m, m.Clone()} {
				if got := m.String(); got != text {
					t.Errorf("clone differs:\n%s", got)
				}
				switch err := m.Verify(); {
				case tt.want == "" && err != nil:
					t.Error(err)
				case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
					t.Errorf("got %v, want %s", err, tt.want)
				}
			}
		})
	}
	c, err := Parse(tests[0].text)
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Clone(); d.Funcs[1].Slots[0].Of != d.Funcs[0].Slots[0] || d.Funcs[1].Slots[0].In != d.Funcs[0] {
		t.Error("the copy's slot stands for one of another module")
	}
	c.Funcs = c.Funcs[1:]
	if err := c.Verify(); err == nil || !strings.Contains(err.Error(), "not in the module") {
		t.Errorf("a slot of a function that is not there: %v", err)
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"no function", "b1:", `"func" expected`},
		{"no kind", `func "f" x {`, `no function kind "x"`},
		{"not closed", `func "f" entry {`, "is not closed"},
		{"twice", "func \"f\" entry {\nb1(v2:ctx):\nv2 = const 1", "v2 is defined twice"},
		{"unknown value", "func \"f\" entry {\nb1(v2:ctx):\nret v3\n}", "v3 of line 3 is not defined"},
		{"unknown block", "func \"f\" entry {\nb1(v2:ctx):\njump b3\n}", "b3 of line 3 is not defined"},
		{"unknown op", "func \"f\" entry {\nb1(v2:ctx):\nv3 = frob v2\n}", `no op "frob"`},
		{"unknown callee", "func \"f\" entry {\nb1(v2:ctx):\nv3 = call \"g\"\nret v3\n}", `no function "g"`},
		{"no terminator", "func \"f\" entry {\nb1(v2:ctx):\nv3 = const 1\n}", "b1 has no terminator"},
		{"junk behind", "func \"f\" entry {\nb1(v2:ctx):\nv3 = const 1 2\n", `unexpected "2"`},
		{"bad string", `func "f`, "bad string"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(everyOp(f).String())
	f.Add("func \"f\" entry {\nb1(v2:ctx):\nv3 = const 1 @3:4 ; comment\nret v3\n}")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Parse(text)
		if err != nil {
			return
		}
		again := m.String()
		back, err := Parse(again)
		if err != nil {
			t.Fatalf("%v\n%s", err, again)
		}
		if got := back.String(); got != again {
			t.Fatalf("text changed:\n%s\nto:\n%s", again, got)
		}
		for _, f := range m.Funcs {
			if f.NumIDs() > 1000 {
				return // tables by ID would make this slow
			}
		}
		if m.Verify() == nil {
			if err := m.Clone().Verify(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestDominators(t *testing.T) {
	f, err := ParseFunc(`func "f" entry {
b1(v2:ctx):
  v3 = const 1
  br v3 eq v3 -> b4 b5
b4:
  jump b6
b5:
  jump b6
b6:
  br v3 eq v3 -> b7 b8
b7:
  jump b6
b8:
  ret v3
}`)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDomTree(f)
	byID := map[int]*Block{}
	for _, b := range f.Blocks {
		byID[b.ID] = b
	}
	for id, want := range map[int]int{4: 1, 5: 1, 6: 1, 7: 6, 8: 6} {
		if got := d.IDom(byID[id]); got != byID[want] {
			t.Errorf("idom of b%d is b%d, want b%d", id, got.ID, want)
		}
	}
	if d.Dominates(byID[4], byID[6]) || !d.Dominates(byID[6], byID[8]) || !d.Dominates(byID[6], byID[6]) {
		t.Error("Dominates is wrong")
	}
	if d.Common(byID[4], byID[7]) != byID[1] || d.Common(byID[7], byID[8]) != byID[6] {
		t.Error("Common is wrong")
	}
	depth, header := d.LoopDepths(f)
	at := func(id int) int { return byID[id].Seq }
	if depth[at(6)] != 1 || depth[at(7)] != 1 || depth[at(8)] != 0 || header[at(7)] != byID[6] {
		t.Errorf("loop depths %v", depth)
	}
}
