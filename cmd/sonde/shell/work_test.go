package shell

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sonde-sh/sonde/runtime/seccomp"
	"github.com/sonde-sh/sonde/runtime/symbol"
	"github.com/sonde-sh/sonde/stdlib/lessons"
)

// What a lesson tells to type passes its checks.
func TestKernelLessons(t *testing.T) {
	list, err := lessons.All()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range list {
		t.Run(l.Name, func(t *testing.T) {
			if strings.Contains(strings.Join(l.Try, " "), "libc") {
				if _, err := (symbol.Finder{}).Find("libc"); err != nil {
					t.Skip("needs a C library")
				}
			}
			sh, out := newShell(t)
			if l.Name == "look" { // it looks at what the lesson before has filled
				run(t, sh, out, list[1].Try[0])
			}
			run(t, sh, out, fmt.Sprintf(`\lesson %d`, i+1))
			var all strings.Builder
			for _, line := range l.Try {
				all.WriteString(run(t, sh, out, strings.ReplaceAll(line, "/tmp/first.bt", filepath.Join(t.TempDir(), "first.bt"))))
			}
			busy()
			deadline := time.Now().Add(patience)
			for !sh.lesson.done && time.Now().Before(deadline) {
				busy()
				all.WriteString(run(t, sh, out, `\sleep 0.02`))
			}
			if !sh.lesson.done {
				t.Errorf("the lesson is not passed:\n%s", all.String())
			}
			if strings.Contains(all.String(), "ERROR") && l.Name != "look" {
				t.Errorf("an error was shown:\n%s", all.String())
			}
		})
	}
}

func TestFold(t *testing.T) {
	const text = "one two three four\nfive six\n\n    an example that is long\nseven"
	const want = "one two\nthree four\nfive six\n\n    an example that is long\nseven"
	if got := foldText(text, 10); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// busy does what the probes of the lessons see.
func busy() {
	for range 50 {
		b, _ := os.ReadFile("/proc/self/stat")
		_ = os.WriteFile("/dev/null", b, 0o600)
		_, _ = os.Stat("/no/such/file")
	}
}

func TestKernelExplain(t *testing.T) {
	sh, _ := newShell(t)
	e, err := sh.Explain("rawtracepoint:sys_enter /pid > 1/ { @reads[comm] = count();\n printf(\"%d\\n\", tid); }")
	if err != nil {
		t.Fatal(err)
	}
	text := e.Text(100)
	for _, want := range []string{
		"@reads[string[16]]: count_t", "attach   rawtracepoint:", "comm: string[16]", "helper bpf_map_lookup_elem", "call bpf_get_current_", "map @reads",
		"   1 | pid > 1", `   2 | printf("%d\n", tid);`, "; R0=",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for line := range strings.Lines(text) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 100 && !strings.Contains(line, "attach ") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	p := e.Programs[0]
	insns := 0
	for _, q := range p.Parts {
		insns += len(q.Code)
	}
	if insns == 0 || insns > p.Insns {
		t.Errorf("%d instructions are shown of %d", insns, p.Insns)
	}
	native, matched := 0, map[int]bool{}
	for _, q := range p.Parts {
		native += len(q.Native)
		for _, n := range q.Native {
			matched[n.From] = true
		}
	}
	switch {
	case native != p.Native, native == 0 && p.Why == "":
		t.Errorf("%d native instructions in the parts, %d in all, and %q", native, p.Native, p.Why)
	case native > 0 && (matched[-1] || len(matched) < p.Insns/2):
		t.Errorf("native code of %d of %d instructions is known: %v", len(matched), p.Insns, matched)
	}
	if h := e.HTML(); !strings.Contains(h, "<h2>Program") || strings.Contains(h, "http") {
		t.Error("the page lacks the program, or needs the network")
	}
	if _, err := json.Marshal(e); err != nil {
		t.Error(err)
	}
}

func TestKernelTriage(t *testing.T) {
	sh, out := newShell(t)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // until the end, because nobody knows how long it takes to attach all
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				busy()
			}
		}
	}()
	r, err := sh.Triage(context.Background(), 500*time.Millisecond)
	close(stop)
	<-done
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Sections) != len(looks()) || r.Cost == "" || len(r.System) < 2 {
		t.Errorf("%d sections, cost %q, %d lines of the system", len(r.Sections), r.Cost, len(r.System))
	}
	for _, s := range r.Sections {
		switch {
		case s.Missing != "":
			t.Logf("%s: not available: %s", s.Title, s.Missing)
		case s.Finding == "" || s.Item == 0:
			t.Errorf("%s has no finding (item %d)", s.Title, s.Item)
		}
		if s.Title == "syscall errors" && s.Missing == "" && len(s.Rows) == 0 {
			t.Error("the errors of this very test are not seen")
		}
	}
	if n := strings.Count(r.Text(100), "\n"); n > 50 {
		t.Errorf("%d lines are more than a screen", n)
	}
	if h := r.HTML(); !strings.Contains(h, "<svg") || strings.Contains(h, "http") {
		t.Error("the page has no chart, or needs the network")
	}
	if got := run(t, sh, out, `\attach #1`, `\detach #1`); !strings.Contains(got, "#1 attached") {
		t.Errorf("a script of the report cannot be attached again: %s", got)
	}
}

func TestSaveAndLoad(t *testing.T) {
	sh, out := newShell(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "saved.bt")
	run(t, sh, out, "macro twice(x) { x * 2 }", "rawtracepoint:sys_enter { @n = twice(21) }", `\set max_strlen 64`, "rawtracepoint:sys_exit { @gone = count() }", `\detach #2`)
	if got := run(t, sh, out, `\save `+file); !strings.HasPrefix(got, "saved 1 item to ") {
		t.Fatalf("saving says %q", got)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"#!/usr/bin/env sonde", "max_strlen = 64;", "macro twice(x)", "@n = twice(21)"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%q is missing in\n%s", want, b)
		}
	}
	if strings.Contains(string(b), "@gone") {
		t.Error("a detached item was saved")
	}
	other, out2 := newShell(t)
	if got := run(t, other, out2, `\load `+file, `\sleep 0.02`, "@n"); !strings.Contains(got, "#1 attached 1 probe") || !strings.Contains(got, "@n: 42") {
		t.Errorf("loading says %q", got)
	}
	lines := filepath.Join(dir, "session.txt")
	if err := os.WriteFile(lines, []byte("1 + 1\n2 + 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t, other, out2, `\load `+lines); got != "2\n4\n" {
		t.Errorf("loading lines says %q", got)
	}
	transcript := filepath.Join(dir, "transcript")
	run(t, other, out2, `\record `+transcript, "6 * 7", `\record off`)
	if b, _ := os.ReadFile(transcript); !strings.Contains(string(b), "sonde> 6 * 7\n42\n") {
		t.Errorf("the transcript is\n%s", b)
	}
}

// Variables of the prompt are in a saved script as their values.
func TestKernelSaveVariables(t *testing.T) {
	sh, out := newShell(t)
	file := filepath.Join(t.TempDir(), "saved.bt")
	run(t, sh, out, "$limit = 1", `$text = "a \"b\"\\c"`, "$neg = -7", "$task = curtask", "$unused = 3",
		"rawtracepoint:sys_enter /pid > $limit/ // why\n{ @n = $limit * 42; @s = $text; @neg = $neg }\nrawtracepoint:sys_exit { $limit = 5; @own = $limit }",
		"rawtracepoint:sys_exit { if ($task == 0) { @never = 1 } }")
	got := run(t, sh, out, `\save `+file)
	if !strings.Contains(got, "saved 3 items") || strings.Count(got, "NOTE") != 1 || !strings.Contains(got, "$task cannot be written") {
		t.Errorf("saving says %q", got)
	}
	run(t, sh, out, `\detach #3`, `\save `+file)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "$unused") || strings.Contains(string(b), "@$") {
		t.Errorf("the script is\n%s", b)
	}
	other, out2 := newShell(t)
	got = run(t, other, out2, `\load `+file, `\sleep 0.05`, "@n", "@s", "@neg", "@own")
	for _, want := range []string{"#1 attached 2 probes", "@n: 42\n", "@s: a \"b\"\\c\n", "@neg: -7\n", "@own: 5\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s\nThe script is\n%s", want, got, b)
		}
	}
}

func TestRemoveItems(t *testing.T) {
	sh, out := newShell(t)
	const probe = "rawtracepoint:sys_enter { @n = count() }"
	run(t, sh, out, probe, probe, probe, probe, `\detach #1`)
	if got := run(t, sh, out, `\remove all`); !strings.HasPrefix(got, "removed 1 item, 3 left") {
		t.Errorf("removing what is detached says %q", got)
	}
	if got := run(t, sh, out, `rm #2 #4`); !strings.HasPrefix(got, "removed 2 items, 1 left") {
		t.Errorf("removing what is attached says %q", got)
	}
	got := run(t, sh, out, `\list`)
	if strings.Contains(got, "#1 ") || strings.Contains(got, "#2 ") || !strings.Contains(got, "#3   attached") {
		t.Errorf("the list says\n%s", got)
	}
	if got := run(t, sh, out, probe, `\remove #9`, `\remove`); !strings.Contains(got, "#5 attached") || !strings.Contains(got, "there is no item `#9`") || !strings.Contains(got, "which item?") {
		t.Errorf("a new item and wrong names say\n%s", got)
	}
	if info, err := sh.hub.Map("@n"); err != nil || info.Users != 2 {
		t.Errorf("@n has %d users (%v), want those of #3 and #5", info.Users, err)
	}
}

func TestSeccompFromMap(t *testing.T) {
	sh, out := newShell(t)
	if got := run(t, sh, out, `begin { @calls["openat"] = 3; @calls["read"] = 7; @two["cat", "write"] = 1; @wrong["opennat"] = 1; @plain = 1 }`); strings.Contains(got, "error") {
		t.Fatalf("the maps are not made: %s", got)
	}
	file := filepath.Join(t.TempDir(), "map.profile")
	if got := run(t, sh, out, `\seccomp from @calls`, `\seccomp show`, `\seccomp save `+file); !strings.Contains(got, "2 system calls: openat read") || !strings.Contains(got, "saved 2") {
		t.Errorf("a map of calls says %q", got)
	}
	p, err := seccomp.ReadFile(file)
	if err != nil || len(p.Calls) != 2 || p.Calls[1].Name != "read" || p.Calls[1].Count != 7 {
		t.Errorf("the file: %v %+v", err, p)
	}
	if got := run(t, sh, out, `\seccomp from @two`); !strings.Contains(got, "1 system call: write") {
		t.Errorf("a map of two keys says %q", got)
	}
	if got := run(t, sh, out, `\seccomp from @wrong`); !strings.Contains(got, "`opennat`") {
		t.Errorf("a wrong name says %q", got)
	}
	for line, want := range map[string]string{
		`\seccomp`: "give one of start", `\seccomp from @calls here`: "`here` is too much", `\seccomp start pid`: "which pid?", `\seccomp start cgroup a b`: "which cgroup?",
		`\seccomp start sh -c 'ls`: "unclosed '",
	} {
		if got := run(t, sh, out, line); !strings.Contains(got, want) {
			t.Errorf("%s says %q, want %q", line, got, want)
		}
	}
	if got := run(t, sh, out, `\seccomp from @plain`); !strings.Contains(got, "has no keys") {
		t.Errorf("a map without keys says %q", got)
	}
}

func TestSeccompAtThePrompt(t *testing.T) {
	sh, out := newShell(t)
	made := filepath.Join(t.TempDir(), "made")
	if got := run(t, sh, out, `\seccomp start sh -c 'umask 0; : > `+made+`'`); !strings.Contains(got, "recording sh -c") {
		t.Skipf("needs the recorder of system calls: %s", got)
	}
	until(t, "the command", func() bool {
		_, err := os.Stat(made)
		return err == nil
	})
	if got := run(t, sh, out, `\seccomp show`); !strings.Contains(got, "calls of") {
		t.Errorf("looking says %q", got)
	}
	file := filepath.Join(t.TempDir(), "true.json")
	if got := run(t, sh, out, `\seccomp stop`, `\seccomp save `+file); !strings.Contains(got, "execve") || !strings.Contains(got, "umask") || !strings.Contains(got, "saved ") {
		t.Errorf("stopping and saving says %q", got)
	}
}
