package diag

func checkCodes() []Entry {
	return []Entry{
		{
			"E0250", "unknown config variable",
			"The config block sets a variable that does not exist. Names are those of the environment variables, in either case and with or without the prefix BPFTRACE_.",
			"config = { foo = 1 } BEGIN { }",
		},
		{
			"E0251", "invalid config value",
			"The value of a config variable has the wrong form or is out of range.",
			"config = { max_map_keys = \"a\" } BEGIN { }",
		},
		{
			"E0252", "import failed",
			"`import` reads a script, a header or a folder next to the script. C sources cannot be imported: there is no C compiler inside.",
			"import \"nowhere.bt\"; BEGIN { }",
		},
		{
			"E0253", "macro is no expression",
			"A `#define` is used like a value, but its text is not an expression of the language.",
			"#define BROKEN 1 +\nBEGIN { print(BROKEN); }",
		},
		{
			"E0254", "faulty macro call",
			"A macro is called with the wrong number or kind of arguments, or its body uses a map that was not passed in. `$x` wants a scratch variable, `@x` a map, a plain name any expression.",
			"macro m($a) { $a += 1; } BEGIN { m(1); }",
		},
		{
			"E0255", "macro calls itself",
			"Macros are expanded where they stand, so they cannot call themselves, not even through others.",
			"macro m(x) { m(x) } BEGIN { m(1); }",
		},
		{
			"E0256", "faulty named parameter",
			"`getopt` needs a name and a literal default, and the command line a value of the same type.",
			"BEGIN { print(getopt(\"\")); }",
		},
		{
			"E0257", "C definitions unavailable",
			"C definitions cannot be read in this place, for instance in a tool that has no C front end.",
			"",
		},
		{
			"E0258", "unstable feature turned off",
			"The script uses a feature whose config variable is set to `error`.",
			"config = { unstable_tseries = error } BEGIN { @a = tseries(1, 1s, 5); }",
		},
		{
			"E0259", "not supported",
			"The construct belongs to the language but not to this version of sonde.",
			"fn f() : void { } BEGIN { }",
		},
		{
			"E0260", "named parameter used differently",
			"The same named parameter is read with two different defaults.",
			"BEGIN { print(getopt(\"a\", 1)); print(getopt(\"a\", 2)); }",
		},
		{
			"E0301", "unknown identifier",
			"A name is neither a builtin variable, nor a macro, nor a constant of the script, the kernel's types or the table of C constants. Scratch variables start with `$`, maps with `@`, strings stand in double quotes.",
			"BEGIN { $x = foo; }",
		},
		{
			"E0302", "undefined variable",
			"A scratch variable is read before it got a value, or outside the block in which it did. Declare it with `let` where both places can see it.",
			"BEGIN { print($x); }",
		},
		{
			"E0303", "variable declared twice",
			"`let` or a loop declares a scratch variable that already exists in this block or an outer one.",
			"BEGIN { let $x = 1; if (pid) { let $x = 1; } }",
		},
		{
			"E0304", "unknown type",
			"No struct, union, enum or typedef of that name is known to the script or to the kernel's type information.",
			"BEGIN { $x = (struct nope *)0; print($x.a); }",
		},
		{
			"E0305", "unknown field",
			"The type has no member of that name, or is no struct at all. `sonde -lv` lists the fields of `args`.",
			"BEGIN { print(curtask.pidd); }",
		},
		{
			"E0306", "type mismatch",
			"A variable or map keeps the type of its first value; integers may grow, but nothing else changes.",
			"BEGIN { $x = 1; $x = \"a\"; }",
		},
		{
			"E0307", "operator does not fit",
			"The operator has no meaning for operands of these types.",
			"BEGIN { if (comm < \"a\") { } }",
		},
		{
			"E0308", "cannot be compared",
			"Only values of like types can be compared: integers and pointers, strings, arrays of the same shape, tuples.",
			"BEGIN { if (comm == 1) { } }",
		},
		{
			"E0309", "impossible cast",
			"Casts convert between integers, pointers, enums and integer arrays of the same size.",
			"BEGIN { $x = (uint64)comm; }",
		},
		{
			"E0310", "cannot be dereferenced",
			"`*` needs a pointer to something with a size. Cast a `void *` or an integer to the pointer type first.",
			"BEGIN { $x = (void *)0; print(*$x); }",
		},
		{
			"E0311", "invalid index",
			"Arrays, pointers and tuples can be indexed; the index of an array of known length and of a tuple is checked against its length.",
			"BEGIN { print((1, 2).5); }",
		},
		{
			"E0312", "not a condition",
			"A condition is an integer or a pointer. Compare strings explicitly: `comm == \"bash\"`.",
			"BEGIN { if (comm) { } }",
		},
		{
			"E0313", "branches differ",
			"Both results of a ternary or an `if` that is used as a value must have the same type.",
			"BEGIN { $x = pid ? 1 : \"a\"; }",
		},
		{
			"E0314", "type unknown",
			"Nothing in the script tells the type of this expression or variable, because it only ever gets its value from itself.",
			"",
		},
		{
			"E0315", "no value",
			"The call only has an effect; it cannot be assigned or passed on.",
			"BEGIN { $x = clear(@a); @a = 1; }",
		},
		{
			"E0316", "string too long",
			"A string literal is longer than `max_strlen`.",
			"",
		},
		{
			"E0317", "type cannot be declared",
			"A scratch variable cannot have this type; aggregations live in maps only.",
			"BEGIN { let $x : count_t = 1; }",
		},
		{
			"E0318", "return value",
			"A probe may return an integer, nothing else.",
			"BEGIN { return \"a\"; }",
		},
		{
			"E0319", "type was already decided",
			"The script chose a branch at compile time by the type of a variable, and a later assignment would change that type. Declare the variable with its final type.",
			"",
		},
		{
			"E0320", "cannot be incremented",
			"`++` and `--` need an integer or pointer in a scratch variable or map.",
			"BEGIN { $x = \"a\"; $x++; }",
		},
		{
			"E0321", "constant overflow",
			"A constant expression divides by zero or does not fit in 64 bits.",
			"BEGIN { print(1 / 0); }",
		},
		{
			"E0322", "length not constant",
			"The length of an array type must be known while compiling.",
			"BEGIN { $x = (uint8[pid])1; }",
		},
		{
			"E0323", "unroll count",
			"`unroll` repeats its body 1 to 100 times; the count must be known while compiling.",
			"BEGIN { unroll(0) { } }",
		},
		{
			"E0324", "operator on string literals",
			"String literals can be joined with `+` and compared; other operators have no meaning for them.",
			"BEGIN { print(\"a\" * \"b\"); }",
		},
		{
			"E0325", "not known while compiling",
			"`comptime` and `if comptime` need a value that is known before the script runs.",
			"BEGIN { if comptime (pid == 1) { } }",
		},
		{
			"E0326", "range bound",
			"The bounds of `for ($i : a..b)` and sizes of maps are integers.",
			"BEGIN { for ($i : \"a\"..5) { } }",
		},
		{
			"E0327", "jump outside of a loop",
			"`break` and `continue` belong to a `for` or `while` around them.",
			"BEGIN { break; }",
		},
		{
			"E0328", "cannot be assigned to",
			"The left side of this assignment is no place to store a value.",
			"",
		},
		{
			"E0401", "unknown function",
			"No builtin function and no macro has this name. There are no user-defined C functions.",
			"BEGIN { foo(); }",
		},
		{
			"E0402", "number of arguments",
			"The function takes another number of arguments.",
			"BEGIN { exit(1, 2, 3); }",
		},
		{
			"E0403", "argument type",
			"An argument has a type that the function cannot work with.",
			"BEGIN { @h = sum(\"a\"); }",
		},
		{
			"E0404", "format and arguments",
			"The conversions of a format string and the values after it do not agree in number or type.",
			"BEGIN { printf(\"%d\\n\", \"a\"); }",
		},
		{
			"E0405", "unsafe function",
			"The function can change the system. Such scripts run only with `--unsafe`.",
			"BEGIN { system(\"ls\"); }",
		},
		{
			"E0406", "literal needed",
			"This argument must be known while compiling: a literal, a positional parameter, or computed from those.",
			"BEGIN { printf(comm); }",
		},
		{
			"E0407", "fail() was reached",
			"The script calls `fail()` in code that is not ruled out while compiling. The message is the script's own.",
			"BEGIN { fail(\"no\"); }",
		},
		{
			"E0408", "static_assert() failed",
			"A condition that the script demands of its environment does not hold. The message is the script's own.",
			"BEGIN { static_assert(1 == 2, \"differs\"); }",
		},
		{
			"E0409", "literal out of range",
			"A literal argument is outside of what the function accepts.",
			"BEGIN { @h = hist(1, 6); }",
		},
		{
			"E0410", "unknown symbol or register",
			"The name is no symbol of the binary, or no register of this processor.",
			"kprobe:vfs_read { reg(\"foo\"); }",
		},
		{
			"E0411", "unusable path",
			"A path argument does not name a usable file.",
			"",
		},
		{
			"E0501", "undefined map",
			"Nothing in the script ever stores into this map, and nothing can be said of its type.",
			"BEGIN { print(@x); }",
		},
		{
			"E0502", "with and without a key",
			"A map is either a single value or has keys; all uses must agree.",
			"BEGIN { @a = 1; @a[1] = 2; }",
		},
		{
			"E0503", "key mismatch",
			"All keys of a map have the same type.",
			"BEGIN { @a[1] = 1; @a[\"x\"] = 2; }",
		},
		{
			"E0504", "misuse of an aggregation",
			"`count()`, `hist()` and their like are assigned to a map with `=` and only read by printing or casting.",
			"BEGIN { $x = count(); }",
		},
		{
			"E0505", "wrong kind of map",
			"A map declaration names an unknown kind, or one that does not fit the values: aggregations need a per-CPU map, other values must not have one.",
			"let @a = foo(5); BEGIN { @a[1] = 1; }",
		},
		{
			"E0506", "cannot be iterated",
			"`for` needs a map with keys.",
			"BEGIN { @a = 1; for ($kv : @a) { } }",
		},
		{
			"E0507", "map needed",
			"The function works on a map, given as `@name`, and where it has keys, on one of its keys.",
			"BEGIN { delete(5); }",
		},
		{
			"E0508", "unusable key",
			"A key is made of integers, strings, stacks and tuples of them.",
			"",
		},
		{
			"W0201", "unstable feature",
			"The script uses a feature that may still change. Its config variable, set to `enable`, silences the warning.",
			"BEGIN { @a = tseries(1, 1s, 5); }",
		},
		{
			"W0301", "never assigned",
			"A scratch variable is read although nothing was assigned to it; it is 0.",
			"BEGIN { let $x : uint64; }",
		},
		{
			"W0303", "different pointer types",
			"Two pointers of different types are compared.",
			"BEGIN { if ((struct file *)1 == (struct path *)1) { } }",
		},
		{
			"W0304", "needless cast",
			"The expression has this type already.",
			"BEGIN { $x = (uint64)nsecs; print($x); }",
		},
		{
			"W0305", "address spaces mix",
			"A kernel pointer and a user pointer meet in one expression.",
			"",
		},
		{
			"W0306", "always empty",
			"The string is empty whatever the script does.",
			"",
		},
		{
			"W0307", "value discarded",
			"The value of the statement is not used. Assign it to `_` when that is meant.",
			"BEGIN { @a[1] = 1; has_key(@a, 1); }",
		},
		{
			"W0308", "variable used outside of its block",
			"A scratch variable lives in the block that assigns it first. Older scripts read it behind that block; this still works, as if it were declared at the start of the action.",
			"BEGIN { if (pid) { $a = 1; } print($a); }",
		},
		{
			"W0309", "integer changes its type",
			"An integer becomes one that cannot hold all of its values: a uint64 beside a signed one counts as an int64, and a declared type is kept. An explicit cast says that it is meant.",
			"BEGIN { $a = nsecs; $a = -1; }",
		},
		{
			"W0310", "positional parameter missing",
			"The script reads a positional parameter that the command line does not give: it is 0, or the empty string where a string is needed.",
			"BEGIN { print($1); }",
		},
		{
			"W0311", "unreachable statement",
			"The statement before it always leaves the block: `return`, `exit()`, `break`, `continue`, or an `if` both of whose branches do.",
			"BEGIN { return; print(1); }",
		},
		{
			"W0312", "no process was started",
			"`cpid` is the id of the process that `-c` starts, and 0 without that option: nothing equals it. A script that asks `has_cpid` is not warned.",
			"tracepoint:raw_syscalls:sys_enter /pid == cpid/ { @ = count(); }",
		},
		{
			"W0601", "probe without attach points",
			"Nothing that the attach points of a probe name exists, and `missing_probes` says to go on: the probe is left out.",
			"",
		},
		{
			"W0401", "deprecated",
			"An old form that still works; the hint names the new one.",
			"",
		},
		{
			"W0402", "argument without effect",
			"A length or limit is cut to what is possible, or has no effect here.",
			"config = { max_strlen = 64 } BEGIN { $x = str(1, 128); }",
		},
		{
			"W0501", "map not used",
			"A map is declared, but nothing uses it.",
			"let @a = hash(5); BEGIN { }",
		},
		{
			"W0502", "printed later",
			"`print` of a map shows the map as it is when user space gets to it, not as it is at the statement.",
			"BEGIN { @x = 1; for ($i : 0..3) { print(@x); @x++; } }",
		},
		{
			"W0503", "map never set",
			"The script reads a map that nothing stores into; it reads as 0.",
			"BEGIN { printf(\"%d\\n\", @total); }",
		},
		{
			"W0504", "map declared twice",
			"Two `let` declare the same map. The first one counts.",
			"let @a = hash(5); let @a = hash(6); BEGIN { @a[1] = 1; }",
		},
	}
}
