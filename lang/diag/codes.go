package diag

import (
	"slices"
	"sort"
)

// Entry documents a code. Doc is a paragraph of Markdown; Example is the shortest script that makes sonde report the
// code, "" when no script alone can (the machine must take part).
type Entry struct {
	Code    Code
	Title   string
	Doc     string
	Example string
}

// Codes returns the table of all codes in order: E01 lexical and syntax, E02 C definitions and the preamble, E03 names and types, E04
// calls and builtins, E05 maps, E06 probes and attach points, E07 kernel features and limits, E08 load, attach and run time,
// E09 internal; W likewise for warnings. The caller must not change it.
func Codes() []Entry {
	all := slices.Concat(syntaxCodes(), cdefCodes(), checkCodes(), runtimeCodes())
	sort.Slice(all, func(i, j int) bool { return all[i].Code < all[j].Code })
	return all
}

// Explain returns the entry of a code, as `sonde explain E0301` prints it.
func Explain(c Code) (Entry, bool) {
	for _, e := range Codes() {
		if e.Code == c {
			return e, true
		}
	}
	return Entry{}, false
}
