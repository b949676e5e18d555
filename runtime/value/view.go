package value

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/lang/types"
)

// View is a way to print a map that print(@m, words...) asks for. The zero View prints it as ever.
type View struct {
	Percentiles []Percentile // of histograms: the buckets that they lie in, instead of all buckets
	By          int          // which part of the value the entries are sorted by, from 0; -1: as ever
	Rate        bool         // counts and sums per second
	Seconds     float64      // how long the map has been filled, for Rate
}

// Percentile is a word such as p99 and the part of the values that it means, 0.99.
type Percentile struct {
	Word string
	Part float64
}

// statsFields are the parts of a stats() value, in the order in which they print.
var statsFields = []string{"count", "average", "total"}

// ViewWords lists the words that ParseView knows: p1 to p99, p999 and p9999; by_count, by_average, by_total, by_0 to by_9; rate.
func ViewWords() []string {
	var words []string
	for i := 1; i < 100; i++ {
		words = append(words, "p"+strconv.Itoa(i))
	}
	words = append(words, "p999", "p9999", "rate")
	for _, f := range statsFields {
		words = append(words, "by_"+f)
	}
	for i := range 10 {
		words = append(words, "by_"+strconv.Itoa(i))
	}
	return words
}

// ParseView reads words that are separated by blanks, and checks them against the type of the map's values. The error says what is wrong.
func ParseView(words string, t *types.Type) (View, error) {
	v := View{By: -1}
	for word := range strings.FieldsSeq(words) {
		switch {
		case word == "rate":
			if !hasRate(t) {
				return v, fmt.Errorf("`rate` needs counts, sums or integers, not %s", t)
			}
			v.Rate = true
		case strings.HasPrefix(word, "by_"):
			i, err := sortField(word[len("by_"):], t)
			if err != nil {
				return v, err
			}
			v.By = i
		default:
			if t.Kind != types.Hist && t.Kind != types.LHist {
				return v, fmt.Errorf("`%s` needs a map of hist() or lhist(), not %s", word, t)
			}
			digits := word[1:]
			n, err := strconv.ParseFloat("0."+digits, 64)
			if err == nil && len(digits) == 1 {
				n /= 10 // p5 is the fifth per cent
			}
			if err != nil || word[0] != 'p' {
				return v, fmt.Errorf("`%s` is no percentile", word)
			}
			v.Percentiles = append(v.Percentiles, Percentile{word, n})
		}
	}
	return v, nil
}

func hasRate(t *types.Type) bool {
	switch t.Kind {
	case types.Count, types.Sum, types.Int, types.Stats:
		return true
	}
	return false
}

// sortField finds the part of a value that a word after by_ names.
func sortField(name string, t *types.Type) (int, error) {
	switch t.Kind {
	case types.Stats:
		for i, f := range statsFields {
			if f == name {
				return i, nil
			}
		}
		return 0, fmt.Errorf("`by_%s` does not exist: values of stats() have by_count, by_average and by_total", name)
	case types.Tuple, types.Record:
		if i, err := strconv.Atoi(name); err == nil && i < len(t.Fields) {
			return i, nil
		}
		return 0, fmt.Errorf("`by_%s` does not exist: the values have by_0 to by_%d", name, len(t.Fields)-1)
	}
	return 0, fmt.Errorf("`by_%s` needs values of stats() or tuples, not %s", name, t)
}

// compare orders parts of values: numbers before texts.
func compare(a, b V) int {
	number := func(v V) (uint64, bool) {
		switch v.Kind {
		case Int:
			return rank(uint64(v.Int), true), true
		case Uint, Sym, Bool:
			if v.U >= signBit {
				return ^uint64(0), true
			}
			return v.U | signBit, true
		}
		return 0, false
	}
	x, xok := number(a)
	y, yok := number(b)
	switch {
	case xok && yok:
		return cmp.Compare(x, y)
	case xok != yok:
		if xok {
			return -1
		}
		return 1
	}
	return strings.Compare(Text(a), Text(b))
}

// ViewRows gives a map's entries as the view shows them, top of them when it is not 0. asJSON chooses the form for machines.
func (d *Decoder) ViewRows(m *Dump, v View, top, div uint64, asJSON bool) []Row {
	keep := top
	if v.By >= 0 {
		keep = 0 // the rows are cut when they are sorted
	}
	rows := d.Rows(m, keep, div)
	if v.By >= 0 {
		sort.SliceStable(rows, func(i, j int) bool {
			a, b := rows[i].Val.List, rows[j].Val.List
			return v.By < len(a) && v.By < len(b) && compare(a[v.By], b[v.By]) < 0
		})
		if n := uint64(len(rows)); top > 0 && n > top {
			rows = rows[n-top:]
		}
	}
	for i := range rows {
		switch {
		case len(v.Percentiles) > 0 && rows[i].Val.Kind == Histogram:
			rows[i].Val = v.summary(rows[i].Val.Hist, asJSON)
		case v.Rate:
			rows[i].Val = v.rate(rows[i].Val, asJSON)
		}
	}
	return rows
}

// summary is the number of values of a histogram and the buckets of the percentiles.
func (v View) summary(h *Hist, asJSON bool) V {
	total := uint64(0)
	for _, n := range h.Counts {
		total += n
	}
	out := V{Kind: Record, Names: []string{"count"}, List: []V{{Kind: Uint, U: total}}}
	for _, p := range v.Percentiles {
		out.Names = append(out.Names, p.Word)
		out.List = append(out.List, h.percentile(p.Part, total, asJSON))
	}
	return out
}

// percentile is the first bucket up to which part of the values lie: an interval, because a histogram knows no more.
func (h *Hist) percentile(part float64, total uint64, asJSON bool) V {
	want, seen := part*float64(total), uint64(0)
	for i, n := range h.Counts {
		if seen += n; float64(seen) < want || seen == 0 {
			continue
		}
		if !asJSON {
			return V{Kind: Str, S: string(h.appendBucket(nil, i))}
		}
		b := V{Kind: Record}
		if i > 0 || !h.OpenLow {
			b.Names, b.List = append(b.Names, "min"), append(b.List, V{Kind: Int, Int: h.Bounds[i].Value})
		}
		if i < len(h.Counts)-1 || !h.OpenHigh {
			b.Names, b.List = append(b.Names, "max"), append(b.List, V{Kind: Int, Int: h.Bounds[i+1].Value - 1})
		}
		return b
	}
	return V{Kind: Str}
}

// rate divides by the seconds that the map has been filled. An average stays what it is.
func (v View) rate(x V, asJSON bool) V {
	per := func(n float64) V {
		text := strconv.FormatFloat(n/max(v.Seconds, 1e-3), 'f', 1, 64)
		if asJSON {
			return V{Kind: Number, S: text}
		}
		return V{Kind: Str, S: text + "/s"}
	}
	switch x.Kind {
	case Int:
		return per(float64(x.Int))
	case Uint:
		return per(float64(x.U))
	case Record:
		list := make([]V, len(x.List))
		for i, e := range x.List {
			if list[i] = e; x.Names[i] != "average" {
				list[i] = v.rate(e, asJSON)
			}
		}
		return V{Kind: Record, Names: x.Names, List: list}
	}
	return x
}

// viewKind is what the JSON form calls the output of a view.
func (v View) kind() string {
	switch {
	case len(v.Percentiles) > 0:
		return "percentiles"
	case v.Rate:
		return "rate"
	}
	return ""
}

// AppendView appends a map as the view shows it: as text, or as one line of JSON, {"type": "percentiles", "data": {"@us": ...}} for percentiles and
// "rate" for rates; a view that only sorts has the type of the map.
func (d *Decoder) AppendView(dst []byte, m *Dump, v View, top, div uint64, asJSON bool) []byte {
	rows := d.ViewRows(m, v, top, div, asJSON)
	if asJSON {
		return d.appendRowsJSON(dst, m, slices.All(rows), v.kind())
	}
	return d.appendRows(dst, m, slices.All(rows))
}
