package kernel

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// machineWith makes a machine of folders and of a release.
func machineWith(t *testing.T, release string, dirs ...string) *Kernel {
	t.Helper()
	root := t.TempDir()
	for _, d := range append(dirs, "proc/sys/kernel") {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "proc/sys/kernel/osrelease"), []byte(release+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	k, err := Open(Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func TestHeaderDirs(t *testing.T) {
	both := machineWith(t, "6.1.0-9-amd64", "lib/modules/6.1.0-9-amd64/source", "lib/modules/6.1.0-9-amd64/build")
	one := machineWith(t, "6.1.0-9-amd64", "lib/modules/6.1.0-9-amd64/build")
	none := machineWith(t, "6.1.0-9-amd64")
	other := t.TempDir()
	for _, c := range []struct {
		name          string
		k             *Kernel
		source, build string
		want          [2]string // source and build
	}{
		{"both", both, "", "", [2]string{both.Path("/lib/modules/6.1.0-9-amd64/source"), both.Path("/lib/modules/6.1.0-9-amd64/build")}},
		{"build alone", one, "", "", [2]string{one.Path("/lib/modules/6.1.0-9-amd64/build"), one.Path("/lib/modules/6.1.0-9-amd64/build")}},
		{"none", none, "", "", [2]string{}},
		{"named", both, other, "", [2]string{other, other}},
		{"both named", none, other, filepath.Dir(other), [2]string{other, filepath.Dir(other)}},
		{"named, missing", none, filepath.Join(other, "x"), "", [2]string{}},
	} {
		got := c.k.HeaderDirs(c.source, c.build)
		if c.want[0] == "" {
			if got != nil {
				t.Errorf("%s: %q", c.name, got)
			}
			continue
		}
		if len(got) != 8 || !slices.Contains(got, filepath.Join(c.want[0], "include")) || !slices.Contains(got, filepath.Join(c.want[1], "include/generated/uapi")) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestVersionCode(t *testing.T) {
	for release, want := range map[string]uint32{
		"6.1.0-9-amd64": 6<<16 | 1<<8, "5.10.223": 5<<16 | 10<<8 | 223, "4.19.300-x": 4<<16 | 19<<8 | 255, "7.2.13+deb14-cloud-amd64": 7<<16 | 2<<8, "6.12": 6<<16 | 12<<8, "custom": 0,
	} {
		if got := machineWith(t, release).VersionCode(); got != want {
			t.Errorf("%s: %#x, want %#x", release, got, want)
		}
	}
}
