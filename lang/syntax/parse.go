package syntax

import (
	"strings"

	"github.com/alecthomas/participle/v2"
	plexer "github.com/alecthomas/participle/v2/lexer"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/lexer"
	"github.com/sonde-sh/sonde/lang/source"
)

// Parse parses the file f of set. Faults go to diags, at most one per top-level item and line; the tree holds the items
// that are sound, so that the checker can report on them too. It never returns nil.
func Parse(set *source.Set, f *source.File, diags *diag.List) *ast.Script {
	var lexed diag.List
	res := lexer.Lex(f, &lexed)
	s := &ast.Script{Base: base(f.Span(0, len(f.Text))), Shebang: res.Shebang}
	for _, c := range res.Comments {
		s.Comments = append(s.Comments, ast.Comment{Base: base(c.Span), Text: c.Text})
	}
	faultLines := map[int]bool{}
	for _, d := range lexed.All() {
		line := set.Position(d.Span.Start).Line
		if !faultLines[line] || d.Severity != diag.Error {
			diags.Add(d)
		}
		faultLines[line] = true
	}
	r := &reader{res: res, diags: diags}
	for i := range res.Items {
		it := &res.Items[i]
		if it.Broken {
			r.wasBroken = true
			r.note(it)
			continue
		}
		item, fault := r.item(it)
		if fault != nil {
			line := set.Position(fault.span.Start).Line
			isEcho := r.wasBroken && fault.echo
			if !faultLines[line] && !isEcho {
				fault.report(diags)
			}
			faultLines[line] = true
			r.wasBroken = true
			r.note(it)
			continue
		}
		r.wasBroken = false
		if f := r.order(item); f != nil {
			f.report(diags)
		}
		s.Items = append(s.Items, item)
	}
	return s
}

// ParseExpr parses the whole of f as one expression; nil after a fault, which was reported.
func ParseExpr(f *source.File, diags *diag.List) ast.Expr {
	before := diags.Len()
	res := lexer.LexExpr(f, diags)
	if diags.Len() > before {
		return nil
	}
	lex, err := plexer.Upgrade(lexer.NewStream(res.Tokens, f.Base+int32(len(f.Text))))
	if err != nil {
		return nil
	}
	p := theGrammar().parser(lex)
	x, err := p.run((*parser).expr)
	if err == nil && !lex.Peek().EOF() {
		err = explain(unexpected(lex.Peek(), "the end of the expression"), lex.Peek(), prevToken(lex))
	}
	if err != nil {
		asFault(err, prevToken(lex)).report(diags)
		return nil
	}
	return x
}

// ParseStatements parses the whole of f as the statements of a body, as they are typed at the prompt; nil after a fault, which was reported.
func ParseStatements(f *source.File, diags *diag.List) *ast.Block {
	before := diags.Len()
	res := lexer.LexExpr(f, diags)
	if diags.Len() > before {
		return nil
	}
	end := len(f.Text)
	tokens := make([]lexer.Token, 0, len(res.Tokens)+2)
	tokens = append(tokens, lexer.Token{Kind: lexer.Op, Text: "{", Span: f.Span(0, 0)})
	tokens = append(tokens, res.Tokens...)
	tokens = append(tokens, lexer.Token{Kind: lexer.Op, Text: "}", Span: f.Span(end, end)})
	lex, err := plexer.Upgrade(lexer.NewStream(tokens, f.Base+int32(end)))
	if err != nil {
		return nil
	}
	raw, err := theGrammar().block.ParseFromLexer(lex, participle.AllowTrailing(true))
	if err == nil && !lex.Peek().EOF() {
		err = explain(unexpected(lex.Peek(), "the end of the statement"), lex.Peek(), prevToken(lex))
	}
	if err != nil {
		asFault(err, prevToken(lex)).report(diags)
		return nil
	}
	b, fault := convertBlock(raw, false)
	if fault != nil {
		fault.report(diags)
		return nil
	}
	return b
}

// Incomplete reports whether text stops in the middle of an item: inside a bracket, a comment, a definition, or before
// the body of a probe. The prompt then asks for another line. A text that is wrong but complete gives false.
func Incomplete(text string) bool {
	_, f := source.NewSet("", text)
	var diags diag.List
	res := lexer.Lex(f, &diags)
	if len(res.Items) == 0 {
		return res.Unfinished
	}
	last := res.Items[len(res.Items)-1]
	tokens := res.Tokens[last.First:last.Last]
	if len(tokens) > 0 && tokens[0].Kind == lexer.AttachPoint && looksLikeCode(tokens[0].Text) {
		return IncompleteStatements(text)
	}
	return res.Unfinished
}

// IncompleteStatements is Incomplete for statements or an expression typed at the prompt: only brackets and the last operator count.
func IncompleteStatements(text string) bool {
	_, f := source.NewSet("", text)
	var diags diag.List
	res := lexer.LexExpr(f, &diags)
	if res.Unfinished || len(res.Tokens) == 0 {
		return res.Unfinished
	}
	end := res.Tokens[len(res.Tokens)-1]
	switch res.Tokens[0].Text {
	case "if", "for", "while", "unroll":
		if end.Text == ")" || end.Text == "else" { // its block is still to come
			return true
		}
	}
	return end.Kind == lexer.Assign || end.Kind == lexer.Op && strings.Contains("|| && | ^ & == != < > <= >= << >> + - * / % ? : , . ->", end.Text)
}

// looksLikeCode tells a statement in the place of an attach point: it is the usual sight behind a brace too many.
func looksLikeCode(text string) bool {
	if text == "" {
		return false
	}
	if strings.ContainsRune("$@()[]=+-!&|<>;", rune(text[0])) {
		return true
	}
	i := strings.IndexAny(text, ":(=;")
	if i < 0 || text[i] == ':' {
		return false
	}
	switch strings.ToLower(text[i+1:]) {
	case "begin", "end": // a named probe
		return text[i] != '='
	}
	return text[i] != '=' || !strings.Contains(text, ":") // `name=kind:...` names a probe
}

// isParam tells a probe whose first attach point is a positional parameter: `$1 { ... }`, `name=$1, end { ... }`.
func isParam(tokens []lexer.Token) bool {
	text := tokens[0].Text
	if name, rest, ok := strings.Cut(text, "="); ok && !strings.HasPrefix(name, "$") {
		text = rest
	}
	if len(text) < 2 || text[0] != '$' || text[1] < '0' || text[1] > '9' || len(tokens) < 2 {
		return false
	}
	next := &tokens[1]
	return next.Kind == lexer.PredOpen || next.Kind == lexer.Op && (next.Text == "{" || next.Text == ",")
}

// reader turns items into tree nodes, one after the other.
type reader struct {
	res       *lexer.Result
	diags     *diag.List
	wasBroken bool // the item before had a fault, so that a stray rest of it is no news

	config *ast.Config
	main   source.Span // the first probe, macro, function or map declaration
}

// item parses one item.
func (r *reader) item(it *lexer.Item) (ast.Item, *fault) {
	tokens := r.res.Tokens[it.First:it.Last]
	if len(tokens) == 0 {
		return nil, newFault("E0101", it.Open, "unexpected end of script")
	}
	if f := r.precheck(tokens); f != nil {
		return nil, f
	}
	last := tokens[len(tokens)-1].Span
	b := base(tokens[0].Span.To(last))
	if k := tokens[0].Kind; k == lexer.CText || k == lexer.Directive {
		return convertC(&tokens[0], b), nil
	}
	lex, err := plexer.Upgrade(lexer.NewStream(tokens, last.End))
	if err != nil {
		return nil, asFault(err, nil)
	}
	var n ast.Item
	var f *fault
	if tokens[0].Kind == lexer.AttachPoint {
		var raw *gProbe
		if raw, err = theGrammar().probe.ParseFromLexer(lex, participle.AllowTrailing(true)); err == nil && lex.Peek().EOF() {
			n, f = convertProbe(raw, b)
		}
	} else {
		var raw *gDecl
		if raw, err = theDeclarations().ParseFromLexer(lex, participle.AllowTrailing(true)); err == nil && lex.Peek().EOF() {
			n, f = convertDecl(raw, b)
		}
	}
	if err == nil && !lex.Peek().EOF() {
		err = unexpected(lex.Peek(), "")
	}
	if err != nil {
		return nil, r.atEnd(asFault(err, prevToken(lex)), it, tokens)
	}
	return n, f
}

// atEnd rewords a fault at the end of an unfinished item: what matters there is the bracket that was never closed.
func (r *reader) atEnd(f *fault, it *lexer.Item, tokens []lexer.Token) *fault {
	end := tokens[len(tokens)-1].Span.End
	if f.span.Start < end || f.code != "E0102" {
		return f
	}
	last := source.Span{Start: end - 1, End: end}
	switch {
	case it.Open.IsValid():
		open := r.openText(it.Open)
		closing := map[string]string{"{": "}", "(": ")", "[": "]"}[open]
		f := newFault("E0102", it.Open, "syntax: expected '%s': this `%s` is not closed", closing, open).hint("add the missing `%s`", closing)
		if it.Resumed.IsValid() {
			f.label = labelAt(it.Resumed, "the next probe seems to start here")
		}
		return f
	case tokens[0].Kind == lexer.AttachPoint:
		f := newFault("E0102", last, "syntax: expected '{', found end of script").hint("give the probe a body: `{ ... }`")
		if it.Resumed.IsValid() {
			f.msg = "this probe has no body"
		}
		return f
	}
	f.span = last
	return f
}

// precheck finds the faults of an item's start that the grammar cannot explain well.
func (r *reader) precheck(tokens []lexer.Token) *fault {
	t := tokens[0]
	switch {
	case t.Kind == lexer.Op && t.Text == "}":
		return newFault("E0101", t.Span, "syntax: expected '{': no block is open that this `}` could close").hint("remove it, or look for a `}` too many above")
	case t.Kind == lexer.Op && t.Text == "{":
		return newFault("E0111", t.Span, "syntax: expected attach point before `{`").
			hint("name the event, for example `kprobe:vfs_read { ... }`")
	case t.Kind == lexer.Op && t.Text == ",":
		return newFault("E0111", t.Span, "syntax: expected attach point, found `,`").hint("remove it")
	case t.Kind == lexer.Op && t.Text == ";":
		return newFault("E0101", t.Span, "syntax: expected '{': there is no probe before `;`").hint("remove it")
	case t.Kind == lexer.PredOpen:
		return newFault("E0111", t.Span, "syntax: expected attach point before the predicate").
			hint("name the event first, for example `kprobe:vfs_read /pid == 1/ { ... }`")
	case t.Kind == lexer.Keyword && t.Text == "let" && (len(tokens) < 2 || tokens[1].Kind != lexer.Map):
		return newFault("E0117", t.Span, "syntax: root-level let statements need to be map declarations, e.g. let @a = hash(2);").
			hint("move the scratch variable into a probe")
	case t.Kind == lexer.AttachPoint && !strings.Contains(t.Text, ":") && looksLikeCode(t.Text) && !isParam(tokens):
		f := newFault("E0111", t.Span, "`%s` is not an attach point", t.Text).
			hint("statements belong into the `{ }` of a probe; look for a `}` too many above")
		f.echo = true
		return f
	case t.Kind == lexer.AttachPoint:
		return checkAttachList(tokens)
	}
	return nil
}

// checkAttachList checks that commas separate the attach points of a probe; one more at the end is allowed.
func checkAttachList(tokens []lexer.Token) *fault {
	wantPoint := true
	for i := range tokens {
		t := &tokens[i]
		isPoint := t.Kind == lexer.AttachPoint
		switch {
		case !isPoint && t.Text != ",":
			return nil
		case isPoint && !wantPoint:
			return strayAttachPoint(t, &tokens[i-1])
		case isPoint && strings.HasSuffix(t.Text, "/") && !strings.HasSuffix(t.Text, ":/"):
			return newFault("E0111", t.Span, "attach point `%s` ends in a slash", t.Text).
				hint("put a blank between the attach point and the `/` of its predicate")
		case !isPoint && wantPoint:
			return newFault("E0111", t.Span, "syntax: expected attach point, found `,`").hint("remove it")
		}
		wantPoint = !isPoint
	}
	return nil
}

// strayAttachPoint explains text that follows an attach point without a comma.
func strayAttachPoint(t, prev *lexer.Token) *fault {
	f := newFault("E0111", t.Span, "syntax: expected '{', found `%s`", t.Text)
	switch {
	case looksLikeCode(t.Text) && !strings.Contains(prev.Text, "/"):
		return f.hint("put the statements of a probe into `{ }`")
	case strings.Contains(prev.Text, "/"):
		return f.hint("put a blank between the attach point and the `/` of its predicate")
	}
	return f.hint("separate attach points with `,`, put a predicate between `/` and the body into `{ }`")
}

// convertDecl turns a parsed declaration into its node.
func convertDecl(raw *gDecl, b ast.Base) (ast.Item, *fault) {
	switch {
	case raw.Config != nil:
		return convertConfig(raw.Config, b)
	case raw.Import != nil:
		n, f := convertImport(raw.Import)
		if f != nil {
			return nil, f
		}
		return n, nil
	case raw.Macro != nil:
		return convertMacro(raw.Macro, b)
	case raw.Subprog != nil:
		return convertSubprog(raw.Subprog, b)
	}
	m := &ast.MapDecl{Base: b, Name: raw.MapDecl.Name.Value, Kind: raw.MapDecl.Kind.Value}
	for _, a := range raw.MapDecl.Args {
		m.Args = append(m.Args, a)
	}
	return m, nil
}

// configWord is the keyword of a config block.
func configWord(c *ast.Config) source.Span {
	return source.Span{Start: c.Sp.Start, End: c.Sp.Start + int32(len("config"))}
}

// order enforces what must come first: C definitions, config and imports precede probes, macros, functions and maps.
func (r *reader) order(item ast.Item) *fault {
	late := func(what string) *fault {
		if !r.main.IsValid() {
			return nil
		}
		sp := item.Span()
		if c, ok := item.(*ast.Config); ok {
			sp = configWord(c)
		}
		f := newFault("E0110", sp, "syntax: %s must appear before probes and functions", what).
			hint("move it to the top of the script")
		f.label = labelAt(r.main, "the first of them")
		return f
	}
	switch n := item.(type) {
	case *ast.CDef:
		return late("C definitions")
	case *ast.Import:
		return late("imports")
	case *ast.Config:
		if r.config != nil {
			f := newFault("E0110", configWord(n), "syntax: duplicate config block").hint("merge the two blocks")
			f.label = labelAt(r.config.Sp, "the first one")
			return f
		}
		r.config = n
		return late("config")
	}
	if !r.main.IsValid() {
		r.main = firstWord(item)
	}
	return nil
}

// note remembers where the main part starts although the item there was faulty.
func (r *reader) note(it *lexer.Item) {
	if !r.main.IsValid() && it.Last > it.First && r.res.Tokens[it.First].Kind == lexer.AttachPoint {
		r.main = r.res.Tokens[it.First].Span
	}
}

// firstWord returns a short span at the start of an item, for labels.
func firstWord(item ast.Item) source.Span {
	if p, ok := item.(*ast.Probe); ok && len(p.Attach) > 0 {
		return p.Attach[0].Sp
	}
	sp := item.Span()
	return source.Span{Start: sp.Start, End: min(sp.End, sp.Start+3)}
}

// openText returns the text of the token at sp.
func (r *reader) openText(sp source.Span) string {
	for i := range r.res.Tokens {
		if r.res.Tokens[i].Span == sp {
			return r.res.Tokens[i].Text
		}
	}
	return "{"
}
