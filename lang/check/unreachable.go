package check

import (
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
)

// Statements that nothing can reach are found in the probes as they are written, before macros and conditions of literals are expanded: what a
// macro leaves out, or `if (1)` decides, is meant.

// unreachable warns of the first statement behind one that never goes on, in each block of a probe.
func (c *checker) unreachable(p *ast.Probe) { c.ends(p.Body) }

// neverGoesOn reports whether the statements of a block, as it is written, end the flow before its value: then it has none.
func neverGoesOn(b *ast.Block) bool {
	silent := &checker{diags: &diag.List{}}
	return silent.ends(&ast.Block{Base: b.Base, Stmts: b.Stmts})
}

// ends looks at a block and reports whether control never leaves it at its end.
func (c *checker) ends(b *ast.Block) bool {
	if b == nil {
		return false
	}
	over := false // the statement before ends the flow
	warn := func(sp source.Span) {
		if over {
			c.diags.Warnf(CodeUnreachable, sp, "Unreachable statement.").Hint("the statement before it never goes on")
		}
	}
	ended := false
	for i, s := range b.Stmts {
		sp := s.Span()
		switch n := s.(type) {
		case *ast.Assign:
			sp = assignSpan(n)
		case *ast.Let:
			sp.End = n.Var.Sp.End
		case *ast.If, *ast.Block:
			if i == len(b.Stmts)-1 && b.Result == nil {
				sp = b.Sp
			}
		}
		warn(sp)
		over = c.stmtEnds(s)
		ended = ended || over
	}
	if b.Result != nil {
		warn(b.Sp)
		ended = c.exprEnds(b.Result) || ended
	}
	return ended
}

func (c *checker) stmtEnds(s ast.Stmt) bool {
	switch s := s.(type) {
	case *ast.Jump:
		return true
	case *ast.Block:
		return c.ends(s)
	case *ast.ExprStmt:
		return c.exprEnds(s.X)
	case *ast.If:
		then, other := c.ends(s.Then), c.ends(s.Else)
		return then && other
	case *ast.While:
		c.ends(s.Body)
	case *ast.ForMap:
		c.ends(s.Body)
	case *ast.ForRange:
		c.ends(s.Body)
	case *ast.Unroll:
		return c.ends(s.Body)
	}
	return false
}

func (c *checker) exprEnds(e ast.Expr) bool {
	switch e := unparen(e).(type) {
	case *ast.Call:
		return e.Func == "exit"
	case *ast.Ternary:
		return c.exprEnds(e.X) && c.exprEnds(e.Y)
	case *ast.BlockExpr:
		return c.ends(e.Block)
	case *ast.IfExpr:
		return c.stmtEnds(e.If)
	}
	return false
}
