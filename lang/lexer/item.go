package lexer

import "strings"

// script scans all items of a file.
func (s *scanner) script() {
	s.skipLayout()
	if strings.HasPrefix(s.src[s.pos:], "#!") {
		start := s.pos
		s.pos = s.lineEnd(s.pos)
		s.res.Shebang = strings.TrimRight(s.src[start:s.pos], "\r")
	}
	for s.skipLayout(); s.pos < len(s.src); s.skipLayout() {
		s.begin()
		s.topLevel()
		s.end()
	}
}

// topLevel scans one item.
func (s *scanner) topLevel() {
	start := s.pos
	if s.src[s.pos] == '#' {
		s.directive()
		return
	}
	end := s.wordEnd(s.pos)
	next := s.layoutEnd(end)
	switch s.src[start:end] {
	case "struct", "union", "enum":
		if s.isCDefinition(next) {
			s.cDefinition()
			return
		}
	case "typedef":
		if next > end && next < len(s.src) && isWordStart(s.src[next]) {
			s.cDefinition()
			return
		}
	case "config":
		if s.at(next) == '=' {
			s.keyword(end)
			s.declaration('}')
			return
		}
	case "import":
		if s.at(next) == '"' {
			s.keyword(end)
			s.skipLayout()
			s.codeToken()
			s.optionalSemi()
			return
		}
	case "let":
		s.keyword(end)
		s.declaration(')')
		return
	case "macro", "fn":
		if next > end && isWordStart(s.at(next)) {
			isMacro := s.src[start:end] == "macro"
			s.keyword(end)
			s.header(isMacro)
			return
		}
	}
	s.probe()
}

func (s *scanner) keyword(end int) {
	start := s.pos
	s.pos = end
	s.emit(Keyword, start)
}

// declaration scans tokens up to the closing mark of the outermost level; after a `)` an optional `;` belongs to it as well.
func (s *scanner) declaration(last byte) {
	for s.skipLayout(); s.pos < len(s.src); s.skipLayout() {
		if s.resumes() {
			return
		}
		c := s.src[s.pos]
		s.codeToken()
		if len(s.open) > 0 {
			continue
		}
		if c == ';' || c == '}' && last == '}' {
			return
		}
		if c == last {
			s.optionalSemi()
			return
		}
	}
	s.item.Unfinished = true
}

// optionalSemi scans a `;` when it comes next.
func (s *scanner) optionalSemi() {
	if s.at(s.layoutEnd(s.pos)) == ';' {
		s.skipLayout()
		s.codeToken()
	}
}

// header scans `macro name(...)` or `fn name(...) : type` and the body.
func (s *scanner) header(isMacro bool) {
	first := len(s.res.Tokens)
	for s.skipLayout(); s.pos < len(s.src); s.skipLayout() {
		if s.resumes() {
			return
		}
		if s.src[s.pos] == '{' {
			if isMacro {
				for _, t := range s.res.Tokens[min(first+1, len(s.res.Tokens)):] {
					if t.Kind == Ident {
						if s.params == nil {
							s.params = map[string]bool{}
						}
						s.params[t.Text] = true
					}
				}
			}
			s.body()
			return
		}
		s.codeToken()
	}
	s.item.Unfinished = true
}

// probe scans attach points, predicate and body.
func (s *scanner) probe() {
	for s.skipLayout(); s.pos < len(s.src); s.skipLayout() {
		start := s.pos
		switch s.src[s.pos] {
		case ',':
			s.pos++
			s.emit(Op, start)
		case '{':
			s.body()
			return
		case '}', ';':
			s.pos++
			s.emit(Op, start)
			return
		case '/':
			s.pos++
			s.emit(PredOpen, start)
			s.predicate()
			if s.item.Resumed.IsValid() {
				return
			}
		default:
			if n := len(s.res.Tokens); n > s.item.First && s.res.Tokens[n-1].Text != "," && s.resumes() {
				return
			}
			s.attachPoint()
		}
	}
	s.item.Unfinished = true
}

// attachPoint scans one attach point: everything up to a blank, a comma or a brace. A slash ends it too, unless a colon came
// before, because then it belongs to a path.
func (s *scanner) attachPoint() {
	start, colon := s.pos, false
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case c == '{' || c == ',' || c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v',
			c == '}' && s.pos > start,
			c == '/' && !colon && s.pos > start:
			s.emit(AttachPoint, start)
			return
		case c == ':':
			colon = true
			s.pos++
		case c == '"':
			if !s.quotedSegment() {
				s.emit(AttachPoint, start)
				return
			}
		default:
			s.pos++
		}
	}
	s.emit(AttachPoint, start)
}

// quotedSegment passes over a quoted part of an attach point; false when the quote is not closed on its line.
func (s *scanner) quotedSegment() bool {
	start := s.pos
	for s.pos++; s.pos < len(s.src) && s.src[s.pos] != '\n'; s.pos++ {
		switch s.src[s.pos] {
		case '"':
			s.pos++
			return true
		case '\\':
			if s.at(s.pos+1) != '\n' {
				s.pos++
			}
		}
	}
	s.item.Broken = true
	s.pos = min(s.pos, len(s.src))
	s.errorf("E0104", start, s.pos, "quote in the attach point is not closed").Hint("end it with `\"` on the same line")
	return false
}

// predicate scans up to the slash that closes the predicate: one that is followed by a brace.
func (s *scanner) predicate() {
	depth := len(s.open)
	conditional := false // an `if` expression may put a brace after an operand
	for s.skipLayout(); s.pos < len(s.src); s.skipLayout() {
		start, c := s.pos, s.src[s.pos]
		if len(s.open) == depth {
			if c == '/' && s.at(s.layoutEnd(s.pos+1)) == '{' {
				s.pos++
				s.emit(PredClose, start)
				return
			}
			if c == '{' && !conditional && s.afterOperand() {
				return // the closing slash is missing; the parser says so
			}
			if c == '}' || s.resumes() {
				return
			}
		}
		s.codeToken()
		if t := s.res.Tokens[len(s.res.Tokens)-1]; t.Kind == Keyword && (t.Text == "if" || t.Text == "else") {
			conditional = true
		}
	}
	s.item.Unfinished = true
}

// afterOperand reports whether the last token can end an expression.
func (s *scanner) afterOperand() bool {
	t := s.res.Tokens[len(s.res.Tokens)-1]
	switch t.Kind {
	case Ident, Const, Int, String, Var, Map, Param:
		return true
	case Keyword:
		return t.Text == "true" || t.Text == "false"
	default:
		return t.Text == ")" || t.Text == "]" || t.Text == "++" || t.Text == "--"
	}
}

// body scans from an opening brace to the one that closes it.
func (s *scanner) body() {
	s.codeToken()
	for s.skipLayout(); s.pos < len(s.src); s.skipLayout() {
		if s.resumes() {
			return
		}
		s.codeToken()
		if s.blocks == 0 {
			return
		}
	}
	s.item.Unfinished = true
}

// resumes reports whether the next line is plainly the start of another probe, although the item is not at its end. It looks
// only at lines that begin in column 1, and so finds the place where a closing brace was forgotten.
func (s *scanner) resumes() bool {
	if !s.lineHead || len(s.res.Tokens) == s.item.First {
		return false
	}
	end := s.wordEnd(s.pos)
	if end == s.pos {
		return false
	}
	word, next := s.src[s.pos:end], s.layoutEnd(end)
	switch {
	case isProbeWord(word):
		if s.at(end) != ':' || s.at(end+1) == ' ' {
			return false
		}
	case word == "BEGIN" || word == "END" || word == "begin" || word == "end":
		if c := s.at(next); c != '{' && c != '/' && c != ',' {
			return false
		}
	default:
		return false
	}
	s.item.Resumed = s.span(s.pos, end)
	return true
}

func isProbeWord(word string) bool {
	switch word {
	case "kprobe", "kretprobe", "uprobe", "uretprobe", "usdt", "tracepoint", "rawtracepoint", "fentry", "fexit", "kfunc",
		"kretfunc", "profile", "interval", "software", "hardware", "watchpoint", "asyncwatchpoint", "iter", "self", "test", "bench":
		return true
	}
	return false
}
