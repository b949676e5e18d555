package verify

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// readObject reads an object file.
func readObject(path string) (*ebpf.CollectionSpec, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(completeExt(b)))
	if err != nil {
		return nil, err
	}
	for _, p := range spec.Programs {
		for i := range p.Instructions {
			// GCC leaves the place of the map in its section where others have zero, and the library would take it for a descriptor.
			if ins := &p.Instructions[i]; ins.Src == asm.PseudoMapFD && ins.IsLoadFromMap() && ins.Reference() != "" {
				ins.Constant = 0
			}
		}
	}
	for _, m := range spec.Maps {
		// Whoever loads the object sets the sizes that it leaves open; the verifier does not look at them.
		if m.MaxEntries == 0 {
			m.MaxEntries = openSize(m.Type)
		}
	}
	return spec, nil
}

// openSize is a size for a map that has none; 0 for the types that must have none or that the library fills in.
func openSize(t ebpf.MapType) uint32 {
	switch t {
	case ebpf.Hash, ebpf.Array, ebpf.PerCPUHash, ebpf.PerCPUArray, ebpf.LRUHash, ebpf.LRUCPUHash, ebpf.ProgramArray, ebpf.StackTrace, ebpf.CGroupArray, ebpf.ArrayOfMaps,
		ebpf.HashOfMaps, ebpf.DevMap, ebpf.DevMapHash, ebpf.SockMap, ebpf.SockHash, ebpf.CPUMap, ebpf.XSKMap, ebpf.Queue, ebpf.Stack:
		return 1
	case ebpf.RingBuf, ebpf.UserRingbuf:
		return uint32(os.Getpagesize())
	default:
		return 0
	}
}

// btfExtHeader is struct btf_ext_header (include/uapi/linux/btf.h and libbpf's btf_ext_header), in the form with CO-RE relocations.
type btfExtHeader struct {
	Magic                    uint16
	Version, Flags           uint8
	HdrLen                   uint32
	FuncInfoOff, FuncInfoLen uint32
	LineInfoOff, LineInfoLen uint32
	COREReloOff, COREReloLen uint32
}

// completeExt gives empty tables of functions and lines in the section .BTF.ext the size of their records. GCC leaves out a table altogether
// that has no entries, which the kernel's own loader takes and ours does not. Other files come back as they are.
func completeExt(b []byte) []byte {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil || f.Class != elf.ELFCLASS64 || f.ByteOrder != binary.LittleEndian || len(b) < 64 {
		return b
	}
	for i, s := range f.Sections {
		if s.Name != ".BTF.ext" {
			continue
		}
		data, err := s.Data()
		var h btfExtHeader
		size := binary.Size(&h)
		if err != nil || len(data) < size || binary.Read(bytes.NewReader(data), binary.LittleEndian, &h) != nil || int(h.HdrLen) != size {
			return b
		}
		part := func(off, n uint32) ([]byte, bool) {
			lo, hi := uint64(h.HdrLen)+uint64(off), uint64(h.HdrLen)+uint64(off)+uint64(n)
			if hi > uint64(len(data)) {
				return nil, false
			}
			return data[lo:hi], true
		}
		funcs, ok1 := part(h.FuncInfoOff, h.FuncInfoLen)
		lines, ok2 := part(h.LineInfoOff, h.LineInfoLen)
		relos, ok3 := part(h.COREReloOff, h.COREReloLen)
		if !ok1 || !ok2 || !ok3 || len(funcs) > 0 && len(lines) > 0 {
			return b
		}
		var body bytes.Buffer
		table := func(data []byte, record uint32) (off, n uint32) {
			off = uint32(body.Len())
			if len(data) == 0 {
				data = binary.LittleEndian.AppendUint32(nil, record)
			}
			body.Write(data)
			return off, uint32(len(data))
		}
		h.FuncInfoOff, h.FuncInfoLen = table(funcs, 8)
		h.LineInfoOff, h.LineInfoLen = table(lines, 16)
		h.COREReloOff, h.COREReloLen = table(relos, 16)
		// The section moves to the end of the file.
		head := int(binary.LittleEndian.Uint64(b[0x28:])) + i*int(binary.LittleEndian.Uint16(b[0x3a:]))
		if head+64 > len(b) {
			return b
		}
		out := append([]byte(nil), b...)
		at := uint64(len(out))
		if out, err = binary.Append(out, binary.LittleEndian, &h); err != nil {
			return b
		}
		out = append(out, body.Bytes()...)
		binary.LittleEndian.PutUint64(out[head+24:], at)
		binary.LittleEndian.PutUint64(out[head+32:], uint64(len(out))-at)
		return out
	}
	return b
}
