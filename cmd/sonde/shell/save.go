package shell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/runtime/value"
)

// saved is the session as a script.
type saved struct {
	text  string
	items int
	notes []string // what the script lacks
}

// script writes the session as one script: definitions, then the items that are not detached. Variables of the prompt become their values.
func (sh *Shell) script() saved {
	var s saved
	filters := map[string]bool{}
	values := map[string]string{}
	lacking := map[string]bool{}
	var body strings.Builder
	for _, it := range sh.items {
		if it.session == nil && it.ended == "detached" {
			continue
		}
		s.items++
		filters[it.filter.String()] = true
		fmt.Fprintf(&body, "// #%d\n%s\n\n", it.id, strings.TrimSpace(sh.withValues(it.text, values, lacking)))
	}
	var b strings.Builder
	b.WriteString("#!/usr/bin/env sonde\n")
	if len(filters) == 1 && !filters[""] {
		b.Reset()
		for f := range filters {
			fmt.Fprintf(&b, "#!/usr/bin/env -S sonde %s\n", f)
		}
	} else if len(filters) > 1 {
		s.notes = append(s.notes, "the items have different filters: the script has none")
	}
	if len(sh.set.config) > 0 {
		var keys []string
		for k := range sh.set.config {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		b.WriteString("config = {\n")
		for _, k := range keys {
			v := sh.set.config[k]
			if strings.Trim(v, "0123456789") != "" && v != "true" && v != "false" {
				v = fmt.Sprintf("%q", v)
			}
			fmt.Fprintf(&b, "\t%s = %s;\n", k, v)
		}
		b.WriteString("}\n\n")
	}
	for _, p := range sh.prelude {
		b.WriteString(strings.TrimSpace(p) + "\n\n")
	}
	for name := range lacking {
		s.notes = append(s.notes, fmt.Sprintf("the value of %s cannot be written in a script: set it in the probes that use it", name))
	}
	slices.Sort(s.notes)
	s.text = strings.TrimRight(b.String()+body.String(), "\n") + "\n"
	return s
}

// withValues puts the values of the variables of the prompt that an item reads into its text, at the start of its probes. values keeps what was
// read already, lacking the names of those that have no literal.
func (sh *Shell) withValues(text string, values map[string]string, lacking map[string]bool) string {
	u := newUnit("prompt", text)
	u.script = syntax.Parse(u.set, u.file, u.diags)
	if u.diags.HasErrors() {
		return text
	}
	for _, it := range slices.Backward(u.script.Items) {
		p, ok := it.(*ast.Probe)
		if !ok || p.Body == nil {
			continue
		}
		wanted, inPredicate := sh.wantedVars(p)
		head := ""
		for _, name := range wanted {
			if values[name] == "" {
				values[name] = sh.literal(name)
			}
			if values[name] == "" {
				lacking[name] = true
				continue
			}
			head += fmt.Sprintf(" %s = %s;", name, values[name])
		}
		if head == "" {
			continue
		}
		open := int(p.Body.Sp.Start-u.file.Base) + 1 // behind the brace
		if inPredicate {
			sp := p.Predicate.Span()
			from, to := int(sp.Start-u.file.Base), int(sp.End-u.file.Base)
			// The slashes around it stay on their side of the text.
			left, right := strings.LastIndexByte(text[:from], '/'), strings.IndexByte(text[to:], '/')
			if left < 0 || right < 0 {
				continue
			}
			head += fmt.Sprintf(" if (!(%s)) { return; }", text[from:to])
			text = strings.TrimRight(text[:left], " ") + " " + strings.TrimLeft(text[to+right+1:open], " ") + head + text[open:]
			continue
		}
		text = text[:open] + head + text[open:]
	}
	return text
}

// literal is the value of a variable of the prompt as a script writes it; "" when it has none.
func (sh *Shell) literal(name string) string {
	list, keyed, err := sh.entries(hiddenPrefix + name[1:])
	if err != nil || keyed || len(list) != 1 {
		return ""
	}
	switch v := list[0].row.Val; v.Kind {
	case value.Bool, value.Int:
		return string(value.AppendText(nil, v))
	case value.Uint:
		if v.U > 1<<63-1 {
			return fmt.Sprintf("(uint64)%#x", v.U)
		}
		return strconv.FormatUint(v.U, 10)
	case value.Str:
		return ast.Quote(v.S)
	}
	return ""
}

func (sh *Shell) cmdSave(_ context.Context, args string) error {
	if args == "" {
		return hintf("write `\\save FILE`", "save where?")
	}
	sh.mu.Lock()
	s := sh.script()
	sh.mu.Unlock()
	if err := os.WriteFile(homePath(args), []byte(s.text), 0o755); err != nil { //nolint:gosec // a script is there to be run
		return hintf("choose a place that can be written", "cannot write `%s`: %v", args, errors.Unwrap(err))
	}
	sh.say("saved %d item%s to %s", s.items, plural(s.items), args)
	for _, n := range s.notes {
		sh.say("NOTE: %s", n)
	}
	return nil
}
