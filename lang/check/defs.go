package check

import (
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/types"
)

// definitions are the types and C macros that a script sees: its own C definitions first, then the target's.
type definitions struct {
	own    CDefs          // nil when the script has none
	base   types.Source   // nil when the target has none
	probed []types.Source // those of the programs that are probed
	simple map[string]string
}

// Macro returns the text of an object-like C macro.
func (d *definitions) Macro(name string) (string, bool) {
	if d.own != nil {
		if text, ok := d.own.Macro(name); ok {
			return text, true
		}
	}
	text, ok := d.simple[name]
	return text, ok
}

func (d *definitions) lookup(f func(types.Source) *types.Type) *types.Type {
	if d.own != nil {
		if t := f(d.own); t != nil {
			return t
		}
	}
	if d.base != nil {
		if t := f(d.base); t != nil {
			return t
		}
	}
	for _, s := range d.probed {
		if t := f(s); t != nil {
			return t
		}
	}
	return nil
}

// StructType finds a struct or union.
func (d *definitions) StructType(name string) *types.Type {
	return d.lookup(func(s types.Source) *types.Type { return s.StructType(name) })
}

// EnumType finds an enum.
func (d *definitions) EnumType(name string) *types.Type {
	return d.lookup(func(s types.Source) *types.Type { return s.EnumType(name) })
}

// Typedef finds a typedef.
func (d *definitions) Typedef(name string) *types.Type {
	return d.lookup(func(s types.Source) *types.Type { return s.Typedef(name) })
}

// EnumConst finds an enumerator.
func (d *definitions) EnumConst(name string) (int64, *types.Type, bool) {
	for _, s := range d.sources() {
		if v, t, ok := s.EnumConst(name); ok {
			return v, t, ok
		}
	}
	return 0, nil, false
}

// FuncProto finds the prototype of a function of the target.
func (d *definitions) FuncProto(name string) *types.Proto {
	if d.base != nil {
		return d.base.FuncProto(name)
	}
	return nil
}

// Names lists names with a prefix.
func (d *definitions) Names(what, prefix string, limit int) []string {
	var out []string
	for _, s := range d.sources() {
		out = append(out, s.Names(what, prefix, limit)...)
	}
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out
}

func (d *definitions) sources() []types.Source {
	var list []types.Source
	if d.own != nil {
		list = append(list, d.own)
	}
	if d.base != nil {
		list = append(list, d.base)
	}
	return list
}

// define reads the C definitions of a script.
func (c *checker) define(items []*ast.CDef) {
	c.defs = &definitions{base: c.env.Types, simple: map[string]string{}}
	c.withParams = map[string]string{}
	for _, d := range items {
		if name, params, ok := defineWithParams(d.Text); ok && d.Kind == ast.CDirective {
			c.withParams[name] = params
		}
	}
	if c.env.ParseC != nil { // also without C text: it knows the constants of C that the kernel's types lack
		c.defs.own = c.env.ParseC(items, c.env.Types, c.env, c.diags)
		return
	}
	for _, d := range items {
		if d.Kind != ast.CDirective {
			c.diags.Errorf(CodeCDefinition, d.Sp, "C definitions cannot be read here")
			continue
		}
		if name, text, ok := simpleDefine(d.Text); ok {
			c.defs.simple[name] = text
		}
	}
}

// afterDefine gives what follows `#define`.
func afterDefine(line string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(strings.TrimSpace(line), "#")
	if !ok {
		return "", false
	}
	rest, ok = strings.CutPrefix(strings.TrimSpace(rest), "define")
	return strings.TrimSpace(rest), ok
}

// simpleDefine reads `#define NAME text`.
func simpleDefine(line string) (name, text string, ok bool) {
	rest, ok := afterDefine(line)
	if !ok {
		return "", "", false
	}
	end := strings.IndexAny(rest, " \t(")
	if end < 0 {
		return rest, "", rest != ""
	}
	if rest[end] == '(' {
		return "", "", false
	}
	return rest[:end], strings.TrimSpace(rest[end:]), true
}

// defineWithParams reads `#define NAME(params) ...`.
func defineWithParams(line string) (name, params string, ok bool) {
	rest, ok := afterDefine(line)
	if !ok {
		return "", "", false
	}
	name, rest, ok = strings.Cut(rest, "(")
	params, _, closed := strings.Cut(rest, ")")
	return name, params, ok && closed && !strings.ContainsAny(name, " \t")
}

// parseDefine parses the text of a C macro as an expression, nil when it is none.
func (c *checker) parseDefine(name, text string) ast.Expr {
	text = strings.TrimSpace(text)
	if v, neg, ok := parseInt(text); ok {
		return &ast.IntLit{Value: v, Neg: neg, Text: text}
	}
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' && !strings.ContainsAny(text[1:len(text)-1], "\"\\") {
		return &ast.StrLit{Value: text[1 : len(text)-1], Text: text}
	}
	if c.env.ParseExpr == nil || text == "" {
		return nil
	}
	f := c.defineFiles[name]
	if f == nil {
		f = c.set.Add("macro "+name, text)
		c.defineFiles[name] = f
	}
	return c.env.ParseExpr(f)
}

func (c *checker) collectDefines() {
	c.info.Defines = map[string]Const{}
	names := make([]string, 0, len(c.defs.simple))
	for n := range c.defs.simple {
		names = append(names, n)
	}
	if c.defs.own != nil {
		names = append(names, c.defs.own.Macros()...)
	}
	c.ownMacros = map[string]bool{}
	for _, n := range names {
		c.ownMacros[n] = true
		text, _ := c.defs.Macro(n)
		e := c.parseDefine(n, text)
		if e == nil {
			continue
		}
		if v, ok := foldLiteral(e); ok {
			c.info.Defines[n] = v.constant()
		}
	}
}

var _ types.Source = (*definitions)(nil)
