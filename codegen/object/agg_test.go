package object

import (
	"math"
	"testing"
)

func TestHistIndexAgreesWithLow(t *testing.T) {
	for k := 0; k <= 5; k++ {
		last := 0
		for _, v := range []int64{0, 1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 63, 64, 100, 1000, 4095, 4096, 1 << 40, math.MaxInt64} {
			i := HistIndex(v, k)
			if i < last || i >= HistBuckets(k) {
				t.Errorf("k=%d v=%d: bucket %d of %d after %d", k, v, i, HistBuckets(k), last)
			}
			last = i
			if lo := HistLow(i, k); lo > uint64(v) || HistLow(i+1, k) <= uint64(v) {
				t.Errorf("k=%d v=%d: bucket %d is [%d,%d)", k, v, i, lo, HistLow(i+1, k))
			}
		}
	}
	if HistIndex(-1, 0) != 0 || HistIndex(0, 0) != 1 || HistIndex(1, 0) != 2 || HistIndex(5, 0) != 4 {
		t.Error("log2 buckets moved")
	}
}
