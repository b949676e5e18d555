package syntax

import (
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/lexer"
	"github.com/sonde-sh/sonde/lang/source"
)

func convertC(t *lexer.Token, b ast.Base) *ast.CDef {
	if t.Kind == lexer.Directive {
		n := &ast.CDef{Base: b, Text: t.Text, Kind: ast.CDirective}
		words := strings.Fields(strings.TrimSpace(strings.TrimPrefix(n.Text, "#")))
		if len(words) > 1 {
			n.Name, _, _ = strings.Cut(words[1], "(")
			n.Name = strings.Trim(n.Name, `<>"`)
		}
		return n
	}
	n := &ast.CDef{Base: b, Text: t.Text, Kind: ast.CStruct}
	switch words := strings.FieldsFunc(n.Text, func(r rune) bool { return strings.ContainsRune(" \t\r\n{;(", r) }); words[0] {
	case "typedef":
		n.Kind = ast.CTypedef
		n.Name = typedefName(n.Text)
	case "enum":
		n.Kind = ast.CEnum
		n.Name = tagName(n.Text)
	default:
		n.Name = tagName(n.Text)
	}
	return n
}

// tagName returns the tag of `struct tag {`, "" for an anonymous one.
func tagName(text string) string {
	head, _, _ := strings.Cut(text, "{")
	words := strings.FieldsFunc(head, func(r rune) bool { return strings.ContainsRune(" \t\r\n;:(", r) })
	for _, w := range words[1:] {
		if !strings.HasPrefix(w, "__attribute__") && !strings.ContainsAny(w, ")/*") {
			return w
		}
	}
	return ""
}

// typedefName returns the last word before the end of a plain typedef, "" for function pointers and arrays.
func typedefName(text string) string {
	text = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), ";"))
	i := strings.LastIndexFunc(text, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	})
	return text[i+1:]
}

func convertConfig(c *gConfig, b ast.Base) (ast.Item, *fault) {
	n := &ast.Config{Base: b}
	for i, s := range c.Settings {
		sp := spanOf(&s.Name).To(spanOf(&s.Value))
		if s.Semi == nil && i < len(c.Settings)-1 {
			return nil, newFault("E0108", spanOf(&c.Settings[i+1].Name), "syntax: expected ';'").hint("end the setting before it with `;`")
		}
		value := s.Value.Value
		if kindOf(&s.Value) == lexer.String {
			value = lexer.Unquote(value)
		} else if kindOf(&s.Value) == lexer.Int && lexer.ParseInt(value).Overflow {
			return nil, newFault("E0105", spanOf(&s.Value), "integer literal `%s` is too large", value)
		}
		n.Settings = append(n.Settings, &ast.ConfigSetting{
			Base: base(sp), Name: s.Name.Value, NameSp: spanOf(&s.Name), Value: value, ValueSp: spanOf(&s.Value),
		})
	}
	return n, nil
}

func convertMacro(m *gMacro, b ast.Base) (ast.Item, *fault) {
	n := &ast.Macro{Base: b, Name: m.Name.Value, NameSp: spanOf(&m.Name)}
	for i := range m.Params {
		t := &m.Params[i].Token
		if kindOf(t) == lexer.Ident && IsBuiltinVariable(t.Value) {
			return nil, newFault("E0101", spanOf(t), "builtin variable `%s` cannot be the name of a macro parameter", t.Value).
				hint("choose another name")
		}
		n.Params = append(n.Params, &ast.MacroParam{Base: base(spanOf(t)), Name: t.Value})
	}
	body, f := convertBlock(m.Body, true)
	if f != nil {
		return nil, f
	}
	n.Body = body
	return n, nil
}

func convertSubprog(s *gSubprog, b ast.Base) (ast.Item, *fault) {
	n := &ast.Subprog{Base: b, Name: s.Name.Value, NameSp: spanOf(&s.Name), Result: s.Result.(*ast.TypeSpec)}
	for _, p := range s.Params {
		n.Params = append(n.Params, &ast.SubprogParam{
			Base: base(spanOf(&p.Name).To(p.Type.Span())), Name: p.Name.Value, Type: p.Type.(*ast.TypeSpec),
		})
	}
	body, f := convertBlock(s.Body, false)
	if f != nil {
		return nil, f
	}
	n.Body = body
	return n, nil
}

func convertProbe(p *gProbe, b ast.Base) (ast.Item, *fault) {
	n := &ast.Probe{Base: b}
	for i := range p.Attach {
		t := &p.Attach[i].Token
		if kindOf(t) != lexer.AttachPoint {
			continue
		}
		a := attachPoint(t)
		if name := splitName(a); i == 0 {
			n.Name = name
		}
		n.Attach = append(n.Attach, a)
	}
	if p.Pred != nil {
		n.Predicate = p.Pred
	}
	body, f := convertBlock(p.Body, false)
	if f != nil {
		return nil, f
	}
	n.Body = body
	return n, nil
}

// attachPoint splits the text of an attach point at the colons outside of quotes.
func attachPoint(t *token) *ast.AttachPoint {
	sp := spanOf(t)
	a := &ast.AttachPoint{Base: base(sp), Raw: t.Value}
	var text strings.Builder
	quoted, inQuotes := false, false
	start := 0
	cut := func(end int) {
		seg := ast.Segment{
			Base: base(source.Span{Start: sp.Start + int32(start), End: sp.Start + int32(end)}), Text: text.String(), Quoted: quoted,
		}
		a.Segments = append(a.Segments, seg)
		text.Reset()
		quoted, start = false, end+1
	}
	for i := 0; i < len(t.Value); i++ {
		switch c := t.Value[i]; {
		case c == '"':
			inQuotes, quoted = !inQuotes, true
		case c == '\\' && inQuotes && i+1 < len(t.Value):
			i++
			text.WriteByte(t.Value[i])
		case c == ':' && !inQuotes:
			cut(i)
		default:
			text.WriteByte(c)
		}
	}
	cut(len(t.Value))
	a.Kind, a.Segments = a.Segments[0].Text, a.Segments[1:]
	return a
}

// splitName takes `name=` off the kind of an attach point and returns the name.
func splitName(a *ast.AttachPoint) string {
	name, kind, ok := strings.Cut(a.Kind, "=")
	if !ok || kind == "" {
		return ""
	}
	a.Kind = kind
	return name
}
