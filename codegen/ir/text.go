package ir

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/lang/source"
)

var typeNames = [...]string{
	Void: "void", I64: "i64", Ctx: "ctx", Stack: "stack", MapVal: "mapval", MapNil: "mapnil", Ring: "ring",
	RingNil: "ringnil", BTF: "btf", BTFNil: "btfnil", MapRef: "map", FuncRef: "func",
}

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "type?"
}

var kindNames = [...]string{Entry: "entry", Subprog: "subprog", Callback: "callback", Global: "global"}

func (k FuncKind) String() string { return kindNames[k] }

var classNames = [...]string{SlotAuto: "auto", SlotStack: "stack", SlotScratch: "scratch"}

func (c SlotClass) String() string { return classNames[c] }

// String returns the text form of all functions, which [Parse] accepts.
func (m *Module) String() string {
	var sb strings.Builder
	for i, f := range m.Funcs {
		if i > 0 {
			sb.WriteByte('\n')
		}
		write(&sb, f, false)
	}
	return sb.String()
}

// String returns the text form of a function without spans.
func (f *Func) String() string {
	var sb strings.Builder
	write(&sb, f, false)
	return sb.String()
}

// Text returns the text form of a function; spans adds the script range of every value as `@start:end`.
func (f *Func) Text(spans bool) string {
	var sb strings.Builder
	write(&sb, f, spans)
	return sb.String()
}

func write(sb *strings.Builder, f *Func, spans bool) {
	fmt.Fprintf(sb, "func %q %s {\n", f.Name, f.Kind)
	for _, s := range f.Slots {
		fmt.Fprintf(sb, "slot s%d %q size %d align %d %s", s.ID, s.Name, s.Size, s.Align, s.Class)
		if s.Off != 0 {
			fmt.Fprintf(sb, " at %d", s.Off)
		}
		if s.Shared {
			sb.WriteString(" shared")
		}
		if s.Of != nil {
			fmt.Fprintf(sb, " of %q s%d", s.In.Name, s.Of.ID)
		}
		sb.WriteByte('\n')
	}
	for _, b := range f.Blocks {
		writeHeader(sb, b)
		for _, v := range b.Values {
			sb.WriteString("  ")
			sb.WriteString(v.LongString())
			writeSpan(sb, v.Span, spans)
			sb.WriteByte('\n')
		}
		sb.WriteString("  ")
		sb.WriteString(b.Term.String())
		writeSpan(sb, b.Term.Span, spans)
		sb.WriteByte('\n')
	}
	sb.WriteString("}\n")
}

func writeSpan(sb *strings.Builder, sp source.Span, spans bool) {
	if spans && sp.IsValid() {
		fmt.Fprintf(sb, " @%d:%d", sp.Start, sp.End)
	}
}

func writeHeader(sb *strings.Builder, b *Block) {
	fmt.Fprintf(sb, "b%d", b.ID)
	if b.Name != "" {
		sb.WriteByte(' ')
		if isPlain(b.Name) {
			sb.WriteString(b.Name)
		} else {
			sb.WriteString(strconv.Quote(b.Name))
		}
	}
	if len(b.Params) > 0 {
		sb.WriteByte('(')
		for i, p := range b.Params {
			if i > 0 {
				sb.WriteByte(' ')
			}
			sb.WriteString(p.typed())
		}
		sb.WriteByte(')')
	}
	if b.Cold {
		sb.WriteString(" cold")
	}
	sb.WriteString(":\n")
}

// isPlain reports whether a block name can be written without quotes.
func isPlain(s string) bool {
	if s == "cold" {
		return false
	}
	for i, c := range []byte(s) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		digit := c >= '0' && c <= '9' || c == '.'
		if !letter && (i == 0 || !digit) {
			return false
		}
	}
	return s != ""
}

// String returns the value's name, "v7"; "v?" for nil.
func (v *Value) String() string {
	if v == nil {
		return "v?"
	}
	return "v" + strconv.Itoa(v.ID)
}

func (v *Value) typed() string {
	if v.Type == I64 {
		return v.String()
	}
	return v.String() + ":" + v.Type.String()
}

// LongString returns the line that defines the value.
func (v *Value) LongString() string {
	var sb strings.Builder
	if v.Type != Void {
		sb.WriteString(v.typed())
		sb.WriteString(" = ")
	}
	info := &Ops[v.Op]
	sb.WriteString(info.Name)
	if info.HasSize {
		fmt.Fprintf(&sb, ".%d", v.Size)
		if v.Signed {
			sb.WriteByte('s')
		}
	}
	if info.HasAux {
		switch aux := v.Aux.(type) {
		case *Slot:
			fmt.Fprintf(&sb, " s%d", aux.ID)
		case *Func:
			fmt.Fprintf(&sb, " %q", aux.Name)
		case string:
			fmt.Fprintf(&sb, " %q", aux)
		default:
			sb.WriteString(" ?")
		}
		if info.HasOff && v.Off != 0 {
			fmt.Fprintf(&sb, "%+d", v.Off)
		}
	}
	if v.Op == OpHelper {
		sb.WriteByte(' ')
		sb.WriteString(helperName(v.Imm))
	}
	for i, a := range v.Args {
		sb.WriteByte(' ')
		if i == 0 && info.HasOff && !info.HasAux {
			fmt.Fprintf(&sb, "[%s", a)
			if v.Off != 0 {
				fmt.Fprintf(&sb, "%+d", v.Off)
			}
			sb.WriteByte(']')
			continue
		}
		sb.WriteString(a.String())
	}
	if info.HasImm && v.Op != OpHelper {
		fmt.Fprintf(&sb, " %d", v.Imm)
	}
	return sb.String()
}

func helperName(n int64) string {
	s := asm.BuiltinFunc(n).String()
	if strings.HasPrefix(s, "Fn") && isPlain(s) {
		return s
	}
	return strconv.FormatInt(n, 10)
}

// String returns the terminator's line.
func (t Term) String() string {
	switch t.Kind {
	case Jump:
		return "jump " + t.Succs[0].String()
	case Branch:
		s := fmt.Sprintf("br %s %s %s -> %s %s", t.X, t.Cond, t.Y, t.Succs[0], t.Succs[1])
		switch {
		case t.Likely > 0:
			s += " likely"
		case t.Likely < 0:
			s += " unlikely"
		}
		return s
	case Return:
		return "ret " + t.X.String()
	}
	return "none"
}

// String returns the edge as `b3(v1 v2)`.
func (e Edge) String() string {
	if e.To == nil {
		return "b?"
	}
	var sb strings.Builder
	fmt.Fprintf(&sb, "b%d", e.To.ID)
	if len(e.Args) > 0 {
		sb.WriteByte('(')
		for i, a := range e.Args {
			if i > 0 {
				sb.WriteByte(' ')
			}
			sb.WriteString(a.String())
		}
		sb.WriteByte(')')
	}
	return sb.String()
}
