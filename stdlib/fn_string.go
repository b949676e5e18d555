package stdlib

import (
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

func stringFuncs() []Builtin {
	return []Builtin{
		{
			Name: "str", Doc: Doc{
				Group: "string", Summary: "read the string at an address",
				Text: "Reads up to a NUL byte from `data`, in the address space that the pointer belongs to: kernel for the arguments of kernel functions, user for those of " +
					"uprobes and system calls; `kptr` and `uptr` say otherwise. At most `max_strlen` bytes are read, or `length` where that is less, the NUL included; a longer string is cut and marked.\n\n" +
					"`str($1)` is the first positional parameter as a string, whatever it looks like.",
				Example: "tracepoint:syscalls:sys_enter_openat { printf(\"%s\\n\", str(args.filename)); }", SeeAlso: []string{"buf", "kptr", "uptr"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("data", check.AnyArg), opt("length", check.Number)), Result: strResult},
		},
		{
			Name: "buf", Doc: Doc{
				Group: "string", Summary: "read bytes at an address",
				Text: "Reads `length` bytes from `data`, or a whole array. Print them with `%r` (printable characters as they are), `%rx` (all in hexadecimal) or `%rh` (hexadecimal with blanks). " +
					"At most `max_strlen` bytes are read, and never more than a variable, map value or literal holds.",
				Example: "interval:s:1 { printf(\"%rh\\n\", buf(kaddr(\"avenrun\"), 8)); exit(); }", SeeAlso: []string{"str"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("data", check.AnyArg), opt("length", check.Number)), Result: bufResult},
		},
		{
			Name: "strlen", Doc: Doc{
				Group: "string", Summary: "length of a string",
				Text:    "The number of bytes before the NUL byte.",
				Example: "BEGIN { print(strlen(comm)); }", SeeAlso: []string{"strcap"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("s", check.StringLike)), Result: always(types.TUint64)},
		},
		{
			Name: "strcap", Doc: Doc{
				Group: "string", Summary: "number of bytes that a string value can hold",
				Text:    "The size of the object, not the length of what is in it: 16 for `comm`. Behind a plain pointer it is the length of the string.",
				Example: "BEGIN { print(strcap(comm)); }", SeeAlso: []string{"strlen"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("s", check.StringLike)), Result: func(c *check.Call) *types.Type {
				switch t := c.Type(0); t.Kind {
				case types.String, types.Array:
					return setInt(c, int64(t.Size), types.TInt64)
				}
				return types.TInt64
			}},
		},
		{
			Name: "str_concat", Doc: Doc{
				Group: "string", Summary: "one string behind another",
				Text:    "The result is as large as both together may be.",
				Example: "BEGIN { print(str_concat(comm, \"!\")); }", SeeAlso: []string{"strlen"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("s1", check.AnyArg), req("s2", check.AnyArg)), Result: concatResult},
		},
		{
			Name: "strcontains", Doc: Doc{
				Group: "string", Summary: "whether a string contains another",
				Text:    "True when `needle` occurs anywhere in `haystack`. Both may be strings, character arrays or results of `str`.",
				Example: "tracepoint:syscalls:sys_enter_openat /strcontains(str(args.filename), \"/etc/\")/ { print(comm); }", SeeAlso: []string{"strstr", "strncmp"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("haystack", check.AnyArg), req("needle", check.AnyArg)), Result: bothStrings(types.TBool)},
		},
		{
			Name: "strstr", Doc: Doc{
				Group: "string", Summary: "where a string contains another",
				Text:    "The index of the first occurrence of `needle` in `haystack`, -1 when there is none.",
				Example: "BEGIN { print(strstr(\"hello\", \"ll\")); }", SeeAlso: []string{"strcontains"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("haystack", check.AnyArg), req("needle", check.AnyArg)), Result: bothStrings(types.TInt64)},
		},
		{
			Name: "strncmp", Doc: Doc{
				Group: "string", Summary: "compare the first characters of two strings",
				Text:    "0 when the first `n` characters are equal, else another value. `==` compares whole strings.",
				Example: "kprobe:vfs_read /strncmp(comm, \"ssh\", 3) == 0/ { @ = count(); }", SeeAlso: []string{"strcontains"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("s1", check.AnyArg), req("s2", check.AnyArg), literal("n", "Builtin strncmp requires a non-negative literal")), Result: strncmpResult},
		},
		{
			Name: "memcmp", Doc: Doc{
				Group: "string", Summary: "compare bytes",
				Text:    "Compares the first `count` bytes of two values: 0 when they are equal, negative when the first byte that differs is smaller in `left`, else positive.",
				Example: "BEGIN { print(memcmp(\"abc\", \"abd\", 3)); }", SeeAlso: []string{"strncmp"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("left", check.AnyValue), req("right", check.AnyValue), req("count", check.Number)), Result: always(types.TInt32)},
		},
		{
			Name: "globmatch", Doc: Doc{
				Group: "string", Summary: "whether a string matches a pattern",
				Text:    "`*` stands for any characters, `?` for one, `[a-z]` for one of a set and `[!a-z]` for one outside of it. The whole string must match; `/` is a character like any other.",
				Example: "tracepoint:syscalls:sys_enter_openat /globmatch(str(args.filename), \"/proc/*/stat\")/ { @[comm] = count(); }",
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("s", check.AnyArg), req("pattern", check.StrLiteral)), Result: globResult},
		},
		{
			Name: "strerror", Doc: Doc{
				Group: "string", Summary: "text of an error number",
				Text:    "The message of an `errno` value, whatever its sign: `strerror(2)` is `\"No such file or directory\"`.",
				Example: "tracepoint:syscalls:sys_exit_openat /args.ret < 0/ { @[strerror(-args.ret)] = count(); }",
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("error", check.AnyArg)), Result: nameOfNumber},
		},
		{
			Name: "syscall_name", Doc: Doc{
				Group: "string", Summary: "name of a system call",
				Text:    "The name that belongs to a system call number on this architecture.",
				Example: "tracepoint:raw_syscalls:sys_enter { @[syscall_name(args.id)] = count(); }",
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("number", check.AnyArg)), Result: nameOfNumber},
		},
		{
			Name: "signal_name", Doc: Doc{
				Group: "string", Summary: "name of a signal",
				Text:    "What strsignal(3) says about a signal number: `signal_name(15)` is `\"Terminated\"`.",
				Example: "tracepoint:signal:signal_deliver { @[signal_name(args.sig)] = count(); }",
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("number", check.AnyArg)), Result: nameOfNumber},
		},
	}
}

// nameOfNumber is the type of the name of a number, which may be anything that can be cast to an int32.
func nameOfNumber(c *check.Call) *types.Type {
	if t := c.Type(0); !t.IsInteger() && t.Kind != types.Bool && t.Kind != types.Pointer {
		return argError(c, "Cannot cast from \"%s\" to \"int32\"", t)
	}
	return tName
}

// literalLength reads an optional length argument: ok is false after an error.
func literalLength(c *check.Call, i int) (n int64, known, ok bool) {
	n, known = c.Int(i)
	if known && n < 0 && c.Type(i).Signed {
		c.Diags.Errorf(check.CodeLiteralRange, c.Node.Sp, "%s() cannot use negative length (%d)", c.Node.Func, n)
		return 0, true, false
	}
	if known && (n < 0 || n > maxLength) { // unsigned, and too large in any case
		n = maxLength
	}
	return n, known, true
}

// maxLength is a length that is above every limit.
const maxLength = 1 << 30

func strResult(c *check.Call) *types.Type {
	t := c.Type(0)
	size := stringLimit(c)
	n, known, ok := literalLength(c, 1)
	if !ok {
		return types.TInvalid
	}
	if known {
		if n >= int64(size) {
			given, _ := c.Int(1)
			c.Diags.Warnf(check.CodeTooLong, c.Node.Sp, "length param (%d) is too long and will be shortened to %d bytes (see BPFTRACE_MAX_STRLEN)", uint64(given), size).Hint("raise `max_strlen` in the config block")
		} else {
			size = max(int(n), 1) // with the NUL
		}
	}
	if s, isLit := c.Str(0); isLit && (len(c.Args) == 1 || known) {
		if known && n < int64(len(s)) {
			s = s[:n]
		}
		return setString(c, s)
	}
	switch {
	case t.IsInteger() && t.Kind != types.Bool, t.Kind == types.Pointer, t.Kind == types.String, isByteArray(t):
	default:
		return argError(c, "str() expects a string, integer or a pointer type as first argument (%s provided)", t)
	}
	return types.StringOf(size)
}

// bufferLimit is the most that buf reads: the length field takes part of the space.
func bufferLimit(c *check.Call) int {
	if c.Info.Config.MaxStrlen == 0 { // not limited by the config
		return longestString - 4
	}
	return max(c.Info.Config.MaxStrlen-4, 1)
}

// stringLimit is the size of strings whose length is not given.
func stringLimit(c *check.Call) int { return max(c.Info.Config.MaxStrlen, 1) }

func bufResult(c *check.Call) *types.Type {
	t, limit := c.Type(0), bufferLimit(c)
	if (!isInt(t) || t.Kind == types.Bool) && t.Kind != types.Pointer && t.Kind != types.String && t.Kind != types.Array {
		return argError(c, "buf() expects an integer, string, or array argument but saw %s", check.KindWord(t))
	}
	if len(c.Args) == 1 {
		if t.Kind != types.Array {
			c.Diags.Errorf(check.CodeArgCount, c.Node.Sp, "buf() expects a length argument for non-array type %s", check.KindWord(t))
			return types.TInvalid
		}
		return types.BufferOf(min(t.Size, limit))
	}
	n, known, ok := literalLength(c, 1)
	switch {
	case !ok:
		return types.TInvalid
	case known:
		return types.BufferOf(int(min(n, int64(limit))))
	}
	return types.BufferOf(limit)
}

// concatResult has room for both strings.
func concatResult(c *check.Call) *types.Type {
	size := 1
	for i := range 2 {
		t := c.Type(i)
		switch {
		case textArg(t):
			size += max(t.Size-1, 0)
		case t.Kind == types.Pointer && t.Elem != nil && t.Elem.Kind == types.Int && t.Elem.Size == 1:
			size += stringLimit(c) - 1
		default:
			return notString(c)
		}
		if isByteArray(t) {
			size++ // which need not end with a NUL
		}
	}
	return types.StringOf(size)
}

// textArg tells whether an argument can be looked at as a string.
func textArg(t *types.Type) bool { return t.Kind == types.String || isByteArray(t) }

func bothStrings(result *types.Type) func(*check.Call) *types.Type {
	return func(c *check.Call) *types.Type {
		for i := 0; i < 2; i++ {
			if !textArg(c.Type(i)) {
				return notString(c)
			}
		}
		return result
	}
}

func strncmpResult(c *check.Call) *types.Type {
	for i := 0; i < 2; i++ {
		if !textArg(c.Type(i)) {
			return typeError(c, i, "string")
		}
	}
	if n, _ := c.Int(2); n < 0 {
		c.Diags.Errorf(check.CodeLiteralRange, c.Node.Sp, "Builtin strncmp requires a non-negative literal")
		return types.TInvalid
	}
	return types.TInt64
}
