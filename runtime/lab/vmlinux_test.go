package lab

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// fakeVmlinux is an ELF file with a note that names the start of a program, which resets the machine.
func fakeVmlinux(machine uint16, note uint32) []byte {
	le := binary.LittleEndian
	const start = 1 << 20
	var notes []byte
	for _, n := range []struct {
		name, desc string
		kind       uint32
	}{{"Linux\x00", "abc", 0x101}, {"Xen\x00", string(le.AppendUint64(nil, start)), note}} {
		notes = le.AppendUint32(notes, uint32(len(n.name)))
		notes = le.AppendUint32(notes, uint32(len(n.desc)))
		notes = le.AppendUint32(notes, n.kind)
		for _, s := range []string{n.name, n.desc} {
			notes = append(notes, s...)
			notes = append(notes, make([]byte, -len(s)&3)...)
		}
	}
	code := append([]byte("\xb0\xfe\xe6\x64\xeb\xfe"), bytes.Repeat([]byte("kernel "), 10000)...)
	segments := []elf.Prog64{
		{Type: uint32(elf.PT_NOTE), Off: 176, Filesz: uint64(len(notes)), Memsz: uint64(len(notes)), Align: 4},
		{Type: uint32(elf.PT_LOAD), Off: 176 + uint64(len(notes)), Vaddr: start, Paddr: start, Filesz: uint64(len(code)), Memsz: uint64(len(code)), Align: 1},
	}
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: machine, Version: 1, Entry: start, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2, Shentsize: 64}
	copy(header.Ident[:], "\x7fELF\x02\x01\x01")
	var b bytes.Buffer
	for _, part := range []any{header, segments, notes, code} {
		_ = binary.Write(&b, le, part) // a buffer takes everything
	}
	return b.Bytes()
}

// fakeBzImage is a kernel image with a payload that becomes size bytes.
func fakeBzImage(payload []byte, size int) []byte {
	le := binary.LittleEndian
	b := fakeImage(AMD64, "6.6.6-test")
	b[0x1f1] = 3
	le.PutUint16(b[0x206:], 0x20f)
	const at = 4*512 + 100
	le.PutUint32(b[0x248:], 100)
	le.PutUint32(b[0x24c:], uint32(len(payload)+4))
	return le.AppendUint32(append(b[:at], payload...), uint32(size))
}

func zipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// lz4Stored is a frame whose blocks hold literals only.
func lz4Stored(b []byte, block int) []byte {
	le := binary.LittleEndian
	out := []byte(lz4Legacy)
	for len(b) > 0 {
		part := b[:min(block, len(b))]
		b = b[len(part):]
		packed := []byte{0xf0}
		n := len(part) - 15
		for ; n >= 255; n -= 255 {
			packed = append(packed, 255)
		}
		packed = append(append(packed, byte(n)), part...)
		out = append(le.AppendUint32(out, uint32(len(packed))), packed...)
	}
	return out
}

func TestUnpackBzImage(t *testing.T) {
	kernel := fakeVmlinux(62, 18)
	zw, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	broken := lz4Stored(kernel, 1<<16)
	broken[len(broken)-1]++
	tests := []struct {
		name    string
		image   []byte
		wantErr string
	}{
		{"gzip", fakeBzImage(zipped(t, kernel), len(kernel)), ""},
		{"zstd", fakeBzImage(zw.EncodeAll(kernel, nil), len(kernel)), ""},
		{"lz4", fakeBzImage(lz4Stored(kernel, 1<<15), len(kernel)), ""},
		{"no compression", fakeBzImage(kernel, len(kernel)), ""},
		{"more behind the kernel, as relocations", fakeBzImage(append(zipped(t, kernel), "padding"...), len(kernel)), ""},
		{"a compression that is not known", fakeBzImage(bytes.Repeat([]byte("BZh9"), 100), 400), "bad magic number"},
		{"shorter than it says", fakeBzImage(zipped(t, kernel), len(kernel)+1), "EOF"},
		{"a size that nothing has", fakeBzImage(zipped(t, kernel), 1<<31), "payload of 2147483648 bytes"},
		{"no entry for PVH", fakeBzImage(zipped(t, fakeVmlinux(62, 17)), len(kernel)), "CONFIG_PVH"},
		{"another processor", fakeBzImage(zipped(t, fakeVmlinux(3, 18)), len(kernel)), "EM_386"},
		{"an image that ends early", fakeBzImage(kernel, len(kernel))[:4096], "without its payload"},
		{"an old protocol", fakeImage(AMD64, "2.6.20"), "payload"},
		{"no image", []byte("MZ"), "EOF"},
		{"broken lz4", fakeBzImage(broken[:len(broken)-3], len(kernel)), "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := unpackBzImage(bytes.NewReader(tt.image))
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("got %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
			if err != nil || !bytes.Equal(got, kernel) {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, len(kernel))
			}
		})
	}
}

func TestLZ4Block(t *testing.T) {
	tests := []struct {
		name, block, want string
	}{
		{"literals", "\x30abc", "abc"},
		{"literals and a match", "\x30abc\x03\x00\x10d", "abcabcad"},
		{"a match that repeats itself", "\x15a\x01\x00\x20bc", "aaaaaaaaaabc"},
		{"a long match", "\x1fa\x01\x00\xff\x02\x10b", strings.Repeat("a", 1+4+15+255+2) + "b"},
		{"long literals", "\xf0\x01" + strings.Repeat("x", 16), strings.Repeat("x", 16)},
		{"an end in a length", "\xf0\xff", ""},
		{"fewer literals than said", "\x30ab", ""},
		{"a match before the start", "\x30abc\x04\x00\x10d", ""},
		{"a match of nothing", "\x30abc\x00\x00\x10d", ""},
		{"half an offset", "\x30abc\x03", ""},
		{"more than fits", "\x1fa\x01\x00" + strings.Repeat("\xff", 20) + "\x00", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dst := make([]byte, 1000)
			n, err := lz4Block(dst, []byte(tt.block))
			if tt.want == "" {
				if err == nil {
					t.Errorf("got %q and no error", dst[:n])
				}
				return
			}
			if err != nil || string(dst[:n]) != tt.want {
				t.Errorf("got %q, %v, want %q", dst[:n], err, tt.want)
			}
		})
	}
}

// TestUnpackLabKernels checks that no kernel of the catalogue has to unpack itself.
func TestUnpackLabKernels(t *testing.T) {
	for _, spec := range Names() {
		k, ok := NewCatalogue().Cached(spec, AMD64)
		if !ok {
			t.Logf("%s is not in the cache", spec)
			continue
		}
		image, err := os.Open(k.Image)
		if err != nil {
			t.Fatal(err)
		}
		if f, err := unpackBzImage(image); err != nil {
			t.Errorf("%s: %v", k, err)
		} else {
			f.Close()
		}
		image.Close()
	}
}

// TestVmlinuxIsKept checks that an image of the cache is unpacked once, another one each time, and that a newer image is unpacked again.
func TestVmlinuxIsKept(t *testing.T) {
	kernel := fakeVmlinux(62, 18)
	dir := t.TempDir()
	image := filepath.Join(dir, "vmlinuz")
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() int {
		t.Helper()
		k, err := KernelFromFile(image)
		if err != nil {
			t.Fatal(err)
		}
		f, unpacked, err := bootImage(k)
		if err != nil || !unpacked {
			t.Fatalf("unpacked %v, %v", unpacked, err)
		}
		got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
		if err != nil || !bytes.Equal(got, kernel) {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
		f.Close()
		names, err := filepath.Glob(filepath.Join(dir, "*vmlinux*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	write("vmlinuz", fakeBzImage(zipped(t, kernel), len(kernel)))
	if n := kept(); n != 0 {
		t.Errorf("%d files beside an image that is not of the cache", n)
	}
	write("kernel.json", []byte(`{"Name":"6.6","Arch":"amd64"}`))
	for range 2 {
		if n := kept(); n != 1 {
			t.Errorf("%d files beside an image of the cache, want 1", n)
		}
	}
	kernel = append(kernel, "newer"...)
	write("vmlinuz", fakeBzImage(zipped(t, kernel), len(kernel)))
	if n := kept(); n != 2 {
		t.Errorf("%d files, want 2", n)
	}
}

// TestKernelThatOnlyStartsPacked boots an image whose header leads to a vmlinux that ends at once: then the image is started as it is.
func TestKernelThatOnlyStartsPacked(t *testing.T) {
	cached := needKernel(t, "5.10", AMD64)
	image, err := os.ReadFile(cached.Image)
	if err != nil {
		t.Fatal(err)
	}
	fake := fakeVmlinux(62, 18)
	le := binary.LittleEndian
	le.PutUint32(image[0x248:], uint32(len(image)-(int(image[0x1f1])+1)*512))
	le.PutUint32(image[0x24c:], uint32(len(fake)+4))
	image = le.AppendUint32(append(image, fake...), uint32(len(fake)))
	path := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(path, image, 0o644); err != nil {
		t.Fatal(err)
	}
	k, err := KernelFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, unpacked, err := bootImage(k)
	if err != nil || !unpacked {
		t.Fatalf("unpacked %v, %v", unpacked, err)
	}
	f.Close()
	res, err := Run(t.Context(), Config{Kernel: k, Init: buildGuest(t, AMD64)})
	if err != nil || res.Release != cached.Release {
		t.Errorf("got %q, %v, want %q", res.Release, err, cached.Release)
	}
}
