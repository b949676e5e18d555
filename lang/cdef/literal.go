package cdef

import (
	"strconv"
	"strings"
)

// literal evaluates a macro body that is one literal: an integer, a character or strings side by side, perhaps with a minus
// or parentheses around it.
func literal(body string) (Value, bool) {
	body = strings.TrimSpace(body)
	for len(body) > 2 && body[0] == '(' && body[len(body)-1] == ')' && !strings.ContainsAny(body[1:len(body)-1], "()") {
		body = strings.TrimSpace(body[1 : len(body)-1])
	}
	if body == "" {
		return Value{}, false
	}
	if body[0] == '"' {
		return literalString(body)
	}
	return literalInt(body)
}

func literalString(body string) (Value, bool) {
	v := Value{IsString: true}
	for body != "" {
		if body[0] != '"' {
			return Value{}, false
		}
		end := 1
		for end < len(body) && body[end] != '"' {
			if body[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(body) {
			return Value{}, false
		}
		v.Str += unescape(body[1:end])
		body = strings.TrimSpace(body[end+1:])
	}
	return v, true
}

// unescape resolves C's escapes; unknown ones stand for the character behind the backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if j := strings.IndexByte("abefnrtv", s[i]); j >= 0 {
			b.WriteByte("\a\b\x1b\f\n\r\t\v"[j])
			continue
		}
		base, max, start := 0, 0, i
		switch {
		case s[i] >= '0' && s[i] <= '7':
			base, max = 8, 3
		case s[i] == 'x':
			base, max, start = 16, 2, i+1
		default:
			b.WriteByte(s[i])
			continue
		}
		end := start
		for end < len(s) && end < start+max && strings.IndexByte("0123456789abcdefABCDEF", s[end]) >= 0 && (base == 16 || s[end] < '8') {
			end++
		}
		n, err := strconv.ParseUint(s[start:end], base, 16)
		if err == nil {
			b.WriteByte(byte(n))
		}
		i = end - 1
	}
	return b.String()
}

// literalInt evaluates an integer or character literal with C's suffixes and an optional sign.
func literalInt(body string) (Value, bool) {
	text := strings.TrimSpace(body)
	negative := false
	if rest, ok := strings.CutPrefix(text, "-"); ok {
		negative, text = true, strings.TrimSpace(rest)
	}
	if len(text) >= 3 && text[0] == '\'' && text[len(text)-1] == '\'' {
		if s := unescape(text[1 : len(text)-1]); len(s) == 1 {
			return signed(Value{Int: int64(int8(s[0]))}, negative), true
		}
		return Value{}, false
	}
	digits := strings.TrimRight(text, "uUlL")
	suffix := strings.ToLower(text[len(digits):])
	switch suffix {
	case "", "u", "l", "ul", "lu", "ll", "ull", "llu":
	default:
		return Value{}, false
	}
	if digits == "" || digits[0] < '0' || digits[0] > '9' || strings.Contains(digits, "_") {
		return Value{}, false
	}
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		digits = "0o" + digits[1:]
	}
	n, err := strconv.ParseUint(digits, 0, 64)
	if err != nil {
		return Value{}, false
	}
	v := Value{Int: int64(n), Unsigned: n > 1<<63-1}
	return signed(v, negative), true
}

func signed(v Value, negative bool) Value {
	if negative {
		v.Int, v.Unsigned = -v.Int, false
	}
	return v
}
