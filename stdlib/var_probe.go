package stdlib

import (
	"slices"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// probeVars depend on the probe.
func probeVars() []Builtin {
	return []Builtin{
		{
			Name: "args", Doc: Doc{
				Group: "probe", Summary: "arguments of the traced function or event",
				Text: "The fields have the names and types that the kernel's types, a tracepoint's format or debug information give them: `args.filename`. `-lv` lists them. " +
					"`print(args)` prints all of them.",
				Example: "tracepoint:syscalls:sys_enter_openat { printf(\"%s\\n\", str(args.filename)); }", SeeAlso: []string{"argN", "retval"},
			},
			Var: &check.Var{Type: typeOfArgs},
		},
		{
			Name: "argN", Doc: Doc{
				Group: "probe", Summary: "arguments by number",
				Text: "`arg0`, `arg1` ... are the arguments of a function as 64-bit integers. Cast them to what they are: `(struct file *)arg0`. Those that a function gets on the stack are not " +
					"among them.",
				Example: "kprobe:vfs_read { @bytes = hist(arg2); }", SeeAlso: []string{"args", "retval"},
			},
			Var: &check.Var{Type: argNType},
		},
		{
			Name: "sargN", Doc: Doc{
				Group: "probe", Summary: "words on the stack",
				Text: "`sarg0` ... `sarg9` are the words on the stack that follow the return address when a function is entered, as 64-bit integers: the arguments that do not fit " +
					"into registers, and all of them in programs of Go before 1.17. bpftrace had them until 0.24.",
				Example: "uprobe:libc:malloc { @[sarg0] = count(); }", SeeAlso: []string{"argN"},
			},
			Var: &check.Var{Type: sargType},
		},
		{
			Name: "retval", Doc: Doc{
				Group: "probe", Summary: "result of the traced function",
				Text:    "An integer in `kretprobe` and `uretprobe`; in `fexit` it has the function's own type.",
				Example: "kretprobe:vfs_read { @bytes = hist(retval); }", SeeAlso: []string{"args"},
			},
			Var: &check.Var{Type: retvalType},
		},
		{
			Name: "func", Doc: Doc{
				Group: "probe", Summary: "name of the traced function",
				Text:    "Without module or program. It is worth its while in probes with wildcards.",
				Example: "kprobe:vfs_* { @[func] = count(); }", SeeAlso: []string{"probe"},
			},
			Var: &check.Var{Type: funcType},
		},
		{
			Name: "probe", Doc: Doc{
				Group: "probe", Summary: "full name of the probe",
				Text:    "The name with wildcards and short forms expanded, such as `kprobe:vfs_read`.",
				Example: "kprobe:vfs_* { @[probe] = count(); }", SeeAlso: []string{"func", "probetype"},
			},
			Var: &check.Var{Type: fixed(tProbe)},
		},
		{
			Name: "probetype", Doc: Doc{
				Group: "probe", Summary: "kind of the probe",
				Text:    "Such as `kprobe` or `tracepoint`; `special` for `begin` and `end`.",
				Example: "BEGIN { print(probetype); }", SeeAlso: []string{"probe"},
			},
			Var: &check.Var{Type: probetypeType},
		},
		{
			Name: "ctx", Doc: Doc{
				Group: "probe", Summary: "context of the program",
				Text: "A pointer to what the kernel gives the program: the registers (`struct pt_regs`) in `kprobe`, `kretprobe`, `uprobe`, `uretprobe` and `usdt`; registers, period " +
					"and address (`struct bpf_perf_event_data`) in `profile`, `interval`, `software`, `hardware` and `watchpoint`; in `iter` a struct with the objects that it visits.",
				Example: "profile:hz:99 { @[ksym(ctx->regs.ip)] = count(); }", SeeAlso: []string{"args", "reg"},
			},
			Var: &check.Var{Type: ctxType},
		},
	}
}

// unavailable reports a variable that a probe does not have, in bpftrace's words.
func unavailable(u *check.VarUse, p *check.Point, hint string) *types.Type {
	message := "The " + u.Node.Name + " builtin can not be used with '" + p.Kind.Name() + "' probes"
	switch u.Name {
	case "args":
		message = "The args builtin can only be used with tracepoint, rawtracepoint, fentry/fexit, and uprobe probes (" + probetype(p) + " used here)"
	case "argN":
		message = "The " + u.Node.Name + " builtin can only be used with 'kprobes', 'uprobes' and 'usdt' probes"
	case "sargN":
		message = "The " + u.Node.Name + " builtin can only be used with 'kprobes' and 'uprobes' probes"
	case "retval":
		message = "The retval builtin can only be used with 'kretprobe' and 'uretprobe' and 'fentry' probes"
		if p.Kind.Name() == "tracepoint" {
			message += " (try to use args.ret instead)"
		}
	case "ctx":
		if p.Kind.Name() == "tracepoint" {
			message = "Use args instead of ctx in tracepoint"
		}
	}
	d := u.Diags.Errorf(check.CodeUnavailable, u.Node.Sp, "%s", message)
	if hint != "" {
		d.Hint("%s", hint)
	}
	return types.TInvalid
}

func typeOfArgs(u *check.VarUse) *types.Type {
	for _, p := range u.Body.Points {
		if p.Args != nil {
			continue
		}
		switch p.Kind.Name() {
		case "kprobe", "uprobe", "usdt":
			return unavailable(u, p, "use `arg0`, `arg1` ...")
		case "kretprobe", "uretprobe":
			return unavailable(u, p, "store what you need of the arguments in the entry probe: `@arg[tid] = arg0`")
		}
		return unavailable(u, p, "")
	}
	return u.Body.Points[0].Args
}

// maxArgs is how many arguments come in registers.
func maxArgs(arch string) int {
	if arch == "arm64" {
		return 8
	}
	return 6
}

func argNType(u *check.VarUse) *types.Type {
	for _, p := range u.Body.Points {
		if k := p.Kind.Name(); p.NumArgs < 0 || k == "fentry" || k == "fexit" {
			hint := ""
			if p.Args != nil {
				hint = "use `args`, which has names"
			} else if p.Retval != nil {
				hint = "use `retval`, or store the argument in the entry probe: `@arg[tid] = arg0`"
			}
			return unavailable(u, p, hint)
		}
		limit := p.NumArgs
		if limit == 0 {
			limit = maxArgs(u.Env.Arch)
			if len(p.ArgTypes) > 0 {
				limit = len(p.ArgTypes)
			}
		}
		if u.Index >= limit {
			message, what := "`%s` does not exist: `%s` has fewer arguments", p.Name
			if u.Index >= maxArgs(u.Env.Arch) {
				message, what = "%[2]s doesn't support %[1]s", kernel.MachineName(u.Env.Arch)
			}
			u.Diags.Errorf(check.CodeUnavailable, u.Node.Sp, message, u.Node.Name, what).Hint("`%s` has arguments up to `arg%d`", p.Name, limit-1)
			return types.TInvalid
		}
	}
	p := u.Body.Points[0]
	if u.Index < len(p.ArgTypes) && p.ArgTypes[u.Index] != nil {
		return p.ArgTypes[u.Index]
	}
	return inSpace(types.TUint64, p.Space, types.ProvRaw)
}

// sargType is that of a word on the stack, which has the space of the function.
func sargType(u *check.VarUse) *types.Type {
	for _, p := range u.Body.Points {
		if k := p.Kind.Name(); k != "kprobe" && k != "uprobe" {
			return unavailable(u, p, "store what you need in the entry probe: `@arg[tid] = sarg0`")
		}
	}
	return inSpace(types.TUint64, u.Body.Points[0].Space, types.ProvRaw)
}

func retvalType(u *check.VarUse) *types.Type {
	for _, p := range u.Body.Points {
		if p.Retval == nil {
			switch p.Kind.Name() {
			case "kprobe":
				return unavailable(u, p, "use it in a `kretprobe`")
			case "fentry":
				return unavailable(u, p, "use it in an `fexit` probe")
			case "uprobe":
				return unavailable(u, p, "use it in a `uretprobe`")
			case "tracepoint":
				return unavailable(u, p, "")
			}
			return unavailable(u, p, "")
		}
	}
	return u.Body.Points[0].Retval
}

func funcType(u *check.VarUse) *types.Type {
	ok := []string{"kprobe", "kretprobe", "uprobe", "uretprobe", "fentry", "fexit", "lsm", "usdt"}
	for _, p := range u.Body.Points {
		if !slices.Contains(ok, p.Kind.Name()) {
			return unavailable(u, p, "use `probe`")
		}
	}
	return tFunc
}

// probetypeType is a string that is known while compiling, because all points of a body are of one kind.
func probetypeType(u *check.VarUse) *types.Type {
	name := probetype(u.Body.Points[0])
	size := 0
	for _, p := range u.Body.Points {
		size = max(size, len(probetype(p))+1)
	}
	same := true
	for _, p := range u.Body.Points {
		same = same && probetype(p) == name
	}
	if same {
		u.Body.Consts[u.Node] = check.Const{Str: name, IsString: true}
	}
	return types.StringOf(size)
}

func probetype(p *check.Point) string { return probetypeOf(p.Kind.Name()) }

// probetypeOf is what `probetype` says of a kind.
func probetypeOf(kind string) string {
	if kind == "begin" || kind == "end" {
		return "special"
	}
	return kind
}
