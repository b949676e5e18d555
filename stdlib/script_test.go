package stdlib_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/attach"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/lab"
	"github.com/sonde-sh/sonde/stdlib"
)

// compiled compiles a script for the running kernel.
func compiled(t *testing.T, m *stdlib.Machine, text string, literal bool) *object.Object {
	t.Helper()
	var diags diag.List
	set, f := source.NewSet("stdin", text)
	parsed := syntax.Parse(set, f, &diags)
	reg := stdlib.New(stdlib.ProbeKinds(m))
	env := &check.Env{Types: m.Types, Arch: m.Kernel.Arch(), CPUs: m.Target().CPUs, Machine: m, NamedUsed: map[string]bool{}}
	info := check.Check(parsed, set, reg, env, &diags)
	if diags.HasErrors() {
		t.Fatal(diags.Error())
	}
	target := *m.Target()
	target.LiteralAttach = literal
	obj, err := codegen.Compile(info, &target, codegen.Options{Diags: &diags})
	if err = errors.Join(err, diags.Err()); err != nil {
		t.Fatal(err)
	}
	return obj
}

// script compiles and runs a script on the running kernel while hit is called again and again, and returns what it prints.
func script(t *testing.T, m *stdlib.Machine, text string, literal bool, hit func()) string {
	t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	attached := make(chan struct{})
	s, err := runtime.New(runtime.Options{
		Object: compiled(t, m, text, literal), Kernel: m.Kernel, Targets: m, Output: runtime.NewOutput(&out, false, runtime.BufferFull),
		Report: func(d *diag.Diagnostic) { t.Log(d) }, Attached: func(int) { close(attached) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	done := make(chan struct{})
	go func() {
		<-attached
		for {
			select {
			case <-done:
				return
			default:
				hit()
				time.Sleep(100 * time.Microsecond)
			}
		}
	}()
	_, err = s.Run(ctx)
	close(done)
	if err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("the script did not end; it printed:\n%s", out.String())
	}
	return strings.TrimSpace(out.String())
}

// TestKernelScripts runs scripts of every kind and compares what they print, with the mechanisms that the kinds choose and with the literal ones.
func TestKernelScripts(t *testing.T) {
	m := stdlib.TracingMachine(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf("%s:%q", exe, "github.com/sonde-sh/sonde/stdlib_test.probed")
	pid := os.Getpid()
	mine := fmt.Sprintf("/pid == %d/", pid)
	getppid := func() { unix.Getppid() }
	read := func() {
		if f, err := os.Open("/proc/self/status"); err == nil {
			_, _ = f.Read(make([]byte, 10))
			f.Close()
		}
	}
	call := func() { probed(41, "abc") }
	kprobes, fentries, tpbtf := []string{kernel.FeatureKprobes}, []string{kernel.FeatureFentry}, []string{kernel.FeatureTPBTF}
	cases := []struct {
		name, text string
		needs      []string
		hit        func()
		want       string // regular expression
	}{
		{"tracepoint argument", `t:syscalls:sys_enter_openat ` + mine + ` { printf("%s", str(args.filename)); exit(); }`, nil, read, `^/proc/self/status`},
		{"tracepoint probe", `t:syscalls:sys_enter_getppid ` + mine + ` { printf("%s", probe); exit(); }`, nil, getppid, `^tracepoint:syscalls:sys_enter_getppid`},
		{"tracepoint array", `t:sched:sched_switch /args.prev_pid != 0/ { printf("<%s>", args.prev_comm); exit(); }`, nil, func() { time.Sleep(time.Millisecond) }, `^<.+>`},
		{
			"all system calls", `t:syscalls:sys_enter_* ` + mine + ` { @[probe] = count(); } t:syscalls:sys_enter_getppid ` + mine + ` { @n++; if (@n > 20) { exit(); } }`, nil, getppid,
			`@\[tracepoint:syscalls:sys_enter_getppid\]: \d\d`,
		},
		{
			"all returns", `t:syscalls:sys_exit_* ` + mine + ` { @[probe] = count(); } t:syscalls:sys_exit_getppid ` + mine + ` { @n++; if (@n > 20) { exit(); } }`, nil, getppid,
			`@\[tracepoint:syscalls:sys_exit_getppid\]: \d\d`,
		},
		{
			"raw system call number", `t:raw_syscalls:sys_enter ` + mine + ` { @[args.id] = count(); } t:syscalls:sys_enter_getppid ` + mine + ` { @n++; if (@n > 20) { exit(); } }`, nil, getppid,
			fmt.Sprintf(`@\[%d\]: \d\d`, unix.SYS_GETPPID),
		},
		{"raw tracepoint argN", `rt:sys_enter ` + fmt.Sprintf("/pid == %d && arg1 == %d/", pid, unix.SYS_GETPPID) + ` { printf("%d", arg1); exit(); }`, nil, getppid, fmt.Sprintf("^%d", unix.SYS_GETPPID)},
		{"raw tracepoint args", `rt:sched_switch /args.next.pid != 0/ { printf("<%s>", args.next.comm); exit(); }`, tpbtf, func() { time.Sleep(time.Millisecond) }, `^<.+>`},
		{"syscall", `syscall:openat ` + mine + ` { printf("%s %s", str(args.filename), probe); exit(); }`, nil, read, `^/proc/self/status syscall:openat`},
		{"syscall return", `syscall:openat:return ` + mine + ` { printf("%s %d", str(args.filename), retval > 2); exit(); }`, nil, read, `^/proc/self/status 1`},
		{"interval", `interval:ms:1 { @++; if (@ == 3) { exit(); } }`, nil, func() {}, `@: \d`},
		{"profile", `profile:hz:500 { @[cpu] = count(); if (cpu == 0) { @n = 1; } } interval:ms:200 /@n == 1/ { exit(); }`, nil, func() {}, `@\[0\]: \d+`},
		{"software", `software:page-faults:1 { @ = count(); } interval:ms:100 /@ > 0/ { exit(); }`, nil, touchMemory, `@: \d+`},
		{"kprobe argument", `kprobe:vfs_read ` + fmt.Sprintf("/pid == %d && arg2 == 10/", pid) + ` { printf("%d", arg2); exit(); }`, kprobes, read, `^10`},
		{"kretprobe result", `kretprobe:vfs_read ` + fmt.Sprintf("/pid == %d && retval == 10/", pid) + ` { printf("%d", retval); exit(); }`, kprobes, read, `^10`},
		{"kprobe pattern", `kprobe:vfs_rea* ` + mine + ` { @[probe, func] = count(); @n++; if (@n > 5) { exit(); } }`, kprobes, read, `@\[kprobe:vfs_read, vfs_read\]: \d+`},
		{"fentry argument", `fentry:vfs_read ` + fmt.Sprintf("/pid == %d && args.count == 10/", pid) + ` { printf("%d %s", args.count, str(args.file.f_path.dentry.d_name.name)); exit(); }`, fentries, read, `^10 status`},
		{"fexit result", `fexit:vfs_read ` + fmt.Sprintf("/pid == %d && args.count == 10/", pid) + ` { printf("%d %d", args.count, retval); exit(); }`, fentries, read, `^10 10`},
		{"fentry of two", `fentry:vfs_read,fentry:vfs_open ` + mine + ` { @[probe] = count(); @n++; if (@n > 5) { exit(); } }`, fentries, read, `(?s)@\[fentry:vmlinux:vfs_read\]: \d+`},
		{"words on the stack", `uprobe:` + own + ` ` + mine + ` { $s = (uint64 *)reg("sp"); printf("%d", sarg1 == *($s + 2) || sarg1 == *($s + 1)); exit(); }`, nil, call, `^1`},
		{"uprobe argument", `uprobe:` + own + ` ` + mine + ` { printf("%d %s", arg0, func); exit(); }`, nil, call, `^\d+ github.com/sonde-sh/sonde/stdlib_test.probed`},
		{"uretprobe of Go", `uretprobe:` + own + ` ` + mine + ` { printf("%s", probe); exit(); }`, nil, call, `^uretprobe:/`},
		{"iterator", fmt.Sprintf(`iter:task /ctx.task.tgid == %d/ { @[ctx.task.tgid] = count(); }`, pid), []string{kernel.FeatureIter}, func() {}, fmt.Sprintf(`@\[%d\]: \d+`, pid)},
		{"begin and end", `begin { @a = 1; exit(); } end { @a++; }`, nil, func() {}, `@a: 2`},
		{"security hook", `lsm:file_open ` + mine + ` { printf("%s", str(args.file.f_path.dentry.d_name.name)); exit(); }`, []string{kernel.FeatureLSM, kernel.FeatureLSMActive}, read, `^status`},
	}
	for _, c := range cases {
		for _, literal := range []bool{false, true} {
			name := c.name
			if literal {
				name += " literal"
			}
			t.Run(name, func(t *testing.T) {
				if literal && strings.HasPrefix(c.name, "all ") && lab.InGuest() {
					t.Skip("needs a machine that is not emulated: detaching hundreds of perf events takes minutes there")
				}
				for _, f := range c.needs {
					if err := m.Kernel.Features().Check(f); err != nil {
						t.Skip("needs ", err)
					}
				}
				out := script(t, m, c.text, literal, c.hit)
				if !regexp.MustCompile(c.want).MatchString(out) {
					t.Errorf("script: %s\nprinted:\n%s\nwant a match of %s", c.text, out, c.want)
				}
			})
		}
	}
}

//go:noinline
func probed(n int, s string) int { return n + len(s) + len(os.Args) }

// TestKernelBPFProgram traces a BPF program with another.
func TestKernelBPFProgram(t *testing.T) {
	m := stdlib.HostMachine(t)
	if err := m.Kernel.Features().Check(kernel.FeatureFentry); err != nil {
		t.Skip("needs ", err)
	}
	fn := &btf.Func{Name: "sonde_target", Linkage: btf.GlobalFunc, Type: &btf.FuncProto{
		Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: &btf.Void{}}}},
	}}
	target, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "sonde_target", Type: ebpf.RawTracepoint, License: "GPL", Instructions: asm.Instructions{
		btf.WithFuncMetadata(asm.Mov.Imm(asm.R0, 0).WithSymbol("sonde_target"), fn),
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	l, err := attach.New(attach.Config{}).Attach(&object.Attach{Mechanism: object.RawTracepoint, Target: "sys_enter"}, target)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, kind := range []string{"fentry", "fexit"} {
		t.Run(kind, func(t *testing.T) {
			out := script(t, m, kind+`:bpf:sonde_target { printf("%s", probe); exit(); }`, false, func() { unix.Getppid() })
			if !strings.HasPrefix(out, kind+":bpf:") || !strings.Contains(out, ":sonde_target") {
				t.Errorf("printed %q", out)
			}
		})
	}
}

// touchMemory makes page faults: it writes to memory that was never used before.
func touchMemory() {
	b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return
	}
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	_ = unix.Munmap(b)
}
