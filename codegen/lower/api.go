package lower

import (
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/lang/ast"
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
	V    *ir.Value // scalars: extended to 64 bits according to Type; pointers may have a pointer type of the IR
	P    Place     // everything else; the memory may not have been read yet (Place.Space)
	// Len is the number of bytes of a string without its NUL, where it is known without looking. Then what follows the NUL in P is
	// undefined; a string without Len is padded with zeros to its size. A buffer with Len has its data at P, without the length word.
	Len *ir.Value
	// Cut is 1<<31 where a string with Len was cut at its limit, else 0; nil when it was not looked at.
	Cut *ir.Value
}

// IsVoid reports whether there is no value.
func (o Operand) IsVoid() bool { return o.Type == nil }

// Place is memory: Size bytes at Ptr+Off. Ptr is a pointer that plain loads may use (context, stack, scratch, map value, ring record, BTF),
// or an integer address: then only probe reads in the address space Space may use it.
type Place struct {
	Ptr   *ir.Value
	Off   int32
	Size  int
	Space types.Space
	// Base is the struct that a BTF pointer Ptr points to, as the verifier sees it.
	Base *types.StructDef
}

// At returns the part of size bytes at off.
func (p Place) At(off, size int) Place {
	p.Off += int32(off)
	p.Size = size
	return p
}

// IsPlain reports whether the memory is the program's own: readable and writable by any plain access.
func (p Place) IsPlain() bool {
	return p.Ptr != nil && (p.Ptr.Type == ir.Stack || p.Ptr.Type == ir.MapVal || p.Ptr.Type == ir.Ring)
}

// Scalar makes an operand of a 64-bit value.
func Scalar(t *types.Type, v *ir.Value) Operand { return Operand{Type: t, V: v} }

// Arg returns argument i of a call, nil when there is none.
func Arg(c *check.Call, i int) ast.Expr {
	if i < len(c.Args) {
		return c.Args[i]
	}
	return nil
}
