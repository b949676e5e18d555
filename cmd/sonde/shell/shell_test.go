package shell

import (
	"bytes"
	"context"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/stdlib"
)

// newShell starts a session whose output goes to the result. It skips where BPF programs cannot be loaded.
func newShell(t testing.TB) (*Shell, *bytes.Buffer) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Skipf("needs the right to use BPF: %v", err)
	}
	m.Close()
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	machine := stdlib.NewMachine(k)
	var out bytes.Buffer
	sh, err := New(Config{Out: &out, Err: io.Discard, Kernel: k, Machine: machine})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sh.Close(); err != nil {
			t.Error(err)
		}
		_ = machine.Close()
		_ = k.Close()
	})
	return sh, &out
}

// patience is how long tests wait for what must happen. A machine that does much else takes long for everything: only a hang reaches it.
const patience = 2 * time.Minute

// until waits for something that must happen.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited too long for ", what)
		}
	}
}

// run handles lines and returns what they printed.
func run(t testing.TB, sh *Shell, out *bytes.Buffer, lines ...string) string {
	t.Helper()
	sh.out.mu.Lock()
	out.Reset()
	sh.out.mu.Unlock()
	if _, err := sh.ReadAll(context.Background(), strings.NewReader(strings.Join(lines, "\n")+"\n")); err != nil {
		t.Fatal(err)
	}
	sh.out.mu.Lock()
	defer sh.out.mu.Unlock()
	return out.String()
}

// times are what differs from run to run.
var times = regexp.MustCompile(`\d+(\.\d+)? (µs|ms|s)\b`)

func TestKernelSession(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  []string // lines of the output, times replaced by TIME
	}{
		{"an expression is evaluated in the kernel", []string{"1 << 20", "sizeof(int32)", "comm == comm"}, []string{"1048576", "4", "true"}},
		{"a call without a value runs", []string{`printf("%d\n", 6 * 7)`}, []string{"42"}},
		{"a map lives on and takes larger values", []string{"@n = 1", "@n = 70000", "@n", "@n += 5", "@n"}, []string{"@n: 70000", "@n: 70005"}},
		{"variables persist and may change their type", []string{"$x = 40", "$x + 2", `$x = "text"`, "$x", "$i = 1", "$i++", "$i"}, []string{"42", "text", "2"}},
		{"statements run once", []string{"for ($i : 0..3) { @k[$i] = $i * $i }", `\sort @k key desc`}, []string{"@k[2]: 4", "@k[1]: 1", "@k[0]: 0"}},
		{"a block goes on until it is complete", []string{"if (1 == 1)", "{", `  printf("yes\n")`, "}"}, []string{"yes"}},
		{"definitions stay", []string{"macro twice(x) { x * 2 }", "twice(21)", "#define SEVEN 7", "SEVEN + 1"}, []string{"42", "8"}},
		{"an aggregation is not assigned over", []string{"@c = count()", "@c = 3"}, []string{
			"prompt:1:1-7: ERROR: Type mismatch for @c: trying to assign value of type 'int64' when map already has a type 'count_t' [E0306]",
			"@c = 3", "~~~~~~", "prompt:1:1-3: NOTE: first used here", "@c = 3", "~~",
			"HINT: use another name, or forget the map of the session with `\\drop @c` once no item uses it",
		}},
		{"a map that is dropped may have another type", []string{"@c = count()", `\drop @c`, "@c = 3", "@c"}, []string{"@c: 3"}},
		{"a mistake is shown where it is", []string{"1 + nosuch"}, []string{"prompt:1:5-11: ERROR: Unknown identifier: 'nosuch' [E0301]", "1 + nosuch", "    ~~~~~~"}},
		{"commands are words too", []string{"maps", "list"}, []string{"no maps yet", "no items yet; type a probe, such as: tracepoint:raw_syscalls:sys_enter { @[comm] = count() }"}},
		{"a beginning is enough", []string{`\ma`}, []string{"no maps yet"}},
		{"a beginning that says too little", []string{`\s`}, []string{`ERROR: ` + "`\\s`" + ` could be: \` + strings.Join(near("s"), `, \`), "HINT: write one letter more"}},
		{"a command that does not exist", []string{`\lisst`}, []string{"ERROR: there is no command `\\lisst`", "HINT: did you mean `\\list`? `\\help` lists all commands"}},
		{"settings change what follows", []string{`\set max_strlen 8`, `printf("%s\n", str("0123456789abcdef"))`}, nil},
		{"a setting that does not exist", []string{`\set max_strlem 8`}, []string{"ERROR: there is no setting `max_strlem`", "HINT: did you mean `max_strlen`?"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sh, out := newShell(t)
			got := strings.TrimRight(times.ReplaceAllString(run(t, sh, out, tt.lines...), "TIME"), "\n")
			if tt.want != nil && got != strings.Join(tt.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", got, strings.Join(tt.want, "\n"))
			}
		})
	}
}

// What is looked up is found once, by its name, its code, or as statements that stand alone.
func TestKernelLookUp(t *testing.T) {
	sh, out := newShell(t)
	for _, c := range []struct{ line, want string }{
		{`\explain @[comm] = count()`, "PROGRAM begin"},
		{`\explain E0305`, "E0305: unknown field"},
		{`\help [W0211]`, "W0211: macro defined again"},
		{`\help E9999`, "there is no code `E9999`"},
		{`\d sched_process_exec`, "tracepoint:sched:sched_process_exec"},
		{`\help hist`, "example: "},
	} {
		if got := run(t, sh, out, c.line); strings.Count(got, c.want) != 1 {
			t.Errorf("%s: wanted %q once in\n%s", c.line, c.want, got)
		}
	}
}

func near(prefix string) []string {
	_, n := findCommand(prefix)
	return n
}

func TestKernelItems(t *testing.T) {
	sh, out := newShell(t)
	got := run(t, sh, out, "rawtracepoint:sys_enter { @[pid] = count(); @total = count() }")
	if !regexp.MustCompile(`^#1 attached 1 probe by (BTF )?raw tracepoint in `).MatchString(got) {
		t.Fatalf("attaching says %q", got)
	}
	work := func() {
		for range 200 {
			_ = os.Getppid()
		}
	}
	work()
	first := scalar(t, sh, "@total")
	if first == 0 {
		t.Fatal("nothing was counted")
	}
	// A second item uses the same maps, and counts on while the first is detached.
	if got := run(t, sh, out, "rawtracepoint:sys_exit { @total = count(); @other = count() }"); !strings.HasPrefix(got, "#2 attached") {
		t.Fatalf("the second item says %q", got)
	}
	if got := run(t, sh, out, `\detach #1`); !strings.HasPrefix(got, "#1 detached in ") {
		t.Fatalf("detaching says %q", got)
	}
	before := scalar(t, sh, "@total")
	work()
	if after := scalar(t, sh, "@total"); after <= before || before < first {
		t.Errorf("@total went from %d over %d to %d", first, before, after)
	}
	run(t, sh, out, `\detach #2`)
	until(t, "what runs on another CPU", func() bool {
		before = scalar(t, sh, "@total")
		time.Sleep(5 * time.Millisecond)
		return scalar(t, sh, "@total") == before
	})
	work()
	if after := scalar(t, sh, "@total"); after != before {
		t.Errorf("@total changes from %d to %d although everything is detached", before, after)
	}
	if got := run(t, sh, out, `\attach #1 #2`); strings.Count(got, "attached 1 probe") != 2 {
		t.Errorf("attaching again says %q", got)
	}
	work()
	if after := scalar(t, sh, "@total"); after <= before {
		t.Errorf("@total stays at %d although the items are attached again", after)
	}
	if got := run(t, sh, out, `\list`); !strings.Contains(got, "#1   attached") || !strings.Contains(got, "#2   attached") {
		t.Errorf("the list says\n%s", got)
	}
	if got := run(t, sh, out, `\clear @total`, `\detach all`); strings.Contains(got, "ERROR") {
		t.Errorf("clearing says %q", got)
	}
}

// scalar reads a count.
func scalar(t testing.TB, sh *Shell, name string) uint64 {
	t.Helper()
	list, _, err := sh.entries(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		return 0
	}
	return uint64(list[0].n)
}

func TestKernelItemEndsItself(t *testing.T) {
	sh, out := newShell(t)
	run(t, sh, out, "interval:ms:100 { @n++; exit(3) }")
	until(t, "the end of the item", func() bool { return strings.Contains(run(t, sh, out, `\list`), "#1   exit(3)") })
	// The probe fires on until the shell has read the event, which takes a busy machine longer than the interval, and then no more.
	n := scalar(t, sh, "@n")
	time.Sleep(300 * time.Millisecond)
	if again := scalar(t, sh, "@n"); n == 0 || again != n {
		t.Errorf("@n is %d at the end of the item, and %d later", n, again)
	}
}

func TestKernelProbeNamesAreShared(t *testing.T) {
	sh, out := newShell(t)
	run(t, sh, out, "rawtracepoint:sys_enter { @[probe] = count() }", "rawtracepoint:sys_exit { @[probe] = count() }")
	for range 100 {
		_ = os.Getppid()
	}
	got := run(t, sh, out, `\print @`)
	for _, want := range []string{"@[rawtracepoint:", "sys_enter]: ", "sys_exit]: "} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
}

// A panic while a line is handled is reported, and the session goes on.
func TestPanicEndsTheLineOnly(t *testing.T) {
	sh, out := newShell(t)
	sh.hub.Values().R = nil // the next value that needs the machine panics
	got := run(t, sh, out, "@a[kstack] = 1", `\print @a`, "1 + 1")
	if !strings.Contains(got, "internal error") || !strings.HasSuffix(got, "\n2\n") {
		t.Errorf("got\n%s", got)
	}
}

// A flood that never pauses is counted every second, whoever comes first: the next line or the timer.
func TestFloodIsCounted(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, true)
	now := time.Unix(1000, 0)
	s.now = func() time.Time { return now }
	for range 3*floodLines + 2*floodLines*3 {
		s.events([]byte("line\n"))
		now = now.Add(floodWindow / (3 * floodLines))
	}
	s.mu.Lock()
	s.paint()
	s.mu.Unlock()
	told, hidden := 0, 0
	for _, m := range regexp.MustCompile(`\.\.\. (\d+) more lines not shown`).FindAllStringSubmatch(out.String(), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		told, hidden = told+1, hidden+n
	}
	if shown := strings.Count(out.String(), "line\n"); told != 2 || shown+hidden+s.hidden != 9*floodLines {
		t.Errorf("%d lines shown, %d hidden as told %d times, %d to be told", shown, hidden, told, s.hidden)
	}
	s.close()
}
