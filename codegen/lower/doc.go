// Package lower turns a checked script into IR: expressions, statements, maps, events. Builtins lower themselves through
// [Func] and [VarFunc], which stdlib provides; nothing here knows a builtin by name. Probe kinds choose the kernel's mechanism through
// [ProbeKind].
//
// A [Unit] is one compilation: it collects the maps, events and points of the object. A [Gen] generates one program; its exported
// methods are what builtins use. Scalars are SSA values. Everything larger is a [Place]; a place may be memory that was not read
// yet (a struct behind a kernel pointer), so that only what is used of it is read.
//
// Imports: lang (not syntax), codegen/ir, codegen/object, codegen/target. Not safe for concurrent use. First function to read: Unit.Lower.
package lower
