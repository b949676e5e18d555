// Package scan reads machine code and tells which system calls it can make: a second opinion beside a recording.
//
// The way of the data:
//
//	ELF file -> image (functions, imports, calls between them)
//	functions with a system call -> micro operations -> values of registers -> numbers
//	numbers + calls between functions and files -> what a program reaches, with a chain of functions for each
//
// x86-64 and arm64 are turned into the same small operations ([micro]), so that following values (flow.go) knows no machine. The
// value of the number's register is a set of constants, or a parameter of the function: a function that passes a parameter on as
// the number (syscall in a C library, RawSyscall6 in Go) is a wrapper, and each of its callers counts as a site of its own.
//
// What this cannot see is said and not guessed: numbers that are computed or read from memory are unknown sites; functions
// reached through pointers are reached as soon as data holds their address; what is opened with dlopen or made at run time
// is not there. Values that were saved on the stack are taken to be unchanged by the calls in between.
//
// Imports of ours: runtime/seccomp and runtime/symbol. Outside of them x/arch.
//
// Concurrency: [Run] may be called by several goroutines; a [Report] belongs to one.
//
// Read [Run], then image.resolve.
package scan
