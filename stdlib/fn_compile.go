package stdlib

import (
	"slices"
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
)

// compileFuncs are evaluated while compiling.
func compileFuncs() []Builtin {
	is := func(name, what, example string, f func(c *check.Call, t *types.Type) bool) Builtin {
		return Builtin{
			Name: name, Doc: Doc{
				Group: "compile time", Summary: "whether a value is " + what,
				Text:    "Known while compiling, so that `if comptime (" + name + "(x))` chooses a branch.",
				Example: example,
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("value", check.AnyArg)), Result: func(c *check.Call) *types.Type {
				return setBool(c, f(c, c.Type(0)))
			}},
		}
	}
	return []Builtin{
		is("is_array", "an array", "BEGIN { print(is_array(1)); }", func(_ *check.Call, t *types.Type) bool { return t.Kind == types.Array }),
		is("is_integer", "an integer", "BEGIN { print(is_integer(1)); }", func(_ *check.Call, t *types.Type) bool {
			return t.Kind == types.Int || t.Kind == types.Enum
		}),
		is("is_literal", "a literal", "BEGIN { print(is_literal(1)); }", func(c *check.Call, _ *types.Type) bool { return isLiteral(c, 0) }),
		is("is_ptr", "a pointer", "BEGIN { print(is_ptr(curtask)); }", func(_ *check.Call, t *types.Type) bool { return t.Kind == types.Pointer }),
		is("is_str", "a string", "BEGIN { print(is_str(comm)); }", func(_ *check.Call, t *types.Type) bool { return t.Kind == types.String }),
		is("is_unsigned_integer", "an unsigned integer", "BEGIN { print(is_unsigned_integer(1)); }", func(c *check.Call, t *types.Type) bool {
			if isLiteral(c, 0) { // a literal is signed by itself, unless only an unsigned type holds it
				return t.Kind == types.Int && t.Size == 8 && !t.Signed
			}
			return (t.Kind == types.Int || t.Kind == types.Enum) && !t.Signed
		}),
		{
			Name: "assert_str", Doc: Doc{
				Group: "compile time", Summary: "require a string",
				Text:    "An error while compiling when the value is neither a string nor an array or pointer of characters.",
				Example: "BEGIN { assert_str(comm); }",
			},
			Func: &check.Func{Macro: true, Params: params(req("value", check.AnyArg)), Result: void(func(c *check.Call) {
				t := c.Type(0)
				if t.Kind == types.Pointer && t.Elem != nil && t.Elem.Kind == types.Int && t.Elem.Size == 1 {
					return
				}
				if !textArg(t) {
					notString(c)
				}
			})},
		},
		{
			Name: "default_str_length", Doc: Doc{
				Group: "compile time", Summary: "limit of strings without a length",
				Text:    "The value of `max_strlen`.",
				Example: "BEGIN { print(default_str_length()); }",
			},
			Func: &check.Func{Macro: true, MustUse: true, Result: func(c *check.Call) *types.Type {
				return setInt(c, int64(c.Info.Config.MaxStrlen), types.TUint64)
			}},
		},
		{
			Name: "static_assert", Doc: Doc{
				Group: "compile time", Summary: "require something while compiling",
				Text:    "An error with the message when the condition is false. Both must be known while compiling.",
				Example: "BEGIN { static_assert(sizeof(comm) == 16, \"comm has 16 bytes\"); }", SeeAlso: []string{"fail"},
			},
			Func: &check.Func{Macro: true, Params: params(req("condition", check.AnyValue), req("message", check.StrLiteral)), Result: void(func(c *check.Call) {
				v, ok := c.Int(0)
				msg, _ := c.Str(1)
				switch {
				case !ok:
					c.Diags.Errorf(check.CodeNotLiteral, c.Node.Sp, "Unable to resolve comptime expression").Hint("the condition of `static_assert()` must be known while compiling")
				case v == 0:
					c.Diags.Errorf(check.CodeStaticAssert, c.Node.Sp, "%s", msg)
				}
			})},
		},
		{
			Name: "config", Doc: Doc{
				Group: "compile time", Summary: "the settings in force",
				Text:    "A record with all config keys, as the script, the environment and the defaults set them: `config().max_strlen`. It can be written without parentheses.",
				Example: "BEGIN { print(config().max_strlen); }",
			},
			Func: &check.Func{Macro: true, MustUse: true, Result: configResult},
		},
		{
			Name: "getopt", Doc: Doc{
				Group: "compile time", Summary: "named parameter of the script",
				Text: "The value of `--name=value` behind `--` on the command line. The default gives the type (integer, bool or string) and the value when the parameter is not given; without a default " +
					"it is a bool. The description is shown by `--help`.",
				Example: "BEGIN { print(getopt(\"limit\", 10, \"how many lines\")); }",
			},
			Func: &check.Func{
				MustUse: true, Result: getoptResult,
				Params: params(
					check.Param{Name: "name", Class: check.StrLiteral, NotLiteral: "First argument to 'getopt' must be a string literal."},
					opt("default", check.AnyValue), opt("description", check.StrLiteral)),
				CountMessage: "The 'getopt' function can take a maximum of three arguments and a minimum of one argument.",
			},
		},
		{
			Name: "kfunc_exist", Doc: Doc{
				Group: "compile time", Summary: "whether the kernel has a function of this name",
				Text:    "Looked up in the kernel's types while compiling. Whether BPF programs may call it is what `kfunc_allowed` tells.",
				Example: "BEGIN { print(kfunc_exist(\"bpf_task_from_pid\")); }", SeeAlso: []string{"kfunc_allowed"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(check.Param{Name: "name", Class: check.StrLiteral, NotLiteral: "kfunc_exist() accepts a string literal only"}), Result: kfuncResult},
		},
		{
			Name: "kfunc_allowed", Doc: Doc{
				Group: "compile time", Summary: "whether this probe may call a kernel function",
				Text:    "False when the kernel has no such function for BPF programs, and in probes whose programs do not know the kernel's types.",
				Example: "BEGIN { print(kfunc_allowed(\"bpf_task_from_pid\")); }", SeeAlso: []string{"kfunc_exist"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("name", check.StrLiteral)), Result: kfuncResult},
		},
	}
}

func kfuncResult(c *check.Call) *types.Type {
	name, _ := c.Str(0)
	known := kfuncKnown(c, name)
	if c.Node.Func == "kfunc_exist" {
		known = known || c.Env.Types != nil && c.Env.Types.FuncProto(name) != nil
	} else {
		for _, k := range bodyKinds(c.Body) {
			known = known && slices.Contains(typedKinds, k)
		}
	}
	return setBool(c, known)
}

// kfuncKnown tells whether the kernel has a function that programs may call.
func kfuncKnown(c *check.Call, name string) bool {
	if m, ok := c.Env.Machine.(interface{ HasKfunc(name string) bool }); ok {
		return m.HasKfunc(name)
	}
	return c.Env.Types != nil && c.Env.Types.FuncProto(name) != nil
}

func isLiteral(c *check.Call, i int) bool { return literalExpr(c, c.Args[i]) }

func literalExpr(c *check.Call, e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.IntLit, *ast.StrLit, *ast.BoolLit, *ast.Positional:
		return true
	case *ast.Tuple:
		for _, x := range e.Elems {
			if !literalExpr(c, x) {
				return false
			}
		}
		return true
	case *ast.Paren:
		return literalExpr(c, e.X)
	case *ast.Call: // the text of a literal
		return e.Func == "str" && len(e.Args) == 1 && literalExpr(c, e.Args[0])
	case *ast.Unary:
		_, ok := c.Body.Consts[e]
		return ok
	case *ast.Binary:
		_, ok := c.Body.Consts[e]
		return ok
	}
	return false
}

// getoptResult reads a named parameter and registers it for --help.
func getoptResult(c *check.Call) *types.Type {
	name, _ := c.Str(0)
	if name == "" {
		c.Diags.Errorf(check.CodeOption, c.Args[0].Span(), "a named parameter needs a name")
		return types.TInvalid
	}
	opt := &check.Option{Name: name, Kind: "bool", Default: "false", Span: c.Node.Sp}
	if help, ok := c.Str(2); ok {
		opt.Help = help
	}
	t := types.TBool
	if len(c.Args) > 1 {
		switch dt := c.Type(1); dt.Kind {
		case types.String:
			s, ok := c.Str(1)
			if !ok {
				return badDefault(c)
			}
			opt.Kind, opt.Default = "string", s
			t = types.StringOf(stringLimit(c))
		case types.Bool:
			v, ok := c.Int(1)
			if !ok {
				return badDefault(c)
			}
			opt.Default = "false"
			if v != 0 {
				opt.Default = "true"
			}
		case types.Int:
			v, ok := c.Int(1)
			if !ok {
				return badDefault(c)
			}
			opt.Kind, opt.Default = "int", formatInt(v, dt)
			t = types.TInt64
		default:
			return badDefault(c)
		}
	}
	if !c.Info.AddOption(opt) {
		c.Diags.Errorf(check.CodeDuplicateOption, c.Node.Sp, "Command line option '%s' needs to have the same default value in all places it is used. Previous default value: %s", name, defaultOf(c.Info, name))
		return types.TInvalid
	}
	text, given := c.Env.Named[name]
	if c.Env.NamedUsed != nil {
		c.Env.NamedUsed[name] = true
	}
	if !given {
		text = opt.Default
	}
	return parseOption(c, opt, text, t)
}

func formatInt(v int64, t *types.Type) string {
	c := check.Const{Int: v}
	return c.Text(t)
}

func badDefault(c *check.Call) *types.Type {
	c.Diags.Errorf(check.CodeOption, c.Args[1].Span(), "Second argument to 'getopt' must be a string literal, integer literal, or a boolean literal.")
	return types.TInvalid
}

// badInteger tells what is wrong with the text of a number.
func badInteger(text string) string {
	digits := strings.TrimLeft(strings.TrimPrefix(text, "-"), "0123456789")
	switch {
	case text == "" || digits == strings.TrimPrefix(text, "-"):
		return "invalid integer"
	case digits == "":
		return "value is out of range"
	}
	return "invalid trailing bytes"
}

func parseOption(c *check.Call, opt *check.Option, text string, t *types.Type) *types.Type {
	fail := func(format string) *types.Type {
		c.Diags.Errorf(check.CodeOption, source.Span{}, "program command line option --%s "+format+" (value: %s)", opt.Name, text)
		return types.TInvalid
	}
	switch opt.Kind {
	case "string":
		if c.Env.NamedBare[opt.Name] {
			return fail("expects a string")
		}
		setString(c, text)
		return t
	case "int":
		v, ok := check.ParseInt(text)
		switch {
		case text == "true" || text == "false":
			return fail("expects an integer")
		case !ok:
			return fail(badInteger(text))
		case v < 0 && !strings.HasPrefix(text, "-"): // a value that only fits without a sign
			t = types.TUint64
		}
		return setInt(c, v, t)
	}
	switch strings.ToLower(text) {
	case "true", "1", "yes", "on":
		return setBool(c, true)
	case "false", "0", "no", "off":
		return setBool(c, false)
	}
	return fail("expects a boolean (e.g. 'true')")
}

// defaultOf is the default that a named parameter has at its first use.
func defaultOf(info *check.Info, name string) string {
	for _, o := range info.Options {
		if o.Name == name {
			return o.Default
		}
	}
	return ""
}
