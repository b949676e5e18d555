package lab

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// arMagic starts an ar archive, the outer form of a Debian package.
const arMagic = "!<arch>\n"

// arReader walks the members of an ar archive.
type arReader struct {
	r    io.Reader
	body io.LimitedReader
	pad  int64
}

func newArReader(r io.Reader) (*arReader, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != arMagic {
		return nil, errors.New("not an ar archive")
	}
	return &arReader{r: r}, nil
}

// next returns the next member's name and content, io.EOF after the last. The
// content is valid until the next call.
func (a *arReader) next() (string, io.Reader, error) {
	if _, err := io.Copy(io.Discard, &a.body); err != nil {
		return "", nil, err
	}
	if a.body.N > 0 {
		return "", nil, io.ErrUnexpectedEOF
	}
	if _, err := io.CopyN(io.Discard, a.r, a.pad); err != nil {
		return "", nil, io.EOF // the padding after the last member may be missing
	}
	var h [60]byte
	if _, err := io.ReadFull(a.r, h[:]); err != nil {
		return "", nil, err
	}
	size, err := strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
	if err != nil || size < 0 || string(h[58:]) != "`\n" {
		return "", nil, errors.New("broken ar header")
	}
	a.body = io.LimitedReader{R: a.r, N: size}
	a.pad = size % 2
	return strings.TrimSuffix(strings.TrimSpace(string(h[:16])), "/"), &a.body, nil
}

// debData returns the tar stream with a package's files.
func debData(r io.Reader) (*tar.Reader, func(), error) {
	a, err := newArReader(r)
	if err != nil {
		return nil, nil, err
	}
	for {
		name, body, err := a.next()
		if errors.Is(err, io.EOF) {
			return nil, nil, errors.New("not a Debian package: no data.tar")
		}
		if err != nil {
			return nil, nil, err
		}
		if !strings.HasPrefix(name, "data.tar") {
			continue
		}
		plain, done, err := decompress(body)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		return tar.NewReader(plain), done, nil
	}
}

// decompress finds the compression by its magic bytes. done releases what it
// holds.
func decompress(r io.Reader) (plain io.Reader, done func(), err error) {
	head := make([]byte, 6)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	head = head[:n]
	r = io.MultiReader(bytes.NewReader(head), r)
	done = func() {}
	switch {
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		plain, err = xz.NewReader(r)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		var d *zstd.Decoder
		if d, err = zstd.NewReader(r); err == nil {
			plain, done = d, d.Close
		}
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		plain, err = gzip.NewReader(r)
	default:
		plain = r
	}
	return plain, done, err
}

// extractDeb calls take for every regular file of a package for which want is
// true, by its path without leading "./", until take says that it has all.
func extractDeb(r io.Reader, want func(name string) bool, take func(name string, r io.Reader) (all bool, err error)) error {
	t, done, err := debData(r)
	if err != nil {
		return err
	}
	defer done()
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if h.Typeflag != tar.TypeReg || !want(name) {
			continue
		}
		all, err := take(name, t)
		if err != nil || all {
			return err
		}
	}
}
