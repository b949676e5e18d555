package lower

import (
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
)

// UsesOf collects what bodies use.
func UsesOf(bodies ...*check.Body) *Uses {
	u := &Uses{Names: map[string]bool{}, Fields: map[string]bool{}, MaxArg: -1}
	for _, b := range bodies {
		u.add(b)
	}
	return u
}

func (u *Uses) add(b *check.Body) {
	members := map[ast.Expr]bool{}
	visit := func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			if id, ok := unparen(n.X).(*ast.Ident); ok && builtinName(b, id) == "args" {
				members[id] = true
				u.Fields[n.Name] = true
			}
		case *ast.Ident:
			name := builtinName(b, n)
			if name == "" {
				return true
			}
			u.Names[name] = true
			if use := b.Idents[n].Builtin; use.Name == "arg0" || use.Index > 0 || name == "argN" {
				u.Names["argN"] = true
				u.MaxArg = max(u.MaxArg, use.Index)
			}
			if name == "args" && !members[n] {
				u.WholeArgs = true
			}
		case *ast.Call:
			if c := b.Calls[n]; c != nil && c.Func != nil {
				u.Names[c.Func.Name] = true
			} else {
				u.Names[n.Func] = true
			}
		}
		return true
	}
	if b.Predicate != nil {
		inspect(b.Predicate, visit)
	}
	if b.Block != nil {
		inspect(b.Block, visit)
	}
}

// builtinName returns the name of the builtin variable that an identifier stands for, "" when it is none.
func builtinName(b *check.Body, id *ast.Ident) string {
	i := b.Idents[id]
	if i == nil || i.Var == nil {
		return ""
	}
	return i.Var.Name
}

func unparen(e ast.Expr) ast.Expr {
	for {
		p, ok := e.(*ast.Paren)
		if !ok {
			return e
		}
		e = p.X
	}
}

// facts are what lowering must know of a body before it starts.
type facts struct {
	assigned map[*check.LocalVar]int // number of assignments
}

func collectFacts(b *check.Body) *facts {
	f := &facts{assigned: map[*check.LocalVar]int{}}
	visit := func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Assign:
			if v, ok := unparen(n.Target).(*ast.Var); ok {
				f.assigned[b.Vars[v]]++
			}
		case *ast.Let:
			f.assigned[b.Vars[n.Var]] += 2 // it may be read before it is assigned
		case *ast.Unary:
			if v, ok := unparen(n.X).(*ast.Var); ok && (n.Op == "++" || n.Op == "--" || n.Op == "&") {
				f.assigned[b.Vars[v]] += 2
			}
		case *ast.Call:
			for _, a := range n.Args {
				if v, ok := unparen(a).(*ast.Var); ok {
					f.assigned[b.Vars[v]]++ // find() assigns to its argument
				}
			}
		}
		return true
	}
	if b.Predicate != nil {
		inspect(b.Predicate, visit)
	}
	if b.Block != nil {
		inspect(b.Block, visit)
	}
	return f
}

// inspect visits n and all nodes under it, parents first, as long as fn returns true.
func inspect(n ast.Node, fn func(ast.Node) bool) {
	if n == nil || !fn(n) {
		return
	}
	each(n, func(c ast.Node) { inspect(c, fn) })
}

// each calls fn for the direct children of n that are statements or expressions.
func each(n ast.Node, fn func(ast.Node)) {
	expr := func(e ast.Expr) {
		if e != nil {
			fn(e)
		}
	}
	exprs := func(l []ast.Expr) {
		for _, e := range l {
			expr(e)
		}
	}
	block := func(b *ast.Block) {
		if b != nil {
			fn(b)
		}
	}
	switch n := n.(type) {
	case *ast.Block:
		for _, s := range n.Stmts {
			fn(s)
		}
		expr(n.Result)
	case *ast.ExprStmt:
		expr(n.X)
	case *ast.Assign:
		expr(n.Target)
		expr(n.Value)
	case *ast.Let:
		fn(n.Var)
	case *ast.If:
		expr(n.Cond)
		block(n.Then)
		block(n.Else)
	case *ast.While:
		expr(n.Cond)
		block(n.Body)
	case *ast.Unroll:
		expr(n.Count)
		block(n.Body)
	case *ast.ForMap:
		fn(n.Var)
		fn(n.Map)
		block(n.Body)
	case *ast.ForRange:
		fn(n.Var)
		expr(n.Lo)
		expr(n.Hi)
		block(n.Body)
	case *ast.Jump:
		expr(n.Value)
	case *ast.Unary:
		expr(n.X)
	case *ast.Binary:
		expr(n.X)
		expr(n.Y)
	case *ast.Ternary:
		expr(n.Cond)
		expr(n.X)
		expr(n.Y)
	case *ast.Call:
		exprs(n.Args)
	case *ast.Field:
		expr(n.X)
	case *ast.TupleField:
		expr(n.X)
	case *ast.Index:
		expr(n.X)
		exprs(n.Keys)
	case *ast.Cast:
		expr(n.X)
	case *ast.Tuple:
		exprs(n.Elems)
	case *ast.Record:
		exprs(n.Values)
	case *ast.BlockExpr:
		block(n.Block)
	case *ast.IfExpr:
		fn(n.If)
	case *ast.Comptime:
		expr(n.X)
	case *ast.Paren:
		expr(n.X)
	}
}
