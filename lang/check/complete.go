package check

import (
	"fmt"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/types"
)

// Complete reports an expression, variable or map of a script without errors that has no type: a fault of the checker, which tests look for.
func Complete(info *Info) error {
	for _, name := range info.Order {
		if m := info.Maps[name]; !m.Declared && (m.Value == nil || m.Value.Kind == types.Invalid) {
			return fmt.Errorf("map %s has no type", name)
		}
	}
	for _, b := range info.Bodies {
		var err error
		visit := func(n ast.Node) bool {
			switch e := n.(type) {
			case *ast.Discard, *ast.TypeSpec:
				return false
			case *ast.Sizeof, *ast.Offsetof, *ast.Typeinfo, *ast.TypeArg: // not evaluated
				if t := b.Types[n.(ast.Expr)]; t == nil {
					err = fmt.Errorf("no type: %s", ast.ExprString(n.(ast.Expr)))
				}
				return false
			case *ast.Var:
				if v := b.Vars[e]; v == nil || v.Type == nil {
					err = fmt.Errorf("variable %s is not bound", e.Name)
				}
			case ast.Expr:
				if t := b.Types[e]; t == nil || t.Kind == types.Invalid {
					err = fmt.Errorf("no type: %s (%T)", ast.ExprString(e), e)
				}
			}
			return err == nil
		}
		if b.Predicate != nil {
			ast.Inspect(b.Predicate, visit)
		}
		ast.Inspect(b.Block, visit)
		if err != nil {
			return err
		}
	}
	return nil
}
