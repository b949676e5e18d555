package stdlib

import (
	"net/netip"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
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
