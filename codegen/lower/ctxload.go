package lower

import (
	"sort"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/lang/types"
)

// The context as an object of the script (`ctx`). Programs on functions are given registers, those of perf events registers, a period and an
// address. The verifier takes loads at constant offsets only; of a perf event's registers it takes whole words only, and what lies at the
// context's address is not what it shows there: it replaces the loads. So all loads are of words, and a perf event's context is never read by
// a helper.

// CodeContext is the code of reads of a context that no load can do.
const CodeContext = "E0729"

// The structs that a context looks like: the registers where a function was hit, and those of a perf event with more behind them.
const (
	FunctionContext = "pt_regs"
	PerfContext     = "bpf_perf_event_data"
)

// ContextStruct is the kernel's definition of a context. Where the kernel's types are not known, the registers are those of the architecture, as
// programs are given them.
func ContextStruct(source types.Source, arch, name string) *types.Type {
	if source != nil {
		if t := source.StructType(name); t != nil && t.Size > 0 {
			return t
		}
	}
	regs := &types.Type{Kind: types.Struct, Size: registersSize(arch)}
	regs.Struct = &types.StructDef{Name: FunctionContext, Size: regs.Size, Resolve: func() []types.Field { return registerFields(arch) }}
	if name == FunctionContext {
		return regs
	}
	size := regs.Size + 16
	return &types.Type{Kind: types.Struct, Size: size, Struct: &types.StructDef{Name: name, Size: size, Resolve: func() []types.Field {
		return []types.Field{
			{Name: "regs", Type: regs, ArgIndex: -1},
			{Name: "sample_period", Type: types.TUint64, Offset: regs.Size, ArgIndex: -1},
			{Name: "addr", Type: types.TUint64, Offset: regs.Size + 8, ArgIndex: -1},
		}
	}}}
}

// registerFields are the members of the struct of registers.
func registerFields(arch string) []types.Field {
	if arch == "arm64" {
		return []types.Field{
			{Name: "regs", Type: types.ArrayOf(types.TUint64, 31), ArgIndex: -1},
			{Name: "sp", Type: types.TUint64, Offset: 248, ArgIndex: -1},
			{Name: "pc", Type: types.TUint64, Offset: 256, ArgIndex: -1},
			{Name: "pstate", Type: types.TUint64, Offset: 264, ArgIndex: -1},
		}
	}
	var out []types.Field
	for name, off := range registers[arch] {
		out = append(out, types.Field{Name: name, Type: types.TUint64, Offset: off, ArgIndex: -1})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Offset < out[j].Offset })
	return out
}

// hasRegisters reports whether the program's context is registers, maybe with more behind them.
func (g *Gen) hasRegisters() bool {
	return g.Hook.Type == ebpf.Kprobe || g.Hook.Type == ebpf.PerfEvent
}

// contextSize is how many bytes of the context can be loaded.
func (g *Gen) contextSize() int {
	name := FunctionContext
	if g.Hook.Type == ebpf.PerfEvent {
		name = PerfContext
	}
	return ContextStruct(g.Target.Types, g.Target.Arch, name).Size
}

// throughContext turns a place at an address that was computed from the context into one in the context.
func (g *Gen) throughContext(p Place) Place {
	if p.Ptr.Type != ir.I64 || !g.hasRegisters() {
		return p
	}
	if base, off, ok := contextOffset(p.Ptr, addressDepth); ok && off == int64(int32(off)) {
		p.Ptr, p.Off, p.Space = base, p.Off+int32(off), types.SpaceKernel
	} else if base != nil {
		g.needMemory(Place{Ptr: base})
	}
	return p
}

// memory is src for a helper that reads it, which is no part of a perf event's context.
func (g *Gen) memory(src Place) Place {
	src = g.throughContext(src)
	g.needMemory(src)
	return src
}

// addressDepth is how many operations back an address is followed: values are shared, so that what is looked at doubles with each.
const addressDepth = 8

// contextOffset finds the context in an address: base is nil when it is not there, ok false when the distance is not constant.
func contextOffset(v *ir.Value, depth int) (base *ir.Value, off int64, ok bool) {
	switch {
	case v.Type == ir.Ctx:
		return v, 0, true
	case depth == 0:
	case v.Op == ir.OpPtrInt:
		return contextOffset(v.Args[0], depth-1)
	case v.Op == ir.OpAdd:
		for i, x := range v.Args {
			if base, off, ok = contextOffset(x, depth-1); base != nil {
				n, known := constant(v.Args[1-i], depth-1)
				return base, off + n, ok && known
			}
		}
	}
	return nil, 0, false
}

// constant computes what pointer arithmetic makes of constants.
func constant(v *ir.Value, depth int) (int64, bool) {
	if v.Op == ir.OpConst {
		return v.Imm, true
	}
	if depth == 0 || v.Op != ir.OpMul && v.Op != ir.OpAdd && v.Op != ir.OpNeg {
		return 0, false
	}
	var args [2]int64
	for i, x := range v.Args {
		n, ok := constant(x, depth-1)
		if !ok {
			return 0, false
		}
		args[i] = n
	}
	switch v.Op {
	case ir.OpMul:
		return args[0] * args[1], true
	case ir.OpAdd:
		return args[0] + args[1], true
	}
	return -args[0], true
}

// loadContext loads an integer from the context; nil when p is not there, or is behind registers that can be read as memory.
func (g *Gen) loadContext(p Place, size int, signed bool) *ir.Value {
	if p.Ptr.Type != ir.Ctx || !g.hasRegisters() {
		return nil
	}
	off := int(p.Off)
	if off < 0 || off+size > g.contextSize() {
		if g.needMemory(p) {
			return nil
		}
		return g.B.Const(0)
	}
	first, last := off&^7, (off+size-1)&^7
	v := g.B.Load(p.Ptr, first, 8, false)
	if sh := 8 * int64(off-first); sh > 0 {
		v = g.B.OpImm(ir.OpLShr, v, sh)
		if first != last {
			v = g.B.Or(v, g.B.OpImm(ir.OpShl, g.B.Load(p.Ptr, last, 8, false), 64-sh))
		}
	}
	return g.B.Ext(v, size*8, signed)
}

// copyContext copies from the context by loads; false when p is not there, or a helper does it better.
func (g *Gen) copyContext(dst, src Place) bool {
	if src.Ptr.Type != ir.Ctx || !g.hasRegisters() || g.Hook.Type == ebpf.Kprobe && (dst.Size > 64 || int(src.Off)+dst.Size > g.contextSize()) {
		return false
	}
	for off, size := 0, 8; off < dst.Size; off += size {
		for size > dst.Size-off {
			size /= 2
		}
		g.B.Store(dst.Ptr, int(dst.Off)+off, size, g.loadContext(src.At(off, size), size, false))
	}
	return true
}

// strayContext reports a pointer to what only the context of a perf event is, that was kept where it is an address like others.
func (g *Gen) strayContext(o Operand) bool {
	e := o.Type.Elem
	if e == nil || e.Kind != types.Struct || e.Struct.Name != PerfContext || o.V.Op == ir.OpConst {
		return false
	}
	if base, _, _ := contextOffset(o.V, addressDepth); base != nil {
		return false
	}
	g.u.Diags.Errorf(CodeContext, g.B.Span, "only `ctx` itself gives the members of `%s`", e).
		Hint("keep the members that you need instead of the pointer: the kernel shows no memory at its address")
	return true
}

// needMemory reports a read of a perf event's context that is none at a constant offset. It gives true where p can be read as memory.
func (g *Gen) needMemory(p Place) bool {
	if p.Ptr.Type != ir.Ctx || g.Hook.Type != ebpf.PerfEvent {
		return true
	}
	if !g.u.Diags.HasErrors() {
		g.u.Diags.Errorf(CodeContext, g.B.Span, "the context of a perf event can only be read by its members").
			Hint("write `ctx->regs.ip`, `ctx->sample_period` or `ctx->addr`: the kernel shows no memory at its address")
	}
	return false
}
