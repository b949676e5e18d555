package check

import (
	"slices"
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
)

// substitute puts positional parameters into the attach points of a probe. One of which nothing is left is dropped: `$1, $2` takes one or two.
func (c *checker) substitute(p *ast.Probe) {
	dropped, all := false, attachSpan(p)
	p.Attach = slices.DeleteFunc(p.Attach, func(ap *ast.AttachPoint) bool {
		if !strings.Contains(ap.Raw, "$") {
			return false
		}
		if kind := ap.Kind; strings.HasPrefix(kind, "$") && !startsWithParam(kind) {
			c.diags.Errorf(CodeUnknownProbe, ap.Sp, "invalid trailing character for positional param: %s. Try quoting this entire part if this is intentional e.g. \"%s\".",
				kind[min(1, len(kind)-1):min(2, len(kind))], kind).Hint("positional parameters are `$1`, `$2` ...")
			return true
		}
		c.substitutePoint(ap)
		dropped = dropped || ap.Kind == ""
		return ap.Kind == ""
	})
	if dropped && len(p.Attach) == 0 {
		c.diags.Errorf(CodeUnknownProbe, all, "No attach points for probe").Hint("give the attach point as an argument, such as interval:s:1")
	}
}

// startsWithParam reports whether a text begins with $1 ... $9.
func startsWithParam(s string) bool { return len(s) > 1 && s[0] == '$' && s[1] >= '1' && s[1] <= '9' }

// substitutePoint puts the parameters into one attach point: into its parts as written, the first of which is its kind. A parameter may be more
// than one part (ms:10). What is quoted stays.
func (c *checker) substitutePoint(ap *ast.AttachPoint) {
	quoted := false
	raw := strings.Split(ap.Raw, `"`)
	for i, s := range raw {
		if !quoted {
			raw[i] = c.substituteText(s)
		}
		quoted = !quoted
	}
	kind := ast.Segment{Base: ap.Base, Text: ap.Kind, Quoted: strings.HasPrefix(ap.Raw, `"`)}
	ap.Raw = strings.Join(raw, `"`)
	var segments []ast.Segment
	for _, s := range append([]ast.Segment{kind}, ap.Segments...) {
		parts := []string{s.Text}
		if text := c.substituteText(s.Text); text != s.Text && !s.Quoted {
			parts = strings.Split(text, ":")
		}
		for _, p := range parts {
			s.Text = p
			segments = append(segments, s)
		}
	}
	ap.Kind, ap.Segments = segments[0].Text, segments[1:]
}

func (c *checker) substituteText(s string) string {
	var sb strings.Builder
	for i := 0; i < len(s); i++ {
		if !startsWithParam(s[i:]) {
			sb.WriteByte(s[i])
			continue
		}
		n := 0
		for i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9' && n < 1000 {
			i++
			n = n*10 + int(s[i]-'0')
		}
		if n >= 1 && n <= len(c.env.Positional) {
			sb.WriteString(c.env.Positional[n-1])
		}
	}
	return sb.String()
}
