package check

import (
	"strings"
	"sync"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// mapOf returns the state of a map, and makes it at its first use.
func (c *checker) mapOf(ref *ast.MapRef) *mapState { return c.mapNamed(ref.Name, ref.Sp) }

func (c *checker) mapNamed(name string, sp source.Span) *mapState {
	if st := c.maps[name]; st != nil {
		if !st.use.IsValid() {
			st.use = sp
		}
		return st
	}
	st := &mapState{m: &Map{Name: name, Max: c.info.Config.MaxMapKeys, Span: sp}, use: sp}
	if p := c.env.Prior[name]; p != nil {
		*st.m = *p
		st.m.External, st.prior = true, true
		if p.Key != nil {
			st.keyed = sp
		} else if p.Value != nil {
			st.scalar = sp
		}
	}
	c.maps[name] = st
	c.info.Maps[name] = st.m
	c.info.Order = append(c.info.Order, name)
	return st
}

// declareMap enters `let @m = kind(n)`.
func (c *checker) declareMap(d *ast.MapDecl) {
	if old := c.maps[d.Name]; old != nil && old.m.Declared {
		c.diags.Warnf(CodeMapRedeclared, d.Sp, "map `%s` is declared twice: the first declaration counts", d.Name).Label(old.m.Span, "first declared here")
		return
	}
	st := c.mapNamed(d.Name, d.Sp)
	st.use = source.Span{}
	st.m.Declared, st.m.Span, st.m.Kind = true, d.Sp, d.Kind
	kind := c.u.MapKind(d.Kind)
	if kind == nil {
		e := c.diags.Errorf(CodeMapKind, d.Sp, "Invalid bpf map type: %s", d.Kind)
		if n := diag.Nearest(d.Kind, c.u.Names("mapkind")); n != "" {
			e.Hint("use `%s`?", n)
		} else {
			e.Hint("choose one of hash, lruhash, percpuhash, percpulruhash")
		}
	}
	if len(d.Args) != 1 {
		sp := d.Sp
		if len(d.Args) > 1 {
			sp = d.Args[1].Span()
		}
		c.diags.Errorf(CodeArgCount, sp, "syntax: expected positive integer for map declaration max entries").Hint("a declaration has one argument, the number of entries; got %d", len(d.Args))
		return
	}
	n := 0
	x := &expander{c: c, diags: c.diags, counter: &n}
	v, ok := foldLiteral(x.expr(d.Args[0]))
	if !ok || v.kind != intValue || v.neg || v.bits == 0 || v.bits > 1<<31 {
		sp := d.Args[0].Span()
		sp.End = sp.Start + 1
		c.diags.Errorf(CodeRange, sp, "syntax: expected positive integer for map declaration max entries")
		return
	}
	st.m.Max = int(v.bits)
}

// readMap notes that the current unit depends on a map.
func (b *body) readMap(st *mapState) {
	if b.current.record {
		st.readers = addReader(st.readers, b.current)
	}
}

// setMapValue and setMapKey give a map a type and wake its readers.
func (b *body) setMapValue(st *mapState, t *types.Type) {
	if b.final || st.locked && st.m.Value != nil || !st.growValue.grown(st.m.Value, t) {
		return
	}
	st.m.Value = t
	b.c.enqueue(st.readers...)
}

func (b *body) setMapKey(st *mapState, t *types.Type) {
	if b.final || st.locked && st.m.Key != nil || !st.growKey.grown(st.m.Key, t) {
		return
	}
	st.m.Key = t
	b.c.enqueue(st.readers...)
}

// scalarMap types @m without a key.
func (b *body) scalarMap(e *ast.MapRef) *types.Type {
	st := b.c.mapOf(e)
	b.readMap(st)
	if st.keyed.IsValid() && (!st.scalar.IsValid() || st.keyed.Start < st.scalar.Start) {
		return types.TInvalid // reported by the resolver
	}
	return b.mapValue(st, e)
}

// mapValue is the type of a value that is read from a map.
func (b *body) mapValue(st *mapState, e *ast.MapRef) *types.Type {
	switch {
	case st.m.Value != nil:
		return st.m.Value
	case st.poisoned:
		return types.TInvalid
	case b.final:
		b.undefinedMap(st, e)
		return types.TInvalid
	}
	return nil
}

func (b *body) undefinedMap(st *mapState, e *ast.MapRef) {
	if st.poisoned || st.reported || b.c.partial {
		return
	}
	st.reported = true
	d := b.errorf(CodeUndefinedMap, e.Sp, "Undefined map: %s", e.Name)
	var names []string
	for _, n := range b.c.info.Order {
		if b.c.maps[n].m.Value != nil {
			names = append(names, n)
		}
	}
	didYouMean(d, e.Name, names)
}

// mapIndex types @m[keys].
func (b *body) mapIndex(e *ast.Index, ref *ast.MapRef) *types.Type {
	st := b.c.mapOf(ref)
	b.readMap(st)
	b.Types[e.X], b.Types[ref] = mapType, mapType
	if !b.mapKey(st, e.Keys, e.Sp) {
		return types.TInvalid
	}
	if st.scalar.IsValid() && (!st.keyed.IsValid() || st.scalar.Start < st.keyed.Start) {
		return types.TInvalid // reported by the resolver
	}
	return b.mapValue(st, ref)
}

var mapType = &types.Type{Kind: types.MapKind}

// mapKey types the keys of a map access and unites them with the map's; ok is false after an error.
func (b *body) mapKey(st *mapState, keys []ast.Expr, sp source.Span) (ok bool) {
	list := make([]*types.Type, len(keys))
	ok = true
	for i, k := range keys {
		list[i] = b.keyType(b.value(k), k)
		if list[i] == nil {
			return true
		}
		ok = ok && !bad(list[i])
	}
	if !ok {
		return false
	}
	var t *types.Type
	switch len(list) {
	case 0:
		return true
	case 1:
		t = list[0]
	default:
		t = types.TupleOf(list, nil)
	}
	return b.uniteKey(st, t, sp)
}

// keyType checks a value that is used as a key, or as part of one.
func (b *body) keyType(t *types.Type, k ast.Expr) *types.Type {
	if t == nil || bad(t) {
		return t
	}
	switch d := decay(t); {
	case d.IsAggregation(), d.Kind == types.Void, d.Kind == types.TypeValue, d.Kind == types.MapKind:
		return b.invalid(CodeKeyType, k.Span(), "%s cannot be part of a map key", d)
	case d.Kind == types.Pointer && d.Prov == types.ProvCtx, d.Kind == types.Args:
		return b.invalid(CodeKeyType, k.Span(), "context cannot be part of a map key")
	case d.Kind == types.Struct && d.Size == 0:
		return b.invalid(CodeKeyType, k.Span(), "the definition of `%s` is not known", d)
	default:
		return b.stored(d)
	}
}

func (b *body) uniteKey(st *mapState, t *types.Type, sp source.Span) bool {
	joined, ok := b.c.pool.promote(st.m.Key, t)
	if ok && (st.locked || st.prior) && st.m.Key != nil && !types.Equal(b.c.closeType(joined), b.c.closeType(st.m.Key)) {
		ok = false
	}
	if !ok {
		b.errorf(CodeKeyMismatch, sp, "Argument mismatch for %s: trying to access with arguments: '%s' when map expects arguments: '%s'", st.m.Name, b.name(t), b.name(st.m.Key)).
			Label(st.keyed, "first used here")
		return false
	}
	b.setMapKey(st, joined)
	b.warnConversion(sp, t, st.m.Key)
	return true
}

// assignMap types an assignment to a map; ix is nil for a scalar map.
func (b *body) assignMap(s *ast.Assign, ref *ast.MapRef, ix *ast.Index) {
	st := b.c.mapOf(ref)
	keyOK := true
	if ix != nil {
		b.Types[ix.X], b.Types[ref] = mapType, mapType
		keyOK = b.mapKey(st, ix.Keys, ix.Sp)
	}
	value := b.assignedValue(s, st)
	if s.Op != "=" {
		b.readMap(st)
		cur := st.m.Value
		if cur == nil && b.final {
			cur = types.TInvalid
		}
		if cur != nil && cur.IsAggregation() && value != nil && !bad(value) {
			result := "int64"
			if value.Kind != types.Int {
				result = "uint64"
			}
			b.errorf(CodeAggregation, assignSpan(s), "Type mismatch for %s: trying to assign value of type '%s' when map already has a type '%s'", ref.Name, result, cur).
				Hint("an aggregation is only assigned with `=`")
			return
		}
		value = b.compound(s, cur, value)
	}
	defer func() {
		if st.m.Value != nil {
			b.Types[s.Target] = st.m.Value
			if ix == nil {
				b.Types[ref] = st.m.Value
			} else {
				b.Types[ix] = st.m.Value
			}
		}
	}()
	switch {
	case value == nil || !keyOK && bad(value):
		return
	case bad(value):
		st.poisoned = true
		return
	case value.Kind == types.Void:
		b.errorf(CodeVoidValue, s.Value.Span(), "%s has no value", describeCall(s.Value))
		st.poisoned = true
		return
	}
	b.storeMap(st, s, value)
}

// assignedValue types the right side of an assignment to a map, where a call of an aggregation is possible.
func (b *body) assignedValue(s *ast.Assign, st *mapState) *types.Type {
	if call, ok := unparen(s.Value).(*ast.Call); ok {
		if f := b.c.u.Func(call.Func); f != nil && f.Agg != types.Invalid {
			t := b.call(call, st)
			if s.Op != "=" && t != nil && !bad(t) {
				t = b.invalid(CodeAggregation, s.Sp, "`%s()` can only be assigned with `=`", call.Func)
			}
			if t != nil {
				b.Types[call], b.Types[s.Value] = t, t
			}
			return t
		}
	}
	return b.infer(s.Value)
}

// exampleCall is a call that gives an aggregation, as bpftrace writes it.
func exampleCall(t *types.Type) string {
	name := strings.TrimSuffix(t.String(), "_t")
	switch t.Kind {
	case types.Count:
		return name + "()"
	case types.LHist:
		return name + "(rand %10, 0, 10, 1)"
	case types.TSeries:
		return name + "(rand %10, 10s, 1)"
	case types.Stats:
		return name + "(arg2)"
	}
	return name + "(retval)"
}

func (b *body) storeMap(st *mapState, s *ast.Assign, t *types.Type) {
	call, isCall := unparen(s.Value).(*ast.Call)
	isAgg := isCall && t.IsAggregation() && b.c.u.Func(call.Func) != nil && b.c.u.Func(call.Func).Agg != types.Invalid
	cur := st.m.Value
	if t.IsAggregation() && !isAgg {
		// Reading an aggregation gives an integer, but only where the map is known to hold integers.
		if !isCastable(t) || cur == nil || !cur.IsInteger() {
			if cur == nil && !b.final {
				st.fromAgg = true
				return
			}
			d := b.errorf(CodeAggregation, assignSpan(s), "Map value '%s' cannot be assigned from one map to another. The function that returns this type must be called directly e.g. `%s = %s;`.", t, st.m.Name, exampleCall(t))
			if isCastable(t) {
				d.Hint("add a cast to store its value: `(int64)...`")
			}
			st.poisoned = st.poisoned || cur == nil
			return
		}
		t = decay(t)
	}
	switch t.Kind {
	case types.TypeValue, types.MapKind:
		b.errorf(CodeMismatch, s.Value.Span(), "Value '%s' cannot be assigned to a map.", t)
		st.poisoned = true
		return
	case types.Args:
		t = copyOfArgs(t)
	}
	t = b.stored(t)
	joined, ok := b.c.pool.promote(cur, t)
	if cur != nil && cur.IsAggregation() != t.IsAggregation() {
		ok = false
	}
	if ok && (st.locked || st.prior) && cur != nil && !types.Equal(b.c.closeType(joined), b.c.closeType(cur)) {
		if st.locked {
			b.errorf(CodeLocked, s.Value.Span(), "`%s` does not fit the type `%s` of `%s`, which a decision at compile time was based on", b.name(t), b.name(cur), st.m.Name)
			return
		}
		ok = false
	}
	if !ok {
		sp := assignSpan(s)
		if isAgg {
			sp = s.Value.Span()
		}
		if isAgg && cur != nil && cur.Kind == t.Kind {
			switch t.Kind {
			case types.Hist:
				b.errorf(CodeMismatch, sp, "Different bits in a single hist unsupported").Label(st.use, "first used here")
				return
			case types.LHist:
				b.errorf(CodeMismatch, sp, "Different lhist bounds in a single map unsupported").Label(st.use, "first used here")
				return
			}
		}
		b.errorf(CodeMismatch, sp, "Type mismatch for %s: trying to assign value of type '%s' when map already has a type '%s'",
			st.m.Name, b.name(t), b.name(cur)).Label(st.use, "first used here")
		return
	}
	b.setMapValue(st, joined)
	if !isAgg {
		b.warnConversion(operandSpan(s.Value), t, st.m.Value)
	}
}

// reportMaps reports what can only be seen over all bodies.
func (c *checker) reportMaps() {
	for _, name := range c.info.Order {
		st := c.maps[name]
		if st.m.Declared && !st.use.IsValid() {
			c.diags.Warnf(CodeUnusedMap, st.m.Span, "Unused map: %s", name)
			continue
		}
		if st.m.Value == nil {
			if !st.poisoned && !st.reported && !st.m.Declared && !c.partial && !c.diags.HasErrors() {
				c.diags.Errorf(CodeUndefinedMap, st.use, "Undefined map: %s", name)
			}
			continue
		}
		if st.unset && !c.partial {
			c.diags.Warnf(CodeUnsetMap, st.read, "%s is never set: reading it gives 0", name)
		}
		c.checkMapKind(st)
	}
	// What depends on itself leaves nothing to start from, and no other rule reports it.
	for _, name := range c.info.Order {
		if st := c.maps[name]; st.use.IsValid() && (st.m.Value == nil || st.poisoned) && !c.partial && !c.diags.HasErrors() {
			c.diags.Errorf(CodeUndefinedMap, st.use, "the type of %s cannot be found: it depends on itself", name).Hint("cast what is stored in it, or store a first value of its type in `begin`")
		}
	}
	for _, b := range c.bodies {
		for _, st := range b.order {
			if st.poisoned && !c.partial && !c.diags.HasErrors() {
				c.diags.Errorf(CodeUndefinedVar, st.v.Span, "the type of %s cannot be found: it depends on itself", st.v.Name).Hint("cast its first value")
			}
		}
	}
}

// checkMapKind compares the declared kind of a map with what is stored in it.
func (c *checker) checkMapKind(st *mapState) {
	if st.m.Kind == "" {
		return
	}
	kind := c.u.MapKind(st.m.Kind)
	if kind == nil {
		return
	}
	switch {
	case st.m.Value.IsAggregation() && !kind.PerCPU:
		c.diags.Errorf(CodeMapKind, st.use, "Incompatible map types. Type from declaration: %s. Type from value/key type: percpuhash", st.m.Kind).
			Label(st.m.Span, "declared here").Hint("use `percpuhash` or `percpulruhash`")
	case !st.m.Value.IsAggregation() && kind.PerCPU:
		c.diags.Errorf(CodeMapKind, st.use, "Incompatible map types. Type from declaration: %s. Type from value/key type: hash", st.m.Kind).
			Label(st.m.Span, "declared here").Hint("use `hash` or `lruhash`")
	}
}

// copyOfArgs is the type of args in a map: a struct with the members that mean the same when the event is over. Those that lie elsewhere in its
// record are left out.
func copyOfArgs(t *types.Type) *types.Type {
	def := &types.StructDef{Name: t.Struct.Name, Size: t.Struct.Size}
	fields := sync.OnceValue(func() []types.Field {
		var out []types.Field
		for _, f := range t.Struct.Resolve() {
			if !f.DataLoc && !f.RelLoc {
				f.ArgIndex, f.Text = -1, false
				out = append(out, f)
			}
		}
		return out
	})
	def.Resolve = fields
	for _, f := range fields() {
		def.Size = max(def.Size, f.Offset+f.Type.Size)
	}
	return &types.Type{Kind: types.Struct, Size: def.Size, Struct: def}
}
