package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/stdlib"
)

// filter makes what the programs test from --container, --pod, --cgroup, --comm and --children; nil when none is given.
func (a *app) filter(t *target.Target) (func(g *lower.Gen), error) {
	o := a.opts
	f := &stdlib.Filter{Comm: o.comm}
	if err := f.Check(); err != nil {
		return nil, &userError{err.Error(), "a `*` at the end stands for the rest"}
	}
	path := o.cgroup
	for _, c := range []struct {
		want string
		pod  bool
		what string
	}{{o.container, false, "container"}, {o.pod, true, "pod"}} {
		if c.want == "" {
			continue
		}
		found, names, err := a.kernel.FindContainer(c.want, c.pod)
		if err != nil {
			return nil, noContainer(c.what, c.want, names, err)
		}
		path = found.Path
	}
	if path != "" {
		c, err := a.kernel.Cgroup(path)
		if err != nil {
			return nil, a.noCgroup(path, err)
		}
		f.Cgroup = &c
		f.Ancestors = a.kernel.Features().Has("bpf_get_current_ancestor_cgroup_id")
	}
	if o.children {
		f.Ancestor = o.pid
		if a.child != nil {
			f.Ancestor = a.child.PID
		}
		if inInit, err := a.kernel.InInitPIDNamespace(); err == nil && !inInit {
			return nil, &userError{"--children does not work inside of a pid namespace", "run it on the host, or use --cgroup"}
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", f.Ancestor)); errors.Is(err, fs.ErrNotExist) {
			return nil, &userError{fmt.Sprintf("there is no process %d", f.Ancestor), ""}
		}
		if t.Types == nil || t.Types.StructType("task_struct") == nil {
			return nil, &userError{"--children needs the kernel's type information", "use -p without --children"}
		}
	}
	if f.Empty() {
		return nil, nil
	}
	return f.Lower, nil
}

// noContainer says which containers there are.
func noContainer(what, want string, names []string, err error) error {
	if !errors.Is(err, kernel.ErrNoContainer) {
		return &userError{err.Error(), "give more of the id"}
	}
	u := &userError{text: fmt.Sprintf("there is no %s `%s` in the tree of control groups", what, want)}
	switch n := diag.Nearest(want, names); {
	case n != "":
		u.hint = "did you mean " + n + "?"
	case len(names) > 0:
		u.hint = "there are " + strings.Join(names[:min(len(names), 8)], ", ")
	default:
		u.hint = "the tree shows no " + what + "; containers in version 1 control groups cannot be told apart"
	}
	return u
}

func (a *app) noCgroup(path string, err error) error {
	u := &userError{text: fmt.Sprintf("there is no control group `%s`", path)}
	if !errors.Is(err, fs.ErrNotExist) {
		u.text = fmt.Sprintf("control group `%s`: %v", path, err)
	}
	if _, merr := a.kernel.CgroupMount(); merr != nil {
		u.hint = "no tree of version 2 control groups is mounted"
	} else if n := diag.Nearest(path, a.kernel.CgroupNames()); n != "" {
		u.hint = "did you mean " + n + "?"
	}
	return u
}

// everywhere takes the process of -p out of the attach plan, for --children: the programs test it.
func everywhere(obj *object.Object) {
	for _, p := range obj.Programs {
		for _, at := range p.Attach {
			for x := at; x != nil; x = x.Fallback {
				x.PID = 0
			}
		}
	}
}
