package stdlib

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

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
	"github.com/sonde-sh/sonde/runtime/symbol"
)

// usdt is a marker that the author of a program put into its code.
type usdt struct{ m *Machine }

// usdtPoint is one probe of one file: a name that may stand at several places.
type usdtPoint struct {
	path, host     string // as the script says it, and as we reach it
	provider, name string
	variants       []*usdtVariant
	pid            int
}

// usdtVariant are the places where the arguments are found in the same way.
type usdtVariant struct {
	text    string
	addrs   []uint64 // in the image
	offsets []uint64 // in the file
	refs    []uint64 // offsets of the semaphores
	args    []usdtArg
}

// pageMask gives the part of an address that does not depend on where a file is mapped (pages have 4 KiB at least).
const pageMask = 0xfff

func usdtKinds(m *Machine) []KindEntry {
	return []KindEntry{{Kind: &usdt{m}, Aliases: []string{"U"}, Doc: Doc{
		Group: "user", Summary: "a static marker in a program or library",
		Text: "`usdt:BINARY:[PROVIDER:]NAME`. Arguments are `arg0`, `arg1` ... with the sizes that the program gave them. Semaphores are raised while the probe " +
			"is attached. `usdt:*:NAME` is every file that a running process has mapped.",
		Example: `usdt:libc:setjmp { @[comm] = count(); }`, SeeAlso: []string{"uprobe"},
	}}}
}

func (k *usdt) Name() string { return "usdt" }

func (k *usdt) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest("usdt", ap, env, diags)
	if env.PID != 0 && len(r.seg) == 1 {
		exe, err := os.Readlink(k.m.Kernel.Path(fmt.Sprintf("/proc/%d/exe", env.PID)))
		if err != nil {
			r.errorf(codeTarget, "cannot find the program of process %d: %v", env.PID, err)
			return nil
		}
		r.seg = slices.Insert(r.seg, 0, exe)
	}
	if !r.count(2, 3, "usdt:BINARY:PROVIDER:NAME") {
		return nil
	}
	path, provider, name := r.seg[0], "*", r.seg[len(r.seg)-1]
	if len(r.seg) == 3 && r.seg[1] != "" {
		provider = r.seg[1]
	}
	switch {
	case name == "":
		r.errorf(codeSegments, "usdt probe must have a target function or wildcard").Hint("write `usdt:BINARY:PROVIDER:NAME`")
		return nil
	case path == "":
		r.errorf(codeSegments, "usdt probe must specify at least path or pid to probe. To target all paths/pids set the path to '*'.")
		return nil
	}
	bins, ok := k.m.binaries(r, 0, path, env.PID)
	if !ok {
		return nil
	}
	var points []*check.Point
	for _, bin := range bins {
		found, err := k.find(bin, provider, name)
		if err != nil {
			if len(bins) == 1 {
				r.unreadable(bin.path, err)
				return nil
			}
			continue
		}
		for _, d := range found {
			d.pid = env.Traced()
			points = append(points, k.point(r, d))
		}
	}
	if len(points) == 0 {
		k.missing(r, bins, name)
	}
	return points
}

// find lists the markers of a file that match, by provider and name.
func (k *usdt) find(bin binary, provider, name string) ([]*usdtPoint, error) {
	file, err := k.m.file(bin.path, bin.root)
	if err != nil {
		return nil, err
	}
	markers, err := file.Markers()
	if err != nil {
		return nil, err
	}
	gp, gn := kernel.CompileGlob(provider), kernel.CompileGlob(name)
	var out []*usdtPoint
	for _, m := range markers {
		if !gp.Match(m.Provider) || !gn.Match(m.Name) {
			continue
		}
		var d *usdtPoint
		if n := len(out); n > 0 && out[n-1].provider == m.Provider && out[n-1].name == m.Name {
			d = out[n-1]
		} else {
			d = &usdtPoint{path: bin.name, host: bin.host, provider: m.Provider, name: m.Name}
			out = append(out, d)
		}
		i := slices.IndexFunc(d.variants, func(v *usdtVariant) bool { return v.text == m.ArgText })
		if i < 0 {
			i = len(d.variants)
			v := &usdtVariant{text: m.ArgText}
			for _, a := range m.Args {
				v.args = append(v.args, usdtArg{a})
			}
			d.variants = append(d.variants, v)
		}
		v := d.variants[i]
		v.addrs, v.offsets, v.refs = append(v.addrs, m.Addr), append(v.offsets, m.Offset), append(v.refs, m.SemaphoreOffset)
	}
	return out, nil
}

func (k *usdt) point(r *request, d *usdtPoint) *check.Point {
	p := r.point(k, "usdt:"+d.path+":"+d.provider+":"+d.name)
	p.Scope, p.Base = p.Name, "usdt"
	p.FuncName, p.Space, p.Data = d.name, types.SpaceUser, d
	if d.ambiguous() {
		return p // without arguments
	}
	p.NumArgs = 0
	for _, v := range d.variants {
		for i, a := range v.args {
			t := types.IntOf(a.Size, a.Signed)
			switch {
			case i == len(p.ArgTypes):
				p.ArgTypes = append(p.ArgTypes, t)
			case t.Size > p.ArgTypes[i].Size:
				p.ArgTypes[i] = t
			}
		}
	}
	p.NumArgs = len(p.ArgTypes)
	return p
}

// ambiguous reports whether two places with different arguments cannot be told apart by their offset in a page.
func (d *usdtPoint) ambiguous() bool {
	seen := make(map[uint64]int)
	for i, v := range d.variants {
		for _, a := range v.addrs {
			if j, ok := seen[a&pageMask]; ok && j != i {
				return true
			}
			seen[a&pageMask] = i
		}
	}
	return false
}

func (k *usdt) missing(r *request, bins []binary, name string) {
	var names []string
	for _, bin := range bins[:min(len(bins), 8)] {
		if found, err := k.find(bin, "*", "*"); err == nil {
			for _, d := range found {
				names = append(names, d.name)
			}
		}
	}
	d := r.noMatch(-1, r.seg[0]+":"+name, nearest(name, slices.Values(names)))
	if d != nil && len(names) == 0 && len(bins) == 1 {
		d.Hint("use `uprobe`: %s has no USDT markers", bins[0].path)
	}
}

// usdtArg is one argument at one place.
type usdtArg struct{ symbol.MarkerArg }

// load reads the argument; registers and memory are those of the moment that the marker is hit.
func (a usdtArg) load(g *lower.Gen, regs lower.Registers) *ir.Value {
	t := types.IntOf(a.Size, a.Signed)
	switch {
	case a.Err != "" || a.Float:
		why := a.Err
		if why == "" {
			why = "it is a floating-point number"
		}
		g.Errorf(codeNoMeans, g.Hook.Point.Node, "the marker's argument `%s` cannot be read: %s", a.Text, why)
		return g.B.Const(0)
	case a.Kind == symbol.MarkerConst:
		return g.B.Const(a.Const)
	case a.Kind == symbol.MarkerRegister:
		return extend(g, register(g, a.Reg), t)
	}
	addr := g.B.Const(a.Disp)
	if a.HasReg {
		addr = register(g, a.Reg)
		if a.Disp != 0 {
			addr = g.B.AddImm(addr, a.Disp)
		}
	}
	if a.HasIndex {
		i := register(g, a.Index)
		if a.Scale > 0 {
			i = g.B.OpImm(ir.OpShl, i, int64(a.Scale))
		}
		addr = g.B.Add(addr, i)
	}
	return g.LoadScalar(lower.Place{Ptr: addr, Size: a.Size, Space: types.SpaceUser}, t)
}

func register(g *lower.Gen, r symbol.Register) *ir.Value {
	if r.Zero {
		return g.B.Const(0)
	}
	v := g.B.Load(g.Ctx(), r.Offset, 8, false)
	if r.Shift > 0 {
		v = g.B.OpImm(ir.OpLShr, v, int64(r.Shift))
	}
	if r.Size < 8 {
		v = g.B.Ext(v, r.Size*8, false)
	}
	return v
}

func extend(g *lower.Gen, v *ir.Value, t *types.Type) *ir.Value {
	if t.Size == 8 {
		return v
	}
	return g.B.Ext(v, t.Size*8, t.Signed)
}

func (k *usdt) List(segments []string, opts ListOptions, yield func(Listed) bool) error {
	path, provider, name := "", "*", "*"
	switch len(segments) {
	case 0:
		if opts.PID == 0 {
			return nil
		}
		path = "*"
	case 1:
		path = segments[0]
		if opts.PID != 0 && !strings.Contains(path, "/") {
			path, name = "*", segments[0]
		}
	case 2:
		path, name = segments[0], segments[1]
	case 3:
		path, provider, name = segments[0], segments[1], segments[2]
	default:
		return nil
	}
	bins, err := k.m.listedBinaries(path, opts.PID)
	if err != nil {
		if errors.Is(err, symbol.ErrNoBinary) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for _, bin := range bins {
		found, err := k.find(bin, provider, name)
		if err != nil {
			if len(bins) == 1 {
				return err
			}
			continue
		}
		for _, d := range found {
			l := Listed{Name: "usdt:" + d.path + ":" + d.provider + ":" + d.name}
			if opts.Verbose {
				for i, a := range d.variants[0].args {
					l.Args = append(l.Args, fmt.Sprintf("%s arg%d", types.IntOf(a.Size, a.Signed), i))
				}
			}
			if !yield(l) {
				return nil
			}
		}
	}
	return nil
}

func (k *usdt) Hook(p *check.Point, u *lower.Uses, t *target.Target) *lower.Hook {
	d := p.Data.(*usdtPoint)
	h := &lower.Hook{Point: p, Type: ebpf.Kprobe, Context: markerArgs{point: d}, Data: d, Share: "usdt"}
	if u.MaxArg >= 0 {
		h.Share = "" // the code knows where this marker has its arguments
	}
	if multiLink(t, d.pid) {
		h.AttachType, h.Cookies = ebpf.AttachTraceUprobeMulti, true
		if h.Share != "" {
			h.Share = "usdt.multi"
		}
		return h
	}
	h.Cookies = t.Features.Has(target.PerfLink) && t.Features.Has(target.AttachCookie)
	return h
}

func (k *usdt) Links(hooks []*lower.Hook, cookies bool, _ *target.Target) []*object.Attach {
	multi := hooks[0].AttachType == ebpf.AttachTraceUprobeMulti
	var out []*object.Attach
	for _, h := range hooks {
		d := h.Data.(*usdtPoint)
		a := &object.Attach{
			Mechanism: object.Uprobe, Path: d.host, PID: d.pid, Points: []int{h.Index}, Span: h.Point.Node.Span(),
			Reason: "perf events: the kernel has no multi link, or one process is traced",
		}
		if multi {
			a.Mechanism, a.Reason = object.UprobeMulti, "one link for all places of the marker"
		}
		counted := false
		for _, v := range d.variants {
			for i, off := range v.offsets {
				a.Offsets = append(a.Offsets, off)
				a.RefCounters = append(a.RefCounters, v.refs[i])
				counted = counted || v.refs[i] != 0
				if cookies {
					a.Cookies = append(a.Cookies, uint64(h.Index))
				}
			}
		}
		if !counted {
			a.RefCounters = nil
		}
		out = append(out, a)
	}
	return out
}
