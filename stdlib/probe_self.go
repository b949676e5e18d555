package stdlib

import (
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// edge is begin and end: sonde runs their programs itself, before everything is attached and after everything is detached.
type edge struct {
	name string
	role object.Role
}

func selfKinds(*Machine) []KindEntry {
	return []KindEntry{
		{Kind: &edge{"begin", object.RoleBegin}, Aliases: []string{"BEGIN"}, Doc: Doc{
			Group: "self", Summary: "once, before the other probes are attached",
			Text:    "Runs in sonde's own process before any other probe is attached. A script may have several; they run in their order.",
			Example: `begin { printf("tracing, Ctrl-C to end\n"); exit(); }`, SeeAlso: []string{"end"},
		}},
		{Kind: &edge{"end", object.RoleEnd}, Aliases: []string{"END"}, Doc: Doc{
			Group: "self", Summary: "once, after the other probes are detached",
			Text:    "Runs in sonde's own process after all other probes are detached and before the maps are printed.",
			Example: `begin { @n = 1; exit(); } end { printf("n = %d\n", @n); clear(@n); }`, SeeAlso: []string{"begin"},
		}},
		{Kind: &self{}, Doc: Doc{
			Group: "self", Summary: "sonde receives a signal", Text: "`self:signal:SIGUSR1` runs in sonde's own process when it is sent the signal.",
			Example: `self:signal:SIGUSR1 { print(@n); } begin { @n = 1; exit(); }`,
		}},
		{Kind: &named{"test", object.RoleTest}, Doc: Doc{
			Group: "self", Summary: "a test, run by --test",
			Text:    "Passes unless it returns something other than 0, fails an assertion or calls exit with a code other than 0. What a passing test prints is not shown.",
			Example: `test:adds_up { return 1 + 1 == 2 ? 0 : 1; }`, SeeAlso: []string{"bench"},
		}},
		{Kind: &named{"bench", object.RoleBench}, Doc: Doc{
			Group: "self", Summary: "a micro benchmark, run by --bench",
			Text: "Runs many times; a table shows the mean time of one run.", Example: `bench:count { @n = count(); }`, SeeAlso: []string{"test"},
		}},
	}
}

func (k *edge) Name() string { return k.name }

func (k *edge) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest(k.name, ap, env, diags)
	if len(r.seg) == 1 && r.seg[0] == "*" {
		r.seg = nil
	}
	if len(r.seg) != 0 {
		r.errorf(codeSegments, "%s probe type requires 0 arguments, found %d", k.name, len(r.seg)).Hint("write `%s`", k.name)
		return nil
	}
	return []*check.Point{r.point(k, k.name)}
}

func (k *edge) List(segments []string, _ ListOptions, yield func(Listed) bool) error {
	if len(segments) == 0 {
		yield(Listed{Name: k.name})
	}
	return nil
}

func (k *edge) Hook(p *check.Point, _ *lower.Uses, _ *target.Target) *lower.Hook {
	return ownProgram(p, k.role)
}

func (k *edge) Links([]*lower.Hook, bool, *target.Target) []*object.Attach { return nil }

// named is test and bench: bodies that sonde runs when it is asked to, each with a name of its own.
type named struct {
	name string
	role object.Role
}

func (k *named) Name() string { return k.name }

func (k *named) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest(k.name, ap, env, diags)
	if len(r.seg) != 1 {
		r.errorf(codeSegments, "%s probe type requires 1 arguments, found %d", k.name, len(r.seg)).Hint("write `%s:NAME`", k.name)
		return nil
	}
	if r.seg[0] == "" {
		r.errorf(codeSegments, "%s probes must have a name", k.name).Hint("write `%s:NAME`", k.name)
		return nil
	}
	return []*check.Point{r.point(k, k.name+":"+r.seg[0])}
}

func (k *named) List([]string, ListOptions, func(Listed) bool) error { return nil }

func (k *named) Hook(p *check.Point, _ *lower.Uses, _ *target.Target) *lower.Hook {
	h := ownProgram(p, k.role)
	h.Returns = k.role == object.RoleTest
	return h
}

func (k *named) Links([]*lower.Hook, bool, *target.Target) []*object.Attach { return nil }

// self is what happens to sonde itself.
type self struct{}

// selfSignals are the signals that sonde takes for probes.
var selfSignals = []string{"SIGUSR1"}

func (k *self) Name() string { return "self" }

func (k *self) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest("self", ap, env, diags)
	switch {
	case len(r.seg) != 2:
		r.errorf(codeSegments, "self probe type requires 2 arguments, found %d", len(r.seg)).Hint("write `self:signal:SIGUSR1`")
		return nil
	case r.seg[0] != "signal":
		r.segErrorf(0, codeSegments, "%s is not a supported trigger", r.seg[0]).Hint("use `signal`")
		return nil
	case !slices.Contains(selfSignals, r.seg[1]):
		r.errorf(codeSegments, "%s is not a supported signal", r.seg[1]).Hint("use %s", strings.Join(selfSignals, " or "))
		return nil
	}
	p := r.point(k, "self:signal:"+r.seg[1])
	p.Data = r.seg[1]
	return []*check.Point{p}
}

func (k *self) List(segments []string, _ ListOptions, yield func(Listed) bool) error {
	g := kernel.CompileGlob(strings.Join(segments, ":"))
	for _, s := range selfSignals {
		if g.Match("signal:"+s) && !yield(Listed{Name: "self:signal:" + s}) {
			break
		}
	}
	return nil
}

func (k *self) Hook(p *check.Point, _ *lower.Uses, _ *target.Target) *lower.Hook {
	return ownProgram(p, object.RoleSignal)
}

func (k *self) Links([]*lower.Hook, bool, *target.Target) []*object.Attach { return nil }

// ownProgram is the hook of a program that sonde runs itself. A raw tracepoint program is the kind that test runs accept since 5.10 and that
// may use all helpers of tracing.
func ownProgram(p *check.Point, role object.Role) *lower.Hook {
	return &lower.Hook{Point: p, Type: ebpf.RawTracepoint, Role: role, Context: noContext()}
}
