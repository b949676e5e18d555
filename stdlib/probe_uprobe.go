package stdlib

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
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
	"github.com/sonde-sh/sonde/runtime/symbol"
)

// uprobe is uprobe and uretprobe: any instruction, or the return, of a function of a program or library.
type uprobe struct {
	m    *Machine
	name string
	ret  bool
}

// uprobePoint is one place in a file.
type uprobePoint struct {
	path    string // as the process sees it
	host    string // as we reach it
	fn      string
	offsets []uint64 // in the file; several for the returns of a Go function
	pid     int
	skip    uint64 // bytes of a landing instruction that may be skipped, 0 when there is none
	atRet   bool   // a return probe that sits on return instructions
	sig     signature
}

func uprobeKinds(m *Machine) []KindEntry {
	return []KindEntry{
		{Kind: &uprobe{m, "uprobe", false}, Aliases: []string{"u"}, Doc: Doc{
			Group: "user", Summary: "a function of a program or library is entered",
			Text: "`uprobe:BINARY:FUNCTION[+OFFSET]`. BINARY is a path (wildcards allowed), a program of $PATH or a library name such as `libc`. C++ functions are " +
				"named in full in quotes, or by `cpp:NAME` without their parameters.",
			Example: `uprobe:libc:getenv { printf("%s asks for %s\n", comm, str(arg0)); }`, SeeAlso: []string{"uretprobe", "usdt"},
		}},
		{Kind: &uprobe{m, "uretprobe", true}, Aliases: []string{"ur"}, Doc: Doc{
			Group: "user", Summary: "a function of a program or library returns",
			Text:    "`uretprobe:BINARY:FUNCTION`. `retval` is the result. In Go programs the return instructions themselves are probed, because Go moves its stacks.",
			Example: `uretprobe:libc:getenv { @[retval != 0] = count(); }`, SeeAlso: []string{"uprobe"},
		}},
	}
}

func (k *uprobe) Name() string { return k.name }

func isLanguage(s string) bool { return s == "cpp" }

func (k *uprobe) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest(k.name, ap, env, diags)
	if env.PID != 0 && (len(r.seg) == 1 || len(r.seg) == 2 && isLanguage(r.seg[0])) {
		exe, err := os.Readlink(k.m.Kernel.Path(fmt.Sprintf("/proc/%d/exe", env.PID)))
		if err != nil {
			r.errorf(codeTarget, "cannot find the program of process %d: %v", env.PID, err)
			return nil
		}
		r.seg = slices.Insert(r.seg, 0, exe)
	}
	usage := k.name + ":BINARY:FUNCTION"
	if len(r.seg) > 3 && strings.Contains(r.ap.Raw, "::") {
		usage = k.name + ":" + r.seg[0] + ":cpp:\"" + strings.TrimLeft(r.ap.Raw[strings.LastIndex(r.ap.Raw[:strings.Index(r.ap.Raw, "::")], ":")+1:], ":") + "\""
	}
	if !isSourceLine(r.seg) && !r.count(2, 3, usage) {
		return nil
	}
	if isSourceLine(r.seg) {
		return k.expandLine(r)
	}
	binary, fn, lang := r.seg[0], r.seg[len(r.seg)-1], ""
	at := len(r.ap.Segments) - 1
	if len(r.seg) == 3 {
		lang = r.seg[1]
		if !isLanguage(lang) {
			r.segErrorf(at-1, codeSegments, "unsupported language type: %s", lang).Hint("use `cpp`")
			return nil
		}
	}
	switch {
	case binary == "":
		r.errorf(codeSegments, "%s should have a target", k.name).Hint("write `%s:BINARY:FUNCTION`", k.name)
		return nil
	case fn == "":
		r.errorf(codeSegments, "%s should be attached to a function, address, or source file and line (using DWARF)", k.name).Hint("write `%s:%s:FUNCTION`", k.name, binary)
		return nil
	}
	bins, ok := k.m.binaries(r, 0, binary, env.PID)
	if !ok {
		return nil
	}
	f := funcPattern{name: fn, lang: lang, at: at}
	var points []*check.Point
	before := diags.Len()
	for _, bin := range bins {
		points = append(points, k.expandFile(r, bin, f, len(bins) > 1)...)
	}
	if len(points) == 0 && diags.Len() == before {
		r.noMatch(at, strings.Join(r.seg, ":"), nil)
	}
	return points
}

// isSourceLine tells `BINARY:FILE:LINE[:COLUMN]` from other forms.
func isSourceLine(seg []string) bool {
	if len(seg) != 3 && len(seg) != 4 || isLanguage(seg[1]) || !strings.Contains(seg[1], ".") {
		return false
	}
	for _, s := range seg[2:] {
		if _, err := strconv.ParseUint(s, 10, 31); err != nil {
			return false
		}
	}
	return true
}

// expandLine probes the code of a source line, in every function that has a copy of it.
func (k *uprobe) expandLine(r *request) []*check.Point {
	at := len(r.ap.Segments) - len(r.seg)
	if k.ret {
		r.segErrorf(at+1, codeOffset, "uretprobes need a function, not a source line").Hint("use `uprobe`")
		return nil
	}
	bins, ok := k.m.binaries(r, 0, r.seg[0], r.env.PID)
	if !ok {
		return nil
	}
	line, _ := strconv.Atoi(r.seg[2])
	column := 0
	if len(r.seg) == 4 {
		column, _ = strconv.Atoi(r.seg[3])
	}
	var points []*check.Point
	for _, bin := range bins {
		file, err := k.m.file(bin.path, bin.root)
		if err != nil {
			continue
		}
		places, err := file.FindLine(r.seg[1], line, column)
		if err != nil {
			if len(bins) == 1 {
				d := r.segErrorf(at+1, codeTarget, "%v", err)
				if errors.Is(err, symbol.ErrNoDebugInfo) {
					d.Hint("compile %s with -g, or install its debug symbols", bin.path)
				} else if files, err := file.SourceFiles(); err == nil {
					suggest(d, nearestSource(r.seg[1], files))
				}
				return nil
			}
			continue
		}
		d := &uprobePoint{path: bin.path, host: bin.host, fn: places[0].Function, pid: r.env.Traced()}
		for _, p := range places {
			d.offsets = append(d.offsets, p.Offset)
		}
		p := k.point(r, k.name+":"+bin.name+":"+strings.Join(r.seg[1:], ":"), d)
		p.NumArgs = -1 // the registers hold the arguments only where the function begins
		points = append(points, p)
	}
	if len(points) == 0 {
		r.noMatch(at+1, strings.Join(r.seg, ":"), nil)
	}
	return points
}

// funcPattern is the function part of an attach point in user space.
type funcPattern struct {
	name, lang string
	at         int // index of its segment
}

func (k *uprobe) expandFile(r *request, bin binary, f funcPattern, several bool) []*check.Point {
	file, err := k.m.file(bin.path, bin.root)
	if err != nil {
		if !several {
			r.unreadable(bin.path, err)
		}
		return nil
	}
	if addr, err := parseNumber(f.name); err == nil {
		if several {
			r.segErrorf(0, codeOffset, "Cannot use wildcards with absolute address")
			return nil
		}
		return k.address(r, bin, file, f, addr)
	}
	fn, offset := f.name, uint64(0)
	if !r.offset(f.at, &fn, &offset, k.ret) {
		return nil
	}
	syms, literal := k.functions(r, file, fn, f.lang)
	if len(syms) == 0 && literal && !several {
		k.missing(r, file, f, fn)
		return nil
	}
	points := make([]*check.Point, 0, len(syms))
	for _, s := range syms {
		if p := k.function(r, bin, file, f, s, offset, literal); p != nil {
			points = append(points, p)
		}
	}
	return points
}

// functions finds what a name means in a file. literal is set when it is no pattern.
func (k *uprobe) functions(r *request, file *symbol.File, fn, lang string) (syms []symbol.Symbol, literal bool) {
	literal = !kernel.HasWildcard(fn)
	if lang != "cpp" && literal {
		if s, err := file.Function(fn); err == nil {
			return []symbol.Symbol{s}, true
		}
	}
	if lang == "cpp" || strings.Contains(fn, "::") || strings.Contains(fn, "(") {
		demangle := symbol.DemangleShort
		if strings.Contains(fn, "(") {
			demangle = symbol.Demangle
		}
		for _, s := range file.Functions() {
			name := demangle(s.Name)
			if name != s.Name && symbol.Match(fn, name) || s.Name == fn {
				syms = append(syms, s)
			}
		}
		return byName(syms), literal
	}
	if literal {
		return nil, true
	}
	return byName(file.Glob(fn)), false
}

// byName keeps one function of each name, the exported one where there is one. syms is sorted by name.
func byName(syms []symbol.Symbol) []symbol.Symbol {
	var out []symbol.Symbol
	for _, s := range syms {
		switch n := len(out); {
		case n == 0 || out[n-1].Name != s.Name:
			out = append(out, s)
		case out[n-1].Local && !s.Local:
			out[n-1] = s
		}
	}
	return out
}

func (k *uprobe) missing(r *request, file *symbol.File, f funcPattern, fn string) {
	near := nearest(fn, symbolNames(file, f.lang))
	seg := slices.Clone(r.seg)
	if !strings.Contains(seg[0], "/") { // a library's name
		seg[0] = file.Path()
	}
	d := r.noMatch(f.at, strings.Join(seg, ":"), near)
	if d != nil && len(near) == 0 && !file.HasSymbols() && r.missing() == "error" {
		d.Hint("use an address or an exported function: %s has no symbol table (it was stripped)", file.Path())
	}
}

func symbolNames(file *symbol.File, lang string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, s := range file.Functions() {
			name := s.Name
			if lang == "cpp" {
				name = symbol.DemangleShort(name)
			}
			if !yield(name) {
				return
			}
		}
	}
}

// function makes the point of a function; nil when it cannot be probed.
func (k *uprobe) function(r *request, bin binary, file *symbol.File, f funcPattern, s symbol.Symbol, offset uint64, literal bool) *check.Point {
	d := &uprobePoint{path: bin.path, host: bin.host, fn: s.Name, pid: r.env.Traced()}
	if offset != 0 && !r.env.Unsafe {
		ok, before, after, err := file.Boundary(s, offset)
		switch {
		case errors.Is(err, symbol.ErrNoDecoder):
		case err != nil:
			text := err.Error() // as a sentence
			r.segErrorf(f.at, codeOffset, "%s%s", strings.ToUpper(text[:1]), text[1:])
			return nil
		case !ok:
			r.segErrorf(f.at, codeOffset, "Could not add uprobe into middle of instruction: %s:%s+%d", bin.name, s.Name, offset).Hint("use +%d or +%d, or `--unsafe`: the program may break then", before, after)
			return nil
		}
	}
	if k.ret && file.IsGo() {
		rets, err := file.Returns(s)
		if err != nil || len(rets) == 0 {
			if literal {
				r.segErrorf(f.at, codeOffset, "%s has no return instruction to probe", s.Name).Hint("use `uprobe` on its callers")
			}
			return nil
		}
		d.atRet = true
		for _, addr := range rets {
			if off, ok := file.OffsetOf(addr); ok {
				d.offsets = append(d.offsets, off)
			}
		}
	} else {
		in, err := file.Instruction(s.Addr + offset)
		if err == nil && in.Class == symbol.InstructionUnprobeable {
			if literal {
				r.segErrorf(f.at, codeOffset, "the kernel cannot probe the instruction at %s: %s", s.Name, in.Text).Hint("probe a later instruction: %s+%d", s.Name, offset+uint64(in.Len))
			}
			return nil
		}
		if err == nil && in.Class == symbol.InstructionLanding && offset == 0 {
			d.skip = uint64(in.Len)
		}
		off, ok := file.OffsetOf(s.Addr + offset)
		if !ok {
			if literal {
				r.segErrorf(f.at, codeOffset, "%s is not in the code of %s", s.Name, bin.path)
			}
			return nil
		}
		d.offsets = []uint64{off}
	}
	name := k.name + ":" + bin.name
	if f.lang != "" {
		name += ":" + f.lang
	}
	name += ":" + s.Name
	if offset != 0 {
		name += "+" + strconv.FormatUint(offset, 10)
	}
	p := k.point(r, name, d)
	known := k.m.typesOf(file)
	if known != nil {
		p.Types = known
	}
	if literal && !k.ret && offset == 0 && known != nil {
		d.sig = signatureOf(file, s)
		p.Scope, p.Base = name, k.name
		p.Args = argsOf(name, d.sig, known.conv)
	}
	return p
}

func (k *uprobe) point(r *request, name string, d *uprobePoint) *check.Point {
	p := r.point(k, name)
	p.FuncName, p.Space, p.Data = d.fn, types.SpaceUser, d
	p.Together = k.m.has(target.UprobeMulti) && (d.pid == 0 || k.m.has(target.UprobeMultiPID))
	if k.ret {
		p.Retval = types.TUint64
	} else {
		p.NumArgs = registerArgs(r.env.Arch)
	}
	return p
}

func (k *uprobe) address(r *request, bin binary, file *symbol.File, f funcPattern, addr uint64) []*check.Point {
	if k.ret {
		r.segErrorf(f.at, codeOffset, "uretprobes need a function, not an address")
		return nil
	}
	off, ok := file.OffsetOf(addr)
	if !ok || !file.InCode(addr) && !r.env.Unsafe {
		r.segErrorf(f.at, codeOffset, "address %#x is not in the code of %s", addr, bin.path).Hint("use an address that its symbol table or disassembly shows")
		return nil
	}
	d := &uprobePoint{path: bin.path, host: bin.host, offsets: []uint64{off}, pid: r.env.Traced()}
	if s, ok := file.At(addr); ok {
		if ok, before, after, err := file.Boundary(s, addr-s.Addr); err == nil && !ok && !r.env.Unsafe {
			r.segErrorf(f.at, codeOffset, "Could not add uprobe into middle of instruction: %s:%#x", bin.name, addr).Hint("use %#x or %#x in %s, or `--unsafe`: the program may break then", s.Addr+before, s.Addr+after, s.Name)
			return nil
		}
		d.fn = s.Name
	}
	return []*check.Point{k.point(r, k.name+":"+bin.name+":"+strconv.FormatUint(addr, 10), d)}
}

func (k *uprobe) List(segments []string, opts ListOptions, yield func(Listed) bool) error {
	if k.ret && len(segments) == 0 {
		return nil
	}
	lang := ""
	if len(segments) == 3 && isLanguage(segments[1]) {
		lang, segments = "cpp", []string{segments[0], segments[2]}
	}
	switch {
	case len(segments) < 2 && opts.PID != 0:
		segments = append([]string{"*"}, segments...)
		if len(segments) == 1 {
			segments = append(segments, "*")
		}
	case len(segments) == 1 && segments[0] != "*":
		segments = append(segments, "*")
	case len(segments) != 2:
		return nil // without a file there is nothing to list
	}
	bins, err := k.m.listedBinaries(segments[0], opts.PID)
	if err != nil {
		if errors.Is(err, symbol.ErrNoBinary) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for _, bin := range bins {
		file, err := k.m.file(bin.path, bin.root)
		if err != nil {
			if len(bins) == 1 {
				return err
			}
			continue
		}
		syms, _ := k.functions(nil, file, segments[1], lang)
		for _, s := range syms {
			l := Listed{Name: k.name + ":" + bin.name + ":" + s.Name}
			if opts.Verbose && k.name == "uprobe" && file.HasDebugInfo() { // a return probe has no arguments
				if params, ok := signatureOf(file, s)(); ok {
					for _, p := range params {
						l.Args = append(l.Args, strings.ReplaceAll(p.Type.String(), " *", "*")+" "+p.Name)
					}
				}
			}
			if lang == "cpp" {
				l.Name = k.name + ":" + bin.name + ":cpp:\"" + symbol.Demangle(s.Name) + "\""
			}
			if !yield(l) {
				return nil
			}
		}
	}
	return nil
}

func (k *uprobe) Hook(p *check.Point, u *lower.Uses, t *target.Target) *lower.Hook {
	d := p.Data.(*uprobePoint)
	h := &lower.Hook{Point: p, Type: ebpf.Kprobe, Context: registerContext(), Data: d, Share: k.name}
	if d.sig != nil && u.Has("args") {
		h.Context = parameterArgs{sig: d.sig, point: d}
		h.Share = p.Scope
	}
	if d.skip > 0 && !u.Has("reg", "ctx", "ustack", "kstack") {
		moved := *d
		moved.offsets = []uint64{d.offsets[0] + d.skip}
		h.Data = &moved
	}
	if multiLink(t, d.pid) {
		h.Share, h.AttachType, h.Cookies = h.Share+".multi", ebpf.AttachTraceUprobeMulti, true
		return h
	}
	h.Cookies = t.Features.Has(target.PerfLink) && t.Features.Has(target.AttachCookie)
	return h
}

// multiLink reports whether user functions are attached by one link. With a process, a multi link saw only its first thread before Linux 6.10; perf
// events see all of them.
func multiLink(t *target.Target, pid int) bool {
	return t.Features.Has(target.UprobeMulti) && (pid == 0 || t.Features.Has(target.UprobeMultiPID))
}

func (k *uprobe) Links(hooks []*lower.Hook, cookies bool, _ *target.Target) []*object.Attach {
	if hooks[0].AttachType != ebpf.AttachTraceUprobeMulti {
		return eachHook(hooks, func(h *lower.Hook) *object.Attach {
			d := h.Data.(*uprobePoint)
			a := &object.Attach{
				Mechanism: object.Uprobe, Target: d.fn, Path: d.host, Offsets: d.offsets, PID: d.pid,
				Reason: "a perf event: the kernel has no multi link, or one process is traced",
			}
			if k.ret && !d.atRet {
				a.Mechanism = object.Uretprobe
			}
			if cookies {
				a.Cookie = uint64(h.Index)
			}
			return a
		})
	}
	// One link for each file, and one more where returns are caught at the return instructions.
	type key struct {
		path string
		at   bool
	}
	links := make(map[key]*object.Attach)
	var out []*object.Attach
	for _, h := range hooks {
		d := h.Data.(*uprobePoint)
		a := links[key{d.host, d.atRet}]
		if a == nil {
			a = &object.Attach{
				Mechanism: object.UprobeMulti, Path: d.host, PID: d.pid, Span: h.Point.Node.Span(),
				Reason: "one link for all places in a file; it detaches a hundred times faster than perf events",
			}
			if k.ret && !d.atRet {
				a.Mechanism = object.UretprobeMulti
			}
			links[key{d.host, d.atRet}] = a
			out = append(out, a)
		}
		a.Points = append(a.Points, h.Index)
		for _, off := range d.offsets {
			a.Offsets = append(a.Offsets, off)
			if cookies {
				a.Cookies = append(a.Cookies, uint64(h.Index))
			}
		}
	}
	return out
}

// nearestSource compares the last parts of the paths where the wanted name has no folder.
func nearestSource(want string, files []string) []string {
	if strings.Contains(want, "/") {
		return nearest(want, slices.Values(files))
	}
	return nearest(want, func(yield func(string) bool) {
		for _, f := range files {
			if !yield(filepath.Base(f)) {
				return
			}
		}
	})
}
