package stdlib

import (
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// fixed is the type rule of a variable that every probe has.
func fixed(t *types.Type) func(*check.VarUse) *types.Type {
	return func(*check.VarUse) *types.Type { return t }
}

func variables() []Builtin {
	var all []Builtin
	all = append(all, processVars()...)
	all = append(all, probeVars()...)
	return all
}

// processVars are about the task that the probe runs in, the machine and the time.
func processVars() []Builtin {
	v := func(name string, t *types.Type, group, summary, text, example string, see ...string) Builtin {
		return Builtin{Name: name, Doc: Doc{Group: group, Summary: summary, Text: text, Example: example, SeeAlso: see}, Var: &check.Var{Type: fixed(t)}}
	}
	return []Builtin{
		v("pid", types.TUint32, "process", "id of the current process",
			"The id of the process (of all of its threads), as the tool's own pid namespace has it.",
			"tracepoint:syscalls:sys_enter_execve { printf(\"%d\\n\", pid); }", "tid", "comm"),
		v("tid", types.TUint32, "process", "id of the current thread",
			"The id of the thread, as the tool's own pid namespace has it. It is the usual key to bring entry and exit of a function together.",
			"tracepoint:syscalls:sys_enter_read { @start[tid] = nsecs; }", "pid"),
		v("uid", types.TUint64, "process", "user id of the current process",
			"The real user id, as the initial namespace has it.",
			"tracepoint:syscalls:sys_enter_execve /uid == 0/ { @[comm] = count(); }", "gid", "username"),
		v("gid", types.TUint64, "process", "group id of the current process",
			"The real group id, as the initial namespace has it.",
			"tracepoint:syscalls:sys_enter_execve { @[gid] = count(); }", "uid"),
		v("username", tUsername, "process", "name of the user of the current process",
			"The name that belongs to `uid`, looked up when the value is printed.",
			"tracepoint:syscalls:sys_enter_execve { @[username] = count(); }", "uid"),
		v("comm", tComm, "process", "name of the current thread",
			"At most 15 characters. A thread may have another name than its process.",
			"tracepoint:syscalls:sys_enter_openat { @[comm] = count(); }", "pcomm", "pid"),
		v("pcomm", tComm, "process", "name of the parent of the current process",
			"The name of the process that started the current one. Before version 0.26 of the language it was what `leader_comm` is now.",
			"tracepoint:syscalls:sys_enter_openat { @[pcomm] = count(); }", "comm", "leader_comm", "ppid"),
		v("leader_comm", tComm, "process", "name of the current process",
			"The name of the main thread of the process.",
			"tracepoint:syscalls:sys_enter_openat { @[leader_comm] = count(); }", "comm", "leader_tid"),
		v("leader_tid", types.TInt32, "process", "id of the main thread of the current process",
			"As the initial pid namespace has it.",
			"tracepoint:syscalls:sys_enter_openat { @[leader_tid] = count(); }", "leader_comm", "tid"),
		v("ppid", types.TUint32, "process", "id of the parent of the current process",
			"The id of the process that started the current one, or that it was given to.",
			"tracepoint:syscalls:sys_enter_execve { printf(\"%d -> %d\\n\", ppid, pid); }", "pid"),
		v("cgroup", types.TUint64, "process", "id of the control group of the current process",
			"The id of the cgroup v2.",
			"tracepoint:syscalls:sys_enter_openat /cgroup == cgroupid(\"/sys/fs/cgroup\")/ { @ = count(); }", "cgroupid", "cgroup_path"),
		{
			Name: "curtask", Doc: Doc{
				Group: "process", Summary: "the kernel's task structure of the current thread",
				Text:    "A pointer to `struct task_struct`. Its fields are read like those of any struct.",
				Example: "tracepoint:syscalls:sys_enter_openat { printf(\"%d\\n\", curtask.prio); }", SeeAlso: []string{"ppid", "pcomm"},
			},
			Var: &check.Var{Type: curtaskType},
		},
		v("nsecs", types.TUint64, "time", "nanoseconds since the machine was started",
			"Time that the machine slept is included. The difference of two values is a duration.",
			"tracepoint:syscalls:sys_enter_read { @start[tid] = nsecs; }", "elapsed", "strftime"),
		v("elapsed", types.TUint64, "time", "nanoseconds since the script was started",
			"Counts from the start of the script.",
			"interval:s:1 { printf(\"%d ms\\n\", elapsed / 1000000); exit(); }", "nsecs"),
		v("jiffies", types.TUint64, "time", "ticks of the kernel since it was started",
			"The kernel's tick counter.",
			"interval:s:1 { print(jiffies); exit(); }", "nsecs"),
		v("cpu", types.TUint32, "machine", "number of the current CPU",
			"The CPU that the probe runs on.",
			"profile:hz:99 { @[cpu] = count(); }", "ncpus", "numaid"),
		v("numaid", types.TUint32, "machine", "number of the current NUMA node",
			"The NUMA node of the CPU that the probe runs on.",
			"profile:hz:99 { @[numaid] = count(); }", "cpu"),
		{
			Name: "ncpus", Doc: Doc{
				Group: "machine", Summary: "number of CPUs",
				Text:    "How many CPUs the machine may have, known while compiling.",
				Example: "BEGIN { for ($i : 0..ncpus) { print($i); } }", SeeAlso: []string{"cpu"},
			},
			Var: &check.Var{Type: fixed(types.TUint64), Const: func(u *check.VarUse) (int64, bool) { return int64(u.Env.CPUs), u.Env.CPUs > 0 }},
		},
		v("rand", types.TUint32, "machine", "pseudo-random number",
			"A new number at each use.",
			"interval:ms:10 { @ = lhist(rand % 10, 0, 10, 1); exit(); }"),
		v("usermode", types.TUint8, "machine", "whether the probe interrupted user space",
			"1 when the CPU was in user mode, else 0. Useful in `profile` and `hardware` probes.",
			"profile:hz:99 { @[usermode] = count(); }"),
		{
			Name: "cpid", Doc: Doc{
				Group: "process", Summary: "id of the process that `-c` started",
				Text:    "0 when there is none.",
				Example: "tracepoint:raw_syscalls:sys_enter /has_cpid && pid == cpid/ { @ = count(); }", SeeAlso: []string{"has_cpid"},
			},
			Var: &check.Var{Type: childPID, Const: func(u *check.VarUse) (int64, bool) { return int64(u.Env.ChildPID), true }},
		},
		{
			Name: "has_cpid", Doc: Doc{
				Group: "process", Summary: "whether there is a process that `-c` started",
				Text:    "Known while compiling.",
				Example: "tracepoint:raw_syscalls:sys_enter /has_cpid && pid == cpid/ { @ = count(); }", SeeAlso: []string{"cpid"},
			},
			Var: &check.Var{Type: fixed(types.TBool), Const: func(u *check.VarUse) (int64, bool) {
				if u.Env.Command != "" {
					return 1, true
				}
				return 0, true
			}},
		},
	}
}

// childPID is the type of `cpid`, which is of no use without a process, unless the script asks whether there is one.
func childPID(u *check.VarUse) *types.Type {
	if u.Env.Command == "" {
		asked := false
		for _, id := range u.Body.Idents {
			asked = asked || id.Builtin != nil && id.Builtin.Name == "has_cpid"
		}
		if !asked {
			u.Diags.Warnf(check.CodeNoChild, u.Node.Sp, "No child command (`-c`); cpid is zero").Hint("start the program that is to be traced with `-c`, or ask `has_cpid`")
		}
	}
	return types.TUint32
}

// curtaskType is a trusted pointer to the kernel's struct, or a plain number where there are no kernel types.
func curtaskType(u *check.VarUse) *types.Type {
	if u.Env.Types != nil {
		if t := u.Env.Types.StructType("task_struct"); t != nil {
			return types.PointerTo(t, types.SpaceKernel, types.ProvBTF)
		}
	}
	return inSpace(types.TUint64, types.SpaceKernel, types.ProvRaw)
}
