package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/runtime/symbol"
)

// unwinder fills the tables of dw_ustack: for each process that is followed, which code is where, and for each file how to find callers.
// One goroutine owns it after start.
type unwinder struct {
	procs, ranges, rows *ebpf.Map
	syms                *symbol.Symbolizer
	watch               *symbol.Watcher // nil where the kernel does not tell of mappings: then /proc is read again and again

	files   map[*symbol.File]fileRows
	tracked map[int]*unwound
	nextRow uint32
	next    uint32 // in ranges
	full    string // the first file that there was no room for

	stop chan struct{}
	done sync.WaitGroup
}

// fileRows is where the rows of a file are; count is 0 for a file without.
type fileRows struct {
	base         uint64
	first, count uint32
}

// unwound is a process with the place of its ranges.
type unwound struct {
	last        *symbol.Process
	ranges      []unwindRange
	first, size uint32 // room in the array
}

type unwindRange struct {
	start, end, base uint64
	rows             fileRows
}

const (
	// unwindTick is how long a library that a process loads may go without its rows.
	unwindTick = 10 * time.Millisecond
	// unwindPoll is how often /proc is read where the kernel does not tell of mappings.
	unwindPoll = 200 * time.Millisecond
)

// startUnwinder fills the tables for processes and follows them and their children, when the object has such tables.
func (s *Session) startUnwinder() error {
	rows := s.maps[object.UnwindRowsMap]
	tracked := map[int]*unwound{}
	for _, pid := range s.opts.Unwind {
		tracked[pid] = &unwound{}
	}
	switch {
	case s.opts.Child != nil:
		tracked[s.opts.Child.PID] = &unwound{}
	case s.opts.PID != 0:
		tracked[s.opts.PID] = &unwound{}
	}
	if rows == nil || len(tracked) == 0 {
		return nil
	}
	s.resolver.mu.Lock()
	watch := s.resolver.watch
	s.resolver.mu.Unlock()
	u := &unwinder{
		procs: s.maps[object.UnwindProcsMap], ranges: s.maps[object.UnwindRangesMap], rows: rows, syms: s.resolver.symbolizer(), watch: watch,
		files: map[*symbol.File]fileRows{}, tracked: tracked, stop: make(chan struct{}),
	}
	if err := u.update(); err != nil {
		return err
	}
	s.unwind = u
	u.done.Go(u.follow)
	return nil
}

// stopUnwinder ends the following, and says when stacks may be short.
func (s *Session) stopUnwinder() {
	u := s.unwind
	if u == nil {
		return
	}
	s.unwind = nil
	close(u.stop)
	u.done.Wait()
	if u.full != "" {
		s.report(diag.Warning, "", source.Span{}, fmt.Sprintf("there was no room for the unwind tables of %s and what was loaded behind it: stacks through it may be short", u.full))
	}
}

func (u *unwinder) follow() {
	every := unwindTick
	if u.watch == nil {
		every = unwindPoll
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-u.stop:
			return
		case <-tick.C:
			_ = u.update() // what could be read was; a process may end at any time
		}
	}
}

// update looks at the mappings of all processes that are followed.
func (u *unwinder) update() error {
	if u.watch != nil {
		for _, child := range u.watch.Children(func(pid int) bool { return u.tracked[pid] != nil }) {
			if u.tracked[child] == nil && len(u.tracked) < object.UnwindProcs {
				u.tracked[child] = &unwound{}
			}
		}
	}
	var errs []error
	for pid, t := range u.tracked {
		if u.watch != nil && t.last != nil {
			p := u.watch.Process(pid)
			if p == nil || p == t.last {
				continue
			}
			t.last = p
		}
		p, err := symbol.ReadProcess(pid)
		if err != nil || len(p.Mappings) == 0 { // it has ended
			continue
		}
		if u.watch == nil || t.last == nil {
			if t.last = p; u.watch != nil {
				if w := u.watch.Process(pid); w != nil {
					t.last = w
				}
			}
		}
		errs = append(errs, u.put(pid, t, p))
	}
	return errors.Join(errs...)
}

// put writes the ranges of a process where they have changed.
func (u *unwinder) put(pid int, t *unwound, p *symbol.Process) error {
	var list []unwindRange
	for i, m := range p.Mappings {
		if !m.Exec {
			continue
		}
		file, bias := u.syms.Image(p, i)
		if file == nil {
			continue
		}
		rows, err := u.fileRows(file)
		if err != nil {
			return err
		}
		if rows.count > 0 {
			list = append(list, unwindRange{m.Start, m.End, bias + rows.base, rows})
		}
	}
	if equalRanges(list, t.ranges) {
		return nil
	}
	// The new list goes to another place, so that a program that walks right now sees the old one or the new one.
	n := uint32(len(list))
	if n > t.size || t.ranges != nil {
		size := max(16, n+n/2)
		if u.next+size > object.UnwindRanges {
			u.next = 0 // what was written first is the most likely to be replaced by now
		}
		t.first, t.size = u.next, size
		u.next += size
	}
	buf := make([]byte, object.UnwindRangeSize)
	for i, r := range list {
		binary.NativeEndian.PutUint64(buf, r.start)
		binary.NativeEndian.PutUint64(buf[8:], r.end)
		binary.NativeEndian.PutUint64(buf[16:], r.base)
		binary.NativeEndian.PutUint32(buf[24:], r.rows.first)
		binary.NativeEndian.PutUint32(buf[28:], r.rows.count)
		if err := u.ranges.Put(t.first+uint32(i), buf); err != nil {
			return fmt.Errorf("write the unwind ranges of process %d: %w", pid, err)
		}
	}
	binary.NativeEndian.PutUint32(buf, t.first)
	binary.NativeEndian.PutUint32(buf[4:], n)
	if err := u.procs.Put(uint32(pid), buf[:8]); err != nil {
		return fmt.Errorf("write the unwind ranges of process %d: %w", pid, err)
	}
	t.ranges = list
	return nil
}

func equalRanges(a, b []unwindRange) bool {
	if len(a) != len(b) || b == nil {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// unwindKinds translates the kinds of rows for the programs.
var unwindKinds = map[symbol.UnwindKind]uint64{
	symbol.UnwindUnknown: object.UnwindKindUnknown, symbol.UnwindEnd: object.UnwindKindEnd, symbol.UnwindSP: object.UnwindKindSP, symbol.UnwindBP: object.UnwindKindBP,
	symbol.UnwindPLT: object.UnwindKindPLT, symbol.UnwindSignal: object.UnwindKindSignal, symbol.UnwindAligned: object.UnwindKindAligned,
}

// fileRows writes the rows of a file at its first use. A file without unwind information has none: the frame pointer is tried there.
func (u *unwinder) fileRows(file *symbol.File) (fileRows, error) {
	if r, ok := u.files[file]; ok {
		return r, nil
	}
	table, err := file.UnwindTable()
	if err != nil {
		u.files[file] = fileRows{}
		return fileRows{}, nil //nolint:nilerr // code without tables is common: programs in Go, code made at run time
	}
	if int(u.nextRow)+len(table.Rows) > int(u.rows.MaxEntries()) {
		if u.full == "" {
			u.full = file.Path()
		}
		u.files[file] = fileRows{}
		return fileRows{}, nil
	}
	r := fileRows{table.Base, u.nextRow, uint32(len(table.Rows))}
	keys, values := make([]uint32, len(table.Rows)), make([]uint64, len(table.Rows))
	for i, row := range table.Rows {
		keys[i] = r.first + uint32(i)
		values[i] = uint64(row.PC) | unwindKinds[row.Kind]<<object.UnwindKindShift | uint64(row.CFA&object.UnwindCFAMask)<<object.UnwindCFAShift |
			uint64(uint16(row.BP))<<object.UnwindBPShift
	}
	if _, err := u.rows.BatchUpdate(keys, values, nil); err != nil {
		return r, fmt.Errorf("write the unwind rows of %s: %w", file.Path(), err)
	}
	u.nextRow += r.count
	u.files[file] = r
	return r, nil
}
