package cdef

import (
	"strings"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
)

// preprocessor reads directives line by line, to find out which texts are in force without starting the C front end. It
// decides #ifdef, #ifndef, #else, #endif and the simple forms of #if; a harder #if makes it leave the decision to the front
// end, which sees the same text again.
type preprocessor struct {
	defs   *Defs
	diags  *diag.List
	stack  []branch
	unsure bool // an #if was met that only the front end can decide
}

// branch is one level of #if.
type branch struct {
	span   source.Span
	active bool // this branch is in force, provided the outer ones are
	taken  bool // a branch of this #if was in force already
	sawEls bool
}

// run processes all texts and reports whether the C front end is needed.
func (p *preprocessor) run(texts []Text) (needFrontEnd bool) {
	for _, t := range texts {
		if !t.Directive {
			needFrontEnd = needFrontEnd || p.active() || p.unsure
			continue
		}
		p.directive(t)
	}
	for _, b := range p.stack {
		p.diags.Errorf("E0204", b.span, "this conditional has no `#endif`").Hint("end it with `#endif`, before the first probe")
	}
	return needFrontEnd || p.unsure
}

func (p *preprocessor) active() bool {
	for _, b := range p.stack {
		if !b.active {
			return false
		}
	}
	return true
}

// directive processes one line. Conditionals are followed even where they are not in force.
func (p *preprocessor) directive(t Text) {
	line := joinLines(t.Text)
	word, rest := cutWord(strings.TrimSpace(strings.TrimPrefix(line, "#")))
	rest = strings.TrimSpace(stripComment(rest))
	switch word {
	case "ifdef", "ifndef":
		name, _ := cutWord(rest)
		if name == "" {
			p.diags.Errorf("E0204", t.Span, "`#%s` without a name", word).Hint("name the macro to look for")
		}
		p.push(t.Span, p.isDefined(name) == (word == "ifdef"))
		return
	case "if":
		value, ok := p.condition(rest)
		if !ok && p.active() {
			p.unsure = true
		}
		p.push(t.Span, value || !ok)
		return
	case "elif", "else":
		p.alternative(t, word, rest)
		return
	case "endif":
		if len(p.stack) == 0 {
			p.diags.Errorf("E0204", t.Span, "`#endif` without `#if`").Hint("remove it")
			return
		}
		p.stack = p.stack[:len(p.stack)-1]
		return
	}
	if !p.active() {
		return
	}
	switch word {
	case "define":
		p.define(t, rest)
	case "undef":
		name, _ := cutWord(rest)
		delete(p.defs.defines, name)
	case "include", "import", "include_next":
		p.include(t, rest)
	case "error":
		p.diags.Errorf("E0205", t.Span, "#error %s", rest)
	case "warning":
		p.diags.Warnf("W0212", t.Span, "#warning %s", rest)
	case "pragma", "line", "":
	default:
		p.diags.Errorf("E0204", t.Span, "unknown preprocessor directive `#%s`", word).
			Hint("start comments with `//`")
	}
}

func (p *preprocessor) push(sp source.Span, active bool) {
	p.stack = append(p.stack, branch{span: sp, active: active, taken: active})
}

func (p *preprocessor) alternative(t Text, word, rest string) {
	if len(p.stack) == 0 {
		p.diags.Errorf("E0204", t.Span, "`#%s` without `#if`", word).Hint("remove it, or begin with `#if`")
		return
	}
	b := &p.stack[len(p.stack)-1]
	if b.sawEls {
		p.diags.Errorf("E0204", t.Span, "`#%s` after `#else`", word).Hint("remove one of the two")
		return
	}
	if word == "else" {
		b.active, b.taken, b.sawEls = !b.taken, true, true
		return
	}
	value, ok := p.condition(rest)
	if !ok {
		p.unsure = true
	}
	b.active = !b.taken && (value || !ok)
	b.taken = b.taken || b.active
}

// condition decides the simple forms of #if: numbers, defined(X), !defined(X), and these joined by && or ||.
func (p *preprocessor) condition(text string) (value, ok bool) {
	if alts := strings.Split(text, "||"); len(alts) > 1 {
		ok = true
		for _, a := range alts {
			v, k := p.condition(a)
			value, ok = value || v, ok && k
		}
		return value, ok
	}
	value = true
	for _, part := range strings.Split(text, "&&") {
		part = strings.TrimSpace(part)
		negate := false
		for strings.HasPrefix(part, "!") {
			negate, part = !negate, strings.TrimSpace(part[1:])
		}
		var v bool
		switch rest, found := strings.CutPrefix(part, "defined"); {
		case found:
			name := strings.TrimSpace(rest)
			if strings.HasPrefix(name, "(") && strings.HasSuffix(name, ")") {
				name = strings.TrimSpace(name[1 : len(name)-1])
			}
			if word, tail := cutWord(name); word == "" || tail != "" {
				return false, false
			}
			v = p.isDefined(name)
		default:
			n, isInt := literalInt(part)
			if !isInt {
				return false, false
			}
			v = n.Int != 0
		}
		value = value && v != negate
	}
	return value, true
}

func (p *preprocessor) isDefined(name string) bool {
	if p.defs.defines[name] != nil {
		return true
	}
	return p.defs.opts.isPredefined(name)
}

// define records a macro.
func (p *preprocessor) define(t Text, rest string) {
	name, tail := cutWord(rest)
	if name == "" {
		p.diags.Errorf("E0204", t.Span, "`#define` without a name").Hint("write `#define NAME value`")
		return
	}
	m := &Define{Name: name, Span: t.Span}
	if strings.HasPrefix(tail, "(") {
		m.FuncLike = true
		if i := strings.IndexByte(tail, ')'); i >= 0 {
			tail = tail[i+1:]
		}
	}
	m.Body = strings.TrimSpace(tail)
	if i := strings.LastIndex(t.Text, m.Body); m.Body != "" && i >= 0 {
		m.BodySpan = source.Span{Start: t.Span.Start + int32(i), End: t.Span.Start + int32(i+len(m.Body))}
	}
	if v, ok := literal(m.Body); ok && !m.FuncLike {
		m.Value = &v
	}
	if old := p.defs.defines[name]; old == nil {
		p.defs.order = append(p.defs.order, name)
	} else if old.Body != m.Body || old.FuncLike != m.FuncLike {
		p.diags.Warnf("W0211", t.Span, "`%s` is defined again with another value", name).Label(old.Span, "defined here first")
	}
	p.defs.defines[name] = m
}

func (p *preprocessor) include(t Text, rest string) {
	inc := include{span: t.Span}
	switch {
	case len(rest) > 2 && rest[0] == '<' && strings.IndexByte(rest, '>') > 1:
		inc.path = rest[1:strings.IndexByte(rest, '>')]
	case len(rest) > 2 && rest[0] == '"' && strings.IndexByte(rest[1:], '"') > 0:
		inc.path, inc.quoted = rest[1:strings.IndexByte(rest[1:], '"')+1], true
	default:
		p.diags.Errorf("E0204", t.Span, "`#include` without a file name").Hint("write `#include <linux/fs.h>` or `#include \"my.h\"`")
		return
	}
	p.defs.include = append(p.defs.include, inc)
}

// joinLines removes the continuation marks of a directive.
func joinLines(text string) string {
	if !strings.Contains(text, "\n") {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimSuffix(strings.TrimRight(l, " \t\r"), `\`)
	}
	return strings.Join(lines, " ")
}

// stripComment removes comments outside of string and character literals.
func stripComment(text string) string {
	var b strings.Builder
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0:
			if c == '\\' && i+1 < len(text) {
				b.WriteByte(c)
				i++
				c = text[i]
			} else if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '/' && i+1 < len(text) && text[i+1] == '/':
			return b.String()
		case c == '/' && i+1 < len(text) && text[i+1] == '*':
			n := strings.Index(text[i+2:], "*/")
			if n < 0 {
				return b.String()
			}
			i += n + 3
			c = ' '
		}
		b.WriteByte(c)
	}
	return b.String()
}

// cutWord splits off a leading name; rest begins right behind it.
func cutWord(s string) (word, rest string) {
	i := 0
	for i < len(s) && (s[i] == '_' || s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z' || i > 0 && s[i] >= '0' && s[i] <= '9') {
		i++
	}
	return s[:i], s[i:]
}
