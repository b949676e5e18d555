package scriptgen

import (
	"fmt"
	"strings"

	"github.com/sonde-sh/sonde/lang/types"
)

// declared is what a script has at its top beside maps: C types and macros. Everything is used by expressions of integers.
type declared struct {
	structs  []cStruct
	enums    []string // enumerators
	enumTags []string
	typedefs []string
	macros   []macro
}

type cStruct struct {
	tag    string
	fields []string // paths, as offsetof takes them
}

// macro is a macro with an integer as its value.
type macro struct {
	name   string
	params int
	byVar  bool // its only parameter is a variable, which it changes
}

var cInts = []string{"char", "unsigned char", "short", "unsigned short", "int", "unsigned int", "long", "unsigned long", "long long", "void *", "char *"}

// declarations makes C definitions and macros.
func (w *writer) declarations() []*Node {
	var items []*Node
	if w.chance(40) {
		for range 1 + w.r.Intn(2) {
			items = append(items, w.cStruct())
		}
	}
	if w.chance(30) {
		tag := w.name("ge")
		var parts []string
		for range 1 + w.r.Intn(3) {
			name := strings.ToUpper(w.name("ge_"))
			w.decls.enums = append(w.decls.enums, name)
			if w.chance(40) {
				name += fmt.Sprintf(" = %d", w.r.Intn(300)-100)
			}
			parts = append(parts, name)
		}
		w.decls.enumTags = append(w.decls.enumTags, tag)
		items = append(items, &Node{Head: "enum " + tag + " { " + strings.Join(parts, ", ") + " };"})
	}
	if w.chance(20) {
		name := w.name("gt")
		w.decls.typedefs = append(w.decls.typedefs, name)
		items = append(items, &Node{Head: "typedef " + w.cInt() + " " + name + ";"})
	}
	return items
}

// cInt is a C type that is an integer.
func (w *writer) cInt() string { return cInts[w.r.Intn(len(cInts)-2)] }

// cStruct is a struct or union on one line, with arrays, bit-fields and what is nested.
func (w *writer) cStruct() *Node {
	s := cStruct{tag: w.name("gs")}
	var sb strings.Builder
	fmt.Fprintf(&sb, "struct %s { ", s.tag)
	for range 1 + w.r.Intn(4) {
		f := w.name("f")
		switch n := w.r.Intn(10); {
		case n < 5:
			fmt.Fprintf(&sb, "%s %s; ", pick(w, cInts), f)
		case n < 7:
			fmt.Fprintf(&sb, "%s %s[%d]; ", pick(w, cInts), f, 1+w.r.Intn(5))
		case n < 8:
			fmt.Fprintf(&sb, "%s %s[%d][%d]; ", w.cInt(), f, 1+w.r.Intn(3), 1+w.r.Intn(3))
		case n < 9:
			inner := w.name("f")
			fmt.Fprintf(&sb, "%s { %s %s; %s %s; } %s; ", pick(w, []string{"struct", "union"}), w.cInt(), inner, w.cInt(), w.name("f"), f)
			s.fields = append(s.fields, f+"."+inner)
		default:
			fmt.Fprintf(&sb, "unsigned int %s : %d; ", f, 1+w.r.Intn(31))
			continue // has no offset in bytes
		}
		s.fields = append(s.fields, f)
	}
	sb.WriteString("};")
	w.decls.structs = append(w.decls.structs, s)
	return &Node{Head: sb.String()}
}

// macros makes macros of every form. They use each other, never themselves.
func (w *writer) macros() []*Node {
	var items []*Node
	for range w.r.Intn(4) {
		m := macro{name: w.name("gm"), params: 1}
		op := pick(w, []string{"+", "-", "*", "&", "|", "^"})
		body := ""
		switch w.r.Intn(5) {
		case 0:
			body = fmt.Sprintf("(x) { (x) %s (%s) }", op, w.literal())
		case 1:
			m.params = 2
			body = fmt.Sprintf("(x, y) { let $t = (int64)(x); $t = $t %s (int64)(y); $t }", op)
		case 2:
			m.byVar = true
			body = fmt.Sprintf("($v) { $v = $v %s 3; (int64)$v }", op)
		case 3:
			m.params = 0
			body = "() { " + w.literal() + " }"
		default:
			body = "(x) { if ((x) > 5) { 1 } else { 2 } }"
			for _, other := range w.decls.macros {
				if other.params == 1 && !other.byVar {
					body = fmt.Sprintf("(x) { %s(%s(x)) %s 1 }", other.name, other.name, op)
				}
			}
		}
		w.decls.macros = append(w.decls.macros, m)
		items = append(items, &Node{Head: "macro " + m.name + body})
	}
	return items
}

// newer is an integer expression of the newer parts of the language; "" when chance chose none that there is.
func (w *writer) newer(d int) string {
	switch w.r.Intn(10) {
	case 0:
		if len(w.decls.structs) > 0 {
			s := pick(w, w.decls.structs)
			if len(s.fields) > 0 && w.chance(60) {
				return fmt.Sprintf("offsetof(struct %s, %s)", s.tag, pick(w, s.fields))
			}
			return fmt.Sprintf("sizeof(struct %s)", s.tag)
		}
	case 1:
		if len(w.decls.enums) > 0 {
			if w.chance(30) {
				return fmt.Sprintf("(uint64)(enum %s)(%s)", pick(w, w.decls.enumTags), pick(w, w.decls.enums))
			}
			return pick(w, w.decls.enums)
		}
	case 2:
		if len(w.decls.typedefs) > 0 {
			return fmt.Sprintf("(%s)(%s)", pick(w, w.decls.typedefs), w.integer(d-1))
		}
	case 3, 4, 5:
		if len(w.decls.macros) > 0 {
			return w.expand(pick(w, w.decls.macros), d)
		}
	case 6:
		return fmt.Sprintf("getopt(%q, %d)", w.name("opt"), w.r.Intn(500)-50)
	case 7:
		return fmt.Sprintf("(int64)getopt(%q, %v)", w.name("opt"), w.chance(50))
	case 8:
		f := w.name("f")
		return fmt.Sprintf("(%s=%s, %s=%s).%s", f, w.integer(d-1), w.name("f"), w.text(d-1), f)
	default:
		if vs := w.variables(func(t *types.Type) bool { return t != nil && t.Kind == types.Int }); len(vs) > 0 {
			return "(*(&" + pick(w, vs).name + "))"
		}
	}
	return ""
}

// expand is a call of a macro.
func (w *writer) expand(m macro, d int) string {
	if m.byVar {
		for _, v := range w.variables(func(t *types.Type) bool { return t != nil && t.Kind == types.Int }) {
			if !v.fixed && w.chance(60) {
				return m.name + "(" + v.name + ")"
			}
		}
		return ""
	}
	var args []string
	for range m.params {
		args = append(args, w.integer(min(d-1, 1)))
	}
	if m.params == 0 && w.chance(50) {
		return m.name
	}
	return m.name + "(" + strings.Join(args, ", ") + ")"
}
