package check

import (
	"errors"
	"math"
	"math/big"

	"github.com/sonde-sh/sonde/lang/ast"
)

// value is a literal value: the result of folding an expression that is made of literals only.
type value struct {
	kind valueKind
	bits uint64 // integers: two's complement when neg
	neg  bool
	str  string
}

type valueKind uint8

const (
	noValue valueKind = iota
	intValue
	boolValue
	strValue
)

var (
	errOverflow  = errors.New("the result does not fit in 64 bits")
	errDivZero   = errors.New("division by zero")
	errUnderflow = errors.New("the negative value does not fit in 64 bits")
	errStringOp  = errors.New("this operation is not possible with a string literal")
)

func intVal(v int64) value {
	return value{kind: intValue, bits: uint64(v), neg: v < 0}
}

func boolVal(b bool) value {
	v := value{kind: boolValue}
	if b {
		v.bits = 1
	}
	return v
}

func strVal(s string) value { return value{kind: strValue, str: s} }

// truth tells whether a value counts as true.
func (v value) truth() bool {
	if v.kind == strValue {
		return v.str != ""
	}
	return v.bits != 0
}

// constant converts a value for the side table.
func (v value) constant() Const {
	if v.kind == strValue {
		return Const{Str: v.str, IsString: true}
	}
	return Const{Int: int64(v.bits)}
}

func (v value) big() *big.Int {
	if v.neg {
		return big.NewInt(int64(v.bits))
	}
	return new(big.Int).SetUint64(v.bits)
}

func fromBig(x *big.Int) (value, error) {
	switch {
	case x.IsUint64():
		return value{kind: intValue, bits: x.Uint64()}, nil
	case x.IsInt64():
		return intVal(x.Int64()), nil
	}
	return value{}, errOverflow
}

// foldLiteral evaluates an expression that is made of literals; ok is false for anything else, also when folding it is an error
// (the checker reports that later). It is used where a branch is chosen before types are known.
func foldLiteral(e ast.Expr) (value, bool) {
	switch e := e.(type) {
	case *ast.IntLit:
		if e.Overflow {
			return value{}, false
		}
		if e.Neg && e.Value != 0 {
			return intVal(-int64(e.Value)), true
		}
		return value{kind: intValue, bits: e.Value}, true
	case *ast.BoolLit:
		return boolVal(e.Value), true
	case *ast.StrLit:
		return strVal(e.Value), true
	case *ast.Paren:
		return foldLiteral(e.X)
	case *ast.Comptime:
		return foldLiteral(e.X)
	case *ast.Unary:
		if x, ok := foldLiteral(e.X); ok {
			v, ok, err := foldUnary(e.Op, x)
			return v, ok && err == nil
		}
	case *ast.Binary:
		x, ok := foldLiteral(e.X)
		if !ok {
			return value{}, false
		}
		if y, ok := foldLiteral(e.Y); ok {
			v, ok, err := foldBinary(e.Op, x, y)
			return v, ok && err == nil
		}
	case *ast.Ternary:
		c, ok := foldLiteral(e.Cond)
		if !ok {
			return value{}, false
		}
		switch {
		case !c.truth():
			return foldLiteral(e.Y)
		case e.X == nil:
			return c, true
		}
		return foldLiteral(e.X)
	}
	return value{}, false
}

// foldUnary applies an operator to a literal; ok is false when it does not fold.
func foldUnary(op string, x value) (v value, ok bool, err error) {
	switch {
	case op == "!" && x.kind != strValue:
		return boolVal(x.bits == 0), true, nil
	case x.kind != intValue:
		return value{}, false, nil
	}
	switch op {
	case "+":
		return x, true, nil
	case "-":
		if !x.neg && x.bits > 1<<63 {
			return value{}, false, errUnderflow
		}
		v, err := fromBig(new(big.Int).Neg(x.big()))
		return v, err == nil, err
	case "~":
		return value{kind: intValue, bits: ^x.bits}, true, nil
	}
	return value{}, false, nil
}

// foldBinary applies an operator to two literals; ok is false when it does not fold: the operation is left to run time or to the type rules.
func foldBinary(op string, x, y value) (v value, ok bool, err error) {
	if x.kind == strValue || y.kind == strValue {
		return foldString(op, x, y)
	}
	if cmp, isCmp := compareOp(op, x, y); isCmp {
		return boolVal(cmp), true, nil
	}
	if x.kind == boolValue && y.kind == boolValue {
		return foldBool(op, x, y)
	}
	if x.kind == boolValue || y.kind == boolValue {
		return value{}, false, nil
	}
	v, err = foldInt(op, x, y)
	return v, err == nil && v.kind != noValue, err
}

func compareOp(op string, x, y value) (result, isCompare bool) {
	c := x.big().Cmp(y.big())
	switch op {
	case "==":
		return c == 0, true
	case "!=":
		return c != 0, true
	case "<":
		return c < 0, true
	case "<=":
		return c <= 0, true
	case ">":
		return c > 0, true
	case ">=":
		return c >= 0, true
	case "&&":
		return x.truth() && y.truth(), true
	case "||":
		return x.truth() || y.truth(), true
	}
	return false, false
}

func foldBool(op string, x, y value) (value, bool, error) {
	a, b := x.truth(), y.truth()
	switch op {
	case "+", "|":
		return boolVal(a || b), true, nil
	case "-", "^":
		return boolVal(a != b), true, nil
	case "*", "&":
		return boolVal(a && b), true, nil
	case "/":
		if !b {
			return value{}, false, errDivZero
		}
		return boolVal(a), true, nil
	case "%":
		if !b {
			return value{}, false, errDivZero
		}
		return boolVal(false), true, nil
	}
	return value{}, false, nil
}

func foldString(op string, x, y value) (value, bool, error) {
	if x.kind == strValue && y.kind == strValue {
		a, b := x.str, y.str
		switch op {
		case "==":
			return boolVal(a == b), true, nil
		case "!=":
			return boolVal(a != b), true, nil
		case "<":
			return boolVal(a < b), true, nil
		case "<=":
			return boolVal(a <= b), true, nil
		case ">":
			return boolVal(a > b), true, nil
		case ">=":
			return boolVal(a >= b), true, nil
		case "&&":
			return boolVal(a != "" && b != ""), true, nil
		case "||":
			return boolVal(a != "" || b != ""), true, nil
		case "+":
			return strVal(a + b), true, nil
		}
		return value{}, false, errStringOp
	}
	s, n := x, y
	if s.kind != strValue {
		s, n = y, x
	}
	switch {
	case n.kind == boolValue && (op == "&&" || op == "||"):
		v, _ := compareOp(op, boolVal(s.str != ""), n)
		return boolVal(v), true, nil
	case n.neg:
		return value{}, false, errStringOp
	case n.kind == intValue && op == "+": // skips characters, as C's "hello" + 3 does
		if n.bits >= uint64(len(s.str)) {
			return strVal(""), true, nil
		}
		return strVal(s.str[n.bits:]), true, nil
	}
	return value{}, false, nil
}

// foldInt computes with 64-bit integers as literals have them: the sign follows the value, and a result that fits neither int64 nor
// uint64 is an error.
func foldInt(op string, x, y value) (value, error) {
	a, b := x.big(), y.big()
	r := new(big.Int)
	switch op {
	case "+":
		r.Add(a, b)
	case "-":
		r.Sub(a, b)
	case "*":
		r.Mul(a, b)
	case "/", "%":
		if b.Sign() == 0 {
			return value{}, errDivZero
		}
		if op == "/" {
			r.Quo(a, b)
		} else {
			r.Rem(a, b)
		}
	case "&", "|", "^":
		// One negative operand makes both signed; a value above the largest int64 then has no common type.
		if (x.neg && !y.neg && y.bits > math.MaxInt64) || (y.neg && !x.neg && x.bits > math.MaxInt64) {
			return value{}, errOverflow
		}
		v := bitOp(op, x.bits, y.bits)
		return value{kind: intValue, bits: v, neg: (x.neg || y.neg) && v>>63 != 0}, nil
	case "<<", ">>":
		if y.neg || y.bits > 63 {
			return value{}, errOverflow
		}
		n := y.bits
		if op == "<<" {
			v := x.bits << n
			return value{kind: intValue, bits: v, neg: x.neg && v>>63 != 0}, nil
		}
		if x.neg {
			return intVal(int64(x.bits) >> n), nil
		}
		return value{kind: intValue, bits: x.bits >> n}, nil
	default:
		return value{}, nil
	}
	return fromBig(r)
}

func bitOp(op string, a, b uint64) uint64 {
	switch op {
	case "&":
		return a & b
	case "|":
		return a | b
	}
	return a ^ b
}

// evalConst computes an operation of 64-bit values known while compiling that are not all literals (enumerators, casts); arithmetic
// wraps as it does at run time.
func evalConst(op string, a, b int64, signed bool) (int64, bool) {
	if r, ok := evalCompare(op, a, b, signed); ok {
		if r {
			return 1, true
		}
		return 0, true
	}
	switch op {
	case "+":
		return a + b, true
	case "-":
		return a - b, true
	case "*":
		return a * b, true
	case "/", "%":
		if b == 0 {
			return 0, false
		}
		if !signed {
			if op == "/" {
				return int64(uint64(a) / uint64(b)), true
			}
			return int64(uint64(a) % uint64(b)), true
		}
		if b == -1 { // the smallest integer has no positive counterpart
			if op == "/" {
				return -a, true
			}
			return 0, true
		}
		if op == "/" {
			return a / b, true
		}
		return a % b, true
	case "&":
		return a & b, true
	case "|":
		return a | b, true
	case "^":
		return a ^ b, true
	case "<<":
		return a << (uint64(b) & 63), true
	case ">>":
		if signed {
			return a >> (uint64(b) & 63), true
		}
		return int64(uint64(a) >> (uint64(b) & 63)), true
	}
	return 0, false
}

func evalCompare(op string, a, b int64, signed bool) (result, isCompare bool) {
	less := func(x, y int64) bool {
		if signed {
			return x < y
		}
		return uint64(x) < uint64(y)
	}
	switch op {
	case "==":
		return a == b, true
	case "!=":
		return a != b, true
	case "<":
		return less(a, b), true
	case "<=":
		return !less(b, a), true
	case ">":
		return less(b, a), true
	case ">=":
		return !less(a, b), true
	case "&&":
		return a != 0 && b != 0, true
	case "||":
		return a != 0 || b != 0, true
	}
	return false, false
}
