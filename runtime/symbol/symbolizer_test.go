package symbol

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// start runs a fixture that prints addresses on its first line and waits for a byte.
func start(t *testing.T, path string, args ...string) (pid int, addrs []uint64, stop func()) {
	t.Helper()
	cmd := exec.Command(path, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			in.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	for _, f := range strings.Fields(line) {
		var a uint64
		if _, err := fmt.Sscanf(f, "0x%x", &a); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		addrs = append(addrs, a)
	}
	return cmd.Process.Pid, addrs, stop
}

func TestUserSymbols(t *testing.T) {
	for name, args := range map[string][]string{
		"PIE":                   {"-O1", "-pie", "-fPIE"},
		"no PIE":                {"-O1", "-no-pie"},
		"static":                {"-O1", "-static"},
		"static PIE":            {"-O1", "-static-pie", "-fPIE"},
		"segments share pages":  {"-O1", "-Wl,-z,noseparate-code"},
		"no read-only relocs":   {"-O1", "-Wl,-z,norelro"},
		"large page alignments": {"-O1", "-Wl,-z,max-page-size=65536"},
	} {
		t.Run(name, func(t *testing.T) {
			path := build(t, "gcc", "prog.c", cSource, args...)
			pid, addrs, stop := start(t, path)
			s := New(Config{})
			defer s.Close()
			check := func() {
				t.Helper()
				for i, want := range []string{"visible", "helper", "counter", "zeroed"} {
					f := s.User(pid, addrs[i])
					off := uint64(0)
					if want == "zeroed" {
						off = 24
					}
					if f.Name != want || f.Offset != off || f.Module != path {
						t.Errorf("%s at %#x: %+v", want, addrs[i], f)
					}
				}
			}
			check()
			stop() // and what was seen stays known
			check()
			if f := s.User(pid, 0x10); f.Known() {
				t.Errorf("address 0x10 is called %s", f.Name)
			}
		})
	}
}

func TestVDSO(t *testing.T) {
	maps, err := readMaps("/proc", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{})
	defer s.Close()
	names := map[string]bool{}
	for _, m := range maps {
		if m.Path != "[vdso]" {
			continue
		}
		for a := m.Start; a < m.End; a += 16 {
			if f := s.User(os.Getpid(), a); f.Known() {
				names[f.Name] = true
				if f.Module != "[vdso]" {
					t.Errorf("module %q", f.Module)
				}
			}
		}
	}
	if !names["clock_gettime"] && !names["__vdso_clock_gettime"] && !names["__kernel_clock_gettime"] {
		t.Errorf("no clock_gettime in the vDSO: %v", names)
	}
}

func TestDeletedProgram(t *testing.T) {
	path := build(t, "gcc", "prog.c", cSource, "-O1")
	pid, addrs, _ := start(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	// Another program takes its place, as an upgrade does.
	if err := os.WriteFile(path, []byte("\x7fELF something else"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := New(Config{})
	defer s.Close()
	if f := s.User(pid, addrs[0]); f.Name != "visible" {
		if list, err := filepath.Glob(fmt.Sprintf("/proc/%d/map_files/*", pid)); err == nil && len(list) > 0 {
			if _, err := os.Stat(list[0]); errors.Is(err, os.ErrPermission) {
				t.Skip("needs the right to open /proc/PID/map_files: ", err)
			}
		} else {
			t.Skip("needs /proc/PID/map_files")
		}
		t.Errorf("got %+v", f)
	}
}

func TestPerfMap(t *testing.T) {
	path := build(t, "gcc", "prog.c", cSource, "-O1")
	pid, _, _ := start(t, path)
	file := fmt.Sprintf("/tmp/perf-%d.map", pid)
	write := func(text string, when time.Time) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, when, when); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Remove(file) })
	s := New(Config{})
	defer s.Close()
	now := time.Now()
	write("7000 100 Interpreted:loop\n", now)
	if f := s.User(pid, 0x7010); f.Name != "Interpreted:loop" || f.Offset != 0x10 || f.Module != "[JIT]" {
		t.Errorf("got %+v", f)
	}
	if f := s.User(pid, 0x8000); f.Known() {
		t.Errorf("got %+v", f)
	}
	write("7000 100 Interpreted:loop\n8000 20 LazyCompile:*hot app.js:3\n7080 80 moved\n", now.Add(time.Second))
	if f := s.User(pid, 0x8000); f.Name != "LazyCompile:*hot app.js:3" {
		t.Errorf("after growth: %+v", f)
	}
	if f := s.User(pid, 0x7090); f.Name != "moved" || f.Offset != 0x10 {
		t.Errorf("a later line did not win: %+v", f)
	}
}

func TestParseMaps(t *testing.T) {
	text := `00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus daemon
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
7f0000000000-7f0000001000 r--s 00001000 103:0a 42 /tmp/a (deleted)
7f0000002000-7f0000003000 rwxp 00000000 00:00 0
7f0000004000-7f0000005000 r--p 00000000 00:01 9 /odd\012name
garbage
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]`
	got := ParseMaps([]byte(text))
	if len(got) != 6 {
		t.Fatalf("%d mappings: %+v", len(got), got)
	}
	want := Mapping{Start: 0x7f0000000000, End: 0x7f0000001000, Offset: 0x1000, Major: 0x103, Minor: 0xa, Inode: 42, Path: "/tmp/a", Deleted: true}
	if got[2] != want {
		t.Errorf("got %+v, want %+v", got[2], want)
	}
	if got[0].Path != "/usr/bin/dbus daemon" || !got[0].Exec || got[3].Path != "" || got[4].Path != "/odd\nname" || got[5].Path != "[vsyscall]" {
		t.Errorf("%+v", got)
	}
}

type fakeKernel struct{}

func (fakeKernel) Lookup(addr uint64) (string, uint64, string, bool) {
	if addr < 0xffffffff81000000 {
		return "", 0, "", false
	}
	return "_ZN6kernel4mainEv", addr - 0xffffffff81000000, "rust_mod", true
}

func TestKernelFrames(t *testing.T) {
	s := New(Config{Kernel: fakeKernel{}, Demangle: true})
	if f := s.Kernel(0xffffffff81000010); f.Name != "kernel::main()" || f.Offset != 16 || f.Module != "rust_mod" {
		t.Errorf("%+v", f)
	}
	if f := s.Kernel(1); f.Known() || f.Addr != 1 {
		t.Errorf("%+v", f)
	}
	if f := New(Config{}).Kernel(0xffffffff81000010); f.Known() {
		t.Errorf("%+v", f)
	}
}

func TestCacheModes(t *testing.T) {
	for text, want := range map[string]CacheMode{"PER_PID": CachePerPID, "per_program": CachePerProgram, "NONE": CacheNone} {
		if got, err := ParseCacheMode(text); err != nil || got != want {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	if _, err := ParseCacheMode("SOMETIMES"); err == nil {
		t.Error("no error for an unknown mode")
	}
	path := build(t, "gcc", "prog.c", cSource, "-O1", "-no-pie")
	a, addrs, _ := start(t, path)
	b, _, _ := start(t, path)
	for _, mode := range []CacheMode{CachePerPID, CachePerProgram, CacheNone} {
		s := New(Config{Cache: mode})
		for _, pid := range []int{a, b, a} {
			if f := s.User(pid, addrs[0]); f.Name != "visible" {
				t.Errorf("mode %d: %+v", mode, f)
			}
		}
		wantPrograms := 0
		if mode == CachePerProgram {
			wantPrograms = 1
		}
		if got := len(s.programs.items); got != wantPrograms {
			t.Errorf("mode %d: %d programs cached", mode, got)
		}
		s.Close()
	}
}

func TestProcessThatLoadsALibraryLater(t *testing.T) {
	proc := t.TempDir()
	dir := filepath.Join(proc, "77")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lib := build(t, "gcc", "lib.c", "int plugin(void) { return 1; }", "-shared", "-fPIC")
	st, err := os.Stat(lib)
	if err != nil {
		t.Fatal(err)
	}
	plugin, err := mustOpen(t, lib).Function("plugin")
	if err != nil {
		t.Fatal(err)
	}
	off, _ := mustOpen(t, lib).OffsetOf(plugin.Addr)
	write("status", "Name:\tx\nNSpid:\t77\t3\n")
	write("stat", "77 (a) b) S "+strings.Repeat("1 ", 40))
	write("maps", "")
	clock := time.Unix(1000, 0)
	s := New(Config{Proc: proc, Now: func() time.Time { return clock }})
	if f := s.User(77, 0x7f0000000000+off); f.Known() {
		t.Fatalf("%+v", f)
	}
	write("maps", fmt.Sprintf("7f0000000000-7f0000010000 r-xp 00000000 00:00 %d %s\n", inode(st), lib))
	if f := s.User(77, 0x7f0000000000+off); f.Known() {
		t.Errorf("the mappings were read twice within 100 ms: %+v", f)
	}
	clock = clock.Add(150 * time.Millisecond)
	if f := s.User(77, 0x7f0000000000+off); f.Name != "plugin" {
		t.Errorf("%+v", f)
	}
	write("stat", "77 (a) b) S "+strings.Repeat("2 ", 40)) // another process with the same id
	write("maps", "")
	clock = clock.Add(2 * time.Second)
	if f := s.User(77, 0x7f0000000000+off); f.Known() {
		t.Errorf("a new process is named by the old one's mappings: %+v", f)
	}
}
