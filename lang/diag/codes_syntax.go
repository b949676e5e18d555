package diag

func syntaxCodes() []Entry {
	return []Entry{
		{
			"E0101", "unexpected token",
			"The script does not follow the grammar at this place. The message names what was found and, where there are few choices, what could have stood there. Errors of this kind are reported once per probe; repair the first one first.",
			"BEGIN { $x = ; }",
		},
		{
			"E0102", "unexpected end",
			"The script ends although something is still open: a brace, a parenthesis, a predicate, a C definition, or a probe that has no body yet. The message points at the innermost bracket that was not closed.",
			"BEGIN { print(1);",
		},
		{
			"E0103", "stray character",
			"A character that has no meaning in the language. Typographic quotes pasted from a document, `#` inside a body and a lone `$` are the usual ones.",
			"BEGIN { $ }",
		},
		{
			"E0104", "faulty string",
			"A string literal is not closed on its line, uses single quotes, or has an unknown escape. Known escapes are `\\n \\t \\r \\\\ \\\"`, octal `\\101` and hexadecimal `\\x41`.",
			"BEGIN { print(\"\\q\"); }",
		},
		{
			"E0105", "faulty number",
			"Integers are decimal, octal (leading 0), hexadecimal (leading 0x) or a digit with an exponent (`1e6`); `_` may separate digits; a C suffix (`u`, `l`, `ul`, `ll`, `ull`) or a duration (`ns us ms s m h d`) may follow.",
			"BEGIN { print(08); }",
		},
		{
			"E0106", "comment is not closed",
			"A `/*` comment runs to the end of the script.",
			"BEGIN { } /* the end",
		},
		{
			"E0107", "nested too deep",
			"Blocks, brackets and operators may nest 1000 levels deep. No script written by a person gets there; generated ones should use intermediate variables.",
			"",
		},
		{
			"E0108", "missing semicolon",
			"Two statements follow each other without `;`. It may be left out only before `}` and after the `}` of a block, `if` or loop.",
			"BEGIN { print(1) print(2) }",
		},
		{
			"E0109", "not assignable",
			"Only maps (`@x`, `@x[key]`) and scratch variables (`$x`) can be assigned to; builtin variables, fields, tuple and array elements and memory behind pointers cannot. `_ = value` throws a value away.",
			"BEGIN { pid = 1; }",
		},
		{
			"E0110", "wrong place",
			"C definitions, imports and the one config block stand at the top of a script, before probes, macros, functions and map declarations.",
			"BEGIN { } config = { max_map_keys = 10 }",
		},
		{
			"E0111", "faulty attach points",
			"A probe starts with its attach points, separated by commas, without blanks inside: `kprobe:vfs_read, kprobe:vfs_write /pid == 1/ { ... }`. After a `:` a slash belongs to the attach point (paths have them), so put a blank before a predicate.",
			"kprobe:vfs_read/pid == 1/ { }",
		},
		{
			"E0112", "cannot be incremented",
			"`++` and `--` change a map or a scratch variable in place; nothing else can be changed.",
			"BEGIN { pid++; }",
		},
		{
			"E0113", "has no address",
			"The operator `&` takes the address of a scratch variable or a map.",
			"BEGIN { print(&pid); }",
		},
		{
			"E0114", "field twice",
			"A record literal names the same field twice.",
			"BEGIN { $r = (a=1, a=2); }",
		},
		{
			"E0115", "floating point",
			"BPF has no floating-point numbers. Scale to integers and let `printf` or a histogram show the units.",
			"BEGIN { $x = 1.5; }",
		},
		{
			"E0116", "positional parameter out of range",
			"Positional parameters count from `$1`; `$#` is how many there are.",
			"BEGIN { print($0); }",
		},
		{
			"E0117", "let outside of a probe",
			"At the top level `let` declares a map with its kind and size: `let @m = lruhash(1000);`. Scratch variables live inside probes.",
			"let $x = 1; BEGIN { }",
		},
	}
}
