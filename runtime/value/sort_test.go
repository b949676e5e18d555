package value

import (
	"cmp"
	"math/rand"
	"slices"
	"testing"
)

// TestSortPlaces compares the order of places with that of a plain sort.
func TestSortPlaces(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	compare := func(a, b place) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.key, b.key), cmp.Compare(a.index, b.index))
	}
	for name, make1 := range map[string]func() place{
		"all the same":   func() place { return place{} },
		"few ranks":      func() place { return place{rank: uint64(rng.Intn(3))} },
		"small keys":     func() place { return place{rank: 7, key: 1<<63 + uint64(rng.Intn(5000))} },
		"anything":       func() place { return place{rank: rng.Uint64(), key: rng.Uint64()} },
		"ranks and keys": func() place { return place{rank: uint64(rng.Intn(300)), key: uint64(rng.Intn(70000))} },
	} {
		for _, n := range []int{0, 1, 2, fewPlaces, fewPlaces + 1, 1000, 20000} {
			got := make([]place, n)
			for i := range got {
				got[i] = make1()
				got[i].index = int32(i)
			}
			want := slices.Clone(got)
			slices.SortFunc(want, compare)
			sortPlaces(got, 0, compare)
			if !slices.Equal(got, want) {
				t.Errorf("%s, %d places: not in order", name, n)
			}
		}
	}
}
