package runtime

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"sort"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/flame"
	"github.com/sonde-sh/sonde/runtime/value"
)

// StackMaps lists the maps of an object that a flame graph can be made of, by name: keyed by a stack (and more), with a number.
func StackMaps(obj *object.Object) []string {
	var out []string
	for _, m := range obj.Maps {
		if m.Role == object.MapUser && hasStack(m.Key) && countable(m.Value) {
			out = append(out, m.Name)
		}
	}
	sort.Strings(out)
	return out
}

func hasStack(t *types.Type) bool {
	switch {
	case t == nil:
		return false
	case isStack(t):
		return true
	case t.Kind == types.Tuple, t.Kind == types.Record:
		for _, f := range t.Fields {
			if hasStack(f.Type) {
				return true
			}
		}
	}
	return false
}

func isStack(t *types.Type) bool { return t.Kind == types.KStack || t.Kind == types.UStack }

func countable(t *types.Type) bool {
	switch t.Kind {
	case types.Int, types.Count, types.Sum, types.Min, types.Max, types.Avg:
		return true
	default:
		return false
	}
}

// Samples reads a map that is keyed by stacks. Whatever else is in the key becomes labels, in front of the stack; a user stack comes before
// the kernel's, which it called.
func (s *Session) Samples(name string) ([]flame.Sample, error) {
	dump, err := s.Dump(name)
	if err != nil {
		return nil, err
	}
	if !hasStack(dump.Key) {
		return nil, fmt.Errorf("%s is not keyed by stacks", name)
	}
	frames := frameCache{r: s.resolver, known: map[frameKey][]flame.Frame{}}
	var out []flame.Sample
	s.values.Entries(dump, func(key []byte, v value.V) {
		smp := flame.Sample{Value: v.Int | int64(v.U)}
		if smp.Value <= 0 {
			return
		}
		var kernel []flame.Frame
		s.sampleKey(dump.Key, key, &smp, &kernel, &frames)
		smp.Frames = append(smp.Frames, kernel...)
		out = append(out, smp)
	})
	return out, nil
}

func (s *Session) sampleKey(t *types.Type, b []byte, smp *flame.Sample, kernel *[]flame.Frame, frames *frameCache) {
	switch {
	case isStack(t):
		list := frames.stack(t, binary.NativeEndian.Uint64(b))
		if t.Kind == types.KStack {
			*kernel = append(*kernel, list...)
		} else {
			smp.Frames = append(smp.Frames, list...)
		}
	case t.Kind == types.Tuple, t.Kind == types.Record:
		for _, f := range t.Fields {
			s.sampleKey(f.Type, b[f.Offset:], smp, kernel, frames)
		}
	default:
		smp.Labels = append(smp.Labels, string(value.AppendText(nil, s.values.Value(t, b))))
	}
}

// frameCache names each address of each process once.
type frameCache struct {
	r     *resolver
	known map[frameKey][]flame.Frame
}

type frameKey struct {
	addr   uint64
	pid    uint32
	kernel bool
}

// stack gives the frames of a stack, outermost first.
func (c *frameCache) stack(t *types.Type, id uint64) []flame.Frame {
	addrs, pid, ok := c.r.stack(id)
	if !ok {
		if id == 0 {
			return nil
		}
		return []flame.Frame{{Name: "[stack was not stored]"}}
	}
	if t.Frames > 0 && len(addrs) > t.Frames {
		addrs = addrs[:t.Frames]
	}
	var out []flame.Frame
	for i := len(addrs) - 1; i >= 0; i-- {
		out = append(out, c.frames(frameKey{addrs[i], pid, t.Kind == types.KStack})...)
	}
	return out
}

func (c *frameCache) frames(key frameKey) []flame.Frame {
	if list, ok := c.known[key]; ok {
		return list
	}
	var list []flame.Frame
	syms := c.r.symbolizer()
	if key.kernel {
		f := syms.Kernel(key.addr)
		list = []flame.Frame{{Name: f.Name, Addr: key.addr, Module: f.Module, Kernel: true}}
	} else {
		all := syms.UserFrames(int(key.pid), key.addr)
		for i := len(all) - 1; i >= 0; i-- { // innermost first there
			f := all[i]
			list = append(list, flame.Frame{
				Name: f.Name, Addr: key.addr, Module: f.Module, FileOffset: f.FileOffset, BuildID: hex.EncodeToString(f.BuildID), File: f.File, Line: f.Line, Inlined: f.Inlined,
			})
		}
	}
	for i := range list {
		if list[i].Name == "" {
			list[i].Name = hexAddr(key.addr)
		}
	}
	c.known[key] = list
	return list
}

// SamplePeriod is the time that one sample of the only timer of the script stands for, in nanoseconds; 0 when there is none or are several.
func (s *Session) SamplePeriod() int64 {
	period := int64(0)
	for _, p := range s.obj.Programs {
		for _, a := range p.Attach {
			if a.Mechanism != object.PerfEvent || !a.AllCPUs {
				continue
			}
			n := int64(a.Period)
			if a.Freq > 0 {
				n = 1e9 / int64(a.Freq)
			}
			const software, cpuClock = 1, 0
			if a.PerfType != software || a.PerfConfig != cpuClock || period != 0 && period != n {
				return 0
			}
			period = n
		}
	}
	return period
}

// Print lets fn write text of its own between what the script prints.
func (s *Session) Print(fn func(w io.Writer) error) {
	s.out.Append(func(dst []byte) []byte {
		var b bytes.Buffer
		if err := fn(&b); err != nil {
			return dst
		}
		return append(dst, b.Bytes()...)
	})
}
