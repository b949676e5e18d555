package check

import (
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/source"
)

func setSpan(n ast.Node, sp source.Span) {
	if s, ok := n.(interface{ SetSpan(source.Span) }); ok {
		s.SetSpan(sp)
	}
}

// operands returns the expressions directly below e, without those in nested blocks and types.
func operands(e ast.Expr) []ast.Expr {
	switch e := e.(type) {
	case *ast.Unary:
		return []ast.Expr{e.X}
	case *ast.Binary:
		return []ast.Expr{e.X, e.Y}
	case *ast.Ternary:
		return []ast.Expr{e.Cond, e.X, e.Y}
	case *ast.Call:
		return e.Args
	case *ast.Field:
		return []ast.Expr{e.X}
	case *ast.TupleField:
		return []ast.Expr{e.X}
	case *ast.Index:
		return append([]ast.Expr{e.X}, e.Keys...)
	case *ast.Tuple:
		return e.Elems
	case *ast.Record:
		return e.Values
	case *ast.Comptime:
		return []ast.Expr{e.X}
	case *ast.Paren:
		return []ast.Expr{e.X}
	}
	return nil
}

func typeofOf(t *ast.TypeSpec) ast.Expr {
	for t != nil {
		if t.Typeof != nil {
			return t.Typeof
		}
		t = t.TypeofType
	}
	return nil
}

// usesScope tells whether code looks at what differs between attach points of one kind: the arguments and the result.
func usesScope(n ast.Node) bool {
	found := false
	ast.Inspect(n, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			_, isArg := argIndex(id.Name)
			found = found || isArg || id.Name == "args" || id.Name == "retval" || id.Name == "ctx"
		}
		return !found
	})
	return found
}
