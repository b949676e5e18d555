package symbol

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxPerfMap limits what is read of a perf map, which any user can write.
const maxPerfMap = 256 << 20

// perfMap holds the names that a just-in-time compiler (Node, Java with an agent, Python -X perf) wrote to
// /tmp/perf-PID.map.
type perfMap struct {
	entries []perfEntry
	size    int64
	modTime time.Time
	path    string
}

type perfEntry struct {
	start, end uint64
	order      int // line number: code is recompiled and memory reused, the later line is the valid one
	name       string
}

// parsePerfMap parses lines of "START SIZE NAME" with hexadecimal numbers. Lines that it does not understand (a line
// that is just being written) are left out.
func parsePerfMap(r io.Reader) []perfEntry {
	var out []perfEntry
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), 1<<20)
	for n := 0; lines.Scan(); n++ {
		line := string(bytes.ToValidUTF8(lines.Bytes(), []byte("?")))
		startText, rest, ok1 := strings.Cut(strings.TrimLeft(line, " \t"), " ")
		sizeText, name, ok2 := strings.Cut(strings.TrimLeft(rest, " "), " ")
		if !ok1 || !ok2 {
			continue
		}
		start, err1 := strconv.ParseUint(strings.TrimPrefix(startText, "0x"), 16, 64)
		size, err2 := strconv.ParseUint(strings.TrimPrefix(sizeText, "0x"), 16, 64)
		name = strings.TrimSpace(name)
		if err1 != nil || err2 != nil || size == 0 || start+size < start || name == "" {
			continue
		}
		out = append(out, perfEntry{start: start, end: start + size, order: n, name: name})
	}
	return resolveOverlaps(out)
}

// resolveOverlaps sorts entries by address and lets the later line win where two cover the same bytes.
func resolveOverlaps(in []perfEntry) []perfEntry {
	slices.SortFunc(in, func(a, b perfEntry) int { return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.order, a.order)) })
	var out []perfEntry
	for _, e := range in {
		for len(out) > 0 {
			last := &out[len(out)-1]
			if last.end <= e.start {
				break
			}
			if last.order > e.order {
				// The earlier line lost: what is left of it begins behind the winner.
				e.start = last.end
				break
			}
			if last.start < e.start {
				last.end = e.start
				break
			}
			out = out[:len(out)-1]
		}
		if e.start < e.end {
			out = append(out, e)
		}
	}
	return out
}

func (m *perfMap) at(addr uint64) (name string, offset uint64, ok bool) {
	i, found := slices.BinarySearchFunc(m.entries, addr, func(e perfEntry, a uint64) int { return cmp.Compare(e.start, a) })
	if !found {
		i--
	}
	if i < 0 || addr >= m.entries[i].end {
		return "", 0, false
	}
	return m.entries[i].name, addr - m.entries[i].start, true
}

// openPerfMap opens the map of a process: in its own file system by the process id that it sees itself, or in ours.
func openPerfMap(ns Namespace) (*os.File, string) {
	type place struct {
		root Root
		pid  int
	}
	for _, p := range []place{{ns.Root, ns.Inner()}, {ns.Root, ns.PID}, {Root{}, ns.PID}} {
		path := fmt.Sprintf("/tmp/perf-%d.map", p.pid)
		if f, err := p.root.Open(path); err == nil {
			if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
				return f, p.root.Host(path)
			}
			f.Close()
		}
	}
	return nil, ""
}

// perfSymbol looks an address up in the perf map, which is read again when it has grown and the address is not in it.
func (p *Process) perfSymbol(addr uint64) (name string, offset uint64, ok bool) {
	if p.jit != nil {
		if name, offset, ok = p.jit.at(addr); ok {
			return name, offset, true
		}
	}
	f, path := openPerfMap(p.Namespace)
	if f == nil {
		return "", 0, false
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || p.jit != nil && p.jit.path == path && p.jit.size == st.Size() && p.jit.modTime.Equal(st.ModTime()) {
		return "", 0, false
	}
	p.jit = &perfMap{path: path, size: st.Size(), modTime: st.ModTime(), entries: parsePerfMap(io.LimitReader(f, maxPerfMap))}
	return p.jit.at(addr)
}
