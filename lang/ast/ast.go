// Package ast holds the syntax tree of a script, its walker and its printer (the formatter).
//
// Nodes are pointers; every node has a span. Types are not stored on nodes: the checker keeps them in a side table keyed
// by node, because a macro body or a multi-probe action may be checked more than once. Imports: lang/source.
package ast

import "github.com/sonde-sh/sonde/lang/source"

// Node is any tree node.
type Node interface{ Span() source.Span }

// Base carries the span; every node embeds it.
type Base struct{ Sp source.Span }

// Span returns the source range of the node.
func (b *Base) Span() source.Span { return b.Sp }

// SetSpan moves a node; for copies of nodes that stand for other text.
func (b *Base) SetSpan(sp source.Span) { b.Sp = sp }

// Script is a whole source file.
type Script struct {
	Base
	Shebang  string // first line when it starts with #!, else ""
	Items    []Item
	Comments []Comment // in source order, for the formatter
}

// Comment is one comment with its delimiters.
type Comment struct {
	Base
	Text string
}

// Item is a top-level thing.
type Item interface {
	Node
	item()
}

// Probe is attach points, an optional predicate and a body.
type Probe struct {
	Base
	Name      string // `name=probe`, usually ""
	Attach    []*AttachPoint
	Predicate Expr // nil when absent
	Body      *Block
}

// AttachPoint is one `kind:segments` target as written. Kind is as written (short names are resolved by the checker
// through the registry). Segments are split at colons outside quotes, quotes removed; positional parameters ($1) inside are kept
// as text and substituted by the checker.
type AttachPoint struct {
	Base
	Raw      string
	Kind     string
	Segments []Segment
}

// Segment is one part of an attach point.
type Segment struct {
	Base
	Text   string
	Quoted bool
}

// MapDecl is `let @m = hash(100)`.
type MapDecl struct {
	Base
	Name string // with the leading @
	Kind string
	Args []Expr
}

// Config is a `config = { ... }` block.
type Config struct {
	Base
	Settings []*ConfigSetting
}

// ConfigSetting is `name = value`. Value is the literal's text (for a string without its quotes).
type ConfigSetting struct {
	Base
	Name    string
	NameSp  source.Span
	Value   string
	ValueSp source.Span
}

// Import is `import "path"`.
type Import struct {
	Base
	Path string
}

// Macro is `macro name(params) { body }`.
type Macro struct {
	Base
	Name   string
	NameSp source.Span
	Params []*MacroParam
	Body   *Block
}

// MacroParam is one parameter: $x (scratch variable), @x (map) or x (expression), by its first character.
type MacroParam struct {
	Base
	Name string
}

// CDef is a run of C text that the script carries: struct, union, enum or typedef definitions and preprocessor lines.
// The text is parsed by lang/cdef.
type CDef struct {
	Base
	Text string
	Kind CDefKind
	Name string // struct/union/enum tag, define or include name when it can be told, else ""
}

// CDefKind tells what a CDef holds.
type CDefKind uint8

// Kinds of C definitions.
const (
	CStruct    CDefKind = iota // struct or union definition
	CEnum                      // enum definition
	CTypedef                   // typedef
	CDirective                 // a preprocessor line: #include, #define, #ifdef ...
)

// Subprog is `fn name($a : type, ...) : type { body }`.
type Subprog struct {
	Base
	Name   string
	NameSp source.Span
	Params []*SubprogParam
	Result *TypeSpec
	Body   *Block
}

// SubprogParam is one parameter of a Subprog.
type SubprogParam struct {
	Base
	Name string // with $
	Type *TypeSpec
}

func (*Probe) item()   {}
func (*MapDecl) item() {}
func (*Config) item()  {}
func (*Import) item()  {}
func (*Macro) item()   {}
func (*CDef) item()    {}
func (*Subprog) item() {}

// Stmt is a statement.
type Stmt interface {
	Node
	stmt()
}

// Block is `{ ... }`. Result is the last expression without semicolon, which makes it usable as an expression; the parser also
// leaves a bare last expression here when the block is a probe body.
type Block struct {
	Base
	Stmts  []Stmt
	Result Expr // nil when the block ends with a statement
}

// ExprStmt is an expression used for its effect.
type ExprStmt struct {
	Base
	X Expr
}

// Assign is `target op= value`; Op is "=" or the binary operator of a compound assignment ("+", "<<", ...). Target is *Var,
// *MapRef, *Index (of a map), or *Discard. Let is set for `let $x = ...`.
type Assign struct {
	Base
	Target Expr
	Op     string
	OpSp   source.Span
	Value  Expr
	Let    bool
	Type   *TypeSpec // `let $x : type = ...`, else nil
}

// Let is a declaration without a value: `let $x;` or `let $x : uint64;`.
type Let struct {
	Base
	Var  *Var
	Type *TypeSpec // nil when absent
}

// If is if/else. Else is nil, *Block, or *If wrapped in a one-statement Block by the parser for `else if`.
type If struct {
	Base
	Cond Expr
	Then *Block
	Else *Block
	// ElseIf is set when Else came from `else if`, so that the formatter can print it back.
	ElseIf bool
	// Comptime marks `if comptime (...)`.
	Comptime bool
}

// While is a while loop.
type While struct {
	Base
	Cond Expr
	Body *Block
}

// Unroll is `unroll (n) { ... }`.
type Unroll struct {
	Base
	Count Expr
	Body  *Block
}

// ForMap is `for ($kv : @map) { ... }`.
type ForMap struct {
	Base
	Var  *Var
	Map  *MapRef
	Body *Block
}

// ForRange is `for ($i : a..b) { ... }`.
type ForRange struct {
	Base
	Var    *Var
	Lo, Hi Expr
	Body   *Block
}

// Jump is break, continue or return; Value only for return.
type Jump struct {
	Base
	Kind  JumpKind
	Value Expr
}

// JumpKind is the kind of a Jump.
type JumpKind uint8

// Kinds of jumps.
const (
	Break JumpKind = iota
	Continue
	Return
)

func (*Block) stmt()    {}
func (*ExprStmt) stmt() {}
func (*Assign) stmt()   {}
func (*Let) stmt()      {}
func (*If) stmt()       {}
func (*While) stmt()    {}
func (*Unroll) stmt()   {}
func (*ForMap) stmt()   {}
func (*ForRange) stmt() {}
func (*Jump) stmt()     {}
func (*Import) stmt()   {}

// Expr is an expression.
type Expr interface {
	Node
	expr()
}

// IntLit is an integer literal. Text is as written (for the formatter): 0x10, 1_000, 1e6, 5ms, 'no char literals'.
type IntLit struct {
	Base
	Value uint64
	// Neg marks a literal folded from unary minus; then the value is -int64(Value).
	Neg      bool
	Text     string
	Suffix   string // C suffix (u, l, ul, ll, ull) in lower case, or ""
	Duration bool   // written with a duration suffix
	Overflow bool   // the text does not fit 64 bits; the checker reports it
}

// StrLit is a string literal; Value has escapes resolved. Bad escapes are reported by the lexer.
type StrLit struct {
	Base
	Value string
	Text  string // as written with quotes
}

// BoolLit is true or false.
type BoolLit struct {
	Base
	Value bool
}

// Ident is a bare name: a builtin variable, an enumerator, a #define, a macro call without parentheses, or a macro's expression parameter.
type Ident struct {
	Base
	Name string
}

// Var is a scratch variable; Name has its $.
type Var struct {
	Base
	Name string
}

// MapRef is a map by name; Name has its @ ("@" for the anonymous one).
type MapRef struct {
	Base
	Name string
}

// Positional is $1, $2 ...; N is 0 for $#.
type Positional struct {
	Base
	N int
}

// Unary is -x !x ~x *x ++x --x x++ x-- &x.
type Unary struct {
	Base
	Op      string // "-", "!", "~", "*", "++", "--", "&", "+"
	OpSp    source.Span
	X       Expr
	Postfix bool
}

// Binary is x op y.
type Binary struct {
	Base
	Op   string
	OpSp source.Span
	X, Y Expr
}

// Ternary is c ? x : y. X is nil in the short form `c ?: y`.
type Ternary struct {
	Base
	Cond, X, Y Expr
}

// Call is f(args). Arguments may be *TypeArg.
type Call struct {
	Base
	Func   string
	FuncSp source.Span
	Args   []Expr
}

// Field is x.name or x->name.
type Field struct {
	Base
	X      Expr
	Name   string
	NameSp source.Span
	Arrow  bool
}

// TupleField is x.0.
type TupleField struct {
	Base
	X     Expr
	Index int
}

// Index is x[i] or, for maps, @m[k1, k2]; Keys has more than one element only for maps.
type Index struct {
	Base
	X    Expr
	Keys []Expr
}

// Cast is (type)x.
type Cast struct {
	Base
	Type *TypeSpec
	X    Expr
}

// Sizeof is sizeof(type) or sizeof(expr); exactly one of Type and X is set.
type Sizeof struct {
	Base
	Type *TypeSpec
	X    Expr
}

// Offsetof is offsetof(type-or-expr, a.b.c); exactly one of Type and X is set.
type Offsetof struct {
	Base
	Type   *TypeSpec
	X      Expr
	Fields []string
}

// Typeinfo is typeinfo(type-or-expr).
type Typeinfo struct {
	Base
	Type *TypeSpec
	X    Expr
}

// Tuple is (a, b), (a,) or ().
type Tuple struct {
	Base
	Elems []Expr
}

// Record is (a=1, b="x").
type Record struct {
	Base
	Names  []string
	Values []Expr
}

// BlockExpr is a block used as an expression.
type BlockExpr struct {
	Base
	Block *Block
}

// IfExpr is an if used as an expression: if (c) { x } else { y }.
type IfExpr struct {
	Base
	If *If
}

// Comptime is `comptime expr`: must be known while compiling.
type Comptime struct {
	Base
	X Expr
}

// TypeArg is a type given as an argument of a call (typeof(x), struct foo, uint8).
type TypeArg struct {
	Base
	Type *TypeSpec
}

// Discard is `_`.
type Discard struct{ Base }

// Paren keeps parentheses of the source, so that the formatter prints what was written.
type Paren struct {
	Base
	X Expr
}

// Bad stands for an expression that did not parse; an error was reported.
type Bad struct{ Base }

func (*IntLit) expr()     {}
func (*StrLit) expr()     {}
func (*BoolLit) expr()    {}
func (*Ident) expr()      {}
func (*Var) expr()        {}
func (*MapRef) expr()     {}
func (*Positional) expr() {}
func (*Unary) expr()      {}
func (*Binary) expr()     {}
func (*Ternary) expr()    {}
func (*Call) expr()       {}
func (*Field) expr()      {}
func (*TupleField) expr() {}
func (*Index) expr()      {}
func (*Cast) expr()       {}
func (*Sizeof) expr()     {}
func (*Offsetof) expr()   {}
func (*Typeinfo) expr()   {}
func (*Tuple) expr()      {}
func (*Record) expr()     {}
func (*BlockExpr) expr()  {}
func (*IfExpr) expr()     {}
func (*Comptime) expr()   {}
func (*TypeArg) expr()    {}
func (*Discard) expr()    {}
func (*Paren) expr()      {}
func (*Bad) expr()        {}

// TypeSpec is a type as written: a base name, then pointers and array lengths in writing order (postfix syntax: int32*[4]*).
type TypeSpec struct {
	Base
	Tag        string    // "struct", "union", "enum" or ""
	Name       string    // "uint64", "task_struct", "string", "unsigned long" (words joined by one space)
	Typeof     Expr      // typeof(expr) as the base; then Tag and Name are empty
	TypeofType *TypeSpec // typeof(type)
	Suffix     []TypeSuffix
	// Elems is set for a tuple type (int64, string[16]); FieldNames too for a record type.
	Elems      []*TypeSpec
	FieldNames []string
}

// TypeSuffix is one `*` or `[n]`.
type TypeSuffix struct {
	Pointer bool
	Len     Expr // nil for `[]` and for pointers
}
