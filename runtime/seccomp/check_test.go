package seccomp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// without is a copy of a profile that lacks calls.
func without(p *Profile, names ...string) *Profile {
	q := *p
	q.Calls = nil
	for _, c := range p.Calls {
		if !slices.Contains(names, c.Name) {
			q.Calls = append(q.Calls, c)
		}
	}
	return &q
}

func check(t testing.TB, p *Profile, po PolicyOptions, dry bool, command ...string) (*CheckResult, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out bytes.Buffer
	r, err := Check(ctx, CheckOptions{Policy: mustPolicy(t, p, po), Profile: p, Command: command, Stdout: &out, Stderr: &out, DryRun: dry, Stacks: true})
	if err != nil {
		t.Fatalf("check: %v: %+v\n%s", err, r, out.String())
	}
	return r, out.String()
}

func deniedNames(r *CheckResult) []string {
	var out []string
	for _, d := range r.Denials {
		out = append(out, d.Name)
	}
	return out
}

func TestCheck(t *testing.T) {
	tool(t, "ls")
	command := []string{"ls", "/"}
	p := record(t, Options{}, command...)
	t.Run("the same command is not denied anything", func(t *testing.T) {
		r, out := check(t, p, PolicyOptions{}, false, command...)
		if r.Total != 0 || r.Code != 0 || out == "" {
			t.Errorf("%+v\n%s", r, out)
		}
	})
	t.Run("a call that is missing is denied with an error", func(t *testing.T) {
		r, out := check(t, without(p, "getdents64"), PolicyOptions{}, false, command...)
		if !slices.Equal(deniedNames(r), []string{"getdents64"}) || r.Code == 0 || !strings.Contains(out, "not permitted") {
			t.Fatalf("%+v\n%s", r, out)
		}
		d := r.Denials[0]
		if d.Result != -1 || !strings.HasSuffix(d.Program, "/ls") || d.Thread != "ls" || d.PID == 0 || len(d.Example) != 6 {
			t.Errorf("%+v", d)
		}
		if len(d.Stack) == 0 || !strings.Contains(d.Stack[0], "libc") {
			t.Errorf("stack %q", d.Stack)
		}
	})
	t.Run("a dry run shows all and changes nothing", func(t *testing.T) {
		r, out := check(t, without(p, "getdents64", "openat", "write"), PolicyOptions{}, true, command...)
		names := deniedNames(r)
		slices.Sort(names)
		if !slices.Equal(names, []string{"getdents64", "openat", "write"}) || r.Code != 0 || !strings.Contains(out, "etc") {
			t.Errorf("%v %d\n%s", names, r.Code, out)
		}
	})
	t.Run("what was denied can be accepted", func(t *testing.T) {
		q := without(p, "getdents64", "write")
		r, _ := check(t, q, PolicyOptions{}, true, command...)
		diff := q.Accept(r.Denials)
		if len(diff) != 2 || diff[0].Kind != DifferenceAdded || q.findOrigin(p.ABI, diff[0].Call.Number, OriginAccepted) == nil {
			t.Fatalf("%v", diff)
		}
		if r, _ := check(t, q, PolicyOptions{}, false, command...); r.Total != 0 {
			t.Errorf("still denied: %v", r.Denials)
		}
	})
	t.Run("a command that is not there", func(t *testing.T) {
		_, err := Check(t.Context(), CheckOptions{Policy: mustPolicy(t, p, PolicyOptions{}), Command: []string{"no-such-command"}})
		var ce *CommandError
		if !errors.As(err, &ce) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a policy without execve", func(t *testing.T) {
		r, _ := check(t, without(p, "execve"), PolicyOptions{}, true, command...)
		if !slices.Equal(deniedNames(r), []string{"execve"}) || r.Code != 0 {
			t.Errorf("%+v", r)
		}
		_, err := Check(t.Context(), CheckOptions{Policy: mustPolicy(t, without(p, "execve"), PolicyOptions{}), Command: command})
		if err == nil || !strings.Contains(err.Error(), "must allow execve") {
			t.Errorf("error %v", err)
		}
	})
}

func TestCheckArguments(t *testing.T) {
	tool(t, "python3")
	script := "import socket,sys\nsocket.socket(socket.AF_INET,socket.SOCK_DGRAM)\nif len(sys.argv)>1: socket.socket(socket.AF_UNIX)"
	p := record(t, Options{Learn: true}, "python3", "-c", script)
	r, out := check(t, p, PolicyOptions{}, true, "python3", "-c", script, "x")
	if !slices.Equal(deniedNames(r), []string{"socket"}) || r.Code != 0 {
		t.Fatalf("%+v\n%s", r, out)
	}
	if diff := p.Accept(r.Denials); len(diff) != 1 || diff[0].Kind != DifferenceArgs || diff[0].Text != "+(arg0=0x1, arg1=0x80001, arg2=0x0)" {
		t.Errorf("%+v", diff)
	}
	if r, out := check(t, p, PolicyOptions{}, false, "python3", "-c", script, "x"); r.Total != 0 {
		t.Errorf("still denied: %v\n%s", r.Denials, out)
	}
}

// TestCheckBurst: none of 20,000 denials may be lost.
func TestCheckBurst(t *testing.T) {
	tool(t, "gcc")
	burst := compileC(t, t.TempDir(), "burst", `
#include <pthread.h>
#include <unistd.h>
#include <sys/syscall.h>
static void *work(void *a) { for (int i = 0; i < 5000; i++) syscall(SYS_getppid); return 0; }
int main(void) {
	pthread_t t[4];
	for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, work, 0);
	for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
	return 0;
}`, "-pthread")
	p := without(record(t, Options{}, burst), "getppid")
	r, _ := check(t, p, PolicyOptions{}, true, burst)
	if r.Total != 20000 || len(r.Denials) != 1 || r.Denials[0].Count != 20000 || r.Code != 0 {
		t.Errorf("%+v", r)
	}
}

// TestRecordDenials: the recorder sees denied calls by their exit without an enter.
func TestRecordDenials(t *testing.T) {
	tool(t, "sh")
	command := []string{"sh", "-c", "umask 022; mkdir /tmp/sonde-denied-$$ 2>/dev/null; (mkdir /tmp/x-$$ 2>/dev/null); true"}
	p := record(t, Options{}, command...)
	code, err := Compile(mustPolicy(t, without(p, "mkdir"), PolicyOptions{Default: Action{ActionErrno, 13}}))
	if err != nil {
		t.Fatal(err)
	}
	q := record(t, Options{Filter: &LaunchFilter{Program: Bytes(code)}}, command...)
	if len(q.Denials) == 0 { // mkdir also fails to say that it failed
		t.Fatal("no denial")
	}
	d := q.Denials[0]
	if d.Name != "mkdir" || d.Count != 2 || d.Result != -13 || !strings.HasSuffix(d.Program, "/mkdir") || d.Thread != "mkdir" {
		t.Errorf("%+v", d)
	}
	if count(q, q.ABI, "mkdir") != 0 || count(q, q.ABI, "execve") != count(p, p.ABI, "execve") {
		t.Errorf("mkdir %d, execve %d", count(q, q.ABI, "mkdir"), count(q, q.ABI, "execve"))
	}
}

func TestEnforce(t *testing.T) {
	tool(t, "sh")
	command := []string{"sh", "-c", "umask 022; cd / || exit 2; exit 5"}
	p := record(t, Options{}, command...)
	for _, tt := range []struct {
		name    string
		missing string
		action  Action
		code    int
	}{
		{"nothing missing", "", EPERM, 5},
		{"an error", "chdir", EPERM, 2},
		{"kill", "chdir", Kill, 128 + 31},
		{"log", "chdir", Log, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pol := mustPolicy(t, without(p, tt.missing), PolicyOptions{Default: tt.action})
			code, exit, err := Enforce(t.Context(), pol, Options{Command: command, Stdout: io.Discard, Stderr: io.Discard})
			if err != nil {
				t.Fatal(err)
			}
			if code != tt.code {
				t.Errorf("exit code %d (%s), want %d", code, exit, tt.code)
			}
		})
	}
}

// sourceStranger makes a call that no workload makes and that has no effect, setdomainname with a wrong length, and nothing else.
const sourceStranger = `
void _start(void) {
#ifdef __x86_64__
	__asm__ volatile("xor %edi, %edi; mov $-1, %rsi; mov $171, %eax; syscall; mov $231, %eax; xor %edi, %edi; syscall");
#else
	__asm__ volatile("mov x0, #0; mov x1, #-1; mov x8, #162; svc #0; mov x8, #94; mov x0, #0; svc #0");
#endif
	for (;;);
}
`

// TestReplay runs every workload under its own profile, merged from some runs: nothing may be denied. A call that it does not
// make is.
func TestReplay(t *testing.T) {
	var strangers []string
	if have("gcc") {
		strangers = append(strangers, compileC(t, t.TempDir(), "stranger", sourceStranger, "-static", "-nostdlib"))
	}
	var sizes []int
	for _, w := range workloads(t) {
		t.Run(w.name, func(t *testing.T) {
			var runs []*Profile
			for range 3 {
				runs = append(runs, record(t, Options{}, w.command...))
			}
			p, err := Merge(runs...)
			if err != nil {
				t.Fatal(err)
			}
			pol := mustPolicy(t, p, PolicyOptions{})
			sizes = append(sizes, pol.Allowed(p.ABI))
			t.Logf("%d calls recorded, %d allowed, estimate of unseen %.1f", len(p.Calls), pol.Allowed(p.ABI), p.Unseen().Missing)
			for i := range *launches {
				r, out := check(t, p, PolicyOptions{}, false, w.command...)
				if r.Total != 0 || r.Code != 0 {
					t.Fatalf("replay %d: exit %q, denied %+v\n%s", i, r.Exit, r.Denials, out)
				}
			}
			for _, s := range strangers {
				if r, _ := check(t, p, PolicyOptions{}, false, s); !slices.Equal(deniedNames(r), []string{"setdomainname"}) {
					t.Errorf("another program's call was not denied: %+v", r)
				}
			}
		})
	}
	slices.Sort(sizes)
	if n := len(sizes); n >= 5 && sizes[n/2] > 70 {
		t.Errorf("the median profile allows %d calls, want at most 70: %v", sizes[n/2], sizes)
	}
}
