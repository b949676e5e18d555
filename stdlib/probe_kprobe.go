package stdlib

import (
	"fmt"
	"slices"
	"strconv"
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

// kprobe is kprobe and kretprobe: any instruction, or the return, of a kernel function.
type kprobe struct {
	m    *Machine
	name string
	ret  bool
}

// kprobePoint is one place in the kernel.
type kprobePoint struct {
	module string // as the script names it; "" when it does not
	fn     string
	offset uint64
	addr   uint64 // when fn is ""
	// listed is set when the kernel lists the function as one that its function tracer follows, which a multi link needs.
	listed bool
}

func kprobeKinds(m *Machine) []KindEntry {
	return []KindEntry{
		{Kind: &kprobe{m, "kprobe", false}, Aliases: []string{"k"}, Doc: Doc{
			Group: "kernel", Summary: "a kernel function is entered",
			Text: "`kprobe[:MODULE]:FUNCTION[+OFFSET]`. Arguments are `arg0`, `arg1` ... as the function's registers hold them; cast pointers to the structs " +
				"that they point to.",
			Example: `kprobe:vfs_read { @[comm] = count(); }`, SeeAlso: []string{"kretprobe", "fentry"}, Needs: []string{"kprobes"},
		}},
		{Kind: &kprobe{m, "kretprobe", true}, Aliases: []string{"kr"}, Doc: Doc{
			Group: "kernel", Summary: "a kernel function returns",
			Text:    "`kretprobe[:MODULE]:FUNCTION`. `retval` is the result. Returns that the kernel had no room to catch are counted and shown as missed.",
			Example: `kretprobe:vfs_read { @bytes = hist(retval); }`, SeeAlso: []string{"kprobe", "fexit"}, Needs: []string{"kprobes"},
		}},
	}
}

func (k *kprobe) Name() string { return k.name }

func (k *kprobe) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest(k.name, ap, env, diags)
	if !r.count(1, 2, k.name+":FUNCTION") {
		return nil
	}
	d := kprobePoint{fn: r.seg[len(r.seg)-1]}
	at := len(r.seg) - 1
	if len(r.seg) == 2 {
		d.module = r.seg[0]
	}
	if !r.offset(at, &d.fn, &d.offset, k.ret) {
		return nil
	}
	if d.fn == "" {
		r.errorf(codeSegments, "kprobes should be attached to a function or an address").Hint("write `%s:FUNCTION`", k.name)
		return nil
	}
	if strings.HasPrefix(d.fn, "0x") {
		addr, err := parseNumber(d.fn)
		if err != nil || k.ret || d.offset != 0 {
			r.segErrorf(at, codeOffset, "%s is not an address that a %s can be attached to", r.seg[at], k.name)
			return nil
		}
		d.fn, d.addr = "", addr
		if syms := visibleSymbols(k.m); syms != nil {
			if sym, _, ok := syms.Lookup(addr); !ok || !sym.IsText() {
				r.segErrorf(at, codeOffset, "address %#x is in no function of the kernel", addr).Hint("/proc/kallsyms lists the functions with their addresses")
				return nil
			}
		}
		return []*check.Point{k.point(r, d)}
	}
	if !kernel.HasWildcard(d.fn) && !kernel.HasWildcard(d.module) {
		return k.one(r, at, d)
	}
	if d.offset != 0 && kernel.HasWildcard(d.fn) {
		r.segErrorf(at, codeOffset, "an offset needs a function, not a pattern")
		return nil
	}
	found, exact, err := traceable(k.m, d.module, d.fn, d.module != "")
	if err != nil {
		r.errorf(codeNoMeans, "cannot list the kernel's functions: %v", err).Hint("run as root")
		return nil
	}
	if len(found) == 0 {
		r.noMatch(at, strings.Join(r.seg, ":"), nil)
		return nil
	}
	points := make([]*check.Point, 0, len(found))
	for _, f := range found {
		points = append(points, k.point(r, kprobePoint{module: f.Module, fn: f.Name, offset: d.offset, listed: exact}))
	}
	return points
}

// offset splits `name+offset` in segment i.
func (r *request) offset(i int, fn *string, offset *uint64, isReturn bool) bool {
	name, text, ok := cutOffset(*fn)
	if !ok {
		return true
	}
	switch {
	case isReturn:
		r.segErrorf(i, codeOffset, "Offset not allowed").Hint("a return probe fires when the function returns, wherever that is: leave out `+%s`", text)
		return false
	case strings.Contains(text, "+"):
		r.segErrorf(i, codeOffset, "Cannot take more than one offset")
		return false
	}
	n, err := parseNumber(text)
	if err != nil || name == "" {
		if err == nil {
			err = fmt.Errorf("no function before it")
		}
		r.segErrorf(i, codeOffset, "Invalid offset: %v", err)
		return false
	}
	*fn, *offset = name, n
	return true
}

// cutOffset finds the offset behind a name. A plus in `operator+` of C++ is no offset.
func cutOffset(fn string) (name, offset string, ok bool) {
	from := 0
	if i := strings.LastIndex(fn, "operator+"); i >= 0 {
		from = i + len("operator+")
		for from < len(fn) && (fn[from] == '+' || fn[from] == '=') {
			from++
		}
	}
	i := strings.IndexByte(fn[from:], '+')
	if i < 0 {
		return fn, "", false
	}
	return fn[:from+i], fn[from+i+1:], true
}

// one checks a function that the script names in full.
func (k *kprobe) one(r *request, at int, d kprobePoint) []*check.Point {
	if d.module != "" && d.module != "vmlinux" && !moduleLoaded(k.m, d.module) {
		diag := r.segErrorf(0, codeTarget, "specified module %s in probe %s:%s:%s is not loaded.", d.module, k.name, d.module, d.fn)
		if mods, err := k.m.Kernel.Modules(); err == nil {
			suggest(diag, nearest(d.module, slices.Values(mods)))
		}
		diag.Hint("load it first: modprobe %s", d.module)
		return nil
	}
	if exists, known := functionExists(k.m, d.module, d.fn); known && !exists {
		r.noMatch(at, strings.Join(r.seg, ":"), nearestFunctions(k.m, d.fn))
		return nil
	}
	if size, known := functionSize(k.m, d); known && d.offset >= size {
		r.segErrorf(at, codeOffset, "offset %d is behind the end of %s, which has %d bytes", d.offset, d.fn, size)
		return nil
	}
	return []*check.Point{k.point(r, d)}
}

func (k *kprobe) point(r *request, d kprobePoint) *check.Point {
	name := k.name
	if d.module != "" {
		name += ":" + d.module
	}
	switch {
	case d.fn == "":
		name += fmt.Sprintf(":%#x", d.addr)
	case d.offset != 0:
		name += fmt.Sprintf(":%s+%d", d.fn, d.offset)
	default:
		name += ":" + d.fn
	}
	p := r.point(k, name)
	p.FuncName, p.Space, p.Data = d.fn, types.SpaceKernel, &d
	p.Together = d.listed && d.offset == 0 && k.m.has(target.KprobeMulti)
	if k.ret {
		p.Retval = types.TUint64
	} else {
		p.NumArgs = registerArgs(r.env.Arch)
	}
	return p
}

// registerArgs is how many integer arguments the C calling convention passes in registers.
func registerArgs(arch string) int {
	if arch == "arm64" {
		return 8
	}
	return 6
}

func moduleLoaded(m *Machine, name string) bool {
	mods, err := m.Kernel.Modules()
	return err != nil || slices.Contains(mods, name) || slices.Contains(mods, strings.ReplaceAll(name, "-", "_"))
}

// functionExists tells whether the kernel or a module has a function; known is false when neither BTF nor symbols can be read. BTF is asked
// first because reading the symbols takes 30 ms.
func functionExists(m *Machine, module, fn string) (exists, known bool) {
	if _, err := m.Kernel.FindFunc(module, fn); err == nil {
		return true, true
	}
	syms, err := m.Kernel.Symbols()
	if err != nil || syms.Len() == 0 {
		return false, false
	}
	if module == "" {
		return syms.HasText(fn), true
	}
	return slices.Contains(syms.FunctionModules(fn), trimVmlinux(module)), true
}

// visibleSymbols are the kernel's symbols, nil where it hides their addresses.
func visibleSymbols(m *Machine) *kernel.Symbols {
	syms, err := m.Kernel.Symbols()
	if err != nil || syms.Len() == 0 || syms.Hidden() {
		return nil
	}
	return syms
}

// functionSize is how far a function of the kernel goes at most, up to the next symbol. It is looked up for offsets only: reading the symbols
// takes 30 ms.
func functionSize(m *Machine, d kprobePoint) (size uint64, known bool) {
	if d.offset == 0 {
		return 0, false
	}
	syms := visibleSymbols(m)
	if syms == nil {
		return 0, false
	}
	start, end := uint64(0), uint64(0)
	for s := range syms.All() { // sorted by address
		switch {
		case start == 0 && s.Name == d.fn && s.IsText() && (d.module == "" || s.Module == trimVmlinux(d.module)):
			start = s.Addr
		case start != 0 && s.Addr > start:
			end = s.Addr
		}
		if end != 0 {
			return end - start, true
		}
	}
	return 0, false
}

func nearestFunctions(m *Machine, fn string) []string {
	seq, _, err := m.Kernel.TraceableFunctions("", "")
	if err != nil {
		return nil
	}
	return nearest(fn, func(yield func(string) bool) {
		for f := range seq {
			if !yield(f.Name) {
				return
			}
		}
	})
}

// traceable lists the functions that match, sorted, each once. Functions of modules carry the module's name when withModule is set ("vmlinux" for
// the kernel itself); else a name stands for all functions that have it. exact is set when the list is the kernel's own of what can be traced.
func traceable(m *Machine, module, fn string, withModule bool) (found []kernel.Function, exact bool, err error) {
	pattern := module
	if pattern == "" {
		pattern = "*"
	}
	seq, from, err := m.Kernel.TraceableFunctions(modulePattern(pattern), fn)
	if err != nil {
		return nil, false, err
	}
	g := kernel.CompileGlob(pattern)
	for f := range seq {
		if strings.Contains(f.Name, ".part.") || strings.Contains(f.Name, ".cold") {
			continue // pieces of functions: not entered by a call
		}
		if f.Module == "" {
			if !g.Match("vmlinux") {
				continue
			}
			if withModule {
				f.Module = "vmlinux"
			}
		}
		if !withModule {
			f.Module = ""
		}
		found = append(found, f)
	}
	slices.SortFunc(found, func(a, b kernel.Function) int {
		if c := strings.Compare(a.Module, b.Module); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return slices.Compact(found), from == kernel.FromFtrace, nil
}

// modulePattern widens a pattern so that it also matches the empty name that lists give the kernel itself.
func modulePattern(pattern string) string {
	if pattern == "vmlinux" || !kernel.HasWildcard(pattern) {
		return pattern
	}
	if kernel.CompileGlob(pattern).Match("vmlinux") {
		return "*"
	}
	return pattern
}

func (k *kprobe) List(segments []string, opts ListOptions, yield func(Listed) bool) error {
	module, fn, ok := twoPatterns(segments)
	if !ok || k.ret && len(segments) == 0 {
		return nil
	}
	withModule := len(segments) == 2
	if !withModule {
		module = ""
	}
	found, _, err := traceable(k.m, module, fn, withModule)
	if err != nil {
		return err
	}
	for _, f := range found {
		l := Listed{Name: k.name + ":" + f.String()}
		if opts.Verbose {
			l.Args = k.declare(f)
		}
		if !yield(l) {
			return nil
		}
	}
	return nil
}

// declare gives the arguments of a function that argN reads, or the value that retval is.
func (k *kprobe) declare(f kernel.Function) []string {
	b, proto, ok := declared(k.m, trimVmlinux(f.Module), f.Name)
	if !ok {
		return nil
	}
	var out []string
	if k.ret {
		if proto.Ref != 0 {
			out = append(out, cDeclare(b, proto.Ref, "retval"))
		}
		return out
	}
	params, _ := proto.Params()
	for i, p := range params {
		out = append(out, cDeclare(b, p.Type, "arg"+strconv.Itoa(i)))
	}
	return out
}

func (k *kprobe) Hook(p *check.Point, u *lower.Uses, t *target.Target) *lower.Hook {
	d := p.Data.(*kprobePoint)
	h := &lower.Hook{Point: p, Type: ebpf.Kprobe, Context: registerContext(), Data: d, Share: k.name}
	// A multi link gives only the registers of arguments (Linux 6.14 and arm64), and knows functions by name alone. One function that it cannot
	// follow makes the whole link fail, so it is for those that the kernel lists.
	if d.listed && d.offset == 0 && trimVmlinux(d.module) == "" && !u.Has("reg", "ctx") && t.Features.Has(target.KprobeMulti) {
		h.Share, h.AttachType, h.Cookies = k.name+".multi", ebpf.AttachTraceKprobeMulti, true
		return h
	}
	h.Cookies = t.Features.Has(target.PerfLink) && t.Features.Has(target.AttachCookie)
	return h
}

func (k *kprobe) Links(hooks []*lower.Hook, cookies bool, _ *target.Target) []*object.Attach {
	single, multi := object.Kprobe, object.KprobeMulti
	if k.ret {
		single, multi = object.Kretprobe, object.KretprobeMulti
	}
	if hooks[0].AttachType == ebpf.AttachTraceKprobeMulti {
		a := &object.Attach{Mechanism: multi, Span: hooks[0].Point.Node.Span(), Reason: "one link for all functions, the cheapest way into a function without BTF types"}
		for _, h := range hooks {
			a.Targets = append(a.Targets, h.Data.(*kprobePoint).fn)
			a.Points = append(a.Points, h.Index)
			if cookies {
				a.Cookies = append(a.Cookies, uint64(h.Index))
			}
		}
		return []*object.Attach{a}
	}
	return eachHook(hooks, func(h *lower.Hook) *object.Attach {
		d := h.Data.(*kprobePoint)
		a := &object.Attach{Mechanism: single, Target: d.fn, Module: trimVmlinux(d.module), Offset: d.offset, Address: d.addr, Reason: "the kernel has no multi link for this place"}
		if cookies {
			a.Cookie = uint64(h.Index)
		}
		return a
	})
}
