package check

import (
	"slices"
	"sort"
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// checker holds what is shared by all bodies of one script.
type checker struct {
	set   *source.Set
	u     Universe
	env   *Env
	diags *diag.List
	info  *Info
	pool  intPool
	defs  *definitions

	macros         map[string][]*macro
	expansions     map[*ast.BlockExpr]*expansion
	endless        map[*ast.BlockExpr]bool
	missed         []*diag.Diagnostic // patterns of the probe at hand that match nothing
	expansionCount int
	libraryFiles   map[*source.File]bool
	defineFiles    map[string]*source.File
	libraryNames   map[string]bool // macros of the library while it is not read
	ownMacros      map[string]bool // C macros of the script's own text

	modern     bool              // the script uses forms of the newer dialect
	lenient    bool              // missing attach points of an old script that names several are no errors
	withParams map[string]string // #define with parameters, which nothing expands: the parameters by name

	partial bool // an attach point is wrong, so that not all bodies are there
	maps    map[string]*mapState
	bodies  []*body
	queue   []*unit
	warned  map[string]bool
}

// Check checks a parsed script. Findings go to diags; the result is never nil, but it is only complete when there are no errors. Check reads
// nothing but what env gives it, and changes neither the tree nor the universe; it may add files to set (library, C macros, imports).
func Check(script *ast.Script, set *source.Set, u Universe, env *Env, diags *diag.List) *Info {
	if env == nil {
		env = &Env{}
	}
	c := &checker{
		set: set, u: u, env: env, diags: diags, pool: newIntPool(),
		defineFiles: map[string]*source.File{}, warned: map[string]bool{}, maps: map[string]*mapState{},
		macros: map[string][]*macro{}, expansions: map[*ast.BlockExpr]*expansion{}, endless: map[*ast.BlockExpr]bool{}, libraryFiles: map[*source.File]bool{},
		info: &Info{Files: set, Script: script, Maps: map[string]*Map{}, Config: DefaultConfig()},
	}
	c.defs = &definitions{base: env.Types, simple: map[string]string{}}
	for _, n := range u.Names("macro") {
		if c.libraryNames == nil {
			c.libraryNames = map[string]bool{}
		}
		c.libraryNames[n] = true
	}
	items := c.imports(script)
	c.items(items)
	if len(c.bodies) > 0 {
		c.solve()
		before := c.diags.Len()
		c.report()
		if c.partial && len(c.maps) > 0 {
			c.keepNames(before)
		}
	}
	c.finish()
	return c.info
}

// keepNames drops what the bodies reported, but for names that do not exist: where the body that sets a map is missing, types are not what
// they would be.
func (c *checker) keepNames(before int) {
	c.diags.Filter(before, func(d *diag.Diagnostic) bool {
		switch d.Code {
		case CodeUnknownName, CodeUndefinedVar, CodeUnknownType, CodeUnknownField:
			return true
		}
		return false
	})
}

// library enters the macros of the standard library, once one of them is called. Their files are remembered, because findings inside them
// are shown at the call.
func (c *checker) library() {
	c.libraryNames = nil
	before := len(c.set.Files())
	c.addMacros(c.u.Library(c.set, c.diags), true)
	for _, f := range c.set.Files()[before:] {
		c.libraryFiles[f] = true
	}
}

// items goes through the top-level things of the script and its imports.
func (c *checker) items(items []ast.Item) {
	var cdefs []*ast.CDef
	var macros []*ast.Macro
	var probes []*ast.Probe
	var configs []*ast.Config
	var decls []*ast.MapDecl
	for _, it := range items {
		switch it := it.(type) {
		case *ast.CDef:
			cdefs = append(cdefs, it)
		case *ast.Macro:
			macros = append(macros, it)
		case *ast.Probe:
			probes = append(probes, it)
		case *ast.Config:
			configs = append(configs, it)
		case *ast.MapDecl:
			decls = append(decls, it)
		case *ast.Subprog:
			c.diags.Errorf(CodeNotSupported, it.NameSp, "functions are not supported").Hint("write `macro %s(...)` instead", it.Name)
		}
	}
	c.configure(configs)
	c.define(cdefs)
	c.addMacros(macros, false)
	c.collectDefines()
	for _, d := range decls {
		c.declareMap(d)
	}
	for _, p := range probes {
		c.substitute(p)
	}
	c.modern = len(macros) > 0 || len(decls) > 0 || newDialect(probes)
	c.pool.old = !c.modern || c.env.Prior != nil
	c.info.Strict = !c.pool.old
	if c.lenient = !c.info.Config.Set["missing_probes"] && oldAlternatives(probes); c.lenient {
		c.info.Config.MissingProbes = "warn"
	}
	c.iterators(probes)
	total := 0
	for _, p := range probes {
		total += c.probe(p)
		c.unreachable(p)
	}
	if limit := c.info.Config.MaxProbes; total > limit && (limit > 0 || c.info.Config.Set["max_probes"]) {
		c.diags.Errorf(CodeTooManyProbes, source.Span{}, "Can't attach to %d probes because it exceeds the current limit of %d probes.", total, limit).
			Hint("set `max_probes` in the config block or BPFTRACE_MAX_PROBES to raise the limit")
	}
}

// probe expands the attach points of a probe and prepares one body for each scope; it returns the number of points.
func (c *checker) probe(p *ast.Probe) int {
	var points []*Point
	if c.lenient && len(p.Attach) == 1 && !kernelPattern(p.Attach[0]) {
		c.info.Config.MissingProbes = "error"
		defer func() { c.info.Config.MissingProbes = "warn" }()
	}
	c.missed = nil
	before := c.diags.Len()
	for _, ap := range p.Attach {
		for _, pt := range c.attach(ap) {
			if pt.Node == nil {
				pt.Node = ap
			}
			if pt.Types != nil && !slices.Contains(c.defs.probed, pt.Types) {
				c.defs.probed = append(c.defs.probed, pt.Types)
			}
			points = append(points, pt)
		}
	}
	if len(points) == 0 && c.lenient && !c.diags.HasErrors() {
		// Alternatives may be missing, but not all of them: what is left of the script would wait for what never comes.
		saved := c.info.Config.MissingProbes
		c.info.Config.MissingProbes = "error"
		c.missed = nil
		c.diags.Drop(before)
		for _, ap := range p.Attach {
			c.attach(ap)
		}
		defer func() { c.info.Config.MissingProbes = saved }()
	}
	if len(points) == 0 && !c.diags.HasErrors() {
		c.noPoints(p)
	}
	c.partial = c.partial || len(points) == 0 && c.diags.HasErrors()
	key := func(pt *Point) string { return pt.Scope }
	order, groups := group(points, key)
	if len(order) > 1 && !c.probeUsesScope(p) {
		order, groups = group(points, func(pt *Point) string {
			if pt.Base != "" {
				return pt.Base
			}
			return pt.Scope
		})
	}
	for _, scope := range order {
		c.addBody(p, groups[scope])
	}
	n := 0
	for _, pt := range points {
		if !pt.Together || c.info.Config.Set["max_probes"] {
			n++
		}
	}
	return n
}

// noPoints reports a probe of which nothing exists, where no attach point was reported for itself.
func (c *checker) noPoints(p *ast.Probe) {
	switch c.info.Config.MissingProbes {
	case "ignore":
	case "warn":
		c.diags.Warnf(CodeNoPoints, attachSpan(p), "Probe has no valid attach points. It is being removed which may cause issues with program behavior.")
	default:
		if len(c.missed) == 0 {
			return
		}
		d := c.diags.Add(c.missed[0])
		d.Span = attachSpan(p)
		d.Message = "Probe has no valid attach points. If this is expected, set the 'missing_probes' config variable to 'warn'."
	}
}

// iterators reports an iterator that stands beside another attach point or probe: its program is run, not attached.
func (c *checker) iterators(probes []*ast.Probe) {
	for _, p := range probes {
		for i, ap := range p.Attach {
			kind := c.u.Kind(ap.Kind)
			if kind == nil || kind.Name() != "iter" {
				continue
			}
			switch {
			case len(p.Attach) > 1:
				c.diags.Errorf(CodeMixedProbes, p.Attach[max(i, 1)].Sp, "iter probe only supports one attach point.")
			case len(probes) > 1:
				c.diags.Errorf(CodeMixedProbes, ap.Sp, "an iter probe cannot be mixed with other probes").Hint("run it as a script of its own")
			}
			return
		}
	}
}

func attachSpan(p *ast.Probe) source.Span {
	if len(p.Attach) == 0 {
		return p.Sp
	}
	return p.Attach[0].Sp.To(p.Attach[len(p.Attach)-1].Sp)
}

// kernelPattern tells whether an attach point has wildcards.
func kernelPattern(ap *ast.AttachPoint) bool {
	for _, s := range ap.Segments {
		if strings.ContainsAny(s.Text, "*?[") {
			return true
		}
	}
	return false
}

// oldAlternatives tells whether a script that says BEGIN or END has a probe with several attach points or a pattern. Before version 0.24 one
// of them was enough, and scripts list the names that a function had over time; the newer `begin` and `end` stand for the newer rule.
func oldAlternatives(probes []*ast.Probe) bool {
	old, several := false, false
	for _, p := range probes {
		several = several || len(p.Attach) > 1
		for _, ap := range p.Attach {
			old = old || ap.Kind == "BEGIN" || ap.Kind == "END"
			several = several || kernelPattern(ap)
		}
	}
	return old && several
}

// group sorts points by a key, in the order of their first appearance.
func group(points []*Point, key func(*Point) string) (order []string, groups map[string][]*Point) {
	groups = map[string][]*Point{}
	for _, pt := range points {
		k := key(pt)
		if _, ok := groups[k]; !ok {
			order = append(order, k)
		}
		groups[k] = append(groups[k], pt)
	}
	return order, groups
}

// probeUsesScope tells whether an action looks at args, argN or retval once its macros are expanded.
func (c *checker) probeUsesScope(p *ast.Probe) bool {
	n := 0
	x := &expander{c: c, diags: &diag.List{}, counter: &n}
	return (p.Predicate != nil && usesScope(x.expr(p.Predicate))) || usesScope(x.block(p.Body))
}

// attach expands one attach point.
func (c *checker) attach(ap *ast.AttachPoint) []*Point {
	kind := c.u.Kind(ap.Kind)
	if lower := strings.ToLower(ap.Kind); kind == nil && len(lower) > 2 {
		kind = c.u.Kind(lower) // names of kinds, but not the short ones, are read in any case
	}
	if kind == nil {
		d := c.diags.Errorf(CodeUnknownProbe, ap.Sp, "Invalid probe type: %s", ap.Kind)
		didYouMean(d, ap.Kind, c.u.Names("kind"))
		return nil
	}
	env := *c.env
	env.Config = c.info.Config
	env.Missed = func(d *diag.Diagnostic) { c.missed = append(c.missed, d) }
	return kind.Expand(ap, &env, c.diags)
}

// addBody copies the action for one scope and resolves its names.
func (c *checker) addBody(p *ast.Probe, points []*Point) {
	b := &body{
		c: c, lits: map[ast.Expr]value{}, states: map[*LocalVar]*varState{},
		Body: &Body{
			Probe: p, Points: points, Types: map[ast.Expr]*types.Type{}, Consts: map[ast.Expr]Const{}, Vars: map[*ast.Var]*LocalVar{},
			Calls: map[*ast.Call]*Call{}, Idents: map[*ast.Ident]*Ident{},
		},
	}
	n := 0
	x := &expander{c: c, diags: c.diags, counter: &n, args: textArgs(points)}
	if p.Predicate != nil {
		b.Predicate = x.expr(p.Predicate)
	}
	if c.env.PID != 0 && !c.env.Children && filtersByPID(points[0].Kind.Name()) {
		b.Predicate = onlyPID(c.env.PID, b.Predicate, p.Sp)
	}
	b.Block = x.block(p.Body)
	if b.Block == nil {
		b.Block = &ast.Block{Base: ast.Base{Sp: p.Sp}}
	}
	c.bodies = append(c.bodies, b)
	c.info.Bodies = append(c.info.Bodies, b.Body)
	b.resolve()
}

// filtersByPID tells for which kinds -p is a predicate. The others attach to the process only, or belong to no process. A perf event of a
// process would count for the one thread that gave the process its number.
func filtersByPID(kind string) bool {
	switch kind {
	case "tracepoint", "rawtracepoint", "kprobe", "kretprobe", "fentry", "fexit", "syscall", "lsm", "profile", "software", "hardware":
		return true
	}
	return false
}

// onlyPID makes `pid == N && predicate`.
func onlyPID(pid int, pred ast.Expr, sp source.Span) ast.Expr {
	base := ast.Base{Sp: sp}
	same := &ast.Binary{Base: base, Op: "==", X: &ast.Ident{Base: base, Name: "pid"}, Y: &ast.IntLit{Base: base, Value: uint64(pid), Text: itoa(pid)}}
	if pred == nil {
		return same
	}
	return &ast.Binary{Base: base, Op: "&&", X: same, Y: pred}
}

// finish puts the maps in order and decides the signs that stayed open.
func (c *checker) finish() {
	for _, name := range c.info.Order {
		m := c.maps[name]
		m.m.Key, m.m.Value = c.closeType(m.m.Key), c.closeType(m.m.Value)
		if m.keyed.IsValid() && m.m.Key == nil && !c.diags.HasErrors() {
			m.m.Key = types.TInt64
		}
	}
	for _, b := range c.bodies {
		for e, t := range b.Types {
			if ct := c.closeType(t); ct != t {
				b.Types[e] = ct
			}
		}
		for _, st := range b.order {
			st.v.Type = c.closeType(st.v.Type)
		}
	}
	sort.SliceStable(c.info.Options, func(i, j int) bool { return c.info.Options[i].Span.Start < c.info.Options[j].Span.Start })
}

// closeType decides open signs, also inside tuples.
func (c *checker) closeType(t *types.Type) *types.Type { return c.mapInts(t, c.pool.closed) }

// mapInts replaces the integers of a type, also inside tuples.
func (c *checker) mapInts(t *types.Type, f func(*types.Type) *types.Type) *types.Type {
	if t == nil {
		return nil
	}
	switch t.Kind {
	case types.Int:
		return f(t)
	case types.Tuple, types.Record:
		changed := false
		elems := make([]*types.Type, len(t.Fields))
		var names []string
		for i, m := range t.Fields {
			elems[i] = c.mapInts(m.Type, f)
			changed = changed || elems[i] != m.Type
			if t.Kind == types.Record {
				names = append(names, m.Name)
			}
		}
		if changed {
			return types.TupleOf(elems, names)
		}
	case types.Pointer:
		if e := c.mapInts(t.Elem, f); e != t.Elem {
			return types.PointerTo(e, t.Space, t.Prov)
		}
	}
	if t.IsAggregation() && t.Elem != nil {
		if e := c.mapInts(t.Elem, f); e != t.Elem {
			ct := *t
			ct.Elem = e
			return &ct
		}
	}
	return t
}

// newDialect tells whether a script uses forms that came with, or after, variables that belong to their block.
func newDialect(probes []*ast.Probe) bool {
	found := false
	for _, p := range probes {
		for _, ap := range p.Attach {
			found = found || ap.Kind == "begin" || ap.Kind == "end"
		}
		ast.Inspect(p, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Let, *ast.ForRange, *ast.BlockExpr, *ast.Record, *ast.Discard:
				found = true
			case *ast.Assign:
				found = found || n.Let
			}
			return !found
		})
	}
	return found
}
