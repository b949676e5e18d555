package seccomp

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/sonde-sh/sonde/runtime/symbol"
)

// Live is the state of a recording while it runs.
type Live struct {
	Elapsed time.Duration
	Calls   uint64 // system calls made so far
	Kinds   int    // different ones
	New     int    // kinds first seen in the last minute
	Denied  uint64
	Unseen  Unseen // over the intervals between looks
}

// liveState is what Live remembers between looks.
type liveState struct {
	samples int
	last    map[callKey]uint64
	hits    map[callKey]int // in how many intervals the call was made
	firstAt map[callKey]time.Time
}

// Live looks at the counters without changing them. Called in even intervals, its estimate is over those.
func (r *Recorder) Live() (Live, error) {
	counts, err := r.counts()
	if err != nil {
		return Live{}, err
	}
	denied, err := r.stat(statDenied)
	if err != nil {
		return Live{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.live
	if s.last == nil {
		s.last, s.hits, s.firstAt = map[callKey]uint64{}, map[callKey]int{}, map[callKey]time.Time{}
	}
	now := time.Now()
	l := Live{Elapsed: now.Sub(r.started), Denied: denied}
	sums := map[callKey]uint64{}
	for k, n := range counts {
		sums[callKey{0, k.abi, k.number}] += n
	}
	active := false
	for k, n := range sums {
		l.Calls += n
		if n > s.last[k] {
			s.hits[k]++
			active = true
		}
		if _, ok := s.firstAt[k]; !ok {
			s.firstAt[k] = now
		}
		if now.Sub(s.firstAt[k]) <= time.Minute {
			l.New++
		}
		s.last[k] = n
	}
	if active {
		s.samples++
	}
	l.Kinds = len(sums)
	var inc []int
	for _, n := range s.hits {
		inc = append(inc, n)
	}
	l.Unseen = estimate(inc, s.samples)
	return l, nil
}

// Wait returns when the workload has ended (every thread of it), or with the context. A cgroup and a container that others
// manage have no end of their own.
func (r *Recorder) Wait(ctx context.Context) error {
	if r.child != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.child.done:
		}
		r.child.mu.Lock()
		err := r.child.launchError()
		r.child.mu.Unlock()
		if err != nil {
			return err
		}
	}
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	looked, gone := time.Now(), map[uint32]bool{}
	for {
		if r.opts.Cgroup == "" {
			if alive, err := r.alive(); err != nil || !alive {
				return err
			}
			if time.Since(looked) > time.Second {
				if err := r.forgetEnded(gone); err != nil {
					return err
				}
				looked = time.Now()
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
}

// alive tells whether a thread is followed.
func (r *Recorder) alive() (bool, error) {
	var n [3]uint64
	for i, row := range []uint32{statGone, statTasksFull, statTasks} { // the sum last: what starts meanwhile counts
		var err error
		if n[i], err = r.stat(row); err != nil {
			return false, err
		}
	}
	return n[2]+r.seeded > n[0]+n[1]+r.forgotten, nil
}

// forgetEnded drops threads whose end the kernel did not tell us of (see lostMissed), so that Wait comes to one. A thread that executes a
// program may be without its old number for a moment: only who is gone at two looks has ended.
func (r *Recorder) forgetEnded(gone map[uint32]bool) error {
	if !r.sameNumbers || r.misses() == 0 {
		return nil
	}
	ended := func(tid uint32) bool {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", tid)); !errors.Is(err, fs.ErrNotExist) {
			delete(gone, tid)
			return false
		}
		before := gone[tid]
		gone[tid] = true
		return before
	}
	var tid uint32
	state := make([]byte, stateSize)
	var spilled []uint32
	for it := r.maps["tasks"].Iterate(); it.Next(&tid, &state); {
		if ended(tid) {
			spilled = append(spilled, tid)
		}
	}
	for _, tid := range spilled {
		if r.maps["tasks"].Delete(tid) == nil {
			r.forgotten++
		}
	}
	table, err := r.maps["table"].Memory()
	if err != nil {
		return fmt.Errorf("look for threads: %w", err)
	}
	entry, now := make([]byte, stateFrom), make([]byte, stateFrom)
	for at := int64(0); at < int64(table.Size())-entrySize; at += entrySize {
		if _, err := table.ReadAt(entry, at); err != nil {
			return fmt.Errorf("look for threads: %w", err)
		}
		if binary.NativeEndian.Uint64(entry[stateOwner:]) == 0 || !ended(binary.NativeEndian.Uint32(entry[stateTID:])) {
			continue
		}
		// The kernel tells of an end before the number is gone: who is there still was never told of. The claim stays, as programs may
		// be adding to it: the entry is not used again.
		if _, err := table.ReadAt(now, at); err == nil && bytes.Equal(now, entry) {
			if _, err := table.WriteAt(make([]byte, 8), at+stateOwner); err != nil {
				return fmt.Errorf("forget a thread: %w", err)
			}
			r.forgotten++
		}
	}
	return nil
}

// Stop ends the recording and gives what was found. The command, when it still runs, goes on until Close.
func (r *Recorder) Stop() (*Profile, error) {
	ended := time.Now()
	r.detach()
	if err := r.events.Flush(); err != nil {
		return nil, fmt.Errorf("read the last events: %w", err)
	}
	select {
	case <-r.drained:
	case <-time.After(5 * time.Second):
		return nil, errors.New("the last events do not come")
	}
	return r.profile(ended)
}

func (r *Recorder) counts() (map[callKey]uint64, error) {
	out := map[callKey]uint64{}
	buf := make([]byte, tableSize*8)
	own := make([]byte, plainCalls*8)
	slots := []uint32{slotNone, slotUnknown}
	var slot uint32
	var one uint64
	for it := r.maps["claimed"].Iterate(); it.Next(&slot, &one); {
		slots = append(slots, slot)
	}
	for _, slot := range slots {
		for row := slot; row < uint32(r.rows); row += uint32(r.opts.Programs) {
			if err := r.maps["plain"].Lookup(row, &own); err != nil {
				return nil, fmt.Errorf("read counters: %w", err)
			}
			for n := range plainCalls {
				if v := binary.NativeEndian.Uint64(own[8*n:]); v > 0 {
					out[callKey{slot, 0, uint32(n)}] += v
				}
			}
		}
		for abi := range uint32(len(r.native.Family())) {
			if err := r.maps["counts"].Lookup(slot*abisPerKernel+abi, &buf); err != nil {
				return nil, fmt.Errorf("read counters: %w", err)
			}
			for n := range tableSize {
				if v := binary.NativeEndian.Uint64(buf[8*n:]); v > 0 {
					out[callKey{slot, abi, uint32(n)}] += v
				}
			}
		}
	}
	return out, nil
}

func (r *Recorder) stat(row uint32) (uint64, error) {
	// Not by a system call: the kernel drops trace events of others while a thread of ours is interrupted in one.
	m, err := r.maps["stats"].Memory()
	if err != nil {
		return 0, fmt.Errorf("read statistics: %w", err)
	}
	var v [8]byte
	_, err = m.ReadAt(v[:], int64(row)*8)
	return binary.NativeEndian.Uint64(v[:]), err
}

func (r *Recorder) profile(ended time.Time) (*Profile, error) {
	release, err := r.opts.Kernel.Release()
	if err != nil {
		return nil, err
	}
	counts, err := r.counts()
	if err != nil {
		return nil, err
	}
	p := New(r.native, r.opts.Tool, release)
	run := &Run{ID: newID(), Target: r.targetName(), Command: r.opts.Command, Kernel: release, Started: r.started.Round(0), Duration: ended.Sub(r.started), Learned: r.opts.Learn}
	p.Runs = []*Run{run}
	if r.child != nil {
		run.Exit = r.child.status()
	}
	if r.container != nil {
		run.Command, run.Runtime = r.opts.Create, &r.container.info
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fillRun(run, counts); err != nil {
		return nil, err
	}
	r.fillCalls(p, run, counts)
	if err := r.fillThreads(p); err != nil {
		return nil, err
	}
	if r.opts.Learn {
		if err := r.fillArgs(p); err != nil {
			return nil, err
		}
	}
	if err := r.fillDenials(p); err != nil {
		return nil, err
	}
	p.sort()
	return p, nil
}

func (r *Recorder) targetName() string {
	switch {
	case len(r.opts.Command) > 0:
		return "command"
	case r.container != nil:
		return "container " + r.container.id
	case len(r.opts.PIDs) > 0:
		return "process " + strings.Trim(strings.Join(strings.Fields(fmt.Sprint(r.opts.PIDs)), ","), "[]")
	}
	return "cgroup " + r.opts.Cgroup
}

func newID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// lostWords names what the statistics count as lost.
var lostWords = map[uint32]string{
	statTasksFull:    "threads that were not followed, because too many ran at one time (--max-tasks)",
	statProgramsFull: "times a program was executed that has no counters of its own (--max-programs); its calls are under an unknown program",
	statNamesFull:    "thread names",
	statRingFull:     "provenances of first calls",
	statArgsFull:     "combinations of arguments",
}

// lostMissed is what the kernel drops when it takes the CPU from one of our programs and another thread comes to the same one.
const lostMissed = "events of threads, calls among them, that the kernel dropped while a program of the recorder was interrupted"

// lost counts what a run did not record.
func (r *Run) lost(what string, n uint64) {
	if n == 0 {
		return
	}
	if r.Lost == nil {
		r.Lost = map[string]uint64{}
	}
	r.Lost[what] += n
}

func (r *Recorder) fillRun(run *Run, counts map[callKey]uint64) error {
	var err error
	if run.Tasks, err = r.stat(statTasks); err != nil {
		return err
	}
	run.Tasks += r.seeded
	for row, text := range lostWords {
		n, err := r.stat(row)
		if err != nil {
			return err
		}
		run.lost(text, n)
	}
	if err := r.fillBlind(run); err != nil {
		return err
	}
	run.lost(lostMissed, r.missed)
	perPath := map[string]uint64{}
	for k, n := range counts {
		run.Calls += n
		perPath[r.pathOf(k.slot)] += n
		if k.number == tableSize-1 {
			run.lost("calls with numbers that no kernel has", n)
		}
	}
	for path, n := range perPath {
		if path != "" {
			run.Programs = append(run.Programs, Program{Path: path, Language: language(path), Calls: n})
		}
	}
	sort.Slice(run.Programs, func(i, j int) bool { return run.Programs[i].Path < run.Programs[j].Path })
	return nil
}

// language is "go" for programs of the Go toolchain, whose runtime makes calls that differ from run to run.
func language(path string) string {
	f, err := symbol.Open(path, symbol.Options{NoDebugFiles: true})
	if err != nil {
		return ""
	}
	defer f.Close()
	if f.IsGo() {
		return "go"
	}
	return ""
}

func (r *Recorder) pathOf(slot uint32) string { return r.paths[slot] }

func (r *Recorder) abiOf(index uint32) ABI { return r.native.Family()[index] }

func (r *Recorder) fillCalls(p *Profile, run *Run, counts map[callKey]uint64) {
	for k, n := range counts {
		if k.number == tableSize-1 {
			continue
		}
		abi := r.abiOf(k.abi)
		name := abi.Name(int(k.number))
		if name == "" {
			name = Unnamed(int(k.number))
		}
		origin := r.originOf(k, name)
		c := p.findOrigin(abi, int(k.number), origin)
		if c == nil {
			c = &Call{ABI: abi, Name: name, Number: int(k.number), Origin: origin, Runs: []RunCount{{Run: run.ID}}}
			p.Calls = append(p.Calls, c)
		}
		c.Count += n
		c.Runs[0].Count += n
		if path := r.pathOf(k.slot); path != "" {
			i := slices.IndexFunc(c.Programs, func(q ProgramCount) bool { return q.Path == path })
			if i < 0 {
				c.Programs = append(c.Programs, ProgramCount{path, n})
			} else {
				c.Programs[i].Count += n
			}
		}
		if f := r.first[k]; f != nil && (c.First.IsZero() || f.at.Before(c.First)) {
			c.First, c.Program, c.Stack = f.at.Round(0), r.pathOf(k.slot), f.stack
			c.Example = hexArgs(f.args)
			c.Threads = []string{f.comm}
		}
	}
}

func hexArgs(args [6]uint64) []Hex {
	out := make([]Hex, len(args))
	for i, a := range args {
		out[i] = Hex(a)
	}
	return out
}

// maxThreadNames is how many names a call keeps; programs that name each worker have thousands.
const maxThreadNames = 16

func (r *Recorder) fillThreads(p *Profile) error {
	key, n := make([]byte, 24), uint64(0)
	it := r.maps["names"].Iterate()
	for it.Next(&key, &n) {
		abi := binary.NativeEndian.Uint16(key[4:])
		if int(abi) >= len(r.native.Family()) {
			continue
		}
		k := callKey{binary.NativeEndian.Uint32(key), uint32(abi), uint32(binary.NativeEndian.Uint16(key[6:]))}
		c := p.findOrigin(r.abiOf(k.abi), int(k.number), r.originOf(k, r.abiOf(k.abi).Name(int(k.number))))
		if name := cString(key[8:]); c != nil && len(c.Threads) < maxThreadNames && !slices.Contains(c.Threads, name) {
			c.Threads = append(c.Threads, name)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read thread names: %w", err)
	}
	return nil
}

func (r *Recorder) fillArgs(p *Profile) error {
	for _, c := range p.Calls {
		if row := learned(c.ABI, c.Name); row != nil && c.Origin == OriginRecorded {
			c.Args = &ArgSet{Indexes: slices.Clone(row.args)}
			for range row.args {
				c.Args.Bits = append(c.Args.Bits, row.bits)
			}
		}
	}
	key, n := make([]byte, 32), uint64(0)
	it := r.maps["args"].Iterate()
	for it.Next(&key, &n) {
		head := binary.NativeEndian.Uint64(key)
		if int(head>>16) >= len(r.native.Family()) {
			continue
		}
		c := p.findOrigin(r.abiOf(uint32(head>>16)), int(head&0xffff), OriginRecorded)
		if c == nil || c.Args == nil {
			continue
		}
		t := make([]Hex, len(c.Args.Indexes))
		for i := range t {
			t[i] = Hex(binary.NativeEndian.Uint64(key[8+8*i:]))
		}
		c.Args.Values = append(c.Args.Values, t)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read arguments: %w", err)
	}
	lost, err := r.stat(statArgsFull)
	if err != nil {
		return err
	}
	for _, c := range p.Calls {
		// Without a single tuple a call would be allowed never; what was lost must not restrict.
		if c.Args != nil && (len(c.Args.Values) > maxTuples || len(c.Args.Values) == 0 || lost > 0) {
			c.Args.Wide = true
		}
	}
	return nil
}

func (r *Recorder) fillDenials(p *Profile) error {
	key, n := make([]byte, 16), uint64(0)
	it := r.maps["denied"].Iterate()
	for it.Next(&key, &n) {
		k := callKey{binary.NativeEndian.Uint32(key), uint32(binary.NativeEndian.Uint16(key[4:])), uint32(binary.NativeEndian.Uint16(key[6:]))}
		result := int64(binary.NativeEndian.Uint64(key[8:]))
		if int(k.abi) >= len(r.native.Family()) || r.missed > 0 && result >= 0 {
			continue // a call that succeeds was made: its enter was dropped
		}
		abi := r.abiOf(k.abi)
		d := Denial{ABI: abi, Number: int(k.number), Name: abi.Name(int(k.number)), Count: n, Result: result, Program: r.pathOf(k.slot)}
		if d.Name == "" {
			d.Name = Unnamed(d.Number)
		}
		for _, f := range r.denials {
			if f.callKey == k && f.result == d.Result {
				d.Thread, d.PID, d.Example, d.Stack = f.comm, f.pid, hexArgs(f.args), f.stack
				break
			}
		}
		p.Denials = append(p.Denials, d)
	}
	sort.Slice(p.Denials, func(i, j int) bool { return p.Denials[i].Name < p.Denials[j].Name })
	if err := it.Err(); err != nil {
		return fmt.Errorf("read denials: %w", err)
	}
	return nil
}

// ExitCode is how the command ended: its exit status, 128 and the signal that ended it, or -1 while it runs.
func (r *Recorder) ExitCode() int {
	if r.child == nil {
		return 0
	}
	select {
	case <-r.child.done:
		return r.child.exitCode()
	default:
		return -1
	}
}
