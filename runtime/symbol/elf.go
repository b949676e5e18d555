package symbol

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// ErrNotELF is wrapped by the error of [Open] for a file that is not an ELF image (a script, an empty file).
var ErrNotELF = errors.New("not an ELF file")

// ErrNoSymbol is wrapped by errors about a name or address for which a file has no symbol.
var ErrNoSymbol = errors.New("no such symbol")

// maxSectionBytes limits what is read of one section, so that a hostile file cannot exhaust the memory.
const maxSectionBytes = 1 << 30

// Options says how a File is opened. The zero value is right for files of our own mount namespace.
type Options struct {
	// Root is the file system that the path, and separate debug files, are resolved in.
	Root Root
	// DebugDirs are the directories searched for separate debug files; nil means /usr/lib/debug.
	DebugDirs []string
	// NoDebugFiles leaves separate debug files and MiniDebugInfo unread.
	NoDebugFiles bool
}

// File is one ELF image: an executable, a shared library, a vDSO or a debug file. Everything but the headers is read when
// it is first asked for. A File keeps its descriptor open (the path may be gone by the time that a symbol is wanted);
// Close releases it, and so does the garbage collector when no reference is left.
type File struct {
	path   string
	opts   Options
	closer io.Closer
	reader io.ReaderAt
	size   int64
	elf    *elf.File

	buildIDOnce sync.Once
	buildID     []byte

	mu     sync.Mutex // guards everything below
	dyn    *symTable
	static *symTable
	full   *symTable
	debug  *File // the separate debug file, nil when there is none
	debugs bool  // debug was searched for
	mini   *File
	minis  bool
	gobin  *goBinary
	gobins bool

	dwarf  *dwarfIndex
	dwarfs bool  // dwarf was looked for
	dwarfE error // why there is none
	plt    *symTable
	plts   bool
}

// Open opens the ELF image at path, which is resolved inside opts.Root. The error wraps fs.ErrNotExist, fs.ErrPermission
// or [ErrNotELF] where that is the reason.
func Open(path string, opts Options) (*File, error) {
	f, err := opts.Root.Open(path)
	if err != nil {
		return nil, err
	}
	return newFile(f, path, opts)
}

func newFile(f *os.File, path string, opts Options) (*File, error) {
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if !st.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s: %w (not a regular file)", path, ErrNotELF)
	}
	img, err := NewFile(f, st.Size(), path, opts)
	if err != nil {
		f.Close()
		return nil, err
	}
	img.closer = f
	return img, nil
}

// NewFile reads an ELF image of size bytes from r. The path is used in messages and to find separate debug files.
func NewFile(r io.ReaderAt, size int64, path string, opts Options) (*File, error) {
	var magic [4]byte
	if n, err := r.ReadAt(magic[:], 0); n < 4 {
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return nil, fmt.Errorf("%s: %w", path, ErrNotELF)
	}
	if string(magic[:]) != elf.ELFMAG {
		if string(magic[:2]) == "#!" {
			return nil, fmt.Errorf("%s: %w (a script; probe its interpreter)", path, ErrNotELF)
		}
		return nil, fmt.Errorf("%s: %w", path, ErrNotELF)
	}
	e, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrNotELF, err)
	}
	return &File{path: path, opts: opts, reader: r, size: size, elf: e}, nil
}

// Close releases the descriptor. Symbols that were not read yet cannot be read afterwards.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var errs []error
	if f.debug != nil {
		errs = append(errs, f.debug.Close())
	}
	if f.closer != nil {
		errs = append(errs, f.closer.Close())
		f.closer = nil
	}
	return errors.Join(errs...)
}

// Path is the path that the file was opened by, inside its root.
func (f *File) Path() string { return f.path }

// Machine is the architecture of the code.
func (f *File) Machine() elf.Machine { return f.elf.Machine }

// PIE reports whether the image is loaded at an address chosen at run time: a shared library or a position-independent
// executable. The addresses in its symbols are then offsets from that load address.
func (f *File) PIE() bool { return f.elf.Type == elf.ET_DYN }

// BuildID is the GNU build id, nil when the image has none.
func (f *File) BuildID() []byte {
	f.buildIDOnce.Do(func() { f.buildID = readBuildID(f.elf) })
	return f.buildID
}

func readBuildID(e *elf.File) []byte {
	const ntGNUBuildID = 3
	find := func(r io.ReaderAt, size, align uint64) []byte {
		data, err := readAll(r, size)
		if err != nil {
			return nil
		}
		var id []byte
		eachNote(data, e.ByteOrder, align, func(owner string, typ uint32, desc []byte) bool {
			if owner == "GNU" && typ == ntGNUBuildID && len(desc) > 0 && len(desc) <= 64 {
				id = bytes.Clone(desc)
				return false
			}
			return true
		})
		return id
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_NOTE {
			if id := find(p.ReaderAt, min(p.Filesz, 1<<20), p.Align); id != nil {
				return id
			}
		}
	}
	for _, s := range e.Sections {
		if s.Type == elf.SHT_NOTE {
			if id := find(s.ReaderAt, min(s.FileSize, 1<<20), s.Addralign); id != nil {
				return id
			}
		}
	}
	return nil
}

// BuildIDString is the build id in hexadecimal digits, "" when the image has none.
func (f *File) BuildIDString() string { return hex.EncodeToString(f.BuildID()) }

// eachNote calls visit for each ELF note until it returns false. Notes are padded to 4 bytes, or to 8 in segments that
// say so. Broken notes end the walk.
func eachNote(data []byte, order binary.ByteOrder, align uint64, visit func(owner string, typ uint32, desc []byte) bool) {
	pad := func(n uint64) uint64 {
		if align == 8 {
			return (n + 7) &^ 7
		}
		return (n + 3) &^ 3
	}
	for len(data) >= 12 {
		nameSize := uint64(order.Uint32(data[0:]))
		descSize := uint64(order.Uint32(data[4:]))
		typ := order.Uint32(data[8:])
		descStart := pad(12 + nameSize)
		descEnd := descStart + descSize
		if 12+nameSize > uint64(len(data)) || descEnd > uint64(len(data)) {
			return
		}
		owner := string(bytes.TrimRight(data[12:12+nameSize], "\x00"))
		if !visit(owner, typ, data[descStart:descEnd]) {
			return
		}
		next := pad(descEnd)
		if next >= uint64(len(data)) {
			return
		}
		data = data[next:]
	}
}

// OffsetOf converts an address of the image to an offset in the file, which is what a uprobe is attached by. It reports
// false for an address that no loaded segment has in the file (.bss, or nonsense).
func (f *File) OffsetOf(addr uint64) (offset uint64, ok bool) {
	for _, p := range f.elf.Progs {
		if p.Type == elf.PT_LOAD && addr >= p.Vaddr && addr-p.Vaddr < p.Filesz {
			return addr - p.Vaddr + p.Off, true
		}
	}
	return 0, false
}

// InCode tells whether an address of the image is in a segment that is executed.
func (f *File) InCode(addr uint64) bool {
	for _, p := range f.elf.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && addr >= p.Vaddr && addr-p.Vaddr < p.Filesz {
			return true
		}
	}
	return false
}

// AddressOf converts an offset in the file to an address of the image. Where two segments hold the offset, the
// executable one wins.
func (f *File) AddressOf(offset uint64) (addr uint64, ok bool) {
	for _, p := range f.elf.Progs {
		if p.Type == elf.PT_LOAD && offset >= p.Off && offset-p.Off < p.Filesz {
			addr, ok = offset-p.Off+p.Vaddr, true
			if p.Flags&elf.PF_X != 0 {
				return addr, true
			}
		}
	}
	return addr, ok
}

// pageAddress returns the address of the image that the start of a mapping has. The kernel maps whole pages, so a mapping
// may begin in front of its segment.
func (f *File) pageAddress(offset uint64, exec bool) (addr uint64, ok bool) {
	page := uint64(os.Getpagesize() - 1)
	for _, p := range f.elf.Progs {
		if p.Type != elf.PT_LOAD || (p.Flags&elf.PF_X != 0) != exec {
			continue
		}
		if offset >= p.Off&^page && offset < p.Off+p.Filesz {
			return offset - p.Off + p.Vaddr, true
		}
	}
	return 0, false
}

// inSegment reports whether a loaded segment covers addr in memory, .bss included.
func (f *File) inSegment(addr uint64) bool {
	for _, p := range f.elf.Progs {
		if p.Type == elf.PT_LOAD && addr >= p.Vaddr && addr-p.Vaddr < p.Memsz {
			return true
		}
	}
	return false
}

// Code returns up to n bytes of the image at addr, fewer at the end of the segment.
func (f *File) Code(addr uint64, n int) ([]byte, error) {
	for _, p := range f.elf.Progs {
		if p.Type == elf.PT_LOAD && addr >= p.Vaddr && addr-p.Vaddr < p.Filesz {
			buf := make([]byte, min(uint64(n), p.Filesz-(addr-p.Vaddr)))
			if k, err := p.ReadAt(buf, int64(addr-p.Vaddr)); k < len(buf) {
				return nil, fmt.Errorf("%s: read code at %#x: %w", f.path, addr, err)
			}
			return buf, nil
		}
	}
	return nil, fmt.Errorf("%s: address %#x is not in the file", f.path, addr)
}

// executable reports whether addr lies in an executable segment of the file.
func (f *File) executable(addr uint64) bool {
	for _, p := range f.elf.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 && addr >= p.Vaddr && addr-p.Vaddr < p.Filesz {
			return true
		}
	}
	return false
}

// sectionData reads (and decompresses) a section, nil when there is no such section.
func (f *File) sectionData(name string) ([]byte, error) {
	s := f.elf.Section(name)
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	return f.readSection(s)
}

func (f *File) readSection(s *elf.Section) ([]byte, error) {
	if s.Size > maxSectionBytes {
		return nil, fmt.Errorf("%s: section %s is larger than %d MiB", f.path, s.Name, maxSectionBytes>>20)
	}
	if s.Flags&elf.SHF_COMPRESSED == 0 && s.FileSize > uint64(f.size) {
		return nil, fmt.Errorf("%s: section %s is larger than the file", f.path, s.Name)
	}
	data, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: section %s: %w", f.path, s.Name, err)
	}
	return data, nil
}

func readAll(r io.ReaderAt, size uint64) ([]byte, error) {
	if r == nil {
		return nil, io.EOF
	}
	buf := make([]byte, size)
	n, err := r.ReadAt(buf, 0)
	if n == len(buf) {
		return buf, nil
	}
	return buf[:n], err
}
