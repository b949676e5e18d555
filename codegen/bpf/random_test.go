package bpf_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/bpf"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/ir/interp"
	"github.com/sonde-sh/sonde/codegen/ir/irgen"
	"github.com/sonde-sh/sonde/codegen/opt"
)

var (
	randomCount = flag.Int("random", 150, "number of random functions")
	randomSeed  = flag.Uint64("seed", 1, "first seed")
)

// haveLoop probes for bpf_loop.
func haveLoop() bool {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R1, 0), asm.Mov.Imm(asm.R2, 0), asm.Mov.Imm(asm.R3, 0), asm.Mov.Imm(asm.R4, 0),
		asm.FnGetCurrentPidTgid.Call(), asm.Mov.Imm(asm.R0, 0), asm.Return(),
	}})
	if err != nil {
		return false
	}
	p.Close()
	return haveHelper(asm.FnLoop)
}

// haveHelper tells an unknown helper by the verifier's words.
func haveHelper(fn asm.BuiltinFunc) bool {
	_, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: asm.Instructions{fn.Call(), asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	return err == nil || !bytes.Contains([]byte(fmt.Sprintf("%+v", err)), []byte("invalid func"))
}

// randomCase is what one random function did somewhere.
type outcome struct {
	out  []byte
	hash map[string]string
}

// diff tells where two outcomes differ.
func (o outcome) diff(want outcome) string {
	var sb strings.Builder
	for i := 0; i < len(o.out); i += 8 {
		if g, w := o.out[i:i+8], want.out[i:i+8]; !bytes.Equal(g, w) {
			fmt.Fprintf(&sb, "out[%d] = %x, want %x\n", i/8, g, w)
		}
	}
	if !o.equal(outcome{o.out, want.hash}) {
		fmt.Fprintf(&sb, "h = %x, want %x\n", o.hash, want.hash)
	}
	return sb.String()
}

func (o outcome) equal(p outcome) bool {
	if !bytes.Equal(o.out, p.out) || len(o.hash) != len(p.hash) {
		return false
	}
	for k, v := range o.hash {
		if p.hash[k] != v {
			return false
		}
	}
	return true
}

func randomMaps() []*ebpf.MapSpec {
	return []*ebpf.MapSpec{
		arraySpec("in", irgen.MapBytes), arraySpec("out", irgen.MapBytes), hashSpec("h", irgen.HashKey, irgen.HashValue),
		{Name: "scratch", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: bpf.ScratchChunk, MaxEntries: 2 * bpf.ScratchLevels},
		{Name: "counters", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 8},
	}
}

func interpret(m *machine, f *ir.Func, in []byte, frame bool) (outcome, error) {
	im := m.interpreter()
	im.Frame = frame
	copy(im.ArrayBytes("in", 0), in)
	if _, err := im.Run(f, make([]byte, 8)); err != nil {
		return outcome{}, err
	}
	return outcomeOf(im), nil
}

func outcomeOf(im *interp.Machine) outcome {
	o := outcome{out: append([]byte(nil), im.ArrayBytes("out", 0)...), hash: map[string]string{}}
	for _, k := range im.Keys("h") {
		o.hash[k] = string(im.Bytes("h", []byte(k)))
	}
	return o
}

func (m *machine) kernel(p *ebpf.Program, in []byte) outcome {
	m.tb.Helper()
	m.setArray("in", in)
	m.setArray("out", make([]byte, irgen.MapBytes))
	var k, v []byte
	var old []string
	for it := m.maps["h"].Iterate(); it.Next(&k, &v); {
		old = append(old, string(k))
	}
	for _, k := range old {
		if err := m.maps["h"].Delete([]byte(k)); err != nil {
			m.tb.Fatal(err)
		}
	}
	run(m.tb, p, 0)
	o := outcome{out: m.arrayValue("out"), hash: map[string]string{}}
	for it := m.maps["h"].Iterate(); it.Next(&k, &v); {
		o.hash[string(k)] = string(v)
	}
	return o
}

func randomInput(r *rand.Rand) []byte {
	var in []byte
	for len(in) < irgen.MapBytes {
		x := r.Uint64()
		switch r.IntN(4) {
		case 0:
			x &= 0xff
		case 1:
			x = edges[r.IntN(len(edges))]
		}
		in = append(in, words(x)...)
	}
	return in
}

// TestKernelRandom compares random functions: as built, after placement, and in the kernel.
func TestKernelRandom(t *testing.T) {
	needBPF(t)
	loop := haveLoop()
	for name, opts := range variants() {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, opts, randomMaps()...)
			for i := range *randomCount {
				seed := *randomSeed + uint64(i)
				r := rand.New(rand.NewPCG(seed, 0))
				o := irgen.Options{
					Statements: 5 + r.IntN(60), Vars: 1 + r.IntN(12), Callbacks: loop && r.IntN(2) == 0, Fetch: features().AtomicFetch,
					Subprogs: r.IntN(2) == 0, Scratch: r.IntN(2) == 0,
					Globals: r.IntN(2) == 0,
				}
				mod := irgen.Module(r, o)
				if err := mod.Verify(); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if i%2 == 1 {
					if _, err := opt.Run(mod, opt.Options{Verify: true}); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
				}
				checkRandom(t, m, mod, r, seed)
				if t.Failed() {
					return
				}
			}
		})
	}
}

func checkRandom(t *testing.T, m *machine, mod *ir.Module, r *rand.Rand, seed uint64) {
	t.Helper()
	placed := mod.Clone()
	if _, err := bpf.PlaceSlots(placed, &m.opts); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if err := placed.Verify(); err != nil {
		t.Fatalf("seed %d: after placement: %v\n%s", seed, err, placed)
	}
	p, code, err := m.load(mod)
	if err != nil {
		t.Errorf("seed %d: %v", seed, err)
		if testing.Verbose() {
			t.Logf("%s\n%s", mod, dump(code))
		}
		return
	}
	defer p.Close()
	for range 3 {
		in := randomInput(r)
		want, err := interpret(m, mod.Funcs[0], in, false)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, mod)
		}
		got, err := interpret(m, placed.Funcs[0], in, true)
		if err != nil {
			t.Fatalf("seed %d: after placement: %v\n%s", seed, err, placed)
		}
		if !got.equal(want) {
			t.Fatalf("seed %d: after placement:\n%s%s\n%s", seed, got.diff(want), mod, placed)
		}
		if got := m.kernel(p, in); !got.equal(want) {
			t.Errorf("seed %d: kernel and interpreter differ:\n%s", seed, got.diff(want))
			if testing.Verbose() {
				t.Logf("%s\n%s\n%s", mod, placed, dump(code))
			}
			return
		}
	}
}
