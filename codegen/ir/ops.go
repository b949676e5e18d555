package ir

// Op is an operation; Ops[op] describes it.
type Op uint8

// The ops. Names in dumps are those of the table.
const (
	OpInvalid Op = iota
	OpParam      // parameter of a block
	OpConst      // Imm

	OpAdd
	OpSub
	OpMul
	OpUDiv // division by zero gives 0, as eBPF does
	OpSDiv // truncates towards zero; division by zero gives 0
	OpUMod // modulo zero gives the dividend, as eBPF does
	OpSMod // sign of the dividend
	OpAnd
	OpOr
	OpXor
	OpShl // count is taken modulo 64
	OpLShr
	OpAShr
	OpNeg
	OpNot  // bitwise complement
	OpZExt // Size bits (8, 16, 32) zero extended to 64
	OpSExt
	OpBswap // Size bits (16, 32, 64); result zero extended

	OpEq // comparisons give 0 or 1 and serve as Term.Cond
	OpNe
	OpULt
	OpULe
	OpUGt
	OpUGe
	OpSLt
	OpSLe
	OpSGt
	OpSGe
	OpSet // Term.Cond only: X & Y != 0

	OpSelect // arg0 != 0 ? arg1 : arg2; expanded to branches before instruction selection
	OpBound  // min unsigned (arg0, Imm): tells the verifier a bound; removed when the bound is already known

	OpSlotAddr   // address of Aux *Slot plus Off
	OpMapRef     // Aux map name
	OpMapValAddr // address of byte Off in the only value of array map Aux (BPF_PSEUDO_MAP_VALUE)
	OpFuncRef    // Aux *Func
	OpPtrAdd     // pointer + integer; result has the pointer's type
	OpPtrDiff    // pointer - pointer, as an integer (only for equal provenance)
	OpPtrInt     // a pointer's address as an integer (kernel and BTF pointers)
	OpNonNil     // arg0 (MapNil, RingNil, BTFNil), known not nil here because a Branch on it dominates; no code
	OpBTFCast    // arg0 as a BTF pointer of another type; Aux names the type; no code

	OpLoad      // Size bytes at arg0+Off, Signed says how to extend
	OpStore     // arg1's low Size bytes to arg0+Off
	OpZero      // Imm bytes at arg0+Off become zero
	OpCopy      // Imm bytes from arg1 to arg0+Off; both plain memory (stack, scratch, map value, ring, BTF source); no overlap
	OpAtomicAdd // *(Size)(arg0+Off) += arg1, Size 4 or 8
	OpFetchAdd  // the same, gives the old value (Linux 5.12)
	OpXchg      // gives the old value (5.12)
	OpCmpXchg   // arg1 expected, arg2 new; gives the old value (5.12)

	OpHelper // Imm helper number (asm.BuiltinFunc); up to five args; result I64 unless Type says a pointer
	OpKfunc  // Aux name; args as helpers
	OpCall   // Aux *Func

	NumOps
)

// Effect says what an op does besides giving a value; ops with effects keep their order.
type Effect uint8

// Effects.
const (
	Pure   Effect = iota // may be moved, merged and dropped
	Reads                // reads memory: may be dropped, and merged when nothing writes between
	Writes               // must stay
)

// Info describes an op.
type Info struct {
	Name        string
	Args        int // -1: any number up to five
	Effect      Effect
	Commutative bool
	Call        bool // clobbers r0-r5
	HasImm      bool
	HasAux      bool
	HasOff      bool
	HasSize     bool
	Compare     bool
}

// Ops is the op table.
var Ops = [NumOps]Info{
	OpInvalid: {Name: "invalid"},
	OpParam:   {Name: "param"},
	OpConst:   {Name: "const", HasImm: true},

	OpAdd:   {Name: "add", Args: 2, Commutative: true},
	OpSub:   {Name: "sub", Args: 2},
	OpMul:   {Name: "mul", Args: 2, Commutative: true},
	OpUDiv:  {Name: "udiv", Args: 2},
	OpSDiv:  {Name: "sdiv", Args: 2},
	OpUMod:  {Name: "umod", Args: 2},
	OpSMod:  {Name: "smod", Args: 2},
	OpAnd:   {Name: "and", Args: 2, Commutative: true},
	OpOr:    {Name: "or", Args: 2, Commutative: true},
	OpXor:   {Name: "xor", Args: 2, Commutative: true},
	OpShl:   {Name: "shl", Args: 2},
	OpLShr:  {Name: "lshr", Args: 2},
	OpAShr:  {Name: "ashr", Args: 2},
	OpNeg:   {Name: "neg", Args: 1},
	OpNot:   {Name: "not", Args: 1},
	OpZExt:  {Name: "zext", Args: 1, HasSize: true},
	OpSExt:  {Name: "sext", Args: 1, HasSize: true},
	OpBswap: {Name: "bswap", Args: 1, HasSize: true},

	OpEq:  {Name: "eq", Args: 2, Commutative: true, Compare: true},
	OpNe:  {Name: "ne", Args: 2, Commutative: true, Compare: true},
	OpULt: {Name: "ult", Args: 2, Compare: true},
	OpULe: {Name: "ule", Args: 2, Compare: true},
	OpUGt: {Name: "ugt", Args: 2, Compare: true},
	OpUGe: {Name: "uge", Args: 2, Compare: true},
	OpSLt: {Name: "slt", Args: 2, Compare: true},
	OpSLe: {Name: "sle", Args: 2, Compare: true},
	OpSGt: {Name: "sgt", Args: 2, Compare: true},
	OpSGe: {Name: "sge", Args: 2, Compare: true},
	OpSet: {Name: "set", Args: 2, Commutative: true, Compare: true},

	OpSelect: {Name: "select", Args: 3},
	OpBound:  {Name: "bound", Args: 1, HasImm: true},

	OpSlotAddr:   {Name: "slot", HasAux: true, HasOff: true},
	OpMapRef:     {Name: "map", HasAux: true},
	OpMapValAddr: {Name: "mapval", HasAux: true, HasOff: true},
	OpFuncRef:    {Name: "func", HasAux: true},
	OpPtrAdd:     {Name: "ptradd", Args: 2},
	OpPtrDiff:    {Name: "ptrdiff", Args: 2},
	OpPtrInt:     {Name: "ptrint", Args: 1},
	OpNonNil:     {Name: "nonnil", Args: 1},
	OpBTFCast:    {Name: "btfcast", Args: 1, HasAux: true},

	OpLoad:      {Name: "load", Args: 1, Effect: Reads, HasOff: true, HasSize: true},
	OpStore:     {Name: "store", Args: 2, Effect: Writes, HasOff: true, HasSize: true},
	OpZero:      {Name: "zero", Args: 1, Effect: Writes, HasOff: true, HasImm: true},
	OpCopy:      {Name: "copy", Args: 2, Effect: Writes, HasOff: true, HasImm: true},
	OpAtomicAdd: {Name: "atomicadd", Args: 2, Effect: Writes, HasOff: true, HasSize: true},
	OpFetchAdd:  {Name: "fetchadd", Args: 2, Effect: Writes, HasOff: true, HasSize: true},
	OpXchg:      {Name: "xchg", Args: 2, Effect: Writes, HasOff: true, HasSize: true},
	OpCmpXchg:   {Name: "cmpxchg", Args: 3, Effect: Writes, HasOff: true, HasSize: true},

	OpHelper: {Name: "helper", Args: -1, Effect: Writes, Call: true, HasImm: true},
	OpKfunc:  {Name: "kfunc", Args: -1, Effect: Writes, Call: true, HasAux: true},
	OpCall:   {Name: "call", Args: -1, Effect: Writes, Call: true, HasAux: true},
}

func (op Op) String() string {
	if op < NumOps {
		return Ops[op].Name
	}
	return "op?"
}
