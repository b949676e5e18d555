package seccomp

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Instruction is one of classic BPF, struct sock_filter.
type Instruction struct {
	Op     uint16
	Jt, Jf uint8
	K      uint32
}

// The operations that filters use.
const (
	opLoad    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opJump    = unix.BPF_JMP | unix.BPF_JA
	opJumpEq  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opJumpGE  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	opAnd     = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opReturn  = unix.BPF_RET | unix.BPF_K
	dataNr    = 0
	dataArch  = 4
	dataArgs  = 16
	dataBytes = 64
)

// maxInstructions is BPF_MAXINSNS.
const maxInstructions = 4096

// Compile makes the kernel's filter of a policy: the ABI first, then a search for the number, then arguments. The order is what
// makes it sound: a number means nothing before the ABI is known, and x32 shares the ABI word with x86-64.
func Compile(p *Policy) ([]Instruction, error) {
	c := &compiler{policy: p, returns: map[uint32]int{}}
	def, foreign := c.ret(p.Default.ret()), c.ret(p.Foreign.ret())
	// Sections of the ABIs, from the last to the first: a backward pass knows all targets.
	next := foreign
	for _, abi := range slices.Backward(p.ABIs) {
		if abi == X32 {
			continue // inside of x86-64's
		}
		section := c.number(abi, def)
		if abi == X8664 {
			x32 := foreign
			if slices.Contains(p.ABIs, X32) {
				x32 = c.number(X32, def)
			}
			section = c.branch(opJumpGE, x32Bit, x32, section)
		}
		if section != len(c.code)-1 { // a single outcome, which is elsewhere
			c.put(Instruction{Op: opJump, K: uint32(len(c.code) - section - 1)})
		}
		next = c.branch(opJumpEq, abi.facts().audit, c.put(Instruction{Op: opLoad, K: dataNr}), next)
	}
	c.put(Instruction{Op: opLoad, K: dataArch})
	slices.Reverse(c.code)
	if len(c.code) > maxInstructions {
		return nil, fmt.Errorf("the filter has %d instructions, the kernel takes %d; leave out argument values", len(c.code), maxInstructions)
	}
	return c.code, nil
}

// compiler writes instructions from the last to the first: a place is the number of instructions behind it.
type compiler struct {
	policy  *Policy
	code    []Instruction  // reversed
	returns map[uint32]int // the nearest place that returns a value
}

func (c *compiler) put(i Instruction) int {
	c.code = append(c.code, i)
	return len(c.code) - 1
}

// ret is a place that returns a value.
func (c *compiler) ret(v uint32) int {
	if at, ok := c.returns[v]; ok {
		return at
	}
	at := c.put(Instruction{Op: opReturn, K: v})
	c.returns[v] = at
	return at
}

// branch puts a conditional jump. Its distances have 8 bits, so that far targets are reached through a jump beside it.
func (c *compiler) branch(op uint16, k uint32, yes, no int) int {
	near := func(target int) int {
		if i := c.code[target]; i.Op == opReturn { // a copy costs what a jump costs, and serves those that follow
			if target = c.returns[i.K]; len(c.code)-target > 250 {
				target = c.put(i)
				c.returns[i.K] = target
			}
			return target
		}
		if len(c.code)-target > 250 {
			return c.put(Instruction{Op: opJump, K: uint32(len(c.code) - target - 1)})
		}
		return target
	}
	yes, no = near(yes), near(no)
	here := len(c.code)
	return c.put(Instruction{Op: op, K: k, Jt: uint8(here - yes - 1), Jf: uint8(here - no - 1)})
}

// span is a range of numbers with one outcome: from first up to the next one's.
type span struct {
	first uint32
	at    int
}

// number puts the search for a call's number in one ABI.
func (c *compiler) number(abi ABI, def int) int {
	bit := uint32(0)
	if abi == X32 {
		bit = x32Bit
	}
	spans := []span{{0, def}}
	add := func(first uint32, at int) {
		last := &spans[len(spans)-1]
		switch {
		case last.at == at:
		case last.first == first:
			last.at = at
			if n := len(spans); n > 1 && spans[n-2].at == at {
				spans = spans[:n-1]
			}
		default:
			spans = append(spans, span{first, at})
		}
	}
	for _, r := range c.policy.Rules {
		if r.ABI == abi {
			add(uint32(r.Number)|bit, c.outcome(r, def))
			add(uint32(r.Number)|bit+1, def)
		}
	}
	return c.search(spans)
}

func (c *compiler) search(spans []span) int {
	if len(spans) == 1 {
		return spans[0].at
	}
	mid := len(spans) / 2
	right := c.search(spans[mid:])
	left := c.search(spans[:mid])
	return c.branch(opJumpGE, spans[mid].first, right, left)
}

// outcome puts the conditions of a rule, if it has some.
func (c *compiler) outcome(r *Rule, def int) int {
	allow := c.ret(r.Action.ret())
	next := def
	for _, all := range slices.Backward(r.Any) {
		at := allow
		for _, cond := range slices.Backward(all) {
			at = c.half(cond.Index, 0, uint32(cond.Mask), uint32(cond.Value), at, next)
			if r.ABI.facts().bits == 64 {
				at = c.half(cond.Index, 4, uint32(cond.Mask>>32), uint32(cond.Value>>32), at, next)
			}
		}
		next = at
	}
	if len(r.Any) == 0 {
		return allow
	}
	return next
}

// half compares 32 bits of an argument: the machines that we know have the lower half first.
func (c *compiler) half(index int, off uint32, mask, value uint32, yes, no int) int {
	switch mask {
	case 0:
		if value != 0 {
			return no
		}
		return yes
	case 0xffffffff:
		c.branch(opJumpEq, value, yes, no)
	default:
		c.branch(opJumpEq, value, yes, no)
		c.put(Instruction{Op: opAnd, K: mask})
	}
	return c.put(Instruction{Op: opLoad, K: dataArgs + uint32(8*index) + off})
}

// Bytes is the filter as the kernel takes it, in the byte order of the machine that it is for (little endian for all we know).
func Bytes(code []Instruction) []byte {
	var out []byte
	for _, i := range code {
		out = binary.LittleEndian.AppendUint16(out, i.Op)
		out = append(out, i.Jt, i.Jf)
		out = binary.LittleEndian.AppendUint32(out, i.K)
	}
	return out
}

// Disassemble prints a filter for people.
func Disassemble(w io.Writer, code []Instruction, native ABI) error {
	out := &printer{w: w}
	for at, i := range code {
		out.f("%4d  ", at)
		switch i.Op {
		case opLoad:
			out.f("load %s\n", dataWord(i.K))
		case opAnd:
			out.f("and %#x\n", i.K)
		case opJump:
			out.f("goto %d\n", at+1+int(i.K))
		case opJumpEq, opJumpGE:
			op := "=="
			if i.Op == opJumpGE {
				op = ">="
			}
			out.f("if %s %s goto %d else %d\n", op, constant(i.K, native), at+1+int(i.Jt), at+1+int(i.Jf))
		case opReturn:
			out.f("return %s\n", returnText(i.K))
		default:
			out.f("op %#x %d %d %#x\n", i.Op, i.Jt, i.Jf, i.K)
		}
	}
	return out.err
}

func dataWord(off uint32) string {
	switch {
	case off == dataNr:
		return "number"
	case off == dataArch:
		return "ABI"
	case off >= dataArgs && off < dataBytes:
		half := "lower"
		if off%8 == 4 {
			half = "upper"
		}
		return fmt.Sprintf("argument %d, %s half", (off-dataArgs)/8, half)
	}
	return fmt.Sprintf("word at %d", off)
}

func constant(k uint32, native ABI) string {
	for _, f := range abiTable {
		if f.audit == k && f.native == native && f.abi != X32 {
			return fmt.Sprintf("%#x (%s)", k, f.abi)
		}
	}
	return fmt.Sprintf("%#x", k)
}

func returnText(k uint32) string {
	name := map[uint32]string{
		unix.SECCOMP_RET_KILL_PROCESS: "kill process", unix.SECCOMP_RET_KILL_THREAD: "kill thread", unix.SECCOMP_RET_TRAP: "trap", unix.SECCOMP_RET_ERRNO: "errno",
		unix.SECCOMP_RET_USER_NOTIF: "notify", unix.SECCOMP_RET_TRACE: "trace", unix.SECCOMP_RET_LOG: "log", unix.SECCOMP_RET_ALLOW: "allow",
	}[k&unix.SECCOMP_RET_ACTION_FULL]
	if data := k & unix.SECCOMP_RET_DATA; data != 0 {
		name += " " + strings.TrimSpace(Action{ActionErrno, int(data)}.String())
	}
	return name
}
