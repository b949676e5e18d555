package opt

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/ir/interp"
	"github.com/sonde-sh/sonde/codegen/ir/irgen"
)

var randomCount = flag.Int("random", 400, "number of random functions")

func words(xs ...uint64) []byte {
	var b []byte
	for _, x := range xs {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b
}

var samples = []uint64{0, 1, 2, 3, 7, 8, 9, 63, 64, 255, 256, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 32, 1 << 62, 1 << 63, 1<<63 + 1, ^uint64(0), ^uint64(1), ^uint64(7), 0xffffffff80000000, 0x123456789abcdef}

// head gives each test function two unknown integers, v3 and v4, a signed byte v5 and an unsigned short v6.
const head = `func "f" entry {
slot s90 "a" size 32 align 8 auto
slot s91 "b" size 32 align 8 auto
b1(v2:ctx):
v3 = load.8 [v2]
v4 = load.8 [v2+8]
v5 = load.1s [v2]
v6 = load.2 [v2]
`

// ops lists the ops of a function that are no constants and no loads of the head, and terminators that are not the return.
func ops(f *ir.Func) string {
	var out []string
	for _, b := range f.Blocks {
		for _, v := range b.Values {
			if v.Op == ir.OpConst || v.Op == ir.OpLoad && v.Args[0].Type == ir.Ctx {
				continue
			}
			s := v.Op.String()
			if ir.Ops[v.Op].HasSize {
				s += fmt.Sprint(".", v.Size)
			}
			out = append(out, s)
		}
		switch b.Term.Kind {
		case ir.Branch:
			out = append(out, "br-"+b.Term.Cond.String())
		case ir.Jump:
			out = append(out, "jump")
		}
	}
	return strings.Join(out, " ")
}

// TestRules has at least one row for each rule: the body behind the head, and the ops that are left.
func TestRules(t *testing.T) {
	tests := []struct{ rule, body, want string }{
		{"fold", "v7 = const 6\nv8 = const 7\nv9 = mul v7 v8\nret v9", ""},
		{"fold", "v7 = const 300\nv8 = zext.8 v7\nv9 = add v3 v8\nret v9", "add"},
		{"constant-right", "v7 = const 6\nv9 = add v7 v3\nret v9", "add"},
		{"constant-right", "v7 = const 6\nv9 = ult v7 v3\nret v9", "ugt"},
		{"identity", "v7 = const 0\nv8 = or v3 v7\nv9 = shl v8 v7\nret v9", ""},
		{"identity", "v7 = const 0\nv8 = mul v3 v7\nret v8", ""},
		{"identity", "v7 = const 1\nv8 = smod v3 v7\nret v8", ""},
		{"identity", "v7 = const -1\nv8 = mul v3 v7\nret v8", "neg"},
		{"same-operands", "v7 = xor v3 v3\nv8 = and v4 v4\nv9 = add v7 v8\nret v9", ""},
		{"subtract-constant", "v7 = const 5\nv8 = sub v3 v7\nret v8", "add"},
		{"negate", "v7 = neg v3\nv8 = sub v4 v7\nret v8", "add"},
		{"negate", "v7 = not v3\nv8 = not v7\nret v8", ""},
		{"reassociate", "v7 = const 5\nv8 = add v3 v7\nv9 = add v8 v7\nret v9", "add"},
		{"shift-of-shift", "v7 = const 5\nv8 = shl v3 v7\nv9 = shl v8 v7\nret v9", "shl"},
		{"shift-of-shift", "v7 = const 32\nv8 = shl v3 v7\nv9 = lshr v8 v7\nret v9", "zext.32"},
		{"shift-of-shift", "v7 = const 56\nv8 = shl v3 v7\nv9 = ashr v8 v7\nret v9", "sext.8"},
		{"shift-of-shift", "v7 = const 40\nv8 = lshr v3 v7\nv9 = lshr v8 v7\nret v9", ""},
		{"power-of-two", "v7 = const 8\nv8 = mul v3 v7\nret v8", "shl"},
		{"power-of-two", "v7 = const 8\nv8 = umod v3 v7\nret v8", "and"},
		{"power-of-two", "v7 = const 8\nv8 = sdiv v3 v7\nret v8", "ashr lshr add ashr"},
		{"power-of-two", "v7 = const 8\nv8 = smod v3 v7\nret v8", "ashr lshr add and sub"},
		{"positive", "v7 = const 8\nv8 = sdiv v6 v7\nret v8", "lshr"},
		{"positive", "v7 = const 10\nv8 = smod v6 v7\nret v8", "umod"},
		{"needless-mask", "v7 = const 65535\nv8 = and v6 v7\nret v8", ""},
		{"needless-extension", "v7 = sext.8 v5\nv8 = zext.16 v6\nv9 = add v7 v8\nret v9", "add"},
		{"extension-of-extension", "v7 = sext.32 v3\nv8 = zext.16 v7\nret v8", "zext.16"},
		{"extended-load", "v7:stack = slot s90\nv8 = load.1 [v7]\nv9 = sext.8 v8\nret v9", "slot load.1"},
		{"compare-itself", "v7 = ule v3 v3\nret v7", ""},
		{"compare-range", "v7 = const 65536\nv8 = ult v6 v7\nret v8", ""},
		{"compare-range", "v7 = const -129\nv8 = sgt v5 v7\nret v8", ""},
		{"compare-comparison", "v7 = const 0\nv8 = slt v3 v7\nv9 = eq v8 v7\nret v9", "sge"},
		{"compare-sum", "v7 = const 3\nv8 = add v3 v7\nv9 = eq v8 v7\nret v9", "eq"},
		{"compare-edge", "v7 = const 1\nv8 = ult v3 v7\nret v8", "eq"},
		{"select", "v7 = const 1\nv8 = const 0\nv9 = ult v3 v4\nv10 = select v9 v8 v7\nret v10", "uge"},
		{"select", "v8 = const 0\nv9 = eq v3 v8\nv10 = select v9 v3 v4\nret v10", "select"},
		{"needless-bound", "v7 = bound v6 65535\nret v7", ""},
		{"needless-bound", "v7 = bound v3 100\nv8 = bound v7 90\nret v8", "bound"},
		{"address", "v7:stack = slot s90\nv8 = const 8\nv9:stack = ptradd v7 v8\nstore.8 [v9] v3\nv10 = helper FnKtimeGetNs v9\nret v8", "slot store.8 helper"},
		{"distance", "v7:stack = slot s90+3\nv8:stack = slot s90+12\nv9 = ptrdiff v8 v7\nret v9", ""},
		{"narrow-store", "v7:mapval = mapval \"m\"\nv8 = zext.32 v3\nstore.2 [v7] v8\nret v4", "mapval store.2"},
		{"bare-address", "v7:btf = helper FnGetCurrentTaskBtf\nv8 = ptrint v7\nv9:stack = slot s90\nv10 = const 8\nv11 = helper FnProbeReadKernel v9 v10 v8\nret v11", "helper slot helper"},
		{"unused-old-value", "v7:mapval = mapval \"m\"\nv8 = fetchadd.8 [v7] v3\nret v4", "mapval atomicadd.8"},
		{"loaded-address", "v7:mapval = mapval \"m\"\nv8:mapval = ptradd v7 v3\nv9 = const 16\nv10:mapval = ptradd v8 v9\nv11 = load.8 [v10]\nret v11", "mapval ptradd load.8"},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		seen[tt.rule] = true
		t.Run(tt.rule, func(t *testing.T) {
			counts, f, before := optimise(t, head+tt.body+"\n}", []string{"constants", "simplify", "dead"})
			if counts[tt.rule] == 0 {
				t.Errorf("the rule did not apply: %v", counts)
			}
			if got := ops(f); got != tt.want {
				t.Errorf("got ops %q, want %q\n%s", got, tt.want, f)
			}
			if !strings.Contains(tt.body, "ptr") && !strings.Contains(tt.body, "map") && !strings.Contains(tt.body, "slot") {
				sameResults(t, before, f)
			}
		})
	}
	for _, r := range Rules() {
		if !seen[r.Name] {
			t.Errorf("rule %s has no test", r.Name)
		}
	}
}

func optimise(t *testing.T, text string, only []string) (Counts, *ir.Func, *ir.Func) {
	t.Helper()
	f, err := ir.ParseFunc(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := ir.Verify(f); err != nil {
		t.Fatal(err)
	}
	m := &ir.Module{Funcs: []*ir.Func{f}}
	before := m.Clone().Funcs[0]
	counts, err := Run(m, Options{Verify: true, Only: only})
	if err != nil {
		t.Fatalf("%v\n%s", err, f)
	}
	return counts, f, before
}

func sameResults(t *testing.T, before, after *ir.Func) {
	t.Helper()
	for _, x := range samples {
		for _, y := range samples {
			a, err := (&interp.Machine{}).Run(before, words(x, y))
			if err != nil {
				t.Fatal(err)
			}
			b, err := (&interp.Machine{}).Run(after, words(x, y))
			if err != nil {
				t.Fatal(err)
			}
			if a != b {
				t.Fatalf("%#x and %#x: %#x before, %#x after\n%s\n%s", x, y, a, b, before, after)
			}
		}
	}
}

// TestPasses runs single passes, and what must run before them, on small functions.
func TestPasses(t *testing.T) {
	tests := []struct{ name, count, passes, body, want string }{
		{"equal values", "cse", "constants cse dead", "v7 = add v3 v4\nv8 = add v4 v3\nv9 = mul v7 v8\nret v9", "add mul"},
		{"equal values in a dominated block", "cse", "constants cse dead", "v7 = add v3 v4\nbr v3 ult v4 -> b10 b11\nb10:\nv8 = add v3 v4\nret v8\nb11:\nret v7", "add br-ult"},
		{"a load is not repeated", "cse", "constants cse dead", "v7:mapval = mapval \"m\"\nv8 = load.8 [v7]\nv9 = load.8 [v7]\nv10 = add v8 v9\nret v10", "mapval load.8 add"},
		{"a load behind a store is", "constants", "constants cse dead", "v7:mapval = mapval \"m\"\nv8 = load.8 [v7]\nstore.8 [v7] v3\nv9 = load.8 [v7]\nv10 = add v8 v9\nret v10", "mapval load.8 store.8 load.8 add"},
		{"a load behind a helper that is not given it is not", "cse", "constants cse dead", "v7:mapval = mapval \"m\"\nv8 = load.8 [v7]\nv12 = helper FnKtimeGetNs\nv9 = load.8 [v7]\nv10 = add v8 v9\nret v10", "mapval load.8 helper add"},
		{"a load behind a helper that is given it is", "constants", "constants cse dead", "v7:mapval = mapval \"m\"\nv8 = load.8 [v7]\nv12 = const 8\nv13 = helper FnGetCurrentComm v7 v12\nv9 = load.8 [v7]\nv10 = add v8 v9\nret v10", "mapval load.8 helper load.8 add"},
		{"a load in a loop is", "constants", "constants cse dead", "v7:mapval = mapval \"m\"\nv8 = load.8 [v7]\njump b10\nb10:\nv9 = load.8 [v7]\nstore.8 [v7] v3\nbr v9 ult v8 -> b10 b11\nb11:\nret v8", "mapval load.8 jump load.8 store.8 br-ult"},
		{"a stable helper is called once", "cse", "constants cse dead", "v7 = helper FnGetCurrentPidTgid\nv8 = helper FnGetCurrentPidTgid\nv9 = sub v7 v8\nret v9", "helper sub"},
		{"another helper is not", "constants", "constants cse dead", "v12 = const 0\nv7 = helper FnKtimeGetNs\nv8 = helper FnKtimeGetNs\nv9 = sub v7 v8\nret v9", "helper helper sub"},
		{"a load sees the store", "forwarded-load", "constants cse forward dead", "v7:stack = slot s90\nstore.8 [v7] v3\nv8 = load.8 [v7]\nret v8", "slot store.8"},
		{"a narrow load sees the store", "forwarded-load", "constants cse forward dead", "v7:stack = slot s90\nstore.4 [v7] v3\nv8 = load.4s [v7]\nret v8", "slot store.4 sext.32"},
		{"a load sees zeroes", "forwarded-load", "constants cse forward dead", "v7:stack = slot s90\nzero [v7] 32\nv8 = load.4 [v7+8]\nret v8", "slot zero"},
		{"a call forgets", "constants", "constants cse forward dead", "v12 = const 0\nv7:stack = slot s90\nstore.8 [v7] v3\nv9 = helper FnKtimeGetNs v7\nv8 = load.8 [v7]\nret v8", "slot store.8 helper load.8"},
		{"a lookup repeated", "merged-lookup", "constants cse forward lookup deadstore implied branches dead", "v7:map = map \"h\"\nv12 = const 0\nv8:stack = slot s90\nzero [v8] 32\nstore.8 [v8] v3\nv9:mapnil = helper FnMapLookupElem v7 v8\nbr v9 ne v12 -> b10 b11\nb10:\nv13:mapval = nonnil v9\nv14:stack = slot s91\nzero [v14] 32\nstore.8 [v14] v3\nv15:mapnil = helper FnMapLookupElem v7 v14\nbr v15 ne v12 -> b16 b11\nb16:\nv17:mapval = nonnil v15\nv18 = load.8 [v17]\nret v18\nb11:\nret v12", "map slot zero store.8 helper br-ne nonnil load.8"},
		{"a lookup repeated behind a call", "merged-lookup", "constants cse forward lookup deadstore implied branches dead", "v7:map = map \"h\"\nv12 = const 0\nv8:stack = slot s90\nzero [v8] 32\nstore.8 [v8] v3\nv9:mapnil = helper FnMapLookupElem v7 v8\nbr v9 ne v12 -> b10 b11\nb10:\nv13:mapval = nonnil v9\nv19 = helper FnKtimeGetNs\nv14:stack = slot s91\nzero [v14] 32\nstore.8 [v14] v3\nv15:mapnil = helper FnMapLookupElem v7 v14\nbr v15 ne v12 -> b16 b11\nb16:\nv17:mapval = nonnil v15\nv18 = load.8 [v17]\nret v18\nb11:\nret v12", "map slot zero store.8 helper br-ne helper nonnil load.8"},
		{"a lookup that is written to is repeated", "shared-key", "constants cse forward lookup deadstore implied branches dead", "v7:map = map \"h\"\nv12 = const 0\nv8:stack = slot s90\nzero [v8] 32\nstore.8 [v8] v3\nv9:mapnil = helper FnMapLookupElem v7 v8\nbr v9 ne v12 -> b10 b11\nb10:\nv13:mapval = nonnil v9\nv14:stack = slot s91\nzero [v14] 32\nstore.8 [v14] v3\nv15:mapnil = helper FnMapLookupElem v7 v14\nbr v15 ne v12 -> b16 b11\nb16:\nv17:mapval = nonnil v15\nstore.8 [v17] v4\nret v4\nb11:\nret v12", "map slot zero store.8 helper br-ne helper br-ne nonnil store.8"},
		{"a lookup behind a deletion is repeated", "shared-key", "constants cse forward lookup deadstore implied branches dead", "v7:map = map \"h\"\nv12 = const 0\nv8:stack = slot s90\nzero [v8] 32\nstore.8 [v8] v3\nv9:mapnil = helper FnMapLookupElem v7 v8\nbr v9 ne v12 -> b10 b11\nb10:\nv13:mapval = nonnil v9\nv19 = helper FnMapDeleteElem v7 v8\nv14:stack = slot s91\nzero [v14] 32\nstore.8 [v14] v3\nv15:mapnil = helper FnMapLookupElem v7 v14\nbr v15 ne v12 -> b16 b11\nb16:\nv17:mapval = nonnil v15\nv18 = load.8 [v17]\nret v18\nb11:\nret v12", "map slot zero store.8 helper br-ne helper helper br-ne nonnil load.8"},
		{"a store that nobody reads", "dead-store", "constants deadstore dead", "v7:stack = slot s90\nstore.8 [v7] v3\nret v3", ""},
		{"a store that is overwritten", "dead-store", "constants cse deadstore dead", "v7:stack = slot s90\nstore.8 [v7] v3\nstore.8 [v7] v4\nv9 = helper FnKtimeGetNs v7\nret v3", "slot store.8 helper"},
		{"a zero is trimmed", "trimmed-zero", "constants cse deadstore dead", "v7:stack = slot s90\nzero [v7] 32\nstore.8 [v7] v4\nstore.8 [v7+24] v4\nv9 = helper FnKtimeGetNs v7\nret v3", "slot zero store.8 store.8 helper"},
		{"a branch repeated", "implied-branch", "constants implied branches dead", "v7 = const 1\nv8 = const 2\nbr v3 ult v4 -> b10 b11\nb10:\nbr v3 uge v4 -> b11 b12\nb11:\nret v7\nb12:\nret v8", "br-ult"},
		{"a branch inside the range", "implied-branch", "constants implied branches dead", "v7 = const 10\nv8 = const 20\nbr v3 ult v7 -> b10 b11\nb10:\nbr v3 ult v8 -> b12 b11\nb11:\nret v7\nb12:\nret v8", "br-ult"},
		{"a bound behind a branch", "implied-bound", "constants implied branches dead", "v7 = const 10\nbr v3 ult v7 -> b10 b11\nb10:\nv8 = bound v3 9\nret v8\nb11:\nret v7", "br-ult"},
		{"a comparison behind a branch", "implied-comparison", "constants implied branches dead", "v7 = const 10\nbr v3 ult v4 -> b10 b11\nb10:\nv8 = ult v3 v4\nret v8\nb11:\nret v7", "br-ult"},
		{"equal edges", "equal-edges", "constants branches dead", "br v3 ult v4 -> b10 b10\nb10:\nret v3", ""},
		{"empty blocks", "skipped-block", "constants branches dead", "br v3 ult v4 -> b10 b11\nb10:\njump b12\nb11:\nret v4\nb12:\nret v3", "br-ult"},
		{"constants through a join", "threaded-jump", "constants branches dead", "v7 = const 1\nv8 = const 0\nbr v3 ult v4 -> b10 b11\nb10:\njump b12(v7)\nb11:\njump b12(v8)\nb12(v13):\nbr v13 ne v8 -> b14 b15\nb14:\nret v3\nb15:\nret v4", "br-ult"},
		{"blocks in a row", "merged-block", "constants branches dead", "jump b10(v3)\nb10(v7):\njump b11\nb11:\nret v7", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			counts, f, _ := optimise(t, head+tt.body+"\n}", strings.Fields(tt.passes))
			if counts[tt.count] == 0 && tt.count != "constants" {
				t.Errorf("%s did not happen: %v", tt.count, counts)
			}
			if got := ops(f); got != tt.want {
				t.Errorf("got ops %q, want %q\n%s", got, tt.want, f)
			}
		})
	}
}

func TestOrders(t *testing.T) {
	at := map[string]int{}
	for i, p := range Passes() {
		at[p.Name] = i
	}
	for _, o := range Orders() {
		first, ok1 := at[o.First]
		then, ok2 := at[o.Then]
		if !ok1 || !ok2 || first >= then {
			t.Errorf("%s must run before %s: %s", o.First, o.Then, o.Reason)
		}
	}
}

func randomMachine(in []byte) *interp.Machine {
	m := &interp.Machine{Maps: map[string]*interp.Map{
		"in":  {Type: ebpf.Array, KeySize: 4, ValueSize: irgen.MapBytes, MaxEntries: 1},
		"out": {Type: ebpf.Array, KeySize: 4, ValueSize: irgen.MapBytes, MaxEntries: 1},
		"h":   {Type: ebpf.Hash, KeySize: irgen.HashKey, ValueSize: irgen.HashValue, MaxEntries: 100},
	}}
	copy(m.ArrayBytes("in", 0), in)
	return m
}

// outcome is what a function leaves in its maps.
func outcome(t *testing.T, f *ir.Func, in []byte) string {
	t.Helper()
	m := randomMachine(in)
	if _, err := m.Run(f, make([]byte, 64)); err != nil {
		t.Fatalf("%v\n%s", err, f)
	}
	s := fmt.Sprintf("%x", m.ArrayBytes("out", 0))
	for _, k := range m.Keys("h") {
		s += fmt.Sprintf(" %x=%x", k, m.Bytes("h", []byte(k)))
	}
	return s
}

// TestRandom checks that random functions do the same after each pass.
func TestRandom(t *testing.T) {
	for seed := range uint64(*randomCount) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := irgen.Module(r, irgen.Options{
			Statements: 5 + r.IntN(60), Vars: 1 + r.IntN(8), Callbacks: r.IntN(2) == 0, Fetch: r.IntN(2) == 0, Subprogs: r.IntN(2) == 0, Scratch: r.IntN(2) == 0,
			Globals: r.IntN(2) == 0,
		})
		var in []byte
		for len(in) < irgen.MapBytes {
			x := r.Uint64()
			if r.IntN(2) == 0 {
				x = samples[r.IntN(len(samples))]
			}
			in = append(in, words(x)...)
		}
		want := outcome(t, m.Funcs[0], in)
		before := m.String()
		_, err := Run(m, Options{Verify: true, Trace: func(pass string, f *ir.Func) {
			if err := m.Verify(); err != nil {
				t.Fatalf("seed %d, after %s: %v\n%s", seed, pass, err, before)
			}
			if got := outcome(t, m.Funcs[0], in); got != want {
				t.Fatalf("seed %d, after %s:\n got %s\nwant %s\n%s\n%s", seed, pass, got, want, before, m)
			}
		}})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, before)
		}
	}
}
