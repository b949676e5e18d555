package value

import (
	"encoding/binary"
	"testing"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/types"
)

// keyed makes the dump of a map with the keys 1, 2 ... and values of some words.
func keyed(t *types.Type, values ...[]uint64) *Dump {
	size := 8
	for _, v := range values {
		size = max(size, 8*len(v))
	}
	m := &Dump{Name: "@m", Key: types.TUint8, Value: t, N: len(values), KeySize: 1, ValueSize: size, Copies: 1, Stride: size}
	for i, v := range values {
		m.Keys = append(m.Keys, byte(i+1))
		b := make([]byte, size)
		for k, w := range v {
			binary.NativeEndian.PutUint64(b[8*k:], w)
		}
		m.Values = append(m.Values, b...)
	}
	return m
}

// histogram makes buckets from values.
func histogram(t *types.Type, values ...int64) []uint64 {
	b := make([]uint64, object.AggSize(t)/8)
	for _, v := range values {
		b[object.HistIndex(v, t.Bits)]++
	}
	return b
}

func TestViews(t *testing.T) {
	hist, stats, sum := &types.Type{Kind: types.Hist}, &types.Type{Kind: types.Stats}, &types.Type{Kind: types.Sum}
	pair := types.TupleOf([]*types.Type{types.TUint64, types.TUint64}, nil)
	latency := keyed(hist, histogram(hist, 1, 2, 100, 100, 100, 100, 100, 100, 100, 5000), histogram(hist, -1))
	three := keyed(stats, []uint64{100, 1}, []uint64{30, 3}, []uint64{40, 2})
	for _, c := range []struct {
		name, words string
		m           *Dump
		top         uint64
		text, json  string
	}{
		{
			"percentiles", "p50 p90 p99", latency, 0,
			"@m[2]: { .count = 1, .p50 = (..., 0), .p90 = (..., 0), .p99 = (..., 0) }\n@m[1]: { .count = 10, .p50 = [64, 128), .p90 = [64, 128), .p99 = [4K, 8K) }\n",
			`{"type": "percentiles", "data": {"@m": {"2": {"count": 1, "p50": {"max": -1}, "p90": {"max": -1}, "p99": {"max": -1}}, "1": {"count": 10, "p50": {"min": 64, "max": 127}, "p90": {"min": 64, "max": 127}, "p99": {"min": 4096, "max": 8191}}}}}` + "\n",
		},
		{"the smallest percentile is the first bucket with a value", "p1 p5", keyed(hist, histogram(hist, 7, 7)), 0, "@m[1]: { .count = 2, .p1 = [4, 8), .p5 = [4, 8) }\n", ""},
		{
			"stats by count", "by_count", three, 0,
			"@m[1]: { .count = 1, .average = 100, .total = 100 }\n@m[3]: { .count = 2, .average = 20, .total = 40 }\n@m[2]: { .count = 3, .average = 10, .total = 30 }\n",
			`{"type": "stats", "data": {"@m": {"1": {"count": 1, "average": 100, "total": 100}, "3": {"count": 2, "average": 20, "total": 40}, "2": {"count": 3, "average": 10, "total": 30}}}}` + "\n",
		},
		{"the largest by total", "by_total", three, 1, "@m[1]: { .count = 1, .average = 100, .total = 100 }\n", ""},
		{"tuples by a field", "by_1", keyed(pair, []uint64{1, 9}, []uint64{3, 7}, []uint64{2, 8}), 2, "@m[3]: (2, 8)\n@m[1]: (1, 9)\n", ""},
		{"rates", "rate", keyed(sum, []uint64{10}, []uint64{25}), 0, "@m[1]: 5.0/s\n@m[2]: 12.5/s\n", `{"type": "rate", "data": {"@m": {"1": 5.0, "2": 12.5}}}` + "\n"},
		{"rates of stats keep the average", "rate by_count", keyed(stats, []uint64{40, 4}), 0, "@m[1]: { .count = 2.0/s, .average = 10, .total = 20.0/s }\n", ""},
	} {
		v, err := ParseView(c.words, c.m.Value)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		v.Seconds = 2
		if got := string(dec.AppendView(nil, c.m, v, c.top, 0, false)); got != c.text {
			t.Errorf("%s: text\n%swant\n%s", c.name, got, c.text)
		}
		if got := string(dec.AppendView(nil, c.m, v, c.top, 0, true)); c.json != "" && got != c.json {
			t.Errorf("%s: JSON\n%swant\n%s", c.name, got, c.json)
		}
	}
	for _, c := range []struct {
		words string
		t     *types.Type
	}{{"p50", stats}, {"p50", sum}, {"rate", hist}, {"by_0", sum}, {"by_2", pair}, {"by_count", pair}, {"by_0", stats}} {
		if _, err := ParseView(c.words, c.t); err == nil {
			t.Errorf("%q of %s was accepted", c.words, c.t)
		}
	}
	for _, w := range ViewWords() {
		ok := false
		for _, typ := range []*types.Type{hist, stats, sum, types.TupleOf([]*types.Type{pair, pair, pair, pair, pair, pair, pair, pair, pair, pair}, nil)} {
			_, err := ParseView(w, typ)
			ok = ok || err == nil
		}
		if !ok {
			t.Errorf("%q is accepted for nothing", w)
		}
	}
}
