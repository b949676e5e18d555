package lexer

import "strings"

// directive scans a preprocessor line with its continuation lines.
func (s *scanner) directive() {
	start := s.pos
	for {
		s.pos = s.lineEnd(s.pos)
		line := strings.TrimRight(s.src[start:s.pos], " \t\r")
		if !strings.HasSuffix(line, `\`) || s.pos >= len(s.src) {
			s.item.Unfinished = s.pos >= len(s.src) && strings.HasSuffix(line, `\`)
			break
		}
		s.pos++
	}
	end := start + len(strings.TrimRight(s.src[start:s.pos], " \t\r"))
	s.pos, end = end, s.pos
	s.emit(Directive, start)
	if strings.Count(s.src[start:s.pos], "(") > maxDefineParens {
		s.item.Broken = true
		s.errorf("E0107", start, s.pos, "preprocessor line has more than %d parentheses", maxDefineParens)
	}
	s.noteDefine(s.src[start:s.pos])
	s.pos = end
}

// noteDefine remembers an object-like macro whose text is a value, so that `(NAME) - 1` is not taken for a cast.
func (s *scanner) noteDefine(line string) {
	line = strings.ReplaceAll(line, "\\\n", " ")
	f := strings.Fields(strings.TrimSpace(strings.TrimPrefix(line, "#")))
	if len(f) < 3 || f[0] != "define" || strings.ContainsRune(f[1], '(') {
		return
	}
	switch c := f[2][0]; {
	case isDigit(c), c == '"', c == '(', c == '-', c == '~', s.consts[f[2]]:
		s.noteConst(f[1])
	}
}

func (s *scanner) noteConst(name string) {
	if s.consts == nil {
		s.consts = map[string]bool{}
	}
	s.consts[name] = true
}

// isCDefinition tells a C definition from an attach point: names, attributes and a brace, or `struct name;`. i is the offset
// behind the keyword.
func (s *scanner) isCDefinition(i int) bool {
	words := 0
	for i < len(s.src) {
		switch c := s.src[i]; {
		case c == '{':
			return true
		case c == ';':
			return words == 1
		case isWordStart(c):
			i = s.wordEnd(i)
			words++
		case c == '(':
			if i = s.parensEnd(i); i < 0 {
				return false
			}
		case c == ':' && words > 0 && s.src[s.pos] == 'e':
			i++ // enum name : type {
		default:
			return false
		}
		i = s.layoutEnd(i)
	}
	return false
}

// parensEnd returns the offset behind the parenthesis that closes the one at i, -1 when there is none.
func (s *scanner) parensEnd(i int) int {
	for depth := 0; i < len(s.src); i++ {
		switch s.src[i] {
		case '(':
			depth++
		case ')':
			depth--
		}
		if depth == 0 {
			if s.src[i] == ')' {
				return i + 1
			}
			return -1
		}
	}
	return -1
}

// cDefinition scans a struct, union, enum or typedef as one token, through its optional `;`.
func (s *scanner) cDefinition() {
	start := s.pos
	isTypedef := strings.HasPrefix(s.src[start:], "typedef")
	depth, end := 0, -1
	for s.pos < len(s.src) && end < 0 {
		switch c := s.src[s.pos]; {
		case c == '/' && (s.at(s.pos+1) == '/' || s.at(s.pos+1) == '*'):
			s.pos = s.layoutEnd(s.pos) // not skipLayout: the comment belongs to the C text
			continue
		case c == '"':
			s.pos++
			for s.pos < len(s.src) && s.src[s.pos] != '"' && s.src[s.pos] != '\n' {
				s.pos++
			}
		case c == '{' || c == '(':
			if depth++; depth > maxCNesting && !s.item.Broken {
				s.item.Broken = true // the C front end recurses without a limit of its own
				s.errorf("E0107", s.pos, s.pos+1, "C definition is nested deeper than %d levels", maxCNesting)
			}
		case c == '}' || c == ')':
			depth--
			if depth <= 0 && c == '}' && !isTypedef {
				end = s.pos + 1
			}
		case c == ';' && depth == 0:
			end = s.pos + 1
		}
		s.pos++
	}
	if end < 0 {
		s.item.Unfinished = true
		s.item.Broken = true
		s.pos = len(s.src)
		s.emit(CText, start)
		if i := strings.IndexByte(s.src[start:], '{'); i >= 0 && depth > 0 {
			s.errorf("E0102", start+i, start+i+1, "this `{` is not closed").Hint("add the missing `}`")
		} else {
			s.errorf("E0102", start, s.wordEnd(start), "C definition has no end").Hint("end it with `;`")
		}
		return
	}
	s.pos = end
	// `} __attribute__((packed));` and the optional semicolon.
	for !isTypedef {
		i := s.layoutEnd(s.pos)
		if strings.HasPrefix(s.src[i:], "__attribute__") {
			if j := s.parensEnd(s.layoutEnd(s.wordEnd(i))); j > 0 {
				s.pos = j
				continue
			}
		}
		if s.at(i) == ';' && s.src[s.pos-1] != ';' {
			s.pos = i + 1
		}
		break
	}
	s.emit(CText, start)
	s.noteEnumerators(s.src[start:s.pos])
}

// noteEnumerators remembers the constants of an enum, for the same reason as noteDefine.
func (s *scanner) noteEnumerators(text string) {
	if !strings.HasPrefix(text, "enum") {
		return
	}
	open := strings.IndexByte(text, '{')
	if open < 0 {
		return
	}
	for _, part := range strings.Split(text[open+1:], ",") {
		name, _, _ := strings.Cut(part, "=")
		name = strings.TrimSpace(strings.TrimRight(strings.TrimSpace(name), "};"))
		if name != "" && isWordStart(name[0]) && strings.IndexFunc(name, func(r rune) bool { return r > 127 || !isWord(byte(r)) }) < 0 {
			s.noteConst(name)
		}
	}
}
