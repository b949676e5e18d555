package stdlib

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// Names of numbers are strings like all others, so that scripts can compare them: programs read them from a constant table.

// nameSize is the size of such a string, NUL included.
const nameSize = 64

var tName = types.StringOf(nameSize)

// nameTable makes the contents of a table: the names of 0 to n-1, and behind them the text for all other numbers.
func nameTable(n int, name func(int) string, other string) []byte {
	b := make([]byte, (n+1)*nameSize)
	for i := range n {
		copy(b[i*nameSize:(i+1)*nameSize-1], name(i))
	}
	copy(b[n*nameSize:], other)
	return b
}

// tableEntry gives the string that belongs to a number: an index of a table, unsigned, whose last entry is for all that are too large.
func tableEntry(g *lower.Gen, name string, contents []byte, number *ir.Value) lower.Operand {
	last := int64(len(contents)/nameSize - 1)
	index := g.B.NewVar("name", ir.I64)
	g.B.Set(index, g.B.Const(last))
	g.B.If(g.B.CmpImm(ir.OpULt, number, last), func() { g.B.Set(index, number) }, nil)
	at := g.B.OpImm(ir.OpShl, g.B.Bound(g.B.Get(index), last), 6)
	return lower.Operand{Type: tName, P: lower.Place{Ptr: g.B.PtrAdd(g.Table(name, contents), at), Size: nameSize}}
}

// numberOf evaluates the argument as the kernel holds such numbers: 32 bits with a sign.
func numberOf(g *lower.Gen, c *check.Call) *ir.Value { return g.ScalarAs(c.Args[0], types.TInt32) }

func lowerStrerror(g *lower.Gen, c *check.Call) lower.Operand {
	n := numberOf(g, c)
	v := g.B.NewVar("errno", ir.I64)
	g.B.Set(v, n)
	g.B.If(g.B.CmpImm(ir.OpSLt, n, 0), func() { g.B.Set(v, g.B.Sub(g.B.Const(0), n)) }, nil)
	return tableEntry(g, "strerror", nameTable(134, errnoText, "Unknown error"), g.B.Get(v))
}

func lowerSignalName(g *lower.Gen, c *check.Call) lower.Operand {
	return tableEntry(g, "signal_name", nameTable(65, signalText, "N/A"), numberOf(g, c))
}

func lowerSyscallName(g *lower.Gen, c *check.Call) lower.Operand {
	arch, unknown := g.Target.Arch, "Unknown syscall"
	n := 0
	for i := range maxSyscalls {
		if kernel.SyscallName(arch, i) != "" {
			n = i + 1
		}
	}
	name := func(i int) string {
		if s := kernel.SyscallName(arch, i); s != "" {
			return s
		}
		return unknown
	}
	return tableEntry(g, "syscall_name", nameTable(n, name, unknown), numberOf(g, c))
}

// maxSyscalls is above the number of every system call.
const maxSyscalls = 1024

// errnoText is strerror(3)'s text; Go's table is that of the C library with a small first letter.
func errnoText(n int) string {
	if n == 0 {
		return "Success"
	}
	if n == 133 {
		return "Memory page has hardware error" // EHWPOISON, which Go's table lacks
	}
	s := unix.Errno(n).Error()
	if strings.HasPrefix(s, "errno ") {
		return "Unknown error " + strconv.Itoa(n)
	}
	return diag.Sentence(s)
}

// signalText is strsignal(3)'s text.
func signalText(n int) string {
	switch {
	case n >= 34:
		return "Real-time signal " + strconv.Itoa(n-34)
	case n == 0 || n > 31:
		return "Unknown signal " + strconv.Itoa(n)
	}
	return diag.Sentence(unix.Signal(n).String())
}
