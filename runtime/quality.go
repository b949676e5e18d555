package runtime

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/runtime/value"
)

// Quality is what was lost, refused or missed by one program: the data quality that stands beside every result.
type Quality struct {
	Probe   string // the program's first attach point, and how many more
	Lost    uint64 // events that did not fit the ring
	Full    uint64 // keys refused by a full map
	Read    uint64 // failed reads of memory
	Cut     uint64 // strings cut at their limit
	Scratch uint64 // runs skipped because all scratch memory of the CPU was in use
	Loop    uint64 // loops stopped by a limit
	Missed  uint64 // hits that the kernel did not deliver: return probes, recursion
}

type qualityItem struct {
	n    func(*Quality) uint64
	key  string // in JSON
	text string
	hint string
}

var qualityItems = []qualityItem{
	{func(q *Quality) uint64 { return q.Lost }, "lost_events", "events lost because the ring buffer was full", "set perf_rb_pages higher or print less"},
	{func(q *Quality) uint64 { return q.Full }, "map_full", "updates refused by a full map", "set max_map_keys higher or declare the map with `let @m = hash(N)`"},
	{func(q *Quality) uint64 { return q.Read }, "failed_reads", "failed memory reads (each gave 0 or an empty string)", "run with -k to see each one"},
	{func(q *Quality) uint64 { return q.Cut }, "cut_strings", "strings cut at max_strlen", "set max_strlen higher"},
	{func(q *Quality) uint64 { return q.Scratch }, "skipped_runs", "runs skipped because scratch memory was in use", ""},
	{func(q *Quality) uint64 { return q.Loop }, "stopped_loops", "loops stopped by a limit", ""},
	{func(q *Quality) uint64 { return q.Missed }, "missed_hits", "hits missed by the kernel (recursion or too many return probes at once)", ""},
}

// bad reports whether the answer is incomplete.
func (q *Quality) bad() bool {
	for _, it := range qualityItems {
		if it.n(q) > 0 {
			return true
		}
	}
	return false
}

// Quality reads the counters of every program.
func (s *Session) Quality() ([]Quality, error) {
	counts, err := s.counters()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Quality, len(s.obj.Programs))
	for i, p := range s.obj.Programs {
		q := &out[i]
		q.Probe = programName(s.obj, p)
		c := counts[min(i*object.CountersPerProgram, len(counts)):]
		if len(c) >= object.CountersPerProgram {
			q.Lost, q.Full, q.Read, q.Cut = c[object.CounterLost], c[object.CounterMapFull], c[object.CounterReadFail], c[object.CounterCut]
			q.Scratch, q.Loop = c[object.CounterScratch], c[object.CounterLoop]
		}
		if i < len(s.programs) && s.programs[i] != nil && p.Role == object.RoleProbe {
			if st, err := s.programs[i].Stats(); err == nil {
				q.Missed += st.RecursionMisses
			}
		}
	}
	for _, l := range s.links {
		if n, ok := l.link.Missed(); ok {
			out[l.program].Missed += n
		}
	}
	return out, nil
}

func programName(obj *object.Object, p *object.Program) string {
	for _, a := range p.Attach {
		if len(a.Points) > 0 && a.Points[0] < len(obj.Points) {
			name := obj.Points[a.Points[0]]
			if n := len(a.Points) + len(p.Attach) - 2; n > 0 {
				name += fmt.Sprintf(" (and %d more)", n)
			}
			return name
		}
	}
	return p.Name
}

// counters reads the counters map, summed over the CPUs.
func (s *Session) counters() ([]uint64, error) {
	for _, m := range s.obj.Maps {
		if m.Role != object.MapCounters {
			continue
		}
		u := &userMap{spec: m, m: s.maps[m.Name], cpus: cpuCount(s)}
		dump := &value.Dump{KeySize: m.KeySize, Stride: m.ValueSize, Copies: 1}
		if perCPU(m.Type) {
			dump.Stride, dump.Copies = (m.ValueSize+7)&^7, u.cpus
		}
		dump.ValueSize = dump.Stride * dump.Copies
		if err := u.iterate(dump); err != nil {
			return nil, fmt.Errorf("read the counters: %w", err)
		}
		words := m.ValueSize / 8
		out := make([]uint64, words*dump.N)
		for i := range dump.N {
			for c := range dump.Copies {
				for w := range words {
					out[i*words+w] += binary.NativeEndian.Uint64(dump.Values[i*dump.ValueSize+c*dump.Stride+8*w:])
				}
			}
		}
		return out, nil
	}
	return nil, nil
}

func cpuCount(s *Session) int {
	for _, u := range s.user {
		return u.cpus
	}
	cpus, err := possibleCPUs()
	if err != nil {
		return 1
	}
	return cpus
}

// QualityReport says in lines of text what was lost, refused, missed or could not be read; nothing when the result is complete.
func (s *Session) QualityReport() ([]string, error) {
	qs, err := s.Quality()
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, it := range qualityItems {
		for i := range qs {
			if n := it.n(&qs[i]); n > 0 {
				line := fmt.Sprintf("%s: %d %s", qs[i].Probe, n, it.text)
				if it.hint != "" {
					line += "; " + it.hint
				}
				lines = append(lines, line)
			}
		}
	}
	if s.left > 0 {
		lines = append(lines, fmt.Sprintf("%d events sent before the end are not shown: there were more than could be handled in time; print less", s.left))
	}
	if s.lost.n > 0 {
		lines = append(lines, fmt.Sprintf("%d events could not be decoded, which is a bug in sonde: %v", s.lost.n, s.lost.err))
	}
	return lines, nil
}

// QualityJSON appends one line per program that has something to report.
func (s *Session) QualityJSON(dst []byte) ([]byte, error) {
	qs, err := s.Quality()
	if err != nil {
		return dst, err
	}
	for i := range qs {
		if !qs[i].bad() {
			continue
		}
		dst = value.AppendJSONString(append(dst, `{"type": "data_quality", "data": {"probe": `...), qs[i].Probe)
		for _, it := range qualityItems {
			if n := it.n(&qs[i]); n > 0 {
				dst = value.AppendJSONUint(append(append(append(dst, `, "`...), it.key...), `": `...), n)
			}
		}
		dst = append(dst, "}}\n"...)
	}
	if s.left > 0 {
		dst = append(value.AppendJSONUint(append(dst, `{"type": "data_quality", "data": {"late_events": `...), uint64(s.left)), "}}\n"...)
	}
	return dst, nil
}

// Stat is what one program cost.
type Stat struct {
	Probe string
	Runs  uint64
	Time  time.Duration // total
	CPU   float64       // share of one CPU since the session started
	Slots int           // instructions, of 8 bytes, that the kernel holds after its verifier rewrote the program; 0 when it does not say
}

// Stats reads the kernel's run-time statistics of every program. The kernel counts only while Options.Stats is set.
func (s *Session) Stats() ([]Stat, error) {
	since := time.Since(s.started)
	var out []Stat
	for i, p := range s.obj.Programs {
		st := Stat{Probe: programName(s.obj, p)}
		ps, err := s.programs[i].Stats()
		if err != nil {
			return nil, fmt.Errorf("statistics of %s: %w", p.Name, err)
		}
		st.Runs, st.Time = ps.RunCount, ps.Runtime
		if since > 0 {
			st.CPU = float64(st.Time) / float64(since)
		}
		if info, err := s.programs[i].Info(); err == nil {
			if n, err := info.TranslatedSize(); err == nil {
				st.Slots = n / 8
			}
		}
		out = append(out, st)
	}
	return out, nil
}
