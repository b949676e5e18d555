package syntax

import (
	"github.com/alecthomas/participle/v2"
	plexer "github.com/alecthomas/participle/v2/lexer"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/lexer"
	"github.com/sonde-sh/sonde/lang/source"
)

// maxDepth limits the nesting of operators in one expression; brackets and blocks are limited by the lexer.
const maxDepth = 1000

// parser parses what the grammar leaves to hand-written code. It stops at the first fault by panicking with it; run and
// rescue turn that into an error, and nothing outside sees the panic.
type parser struct {
	g     *grammar
	lex   *plexer.PeekingLexer
	prev  token // the token consumed last
	depth int
}

func (g *grammar) parser(lex *plexer.PeekingLexer) *parser { return &parser{g: g, lex: lex} }

// run calls one production and returns its fault as an error.
func (p *parser) run(f func(*parser) ast.Expr) (x ast.Expr, err error) {
	defer p.rescue(&err)
	return f(p), nil
}

func (p *parser) rescue(err *error) {
	switch r := recover().(type) {
	case nil:
	case *fault:
		*err = r
	default:
		panic(r)
	}
}

func (p *parser) fail(f *fault) { panic(f) }

func (p *parser) peek() *token { return p.lex.Peek() }

func (p *parser) next() token {
	p.prev = *p.lex.Next()
	return p.prev
}

// peek2 returns the token after the next one.
func (p *parser) peek2() *token {
	cp := p.lex.MakeCheckpoint()
	p.lex.Next()
	t := p.lex.Peek()
	p.lex.LoadCheckpoint(cp)
	return t
}

func kindOf(t *token) lexer.Kind {
	if t.EOF() {
		return lexer.Invalid
	}
	return lexer.Kind(t.Type)
}

// isOp reports whether t is the operator or keyword text (and not, say, a string that reads like it).
func isOp(t *token, text string) bool {
	k := kindOf(t)
	return (k == lexer.Op || k == lexer.Keyword) && t.Value == text
}

// accept consumes the operator or keyword text when it is next.
func (p *parser) accept(text string) bool {
	if isOp(p.peek(), text) {
		p.next()
		return true
	}
	return false
}

// expect consumes text or fails. open is the bracket it closes, for the message; nil for none.
func (p *parser) expect(text string, open *token) {
	if p.accept(text) {
		return
	}
	t := p.peek()
	f := explain(unexpected(t, "'"+text+"'"), t, &p.prev)
	if open != nil {
		f.label = labelAt(spanOf(open), "opened here")
	}
	p.fail(f)
}

func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		p.fail(newFault("E0107", spanOf(p.peek()), "expression is nested deeper than %d levels", maxDepth))
	}
}

func (p *parser) leave() { p.depth-- }

// from returns the span from the start of a token or node to the token consumed last.
func (p *parser) from(sp source.Span) source.Span { return sp.To(spanOf(&p.prev)) }

func base(sp source.Span) ast.Base { return ast.Base{Sp: sp} }

// binaryLevel returns the precedence of a binary operator, 0 for anything else. Higher binds tighter.
func binaryLevel(t *token) int {
	if kindOf(t) != lexer.Op {
		return 0
	}
	switch t.Value {
	case "||":
		return 1
	case "&&":
		return 2
	case "|":
		return 3
	case "^":
		return 4
	case "&":
		return 5
	case "==", "!=":
		return 6
	case "<", ">", "<=", ">=":
		return 7
	case "<<", ">>":
		return 8
	case "+", "-":
		return 9
	case "*", "/", "%":
		return 10
	}
	return 0
}

// startsOperand reports whether t can begin an expression.
func startsOperand(t *token) bool {
	switch kindOf(t) {
	case lexer.Ident, lexer.Const, lexer.Int, lexer.String, lexer.Var, lexer.Map, lexer.Param:
		return true
	case lexer.Keyword:
		switch t.Value {
		case "if", "sizeof", "offsetof", "typeinfo", "comptime", "true", "false":
			return true
		}
	case lexer.Op:
		switch t.Value {
		case "(", "{", "-", "!", "~", "*", "&", "++", "--":
			return true
		}
	default:
	}
	return false
}

// expr parses a whole expression: the ternary operator binds loosest.
func (p *parser) expr() ast.Expr { return p.ternary(p.binary(1)) }

func (p *parser) ternary(cond ast.Expr) ast.Expr {
	if !p.accept("?") {
		return cond
	}
	p.enter()
	defer p.leave()
	n := &ast.Ternary{Cond: cond}
	if !p.accept(":") {
		n.X = p.expr()
		p.expect(":", nil)
	}
	n.Y = p.expr()
	n.Base = base(p.from(cond.Span()))
	return n
}

func (p *parser) binary(level int) ast.Expr { return p.binaryFrom(p.unary(), level) }

// binaryFrom continues behind the left operand x with operators of at least the given level.
func (p *parser) binaryFrom(x ast.Expr, level int) ast.Expr {
	for {
		l := binaryLevel(p.peek())
		if l == 0 || l < level {
			return x
		}
		op := p.next()
		p.enter()
		y := p.binary(l + 1)
		p.leave()
		x = &ast.Binary{Base: base(p.from(x.Span())), Op: op.Value, OpSp: spanOf(&op), X: x, Y: y}
	}
}

// unary parses prefix operators.
func (p *parser) unary() ast.Expr {
	t := *p.peek()
	if kindOf(&t) != lexer.Op {
		return p.postfix(p.primary(), true)
	}
	switch t.Value {
	case "++", "--", "&", "*", "!", "~", "-":
	default:
		return p.postfix(p.primary(), true)
	}
	p.next()
	p.enter()
	x := p.unary()
	p.leave()
	switch t.Value {
	case "++", "--":
		p.mustBeVariable(x, p.from(spanOf(&t)).To(x.Span()))
	case "&":
		switch unparen(x).(type) {
		case *ast.Var, *ast.MapRef:
		default:
			p.fail(newFault("E0113", p.from(spanOf(&t)), "only a map or a scratch variable has an address").
				hint("store the value in a variable first: `$x = ...; &$x`"))
		}
	case "-":
		if n, ok := x.(*ast.IntLit); ok && !n.Neg {
			n.Neg, n.Text, n.Sp = true, "-"+n.Text, p.from(spanOf(&t))
			return n
		}
	}
	return &ast.Unary{Base: base(p.from(spanOf(&t))), Op: t.Value, OpSp: spanOf(&t), X: x}
}

func unparen(x ast.Expr) ast.Expr {
	for {
		paren, ok := x.(*ast.Paren)
		if !ok {
			return x
		}
		x = paren.X
	}
}

// mustBeVariable fails at sp unless x can be incremented.
func (p *parser) mustBeVariable(x ast.Expr, sp source.Span) {
	switch x := unparen(x).(type) {
	case *ast.Var, *ast.MapRef:
		return
	case *ast.Index:
		if _, ok := x.X.(*ast.MapRef); ok {
			return
		}
	}
	p.fail(newFault("E0112", sp, "syntax: increment/decrement requires a variable or map").
		hint("assign the new value instead, or store it in a variable first"))
}

// postfix parses what follows an operand: fields, indexes, ++ and --. The latter are left alone when inc is false.
func (p *parser) postfix(x ast.Expr, inc bool) ast.Expr {
	for {
		t := *p.peek()
		if kindOf(&t) != lexer.Op {
			return x
		}
		switch t.Value {
		case ".", "->":
			p.next()
			x = p.field(x, &t)
		case "[":
			x = p.index(x)
		case "++", "--":
			if !inc {
				return x
			}
			p.mustBeVariable(x, spanOf(&t))
			p.next()
			x = &ast.Unary{Base: base(p.from(x.Span())), Op: t.Value, OpSp: spanOf(&t), X: x, Postfix: true}
		default:
			return x
		}
	}
}

// field parses the name or number behind `.` or `->`.
func (p *parser) field(x ast.Expr, dot *token) ast.Expr {
	t := *p.peek()
	switch k := kindOf(&t); {
	case k == lexer.Int && dot.Value == ".":
		if _, ok := x.(*ast.IntLit); ok {
			p.fail(newFault("E0115", x.Span().To(spanOf(&t)), "there are no floating-point numbers").
				hint("scale the value to an integer, for example microseconds instead of seconds"))
		}
		p.next()
		n := lexer.ParseInt(t.Value)
		if n.Problem != "" || n.Overflow || n.Suffix != "" || n.Duration || n.Value > 1<<31 {
			p.fail(newFault("E0105", spanOf(&t), "`%s` is not a tuple index", t.Value).hint("count elements from 0, like `$t.0`"))
		}
		return &ast.TupleField{Base: base(p.from(x.Span())), X: x, Index: int(n.Value)}
	case k == lexer.Ident || k == lexer.Const || k == lexer.Keyword:
		p.next()
		return &ast.Field{Base: base(p.from(x.Span())), X: x, Name: t.Value, NameSp: spanOf(&t), Arrow: dot.Value == "->"}
	}
	f := unexpected(&t, "field name after '"+dot.Value+"'")
	if kindOf(&t) == lexer.Var || kindOf(&t) == lexer.Map {
		f.hint("name the field itself; fields cannot be chosen at run time")
	}
	p.fail(f)
	return nil
}

// index parses `[keys]`; only maps take more than one.
func (p *parser) index(x ast.Expr) ast.Expr {
	open := p.next()
	n := &ast.Index{X: x}
	_, isMap := x.(*ast.MapRef)
	for {
		n.Keys = append(n.Keys, p.expr())
		if !isMap || !p.accept(",") {
			break
		}
	}
	p.expect("]", &open)
	n.Base = base(p.from(x.Span()))
	return n
}

// statementExpr parses an expression in the place of a statement. A block or an `if` ends there, unless an operator that
// cannot start a statement of its own goes on.
func (p *parser) statementExpr() ast.Expr {
	if t := p.peek(); !isOp(t, "{") && !isOp(t, "if") {
		return p.expr()
	}
	x := p.postfix(p.primary(), false)
	return p.ternary(p.binaryFrom(x, 1))
}

// condition parses the condition of if, while and unroll: an expression in parentheses, or one operand, because the brace
// of the body must not be taken for a part of it. The parentheses leave no trace in the tree.
func (p *parser) condition() ast.Expr {
	open := *p.peek()
	if !isOp(&open, "(") {
		if !startsOperand(&open) {
			p.fail(unexpected(&open, "a condition"))
		}
		x := p.unary()
		if t := p.peek(); binaryLevel(t) > 0 || isOp(t, "?") {
			p.fail(newFault("E0101", spanOf(t), "syntax: expected '{', found %s", quote(t)).
				hint("put the condition in parentheses"))
		}
		return x
	}
	p.next()
	x := p.expr()
	if t := p.peek(); kindOf(t) == lexer.Assign && t.Value == "=" {
		p.fail(unexpected(t, "')'").hint("compare with `==`"))
	}
	p.expect(")", &open)
	if t := p.peek(); binaryLevel(t) > 0 {
		p.fail(newFault("E0101", spanOf(t), "syntax: expected '{', found %s", quote(t)).
			hint("put the whole condition in one pair of parentheses"))
	}
	return x
}

// block parses `{ ... }` by the grammar and converts it.
func (p *parser) block(asValue bool) *ast.Block {
	if t := p.peek(); !isOp(t, "{") {
		p.fail(explain(unexpected(t, "'{'"), t, &p.prev))
	}
	raw, err := p.g.block.ParseFromLexer(p.lex, participle.AllowTrailing(true))
	if err != nil {
		p.fail(asFault(err, prevToken(p.lex)))
	}
	p.prev = raw.Close
	b, f := convertBlock(raw, asValue)
	if f != nil {
		p.fail(f)
	}
	return b
}

// prevToken returns the token before the current one, nil at the start.
func prevToken(lex *plexer.PeekingLexer) *token {
	n := lex.RawCursor()
	if n == 0 {
		return nil
	}
	return &lex.Range(n-1, n)[0]
}
