package stdlib

import (
	"slices"
	"strings"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// actionFuncs can change the system; all of them need --unsafe.
func actionFuncs() []Builtin {
	return []Builtin{
		{
			Name: "system", Doc: Doc{
				Group: "action", Summary: "run a command",
				Text:    "Runs the command that the format and its arguments make, by the shell, when user space gets to it, and prints what it prints. Events wait while it runs.",
				Example: "BEGIN { system(\"echo %d\", pid); }", SeeAlso: []string{"cat"},
			},
			Func: &check.Func{Unsafe: true, Params: formatParams(), Result: formatted},
		},
		{
			Name: "signal", Doc: Doc{
				Group: "action", Summary: "send a signal to the current process",
				Text:    "Sends a signal, by name (`\"KILL\"`, `\"SIGKILL\"`) or number, to the process that the probe runs in. What the process was just doing is not undone.",
				Example: "tracepoint:syscalls:sys_enter_execve /comm == \"bad\"/ { signal(\"KILL\"); }", SeeAlso: []string{"signal_thread", "override"},
			},
			Func: &check.Func{Macro: true, Unsafe: true, Params: params(req("signal", check.AnyArg)), Result: void(signalCheck)},
		},
		{
			Name: "signal_thread", Doc: Doc{
				Group: "action", Summary: "send a signal to the current thread",
				Text:    "Like `signal`, but to the one thread that the probe runs in.",
				Example: "tracepoint:syscalls:sys_enter_execve /comm == \"bad\"/ { signal_thread(\"USR1\"); }", SeeAlso: []string{"signal"},
			},
			Func: &check.Func{Macro: true, Unsafe: true, Params: params(req("signal", check.AnyArg)), Result: void(signalCheck)},
		},
		{
			Name: "override", Doc: Doc{
				Group: "action", Summary: "make a kernel function return without running",
				Text:    "The function is not executed and returns `rc`. Only functions that the kernel allows error injection for can be overridden, on kernels that are built with CONFIG_BPF_KPROBE_OVERRIDE (those of Debian are not).",
				Example: "kprobe:__x64_sys_getuid /comm == \"id\"/ { override(42); }", SeeAlso: []string{"signal"},
			},
			Func: &check.Func{Macro: true, Unsafe: true, Params: params(req("rc", check.Number)), Result: void(func(c *check.Call) { onlyIn(c, "kprobe") })},
		},
		{
			Name: "write_user", Doc: Doc{
				Group: "action", Summary: "write to memory of the current process",
				Text:    "Copies `len` bytes from `src`, which may be the address of a variable, to the address `dst` of the process that the probe runs in. The result is true when it worked.",
				Example: "uprobe:/bin/bash:readline { $zero = (uint8)0; if (!write_user(arg0, &$zero, 1)) { print(\"failed\"); } }",
			},
			Func: &check.Func{Macro: true, Unsafe: true, Params: params(req("dst", check.Address), req("src", check.Address), req("len", check.Number)), Result: always(types.TBool)},
		},
		{
			Name: "unwatch", Doc: Doc{
				Group: "action", Summary: "remove a watchpoint",
				Text:    "Detaches the watchpoint at an address.",
				Example: "watchpoint:0x10000000:8:w { unwatch(0x10000000); }",
			},
			Func: &check.Func{Params: params(req("addr", check.Number))},
		},
		{
			Name: "path", Doc: Doc{
				Group: "process", Summary: "full path of a struct path",
				Text: "The path of an open file, from a `struct path` or a pointer to one, at most `size` bytes of it (else `max_strlen`). The kernel allows it in some functions only. " +
					"The path is empty where a pointer on the way to it is nil: `path(ctx.vma.vm_file.f_path)` in `iter:task_vma`.",
				Example: "fentry:filp_close { printf(\"%s\\n\", path(args.filp.f_path)); }",
			},
			Func: &check.Func{MustUse: true, Params: params(req("path", check.AnyArg), opt("size", check.IntLiteral)), Result: pathResult},
		},
	}
}

// signals are the names of Linux signals on x86-64 and arm64, by number.
var signals = strings.Fields("HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS")

// SignalNumber returns the number of a signal by name, with or without SIG; 0 when there is none.
func SignalNumber(name string) int {
	name = strings.TrimPrefix(strings.ToUpper(name), "SIG")
	for i, s := range signals {
		if s == name {
			return i + 1
		}
	}
	switch name {
	case "IOT":
		return 6
	case "CLD":
		return 17
	case "POLL":
		return 29
	}
	return 0
}

func signalCheck(c *check.Call) {
	lateSignal(c)
	if !notIn(c, "begin", "end", "interval", "software", "hardware", "watchpoint", "iter", "self", "test", "bench") {
		return
	}
	if name, ok := c.Str(0); ok {
		if SignalNumber(name) == 0 {
			c.Diags.Errorf(check.CodeLiteralRange, c.Node.Sp, "Invalid string for signal: %s", name).Hint("use a name such as \"KILL\" or a number")
		}
		return
	}
	t := c.Type(0)
	if !isInt(t) {
		argError(c, "%s() accepts a string literal or an integer between 1 and 64 (inclusive)", c.Node.Func)
		return
	}
	if n, ok := c.Int(0); ok && (n < 1 || n > 64) {
		c.Diags.Errorf(check.CodeLiteralRange, c.Node.Sp, "%s() accepts a string literal or an integer between 1 and 64 (inclusive)", c.Node.Func).Hint("%d is no signal", n)
	}
}

func pathResult(c *check.Call) *types.Type {
	for _, k := range bodyKinds(c.Body) {
		if !slices.Contains([]string{"fentry", "fexit", "iter", "lsm"}, k) {
			c.Diags.Errorf(check.CodeUnavailable, c.Node.Sp, "The path function can only be used with 'fentry', 'fexit', 'iter' probes").Hint("it also works in lsm probes")
			return types.TInvalid
		}
	}
	t := c.Type(0)
	if t.Kind == types.Pointer {
		t = t.Elem
	}
	if t.Kind != types.Struct || t.Struct == nil || t.Struct.Name != "path" {
		return typeError(c, 0, "struct path")
	}
	size := stringLimit(c)
	if n, ok := c.Int(1); ok {
		if n <= 0 {
			c.Diags.Errorf(check.CodeLiteralRange, c.Node.Sp, "Builtin path requires a non-negative size argument").Hint("%d is none", n)
			return types.TInvalid
		}
		size = int(min(n, int64(size)))
	}
	return types.StringOf(size)
}
