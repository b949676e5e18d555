package value

import (
	"strconv"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/types"
)

// Hist is a histogram cut to its non-empty range. Bucket i counts values from Bounds[i] to Bounds[i+1] (excluded); Open tells that the
// first has no lower or the last no upper bound.
type Hist struct {
	Bounds            []Bound // one more than Counts, open ends hold a zero Bound
	Counts            []uint64
	OpenLow, OpenHigh bool
}

// Bound is a border of a bucket: Label is how text shows it ("16M").
type Bound struct {
	Value   int64
	Label   string
	Literal bool // the label is the plain number
}

func plain(v int64) Bound { return Bound{Value: v, Label: strconv.FormatInt(v, 10), Literal: true} }

// log2Bound labels the lower bound of a log2 bucket, with a suffix for each factor of 1024.
func log2Bound(i, k int) Bound {
	low := object.HistLow(i, k)
	if i-1 <= 2<<k {
		return plain(int64(low))
	}
	n := 1 << k
	p := (i-1)>>k - 1
	b := Bound{Value: int64(low)}
	decade := p / 10
	b.Label = strconv.FormatUint(uint64(n+(i-1)&(n-1))<<(p-10*decade), 10)
	if decade > 0 {
		b.Label += string("KMGTPE"[decade-1])
	}
	return b
}

func lhistBound(v, step int64) Bound {
	b := plain(v)
	if step%1024 != 0 || v == 0 {
		return b
	}
	b.Literal = false
	switch {
	case v%(1<<20) == 0:
		b.Label = strconv.FormatInt(v>>20, 10) + "M"
	case v%1024 == 0:
		b.Label = strconv.FormatInt(v>>10, 10) + "K"
	}
	return b
}

// NewHist builds the histogram of a type Hist or LHist from its buckets; counts are divided by div (log2 histograms only).
func NewHist(t *types.Type, buckets []uint64, div uint64) *Hist {
	lo, hi := -1, -1
	for i, n := range buckets {
		if n > 0 {
			if lo < 0 {
				lo = i
			}
			hi = i
		}
	}
	h := &Hist{}
	if lo < 0 {
		return h
	}
	div = max(div, 1)
	bound := func(i int) Bound { return log2Bound(i, t.Bits) } // lower bound of bucket i
	if t.Kind == types.LHist {
		div = 1
		bound = func(i int) Bound { return lhistBound(t.Lo+int64(i-1)*t.Step, t.Step) }
	}
	h.OpenLow = lo == 0
	if h.OpenLow {
		h.Bounds = append(h.Bounds, Bound{})
	} else {
		h.Bounds = append(h.Bounds, bound(lo))
	}
	for i := lo; i <= hi; i++ {
		h.Counts = append(h.Counts, buckets[i]/div)
		if i == len(buckets)-1 && t.Kind == types.LHist {
			h.OpenHigh = true
			h.Bounds = append(h.Bounds, Bound{})
		} else {
			h.Bounds = append(h.Bounds, bound(i+1))
		}
	}
	return h
}

const barWidth = 52

func (h *Hist) appendText(dst []byte) []byte {
	var top uint64
	for _, n := range h.Counts {
		top = max(top, n)
	}
	for i, n := range h.Counts {
		start := len(dst)
		dst = pad(h.appendBucket(dst, i), start, 16)
		num := strconv.FormatUint(n, 10)
		for k := len(num); k < 8; k++ {
			dst = append(dst, ' ')
		}
		dst = append(append(dst, num...), " |"...)
		bar := 0
		if top > 0 {
			// Single precision, as the peer computes it: the bar lengths must be the same.
			bar = int(float32(n) / float32(top) * barWidth)
		}
		start = len(dst)
		for k := 0; k < bar; k++ {
			dst = append(dst, '@')
		}
		dst = append(pad(dst, start, barWidth), "|\n"...)
	}
	return dst
}

// appendBucket appends the bounds of a bucket: `[64, 128)`.
func (h *Hist) appendBucket(dst []byte, i int) []byte {
	lo, hi := h.Bounds[i], h.Bounds[i+1]
	switch {
	case i == 0 && h.OpenLow:
		return append(append(append(dst, "(..., "...), hi.Label...), ')')
	case i == len(h.Counts)-1 && h.OpenHigh:
		return append(append(append(dst, '['), lo.Label...), ", ...)"...)
	case lo.Literal && hi.Literal && lo.Value+1 == hi.Value:
		return append(append(append(dst, '['), lo.Label...), ']')
	}
	return append(append(append(append(append(dst, '['), lo.Label...), ", "...), hi.Label...), ')')
}

func pad(dst []byte, start, width int) []byte {
	for len(dst)-start < width {
		dst = append(dst, ' ')
	}
	return dst
}

func (h *Hist) appendJSON(dst []byte) []byte {
	dst = append(dst, '[')
	for i, n := range h.Counts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		if i > 0 || !h.OpenLow {
			dst = append(AppendJSONInt(append(dst, `"min": `...), h.Bounds[i].Value), ", "...)
		}
		if i < len(h.Counts)-1 || !h.OpenHigh {
			// JSON shows closed intervals.
			dst = append(AppendJSONInt(append(dst, `"max": `...), h.Bounds[i+1].Value-1), ", "...)
		}
		dst = append(strconv.AppendUint(append(dst, `"count": `...), n, 10), '}')
	}
	return append(dst, ']')
}
