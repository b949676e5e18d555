package ast

import (
	"fmt"
	"strconv"
	"strings"
)

// Dump renders a tree as nested lists, one statement a line, as `sonde -d ast` prints it. Two trees that mean the same to the
// checker dump the same: spans, comments and layout are left out.
func Dump(n Node) string {
	d := &dumper{}
	d.node(n)
	return d.b.String()
}

type dumper struct {
	b      strings.Builder
	indent int
}

func (d *dumper) line(format string, args ...any) {
	d.b.WriteString(strings.Repeat("  ", d.indent))
	fmt.Fprintf(&d.b, format, args...)
	d.b.WriteByte('\n')
}

// open writes the head of a list whose children follow on lines of their own; close ends it.
func (d *dumper) open(format string, args ...any) {
	d.line("("+format, args...)
	d.indent++
}

func (d *dumper) close() {
	d.indent--
	s := strings.TrimSuffix(d.b.String(), "\n")
	d.b.Reset()
	d.b.WriteString(s + ")\n")
}

func (d *dumper) node(n Node) {
	switch n := n.(type) {
	case *Script:
		for _, it := range n.Items {
			// A dumper of its own keeps close() from copying the whole text again and again.
			sub := &dumper{indent: d.indent}
			sub.item(it)
			d.b.WriteString(sub.b.String())
		}
	case Item:
		d.item(n)
	case *Block:
		d.block(n, true)
	case Stmt:
		d.stmt(n)
	case Expr:
		d.line("%s", sexpr(n))
	case *TypeSpec:
		d.line("(type %s)", n)
	default:
		d.line("(%T)", n)
	}
}

func (d *dumper) item(it Item) {
	switch n := it.(type) {
	case *Probe:
		d.open("probe")
		if n.Name != "" {
			d.line("(name %s)", n.Name)
		}
		for _, a := range n.Attach {
			s := "(attach " + strconv.Quote(a.Kind)
			for _, seg := range a.Segments {
				s += " " + strconv.Quote(seg.Text)
			}
			d.line("%s)", s)
		}
		if n.Predicate != nil {
			d.line("(predicate %s)", sexpr(n.Predicate))
		}
		d.block(n.Body, false)
		d.close()
	case *MapDecl:
		d.line("(map %s %s%s)", n.Name, n.Kind, sexprs(n.Args))
	case *Config:
		d.open("config")
		for _, s := range n.Settings {
			d.line("(%s %q)", s.Name, s.Value)
		}
		d.close()
	case *Import:
		d.line("(import %q)", n.Path)
	case *Macro:
		d.open("macro %s", n.Name)
		for _, p := range n.Params {
			d.line("(param %s)", p.Name)
		}
		d.block(n.Body, true)
		d.close()
	case *CDef:
		kind := [...]string{"struct", "enum", "typedef", "directive"}[n.Kind]
		d.line("(c-%s %q %q)", kind, n.Name, strings.Join(strings.Fields(n.Text), " "))
	case *Subprog:
		d.open("fn %s", n.Name)
		for _, p := range n.Params {
			d.line("(param %s %s)", p.Name, p.Type)
		}
		d.line("(result %s)", n.Result)
		d.block(n.Body, false)
		d.close()
	default:
		d.line("(%T)", n)
	}
}

// block writes the statements of a block. In a body, the result is just another statement.
func (d *dumper) block(b *Block, asValue bool) {
	d.open("block")
	for _, s := range b.Stmts {
		d.stmt(s)
	}
	switch {
	case b.Result == nil:
	case asValue:
		d.line("(result %s)", sexpr(b.Result))
	default:
		d.line("(expr %s)", sexpr(b.Result))
	}
	d.close()
}

func (d *dumper) stmt(s Stmt) {
	switch n := s.(type) {
	case *Block:
		d.block(n, false)
	case *ExprStmt:
		d.line("(expr %s)", sexpr(n.X))
	case *Assign:
		word := "set"
		if n.Let {
			word = "let"
		}
		typ := ""
		if n.Type != nil {
			typ = " (type " + n.Type.String() + ")"
		}
		d.line("(%s %s %s%s %s)", word, n.Op, sexpr(n.Target), typ, sexpr(n.Value))
	case *Let:
		if n.Type != nil {
			d.line("(let %s (type %s))", n.Var.Name, n.Type)
		} else {
			d.line("(let %s)", n.Var.Name)
		}
	case *If:
		d.ifStmt(n)
	case *While:
		d.open("while %s", sexpr(n.Cond))
		d.block(n.Body, false)
		d.close()
	case *Unroll:
		d.open("unroll %s", sexpr(n.Count))
		d.block(n.Body, false)
		d.close()
	case *ForMap:
		d.open("for %s %s", n.Var.Name, n.Map.Name)
		d.block(n.Body, false)
		d.close()
	case *ForRange:
		d.open("for %s %s %s", n.Var.Name, sexpr(n.Lo), sexpr(n.Hi))
		d.block(n.Body, false)
		d.close()
	case *Jump:
		word := [...]string{"break", "continue", "return"}[n.Kind]
		if n.Value != nil {
			word += " " + sexpr(n.Value)
		}
		d.line("(%s)", word)
	case *Import:
		d.line("(import %q)", n.Path)
	default:
		d.line("(%T)", n)
	}
}

func (d *dumper) ifStmt(n *If) {
	word := "if"
	if n.Comptime {
		word = "if-comptime"
	}
	d.open("%s %s", word, sexpr(n.Cond))
	d.block(n.Then, false)
	if n.Else != nil {
		d.block(n.Else, false)
	}
	d.close()
}

func sexprs(list []Expr) string {
	s := ""
	for _, x := range list {
		s += " " + sexpr(x)
	}
	return s
}

// sexpr writes an expression on one line.
func sexpr(x Expr) string {
	switch n := x.(type) {
	case nil:
		return "nil"
	case *IntLit:
		return n.Text
	case *StrLit:
		return strconv.Quote(n.Value)
	case *BoolLit:
		return strconv.FormatBool(n.Value)
	case *Ident:
		return n.Name
	case *Var:
		return n.Name
	case *MapRef:
		return n.Name
	case *Positional:
		if n.N == 0 {
			return "$#"
		}
		return "$" + strconv.Itoa(n.N)
	case *Unary:
		if n.Postfix {
			return "(post" + n.Op + " " + sexpr(n.X) + ")"
		}
		return "(" + n.Op + " " + sexpr(n.X) + ")"
	case *Binary:
		return "(" + n.Op + " " + sexpr(n.X) + " " + sexpr(n.Y) + ")"
	case *Ternary:
		if n.X == nil {
			return "(?: " + sexpr(n.Cond) + " " + sexpr(n.Y) + ")"
		}
		return "(? " + sexpr(n.Cond) + " " + sexpr(n.X) + " " + sexpr(n.Y) + ")"
	case *Call:
		return "(call " + n.Func + sexprs(n.Args) + ")"
	case *Field:
		op := "."
		if n.Arrow {
			op = "->"
		}
		return "(" + op + " " + sexpr(n.X) + " " + n.Name + ")"
	case *TupleField:
		return "(. " + sexpr(n.X) + " " + strconv.Itoa(n.Index) + ")"
	case *Index:
		return "(index " + sexpr(n.X) + sexprs(n.Keys) + ")"
	case *Cast:
		return "(cast (type " + n.Type.String() + ") " + sexpr(n.X) + ")"
	case *Sizeof:
		return "(sizeof " + typeOrExpr(n.Type, n.X) + ")"
	case *Offsetof:
		return "(offsetof " + typeOrExpr(n.Type, n.X) + " " + strings.Join(n.Fields, ".") + ")"
	case *Typeinfo:
		return "(typeinfo " + typeOrExpr(n.Type, n.X) + ")"
	case *Tuple:
		return "(tuple" + sexprs(n.Elems) + ")"
	case *Record:
		s := "(record"
		for i, name := range n.Names {
			s += " (" + name + " " + sexpr(n.Values[i]) + ")"
		}
		return s + ")"
	case *BlockExpr:
		return sblock(n.Block)
	case *IfExpr:
		word := "if"
		if n.If.Comptime {
			word = "if-comptime"
		}
		s := "(" + word + " " + sexpr(n.If.Cond) + " " + sblock(n.If.Then)
		if n.If.Else != nil {
			s += " " + sblock(n.If.Else)
		}
		return s + ")"
	case *Comptime:
		return "(comptime " + sexpr(n.X) + ")"
	case *TypeArg:
		return "(type " + n.Type.String() + ")"
	case *Discard:
		return "_"
	case *Paren:
		return "(paren " + sexpr(n.X) + ")"
	case *Bad:
		return "(bad)"
	}
	return fmt.Sprintf("(%T)", x)
}

func typeOrExpr(t *TypeSpec, x Expr) string {
	if t != nil {
		return "(type " + t.String() + ")"
	}
	return sexpr(x)
}

// sblock writes a block inside an expression, on one line.
func sblock(b *Block) string {
	d := &dumper{}
	d.block(b, true)
	return strings.Join(strings.Fields(d.b.String()), " ")
}
