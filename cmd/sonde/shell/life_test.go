package shell

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// descriptors counts what the process has open.
func descriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// resident is the memory of the process in bytes.
func resident(t testing.TB) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages := 0
	for i, f := range strings.Fields(string(b)) {
		if i == 1 {
			for _, c := range f {
				pages = 10*pages + int(c-'0')
			}
		}
	}
	return pages * os.Getpagesize()
}

// Ten probes are attached and detached again and again: nothing may grow. SONDE_SOAK does it a thousand times.
func TestItemsLeaveNothingBehind(t *testing.T) {
	rounds := 30
	if os.Getenv("SONDE_SOAK") != "" {
		rounds = 1000
	}
	sh, out := newShell(t)
	kinds := []string{
		"rawtracepoint:sys_enter { @a = count() }", "rawtracepoint:sys_exit { @b[comm] = count() }", "tracepoint:sched:sched_switch { @c[args.next_pid] = count() }",
		"tracepoint:raw_syscalls:sys_enter { @d = hist(args.id) }", "interval:ms:100 { @e = nsecs }", "profile:hz:49 { @f[kstack(3)] = count() }",
		"tracepoint:syscalls:sys_enter_openat { @g[str(args.filename)] = count() }", "uprobe:libc:malloc { @h = sum(arg0) }",
		`tracepoint:syscalls:sys_enter_close { printf("%d\n", args.fd) }`, "software:page-faults:100 { @i[pid] = count() }",
	}
	if _, err := filepath.Glob("/proc/self/fd/*"); err != nil {
		t.Fatal(err)
	}
	round := func() {
		got := run(t, sh, out, kinds...)
		if n := strings.Count(got, "attached"); n != len(kinds) {
			t.Fatalf("%d of %d are attached:\n%s", n, len(kinds), got)
		}
		run(t, sh, out, `\detach all`)
		sh.mu.Lock()
		sh.items = sh.items[:0] // the list of what was detached is kept for the user; it is not what this is about
		sh.mu.Unlock()
	}
	for range 5 {
		round()
	}
	time.Sleep(200 * time.Millisecond) // perf events are closed behind the process
	fds, mem, maps, points := descriptors(t), resident(t), len(sh.hub.Maps()), len(sh.hub.Shared().Points)
	for range rounds {
		round()
	}
	until(t, "the end of descriptors", func() bool {
		n := descriptors(t)
		if n > fds+2 {
			t.Logf("%d descriptors were open, now %d", fds, n)
		}
		return n <= fds+2
	})
	if n := len(sh.hub.Maps()); n != maps {
		t.Errorf("there were %d maps, now %d", maps, n)
	}
	if n := len(sh.hub.Shared().Points); n != points {
		t.Errorf("there were %d names of attach points, now %d", points, n)
	}
	if n := resident(t); n > mem+32<<20 {
		t.Errorf("%d MiB were resident, now %d", mem>>20, n>>20)
	}
	t.Logf("%d rounds: descriptors %d -> %d, resident %d -> %d MiB", rounds, fds, descriptors(t), mem>>20, resident(t)>>20)
}

// From the line to attached, for a one-liner on a tracepoint.
func BenchmarkAttach(b *testing.B) {
	sh, out := newShell(b)
	run(b, sh, out, "tracepoint:raw_syscalls:sys_enter { @[comm] = count() }", `\detach all`)
	for b.Loop() {
		run(b, sh, out, "tracepoint:raw_syscalls:sys_enter { @[comm] = count() }")
		b.StopTimer()
		run(b, sh, out, `\detach all`)
		b.StartTimer()
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	seen := map[string]string{}
	for _, c := range commands() {
		if c.summary == "" || c.group == "" || c.run == nil {
			t.Errorf("\\%s is not complete", c.name)
		}
		for _, n := range append([]string{c.name}, c.aliases...) {
			if other := seen[n]; other != "" {
				t.Errorf("\\%s means both \\%s and \\%s", n, other, c.name)
			}
			seen[n] = c.name
		}
		if !strings.Contains(helpText(80), `\`+c.name) || !strings.Contains(helpBrief(80), `\`+c.name) {
			t.Errorf("the help lacks \\%s", c.name)
		}
	}
	for line := range strings.Lines(helpText(80) + helpBrief(80)) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// The help of a small screen fits on it, with the line that asks for it.
func TestHelpFitsTheScreen(t *testing.T) {
	if n := strings.Count(helpBrief(80), "\n"); n > 22 {
		t.Errorf("%d lines", n)
	}
}

func TestBrief(t *testing.T) {
	for _, c := range []struct {
		text, want string
		width      int
	}{
		{"tracepoint:a:b { @ = 1 }", "tracepoint:a:b { @ = 1 }", 30},
		{"tracepoint:syscalls:sys_enter_openat { @[comm] = count() }", "sys_enter_openat { @[comm]...", 29},
		{"// #6\n/* what\n   it is */\nbegin { }", "begin { }", 30},
		{"profile:hz:99 { @[kstack, ustack, comm, pid, tid] = count() }", "profile:hz:99 { @[...", 21},
		{"begin { printf(\"a:b:c %d\", 123456789) }", "begin { printf(\"a...", 20},
		{"// nothing else", "", 30},
	} {
		if got := brief(c.text, c.width); got != c.want {
			t.Errorf("%q in %d columns: %q, wanted %q", c.text, c.width, got, c.want)
		}
	}
}

// Ctrl-C ends the loading of a file, not only the line of it that runs; what is no text is no file of lines; ~ is the home directory.
func TestKernelLoadFiles(t *testing.T) {
	sh, out := newShell(t)
	home := t.TempDir()
	t.Setenv("HOME", home)
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("binary", "\x7fELF\x00\x01\n")
	write("slow", "\\sleep 600\n1 + 1\n")
	if got := run(t, sh, out, `\load ~/binary`); !strings.Contains(got, "`~/binary` is no text") {
		t.Error(got)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		sh.Line(context.Background(), `\load ~/slow`)
	}()
	until(t, "the end of the loading", func() bool {
		sh.Interrupt()
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	if strings.Contains(out.String(), "2") {
		t.Errorf("the rest of the file ran: %s", out)
	}
}
