package check

import (
	"slices"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/types"
)

// call types a call of a builtin function. target is the map that an aggregation is assigned to.
func (b *body) call(e *ast.Call, target *mapState) *types.Type {
	f := b.c.u.Func(e.Func)
	if f == nil {
		return b.unknownCall(e)
	}
	call := b.Calls[e]
	if call == nil {
		call = &Call{Node: e, Func: f, Args: make([]ast.Expr, len(e.Args)), Body: b.Body, Info: b.c.info, Env: b.c.env}
		for i, a := range e.Args {
			call.Args[i] = unparen(a)
		}
		b.Calls[e] = call
	}
	call.Diags = b.sink()
	if b.final {
		b.checkUse(e, f)
	}
	if f.Agg != types.Invalid && target == nil {
		for _, a := range e.Args {
			b.inferArg(f, a)
		}
		b.errorf(CodeAggregation, e.Sp, "%s() must be assigned directly to a map", e.Func).Hint("write `@x = %s(...)`", e.Func)
		return types.TInvalid
	}
	if !b.checkCount(e, f) {
		return types.TInvalid
	}
	known, ok := b.arguments(call)
	switch {
	case !ok:
		return types.TInvalid
	case !known:
		return nil
	}
	if target != nil {
		call.Target = target.m
	}
	if f.Result == nil {
		return types.TVoid
	}
	before := call.Diags.Len()
	t := f.Result(call)
	if v, isConst := b.Consts[e]; isConst {
		b.noteConst(e, v, t)
	}
	switch {
	case call.Diags.Len() > before && b.final && t == nil && call.Diags.HasErrors():
		return types.TInvalid
	case t == nil:
		return types.TVoid
	}
	return t
}

// noteConst makes the result of a call that was evaluated while compiling a literal, so that branches can be chosen by it.
func (b *body) noteConst(e *ast.Call, c Const, t *types.Type) {
	switch {
	case t == nil:
	case c.IsString:
		b.lits[e] = strVal(c.Str)
	case t.Kind == types.Bool:
		b.lits[e] = boolVal(c.Int != 0)
	}
}

func (b *body) unknownCall(e *ast.Call) *types.Type {
	for _, a := range e.Args {
		b.infer(a)
	}
	if !b.final {
		return types.TInvalid
	}
	if b.c.u.Var(e.Func) != nil {
		b.errorf(CodeArgCount, e.Sp, "Call to %s() has arguments that do not match any definition.", e.Func).Hint("use `%s` without arguments", e.Func)
		return types.TInvalid
	}
	d := b.errorf(CodeUnknownFunc, e.Sp, "Unknown function: '%s'", e.Func)
	if params, ok := b.c.withParams[e.Func]; ok {
		d.Hint("write `macro %s(%s) { ... }`: a #define with parameters is not expanded", e.Func, params)
		return types.TInvalid
	}
	names := append(b.c.u.Names("func"), b.c.u.Names("macro")...)
	for n := range b.c.macros {
		names = append(names, n)
	}
	didYouMean(d, e.Func, names)
	return types.TInvalid
}

// checkUse reports what does not depend on the arguments.
func (b *body) checkUse(e *ast.Call, f *Func) {
	if f.Unsafe && !b.c.env.Unsafe {
		message := "%s() is an unsafe function being used in safe mode"
		if f.Macro {
			message = "%s() is unsafe. To use you need the --unsafe flag"
		}
		b.errorf(CodeUnsafe, e.Sp, message, e.Func).Hint("it can change the system: run with --unsafe to allow it")
	}
	if f.Unstable != "" {
		b.c.unstable(f.Unstable, e.Sp, e.Func)
	}
	if b.current.loop > 0 && len(e.Args) > 0 && slices.Contains(f.Effects, EffectPrint) {
		if m, ok := unparen(e.Args[0]).(*ast.MapRef); ok {
			b.warnf(CodePrintAsync, e.Sp, "`%s(%s)` in a loop prints the map as it is when user space gets to it", e.Func, m.Name)
		}
	}
	if f.Deprecated != "" && !b.fromMacro() {
		b.warnf(CodeDeprecated, e.Sp, "`%s()` is deprecated", e.Func).Hint("use %s", f.Deprecated)
	}
}

// arguments says a number of arguments as bpftrace does.
func arguments(n int) string {
	if n == 1 {
		return "one argument"
	}
	return plural(n, "argument")
}

func (b *body) checkCount(e *ast.Call, f *Func) bool {
	lo, hi := minArgs(f), len(f.Params)
	variadic := hi > 0 && f.Params[hi-1].Variadic
	n := len(e.Args)
	if n >= lo && (n <= hi || variadic) {
		return true
	}
	for _, a := range e.Args {
		b.inferArg(f, a)
	}
	switch {
	case f.CountMessage != "":
		b.errorf(CodeArgCount, e.Sp, "%s", f.CountMessage)
	case f.Macro:
		d := b.errorf(CodeArgCount, e.Sp, "Call to %s() has arguments that do not match any definition.", e.Func)
		if lo == hi {
			d.Hint("it takes %s, %d given", arguments(lo), n)
		} else {
			d.Hint("it takes %d to %s, %d given", lo, arguments(hi), n)
		}
	case hi == 0:
		b.errorf(CodeArgCount, e.Sp, "%s() requires no arguments (%d provided)", e.Func, n)
	case lo == hi && !variadic:
		b.errorf(CodeArgCount, e.Sp, "%s() requires %s (%d provided)", e.Func, arguments(lo), n)
	case n < lo:
		b.errorf(CodeArgCount, e.Sp, "%s() requires at least %s (%d provided)", e.Func, arguments(lo), n)
	default:
		b.errorf(CodeArgCount, e.Sp, "%s() takes up to %s (%d provided)", e.Func, arguments(hi), n)
	}
	return false
}

// inferArg types an argument of a call that is wrong anyway, so that its own errors show.
func (b *body) inferArg(f *Func, a ast.Expr) {
	if m, ok := unparen(a).(*ast.MapRef); ok && len(f.Params) > 0 {
		b.Types[a], b.Types[m] = mapType, mapType
		return
	}
	b.infer(a)
}

// arguments types and checks the arguments; known is false while a type is open, ok after an error.
func (b *body) arguments(call *Call) (known, ok bool) {
	known, ok = true, true
	for i, a := range call.Node.Args {
		p := paramAt(call.Func, i)
		if p == nil {
			continue
		}
		t := b.argument(call, p, i, a)
		b.Types[call.Args[i]] = t
		switch {
		case t == nil:
			delete(b.Types, call.Args[i])
			delete(b.Types, a)
			known = false
		case bad(t):
			ok = false
		default:
			b.Types[a] = t
		}
	}
	return known, ok
}

var wordType = &types.Type{Kind: types.TypeValue}

func (b *body) argument(call *Call, p *Param, i int, a ast.Expr) *types.Type {
	x := call.Args[i]
	if isWord(call.Func, i, a) {
		id := x.(*ast.Ident)
		if !contains(p.Words, id.Name) {
			d := b.badWord(call, p, id)
			if n := diag.Nearest(id.Name, p.Words); n != "" {
				d.Hint("use `%s`?", n)
			} else {
				d.Hint("choose one of %s", joinWords(p.Words))
			}
			return types.TInvalid
		}
		b.Consts[x] = Const{Str: id.Name, IsString: true}
		return wordType
	}
	switch p.Class {
	case MapArg, MapOrKey, MapOrValue:
		if t, isMap := b.mapArgument(call, p, x); isMap {
			return t
		}
	case VarArg:
		return b.varArgument(call, p, x)
	case MapKey:
		return b.keyArgument(call, a)
	case TypeOrValue:
		return b.operand(nil, x)
	}
	if p.Class == StrLiteral {
		b.anyLength++
	}
	if _, bare := x.(*ast.Ident); bare && len(p.Words) > 0 {
		b.wordOf = p
	}
	t := b.value(a)
	b.wordOf = nil
	if p.Class == StrLiteral {
		b.anyLength--
	}
	if t == nil || bad(t) {
		return t
	}
	return b.checkClass(call, p, i, x, t)
}

func joinWords(words []string) string {
	s := ""
	for i, w := range words {
		if i == 10 {
			return s + " ..."
		}
		if i > 0 {
			s += ", "
		}
		s += "`" + w + "`"
	}
	return s
}

// mapArgument types an argument that is a map as a whole; isMap is false when it is something else that the class accepts.
func (b *body) mapArgument(call *Call, p *Param, x ast.Expr) (t *types.Type, isMap bool) {
	if ref, ok := x.(*ast.MapRef); ok {
		st := b.c.mapOf(ref)
		b.readMap(st)
		b.Types[x] = mapType
		if st.m.Value == nil && b.final && !st.poisoned {
			b.undefinedMap(st, ref)
			return types.TInvalid, true
		}
		if st.m.Value == nil && !b.final {
			return nil, true
		}
		return mapType, true
	}
	if ix, ok := x.(*ast.Index); ok && p.Class == MapOrKey {
		if _, ok := unparen(ix.X).(*ast.MapRef); ok {
			if t := b.infer(x); t == nil || bad(t) {
				return t, true
			}
			return mapType, true
		}
	}
	if p.Class == MapOrValue {
		return nil, false
	}
	b.infer(x)
	d := b.errorf(CodeMapExpected, x.Span(), "%s() expects a map argument", call.Node.Func)
	if v, ok := x.(*ast.Var); ok && b.c.maps["@"+v.Name[1:]] != nil {
		d.Hint("use `@%s`?", v.Name[1:])
	} else {
		d.Hint("this is %s", describe(x))
	}
	return types.TInvalid, true
}

// keyArgument types a key of the map that is the first argument; the map's keys grow to hold it.
func (b *body) keyArgument(call *Call, a ast.Expr) *types.Type {
	t := b.keyType(b.value(a), a)
	if t == nil || bad(t) {
		return t
	}
	ref, ok := call.Args[0].(*ast.MapRef)
	if !ok {
		return t
	}
	st := b.c.mapOf(ref)
	if st.m.Keyed && !b.uniteKey(st, t, a.Span()) {
		return types.TInvalid
	}
	return t
}

// varArgument types a variable that the call assigns: it gets the values of the map of the first argument.
func (b *body) varArgument(call *Call, p *Param, x ast.Expr) *types.Type {
	v, ok := x.(*ast.Var)
	if !ok {
		b.infer(x)
		return b.invalid(CodeArgType, x.Span(), "`%s()` needs a scratch variable for `%s`, got %s", call.Node.Func, p.Name, describe(x))
	}
	lv := b.Vars[v]
	if lv == nil {
		return types.TInvalid
	}
	st := b.states[lv]
	if m, ok := call.Args[0].(*ast.MapRef); ok {
		if val := b.c.mapOf(m).m.Value; val != nil {
			b.storeVar(st, val, false, v.Sp, v.Sp)
		}
	}
	if lv.Type == nil {
		return nil
	}
	return b.variable(v)
}

// isNumber tells whether a value counts as an integer where one is needed: a bool does in old scripts only.
func (b *body) isNumber(t *types.Type) bool {
	return t.IsInteger() && (t.Kind != types.Bool || b.c.pool.old)
}

// isSum tells whether an aggregation that is read counts as an integer: it does in old scripts only.
func (b *body) isSum(t *types.Type) bool { return isCastable(t) && b.c.pool.old }

// checkClass checks a value against the class of its parameter.
func (b *body) checkClass(call *Call, p *Param, i int, x ast.Expr, t *types.Type) *types.Type {
	fail := func(want string) *types.Type {
		return b.argumentError(CodeArgType, call, p, "%s() only supports %s arguments (%s provided)", call.Node.Func, want, kindWord(t, b.name(t)))
	}
	c, isConst := b.Consts[x]
	switch p.Class {
	case Integer:
		if !b.isNumber(t) && t.Kind != types.Pointer && !b.isSum(t) {
			return fail("int")
		}
	case Number:
		switch f := call.Func; {
		case b.isNumber(t) || b.isSum(t):
		case f.Agg == types.Invalid || f.Agg == types.Hist || f.Agg == types.LHist || f.Agg == types.TSeries:
			return fail("int")
		default:
			return b.argumentError(CodeArgType, call, p, "%s() only supports integer arguments (%s provided)", call.Node.Func, b.name(t))
		}
	case IntLiteral:
		if p.NotLiteral != "" && (!isConst || c.IsString) {
			b.errorf(CodeNotLiteral, call.Node.Sp, "%s", p.NotLiteral)
			return types.TInvalid
		}
		if !isConst || c.IsString {
			code := CodeNotLiteral
			if t.Kind == types.String || !t.IsInteger() {
				code = CodeArgType
			}
			return b.argumentError(code, call, p, "%s() expects a int literal (%s provided)", call.Node.Func, kindWord(t, b.name(t)))
		}
	case StrLiteral:
		return b.checkStringLiteral(call, p, x, t)
	case StringLike:
		switch {
		case t.Kind == types.Array && !isChar(t.Elem):
			b.errorf(CodeArgType, call.Node.Sp, "string-like arrays must contain a char-like type")
			return types.TInvalid
		case t.Kind == types.Pointer && !isChar(t.Elem):
			b.errorf(CodeArgType, call.Node.Sp, "string-like pointers must point to a char-like type").Hint("cast it: `(int8 *)`")
			return types.TInvalid
		case t.Kind != types.String && t.Kind != types.Pointer && t.Kind != types.Array:
			b.errorf(CodeArgType, call.Node.Sp, "string-like values must be either strings, arrays or pointers")
			return types.TInvalid
		}
	case Address:
		if !t.IsInteger() && t.Kind != types.Pointer && t.Kind != types.Array && t.Kind != types.String && !isCastable(t) && t.Kind != types.KSym {
			return fail("integer or pointer")
		}
	case Word:
		b.errorf(CodeArgType, call.Node.Sp, "%s() only supports %s as the argument", call.Node.Func, p.Name).Hint("choose one of %s", joinWords(p.Words))
		return types.TInvalid
	case AnyValue, MapOrValue:
		if t.Kind == types.TypeValue {
			return fail("a value")
		}
	}
	return t
}

// isChar reports whether t is the type of the characters of a C string: an unsigned byte is not.
func isChar(t *types.Type) bool {
	return t != nil && t.Kind == types.Int && t.Size == 1 && t.Signed
}

func (b *body) checkStringLiteral(call *Call, p *Param, x ast.Expr, t *types.Type) *types.Type {
	c, isConst := b.Consts[x]
	if pos, ok := x.(*ast.Positional); ok { // not given: the empty string
		b.setLit(pos, strVal(""))
		return types.StringOf(1)
	}
	if isConst && c.IsString {
		return t
	}
	if lit, ok := x.(*ast.IntLit); ok && len(lit.Text) > 1 && lit.Text[0] == '$' {
		b.errorf(CodeNotLiteral, call.Node.Sp, "%s() expects a string literal (int provided)", call.Node.Func).
			Hint("use `str(%s)` to treat the parameter as a string", lit.Text)
		return types.TInvalid
	}
	if p.NotLiteral != "" {
		return b.invalid(CodeNotLiteral, x.Span(), "%s", p.NotLiteral)
	}
	return b.argumentError(CodeNotLiteral, call, p, "%s() expects a string literal (%s provided)", call.Node.Func, kindWord(t, b.name(t)))
}

// argumentError reports an argument at its call, as bpftrace does; the hint names the parameter where there are several.
func (b *body) argumentError(code diag.Code, call *Call, p *Param, format string, args ...any) *types.Type {
	if d := b.errorf(code, call.Node.Sp, format, args...); len(call.Node.Args) > 1 {
		d.Hint("this is about the parameter `%s`", p.Name)
	}
	return types.TInvalid
}

// badWord reports a bare name that a parameter does not know.
func (b *body) badWord(call *Call, p *Param, id *ast.Ident) *diag.Diagnostic {
	if p.BadWord != "" {
		return b.errorf(CodeArgType, id.Sp, p.BadWord, id.Name)
	}
	return b.errorf(CodeArgType, id.Sp, "`%s()` does not know the %s `%s`", call.Node.Func, p.Name, id.Name)
}

// KindWord names the kind of a type in messages: "int" for all integers.
func KindWord(t *types.Type) string { return kindWord(t, t.String()) }

// kindWord names the kind of a type in messages; name is the type's own name.
func kindWord(t *types.Type, name string) string {
	switch t.Kind {
	case types.Int:
		return "int"
	case types.String:
		return "string"
	case types.Tuple:
		return "tuple"
	case types.Array:
		return "array"
	case types.Pointer:
		return "pointer"
	}
	return name
}
