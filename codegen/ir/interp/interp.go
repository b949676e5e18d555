// Package interp runs IR functions without a kernel: fake memory with bounds, fake maps and helpers. It is the reference for what
// ops mean; tests run the same function here and in the kernel and compare.
//
// Imports: codegen/ir and cilium/ebpf for names. A Machine belongs to one goroutine. Read Machine.Run first.
package interp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
)

// Machine is the state outside of a function: memory, maps and helpers. The zero value has none of them.
type Machine struct {
	Maps    map[string]*Map
	Helpers map[asm.BuiltinFunc]Helper // override and extend the built-in ones
	Kfuncs  map[string]Helper
	// Frame puts slots of class SlotStack at their offsets in a shared frame of 512 bytes, to test placement. Otherwise each slot is a region
	// of its own.
	Frame bool
	// MaxSteps bounds the ops of one run; 0 means a million.
	MaxSteps int
	Records  [][]byte // submitted ring-buffer records

	regions []*region
	steps   int
	open    int // reserved records
	depth   int
	frames  []*frame // of the functions that are running
}

// Helper is a kernel function. args are its registers r1 to r5.
type Helper func(m *Machine, args [5]uint64) (uint64, error)

// region is a piece of memory with bounds. Addresses are index<<32 + regionBase + offset.
type region struct {
	name     string
	data     []byte
	init     []bool // nil: all of it
	readOnly bool
	freed    bool
}

const regionBase = 0x10000

// errSteps ends runs that do not end.
var errSteps = errors.New("interp: too many steps")

func (m *Machine) alloc(name string, data []byte, uninit bool) uint64 {
	r := &region{name: name, data: data}
	if uninit {
		r.init = make([]bool, len(data))
	}
	m.regions = append(m.regions, r)
	return uint64(len(m.regions))<<32 + regionBase
}

// Alloc makes memory that functions can be given the address of.
func (m *Machine) Alloc(name string, data []byte) uint64 { return m.alloc(name, data, false) }

// find returns the region and offset of n bytes at an address.
func (m *Machine) find(addr uint64, n int) (*region, int, error) {
	i, off := int(addr>>32)-1, int64(addr&0xffffffff)-regionBase
	if i < 0 || i >= len(m.regions) {
		return nil, 0, fmt.Errorf("interp: no memory at %#x", addr)
	}
	r := m.regions[i]
	if r.freed {
		return nil, 0, fmt.Errorf("interp: %s is gone", r.name)
	}
	if n < 0 || off < 0 || off+int64(n) > int64(len(r.data)) {
		return nil, 0, fmt.Errorf("interp: bytes %d to %d of %s, which has %d", off, off+int64(n), r.name, len(r.data))
	}
	return r, int(off), nil
}

// Read returns n bytes at an address, which must have been written before when they are in a slot.
func (m *Machine) Read(addr uint64, n int) ([]byte, error) {
	r, off, err := m.find(addr, n)
	if err != nil {
		return nil, err
	}
	if r.init != nil {
		for i := off; i < off+n; i++ {
			if !r.init[i] {
				return nil, fmt.Errorf("interp: byte %d of %s is read before it is written", i, r.name)
			}
		}
	}
	return r.data[off : off+n : off+n], nil
}

// Write returns n bytes at an address to be overwritten.
func (m *Machine) Write(addr uint64, n int) ([]byte, error) {
	r, off, err := m.find(addr, n)
	if err != nil {
		return nil, err
	}
	if r.readOnly {
		return nil, fmt.Errorf("interp: %s is read-only", r.name)
	}
	if r.init != nil {
		for i := off; i < off+n; i++ {
			r.init[i] = true
		}
	}
	return r.data[off : off+n : off+n], nil
}

func (m *Machine) load(addr uint64, size int) (uint64, error) {
	b, err := m.Read(addr, size)
	if err != nil {
		return 0, err
	}
	var buf [8]byte
	copy(buf[:], b)
	return binary.LittleEndian.Uint64(buf[:]), nil
}

func (m *Machine) store(addr uint64, size int, x uint64) error {
	b, err := m.Write(addr, size)
	if err != nil {
		return err
	}
	var buf [8]byte
	binary.LittleEndian.PutUint64(buf[:], x)
	copy(b, buf[:size])
	return nil
}

// Run runs an entry function with a context of the given bytes and returns its result.
func (m *Machine) Run(f *ir.Func, ctx []byte) (uint64, error) {
	m.steps, m.open = 0, 0
	addr := m.alloc("the context", ctx, false)
	m.regions[len(m.regions)-1].readOnly = true
	x, err := m.Call(f, addr)
	if err == nil && m.open != 0 {
		err = fmt.Errorf("interp: %d ring-buffer records are still reserved", m.open)
	}
	return x, err
}

// Call runs any function with arguments.
func (m *Machine) Call(f *ir.Func, args ...uint64) (uint64, error) {
	if m.depth++; m.depth > 16 {
		return 0, errors.New("interp: calls are nested too deeply")
	}
	defer func() { m.depth-- }()
	fr := &frame{m: m, f: f, vals: make([]uint64, f.NumIDs()), slots: map[*ir.Slot]uint64{}}
	var stack uint64
	if m.Frame {
		stack = m.alloc("the frame of "+f.Name, make([]byte, 512), true) + 512
	}
	first := len(m.regions)
	for _, s := range f.Slots {
		if m.Frame && s.Class == ir.SlotStack {
			fr.slots[s] = stack + uint64(int64(s.Off))
			continue
		}
		if s.Of != nil {
			for _, outer := range m.frames {
				if at, ok := outer.slots[s.Of]; ok {
					fr.slots[s] = at
				}
			}
			continue
		}
		data := make([]byte, s.Size)
		for i := range data {
			data[i] = 0xaa
		}
		fr.slots[s] = m.alloc("slot "+s.Name, data, true)
	}
	last := len(m.regions)
	m.frames = append(m.frames, fr)
	x, err := fr.run(args)
	m.frames = m.frames[:len(m.frames)-1]
	for _, r := range m.regions[first:last] {
		r.freed = true
	}
	return x, err
}

type frame struct {
	m     *Machine
	f     *ir.Func
	vals  []uint64
	slots map[*ir.Slot]uint64
}

func (fr *frame) run(args []uint64) (uint64, error) {
	b := fr.f.Blocks[0]
	if len(args) < len(b.Params) {
		return 0, fmt.Errorf("interp: %s: %d arguments", fr.f.Name, len(args))
	}
	for i, p := range b.Params {
		fr.vals[p.ID] = args[i]
	}
	limit := fr.m.MaxSteps
	if limit == 0 {
		limit = 1_000_000
	}
	for {
		for _, v := range b.Values {
			if fr.m.steps++; fr.m.steps > limit {
				return 0, errSteps
			}
			x, err := fr.value(v)
			if err != nil {
				return 0, fmt.Errorf("%s: %s: %w", fr.f.Name, v.LongString(), err)
			}
			fr.vals[v.ID] = x
		}
		t := &b.Term
		edge := 0
		switch t.Kind {
		case ir.Return:
			return fr.vals[t.X.ID], nil
		case ir.Branch:
			if !Compare(t.Cond, fr.vals[t.X.ID], fr.vals[t.Y.ID]) {
				edge = 1
			}
		}
		if fr.m.steps++; fr.m.steps > limit {
			return 0, errSteps
		}
		e := &t.Succs[edge]
		next := make([]uint64, len(e.Args))
		for i, a := range e.Args {
			next[i] = fr.vals[a.ID]
		}
		for i, p := range e.To.Params {
			fr.vals[p.ID] = next[i]
		}
		b = e.To
	}
}

// Compare gives the result of a comparison.
func Compare(op ir.Op, x, y uint64) bool {
	switch op {
	case ir.OpEq:
		return x == y
	case ir.OpNe:
		return x != y
	case ir.OpULt:
		return x < y
	case ir.OpULe:
		return x <= y
	case ir.OpUGt:
		return x > y
	case ir.OpUGe:
		return x >= y
	case ir.OpSLt:
		return int64(x) < int64(y)
	case ir.OpSLe:
		return int64(x) <= int64(y)
	case ir.OpSGt:
		return int64(x) > int64(y)
	case ir.OpSGe:
		return int64(x) >= int64(y)
	case ir.OpSet:
		return x&y != 0
	}
	panic("interp: not a comparison: " + op.String())
}

// Arith gives the result of a pure integer op; ok is false for other ops. Size is that of extensions and swaps, imm that of bounds.
// Constant folding uses it too, so that there is one definition of each op.
func Arith(op ir.Op, size uint8, imm int64, args ...uint64) (uint64, bool) {
	var x, y uint64
	if len(args) > 0 {
		x = args[0]
	}
	if len(args) > 1 {
		y = args[1]
	}
	if ir.Ops[op].Compare {
		if Compare(op, x, y) {
			return 1, true
		}
		return 0, true
	}
	switch op {
	case ir.OpConst:
		return uint64(imm), true
	case ir.OpAdd:
		return x + y, true
	case ir.OpSub:
		return x - y, true
	case ir.OpMul:
		return x * y, true
	case ir.OpUDiv:
		if y == 0 {
			return 0, true
		}
		return x / y, true
	case ir.OpUMod:
		if y == 0 {
			return x, true
		}
		return x % y, true
	case ir.OpSDiv:
		if y == 0 {
			return 0, true
		}
		return uint64(int64(x) / int64(y)), true // Go wraps the smallest integer divided by -1
	case ir.OpSMod:
		if y == 0 {
			return x, true
		}
		return uint64(int64(x) % int64(y)), true
	case ir.OpAnd:
		return x & y, true
	case ir.OpOr:
		return x | y, true
	case ir.OpXor:
		return x ^ y, true
	case ir.OpShl:
		return x << (y & 63), true
	case ir.OpLShr:
		return x >> (y & 63), true
	case ir.OpAShr:
		return uint64(int64(x) >> (y & 63)), true
	case ir.OpNeg:
		return -x, true
	case ir.OpNot:
		return ^x, true
	case ir.OpZExt:
		return x & (1<<size - 1), true
	case ir.OpSExt:
		return uint64(int64(x<<(64-size)) >> (64 - size)), true
	case ir.OpBswap:
		return bits.ReverseBytes64(x << (64 - size)), true
	case ir.OpSelect:
		if x != 0 {
			return y, true
		}
		return args[2], true
	case ir.OpBound:
		return min(x, uint64(imm)), true
	}
	return 0, false
}

func (fr *frame) value(v *ir.Value) (uint64, error) {
	m := fr.m
	var a [5]uint64
	for i, arg := range v.Args {
		a[i] = fr.vals[arg.ID]
	}
	if x, ok := Arith(v.Op, v.Size, v.Imm, a[:max(len(v.Args), 3)]...); ok {
		return x, nil
	}
	addr := a[0] + uint64(int64(v.Off))
	switch v.Op {
	case ir.OpSlotAddr:
		return fr.slots[v.Aux.(*ir.Slot)] + uint64(int64(v.Off)), nil
	case ir.OpMapRef:
		mp, err := m.mapNamed(v.Aux.(string))
		if err != nil {
			return 0, err
		}
		return mp.handle(m), nil
	case ir.OpMapValAddr:
		mp, err := m.mapNamed(v.Aux.(string))
		if err != nil {
			return 0, err
		}
		return mp.value(m, 0) + uint64(int64(v.Off)), nil
	case ir.OpFuncRef:
		return m.funcHandle(v.Aux.(*ir.Func)), nil
	case ir.OpPtrAdd:
		return a[0] + a[1], nil
	case ir.OpPtrDiff:
		return a[0] - a[1], nil
	case ir.OpPtrInt, ir.OpBTFCast:
		return a[0], nil
	case ir.OpNonNil:
		if a[0] == 0 {
			return 0, errors.New("interp: it is nil")
		}
		return a[0], nil
	case ir.OpLoad:
		x, err := m.load(addr, int(v.Size))
		if err == nil && v.Signed {
			x, _ = Arith(ir.OpSExt, v.Size*8, 0, x)
		}
		return x, err
	case ir.OpStore:
		return 0, m.store(addr, int(v.Size), a[1])
	case ir.OpZero:
		b, err := m.Write(addr, int(v.Imm))
		clear(b)
		return 0, err
	case ir.OpCopy:
		src, err := m.Read(a[1], int(v.Imm))
		if err != nil {
			return 0, err
		}
		dst, err := m.Write(addr, int(v.Imm))
		copy(dst, src)
		return 0, err
	case ir.OpAtomicAdd, ir.OpFetchAdd, ir.OpXchg, ir.OpCmpXchg:
		return fr.atomic(v, addr, a)
	case ir.OpHelper:
		return m.helper(asm.BuiltinFunc(v.Imm), a)
	case ir.OpKfunc:
		h := m.Kfuncs[v.Aux.(string)]
		if h == nil {
			return 0, errors.New("interp: no such kernel function")
		}
		return h(m, a)
	case ir.OpCall:
		return m.Call(v.Aux.(*ir.Func), a[:len(v.Args)]...)
	}
	return 0, errors.New("interp: no meaning for this op")
}

func (fr *frame) atomic(v *ir.Value, addr uint64, a [5]uint64) (uint64, error) {
	size := int(v.Size)
	old, err := fr.m.load(addr, size)
	if err != nil {
		return 0, err
	}
	x := old
	switch v.Op {
	case ir.OpAtomicAdd, ir.OpFetchAdd:
		x = old + a[1]
	case ir.OpXchg:
		x = a[1]
	case ir.OpCmpXchg:
		want := a[1]
		if size == 4 {
			want &= 0xffffffff
		}
		if old == want {
			x = a[2]
		}
	}
	return old, fr.m.store(addr, size, x)
}
