package stdlib

import (
	"iter"
	"sort"
	"strings"

	"github.com/sonde-sh/sonde/lang/diag"
)

const (
	maxNearest = 3  // how many names a hint suggests at most
	longName   = 64 // names from this length on are only searched for the wanted one
)

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
		if d := len(name) - len(want); d <= limit && -d <= limit && max(len(name), len(want)) < longName {
			if c := diag.Distance(low, strings.ToLower(name), limit); c <= limit {
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
