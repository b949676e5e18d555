package ast

// Inspect calls f for n and, while f returns true, for the nodes below it, in source order. Type specifications are
// visited too; comments are not. A nil n is allowed.
func Inspect(n Node, f func(Node) bool) {
	if n == nil || !f(n) {
		return
	}
	children(n, func(c Node) { Inspect(c, f) })
}

// Visitor is called by Walk. Enter returns false to skip what is below the node; Leave is called after it otherwise.
type Visitor interface {
	Enter(Node) bool
	Leave(Node)
}

// Walk visits n and everything below it in source order.
func Walk(v Visitor, n Node) {
	if n == nil || !v.Enter(n) {
		return
	}
	children(n, func(c Node) { Walk(v, c) })
	v.Leave(n)
}

// children calls f for the nodes directly below n, leaving out absent ones.
func children(n Node, f func(Node)) {
	expr := func(x Expr) {
		if x != nil {
			f(x)
		}
	}
	exprs := func(list []Expr) {
		for _, x := range list {
			expr(x)
		}
	}
	block := func(b *Block) {
		if b != nil {
			f(b)
		}
	}
	typ := func(t *TypeSpec) {
		if t != nil {
			f(t)
		}
	}
	switch n := n.(type) {
	case *Script:
		for _, it := range n.Items {
			f(it)
		}
	case *Probe:
		for _, a := range n.Attach {
			f(a)
		}
		expr(n.Predicate)
		block(n.Body)
	case *MapDecl:
		exprs(n.Args)
	case *Config:
		for _, s := range n.Settings {
			f(s)
		}
	case *Macro:
		for _, p := range n.Params {
			f(p)
		}
		block(n.Body)
	case *Subprog:
		for _, p := range n.Params {
			f(p)
		}
		typ(n.Result)
		block(n.Body)
	case *SubprogParam:
		typ(n.Type)
	case *Block:
		for _, s := range n.Stmts {
			f(s)
		}
		expr(n.Result)
	case *ExprStmt:
		expr(n.X)
	case *Assign:
		expr(n.Target)
		typ(n.Type)
		expr(n.Value)
	case *Let:
		f(n.Var)
		typ(n.Type)
	case *If:
		expr(n.Cond)
		block(n.Then)
		block(n.Else)
	case *While:
		expr(n.Cond)
		block(n.Body)
	case *Unroll:
		expr(n.Count)
		block(n.Body)
	case *ForMap:
		f(n.Var)
		f(n.Map)
		block(n.Body)
	case *ForRange:
		f(n.Var)
		expr(n.Lo)
		expr(n.Hi)
		block(n.Body)
	case *Jump:
		expr(n.Value)
	case *Unary:
		expr(n.X)
	case *Binary:
		expr(n.X)
		expr(n.Y)
	case *Ternary:
		expr(n.Cond)
		expr(n.X)
		expr(n.Y)
	case *Call:
		exprs(n.Args)
	case *Field:
		expr(n.X)
	case *TupleField:
		expr(n.X)
	case *Index:
		expr(n.X)
		exprs(n.Keys)
	case *Cast:
		typ(n.Type)
		expr(n.X)
	case *Sizeof:
		typ(n.Type)
		expr(n.X)
	case *Offsetof:
		typ(n.Type)
		expr(n.X)
	case *Typeinfo:
		typ(n.Type)
		expr(n.X)
	case *Tuple:
		exprs(n.Elems)
	case *Record:
		exprs(n.Values)
	case *BlockExpr:
		block(n.Block)
	case *IfExpr:
		f(n.If)
	case *Comptime:
		expr(n.X)
	case *TypeArg:
		typ(n.Type)
	case *Paren:
		expr(n.X)
	case *TypeSpec:
		expr(n.Typeof)
		typ(n.TypeofType)
		for _, e := range n.Elems {
			typ(e)
		}
		for _, s := range n.Suffix {
			expr(s.Len)
		}
	}
}
