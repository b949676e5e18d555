package lab

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// makeDeb builds a package with files in order of their names.
func makeDeb(t testing.TB, compression string, files map[string]string) []byte {
	t.Helper()
	var tarball bytes.Buffer
	tw := tar.NewWriter(&tarball)
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		h := &tar.Header{Name: "./" + n, Mode: 0o644, Size: int64(len(files[n])), Typeflag: tar.TypeReg}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(files[n])); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	var w io.WriteCloser
	var err error
	switch compression {
	case "xz":
		w, err = xz.NewWriter(&packed)
	case "zst":
		w, err = zstd.NewWriter(&packed)
	case "gz":
		w = gzip.NewWriter(&packed)
	}
	if err != nil {
		t.Fatal(err)
	}
	if w == nil {
		packed = tarball
	} else {
		if _, err := w.Write(tarball.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	out := []byte(arMagic)
	member := func(name string, data []byte) {
		out = fmt.Appendf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(data))
		out = append(out, data...)
		if len(data)%2 == 1 {
			out = append(out, '\n')
		}
	}
	member("debian-binary", []byte("2.0\n"))
	member("control.tar.xz", []byte("odd"))
	member("data.tar."+compression, packed.Bytes())
	return out
}

func TestExtractDeb(t *testing.T) {
	files := map[string]string{"boot/config-1": "C", "boot/vmlinuz-1": "kernel", "usr/share/doc/x": "doc"}
	for _, compression := range []string{"xz", "zst", "gz", "none"} {
		t.Run(compression, func(t *testing.T) {
			deb := makeDeb(t, compression, files)
			var got string
			err := extractDeb(bytes.NewReader(deb), isImage, func(name string, r io.Reader) (bool, error) {
				b, err := io.ReadAll(r)
				got = name + "=" + string(b)
				return true, err
			})
			if err != nil || got != "boot/vmlinuz-1=kernel" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestExtractDebBroken(t *testing.T) {
	good := makeDeb(t, "gz", map[string]string{"boot/vmlinuz-1": "kernel"})
	take := func(string, io.Reader) (bool, error) { return false, nil }
	for name, in := range map[string][]byte{
		"empty":               nil,
		"not an archive":      []byte("PK\x03\x04 something else entirely"),
		"cut in the header":   good[:30],
		"cut in the data":     good[:len(good)-20],
		"no data member":      good[:8+60+4],
		"a size that is none": bytes.Replace(good, []byte("4         `"), []byte("x         `"), 1),
		"broken compression":  bytes.Replace(good, []byte{0x1f, 0x8b, 8}, []byte{0x1f, 0x8b, 9}, 1),
	} {
		t.Run(name, func(t *testing.T) {
			if err := extractDeb(bytes.NewReader(in), isImage, take); err == nil {
				t.Error("no error")
			}
		})
	}
	stop := errors.New("stop")
	err := extractDeb(bytes.NewReader(good), isImage, func(string, io.Reader) (bool, error) { return false, stop })
	if !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of take", err)
	}
}

func FuzzDeb(f *testing.F) {
	f.Add(makeDeb(f, "gz", map[string]string{"boot/vmlinuz-1": "kernel"}))
	f.Add(makeDeb(f, "none", map[string]string{"boot/vmlinuz-1": "kernel"}))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = extractDeb(bytes.NewReader(b), isImage, func(_ string, r io.Reader) (bool, error) {
			_, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			return false, err
		})
	})
}
