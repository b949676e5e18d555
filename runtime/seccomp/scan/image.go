package scan

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/sonde-sh/sonde/runtime/seccomp"
	"github.com/sonde-sh/sonde/runtime/symbol"
)

// section is a part of the file that is in memory when it runs.
type section struct {
	addr     uint64
	data     []byte
	code     bool
	writable bool
	stubs    bool // of the procedure linkage table
	program  bool // made by the compiler, not for the loader
}

// function is a piece of code that begins where something may enter it.
type function struct {
	start, end uint64
	name       string // "" when nothing names it
}

// edge is a way from code to code: a call, a jump out of the function, or an address that is taken.
type edge struct {
	from uint64 // address of the instruction
	to   uint64 // an address, or importBase and the number of an import
	kind edgeKind
}

type edgeKind uint8

const (
	edgeCall edgeKind = iota
	edgeJump
	edgeTaken
)

// importBase marks targets that are in other files. No address has these bits.
const importBase = 1 << 62

// image is one file.
type image struct {
	path    string
	name    string
	abi     seccomp.ABI
	machine *machine
	isGo    bool
	library bool // it has no entry of its own
	fixed   bool // addresses are constants of the code

	sections []section // sorted by address
	funcs    []function
	imports  []string
	imported map[string]int
	slots    map[uint64]uint64 // places that the loader fills: with what
	pointers []uint64          // functions whose address data holds
	exports  map[string]uint64
	entry    uint64   // 0: none
	starts   []uint64 // constructors and destructors
	needed   []string
	search   []string // directories that the file names for its libraries
	interp   string

	edges   []edge // sorted by from
	sites   []rawSite
	callers map[uint64][]int32 // edges by target
	inner   map[int][]uint64   // by function: places behind its start that others jump to
	taken   map[uint64]bool    // functions whose address is somewhere
	bad     int                // bytes that are no instruction
}

type rawSite struct {
	at  uint64
	sys sysKind
}

// maxImage is the largest file that is read.
const maxImage = 1 << 30

// open reads a file and decodes it.
func open(path string) (*image, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	st, err := r.Stat()
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		return nil, fmt.Errorf("%s: is a directory, not a program or library", path)
	}
	return read(r, st.Size(), path)
}

func read(r io.ReaderAt, size int64, path string) (*image, error) {
	syms, err := symbol.NewFile(r, size, path, symbol.Options{NoDebugFiles: true})
	if err != nil {
		return nil, err
	}
	defer syms.Close()
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	img := &image{path: path, name: filepath.Base(path), slots: map[uint64]uint64{}, exports: map[string]uint64{}, imported: map[string]int{}, fixed: f.Type == elf.ET_EXEC}
	switch {
	case f.Machine == elf.EM_X86_64 && f.Class == elf.ELFCLASS64:
		img.abi, img.machine = seccomp.X8664, &x86Machine
	case f.Machine == elf.EM_AARCH64:
		img.abi, img.machine = seccomp.AArch64, &arm64Machine
	default:
		return nil, fmt.Errorf("%s: code of %v cannot be read; x86-64 and arm64 can", path, f.Machine)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, fmt.Errorf("%s: is neither a program nor a shared library (%v)", path, f.Type)
	}
	if err := img.readSections(f); err != nil {
		return nil, err
	}
	img.isGo = syms.IsGo()
	if err := img.readDynamic(f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	img.findFunctions(f, syms)
	img.readPointers()
	img.sweep()
	return img, nil
}

func (img *image) readSections(f *elf.File) error {
	total := uint64(0)
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 || s.Type == elf.SHT_NOBITS || s.Size == 0 {
			continue
		}
		if total += s.Size; total > maxImage {
			return fmt.Errorf("%s: is larger than %d MiB", img.path, maxImage>>20)
		}
		data, err := s.Data()
		if err != nil {
			return fmt.Errorf("%s: section %s: %w", img.path, s.Name, err)
		}
		img.sections = append(img.sections, section{s.Addr, data, s.Flags&elf.SHF_EXECINSTR != 0, s.Flags&elf.SHF_WRITE != 0, strings.HasPrefix(s.Name, ".plt"), s.Type == elf.SHT_PROGBITS && s.Name != ".eh_frame"})
	}
	sort.Slice(img.sections, func(i, j int) bool { return img.sections[i].addr < img.sections[j].addr })
	if !slices.ContainsFunc(img.sections, func(s section) bool { return s.code }) {
		return fmt.Errorf("%s: has no section of code (its section table was removed)", img.path)
	}
	return nil
}

func (img *image) sectionAt(addr uint64) *section {
	i := sort.Search(len(img.sections), func(i int) bool { return img.sections[i].addr > addr })
	// Sections of thread-local data share addresses with others; what lies before is looked at too.
	for j := i - 1; j >= 0 && j >= i-2; j-- {
		if s := &img.sections[j]; addr >= s.addr && addr-s.addr < uint64(len(s.data)) {
			return s
		}
	}
	return nil
}

// dataAt is what lies at an address, nil when that is code or nothing.
func (img *image) dataAt(addr uint64) []byte {
	if addr == 0 {
		return nil
	}
	if s := img.sectionAt(addr); s != nil && (!s.code || img.machine == &arm64Machine) {
		return s.data[addr-s.addr:]
	}
	return nil
}

// readOnly is a constant in memory that nothing can change.
func (img *image) readOnly(addr uint64, width uint8) (uint64, bool) {
	s := img.sectionAt(addr)
	if s == nil || s.writable || addr-s.addr+8 > uint64(len(s.data)) {
		return 0, false
	}
	b := s.data[addr-s.addr:]
	if width == 4 {
		return uint64(binary.LittleEndian.Uint32(b)), true
	}
	return binary.LittleEndian.Uint64(b), true
}

func (img *image) code(start, end uint64) []byte {
	s := img.sectionAt(start)
	if s == nil || !s.code {
		return nil
	}
	return s.data[start-s.addr : min(end-s.addr, uint64(len(s.data)))]
}

func (img *image) decode(f *function) []micro {
	return img.machine.decode(img.code(f.start, f.end), f.start, nil)
}

// functionAt is the index of the function that an address is in, -1 when there is none.
func (img *image) functionAt(addr uint64) int {
	i := sort.Search(len(img.funcs), func(i int) bool { return img.funcs[i].start > addr }) - 1
	if i < 0 || addr >= img.funcs[i].end {
		return -1
	}
	return i
}

func (img *image) isStart(addr uint64) bool {
	i := img.functionAt(addr)
	return i >= 0 && img.funcs[i].start == addr
}

// label names an address for people.
func (img *image) label(addr uint64) string {
	if i := img.functionAt(addr); i >= 0 {
		if f := &img.funcs[i]; f.name != "" {
			return f.name
		}
		return fmt.Sprintf("%#x", img.funcs[i].start)
	}
	return fmt.Sprintf("%#x", addr)
}

// through is where a call or jump through memory goes, 0 when nothing is known.
func (img *image) through(m *micro) uint64 {
	if m.kind != opCall && m.kind != opJump || !m.mem.absolute() {
		return 0
	}
	return img.slots[uint64(m.mem.disp)]
}

// findFunctions splits the code: by symbols, by the tables for unwinding the stack, which also stripped files have, and by what is
// exported or entered by the loader.
func (img *image) findFunctions(f *elf.File, syms *symbol.File) {
	type mark struct {
		end  uint64
		name string
		rank int
	}
	marks := map[uint64]mark{}
	add := func(start, end uint64, name string, rank int) {
		s := img.sectionAt(start)
		if s == nil || !s.code {
			return
		}
		m := marks[start]
		if end > m.end {
			m.end = end
		}
		if name != "" && (m.name == "" || rank > m.rank || rank == m.rank && len(name) < len(m.name)) {
			m.name, m.rank = name, rank
		}
		marks[start] = m
	}
	for _, s := range syms.Functions() {
		rank := 1
		if s.Local {
			rank = 0
		}
		add(s.Addr, s.Addr+s.Size, s.Name, rank)
	}
	for name, addr := range img.exports {
		add(addr, 0, name, 2)
	}
	for _, r := range unwindRanges(f) {
		add(r.start, r.end, "", 0)
	}
	for _, a := range append(slices.Clone(img.starts), img.entry) {
		add(a, 0, "", 0)
	}
	for i := range img.sections {
		s := &img.sections[i]
		if s.code {
			add(s.addr, 0, "", 0)
			if s.stubs {
				for off := uint64(0); off < uint64(len(s.data)); off += 16 {
					add(s.addr+off, 0, "", 0)
				}
			}
		}
	}
	for a, m := range marks {
		img.funcs = append(img.funcs, function{a, m.end, m.name})
	}
	sort.Slice(img.funcs, func(i, j int) bool { return img.funcs[i].start < img.funcs[j].start })
	// What lies between two functions is padding, or code that nothing describes: a function of its own.
	var out []function
	for i, fn := range img.funcs {
		s := img.sectionAt(fn.start)
		limit := s.addr + uint64(len(s.data))
		if i+1 < len(img.funcs) && img.funcs[i+1].start < limit {
			limit = img.funcs[i+1].start
		}
		if fn.end <= fn.start || fn.end > limit {
			fn.end = limit
		}
		out = append(out, fn)
		if at := img.padding(img.code(fn.end, limit)); fn.end+uint64(at) < limit {
			out = append(out, function{fn.end + uint64(at), limit, ""})
		}
	}
	img.funcs = out
}

// padding counts bytes between functions: zeros, traps and the nops of compilers.
func (img *image) padding(b []byte) int {
	i := 0
	for i < len(b) {
		n := 1
		switch {
		case img.machine == &arm64Machine:
			if len(b) < i+4 {
				return len(b)
			}
			if w := binary.LittleEndian.Uint32(b[i:]); w != 0 && w != 0xd503201f {
				return i
			}
			n = 4
		case b[i] == 0 || b[i] == 0xcc || b[i] == 0x90:
		default:
			if n = symbol.X86Length(b[i:]); n < 2 || !isNop(b[i:i+n]) {
				return i
			}
		}
		i += n
	}
	return i
}

func isNop(b []byte) bool {
	for len(b) > 0 && (b[0] == 0x66 || b[0] == 0x2e) {
		b = b[1:]
	}
	return len(b) >= 2 && b[0] == 0x0f && b[1] == 0x1f || len(b) == 1 && b[0] == 0x90
}

// sweep decodes everything once and keeps how code leads to code, and where it enters the kernel.
func (img *image) sweep() {
	var buf []micro
	for i := range img.funcs {
		f := &img.funcs[i]
		buf = img.machine.decode(img.code(f.start, f.end), f.start, buf[:0])
		for j := range buf {
			img.note(f, &buf[j])
		}
		// The end without a jump runs into what follows.
		if n := len(buf); n > 0 {
			switch buf[n-1].kind {
			case opJump, opEnd, opBadBytes:
			default:
				if img.isStart(f.end) {
					img.edges = append(img.edges, edge{buf[n-1].addr, f.end, edgeJump})
				}
			}
		}
	}
	img.callers, img.inner, img.taken = map[uint64][]int32{}, map[int][]uint64{}, map[uint64]bool{}
	for i, e := range img.edges {
		if e.kind == edgeTaken {
			img.taken[e.to] = true
			continue
		}
		if img.callers[e.to] == nil && e.to < importBase {
			if f := img.functionAt(e.to); f >= 0 && img.funcs[f].start != e.to {
				img.inner[f] = append(img.inner[f], e.to)
			}
		}
		img.callers[e.to] = append(img.callers[e.to], int32(i))
	}
	for _, p := range img.pointers {
		img.taken[p] = true
	}
	for _, p := range append(slices.Clone(img.starts), img.entry) {
		img.taken[p] = true
	}
	for _, p := range img.exports {
		img.taken[p] = true
	}
}

// entered reports whether anything leads to the start of a function.
func (img *image) entered(start uint64) bool { return img.taken[start] || len(img.callers[start]) > 0 }

func (img *image) note(f *function, m *micro) {
	add := func(to uint64, k edgeKind) { img.edges = append(img.edges, edge{m.addr, to, k}) }
	switch m.kind {
	case opCall, opJump, opBranch:
		to := m.target
		if to == 0 {
			to = img.through(m)
		}
		k := edgeJump
		if m.kind == opCall {
			k = edgeCall
		}
		if to != 0 && (k == edgeCall || to < f.start || to >= f.end) && (to >= importBase || img.functionAt(to) >= 0) {
			add(to, k)
		}
	case opSyscall:
		img.sites = append(img.sites, rawSite{m.addr, m.sys})
	case opLoad:
		if m.mem.absolute() {
			if to := img.pointerAt(uint64(m.mem.disp)); to != 0 {
				add(to, edgeTaken)
			}
		}
	case opMove, opStore:
		if !m.src.isConst() || !m.src.address && !img.fixed || m.src.imm == 0 {
			return
		}
		if img.isStart(m.src.imm) {
			add(m.src.imm, edgeTaken)
			return
		}
		for _, to := range img.table(m.src.imm) {
			add(to, edgeTaken)
		}
	case opBadBytes:
		img.bad++
	default:
	}
}

// pointerAt is the function, or the import, whose address is in memory when the file runs; 0 when there is none.
func (img *image) pointerAt(addr uint64) uint64 {
	if to := img.slots[addr]; to >= importBase || to != 0 && img.isStart(to) {
		return to
	}
	if b := img.dataAt(addr); img.fixed && len(b) >= 8 {
		if to := binary.LittleEndian.Uint64(b); to != 0 && to < importBase && img.isStart(to) {
			return to
		}
	}
	return 0
}

// longestTable bounds how many functions one address stands for.
const longestTable = 64

// table are the functions in data that code takes the address of: a closure, a table of methods. Go's have three words before
// the functions.
func (img *image) table(addr uint64) []uint64 {
	s := img.sectionAt(addr)
	if s == nil || s.code {
		return nil
	}
	var out []uint64
	begins := []uint64{addr}
	if img.isGo {
		begins = append(begins, addr+24)
	}
	for _, at := range begins {
		for range longestTable {
			to := img.pointerAt(at)
			if to == 0 {
				break
			}
			out = append(out, to)
			at += 8
		}
	}
	return out
}

// edgesOf are those that leave a function.
func (img *image) edgesOf(f *function) []edge {
	lo := sort.Search(len(img.edges), func(i int) bool { return img.edges[i].from >= f.start })
	hi := lo
	for hi < len(img.edges) && img.edges[hi].from < f.end {
		hi++
	}
	return img.edges[lo:hi]
}
