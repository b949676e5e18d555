package lexer

import (
	"strings"
	"unicode/utf8"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
)

// Nesting limits. They keep recursion in the parser bounded; real scripts stay below 10, generated ones have chains of `else if`.
const (
	MaxBlocks   = 1000 // nested { }
	MaxBrackets = 1000 // nested ( ) and [ ]

	maxCNesting     = 200  // nested { } and ( ) of a C definition, whose parser is not ours
	maxDefineParens = 2000 // parentheses in a preprocessor line
)

// Lex scans a whole file. Faults go to diags; the result is always usable.
func Lex(f *source.File, diags *diag.List) *Result {
	s := &scanner{f: f, src: f.Text, diags: diags, res: &Result{}}
	s.res.Tokens = make([]Token, 0, len(f.Text)/5+8)
	s.script()
	return s.res
}

// LexExpr scans text that holds statements or an expression only, without attach points around them; all of it is one item.
func LexExpr(f *source.File, diags *diag.List) *Result {
	s := &scanner{f: f, src: f.Text, diags: diags, res: &Result{}}
	s.begin()
	for s.skipLayout(); s.pos < len(s.src); s.skipLayout() {
		s.codeToken()
	}
	s.end()
	return s.res
}

type scanner struct {
	f     *source.File
	src   string
	pos   int
	diags *diag.List
	res   *Result

	item     Item
	open     []int           // offsets of the brackets that are open
	blocks   int             // how many of them are {
	consts   map[string]bool // names the script defined as values
	params   map[string]bool // parameters of the macro being scanned
	lineHead bool            // the layout just skipped ended a line, and the next byte is in column 1
}

func (s *scanner) at(i int) byte {
	if i < len(s.src) {
		return s.src[i]
	}
	return 0
}

func (s *scanner) span(start, end int) source.Span { return s.f.Span(start, end) }

func (s *scanner) errorf(code diag.Code, start, end int, format string, args ...any) *diag.Diagnostic {
	return s.diags.Errorf(code, s.span(start, end), format, args...)
}

// emit appends the token [start, s.pos).
func (s *scanner) emit(k Kind, start int) {
	s.res.Tokens = append(s.res.Tokens, Token{Kind: k, Span: s.span(start, s.pos), Text: s.src[start:s.pos]})
}

func (s *scanner) begin() {
	s.item = Item{First: len(s.res.Tokens)}
	s.open, s.blocks, s.params = s.open[:0], 0, nil
}

func (s *scanner) end() {
	s.item.Last = len(s.res.Tokens)
	if n := len(s.open); n > 0 {
		s.item.Open = s.span(s.open[n-1], s.open[n-1]+1)
		s.item.Unfinished = s.pos >= len(s.src)
	}
	if s.item.Unfinished {
		s.res.Unfinished = true
	}
	s.res.Items = append(s.res.Items, s.item)
}

// skipLayout passes over blanks and comments.
func (s *scanner) skipLayout() {
	s.lineHead = s.pos == 0
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case c == '\n':
			s.pos++
			s.lineHead = true
		case c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v':
			s.pos++
			s.lineHead = false
		case c == '/' && s.at(s.pos+1) == '/':
			start := s.pos
			s.pos = s.lineEnd(s.pos)
			s.comment(start, strings.TrimRight(s.src[start:s.pos], " \t\r"))
		case c == '/' && s.at(s.pos+1) == '*':
			start := s.pos
			if n := strings.Index(s.src[s.pos+2:], "*/"); n >= 0 {
				s.pos += n + 4
			} else {
				s.pos = len(s.src)
				s.res.Unfinished = true
				s.errorf("E0106", start, start+2, "comment is not closed").Hint("end it with `*/`")
			}
			s.comment(start, s.src[start:s.pos])
			s.lineHead = false
		default:
			return
		}
	}
}

func (s *scanner) comment(start int, text string) {
	s.res.Comments = append(s.res.Comments, Comment{Span: s.span(start, start+len(text)), Text: text})
}

func (s *scanner) lineEnd(i int) int {
	if n := strings.IndexByte(s.src[i:], '\n'); n >= 0 {
		return i + n
	}
	return len(s.src)
}

// layoutEnd returns the offset of the first byte at or after i that is neither blank nor comment.
func (s *scanner) layoutEnd(i int) int {
	for i < len(s.src) {
		switch c := s.src[i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v':
			i++
		case c == '/' && s.at(i+1) == '/':
			i = s.lineEnd(i)
		case c == '/' && s.at(i+1) == '*':
			n := strings.Index(s.src[i+2:], "*/")
			if n < 0 {
				return len(s.src)
			}
			i += n + 4
		default:
			return i
		}
	}
	return i
}

func isWordStart(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool     { return c >= '0' && c <= '9' }
func isWord(c byte) bool      { return isWordStart(c) || isDigit(c) }

func (s *scanner) wordEnd(i int) int {
	for i < len(s.src) && isWord(s.src[i]) {
		i++
	}
	return i
}

// codeToken scans one token of a body, a predicate or a declaration. The caller has skipped layout.
func (s *scanner) codeToken() {
	start, c := s.pos, s.src[s.pos]
	switch {
	case isWordStart(c):
		s.pos = s.wordEnd(s.pos)
		word := s.src[start:s.pos]
		switch {
		case isKeyword(word) && !s.afterDot():
			s.emit(Keyword, start)
		case s.consts[word] || s.params[word]:
			s.emit(Const, start)
		default:
			s.emit(Ident, start)
		}
	case isDigit(c):
		s.number()
	case c == '"':
		s.str()
	case c == '$':
		s.dollar()
	case c == '@':
		s.pos = s.pos + 1
		if isWordStart(s.at(s.pos)) {
			s.pos = s.wordEnd(s.pos)
		}
		s.emit(Map, start)
	case c == '\'':
		s.singleQuoted()
	default:
		n, assign := operator(s.src[s.pos:])
		if n == 0 {
			s.badChar()
			return
		}
		s.pos += n
		if assign {
			s.emit(Assign, start)
			return
		}
		s.bracket(c, start)
		s.emit(Op, start)
	}
}

// afterDot reports whether the last token selects a field, after which a reserved word is only a name.
func (s *scanner) afterDot() bool {
	n := len(s.res.Tokens)
	if n <= s.item.First {
		return false
	}
	t := s.res.Tokens[n-1].Text
	return t == "." || t == "->"
}

// bracket keeps the stack of open brackets and enforces the nesting limits.
func (s *scanner) bracket(c byte, at int) {
	switch c {
	case '{', '(', '[':
		s.open = append(s.open, at)
		if c == '{' {
			s.blocks++
		}
		if s.item.Broken {
			return
		}
		if s.blocks > MaxBlocks {
			s.item.Broken = true
			s.errorf("E0107", at, at+1, "blocks are nested deeper than %d levels", MaxBlocks)
		} else if len(s.open)-s.blocks > MaxBrackets {
			s.item.Broken = true
			s.errorf("E0107", at, at+1, "expression is nested deeper than %d levels", MaxBrackets)
		}
	case '}':
		// A closing brace also closes parentheses that were forgotten; the parser reports those.
		for n := len(s.open); n > 0; n = len(s.open) {
			top := s.src[s.open[n-1]]
			if top != '{' && s.blocks == 0 {
				return
			}
			s.open = s.open[:n-1]
			if top == '{' {
				s.blocks--
				return
			}
		}
	case ')', ']':
		want := byte('(')
		if c == ']' {
			want = '['
		}
		if n := len(s.open); n > 0 && s.src[s.open[n-1]] == want {
			s.open = s.open[:n-1]
		}
	}
}

// operator returns the length of the operator at the start of text, 0 when there is none.
func operator(text string) (n int, assign bool) {
	at := func(i int) byte {
		if i < len(text) {
			return text[i]
		}
		return 0
	}
	c, d := text[0], at(1)
	switch c {
	case '<', '>':
		switch {
		case d == c && at(2) == '=':
			return 3, true
		case d == c || d == '=':
			return 2, false
		}
		return 1, false
	case '=':
		if d == '=' {
			return 2, false
		}
		return 1, true
	case '!':
		if d == '=' {
			return 2, false
		}
		return 1, false
	case '+', '-', '&', '|':
		if d == c || c == '-' && d == '>' {
			return 2, false
		}
		if d == '=' {
			return 2, true
		}
		return 1, false
	case '*', '/', '%', '^':
		if d == '=' {
			return 2, true
		}
		return 1, false
	case '.':
		if d == '.' {
			return 2, false
		}
		return 1, false
	case '~', '?', ':', ';', ',', '(', ')', '[', ']', '{', '}':
		return 1, false
	}
	return 0, false
}

func (s *scanner) dollar() {
	start := s.pos
	s.pos++
	switch c := s.at(s.pos); {
	case c == '#':
		s.pos++
		s.emit(Param, start)
	case isDigit(c):
		for isDigit(s.at(s.pos)) {
			s.pos++
		}
		s.emit(Param, start)
	case isWordStart(c):
		s.pos = s.wordEnd(s.pos)
		s.emit(Var, start)
	default:
		s.errorf("E0103", start, s.pos, "syntax: expected identifier after '$'").
			Hint("write a scratch variable as `$name` and a positional parameter as `$1`")
		s.item.Broken = true
	}
}

func (s *scanner) badChar() {
	r, n := utf8.DecodeRuneInString(s.src[s.pos:])
	start := s.pos
	s.pos += n
	s.item.Broken = true
	switch {
	case r == '#':
		s.errorf("E0103", start, s.lineEnd(start), "preprocessor line inside a body").
			Hint("move it to the top of the script")
		s.pos = s.lineEnd(start)
	case r == utf8.RuneError && n == 1:
		s.errorf("E0103", start, s.pos, "byte 0x%02x is not valid UTF-8", s.src[start])
	case r == '“' || r == '”' || r == '‘' || r == '’':
		s.errorf("E0103", start, s.pos, "typographic quote %c", r).Hint("use plain double quotes `\"`")
	case r < ' ':
		s.errorf("E0103", start, s.pos, "control character 0x%02x", r)
	default:
		s.errorf("E0103", start, s.pos, "unexpected character `%c`", r)
	}
}
