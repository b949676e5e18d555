package symbol

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// usdtSource writes the notes by itself: the header that programs use for that is not installed everywhere.
const usdtSource = `
#define NOTE(provider, name, semaphore, args, ...) \
	__asm__ volatile("990: nop\n" \
	".pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n" \
	".4byte 992f-991f, 994f-993f, 3\n" \
	"991: .asciz \"stapsdt\"\n992: .balign 4\n" \
	"993: .8byte 990b, _.stapsdt.base, " semaphore "\n" \
	".asciz \"" provider "\"\n.asciz \"" name "\"\n.asciz \"" args "\"\n" \
	"994: .balign 4\n.popsection\n" \
	".ifndef _.stapsdt.base\n.pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
	".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n.popsection\n.endif\n" : : __VA_ARGS__)

unsigned short app_ready_semaphore __attribute__((section(".probes"))) = 0;
int level = 3;

__attribute__((noinline)) int work(int a, long b, char *s)
{
	NOTE("app", "start", "0", "-4@%0 8@%1 8@%2", "r"(a), "r"(b), "r"(s));
	if (app_ready_semaphore)
		NOTE("app", "ready", "app_ready_semaphore", "-4@$-7 4@level(%%rip)", "r"(a));
	return a + (int)b + s[0];
}

int main(int argc, char **argv)
{
	NOTE("app", "none", "0", "", "r"(argc));
	return work(argc, 2, argv[0]) & 0;
}
`

func TestMarkersAgreeWithReadelf(t *testing.T) {
	if NativeMachine() != elf.EM_X86_64 {
		t.Skip("needs x86-64")
	}
	// The C++ library has markers for exceptions in most distributions, the C library in some.
	system, err := FindBinary("libstdc++")
	if err != nil {
		t.Skip("needs libstdc++")
	}
	files := []string{system, build(t, "gcc", "usdt.c", usdtSource, "-O1"), build(t, "gcc", "usdt.c", usdtSource, "-O1", "-no-pie")}
	note := regexp.MustCompile(`Provider: (\S+)\s+Name: (\S+)\s+Location: 0x([0-9a-f]+), Base: 0x[0-9a-f]+, Semaphore: 0x([0-9a-f]+)\s*\n\s+Arguments: ?(.*)`)
	for _, path := range files {
		f := mustOpen(t, path)
		got, err := f.Markers()
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for _, m := range got {
			have[fmt.Sprintf("%s:%s@%016x %016x %s", m.Provider, m.Name, m.Addr, m.Semaphore, m.ArgText)] = true
			if m.Addr == 0 || m.Offset == 0 || (m.Semaphore != 0) != (m.SemaphoreOffset != 0) {
				t.Errorf("%+v", m)
			}
			for _, a := range m.Args {
				if a.Err != "" {
					t.Errorf("%s:%s: %s", m.Provider, m.Name, a.Err)
				}
			}
			in, err := f.Instruction(m.Addr)
			if err != nil || in.Class != InstructionNop1 {
				t.Errorf("%s:%s: at its address is %+v, %v", m.Provider, m.Name, in, err)
			}
		}
		want := note.FindAllStringSubmatch(run(t, "readelf", "-nW", path), -1)
		if len(want) != len(got) || len(want) < 3 && path != system {
			t.Errorf("%s: %d markers, readelf shows %d", path, len(got), len(want))
		}
		for _, w := range want {
			if k := fmt.Sprintf("%s:%s@%s %s %s", w[1], w[2], w[3], w[4], strings.TrimSpace(w[5])); !have[k] {
				t.Errorf("%s: missing %q", path, k)
			}
		}
	}
	f := mustOpen(t, files[1])
	markers, _ := f.Markers()
	level, err := f.Lookup("level")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range markers {
		if m.Name != "ready" {
			continue
		}
		if a := m.Args[0]; a.Kind != MarkerConst || a.Const != -7 || !a.Signed || a.Size != 4 {
			t.Errorf("constant: %+v", a)
		}
		if a := m.Args[1]; a.Kind != MarkerMemory || a.Reg.Name != "rip" || m.Addr+uint64(a.Disp) != level[0].Addr {
			t.Errorf("variable: %+v, level is at %#x", a, level[0].Addr)
		}
	}
}

func TestMarkerArguments(t *testing.T) {
	resolve := func(name string) (uint64, bool) { return 0x4010, name == "counter" }
	const at = 0x1000
	for _, c := range []struct {
		machine elf.Machine
		spec    string
		want    string
	}{
		{elf.EM_X86_64, "-4@%eax", "4 signed reg 80/4"},
		{elf.EM_X86_64, "8@%rdi", "8 reg 112/8"},
		{elf.EM_X86_64, "1@%ah", "1 reg 80/1>>8"},
		{elf.EM_X86_64, "1@%sil", "1 reg 104/1"},
		{elf.EM_X86_64, "2@%r12w", "2 reg 24/2"},
		{elf.EM_X86_64, "4@%r9d", "4 reg 64/4"},
		{elf.EM_X86_64, "8@%r8", "8 reg 72/8"},
		{elf.EM_X86_64, "8@%rsp", "8 reg 152/8"},
		{elf.EM_X86_64, "-8@$-1", "8 signed const -1"},
		{elf.EM_X86_64, "8@$0xffffffffffffffff", "8 const -1"},
		{elf.EM_X86_64, "-4@-20(%rbp)", "4 signed mem 32 -20"},
		{elf.EM_X86_64, "8@(%rsp)", "8 mem 152 0"},
		{elf.EM_X86_64, "8@16(%rax,%rbx,4)", "8 mem 80 +40<<2 16"},
		{elf.EM_X86_64, "8@(,%rbx,8)", "8 mem - +40<<3 0"},
		{elf.EM_X86_64, "8@(%rax,%rbx)", "8 mem 80 +40<<0 0"},
		{elf.EM_X86_64, "4@counter(%rip)", "4 mem 128 12304"},
		{elf.EM_X86_64, "4@counter+4(%rip)", "4 mem 128 12308"},
		{elf.EM_X86_64, "4@4+counter(%rip)", "4 mem 128 12308"},
		{elf.EM_X86_64, "4@counter", "4 mem - 16400"},
		{elf.EM_X86_64, "%rax", "8 reg 80/8"},
		{elf.EM_X86_64, "8@missing(%rip)", "error"},
		{elf.EM_X86_64, "8f@%xmm0", "error"},
		{elf.EM_X86_64, "8@%fs:8", "error"},
		{elf.EM_X86_64, "3@%rax", "error"},
		{elf.EM_X86_64, "8@", "error"},
		{elf.EM_X86_64, "8@8(%rip)", "error"},
		{elf.EM_X86_64, "8@(%rax", "error"},
		{elf.EM_X86_64, "8@(%rax,%rbx,3)", "error"},
		{elf.EM_AARCH64, "-4@w1", "4 signed reg 8/4"},
		{elf.EM_AARCH64, "8@x30", "8 reg 240/8"},
		{elf.EM_AARCH64, "8@sp", "8 reg 248/8"},
		{elf.EM_AARCH64, "8@[sp, 16]", "8 mem 248 16"},
		{elf.EM_AARCH64, "8@[x0, #-8]", "8 mem 0 -8"},
		{elf.EM_AARCH64, "4@[x19]", "4 mem 152 0"},
		{elf.EM_AARCH64, "8@[x1, x2, lsl 3]", "8 mem 8 +16<<3 0"},
		{elf.EM_AARCH64, "-4@5", "4 signed const 5"},
		{elf.EM_AARCH64, "4@wzr", "4 const 0"},
		{elf.EM_AARCH64, "8@x31", "error"},
		{elf.EM_AARCH64, "8@[x1, x2, sxtw]", "error"},
		{elf.EM_AARCH64, "8@d0", "error"},
	} {
		t.Run(c.spec, func(t *testing.T) {
			a := parseMarkerArg(c.machine, c.spec, at, resolve)
			got := fmt.Sprint(a.Size)
			if a.Signed {
				got += " signed"
			}
			switch {
			case a.Err != "":
				got = "error"
			case a.Kind == MarkerRegister:
				got += fmt.Sprintf(" reg %d/%d", a.Reg.Offset, a.Reg.Size)
				if a.Reg.Shift > 0 {
					got += fmt.Sprintf(">>%d", a.Reg.Shift)
				}
			case a.Kind == MarkerConst:
				got += fmt.Sprintf(" const %d", a.Const)
			case a.Kind == MarkerMemory:
				base := "-"
				if a.HasReg {
					base = fmt.Sprint(a.Reg.Offset)
				}
				got += " mem " + base
				if a.HasIndex {
					got += fmt.Sprintf(" +%d<<%d", a.Index.Offset, a.Scale)
				}
				got += fmt.Sprintf(" %d", a.Disp)
			}
			if got != c.want {
				t.Errorf("got %q, want %q (%+v)", got, c.want, a)
			}
		})
	}
	if got := splitMarkerArgs("8@[sp, 16] -4@w1 8@[x1, x2, lsl 3]"); len(got) != 3 || got[2] != "8@[x1, x2, lsl 3]" {
		t.Errorf("%q", got)
	}
}

func TestMovedMarkers(t *testing.T) {
	note := func(pc, base, sem uint64) []byte {
		desc := binary.LittleEndian.AppendUint64(nil, pc)
		desc = binary.LittleEndian.AppendUint64(desc, base)
		desc = binary.LittleEndian.AppendUint64(desc, sem)
		desc = append(desc, "p\x00n\x00\x00"...)
		out := binary.LittleEndian.AppendUint32(nil, 8)
		out = binary.LittleEndian.AppendUint32(out, uint32(len(desc)))
		out = binary.LittleEndian.AppendUint32(out, 3)
		out = append(out, "stapsdt\x00"...)
		out = append(out, desc...)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
		return out
	}
	got := parseMarkers(append(note(0x100, 0x1000, 0x20), note(0x200, 0x1000, 0)...), binary.LittleEndian, true, elf.EM_X86_64, 0x1400, nil)
	if len(got) != 2 || got[0].Addr != 0x500 || got[0].Semaphore != 0x420 || got[1].Addr != 0x600 || got[1].Semaphore != 0 {
		t.Errorf("%+v", got)
	}
}

func FuzzMarkers(f *testing.F) {
	f.Add([]byte("\x08\x00\x00\x00\x24\x00\x00\x00\x03\x00\x00\x00stapsdt\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00p\x00n\x00-4@%eax\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, machine := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64} {
			for _, m := range parseMarkers(data, binary.LittleEndian, true, machine, 5, nil) {
				if m.Provider == "" || m.Name == "" {
					t.Errorf("%+v", m)
				}
				for _, a := range m.Args {
					if a.Err == "" && (a.Kind == 0 || a.HasReg && (a.Reg.Offset < 0 || a.Reg.Offset > 264)) {
						t.Errorf("%+v", a)
					}
				}
			}
		}
	})
}
