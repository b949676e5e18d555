package lower

import (
	"fmt"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/types"
)

// block lowers the statements of a block; its result expression is evaluated and dropped.
func (g *Gen) block(b *ast.Block, conditional bool) {
	run := func() {
		for _, s := range b.Stmts {
			g.stmt(s)
		}
		if b.Result != nil {
			g.statement(func() { g.drop(b.Result) })
		}
	}
	if conditional {
		g.scoped(run)
		return
	}
	run()
}

func (g *Gen) drop(e ast.Expr) { g.exprWant(e, want{unused: true}) }

// maxValues is how much code one function may be made of before it is optimised. The kernel takes a million instructions at most.
const maxValues = 1_000_000

// maxFuncs is the same of the functions that loops and searches become. The kernel takes 256 in a program, but some may be found needless later.
const maxFuncs = 1024

// tooMany says what the program has more of than can ever fit the kernel's limits; "" when it has not.
func (g *Gen) tooMany() string {
	switch {
	case g.B.F.NumIDs() > maxValues:
		return "a million operations"
	case len(g.module.Funcs) > maxFuncs:
		return fmt.Sprintf("%d functions, which loops become, and the kernel takes 256", maxFuncs)
	}
	return ""
}

func (g *Gen) stmt(s ast.Stmt) {
	if many := g.tooMany(); many != "" {
		if !g.tooLong {
			g.Errorf("E0710", s, "the probe does not fit the kernel's limits: it has more than %s", many).Hint("unroll less, or use a loop: `for ($i : 0..100) { ... }`")
		}
		g.tooLong = true
		return
	}
	saved := g.B.Span
	g.span(s)
	g.statement(func() { g.stmt1(s) })
	g.B.Span = saved
}

func (g *Gen) stmt1(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.Block:
		g.block(s, false)
	case *ast.ExprStmt:
		g.drop(s.X)
	case *ast.Assign:
		g.assign(s)
	case *ast.Let:
		g.let(s)
	case *ast.If:
		g.ifStmt(s)
	case *ast.While:
		g.while(s)
	case *ast.Unroll:
		g.unroll(s)
	case *ast.ForMap:
		g.forMap(s)
	case *ast.ForRange:
		g.forRange(s)
	case *ast.Jump:
		g.jump(s)
	default:
		g.bug(s, "no such statement")
	}
}

func (g *Gen) let(s *ast.Let) {
	v := g.Body.Vars[s.Var]
	if v == nil || v.Type == nil || v.Type.Kind == types.Invalid || v.Type.Kind == types.Void {
		return // never used
	}
	b := g.bindingOf(v)
	switch b.kind {
	case bindSSA:
		g.B.Set(b.ssa, g.B.Const(0))
	case bindSlot:
		g.zero(Place{Ptr: g.B.SlotAddr(b.slot, 0), Size: b.slot.Size})
	}
}

func (g *Gen) ifStmt(s *ast.If) {
	if c, ok := g.Body.Consts[s.Cond]; ok && !c.IsString {
		switch {
		case c.Int != 0:
			g.block(s.Then, false)
		case s.Else != nil:
			g.block(s.Else, false)
		}
		return
	}
	yes, no, end := g.B.NewBlock("then"), g.B.NewBlock("else"), g.B.NewBlock("endif")
	g.Cond(s.Cond, yes, no)
	reached := false
	for i, b := range []*ir.Block{yes, no} {
		g.B.Seal(b)
		g.B.SetBlock(b)
		switch {
		case i == 0:
			g.block(s.Then, true)
		case s.Else != nil:
			g.block(s.Else, true)
		}
		if !g.B.Terminated() {
			g.B.Jump(end)
			reached = true
		}
	}
	g.B.Seal(end)
	if reached {
		g.B.SetBlock(end)
	}
}

func (g *Gen) jump(s *ast.Jump) {
	switch s.Kind {
	case ast.Return:
		if s.Value != nil {
			o := g.Expr(s.Value)
			if g.Hook.Returns && !o.IsVoid() {
				g.setReturn(g.ToInt(o))
			}
		}
		g.Leave()
	case ast.Break, ast.Continue:
		f := g.fr
		if len(f.loops) == 0 {
			g.bug(s, "outside of a loop")
		}
		f.loops[len(f.loops)-1].jump(g, s.Kind)
	}
}

// setReturn makes v the program's return value.
func (g *Gen) setReturn(v *ir.Value) {
	if g.fr.cb == nil {
		g.B.Set(g.ret, v)
		return
	}
	g.fr.cb.setReturn(g, v)
}

// SetReturn makes v the program's return value, where the probe kind has one.
func (g *Gen) SetReturn(v *ir.Value) { g.setReturn(v) }

func (g *Gen) assign(s *ast.Assign) {
	target := unparen(s.Target)
	if s.Op != "" && s.Op != "=" {
		g.compound(s, target)
		return
	}
	switch x := target.(type) {
	case *ast.Discard:
		g.exprWant(s.Value, want{})
	case *ast.Var:
		g.assignVar(x, s.Value)
	case *ast.MapRef:
		g.assignMap(x, x.Name, nil, s.Value)
	case *ast.Index:
		m, ok := unparen(x.X).(*ast.MapRef)
		if !ok {
			g.bug(s, "no assignable target")
		}
		g.assignMap(x, m.Name, x.Keys, s.Value)
	default:
		g.bug(s, "no assignable target")
	}
}

// compound lowers `x op= e`.
func (g *Gen) compound(s *ast.Assign, target ast.Expr) {
	switch x := target.(type) {
	case *ast.Var:
		v := g.Body.Vars[x]
		old := g.readVar(v)
		y := g.Expr(s.Value)
		g.writeVar(v, Scalar(v.Type, g.Arith(s.Op, old, y, v.Type)))
	case *ast.MapRef:
		g.modifyMap(x, x.Name, nil, s.Op, func() Operand { return g.Expr(s.Value) }, false, false)
	case *ast.Index:
		m := unparen(x.X).(*ast.MapRef)
		g.modifyMap(x, m.Name, x.Keys, s.Op, func() Operand { return g.Expr(s.Value) }, false, false)
	default:
		g.bug(s, "no assignable target")
	}
}

// incDec lowers ++ and --.
func (g *Gen) incDec(e *ast.Unary, t *types.Type) Operand {
	op := e.Op[:1]
	unused := g.want.unused
	g.want = want{}
	one := func() Operand { return Scalar(types.TUint8, g.B.Const(1)) }
	switch x := unparen(e.X).(type) {
	case *ast.Var:
		v := g.Body.Vars[x]
		old := g.readVar(v)
		now := Scalar(v.Type, g.Arith(op, old, one(), v.Type))
		g.writeVar(v, now)
		if e.Postfix {
			return g.Convert(old, t)
		}
		return g.Convert(now, t)
	case *ast.MapRef:
		return g.modifyMap(x, x.Name, nil, op, one, !unused, e.Postfix)
	case *ast.Index:
		if m, ok := unparen(x.X).(*ast.MapRef); ok {
			return g.modifyMap(x, m.Name, x.Keys, op, one, !unused, e.Postfix)
		}
	}
	g.bug(e, "no assignable operand")
	return Operand{}
}
