package diag

func cdefCodes() []Entry {
	return []Entry{
		{
			"E0201", "faulty C definition",
			"The text of a struct, union, enum or typedef is not C as the C front end understands it. The message is the front end's own.",
			"struct s { int a; int b[; } BEGIN { }",
		},
		{
			"E0202", "unknown type in a C definition",
			"A member has a type that neither the script, nor the kernel's type information, nor an installed header defines. Types of the kernel need no header; define others before their use.",
			"struct s { struct nowhere n; } BEGIN { }",
		},
		{
			"E0203", "header not found",
			"A header in quotes belongs to the script and must exist: next to it, or in a directory given with `-I`. Headers of the kernel and the C library, in angle brackets, may be missing: types then come from the kernel's type information and constants from a table.",
			"#include \"mine.h\"\nBEGIN { }",
		},
		{
			"E0204", "faulty preprocessor line",
			"A preprocessor directive is unknown, lacks its name or file, or its `#if` and `#endif` do not pair up before the first probe.",
			"#endif\nBEGIN { }",
		},
		{
			"E0205", "C definition rejected",
			"The C text defines something twice, or it says so itself with `#error`.",
			"struct s { int a; int a; } BEGIN { }",
		},
		{
			"W0211", "macro defined again",
			"A `#define` gives a name another value. The last one counts everywhere, because macros are looked up after the whole script was read.",
			"#define A 1\n#define A 2\nBEGIN { }",
		},
		{
			"W0212", "warning of the script",
			"The C text contains a `#warning` that is in force.",
			"#warning look\nBEGIN { }",
		},
	}
}
