package lower

import (
	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// ProbeKind is what a probe kind tells the compiler, beside what it tells the checker. Every kind of stdlib implements it.
//
// The compiler first collects, for each distinct point of the script (by Point.Name), the bodies that it runs, in script order. It asks
// the kind for one [Hook] per point, knowing what all of these bodies use. Points whose hooks have the same Share and that run the same
// bodies become one program; the bodies follow each other in it and a `return` leaves only its own. Last, the kind
// makes the attach plan of each program from its hooks. Both methods must be deterministic and read nothing but their arguments.
type ProbeKind interface {
	// Hook decides how a point reaches the kernel.
	Hook(p *check.Point, u *Uses, t *target.Target) *Hook
	// Links makes the attach plan of a program that serves hooks (one or more, all with the same Share). When cookies is set, the program
	// tells its points apart by bpf_get_attach_cookie: the cookie of hooks[i] must be hooks[i].Index.
	// Attach.Points must list the Index of each hook served. Programs that sonde runs itself (begin, end) give none.
	Links(hooks []*Hook, cookies bool, t *target.Target) []*object.Attach
}

// Uses says what the bodies that run at one point use, so that a kind can choose its mechanism.
type Uses struct {
	// Names holds every builtin variable and function that is used, by name without alias ("args", "retval", "kstack", "str");
	// argN is under "argN".
	Names map[string]bool
	// Fields holds the names of the members of args that are used.
	Fields map[string]bool
	// WholeArgs is set when args is used other than by a member (print(args)).
	WholeArgs bool
	// MaxArg is the largest N of argN, -1 when there is none.
	MaxArg int
}

// Has reports whether any of the names is used.
func (u *Uses) Has(names ...string) bool {
	for _, n := range names {
		if u.Names[n] {
			return true
		}
	}
	return false
}

// Hook is how one point of the script reaches the kernel: the program that serves it and the context that the program sees.
type Hook struct {
	Point *check.Point
	// Index of the point in object.Points; set by the compiler before Links is called.
	Index int

	// Share: hooks with the same Share may be served by one program. It must name everything that goes into the program's code or
	// its load attributes (type, scope of args, AttachTo ...). "" means that the program serves no other point.
	Share string
	// Cookies says that each point's link can carry a cookie (bpf_get_attach_cookie works for the mechanism and the target has it).
	// Without it, points that need telling apart (`probe`, `func`) get a program each.
	Cookies bool
	// Which computes the Index of the point that fired when several share the program, in place of the cookie; nil: by cookie.
	Which func(g *Gen, hooks []*Hook) *ir.Value

	Type       ebpf.ProgramType
	AttachType ebpf.AttachType
	AttachTo   string // see object.Program
	Module     string
	Flags      uint32
	Role       object.Role

	// Seldom: the program runs at most a thousand times a second, all CPUs together (interval), so that its events need less room.
	Seldom bool

	// Context reads what the program's context holds.
	Context Context
	// Enter emits code that runs before the first body; nil for none. It may leave the program with g.LeaveUnless.
	Enter func(g *Gen)
	// Returns: the value of `return x` becomes the program's own (test); everywhere else programs return 0.
	Returns bool
	// Errno: the program must return 0 or a negative error number (security hooks), and the verifier must see that it does.
	Errno bool
	// StackSkip is the number of innermost kernel frames that belong to the mechanism and are left out of kstack.
	StackSkip int

	// Data is the kind's own, for Links.
	Data any
}

// Context reads a program's context. This package has the contexts of the known program types: [TraceRecord], [ArgArray], [Registers]
// and [NoContext]. The checker has made sure that what is asked for exists (Point.Args, NumArgs, Retval).
type Context interface {
	// Member gives a member of args. Aggregates and strings are places that are not read yet.
	Member(g *Gen, f types.Field) Operand
	// Arg gives argN with the type that the checker gave it.
	Arg(g *Gen, n int, t *types.Type) Operand
	// Retval gives the return value.
	Retval(g *Gen, t *types.Type) Operand
	// Record gives the memory of args as a whole, false when it must be built member by member.
	Record(g *Gen) (Place, bool)
	// Reg reads a register by the name that the architecture uses; false when the name or the context is wrong.
	Reg(g *Gen, name string) (*ir.Value, bool)
	// IP gives the address of the instruction or function that was hit, for `func` where its name is not known while compiling.
	IP(g *Gen) *ir.Value
}
