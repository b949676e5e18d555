package stdlib

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/runtime/kernel"
)

// TestListRelative lists by a relative pattern, with the kind in capital letters: the names are those that a script would say.
func TestListRelative(t *testing.T) {
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"prog1", "prog2"} {
		text, err := os.ReadFile(exe)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := NewMachine(k)
	for pattern, want := range map[string][]string{
		"./prog*":                               {"uprobe:./prog1:main.main", "uprobe:./prog2:main.main"},
		"../" + filepath.Base(dir) + "/prog[2]": {"uprobe:prog2:main.main"},
	} {
		var got []string
		if err := List(m, ProbeKinds(m), "UPROBE:"+pattern+":main.main", ListOptions{}, func(l Listed) bool {
			got = append(got, strings.TrimSpace(l.Name))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", pattern, got, want)
		}
	}
}
