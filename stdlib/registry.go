// Package stdlib is the registry: builtin variables and functions, probe kinds, map kinds, config keys, library macros. It is where the
// language, the compiler and the running machine meet. Checker, lowering, runtime, help, completion and reference docs all read it.
//
// A builtin is one literal in a themed file; a probe kind is one file. There is no init registration and no mutable global: [New] builds
// a registry value from slices. Imports: lang, codegen, runtime.
package stdlib

import "github.com/sonde-sh/sonde/lang/check"

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

// MapKindEntry, ConfigEntry and KindEntry give the other descriptors their documentation.
type MapKindEntry struct {
	Doc  Doc
	Kind check.MapKind
}

// ConfigEntry is a config key with its documentation; Default is the text that the docs show.
type ConfigEntry struct {
	Doc     Doc
	Default string
	Key     check.ConfigKey
}

// KindEntry is a probe kind with its documentation.
type KindEntry struct {
	Doc     Doc
	Aliases []string
	Kind    check.ProbeKind
}
