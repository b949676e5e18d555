package lab

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A bzImage unpacks itself, which takes about a second under emulation and a tenth of that here. What is in it can be started as it is when it has the
// entry point of PVH guests (CONFIG_PVH): QEMU knows that one from a note in the file.

// bootImage returns the file that QEMU starts, and whether it was taken out of the image: what cannot be is started as it is. For a kernel of the cache
// it is kept there.
func bootImage(k Kernel) (f *os.File, unpacked bool, err error) {
	image, err := os.Open(k.Image)
	if err != nil {
		return nil, false, fmt.Errorf("lab: %w", err)
	}
	if k.Arch != AMD64 {
		return image, false, nil
	}
	kept := keptVmlinux(k, image)
	if kept != "" {
		if f, err := os.Open(kept); err == nil {
			return f, true, image.Close()
		}
	}
	if f, err = unpackBzImage(image); err != nil {
		return image, false, nil
	}
	if kept != "" { // without a place for it, it is done each time
		_ = writeWhole(kept, io.NewSectionReader(f, 0, maxVmlinuxBytes))
	}
	return f, true, image.Close()
}

// keptVmlinux names the file beside an image of the cache for what is in it, "" for another image. The name is that of this one image: the folder may be
// replaced by that of a newer kernel at any time.
func keptVmlinux(k Kernel, image *os.File) string {
	dir := filepath.Dir(k.Image)
	if cached, err := readKernel(dir); err != nil || cached.Image != k.Image {
		return ""
	}
	st, err := image.Stat()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, fmt.Sprintf("vmlinux-%x-%x", st.Size(), st.ModTime().UnixNano()))
}

// maxVmlinuxBytes is several times the size of a distribution's kernel.
const maxVmlinuxBytes = 512 << 20

// unpackBzImage returns the vmlinux of a bzImage as an anonymous file. Documentation/arch/x86/boot.rst tells where it is.
func unpackBzImage(image io.ReaderAt) (*os.File, error) {
	head := make([]byte, 0x250)
	if _, err := image.ReadAt(head, 0); err != nil {
		return nil, err
	}
	if version := binary.LittleEndian.Uint16(head[0x206:]); string(head[0x202:0x206]) != "HdrS" || version < 0x208 {
		return nil, errors.New("not a bzImage that says where its payload is")
	}
	setup := int64(head[0x1f1])
	if setup == 0 {
		setup = 4
	}
	start := (setup+1)*512 + int64(le32(head[0x248:]))
	// The last four bytes are the size of what comes out.
	packed := int64(le32(head[0x24c:])) - 4
	var tail [4]byte
	if _, err := image.ReadAt(tail[:], start+packed); packed <= 0 || err != nil {
		return nil, errors.New("a bzImage without its payload")
	}
	size := int64(le32(tail[:]))
	if size > maxVmlinuxBytes {
		return nil, fmt.Errorf("a payload of %d bytes", size)
	}
	plain, done, err := decompressKernel(io.NewSectionReader(image, start, packed))
	if err != nil {
		return nil, err
	}
	defer done()
	fd, err := unix.MemfdCreate("lab-vmlinux", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	out := os.NewFile(uintptr(fd), "lab-vmlinux")
	if _, err = io.CopyN(out, plain, size); err == nil {
		err = checkPVH(out)
	}
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// lz4Legacy starts the format of `lz4 -l`, which only kernels use.
const lz4Legacy = "\x02\x21\x4c\x18"

func decompressKernel(r io.Reader) (plain io.Reader, done func(), err error) {
	b := bufio.NewReader(r)
	if head, err := b.Peek(4); err == nil && string(head) == lz4Legacy {
		return &lz4Reader{r: b}, func() {}, nil
	}
	return decompress(b)
}

// lz4Reader reads the legacy frame of LZ4: blocks that know nothing of each other, each of at most 8 MiB and with its packed size before it.
type lz4Reader struct {
	r            *bufio.Reader
	packed, open []byte
	left         []byte // of open
}

const lz4BlockBytes = 8 << 20

func (z *lz4Reader) Read(p []byte) (int, error) {
	for len(z.left) == 0 {
		var word [4]byte
		if _, err := io.ReadFull(z.r, word[:]); err != nil {
			return 0, err
		}
		if string(word[:]) == lz4Legacy { // at the start of the frame, and of one behind it
			continue
		}
		n := int(le32(word[:]))
		if n > lz4BlockBytes+lz4BlockBytes/255+16 {
			return 0, fmt.Errorf("lz4: a block of %d bytes", n)
		}
		if cap(z.packed) < n {
			z.packed = make([]byte, n)
		}
		if _, err := io.ReadFull(z.r, z.packed[:n]); err != nil {
			return 0, errors.Join(io.ErrUnexpectedEOF, err)
		}
		if z.open == nil {
			z.open = make([]byte, lz4BlockBytes)
		}
		m, err := lz4Block(z.open, z.packed[:n])
		if err != nil {
			return 0, err
		}
		z.left = z.open[:m]
	}
	n := copy(p, z.left)
	z.left = z.left[n:]
	return n, nil
}

var errLZ4 = errors.New("lz4: broken block")

// lz4Block unpacks a block and returns how long it became.
func lz4Block(dst, src []byte) (int, error) {
	at := 0
	// length adds the bytes that follow a full nibble.
	length := func(n int) (int, bool) {
		if n < 15 {
			return n, true
		}
		for {
			if len(src) == 0 {
				return 0, false
			}
			b := src[0]
			src = src[1:]
			if n += int(b); b < 255 {
				return n, true
			}
		}
	}
	for len(src) > 0 {
		token := src[0]
		src = src[1:]
		n, ok := length(int(token >> 4))
		if !ok || n > len(src) || n > len(dst)-at {
			return 0, errLZ4
		}
		copy(dst[at:], src[:n])
		at, src = at+n, src[n:]
		if len(src) == 0 {
			return at, nil // the last sequence is literals only
		}
		if len(src) < 2 {
			return 0, errLZ4
		}
		back := int(binary.LittleEndian.Uint16(src))
		src = src[2:]
		if n, ok = length(int(token & 15)); !ok {
			return 0, errLZ4
		}
		n += 4
		if back == 0 || back > at || n > len(dst)-at {
			return 0, errLZ4
		}
		// What is copied may reach into what it writes: then it repeats.
		for n > 0 {
			m := copy(dst[at:at+min(n, back)], dst[at-back:])
			at, n = at+m, n-m
		}
	}
	return at, nil
}

// checkPVH returns nil when a vmlinux says where a PVH guest starts: XEN_ELFNOTE_PHYS32_ENTRY.
func checkPVH(r io.ReaderAt) error {
	f, err := elf.NewFile(r)
	if err != nil {
		return err
	}
	if f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("a kernel for %s", f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > 1<<20 {
			continue
		}
		notes := make([]byte, p.Filesz)
		if _, err := p.ReadAt(notes, 0); err != nil {
			return err
		}
		if hasNote(notes, "Xen\x00", 18) {
			return nil
		}
	}
	return errors.New("a kernel without CONFIG_PVH")
}

func hasNote(notes []byte, name string, kind uint32) bool {
	for len(notes) >= 12 {
		nameLen, descLen := uint64(le32(notes)), uint64(le32(notes[4:]))
		k := le32(notes[8:])
		end := 12 + (nameLen+3)&^3 + (descLen+3)&^3
		if end > uint64(len(notes)) {
			return false
		}
		if k == kind && bytes.Equal(notes[12:12+nameLen], []byte(name)) {
			return true
		}
		notes = notes[end:]
	}
	return false
}
