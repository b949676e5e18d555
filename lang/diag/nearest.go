package diag

import "strings"

// Nearest returns the candidate that name was most likely meant to be, "" when none is close. Case and underscores count
// for nothing; the longer the name, the more edits are forgiven, at most three. The leading sigil ($, @) must agree.
// Among equally close candidates the one of most similar length wins, then the first in the alphabet, so that the answer does
// not depend on their order.
func Nearest(name string, candidates []string) string {
	want, sigil := fold(name)
	if want == "" {
		return ""
	}
	limit := 3
	switch {
	case len(want) <= 3:
		limit = 1
	case len(want) <= 6:
		limit = 2
	}
	apart := func(c string) int { return max(len(c)-len(name), len(name)-len(c)) }
	best, bestDist := "", limit+1
	for _, c := range candidates {
		if c == name {
			continue
		}
		have, s := fold(c)
		if s != sigil || len(have)-len(want) > limit || len(want)-len(have) > limit {
			continue
		}
		d := Distance(want, have, min(bestDist, limit))
		// A candidate that shares no letter with a short name is no suggestion.
		if d >= len(want) && d > 0 {
			continue
		}
		closer := d < bestDist || d == bestDist && best != "" &&
			(apart(c) < apart(best) || apart(c) == apart(best) && c < best)
		if closer {
			best, bestDist = c, d
		}
	}
	return best
}

func fold(s string) (folded string, sigil byte) {
	if s != "" && (s[0] == '$' || s[0] == '@') {
		sigil, s = s[0], s[1:]
	}
	return strings.ToLower(strings.ReplaceAll(s, "_", "")), sigil
}

// Distance is the number of insertions, deletions, replacements and swaps of neighbours that turn a into b, or limit+1
// when it is larger than limit. It allocates nothing for b of less than 64 bytes: suggestions look at every function of a kernel.
func Distance(a, b string, limit int) int {
	var short [3][64]int
	prev2, prev, cur := short[0][:], short[1][:], short[2][:]
	if len(b) >= len(short[0]) {
		prev2, prev, cur = make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	}
	prev2, prev, cur = prev2[:len(b)+1], prev[:len(b)+1], cur[:len(b)+1]
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		low := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
			low = min(low, cur[j])
		}
		if low > limit {
			return limit + 1
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return min(prev[len(b)], limit+1)
}
