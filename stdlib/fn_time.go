package stdlib

import (
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

func timeFuncs() []Builtin {
	return []Builtin{
		{
			Name: "nsecs", Doc: Doc{
				Group: "time", Summary: "time in nanoseconds by a clock",
				Text: "`nsecs(boot)` counts from the start of the machine and goes on while it sleeps, as `nsecs` alone; `nsecs(monotonic)` stops while it sleeps; `nsecs(tai)` is atomic time; `nsecs(sw_tai)` computes " +
					"atomic time on kernels that cannot read it.",
				Example: "interval:s:1 { print(nsecs(monotonic)); exit(); }", SeeAlso: []string{"elapsed", "strftime"},
			},
			Func: &check.Func{MustUse: true, Params: params(check.Param{
				Name: "timestamp_mode", Class: check.Word, Words: []string{"boot", "monotonic", "tai", "sw_tai"}, BadWord: "Invalid timestamp mode: %s", Optional: true,
			}), Result: always(types.TUint64)},
		},
		{
			Name: "strftime", Doc: Doc{
				Group: "time", Summary: "time of an event as text",
				Text:    "Prints a time stamp of `nsecs` as wall-clock time, by a format of strftime(3); `%f` stands for microseconds. The text is made when the value is printed.",
				Example: "BEGIN { printf(\"%s\\n\", strftime(\"%H:%M:%S.%f\", nsecs)); }", SeeAlso: []string{"time", "nsecs"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("format", check.StrLiteral), req("nsecs", check.Number)), Result: strftimeResult},
		},
	}
}

func strftimeResult(c *check.Call) *types.Type {
	clock := ""
	if call, ok := c.Args[1].(*ast.Call); ok && call.Func == "nsecs" {
		if inner := c.Body.Calls[call]; inner != nil {
			mode, _ := inner.Str(0)
			if mode == "tai" || mode == "sw_tai" {
				clock = mode
			}
			if mode == "monotonic" {
				c.Diags.Errorf(check.CodeArgType, c.Node.Sp, "strftime() can not take a monotonic timestamp").Hint("use `nsecs` or `nsecs(boot)`")
				return types.TInvalid
			}
		}
	}
	if n, ok := c.Int(1); ok && n < 0 && c.Type(1).Signed {
		c.Diags.Errorf(check.CodeLiteralRange, c.Node.Sp, "strftime() does not accept negative timestamps")
		return types.TInvalid
	}
	format, _ := c.Str(0)
	return &types.Type{Kind: types.Timestamp, Size: 16, Format: format, Name: clock}
}
