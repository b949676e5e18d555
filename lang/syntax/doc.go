// Package syntax parses scripts: tokens of lang/lexer become the tree of lang/ast.
//
// Declarations and statements are a participle grammar (grammar.go, private structs, converted to the tree at once);
// expressions, types and conditions are parsed by precedence climbing behind it (expr.go, primary.go, types.go). Every
// top-level item is parsed on its own, so one script reports one error per broken item.
//
// Where the language is ambiguous the rules are:
//
//   - `(name)x` is a cast when name is no builtin variable and no name the script defined as a value, only pointers and array
//     lengths follow it, and the token behind `)` can start an operand. `(x) - 1` with an unknown x is therefore a cast, as in
//     bpftrace, while `(cpu) - 1` and `(LIMIT) - 1` after `#define LIMIT 10` are not.
//   - `sizeof(name)`, `typeof(name)` and `typeinfo(name)` hold a type when name is a known type name or has `*` or `[n]` behind it,
//     and an expression otherwise; the checker may still find that the name is a typedef.
//   - `/` ends a predicate when a `{` follows it.
//   - In an attach point `/` belongs to a path once a `:` has been seen, and starts the predicate before that.
//   - `;` may be left out before `}` and after `}` of a block, if or loop.
//
// Read [Parse] first. The package imports lang/source, lang/diag, lang/lexer, lang/ast and participle. All functions are safe
// for concurrent use; the grammar is built once, at the first parse.
package syntax
