package stdlib

import (
	"slices"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

func processFuncs() []Builtin {
	return []Builtin{
		{
			Name: "pid", Doc: Doc{
				Group: "process", Summary: "process id in a pid namespace",
				Text:    "`pid(curr_ns)` is the id that the tool's own namespace has for the process, as `pid` alone; `pid(init)` the one of the initial namespace.",
				Example: "tracepoint:sched:sched_process_exec { printf(\"%d\\n\", pid(init)); }", SeeAlso: []string{"tid"},
			},
			Func: &check.Func{MustUse: true, Params: params(namespace()), Result: always(types.TUint32)},
		},
		{
			Name: "tid", Doc: Doc{
				Group: "process", Summary: "thread id in a pid namespace",
				Text:    "`tid(curr_ns)` is the id that the tool's own namespace has for the thread, as `tid` alone; `tid(init)` the one of the initial namespace.",
				Example: "tracepoint:sched:sched_process_exec { printf(\"%d\\n\", tid(init)); }", SeeAlso: []string{"pid"},
			},
			Func: &check.Func{MustUse: true, Params: params(namespace()), Result: always(types.TUint32)},
		},
		{
			Name: "comm", Doc: Doc{
				Group: "process", Summary: "name of the process with a pid",
				Text: "The name of the process that has the id, in the initial pid namespace. It is empty when there is none. The kernel lets only programs that are built on its types look a process up: " +
					"`fentry`, `fexit`, `iter` and `lsm` probes, since Linux 6.2.",
				Example: "fentry:wake_up_new_task { printf(\"%s -> %s\\n\", comm, comm(args.p.tgid)); }", SeeAlso: []string{"pcomm", "leader_comm"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("pid", check.AnyArg)), Result: commResult},
		},
		{
			Name: "pcomm", Doc: Doc{
				Group: "process", Summary: "name of the parent of a task",
				Text:    "The name of the process that started the task: `task.real_parent.comm`. Before version 0.26 of the language it was what `leader_comm` is now.",
				Example: "BEGIN { print(pcomm(curtask)); }", SeeAlso: []string{"comm", "leader_comm", "ppid"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("task", check.AnyArg)), Result: taskResult(tComm)},
		},
		{
			Name: "leader_comm", Doc: Doc{
				Group: "process", Summary: "name of a task's process",
				Text:    "The name of the main thread of the process that the task belongs to: `task.group_leader.comm`.",
				Example: "BEGIN { print(leader_comm(curtask)); }", SeeAlso: []string{"comm", "leader_tid"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("task", check.AnyArg)), Result: taskResult(tComm)},
		},
		{
			Name: "leader_tid", Doc: Doc{
				Group: "process", Summary: "id of the main thread of a task's process",
				Text:    "As the initial pid namespace has it: `task.group_leader.pid`.",
				Example: "BEGIN { print(leader_tid(curtask)); }", SeeAlso: []string{"leader_comm", "tid"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("task", check.AnyArg)), Result: taskResult(types.TInt32)},
		},
		{
			Name: "ppid", Doc: Doc{
				Group: "process", Summary: "id of a task's parent process",
				Text:    "The id of the process that the task's parent belongs to.",
				Example: "BEGIN { print(ppid(curtask)); }", SeeAlso: []string{"pid"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("task", check.AnyArg)), Result: taskResult(types.TUint32)},
		},
		{
			Name: "cgroupid", Doc: Doc{
				Group: "process", Summary: "id of a control group by its path",
				Text:    "The id of the cgroup v2 at a path, found while compiling.",
				Example: "tracepoint:raw_syscalls:sys_enter /cgroup == cgroupid(\"/sys/fs/cgroup\")/ { @ = count(); }", SeeAlso: []string{"cgroup", "cgroup_path"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("path", check.StrLiteral)), Result: always(types.TUint64)},
		},
		{
			Name: "cgroup_path", Doc: Doc{
				Group: "process", Summary: "path of a control group by its id",
				Text: "The path below the mount point of each hierarchy in which the id is found, `unified:/a,cpu:/b`. It is looked up when the value is printed. The second argument is a pattern that limits the " +
					"hierarchies; that of cgroup v2 is called `unified`.",
				Example: "BEGIN { print(cgroup_path(cgroup)); }", SeeAlso: []string{"cgroup", "cgroupid"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("id", check.Number), opt("filter", check.StrLiteral)), Result: cgroupPathResult},
		},
	}
}

// commResult checks that the probe may look a process up.
func commResult(c *check.Call) *types.Type {
	if !isInt(c.Type(0)) {
		return argError(c, "Only integer supported for comm()'s pid")
	}
	for _, k := range bodyKinds(c.Body) {
		if !slices.Contains(typedKinds, k) {
			c.Diags.Errorf(check.CodeUnavailable, c.Node.Sp, "Syntax comm(PID) is not supported in this probe type yet. Type: %s", probetypeOf(k)).
				Hint("use it in %s probes", list(typedKinds))
			return types.TInvalid
		}
	}
	if !kfuncKnown(c, taskFromPID) {
		c.Diags.Errorf(check.CodeUnavailable, c.Node.Sp, "comm(PID) needs the kernel function %s, which this kernel does not have (Linux 6.2)", taskFromPID)
		return types.TInvalid
	}
	return tComm
}

// typedKinds are the kinds whose programs know the types of what they get, and may call functions of the kernel.
var typedKinds = []string{"fentry", "fexit", "iter", "lsm"}

// The kernel's functions that find a task and give it back.
const (
	taskFromPID = "bpf_task_from_pid"
	taskRelease = "bpf_task_release"
)

// cgroupPathResult keeps the filter in the type, which goes to where the value is printed.
func cgroupPathResult(c *check.Call) *types.Type {
	t := *tCgroupPath
	t.Format, _ = c.Str(1)
	return &t
}

// taskResult checks that the argument is a task.
func taskResult(t *types.Type) func(*check.Call) *types.Type {
	return func(c *check.Call) *types.Type {
		a := c.Type(0)
		if a.Kind != types.Pointer || a.Elem == nil || a.Elem.Kind != types.Struct || a.Elem.Struct == nil || a.Elem.Struct.Name != "task_struct" {
			return argError(c, "%s() needs a `struct task_struct *` (%s provided)", c.Node.Func, c.Type(0))
		}
		return t
	}
}
