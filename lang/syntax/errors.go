package syntax

import (
	"errors"
	"fmt"
	"strings"

	"github.com/alecthomas/participle/v2"
	plexer "github.com/alecthomas/participle/v2/lexer"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/lexer"
	"github.com/sonde-sh/sonde/lang/source"
)

// fault is a syntax error on its way to the diagnostics. It implements participle.Error, so that it passes through the
// grammar unchanged.
type fault struct {
	code  diag.Code
	span  source.Span
	msg   string
	hints []string
	label *diag.Label
	// echo marks a fault that is likely the consequence of one in the item before, which then is the only one reported.
	echo bool
}

func (f *fault) Error() string   { return f.msg }
func (f *fault) Message() string { return f.msg }
func (f *fault) Position() plexer.Position {
	return plexer.Position{Offset: int(f.span.Start)}
}

func (f *fault) hint(format string, args ...any) *fault {
	f.hints = append(f.hints, fmt.Sprintf(format, args...))
	return f
}

func newFault(code diag.Code, sp source.Span, format string, args ...any) *fault {
	return &fault{code: code, span: sp, msg: fmt.Sprintf(format, args...)}
}

// report adds the fault to diags.
func (f *fault) report(diags *diag.List) *diag.Diagnostic {
	d := diags.Errorf(f.code, f.span, "%s", f.msg)
	for _, h := range f.hints {
		d.Hint("%s", h)
	}
	if f.label != nil {
		d.Label(f.label.Span, "%s", f.label.Text)
	}
	return d
}

// spanOf returns the span of a token. The end of input is a span of no length.
func spanOf(t *token) source.Span {
	return source.Span{Start: int32(t.Pos.Offset), End: int32(t.Pos.Offset + len(t.Value))}
}

// quote shows a token in a message.
func quote(t *token) string {
	if t.EOF() {
		return "end of script"
	}
	text := t.Value
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		text = text[:i] + "..."
	}
	if r := []rune(text); len(r) > 40 {
		text = string(r[:37]) + "..."
	}
	if t.Type == lexer.Type(lexer.Keyword) {
		return "keyword `" + text + "`"
	}
	return "`" + text + "`"
}

// unexpected makes the standard message.
func unexpected(t *token, want string) *fault {
	code := diag.Code("E0101")
	if t.EOF() {
		code = "E0102"
	}
	if want == "" {
		return newFault(code, spanOf(t), "syntax: unexpected %s", quote(t))
	}
	return newFault(code, spanOf(t), "syntax: expected %s, found %s", want, quote(t))
}

// expectations puts participle's grammar notation into words. The key is the first word of what it expected.
var expectations = map[string]string{
	`"{"`: "'{'", `"}"`: "a statement or '}'", `"("`: "'('", `")"`: "')'", `":"`: "':'", `"="`: "'='",
	"predclose": "'/' to close predicate", "ExprRef": "expression", "GBlock": "'{'", "TypeRef": "a type",
	"var": "a scratch variable", "map": "a map", "string": "a string", "ident": "a name",
	"OperandRef": "a map or a range", "CondRef": "a condition", "GName": "a parameter", "GParam": "a parameter like `$x : uint64`",
}

// asFault turns any error of the grammar into a fault. prev is the token before the offending one, nil when there is none.
func asFault(err error, prev *token) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	var ute *participle.UnexpectedTokenError
	if errors.As(err, &ute) {
		want := ""
		if _, rest, ok := strings.Cut(ute.Message(), "(expected "); ok {
			rest = strings.TrimLeft(rest, "<(")
			first, _, _ := strings.Cut(strings.TrimRight(rest, ")"), " ")
			first = strings.TrimRight(first, "?*+!>)")
			want = expectations[first]
		}
		return explain(unexpected(&ute.Unexpected, want), &ute.Unexpected, prev)
	}
	var pe participle.Error
	if errors.As(err, &pe) {
		off := int32(pe.Position().Offset)
		return newFault("E0101", source.Span{Start: off, End: off + 1}, "%s", pe.Message())
	}
	return newFault("E0101", source.Span{}, "%s", err)
}

// explain adds a hint for the mistakes people make most.
func explain(f *fault, t, prev *token) *fault {
	is := func(t *token, text string) bool { return t != nil && t.Value == text }
	switch {
	case prev == nil:
	case is(t, ";") && (is(prev, ";") || is(prev, "{")):
		f.msg = "syntax: expected expression, found `;`: there is no statement before it"
		f.hint("remove it")
	case is(t, "/") || is(t, "//"):
		f.hint("start comments with `//` and predicates with `/`, before the `{`")
	case is(t, "else"):
		f.hint("put `else` right behind the `}` of its `if`")
	case is(prev, "let") && t.Type == lexer.Type(lexer.Map):
		f.hint("declare maps outside of probes, at the top of the script")
	case is(prev, "let"):
		f.hint("name a scratch variable: `let $x`")
	case is(prev, "for") || is(prev, "(") && strings.Contains(f.msg, "scratch variable"):
		f.msg = "syntax: expected variable in for loop, found " + quote(t)
		f.hint("write loops as `for ($i : 0..10) { }` or `for ($kv : @map) { }`")
	case t.Type == lexer.Type(lexer.String) && prev.Type == lexer.Type(lexer.String):
		f.hint("join strings by writing them as one literal")
	case is(t, "}") && strings.Contains(f.msg, "expected ')'"):
		f.hint("add the missing `)`")
	}
	return f
}
