// Package bpf turns IR functions into eBPF instructions.
//
// The stages, each a file: slots are given a place in the stack frame or in per-CPU scratch memory (place.go, scratch.go); ops that the
// instruction set lacks are rewritten (legal.go); instructions over virtual registers are selected (isel.go); registers
// r0 to r9 are allocated by iterated register coalescing, with spilling (alloc.go, spill.go); blocks are laid out and jumps
// resolved (layout.go); and asm.Instructions with the table from offsets to script spans come out (encode.go).
//
// Imports: codegen/ir, codegen/object, lang/source and cilium/ebpf's asm and btf. Nothing here knows the running kernel:
// [Options] says what it can do. Emit works on a copy of the module and may be called from several goroutines. Read Emit first.
package bpf
