package lower

import (
	"fmt"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// Options are choices of the user that change the code.
type Options struct {
	// HelperErrors (-k) sends an event for each failed helper, with its place in the script.
	HelperErrors bool
	// Ring is the size of the ring buffer in bytes; 0 means the default.
	Ring int
	// LoopBudget is the number of instructions that the verifier may process for the loops of a program where there is no bpf_loop; 0
	// means the default. With less, loops of unknown length are stopped (and counted) after fewer rounds.
	LoopBudget int
	// DryActions counts what signal(), override(), deny() and write_user() would do, and does nothing.
	DryActions bool
	// Filter, when set, emits what each program tests first; it leaves the program with LeaveUnless.
	Filter func(g *Gen)
	// OutlineFrom tells from which time on the same operation on a map, or a record of the same form, becomes a call of a function in a program; 0
	// means the default, less than 0 never.
	OutlineFrom int
	// Shared is what the session of the prompt has already; nil for a script that stands alone.
	Shared *object.Shared
}

// Unit is one compilation. Make it with NewUnit.
type Unit struct {
	Info   *check.Info
	Target *target.Target
	Opts   Options
	Diags  *diag.List
	Object *object.Object

	maps     map[string]*mapPlan
	internal map[string]*object.Map
	globals  int // bytes used of the globals array
	points   map[string]int
	events   map[string]*object.Event
	wake     *object.GlobalSlot
	sentOnce int                    // bytes of records that programs send at most, each once in a run, outside of loops
	own      map[string]bool        // see ownThread
	failures map[object.Failure]int // offsets of the words for those in Object.Failures, by place
}

type sourceSpan = source.Span

// Program is what one program is made of: bodies that run one after the other at the points of its hooks.
type Program struct {
	Index  int // in object.Programs
	Name   string
	Hooks  []*Hook
	Bodies []*check.Body
}

// NewUnit returns an empty unit; what goes wrong is reported to diags.
func NewUnit(info *check.Info, t *target.Target, opts Options, diags *diag.List) *Unit {
	u := &Unit{
		Info: info, Target: t, Opts: opts, Diags: diags, Object: &object.Object{Files: info.Files, License: "GPL"},
		maps: map[string]*mapPlan{}, internal: map[string]*object.Map{}, globals: object.GlobalsHeader,
		points: map[string]int{}, events: map[string]*object.Event{}, failures: map[object.Failure]int{},
	}
	if s := opts.Shared; s != nil {
		u.Object.Points = append([]string(nil), s.Points...)
		u.Object.Funcs = append([]string(nil), s.Funcs...)
		for i, name := range s.Points {
			u.points[name] = i
		}
	}
	return u
}

// Point returns the index of a point in object.Points, adding it when it is new.
func (u *Unit) Point(p *check.Point) int {
	if i, ok := u.points[p.Name]; ok {
		return i
	}
	i := len(u.Object.Points)
	u.points[p.Name] = i
	u.Object.Points = append(u.Object.Points, p.Name)
	u.Object.Funcs = append(u.Object.Funcs, p.FuncName)
	return i
}

// Lower generates the IR of a program. Problems of the script go to u.Diags; an error is a mistake of ours.
func (u *Unit) Lower(p *Program) (m *ir.Module, err error) {
	f := ir.NewFunc(p.Name, ir.Entry, ir.Ctx)
	g := &Gen{
		Target: u.Target, Info: u.Info, Hook: p.Hooks[0], B: ir.NewBuilder(f), u: u, prog: p,
		module: &ir.Module{Funcs: []*ir.Func{f}}, noGlobal: map[ast.Stmt]bool{},
	}
	g.fr = newFrame(g.B, nil)
	g.ret = g.B.NewVar("ret", ir.I64)
	g.B.Set(g.ret, g.B.Const(0))
	if g.Hook.Enter != nil || u.Opts.Filter != nil {
		leave := g.B.NewBlock("leave")
		g.fr.leave = leave
		if g.Hook.Enter != nil {
			g.Hook.Enter(g)
		}
		if u.Opts.Filter != nil {
			g.Body = p.Bodies[0]
			g.B.Span = g.Body.Probe.Span()
			u.Opts.Filter(g)
		}
		g.lowerBodies()
		g.B.Jump(leave)
		g.B.SetBlock(leave)
	} else {
		g.lowerBodies()
	}
	g.B.Return(g.B.Get(g.ret))
	if err := g.B.Finish(); err != nil {
		return nil, err
	}
	return g.module, nil
}

func (g *Gen) lowerBodies() {
	for _, b := range g.prog.Bodies {
		g.lowerBody(b)
	}
}

// lowerBody generates one clause; its `return` goes to the clause behind it.
func (g *Gen) lowerBody(b *check.Body) {
	g.Body = b
	g.facts = collectFacts(b)
	outer := g.fr.leave
	end := g.B.NewBlock("end")
	g.fr.leave = end
	g.pushScope()
	if b.Predicate != nil {
		run := g.B.NewBlock("action")
		g.span(b.Predicate)
		g.Cond(b.Predicate, run, end)
		g.B.Seal(run)
		g.B.SetBlock(run)
	}
	if b.Block != nil {
		g.block(b.Block, false)
	}
	g.popScope()
	if !g.B.Terminated() {
		g.B.Jump(end)
	}
	g.B.Seal(end)
	g.B.SetBlock(end)
	g.fr.leave = outer
}

// Gen generates one program. It is made by the compiler; the exported methods are what builtins use:
//
//	g.B                        the IR builder, at the current block
//	g.Target, g.Info, g.Body   what is compiled
//	g.Expr(e), g.Scalar(e)     evaluate an expression; g.ScalarAs, g.Convert convert
//	g.Into(e, place)           evaluates a large value straight into memory
//	g.Dest(t), g.Temp          a place for a large result; Dest is where the caller wants it
//	g.ReadMem, g.ReadStr       probe reads with counting of failures and -k events
//	g.Event(...)               sends a record
//	g.MapArg, g.Lookup ...     maps
//	g.Count(counter)           adds to one of object's counters
//	g.Cached                   values that stay the same during a run (pid, the current task)
type Gen struct {
	Target *target.Target
	Info   *check.Info
	Body   *check.Body
	Hook   *Hook
	B      *ir.Builder

	u      *Unit
	prog   *Program
	module *ir.Module
	fr     *frame
	facts  *facts
	ret    ir.Var
	rounds []int // of the inline loops around
	// noGlobal are the loops that cannot be global functions.
	noGlobal map[ast.Stmt]bool
	hists    int // histograms so far
	bucket   *ir.Func
	tooLong  bool
	aggMap   *Map // where an aggregation goes
	aggKeys  []ast.Expr
	want     want // of the expression that is being evaluated

	outlined   map[string]*outline
	reserved   int // records that were reserved, see mayReserve
	frameWalks int // stacks of user space that are walked here; see walkFrames
}

// want is what the user of an expression's value would like.
type want struct {
	dest   *Place // a large result is to be put here if that is no detour
	str    bool   // a string need not be padded with zeros (Operand.Len)
	prefix int    // only so many bytes of a string matter, when it is not 0
	unused bool   // the result is dropped
}

// frame is what belongs to one IR function: the program itself, or a callback of a loop.
type frame struct {
	b      *ir.Builder
	outer  *frame
	leave  *ir.Block // where `return` goes
	loops  []loopTarget
	scopes []map[string]*ir.Value
	vars   map[*check.LocalVar]*binding
	free   map[int][]*ir.Slot // unused temporaries by size
	used   []*ir.Slot         // temporaries of the current statement
	cb     *callback
	stack  *ir.Slot // where stacks are taken
	// outline is set where several places of the program share the code.
	outline *outline
	// records are places to build events in that are not in use.
	records []*ir.Slot
}

func newFrame(b *ir.Builder, outer *frame) *frame {
	return &frame{
		b: b, outer: outer, vars: map[*check.LocalVar]*binding{}, free: map[int][]*ir.Slot{},
		scopes: []map[string]*ir.Value{{}},
	}
}

// span makes n the place that the code that follows belongs to.
func (g *Gen) span(n ast.Node) {
	sp := n.Span()
	switch s := n.(type) { // without the semicolon
	case *ast.Assign:
		sp.End = s.Value.Span().End
	case *ast.ExprStmt:
		sp = s.X.Span()
	}
	if sp.IsValid() {
		g.B.Span = sp
	}
}

// Span returns the range of the script that is being lowered.
func (g *Gen) Span() source.Span { return g.B.Span }

// Unit returns the compilation.
func (g *Gen) Unit() *Unit { return g.u }

// Hooks are the points that the program serves.
func (g *Gen) Hooks() []*Hook { return g.prog.Hooks }

// Errorf reports a problem of the script that only lowering can see.
func (g *Gen) Errorf(code diag.Code, n ast.Node, format string, args ...any) *diag.Diagnostic {
	return g.u.Diags.Errorf(code, n.Span(), format, args...)
}

// Ctx gives the program's context.
func (g *Gen) Ctx() *ir.Value {
	f := g.fr
	if f.outline != nil {
		panic("lower: an outlined function has no context")
	}
	if f.cb == nil {
		return f.b.Param(0)
	}
	root := f
	for root.cb != nil {
		root = root.outer
	}
	return g.imported(root.b.Param(0))
}

// Leave leaves the clause, as `return` does.
func (g *Gen) Leave() {
	if g.fr.cb != nil {
		g.fr.cb.exit(g, leaveClause)
		return
	}
	g.B.Jump(g.fr.leave)
}

// LeaveUnless leaves the clause when cond is 0.
func (g *Gen) LeaveUnless(cond *ir.Value) {
	ok, no := g.B.NewBlock("ok"), g.B.NewBlock("leave")
	g.B.BranchIf(cond, ok, no)
	g.B.Seal(ok)
	g.B.Seal(no)
	g.B.SetBlock(no)
	g.Leave()
	g.B.SetBlock(ok)
}

func (g *Gen) pushScope() { g.fr.scopes = append(g.fr.scopes, map[string]*ir.Value{}) }

func (g *Gen) popScope() { g.fr.scopes = g.fr.scopes[:len(g.fr.scopes)-1] }

// scoped runs fn as code that does not run on every path: what it caches is forgotten behind it.
func (g *Gen) scoped(fn func()) {
	g.pushScope()
	fn()
	g.popScope()
}

// Cached gives the value of make, computed once on each path. Use it for what stays the same during one run of the program.
func (g *Gen) Cached(key string, make func() *ir.Value) *ir.Value {
	for i := len(g.fr.scopes) - 1; i >= 0; i-- {
		if v := g.fr.scopes[i][key]; v != nil {
			return v
		}
	}
	v := make()
	if !g.B.Terminated() {
		g.fr.scopes[len(g.fr.scopes)-1][key] = v
	}
	return v
}

// Temp gives a place of size bytes, which is free again behind the statement. Its contents are undefined.
func (g *Gen) Temp(name string, size int) Place {
	size = (size + 7) / 8 * 8
	f := g.fr
	var s *ir.Slot
	if l := f.free[size]; len(l) > 0 {
		s = l[len(l)-1]
		f.free[size] = l[:len(l)-1]
	} else {
		s = g.B.NewSlot(name, size, 8)
	}
	f.used = append(f.used, s)
	return Place{Ptr: g.B.SlotAddr(s, 0), Size: size, Space: types.SpaceBPF}
}

// TempOf is Temp for a value of a type.
func (g *Gen) TempOf(t *types.Type) Place {
	p := g.Temp("tmp", max(t.Size, 1))
	p.Size = t.Size
	return p
}

// Keep gives a place of size bytes that lives as long as the program.
func (g *Gen) Keep(name string, size int, class ir.SlotClass) Place {
	s := g.B.NewSlot(name, (size+7)/8*8, 8)
	s.Class = class
	return Place{Ptr: g.B.SlotAddr(s, 0), Size: size, Space: types.SpaceBPF}
}

// statement runs fn and gives its temporaries back.
func (g *Gen) statement(fn func()) {
	mark := len(g.fr.used)
	fn()
	for _, s := range g.fr.used[mark:] {
		g.fr.free[s.Size] = append(g.fr.free[s.Size], s)
	}
	g.fr.used = g.fr.used[:mark]
}

// Dest gives the place for a large result of type t: where the user of the value wants it, or a temporary.
func (g *Gen) Dest(t *types.Type) Place {
	if d := g.want.dest; d != nil && d.Size >= t.Size {
		g.want.dest = nil
		p := *d
		p.Size = t.Size
		return p
	}
	return g.TempOf(t)
}

// WantsStr reports whether a string result need not be padded with zeros if Operand.Len is set.
func (g *Gen) WantsStr() bool { return g.want.str }

// WantsPrefix gives the number of bytes of a string result that matter; 0 means all.
func (g *Gen) WantsPrefix() int { return g.want.prefix }

// Unused reports whether the result is dropped.
func (g *Gen) Unused() bool { return g.want.unused }

// Type returns the checker's type of an expression.
func (g *Gen) Type(e ast.Expr) *types.Type { return g.Body.Types[e] }

func (g *Gen) bug(n ast.Node, format string, args ...any) {
	panic(fmt.Sprintf("lower: %T at %v: %s", n, n.Span(), fmt.Sprintf(format, args...)))
}
