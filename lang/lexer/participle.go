package lexer

import (
	"io"

	plexer "github.com/alecthomas/participle/v2/lexer"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
)

// Definition makes the scanner a participle lexer definition. Positions carry only Offset, which is the offset in the
// source.Set, so that spans can be made from tokens alone.
type Definition struct{}

// Symbols names the token types; a type is the numeric value of our Kind.
func (Definition) Symbols() map[string]plexer.TokenType {
	return map[string]plexer.TokenType{
		"EOF": plexer.EOF, "Ident": Type(Ident), "Const": Type(Const), "Keyword": Type(Keyword), "Int": Type(Int),
		"String": Type(String), "Var": Type(Var), "Map": Type(Map), "Param": Type(Param), "Assign": Type(Assign),
		"Op": Type(Op), "AttachPoint": Type(AttachPoint), "PredOpen": Type(PredOpen), "PredClose": Type(PredClose),
		"CText": Type(CText), "Directive": Type(Directive),
	}
}

// Type converts a Kind to participle's token type.
func Type(k Kind) plexer.TokenType { return plexer.TokenType(k) }

// Lex reads all of r and scans it as a file of its own. Lexical faults are returned as the first error.
func (Definition) Lex(name string, r io.Reader) (plexer.Lexer, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	_, f := source.NewSet(name, string(text))
	var diags diag.List
	res := Lex(f, &diags)
	if err := diags.Err(); err != nil {
		return nil, err
	}
	return &Stream{tokens: res.Tokens, end: len(text) + 1}, nil
}

// Stream feeds a run of tokens to participle.
type Stream struct {
	tokens []Token
	next   int
	end    int // offset of the end-of-input token
}

// NewStream returns a stream over tokens; end is the offset reported for the end of input.
func NewStream(tokens []Token, end int32) *Stream { return &Stream{tokens: tokens, end: int(end)} }

// Next returns the next token, the end-of-input token after the last one. It never fails.
func (s *Stream) Next() (plexer.Token, error) {
	if s.next >= len(s.tokens) {
		return plexer.EOFToken(plexer.Position{Offset: s.end}), nil
	}
	t := &s.tokens[s.next]
	s.next++
	return plexer.Token{Type: Type(t.Kind), Value: t.Text, Pos: plexer.Position{Offset: int(t.Span.Start)}}, nil
}
