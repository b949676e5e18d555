package diag

func runtimeCodes() []Entry {
	return []Entry{
		{
			"E0601", "unknown probe type",
			"The first word of an attach point is no kind of probe. `sonde -l` lists probes.",
			"foo:bar { }",
		},
		{
			"E0602", "faulty attach point",
			"The attach point cannot be understood.",
			"",
		},
		{
			"E0603", "not available here",
			"The builtin has no meaning in this kind of probe: `arg0` needs a function, `retval` its return, `args` types.",
			"BEGIN { print(arg0); }",
		},
		{
			"E0604", "too many probes",
			"The script attaches to more places than `max_probes` allows.",
			"config = { max_probes = 1 } BEGIN { } END { } interval:s:1 { }",
		},
		{
			"E0605", "probes that do not mix",
			"These attach points cannot share one action.",
			"",
		},
		{
			"E0651", "segments of an attach point",
			"The kind of probe takes other parts than these between its colons.",
			"interval:s:1:2 { }",
		},
		{
			"E0652", "no match",
			"Nothing on this machine has that name or matches the pattern.",
			"kprobe:no_such_function_anywhere { }",
		},
		{
			"E0653", "target not found",
			"The binary, library, process or module does not exist or cannot be read.",
			"uprobe:/no/such/binary:main { }",
		},
		{
			"E0654", "interval or count",
			"The time, rate or count of a timed or sampling probe is malformed or out of range.",
			"interval:s:0 { }",
		},
		{
			"E0655", "offset or address",
			"The offset or address cannot be probed: outside of the function, not at an instruction, or not in code.",
			"",
		},
		{
			"E0656", "not traceable",
			"The function exists, but the kernel does not let it be probed: it is inlined, marked notrace, or on the block list.",
			"",
		},
		{
			"E0657", "name used twice",
			"Two `test` or `bench` probes have the same name.",
			"",
		},
		{
			"E0701", "the kernel cannot do it",
			"The running kernel lacks something that the script needs. The message names it, the hint what to do instead.",
			"",
		},
		{
			"E0702", "address cannot be taken",
			"The variable has no address on this kernel or in this form.",
			"",
		},
		{
			"E0703", "newer kernel needed",
			"The builtin needs a feature that this kernel does not have.",
			"",
		},
		{
			"E0710", "does not fit the kernel's limits",
			"The compiled probe exceeds a limit of the kernel: stack, number of instructions or jumps. Split the probe or shorten what it does.",
			"",
		},
		{
			"E0720", "unknown signal",
			"The name is no signal.",
			"",
		},
		{
			"E0721", "kernel types are missing a member",
			"The kernel's type information lacks a member that this builtin reads.",
			"",
		},
		{
			"E0722", "register not available",
			"This probe gives no access to the register.",
			"",
		},
		{
			"E0723", "clock not available",
			"The kernel has no helper for that clock.",
			"",
		},
		{
			"E0724", "no address",
			"The text is neither an IPv4 nor an IPv6 address.",
			"",
		},
		{
			"E0725", "typed pointer needed",
			"The builtin needs a pointer that came from the kernel with its type, as in fentry, rawtracepoint and iter probes.",
			"",
		},
		{
			"E0726", "unknown symbol",
			"`kaddr`, `uaddr` and the like need a symbol that the kernel or the binary has. Symbols of the kernel are in /proc/kallsyms, for those who may read them.",
			"",
		},
		{
			"E0727", "no such control group",
			"`cgroupid` needs the path of a control group below /sys/fs/cgroup.",
			"BEGIN { print(cgroupid(\"/no/such/group\")); }",
		},
		{
			"E0728", "symbol not in the binary",
			"`uaddr` needs a symbol of the binary that the probe is in.",
			"",
		},
		{
			"E0729", "context read as memory",
			"In `profile`, `interval`, `software`, `hardware` and `watchpoint` probes the kernel shows the context to loads of its members only. What lies at its address is something else.",
			"profile:hz:99 { $i = rand % 3; print(((uint64 *)ctx)[$i]); }",
		},
		{
			"E0799", "not supported yet",
			"The builtin is known but not compiled by this version of sonde.",
			"",
		},
		{
			"E0801", "cannot attach",
			"The program was loaded, but the kernel refused to attach it there.",
			"",
		},
		{
			"E0802", "refused by the verifier",
			"The kernel's verifier refused the compiled program. A script that the checker accepts should never get here: please report it.",
			"",
		},
		{
			"E0803", "cannot load",
			"The kernel refused to load a program for another reason than the verifier's: rights, memory, lockdown.",
			"",
		},
		{
			"E0804", "cannot make a map",
			"The kernel refused a map: because the program may not use BPF (run it as root, or with CAP_BPF and CAP_PERFMON), or because its size exceeds the memory limits (lower `max_map_keys`, or declare the map smaller).",
			"",
		},
		{
			"E0810", "cat failed",
			"`cat()` could not open or read the file.",
			"",
		},
		{
			"E0811", "system() needs --unsafe",
			"`system()` was reached in a run without `--unsafe`.",
			"",
		},
		{
			"E0812", "system() failed",
			"The command of `system()` could not be started.",
			"",
		},
		{
			"W0731", "signal too late",
			"A signal is acted on when the process leaves the kernel. What a system call does (creating, removing, renaming, truncating, connecting ...) has then " +
				"taken effect; only writing, exec and waiting are stopped. `deny()` in a security hook prevents it.",
			"",
		},
		{
			"W0801", "cannot attach",
			"One attach point of several could not be attached; the others run. `missing_probes` in the config block decides about this.",
			"",
		},
		{
			"W0820", "reported while running",
			"A failed read, a refused key or a similar event that the kernel reported while the script ran.",
			"",
		},
	}
}
