package seccomp

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ActionKind is what a filter does with a call.
type ActionKind int

// The actions, strictest first; zero is none of them.
const (
	ActionKill   ActionKind = iota + 1 // ends the process
	ActionTrap                         // SIGSYS
	ActionErrno                        // the call fails
	ActionNotify                       // a supervisor decides
	ActionLog                          // allowed, and the audit log says so
	ActionAllow
)

// Action is a kind with its error number.
type Action struct {
	Kind  ActionKind
	Errno int // for ActionErrno
}

// Allow and others are the actions without a number.
var (
	Allow  = Action{Kind: ActionAllow}
	Log    = Action{Kind: ActionLog}
	Kill   = Action{Kind: ActionKill}
	Notify = Action{Kind: ActionNotify}
	EPERM  = Action{ActionErrno, int(unix.EPERM)}
	ENOSYS = Action{ActionErrno, int(unix.ENOSYS)}
)

// String is the action as [ParseAction] reads it.
func (a Action) String() string {
	switch a.Kind {
	case ActionErrno:
		if n := unix.ErrnoName(unix.Errno(a.Errno)); n != "" {
			return n
		}
		return strconv.Itoa(a.Errno)
	case ActionKill:
		return "kill"
	case ActionTrap:
		return "trap"
	case ActionNotify:
		return "notify"
	case ActionLog:
		return "log"
	}
	return "allow"
}

// maxErrno is MAX_ERRNO: what the kernel can return.
const maxErrno = 4095

// ParseAction reads kill, trap, log, allow, an error's name (EPERM) or its number.
func ParseAction(s string) (Action, error) {
	switch strings.ToLower(s) {
	case "kill":
		return Kill, nil
	case "trap":
		return Action{Kind: ActionTrap}, nil
	case "log":
		return Log, nil
	case "errno":
		return EPERM, nil
	case "allow":
		return Allow, nil
	}
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= maxErrno {
		return Action{ActionErrno, n}, nil
	}
	for n := 1; n < 200; n++ {
		if s != "" && unix.ErrnoName(unix.Errno(n)) == strings.ToUpper(s) {
			return Action{ActionErrno, n}, nil
		}
	}
	return Action{}, fmt.Errorf("unknown action `%s`; known are kill, trap, log, an error such as EPERM, or its number", s)
}

// ret is the value that a filter returns to the kernel.
func (a Action) ret() uint32 {
	switch a.Kind {
	case ActionKill:
		return unix.SECCOMP_RET_KILL_PROCESS
	case ActionTrap:
		return unix.SECCOMP_RET_TRAP
	case ActionErrno:
		return unix.SECCOMP_RET_ERRNO | uint32(a.Errno)
	case ActionNotify:
		return unix.SECCOMP_RET_USER_NOTIF
	case ActionLog:
		return unix.SECCOMP_RET_LOG
	}
	return unix.SECCOMP_RET_ALLOW
}

// Cond is a condition on an argument: it holds when the argument, masked, has the value.
type Cond struct {
	Index int
	Mask  uint64
	Value uint64
}

const full64 = ^uint64(0)

// Rule says what happens to one call.
type Rule struct {
	ABI    ABI
	Name   string
	Number int
	Action Action
	// Any are combinations of conditions. When there are some, the action is taken when all of one combination hold, and the
	// policy's default otherwise.
	Any [][]Cond
	// Why is the reason that the rule is there.
	Why string
	// Origin is [OriginRecorded] and so on, "" for rules that the closure added.
	Origin Origin
}

// Policy is a filter before it has a form.
type Policy struct {
	Native  ABI
	ABIs    []ABI // those it has rules for, the native one first; calls of others get Foreign
	Default Action
	Foreign Action
	Rules   []*Rule // by ABI, then by number
	Notes   []Finding
}

// Clone3Mode says what happens to clone3, whose flags a filter cannot see and without which C libraries use clone.
type Clone3Mode string

const (
	// Clone3Auto answers ENOSYS unless it was recorded.
	Clone3Auto Clone3Mode = ""
	// Clone3ENOSYS always answers ENOSYS.
	Clone3ENOSYS Clone3Mode = "enosys"
	// Clone3AsRecorded treats it like any other call.
	Clone3AsRecorded Clone3Mode = "recorded"
)

// PolicyOptions say how a profile becomes a policy. The zero value denies with EPERM and adds the usual closure.
type PolicyOptions struct {
	Default Action // zero: EPERM
	Closure Closure
	Clone3  Clone3Mode
	AnyArgs bool // leave out what was learned about arguments
	ABIs    []ABI
	Base    *Base // what a container's runtime calls, nil for none
}

// NewPolicy decides what a profile allows.
func NewPolicy(p *Profile, o PolicyOptions) (*Policy, error) {
	pol := &Policy{Native: p.ABI, Default: o.Default}
	if o.Default == (Action{}) {
		pol.Default = EPERM
	}
	if pol.Default.Kind == ActionAllow {
		return nil, fmt.Errorf("a default that allows makes no allowlist")
	}
	pol.Foreign = pol.Default
	fam := p.ABI.Family()
	for _, a := range o.ABIs {
		if !slices.Contains(fam, a) {
			return nil, fmt.Errorf("ABI %s does not run on %s", a, p.ABI)
		}
	}
	for _, a := range fam {
		if a == p.ABI || slices.Contains(o.ABIs, a) || slices.ContainsFunc(p.Calls, func(c *Call) bool { return c.ABI == a && c.Origin != OriginRuntime }) {
			pol.ABIs = append(pol.ABIs, a)
		}
	}
	for _, c := range p.Calls {
		if c.Origin != OriginRuntime {
			pol.allowCall(c, o)
		}
	}
	if len(pol.Rules) == 0 {
		return nil, fmt.Errorf("the profile has no calls; nothing could run under it")
	}
	pol.close(p, o.Closure)
	if o.Base != nil {
		for _, name := range o.Base.Names {
			if n, ok := p.ABI.Number(name); ok {
				pol.allow(p.ABI, name, n, "made by "+o.Base.Runtime+" "+o.Base.Version+" after it installed the filter", OriginRuntime)
			}
		}
	}
	if o.Base != nil {
		for _, c := range p.Calls {
			if c.Origin == OriginRuntime && p.madeBy(c, o.Base.Runtime) {
				pol.allow(c.ABI, c.Name, c.Number, "made by "+o.Base.Runtime+" between create and the program's start, recorded", OriginRuntime)
			}
		}
	}
	pol.clone3(o.Clone3)
	pol.sort()
	return pol, nil
}

func (p *Policy) allowCall(c *Call, o PolicyOptions) {
	why := "recorded"
	if c.Program != "" {
		why += ", first by " + c.Program
	}
	if c.Origin == OriginAccepted {
		why = "accepted after a check"
	}
	r := p.find(c.ABI, c.Number)
	if r == nil {
		r = &Rule{ABI: c.ABI, Name: c.Name, Number: c.Number, Action: Allow, Why: why, Origin: c.Origin}
		p.Rules = append(p.Rules, r)
		if c.Args != nil && !c.Args.Wide && !o.AnyArgs {
			r.Any = c.Args.conds(c.ABI)
		}
		return
	}
	// Recorded and accepted: both hold.
	if len(r.Any) == 0 || c.Args == nil || c.Args.Wide || o.AnyArgs {
		r.Any = nil
		return
	}
	r.Any = append(r.Any, c.Args.conds(c.ABI)...)
}

// conds turns tuples into conditions. Where the kernel takes 32 bits only those are compared: callers may leave anything above.
func (s *ArgSet) conds(abi ABI) [][]Cond {
	var out [][]Cond
	for _, t := range s.Values {
		var all []Cond
		for i, v := range t {
			mask := full64
			if s.Bits[i] == 32 && abi.facts().bits == 64 {
				mask = 0xffffffff
			}
			all = append(all, Cond{Index: s.Indexes[i], Mask: mask, Value: uint64(v)})
		}
		out = append(out, all)
	}
	return out
}

func (p *Policy) find(abi ABI, number int) *Rule {
	for _, r := range p.Rules {
		if r.ABI == abi && r.Number == number {
			return r
		}
	}
	return nil
}

// allow adds a call without conditions; one that has conditions loses them.
func (p *Policy) allow(abi ABI, name string, number int, why string, o Origin) {
	if !slices.Contains(p.ABIs, abi) {
		return
	}
	if r := p.find(abi, number); r != nil {
		if len(r.Any) > 0 {
			r.Any = nil
			r.Why += "; any arguments: " + why
		}
		return
	}
	p.Rules = append(p.Rules, &Rule{ABI: abi, Name: name, Number: number, Action: Allow, Why: why, Origin: o})
}

// glibcClone are the flags with which glibc calls clone where clone3 is missing: a thread (pthread_create) and a process
// (posix_spawn).
var glibcClone = [...]uint64{0x3d0f00, 0x4111}

// clone3 makes the rule for clone3 in every ABI.
func (p *Policy) clone3(mode Clone3Mode) {
	if mode == Clone3AsRecorded || p.Default.Kind == ActionLog || p.Default.Kind == ActionNotify {
		return
	}
	for _, abi := range p.ABIs {
		n, ok := abi.Number("clone3")
		if !ok {
			continue
		}
		cn, _ := abi.Number("clone")
		clone, r := p.find(abi, cn), p.find(abi, n)
		recorded := r != nil && r.Action == Allow
		if recorded && mode == Clone3Auto {
			if clone != nil && len(clone.Any) > 0 {
				p.note(SeverityWarning, callLabel(p.Native, abi, "clone"), "emit with --clone3=enosys: C libraries then use clone", "its flags are restricted, but clone3 is allowed too, whose flags a filter cannot see")
			}
			continue
		}
		why := "not recorded; C libraries then try clone, where another error would stop them"
		if recorded {
			why = "its flags are in memory, where a filter cannot see them; C libraries then try clone"
			if clone == nil {
				clone = &Rule{ABI: abi, Name: "clone", Number: cn, Action: Allow, Why: "in place of clone3"}
				p.Rules = append(p.Rules, clone)
			}
			if len(clone.Any) > 0 {
				for _, f := range glibcClone {
					clone.Any = append(clone.Any, []Cond{{Index: 0, Mask: full64, Value: f}})
				}
				clone.Why += "; with the flags that glibc uses in place of clone3"
			}
		}
		if r == nil {
			r = &Rule{ABI: abi, Name: "clone3", Number: n}
			p.Rules = append(p.Rules, r)
		}
		r.Action, r.Any, r.Why, r.Origin = ENOSYS, nil, why, ""
	}
}

func (p *Policy) note(s Severity, entry, hint, format string, args ...any) {
	p.Notes = append(p.Notes, Finding{s, entry, fmt.Sprintf(format, args...), hint})
}

func (p *Policy) sort() {
	slices.SortStableFunc(p.Rules, func(a, b *Rule) int {
		return cmp.Or(cmp.Compare(slices.Index(p.ABIs, a.ABI), slices.Index(p.ABIs, b.ABI)), cmp.Compare(a.Number, b.Number))
	})
}

// Decide says what happens to a call: the meaning of the policy, against which filters are tested. An ABI's number has no x32 bit.
func (p *Policy) Decide(abi ABI, number uint32, args [6]uint64) Action {
	if !slices.Contains(p.ABIs, abi) {
		return p.Foreign
	}
	for _, r := range p.Rules {
		if r.ABI != abi || uint32(r.Number) != number {
			continue
		}
		if len(r.Any) == 0 {
			return r.Action
		}
		for _, all := range r.Any {
			holds := true
			for _, c := range all {
				holds = holds && args[c.Index]&c.Mask == c.Value
			}
			if holds {
				return r.Action
			}
		}
	}
	return p.Default
}

// Allowed is how many calls of an ABI are allowed.
func (p *Policy) Allowed(abi ABI) int {
	n := 0
	for _, r := range p.Rules {
		if r.ABI == abi && r.Action == Allow {
			n++
		}
	}
	return n
}
