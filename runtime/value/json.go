package value

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// AppendJSON appends the JSON form of a value: tuples and arrays as arrays without spaces, records as objects, symbols by number,
// integers that a 64-bit float cannot hold as strings.
func AppendJSON(dst []byte, v V) []byte {
	switch v.Kind {
	case Bool:
		return strconv.AppendBool(dst, v.U != 0)
	case Int:
		return AppendJSONInt(dst, v.Int)
	case Uint, Sym:
		return AppendJSONUint(dst, v.U)
	case Str:
		return AppendJSONString(dst, v.S)
	case Number:
		return append(dst, v.S...)
	case Buf:
		dst = append(dst, '[')
		for i := 0; i < len(v.S); i++ {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = strconv.AppendInt(dst, int64(int8(v.S[i])), 10)
		}
		return append(dst, ']')
	case Array, Tuple:
		dst = append(dst, '[')
		for i, e := range v.List {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendJSON(dst, e)
		}
		return append(dst, ']')
	case Record:
		dst = append(dst, '{')
		for i, e := range v.List {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = append(AppendJSONString(dst, v.Names[i]), ": "...)
			dst = AppendJSON(dst, e)
		}
		return append(dst, '}')
	case Histogram:
		return v.Hist.appendJSON(dst)
	case Series:
		return appendSeriesJSON(dst, v.TS)
	}
	return append(dst, "null"...)
}

// AppendJSONInt appends an integer, quoted when a float64 cannot hold it exactly.
func AppendJSONInt(dst []byte, v int64) []byte {
	if f := float64(v); f >= 1<<63 || int64(f) != v {
		return append(strconv.AppendInt(append(dst, '"'), v, 10), '"')
	}
	return strconv.AppendInt(dst, v, 10)
}

// AppendJSONUint is AppendJSONInt for unsigned integers.
func AppendJSONUint(dst []byte, v uint64) []byte {
	if f := float64(v); f >= 1<<64 || uint64(f) != v {
		return append(strconv.AppendUint(append(dst, '"'), v, 10), '"')
	}
	return strconv.AppendUint(dst, v, 10)
}

// AppendJSONString appends a quoted string. JSON is UTF-8: a byte that belongs to no character becomes the code point of its number, \u00ff.
func AppendJSONString(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= utf8.RuneSelf {
			if _, n := utf8.DecodeRuneInString(s[i:]); n > 1 {
				dst = append(dst, s[i:i+n]...)
				i += n - 1
				continue
			}
		}
		switch {
		case c == '"', c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c < 0x20, c >= utf8.RuneSelf:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// AppendJSONKey appends a map key as an object key: its text without parentheses and spaces, but for those of a string.
func AppendJSONKey(dst []byte, key V) []byte {
	k := AppendKey(nil, key)
	if key.Kind != Str || key.Stack {
		k = bytes.ReplaceAll(k, []byte(" "), nil)
	}
	return AppendJSONString(dst, string(k))
}
