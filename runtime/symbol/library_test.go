package symbol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindLibraries(t *testing.T) {
	libs := run(t, "sh", "-c", "ldconfig -p || /sbin/ldconfig -p")
	for _, c := range []struct{ name, file string }{
		{"libc", "libc.so.6"}, {"libc.so", "libc.so.6"}, {"libc.so.6", "libc.so.6"}, {"libm", "libm.so.6"}, {"libpthread", "libpthread.so.0"},
	} {
		got, err := FindBinary(c.name)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if filepath.Base(got) != c.file || !strings.Contains(libs, "=> "+got+"\n") {
			t.Errorf("%s: %s is not what ldconfig says", c.name, got)
		}
	}
	for _, name := range []string{"libnothing", "libc.so.77", "no-such-program-here", "/no/such/path", ""} {
		if got, err := FindBinary(name); !errors.Is(err, ErrNoBinary) {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	if _, err := FindBinary("/usr"); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("a directory: %v", err)
	}
}

func TestFindPrograms(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tool"), []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := Finder{Path: "/nowhere:" + dir}
	if got, err := f.Find("tool"); err != nil || got != filepath.Join(dir, "tool") {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := f.Find("data"); !errors.Is(err, ErrNoBinary) {
		t.Errorf("a file that is not executable: %v", err)
	}
}

func TestFindInAnotherRoot(t *testing.T) {
	// A musl system: no cache, one file, and an absolute link that must stay inside.
	root := t.TempDir()
	lib := build(t, "gcc", "lib.c", "int f(void) { return 1; }", "-shared", "-fPIC")
	data, err := os.ReadFile(lib)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.MkdirAll(filepath.Join(root, "real/lib"), 0o755),
		os.WriteFile(filepath.Join(root, "real/lib/ld-musl-x86_64.so.1"), data, 0o755),
		os.Symlink("/real/lib", filepath.Join(root, "lib")),
		os.Symlink("ld-musl-x86_64.so.1", filepath.Join(root, "real/lib/libc.musl-x86_64.so.1")),
		os.Symlink("/../../../../real/../lib/libc.musl-x86_64.so.1", filepath.Join(root, "libz.so.1")),
		os.Symlink("loop", filepath.Join(root, "loop")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f := Finder{Root: Root{Dir: root}, Path: "/bin"}
	got, err := f.Find("libc")
	if err != nil || got != "/lib/libc.musl-x86_64.so.1" {
		t.Fatalf("%q, %v", got, err)
	}
	host, err := f.Root.Resolve("/libz.so.1")
	if err != nil || host != filepath.Join(root, "real/lib/ld-musl-x86_64.so.1") {
		t.Errorf("%q, %v", host, err)
	}
	img, err := Open("/libz.so.1", Options{Root: f.Root})
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if _, err := img.Function("f"); err != nil {
		t.Error(err)
	}
	if _, err := f.Root.Resolve("/loop"); err == nil {
		t.Error("a loop of links was resolved")
	}
	if _, err := f.Root.Open("/etc/passwd"); err == nil {
		t.Error("a file of the host was opened")
	}
}

func TestInspect(t *testing.T) {
	n, err := Inspect(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if n.OtherMounts || !n.Root.Own() || n.Inner() != os.Getpid() {
		t.Errorf("%+v", n)
	}
	if _, err := Inspect(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
}

// makeCache writes a cache as ldconfig does.
func makeCache(old bool, entries ...cacheEntry) []byte {
	var strs bytes.Buffer
	var table bytes.Buffer
	base := uint32(48 + 24*len(entries))
	for _, e := range entries {
		name := base + uint32(strs.Len())
		strs.WriteString(e.Name + "\x00")
		path := base + uint32(strs.Len())
		strs.WriteString(e.Path + "\x00")
		for _, v := range []uint32{e.Flags, name, path, 0, 0, 0} {
			_ = binary.Write(&table, binary.LittleEndian, v)
		}
	}
	var out bytes.Buffer
	if old {
		out.WriteString(cacheMagicOld + "\x00")
		_ = binary.Write(&out, binary.LittleEndian, uint32(1))
		out.Write(make([]byte, 12+4))
	}
	out.WriteString(cacheMagicNew)
	_ = binary.Write(&out, binary.LittleEndian, []uint32{uint32(len(entries)), uint32(strs.Len()), 0, 0, 0, 0, 0})
	out.Write(table.Bytes())
	out.Write(strs.Bytes())
	return out.Bytes()
}

func TestParseCache(t *testing.T) {
	want := []cacheEntry{{"libfoo.so.9", "/lib/libfoo.so.9", 0x303}, {"libfoo.so.10", "/lib/libfoo.so.10", 0x303}}
	for _, old := range []bool{false, true} {
		got, err := parseCache(makeCache(old, want...))
		if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("old header %v: %+v, %v", old, got, err)
		}
	}
	for _, bad := range []string{"", "x", cacheMagicOld, cacheMagicNew, string(makeCache(false, want...)[:60])} {
		if _, err := parseCache([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if compareVersions("libfoo.so.10", "libfoo.so.9") <= 0 {
		t.Error("version 10 is not above 9")
	}
}

func FuzzParseCache(f *testing.F) {
	f.Add(makeCache(false, cacheEntry{"a", "/a", 3}))
	f.Add(makeCache(true, cacheEntry{"a", "/a", 3}))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseCache(data)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Name == "" || strings.ContainsRune(e.Name+e.Path, 0) {
				t.Errorf("entry %q %q", e.Name, e.Path)
			}
		}
	})
}

func FuzzPerfMap(f *testing.F) {
	f.Add("7000 100 a\n7080 10 b\n7070 40 c d\n")
	f.Add("0x1 ffffffffffffffff x\n1 1 y")
	f.Fuzz(func(t *testing.T, text string) {
		entries := parsePerfMap(strings.NewReader(text))
		var end uint64
		for _, e := range entries {
			if e.start < end || e.end <= e.start || e.name == "" {
				t.Fatalf("overlap or empty entry in %+v", entries)
			}
			end = e.end
		}
	})
}

func FuzzParseMaps(f *testing.F) {
	f.Add("00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus daemon\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range ParseMaps([]byte(text)) {
			if m.End <= m.Start {
				t.Errorf("%+v", m)
			}
		}
	})
}
