package stdlib

import (
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

func aggregations() []Builtin {
	return []Builtin{
		{
			Name: "count", Doc: Doc{
				Group: "aggregation", Summary: "count events",
				Text:    "Adds one to the value. Each CPU counts for itself, so that nothing is lost and nothing waits; reading the value adds them up.",
				Example: "tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }", SeeAlso: []string{"sum"},
			},
			Func: &check.Func{Agg: types.Count, Result: always(&types.Type{Kind: types.Count, Size: 8})},
		},
		{
			Name: "sum", Doc: Doc{
				Group: "aggregation", Summary: "add values up",
				Text:    "Adds `n` to the value, per CPU as `count` does.",
				Example: "tracepoint:syscalls:sys_exit_read /args.ret > 0/ { @bytes[comm] = sum(args.ret); }", SeeAlso: []string{"count", "avg", "stats"},
			},
			Func: &check.Func{Agg: types.Sum, Params: params(req("n", check.Number)), Result: aggregate(types.Sum)},
		},
		{
			Name: "avg", Doc: Doc{
				Group: "aggregation", Summary: "average of values",
				Text:    "Keeps count and total; the average is computed when it is printed or read.",
				Example: "tracepoint:syscalls:sys_exit_read /args.ret > 0/ { @size = avg(args.ret); }", SeeAlso: []string{"sum", "stats"},
			},
			Func: &check.Func{Agg: types.Avg, Params: params(req("n", check.Number)), Result: aggregate(types.Avg)},
		},
		{
			Name: "min", Doc: Doc{
				Group: "aggregation", Summary: "smallest value",
				Text:    "Keeps the smallest value seen; the first one always counts.",
				Example: "tracepoint:syscalls:sys_exit_read { @least = min(args.ret); }", SeeAlso: []string{"max"},
			},
			Func: &check.Func{Agg: types.Min, Params: params(req("n", check.Number)), Result: aggregate(types.Min)},
		},
		{
			Name: "max", Doc: Doc{
				Group: "aggregation", Summary: "largest value",
				Text:    "Keeps the largest value seen; the first one always counts.",
				Example: "tracepoint:syscalls:sys_exit_read { @most = max(args.ret); }", SeeAlso: []string{"min"},
			},
			Func: &check.Func{Agg: types.Max, Params: params(req("n", check.Number)), Result: aggregate(types.Max)},
		},
		{
			Name: "stats", Doc: Doc{
				Group: "aggregation", Summary: "count, average and total of values",
				Text:    "What `count`, `avg` and `sum` give, in one map.",
				Example: "tracepoint:syscalls:sys_exit_read /args.ret > 0/ { @[comm] = stats(args.ret); }", SeeAlso: []string{"count", "avg", "sum"},
			},
			Func: &check.Func{Agg: types.Stats, Params: params(req("n", check.Number)), Result: aggregate(types.Stats)},
		},
		{
			Name: "hist", Doc: Doc{
				Group: "aggregation", Summary: "histogram with buckets of powers of two",
				Text:    "Counts values in buckets that double in size. `k` (0 to 5) divides each power of two into 2^k buckets.",
				Example: "tracepoint:syscalls:sys_exit_read { @bytes = hist(args.ret); }", SeeAlso: []string{"lhist"},
			},
			Func: &check.Func{Agg: types.Hist, Params: params(req("n", check.Number), check.Param{Name: "k", Class: check.IntLiteral, Optional: true, NotLiteral: "hist: invalid bits value, need integer literal"}), Result: histResult},
		},
		{
			Name: "lhist", Doc: Doc{
				Group: "aggregation", Summary: "histogram with buckets of one size",
				Text:    "Counts values from `min` up to `max` in buckets of `step`; values below and above have a bucket of their own. At most 1000 buckets.",
				Example: "tracepoint:syscalls:sys_exit_read { @bytes = lhist(args.ret, 0, 10000, 1000); }", SeeAlso: []string{"hist"},
			},
			Func: &check.Func{Agg: types.LHist, Params: params(req("n", check.Number), literal("min", "lhist: invalid min value (must be non-negative literal)"),
				literal("max", "lhist: invalid max value (must be non-negative literal)"), literal("step", "lhist: invalid step value")), Result: lhistResult},
		},
		{
			Name: "tseries", Doc: Doc{
				Group: "aggregation", Summary: "values over time",
				Text: "Keeps the last `num_intervals` intervals of `interval_ns` nanoseconds each, and in each of them the last value, or the `avg`, `sum`, `min` or `max` of its values. " +
					"Durations such as `100ms` are nanoseconds.",
				Example: "interval:ms:100 { @ = tseries(rand % 10, 1s, 20, \"max\"); }",
			},
			Func: &check.Func{Agg: types.TSeries, Unstable: "unstable_tseries", Params: params(req("n", check.Number), literal("interval_ns", "tseries: invalid interval_ns value (must be non-negative literal)"),
				literal("num_intervals", "tseries: invalid num_intervals value (must be non-negative literal)"), opt("agg", check.StrLiteral)), Result: tseriesResult},
		},
	}
}

// aggregate is the type of an aggregation of one value; Elem keeps the type of the value, because signed and unsigned ones cannot be mixed.
func aggregate(kind types.Kind) func(*check.Call) *types.Type {
	return func(c *check.Call) *types.Type {
		elem := c.Type(0)
		if elem.IsAggregation() || elem.Kind != types.Int {
			elem = types.IntOf(8, elem.Signed)
		}
		return &types.Type{Kind: kind, Size: 8, Signed: elem.Signed, Elem: elem}
	}
}

func histResult(c *check.Call) *types.Type {
	bits, _ := c.Int(1)
	if bits < 0 || bits > 5 {
		c.Diags.Errorf(check.CodeLiteralRange, c.Node.Sp, "hist: bits %d must be 0..5", bits)
		return types.TInvalid
	}
	return &types.Type{Kind: types.Hist, Size: 8, Bits: int(bits)}
}

func lhistResult(c *check.Call) *types.Type {
	lo, _ := c.Int(1)
	hi, _ := c.Int(2)
	step, _ := c.Int(3)
	bad := func(format string, args ...any) *types.Type {
		c.Diags.Errorf(check.CodeLiteralRange, c.Node.Sp, "lhist"+format, args...)
		return types.TInvalid
	}
	switch {
	case lo < 0:
		return bad(": invalid min value (must be non-negative literal)")
	case hi < 0:
		return bad(": invalid max value (must be non-negative literal)")
	case step < 0:
		return bad(": invalid step value")
	case step == 0:
		return bad("() step must be >= 1 (%d provided)", step)
	case lo > hi:
		return bad("() min must be less than max (provided min %d and max %d)", lo, hi)
	case (hi-lo)/step > 1000:
		return bad("() too many buckets, must be <= 1000 (would need %d)", (hi-lo)/step)
	case hi-lo < step:
		return bad("() step is too large for the given range (provided step %d for range %d)", step, hi-lo)
	}
	return &types.Type{Kind: types.LHist, Size: 8, Lo: lo, Hi: hi, Step: step}
}

func tseriesResult(c *check.Call) *types.Type {
	interval, _ := c.Int(1)
	n, _ := c.Int(2)
	agg, _ := c.Str(3)
	bad := func(format string, args ...any) *types.Type {
		c.Diags.Errorf(check.CodeLiteralRange, c.Node.Sp, "tseries"+format, args...)
		return types.TInvalid
	}
	kinds := map[string]types.Kind{"": types.Invalid, "avg": types.Avg, "sum": types.Sum, "min": types.Min, "max": types.Max}
	kind, known := kinds[agg]
	switch {
	case interval < 0:
		return bad(": invalid interval_ns value (must be non-negative literal)")
	case n < 0:
		return bad(": invalid num_intervals value (must be non-negative literal)")
	case interval == 0:
		return bad("() interval_ns must be >= 1 (%d provided)", interval)
	case n == 0:
		return bad("() num_intervals must be >= 1 (%d provided)", n)
	case n > 1000000:
		return bad("() num_intervals must be < 1000000 (%d provided)", n)
	case !known || len(c.Args) > 3 && agg == "":
		return bad("() expects one of the following aggregation functions: avg, max, min, sum (%q provided)", agg)
	}
	elem := c.Type(0)
	if elem.IsAggregation() || elem.Kind != types.Int {
		elem = types.IntOf(8, elem.Signed)
	}
	return &types.Type{Kind: types.TSeries, Size: 8, Signed: elem.Signed, Elem: elem, IntervalNS: interval, Buckets: int(n), Agg: kind}
}
