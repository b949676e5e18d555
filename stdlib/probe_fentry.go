package stdlib

import (
	"errors"
	"fmt"
	"slices"
	"strings"

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

// fentry is fentry and fexit: kernel functions with typed arguments.
type fentry struct {
	m    *Machine
	name string
	exit bool
}

// fentryPoint is one function.
type fentryPoint struct {
	module string // "" for the kernel itself
	fn     string
	words  int // of its arguments
	// nilable tells that an argument may be nil to the verifier: since 6.9 one whose name says so is (in the stubs of struct_ops).
	nilable bool
}

func fentryKinds(m *Machine) []KindEntry {
	return []KindEntry{
		{Kind: &fentry{m, "fentry", false}, Aliases: []string{"f", "kfunc"}, Doc: Doc{
			Group: "kernel", Summary: "a kernel function is entered, with typed arguments",
			Text: "`fentry[:MODULE]:FUNCTION`. `args` has the arguments by name and type; they are read without helper calls. Two to three times cheaper than " +
				"`kprobe`.",
			Example: `fentry:vfs_read { @[args.file.f_path.dentry.d_name.name] = count(); }`, SeeAlso: []string{"fexit", "kprobe"}, Needs: []string{"btf", "fentry"},
		}},
		{Kind: &fentry{m, "fexit", true}, Aliases: []string{"fr", "kretfunc"}, Doc: Doc{
			Group: "kernel", Summary: "a kernel function returns, with typed arguments and result",
			Text:    "`fexit[:MODULE]:FUNCTION`. Has both `args` and `retval`, and misses no return.",
			Example: `fexit:vfs_read { @bytes = hist(retval); }`, SeeAlso: []string{"fentry", "kretprobe"}, Needs: []string{"btf", "fentry"},
		}},
	}
}

func (k *fentry) Name() string { return k.name }

func (k *fentry) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest(k.name, ap, env, diags)
	if len(r.seg) > 0 && r.seg[0] == "bpf" {
		return k.expandBPF(r)
	}
	if len(r.seg) == 3 {
		r.errorf(codeSegments, "Only the 'bpf' variant of this probe supports 4 arguments").Hint("write `%s:FUNCTION` or `%s:MODULE:FUNCTION`", k.name, k.name)
		return nil
	}
	if n := len(r.seg); n == 0 || n > 2 { // one with its module before it counts as well
		r.errorf(codeSegments, "%s probe type requires 1 or 3 arguments, found %d", k.name, n).Hint("write `%s:FUNCTION`", k.name)
		return nil
	}
	module, fn := "", r.seg[len(r.seg)-1]
	at := len(r.seg) - 1
	if len(r.seg) == 2 {
		module = r.seg[0]
	}
	if fn == "" {
		r.errorf(codeSegments, "fentry/fexit should specify a function").Hint("write `%s:FUNCTION`", k.name)
		return nil
	}
	if _, err := k.m.Types.Kernel(); err != nil {
		d := r.errorf(codeNoMeans, "%s needs the kernel's type information: %v", k.name, err)
		d.Hint("use `kprobe`, or a kernel built with CONFIG_DEBUG_INFO_BTF")
		return nil
	}
	if !kernel.HasWildcard(fn) && !kernel.HasWildcard(module) {
		return k.one(r, at, module, fn)
	}
	pattern := module
	if pattern == "" {
		pattern = "*"
	}
	found, err := k.find(pattern, fn)
	if err != nil {
		r.errorf(codeNoMeans, "cannot list the kernel's functions: %v", err).Hint("run as root")
		return nil
	}
	var points []*check.Point
	for _, f := range found {
		if p := k.point(r, f); p != nil {
			points = append(points, p)
		}
	}
	if len(points) == 0 {
		r.noMatch(at, strings.Join(r.seg, ":"), nil)
	}
	return points
}

// neverReturning are functions of the kernel that end the caller. Newer kernels (6.16) refuse an exit probe on them, older ones take it and it
// never fires; a wildcard leaves them out, a name goes to the kernel, whose refusal is explained.
var neverReturning = []string{
	"do_exit", "do_group_exit", "do_task_dead", "kthread_complete_and_exit", "kthread_exit", "make_task_dead", "panic", "rewind_stack_and_make_dead",
	"__module_put_and_kthread_exit", "__do_sys_exit", "__do_sys_exit_group",
}

// find lists the functions that match, that BTF describes, and that can be traced.
func (k *fentry) find(module, fn string) ([]fentryPoint, error) {
	funcs, _, err := traceable(k.m, module, fn, true)
	if err != nil {
		return nil, err
	}
	found := make([]fentryPoint, 0, len(funcs))
	for _, f := range funcs {
		b, err := k.m.Types.Module(f.Module)
		if err != nil {
			continue
		}
		id, ok := b.TypeByName(f.Name, kernel.KindFunc)
		if !ok || k.exit && kernel.HasWildcard(fn) && slices.Contains(neverReturning, f.Name) {
			continue
		}
		if proto, err := funcProto(b, id); err == nil && k.refused(b, proto) != "" {
			continue
		}
		found = append(found, fentryPoint{module: trimVmlinux(f.Module), fn: f.Name})
	}
	return found, nil
}

func (k *fentry) one(r *request, at int, module, fn string) []*check.Point {
	if module != "" && module != "vmlinux" && !moduleLoaded(k.m, module) {
		d := r.noMatch(0, strings.Join(r.seg, ":"), nil)
		if d == nil {
			return nil
		}
		if mods, err := k.m.Kernel.Modules(); err == nil {
			suggest(d, nearest(module, slices.Values(mods)))
		}
		d.Hint("load it first: modprobe %s", module)
		return nil
	}
	ref, err := k.m.Kernel.FindFunc(module, fn)
	if err != nil {
		if exists, known := functionExists(k.m, module, fn); known && exists && errors.Is(err, kernel.ErrNoFunc) {
			d := r.segErrorf(at, codeNoMatch, "No matches for %s %s.", k.name, strings.Join(r.seg, ":"))
			d.Hint("use `%s:%s`: the kernel has the function, but no type information for it", k.untyped(), fn)
			return nil
		}
		r.noMatch(at, strings.Join(r.seg, ":"), nearestFunctions(k.m, fn))
		return nil
	}
	d := fentryPoint{module: ref.Module, fn: fn}
	if p := k.point(r, d); p != nil {
		return []*check.Point{p}
	}
	if b, proto, ok := declared(k.m, d.module, fn); ok {
		if why := k.refused(b, proto); why != "" {
			r.segErrorf(at, codeNoMeans, "%s cannot trace %s: %s", k.name, fn, why).Hint("use `%s:%s`", k.untyped(), fn)
		}
	}
	return nil
}

// untyped is the kind that needs no types.
func (k *fentry) untyped() string {
	if k.exit {
		return "kretprobe"
	}
	return "kprobe"
}

// The limits of the kernel's btf_distill_func_proto.
const (
	mostFentryArgs  = 12
	mostFentryBytes = 16 // of one argument
	fewFentryArgs   = 6  // what every kernel passes on
)

// refused says why no kernel, or not this one, attaches a typed program to functions of a prototype; "" where it does.
func (k *fentry) refused(b *kernel.BTF, proto kernel.Type) string {
	params, variadic := proto.Params()
	switch {
	case variadic:
		return "it takes a variable number of arguments"
	case len(params) > mostFentryArgs:
		return fmt.Sprintf("it has %d arguments, more than %d", len(params), mostFentryArgs)
	case isStruct(b, proto.Ref):
		return "it returns a struct"
	}
	if f := k.m.features(); argWords(b, params) > fewFentryArgs && f.Has(kernel.FeatureFentry) && !f.Has(kernel.FeatureFentryArgs) {
		return fmt.Sprintf("it has more than %d arguments, which this kernel does not pass on (Linux 6.6 does)", fewFentryArgs)
	}
	for _, p := range params {
		if !isStruct(b, p.Type) {
			continue
		}
		if n := sizeOf(b, p.Type); n > mostFentryBytes {
			return fmt.Sprintf("its argument `%s` is a struct of %d bytes, more than %d", p.Name, n, mostFentryBytes)
		}
		if f := k.m.features(); f.Has(kernel.FeatureFentry) && !f.Has(kernel.FeatureFentryStruct) {
			return fmt.Sprintf("its argument `%s` is a struct, which this kernel does not pass on (Linux 6.1 does)", p.Name)
		}
	}
	return ""
}

func isStruct(b *kernel.BTF, id kernel.ID) bool {
	if id == 0 {
		return false
	}
	t, err := b.Resolve(id)
	return err == nil && (t.Kind == kernel.KindStruct || t.Kind == kernel.KindUnion)
}

// point is nil where nothing can be attached.
func (k *fentry) point(r *request, d fentryPoint) *check.Point {
	b, err := k.m.Types.Module(d.module)
	if err != nil {
		return nil
	}
	id, ok := b.TypeByName(d.fn, kernel.KindFunc)
	if !ok {
		return nil
	}
	proto, err := funcProto(b, id)
	if err == nil && k.refused(b, proto) != "" {
		return nil
	}
	module := d.module
	if module == "" {
		module = "vmlinux"
	}
	p := r.point(k, k.name+":"+module+":"+d.fn)
	p.Scope, p.Base = p.Name, k.name
	p.FuncName, p.Space, p.Data = d.fn, types.SpaceKernel, &d
	if err != nil {
		return p
	}
	params, _ := proto.Params()
	d.words = argWords(b, params)
	d.nilable = slices.ContainsFunc(params, func(p kernel.Param) bool { return strings.HasSuffix(p.Name, "__nullable") })
	p.NumArgs = d.words
	p.Args = argsType(p.Name, func() []types.Field { return k.m.Types.params(b, params, types.ProvBTF) })
	if k.exit && proto.Ref != 0 {
		p.Retval = withProvenance(k.m.Types.Convert(b, proto.Ref), types.ProvBTF)
	}
	return p
}

func funcProto(b *kernel.BTF, id kernel.ID) (kernel.Type, error) {
	fn, err := b.Type(id)
	if err != nil {
		return kernel.Type{}, err
	}
	return b.Type(fn.Ref)
}

func (k *fentry) List(segments []string, opts ListOptions, yield func(Listed) bool) error {
	if len(segments) > 0 && segments[0] == "bpf" {
		return k.listBPF(segments[1:], yield)
	}
	module, fn, ok := twoPatterns(segments)
	if !ok || k.exit && len(segments) == 0 {
		return nil
	}
	if _, err := k.m.Types.Kernel(); err != nil {
		if errors.Is(err, kernel.ErrNoBTF) {
			return nil
		}
		return err
	}
	found, err := k.find(module, fn)
	if err != nil {
		return err
	}
	for _, f := range found {
		mod := f.module
		if mod == "" {
			mod = "vmlinux"
		}
		l := Listed{Name: k.name + ":" + mod + ":" + f.fn}
		if opts.Verbose {
			l.Args = k.declare(f)
		}
		if !yield(l) {
			return nil
		}
	}
	return nil
}

func (k *fentry) declare(f fentryPoint) []string {
	b, proto, ok := declared(k.m, f.module, f.fn)
	if !ok {
		return nil
	}
	params, _ := proto.Params()
	out := btfArgs(b, params)
	if proto.Ref != 0 && k.exit {
		out = append(out, cDeclare(b, proto.Ref, "retval"))
	}
	return out
}

// declared finds the prototype of a function of the kernel; module is "" for the kernel itself.
func declared(m *Machine, module, fn string) (b *kernel.BTF, proto kernel.Type, ok bool) {
	b, err := m.Types.Module(module)
	if err != nil {
		return nil, proto, false
	}
	_, proto, ok = b.FuncProto(fn)
	return b, proto, ok
}

func (k *fentry) Hook(p *check.Point, _ *lower.Uses, _ *target.Target) *lower.Hook {
	d := p.Data.(*fentryPoint)
	h := &lower.Hook{Point: p, Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachTo: d.fn, Module: d.module, Context: wordContext(d.words, d.nilable), Data: d}
	if k.exit {
		h.AttachType = ebpf.AttachTraceFExit
	}
	return h
}

func (k *fentry) Links(hooks []*lower.Hook, _ bool, _ *target.Target) []*object.Attach {
	return eachHook(hooks, func(h *lower.Hook) *object.Attach {
		d := h.Data.(*fentryPoint)
		return &object.Attach{Mechanism: object.Fentry, Target: d.fn, Module: d.module, Reason: "a trampoline calls the program directly"}
	})
}
