// Package check turns a syntax tree into a checked script: names, macros, types, constants, probe variants.
//
// The checker knows no builtin by name: it asks a [Universe] (the registry of stdlib). Each action is copied once per scope (a [Body]), because
// one action may be compiled for several attach points whose `args` differ; the copy has its macros expanded and its types in a side table.
//
// The steps are: imports, config and definitions (imports.go, config.go, defs.go); attach points (check.go); copying with macros, C macros,
// positional parameters and branches that literals decide (expand.go, macro.go); binding of variables and notes on maps (hoist.go,
// scope.go); types by a worklist whose units are statements, until nothing changes (body.go and the files it calls); one more round over all
// units, which reports. Types only grow, so this is linear in the script. `if comptime` waits until the types that it asks for
// are known, and fixes them.
//
// Integers whose sign is still open are a matter of this package alone (promote.go): a literal that fits both signs, and what is computed from
// literals alone. [Info] shows none of them.
//
// Read [Check] first. Imports: lang/ast, lang/types, lang/diag, lang/source. Check may run concurrently for different source sets; what it
// returns is only read afterwards.
package check
