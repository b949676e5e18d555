package seccomp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
)

// vm runs filters in golang.org/x/net/bpf, which was written by others than the compiler that it judges.
type vm struct {
	vm *bpf.VM
}

func newVM(t testing.TB, code []Instruction) *vm {
	t.Helper()
	raw := make([]bpf.RawInstruction, len(code))
	for i, c := range code {
		raw[i] = bpf.RawInstruction{Op: c.Op, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	ins, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the filter has instructions that x/net/bpf does not know")
	}
	v, err := bpf.NewVM(ins)
	if err != nil {
		t.Fatalf("the filter is not valid: %v", err)
	}
	return &vm{v}
}

// run gives what the filter returns. The machine reads packets, which are big endian; each word of seccomp_data is laid out so.
func (v *vm) run(t testing.TB, audit, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	var data [dataBytes]byte
	binary.BigEndian.PutUint32(data[dataNr:], nr)
	binary.BigEndian.PutUint32(data[dataArch:], audit)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[dataArgs+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[dataArgs+8*i+4:], uint32(a>>32))
	}
	n, err := v.vm.Run(data[:])
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// equalToPolicy proves a filter equal to its policy for all numbers 0 to 600 of every ABI, around all other borders, and for
// argument values around all of those that it compares.
func equalToPolicy(t testing.TB, p *Policy, code []Instruction) {
	t.Helper()
	v := newVM(t, code)
	checked := 0
	for _, f := range abiTable {
		numbers := []uint32{x32Bit - 1, 0x7fffffff, 0xffffffff, 0x80000000, 65536}
		for n := range uint32(601) {
			numbers = append(numbers, n)
		}
		for _, n := range numbers {
			nr, abi := n, f.abi
			if f.abi == X32 {
				nr |= x32Bit
			}
			if f.abi == X8664 && n >= x32Bit {
				abi = X32 // what the kernel takes it for
				n &^= x32Bit
			}
			argSets := [][6]uint64{{}}
			if r := p.find(abi, int(n)); r != nil {
				argSets = append(argSets, boundaryArgs(r)...)
			}
			for _, args := range argSets {
				want := p.Decide(abi, n, args).ret()
				if f.native != p.Native {
					want = p.Foreign.ret()
				}
				if got := v.run(t, f.audit, nr, args); got != want {
					t.Fatalf("%s call %d (%s) with %#x: the filter returns %#x, the policy %#x", f.abi, n, f.abi.Name(int(n)), args, got, want)
				}
				checked++
			}
		}
	}
	if got := v.run(t, 0, 0, [6]uint64{}); got != p.Foreign.ret() {
		t.Fatalf("an ABI that nobody knows gets %#x", got)
	}
	if checked < 5*601 {
		t.Fatalf("only %d checked", checked)
	}
}

// boundaryArgs are arguments around the values of a rule.
func boundaryArgs(r *Rule) [][6]uint64 {
	var out [][6]uint64
	for _, all := range r.Any {
		var base [6]uint64
		for _, c := range all {
			base[c.Index] = c.Value
		}
		out = append(out, base)
		for _, c := range all {
			for _, d := range []uint64{c.Value + 1, c.Value - 1, c.Value | 1<<32, c.Value | 1<<63, c.Value ^ 0x80000000, 0, ^uint64(0), c.Value ^ c.Mask} {
				x := base
				x[c.Index] = d
				if r.ABI.facts().bits == 32 {
					x[c.Index] &= 0xffffffff // more does not reach the kernel
				}
				out = append(out, x)
			}
		}
	}
	return out
}

func mustPolicy(t testing.TB, p *Profile, o PolicyOptions) *Policy {
	t.Helper()
	pol, err := NewPolicy(p, o)
	if err != nil {
		t.Fatal(err)
	}
	return pol
}

func TestCompileEqualsPolicy(t *testing.T) {
	big := sample("a")
	for _, abi := range X8664.Family() {
		for i, n := range abi.Names() {
			if nr, ok := abi.Number(n); ok && i%2 == 0 {
				c := &Call{ABI: abi, Name: n, Number: nr, Origin: OriginRecorded}
				if learned(abi, n) != nil || i%16 == 0 {
					c.Args = &ArgSet{Indexes: []int{0, 2}, Bits: []int{32, abi.facts().bits}}
					for j := range 3 {
						c.Args.Values = append(c.Args.Values, []Hex{Hex(j * 3), Hex(uint64(j)<<31) & Hex(full64>>(64-abi.facts().bits))})
					}
				}
				if big.Find(abi, nr) == nil {
					big.Calls = append(big.Calls, c)
				}
			}
		}
	}
	arm := New(AArch64, "", "")
	for _, n := range []string{"read", "write", "execve", "openat", "clone", "clone3"} {
		arm.Calls = append(arm.Calls, call(AArch64, n, 1))
	}
	arm.Calls = append(arm.Calls, call(ARM, "read", 1), call(ARM, "mmap2", 1))
	one := sample("a", call(X8664, "getpid", 1))
	restricted := sample("a", call(X8664, "socket", 1), call(X8664, "clone", 1), call(X8664, "clone3", 1))
	restricted.Calls[0].Args = &ArgSet{Indexes: []int{0, 1, 2}, Bits: []int{32, 32, 32}, Values: [][]Hex{{2, 1, 0}, {1, 0x80001, 0}, {0xffffffff, 0, 0}}}
	restricted.Calls[1].Args = &ArgSet{Indexes: []int{0}, Bits: []int{64}, Values: [][]Hex{{0x3d0f00}, {0xffffffffffffffff}, {1 << 32}}}
	for _, tt := range []struct {
		name string
		p    *Profile
		o    PolicyOptions
	}{
		{"half of all calls with arguments", big, PolicyOptions{}},
		{"half of all calls", big, PolicyOptions{AnyArgs: true, Default: Kill}},
		{"64-bit ARM", arm, PolicyOptions{Default: ENOSYS}},
		{"one call", one, PolicyOptions{Closure: ClosureNone, Clone3: Clone3AsRecorded}},
		{"an ABI without calls", one, PolicyOptions{Closure: ClosureNone, ABIs: []ABI{X86, X32}, Clone3: Clone3AsRecorded}},
		{"log", one, PolicyOptions{Default: Log}},
		{"clone by arguments", restricted, PolicyOptions{Clone3: Clone3ENOSYS}},
		{"clone by arguments beside clone3", restricted, PolicyOptions{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pol := mustPolicy(t, tt.p, tt.o)
			code, err := Compile(pol)
			if err != nil {
				t.Fatal(err)
			}
			equalToPolicy(t, pol, code)
			t.Logf("%d rules, %d instructions", len(pol.Rules), len(code))
		})
	}
}

// TestCompileRandom makes policies that no one would think of.
func TestCompileRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		p := sample("a")
		for _, abi := range X8664.Family() {
			for n := range 600 {
				if name := abi.Name(n); name != "" && rnd.IntN(10) == 0 {
					c := &Call{ABI: abi, Name: name, Number: n, Origin: OriginRecorded}
					if rnd.IntN(4) == 0 {
						c.Args = &ArgSet{Indexes: []int{rnd.IntN(3), 3 + rnd.IntN(3)}, Bits: []int{32, abi.facts().bits}}
						for range 1 + rnd.IntN(4) {
							c.Args.Values = append(c.Args.Values, []Hex{Hex(rnd.Uint32()), Hex(rnd.Uint64() >> (64 - abi.facts().bits))})
						}
					}
					p.Calls = append(p.Calls, c)
				}
			}
		}
		pol := mustPolicy(t, p, PolicyOptions{Default: Action{ActionErrno, 1 + rnd.IntN(100)}})
		code, err := Compile(pol)
		if err != nil {
			t.Fatal(err)
		}
		equalToPolicy(t, pol, code)
	}
}

func TestCompileTooLong(t *testing.T) {
	p := sample("a")
	for _, n := range X8664.Names()[:200] {
		c := call(X8664, n, 1)
		c.Args = &ArgSet{Indexes: []int{0}, Bits: []int{64}}
		for j := range 32 {
			c.Args.Values = append(c.Args.Values, []Hex{Hex(j)})
		}
		p.Calls = append(p.Calls, c)
	}
	if _, err := Compile(mustPolicy(t, p, PolicyOptions{})); err == nil || !strings.Contains(err.Error(), "instructions") {
		t.Errorf("error %v", err)
	}
}

func TestPolicyClosure(t *testing.T) {
	p := sample("a", call(X8664, "execve", 1), call(X8664, "rt_sigaction", 1), call(X8664, "clone", 1))
	names := func(pol *Policy) []string {
		var out []string
		for _, r := range pol.Rules {
			if r.Origin == "" {
				out = append(out, fmt.Sprintf("%s %s", r.Name, r.Action))
				if r.Why == "" {
					t.Errorf("%s has no reason", r.Name)
				}
			}
		}
		return out
	}
	got := names(mustPolicy(t, p, PolicyOptions{}))
	want := []string{"rt_sigreturn allow", "exit allow", "futex allow", "restart_syscall allow", "exit_group allow", "clone3 ENOSYS"}
	if !slices.Equal(got, want) {
		t.Errorf("usual: %v, want %v", got, want)
	}
	if got := names(mustPolicy(t, p, PolicyOptions{Closure: ClosureNone, Clone3: Clone3AsRecorded})); len(got) != 0 {
		t.Errorf("none: %v", got)
	}
	p.Runs[0].Programs = []Program{{Path: "/x", Language: "go"}}
	if got := names(mustPolicy(t, p, PolicyOptions{})); !slices.Contains(got, "epoll_pwait allow") {
		t.Errorf("a Go program: %v", got)
	}
	if len(names(mustPolicy(t, p, PolicyOptions{Closure: ClosurePortable}))) <= len(got) {
		t.Error("portable adds nothing")
	}
	for _, a := range additions {
		for _, n := range strings.Fields(a.names + " " + strings.TrimPrefix(a.when, "go")) {
			if !exists(X8664.Family(), n) {
				t.Errorf("the closure names %s, which does not exist", n)
			}
		}
	}
	if _, err := NewPolicy(p, PolicyOptions{Default: Allow}); err == nil {
		t.Error("a default that allows was taken")
	}
	if _, err := NewPolicy(New(X8664, "", ""), PolicyOptions{}); err == nil {
		t.Error("an empty profile was taken")
	}
}

func TestParseAction(t *testing.T) {
	for s, want := range map[string]Action{"kill": Kill, "EPERM": EPERM, "enosys": ENOSYS, "13": {ActionErrno, 13}, "log": Log, "errno": EPERM} {
		if got, err := ParseAction(s); err != nil || got != want {
			t.Errorf("%s: %v %v", s, got, err)
		}
		if again, err := ParseAction(want.String()); err != nil || again != want {
			t.Errorf("%v is written as %s, which is read as %v", want, want, again)
		}
	}
	for _, s := range []string{"", "EWHAT", "0", "5000", "-1"} {
		if got, err := ParseAction(s); err == nil {
			t.Errorf("%q was read as %v", s, got)
		}
	}
}
