package stdlib

import (
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/symbol"
)

// What addresses need to know of the machine while compiling. Machine implements it.
type addressBook interface {
	// KernelAddress gives the address of a kernel symbol.
	KernelAddress(name string) (uint64, error)
	// CgroupID gives the id of a control group by its path.
	CgroupID(path string) (uint64, error)
	// UserAddress gives the address of a symbol in the file that a point is in, as the file has it, and the address of the place that the
	// point probes; fixed tells that the file is always loaded at these addresses.
	UserAddress(p *check.Point, name string) (sym, probe uint64, fixed bool, err error)
}

func book(c *check.Call) addressBook {
	b, _ := c.Env.Machine.(addressBook)
	return b
}

// kernelAddress looks a symbol up, reporting what is wrong with it.
func kernelAddress(g *lower.Gen, c *check.Call) (uint64, bool) {
	name, _ := c.Str(0)
	b := book(c)
	if b == nil {
		g.Errorf("E0726", c.Node, "the symbols of the kernel are not known here")
		return 0, false
	}
	addr, err := b.KernelAddress(name)
	if err != nil {
		g.Errorf("E0726", c.Node, "Failed to resolve kernel symbol: %s", name).Hint("%v; look for its name in /proc/kallsyms", err)
		return 0, false
	}
	return addr, true
}

func lowerKaddr(g *lower.Gen, c *check.Call) lower.Operand {
	addr, _ := kernelAddress(g, c)
	return lower.Scalar(g.Type(c.Node), g.B.Const(int64(addr)))
}

// lowerPercpuKaddr adds the offset of a CPU's area, which the kernel keeps in an array.
func lowerPercpuKaddr(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	sym, ok := kernelAddress(g, c)
	if !ok {
		return lower.Scalar(t, g.B.Const(0))
	}
	table, err := book(c).KernelAddress("__per_cpu_offset")
	if err != nil {
		g.Errorf("E0726", c.Node, "%v", err)
		return lower.Scalar(t, g.B.Const(0))
	}
	var cpu *ir.Value
	if len(c.Args) > 1 {
		cpu = g.ScalarAs(c.Args[1], types.TUint64)
	} else {
		cpu = g.CPU()
	}
	v := g.B.NewVar("percpu", ir.I64)
	g.B.Set(v, g.B.Const(0))
	g.B.If(g.B.CmpImm(ir.OpULt, cpu, int64(max(g.Target.CPUs, 1))), func() {
		at := g.B.AddImm(g.B.OpImm(ir.OpShl, cpu, 3), int64(table))
		off := g.LoadScalar(lower.Place{Ptr: at, Size: 8, Space: types.SpaceKernel}, types.TUint64)
		g.B.Set(v, g.B.AddImm(off, int64(sym)))
	}, nil)
	return lower.Scalar(t, g.B.Get(v))
}

func lowerCgroupID(g *lower.Gen, c *check.Call) lower.Operand {
	path, _ := c.Str(0)
	id := uint64(0)
	if b := book(c); b != nil {
		n, err := b.CgroupID(path)
		if err != nil {
			g.Errorf("E0727", c.Args[0], "no control group `%s`: %v", path, err).Hint("use a path below /sys/fs/cgroup")
		}
		id = n
	}
	return lower.Scalar(g.Type(c.Node), g.B.Const(int64(id)))
}

// lowerUaddr corrects the symbol's address by where the process has the file: the probed instruction tells.
func lowerUaddr(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	name, _ := c.Str(0)
	b := book(c)
	zero := lower.Scalar(t, g.B.Const(0))
	if b == nil {
		return zero
	}
	value := g.B.NewVar("uaddr", ir.I64)
	g.B.Set(value, g.B.Const(0))
	points := g.Points()
	for _, p := range points {
		sym, probe, fixed, err := b.UserAddress(p, name)
		if err != nil {
			g.Errorf("E0728", c.Args[0], "%v", err)
			return zero
		}
		v := func() *ir.Value {
			if fixed {
				return g.B.Const(int64(sym))
			}
			return g.B.AddImm(probedAddress(g), int64(sym-probe))
		}
		if len(points) == 1 {
			return lower.Scalar(t, v())
		}
		is := g.B.CmpImm(ir.OpEq, g.PointIndex(), int64(g.Unit().Point(p)))
		g.B.If(is, func() { g.B.Set(value, v()) }, nil)
	}
	return lower.Scalar(t, g.B.Get(value))
}

// probedAddress is the address of the probed instruction in the process.
func probedAddress(g *lower.Gen) *ir.Value {
	if g.Target.Features.Has(target.GetFuncIP) && g.Point().Kind.Name() == "uretprobe" {
		return g.B.Helper(asm.FnGetFuncIp, g.Ctx())
	}
	reg := "ip"
	if g.Target.Arch == "arm64" {
		reg = "pc"
	}
	v, ok := g.Hook.Context.Reg(g, reg)
	if !ok {
		return g.B.Const(0)
	}
	return v
}

// lowerSocketCookie needs a pointer that the kernel gave with its type.
func lowerSocketCookie(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	cookie := g.B.NewVar("cookie", ir.I64)
	g.B.Set(cookie, g.B.Const(0))
	if !withBTF(g, g.Expr(c.Args[0]), func(sk lower.Operand) { g.B.Set(cookie, g.B.Helper(asm.FnGetSocketCookie, sk.V)) }) {
		g.Errorf("E0725", c.Args[0], "`socket_cookie` needs a pointer that the kernel gave with its type").
			Hint("use it in fentry, fexit or rawtracepoint probes, with a member of `args`")
		return g.ZeroOf(t)
	}
	return lower.Scalar(t, g.B.Get(cookie))
}

// KernelAddress implements addressBook.
func (m *Machine) KernelAddress(name string) (uint64, error) {
	s, err := m.Kernel.Symbols()
	if err != nil {
		return 0, err
	}
	addr, ok := s.Addr(name)
	if !ok {
		return 0, noSymbol{name, "the kernel"}
	}
	return addr, nil
}

// CgroupID implements addressBook.
func (m *Machine) CgroupID(path string) (uint64, error) { return m.Kernel.CgroupID(path) }

// UserAddress implements addressBook.
func (m *Machine) UserAddress(p *check.Point, name string) (sym, probe uint64, fixed bool, err error) {
	d, ok := p.Data.(*uprobePoint)
	if !ok {
		return 0, 0, false, noSymbol{name, p.Name}
	}
	root, err := m.root(d.pid)
	if err != nil {
		return 0, 0, false, err
	}
	f, err := m.file(d.path, root)
	if err != nil {
		return 0, 0, false, err
	}
	syms, err := f.Lookup(name)
	if err != nil || len(syms) == 0 {
		return 0, 0, false, noSymbol{name, d.path}
	}
	if len(d.offsets) > 0 {
		probe, _ = f.AddressOf(d.offsets[0])
	}
	return syms[0].Addr, probe, !f.PIE(), nil
}

// SymbolSize implements symbolSizer.
func (m *Machine) SymbolSize(program, name string) int {
	f, err := m.file(program, symbol.Root{})
	if err != nil {
		return 0
	}
	syms, err := f.Lookup(name)
	if err != nil || len(syms) == 0 {
		return 0
	}
	return int(syms[0].Size)
}

type noSymbol struct{ name, where string }

func (e noSymbol) Error() string { return "no symbol `" + e.name + "` in " + e.where }
