package symbol

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// KernelSymbols names kernel addresses; runtime/kernel has it.
type KernelSymbols interface {
	// Lookup returns the symbol that covers addr, the offset in it, and the module ("" for the kernel itself).
	Lookup(addr uint64) (name string, offset uint64, module string, ok bool)
}

// CacheMode says how long the mappings of a process are believed.
type CacheMode int

const (
	// CachePerPID keeps them for each process, and reads them again when an address is not in them.
	CachePerPID CacheMode = iota
	// CachePerProgram keeps one picture for all processes that run the same program. It is right only where address
	// space randomisation is off, and saves time when very many short processes are traced.
	CachePerProgram
	// CacheNone reads them for every address.
	CacheNone
)

// ParseCacheMode parses the values of the configuration key cache_user_symbols: PER_PID, PER_PROGRAM, NONE (or 1 and 0).
func ParseCacheMode(s string) (CacheMode, error) {
	switch strings.ToUpper(s) {
	case "PER_PID", "1":
		return CachePerPID, nil
	case "PER_PROGRAM":
		return CachePerProgram, nil
	case "NONE", "0":
		return CacheNone, nil
	}
	return 0, fmt.Errorf("unknown symbol cache mode %q (PER_PID, PER_PROGRAM or NONE)", s)
}

// Frame is an address with what is known about it.
type Frame struct {
	// Addr is the address that was asked for.
	Addr uint64
	// Name is the function or variable, "" when unknown.
	Name string
	// Offset is the distance from its start, in bytes.
	Offset uint64
	// Module is the kernel module ("" for the kernel itself), or the path of the file as the process sees it, or [vdso],
	// [JIT], [heap] and the like.
	Module string
	// FileOffset is the place in the file, 0 when there is no file.
	FileOffset uint64
	// BuildID is that of the file, nil when unknown or for the kernel.
	BuildID []byte
	// File and Line (and Column, 0 when unknown) tell the source line; "" and 0 when there is no debug information or it
	// was not asked for.
	File   string
	Line   int
	Column int
	// Inlined is set for a function whose code is part of its caller: the next frame.
	Inlined bool
}

// Known reports whether the address has a name.
func (f Frame) Known() bool { return f.Name != "" }

// Config configures a [Symbolizer]. The zero value names user addresses and no kernel ones.
type Config struct {
	// Kernel names kernel addresses; nil leaves them unnamed.
	Kernel KernelSymbols
	// Cache says how long mappings are believed.
	Cache CacheMode
	// Demangle turns C++ and Rust names into readable ones.
	Demangle bool
	// Lines looks up source lines and inlined functions where there is debug information.
	Lines bool
	// DebugDirs are the directories of separate debug files; nil means /usr/lib/debug.
	DebugDirs []string
	// MaxFiles and MaxProcesses limit what is kept; 0 means 256 files and 4,096 processes.
	MaxFiles, MaxProcesses int
	// Gone gives the picture of a process that has ended, nil when there is none; see [Watcher]. It may be nil.
	Gone func(pid int) *Process
	// Proc is where procfs is mounted; "" means /proc.
	Proc string
	// Now is the clock that limits how often mappings are read again; nil means time.Now.
	Now func() time.Time
}

// Symbolizer names addresses of the kernel and of processes.
type Symbolizer struct {
	cfg Config

	mu        sync.Mutex
	processes *lru[int, *cachedProcess]
	programs  *lru[fileID, *cachedProcess]
	files     *lru[fileKey, *File]
	builds    *lru[string, *File]
	vdso      *File
}

type cachedProcess struct {
	*Process
	pinned  bool // given by the caller; never read again
	checked time.Time
	read    time.Time
}

type fileID struct {
	dev, inode uint64
}

// fileKey tells the content of a file: an upgraded library has another inode or time.
type fileKey struct {
	fileID
	size  int64
	mtime int64
}

// recheck is how often a cached process is compared with the live one, reread how often its mappings may be read again
// because an address was not in them.
const (
	recheck = time.Second
	reread  = 100 * time.Millisecond
)

// New makes a Symbolizer.
func New(cfg Config) *Symbolizer {
	if cfg.MaxFiles == 0 {
		cfg.MaxFiles = 256
	}
	if cfg.MaxProcesses == 0 {
		cfg.MaxProcesses = 4096
	}
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Symbolizer{
		cfg:       cfg,
		processes: newLRU[int, *cachedProcess](cfg.MaxProcesses),
		programs:  newLRU[fileID, *cachedProcess](cfg.MaxProcesses),
		files:     newLRU[fileKey, *File](cfg.MaxFiles),
		builds:    newLRU[string, *File](cfg.MaxFiles),
	}
}

// Kernel names a kernel address.
func (s *Symbolizer) Kernel(addr uint64) Frame {
	f := Frame{Addr: addr}
	if s.cfg.Kernel == nil {
		return f
	}
	if name, offset, module, ok := s.cfg.Kernel.Lookup(addr); ok {
		f.Name, f.Offset, f.Module = s.display(name), offset, module
	}
	return f
}

// User names an address of a process: the function whose code it is, inlined ones left out.
func (s *Symbolizer) User(pid int, addr uint64) Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	frames := s.user(pid, addr, false)
	return frames[len(frames)-1]
}

// UserFrames names an address of a process with the functions that were inlined there, innermost first; there is always
// at least one frame. Only with [Config.Lines] it finds inlined functions.
func (s *Symbolizer) UserFrames(pid int, addr uint64) []Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.user(pid, addr, s.cfg.Lines)
}

// In names an address in a picture of a process that the caller has taken.
func (s *Symbolizer) In(p *Process, addr uint64) Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	frames, _ := s.frames(p, addr, false)
	return frames[len(frames)-1]
}

// Snapshot takes a picture of a process and keeps it: addresses of this process id are named by it from now on, also
// when the process has ended. [Symbolizer.Forget] ends that.
func (s *Symbolizer) Snapshot(pid int) (*Process, error) {
	p, err := readProcess(s.cfg.Proc, pid)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// A container's files vanish with its last process, so they are opened now; our own stay.
	if p.OtherMounts {
		for i := range p.Mappings {
			if p.Mappings[i].Exec {
				s.image(p, i)
			}
		}
	}
	now := s.cfg.Now()
	s.processes.put(pid, &cachedProcess{Process: p, checked: now, read: now})
	return p, nil
}

// Pin makes addresses of p.PID be named by p, which may come from another source than /proc, until Forget.
func (s *Symbolizer) Pin(p *Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.processes.put(p.PID, &cachedProcess{Process: p, pinned: true})
}

// Forget drops what is known about a process.
func (s *Symbolizer) Forget(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.processes.delete(pid)
}

func (s *Symbolizer) user(pid int, addr uint64, inlines bool) []Frame {
	c := s.process(pid)
	if c == nil {
		return []Frame{{Addr: addr}}
	}
	frames, mapped := s.frames(c.Process, addr, inlines)
	if mapped || c.pinned {
		return frames
	}
	// Unknown memory: a library may have been loaded since. Not more often than every 100 ms.
	if now := s.cfg.Now(); now.Sub(c.read) >= reread {
		c.read = now
		if p, err := readProcess(s.cfg.Proc, pid); err == nil {
			s.replace(c, p)
			frames, _ = s.frames(p, addr, inlines)
		}
	}
	return frames
}

// process returns the picture of a process by the cache mode, nil when there is no such process.
func (s *Symbolizer) process(pid int) *cachedProcess {
	now := s.cfg.Now()
	c, ok := s.processes.get(pid)
	if ok && c.pinned {
		return c
	}
	if s.cfg.Cache == CacheNone || !ok {
		return s.load(pid, c, now)
	}
	if now.Sub(c.checked) >= recheck {
		c.checked = now
		// The id may belong to another process by now, or the process may run another program.
		start := startTime(s.cfg.Proc, pid)
		exe, _ := os.Readlink(filepath.Join(s.cfg.Proc, strconv.Itoa(pid), "exe"))
		if start != 0 && (start != c.start || strings.TrimSuffix(exe, " (deleted)") != c.Exe) {
			return s.load(pid, c, now)
		}
	}
	return c
}

// load reads a process; old, which may be nil, is the answer when it has ended.
func (s *Symbolizer) load(pid int, old *cachedProcess, now time.Time) *cachedProcess {
	var program fileID
	if s.cfg.Cache == CachePerProgram {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(s.cfg.Proc, strconv.Itoa(pid), "exe"), &st) == nil {
			program = fileID{st.Dev, st.Ino}
			if c, ok := s.programs.get(program); ok {
				s.processes.put(pid, c)
				return c
			}
		}
	}
	p, err := readProcess(s.cfg.Proc, pid)
	if old == nil && s.cfg.Gone != nil && (err != nil || len(p.Mappings) == 0) {
		if gone := s.cfg.Gone(pid); gone != nil {
			p, err = gone, nil
		}
	}
	if err != nil {
		return old
	}
	c := &cachedProcess{checked: now, read: now}
	if old != nil {
		c.Process = old.Process
	}
	s.replace(c, p)
	s.processes.put(pid, c)
	if program != (fileID{}) {
		s.programs.put(program, c)
	}
	return c
}

// replace takes a new picture of a process, unless the process has just lost its memory (a zombie has no mappings): then
// the old one is better.
func (s *Symbolizer) replace(c *cachedProcess, p *Process) {
	if len(p.Mappings) == 0 && c.Process != nil && len(c.Mappings) > 0 && c.start == p.start {
		return
	}
	if c.Process != nil && c.start == p.start {
		p.jit = c.jit
	}
	c.Process = p
}

// frames names an address; mapped is false when reading the mappings again could help.
func (s *Symbolizer) frames(p *Process, addr uint64, inlines bool) (frames []Frame, mapped bool) {
	f := Frame{Addr: addr}
	i := p.index(addr)
	if i < 0 {
		// A compiler's memory may come and go faster than our picture of it.
		if name, offset, ok := p.perfSymbol(addr); ok {
			f.Name, f.Offset, f.Module = name, offset, "[JIT]"
			return []Frame{f}, true
		}
		return []Frame{f}, false
	}
	m := &p.Mappings[i]
	f.Module = m.Path
	img := s.image(p, i)
	if img.file == nil {
		if m.Path == "" {
			f.Module = "[anon]"
		}
		if name, offset, ok := p.perfSymbol(addr); ok {
			f.Name, f.Offset, f.Module = name, offset, "[JIT]"
		}
		return []Frame{f}, true
	}
	file := img.file
	if m.Inode != 0 {
		f.FileOffset = addr - m.Start + m.Offset
		f.BuildID = file.BuildID()
	} else if m.Path == "" {
		f.Module = file.path
	}
	at := addr - img.bias
	if sym, ok := file.At(at); ok {
		f.Name, f.Offset = s.display(sym.Name), at-sym.Addr
	} else if name, offset, ok := p.perfSymbol(addr); ok {
		f.Name, f.Offset, f.Module = name, offset, "[JIT]"
		return []Frame{f}, true
	}
	if s.cfg.Lines {
		return s.sourceFrames(file, at, f, inlines), true
	}
	return []Frame{f}, true
}

// sourceFrames adds source lines, and the inlined functions in front of the real one.
func (s *Symbolizer) sourceFrames(file *File, at uint64, f Frame, inlines bool) []Frame {
	lines := file.Lines(at)
	if len(lines) == 0 {
		return []Frame{f}
	}
	outer := lines[len(lines)-1]
	if !inlines {
		lines = lines[:0]
	} else {
		lines = lines[:len(lines)-1]
	}
	var out []Frame
	for _, l := range lines {
		in := f
		in.Name, in.Offset, in.Inlined = s.display(l.Function), 0, true
		in.File, in.Line, in.Column = l.File, l.Line, l.Column
		out = append(out, in)
	}
	f.File, f.Line, f.Column = outer.File, outer.Line, outer.Column
	if f.Name == "" {
		f.Name = s.display(outer.Function)
	}
	return append(out, f)
}

func (s *Symbolizer) display(name string) string {
	if s.cfg.Demangle {
		return Demangle(name)
	}
	return name
}

// Image gives the file behind mapping i of a picture of a process, and the difference between addresses in memory and in the file; nil
// where there is none. The file belongs to the Symbolizer.
func (s *Symbolizer) Image(p *Process, i int) (*File, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	img := s.image(p, i)
	return img.file, img.bias
}

// image returns the file behind a mapping and the difference between addresses in memory and in the file.
func (s *Symbolizer) image(p *Process, i int) *image {
	if img := p.images[i]; img != nil {
		return img
	}
	img := &image{}
	p.images[i] = img
	m := &p.Mappings[i]
	switch {
	case m.Path == "[vdso]":
		if s.vdso == nil {
			s.vdso, _ = vdsoImage(p.proc, p.PID, *m)
		}
		if s.vdso != nil {
			img.file = s.vdso
			base, _ := s.vdso.pageAddress(0, true)
			img.bias = m.Start - base
		}
	case m.Inode != 0 && strings.HasPrefix(m.Path, "/"):
		img.file = s.openMapped(p, m)
		if img.file != nil {
			img.bias = p.bias(i, img.file)
		}
	case m.Path == "" && i > 0 && p.Mappings[i-1].End == m.Start && p.Mappings[i-1].Inode != 0:
		// The .bss of the file in front of it is memory without a file.
		if before := s.image(p, i-1); before.file != nil && before.file.inSegment(m.Start-before.bias) {
			*img = *before
		}
	}
	return img
}

// bias computes the difference between addresses in memory and in the file. Offsets of data mappings can be ambiguous,
// because segments share pages of the file, so the code mapping of the same file decides.
func (p *Process) bias(i int, file *File) uint64 {
	m := &p.Mappings[i]
	code := -1
	for d := 0; d < len(p.Mappings) && d < 16 && code < 0; d++ {
		for _, j := range []int{i - d, i + d} {
			if j >= 0 && j < len(p.Mappings) {
				if o := &p.Mappings[j]; o.Exec && o.Inode == m.Inode && o.Major == m.Major && o.Minor == m.Minor {
					code = j
					break
				}
			}
		}
	}
	if code >= 0 {
		o := &p.Mappings[code]
		if addr, ok := file.pageAddress(o.Offset, true); ok {
			return o.Start - addr
		}
	}
	if addr, ok := file.pageAddress(m.Offset, m.Exec); ok {
		return m.Start - addr
	}
	addr, _ := file.AddressOf(m.Offset)
	return m.Start - addr
}

// openMapped opens the very file that is mapped: by its path when the inode is still the same, else through
// /proc/PID/map_files, which also has files that were deleted or replaced.
func (s *Symbolizer) openMapped(p *Process, m *Mapping) *File {
	opts := Options{Root: p.Root, DebugDirs: s.cfg.DebugDirs}
	if !m.Deleted {
		if st, err := p.Root.stat(m.Path); err == nil {
			if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Ino == m.Inode {
				if f, err := s.open(m.Path, opts, m.Path); err == nil {
					return f
				}
			}
		}
	}
	link := filepath.Join(p.proc, strconv.Itoa(p.PID), "map_files", fmt.Sprintf("%x-%x", m.Start, m.End))
	if f, err := s.open(link, Options{DebugDirs: s.cfg.DebugDirs}, m.Path); err == nil {
		return f
	}
	if m.Deleted {
		return nil
	}
	// Some file systems (overlayfs) show another inode in the mappings than in the directory.
	f, err := s.open(m.Path, opts, m.Path)
	if err != nil {
		return nil
	}
	return f
}

// open opens a file through the cache; shown is the path that frames show.
func (s *Symbolizer) open(path string, opts Options, shown string) (*File, error) {
	file, err := opts.Root.Open(path)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		file.Close()
		return nil, err
	}
	key := fileKey{fileID{st.Dev, st.Ino}, st.Size, st.Mtim.Nano()}
	if f, ok := s.files.get(key); ok {
		file.Close()
		if f == nil {
			return nil, fmt.Errorf("%s: %w", path, ErrNotELF)
		}
		return f, nil
	}
	f, err := newFile(file, shown, opts)
	if err != nil {
		s.files.put(key, nil)
		return nil, err
	}
	// The same library in many containers is read once.
	if id := string(f.BuildID()); id != "" {
		if same, ok := s.builds.get(id); ok && same.size == f.size && same.elf.Machine == f.elf.Machine {
			f.Close()
			f = same
		} else {
			s.builds.put(id, f)
		}
	}
	s.files.put(key, f)
	return f, nil
}

// File opens an image through the cache, for callers that resolve names of probes and addresses of stacks alike. Do not
// close it.
func (s *Symbolizer) File(path string, root Root) (*File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open(path, Options{Root: root, DebugDirs: s.cfg.DebugDirs}, path)
}

// Close releases all files.
func (s *Symbolizer) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.files.order.Front(); e != nil; e = e.Next() {
		if f := e.Value.(*lruItem[fileKey, *File]).value; f != nil {
			f.Close()
		}
	}
	s.files = newLRU[fileKey, *File](s.cfg.MaxFiles)
	s.builds = newLRU[string, *File](s.cfg.MaxFiles)
	s.processes = newLRU[int, *cachedProcess](s.cfg.MaxProcesses)
	s.programs = newLRU[fileID, *cachedProcess](s.cfg.MaxProcesses)
	s.vdso = nil
	return nil
}
