package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/runtime/kernel"
)

// TestKernelLists lists attach points of this kernel with their arguments.
func TestKernelLists(t *testing.T) {
	k := openKernel(t)
	if !k.Features().Has(kernel.FeatureBTF) {
		t.Skip("needs the kernel's type information")
	}
	functions := filepath.Join(t.TempDir(), "functions")
	if err := os.WriteFile(functions, []byte("vfs_read [vmlinux]\nseq_path [vmlinux]\nseq_printf [vmlinux]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args, ret := `\n    struct file \* %\n    char \* %\n    size_t %\n    loff_t \* %\n`, `    ssize_t retval\n`
	named := func(names ...string) string {
		s := args
		for _, n := range names {
			s = strings.Replace(s, "%", n, 1)
		}
		return s
	}
	for _, c := range []struct {
		what, want string
		argv       []string
	}{
		{"a kprobe", `^kprobe:vfs_read` + named("arg0", "arg1", "arg2", "arg3") + `$`, []string{"-lv", "kprobe:vfs_read"}},
		{"a kretprobe", `^kretprobe:vfs_read\n` + ret + `$`, []string{"-lv", "kretprobe:vfs_read"}},
		{"fentry", `^fentry:vmlinux:vfs_read` + named("file", "buf", "count", "pos") + `$`, []string{"-lv", "fentry:vfs_read"}},
		{"fexit", `^fexit:vmlinux:vfs_read` + named("file", "buf", "count", "pos") + ret + `$`, []string{"-lv", "fexit:vfs_read"}},
		{"what can be traced with types", `^fentry:vmlinux:seq_path\n$`, []string{"-l", "fentry:seq_p*"}},
		{"a name of any kind", `^rawtracepoint:vmlinux:sched_switch\ntracepoint:sched:sched_switch\n$`, []string{"-l", "sched_switch"}},
		{"a script", `^tracepoint:sched:sched_process_exec\n    __data_loc char\[\] filename\n    pid_t pid\n`, []string{"-lv", "-e", "tracepoint:sched:sched_process_exec { }"}},
		{"an iterator", `^iter:task\n    struct task_struct \* task\niter:task_file\n(?s:.*)$`, []string{"-lv", "iter:task*"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(context.Background(), append([]string{"sonde", "--traceable-functions", functions}, c.argv...), stdio{strings.NewReader(""), &out, &errs})
			if code != exitOK || !regexp.MustCompile(c.want).MatchString(out.String()) {
				t.Errorf("status %d, %s\nno %s in\n%s", code, errs.String(), c.want, out.String())
			}
		})
	}
}
