package stdlib

import (
	"errors"
	"sort"
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

// tracepoint is a trace event of the kernel with its record.
type tracepoint struct{ m *Machine }

// tracepointPoint is one event.
type tracepointPoint struct {
	category, name string
	raw            func() bool   // the kernel has a tracepoint of the name
	group          *syscallGroup // the system calls that the same pattern named, nil when they are few
}

func tracepointKinds(m *Machine) []KindEntry {
	return []KindEntry{
		{Kind: &tracepoint{m}, Aliases: []string{"t"}, Doc: Doc{
			Group: "kernel", Summary: "a static event of the kernel",
			Text: "`tracepoint:CATEGORY:EVENT`. The fields of the event are members of `args`; list them with `-lv`. In the category `syscalls` pointers are " +
				"addresses of user space.",
			Example: `tracepoint:syscalls:sys_enter_openat { printf("%s %s\n", comm, str(args.filename)); exit(); }`, SeeAlso: []string{"rawtracepoint"},
		}},
		{Kind: &rawTracepoint{m}, Aliases: []string{"rt"}, Doc: Doc{
			Group: "kernel", Summary: "a static event of the kernel with its raw arguments",
			Text:    "`rawtracepoint[:MODULE]:EVENT`. Cheaper than `tracepoint`; `args` has the arguments of the kernel's own call, with the types that BTF gives them.",
			Example: `rawtracepoint:sched_switch { @[args.prev.comm] = count(); }`, SeeAlso: []string{"tracepoint"}, Needs: []string{"btf"},
		}},
	}
}

func (k *tracepoint) Name() string { return "tracepoint" }

func (k *tracepoint) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest("tracepoint", ap, env, diags)
	if len(r.seg) == 1 && kernel.HasWildcard(r.seg[0]) {
		r.seg = []string{"*", r.seg[0]} // the name of the event is what people look for
	}
	if !r.count(2, 2, "tracepoint:CATEGORY:EVENT") {
		return nil
	}
	if r.seg[0] == "" || r.seg[1] == "" {
		r.errorf(codeSegments, "tracepoint probe must have a target").Hint("write `tracepoint:CATEGORY:EVENT`")
		return nil
	}
	tr, err := k.m.Kernel.Tracefs()
	if err != nil {
		r.errorf(codeNoMeans, "cannot read the kernel's tracepoints: %v", err).Hint("run as root, and mount tracefs: mount -t tracefs tracefs /sys/kernel/tracing")
		return nil
	}
	found := events(tr, r.seg[0], r.seg[1])
	if len(found) == 0 {
		k.missing(r, tr)
		return nil
	}
	k.groupSyscalls(found, env.Arch)
	points := make([]*check.Point, 0, len(found))
	for _, e := range found {
		e.raw = sync.OnceValue(func() bool { return k.hasRaw(e.name) })
		p := r.point(k, "tracepoint:"+e.category+":"+e.name)
		p.Scope, p.Base = p.Name, "tracepoint"
		p.Space = types.SpaceKernel
		if isSyscallCategory(e.category) {
			p.Space = types.SpaceUser
		}
		p.Args = k.args(tr, e)
		p.Data = e
		points = append(points, p)
	}
	return points
}

// hasRaw tells whether the kernel itself (no module) has a tracepoint of the name that raw programs can attach to.
func (k *tracepoint) hasRaw(name string) bool {
	b, err := k.m.Types.Kernel()
	if err != nil {
		return false
	}
	_, ok := b.TypeByName("btf_trace_"+name, kernel.KindTypedef)
	return ok
}

// groupSyscalls puts the entries, and the returns, of many system calls into groups that one program can serve.
func (k *tracepoint) groupSyscalls(found []*tracepointPoint, arch string) {
	if len(found) < manySyscalls {
		return
	}
	groups := map[string]*syscallGroup{"sys_enter_": {numbers: map[string]int{}}, "sys_exit_": {exit: true, numbers: map[string]int{}}}
	for prefix, g := range groups {
		for _, e := range found {
			name, ok := strings.CutPrefix(e.name, prefix)
			if !ok || e.category != "syscalls" {
				continue
			}
			n, ok := kernel.SyscallNumber(arch, name)
			if !ok {
				g.numbers = nil // a call that we do not know: the events decide
				break
			}
			g.numbers[e.name] = n
		}
		if len(g.numbers) < manySyscalls {
			continue
		}
		for _, e := range found {
			if _, ok := g.numbers[e.name]; ok && e.category == "syscalls" {
				e.group = g
			}
		}
	}
}

// isSyscallCategory tells whether pointers of a category are addresses of user space.
func isSyscallCategory(category string) bool { return category == "syscalls" }

// events lists the events that match, by full name.
func events(tr *kernel.Tracefs, category, name string) []*tracepointPoint {
	var found []*tracepointPoint
	for c, n := range tr.Events(category, name) {
		found = append(found, &tracepointPoint{category: c, name: n})
	}
	sort.Slice(found, func(i, j int) bool {
		a, b := found[i], found[j]
		if a.category != b.category {
			return a.category+":" < b.category+":"
		}
		return a.name < b.name
	})
	return found
}

func (k *tracepoint) missing(r *request, tr *kernel.Tracefs) {
	category, name := r.seg[0], r.seg[1]
	var near []string
	if !kernel.HasWildcard(category) && !kernel.HasWildcard(name) {
		for n := range same(tr, category, name) {
			near = append(near, n)
		}
		if len(near) == 0 {
			near = nearest(name, func(yield func(string) bool) {
				for _, n := range tr.Events(category, "*") {
					if !yield(n) {
						return
					}
				}
			})
			for i := range near {
				near[i] = category + ":" + near[i]
			}
		}
		if len(near) == 0 {
			near = nearest(category+":"+name, func(yield func(string) bool) {
				for c, n := range tr.Events("*", "*") {
					if !yield(c + ":" + n) {
						return
					}
				}
			})
		}
	}
	r.noMatch(-1, category+":"+name, near)
}

// same lists events of the wanted name in other categories: `syscall:sys_enter_read` means `syscalls:sys_enter_read`.
func same(tr *kernel.Tracefs, category, name string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for c, n := range tr.Events("*", name) {
			if c != category && !yield(c+":"+n) {
				return
			}
		}
	}
}

// args is the type of the event's record. Its format is read when the first field is asked for.
func (k *tracepoint) args(tr *kernel.Tracefs, e *tracepointPoint) *types.Type {
	def := &types.StructDef{Name: "_tracepoint_" + e.category + "_" + e.name}
	def.Resolve = sync.OnceValue(func() []types.Field {
		ev, err := tr.Event(e.category, e.name)
		if err != nil {
			return nil
		}
		space := types.SpaceKernel
		if isSyscallCategory(e.category) {
			space = types.SpaceUser
		}
		fields := make([]types.Field, 0, len(ev.Fields))
		for _, f := range ev.Fields {
			if strings.HasPrefix(f.Name, "common_") {
				continue // the kernel puts a pointer of its own over these before the program runs
			}
			t := fieldType(k.m.Types, f, space)
			fields = append(fields, types.Field{
				Name: f.Name, Type: t, Offset: f.Offset, DataLoc: f.Loc == kernel.DataLoc, RelLoc: f.Loc == kernel.RelLoc, ArgIndex: -1,
				Text: f.Loc != kernel.InPlace && t.Elem.IsInteger() && t.Elem.Size == 1 && t.Elem.Signed,
			})
		}
		return fields
	})
	return &types.Type{Kind: types.Args, Struct: def}
}

// fieldType gives the type of a field of a record. Integers have the size that they have in the record: an argument of a system call takes
// eight bytes whatever its type. One that is elsewhere in the record is a pointer to it.
func fieldType(src types.Source, f kernel.Field, space types.Space) *types.Type {
	c := f.Type
	if f.Loc != kernel.InPlace {
		elem := scalarType(src, c, 0, space)
		if elem.Size == 0 {
			elem = types.TInt8
		}
		return types.PointerTo(elem, types.SpaceKernel, types.ProvRaw)
	}
	if c.IsPointer() {
		return cPointer(src, c, c.Pointers, space)
	}
	if len(c.Dims) == 0 {
		return scalarType(src, c, f.Size, space)
	}
	elemSize := f.Size
	for _, n := range c.Dims {
		if n > 0 {
			elemSize /= n
		}
	}
	elem := scalarType(src, c, elemSize, space)
	for i := len(c.Dims) - 1; i >= 0; i-- {
		n := max(c.Dims[i], 0)
		if i == len(c.Dims)-1 && c.IsChar() && c.Pointers == 0 && n > 0 {
			elem = types.StringOf(n)
			continue
		}
		elem = types.ArrayOf(elem, n)
	}
	return elem
}

// scalarType is a type without its dimensions. size is what it takes in the record, 0 when only the type says.
func scalarType(src types.Source, c kernel.CType, size int, space types.Space) *types.Type {
	if c.Pointers > 0 {
		return cPointer(src, c, c.Pointers, space)
	}
	tag := c.Base[strings.IndexByte(c.Base, ' ')+1:]
	var t *types.Type
	switch c.Kind {
	case kernel.CStruct, kernel.CUnion:
		t = src.StructType(tag)
		if t == nil {
			t = types.ArrayOf(types.TUint8, size)
		}
		return t
	case kernel.CEnum:
		t = src.EnumType(tag)
	case kernel.CInt, kernel.CBool:
		t = basicType(c.Base)
		if t == nil {
			n := *types.IntOf(c.Size, c.Signed)
			n.Name = c.Base
			t = &n
		}
	case kernel.CTypedef:
		t = src.Typedef(c.Base)
	}
	switch {
	case t == nil && size > 8:
		return types.ArrayOf(types.TUint8, size)
	case t == nil:
		return types.IntOf(size, c.Signed)
	case size != 0 && t.Size != size && t.IsInteger() && size <= 8:
		return types.IntOf(size, t.Signed)
	}
	return t
}

func cPointer(src types.Source, c kernel.CType, depth int, space types.Space) *types.Type {
	if c.User {
		space = types.SpaceUser
	}
	if c.Kind == kernel.CFunc || c.Kind == kernel.CVoid && depth == 1 {
		return types.PointerTo(types.TVoid, space, types.ProvRaw)
	}
	if depth > 1 {
		return types.PointerTo(cPointer(src, c, depth-1, space), space, types.ProvRaw)
	}
	base := c
	base.Pointers, base.Dims = 0, nil
	elem := scalarType(src, base, 0, space)
	if elem.Size == 0 && elem.Kind != types.Struct {
		elem = types.TVoid
	}
	return types.PointerTo(elem, space, types.ProvRaw)
}

func (k *tracepoint) List(segments []string, opts ListOptions, yield func(Listed) bool) error {
	category, name, ok := twoPatterns(segments)
	if !ok {
		return nil
	}
	tr, err := k.m.Kernel.Tracefs()
	if err != nil {
		return err
	}
	for _, e := range events(tr, category, name) {
		l := Listed{Name: "tracepoint:" + e.category + ":" + e.name}
		if opts.Verbose {
			ev, err := tr.Event(e.category, e.name)
			if err != nil && !errors.Is(err, kernel.ErrNoEvent) {
				return err
			}
			if ev != nil {
				for _, f := range ev.Args() {
					l.Args = append(l.Args, declare(f))
				}
			}
		}
		if !yield(l) {
			return nil
		}
	}
	return nil
}

// twoPatterns completes the segments of a listing: none and "*" are all, one is the name in any category or module.
func twoPatterns(segments []string) (first, second string, ok bool) {
	switch len(segments) {
	case 0:
		return "*", "*", true
	case 1:
		return "*", segments[0], true
	case 2:
		return segments[0], segments[1], true
	}
	return "", "", false
}

// declare writes a field as its format file does.
func declare(f kernel.Field) string {
	loc := ""
	switch f.Loc {
	case kernel.DataLoc:
		loc = "__data_loc "
	case kernel.RelLoc:
		loc = "__rel_loc "
	}
	if i := strings.IndexByte(f.Text, '['); i >= 0 && f.Loc == kernel.InPlace {
		return strings.TrimSpace(f.Text[:i]) + " " + f.Name + f.Text[i:]
	}
	return loc + f.Text + " " + f.Name
}

func (k *tracepoint) Hook(p *check.Point, u *lower.Uses, t *target.Target) *lower.Hook {
	if h := lowerTracepoint(p, p.Data.(*tracepointPoint), u, t); h != nil {
		return h
	}
	h := &lower.Hook{
		Point: p, Share: p.Base, Cookies: t.Features.Has(target.AttachCookie) && t.Features.Has(target.PerfLink),
		Type: ebpf.TracePoint, Context: lower.TraceRecord{}, Data: p.Data,
	}
	if u.Has("args") {
		h.Share = p.Scope
	}
	if u.WholeArgs {
		h.Context = lower.TraceRecord{Size: recordSize(p.Args)}
	}
	return h
}

// recordSize is the size of the fixed part of a record.
func recordSize(args *types.Type) int {
	n := 0
	for _, f := range args.Struct.Resolve() {
		size := f.Type.Size
		if f.DataLoc || f.RelLoc {
			size = 4
		}
		n = max(n, f.Offset+size)
	}
	return n
}

func (k *tracepoint) Links(hooks []*lower.Hook, cookies bool, _ *target.Target) []*object.Attach {
	switch hooks[0].Type {
	case ebpf.Tracing:
		a := &object.Attach{
			Mechanism: object.TPBTF, Target: hooks[0].AttachTo, Span: hooks[0].Point.Node.Span(),
			Reason: "many system calls: one program sees them all, for half of what an event for each of them costs",
		}
		for _, h := range hooks {
			a.Points = append(a.Points, h.Index)
		}
		return []*object.Attach{a}
	case ebpf.RawTracepoint:
		return eachHook(hooks, func(h *lower.Hook) *object.Attach {
			return &object.Attach{
				Mechanism: object.RawTracepoint, Target: h.Data.(*tracepointPoint).name,
				Reason: "nothing of the record is used: the raw tracepoint costs half and detaches at once",
			}
		})
	}
	return eachHook(hooks, func(h *lower.Hook) *object.Attach {
		d := h.Data.(*tracepointPoint)
		a := &object.Attach{Mechanism: object.PerfTracepoint, Target: d.category + ":" + d.name, Reason: "the record of the event is what the script names"}
		if cookies {
			a.Cookie = uint64(h.Index)
		}
		return a
	})
}
