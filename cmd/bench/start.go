package main

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"time"
)

// starts are the scripts of the start-up table, with the limits of wall time and memory against the peer's.
func starts() []struct {
	name, script string
	wall, rss    float64
} {
	return []struct {
		name, script string
		wall, rss    float64
	}{
		{"BEGIN", "BEGIN { exit(); }", 1.0 / 20, 1.0 / 12},
		{"tracepoint and map", "tracepoint:syscalls:sys_enter_getpgid { @[comm] = count(); } interval:ms:1 { exit(); }", 1.0 / 20, 1.0 / 8},
		{"with output", "BEGIN { printf(\"%d %s\\n\", pid, comm); exit(); }", 1.0 / 20, 1.0 / 8},
		{"100 lines", hundredLines(), 1.0 / 10, 1.0 / 8},
		{"struct access", "BEGIN { @ = ((struct task_struct *)curtask)->pid; exit(); }", 1.0 / 15, 1.0 / 8},
	}
}

// start measures whole runs, and the time to the first attached probe and from Ctrl-C to the end.
func (b *bench) start(ctx context.Context) error {
	g := b.table.group("Start, end and memory", "Whole processes. `attached` is from the start to the word that all probes are attached, `exit` from "+
		"Ctrl-C to the end of the process; CPU is user and system time.")
	rounds := 3 * b.rounds
	for _, s := range starts() {
		b.progress("start: %s", s.name)
		wall, cpu, rss := newSeries(), newSeries(), newSeries()
		for range rounds {
			for i, t := range b.tracers() {
				u, err := t.once(ctx, "-e", s.script)
				if err != nil {
					return err
				}
				wall.add(i, ms(u.Wall))
				cpu.add(i, ms(u.cpu()))
				rss.add(i, float64(u.MaxRSS)/(1<<20))
			}
		}
		g.add(wall.row(s.name+": wall", "ms", s.wall))
		g.add(cpu.row(s.name+": CPU", "ms", 0))
		g.add(rss.row(s.name+": peak memory", "MiB", s.rss))
	}
	b.progress("start: attach and exit")
	attached, exit := newSeries(), newSeries()
	for range rounds {
		for i, t := range b.tracers() {
			took, end, _, err := t.attachAndEnd(ctx, "-e", "tracepoint:syscalls:sys_enter_getpgid { @[comm] = count(); }")
			if err != nil {
				return err
			}
			attached.add(i, ms(took))
			exit.add(i, ms(end))
		}
	}
	g.add(attached.row("one tracepoint and map: attached", "ms", 1.0/20))
	g.add(exit.row("one tracepoint and map: exit", "ms", 1.0/20))
	return nil
}

// attachAndEnd runs a tracer until its probes are attached, and interrupts it: the time to that word, and from the interrupt to its end.
func (t *tracer) attachAndEnd(ctx context.Context, args ...string) (attached, exit time.Duration, u usage, err error) {
	s, err := t.begin(ctx, nil, args...)
	if err != nil {
		return 0, 0, u, err
	}
	if err := s.wait(ctx); err != nil {
		return 0, 0, u, err
	}
	t0 := time.Now()
	if err := s.interrupt(); err != nil {
		return 0, 0, u, err
	}
	u, err = s.end()
	return s.Attached, time.Since(t0), u, err
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// series collects the values of both tracers.
type series struct{ v [2][]float64 }

func newSeries() *series { return &series{} }

func (s *series) add(tracer int, v float64) { s.v[tracer] = append(s.v[tracer], v) }

func (s *series) row(name, unit string, limit float64) row {
	noise := math.Hypot(medianError(s.v[0]), medianError(s.v[1]))
	return row{name: name, unit: unit, ours: median(s.v[0]), theirs: median(s.v[1]), limit: limit, noise: noise}
}

// medianError is the standard error of the median of v: 1.25 times that of a mean, with the deviation from the median of the deviations, which
// outliers do not change. Below five values it says 0.
func medianError(v []float64) float64 {
	if len(v) < 5 {
		return 0
	}
	m := median(v)
	off := make([]float64, len(v))
	for i, x := range v {
		off[i] = math.Abs(x - m)
	}
	return 1.2533 * 1.4826 * median(off) / math.Sqrt(float64(len(v)))
}

// size compares what has to be there to run.
func (b *bench) size(context.Context) error {
	g := b.table.group("Size", "The program, and with all shared libraries that it needs.")
	var program, all [2]float64
	program[1], all[1] = math.NaN(), math.NaN()
	for i, t := range b.tracers() {
		all[i] = 0
		for j, f := range t.files {
			real, err := filepath.EvalSymlinks(f)
			if err != nil {
				return err
			}
			st, err := os.Stat(real)
			if err != nil {
				return err
			}
			n := float64(st.Size()) / 1e6
			if all[i] += n; j == 0 {
				program[i] = n
			}
		}
	}
	g.add(row{name: "program", unit: "MB", ours: program[0], theirs: program[1], limit: 15, absolute: true})
	g.add(row{name: "with libraries", unit: "MB", ours: all[0], theirs: all[1]})
	return nil
}
