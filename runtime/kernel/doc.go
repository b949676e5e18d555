// Package kernel is everything the rest of sonde knows about the running machine: the types of the kernel (BTF), its
// trace events (tracefs), its symbols (kallsyms), what it can and cannot do (features), and plain facts such as CPUs,
// cgroups, capabilities and system call names.
//
// Read first: [Open], which returns a [Kernel]. Opening is cheap (no file is read, no system call beyond what the
// options need); every fact is read when first asked for and then kept in the Kernel value. There is no package-level
// state, so a test can open a Kernel over a directory of its own ([Options].Root) and get only what it put there.
//
// Imports allowed: the standard library, golang.org/x/sys/unix, github.com/cilium/ebpf. Nothing of ours.
//
// Concurrency: a Kernel and everything it returns is safe for concurrent use. Values returned are read-only.
//
// Errors: a missing right, a feature the kernel lacks and a machine that refuses are three different things to a user,
// so they are three different errors: [RefusedError], [FeatureError] and the wrapped system error.
package kernel
