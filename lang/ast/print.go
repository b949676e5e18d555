package ast

import (
	"strings"

	"github.com/sonde-sh/sonde/lang/source"
)

// FormatOptions choose between the ways to print a script.
type FormatOptions struct {
	// Modern rewrites old spellings: BEGIN to begin, kfunc to fentry, args->x to args.x, delete(@m[k]) to delete(@m, k), stack to kstack.
	Modern bool
}

// Format prints a script canonically: two blanks per level, one statement a line, `{` on the line of what it belongs to,
// lines of at most 100 columns where an operator or a comma allows a break. Comments stay, blank lines shrink to one.
// Formatting twice changes nothing, and the result parses to the same tree.
func Format(s *Script, set *source.Set) string { return FormatWith(s, set, FormatOptions{}) }

// FormatWith is Format with options.
func FormatWith(s *Script, set *source.Set, opts FormatOptions) string {
	p := &printer{set: set, opts: opts, comments: s.Comments, fresh: true}
	if s.Shebang != "" {
		p.text(s.Shebang)
		p.newline()
		p.fresh = false
		p.lastLine = 1
	}
	for i, it := range s.Items {
		if i > 0 && separate(s.Items[i-1], it) {
			p.wantBlank = true
		}
		p.leading(it.Span().Start)
		p.blankIfApart(it.Span())
		p.item(it)
		p.done(it.Span().End)
	}
	p.leading(1<<31 - 1)
	out := p.out.String()
	if out != "" {
		out = strings.TrimRight(out, "\n") + "\n"
	}
	return out
}

// separate tells whether a blank line always stands between two items: around everything with a body.
func separate(a, b Item) bool { return hasBody(a) || hasBody(b) }

func hasBody(it Item) bool {
	switch it.(type) {
	case *Probe, *Macro, *Subprog, *Config:
		return true
	}
	return false
}

const (
	indentWidth = 2
	lineWidth   = 100
	contIndent  = 4 // extra indentation of continuation lines
)

// printer writes canonical text. It collects one output line at a time, remembers where that line may be broken, and hands
// out comments as it passes their place in the source.
type printer struct {
	set  *source.Set
	opts FormatOptions
	flat bool // one line, no comments: for error messages

	out      strings.Builder
	line     []byte // the line being collected, without indentation
	breaks   []int  // places in line where it may be broken
	level    int
	cont     bool // the line being collected continues a statement
	fresh    bool // nothing was written in this block yet: no blank line here
	lastLine int  // line of the source where the thing printed last ended

	wantBlank bool
	comments  []Comment
}

func (p *printer) text(s string) { p.line = append(p.line, s...) }

// mayBreak allows a line break here.
func (p *printer) mayBreak() { p.breaks = append(p.breaks, len(p.line)) }

// newline writes the collected line, broken where it is too long.
func (p *printer) newline() {
	indent := p.level * indentWidth
	if p.cont {
		indent += contIndent
	}
	rest, off := string(p.line), 0
	for indent+source.Width(rest) > lineWidth {
		cut := -1
		for _, b := range p.breaks {
			if b <= off {
				continue
			}
			if cut < 0 || indent+source.Width(strings.TrimRight(string(p.line[off:b]), " ")) <= lineWidth {
				cut = b
			}
		}
		if cut < 0 || cut >= len(p.line) {
			break
		}
		p.writeLine(indent, string(p.line[off:cut]))
		if off == 0 && !p.cont {
			indent += contIndent
		}
		off, rest = cut, string(p.line[cut:])
	}
	p.writeLine(indent, rest)
	p.line, p.breaks, p.cont = p.line[:0], p.breaks[:0], false
}

func (p *printer) writeLine(indent int, text string) {
	text = strings.TrimRight(text, " ")
	if text != "" {
		p.out.WriteString(strings.Repeat(" ", indent))
		p.out.WriteString(text)
	}
	p.out.WriteByte('\n')
}

func (p *printer) lineOf(off int32) int { return p.set.Position(off).Line }

// blankIfApart writes an empty line before what starts at sp when the source has one there.
func (p *printer) blankIfApart(sp source.Span) {
	if !p.fresh && (p.wantBlank || p.lineOf(sp.Start) > p.lastLine+1) {
		p.out.WriteByte('\n')
	}
	p.fresh, p.wantBlank = false, false
}

// leading writes the comments before off on lines of their own.
func (p *printer) leading(off int32) {
	for len(p.comments) > 0 && p.comments[0].Sp.Start < off {
		c := p.comments[0]
		p.comments = p.comments[1:]
		p.blankIfApart(c.Sp)
		p.text(p.commentText(c))
		p.newline()
		p.lastLine = p.lineOf(c.Sp.End - 1)
	}
}

// commentText aligns the stars of a block comment.
func (p *printer) commentText(c Comment) string {
	lines := strings.Split(c.Text, "\n")
	pad := strings.Repeat(" ", p.level*indentWidth)
	for i, l := range lines[1:] {
		l = strings.TrimRight(l, " \t\r")
		if t := strings.TrimLeft(l, " \t"); strings.HasPrefix(t, "*") {
			l = pad + " " + t
		}
		lines[i+1] = l
	}
	return strings.TrimRight(strings.Join(lines, "\n"), " \t\r")
}

// done ends a statement or item that ended at off in the source: a comment behind it on the same line stays there.
func (p *printer) done(off int32) {
	line := p.lineOf(off - 1)
	for len(p.comments) > 0 {
		c := p.comments[0]
		if c.Sp.Start > off && p.lineOf(c.Sp.Start) != line {
			break
		}
		if c.Sp.Start >= off && strings.Contains(c.Text, "\n") {
			break // a long comment that starts here belongs to what follows
		}
		if c.Sp.Start > off && p.codeBetween(off, c.Sp.Start) {
			break
		}
		p.comments = p.comments[1:]
		p.text(" " + p.commentText(c))
		if strings.HasPrefix(c.Text, "//") {
			line = p.lineOf(c.Sp.End - 1)
			break
		}
		off = max(off, c.Sp.End)
	}
	p.newline()
	p.lastLine = line
}

// codeBetween reports whether anything but blanks and semicolons stands between two offsets, so that a comment there
// belongs to what comes later.
func (p *printer) codeBetween(from, to int32) bool {
	return strings.Trim(p.set.Text(source.Span{Start: from, End: to}), " \t\r\n;,") != ""
}

// inline writes the comments before off into the line being collected.
func (p *printer) inline(off int32) {
	for !p.flat && off > 0 && len(p.comments) > 0 && p.comments[0].Sp.Start < off {
		c := p.comments[0]
		p.comments = p.comments[1:]
		if n := len(p.line); n > 0 && p.line[n-1] == '/' {
			p.text(" ") // the slash of a predicate and a comment would be one of another kind
		}
		p.text(p.commentText(c))
		if strings.HasPrefix(c.Text, "//") || strings.Contains(c.Text, "\n") {
			p.newline()
			p.cont = true
		} else {
			p.text(" ")
		}
	}
}
