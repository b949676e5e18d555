package scan

// reg is a general register: 0 to 15 on x86-64 in the order of the encoding, 0 to 31 on arm64, 31 being the stack pointer.
type reg uint8

const noReg reg = 255

// kind is what a micro operation does.
type kind uint8

const (
	opNone     kind = iota
	opMove          // dst = src
	opBinary        // dst = src fn other
	opEither        // dst = src or other
	opLoad          // dst = memory
	opStore         // memory = src
	opClobber       // the registers in the mask have unknown values
	opCall          // to target, or to a register or memory when target is 0
	opJump          // the same
	opBranch        // to target or to the next instruction
	opEnd           // nothing comes after it: a return, a trap
	opSyscall       // of the ABI that sys names
	opBadBytes      // not an instruction
)

// fn is an arithmetic operation.
type fn uint8

const (
	fnAdd fn = iota
	fnSub
	fnAnd
	fnOr
	fnXor
	fnShl
	fnShr
	fnSext8  // of src alone
	fnSext16 // of src alone
	fnSext32 // of src alone
	fnKeep16 // src with 16 bits replaced: arm64's movk
)

// sysKind is the way into the kernel.
type sysKind uint8

const (
	sysNative sysKind = iota
	sysInt80          // the 32-bit table
)

// operand is a register, or a constant when reg is noReg.
type operand struct {
	reg reg
	imm uint64
	// address is set when the constant is certain to be an address: computed from the program counter.
	address bool
}

func constant(v uint64) operand  { return operand{reg: noReg, imm: v} }
func register(r reg) operand     { return operand{reg: r} }
func addressOf(v uint64) operand { return operand{reg: noReg, imm: v, address: true} }
func (o operand) isConst() bool  { return o.reg == noReg }

// memory is where a load or store goes. Without a base and an index disp is the address.
type memory struct {
	base, index reg
	scale       uint8
	disp        int64
	other       bool // another segment: thread-local
}

func (m *memory) absolute() bool { return m.base == noReg && m.index == noReg && !m.other }

// micro is one step of an instruction; several have the same address.
type micro struct {
	addr   uint64
	next   uint64 // address of the next instruction
	target uint64 // of calls, jumps and branches; 0 when it is not known
	mask   uint32 // of opClobber
	src    operand
	other  operand
	mem    memory
	kind   kind
	fn     fn
	width  uint8 // bytes of the result: 1, 2, 4, 8
	dst    reg
	sys    sysKind
}

// machine is what differs between the two.
type machine struct {
	registers int
	sp        reg
	number    reg // of the register that holds the number
	result    uint32
	// callPush is what a call puts on the stack.
	callPush int64
	// lost are the registers that a C function may change, lostGo those of a Go function.
	lost, lostGo uint32
	// decode appends the operations of all instructions in code.
	decode func(code []byte, addr uint64, out []micro) []micro
}

func mask(regs ...reg) uint32 {
	var m uint32
	for _, r := range regs {
		m |= 1 << r
	}
	return m
}

func move(dst reg, src operand, width uint8) micro {
	return micro{kind: opMove, dst: dst, src: src, width: width}
}

func binaryOp(f fn, dst reg, a, b operand, width uint8) micro {
	return micro{kind: opBinary, fn: f, dst: dst, src: a, other: b, width: width}
}

func load(dst reg, m memory, width uint8) micro {
	return micro{kind: opLoad, dst: dst, mem: m, width: width}
}

func store(m memory, src operand, width uint8) micro {
	return micro{kind: opStore, mem: m, src: src, width: width}
}

func clobber(m uint32) micro { return micro{kind: opClobber, mask: m} }
