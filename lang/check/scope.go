package check

import (
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
)

// resolver binds variables of one body to their declarations, and notes how maps are used. It runs once, before any type is known.
type resolver struct {
	b      *body
	scopes []*scope
	nextID int
	loops  int // `while` and `for` around the statement
	fors   int // `for` around the statement
	meta   int // inside sizeof, offsetof, typeof, typeinfo: nothing is evaluated
	diags  *diag.List
}

type scope struct {
	id   int
	fors int
	vars map[string]*varState
}

// resolve runs the resolver.
func (b *body) resolve() {
	r := &resolver{b: b, diags: b.c.diags}
	b.hoist()
	r.push()
	if b.Predicate != nil {
		r.expr(b.Predicate)
	}
	r.stmts(b.Block)
}

func (r *resolver) push() {
	r.scopes = append(r.scopes, &scope{id: r.nextID, fors: r.fors, vars: nil})
	r.nextID++
}

func (r *resolver) pop() { r.scopes = r.scopes[:len(r.scopes)-1] }

func (r *resolver) lookup(name string) (*varState, *scope) {
	for i := len(r.scopes) - 1; i >= 0; i-- {
		if st := r.scopes[i].vars[name]; st != nil {
			return st, r.scopes[i]
		}
	}
	return nil, nil
}

func (r *resolver) declare(v *ast.Var, param bool) *varState {
	s := r.scopes[len(r.scopes)-1]
	st := &varState{v: &LocalVar{Name: v.Name, Span: v.Sp, Depth: len(r.scopes) - 1, Scope: s.id, Param: param}}
	if s.vars == nil {
		s.vars = map[string]*varState{}
	}
	s.vars[v.Name] = st
	r.b.states[st.v] = st
	r.b.order = append(r.b.order, st)
	r.b.Vars[v] = st.v
	return st
}

// withOrigin resolves the body of a macro.
func (r *resolver) withOrigin(e *ast.BlockExpr, f func()) {
	ex := r.b.c.expansions[e]
	if ex == nil {
		f()
		return
	}
	outer := r.diags
	r.diags = &diag.List{}
	f()
	r.b.c.adopt(outer, r.diags, ex)
	r.diags = outer
}

func (r *resolver) block(b *ast.Block) {
	if b == nil {
		return
	}
	r.push()
	r.stmts(b)
	r.pop()
}

func (r *resolver) stmts(b *ast.Block) {
	for _, s := range b.Stmts {
		r.stmt(s)
	}
	if b.Result != nil {
		r.expr(b.Result)
	}
}

func (r *resolver) stmt(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.Block:
		r.block(s)
	case *ast.ExprStmt:
		r.expr(s.X)
	case *ast.Assign:
		r.assign(s)
	case *ast.Let:
		r.typeSpec(s.Type)
		sp := source.Span{Start: s.Sp.Start, End: s.Var.Sp.End}
		if st := r.let(s.Var, sp); st != nil {
			st.spec, st.decl = s.Type, sp
		}
	case *ast.If:
		r.expr(s.Cond)
		r.block(s.Then)
		r.block(s.Else)
	case *ast.While:
		r.diags.Warnf(CodeDeprecated, s.Sp, "While loops are deprecated and may be removed in the future.").
			Hint("write `for ($i : START..END)` where the number of rounds is known")
		r.expr(s.Cond)
		r.loops++
		r.block(s.Body)
		r.loops--
	case *ast.Unroll:
		r.expr(s.Count)
		r.block(s.Body)
	case *ast.ForMap:
		r.mapUse(s.Map, s.Map.Sp, false, true)
		r.b.c.mapOf(s.Map).m.Iterated = true
		r.loop(s.Var, s.Body)
	case *ast.ForRange:
		r.expr(s.Lo)
		r.expr(s.Hi)
		r.loop(s.Var, s.Body)
	case *ast.Jump:
		r.jump(s)
	}
}

func (r *resolver) jump(s *ast.Jump) {
	if s.Value != nil {
		r.expr(s.Value)
	}
	if s.Kind == ast.Return || r.loops > 0 {
		return
	}
	word := "break"
	if s.Kind == ast.Continue {
		word = "continue"
	}
	r.diags.Errorf(CodeJump, s.Sp, "'%s' statement is not allowed in a probe", word).Hint("it ends a loop, or a round of it")
}

func (r *resolver) loop(v *ast.Var, body *ast.Block) {
	if old, _ := r.lookup(v.Name); old != nil {
		r.diags.Errorf(CodeShadow, v.Sp, "Loop declaration shadows existing variable: %s", displayName(v.Name)).
			Label(old.v.Span, "first used here")
	}
	r.fors++
	r.loops++
	r.push()
	st := r.declare(v, true)
	st.assigned = true
	if body != nil {
		r.block(body)
	}
	r.pop()
	r.loops--
	r.fors--
}

// let declares a variable; nil when the name is taken.
func (r *resolver) let(v *ast.Var, sp source.Span) *varState {
	if old, _ := r.lookup(v.Name); old != nil {
		r.diags.Errorf(CodeShadow, sp, "Variable %s was already declared. Variable shadowing is not allowed.", displayName(v.Name)).
			Label(old.v.Span, "This is the initial declaration.").Hint("use another name: a variable cannot hide one of an outer block")
		r.b.Vars[v] = old.v
		return nil
	}
	return r.declare(v, false)
}

func (r *resolver) assign(s *ast.Assign) {
	r.expr(s.Value)
	switch t := unparen(s.Target).(type) {
	case *ast.Var:
		r.typeSpec(s.Type)
		if s.Let {
			if st := r.let(t, source.Span{Start: s.Sp.Start, End: t.Sp.End}); st != nil {
				st.spec, st.assigned = s.Type, true
			}
			return
		}
		r.assignVar(t, s.Op)
	case *ast.MapRef:
		st := r.mapUse(t, t.Sp, false, false)
		r.written(st, s.Op)
	case *ast.Index:
		if m, ok := unparen(t.X).(*ast.MapRef); ok {
			for _, k := range t.Keys {
				r.expr(k)
			}
			r.written(r.mapUse(m, t.Sp, true, false), s.Op)
			return
		}
		r.expr(t)
	case *ast.Discard:
	default:
		r.expr(t)
	}
}

func (r *resolver) written(st *mapState, op string) {
	if op == "=" {
		st.m.Written = true
		return
	}
	st.selfInit, st.m.Incremented, st.m.Read = true, true, true
}

func (r *resolver) assignVar(v *ast.Var, op string) {
	st, in := r.lookup(v.Name)
	if st == nil {
		if op != "=" {
			r.undefined(v)
			return
		}
		st = r.declare(v, false)
		st.assigned = true
		return
	}
	if op != "=" {
		r.usedEarly(st, v)
	}
	st.assigned = true
	if in.fors < r.fors {
		st.v.Loop = true
	}
	r.b.Vars[v] = st.v
}

func (r *resolver) undefined(v *ast.Var) {
	name := displayName(v.Name)
	d := r.diags.Errorf(CodeUndefinedVar, v.Sp, "Undefined or undeclared variable: %s", name)
	var names []string
	for _, s := range r.scopes {
		for n := range s.vars {
			names = append(names, displayName(n))
		}
	}
	for _, st := range r.b.order {
		if st.v.Name == v.Name && !contains(names, name) {
			d.Label(st.v.Span, "`%s` exists only in this block", name).Hint("declare it before the block with `let %s;`", name)
			return
		}
	}
	didYouMean(d, name, names)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (r *resolver) usedEarly(st *varState, v *ast.Var) {
	if !st.assigned && r.meta == 0 {
		r.diags.Warnf(CodeUnassigned, v.Sp, "Variable used before it was assigned: %s", displayName(v.Name))
	}
}

func (r *resolver) typeSpec(t *ast.TypeSpec) {
	if e := typeofOf(t); e != nil {
		r.metaOf(nil, e)
	}
	for t != nil {
		for _, s := range t.Suffix {
			if s.Len != nil {
				r.expr(s.Len)
			}
		}
		for _, e := range t.Elems {
			r.typeSpec(e)
		}
		t = t.TypeofType
	}
}

func (r *resolver) expr(e ast.Expr) {
	switch e := e.(type) {
	case nil:
	case *ast.Var:
		st, in := r.lookup(e.Name)
		if st == nil {
			r.undefined(e)
			return
		}
		r.usedEarly(st, e)
		if in.fors < r.fors {
			st.v.Captured = true
		}
		r.b.Vars[e] = st.v
	case *ast.MapRef:
		r.readMap(e, e.Sp, false)
	case *ast.Index:
		if m, ok := unparen(e.X).(*ast.MapRef); ok {
			r.readMap(m, e.Sp, true)
		} else {
			r.expr(e.X)
		}
		for _, k := range e.Keys {
			r.expr(k)
		}
	case *ast.Unary:
		r.unary(e)
	case *ast.Call:
		r.call(e)
	case *ast.Cast:
		r.typeSpec(e.Type)
		r.expr(e.X)
	case *ast.Sizeof:
		r.metaOf(e.Type, e.X)
	case *ast.Offsetof:
		r.metaOf(e.Type, e.X)
	case *ast.Typeinfo:
		if !r.b.c.inLibrary(e.Sp) {
			r.b.c.unstable("unstable_typeinfo", e.Sp, "typeinfo")
		}
		r.metaOf(e.Type, e.X)
	case *ast.TypeArg:
		r.metaOf(e.Type, nil)
	case *ast.BlockExpr:
		r.withOrigin(e, func() { r.block(e.Block) })
	case *ast.IfExpr:
		r.stmt(e.If)
	default:
		for _, k := range operands(e) {
			r.expr(k)
		}
	}
}

func (r *resolver) metaOf(t *ast.TypeSpec, e ast.Expr) {
	r.meta++
	r.typeSpec(t)
	if m, ok := unparen(e).(*ast.MapRef); ok {
		r.mapUse(m, m.Sp, false, true).m.Read = true
	} else {
		r.expr(e)
	}
	r.meta--
}

func (r *resolver) unary(e *ast.Unary) {
	switch e.Op {
	case "++", "--":
		switch t := unparen(e.X).(type) {
		case *ast.Var:
			st, _ := r.lookup(t.Name)
			if st == nil {
				r.undefined(t)
				return
			}
			r.assignVar(t, e.Op)
			return
		case *ast.MapRef:
			r.incremented(r.mapUse(t, t.Sp, false, false))
			return
		case *ast.Index:
			if m, ok := unparen(t.X).(*ast.MapRef); ok {
				for _, k := range t.Keys {
					r.expr(k)
				}
				r.incremented(r.mapUse(m, t.Sp, true, false))
				return
			}
		}
	case "&":
		switch t := unparen(e.X).(type) {
		case *ast.Var:
			st, _ := r.lookup(t.Name)
			if st == nil {
				r.undefined(t)
				return
			}
			st.assigned, st.v.Addr = true, true
			r.b.Vars[t] = st.v
			return
		case *ast.MapRef:
			r.mapUse(t, t.Sp, false, true).m.AddrTaken = true
			return
		}
	}
	r.expr(e.X)
}

func (r *resolver) incremented(st *mapState) {
	st.selfInit, st.m.Incremented, st.m.Read = true, true, true
}

// call resolves the arguments of a call. A map as a whole is no read of a scalar map.
func (r *resolver) call(e *ast.Call) {
	f := r.b.c.u.Func(e.Func)
	for i, a := range e.Args {
		p := paramAt(f, i)
		if p == nil {
			r.expr(a)
			continue
		}
		if isWord(f, i, a) {
			continue
		}
		m, isMap := unparen(a).(*ast.MapRef)
		switch {
		case isMap && (p.Class == MapArg || p.Class == MapOrKey || p.Class == MapOrValue):
			r.wholeMap(f, m)
		case p.Class == MapOrKey:
			if ix, ok := unparen(a).(*ast.Index); ok {
				if m, ok := unparen(ix.X).(*ast.MapRef); ok {
					for _, k := range ix.Keys {
						r.expr(k)
					}
					r.noteCall(f, r.mapUse(m, m.Sp, true, false))
					continue
				}
			}
			r.expr(a)
		case p.Class == VarArg:
			if v, ok := unparen(a).(*ast.Var); ok {
				if st, in := r.lookup(v.Name); st != nil {
					st.assigned = true
					if in.fors < r.fors {
						st.v.Loop = true
					}
				}
			}
			r.expr(a)
		default:
			r.expr(a)
		}
	}
}

// wholeMap notes a map that is an argument as a whole.
func (r *resolver) wholeMap(f *Func, m *ast.MapRef) { r.noteCall(f, r.mapUse(m, m.Sp, false, true)) }

func (r *resolver) noteCall(f *Func, st *mapState) {
	for _, eff := range f.Effects {
		switch eff {
		case EffectDelete:
			st.m.Deleted = true
		case EffectClear:
			st.m.Cleared = true
		case EffectPrint:
			st.m.Printed = true
		case EffectLen:
			st.m.LenUsed = true
		case EffectRead:
			st.m.Read = true
		}
	}
}

// readMap notes that the value of a map is used; see mapUse.
func (r *resolver) readMap(m *ast.MapRef, sp source.Span, keyed bool) {
	st := r.mapUse(m, sp, keyed, false)
	st.m.Read = true
	if r.meta == 0 && !st.read.IsValid() {
		st.read = m.Sp
	}
}

// mapUse notes a use of a map: with a key, without one, or (whole) as a whole, which says nothing about keys. sp is where a use that contradicts
// another one is shown.
func (r *resolver) mapUse(m *ast.MapRef, sp source.Span, keyed, whole bool) *mapState {
	st := r.b.c.mapOf(m)
	if whole {
		return st
	}
	switch {
	case keyed && st.scalar.IsValid():
		r.diags.Errorf(CodeScalarKeyed, sp, "%s used as a map with an explicit key (non-scalar map), previously used without an explicit key (scalar map)", m.Name).
			Label(st.scalar, "used without a key here").Hint("use two maps")
	case !keyed && st.keyed.IsValid():
		r.diags.Errorf(CodeScalarKeyed, sp, "%s used as a map without an explicit key (scalar map), previously used with an explicit key (non-scalar map)", m.Name).
			Label(st.keyed, "used with a key here").Hint("use two maps")
	case keyed:
		if !st.keyed.IsValid() {
			st.keyed, st.m.Keyed = m.Sp, true
		}
	case !st.scalar.IsValid():
		st.scalar = m.Sp
	}
	return st
}

// paramAt is the parameter that argument i belongs to, nil when there is none.
func paramAt(f *Func, i int) *Param {
	if f == nil || len(f.Params) == 0 {
		return nil
	}
	if i < len(f.Params) {
		return &f.Params[i]
	}
	if last := &f.Params[len(f.Params)-1]; last.Variadic {
		return last
	}
	return nil
}
