package symbol

import (
	"debug/dwarf"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// describe writes a signature with the places of the parameters.
func describe(s Signature) string {
	place := func(p Place) string {
		var regs []string
		for _, r := range p.Registers {
			regs = append(regs, r.Name)
		}
		switch p.Kind {
		case PlaceRegisters:
			return strings.Join(regs, "+")
		case PlaceStack:
			return fmt.Sprintf("sp+%d", p.Offset)
		case PlacePointer:
			if len(regs) == 0 {
				return fmt.Sprintf("*(sp+%d)", p.Offset)
			}
			return "*" + regs[0]
		}
		return "?"
	}
	list := func(ps []Parameter) string {
		var out []string
		for _, p := range ps {
			out = append(out, fmt.Sprintf("%s: %s @%s", p.Name, p.Type, place(p.Place)))
		}
		return strings.Join(out, "; ")
	}
	text := fmt.Sprintf("%s: %s", s.Language, list(s.Params))
	if s.Variadic {
		text += "; ..."
	}
	if s.Language == "Go" {
		return text + " -> " + list(s.Results)
	}
	return text + " -> " + s.Result.String()
}

const paramSource = `#include <stdint.h>
#include <stdbool.h>
struct small { int a; char *p; };
struct floats { double a; float b; };
struct half { double d; long n; };
struct big { long v[3]; };
union both { int i; float f; };
typedef const char *text_t;
enum color { RED };
struct bits { unsigned a : 3; unsigned b : 7; int c; struct { int in; }; };
typedef int (*handler_t)(int, void *);

#define KEEP __attribute__((noipa))
KEEP int ints(char a, unsigned short b, int c, long d, uint64_t e, bool f, int g, short h) { return a + b + c + d + e + f + g + h; }
KEEP void *pointers(const char *a, char *const b, volatile int **c, void *d, text_t e, struct small *f, int (*g)[4], handler_t h) { return d; }
KEEP double structs(struct small s, struct big b, int n) { return s.a + b.v[0] + n; }
KEEP struct big result(int n, struct small s) { struct big b = {{n, s.a}}; return b; }
KEEP int mixed(double d, int a, struct floats f, struct half h, int b) { return d + a + f.a + h.n + b; }
KEEP enum color other(union both u, enum color c, int m[2][3], __int128 w, struct bits *x, long double ld, int after) { return c; }
KEEP void (*nested(int a, void (*cb)(const char *fmt, ...)))(int) { return 0; }
KEEP void none(void) {}
int main(void) { return 0; }
`

func TestParametersOfC(t *testing.T) {
	if NativeMachine() != 62 {
		t.Skip("needs x86-64")
	}
	for _, args := range [][]string{{"-g", "-O2"}, {"-g", "-O0", "-gdwarf-4"}} {
		f := mustOpen(t, build(t, "gcc", "prog.c", paramSource, args...))
		for name, want := range map[string]string{
			"ints":     "C: a: char @rdi; b: short unsigned int @rsi; c: int @rdx; d: long int @rcx; e: uint64_t @r8; f: _Bool @r9; g: int @sp+8; h: short int @sp+16 -> int",
			"pointers": "C: a: const char * @rdi; b: char *const @rsi; c: volatile int ** @rdx; d: void * @rcx; e: text_t @r8; f: struct small * @r9; g: int (*)[4] @sp+8; h: handler_t @sp+16 -> void *",
			"structs":  "C: s: struct small @rdi+rsi; b: struct big @sp+8; n: int @rdx -> double",
			"result":   "C: n: int @rsi; s: struct small @rdx+rcx -> struct big",
			"mixed":    "C: d: double @?; a: int @rdi; f: struct floats @?; h: struct half @?; b: int @rdx -> int",
			"other":    "C: u: union both @rdi; c: enum color @rsi; m: int (*)[3] @rdx; w: __int128 @rcx+r8; x: struct bits * @r9; ld: long double @sp+8; after: int @sp+24 -> enum color",
			"nested":   "C: a: int @rdi; cb: void (*)(const char *, ...) @rsi -> void (*)(int)",
			"none":     "C:  -> void",
		} {
			s, err := f.Function(name)
			if err != nil {
				t.Fatal(err)
			}
			sig, err := f.Signature(s)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			got := describe(sig)
			if got != want {
				t.Errorf("%v %s:\n got %s\nwant %s", args, name, got, want)
			}
			line := 1 + strings.Count(paramSource[:strings.Index(paramSource, name+"(")], "\n")
			if sig.Decl.Line != line {
				t.Errorf("%s is declared in line %d", name, sig.Decl.Line)
			}
		}
		s, _ := f.Function("other")
		sig, err := f.Signature(s)
		if err != nil {
			t.Fatal(err)
		}
		var fields []string
		for _, m := range sig.Params[4].Type.Elem().Strip().Fields() {
			fields = append(fields, fmt.Sprintf("%s:%d:%d:%d", m.Name, m.Offset, m.BitOffset, m.BitSize))
		}
		if got := strings.Join(fields, " "); got != "a:0:0:3 b:0:3:7 c:4:0:0 :8:0:0" {
			t.Errorf("fields of struct bits: %s", got)
		}
		if e := sig.Params[1].Type.Enumerators(); len(e) != 1 || e[0].Name != "RED" {
			t.Errorf("%+v", e)
		}
	}
	plain := mustOpen(t, build(t, "gcc", "prog.c", paramSource))
	s, _ := plain.Function("ints")
	if _, err := plain.Signature(s); !errors.Is(err, ErrNoDebugInfo) {
		t.Errorf("without -g: %v", err)
	}
}

func TestParametersOfOtherLanguages(t *testing.T) {
	if NativeMachine() != 62 {
		t.Skip("needs x86-64")
	}
	for _, c := range []struct {
		compiler, file, source string
		args                   []string
		name                   string // demangled, without parameters
		want                   string
	}{
		{
			"g++", "prog.cpp", cppSource,
			[]string{"-g", "-O1"},
			"net::Conn::send",
			"C++: this: const Conn *const @rdi; text: const string & @rsi; t: Trivial @rdx+rcx; big: Big @sp+8; copy: string @*r8; d: double @?; last: bool @r9 -> int",
		},
		{
			"rustc", "prog.rs", rustSource,
			[]string{"-g", "-O"},
			"prog::Point::scaled",
			"Rust: self: &prog::Point @rdi; by: u32 @rsi; name: &str @rdx+rcx; w: Wide @*r8; xs: &[u8] @sp+8 -> i64",
		},
		{
			"go", "prog.go", goSource,
			[]string{"build"},
			"main.Many",
			"Go: n: int @rax; s: string @rbx+rcx; xs: []int @rdi+rsi+r8 -> ~r0: int @rax; ~r1: string @rbx+rcx",
		},
		{"go", "prog.go", goSource, []string{"build"}, "main.(*pair).Sum", "Go: p: *main.pair @rax -> ~r0: int @rax"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := mustOpen(t, build(t, c.compiler, c.file, c.source, c.args...))
			for _, s := range f.Functions() {
				if DemangleShort(s.Name) != c.name {
					continue
				}
				sig, err := f.Signature(s)
				if err != nil {
					t.Fatal(err)
				}
				if got := describe(sig); got != c.want {
					t.Errorf("\n got %s\nwant %s", got, c.want)
				}
				return
			}
			t.Fatalf("no function %s", c.name)
		})
	}
}

// The optimiser sees all callers of this function, drops the arguments that they do not need and moves the others: a
// probe that read the registers of the convention would print nonsense.
func TestParametersThatTheOptimiserMoved(t *testing.T) {
	if NativeMachine() != 62 {
		t.Skip("needs x86-64")
	}
	source := strings.Replace(rustSource, "= std::hint::black_box(Point::scaled)", "= Point::scaled", 1)
	source = strings.Replace(source, "& 0) as i32", ") as i32", 1)
	f := mustOpen(t, build(t, "rustc", "prog.rs", source, "-g", "-O"))
	for _, s := range f.Functions() {
		if DemangleShort(s.Name) != "prog::Point::scaled" {
			continue
		}
		sig, err := f.Signature(s)
		if err != nil {
			t.Fatal(err)
		}
		code, err := f.Code(s.Addr, int(s.Size))
		if err != nil {
			t.Fatal(err)
		}
		// A function this small cannot read what a 32-byte value points to: it was taken apart.
		if p := sig.Params[3]; len(code) < 24 && p.Place.Kind != PlaceUnknown {
			t.Errorf("%d bytes of code, %s is said to be at %+v", len(code), p.Name, p.Place)
		}
		if len(sig.Params) != 5 {
			t.Errorf("%s", describe(sig))
		}
		return
	}
	t.Skip("needs a Rust compiler that keeps the function")
}

func FuzzLocations(f *testing.F) {
	f.Add([]byte{4, 0, 8, 1, 0x55, 0}, []byte{0x55, 0x93, 8, 0x54, 0x93, 8})
	f.Fuzz(func(t *testing.T, list, expr []byte) {
		l := &locations{order: binary.LittleEndian, loc: list, loclists: list, addresses: list}
		u := &unit{entry: &dwarf.Entry{Field: []dwarf.Field{{Attr: attrLoclistsBase, Val: int64(0)}}}}
		l.list4(0, 0, 4)
		l.list5(u, 0, true, 0, 4)
		l.list5(u, 0, false, 0, 4)
		for _, m := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64} {
			for _, p := range piecesOf(m, expr) {
				if p.kind == pieceRegister && p.register.Name == "" {
					t.Errorf("% x: %+v", expr, p)
				}
			}
		}
	})
}

func TestDemangle(t *testing.T) {
	for _, c := range []struct{ in, long, short string }{
		{"_ZNK3net4Conn5twiceIiEET_S2_", "int net::Conn::twice<int>(int) const", "net::Conn::twice<int>"},
		{"_ZN4prog5Point6scaled17h0123456789abcdefE", "prog::Point::scaled", "prog::Point::scaled"},
		{"_RNvCs1234_7mycrate3foo", "mycrate::foo", "mycrate::foo"},
		{"main.main", "main.main", "main.main"},
		{"_start", "_start", "_start"},
		{"", "", ""},
		{"_Z", "_Z", "_Z"},
		{"_Zbroken", "_Zbroken", "_Zbroken"},
	} {
		if got := Demangle(c.in); got != c.long {
			t.Errorf("Demangle(%q) = %q, want %q", c.in, got, c.long)
		}
		if got := DemangleShort(c.in); got != c.short {
			t.Errorf("DemangleShort(%q) = %q, want %q", c.in, got, c.short)
		}
	}
}
