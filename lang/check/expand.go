package check

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// expander copies a body: macros are expanded, C macros and positional parameters replaced, branches whose condition is made of literals
// chosen. The copy belongs to one Body, so that types can be kept per node.
type expander struct {
	c       *checker
	diags   *diag.List
	frame   *frame // nil in the script's own text
	loops   int    // loops around the statement
	dead    int    // branches around the statement that are never run
	raw     bool   // copies what was expanded before: an argument of a macro
	counter *int   // nodes copied for this body
	defines []string
	args    *types.Type // where a member of args may stand for a string; nil elsewhere
}

func (x *expander) count() bool {
	*x.counter++
	return *x.counter <= maxExpanded
}

func (x *expander) block(b *ast.Block) *ast.Block {
	if b == nil {
		return nil
	}
	out := &ast.Block{Base: b.Base, Stmts: make([]ast.Stmt, 0, len(b.Stmts))}
	for _, s := range b.Stmts {
		if s := x.stmt(s); s != nil {
			out.Stmts = append(out.Stmts, s)
		}
	}
	if b.Result != nil {
		out.Result = x.expr(b.Result)
	}
	return out
}

// loopBody copies the body of a loop.
func (x *expander) loopBody(b *ast.Block) *ast.Block {
	x.loops++
	defer func() { x.loops-- }()
	return x.block(b)
}

func (x *expander) stmt(s ast.Stmt) ast.Stmt {
	if !x.count() {
		return nil
	}
	switch s := s.(type) {
	case *ast.Block:
		return x.block(s)
	case *ast.ExprStmt:
		if call, ok := s.X.(*ast.Call); ok && x.dead > 0 && call.Func == "fail" {
			return nil
		}
		return &ast.ExprStmt{Base: s.Base, X: x.expr(s.X)}
	case *ast.Assign:
		return x.assign(s)
	case *ast.Let:
		v, _ := x.expr(s.Var).(*ast.Var)
		if x.shadowsParam(s.Var) || v == nil {
			return nil
		}
		return &ast.Let{Base: s.Base, Var: v, Type: x.typeSpec(s.Type)}
	case *ast.If:
		return x.ifStmt(s)
	case *ast.While:
		return &ast.While{Base: s.Base, Cond: x.expr(s.Cond), Body: x.loopBody(s.Body)}
	case *ast.Unroll:
		return &ast.Unroll{Base: s.Base, Count: x.expr(s.Count), Body: x.block(s.Body)}
	case *ast.ForMap:
		v, _ := x.expr(s.Var).(*ast.Var)
		m, _ := x.expr(s.Map).(*ast.MapRef)
		if v == nil || m == nil {
			return nil
		}
		return &ast.ForMap{Base: s.Base, Var: v, Map: m, Body: x.loopBody(s.Body)}
	case *ast.ForRange:
		v, _ := x.expr(s.Var).(*ast.Var)
		if v == nil {
			return nil
		}
		return &ast.ForRange{Base: s.Base, Var: v, Lo: x.expr(s.Lo), Hi: x.expr(s.Hi), Body: x.loopBody(s.Body)}
	case *ast.Import:
		x.diags.Errorf(CodeImport, s.Sp, "Import statements that are not at the top level are primarily for the standard library. If this is functionality you need, please file an issue to explain why.").
			Hint("write it above the probes")
		return nil
	case *ast.Jump:
		if word := [...]string{ast.Return: "return", ast.Break: "break", ast.Continue: "continue"}[s.Kind]; x.frame != nil && !x.raw && (s.Kind == ast.Return || x.loops == 0) {
			x.diags.Errorf(CodeJump, s.Sp, "'%s' statement is not allowed in a macro", word)
		}
		j := &ast.Jump{Base: s.Base, Kind: s.Kind}
		if s.Value != nil {
			j.Value = x.expr(s.Value)
		}
		return j
	}
	return nil
}

func (x *expander) assign(s *ast.Assign) ast.Stmt {
	if v, ok := s.Target.(*ast.Var); ok && s.Let && x.shadowsParam(v) {
		return nil
	}
	value := x.expr(s.Value)
	if id, ok := s.Target.(*ast.Ident); ok && x.frame != nil && !x.raw {
		if _, isParam := x.frame.exprs[id.Name]; isParam {
			x.diags.Errorf(CodeMacro, s.Target.Span(), "macro `%s` assigns to its expression parameter `%s`", x.frame.macro.Name, id.Name).
				Hint("name the parameter `$%s` to take a variable", id.Name)
			return nil
		}
	}
	return &ast.Assign{Base: s.Base, Target: x.expr(s.Target), Op: s.Op, OpSp: s.OpSp, Value: value, Let: s.Let, Type: x.typeSpec(s.Type)}
}

func (x *expander) shadowsParam(v *ast.Var) bool {
	if x.frame == nil || x.raw {
		return false
	}
	if _, ok := x.frame.vars[v.Name]; ok {
		x.diags.Errorf(CodeMacro, v.Sp, "`let %s` shadows a parameter of macro `%s`", v.Name, x.frame.macro.Name)
		return true
	}
	return false
}

// ifStmt keeps both branches: what is never run must be right too, and gives variables their types. Only `fail` is for a branch that is run.
func (x *expander) ifStmt(s *ast.If) *ast.If {
	cond := x.expr(s.Cond)
	v, literal := foldLiteral(cond)
	out := &ast.If{Base: s.Base, Cond: cond, ElseIf: s.ElseIf, Comptime: s.Comptime}
	if ct, ok := cond.(*ast.Comptime); ok && !s.Comptime {
		out.Cond, out.Comptime, literal = ct.X, true, false
	}
	out.Then = x.branch(s.Then, literal && !v.truth())
	out.Else = x.branch(s.Else, literal && v.truth())
	return out
}

// branch copies a branch of an if; dead says that it is never run.
func (x *expander) branch(b *ast.Block, dead bool) *ast.Block {
	if dead {
		x.dead++
		defer func() { x.dead-- }()
	}
	return x.block(b)
}

func (x *expander) exprs(list []ast.Expr) []ast.Expr {
	out := make([]ast.Expr, len(list))
	for i, e := range list {
		out[i] = x.expr(e)
	}
	return out
}

func (x *expander) expr(e ast.Expr) ast.Expr {
	if e == nil {
		return nil
	}
	if !x.count() {
		if *x.counter == maxExpanded+1 {
			x.diags.Errorf(CodeMacro, e.Span(), "macros expand to more than %d nodes here", maxExpanded)
		}
		return &ast.Bad{Base: ast.Base{Sp: e.Span()}}
	}
	switch e := e.(type) {
	case *ast.IntLit:
		c := *e
		return &c
	case *ast.StrLit:
		c := *e
		return &c
	case *ast.BoolLit:
		c := *e
		return &c
	case *ast.Ident:
		return x.ident(e)
	case *ast.Var:
		return x.variable(e)
	case *ast.MapRef:
		return x.mapRef(e)
	case *ast.Positional:
		return x.positional(e)
	case *ast.Unary:
		if e.Op == "!" {
			return &ast.Unary{Base: e.Base, Op: e.Op, OpSp: e.OpSp, X: x.expr(e.X), Postfix: e.Postfix}
		}
		return &ast.Unary{Base: e.Base, Op: e.Op, OpSp: e.OpSp, X: x.address(e.X), Postfix: e.Postfix}
	case *ast.Binary:
		return &ast.Binary{Base: e.Base, Op: e.Op, OpSp: e.OpSp, X: x.operand(e.Op, e.X, e.Y), Y: x.operand(e.Op, e.Y, e.X)}
	case *ast.Ternary:
		return x.ternary(e)
	case *ast.Call:
		return x.call(e)
	case *ast.Field:
		if x.isText(e) {
			return x.text(e)
		}
		return &ast.Field{Base: e.Base, X: x.expr(e.X), Name: e.Name, NameSp: e.NameSp, Arrow: e.Arrow}
	case *ast.TupleField:
		return &ast.TupleField{Base: e.Base, X: x.expr(e.X), Index: e.Index}
	case *ast.Index:
		return &ast.Index{Base: e.Base, X: x.address(e.X), Keys: x.exprs(e.Keys)}
	case *ast.Cast:
		return &ast.Cast{Base: e.Base, Type: x.typeSpec(e.Type), X: x.address(e.X)}
	case *ast.Sizeof:
		t, v := x.typeOrExpr(e.Type, e.X)
		return &ast.Sizeof{Base: e.Base, Type: t, X: v}
	case *ast.Offsetof:
		t, v := x.typeOrExpr(e.Type, e.X)
		return &ast.Offsetof{Base: e.Base, Type: t, X: v, Fields: x.fieldNames(e.Fields)}
	case *ast.Typeinfo:
		t, v := x.typeOrExpr(e.Type, e.X)
		return &ast.Typeinfo{Base: e.Base, Type: t, X: v}
	case *ast.Tuple:
		return &ast.Tuple{Base: e.Base, Elems: x.exprs(e.Elems)}
	case *ast.Record:
		return &ast.Record{Base: e.Base, Names: e.Names, Values: x.exprs(e.Values)}
	case *ast.BlockExpr:
		b := &ast.BlockExpr{Base: e.Base, Block: x.block(e.Block)}
		if ex := x.c.expansions[e]; ex != nil {
			x.c.expansions[b] = ex
		} else if e.Block.Result != nil && x.frame == nil && neverGoesOn(e.Block) {
			x.c.endless[b] = true
		}
		return b
	case *ast.IfExpr:
		return x.ifExpr(e)
	case *ast.Comptime:
		return &ast.Comptime{Base: e.Base, X: x.expr(e.X)}
	case *ast.TypeArg:
		return &ast.TypeArg{Base: e.Base, Type: x.typeSpec(e.Type)}
	case *ast.Discard:
		return &ast.Discard{Base: e.Base}
	case *ast.Paren:
		return &ast.Paren{Base: e.Base, X: x.expr(e.X)}
	}
	return &ast.Bad{Base: ast.Base{Sp: e.Span()}}
}

func (x *expander) ternary(e *ast.Ternary) ast.Expr {
	cond := x.expr(e.Cond)
	if v, ok := foldLiteral(cond); ok {
		switch {
		case !v.truth():
			return x.expr(e.Y)
		case e.X == nil:
			return cond
		}
		return x.expr(e.X)
	}
	return &ast.Ternary{Base: e.Base, Cond: cond, X: x.expr(e.X), Y: x.expr(e.Y)}
}

// ifExpr keeps only one branch when the condition is made of literals.
func (x *expander) ifExpr(e *ast.IfExpr) ast.Expr {
	s := x.ifStmt(e.If)
	v, ok := foldLiteral(s.Cond)
	switch {
	case !ok || s.Comptime:
		return &ast.IfExpr{Base: e.Base, If: s}
	case v.truth():
		return &ast.BlockExpr{Base: e.Base, Block: s.Then}
	case s.Else != nil:
		return &ast.BlockExpr{Base: e.Base, Block: s.Else}
	}
	return &ast.BlockExpr{Base: e.Base, Block: &ast.Block{Base: e.Base}}
}

// typeOrExpr copies the operand of sizeof and its like. A bare name may be a type, a variable or a macro's parameter.
func (x *expander) typeOrExpr(t *ast.TypeSpec, e ast.Expr) (*ast.TypeSpec, ast.Expr) {
	if t != nil {
		if id := bareName(t); id != "" && x.frame != nil && !x.raw {
			if arg, ok := x.frame.exprs[id]; ok {
				if ta, isType := unparen(arg).(*ast.TypeArg); isType {
					return x.copyOf().typeSpec(ta.Type), nil
				}
				return nil, x.copyOf().expr(arg)
			}
		}
		return x.typeSpec(t), nil
	}
	v := x.address(e)
	if ta, ok := unparen(v).(*ast.TypeArg); ok {
		return ta.Type, nil
	}
	return nil, v
}

// fieldNames replaces a macro's parameter by the field that the call names: a bare name, or names joined by dots.
func (x *expander) fieldNames(names []string) []string {
	if x.frame == nil || x.raw {
		return names
	}
	var out []string
	for _, n := range names {
		if arg, ok := x.frame.exprs[n]; ok {
			if path := fieldPath(arg); path != nil {
				out = append(out, path...)
				continue
			}
		}
		out = append(out, n)
	}
	return out
}

func fieldPath(e ast.Expr) []string {
	switch e := unparen(e).(type) {
	case *ast.Ident:
		return []string{e.Name}
	case *ast.Call: // a name that is also a function
		if len(e.Args) == 0 {
			return []string{e.Func}
		}
	case *ast.Field:
		if p := fieldPath(e.X); p != nil {
			return append(p, e.Name)
		}
	}
	return nil
}

func bareName(t *ast.TypeSpec) string {
	if t.Tag == "" && t.Typeof == nil && t.TypeofType == nil && len(t.Suffix) == 0 && t.Elems == nil {
		return t.Name
	}
	return ""
}

// copyOf returns an expander that copies an argument that was expanded already.
func (x *expander) copyOf() *expander {
	return &expander{c: x.c, diags: x.diags, raw: true, counter: x.counter}
}

func (x *expander) typeSpec(t *ast.TypeSpec) *ast.TypeSpec {
	if t == nil {
		return nil
	}
	out := *t
	if x.frame != nil && !x.raw && t.Tag == "" && t.Name != "" {
		if arg, ok := x.frame.exprs[t.Name]; ok {
			switch a := unparen(arg).(type) {
			case *ast.TypeArg:
				out = *x.copyOf().typeSpec(a.Type)
				out.Suffix = append(append([]ast.TypeSuffix(nil), out.Suffix...), t.Suffix...)
				return &out
			case *ast.Ident: // a type by its bare name
				out.Name, out.Sp = a.Name, a.Sp
			default:
				x.diags.Errorf(CodeMacro, arg.Span(), "Invalid replacement for macro '%s' type parameter '%s' which makes up the type '%s'", x.frame.macro.Name, t.Name, t.Name)
				return &ast.TypeSpec{Base: t.Base, Name: "void"}
			}
		}
	}
	if t.Typeof != nil {
		out.Typeof = x.expr(t.Typeof)
		if ta, ok := unparen(out.Typeof).(*ast.TypeArg); ok {
			out.Typeof, out.TypeofType = nil, ta.Type
		}
	}
	out.TypeofType = x.typeSpec(out.TypeofType)
	out.Suffix = make([]ast.TypeSuffix, len(t.Suffix))
	for i, s := range t.Suffix {
		out.Suffix[i] = s
		if s.Len != nil {
			out.Suffix[i].Len = x.expr(s.Len)
		}
	}
	if t.Elems != nil {
		out.Elems = make([]*ast.TypeSpec, len(t.Elems))
		for i, e := range t.Elems {
			out.Elems[i] = x.typeSpec(e)
		}
	}
	return &out
}

func (x *expander) variable(e *ast.Var) ast.Expr {
	c := *e
	if x.frame != nil && !x.raw {
		if to, ok := x.frame.vars[e.Name]; ok {
			c.Name = to
		} else {
			c.Name = x.frame.prefix + e.Name[1:]
		}
	}
	return &c
}

// displayName is the name of a variable as the user wrote it.
func displayName(name string) string {
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		return "$" + name[i+1:]
	}
	return name
}

func (x *expander) mapRef(e *ast.MapRef) ast.Expr {
	c := *e
	if x.frame != nil && !x.raw {
		to, ok := x.frame.maps[e.Name]
		if !ok {
			x.diags.Errorf(CodeMacro, e.Sp, "Unhygienic access to map: %s. Maps must be passed into the macro as arguments.", e.Name).
				Hint("add `%s` to the parameters and pass the map in the call", e.Name)
			return &ast.Bad{Base: e.Base}
		}
		c.Name = to
	}
	return &c
}

func (x *expander) ident(e *ast.Ident) ast.Expr {
	if x.raw {
		c := *e
		return &c
	}
	if x.frame != nil {
		if arg, ok := x.frame.exprs[e.Name]; ok {
			return x.copyOf().expr(arg)
		}
	}
	if m, found := x.c.lookupMacro(e.Name, 0); m != nil {
		return x.callMacro(m, e.Sp, nil)
	} else if found && x.c.u.Var(e.Name) == nil && x.c.u.Func(e.Name) == nil {
		x.diags.Errorf(CodeMacro, e.Sp, "macro `%s` needs arguments: %s", e.Name, x.c.arities(e.Name))
		return &ast.Bad{Base: e.Base}
	}
	// Names of builtins are looked up first, because asking for a constant may have to read the kernel's types.
	v, f := x.c.u.Var(e.Name), x.c.u.Func(e.Name)
	if v == nil && f == nil || x.c.ownMacros[e.Name] {
		if d := x.define(e); d != nil {
			return d
		}
	}
	if f != nil && v == nil && minArgs(f) == 0 {
		return &ast.Call{Base: e.Base, Func: e.Name, FuncSp: e.Sp}
	}
	c := *e
	return &c
}

func (c *checker) arities(name string) string {
	var list []string
	for _, m := range c.macros[name] {
		list = append(list, plural(len(m.Params), "argument"))
	}
	return strings.Join(list, " or ")
}

func minArgs(f *Func) int {
	n := 0
	for _, p := range f.Params {
		if !p.Optional && !p.Variadic {
			n++
		}
	}
	return n
}

// define replaces the name of a C macro by the expression that its text is.
func (x *expander) define(e *ast.Ident) ast.Expr {
	text, ok := x.c.defs.Macro(e.Name)
	if !ok {
		return nil
	}
	for _, d := range x.defines {
		if d == e.Name { // as in C, a macro does not expand inside itself
			return nil
		}
	}
	parsed := x.c.parseDefine(e.Name, text)
	if parsed == nil {
		x.diags.Errorf(CodeDefine, e.Sp, "macro `%s` is not an expression: %s", e.Name, text)
		return &ast.Bad{Base: e.Base}
	}
	sub := &expander{c: x.c, diags: x.diags, counter: x.counter, args: x.args, defines: append(x.defines[:len(x.defines):len(x.defines)], e.Name)}
	out := sub.expr(parsed)
	respan(out, e.Sp)
	return &ast.Paren{Base: e.Base, X: out}
}

func (x *expander) call(e *ast.Call) ast.Expr {
	if x.raw {
		return &ast.Call{Base: e.Base, Func: e.Func, FuncSp: e.FuncSp, Args: x.exprs(e.Args)}
	}
	m, found := x.c.lookupMacro(e.Func, len(e.Args))
	if m != nil {
		return x.callMacro(m, e.Sp, x.exprs(e.Args))
	}
	f := x.c.u.Func(e.Func)
	if found && f == nil {
		best := x.c.macros[e.Func][0]
		d := x.diags.Errorf(CodeMacro, e.Sp, "Call to %s() has arguments that do not match any definition.", e.Func)
		if text := fmt.Sprintf("The closest definition of %s() has a different number of arguments. Expected: %d but got %d", e.Func, len(best.Params), len(e.Args)); best.library {
			d.Hint("it takes %s, %d given", x.c.arities(e.Func), len(e.Args))
		} else {
			d.Label(best.NameSp, "%s", text)
		}
		return &ast.Bad{Base: e.Base}
	}
	if len(e.Args) == 0 && x.c.u.Var(e.Func) != nil {
		return x.ident(&ast.Ident{Base: e.Base, Name: e.Func})
	}
	out := &ast.Call{Base: e.Base, Func: e.Func, FuncSp: e.FuncSp, Args: make([]ast.Expr, len(e.Args))}
	for i, a := range e.Args {
		switch {
		case f != nil && isWord(f, i, a):
			id := *unparen(a).(*ast.Ident)
			out.Args[i] = &id
		case i == 0 && e.Func == "str":
			out.Args[i] = x.positionalText(a)
		default:
			out.Args[i] = x.argument(f, e, i)
		}
	}
	return out
}

// isWord tells whether argument i of f is one of the names that only mean something there.
func isWord(f *Func, i int, a ast.Expr) bool {
	id, ok := unparen(a).(*ast.Ident)
	if !ok || len(f.Params) == 0 {
		return false
	}
	p := f.Params[min(i, len(f.Params)-1)]
	for _, w := range p.Words {
		if w == id.Name {
			return true
		}
	}
	return p.Class == Word
}

// positional replaces $N by its text: an integer when it reads as one, else a string. A parameter that was not given stays; it is zero, or
// the empty string where a string is needed.
func (x *expander) positional(e *ast.Positional) ast.Expr {
	if x.raw {
		c := *e
		return &c
	}
	if e.N == 0 {
		return &ast.IntLit{Base: e.Base, Value: uint64(len(x.c.env.Positional)), Text: "$#"}
	}
	if e.N > len(x.c.env.Positional) || x.c.env.Positional[e.N-1] == "" {
		return &ast.Positional{Base: e.Base, N: e.N}
	}
	text := x.c.env.Positional[e.N-1]
	if v, neg, ok := parseInt(text); ok {
		return &ast.IntLit{Base: e.Base, Value: v, Neg: neg, Text: "$" + strconv.Itoa(e.N)}
	}
	if v, ok := parseDuration(text); ok {
		return &ast.IntLit{Base: e.Base, Value: v, Text: "$" + strconv.Itoa(e.N)}
	}
	return &ast.StrLit{Base: e.Base, Value: text, Text: "$" + strconv.Itoa(e.N)}
}

// positionalText copies the argument of str(): there, $N is always a string, and $N + n skips its first characters.
func (x *expander) positionalText(a ast.Expr) ast.Expr {
	switch e := unparen(a).(type) {
	case *ast.Positional:
		if e.N > 0 && !x.raw {
			s := ""
			if e.N <= len(x.c.env.Positional) {
				s = x.c.env.Positional[e.N-1]
			}
			return &ast.StrLit{Base: e.Base, Value: s, Text: "$" + strconv.Itoa(e.N)}
		}
	case *ast.Binary:
		if e.Op == "+" {
			if p, ok := unparen(e.X).(*ast.Positional); ok && p.N > 0 {
				return &ast.Binary{Base: e.Base, Op: e.Op, OpSp: e.OpSp, X: x.positionalText(p), Y: x.expr(e.Y)}
			}
			if p, ok := unparen(e.Y).(*ast.Positional); ok && p.N > 0 {
				return &ast.Binary{Base: e.Base, Op: e.Op, OpSp: e.OpSp, X: x.expr(e.X), Y: x.positionalText(p)}
			}
		}
	}
	e := x.address(a)
	if v, ok := foldLiteral(e); ok && v.kind == intValue && x.c.modern { // a literal is its text
		return &ast.StrLit{Base: ast.Base{Sp: a.Span()}, Value: v.big().String()}
	}
	return e
}

// parseInt reads an integer as the language writes it; neg is set for a minus sign.
func parseInt(text string) (v uint64, neg, ok bool) {
	s := strings.TrimSpace(text)
	switch {
	case strings.HasPrefix(s, "-"):
		neg, s = true, s[1:]
	case strings.HasPrefix(s, "+"):
		s = s[1:]
	}
	s = strings.ReplaceAll(s, "_", "")
	if s == "" || s[0] == '+' || s[0] == '-' {
		return 0, false, false
	}
	if i := strings.IndexAny(s, "eE"); i > 0 && !strings.HasPrefix(s, "0x") && !strings.HasPrefix(s, "0X") {
		m, err1 := strconv.ParseUint(s[:i], 10, 64)
		n, err2 := strconv.ParseUint(s[i+1:], 10, 8)
		if err1 != nil || err2 != nil || n > 19 {
			return 0, false, false
		}
		for ; n > 0; n-- {
			if m > (1<<64-1)/10 {
				return 0, false, false
			}
			m *= 10
		}
		return m, neg, true
	}
	s = strings.TrimRight(s, "uUlL")
	v, err := strconv.ParseUint(s, 0, 64)
	if err != nil || (neg && v > 1<<63) || strings.HasPrefix(s, "0o") || strings.HasPrefix(s, "0O") {
		return 0, false, false
	}
	return v, neg && v != 0, true
}

// parseDuration reads a number with a unit of time, in nanoseconds: 5ms.
func parseDuration(text string) (uint64, bool) {
	n := len(text) - len(strings.TrimLeft(text, "0123456789_"))
	unit, known := map[string]uint64{"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9, "d": 86400e9}[text[n:]]
	v, neg, ok := parseInt(text[:n])
	if !known || !ok || neg || v > (1<<64-1)/unit {
		return 0, false
	}
	return v * unit, true
}

// respan gives the nodes of a C macro's text the place where the macro is used.
func respan(e ast.Expr, sp source.Span) {
	ast.Inspect(e, func(n ast.Node) bool {
		setSpan(n, sp)
		return true
	})
}
