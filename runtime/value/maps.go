package value

import (
	"bytes"
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/types"
)

// Dump is the contents of a map as read from the kernel. Entry i's key is Keys[i*KeySize:] and its value Values[i*ValueSize:], where
// ValueSize holds Copies copies of one CPU's value, Stride bytes apart.
type Dump struct {
	Name           string
	Key, Value     *types.Type // Key nil for a scalar map
	N              int
	Keys, Values   []byte
	KeySize        int
	ValueSize      int
	Copies, Stride int
}

func (m *Dump) key(i int) []byte   { return m.Keys[i*m.KeySize : (i+1)*m.KeySize] }
func (m *Dump) value(i int) []byte { return m.Values[i*m.ValueSize : (i+1)*m.ValueSize] }

// Row is one entry of a map, combined over the CPUs.
type Row struct {
	Key, Val V
}

const signBit = 1 << 63

// rank maps signed integers to unsigned ones in the same order.
func rank(v uint64, signed bool) uint64 {
	if signed {
		return v ^ signBit
	}
	return v
}

// combine folds the copies of one aggregation. div scales the result, as print's third argument says.
func (d *Decoder) combine(t *types.Type, b []byte, copies, stride int, div uint64) (V, uint64) {
	word := func(c, i int) uint64 { return order.Uint64(b[c*stride+8*i:]) }
	quotient := func(x uint64, signed bool) uint64 {
		if signed {
			return uint64(int64(x) / int64(div))
		}
		return x / div
	}
	var a, n uint64
	switch t.Kind {
	case types.Count, types.Sum:
		signed := t.Kind == types.Sum && t.Signed
		for c := 0; c < copies; c++ {
			a += word(c, 0)
		}
		return integer(quotient(a, signed), signed), rank(a, signed)
	case types.Min, types.Max:
		set := false
		for c := 0; c < copies; c++ {
			if word(c, 1) == 0 {
				continue
			}
			w := word(c, 0)
			less := rank(w, t.Signed) < rank(a, t.Signed)
			if !set || less == (t.Kind == types.Min) {
				a = w
			}
			set = true
		}
		return integer(quotient(a, t.Signed), t.Signed), rank(a, t.Signed)
	case types.Avg, types.Stats:
		for c := 0; c < copies; c++ {
			a += word(c, 0)
			n += word(c, 1)
		}
		avg := uint64(0)
		if n > 0 {
			if avg = a / n; t.Signed {
				avg = uint64(int64(a) / int64(n))
			}
		}
		if t.Kind == types.Avg {
			return integer(quotient(avg, t.Signed), t.Signed), rank(avg, t.Signed)
		}
		return V{
			Kind: Record, Names: []string{"count", "average", "total"},
			List: []V{integer(n, t.Signed), integer(quotient(avg, t.Signed), t.Signed), integer(a, t.Signed)},
		}, rank(avg, t.Signed)
	case types.Hist, types.LHist:
		buckets := make([]uint64, object.AggSize(t)/8)
		for c := 0; c < copies; c++ {
			for i := range buckets {
				buckets[i] += word(c, i)
			}
		}
		for _, x := range buckets {
			n += x
		}
		return V{Kind: Histogram, Hist: NewHist(t, buckets, div)}, n
	case types.TSeries:
		return d.series(t, b, copies, stride)
	}
	v := d.Value(t, b)
	switch v.Kind {
	case Int:
		r := rank(uint64(v.Int), true)
		v.Int /= int64(div)
		return v, r
	case Uint:
		r := v.U
		v.U /= div
		return v, r
	}
	return v, v.U
}

// series folds the per-CPU rings of a time series into one point per interval, the last Buckets intervals ending with the newest value.
func (d *Decoder) series(t *types.Type, b []byte, copies, stride int) (V, uint64) {
	type cell struct{ value, aux uint64 }
	cells := map[uint64]cell{}
	var first, last uint64
	for c := 0; c < copies; c++ {
		for i := 0; i < t.Buckets; i++ {
			at := b[c*stride+24*i:]
			epoch, x := order.Uint64(at), cell{order.Uint64(at[8:]), order.Uint64(at[16:])}
			if epoch == 0 {
				continue
			}
			last = max(last, epoch)
			old, seen := cells[epoch]
			switch {
			case !seen:
			case t.Agg == types.Avg:
				x.value, x.aux = x.value+old.value, x.aux+old.aux
			case t.Agg == types.Sum:
				x.value += old.value
			case t.Agg == types.Min && rank(old.value, t.Signed) < rank(x.value, t.Signed),
				t.Agg == types.Max && rank(old.value, t.Signed) > rank(x.value, t.Signed),
				t.Agg == types.Invalid && old.aux > x.aux:
				x = old
			}
			cells[epoch] = x
		}
	}
	if last == 0 {
		return V{Kind: Series}, 0
	}
	for first = last; first > 1 && last-first < uint64(t.Buckets)-1; first-- {
	}
	for ; first < last; first++ { // leading intervals without a value are not shown
		if _, ok := cells[first]; ok {
			break
		}
	}
	var out []Point
	for e := first; e <= last; e++ {
		p := Point{Start: d.wall("tai", (e-1)*uint64(t.IntervalNS))}
		if x, ok := cells[e]; ok {
			if t.Agg == types.Avg && x.aux > 0 {
				if t.Signed {
					x.value = uint64(int64(x.value) / int64(x.aux))
				} else {
					x.value /= x.aux
				}
			}
			p.Value = integer(x.value, t.Signed)
		}
		out = append(out, p)
	}
	return V{Kind: Series, TS: out}, last
}

func (d *Decoder) wall(mode string, ns uint64) time.Time { return d.R.WallTime(mode, ns) }

// byValue reports whether rows are sorted by value; other maps are sorted by key.
func byValue(t *types.Type) bool {
	return t.Kind == types.Int || t.IsAggregation()
}

// keyLess compares keys as print sorts them: integers as signed numbers and strings, tuples field by field; other fields keep their order.
func keyLess(t *types.Type, a, b []byte) int {
	switch t.Kind {
	case types.Tuple, types.Record:
		for _, f := range t.Fields {
			if c := keyLess(f.Type, a[f.Offset:f.Offset+f.Type.Size], b[f.Offset:f.Offset+f.Type.Size]); c != 0 {
				return c
			}
		}
	case types.Int:
		x, y := int64(Word(a, t.Size, true)), int64(Word(b, t.Size, true))
		if x < y {
			return -1
		} else if x > y {
			return 1
		}
	case types.String:
		return bytes.Compare(a, b)
	}
	return 0
}

// place is where an entry stands among the others: by rank, then by key. Sorting moves places around, not rows, which are ten times as large.
type place struct {
	rank, key uint64 // key is the order-preserving number of an integer key, 0 for others
	index     int32
}

// places sorts a map's entries: the top entries last, all of them when top is 0.
func (d *Decoder) places(m *Dump, top uint64) []place {
	out := make([]place, m.N)
	values := byValue(m.Value)
	number := m.Key != nil && m.Key.Kind == types.Int
	for i := range out {
		out[i].index = int32(i)
		if values && m.Key != nil && m.N > 1 {
			_, out[i].rank = d.combine(m.Value, m.value(i), m.Copies, m.Stride, 1)
		}
		if number {
			out[i].key = rank(Word(m.key(i), m.Key.Size, true), true)
		}
	}
	if m.Key != nil {
		// Equal ranks are ordered by key, so that the same contents always print the same.
		sortPlaces(out, 0, func(a, b place) int {
			c := cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.key, b.key))
			if c == 0 && !number {
				c = keyLess(m.Key, m.key(int(a.index)), m.key(int(b.index)))
			}
			return cmp.Or(c, cmp.Compare(a.index, b.index))
		})
	}
	if n := uint64(len(out)); top > 0 && n > top {
		out = out[n-top:]
	}
	return out
}

// fewPlaces are sorted by comparing.
const fewPlaces = 64

// sortPlaces sorts places whose first digits (bytes of rank, then of key) are the same: it puts them into heaps by the next digit, in place,
// and sorts the heaps. A million places take a fifth of the time that comparing takes.
func sortPlaces(p []place, digit int, compare func(a, b place) int) {
	if len(p) <= fewPlaces || digit == 16 {
		slices.SortFunc(p, compare)
		return
	}
	of := func(x *place) int {
		word := x.rank
		if digit >= 8 {
			word = x.key
		}
		return int(word >> (56 - digit%8*8) & 0xff)
	}
	var at, end [256]int
	for i := range p {
		end[of(&p[i])]++
	}
	if end[of(&p[0])] == len(p) {
		sortPlaces(p, digit+1, compare)
		return
	}
	sum := 0
	for d, n := range end {
		at[d] = sum
		sum += n
		end[d] = sum
	}
	for d := range at {
		for at[d] < end[d] {
			x := p[at[d]]
			for k := of(&x); k != d; k = of(&x) {
				p[at[k]], x = x, p[at[k]]
				at[k]++
			}
			p[at[d]] = x
			at[d]++
		}
	}
	start := 0
	for _, e := range end {
		if e > start {
			sortPlaces(p[start:e], digit+1, compare)
		}
		start = e
	}
}

// row decodes the entry of a place.
func (d *Decoder) row(m *Dump, p place, div uint64) (r Row) {
	i := int(p.index)
	r.Val, _ = d.combine(m.Value, m.value(i), m.Copies, m.Stride, max(div, 1))
	if m.Key != nil {
		r.Key = d.Value(m.Key, m.key(i))
	}
	return r
}

// Rows decodes and sorts a map's entries: the top entries last, all of them when top is 0.
func (d *Decoder) Rows(m *Dump, top, div uint64) []Row {
	places := d.places(m, top)
	rows := make([]Row, len(places))
	for i, p := range places {
		rows[i] = d.row(m, p, div)
	}
	return rows
}

// sorted gives a map's entries one after the other in the order of [Decoder.Rows], without holding all of them.
func (d *Decoder) sorted(m *Dump, top, div uint64) iter.Seq2[int, Row] {
	return func(yield func(int, Row) bool) {
		for i, p := range d.places(m, top) {
			if !yield(i, d.row(m, p, div)) {
				return
			}
		}
	}
}

// Entries gives each entry of a map, its key as it lies in memory, in no order.
func (d *Decoder) Entries(m *Dump, yield func(key []byte, v V)) {
	for i := range m.N {
		v, _ := d.combine(m.Value, m.value(i), m.Copies, m.Stride, 1)
		var key []byte
		if m.Key != nil {
			key = m.key(i)
		}
		yield(key, v)
	}
}

// AppendMap appends a map as text: `@x: 5`, or one line per key; histograms and series on lines of their own.
func (d *Decoder) AppendMap(dst []byte, m *Dump, top, div uint64) []byte {
	return d.appendRows(dst, m, d.sorted(m, top, div))
}

func (d *Decoder) appendRows(dst []byte, m *Dump, rows iter.Seq2[int, Row]) []byte {
	for _, r := range rows {
		dst = append(dst, m.Name...)
		if m.Key != nil {
			dst = append(AppendKey(append(dst, '['), r.Key), ']')
		}
		dst = append(dst, ':')
		if r.Val.Kind == Histogram || r.Val.Kind == Series {
			dst = append(AppendText(append(dst, '\n'), r.Val), '\n')
			continue
		}
		dst = append(AppendText(append(dst, ' '), r.Val), '\n')
	}
	return dst
}

// AppendMapJSON appends a map as one line of JSON: {"type": "map", "data": {"@x": {"1": 2}}}. Nothing is appended for a scalar that was never set.
func (d *Decoder) AppendMapJSON(dst []byte, m *Dump, top, div uint64) []byte {
	return d.appendRowsJSON(dst, m, d.sorted(m, top, div), "")
}

// appendRowsJSON appends rows as one line of JSON; view is the type of the line when the values are not those of the map.
func (d *Decoder) appendRowsJSON(dst []byte, m *Dump, rows iter.Seq2[int, Row], view string) []byte {
	kind := "map"
	switch m.Value.Kind {
	case types.Hist, types.LHist:
		kind = "hist"
	case types.Avg, types.Stats:
		kind = "stats"
	case types.TSeries:
		kind = "tseries"
	}
	if m.N == 0 {
		if m.Key == nil {
			return dst
		}
		kind = "map"
	}
	if view != "" {
		kind = view
	}
	dst = append(append(append(dst, `{"type": "`...), kind...), `", "data": {`...)
	dst = append(AppendJSONString(dst, m.Name), ": "...)
	if m.Key == nil {
		for _, r := range rows {
			dst = AppendJSON(dst, r.Val)
		}
	} else {
		dst = append(dst, '{')
		for i, r := range rows {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = AppendJSON(append(AppendJSONKey(dst, r.Key), ": "...), r.Val)
		}
		dst = append(dst, '}')
	}
	return append(dst, "}}\n"...)
}
