package scriptgen

import (
	"fmt"
	"strings"

	"github.com/sonde-sh/sonde/lang/types"
)

// probe makes a probe.
func (w *writer) probe(s *site) *Node {
	w.site, w.scopes, w.loops, w.depth = s, nil, 0, 0
	w.budget = 3 + w.r.Intn(14)
	head := s.text
	if w.chance(25) && s.text != "begin" && s.text != "end" {
		head += " /" + strings.ReplaceAll(w.condition(2), "/", "*") + "/"
	}
	n := &Node{Head: head + " {", Tail: "}"}
	var known []variable
	if w.chance(70) { // variables whose values are not known while compiling
		for range 1 + w.r.Intn(3) {
			for _, m := range w.maps {
				if m.value == nil || !w.chance(40) {
					continue
				}
				v := variable{name: w.name("$v"), typ: m.value}
				e := w.entry(m, 0)
				if w.g.cfg.Deterministic {
					n.Body = append(n.Body, &Node{Head: e + " = " + w.of(m.value, 1) + ";"})
				}
				n.Body = append(n.Body, &Node{Head: v.name + " = " + e + ";"})
				known = append(known, v)
			}
		}
	}
	n.Body = append(n.Body, w.block(known)...)
	if w.g.cfg.Deterministic {
		n.Body = append(n.Body, w.show()...)
	}
	return n
}

// show prints the maps, and a few keys of those that have keys.
func (w *writer) show() []*Node {
	var out []*Node
	for _, m := range w.maps {
		n := 1
		if m.keys != nil {
			n = 2
		}
		for range n {
			e := w.entry(m, 0)
			switch m.agg {
			case "":
				out = append(out, &Node{Head: "print((1, " + e + "));"})
			case "count", "sum", "min", "max", "avg":
				out = append(out, &Node{Head: "print((int64)" + e + ");"})
			}
		}
	}
	return out
}

// block makes the lines of a block in a scope of its own that starts with some variables.
func (w *writer) block(vars []variable) []*Node {
	w.scopes = append(w.scopes, vars)
	w.depth++
	var out []*Node
	for range 2 + w.r.Intn(5) {
		if w.budget <= 0 {
			break
		}
		w.budget--
		out = append(out, w.statement()...)
	}
	w.depth--
	w.scopes = w.scopes[:len(w.scopes)-1]
	return out
}

func (w *writer) declare(v variable) {
	top := len(w.scopes) - 1
	w.scopes[top] = append(w.scopes[top], v)
}

func line(format string, args ...any) []*Node { return []*Node{{Head: fmt.Sprintf(format, args...)}} }

func (w *writer) statement() []*Node {
	nested := w.depth < 4
	switch n := w.r.Intn(100); {
	case n < 18:
		return w.newVariable()
	case n < 28:
		return w.assign()
	case n < 44:
		return w.store()
	case n < 56:
		return w.print()
	case n < 60:
		return w.mapCall()
	case n < 63:
		if len(w.g.funcs) > 0 {
			if f := pick(w, w.g.funcs); f.result == nil {
				return line("%s;", w.call(f))
			}
		}
	case n < 75 && nested:
		node := &Node{Head: "if (" + w.condition(3) + ") {", Tail: "}", Body: w.block(nil)}
		if w.chance(40) {
			node.Else = w.block(nil)
		}
		return []*Node{node}
	case n < 92 && nested && w.loops < 3:
		return w.loop()
	case n < 93 && !w.g.cfg.Deterministic: // a map of its own
		return line("%s[%s(%d)] = count();", w.name("@stack"), pick(w, []string{"kstack", "ustack"}), w.r.Intn(20))
	case n < 94:
		return []*Node{{Head: "{", Tail: "}", Body: w.block(nil)}}
	case n < 96:
		what := "return"
		if w.loops > 0 {
			what = pick(w, []string{"break", "continue", "return", "break", "continue"})
		}
		return []*Node{{Head: "if (" + w.condition(2) + ") {", Tail: "}", Body: line("%s;", what)}}
	}
	return w.store()
}

func (w *writer) newVariable() []*Node {
	name := w.name("$v")
	e, t := w.any(deep)
	if t != nil && isInt(t) && w.chance(70) {
		t = pick(w, ints)
		e = fmt.Sprintf("(%s)(%s)", t, e)
	}
	head := name + " = " + e + ";"
	switch {
	case w.chance(15):
		head = "let " + head
	case w.chance(6) && t != nil:
		head = fmt.Sprintf("%s = { let $y = %s; $y };", name, e)
	case w.chance(6) && t != nil && t.Kind == types.Int:
		head = fmt.Sprintf("%s = if (%s) { %s } else { %s };", name, w.condition(2), e, w.of(t, 2))
	}
	w.declare(variable{name: name, typ: t})
	return line("%s", head)
}

func (w *writer) assign() []*Node {
	vs := w.variables(func(t *types.Type) bool {
		return isInt(t) || t != nil && (t.Kind == types.String || t.Kind == types.Tuple || t.Kind == types.Record || t.Kind == types.Array)
	})
	if len(vs) == 0 {
		return w.newVariable()
	}
	v := pick(w, vs)
	switch {
	case v.fixed:
		return w.store()
	case v.typ.Kind == types.Int && w.chance(40):
		return line("%s %s= %s;", v.name, pick(w, []string{"+", "-", "*", "/", "%", "&", "|", "^"}), w.of(v.typ, 2))
	case v.typ.Kind == types.Int && w.chance(20):
		return line("%s%s;", v.name, pick(w, []string{"++", "--"}))
	}
	return line("%s = %s;", v.name, w.of(v.typ, deep))
}

// store writes to a map.
func (w *writer) store() []*Node {
	m := pick(w, w.maps)
	e := w.entry(m, 2)
	switch m.agg {
	case "":
	case "count":
		return line("%s = count();", e)
	case "lhist":
		return line("%s = lhist(%s, 0, 1000, 50);", e, w.integer(3))
	case "tseries":
		return line("%s = tseries(%s, 1s, 10);", e, w.integer(3))
	case "hist":
		return line("%s = hist(%s);", e, w.integer(3))
	default:
		return line("%s = %s((int64)(%s));", e, m.agg, w.integer(3))
	}
	switch {
	case m.value.Kind == types.Int && w.chance(25):
		return line("%s %s= %s;", e, pick(w, []string{"+", "-", "*", "/", "%", "&", "|", "^"}), w.of(m.value, 2))
	case m.value.Kind == types.Int && w.chance(20):
		return line("%s%s;", e, pick(w, []string{"++", "--"}))
	}
	return line("%s = %s;", e, w.of(m.value, deep))
}

func (w *writer) print() []*Node {
	if w.chance(40) {
		e, _ := w.any(3)
		if strings.HasPrefix(e, "@") && w.g.cfg.Deterministic {
			e = "(1, " + e + ")" // what prints an entry of a map reads the map later
		}
		return line("print(%s);", e)
	}
	if w.chance(25) && !w.g.cfg.Deterministic {
		m := pick(w, w.maps)
		switch n := w.r.Intn(3); {
		case n == 0:
			return line("print(%s);", w.entry(m, 1))
		case n == 1 && m.keys != nil:
			return line("print(%s, 5);", m.name)
		}
		return line("print(%s);", m.name)
	}
	var format strings.Builder
	var args strings.Builder
	for range w.r.Intn(5) {
		verb, e := w.verb()
		format.WriteString(verb)
		format.WriteByte(' ')
		args.WriteString(", " + e)
	}
	f := "printf"
	if !w.g.cfg.Deterministic && w.chance(10) {
		f = pick(w, []string{"errorf", "warnf"})
	}
	return line(`%s("%s\n"%s);`, f, format.String(), args.String())
}

func (w *writer) verb() (string, string) {
	switch n := w.r.Intn(10); {
	case n < 5:
		return pick(w, []string{"%d", "%u", "%x", "%lld", "%08x", "%5d", "%-6d", "%#x", "%hhd", "%ld"}), w.integer(3)
	case n < 8:
		return pick(w, []string{"%s", "%10s", "%-4s", "%s"}), w.text(2)
	}
	if f, ok := w.function(func(t *types.Type) bool {
		return t != nil && !isInt(t) && t.Kind != types.Buffer && t.Kind != types.Pointer && t.Kind != types.Struct
	}); ok {
		return "%s", w.call(f)
	}
	return "%d", w.integer(1)
}

// mapCall calls a function on a map.
func (w *writer) mapCall() []*Node {
	m := pick(w, w.maps)
	if w.g.cfg.Deterministic {
		if m.keys == nil {
			return w.store()
		}
		return line("delete(%s, %s);", m.name, w.keyArg(m))
	}
	if m.keys == nil {
		return line("%s(%s);", pick(w, []string{"clear", "zero", "print"}), m.name)
	}
	switch w.r.Intn(5) {
	case 0:
		return line("%s(%s);", pick(w, []string{"clear", "zero"}), m.name)
	case 1:
		v := w.name("$v")
		if m.value == nil {
			break
		}
		w.declare(variable{name: v, typ: m.value})
		return append(line("let %s;", v), &Node{Head: fmt.Sprintf("if (find(%s, %s, %s)) {", m.name, w.keyArg(m), v), Tail: "}", Body: w.block(nil)})
	case 2:
		v := w.name("$v")
		w.declare(variable{name: v, typ: types.TUint64})
		return line("%s = (uint64)len(%s);", v, m.name)
	case 3:
		return line("delete(%s[%s]);", m.name, w.key(m, 1))
	}
	return line("delete(%s, %s);", m.name, w.keyArg(m))
}

// loop makes a loop that ends.
func (w *writer) loop() []*Node {
	w.loops++
	defer func() { w.loops-- }()
	switch n := w.r.Intn(10); {
	case n < 3:
		v := w.name("$w")
		limit := 1 + w.r.Intn(6)
		if w.chance(10) && w.loops == 1 && !w.g.cfg.Deterministic {
			limit = 1000
		}
		w.declare(variable{name: v, typ: types.TInt64, fixed: true})
		body := append(line("%s++;", v), w.block(nil)...)
		cond := fmt.Sprintf("%s < %d", v, limit)
		if w.chance(30) {
			cond += " && " + w.condition(2)
		}
		return append(line("%s = 0;", v), &Node{Head: "while (" + cond + ") {", Tail: "}", Body: body})
	case n < 6:
		v := w.name("$r")
		lo, hi := fmt.Sprint(w.r.Intn(5)), fmt.Sprint(w.r.Intn(10))
		if w.chance(40) {
			hi = fmt.Sprintf("(int64)((%s) & 7)", w.integer(2))
		}
		if w.chance(10) && w.loops == 1 && !w.g.cfg.Deterministic {
			hi = "3000"
		}
		return []*Node{{Head: fmt.Sprintf("for (%s : %s..%s) {", v, lo, hi), Tail: "}", Body: w.block([]variable{{name: v, typ: types.TInt64, fixed: true}})}}
	case n < 8:
		return []*Node{{Head: fmt.Sprintf("unroll (%d) {", 1+w.r.Intn(4)), Tail: "}", Body: w.block(nil)}}
	}
	var keyed []*mapDef
	for _, m := range w.maps {
		if m.keys != nil {
			keyed = append(keyed, m)
		}
	}
	if len(keyed) == 0 || w.g.cfg.Deterministic || w.g.cfg.NoMapLoops {
		return w.store()
	}
	m := pick(w, keyed)
	v := w.name("$kv")
	key := m.keys[0]
	if len(m.keys) > 1 {
		key = types.TupleOf(m.keys, nil)
	}
	value := m.value
	if value == nil {
		value = types.TInt64
	}
	kv := variable{name: v, typ: types.TupleOf([]*types.Type{key, value}, nil), fixed: true}
	return []*Node{{Head: fmt.Sprintf("for (%s : %s) {", v, m.name), Tail: "}", Body: w.block([]variable{kv})}}
}
