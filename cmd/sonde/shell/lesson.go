package shell

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/lexer"
	"github.com/sonde-sh/sonde/runtime/symbol"
	"github.com/sonde-sh/sonde/stdlib/lessons"
)

// lessonRun is the lesson that the user is in.
type lessonRun struct {
	n    int // from 0
	l    lessons.Lesson
	done bool
	// What was done since it began.
	evaluated bool
	commands  map[string]bool
	firstItem int // id of the first item of this lesson
}

// lessonList gives the titles, for completion.
func lessonList() []lessons.Lesson {
	list, err := lessons.All()
	if err != nil {
		return nil
	}
	return list
}

func (sh *Shell) cmdLesson(_ context.Context, args string) error {
	list, err := lessons.All()
	if err != nil {
		return err
	}
	n := 0
	switch args {
	case "stop":
		sh.lesson = nil
		return nil
	case "list":
		for i, l := range list {
			sh.say("%3d  %s", i+1, l.Title)
		}
		return nil
	case "", "next":
		if sh.lesson != nil {
			n = sh.lesson.n
			if args == "next" || sh.lesson.done {
				n++
			}
		}
	default:
		if n, err = strconv.Atoi(args); err != nil || n < 1 || n > len(list) {
			return hintf("`\\lesson list` shows them", "there is no lesson `%s`", args)
		}
		n--
	}
	if n >= len(list) {
		sh.say("that was the last of %d lessons", len(list))
		sh.lesson = nil
		return nil
	}
	sh.mu.Lock()
	sh.lesson = &lessonRun{n: n, l: list[n], commands: map[string]bool{}, firstItem: sh.next}
	sh.mu.Unlock()
	l := list[n]
	sh.say("lesson %d of %d: %s", n+1, len(list), l.Title)
	sh.say("%s", indent(foldText(l.Before, sh.width()-2)))
	sh.say("try:")
	for _, t := range l.Try {
		sh.say("    %s", t)
	}
	return nil
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// foldText folds the paragraphs of a text. Lines that begin with a blank, such as examples, stay as they are.
func foldText(text string, width int) string {
	var out, paragraph []string
	flush := func() {
		if len(paragraph) > 0 {
			out = append(out, fold(strings.Join(paragraph, " "), width)...)
		}
		paragraph = nil
	}
	for l := range strings.Lines(text) {
		l = strings.TrimRight(l, "\n")
		if l == "" || l[0] == ' ' || l[0] == '\t' {
			flush()
			out = append(out, l)
			continue
		}
		paragraph = append(paragraph, l)
	}
	flush()
	return strings.Join(out, "\n")
}

// after looks at what the session and the kernel say once a line was handled.
func (lr *lessonRun) after(sh *Shell, line string, worked bool) {
	cmd, _ := sh.command(line)
	if !worked {
		return
	}
	if cmd != nil {
		if cmd.name == "lesson" {
			return
		}
		lr.commands[cmd.name] = true
	} else if !looksLikeItem(line) && !strings.HasPrefix(line, `\`) {
		lr.evaluated = true
	}
	if lr.done {
		return
	}
	var proof []string
	for _, c := range lr.l.Checks {
		ok, evidence := lr.holds(sh, c)
		if !ok {
			if cmd == nil || cmd.group != groupLearn {
				sh.say("(lesson %d: %s)", lr.n+1, lr.l.Hint)
			}
			return
		}
		if evidence != "" {
			proof = append(proof, evidence)
		}
	}
	lr.done = true
	if len(proof) > 0 {
		sh.say("done; the kernel says: %s", strings.Join(proof, ", "))
	} else {
		sh.say("done")
	}
	sh.say("%s", indent(foldText(lr.l.After, sh.width()-2)))
	if picture := lr.picture(sh, line); picture != "" {
		sh.write(picture)
	}
	sh.say("`\\lesson next` goes on, `\\lesson stop` ends the course")
}

// holds checks one condition against what the kernel says; evidence is what it says.
func (lr *lessonRun) holds(sh *Shell, c lessons.Check) (ok bool, evidence string) {
	sh.mu.Lock()
	items := slices.Clone(sh.items)
	sh.mu.Unlock()
	switch c.What {
	case "evaluated":
		return lr.evaluated, ""
	case "command":
		for _, name := range c.Args {
			if lr.commands[name] {
				return true, ""
			}
		}
		return false, ""
	case "variable":
		return len(sh.vars) > 0, ""
	case "attached":
		for _, it := range items {
			sh.mu.Lock()
			running := it.session != nil
			sh.mu.Unlock()
			for _, p := range it.unit.obj.Points {
				if running && symbol.Match(c.Args[0], p) && usesPoint(it, p) {
					return true, p + " is attached"
				}
			}
		}
		return false, ""
	case "predicate":
		for _, it := range items {
			for _, x := range it.unit.script.Items {
				if p, isProbe := x.(*ast.Probe); isProbe && (p.Predicate != nil || strings.Contains(it.text, "/")) && it.id >= lr.firstItem {
					return true, ""
				}
			}
		}
		return false, ""
	case "probes":
		want, _ := strconv.Atoi(c.Args[0])
		for _, it := range items {
			if it.probes >= want && it.id >= lr.firstItem {
				return true, fmt.Sprintf("%d probes are attached", it.probes)
			}
		}
		return false, ""
	case "hits":
		want, _ := strconv.Atoi(c.Args[0])
		hits := 0
		for _, it := range items {
			sh.mu.Lock()
			for _, st := range it.liveStats() {
				hits += int(st.Runs)
			}
			sh.mu.Unlock()
		}
		return hits >= want, fmt.Sprintf("the probes were hit %s times", group(hits))
	case "entries", "value", "key":
		return lr.mapHolds(sh, c)
	}
	return false, ""
}

// usesPoint tells whether an attach point is the item's own: the list of an object begins with those of the session.
func usesPoint(it *item, name string) bool {
	for _, b := range it.unit.info.Bodies {
		for _, p := range b.Points {
			if p.Name == name {
				return true
			}
		}
	}
	return false
}

func (lr *lessonRun) mapHolds(sh *Shell, c lessons.Check) (ok bool, evidence string) {
	for _, name := range sh.userMaps() {
		info, err := sh.hub.Map(name)
		if err != nil {
			continue
		}
		dump, err := sh.hub.Dump(name)
		if err != nil || dump.N == 0 {
			continue
		}
		switch c.What {
		case "entries":
			if want, _ := strconv.Atoi(c.Args[0]); dump.N >= want {
				return true, fmt.Sprintf("%s has %s entr%s", name, group(dump.N), map[bool]string{true: "y", false: "ies"}[dump.N == 1])
			}
		case "value":
			for _, kind := range c.Args {
				if strings.HasPrefix(info.Value.String(), kind) {
					return true, fmt.Sprintf("%s holds %s", name, info.Value)
				}
			}
		case "key":
			if info.Key != nil && strings.Contains(info.Key.String(), c.Args[0]) {
				return true, fmt.Sprintf("the keys of %s are %s", name, info.Key)
			}
		}
	}
	return false, ""
}

// picture shows the way of the user's own script from tokens to native code, in a few lines.
func (lr *lessonRun) picture(sh *Shell, line string) string {
	text := ""
	sh.mu.Lock()
	if n := len(sh.items); n > 0 && sh.items[n-1].id >= lr.firstItem {
		text = sh.items[n-1].text
	}
	sh.mu.Unlock()
	if text == "" && lr.evaluated {
		text = "BEGIN { print(" + line + ") }"
	}
	if text == "" {
		return ""
	}
	e, err := sh.explain(text, nil, nil, nil)
	if err != nil || len(e.Programs) == 0 {
		return ""
	}
	u := newUnit("prompt", text)
	tokens := lexer.Lex(u.file, u.diags).Tokens
	var words []string
	for _, t := range tokens {
		words = append(words, t.Text)
	}
	p := e.Programs[0]
	var kinds, irs, code, native []string
	for _, q := range p.Parts {
		kinds = append(kinds, q.Types...)
		irs = append(irs, q.IR...)
		for _, c := range q.Code {
			code = append(code, c.Text)
		}
		for _, n := range q.Native {
			native = append(native, n.Text)
		}
	}
	var b strings.Builder
	row := func(stage string, n int, what string) {
		fmt.Fprintf(&b, "  %-8s %4d  %s\n", stage, n, cut(what, sh.width()-18))
	}
	b.WriteString("your script on its way:\n")
	row("tokens", len(tokens), strings.Join(words, " · "))
	row("types", len(kinds), strings.Join(kinds, "   "))
	row("IR", len(irs), strings.Join(first(irs, 4), " ; "))
	row("eBPF", len(code), strings.Join(first(code, 4), " ; "))
	if len(native) > 0 {
		row("native", len(native), strings.Join(first(native, 3), " ; "))
	}
	return b.String()
}

func first(list []string, n int) []string { return list[:min(n, len(list))] }
