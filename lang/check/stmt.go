package check

import (
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// simple types a statement without a body.
func (b *body) simple(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.Assign:
		b.assign(s)
	case *ast.Let:
		b.let(s)
	case *ast.Jump:
		b.jump(s)
	}
}

// exprStmt types an expression that is used for its effect.
func (b *body) exprStmt(s *ast.ExprStmt) {
	t := b.infer(s.X)
	if !b.final || t == nil || bad(t) || t.Kind == types.Void {
		return
	}
	switch e := unparen(s.X).(type) {
	case *ast.Unary:
		if e.Op == "++" || e.Op == "--" {
			return
		}
	case *ast.Call:
		if f := b.c.u.Func(e.Func); f != nil && (!f.MustUse || f.Agg != types.Invalid) {
			return
		}
	case *ast.Ternary:
		if isEffect(e.X) || isEffect(e.Y) {
			return
		}
	}
	if b.fromMacro() {
		return
	}
	sp := s.Sp
	switch unparen(s.X).(type) {
	case *ast.Binary, *ast.Ternary, *ast.Tuple, *ast.Unary:
		if _, lit := b.lits[s.X]; !lit {
			sp = s.X.Span()
		}
	}
	b.warnf(CodeDiscarded, sp, "Return value discarded.").Hint("assign it to `_` to say that this is meant")
}

func isEffect(e ast.Expr) bool {
	switch e := unparen(e).(type) {
	case *ast.Unary:
		return e.Op == "++" || e.Op == "--"
	case *ast.Call, *ast.BlockExpr:
		return true
	}
	return false
}

func (b *body) jump(s *ast.Jump) {
	if s.Value == nil {
		return
	}
	t := b.value(s.Value)
	if t == nil || bad(t) || t.IsInteger() || b.isSum(t) {
		return
	}
	b.errorf(CodeReturnType, s.Sp, "Probe return values can only be integers. Found %s", b.name(t))
}

func (b *body) let(s *ast.Let) {
	v := b.Vars[s.Var]
	if v == nil || b.states[v] == nil {
		return
	}
	st := b.states[v]
	b.checkDeclType(st)
	b.declaredType(st)
	if v.Type != nil {
		b.Types[s.Var] = v.Type
	}
}

// checkDeclType reports a declared type that no variable can have.
func (b *body) checkDeclType(st *varState) {
	if st.spec == nil || !b.final {
		return
	}
	t := b.typeSpec(st.spec)
	switch {
	case t == nil:
		b.errorf(CodeNoType, st.spec.Sp, "the type cannot be found out")
	case bad(t):
	case t.Kind == types.Void || t.IsAggregation() || t.Kind == types.TypeValue:
		b.errorf(CodeDeclType, st.spec.Sp, "a variable cannot have the type `%s`", t)
	case t.Kind == types.String && b.c.info.Config.MaxStrlen > 0 && t.Size > b.c.info.Config.MaxStrlen:
		b.errorf(CodeStringTooLong, st.spec.Sp, "`%s` is longer than the limit of %d bytes", t, b.c.info.Config.MaxStrlen).
			Hint("raise `max_strlen` in the config block")
	}
}

func (b *body) assign(s *ast.Assign) {
	switch t := unparen(s.Target).(type) {
	case *ast.Discard:
		b.infer(s.Value)
	case *ast.Var:
		b.assignVar(s, t)
	case *ast.MapRef:
		b.assignMap(s, t, nil)
	case *ast.Index:
		if m, ok := unparen(t.X).(*ast.MapRef); ok {
			b.assignMap(s, m, t)
			return
		}
		b.infer(s.Value)
		b.infer(t)
		b.errorf(CodeAssign, s.Target.Span(), "an element of an array or tuple cannot be assigned to")
	case *ast.Bad: // reported already
		b.infer(s.Value)
	default:
		b.infer(s.Value)
		if b.final {
			d := b.errorf(CodeAssign, s.Target.Span(), "cannot assign to %s", describe(s.Target))
			if _, ok := t.(*ast.Field); ok {
				d.Hint("fields of structs are read-only")
			}
		}
	}
}

func (b *body) assignVar(s *ast.Assign, v *ast.Var) {
	lv := b.Vars[v]
	value := b.infer(s.Value)
	if lv == nil {
		return
	}
	st := b.states[lv]
	if s.Let {
		b.checkDeclType(st)
	}
	b.declaredType(st)
	if s.Op != "=" {
		value = b.compound(s, b.variable(v), value)
	}
	defer func() {
		if lv.Type != nil {
			b.Types[v], b.Types[s.Target] = lv.Type, lv.Type
		}
	}()
	switch {
	case value == nil:
		return
	case bad(value):
		st.poisoned = true
		return
	case value.Kind == types.Void:
		b.errorf(CodeVoidValue, assignSpan(s), "Invalid expression for assignment").Hint("%s has no value", describeCall(s.Value))
		st.poisoned = true
		return
	case value.IsAggregation() && !isCastable(value), value.Kind == types.MapKind, value.Kind == types.TypeValue:
		b.errorf(CodeAggregation, assignSpan(s), "Value '%s' cannot be assigned to a scratch variable.", value)
		st.poisoned = true
		return
	}
	_, lit := b.lits[s.Value]
	shown := operandSpan(s.Value)
	if s.Op != "=" { // what is stored is the result
		lit, shown = false, source.Span{Start: s.OpSp.Start, End: s.Value.Span().End}
	}
	b.storeVar(st, value, lit, shown, assignSpan(s))
}

// assignSpan is an assignment without its semicolon.
func assignSpan(s *ast.Assign) source.Span {
	return source.Span{Start: s.Sp.Start, End: s.Value.Span().End}
}

// compound is the type of `target op value`.
func (b *body) compound(s *ast.Assign, target, value *types.Type) *types.Type {
	switch {
	case target == nil || value == nil:
		return nil
	case bad(target) || bad(value):
		return types.TInvalid
	case value.Kind == types.Void:
		return b.invalid(CodeVoidValue, s.Value.Span(), "%s has no value", describeCall(s.Value))
	}
	if v, ok := unparen(s.Target).(*ast.Var); ok && (target.Kind == types.Tuple || target.Kind == types.Record) && isNumber(value) {
		return b.invalid(CodeMismatch, assignSpan(s), "Type mismatch for %s: trying to assign value of type 'int64' when variable already has a type '%s'", displayName(v.Name), b.name(target))
	}
	return b.operate(s, s.Op, target, value)
}

// storeVar makes a variable hold a value of type t too, which may be a literal; shown is where its conversion is reported, sp what assigns it.
func (b *body) storeVar(st *varState, t *types.Type, lit bool, shown, sp source.Span) {
	t = b.localValue(decay(t))
	cur := st.v.Type
	joined, ok := b.c.pool.promote(cur, t)
	switch {
	case ok && st.declared != nil:
		ok = types.Equal(b.c.closeType(joined), st.declared) || !lit && convertsTo(t, st.declared)
		joined = cur
	case ok && st.locked && !types.Equal(joined, cur):
		b.errorf(CodeLocked, sp, "`%s` does not fit the type `%s` of `%s`, which a decision at compile time was based on", b.name(t), b.name(cur), displayName(st.v.Name))
		return
	case ok && b.final && grown(cur, joined):
		joined = cur
	}
	if !ok {
		b.errorf(CodeMismatch, sp, "Type mismatch for %s: trying to assign value of type '%s' when variable already has a type '%s'",
			displayName(st.v.Name), b.name(t), b.name(cur)).Label(st.v.Span, "`%s` has its type from here", displayName(st.v.Name))
		return
	}
	if !b.final {
		b.setVar(st, joined)
		return
	}
	b.warnConversion(shown, t, st.v.Type)
}

// operandSpan is where a conversion of a value is shown: at the type of a cast, else at the whole expression.
func operandSpan(e ast.Expr) source.Span {
	if c, ok := unparen(e).(*ast.Cast); ok {
		return castSpan(c)
	}
	return e.Span()
}

// convertsTo tells whether an integer is made to fit a variable with a declared type: literals must fit by themselves.
func convertsTo(t, declared *types.Type) bool {
	return t.Kind == types.Int && declared.Kind == types.Int
}

// warnConversion warns of an integer that becomes one which does not hold all of its values.
func (b *body) warnConversion(sp source.Span, from, to *types.Type) {
	if !b.final || from == nil || to == nil {
		return
	}
	if len(from.Fields) > 0 && len(from.Fields) == len(to.Fields) && from.Kind != types.Struct {
		for i := range from.Fields {
			if j := types.Partner(from, i, to); j >= 0 {
				b.warnConversion(sp, from.Fields[i].Type, to.Fields[j].Type)
			}
		}
		return
	}
	if from.Kind != types.Int || to.Kind != types.Int || isLiteral(from) || isOpen(from) || isOpen(to) || isWide(to) {
		return
	}
	if from.Signed == to.Signed && from.Size <= to.Size || !from.Signed && to.Signed && from.Size < to.Size {
		return
	}
	b.warnf(CodeConversion, sp, "Expression of type: %s being cast to type: %s. This may cause unexpected results. Use an explicit cast to suppress this warning.", from, to)
}

// localValue is the type of a value in a scratch variable: structs, arrays and strings are copies, pointers stay trusted.
func (b *body) localValue(t *types.Type) *types.Type {
	if t.Kind == types.Pointer {
		return t
	}
	return b.stored(t)
}

func (b *body) unroll(s *ast.Unroll) {
	t := b.value(s.Count)
	if t == nil || bad(t) {
		return
	}
	c, ok := b.Consts[s.Count]
	switch {
	case !ok || c.IsString:
		b.errorf(CodeUnroll, s.Sp, "invalid unroll value").Hint("it must be an integer that is known while compiling")
	case c.Int < 0:
		b.errorf(CodeUnroll, s.Sp, "invalid unroll value").Hint("this is %d", c.Int)
	case c.Int > 100:
		b.errorf(CodeUnroll, s.Sp, "unroll maximum value is 100").Hint("use `while` or `for`, not %d copies", c.Int)
	case c.Int < 1:
		b.errorf(CodeUnroll, s.Sp, "unroll minimum value is 1").Hint("this is %d", c.Int)
	}
}

// forRange types the head of `for ($i : lo..hi)`.
func (b *body) forRange(s *ast.ForRange) {
	lo, hi := b.value(s.Lo), b.value(s.Hi)
	if b.c.pool.old {
		lo, hi = decay(lo), decay(hi)
	}
	v := b.Vars[s.Var]
	if lo == nil || hi == nil || v == nil {
		return
	}
	st := b.states[v]
	if bad(lo) || bad(hi) {
		st.poisoned = true
		return
	}
	for i, t := range []*types.Type{lo, hi} {
		if t.Kind != types.Int && t.Kind != types.Enum {
			st.poisoned = true
			b.errorf(CodeRange, s.Sp, "Loop range requires an integer for the %s value, got `%s`", []string{"start", "end"}[i], b.name(t))
		}
	}
	if st.poisoned {
		return
	}
	if lo.Kind == types.Enum && hi.Kind == types.Enum && types.Equal(lo, hi) {
		b.setVar(st, lo)
	} else {
		b.setVar(st, b.c.pool.closed(b.c.pool.promoteInt(plainInt(lo), plainInt(hi))))
	}
	b.Types[s.Var] = st.v.Type
}

// forMap types the head of `for ($kv : @map)`: the variable is a tuple of key and value.
func (b *body) forMap(s *ast.ForMap) {
	m := b.c.mapOf(s.Map)
	b.readMap(m)
	b.Types[s.Map] = &types.Type{Kind: types.MapKind}
	v := b.Vars[s.Var]
	if v == nil {
		return
	}
	st := b.states[v]
	if m.scalar.IsValid() && !m.keyed.IsValid() {
		st.poisoned = true
		b.errorf(CodeNotIterable, s.Map.Sp, "%s has no explicit keys (scalar map), and cannot be used for iteration", s.Map.Name).Label(m.scalar, "used without a key here")
		return
	}
	if m.poisoned && (!b.final || b.c.diags.HasErrors()) {
		st.poisoned = true
		return
	}
	if m.m.Key == nil || m.m.Value == nil {
		if b.final {
			st.poisoned = true
			b.undefinedMap(m, s.Map)
		}
		return
	}
	value := decay(m.m.Value)
	if value.IsAggregation() {
		st.poisoned = true
		b.errorf(CodeNotIterable, s.Map.Sp, "Loop expression does not support type: %s", value)
		return
	}
	b.setVar(st, types.TupleOf([]*types.Type{b.stored(m.m.Key), b.stored(value)}, nil))
	b.Types[s.Var] = st.v.Type
}

// comptimeCond types the condition of `if comptime`.
func (b *body) comptimeCond(s *ast.If) {
	if s.Comptime {
		b.condition(s.Cond, s.Sp)
	}
}

// comptimeInline plans the decision of an `if comptime` inside of a block expression; it reports whether the branch is chosen already.
func (b *body) comptimeInline(s *ast.If) bool {
	if b.pending == nil {
		b.pending = map[*ast.If]bool{}
	}
	b.condition(s.Cond, s.Sp)
	if !b.pending[s] && !b.final {
		b.pending[s] = true
		b.jumps = append(b.jumps, pendingIf{s: s, inline: true})
	}
	return false
}

// comptimeValue evaluates the condition of `if comptime`.
func (b *body) comptimeValue(e ast.Expr) (value, known bool) {
	if v, ok := b.lits[e]; ok {
		return v.truth(), true
	}
	if c, ok := b.Consts[e]; ok {
		if c.IsString {
			return c.Str != "", true
		}
		return c.Int != 0, true
	}
	return false, false
}
