package object

import "github.com/sonde-sh/sonde/lang/types"

// How aggregations lie in memory. Each CPU has its own copy; user space combines them. All words are 64 bits.
//
//	Count        n
//	Sum          total
//	Min, Max     value, set (0 or 1)
//	Avg, Stats   total, count
//	Hist         HistBuckets(k) counters; see HistIndex
//	LHist        LHistBuckets counters; see LHistIndex
//	TSeries      Buckets times {epoch (interval number + 1; 0 is empty), value, aux}: aux is the count for avg, the set flag for
//	             min and max, the time of the last value for the plain kind
//
// In a GlobalSlot with SetOff >= 0 and in hash maps a value exists as soon as it was written once.

// AggSize returns the bytes that one CPU's copy of an aggregation takes.
func AggSize(t *types.Type) int {
	switch t.Kind {
	case types.Count, types.Sum:
		return 8
	case types.Min, types.Max, types.Avg, types.Stats:
		return 16
	case types.Hist:
		return 8 * HistBuckets(t.Bits)
	case types.LHist:
		return 8 * LHistBuckets(t)
	case types.TSeries:
		return 24 * t.Buckets
	}
	return t.Size
}

// HistBuckets is the number of buckets of hist(x, k): one for negative values, then 1<<k for each power of two.
func HistBuckets(k int) int { return (65-k)<<k + 1 }

// HistIndex gives the bucket of a value: 0 for negative ones, v+1 below 1<<k, then 1<<k buckets per power of two.
func HistIndex(v int64, k int) int {
	if v < 0 {
		return 0
	}
	if v < 1<<k {
		return int(v) + 1
	}
	p := 0
	for x := v; x > 1; x >>= 1 {
		p++
	}
	return (p-k+1)<<k + int(v>>(p-k)) - 1<<k + 1
}

// HistLow gives the smallest value of bucket i (i > 0).
func HistLow(i, k int) uint64 {
	i--
	if i < 2<<k {
		return uint64(i)
	}
	p, sub := i>>k-1, i&(1<<k-1)
	return uint64(1<<k+sub) << p
}

// LHistBuckets is the number of buckets of lhist(x, lo, hi, step): below, (hi-lo)/step, above.
func LHistBuckets(t *types.Type) int { return int((t.Hi-t.Lo)/t.Step) + 2 }

// LHistIndex gives the bucket of a value.
func LHistIndex(v int64, t *types.Type) int {
	switch {
	case v < t.Lo:
		return 0
	case v >= t.Hi:
		return LHistBuckets(t) - 1
	}
	return int((v-t.Lo)/t.Step) + 1
}
