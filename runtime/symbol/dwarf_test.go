package symbol

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// addr2line asks binutils for the lines of addresses, inlined functions included.
func addr2line(t *testing.T, path string, addrs []uint64) map[uint64][]string {
	t.Helper()
	cmd := exec.Command(tool(t, "addr2line"), "-a", "-i", "-f", "-e", path)
	var in strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&in, "%#x\n", a)
	}
	cmd.Stdin = strings.NewReader(in.String())
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	out := map[uint64][]string{}
	var at uint64
	function := ""
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		switch {
		case strings.HasPrefix(line, "0x"):
			if at, err = strconv.ParseUint(line, 0, 64); err != nil {
				t.Fatal(err)
			}
		case function == "":
			function = line
		default:
			line, _, _ = strings.Cut(line, " (discriminator")
			out[at] = append(out[at], function+" "+line)
			function = ""
		}
	}
	return out
}

func TestLinesAgreeWithAddr2line(t *testing.T) {
	for name, args := range map[string][]string{
		"DWARF 5":         {"-g", "-O2"},
		"DWARF 4":         {"-gdwarf-4", "-O2"},
		"DWARF 3":         {"-gdwarf-3", "-gstrict-dwarf", "-O1"},
		"no optimisation": {"-g", "-O0"},
		"no PIE":          {"-g", "-O2", "-no-pie"},
		"compressed":      {"-g", "-O2", "-gz"},
		"sections":        {"-g", "-O2", "-ffunction-sections", "-Wl,--gc-sections"},
		"link time":       {"-g", "-O2", "-flto"},
	} {
		t.Run(name, func(t *testing.T) {
			path := build(t, "gcc", "prog.c", cSource, args...)
			f := mustOpen(t, path)
			var addrs []uint64
			for _, fn := range []string{"main", "visible", "mixed"} {
				s, err := f.Function(fn)
				if err != nil {
					t.Fatal(err)
				}
				for off := range s.Size {
					addrs = append(addrs, s.Addr+off)
				}
			}
			compareLines(t, f, path, addrs, len(addrs)/50)
		})
	}
}

// compareLines allows a few differences: binutils attributes the odd instruction to another row of the table where
// several rows have the same address.
func compareLines(t *testing.T, f *File, path string, addrs []uint64, allowed int) {
	t.Helper()
	want := addr2line(t, path, addrs)
	wrong, inlined := 0, 0
	for _, a := range addrs {
		var got []string
		for _, l := range f.Lines(a) {
			got = append(got, fmt.Sprintf("%s %s:%d", l.Function, l.File, l.Line))
		}
		if len(got) > 1 {
			inlined++
		}
		w := want[a]
		for i := range w {
			w[i] = strings.Replace(w[i], ":?", ":0", 1)
		}
		if len(w) > 0 && strings.Contains(w[0], "<artificial>") {
			// binutils 2.40 shows this for the files of link-time optimised units; functions and lines are right.
			for _, list := range [][]string{got, w} {
				for i, text := range list {
					list[i] = text[:strings.IndexByte(text, ' ')] + text[strings.LastIndexByte(text, ':'):]
				}
			}
		}
		if strings.Join(got, "\n") != strings.Join(w, "\n") {
			if wrong++; wrong <= 8 {
				t.Logf("%#x:\n got %q\nwant %q", a, got, w)
			}
		}
	}
	t.Logf("%d addresses, %d in inlined code, %d differ", len(addrs), inlined, wrong)
	if wrong > allowed {
		t.Errorf("%d of %d addresses differ", wrong, len(addrs))
	}
}

const cppSource = `#include <vector>
#include <string>
#include <cstdio>

namespace net {
struct Trivial { int a; long b; };
struct Big { long v[5]; };
class Conn {
public:
	explicit Conn(int fd) : fd_(fd) {}
	virtual ~Conn() {}
	__attribute__((noinline)) int send(const std::string &text, Trivial t, Big big, std::string copy, double d, bool last) const;
	template <typename T> __attribute__((noinline)) T twice(T v) const { return v + v + fd_; }
private:
	int fd_;
};
int Conn::send(const std::string &text, Trivial t, Big big, std::string copy, double d, bool last) const
{
	std::vector<int> v;
	for (char c : text)
		v.push_back(c + t.a);
	return (int)(v.size() + big.v[0] + copy.size() + d) + last;
}
}

int main(int argc, char **argv)
{
	net::Conn c(argc);
	return (c.send(argv[0], {1, 2}, {{1}}, "copy", 1.5, true) + c.twice(argc) + (int)c.twice(2L)) & 0;
}
`

const rustSource = `
pub struct Point { x: i32, y: i64 }
pub struct Wide { v: [u64; 4] }

impl Point {
    #[inline(never)]
    pub fn scaled(&self, by: u32, name: &str, w: Wide, xs: &[u8]) -> i64 {
        (self.x as i64 + self.y) * by as i64 + name.len() as i64 + w.v[0] as i64 + xs.len() as i64
    }
}

#[inline(never)]
pub fn generic<T: std::fmt::Debug>(v: T) -> usize {
    format!("{:?}", v).len()
}

fn main() {
    let n = std::env::args().count() as u32;
    let p = Point { x: 1, y: n as i64 };
    let f: fn(&Point, u32, &str, Wide, &[u8]) -> i64 = std::hint::black_box(Point::scaled);
    std::process::exit(((f(&p, n, "text", Wide { v: [n as u64; 4] }, &[1, 2]) + generic(n) as i64) & 0) as i32);
}
`

func TestOtherLanguages(t *testing.T) {
	for _, c := range []struct{ name, compiler, file, source, arg string }{
		{"C++", "g++", "prog.cpp", cppSource, "-g -O2"},
		{"C++ without optimisation", "g++", "prog.cpp", cppSource, "-g -O0"},
		{"Rust", "rustc", "prog.rs", rustSource, "-g -O"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := build(t, c.compiler, c.file, c.source, strings.Fields(c.arg)...)
			f := mustOpen(t, path)
			var addrs []uint64
			r := rand.New(rand.NewPCG(1, 2))
			for _, s := range f.Functions() {
				if short := DemangleShort(s.Name); s.Size > 0 && (strings.HasPrefix(short, "net::") || strings.HasPrefix(short, "prog::")) {
					for range 40 {
						addrs = append(addrs, s.Addr+r.Uint64N(s.Size))
					}
				}
			}
			if len(addrs) < 80 {
				t.Fatalf("only %d addresses", len(addrs))
			}
			slices.Sort(addrs)
			addrs = slices.Compact(addrs)
			compareLines(t, f, path, addrs, len(addrs)/20)
		})
	}
}

func TestFindLine(t *testing.T) {
	path := build(t, "gcc", "prog.c", cSource, "-g", "-O2")
	f := mustOpen(t, path)
	lineOf := func(text string) int { return 1 + strings.Count(cSource[:strings.Index(cSource, text)], "\n") }
	got, err := f.FindLine("prog.c", lineOf("zeroed[3] += r"), 0)
	if err != nil || len(got) != 1 || got[0].Function != "visible" {
		t.Fatalf("%+v, %v", got, err)
	}
	if off, ok := f.OffsetOf(got[0].Addr); !ok || off != got[0].Offset {
		t.Errorf("%+v", got)
	}
	want := addr2line(t, path, []uint64{got[0].Addr})[got[0].Addr]
	if !strings.HasSuffix(want[0], fmt.Sprintf("prog.c:%d", lineOf("zeroed[3] += r"))) {
		t.Errorf("addr2line says %q", want)
	}
	if got[0].Line.Column != 0 {
		col := got[0].Line.Column
		if again, err := f.FindLine(filepath.Base(filepath.Dir(path))+"/prog.c", got[0].Line.Line, col); err != nil || len(again) != 1 {
			t.Errorf("with column and directory: %+v, %v", again, err)
		}
		if _, err := f.FindLine("prog.c", got[0].Line.Line, 999); !errors.Is(err, ErrNoSymbol) || !strings.Contains(err.Error(), fmt.Sprint(col)) {
			t.Errorf("a column without code: %v", err)
		}
	}
	// The inlined function's line is in its caller.
	got, err = f.FindLine("prog.c", lineOf("return v * 2"), 0)
	if err != nil || len(got) != 1 || got[0].Function != "visible" || got[0].Line.Function != "doubled" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, c := range []struct {
		file string
		line int
		want string
	}{{"prog.c", 100000, "nearest line"}, {"rog.c", 10, "no source file"}, {"", 1, "no source file"}} {
		if _, err := f.FindLine(c.file, c.line, 0); !errors.Is(err, ErrNoSymbol) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:%d: %v", c.file, c.line, err)
		}
	}
	files, err := f.SourceFiles()
	if err != nil || !strings.Contains(strings.Join(files, " "), "/prog.c") {
		t.Errorf("%q, %v", files, err)
	}
	inl, err := f.InlinedAt("doubled")
	if err != nil || len(inl) != 1 || inl[0].Function != "visible" {
		t.Errorf("%+v, %v", inl, err)
	}
	plain := mustOpen(t, build(t, "gcc", "prog.c", cSource, "-O2"))
	if _, err := plain.FindLine("prog.c", 10, 0); !errors.Is(err, ErrNoDebugInfo) || plain.HasDebugInfo() || !f.HasDebugInfo() {
		t.Errorf("without -g: %v", err)
	}
}

func TestLinesThroughDebugFile(t *testing.T) {
	path := build(t, "gcc", "prog.c", cSource, "-g", "-O1")
	debug := filepath.Join(filepath.Dir(path), "prog.debug")
	run(t, "objcopy", "--only-keep-debug", path, debug)
	run(t, "strip", path)
	run(t, "objcopy", "--add-gnu-debuglink="+debug, path)
	pid, addrs, _ := start(t, path)
	s := New(Config{Lines: true})
	defer s.Close()
	f := s.User(pid, addrs[1])
	if f.Name != "helper" || filepath.Base(f.File) != "prog.c" || f.Line == 0 {
		t.Errorf("%+v", f)
	}
	// The first instruction of visible that belongs to the inlined function.
	file := mustOpen(t, path)
	inl, err := file.InlinedAt("doubled")
	if err != nil || len(inl) == 0 {
		t.Fatal(inl, err)
	}
	visible, err := file.Function("visible")
	if err != nil {
		t.Fatal(err)
	}
	frames := s.UserFrames(pid, addrs[0]+inl[0].Addr-visible.Addr)
	if len(frames) != 2 || frames[0].Name != "doubled" || !frames[0].Inlined || frames[1].Name != "visible" || frames[1].Inlined || frames[1].Line == 0 {
		t.Errorf("%+v", frames)
	}
}
