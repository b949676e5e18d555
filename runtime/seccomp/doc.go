// Package seccomp records which system calls a program makes and turns the recording into an allowlist under which the
// program runs.
//
// The way of the data:
//
//	programs in the kernel -> Recorder -> Profile (a JSON file, with provenance)
//	Profile + closure + runtime base -> Policy (numbers and conditions, per ABI)
//	Policy -> filter (classic BPF) -> run, check
//	Policy -> text of a consumer (OCI, systemd, ...)
//
// A [Profile] holds what was seen and who did it; a [Policy] holds what is allowed and why. Nothing but the Policy is ever
// emitted, so that every format says the same; [Compile] and [Policy.Decide] are two independent readings of it that
// tests hold against each other.
//
// Three things a reader has to know. The kernel's sys_enter tracepoint comes after seccomp, so a call that a filter
// denies is never seen there, only at sys_exit: an exit without an enter on one thread is a denial. sys_exit costs as much as
// counting the call, so it is attached when the first filter comes (watch.go has the kernel's half, lookout.go ours); preempt.go says why both are trace events on newer kernels. A 32-bit call of a
// 64-bit program has a number of another table, so every number here comes with its [ABI]. And what a program can do is
// also decided by what runs before it: a container's runtime makes calls after it has installed the filter (see [Base]).
//
// Imports of ours: runtime/kernel and runtime/symbol. Outside of them cilium/ebpf, x/arch and x/sys.
//
// Concurrency: a Profile and a Policy belong to one goroutine; a Recorder is safe for concurrent use, Close included.
//
// Read [Start], then [NewPolicy], then [Compile].
package seccomp
