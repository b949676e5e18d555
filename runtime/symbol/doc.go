// Package symbol gives names to addresses and addresses to names: kernel and user symbols, library names, source lines,
// Go functions, static user-space markers (USDT) and the file systems of containers.
//
// It serves two sides. Attaching asks a [File] where a function, a source line or a USDT marker is; rendering asks a
// [Symbolizer] what an address of a stack is called. Both read files that another user may have written (a container's
// libraries, a perf map in /tmp), so every parser here checks bounds, limits what it reads and returns errors.
//
// Imports of ours: none today, at most runtime/kernel; kernel names come through the [KernelSymbols] interface.
//
// Concurrency: a [File] and a [Symbolizer] are safe for use by several goroutines. A [Process] belongs to one goroutine,
// or to the Symbolizer that made it.
//
// Read [Open] and [File.Lookup] first, then [Symbolizer.User].
package symbol
