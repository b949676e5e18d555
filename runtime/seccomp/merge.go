package seccomp

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Merge makes one profile of several. The same recording in two files counts once. Argument values are united; a call that one
// recording made without learning its arguments is not restricted afterwards.
func Merge(profiles ...*Profile) (*Profile, error) {
	if len(profiles) == 0 {
		return nil, errors.New("merge: no profile given")
	}
	out := New(profiles[0].ABI, profiles[0].Tool, profiles[0].Kernel)
	for i, p := range profiles {
		if p.ABI != out.ABI {
			return nil, fmt.Errorf("merge: profile %d is of a machine with ABI %s, the first one of %s; emit them one by one", i+1, p.ABI, out.ABI)
		}
		out.add(p)
	}
	out.sort()
	return out, nil
}

// add merges another profile of the same machine into p.
func (p *Profile) add(q *Profile) {
	have := map[string]bool{}
	for _, r := range p.Runs {
		have[r.ID] = true
	}
	fresh := map[string]bool{}
	for _, r := range q.Runs {
		if !have[r.ID] {
			p.Runs = append(p.Runs, r)
			fresh[r.ID] = true
		}
	}
	for _, c := range q.Calls {
		d := p.findOrigin(c.ABI, c.Number, c.Origin)
		if d == nil {
			n := *c
			n.Threads, n.Programs, n.Runs = slices.Clone(c.Threads), slices.Clone(c.Programs), slices.Clone(c.Runs)
			n.Args = c.Args.clone()
			p.Calls = append(p.Calls, &n)
			continue
		}
		d.merge(c, fresh)
	}
	if len(q.Runs) == 0 || len(fresh) > 0 {
		p.mergeDenials(q.Denials)
	}
}

func (c *Call) merge(o *Call, fresh map[string]bool) {
	// Counts per program are not kept per run, so those of a file are taken as a whole or not at all.
	var added uint64
	for _, r := range o.Runs {
		if fresh[r.Run] {
			c.Runs = append(c.Runs, r)
			added += r.Count
		}
	}
	c.Count += added
	if added > 0 {
		for _, q := range o.Programs {
			i := slices.IndexFunc(c.Programs, func(x ProgramCount) bool { return x.Path == q.Path })
			if i < 0 {
				c.Programs = append(c.Programs, q)
			} else {
				c.Programs[i].Count += q.Count
			}
		}
	}
	for _, t := range o.Threads {
		if !slices.Contains(c.Threads, t) {
			c.Threads = append(c.Threads, t)
		}
	}
	if c.First.IsZero() || !o.First.IsZero() && o.First.Before(c.First) {
		c.First, c.Program, c.Example, c.Stack = o.First, o.Program, o.Example, o.Stack
	}
	c.Args = uniteArgs(c.Args, o.Args)
}

func (s *ArgSet) clone() *ArgSet {
	if s == nil {
		return nil
	}
	n := *s
	n.Indexes, n.Bits, n.Values = slices.Clone(s.Indexes), slices.Clone(s.Bits), slices.Clone(s.Values)
	return &n
}

// uniteArgs is nil, which means no restriction, unless both sides are restricted in the same arguments.
func uniteArgs(a, b *ArgSet) *ArgSet {
	if a == nil || b == nil || !slices.Equal(a.Indexes, b.Indexes) || !slices.Equal(a.Bits, b.Bits) {
		return nil
	}
	n := a.clone()
	n.Wide = a.Wide || b.Wide
	for _, t := range b.Values {
		if !n.has(t) {
			n.Values = append(n.Values, slices.Clone(t))
		}
	}
	return n
}

func (s *ArgSet) has(tuple []Hex) bool {
	return slices.ContainsFunc(s.Values, func(t []Hex) bool { return slices.Equal(t, tuple) })
}

func (p *Profile) mergeDenials(more []Denial) {
	for _, d := range more {
		i := slices.IndexFunc(p.Denials, func(x Denial) bool {
			return x.ABI == d.ABI && x.Number == d.Number && x.Program == d.Program && x.Result == d.Result
		})
		if i < 0 {
			p.Denials = append(p.Denials, d)
		} else {
			p.Denials[i].Count += d.Count
		}
	}
}

// Difference is one way in which two profiles differ.
type Difference struct {
	Call *Call // of the profile that has more
	Kind DifferenceKind
	Text string // what the other values are, for arguments
}

// DifferenceKind says how.
type DifferenceKind int

const (
	// DifferenceAdded calls are only in the second profile.
	DifferenceAdded DifferenceKind = iota
	// DifferenceRemoved calls are only in the first one.
	DifferenceRemoved
	// DifferenceArgs calls are in both with other argument values.
	DifferenceArgs
)

// Diff compares what two profiles allow; counts and provenance do not matter.
func Diff(a, b *Profile) []Difference {
	index := func(p *Profile) map[string]*Call {
		m := map[string]*Call{}
		for _, c := range p.Calls {
			k := string(c.ABI) + " " + c.Name
			if old := m[k]; old == nil || old.Origin != OriginRecorded {
				m[k] = c
			}
		}
		return m
	}
	left, right := index(a), index(b)
	keys := slices.Sorted(maps.Keys(left))
	for k := range right {
		if left[k] == nil {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var out []Difference
	for _, k := range keys {
		l, r := left[k], right[k]
		switch {
		case l == nil:
			out = append(out, Difference{Call: r, Kind: DifferenceAdded})
		case r == nil:
			out = append(out, Difference{Call: l, Kind: DifferenceRemoved})
		default:
			if t := diffArgs(l.Args, r.Args); t != "" {
				out = append(out, Difference{Call: r, Kind: DifferenceArgs, Text: t})
			}
		}
	}
	return out
}

func diffArgs(a, b *ArgSet) string {
	limited := func(s *ArgSet) bool { return s != nil && !s.Wide }
	switch {
	case !limited(a) && !limited(b):
		return ""
	case !limited(a):
		return "any arguments -> " + b.String()
	case !limited(b):
		return a.String() + " -> any arguments"
	case !slices.Equal(a.Indexes, b.Indexes):
		return a.String() + " -> " + b.String()
	}
	var parts []string
	for _, t := range b.Values {
		if !a.has(t) {
			parts = append(parts, "+"+tuple(b, t))
		}
	}
	for _, t := range a.Values {
		if !b.has(t) {
			parts = append(parts, "-"+tuple(a, t))
		}
	}
	return strings.Join(parts, " ")
}

func tuple(s *ArgSet, t []Hex) string {
	var b strings.Builder
	b.WriteByte('(')
	for i, v := range t {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "arg%d=%#x", s.Indexes[i], uint64(v))
	}
	b.WriteByte(')')
	return b.String()
}

// String lists the tuples.
func (s *ArgSet) String() string {
	if s == nil {
		return "any arguments"
	}
	if s.Wide {
		return fmt.Sprintf("any arguments (more than %d combinations)", len(s.Values))
	}
	out := make([]string, len(s.Values))
	for i, t := range s.Values {
		out[i] = tuple(s, t)
	}
	return strings.Join(out, " ")
}
