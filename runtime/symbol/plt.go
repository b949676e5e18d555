package symbol

import (
	"debug/elf"
	"encoding/binary"
	"strings"
)

// pltStubs names the stubs through which a program calls its libraries: NAME@plt. Profiles meet them, and without names
// they look like whatever symbol came before.
func (f *File) pltStubs() *symTable {
	if f.plts {
		return f.plt
	}
	f.plts = true
	if f.elf.Machine != elf.EM_X86_64 && f.elf.Machine != elf.EM_AARCH64 {
		return nil
	}
	slots := f.importSlots()
	if len(slots) == 0 {
		return nil
	}
	t := &symTable{whole: true}
	var names strings.Builder
	names.WriteByte(0)
	for i, s := range f.elf.Sections {
		if !strings.HasPrefix(s.Name, ".plt") || s.Flags&elf.SHF_EXECINSTR == 0 || s.Size > 16<<20 {
			continue
		}
		code, err := f.readSection(s)
		if err != nil {
			continue
		}
		size := 16
		if s.Entsize == 8 {
			size = 8
		}
		eachStub(f.elf.Machine, code, s.Addr, size, func(start, end, slot uint64) {
			name, ok := slots[slot]
			if !ok {
				return
			}
			t.entries = append(t.entries, symEntry{addr: start, size: uint32(end - start), name: uint32(names.Len()), section: uint16(i), kind: KindFunc, bind: bindLocal})
			names.WriteString(name)
			names.WriteString("@plt")
			names.WriteByte(0)
		})
	}
	if len(t.entries) == 0 {
		return nil
	}
	t.strs = []string{names.String()}
	f.plt = t
	return t
}

// importSlots maps each address of the global offset table that the loader fills with a function to that function's name.
func (f *File) importSlots() map[uint64]string {
	syms, err := f.elf.DynamicSymbols()
	if err != nil {
		return nil
	}
	slots := map[uint64]string{}
	for _, s := range f.elf.Sections {
		if s.Type != elf.SHT_RELA || s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		data, err := f.readSection(s)
		if err != nil {
			continue
		}
		for ; len(data) >= 24; data = data[24:] {
			where := f.elf.ByteOrder.Uint64(data)
			info := f.elf.ByteOrder.Uint64(data[8:])
			sym := info >> 32
			if sym == 0 || sym > uint64(len(syms)) {
				continue
			}
			switch typ := uint32(info); {
			case f.elf.Machine == elf.EM_X86_64 && (elf.R_X86_64(typ) == elf.R_X86_64_JMP_SLOT || elf.R_X86_64(typ) == elf.R_X86_64_GLOB_DAT),
				f.elf.Machine == elf.EM_AARCH64 && (elf.R_AARCH64(typ) == elf.R_AARCH64_JUMP_SLOT || elf.R_AARCH64(typ) == elf.R_AARCH64_GLOB_DAT):
				slots[where] = syms[sym-1].Name
			}
		}
	}
	return slots
}

// eachStub finds the stubs of a PLT section by the table slot that they jump through.
func eachStub(machine elf.Machine, code []byte, base uint64, size int, visit func(start, end, slot uint64)) {
	le := binary.LittleEndian
	if machine == elf.EM_AARCH64 {
		// adrp x16, page; ldr x17, [x16, off]; add x16, x16, off; br x17
		for i := 0; i+16 <= len(code); i += 4 {
			adrp, ldr := le.Uint32(code[i:]), le.Uint32(code[i+4:])
			if adrp&0x9f00001f != 0x90000010 || ldr&0xffc003ff != 0xf9400211 {
				continue
			}
			pages := int64(int32(adrp<<8)>>13)&^3 | int64(adrp>>29&3)
			slot := (base+uint64(i))&^0xfff + uint64(pages<<12) + uint64(ldr>>10&0xfff)*8
			visit(base+uint64(i), base+uint64(i)+16, slot)
			i += 12
		}
		return
	}
	// Each entry is an optional endbr64 or bnd prefix, then jmp *disp(%rip).
	for start := 0; start+size <= len(code); start += size {
		entry := code[start : start+size]
		for i := 0; i+6 <= len(entry); i++ {
			if entry[i] == 0xff && entry[i+1] == 0x25 {
				next := base + uint64(start+i) + 6
				visit(base+uint64(start), base+uint64(start+size), next+uint64(int64(int32(le.Uint32(entry[i+2:])))))
				break
			}
		}
	}
}
