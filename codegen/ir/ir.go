// Package ir is the intermediate representation: functions of basic blocks with parameters, in SSA form.
//
// Values are 64-bit scalars or pointers. Everything larger is a place in memory (a [Slot], a map value, a reserved ring-buffer
// record) reached through a pointer value, so a large value is built once, where it is needed. One table ([Ops]) says
// what each op takes and gives; passes consult it instead of switching on ops. The text form (Func.String) has a parser, and
// Verify checks the invariants after every pass in tests. Imports: lang/source, lang/types.
package ir

import "github.com/sonde-sh/sonde/lang/source"

// Type is the type of a value: an integer or a pointer with its provenance. What a pointer may be used for follows the verifier's
// own register types.
type Type uint8

// Value types.
const (
	Void    Type = iota
	I64          // 64-bit integer; narrower integers are kept extended according to their sign
	Ctx          // the program's context
	Stack        // into the stack frame or scratch memory (a Slot's address)
	MapVal       // into a map value, known not nil
	MapNil       // result of a lookup: into a map value, or nil; becomes MapVal behind a nil check (op NonNil)
	Ring         // into a reserved ring-buffer record, not nil
	RingNil      // result of a reserve, or nil
	BTF          // typed kernel pointer, readable by plain loads, may fault to zero
	BTFNil       // the same, possibly nil: the verifier wants a check only for arguments of helpers
	MapRef       // a map itself, as an argument of helpers
	FuncRef      // a function, as a callback argument of helpers
)

// IsPtr reports whether the type is a pointer of any kind.
func (t Type) IsPtr() bool { return t >= Ctx && t <= BTFNil }

// Module is what one object is compiled from.
type Module struct {
	Funcs []*Func // entry programs and the functions that they call
}

// FuncKind says how a function is entered.
type FuncKind uint8

// Function kinds.
const (
	Entry    FuncKind = iota // a program: r1 is the context, returns a scalar
	Subprog                  // called by OpCall: up to five scalar or pointer parameters
	Callback                 // called by a helper (bpf_loop, bpf_for_each_map_elem): parameters as the helper passes them
	// Global is called by OpCall as a Subprog is, but the verifier checks it once and on its own (Linux 5.6), so that a call costs it no more than
	// the call itself. It knows nothing of its caller: the parameters are at most MaxGlobalArgs integers, and what both use lies in shared slots.
	Global
)

// Func is one function.
type Func struct {
	Name   string
	Kind   FuncKind
	Blocks []*Block // Blocks[0] is the entry; its parameters are the function's parameters (for Entry: one, of type Ctx)
	Slots  []*Slot
	nextID int
	blocks int // made so far

	values     slab[Value]
	args       slab[*Value]
	blockSpace slab[Block]
}

// Slot is a place of fixed size that lives as long as one run of the function. The placement pass decides between the stack frame
// and per-CPU scratch memory.
type Slot struct {
	ID    int
	Name  string // for dumps
	Size  int    // bytes, > 0
	Align int    // 1, 2, 4 or 8
	Class SlotClass
	Off   int // set by placement: offset in the frame (negative) or in scratch memory
	// Shared is set where a Global function uses the slot as well: it lies in scratch memory, and every call may read and write it.
	Shared bool
	// Of is set in Global functions for a slot that stands for a shared one of In, a function that (directly or not) calls this one.
	Of *Slot
	In *Func
}

// Tame tells that nothing but its own function's code reaches the slot.
func (s *Slot) Tame() bool { return !s.Shared && s.Of == nil }

// SlotClass is where a slot lives.
type SlotClass uint8

// Slot classes. SlotAuto is decided by placement.
const (
	SlotAuto SlotClass = iota
	SlotStack
	SlotScratch
)

// Block is a basic block: parameters, values in execution order, and one terminator.
type Block struct {
	ID     int
	Seq    int    // index in tables by block, of which there are NumBlocks
	Name   string // for dumps; may be ""
	Params []*Value
	Values []*Value
	Term   Term
	// Cold marks a block off the likely path (error handling, slow path): layout puts it out of line.
	Cold bool
}

// Value is the result of an op. Off, Size and Signed belong to memory ops; Imm, Aux to those that the op table says.
type Value struct {
	ID     int
	Op     Op
	Type   Type
	Args   []*Value
	Imm    int64
	Aux    any // *Slot, map name (string), *Func, kfunc name (string), comment
	Off    int32
	Size   uint8 // bytes of a memory access: 1, 2, 4, 8; bits of an extension: 8, 16, 32
	Signed bool  // Load: sign extend
	Span   source.Span
	Block  *Block
}

// Term ends a block.
type Term struct {
	Kind TermKind
	// Branch: goes to Succs[0] when X Cond Y holds, else to Succs[1]. Cond is a comparison op. Likely is +1, -1 or 0.
	Cond   Op
	X, Y   *Value
	Likely int8
	// Return: X is the result.
	Succs []Edge
	Span  source.Span
}

// Edge is a jump to a block with arguments for its parameters.
type Edge struct {
	To   *Block
	Args []*Value
}

// TermKind is the kind of a terminator.
type TermKind uint8

// Terminators.
const (
	TermNone TermKind = iota
	Jump              // Succs[0]
	Branch            // Succs[0] if X Cond Y, else Succs[1]
	Return            // X
)

// MaxGlobalArgs is the number of parameters of a Global function; one more register goes to its memory.
const MaxGlobalArgs = MaxArgs - 1

// NewFunc returns an empty function with its entry block; params are the types of the parameters.
func NewFunc(name string, kind FuncKind, params ...Type) *Func {
	f := &Func{Name: name, Kind: kind}
	b := f.NewBlock("entry")
	for _, t := range params {
		f.AddParam(b, t)
	}
	return f
}

// NewBlock appends an empty block.
func (f *Func) NewBlock(name string) *Block {
	b := f.blockSpace.one()
	b.ID, b.Seq, b.Name = f.id(), f.blocks, name
	f.blocks++
	f.Blocks = append(f.Blocks, b)
	return b
}

// AddParam appends a parameter to a block. Edges to the block need one more argument.
func (f *Func) AddParam(b *Block, t Type) *Value {
	v := f.values.one()
	v.ID, v.Op, v.Type, v.Block = f.id(), OpParam, t, b
	b.Params = append(b.Params, v)
	return v
}

// NewSlot adds a place.
func (f *Func) NewSlot(name string, size, align int) *Slot {
	s := &Slot{ID: f.id(), Name: name, Size: size, Align: align}
	f.Slots = append(f.Slots, s)
	return s
}

// Alias adds a slot that stands for one of the function in, which calls this one, or gives the one that is there. The other becomes shared.
func (f *Func) Alias(of *Slot, in *Func) *Slot {
	if of.Of != nil {
		of, in = of.Of, of.In
	}
	for _, s := range f.Slots {
		if s.Of == of {
			return s
		}
	}
	of.Shared, of.Class = true, SlotScratch
	s := f.NewSlot(of.Name, of.Size, of.Align)
	s.Of, s.In, s.Class = of, in, SlotScratch
	return s
}

// NewValue makes a value that is not yet in a block. The arguments are copied.
func (f *Func) NewValue(op Op, t Type, sp source.Span, args ...*Value) *Value {
	v := f.values.one()
	v.ID, v.Op, v.Type, v.Args, v.Span = f.id(), op, t, f.args.copy(args), sp
	return v
}

// Append puts a value at the end of a block and returns it.
func (b *Block) Append(v *Value) *Value {
	v.Block = b
	b.Values = append(b.Values, v)
	return v
}

func (f *Func) id() int {
	f.nextID++
	return f.nextID
}
