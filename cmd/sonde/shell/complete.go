package shell

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/lexer"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/stdlib"
)

// maxCandidates is how many candidates are offered at once.
const maxCandidates = 400

// completer finds what may follow the text before the cursor. What it reads of the kernel is kept by the layers below.
type completer struct {
	sh *Shell
	// functions is set once the kernel's list of traceable functions is read, which takes it a third of a second. Until then the names that the
	// type information has are offered.
	functions atomic.Bool
}

func newCompleter(sh *Shell) *completer { return &completer{sh: sh} }

// warm reads what most completions need, while the user still reads the greeting.
func (c *completer) warm() {
	defer func() { _ = recover() }() // completion without the lists is slower, nothing else
	if fs, err := c.sh.cfg.Kernel.Tracefs(); err == nil {
		_, _ = fs.Categories()
	}
	if seq, _, err := c.sh.cfg.Kernel.TraceableFunctions("*", "vfs_read"); err == nil {
		for range seq {
			break
		}
		c.functions.Store(true)
	}
	_ = c.sh.cfg.Machine.Types.Names("struct", "task_", 1)
}

// complete gives the endings that fit, and how many runes of the candidates are typed already.
func (c *completer) complete(block, line string) (endings []string, typed int) {
	defer func() {
		if recover() != nil {
			endings, typed = nil, 0
		}
	}()
	prefix, list := c.candidates(block, line)
	for _, name := range list {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			endings = append(endings, rest)
		}
		if len(endings) >= maxCandidates {
			break
		}
	}
	return endings, len([]rune(prefix))
}

// candidates gives the part of a name before the cursor and the whole names that begin with it.
func (c *completer) candidates(block, line string) (prefix string, list []string) {
	trimmed := strings.TrimLeft(line, " \t")
	if block == "" {
		if strings.HasPrefix(trimmed, `\`) {
			return c.commandLine(trimmed[1:])
		}
		if cmd, _ := c.sh.command(trimmed); cmd != nil && strings.Contains(trimmed, " ") && cmd.takes != "" {
			return c.argument(cmd, trimmed[strings.IndexByte(trimmed, ' ')+1:])
		}
	}
	text := block + line
	if inCode(text) {
		return c.code(text)
	}
	start := strings.LastIndexAny(text, " \t\n,") + 1
	word := text[start:]
	if kind, rest, ok := strings.Cut(word, ":"); ok {
		return c.attachPoint(kind, rest)
	}
	if strings.ContainsAny(word, "$@.(->[\"") {
		return c.code(text)
	}
	prefix = word
	for _, k := range c.sh.kinds {
		name := k.Kind.Name()
		if !oneWordKind(name) {
			name += ":"
		}
		list = append(list, name)
	}
	_, names := c.names(word)
	list = append(list, names...)
	if block == "" && start == 0 {
		for _, n := range commandNames() {
			list = append(list, n+" ")
		}
	}
	slices.Sort(list)
	return prefix, slices.Compact(list)
}

func oneWordKind(name string) bool { return name == "begin" || name == "end" }

// inCode tells whether the end of a text is inside the braces or the predicate of a probe, rather than in an attach point.
func inCode(text string) bool {
	if !looksLikeItem(strings.TrimSpace(text)) {
		t := strings.TrimSpace(text)
		return strings.ContainsAny(t, "({[=@$") || strings.Contains(t, ".") && !strings.Contains(t, ":")
	}
	depth := 0
	predicate := false
	unquoted(text, func(i int, ch byte) {
		switch {
		case ch == '{':
			depth++
		case ch == '}':
			depth--
			predicate = false
		case ch == '/' && depth == 0 && i > 0 && (text[i-1] == ' ' || text[i-1] == '\n'):
			predicate = !predicate
		}
	})
	return depth > 0 || predicate
}

func (c *completer) commandLine(text string) (prefix string, list []string) {
	name, args, more := strings.Cut(text, " ")
	if !more {
		for _, cmd := range commands() {
			end := " "
			if cmd.args == "" {
				end = ""
			}
			list = append(list, cmd.name+end)
		}
		slices.Sort(list)
		return name, list
	}
	cmd, _ := findCommand(name)
	if cmd == nil {
		return "", nil
	}
	return c.argument(cmd, args)
}

// argument completes the last word of a command's arguments.
func (c *completer) argument(cmd *command, args string) (prefix string, list []string) {
	prefix = args[strings.LastIndexAny(args, " ,")+1:]
	switch cmd.takes {
	case "map":
		return prefix, c.sh.userMaps()
	case "item":
		c.sh.mu.Lock()
		defer c.sh.mu.Unlock()
		for _, it := range c.sh.items {
			list = append(list, fmt.Sprintf("#%d", it.id))
		}
		return prefix, list
	case "path":
		return prefix, paths(prefix, nil)
	case "set":
		list = c.sh.reg.Names("config")
		for k := range c.sh.choices() {
			list = append(list, k)
		}
	case "topic":
		list = append(commandNames(), c.sh.reg.Names("func")...)
		list = append(append(list, c.sh.reg.Names("var")...), c.sh.reg.Names("kind")...)
	case "lesson":
		for i := range lessonList() {
			list = append(list, fmt.Sprint(i+1))
		}
	case "pattern":
		if kind, rest, ok := strings.Cut(prefix, ":"); ok {
			return c.attachPoint(kind, rest)
		}
		if what, name, ok := strings.Cut(args, " "); ok && isTag(what) {
			return name, c.sh.cfg.Machine.Types.Names(what, name, maxCandidates)
		}
		if strings.HasPrefix(prefix, "@") {
			return prefix, c.sh.userMaps()
		}
		list = append([]string{"struct ", "union ", "enum "}, c.sh.reg.Names("func")...)
		list = append(list, c.sh.reg.Names("var")...)
		for _, k := range c.sh.kinds {
			list = append(list, k.Kind.Name()+":")
		}
	default:
		for _, w := range strings.Fields(strings.NewReplacer("|", " ", "[", " ", "]", " ").Replace(cmd.args)) {
			if isWord(w) {
				list = append(list, w)
			}
		}
	}
	slices.Sort(list)
	return prefix, slices.Compact(list)
}

func isTag(word string) bool { return word == "struct" || word == "union" || word == "enum" }

// attachPoint completes the segments of an attach point. The part before the cursor is the last segment.
func (c *completer) attachPoint(kind, rest string) (prefix string, list []string) {
	k := stdlib.FindKind(c.sh.kinds, kind)
	if k == nil {
		return "", nil
	}
	segments := strings.Split(rest, ":")
	prefix = segments[len(segments)-1]
	if name := k.Name(); (name == "uprobe" || name == "uretprobe" || name == "usdt") && len(segments) == 1 {
		return prefix, c.binaries(prefix)
	}
	if k.Name() == "tracepoint" && len(segments) <= 2 {
		return prefix, c.events(segments)
	}
	if len(segments) == 1 && !c.functions.Load() {
		switch k.Name() {
		case "fentry", "fexit", "kprobe", "kretprobe":
			return prefix, c.sh.cfg.Machine.Types.Names("func", prefix, maxCandidates)
		}
	}
	pattern := slices.Clone(segments)
	pattern[len(pattern)-1] += "*"
	seen := map[string]bool{}
	skip := len(segments) // parts of a listed name before the segment: its kind and the segments before
	_ = k.(stdlib.Kind).List(pattern, stdlib.ListOptions{PID: c.sh.filter.pid()}, func(l stdlib.Listed) bool {
		parts := strings.Split(l.Name, ":")
		if len(parts) <= skip {
			return true
		}
		// A kind may list more segments than were asked for: kprobe:module:function.
		name := parts[skip]
		if !strings.HasPrefix(name, prefix) {
			if name = parts[len(parts)-1]; !strings.HasPrefix(name, prefix) {
				return true
			}
		} else if len(parts) > skip+1 {
			name += ":"
		}
		if !seen[name] {
			seen[name] = true
			list = append(list, name)
		}
		return len(list) < maxCandidates
	})
	slices.Sort(list)
	return prefix, list
}

// events completes the categories and names of tracepoints from the directories of tracefs, which is much faster than its list.
func (c *completer) events(segments []string) []string {
	fs, err := c.sh.cfg.Kernel.Tracefs()
	if err != nil {
		return nil
	}
	dir, end := filepath.Join(fs.Dir(), "events"), ":"
	if len(segments) == 2 {
		if segments[0] == "" || segments[0] != filepath.Base(segments[0]) {
			return nil
		}
		dir, end = filepath.Join(dir, segments[0]), ""
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		if name := e.Name(); e.IsDir() && strings.HasPrefix(name, segments[len(segments)-1]) {
			list = append(list, name+end)
		}
	}
	return list
}

// binaries completes what a uprobe is put into: libraries by their short names, programs and files by path.
func (c *completer) binaries(prefix string) []string {
	if strings.Contains(prefix, "/") {
		return paths(prefix, func(name string, dir bool) string {
			if dir {
				return name
			}
			return name + ":"
		})
	}
	var list []string
	seen := map[string]bool{}
	for _, dir := range []string{"/lib64", "/usr/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/local/lib"} {
		names, _ := filepath.Glob(filepath.Join(dir, prefix+"*.so*"))
		for _, n := range names {
			name, _, _ := strings.Cut(filepath.Base(n), ".so")
			if !seen[name] {
				seen[name] = true
				list = append(list, name+":")
			}
		}
	}
	slices.Sort(list)
	return list
}

// homePath puts the home directory in the place of a leading ~, as completion offers it.
func homePath(path string) string {
	if home, err := os.UserHomeDir(); err == nil && strings.HasPrefix(path, "~/") {
		return home + path[1:]
	}
	return path
}

// paths completes a path; finish may change a name that is complete.
func paths(prefix string, finish func(name string, dir bool) string) []string {
	dir, _ := filepath.Split(prefix)
	where := homePath(dir)
	if where == "" {
		where = "."
	}
	entries, err := os.ReadDir(where)
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		name := dir + e.Name()
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		isDir := e.IsDir()
		if st, err := os.Stat(filepath.Join(where, e.Name())); err == nil {
			isDir = st.IsDir()
		}
		if isDir {
			name += "/"
		}
		if finish != nil {
			name = finish(name, isDir)
		}
		list = append(list, name)
	}
	return list
}

// code completes inside an action, a predicate or an expression.
func (c *completer) code(text string) (prefix string, list []string) {
	start := len(text)
	for start > 0 && isNameByte(text[start-1]) {
		start--
	}
	prefix = text[start:]
	before := text[:start]
	switch {
	case insideString(text):
		return "", nil
	case strings.HasSuffix(before, "@"):
		return "@" + prefix, append(c.sh.userMaps(), namesInText(text, '@')...)
	case strings.HasSuffix(before, "$"):
		list = namesInText(text, '$')
		for v := range c.sh.vars {
			list = append(list, v)
		}
		slices.Sort(list)
		return "$" + prefix, slices.Compact(list)
	case strings.HasSuffix(before, "->"):
		return prefix, c.fields(before[:len(before)-2], prefix)
	case strings.HasSuffix(before, ".") && !strings.HasSuffix(before, ".."):
		return prefix, c.fields(before[:len(before)-1], prefix)
	}
	words := strings.Fields(before)
	if len(words) > 0 {
		if tag := strings.TrimLeft(words[len(words)-1], "(*"); isTag(tag) {
			return prefix, c.sh.cfg.Machine.Types.Names(tag, prefix, maxCandidates)
		}
	}
	_, list = c.names(prefix)
	slices.Sort(list)
	return prefix, slices.Compact(list)
}

// names are the words of the language that begin with a prefix.
func (c *completer) names(prefix string) (string, []string) {
	var list []string
	for _, n := range c.sh.reg.Names("func") {
		list = append(list, n+"(")
	}
	for _, n := range c.sh.reg.Names("macro") {
		list = append(list, n+"(")
	}
	list = append(list, c.sh.reg.Names("var")...)
	list = append(list, lexer.Keywords()...)
	if len(prefix) >= 3 && strings.ToUpper(prefix) == prefix {
		list = append(list, c.sh.cfg.Machine.Types.Names("const", prefix, 100)...)
	}
	list = slices.DeleteFunc(list, func(s string) bool { return !strings.HasPrefix(s, prefix) })
	return prefix, list
}

func isNameByte(b byte) bool {
	return b == '_' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
}

// insideString tells whether a text ends inside of a string.
func insideString(text string) bool { return unquoted(text, func(int, byte) {}) }

// unquoted calls f for the bytes that are outside of strings; it reports whether the text ends inside of one.
func unquoted(text string, f func(i int, ch byte)) (open bool) {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '"':
			open = !open
		case open && text[i] == '\\':
			i++
		case !open:
			f(i, text[i])
		}
	}
	return open
}

// namesInText lists the variables or maps that a text uses, without the one at its end.
func namesInText(text string, mark byte) []string {
	var list []string
	for i := 0; i < len(text); i++ {
		if text[i] != mark {
			continue
		}
		end := i + 1
		for end < len(text) && isNameByte(text[end]) {
			end++
		}
		if end < len(text) && end > i+1 {
			list = append(list, text[i:end])
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// fields completes the members of the value that a text ends with. With more than one candidate their types are shown above the line.
func (c *completer) fields(text, prefix string) []string {
	t := c.typeOf(text)
	var names []string
	var lines []string
	for _, f := range membersOf(t) {
		if strings.HasPrefix(f.Name, prefix) {
			names = append(names, f.Name)
			lines = append(lines, fmt.Sprintf("    %-28s %s", f.Name, f.Type))
		}
	}
	slices.Sort(names)
	if len(names) > 1 && len(names) <= 60 && c.sh.editor != nil {
		c.sh.write(strings.Join(lines, "\n") + "\n")
		// The list is on the screen already: only what all candidates share is left to insert.
		if common := commonPrefix(names); len(common) > len(prefix) {
			return []string{common}
		}
		return nil
	}
	return names
}

func commonPrefix(names []string) string {
	p := names[0]
	for _, n := range names[1:] {
		for !strings.HasPrefix(n, p) {
			p = p[:len(p)-1]
		}
	}
	return p
}

// membersOf lists the members of a struct, of what a pointer points to, of `args` or of a record. Those of anonymous members are theirs.
func membersOf(t *types.Type) []types.Field {
	if t == nil {
		return nil
	}
	switch t.Kind {
	case types.Pointer:
		return membersOf(t.Elem)
	case types.Struct, types.Args:
		fields := t.Fields
		if t.Struct != nil {
			fields = t.Struct.Resolve()
		}
		var out []types.Field
		for _, f := range fields {
			if f.Name == "" {
				out = append(out, membersOf(f.Type)...)
				continue
			}
			out = append(out, f)
		}
		return out
	case types.Record:
		return t.Fields
	}
	return nil
}

// typeOf finds the type of the expression that a text ends with: the statements before it are kept, the one that it is in is cut down to it.
func (c *completer) typeOf(text string) *types.Type {
	start := chainStart(text)
	chain := strings.TrimSpace(text[start:])
	if chain == "" {
		return nil
	}
	head := ""
	open := 0
	if looksLikeItem(strings.TrimSpace(text)) {
		body := strings.IndexByte(text, '{')
		if body < 0 || body > start { // in the predicate
			slash := strings.Index(text, " /")
			if slash < 0 {
				return nil
			}
			head, open = text[:slash]+" {", 1
		} else {
			cut := body + 1
			unquoted(text[:start], func(i int, ch byte) {
				if i < body {
					return
				}
				switch ch {
				case '{':
					open++
					cut = i + 1
				case '}':
					open--
					cut = i + 1
				case ';':
					cut = i + 1
				}
			})
			head = text[:cut]
		}
	} else {
		head, open = "begin {", 1
	}
	const mark = "completion"
	u := newUnit(mark, head+" print(("+chain+"));"+strings.Repeat("}", max(open, 1)))
	u.parse()
	if u.diags.HasErrors() {
		return nil
	}
	c.sh.check(u)
	if u.info == nil {
		return nil
	}
	var found *types.Type
	for _, b := range u.info.Bodies {
		ast.Inspect(b.Block, func(n ast.Node) bool {
			if call, ok := n.(*ast.Call); ok && call.Func == "print" && len(call.Args) == 1 {
				if p, ok := call.Args[0].(*ast.Paren); ok {
					if t := b.Types[p.X]; t != nil {
						found = t
					}
				} else if t := b.Types[call.Args[0]]; t != nil {
					found = t
				}
			}
			return true
		})
	}
	return found
}

// chainStart finds where the expression starts that a text ends with: names, calls, indexes and casts, joined by `.` and `->`.
func chainStart(text string) int {
	i := len(text)
	for i > 0 {
		switch ch := text[i-1]; {
		case isNameByte(ch) || ch == '$' || ch == '@' || ch == '.':
			i--
		case ch == '>' && i > 1 && text[i-2] == '-':
			i -= 2
		case ch == ')' || ch == ']':
			depth := 0
			for i > 0 {
				i--
				if text[i] == ')' || text[i] == ']' {
					depth++
				} else if text[i] == '(' || text[i] == '[' {
					if depth--; depth == 0 {
						break
					}
				}
			}
			// A cast: (struct task_struct *)arg0
		default:
			return i
		}
	}
	return i
}

// signature describes the function whose arguments the end of a text is in; "" outside of calls.
func (sh *Shell) signature(text string) string {
	var open []int
	unquoted(text, func(i int, ch byte) {
		switch ch {
		case '(':
			open = append(open, i)
		case ')':
			open = open[:max(0, len(open)-1)]
		case ';', '{', '}':
			open = open[:0]
		}
	})
	for len(open) > 0 {
		end := open[len(open)-1]
		start := end
		for start > 0 && isNameByte(text[start-1]) {
			start--
		}
		if b := sh.reg.Builtin(text[start:end]); b != nil && b.Func != nil {
			return callForm(b) + "  " + b.Doc.Summary
		}
		open = open[:len(open)-1] // parentheses that only group
	}
	return ""
}

// callForm writes how a function is called: `printf(format, [args...])`.
func callForm(b *stdlib.Builtin) string {
	if b.Func == nil {
		return b.Name
	}
	var parts []string
	for _, p := range b.Func.Params {
		name := p.Name
		if len(p.Words) > 0 {
			name = strings.Join(p.Words, "|")
		}
		if p.Variadic {
			name += "..."
		}
		if p.Optional || p.Variadic {
			name = "[" + name + "]"
		}
		parts = append(parts, name)
	}
	return b.Name + "(" + strings.Join(parts, ", ") + ")"
}
