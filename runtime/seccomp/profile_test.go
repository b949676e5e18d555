package seccomp

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// call makes an entry for tests.
func call(abi ABI, name string, count uint64, runs ...string) *Call {
	n, ok := abi.Number(name)
	if !ok {
		panic("no such call: " + name)
	}
	c := &Call{ABI: abi, Name: name, Number: n, Count: count, Origin: OriginRecorded}
	for _, r := range runs {
		c.Runs = append(c.Runs, RunCount{r, count / uint64(len(runs))})
	}
	return c
}

func sample(run string, calls ...*Call) *Profile {
	p := New(X8664, "sonde test", "6.18.0")
	p.Runs = []*Run{{ID: run, Target: "command", Command: []string{"prog"}, Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
	p.Calls = calls
	return p
}

func TestABINumbers(t *testing.T) {
	for _, tt := range []struct {
		abi    ABI
		name   string
		number int
	}{
		{X8664, "read", 0},
		{X8664, "clone3", 435},
		{X86, "getpid", 20},
		{X86, "clone3", 435},
		{X32, "read", 0},
		{X32, "execve", 520},
		{X32, "pwritev2", 547},
		{AArch64, "read", 63},
		{AArch64, "execve", 221},
		{ARM, "read", 3},
		{X86, "socketcall", 102},
	} {
		n, ok := tt.abi.Number(tt.name)
		if !ok || n != tt.number {
			t.Errorf("%s %s: number %d (%v), want %d", tt.abi, tt.name, n, ok, tt.number)
		}
		if got := tt.abi.Name(tt.number); got != tt.name {
			t.Errorf("%s %d: name %q, want %q", tt.abi, tt.number, got, tt.name)
		}
	}
	if got := X32.Name(59); got != "" {
		t.Errorf("x32 has execve under its own number only, got %q for 59", got)
	}
	if _, ok := X8664.Number("newstat"); ok {
		t.Error("the kernel's own spelling of stat must not be taken: no consumer knows it")
	}
	// Whatever has a name has a number that gives the name back.
	for _, a := range []ABI{X8664, X86, X32, AArch64, ARM} {
		for n := range tableSize {
			if name := a.Name(n); name != "" {
				if back, ok := a.Number(name); !ok || back != n {
					t.Errorf("%s: %d is %s, which is %d", a, n, name, back)
				}
			}
		}
	}
}

func TestProfileRoundTrip(t *testing.T) {
	p := sample("a", call(X8664, "openat", 3, "a"), call(X86, "getpid", 1, "a"))
	p.Calls[0].Args = &ArgSet{Indexes: []int{2}, Bits: []int{32}, Values: [][]Hex{{0x80000}, {0}}}
	p.Calls[0].Example = []Hex{0xffffff9c, 1, 2, 3, 4, 0xffffffffffffffff}
	p.Denials = []Denial{{ABI: X8664, Name: "mkdir", Number: 83, Count: 2, Result: -1}}
	var one bytes.Buffer
	if err := p.Write(&one); err != nil {
		t.Fatal(err)
	}
	q, err := Read(bytes.NewReader(one.Bytes()), "x")
	if err != nil {
		t.Fatal(err)
	}
	var two bytes.Buffer
	if err := q.Write(&two); err != nil {
		t.Fatal(err)
	}
	if one.String() != two.String() {
		t.Errorf("a profile changed when it was read and written:\n%s\n%s", one.String(), two.String())
	}
	path := filepath.Join(t.TempDir(), "f.profile")
	if err := p.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("files left behind: %v %v", left, err)
	}
}

func TestReadRefuses(t *testing.T) {
	var good bytes.Buffer
	p := sample("a", call(X8664, "openat", 3, "a"), call(X8664, "read", 3, "a"))
	p.Calls[0].Args = &ArgSet{Indexes: []int{2}, Bits: []int{32}, Values: [][]Hex{{0}}}
	if err := p.Write(&good); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"not JSON", good.String(), "hello", "line 1"},
		{"a container filter", good.String(), `{"defaultAction":"SCMP_ACT_ERRNO"}`, "not a recording"},
		{"other JSON", good.String(), `{"type":"x"}`, "not a profile"},
		{"newer version", `"version": 1`, `"version": 2`, "version 2"},
		{"unknown call", `"name": "openat"`, `"name": "openatt"`, "calls[0]: unknown system call `openatt` for ABI x86_64; did you mean `openat`"},
		{"number of another call", `"number": 257`, `"number": 2`, "`openat` has number 257 on x86_64, not 2"},
		{"negative number", `"number": 257`, `"number": -1`, "calls[0]"},
		{"foreign ABI", `"abi": "x86_64",
   "name": "openat"`, `"abi": "arm",
   "name": "openat"`, "does not run on the machine"},
		{"unknown key", `"count": 3`, `"cuont": 3`, "unknown key `cuont`"},
		{"text for a number", `"count": 3`, `"count": "x"`, "`calls.count` cannot be a string"},
		{"a number below zero", `"count": 3`, `"count": -3`, "`calls.count` cannot be a number -3"},
		{"a list", good.String(), "[]", "line 1: here is no place for array"},
		{"a time", `"runs": [
  {`, `"runs": [
  {
   "started": "yesterday",`, "`yesterday` is no time"},
		{"arguments without values", `"values": [
     [
      "0x0"
     ]
    ]`, `"values": []`, "args: there are no values"},
		{"twice", `"name": "read",
   "number": 0`, `"name": "openat",
   "number": 257`, "calls[1] (openat): is there twice"},
		{"run that is not there", `"run": "a"`, `"run": "b"`, "run that is not in the file"},
		{"argument index", `"indexes": [
     2`, `"indexes": [
     6`, "index 6"},
		{"argument value", `"0x0"`, `"0x100000000"`, "does not fit 32 bits"},
		{"argument text", `"0x0"`, `"zero"`, "not a number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(good.String(), tt.old, tt.new, 1)
			if text == good.String() {
				t.Fatalf("the test does not change the file:\n%s", text)
			}
			_, err := Read(strings.NewReader(text), "f.profile")
			var fe *FileError
			if !errors.As(err, &fe) {
				t.Fatalf("error %v, want a FileError", err)
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "f.profile") {
				t.Errorf("error %q, want it to say %q", err, tt.want)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	a := sample("a", call(X8664, "read", 10, "a"), call(X8664, "openat", 1, "a"))
	b := sample("b", call(X8664, "read", 5, "b"), call(X8664, "mkdir", 1, "b"))
	a.Calls[0].Threads, b.Calls[0].Threads = []string{"x"}, []string{"y", "x"}
	a.Calls[0].Args = &ArgSet{Indexes: []int{0}, Bits: []int{32}, Values: [][]Hex{{1}}}
	b.Calls[0].Args = &ArgSet{Indexes: []int{0}, Bits: []int{32}, Values: [][]Hex{{2}, {1}}}
	m, err := Merge(a, b, a) // the same recording twice counts once
	if err != nil {
		t.Fatal(err)
	}
	read := m.Find(X8664, 0)
	if read.Count != 15 || len(read.Runs) != 2 || !slices.Equal(read.Threads, []string{"x", "y"}) {
		t.Errorf("read: %+v", read)
	}
	if got := read.Args.String(); got != "(arg0=0x1) (arg0=0x2)" {
		t.Errorf("arguments %s", got)
	}
	if len(m.Calls) != 3 || len(m.Runs) != 2 {
		t.Errorf("%d calls, %d runs", len(m.Calls), len(m.Runs))
	}
	if len(a.Calls[0].Args.Values) != 1 {
		t.Error("merging changed its input")
	}
	only := m.OnlyIn()
	if len(only["a"]) != 1 || only["a"][0].Name != "openat" || len(only["b"]) != 1 {
		t.Errorf("only: %v", only)
	}
	u := m.Unseen()
	if u.Once != 2 || u.Twice != 1 || u.Missing <= 0 {
		t.Errorf("unseen %+v", u)
	}
	if _, err := Merge(a, &Profile{ABI: AArch64}); err == nil {
		t.Error("profiles of two machines were merged")
	}
	// A run that did not look at arguments says that any may come.
	c := sample("c", call(X8664, "read", 1, "c"))
	if m, err = Merge(a, c); err != nil || m.Find(X8664, 0).Args != nil {
		t.Errorf("still restricted: %v %v", m.Find(X8664, 0).Args, err)
	}
}

func TestDiff(t *testing.T) {
	a := sample("a", call(X8664, "read", 1, "a"), call(X8664, "openat", 1, "a"), call(X8664, "socket", 1, "a"))
	b := sample("b", call(X8664, "read", 9, "b"), call(X8664, "mkdir", 1, "b"), call(X8664, "socket", 1, "b"))
	a.Calls[2].Args = &ArgSet{Indexes: []int{0}, Bits: []int{32}, Values: [][]Hex{{1}}}
	b.Calls[2].Args = &ArgSet{Indexes: []int{0}, Bits: []int{32}, Values: [][]Hex{{2}}}
	var got []string
	for _, d := range Diff(a, b) {
		got = append(got, d.Call.Name+" "+[]string{"added", "removed", "args"}[d.Kind]+" "+d.Text)
	}
	want := []string{"mkdir added ", "openat removed ", "socket args +(arg0=0x2) -(arg0=0x1)"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLint(t *testing.T) {
	p := sample("a", call(X8664, "ptrace", 1, "a"), call(X8664, "io_uring_setup", 1, "a"), call(X86, "getpid", 1, "a"))
	var text strings.Builder
	for _, f := range p.Lint() {
		text.WriteString(f.String() + "\n")
	}
	for _, want := range []string{"execve: was not seen", "one run only", "ptrace: reaches into other processes", "io_uring_setup: operations", "getpid (x86): is a call of another ABI"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	if fs := New(X8664, "", "").Lint(); len(fs) != 1 || fs[0].Severity != SeverityError {
		t.Errorf("an empty profile: %v", fs)
	}
	for _, r := range risky {
		for _, n := range strings.Fields(r.names) {
			if !exists(X8664.Family(), n) {
				t.Errorf("the table of risky calls names %s, which does not exist", n)
			}
		}
	}
}

func TestShow(t *testing.T) {
	m, err := Merge(sample("a", call(X8664, "read", 10, "a")), sample("b", call(X8664, "read", 1, "b"), call(X8664, "mkdir", 1, "b")))
	if err != nil {
		t.Fatal(err)
	}
	m.Denials = []Denial{{ABI: X8664, Name: "ptrace", Number: 101, Count: 2, Result: -1, Thread: "gdb", Example: []Hex{0}}}
	var b bytes.Buffer
	if err := m.Show(&b, ShowOptions{Details: true}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), " \n") || strings.Contains(b.String(), "ARGUMENTS") {
		t.Errorf("blanks at the end of a line, or a column without an entry:\n%s", b.String())
	}
	for _, want := range []string{"2 calls", "read", "2/2", "seen in one run only: 1 call, in two: 1", "calls that appeared only in run 2: mkdir", "ptrace(0x0) = -1 EPERM, 2 times, thread gdb"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// TestInvocation: what a call does not take is not shown, as it is what the registers happened to hold.
func TestInvocation(t *testing.T) {
	args := []Hex{1, 2, 3, 4, 5, 6}
	for name, want := range map[string]string{
		"getuid": "getuid()", "openat": "openat(0x1, 0x2, 0x3, 0x4)", "clone3": "clone3(0x1, 0x2)", "openat2": "openat2(0x1, 0x2, 0x3, 0x4)",
		"stat": "stat(0x1, 0x2)", "syscall_9999": "syscall_9999(0x1, 0x2, 0x3, 0x4, 0x5, 0x6)", "mmap": "mmap(0x1, 0x2, 0x3, 0x4, 0x5, 0x6)",
	} {
		if got := invocation(name, name, args); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	for n, want := range map[int64]string{-1: "-1 EPERM", -38: "-1 ENOSYS", 5: "5", -5000: "-5000"} {
		if got := resultText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
