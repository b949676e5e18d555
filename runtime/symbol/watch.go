package symbol

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Watcher follows which files processes map as code, from the moment that it is made, so that addresses of a process can be named after it has
// ended. The kernel reports each mapping (perf events of the kind that counts nothing); processes that run already are read from /proc.
//
// It is safe for concurrent use.
type Watcher struct {
	rings []*mmapRing
	stop  chan struct{}
	done  chan struct{}

	mu    sync.Mutex
	tasks map[int]*watched
	ended []int        // processes that have ended, oldest first
	held  []mmapRecord // newer than the last look at the rings, when an older one may still be on its way
	lost  uint64
}

// watched is what is known of a process.
type watched struct {
	maps []Mapping
	exe  string
	all  bool     // its start or an exec was seen, so that nothing is missing
	from int      // its parent at its start, 0 when that was not seen
	last *Process // what Process gave, until the mappings change
}

const (
	mmapRingPages  = 32 // a power of two; 128 kB for each CPU
	drainEvery     = 50 * time.Millisecond
	maxEnded       = 16384
	maxMapsAtStart = 4096
)

// Watch starts to follow processes. It needs the right to watch the whole machine (CAP_PERFMON).
func Watch() (*Watcher, error) {
	cpus, err := onlineCPUs()
	if err != nil {
		return nil, err
	}
	w := &Watcher{stop: make(chan struct{}), done: make(chan struct{}), tasks: map[int]*watched{}}
	for _, cpu := range cpus {
		r, err := openMmapRing(cpu)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("watch the mappings of processes on CPU %d: %w", cpu, err), w.closeRings())
		}
		w.rings = append(w.rings, r)
	}
	go w.follow()
	return w, nil
}

// Close ends the watching; what is known stays.
func (w *Watcher) Close() error {
	select {
	case <-w.stop:
		return nil
	default:
	}
	close(w.stop)
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drain(true)
	err := w.closeRings()
	w.rings = nil
	return err
}

func (w *Watcher) closeRings() error {
	var errs []error
	for _, r := range w.rings {
		errs = append(errs, r.close())
	}
	return errors.Join(errs...)
}

// Lost is the number of records that the kernel had no room for.
func (w *Watcher) Lost() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// Process gives what is known of a process, nil when nothing is.
func (w *Watcher) Process(pid int) *Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drain(true)
	t := w.tasks[pid]
	if t == nil || len(t.maps) == 0 {
		return nil
	}
	if t.last == nil {
		t.last = &Process{Namespace: Namespace{PID: pid}, Exe: t.exe, Mappings: t.maps, proc: "/proc", images: make([]*image, len(t.maps))}
	}
	return t.last
}

// Children lists processes whose parent, when they were started, is one that of tells.
func (w *Watcher) Children(of func(pid int) bool) []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drain(true)
	var out []int
	for pid, t := range w.tasks {
		if t.from != 0 && of(t.from) {
			out = append(out, pid)
		}
	}
	return out
}

func (w *Watcher) follow() {
	defer close(w.done)
	w.readRunning()
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
			w.mu.Lock()
			w.drain(false)
			w.mu.Unlock()
		}
	}
}

// readRunning reads the mappings of the processes that run already.
func (w *Watcher) readRunning() {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	read := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		select {
		case <-w.stop:
			return
		default:
		}
		all, err := readMaps("/proc", pid)
		if err != nil || len(all) == 0 {
			continue
		}
		code := slices.DeleteFunc(all, func(m Mapping) bool { return !m.Exec })
		exe, _ := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		w.mu.Lock()
		w.drain(false)
		switch t := w.tasks[pid]; {
		case t == nil:
			w.tasks[pid] = &watched{maps: slices.Clone(code), exe: exe}
		case !t.all: // the kernel told of mappings that it made since
			t.exe = exe
			for _, m := range code {
				if !slices.ContainsFunc(t.maps, func(o Mapping) bool { return m.Start < o.End && o.Start < m.End }) {
					t.add(m)
				}
			}
		}
		w.mu.Unlock()
		if read++; read == maxMapsAtStart {
			return
		}
	}
}

// drain takes the records out of the rings and does those that no older one can follow, all of them when it is the last time.
func (w *Watcher) drain(last bool) {
	now := monotonic()
	for _, r := range w.rings {
		w.held = r.read(w.held, &w.lost)
	}
	slices.SortStableFunc(w.held, func(a, b mmapRecord) int { return cmp.Compare(a.time, b.time) })
	n := len(w.held)
	if !last {
		n, _ = slices.BinarySearchFunc(w.held, now, func(r mmapRecord, t uint64) int { return cmp.Compare(r.time, t) })
	}
	for i := range n {
		w.apply(&w.held[i])
	}
	w.held = slices.Delete(w.held, 0, n)
}

func (w *Watcher) apply(r *mmapRecord) {
	switch r.kind {
	case recordFork:
		if r.parent == r.pid {
			return // a thread
		}
		if p := w.tasks[r.parent]; p != nil {
			w.tasks[r.pid] = &watched{maps: p.maps, exe: p.exe, all: p.all, from: r.parent}
		}
	case recordComm: // exec
		from := 0
		if t := w.tasks[r.pid]; t != nil {
			from = t.from
		}
		w.tasks[r.pid] = &watched{all: true, from: from}
	case recordExit:
		if r.pid != r.parent { // a thread
			return
		}
		if w.ended = append(w.ended, r.pid); len(w.ended) > maxEnded {
			delete(w.tasks, w.ended[0])
			w.ended = w.ended[1:]
		}
	case recordMmap2:
		t := w.tasks[r.pid]
		if t == nil {
			t = &watched{}
			w.tasks[r.pid] = t
		}
		if t.exe == "" && strings.HasPrefix(r.m.Path, "/") {
			t.exe = r.m.Path
		}
		t.add(r.m)
	}
}

// add puts a mapping in the place of those that it covers.
func (t *watched) add(n Mapping) {
	maps := make([]Mapping, 0, len(t.maps)+1) // the slice may be shared with a parent
	for _, m := range t.maps {
		if m.End <= n.Start || m.Start >= n.End {
			maps = append(maps, m)
		}
	}
	i, _ := slices.BinarySearchFunc(maps, n.Start, func(m Mapping, a uint64) int { return cmp.Compare(m.Start, a) })
	t.maps, t.last = slices.Insert(maps, i, n), nil
}

// Kinds of records (include/uapi/linux/perf_event.h).
const (
	recordLost  = 2
	recordComm  = 3
	recordExit  = 4
	recordFork  = 7
	recordMmap2 = 10

	miscCommExec = 1 << 13
)

type mmapRecord struct {
	kind        int
	time        uint64
	pid, parent int // of recordExit: the thread
	m           Mapping
}

// mmapRing is the memory that the kernel writes the records of one CPU to.
type mmapRing struct {
	fd  int
	mem []byte
	buf []byte
}

func openMmapRing(cpu int) (*mmapRing, error) {
	const useClockID, commExec, mmap2 = 1 << 25, 1 << 24, 1 << 23
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_DUMMY, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample_type: unix.PERF_SAMPLE_TIME, Clockid: unix.CLOCK_MONOTONIC,
		Bits: unix.PerfBitMmap | unix.PerfBitComm | unix.PerfBitTask | unix.PerfBitSampleIDAll | mmap2 | commExec | useClockID,
	}
	fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(fd, 0, (1+mmapRingPages)*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &mmapRing{fd: fd, mem: mem}, nil
}

func (r *mmapRing) close() error { return errors.Join(unix.Munmap(r.mem), unix.Close(r.fd)) }

// read appends the records that are in the ring.
func (r *mmapRing) read(out []mmapRecord, lost *uint64) []mmapRecord {
	const headOff, tailOff = 1024, 1032 // data_head and data_tail of struct perf_event_mmap_page
	data := r.mem[os.Getpagesize():]
	head := atomic.LoadUint64((*uint64)(unsafe.Pointer(&r.mem[headOff])))
	tail := (*uint64)(unsafe.Pointer(&r.mem[tailOff]))
	size := uint64(len(data))
	for at := *tail; at+8 <= head; {
		n := uint64(binary.NativeEndian.Uint16(data[(at+6)%size:]))
		if n < 8 || at+n > head {
			break
		}
		r.buf = r.buf[:0]
		for got := uint64(0); got < n; {
			from := (at + got) % size
			part := min(n-got, size-from)
			r.buf = append(r.buf, data[from:from+part]...)
			got += part
		}
		if rec, ok := parseRecord(r.buf, lost); ok {
			out = append(out, rec)
		}
		at += n
	}
	atomic.StoreUint64(tail, head)
	return out
}

// parseRecord understands the records that tell of mappings and processes. The time ends each record.
func parseRecord(b []byte, lost *uint64) (mmapRecord, bool) {
	u32 := func(off int) int { return int(int32(binary.NativeEndian.Uint32(b[off:]))) }
	u64 := func(off int) uint64 { return binary.NativeEndian.Uint64(b[off:]) }
	if len(b) < 24 {
		return mmapRecord{}, false
	}
	kind, misc := u32(0), binary.NativeEndian.Uint16(b[4:])
	r := mmapRecord{kind: kind, pid: u32(8), time: u64(len(b) - 8)}
	switch kind {
	case recordLost: // u64 id, u64 lost
		*lost += u64(16)
		return r, false
	case recordComm:
		return r, misc&miscCommExec != 0
	case recordExit:
		r.parent = u32(16)
		return r, len(b) >= 32
	case recordFork:
		r.parent = u32(12)
		return r, len(b) >= 32
	case recordMmap2: // u32 pid, tid; u64 addr, len, pgoff; u32 major, minor; u64 inode, generation; u32 prot, flags; char name[]
		const name = 72
		if len(b) < name+8 {
			return r, false
		}
		r.m = Mapping{
			Start: u64(16), End: u64(16) + u64(24), Offset: u64(32), Exec: true, Major: uint32(u32(40)), Minor: uint32(u32(44)), Inode: u64(48),
			Path: unix.ByteSliceToString(b[name : len(b)-8]),
		}
		if strings.HasPrefix(r.m.Path, "//anon") {
			r.m.Path = ""
		}
		r.m.Path, r.m.Deleted = strings.CutSuffix(r.m.Path, " (deleted)")
		return r, r.m.End > r.m.Start
	}
	return r, false
}

func monotonic() uint64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return uint64(ts.Nano())
}

// onlineCPUs lists the CPUs that are on.
func onlineCPUs() ([]int, error) {
	text, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return nil, fmt.Errorf("list the online CPUs: %w", err)
	}
	var cpus []int
	for part := range strings.SplitSeq(strings.TrimSpace(string(text)), ",") {
		from, to, isRange := strings.Cut(part, "-")
		lo, err := strconv.Atoi(from)
		hi := lo
		if err == nil && isRange {
			hi, err = strconv.Atoi(to)
		}
		if err != nil {
			return nil, fmt.Errorf("list the online CPUs: %q", text)
		}
		for c := lo; c <= hi; c++ {
			cpus = append(cpus, c)
		}
	}
	return cpus, nil
}
