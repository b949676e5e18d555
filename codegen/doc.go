// Package codegen compiles a checked script for a target: [Compile] is the whole of it.
//
// It decides which programs there are (merge.go: one per kernel attach point, clauses in script order), lowers each to IR, optimises
// it, emits instructions and collects everything in an object.Object. It has no clock, opens no file and knows no running
// kernel: the same script and target give the same object on every machine.
//
// Imports: lang/check, lang/diag, everything below codegen. Not safe for concurrent use of one check.Info. Read Compile first.
package codegen
