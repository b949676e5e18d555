package ast

import (
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/lang/source"
)

func (p *printer) item(it Item) {
	switch n := it.(type) {
	case *Probe:
		p.probe(n)
	case *MapDecl:
		p.text("let " + n.Name + " = " + n.Kind)
		p.args(n.Args)
		p.text(";")
	case *Config:
		p.config(n)
	case *Import:
		p.text("import " + Quote(n.Path) + ";")
	case *Macro:
		p.text("macro " + n.Name + "(")
		for i, param := range n.Params {
			if i > 0 {
				p.text(", ")
				p.mayBreak()
			}
			p.inline(param.Sp.Start)
			p.text(param.Name)
		}
		p.text(") ")
		p.block(n.Body, true)
	case *CDef:
		lines := strings.Split(n.Text, "\n")
		for i, l := range lines {
			lines[i] = strings.TrimRight(l, " \t\r")
		}
		p.text(strings.Join(lines, "\n"))
	case *Subprog:
		p.text("fn " + n.Name + "(")
		for i, param := range n.Params {
			if i > 0 {
				p.text(", ")
				p.mayBreak()
			}
			p.inline(param.Sp.Start)
			p.text(param.Name + " : ")
			p.typeSpec(param.Type)
		}
		p.text(") : ")
		p.typeSpec(n.Result)
		p.text(" ")
		p.block(n.Body, false)
	}
}

// Quote writes a string literal with the escapes of the language.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c == 0x7f:
			b.WriteString(`\x` + string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]))
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func (p *printer) probe(n *Probe) {
	for i, a := range n.Attach {
		if i > 0 {
			p.text(",")
			p.done(n.Attach[i-1].Sp.End)
			for len(p.comments) > 0 && p.comments[0].Sp.Start < a.Sp.Start {
				c := p.comments[0]
				p.comments = p.comments[1:]
				p.text(p.commentText(c))
				p.newline()
			}
		}
		p.text(p.attachText(a))
	}
	if n.Predicate != nil {
		if len(n.Attach) > 1 {
			p.done(n.Attach[len(n.Attach)-1].Sp.End)
		} else {
			p.text(" ")
			p.mayBreak()
		}
		p.text("/")
		p.expr(n.Predicate)
		p.text("/")
	}
	p.text(" ")
	p.block(n.Body, false)
}

// attachText returns an attach point as written, with the new name of its kind when that is asked for.
func (p *printer) attachText(a *AttachPoint) string {
	if !p.opts.Modern {
		return a.Raw
	}
	modern := map[string]string{
		"BEGIN": "begin", "END": "end", "kfunc": "fentry", "kretfunc": "fexit",
	}[a.Kind]
	if modern == "" {
		return a.Raw
	}
	head, rest, found := strings.Cut(a.Raw, ":")
	head = strings.TrimSuffix(head, a.Kind) + modern
	if found {
		head += ":"
	}
	return head + rest
}

func (p *printer) config(n *Config) {
	p.text("config = {")
	if len(n.Settings) == 0 && !p.commentIn(n.Sp) {
		p.text("}")
		return
	}
	p.openBlock(n.Sp)
	for _, s := range n.Settings {
		p.leading(s.Sp.Start)
		p.blankIfApart(s.Sp)
		p.text(s.Name + " = ")
		p.inline(s.ValueSp.Start)
		p.text(p.set.Text(s.ValueSp) + ";")
		p.done(s.Sp.End)
	}
	p.closeBlock(n.Sp)
}

// commentIn reports whether a comment that is not printed yet lies inside sp.
func (p *printer) commentIn(sp source.Span) bool {
	return !p.flat && len(p.comments) > 0 && p.comments[0].Sp.Start < sp.End
}

// openBlock ends the line behind an opening brace and goes one level deeper.
func (p *printer) openBlock(sp source.Span) {
	if p.flat {
		p.text(" ")
		return
	}
	// Comments that stand before the brace, or behind it on its line, stay at the end of the line.
	line, from := p.lineOf(sp.Start), sp.Start+1
	for len(p.comments) > 0 {
		c := p.comments[0]
		if strings.Contains(c.Text, "\n") || c.Sp.Start > sp.Start && (p.lineOf(c.Sp.Start) != line || p.codeBetween(from, c.Sp.Start)) {
			break
		}
		from = max(from, c.Sp.End)
		p.comments = p.comments[1:]
		p.text(" " + p.commentText(c))
		if strings.HasPrefix(c.Text, "//") {
			p.newline()
			p.level++
			p.fresh = true
			p.lastLine = p.lineOf(c.Sp.End - 1)
			return
		}
	}
	p.newline()
	p.level++
	p.fresh = true
	p.lastLine = line
}

// closeBlock writes what is left before the closing brace, and the brace.
func (p *printer) closeBlock(sp source.Span) {
	if p.flat {
		p.text("}")
		return
	}
	p.leading(sp.End - 1)
	p.level--
	p.fresh = false
	p.text("}")
}

// block prints `{ ... }`. In a body (asValue false) the last expression gets a semicolon like any other.
func (p *printer) block(b *Block, asValue bool) {
	p.text("{")
	if len(b.Stmts) == 0 && b.Result == nil && !p.commentIn(b.Sp) {
		p.text("}")
		return
	}
	p.openBlock(b.Sp)
	for i, s := range b.Stmts {
		p.startLine(s.Span())
		p.stmt(s)
		if endsInBrace(s) && p.gluedTo(b, i+1) {
			p.text(";")
		}
		p.endLine(s.Span().End)
	}
	if b.Result != nil {
		p.startLine(b.Result.Span())
		p.exprStmt(b.Result, asValue)
		p.endLine(b.Result.Span().End)
	}
	p.closeBlock(b.Sp)
}

func (p *printer) startLine(sp source.Span) {
	if p.flat {
		return
	}
	p.leading(sp.Start)
	p.blankIfApart(sp)
}

func (p *printer) endLine(off int32) {
	if p.flat {
		p.text(" ")
		return
	}
	p.done(off)
}

// endsInBrace tells statements behind which an operator would be taken for a continuation.
func endsInBrace(s Stmt) bool {
	switch s.(type) {
	case *If, *Block:
		return true
	}
	return false
}

// gluedTo reports whether statement i of b starts with an operator that also continues an expression.
func (p *printer) gluedTo(b *Block, i int) bool {
	var x Expr
	switch {
	case i < len(b.Stmts):
		s, ok := b.Stmts[i].(*ExprStmt)
		if !ok {
			return false
		}
		x = s.X
	case b.Result != nil:
		x = b.Result
	default:
		return false
	}
	text := ExprString(x)
	return text[0] == '*' || text[0] == '&' || text[0] == '-' && !strings.HasPrefix(text, "--")
}

func (p *printer) stmt(s Stmt) {
	switch n := s.(type) {
	case *Block:
		p.block(n, false)
	case *ExprStmt:
		p.exprStmt(n.X, false)
	case *Assign:
		if n.Let {
			p.text("let ")
		}
		p.expr(n.Target)
		if n.Type != nil {
			p.text(" : ")
			p.typeSpec(n.Type)
		}
		op := n.Op
		if op != "=" {
			op += "="
		}
		p.text(" " + op + " ")
		p.mayBreak()
		p.expr(n.Value)
		p.text(";")
	case *Let:
		p.text("let ")
		p.expr(n.Var)
		if n.Type != nil {
			p.text(" : ")
			p.typeSpec(n.Type)
		}
		p.text(";")
	case *If:
		p.ifChain(n, false)
	case *While:
		p.text("while (")
		p.expr(n.Cond)
		p.text(") ")
		p.block(n.Body, false)
	case *Unroll:
		p.text("unroll (")
		p.expr(n.Count)
		p.text(") ")
		p.block(n.Body, false)
	case *ForMap:
		p.text("for (")
		p.expr(n.Var)
		p.text(" : ")
		p.expr(n.Map)
		p.text(") ")
		p.block(n.Body, false)
	case *ForRange:
		p.text("for (")
		p.expr(n.Var)
		p.text(" : ")
		p.expr(n.Lo)
		p.text("..")
		p.expr(n.Hi)
		p.text(") ")
		p.block(n.Body, false)
	case *Jump:
		p.text([...]string{"break", "continue", "return"}[n.Kind])
		if n.Value != nil {
			p.text(" ")
			p.expr(n.Value)
		}
		p.text(";")
	case *Import:
		p.text("import " + Quote(n.Path) + ";")
	}
}

// exprStmt prints an expression as a statement; the result of a value block gets no semicolon.
func (p *printer) exprStmt(x Expr, isResult bool) {
	if call, ok := x.(*Call); ok && p.opts.Modern && call.Func == "delete" && !isResult && len(call.Args) > 1 && oldDelete(call) {
		for i, a := range call.Args {
			if i > 0 {
				p.newline()
			}
			p.expr(&Call{Func: "delete", Args: []Expr{a}})
			p.text(";")
		}
		return
	}
	p.expr(x)
	if !isResult {
		p.text(";")
	}
}

// oldDelete reports whether all arguments of a delete are map elements, the form before has_key and friends.
func oldDelete(n *Call) bool {
	for _, a := range n.Args {
		ix, ok := a.(*Index)
		if !ok {
			return false
		}
		if _, ok := ix.X.(*MapRef); !ok {
			return false
		}
	}
	return len(n.Args) > 0
}

// ifChain prints if, else if and else.
func (p *printer) ifChain(n *If, asValue bool) {
	p.text("if ")
	if n.Comptime {
		p.text("comptime ")
	}
	p.text("(")
	p.expr(n.Cond)
	p.text(") ")
	p.valueBlock(n.Then, asValue)
	if n.Else == nil {
		return
	}
	p.text(" else ")
	if n.ElseIf {
		if inner := elseIf(n.Else); inner != nil {
			p.ifChain(inner, asValue)
			return
		}
	}
	p.valueBlock(n.Else, asValue)
}

// elseIf returns the if inside the block that stands for `else if`.
func elseIf(b *Block) *If {
	if len(b.Stmts) == 1 && b.Result == nil {
		n, _ := b.Stmts[0].(*If)
		return n
	}
	if x, ok := b.Result.(*IfExpr); ok && len(b.Stmts) == 0 {
		return x.If
	}
	return nil
}

// valueBlock prints a block used as a value on one line when it only holds a short expression.
func (p *printer) valueBlock(b *Block, asValue bool) {
	if asValue && len(b.Stmts) == 0 && b.Result != nil && !p.commentIn(b.Sp) {
		if text := ExprString(b.Result); len(text) < 40 && !strings.ContainsAny(text, "{\n") {
			p.text("{ ")
			p.expr(b.Result)
			p.text(" }")
			return
		}
	}
	p.block(b, asValue)
}

func (p *printer) args(list []Expr) {
	p.text("(")
	p.list(list)
	p.text(")")
}

func (p *printer) list(list []Expr) {
	for i, x := range list {
		if i > 0 {
			p.text(", ")
			p.mayBreak()
		}
		p.expr(x)
	}
}

func (p *printer) positional(n *Positional) {
	if n.N == 0 {
		p.text("$#")
		return
	}
	p.text("$" + strconv.Itoa(n.N))
}
