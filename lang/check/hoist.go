package check

import (
	"github.com/sonde-sh/sonde/lang/ast"
)

// Before scratch variables had block scope, a variable assigned inside a block could be read behind it, and many public scripts do so. Such
// a variable is declared at the start of the body instead, with a warning; a script in the new dialect has none.

// leaks finds variables that are used behind the block that they were first assigned in.
type leaks struct {
	scopes []map[string]bool
	ended  map[string]*ast.Var
	found  map[string]bool
	order  []*ast.Var
	uses   []*ast.Var
}

// hoist declares leaked variables at the start of the body.
func (b *body) hoist() {
	if b.Block == nil || b.c.modern {
		return
	}
	l := &leaks{ended: map[string]*ast.Var{}, found: map[string]bool{}}
	l.block(b.Block)
	if len(l.order) == 0 {
		return
	}
	var lets []ast.Stmt
	for i, v := range l.order {
		d := &ast.Var{Name: v.Name}
		d.Sp = v.Sp
		let := &ast.Let{Var: d}
		let.Sp = v.Sp
		lets = append(lets, let)
		b.c.diags.Warnf(CodeLeakedVar, l.uses[i].Sp, "`%s` is used outside of the block that assigns it", displayName(v.Name)).
			Label(v.Sp, "assigned in this block").Hint("declare it before the block with `let %s;`", displayName(v.Name))
	}
	b.Block.Stmts = append(lets, b.Block.Stmts...)
}

func (l *leaks) push() { l.scopes = append(l.scopes, map[string]bool{}) }

func (l *leaks) pop(decls map[string]*ast.Var) {
	for name := range l.scopes[len(l.scopes)-1] {
		if v := decls[name]; v != nil && l.ended[name] == nil {
			l.ended[name] = v
		}
	}
	l.scopes = l.scopes[:len(l.scopes)-1]
}

func (l *leaks) declared(name string) bool {
	for _, s := range l.scopes {
		if s[name] {
			return true
		}
	}
	return false
}

func (l *leaks) use(v *ast.Var) {
	first := l.ended[v.Name]
	if first == nil || l.found[v.Name] || l.declared(v.Name) {
		return
	}
	l.found[v.Name] = true
	l.order = append(l.order, first)
	l.uses = append(l.uses, v)
}

// block visits a block; only plain assignments can leak, not `let` and not loop variables.
func (l *leaks) block(b *ast.Block) {
	if b == nil {
		return
	}
	l.push()
	decls := map[string]*ast.Var{}
	for _, s := range b.Stmts {
		l.stmt(s, decls)
	}
	l.expr(b.Result)
	l.pop(decls)
}

func (l *leaks) loop(v *ast.Var, b *ast.Block) {
	l.push()
	l.scopes[len(l.scopes)-1][v.Name] = true
	l.block(b)
	l.pop(nil)
}

func (l *leaks) stmt(s ast.Stmt, decls map[string]*ast.Var) {
	top := l.scopes[len(l.scopes)-1]
	switch s := s.(type) {
	case *ast.Block:
		l.block(s)
	case *ast.ExprStmt:
		l.expr(s.X)
	case *ast.Assign:
		l.expr(s.Value)
		v, ok := s.Target.(*ast.Var)
		switch {
		case !ok:
			l.expr(s.Target)
		case s.Op != "=":
			l.use(v)
		case !l.declared(v.Name):
			top[v.Name] = true
			if !s.Let {
				decls[v.Name] = v
			}
		}
	case *ast.Let:
		top[s.Var.Name] = true
	case *ast.If:
		l.expr(s.Cond)
		l.block(s.Then)
		l.block(s.Else)
	case *ast.While:
		l.expr(s.Cond)
		l.block(s.Body)
	case *ast.Unroll:
		l.expr(s.Count)
		l.block(s.Body)
	case *ast.ForMap:
		l.loop(s.Var, s.Body)
	case *ast.ForRange:
		l.expr(s.Lo)
		l.expr(s.Hi)
		l.loop(s.Var, s.Body)
	case *ast.Jump:
		l.expr(s.Value)
	}
}

// expr visits the variables of an expression; blocks inside it have scopes of their own.
func (l *leaks) expr(e ast.Expr) {
	if e == nil {
		return
	}
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Block:
			l.block(n)
			return false
		case *ast.Var:
			l.use(n)
		}
		return true
	})
}
