package shell

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime"
)

// Explanation is a script on its way to native code.
type Explanation struct {
	Script   string             `json:"script"`
	Maps     []ExplainedMap     `json:"maps"`
	Programs []ExplainedProgram `json:"programs"`
}

// ExplainedMap is one map and where it is kept.
type ExplainedMap struct {
	Name  string `json:"name"`
	Key   string `json:"key,omitempty"`
	Value string `json:"value"`
	Kept  string `json:"kept_in"`
}

// ExplainedProgram is one program of the kernel.
type ExplainedProgram struct {
	Name   string          `json:"name"`
	Type   string          `json:"type"`
	Attach []string        `json:"attach"`
	Insns  int             `json:"instructions"`
	Stack  int             `json:"stack_bytes"`
	Looked int             `json:"verified_instructions,omitempty"`
	Cost   string          `json:"cost,omitempty"`
	Parts  []ExplainedPart `json:"parts"`
	// Native is the number of native instructions; they are in the parts.
	Native int    `json:"native_instructions,omitempty"`
	Why    string `json:"native_missing,omitempty"`
}

// ExplainedPart is a statement of the script with what became of it.
type ExplainedPart struct {
	Line  int             `json:"line"`
	Text  string          `json:"text"`
	Types []string        `json:"types,omitempty"`
	IR    []string        `json:"ir,omitempty"`
	Code  []ExplainedInsn `json:"bpf,omitempty"`
	// Native is the code that the kernel made of Code, in the order of the program.
	Native []ExplainedNative `json:"native,omitempty"`
	span   source.Span
}

// ExplainedInsn is one eBPF instruction and what the verifier knew behind it.
type ExplainedInsn struct {
	Offset int    `json:"offset"`
	Text   string `json:"text"`
	Knew   string `json:"verifier,omitempty"`
}

// ExplainedNative is one instruction of the machine and the eBPF instruction that it was made from, -1 when the kernel does not say.
type ExplainedNative struct {
	Offset int    `json:"offset"` // bytes from the start of the code
	From   int    `json:"from"`
	Text   string `json:"text"`
}

// planText is the attach plan of all programs of an object, indented.
func planText(obj *object.Object) string {
	var b strings.Builder
	for _, p := range obj.Programs {
		for _, l := range obj.Plan(p) {
			b.WriteString("    " + l + "\n")
		}
	}
	return b.String()
}

// cmdExplain explains an item, a program that is given, or the code of a message.
func (sh *Shell) cmdExplain(_ context.Context, args string) error {
	if IsCode(args) {
		return sh.explainCode(args)
	}
	text, session, stats, filter := args, (*runtime.Session)(nil), []runtime.Stat(nil), sh.filter
	if args == "" || strings.HasPrefix(args, "#") {
		it, err := sh.find(args)
		if err != nil {
			return hintf("give an item, or a program: `\\explain BEGIN { print(1) }`", "%v", err)
		}
		sh.mu.Lock()
		text, session, stats, filter = it.text, it.session, it.liveStats(), it.filter
		sh.mu.Unlock()
	}
	e, err := sh.explain(text, session, stats, filter)
	if err != nil {
		return err
	}
	sh.write(e.Text(sh.width()))
	return nil
}

// Explain compiles and loads a program that stands alone, attaches nothing, and says what became of each part. Diagnostics are printed.
func (sh *Shell) Explain(text string) (*Explanation, error) { return sh.explain(text, nil, nil, nil) }

// explain compiles a script again, for its intermediate forms. With a session the loaded programs are those of the session.
func (sh *Shell) explain(text string, session *runtime.Session, stats []runtime.Stat, filter *Filter) (*Explanation, error) {
	u := newUnit("prompt", text)
	u.filter = filter
	u.parse()
	if u.diags.HasErrors() && session == nil {
		// Statements alone are the body of a probe, as at the prompt.
		body := newUnit("prompt", "begin { "+text+" }")
		if body.parse(); !body.diags.HasErrors() {
			body.filter, u = filter, body
		}
	}
	if u.diags.HasErrors() {
		return nil, sh.report(u.set, u.diags)
	}
	if !hasProbe(u.script) {
		return nil, hintf("give a whole probe, such as `BEGIN { print(pid) }`", "there is no probe to explain")
	}
	var modules []*ir.Module
	u.stages = func(stage string, m *ir.Module) {
		if stage == "ir-opt" {
			modules = append(modules, m)
		}
	}
	if !sh.check(u) {
		return nil, sh.report(u.set, u.diags)
	}
	if session != nil {
		if err := sh.generate(u, 0); err != nil {
			return nil, err
		}
	} else {
		obj, err := sh.compileWith(u, codegen.Options{Diags: u.diags, Dump: u.stages})
		if u.diags.HasErrors() {
			return nil, sh.report(u.set, u.diags)
		}
		if err != nil {
			return nil, err
		}
		u.obj = obj
		session, err = runtime.New(runtime.Options{Object: obj, Kernel: sh.cfg.Kernel, Targets: sh.cfg.Machine, Output: runtime.NewOutput(sh.cfg.Out, false, runtime.BufferLine)})
		if err != nil {
			return nil, sh.explainError(u, err)
		}
		defer session.Close()
	}
	e := &Explanation{Script: strings.TrimSpace(text)}
	for _, m := range u.obj.Maps {
		if m.Role != object.MapUser {
			continue
		}
		em := ExplainedMap{Name: m.Name, Value: m.Value.String(), Kept: m.Type.String()}
		if m.Key != nil {
			em.Key = m.Key.String()
		}
		if m.Global != nil {
			em.Kept = fmt.Sprintf("memory mapped into sonde, %d cop%s", max(1, m.Global.Copies), map[bool]string{true: "y", false: "ies"}[m.Global.Copies <= 1])
		} else if m.PerCPU {
			em.Kept += ", a value for each CPU, added up when it is read"
		} else if m.Pair != "" {
			em.Kept = "a slot for each thread, " + em.Kept + " for threads whose slot is taken"
		}
		e.Maps = append(e.Maps, em)
	}
	for i, p := range u.obj.Programs {
		ep, err := sh.explainProgram(u, i, p, modules, session)
		if err != nil {
			return nil, err
		}
		if i < len(stats) && stats[i].Runs > 0 {
			ep.Cost = fmt.Sprintf("%s runs, %.0f ns each, %.3f%% of a CPU", group(int(stats[i].Runs)), float64(stats[i].Time.Nanoseconds())/float64(stats[i].Runs), 100*stats[i].CPU)
		}
		e.Programs = append(e.Programs, *ep)
	}
	return e, nil
}

func (sh *Shell) explainProgram(u *unit, i int, p *object.Program, modules []*ir.Module, s *runtime.Session) (*ExplainedProgram, error) {
	ep := &ExplainedProgram{Name: p.Name, Type: p.Type.String(), Attach: u.obj.Plan(p), Insns: p.Stats.Insns, Stack: p.Stats.StackBytes}
	loaded, err := s.Loaded(i)
	if err != nil {
		return nil, err
	}
	ep.Looked, ep.Native, ep.Why = loaded.Verified, len(loaded.Native), loaded.Why
	knew, err := s.Knowledge(i)
	if err != nil {
		knew = nil // the rest is worth showing without it
	}
	parts := partsOf(u, p)
	at := func(sp source.Span) *ExplainedPart {
		best := &parts[0]
		for k := range parts[1:] {
			q := &parts[k+1]
			inside := sp.IsValid() && q.span.Start <= sp.Start && sp.Start < q.span.End
			if inside && (best.span == parts[0].span || q.span.End-q.span.Start <= best.span.End-best.span.Start) {
				best = q
			}
		}
		return best
	}
	if i < len(modules) {
		for _, f := range modules[i].Funcs {
			for _, b := range f.Blocks {
				for _, v := range b.Values {
					q := at(v.Span)
					q.IR = append(q.IR, irText(v.LongString()))
				}
				q := at(b.Term.Span)
				q.IR = append(q.IR, irText(b.Term.String()))
			}
		}
	}
	partOf := map[int]*ExplainedPart{}
	for it := p.Insns.Iterate(); it.Next(); {
		q := at(p.SpanOf(it.Offset))
		partOf[int(it.Offset)] = q
		q.Code = append(q.Code, ExplainedInsn{Offset: int(it.Offset), Text: insnText(it.Ins), Knew: knew[int(it.Offset)]})
	}
	for _, n := range loaded.Native {
		q := partOf[n.Insn]
		if q == nil {
			q = &parts[0]
		}
		q.Native = append(q.Native, ExplainedNative{n.Offset, n.Insn, n.Text})
	}
	for _, q := range parts {
		if len(q.Code) > 0 || len(q.Types) > 0 || len(q.Native) > 0 {
			ep.Parts = append(ep.Parts, q)
		}
	}
	return ep, nil
}

// partsOf lists the statements of the bodies that a program was made of; the first part is the probe itself: entry, exit and what has no place.
func partsOf(u *unit, p *object.Program) []ExplainedPart {
	part := func(sp source.Span, text string) ExplainedPart {
		return ExplainedPart{Line: u.set.Position(sp.Start).Line, Text: oneLine(text, 90), span: sp}
	}
	parts := []ExplainedPart{part(p.Probe, u.set.Text(p.Probe))}
	for _, body := range u.info.Bodies {
		uses := false
		for _, pt := range body.Points {
			uses = uses || strings.HasPrefix(p.Name, pt.Name) || pt.Node != nil && pt.Node.Span() == p.Probe
		}
		if !uses {
			continue
		}
		add := func(sp source.Span, n ast.Node) {
			q := part(sp, u.set.Text(sp))
			if n != nil {
				q.Types = typesIn(body, n)
			}
			parts = append(parts, q)
		}
		if body.Predicate != nil {
			add(body.Predicate.Span(), body.Predicate)
		}
		var block func(*ast.Block)
		stmt := func(s ast.Stmt) {
			switch s := s.(type) {
			case *ast.If:
				add(s.Cond.Span(), s.Cond)
				block(s.Then)
				if s.Else != nil {
					block(s.Else)
				}
			case *ast.While:
				add(s.Cond.Span(), s.Cond)
				block(s.Body)
			case *ast.Unroll:
				block(s.Body)
			case *ast.ForMap:
				add(s.Map.Span(), s.Map)
				block(s.Body)
			case *ast.ForRange:
				add(s.Lo.Span().To(s.Hi.Span()), s.Hi)
				block(s.Body)
			case *ast.Block:
				block(s)
			default:
				add(s.Span(), s)
			}
		}
		block = func(b *ast.Block) {
			for _, s := range b.Stmts {
				stmt(s)
			}
			if b.Result != nil {
				add(b.Result.Span(), b.Result)
			}
		}
		if body.Block != nil {
			block(body.Block)
		}
	}
	return parts
}

// typesIn lists the types of what a statement is made of: variables, maps, calls, members.
func typesIn(body *check.Body, n ast.Node) []string {
	var out []string
	seen := map[string]bool{}
	ast.Inspect(n, func(n ast.Node) bool {
		x, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		switch x.(type) {
		case *ast.Ident, *ast.Var, *ast.MapRef, *ast.Index, *ast.Call, *ast.Field, *ast.Cast:
			t := body.Types[x]
			text := strings.Join(strings.Fields(ast.ExprString(x)), " ")
			if t != nil && t.Kind != types.MapKind && !seen[text] && len(text) < 60 {
				seen[text] = true
				out = append(out, text+": "+t.String())
			}
		}
		return true
	})
	return out
}

var helperCall = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`helper Fn(\w+)`) })

// irText is a line of IR with helpers by the kernel's names.
func irText(line string) string {
	return helperCall().ReplaceAllStringFunc(line, func(s string) string { return "helper bpf_" + snake(strings.TrimPrefix(s, "helper Fn")) })
}

// aluOp and jumpOp write operators.
func aluOp(op asm.ALUOp) (string, bool) {
	s, ok := map[asm.ALUOp]string{
		asm.Add: "+=", asm.Sub: "-=", asm.Mul: "*=", asm.Div: "/=", asm.Or: "|=", asm.And: "&=", asm.LSh: "<<=", asm.RSh: ">>=", asm.Mod: "%=",
		asm.Xor: "^=", asm.Mov: "=", asm.ArSh: "s>>=", asm.SDiv: "s/=", asm.SMod: "s%=",
	}[op]
	return s, ok
}

func jumpOp(op asm.JumpOp) (string, bool) {
	s, ok := map[asm.JumpOp]string{
		asm.JEq: "==", asm.JGT: ">", asm.JGE: ">=", asm.JSet: "&", asm.JNE: "!=", asm.JSGT: "s>", asm.JSGE: "s>=", asm.JLT: "<", asm.JLE: "<=",
		asm.JSLT: "s<", asm.JSLE: "s<=",
	}[op]
	return s, ok
}

// insnText writes an instruction as the kernel's tools do, with helpers and maps by name.
func insnText(ins *asm.Instruction) string {
	op := ins.OpCode
	reg := func(r asm.Register) string {
		if op.Class() == asm.ALUClass || op.Class() == asm.Jump32Class {
			return "w" + strings.TrimPrefix(r.String(), "r")
		}
		return strings.Replace(r.String(), "rfp", "r10", 1)
	}
	full := func(r asm.Register) string { return strings.Replace(r.String(), "rfp", "r10", 1) }
	operand := func() string {
		if op.Source() == asm.RegSource {
			return reg(ins.Src)
		}
		return fmt.Sprint(ins.Constant)
	}
	size := map[asm.Size]string{asm.Byte: "u8", asm.Half: "u16", asm.Word: "u32", asm.DWord: "u64"}
	switch op.Class() {
	case asm.ALUClass, asm.ALU64Class:
		if o, ok := aluOp(op.ALUOp()); ok {
			return fmt.Sprintf("%s %s %s", reg(ins.Dst), o, operand())
		}
		if op.ALUOp() == asm.Neg {
			return fmt.Sprintf("%[1]s = -%[1]s", reg(ins.Dst))
		}
	case asm.JumpClass, asm.Jump32Class:
		switch op.JumpOp() {
		case asm.Exit:
			return "exit"
		case asm.Call:
			if ins.IsBuiltinCall() {
				return "call bpf_" + snake(strings.TrimPrefix(asm.BuiltinFunc(ins.Constant).String(), "Fn"))
			}
			return "call " + ins.Reference()
		case asm.Ja:
			return fmt.Sprintf("goto %+d", ins.Offset)
		default:
			if o, ok := jumpOp(op.JumpOp()); ok {
				return fmt.Sprintf("if %s %s %s goto %+d", reg(ins.Dst), o, operand(), ins.Offset)
			}
		}
	case asm.LdXClass:
		return fmt.Sprintf("%s = *(%s *)(%s %+d)", full(ins.Dst), size[op.Size()], full(ins.Src), ins.Offset)
	case asm.StClass:
		return fmt.Sprintf("*(%s *)(%s %+d) = %d", size[op.Size()], full(ins.Dst), ins.Offset, ins.Constant)
	case asm.StXClass:
		if op.Mode() == asm.MemMode {
			return fmt.Sprintf("*(%s *)(%s %+d) = %s", size[op.Size()], full(ins.Dst), ins.Offset, full(ins.Src))
		}
		return fmt.Sprintf("atomic %s *(%s *)(%s %+d), %s", strings.ToLower(strings.TrimPrefix(op.AtomicOp().String(), "Atomic")), size[op.Size()], full(ins.Dst), ins.Offset, full(ins.Src))
	case asm.LdClass:
		if ins.IsLoadFromMap() {
			if ins.Constant>>32 != 0 {
				return fmt.Sprintf("%s = %s[0]+%d", full(ins.Dst), ins.Reference(), uint64(ins.Constant)>>32)
			}
			return fmt.Sprintf("%s = map %s", full(ins.Dst), ins.Reference())
		}
		return fmt.Sprintf("%s = %d", full(ins.Dst), ins.Constant)
	}
	return fmt.Sprint(*ins)
}

func snake(s string) string {
	var b strings.Builder
	for i, r := range s {
		if unicode.IsUpper(r) {
			if i > 0 {
				b.WriteByte('_')
			}
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Text is the explanation for a terminal of a width.
func (e *Explanation) Text(width int) string {
	var b strings.Builder
	if len(e.Maps) > 0 {
		b.WriteString("MAPS\n")
		for _, m := range e.Maps {
			key := ""
			if m.Key != "" {
				key = "[" + m.Key + "]"
			}
			fmt.Fprintf(&b, "  %s%s: %s   in %s\n", m.Name, key, m.Value, m.Kept)
		}
	}
	for _, p := range e.Programs {
		fmt.Fprintf(&b, "\nPROGRAM %s (%s)\n", p.Name, p.Type)
		for _, a := range p.Attach {
			fmt.Fprintf(&b, "  attach   %s\n", a)
		}
		fmt.Fprintf(&b, "  size     %d instructions, %d bytes of stack", p.Insns, p.Stack)
		if p.Looked > 0 {
			fmt.Fprintf(&b, "; the verifier looked at %d", p.Looked)
		}
		if p.Native > 0 {
			fmt.Fprintf(&b, "; %d native instructions", p.Native)
		}
		b.WriteByte('\n')
		if p.Cost != "" {
			fmt.Fprintf(&b, "  cost     %s\n", p.Cost)
		}
		for _, q := range p.Parts {
			fmt.Fprintf(&b, "\n%4d | %s\n", q.Line, cut(q.Text, width-8))
			wrap(&b, "types", q.Types, width)
			for k, l := range q.IR {
				label := ""
				if k == 0 {
					label = "IR"
				}
				fmt.Fprintf(&b, "       %-6s %s\n", label, cut(l, width-15))
			}
			for k, c := range q.Code {
				label := ""
				if k == 0 {
					label = "eBPF"
				}
				line := fmt.Sprintf("%4d: %s", c.Offset, c.Text)
				if room := width - 15 - 42; c.Knew != "" && room > 16 {
					line = fmt.Sprintf("%-41s ; %s", cut(line, 41), cut(c.Knew, room-2))
				}
				fmt.Fprintf(&b, "       %-6s %s\n", label, cut(line, width-15))
			}
			from := -1
			for k, n := range q.Native {
				label := ""
				if k == 0 {
					label = "native"
				}
				line := fmt.Sprintf("%4x: %s", n.Offset, n.Text)
				if n.From != from { // the first of those that one eBPF instruction became
					from = n.From
					line = fmt.Sprintf("%-41s ; %d", cut(line, 41), from)
				}
				fmt.Fprintf(&b, "       %-6s %s\n", label, cut(line, width-15))
			}
		}
		if p.Why != "" {
			fmt.Fprintf(&b, "\n  native code: %s\n", p.Why)
		}
	}
	return b.String()
}

// wrap writes short texts one behind the other, as many as fit a line.
func wrap(b *strings.Builder, label string, items []string, width int) {
	line := ""
	flush := func() {
		if line != "" {
			fmt.Fprintf(b, "       %-6s %s\n", label, line)
		}
		label, line = "", ""
	}
	for _, it := range slices.Clone(items) {
		if line != "" && len(line)+len(it)+3 > width-15 {
			flush()
		}
		if line != "" {
			line += "   "
		}
		line += it
	}
	flush()
}
