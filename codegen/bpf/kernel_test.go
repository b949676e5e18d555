package bpf_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"

	"github.com/sonde-sh/sonde/codegen/bpf"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/ir/interp"
)

// needBPF skips when programs cannot be loaded and run here.
var canBPF = sync.OnceValue(func() error {
	_ = rlimit.RemoveMemlock()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		return err
	}
	defer p.Close()
	_, err = p.Run(&ebpf.RunOptions{Context: make([]byte, 8)})
	return err
})

func needBPF(tb testing.TB) {
	tb.Helper()
	if err := canBPF(); err != nil {
		tb.Skipf("needs BPF programs and their test run: %v", err)
	}
}

// features finds out what the running kernel accepts.
var features = sync.OnceValue(func() bpf.Options {
	o := bpf.Options{Scratch: bpf.Scratch{Map: "scratch", Counters: "counters", CounterKey: 4}}
	loads := func(insns ...asm.Instruction) bool {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: append(insns, asm.Mov.Imm(asm.R0, 0), asm.Return())})
		if err == nil {
			p.Close()
		}
		return err == nil
	}
	st := asm.Instruction{OpCode: asm.StoreImmOp(asm.DWord), Dst: asm.RFP, Offset: -8}
	xchg := asm.Xchg.Mem(asm.RFP, asm.R1, asm.DWord, -8)
	xchg.Constant = int64(asm.Xchg >> 8)
	o.AtomicFetch = loads(st, asm.Mov.Imm(asm.R1, 1), xchg)
	o.CPUv4 = loads(asm.Mov.Imm(asm.R1, 1), asm.MovSX8.Reg(asm.R1, asm.R1))
	return o
})

// variants returns the option sets that this kernel can run, by name.
func variants() map[string]bpf.Options {
	full := features()
	v := map[string]bpf.Options{"full": full}
	if full.AtomicFetch {
		vary := full
		vary.StackVarOff = true
		v["variable stack"] = vary
	}
	old := full
	old.AtomicFetch, old.CPUv4 = false, false
	v["5.10"] = old
	return v
}

// machine holds one set of maps in the kernel and its double in the interpreter.
type machine struct {
	tb   testing.TB
	opts bpf.Options
	maps map[string]*ebpf.Map
	spec map[string]*ebpf.MapSpec
}

func newMachine(tb testing.TB, opts bpf.Options, specs ...*ebpf.MapSpec) *machine {
	tb.Helper()
	m := &machine{tb: tb, opts: opts, maps: map[string]*ebpf.Map{}, spec: map[string]*ebpf.MapSpec{}}
	for _, s := range specs {
		m.addMap(s)
	}
	return m
}

func (m *machine) addMap(s *ebpf.MapSpec) {
	m.tb.Helper()
	km, err := ebpf.NewMap(s)
	if err != nil {
		m.tb.Fatalf("map %s: %v", s.Name, err)
	}
	m.tb.Cleanup(func() { km.Close() })
	m.maps[s.Name], m.spec[s.Name] = km, s
}

// load emits and loads the first function of a module.
func (m *machine) load(mod *ir.Module) (*ebpf.Program, *bpf.Code, error) {
	m.tb.Helper()
	code, err := bpf.Emit(mod, mod.Funcs[0], m.opts)
	if err != nil {
		return nil, nil, fmt.Errorf("emit: %w", err)
	}
	if code.ScratchBytes > 0 && m.maps["scratch"] == nil {
		m.addMap(&ebpf.MapSpec{Name: "scratch", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: uint32(code.ScratchBytes), MaxEntries: uint32(code.ScratchChunks * bpf.ScratchLevels)})
		m.addMap(&ebpf.MapSpec{Name: "counters", Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 8})
	}
	insns := append(asm.Instructions(nil), code.Insns...)
	for i := range insns {
		if insns[i].IsLoadFromMap() {
			km := m.maps[insns[i].Reference()]
			if km == nil {
				return nil, code, fmt.Errorf("no map %q", insns[i].Reference())
			}
			if err := insns[i].AssociateMap(km); err != nil {
				return nil, code, err
			}
		}
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "t", Type: ebpf.RawTracepoint, License: "GPL", Instructions: insns})
	if err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			err = fmt.Errorf("%w\n%s", err, strings.Join(tail(ve.Log, 40), "\n"))
		}
		return nil, code, err
	}
	m.tb.Cleanup(func() { p.Close() })
	return p, code, nil
}

func tail(s []string, n int) []string { return s[max(0, len(s)-n):] }

// run runs a program once with a context of words.
func run(tb testing.TB, p *ebpf.Program, ctx ...uint64) uint32 {
	tb.Helper()
	r, err := p.Run(&ebpf.RunOptions{Context: words(ctx...)})
	if err != nil {
		tb.Fatalf("test run: %v", err)
	}
	return r
}

func words(xs ...uint64) []byte {
	b := make([]byte, 0, 8*len(xs))
	for _, x := range xs {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b
}

// interpreter returns a machine with the same maps, all empty.
func (m *machine) interpreter() *interp.Machine {
	im := &interp.Machine{Maps: map[string]*interp.Map{}}
	for name, s := range m.spec {
		im.Maps[name] = &interp.Map{Type: s.Type, KeySize: int(s.KeySize), ValueSize: int(s.ValueSize), MaxEntries: int(s.MaxEntries)}
	}
	return im
}

// arrayValue reads the only value of an array.
func (m *machine) arrayValue(name string) []byte {
	m.tb.Helper()
	b, err := m.maps[name].LookupBytes(uint32(0))
	if err != nil {
		m.tb.Fatal(err)
	}
	return b
}

func (m *machine) setArray(name string, b []byte) {
	m.tb.Helper()
	if err := m.maps[name].Put(uint32(0), b); err != nil {
		m.tb.Fatal(err)
	}
}

func arraySpec(name string, size int) *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(size), MaxEntries: 1}
}

func hashSpec(name string, key, value int) *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: name, Type: ebpf.Hash, KeySize: uint32(key), ValueSize: uint32(value), MaxEntries: 100}
}

func finish(tb testing.TB, b *ir.Builder) *ir.Func {
	tb.Helper()
	if err := b.Finish(); err != nil {
		tb.Fatalf("%v\n%s", err, b.F)
	}
	return b.F
}

func dump(code *bpf.Code) string {
	if code == nil {
		return ""
	}
	return fmt.Sprint(code.Insns)
}

func TestMain(m *testing.M) { os.Exit(m.Run()) }
