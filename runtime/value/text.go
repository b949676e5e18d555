package value

import (
	"strconv"
)

// AppendText appends the text form of a value: tuples (1, a), arrays [1,2], records { .a = 1, .b = 2 }.
func AppendText(dst []byte, v V) []byte {
	switch v.Kind {
	case Bool:
		return strconv.AppendBool(dst, v.U != 0)
	case Int:
		return strconv.AppendInt(dst, v.Int, 10)
	case Uint:
		return strconv.AppendUint(dst, v.U, 10)
	case Str, Sym, Number:
		return append(dst, v.S...)
	case Buf:
		return AppendHex(dst, v.S, true, true)
	case Array:
		dst = append(dst, '[')
		for i, e := range v.List {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendText(dst, e)
		}
		return append(dst, ']')
	case Tuple:
		dst = append(dst, '(')
		for i, e := range v.List {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = AppendText(dst, e)
		}
		return append(dst, ')')
	case Record:
		if len(v.List) == 0 {
			return append(dst, "{}"...)
		}
		dst = append(dst, "{ "...)
		for i, e := range v.List {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = append(append(append(dst, '.'), v.Names[i]...), " = "...)
			dst = AppendText(dst, e)
		}
		return append(dst, " }"...)
	case Histogram:
		return v.Hist.appendText(dst)
	case Series:
		return appendSeries(dst, v.TS)
	}
	return append(dst, "null"...)
}

// Text returns the text form of a value.
func Text(v V) string { return string(AppendText(nil, v)) }

// AppendHex appends bytes as buf() prints them: printable ones as they are when ascii is set, others as \x00, or as 00 separated
// by spaces when escape is not set.
func AppendHex(dst []byte, s string, ascii, escape bool) []byte {
	const digits = "0123456789abcdef"
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case ascii && c >= 32 && c <= 126:
			dst = append(dst, c)
		case escape:
			dst = append(dst, '\\', 'x', digits[c>>4], digits[c&15])
		default:
			dst = append(dst, digits[c>>4], digits[c&15])
			if i != len(s)-1 {
				dst = append(dst, ' ')
			}
		}
	}
	return dst
}

// AppendKey appends a map key as it stands between the brackets: a tuple without its parentheses.
func AppendKey(dst []byte, key V) []byte {
	n := len(dst)
	dst = AppendText(dst, key)
	if s := dst[n:]; len(s) >= 2 && s[0] == '(' && s[len(s)-1] == ')' {
		copy(s, s[1:len(s)-1])
		dst = dst[:len(dst)-2]
	}
	return dst
}
