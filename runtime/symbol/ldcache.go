package symbol

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

// cacheEntry is one library of /etc/ld.so.cache.
type cacheEntry struct {
	Name  string // libc.so.6
	Path  string // /lib/x86_64-linux-gnu/libc.so.6
	Flags uint32
}

// Flags of the entries: the low byte is the C library (3 is glibc), the next one the architecture.
const (
	cacheFlagLibc6   = 0x0003
	cacheFlagX8664   = 0x0300
	cacheFlagAArch64 = 0x0a00
	cacheFlagX32     = 0x0800
	cacheFlagArch    = 0xff00
	cacheFlagType    = 0x00ff
)

const (
	cacheMagicNew = "glibc-ld.so.cache1.1"
	cacheMagicOld = "ld.so-1.7.0"
)

// fits reports whether the entry is for 64-bit programs of the architecture.
func (e cacheEntry) fits(machine elf.Machine) bool {
	if e.Flags&cacheFlagType != cacheFlagLibc6 {
		return false
	}
	switch machine {
	case elf.EM_X86_64:
		return e.Flags&cacheFlagArch == cacheFlagX8664
	case elf.EM_AARCH64:
		return e.Flags&cacheFlagArch == cacheFlagAArch64
	}
	return e.Flags&cacheFlagArch == 0
}

// parseCache reads the cache that ldconfig writes: the format of glibc 2.2 and newer, alone or behind the old format.
func parseCache(data []byte) ([]cacheEntry, error) {
	if bytes.HasPrefix(data, []byte(cacheMagicOld)) {
		// Old header: 11 bytes of magic, padding, a count; 12 bytes for each entry; then the new format, 8-byte aligned.
		if len(data) < 16 {
			return nil, errors.New("ld.so.cache: cut short")
		}
		skip := 16 + 12*uint64(binary.NativeEndian.Uint32(data[12:]))
		skip = (skip + 7) &^ 7
		if skip > uint64(len(data)) {
			return nil, errors.New("ld.so.cache: cut short")
		}
		data = data[skip:]
	}
	if !bytes.HasPrefix(data, []byte(cacheMagicNew)) {
		return nil, errors.New("ld.so.cache: unknown format")
	}
	const headerSize, entrySize = 48, 24
	if len(data) < headerSize {
		return nil, errors.New("ld.so.cache: cut short")
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch data[28] & 3 { // 0 is "not set", written before glibc 2.33 in the byte order of the machine
	case 3:
		order = binary.BigEndian
	case 1:
		return nil, errors.New("ld.so.cache: marked as invalid")
	}
	count := uint64(order.Uint32(data[20:]))
	if headerSize+count*entrySize > uint64(len(data)) {
		return nil, fmt.Errorf("ld.so.cache: %d entries do not fit in %d bytes", count, len(data))
	}
	text := func(off uint32) (string, bool) {
		if uint64(off) >= uint64(len(data)) {
			return "", false
		}
		end := bytes.IndexByte(data[off:], 0)
		if end <= 0 {
			return "", false
		}
		return string(data[off : int(off)+end]), true
	}
	out := make([]cacheEntry, 0, count)
	for i := range count {
		d := data[headerSize+i*entrySize:]
		name, ok1 := text(order.Uint32(d[4:]))
		path, ok2 := text(order.Uint32(d[8:]))
		if ok1 && ok2 {
			out = append(out, cacheEntry{Name: name, Path: path, Flags: order.Uint32(d)})
		}
	}
	return out, nil
}
