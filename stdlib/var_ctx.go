package stdlib

import (
	"sort"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// ctxStructs are the structs that `ctx` points to: the registers where a function was hit, and those beside the count of a perf event.
var ctxStructs = map[string]string{
	"kprobe": "pt_regs", "kretprobe": "pt_regs", "uprobe": "pt_regs", "uretprobe": "pt_regs", "usdt": "pt_regs",
	"profile": "bpf_perf_event_data", "interval": "bpf_perf_event_data", "software": "bpf_perf_event_data", "hardware": "bpf_perf_event_data",
	"watchpoint": "bpf_perf_event_data",
}

func ctxType(u *check.VarUse) *types.Type {
	for _, p := range u.Body.Points {
		switch kind := p.Kind.Name(); {
		case kind == "iter" && p.Args != nil:
			return p.Args
		case ctxStructs[kind] == "":
			return unavailable(u, p, ctxHint(p))
		}
	}
	return types.PointerTo(ctxStruct(u.Env, ctxStructs[u.Body.Points[0].Kind.Name()]), types.SpaceKernel, types.ProvCtx)
}

// ctxHint says what has the values in a probe without `ctx`.
func ctxHint(p *check.Point) string {
	switch {
	case p.Args != nil:
		return "use `args`, whose members have names and types"
	case p.NumArgs >= 0 && p.Kind.Name() == "rawtracepoint":
		return "use `arg0`, `arg1` ..."
	}
	return "this program is given nothing by the kernel"
}

// ctxStruct is the kernel's definition of a context. Where the kernel's types are not known, the registers are those of the architecture, as
// programs are given them.
func ctxStruct(env *check.Env, name string) *types.Type {
	if env.Types != nil {
		if t := env.Types.StructType(name); t != nil && t.Size > 0 {
			return t
		}
	}
	regs := &types.Type{Kind: types.Struct, Size: lower.RegistersSize(env.Arch)}
	regs.Struct = &types.StructDef{Name: "pt_regs", Size: regs.Size, Resolve: func() []types.Field { return registerFields(env.Arch) }}
	if name == "pt_regs" {
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
	for _, name := range lower.RegisterNames(arch) {
		off, _ := lower.RegisterOffset(arch, name)
		out = append(out, types.Field{Name: name, Type: types.TUint64, Offset: off, ArgIndex: -1})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Offset < out[j].Offset })
	return out
}

// lowerCtx gives the context of iterators as its members are, that of others as the pointer that it is.
func lowerCtx(g *lower.Gen, u *check.VarUse) lower.Operand {
	t := g.Type(u.Node)
	if t.Kind == types.Args {
		return lowerArgs(g, u)
	}
	return lower.Operand{Type: t, V: g.Ctx()}
}
