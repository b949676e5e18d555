package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestKernelCommand looks at what probes see of the start of a command: its execve, and no call of sonde's own.
func TestKernelCommand(t *testing.T) {
	openKernel(t)
	command := "/proc/" + strconv.Itoa(os.Getpid()) + "/exe"
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	enter, exec := `tracepoint:raw_syscalls:sys_enter /pid == cpid && !@n/ { @n = 1; `, `rawtracepoint:sched_process_exec /pid == cpid/ { `
	for _, c := range []struct {
		name, prog, command, want string // want is for the output and the messages
		code                      int
	}{
		{"the first call", enter + `printf("%s %s %d\n", comm, syscall_name(args.id), tid == pid); }`, command + " -test.list=^$", `(?m)^sonde execve 1$`, exitOK},
		{"the execve", exec + `printf("%s %d\n", str(args.bprm->filename), pid == cpid); }`, command + " -test.list=^$", `(?m)^` + command + ` 1$`, exitOK},
		{"its name", `tracepoint:syscalls:sys_enter_exit_group /pid == cpid/ { printf("%s.\n", comm); }`, command + " -test.list=^$", `(?m)^exe\.$`, exitOK},
		{"a file that is no program", exec + `}`, text, `(?i)exec format error\nHINT: give a command that can be run`, exitUser},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(context.Background(), []string{"sonde", "-e", c.prog, "-c", c.command}, stdio{strings.NewReader(""), &out, &errs})
			if got := out.String() + errs.String(); code != c.code || !regexp.MustCompile(c.want).MatchString(got) {
				t.Errorf("status %d, want %d; no %s in\n%s", code, c.code, c.want, got)
			}
		})
	}
}
