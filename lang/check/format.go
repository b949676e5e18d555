package check

import (
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/lang/types"
)

// Verb is one conversion of a printf format.
type Verb struct {
	Start, End int    // bytes of the format, from the % on
	Flags      string // of "-+ #0"
	Width      int    // -1 when absent
	Precision  int    // -1 when absent
	Length     string // "hh", "h", "l", "ll", "j", "z", "t" or ""
	Conv       string // "d", "s", ... or "r", "rx", "rh", "gr"
}

// ParseFormat splits a printf format. A % that starts no conversion is text, as `%%` is.
func ParseFormat(format string) []Verb {
	var verbs []Verb
	for i := 0; i < len(format); {
		if format[i] != '%' {
			i++
			continue
		}
		if i+1 < len(format) && format[i+1] == '%' {
			i += 2
			continue
		}
		v, ok := parseVerb(format, i)
		if !ok {
			i++
			continue
		}
		verbs = append(verbs, v)
		i = v.End
	}
	return verbs
}

func parseVerb(s string, start int) (Verb, bool) {
	v := Verb{Start: start, Width: -1, Precision: -1}
	i := start + 1
	from := i
	for i < len(s) && strings.IndexByte("-+ #0", s[i]) >= 0 {
		i++
	}
	v.Flags = s[from:i]
	v.Width, i = parseDigits(s, i)
	if i < len(s) && s[i] == '.' {
		v.Precision, i = parseDigits(s, i+1)
		v.Precision = max(v.Precision, 0)
	}
	for _, l := range []string{"hh", "ll", "h", "l", "j", "z", "t"} {
		if strings.HasPrefix(s[i:], l) {
			v.Length = l
			i += len(l)
			break
		}
	}
	for _, c := range []string{"rx", "rh", "gr", "r", "d", "i", "u", "x", "X", "o", "c", "s", "p"} {
		if strings.HasPrefix(s[i:], c) {
			v.Conv, v.End = c, i+len(c)
			return v, true
		}
	}
	return v, false
}

func parseDigits(s string, i int) (n, end int) {
	from := i
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	if i == from {
		return -1, i
	}
	n, err := strconv.Atoi(s[from:i])
	if err != nil {
		n = 1 << 20
	}
	return n, i
}

// Accepts tells whether a conversion can print a value of a type; want says what it prints.
func (v Verb) Accepts(t *types.Type) (ok bool, want string) {
	switch v.Conv {
	case "s":
		switch t.Kind {
		case types.Void, types.TypeValue, types.Module, types.MapKind, types.Hist, types.LHist, types.TSeries, types.Stats:
			return false, "a value"
		}
		return true, ""
	case "r", "rx", "rh":
		return t.Kind == types.Buffer, "a buffer"
	}
	switch t.Kind {
	case types.Int, types.Bool, types.Enum, types.Pointer, types.Strerror, types.Signal, types.Syscall:
		return true, ""
	}
	return isCastable(t), "an integer"
}

// noSuchVerb returns a conversion of C that is not there: one of a floating-point number, or n; empty when there is none.
func noSuchVerb(format string) string {
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			continue
		}
		for i++; i < len(format) && strings.IndexByte("-+ #0123456789.hljztL", format[i]) >= 0; i++ {
		}
		if i < len(format) && strings.IndexByte("aAeEfFgGn", format[i]) >= 0 && !strings.HasPrefix(format[i:], "gr") {
			return format[i : i+1]
		}
	}
	return ""
}

// CheckFormat checks the arguments of a call against the printf format that is its argument at.
func CheckFormat(c *Call, at int) {
	format, ok := c.Str(at)
	if !ok {
		return
	}
	verbs := ParseFormat(format)
	args := c.Args[at+1:]
	if v := noSuchVerb(format); v != "" {
		c.Diags.Errorf(CodeFormat, c.Node.Sp, "unsupported format specifier: %s", v).Hint("there are no floating-point numbers")
		return
	}
	switch {
	case len(args) < len(verbs):
		c.Diags.Errorf(CodeFormat, c.Node.Sp, "not enough arguments for format string (%d supplied, %d expected)", len(args), len(verbs))
		return
	case len(args) > len(verbs):
		c.Diags.Errorf(CodeFormat, c.Node.Sp, "too many arguments for format string (%d supplied, %d expected)", len(args), len(verbs))
		return
	}
	for i, v := range verbs {
		t := c.Type(at + 1 + i)
		if t == nil || t.Kind == types.Invalid {
			continue
		}
		ok, want := v.Accepts(t)
		if ok && (v.Conv == "s" || !isCastable(t) || !c.Info.Strict) {
			continue
		}
		spec := format[v.Start:v.End]
		d := c.Diags.Errorf(CodeFormat, c.Node.Sp, "unsupported format specifier for type '%s': %s", t, v.Conv)
		switch {
		case isCastable(t):
			d.Hint("add a cast: `(int64)...`")
		case t.Kind == types.String || t.Kind == types.KSym || t.Kind == types.USym:
			d.Hint("`%s` prints %s: use `%%s`", spec, want)
		case v.Conv[0] == 'r':
			d.Hint("`%s` prints %s: use `buf(...)`", spec, want)
		default:
			d.Hint("`%s` prints %s", spec, want)
		}
	}
}
