package symbol

import (
	"strings"

	"github.com/ianlancetaylor/demangle"
)

// Demangle turns a C++ or Rust symbol into the name that the programmer wrote, with parameter types for C++ and without
// the hash for Rust; other names stay as they are.
func Demangle(name string) string {
	if !mangled(name) {
		return name
	}
	return demangle.Filter(name)
}

// DemangleShort is [Demangle] without parameter and return types: what a flame graph shows, and what cpp: attach points
// compare with.
func DemangleShort(name string) string {
	if !mangled(name) {
		return name
	}
	return demangle.Filter(name, demangle.NoParams, demangle.NoEnclosingParams)
}

// mangled tells, cheaply, names that may be mangled from the many that are not.
func mangled(name string) bool {
	if len(name) < 3 {
		return false
	}
	return name[0] == '_' && (name[1] == 'Z' || name[1] == 'R' || name[1:3] == "_Z" || strings.HasPrefix(name, "_GLOBAL_"))
}
