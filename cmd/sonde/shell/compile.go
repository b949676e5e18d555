package shell

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/runtime"
)

// hiddenPrefix starts the name of the map that keeps a variable of the prompt: `$x` lives in `@$x`, which nobody can write.
const hiddenPrefix = "@$"

func hubConfig() object.Config {
	c := check.DefaultConfig()
	return object.Config{
		StrTruncTrailer: c.StrTruncTrailer, MaxStrlen: c.MaxStrlen, CppDemangle: c.CppDemangle, MaxCatBytes: c.MaxCatBytes, LogSize: c.LogSize,
	}
}

// unit is one compilation.
type unit struct {
	set    *source.Set
	file   *source.File
	script *ast.Script
	diags  *diag.List
	info   *check.Info
	obj    *object.Object
	drop   map[string]bool // variables that get a new type
	filter *Filter         // of an item
	quiet  bool            // nothing is said about attaching it
	stages func(stage string, m *ir.Module)
}

func newUnit(name, text string) *unit {
	u := &unit{diags: &diag.List{}}
	u.set, u.file = source.NewSet(name, text)
	return u
}

// env is what the checker is told.
func (sh *Shell) env(u *unit) *check.Env {
	prior := map[string]*check.Map{}
	for name, m := range sh.prior {
		if !u.drop[name] {
			prior[name] = m
		}
	}
	e := sh.cfg.Machine.Env(u.set)
	if u.filter != nil {
		e.PID, e.Children = u.filter.PID, u.filter.Children
	}
	e.Unsafe, e.Environ, e.Prior = sh.cfg.Unsafe, sh.set.environ(os.Environ()), prior
	e.IncludeDirs, e.Includes = sh.cfg.IncludeDirs, sh.cfg.Includes
	return e
}

// check types the unit's script, together with the definitions of the session.
func (sh *Shell) check(u *unit) bool {
	script := &ast.Script{Base: u.script.Base}
	for i, text := range sh.prelude {
		f := u.set.Add(fmt.Sprintf("definition %d", i+1), text)
		script.Items = append(script.Items, syntax.Parse(u.set, f, u.diags).Items...)
	}
	for _, it := range u.script.Items {
		if p, ok := it.(*ast.Probe); ok {
			sh.bringVars(p)
		}
	}
	script.Items = append(script.Items, u.script.Items...)
	if u.diags.HasErrors() {
		return false
	}
	u.info = check.Check(script, u.set, sh.reg, sh.env(u), u.diags)
	sh.cfg.Machine.NoteTypes(u.diags)
	sh.hintDrop(u)
	return !u.diags.HasErrors()
}

// hintDrop says what to do where a use does not fit a map that the session has already.
func (sh *Shell) hintDrop(u *unit) {
	for _, d := range u.diags.All() {
		if d.Code != check.CodeMismatch && d.Code != check.CodeKeyMismatch {
			continue
		}
		for name := range sh.prior {
			if strings.Contains(d.Message, " "+name+":") {
				d.Hint("use another name, or forget the map of the session with `\\drop %s` once no item uses it", name)
			}
		}
	}
}

// compile compiles a checked unit for the session and prints what there is to say about it.
func (sh *Shell) compile(u *unit) error {
	err := sh.generate(u, 0)
	if rerr := sh.report(u.set, u.diags); rerr != nil {
		return rerr
	}
	return err
}

// generate compiles a checked unit; the budget is that of [codegen.Options].
func (sh *Shell) generate(u *unit, budget int) error {
	shared := sh.hub.Shared()
	for name := range u.drop {
		delete(shared.Maps, name)
		delete(shared.Maps, object.ScalarArray(name))
	}
	obj, err := sh.compileWith(u, codegen.Options{Diags: u.diags, Shared: shared, Dump: u.stages, LoopBudget: budget})
	if u.diags.HasErrors() {
		return errReported
	}
	u.obj = obj
	return err
}

// compileWith compiles a checked unit with its filter.
func (sh *Shell) compileWith(u *unit, opts codegen.Options) (obj *object.Object, err error) {
	t := sh.cfg.Machine.TargetFor(u.info.Config)
	if opts.Filter, err = u.filter.emit(t); err != nil {
		return nil, err
	}
	obj, err = codegen.Compile(u.info, t, opts)
	if err == nil && u.filter != nil && u.filter.Compiled != nil {
		u.filter.Compiled(obj)
	}
	return obj, err
}

// adopt makes what a unit declared known to the next ones, once its maps exist.
func (sh *Shell) adopt(u *unit) {
	for _, name := range u.info.Order {
		if m := u.info.Maps[name]; m != nil && m.Value != nil && sh.prior[name] == nil {
			c := *m
			sh.prior[name] = &c
		}
	}
}

// explainError turns a refusal by the kernel into a message.
func (sh *Shell) explainError(u *unit, err error) error {
	if d := runtime.Diagnose(err); d != nil && u.quiet {
		return d
	} else if d != nil {
		l := &diag.List{}
		l.Add(d)
		return sh.report(u.set, l)
	}
	return err
}

// code handles what is no command: an expression, statements or script items.
func (sh *Shell) code(ctx context.Context, text string) error {
	u := newUnit("prompt", text)
	if looksLikeItem(text) {
		u.filter = sh.filter
		u.script = syntax.Parse(u.set, u.file, u.diags)
		if u.diags.HasErrors() {
			return sh.report(u.set, u.diags)
		}
		return sh.addItem(ctx, u, text)
	}
	switch x := syntax.ParseExpr(u.file, &diag.List{}); x.(type) {
	case nil, *ast.IfExpr, *ast.BlockExpr:
	default:
		return sh.expression(ctx, text, x)
	}
	body := syntax.ParseStatements(u.file, u.diags)
	if u.diags.HasErrors() {
		return sh.report(u.set, u.diags)
	}
	return sh.statements(ctx, u, body)
}

// looksLikeItem tells a probe or a definition from what is evaluated at once: a definition starts with its word, a probe has a body behind
// something that is neither an assignment nor a call.
func looksLikeItem(text string) bool {
	word := text
	if i := strings.IndexAny(text, " \t\n({"); i >= 0 {
		word = text[:i]
	}
	switch word {
	case "config", "import", "macro", "fn", "struct", "union", "enum", "typedef":
		return true
	case "let":
		return strings.HasPrefix(strings.TrimSpace(text[3:]), "@")
	case "if", "for", "while", "unroll", "return", "print", "printf":
		return false
	case "BEGIN", "END", "begin", "end":
		return true
	}
	if strings.HasPrefix(text, "#") {
		return true
	}
	if word == "" || strings.ContainsAny(word[:1], `$@"'0123456789-!~+*&`) {
		return false
	}
	kind, _, colon := strings.Cut(word, ":")
	return colon && kind != "" && !strings.ContainsAny(kind, "?([=,")
}

// expression evaluates an expression in the kernel and prints it. A call without a value runs as a statement.
func (sh *Shell) expression(ctx context.Context, text string, x ast.Expr) error {
	if _, ok := x.(*ast.Unary); ok && (strings.HasPrefix(text, "++") || strings.HasPrefix(text, "--") || strings.HasSuffix(text, "++") || strings.HasSuffix(text, "--")) {
		u := newUnit("prompt", text)
		return sh.statements(ctx, u, syntax.ParseStatements(u.file, u.diags))
	}
	shown := newUnit("prompt", text)
	x = syntax.ParseExpr(shown.file, shown.diags)
	sp := x.Span()
	call := &ast.Call{Base: ast.Base{Sp: sp}, Func: "print", FuncSp: sp, Args: []ast.Expr{x}}
	shown.wrap(&ast.Block{Base: ast.Base{Sp: sp}, Stmts: []ast.Stmt{&ast.ExprStmt{Base: ast.Base{Sp: sp}, X: call}}})
	if sh.check(shown) {
		return sh.evaluate(ctx, shown)
	}
	if _, isCall := x.(*ast.Call); isCall {
		u := newUnit("prompt", text)
		u.wrap(syntax.ParseStatements(u.file, u.diags))
		if sh.check(u) {
			return sh.evaluate(ctx, u)
		}
		return sh.report(u.set, u.diags)
	}
	return sh.report(shown.set, shown.diags)
}

// wrap makes statements the body of a begin probe.
func (u *unit) wrap(body *ast.Block) {
	sp := body.Sp
	u.script = &ast.Script{Base: ast.Base{Sp: sp}, Items: []ast.Item{&ast.Probe{
		Base: ast.Base{Sp: sp}, Body: body, Attach: []*ast.AttachPoint{{Base: ast.Base{Sp: sp}, Raw: "begin", Kind: "begin"}},
	}}}
}

// statements runs statements once in the kernel. Variables that they assign are kept.
func (sh *Shell) statements(ctx context.Context, u *unit, body *ast.Block) error {
	if u.diags.HasErrors() {
		return sh.report(u.set, u.diags)
	}
	assigned, first := assignedVars(body)
	u.drop = map[string]bool{}
	for _, name := range assigned {
		hidden := hiddenPrefix + name[1:]
		if info, err := sh.hub.Map(hidden); first[name] && (err != nil || info.Users == 0) {
			u.drop[hidden] = true // it may get another type
			delete(sh.vars, name)
		}
		v := &ast.Var{Base: body.Base, Name: name}
		body.Stmts = append(body.Stmts, &ast.Assign{Base: body.Base, Op: "=", OpSp: body.Sp, Value: v, Target: &ast.MapRef{Base: body.Base, Name: hidden}})
	}
	if body.Result != nil && len(assigned) > 0 {
		body.Stmts = append([]ast.Stmt{&ast.ExprStmt{Base: body.Base, X: body.Result}}, body.Stmts...)
		body.Result = nil
	}
	u.wrap(body)
	if !sh.check(u) {
		return sh.report(u.set, u.diags)
	}
	if err := sh.evaluate(ctx, u); err != nil {
		return err
	}
	for _, name := range assigned {
		sh.vars[name] = true
	}
	return nil
}

// evaluate runs a unit of begin probes and waits for it.
func (sh *Shell) evaluate(ctx context.Context, u *unit) error {
	if err := sh.compile(u); err != nil {
		return err
	}
	for name := range u.drop {
		if err := sh.hub.Drop(name); err == nil {
			delete(sh.prior, name)
		}
	}
	it := &item{unit: u}
	s, w, err := sh.open(it)
	if err != nil {
		return sh.explainError(u, err)
	}
	sh.adopt(u)
	defer s.Close()
	_, err = s.Run(ctx)
	w.end()
	lines, qerr := s.QualityReport()
	for _, l := range lines {
		sh.say("WARNING: %s", l)
	}
	if err != nil {
		return sh.explainError(u, err)
	}
	return qerr
}

// assignedVars lists the variables that the statements of a block assign, in order, and tells which of them are assigned before they are read.
func assignedVars(body *ast.Block) (names []string, first map[string]bool) {
	first = map[string]bool{}
	seen := map[string]bool{}
	local := map[string]bool{}
	add := func(name string, isFirst bool) {
		if local[name] {
			return
		}
		if !seen[name] {
			first[name] = isFirst
		}
		seen[name] = true
		for _, n := range names {
			if n == name {
				return
			}
		}
		names = append(names, name)
	}
	nodes := []ast.Node{}
	for _, s := range body.Stmts {
		nodes = append(nodes, s)
	}
	if body.Result != nil {
		nodes = append(nodes, body.Result)
	}
	for _, n := range nodes {
		if l, ok := n.(*ast.Let); ok {
			local[l.Var.Name] = true
			continue
		}
		if a, ok := n.(*ast.Assign); ok {
			if v, ok := a.Target.(*ast.Var); ok {
				for name := range reads(a.Value) {
					seen[name] = true
				}
				add(v.Name, a.Op == "=")
				continue
			}
		}
		ast.Inspect(n, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Assign:
				if v, ok := n.Target.(*ast.Var); ok && !n.Let {
					if seen[v.Name] {
						add(v.Name, false)
					}
				}
			case *ast.Unary:
				if v, ok := n.X.(*ast.Var); ok && (n.Op == "++" || n.Op == "--") {
					add(v.Name, false)
				}
			case *ast.Var:
				seen[n.Name] = true
			}
			return true
		})
	}
	return names, first
}

func reads(x ast.Node) map[string]bool {
	out := map[string]bool{}
	ast.Inspect(x, func(n ast.Node) bool {
		if v, ok := n.(*ast.Var); ok {
			out[v.Name] = true
		}
		return true
	})
	return out
}

// wantedVars lists the variables of the prompt that a probe reads before it assigns them; inPredicate tells that its predicate reads one.
func (sh *Shell) wantedVars(p *ast.Probe) (wanted []string, inPredicate bool) {
	if len(sh.vars) == 0 || p.Body == nil {
		return nil, false
	}
	own := map[string]bool{}
	want := func(name string) {
		if sh.vars[name] && !own[name] {
			own[name] = true
			wanted = append(wanted, name)
		}
	}
	var visit func(ast.Node) bool
	visit = func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Assign:
			if v, ok := n.Target.(*ast.Var); ok {
				ast.Inspect(n.Value, visit)
				if n.Op != "=" {
					want(v.Name)
				}
				own[v.Name] = true
				return false
			}
		case *ast.Let:
			own[n.Var.Name] = true
		case *ast.ForMap:
			own[n.Var.Name] = true
		case *ast.ForRange:
			own[n.Var.Name] = true
		case *ast.Var:
			want(n.Name)
		}
		return true
	}
	if p.Predicate != nil {
		ast.Inspect(p.Predicate, visit)
		inPredicate = len(wanted) > 0
	}
	ast.Inspect(p.Body, visit)
	return wanted, inPredicate
}

// bringVars puts the variables of the prompt that a probe reads at the start of its body: `$x = @$x`. A predicate that reads one becomes a
// condition of the body.
func (sh *Shell) bringVars(p *ast.Probe) {
	wanted, inPredicate := sh.wantedVars(p)
	if len(wanted) == 0 {
		return
	}
	b := ast.Base{Sp: p.Body.Sp}
	var head []ast.Stmt
	for _, name := range wanted {
		head = append(head, &ast.Assign{
			Base: b, Op: "=", OpSp: b.Sp, Target: &ast.Var{Base: b, Name: name}, Value: &ast.MapRef{Base: b, Name: hiddenPrefix + name[1:]},
		})
	}
	if inPredicate {
		pb := ast.Base{Sp: p.Predicate.Span()}
		head = append(head, &ast.If{
			Base: pb, Cond: &ast.Unary{Base: pb, Op: "!", OpSp: pb.Sp, X: &ast.Paren{Base: pb, X: p.Predicate}},
			Then: &ast.Block{Base: pb, Stmts: []ast.Stmt{&ast.Jump{Base: pb, Kind: ast.Return}}},
		})
		p.Predicate = nil
	}
	p.Body.Stmts = append(head, p.Body.Stmts...)
}

// parse parses the text of a unit as a script.
func (u *unit) parse() { u.script = syntax.Parse(u.set, u.file, u.diags) }
