package stdlib

import (
	"slices"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// wildKind stands for all kinds whose names match a pattern: `k*probe:vfs_read`. Kinds that the segments do not fit are left out.
type wildKind struct {
	pattern string
	kinds   []check.ProbeKind
}

// newWildKind gives nil when no kind matches.
func newWildKind(entries []KindEntry, pattern string) *wildKind {
	w := &wildKind{pattern: pattern}
	g := kernel.CompileGlob(pattern)
	for _, e := range entries {
		if g.Match(e.Kind.Name()) && !slices.Contains(unlisted, e.Kind.Name()) {
			w.kinds = append(w.kinds, e.Kind)
		}
	}
	if len(w.kinds) == 0 {
		return nil
	}
	return w
}

// unlisted are the kinds that a pattern never means: they are no events of the machine.
var unlisted = []string{"begin", "end", "self", "test", "bench"}

func (w *wildKind) Name() string { return w.pattern }

func (w *wildKind) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	var points []*check.Point
	for _, k := range w.kinds {
		var own diag.List // what one kind refuses, another takes
		points = append(points, k.Expand(ap, env, &own)...)
	}
	if len(points) == 0 {
		newRequest(w.pattern, ap, env, diags).noMatch(-1, ap.Raw, nil)
	}
	return points
}
