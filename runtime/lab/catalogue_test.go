package lab

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestParseStanzas(t *testing.T) {
	const in = "Package: a\nVersion: 1:2.0-1\nDescription: short\n long line\n .\n end\n\n\nPackage: b\nEmpty:\n"
	got, err := parseStanzas(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	want := []map[string]string{
		{"Package": "a", "Version": "1:2.0-1", "Description": "short\nlong line\n.\nend"},
		{"Package": "b", "Empty": ""},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range []string{" continuation first\n", "no colon here\n", "A: b\n\n again\n"} {
		if _, err := parseStanzas(strings.NewReader(bad)); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestImageDependency(t *testing.T) {
	tests := []struct{ name, pkg, depends, want string }{
		{"a meta package", "linux-image-cloud-amd64", "linux-image-5.10.0-32-cloud-amd64 (= 5.10.223-1)", "linux-image-5.10.0-32-cloud-amd64"},
		{"an image", "linux-image-5.10.0-32-cloud-amd64", "kmod, linux-base (>= 4.3~), initramfs-tools | dracut", ""},
		{
			"an image that was split", "linux-image-7.2-cloud-amd64",
			"dracut | initramfs-tools, linux-base-7.2-cloud-amd64 (= 1), linux-binary-7.2-cloud-amd64 (= 1), linux-modules-7.2 (= 1)", "linux-binary-7.2-cloud-amd64",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := imageDependency(pkg{name: tt.pkg, depends: parseDepends(tt.depends)}); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPickURIs(t *testing.T) {
	const targets = `http://third.example/apt/|bookworm|main|Third
http://mirror.example/debian/|bookworm|main|Debian
http://mirror.example/debian/|bookworm-updates|main|Debian
http://mirror.example/debian/|bookworm|contrib|Debian
http://mirror.example/security/|bookworm-security|main|Debian
http://other.example/x|nodistro|main|Other
broken line
`
	for _, tt := range []struct {
		security bool
		want     []string
	}{
		{false, []string{"http://mirror.example/debian/", "http://third.example/apt/"}},
		{true, []string{"http://mirror.example/security/"}},
	} {
		if got := pickURIs(targets, tt.security); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("security %v: got %q, want %q", tt.security, got, tt.want)
		}
	}
}

func TestSpecs(t *testing.T) {
	for spec, want := range map[string]string{
		"5.10": "5.10", "debian:12": "6.1", "6.12.107": "6.12", "trixie": "6.12", "newest": "newest",
		"7.2": "newest", "7": "newest", "6.1.0-50-cloud-amd64": "6.1", "4.19": "", "6.13": "", "": "",
	} {
		if e, _ := findEntry(spec); e.name != want {
			t.Errorf("%q is %q, want %q", spec, e.name, want)
		}
	}
	if got, want := ParseSpecs(" 5.10,, all"), []string{"5.10", "6.1", "6.12", "newest"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err := NewCatalogue().Fetch(t.Context(), "4.19", AMD64)
	if !errors.Is(err, ErrNoKernel) || !strings.Contains(err.Error(), "newest") {
		t.Errorf("got %v", err)
	}
}

// fakeImage returns what identify takes for a kernel.
func fakeImage(arch Arch, release string) []byte {
	b := make([]byte, 4096)
	if arch == ARM64 {
		copy(b[0x38:], "ARM\x64")
		return b
	}
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x300)
	copy(b[0x500:], release+" (builder) #1 SMP\x00")
	return b
}

func TestIdentifyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vmlinuz")
	tests := []struct {
		name    string
		content []byte
		want    Kernel
		wantErr string
	}{
		{"x86-64", fakeImage(AMD64, "6.6.6-test"), Kernel{Name: "vmlinuz", Arch: AMD64, Release: "6.6.6-test", Image: path}, ""},
		{"arm64", fakeImage(ARM64, ""), Kernel{Name: "vmlinuz", Arch: ARM64, Image: path}, ""},
		{"something else", make([]byte, 4096), Kernel{}, "not a bzImage"},
		{"too short", []byte("MZ"), Kernel{}, "too short"},
		{"a version outside of the header", append(fakeImage(AMD64, "x")[:0x20e], append([]byte{0xff, 0xff}, make([]byte, 2000)...)...), Kernel{Name: "vmlinuz", Arch: AMD64, Image: path}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(path, tt.content, 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := KernelFromFile(path)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("got %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestUnwrapImage(t *testing.T) {
	plain := fakeImage(ARM64, "")
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	efi := make([]byte, 128)
	copy(efi, "MZ")
	copy(efi[4:], "zimg")
	binary.LittleEndian.PutUint32(efi[8:], 128)
	binary.LittleEndian.PutUint32(efi[12:], uint32(zipped.Len()))
	for name, in := range map[string][]byte{"plain": plain, "gzip": zipped.Bytes(), "EFI": append(efi, zipped.Bytes()...)} {
		if got, err := unwrapImage(in); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if _, err := unwrapImage(efi); err == nil {
		t.Error("no error for an EFI image without its payload")
	}
}

// fakeApt puts a package client before the real one: it serves deb as the
// image of every suite but those in missing, and counts downloads.
func fakeApt(t *testing.T, deb []byte, sum string) (downloads func() int) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("deb", string(deb))
	write("apt-get", `#!/bin/sh
for a; do last=$a; done
case "$*" in
*indextargets*) echo 'http://mirror.invalid/debian/|bookworm|main|Debian';;
*update*) grep -q bullseye etc/sources.list && { echo 'E: no such suite' >&2; exit 100; }; sleep 0.1;;
*download*) echo x >>`+dir+`/count; cp `+dir+`/deb "${last%%=*}_1_amd64.deb";;
esac
`)
	write("apt-cache", `#!/bin/sh
for a; do last=$a; done
echo "Package: $last"; echo "Version: 1"; echo "SHA256: `+sum+`"
case "$last" in linux-image-cloud-*) echo "Depends: linux-image-6.6-cloud-amd64 (= 1)";; esac
`)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() int {
		b, _ := os.ReadFile(filepath.Join(dir, "count"))
		return bytes.Count(b, []byte("x"))
	}
}

func TestFetch(t *testing.T) {
	image := fakeImage(AMD64, "6.6-cloud-amd64")
	deb := makeDeb(t, "xz", map[string]string{"boot/vmlinuz-6.6-cloud-amd64": string(image)})
	sum := sha256.Sum256(deb)
	downloads := fakeApt(t, deb, hex.EncodeToString(sum[:]))
	dir := t.TempDir()

	// Several catalogues stand for several processes: locks are per open file.
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			k, err := (&Catalogue{Dir: dir}).Fetch(t.Context(), "6.12", AMD64)
			if err != nil || k.Release != "6.6-cloud-amd64" || k.Version != "1" {
				t.Errorf("got %+v, %v", k, err)
				return
			}
			if b, err := os.ReadFile(k.Image); err != nil || !bytes.Equal(b, image) {
				t.Errorf("image: %d bytes, %v", len(b), err)
			}
		})
	}
	all.Wait()
	if n := downloads(); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
	if _, err := (&Catalogue{Dir: dir, Refresh: true}).Fetch(t.Context(), "debian:13", AMD64); err != nil || downloads() != 2 {
		t.Errorf("refresh: %v, %d downloads", err, downloads())
	}
	if k, ok := (&Catalogue{Dir: dir}).Cached("6.12", AMD64); !ok || k.Name != "6.12" {
		t.Errorf("not in the cache: %+v", k)
	}
	left, err := filepath.Glob(filepath.Join(dir, "kernels/amd64/.*-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	t.Run("a suite that the mirror does not have", func(t *testing.T) {
		_, err := (&Catalogue{Dir: dir}).Fetch(t.Context(), "5.10", AMD64)
		if err == nil || !strings.Contains(err.Error(), "no such suite") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a wrong checksum", func(t *testing.T) {
		fakeApt(t, deb, strings.Repeat("0", 64))
		_, err := (&Catalogue{Dir: t.TempDir()}).Fetch(t.Context(), "6.12", AMD64)
		if err == nil || !strings.Contains(err.Error(), "SHA256") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no package client", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := (&Catalogue{Dir: t.TempDir()}).Fetch(t.Context(), "6.12", AMD64)
		var missing *MissingError
		if !errors.As(err, &missing) || missing.Package != "apt" {
			t.Errorf("got %v", err)
		}
	})
}

func TestLockFileWaitsAndGivesUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, fmt.Errorf("given up"))
	defer cancel()
	if _, err := lockFile(ctx, path); err == nil || !strings.Contains(err.Error(), "given up") {
		t.Errorf("got %v", err)
	}
	unlock()
	again, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
