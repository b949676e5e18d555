package seccomp

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ociRuntime is a container runtime with a bundle of one program.
type ociRuntime struct {
	name, path, dir string
	count           int
}

// runtimes skips where a runtime is missing or starts no containers here.
func newRuntime(t testing.TB, name string) *ociRuntime {
	t.Helper()
	busybox := tool(t, "busybox")
	o := &ociRuntime{name: name, path: tool(t, name), dir: t.TempDir()}
	if name == "crun" {
		// Its own mount of the second version of cgroups is all that it can use on a machine that has both.
		if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
			t.Skipf("needs the right to make mount namespaces: %v %s", err, out)
		}
		script := "#!/bin/sh\nexec unshare -m sh -c 'mount -t cgroup2 none /sys/fs/cgroup && exec " + o.path + " \"$@\"' crun \"$@\"\n"
		o.path = filepath.Join(o.dir, "crun")
		if err := os.WriteFile(o.path, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(o.dir, "rootfs", "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.dir, "rootfs", "bin", "busybox"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	o.configure(t, true, "", "true")
	if out, err := o.run(t); err != nil {
		t.Skipf("needs a machine on which %s starts containers: %v %s", name, err, out)
	}
	return o
}

// configure writes the bundle's configuration.
func (o *ociRuntime) configure(t testing.TB, noNewPrivs bool, filter string, args ...string) {
	t.Helper()
	path := filepath.Join(o.dir, "config.json")
	_ = os.Remove(path)
	spec := exec.Command(o.path, "spec")
	spec.Dir = o.dir
	if b, err := spec.CombinedOutput(); err != nil {
		t.Fatalf("%s spec: %v %s", o.name, err, b)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	process, linux := c["process"].(map[string]any), c["linux"].(map[string]any)
	process["terminal"], process["args"], process["noNewPrivileges"] = false, append([]string{"/bin/busybox"}, args...), noNewPrivs
	delete(process, "rlimits")
	delete(linux, "resources")
	delete(linux, "seccomp")
	if filter != "" {
		linux["seccomp"] = json.RawMessage(filter)
	}
	if b, err = json.Marshal(c); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (o *ociRuntime) id() string {
	o.count++
	return fmt.Sprintf("sonde-test-%d-%d", os.Getpid(), o.count)
}

func (o *ociRuntime) run(t testing.TB) (string, error) {
	t.Helper()
	cmd := exec.Command(o.path, "run", "--bundle", o.dir, o.id())
	cmd.Dir = o.dir
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// recordParked records the configured container.
func (o *ociRuntime) recordParked(t testing.TB, opts Options) (*Profile, string) {
	t.Helper()
	out, err := os.Create(filepath.Join(o.dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	id := o.id()
	opts.Create, opts.Stdout, opts.Stderr = []string{o.path, "create", "--bundle", o.dir, id}, out, out
	r := startRecording(t, opts)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.Wait(ctx); err != nil {
		t.Fatalf("wait: %v", err)
	}
	p, err := r.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if b, err := exec.Command(o.path, "state", id).CombinedOutput(); err == nil {
		t.Errorf("the container is still there: %s", b)
	}
	b, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return p, string(b)
}

func TestRecordContainer(t *testing.T) {
	for _, name := range []string{"runc", "crun"} {
		t.Run(name, func(t *testing.T) {
			o := newRuntime(t, name)
			o.configure(t, true, "", "sh", "-c", "umask 022; busybox ls / | busybox cat")
			p, out := o.recordParked(t, Options{Learn: true})
			if !strings.Contains(out, "proc") {
				t.Errorf("output %q", out)
			}
			run := p.Runs[0]
			if run.Runtime == nil || run.Runtime.Name != name || !run.Runtime.NoNewPrivileges || run.Runtime.Version == "" || run.Tasks < 3 {
				t.Errorf("run %+v %+v", run, run.Runtime)
			}
			// The program's own execve is the first call; the shell starts two more.
			if n := count(p, p.ABI, "execve"); n != 3 {
				t.Errorf("%d execve, want 3", n)
			}
			for _, c := range []string{"umask", "getdents64", "pipe2", "write", "exit_group"} {
				if count(p, p.ABI, c) == 0 && (c != "pipe2" || count(p, p.ABI, "pipe") == 0) {
					t.Errorf("%s is missing", c)
				}
			}
			runtimeCalls := 0
			for _, c := range p.Calls {
				if c.Origin == OriginRuntime {
					runtimeCalls++
					if slices.Contains(c.Threads, "busybox") || slices.Contains(c.Threads, "sh") {
						t.Errorf("%s of the runtime was made by %v", c.Name, c.Threads)
					}
				}
			}
			if name == "runc" && runtimeCalls < 3 {
				t.Errorf("%d calls of the runtime, want those that open and close the way to the start", runtimeCalls)
			}
			if p.Runtime() == nil || p.Unseen().Samples != 1 {
				t.Errorf("runtime %v, samples %d", p.Runtime(), p.Unseen().Samples)
			}
		})
	}
}

func TestRecordContainerRefuses(t *testing.T) {
	k := testKernel(t)
	for _, tt := range []struct {
		create []string
		want   string
	}{
		{[]string{"runc", "run", "x"}, "is not a command that creates"},
		{[]string{"runc", "create"}, "is not a command that creates"},
		{[]string{"no-such-runtime", "create", "x"}, "no-such-runtime"},
		{[]string{"false", "create", "x"}, "the container was not created: exit status 1"},
		{[]string{"true", "create", "x"}, "the runtime says"},
	} {
		r, err := Start(Options{Kernel: k, Create: tt.create})
		if err == nil {
			_ = r.Close()
			t.Fatalf("%v: accepted", tt.create)
		}
		if !strings.Contains(err.Error(), tt.want) && !strings.Contains(err.Error(), "needs root") {
			t.Errorf("%v: error %q, want it to say %q", tt.create, err, tt.want)
		}
	}
}

// containerStarts is how often a container is started under its profile; the goal of the project is 300, which make soak asks for.
func containerStarts() int {
	if os.Getenv("SONDE_SOAK") != "" {
		return 300
	}
	return max(*launches, 5)
}

// TestContainerStarts: a container that is recorded once starts each time under its own profile, and cannot do more.
func TestContainerStarts(t *testing.T) {
	for _, name := range []string{"runc", "crun"} {
		for _, nnp := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, no_new_privs %v", name, nnp), func(t *testing.T) {
				o := newRuntime(t, name)
				o.configure(t, nnp, "", "ls", "/")
				p, _ := o.recordParked(t, Options{})
				base, err := p.RuntimeBase(name, nnp)
				if err != nil {
					t.Fatal(err)
				}
				pol := mustPolicy(t, p, PolicyOptions{Base: base})
				text, _ := emitted(t, "oci", pol, EmitOptions{Known: installedNames(t)})
				o.configure(t, nnp, text, "ls", "/")
				n := containerStarts()
				for i := range n {
					if out, err := o.run(t); err != nil || !strings.Contains(out, "proc") {
						t.Fatalf("start %d of %d: %v\n%s", i+1, n, err, out)
					}
				}
				o.configure(t, nnp, text, "chmod", "700", "/bin")
				if out, err := o.run(t); err == nil || !strings.Contains(out, "not permitted") {
					t.Errorf("chmod was not denied: %v\n%s", err, out)
				}
				t.Logf("%d of %d starts, %d calls allowed", n, n, pol.Allowed(p.ABI))
			})
		}
	}
}
