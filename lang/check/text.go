package check

import (
	"slices"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/types"
)

// A member of args that points to text (types.Field.Text) stands for the string: where no number is needed, args.name is copied as
// str(args.name).

// textArgs returns the type of args when one of its members may stand for a string.
func textArgs(points []*Point) *types.Type {
	if len(points) == 0 || points[0].Args == nil || points[0].Args.Struct == nil {
		return nil
	}
	return points[0].Args
}

// isText tells whether e, without parentheses, is a member of args that points to text.
func (x *expander) isText(e ast.Expr) bool {
	f, ok := unparen(e).(*ast.Field)
	if !ok || x.args == nil || x.raw {
		return false
	}
	if id, ok := unparen(f.X).(*ast.Ident); !ok || id.Name != "args" {
		return false
	}
	m, ok := x.args.Struct.Field(f.Name)
	return ok && m.Text
}

// address copies an operand that is used as a number: text stays the address that it is at.
func (x *expander) address(e ast.Expr) ast.Expr {
	if !x.isText(e) {
		return x.expr(e)
	}
	f := unparen(e).(*ast.Field)
	return &ast.Field{Base: f.Base, X: x.expr(f.X), Name: f.Name, NameSp: f.NameSp, Arrow: f.Arrow}
}

// text copies a member of args as the string that it points to.
func (x *expander) text(f *ast.Field) ast.Expr {
	return &ast.Call{Base: f.Base, Func: "str", FuncSp: f.Sp, Args: []ast.Expr{x.address(f)}}
}

// operand copies x of `x op y`.
func (x *expander) operand(op string, e, other ast.Expr) ast.Expr {
	switch op {
	case "&&", "||":
		return x.expr(e)
	case "==", "!=":
		if _, number := unparen(other).(*ast.IntLit); !number {
			return x.expr(e)
		}
	}
	return x.address(e)
}

// argument copies argument i of a call.
func (x *expander) argument(f *Func, call *ast.Call, i int) ast.Expr {
	a := call.Args[i]
	if f != nil && f.Name == "print" && i == 0 {
		if r := x.wholeArgs(a); r != nil {
			return r
		}
	}
	if f == nil || !x.isText(a) {
		return x.expr(a)
	}
	switch f.Name {
	case "str", "buf", "uptr", "kptr", "usym", "ksym", "join":
		return x.address(a)
	case "printf", "errorf", "warnf", "debugf", "cat", "system":
		format, ok := unparen(call.Args[0]).(*ast.StrLit)
		if !ok || i == 0 {
			break
		}
		if verbs := ParseFormat(format.Value); i <= len(verbs) && verbs[i-1].Conv != "s" {
			return x.address(a)
		}
	}
	if p := paramAt(f, i); p != nil && (p.Class == Address || p.Class == Integer || p.Class == Number) {
		return x.address(a)
	}
	return x.expr(a)
}

// wholeArgs copies args as a record of its members, so that text prints as such; nil where it is not args, or has no text.
func (x *expander) wholeArgs(a ast.Expr) ast.Expr {
	id, ok := unparen(a).(*ast.Ident)
	if !ok || id.Name != "args" || x.args == nil || x.raw {
		return nil
	}
	fields := x.args.Struct.Resolve()
	if !slices.ContainsFunc(fields, func(f types.Field) bool { return f.Text }) {
		return nil
	}
	r := &ast.Record{Base: id.Base}
	for _, f := range fields {
		r.Names = append(r.Names, f.Name)
		r.Values = append(r.Values, x.expr(&ast.Field{Base: id.Base, X: id, Name: f.Name, NameSp: id.Sp}))
	}
	return r
}
