package ir

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/sonde-sh/sonde/lang/source"
)

// names maps the words of the text form back to what they mean.
type names struct {
	ops     map[string]Op
	types   map[string]Type
	kinds   map[string]FuncKind
	classes map[string]SlotClass
	helpers map[string]int64
}

var tables = sync.OnceValue(func() *names {
	n := &names{map[string]Op{}, map[string]Type{}, map[string]FuncKind{}, map[string]SlotClass{}, map[string]int64{}}
	for op := OpInvalid + 1; op < NumOps; op++ {
		n.ops[Ops[op].Name] = op
	}
	for t, s := range typeNames {
		n.types[s] = Type(t)
	}
	for k, s := range kindNames {
		n.kinds[s] = FuncKind(k)
	}
	for c, s := range classNames {
		n.classes[s] = SlotClass(c)
	}
	for i := int64(1); i < 512; i++ {
		if s := helperName(i); strings.HasPrefix(s, "Fn") {
			n.helpers[s] = i
		}
	}
	return n
})

// Parse reads the text form of a module. Errors name the line. The result is not verified.
func Parse(text string) (*Module, error) {
	p := &parser{m: &Module{}, funcs: map[string]*Func{}}
	for i, line := range strings.Split(text, "\n") {
		p.line = i + 1
		toks, err := tokens(line)
		if err == nil && len(toks) > 0 {
			p.toks = toks
			err = p.parseLine()
		}
		if err != nil {
			return nil, fmt.Errorf("ir: line %d: %w", p.line, err)
		}
	}
	if p.f != nil {
		return nil, fmt.Errorf("ir: line %d: function %q is not closed", p.line, p.f.Name)
	}
	for _, fix := range p.funcFixes {
		f := p.funcs[fix.name]
		if f == nil {
			return nil, fmt.Errorf("ir: line %d: no function %q", fix.line, fix.name)
		}
		fix.v.Aux = f
	}
	for _, fix := range p.slotFixes {
		f := p.funcs[fix.name]
		if f == nil {
			return nil, fmt.Errorf("ir: line %d: no function %q", fix.line, fix.name)
		}
		for _, s := range f.Slots {
			if s.ID == fix.id {
				fix.s.Of, fix.s.In = s, f
			}
		}
		if fix.s.Of == nil {
			return nil, fmt.Errorf("ir: line %d: %q has no slot s%d", fix.line, fix.name, fix.id)
		}
	}
	return p.m, nil
}

// ParseFunc reads the text form of one function.
func ParseFunc(text string) (*Func, error) {
	m, err := Parse(text)
	if err != nil {
		return nil, err
	}
	if len(m.Funcs) != 1 {
		return nil, fmt.Errorf("ir: %d functions", len(m.Funcs))
	}
	return m.Funcs[0], nil
}

type parser struct {
	m         *Module
	f         *Func
	b         *Block
	toks      []string
	line      int
	funcs     map[string]*Func
	values    map[int]*Value
	blocks    map[int]*Block
	slots     map[int]*Slot
	valFixes  []valFix
	termFixes []termFix
	funcFixes []funcFix
	slotFixes []slotFix
	anon      []*Value // values without a result have no name in the text; they get IDs behind all others
}

type valFix struct {
	at   **Value
	id   int
	line int
}

type termFix struct {
	at   **Block
	id   int
	line int
}

type funcFix struct {
	v    *Value
	name string
	line int
}

// slotFix is a slot that stands for slot id of a function.
type slotFix struct {
	s    *Slot
	name string
	id   int
	line int
}

// tokens splits a line into words, quoted strings and punctuation; `;` starts a comment.
func tokens(line string) ([]string, error) {
	var out []string
	for i := 0; i < len(line); {
		c := line[i]
		switch {
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case c == ';':
			return out, nil
		case c == '"':
			q, err := strconv.QuotedPrefix(line[i:])
			if err != nil {
				return nil, fmt.Errorf("bad string %s", line[i:])
			}
			out = append(out, q)
			i += len(q)
		case strings.HasPrefix(line[i:], "->"):
			out = append(out, "->")
			i += 2
		case strings.IndexByte("()[]{}=:@+", c) >= 0:
			out = append(out, string(c))
			i++
		default:
			// A minus sign starts a number; inside a word it ends it (s3-4).
			j := i + 1
			for j < len(line) && strings.IndexByte(" \t\r;\"()[]{}=:@+-", line[j]) < 0 {
				j++
			}
			out = append(out, line[i:j])
			i = j
		}
	}
	return out, nil
}

func (p *parser) peek() string {
	if len(p.toks) > 0 {
		return p.toks[0]
	}
	return ""
}

func (p *parser) next() string {
	t := p.peek()
	if t != "" {
		p.toks = p.toks[1:]
	}
	return t
}

func (p *parser) accept(t string) bool {
	if p.peek() == t {
		p.next()
		return true
	}
	return false
}

func (p *parser) expect(t string) error {
	if got := p.next(); got != t {
		return fmt.Errorf("%q expected, got %q", t, got)
	}
	return nil
}

func (p *parser) int() (int64, error) {
	t := p.next()
	n, err := strconv.ParseInt(t, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("number expected, got %q", t)
	}
	return n, nil
}

// small reads a number that fits lo..hi.
func (p *parser) small(lo, hi int64) (int, error) {
	n, err := p.int()
	if err == nil && (n < lo || n > hi) {
		err = fmt.Errorf("%d is out of range", n)
	}
	return int(n), err
}

func (p *parser) str() (string, error) {
	t := p.next()
	s, err := strconv.Unquote(t)
	if err != nil || !strings.HasPrefix(t, `"`) {
		return "", fmt.Errorf("string expected, got %q", t)
	}
	return s, nil
}

const maxID = 1 << 20

// id reads a name such as v7 with the given letter.
func (p *parser) id(letter string) (int, error) {
	t := p.next()
	rest, ok := strings.CutPrefix(t, letter)
	n, err := strconv.Atoi(rest)
	if !ok || err != nil || n <= 0 || n > maxID {
		return 0, fmt.Errorf("%s and a number expected, got %q", letter, t)
	}
	return n, nil
}

// newID reads the name of something new.
func (p *parser) newID(letter string) (int, error) {
	n, err := p.id(letter)
	if err != nil {
		return 0, err
	}
	if p.values[n] != nil || p.blocks[n] != nil || p.slots[n] != nil {
		return 0, fmt.Errorf("%s%d is defined twice", letter, n)
	}
	p.f.nextID = max(p.f.nextID, n)
	return n, nil
}

func (p *parser) parseLine() error {
	if err := p.parseItem(); err != nil {
		return err
	}
	if len(p.toks) > 0 {
		return fmt.Errorf("unexpected %q", p.peek())
	}
	return nil
}

func (p *parser) parseItem() error {
	if p.f == nil {
		return p.parseFunc()
	}
	switch t := p.peek(); {
	case t == "}":
		p.next()
		return p.endFunc()
	case t == "slot":
		if p.b == nil {
			p.next()
			return p.parseSlot()
		}
	case strings.HasPrefix(t, "b") && len(t) > 1 && t[1] >= '0' && t[1] <= '9':
		return p.parseBlock()
	}
	if p.b == nil {
		return fmt.Errorf("block expected, got %q", p.peek())
	}
	if p.b.Term.Kind != TermNone {
		return fmt.Errorf("b%d has ended", p.b.ID)
	}
	switch p.peek() {
	case "jump", "br", "ret":
		return p.parseTerm()
	}
	return p.parseValue()
}

func (p *parser) parseFunc() error {
	if err := p.expect("func"); err != nil {
		return err
	}
	name, err := p.str()
	if err != nil {
		return err
	}
	word := p.next()
	kind, ok := tables().kinds[word]
	if !ok {
		return fmt.Errorf("no function kind %q", word)
	}
	if p.funcs[name] != nil {
		return fmt.Errorf("function %q is defined twice", name)
	}
	p.f = &Func{Name: name, Kind: kind}
	p.b = nil
	p.values, p.blocks, p.slots = map[int]*Value{}, map[int]*Block{}, map[int]*Slot{}
	p.valFixes, p.termFixes, p.anon = nil, nil, nil
	return p.expect("{")
}

func (p *parser) endFunc() error {
	for _, fix := range p.valFixes {
		v := p.values[fix.id]
		if v == nil {
			return fmt.Errorf("v%d of line %d is not defined", fix.id, fix.line)
		}
		*fix.at = v
	}
	for _, fix := range p.termFixes {
		b := p.blocks[fix.id]
		if b == nil {
			return fmt.Errorf("b%d of line %d is not defined", fix.id, fix.line)
		}
		*fix.at = b
	}
	if len(p.f.Blocks) == 0 {
		return fmt.Errorf("function %q has no blocks", p.f.Name)
	}
	for _, b := range p.f.Blocks {
		if b.Term.Kind == TermNone {
			return fmt.Errorf("b%d has no terminator", b.ID)
		}
	}
	for _, v := range p.anon {
		v.ID = p.f.id()
	}
	p.funcs[p.f.Name] = p.f
	p.m.Funcs = append(p.m.Funcs, p.f)
	p.f = nil
	return nil
}

func (p *parser) parseSlot() error {
	id, err := p.newID("s")
	if err != nil {
		return err
	}
	s := &Slot{ID: id}
	if s.Name, err = p.str(); err != nil {
		return err
	}
	if err := p.expect("size"); err != nil {
		return err
	}
	if s.Size, err = p.small(1, 1<<24); err != nil {
		return err
	}
	if err := p.expect("align"); err != nil {
		return err
	}
	if s.Align, err = p.small(1, 8); err != nil {
		return err
	}
	word := p.next()
	class, ok := tables().classes[word]
	if !ok {
		return fmt.Errorf("no slot class %q", word)
	}
	s.Class = class
	if p.accept("at") {
		if s.Off, err = p.small(-1<<24, 1<<24); err != nil {
			return err
		}
	}
	s.Shared = p.accept("shared")
	if p.accept("of") {
		fix := slotFix{s: s, line: p.line}
		if fix.name, err = p.str(); err != nil {
			return err
		}
		if fix.id, err = p.id("s"); err != nil {
			return err
		}
		p.slotFixes = append(p.slotFixes, fix)
	}
	p.slots[id] = s
	p.f.Slots = append(p.f.Slots, s)
	return nil
}

func (p *parser) parseBlock() error {
	id, err := p.newID("b")
	if err != nil {
		return err
	}
	b := &Block{ID: id, Seq: p.f.blocks}
	p.f.blocks++
	switch t := p.peek(); {
	case strings.HasPrefix(t, `"`):
		if b.Name, err = p.str(); err != nil {
			return err
		}
	case isPlain(t):
		b.Name = p.next()
	}
	if p.accept("(") {
		for !p.accept(")") {
			v := &Value{Op: OpParam, Block: b}
			if v.ID, err = p.newID("v"); err != nil {
				return err
			}
			if v.Type, err = p.typeSuffix(); err != nil {
				return err
			}
			p.values[v.ID] = v
			b.Params = append(b.Params, v)
		}
	}
	b.Cold = p.accept("cold")
	p.b = b
	p.blocks[id] = b
	p.f.Blocks = append(p.f.Blocks, b)
	return p.expect(":")
}

func (p *parser) typeSuffix() (Type, error) {
	if !p.accept(":") {
		return I64, nil
	}
	word := p.next()
	t, ok := tables().types[word]
	if !ok {
		return Void, fmt.Errorf("no type %q", word)
	}
	return t, nil
}

// ref reads a use of a value into *at, now or when the function is complete.
func (p *parser) ref(at **Value) error {
	id, err := p.id("v")
	if err != nil {
		return err
	}
	p.valFixes = append(p.valFixes, valFix{at, id, p.line})
	return nil
}

func (p *parser) span() (source.Span, error) {
	if !p.accept("@") {
		return source.Span{}, nil
	}
	start, err := p.small(0, 1<<31-1)
	if err != nil {
		return source.Span{}, err
	}
	if err := p.expect(":"); err != nil {
		return source.Span{}, err
	}
	end, err := p.small(0, 1<<31-1)
	return source.Span{Start: int32(start), End: int32(end)}, err
}

func (p *parser) edge(e *Edge) error {
	id, err := p.id("b")
	if err != nil {
		return err
	}
	p.termFixes = append(p.termFixes, termFix{&e.To, id, p.line})
	if p.accept("(") {
		// The final slice must exist before addresses of its elements are taken.
		n := 0
		for n < len(p.toks) && p.toks[n] != ")" {
			n++
		}
		e.Args = make([]*Value, n)
		for i := range e.Args {
			if err := p.ref(&e.Args[i]); err != nil {
				return err
			}
		}
		return p.expect(")")
	}
	return nil
}

func (p *parser) parseTerm() error {
	t := &p.b.Term
	switch p.next() {
	case "jump":
		t.Succs = make([]Edge, 1)
		if err := p.edge(&t.Succs[0]); err != nil {
			return err
		}
		t.Kind = Jump
	case "br":
		if err := p.ref(&t.X); err != nil {
			return err
		}
		word := p.next()
		op, ok := tables().ops[word]
		if !ok || !Ops[op].Compare {
			return fmt.Errorf("no comparison %q", word)
		}
		t.Cond = op
		if err := p.ref(&t.Y); err != nil {
			return err
		}
		if err := p.expect("->"); err != nil {
			return err
		}
		t.Succs = make([]Edge, 2)
		for i := range t.Succs {
			if err := p.edge(&t.Succs[i]); err != nil {
				return err
			}
		}
		switch {
		case p.accept("likely"):
			t.Likely = 1
		case p.accept("unlikely"):
			t.Likely = -1
		}
		t.Kind = Branch
	case "ret":
		if err := p.ref(&t.X); err != nil {
			return err
		}
		t.Kind = Return
	}
	var err error
	t.Span, err = p.span()
	return err
}

func (p *parser) parseValue() error {
	v := &Value{Block: p.b}
	var err error
	named := false
	if len(p.toks) > 1 && (p.toks[1] == "=" || p.toks[1] == ":") {
		named = true
		if v.ID, err = p.newID("v"); err != nil {
			return err
		}
		if v.Type, err = p.typeSuffix(); err != nil {
			return err
		}
		if v.Type == Void {
			return fmt.Errorf("v%d has no type", v.ID)
		}
		p.values[v.ID] = v
		if err := p.expect("="); err != nil {
			return err
		}
	}
	word := p.next()
	name, suffix, dotted := strings.Cut(word, ".")
	op, ok := tables().ops[name]
	if !ok || op == OpParam {
		return fmt.Errorf("no op %q", name)
	}
	v.Op = op
	info := &Ops[op]
	if dotted != info.HasSize {
		return fmt.Errorf("size of %s", word)
	}
	if dotted {
		if v.Signed = strings.HasSuffix(suffix, "s"); v.Signed {
			suffix = suffix[:len(suffix)-1]
		}
		n, err := strconv.ParseUint(suffix, 10, 8)
		if err != nil {
			return fmt.Errorf("size of %s", word)
		}
		v.Size = uint8(n)
	}
	if err := p.aux(v); err != nil {
		return err
	}
	if op == OpHelper {
		if n, ok := tables().helpers[p.peek()]; ok {
			p.next()
			v.Imm = n
		} else if v.Imm, err = p.int(); err != nil {
			return err
		}
	}
	if err := p.args(v); err != nil {
		return err
	}
	if info.HasImm && op != OpHelper {
		if v.Imm, err = p.int(); err != nil {
			return err
		}
	}
	if v.Span, err = p.span(); err != nil {
		return err
	}
	if !named {
		p.anon = append(p.anon, v)
	}
	p.b.Values = append(p.b.Values, v)
	return nil
}

func (p *parser) aux(v *Value) error {
	info := &Ops[v.Op]
	if !info.HasAux {
		return nil
	}
	switch v.Op {
	case OpSlotAddr:
		id, err := p.id("s")
		if err != nil {
			return err
		}
		s := p.slots[id]
		if s == nil {
			return fmt.Errorf("no slot s%d", id)
		}
		v.Aux = s
	case OpFuncRef, OpCall:
		name, err := p.str()
		if err != nil {
			return err
		}
		p.funcFixes = append(p.funcFixes, funcFix{v, name, p.line})
	default:
		name, err := p.str()
		if err != nil {
			return err
		}
		v.Aux = name
	}
	if info.HasOff {
		return p.off(v)
	}
	return nil
}

// off reads an optional +8 or -8.
func (p *parser) off(v *Value) error {
	plus := p.accept("+")
	if !plus && !strings.HasPrefix(p.peek(), "-") {
		return nil
	}
	n, err := p.small(-1<<31, 1<<31-1)
	v.Off = int32(n)
	return err
}

func (p *parser) args(v *Value) error {
	info := &Ops[v.Op]
	isArg := func(t string) bool { return strings.HasPrefix(t, "v") || t == "[" }
	n := 0
	for i, t := range p.toks {
		if t == "[" || strings.HasPrefix(t, "v") {
			if i > 0 && p.toks[i-1] == "[" {
				continue
			}
			n++
		}
	}
	if n > MaxArgs {
		return fmt.Errorf("%d arguments", n)
	}
	v.Args = make([]*Value, n)
	for i := range v.Args {
		if !isArg(p.peek()) {
			return fmt.Errorf("argument expected, got %q", p.peek())
		}
		mem := i == 0 && info.HasOff && !info.HasAux
		if mem {
			if err := p.expect("["); err != nil {
				return err
			}
		}
		if err := p.ref(&v.Args[i]); err != nil {
			return err
		}
		if mem {
			if err := p.off(v); err != nil {
				return err
			}
			if err := p.expect("]"); err != nil {
				return err
			}
		}
	}
	return nil
}
