// Package scriptgen makes random well-typed scripts, to find scripts that the checker accepts and that something behind it does not:
// the compiler, the kernel's verifier, or the comparison of what the interpreter of the IR and the kernel compute.
//
// It is driven by the registry: functions by the classes of their parameters, variables, kinds of maps, probe kinds with the types that
// their points have, structs by the types of the target. What a function gives is found out by asking the checker once. Scripts are trees of
// lines; a line that the checker refuses is dropped, so that what comes out is accepted. The same seed, registry and environment give the same script.
//
// Imports: stdlib, lang. A Generator is used by one goroutine. Read [New] and [Generator.Script] first, then [Script.Shrink].
package scriptgen
