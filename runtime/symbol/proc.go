package symbol

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Mapping is one line of /proc/PID/maps.
type Mapping struct {
	// Start and End are the addresses; End is the first one behind.
	Start, End uint64
	// Offset is where in the file the mapping starts, in bytes.
	Offset uint64
	// Exec is set for mappings with code.
	Exec bool
	// Major and Minor are the device of the file, Inode its number there; 0 for memory without a file.
	Major, Minor uint32
	Inode        uint64
	// Path is the file as the process sees it, or a name in brackets ([heap], [vdso], [anon:...]), or "".
	Path string
	// Deleted is set when the file has no name any more: an upgraded library, a memfd.
	Deleted bool
}

// ParseMaps parses the text of /proc/PID/maps. Lines that it does not understand are left out.
func ParseMaps(text []byte) []Mapping {
	out := make([]Mapping, 0, bytes.Count(text, []byte{'\n'}))
	for len(text) > 0 {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		if m, ok := parseMapping(string(line)); ok {
			out = append(out, m)
		}
	}
	return out
}

func parseMapping(line string) (Mapping, bool) {
	field := func() string {
		line = strings.TrimLeft(line, " ")
		i := strings.IndexByte(line, ' ')
		if i < 0 {
			i = len(line)
		}
		f := line[:i]
		line = line[i:]
		return f
	}
	var m Mapping
	start, end, ok := strings.Cut(field(), "-")
	if !ok {
		return m, false
	}
	perms := field()
	offset := field()
	major, minor, _ := strings.Cut(field(), ":")
	inode := field()
	errs := 0
	number := func(s string, base, bits int) uint64 {
		v, err := strconv.ParseUint(s, base, bits)
		if err != nil {
			errs++
		}
		return v
	}
	m.Start, m.End = number(start, 16, 64), number(end, 16, 64)
	m.Offset = number(offset, 16, 64)
	m.Major, m.Minor = uint32(number(major, 16, 32)), uint32(number(minor, 16, 32))
	m.Inode = number(inode, 10, 64)
	if errs > 0 || len(perms) < 4 || m.End <= m.Start {
		return m, false
	}
	m.Exec = perms[2] == 'x'
	path := strings.TrimLeft(line, " ")
	path = strings.ReplaceAll(path, `\012`, "\n") // the only character that the kernel escapes
	if strings.HasPrefix(path, "/") {
		path, m.Deleted = strings.CutSuffix(path, " (deleted)")
	}
	m.Path = path
	return m, true
}

func readMaps(proc string, pid int) ([]Mapping, error) {
	data, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "maps"))
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return ParseMaps(data), nil
}

// Process is a picture of a process's address space. It stays useful after the process has ended.
type Process struct {
	// Namespace tells the process id and the file system.
	Namespace
	// Exe is the path of the program as the kernel shows it to us.
	Exe string
	// Mappings are sorted by address.
	Mappings []Mapping

	start  uint64 // start time in clock ticks since boot: tells a process from a later one with the same id
	proc   string
	images []*image // one for each mapping, nil until looked at
	jit    *perfMap
}

// image is a mapping with the file behind it.
type image struct {
	file *File // nil when it cannot be read
	bias uint64
}

// ReadProcess takes a picture of a process.
func ReadProcess(pid int) (*Process, error) { return readProcess("/proc", pid) }

func readProcess(proc string, pid int) (*Process, error) {
	ns, err := inspect(proc, pid)
	if err != nil {
		return nil, err
	}
	maps, err := readMaps(proc, pid)
	if err != nil {
		return nil, err
	}
	p := &Process{Namespace: ns, Mappings: maps, proc: proc, start: startTime(proc, pid)}
	sort.Slice(p.Mappings, func(i, j int) bool { return p.Mappings[i].Start < p.Mappings[j].Start })
	p.images = make([]*image, len(maps))
	if exe, err := os.Readlink(filepath.Join(proc, strconv.Itoa(pid), "exe")); err == nil {
		p.Exe = strings.TrimSuffix(exe, " (deleted)")
	}
	// After chroot (a container changes the root in another way) the kernel shows paths with the new root in front.
	if root, err := os.Readlink(filepath.Join(proc, strconv.Itoa(pid), "root")); err == nil && root != "/" && !ns.Root.Own() {
		for i := range p.Mappings {
			m := &p.Mappings[i]
			if rest, ok := strings.CutPrefix(m.Path, root); ok && strings.HasPrefix(rest, "/") {
				m.Path = rest
			}
		}
	}
	return p, nil
}

// startTime reads field 22 of /proc/PID/stat, 0 when the process is gone.
func startTime(proc string, pid int) uint64 {
	data, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	// The command name may hold spaces and parentheses; fields are counted from the last one.
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return 0
	}
	fields := strings.Fields(string(data[i+1:]))
	if len(fields) < 20 {
		return 0
	}
	v, _ := strconv.ParseUint(fields[19], 10, 64)
	return v
}

// Find returns the mapping that holds an address.
func (p *Process) Find(addr uint64) (Mapping, bool) {
	if i := p.index(addr); i >= 0 {
		return p.Mappings[i], true
	}
	return Mapping{}, false
}

func (p *Process) index(addr uint64) int {
	i, found := slices.BinarySearchFunc(p.Mappings, addr, func(m Mapping, a uint64) int { return cmp.Compare(m.Start, a) })
	if !found {
		i--
	}
	if i >= 0 && addr < p.Mappings[i].End {
		return i
	}
	return -1
}

// vdsoImage reads the vDSO out of the memory of the process, or out of ours, which has the same one, when it has ended.
func vdsoImage(proc string, pid int, m Mapping) (*File, error) {
	size := m.End - m.Start
	if size > 1<<20 {
		return nil, fmt.Errorf("vdso of process %d: %d bytes", pid, size)
	}
	data, err := readMemory(proc, strconv.Itoa(pid), m.Start, size)
	if err != nil {
		maps, merr := os.ReadFile(filepath.Join(proc, "self/maps"))
		if merr != nil {
			return nil, err
		}
		for _, own := range ParseMaps(maps) {
			if own.Path == "[vdso]" && own.End-own.Start == size {
				data, err = readMemory(proc, "self", own.Start, size)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return NewFile(bytes.NewReader(data), int64(len(data)), "[vdso]", Options{NoDebugFiles: true})
}

func readMemory(proc, pid string, addr, size uint64) ([]byte, error) {
	mem, err := os.Open(filepath.Join(proc, pid, "mem"))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	data := make([]byte, size)
	if _, err := mem.ReadAt(data, int64(addr)); err != nil && err != io.EOF {
		return nil, err
	}
	return data, nil
}
