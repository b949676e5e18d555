package shell

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCompletion(t *testing.T) {
	sh, out := newShell(t)
	run(t, sh, out, "@reads = 1", "$limit = 3", "macro twice(x) { x * 2 }")
	c := newCompleter(sh)
	tests := []struct {
		name, line string
		want       []string // candidates that must be there, as whole lines
		not        []string
	}{
		{"commands", `\li`, []string{`\list`}, nil},
		{"commands as words", "ma", []string{"maps "}, nil},
		{"probe kinds", "trace", []string{"tracepoint:"}, nil},
		{"categories of tracepoints", "tracepoint:raw_sysc", []string{"tracepoint:raw_syscalls:"}, nil},
		{"tracepoints", "tracepoint:raw_syscalls:sys_e", []string{"tracepoint:raw_syscalls:sys_enter", "tracepoint:raw_syscalls:sys_exit"}, nil},
		{"by a short name", "t:raw_syscalls:sys_en", []string{"t:raw_syscalls:sys_enter"}, nil},
		{"a second attach point", "BEGIN,tracepoint:raw_syscalls:sys_en", []string{"BEGIN,tracepoint:raw_syscalls:sys_enter"}, nil},
		{"raw tracepoints", "rawtracepoint:sched_swi", []string{"rawtracepoint:sched_switch"}, nil},
		{"kernel functions", "fentry:vfs_re", []string{"fentry:vfs_read"}, nil},
		{"libraries", "uprobe:libc", []string{"uprobe:libc:"}, nil},
		{"symbols of a library", "uprobe:libc:mallo", []string{"uprobe:libc:malloc"}, nil},
		{"files", "uprobe:/bin/s", []string{"uprobe:/bin/sh:"}, nil},
		{"system calls", "syscall:openat", []string{"syscall:openat"}, nil},
		{"functions in an action", "BEGIN { print", []string{"BEGIN { printf(", "BEGIN { print("}, []string{"BEGIN { proc"}},
		{"variables in an action", "BEGIN { @[cur", []string{"BEGIN { @[curtask"}, nil},
		{"maps of the session", "BEGIN { @rea", []string{"BEGIN { @reads"}, nil},
		{"variables of the session", "BEGIN { $li", []string{"BEGIN { $limit"}, nil},
		{"macros", "BEGIN { print(strn", []string{"BEGIN { print(strncmp("}, nil},
		{"arguments of a tracepoint", "tracepoint:syscalls:sys_enter_openat { @[str(args.file", []string{"tracepoint:syscalls:sys_enter_openat { @[str(args.filename"}, nil},
		{"arguments in a predicate", "tracepoint:syscalls:sys_exit_read /args.re", []string{"tracepoint:syscalls:sys_exit_read /args.ret"}, nil},
		{"members at depth", "curtask->mm->mmap_lo", []string{"curtask->mm->mmap_lock"}, nil},
		{"members of a variable", "rawtracepoint:sched_switch { $t = (struct task_struct *)arg1; print($t->comm); @[$t->group_lead", []string{
			"rawtracepoint:sched_switch { $t = (struct task_struct *)arg1; print($t->comm); @[$t->group_leader",
		}, nil},
		{"members behind a cast", "BEGIN { print(((struct file *)0)->f_ino", []string{"BEGIN { print(((struct file *)0)->f_inode"}, nil},
		{"types", "BEGIN { $x = (struct task_str", []string{"BEGIN { $x = (struct task_struct"}, nil},
		{"topics of the help", `\help hist`, []string{`\help hist`}, nil},
		{"maps of a command", `\print @r`, []string{`\print @reads`}, nil},
		{"patterns of describe", `\d tracepoint:raw_sysc`, []string{`\d tracepoint:raw_syscalls:`}, nil},
		{"config keys", `\set max_str`, []string{`\set max_strlen`}, nil},
		{"nothing inside strings", `printf("pri`, nil, []string{`printf("print(`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			endings, _ := c.complete("", tt.line)
			took := time.Since(start)
			var lines []string
			for _, e := range endings {
				lines = append(lines, tt.line+e)
			}
			for _, w := range tt.want {
				if !slices.Contains(lines, w) {
					t.Errorf("%q is missing in %q", w, short(lines))
				}
			}
			for _, n := range tt.not {
				if slices.Contains(lines, n) {
					t.Errorf("%q does not belong into %q", n, short(lines))
				}
			}
			t.Logf("%d candidates in %v", len(lines), took)
		})
	}
}

func short(lines []string) string {
	return strings.Join(lines[:min(10, len(lines))], " | ")
}

func TestSignatureHint(t *testing.T) {
	sh, _ := newShell(t)
	for text, want := range map[string]string{
		"BEGIN { printf(":          "printf(",
		`BEGIN { printf("%d (", `:  "printf(",
		"BEGIN { @ = lhist(pid, 0": "lhist(",
		"BEGIN { print(str(":       "str(",
		"BEGIN { print(str(0)":     "print(",
		"BEGIN { print(1); ":       "",
		"(1 + ":                    "",
	} {
		if got := sh.signature(text); !strings.HasPrefix(got, want) || (want == "") != (got == "") {
			t.Errorf("%q has the signature %q, want %q", text, got, want)
		}
	}
}

// The first list of candidates, cold and warm. A person waits for it.
func BenchmarkCompletion(b *testing.B) {
	for name, line := range map[string]string{
		"kinds": "tra", "tracepoints": "tracepoint:syscalls:sys_enter_o", "functions": "fentry:vfs_", "structs": "BEGIN { $x = (struct task_s",
		"members": "curtask->mm->m", "arguments": "tracepoint:syscalls:sys_enter_openat { @[args.f", "symbols": "uprobe:libc:mal",
	} {
		b.Run(name+"/cold", func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				sh, _ := newShell(b)
				c := newCompleter(sh)
				b.StartTimer()
				c.complete("", line)
			}
		})
		b.Run(name+"/warm", func(b *testing.B) {
			sh, _ := newShell(b)
			c := newCompleter(sh)
			c.warm()
			c.complete("", line)
			for b.Loop() {
				c.complete("", line)
			}
		})
	}
}
