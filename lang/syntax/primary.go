package syntax

import (
	"strconv"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/lexer"
	"github.com/sonde-sh/sonde/lang/source"
)

func labelAt(sp source.Span, text string) *diag.Label { return &diag.Label{Span: sp, Text: text} }

// primary parses an operand without its prefix and postfix operators.
func (p *parser) primary() ast.Expr {
	t := *p.peek()
	sp := spanOf(&t)
	switch kindOf(&t) {
	case lexer.Int:
		p.next()
		n := lexer.ParseInt(t.Value)
		return &ast.IntLit{Base: base(sp), Value: n.Value, Text: t.Value, Suffix: n.Suffix, Duration: n.Duration, Overflow: n.Overflow}
	case lexer.String:
		p.next()
		return &ast.StrLit{Base: base(sp), Value: lexer.Unquote(t.Value), Text: t.Value}
	case lexer.Var:
		p.next()
		return &ast.Var{Base: base(sp), Name: t.Value}
	case lexer.Map:
		p.next()
		return &ast.MapRef{Base: base(sp), Name: t.Value}
	case lexer.Param:
		p.next()
		return p.positional(&t)
	case lexer.Ident, lexer.Const:
		p.next()
		if open := *p.peek(); isOp(&open, "(") {
			return p.call(&t)
		}
		return &ast.Ident{Base: base(sp), Name: t.Value}
	case lexer.Keyword:
		if x := p.keywordExpr(&t); x != nil {
			return x
		}
	case lexer.Op:
		switch t.Value {
		case "(":
			return p.paren()
		case "{":
			b := p.block(true)
			return &ast.BlockExpr{Base: base(b.Sp), Block: b}
		case "+":
			p.fail(unexpected(&t, "expression").hint("drop the `+`; there is no unary plus"))
		}
	default:
	}
	f := unexpected(&t, "expression")
	if kindOf(&t) == lexer.Assign && t.Value == "=" {
		f.hint("compare with `==`")
	}
	p.fail(explain(f, &t, &p.prev))
	return nil
}

func (p *parser) positional(t *token) ast.Expr {
	if t.Value == "$#" {
		return &ast.Positional{Base: base(spanOf(t))}
	}
	n, err := strconv.ParseInt(t.Value[1:], 10, 32)
	if err != nil || n == 0 {
		p.fail(newFault("E0116", spanOf(t), "syntax: param %s is out of integer range [1, 9223372036854775807]", t.Value).
			hint("count parameters from `$1`"))
	}
	return &ast.Positional{Base: base(spanOf(t)), N: int(n)}
}

// keywordExpr parses the operands that start with a reserved word, nil when t is not one of them.
func (p *parser) keywordExpr(t *token) ast.Expr {
	sp := spanOf(t)
	switch t.Value {
	case "true", "false":
		p.next()
		return &ast.BoolLit{Base: base(sp), Value: t.Value == "true"}
	case "if":
		p.next()
		p.enter()
		defer p.leave()
		n := p.ifRest(sp)
		return &ast.IfExpr{Base: base(n.Sp), If: n}
	case "sizeof":
		p.next()
		typ, x := p.typeOrExpr()
		return &ast.Sizeof{Base: base(p.from(sp)), Type: typ, X: x}
	case "typeinfo":
		p.next()
		typ, x := p.typeOrExpr()
		return &ast.Typeinfo{Base: base(p.from(sp)), Type: typ, X: x}
	case "offsetof":
		p.next()
		return p.offsetof(sp)
	case "comptime":
		p.next()
		p.enter()
		defer p.leave()
		x := p.unary()
		return &ast.Comptime{Base: base(p.from(sp)), X: x}
	}
	return nil
}

// ifRest parses behind the word `if`, which began at sp.
func (p *parser) ifRest(sp source.Span) *ast.If {
	n := &ast.If{}
	if isOp(p.peek(), "comptime") {
		p.next()
		n.Comptime = true
	}
	n.Cond = p.condition()
	n.Then = p.block(true)
	if p.accept("else") {
		switch t := *p.peek(); {
		case isOp(&t, "if"):
			p.next()
			p.enter()
			inner := p.ifRest(spanOf(&t))
			p.leave()
			n.ElseIf = true
			n.Else = &ast.Block{Base: base(inner.Sp), Result: &ast.IfExpr{Base: base(inner.Sp), If: inner}}
		case isOp(&t, "{"):
			n.Else = p.block(true)
		default:
			p.fail(unexpected(&t, "'{' or 'if' after 'else'"))
		}
	}
	n.Base = base(p.from(sp))
	return n
}

// call parses the arguments behind a function's name.
func (p *parser) call(name *token) ast.Expr {
	open := p.next()
	n := &ast.Call{Func: name.Value, FuncSp: spanOf(name)}
	if !p.accept(")") {
		for {
			n.Args = append(n.Args, p.argument())
			if !p.accept(",") {
				break
			}
			if t := p.peek(); isOp(t, ")") {
				p.fail(unexpected(t, "expression").hint("remove the `,` before it"))
			}
		}
		p.expect(")", &open)
	}
	n.Base = base(p.from(spanOf(name)))
	return n
}

// argument parses one argument of a call: an expression, or a type that cannot be taken for one.
func (p *parser) argument() ast.Expr {
	t := p.peek()
	switch {
	case kindOf(t) == lexer.Ident && (t.Value == "struct" || t.Value == "union" || t.Value == "enum") && kindOf(p.peek2()) == lexer.Ident,
		isOp(t, "typeof"):
		typ := p.typeSpec()
		return &ast.TypeArg{Base: base(typ.Sp), Type: typ}
	}
	return p.expr()
}

// paren parses `(`: an empty tuple, a record, a cast, a tuple or a group.
func (p *parser) paren() ast.Expr {
	open := p.next()
	sp := spanOf(&open)
	t := *p.peek()
	if p.accept(")") {
		return &ast.Tuple{Base: base(p.from(sp))}
	}
	if k := kindOf(&t); k == lexer.Ident || k == lexer.Const {
		if eq := p.peek2(); kindOf(eq) == lexer.Assign && eq.Value == "=" && !IsBuiltinVariable(t.Value) {
			return p.record(&open)
		}
	}
	if x := p.cast(&open); x != nil {
		return x
	}
	first := p.expr()
	if p.accept(")") {
		return &ast.Paren{Base: base(p.from(sp)), X: first}
	}
	if eq := p.peek(); kindOf(eq) == lexer.Assign {
		f := unexpected(eq, "')'")
		if eq.Value == "=" {
			f.hint("compare with `==`; an assignment is not an expression")
		} else {
			f.hint("make the assignment a statement of its own")
		}
		p.fail(f)
	}
	n := &ast.Tuple{Elems: []ast.Expr{first}}
	for p.accept(",") {
		if isOp(p.peek(), ")") {
			break
		}
		n.Elems = append(n.Elems, p.expr())
	}
	p.expect(")", &open)
	n.Base = base(p.from(sp))
	return n
}

// record parses `name=value, ...)`.
func (p *parser) record(open *token) ast.Expr {
	n := &ast.Record{}
	for {
		t := *p.peek()
		if k := kindOf(&t); k != lexer.Ident && k != lexer.Const {
			p.fail(unexpected(&t, "identifier"))
		}
		p.next()
		if eq := p.peek(); kindOf(eq) != lexer.Assign || eq.Value != "=" {
			p.fail(unexpected(eq, "`=` after the field name"))
		}
		p.next()
		n.Names = append(n.Names, t.Value)
		n.Values = append(n.Values, p.expr())
		for _, name := range n.Names[:len(n.Names)-1] {
			if name == t.Value {
				p.fail(newFault("E0114", p.from(spanOf(&t)), "syntax: Named argument list already contains name: %s", name).hint("rename or remove one of them"))
			}
		}
		if !p.accept(",") {
			break
		}
	}
	p.expect(")", open)
	n.Base = base(p.from(spanOf(open)))
	return n
}

// offsetof parses behind the word: `(type or expression, field.field)`.
func (p *parser) offsetof(sp source.Span) ast.Expr {
	n := &ast.Offsetof{}
	p.expect("(", nil)
	open := p.prev
	if p.typeAhead(",") {
		n.Type = p.typeSpec()
	} else {
		n.X = p.expr()
	}
	p.expect(",", nil)
	for {
		t := *p.peek()
		switch kindOf(&t) {
		case lexer.Ident, lexer.Const, lexer.Keyword:
		default:
			p.fail(unexpected(&t, "a field name"))
		}
		p.next()
		n.Fields = append(n.Fields, t.Value)
		if !p.accept(".") {
			break
		}
	}
	p.expect(")", &open)
	n.Base = base(p.from(sp))
	return n
}
