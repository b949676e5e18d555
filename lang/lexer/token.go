package lexer

import (
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/lang/source"
)

// Kind is the class of a token.
type Kind uint8

// Token kinds.
const (
	Invalid     Kind = iota
	Ident            // a name
	Const            // a name that this script defined as a value (#define, enumerator, macro parameter)
	Keyword          // a reserved word
	Int              // an integer literal, with its suffix
	String           // a string literal with its quotes
	Var              // $name
	Map              // @name or @
	Param            // $1 or $#
	Assign           // = += -= *= /= %= &= |= ^= <<= >>=
	Op               // every other operator and punctuation mark
	AttachPoint      // kind:segments, as written
	PredOpen         // the / that opens a predicate
	PredClose        // the / that closes it
	CText            // a C struct, union, enum or typedef, whole
	Directive        // a preprocessor line, whole, with its continuation lines
)

var kindNames = [...]string{
	Invalid: "invalid", Ident: "ident", Const: "const", Keyword: "keyword", Int: "int", String: "string", Var: "var",
	Map: "map", Param: "param", Assign: "assign", Op: "op", AttachPoint: "attach-point", PredOpen: "predicate-open",
	PredClose: "predicate-close", CText: "c", Directive: "directive",
}

func (k Kind) String() string { return kindNames[k] }

// Token is one token; Text is the script's own text, quotes and all.
type Token struct {
	Kind Kind
	Span source.Span
	Text string
}

// Comment is one comment with its delimiters.
type Comment struct {
	Span source.Span
	Text string
}

// Item is one top-level thing: the tokens [First, Last) of the list.
type Item struct {
	First, Last int
	// Open is the span of the innermost bracket that is still open where the item ends; invalid when none is.
	Open source.Span
	// Resumed is the span of the text that looked like the next item inside an unclosed body; invalid otherwise.
	Resumed source.Span
	// Unfinished tells that the file ended before the item did.
	Unfinished bool
	// Broken items have a lexical fault that makes parsing them pointless; it was reported.
	Broken bool
}

// Result is what [Lex] found.
type Result struct {
	Shebang  string // the first line when it starts with #!, without its line break
	Tokens   []Token
	Items    []Item
	Comments []Comment
	// Unfinished tells that the text ends inside a comment, a bracket or a half-written item.
	Unfinished bool
}

// Dump renders tokens one a line, as `sonde -d tokens` prints them: line:column, kind, text.
func (r *Result) Dump(set *source.Set) string {
	var b strings.Builder
	for i, it := range r.Items {
		if i > 0 {
			b.WriteByte('\n')
		}
		for _, t := range r.Tokens[it.First:it.Last] {
			p := set.Position(t.Span.Start)
			b.WriteString(pad(strconv.Itoa(p.Line)+":"+strconv.Itoa(p.Col), 8))
			b.WriteString(pad(t.Kind.String(), 16))
			b.WriteString(strings.ReplaceAll(t.Text, "\n", "\\n"))
			b.WriteByte('\n')
		}
	}
	return b.String()
}

func pad(s string, n int) string {
	if len(s) >= n {
		return s + " "
	}
	return s + strings.Repeat(" ", n-len(s))
}

// isKeyword reports whether word is reserved inside bodies. Words that matter only at the top level (config, macro, fn)
// stay ordinary names elsewhere.
func isKeyword(word string) bool {
	switch word {
	case "break", "comptime", "continue", "else", "false", "for", "if", "import", "let", "offsetof", "return", "sizeof",
		"true", "typeinfo", "typeof", "unroll", "while":
		return true
	}
	return false
}

// Keywords returns the reserved words in alphabetical order, for completion.
func Keywords() []string {
	return []string{
		"break", "comptime", "config", "continue", "else", "false", "fn", "for", "if", "import", "let", "macro",
		"offsetof", "return", "sizeof", "true", "typeinfo", "typeof", "unroll", "while",
	}
}
