package check

import (
	"fmt"
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
)

// macro is a macro that may be called.
type macro struct {
	*ast.Macro
	library bool
}

// expansion is the origin of a block that a macro call became.
type expansion struct {
	name    string
	call    source.Span
	library bool
}

// frame is a macro body that is being copied into the script.
type frame struct {
	macro  *macro
	parent *frame
	exprs  map[string]ast.Expr // expression parameters: arguments, already expanded in the caller's frame
	vars   map[string]string   // $parameter -> the caller's variable
	maps   map[string]string   // @parameter -> the caller's map
	prefix string              // renames the variables of this expansion
}

// addMacros enters macros; the library comes last, and the script's win over its own of the same name and arity.
func (c *checker) addMacros(list []*ast.Macro, library bool) {
	for _, m := range list {
		c.checkParams(m)
		same := -1
		for i, old := range c.macros[m.Name] {
			if len(old.Params) == len(m.Params) {
				same = i
			}
		}
		switch {
		case same >= 0 && library:
		case same < 0:
			c.macros[m.Name] = append(c.macros[m.Name], &macro{m, library})
		default:
			c.diags.Errorf(CodeMacro, source.Span{Start: m.Sp.Start, End: m.NameSp.End}, "Redefinition of macro: %s", m.Name).Hint("macros of one name differ in the number of their parameters").
				Label(c.macros[m.Name][same].NameSp, "first defined here")
		}
	}
}

func (c *checker) checkParams(m *ast.Macro) {
	seen := map[string]bool{}
	for _, p := range m.Params {
		if seen[p.Name] {
			c.diags.Errorf(CodeMacro, p.Sp, "Ident for macro argument has already been used: %s", p.Name)
		}
		seen[p.Name] = true
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// maxExpanded bounds the nodes that macros may produce in one body, so that a few doubling macros end in a diagnostic.
const maxExpanded = 2_000_000

// lookupMacro finds the overload for a number of arguments. A macro exists under the name when found is set.
func (c *checker) lookupMacro(name string, args int) (m *macro, found bool) {
	if c.libraryNames[name] {
		c.library()
	}
	list := c.macros[name]
	for _, m := range list {
		if len(m.Params) == args {
			return m, true
		}
	}
	return nil, len(list) > 0
}

// call expands a macro call. args are already expanded.
func (x *expander) callMacro(m *macro, call source.Span, args []ast.Expr) ast.Expr {
	for f := x.frame; f != nil; f = f.parent {
		if f.macro.Macro == m.Macro {
			x.diags.Errorf(CodeMacroRecursion, call, "Recursive macro call detected. Call chain: %s", chain(x.frame, m.Name))
			return &ast.Bad{Base: ast.Base{Sp: call}}
		}
	}
	x.c.expansionCount++
	f := &frame{
		macro: m, parent: x.frame, exprs: map[string]ast.Expr{}, vars: map[string]string{}, maps: map[string]string{},
		prefix: fmt.Sprintf("$%s#%d:", m.Name, x.c.expansionCount),
	}
	mismatch := func(p *ast.MacroParam, arg ast.Expr, want string) *diag.Diagnostic {
		got := "an expression"
		switch arg.(type) {
		case *ast.Var:
			got = "a variable"
		case *ast.MapRef:
			got = "a map"
		}
		d := x.diags.Errorf(CodeMacro, call, "Call to %s() has arguments that do not match any definition.", m.Name).
			Label(arg.Span(), "Mismatched arg. %s() expects %s for arg %s but got %s.", m.Name, want, p.Name, got)
		if !m.library {
			d.Label(p.Sp, "This is the argument in the closest definition.")
		}
		return d
	}
	for i, p := range m.Params {
		arg := unparen(args[i])
		switch p.Name[0] {
		case '$':
			v, ok := arg.(*ast.Var)
			if !ok {
				mismatch(p, arg, "a variable").Hint("assign the value to a variable first, or name the parameter `%s` in the macro", p.Name[1:])
				return &ast.Bad{Base: ast.Base{Sp: call}}
			}
			f.vars[p.Name] = v.Name
		case '@':
			v, ok := arg.(*ast.MapRef)
			if !ok {
				mismatch(p, arg, "a map")
				return &ast.Bad{Base: ast.Base{Sp: call}}
			}
			f.maps[p.Name] = v.Name
		default:
			f.exprs[p.Name] = args[i]
		}
	}
	sub := &expander{c: x.c, diags: &diag.List{}, frame: f, counter: x.counter, args: x.args}
	block := sub.block(m.Body)
	e := &expansion{name: m.Name, call: call, library: m.library}
	x.c.adopt(x.diags, sub.diags, e)
	res := &ast.BlockExpr{Base: ast.Base{Sp: call}, Block: block}
	x.c.expansions[res] = e
	return res
}

func chain(f *frame, last string) string {
	names := []string{last}
	for ; f != nil; f = f.parent {
		names = append([]string{f.macro.Name}, names...)
	}
	return strings.Join(names, " > ")
}

// adopt moves the findings of a macro body into the list of the caller. Those inside a library macro are shown at the call, because its text is
// not the user's; those inside a macro of the script name the call as their origin.
func (c *checker) adopt(to, from *diag.List, e *expansion) {
	for _, d := range from.All() {
		if e.library && c.inLibrary(d.Span) {
			if d.Severity != diag.Error {
				continue // warnings about code that the user did not write
			}
			d.Origins = append(d.Origins, diag.Label{Span: d.Span, Text: fmt.Sprintf("in library macro `%s`", e.name)})
			d.Span = e.call
		} else if !covers(e.call, d.Span) {
			d.Origins = append(d.Origins, diag.Label{Span: e.call, Text: fmt.Sprintf("expanded from macro `%s`", e.name)})
		}
		to.Add(d)
	}
}

func covers(outer, inner source.Span) bool {
	return inner.Start >= outer.Start && inner.End <= outer.End
}

func (c *checker) inLibrary(sp source.Span) bool {
	f := c.set.File(sp.Start)
	return f != nil && c.libraryFiles[f]
}

// describe says what an expression is, for messages.
func describe(e ast.Expr) string {
	switch e := unparen(e).(type) {
	case *ast.Var:
		return "variable `" + e.Name + "`"
	case *ast.MapRef:
		return "map `" + e.Name + "`"
	case *ast.IntLit:
		return "an integer"
	case *ast.StrLit:
		return "a string"
	case *ast.BoolLit:
		return "a bool"
	case *ast.Ident:
		return "`" + e.Name + "`"
	case *ast.TypeArg:
		return "a type"
	}
	return "an expression"
}

func unparen(e ast.Expr) ast.Expr {
	for {
		p, ok := e.(*ast.Paren)
		if !ok {
			return e
		}
		e = p.X
	}
}
