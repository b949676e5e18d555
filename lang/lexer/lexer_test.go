package lexer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
)

func lex(text string) (*Result, *diag.List) {
	_, f := source.NewSet("stdin", text)
	var diags diag.List
	return Lex(f, &diags), &diags
}

// show writes tokens as kind:text, items separated by |.
func show(r *Result) string {
	var items []string
	for _, it := range r.Items {
		var words []string
		for _, t := range r.Tokens[it.First:it.Last] {
			switch t.Kind {
			case Op, Assign:
				words = append(words, t.Text)
			default:
				words = append(words, fmt.Sprintf("%s:%s", t.Kind, t.Text))
			}
		}
		items = append(items, strings.Join(words, " "))
	}
	return strings.Join(items, " | ")
}

func TestTokens(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"one-liner", "BEGIN { $x = 1; }", "attach-point:BEGIN { var:$x = int:1 ; }"},
		{"predicate with a division", "k:f /a / b == 2/ { }", "attach-point:k:f predicate-open:/ ident:a / ident:b == int:2 predicate-close:/ { }"},
		{"predicate closed before a comment", "k:f /a/ // c\n{ }", "attach-point:k:f predicate-open:/ ident:a predicate-close:/ { }"},
		{"predicate glued to a kind", "BEGIN/pid/{}", "attach-point:BEGIN predicate-open:/ ident:pid predicate-close:/ { }"},
		{"path", "uprobe:/bin/a-b.so*:f+4, usdt:./x:y:z {}", "attach-point:uprobe:/bin/a-b.so*:f+4 , attach-point:usdt:./x:y:z { }"},
		{"quoted segment", `u:/x:"f(int, {})" {}`, `attach-point:u:/x:"f(int, {})" { }`},
		{"comment glued to a kind", "BEGIN// c\n{}", "attach-point:BEGIN { }"},
		{
			"several items", "config = { a = 1; }\nlet @m = hash(5);\nmacro f(x) { x }\nBEGIN {} END {}",
			"keyword:config = { ident:a = int:1 ; } | keyword:let map:@m = ident:hash ( int:5 ) ; | keyword:macro ident:f ( ident:x ) { const:x } | attach-point:BEGIN { } | attach-point:END { }",
		},
		{"words that are keywords only at the top", "BEGIN { config; macro; fn; }", "attach-point:BEGIN { ident:config ; ident:macro ; ident:fn ; }"},
		{"keyword as a field", "i:s:1 { a.if->let; if }", "attach-point:i:s:1 { ident:a . ident:if -> ident:let ; keyword:if }"},
		{
			"range and tuple index", "i:s:1 { 0..10; $a.0.1; $t.1e3 }",
			"attach-point:i:s:1 { int:0 .. int:10 ; var:$a . int:0 . int:1 ; var:$t . int:1e3 }",
		},
		{
			"operators", "i:s:1 { a<<=b>>c>=d&&e&=f--->g }",
			"attach-point:i:s:1 { ident:a <<= ident:b >> ident:c >= ident:d && ident:e &= ident:f -- -> ident:g }",
		},
		{"maps and parameters", "i:s:1 { @ @x $# $12 $x }", "attach-point:i:s:1 { map:@ map:@x param:$# param:$12 var:$x }"},
		{
			"C text", "#define A \\\n 1\nstruct s { int x; /* } */ };enum e{X};BEGIN{(A)(X)(Y)}",
			"directive:#define A \\\n 1 | c:struct s { int x; /* } */ }; | c:enum e{X}; | attach-point:BEGIN { ( const:A ) ( const:X ) ( ident:Y ) }",
		},
		{"kind named like a C word", "struct:x {}", "attach-point:struct:x { }"},
		{"missing brace", "BEGIN { a;\nkprobe:f { b }", "attach-point:BEGIN { ident:a ; | attach-point:kprobe:f { ident:b }"},
		{"missing closing slash", "k:f /pid == 1 { a }", "attach-point:k:f predicate-open:/ ident:pid == int:1 { ident:a }"},
		{
			"if in a predicate", "k:f /if a { b } else { c }/ { d }",
			"attach-point:k:f predicate-open:/ keyword:if ident:a { ident:b } keyword:else { ident:c } predicate-close:/ { ident:d }",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, diags := lex(c.text)
			if got := show(r); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			for _, d := range diags.All() {
				t.Errorf("unexpected: %v", d)
			}
		})
	}
}

func TestComments(t *testing.T) {
	r, _ := lex("#!/usr/bin/sonde\n// one \n/* two\n */ BEGIN /* three */ { } // four")
	var got []string
	for _, c := range r.Comments {
		got = append(got, c.Text)
	}
	if want := "// one|/* two\n */|/* three */|// four"; strings.Join(got, "|") != want || r.Shebang != "#!/usr/bin/sonde" {
		t.Errorf("got %q, shebang %q", got, r.Shebang)
	}
}

func TestParseInt(t *testing.T) {
	for _, c := range []struct {
		text string
		want Number
	}{
		{"0", Number{}},
		{"42", Number{Value: 42}},
		{"0x1f", Number{Value: 31}},
		{"0XFF", Number{Value: 255}},
		{"017", Number{Value: 15}},
		{"1_000", Number{Value: 1000}},
		{"1e6", Number{Value: 1e6}},
		{"9e18", Number{Value: 9e18}},
		{"0x1e6", Number{Value: 0x1e6}},
		{"12U", Number{Value: 12, Suffix: "u"}},
		{"12uLL", Number{Value: 12, Suffix: "ull"}},
		{"5ms", Number{Value: 5e6, Duration: true}},
		{"1d", Number{Value: 86400e9, Duration: true}},
		{"2m", Number{Value: 120e9, Duration: true}},
		{"1e3us", Number{Value: 1e6, Duration: true}},
		{"18446744073709551615", Number{Value: 1<<64 - 1}},
		{"18446744073709551616", Number{Overflow: true}},
		{"4294967295u", Number{Value: 1<<32 - 1, Suffix: "u"}},
		{"4294967296u", Number{Value: 1 << 32, Suffix: "u", Overflow: true}},
		{"9e19", Number{Overflow: true}},
		{"0x10000000000000000", Number{Overflow: true}},
		{"999999d", Number{Duration: true, Overflow: true}},
	} {
		got := ParseInt(c.text)
		if got.Overflow {
			got.Value, c.want.Value = 0, 0
		}
		if got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.text, got, c.want)
		}
	}
	for _, text := range []string{"1_", "08", "1x", "0x", "1e", "1e0", "10e3", "0e1", "1lu", "1Ms", "0b1", "1e3_", "12abc"} {
		if got := ParseInt(text); got.Problem == "" {
			t.Errorf("%s: accepted as %+v", text, got)
		}
	}
}

func TestUnquote(t *testing.T) {
	for text, want := range map[string]string{
		`""`: "", `"a b"`: "a b", `"\n\t\r\\\""`: "\n\t\r\\\"", `"\101\7\0"`: "A\a\x00", `"\x41\X4z"`: "A\x04z", `"é"`: "é",
	} {
		if got := Unquote(text); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestDump(t *testing.T) {
	set, f := source.NewSet("stdin", "BEGIN { }\nEND {}")
	var diags diag.List
	want := "1:1     attach-point    BEGIN\n1:7     op              {\n1:9     op              }\n\n2:1     attach-point    END\n2:5     op              {\n2:6     op              }\n"
	if got := Lex(f, &diags).Dump(set); got != want {
		t.Errorf("got\n%s", got)
	}
}

// FuzzLex checks that every byte of a text ends up in exactly one token, comment or gap of blanks, and nothing panics.
func FuzzLex(f *testing.F) {
	for _, text := range []string{
		"BEGIN { $x = 1; }", "k:f /a / b/ { @[\"x\\n\"] = 0x1f; } // c", "struct s { int x; };\n#define A 1\nuprobe:/a/\"b c\":d {}", "/* ", "\"", "'a'", "{}}{",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_, file := source.NewSet("fuzz", text)
		var diags diag.List
		r := Lex(file, &diags)
		end, item := file.Base, 0
		for i, tok := range r.Tokens {
			if tok.Span.Start < end || tok.Span.End < tok.Span.Start || tok.Span.End > file.Base+int32(len(text)) {
				t.Fatalf("token %d %v overlaps or leaves the text", i, tok)
			}
			end = tok.Span.End
			for item < len(r.Items) && r.Items[item].Last <= i {
				item++
			}
			if item == len(r.Items) || i < r.Items[item].First {
				t.Fatalf("token %d belongs to no item", i)
			}
		}
		if !diags.HasErrors() && strings.TrimSpace(text) != "" && len(r.Tokens)+len(r.Comments) == 0 && r.Shebang == "" {
			t.Fatal("text without tokens and without a diagnostic")
		}
	})
}

func BenchmarkLex(b *testing.B) {
	text := strings.Repeat("kprobe:vfs_read /pid == 42/ { @[comm, pid] = count(); printf(\"%s\\n\", str(args.filename)); }\n", 50)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		lex(text)
	}
}
