package symbol

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSymbolsAgreeWithNm(t *testing.T) {
	for name, args := range map[string][]string{
		"PIE":     {"-O1", "-fPIE", "-pie"},
		"no PIE":  {"-O1", "-no-pie"},
		"static":  {"-O1", "-static"},
		"library": {"-O1", "-shared", "-fPIC"},
	} {
		t.Run(name, func(t *testing.T) {
			path := build(t, "gcc", "prog.c", cSource, args...)
			f := mustOpen(t, path)
			if got, want := f.PIE(), name == "PIE" || name == "library"; got != want {
				t.Errorf("PIE() = %v", got)
			}
			checked := 0
			for sym, addr := range nm(t, path) {
				got, err := f.Lookup(sym)
				if err != nil {
					t.Errorf("%s: %v", sym, err)
					continue
				}
				found := false
				for _, g := range got {
					found = found || g.Addr == addr
				}
				if !found {
					t.Errorf("%s: got %+v, nm says %#x", sym, got, addr)
				}
				checked++
			}
			if checked < 8 {
				t.Errorf("only %d symbols compared", checked)
			}
			for _, sym := range []string{"visible", "helper"} {
				s, err := f.Function(sym)
				if err != nil {
					t.Fatal(err)
				}
				if at, ok := f.At(s.Addr + s.Size - 1); !ok || at.Name != sym {
					t.Errorf("last byte of %s: %v %v", sym, at, ok)
				}
				off, ok := f.OffsetOf(s.Addr)
				if back, ok2 := f.AddressOf(off); !ok || !ok2 || back != s.Addr {
					t.Errorf("%s: address %#x -> offset %#x -> address %#x", sym, s.Addr, off, back)
				}
				if s.Local != (sym == "helper") {
					t.Errorf("%s: Local = %v", sym, s.Local)
				}
			}
			obj, err := f.Lookup("counter")
			if err != nil || obj[0].Kind != KindObject || obj[0].Size != 4 {
				t.Errorf("counter: %+v, %v", obj, err)
			}
			if _, err := f.Function("counter"); err == nil || !strings.Contains(err.Error(), "variable") {
				t.Errorf("counter as a function: %v", err)
			}
			if _, ok := f.OffsetOf(0xdeadbeef0000); ok {
				t.Error("an address outside has an offset")
			}
		})
	}
}

func TestSeparateDebugFiles(t *testing.T) {
	build := func(t *testing.T, ldflags string) (dir, path, debug string) {
		path = build(t, "gcc", "prog.c", cSource, "-O1", "-g", ldflags)
		dir = filepath.Dir(path)
		debug = filepath.Join(dir, "prog.debug")
		run(t, "objcopy", "--only-keep-debug", path, debug)
		run(t, "strip", "--strip-all", path)
		return dir, path, debug
	}
	check := func(t *testing.T, f *File, want string) {
		t.Helper()
		if _, err := f.Function("helper"); err != nil {
			t.Error(err)
		}
		if got := f.DebugPath(); got != want {
			t.Errorf("debug file %q, want %q", got, want)
		}
	}
	t.Run("debuglink beside the program", func(t *testing.T) {
		_, path, debug := build(t, "-Wl,--build-id=none")
		run(t, "objcopy", "--add-gnu-debuglink="+debug, path)
		check(t, mustOpen(t, path), debug)
	})
	t.Run("debuglink through a symbolic link", func(t *testing.T) {
		_, path, debug := build(t, "-Wl,--build-id=none")
		run(t, "objcopy", "--add-gnu-debuglink="+debug, path)
		link := filepath.Join(t.TempDir(), "other")
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		check(t, mustOpen(t, link), debug)
	})
	t.Run("debuglink in .debug", func(t *testing.T) {
		dir, path, debug := build(t, "-Wl,--build-id=none")
		run(t, "objcopy", "--add-gnu-debuglink="+debug, path)
		moved := filepath.Join(dir, ".debug", "prog.debug")
		if err := errors.Join(os.Mkdir(filepath.Join(dir, ".debug"), 0o755), os.Rename(debug, moved)); err != nil {
			t.Fatal(err)
		}
		check(t, mustOpen(t, path), moved)
	})
	t.Run("wrong checksum", func(t *testing.T) {
		_, path, debug := build(t, "-Wl,--build-id=none")
		run(t, "objcopy", "--add-gnu-debuglink="+debug, path)
		data, err := os.ReadFile(debug)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(debug, append(data, 0), 0o644); err != nil {
			t.Fatal(err)
		}
		f := mustOpen(t, path)
		if _, err := f.Function("helper"); !errors.Is(err, ErrNoSymbol) {
			t.Errorf("a debug file of another build was used: %v", err)
		}
	})
	t.Run("build id", func(t *testing.T) {
		_, path, debug := build(t, "-Wl,--build-id=sha1")
		id := mustOpen(t, path).BuildIDString()
		if notes := run(t, "readelf", "-n", path); len(id) != 40 || !strings.Contains(notes, id) {
			t.Fatalf("build id %q, readelf says\n%s", id, notes)
		}
		dir := t.TempDir()
		place := filepath.Join(dir, ".build-id", id[:2], id[2:]+".debug")
		if err := errors.Join(os.MkdirAll(filepath.Dir(place), 0o755), os.Rename(debug, place)); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path, Options{DebugDirs: []string{dir}})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		check(t, f, place)
	})
}

func TestMiniDebugInfo(t *testing.T) {
	path := build(t, "gcc", "prog.c", cSource, "-O1")
	dir := t.TempDir()
	mini := filepath.Join(dir, "mini")
	run(t, "objcopy", "-S", "--remove-section", ".gnu_debuglink", "--remove-section", ".comment", "--keep-symbol=helper", path, mini)
	run(t, "xz", mini)
	run(t, "strip", "--strip-all", path)
	run(t, "objcopy", "--add-section", ".gnu_debugdata="+mini+".xz", path)
	f := mustOpen(t, path)
	s, err := f.Function("helper")
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := f.At(s.Addr + 1); !ok || at.Name != "helper" {
		t.Errorf("At: %v %v", at, ok)
	}
}

func TestPLTNames(t *testing.T) {
	path := build(t, "gcc", "prog.c", cSource, "-O1")
	f := mustOpen(t, path)
	want := 0
	for _, line := range strings.Split(run(t, "objdump", "-d", "--no-show-raw-insn", path), "\n") {
		fields := strings.Fields(line)
		if len(fields) != 2 || !strings.HasSuffix(fields[1], "@plt>:") {
			continue
		}
		var addr uint64
		for _, c := range fields[0] {
			addr = addr<<4 | uint64(strings.IndexRune("0123456789abcdef", c))
		}
		name := strings.Trim(fields[1], "<>:")
		s, ok := f.At(addr + 2)
		if !ok || s.Name != name {
			t.Errorf("%#x: got %q, objdump says %q", addr, s.Name, name)
		}
		want++
	}
	if want == 0 {
		t.Fatal("objdump shows no stubs")
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, c := range map[string]struct {
		path string
		want error
	}{
		"missing":      {filepath.Join(dir, "nothing"), fs.ErrNotExist},
		"empty":        {write("empty", ""), ErrNotELF},
		"script":       {write("script", "#!/bin/sh\n"), ErrNotELF},
		"only a magic": {write("magic", "\x7fELF"), ErrNotELF},
		"directory":    {dir, ErrNotELF},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(c.path, Options{})
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"read", "read", true},
		{"read", "reader", false},
		{"read*", "reader", true},
		{"*read", "pread", true},
		{"*a*b*", "xxaxxbxx", true},
		{"*a*b*", "xxbxxa", false},
		{"?ead", "read", false},
		{"*?ead", "x?ead", true},
		{"*", "", true},
		{"", "", true},
		{"a*a", "a", false},
	} {
		if got := Match(c.pattern, c.name); got != c.want {
			t.Errorf("Match(%q, %q) = %v", c.pattern, c.name, got)
		}
	}
}

func TestSharedLibraryOfTheSystem(t *testing.T) {
	path, err := FindBinary("libc")
	if err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, path)
	want := nm(t, path, "-D")
	got := map[string]bool{}
	for _, s := range f.Functions() {
		got[s.Name] = true
	}
	missing := 0
	for name := range want {
		if !got[name] {
			missing++
			t.Logf("not listed: %s", name)
		}
	}
	if missing > 0 || len(want) < 500 {
		t.Errorf("%d of %d functions missing", missing, len(want))
	}
	for _, name := range []string{"write", "malloc", "readlink"} {
		s, err := f.Function(name)
		if err != nil {
			t.Fatal(err)
		}
		if at, _ := f.At(s.Addr); at.Name != name {
			t.Errorf("the address of %s is called %s", name, at.Name)
		}
	}
	if n := len(f.Glob("pthread_mutex_*lock")); n < 3 {
		t.Errorf("glob found %d functions", n)
	}
}

func BenchmarkLibcDynamicSymbols(b *testing.B) {
	path, err := FindBinary("libc")
	if err != nil {
		b.Skip("needs libc")
	}
	b.ReportAllocs()
	for b.Loop() {
		f, err := Open(path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.Function("readlink"); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}

func BenchmarkAt(b *testing.B) {
	path, err := FindBinary("libc")
	if err != nil {
		b.Skip("needs libc")
	}
	f := mustOpen(b, path)
	s, err := f.Function("readlink")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := f.At(s.Addr + 3); !ok {
			b.Fatal("not found")
		}
	}
}
