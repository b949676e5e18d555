package stdlib

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// iterKind walks over objects of the kernel: the program runs once for each of them.
type iterKind struct{ m *Machine }

type iterPoint struct {
	name string
	pin  string // absolute path, "" for none
}

// iterPrefix is before the name of an iterator in the name of its context struct; the function has one underscore less.
const iterPrefix = "bpf_iter__"

// iterNeedsTarget are iterators that walk over the entries of one map, which an attach point cannot name.
var iterNeedsTarget = []string{"bpf_map_elem", "bpf_sk_storage_map", "sockmap"}

func iterKinds(m *Machine) []KindEntry {
	return []KindEntry{{Kind: &iterKind{m}, Aliases: []string{"it"}, Doc: Doc{
		Group: "kernel", Summary: "walks over objects of the kernel",
		Text: "`iter:task`, `iter:task_file`, `iter:task_vma` and what else the kernel has (list them with -l 'iter:*'). The object is a member of `ctx` and of " +
			"`args`. With a third part the iterator is pinned below /sys/fs/bpf, and runs when somebody reads that file: what `printf` prints, numbers and strings, is the file's text.",
		Example: `iter:task { printf("%s %d\n", ctx.task.comm, ctx.task.pid); }`, Needs: []string{"btf", "iter"},
	}}}
}

func (k *iterKind) Name() string { return "iter" }

func (k *iterKind) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest("iter", ap, env, diags)
	if len(r.seg) != 1 && len(r.seg) != 2 {
		r.errorf(codeSegments, "iter probe type takes 2 arguments (1 optional)").Hint("write `iter:task` or `iter:task:PIN`")
		return nil
	}
	for i, s := range r.seg {
		if kernel.HasWildcard(s) {
			r.segErrorf(i, codeSegments, "iter probe type does not support wildcards")
			return nil
		}
	}
	if r.seg[0] == "" {
		r.errorf(codeSegments, "iter should specify a iterator's name").Hint("list them with -l 'iter:*'")
		return nil
	}
	if _, err := k.m.Types.Kernel(); err != nil {
		r.errorf(codeNoMeans, "iterators need the kernel's type information: %v", err).Hint("use a kernel built with CONFIG_DEBUG_INFO_BTF")
		return nil
	}
	d := &iterPoint{name: r.seg[0]}
	t := k.m.Types.StructType(iterPrefix + d.name)
	if t == nil || slices.Contains(iterNeedsTarget, d.name) {
		suggest(r.segErrorf(0, codeNoMatch, "iter %s not available for your kernel version.", d.name), nearest(d.name, slices.Values(k.names("*"))))
		return nil
	}
	if len(r.seg) == 2 {
		if d.pin = r.seg[1]; d.pin == "" {
			r.segErrorf(1, codeSegments, "the pin file has no name")
			return nil
		}
		if !filepath.IsAbs(d.pin) {
			d.pin = filepath.Join("/sys/fs/bpf", d.pin)
		}
	}
	p := r.point(k, "iter:"+d.name)
	p.Scope, p.Space, p.Data = p.Name, types.SpaceKernel, d
	p.Args = iterArgs(t)
	return []*check.Point{p}
}

// iterArgs are the objects in an iterator's context: all members but the bookkeeping in `meta`, out of the unions that pad them.
func iterArgs(t *types.Type) *types.Type {
	def := &types.StructDef{Name: t.Struct.Name, Size: t.Size}
	def.Resolve = sync.OnceValue(func() []types.Field {
		var out []types.Field
		var add func(fields []types.Field, off int)
		add = func(fields []types.Field, off int) {
			for _, f := range fields {
				f.Offset += off
				switch {
				case f.Name == "" && f.Type.Kind == types.Struct:
					add(f.Type.Struct.Resolve(), f.Offset)
				case f.Name != "" && f.Name != "meta":
					f.Type = withProvenance(f.Type, types.ProvBTF)
					out = append(out, f)
				}
			}
		}
		add(t.Struct.Resolve(), 0)
		return out
	})
	return &types.Type{Kind: types.Args, Size: t.Size, Struct: def}
}

// names lists the iterators that match, sorted.
func (k *iterKind) names(pattern string) []string {
	b, err := k.m.Types.Kernel()
	if err != nil {
		return nil
	}
	var out []string
	for _, name := range b.Each(iterPrefix+pattern, kernel.KindStruct) {
		// A name with two underscores is what the kernel tells its verifier about another's members.
		if name = strings.TrimPrefix(name, iterPrefix); !slices.Contains(iterNeedsTarget, name) && !strings.Contains(name, "__") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (k *iterKind) List(segments []string, opts ListOptions, yield func(Listed) bool) error {
	if len(segments) > 1 {
		return nil
	}
	pattern := "*"
	if len(segments) == 1 {
		pattern = segments[0]
	}
	b, err := k.m.Types.Kernel()
	if err != nil {
		if errors.Is(err, kernel.ErrNoBTF) {
			return nil
		}
		return err
	}
	for _, name := range k.names(pattern) {
		l := Listed{Name: "iter:" + name}
		if opts.Verbose {
			// The iterator's function has the objects as parameters, behind `meta`.
			if _, proto, ok := b.FuncProto("bpf_iter_" + name); ok {
				params, _ := proto.Params()
				for _, p := range params {
					if p.Name != "meta" {
						l.Args = append(l.Args, cDeclare(b, p.Type, p.Name))
					}
				}
			}
		}
		if !yield(l) {
			return nil
		}
	}
	return nil
}

func (k *iterKind) Hook(p *check.Point, _ *lower.Uses, _ *target.Target) *lower.Hook {
	d := p.Data.(*iterPoint)
	return &lower.Hook{
		Point: p, Type: ebpf.Tracing, AttachType: ebpf.AttachTraceIter, AttachTo: d.name, Context: iterObjects{}, Data: d,
		Enter: func(g *lower.Gen) { onlyObjects(g, p.Args) },
	}
}

// onlyObjects leaves the program where there is no object: the kernel runs it once more behind the last one.
func onlyObjects(g *lower.Gen, args *types.Type) {
	for _, f := range args.Struct.Resolve() {
		if f.Type.Kind == types.Pointer {
			g.LeaveUnless(g.B.CmpImm(ir.OpNe, g.B.PtrInt(g.B.LoadPtr(g.Ctx(), f.Offset, ir.BTFNil)), 0))
			return
		}
	}
}

func (k *iterKind) Links(hooks []*lower.Hook, _ bool, _ *target.Target) []*object.Attach {
	return eachHook(hooks, func(h *lower.Hook) *object.Attach {
		d := h.Data.(*iterPoint)
		return &object.Attach{Mechanism: object.Iter, Target: d.name, PinPath: d.pin, Reason: "the kernel runs iterators when they are read"}
	})
}

// IterContext is the type of `ctx` in an iterator: a pointer to its context. nil for other kinds.
func IterContext(p *check.Point) *types.Type {
	if _, ok := p.Data.(*iterPoint); !ok || p.Args == nil {
		return nil
	}
	return types.PointerTo(&types.Type{Kind: types.Struct, Size: p.Args.Size, Struct: p.Args.Struct}, types.SpaceKernel, types.ProvCtx)
}
