package stdlib

import (
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/cdef"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// cText adapts the C front end to what the checker asks.
type cText struct{ *cdef.Defs }

// Macro returns the text that an object-like macro stands for.
func (c cText) Macro(name string) (string, bool) {
	if m, ok := c.Define(name); ok {
		return m.Body, !m.FuncLike
	}
	v, enum, ok := c.Const(name)
	if !ok || enum != nil { // an enumerator keeps its type, so that it prints by its name
		return "", false
	}
	return v.Literal(), true
}

// Macros lists the object-like macros of the script itself.
func (c cText) Macros() []string {
	var names []string
	for _, d := range c.Defines() {
		if !d.FuncLike {
			names = append(names, d.Name)
		}
	}
	return names
}

// ParseC reads the C definitions of a script, for check.Env.
func ParseC(set *source.Set) func([]*ast.CDef, types.Source, *check.Env, *diag.List) check.CDefs {
	return func(defs []*ast.CDef, base types.Source, env *check.Env, diags *diag.List) check.CDefs {
		texts := make([]cdef.Text, len(defs))
		for i, d := range defs {
			texts[i] = cdef.Text{Span: d.Span(), Text: d.Text, Directive: d.Kind == ast.CDirective}
		}
		opts := cdef.Options{
			Base: base, HaveBTF: true, Arch: env.Arch, ReadFile: env.ReadFile, IncludeDirs: env.IncludeDirs, Includes: env.Includes,
		}
		if m, ok := env.Machine.(*Machine); ok && len(texts)+len(env.Includes) > 0 {
			opts.KernelVersion = m.Kernel.VersionCode()
			opts.KernelDirs = m.Kernel.HeaderDirs(env.Environ["BPFTRACE_KERNEL_SOURCE"], env.Environ["BPFTRACE_KERNEL_BUILD"])
		}
		return cText{cdef.Parse(set, texts, opts, diags)}
	}
}
