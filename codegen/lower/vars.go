package lower

import (
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// binding is where a scratch variable lives in one IR function.
type binding struct {
	kind bindKind
	ssa  ir.Var
	slot *ir.Slot
	op   Operand // bindValue: the value itself
	mem  Place   // bindMem: memory of another function's frame
	// Loop variable over a map: the parts are bound on their own.
	key, value Operand
}

type bindKind uint8

const (
	bindSSA   bindKind = iota // an SSA variable; a struct or array in kernel or user memory is its address
	bindSlot                  // memory of this function
	bindValue                 // assigned once, where it is declared: the value keeps its provenance
	bindMem                   // memory that another function owns, scalars 8 bytes wide
	bindPair                  // key and value of a map element
)

// isReference reports whether a variable of a type holds an address: structs and arrays outside of the program's memory are not copied.
func isReference(t *types.Type) bool {
	return (t.Kind == types.Struct || t.Kind == types.Array) && (t.Space == types.SpaceKernel || t.Space == types.SpaceUser)
}

// isContext reports whether a value is a pointer to the program's context: there is one.
func isContext(t *types.Type) bool { return t.Kind == types.Pointer && t.Prov == types.ProvCtx }

// bindingOf finds or makes the binding of a variable in the current function.
func (g *Gen) bindingOf(v *check.LocalVar) *binding {
	f := g.fr
	if b := f.vars[v]; b != nil {
		return b
	}
	if f.cb != nil && f.boundOutside(v) {
		b := f.cb.capture(g, v)
		f.vars[v] = b
		return b
	}
	b := &binding{}
	f.vars[v] = b
	t := v.Type
	if (t.IsScalar() || isReference(t)) && !v.Addr {
		b.kind = bindSSA
		b.ssa = g.B.NewVar(v.Name, ir.I64)
		return b
	}
	b.kind = bindSlot
	b.slot = g.B.NewSlot(v.Name, max(8, (t.Size+7)/8*8), 8)
	return b
}

// boundOutside reports whether a function around a callback has the variable.
func (f *frame) boundOutside(v *check.LocalVar) bool {
	for f = f.outer; f != nil; f = f.outer {
		if f.vars[v] != nil {
			return true
		}
	}
	return false
}

func (g *Gen) readVar(v *check.LocalVar) Operand {
	if v == nil {
		panic("lower: unbound variable")
	}
	t := v.Type
	if t.Kind == types.Args {
		return g.argsOperand(t)
	}
	if isContext(t) && !v.Addr {
		return Operand{Type: t, V: g.Ctx()}
	}
	b := g.bindingOf(v)
	switch b.kind {
	case bindSSA:
		x := g.B.Get(b.ssa)
		if isReference(t) {
			return Operand{Type: t, P: Place{Ptr: x, Size: t.Size, Space: t.Space}}
		}
		return Scalar(t, x)
	case bindValue:
		return b.op
	case bindMem:
		if isReference(t) {
			x := g.B.Load(b.mem.Ptr, int(b.mem.Off), 8, false)
			return Operand{Type: t, P: Place{Ptr: x, Size: t.Size, Space: t.Space}}
		}
		if t.IsScalar() {
			if v.Addr {
				return Scalar(t, g.LoadScalar(b.mem, t))
			}
			return Scalar(t, g.B.Load(b.mem.Ptr, int(b.mem.Off), 8, false))
		}
		return Operand{Type: t, P: b.mem}
	case bindPair:
		p := g.Dest(t)
		g.StoreValue(p.At(t.Fields[0].Offset, t.Fields[0].Type.Size), t.Fields[0].Type, b.key)
		g.padTuple(p, t)
		g.StoreValue(p.At(t.Fields[1].Offset, t.Fields[1].Type.Size), t.Fields[1].Type, b.value)
		return Operand{Type: t, P: p}
	}
	p := Place{Ptr: g.B.SlotAddr(b.slot, 0), Size: t.Size, Space: types.SpaceBPF}
	return g.Load(p, t)
}

// argsOperand gives args as a whole.
func (g *Gen) argsOperand(t *types.Type) Operand {
	if p, ok := g.Hook.Context.Record(g); ok {
		return Operand{Type: t, P: p}
	}
	return g.BuildArgs(t)
}

// padTuple zeroes the gaps between the fields of a tuple.
func (g *Gen) padTuple(p Place, t *types.Type) {
	end := 0
	for _, f := range t.Fields {
		if f.Offset > end {
			g.zero(p.At(end, f.Offset-end))
		}
		end = f.Offset + f.Type.Size
	}
	if t.Size > end {
		g.zero(p.At(end, t.Size-end))
	}
}

// loopPart gives a part of the variable of a loop over a map without building the pair.
func (g *Gen) loopPart(v *check.LocalVar, i int) (Operand, bool) {
	if v == nil {
		return Operand{}, false
	}
	b := g.bindingOf(v)
	if b.kind != bindPair {
		return Operand{}, false
	}
	if i == 0 {
		return b.key, true
	}
	return b.value, true
}

// varPlace gives the memory of a variable that lives in memory.
func (g *Gen) varPlace(v *check.LocalVar) Place {
	b := g.bindingOf(v)
	switch b.kind {
	case bindSlot:
		return Place{Ptr: g.B.SlotAddr(b.slot, 0), Size: v.Type.Size, Space: types.SpaceBPF}
	case bindMem:
		return b.mem
	}
	panic("lower: variable " + v.Name + " is not in memory")
}

// writeVar assigns a value that does not live in the variable's own memory, or is there already.
func (g *Gen) writeVar(v *check.LocalVar, o Operand) {
	b := g.bindingOf(v)
	t := v.Type
	switch {
	case b.kind == bindValue: // only through find(): give it a home
		b.kind = bindSSA
		b.ssa = g.B.NewVar(v.Name, ir.I64)
		g.writeVar(v, o)
	case isReference(t) && !v.Addr:
		p := o.P
		if p.IsPlain() || p.Ptr.Type == ir.Ctx && g.hasRegisters() {
			k := g.Keep(v.Name, t.Size, ir.SlotAuto)
			g.ReadMem(k, p)
			p = k
		}
		x := g.Address(p)
		if b.kind == bindSSA {
			g.B.Set(b.ssa, x)
		} else {
			g.B.Store(b.mem.Ptr, int(b.mem.Off), 8, x)
		}
	case b.kind == bindSSA:
		g.B.Set(b.ssa, g.asInt(g.Convert(o, t).V))
	case b.kind == bindMem && t.IsScalar() && !v.Addr:
		g.B.Store(b.mem.Ptr, int(b.mem.Off), 8, g.asInt(g.Convert(o, t).V))
	default:
		g.StoreValue(g.varPlace(v), t, o)
	}
}

// WriteVar assigns to a scratch variable that is an argument of a builtin.
func (g *Gen) WriteVar(v *check.LocalVar, o Operand) { g.writeVar(v, o) }

// assignVar lowers `$v = e`.
func (g *Gen) assignVar(node *ast.Var, e ast.Expr) {
	v := g.Body.Vars[node]
	if v == nil {
		g.bug(node, "unbound variable")
	}
	t := v.Type
	if t.Kind == types.Args { // a name for args, which is read where it is used
		return
	}
	if isContext(t) && !v.Addr { // nothing else is ever assigned
		g.Expr(e)
		return
	}
	// A pointer that is assigned once, where it is declared, needs no home: its value keeps its provenance.
	if t.Kind == types.Pointer && !v.Addr && g.facts.assigned[v] == 1 && g.fr.vars[v] == nil && !g.fr.boundOutside(v) && v.Span == node.Span() {
		o := g.Convert(g.Expr(e), t)
		if o.V.Type != ir.I64 && !g.B.Terminated() {
			g.fr.vars[v] = &binding{kind: bindValue, op: o}
			return
		}
		g.writeVar(v, o)
		return
	}
	if t.IsScalar() || isReference(t) {
		g.writeVar(v, g.Expr(e))
		return
	}
	if g.mentions(e, v) {
		tmp := g.TempOf(t)
		g.Into(e, t, tmp)
		g.StoreValue(g.varPlace(v), t, Operand{Type: t, P: tmp})
		return
	}
	g.bindingOf(v)
	g.Into(e, t, g.varPlace(v))
}

// mentions reports whether an expression reads a variable.
func (g *Gen) mentions(e ast.Expr, v *check.LocalVar) bool {
	found := false
	inspect(e, func(n ast.Node) bool {
		if x, ok := n.(*ast.Var); ok && g.Body.Vars[x] == v {
			found = true
		}
		return !found
	})
	return found
}
