package stdlib

import (
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

func addressFuncs() []Builtin {
	return []Builtin{
		{
			Name: "ksym", Doc: Doc{
				Group: "address", Summary: "kernel symbol of an address",
				Text:    "The name of the kernel function or variable at an address. The name is looked up by user space when the value is printed.",
				Example: "tracepoint:timer:hrtimer_expire_entry { @[ksym(args.function)] = count(); }", SeeAlso: []string{"usym", "kaddr", "kstack"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("addr", check.AnyArg)), Result: symbolResult(tKSym)},
		},
		{
			Name: "usym", Doc: Doc{
				Group: "address", Summary: "symbol of an address in the current process",
				Text:    "The name of the function or variable at an address of the process that the probe runs in.",
				Example: "uprobe:/bin/bash:readline { printf(\"%s\\n\", usym(reg(\"ip\"))); }", SeeAlso: []string{"ksym", "uaddr", "ustack"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("addr", check.AnyArg)), Result: symbolResult(tUSym)},
		},
		{
			Name: "kaddr", Doc: Doc{
				Group: "address", Summary: "address of a kernel symbol",
				Text:    "The address of a function or variable of the kernel, found while compiling in /proc/kallsyms.",
				Example: "interval:s:1 { printf(\"%d\\n\", *kaddr(\"jiffies\")); exit(); }", SeeAlso: []string{"uaddr", "percpu_kaddr", "ksym"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("name", check.StrLiteral)), Result: func(c *check.Call) *types.Type {
				return inSpace(types.TUint64, types.SpaceKernel, types.ProvRaw)
			}},
		},
		{
			Name: "uaddr", Doc: Doc{
				Group: "address", Summary: "address of a symbol of the traced program",
				Text: "The address of a variable or function of the program that the uprobe is in, as a pointer to an unsigned integer: of 1, 2, 4 or 8 bytes where the symbol has such a size, else of 8. " +
					"Where the program is loaded at an address of its own, the address is corrected for the process.",
				Example: "uprobe:/bin/bash:readline { printf(\"%d\\n\", *uaddr(\"dist_version\")); }", SeeAlso: []string{"kaddr", "usym"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("name", check.StrLiteral)), Result: uaddrResult},
		},
		{
			Name: "percpu_kaddr", Doc: Doc{
				Group: "address", Summary: "address of a per-CPU kernel symbol",
				Text: "The address of a per-CPU variable of the kernel on a CPU, the current one when it is left out. With a CPU the result is null when there is no such CPU, so compare it " +
					"with 0 before you follow it.",
				Example: "interval:s:1 { $n = percpu_kaddr(\"process_counts\"); printf(\"%d\\n\", *$n); exit(); }", SeeAlso: []string{"kaddr"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("name", check.StrLiteral), opt("cpu", check.Number)), Result: func(c *check.Call) *types.Type {
				return inSpace(types.TUint64, types.SpaceKernel, types.ProvRaw)
			}},
		},
		{
			Name: "kptr", Doc: Doc{
				Group: "address", Summary: "treat an address as one of the kernel",
				Text:    "The same pointer or integer, marked as an address of the kernel, where a probe would take it for one of user space.",
				Example: "uprobe:/bin/bash:readline { print(*kptr(kaddr(\"jiffies\"))); }", SeeAlso: []string{"uptr"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("ptr", check.AnyArg)), Result: space(types.SpaceKernel)},
		},
		{
			Name: "uptr", Doc: Doc{
				Group: "address", Summary: "treat an address as one of user space",
				Text:    "The same pointer or integer, marked as an address of the current process, where a probe would take it for one of the kernel.",
				Example: "kprobe:do_sys_openat2 { printf(\"%s\\n\", str(uptr(arg1))); }", SeeAlso: []string{"kptr"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("ptr", check.AnyArg)), Result: space(types.SpaceUser)},
		},
		{
			Name: "reg", Doc: Doc{
				Group: "address", Summary: "content of a CPU register",
				Text:    "The register at the probe, by the name that the architecture gives it: `ip`, `sp`, `bp`, `ax`, `di` ... on x86-64; `pc`, `sp`, `r0` ... on arm64.",
				Example: "kprobe:vfs_read { @[ksym(reg(\"ip\"))] = count(); }",
			},
			Func: &check.Func{MustUse: true, Params: params(req("name", check.StrLiteral)), Result: regResult},
		},
		{
			Name: "kstack", Doc: Doc{
				Group: "stack", Summary: "stack of the kernel",
				Text: "The kernel's call stack at the probe. The mode (`bpftrace`, `perf`, `raw`) says how it prints, the limit how many frames are kept (127 when it is left out). " +
					"As a key of a map equal stacks count together.",
				Example: "profile:hz:99 { @[kstack(perf, 5)] = count(); }", SeeAlso: []string{"ustack", "ksym"},
			},
			Func: &check.Func{MustUse: true, Params: stackParams("kstack", "bpftrace", "perf", "raw"), Result: stackResult(types.KStack)},
		},
		{
			Name: "ustack", Doc: Doc{
				Group: "stack", Summary: "stack of user space",
				Text:    "The call stack of the process in user space at the probe. Modes and limit are those of `kstack`; `build_id` prints the build id of each file and the offset in it, for a machine that has the symbols. Programs need frame pointers for complete stacks.",
				Example: "profile:hz:99 { @[ustack(3), comm] = count(); }", SeeAlso: []string{"kstack", "usym"},
			},
			Func: &check.Func{MustUse: true, Params: stackParams("ustack", "bpftrace", "perf", "raw", "build_id"), Result: stackResult(types.UStack)},
		},
		{
			Name: "dw_ustack", Doc: Doc{
				Group: "stack", Summary: "stack of user space, without frame pointers",
				Text: "The call stack of the process in user space, found by the tables that compilers write for exceptions (`.eh_frame`), so that programs and libraries that are compiled without frame " +
					"pointers have complete stacks. Modes and limit are those of `ustack`. It is for the process of `-p` or `-c` and its children, whose tables are loaded when the script starts and while " +
					"they load libraries; in other processes, and in code without tables (Go, code made at run time), the frame pointer is used. A library that was loaded less than a hundredth of a " +
					"second ago may end a stack. It costs several times as much as `ustack`. x86-64 only: on arm64 distributions keep frame pointers.",
				Example: "profile:hz:99 { @[dw_ustack] = count(); }", SeeAlso: []string{"ustack"}, Needs: []string{"bpf_loop"},
			},
			Func: &check.Func{MustUse: true, Params: stackParams("dw_ustack", "bpftrace", "perf", "raw", "build_id"), Result: unwoundResult},
		},
	}
}

func symbolResult(t *types.Type) func(*check.Call) *types.Type {
	return func(c *check.Call) *types.Type {
		if a := c.Type(0); (!a.IsInteger() || a.Kind == types.Bool) && a.Kind != types.Pointer && a.Kind != types.KSym && a.Kind != types.USym {
			return argError(c, "%s() expects an integer or pointer argument", c.Node.Func)
		}
		return t
	}
}

// space is the result of kptr and uptr.
func space(s types.Space) func(*check.Call) *types.Type {
	return func(c *check.Call) *types.Type {
		t := c.Type(0)
		if t.Kind != types.Int && t.Kind != types.Pointer {
			return typeError(c, 0, "integer or pointer")
		}
		return inSpace(t, s, types.ProvRaw)
	}
}

// symbolSizer is implemented by a machine that knows the symbols of programs.
type symbolSizer interface {
	// SymbolSize returns the size of a symbol of a program in bytes, 0 when it is not known.
	SymbolSize(program, symbol string) int
}

func uaddrResult(c *check.Call) *types.Type {
	if !onlyIn(c, "uprobe", "uretprobe", "usdt") {
		return types.TInvalid
	}
	name, _ := c.Str(0)
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./_-") != "" {
		c.Diags.Errorf(check.CodeSymbol, c.Node.Sp, "`uaddr()` needs the name of a symbol, got %q", name)
		return types.TInvalid
	}
	size := 8
	if m, ok := c.Env.Machine.(symbolSizer); ok && len(c.Body.Points) > 0 && c.Body.Points[0].Node != nil {
		if ap := c.Body.Points[0].Node; len(ap.Segments) > 0 {
			if n := m.SymbolSize(ap.Segments[0].Text, name); n == 1 || n == 2 || n == 4 {
				size = n
			}
		}
	}
	return types.PointerTo(types.IntOf(size, false), types.SpaceUser, types.ProvRaw)
}

var registers = map[string]string{
	"amd64": " r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di orig_ax ip pc cs flags sp ss ",
	"arm64": " r0 r1 r2 r3 r4 r5 r6 r7 r8 r9 r10 r11 r12 r13 r14 r15 r16 r17 r18 r19 r20 r21 r22 r23 r24 r25 r26 r27 r28 r29 r30 sp pc pstate ",
}

func regResult(c *check.Call) *types.Type {
	if !notIn(c, "begin", "end", "tracepoint", "fentry", "fexit", "rawtracepoint", "iter", "self", "test", "bench", "lsm") {
		return types.TInvalid
	}
	name, _ := c.Str(0)
	arch := c.Env.Arch
	if arch == "" {
		arch = "amd64"
	}
	if names := registers[arch]; names != "" && (strings.Contains(name, " ") || !strings.Contains(names, " "+name+" ")) {
		d := c.Diags.Errorf(check.CodeSymbol, c.Node.Sp, "'%s' is not a valid register on this architecture (%s)", name, kernel.MachineName(arch))
		d.Hint("choose one of %s", strings.Join(strings.Fields(names), ", "))
		return types.TInvalid
	}
	return inSpace(types.TUint64, c.Body.Points[0].Space, types.ProvRaw)
}

// stackParams: the mode is a word, and may be left out before a limit.
func stackParams(name string, modes ...string) []check.Param {
	return params(
		check.Param{Name: "mode", Class: check.AnyArg, Optional: true, Words: modes, BadWord: "Error parsing stack mode: " + name + ": Invalid value for stack_mode: valid values are bpftrace, raw, perf, and build_id."},
		check.Param{Name: "limit", Class: check.IntLiteral, Optional: true})
}

// stackResult is the type of kstack and ustack: the mode and limit are part of it.
func stackResult(kind types.Kind) func(*check.Call) *types.Type {
	return func(c *check.Call) *types.Type {
		t := stackType(kind, c.Info.Config)
		limitAt := 0
		if mode, ok := c.Str(0); ok {
			m, known := stackModes[mode]
			if _, word := c.Args[0].(*ast.Ident); !known || !word {
				return argError(c, "%s: invalid limit value", c.Node.Func)
			}
			t.Mode, limitAt = m, 1
		} else if len(c.Args) == 2 {
			return argError(c, "Expected stack mode as first argument")
		}
		if limitAt < len(c.Args) {
			n, ok := c.Int(limitAt)
			switch {
			case !ok || n < 0 || c.Type(limitAt).Kind == types.Bool:
				return argError(c, "%s: invalid limit value", c.Node.Func)
			case n > 1024:
				c.Diags.Errorf(check.CodeLiteralRange, c.Node.Sp, "%s([int limit]): limit shouldn't exceed 1024, %d given", c.Node.Func, n)
				return types.TInvalid
			}
			if t.Frames = int(n); n == 0 {
				t.Frames = types.NoFrames
			}
		}
		return t
	}
}

var stackModes = map[string]types.StackMode{"bpftrace": types.StackBpftrace, "perf": types.StackPerf, "raw": types.StackRaw, "build_id": types.StackBuildID}

// unwoundResult is stackResult for dw_ustack, which needs a process to read the tables of.
func unwoundResult(c *check.Call) *types.Type {
	if !unwindable(c.Env, c.Node.Sp, c.Diags) {
		return types.TInvalid
	}
	return stackResult(types.UStack)(c)
}

// unwindable reports what keeps a script from dw_ustack.
func unwindable(env *check.Env, sp source.Span, diags *diag.List) bool {
	switch {
	case env.Arch != "amd64":
		diags.Errorf(check.CodeUnavailable, sp, "dw_ustack is for x86-64").Hint("use `ustack`: programs for %s usually keep frame pointers", env.Arch)
	case env.PID == 0 && env.ChildPID == 0 && env.Command == "" && !env.Unwinds:
		diags.Errorf(check.CodeUnavailable, sp, "dw_ustack needs a process whose unwind tables it loads").Hint("give it with -p PID or -c COMMAND, or use `ustack`")
	default:
		return true
	}
	return false
}

func stackType(kind types.Kind, cfg *check.Config) *types.Type {
	t := &types.Type{Kind: kind, Size: 8, Mode: cfg.StackMode}
	if kind == types.KStack && t.Mode == types.StackBuildID {
		t.Mode = types.StackRaw
	}
	return t
}
