package lower

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
)

// A pair is a map that each thread fills under its own number and empties again: `@start[tid] = nsecs` here, `delete(@start, tid)` there.
// Inserting and deleting are the dearest things that a hash can do, so such a map has an array of slots in front of it. The slot of a
// thread follows from its number. A free slot is taken with one atomic exchange, and is free again by a plain store: it needs no sweeping
// when threads end, and a thread's slot is never another's as long as it holds something. A thread whose slot is another's at that time uses
// the hash, and the slot counts what it has there, so that nobody looks into the hash in vain.
//
// A key is in one of the two places only, because the only thread that moves it is the one whose number it is. User space reads both.
// Number 0 is that of several threads, the idle one of each processor (and of all that are not in sonde's PID namespace): it is always in
// the hash, because the first slot, which would be its, is never free.
const (
	pairSlots   = 4096
	pairOwner   = 0  // the key, 0 when the slot is free
	pairValue   = 8  // its value
	pairSpilled = 16 // keys of this slot that are in the hash
	// Threads that were made one after the other run at the same time: their slots are far apart, for each processor's cache.
	pairSpread = 1021 * object.PairStride
	pairMask   = (pairSlots - 1) * object.PairStride
)

// planPair gives a map slots where all its uses allow it.
func (u *Unit) planPair(m *check.Map, p *mapPlan) {
	c := u.Info.Config
	switch {
	case u.Opts.Shared != nil || u.Opts.HelperErrors || !u.Target.Features.Has(target.AtomicFetch):
		return
	case c != nil && c.Extra["maps"] == "literal":
		return
	case p.spec.MaxEntries < pairSlots: // together with the slots it would hold far more than the script allows
		return
	case m.Kind != "" || m.Declared || m.External || !m.Value.IsScalar() || m.Key == nil || !m.Deleted:
		return
	case m.Iterated || m.LenUsed || m.AddrTaken || m.Incremented:
		return
	}
	if u.own == nil {
		u.own = ownThread(u.Info)
	}
	if !u.own[m.Name] {
		return
	}
	slots := u.addInternal(&object.Map{
		Name: object.PairMap(m.Name), Role: object.MapState, Type: ebpf.Array, KeySize: 4, ValueSize: pairSlots * object.PairStride, MaxEntries: 1,
		Contents: object.PairContents(),
	})
	p.spec.Pair = slots.Name
}

// ownThread finds the maps that a script only assigns, reads and deletes, and only under the key `tid`; at its end, when no other probe runs
// any more, it may print or clear them as well.
func ownThread(info *check.Info) map[string]bool {
	own := map[string]bool{}
	for name := range info.Maps {
		own[name] = true
	}
	for _, b := range info.Bodies {
		w := &ownWalk{b: b, own: own}
		if b.Predicate != nil {
			inspect(b.Predicate, w.visit)
		}
		if b.Block != nil {
			inspect(b.Block, w.visit)
		}
	}
	return own
}

type ownWalk struct {
	b   *check.Body
	own map[string]bool
}

func (w *ownWalk) isTid(e ast.Expr) bool {
	id, ok := unparen(e).(*ast.Ident)
	return ok && builtinName(w.b, id) == "tid"
}

// element gives the map of `@m[tid]`.
func (w *ownWalk) element(e ast.Expr) (string, bool) {
	ix, ok := unparen(e).(*ast.Index)
	if !ok || len(ix.Keys) != 1 || !w.isTid(ix.Keys[0]) {
		return "", false
	}
	m, ok := unparen(ix.X).(*ast.MapRef)
	if !ok {
		return "", false
	}
	return m.Name, true
}

func (w *ownWalk) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.MapRef: // a use that none of the cases below allows
		delete(w.own, n.Name)
	case *ast.Index:
		if _, ok := w.element(n); ok {
			return false
		}
	case *ast.Assign:
		if name, ok := w.element(n.Target); ok && n.Op != "" && n.Op != "=" {
			delete(w.own, name)
		}
	case *ast.Unary:
		if name, ok := w.element(n.X); ok && (n.Op == "++" || n.Op == "--" || n.Op == "&") {
			delete(w.own, name)
		}
	case *ast.While, *ast.Unroll, *ast.ForMap, *ast.ForRange:
		// What a loop has read may be another value in its next round, and its body may be a function of its own.
		inspect(n, func(n ast.Node) bool {
			if m, ok := n.(*ast.MapRef); ok {
				delete(w.own, m.Name)
			}
			return true
		})
		return false
	case *ast.Call:
		return w.call(n)
	}
	return true
}

// call looks at the arguments that name a map or an element, as opposed to the element's value.
func (w *ownWalk) call(n *ast.Call) bool {
	c := w.b.Calls[n]
	if c == nil || c.Func == nil {
		return true
	}
	switch c.Func.Name {
	case "clear", "print":
		if _, ok := unparen(n.Args[0]).(*ast.MapRef); ok && w.b.Points[0].Kind.Name() == "end" {
			for _, a := range n.Args[1:] {
				inspect(a, w.visit)
			}
			return false
		}
	case "delete":
		if m, ok := unparen(n.Args[0]).(*ast.MapRef); ok {
			if len(n.Args) != 2 || !w.isTid(n.Args[1]) {
				delete(w.own, m.Name)
			}
			return false
		}
		return true
	}
	for i, a := range n.Args {
		if i >= len(c.Func.Params) {
			break
		}
		if cl := c.Func.Params[i].Class; cl == check.MapArg || cl == check.MapOrKey || cl == check.MapOrValue {
			if name, ok := w.element(a); ok {
				delete(w.own, name)
			}
		}
	}
	return true
}

// pairSlot gives the slot of the current thread and its key, which stands in it while the slot is this thread's.
func (g *Gen) pairSlot(m *Map, keys []ast.Expr) (slot, me *ir.Value) {
	me = g.ScalarAs(keys[0], m.Key)
	slot = g.Cached("slot of "+m.Name, func() *ir.Value {
		return g.B.PtrAdd(g.B.MapValAddr(m.Spec.Pair, 0), g.B.OpImm(ir.OpAnd, g.B.OpImm(ir.OpMul, me, pairSpread), pairMask))
	})
	return slot, me
}

// pairCache is the name under which the value of a pair is remembered between two changes.
func pairCache(m *Map) string { return "pair " + m.Name }

func (g *Gen) forgetPair(m *Map) {
	for _, s := range g.fr.scopes {
		delete(s, pairCache(m))
	}
}

// readPair gives the value, 0 when there is none.
func (g *Gen) readPair(m *Map, keys []ast.Expr) Operand {
	t := m.Value
	return Scalar(t, g.Cached(pairCache(m), func() *ir.Value {
		slot, me := g.pairSlot(m, keys)
		v := g.B.NewVar("value", ir.I64)
		mine, other, end := g.B.NewBlock("mine"), g.B.NewBlock("other"), g.B.NewBlock("read")
		other.Cold = true
		g.B.Branch(ir.OpEq, g.B.Load(slot, pairOwner, 8, false), me, mine, other)
		g.open(mine)
		g.B.Set(v, g.LoadScalar(Place{Ptr: slot, Off: pairValue, Size: t.Size}, t))
		g.B.Jump(end)
		g.open(other)
		g.B.Set(v, g.B.Const(0))
		g.ifSpilled(slot, func() {
			g.B.IfNonNil(g.Lookup(m, g.Key(m, keys)), func(p *ir.Value) {
				g.B.Set(v, g.LoadScalar(Place{Ptr: p, Size: t.Size}, t))
			}, nil)
		})
		g.B.Jump(end)
		g.open(end)
		return g.B.Get(v)
	}))
}

// open goes on in a block to which there will be no more jumps.
func (g *Gen) open(b *ir.Block) {
	g.B.Seal(b)
	g.B.SetBlock(b)
}

// ifSpilled runs fn when keys of a slot are in the hash.
func (g *Gen) ifSpilled(slot *ir.Value, fn func()) {
	yes, end := g.B.NewBlock("spilled"), g.B.NewBlock("endspilled")
	yes.Cold = true
	g.B.Branch(ir.OpNe, g.B.Load(slot, pairSpilled, 8, false), g.B.Const(0), yes, end)
	g.open(yes)
	g.B.Cold(func() { g.scoped(fn) })
	g.B.Jump(end)
	g.open(end)
}

// storePair stores the value.
func (g *Gen) storePair(m *Map, keys []ast.Expr, v *ir.Value) {
	g.forgetPair(m)
	slot, me := g.pairSlot(m, keys)
	fresh, taken, store := g.B.NewBlock("fresh"), g.B.NewBlock("taken"), g.B.NewBlock("store")
	other, end := g.B.NewBlock("other"), g.B.NewBlock("stored")
	taken.Cold, other.Cold = true, true
	old := g.B.CmpXchg(slot, pairOwner, 8, g.B.Const(0), me)
	g.B.Branch(ir.OpEq, old, g.B.Const(0), fresh, taken)
	g.open(fresh)
	// An earlier value of this thread, stored while the slot was another's, is no more.
	g.ifSpilled(slot, func() { g.dropSpilled(m, slot, g.Key(m, keys)) })
	g.B.Jump(store)
	g.open(taken)
	g.B.Branch(ir.OpEq, old, me, store, other)
	g.open(store)
	g.B.Store(slot, pairValue, 8, v)
	g.B.Jump(end)
	g.open(other)
	g.B.Cold(func() {
		g.scoped(func() {
			key := g.Key(m, keys)
			g.B.IfNonNil(g.Lookup(m, key), func(p *ir.Value) { g.B.Store(p, 0, 8, v) }, func() {
				tmp := g.Temp("new", 8)
				g.B.Store(tmp.Ptr, 0, 8, v)
				rc := g.Update(m, key, tmp, updateAny)
				g.B.If(g.B.CmpImm(ir.OpEq, rc, 0), func() { g.B.AtomicAdd(slot, pairSpilled, 8, g.B.Const(1)) }, nil)
			})
		})
	})
	g.B.Jump(end)
	g.open(end)
}

// dropSpilled deletes a key from the hash; the result is 0 when it was there.
func (g *Gen) dropSpilled(m *Map, slot *ir.Value, key Place) *ir.Value {
	rc := g.B.Helper(asm.FnMapDeleteElem, g.B.MapRef(m.Name), g.pointer(key))
	g.B.If(g.B.CmpImm(ir.OpEq, rc, 0), func() { g.B.AtomicAdd(slot, pairSpilled, 8, g.B.Const(-1)) }, nil)
	return rc
}

// deletePair removes the key; the result is 0 when it was there.
func (g *Gen) deletePair(m *Map, keys []ast.Expr) *ir.Value {
	g.forgetPair(m)
	const noEntry = -2 // what the kernel's helper says
	slot, me := g.pairSlot(m, keys)
	rc := g.B.NewVar("deleted", ir.I64)
	mine, other, end := g.B.NewBlock("mine"), g.B.NewBlock("other"), g.B.NewBlock("deleted")
	other.Cold = true
	g.B.Branch(ir.OpEq, g.B.Load(slot, pairOwner, 8, false), me, mine, other)
	g.open(mine)
	if g.Target.Arch == "amd64" {
		g.B.Store(slot, pairOwner, 8, g.B.Const(0))
	} else { // the value must have been read before the slot is free
		g.B.Xchg(slot, pairOwner, 8, g.B.Const(0))
	}
	g.B.Set(rc, g.B.Const(0))
	g.B.Jump(end)
	g.open(other)
	g.B.Set(rc, g.B.Const(noEntry))
	g.ifSpilled(slot, func() { g.B.Set(rc, g.dropSpilled(m, slot, g.Key(m, keys))) })
	g.B.Jump(end)
	g.open(end)
	return g.B.Get(rc)
}

// isPair reports whether a map has slots in front of its hash.
func (m *Map) isPair() bool { return m.Spec.Pair != "" }
