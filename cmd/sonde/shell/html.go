package shell

import (
	"fmt"
	"html"
	"strings"
)

// page is the frame of every report as one file: no script, nothing from the network.
func page(title, body string) string {
	return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>` + html.EscapeString(title) + `</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #2a7ab8; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 76em; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid var(--line); }
pre, code, td.m { font: 13px/1.45 ui-monospace, monospace; } pre { overflow-x: auto; background: var(--soft); padding: .6em .8em; border-radius: 4px; margin: .3em 0; }
table { border-collapse: collapse; } td, th { padding: .15em .8em .15em 0; text-align: left; vertical-align: top; } td.n { text-align: right; }
.source { font-weight: 600; } .knew { opacity: .65; } .bar { fill: var(--accent); } summary { cursor: pointer; } svg text { font: 12px ui-monospace, monospace; fill: currentColor; }
</style>
<h1>` + html.EscapeString(title) + "</h1>\n" + body + "</html>\n"
}

// HTML is the explanation as one file.
func (e *Explanation) HTML() string {
	var b strings.Builder
	esc := html.EscapeString
	fmt.Fprintf(&b, "<pre>%s</pre>\n", esc(e.Script))
	if len(e.Maps) > 0 {
		b.WriteString("<h2>Maps</h2><table><tr><th>map<th>key<th>value<th>kept in</tr>\n")
		for _, m := range e.Maps {
			fmt.Fprintf(&b, "<tr><td class=m>%s<td class=m>%s<td class=m>%s<td>%s</tr>\n", esc(m.Name), esc(m.Key), esc(m.Value), esc(m.Kept))
		}
		b.WriteString("</table>\n")
	}
	for _, p := range e.Programs {
		fmt.Fprintf(&b, "<h2>Program %s</h2>\n<p>%s<br>%d instructions, %d bytes of stack; the verifier looked at %d; %d native instructions. %s</p>\n",
			esc(p.Name), esc(strings.Join(p.Attach, "; ")), p.Insns, p.Stack, p.Looked, p.Native, esc(p.Cost))
		for _, q := range p.Parts {
			fmt.Fprintf(&b, "<details open><summary class=source>%d: <code>%s</code></summary>\n", q.Line, esc(q.Text))
			if len(q.Types) > 0 {
				fmt.Fprintf(&b, "<p><code>%s</code></p>\n", strings.Join(escapeAll(q.Types), "</code> &nbsp; <code>"))
			}
			b.WriteString("<table><tr><th>IR<th>eBPF, and what the verifier knew<th>native code, and the eBPF that it was</tr><tr><td><pre>")
			b.WriteString(strings.Join(escapeAll(q.IR), "\n"))
			b.WriteString("</pre><td><pre>")
			for _, c := range q.Code {
				fmt.Fprintf(&b, "%4d: %s", c.Offset, esc(c.Text))
				if c.Knew != "" {
					fmt.Fprintf(&b, "  <span class=knew>; %s</span>", esc(c.Knew))
				}
				b.WriteByte('\n')
			}
			b.WriteString("</pre><td><pre>")
			for _, n := range q.Native {
				fmt.Fprintf(&b, "%4x: %s", n.Offset, esc(n.Text))
				if n.From >= 0 {
					fmt.Fprintf(&b, "  <span class=knew>; %d</span>", n.From)
				}
				b.WriteByte('\n')
			}
			b.WriteString("</pre></tr></table></details>\n")
		}
		if p.Why != "" {
			fmt.Fprintf(&b, "<p>Native code: %s</p>\n", esc(p.Why))
		}
	}
	return page("sonde explain", b.String())
}

func escapeAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = html.EscapeString(s)
	}
	return out
}
