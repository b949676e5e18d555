package lower

import (
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// Expr evaluates an expression.
func (g *Gen) Expr(e ast.Expr) Operand { return g.exprWant(e, want{}) }

// Scalar evaluates an expression to a 64-bit value, extended according to its type. Pointers lose their provenance.
func (g *Gen) Scalar(e ast.Expr) *ir.Value { return g.ToInt(g.Expr(e)) }

// ScalarAs evaluates an expression and converts it to a scalar type.
func (g *Gen) ScalarAs(e ast.Expr, t *types.Type) *ir.Value {
	return g.asInt(g.Convert(g.Expr(e), t).V)
}

// Into evaluates a value of type t straight into memory of t.Size bytes; strings are padded with zeros.
func (g *Gen) Into(e ast.Expr, t *types.Type, dst Place) {
	dst.Size = t.Size
	src := g.Type(e)
	if t.IsScalar() || src != nil && src.IsScalar() && t.Kind != types.Array {
		g.StoreValue(dst, t, g.Convert(g.Expr(e), t))
		return
	}
	w := want{}
	if src != nil && sameLayout(src, t) {
		w.dest = &dst
	}
	g.StoreValue(dst, t, g.exprWant(e, w))
}

// sameLayout reports whether a value of type a may be built where one of type b is wanted.
func sameLayout(a, b *types.Type) bool {
	switch {
	case a.Kind == types.String && b.Kind == types.String:
		return a.Size <= b.Size
	case a.Kind == types.Buffer && b.Kind == types.Buffer:
		return a.Size <= b.Size
	case a.Kind == types.Tuple || a.Kind == types.Record:
		if a.Kind != b.Kind || len(a.Fields) != len(b.Fields) || a.Size != b.Size {
			return false
		}
		for i := range a.Fields {
			x, y := a.Fields[i].Type, b.Fields[i].Type
			if a.Fields[i].Name != b.Fields[i].Name || a.Fields[i].Offset != b.Fields[i].Offset || x.Size != y.Size || x.Kind != y.Kind || !x.IsScalar() && !sameLayout(x, y) {
				return false
			}
		}
		return true
	}
	return a.Kind == b.Kind && a.Size == b.Size
}

func (g *Gen) exprWant(e ast.Expr, w want) Operand {
	saved, span := g.want, g.B.Span
	g.want = w
	if p, ok := e.(*ast.Paren); !ok {
		g.span(e)
	} else {
		e = unparen(p)
	}
	o := g.expr(e)
	g.want, g.B.Span = saved, span
	return o
}

func (g *Gen) expr(e ast.Expr) Operand {
	t := g.Type(e)
	if c, ok := g.Body.Consts[e]; ok {
		return g.constant(t, c)
	}
	switch e := e.(type) {
	case *ast.IntLit:
		v := int64(e.Value)
		if e.Neg {
			v = -v
		}
		return Scalar(t, g.B.Const(v))
	case *ast.BoolLit:
		return Scalar(t, g.B.Bool(e.Value))
	case *ast.StrLit:
		return g.literal(t, e.Value)
	case *ast.Ident:
		return g.ident(e, t)
	case *ast.Var:
		return g.readVar(g.Body.Vars[e])
	case *ast.MapRef:
		return g.readMap(e, e.Name, nil, t)
	case *ast.Unary:
		return g.unary(e, t)
	case *ast.Binary:
		return g.binary(e, t)
	case *ast.Ternary:
		return g.ternary(e, t)
	case *ast.Call:
		return g.call(e)
	case *ast.Field:
		return g.field(e)
	case *ast.TupleField:
		return g.tupleField(e.X, e.Index)
	case *ast.Index:
		return g.index(e, t)
	case *ast.Cast:
		return g.cast(e, t)
	case *ast.Tuple:
		return g.tuple(t, e.Elems)
	case *ast.Record:
		return g.tuple(t, e.Values)
	case *ast.BlockExpr:
		return g.blockExpr(e.Block, t)
	case *ast.IfExpr:
		return g.ifExpr(e.If, t)
	case *ast.Comptime:
		return g.exprWant(e.X, g.want)
	case *ast.Typeinfo:
		return g.tuple(t, g.Body.Infos[e])
	case *ast.Sizeof, *ast.Offsetof, *ast.Positional:
		g.bug(e, "not folded by the checker")
	}
	g.bug(e, "no such expression")
	return Operand{}
}

func (g *Gen) constant(t *types.Type, c check.Const) Operand {
	switch {
	case c.IsString && t != nil && t.IsScalar():
		return Scalar(t, g.B.Const(0)) // $1 in a numeric context
	case c.IsString:
		return g.literal(t, c.Str)
	case t != nil && t.Kind == types.String:
		return g.literal(t, c.Str)
	}
	return Scalar(t, g.B.Const(c.Int))
}

// literal puts a string known while compiling into memory.
func (g *Gen) literal(t *types.Type, s string) Operand {
	if t == nil || t.Kind != types.String {
		t = types.StringOf(len(s) + 1)
	}
	p := g.Dest(t)
	g.storeLiteral(p, s)
	return Operand{Type: t, P: p}
}

// Literal is the operand of a string known while compiling.
func (g *Gen) Literal(s string) Operand { return g.literal(types.StringOf(len(s)+1), s) }

// storeLiteral writes s and zeros behind it up to p.Size.
func (g *Gen) storeLiteral(p Place, s string) {
	if len(s) >= p.Size {
		s = s[:max(p.Size-1, 0)]
	}
	off := 0
	for ; off < p.Size && off <= len(s); off += 8 {
		n := min(8, p.Size-off)
		for n&(n-1) != 0 { // the last piece: 4, then 2, then 1
			n &= n - 1
		}
		var w uint64
		for i := n - 1; i >= 0; i-- {
			w <<= 8
			if off+i < len(s) {
				w |= uint64(s[off+i])
			}
		}
		g.B.Store(p.Ptr, int(p.Off)+off, n, g.B.Const(int64(w)))
		off -= 8 - n
	}
	if off < p.Size {
		g.B.Zero(p.Ptr, int(p.Off)+off, p.Size-off)
	}
}

func (g *Gen) ident(e *ast.Ident, t *types.Type) Operand {
	id := g.Body.Idents[e]
	if id == nil {
		g.bug(e, "unresolved name %s", e.Name)
	}
	if id.Const != nil {
		return g.constant(t, *id.Const)
	}
	if id.Var == nil {
		g.bug(e, "name %s is nothing", e.Name)
	}
	if id.Var.Const != nil {
		if v, ok := id.Var.Const(id.Builtin); ok {
			return Scalar(t, g.B.Const(v))
		}
	}
	return g.LowerVar(e, id.Var, id.Builtin)
}

// LowerVar lowers a use of a builtin variable.
func (g *Gen) LowerVar(e ast.Node, v *check.Var, use *check.VarUse) Operand {
	switch fn := v.Lower.(type) {
	case VarFunc:
		return fn(g, use)
	case func(*Gen, *check.VarUse) Operand:
		return fn(g, use)
	}
	g.Errorf("E0799", e, "`%s` is not supported yet", v.Name)
	return g.zeroOf(g.exprType(e))
}

func (g *Gen) exprType(n ast.Node) *types.Type {
	if e, ok := n.(ast.Expr); ok {
		return g.Type(e)
	}
	return nil
}

func (g *Gen) call(e *ast.Call) Operand {
	c := g.Body.Calls[e]
	if c == nil {
		g.bug(e, "call of %s has no context", e.Func)
	}
	switch fn := c.Func.Lower.(type) {
	case Func:
		return fn(g, c)
	case Searcher:
		return fn(g, c)
	case func(*Gen, *check.Call) Operand:
		return fn(g, c)
	}
	g.Errorf("E0799", e, "`%s` is not supported yet", c.Func.Name)
	return g.zeroOf(g.Type(e))
}

// zeroOf gives a zero value of a type.
func (g *Gen) zeroOf(t *types.Type) Operand {
	switch {
	case t == nil || t.Kind == types.Void:
		return Operand{}
	case t.IsScalar():
		return Scalar(t, g.B.Const(0))
	}
	p := g.Dest(t)
	g.zero(p)
	return Operand{Type: t, P: p}
}

// ZeroOf gives a zero value of a type, where the result is wanted.
func (g *Gen) ZeroOf(t *types.Type) Operand { return g.zeroOf(t) }

func (g *Gen) zero(p Place) {
	if p.Size > 0 {
		g.B.Zero(p.Ptr, int(p.Off), p.Size)
	}
}

func (g *Gen) unary(e *ast.Unary, t *types.Type) Operand {
	switch e.Op {
	case "+":
		return g.Convert(g.Expr(e.X), t)
	case "-":
		return Scalar(t, g.wrap(g.B.Neg(g.Scalar(e.X)), t))
	case "~":
		return Scalar(t, g.wrap(g.B.Not(g.Scalar(e.X)), t))
	case "!":
		x := g.Truth(g.Expr(e.X))
		return Scalar(t, g.B.CmpImm(ir.OpEq, x, 0))
	case "*":
		return g.deref(g.Expr(e.X), t)
	case "&":
		return g.addressOf(e, t)
	case "++", "--":
		return g.incDec(e, t)
	}
	g.bug(e, "operator %s", e.Op)
	return Operand{}
}

// Truth gives a value that is 0 when the operand is false. Strings and other large values are true when their first byte is set.
func (g *Gen) Truth(o Operand) *ir.Value {
	if o.Type.IsScalar() {
		return g.asInt(o.V)
	}
	return g.LoadScalar(o.P.At(0, 1), types.TUint8)
}

// wrap cuts a 64-bit result to the width of an integer type.
func (g *Gen) wrap(v *ir.Value, t *types.Type) *ir.Value {
	if t.Kind == types.Bool || t.Size >= 8 || t.Size == 0 {
		return v
	}
	return g.B.Ext(v, t.Size*8, t.Signed)
}

var arith = map[string]ir.Op{
	"+": ir.OpAdd, "-": ir.OpSub, "*": ir.OpMul, "&": ir.OpAnd, "|": ir.OpOr, "^": ir.OpXor, "<<": ir.OpShl,
}

var comparisons = map[string][2]ir.Op{ // unsigned, signed
	"==": {ir.OpEq, ir.OpEq}, "!=": {ir.OpNe, ir.OpNe},
	"<": {ir.OpULt, ir.OpSLt}, "<=": {ir.OpULe, ir.OpSLe}, ">": {ir.OpUGt, ir.OpSGt}, ">=": {ir.OpUGe, ir.OpSGe},
}

func (g *Gen) binary(e *ast.Binary, t *types.Type) Operand {
	if e.Op == "&&" || e.Op == "||" {
		return g.condValue(e, t)
	}
	if _, ok := comparisons[e.Op]; ok {
		if g.isLarge(e.X) || g.isLarge(e.Y) {
			return g.condValue(e, t)
		}
		op, x, y := g.compareScalars(e)
		return Scalar(t, g.B.Cmp(op, x, y))
	}
	x := g.Expr(e.X)
	y := g.Expr(e.Y)
	return Scalar(t, g.Arith(e.Op, x, y, t))
}

func (g *Gen) isLarge(e ast.Expr) bool {
	t := g.Type(e)
	return t != nil && !t.IsScalar() && !t.IsAggregation()
}

// Arith computes x op y with the result type t; division by zero gives 1 and a warning, as the language has it.
func (g *Gen) Arith(op string, x, y Operand, t *types.Type) *ir.Value {
	if x.Type.Kind == types.Pointer && y.Type.Kind != types.Pointer {
		return g.ptrArith(op, x, y)
	}
	if y.Type.Kind == types.Pointer && x.Type.Kind != types.Pointer && op == "+" {
		return g.ptrArith(op, y, x)
	}
	a, b := g.ToInt(x), g.ToInt(y)
	if x.Type.Kind == types.Pointer && y.Type.Kind == types.Pointer && op == "-" {
		d := g.B.Sub(a, b)
		if n := elemSize(x.Type); n > 1 {
			d = g.B.OpImm(ir.OpSDiv, d, int64(n))
		}
		return d
	}
	switch op {
	case ">>":
		o := ir.OpLShr
		if x.Type.Signed {
			o = ir.OpAShr
		}
		return g.wrap(g.B.Op2(o, a, b), t)
	case "/", "%":
		return g.wrap(g.divide(op, a, b, x.Type.Signed && y.Type.Signed || t.Signed), t)
	}
	o, ok := arith[op]
	if !ok {
		panic("lower: operator " + op)
	}
	return g.wrap(g.B.Op2(o, a, b), t)
}

func (g *Gen) divide(op string, a, b *ir.Value, signed bool) *ir.Value {
	o := map[string][2]ir.Op{"/": {ir.OpUDiv, ir.OpSDiv}, "%": {ir.OpUMod, ir.OpSMod}}[op][0]
	if signed {
		o = map[string][2]ir.Op{"/": {ir.OpUDiv, ir.OpSDiv}, "%": {ir.OpUMod, ir.OpSMod}}[op][1]
	}
	if b.Op == ir.OpConst && b.Imm != 0 {
		return g.B.Op2(o, a, b)
	}
	v := g.B.NewVar("quotient", ir.I64)
	zero, some, end := g.B.NewBlock("zero"), g.B.NewBlock("divide"), g.B.NewBlock("divided")
	zero.Cold = true
	g.B.Branch(ir.OpEq, b, g.B.Const(0), zero, some)
	g.B.Seal(zero)
	g.B.Seal(some)
	g.B.SetBlock(some)
	g.B.Set(v, g.B.Op2(o, a, b))
	g.B.Jump(end)
	g.B.SetBlock(zero)
	g.scoped(func() { g.B.Cold(func() { g.warnDivision() }) })
	g.B.Set(v, g.B.Const(1))
	g.B.Jump(end)
	g.B.Seal(end)
	g.B.SetBlock(end)
	return g.B.Get(v)
}

func elemSize(t *types.Type) int {
	if t.Elem == nil || t.Elem.Size == 0 {
		return 1
	}
	return t.Elem.Size
}

func (g *Gen) ptrArith(op string, p, n Operand) *ir.Value {
	d := g.ToInt(n)
	if s := elemSize(p.Type); s > 1 {
		d = g.B.OpImm(ir.OpMul, d, int64(s))
	}
	base := p.V
	if base.Type != ir.Stack && base.Type != ir.MapVal {
		base = g.asInt(base)
	}
	if op == "-" {
		d = g.B.Neg(d)
	}
	if base.Type.IsPtr() {
		if d.Op == ir.OpConst {
			return g.B.PtrAddImm(base, d.Imm)
		}
		base = g.asInt(base)
	}
	return g.B.Add(base, d)
}

// compareScalars evaluates both sides of a comparison and chooses the op by their signs.
func (g *Gen) compareScalars(e *ast.Binary) (op ir.Op, x, y *ir.Value) {
	a, b := g.Expr(e.X), g.Expr(e.Y)
	i := 0
	if g.comparesSigned(a, b) {
		i = 1
	}
	return comparisons[e.Op][i], g.ToInt(a), g.ToInt(b)
}

// comparesSigned: values are kept extended to 64 bits, so a signed comparison is right whenever one side may be negative. A uint64 counts as
// an int64 then, which the checker warns of; an address does not.
func (g *Gen) comparesSigned(a, b Operand) bool {
	return isSigned(a.Type) && b.Type.Kind != types.Pointer || isSigned(b.Type) && a.Type.Kind != types.Pointer
}

func isSigned(t *types.Type) bool { return t.Signed && t.Kind != types.Pointer }

// condValue evaluates a condition to 0 or 1 through branches.
func (g *Gen) condValue(e ast.Expr, t *types.Type) Operand {
	v := g.B.NewVar("cond", ir.I64)
	yes, no, end := g.B.NewBlock("true"), g.B.NewBlock("false"), g.B.NewBlock("cond")
	g.Cond(e, yes, no)
	for i, b := range []*ir.Block{yes, no} {
		g.B.Seal(b)
		g.B.SetBlock(b)
		g.B.Set(v, g.B.Const(int64(1-i)))
		g.B.Jump(end)
	}
	g.B.Seal(end)
	g.B.SetBlock(end)
	return Scalar(t, g.B.Get(v))
}

// Cond ends the block with a branch: to yes when e is true, else to no. Both sides of && and || are evaluated only when needed.
func (g *Gen) Cond(e ast.Expr, yes, no *ir.Block) {
	e = unparen(e)
	if _, ok := g.Body.Consts[e]; !ok {
		switch e := e.(type) {
		case *ast.Unary:
			if e.Op == "!" {
				g.Cond(e.X, no, yes)
				return
			}
		case *ast.Binary:
			switch e.Op {
			case "&&", "||":
				rest := g.B.NewBlock("rest")
				if e.Op == "&&" {
					g.Cond(e.X, rest, no)
				} else {
					g.Cond(e.X, yes, rest)
				}
				g.B.Seal(rest)
				g.B.SetBlock(rest)
				g.scoped(func() { g.Cond(e.Y, yes, no) })
				return
			case "==", "!=":
				if g.isLarge(e.X) || g.isLarge(e.Y) {
					g.span(e)
					if e.Op == "!=" {
						yes, no = no, yes
					}
					g.equal(e.X, e.Y, yes, no)
					return
				}
			}
			if _, ok := comparisons[e.Op]; ok {
				g.span(e)
				op, x, y := g.compareScalars(e)
				g.B.Branch(op, x, y, yes, no)
				return
			}
		}
	}
	v := g.Truth(g.Expr(e))
	g.B.BranchIf(v, yes, no)
}

func (g *Gen) ternary(e *ast.Ternary, t *types.Type) Operand {
	w := g.want
	g.want = want{}
	if e.X == nil { // cond ?: y
		c := g.Convert(g.Expr(e.Cond), t)
		v := g.B.NewVar("elvis", ir.I64)
		g.B.Set(v, g.asInt(c.V))
		g.scoped(func() {
			g.B.If(g.B.CmpImm(ir.OpEq, g.asInt(c.V), 0), func() { g.B.Set(v, g.ScalarAs(e.Y, t)) }, nil)
		})
		return Scalar(t, g.B.Get(v))
	}
	return g.choose(t, w, func(yes, no *ir.Block) { g.Cond(e.Cond, yes, no) },
		func(w want) Operand { return g.exprWant(e.X, w) }, func(w want) Operand { return g.exprWant(e.Y, w) })
}

// choose evaluates one of two arms to a value of type t.
func (g *Gen) choose(t *types.Type, w want, cond func(yes, no *ir.Block), arms ...func(want) Operand) Operand {
	var v ir.Var
	var p Place
	void := t == nil || t.Kind == types.Void
	switch {
	case void:
	case t.IsScalar():
		v = g.B.NewVar("chosen", ir.I64)
	default:
		g.want = w
		p = g.Dest(t)
		g.want = want{}
	}
	yes, no, end := g.B.NewBlock("then"), g.B.NewBlock("else"), g.B.NewBlock("chosen")
	cond(yes, no)
	g.B.Seal(yes)
	g.B.Seal(no)
	for i, b := range []*ir.Block{yes, no} {
		g.B.SetBlock(b)
		g.pushScope()
		switch {
		case void:
			arms[i](want{unused: true})
		case t.IsScalar():
			o := g.Convert(arms[i](want{}), t)
			g.B.Set(v, g.asInt(o.V))
		default:
			q := p
			g.StoreValue(p, t, arms[i](want{dest: &q}))
		}
		g.popScope()
		if !g.B.Terminated() {
			g.B.Jump(end)
		}
	}
	g.B.Seal(end)
	g.B.SetBlock(end)
	switch {
	case void:
		return Operand{}
	case t.IsScalar():
		return Scalar(t, g.B.Get(v))
	}
	return Operand{Type: t, P: p}
}

func (g *Gen) blockExpr(b *ast.Block, t *types.Type) Operand {
	w := g.want
	g.want = want{}
	for _, s := range b.Stmts {
		g.stmt(s)
	}
	if b.Result == nil {
		return g.zeroOf(t)
	}
	return g.exprWant(b.Result, w)
}

func (g *Gen) ifExpr(n *ast.If, t *types.Type) Operand {
	w := g.want
	g.want = want{}
	arm := func(b *ast.Block) func(want) Operand {
		return func(w want) Operand {
			if b == nil {
				return g.zeroOf(t)
			}
			if b.Result == nil && len(b.Stmts) == 1 {
				if inner, ok := b.Stmts[0].(*ast.If); ok { // else if
					g.want = w
					return g.ifExpr(inner, t)
				}
			}
			g.want = w
			return g.blockExpr(b, t)
		}
	}
	return g.choose(t, w, func(yes, no *ir.Block) { g.Cond(n.Cond, yes, no) }, arm(n.Then), arm(n.Else))
}

// tuple builds a tuple or record in memory; padding is zero, so that equal values have equal bytes.
func (g *Gen) tuple(t *types.Type, elems []ast.Expr) Operand {
	p := g.Dest(t)
	g.want = want{}
	end := 0
	for i, f := range t.Fields {
		if f.Offset > end {
			g.zero(p.At(end, f.Offset-end))
		}
		g.Into(elems[i], f.Type, p.At(f.Offset, f.Type.Size))
		end = f.Offset + f.Type.Size
	}
	if t.Size > end {
		g.zero(p.At(end, t.Size-end))
	}
	return Operand{Type: t, P: p}
}
