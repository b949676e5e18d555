package shell

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/stdlib"
)

func lookCommands() []command {
	return []command{
		{
			name: "help", aliases: []string{"h", "?"}, args: "[TOPIC | all]", group: groupLearn, takes: "topic", summary: "this list, or what a command, function, variable, probe kind, config key or code of a message (E0305) is",
			run: (*Shell).cmdHelp,
		},
		{
			name: "describe", aliases: []string{"d"}, args: "PATTERN | struct NAME | @m | #N | NAME", group: groupLearn, takes: "pattern",
			summary: "probes with their arguments, types with their members, maps, functions", run: (*Shell).cmdDescribe,
		},
		{name: "explain", args: "[#N | PROGRAM | CODE]", group: groupLearn, takes: "item", summary: "from the script's lines to types, IR, eBPF and native code, and how it is attached", run: (*Shell).cmdExplain},
	}
}

func (sh *Shell) cmdHelp(_ context.Context, args string) error {
	topic := strings.TrimPrefix(strings.TrimSuffix(strings.TrimSpace(args), "()"), `\`)
	switch topic {
	case "":
		text := helpText(sh.width())
		if rows := sh.height(); rows > 0 && strings.Count(text, "\n") >= rows {
			text = helpBrief(sh.width())
		}
		sh.write(text)
		return nil
	case "all":
		sh.write(helpText(sh.width()))
		return nil
	}
	if IsCode(topic) {
		return sh.explainCode(topic)
	}
	found := false
	if b := sh.reg.Builtin(topic); b != nil {
		sh.say("%s  (%s)", callForm(b), b.Doc.Group)
		sh.helpDoc(b.Doc)
		found = true
	}
	for _, k := range sh.kinds {
		if k.Kind.Name() == topic || slices.Contains(k.Aliases, topic) {
			name := "probe " + k.Kind.Name()
			if len(k.Aliases) > 0 {
				name += "  (also " + strings.Join(k.Aliases, ", ") + ")"
			}
			sh.say("%s", name)
			sh.helpDoc(k.Doc)
			found = true
		}
	}
	for _, e := range sh.reg.Config() {
		if e.Key.Name == topic {
			sh.say("config %s  (default %s)", e.Key.Name, e.Default)
			sh.helpDoc(e.Doc)
			found = true
		}
	}
	for _, e := range sh.reg.MapKinds() {
		if e.Kind.Name == topic {
			sh.say("map kind %s", e.Kind.Name)
			sh.helpDoc(e.Doc)
			found = true
		}
	}
	if c, _ := findCommand(topic); c != nil && (!found || c.name == topic) {
		sh.say("\\%s %s", c.name, c.args)
		sh.say("    %s", c.summary)
		if c.doc != "" {
			sh.say("%s", c.doc)
		}
		found = true
	}
	if found {
		return nil
	}
	if near := sh.topicsNear(topic); len(near) > 0 {
		return hintf("did you mean "+strings.Join(near, ", ")+"?", "no help for `%s`", topic)
	}
	return hintf("`\\help` lists the commands, `\\d PATTERN` what the kernel has", "no help for `%s`", topic)
}

func (sh *Shell) explainCode(code string) error {
	text, err := ExplainCode(code, sh.width())
	if err != nil {
		return err
	}
	sh.write(text)
	return nil
}

func (sh *Shell) topicsNear(topic string) []string {
	all := commandNames()
	for _, what := range []string{"func", "var", "kind", "config"} {
		all = append(all, sh.reg.Names(what)...)
	}
	var near []string
	for _, n := range all {
		if len(topic) > 2 && strings.Contains(n, topic) && len(near) < 8 {
			near = append(near, "`"+n+"`")
		}
	}
	if n := diag.Nearest(topic, all); n != "" && len(near) == 0 {
		near = append(near, "`"+n+"`")
	}
	slices.Sort(near)
	return slices.Compact(near)
}

func (sh *Shell) helpDoc(d stdlib.Doc) {
	for _, l := range fold(d.Summary, sh.width()-5) {
		sh.say("    %s", l)
	}
	for line := range strings.Lines(strings.TrimSpace(d.Text)) {
		for _, l := range fold(line, sh.width()-5) {
			sh.say("    %s", l)
		}
	}
	if d.Example != "" {
		sh.say("    example: %s", strings.ReplaceAll(strings.TrimSpace(d.Example), "\n", "\n             "))
	}
	if len(d.SeeAlso) > 0 {
		sh.say("    see also: %s", strings.Join(d.SeeAlso, ", "))
	}
}

// lineForms are what a line of the prompt may be, beside a command.
var lineForms = [][2]string{
	{"PROBE { ACTION }", "attaches at once as an item, which runs on"},
	{"EXPRESSION", "is evaluated in the kernel and printed: pid, kstack, @"},
	{"STATEMENT", "runs once in the kernel; $x = ... is kept"},
	{"macro, struct, #define", "are definitions for the items that follow"},
}

var commandGroups = []string{groupItems, groupMaps, groupLearn, groupScreen, groupWork}

// helpBrief is the help for a screen that the list of commands does not fit on: their names.
func helpBrief(width int) string {
	var b strings.Builder
	for _, l := range lineForms {
		fmt.Fprintf(&b, "  %-24s%s\n", l[0], l[1])
	}
	b.WriteByte('\n')
	const left = 30
	for _, g := range commandGroups {
		var names []string
		for _, c := range commands() {
			if c.group == g {
				names = append(names, `\`+c.name)
			}
		}
		title := "  " + g
		for _, l := range fold(strings.Join(names, " "), width-left-1) {
			fmt.Fprintf(&b, "%-*s%s\n", left, title, l)
			title = ""
		}
	}
	for _, l := range fold("`\\help all` says what each does (longer than this screen), `\\help NAME` explains a command, function, variable, probe kind, config key or the code of a message.", width-1) {
		b.WriteString(l + "\n")
	}
	for _, l := range fold("Tab completes, Ctrl-R searches the history, Ctrl-C cancels a line or a view, Ctrl-D leaves.", width-1) {
		b.WriteString(l + "\n")
	}
	return b.String()
}

// helpText lists the commands by group, for a terminal of a width.
func helpText(width int) string {
	var b strings.Builder
	const left = 30
	row := func(form, text string) {
		if len(form) > left-3 {
			for _, l := range fold(form, width-4) {
				b.WriteString("  " + l + "\n")
			}
			form = ""
		}
		for _, l := range fold(text, width-left-1) {
			fmt.Fprintf(&b, "%s\n", strings.TrimRight(fmt.Sprintf("  %-*s%s", left-2, form, l), " "))
			form = ""
		}
	}
	for _, l := range lineForms {
		row(l[0], l[1])
	}
	for _, g := range commandGroups {
		fmt.Fprintf(&b, "\n%s\n", strings.ToUpper(g))
		for _, c := range commands() {
			if c.group == g {
				row(strings.TrimSpace(`\`+c.name+" "+c.args), c.summary)
			}
		}
	}
	b.WriteByte('\n')
	for _, l := range fold("Every command is a word too (`list`), and any beginning that is unique will do (`\\det #1`). Tab completes, Ctrl-R searches the history, Ctrl-C cancels a line or a view, Ctrl-D leaves.", width-1) {
		b.WriteString(l + "\n")
	}
	return b.String()
}

// fold breaks a text into lines of at most width columns, between words.
func fold(text string, width int) []string {
	var out []string
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(w)) > width {
			out = append(out, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	return append(out, line)
}

// maxListed is how many attach points \d shows.
const maxListed = 40

func (sh *Shell) cmdDescribe(_ context.Context, args string) error {
	args = strings.TrimSpace(args)
	switch {
	case args == "":
		return sh.listMaps()
	case strings.HasPrefix(args, "@"):
		return sh.describeMap(args)
	case strings.HasPrefix(args, "#"):
		it, err := sh.find(args)
		if err != nil {
			return err
		}
		sh.describeItem(it)
		return nil
	}
	what, name, two := strings.Cut(args, " ")
	if two && isTag(what) || strings.ContainsAny(args, ":*?[") {
		n, err := sh.describePattern(args)
		if err == nil && n == 0 {
			err = hintf("use wildcards, as in `*open*`; `\\d struct NAME` for a type", "nothing matches `%s`", args)
		}
		_ = name
		return err
	}
	found := false
	if sh.reg.Builtin(args) != nil {
		found = true
		if err := sh.cmdHelp(context.Background(), args); err != nil {
			return err
		}
	}
	for _, pattern := range []string{"struct " + args, "union " + args, "enum " + args, "*:" + args, "tracepoint:*:" + args} {
		n, err := sh.describePattern(pattern)
		if err != nil && !found {
			continue
		}
		if found = found || n > 0; n > 0 && (isTag(strings.Fields(pattern)[0]) || pattern[0] == '*') {
			break // tracepoints have been among all kinds
		}
	}
	if !found {
		return sh.cmdHelp(context.Background(), args)
	}
	return nil
}

func (sh *Shell) describePattern(pattern string) (n int, err error) {
	var b []byte
	more := 0
	opts := stdlib.ListOptions{Verbose: true, PID: sh.filter.pid()}
	if strings.HasSuffix(pattern, ":*") && strings.Count(pattern, "*") > 1 {
		opts.Verbose = false
	}
	err = stdlib.List(sh.cfg.Machine, sh.kinds, pattern, opts, func(l stdlib.Listed) bool {
		if n >= maxListed {
			more++
			return more < 100_000
		}
		n++
		b = l.Write(b)
		return true
	})
	var unknown *stdlib.UnknownKindError
	if errors.As(err, &unknown) {
		return 0, hintf("`\\help` lists the probe kinds", "%s", unknown.Error())
	}
	if more > 0 {
		b = fmt.Appendf(b, "... %s more; narrow the pattern\n", group(more))
	}
	sh.write(string(b))
	return n, err
}

func (sh *Shell) describeMap(name string) error {
	names, _, err := sh.mapNames(name)
	if err != nil {
		return err
	}
	info, err := sh.hub.Map(names[0])
	if err != nil {
		return err
	}
	dump, err := sh.hub.Dump(names[0])
	if err != nil {
		return err
	}
	key := "none, a scalar"
	if info.Key != nil {
		key = fmt.Sprintf("%s, %d bytes", info.Key, info.KeySize)
	}
	kind := info.Type.String()
	if info.Global != nil {
		kind = "memory that sonde maps"
		if info.PerCPU {
			kind += ", one copy for each CPU"
		}
	}
	var users []string
	sh.mu.Lock()
	for _, it := range sh.items {
		if it.session != nil && it.unit.info.Maps[names[0]] != nil {
			users = append(users, fmt.Sprintf("#%d", it.id))
		}
	}
	sh.mu.Unlock()
	if len(users) == 0 {
		users = []string{"none"}
	}
	sh.say("%s\n    key      %s\n    value    %s, %d bytes\n    kept in  %s\n    entries  %s of %s\n    memory   %s\n    items    %s", names[0], key, info.Value, info.ValueSize, kind,
		group(dump.N), group(max(info.MaxEntries, 1)), bytesText(info.Bytes), strings.Join(users, ", "))
	return nil
}

func (sh *Shell) describeItem(it *item) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.say("#%d %s\n    %s", it.id, it.state(), strings.ReplaceAll(strings.TrimSpace(it.text), "\n", "\n    "))
	sh.write(planText(it.unit.obj))
}
