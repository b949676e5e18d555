package cdef

import (
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// Text is one piece of C text of a script: a whole definition or a preprocessor line.
type Text struct {
	Span      source.Span
	Text      string
	Directive bool
}

// Options tell what the C text may refer to.
type Options struct {
	// Base gives the types that the script does not define: the target's BTF. nil for none.
	Base types.Source
	// HaveBTF defines BPFTRACE_HAVE_BTF.
	HaveBTF bool
	// Arch is the target in Go's words: "amd64" (also for "") or "arm64".
	Arch string
	// KernelVersion is LINUX_VERSION_CODE, 0 when unknown.
	KernelVersion uint32
	// ReadFile opens headers by absolute or relative path; nil means that there are none.
	ReadFile func(path string) ([]byte, error)
	// IncludeDirs (-I) are searched before the system's directories.
	IncludeDirs []string
	// KernelDirs hold the kernel's own headers, in the order of its build; of these only macros are read.
	KernelDirs []string
	// Includes (--include) are headers to read before the script's own text.
	Includes []string
}

// Define is an object-like or function-like macro of the script.
type Define struct {
	Name     string
	Span     source.Span // the whole line; invalid for a macro of a header
	Body     string      // the replacement, comments and blanks around it removed
	BodySpan source.Span // invalid when the body continues over several lines
	FuncLike bool
	// Value is set when the body is a single literal, or when the C front end could evaluate it.
	Value *Value
}

// Value is a constant.
type Value struct {
	Int      int64
	Str      string
	IsString bool
	Unsigned bool // Int holds a uint64
}

// Defs is what the C text of a script defines. As a [types.Source] it answers with the script's own types first, then
// with those of Options.Base, then with those of installed headers that the script includes.
type Defs struct {
	set     *source.Set
	opts    Options
	defines map[string]*Define
	order   []string
	include []include
	own     *unit

	headersOnce sync.Once
	headers     *unit
	kernelOnce  sync.Once
	kernel      *unit
}

var _ types.Source = (*Defs)(nil)

// include is one #include that is in force.
type include struct {
	path   string
	quoted bool
	span   source.Span
}

// unit is what one run of the C front end found.
type unit struct {
	structs  map[string]*types.Type
	enums    map[string]*types.Type
	typedefs map[string]*types.Type
	consts   map[string]enumConst
	macros   map[string]*Define
}

type enumConst struct {
	value int64
	typ   *types.Type
}

// Parse reads the C texts of a script, in script order; they may come from several files of set. Faults go to diags. It
// never returns nil.
func Parse(set *source.Set, texts []Text, opts Options, diags *diag.List) *Defs {
	d := &Defs{set: set, opts: opts, defines: map[string]*Define{}}
	if len(texts) == 0 && len(opts.Includes) == 0 {
		return d
	}
	for _, path := range opts.Includes {
		d.include = append(d.include, include{path: path, quoted: true})
	}
	p := &preprocessor{defs: d, diags: diags}
	active := p.run(texts)
	if active || d.hasOwnHeaders(diags) {
		d.translate(texts, diags)
	}
	return d
}

// Empty reports whether the script has no C text at all.
func (d *Defs) Empty() bool { return len(d.order) == 0 && len(d.include) == 0 && d.own == nil }

// Define returns a macro of the script itself.
func (d *Defs) Define(name string) (Define, bool) {
	if m := d.defines[name]; m != nil {
		return *m, true
	}
	return Define{}, false
}

// Defines lists the script's macros in order.
func (d *Defs) Defines() []Define {
	out := make([]Define, 0, len(d.order))
	for _, name := range d.order {
		if m := d.defines[name]; m != nil {
			out = append(out, *m)
		}
	}
	return out
}

// Const finds a constant by name: a macro of the script whose body is a literal, an enumerator of the script or of Base,
// an entry of the table of kernel and C library constants, or a macro of an installed header that the script includes, first
// of the kernel's own. The type is that of the enum; it is nil for macros.
func (d *Defs) Const(name string) (Value, *types.Type, bool) {
	if m := d.defines[name]; m != nil {
		if m.Value != nil && !m.FuncLike {
			return *m.Value, nil, true
		}
		return Value{}, nil, false
	}
	if v, t, ok := d.enumConst(name); ok {
		return Value{Int: v}, t, true
	}
	if v, ok := Constant(name, d.opts.Arch); ok {
		return Value{Int: v}, nil, true
	}
	if v, ok := d.kernelConst(name); ok {
		return v, nil, true
	}
	if h := d.loadHeaders(); h != nil {
		if c, ok := h.consts[name]; ok {
			return Value{Int: c.value}, c.typ, true
		}
		if m := h.macros[name]; m != nil && m.Value != nil {
			return *m.Value, nil, true
		}
	}
	return Value{}, nil, false
}

// enumConst looks where no file must be read.
func (d *Defs) enumConst(name string) (int64, *types.Type, bool) {
	if d.own != nil {
		if c, ok := d.own.consts[name]; ok {
			return c.value, c.typ, true
		}
	}
	if d.opts.Base != nil {
		return d.opts.Base.EnumConst(name)
	}
	return 0, nil, false
}

// find asks the three sources in turn.
func (d *Defs) find(name string, own func(*unit) *types.Type, base func() *types.Type) *types.Type {
	if d.own != nil {
		if t := own(d.own); t != nil {
			return t
		}
	}
	if d.opts.Base != nil {
		if t := base(); t != nil {
			return t
		}
	}
	if h := d.loadHeaders(); h != nil {
		return own(h)
	}
	return nil
}

// StructType finds a struct or union by its tag.
func (d *Defs) StructType(name string) *types.Type {
	return d.find(name, func(u *unit) *types.Type { return u.structs[name] }, func() *types.Type { return d.opts.Base.StructType(name) })
}

// EnumType finds an enum by its tag.
func (d *Defs) EnumType(name string) *types.Type {
	return d.find(name, func(u *unit) *types.Type { return u.enums[name] }, func() *types.Type { return d.opts.Base.EnumType(name) })
}

// Typedef finds a typedef.
func (d *Defs) Typedef(name string) *types.Type {
	return d.find(name, func(u *unit) *types.Type { return u.typedefs[name] }, func() *types.Type { return d.opts.Base.Typedef(name) })
}

// EnumConst finds an enumerator.
func (d *Defs) EnumConst(name string) (int64, *types.Type, bool) {
	if v, t, ok := d.enumConst(name); ok {
		return v, t, ok
	}
	if h := d.loadHeaders(); h != nil {
		if c, ok := h.consts[name]; ok {
			return c.value, c.typ, true
		}
	}
	return 0, nil, false
}

// FuncProto asks Base: prototypes in C text are not kept.
func (d *Defs) FuncProto(name string) *types.Proto {
	if d.opts.Base == nil {
		return nil
	}
	return d.opts.Base.FuncProto(name)
}

// Names lists the script's own names and those of Base; it reads no headers. For "const" the table's names are among them.
func (d *Defs) Names(what, prefix string, limit int) []string {
	seen := map[string]bool{}
	add := func(name string) {
		if strings.HasPrefix(name, prefix) {
			seen[name] = true
		}
	}
	if d.own != nil {
		switch what {
		case "struct":
			addKeys(d.own.structs, add)
		case "enum":
			addKeys(d.own.enums, add)
		case "typedef":
			addKeys(d.own.typedefs, add)
		case "const":
			addKeys(d.own.consts, add)
		}
	}
	if what == "const" {
		for _, m := range d.Defines() {
			add(m.Name)
		}
		for _, name := range ConstantNames() {
			add(name)
		}
	}
	if d.opts.Base != nil {
		for _, name := range d.opts.Base.Names(what, prefix, limit) {
			add(name)
		}
	}
	var out []string
	addKeys(seen, func(name string) { out = append(out, name) })
	sort.Strings(out)
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out
}

func addKeys[V any](m map[string]V, add func(string)) {
	for k := range m {
		add(k)
	}
}

// Literal returns the value as the language writes it.
func (v Value) Literal() string {
	switch {
	case v.IsString:
		return strconv.Quote(v.Str)
	case v.Unsigned:
		return strconv.FormatUint(uint64(v.Int), 10)
	}
	return strconv.FormatInt(v.Int, 10)
}
