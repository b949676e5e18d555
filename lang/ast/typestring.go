package ast

import "strings"

// String returns the type as the formatter writes it; array lengths and typeof operands that are not plain literals are
// written as they print without comments.
func (t *TypeSpec) String() string {
	p := &printer{flat: true}
	p.typeSpec(t)
	return strings.TrimSpace(string(p.line))
}

// ExprString returns an expression on one line as the formatter writes it, without comments.
func ExprString(x Expr) string {
	p := &printer{flat: true}
	p.expr(x)
	return strings.TrimSpace(string(p.line))
}
