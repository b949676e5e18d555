package flame

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

func frames(names ...string) []Frame {
	var out []Frame
	for i, n := range names {
		f := Frame{Name: n, Addr: uint64(0x1000 * (i + 1)), Module: "/bin/prog", BuildID: "abcd"}
		if strings.HasPrefix(n, "k_") {
			f.Kernel, f.Module = true, ""
		}
		out = append(out, f)
	}
	return out
}

func samples() []Sample {
	return []Sample{
		{Labels: []string{"prog"}, Frames: frames("main", "work", "leaf"), Value: 60},
		{Labels: []string{"prog"}, Frames: frames("main", "work", "leaf"), Value: 10},
		{Labels: []string{"prog"}, Frames: frames("main", "read<T;U>", "k_vfs_read"), Value: 25},
		{Labels: []string{"prog"}, Frames: frames("main"), Value: 5},
		{Value: 1},
	}
}

const folded = "[no stack] 1\nprog;main 5\nprog;main;read<T:U>;k_vfs_read_[k] 25\nprog;main;work;leaf 70\n"

func TestFold(t *testing.T) {
	var b bytes.Buffer
	if err := WriteFolded(&b, Fold(samples())); err != nil {
		t.Fatal(err)
	}
	if b.String() != folded {
		t.Errorf("got\n%s", b.String())
	}
	stacks, err := ParseFolded(strings.NewReader("# a comment\n\n" + folded))
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := WriteFolded(&again, stacks); err != nil || again.String() != folded {
		t.Errorf("read back: %v\n%s", err, again.String())
	}
	for _, bad := range []string{"nonumber", "a;b x", "a;b -3"} {
		if _, err := ParseFolded(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// TestSVG reads the picture as XML and holds the boxes against the samples: each as wide as its share, inside of its caller.
func TestSVG(t *testing.T) {
	var b bytes.Buffer
	if err := WriteSVG(&b, Fold(samples()), Options{Title: "a < b"}); err != nil {
		t.Fatal(err)
	}
	type rect struct{ x, y, w float64 }
	boxes := map[string]rect{}
	name := ""
	d := xml.NewDecoder(&b)
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		e, ok := tok.(xml.StartElement)
		if !ok {
			continue
		}
		attr := map[string]string{}
		for _, a := range e.Attr {
			attr[a.Name.Local] = a.Value
		}
		number := func(k string) float64 {
			v, err := strconv.ParseFloat(attr[k], 64)
			if err != nil {
				t.Fatalf("%s: %v", k, err)
			}
			return v
		}
		switch {
		case e.Name.Local == "g" && attr["class"] == "b":
			name = attr["data-n"]
		case e.Name.Local == "rect" && name != "":
			boxes[name] = rect{number("x"), number("y"), number("width")}
			name = ""
		}
	}
	full := graphWidth - 2*sideSpace
	for n, share := range map[string]float64{"all": 1, "prog": 100.0 / 101, "main": 100.0 / 101, "work": 70.0 / 101, "leaf": 70.0 / 101, "read<T:U>": 25.0 / 101, "k_vfs_read_[k]": 25.0 / 101} {
		if r, ok := boxes[n]; !ok || math.Abs(r.w-share*full) > 0.02 {
			t.Errorf("%s: %+v, want a width of %.2f", n, r, share*full)
		}
	}
	for child, parent := range map[string]string{"prog": "all", "main": "prog", "work": "main", "leaf": "work", "k_vfs_read_[k]": "read<T:U>"} {
		c, p := boxes[child], boxes[parent]
		if c.x < p.x-0.02 || c.x+c.w > p.x+p.w+0.02 || c.y != p.y-rowHeight {
			t.Errorf("%s %+v is not on %s %+v", child, c, parent, p)
		}
	}
	var empty bytes.Buffer
	if err := WriteSVG(&empty, nil, Options{}); err != nil || !strings.Contains(empty.String(), "no samples") {
		t.Errorf("empty picture: %v", err)
	}
}

func TestPprof(t *testing.T) {
	in := samples()
	in = append(in, Sample{Frames: []Frame{
		{Name: "caller", Addr: 0x10, File: "a.c", Line: 3}, {Name: "outer", Addr: 0x20, File: "a.c", Line: 7}, {Name: "inlined", Addr: 0x20, File: "a.h", Line: 9, Inlined: true},
	}, Value: 2})
	var b bytes.Buffer
	if err := WritePprof(&b, in, Profile{PeriodNS: 10e6}); err != nil {
		t.Fatal(err)
	}
	p, err := profile.Parse(&b)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Sample) != len(in) || len(p.SampleType) != 2 || p.Period != 10e6 {
		t.Errorf("%d samples, types %v, period %d", len(p.Sample), p.SampleType, p.Period)
	}
	if s := p.Sample[0]; s.Value[0] != 60 || s.Value[1] != 600e6 || s.Location[0].Line[0].Function.Name != "leaf" || s.Location[2].Line[0].Function.Name != "main" || s.Location[0].Mapping.File != "/bin/prog" {
		t.Errorf("first sample: %+v", s)
	}
	last := p.Sample[len(in)-1]
	if len(last.Location) != 2 || len(last.Location[0].Line) != 2 {
		t.Fatalf("inlined: %+v", last.Location)
	}
	if l := last.Location[0].Line; l[0].Function.Name != "inlined" || l[0].Line != 9 || l[1].Function.Name != "outer" || last.Location[1].Line[0].Function.Name != "caller" {
		t.Errorf("inlined: %+v %+v", l[0], l[1])
	}
}

// Readers take the first file of a profile for the program.
func TestPprofProgramFirst(t *testing.T) {
	in := []Sample{{Value: 1, Frames: []Frame{
		{Name: "main", Addr: 1, Module: "/usr/bin/prog"}, {Name: "puts", Addr: 2, Module: "/lib/libc.so.6"}, {Name: "vfs_write", Addr: 3, Kernel: true},
	}}}
	var b bytes.Buffer
	if err := WritePprof(&b, in, Profile{}); err != nil {
		t.Fatal(err)
	}
	p, err := profile.Parse(&b)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Mapping) != 3 || p.Mapping[0].File != "/usr/bin/prog" || p.Mapping[1].File != "/lib/libc.so.6" || p.Sample[0].Location[0].Mapping.File != "[kernel.kallsyms]" {
		t.Errorf("%+v", p.Mapping)
	}
}
