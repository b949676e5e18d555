package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/runtime/kernel"
)

// TestKernelIterators walks over objects of several kinds, and reads a pinned iterator after the run that made it.
func TestKernelIterators(t *testing.T) {
	k := openKernel(t)
	if !k.Features().Has(kernel.FeatureIter) {
		t.Skip("needs " + kernel.FeatureIter)
	}
	sonde := func(prog string) (out, errs bytes.Buffer, code int) {
		code = run(context.Background(), []string{"sonde", "-e", prog}, stdio{strings.NewReader(""), &out, &errs})
		return out, errs, code
	}
	pid := os.Getpid()
	for _, c := range []struct{ prog, want string }{
		{fmt.Sprintf(`iter:task /ctx.task.tgid == %d/ { @[ctx.task.tgid] = count(); }`, pid), fmt.Sprintf(`@\[%d\]: \d+`, pid)},
		{fmt.Sprintf(`iter:task_file /ctx.task.tgid == %d && ctx.file != 0/ { @[ctx.fd] = count(); }`, pid), `@\[0\]: \d+`},
		{fmt.Sprintf(`iter:task_file /ctx.task.tgid == %d && ctx.fd == 0/ { printf("<%%s>\n", path(ctx.file->f_path)); }`, pid), `<(/|pipe:|socket:)`},
		{`iter:bpf_map { @n = count(); }`, `@n: \d+`},
		{`iter:bpf_prog { @n = count(); }`, `@n: \d+`},
		{fmt.Sprintf(`iter:task_vma /ctx.task.tgid == %d/ { @n = count(); }`, pid), `@n: \d+`},
		{fmt.Sprintf(`iter:task_vma /ctx.task.tgid == %d/ { @[path(ctx->vma->vm_file->f_path)] = count(); @n[path(ctx.vma.vm_mm.exe_file.f_path)] = count(); }`, pid), `(?s)@\[\]: \d+.*@n\[/`},
		{`iter:cgroup { @n = count(); }`, `@n: \d+`},
	} {
		t.Run(strings.Fields(c.prog)[0], func(t *testing.T) {
			out, errs, code := sonde(c.prog)
			if strings.Contains(errs.String(), "not available for your kernel version") || strings.Contains(errs.String(), "this kernel does not give paths in iterators") {
				t.Skip("needs a newer kernel: ", errs.String())
			}
			if code != 0 || !regexp.MustCompile(c.want).MatchString(out.String()) {
				t.Errorf("%s: status %d\n%s%s", c.prog, code, out.String(), errs.String())
			}
		})
	}
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Skip("needs a file system for BPF objects: ", err)
	}
	defer func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	}()
	pin := filepath.Join(dir, "tasks")
	out, errs, code := sonde(fmt.Sprintf(`iter:task:%s /ctx.task.tgid == %d/ { printf("%%5d <%%s> %%x %%s\n", ctx.task.tgid, ctx.task.comm, 255, "text"); }`, pin, pid))
	if code != 0 || !strings.Contains(out.String(), "Program pinned to "+pin) {
		t.Fatalf("status %d\n%s%s", code, out.String(), errs.String())
	}
	for range 2 { // each reader runs it anew
		text, err := os.ReadFile(pin)
		if want := regexp.MustCompile(fmt.Sprintf(`(?m)^ *%d <\S+> ff text$`, pid)); err != nil || !want.Match(text) {
			t.Errorf("%v, %q", err, text)
		}
	}
	if err := os.Remove(pin); err != nil {
		t.Error(err)
	}
	if _, errs, code := sonde("iter:task:" + pin + " { print(1); }"); code != exitUser || !strings.Contains(errs.String(), "use printf()") {
		t.Errorf("print: status %d, %s", code, errs.String())
	}
}
