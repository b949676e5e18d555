package flame

import (
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// Profile tells what a pprof profile is about.
type Profile struct {
	// Type and Unit name the values: "samples" and "count" when they are "".
	Type, Unit string
	// PeriodNS is the time that one sample stands for, 0 when samples are no time. A second value, cpu in nanoseconds, is added then.
	PeriodNS int64
	Time     time.Time
	Duration time.Duration
}

// WritePprof writes a gzipped profile that `go tool pprof` and other readers of that format open.
func WritePprof(w io.Writer, samples []Sample, about Profile) error {
	if about.Type == "" {
		about.Type, about.Unit = "samples", "count"
	}
	b := &pprofBuilder{
		p:         &profile.Profile{SampleType: []*profile.ValueType{{Type: about.Type, Unit: about.Unit}}},
		functions: map[string]*profile.Function{}, locations: map[locationKey]*profile.Location{}, mappings: map[string]*profile.Mapping{},
	}
	if !about.Time.IsZero() {
		b.p.TimeNanos = about.Time.UnixNano()
	}
	b.p.DurationNanos = about.Duration.Nanoseconds()
	if about.PeriodNS > 0 {
		cpu := &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}
		b.p.SampleType = append(b.p.SampleType, cpu)
		b.p.PeriodType, b.p.Period = cpu, about.PeriodNS
	}
	for i := range samples {
		b.sample(&samples[i], about.PeriodNS)
	}
	b.programFirst()
	if err := b.p.CheckValid(); err != nil {
		return err
	}
	return b.p.Write(w)
}

// programFirst puts libraries and the kernel behind the programs: readers take the first file for what was profiled.
func (b *pprofBuilder) programFirst() {
	rank := func(m *profile.Mapping) int {
		switch base := filepath.Base(m.File); {
		case strings.HasPrefix(m.File, "["):
			return 2
		case strings.HasSuffix(base, ".so") || strings.Contains(base, ".so."):
			return 1
		}
		return 0
	}
	slices.SortStableFunc(b.p.Mapping, func(x, y *profile.Mapping) int { return rank(x) - rank(y) })
	for i, m := range b.p.Mapping {
		m.ID = uint64(i + 1)
	}
}

type pprofBuilder struct {
	p         *profile.Profile
	functions map[string]*profile.Function
	locations map[locationKey]*profile.Location
	mappings  map[string]*profile.Mapping
}

// locationKey tells places apart: the same function at another address, or at none.
type locationKey struct {
	names, module string
	addr          uint64
}

func (b *pprofBuilder) sample(s *Sample, period int64) {
	out := &profile.Sample{Value: []int64{s.Value}}
	if period > 0 {
		out.Value = append(out.Value, s.Value*period)
	}
	if len(s.Labels) > 0 {
		out.Label = map[string][]string{"key": {strings.Join(s.Labels, ", ")}}
	}
	// Innermost first; inlined functions share the place of their caller, which comes before them in s.Frames.
	for i := len(s.Frames) - 1; i >= 0; i-- {
		first := i
		for first > 0 && s.Frames[first].Inlined {
			first--
		}
		out.Location = append(out.Location, b.location(s.Frames[first:i+1]))
		i = first
	}
	b.p.Sample = append(b.p.Sample, out)
}

// location gives the place of a function and of those that are inlined there.
func (b *pprofBuilder) location(frames []Frame) *profile.Location {
	outer := &frames[0]
	key := locationKey{module: outer.Module, addr: outer.Addr}
	for i := range frames {
		key.names += frames[i].Name + "\x00"
	}
	if l := b.locations[key]; l != nil {
		return l
	}
	l := &profile.Location{ID: uint64(len(b.p.Location) + 1), Address: outer.Addr, Mapping: b.mapping(outer)}
	for i := len(frames) - 1; i >= 0; i-- {
		f := &frames[i]
		l.Line = append(l.Line, profile.Line{Function: b.function(f), Line: int64(f.Line)})
	}
	b.locations[key] = l
	b.p.Location = append(b.p.Location, l)
	return l
}

func (b *pprofBuilder) function(f *Frame) *profile.Function {
	key := f.Name + "\x00" + f.File
	if fn := b.functions[key]; fn != nil {
		return fn
	}
	fn := &profile.Function{ID: uint64(len(b.p.Function) + 1), Name: f.Name, SystemName: f.Name, Filename: f.File}
	b.functions[key] = fn
	b.p.Function = append(b.p.Function, fn)
	return fn
}

// mapping gives the file of a frame. It says that functions are known, so that readers do not look for the file.
func (b *pprofBuilder) mapping(f *Frame) *profile.Mapping {
	name := f.Module
	if f.Kernel && name == "" {
		name = "[kernel.kallsyms]"
	}
	if name == "" {
		return nil
	}
	key := name + "\x00" + f.BuildID
	if m := b.mappings[key]; m != nil {
		return m
	}
	m := &profile.Mapping{ID: uint64(len(b.p.Mapping) + 1), File: name, BuildID: f.BuildID, HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true}
	b.mappings[key] = m
	b.p.Mapping = append(b.p.Mapping, m)
	return m
}
