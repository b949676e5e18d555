package stdlib

import (
	"iter"
	"sort"
	"strings"
)

// maxNearest is how many names a hint suggests at most.
const maxNearest = 3

// nearest picks the names that are most like the wanted one: those that differ by few letters, then those that contain it.
func nearest(want string, names iter.Seq[string]) []string {
	type scored struct {
		name string
		cost int
	}
	limit := 1 + len(want)/4
	low := strings.ToLower(want)
	var found []scored
	seen := make(map[string]bool)
	for name := range names {
		if name == want || seen[name] {
			continue
		}
		// Names that contain the wanted one rank behind all misspellings, the shortest first.
		cost := limit + 1 + len(name)
		if d := len(name) - len(want); d <= limit && -d <= limit {
			if c := distance(low, strings.ToLower(name), limit); c <= limit {
				cost = c
			}
		}
		if cost > limit && (len(want) < 3 || !strings.Contains(strings.ToLower(name), low)) {
			continue
		}
		seen[name] = true
		found = append(found, scored{name, cost})
		if len(found) > 256 {
			sort.SliceStable(found, func(i, j int) bool { return found[i].cost < found[j].cost })
			found = found[:16]
		}
	}
	sort.Slice(found, func(i, j int) bool {
		if found[i].cost != found[j].cost {
			return found[i].cost < found[j].cost
		}
		return found[i].name < found[j].name
	})
	var out []string
	for _, f := range found {
		if len(out) == maxNearest {
			break
		}
		out = append(out, f.name)
	}
	return out
}

// distance is the number of letters to insert, remove, change or swap to get from a to b; more than limit is not counted out.
func distance(a, b string, limit int) int {
	var rows [3][64]int
	if len(b) >= len(rows[0]) || len(a) >= len(rows[0]) {
		return limit + 1
	}
	prev2, prev, cur := rows[0][:len(b)+1], rows[1][:len(b)+1], rows[2][:len(b)+1]
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		best := i
		for j := 1; j <= len(b); j++ {
			c := 1
			if a[i-1] == b[j-1] {
				c = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+c)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
			best = min(best, cur[j])
		}
		if best > limit {
			return best
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
