package syntax

import (
	"sync"

	"github.com/alecthomas/participle/v2"
	plexer "github.com/alecthomas/participle/v2/lexer"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/lexer"
)

// The grammar. The first token of an alternative always decides (look-ahead 0), so errors stay where they happen. It accepts
// slightly too much (missing semicolons, stray commas); convert.go rejects that with better messages than a grammar can give.

type token = plexer.Token

// gDecl is everything at the top level but probes and C text.
type gDecl struct {
	Config  *gConfig  `parser:"  @@"`
	Import  *gImport  `parser:"| @@"`
	Macro   *gMacro   `parser:"| @@"`
	Subprog *gSubprog `parser:"| @@"`
	MapDecl *gMapDecl `parser:"| @@"`
}

type gConfig struct {
	Start    token       `parser:"@'config'"`
	Settings []*gSetting `parser:"'=' '{' ';'* @@*"`
	Close    token       `parser:"@'}'"`
}

type gSetting struct {
	Name  token  `parser:"@( Ident | Const | Keyword )"`
	Value token  `parser:"'=' @( Ident | Const | Int | String | 'true' | 'false' )"`
	Semi  *token `parser:"( @';' ';'* )?"`
}

type gImport struct {
	Start token  `parser:"@'import'"`
	Path  token  `parser:"@String"`
	Semi  *token `parser:"@';'?"`
}

type gMacro struct {
	Start  token    `parser:"@'macro'"`
	Name   token    `parser:"@( Ident | Const )"`
	Params []*gName `parser:"'(' ( @@ ( ',' @@ )* )?"`
	Close  token    `parser:"@')'"`
	Body   *gBlock  `parser:"@@"`
}

type gName struct {
	Token token `parser:"@( Ident | Const | Var | Map )"`
}

type gSubprog struct {
	Start  token     `parser:"@'fn'"`
	Name   token     `parser:"@( Ident | Const )"`
	Params []*gParam `parser:"'(' ( @@ ( ',' @@ )* )?"`
	Result typeRef   `parser:"')' ':' @@"`
	Body   *gBlock   `parser:"@@"`
}

type gParam struct {
	Name token   `parser:"@Var"`
	Type typeRef `parser:"':' @@"`
}

type gMapDecl struct {
	Start token     `parser:"@'let'"`
	Name  token     `parser:"@Map"`
	Kind  token     `parser:"'=' @( Ident | Const )"`
	Args  []exprRef `parser:"'(' ( @@ ( ',' @@ )* )?"`
	Close token     `parser:"@')'"`
	Semi  *token    `parser:"@';'?"`
}

type gProbe struct {
	Attach []*gAttach `parser:"@@+"`
	Pred   exprRef    `parser:"( PredOpen @@ PredClose )?"`
	Body   *gBlock    `parser:"@@"`
}

// gAttach is an attach point or a comma. (Tokens captured into a slice of tokens would overwrite each other.)
type gAttach struct {
	Token token `parser:"@( AttachPoint | ',' )"`
}

type gBlock struct {
	Open  token    `parser:"@'{'"`
	Stmts []*gStmt `parser:"@@*"`
	Close token    `parser:"@'}'"`
}

type gStmt struct {
	Tokens []token  // of the statement; for messages
	Let    *gLet    `parser:"  @@"`
	Loop   *gLoop   `parser:"| @@"`
	For    *gFor    `parser:"| @@"`
	Jump   *gJump   `parser:"| @@"`
	Import *gImport `parser:"| @@"`
	Simple *gSimple `parser:"| @@"`
}

type gLet struct {
	Start token   `parser:"@'let'"`
	Name  token   `parser:"@Var"`
	Type  typeRef `parser:"( ':' @@ )?"`
	Op    *token  `parser:"( @'='"`
	Value exprRef `parser:"  @@ )?"`
	Semi  *token  `parser:"@';'?"`
}

type gLoop struct {
	Start token   `parser:"@( 'while' | 'unroll' )"`
	Cond  condRef `parser:"@@"`
	Body  *gBlock `parser:"@@"`
	Semi  *token  `parser:"@';'?"`
}

type gFor struct {
	Start token      `parser:"@'for'"`
	Open  *token     `parser:"@'('?"`
	Var   token      `parser:"@Var"`
	Lo    operandRef `parser:"':' @@"`
	Hi    operandRef `parser:"( '..' @@ )?"`
	Close *token     `parser:"@')'?"`
	Body  *gBlock    `parser:"@@"`
	Semi  *token     `parser:"@';'?"`
}

type gJump struct {
	Simple *token   `parser:"( @( 'break' | 'continue' )"`
	Return *token   `parser:"| @'return'"`
	Value  valueRef `parser:"  @@? )"`
	Semi   *token   `parser:"@';'?"`
}

type gSimple struct {
	X     stmtRef `parser:"@@"`
	Op    *token  `parser:"( @Assign"`
	Value exprRef `parser:"  @@ )?"`
	Semi  *token  `parser:"@';'?"`
}

// The productions that are parsed by hand. The different types only tell participle which function to call.
type (
	exprRef    interface{ ast.Expr } // an expression that must be there
	valueRef   interface{ ast.Expr } // an expression that may be missing
	stmtRef    interface{ ast.Expr } // an expression in the place of a statement
	condRef    interface{ ast.Expr } // the condition of a loop, in parentheses or an operand
	operandRef interface{ ast.Expr } // a unary expression
	typeRef    interface{ ast.Node } // a type: always *ast.TypeSpec
)

type grammar struct {
	probe *participle.Parser[gProbe]
	block *participle.Parser[gBlock]
}

// theGrammar builds the parser of probes at the first use: it costs a good part of a millisecond, which `sonde --version`
// should not pay.
var theGrammar = sync.OnceValue(buildGrammar)

// theDeclarations is the parser of the other items, which one-liners do not have. It is apart for the same reason.
var theDeclarations = sync.OnceValue(func() *participle.Parser[gDecl] { return mustBuild[gDecl](theGrammar()) })

func buildGrammar() *grammar {
	g := &grammar{}
	g.probe = mustBuild[gProbe](g)
	var err error
	if g.block, err = participle.ParserForProduction[gBlock](g.probe); err != nil {
		panic("syntax: the grammar does not build: " + err.Error())
	}
	return g
}

// mustBuild builds the parser of one production. A failure is a mistake in the tags above, which every test finds.
func mustBuild[T any](g *grammar) *participle.Parser[T] {
	p, err := participle.Build[T](
		participle.Lexer(lexer.Definition{}),
		participle.UseLookahead(0),
		participle.ParseTypeWith(func(lex *plexer.PeekingLexer) (exprRef, error) {
			return g.parser(lex).run((*parser).expr)
		}),
		participle.ParseTypeWith(func(lex *plexer.PeekingLexer) (valueRef, error) {
			if !startsOperand(lex.Peek()) {
				return nil, participle.NextMatch
			}
			return g.parser(lex).run((*parser).expr)
		}),
		participle.ParseTypeWith(func(lex *plexer.PeekingLexer) (stmtRef, error) {
			if !startsOperand(lex.Peek()) {
				return nil, participle.NextMatch
			}
			return g.parser(lex).run((*parser).statementExpr)
		}),
		participle.ParseTypeWith(func(lex *plexer.PeekingLexer) (condRef, error) {
			return g.parser(lex).run((*parser).condition)
		}),
		participle.ParseTypeWith(func(lex *plexer.PeekingLexer) (operandRef, error) {
			return g.parser(lex).run((*parser).unary)
		}),
		participle.ParseTypeWith(func(lex *plexer.PeekingLexer) (t typeRef, err error) {
			p := g.parser(lex)
			defer p.rescue(&err)
			return p.typeSpec(), nil
		}),
	)
	if err != nil {
		panic("syntax: the grammar does not build: " + err.Error())
	}
	return p
}
