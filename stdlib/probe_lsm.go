package stdlib

import (
	"errors"
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
	hook       string
	words      int
	fmod       bool   // by a program on the function that asks the hooks, because the hooks themselves do not run
	cannotDeny string // why deny() makes no sense; "" where it does
}

// lsmPrefix is before the name of a hook in the name of the function that BPF programs attach to; securityPrefix in that of the function
// of the kernel that asks all modules.
const (
	lsmPrefix      = "bpf_lsm_"
	securityPrefix = "security_"
)

// answerHooks ask for something else than a permission, so that a denial would be misunderstood: a number of bytes, or whether something is the case.
var answerHooks = []string{
	"inode_getsecurity", "inode_listsecurity", "inode_need_killpriv", "inode_copy_up_xattr", "inode_xattr_skipcap", "getprocattr", "setprocattr",
	"getselfattr", "vm_enough_memory", "audit_rule_known", "audit_rule_match", "key_getsecurity", "ismaclabel", "xfrm_state_pol_flow_match", "xfrm_policy_lookup",
	"xfrm_decode_session", "secid_to_secctx", "lsmprop_to_secctx", "secctx_to_secid",
}

func lsmKinds(m *Machine) []KindEntry {
	return []KindEntry{{Kind: &lsm{m}, Doc: Doc{
		Group: "kernel", Summary: "the kernel asks whether something is allowed",
		Text: "`lsm:HOOK`, such as `lsm:file_open` or `lsm:bprm_check_security`. `args` has the hook's arguments by name and type. Without --unsafe the body only observes; " +
			"with it, `deny()` refuses. The kernel must run with `bpf` in its list of security modules, which is tested; where it does not, a program on the " +
			"function `security_HOOK` does the same, if the kernel allows it.",
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
	hooks := k.names(b, strings.TrimPrefix(r.seg[0], securityPrefix))
	if len(hooks) == 0 {
		r.noMatch(0, r.seg[0], nearest(r.seg[0], slices.Values(k.names(b, "*"))))
		return nil
	}
	fmod := false
	if why := k.silent(); why != "" {
		// Programs load and attach, and their hooks never fire: that must be said here, or another way found.
		open := slices.DeleteFunc(slices.Clone(hooks), func(h string) bool {
			_, ok := b.TypeByName(securityPrefix+h, kernel.KindFunc)
			return !ok
		})
		if len(open) == 0 || !k.m.features().Has(kernel.FeatureFmodRet) {
			k.refuse(r, hooks[0], why)
			return nil
		}
		hooks, fmod = open, true
	}
	var points []*check.Point
	for _, h := range hooks {
		points = append(points, k.point(r, b, h, fmod))
	}
	return points
}

// silent says why programs on hooks would never run, "" when they do or nothing can be said.
func (k *lsm) silent() string {
	if active, err := k.m.Kernel.BPFLSM(); err == nil && !active {
		return "`bpf` is not in its list of security modules"
	}
	var missing *kernel.FeatureError
	if err := k.m.features().Check(kernel.FeatureLSMActive); errors.As(err, &missing) && missing.Detail != "" {
		return missing.Detail
	}
	return ""
}

func (k *lsm) refuse(r *request, hook, why string) {
	d := r.errorf(codeNoMeans, "the kernel does not run BPF security hooks: %s", why)
	if list, err := k.m.Kernel.LSMs(); err == nil && !slices.Contains(list, "bpf") {
		d.Hint("boot with lsm=%s,bpf", strings.Join(list, ","))
	}
	d.Hint("use `fentry:%s%s` to observe only", securityPrefix, hook)
}

func (k *lsm) names(b *kernel.BTF, pattern string) []string {
	var out []string
	for _, name := range b.Each(lsmPrefix+pattern, kernel.KindFunc) {
		out = append(out, strings.TrimPrefix(name, lsmPrefix))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (k *lsm) point(r *request, b *kernel.BTF, hook string, fmod bool) *check.Point {
	p := r.point(k, "lsm:"+hook)
	p.Scope, p.Base = p.Name, "lsm"
	p.FuncName, p.Space = hook, types.SpaceKernel
	d := &lsmPoint{hook: hook, fmod: fmod}
	p.Data = d
	_, proto, ok := b.FuncProto(d.function())
	if !ok {
		return p
	}
	switch {
	case proto.Ref == 0:
		d.cannotDeny = "the kernel does not ask, it only tells"
	case slices.Contains(answerHooks, hook):
		d.cannotDeny = "the kernel asks it for something else than a permission"
	}
	params, _ := proto.Params()
	d.words = argWords(b, params)
	p.NumArgs = d.words
	p.Args = argsType(p.Name, func() []types.Field { return k.m.Types.params(b, params, types.ProvBTF) })
	return p
}

// function is what the program attaches to.
func (d *lsmPoint) function() string {
	if d.fmod {
		return securityPrefix + d.hook
	}
	return lsmPrefix + d.hook
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
	h := &lower.Hook{Point: p, Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: d.hook, Context: wordContext(d.words, false), Errno: true, Data: d}
	if d.fmod {
		h.Type, h.AttachType, h.AttachTo = ebpf.Tracing, ebpf.AttachModifyReturn, d.function()
	}
	return h
}

func (k *lsm) Links(hooks []*lower.Hook, _ bool, _ *target.Target) []*object.Attach {
	return eachHook(hooks, func(h *lower.Hook) *object.Attach {
		if h.Data.(*lsmPoint).fmod {
			return &object.Attach{Mechanism: object.Fentry, Target: h.AttachTo, Reason: "security hooks do not run on this kernel; the function that asks them can be answered for"}
		}
		return &object.Attach{Mechanism: object.LSM, Target: h.AttachTo, Reason: "security hooks have one way in"}
	})
}
