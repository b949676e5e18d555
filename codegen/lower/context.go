package lower

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/types"
)

// NoContext is the context of programs whose context holds nothing for scripts (begin, end, interval).
type NoContext struct{}

// Member implements Context.
func (NoContext) Member(g *Gen, f types.Field) Operand { return g.zeroOf(f.Type) }

// Arg implements Context.
func (NoContext) Arg(g *Gen, _ int, t *types.Type) Operand { return g.zeroOf(t) }

// Retval implements Context.
func (NoContext) Retval(g *Gen, t *types.Type) Operand { return g.zeroOf(t) }

// Record implements Context.
func (NoContext) Record(*Gen) (Place, bool) { return Place{}, false }

// Reg implements Context.
func (NoContext) Reg(*Gen, string) (*ir.Value, bool) { return nil, false }

// IP implements Context.
func (NoContext) IP(g *Gen) *ir.Value { return g.B.Const(0) }

// TraceRecord is the context of perf tracepoints: the trace record itself. Members have their offsets of the format file; __data_loc
// members have DataLoc set and the type of the data.
type TraceRecord struct {
	NoContext
	// Size of the record's fixed part, for args as a whole; 0 when it is not known.
	Size int
}

// Member implements Context.
func (TraceRecord) Member(g *Gen, f types.Field) Operand {
	return g.member(Place{Ptr: g.Ctx(), Size: f.Offset + f.Type.Size, Space: types.SpaceKernel}, f, f.Type)
}

// Record implements Context.
func (r TraceRecord) Record(g *Gen) (Place, bool) {
	return Place{Ptr: g.Ctx(), Size: r.Size, Space: types.SpaceKernel}, r.Size > 0
}

// ArgArray is the context of raw tracepoints, tp_btf, fentry, fexit and LSM: an array of 64-bit arguments, addressed by Field.ArgIndex.
// Arguments whose type is a pointer with provenance ProvBTF are BTF pointers to the verifier.
type ArgArray struct {
	NoContext
	// Args is the number of arguments; the return value of fexit lies behind them.
	Args int
	// Nilable: BTF arguments may be nil and must be checked before use (tp_btf).
	Nilable bool
}

// Member implements Context.
func (a ArgArray) Member(g *Gen, f types.Field) Operand { return a.word(g, f.ArgIndex, f.Type) }

// Arg implements Context.
func (a ArgArray) Arg(g *Gen, n int, t *types.Type) Operand { return a.word(g, n, t) }

// Retval implements Context.
func (a ArgArray) Retval(g *Gen, t *types.Type) Operand { return a.word(g, a.Args, t) }

func (a ArgArray) word(g *Gen, n int, t *types.Type) Operand {
	switch {
	case !t.IsScalar(): // a struct passed by value
		return Operand{Type: t, P: Place{Ptr: g.Ctx(), Off: int32(8 * n), Size: t.Size, Space: types.SpaceKernel}}
	case t.Kind == types.Pointer && t.Prov == types.ProvBTF && t.Elem != nil && t.Elem.Kind == types.Struct:
		pt := ir.BTF
		if a.Nilable {
			pt = ir.BTFNil
		}
		return Operand{Type: t, V: g.B.LoadPtr(g.Ctx(), 8*n, pt)}
	}
	v := g.B.Load(g.Ctx(), 8*n, 8, false)
	if t.Kind != types.Pointer && t.Size < 8 && t.Size > 0 {
		v = g.B.Ext(v, t.Size*8, t.Signed)
	}
	return Scalar(t, v)
}

// Registers is the context of kprobes, uprobes, profile and other perf events: the registers (struct pt_regs, or struct bpf_perf_event_data,
// which starts with them).
type Registers struct {
	NoContext
	// Shift moves argN: the first argument of the function is in register argument Shift (0 everywhere but in odd ABIs).
	Shift int
}

// register offsets in struct pt_regs.
var registers = map[string]map[string]int{
	"amd64": {
		"r15": 0, "r14": 8, "r13": 16, "r12": 24, "bp": 32, "bx": 40, "r11": 48, "r10": 56, "r9": 64, "r8": 72, "ax": 80, "cx": 88,
		"dx": 96, "si": 104, "di": 112, "orig_ax": 120, "ip": 128, "cs": 136, "flags": 144, "sp": 152, "ss": 160,
	},
	"arm64": arm64Registers(),
}

func arm64Registers() map[string]int {
	m := map[string]int{"sp": 248, "pc": 256, "pstate": 264, "lr": 240}
	for i := range 31 {
		m["r"+itoa(i)] = 8 * i
	}
	return m
}

func itoa(i int) string {
	if i >= 10 {
		return string(rune('0'+i/10)) + string(rune('0'+i%10))
	}
	return string(rune('0' + i))
}

var argRegisters = map[string][]string{
	"amd64": {"di", "si", "dx", "cx", "r8", "r9"},
	"arm64": {"r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7"},
}

// Reg implements Context.
func (Registers) Reg(g *Gen, name string) (*ir.Value, bool) {
	off, ok := registers[g.Target.Arch][name]
	if !ok {
		return nil, false
	}
	return g.Cached("reg "+name, func() *ir.Value { return g.B.Load(g.Ctx(), off, 8, false) }), true
}

// RegisterNames lists the registers of an architecture, for messages.
func RegisterNames(arch string) []string {
	var out []string
	for n := range registers[arch] {
		out = append(out, n)
	}
	return out
}

// registersSize is the size of the struct of registers that programs are given, in bytes.
func registersSize(arch string) int {
	size := 0
	for _, off := range registers[arch] {
		size = max(size, off+8)
	}
	return size
}

func (r Registers) reg(g *Gen, name string) *ir.Value {
	v, ok := r.Reg(g, name)
	if !ok {
		return g.B.Const(0)
	}
	return v
}

// Arg implements Context: arguments in registers, then those on the stack, as they are at the function's first instruction.
func (r Registers) Arg(g *Gen, n int, t *types.Type) Operand {
	n += r.Shift
	regs := argRegisters[g.Target.Arch]
	var v *ir.Value
	if n < len(regs) {
		v = r.reg(g, regs[n])
	} else {
		v = g.StackWord(r.reg(g, "sp"), n-len(regs))
	}
	return r.typed(g, v, t)
}

// StackWord reads a word behind the return address, which lies on the stack where calls put it there, at a function's first instruction.
func (g *Gen) StackWord(sp *ir.Value, n int) *ir.Value {
	off := 8 * n
	if g.Target.Arch == "amd64" {
		off += 8 // the return address
	}
	return g.LoadScalar(Place{Ptr: sp, Off: int32(off), Size: 8, Space: g.Body.Points[0].Space}, types.TUint64)
}

func (r Registers) typed(g *Gen, v *ir.Value, t *types.Type) Operand {
	if !t.IsScalar() {
		return Operand{Type: t, P: Place{Ptr: v, Size: t.Size, Space: g.Body.Points[0].Space}}
	}
	if t.Kind != types.Pointer && t.Size < 8 && t.Size > 0 {
		v = g.B.Ext(v, t.Size*8, t.Signed)
	}
	return Scalar(t, v)
}

// Member implements Context: parameters of a function with known types.
func (r Registers) Member(g *Gen, f types.Field) Operand { return r.Arg(g, f.ArgIndex, f.Type) }

// Retval implements Context.
func (r Registers) Retval(g *Gen, t *types.Type) Operand {
	name := "ax"
	if g.Target.Arch == "arm64" {
		name = "r0"
	}
	return r.typed(g, r.reg(g, name), t)
}

// IP implements Context.
func (r Registers) IP(g *Gen) *ir.Value {
	if g.Hook.Type == ebpf.Kprobe && g.Target.Features.Has(target.GetFuncIP) {
		return g.B.Helper(asm.FnGetFuncIp, g.Ctx())
	}
	if g.Target.Arch == "arm64" {
		return r.reg(g, "pc")
	}
	return r.reg(g, "ip")
}
