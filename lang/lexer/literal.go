package lexer

import (
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// number scans an integer literal and reports malformed ones.
func (s *scanner) number() {
	start := s.pos
	s.pos = s.wordEnd(s.pos)
	text := s.src[start:s.pos]
	if s.afterDot() {
		// A tuple index: digits only, so that `.0e` style names are not taken for exponents.
		s.emit(Int, start)
		return
	}
	s.emit(Int, start)
	if n := ParseInt(text); n.Problem != "" {
		d := s.errorf("E0105", start+n.From, s.pos, "%s", n.Problem)
		if n.Hint != "" {
			d.Hint("%s", n.Hint)
		}
	}
}

// Number is a decoded integer literal.
type Number struct {
	Value    uint64
	Suffix   string // C suffix in lower case: u, l, ul, ll, ull, or ""
	Duration bool   // written with ns, us, ms, s, m, h or d; Value is in nanoseconds
	Overflow bool   // too large for 64 bits, or for the type that the suffix names
	Problem  string // what is malformed, "" when nothing is
	From     int    // where in the text that begins
	Hint     string
}

// ParseInt decodes an integer literal: decimal, octal with a leading 0, hexadecimal with 0x, or digit-e-exponent; `_`
// between digits; then a C suffix or a duration suffix.
func ParseInt(text string) Number {
	var n Number
	bad := func(hint, format string, args ...any) Number {
		return Number{Problem: fmt.Sprintf(format, args...), Hint: hint}
	}
	rest, base := text, uint64(10)
	isHex := len(text) > 1 && text[0] == '0' && text[1]|0x20 == 'x'
	if isHex {
		rest, base = text[2:], 16
	}
	end := 0
	for end < len(rest) && (isDigit(rest[end]) || rest[end] == '_' || isHex && rest[end]|0x20 >= 'a' && rest[end]|0x20 <= 'f') {
		end++
	}
	digits, suffix := rest[:end], rest[end:]
	if strings.HasSuffix(digits, "_") {
		return bad("", "syntax: trailing underscore in integer literal")
	}
	digits = strings.ReplaceAll(digits, "_", "")
	if digits == "" {
		return bad("digits must follow `0x`", "syntax: invalid integer: %s", text)
	}
	if !isHex && len(digits) > 1 && digits[0] == '0' {
		base = 8
		if i := strings.IndexAny(digits, "89"); i >= 0 {
			return bad("drop the leading 0 for a decimal number", "syntax: invalid trailing bytes: %s", text)
		}
	}
	n.Value, n.Overflow = parseDigits(digits, base)

	if base != 16 && suffix != "" && suffix[0]|0x20 == 'e' {
		i := 1
		for i < len(suffix) && (isDigit(suffix[i]) || suffix[i] == '_') {
			i++
		}
		exp := strings.ReplaceAll(suffix[1:i], "_", "")
		switch {
		case exp == "" || exp[0] == '0':
			return bad("write the exponent as 1 or more, like `1e6`", "syntax: invalid trailing bytes: %s", text)
		case strings.HasSuffix(suffix[:i], "_"):
			return bad("", "syntax: trailing underscore in integer literal")
		case base == 8 || n.Overflow || n.Value < 1 || n.Value > 9:
			return bad("", "syntax: coefficient part of scientific literal must be 1-9: %s", text)
		}
		power, over := parseDigits(exp, 10)
		if over || power > 19 {
			n.Overflow = true
		}
		for ; power > 0 && !n.Overflow; power-- {
			hi, lo := bits.Mul64(n.Value, 10)
			n.Value, n.Overflow = lo, hi != 0
		}
		suffix = suffix[i:]
	}
	return n.withSuffix(text, suffix)
}

func parseDigits(digits string, base uint64) (v uint64, overflow bool) {
	for i := 0; i < len(digits); i++ {
		d := uint64(digits[i])
		switch {
		case d <= '9':
			d -= '0'
		default:
			d = d | 0x20 - 'a' + 10
		}
		hi, lo := bits.Mul64(v, base)
		sum, carry := bits.Add64(lo, d, 0)
		if hi != 0 || carry != 0 {
			return 0, true
		}
		v = sum
	}
	return v, false
}

func (n Number) withSuffix(text, suffix string) Number {
	limit, unit := uint64(math.MaxUint64), uint64(1)
	lower := strings.ToLower(suffix)
	switch {
	case suffix == "":
	case lower == "u":
		n.Suffix, limit = lower, math.MaxUint32
	case lower == "ul" || lower == "ull":
		n.Suffix = lower
	case lower == "l" || lower == "ll":
		n.Suffix, limit = lower, math.MaxInt64
	default:
		n.Duration = true
		switch suffix {
		case "ns":
		case "us":
			unit = 1e3
		case "ms":
			unit = 1e6
		case "s":
			unit = 1e9
		case "m":
			unit = 60e9
		case "h":
			unit = 3600e9
		case "d":
			unit = 86400e9
		default:
			hint := "use a C suffix (u, l, ul, ll, ull) or a duration (ns, us, ms, s, m, h, d)"
			if strings.HasPrefix(text, "0b") || strings.HasPrefix(text, "0B") {
				hint = "write it in hexadecimal; there are no binary literals"
			}
			return Number{Problem: fmt.Sprintf("syntax: invalid integer suffix '%s'", suffix), From: len(text) - len(suffix), Hint: hint}
		}
	}
	if n.Value > limit/unit {
		n.Overflow = true
	}
	n.Value *= unit
	return n
}

// str scans a string literal and checks its escapes.
func (s *scanner) str() {
	start := s.pos
	s.pos++
	for {
		switch c := s.at(s.pos); {
		case s.pos >= len(s.src) || c == '\n':
			s.item.Broken = true
			d := s.errorf("E0104", s.pos, s.pos, "syntax: unterminated string")
			d.Hint("end it with `\"` on the same line; write a line break as `\\n`")
			s.emit(String, start)
			return
		case c == '"':
			s.pos++
			s.emit(String, start)
			return
		case c == '\\':
			s.escape()
		default:
			s.pos++
		}
	}
}

// escape checks one escape sequence and passes over it.
func (s *scanner) escape() {
	start := s.pos
	_, n, problem := unescape(s.src[s.pos:])
	s.pos += n
	if problem != "" {
		if strings.HasPrefix(problem, "syntax: invalid escape") { // the character is wrong, not the backslash
			s.errorf("E0104", start+1, s.pos, "%s", problem).Hint("write a backslash itself as `\\\\`")
		} else {
			s.errorf("E0104", start, s.pos, "%s", problem)
		}
	}
}

// unescape decodes the escape at the start of text, which begins with a backslash. It returns the byte, the length of the
// sequence and what is wrong with it.
func unescape(text string) (b byte, n int, problem string) {
	if len(text) < 2 || text[1] == '\n' {
		return '\\', 1, ""
	}
	switch c := text[1]; c {
	case 'n':
		return '\n', 2, ""
	case 't':
		return '\t', 2, ""
	case 'r':
		return '\r', 2, ""
	case '"', '\\':
		return c, 2, ""
	case '0', '1', '2', '3', '4', '5', '6', '7':
		v := 0
		n = 1
		for n < len(text) && n < 4 && text[n] >= '0' && text[n] <= '7' {
			v = v*8 + int(text[n]-'0')
			n++
		}
		if v > 255 {
			return 0, n, fmt.Sprintf("syntax: octal escape sequence out of range '%s'", text[:n])
		}
		return byte(v), n, ""
	case 'x', 'X':
		v := uint64(0)
		n = 2
		for n < len(text) && n < 4 && (isDigit(text[n]) || text[n]|0x20 >= 'a' && text[n]|0x20 <= 'f') {
			n++
		}
		if n == 2 {
			return 0, n, "syntax: invalid hex escape sequence"
		}
		v, _ = parseDigits(text[2:n], 16)
		return byte(v), n, ""
	default:
		// The whole character, should it be longer than a byte.
		n = 2
		for n < len(text) && text[n]&0xc0 == 0x80 {
			n++
		}
		return c, n, fmt.Sprintf("syntax: invalid escape character '%s'", text[:n])
	}
}

// Unquote returns the value of a string literal written with its quotes. Faulty escapes were reported by the scanner and
// stand for some byte here.
func Unquote(text string) string {
	text = strings.TrimPrefix(text, `"`)
	text = strings.TrimSuffix(text, `"`)
	if strings.IndexByte(text, '\\') < 0 {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		if text[i] != '\\' {
			b.WriteByte(text[i])
			i++
			continue
		}
		c, n, _ := unescape(text[i:])
		b.WriteByte(c)
		i += n
	}
	return b.String()
}

// singleQuoted reports 'x' and goes on as if it had been a literal, so that only this is reported.
func (s *scanner) singleQuoted() {
	start := s.pos
	end := s.lineEnd(start)
	s.item.Broken = true
	n := strings.IndexByte(s.src[start+1:end], '\'')
	if n < 0 {
		s.pos++
		s.errorf("E0103", start, s.pos, "unexpected single quote").Hint("use double quotes for strings")
		return
	}
	s.pos = start + n + 2
	body := s.src[start+1 : s.pos-1]
	d := s.errorf("E0104", start, s.pos, "syntax: expected expression: single quotes do not make a string")
	switch {
	case len(body) == 1:
		d.Hint("use double quotes for a string, or the number %d for the character", body[0])
	default:
		d.Hint("use double quotes: \"%s\"", body)
	}
	s.res.Tokens = append(s.res.Tokens, Token{Kind: String, Span: s.span(start, s.pos), Text: `""`})
}
