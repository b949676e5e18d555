package stdlib_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	goruntime "runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/runtime/kernel/needs"
	"github.com/sonde-sh/sonde/stdlib"
)

// nativeSource is a program with debug information and USDT markers, which it writes by itself because the header for them is not installed
// everywhere. It runs once and exits.
const nativeSource = `
#define NOTE(name, semaphore, args, ...) \
	__asm__ volatile("990: nop\n" \
	".pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n" \
	".4byte 992f-991f, 994f-993f, 3\n" \
	"991: .asciz \"stapsdt\"\n992: .balign 4\n" \
	"993: .8byte 990b, _.stapsdt.base, " semaphore "\n" \
	".asciz \"app\"\n.asciz \"" name "\"\n.asciz \"" args "\"\n" \
	"994: .balign 4\n.popsection\n" \
	".ifndef _.stapsdt.base\n.pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
	".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n.popsection\n.endif\n" : : __VA_ARGS__)

typedef unsigned char octet;
struct point { int x, y; char name[8]; unsigned flag : 3; octet mac[3]; const char tag[4]; unsigned char text[4]; };
enum color { RED, GREEN = 5 };
struct pair { long a, b; };

unsigned short ready_semaphore __attribute__((section(".probes"))) = 0;

__attribute__((noipa)) int draw(struct point *p, enum color c, const char *text, struct pair pair, short small)
{
	__asm__ volatile("");
	return p->x + c + text[0] + (int)pair.b + small; // the line
}

__attribute__((noipa)) int work(int a, long b, const char *s)
{
	NOTE("start", "0", "-4@%0 8@%1 8@%2", "r"(a), "r"(b), "r"(s));
	if (ready_semaphore)
		NOTE("ready", "ready_semaphore", "-4@$-7 -4@%0", "r"(a));
	NOTE("twice", "0", "-4@$1", "r"(a));
	NOTE("twice", "0", "-4@$2", "r"(a));
	return a + (int)b + s[0];
}

int main(void)
{
	struct point p = { 3, 4, "here", 5, { 1, 2, 255 }, "tag", "txt" };
	static const char *volatile texts[] = { "hello", "mark" };
	for (int i = 0; i < 2; i++) // a probe cannot read what is not in memory yet
		*(volatile const char *)texts[i];
	return (draw(&p, GREEN, "hello", (struct pair){ 11, 22 }, -6) + work(41, 1L << 40, "mark")) & 0;
}
`

// TestNativeProgram probes a C program by function, parameter, source line and marker.
func TestNativeProgram(t *testing.T) {
	needs.BPF(t)
	if goruntime.GOARCH != "amd64" {
		t.Skip("needs x86-64")
	}
	cc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("needs gcc")
	}
	dir := t.TempDir()
	src := filepath.Join(dir, "native.c")
	if err := os.WriteFile(src, []byte(nativeSource), 0o644); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "native")
	if out, err := exec.Command(cc, "-g", "-O1", "-o", exe, src).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := stdlib.HostMachine(t)
	before, _, _ := strings.Cut(nativeSource, "// the line")
	line := strconv.Itoa(strings.Count(before, "\n") + 1)
	run := func() { _ = exec.Command(exe).Run() }
	cases := []struct{ name, text, want string }{
		{"parameters", `uprobe:EXE:draw { printf("%d %d %d %s %s %d", args.p.x, args.p.y, args.small, args.p.name, str(args.text), args.c); exit(); }`, `^3 4 -6 here hello 5`},
		{"all parameters", `uprobe:EXE:draw { print(args); exit(); }`, `\.c = GREEN, .*\.pair = \{ \.a = 11, \.b = 22 \}, \.small = -6 \}`},
		{"struct by value", `uprobe:EXE:draw { printf("%d %d", args.pair.a, args.pair.b); exit(); }`, `^11 22`},
		{"cast to a struct of the program", `uprobe:EXE:draw { $p = (struct point *)arg0; printf("%d %d %s %d", $p->x, $p.y, $p->name, sizeof(struct point) == sizeof(*$p)); exit(); }`, `^3 4 here 1`},
		{"arrays of characters and of numbers", `uprobe:EXE:draw { print((args.p.mac, args.p.tag, args.p.text)); @[args.p.mac] = 1; exit(); }`, `(?s)^\(\[1,2,255\], tag, txt\).*@\[\[1,2,255\]\]: 1`},
		{"bit-field", `uprobe:EXE:draw { printf("%d", args.p.flag); exit(); }`, `^5`},
		{"source line", `uprobe:EXE:native.c:LINE { printf("%s", func); exit(); }`, `^draw`},
		{"result", `uretprobe:EXE:work { printf("%d", (int32)retval); exit(); }`, `^150`},
		{"marker", `usdt:EXE:app:start { printf("%d %d %s", arg0, arg1 == (1 << 40), str(arg2)); exit(); }`, `^41 1 mark`},
		{"marker by name", `usdt:EXE:start { printf("%s", probe); exit(); }`, `^usdt:.*:app:start`},
		{"semaphore", `usdt:EXE:app:ready { printf("%d %d", arg0, arg1); exit(); }`, `^-7 41`},
		{"marker at two places", `usdt:EXE:app:twice { @[arg0] = count(); @n++; if (@n == 2) { exit(); } }`, `(?s)@\[1\]: \d+.*@\[2\]: \d+`},
		{"all markers", `usdt:EXE:* { @[probe] = count(); @n++; if (@n == 4) { exit(); } }`, `(?s)app:start\]: \d+`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			out := script(t, m, strings.NewReplacer("EXE", exe, "LINE", line).Replace(c.text), false, run)
			if !regexp.MustCompile(c.want).MatchString(out) {
				t.Errorf("script: %s\nprinted:\n%s\nwant a match of %s", c.text, out, c.want)
			}
		})
	}
	t.Run("listing", func(t *testing.T) {
		var out []byte
		if err := stdlib.List(m, stdlib.ProbeKinds(m), "uprobe:"+exe+":draw,usdt:"+exe, stdlib.ListOptions{Verbose: true}, func(l stdlib.Listed) bool {
			out = l.Write(out)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(string(out), exe, "EXE")
		want := `uprobe:EXE:draw
    struct point* p
    enum color c
    const char* text
    struct pair pair
    short int small
usdt:EXE:app:ready
    int32 arg0
    int32 arg1
usdt:EXE:app:start
    int32 arg0
    uint64 arg1
    uint64 arg2
usdt:EXE:app:twice
    int32 arg0
`
		if got != want {
			t.Errorf("got:\n%swant:\n%s", got, want)
		}
	})
}
