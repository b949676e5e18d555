package lab

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// fakeModule is an object file with module information and symbols.
func fakeModule(t *testing.T, info []string, functions, data []string) string {
	t.Helper()
	names := []byte{0}
	name := func(s string) uint32 {
		names = append(append(names, s...), 0)
		return uint32(len(names) - len(s) - 1)
	}
	symbols := make([]elf.Sym64, 1)
	for _, f := range functions {
		symbols = append(symbols, elf.Sym64{Name: name(f), Info: byte(elf.STT_FUNC), Shndx: 1})
	}
	for _, d := range data {
		symbols = append(symbols, elf.Sym64{Name: name(d), Info: byte(elf.STB_GLOBAL)<<4 | byte(elf.STT_OBJECT), Shndx: 1})
	}
	var syms bytes.Buffer
	write := func(w *bytes.Buffer, v any) {
		if err := binary.Write(w, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	write(&syms, symbols)
	sections := []struct {
		name string
		kind elf.SectionType
		link uint32
		size uint64
		data []byte
	}{
		{},
		{".modinfo", elf.SHT_PROGBITS, 0, 0, []byte(strings.Join(info, "\x00") + "\x00")},
		{".symtab", elf.SHT_SYMTAB, 3, elf.Sym64Size, syms.Bytes()},
		{".strtab", elf.SHT_STRTAB, 0, 0, nil},
	}
	var heads []elf.Section64
	const headerSize = 64
	off := uint64(headerSize)
	for i := range sections {
		s := &sections[i]
		h := elf.Section64{Name: name(s.name), Type: uint32(s.kind), Off: off, Size: uint64(len(s.data)), Link: s.link, Entsize: s.size}
		if s.name == ".strtab" {
			s.data, h.Size = names, uint64(len(names))
		}
		heads = append(heads, h)
		off += h.Size
	}
	head := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: off, Ehsize: headerSize, Shentsize: 64, Shnum: uint16(len(heads)), Shstrndx: 3,
	}
	copy(head.Ident[:], "\x7fELF\x02\x01\x01")
	var out bytes.Buffer
	write(&out, head)
	for _, s := range sections {
		out.Write(s.data)
	}
	write(&out, heads)
	return out.String()
}

func packed(t *testing.T, how, text string) string {
	t.Helper()
	var b bytes.Buffer
	if how == "xz" {
		w, err := xz.NewWriter(&b)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	w, err := zstd.NewWriter(&b)
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// moduleTree has modules in every compression: top needs middle-one, which wishes for an algorithm by its name.
func moduleTree(t *testing.T, root string) map[string]string {
	t.Helper()
	return map[string]string{
		root + "kernel/fs/top.ko.xz":           packed(t, "xz", fakeModule(t, []string{"depends=middle_one", "name=top"}, []string{"top_open", "init_module", "shared"}, []string{"__tracepoint_top_event"})),
		root + "kernel/lib/middle-one.ko.zst":  packed(t, "zst", fakeModule(t, []string{"softdep=pre: hash post: later", "depends="}, []string{"middle_open", "shared"}, nil)),
		root + "kernel/crypto/hash_generic.ko": fakeModule(t, []string{"license=GPL"}, nil, nil),
		root + "kernel/drivers/later.ko":       fakeModule(t, []string{"depends=gone"}, nil, nil),
		root + "kernel/drivers/notes.ko.txt":   "no module",
		root + "modules.order":                 "kernel/fs/top.ko\n",
	}
}

func loadOrder(t *testing.T, m *Modules, names ...string) []string {
	t.Helper()
	files, err := m.Load(names...)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, f := range files {
		order = append(order, f.Name)
		if !bytes.HasPrefix(f.Data, []byte("\x7fELF")) {
			t.Errorf("%s is still compressed", f.Name)
		}
	}
	return order
}

func checkModules(t *testing.T, m *Modules) {
	t.Helper()
	if got, want := m.Names(), []string{"hash_generic", "later", "middle_one", "top"}; !slices.Equal(got, want) {
		t.Errorf("the modules are %q, want %q", got, want)
	}
	if got, want := loadOrder(t, m, "top", "middle-one"), []string{"hash_generic", "middle_one", "top"}; !slices.Equal(got, want) {
		t.Errorf("the order is %q, want %q", got, want)
	}
	for _, name := range []string{"nosuch", "later"} {
		if _, err := m.Load(name); !errors.Is(err, ErrNoModule) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for range 2 { // read, and then perhaps from the cache
		o, err := m.Owners()
		if err != nil {
			t.Fatal(err)
		}
		want := &Owners{
			Functions:   map[string][]string{"top_open": {"top"}, "middle_open": {"middle_one"}, "shared": {"middle_one", "top"}},
			Tracepoints: map[string][]string{"top_event": {"top"}},
		}
		if !reflect.DeepEqual(o, want) {
			t.Errorf("got %+v, want %+v", o, want)
		}
	}
}

func TestModulesOfAPackage(t *testing.T) {
	files := moduleTree(t, "lib/modules/6.6-cloud-amd64/")
	files["boot/vmlinuz-6.6-cloud-amd64"] = string(fakeImage(AMD64, "6.6-cloud-amd64"))
	deb := makeDeb(t, "xz", files)
	sum := sha256.Sum256(deb)
	downloads := fakeApt(t, deb, hex.EncodeToString(sum[:]))
	c := &Catalogue{Dir: t.TempDir()}
	k, err := c.Fetch(t.Context(), "6.12", AMD64)
	if err != nil {
		t.Fatal(err)
	}
	if n := downloads(); n != 1 {
		t.Errorf("%d downloads for the image alone", n)
	}
	for range 2 {
		m, err := c.Modules(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		checkModules(t, m)
		m.Close()
	}
	if n := downloads(); n != 2 {
		t.Errorf("%d downloads, want one more for the modules", n)
	}
	left, err := filepath.Glob(filepath.Join(c.Dir, "kernels/amd64/.*-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	t.Run("the archive has a newer kernel", func(t *testing.T) {
		old := k
		old.Version = "0"
		if err := os.Remove(filepath.Join(filepath.Dir(k.Image), modulesFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Modules(t.Context(), old); err == nil || !strings.Contains(err.Error(), "--refresh") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a package that is given as a file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "linux-image-mine_1_amd64.deb")
		if err := os.WriteFile(path, deb, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			k, err := c.Fetch(t.Context(), path, AMD64)
			if err != nil || k.Name != "linux-image-mine" || k.Release != "6.6-cloud-amd64" || k.Arch != AMD64 {
				t.Fatalf("got %+v, %v", k, err)
			}
			m, err := c.Modules(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			checkModules(t, m)
			m.Close()
		}
		if err := os.WriteFile(path, []byte("no package"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Fetch(t.Context(), path, AMD64); err == nil {
			t.Error("no error for a file that is no package")
		}
	})
}

func TestModulesBesideAnImage(t *testing.T) {
	const release = "6.6.6-mine"
	tree := moduleTree(t, "")
	for name, place := range map[string][2]string{
		"beside boot":   {"boot/vmlinuz-" + release, "lib/modules/" + release},
		"with modules":  {"usr/lib/modules/" + release + "/vmlinuz", "usr/lib/modules/" + release},
		"in one folder": {"vmlinuz", "lib/modules/" + release},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			write := func(name, text string) {
				path := filepath.Join(root, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			write(place[0], string(fakeImage(AMD64, release)))
			k, err := KernelFromFile(filepath.Join(root, place[0]))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := (&Catalogue{}).Modules(t.Context(), k); !errors.Is(err, ErrNoModule) {
				t.Errorf("without modules: got %v", err)
			}
			for name, text := range tree {
				write(place[1]+"/"+name, text)
			}
			m, err := (&Catalogue{}).Modules(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			checkModules(t, m)
		})
	}
}

// TestModulesInGuest loads real modules, and one that no kernel takes.
func TestModulesInGuest(t *testing.T) {
	for _, spec := range []string{"5.10", "newest"} { // plain and compressed, one package and two
		t.Run(spec, func(t *testing.T) {
			k := needKernel(t, spec, AMD64)
			m, err := NewCatalogue().Modules(t.Context(), k)
			if err != nil {
				t.Skipf("needs the modules of a kernel: %v", err)
			}
			defer m.Close()
			files, err := m.Load("xfs")
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, ModuleFile{Name: "broken", Data: []byte("no module")})
			res, err := Run(t.Context(), Config{Kernel: k, Init: buildGuest(t, AMD64), Modules: files, Jobs: []Job{guestJob("modules")}})
			if err != nil || res.Err() != nil {
				t.Fatalf("%v, %v\n%s", err, res.Err(), res.Console)
			}
			out := string(res.Jobs[0].Stdout)
			if !strings.HasPrefix(out, "xfs ") && !strings.Contains(out, "\nxfs ") || !strings.Contains(out, "xfs events true") {
				t.Errorf("the guest has\n%s", out)
			}
			if len(res.Modules) != len(files) {
				t.Fatalf("the result has %+v", res.Modules)
			}
			for _, r := range res.Modules {
				if (r.Error == "") == (r.Name == "broken") {
					t.Errorf("%s: %q", r.Name, r.Error)
				}
			}
		})
	}
}
