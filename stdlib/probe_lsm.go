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
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// lsm is a hook of the kernel's security framework. With --unsafe the body may deny what the hook is asked about.
type lsm struct{ m *Machine }

type lsmPoint struct {
	hook  string
	words int
}

// lsmPrefix is before the name of a hook in the name of the function that BPF programs attach to.
const lsmPrefix = "bpf_lsm_"

func lsmKinds(m *Machine) []KindEntry {
	return []KindEntry{{Kind: &lsm{m}, Doc: Doc{
		Group: "kernel", Summary: "the kernel asks whether something is allowed",
		Text: "`lsm:HOOK`, such as `lsm:file_open` or `lsm:bprm_check_security`. `args` has the hook's arguments by name and type. Without --unsafe the body only observes; " +
			"with it, `deny()` refuses. The kernel must run with `bpf` in its list of security modules.",
		Example: `lsm:file_open { @[comm] = count(); }`, SeeAlso: []string{"fentry"}, Needs: []string{"btf", "lsm", "lsm_active"},
	}}}
}

func (k *lsm) Name() string { return "lsm" }

func (k *lsm) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest("lsm", ap, env, diags)
	if !r.count(1, 1, "lsm:HOOK") {
		return nil
	}
	b, err := k.m.Types.Kernel()
	if err != nil {
		r.errorf(codeNoMeans, "lsm needs the kernel's type information: %v", err).Hint("use a kernel built with CONFIG_DEBUG_INFO_BTF")
		return nil
	}
	hooks := k.names(b, strings.TrimPrefix(r.seg[0], "security_"))
	if len(hooks) == 0 {
		r.noMatch(0, r.seg[0], nearest(r.seg[0], slices.Values(k.names(b, "*"))))
		return nil
	}
	// Where bpf is not among the active modules, programs load and attach and their hooks never fire: that must be said here.
	if active, err := k.m.Kernel.BPFLSM(); err == nil && !active {
		d := r.errorf(codeNoMeans, "the kernel does not run BPF security hooks: `bpf` is not in its list of security modules")
		if list, err := k.m.Kernel.LSMs(); err == nil {
			d.Hint("boot with lsm=%s,bpf", strings.Join(list, ","))
		}
		d.Hint("use `fentry:security_%s` to observe only", hooks[0])
		return nil
	}
	var points []*check.Point
	for _, h := range hooks {
		points = append(points, k.point(r, b, h))
	}
	return points
}

func (k *lsm) names(b *kernel.BTF, pattern string) []string {
	var out []string
	for _, name := range b.Each(lsmPrefix+pattern, kernel.KindFunc) {
		out = append(out, strings.TrimPrefix(name, lsmPrefix))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (k *lsm) point(r *request, b *kernel.BTF, hook string) *check.Point {
	p := r.point(k, "lsm:"+hook)
	p.Scope, p.Base = p.Name, "lsm"
	p.FuncName, p.Space = hook, types.SpaceKernel
	d := &lsmPoint{hook: hook}
	p.Data = d
	if _, proto, ok := b.FuncProto(lsmPrefix + hook); ok {
		params, _ := proto.Params()
		d.words = argWords(b, params)
		p.NumArgs = d.words
		p.Args = argsType(p.Name, func() []types.Field { return k.m.Types.params(b, params, types.ProvBTF) })
	}
	return p
}

func (k *lsm) List(segments []string, opts ListOptions, yield func(Listed) bool) error {
	b, err := k.m.Types.Kernel()
	if err != nil || len(segments) > 1 {
		return nil //nolint:nilerr // without type information the kind has no points
	}
	pattern := "*"
	if len(segments) == 1 {
		pattern = segments[0]
	}
	for _, h := range k.names(b, pattern) {
		l := Listed{Name: "lsm:" + h}
		if opts.Verbose {
			if _, proto, ok := b.FuncProto(lsmPrefix + h); ok {
				params, _ := proto.Params()
				l.Args = btfArgs(b, params)
			}
		}
		if !yield(l) {
			return nil
		}
	}
	return nil
}

func (k *lsm) Hook(p *check.Point, _ *lower.Uses, _ *target.Target) *lower.Hook {
	d := p.Data.(*lsmPoint)
	return &lower.Hook{Point: p, Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: d.hook, Context: wordContext(d.words, false), Data: d}
}

func (k *lsm) Links(hooks []*lower.Hook, _ bool, _ *target.Target) []*object.Attach {
	return eachHook(hooks, func(h *lower.Hook) *object.Attach {
		return &object.Attach{Mechanism: object.LSM, Target: h.AttachTo, Reason: "security hooks have one way in"}
	})
}
