package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
)

// progStats is what the kernel says about the programs of a process.
type progStats struct {
	slots, bytes int // translated instructions, bytes of machine code
	runs         int64
	ns           int64
}

// probePrograms adds up the tracing programs that a process holds. Programs of other types (BEGIN's, feature probes) are left out.
func probePrograms(pid int) (progStats, error) {
	var sum progStats
	seen := map[uint64]bool{}
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return sum, err
	}
	for _, e := range entries {
		info, err := readFdinfo(filepath.Join(dir, e.Name()))
		if err != nil || info["prog_type"] == 0 && info["link"] == 0 || info["prog_id"] == 0 || seen[info["prog_id"]] {
			continue
		}
		id := info["prog_id"]
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		if err != nil {
			return sum, err
		}
		pi, err := p.Info()
		st, statsErr := p.Stats()
		p.Close()
		if err := errors.Join(err, statsErr); err != nil {
			return sum, err
		}
		if pi.Type != ebpf.TracePoint {
			continue
		}
		seen[id] = true
		slots, err := pi.TranslatedSize()
		if err != nil {
			return sum, err
		}
		jited, err := pi.JitedSize()
		if err != nil && !errors.Is(err, ebpf.ErrNotSupported) {
			return sum, err
		}
		sum.slots += slots / 8
		sum.bytes += int(jited)
		sum.runs += int64(st.RunCount)
		sum.ns += st.Runtime.Nanoseconds()
	}
	if len(seen) == 0 {
		return sum, fmt.Errorf("process %d holds no tracepoint program", pid)
	}
	return sum, nil
}

// readFdinfo reads the numbers of a descriptor of the kernel's BPF objects.
func readFdinfo(path string) (map[string]uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]uint64{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		k, v, ok := strings.Cut(sc.Text(), ":")
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 64); err == nil {
			out[k] = n
		}
		if k == "link_type" {
			out["link"] = 1
		}
	}
	return out, nil
}

// sample is one measurement of a program's code.
type sample struct {
	added  float64 // CPU nanoseconds of a call above that of a call that nobody traces
	body   float64 // nanoseconds of a run by the kernel's statistics, NaN when there were none
	static progStats
}

const (
	warmUp = 2000
	settle = 200 * time.Millisecond
)

// chunkCalls is the number of calls that are timed at once. Where the clock counts instructions it is so small that there are chunks without
// a timer interrupt.
func (b *bench) chunkCalls() int {
	if b.guest {
		return 1000
	}
	return 20000
}

// timeCalls gives the CPU nanoseconds of a call: those of the fastest of several chunks, because disturbances only ever add.
func (b *bench) timeCalls(l *load, call string, chunks int) (float64, error) {
	var v []float64
	for range chunks {
		c, err := l.run(call, b.chunkCalls(), 0)
		if err != nil {
			return 0, err
		}
		v = append(v, c.perCall())
	}
	return slices.Min(v), nil
}

// measure attaches a program, makes events and takes it off again.
func (b *bench) measure(ctx context.Context, t *tracer, p program, l *load, chunks int) (sample, error) {
	out := sample{body: math.NaN()}
	added, err := b.whileAttached(ctx, t, p, l, chunks, func(s *session) (err error) {
		if !b.guest {
			if out.body, err = b.statistics(s.PID, l, p.call, chunks); err != nil {
				return err
			}
		}
		out.static, err = probePrograms(s.PID)
		return err
	})
	out.added = added
	return out, err
}

// statistics gives the nanoseconds that the programs of a process take per event, with the kernel's own two readings of the clock.
func (b *bench) statistics(pid int, l *load, call string, chunks int) (float64, error) {
	const runTime = 0 // BPF_STATS_RUN_TIME
	closer, err := ebpf.EnableStats(runTime)
	if err != nil {
		return 0, fmt.Errorf("the kernel's run-time statistics: %w", err)
	}
	defer closer.Close()
	var v []float64
	for range chunks {
		a, err := probePrograms(pid)
		if err != nil {
			return 0, err
		}
		if _, err := l.run(call, b.chunkCalls(), 0); err != nil {
			return 0, err
		}
		z, err := probePrograms(pid)
		if err != nil {
			return 0, err
		}
		if z.runs > a.runs {
			// Programs of one tracer that run after each other count as one: per event, not per run.
			v = append(v, float64(z.ns-a.ns)/float64(b.chunkCalls()))
		}
	}
	return median(v), nil
}

// code measures the generated programs.
func (b *bench) code(ctx context.Context) error {
	l, err := startLoad(ctx)
	if err != nil {
		return err
	}
	defer l.close()
	chunks := 5
	if b.quick {
		chunks = 1
	}
	type result struct{ added, body, slots, bytes *series }
	results := map[string]*result{}
	list := append([]program{emptyProgram("getpgid"), emptyProgram("openat")}, b.programs()...)
	list[0].name, list[1].name = "empty", "empty openat"
	for _, p := range list {
		results[p.name] = &result{newSeries(), newSeries(), newSeries(), newSeries()}
	}
	for round := range b.rounds {
		b.progress("code: round %d of %d", round+1, b.rounds)
		for _, p := range list {
			for i, t := range b.tracers() {
				s, err := b.measure(ctx, t, p, l, chunks)
				if err != nil {
					return err
				}
				r := results[p.name]
				r.added.add(i, s.added)
				r.body.add(i, s.body)
				r.slots.add(i, float64(s.static.slots))
				r.bytes.add(i, float64(s.static.bytes))
			}
		}
	}
	slots := b.table.group("Generated code: translated instructions", "What the kernel holds after its verifier rewrote the program (`xlated`), both on "+
		"the tracepoint's perf event. A program of two probes counts both.")
	body := b.table.group("Generated code: time", "Nanoseconds per event in the programs themselves: the kernel's BPF statistics less what they give for the "+
		"same tracer's empty program.")
	added := b.table.group("Generated code: time of the traced call", "CPU nanoseconds that a traced system call takes longer.")
	for _, p := range list {
		r := results[p.name]
		if p.name == "empty" {
			added.add(r.added.row("{ }", "ns", 0))
			continue
		}
		if p.name == "empty openat" {
			continue
		}
		empty := results["empty"].body
		if p.call == "openat" {
			empty = results["empty openat"].body
		}
		limit := p.insnLimit()
		if p.anySize {
			limit = 0
		}
		slots.add(r.slots.row(p.name, "slots", limit))
		if m := r.bytes.row(p.name, "bytes", 0); m.ours > 0 {
			m.name += ", machine code"
			slots.add(m)
		}
		net := r.body.row(p.name, "ns", 1)
		programs := 1.0
		if strings.Count(p.script, "tracepoint:") == 2 {
			programs = 2
		}
		net.ours -= programs * median(empty.v[0])
		net.theirs -= programs * median(empty.v[1])
		net.noise = math.Hypot(net.noise, programs*math.Hypot(medianError(empty.v[0]), medianError(empty.v[1])))
		body.add(net)
		added.add(r.added.row(p.name, "ns", 1))
	}
	return nil
}
