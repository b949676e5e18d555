package lab

import (
	"fmt"
	"io"
	"os"
	"path"
	"sort"
	"strings"
)

// File is one file of the guest's root. Exactly one of Host, Data and Link is
// used, in that order.
type File struct {
	// Path is absolute in the guest; missing folders are made.
	Path string
	// Host is a file of the host to copy.
	Host string
	// Data is the content when Host is empty.
	Data []byte
	// Link makes a symbolic link to this target.
	Link string
	// Mode holds permission bits; zero means 0755.
	Mode os.FileMode
}

// File type bits of a cpio mode, as in stat(2).
const (
	cpioDir  = 0o040000
	cpioReg  = 0o100000
	cpioLink = 0o120000
	cpioChar = 0o020000
)

// cpioWriter writes the "newc" format that the kernel unpacks
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type cpioWriter struct {
	w    io.Writer
	off  int64
	ino  uint32
	dirs map[string]bool
	err  error
}

func newCpioWriter(w io.Writer) *cpioWriter {
	return &cpioWriter{w: w, dirs: map[string]bool{"/": true, ".": true}}
}

func (c *cpioWriter) write(p []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(p)
	c.off += int64(n)
	c.err = err
}

func (c *cpioWriter) pad() {
	if n := c.off % 4; n != 0 {
		c.write(make([]byte, 4-n))
	}
}

// header writes an entry's header and name. major and minor are those of a
// device node.
func (c *cpioWriter) header(name string, mode uint32, size int64, major, minor uint32) {
	if c.err == nil && size > 0xffffffff {
		c.err = fmt.Errorf("lab: %s: %d bytes do not fit an initramfs", name, size)
		return
	}
	c.ino++
	name = strings.TrimPrefix(name, "/")
	c.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.ino, mode, 0, 0, 1, 0, uint32(size), 0, 0, major, minor, len(name)+1, 0, name))
	c.pad()
}

// mkdirs writes the folders above name that were not written yet: the kernel
// does not make them.
func (c *cpioWriter) mkdirs(dir string) {
	if c.dirs[dir] {
		return
	}
	c.mkdirs(path.Dir(dir))
	c.dirs[dir] = true
	c.header(dir, cpioDir|0o755, 0, 0, 0)
}

func (c *cpioWriter) add(f File) {
	name := path.Clean("/" + f.Path)
	c.mkdirs(path.Dir(name))
	mode := uint32(f.Mode.Perm())
	if mode == 0 {
		mode = 0o755
	}
	switch {
	case f.Host != "":
		c.addHost(name, mode, f.Host)
	case f.Link != "" && f.Data == nil:
		c.header(name, cpioLink|0o777, int64(len(f.Link)), 0, 0)
		c.write([]byte(f.Link))
	default:
		c.header(name, cpioReg|mode, int64(len(f.Data)), 0, 0)
		c.write(f.Data)
	}
	c.pad()
}

func (c *cpioWriter) addHost(name string, mode uint32, host string) {
	if c.err != nil {
		return
	}
	in, err := os.Open(host)
	if err != nil {
		c.err = err
		return
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		c.err = err
		return
	}
	if !st.Mode().IsRegular() {
		c.err = fmt.Errorf("lab: %s is not a regular file", host)
		return
	}
	c.header(name, cpioReg|mode, st.Size(), 0, 0)
	if c.err != nil {
		return
	}
	n, err := io.Copy(c.w, io.LimitReader(in, st.Size()))
	c.off += n
	if err == nil && n != st.Size() {
		err = fmt.Errorf("lab: %s changed while it was read", host)
	}
	c.err = err
}

func (c *cpioWriter) char(name string, mode, major, minor uint32) {
	c.mkdirs(path.Dir(name))
	c.header(name, cpioChar|mode, 0, major, minor)
}

func (c *cpioWriter) close() error {
	c.header("TRAILER!!!", 0, 0, 0, 0)
	return c.err
}

// writeInitramfs writes a root with files and the device nodes that a kernel
// needs before devtmpfs is mounted.
func writeInitramfs(w io.Writer, files []File) error {
	c := newCpioWriter(w)
	for _, d := range []string{"/dev", "/proc", "/sys", "/tmp", "/run", "/bin", "/etc", "/root"} {
		c.mkdirs(d)
	}
	c.char("/dev/console", 0o600, 5, 1)
	c.char("/dev/null", 0o666, 1, 3)
	sorted := append([]File(nil), files...)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].Path < sorted[j].Path })
	for _, f := range sorted {
		c.add(f)
	}
	return c.close()
}
