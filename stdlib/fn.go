package stdlib

import (
	"slices"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// Short forms for the literals of this package.

func req(name string, class check.Class) check.Param { return check.Param{Name: name, Class: class} }

func opt(name string, class check.Class) check.Param {
	return check.Param{Name: name, Class: class, Optional: true}
}

func rest(name string, class check.Class) check.Param {
	return check.Param{Name: name, Class: class, Variadic: true}
}

// literal is a parameter that needs an integer known while compiling; message says so.
func literal(name, message string) check.Param {
	return check.Param{Name: name, Class: check.IntLiteral, NotLiteral: message}
}

// namespace is the parameter of pid and tid.
func namespace() check.Param {
	return check.Param{
		Name: "curr_ns and init", Class: check.Word, Words: []string{"curr_ns", "init"},
		BadWord: "Invalid PID namespace mode: %s (expects: curr_ns or init)",
	}
}

func params(p ...check.Param) []check.Param { return p }

// always is a result that does not depend on the arguments.
func always(t *types.Type) func(*check.Call) *types.Type {
	return func(*check.Call) *types.Type { return t }
}

// void is the result of a function that is called for its effect, with a check of its arguments.
func void(f func(c *check.Call)) func(*check.Call) *types.Type {
	return func(c *check.Call) *types.Type {
		f(c)
		return nil
	}
}

var (
	tKSym       = &types.Type{Kind: types.KSym, Size: 8}
	tUSym       = &types.Type{Kind: types.USym, Size: 16}
	tInet       = &types.Type{Kind: types.Inet, Size: 24}
	tMac        = &types.Type{Kind: types.Mac, Size: 6}
	tUsername   = &types.Type{Kind: types.Username, Size: 8}
	tProbe      = &types.Type{Kind: types.Probe, Size: 8}
	tFunc       = &types.Type{Kind: types.Func, Size: 8}
	tCgroupPath = &types.Type{Kind: types.CgroupPath, Size: 16}
	tComm       = types.StringOf(16)
)

// setBool and setString store the value of a call that is known while compiling.
func setBool(c *check.Call, v bool) *types.Type {
	n := int64(0)
	if v {
		n = 1
	}
	c.Body.Consts[c.Node] = check.Const{Int: n}
	return types.TBool
}

func setString(c *check.Call, s string) *types.Type {
	c.Body.Consts[c.Node] = check.Const{Str: s, IsString: true}
	return types.StringOf(len(s) + 1)
}

func setInt(c *check.Call, v int64, t *types.Type) *types.Type {
	c.Body.Consts[c.Node] = check.Const{Int: v}
	return t
}

// bodyKinds are the kinds of the points of a body.
func bodyKinds(b *check.Body) []string {
	var names []string
	for _, p := range b.Points {
		if n := p.Kind.Name(); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// onlyIn reports a call in a probe of a kind that does not have it.
func onlyIn(c *check.Call, kinds ...string) bool {
	for _, k := range bodyKinds(c.Body) {
		if !slices.Contains(kinds, k) {
			c.Diags.Errorf(check.CodeUnavailable, c.Node.Sp, "%s can not be used with \"%s\" probes", c.Node.Func, k).
				Hint("use it in %s probes", list(kinds))
			return false
		}
	}
	return true
}

// notIn reports a call in a probe of one of some kinds.
func notIn(c *check.Call, kinds ...string) bool {
	for _, k := range bodyKinds(c.Body) {
		if slices.Contains(kinds, k) {
			message := c.Node.Func + " can not be used with \"" + k + "\" probes"
			if c.Func.Macro {
				message = c.Node.Func + "() can not be used for this probetype " + probetypeOf(k)
			}
			c.Diags.Errorf(check.CodeUnavailable, c.Node.Sp, "%s", message)
			return false
		}
	}
	return true
}

func list(names []string) string {
	s := ""
	for i, n := range names {
		switch {
		case i > 0 && i == len(names)-1:
			s += " and "
		case i > 0:
			s += ", "
		}
		s += n
	}
	return s
}

// inSpace returns a type as a pointer, or an integer used as one, into an address space.
func inSpace(t *types.Type, space types.Space, prov types.Provenance) *types.Type {
	c := *t
	c.Space, c.Prov = space, prov
	return &c
}

// isInt tells whether an argument counts as an integer.
func isInt(t *types.Type) bool {
	if t.IsInteger() {
		return true
	}
	switch t.Kind {
	case types.Count, types.Sum, types.Min, types.Max, types.Avg:
		return true
	}
	return false
}

// isCharArray tells whether a type is an array of bytes.
func isByteArray(t *types.Type) bool {
	return t.Kind == types.Array && t.Elem.Kind == types.Int && t.Elem.Size == 1
}

// typeError reports an argument of the wrong type and returns the type that silences what follows.
func typeError(c *check.Call, i int, want string) *types.Type {
	c.Diags.Errorf(check.CodeArgType, c.Node.Sp, "%s() only supports %s arguments (%s provided)", c.Node.Func, want, check.KindWord(c.Type(i)))
	return types.TInvalid
}

// argError reports the arguments of a call, where bpftrace has words of its own for it, and returns the type that silences what follows.
func argError(c *check.Call, format string, args ...any) *types.Type {
	c.Diags.Errorf(check.CodeArgType, c.Node.Sp, format, args...)
	return types.TInvalid
}

// notString is what bpftrace says about values that are no strings.
func notString(c *check.Call) *types.Type {
	return argError(c, "string-like values must be either strings, arrays or pointers")
}
