package check

import (
	"slices"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/types"
)

// infer returns the type of an expression and notes it: nil while it is not known, void for a call without a value, invalid after an error. It
// runs again whenever something that the expression reads has changed, and a last time to report.
func (b *body) infer(e ast.Expr) *types.Type {
	if e == nil {
		return nil
	}
	t := b.typeOf(e)
	if t == nil {
		delete(b.Types, e)
	} else {
		b.Types[e] = t
	}
	return t
}

// value is infer for an operand: a call without a value is an error, an aggregation stays what it is.
func (b *body) value(e ast.Expr) *types.Type {
	t := b.infer(e)
	if t != nil && t.Kind == types.Void {
		return b.invalid(CodeVoidValue, e.Span(), "%s has no value", describeCall(e))
	}
	return t
}

func describeCall(e ast.Expr) string {
	switch e := unparen(e).(type) {
	case *ast.Call:
		return "`" + e.Func + "()`"
	case *ast.BlockExpr:
		return "this block"
	}
	return "this expression"
}

func (b *body) setLit(e ast.Expr, v value) {
	b.lits[e] = v
	b.Consts[e] = v.constant()
}

// litType is the type of a literal value.
func (b *body) litType(v value) *types.Type {
	switch v.kind {
	case strValue:
		return types.StringOf(len(v.str) + 1)
	case boolValue:
		return types.TBool
	}
	if v.neg {
		return b.c.pool.literal(-v.bits, true)
	}
	return b.c.pool.literal(v.bits, false)
}

// copyConst makes e a constant when x is one.
func (b *body) copyConst(e, x ast.Expr) {
	if v, ok := b.lits[x]; ok {
		b.lits[e] = v
	}
	if v, ok := b.Consts[x]; ok {
		b.Consts[e] = v
	}
}

func (b *body) typeOf(e ast.Expr) *types.Type {
	switch e := e.(type) {
	case *ast.IntLit:
		return b.intLit(e)
	case *ast.BoolLit:
		b.setLit(e, boolVal(e.Value))
		return types.TBool
	case *ast.StrLit:
		b.setLit(e, strVal(e.Value))
		if limit := b.c.info.Config.MaxStrlen; limit > 0 && len(e.Value) >= limit && b.anyLength == 0 {
			b.errorf(CodeStringTooLong, e.Sp, "String is too long (over %d bytes): %s", limit, e.Value).Hint("raise `max_strlen` in the config block")
		}
		return types.StringOf(len(e.Value) + 1)
	case *ast.Positional:
		b.warnf(CodeNoParam, e.Sp, "Positional parameter $%d is empty or not provided. ", e.N)
		b.setLit(e, intVal(0))
		return b.litType(intVal(0))
	case *ast.Ident:
		return b.ident(e)
	case *ast.Var:
		return b.variable(e)
	case *ast.MapRef:
		return b.scalarMap(e)
	case *ast.Unary:
		return b.unary(e)
	case *ast.Binary:
		return b.binary(e)
	case *ast.Ternary:
		return b.ternary(e)
	case *ast.Call:
		return b.call(e, nil)
	case *ast.Field:
		return b.field(e)
	case *ast.TupleField:
		return b.tupleField(e)
	case *ast.Index:
		return b.index(e)
	case *ast.Cast:
		return b.cast(e)
	case *ast.Sizeof:
		return b.sizeof(e)
	case *ast.Offsetof:
		return b.offsetof(e)
	case *ast.Typeinfo:
		return b.typeinfo(e)
	case *ast.Tuple:
		return b.tuple(e.Elems, nil)
	case *ast.Record:
		return b.tuple(e.Values, e.Names)
	case *ast.BlockExpr:
		return b.blockExpr(e)
	case *ast.IfExpr:
		return b.ifExpr(e)
	case *ast.Comptime:
		return b.comptime(e)
	case *ast.TypeArg:
		if b.typeSpec(e.Type) == nil {
			return nil
		}
		return &types.Type{Kind: types.TypeValue}
	case *ast.Paren:
		t := b.infer(e.X)
		b.copyConst(e, e.X)
		return t
	case *ast.Discard:
		return b.invalid(CodeAssign, e.Sp, "`_` can only be assigned to")
	}
	return types.TInvalid
}

func (b *body) intLit(e *ast.IntLit) *types.Type {
	if e.Overflow {
		return b.invalid(CodeOverflow, e.Sp, "syntax: overflow error, maximum value is 18446744073709551615: %s", e.Text)
	}
	if e.Neg && e.Value > 1<<63 {
		return b.invalid(CodeOverflow, e.Sp, "negative value will underflow: %s", e.Text)
	}
	v, _ := foldLiteral(e)
	b.setLit(e, v)
	return b.litType(v)
}

func (b *body) variable(e *ast.Var) *types.Type {
	v := b.Vars[e]
	if v == nil {
		return types.TInvalid // reported by the resolver
	}
	st := b.states[v]
	b.declaredType(st)
	if b.current.record {
		st.readers = addReader(st.readers, b.current)
	}
	switch {
	case v.Type != nil:
		return v.Type
	case st.poisoned:
		return types.TInvalid
	case b.final:
		st.poisoned = true
		b.errorf(CodeNoType, e.Sp, "Could not resolve the type of this variable").Label(v.Span, "`%s` is declared here", displayName(v.Name))
		return types.TInvalid
	}
	return nil
}

func addReader(list []*unit, u *unit) []*unit {
	if n := len(list); n > 0 && list[n-1] == u {
		return list
	}
	return append(list, u)
}

// declaredType resolves the type of `let $x : T` at the first use.
func (b *body) declaredType(st *varState) {
	if st.spec == nil || st.typeDone {
		return
	}
	t := b.typeSpec(st.spec)
	if t == nil {
		return
	}
	st.typeDone = true
	switch {
	case bad(t):
		st.poisoned = true
		return
	case t.Kind == types.Void || t.IsAggregation():
		st.poisoned = true
		return // reported by the statement
	case t.Size > 0 || t.Kind == types.Tuple || t.Kind == types.Record:
		st.declared = t
	}
	if t.Size > 0 || t.Kind != types.String && t.Kind != types.Buffer {
		b.setVar(st, t)
	}
}

// setVar gives a variable a type and wakes its readers.
func (b *body) setVar(st *varState, t *types.Type) {
	if !st.grow.grown(st.v.Type, t) {
		return
	}
	st.v.Type = t
	b.c.enqueue(st.readers...)
}

// ident types a bare name: a builtin variable or an enumerator.
func (b *body) ident(e *ast.Ident) *types.Type {
	c := b.c
	if v := c.u.Var(e.Name); v != nil {
		id := b.Idents[e]
		if id == nil || id.Builtin == nil {
			id = &Ident{Var: v, Builtin: &VarUse{Node: e, Name: v.Name, Index: -1, Body: b.Body, Info: c.info, Env: c.env}}
			if n, ok := argIndex(e.Name); ok && v.Name != e.Name {
				id.Builtin.Index = n
			} else if ok {
				id.Builtin.Index = n
			}
			b.Idents[e] = id
		}
		id.Builtin.Diags = b.sink()
		t := v.Type(id.Builtin)
		if t == nil {
			if b.final && !b.diags.HasErrors() {
				b.errorf(CodeUnavailable, e.Sp, "`%s` is not available in this probe", e.Name)
			}
			return types.TInvalid
		}
		if v.Const != nil {
			if n, ok := v.Const(id.Builtin); ok {
				b.Consts[e] = Const{Int: n}
			}
		}
		return t
	}
	if n, t, ok := c.defs.EnumConst(e.Name); ok {
		if t == nil || t.Kind != types.Enum || t.Enum == nil {
			t = c.pool.literalInt(n)
		} else if t.Size != 8 {
			wide := *t
			wide.Size = 8
			t = &wide
		}
		cst := Const{Int: n}
		b.Consts[e] = cst
		b.Idents[e] = &Ident{Const: &cst, Type: t}
		return t
	}
	if b.final && b.wordOf != nil && b.wordOf.BadWord != "" {
		b.errorf(CodeArgType, e.Sp, "%s", b.wordOf.BadWord).Hint("choose one of %s", joinWords(b.wordOf.Words))
		return types.TInvalid
	}
	if b.final {
		d := b.errorf(CodeUnknownName, e.Sp, "Unknown identifier: '%s'", e.Name)
		names := append(append(c.u.Names("var"), c.u.Names("func")...), c.u.Names("macro")...)
		for n := range c.macros {
			names = append(names, n)
		}
		if n := diag.Nearest(e.Name, names); n != "" {
			d.Hint("use `%s`?", n)
		} else if c.defs.StructType(e.Name) != nil {
			d.Hint("write `struct %s` for the type", e.Name)
		} else if b.varNamed("$" + e.Name) {
			d.Hint("use `$%s` for the scratch variable", e.Name)
		} else if b.c.maps["@"+e.Name] != nil {
			d.Hint("use `@%s` for the map", e.Name)
		}
	}
	return types.TInvalid
}

func (b *body) varNamed(name string) bool {
	for _, st := range b.order {
		if st.v.Name == name {
			return true
		}
	}
	return false
}

// argIndex reads N of argN.
func argIndex(name string) (int, bool) {
	if len(name) < 4 || len(name) > 6 || name[:3] != "arg" {
		return -1, false
	}
	n := 0
	for _, ch := range name[3:] {
		if ch < '0' || ch > '9' {
			return -1, false
		}
		n = n*10 + int(ch-'0')
	}
	return n, true
}

func (b *body) ternary(e *ast.Ternary) *types.Type {
	if e.X == nil { // c ?: y
		x, y := b.value(e.Cond), b.infer(e.Y)
		b.checkCondition(e.Cond, x, e.Sp)
		return b.joinBranches(e, x, y)
	}
	b.condition(e.Cond, e.Sp)
	x, y := b.infer(e.X), b.infer(e.Y)
	if c, ok := b.Consts[e.Cond]; ok && !c.IsString {
		if c.Int != 0 {
			b.copyConst(e, e.X)
		} else {
			b.copyConst(e, e.Y)
		}
	}
	return b.joinBranches(e, x, y)
}

// joinBranches is the type of an expression that has its value from one of two.
func (b *body) joinBranches(e ast.Expr, x, y *types.Type) *types.Type {
	switch {
	case x == nil || y == nil:
		if x == nil {
			return y
		}
		return x
	case bad(x) || bad(y):
		return types.TInvalid
	case x.Kind == types.Void && y.Kind == types.Void:
		return types.TVoid
	}
	dx, dy := decay(x), decay(y)
	t, ok := b.c.pool.promote(dx, dy)
	if !ok {
		return b.invalid(CodeBranches, e.Span(), "Branches must return the same type or compatible types: have '%s' and '%s'", b.name(dx), b.name(dy))
	}
	if t.IsAggregation() {
		return b.invalid(CodeAggregation, e.Span(), "`%s` cannot be a value", t)
	}
	b.warnConversion(e.Span(), dx, t)
	b.warnConversion(e.Span(), dy, t)
	return t
}

// name prints a type for a message.
func (b *body) name(t *types.Type) string { return b.c.mapInts(t, b.c.pool.named).String() }

func (b *body) blockExpr(e *ast.BlockExpr) *types.Type {
	if !b.final || b.c.expansions[e] == nil {
		return b.blockValue(e)
	}
	var t *types.Type
	b.withOrigin([]*expansion{b.c.expansions[e]}, func() { t = b.blockValue(e) })
	return t
}

func (b *body) blockValue(e *ast.BlockExpr) *types.Type {
	for _, s := range e.Block.Stmts {
		b.inline(s)
	}
	if e.Block.Result == nil {
		return types.TVoid
	}
	if b.c.endless[e] {
		return types.TVoid
	}
	t := b.infer(e.Block.Result)
	if len(e.Block.Stmts) == 0 {
		b.copyConst(e, e.Block.Result)
	}
	return t
}

func (b *body) ifExpr(e *ast.IfExpr) *types.Type {
	s := e.If
	if s.Comptime && !b.comptimeInline(s) {
		return nil
	}
	b.condition(s.Cond, s.Sp)
	branch := func(blk *ast.Block) *types.Type {
		if blk == nil {
			return types.TVoid
		}
		for _, s := range blk.Stmts {
			b.inline(s)
		}
		if blk.Result == nil {
			return types.TVoid
		}
		return b.infer(blk.Result)
	}
	if lit, ok := s.Cond.(*ast.BoolLit); ok {
		if lit.Value {
			return branch(s.Then)
		}
		return branch(s.Else)
	}
	return b.joinBranches(e, branch(s.Then), branch(s.Else))
}

// known tells whether a value is known while compiling: a constant, or a tuple of such.
func (b *body) known(x ast.Expr) bool {
	if t, ok := unparen(x).(*ast.Tuple); ok {
		return !slices.ContainsFunc(t.Elems, func(e ast.Expr) bool { return !b.known(e) })
	}
	_, ok := b.Consts[x]
	return ok
}

func (b *body) comptime(e *ast.Comptime) *types.Type {
	t := b.infer(e.X)
	b.copyConst(e, e.X)
	if t != nil && !bad(t) && t.Kind != types.Record && !b.known(e.X) {
		return b.invalid(CodeComptime, e.Sp, "Unable to resolve comptime expression")
	}
	return t
}

// tuple types a tuple or record.
func (b *body) tuple(list []ast.Expr, names []string) *types.Type {
	elems := make([]*types.Type, len(list))
	ok, known := true, true
	seen := map[string]bool{}
	for i, x := range list {
		t := decay(b.value(x))
		switch {
		case t == nil:
			known = false
		case bad(t):
			ok = false
		case t.IsAggregation():
			b.errorf(CodeAggregation, x.Span(), "Map type %s cannot exist inside a tuple.", t)
			ok = false
		case t.Kind == types.TypeValue || t.Kind == types.MapKind:
			b.errorf(CodeAggregation, x.Span(), "a %s cannot be part of a tuple", t)
			ok = false
		case t.Kind == types.Args:
			t = b.c.argsStruct(t)
		}
		elems[i] = t
		if names != nil {
			if seen[names[i]] {
				b.errorf(CodeOperand, x.Span(), "field `%s` is named twice", names[i])
				ok = false
			}
			seen[names[i]] = true
		}
	}
	switch {
	case !ok:
		return types.TInvalid
	case !known:
		return nil
	}
	for i, t := range elems {
		elems[i] = b.stored(t)
	}
	return types.TupleOf(elems, names)
}

// argsStruct is what `args` as a whole is when it is copied.
func (c *checker) argsStruct(t *types.Type) *types.Type { return t }

// stored is the type of a copy in the program's own memory: pointers lose the verifier's trust, but not their address space.
func (b *body) stored(t *types.Type) *types.Type {
	if t == nil {
		return nil
	}
	if b.c.env.Prior != nil {
		t = b.c.pool.widest(t)
	}
	switch t.Kind {
	case types.Pointer:
		if t.Prov == types.ProvRaw || t.Prov == types.ProvBPF {
			return t
		}
		return b.c.pool.withSpace(t, t.Space, types.ProvRaw)
	case types.Struct, types.Array, types.String, types.Tuple, types.Record:
		return b.c.pool.withSpace(t, t.Space, types.ProvBPF)
	}
	return t
}
