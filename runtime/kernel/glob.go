package kernel

import "strings"

// Glob is a compiled name pattern: `*` stands for any run of characters (also none). Every other
// character stands for itself, so a name without wildcards matches only itself. The empty pattern matches every name,
// which is what a listing without an argument wants. The zero Glob is the empty pattern.
type Glob struct {
	pattern string
	prefix  string // literal characters before the first wildcard: most names are refused by these alone
	literal bool
	all     bool
}

// CompileGlob prepares a pattern. It cannot fail: every string is a valid pattern.
func CompileGlob(pattern string) Glob {
	g := Glob{pattern: pattern}
	i := strings.IndexByte(pattern, '*')
	switch {
	case pattern == "":
		g.all = true
	case i < 0:
		g.literal, g.prefix = true, pattern
	default:
		g.prefix = pattern[:i]
		g.all = strings.Trim(pattern, "*") == ""
	}
	return g
}

// HasWildcard tells whether the pattern can match more than one name.
func HasWildcard(pattern string) bool { return strings.Contains(pattern, "*") }

// String returns the pattern as it was written.
func (g Glob) String() string { return g.pattern }

// IsLiteral tells whether the pattern matches exactly one name, itself.
func (g Glob) IsLiteral() bool { return g.literal }

// Match reports whether the whole of name matches.
func (g Glob) Match(name string) bool {
	if g.all || g.pattern == "" {
		return true
	}
	if g.literal {
		return name == g.pattern
	}
	if !strings.HasPrefix(name, g.prefix) {
		return false
	}
	return globMatch(g.pattern[len(g.prefix):], name[len(g.prefix):])
}

// globMatch is the usual two-pointer match with one backtrack point: linear in practice, never exponential.
func globMatch(pat, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		switch {
		case p < len(pat) && pat[p] == '*':
			star, mark = p, i
			p++
		case p < len(pat) && pat[p] == s[i]:
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pat) && pat[p] == '*' {
		p++
	}
	return p == len(pat)
}
