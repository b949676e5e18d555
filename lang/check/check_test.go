package check_test

import (
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
)

func errorsOf(l *diag.List) string {
	var sb strings.Builder
	for _, d := range l.All() {
		if d.Severity == diag.Error {
			sb.WriteString(d.Error() + "\n")
		}
	}
	return sb.String()
}

var accepted = []string{
	`BEGIN { printf("hello\n"); exit(); }`,
	`BEGIN { $x = 1; $x = 1000; $x++; print($x); }`,
	`BEGIN { @a = 1; @a++; @a += 5; @a--; print(@a); clear(@a); zero(@a); }`,
	`BEGIN { @[pid, comm] = count(); @b[1] = sum(5); @b[2] = sum(-1); }`,
	`BEGIN { @x = hist(5); @y = lhist(3, 0, 10, 1); @z = stats(4); @m = min(1); @n = max(2); @o = avg(3); }`,
	`tracepoint:syscalls:sys_enter_openat { printf("%s %s\n", comm, str(args->filename)); }`,
	`tracepoint:syscalls:sys_enter_openat { printf("%s %d\n", str(args.filename), args.flags); }`,
	`tracepoint:syscalls:sys_enter_execve { join(args->argv); join(args.argv, ","); }`,
	`kprobe:vfs_read { @start[tid] = nsecs; } kretprobe:vfs_read /@start[tid]/ { @ns = hist(nsecs - @start[tid]); delete(@start[tid]); }`,
	`kprobe:vfs_open { printf("%s\n", str(((struct path *)arg0)->dentry->d_name.name)); }`,
	`fentry:vfs_read { printf("%s %d\n", str(args.file.f_path.dentry.d_name.name), args.count); }`,
	`fexit:vfs_read /retval > 0/ { @[comm] = sum(retval); }`,
	`kfunc:vfs_read { @ = count(); }`,
	`interval:s:1 { time("%H:%M:%S\n"); print(@x, 5); print(@x, 5, 1000); clear(@x); } profile:hz:99 { @x[kstack, ustack(perf, 3), comm] = count(); }`,
	`BEGIN { $a = (1, "two", (3, 4)); print($a.0); print($a.2.1); print($a[1]); }`,
	`BEGIN { $r = (a=1, b="x"); print($r.a); print($r.b); }`,
	`BEGIN { for ($i : 0..10) { if ($i == 5) { break; } print($i); } while ($#) { continue; } unroll(3) { @x++; } }`,
	`BEGIN { @m[1, "a"] = 2; for ($kv : @m) { print($kv.0.1); print($kv.1); } }`,
	`BEGIN { $t = curtask; printf("%d %s\n", $t->pid, $t->comm); printf("%d\n", curtask.real_parent.tgid); }`,
	`BEGIN { let $a; let $b : uint64 = 5; let $c = "x"; $a = 5; print(($a, $b, $c)); }`,
	`BEGIN { $x = pid == 1 ? "init" : "other one"; print($x); pid == 1 ? print("a") : print("b"); }`,
	`BEGIN { print(sizeof(struct task_struct)); print(sizeof(uint64)); print(offsetof(struct file, f_path.dentry)); print(sizeof(comm)); }`,
	`BEGIN { $a = { let $b = 1; $b + 1 }; print($a); }`,
	`macro add_one(x) { x + 1 } macro both($a, @b) { $a += 1; @b += 1; } BEGIN { $a = 1; @c = 2; both($a, @c); print(add_one(add_one($a))); }`,
	`macro one() { 1 } BEGIN { print(one); print(one()); }`,
	`#define LIMIT 10
BEGIN { if (pid > LIMIT) { print(LIMIT); } }`,
	`BEGIN { if (comm == "bash" || strncmp(comm, "zsh", 3) == 0) { print(1); } }`,
	`BEGIN { @c = count(); if (@c > 5) { print((int64)@c); } printf("%d\n", (uint64)@c); $x = @c; @y = 1; @y = @c; }`,
	`BEGIN { $a = (uint8[8])12345; print($a[0]); print((uint64)$a); $s = (int8[])"hello"; }`,
	`BEGIN { @a[1] = 1; if (has_key(@a, 1)) { delete(@a, 1); } let $v; if (find(@a, 1, $v)) { print($v); } print(len(@a)); }`,
	`config = { max_strlen = 64; stack_mode = perf; BPFTRACE_MAX_MAP_KEYS = 10 } BEGIN { @[str(0)] = 1; }`,
	`let @a = lruhash(10); let @b = percpuhash(5); BEGIN { @a[1] = 2; @b[1] = count(); }`,
	`BEGIN { $x = STATE_ON; printf("%s %d\n", $x, $x); print((enum state)1); }`,
	`BEGIN { print(nsecs(monotonic)); print(pid(init)); print(kstack(3)); print(ustack(raw)); print(nsecs()); print(pid()); }`,
	`BEGIN { $a = 1; $p = &$a; print(*$p); @m = 1; $q = &@m; }`,
	`BEGIN { if comptime (is_str(comm)) { @a = 1; } else { @a = "x"; } print(@a + 1); }`,
	`config = { unstable_typeinfo = enable } BEGIN { $a = 1; if comptime (typeinfo($a).full_type == "int8") { @m = 1; } else { @m = "str"; } print(@m + 1); }`,
	`BEGIN { let $x : typeof(pid) = 5; print($x); let $y : string = "abc"; $y = "abcdef"; }`,
	`tracepoint:syscalls:sys_enter_openat, tracepoint:syscalls:sys_enter_execve { @[str(args.filename)] = count(); }`,
	`tracepoint:syscalls:sys_enter_* { @[probe] = count(); }`,
	`kprobe:f { $s = (struct task_struct *)arg0; if ($s->mm) { @ = $s->mm->brk; } @p = $s; print(@p->pid); }`,
	`uprobe:/bin/bash:readline { printf("%s\n", str(arg0)); @[ustack()] = count(); print(uaddr("x")); print(reg("ip")); }`,
	`fentry:tcp_connect { if (args.sk.skc_daddr == (uint32)pton("127.0.0.1")) { print(ntop(args.sk.skc_daddr)); } print(ntop(args.sk.v6)); print(args.sk.skc_bytes == pton("127.0.0.1")); }`,
	`BEGIN { $x = -1; $x = 255; $y = (uint16)1; $y = -5; print(-$x); print(~0); print(!pid); }`,
	`BEGIN { assert(pid > 0, "pid"); print(ppid); print(pcomm); print(strerror(2)); }`,
	`BEGIN { $d = nsecs; $d = $d - 5; $d -= 100; @t = nsecs; @t = @t - 5; @u = nsecs; @u--; }`,
	`BEGIN { @s["a"] = "x"; @s["abcdef"] = "longer"; print(@s["a"]); if (@s["a"] == "x") { } }`,
	`BEGIN { _ = has_key(@a, 1); @a[1] = 1; }`,
	`BEGIN { print(5m); print(1e6); print(1_000); print(0xff); }`,
	`BEGIN { @ = tseries(1, 1s, 5); @b = tseries(2, 100ms, 10, "max"); }`,
	`BEGIN { printf("%-10s|%5d|%lx|%c|%p|%%\n", "a", -1, 255, 65, 1); printf("%r %rx %rh\n", buf("abcd", 4), buf(curtask, 4), buf((uint8[4])1)); }`,
	`BEGIN { return; } END { return 1; }`,
	`kprobe:f { @[ksym(arg0), usym(arg1)] = count(); printf("%s\n", func); }`,
	`BEGIN { $a = "abc"; if ($a == "abc") { print($a[0]); } }`,
	`BEGIN { print((1 + 2) * 3 - 4 / 2 % 2 << 1 | 3 & 5 ^ 6); }`,
	`BEGIN { @x = (1, "a"); @x = (1000, "abcdef"); $t = @x; if ($t == (1, "a")) { } }`,
	`BEGIN { if (0) { fail("no"); } else { print(1); } let $x; if (1 > 2) { $x = "a"; } print($x); }`,
	`BEGIN { if (pid) { $x = "a"; } else { $x = "abc"; } print($x); if (tid) { $x = "b"; $x = "defgh" } }`,
	`kprobe:f { $x = uptr(arg0); $x = kptr(arg1); while (pid) { $x = uptr(arg0) | $x; $x = kptr(arg1) | $x; } }`,
	`BEGIN { @a++; @a--; @b--; @c += 5; @d[comm]++; }`,
}

func TestAccepts(t *testing.T) {
	for _, s := range accepted {
		_, _, diags := run(s, nil)
		if diags.HasErrors() {
			t.Errorf("%s\n%s", s, errorsOf(diags))
		}
	}
}

var rejected = []struct {
	script string
	code   diag.Code
	text   string
}{
	{`BEGIN { print($x); }`, check.CodeUndefinedVar, "$x"},
	{`BEGIN { if (pid) { let $x = 1; } print($x); }`, check.CodeUndefinedVar, "$x"},
	{`begin { if (pid) { $x = 1; } print($x); }`, check.CodeUndefinedVar, "$x"},
	{`BEGIN { let $x; if (pid) { let $x = 1; } }`, check.CodeShadow, "already declared"},
	{`BEGIN { $x = 1; $x = "a"; }`, check.CodeMismatch, "string[2]"},
	{`BEGIN { let $c : uint8 = -1; }`, check.CodeMismatch, "int8"},
	{`BEGIN { @a = 1; @a = "x"; }`, check.CodeMismatch, "@a"},
	{`BEGIN { @a = 1; @a[1] = 2; }`, check.CodeScalarKeyed, "@a"},
	{`BEGIN { @a[1] = 1; @a = 2; }`, check.CodeScalarKeyed, "@a"},
	{`BEGIN { @a[1] = 1; @a["x"] = 2; }`, check.CodeKeyMismatch, "string[2]"},
	{`BEGIN { @a[1] = 1; @a[1, 2] = 2; }`, check.CodeKeyMismatch, "(int8,int8)"},
	{`BEGIN { print(@x); }`, check.CodeUndefinedMap, "@x"},
	{`BEGIN { @y = @x; clear(@z); }`, check.CodeUndefinedMap, "@z"},
	{`kprobe:f { for ($kv : @x) { print($kv); } }`, check.CodeUndefinedMap, "@x"},
	{`BEGIN { foo(); }`, check.CodeUnknownFunc, "foo"},
	{`BEGIN { if (0) { foo(); } else { print(1); } }`, check.CodeUnknownFunc, "foo"},
	{`BEGIN { $x = foo; }`, check.CodeUnknownName, "foo"},
	{`foo:bar { }`, check.CodeUnknownProbe, "foo"},
	{`kprobe:f { print(args); }`, check.CodeUnavailable, "args"},
	{`kprobe:f { print(retval); }`, check.CodeUnavailable, "retval"},
	{`BEGIN { print(arg0); }`, check.CodeUnavailable, "arg0"},
	{`BEGIN { $x = count(); }`, check.CodeAggregation, "assigned directly to a map"},
	{`BEGIN { count(); }`, check.CodeAggregation, "assigned directly to a map"},
	{`BEGIN { @a = count(); @b = @a; }`, check.CodeAggregation, "another"},
	{`BEGIN { @a = count(); @a = 1; }`, check.CodeMismatch, "@a"},
	{`BEGIN { @a = 1; @a = count(); }`, check.CodeMismatch, "@a"},
	{`BEGIN { @a = count(); @a = sum(5); }`, check.CodeMismatch, "@a"},
	{`BEGIN { @a = hist(1); $x = @a; }`, check.CodeAggregation, "scratch"},
	{`BEGIN { @a = hist(1); @a++; }`, check.CodeAggregation, ""},
	{`BEGIN { @a += count(); }`, check.CodeAggregation, ""},
	{`BEGIN { printf("%d\n"); }`, check.CodeFormat, "not enough"},
	{`BEGIN { printf("%d\n", 1, 2); }`, check.CodeFormat, "too many"},
	{`BEGIN { printf("%d\n", "a"); }`, check.CodeFormat, ": d"},
	{`BEGIN { printf("%d\n", comm); }`, check.CodeFormat, ": d"},
	{`BEGIN { printf(comm); }`, check.CodeNotLiteral, "literal"},
	{`BEGIN { system("ls"); }`, check.CodeUnsafe, "unsafe"},
	{`BEGIN { break; }`, check.CodeJump, "break"},
	{`BEGIN { continue; }`, check.CodeJump, "continue"},
	{`BEGIN { unroll(0) { } }`, check.CodeUnroll, ""},
	{`BEGIN { unroll(101) { } }`, check.CodeUnroll, ""},
	{`BEGIN { unroll(pid) { } }`, check.CodeUnroll, ""},
	{`BEGIN { @a = 1; for ($kv : @a) { } }`, check.CodeNotIterable, ""},
	{`BEGIN { @a[0] = hist(cpu != 1 ? (int64)@b[2] : 1); } interval:s:1 { for ($kv : @a) { @b[1] = avg((int64)(($kv.0, (uint64)1) == 1)); } }`, check.CodeNotIterable, "hist_t"},
	{`BEGIN { for ($kv : @b) { @b[pcomm] = tseries(3, 1s, 10); @b["x"] = tseries((@a[(uint8)0, ($kv.1, cpu)]--), 1s, 10); } }`, check.CodeNotIterable, "tseries_t"},
	{`BEGIN { for ($i : "a"..5) { } }`, check.CodeRange, ""},
	{`BEGIN { $i = 1; for ($i : 0..5) { } }`, check.CodeShadow, ""},
	{`BEGIN { if ("a" == 1) { } }`, check.CodeCompare, ""},
	{`BEGIN { if (comm == 1) { } }`, check.CodeCompare, ""},
	{`BEGIN { if (comm < "a") { } }`, check.CodeOperand, ""},
	{`BEGIN { if (comm) { } }`, check.CodeCondition, ""},
	{`kprobe:f /comm/ { }`, check.CodeCondition, ""},
	{`BEGIN { $x = pid ? 1 : "a"; }`, check.CodeBranches, ""},
	{`BEGIN { print((1, 2).5); }`, check.CodeIndex, ""},
	{`BEGIN { $a = (uint8[8])1; print($a[8]); }`, check.CodeIndex, "out of bounds"},
	{`BEGIN { $a = (uint8[8])1; print($a[-1]); }`, check.CodeIndex, ""},
	{`BEGIN { print(curtask.foo); }`, check.CodeUnknownField, "foo"},
	{`BEGIN { print(curtask.pidd); }`, check.CodeUnknownField, "pidd"},
	{`BEGIN { $x = 5; print($x.foo); }`, check.CodeUnknownField, "foo"},
	{`BEGIN { $x = (struct nope *)0; print($x.a); }`, check.CodeUnknownType, "nope"},
	{`BEGIN { $x = (nope)0; }`, check.CodeUnknownType, "nope"},
	{`BEGIN { $x = (void *)0; print(*$x); }`, check.CodeDeref, ""},
	{`BEGIN { print(*comm); }`, check.CodeDeref, ""},
	{`BEGIN { $x = (uint8[4])12345678901; }`, check.CodeCast, ""},
	{`BEGIN { $x = (uint64)comm; }`, check.CodeCast, ""},
	{`BEGIN { $x = clear(@a); @a = 1; }`, check.CodeVoidValue, ""},
	{`BEGIN { @h = hist(1, 6); }`, check.CodeLiteralRange, ""},
	{`BEGIN { @h = lhist(1, 10, 0, 1); }`, check.CodeLiteralRange, ""},
	{`BEGIN { @h = lhist(1, 0, 10, pid); }`, check.CodeNotLiteral, ""},
	{`BEGIN { @h = sum("a"); }`, check.CodeArgType, ""},
	{`BEGIN { print(1 / 0); }`, check.CodeOverflow, "zero"},
	{`BEGIN { print(0xffffffffffffffff + 1); }`, check.CodeOverflow, ""},
	{`BEGIN { print("a" * "b"); }`, check.CodeStringOp, ""},
	{`macro m($a) { $a += 1; } BEGIN { m(1); }`, check.CodeMacro, "do not match any definition"},
	{`macro m() { @x++ } BEGIN { m(); }`, check.CodeMacro, "@x"},
	{`macro m(x) { m(x) } BEGIN { m(1); }`, check.CodeMacroRecursion, "m > m"},
	{`macro m(x) { x } BEGIN { m(1, 2); }`, check.CodeMacro, ""},
	{`BEGIN { let @x; }`, "", ""},
	{`let @a = foo(5); BEGIN { @a = 1; }`, check.CodeMapKind, "foo"},
	{`let @a = hash(5); BEGIN { @a[1] = count(); }`, check.CodeMapKind, "Type from declaration"},
	{`config = { foo = 1 } BEGIN { }`, check.CodeConfigKey, "foo"},
	{`config = { max_map_keys = "a" } BEGIN { }`, check.CodeConfigValue, ""},
	{`BEGIN { @a[1] = 1; delete(@a); }`, check.CodeMapExpected, ""},
	{`BEGIN { @a = 1; if (has_key(@a, 1)) { } }`, check.CodeMapExpected, ""},
	{`BEGIN { delete(5); }`, check.CodeMapExpected, ""},
	{`BEGIN { let $x : uint8 = 300; }`, check.CodeMismatch, ""},
	{`BEGIN { let $x : count_t; }`, check.CodeDeclType, ""},
	{`BEGIN { $x = str(1, -1); }`, check.CodeLiteralRange, ""},
	{`BEGIN { $x = ntop(curtask); }`, check.CodeArgType, ""},
	{`BEGIN { $x = strncmp("a", 5, 1); }`, check.CodeArgType, ""},
	{`BEGIN { fail("no %d", 5); }`, check.CodeFail, "no 5"},
	{`BEGIN { static_assert(1 == 2, "differs"); }`, check.CodeStaticAssert, "differs"},
	{`BEGIN { @m[1] = 1; for ($kv : @m) { $kv = (1, "x"); } }`, check.CodeMismatch, "$kv"},
	{`BEGIN { return "a"; }`, check.CodeReturnType, ""},
	{`BEGIN { if comptime (pid == 1) { } }`, check.CodeComptime, ""},
	{`kprobe:f { $p = (struct file *)arg0; $q = $p * 2; }`, check.CodeOperand, ""},
	{`BEGIN { reg("ip"); }`, check.CodeUnavailable, ""},
	{`kprobe:f { reg("foo"); }`, check.CodeSymbol, ""},
	{`BEGIN { kstack(2000); }`, check.CodeLiteralRange, ""},
	{`BEGIN { kstack(foo); }`, check.CodeArgType, "Invalid value for stack_mode"},
	{`BEGIN { nsecs(foo); }`, check.CodeArgType, ""},
	{`kprobe:f { @[args] = 1; }`, check.CodeUnavailable, ""},
}

func TestRejects(t *testing.T) {
	for _, tt := range rejected {
		_, _, diags := run(tt.script, nil)
		found := false
		n := 0
		for _, d := range diags.All() {
			if d.Severity != diag.Error {
				continue
			}
			n++
			if (tt.code == "" || d.Code == tt.code) && strings.Contains(d.Message, tt.text) {
				found = true
			}
		}
		if !found {
			t.Errorf("%s\nwant %s %q, got:\n%s", tt.script, tt.code, tt.text, errorsOf(diags))
		}
		if n > 1 {
			t.Errorf("%s\nwant one error, got:\n%s", tt.script, errorsOf(diags))
		}
	}
}

// TestDefineWithParameters: what nothing expands is named in the hint, with what to write instead.
func TestDefineWithParameters(t *testing.T) {
	_, _, diags := run("#define TWICE(x) ((x) * 2)\nBEGIN { print(TWICE(4)); }", nil)
	for _, d := range diags.All() {
		if d.Code == check.CodeUnknownFunc && len(d.Hints) == 1 && strings.Contains(d.Hints[0], "macro TWICE(x)") {
			return
		}
	}
	t.Errorf("no hint in %v", diags.All())
}
