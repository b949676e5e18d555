package stdlib

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/lang/check"
)

// longestString is the limit of max_strlen, in bytes with the NUL.
const longestString = 1 << 20

// setInt, setBool and one of make the Set of a config key.
func intKey(lo, hi int64, set func(*check.Config, int)) func(*check.Config, string) error {
	return func(c *check.Config, text string) error {
		v, ok := check.ParseInt(strings.TrimSpace(text))
		switch {
		case !ok:
			return fmt.Errorf("expecting a number, got %s", text)
		case v < lo:
			return fmt.Errorf("%d is less than %d", v, lo)
		case v > hi:
			return fmt.Errorf("%d is more than %d", v, hi)
		}
		set(c, int(v))
		return nil
	}
}

func boolKey(set func(*check.Config, bool)) func(*check.Config, string) error {
	return func(c *check.Config, text string) error {
		text = strings.ToLower(strings.TrimSpace(text))
		n, err := strconv.ParseUint(text, 0, 64)
		switch {
		case err == nil, text == "true", text == "yes", text == "on":
			set(c, err != nil || n != 0)
		case text == "false", text == "no", text == "off":
			set(c, false)
		default:
			return errors.New("Invalid bool value: valid values are true, false, 1 or 0.") //nolint:staticcheck // a message for the user
		}
		return nil
	}
}

// oneOf accepts some words, without regard to case; anything else is answered with message.
func oneOf(words []string, message string, set func(*check.Config, string)) func(*check.Config, string) error {
	return func(c *check.Config, text string) error {
		for _, w := range words {
			if strings.EqualFold(w, strings.TrimSpace(text)) {
				set(c, w)
				return nil
			}
		}
		return errors.New(strings.ReplaceAll(message, "%s", text))
	}
}

// exactly accepts one of some words as they are written; anything else is answered with message.
func exactly(words []string, message string, set func(*check.Config, string)) func(*check.Config, string) error {
	return func(c *check.Config, text string) error {
		if !slices.Contains(words, text) {
			return errors.New(strings.ReplaceAll(message, "%s", text))
		}
		set(c, text)
		return nil
	}
}

func anyText(set func(*check.Config, string)) func(*check.Config, string) error {
	return func(c *check.Config, text string) error {
		set(c, text)
		return nil
	}
}

func unstableKey(name, def, what string) ConfigEntry {
	return ConfigEntry{
		Default: def, Doc: Doc{
			Group: "config", Summary: "whether " + what + " may be used",
			Text:    "`enable` turns the feature on, `warn` too but says that it may change, `error` turns it off.",
			Example: "config = { " + name + " = enable }\nBEGIN { exit(); }",
		},
		Key: check.ConfigKey{Name: name, Set: oneOf([]string{"enable", "warn", "error"}, "Invalid value for unstable config: valid values are enable, warn, and error.", func(c *check.Config, v string) { c.Unstable[name] = v })},
	}
}

// noEffect is a key that other versions know; a config block that sets it is warned, but for the keys that still matter to bpftrace.
func noEffect(name, value, why string) ConfigEntry {
	quiet := name == "use_blazesym"
	return ConfigEntry{
		Doc: Doc{Group: "config", Summary: "kept for compatibility, without effect", Text: why, Example: "config = { " + name + " = " + value + " }\nBEGIN { exit(); }"},
		Key: check.ConfigKey{Name: name, NoEffect: !quiet, Set: func(*check.Config, string) error { return nil }},
	}
}

// licenses are those that the kernel counts as compatible with its own.
var licenses = []string{"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"}

func configKeys() []ConfigEntry {
	key := func(name, def, summary, text string, set func(*check.Config, string) error, aliases ...string) ConfigEntry {
		example := def
		if example == "" || strings.ContainsAny(example, ". /") {
			example = strconv.Quote(def)
		}
		return ConfigEntry{
			Default: def, Aliases: aliases, Key: check.ConfigKey{Name: name, Set: set},
			Doc: Doc{Group: "config", Summary: summary, Text: text, Example: "config = { " + name + " = " + example + " }\nBEGIN { exit(); }"},
		}
	}
	const maxInt = math.MaxInt32
	return []ConfigEntry{
		key("cache_user_symbols", "PER_PID", "how symbols of processes are kept",
			"`PER_PID` keeps a table for each process, `PER_PROGRAM` one for each program file, which saves memory but is only right without address randomisation, `NONE` keeps nothing and is slow.",
			func(c *check.Config, v string) error {
				switch strings.TrimSpace(v) {
				case "1": // old spelling of true
					v = "PER_PROGRAM"
				case "0":
					v = "NONE"
				}
				return oneOf([]string{"PER_PID", "PER_PROGRAM", "NONE"}, "Invalid value for cache_user_symbols: valid values are PER_PID, PER_PROGRAM, and NONE.", func(c *check.Config, v string) { c.UserSymbolCache = v })(c, v)
			}),
		key("cpp_demangle", "true", "whether names of C++ are made readable", "Names in stacks and symbols of user space.",
			boolKey(func(c *check.Config, v bool) { c.CppDemangle = v })),
		key("lazy_symbolication", "false", "whether symbols are looked up when they are first needed",
			"Otherwise the symbols of running processes are read before tracing starts, which keeps those of processes that end meanwhile.",
			boolKey(func(c *check.Config, v bool) { c.LazySymbols = v })),
		key("license", "GPL", "license of the programs that are loaded", "Some functions of the kernel are only there for programs with a license compatible with the GPL.",
			exactly(licenses, "Invalid value for license. Found: %s. Valid values: Dual MIT/GPL, Dual BSD/GPL, Dual MPL/GPL, GPL and additional rights, GPL v2, GPL. "+
				"Read more about BPF programs and licensing: https://docs.kernel.org/bpf/bpf_licensing.html#using-bpf-programs-in-the-linux-kernel", func(c *check.Config, v string) { c.License = v })),
		key("log_size", "1000000", "bytes of the verifier's log", "", intKey(0, 1<<30, func(c *check.Config, v int) { c.LogSize = v })),
		key("max_bpf_progs", "1024", "how many BPF programs a script may become", "Guards against wildcards that match more than was meant.",
			intKey(0, maxInt, func(c *check.Config, v int) { c.MaxBPFProgs = v })),
		key("max_cat_bytes", "10240", "how many bytes `cat` prints", "", intKey(0, maxInt, func(c *check.Config, v int) { c.MaxCatBytes = v }), "cat_bytes_max"),
		key("max_map_keys", "4096", "how many entries a map may have", "Updates beyond it are refused, and counted. A map declaration sets the limit of one map.",
			intKey(1, maxInt, func(c *check.Config, v int) { c.MaxMapKeys = v }), "map_keys_max"),
		key("max_probes", "1024", "how many attach points a script may have", "Guards against wildcards that match more than was meant. Functions that one link attaches count only when it is set.",
			intKey(0, maxInt, func(c *check.Config, v int) { c.MaxProbes = v })),
		key("max_strlen", "1024", "limit of strings, in bytes with the NUL", "The most that `str`, `buf` and `path` read when no length is given. What is above 1 MiB, or below zero, counts as 1 MiB; with 0 `str` reads nothing.",
			intKey(math.MinInt64, math.MaxInt64, func(c *check.Config, v int) {
				if c.MaxStrlen = min(v, longestString); v < 0 {
					c.MaxStrlen = longestString
				}
			}), "strlen"),
		key("missing_probes", "error", "what happens when an attach point does not exist", "`error` ends the run, `warn` says so and goes on, `ignore` goes on.",
			oneOf([]string{"error", "warn", "ignore"}, "Invalid value for missing_probes: valid values are ignore, warn, and error.", func(c *check.Config, v string) { c.MissingProbes = v })),
		key("on_stack_limit", "32", "largest object on the BPF stack, in bytes", "Kept for compatibility: where objects live is decided by the compiler.",
			intKey(0, maxInt, func(c *check.Config, v int) { c.OnStackLimit = v })),
		key("perf_rb_pages", "64", "pages of the ring buffer", "Chosen by the memory of the machine when it is not set, or 0. More pages lose fewer events; there are never more than 1,048,576.",
			intKey(0, maxInt, func(c *check.Config, v int) { c.PerfRBPages = min(v, 1<<20) })),
		key("print_maps_on_exit", "true", "whether maps are printed at the end", "", boolKey(func(c *check.Config, v bool) { c.PrintMapsOnExit = v })),
		key("show_debug_info", "false", "whether stacks show source lines", "Where debug information is there.",
			boolKey(func(c *check.Config, v bool) { c.ShowDebugInfo = v })),
		key("stack_mode", "bpftrace", "how stacks print", "`bpftrace`, `perf` or `raw`; `build_id` for stacks of user space. A call of `kstack` or `ustack` may choose another.",
			func(c *check.Config, v string) error {
				m, ok := stackModes[v]
				if !ok {
					return errors.New("Invalid value for stack_mode: valid values are bpftrace, raw, perf, and build_id.") //nolint:staticcheck // a message for the user
				}
				c.StackMode = m
				return nil
			}),
		key("str_trunc_trailer", "..", "what is printed behind a string that was cut", "Empty to print nothing.",
			anyText(func(c *check.Config, v string) { c.StrTruncTrailer = v })),
		unstableKey("unstable_tseries", "warn", "`tseries`"),
		unstableKey("unstable_typeinfo", "error", "`typeinfo`"),
		noEffect("unstable_map_decl", "error", "Map declarations are part of the language."),
		noEffect("unstable_addr", "error", "`&` is part of the language."),
		noEffect("unstable_macro", "error", "Macros are part of the language."),
		noEffect("unstable_import", "error", "Imports are part of the language."),
		noEffect("symbol_source", "dwarf", "Locations come from symbols and from DWARF, as the attach point needs."),
		noEffect("max_type_res_iterations", "10", "The search for types always ends."),
		noEffect("use_blazesym", "true", "Symbols are looked up by sonde itself."),
		// Old environment variables.
		{
			Default: "0", Key: check.ConfigKey{Name: "no_cpp_demangle", Set: boolKey(func(c *check.Config, v bool) { c.CppDemangle = !v })},
			Doc: Doc{Group: "config", Summary: "old form of `cpp_demangle`, with the opposite meaning", Text: "Kept for old scripts and environments.", Example: "config = { no_cpp_demangle = 1 }\nBEGIN { exit(); }"},
		},
		{
			Default: "0", Key: check.ConfigKey{Name: "no_user_symbols", Set: boolKey(func(c *check.Config, v bool) {
				if v {
					c.UserSymbolCache = "NONE"
				}
			})},
			Doc: Doc{Group: "config", Summary: "old form of `cache_user_symbols = NONE`", Text: "Kept for old scripts and environments.", Example: "config = { no_user_symbols = 1 }\nBEGIN { exit(); }"},
		},
		{
			Default: "", Key: check.ConfigKey{Name: "attach", Set: oneOf([]string{"auto", "literal"}, "valid values are auto and literal", func(c *check.Config, v string) { c.Extra["attach"] = v })},
			Doc: Doc{Group: "config", Summary: "how attach points reach the kernel", Text: "`auto` chooses the cheapest mechanism that means the same, `literal` the one that the script names; stacks of user space are then taken by the kernel's helper everywhere.", Example: "config = { attach = literal }\nBEGIN { exit(); }"},
		},
		{
			Default: "", Key: check.ConfigKey{Name: "maps", Set: oneOf([]string{"auto", "literal"}, "valid values are auto and literal", func(c *check.Config, v string) { c.Extra["maps"] = v })},
			Doc: Doc{Group: "config", Summary: "how maps lie in memory", Text: "`auto` chooses the cheapest place that means the same: a map that is only assigned, read and deleted under the key `tid` gets slots in front of its hash, where a thread neither inserts nor deletes. `literal` keeps it a hash and nothing else.", Example: "config = { maps = literal }\nBEGIN { exit(); }"},
		},
	}
}
