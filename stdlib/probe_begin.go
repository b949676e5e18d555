package stdlib

import (
	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
)

// edge is begin and end: sonde runs their programs itself, before everything is attached and after everything is detached.
type edge struct {
	name string
	role object.Role
}

func selfKinds(*Machine) []KindEntry {
	return []KindEntry{
		{Kind: &edge{"begin", object.RoleBegin}, Aliases: []string{"BEGIN"}, Doc: Doc{Group: "self", Summary: "once, before the other probes are attached",
			Text:    "Runs in sonde's own process before any other probe is attached. A script may have several; they run in their order.",
			Example: `begin { printf("tracing, Ctrl-C to end\n"); exit(); }`, SeeAlso: []string{"end"}}},
		{Kind: &edge{"end", object.RoleEnd}, Aliases: []string{"END"}, Doc: Doc{Group: "self", Summary: "once, after the other probes are detached",
			Text:    "Runs in sonde's own process after all other probes are detached and before the maps are printed.",
			Example: `begin { @n = 1; exit(); } end { printf("n = %d\n", @n); clear(@n); }`, SeeAlso: []string{"begin"}}},
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

// ownProgram is the hook of a program that sonde runs itself. A raw tracepoint program is the kind that test runs accept since 5.10 and that
// may use all helpers of tracing.
func ownProgram(p *check.Point, role object.Role) *lower.Hook {
	return &lower.Hook{Point: p, Type: ebpf.RawTracepoint, Role: role, Context: noContext()}
}
