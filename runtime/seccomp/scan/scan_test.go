package scan

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/runtime/seccomp"
)

func run(t testing.TB, paths ...string) *Report {
	t.Helper()
	r, err := Run(paths)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func need(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s: %v", name, err)
	}
	return path
}

// build compiles a C program.
func build(t testing.TB, source string, flags ...string) string {
	t.Helper()
	gcc := need(t, "gcc")
	dir := t.TempDir()
	src, out := filepath.Join(dir, "a.c"), filepath.Join(dir, "program")
	if err := os.WriteFile(src, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command(gcc, append([]string{"-o", out, src}, flags...)...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, b)
	}
	return out
}

func (r *Report) find(name string) *Call {
	for i := range r.Calls {
		if r.Calls[i].Name == name {
			return &r.Calls[i]
		}
	}
	return nil
}

// library is the C library that programs here use.
func library(t testing.TB) string {
	t.Helper()
	for _, p := range []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6"} {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	t.Skip("needs glibc")
	return ""
}

// resolved fails when less than 98 % of a file's sites are.
func resolved(t *testing.T, r *Report, path string, atLeast int) {
	t.Helper()
	for _, f := range r.Files {
		if filepath.Base(f.Path) != filepath.Base(path) {
			continue
		}
		t.Logf("%s: %d of %d sites", f.Path, f.Resolved, f.Sites)
		if f.Sites < atLeast || float64(f.Resolved) < 0.98*float64(f.Sites) {
			t.Errorf("%d of %d sites are resolved, want 98 %% of at least %d", f.Resolved, f.Sites, atLeast)
		}
		return
	}
	t.Errorf("%s is not in the report", path)
}

func TestScanLibrary(t *testing.T) {
	path := library(t)
	r := run(t, path)
	resolved(t, r, path, 400)
	for _, name := range []string{"read", "openat", "execve", "futex", "exit_group", "rt_sigprocmask", "clone"} {
		if c := r.find(name); c == nil || len(c.Chain) == 0 || c.Reach != ReachDirect {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if !slices.Contains(r.Files[0].Wrappers, "syscall") {
		t.Errorf("wrappers %v, want syscall among them", r.Files[0].Wrappers)
	}
	if len(r.Calls) < 250 {
		t.Errorf("%d calls, a C library has more", len(r.Calls))
	}
}

func TestScanOtherMachine(t *testing.T) {
	path := "/usr/aarch64-linux-gnu/lib/libc.so.6"
	if runtime.GOARCH == "arm64" {
		path = "/usr/x86_64-linux-gnu/lib/libc.so.6"
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs the C library of another machine (libc6-arm64-cross): %v", err)
	}
	resolved(t, run(t, path), path, 400)
}

// TestScanGo scans a Go program, stripped as release builds are, for both machines.
func TestScanGo(t *testing.T) {
	need(t, "go")
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			if arch != runtime.GOARCH && testing.Short() {
				t.Skip("needs time to build the standard library for another machine")
			}
			dir := t.TempDir()
			src, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
			text := "package main\n\nimport (\n\t\"fmt\"\n\t\"net\"\n\t\"os\"\n\t\"os/exec\"\n\t\"syscall\"\n)\n\nfunc main() {\n\tfmt.Println(syscall.Umask(0), os.Args)\n\tl, err := net.Listen(\"tcp\", os.Args[0])\n\tfmt.Println(l, err, exec.Command(\"x\").Run())\n}\n"
			if err := os.WriteFile(src, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, src)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
			if b, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("go build: %v\n%s", err, b)
			}
			r := run(t, out)
			resolved(t, r, out, 50)
			if r.Files[0].Language != "go" {
				t.Errorf("language %q", r.Files[0].Language)
			}
			for name, through := range map[string]string{"umask": "main.main", "listen": "syscall.Listen", "execve": "syscall.forkAndExecInChild", "futex": "runtime.futex", "exit_group": "runtime.exit"} {
				if c := r.find(name); c == nil || !strings.Contains(strings.Join(c.Chain, " "), through) {
					t.Errorf("%s: %+v, want a chain through %s", name, c, through)
				}
			}
			if r.find("swapon") != nil {
				t.Error("swapon is reached, which the linker left out")
			}
		})
	}
}

// TestScanProgram follows a program into its library, through a function of its own, and reads numbers that are not next to
// the instruction.
func TestScanProgram(t *testing.T) {
	library(t)
	out := build(t, `
#define _GNU_SOURCE
#include <unistd.h>
#include <sys/syscall.h>
#include <sys/stat.h>
static __attribute__((noinline)) long mine(int nr, long a) { return syscall(nr, a); }
__attribute__((noinline)) long chosen(int x) { return syscall(x ? SYS_getsid : SYS_getpgid, 0); }
__attribute__((noinline)) long table(int x) {
	long nr = -1;
	switch (x) {
	case 0: nr = SYS_sync; break;
	case 1: nr = SYS_vhangup; break;
	case 2: nr = SYS_setsid; break;
	case 3: nr = SYS_munlockall; break;
	case 4: nr = SYS_getppid; break;
	case 5: nr = SYS_gettid; break;
	default: return 0;
	}
	return syscall(nr);
}
__attribute__((noinline)) long unknown(int c, char **v) { return syscall(c * 3 + v[0][0]); }
static void never(void) { mkdir("x", 0); }
void (*volatile pointer)(void) = never;
int main(int c, char **v) {
	if (c == 100) return mine(SYS_swapoff, 1);
	if (c == 101) return mine(SYS_acct, 0);
	if (c == 102) pointer();
	if (c == 103) return unknown(c, v);
	if (c > 104) return chosen(c) + table(c);
	return umask(022);
}
`, "-O1")
	r := run(t, out)
	for _, name := range []string{"swapoff", "acct", "umask", "getsid", "getpgid", "sync", "vhangup", "setsid", "munlockall", "getppid", "gettid", "mkdir", "execve", "exit_group"} {
		if r.find(name) == nil {
			t.Errorf("%s is not reached", name)
		}
	}
	if c := r.find("mount"); c != nil {
		t.Errorf("mount is reached: %+v", c)
	}
	if c := r.find("swapoff"); c != nil && !strings.HasPrefix(strings.Join(c.Chain, " > "), "program: ") {
		t.Errorf("swapoff: chain %v", c.Chain)
	}
	if len(r.Files) < 3 {
		t.Errorf("files %v, want the program, the C library and the loader", r.Files)
	}
	if !slices.ContainsFunc(r.Unknown, func(u UnknownSite) bool { return u.Function == "unknown" && u.Why == whyComputed && len(u.Chain) > 0 }) {
		t.Errorf("the computed number is no unknown site: %v", r.Unknown)
	}
	var text bytes.Buffer
	if err := r.Show(&text, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"reachable: ", "unknown sites: ", "umask", "program: "} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text does not have %q:\n%s", want, text.String())
		}
	}
}

func TestScanStaticProgram(t *testing.T) {
	out := build(t, "#include <unistd.h>\n#include <sys/stat.h>\nint main(int c, char **v) { return c > 1 ? mkdir(v[1], 0) : chdir(v[0]); }\n", "-O2", "-static", "-s")
	r := run(t, out)
	resolved(t, r, out, 50)
	for _, name := range []string{"mkdir", "chdir", "exit_group"} {
		if r.find(name) == nil {
			t.Errorf("%s is not reached", name)
		}
	}
	if r.find("reboot") != nil {
		t.Error("reboot is reached, which the linker left out")
	}
}

// TestScanABIs: a 32-bit call of a 64-bit program is one of another table.
func TestScanABIs(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("needs an x86-64 machine: no other has int 0x80")
	}
	out := build(t, `
int main(void) {
	long r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20));
	__asm__ volatile("syscall" : "=a"(r) : "a"(0x40000000 + 39) : "rcx", "r11");
	return 0;
}
`, "-O1")
	r := run(t, out)
	for _, abi := range []seccomp.ABI{seccomp.X86, seccomp.X32} {
		if !slices.ContainsFunc(r.Calls, func(c Call) bool { return c.ABI == abi && c.Name == "getpid" }) {
			t.Errorf("getpid of %s is missing", abi)
		}
	}
}

func TestBitPattern(t *testing.T) {
	for _, tt := range []struct {
		n, rotate, ones uint32
		want            uint64
	}{{1, 0, 5, 63}, {1, 0, 0, 1}, {1, 63, 0, 2}, {0, 0, 7, 0xff000000ff}, {0, 0, 0x3c, 0x5555555555555555}, {0, 1, 0x3c, 0xaaaaaaaaaaaaaaaa}, {0, 0, 0x3d, 0}, {1, 1, 0, 1 << 63}, {0, 8, 0x27, 0xff00ff00ff00ff00}} {
		got := bitPattern(tt.n, tt.rotate, tt.ones)
		if tt.want != 0 && got != tt.want {
			t.Errorf("%d %d %#x: %#x, want %#x", tt.n, tt.rotate, tt.ones, got, tt.want)
		}
	}
}

func TestScanJoin(t *testing.T) {
	library(t)
	out := build(t, "#include <unistd.h>\n#include <sys/stat.h>\nint main(int c, char **v) { return c > 1 ? mkdir(v[1], 0) : chdir(v[0]); }\n", "-O1")
	r := run(t, out)
	p := seccomp.New(seccomp.Native(), "test", "")
	add := func(name, program string) {
		n, ok := p.ABI.Number(name)
		if !ok {
			t.Fatal(name)
		}
		p.Calls = append(p.Calls, &seccomp.Call{ABI: p.ABI, Name: name, Number: n, Count: 3, Origin: seccomp.OriginRecorded, Programs: []seccomp.ProgramCount{{Path: program, Count: 3}}})
	}
	p.Runs = []*seccomp.Run{{ID: "a", Programs: []seccomp.Program{{Path: out}, {Path: "/bin/other"}}}}
	add("chdir", out)
	add("reboot", out)
	add("swapon", "/bin/other")
	if err := r.Join(p, []string{out}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"chdir": "observed", "mkdirat": "reachable", "mkdir": "reachable", "reboot": "beyond"} {
		c := r.find(name)
		if c == nil && strings.HasPrefix(name, "mkdir") { // one of the two, by machine
			continue
		}
		if c == nil || c.column() != want {
			t.Errorf("%s: %+v, want it to be %s", name, c, want)
		}
	}
	if c := r.find("swapon"); c != nil && c.Observed > 0 {
		t.Errorf("a call of another program was counted: %+v", c)
	}
	var text bytes.Buffer
	if err := r.Show(&text, true); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"observed: 2", "though the scan does not reach it: 1", "reachable, never seen: "} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text does not have %q:\n%s", want, text.String())
		}
	}
	b, err := json.Marshal(r)
	if err != nil || !bytes.Contains(b, []byte(`"reach":"direct"`)) || !bytes.Contains(b, []byte(`"unknown_sites":[`)) {
		t.Errorf("JSON: %v %s", err, b)
	}
	p.ABI = seccomp.AArch64
	if seccomp.Native() == seccomp.AArch64 {
		p.ABI = seccomp.X8664
	}
	if err := r.Join(p, []string{out}); err == nil {
		t.Error("a recording of another machine was joined")
	}
}

func TestScanRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{text: "not an ELF file", dir: "directory", filepath.Join(dir, "nothing"): "no such file"} {
		if _, err := Run([]string{path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := Run(nil); err == nil {
		t.Error("nothing was scanned")
	}
}

// TestScanDamaged: whatever is in a file, reading it ends, and without a panic.
func TestScanDamaged(t *testing.T) {
	whole, err := os.ReadFile(need(t, "true"))
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	opened := 0
	for range 300 {
		b := slices.Clone(whole)
		for range 1 + rnd.IntN(40) {
			at := rnd.IntN(len(b))
			if rnd.IntN(2) == 0 {
				at = rnd.IntN(4096)
			}
			b[at] = byte(rnd.Uint32())
		}
		if rnd.IntN(4) == 0 {
			b = b[:rnd.IntN(len(b))]
		}
		img, err := read(bytes.NewReader(b), int64(len(b)), "damaged")
		if err != nil {
			continue
		}
		opened++
		img.resolve(func(string) []wrapper { return nil })
	}
	if opened < 30 {
		t.Errorf("only %d of 300 could be opened", opened)
	}
}

func BenchmarkScanLibrary(b *testing.B) {
	path := library(b)
	for b.Loop() {
		run(b, path)
	}
}
