package lower

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/types"
)

// Load gives the value of type t at a place: a scalar is read now, anything else stays where it is.
func (g *Gen) Load(p Place, t *types.Type) Operand {
	if t.IsScalar() {
		if t.Kind == types.Pointer {
			return Operand{Type: t, V: g.loadPtr(p, t)}
		}
		return Scalar(t, g.LoadScalar(p, t))
	}
	p.Size = t.Size
	return Operand{Type: t, P: p}
}

// LoadScalar reads a scalar of type t.
func (g *Gen) LoadScalar(p Place, t *types.Type) *ir.Value {
	size := t.Size
	if size == 0 {
		return g.B.Const(0)
	}
	signed := t.Signed && t.Kind != types.Pointer
	p = g.throughContext(p)
	if v := g.loadContext(p, size, signed); v != nil {
		return v
	}
	if g.plainLoad(p, size) {
		return g.B.Load(p.Ptr, int(p.Off), size, signed)
	}
	if t := p.Ptr.Type; (t == ir.BTF || t == ir.BTFNil) && p.Base != nil {
		switch res, _ := walk(p.Base, int(p.Off), size); {
		case res == walkRefused:
		case t == ir.BTFNil:
			v := g.B.NewVar("load", ir.I64)
			g.B.Set(v, g.B.Const(0))
			g.B.IfNonNil(p.Ptr, func(q *ir.Value) { g.B.Set(v, g.loadBTF(q, p, res, size, signed)) }, nil)
			return g.B.Get(v)
		default:
			return g.loadBTF(p.Ptr, p, res, size, signed)
		}
	}
	tmp := g.Temp("read", 8)
	g.probeRead(tmp.At(0, size), p)
	return g.B.Load(tmp.Ptr, int(tmp.Off), size, signed)
}

// plainLoad reports whether the verifier accepts a plain load of size bytes at p.
func (g *Gen) plainLoad(p Place, size int) bool {
	switch p.Ptr.Type {
	case ir.Stack, ir.MapVal, ir.Ring:
		return true
	case ir.Ctx:
		if g.Hook.Type == ebpf.TracePoint && p.Off < 8 { // the common fields are not there
			return false
		}
		return int(p.Off)%size == 0 && !g.hasRegisters()
	case ir.BTF:
		if p.Base == nil {
			return false
		}
		res, _ := walk(p.Base, int(p.Off), size)
		return res == walkScalar
	}
	return false
}

// loadBTF loads an integer through a BTF pointer that is not nil. What the verifier takes for a pointer, as in a union, becomes one first.
func (g *Gen) loadBTF(q *ir.Value, p Place, res walkResult, size int, signed bool) *ir.Value {
	if res == walkScalar {
		return g.B.Load(q, int(p.Off), size, signed)
	}
	return g.B.PtrInt(g.B.LoadPtr(q, int(p.Off), ir.BTF))
}

// loadPtr reads a pointer; from a BTF object it stays a BTF pointer where the verifier sees one.
func (g *Gen) loadPtr(p Place, t *types.Type) *ir.Value {
	if p.Ptr.Type == ir.BTFNil && p.Base != nil {
		return g.loadNilPtr(p, t)
	}
	if p.Ptr.Type != ir.BTF || p.Base == nil {
		return g.LoadScalar(p, t)
	}
	res, to := walk(p.Base, int(p.Off), 8)
	if res == walkPtr && t.Elem != nil && t.Elem.Kind == types.Struct && t.Space != types.SpaceUser && to.Name != "" && to.Name == t.Elem.Struct.Name {
		return g.B.LoadPtr(p.Ptr, int(p.Off), ir.BTF)
	}
	if res == walkPtr { // a BTF pointer to the verifier, an address to us
		return g.B.PtrInt(g.B.LoadPtr(p.Ptr, int(p.Off), ir.BTF))
	}
	return g.LoadScalar(p, t)
}

// loadNilPtr is loadPtr through a pointer that may be nil; the result is an address.
func (g *Gen) loadNilPtr(p Place, t *types.Type) *ir.Value {
	v := g.B.NewVar("load", ir.I64)
	g.B.Set(v, g.B.Const(0))
	g.B.IfNonNil(p.Ptr, func(q *ir.Value) {
		p.Ptr = q
		g.B.Set(v, g.asInt(g.loadPtr(p, t)))
	}, nil)
	return g.B.Get(v)
}

// kernelStruct gives the layout that the verifier has for a struct; nil when the target's types do not have it.
func (g *Gen) kernelStruct(s *types.StructDef) *types.StructDef {
	if s == nil || s.Name == "" || g.Target.Types == nil {
		return nil
	}
	if t := g.Target.Types.StructType(s.Name); t != nil && t.Struct != nil && t.Struct.Size == s.Size {
		return t.Struct
	}
	return nil
}

// Address gives the address of a place as an integer.
func (g *Gen) Address(p Place) *ir.Value {
	v := g.asInt(p.Ptr)
	if p.Off != 0 {
		v = g.B.AddImm(v, int64(p.Off))
	}
	return v
}

// pointer gives the address of the program's own memory for a helper.
func (g *Gen) pointer(p Place) *ir.Value { return g.B.PtrAddImm(p.Ptr, int64(p.Off)) }

// Pointer gives the address of the program's own memory, as an argument for helpers.
func (g *Gen) Pointer(p Place) *ir.Value { return g.pointer(p) }

// ReadMem copies dst.Size bytes from src, by plain loads where that is possible.
func (g *Gen) ReadMem(dst, src Place) {
	if dst.Size <= 0 {
		return
	}
	if src.IsPlain() {
		g.B.Copy(dst.Ptr, int(dst.Off), src.Ptr, int(src.Off), dst.Size)
		return
	}
	if src = g.throughContext(src); g.copyContext(dst, src) {
		return
	}
	if t := src.Ptr.Type; (t == ir.BTF || t == ir.Ctx) && dst.Size <= 64 && g.copyByLoads(dst, src) {
		return
	}
	g.probeRead(dst, src)
}

// copyByLoads copies with loads that the verifier accepts; false (and nothing emitted) when there is one that it would refuse.
func (g *Gen) copyByLoads(dst, src Place) bool {
	var sizes []int
	for off := 0; off < dst.Size; {
		size := 8
		for size > dst.Size-off || size > 1 && !g.plainLoad(src.At(off, size), size) {
			size /= 2
		}
		if !g.plainLoad(src.At(off, size), size) {
			return false
		}
		sizes = append(sizes, size)
		off += size
	}
	if len(sizes) > 16 {
		return false
	}
	off := 0
	for _, size := range sizes {
		v := g.B.Load(src.Ptr, int(src.Off)+off, size, false)
		g.B.Store(dst.Ptr, int(dst.Off)+off, size, v)
		off += size
	}
	return true
}

// probeRead copies dst.Size bytes from an address by a helper, which zeroes dst when it fails.
func (g *Gen) probeRead(dst, src Place) {
	src = g.memory(src)
	fn, name := g.readHelper(g.spaceOf(src), false)
	rc := g.B.Helper(fn, g.pointer(dst), g.B.Const(int64(dst.Size)), g.Address(src))
	g.checkHelper(rc, name, object.CounterReadFail)
}

// spaceOf gives the address space of memory that is not the program's own.
func (g *Gen) spaceOf(p Place) types.Space {
	switch p.Ptr.Type {
	case ir.BTF, ir.BTFNil, ir.Ctx, ir.Stack, ir.MapVal, ir.Ring:
		return types.SpaceKernel
	}
	if p.Space == types.SpaceNone && len(g.Body.Points) > 0 {
		return g.Body.Points[0].Space
	}
	return p.Space
}

// readHelper gives the helper that reads an address space. Where the space is unknown, the old helper finds out by the address.
func (g *Gen) readHelper(s types.Space, str bool) (asm.BuiltinFunc, string) {
	switch {
	case s == types.SpaceUser && str:
		return asm.FnProbeReadUserStr, "probe_read_user_str"
	case s == types.SpaceUser:
		return asm.FnProbeReadUser, "probe_read_user"
	case s == types.SpaceNone && str:
		return asm.FnProbeReadStr, "probe_read_str"
	case s == types.SpaceNone:
		return asm.FnProbeRead, "probe_read"
	case str:
		return asm.FnProbeReadKernelStr, "probe_read_kernel_str"
	}
	return asm.FnProbeReadKernel, "probe_read_kernel"
}

// ReadStr reads a NUL-terminated string of at most limit-1 bytes from an address into dst, which takes limit bytes. It gives the
// number of bytes without the NUL, 0 when the read failed. What follows the NUL in dst is undefined.
func (g *Gen) ReadStr(dst Place, limit int, src Place) *ir.Value {
	n := g.readStr(dst, g.B.Const(int64(limit)), src)
	// n counts the NUL and is never 0 where the read went well.
	return g.strLen(n, limit)
}

// ReadStrDyn is ReadStr with a limit that is computed, at most max.
func (g *Gen) ReadStrDyn(dst Place, limit *ir.Value, max int, src Place) *ir.Value {
	return g.strLen(g.readStr(dst, limit, src), max)
}

func (g *Gen) readStr(dst Place, limit *ir.Value, src Place) *ir.Value {
	src = g.memory(src)
	fn, name := g.readHelper(g.spaceOf(src), true)
	rc := g.B.Helper(fn, g.pointer(dst), limit, g.Address(src))
	v := g.B.NewVar("len", ir.I64)
	g.B.Set(v, rc)
	bad, end := g.B.NewBlock("failed"), g.B.NewBlock("read")
	bad.Cold = true
	g.B.Branch(ir.OpSLe, rc, g.B.Const(0), bad, end)
	g.B.Seal(bad)
	g.B.SetBlock(bad)
	g.B.Cold(func() {
		g.scoped(func() { g.helperFailed(rc, name, object.CounterReadFail) })
	})
	g.B.Store(dst.Ptr, int(dst.Off), 1, g.B.Const(0))
	g.B.Set(v, g.B.Const(1))
	g.B.Jump(end)
	g.B.Seal(end)
	g.B.SetBlock(end)
	return g.B.Get(v)
}

// strLen turns the result of a string read, which counts the NUL, into a length that the verifier knows to be below limit.
func (g *Gen) strLen(n *ir.Value, limit int) *ir.Value {
	return g.B.Bound(g.B.AddImm(n, -1), int64(limit-1))
}

// checkHelper counts a failure of a helper (a result below 0), and reports it with -k.
func (g *Gen) checkHelper(rc *ir.Value, name string, counter int) {
	g.B.Unless(g.B.CmpImm(ir.OpSGe, rc, 0), func() { g.scoped(func() { g.helperFailed(rc, name, counter) }) })
}

func (g *Gen) helperFailed(rc *ir.Value, name string, counter int) {
	g.Count(counter)
	if counter == object.CounterMapFull {
		g.failed(rc, name)
	} else if g.u.Opts.HelperErrors {
		g.helperEvent(rc, name)
	}
}

// failed reports a failure: each time with -k, else once.
func (g *Gen) failed(rc *ir.Value, name string) {
	if g.u.Opts.HelperErrors {
		g.helperEvent(rc, name)
	} else {
		g.noteFailure(rc, name)
	}
}

func (g *Gen) helperEvent(rc *ir.Value, name string) {
	g.EventValues(&object.Event{Kind: object.EvHelperError, Text: name}, Scalar(types.TInt64, rc))
}

// noteFailure keeps the last error of this place in the script where user space finds it: one store, which is all that a script pays for a
// failure that nobody asked to see each time.
func (g *Gen) noteFailure(rc *ir.Value, name string) {
	if g.fr.outline != nil {
		g.fr.outline.note(g, rc, name)
		return
	}
	place := object.Failure{Helper: name, Span: g.B.Span}
	off, ok := g.u.failures[place]
	if !ok { // else the same place, compiled for another attach point
		off = g.u.global(8, 8)
		g.u.failures[place] = off
		place.Off = off
		g.u.Object.Failures = append(g.u.Object.Failures, place)
	}
	g.B.Store(g.B.MapValAddr(object.GlobalsMap, off), 0, 8, rc)
}

// CheckHelper counts a failure of a helper (a result below 0) under a counter of object, and reports it with -k.
func (g *Gen) CheckHelper(rc *ir.Value, name string, counter int) { g.checkHelper(rc, name, counter) }

// Count adds one to a counter of this program (object.Counter*).
func (g *Gen) Count(counter int) {
	g.u.counters()
	g.B.AtomicAdd(g.B.MapValAddr(CountersMap, 8*(g.prog.Index*object.CountersPerProgram+counter)), 0, 8, g.B.Const(1))
}

// Task gives the current task as a BTF pointer, nil when the target has no such helper or no BTF.
func (g *Gen) Task() (*ir.Value, *types.Type) {
	if g.Target.Types == nil {
		return nil, nil
	}
	t := g.Target.Types.StructType("task_struct")
	if t == nil || !g.Target.Features.Has(target.TaskBTF) {
		return nil, nil
	}
	return g.Cached("task", func() *ir.Value { return g.B.Helper(asm.FnGetCurrentTaskBtf) }), t
}

// TaskMember gives a member of the current task as a place to read; false when the target's types do not have it.
func (g *Gen) TaskMember(name string) (Operand, bool) {
	if g.Target.Types == nil {
		return Operand{}, false
	}
	t := g.Target.Types.StructType("task_struct")
	if t == nil {
		return Operand{}, false
	}
	f, ok := t.Struct.Field(name)
	if !ok || f.BitSize > 0 {
		return Operand{}, false
	}
	task, _ := g.Task()
	p := Place{Ptr: task, Size: t.Size, Space: types.SpaceKernel, Base: t.Struct}
	if task == nil {
		p.Ptr = g.Cached("rawtask", func() *ir.Value { return g.B.Helper(asm.FnGetCurrentTask) })
		p.Base = nil
	}
	return g.Load(p.At(f.Offset, f.Type.Size), f.Type), true
}

// HelperError reports a failure of a helper (a result below 0): the first one of this place in the script, with -k each.
func (g *Gen) HelperError(rc *ir.Value, name string) {
	g.B.Unless(g.B.CmpImm(ir.OpSGe, rc, 0), func() { g.reportError(rc, name) })
}

// DeleteError reports in the same way that a key was not there: rc is what Delete gave, of which 32 bits count (see Update).
func (g *Gen) DeleteError(rc *ir.Value) {
	g.B.Unless(g.B.CmpImm(ir.OpEq, rc, 0), func() { g.reportError(rc, "map_delete_elem") })
}

func (g *Gen) reportError(rc *ir.Value, name string) {
	g.scoped(func() {
		if g.u.Opts.HelperErrors {
			g.helperEvent(rc, name)
		} else {
			g.noteFailure(rc, name)
		}
	})
}

// missingKey reports a key that a map does not have, with -k.
func (g *Gen) missingKey() {
	if g.u.Opts.HelperErrors {
		g.scoped(func() { g.helperEvent(g.B.Const(0), "map_lookup_elem") })
	}
}

// ReadDyn copies n bytes, bounded by dst.Size for the verifier, from memory of any kind.
func (g *Gen) ReadDyn(dst Place, n *ir.Value, src Place) {
	src = g.memory(src)
	fn, name := g.readHelper(g.spaceOf(src), false)
	rc := g.B.Helper(fn, g.pointer(dst), n, g.Address(src))
	g.checkHelper(rc, name, object.CounterReadFail)
}

// Local makes n bytes readable by plain loads at any offset, copying them where they are not in the program's own memory.
func (g *Gen) Local(p Place, n int) Place {
	if p.IsPlain() {
		return p
	}
	t := g.Temp("local", max(n, 1))
	t.Size = n
	g.ReadMem(t, p)
	return t
}

// Reserve is Dest for a builtin that evaluates arguments before it writes its result.
func (g *Gen) Reserve(t *types.Type) Place {
	if d := g.want.dest; d != nil && d.Size >= t.Size {
		g.want.dest = nil
		return *d
	}
	return g.TempOf(t)
}

// BTFPointer gives an operand (a BTF pointer, or a struct inside of what one points to) as a BTF pointer for helpers that want one.
func (g *Gen) BTFPointer(o Operand) (*ir.Value, bool) {
	if o.V != nil {
		return o.V, o.V.Type == ir.BTF
	}
	if o.P.Ptr.Type != ir.BTF {
		return nil, false
	}
	return g.B.PtrAddImm(o.P.Ptr, int64(o.P.Off)), true
}

// TAIOffset gives TAI minus the clock that nanoseconds come from, as the runtime measured it.
func (g *Gen) TAIOffset() *ir.Value {
	g.u.global(0, 1)
	return g.B.Load(g.B.MapValAddr(object.GlobalsMap, object.GlobalsTAI), 0, 8, false)
}

// argsSize is the size of args as a whole.
func argsSize(t *types.Type) int {
	size := t.Struct.Size
	for _, f := range t.Struct.Resolve() {
		size = max(size, f.Offset+f.Type.Size)
	}
	return size
}

// BuildArgs makes the whole of args in memory, member by member.
func (g *Gen) BuildArgs(t *types.Type) Operand {
	size := argsSize(t)
	p := g.Reserve(&types.Type{Kind: types.Struct, Size: size})
	p.Size = size
	g.zero(p)
	for _, f := range t.Struct.Resolve() {
		g.StoreValue(p.At(f.Offset, f.Type.Size), f.Type, g.Hook.Context.Member(g, f))
	}
	return Operand{Type: t, P: p}
}
