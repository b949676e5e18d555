package check

import (
	"errors"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

func isCompare(op string) bool {
	switch op {
	case "==", "!=", "<", "<=", ">", ">=":
		return true
	}
	return false
}

func isLogical(op string) bool { return op == "&&" || op == "||" }

// binary types x op y.
func (b *body) binary(e *ast.Binary) *types.Type {
	b.anyLength++
	x, y := b.value(e.X), b.value(e.Y)
	b.anyLength--
	x, y = b.missingParam(e.X, x, y), b.missingParam(e.Y, y, x)
	if x == nil || y == nil {
		return nil
	}
	if bad(x) || bad(y) {
		return types.TInvalid
	}
	if t, done := b.foldedBinary(e); done {
		return t
	}
	t := b.operate(e, e.Op, x, y)
	b.constBinary(e, x, y)
	return t
}

// missingParam makes a positional parameter that was not given the empty string beside a string.
func (b *body) missingParam(e ast.Expr, t, other *types.Type) *types.Type {
	p, ok := unparen(e).(*ast.Positional)
	if !ok || other == nil || other.Kind != types.String {
		return t
	}
	s := types.StringOf(1)
	for _, n := range []ast.Expr{e, p} {
		b.setLit(n, strVal(""))
		b.Types[n] = s
	}
	return s
}

// foldedBinary folds an operation of two literals.
func (b *body) foldedBinary(e *ast.Binary) (*types.Type, bool) {
	x, okX := b.lits[e.X]
	y, okY := b.lits[e.Y]
	if !okX || !okY {
		return nil, false
	}
	v, ok, err := foldBinary(e.Op, x, y)
	switch {
	case errors.Is(err, errStringOp):
		return b.invalid(CodeStringOp, e.Sp, "illegal literal operation with strings: `%s`", e.Op), true
	case err != nil:
		return b.invalid(CodeOverflow, e.Sp, "unable to fold literals due to overflow or underflow: `%s`: %v", e.Op, err), true
	case !ok:
		return nil, false
	}
	if v.kind == strValue && v.str == "" && (x.str != "" || y.str != "") {
		b.warnf(CodeAlwaysEmpty, e.Sp, "literal string will always be empty")
	}
	b.setLit(e, v)
	return b.litType(v), true
}

// constBinary notes the value of an operation whose operands are known, though not literals.
func (b *body) constBinary(e *ast.Binary, x, y *types.Type) {
	cx, okX := b.Consts[e.X]
	cy, okY := b.Consts[e.Y]
	if !okX || !okY || cx.IsString || cy.IsString || !x.IsInteger() || !y.IsInteger() {
		return
	}
	if v, ok := evalConst(e.Op, cx.Int, cy.Int, b.signedOp(x, y)); ok {
		b.Consts[e] = Const{Int: v}
	}
}

// signedOp tells whether an integer operation is signed: an operand whose sign is open takes the other's.
func (b *body) signedOp(x, y *types.Type) bool {
	xo, yo := isOpen(x) && !x.Signed, isOpen(y) && !y.Signed
	switch {
	case xo && yo:
		return false
	case xo:
		return y.Signed
	case yo:
		return x.Signed
	}
	return x.Signed || y.Signed
}

func isNumber(t *types.Type) bool { return t.IsInteger() || isCastable(t) }

// operate is the type of an operation, which e stands for: a binary expression or a compound assignment.
func (b *body) operate(e ast.Node, op string, x, y *types.Type) *types.Type {
	switch {
	case x.Kind == types.Pointer || y.Kind == types.Pointer:
		return b.pointerOp(e, op, x, y)
	case x.Kind == types.Bool && y.Kind == types.Bool:
		return types.TBool
	case isNumber(x) && isNumber(y):
		return b.integerOp(e, op, decay(x), decay(y))
	case isLogical(op) && isCondition(x) && isCondition(y):
		return types.TBool
	case isLogical(op):
		return b.invalid(CodeOperand, e.Span(), "Type mismatch for '%s': comparing %s with %s", op, b.name(x), b.name(y))
	case x.Kind == types.Array && y.Kind == types.Array:
		return b.arrayOp(e, op, x, y)
	case (x.Kind == types.Tuple || x.Kind == types.Record) && x.Kind == y.Kind:
		return b.tupleOp(e, op, x, y)
	case isText(x) && isText(y):
		return b.textOp(e, op, x, y)
	case x.Kind == types.Probe && y.Kind == types.String, x.Kind == types.String && y.Kind == types.Probe:
		return b.textOp(e, op, x, y)
	case x.Kind == types.Username && y.IsInteger(), x.IsInteger() && y.Kind == types.Username:
		return types.TBool
	case (x.Kind == types.KSym || x.Kind == types.USym || x.Kind == types.Func) && isText(y), isText(x) && (y.Kind == types.KSym || y.Kind == types.USym || y.Kind == types.Func):
		d := b.errorf(CodeCompare, e.Span(), "Type mismatch for '%s': comparing %s with %s", op, b.symbolName(x), b.symbolName(y))
		d.Hint("symbols get their names when they are printed: compare `probe`, or the address with `kaddr(...)` or `uaddr(...)`")
		return types.TInvalid
	case x.Kind == y.Kind && (op == "==" || op == "!=") && types.Equal(x, y) && !x.IsAggregation():
		return types.TBool
	}
	if isCompare(op) || x.Kind != y.Kind && (x.Kind == types.String || y.Kind == types.String) {
		b.errorf(CodeCompare, e.Span(), "Type mismatch for '%s': comparing %s with %s", op, b.name(x), b.name(y))
	} else {
		b.errorf(CodeOperand, e.Span(), "The %s operator can not be used on expressions of types %s, %s", op, b.name(x), b.name(y))
	}
	return types.TInvalid
}

// isText tells whether a type is compared like a string.
func isText(t *types.Type) bool {
	return t.Kind == types.String || (t.Kind == types.Array && t.Elem.Kind == types.Int && t.Elem.Size == 1)
}

func (b *body) textOp(e ast.Node, op string, x, y *types.Type) *types.Type {
	if op != "==" && op != "!=" {
		d := b.errorf(CodeOperand, e.Span(), "The %s operator can not be used on expressions of types %s, %s", op, b.name(x), b.name(y))
		if op == "+" {
			d.Hint("use `printf` or a tuple to print them together")
		}
		return types.TInvalid
	}
	return types.TBool
}

func (b *body) arrayOp(e ast.Node, op string, x, y *types.Type) *types.Type {
	switch {
	case op != "==" && op != "!=":
		return b.invalid(CodeOperand, e.Span(), "The %s operator cannot be used on arrays.", op)
	case x.Len != y.Len:
		return b.invalid(CodeCompare, e.Span(), "Only arrays of same size support comparison operators: `%s` and `%s`", x, y)
	case x.Elem.Kind != types.Int || y.Elem.Kind != types.Int || x.Elem.Size != y.Elem.Size:
		return b.invalid(CodeCompare, e.Span(), "Only arrays of same sized integer support comparison operators: `%s` and `%s`", x, y)
	}
	return types.TBool
}

func (b *body) tupleOp(e ast.Node, op string, x, y *types.Type) *types.Type {
	if op != "==" && op != "!=" {
		return b.invalid(CodeOperand, e.Span(), "The %s operator can not be used on expressions of types %s, %s", op, b.name(x), b.name(y))
	}
	if _, ok := b.c.pool.promote(x, y); ok {
		return types.TBool
	}
	if e, ok := e.(*ast.Binary); ok && b.literalTuple(e.X) && b.literalTuple(e.Y) { // literals of other types are not equal
		b.setLit(e, boolVal(op == "!="))
		return types.TBool
	}
	return b.invalid(CodeCompare, e.Span(), "Type mismatch for '%s': comparing %s with %s", op, b.name(x), b.name(y))
}

// literalTuple tells whether a tuple is made of literals only.
func (b *body) literalTuple(e ast.Expr) bool {
	t, ok := unparen(e).(*ast.Tuple)
	if !ok {
		_, lit := b.lits[e]
		return lit
	}
	for _, x := range t.Elems {
		if !b.literalTuple(x) {
			return false
		}
	}
	return true
}

func (b *body) integerOp(e ast.Node, op string, x, y *types.Type) *types.Type {
	if !isLogical(op) && op != "<<" && op != ">>" && x.Kind == types.Int && y.Kind == types.Int {
		b.warnMixedSigns(e, x, y)
	}
	if isCompare(op) || isLogical(op) {
		return types.TBool
	}
	signed := b.signedOp(x, y)
	if op == "<<" || op == ">>" {
		signed = x.Signed
	}
	space := x.Space
	if space == types.SpaceNone {
		space = y.Space
	} else if y.Space != types.SpaceNone && y.Space != space {
		b.warnf(CodeSpaceMix, e.Span(), "Addrspace mismatch")
		space = types.SpaceNone
	}
	// What is computed from literals alone is signed, as they are by themselves, but still fits an unsigned variable.
	if loose(x) && (loose(y) || op == "<<" || op == ">>") {
		return b.c.pool.get(intKey{size: 8, signed: true, space: space, open: true})
	}
	// The difference of unsigned values may be negative.
	return b.c.pool.get(intKey{size: 8, signed: signed || op == "-", space: space})
}

// loose tells whether an integer comes from literals alone, so that it is signed unless something unsigned is beside it.
func loose(t *types.Type) bool { return isOpen(t) || isWide(t) }

// warnMixedSigns warns of a uint64 that meets a signed operand: it counts as an int64.
func (b *body) warnMixedSigns(e ast.Node, x, y *types.Type) {
	if isOpen(x) || isOpen(y) || x.Signed == y.Signed {
		return
	}
	sides := [2]source.Span{e.Span(), e.Span()}
	if e, ok := e.(*ast.Binary); ok {
		sides = [2]source.Span{operandSpan(e.X), operandSpan(e.Y)}
	}
	b.warnConversion(sides[0], x, types.TInt64)
	b.warnConversion(sides[1], y, types.TInt64)
}

func (b *body) pointerOp(e ast.Node, op string, x, y *types.Type) *types.Type {
	fail := func() *types.Type {
		return b.invalid(CodeOperand, e.Span(), "The %s operator can not be used on expressions of types %s, %s", op, b.name(x), b.name(y))
	}
	if x.Kind == types.Pointer && y.Kind == types.Pointer {
		switch {
		case isCompare(op):
			if !samePointee(x, y) && !isVoid(x.Elem) && !isVoid(y.Elem) {
				b.warnf(CodePointerCompare, e.Span(), "comparison of distinct pointer types: %s, %s", x, y)
			}
			return types.TBool
		case isLogical(op):
			return types.TBool
		case op == "-" && samePointee(x, y):
			return types.TInt64
		}
		return fail()
	}
	ptr, other, left := x, y, true
	if x.Kind != types.Pointer {
		ptr, other, left = y, x, false
	}
	if !isNumber(other) {
		if isLogical(op) && isCondition(other) {
			return types.TBool
		}
		return fail()
	}
	switch {
	case isCompare(op), isLogical(op):
		return types.TBool
	case op == "+", op == "-" && left:
		prov := ptr.Prov
		if prov == types.ProvBTF || prov == types.ProvCtx { // the verifier loses track
			prov = types.ProvRaw
		}
		return b.c.pool.withSpace(ptr, ptr.Space, prov)
	}
	return fail()
}

// unary types the operators with one operand.
func (b *body) unary(e *ast.Unary) *types.Type {
	switch e.Op {
	case "++", "--":
		return b.increment(e)
	case "&":
		return b.address(e)
	}
	x := b.value(e.X)
	if x == nil || bad(x) {
		return x
	}
	if e.Op == "*" {
		return b.deref(e, x)
	}
	if v, ok := b.lits[e.X]; ok {
		r, folds, err := foldUnary(e.Op, v)
		switch {
		case err != nil:
			return b.invalid(CodeOverflow, e.Sp, "unable to fold literals due to overflow or underflow: `%s`: %v", e.Op, err)
		case folds:
			b.setLit(e, r)
			return b.litType(r)
		}
	}
	if b.c.pool.old {
		x = decay(x)
	}
	ok := x.IsInteger() && (e.Op == "!" || x.Kind != types.Bool)
	if !ok {
		return b.invalid(CodeOperand, e.Sp, "The %s operator can not be used on expressions of type '%s'", e.Op, b.name(x))
	}
	narrow := e.Op == "~" && x.Kind == types.Int && !x.Signed && !isOpen(x) // the complement of a uint32 has 32 bits
	if c, known := b.Consts[e.X]; known && !c.IsString {
		v := evalUnary(e.Op, c.Int)
		if narrow {
			v = truncate(v, x.Size, false)
		}
		b.Consts[e] = Const{Int: v}
	}
	switch e.Op {
	case "!":
		return types.TBool
	case "+":
		return x
	case "-":
		return types.TInt64
	}
	if narrow {
		return types.IntOf(x.Size, false)
	}
	return types.IntOf(8, x.Signed)
}

func evalUnary(op string, v int64) int64 {
	switch op {
	case "!":
		if v == 0 {
			return 1
		}
		return 0
	case "-":
		return -v
	case "~":
		return ^v
	}
	return v
}

// increment types ++ and --, which assign to a variable or map.
func (b *body) increment(e *ast.Unary) *types.Type {
	switch t := unparen(e.X).(type) {
	case *ast.Var:
		return b.incrementVar(e, t)
	case *ast.MapRef:
		return b.incrementMap(e, b.infer(e.X), t)
	case *ast.Index:
		if m, ok := unparen(t.X).(*ast.MapRef); ok {
			return b.incrementMap(e, b.infer(e.X), m)
		}
	}
	if bad(b.infer(e.X)) {
		return types.TInvalid
	}
	return b.invalid(CodeIncrement, e.Sp, "The %s operator must be applied to a map or variable", e.Op)
}

func (b *body) incrementVar(e *ast.Unary, v *ast.Var) *types.Type {
	x := b.infer(v)
	b.Types[e.X] = x
	if x == nil || bad(x) {
		return x
	}
	if x.Kind == types.Pointer {
		if st := b.states[b.Vars[v]]; x.Prov == types.ProvCtx { // now it points elsewhere
			b.setVar(st, b.c.pool.withSpace(x, x.Space, types.ProvRaw))
			return st.v.Type
		}
		return x
	}
	if !x.IsInteger() || x.Kind == types.Bool {
		return b.invalid(CodeIncrement, e.Sp, "Type mismatch for %s: trying to assign value of type 'uint64' when variable already has a type '%s'", displayName(v.Name), b.name(x))
	}
	st := b.states[b.Vars[v]]
	if st.declared != nil || st.locked {
		return x
	}
	t := b.stepType(e.Op, x)
	if joined, ok := b.c.pool.promote(x, t); ok {
		b.setVar(st, joined)
		b.Types[v], b.Types[e.X] = st.v.Type, st.v.Type
		return st.v.Type
	}
	return x
}

// stepType is what an integer becomes by counting: 64 bits, signed when it was, when it counts down or when it comes from literals.
func (b *body) stepType(op string, x *types.Type) *types.Type {
	closed := x.Signed && !isOpen(x)
	if loose(x) {
		return b.c.pool.get(intKey{size: 8, signed: true, space: x.Space, open: true})
	}
	return b.c.pool.get(intKey{size: 8, signed: closed || op == "--", space: x.Space})
}

func (b *body) incrementMap(e *ast.Unary, x *types.Type, ref *ast.MapRef) *types.Type {
	st := b.c.mapOf(ref)
	if x == nil || bad(x) {
		return x
	}
	switch {
	case x.Kind == types.Pointer:
		return x
	case x.IsAggregation():
		return b.invalid(CodeAggregation, e.Sp, "Type mismatch for %s: trying to assign value of type 'uint64' when map already has a type '%s'", ref.Name, x)
	case !x.IsInteger() || x.Kind == types.Bool:
		return b.invalid(CodeIncrement, e.Sp, "Type mismatch for %s: trying to assign value of type 'uint64' when map already has a type '%s'", ref.Name, b.name(x))
	}
	if joined, ok := b.c.pool.promote(x, b.stepType(e.Op, x)); ok && !st.locked {
		b.setMapValue(st, joined)
		b.Types[e.X] = st.m.Value
		return st.m.Value
	}
	return x
}

// address types &$x and &@m.
func (b *body) address(e *ast.Unary) *types.Type {
	switch t := unparen(e.X).(type) {
	case *ast.Var:
		x := b.infer(t)
		b.Types[e.X] = x
		if x == nil || bad(x) {
			return x
		}
		return types.PointerTo(x, types.SpaceBPF, types.ProvBPF)
	case *ast.MapRef:
		m := &types.Type{Kind: types.MapKind}
		b.Types[e.X], b.Types[t] = m, m
		st := b.c.mapOf(t)
		b.readMap(st)
		if st.m.Value == nil {
			return nil
		}
		return types.PointerTo(st.m.Value, types.SpaceBPF, types.ProvBPF)
	}
	b.infer(e.X)
	return b.invalid(CodeOperand, e.Sp, "`&` needs a scratch variable or a map")
}

// deref types *p.
func (b *body) deref(e *ast.Unary, x *types.Type) *types.Type {
	switch x.Kind {
	case types.Args: // old scripts write *args
		return x
	case types.Pointer:
		if isVoid(x.Elem) {
			return b.invalid(CodeDeref, e.Sp, "a `void *` cannot be dereferenced")
		}
		if x.Elem.Kind == types.Struct && x.Elem.Size == 0 {
			return b.invalid(CodeDeref, e.Sp, "the definition of `%s` is not known", x.Elem)
		}
		return b.pointee(x)
	case types.Int:
		return b.c.pool.withSpace(types.TUint64, x.Space, types.ProvRaw)
	case types.Struct:
		return b.invalid(CodeDeref, e.Sp, "Can not dereference type '%s'. It is not a pointer.", x)
	}
	return b.invalid(CodeDeref, e.Sp, "The * operator can not be used on expressions of type '%s'", b.name(x))
}

// pointee is what a pointer points to, with its address space; pointers inside of it live in the same space unless they say otherwise.
func (b *body) pointee(p *types.Type) *types.Type {
	t := p.Elem
	if t.Kind == types.Pointer {
		return b.innerPointer(t, p.Space, types.ProvRaw, p.Prov)
	}
	return b.inside(t, p)
}

// isCondition tells whether a value can be tested for being true.
func isCondition(t *types.Type) bool {
	return t.IsInteger() || t.Kind == types.Pointer || isCastable(t)
}

// symbolName names a type in a message; what `func` gives is a symbol of the side that its probe is on.
func (b *body) symbolName(t *types.Type) string {
	switch {
	case t.Kind != types.Func:
		return b.name(t)
	case len(b.Points) > 0 && b.Points[0].Space == types.SpaceUser:
		return "usym_t"
	}
	return "ksym_t"
}

// condition checks an expression that is tested; a mistake is reported at the whole statement or expression.
func (b *body) condition(e ast.Expr, whole source.Span) {
	t := b.value(e)
	b.checkCondition(e, t, whole)
}

func (b *body) checkCondition(e ast.Expr, t *types.Type, whole source.Span) {
	if t == nil || bad(t) || isCondition(t) && (!isCastable(t) || b.c.pool.old) {
		return
	}
	if _, lit := b.lits[e]; lit && t.Kind == types.String {
		return
	}
	name := b.name(t)
	if t.Kind == types.String {
		name = "string"
	}
	d := b.errorf(CodeCondition, whole, "Invalid condition: %s", name)
	if t.Kind == types.String {
		d.Hint("compare it: `... != \"\"`")
	}
}

// didYouMean adds the nearest name as a hint.
func didYouMean(d *diag.Diagnostic, name string, candidates []string) {
	if n := diag.Nearest(name, candidates); n != "" {
		d.Hint("use `%s`?", n)
	}
}
