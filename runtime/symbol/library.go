package symbol

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ErrNoBinary is wrapped by the errors of [FindBinary] when nothing of that name exists.
var ErrNoBinary = errors.New("no such program or library")

// NativeMachine is the ELF architecture that this program runs on.
func NativeMachine() elf.Machine {
	if runtime.GOARCH == "arm64" {
		return elf.EM_AARCH64
	}
	return elf.EM_X86_64
}

// Finder finds the file that a name in an attach point means. Its zero value looks in our own file system with the
// native architecture and the PATH of our environment.
type Finder struct {
	// Root is the file system to look in.
	Root Root
	// Path is the search path for programs; "" takes the environment's.
	Path string
	// Machine is the wanted architecture; 0 is the native one.
	Machine elf.Machine
	// PID, when it is not 0, is a process whose mapped files are looked at before anything else.
	PID int
}

// FindBinary resolves name in our own file system; see [Finder.Find].
func FindBinary(name string) (string, error) { return Finder{}.Find(name) }

// Find resolves the binary that an attach point names to a path inside the root: a path (absolute, or relative to the
// working directory), a library (libc, libc.so, libssl.so.3) by the dynamic loader's cache and the standard directories,
// or a program by the search path. The error wraps [ErrNoBinary] when there is nothing.
func (f Finder) Find(name string) (string, error) {
	if name == "" {
		return "", fmt.Errorf("%w: empty name", ErrNoBinary)
	}
	if strings.ContainsRune(name, '/') {
		path := name
		if !filepath.IsAbs(path) && f.Root.Own() {
			if abs, err := filepath.Abs(path); err == nil {
				path = abs
			}
		}
		st, err := f.Root.stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("%w: %s", ErrNoBinary, name)
		case err != nil:
			return "", err
		case st.IsDir():
			return "", fmt.Errorf("%s is a directory, not a program or library", name)
		}
		return path, nil
	}
	if f.PID != 0 {
		if path, ok := f.mapped(name); ok {
			return path, nil
		}
	}
	isLibrary := strings.HasPrefix(name, "lib") || strings.Contains(name, ".so")
	if isLibrary {
		if path, ok := f.library(name); ok {
			return path, nil
		}
	}
	if path, ok := f.program(name); ok {
		return path, nil
	}
	if isLibrary {
		return "", fmt.Errorf("%w: %s (looked in the dynamic loader's cache and in the library directories)", ErrNoBinary, name)
	}
	if path, ok := f.library("lib" + name); ok {
		return path, nil
	}
	return "", fmt.Errorf("%w: %s (looked in %s)", ErrNoBinary, name, f.searchPath())
}

func (f Finder) machine() elf.Machine {
	if f.Machine == 0 {
		return NativeMachine()
	}
	return f.Machine
}

// soMatch ranks how well the file name of a library answers to a wanted name: 0 not at all, higher is better.
func soMatch(want, have string) int {
	switch {
	case have == want:
		return 3
	case have == want+".so":
		return 2
	case strings.HasPrefix(have, want+".so."):
		return 1
	case strings.HasSuffix(want, ".so") && strings.HasPrefix(have, want+"."):
		return 1
	}
	return 0
}

// compareVersions orders library file names by the numbers in them: libfoo.so.10 is above libfoo.so.9.
func compareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; i < len(as) && i < len(bs); i++ {
		an, aerr := strconv.Atoi(as[i])
		bn, berr := strconv.Atoi(bs[i])
		c := cmp.Compare(as[i], bs[i])
		if aerr == nil && berr == nil {
			c = cmp.Compare(an, bn)
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(as), len(bs))
}

type libraryMatch struct {
	name, path string
	rank       int
}

// better puts the exact name first, then the highest version; a bare libfoo.so comes last, as it may be a linker script.
func better(a, b libraryMatch) int {
	return cmp.Or(cmp.Compare(b.rank, a.rank), compareVersions(b.name, a.name))
}

// Libraries lists the names in the dynamic loader's cache that fit the architecture: libc.so.6.
func (f Finder) Libraries() []string {
	var out []string
	for _, e := range f.cache() {
		if e.fits(f.machine()) {
			out = append(out, e.Name)
		}
	}
	return out
}

func (f Finder) library(name string) (string, bool) {
	var found []libraryMatch
	for _, e := range f.cache() {
		if rank := soMatch(name, e.Name); rank > 0 && e.fits(f.machine()) {
			found = append(found, libraryMatch{e.Name, e.Path, rank})
		}
	}
	if path, ok := f.first(found); ok {
		return path, true
	}
	found = found[:0]
	for _, dir := range f.libraryDirs() {
		host, err := f.Root.Resolve(dir)
		if err != nil {
			continue
		}
		entries, err := os.ReadDir(host)
		if err != nil {
			continue
		}
		for _, e := range entries {
			rank := soMatch(name, e.Name())
			// musl has one file for everything: libc.musl-x86_64.so.1, which is also the loader.
			if rank == 0 && strings.HasPrefix(e.Name(), name+".musl-") {
				rank = 1
			}
			if rank > 0 {
				found = append(found, libraryMatch{e.Name(), filepath.Join(dir, e.Name()), rank})
			}
		}
		if path, ok := f.first(found); ok {
			return path, true
		}
	}
	return "", false
}

// first returns the best match that really is an ELF file of the wanted architecture.
func (f Finder) first(found []libraryMatch) (string, bool) {
	slices.SortStableFunc(found, better)
	for _, m := range found {
		if f.isELF(m.path) {
			return m.path, true
		}
	}
	return "", false
}

func (f Finder) isELF(path string) bool {
	file, err := f.Root.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	var head [20]byte
	if _, err := io.ReadFull(file, head[:]); err != nil || string(head[:4]) != elf.ELFMAG {
		return false
	}
	machine := elf.Machine(uint16(head[18]) | uint16(head[19])<<8)
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		machine = elf.Machine(uint16(head[19]) | uint16(head[18])<<8)
	}
	return machine == f.machine()
}

func (f Finder) cache() []cacheEntry {
	file, err := f.Root.Open("/etc/ld.so.cache")
	if err != nil {
		return nil
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, 64<<20))
	if err != nil {
		return nil
	}
	entries, err := parseCache(data)
	if err != nil {
		return nil
	}
	return entries
}

func (f Finder) libraryDirs() []string {
	triple, loader := "x86_64-linux-gnu", "/etc/ld-musl-x86_64.path"
	if f.machine() == elf.EM_AARCH64 {
		triple, loader = "aarch64-linux-gnu", "/etc/ld-musl-aarch64.path"
	}
	var dirs []string
	if f.Root.Own() {
		for _, d := range filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")) {
			if filepath.IsAbs(d) {
				dirs = append(dirs, d)
			}
		}
	}
	if file, err := f.Root.Open(loader); err == nil {
		data, _ := io.ReadAll(io.LimitReader(file, 64<<10))
		file.Close()
		for _, d := range strings.FieldsFunc(string(data), func(r rune) bool { return r == ':' || r == '\n' }) {
			dirs = append(dirs, strings.TrimSpace(d))
		}
	}
	return append(dirs, "/lib/"+triple, "/usr/lib/"+triple, "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib64", "/usr/local/lib")
}

func (f Finder) searchPath() string {
	if f.Path != "" {
		return f.Path
	}
	if p := os.Getenv("PATH"); p != "" && f.Root.Own() {
		return p
	}
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

func (f Finder) program(name string) (string, bool) {
	for _, dir := range filepath.SplitList(f.searchPath()) {
		if !filepath.IsAbs(dir) {
			continue
		}
		path := filepath.Join(dir, name)
		if st, err := f.Root.stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, true
		}
	}
	return "", false
}

// mapped looks for the name among the files that the process has mapped.
func (f Finder) mapped(name string) (string, bool) {
	p, err := ReadProcess(f.PID)
	if err != nil {
		return "", false
	}
	var found []libraryMatch
	for _, m := range p.Mappings {
		if m.Inode == 0 || m.Deleted {
			continue
		}
		base := filepath.Base(m.Path)
		rank := soMatch(name, base)
		if rank == 0 && (strings.HasPrefix(base, name+"-") || strings.HasPrefix(base, name+".musl-")) && strings.Contains(base, ".so") {
			rank = 1 // libc-2.31.so, libc.musl-x86_64.so.1
		}
		if rank > 0 {
			found = append(found, libraryMatch{base, m.Path, rank})
		}
	}
	return f.first(found)
}
