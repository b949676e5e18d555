package diag

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/lang/source"
)

func TestRender(t *testing.T) {
	set, f := source.NewSet("stdin", "kprobe:f { printf(\"%d\", foo); }\n\t$ü = pid;\nlast")
	r := &Renderer{Set: set}
	at := func(text string) source.Span {
		i := strings.Index(f.Text, text)
		return f.Span(i, i+len(text))
	}
	for _, c := range []struct {
		name string
		d    *Diagnostic
		want string
	}{
		{
			"one line",
			(&Diagnostic{Code: "E0301", Span: at("foo"), Message: "unknown name `foo`"}).Hint("declare it"),
			"stdin:1:25-28: ERROR: unknown name `foo` [E0301]\n" +
				"kprobe:f { printf(\"%d\", foo); }\n" +
				"                        ~~~\nHINT: declare it\n",
		},
		{
			"tab and rune before the span",
			&Diagnostic{Severity: Warning, Code: "W0301", Span: at("pid"), Message: "m"},
			"stdin:2:8-11: WARNING: m [W0301]\n    $ü = pid;\n         ~~~\n",
		},
		{
			"span over several lines",
			&Diagnostic{Span: at("{ printf(\"%d\", foo); }\n\t$ü"), Message: "m"},
			"stdin:1-2: ERROR: m\nkprobe:f { printf(\"%d\", foo); }\n         ~~~~~~~~~~~~~~~~~~~~~~\n",
		},
		{
			"empty span at the end of the text",
			&Diagnostic{Span: f.Span(len(f.Text), len(f.Text)), Message: "m"},
			"stdin:3:5-6: ERROR: m\nlast\n    ~\n",
		},
		{
			"span that is the line break",
			&Diagnostic{Span: at("\n\t"), Message: "m"},
			"stdin:1-2: ERROR: m\nkprobe:f { printf(\"%d\", foo); }\n                               ~\n",
		},
		{"no span", &Diagnostic{Code: "E0801", Message: "m"}, "ERROR: m [E0801]\n"},
		{
			"label, origin and note",
			(&Diagnostic{Span: at("foo"), Message: "m", Origins: []Label{{at("last"), "expanded from here"}}, Notes: []string{"R1 invalid"}}).
				Label(at("kprobe"), "this probe"),
			"stdin:1:25-28: ERROR: m\nkprobe:f { printf(\"%d\", foo); }\n                        ~~~\n" +
				"stdin:1:1-7: NOTE: this probe\nkprobe:f { printf(\"%d\", foo); }\n~~~~~~\n" +
				"stdin:3:1-5: NOTE: expanded from here\nlast\n~~~~\nNOTE: R1 invalid\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := r.Render(c.d); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestRenderLongLine(t *testing.T) {
	line := strings.Repeat("a", 300) + "XYZ" + strings.Repeat("b", 300)
	set, f := source.NewSet("s", line)
	r := &Renderer{Set: set, Width: 60}
	for _, sp := range []source.Span{f.Span(300, 303), f.Span(0, 3), f.Span(600, 603), f.Span(0, 603)} {
		lines := strings.Split(r.Render(&Diagnostic{Span: sp, Message: "m"}), "\n")
		text, under := lines[1], lines[2]
		if len(text) > 66 || len(under) > len(text)+1 {
			t.Errorf("span %v: %d and %d columns\n%s\n%s", sp, len(text), len(under), text, under)
		}
		if i := strings.Index(under, "~"); sp.End-sp.Start == 3 && text[i:i+3] != line[sp.Start-1:sp.End-1] {
			t.Errorf("span %v: the underline is below %q\n%s\n%s", sp, text[i:i+3], text, under)
		}
	}
}

func TestRenderIsSafeForTerminals(t *testing.T) {
	set, f := source.NewSet("s", "a \x1b[2J\u202e b")
	got := (&Renderer{Set: set}).Render(&Diagnostic{Span: f.Span(0, 1), Message: "m"})
	if strings.ContainsAny(got, "\x1b\u202e") {
		t.Errorf("control characters reach the terminal: %q", got)
	}
}

func TestRenderColor(t *testing.T) {
	set, f := source.NewSet("s", "abc")
	d := &Diagnostic{Span: f.Span(0, 1), Message: "m"}
	if got := (&Renderer{Set: set, Color: true}).Render(d); !strings.Contains(got, "\x1b[31;1mERROR\x1b[") {
		t.Errorf("no colour in %q", got)
	}
	if got := (&Renderer{Set: set}).Render(d); strings.Contains(got, "\x1b") {
		t.Errorf("colour although not asked for: %q", got)
	}
}

func TestWriteLimit(t *testing.T) {
	var l List
	for range 3 {
		l.Errorf("E0101", source.Span{}, "same")
	}
	l.Errorf("E0101", source.Span{}, "other")
	l.Errorf("E0101", source.Span{}, "third")
	var b strings.Builder
	if err := (&Renderer{}).Write(&b, &l, 2); err != nil {
		t.Fatal(err)
	}
	if want := "ERROR: same [E0101]\nERROR: other [E0101]\nand 1 more\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

// TestWriteLimitShowsAnError: many warnings do not hide the error behind them.
func TestWriteLimitShowsAnError(t *testing.T) {
	var l List
	for _, m := range []string{"one", "two", "three"} {
		l.Warnf("W0401", source.Span{}, "%s", m)
	}
	l.Errorf("E0101", source.Span{}, "wrong")
	l.Errorf("E0101", source.Span{}, "also wrong")
	var b strings.Builder
	if err := (&Renderer{}).Write(&b, &l, 1); err != nil {
		t.Fatal(err)
	}
	if want := "WARNING: one [W0401]\nERROR: wrong [E0101]\nand 3 more\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestJSON(t *testing.T) {
	set, f := source.NewSet("stdin", "a\nbcd")
	d := (&Diagnostic{Severity: Warning, Code: "W0301", Span: f.Span(3, 4), Message: "m", Fix: &Fix{f.Span(0, 1), "x"}}).Hint("h")
	got, err := JSON(set, d)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"severity":"warning","code":"W0301","message":"m","where":{"file":"stdin","line":2,"col":2,"end_line":2,"end_col":3},` +
		`"hints":["h"],"fix":{"where":{"file":"stdin","line":1,"col":1,"end_line":1,"end_col":2},"text":"x"}}`
	if string(got) != want || !json.Valid(got) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"comm", "count", "printf", "print", "kstack", "ustack", "pid", "tid", "uid", "$start", "@start", "nsecs", "strncmp"}
	for _, c := range []struct{ name, want string }{
		{"prinft", "printf"},
		{"Comm", "comm"},
		{"k_stack", "kstack"},
		{"kstak", "kstack"},
		{"conut", "count"},
		{"$stast", "$start"},
		{"@stat", "@start"},
		{"pdi", "pid"},
		{"xyz", ""},
		{"q", ""},
		{"completely_other", ""},
		{"", ""},
		{"nsec", "nsecs"},
		{"strcmp", "strncmp"},
		{"zzd", ""},
	} {
		if got := Nearest(c.name, names); got != c.want {
			t.Errorf("Nearest(%q) = %q, want %q", c.name, got, c.want)
		}
	}
}
