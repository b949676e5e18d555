package stdlib

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/value"
)

// formatted is the rule of functions that take a printf format.
var formatted = void(func(c *check.Call) { check.CheckFormat(c, 0) })

func formatParams() []check.Param {
	return params(req("format", check.StrLiteral), rest("args", check.AnyValue))
}

func outputFuncs() []Builtin {
	return []Builtin{
		{
			Name: "printf", Doc: Doc{
				Group: "output", Summary: "print formatted values",
				Text: "Formats as C does: `%d %i %u %x %X %o %c %p %s` with flags, width, precision and length. `%s` also prints enumerators, symbols, addresses of hosts, stacks and everything else that " +
					"has a text; `%r`, `%rx` and `%rh` print what `buf` returns; `%gr` prints flags of memory allocations by name. The format must be a literal. The text is made in user space.",
				Example: "BEGIN { printf(\"%s has pid %d\\n\", comm, pid); }", SeeAlso: []string{"print", "errorf", "warnf"},
			},
			Func: &check.Func{Params: formatParams(), Result: formatted},
		},
		{
			Name: "errorf", Doc: Doc{
				Group: "output", Summary: "print a formatted error",
				Text:    "Like `printf`, but prints to standard error as an error, with the place of the call in the script. The script goes on.",
				Example: "BEGIN { errorf(\"bad value: %d\", 10); }", SeeAlso: []string{"printf", "warnf", "fail"},
			},
			Func: &check.Func{Params: formatParams(), Result: formatted},
		},
		{
			Name: "warnf", Doc: Doc{
				Group: "output", Summary: "print a formatted warning",
				Text:    "Like `errorf`, but prints a warning, and nothing when warnings are turned off.",
				Example: "BEGIN { warnf(\"odd value: %d\", 10); }", SeeAlso: []string{"printf", "errorf"},
			},
			Func: &check.Func{Params: formatParams(), Result: formatted},
		},
		{
			Name: "debugf", Doc: Doc{
				Group: "output", Summary: "write to the kernel's trace buffer",
				Text: "Writes a text with up to three integers to the kernel's own trace buffer (`trace_pipe` in tracefs), by the helper that the kernel has for debugging programs. It is slow, and all users of the " +
					"machine share the buffer: use `printf` for everything else.",
				Example: "BEGIN { debugf(\"pid %d\", pid); }", SeeAlso: []string{"printf"},
			},
			Func: &check.Func{Params: formatParams(), Result: void(debugfCheck)},
		},
		{
			Name: "print", Doc: Doc{
				Group: "output", Summary: "print a map or a value",
				Text: "A map is printed as a whole: `top` limits it to the entries with the largest values, and `div` divides the values before they are printed. Maps are read when user space gets to it, " +
					"so a map that changes quickly is printed as it is then. Any other value is copied and printed as it was at the call.\n\n" +
					"Words behind the map choose what is printed of it. `p50`, `p99`, `p999` (`p1` to `p99`, 99.9 and 99.99 per cent) print percentiles of a histogram instead of its buckets, each as the bucket " +
					"that it lies in, because a histogram knows no more: `hist(x, 5)` has buckets 3 % wide. `rate` prints counts, sums and integers per second, since the start or the last `clear` or `zero`. " +
					"`by_count`, `by_average` and `by_total` sort the values of `stats`, `by_0`, `by_1` ... tuples by one of their fields; with `top` the largest are left.",
				Example: "BEGIN { @[1] = 10; @[2] = 20; print(@, 1); print((1, \"two\")); }", SeeAlso: []string{"printf", "clear", "zero"},
			},
			Func: &check.Func{
				Params:  printParams(),
				Effects: []check.Effect{check.EffectPrint}, Result: void(printCheck),
			},
		},
		{
			Name: "cat", Doc: Doc{
				Group: "output", Summary: "print a file",
				Text:    "Prints the contents of the file whose name the format and its arguments make, at most `max_cat_bytes` of it. The file is read by user space when it gets to it.",
				Example: "BEGIN { cat(\"/proc/loadavg\"); }", SeeAlso: []string{"system"},
			},
			Func: &check.Func{Params: formatParams(), Result: formatted},
		},
		{
			Name: "join", Doc: Doc{
				Group: "output", Summary: "print an array of strings",
				Text:    "Prints the strings that an array of pointers leads to, up to the first null pointer, with a separator between them (a blank when it is left out) and a line break at the end.",
				Example: "tracepoint:syscalls:sys_enter_execve { join(args.argv); }",
			},
			Func: &check.Func{Params: params(req("array", check.AnyArg), opt("separator", check.StrLiteral)), Result: void(func(c *check.Call) {
				if t := c.Type(0); (!t.IsInteger() || t.Kind == types.Bool) && t.Kind != types.Pointer {
					typeError(c, 0, "int or pointer")
				}
			})},
		},
		{
			Name: "time", Doc: Doc{
				Group: "output", Summary: "print the time of day",
				Text:    "Prints the wall-clock time by a format of strftime(3), `%H:%M:%S` and a line break when there is none. It is the time at which user space gets to it; use `strftime` for the time of the event.",
				Example: "interval:s:1 { time(\"%H:%M:%S\\n\"); exit(); }", SeeAlso: []string{"strftime"},
			},
			Func: &check.Func{Params: params(opt("format", check.StrLiteral))},
		},
		{
			Name: "exit", Doc: Doc{
				Group: "output", Summary: "end the script",
				Text:    "Ends the run as Ctrl-C does: `end` probes run and maps are printed. The argument becomes the exit status. Statements after `exit()` are not executed.",
				Example: "BEGIN { exit(3); }",
			},
			Func: &check.Func{Params: params(opt("code", check.Number))},
		},
		{
			Name: "fail", Doc: Doc{
				Group: "compile time", Summary: "end the compilation with an error",
				Text:    "Reports an error with the formatted text when the call is not in a branch that was left out while compiling. All arguments must be literals.",
				Example: "BEGIN { if ($# > 9) { fail(\"at most 9 parameters, got %d\", $#); } }", SeeAlso: []string{"static_assert"},
			},
			Func: &check.Func{Params: formatParams(), Result: void(failCheck)},
		},
	}
}

// printParams: numbers and words may stand at all places behind the map.
func printParams() []check.Param {
	words := value.ViewWords()
	top, div, how := opt("top", check.IntLiteral), opt("div", check.IntLiteral), rest("how", check.AnyArg)
	top.Words, div.Words, how.Words = words, words, words
	return params(req("value", check.MapOrValue), top, div, how)
}

// viewWords are the words among the arguments of print, in order.
func viewWords(c *check.Call) string {
	var words []string
	for i := 1; i < len(c.Args); i++ {
		if w, ok := c.Str(i); ok {
			words = append(words, w)
		}
	}
	return strings.Join(words, " ")
}

// isContext reports whether a value is the context of a program, or the struct that it is.
func isContext(t *types.Type) bool {
	return t.Prov == types.ProvCtx && (t.Kind == types.Pointer || t.Kind == types.Struct)
}

// printCheck checks what print is given beside maps.
func printCheck(c *check.Call) {
	t := c.Type(0)
	if t.Kind == types.MapKind {
		if n := len(c.Args); n > 3 && len(strings.Fields(viewWords(c))) < n-3 {
			c.Diags.Errorf(check.CodeArgCount, c.Node.Sp, "print() takes up to 3 arguments (%d provided)", n).Hint("`top`, `div` and words such as p99")
			return
		}
		m := mapOf(c, 0)
		if words := viewWords(c); words != "" && m != nil && m.Value != nil {
			if _, err := value.ParseView(words, m.Value); err != nil {
				d := c.Diags.Errorf(check.CodeArgType, c.Node.Sp, "print(): %v", err)
				if m.Value.Kind == types.Stats && strings.HasPrefix(words, "p") {
					d.Hint("stats() keeps count, average and total only: use hist()")
				}
			}
			return
		}
		if m != nil && m.Value != nil && m.Value.Kind == types.Stats && len(c.Args) > 1 {
			c.Diags.Warnf(check.CodeTooLong, c.Node.Sp, "print()'s top and div arguments are ignored when used on stats() maps.")
		}
		return
	}
	switch {
	case t.Kind == types.Hist, t.Kind == types.LHist, t.Kind == types.TSeries, t.Kind == types.Stats:
		c.Diags.Errorf(check.CodeAggregation, c.Node.Sp, "Map type %s cannot print the value of individual keys. You must print the whole map.", t)
	case len(c.Args) > 3:
		c.Diags.Errorf(check.CodeArgCount, c.Node.Sp, "print() takes up to 3 arguments (%d provided)", len(c.Args))
	case len(c.Args) > 1:
		c.Diags.Errorf(check.CodeArgCount, c.Node.Sp, "Non-map print() only takes 1 argument, %d found", len(c.Args))
	case t.Kind == types.TypeValue, t.Kind == types.Void, t.Kind == types.Module, isContext(t):
		c.Diags.Errorf(check.CodeArgType, c.Node.Sp, "%s type passed to print() is not printable", t)
	}
}

// debugfCheck checks a format for the kernel, which knows integers and pointers and at most three of them.
func debugfCheck(c *check.Call) {
	c.Diags.Warnf(check.CodeDeprecated, c.Node.Sp, "The debugf() builtin is not recommended for production use. For more information see bpf_trace_printk in bpf-helpers(7).")
	before := c.Diags.Len()
	check.CheckFormat(c, 0)
	if c.Diags.Len() > before {
		return
	}
	if len(c.Args) > maxDebugArgs+1 {
		c.Diags.Errorf(check.CodeArgCount, c.Node.Sp, "debugf() takes up to %d arguments behind the format (%d provided)", maxDebugArgs, len(c.Args)-1)
		return
	}
	format, _ := c.Str(0)
	for i, v := range check.ParseFormat(format) {
		if t := c.Type(i + 1); !isInt(t) && t.Kind != types.Pointer && t.Kind != types.Bool || !slices.Contains([]string{"d", "i", "u", "x", "p"}, v.Conv) || v.Flags != "" || v.Width >= 0 || v.Precision >= 0 {
			c.Diags.Errorf(check.CodeFormat, c.Node.Sp, "debugf() prints integers by %%d, %%i, %%u, %%x and %%p only").Hint("use `printf`")
			return
		}
	}
}

// maxDebugArgs is how many values the kernel's bpf_trace_printk takes.
const maxDebugArgs = 3

// failCheck reports the error that the call asks for.
func failCheck(c *check.Call) {
	args := make([]any, 0, len(c.Args))
	for i := range c.Args {
		if i == 0 {
			continue
		}
		if s, ok := c.Str(i); ok {
			args = append(args, s)
			continue
		}
		n, ok := c.Int(i)
		if !ok {
			c.Diags.Errorf(check.CodeNotLiteral, c.Node.Sp, "fail() arguments need to be literals")
			return
		}
		args = append(args, n)
	}
	before := c.Diags.Len()
	check.CheckFormat(c, 0)
	if c.Diags.Len() > before {
		return
	}
	format, _ := c.Str(0)
	c.Diags.Errorf(check.CodeFail, c.Node.Sp, "%s", sprintf(format, args))
}

// sprintf formats literals by a C format; the conversions that differ from Go's are rewritten.
func sprintf(format string, args []any) string {
	out, last := "", 0
	for i, v := range check.ParseFormat(format) {
		if i >= len(args) {
			break
		}
		out += unescapePercent(format[last:v.Start])
		conv := v.Conv
		if conv == "i" || conv == "u" {
			conv = "d"
		}
		spec := "%" + v.Flags
		if v.Width >= 0 {
			spec += fmt.Sprint(v.Width)
		}
		if v.Precision >= 0 {
			spec += fmt.Sprintf(".%d", v.Precision)
		}
		out += fmt.Sprintf(spec+conv, args[i])
		last = v.End
	}
	return out + unescapePercent(format[last:])
}

func unescapePercent(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		out = append(out, s[i])
		if s[i] == '%' && i+1 < len(s) && s[i+1] == '%' {
			i++
		}
	}
	return string(out)
}
