package check

import (
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// body is one action while it is checked.
type body struct {
	*Body
	c      *checker
	lits   map[ast.Expr]value // expressions made of literals only
	states map[*LocalVar]*varState
	order  []*varState
	units  []*unit

	final     bool       // the types are known: report
	diags     *diag.List // where final reports
	current   *unit
	wordOf    *Param      // the parameter whose argument is a bare name that may be one of its words
	anyLength int         // inside an argument or operand whose literal never becomes a value of the program
	jumps     []pendingIf // `if comptime` whose condition is not known yet
	pending   map[*ast.If]bool
	infoType  map[*ast.Typeinfo]*types.Type
}

// varState is what the solver knows of a scratch variable.
type varState struct {
	v        *LocalVar
	declared *types.Type   // type of `let $x : T` when it has a size: assignments must fit
	spec     *ast.TypeSpec // T
	typeDone bool
	assigned bool
	decl     source.Span // `let` without a value, for the warning about a variable that is never assigned
	poisoned bool        // an assigned value has no type because of an error
	grow     growth
	asked    bool // sizeof, typeof or typeinfo looked at its type
	locked   bool // a decision was based on its type, which cannot change any more
	readers  []*unit
}

// pendingIf is an `if comptime` that waits for types.
type pendingIf struct {
	s      *ast.If
	loop   int
	origin []*expansion
	inline bool // inside a block expression: its unit types the branch
}

// mapState is what the solver knows of a map.
type mapState struct {
	m             *Map
	keyed, scalar source.Span // first use of either form
	selfInit      bool        // something gives it a value without an assignment: @x++, @x += 1
	poisoned      bool
	growValue     growth
	growKey       growth
	fromAgg       bool // only an aggregation was assigned, which says nothing about its type
	asked, locked bool
	prior         bool
	readers       []*unit
	use           source.Span
	reported      bool        // one report about an undefined map is enough
	read          source.Span // where its value is used
	unset         bool        // nothing gives it a value: reading it gives 0
}

// unit is a statement, or the head of one, that the solver looks at as a whole.
type unit struct {
	b      *body
	run    func()
	queued bool
	record bool         // still collects what it reads
	loop   int          // nesting depth of loops around it
	origin []*expansion // macro calls that it came from, outermost first
}

// enqueue plans a round for units.
func (c *checker) enqueue(list ...*unit) {
	for _, u := range list {
		if !u.queued {
			u.queued = true
			c.queue = append(c.queue, u)
		}
	}
}

// drain runs the queue until nothing changes. Types only grow, and each grows a few times at most, so this is linear in the script.
func (c *checker) drain() {
	for i := 0; i < len(c.queue); i++ {
		u := c.queue[i]
		u.queued = false
		u.b.current = u
		u.run()
		u.record = false
		if i > 1<<16 { // keeps the slice from growing without end on very long scripts
			c.queue = append(c.queue[:0], c.queue[i+1:]...)
			i = -1
		}
	}
	c.queue = c.queue[:0]
}

// solve finds the types of all variables and maps.
func (c *checker) solve() {
	for _, b := range c.bodies {
		b.collectAll()
	}
	for _, b := range c.bodies {
		c.enqueue(b.units...)
	}
	for round := 0; ; round++ {
		c.drain()
		again := c.decideComptime()
		if !again {
			again = c.defaultMaps()
		}
		if !again {
			again = c.defaultStrings()
		}
		if !again {
			return
		}
	}
}

// defaultMaps gives maps that are only ever incremented, or read, the type of the 0 that they start with.
func (c *checker) defaultMaps() bool {
	again := false
	for _, name := range c.info.Order {
		st := c.maps[name]
		if st.m.Value == nil && !st.poisoned && (st.selfInit || st.m.Written && !st.fromAgg || st.read.IsValid() && !st.m.Written) {
			st.m.Value = types.TInt8
			st.unset = !st.selfInit && !st.m.Written
			c.enqueue(st.readers...)
			again = true
		}
	}
	return again
}

// defaultStrings makes a `let $x : string` that nothing is assigned to the empty string.
func (c *checker) defaultStrings() bool {
	again := false
	for _, b := range c.bodies {
		for _, st := range b.order {
			if st.v.Type == nil && !st.poisoned && !st.assigned && st.typeDone && st.spec != nil {
				b.setVar(st, types.StringOf(1))
				again = true
			}
		}
	}
	return again
}

// decideComptime chooses branches of `if comptime` whose condition has become known, and collects what is inside.
func (c *checker) decideComptime() bool {
	again := false
	for _, b := range c.bodies {
		pending := b.jumps
		b.jumps = nil
		for _, s := range pending {
			if b.decide(s) {
				again = true
			} else {
				b.jumps = append(b.jumps, s)
			}
		}
	}
	return again
}

// decide tries one `if comptime`.
func (b *body) decide(p pendingIf) bool {
	s := p.s
	v, ok := b.comptimeValue(s.Cond)
	if !ok {
		return false
	}
	empty := &ast.Block{Base: ast.Base{Sp: s.Sp}}
	taken := s.Then
	if v {
		s.Else = nil
	} else {
		taken = s.Else
		s.Then = empty
	}
	s.Cond = &ast.BoolLit{Base: ast.Base{Sp: s.Cond.Span()}, Value: v}
	s.Comptime = false
	b.Types[s.Cond] = types.TBool
	b.Consts[s.Cond] = boolVal(v).constant()
	b.lits[s.Cond] = boolVal(v)
	b.lock()
	if !p.inline && taken != nil {
		before := len(b.units)
		b.collect(taken, p.loop, p.origin)
		b.c.enqueue(b.units[before:]...)
		return true
	}
	for _, u := range b.units { // the block expression that holds the branch has its type from it
		u.record = true
	}
	b.c.enqueue(b.units...)
	return true
}

// lock fixes the types that decisions were based on.
func (b *body) lock() {
	for _, st := range b.order {
		st.locked = st.locked || st.asked
	}
	for _, st := range b.c.maps {
		st.locked = st.locked || st.asked
	}
}

// report runs everything once more with all types known, and reports.
func (c *checker) report() {
	c.pool.settled = true
	defer func() { c.pool.settled = false }()
	for _, b := range c.bodies {
		b.final, b.diags = true, c.diags
		for _, p := range b.jumps {
			c.diags.Errorf(CodeComptime, p.s.Cond.Span(), "Unable to resolve comptime expression")
		}
		for _, u := range b.units {
			b.current = u
			b.withOrigin(u.origin, u.run)
		}
		for _, st := range b.order {
			if !st.assigned && st.decl.IsValid() && !c.inLibrary(st.decl) {
				c.diags.Warnf(CodeUnassigned, st.decl, "Variable %s was never assigned to.", displayName(st.v.Name))
			}
			if st.v.Type == nil {
				st.v.Type = types.TInvalid
			}
		}
		b.final = false
	}
	c.reportMaps()
}

// withOrigin runs f so that its findings name the macro calls that the code came from.
func (b *body) withOrigin(origin []*expansion, f func()) {
	if len(origin) == 0 {
		f()
		return
	}
	outer := b.diags
	sub := &diag.List{}
	b.diags = sub
	f()
	b.diags = outer
	for i := len(origin) - 1; i >= 0; i-- {
		next := &diag.List{}
		if i == 0 {
			next = outer
		}
		b.c.adopt(next, sub, origin[i])
		sub = next
	}
}

// errorf reports an error once types are known.
func (b *body) errorf(code diag.Code, sp source.Span, format string, args ...any) *diag.Diagnostic {
	if !b.final {
		return &diag.Diagnostic{}
	}
	return b.diags.Errorf(code, sp, format, args...)
}

// warnf reports a warning once types are known.
func (b *body) warnf(code diag.Code, sp source.Span, format string, args ...any) *diag.Diagnostic {
	if !b.final {
		return &diag.Diagnostic{}
	}
	return b.diags.Warnf(code, sp, format, args...)
}

// invalid reports an error and returns the type that silences what depends on it.
func (b *body) invalid(code diag.Code, sp source.Span, format string, args ...any) *types.Type {
	b.errorf(code, sp, format, args...)
	return types.TInvalid
}

// sink is the list that builtins report to.
func (b *body) sink() *diag.List {
	if b.final {
		return b.diags
	}
	return &diag.List{}
}

func bad(t *types.Type) bool { return t != nil && t.Kind == types.Invalid }

// collectAll lists the units of the body.
func (b *body) collectAll() {
	if b.Predicate != nil {
		b.add(0, nil, func() { b.condition(b.Predicate, b.Predicate.Span()) })
	}
	b.collect(b.Block, 0, nil)
}

func (b *body) add(loop int, origin []*expansion, run func()) {
	b.units = append(b.units, &unit{b: b, run: run, record: true, loop: loop, origin: origin})
}

// collect lists the units of a block. A block expression that stands as a statement is looked into, so that long macro bodies are no single unit.
func (b *body) collect(blk *ast.Block, loop int, origin []*expansion) {
	if blk == nil {
		return
	}
	for i, s := range blk.Stmts {
		if e, ok := s.(*ast.ExprStmt); ok && blk == b.Block && i == len(blk.Stmts)-1 && blk.Result == nil { // the last one counts without its semicolon
			s = &ast.ExprStmt{Base: ast.Base{Sp: e.X.Span()}, X: e.X}
		}
		b.collectStmt(s, loop, origin)
	}
	if blk.Result != nil {
		b.collectStmt(&ast.ExprStmt{Base: ast.Base{Sp: blk.Result.Span()}, X: blk.Result}, loop, origin)
	}
}

func (b *body) collectStmt(s ast.Stmt, loop int, origin []*expansion) {
	switch s := s.(type) {
	case *ast.Block:
		b.collect(s, loop, origin)
	case *ast.ExprStmt:
		if be, ok := s.X.(*ast.BlockExpr); ok {
			if ex := b.c.expansions[be]; ex != nil {
				origin = append(origin[:len(origin):len(origin)], ex)
			}
			b.Types[be] = types.TVoid
			b.collect(be.Block, loop, origin)
			return
		}
		if ie, ok := s.X.(*ast.IfExpr); ok && ie.If.Comptime {
			b.Types[ie] = types.TVoid
			b.collectStmt(ie.If, loop, origin)
			return
		}
		b.add(loop, origin, func() { b.exprStmt(s) })
	case *ast.If:
		if s.Comptime {
			b.add(loop, origin, func() { b.comptimeCond(s) })
			b.jumps = append(b.jumps, pendingIf{s: s, loop: loop, origin: origin})
			return
		}
		b.add(loop, origin, func() { b.condition(s.Cond, s.Sp) })
		b.collect(s.Then, loop, origin)
		b.collect(s.Else, loop, origin)
	case *ast.While:
		b.add(loop, origin, func() { b.condition(s.Cond, s.Sp) })
		b.collect(s.Body, loop+1, origin)
	case *ast.Unroll:
		b.add(loop, origin, func() { b.unroll(s) })
		b.collect(s.Body, loop, origin)
	case *ast.ForMap:
		b.add(loop, origin, func() { b.forMap(s) })
		b.collect(s.Body, loop+1, origin)
	case *ast.ForRange:
		b.add(loop, origin, func() { b.forRange(s) })
		b.collect(s.Body, loop+1, origin)
	default:
		b.add(loop, origin, func() { b.simple(s) })
	}
}

// inline types a statement inside of a block expression.
func (b *body) inline(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.Block:
		b.inlineBlock(s)
	case *ast.ExprStmt:
		if be, ok := s.X.(*ast.BlockExpr); ok && be.Block.Result == nil {
			b.infer(be)
			return
		}
		b.exprStmt(s)
	case *ast.If:
		if s.Comptime && !b.comptimeInline(s) {
			return
		}
		b.condition(s.Cond, s.Sp)
		b.inlineBlock(s.Then)
		b.inlineBlock(s.Else)
	case *ast.While:
		b.condition(s.Cond, s.Sp)
		b.inlineBlock(s.Body)
	case *ast.Unroll:
		b.unroll(s)
		b.inlineBlock(s.Body)
	case *ast.ForMap:
		b.forMap(s)
		b.inlineBlock(s.Body)
	case *ast.ForRange:
		b.forRange(s)
		b.inlineBlock(s.Body)
	default:
		b.simple(s)
	}
}

func (b *body) inlineBlock(blk *ast.Block) {
	if blk == nil {
		return
	}
	for _, s := range blk.Stmts {
		b.inline(s)
	}
	if blk.Result != nil {
		b.infer(blk.Result)
	}
}
