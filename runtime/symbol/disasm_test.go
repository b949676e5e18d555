package symbol

import (
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const goSource = `package main

import (
	"fmt"
	"os"
)

type pair struct{ a, b int }

//go:noinline
func Many(n int, s string, xs []int) (int, string) {
	switch {
	case n > 10:
		return n, s
	case n > 5:
		return len(xs), s + "x"
	}
	if n == 0 {
		panic(s)
	}
	return 0, ""
}

//go:noinline
func (p *pair) Sum() int { return p.a + inlinedHelper(p.b) }

func inlinedHelper(b int) int { return b * 3 }

//go:noinline
func forever() {
	for {
		os.Getpid()
	}
}

func main() {
	a, b := Many(len(os.Args), os.Args[0], []int{1})
	p := &pair{a, 2}
	fmt.Println(a, b, p.Sum())
	if len(os.Args) > 100 {
		forever()
	}
	var x [1]byte
	os.Stdin.Read(x[:])
}
`

// disassembly returns objdump's instruction starts of a function and the starts of its returns.
func disassembly(t *testing.T, path, function string) (starts, returns []uint64) {
	t.Helper()
	text := run(t, "objdump", "-d", "--no-show-raw-insn", "--disassemble="+function, path)
	line := regexp.MustCompile(`(?m)^\s+([0-9a-f]+):\t(\S+)`)
	for _, m := range line.FindAllStringSubmatch(text, -1) {
		a, err := strconv.ParseUint(m[1], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		starts = append(starts, a)
		if strings.HasPrefix(m[2], "ret") {
			returns = append(returns, a)
		}
	}
	return starts, returns
}

func TestReturnsAgreeWithObjdump(t *testing.T) {
	path := build(t, "go", "prog.go", goSource, "build")
	f := mustOpen(t, path)
	for _, name := range []string{"main.Many", "main.(*pair).Sum", "main.forever", "fmt.(*pp).printValue", "runtime.memmove", "runtime.mallocgc"} {
		s, err := f.Function(name)
		if err != nil {
			t.Error(err)
			continue
		}
		starts, want := disassembly(t, path, name)
		if len(starts) == 0 {
			t.Errorf("objdump shows nothing of %s", name)
		}
		got, err := f.Returns(s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(got) != len(want) {
			t.Fatalf("%s: %d returns %x, objdump has %x", name, len(got), got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: return at %#x, objdump says %#x", name, got[i], want[i])
			}
		}
		if name == "main.forever" && len(got) != 0 {
			t.Errorf("a function that never returns has returns at %x", got)
		}
	}
}

func TestInstructionLengthsAgreeWithObjdump(t *testing.T) {
	libc, err := FindBinary("libc")
	if err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, libc)
	if f.Machine() != elf.EM_X86_64 {
		t.Skip("needs x86-64")
	}
	// libc has hand-written AVX2 and AVX-512 code: all of its text is walked in step with objdump.
	out, err := exec.Command(tool(t, "objdump"), "-d", "-w", "-j", ".text", libc).Output()
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^\s+([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*(.*)$`)
	wrong, total, encoded := 0, 0, 0
	for _, m := range line.FindAllStringSubmatch(string(out), -1) {
		if strings.Contains(m[3], "(bad)") || m[3] == "" {
			continue
		}
		bytes, err := hex.DecodeString(strings.ReplaceAll(m[2], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if len(bytes) == 1 && (bytes[0]&0xf0 == 0x40 || bytes[0] == 0xf0 || bytes[0] == 0x64) {
			continue // a lone prefix: objdump lost its way in a table
		}
		total++
		padded := append(append([]byte{}, bytes...), make([]byte, 16)...)
		if got := X86Length(padded); got != len(bytes) {
			if wrong++; wrong < 20 {
				t.Logf("%s: % x %s: length %d, want %d", m[1], bytes, m[3], got, len(bytes))
			}
		}
		if n := x86EncodedLength(padded); n != 0 {
			encoded++
			if n != len(bytes) {
				if wrong++; wrong < 20 {
					t.Logf("%s: % x %s: length by encoding %d, want %d", m[1], bytes, m[3], n, len(bytes))
				}
			}
		}
	}
	t.Logf("%d instructions, %d also by their encoding", total, encoded)
	if wrong > 0 || total < 100_000 || encoded < 10_000 {
		t.Errorf("%d lengths wrong of %d", wrong, total)
	}
}

func TestInstructionClasses(t *testing.T) {
	for _, c := range []struct {
		name, code string
		want       InstructionClass
	}{
		{"push rbp", "55", InstructionPush},
		{"push r12", "4154", InstructionPush},
		{"nop", "90", InstructionNop1},
		{"pause", "f390", InstructionOther},
		{"nop5", "0f1f440000", InstructionNop5},
		{"nop4", "0f1f4000", InstructionNop},
		{"nop2", "6690", InstructionNop},
		{"cs nop", "662e0f1f840000000000", InstructionUnprobeable},
		{"endbr64", "f30f1efa", InstructionLanding},
		{"sub rsp", "4883ec08", InstructionOther},
		{"lock xadd", "f00fc107", InstructionUnprobeable},
		{"jmp", "e900000000", InstructionBranch},
		{"jz near", "0f8400000000", InstructionBranch},
		{"call", "e800000000", InstructionBranch},
		{"ret", "c3", InstructionReturn},
		{"ret n", "c20800", InstructionReturn},
		{"bnd ret", "f2c3", InstructionReturn},
		{"int3", "cc", InstructionTrap},
		{"ud2", "0f0b", InstructionUnprobeable},
		{"hlt", "f4", InstructionUnprobeable},
		{"in", "e460", InstructionUnprobeable},
		{"vzeroupper", "c5f877", InstructionOther},
		{"mov fs", "64488b042528000000", InstructionOther},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, err := hex.DecodeString(c.code)
			if err != nil {
				t.Fatal(err)
			}
			in, err := decode(elf.EM_X86_64, append(code, make([]byte, 16)...), 0)
			if err != nil || in.Len != len(code) || in.Class != c.want {
				t.Errorf("%+v %v, want %v of %d bytes", in, err, c.want, len(code))
			}
		})
	}
	for _, c := range []struct {
		name string
		word uint32
		want InstructionClass
	}{
		{"ret", 0xd65f03c0, InstructionReturn},
		{"stp x29, x30, [sp, #-32]!", 0xa9be7bfd, InstructionPush},
		{"nop", 0xd503201f, InstructionNop},
		{"bti c", 0xd503245f, InstructionLanding},
		{"paciasp", 0xd503233f, InstructionLanding},
		{"b", 0x14000002, InstructionBranch},
		{"bl", 0x97fffff0, InstructionBranch},
		{"b.ne", 0x54000041, InstructionBranch},
		{"cbz", 0xb4000040, InstructionBranch},
		{"tbnz", 0x37000040, InstructionBranch},
		{"brk", 0xd4200000, InstructionTrap},
		{"svc", 0xd4000001, InstructionUnprobeable},
		{"ldxr", 0x885f7c00, InstructionUnprobeable},
		{"ldr literal", 0x58000040, InstructionUnprobeable},
		{"mrs tpidr_el0", 0xd53bd040, InstructionOther},
		{"sub sp", 0xd10083ff, InstructionOther},
		{"add", 0x8b010000, InstructionOther},
		{"ldr", 0xf9400000, InstructionOther},
	} {
		t.Run("arm64 "+c.name, func(t *testing.T) {
			in, err := decode(elf.EM_AARCH64, binary.LittleEndian.AppendUint32(nil, c.word), 0)
			if err != nil || in.Class != c.want {
				t.Errorf("%v %v, want %v", in.Class, err, c.want)
			}
		})
	}
	if _, err := decode(elf.EM_RISCV, make([]byte, 8), 0); !errors.Is(err, ErrNoDecoder) {
		t.Errorf("RISC-V: %v", err)
	}
}

func TestBoundaries(t *testing.T) {
	path := build(t, "gcc", "prog.c", cSource, "-O1", "-fcf-protection=full")
	f := mustOpen(t, path)
	s, err := f.Function("visible")
	if err != nil {
		t.Fatal(err)
	}
	starts, _ := disassembly(t, path, "visible")
	is := map[uint64]bool{}
	for _, a := range starts {
		is[a-s.Addr] = true
	}
	for off := range s.Size {
		ok, before, after, err := f.Boundary(s, off)
		if err != nil {
			t.Fatal(err)
		}
		if ok != is[off] || !is[before] || before > off || !ok && (after <= off || after < s.Size && !is[after]) {
			t.Errorf("offset %d: %v between %d and %d", off, ok, before, after)
		}
	}
	if _, _, _, err := f.Boundary(s, s.Size); err == nil || !strings.Contains(err.Error(), "offset outside the function bounds") {
		t.Errorf("offset behind the end: %v", err)
	}
	if f.Machine() == elf.EM_X86_64 {
		in, err := f.Instruction(s.Addr)
		if err != nil || in.Class != InstructionLanding || in.Next != InstructionPush && in.Next != InstructionOther {
			t.Errorf("%+v, %v", in, err)
		}
		main, err := f.Function("main")
		if err != nil {
			t.Fatal(err)
		}
		if in, err := f.Instruction(main.Addr + 4); err != nil || in.Text == "" {
			t.Errorf("%+v, %v", in, err)
		}
	}
}

func FuzzX86Length(f *testing.F) {
	f.Add([]byte{0x62, 0xf1, 0x7c, 0x48, 0x28, 0x05, 1, 2, 3, 4})
	f.Add([]byte{0xc4, 0xe3, 0x79, 0x14, 0xc0, 1})
	f.Fuzz(func(t *testing.T, code []byte) {
		if n := X86Length(code); n < 0 || n > len(code) {
			t.Errorf("length %d of % x", n, code)
		}
	})
}
