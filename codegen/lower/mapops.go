package lower

import (
	"fmt"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// MapArg finds the map that argument i of a call names, and the keys when it is written with them.
func (g *Gen) MapArg(c *check.Call, i int) (*Map, []ast.Expr) {
	switch e := unparen(c.Args[i]).(type) {
	case *ast.MapRef:
		return g.Map(e.Name), nil
	case *ast.Index:
		if r, ok := unparen(e.X).(*ast.MapRef); ok {
			return g.Map(r.Name), e.Keys
		}
	}
	return nil, nil
}

// Key evaluates the key of a map into memory, padded with zeros. Several expressions are the parts of a tuple.
func (g *Gen) Key(m *Map, keys []ast.Expr) Place {
	if m.Key == nil {
		p := g.Temp("key", scalarKey)
		g.B.Store(p.Ptr, 0, 8, g.B.Const(0))
		return p
	}
	p := g.Temp("key", max(m.Key.Size, 1))
	p.Size = m.Key.Size
	if len(keys) == 1 {
		g.Into(keys[0], m.Key, p)
		return p
	}
	end := 0
	for i, f := range m.Key.Fields {
		if f.Offset > end {
			g.zero(p.At(end, f.Offset-end))
		}
		g.Into(keys[i], f.Type, p.At(f.Offset, f.Type.Size))
		end = f.Offset + f.Type.Size
	}
	if m.Key.Size > end {
		g.zero(p.At(end, m.Key.Size-end))
	}
	return p
}

// Lookup gives the address of a value or nil (type MapNil). The map must have a kernel map of its own.
func (g *Gen) Lookup(m *Map, key Place) *ir.Value {
	return g.B.Helper(asm.FnMapLookupElem, g.B.MapRef(m.Name), g.pointer(key))
}

// Update stores a value, counting what a full map refuses. The result is the kernel's.
func (g *Gen) Update(m *Map, key, value Place, flags int64) *ir.Value {
	rc := g.B.Helper(asm.FnMapUpdateElem, g.B.MapRef(m.Name), g.pointer(key), g.pointer(value), g.B.Const(flags))
	if flags == updateAny {
		// Before Linux 6.4 programs call the map's own function, whose result has 32 bits: an error is not below 0.
		g.B.Unless(g.B.CmpImm(ir.OpEq, rc, 0), func() {
			g.scoped(func() { g.helperFailed(rc, "map_update_elem", object.CounterMapFull) })
		})
	}
	return rc
}

// readMap lowers a use of a map's value.
func (g *Gen) readMap(e ast.Expr, name string, keys []ast.Expr, t *types.Type) Operand {
	m := g.Map(name)
	if m == nil {
		g.bug(e, "unknown map %s", name)
	}
	w := g.want
	g.want = want{}
	if m.plan.store == storeGlobal {
		return g.Convert(g.Load(g.globalPlace(m), m.Value), t)
	}
	if m.plan.store == storeLines {
		return g.Convert(g.readAgg(m, nil, m.Value), t)
	}
	if m.isPair() {
		return g.Convert(g.readPair(m, keys), t)
	}
	key := g.Key(m, keys)
	if m.plan.agg() {
		return g.Convert(g.readAgg(m, g.pointer(key), m.Value), t)
	}
	g.want = w
	return g.Convert(g.readValue(m, key), t)
}

// ReadValue gives the value under a key, zero when there is none.
func (g *Gen) ReadValue(m *Map, key Place) Operand { return g.readValue(m, key) }

func (g *Gen) readValue(m *Map, key Place) Operand {
	t := m.Value
	if t.IsScalar() {
		v := g.B.NewVar("value", ir.I64)
		g.B.Set(v, g.B.Const(0))
		g.B.IfNonNil(g.Lookup(m, key), func(p *ir.Value) {
			g.B.Set(v, g.LoadScalar(Place{Ptr: p, Size: t.Size}, t))
		}, g.missingKey)
		return Scalar(t, g.B.Get(v))
	}
	dst := g.Dest(t)
	g.B.IfNonNil(g.Lookup(m, key), func(p *ir.Value) {
		g.ReadMem(dst, Place{Ptr: p, Size: t.Size, Space: types.SpaceBPF})
	}, func() { g.zero(dst); g.missingKey() })
	return Operand{Type: t, P: dst}
}

// globalPlace gives the memory of a scalar of the shared array.
func (g *Gen) globalPlace(m *Map) Place {
	return Place{Ptr: g.B.MapValAddr(m.Spec.Global.Map, m.Spec.Global.Off), Size: m.Value.Size, Space: types.SpaceBPF}
}

// setGlobal tells that a scalar of the shared array is set.
func (g *Gen) setGlobal(m *Map, p *ir.Value) {
	g.B.Store(p, m.Spec.Global.SetOff-m.Spec.Global.Off, 8, g.B.Const(1))
}

// assignMap lowers `@m[keys] = e`.
func (g *Gen) assignMap(node ast.Node, name string, keys []ast.Expr, e ast.Expr) {
	m := g.Map(name)
	if m == nil {
		g.bug(node, "unknown map %s", name)
	}
	if call, ok := unparen(e).(*ast.Call); ok {
		if c := g.Body.Calls[call]; c != nil && c.Func.Agg != types.Invalid {
			g.aggMap, g.aggKeys = m, keys
			g.exprWant(e, want{unused: true})
			g.aggMap, g.aggKeys = nil, nil
			return
		}
	}
	switch {
	case m.plan.store == storeGlobal:
		v := g.ScalarAs(e, m.Value)
		p := g.globalPlace(m)
		g.B.Store(p.Ptr, 0, 8, v)
		g.setGlobal(m, p.Ptr)
	case m.isPair():
		g.storePair(m, keys, g.ScalarAs(e, m.Value))
	case m.Value.IsScalar():
		v := g.ScalarAs(e, m.Value)
		g.withKey("store ", m, func() Place { return g.Key(m, keys) }, []*ir.Value{v}, func(key func() Place, args []*ir.Value) {
			g.storeKeyed(m, key(), args[0])
		})
	default:
		key := g.Key(m, keys)
		tmp := g.TempOf(m.Value)
		g.Into(e, m.Value, tmp)
		g.Update(m, key, tmp, updateAny)
	}
}

// storeKeyed stores a scalar: in place when the key exists, which is much cheaper than an update. Where the script deletes keys they are
// expected to be new (start and end of something), and a look-up before the update, which looks up again, would be for nothing.
func (g *Gen) storeKeyed(m *Map, key Place, v *ir.Value) {
	update := func() {
		tmp := g.Temp("new", 8)
		g.B.Store(tmp.Ptr, 0, 8, v)
		g.Update(m, key, tmp, updateAny)
	}
	// An update puts another element in the old one's place: an addition that is under way on another CPU would be lost.
	if m.Deleted && !m.Incremented && !m.AddrTaken {
		g.scoped(update)
		return
	}
	g.B.IfNonNil(g.Lookup(m, key), func(p *ir.Value) {
		g.B.Store(p, 0, 8, v)
	}, func() { g.scoped(update) })
}

// Assign stores an operand under a key (nil: a map without key).
func (g *Gen) Assign(m *Map, key Place, o Operand) {
	switch {
	case m.plan.store == storeGlobal:
		p := g.globalPlace(m)
		g.B.Store(p.Ptr, 0, 8, g.asInt(g.Convert(o, m.Value).V))
		g.setGlobal(m, p.Ptr)
	case m.Value.IsScalar():
		g.storeKeyed(m, key, g.asInt(g.Convert(o, m.Value).V))
	default:
		tmp := g.TempOf(m.Value)
		g.StoreValue(tmp, m.Value, o)
		g.Update(m, key, tmp, updateAny)
	}
}

// modifyMap lowers `@m[keys] op= rhs`, ++ and --. need tells that the value is used: the old one when old is set, else the new one.
// Additions are atomic.
func (g *Gen) modifyMap(node ast.Node, name string, keys []ast.Expr, op string, rhs func() Operand, need, old bool) Operand {
	m := g.Map(name)
	if m == nil {
		g.bug(node, "unknown map %s", name)
	}
	g.want = want{}
	t := m.Value
	if m.plan.store == storeGlobal {
		y := rhs()
		p := g.globalPlace(m)
		res := g.modifyAt(p, t, op, y, need, old)
		g.setGlobal(m, p.Ptr)
		return res
	}
	y := rhs()
	if !need && y.Type.Kind == types.Int && y.V != nil {
		yt := y.Type
		what := fmt.Sprintf("modify %s %d %t ", op, yt.Size, yt.Signed)
		g.withKey(what, m, func() Place { return g.Key(m, keys) }, []*ir.Value{g.asInt(y.V)}, func(key func() Place, args []*ir.Value) {
			g.modifyKeyed(m, key(), op, Scalar(yt, args[0]), false, false)
		})
		return Operand{}
	}
	return g.modifyKeyed(m, g.Key(m, keys), op, y, need, old)
}

// modifyKeyed is modifyMap for the value of a key.
func (g *Gen) modifyKeyed(m *Map, key Place, op string, y Operand, need, old bool) Operand {
	t := m.Value
	v := g.B.NewVar("result", ir.I64)
	found := func(p *ir.Value) {
		o := g.modifyAt(Place{Ptr: p, Size: t.Size, Space: types.SpaceBPF}, t, op, y, need, old)
		if need {
			g.B.Set(v, g.asInt(o.V))
		}
	}
	g.B.IfNonNil(g.Lookup(m, key), found, func() {
		g.scoped(func() {
			zero := Scalar(t, g.B.Const(0))
			first := g.Arith(op, zero, y, t)
			tmp := g.Temp("new", 8)
			g.B.Store(tmp.Ptr, 0, 8, first)
			rc := g.Update(m, key, tmp, updateNoExist)
			if need {
				g.B.Set(v, first)
				if old {
					g.B.Set(v, g.B.Const(0))
				}
			}
			g.B.Unless(g.B.CmpImm(ir.OpEq, rc, 0), func() {
				// Another CPU was faster, or the map is full.
				g.B.IfNonNil(g.Lookup(m, key), found, func() { g.helperFailed(rc, "map_update_elem", object.CounterMapFull) })
			})
		})
	})
	if !need {
		return Operand{}
	}
	return Scalar(t, g.B.Get(v))
}

// modifyAt changes a scalar of 8 bytes in a map's value.
func (g *Gen) modifyAt(p Place, t *types.Type, op string, y Operand, need, old bool) Operand {
	if (op == "+" || op == "-") && t.Kind != types.Bool {
		d := g.ToInt(y)
		if t.Kind == types.Pointer {
			if n := elemSize(t); n > 1 {
				d = g.B.OpImm(ir.OpMul, d, int64(n))
			}
		}
		if op == "-" {
			if d.Op == ir.OpConst {
				d = g.B.Const(-d.Imm)
			} else {
				d = g.B.Neg(d)
			}
		}
		if !need {
			g.B.AtomicAdd(p.Ptr, int(p.Off), 8, d)
			return Operand{}
		}
		if g.Target.Features.Has(target.AtomicFetch) {
			was := g.B.FetchAdd(p.Ptr, int(p.Off), 8, d)
			if !old {
				was = g.B.Add(was, d)
			}
			return Scalar(t, g.wrap(was, t))
		}
	}
	was := g.Load(p, t)
	now := Scalar(t, g.Arith(op, was, y, t))
	g.B.Store(p.Ptr, int(p.Off), 8, g.asInt(now.V))
	if old {
		return was
	}
	return now
}

// Delete removes a key; the result is 0 when it was there. A scalar of the shared array becomes unset.
func (g *Gen) Delete(m *Map, keys []ast.Expr) *ir.Value {
	switch m.plan.store {
	case storeGlobal:
		p := g.globalPlace(m)
		mark := m.Spec.Global.SetOff - m.Spec.Global.Off
		missing := g.B.CmpImm(ir.OpEq, g.B.Load(p.Ptr, mark, 8, false), 0)
		g.B.Store(p.Ptr, 0, 8, g.B.Const(0))
		g.B.Store(p.Ptr, mark, 8, g.B.Const(0))
		return missing
	case storeLines:
		s := m.Spec.Global
		for i := range s.Copies {
			g.B.Zero(g.B.MapValAddr(s.Map, s.Off+i*s.Stride), 0, min(s.Stride, m.plan.size+8))
		}
		return g.B.Const(0)
	}
	if m.isPair() {
		return g.deletePair(m, keys)
	}
	return g.DeleteKey(m, g.Key(m, keys))
}

// DeleteKey removes the key at a place; the result is 0 when it was there.
func (g *Gen) DeleteKey(m *Map, key Place) *ir.Value {
	return g.B.Helper(asm.FnMapDeleteElem, g.B.MapRef(m.Name), g.pointer(key))
}

// mapAddress lowers &@m.
func (g *Gen) mapAddress(x *ast.MapRef, t *types.Type) Operand {
	m := g.Map(x.Name)
	switch m.plan.store {
	case storeGlobal:
		return Operand{Type: t, V: g.globalPlace(m).Ptr}
	case storeHash, storeShared:
		return Operand{Type: t, V: g.asInt(g.Lookup(m, g.Key(m, nil)))}
	}
	g.Errorf("E0702", x, "the address of `%s` cannot be taken", x.Name)
	return Scalar(t, g.B.Const(0))
}

// Len gives the number of elements of a map.
func (g *Gen) Len(n ast.Node, m *Map) *ir.Value {
	if m.Spec.Global != nil {
		return g.B.Const(1)
	}
	if !g.Target.Features.Has(target.ForEachMapElem) {
		g.Errorf("E0703", n, "`len` of a map needs a newer kernel").
			Hint("use a kernel from 5.13 on, which has bpf_for_each_map_elem")
		return g.B.Const(0)
	}
	cb := g.newCallback("len", 3, ir.MapRef, ir.MapVal, ir.MapVal, ir.Stack)
	cb.generate(g, func() { g.B.ReturnConst(0) })
	var n2 *ir.Value
	cb.run(g, func(fn, ctx *ir.Value) *ir.Value {
		n2 = g.B.Helper(asm.FnForEachMapElem, g.B.MapRef(m.Name), fn, ctx, g.B.Const(0))
		return g.B.Const(0)
	})
	return n2
}

// IsAggregation reports whether the map's values are aggregations.
func (m *Map) IsAggregation() bool { return m.plan.aggreg }

// MapValue gives the value under a key as type t, over all CPUs for an aggregation; zero when there is none.
func (g *Gen) MapValue(m *Map, key Place, t *types.Type) Operand {
	switch {
	case m.plan.store == storeGlobal:
		return g.Convert(g.Load(g.globalPlace(m), m.Value), t)
	case m.plan.store == storeLines:
		return g.Convert(g.readAgg(m, nil, m.Value), t)
	case m.plan.agg():
		return g.Convert(g.readAgg(m, g.pointer(key), m.Value), t)
	}
	return g.Convert(g.readValue(m, key), t)
}

// DeclareVar makes sure that a scratch variable exists in the current function before code that assigns to it on some paths only.
func (g *Gen) DeclareVar(v *check.LocalVar) { g.bindingOf(v) }
