package shell

import (
	"strings"

	"github.com/fatih/color"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/lexer"
	"github.com/sonde-sh/sonde/lang/source"
)

// painter colours the line while it is typed, and shows the signature of the function that the cursor is in behind it.
type painter struct {
	sh     *Shell
	editor *editor
}

// Paint is called by readline with the whole line and the cursor's place.
func (p *painter) Paint(line []rune, pos int) []rune {
	text := string(line)
	if strings.HasSuffix(text, "\n") { // the line is over: readline appends its end, and ^C
		return line
	}
	out := colorize(text)
	if pos == len(line) {
		if hint := p.sh.signature(p.editor.block + text); hint != "" {
			cols, _ := screenSize(p.editor.out)
			if room := cols - len(prompt) - len(line) - 4; room > 12 {
				// The cursor is put back where the typed text ends, so the editor does not know of the hint.
				out += "\x1b7  " + faint(oneLine(hint, room)) + "\x1b8"
			}
		}
	}
	return []rune(out)
}

func faint(s string) string { return paintWith(s, color.FgHiBlack) }

func paintWith(s string, attr ...color.Attribute) string {
	c := color.New(attr...)
	c.EnableColor()
	return c.Sprint(s)
}

// colorize colours one line of script or a command.
func colorize(text string) string {
	if strings.HasPrefix(strings.TrimSpace(text), `\`) {
		head, rest, _ := strings.Cut(text, " ")
		if len(head) < len(text) {
			rest = " " + rest
		}
		return paintWith(head, color.FgMagenta) + rest
	}
	_, f := source.NewSet("", text)
	var diags diag.List
	var res *lexer.Result
	if looksLikeItem(strings.TrimSpace(text)) {
		res = lexer.Lex(f, &diags)
	} else {
		res = lexer.LexExpr(f, &diags)
	}
	var b strings.Builder
	at := 0
	for i, t := range res.Tokens {
		start, end := int(t.Span.Start-f.Base), int(t.Span.End-f.Base)
		if start < at || end > len(text) {
			continue
		}
		b.WriteString(text[at:start])
		word := text[start:end]
		switch t.Kind {
		case lexer.AttachPoint:
			word = paintWith(word, color.FgYellow)
		case lexer.Keyword, lexer.Directive:
			word = paintWith(word, color.FgMagenta)
		case lexer.String:
			word = paintWith(word, color.FgGreen)
		case lexer.Int, lexer.Const:
			word = paintWith(word, color.FgHiMagenta)
		case lexer.Map:
			word = paintWith(word, color.FgCyan)
		case lexer.Var, lexer.Param:
			word = paintWith(word, color.FgHiBlue)
		case lexer.Ident:
			if i+1 < len(res.Tokens) && res.Tokens[i+1].Text == "(" {
				word = paintWith(word, color.FgBlue)
			}
		}
		b.WriteString(word)
		at = end
	}
	b.WriteString(text[at:])
	return b.String()
}
