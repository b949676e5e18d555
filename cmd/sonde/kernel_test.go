package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/kernel/needs"
)

// kernelScripts run the whole program on the running kernel: here and on every kernel of the lab. want is a regexp on standard output.
var kernelScripts = []struct {
	name, prog, want string
	feature          string // kernel feature that the script needs; "" for none
	arch             string // the only architecture that has it; "" for all
	args             []string
	code             int
	work             bool // the script has no end: it is ended when this process has done what it traces
}{
	{name: "printf", prog: `BEGIN { printf("%d %s %x %c\n", -5, "abc", 255, 65); }`, want: `(?m)^-5 abc ff A$`},
	{name: "builtins of the process", prog: `BEGIN { printf("%d %d %d %s\n", pid > 0, uid, gid, comm); }`, want: `(?m)^1 0 0 \S+$`},
	{name: "scalars", prog: `BEGIN { @a = 5; @a += 3; @a++; @b = "text"; @c = (1, "x"); }`, want: `(?s)@a: 9.*@b: text.*@c: \(1, x\)`},
	{
		name: "aggregations without key", prog: `BEGIN { @c = count(); @c = count(); @s = sum(5); @s = sum(6); @n = min(3); @x = max(9); @v = avg(10); @h = hist(5); @l = lhist(5, 0, 10, 5); }`,
		want: `(?s)@c: 2.*@h:\n\[4, 8\) +1.*@l:\n\[5, 10\) +1.*@n: 3\n@s: 11\n@v: 10\n@x: 9`,
	},
	{
		name: "aggregations with key", prog: `BEGIN { @c[1] = count(); @s["a"] = sum(5); @m[1, "b"] = max(9); @h[2] = hist(100); @t[3] = stats(4); }`,
		want: `(?s)@c\[1\]: 1.*@h\[2\]:\n\[64, 128\).*@m\[1, b\]: 9.*@s\[a\]: 5.*@t\[3\]: \{ .count = 1, .average = 4, .total = 4 \}`,
	},
	{
		// Verifiers before Linux 6.5 cannot follow a value back through a call and see every way through the script as different from all
		// others; the instructions of 6.6 stand for the newer one.
		name: "many histograms", feature: kernel.FeatureCPUv4, prog: `BEGIN { @n = 1; $v = @n; unroll (40) { @h = hist($v); if (@n > $v) { $v *= 2; } else { $v += 3; } @g = hist($v, 2); } @h = hist(-1); @g = hist(3, 2); }`,
		want: `(?s)@g:\n\[3\] +1 .*\[112, 128\) +4 .*@h:\n\(\.\.\., 0\) +1 .*\[64, 128\) +19 `,
	},
	{name: "maps", prog: `BEGIN { @m[1] = 10; @m[2] = 20; @m[1]++; delete(@m, 2); if (has_key(@m, 1)) { printf("%d\n", @m[1]); } }`, want: `(?m)^11$`},
	{name: "len", prog: `BEGIN { @m[1] = 10; @m[2] = 20; printf("%d\n", len(@m)); }`, want: `(?m)^2$`, feature: "bpf_for_each_map_elem"},
	{name: "read an aggregation", prog: `BEGIN { @c = count(); @c = count(); if (@c > 1) { printf("c %d\n", @c); } @k[7] = sum(3); @k[7] = sum(4); printf("k %d\n", @k[7]); }`, want: `(?s)c 2\nk 7`},
	{name: "strings", prog: `BEGIN { $s = "hello"; if ($s == "hello") { printf("eq\n"); } if (strncmp($s, "help", 3) == 0) { printf("pre\n"); } printf("%d\n", strcontains($s, "ell")); }`, want: `(?s)eq\npre\n1`},
	{
		name: "names of numbers", prog: `BEGIN { $e = strerror(-2); print($e == "No such file or directory"); print($e); print(signal_name(15)); print(signal_name(99)); @[syscall_name(tid * 0)] = strlen(strerror(1)); }`,
		want: `(?s)true\nNo such file or directory\nTerminated\nN/A\n.*@\[\w+\]: 23`,
	},
	{name: "strings behind each other", prog: `BEGIN { $a = "he"; $b = str_concat($a, str_concat("l", "lo")); print($b == "hello"); print(strlen($b)); print(str_concat(comm, "!") != comm); }`, want: `(?s)true\n5\ntrue`},
	{
		name: "patterns of files", prog: `BEGIN { $s = "/proc/12/stat"; print((globmatch($s, "/proc/*/stat"), globmatch($s, "/proc/?/stat"), globmatch($s, "*[0-9]?s*t"), globmatch($s, "/proc/[!0-9]*"), globmatch($s, "/proc/*/sta"), globmatch(comm, "*"))); }`,
		want: `\(true, false, true, false, false, true\)`,
	},
	{name: "relatives of the task", prog: `BEGIN { print((leader_tid == leader_tid(curtask), leader_comm == leader_comm(curtask), pcomm == pcomm(curtask), ppid == ppid(curtask))); }`, want: `\(true, true, true, true\)`},
	{name: "settings", prog: `config = { max_strlen = 128 } BEGIN { print(config().max_strlen); print(config.stack_mode); print(is_err(curtask)); }`, want: `(?s)128\nbpftrace\nfalse`},
	{name: "comparison with the probe", prog: `BEGIN { @[probe == "begin", probe == "end"] = 1; }`, want: `@\[(true, false|1, 0)\]: 1`},
	{name: "name of a process by its id", prog: `iter:task { @[comm(ctx.task.tgid) == ctx.task.group_leader.comm] = count(); }`, want: `@\[(true|1)\]: \d+`, feature: "kfunc:bpf_task_from_pid"},
	{name: "control flow", prog: `BEGIN { $i = 0; while ($i < 5) { $i++; if ($i == 2) { continue; } if ($i == 4) { break; } printf("w%d ", $i); } unroll(2) { printf("u "); } printf("%s\n", $i == 4 ? "four" : "no"); }`, want: `w1 w3 u u four`},
	{name: "range", prog: `BEGIN { $n = 3; for ($i : 0..$n) { printf("r%d ", $i); } printf("\n"); }`, want: `r0 r1 r2`},
	{name: "long range", prog: `BEGIN { for ($i : 0..1000) { @s += $i; } }`, want: `@s: 499500`},
	{name: "loops nested six deep", prog: `BEGIN { @n = 4; for ($i : 0..@n) { for ($j : 0..@n) { for ($k : 0..@n) { for ($l : 0..@n) { for ($m : 0..@n) { for ($o : 0..@n) { @x[$o] = count(); } } } } } } }`, want: `@x\[3\]: 1024`, feature: "bpf_loop"},
	{name: "for over a map", prog: `BEGIN { @m[1] = 2; @m[3] = 4; for ($kv : @m) { @sum += $kv.0 * $kv.1; } }`, want: `@sum: 14`, feature: "bpf_for_each_map_elem"},
	{name: "curtask", prog: `BEGIN { printf("%d %d\n", curtask.pid == tid, curtask.tgid == pid); }`, want: `(?m)^1 1$`},
	{name: "part of a pointer as a key", prog: `BEGIN { @a[(uint16)curtask->stack, (uint16)1] = 1; @b[(int16)curtask->mm, 1] = 1; print(len(@a)); }`, want: `(?m)^1$`, feature: "bpf_for_each_map_elem"},
	{name: "an array of an iterator's object", prog: `iter:task /args.task->comm != "x" && args.task->comm[0] != 0/ { @n = count(); }`, want: `@n: \d+`, feature: kernel.FeatureIter},
	{name: "kstack", prog: `BEGIN { @[kstack(3)] = count(); }`, want: `@\[\n +\S+\+\d+\n`},
	{name: "stacks by unwind tables", prog: `profile:hz:99 { @[dw_ustack] = count(); @n[len(dw_ustack(raw, 3)) <= 3] = count(); } interval:ms:300 { exit(); }`, args: []string{"-p", "1"}, want: `^`, feature: "bpf_loop", arch: "amd64"},
	{name: "interval", prog: `interval:ms:20 { @n = count(); if (@n >= 3) { exit(); } }`, want: `@n: ([3-9]|[1-9]\d+)\n`},
	{name: "profile", prog: `profile:hz:99 { @ = count(); } interval:ms:300 /@ > 0/ { exit(); }`, want: `@: \d+`},
	{name: "syscall tracepoints", prog: `tracepoint:syscalls:sys_enter_getpid { @ = count(); } tracepoint:syscalls:sys_exit_openat /args.ret >= 0/ { @o = count(); }`, want: `@o: \d+`, work: true},
	{name: "argument string", prog: `tracepoint:syscalls:sys_enter_openat { @[str(args.filename, 64)] = count(); }`, want: `@\[/proc/self/stat\]: \d+`, work: true},
	{name: "keys of 512 bytes", prog: `config = { max_strlen = 512 } tracepoint:syscalls:sys_enter_openat { @[str(args.filename)] = count(); }`, want: `@\[/proc/self/stat\]: \d+`, work: true},
	{
		name: "arguments of system calls by name",
		prog: `syscall:openat /pid == SELF && args.filename == "/proc/self/stat"/ { printf("%s %s %s %d\n", args.filename, args.flags, args.dfd, args.flags & 3); @[str(args.filename, 64), args.flags] = count(); exit(); }`,
		want: `(?s)/proc/self/stat O_RDONLY\|(O_LARGEFILE\|)?O_CLOEXEC AT_FDCWD 0\n.*@\[/proc/self/stat, O_RDONLY\|(O_LARGEFILE\|)?O_CLOEXEC\]: \d+`,
	},
	{
		name: "all arguments of a system call",
		prog: `syscall:openat /pid == SELF && args.filename == "/proc/self/stat"/ { print(args); exit(); }`,
		want: `\{ \.dfd = AT_FDCWD, \.filename = /proc/self/stat, \.flags = O_RDONLY\|(O_LARGEFILE\|)?O_CLOEXEC, \.mode = 0 \}`,
	},
	{
		name: "arguments of system calls at the return",
		prog: `syscall:openat:return /pid == SELF && strcontains(args.filename, "self/stat") && retval > 2/ { $p = args.filename; printf("%s %s %s %d\n", $p, args.flags, args.dfd, (uint64)args.filename > 4096); exit(); }`,
		want: `/proc/self/stat O_RDONLY\|(O_LARGEFILE\|)?O_CLOEXEC AT_FDCWD 1\n`,
	},
	{name: "wildcard", prog: `tracepoint:syscalls:sys_enter_open* { @[probe] = count(); }`, want: `@\[tracepoint:syscalls:sys_enter_openat\]: \d+`, work: true},
	{name: "other tracepoint", prog: `tracepoint:sched:sched_switch { @[args.prev_pid >= 0] = count(); }`, want: `@\[(1|true)\]: \d+`, work: true},
	{name: "raw tracepoint", prog: `rawtracepoint:sched_switch { @ = count(); }`, want: `@: \d+`, work: true},
	{name: "kprobe", prog: `kprobe:vfs_read { @[comm, arg2 >= 0] = count(); } kretprobe:vfs_read { @r = hist(retval); }`, want: `(?s)@\[.*\]: \d+.*@r:`, feature: kernel.FeatureKprobes, work: true},
	{name: "behind the context of a perf event", prog: `profile:hz:99 { print(*(uint64 *)(ctx + 1)); }`, want: `^$`, code: 1},
	{name: "a context that was kept", prog: `profile:hz:99 { @ = ctx; print(@->regs.ip); }`, want: `^$`, code: 1},
	{
		name: "members of the context of a perf event", arch: "amd64",
		prog: `profile:hz:99 { $c = ctx; if (rand % 2) { $c = ctx; } $r = ctx->regs; $d = *ctx; @p = ctx;
			print(($c->regs.ip == reg("ip"), ((struct pt_regs *)ctx)->sp == reg("sp"), ((uint64 *)ctx)[16] == reg("ip"), *(uint16 *)((uint64)ctx + 129) == (uint16)(reg("ip") >> 8)));
			print(($r.bp == reg("bp"), $d.regs.flags == reg("flags"), (ctx->regs.cs & 0xff) == (reg("cs") & 0xff), *(uint32 *)ctx == (uint32)reg("r15")));
			for ($i : 0..200) { if ($c->regs.ip == reg("ip")) { @same = count(); } }
			print((ctx->sample_period > 0, $d.sample_period == ctx->sample_period, (uint64)ctx > 0, buf(ctx, 9) == buf(ctx, 9))); exit(); }`,
		want: `\(true, true, true, true\)\n\(true, true, true, true\)\n\(true, true, true, true\)\n`,
	},
	{
		name: "address of a page fault", prog: `software:page-faults:1 /ctx->addr != 0/ { @[ctx->sample_period] = count(); exit(); }`,
		want: `@\[1\]: \d+`,
	},
	{
		name: "context of a function", arch: "amd64", feature: kernel.FeatureKprobes, work: true,
		prog: `kprobe:vfs_read /@done == 0/ { @done = 1; $c = ctx; $n = rand % 1; @p = $c;
			print((ctx->ip == reg("ip"), $c->di == arg0, ((uint64 *)ctx)[$n + 13] == arg1, @p->dx == arg2, *(uint16 *)((uint64)ctx + 113) == (uint16)(arg0 >> 8)));
			$m = *ctx; $w = ctx->sp; for ($i : 0..200) { if ($c->sp == $w) { @same = count(); } } print(($m.si == arg1, kptr(ctx)->si == arg1)); }
			kretprobe:vfs_read { @r[ctx->ax == retval] = count(); }`,
		want: `(?s)\(true, true, true, true, true\)\n\(true, true\)\n.*@r\[(1|true)\]: \d+.*@same: \d+`,
	},
	{name: "kprobe wildcard", prog: `kprobe:vfs_r* { @[func] = count(); }`, want: `@\[vfs_read\]: \d+`, feature: kernel.FeatureKprobes, work: true},
	{name: "kprobe struct", prog: `kprobe:vfs_open { @[str(((struct path *)arg0)->dentry->d_name.name, 64)] = count(); }`, want: `@\[stat\]: \d+`, feature: kernel.FeatureKprobes, work: true},
	{name: "fentry", prog: `fentry:vfs_read { @[args.count >= 0] = count(); } fexit:vfs_read { @r = hist(retval); }`, want: `(?s)@\[(1|true)\]: \d+.*@r:`, feature: kernel.FeatureFentry, work: true},
	{name: "fentry, a pattern of more than can be traced", prog: `config = { missing_probes = "warn" } fentry:seq_p*,fentry:make_ku*,fentry:from_ku* { @ = count(); } begin { printf("loaded"); exit(); }`, want: `loaded`, feature: kernel.FeatureFentry},
	{name: "fentry of variable arguments", prog: `fentry:seq_printf { @ = count(); }`, want: ``, feature: kernel.FeatureFentry, code: 1},
	{name: "fentry, an array of a typedef", prog: `fentry:tcp_connect { @ = args.sk.sk_memcg.memory_events[2].counter; } begin { printf("loaded"); exit(); }`, want: `loaded`, feature: kernel.FeatureFentry},
	{name: "latency pair", prog: `tracepoint:syscalls:sys_enter_read { @s[tid] = nsecs; } tracepoint:syscalls:sys_exit_read /@s[tid]/ { @us = hist((nsecs - @s[tid]) / 1000); delete(@s[tid]); }`, want: `@us:`, work: true},
	{name: "exit code", prog: `BEGIN { exit(7); }`, want: ``, code: 7},
	{name: "user error", prog: `BEGIN { prinf("x"); }`, want: ``, code: 1},
	{name: "positional", prog: `BEGIN { printf("%d %s %d\n", $1, str($2), $#); }`, args: []string{"42", "arg"}, want: `42 arg 2`},
	{name: "pid filter", prog: `tracepoint:syscalls:sys_enter_openat { @[pid] = count(); } interval:ms:300 { exit(); }`, args: []string{"-p", "1"}, want: `(?s)^\s*(@\[1\]: \d+\s*)?$`},
	{name: "json", prog: `BEGIN { @h[1] = hist(5); print((1, "a")); }`, args: []string{"-f", "json"}, want: `(?s)\{"type": "value", "data": \[1,"a"\]\}.*\{"type": "hist", "data": \{"@h": \{"1": \[\{"min": 4, "max": 7, "count": 1\}\]\}\}\}`},
	{name: "end", prog: `BEGIN { @x = 1; } END { printf("bye %d\n", @x); clear(@x); }`, want: `bye 1`},
}

// visible is work that the scripts see.
func visible() {
	for range 20 {
		_, _ = os.ReadFile("/proc/self/stat")
		os.Getpid()
		time.Sleep(time.Millisecond)
	}
}

// activity makes system calls and page faults while a script runs.
func activity(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
			_, _ = os.ReadFile("/proc/self/stat")
			os.Getpid()
			if page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err == nil {
				page[0] = 1
				_ = unix.Munmap(page)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func TestKernelScripts(t *testing.T) {
	needs.BPF(t)
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	stop := make(chan struct{})
	defer close(stop)
	go activity(stop)
	for _, c := range kernelScripts {
		t.Run(c.name, func(t *testing.T) {
			if c.feature != "" && !k.Features().Has(c.feature) {
				t.Skipf("needs %s", c.feature)
			}
			if c.arch != "" && c.arch != k.Arch() {
				t.Skipf("needs %s", c.arch)
			}
			argv := append([]string{"-e", strings.ReplaceAll(c.prog, "SELF", strconv.Itoa(os.Getpid()))}, c.args...)
			var out, errs string
			var code int
			if c.work {
				out, errs, code = beside(t, argv, visible)
			} else {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				var o, e bytes.Buffer
				code = run(ctx, append([]string{"sonde"}, argv...), stdio{strings.NewReader(""), &o, &e})
				out, errs = o.String(), e.String()
				if ctx.Err() != nil {
					t.Error("did not end by itself")
				}
			}
			if code != c.code {
				t.Errorf("status %d, want %d", code, c.code)
			}
			if ok, err := regexp.MatchString(c.want, out); err != nil || !ok {
				t.Errorf("output %q does not match %q", out, c.want)
			}
			if t.Failed() {
				t.Logf("script: %s\nmessages: %s", c.prog, errs)
			}
		})
	}
}

var watched uint64

// TestKernelWatchpoint sees writes to a variable of this process.
func TestKernelWatchpoint(t *testing.T) {
	openKernel(t)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				atomic.AddUint64(&watched, 1)
				time.Sleep(time.Millisecond)
			}
		}
	}()
	prog := fmt.Sprintf(`watchpoint:%p:8:w { printf("%%s\n", usym(reg("%s"))); exit(); }`, &watched, map[string]string{"amd64": "ip", "arm64": "pc"}[goruntime.GOARCH])
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"sonde", "-p", strconv.Itoa(os.Getpid()), "-e", prog}, stdio{strings.NewReader(""), &out, &errs})
	switch {
	case code == exitKernel:
		t.Skip("needs hardware watchpoints: ", errs.String())
	case ctx.Err() != nil && out.Len() == 0:
		t.Skip("needs watchpoints that work: the emulator accepts and never fires them")
	case !strings.Contains(out.String(), "TestKernelWatchpoint"):
		t.Errorf("status %d\n%s%s", code, out.String(), errs.String())
	}
}

// TestKernelRefusedKeys: updates and deletions that the kernel refuses are counted and reported, also where its maps' functions have results of 32 bits
// (before Linux 6.4).
func TestKernelRefusedKeys(t *testing.T) {
	openKernel(t)
	const full = "Map full; can't update element"
	for _, c := range []struct {
		name, prog string
		want       []string
	}{
		{"a value", `@[1] = 1; @[2] = 2; @[3] = 3;`, []string{full, "map_update_elem, retcode: -7", "2 updates refused"}},
		{"a number that is counted up", `@[1]++; @[2]++;`, []string{full, "retcode: -7", "1 updates refused"}},
		{"an aggregation", `@[1] = hist(1); @[2] = hist(2);`, []string{full, "retcode: -7", "1 updates refused"}},
		{"a string", `@["a"] = "b"; @["c"] = "d";`, []string{full, "retcode: -7", "1 updates refused"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(context.Background(), []string{"sonde", "-e", "config = { max_map_keys = 1 } begin { " + c.prog + " exit(); }"}, stdio{strings.NewReader(""), &out, &errs})
			if code != 0 {
				t.Errorf("status %d", code)
			}
			for _, w := range c.want {
				if !strings.Contains(errs.String(), w) {
					t.Errorf("no %q in %s", w, errs.String())
				}
			}
		})
	}
}
