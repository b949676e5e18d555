package shell

import (
	"fmt"
	"strings"

	"github.com/sonde-sh/sonde/lang/diag"
)

// IsCode reports whether a text has the form of the code of a message: E0305, [W0211], e0305.
func IsCode(text string) bool {
	text = strings.Trim(text, "[]")
	return len(text) == 5 && strings.ContainsAny(text[:1], "EWew") && strings.Trim(text[1:], "0123456789") == ""
}

// ExplainCode says what the code of a message means, in lines of at most width columns. The error of one that does not exist has a hint.
func ExplainCode(text string, width int) (string, error) {
	code := strings.ToUpper(strings.Trim(text, "[]"))
	e, ok := diag.Explain(diag.Code(code))
	if !ok {
		return "", hintf("codes stand in brackets behind a message, and are listed in docs/reference/diagnostics.md", "there is no code `%s`", code)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\n", e.Code, e.Title)
	for par := range strings.SplitSeq(e.Doc, "\n\n") {
		for _, l := range fold(par, width-5) {
			b.WriteString("    " + l + "\n")
		}
	}
	if e.Example != "" {
		b.WriteString("\nA script that gives it:\n\n")
		for l := range strings.Lines(e.Example) {
			b.WriteString("    " + strings.TrimRight(l, "\n") + "\n")
		}
	}
	return b.String(), nil
}
