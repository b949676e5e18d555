package syntax

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
)

func parse(t testing.TB, text string) (*ast.Script, *diag.List) {
	t.Helper()
	set, f := source.NewSet("stdin", text)
	var diags diag.List
	return Parse(set, f, &diags), &diags
}

// accepted are scripts that must parse without a word.
var accepted = []string{
	"BEGIN { }", "begin{}", "END{exit()}", "kprobe:f { 1 }",
	"kprobe:f,kprobe:g { }", "kprobe:f,\nkprobe:g,\n/pid == 1/ { }", "kprobe:f , kprobe:g { }",
	"BEGIN/pid/{ 1 }", "kprobe:f /pid/ {}", "kprobe:f\n/pid == 1 / 2/\n{}", "kprobe:f /a / b / c/ {}", "kprobe:f /@x[tid]/ /* c */ {}",
	"kprobe:f / pid / // why\n{ }",
	"uprobe:/bin/bash:readline { }", "uprobe:./a/b:f+4 {}", `uprobe:/bin/x:"ns::f(int, char)" {}`, `uprobe:/bin/x:cpp:"a::b" {}`,
	"uprobe:/usr/lib/*/libc.so.6:mall* {}", "usdt:*:loop {}", "usdt::foo {}", "uprobe:$1:f {}", "tracepoint:$1:$2 /args.bytes > $1/ {}",
	"t:a:b {} k:f {} i:s:1 {} p:hz:99 {} interval:1s {} hardware:cache-misses:1e6 {} software:faults: {}",
	"watchpoint:0x10000000:8:rw {} w:increment+arg1:4:w {}", "iter:task_file:/sys/fs/bpf/files {}",
	"name=kprobe:f { }", "self:signal:SIGUSR1 {} test:okay { return 1; } bench:x { }",
	"#!/usr/bin/bpftrace\nBEGIN{}", "#include <a.h>\n#define X 1\n#define Y(a) \\\n  (a+1)\nBEGIN { X }",
	"struct a { int x; struct { int y; }; }\nstruct b { int z; };\nunion u { int a; char b[4]; } enum e { A, B = 3 } enum { C }; BEGIN{}",
	"struct foo; BEGIN {}", "typedef unsigned int foo_t; typedef struct { int a; } bar_t; BEGIN{}",
	"struct a { int x; } __attribute__((packed));\nBEGIN{}", "struct __attribute__((packed)) a { int x; // }\n /* } */ int y; }; BEGIN{}",
	"config = { a = 1; b = \"x\"; c = true; stack_mode=perf }\nBEGIN{}", "config = {}\nBEGIN{}", "#define A 1\nconfig = { a = 1 }\nBEGIN {}",
	"import \"foo\"; config = { a=1 }; BEGIN{}"[:strings.Index("import \"foo\"; config = { a=1 }; BEGIN{}", "; BEGIN")] + " BEGIN {}",
	"let @m = hash(100);\nlet @n = lruhash(1)\nBEGIN{}",
	"macro one() { 1 } macro f($a, @b, c) { $a += c; @b[c]++; } BEGIN { print(one); }",
	"fn f($a : int64, $b : struct x *) : uint64 { return $a; } fn g():void{} BEGIN{}",
	"BEGIN { $x = 1; $x += 1; $x <<= 2; $x >>= 2; $x -= 1; $x *= 2; $x /= 2; $x %= 3; $x &= 1; $x |= 2; $x ^= 3; @ = 1; @a += 1; @a[1,2] = 3; }",
	"BEGIN { $x++; ++$x; @x[1]--; --@; @++; @x[a,b]++ }", "BEGIN { @x[(a,b)] = 1; @x [1] = 2; @a[1][2] }",
	"BEGIN { let $x; let $y = 1; let $z : uint8; let $w : struct foo * = 0; let $s : string[64] = \"\"; let $t : (int64, string) = (1, \"a\"); }",
	"BEGIN { if (1) { } else if (2) { } else { } if (1) { };  if $x { } ++@x; }",
	"BEGIN { if comptime (1 == 1) { } if comptime x { } }",
	"BEGIN { while (1) { break; continue } while $x { } unroll(5) { } unroll ($1) { print(1); } unroll 3 { } return; }",
	"BEGIN { for ($kv : @m) { print($kv.0.1); } for $i : 0..10 { } for ($i : 0..$n) {} for ($i : -1..ncpus) {} }",
	"BEGIN { _ = f(); _=1; return }", "BEGIN { return 1 + 2 }",
	"BEGIN { $x = { let $b = 1; $b }; $y = if (1) { 2 } else { 3 }; $z = {1} + {2}; { 1 } print(2); }",
	"BEGIN { $a = (); $b = (1,); $c = (1,2,); $d = ((1,2),3); $d.0.1; $d[0]; (a=1, b=\"x\").a }",
	"BEGIN { 1 ? 2 : 3 ? 4 : 5; 1 ? 2 ? 3 : 4 : 5; $x ?: 3; a ?\n b : c }",
	"BEGIN { $s = \"a\\n\\t\\\"\\\\\\0\\101\\x41\\r\"; }",
	"BEGIN { 0x1F; 0XFFul; 017; 1e6; 1_000_000; 5ms; 10s; 3m; 2h; 1d; 7us; 9ns; 12UL; 12ull; 12LL; 0; 00 }",
	"BEGIN { ((struct task_struct *)arg0)->comm; (uint8[8])1; (int32 *)$p; (typeof($x))1; (string[10])x; (u64)x; (pid_t *)x; (struct x)*$y; **(int64 **)reg(\"sp\"); (int64)-1; (uint8)(1) }",
	"BEGIN { (cpu) - 1; (pid) * 2; (retval) & 1; (args.x) - 1; (1) - 2; ($x) - 1 }",
	"BEGIN { sizeof(int); sizeof(struct x); sizeof(struct x *); sizeof($x); sizeof(x.y); sizeof(uint8[4]); offsetof(struct x, a.b.c); offsetof(*curtask, comm); typeinfo(int8); typeinfo($x).full_type }",
	"BEGIN { args.config; args->if; args.offset.let; args.return; $x.comptime }",
	"BEGIN { &$x; &@y; !$x; ~1; -1; - -1; *$p; !!a; !*$p }", "BEGIN { comptime (1 + 2); comptime f(1) }",
	"BEGIN { print(struct x); f(typeof($x)); }"[:0] + "BEGIN { a.b->c[1].d; a(1)(2)[3]; }"[:0] + "BEGIN { a.b->c[1].d; a(1).b }",
	"BEGIN { import \"x\"; print($#, $1, $12); }", "BEGIN // c\n{ /* x */ print(/* y */ 1); // z\n }",
	"BEGIN { a < b == c; a & b == c; a || b && c | d ^ e & f == g < h << i + j * k; }",
	"BEGIN { $a=1;$b=-1;$c=*$p;$d=&@x;@=!$a;@y=~1 }",
	"i:s:1{@[kstack(3)]=count()}", "", "// only a comment\n", "#include <x.h>\n",
}

func TestAccepts(t *testing.T) {
	for _, text := range accepted {
		_, diags := parse(t, text)
		for _, d := range diags.All() {
			t.Errorf("%q: at %d: %v %v", text, d.Span.Start-1, d, d.Hints)
		}
	}
}

// rejected are scripts with exactly one fault.
var rejected = []struct{ text, code, message string }{
	{"BEGIN { ; }", "E0101", "there is no statement before it"},
	{"BEGIN { $a = 1;; }", "E0101", "there is no statement before it"},
	{"BEGIN { unroll(2){}; }", "E0101", "expected expression, found `;` after a loop"},
	{"BEGIN { print(1) print(2) }", "E0108", "syntax: expected ';'"},
	{"BEGIN { $a = 1 $b = 2 }", "E0108", "syntax: expected ';'"},
	{"BEGIN { $x = ; }", "E0101", "syntax: expected expression, found `;`"},
	{"BEGIN { $x = = 1; }", "E0101", "syntax: expected expression, found `=`"},
	{"BEGIN { if ($x = 1) { } }", "E0101", "syntax: expected ')', found `=`"},
	{"BEGIN { print(1; }", "E0101", "syntax: expected ')', found `;`"},
	{"BEGIN { print(1, ) }", "E0101", "expected expression"},
	{"BEGIN { print(1);", "E0102", "this `{` is not closed"},
	{"BEGIN", "E0102", "expected '{'"},
	{"BEGIN }", "E0101", "found `}`"},
	{"{ 1 }", "E0111", "expected attach point"},
	{"/pid/ { 1 }", "E0111", "expected attach point"},
	{"kprobe:f/pid==1/ {}", "E0111", ""},
	{"kprobe:f/pid == 1/ {}", "E0111", "expected '{', found `==`"},
	{"kprobe:f,,kprobe:g {}", "E0111", "expected attach point, found `,`"},
	{"kprobe:f /pid == 1 { }", "E0101", "to close predicate"},
	{"BEGIN { $x = 'a'; }", "E0104", "single quotes"},
	{"BEGIN { $x = \"\\q\"; }", "E0104", "invalid escape"},
	{"BEGIN { $x = \"abc; }\n", "E0104", "unterminated string"},
	{"BEGIN { $x = \"a\" \"b\"; }", "E0108", "syntax: expected ';'"},
	{"BEGIN { 08 }", "E0105", "trailing bytes"},
	{"BEGIN { 1x }", "E0105", "suffix"},
	{"BEGIN { 0b1 }", "E0105", "suffix"},
	{"BEGIN { 1_ }", "E0105", "underscore"},
	{"BEGIN { 12e3 }", "E0105", "coefficient"},
	{"BEGIN { 1e }", "E0105", "trailing bytes"},
	{"BEGIN { $x = 1.5; }", "E0115", "floating"},
	{"BEGIN { $0 }", "E0116", "out of integer range"},
	{"BEGIN { pid++ }", "E0112", "requires a variable or map"},
	{"BEGIN { ++1 }", "E0112", ""},
	{"BEGIN { $x.y++ }", "E0112", ""},
	{"BEGIN { &pid }", "E0113", ""},
	{"BEGIN { pid = 1; }", "E0109", "cannot assign to `pid`"},
	{"BEGIN { x = 1; }", "E0109", ""},
	{"BEGIN { $x.1 = 2; }", "E0109", "immutable"},
	{"BEGIN { $x[1] = 2; }", "E0109", "array"},
	{"BEGIN { *$p = 1; }", "E0109", ""},
	{"BEGIN { $a = $b = 1; }", "E0101", "found `=`"},
	{"BEGIN { $x->1 }", "E0101", "expected field name after '->'"},
	{"BEGIN { (a=1, a=2) }", "E0114", "already contains name"},
	{"BEGIN { else }", "E0101", "found keyword `else`"},
	{"BEGIN { for (i = 0; i < 3; i++) { } }", "E0101", "expected variable in for loop"},
	{"BEGIN { for ($i : 5) { } }", "E0101", "expected map or range in for loop"},
	{"BEGIN { for ($i : @x[1]) { } }", "E0101", "expected map or range in for loop"},
	{"BEGIN { if $x == 1 { } }", "E0101", "expected '{'"},
	{"BEGIN { if (a) && (b) { } }", "E0101", "expected '{'"},
	{"let $x = 1; BEGIN {}", "E0117", "need to be map declarations"},
	{"BEGIN {} #define X 1\n", "E0110", "C definitions"},
	{"BEGIN {} config = { a = 1 }", "E0110", "config"},
	{"config = { a = 1 } config = { b = 2 } BEGIN {}", "E0110", "duplicate config"},
	{"BEGIN {} import \"x\";", "E0110", "imports"},
	{"config = { a = 1 b = 2 }", "E0108", "syntax: expected ';'"},
	{"import \"x\" BEGIN {}", "E0108", ""},
	{"macro f(pid) { 1 }", "E0101", "builtin"},
	{"macro f(a,) { 1 }", "E0101", ""},
	{"macro f { 1 }", "E0101", ""},
	{"fn f() { }", "E0101", "expected ':'"},
	{"BEGIN { let @x = 1; }", "E0101", ""},
	{"BEGIN { let x = 1; }", "E0101", ""},
	{"BEGIN { $x = 1 /* ", "E0106", "comment is not closed"},
	{"BEGIN { $ = 1 }", "E0103", ""},
	{"BEGIN { a # b }", "E0103", "preprocessor"},
	{"BEGIN { a ` b }", "E0103", ""},
	{"BEGIN { " + strings.Repeat("(", 1100) + "1" + strings.Repeat(")", 1100) + " }", "E0107", "nested deeper"},
	{"BEGIN { " + strings.Repeat("{", 1100) + "1" + strings.Repeat("}", 1100) + " }", "E0107", "nested deeper"},
	{"BEGIN { " + strings.Repeat("!", 1100) + "1 }", "E0107", "nested deeper"},
	{"BEGIN { " + strings.Repeat("1 ? 2 : ", 1100) + "1 }", "E0107", "nested deeper"},
}

func TestRejects(t *testing.T) {
	for _, c := range rejected {
		_, diags := parse(t, c.text)
		all := diags.All()
		if len(all) == 0 {
			t.Errorf("%q: accepted", c.text)
			continue
		}
		if string(all[0].Code) != c.code || !strings.Contains(all[0].Message, c.message) {
			t.Errorf("%q: got %v %v, want %q [%s]", c.text, all[0], all[0].Hints, c.message, c.code)
		}
		if len(all) > 1 {
			t.Errorf("%q: %d diagnostics, the second is %v", c.text, len(all), all[1])
		}
	}
}

func TestDebianScripts(t *testing.T) {
	files, _ := filepath.Glob("/usr/sbin/*.bt")
	if len(files) == 0 {
		t.Skip("needs Debian's bpftrace package: no /usr/sbin/*.bt")
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, diags := parse(t, string(text))
		for _, d := range diags.All() {
			t.Errorf("%s: at %d: %v", name, d.Span.Start, d)
		}
	}
}

func BenchmarkOneLiner(b *testing.B) {
	for b.Loop() {
		parse(b, `tracepoint:syscalls:sys_enter_openat /pid == 42/ { @[comm, pid] = count(); printf("%s\n", str(args.filename)); }`)
	}
}

func BenchmarkProbes10000(b *testing.B) {
	text := strings.Repeat("kprobe:vfs_read /pid == 42/ { @[comm, pid] = count(); }\n", 10000)
	for b.Loop() {
		parse(b, text)
	}
}

func BenchmarkBuildGrammar(b *testing.B) {
	for b.Loop() {
		buildGrammar()
	}
}

func TestIncomplete(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "BEGIN { exit(); }": false, "BEGIN {": true, "BEGIN": true, "kprobe:f,": true, "kprobe:f /pid == 1": true, "kprobe:f /pid == 1/": true,
		"kprobe:f { print(1": true, "kprobe:f { if (1) { }": true, "kprobe:f { } kprobe:g {": true, "/* c": true, "// c": false,
		"struct s { int x;": true, "struct s { int x; }": false, "#define A \\": true, "#define A 1": false, "config = {": true, "let @a = hash(": true,
		"let @a = hash(1);": false, "macro f(x)": true, "fn f($a : int8) : int8 {": true, "BEGIN { $x = ; }": false, "BEGIN { } }": false,
		"@x[pid": true, "print(@x": true, "print(@x)": false, "@x = 1 +": true, "@x": false, "$x = {": true, "import \"x\"": false,
	} {
		if got := Incomplete(text); got != want {
			t.Errorf("Incomplete(%q) = %v", text, got)
		}
	}
}

func TestParseExpr(t *testing.T) {
	for text, want := range map[string]string{
		"1 + 2 * 3": "(+ 1 (* 2 3))", "a - b - c": "(- (- a b) c)", "1 ? 2 : 3 ? 4 : 5": "(? 1 2 (? 3 4 5))", "a || b && c | d ^ e & f": "(|| a (&& b (| c (^ d (& e f)))))",
		"a == b < c << d + e * -f": "(== a (< b (<< c (+ d (* e (- f))))))", "!a.b[1]->c": "(! (-> (index (. a b) 1) c))", "(u32)a.b + 1": "(+ (cast (type u32) (. a b)) 1)",
		"*a.b++": "", "-1": "-1", "- -1": "(- -1)", "(cpu) - 1": "(- (paren cpu) 1)", "(u8) - 1": "(cast (type u8) -1)", "(x)(y)": "(cast (type x) (paren y))",
		"sizeof(x)": "(sizeof x)", "sizeof(int)": "(sizeof (type int))", "sizeof(x *)": "(sizeof (type x *))", "a ?: b ?: c": "(?: a (?: b c))",
		"&@x": "(& @x)", "@x[1, 2][3]": "(index (index @x 1 2) 3)", "{ 1 } + { 2 }": "(+ (block (result 1)) (block (result 2)))", "1 2": "", "": "", "a +": "",
		"(unsigned long)x": "(cast (type unsigned long) x)", "(struct a *)b->c": "(cast (type struct a *) (-> b c))", "(a, b)": "(tuple a b)", "(a)": "(paren a)",
		"(a = 1)": "(record (a 1))", "$#": "$#", "comptime 1 + 2": "(+ (comptime 1) 2)", "if (a) { 1 } else { 2 }": "(if a (block (result 1)) (block (result 2)))",
	} {
		_, f := source.NewSet("stdin", text)
		var diags diag.List
		x := ParseExpr(f, &diags)
		if want == "" {
			if x != nil || !diags.HasErrors() {
				t.Errorf("%q: accepted", text)
			}
			continue
		}
		if got := strings.TrimSpace(ast.Dump(x)); x == nil || got != want {
			t.Errorf("%q: got %s %v, want %s", text, got, &diags, want)
		}
	}
}

func TestSeveralFaults(t *testing.T) {
	_, diags := parse(t, "BEGIN { $x = ; }\nkprobe:f { print(1) print(2) }\nEND { 08 }\nkprobe:ok { }\n}\n")
	var got []string
	for _, d := range diags.All() {
		got = append(got, string(d.Code))
	}
	if want := "E0101 E0108 E0105 E0101"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	s, _ := parse(t, "BEGIN { $x = ; }\nkprobe:ok { }")
	if len(s.Items) != 1 {
		t.Errorf("%d items survive, want 1", len(s.Items))
	}
}
