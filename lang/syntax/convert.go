package syntax

import (
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/lexer"
	"github.com/sonde-sh/sonde/lang/source"
)

// convertBlock turns a parsed block into tree nodes. asValue tells that the block may be used as an expression, so that
// its last expression is its result. It returns the first fault.
func convertBlock(raw *gBlock, asValue bool) (*ast.Block, *fault) {
	b := &ast.Block{Base: base(spanOf(&raw.Open).To(spanOf(&raw.Close)))}
	if n := len(raw.Stmts); n > 0 {
		b.Stmts = make([]ast.Stmt, 0, n)
	}
	for i, s := range raw.Stmts {
		var next *gStmt
		last := i == len(raw.Stmts)-1
		if !last {
			next = raw.Stmts[i+1]
		}
		if s.Simple != nil && s.Simple.Op == nil {
			f := addExpr(b, s.Simple, next, asValue)
			if f != nil {
				return nil, f
			}
			continue
		}
		stmt, semi, needsSemi, f := convertStmt(s)
		if f == nil && semi == nil && needsSemi && !last {
			f = missingSemi(next)
		}
		if f != nil {
			return nil, f
		}
		b.Stmts = append(b.Stmts, stmt)
	}
	return b, nil
}

// missingSemi is the fault of a statement that runs into the next one.
func missingSemi(next *gStmt) *fault {
	return newFault("E0108", spanOf(&next.Tokens[0]), "syntax: expected ';'").hint("end the statement before it with `;`")
}

// addExpr appends an expression statement, or makes it the result of the block.
func addExpr(b *ast.Block, s *gSimple, next *gStmt, asValue bool) *fault {
	x := s.X
	isResult := next == nil && s.Semi == nil
	switch n := x.(type) {
	case *ast.IfExpr:
		if isResult && asValue && hasValue(n.If) {
			b.Result = x
			return nil
		}
		statementIf(n.If)
		b.Stmts = append(b.Stmts, n.If)
		return nil
	case *ast.BlockExpr:
		if isResult && asValue && n.Block.Result != nil {
			b.Result = x
			return nil
		}
		statementBlock(n.Block)
		b.Stmts = append(b.Stmts, n.Block)
		return nil
	}
	if isResult {
		b.Result = x
		return nil
	}
	if s.Semi == nil {
		return missingSemi(next)
	}
	sp := x.Span().To(spanOf(s.Semi))
	b.Stmts = append(b.Stmts, &ast.ExprStmt{Base: base(sp), X: x})
	return nil
}

// hasValue reports whether every branch of an if ends in an expression.
func hasValue(n *ast.If) bool {
	if n.Then.Result == nil || n.Else == nil {
		return false
	}
	if n.ElseIf {
		return hasValue(n.Else.Result.(*ast.IfExpr).If)
	}
	return n.Else.Result != nil
}

// statementIf makes an if that was parsed as an expression a statement: nothing inside is a value any more.
func statementIf(n *ast.If) {
	statementBlock(n.Then)
	if n.Else != nil {
		statementBlock(n.Else)
	}
}

// statementBlock turns a nested if or block at the end of b, which was kept as its result, into a statement.
func statementBlock(b *ast.Block) {
	switch r := b.Result.(type) {
	case *ast.IfExpr:
		statementIf(r.If)
		b.Stmts, b.Result = append(b.Stmts, r.If), nil
	case *ast.BlockExpr:
		statementBlock(r.Block)
		b.Stmts, b.Result = append(b.Stmts, r.Block), nil
	}
}

// convertStmt converts everything but expression statements. needsSemi tells whether a `;` must follow.
func convertStmt(s *gStmt) (stmt ast.Stmt, semi *token, needsSemi bool, f *fault) {
	switch {
	case s.Let != nil:
		stmt = convertLet(s.Let)
		return stmt, s.Let.Semi, true, nil
	case s.Loop != nil:
		stmt, f = convertLoop(s.Loop)
		return stmt, nil, false, f
	case s.For != nil:
		stmt, f = convertFor(s.For)
		return stmt, nil, false, f
	case s.Jump != nil:
		return convertJump(s.Jump), s.Jump.Semi, true, nil
	case s.Import != nil:
		n, f := convertImport(s.Import)
		return n, s.Import.Semi, true, f
	}
	stmt, f = convertAssign(s.Simple)
	return stmt, s.Simple.Semi, true, f
}

func tokenEnd(sp source.Span, t *token) source.Span {
	if t == nil {
		return sp
	}
	return sp.To(spanOf(t))
}

func convertLet(s *gLet) ast.Stmt {
	v := &ast.Var{Base: base(spanOf(&s.Name)), Name: s.Name.Value}
	sp := spanOf(&s.Start).To(v.Sp)
	var typ *ast.TypeSpec
	if s.Type != nil {
		typ = s.Type.(*ast.TypeSpec)
		sp = sp.To(typ.Sp)
	}
	if s.Value == nil {
		return &ast.Let{Base: base(tokenEnd(sp, s.Semi)), Var: v, Type: typ}
	}
	sp = sp.To(s.Value.Span())
	return &ast.Assign{Base: base(tokenEnd(sp, s.Semi)), Target: v, Op: "=", OpSp: spanOf(s.Op), Value: s.Value, Let: true, Type: typ}
}

func convertLoop(s *gLoop) (ast.Stmt, *fault) {
	body, f := convertBlock(s.Body, false)
	if f != nil {
		return nil, f
	}
	b := base(spanOf(&s.Start).To(body.Sp))
	if s.Semi != nil {
		return nil, strayAfterBlock(s.Semi)
	}
	if s.Start.Value == "unroll" {
		return &ast.Unroll{Base: b, Count: s.Cond, Body: body}, nil
	}
	return &ast.While{Base: b, Cond: s.Cond, Body: body}, nil
}

func strayAfterBlock(semi *token) *fault {
	return newFault("E0101", spanOf(semi), "syntax: expected expression, found `;` after a loop").hint("remove it")
}

func convertFor(s *gFor) (ast.Stmt, *fault) {
	switch {
	case s.Open != nil && s.Close == nil:
		f := unexpected(&s.Body.Open, "')'")
		f.label = labelAt(spanOf(s.Open), "opened here")
		return nil, f
	case s.Open == nil && s.Close != nil:
		return nil, unexpected(s.Close, "'{'")
	case s.Semi != nil:
		return nil, strayAfterBlock(s.Semi)
	}
	body, f := convertBlock(s.Body, false)
	if f != nil {
		return nil, f
	}
	b := base(spanOf(&s.Start).To(body.Sp))
	v := &ast.Var{Base: base(spanOf(&s.Var)), Name: s.Var.Value}
	if s.Hi != nil {
		return &ast.ForRange{Base: b, Var: v, Lo: s.Lo, Hi: s.Hi, Body: body}, nil
	}
	m, ok := s.Lo.(*ast.MapRef)
	if !ok {
		f := newFault("E0101", spanOf(&s.Body.Open), "syntax: expected map or range in for loop")
		switch x := s.Lo.(type) {
		case *ast.Index:
			if m, ok := x.X.(*ast.MapRef); ok {
				return nil, f.hint("loop over the whole map `%s`", m.Name)
			}
		}
		return nil, f.hint("write `@map` or `first..end`")
	}
	return &ast.ForMap{Base: b, Var: v, Map: m, Body: body}, nil
}

func convertJump(s *gJump) ast.Stmt {
	n := &ast.Jump{}
	if s.Return != nil {
		n.Kind = ast.Return
		n.Base = base(spanOf(s.Return))
		if s.Value != nil {
			n.Value = s.Value
			n.Sp = n.Sp.To(n.Value.Span())
		}
	} else {
		n.Base = base(spanOf(s.Simple))
		if s.Simple.Value == "continue" {
			n.Kind = ast.Continue
		}
	}
	n.Sp = tokenEnd(n.Sp, s.Semi)
	return n
}

func convertAssign(s *gSimple) (ast.Stmt, *fault) {
	target := s.X
	switch x := target.(type) {
	case *ast.Var, *ast.MapRef:
	case *ast.Index:
		if _, ok := x.X.(*ast.MapRef); !ok {
			return nil, newFault("E0109", x.Sp, "cannot assign to an element of an array or tuple").
				hint("only maps and scratch variables can be assigned to")
		}
	case *ast.Ident:
		if x.Name == "_" && s.Op.Value == "=" {
			target = &ast.Discard{Base: x.Base}
			break
		}
		f := newFault("E0109", x.Sp, "cannot assign to `%s`", x.Name)
		if !IsBuiltinVariable(x.Name) {
			f.hint("name a scratch variable `$%s` or a map `@%s`", x.Name, x.Name)
		} else {
			f.hint("builtin variables cannot be changed; store the value in a scratch variable or a map")
		}
		return nil, f
	case *ast.Field, *ast.TupleField:
		return nil, newFault("E0109", target.Span().To(s.Value.Span()), "syntax: Tuples and records are immutable once created. Consider creating a new value and assigning it instead.").
			hint("make a new value and assign that")
	default:
		return nil, newFault("E0109", target.Span(), "this is nothing that can be assigned to").
			hint("only maps and scratch variables can be assigned to")
	}
	op := s.Op.Value
	if op != "=" {
		op = op[:len(op)-1]
	}
	sp := target.Span().To(s.Value.Span())
	return &ast.Assign{Base: base(tokenEnd(sp, s.Semi)), Target: target, Op: op, OpSp: spanOf(s.Op), Value: s.Value}, nil
}

func convertImport(s *gImport) (*ast.Import, *fault) {
	sp := spanOf(&s.Start).To(spanOf(&s.Path))
	if s.Semi == nil {
		return nil, newFault("E0108", source.Span{Start: sp.End - 1, End: sp.End}, "syntax: expected ';'").hint("end the import with `;`")
	}
	return &ast.Import{Base: base(sp), Path: lexer.Unquote(s.Path.Value)}, nil
}
