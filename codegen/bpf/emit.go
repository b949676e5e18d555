package bpf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
)

// StackLimit is the kernel's limit for the frames of a chain of calls, in bytes.
const StackLimit = 512

// maxFuncs is the kernel's limit for the functions of a program, the entry included (BPF_MAX_SUBPROGS).
const maxFuncs = 256

// Options say what the kernel can do and what the maps are called. The zero value is the least: Linux 5.10, no scratch memory.
type Options struct {
	AtomicFetch bool // fetching atomics (5.12)
	CPUv4       bool // signed division, sign-extending moves and loads, long jumps (6.6)
	StackVarOff bool // variable offsets into the stack frame (5.12)

	Scratch Scratch
	// KfuncID gives the BTF ID of a kernel function; nil when there are none.
	KfuncID func(name string) (int64, error)
}

func (o *Options) kfunc(name string) (int64, error) {
	if o.KfuncID == nil {
		return 0, fmt.Errorf("no kernel functions on this target (%s)", name)
	}
	return o.KfuncID(name)
}

// Code is an emitted program.
type Code struct {
	// Insns holds the entry function and behind it those that it calls. Map loads carry the map's name as their reference.
	Insns asm.Instructions
	Spans []object.SpanAt
	Stats object.Stats
	// ScratchBytes is the number of bytes that each value of the scratch map must have, ScratchChunks the number of values per
	// level: the map needs ScratchChunks * ScratchLevels entries. Both are 0 when the program uses no scratch memory.
	ScratchBytes, ScratchChunks int
}

// Emit compiles entry and the functions of the module that it refers to. The module is not changed. Errors of type *Error carry a span.
func Emit(m *ir.Module, entry *ir.Func, opts Options) (*Code, error) {
	if n := len(reachable(m, entry).Funcs); n > maxFuncs {
		return nil, &Error{Msg: fmt.Sprintf("%s has %d functions, which loops become, the kernel allows %d", entry.Name, n, maxFuncs)}
	}
	var err error
	limits := stackLimits{}
	for try := 0; try < 8; try++ {
		var code *Code
		var over int
		code, over, err = emitOnce(m, entry, &opts, limits)
		if err != nil {
			return nil, err
		}
		if over <= 0 {
			return code, nil
		}
		limits.reserve += over
		err = &Error{Msg: fmt.Sprintf("%s needs %d bytes of stack, %d more than the kernel allows", entry.Name, code.Stats.StackBytes, over)}
	}
	return nil, err
}

// stackLimits is what the previous attempt taught: bytes of the frame to leave to spills.
type stackLimits struct{ reserve int }

func emitOnce(m *ir.Module, entry *ir.Func, opts *Options, limits stackLimits) (*Code, int, error) {
	sub := reachable(m, entry).Clone()
	for _, f := range sub.Funcs {
		f.DropUnreachable()
		f.DropDead()
		legalSlots(f)
	}
	need, err := placeSlots(sub, opts, limits)
	if err != nil {
		return nil, 0, err
	}
	code := &Code{ScratchBytes: need.bytes, ScratchChunks: need.chunks}
	frames := map[*ir.Func]int{}
	infos := len(sub.Funcs) > 1
	var enc encoder
	for _, f := range sub.Funcs {
		legalize(f, opts)
		mf, err := selectFunc(f, opts)
		if err != nil {
			return nil, 0, err
		}
		if err := allocate(mf); err != nil {
			return nil, 0, err
		}
		mf.frame = frameSize(f)
		layout(mf)
		if err := enc.function(mf, opts); err != nil {
			return nil, 0, err
		}
		frames[f] = mf.frame + 8*mf.spills
		code.Stats.Spills += mf.reloads
		if infos {
			enc.describe(f)
		}
	}
	code.Insns, code.Spans = enc.insns, enc.spans
	code.Stats.Insns = int(enc.raw)
	code.Stats.ScratchBytes = need.used
	code.Stats.StackBytes = deepest(sub.Funcs[0], frames, 0)
	return code, code.Stats.StackBytes - StackLimit, nil
}

// reachable returns a module of entry and all functions that it refers to, entry first.
func reachable(m *ir.Module, entry *ir.Func) *ir.Module {
	seen := map[*ir.Func]bool{entry: true}
	out := &ir.Module{Funcs: []*ir.Func{entry}}
	for i := 0; i < len(out.Funcs); i++ {
		for _, b := range out.Funcs[i].Blocks {
			for _, v := range b.Values {
				if g, ok := v.Aux.(*ir.Func); ok && !seen[g] {
					seen[g] = true
					out.Funcs = append(out.Funcs, g)
				}
			}
		}
	}
	return out
}

// callees returns the functions that f refers to.
func callees(f *ir.Func) []*ir.Func {
	var out []*ir.Func
	for _, b := range f.Blocks {
		for _, v := range b.Values {
			if g, ok := v.Aux.(*ir.Func); ok {
				out = append(out, g)
			}
		}
	}
	return out
}

// deepest returns the stack that f and its deepest chain of callees need. The kernel rounds each frame of a chain up.
func deepest(f *ir.Func, frames map[*ir.Func]int, depth int) int {
	most := 0
	if depth < 8 {
		for _, g := range callees(f) {
			most = max(most, deepest(g, frames, depth+1))
		}
	}
	own := frames[f]
	if most > 0 || depth > 0 {
		own = (max(own, 1) + 31) / 32 * 32
	}
	return own + most
}

// describe tags the function's first instruction with a minimal prototype, which the kernel wants for callbacks.
func (e *encoder) describe(f *ir.Func) {
	i64 := &btf.Int{Name: "long long", Size: 8, Encoding: btf.Signed}
	proto := &btf.FuncProto{Return: i64}
	for i := range f.Blocks[0].Params {
		proto.Params = append(proto.Params, btf.FuncParam{Name: fmt.Sprintf("a%d", i), Type: i64})
	}
	linkage := btf.StaticFunc
	if f.Kind == ir.Entry {
		linkage = btf.GlobalFunc
		proto.Params = []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: &btf.Void{}}}}
	}
	if f.Kind == ir.Global || alone(f) {
		linkage = btf.GlobalFunc
	}
	first := e.starts[len(e.starts)-1]
	e.insns[first] = btf.WithFuncMetadata(e.insns[first], &btf.Func{Name: e.name(f), Type: proto, Linkage: linkage})
}

// alone tells whether a subprogram is given integers only. The verifier checks such a function once when it is global, and again at each call
// when it is static.
func alone(f *ir.Func) bool {
	return f.Kind == ir.Subprog && !slices.ContainsFunc(f.Blocks[0].Params, func(p *ir.Value) bool { return p.Type != ir.I64 })
}

// symbol is the function's name as BTF and the assembler accept it.
func symbol(f *ir.Func) string {
	out := []byte(f.Name)
	for i, c := range out {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if digit := c >= '0' && c <= '9' && i > 0; !letter && !digit {
			out[i] = '_'
		}
	}
	if len(out) == 0 {
		return "f"
	}
	return string(out)
}

// AsError returns the error as one with a span, if it is one.
func AsError(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}
