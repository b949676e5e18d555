package codegen_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/ir/interp"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/event"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/kernel/needs"
	"github.com/sonde-sh/sonde/runtime/value"
	"github.com/sonde-sh/sonde/runtime/value/valuetest"
	"github.com/sonde-sh/sonde/stdlib"
)

// The same script runs three times: in the interpreter of the IR, in the kernel, and in the kernel with the code for old kernels.
// body is the action of a begin probe.
type semantics struct {
	name, body, want string
	top              string // what stands before the probe
	kernelOnly       bool   // helpers that the interpreter does not have
	newOnly          bool   // needs what old kernels lack
}

var semanticsTable = []semantics{
	{name: "literals", body: `printf("%d %d %d %d\n", 1, -1, 0x10, 1e3);`, want: "1 -1 16 1000\n"},
	{name: "durations", body: `printf("%d %d\n", 5ms, 1m);`, want: "5000000 60000000000\n"},
	{name: "addition wraps at the width of the cast", body: `$a = (uint8)200; $b = (uint8)($a + 100); printf("%d\n", $b);`, want: "44\n"},
	{name: "signed cast", body: `printf("%d %d %d\n", (int8)200, (uint8)-1, (int32)0xffffffff);`, want: "-56 255 -1\n"},
	{name: "division", body: `$a = (int64)-8; $b = (int64)2; @z = (int64)3; printf("%d %d %d\n", $a/$b, $a%@z, 7/@z);`, want: "-4 -2 2\n"},
	{name: "unsigned division", body: `@a = (uint64)100; @b = (uint64)7; printf("%d %d\n", @a/@b, @a%@b);`, want: "14 2\n"},
	{name: "shifts", body: `@a = (int64)-16; @b = (uint64)256; printf("%d %d %d\n", @a >> 2, @b >> 4, @b << 2);`, want: "-4 16 1024\n"},
	{name: "bits", body: `@a = 12; printf("%d %d %d %d\n", @a & 10, @a | 3, @a ^ 5, ~@a);`, want: "8 15 9 -13\n"},
	{name: "comparisons by sign", body: `@a = (int64)-1; @b = (uint64)-1; printf("%d %d %d %d\n", @a < 1, @b < 1, @a <= -1, @b > 5);`, want: "1 0 1 1\n"},
	{name: "logic", body: `@a = 5; @b = 0; printf("%d %d %d %d\n", @a && @b, @a || @b, !@a, !@b);`, want: "0 1 0 1\n"},
	{name: "logic is evaluated only as far as needed", body: `@n = 0; if (@n && @n++) { } if (!@n || @n++) { } printf("%d\n", @n);`, want: "0\n"},
	{name: "ternary", body: `@a = 5; $x = @a > 3 ? 10 : 20; printf("%d %s\n", $x, @a == 5 ? "five" : "other");`, want: "10 five\n"},
	{name: "if else chain", body: `@a = 2; if (@a == 1) { printf("one\n"); } else if (@a == 2) { printf("two\n"); } else { printf("more\n"); }`, want: "two\n"},
	{name: "block expression", body: `$x = { let $y = 5; $y * 2 }; printf("%d\n", $x);`, want: "10\n"},
	{name: "if expression", body: `@a = 1; $x = if (@a) { 7 } else { 8 }; printf("%d\n", $x);`, want: "7\n"},
	{name: "variables in branches", body: `@c = 1; $x = 1; if (@c) { $x = 2; } else { $x = 3; } $x += 10; printf("%d\n", $x);`, want: "12\n"},
	{name: "increments of a variable", body: `$x = 5; $a = $x++; $b = ++$x; $c = $x--; $d = --$x; printf("%d %d %d %d %d\n", $a, $b, $c, $d, $x);`, want: "5 7 7 5 5\n"},
	{name: "increments of a map", body: `@x = 5; $a = @x++; $b = ++@x; $c = @x--; $d = --@x; printf("%d %d %d %d %d\n", $a, $b, $c, $d, @x);`, want: "5 7 7 5 5\n"},
	{name: "increments of a key", body: `$a = @x[1]++; $b = ++@x[1]; @x[1] += 10; @x[1] *= 2; @x[2] -= 3; printf("%d %d %d %d\n", $a, $b, @x[1], @x[2]);`, want: "0 2 24 -3\n"},
	{name: "missing keys are zero", body: `@x[1] = 5; @s[1] = "abc"; printf("%d [%s]\n", @x[2], @s[2]);`, want: "0 []\n"},
	{name: "keys of several parts", body: `@x[1, "a"] = 7; @x[1, "b"] = 8; $k = "b"; printf("%d %d\n", @x[1, "a"], @x[1, $k]);`, want: "7 8\n"},
	{name: "tuple as key", body: `@x[(1, 2)] = 7; printf("%d\n", @x[1, 2]);`, want: "7\n"},
	{name: "delete and has_key", body: `@x[1] = 5; printf("%d ", has_key(@x, 1)); $r = delete(@x, 1); $s = delete(@x, 1); printf("%d %d %d\n", has_key(@x, 1), $r, $s);`, want: "1 0 1 0\n"},
	{name: "a thread's own key", body: `@s[tid] = 5; printf("%d ", @s[tid]); $r = delete(@s[tid]); $t = delete(@s, tid); printf("%d %d %d\n", @s[tid], $r, $t);`, want: "5 0 1 0\n"},
	{name: "a thread's own key with the value zero", body: `@s[tid] = 0; $r = delete(@s, tid); $t = delete(@s, tid); printf("%d %d\n", $r, $t);`, want: "1 0\n"},
	{
		name: "a thread's own key in branches",
		body: `@a = 2; @s[tid] = @a; if (@s[tid] == 2 && @a) { @s[tid] = @s[tid] - 5; if (@a == 7) { delete(@s, tid); } } $x = @s[tid] < 0 ? { delete(@s, tid); @s[tid] } : 9; @s[tid] = (int8)300; printf("%d %d\n", $x, @s[tid]);`,
		want: "0 44\n",
	},
	{name: "find", body: `@x[2] = 9; let $v = 1; if (find(@x, 2, $v)) { printf("%d ", $v); } if (!find(@x, 3, $v)) { printf("%d\n", $v); }`, want: "9 9\n"},
	{name: "large values", body: `@x[1] = (1, "hello", 2); printf("%d %s %d\n", @x[1].0, @x[1].1, @x[1].2); $t = @x[1]; printf("%s\n", $t.1);`, want: "1 hello 2\nhello\n"},
	{name: "scalar string", body: `@s = "abc"; @t = @s; printf("%s %s\n", @s, @t);`, want: "abc abc\n"},
	{
		name: "a string that is read again after other memory was used", body: `$s = strerror(1); unroll (3) { printf("%s\n", $s); @k[1] = min((int64)(bswap(strcontains("dfa13g", "w98py") + 1) - 1)); }`,
		want: "Operation not permitted\nOperation not permitted\nOperation not permitted\n",
	},
	{name: "a computed length that is less than what is compared", body: `@n = 2; $n = @n; printf("%d %d %d\n", str("abc", $n) == "abc", str("abc", $n + 3) == "abc", str("abcdefgh", $n + 3) == "abcd");`, want: "0 1 1\n"},
	{name: "string comparison", body: `$a = "hello"; @b = "hello"; printf("%d %d %d %d\n", $a == "hello", $a == "help", $a != "hello", $a == @b);`, want: "1 0 0 1\n"},
	{name: "long string comparison", body: `$a = "0123456789abcdef0123456789abcdef"; $b = "0123456789abcdef0123456789abcdeX"; printf("%d %d\n", $a == $b, $a == "0123456789abcdef0123456789abcdef");`, want: "0 1\n"},
	{name: "assignment of a longer string", body: `$a = "x"; $a = "longer text"; printf("%s\n", $a);`, want: "longer text\n"},
	{name: "assignment of a shorter string", body: `$a = "longer text"; $a = "x"; @k[$a] = 1; printf("%s %d\n", $a, @k["x"]);`, want: "x 1\n"},
	{name: "tuples", body: `$t = (1, ("a", 2)); printf("%d %s %d\n", $t.0, $t.1.0, $t.1.1); print($t);`, want: "1 a 2\n(1, (a, 2))\n"},
	{name: "tuple built from itself", body: `$t = (1, 2); $t = ($t.1, $t.0); printf("%d %d\n", $t.0, $t.1);`, want: "2 1\n"},
	{name: "tuple comparison", body: `$t = (1, 2); printf("%d %d\n", $t == (1, 2), $t == (1, 3));`, want: "1 0\n"},
	{name: "record", body: `$r = (a=1, b="x"); printf("%d %s\n", $r.a, $r.b);`, want: "1 x\n"},
	{name: "array casts", body: `$a = (int8[8])12345; printf("%d %d %d\n", $a[0], $a[1], (uint64)$a);`, want: "57 48 12345\n"},
	{name: "address of a variable", body: `$x = 5; $p = &$x; printf("%d\n", *$p);`, want: "5\n"},
	{name: "let without a value", body: `let $x; $x = 3; printf("%d\n", $x);`, want: "3\n"},
	{name: "scopes", body: `$x = 1; if ($x) { let $y = 2; $x = $y; } { let $y = 9; $x += $y; } printf("%d\n", $x);`, want: "11\n"},
	{name: "unroll", body: `unroll (3) { @n++; } $i = 0; unroll (5) { if ($i < 3) { $i++; } } printf("%d %d\n", @n, $i);`, want: "3 3\n"},
	{
		name: "what leaves an unrolled block", want: "10 10 10 / 11 12 12 12 / 13 10 10 10 / 11 11 11 / 12 20 20 20 / 21 30 30 30 / 41 41 41 42 42 42 / 51 52",
		body: `for ($i : 10..14) { unroll (3) { printf("%d ", $i); if ($i == 11) { continue; } if ($i == 13) { break; } } printf("/ "); } ` +
			`$w = 9; while ($w < 13) { $w++; unroll (3) { printf("%d ", $w); if ($w == 12) { break; } } printf("/ "); } ` +
			`for ($i : 0..3) { @i = 20 + $i; unroll (3) { printf("%d ", @i); if (@i == 21) { break; } } printf("/ "); } unroll (3) { @n++; printf("%d ", 30); } printf("/ "); ` +
			`unroll (2) { @m++; for ($j : 0..9) { if ($j == 3) { break; } printf("%d ", 40 + @m); } } printf("/ "); unroll (3) { @o++; printf("%d", 50 + @o); if (@o == 2) { return; } printf(" "); } printf("no\n");`,
	},
	{name: "while", body: `$i = 0; while ($i < 5) { $i++; if ($i == 2) { continue; } printf("%d ", $i); } printf("\n");`, want: "1 3 4 5 \n"},
	{name: "while with break", body: `$i = 0; while (1) { $i++; if ($i == 7) { break; } } printf("%d\n", $i);`, want: "7\n"},
	{name: "nested while", body: `$i = 0; $n = 0; while ($i < 4) { $j = 0; while ($j < 3) { $n++; $j++; } $i++; } printf("%d %d\n", $i, $n);`, want: "4 12\n"},
	{name: "pointers follow what they point to as it grows", body: `$w = 1; $p = &$w; $w = 0x123456789; $t = "a"; $q = &$t; $t = "longer"; $x = (1, 2); $r = &$x; $x = (1, 0x123456789); $s = ($p, 1); printf("%lx %s %lx %d\n", *$p, *$q, (*$r).1, sizeof(*$s.0));`, want: "123456789 longer 123456789 8\n"},
	{name: "loop that counts with a variable whose address is taken", body: `$w = 0; $p = &$w; while (*$p < 1000) { $w++; @m[3] /= (uint32)$w; @s[comm] = count(); @h = hist($w); if (nsecs % 3) { @a++; } if (nsecs % 5) { @b++; } if (nsecs % 7) { @c++; } } printf("%d\n", $w);`, want: "1000\n", newOnly: true, kernelOnly: true},
	{name: "loop that counts with a tuple", body: `$t = (0, 1, "abc"); while ($t.1 < 1000) { $t = ($t.0 + 5, $t.1 + 1, "abc"); if (nsecs % 3) { @a++; } if (nsecs % 5) { @b++; } if (nsecs % 7) { @c++; } if (nsecs % 11) { @d++; } @m[3] /= (uint32)$t.1; @s[comm] = count(); @h = hist($t.0); } printf("%d %d\n", $t.0, $t.1);`, want: "4995 1000\n", newOnly: true, kernelOnly: true},
	{name: "return inside a loop", body: `$i = 0; while ($i < 10) { $i++; if ($i == 3) { printf("%d\n", $i); return; } } printf("no\n");`, want: "3\n"},
	{name: "range", body: `for ($i : 0..4) { printf("%d ", $i); } printf("\n");`, want: "0 1 2 3 \n"},
	{name: "range of many rounds", body: `@s = 0; for ($i : 10..110) { if ($i % 2) { continue; } @s += $i; } printf("%d\n", @s);`, want: "2950\n"},
	{name: "range with computed bounds", body: `@n = 5; $s = 0; for ($i : 0..@n) { $s += $i; } for ($i : @n..2) { $s = 100; } printf("%d\n", $s);`, want: "10\n"},
	{name: "range keeps its bounds", body: `$a = 5; $n = 0; for ($i : 0..$a) { $a--; $n++; } printf("%d\n", $n);`, want: "5\n"},
	{name: "range that is known to be empty in the end", body: `$w = 0; while ($w < 4) { $w++; @m = $w; } for ($r : 4..(int64)((@m == $w) & 7)) { $w = 9; } printf("%d\n", $w);`, want: "4\n"},
	{name: "nested ranges", body: `$n = 0; for ($i : 0..50) { for ($j : 0..40) { if ($j == 30) { break; } $n++; } } printf("%d\n", $n);`, want: "1500\n"},
	{name: "large variable in a loop", body: `$s = "start"; $t = (0, "x"); for ($i : 0..100) { if ($i == 50) { $s = "fifty"; $t = ($i, "y"); } } printf("%s %d %s\n", $s, $t.0, $t.1);`, want: "fifty 50 y\n"},
	{name: "loop over a map", body: `@x[1] = 10; @x[2] = 20; $s = 0; for ($kv : @x) { $s += $kv.0 + $kv.1; } printf("%d\n", $s);`, want: "33\n", newOnly: true},
	{name: "loop over a map of strings", body: `@x["k"] = "v"; for ($kv : @x) { printf("%s=%s\n", $kv.0, $kv.1); print($kv); }`, want: "k=v\n(k, v)\n", newOnly: true},
	{name: "loop over a map with keys of several parts", body: `@x[1, "a"] = 5; for ($kv : @x) { printf("%d %s %d\n", $kv.0.0, $kv.0.1, $kv.1); }`, want: "1 a 5\n", newOnly: true},
	{name: "nested loops over maps", body: `@a[1] = 2; @b[3] = 4; for ($x : @a) { for ($y : @b) { printf("%d %d %d %d\n", $x.0, $x.1, $y.0, $y.1); } }`, want: "1 2 3 4\n", newOnly: true},
	{name: "len", body: `@x[1] = 1; @x[2] = 2; printf("%d\n", len(@x));`, want: "2\n", newOnly: true},
	{name: "count and sum", body: `@c = count(); @c = count(); @s = sum(5); @s = sum(-2); printf("%d %d\n", (int64)@c, (int64)@s);`, want: "2 3\n"},
	{name: "min max avg", body: `@a = min(5); @a = min(-3); @a = min(9); @b = max(-5); @b = max(-9); @c = avg(4); @c = avg(8); printf("%d %d %d\n", (int64)@a, (int64)@b, (int64)@c);`, want: "-3 -5 6\n"},
	{name: "aggregations under keys", body: `@c[1] = count(); @c[1] = count(); @s["x"] = sum(7); @m[1] = max(4); @a[1] = avg(9); printf("%d %d %d %d %d\n", (int64)@c[1], (int64)@s["x"], (int64)@m[1], (int64)@a[1], (int64)@c[2]);`, want: "2 7 4 9 0\n", kernelOnly: true},
	{name: "aggregation in a condition", body: `@c = count(); if (@c == 1) { printf("one\n"); } if ((int64)@c > 5) { printf("many\n"); }`, want: "one\n"},
	{name: "strncmp", body: `printf("%d %d\n", strncmp("abcd", "abxx", 2), strncmp("abcd", "abxx", 3) != 0); $a = "hello"; printf("%d %d\n", strncmp($a, "hello", 9), strncmp($a, "help", 4) == 0);`, want: "0 1\n0 0\n"},
	{name: "strcontains", body: `$h = "some long text"; printf("%d %d %d\n", strcontains($h, "long"), strcontains($h, "short"), strcontains("ab", "abc"));`, want: "1 0 0\n"},
	{name: "strcontains with a computed needle", body: `$h = "aaab"; $n = "aab"; printf("%d\n", strcontains($h, $n));`, want: "1\n"},
	{name: "strstr", body: `$h = "aababc"; printf("%d %d %d\n", strstr($h, "abc"), strstr($h, "x"), strstr($h, "aa"));`, want: "3 -1 0\n"},
	{name: "strlen", body: `$h = "hello"; printf("%d %d\n", strlen($h), strlen(""));`, want: "5 0\n"},
	{name: "bswap", body: `@a = (uint16)0x1234; @b = (uint32)0x12345678; printf("%x %x\n", bswap(@a), bswap(@b));`, want: "3412 78563412\n"},
	{name: "str of a literal", body: `printf("%s %s\n", str("hello"), str("hello", 3));`, want: "hello hel\n"},
	{name: "lengths without sense", body: `@s = "abcd"; printf("%s %s %s %r\n", str("abc", ~(19 + 1)), str(@s, ~(19 + 1)), str(@s, 9223372036854775807), buf(@s, ~5));`, want: `abc abcd abcd abcd\x00` + "\n"},
	{name: "buf", body: `$a = (int8[4])0x64636261; printf("%r %rx\n", buf($a, 4), buf($a, 2));`, want: `abcd \x61\x62` + "\n"},
	{
		name: "buf of more than there is", body: `$a = (uint8[4])0x04030201; $s = "abc"; @n = 20; @m = $a; printf("%rx %rx %rx %rx %rx\n", buf($a, 8), buf($a, @n), buf($s, 9), buf("xyz", 7), buf(@m, 9));`,
		want: `\x01\x02\x03\x04 \x01\x02\x03\x04 \x61\x62\x63\x00 \x78\x79\x7a\x00 \x01\x02\x03\x04` + "\n",
	},
	{name: "ntop", body: `printf("%s %s\n", ntop(0x0100007f), ntop(pton("::1")));`, want: "127.0.0.1 ::1\n"},
	{name: "macaddr", body: `$a = (int8[8])0x665544332211; printf("%s\n", macaddr($a));`, want: "11:22:33:44:55:66\n"},
	{name: "memcmp", body: `$a = "abc"; $b = "abd"; printf("%d %d\n", memcmp($a, $b, 2), memcmp($a, $b, 3) < 0);`, want: "0 1\n"},
	{name: "division by zero gives one", body: `@z = 0; @n = 5; printf("%d %d\n", @n / @z, @n % @z);`, want: "WARNING\nWARNING\n1 1\n"},
	{name: "printf with many strings", body: `$a = "0123456789012345678901234567890123456789"; printf("%s|%s|%d|%s\n", $a, "x", 5, $a);`, want: "0123456789012345678901234567890123456789|x|5|0123456789012345678901234567890123456789\n"},
	{name: "an event in the argument of another", body: `printf("%d\n", { printf("inner %s\n", "012345678901234567890123456789012345"); 5 });`, want: "inner 012345678901234567890123456789012345\n5\n"},
	{name: "exit leaves the action", body: `printf("a\n"); exit(); printf("b\n");`, want: "a\n"},
	{name: "macro", top: `macro twice(x) { x * 2 }`, body: `printf("%d\n", twice(4 + 1));`, want: "10\n"},
	{name: "probe", body: `printf("%s\n", probe);`, want: "begin\n"},
	{name: "comm and ids", body: `printf("%d %d %d\n", comm == comm, pid == pid, tid > 0);`, want: "1 1 1\n", kernelOnly: true},
	{name: "current task", body: `printf("%d %d\n", curtask.tgid == pid, curtask.comm == comm);`, want: "1 1\n", kernelOnly: true},
	{name: "time", body: `$a = nsecs; $b = nsecs; printf("%d %d\n", $b >= $a, elapsed < 3600000000000);`, want: "1 1\n", kernelOnly: true},
	{name: "stack length", body: `printf("%d %d\n", len(kstack) > 1, len(kstack(2)));`, want: "1 2\n", kernelOnly: true},
	{name: "string as a pointer", body: `$s = "hello"; $p = (int8 *)$s; $i = (uint64)1; printf("%d %d %s\n", $p[0], $p[$i], str($p + 3)); $s = "HELLO"; printf("%s\n", str($p));`, want: "104 101 lo\nHELLO\n", kernelOnly: true},
	{name: "address of a string without a variable", body: `$p = (uint32 *)"abcdefgh"; @[1] = "xyz"; $q = (int8 *)@[1]; printf("%d %s %d\n", *$p, str($q), strcap((int8 *)comm) > 0); clear(@);`, want: "1684234849 xyz 1\n", kernelOnly: true},
	{name: "elements of a pointer to a variable", body: `$x = 1684234849; $p = (int8 *)&$x; for ($i : 0..4) { printf("%d ", $p[$i]); } printf("\n");`, want: "97 98 99 100 \n", kernelOnly: true},
	{name: "pointers into the kernel", body: `$t = (struct task_struct *)curtask; $p = $t.real_parent; printf("%d\n", $p.tgid == ppid);`, want: "1\n", kernelOnly: true},
}

func (s *semantics) script() string { return s.top + "\nbegin { " + s.body + " }" }

func TestSemanticsInTheInterpreter(t *testing.T) {
	for _, c := range semanticsTable {
		if c.kernelOnly {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			info := fixtureInfo(t, c.script())
			for _, opts := range []codegen.Options{{NoOpt: true}, {}, {NoOpt: true, OutlineFrom: 1}, {OutlineFrom: 1}} {
				var m *ir.Module
				opts.Dump = func(_ string, d *ir.Module) { m = d }
				obj := compile(t, info, fixtureTarget(target.TaskBTF), opts)
				if m == nil {
					t.Fatal("no IR")
				}
				if got := interpret(t, obj, m); got != c.want {
					t.Errorf("optimised %v, shared code %v: got %q, want %q\n%s", !opts.NoOpt, opts.OutlineFrom == 1, got, c.want, m)
				}
			}
		})
	}
}

// interpret runs the first function of a module and renders what it sent.
func interpret(t *testing.T, obj *object.Object, m *ir.Module) string {
	t.Helper()
	return interpretWith(t, obj, m, make([]byte, 64))
}

// interpretWith is interpret with a context.
func interpretWith(t *testing.T, obj *object.Object, m *ir.Module, ctx []byte) string {
	t.Helper()
	jiffies := uint64(0)
	mc := &interp.Machine{Maps: map[string]*interp.Map{}, Helpers: map[asm.BuiltinFunc]interp.Helper{
		asm.FnJiffies64:         func(*interp.Machine, [5]uint64) (uint64, error) { jiffies++; return jiffies, nil },
		asm.FnGetCurrentPidTgid: func(*interp.Machine, [5]uint64) (uint64, error) { return 7<<32 | 8, nil },
		asm.FnProbeReadStr: func(m *interp.Machine, a [5]uint64) (uint64, error) {
			return 0, errors.New("a string in no address space")
		},
	}}
	for _, om := range obj.Maps {
		mc.Maps[om.Name] = &interp.Map{Type: om.Type, KeySize: om.KeySize, ValueSize: om.ValueSize, MaxEntries: om.MaxEntries, Contents: om.Contents}
	}
	if _, err := mc.Run(m.Funcs[0], ctx); err != nil {
		t.Fatalf("%v\n%s", err, m)
	}
	values := &value.Decoder{R: valuetest.Resolver{Object: obj}, Trailer: ".."}
	var out []byte
	for _, rec := range mc.Records {
		id, _ := event.ID(rec)
		d, err := event.NewDecoder(obj.Events[id], values)
		if err != nil {
			t.Fatal(err)
		}
		switch d.Event.Kind {
		case object.EvPrintf:
			out, err = d.AppendPrintf(out, rec)
		case object.EvPrintValue:
			var vals []value.V
			if vals, err = d.Fields(rec); err == nil {
				out = append(value.AppendText(out, vals[0]), '\n')
			}
		case object.EvWarnf:
			out = append(out, "WARNING\n"...)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return string(out)
}

// host is the running machine.
type host struct {
	kernel  *kernel.Kernel
	machine *stdlib.Machine
	reg     *stdlib.Registry
}

func openHost(t testing.TB) *host {
	t.Helper()
	needs.BPF(t)
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := stdlib.NewMachine(k)
	t.Cleanup(func() { m.Close(); k.Close() })
	return &host{k, m, stdlib.New(stdlib.ProbeKinds(m))}
}

func (h *host) info(t testing.TB, text string) *check.Info {
	t.Helper()
	env := &check.Env{Types: h.machine.Types, Arch: h.kernel.Arch(), CPUs: h.machine.Target().CPUs, Unsafe: true, NamedUsed: map[string]bool{}, Machine: h.machine}
	return checked(t, text, h.reg, env)
}

// run runs an object until it ends and gives what it printed, and behind it stoppedLoop when a loop ran into its limit.
func (h *host) run(t testing.TB, obj *object.Object) string {
	t.Helper()
	return h.runOr(t, obj, nil)
}

// runOr is run that tries again, as the command does, when obj is too long for the verifier: again compiles with that room for loops.
func (h *host) runOr(t testing.TB, obj *object.Object, again func(budget int) *object.Object) string {
	t.Helper()
	var recompile func(budget int) (*object.Object, error)
	if again != nil {
		recompile = func(budget int) (*object.Object, error) {
			o := again(budget)
			o.Config.PrintMapsOnExit = false
			return o, nil
		}
	}
	var buf bytes.Buffer
	out := runtime.NewOutput(&buf, false, 0)
	obj.Config.PrintMapsOnExit = false
	s, err := runtime.New(runtime.Options{
		Object: obj, Kernel: h.kernel, Targets: h.machine, Output: out, Unsafe: true, Recompile: recompile,
		Report: func(d *diag.Diagnostic) { out.Message("", d.Severity.String()+"\n") },
	})
	if err != nil {
		var le *runtime.LoadError
		if errors.As(err, &le) {
			t.Fatalf("%v\n%s", err, tail(le.Log, 40))
		}
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // only a hang reaches it
	defer cancel()
	if _, err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	out.Flush()
	qs, err := s.Quality()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range qs {
		if q.Loop > 0 {
			return buf.String() + stoppedLoop
		}
	}
	return strings.TrimSuffix(buf.String(), "\n\n") // what the end of a run prints
}

func tail(s string, lines int) string {
	l := strings.Split(s, "\n")
	return strings.Join(l[max(0, len(l)-lines):], "\n")
}

func TestKernelSemantics(t *testing.T) {
	h := openHost(t)
	for _, c := range semanticsTable {
		t.Run(c.name, func(t *testing.T) {
			if c.newOnly && !h.machine.Target().Features.Has(target.ForEachMapElem) {
				t.Skip("needs bpf_for_each_map_elem")
			}
			info := h.info(t, c.script())
			again := func(budget int) *object.Object {
				return compile(t, info, h.machine.Target(), codegen.Options{LoopBudget: budget})
			}
			if got := h.runOr(t, again(0), again); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestKernelSemanticsAgain runs the code for old kernels, and what is compiled when a program was too long for the verifier.
func TestKernelSemanticsAgain(t *testing.T) {
	h := openHost(t)
	here := h.machine.Target().Features
	for _, variant := range []struct {
		name     string
		features target.Features
		budget   int
		outline  int
	}{
		{"old", target.AllBut(old...), 0, 0},
		{"old, loops as global functions", target.AllBut(old...), 40_000, 0},
		{"old, few rounds of global functions", target.AllBut(old...), 625, 0},
		{"old, shared code", target.AllBut(old...), 0, 1},
		{"loops as callbacks", here, 40_000, 0},
		{"shared code", here, 0, 1},
	} {
		for _, c := range semanticsTable {
			if c.newOnly && (!here.Has(target.BpfLoop) || strings.HasPrefix(variant.name, "old")) {
				continue
			}
			t.Run(variant.name+"/"+c.name, func(t *testing.T) {
				tg := *h.machine.Target()
				tg.Features = variant.features
				info := h.info(t, c.script())
				again := func(budget int) *object.Object {
					return compile(t, info, &tg, codegen.Options{LoopBudget: budget, OutlineFrom: variant.outline})
				}
				obj := again(variant.budget)
				if variant.budget > 0 {
					again = nil
				}
				got := h.runOr(t, obj, again)
				if variant.budget > 0 && !variant.features.Has(target.BpfLoop) && strings.Contains(got, stoppedLoop) {
					return // less room for loops, and it said so
				}
				if got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		}
	}
}

// globalLoops are actions whose loops, as global functions, have room for all their rounds.
var globalLoops = []semantics{
	{name: "many rounds", body: `$n = 0; while ($n < 4000) { $n++; } printf("%d\n", $n);`, want: "4000\n"},
	{name: "a range that is computed", body: `@n = 3000; $s = 0; for ($i : 10..@n) { if ($i % 2) { continue; } if ($i == 2000) { break; } $s += $i; } printf("%d\n", $s);`, want: "998980\n"},
	{name: "nested loops", body: `$n = 0; $i = 0; while ($i < 300) { for ($j : 0..200) { if ($j == $i) { break; } $n++; } $i++; } printf("%d %d\n", $i, $n);`, want: "300 39900\n"},
	{name: "four loops in each other", body: `$n = 0; for ($i : 0..5) { for ($j : 0..6) { for ($k : 0..7) { for ($l : 0..8) { $n++; } } } } printf("%d\n", $n);`, want: "1680\n"},
	{name: "seven loops in each other", body: `@n = 2; $n = 0; for ($a : 0..@n) { for ($b : 0..@n) { for ($c : 0..@n) { for ($d : 0..@n) { for ($e : 0..@n) { for ($f : 0..@n) { for ($g : 0..@n) { $n++; } } } } } } } printf("%d\n", $n);`, want: "128\n"},
	{name: "variables of all kinds", body: `$s = "start"; $t = (0, "x"); $x = (int64)5; $p = &$x; for ($i : 0..100) { if ($i == 50) { $s = "fifty"; $t = ($i, "y"); } $x += (int64)(*$p == $x); } printf("%s %d %s %d\n", $s, $t.0, $t.1, $x);`, want: "fifty 50 y 105\n"},
	{name: "return out of a nested loop", body: `for ($i : 0..100) { for ($j : 0..100) { if ($i * $j == 42) { printf("%d %d\n", $i, $j); return; } } } printf("no\n");`, want: "1 42\n"},
	{name: "events in a loop", body: `for ($i : 0..40) { if ($i > 36) { printf("%d %s|", $i, "0123456789012345678901234567890123456789"); } } printf("\n");`, want: "37 0123456789012345678901234567890123456789|38 0123456789012345678901234567890123456789|39 0123456789012345678901234567890123456789|\n"},
	{name: "keys in a loop", body: `for ($i : 0..100) { @k[$i % 7, "x"] += $i; } printf("%d\n", @k[3, "x"]);`, want: "679\n"},
	{name: "searches in a loop", body: `@h = "some long text"; @n = "text"; $c = 0; for ($i : 0..50) { $c += strstr(@h, @n) + strcontains(@h, "long") + strstr(@h, "none"); } printf("%d\n", $c);`, want: "500\n"},
	{name: "a search while an event is built", body: `@h = "aababc"; @n = "abc"; printf("%d %d %s\n", strstr(@h, @n), strcontains(@h, "bab"), @h);`, want: "3 1 aababc\n"},
}

// TestGlobalLoops runs loops as global functions, in the interpreter and in the kernel: none may be stopped before its end.
func TestGlobalLoops(t *testing.T) {
	for _, c := range globalLoops {
		t.Run(c.name, func(t *testing.T) {
			for _, noOpt := range []bool{true, false} {
				var m *ir.Module
				obj := compile(t, fixtureInfo(t, c.script()), fixtureTarget(old...), codegen.Options{NoOpt: noOpt, LoopBudget: 40_000, Dump: func(_ string, d *ir.Module) { m = d }})
				if !slices.ContainsFunc(m.Funcs, func(f *ir.Func) bool { return f.Kind == ir.Global }) {
					t.Fatal("no global function")
				}
				if got := interpret(t, obj, m); got != c.want {
					t.Errorf("optimised %v: got %q, want %q\n%s", !noOpt, got, c.want, m)
				}
			}
		})
	}
}

// TestGlobalContext reads the context in global functions that are nested.
func TestGlobalContext(t *testing.T) {
	const script = `tracepoint:a:b { $s = 0; for ($i : 0..3) { $s += 100; $n = args.nr; while ($n > 0) { $n--; $s += args.nr; } } printf("%d\n", $s); }`
	for _, noOpt := range []bool{true, false} {
		var m *ir.Module
		obj := compile(t, fixtureInfo(t, script), fixtureTarget(old...), codegen.Options{NoOpt: noOpt, LoopBudget: 40_000, Dump: func(_ string, d *ir.Module) { m = d }})
		ctx := make([]byte, 64)
		ctx[8] = 7
		if got, want := interpretWith(t, obj, m, ctx), "447\n"; got != want || len(m.Funcs) != 3 {
			t.Errorf("optimised %v: got %q with %d functions, want %q with 3\n%s", !noOpt, got, len(m.Funcs), want, m)
		}
	}
}

func TestKernelGlobalLoops(t *testing.T) {
	h := openHost(t)
	tg := *h.machine.Target()
	tg.Features = target.AllBut(old...)
	for _, c := range globalLoops {
		t.Run(c.name, func(t *testing.T) {
			obj := compile(t, h.info(t, c.script()), &tg, codegen.Options{LoopBudget: 40_000})
			if got := h.run(t, obj); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
