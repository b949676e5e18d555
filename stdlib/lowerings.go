package stdlib

import "github.com/sonde-sh/sonde/codegen/lower"

// lowerFuncs and lowerVars say how builtins become IR, by canonical name.
func lowerFuncs() map[string]lower.Func { return nil }

func lowerVars() map[string]lower.VarFunc { return nil }
