// Package cdef turns the C text of a script into types and constants: struct, union, enum and typedef definitions,
// #define, #include and conditionals.
//
// Most scripts that hold C text only include headers and name constants. They never reach the C front end: a small
// preprocessor finds out which lines are in force, types come from the target's BTF, and the constants that BTF does not
// carry come from a table (constants.txt). Only a definition that is in force, or a header of the user's own, is parsed by
// modernc.org/cc/v4, which needs no C compiler on the machine; sizes and offsets are computed here by the rules of gcc and
// clang (layout.go), because that front end knows neither packed structs nor how fields share the rest of a bit-field's word.
//
// A header that is not installed is no error. One that is installed is read at the first name that nothing else knows; of the
// kernel's own headers only the preprocessor lines (kernel.go).
//
// Read [Parse] first. Imports: lang/source, lang/diag, lang/types, modernc.org/cc/v4. A [Defs] is safe for concurrent use.
package cdef
