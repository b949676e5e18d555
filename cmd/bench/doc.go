// Bench measures what sonde costs: starting and ending, memory, size, the code
// that it generates, the way of an event to the screen. It does so side by side
// with bpftrace when that is installed, on the same machine in the same minutes:
//
//	make bench              the table
//	make bench-write        the table, written to docs/performance.md
//	go run ./cmd/bench -quick        some minutes, nothing emulated
//	go run ./cmd/bench -icount       instruction counts in an emulated kernel
//
// How noise is kept out: variants run in turn within a round and the medians of
// the rounds are shown; CPU time is preferred to wall time; the time of a
// generated program is what the kernel's BPF statistics say less what they say
// about an empty program of the same tracer; -icount runs everything under
// QEMU with a clock that counts instructions, so that nothing is left to chance.
//
// The program imports the lab only, so that the processes that it starts on its
// own behalf stay small: a child's peak memory is at least its parent's at the
// time of the fork (the kernel counts the address space that exec replaces).
// Read [run] first.
package main
