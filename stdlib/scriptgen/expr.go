package scriptgen

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/lang/types"
)

const deep = 4 // nesting of expressions

func isInt(t *types.Type) bool {
	return t != nil && (t.Kind == types.Int || t.Kind == types.Bool || t.Kind == types.Enum)
}
func isString(t *types.Type) bool { return t != nil && t.Kind == types.String }

// of is an expression of a type, or one that converts to it.
func (w *writer) of(t *types.Type, d int) string {
	if w.chance(30) {
		if p := w.path(func(x *types.Type) bool { return types.Equal(x, t) }); p != "" {
			return p
		}
	}
	switch t.Kind {
	case types.Int:
		if t.Size == 8 && t.Signed && w.chance(60) {
			return w.integer(d)
		}
		return fmt.Sprintf("(%s)(%s)", t, w.integer(d))
	case types.Bool:
		if w.chance(30) {
			return pick(w, []string{"true", "false"})
		}
		return w.condition(d)
	case types.String:
		return w.text(d)
	case types.Array:
		return fmt.Sprintf("(%s)(uint64)(%s)", t, w.integer(d))
	case types.Tuple, types.Record:
		var parts []string
		for _, f := range t.Fields {
			e := w.of(f.Type, d-1)
			if f.Name != "" {
				e = f.Name + "=" + e
			}
			parts = append(parts, e)
		}
		return "(" + strings.Join(parts, ", ") + ")"
	}
	return w.integer(d)
}

// any is an expression of some type.
func (w *writer) any(d int) (string, *types.Type) {
	switch n := w.r.Intn(100); {
	case n < 25:
		if f, ok := w.function(func(t *types.Type) bool { return t != nil }); ok {
			return w.call(f), f.result
		}
	case n < 40:
		if len(w.g.vars) > 0 {
			f := pick(w, w.g.vars)
			return f.name, f.result
		}
	case n < 55:
		if e, t := w.member(func(*types.Type) bool { return true }); e != "" {
			return e, t
		}
	case n < 65:
		if v := w.variables(func(t *types.Type) bool { return t != nil }); len(v) > 0 {
			x := pick(w, v)
			return x.name, x.typ
		}
	}
	t := w.newType(2)
	return w.of(t, d), t
}

// path is a way to a value of a type in variables and maps, "" when there is none.
func (w *writer) path(match func(*types.Type) bool) string {
	var out []string
	var walk func(text string, t *types.Type)
	walk = func(text string, t *types.Type) {
		if t == nil {
			return
		}
		if match(t) {
			out = append(out, text)
		}
		switch t.Kind {
		case types.Tuple, types.Record:
			for i, f := range t.Fields {
				if f.Name == "" {
					f.Name = strconv.Itoa(i)
				}
				walk(text+"."+f.Name, f.Type)
			}
		case types.Array:
			if t.Len > 0 {
				walk(fmt.Sprintf("%s[%d]", text, w.r.Intn(t.Len)), t.Elem)
				if w.chance(20) {
					walk(fmt.Sprintf("%s[%s %% %d]", text, w.unsigned(), t.Len), t.Elem)
				}
			}
		}
	}
	for _, v := range w.variables(func(t *types.Type) bool { return true }) {
		walk(v.name, v.typ)
	}
	if len(w.maps) > 0 && w.nest < 2 {
		w.nest++ // keys have paths to maps in them, and so on
		if m := pick(w, w.maps); m.value != nil {
			walk(w.entry(m, 1), m.value)
		}
		w.nest--
	}
	if len(out) == 0 {
		return ""
	}
	return pick(w, out)
}

// unsigned is a small expression that is not negative.
func (w *writer) unsigned() string {
	if vs := w.variables(isInt); len(vs) > 0 {
		return "(uint64)" + pick(w, vs).name
	}
	return strconv.Itoa(w.r.Intn(100))
}

func (w *writer) variables(match func(*types.Type) bool) []variable {
	var out []variable
	for _, s := range w.scopes {
		for _, v := range s {
			if match(v.typ) {
				out = append(out, v)
			}
		}
	}
	return out
}

// entry is a map's value: @m or @m[key].
func (w *writer) entry(m *mapDef, d int) string {
	if m.keys == nil {
		return m.name
	}
	return m.name + "[" + w.key(m, d) + "]"
}

func (w *writer) key(m *mapDef, d int) string {
	var parts []string
	for _, k := range m.keys {
		if w.chance(50) && k.Kind == types.Int {
			parts = append(parts, fmt.Sprintf("(%s)%d", k, w.r.Intn(4))) // so that keys meet
		} else {
			parts = append(parts, w.of(k, min(d, 1)))
		}
	}
	if len(parts) > 1 && w.chance(20) {
		return "(" + strings.Join(parts, ", ") + ")"
	}
	return strings.Join(parts, ", ")
}

var edges = []string{
	"0", "1", "-1", "2", "7", "8", "63", "64", "100", "127", "128", "-128", "255", "256", "1000", "32767", "65535", "65536", "0x7fffffff", "0x80000000", "0xffffffff",
	"-2147483648", "1e9", "0x123456789abcdef", "9223372036854775807", "'a'", "5ms", "true",
}

func (w *writer) literal() string {
	if w.chance(40) {
		return strconv.Itoa(w.r.Intn(20))
	}
	e := pick(w, edges)
	if e == "'a'" {
		return "97"
	}
	return e
}

// integer is an integer expression.
func (w *writer) integer(d int) string {
	if d <= 0 {
		if w.chance(50) {
			if p := w.path(isInt); p != "" {
				return p
			}
		}
		if w.chance(30) { // what is not known while compiling
			if e, _ := w.member(isInt); e != "" {
				return e
			}
			if len(w.g.vars) > 0 {
				if v := pick(w, w.g.vars); isInt(v.result) {
					return v.name
				}
			}
		}
		return w.literal()
	}
	if w.chance(10) {
		if e := w.newer(d); e != "" {
			return e
		}
	}
	switch n := w.r.Intn(100); {
	case n < 10:
		return w.literal()
	case n < 28:
		if p := w.path(isInt); p != "" {
			return p
		}
	case n < 52:
		op := pick(w, []string{"+", "-", "*", "/", "%", "&", "|", "^", "+", "-"})
		return fmt.Sprintf("(%s %s %s)", w.integer(d-1), op, w.integer(d-1))
	case n < 57:
		return fmt.Sprintf("(%s %s (%s & 63))", w.integer(d-1), pick(w, []string{"<<", ">>"}), w.integer(d-1))
	case n < 63:
		return "(" + pick(w, []string{"-", "~", "!"}) + "(" + w.integer(d-1) + "))"
	case n < 70:
		return w.condition(d - 1)
	case n < 75:
		return fmt.Sprintf("((%s) ? (%s) : (%s))", w.condition(d-1), w.integer(d-1), w.integer(d-1))
	case n < 81:
		return fmt.Sprintf("(%s)(%s)", pick(w, ints), w.integer(d-1))
	case n < 86:
		if f, ok := w.function(isInt); ok {
			return w.call(f)
		}
	case n < 90:
		if e, _ := w.member(isInt); e != "" {
			return e
		}
	case n < 93:
		var agg []*mapDef
		for _, m := range w.maps {
			if m.agg != "" && strings.Contains("count sum min max avg", m.agg) {
				agg = append(agg, m)
			}
		}
		if len(agg) > 0 {
			return "(int64)" + w.entry(pick(w, agg), d-1)
		}
	case n < 95:
		for _, v := range w.variables(isInt) {
			if !v.fixed && v.typ.Kind == types.Int && w.chance(50) {
				return pick(w, []string{v.name + "++", "--" + v.name, v.name + "--", "++" + v.name})
			}
		}
	case n < 97:
		for _, m := range w.maps {
			if m.value != nil && m.value.Kind == types.Int && w.chance(50) {
				return "(" + w.entry(m, d-1) + pick(w, []string{"++", "--"}) + ")"
			}
		}
	case n < 98:
		return "sizeof(" + pick(w, ints).String() + ")"
	case len(w.maps) > 0:
		if m := pick(w, w.maps); m.keys != nil {
			return "(int64)has_key(" + m.name + ", " + w.keyArg(m) + ")"
		}
	}
	return w.literal()
}

func (w *writer) keyArg(m *mapDef) string {
	if len(m.keys) == 1 {
		return w.key(m, 1)
	}
	k := w.key(m, 1)
	if strings.HasPrefix(k, "(") && closing(k, 0) == len(k)-1 {
		return k
	}
	return "(" + k + ")"
}

// condition is an expression of type bool.
func (w *writer) condition(d int) string {
	switch n := w.r.Intn(100); {
	case n < 60 || d <= 0:
		return fmt.Sprintf("(%s %s %s)", w.integer(d-1), pick(w, []string{"==", "!=", "<", "<=", ">", ">="}), w.integer(d-1))
	case n < 75:
		return fmt.Sprintf("(%s %s %s)", w.condition(d-1), pick(w, []string{"&&", "||"}), w.condition(d-1))
	case n < 80:
		return "(!" + w.condition(d-1) + ")"
	case n < 90:
		return fmt.Sprintf("(%s %s %s)", w.text(d-1), pick(w, []string{"==", "!="}), w.text(d-1))
	case n < 94:
		t := w.newType(1)
		if t.Kind == types.Record {
			t = types.TUint64
		}
		return fmt.Sprintf("(%s == %s)", w.of(t, d-1), w.of(t, d-1))
	}
	if f, ok := w.function(func(t *types.Type) bool { return t != nil && t.Kind == types.Bool }); ok {
		return w.call(f)
	}
	return "true"
}

const letters = "abcdefghijklmnopqrstuvwxyz/._-0123456789 ABC"

func (w *writer) quoted() string {
	n := w.r.Intn(12)
	if w.chance(10) {
		n = w.r.Intn(70)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[w.r.Intn(len(letters))]
	}
	if w.chance(30) { // so that strings meet
		return pick(w, []string{`"a"`, `"ab"`, `""`, `"abc"`})
	}
	return `"` + string(b) + `"`
}

// text is a string expression.
func (w *writer) text(d int) string {
	switch n := w.r.Intn(100); {
	case n < 35 || d <= 0:
		if d <= 0 && w.chance(40) {
			break
		}
		return w.quoted()
	case n < 45:
		if f, ok := w.function(isString); ok {
			return w.call(f)
		}
	case n < 55:
		var strs []string
		for _, v := range w.g.vars {
			if isString(v.result) {
				strs = append(strs, v.name)
			}
		}
		if len(strs) > 0 {
			return pick(w, strs)
		}
	case n < 63:
		if e, _ := w.member(isString); e != "" {
			return e
		}
	case n < 70:
		return fmt.Sprintf("(%s ? %s : %s)", w.condition(d-1), w.text(d-1), w.text(d-1))
	}
	if p := w.path(isString); p != "" {
		return p
	}
	return w.quoted()
}
