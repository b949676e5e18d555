package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/kernel/needs"
)

// filterProbes are probes of every kind that a process of the test triggers by asking for its parent's number.
var filterProbes = []struct{ probe, feature string }{
	{"tracepoint:syscalls:sys_enter_getppid", ""},
	{"rawtracepoint:sys_enter", ""},
	{"syscall:getppid", ""},
	{"syscall:getppid:return", ""},
	{"software:page-faults:1", ""},
	{"kprobe:vfs_read", kernel.FeatureKprobes},
	{"fentry:vfs_read", kernel.FeatureFentry},
	{"lsm:file_open", kernel.FeatureLSMActive},
	{"uprobe:/proc/self/exe:os.ReadFile", ""},
}

// work does what the probes see.
func filterWork() {
	for range 20 {
		unix.Getppid()
		_, _ = os.ReadFile("/proc/self/stat")
		if b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err == nil {
			b[0] = 1
			_ = unix.Munmap(b)
		}
	}
}

// TestKernelFilters runs each kind of probe with a filter that this process passes, and with one that it does not.
func TestKernelFilters(t *testing.T) {
	k := openKernel(t)
	root, err := k.CgroupMount()
	if err != nil {
		t.Skip("needs version 2 control groups: ", err)
	}
	own, err := k.ProcessCgroup(0)
	if err != nil {
		t.Fatal(err)
	}
	group := filepath.Join(root, own, fmt.Sprintf("sonde-test-%d", os.Getpid()))
	inside, outside := filepath.Join(group, "inside"), filepath.Join(group, "outside")
	enter := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o600)
	}
	for _, d := range []string{group, inside, outside} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Skip("needs to make control groups: ", err)
		}
	}
	if err := enter(inside); err != nil {
		t.Skip("needs to change the control group: ", err)
	}
	t.Cleanup(func() {
		if err := enter(filepath.Join(root, own)); err != nil {
			t.Log(err)
		}
		for _, d := range []string{inside, outside, group} {
			_ = os.Remove(d)
		}
	})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	comm := filepath.Base(exe)
	comm = comm[:min(len(comm), 5)] + "*"
	filters := []struct {
		name string
		args []string
		pass bool
	}{
		{"in the group", []string{"--cgroup", inside}, true},
		{"in a group below", []string{"--cgroup", strings.TrimPrefix(group, root)}, true},
		{"in another group", []string{"--cgroup", outside}, false},
		{"name", []string{"--comm", comm}, true},
		{"another name", []string{"--comm", "no-such-name"}, false},
		{"own process", []string{"-p", strconv.Itoa(os.Getpid())}, true},
		{"descendant", []string{"-p", strconv.Itoa(os.Getppid()), "--children"}, true},
		{"no descendant", []string{"-p", strconv.Itoa(otherProcess(t)), "--children"}, false},
	}
	for _, f := range filters {
		for _, p := range filterProbes {
			t.Run(f.name+"/"+p.probe, func(t *testing.T) {
				if p.feature != "" && !k.Features().Has(p.feature) {
					t.Skip("needs " + p.feature)
				}
				if f.name == "descendant" && os.Getppid() <= 1 {
					t.Skip("needs a parent other than init")
				}
				probe := strings.ReplaceAll(p.probe, "/proc/self/exe", exe)
				out, errs, code := beside(t, append(f.args, "-e", probe+` { @[pid] = count(); }`), filterWork)
				hit := regexp.MustCompile(fmt.Sprintf(`(?m)^@\[%d\]: \d`, os.Getpid())).MatchString(out)
				if code != 0 || hit != f.pass {
					t.Errorf("status %d, seen %v, want %v\n%s%s", code, hit, f.pass, out, errs)
				}
				if others := strings.Count(out, "@["); !hit && others > 0 && !strings.HasPrefix(f.name, "no desc") {
					t.Errorf("the filter lets other processes through:\n%s", out)
				}
			})
		}
	}
}

// otherProcess starts a process that does nothing and has no children.
func otherProcess(t *testing.T) int {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestWaitForInput$")
	cmd.Env = append(os.Environ(), "SONDE_TEST_WAIT=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// TestWaitForInput is the process that otherProcess starts.
func TestWaitForInput(*testing.T) {
	if os.Getenv("SONDE_TEST_WAIT") != "" {
		_, _ = os.Stdin.Read(make([]byte, 1))
	}
}

func TestFilterErrors(t *testing.T) {
	openKernel(t)
	cases := []struct {
		args []string
		want string
		code int
	}{
		{[]string{"--children"}, "--children needs -p PID or -c COMMAND", exitUsage},
		{[]string{"--children", "-p", "4194303"}, "there is no process 4194303", exitUser},
		{[]string{"--cgroup", "/a", "--pod", "b"}, "cannot be used together", exitUsage},
		{[]string{"--cgroup", "/no/such/group"}, "there is no control group `/no/such/group`", exitUser},
		{[]string{"--container", "no-such-container"}, "there is no container `no-such-container`", exitUser},
		{[]string{"--pod", "no-such-pod"}, "there is no pod `no-such-pod`", exitUser},
		{[]string{"--comm", "a-name-that-is-too-long"}, "is longer than the 15 characters", exitUser},
	}
	for _, c := range cases {
		var out, errs bytes.Buffer
		code := run(context.Background(), append(append([]string{"sonde"}, c.args...), "-e", "BEGIN { }"), stdio{strings.NewReader(""), &out, &errs})
		if code != c.code || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%q: status %d, want %d\n%s", c.args, code, c.code, errs.String())
		}
	}
}

// TestPromptFilters gives filters on the command line of a session, changes them and saves them.
func TestPromptFilters(t *testing.T) {
	needs.BPF(t)
	file := filepath.Join(t.TempDir(), "saved.bt")
	const probe = "rawtracepoint:sys_enter { @[comm] = count() }"
	session := func(lines []string, args ...string) string {
		var o, e bytes.Buffer
		run(t.Context(), append([]string{"sonde"}, args...), stdio{strings.NewReader(strings.Join(lines, "\n") + "\n"), &o, &e})
		return o.String() + e.String()
	}
	self := strconv.Itoa(os.Getpid())
	got := session([]string{
		probe, `\filter`, `\filter off`, `\filter pid ` + self + " children", probe, `\filter comm`, `\filter nosuch x`, `\filter cgroup /no/such/group`,
		`\filter pid 4000000`, `\filter children`, `\filter`, `\explain #1`, `\detach #1`, `\attach #1`, `\detach #1`, `\save ` + file,
	}, "--comm", "nobody*")
	for _, want := range []string{
		"#1 attached 1 probe by BTF raw tracepoint for --comm 'nobody*' in ", "items that follow see only: --comm 'nobody*'\n", "items that follow see all processes\n",
		"items that follow see only: -p " + self + " --children\n", "for -p " + self + " --children in ", "ERROR: flag needs an argument: --comm\nHINT: write `\\filter comm NAME`",
		"ERROR: `nosuch` is no filter\nHINT: write", "ERROR: there is no control group `/no/such/group`\n", "ERROR: there is no process 4000000\nHINT: `ps -e`",
		"ERROR: --children needs pid N\n", "native instructions", "saved 1 item",
	} {
		if !strings.Contains(strings.ReplaceAll(got, "by raw", "by BTF raw"), want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if n := strings.Count(got, "for --comm 'nobody*' in"); n != 2 {
		t.Errorf("attached again, #1 has lost its filter:\n%s", got)
	}
	b, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(b), "#!/usr/bin/env -S sonde -p "+self+" --children\n") {
		t.Errorf("saved: %v\n%s", err, b)
	}
	// The filter works: nobody has such a name, and this process is seen.
	if got := session([]string{probe, `\sleep 0.1`, "@"}, "--comm", "nobody*"); strings.Contains(got, "@[") && !strings.Contains(got, "#1 attached") || strings.Contains(got, "]: ") {
		t.Errorf("the filter lets through\n%s", got)
	}
	if got := session([]string{"rawtracepoint:sys_enter { @[pid] = count() }", `\sleep 0.1`, "@"}, "-p", self); !strings.Contains(got, "@["+self+"]: ") || strings.Count(got, "]: ") != 1 {
		t.Errorf("the filter by process shows\n%s", got)
	}
	if got := session(nil, "-p", "4000000"); !strings.Contains(got, "there is no process 4000000") {
		t.Errorf("a process that does not exist: %s", got)
	}
}
