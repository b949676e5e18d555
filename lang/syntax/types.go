package syntax

import (
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/lexer"
)

// IsBuiltinVariable reports whether name is a variable of the language. The parser must know them, because `(cpu) - 1` is a
// subtraction while `(u32) - 1` is a cast; the checker has the full descriptions.
func IsBuiltinVariable(name string) bool {
	switch name {
	case "args", "cgroup", "comm", "cpid", "cpu", "ctx", "curtask", "elapsed", "func", "gid", "jiffies", "kstack", "ncpus",
		"nsecs", "numaid", "pid", "ppid", "probe", "probetype", "rand", "retval", "stack", "tid", "uid", "usermode", "username", "ustack", "dw_ustack":
		return true
	}
	for _, prefix := range []string{"arg", "sarg"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" && strings.Trim(rest, "0123456789") == "" {
			return true
		}
	}
	return strings.HasPrefix(name, "__builtin_")
}

// isTypeName reports whether name is a type for certain: the language's own types, C's words, and the integer typedefs of the
// kernel and of stdint.h that no script uses for anything else.
func isTypeName(name string) bool {
	switch name {
	case "void", "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
		"string", "inet", "buffer", "timestamp", "macaddr_t", "cgroup_path_t", "strerror_t", "ksym_t", "usym_t", "ustack_t", "kstack_t",
		"min_t", "max_t", "sum_t", "count_t", "avg_t", "stats_t", "umin_t", "umax_t", "usum_t", "ucount_t", "uavg_t", "ustats_t",
		"hist_t", "lhist_t", "tseries_t":
		return true
	case "u8", "u16", "u32", "u64", "s8", "s16", "s32", "s64", "__u8", "__u16", "__u32", "__u64", "__s8", "__s16", "__s32", "__s64",
		"__be16", "__be32", "__be64", "__le16", "__le32", "__le64", "uint8_t", "uint16_t", "uint32_t", "uint64_t",
		"int8_t", "int16_t", "int32_t", "int64_t", "size_t", "ssize_t", "loff_t", "off_t", "pid_t", "uid_t", "gid_t", "dev_t", "ino_t",
		"umode_t", "mode_t", "gfp_t", "sector_t", "ktime_t", "uintptr_t", "intptr_t":
		return true
	}
	return isCWord(name)
}

// isCWord reports whether name is one of the words that C builds its integer types from.
func isCWord(name string) bool {
	switch name {
	case "char", "short", "int", "long", "signed", "unsigned":
		return true
	}
	return false
}

func isTag(t *token) bool {
	return kindOf(t) == lexer.Ident && (t.Value == "struct" || t.Value == "union" || t.Value == "enum")
}

// typeSpec parses a type: a name, `struct name` or `typeof(...)`, then any number of `*` and `[n]`.
func (p *parser) typeSpec() *ast.TypeSpec {
	t := *p.peek()
	spec := &ast.TypeSpec{}
	switch {
	case isOp(&t, "typeof"):
		p.next()
		spec.TypeofType, spec.Typeof = p.typeOrExpr()
	case isOp(&t, "("):
		p.tupleType(spec)
	case isTag(&t):
		p.next()
		name := *p.peek()
		if k := kindOf(&name); k != lexer.Ident && k != lexer.Const {
			p.fail(unexpected(&name, "the name of a "+t.Value))
		}
		p.next()
		spec.Tag, spec.Name = t.Value, name.Value
	case kindOf(&t) == lexer.Ident || kindOf(&t) == lexer.Const:
		p.next()
		spec.Name = t.Value
		for isCWord(t.Value) && kindOf(p.peek()) == lexer.Ident && isCWord(p.peek().Value) {
			word := p.next()
			spec.Name += " " + word.Value
		}
	default:
		p.fail(unexpected(&t, "a type"))
	}
	p.suffixes(spec)
	spec.Base = base(p.from(spanOf(&t)))
	return spec
}

func (p *parser) suffixes(spec *ast.TypeSpec) {
	for {
		switch {
		case p.accept("*"):
			spec.Suffix = append(spec.Suffix, ast.TypeSuffix{Pointer: true})
		case p.accept("["):
			open := p.prev
			var s ast.TypeSuffix
			if !isOp(p.peek(), "]") {
				s.Len = p.expr()
			}
			p.expect("]", &open)
			spec.Suffix = append(spec.Suffix, s)
		default:
			return
		}
	}
}

// tupleType parses `(type, type)` or `(name: type, ...)`.
func (p *parser) tupleType(spec *ast.TypeSpec) {
	open := p.next()
	spec.Elems = []*ast.TypeSpec{}
	for !isOp(p.peek(), ")") {
		if kindOf(p.peek()) == lexer.Ident && isOp(p.peek2(), ":") {
			name := p.next()
			p.next()
			spec.FieldNames = append(spec.FieldNames, name.Value)
		}
		spec.Elems = append(spec.Elems, p.typeSpec())
		if !p.accept(",") {
			break
		}
	}
	p.expect(")", &open)
}

// typeOrExpr parses `(type)` or `(expression)`.
func (p *parser) typeOrExpr() (*ast.TypeSpec, ast.Expr) {
	p.expect("(", nil)
	open := p.prev
	var typ *ast.TypeSpec
	var x ast.Expr
	if p.typeAhead(")") {
		typ = p.typeSpec()
	} else {
		x = p.expr()
	}
	p.expect(")", &open)
	return typ, x
}

// typeAhead looks whether a type comes next, with end behind it. A lone unknown name does not count: it may be a variable.
func (p *parser) typeAhead(end string) bool {
	t := *p.peek()
	if isOp(&t, "typeof") {
		return true
	}
	if kindOf(&t) != lexer.Ident || IsBuiltinVariable(t.Value) {
		return false
	}
	cp, prev := p.lex.MakeCheckpoint(), p.prev
	defer func() {
		p.lex.LoadCheckpoint(cp)
		p.prev = prev
	}()
	known := p.skipTypeName()
	suffix := p.skipSuffixes()
	return isOp(p.peek(), end) && (known || suffix)
}

// skipTypeName passes over the name part of a type and reports whether it is a type for certain.
func (p *parser) skipTypeName() bool {
	t := p.next()
	if isTag(&t) {
		if k := kindOf(p.peek()); k != lexer.Ident && k != lexer.Const {
			return false
		}
		p.next()
		return true
	}
	for isCWord(t.Value) && kindOf(p.peek()) == lexer.Ident && isCWord(p.peek().Value) {
		p.next()
	}
	return isTypeName(t.Value)
}

// skipSuffixes passes over `*` and `[...]` and reports whether there was any.
func (p *parser) skipSuffixes() bool {
	any := false
	for {
		switch {
		case p.accept("*"):
		case p.accept("["):
			for depth := 1; depth > 0; {
				t := p.next()
				switch {
				case t.EOF() || isOp(&t, "{") || isOp(&t, "}"):
					return false
				case isOp(&t, "["):
					depth++
				case isOp(&t, "]"):
					depth--
				}
			}
		default:
			return any
		}
		any = true
	}
}

// cast parses `type)operand` behind the open parenthesis, or returns nil with nothing consumed.
func (p *parser) cast(open *token) ast.Expr {
	t := *p.peek()
	switch {
	case isOp(&t, "typeof"), kindOf(&t) == lexer.Const:
	case kindOf(&t) != lexer.Ident || IsBuiltinVariable(t.Value):
		return nil
	}
	cp, prev := p.lex.MakeCheckpoint(), p.prev
	known := true
	if isOp(&t, "typeof") {
		p.next()
		if !isOp(p.peek(), "(") {
			p.fail(unexpected(p.peek(), "`(` after `typeof`"))
		}
		for depth := 0; ; {
			t := p.next()
			if isOp(&t, "(") {
				depth++
			} else if isOp(&t, ")") {
				depth--
			}
			if depth == 0 || t.EOF() {
				break
			}
		}
	} else {
		known = p.skipTypeName()
	}
	suffix := p.skipSuffixes()
	isCast := p.accept(")") && startsCastOperand(p.peek())
	if kindOf(&t) == lexer.Const && !suffix && isCast { // a value, or the parameter of a macro, which may stand for a type
		isCast = !startsOrContinues(p.peek())
	}
	if !isCast && (known || suffix) && isOp(&p.prev, ")") && isTypeName(t.Value) {
		f := unexpected(p.peek(), "a value to convert to `"+t.Value+"`")
		p.fail(f)
	}
	p.lex.LoadCheckpoint(cp)
	p.prev = prev
	if !isCast {
		return nil
	}
	typ := p.typeSpec()
	p.expect(")", open)
	p.enter()
	x := p.unary()
	p.leave()
	return &ast.Cast{Base: base(p.from(spanOf(open))), Type: typ, X: x}
}

// startsOrContinues tells whether a token behind a parenthesised value may also be an operator of it.
func startsOrContinues(t *token) bool { return isOp(t, "-") || isOp(t, "*") || isOp(t, "&") }

// startsCastOperand is startsOperand without what can only follow a parenthesised value.
func startsCastOperand(t *token) bool {
	return startsOperand(t) && !isOp(t, "{") && !isOp(t, "++") && !isOp(t, "--")
}
