// Package lexer turns script text into tokens.
//
// The language cannot be scanned without context: `/` divides, opens a predicate, or is part of a path; an attach point
// is free text; a C definition is passed on whole. The scanner therefore knows where it is (top level, attach points,
// predicate, body) and, because it does, also cuts the token list into top-level items, so that one broken item never
// hides the errors of the next. Read [Lex] first.
//
// Imports: lang/source, lang/diag, and participle's lexer interfaces, behind which [Definition] offers the same tokens.
// Nothing in this package is shared between calls; all of it is safe for concurrent use.
package lexer
