// Package runtime runs an object: it makes the maps, loads the programs, attaches them, prints what they send, and takes everything down.
//
// [New] loads, [Session.Run] does the whole life of a script: begin programs, attach, events until the end, end programs, maps, data quality.
// A Session's exported methods are safe for concurrent use. Nothing stays behind when the process dies: links are descriptors.
// Imports: codegen/object, lang/source, lang/diag, lang/types and all of runtime but lab and seccomp.
package runtime
