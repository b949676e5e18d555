package value

import (
	"math"
	"strconv"
	"strings"
)

// Format is a compiled printf format string. The zero Format prints nothing.
type Format struct {
	Pieces []Piece
	Tail   string // text behind the last verb
}

// Piece is literal text and the verb behind it.
type Piece struct {
	Text string
	Spec Spec
}

// Spec is one conversion: %[flags][width][.precision][length]verb.
type Spec struct {
	Left, Plus, Space, Alt, Zero bool
	Width                        int // 0: none
	Precision                    int // -1: none
	Length                       string
	Verb                         string // d i u o x X c s p r rx rh gr
	Plain                        bool   // no flags, width, precision or length
}

// ParseFormat compiles a format string. `%%` is a per cent sign, and so is a % that starts no conversion, as the checker counts them.
func ParseFormat(s string) Format {
	var f Format
	var text strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '%' {
			text.WriteByte(s[i])
			i++
			continue
		}
		if i+1 < len(s) && s[i+1] == '%' {
			text.WriteByte('%')
			i += 2
			continue
		}
		spec, n, ok := parseSpec(s[i:])
		if !ok {
			text.WriteByte('%')
			i++
			continue
		}
		f.Pieces = append(f.Pieces, Piece{text.String(), spec})
		text.Reset()
		i += n
	}
	f.Tail = text.String()
	return f
}

// parseSpec reads the conversion at the start of a text; ok is false when there is none.
func parseSpec(s string) (spec Spec, n int, ok bool) {
	sp := Spec{Precision: -1}
	i := 1
flags:
	for ; i < len(s); i++ {
		switch s[i] {
		case '-':
			sp.Left = true
		case '+':
			sp.Plus = true
		case ' ':
			sp.Space = true
		case '#':
			sp.Alt = true
		case '0':
			sp.Zero = true
		default:
			break flags
		}
	}
	number := func() int {
		n := 0
		for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
			n = min(n*10+int(s[i]-'0'), 1<<16)
		}
		return n
	}
	sp.Width = number()
	if i < len(s) && s[i] == '.' {
		i++
		sp.Precision = number()
	}
	start := i
	for i < len(s) && strings.IndexByte("hlLjzt", s[i]) >= 0 {
		i++
	}
	sp.Length = s[start:i]
	if i >= len(s) {
		return sp, i, false
	}
	sp.Verb = s[i : i+1]
	i++
	switch sp.Verb {
	case "d", "i", "u", "o", "x", "X", "c", "s", "p":
	case "r":
		if i < len(s) && (s[i] == 'x' || s[i] == 'h') {
			sp.Verb += s[i : i+1]
			i++
		}
	case "g":
		if i < len(s) && s[i] == 'r' {
			sp.Verb = "gr"
			i++
			break
		}
		fallthrough
	default:
		return sp, i, false
	}
	sp.Plain = !sp.Left && !sp.Plus && !sp.Space && !sp.Alt && !sp.Zero && sp.Width == 0 && sp.Precision < 0 && sp.Length == ""
	return sp, i, true
}

// Append appends the text with the arguments filled in; missing arguments print as an error in place, never as nothing.
func (f *Format) Append(dst []byte, args []V) []byte {
	for i := range f.Pieces {
		dst = append(dst, f.Pieces[i].Text...)
		if i < len(args) {
			dst = f.Pieces[i].Spec.Append(dst, args[i])
		} else {
			dst = append(dst, "!{missing argument}"...)
		}
	}
	return append(dst, f.Tail...)
}

// number gives the integer that a value stands for.
func number(v V) (u uint64, signed, ok bool) {
	switch v.Kind {
	case Int:
		return uint64(v.Int), true, true
	case Uint, Bool, Sym:
		return v.U, false, true
	}
	return 0, false, false
}

// Append appends one converted value.
func (sp *Spec) Append(dst []byte, v V) []byte {
	start := len(dst)
	switch sp.Verb {
	case "s":
		dst = AppendText(dst, v)
		if sp.Precision >= 0 && len(dst)-start > sp.Precision {
			dst = dst[:start+sp.Precision]
		}
		return sp.pad(dst, start)
	case "r", "rx", "rh":
		if v.Kind == Buf {
			dst = AppendHex(dst, v.S, sp.Verb == "r", sp.Verb != "rh")
		} else {
			dst = AppendText(dst, v)
		}
		return sp.pad(dst, start)
	}
	u, signed, ok := number(v)
	if !ok {
		return append(append(append(dst, "!{invalid integer conversion: "...), Text(v)...), '}')
	}
	switch sp.Verb {
	case "c":
		return sp.pad(append(dst, byte(u)), start)
	case "p":
		if u != 0 { // as with %#x, nothing is put before a zero
			dst = append(dst, "0x"...)
		}
		return sp.pad(strconv.AppendUint(dst, u, 16), start)
	case "gr":
		return sp.pad(AppendGFP(dst, u), start)
	}
	return sp.integer(dst, u, signed)
}

// integer converts as C does: the length modifier cuts the value, the verb decides the sign.
func (sp *Spec) integer(dst []byte, u uint64, signed bool) []byte {
	start := len(dst)
	neg := false
	if sp.Verb == "d" || sp.Verb == "i" {
		i := int64(u)
		switch sp.Length {
		case "hh":
			i = int64(int8(u))
		case "h":
			i = int64(int16(u))
		}
		// A value that the script holds as unsigned and that needs all 64 bits prints as C's %d on 64 bits would: negative.
		neg = i < 0
		u = uint64(i)
		if neg {
			u = -u
		}
	} else {
		switch sp.Length {
		case "hh":
			u = uint64(uint8(u))
		case "h":
			u = uint64(uint16(u))
		case "":
			if i := int64(u); signed && i < 0 && i >= math.MinInt32 {
				u = uint64(uint32(u)) // what C's unsigned int is; a value that needs more bits prints whole
			}
		}
	}
	var prefix string
	base := 10
	switch sp.Verb {
	case "x", "X":
		base = 16
		if sp.Alt && u != 0 {
			prefix = "0" + sp.Verb
		}
	case "o":
		base = 8
		if sp.Alt && u != 0 {
			prefix = "0"
		}
	case "d", "i":
		switch {
		case neg:
			prefix = "-"
		case sp.Plus:
			prefix = "+"
		case sp.Space:
			prefix = " "
		}
	}
	var buf [64]byte
	digits := strconv.AppendUint(buf[:0], u, base)
	if sp.Verb == "X" {
		for i, c := range digits {
			if c >= 'a' {
				digits[i] = c - 32
			}
		}
	}
	zeros := sp.Precision - len(digits)
	if sp.Zero && !sp.Left && sp.Precision < 0 {
		zeros = sp.Width - len(digits) - len(prefix)
	}
	dst = append(dst, prefix...)
	for ; zeros > 0; zeros-- {
		dst = append(dst, '0')
	}
	return sp.pad(append(dst, digits...), start)
}

func (sp *Spec) pad(dst []byte, start int) []byte {
	n := sp.Width - (len(dst) - start)
	if n <= 0 {
		return dst
	}
	for i := 0; i < n; i++ {
		dst = append(dst, ' ')
	}
	if !sp.Left {
		copy(dst[start+n:], dst[start:len(dst)-n])
		for i := start; i < start+n; i++ {
			dst[i] = ' '
		}
	}
	return dst
}
