// Package value turns bytes from maps and events into values, and values into text and JSON.
//
// The text and JSON forms are bpftrace's, to the character. Start with [Decoder.Value]; [Text] and [JSON] append a value,
// [Format] is a compiled printf format. Whatever needs the machine (symbols, users, cgroups, the clock) comes through
// [Resolver]. A Decoder is safe for concurrent use when its Resolver is. Imports: lang/types, codegen/object.
package value
