package stdlib

import "github.com/sonde-sh/sonde/codegen/lower"

// The contexts of programs, in one place because many kinds share them.

func noContext() lower.Context       { return nil }
func recordContext() lower.Context   { return nil }
func registerContext() lower.Context { return nil }
func argContext(int) lower.Context   { return nil }
