// Package attach connects loaded programs to the places that the attach plan names, and disconnects them again.
//
// Read first: [Attacher.Attach], which takes one [object.Attach] and a program and returns a [Link]. A link is made of descriptors only:
// whatever kills the process detaches everything, and nothing is pinned or registered by name.
//
// Detaching perf events is what costs time at the end of a run: the kernel waits for every CPU to leave a tracepoint, a uprobe or a trampoline,
// 30 to 115 ms for each of them. [CloseAll] lets these waits overlap and returns when nothing can run any more. [Leave] does
// not wait at all: it hands the descriptors to the kernel, which closes them behind the back of the process.
//
// Imports allowed: codegen/object, cilium/ebpf, golang.org/x/sys/unix. System calls are made here and not by a library, because the plan
// needs what libraries hide: which error, which mechanism, which descriptor is closed when.
//
// Concurrency: an Attacher and a Link are safe for concurrent use.
package attach
