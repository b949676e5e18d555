// Package lower turns a checked script into IR: expressions, statements, maps, events. Builtins lower themselves through
// [Func] and [VarFunc], which stdlib provides; nothing here knows a builtin by name.
// Imports: lang (not syntax), codegen/ir, codegen/object.
package lower

import (
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// Func lowers one call of a builtin function. The result of a void function is the zero Operand.
type Func func(g *Gen, c *check.Call) Operand

// VarFunc lowers one use of a builtin variable.
type VarFunc func(g *Gen, u *check.VarUse) Operand

// Operand is a value: a scalar in V, or a larger value at P. Type is its type as the checker gave it (or as a conversion made it).
type Operand struct {
	Type *types.Type
	V    *ir.Value // scalars: extended to 64 bits according to Type
	P    Place     // everything else
}

// IsVoid reports whether there is no value.
func (o Operand) IsVoid() bool { return o.Type == nil }

// Place is memory: Size bytes at Ptr+Off. Ptr is a pointer that plain loads and stores may use (stack, scratch, map value, ring record, BTF, ctx), or
// an integer address when Space is not SpaceBPF: then only probe reads may use it.
type Place struct {
	Ptr   *ir.Value
	Off   int32
	Size  int
	Space types.Space
}

// Gen generates one program. It is made by the compiler for each body; the exported methods in the other files of this package are
// what builtins use:
//
//	g.B                       the IR builder, at the current block
//	g.Target, g.Info, g.Body  what is compiled
//	g.Expr(e)                 evaluates an expression
//	g.Scalar(e), g.Convert    evaluates to a 64-bit value, converts to a type
//	g.Into(e, place)          evaluates a large value straight into memory
//	g.Temp(t), g.TempBytes    a zeroed or uninitialised place for the rest of the program
//	g.ReadMem, g.ReadStr      probe reads with counting of failures and -k events
//	g.Event(kind, ...)        sends a record
//	g.Map(name), g.Key, g.Lookup, g.Update, g.Delete   maps
//	g.Count(counter)          adds to one of object's counters
//	g.Internal(spec)          declares an internal map
type Gen struct {
	Target *target.Target
	Info   *check.Info
	Body   *check.Body
}
