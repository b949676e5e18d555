package stdlib

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// rawTracepoint is the tracepoint behind a trace event, with the arguments that the kernel passes.
type rawTracepoint struct{ m *Machine }

type rawPoint struct {
	module, name string
	typed        bool // BTF knows the arguments
	words        int  // of them
}

func (k *rawTracepoint) Name() string { return "rawtracepoint" }

func (k *rawTracepoint) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest("rawtracepoint", ap, env, diags)
	if !r.count(1, 2, "rawtracepoint:EVENT") {
		return nil
	}
	module, name := "*", r.seg[len(r.seg)-1]
	if len(r.seg) == 2 {
		module = r.seg[0]
	}
	if name == "" {
		r.errorf(codeSegments, "rawtracepoint should be attached to a function")
		return nil
	}
	if _, err := k.m.Types.Kernel(); err != nil {
		if kernel.HasWildcard(name) || len(r.seg) == 2 {
			r.errorf(codeNoMeans, "rawtracepoints require kernel BTF. Try using a 'tracepoint' instead.")
			return nil
		}
		p := r.point(k, "rawtracepoint:vmlinux:"+name) // untyped: argN only
		p.Space, p.NumArgs, p.Data = types.SpaceKernel, maxRawArgs, &rawPoint{name: name}
		return []*check.Point{p}
	}
	found := k.find(module, name)
	if len(found) == 0 {
		k.missing(r, module, name)
		return nil
	}
	points := make([]*check.Point, 0, len(found))
	for _, d := range found {
		points = append(points, k.point(r, d))
	}
	return points
}

// maxRawArgs is how many arguments a tracepoint can have.
const maxRawArgs = 12

func (k *rawTracepoint) point(r *request, d *rawPoint) *check.Point {
	module := d.module
	if module == "" {
		module = "vmlinux"
	}
	p := r.point(k, "rawtracepoint:"+module+":"+d.name)
	p.Scope, p.Base = p.Name, "rawtracepoint"
	p.Space = types.SpaceKernel
	p.NumArgs = maxRawArgs
	p.Data = d
	b, err := k.m.Types.Module(d.module)
	if err != nil {
		return p
	}
	if _, params, ok := b.TracepointProto(d.name); ok {
		d.typed, d.words = true, argWords(b, params)
		p.NumArgs = d.words
		p.Args = argsType(p.Name, func() []types.Field { return k.m.Types.params(b, params, types.ProvBTF) })
	}
	return p
}

// argsType makes the type of args for functions: members in registers or in an array of eight-byte words.
func argsType(name string, fields func() []types.Field) *types.Type {
	return &types.Type{Kind: types.Args, Struct: &types.StructDef{Name: name + "_args", Resolve: sync.OnceValue(fields)}}
}

// find lists the tracepoints that match in the kernel and its modules, by module and name.
func (k *rawTracepoint) find(module, name string) []*rawPoint {
	if !kernel.HasWildcard(name) {
		switch {
		case module == "*":
			if mod, _, _, _, err := k.m.Kernel.FindTracepoint(name); err == nil {
				return []*rawPoint{{module: mod, name: name}}
			}
			return nil
		case !kernel.HasWildcard(module):
			b, err := k.m.Types.Module(module)
			if err != nil {
				return nil
			}
			if _, _, ok := b.TracepointProto(name); !ok {
				return nil
			}
			return []*rawPoint{{module: trimVmlinux(module), name: name}}
		}
	}
	var found []*rawPoint
	for _, mod := range k.modules(module) {
		b, err := k.m.Types.Module(mod)
		if err != nil {
			continue
		}
		var names []string
		for _, n := range b.Each("btf_trace_"+name, kernel.KindTypedef) {
			names = append(names, strings.TrimPrefix(n, "btf_trace_"))
		}
		slices.Sort(names)
		for _, n := range slices.Compact(names) {
			found = append(found, &rawPoint{module: trimVmlinux(mod), name: n})
		}
	}
	return found
}

func trimVmlinux(module string) string {
	if module == "vmlinux" {
		return ""
	}
	return module
}

// modules lists the kernel ("vmlinux") and the modules with BTF that match, sorted.
func (k *rawTracepoint) modules(pattern string) []string { return btfModules(k.m, pattern) }

func btfModules(m *Machine, pattern string) []string {
	g := kernel.CompileGlob(pattern)
	var out []string
	if g.Match("vmlinux") {
		out = append(out, "vmlinux")
	}
	mods, err := m.Kernel.BTFModules()
	if err != nil {
		return out
	}
	for _, mod := range mods {
		if g.Match(mod) {
			out = append(out, mod)
		}
	}
	slices.Sort(out)
	return out
}

func (k *rawTracepoint) missing(r *request, module, name string) {
	target := name
	if len(r.seg) == 2 {
		target = module + ":" + name
	}
	var near []string
	if !kernel.HasWildcard(target) {
		near = nearest(name, func(yield func(string) bool) {
			for _, mod := range k.modules("*") {
				if b, err := k.m.Types.Module(mod); err == nil {
					for _, n := range b.Each("btf_trace_*", kernel.KindTypedef) {
						if !yield(strings.TrimPrefix(n, "btf_trace_")) {
							return
						}
					}
				}
			}
		})
		if len(r.seg) == 2 && !slices.Contains(k.modules("*"), module) {
			near = nil
		}
	}
	r.noMatch(-1, target, near)
}

func (k *rawTracepoint) List(segments []string, opts ListOptions, yield func(Listed) bool) error {
	module, name, ok := twoPatterns(segments)
	if !ok {
		return nil
	}
	if _, err := k.m.Types.Kernel(); err != nil {
		if errors.Is(err, kernel.ErrNoBTF) {
			return nil
		}
		return err
	}
	for _, d := range k.find(module, name) {
		mod := d.module
		if mod == "" {
			mod = "vmlinux"
		}
		l := Listed{Name: "rawtracepoint:" + mod + ":" + d.name}
		if opts.Verbose {
			if b, err := k.m.Types.Module(d.module); err == nil {
				if _, params, ok := b.TracepointProto(d.name); ok {
					l.Args = btfArgs(b, params)
				}
			}
		}
		if !yield(l) {
			return nil
		}
	}
	return nil
}

// btfArgs writes parameters as listings show them.
func btfArgs(b *kernel.BTF, params []kernel.Param) []string {
	var out []string
	for _, p := range params {
		out = append(out, cDeclare(b, p.Type, p.Name))
	}
	return out
}

// cDeclare writes a declaration in C: "struct file * f", "char name[16]".
func cDeclare(b *kernel.BTF, id kernel.ID, name string) string {
	text := b.String(id)
	if i := strings.IndexByte(text, '['); i >= 0 && !strings.Contains(text, "(") {
		return strings.TrimSpace(text[:i]) + " " + name + text[i:]
	}
	return text + " " + name
}

func (k *rawTracepoint) Hook(p *check.Point, u *lower.Uses, t *target.Target) *lower.Hook {
	d := p.Data.(*rawPoint)
	h := &lower.Hook{Point: p, Context: untypedArgs{lower.ArgArray{Args: p.NumArgs}}, Data: d}
	// BTF-typed arguments are read by plain loads, which is worth a program for each tracepoint as soon as args is used.
	if d.typed && u.Has("args") && t.Features.Has(target.TPBTF) {
		h.Type, h.AttachType, h.AttachTo, h.Module = ebpf.Tracing, ebpf.AttachTraceRawTp, d.name, d.module
		h.Context = wordContext(d.words, true)
		return h
	}
	h.Type, h.Share = ebpf.RawTracepoint, p.Base
	if u.Has("args") {
		h.Share = p.Scope
	}
	return h
}

func (k *rawTracepoint) Links(hooks []*lower.Hook, _ bool, _ *target.Target) []*object.Attach {
	return eachHook(hooks, func(h *lower.Hook) *object.Attach {
		d := h.Data.(*rawPoint)
		if h.AttachTo != "" {
			return &object.Attach{Mechanism: object.TPBTF, Target: d.name, Module: d.module, Reason: "typed arguments are read by plain loads"}
		}
		return &object.Attach{Mechanism: object.RawTracepoint, Target: d.name, Reason: "no typed argument is used"}
	})
}
