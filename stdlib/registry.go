package stdlib

import (
	"embed"
	"io/fs"
	"slices"
	"sort"
	"strings"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	text "github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
)

// Doc is what people read about an entry; all of it goes to help, completion and docs/reference.
type Doc struct {
	Group   string // "aggregation", "string", "process", ...
	Summary string // one line, lower case, no full stop
	Text    string // paragraphs; Markdown
	Example string // a script that compiles and loads
	SeeAlso []string
	Since   string   // mainline version of the newest kernel feature needed; documentation and test only
	Needs   []string // names of features of runtime/kernel
}

// Builtin is a function or variable of the language. Exactly one of Func and Var is set.
type Builtin struct {
	Name    string
	Aliases []string
	Doc     Doc
	Func    *check.Func
	Var     *check.Var
}

// MapKindEntry gives a kind of map its documentation, as ConfigEntry and KindEntry do for theirs.
type MapKindEntry struct {
	Doc  Doc
	Kind check.MapKind
}

// ConfigEntry is a config key with its documentation; Default is the text that the docs show.
type ConfigEntry struct {
	Doc     Doc
	Aliases []string // old names that still work
	Default string
	Key     check.ConfigKey
}

// KindEntry is a probe kind with its documentation.
type KindEntry struct {
	Doc     Doc
	Aliases []string
	Kind    check.ProbeKind
}

// Registry holds everything that is predeclared. It is built once and only read afterwards, so it is safe for concurrent use.
type Registry struct {
	builtins []*Builtin
	mapKinds []MapKindEntry
	config   []ConfigEntry
	kinds    []KindEntry

	vars    map[string]*check.Var
	funcs   map[string]*check.Func
	entries map[string]*Builtin
	byKind  map[string]*MapKindEntry
	byKey   map[string]*ConfigEntry
}

var _ check.Universe = (*Registry)(nil)

//go:embed *.bt
var library embed.FS

// New builds the registry with the probe kinds of a machine. Builtins are literals in the themed files of this package; what lowers them is
// in lowerings.
func New(kinds []KindEntry) *Registry {
	r := &Registry{
		kinds: kinds, mapKinds: mapKinds(), config: configKeys(),
		vars: map[string]*check.Var{}, funcs: map[string]*check.Func{}, entries: map[string]*Builtin{},
		byKind: map[string]*MapKindEntry{}, byKey: map[string]*ConfigEntry{},
	}
	funcs, vars := lowerFuncs(), lowerVars()
	for _, list := range [][]Builtin{
		processFuncs(), outputFuncs(), stringFuncs(), addressFuncs(), timeFuncs(), networkFuncs(), mapFuncs(),
		aggregations(), compileFuncs(), actionFuncs(), denyFuncs(), variables(),
	} {
		for i := range list {
			r.add(&list[i], funcs, vars)
		}
	}
	sort.SliceStable(r.builtins, func(i, j int) bool { return r.builtins[i].Name < r.builtins[j].Name })
	for i := range r.mapKinds {
		r.byKind[r.mapKinds[i].Kind.Name] = &r.mapKinds[i]
	}
	for i := range r.config {
		e := &r.config[i]
		r.byKey[e.Key.Name] = e
		for _, a := range e.Aliases {
			r.byKey[a] = e
		}
	}
	return r
}

// add enters a builtin under its names and gives it what lowers it.
func (r *Registry) add(b *Builtin, funcs map[string]any, vars map[string]lower.VarFunc) {
	r.builtins = append(r.builtins, b)
	names := append([]string{b.Name}, b.Aliases...)
	switch {
	case b.Func != nil:
		b.Func.Name = b.Name
		if l, ok := funcs[b.Name]; ok {
			b.Func.Lower = l
		}
		for _, n := range names {
			r.funcs[n] = b.Func
		}
	case b.Var != nil:
		b.Var.Name = b.Name
		if l, ok := vars[b.Name]; ok {
			b.Var.Lower = l
		}
		for _, n := range names {
			r.vars[n] = b.Var
		}
	}
	for _, n := range names {
		if r.entries[n] == nil || b.Func != nil {
			r.entries[n] = b
		}
	}
}

// Var returns a builtin variable by name.
func (r *Registry) Var(name string) *check.Var {
	if v := r.vars[name]; v != nil && name != "argN" && name != "sargN" {
		return v
	}
	if len(name) == 5 && strings.HasPrefix(name, "sarg") && isDigit(name[4], 10) {
		return r.vars["sargN"]
	}
	if len(name) > 3 && len(name) < 6 && strings.HasPrefix(name, "arg") && strings.Trim(name[3:], "0123456789") == "" {
		return r.vars["argN"]
	}
	return nil
}

// Func returns a builtin function by name.
func (r *Registry) Func(name string) *check.Func { return r.funcs[name] }

// Kind returns a probe kind by name or alias.
func (r *Registry) Kind(name string) check.ProbeKind { return FindKind(r.kinds, name) }

// MapKind returns a map kind by name.
func (r *Registry) MapKind(name string) *check.MapKind {
	if e := r.byKind[name]; e != nil {
		return &e.Kind
	}
	return nil
}

// ConfigKey returns a config key by its canonical name or an old one.
func (r *Registry) ConfigKey(name string) *check.ConfigKey {
	if e := r.byKey[name]; e != nil {
		return &e.Key
	}
	return nil
}

// Names lists the names that a user may write, sorted: "var", "func", "macro" (of the library), "kind", "mapkind" or "config".
func (r *Registry) Names(what string) []string {
	var out []string
	switch what {
	case "var":
		for n := range r.vars {
			if n == "argN" {
				out = append(out, "arg0", "arg1", "arg2", "arg3", "arg4", "arg5")
				continue
			}
			if n == "sargN" { // of old scripts
				continue
			}
			out = append(out, n)
		}
	case "func":
		for n := range r.funcs {
			out = append(out, n)
		}
	case "macro":
		names, _ := fs.Glob(library, "*.bt")
		for _, n := range names {
			text, _ := library.ReadFile(n)
			for line := range strings.Lines(string(text)) {
				if rest, ok := strings.CutPrefix(line, "macro "); ok {
					name, _, _ := strings.Cut(rest, "(")
					out = append(out, strings.TrimSpace(name))
				}
			}
		}
	case "kind":
		for _, k := range r.kinds {
			out = append(out, k.Kind.Name())
			out = append(out, k.Aliases...)
		}
	case "mapkind":
		for _, k := range r.mapKinds {
			out = append(out, k.Kind.Name)
		}
	case "config":
		for _, k := range r.config {
			out = append(out, k.Key.Name)
		}
	}
	sort.Strings(out)
	return slices.Compact(out)
}

// Library parses the macros that are written in the language itself.
func (r *Registry) Library(set *text.Set, diags *diag.List) []*ast.Macro {
	names, _ := fs.Glob(library, "*.bt")
	var out []*ast.Macro
	for _, n := range names {
		macros, err := library.ReadFile(n)
		if err != nil {
			continue
		}
		script := syntax.Parse(set, set.Add("stdlib/"+n, string(macros)), diags)
		if script == nil {
			continue
		}
		for _, it := range script.Items {
			if m, ok := it.(*ast.Macro); ok {
				out = append(out, m)
			}
		}
	}
	return out
}

// Builtins lists all functions and variables by name. The caller must not change what it gets.
func (r *Registry) Builtins() []*Builtin { return r.builtins }

// Builtin returns the entry of a function or variable; the function where both exist under the name.
func (r *Registry) Builtin(name string) *Builtin { return r.entries[name] }

// MapKinds lists the kinds of maps.
func (r *Registry) MapKinds() []MapKindEntry { return r.mapKinds }

// Config lists the config keys.
func (r *Registry) Config() []ConfigEntry { return r.config }

// Kinds lists the probe kinds.
func (r *Registry) Kinds() []KindEntry { return r.kinds }
