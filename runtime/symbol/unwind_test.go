package symbol

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// at gives the row that holds at an address.
func (t *UnwindTable) at(addr uint64) UnwindRow {
	var row UnwindRow
	for _, r := range t.Rows {
		if uint64(r.PC) > addr-t.Base {
			break
		}
		row = r
	}
	return row
}

func TestUnwindTable(t *testing.T) {
	if NativeMachine().String() != "EM_X86_64" {
		t.Skip("needs x86-64")
	}
	dir := t.TempDir()
	source, bin := filepath.Join(dir, "p.c"), filepath.Join(dir, "p")
	const text = `
int other(int);
__attribute__((noinline)) int plain(int n) { volatile char b[40]; b[n & 31] = 1; return other(n) + b[0]; }
__attribute__((noinline, optimize("no-omit-frame-pointer"))) int framed(int n) { volatile char b[n + 1]; b[0] = 1; return other(n) + b[0]; }
__attribute__((noinline)) int other(int n) { return n + 1; }
int main(int argc, char **argv) { return plain(argc) + framed(argc); }
`
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-O2", "-fomit-frame-pointer", "-fno-stack-protector", "-o", bin, source).CombinedOutput(); err != nil {
		t.Skipf("needs gcc: %v\n%s", err, out)
	}
	f, err := Open(bin, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table, err := f.UnwindTable()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(table.Rows, func(a, b UnwindRow) int { return int(int64(a.PC) - int64(b.PC)) }) {
		t.Error("rows are not in order")
	}
	for _, c := range []struct {
		name string
		last bool // the place of the return instruction
		want UnwindRow
	}{
		{"plain", false, UnwindRow{Kind: UnwindSP, CFA: 1}},
		{"framed", false, UnwindRow{Kind: UnwindSP, CFA: 1}},
		{"_start", false, UnwindRow{Kind: UnwindEnd}},
	} {
		s, err := f.Lookup(c.name)
		if err != nil || len(s) == 0 {
			t.Fatalf("%s: %v", c.name, err)
		}
		got := table.at(s[0].Addr)
		got.PC = 0
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	inside := func(name string, kind UnwindKind, bp int16) {
		s, _ := f.Lookup(name)
		for _, r := range table.Rows {
			if a := table.Base + uint64(r.PC); a > s[0].Addr && a < s[0].Addr+s[0].Size && r.Kind == kind && r.BP == bp {
				return
			}
		}
		t.Errorf("%s has no row of kind %d with rbp at %d", name, kind, bp)
	}
	inside("plain", UnwindSP, 0)
	inside("framed", UnwindBP, -2)
	if plt := f.elf.Section(".plt"); plt != nil && plt.Size > 16 {
		if got := table.at(plt.Addr + 16); got.Kind != UnwindPLT || got.BP < 1 || got.BP > 15 {
			t.Errorf("the linkage table: %+v", got)
		}
	}
}

func TestUnwindTableOfGo(t *testing.T) {
	f, err := Open("/proc/self/exe", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.UnwindTable(); f.elf.Section(".eh_frame") == nil && !errors.Is(err, ErrNoUnwind) {
		t.Errorf("a program without tables: %v", err)
	}
}

func FuzzUnwindTable(f *testing.F) {
	f.Add([]byte{20, 0, 0, 0, 0, 0, 0, 0, 1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1, 0, 0, 20, 0, 0, 0, 28, 0, 0, 0, 0, 1, 0, 0, 16, 0, 0, 0, 0, 0x44, 0x0e, 16, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		p := frameParser{data: data, addr: 0x1000, cies: map[int]*frameCIE{}}
		p.parse()
		if len(p.funcs) > 0 {
			p.table()
		}
	})
}
