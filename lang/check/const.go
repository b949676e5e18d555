package check

import (
	"strconv"

	"github.com/sonde-sh/sonde/lang/types"
)

// Text prints the constant as the language writes it; t is its type.
func (c Const) Text(t *types.Type) string {
	switch {
	case c.IsString:
		return strconv.Quote(c.Str)
	case t != nil && t.Kind == types.Bool:
		return strconv.FormatBool(c.Int != 0)
	case t != nil && !t.Signed:
		return strconv.FormatUint(uint64(c.Int), 10)
	}
	return strconv.FormatInt(c.Int, 10)
}

// ParseInt reads an integer as the language writes it: decimal, octal, hexadecimal, 1e6, 1_000, with a sign.
func ParseInt(text string) (int64, bool) {
	v, neg, ok := parseInt(text)
	if !ok {
		v, ok = parseDuration(text)
	}
	if neg {
		return -int64(v), ok
	}
	return int64(v), ok
}

// AddOption registers a named parameter; it reports false when the name is taken with another default.
func (i *Info) AddOption(o *Option) bool {
	for _, old := range i.Options {
		if old.Name == o.Name {
			if old.Help == "" {
				old.Help = o.Help
			}
			return old.Kind == o.Kind && old.Default == o.Default
		}
	}
	i.Options = append(i.Options, o)
	return true
}
