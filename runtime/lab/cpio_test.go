package lab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// readCpio is an independent reader of the format, as strict as the kernel's.
func readCpio(t *testing.T, b []byte) (names []string, entries map[string]string) {
	t.Helper()
	entries = map[string]string{}
	for {
		if len(b) < 110 || string(b[:6]) != "070701" {
			t.Fatalf("no header at %q", b[:min(len(b), 20)])
		}
		field := func(i int) int {
			n, err := strconv.ParseUint(string(b[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		mode, size, nameLen := field(1), field(6), field(11)
		major, minor := field(9), field(10)
		name := string(b[110 : 110+nameLen-1])
		if b[110+nameLen-1] != 0 {
			t.Fatalf("%s: no zero after the name", name)
		}
		at := (110 + nameLen + 3) &^ 3
		data := string(b[at : at+size])
		b = b[(at+size+3)&^3:]
		if name == "TRAILER!!!" {
			if len(b) != 0 {
				t.Fatalf("%d bytes after the trailer", len(b))
			}
			return names, entries
		}
		dir := filepath.Dir(name)
		if _, ok := entries[dir]; dir != "." && !ok {
			t.Errorf("%s comes before its folder", name)
		}
		if _, ok := entries[name]; ok {
			t.Errorf("%s twice", name)
		}
		names = append(names, name)
		entries[name] = fmt.Sprintf("%o %d:%d %s", mode, major, minor, data)
	}
}

func TestInitramfs(t *testing.T) {
	host := filepath.Join(t.TempDir(), "host")
	if err := os.WriteFile(host, []byte("from the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := writeInitramfs(&out, []File{
		{Path: "/init", Host: host},
		{Path: "a/b/c.txt", Data: []byte("hello"), Mode: 0o644},
		{Path: "/a/b/empty", Data: []byte{}},
		{Path: "/bin/sonde", Link: "/init"},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, got := readCpio(t, out.Bytes())
	for name, want := range map[string]string{
		"init":        "100755 0:0 from the host",
		"a":           "40755 0:0 ",
		"a/b":         "40755 0:0 ",
		"a/b/c.txt":   "100644 0:0 hello",
		"a/b/empty":   "100755 0:0 ",
		"bin/sonde":   "120777 0:0 /init",
		"dev/console": "20600 5:1 ",
		"dev/null":    "20666 1:3 ",
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
}

func TestInitramfsErrors(t *testing.T) {
	for name, f := range map[string]File{
		"no such file": {Path: "/x", Host: "/nonexistent/file"},
		"a folder":     {Path: "/x", Host: t.TempDir()},
	} {
		t.Run(name, func(t *testing.T) {
			if err := writeInitramfs(&bytes.Buffer{}, []File{f}); err == nil {
				t.Error("no error")
			}
		})
	}
	t.Run("a full disk", func(t *testing.T) {
		err := writeInitramfs(&limitedWriter{left: 1000}, []File{{Path: "/x", Data: make([]byte, 5000)}})
		if err == nil || !strings.Contains(err.Error(), "full") {
			t.Errorf("got %v", err)
		}
	})
}

type limitedWriter struct{ left int }

func (l *limitedWriter) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, fmt.Errorf("full")
	}
	l.left -= len(p)
	return len(p), nil
}
