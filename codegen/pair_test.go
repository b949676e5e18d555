package codegen_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/ir/interp"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// slotsOf gives the name of the array of slots of @s.
func slotsOf(obj *object.Object) string {
	for _, m := range obj.Maps {
		if m.Name == "@s" {
			return m.Pair
		}
	}
	return ""
}

func TestWhichMapsHaveSlots(t *testing.T) {
	const del = " tracepoint:a:c { delete(@s, tid); }"
	for _, c := range []struct {
		name, script string
		want         bool
	}{
		{"a pair", `tracepoint:a:b { @s[tid] = nsecs; } tracepoint:a:c /@s[tid]/ { @ = hist(nsecs - @s[tid]); delete(@s[tid]); }`, true},
		{"delete by name and key", `tracepoint:a:b { @s[tid] = nsecs; }` + del, true},
		{"cleared and printed at the end", `tracepoint:a:b { @s[tid] = nsecs; } end { print(@s); clear(@s); }` + del, true},
		{"through a macro", `macro from(@m) { @m[tid] = nsecs; } tracepoint:a:b { from(@s); }` + del, true},
		{"never deleted", `tracepoint:a:b { @s[tid] = nsecs; }`, false},
		{"another key", `tracepoint:a:b { @s[tid] = nsecs; @s[pid] = 1; }` + del, false},
		{"a computed key", `tracepoint:a:b { @s[tid] = nsecs; printf("%d", @s[tid + 1]); }` + del, false},
		{"another deletes", `tracepoint:a:b { @s[tid] = nsecs; } tracepoint:a:c { delete(@s, pid); }`, false},
		{"keys of two parts", `tracepoint:a:b { @s[tid, 1] = nsecs; } tracepoint:a:c { delete(@s, (tid, 1)); }`, false},
		{"texts", `tracepoint:a:b { @s[tid] = comm; }` + del, false},
		{"aggregations", `tracepoint:a:b { @s[tid] = count(); }` + del, false},
		{"counted up", `tracepoint:a:b { @s[tid]++; }` + del, false},
		{"added to", `tracepoint:a:b { @s[tid] += 5; }` + del, false},
		{"asked for by has_key", `tracepoint:a:b { @s[tid] = 1; @h = has_key(@s, tid); }` + del, false},
		{"printed before the end", `tracepoint:a:b { @s[tid] = 1; } tracepoint:a:d { print(@s); }` + del, false},
		{"cleared before the end", `tracepoint:a:b { @s[tid] = 1; } tracepoint:a:d { clear(@s); }` + del, false},
		{"an element is printed", `tracepoint:a:b { @s[tid] = 1; print(@s[tid]); }` + del, false},
		{"its length", `tracepoint:a:b { @s[tid] = 1; @n = len(@s); }` + del, false},
		{"walked", `tracepoint:a:b { @s[tid] = 1; for ($kv : @s) { @n = $kv.1; } }` + del, false},
		{"in a loop", `tracepoint:a:b { @s[tid] = 1; while (@s[tid] < 5) { @s[tid] = @s[tid] + 1; } }` + del, false},
		{"declared", `let @s = hash(10000); tracepoint:a:b { @s[tid] = 1; }` + del, false},
		{"fewer keys wanted than there are slots", `config = { max_map_keys = 100 } tracepoint:a:b { @s[tid] = 1; }` + del, false},
		{"literal", `config = { maps = literal } tracepoint:a:b { @s[tid] = 1; }` + del, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			info := fixtureInfo(t, c.script)
			if got := slotsOf(compile(t, info, fixtureTarget(), codegen.Options{})) != ""; got != c.want {
				t.Errorf("slots: %v, want %v", got, c.want)
			}
			for name, obj := range map[string]*object.Object{
				"an old kernel": compile(t, fixtureInfo(t, c.script), fixtureTarget(target.AtomicFetch), codegen.Options{}),
				"-k":            compile(t, fixtureInfo(t, c.script), fixtureTarget(), codegen.Options{HelperErrors: true}),
				"a session":     compile(t, fixtureInfo(t, c.script), fixtureTarget(), codegen.Options{Shared: &object.Shared{}}),
			} {
				if slotsOf(obj) != "" {
					t.Errorf("%s has slots", name)
				}
			}
		})
	}
}

// TestSlotsAgainstAMap runs random starts, reads and deletes of threads of which several want the same slot.
func TestSlotsAgainstAMap(t *testing.T) {
	const script = `tracepoint:s:store { @s[tid] = nsecs; } tracepoint:s:read { @r = @s[tid]; } tracepoint:s:remove { @d = delete(@s, tid); }`
	threads := []uint64{0, 4096, 8192, 1, 4097, 8193, 12289, 2, 4098, 77, 4194304}
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		funcs := map[string]*ir.Func{} // the last of each name is the optimised one
		obj := compile(t, fixtureInfo(t, script), fixtureTarget(target.TaskBTF), codegen.Options{Dump: func(_ string, d *ir.Module) {
			for _, f := range d.Funcs {
				funcs[f.Name[strings.LastIndex(f.Name, ":")+1:]] = f
			}
		}})
		var now, tid uint64
		clock := func(*interp.Machine, [5]uint64) (uint64, error) { return now, nil }
		m := &interp.Machine{Maps: map[string]*interp.Map{}, Helpers: map[asm.BuiltinFunc]interp.Helper{
			asm.FnKtimeGetBootNs: clock, asm.FnKtimeGetNs: clock,
			asm.FnGetCurrentPidTgid: func(*interp.Machine, [5]uint64) (uint64, error) { return 5<<32 | tid, nil },
		}}
		var keySize int
		for _, om := range obj.Maps {
			if om.Name == "@s" {
				om.MaxEntries, keySize = 4, om.KeySize // full now and then
			}
			m.Maps[om.Name] = &interp.Map{Type: om.Type, KeySize: om.KeySize, ValueSize: om.ValueSize, MaxEntries: om.MaxEntries, Contents: om.Contents}
		}
		scalar := func(name string) uint64 {
			for _, om := range obj.Maps {
				if om.Name == name {
					return binary.LittleEndian.Uint64(m.ArrayBytes(om.Global.Map, 0)[om.Global.Off:])
				}
			}
			t.Fatal("no map ", name)
			return 0
		}
		// held is what the map holds, in the hash and in the slots.
		held := func() map[uint64]uint64 {
			all := map[uint64]uint64{}
			for _, k := range m.Keys("@s") {
				key := append([]byte(k), 0, 0, 0, 0)
				all[binary.LittleEndian.Uint64(key)] = binary.LittleEndian.Uint64(m.Bytes("@s", []byte(k)[:keySize]))
			}
			object.EachPair(m.ArrayBytes(slotsOf(obj), 0), func(key uint64, v []byte) {
				if _, twice := all[key]; twice {
					t.Errorf("seed %d: key %d is in the hash and in its slot", seed, key)
				}
				all[key] = binary.LittleEndian.Uint64(v)
			})
			return all
		}
		want := map[uint64]uint64{}
		var spilled, refused bool
		for step := range 2000 {
			tid = threads[rnd.IntN(len(threads))]
			now = rnd.Uint64N(3) // a start at zero is a start
			op := []string{"store", "read", "remove"}[rnd.IntN(3)]
			if _, err := m.Run(funcs[op], make([]byte, 64)); err != nil {
				t.Fatal(err)
			}
			_, there := want[tid]
			what := fmt.Sprintf("seed %d, step %d, %s of thread %d", seed, step, op, tid)
			switch op {
			case "store":
				// The hash is full only where it holds as much as it may.
				if _, ok := held()[tid]; !ok && len(m.Keys("@s")) == 4 {
					refused = true
					break
				}
				want[tid] = now
			case "read":
				if got := scalar("@r"); got != want[tid] {
					t.Fatalf("%s: %d, want %d", what, got, want[tid])
				}
			case "remove":
				if got := scalar("@d") != 0; got != there {
					t.Fatalf("%s: %v, want %v", what, got, there)
				}
				delete(want, tid)
			}
			if got := held(); !maps.Equal(got, want) {
				t.Fatalf("%s: the map holds %v, want %v", what, got, want)
			}
			spilled = spilled || slices.ContainsFunc(m.Keys("@s"), func(k string) bool { return k[0] != 0 })
		}
		if !spilled || !refused {
			t.Errorf("seed %d: spilled %v, refused %v: the test did not try it all", seed, spilled, refused)
		}
	}
}

// TestKernelSlots runs threads' own keys with slots that are all another's.
func TestKernelSlots(t *testing.T) {
	h := openHost(t)
	if !h.machine.Target().Features.Has(target.AtomicFetch) {
		t.Skip("needs ", kernel.FeatureAtomicFetch)
	}
	for _, c := range semanticsTable {
		if !strings.Contains(c.body, "@s[tid]") {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			obj := compile(t, h.info(t, c.script()), h.machine.Target(), codegen.Options{})
			slots := slotsOf(obj)
			if slots == "" {
				t.Fatal("no slots")
			}
			for _, m := range obj.Maps {
				if m.Name != slots {
					continue
				}
				m.Contents = make([]byte, m.ValueSize)
				for i := 0; i < len(m.Contents); i += object.PairStride {
					binary.NativeEndian.PutUint64(m.Contents[i:], 1<<40)
				}
			}
			if got := h.run(t, obj); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
