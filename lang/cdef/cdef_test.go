package cdef

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// texts splits C text as the parser would: directives line by line, definitions at blank lines.
func texts(f *source.File) []Text {
	var out []Text
	start := 0
	for start < len(f.Text) {
		end := start
		if f.Text[start] == '#' {
			for {
				n := strings.IndexByte(f.Text[end:], '\n')
				if n < 0 {
					end = len(f.Text)
					break
				}
				end += n
				if f.Text[end-1] != '\\' {
					break
				}
				end++
			}
		} else {
			depth := 0
			for end < len(f.Text) && (depth > 0 || f.Text[end] != '\n') {
				switch f.Text[end] {
				case '{':
					depth++
				case '}':
					depth--
				}
				end++
			}
		}
		if strings.TrimSpace(f.Text[start:end]) != "" {
			out = append(out, Text{Span: f.Span(start, end), Text: f.Text[start:end], Directive: f.Text[start] == '#'})
		}
		start = end + 1
	}
	return out
}

func parse(t testing.TB, text string, opts Options) (*Defs, *diag.List) {
	t.Helper()
	set, f := source.NewSet("stdin", text)
	var diags diag.List
	return Parse(set, texts(f), opts, &diags), &diags
}

func mustParse(t testing.TB, text string, opts Options) *Defs {
	t.Helper()
	d, diags := parse(t, text, opts)
	for _, e := range diags.All() {
		t.Fatalf("%s\n%v at %d %v", text, e, e.Span.Start, e.Hints)
	}
	return d
}

// describe writes a struct as "size: name@offset:type ...", bit-fields with their bits.
func describe(t *types.Type) string {
	if t == nil {
		return "unknown"
	}
	var parts []string
	for _, f := range t.Struct.Resolve() {
		s := fmt.Sprintf("%s@%d", f.Name, f.Offset)
		if f.BitSize > 0 {
			s += fmt.Sprintf("+%d/%d", f.BitOffset, f.BitSize)
		}
		parts = append(parts, s+":"+strings.ReplaceAll(f.Type.String(), " ", ""))
	}
	return fmt.Sprintf("%d: %s", t.Size, strings.Join(parts, " "))
}

// fakeBTF is a Source with a few kernel types.
type fakeBTF struct{}

func (fakeBTF) StructType(name string) *types.Type {
	if name == "sock" {
		def := &types.StructDef{Name: "sock", Size: 24, Resolve: func() []types.Field {
			return []types.Field{{Name: "a", Type: types.TUint64}, {Name: "b", Type: types.TUint8, Offset: 16}}
		}}
		return &types.Type{Kind: types.Struct, Size: 24, Struct: def}
	}
	return nil
}

func (fakeBTF) EnumType(name string) *types.Type {
	if name == "color" {
		return &types.Type{Kind: types.Enum, Size: 4, Enum: &types.EnumDef{Name: name, Size: 4, Values: []types.EnumValue{{Name: "RED", Value: 7}}}}
	}
	return nil
}

func (f fakeBTF) Typedef(name string) *types.Type {
	switch name {
	case "u32":
		return named(types.TUint32, "u32")
	case "sock_t":
		return f.StructType("sock")
	case "atomic_t":
		def := &types.StructDef{Size: 4, Resolve: func() []types.Field { return []types.Field{{Name: "counter", Type: types.TInt32}} }}
		return &types.Type{Kind: types.Struct, Size: 4, Struct: def, Name: name}
	}
	return nil
}

func (f fakeBTF) EnumConst(name string) (int64, *types.Type, bool) {
	if name == "RED" {
		return 7, f.EnumType("color"), true
	}
	return 0, nil, false
}
func (fakeBTF) FuncProto(string) *types.Proto { return nil }
func (fakeBTF) Names(what, prefix string, _ int) []string {
	if what == "typedef" {
		return slices.DeleteFunc([]string{"u32", "sock_t", "atomic_t"}, func(s string) bool { return !strings.HasPrefix(s, prefix) })
	}
	return nil
}

func TestStructs(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"plain", "struct s { char a; int b; short c; }", "12: a@0:int8 b@4:int32 c@8:int16"},
		{"no semicolon, then another", "struct x { int a; }\nstruct s { struct x y; char z; }", "8: y@0:structx z@4:int8"},
		{
			"pointer to itself and to the unknown", "struct s { struct s *next; struct other *o; void (*f)(int); };",
			"24: next@0:structs* o@8:structother* f@16:void*",
		},
		{
			"array, flexible array and string", "struct s { int a[3]; char name[16]; unsigned char raw[4]; long tail[]; };",
			"32: a@0:int32[3] name@12:string[16] raw@28:uint8[4] tail@32:int64[0]",
		},
		{
			"anonymous members", "struct s { int a; union { int b; char c[8]; }; struct { short d; } e; };",
			"16: a@0:int32 @4:union(anonymous) e@12:struct(anonymous)",
		},
		{
			"members that declare nothing", "struct s { int a; struct s; uint16_t b; struct q; };",
			"8: a@0:int32 b@4:uint16",
		},
		{"union", "union s { char a; long b; int c[3]; };", "16: a@0:int8 b@0:int64 c@0:int32[3]"},
		{
			"bit-fields", "struct s { unsigned a:1, b:2; unsigned :0; unsigned long c:40; char d; };",
			"16: a@0+0/1:uint32 b@0+1/2:uint32 c@8+0/40:uint64 d@13:int8",
		},
		{"packed", "struct s { char a; int b; short c; } __attribute__((packed));", "7: a@0:int8 b@1:int32 c@5:int16"},
		{"packed in front, aligned", "struct __attribute__((packed, aligned(4))) s { char a; int b; };", "8: a@0:int8 b@1:int32"},
		{"kernel's words", "struct s { char a; __u32 b; u64 __user *c; } __packed;", "13: a@0:int8 b@1:uint32 c@5:uint64*"},
		{"aligned member", "struct s { char a; int b __attribute__((aligned(16))); char c; };", "32: a@0:int8 b@16:int32 c@20:int8"},
		{"packed member", "struct s { char a; int b __attribute__((packed)); };", "5: a@0:int8 b@1:int32"},
		{"aligned struct", "struct s { char a; } __attribute__((aligned(8)));", "8: a@0:int8"},
		{
			"sizes from macros and enums", "#define N 4\n#define M (N * 2)\nenum { K = M + 1 };\nstruct s { char a[N]; short b[K]; int c[sizeof(long)]; };",
			"56: a@0:string[4] b@4:int16[9] c@24:int32[8]",
		},
		{
			"typedef", "typedef struct { int x; } inner_t;\ntypedef unsigned short word;\nstruct s { inner_t a; word b; word *c; };",
			"16: a@0:struct(anonymous) b@4:uint16 c@8:uint16*",
		},
		{"constants of the table", "struct s { char comm[TASK_COMM_LEN]; };", "16: comm@0:string[16]"},
		{"enum member", "enum e { A, B };\nstruct s { enum e x; };", "4: x@0:enume"},
		{"comments", "struct s { int a; // }\n /* } */ int b; };", "8: a@0:int32 b@4:int32"},
		{"float", "struct s { double d; float f; };", "16: d@0:uint8[8] f@8:uint8[4]"},
		{"empty", "struct s { };", "0: "},
		{"function-like macro", "#define SQ(x) ((x) * (x))\nstruct s { char a[SQ(3)]; };", "9: a@0:string[9]"},
		{"condition that only C can decide", "#if defined(__LP64__) && 3 > 2\nstruct s { long a; };\n#endif", "8: a@0:int64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := mustParse(t, c.text, Options{})
			if got := describe(d.StructType("s")); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestTypesOfTheTarget(t *testing.T) {
	d := mustParse(t, "struct s { struct sock sk; sock_t t; u32 n; atomic_t refs; enum color c; char x[RED]; struct sock *p; };", Options{Base: fakeBTF{}, HaveBTF: true})
	s := d.StructType("s")
	if got, want := describe(s), "80: sk@0:structsock t@24:structsock n@48:uint32 refs@52:struct(anonymous) c@56:enumcolor x@60:string[7] p@72:structsock*"; got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	for _, name := range []string{"sk", "t", "p"} {
		f, _ := s.Struct.Field(name)
		typ := f.Type
		if typ.Kind == types.Pointer {
			typ = typ.Elem
		}
		if _, ok := typ.Struct.Field("b"); !ok {
			t.Errorf("%s is not the target's struct sock", name)
		}
	}
	f, _ := s.Struct.Field("refs")
	if _, ok := f.Type.Struct.Field("counter"); !ok {
		t.Error("refs is not the target's atomic_t")
	}
	if d.StructType("sock") == nil || d.Typedef("u32") == nil || d.EnumType("color") == nil {
		t.Error("types of the target are not visible")
	}
	if v, typ, ok := d.Const("RED"); !ok || v.Int != 7 || typ == nil {
		t.Errorf("RED = %v %v %v", v, typ, ok)
	}
}

func TestConstants(t *testing.T) {
	d := mustParse(t, `#define A 1
#define B 0x10UL
#define C 'a'
#define D "x" "\ty"
#define E (-5)
#define F (1 << 4) // shifted
#define G some_name
#define H
#define I(x) x
#define J 010 /* octal */
#define K \
  12
enum { ONE = 1, TWO, BIG = 0xffffffff };
`, Options{})
	for _, c := range []struct {
		name string
		want Value
	}{
		{"A", Value{Int: 1}},
		{"B", Value{Int: 16}},
		{"C", Value{Int: 'a'}},
		{"D", Value{Str: "x\ty", IsString: true}},
		{"E", Value{Int: -5}},
		{"F", Value{Int: 16}},
		{"J", Value{Int: 8}},
		{"K", Value{Int: 12}},
		{"ONE", Value{Int: 1}},
		{"TWO", Value{Int: 2}},
		{"BIG", Value{Int: 0xffffffff}},
		{"AF_INET6", Value{Int: 10}},
		{"IPPROTO_UDP", Value{Int: 17}},
		{"ENOENT", Value{Int: 2}},
		{"TASK_UNINTERRUPTIBLE", Value{Int: 2}},
		{"O_DIRECT", Value{Int: 0x4000}},
		{"AT_FDCWD", Value{Int: -100}},
		{"REQ_OP_MASK", Value{Int: 0xff}},
		{"REQ_SYNC", Value{Int: 1 << 11}},
		{"GFP_KERNEL", Value{Int: 0xcc0}},
		{"SB_RDONLY", Value{Int: 1}},
		{"TCPHDR_SYN", Value{Int: 2}},
		{"VM_EXEC", Value{Int: 4}},
	} {
		if got, _, ok := d.Const(c.name); !ok || got != c.want {
			t.Errorf("%s = %+v %v, want %+v", c.name, got, ok, c.want)
		}
	}
	for _, name := range []string{"G", "H", "I", "NO_SUCH_CONSTANT", "", "#", "AF_INET6 10"} {
		if got, _, ok := d.Const(name); ok {
			t.Errorf("%s = %+v, want none", name, got)
		}
	}
	if m, ok := d.Define("G"); !ok || m.Body != "some_name" || !m.BodySpan.IsValid() {
		t.Errorf("G is %+v %v", m, ok)
	}
	if m, _ := d.Define("I"); !m.FuncLike {
		t.Error("I is not function-like")
	}
	if v, ok := Constant("O_DIRECT", "arm64"); !ok || v != 0x10000 {
		t.Errorf("O_DIRECT on arm64 is %#x", v)
	}
	if text, err := os.ReadFile("constants.txt"); err != nil || string(text) != constantsText() {
		t.Errorf("constants.txt.gz is not constants.txt (%v): run go generate", err)
	}
	if names := ConstantNames(); len(names) < 3000 || !slices.IsSorted(names) {
		t.Errorf("%d names", len(names))
	}
}

func TestConditionals(t *testing.T) {
	tool := "#ifndef BPFTRACE_HAVE_BTF\n#include <linux/sched.h>\nstruct cfs_rq { struct load_weight load; };\n#else\n#define MODERN 1\n#endif\n"
	d := mustParse(t, tool, Options{HaveBTF: true, Base: fakeBTF{}})
	if d.own != nil {
		t.Error("the C front end ran for a definition that is not in force")
	}
	if _, ok := d.Define("MODERN"); !ok {
		t.Error("MODERN is not defined")
	}
	for _, c := range []struct {
		text string
		want bool
	}{
		{"#ifdef X\n#define R 1\n#endif", false},
		{"#ifndef X\n#define R 1\n#endif", true},
		{"#define X\n#ifdef X\n#define R 1\n#endif", true},
		{"#if 0\n#define R 1\n#endif", false},
		{"#if 0\n#else\n#define R 1\n#endif", true},
		{"#if 0\n#elif 1\n#define R 1\n#else\n#endif", true},
		{"#if 1\n#elif 1\n#define R 1\n#endif", false},
		{"#if defined(X) || !defined Y\n#define R 1\n#endif", true},
		{"#if defined(__x86_64__) && defined(__linux__)\n#define R 1\n#endif", true},
		{"#if 0\n#if 1\n#define R 1\n#endif\n#endif", false},
		{"#define X\n#undef X\n#ifdef X\n#define R 1\n#endif", false},
		{"#ifdef __aarch64__\n#define R 1\n#endif", false},
	} {
		d := mustParse(t, c.text, Options{})
		if _, ok := d.Define("R"); ok != c.want {
			t.Errorf("%q: defined %v, want %v", c.text, ok, c.want)
		}
	}
	d = mustParse(t, "#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 8, 0)\nstruct s { int a; };\n#else\nstruct s { long a; };\n#endif", Options{KernelVersion: 6<<16 | 1<<8})
	if got := describe(d.StructType("s")); got != "4: a@0:int32" {
		t.Errorf("by version: %s", got)
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct{ text, code, message, at string }{
		{"#endif", "E0204", "without `#if`", "#endif"},
		{"#ifdef A", "E0204", "has no `#endif`", "#ifdef A"},
		{"#else", "E0204", "without `#if`", "#else"},
		{"#frob", "E0204", "unknown preprocessor directive", "#frob"},
		{"#define", "E0204", "without a name", "#define"},
		{"#include foo", "E0204", "without a file name", "#include foo"},
		{"#error no", "E0205", "no", "#error no"},
		{"#include \"mine.h\"", "E0203", "not found", "#include \"mine.h\""},
		{"#include <foo/bar.h>", "E0203", "not found", "#include <foo/bar.h>"},
		{"#define A 1\n#define A 2", "W0211", "defined again", "#define A 2"},
		{"struct s {\n  int a;\n  unknown_t b;\n};", "E0202", "unknown type `unknown_t`", "unknown_t"},
		{"struct s { int a; int b[; };", "E0201", "", "["},
		{"struct s { int a; int a; };", "E0205", "twice", "a"},
		{"struct s { char a[1ul << 40]; };", "E0205", "too large", "["},
		{"struct s { int a; struct s n; };", "E0202", "not complete before its closing brace", "n"},
		{"struct s { union { int x; struct s n[2]; } u; };", "E0202", "not complete before its closing brace", "n"},
		{"struct s { struct nowhere n; };", "E0202", "unknown type `struct nowhere`", "nowhere"},
	} {
		_, diags := parse(t, c.text, Options{})
		all := diags.All()
		if len(all) != 1 || string(all[0].Code) != c.code || !strings.Contains(all[0].Message, c.message) {
			t.Errorf("%q: %v, want one %s %q", c.text, all, c.code, c.message)
			continue
		}
		if sp := all[0].Span; c.at != "" && c.text[sp.Start-1:sp.End-1] != c.at {
			t.Errorf("%q: points at %q, want %q", c.text, c.text[sp.Start-1:sp.End-1], c.at)
		}
	}
}

func TestHeaders(t *testing.T) {
	files := map[string]string{
		"inc/mine.h":                 "#define MINE 3\nstruct mine { int a; };\n",
		"/usr/include/sys/thing.h":   "#include <sys/more.h>\n#define THING (MORE + 1)\nstruct thing { long a; };\nenum { THING_ENUM = 9 };\n",
		"/usr/include/sys/more.h":    "#define MORE 41\n",
		"/usr/include/linux/evil.h":  "this is not C at all {\n",
		"/usr/include/linux/other.h": "#define OTHER 5\n",
	}
	reads := 0
	opts := Options{IncludeDirs: []string{"inc"}, ReadFile: func(path string) ([]byte, error) {
		reads++
		if text, ok := files[path]; ok {
			return []byte(text), nil
		}
		return nil, os.ErrNotExist
	}}
	d := mustParse(t, "#include \"mine.h\"\nstruct s { struct mine m; char a[MINE]; };", opts)
	if got := describe(d.StructType("s")); got != "8: m@0:structmine a@4:string[3]" {
		t.Errorf("own header: %s", got)
	}

	d = mustParse(t, "#include <sys/thing.h>\n#include <linux/evil.h>\n#include <linux/other.h>\n#include <linux/absent.h>", opts)
	if d.own != nil || d.headers != nil {
		t.Error("headers of the system were read before they were needed")
	}
	reads = 0
	if _, _, ok := d.Const("AF_INET"); !ok || reads > 0 {
		t.Errorf("a constant of the table made %d reads", reads)
	}
	for name, want := range map[string]int64{"THING": 42, "THING_ENUM": 9, "OTHER": 5} {
		if v, _, ok := d.Const(name); !ok || v.Int != want {
			t.Errorf("%s = %v %v, want %d", name, v, ok, want)
		}
	}
	if got := describe(d.StructType("thing")); got != "8: a@0:int64" {
		t.Errorf("struct thing: %s", got)
	}

	d = mustParse(t, "", Options{Includes: []string{"inc/mine.h"}, ReadFile: opts.ReadFile})
	if v, _, ok := d.Const("MINE"); !ok || v.Int != 3 {
		// The macro belongs to a header, not to the script.
		if d.StructType("mine") == nil {
			t.Errorf("--include: MINE = %v %v", v, ok)
		}
	}
	d = mustParse(t, "#include <sys/thing.h>\nstruct s { struct thing t; };", opts)
	if got := describe(d.StructType("s")); got != "8: t@0:structthing" {
		t.Errorf("a struct of a system header: %s", got)
	}
}

func BenchmarkIncludesOnly(b *testing.B) {
	for b.Loop() {
		parse(b, "#include <linux/sched.h>\n#define X 1\n", Options{})
	}
}

func BenchmarkStruct(b *testing.B) {
	for b.Loop() {
		parse(b, "struct s { int a; char b[16]; struct s *next; };", Options{})
	}
}
