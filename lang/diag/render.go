package diag

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fatih/color"

	"github.com/sonde-sh/sonde/lang/source"
)

// DefaultLimit is how many diagnostics a run prints before it says how many more there are.
const DefaultLimit = 20

// Renderer prints diagnostics for people. The zero value with a Set is ready; it is safe for concurrent use.
type Renderer struct {
	Set   *source.Set
	Color bool // use terminal colours; the caller knows whether the writer is a terminal and NO_COLOR is unset
	Width int  // longest source line shown, in columns; 0 means 200
}

// Render returns one diagnostic as printed, with its line break:
//
//	stdin:1:12-26: ERROR: message [E0301]
//	kprobe:f { printf("%d", foo); }
//	                        ~~~
//	HINT: text
func (r *Renderer) Render(d *Diagnostic) string {
	var b strings.Builder
	paint := r.painter(d.Severity)
	r.head(&b, d.Span, paint(d.Severity.String()), d.Message+code(d.Code), paint)
	if d.Brief {
		line, _, _ := strings.Cut(b.String(), "\n")
		return line + "\n"
	}
	for _, l := range d.Labels {
		r.head(&b, l.Span, r.note("NOTE"), l.Text, r.note)
	}
	for _, h := range d.Hints {
		fmt.Fprintf(&b, "%s: %s\n", r.note("HINT"), h)
	}
	for _, o := range d.Origins {
		r.head(&b, o.Span, r.note("NOTE"), o.Text, r.note)
	}
	for _, n := range d.Notes {
		fmt.Fprintf(&b, "%s: %s\n", r.note("NOTE"), strings.TrimRight(clean(n), "\n"))
	}
	return b.String()
}

// Write prints the diagnostics of l in source order, without repeating equal ones and at most limit of them (all when
// limit is 0), then how many were left out.
func (r *Renderer) Write(w io.Writer, l *List, limit int) error {
	type key struct {
		code Code
		span source.Span
		msg  string
	}
	seen := map[key]bool{}
	shown, more, errors := 0, 0, 0
	for _, d := range l.All() {
		k := key{d.Code, d.Span, d.Message}
		if seen[k] {
			continue
		}
		seen[k] = true
		// Warnings, however many, do not hide what is wrong.
		if limit > 0 && shown >= limit && (d.Severity != Error || errors > 0) {
			more++
			continue
		}
		if d.Severity == Error {
			errors++
		}
		shown++
		if _, err := io.WriteString(w, r.Render(d)); err != nil {
			return err
		}
	}
	if more > 0 {
		_, err := fmt.Fprintf(w, "and %d more\n", more)
		return err
	}
	return nil
}

func code(c Code) string {
	if c == "" {
		return ""
	}
	return " [" + string(c) + "]"
}

// painter returns the function that colours text of a severity.
func (r *Renderer) painter(s Severity) func(string) string {
	switch s {
	case Warning:
		return r.paint(color.FgYellow)
	case Note:
		return r.paint(color.FgCyan)
	default:
		return r.paint(color.FgRed)
	}
}

func (r *Renderer) note(text string) string { return r.paint(color.FgCyan)(text) }

// paint uses an instance of its own, so that the colour package's global state plays no part.
func (r *Renderer) paint(attr color.Attribute) func(string) string {
	if !r.Color {
		return func(s string) string { return s }
	}
	c := color.New(attr, color.Bold)
	c.EnableColor()
	return func(s string) string { return c.Sprint(s) }
}

// head writes the first line of a diagnostic or label, the source line and its underline.
func (r *Renderer) head(b *strings.Builder, sp source.Span, severity, msg string, paint func(string) string) {
	var from, to source.Position
	if r.Set != nil && sp.IsValid() {
		from, to = r.Set.Position(sp.Start), r.Set.Position(max(sp.End, sp.Start))
	}
	if from.File == nil {
		fmt.Fprintf(b, "%s: %s\n", severity, msg)
		return
	}
	line := from.File.Line(from.Line)
	start, end := from.Col-1, to.Col-1
	if to.Line > from.Line && end == 0 && to.Line == from.Line+1 {
		// The span ends with the line break itself.
		to.Line, end = from.Line, len(line)
	}
	if to.Line > from.Line {
		fmt.Fprintf(b, "%s:%d-%d: %s: %s\n", from.File.Name, from.Line, to.Line, severity, msg)
		end = len(line)
	} else {
		end = max(end, start+1)
		fmt.Fprintf(b, "%s:%d:%d-%d: %s: %s\n", from.File.Name, from.Line, start+1, end+1, severity, msg)
	}
	text, under := r.snippet(line, start, end)
	b.WriteString(text)
	b.WriteByte('\n')
	indent := strings.TrimRight(under, "~")
	b.WriteString(indent + paint(under[len(indent):]) + "\n")
}

// snippet returns a source line with tabs widened and its underline for the byte range [start, end), both cut around the
// range when the line is long.
func (r *Renderer) snippet(line string, start, end int) (text, under string) {
	start, end = clamp(line, start), clamp(line, end)
	head, mid, tail := widen(line[:start]), widen(line[start:end]), widen(line[end:])
	limit := r.Width
	if limit <= 0 {
		limit = 200
	}
	h, m, t := []rune(head), []rune(mid), []rune(tail)
	if len(h)+len(m)+len(t) > limit {
		if len(m) > limit/2 {
			m = append(m[:limit/2:limit/2], []rune("...")...)
			t = nil
		}
		// What is left goes half before and half behind the range.
		room := limit - len(m)
		if before := max(room/2, room-len(t)); len(h) > before {
			h = append([]rune("..."), h[len(h)-before+3:]...)
		}
		if room -= len(h); len(t) > room {
			t = append(t[:max(room-3, 0):max(room-3, 0)], []rune("...")...)
		}
	}
	return string(h) + string(m) + string(t), strings.Repeat(" ", len(h)) + strings.Repeat("~", max(len(m), 1))
}

// clamp moves an offset into line, to the start of a rune.
func clamp(line string, off int) int {
	off = max(0, min(off, len(line)))
	for off > 0 && off < len(line) && !utf8.RuneStart(line[off]) {
		off--
	}
	return off
}

// widen replaces tabs by four blanks and whatever would disturb a terminal by a question mark.
func widen(s string) string { return clean(strings.ReplaceAll(s, "\t", "    ")) }

func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) || r == utf8.RuneError || unicode.Is(unicode.Bidi_Control, r) {
			return '?'
		}
		return r
	}, s)
}

// Sentence begins a text with a capital, as the C library's messages do where Go's do not.
func Sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
