package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// choice is a program with what sonde may add at most to the call, against the peer.
type choice struct {
	program
	limit float64
}

// choices are programs for which each tracer takes the mechanism that it likes best. The event is one that a raw tracepoint can stand for,
// where the call is rename.
func choices(self string) []choice {
	rename := func(name, body string, limit float64) choice {
		return choice{program{name: name, script: "tracepoint:task:task_rename " + body, call: "rename"}, limit}
	}
	out := []choice{
		rename("@ = count()", "{ @ = count(); }", 0.5),
		rename("@ = hist(x)", "{ @ = hist(pid); }", 0.5),
		rename("@ = x", "{ @ = pid; }", 0.5),
		rename("@++", "{ @++; }", 0.5),
		rename("comm predicate that fails", `/comm == "nobody"/ { @ = count(); }`, 0.5),
		rename("@[pid] = count()", "{ @[pid] = count(); }", 0.65),
		rename("@[comm] = count()", "{ @[comm] = count(); }", 0.65),
		rename("@[pid] = sum(x)", "{ @[pid] = sum(tid); }", 0.65),
		rename("@[pid] = hist(x)", "{ @[pid] = hist(tid); }", 0.65),
		rename("@[kstack] = count()", "{ @[kstack] = count(); }", 0.7),
		rename("@[ustack] = count()", "{ @[ustack] = count(); }", 0.35),
		{program{name: "start/hist/delete pair", call: "getpgid", script: "tracepoint:raw_syscalls:sys_enter { @s[tid] = nsecs; } " +
			"tracepoint:raw_syscalls:sys_exit /@s[tid]/ { @ = hist(nsecs - @s[tid]); delete(@s[tid]); }"}, 0.6},
		{program{name: "another call is traced", call: "getpgid", script: "tracepoint:syscalls:sys_enter_openat { @ = count(); }"}, 1},
	}
	if hasEndbr {
		out = append(out, choice{program{
			name: "function that starts with endbr64", call: "endbr", script: fmt.Sprintf(`uprobe:%s:"main.endbr.abi0" { @ = count(); }`, self),
		}, 0.2})
	}
	return out
}

// choice measures what events cost with the mechanisms that the tracers choose.
func (b *bench) choice(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	l, err := startLoad(ctx)
	if err != nil {
		return err
	}
	defer l.close()
	g := b.table.group("Mechanisms that the tracers choose", "CPU nanoseconds that an event adds to the call that makes it. `rename` is `prctl(PR_SET_NAME)`: "+
		"sonde takes a raw tracepoint for it. The pair is on all system calls; the call beside another one that is traced is not traced itself.")
	list := slices.DeleteFunc(choices(self), func(p choice) bool { return !b.wanted(p.name) })
	results := make([]*series, len(list))
	for i := range results {
		results[i] = newSeries()
	}
	for round := range b.rounds {
		b.progress("choice: round %d of %d", round+1, b.rounds)
		for i, p := range list {
			for j, t := range b.tracers() {
				added, err := b.whileAttached(ctx, t, p.program, l, 5, nil)
				if err != nil {
					return err
				}
				results[i].add(j, added)
			}
		}
	}
	for i, p := range list {
		g.add(results[i].row(p.name, "ns", p.limit))
	}
	if !b.wanted("every system call") {
		return nil
	}
	return b.wildcard(ctx)
}

// wildcardScript counts all system calls by name.
const wildcardScript = "tracepoint:syscalls:sys_enter_* { @[probe] = count(); }"

// wildcard measures one probe on hundreds of events.
func (b *bench) wildcard(ctx context.Context) error {
	g := b.table.group("One probe on every system call", "`"+wildcardScript+"`, from the start to the word that all is attached, and from Ctrl-C to the end.")
	attached, exit, rss := newSeries(), newSeries(), newSeries()
	for range max(1, b.rounds/2) {
		for i, t := range b.tracers() {
			b.progress("choice: every system call, %s", t.name)
			took, end, u, err := t.attachAndEnd(ctx, "-o", os.DevNull, "-e", wildcardScript)
			if err != nil {
				return err
			}
			attached.add(i, ms(took))
			exit.add(i, ms(end))
			rss.add(i, float64(u.MaxRSS)/(1<<20))
		}
	}
	g.add(attached.row("attached", "ms", 1.0/50))
	g.add(exit.row("exit", "ms", 1.0/500))
	g.add(rss.row("peak memory", "MiB", 1.0/20))
	return nil
}

// whileAttached gives the CPU nanoseconds that a call takes longer while a program is attached. more, when not nil, measures more meanwhile.
func (b *bench) whileAttached(ctx context.Context, t *tracer, p program, l *load, chunks int, more func(*session) error) (added float64, err error) {
	// The kernel may still be taking off the program before this one, behind the end of its process.
	time.Sleep(settle)
	before, err := b.timeCalls(l, p.call, chunks)
	if err != nil {
		return 0, err
	}
	s, err := t.begin(ctx, nil, "-o", os.DevNull, "-e", p.script)
	if err != nil {
		return 0, err
	}
	defer func() { _ = syscall.Kill(s.PID, syscall.SIGKILL) }() // of no consequence when it has ended
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %s: %w", t.name, p.script, err)
		}
	}()
	if err := s.wait(ctx); err != nil {
		return 0, err
	}
	if _, err := l.run(p.call, warmUp, 0); err != nil {
		return 0, err
	}
	during, err := b.timeCalls(l, p.call, chunks)
	if err != nil {
		return 0, err
	}
	if more != nil {
		if err := more(s); err != nil {
			return 0, err
		}
	}
	if err := s.interrupt(); err != nil {
		return 0, err
	}
	_, err = s.end()
	return during - before, err
}

// hundredLines is a script of that many lines in one probe.
func hundredLines() string {
	var sb strings.Builder
	sb.WriteString("tracepoint:syscalls:sys_enter_getpgid {\n  $n = nsecs / 1000;\n")
	for i := range 24 {
		fmt.Fprintf(&sb, "  if (pid %% 24 == %d && $n > %d) {\n    @c%d[comm, %d] = count();\n    @h%d = hist($n);\n  }\n", i, i, i%4, i, i%3)
	}
	sb.WriteString("}\ninterval:ms:1 { exit(); }\n")
	return sb.String()
}
