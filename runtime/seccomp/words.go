package seccomp

// nearest is the name that a mistyped one was probably meant to be, "" when none is near.
func nearest(word string, names []string) string {
	best, dist := "", 1+len(word)/3
	for _, n := range names {
		if d := distance(word, n, dist); d < dist || d == dist && best == "" {
			best, dist = n, d
		}
	}
	if best == word {
		return ""
	}
	return best
}

// distance is the number of edits between two words, limit+1 when it is more than limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	prev, cur := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			d := prev[j-1]
			if a[i-1] != b[j-1] {
				d++
			}
			cur[j] = min(d, prev[j]+1, cur[j-1]+1)
		}
		prev, cur = cur, prev
	}
	return min(prev[len(b)], limit+1)
}
