package ast

import (
	"strconv"
	"strings"
)

// expr prints an expression. Comments that stand before one of its leaves go out with the leaf.
func (p *printer) expr(x Expr) {
	switch n := x.(type) {
	case nil:
	case *IntLit:
		p.leaf(n, n.Text)
	case *StrLit:
		p.leaf(n, n.Text)
	case *BoolLit:
		p.leaf(n, strconv.FormatBool(n.Value))
	case *Ident:
		name := n.Name
		if p.opts.Modern && name == "stack" {
			name = "kstack"
		}
		p.leaf(n, name)
	case *Var:
		p.leaf(n, n.Name)
	case *MapRef:
		p.leaf(n, n.Name)
	case *Positional:
		p.inline(n.Sp.Start)
		p.positional(n)
	case *Unary:
		p.unary(n)
	case *Binary:
		p.expr(n.X)
		p.text(" " + n.Op + " ")
		p.mayBreak()
		p.expr(n.Y)
	case *Ternary:
		p.expr(n.Cond)
		if n.X == nil {
			p.text(" ?: ")
		} else {
			p.text(" ? ")
			p.mayBreak()
			p.expr(n.X)
			p.text(" : ")
		}
		p.mayBreak()
		p.expr(n.Y)
	case *Call:
		p.call(n)
	case *Field:
		p.expr(n.X)
		op := "."
		if n.Arrow && !p.opts.Modern {
			op = "->"
		}
		p.text(op)
		p.leafAt(n.NameSp.Start, n.Name)
	case *TupleField:
		p.expr(n.X)
		p.text("." + strconv.Itoa(n.Index))
	case *Index:
		p.expr(n.X)
		p.text("[")
		p.list(n.Keys)
		p.text("]")
	case *Cast:
		p.inline(n.Sp.Start)
		p.text("(")
		p.typeSpec(n.Type)
		p.text(")")
		p.expr(n.X)
	case *Sizeof:
		p.leaf(n, "sizeof(")
		p.typeOrExpr(n.Type, n.X)
		p.text(")")
	case *Typeinfo:
		p.leaf(n, "typeinfo(")
		p.typeOrExpr(n.Type, n.X)
		p.text(")")
	case *Offsetof:
		p.leaf(n, "offsetof(")
		p.typeOrExpr(n.Type, n.X)
		p.text(", " + strings.Join(n.Fields, ".") + ")")
	case *Tuple:
		p.leaf(n, "(")
		p.list(n.Elems)
		if len(n.Elems) == 1 {
			p.text(",")
		}
		p.text(")")
	case *Record:
		p.leaf(n, "(")
		for i, name := range n.Names {
			if i > 0 {
				p.text(", ")
				p.mayBreak()
			}
			p.text(name + "=")
			p.expr(n.Values[i])
		}
		p.text(")")
	case *BlockExpr:
		p.inline(n.Sp.Start)
		p.valueBlock(n.Block, true)
	case *IfExpr:
		p.inline(n.Sp.Start)
		p.ifChain(n.If, true)
	case *Comptime:
		p.leaf(n, "comptime ")
		p.expr(n.X)
	case *TypeArg:
		p.inline(n.Sp.Start)
		p.typeSpec(n.Type)
	case *Discard:
		p.leaf(n, "_")
	case *Paren:
		p.leaf(n, "(")
		p.expr(n.X)
		p.text(")")
	case *Bad:
		p.text("/* error */ 0")
	}
}

func (p *printer) leaf(n Node, text string) { p.leafAt(n.Span().Start, text) }

func (p *printer) leafAt(off int32, text string) {
	p.inline(off)
	p.text(text)
}

func (p *printer) unary(n *Unary) {
	if n.Postfix {
		p.expr(n.X)
		p.text(n.Op)
		return
	}
	p.leaf(n, n.Op)
	// `- -x` must not become `--x`.
	if text := ExprString(n.X); strings.HasPrefix(text, n.Op[:1]) && (n.Op == "-" || n.Op == "&" || n.Op == "--") {
		p.text(" ")
	}
	p.expr(n.X)
}

func (p *printer) call(n *Call) {
	name := n.Func
	if p.opts.Modern && name == "stack" {
		name = "kstack"
	}
	p.leafAt(n.FuncSp.Start, name)
	if p.opts.Modern && name == "delete" && len(n.Args) == 1 && oldDelete(n) {
		ix := n.Args[0].(*Index)
		key := ix.Keys[0]
		if len(ix.Keys) > 1 {
			key = &Tuple{Elems: ix.Keys}
		}
		p.args([]Expr{ix.X, key})
		return
	}
	p.args(n.Args)
}

func (p *printer) typeOrExpr(t *TypeSpec, x Expr) {
	if t != nil {
		p.typeSpec(t)
		return
	}
	p.expr(x)
}

// typeSpec prints a type: `struct foo *`, `uint8[4]`, `typeof(x)`.
func (p *printer) typeSpec(t *TypeSpec) {
	if t == nil {
		return
	}
	p.inline(t.Sp.Start)
	switch {
	case t.Typeof != nil:
		p.text("typeof(")
		p.expr(t.Typeof)
		p.text(")")
	case t.TypeofType != nil:
		p.text("typeof(")
		p.typeSpec(t.TypeofType)
		p.text(")")
	case t.Elems != nil:
		p.text("(")
		for i, e := range t.Elems {
			if i > 0 {
				p.text(", ")
			}
			if i < len(t.FieldNames) {
				p.text(t.FieldNames[i] + " : ")
			}
			p.typeSpec(e)
		}
		p.text(")")
	case t.Tag != "":
		p.text(t.Tag + " " + t.Name)
	default:
		p.text(t.Name)
	}
	wasPointer := false
	for _, s := range t.Suffix {
		switch {
		case s.Pointer && wasPointer:
			p.text("*")
		case s.Pointer:
			p.text(" *")
		default:
			p.text("[")
			p.expr(s.Len)
			p.text("]")
		}
		wasPointer = s.Pointer
	}
}
