package stdlib

import (
	bin "encoding/binary"
	"errors"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// glob is a pattern as an automaton whose states are the bits of a word: state i has matched i elements. A character goes from i to i+1 where
// advance[character] has bit i, and stays in i where loops has it, which is what a `*` before element i means.
type glob struct {
	advance  [256]uint64
	loops    uint64
	elements int
}

// maxGlob is the number of elements of a pattern, all but `*`: the last state is the bit behind them.
const maxGlob = 63

var (
	errGlobLong  = errors.New("the pattern is too long")
	errGlobClass = errors.New("the pattern has a `[` without a `]`")
)

func parseGlob(pattern string) (*glob, error) {
	g := &glob{}
	for i := 0; i < len(pattern); {
		if pattern[i] == '*' {
			g.loops |= 1 << g.elements
			i++
			continue
		}
		if g.elements == maxGlob {
			return nil, errGlobLong
		}
		set, n, err := globElement(pattern[i:])
		if err != nil {
			return nil, err
		}
		for c := 1; c < 256; c++ {
			if set(byte(c)) {
				g.advance[c] |= 1 << g.elements
			}
		}
		g.elements++
		i += n
	}
	return g, nil
}

// globElement reads one element, not `*`: which characters it stands for, and its length.
func globElement(s string) (set func(byte) bool, n int, err error) {
	switch {
	case s[0] == '?':
		return func(byte) bool { return true }, 1, nil
	case s[0] == '\\' && len(s) > 1:
		return func(c byte) bool { return c == s[1] }, 2, nil
	case s[0] != '[':
		return func(c byte) bool { return c == s[0] }, 1, nil
	}
	i := 1
	negate := i < len(s) && s[i] == '!'
	if negate {
		i++
	}
	var in [256]bool
	for first := true; ; first = false {
		switch {
		case i >= len(s):
			return nil, 0, errGlobClass
		case s[i] == ']' && !first:
			return func(c byte) bool { return in[c] != negate }, i + 1, nil
		}
		lo, hi := s[i], s[i]
		if i+2 < len(s) && s[i+1] == '-' && s[i+2] != ']' {
			hi = s[i+2]
			i += 2
		}
		for c := int(lo); c <= int(hi); c++ {
			in[c] = true
		}
		i++
	}
}

// match is what the program that lowerGlobmatch makes computes.
func (g *glob) match(s string) bool {
	d := uint64(1)
	for i := range len(s) {
		d = (d&g.advance[s[i]])<<1 | d&g.loops
	}
	return d>>g.elements&1 == 1
}

func globResult(c *check.Call) *types.Type {
	if !textArg(c.Type(0)) {
		return notString(c)
	}
	pattern, _ := c.Str(1)
	p, err := parseGlob(pattern)
	if err != nil {
		d := c.Diags.Errorf(check.CodeLiteralRange, c.Node.Sp, "globmatch(): %v", err)
		if errors.Is(err, errGlobLong) {
			d.Hint("at most %d characters and classes, `*` not counted", maxGlob)
		}
		return types.TInvalid
	}
	if s, ok := c.Str(0); ok {
		return setBool(c, p.match(s))
	}
	return types.TBool
}

// lowerGlobmatch runs the automaton over the text. The state lies in scratch memory, of which the verifier knows nothing: it need not follow
// every combination.
func lowerGlobmatch(g *lower.Gen, c *check.Call) lower.Operand {
	pattern, _ := c.Str(1)
	p, err := parseGlob(pattern)
	if err != nil {
		return g.ZeroOf(types.TBool)
	}
	table := make([]byte, 0, 8*len(p.advance))
	for _, mask := range p.advance {
		table = bin.NativeEndian.AppendUint64(table, mask)
	}
	text, n := stringText(g, c.Args[0])
	state := g.Keep("glob", 8, ir.SlotScratch)
	g.B.Store(state.Ptr, 0, 8, g.B.Const(1))
	g.Repeat(g.B.Const(int64(n)), n, []lower.Place{text.P, state}, func(i *ir.Value, mem []lower.Place, stop func()) {
		x := g.B.Load(g.B.PtrAdd(g.Pointer(mem[0]), g.B.Bound(i, int64(n-1))), 0, 1, false)
		stopAtNUL(g, x, stop)
		at := g.B.OpImm(ir.OpShl, x, 3)
		advance := g.B.Load(g.B.PtrAdd(g.Table("glob:"+pattern, table), at), 0, 8, false)
		d := g.B.Load(mem[1].Ptr, int(mem[1].Off), 8, false)
		moved := g.B.OpImm(ir.OpShl, g.B.And(d, advance), 1)
		stayed := g.B.OpImm(ir.OpAnd, d, int64(p.loops))
		g.B.Store(mem[1].Ptr, int(mem[1].Off), 8, g.B.Or(moved, stayed))
	})
	d := g.B.Load(state.Ptr, 0, 8, false)
	return lower.Scalar(types.TBool, g.B.OpImm(ir.OpAnd, g.B.OpImm(ir.OpLShr, d, int64(p.elements)), 1))
}
