package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ID is the number of a type inside a BTF. IDs of a module's (split) BTF go on where those of its base end. 0 is void.
type ID uint32

// BTF is one BTF blob, mapped and not parsed: a name is found by searching the string section, a type by one pass over
// the type section, and only what is asked for is decoded. After a few look-ups by name a hash index is built, since a
// script with wildcards asks for thousands.
//
// A BTF is safe for concurrent use. Its memory is never unmapped, because the names it hands out are not copies.
type BTF struct {
	path    string
	types   []byte // type section of this blob, without the base's
	strs    []byte // string section of this blob, NUL at both ends
	base    *BTF   // nil for a kernel's own BTF
	firstID ID     // ID of the first type of this blob
	firstSt uint32 // string offset at which strs starts
	order   binary.ByteOrder
	big     bool // order is big-endian: the hot loops do not go through the interface

	offsets  atomic.Pointer[[]uint32] // (*offsets)[i] = where type firstID+i starts in types, as far as was needed yet
	growMu   sync.Mutex
	grown    uint32 // where the type after the last known one starts
	complete bool   // guarded by growMu: offsets has all types
	broken   error  // guarded by growMu: the pass met a malformed type; types before it stay usable

	mu      sync.Mutex
	scans   int           // look-ups by name so far, to decide when the index pays
	memo    map[string]ID // answers of early look-ups, keyed by kinds and name
	index   *nameIndex    // nil until it pays
	enumsMu sync.Mutex
	enums   *enumIndex
	percpu  sync.Once
	pcVars  map[ID]VarEntry
	pcSec   ID
}

// ErrNoBTF says that the kernel has no type information at the place where it was looked for. It needs
// CONFIG_DEBUG_INFO_BTF, for modules also CONFIG_DEBUG_INFO_BTF_MODULES (5.11).
var ErrNoBTF = errors.New("the kernel has no type information (BTF)")

const (
	btfMagic      = 0xeb9f
	btfHeaderSize = 24
	btfMaxSize    = 1 << 30 // a vmlinux BTF is 5 to 10 MB; more than this is not one
)

// OpenBTF maps the BTF at path: a raw blob as in /sys/kernel/btf, or an ELF file with a .BTF section. base is the BTF
// of the kernel for the split BTF of a module and nil otherwise. Types are checked when they are reached, not here.
func OpenBTF(path string, base *BTF) (*BTF, error) {
	data, err := mapFile(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("open BTF: %w: %s does not exist", ErrNoBTF, path)
		}
		return nil, fmt.Errorf("open BTF: %w", err)
	}
	if bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		if data, err = elfBTF(data); err != nil {
			return nil, fmt.Errorf("open BTF: %s: %w", path, err)
		}
	}
	b, err := ParseBTF(data, base)
	if err != nil {
		return nil, fmt.Errorf("open BTF: %s: %w", path, err)
	}
	b.path = path
	return b, nil
}

func elfBTF(data []byte) ([]byte, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	s := f.Section(".BTF")
	if s == nil {
		return nil, ErrNoBTF
	}
	return s.Data()
}

// ParseBTF reads the header of a raw BTF blob and keeps data, which must not change afterwards.
func ParseBTF(data []byte, base *BTF) (*BTF, error) {
	if len(data) < btfHeaderSize {
		return nil, fmt.Errorf("%d bytes are too short for a BTF header", len(data))
	}
	var order binary.ByteOrder = binary.LittleEndian
	if binary.LittleEndian.Uint16(data) != btfMagic {
		if binary.BigEndian.Uint16(data) != btfMagic {
			return nil, errors.New("not BTF (wrong magic number)")
		}
		order = binary.BigEndian
	}
	if data[2] != 1 {
		return nil, fmt.Errorf("BTF version %d is not known", data[2])
	}
	hdr := uint64(order.Uint32(data[4:]))
	typeOff, typeLen := uint64(order.Uint32(data[8:])), uint64(order.Uint32(data[12:]))
	strOff, strLen := uint64(order.Uint32(data[16:])), uint64(order.Uint32(data[20:]))
	n := uint64(len(data))
	if hdr < btfHeaderSize || hdr+typeOff+typeLen > n || hdr+strOff+strLen > n {
		return nil, errors.New("BTF header points outside of the file")
	}
	b := &BTF{order: order, big: order == binary.BigEndian, base: base, firstID: 1}
	b.types = data[hdr+typeOff : hdr+typeOff+typeLen : hdr+typeOff+typeLen]
	b.strs = data[hdr+strOff : hdr+strOff+strLen : hdr+strOff+strLen]
	if len(b.strs) > 0 && b.strs[len(b.strs)-1] != 0 {
		return nil, errors.New("BTF string section does not end in a NUL byte")
	}
	if base == nil {
		if len(b.strs) == 0 || b.strs[0] != 0 {
			return nil, errors.New("BTF string section does not start with the empty string")
		}
		return b, nil
	}
	if base.order != order {
		return nil, errors.New("split BTF and its base differ in byte order")
	}
	b.firstID = ID(base.NumTypes())
	b.firstSt = base.firstSt + uint32(len(base.strs))
	return b, nil
}

// mapFile maps a file read-only. Kernels before 6.16 cannot map /sys/kernel/btf files, so the file is then read into
// anonymous memory, outside of the garbage collected heap: five megabytes there would double the heap's goal.
func mapFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := st.Size()
	if size <= 0 || size > btfMaxSize {
		return nil, fmt.Errorf("%s: size %d is not that of type information", path, size)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err == nil {
		return data, nil
	}
	data, err = unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("%s: no memory for %d bytes: %w", path, size, err)
	}
	for n := 0; n < len(data); {
		m, err := f.Read(data[n:])
		n += m
		if err != nil || m == 0 {
			_ = unix.Munmap(data)
			return nil, fmt.Errorf("read %s: got %d of %d bytes: %w", path, n, size, errors.Join(err, os.ErrInvalid))
		}
	}
	return data, nil
}

// Path is where the BTF came from, empty for ParseBTF.
func (b *BTF) Path() string { return b.path }

// Base is the kernel's BTF under a module's, or nil.
func (b *BTF) Base() *BTF { return b.base }

// FirstID is the first ID that belongs to this blob and not to its base.
func (b *BTF) FirstID() ID { return b.firstID }

// NumTypes is one more than the highest ID, void and the types of the base counted. It makes the whole offset index.
func (b *BTF) NumTypes() int { return int(b.firstID) + len(b.allOffsets()) }

// Err tells whether the types are malformed somewhere. It makes the whole offset index. Types before that place are usable.
func (b *BTF) Err() error {
	b.allOffsets()
	b.growMu.Lock()
	defer b.growMu.Unlock()
	return b.broken
}

// Kind is the kind of a type, numbered as in the kernel's include/uapi/linux/btf.h.
type Kind uint8

// The kinds of types.
const (
	KindVoid Kind = iota
	KindInt
	KindPtr
	KindArray
	KindStruct
	KindUnion
	KindEnum
	KindFwd
	KindTypedef
	KindVolatile
	KindConst
	KindRestrict
	KindFunc
	KindFuncProto
	KindVar
	KindDatasec
	KindFloat
	KindDeclTag
	KindTypeTag
	KindEnum64
	kindEnd
)

var kindNames = [kindEnd]string{
	"void", "int", "ptr", "array", "struct", "union", "enum", "fwd", "typedef", "volatile",
	"const", "restrict", "func", "func_proto", "var", "datasec", "float", "decl_tag", "type_tag", "enum64",
}

// String is the kernel's name of the kind, in lower case.
func (k Kind) String() string {
	if k < kindEnd {
		return kindNames[k]
	}
	return fmt.Sprintf("kind%d", uint8(k))
}

// header is the fixed part of a type at an offset of the type section.
type header struct {
	name, info, size uint32
}

func (h header) kind() Kind   { return Kind(h.info >> 24 & 0x1f) }
func (h header) vlen() uint32 { return h.info & 0xffff }

// header reads the header at off and the offset of the next type. ok is false at the end and at a malformed type.
func (b *BTF) header(off uint32) (h header, next uint32, ok bool) {
	t := b.types
	if uint64(off)+12 > uint64(len(t)) {
		return header{}, off, false
	}
	t = t[off : off+12]
	if b.big {
		h = header{binary.BigEndian.Uint32(t), binary.BigEndian.Uint32(t[4:]), binary.BigEndian.Uint32(t[8:])}
	} else {
		h = header{binary.LittleEndian.Uint32(t), binary.LittleEndian.Uint32(t[4:]), binary.LittleEndian.Uint32(t[8:])}
	}
	e := extraBytes[h.kind()]
	end := uint64(off) + 12 + uint64(e.fixed) + uint64(e.per)*uint64(h.vlen())
	if !e.known || end > uint64(len(b.types)) {
		return header{}, off, false
	}
	return h, uint32(end), true
}

// extraBytes is a byte table of what follows the header per kind: fixed bytes, and bytes per vlen. The scans below run over
// 150,000 types within a millisecond, which calls and switches per type do not allow.
var extraBytes = [32]struct {
	fixed, per uint8
	known      bool
}{
	KindInt: {4, 0, true}, KindVar: {4, 0, true}, KindDeclTag: {4, 0, true}, KindArray: {12, 0, true},
	KindStruct: {0, 12, true}, KindUnion: {0, 12, true}, KindDatasec: {0, 12, true}, KindEnum64: {0, 12, true},
	KindEnum: {0, 8, true}, KindFuncProto: {0, 8, true},
	KindPtr: {known: true}, KindFwd: {known: true}, KindTypedef: {known: true}, KindVolatile: {known: true},
	KindConst: {known: true}, KindRestrict: {known: true}, KindFunc: {known: true}, KindFloat: {known: true},
	KindTypeTag: {known: true},
}

// walk calls f for each type of this blob in order of ID until f returns false. It needs no index.
func (b *BTF) walk(f func(id ID, off, name, info uint32) bool) (end uint32) {
	t := b.types
	id := b.firstID
	off := uint32(0)
	for uint64(off)+12 <= uint64(len(t)) {
		var name, info uint32
		if !b.big {
			name, info = binary.LittleEndian.Uint32(t[off:]), binary.LittleEndian.Uint32(t[off+4:])
		} else {
			name, info = b.order.Uint32(t[off:]), b.order.Uint32(t[off+4:])
		}
		k := info >> 24 & 0x1f
		e := extraBytes[k]
		next := uint64(off) + 12 + uint64(e.fixed) + uint64(e.per)*uint64(info&0xffff)
		if !e.known || next > uint64(len(t)) {
			return off
		}
		if !f(id, off, name, info) {
			return off
		}
		off = uint32(next)
		id++
	}
	return off
}

// offset is where the type with this ID starts in the type section of this blob. The table ID -> offset (4 bytes per type,
// 0.6 MB for all of a distribution's kernel) grows as far as it is asked for: the types a script names tend to be early.
func (b *BTF) offset(id ID) (uint32, bool) {
	if id < b.firstID {
		return 0, false
	}
	i := int(id - b.firstID)
	if p := b.offsets.Load(); p != nil && i < len(*p) {
		return (*p)[i], true
	}
	offs := b.grow(i + 1)
	if i >= len(offs) {
		return 0, false
	}
	return offs[i], true
}

func (b *BTF) allOffsets() []uint32 { return b.grow(int(^uint(0) >> 1)) }

// grow makes the table at least n types long, if there are so many. Readers keep using the shorter table meanwhile: the
// entries they see never change.
func (b *BTF) grow(n int) []uint32 {
	b.growMu.Lock()
	defer b.growMu.Unlock()
	var offs []uint32
	if p := b.offsets.Load(); p != nil {
		offs = *p
	}
	if len(offs) >= n || b.complete {
		return offs
	}
	if n < len(b.types) { // grow in steps, so that ever higher IDs do not publish a table each
		n += n/4 + 1024
	}
	if offs == nil {
		offs = make([]uint32, 0, len(b.types)/20+1) // kernels have 20 to 24 bytes per type
	}
	t, off := b.types, b.grown
	for len(offs) < n {
		_, next, ok := b.header(off)
		if !ok {
			b.complete = true
			if int(off) != len(t) {
				b.broken = fmt.Errorf("malformed BTF type %d at offset %d", int(b.firstID)+len(offs), off)
			}
			break
		}
		offs = append(offs, off)
		off = next
	}
	b.grown = off
	b.offsets.Store(&offs)
	return offs
}

// str is the string at an offset, without copying. Offsets below firstSt are the base's. A bad offset gives "".
func (b *BTF) str(off uint32) string {
	if off < b.firstSt {
		return b.base.str(off)
	}
	i := uint64(off - b.firstSt)
	if i >= uint64(len(b.strs)) {
		return ""
	}
	s := b.strs[i:]
	n := bytes.IndexByte(s, 0)
	if n <= 0 {
		return ""
	}
	return unsafe.String(&s[0], n)
}
