package cdef

import (
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"

	"modernc.org/cc/v4"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// expansionLimit bounds the work of macro expansion, which can grow without end.
const expansionLimit = 20_000_000

// translate runs the C front end over the script's texts. Names that the script does not define are declared for it by a
// prelude made from Base and the table of constants. When that does not do, the installed headers are tried as well.
func (d *Defs) translate(texts []Text, diags *diag.List) {
	files := d.assemble(texts, false)
	if nameless(files, diags) {
		return
	}
	prelude := d.makePrelude(files)
	first, errs := d.runFrontEnd(builtins+prelude.text, files, prelude)
	if errs == nil {
		d.adopt(first)
		return
	}
	if d.opts.ReadFile != nil && len(d.include) > 0 {
		if u, err := d.runFrontEnd(cc.Builtin, d.assemble(texts, true), nil); err == nil {
			d.adopt(u)
			return
		}
	}
	d.report(errs, files, diags)
}

// nameless reports pointers without a name, as in `int *;`: the front end looks for what follows them behind the end of the text, for ever.
func nameless(files []cFile, diags *diag.List) bool {
	blank := func(s string) string { return strings.Repeat(" ", len(s)) }
	for _, f := range files {
		text := directivePattern().ReplaceAllStringFunc(quotePattern().ReplaceAllStringFunc(f.text, blank), blank)
		if at := namelessPattern().FindStringSubmatchIndex(text); at != nil && at[2] < len(f.file.Text) {
			diags.Errorf("E0201", f.file.Span(at[2], at[2]+1), "C definition: a pointer without a name").Hint("write a name behind the `*`")
			return true
		}
	}
	return false
}

// adopt takes over what a run found, and the values of macros that only the front end could evaluate.
func (d *Defs) adopt(u *unit) {
	d.own = u
	for name, m := range d.defines {
		if got := u.macros[name]; got != nil && m.Value == nil && !m.FuncLike {
			m.Value = got.Value
		}
	}
}

// cFile is a text for the front end, with its positions equal to those in the script.
type cFile struct {
	file *source.File
	text string
}

// assemble puts the C texts of each file where they stand in it, with blanks for everything else. Includes stay only when
// withHeaders is set or they are the user's own.
func (d *Defs) assemble(texts []Text, withHeaders bool) []cFile {
	var out []cFile
	var b strings.Builder
	var f *source.File
	pos := 0
	fill := func(to int) { // layout between texts
		for ; pos < to; pos++ {
			if c := f.Text[pos]; c == '\n' {
				b.WriteByte('\n')
			} else {
				b.WriteByte(' ')
			}
		}
	}
	flush := func() {
		if f != nil {
			out = append(out, cFile{f, b.String() + "\n"})
		}
		b.Reset()
		pos = 0
	}
	for _, t := range texts {
		if g := d.set.File(t.Span.Start); g != f {
			flush()
			f = g
		}
		if f == nil {
			continue
		}
		start := int(t.Span.Start - f.Base)
		if start < pos {
			start = pos
		}
		fill(start)
		text := t.Text
		if t.Directive && !withHeaders && isInclude(text) && !d.isOwnInclude(t.Span) {
			text = strings.Map(func(r rune) rune {
				if r == '\n' {
					return r
				}
				return ' '
			}, text)
		}
		b.WriteString(text)
		pos = start + len(t.Text)
		if !t.Directive && !strings.HasSuffix(strings.TrimSpace(text), ";") {
			b.WriteByte(';') // bpftrace lets it be left out
			if pos < len(f.Text) && (f.Text[pos] == ' ' || f.Text[pos] == '\t') {
				pos++
			}
		}
		if t.Directive && pos < len(f.Text) && f.Text[pos] != '\n' {
			b.WriteByte('\n')
		}
	}
	flush()
	return out
}

func isInclude(text string) bool {
	return strings.HasPrefix(strings.TrimSpace(strings.TrimPrefix(text, "#")), "include")
}

// lastWord is behind everything: what the front end looks for after a pointer is a name, and it looks for ever at the end of the text.
const lastWord = "extern int __sonde_last;\n"

// runFrontEnd translates one unit and converts what it defines. prelude tells which typedefs stand for types of Base; nil
// for none.
func (d *Defs) runFrontEnd(head string, files []cFile, prelude *prelude) (u *unit, err error) {
	abi, err := cc.NewABI("linux", d.opts.arch())
	if err != nil {
		return nil, err
	}
	cfg := &cc.Config{
		ABI: abi, FS: headerFS{d}, FSOnly: true, ExpansionLimit: expansionLimit, Header: true, EvalAllMacros: true,
		IncludePaths: d.includePaths(true), SysIncludePaths: d.includePaths(false), UnsignedEnums: true, IgnoreStaticAssert: true,
		PragmaHandler: func([]cc.Token) error { return nil },
	}
	sources := []cc.Source{{Name: "<predefined>", Value: d.opts.predefined(prelude == nil)}, {Name: "<builtin>", Value: head}}
	var first strings.Builder
	for _, path := range d.opts.Includes {
		fmt.Fprintf(&first, "#include %q\n", path)
	}
	if first.Len() > 0 {
		sources = append(sources, cc.Source{Name: "<command line>", Value: first.String()})
	}
	for _, f := range files {
		sources = append(sources, cc.Source{Name: f.file.Name, Value: f.text})
	}
	sources = append(sources, cc.Source{Name: "<end>", Value: lastWord})
	// The front end is large; a fault of its own must not take the session down.
	defer func() {
		if r := recover(); r != nil {
			u, err = nil, fmt.Errorf("the C front end failed: %v", r)
		}
	}()
	ast, err := cc.Translate(cfg, sources)
	if err != nil {
		return nil, err
	}
	c := &converter{defs: d, ast: ast, prelude: prelude, memo: map[cc.Type]*types.Type{}, attrs: map[cc.Type]memberAttrs{}, filled: map[cc.Type]bool{}}
	return c.unit()
}

// The patterns are compiled at their first use: most runs need none of them.
var (
	errorLine     = lazyPattern(`^(.*?):(\d+):(\d+): (.*?)(?: \(\w+\.go:\d+:\w*:?\))?$`)
	undefinedName = lazyPattern(`undefined: (\w+)|undefined type: (\w+)|unexpected identifier`)
	wordPattern   = lazyPattern(`[A-Za-z_]\w*`)
	tagPattern    = lazyPattern(`\b(struct|union|enum)\s+([A-Za-z_]\w*)(\s*\{)?`)
	definePattern = lazyPattern(`(?m)^\s*#\s*define\s+(\w+)`)
	// A directive goes on behind a backslash at the end of its line.
	directivePattern = lazyPattern(`(?m)^[ \t]*#(?:[^\n\\]|\\.|\\\n)*`)
	namelessPattern  = lazyPattern(`([*^])(?:\s|(?:const|volatile|restrict|__restrict|_Atomic)\b)*(?:[;}]|\z)`)
	quotePattern     = lazyPattern(`"(\\.|[^"\\])*"|//[^\n]*|(?s:/\*.*?\*/)`)
)

func lazyPattern(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// report turns the front end's messages into diagnostics, one per line of the script.
func (d *Defs) report(err error, files []cFile, diags *diag.List) {
	var faults conversionFaults
	if errors.As(err, &faults) {
		for _, f := range faults {
			diags.Errorf(f.code, findWord(files, f.word), "%s", f.msg).Hint("%s", f.hint)
		}
		return
	}
	before := diags.Len()
	lines := map[string]bool{}
	for _, text := range strings.Split(err.Error(), "\n") {
		m := errorLine().FindStringSubmatch(text)
		if m == nil || lines[m[1]+m[2]] {
			continue
		}
		lines[m[1]+m[2]] = true
		for _, f := range files {
			if f.file.Name != m[1] {
				continue
			}
			line, _ := strconv.Atoi(m[2])
			col, _ := strconv.Atoi(m[3])
			d.reportAt(f.file, line, col, m[4], diags)
		}
	}
	if diags.Len() == before {
		diags.Errorf("E0201", source.Span{}, "C definitions: %s", firstLine(err.Error()))
	}
}

// findWord returns the last place of a name in the C texts.
func findWord(files []cFile, word string) source.Span {
	for _, f := range files {
		for end := len(f.text); ; {
			i := strings.LastIndex(f.text[:end], word)
			if i < 0 {
				break
			}
			if i+len(word) <= len(f.file.Text) && f.file.Text[i:i+len(word)] == word {
				return f.file.Span(i, i+len(word))
			}
			end = i
		}
	}
	return source.Span{}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

func (d *Defs) reportAt(f *source.File, line, col int, msg string, diags *diag.List) {
	text := f.Line(line)
	start := min(max(col-1, 0), len(text))
	end := start
	for end < len(text) && (text[end] == '_' || text[end]|0x20 >= 'a' && text[end]|0x20 <= 'z' || text[end] >= '0' && text[end] <= '9') {
		end++
	}
	if end == start && end < len(text) {
		end++
	}
	off := 0
	for n := 1; n < line; n++ {
		if i := strings.IndexByte(f.Text[off:], '\n'); i >= 0 {
			off += i + 1
		}
	}
	if strings.Contains(msg, "unexpected identifier") {
		// The front end stumbles over the name behind a type that it does not know: point at the type.
		if w := wordPattern().FindAllStringIndex(text[:start], -1); len(w) > 0 {
			start, end = w[len(w)-1][0], w[len(w)-1][1]
		}
	}
	sp := f.Span(off+start, off+end)
	word := text[start:end]
	if undefinedName().MatchString(msg) && word != "" && (word[0] == '_' || word[0]|0x20 >= 'a') {
		e := diags.Errorf("E0202", sp, "unknown type `%s` in a C definition", word)
		if d.opts.Base != nil {
			if near := diag.Nearest(word, d.opts.Base.Names("typedef", word[:1], 2000)); near != "" {
				e.Hint("did you mean `%s`?", near)
				return
			}
			if d.opts.Base.StructType(word) != nil {
				e.Hint("write `struct %s`", word)
				return
			}
		}
		e.Hint("define it before it is used")
		return
	}
	diags.Errorf("E0201", sp, "C definition: %s", strings.ReplaceAll(msg, "'", "`"))
}

// prelude declares what the C text uses but does not define.
type prelude struct {
	text     string
	typedefs map[string]*types.Type // typedef names that stand for types of Base
	structs  map[string]*types.Type // tags likewise
}

// makePrelude looks up every name of the texts that could be a type or a constant. It declares some that are not needed;
// nothing depends on them.
func (d *Defs) makePrelude(files []cFile) *prelude {
	p := &prelude{typedefs: map[string]*types.Type{}, structs: map[string]*types.Type{}}
	defined := map[string]bool{}
	used := map[string]string{} // tag -> struct, union or enum
	words := map[string]bool{}
	for _, f := range files {
		text := quotePattern().ReplaceAllString(f.text, " ")
		for _, m := range tagPattern().FindAllStringSubmatch(text, -1) {
			if m[3] != "" {
				defined[m[2]] = true
			} else if used[m[2]] == "" {
				used[m[2]] = m[1]
			}
		}
		for _, w := range wordPattern().FindAllString(text, -1) {
			words[w] = true
		}
		for _, m := range definePattern().FindAllStringSubmatch(text, -1) {
			delete(words, m[1])
			defined["#"+m[1]] = true
		}
	}
	var b strings.Builder
	names := make([]string, 0, len(used))
	addKeys(used, func(n string) { names = append(names, n) })
	sort.Strings(names)
	for _, tag := range names {
		if !defined[tag] {
			p.declareTag(&b, d, used[tag], tag)
		}
	}
	names = names[:0]
	addKeys(words, func(n string) { names = append(names, n) })
	sort.Strings(names)
	for _, w := range names {
		if !isCKeyword(w) && !defined["#"+w] {
			p.declareWord(&b, d, w)
		}
	}
	p.text = b.String()
	return p
}

// declareTag declares a struct, union or enum of Base with its size and alignment, so that it can be embedded.
func (p *prelude) declareTag(b *strings.Builder, d *Defs, kind, tag string) {
	if d.opts.Base == nil || p.structs[tag] != nil {
		return
	}
	if kind == "enum" {
		if t := d.opts.Base.EnumType(tag); t != nil {
			p.structs[tag] = t
			fmt.Fprintf(b, "enum %s { __sonde_enum_%s };\n", tag, tag)
		}
		return
	}
	t := d.opts.Base.StructType(tag)
	if t == nil || t.Size == 0 {
		return
	}
	p.structs[tag] = t
	fmt.Fprintf(b, "%s %s { char __sonde_opaque[%d]; } __attribute__((aligned(%d)));\n", kind, tag, t.Size, alignOf(t))
}

// declareWord declares a typedef of Base or a constant. A constant must look like one, because a macro would also replace
// members of that name.
func (p *prelude) declareWord(b *strings.Builder, d *Defs, w string) {
	if d.opts.Base != nil {
		if t := d.opts.Base.Typedef(w); t != nil {
			if p.declareTypedef(b, d, w, t) {
				p.typedefs[w] = t
				return
			}
		}
	}
	if c := basicC(w); c != "" {
		fmt.Fprintf(b, "typedef %s %s;\n", c, w)
		return
	}
	if w != strings.ToUpper(w) {
		return
	}
	if d.opts.Base != nil {
		if v, _, ok := d.opts.Base.EnumConst(w); ok {
			fmt.Fprintf(b, "#define %s (%d)\n", w, v)
			return
		}
	}
	if v, ok := Constant(w, d.opts.Arch); ok {
		fmt.Fprintf(b, "#define %s (%d)\n", w, v)
	}
}

func (p *prelude) declareTypedef(b *strings.Builder, d *Defs, name string, t *types.Type) bool {
	switch t.Kind {
	case types.Int, types.Enum:
		sign := "unsigned"
		if t.Signed {
			sign = "signed"
		}
		word := map[int]string{1: "char", 2: "short", 4: "int", 8: "long"}[t.Size]
		if word == "" {
			return false
		}
		fmt.Fprintf(b, "typedef %s %s %s;\n", sign, word, name)
	case types.Bool:
		if name != "bool" && name != "_Bool" {
			fmt.Fprintf(b, "typedef _Bool %s;\n", name)
		} else if name == "bool" {
			b.WriteString("typedef _Bool bool;\n")
		}
	case types.Pointer:
		fmt.Fprintf(b, "typedef void *%s;\n", name)
	case types.Void:
		fmt.Fprintf(b, "typedef void %s;\n", name)
	default:
		if t.Size <= 0 {
			return false
		}
		fmt.Fprintf(b, "typedef struct { char __sonde_opaque[%d]; } __attribute__((aligned(%d))) %s;\n", t.Size, alignOf(t), name)
	}
	return true
}

func isCKeyword(w string) bool {
	switch w {
	case "auto", "break", "case", "char", "const", "continue", "default", "define", "do", "double", "else", "endif", "enum", "extern", "float", "for",
		"goto", "if", "ifdef", "ifndef", "include", "inline", "int", "long", "register", "restrict", "return", "short", "signed", "sizeof", "static",
		"struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "_Bool", "typeof", "__attribute__", "aligned", "packed":
		return true
	}
	return false
}
