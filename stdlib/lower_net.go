package stdlib

import (
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// Address families of Linux.
const (
	afInet  = 2
	afInet6 = 10
)

// lowerNtop makes an inet value: the family in a word, then 16 bytes of address.
func lowerNtop(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	arg := c.Args[len(c.Args)-1]
	at := g.Type(arg)
	v6 := !at.IsScalar() && at.Size >= 16
	var family *ir.Value
	if len(c.Args) > 1 {
		family = g.ScalarAs(c.Args[0], types.TUint64)
	} else if v6 {
		family = g.B.Const(afInet6)
	} else {
		family = g.B.Const(afInet)
	}
	o := g.Expr(arg)
	p := g.Dest(t)
	g.B.Store(p.Ptr, int(p.Off), 8, family)
	addr := p.At(8, 16)
	switch {
	case o.V != nil:
		g.B.Store(addr.Ptr, int(addr.Off), 8, g.B.Ext(g.ToInt(o), 32, false))
		g.B.Zero(addr.Ptr, int(addr.Off)+8, 8)
	default:
		n := min(at.Size, 16)
		if n < 16 {
			g.B.Zero(addr.Ptr, int(addr.Off), 16)
		}
		g.ReadMem(addr.At(0, n), o.P.At(0, n))
	}
	return lower.Operand{Type: t, P: p}
}

// lowerMacaddr reads six bytes.
func lowerMacaddr(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	o := g.Expr(c.Args[0])
	p := g.Dest(t)
	if o.V != nil && o.Type.Kind != types.Pointer {
		g.B.Store(p.Ptr, int(p.Off), 4, o.V)
		g.B.Store(p.Ptr, int(p.Off)+4, 2, g.B.OpImm(ir.OpLShr, o.V, 32))
		return lower.Operand{Type: t, P: p}
	}
	g.ReadMem(p.At(0, 6), g.PlaceOf(o).At(0, 6))
	return lower.Operand{Type: t, P: p}
}

// lowerPton makes the bytes of an address known while compiling.
func lowerPton(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	s, _ := c.Str(0)
	b := parseAddress(s)
	if b == nil {
		g.Errorf("E0724", c.Args[0], "`%s` is no IPv4 or IPv6 address", s)
		return g.ZeroOf(t)
	}
	p := g.Dest(t)
	for i := 0; i+4 <= len(b) && i+4 <= t.Size; i += 4 {
		w := int64(b[i]) | int64(b[i+1])<<8 | int64(b[i+2])<<16 | int64(b[i+3])<<24
		g.B.Store(p.Ptr, int(p.Off)+i, 4, g.B.Const(w))
	}
	return lower.Operand{Type: t, P: p}
}

// lowerBswap reverses the bytes of an integer of its own width.
func lowerBswap(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	v := g.Scalar(c.Args[0])
	if t.Size == 1 {
		return lower.Scalar(t, v)
	}
	return lower.Scalar(t, g.B.Bswap(v, t.Size*8))
}

// parseAddress gives the bytes of an address in network order, nil when it is none.
func parseAddress(s string) []byte {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return nil
	}
	return a.AsSlice()
}

// Error numbers of the helper, negative.
const (
	noBuffer  = -2  // ENOENT: the CPU came online after the start
	badAccess = -14 // EFAULT
	noSpace   = -28 // ENOSPC
)

// lowerSkbOutput sends a packet through the perf event array: the kernel appends its bytes to the head that we make.
func lowerSkbOutput(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	path, _ := c.Str(0)
	skb := g.Expr(c.Args[1])
	length, skip := g.ScalarAs(c.Args[2], types.TUint64), g.ScalarAs(c.Args[3], types.TUint64)
	skbuff := skb.Type.Elem != nil && skb.Type.Elem.Kind == types.Struct && skb.Type.Elem.Struct.Name == "sk_buff"
	result := g.B.NewVar("skboutput", ir.I64)
	g.B.Set(result, g.B.Const(badAccess))
	if !skbuff || !withBTF(g, skb, func(skb lower.Operand) { sendPacket(g, path, skb, length, skip, result) }) {
		g.Errorf("E0725", c.Args[1], "`skboutput` needs a pointer to struct sk_buff that the kernel gave with its type").
			Hint("use it in fentry, fexit or rawtracepoint probes, with a member of `args`")
		return g.ZeroOf(t)
	}
	return lower.Scalar(t, g.B.Ext(g.B.Get(result), 32, false))
}

// sendPacket sends the bytes from skip on, as many as length says and the packet has, and leaves the result of the helper in result.
func sendPacket(g *lower.Gen, path string, skb lower.Operand, length, skip *ir.Value, result ir.Var) {
	total, known := g.Follow(skb, "len")
	if !known {
		return
	}
	u := g.Unit()
	u.Internal(&object.Map{Name: object.PacketsMap, Role: object.MapPackets, Type: ebpf.PerfEventArray, KeySize: 4, ValueSize: 4})
	capture := slices.Index(u.Object.Captures, path)
	if capture < 0 {
		capture = len(u.Object.Captures)
		u.Object.Captures = append(u.Object.Captures, path)
	}
	least := func(x, y *ir.Value) *ir.Value { return g.B.Select(g.B.Cmp(ir.OpULt, x, y), x, y) }
	whole := g.B.Ext(total.V, 32, false)
	// What is asked for is bounded before the offset is added, so that no sum wraps around.
	limit := g.B.Const(object.PacketMax)
	n := least(least(g.B.Add(least(length, limit), least(skip, limit)), whole), limit)
	g.B.If(g.B.Cmp(ir.OpULt, skip, n), func() {
		head := g.Temp("packet", object.PacketHeader)
		store := func(off, size int, v *ir.Value) { g.B.Store(head.Ptr, int(head.Off)+off, size, v) }
		store(0, 8, nanoseconds(g))
		store(8, 4, g.B.Const(int64(capture)))
		store(12, 4, skip)
		store(16, 4, n)
		store(20, 4, g.B.Sub(whole, skip))
		const thisCPU = 1<<32 - 1 // BPF_F_CURRENT_CPU; the number of bytes stands above it
		flags := g.B.Or(g.B.OpImm(ir.OpShl, n, 32), g.B.Const(thisCPU))
		rc := g.B.Helper(asm.FnSkbOutput, skb.V, g.B.MapRef(object.PacketsMap), flags, g.Pointer(head), g.B.Const(object.PacketHeader))
		g.B.Set(result, rc)
		for _, lost := range []int64{noSpace, noBuffer} {
			g.B.If(g.B.CmpImm(ir.OpEq, rc, lost), func() { g.Count(object.CounterLost) }, nil)
		}
	}, nil)
}

// withBTF runs do with an operand that is a pointer which the verifier knows the type of, where it is not nil; false when it is none.
func withBTF(g *lower.Gen, o lower.Operand, do func(o lower.Operand)) bool {
	if o.V != nil && o.V.Type == ir.BTFNil {
		g.B.IfNonNil(o.V, func(p *ir.Value) { do(lower.Operand{Type: o.Type, V: p}) }, nil)
		return true
	}
	p, ok := g.BTFPointer(o)
	if ok {
		do(lower.Operand{Type: o.Type, V: p})
	}
	return ok
}
