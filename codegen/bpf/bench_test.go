package bpf_test

import (
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/sonde-sh/sonde/codegen/bpf"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/ir/irgen"
	"github.com/sonde-sh/sonde/codegen/opt"
)

// BenchmarkEmit measures optimising and emitting a short program, a random one of some hundred ops, and a long one.
func BenchmarkEmit(b *testing.B) {
	opts := bpf.Options{AtomicFetch: true, CPUv4: true, Scratch: bpf.Scratch{Map: "scratch"}}
	data, err := os.ReadFile("testdata/event_with_string.txtar")
	if err != nil {
		b.Fatal(err)
	}
	short, err := ir.Parse(string(txtar.Parse(data).Files[0].Data))
	if err != nil {
		b.Fatal(err)
	}
	random := func(n int) *ir.Module {
		return irgen.Module(rand.New(rand.NewPCG(3, 3)), irgen.Options{Statements: n, Vars: 8})
	}
	for _, bm := range []struct {
		name string
		m    *ir.Module
	}{{"short", short}, {"medium", random(60)}, {"long", random(1500)}} {
		b.Run(bm.name+"/opt", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := opt.Run(bm.m.Clone(), opt.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bm.name+"/emit", func(b *testing.B) {
			m := bm.m.Clone()
			if _, err := opt.Run(m, opt.Options{}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				code, err := bpf.Emit(m, m.Funcs[0], opts)
				if err != nil {
					b.Fatal(err)
				}
				n = code.Stats.Insns
			}
			b.ReportMetric(float64(n), "insns")
		})
	}
}
