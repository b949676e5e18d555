package stdlib

import (
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
				Text:    "The name of the process that has the id. It is empty when there is none.",
				Example: "tracepoint:signal:signal_generate { printf(\"%s -> %s\\n\", comm, comm(args.pid)); }", SeeAlso: []string{"pcomm"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("pid", check.Number)), Result: always(tComm)},
		},
		{
			Name: "pcomm", Doc: Doc{
				Group: "process", Summary: "name of a task's process",
				Text:    "The name of the main thread of the process that the task belongs to.",
				Example: "BEGIN { print(pcomm(curtask)); }", SeeAlso: []string{"comm"},
			},
			Func: &check.Func{Macro: true, MustUse: true, Params: params(req("task", check.AnyArg)), Result: taskResult(tComm)},
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
				Text: "The path below the mount point of the hierarchy in which the id is found. It is looked up when the value is printed. The second argument is a pattern that limits the " +
					"hierarchies; that of cgroup v2 is called `unified`.",
				Example: "BEGIN { print(cgroup_path(cgroup)); }", SeeAlso: []string{"cgroup", "cgroupid"},
			},
			Func: &check.Func{MustUse: true, Params: params(req("id", check.Number), opt("filter", check.StrLiteral)), Result: always(tCgroupPath)},
		},
	}
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
