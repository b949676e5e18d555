package symbol

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
)

// FuzzFile feeds broken ELF files to everything that reads one: files of containers are not ours.
func FuzzFile(f *testing.F) {
	for _, args := range [][]string{{"-g", "-O1"}, {"-g", "-O1", "-gdwarf-4", "-gz"}, {"-O1", "-s"}} {
		path := build(f, "gcc", "tiny.c", "static inline __attribute__((always_inline)) int g(int a) { return a * 3; }\nint work(int a, char *b) { return g(a) + b[0]; }\n",
			append(args, "-nostdlib", "-shared", "-fPIC")...)
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(_ *testing.T, data []byte) {
		if len(data) <= 1<<17 {
			readEverything(data)
		}
	})
}

// A fuzzer breaks headers most of the time; this breaks a few bytes anywhere, so that the damage reaches the sections.
func TestDamagedFiles(t *testing.T) {
	rounds := 400
	if os.Getenv("SONDE_SOAK") != "" {
		rounds = 8_000
	}
	r := rand.New(rand.NewPCG(7, 7))
	for _, c := range []struct {
		compiler, file, source string
		args                   []string
	}{
		{"gcc", "prog.c", paramSource, []string{"-g", "-O1", "-nostdlib", "-shared", "-fPIC"}},
		{"gcc", "prog.c", paramSource, []string{"-gdwarf-4", "-O2", "-nostdlib", "-shared", "-fPIC"}},
		{"gcc", "usdt.c", usdtSource, []string{"-O1", "-g"}},
		{"rustc", "lib.rs", "pub fn f(x: &str) -> usize { x.len() * 2 }\n#[no_mangle] pub extern \"C\" fn work(a: u8, b: &[u32]) -> usize { f(\"x\") + b.len() + a as usize }", []string{"-g", "-O", "--crate-type=cdylib", "-Cpanic=abort"}},
	} {
		path := build(t, c.compiler, c.file, c.source, c.args...)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		n := rounds
		if len(data) > 1<<18 {
			n = rounds / 40
		}
		for range n {
			broken := bytes.Clone(data)
			for range 1 + r.IntN(12) {
				at := 64 + r.IntN(len(data)-64)
				for k := range 1 + r.IntN(4) {
					if at+k < len(broken) {
						broken[at+k] = byte(r.Uint32())
					}
				}
			}
			readEverything(broken)
		}
	}
}

// readEverything asks a file every question that there is; it must not panic, and must come to an end.
func readEverything(data []byte) {
	file, err := NewFile(bytes.NewReader(data), int64(len(data)), "fuzz", Options{NoDebugFiles: true})
	if err != nil {
		return
	}
	functions := file.Functions()
	for _, s := range append(functions[:min(len(functions), 20)], Symbol{Name: "x", Addr: 0x1000, Size: 32}) {
		file.At(s.Addr)
		file.Lookup(s.Name)
		file.OffsetOf(s.Addr)
		file.Lines(s.Addr)
		_, _ = file.Returns(s)
		_, _, _, _ = file.Boundary(s, 1)
		_, _ = file.Instruction(s.Addr)
		if sig, err := file.Signature(s); err == nil {
			for _, p := range sig.Params {
				_ = p.Type.String()
			}
		}
	}
	file.At(0)
	file.BuildID()
	_, _ = file.Markers()
	_, _ = file.GoInfo()
	_, _ = file.FindLine("tiny.c", 2, 0)
	_, _ = file.InlinedAt("g")
}
