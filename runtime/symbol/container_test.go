package symbol

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	before := descriptors()
	code := m.Run()
	// Files that the caches dropped are closed by the garbage collector.
	for range 3 {
		runtime.GC()
	}
	if after := descriptors(); code == 0 && after > before+2 {
		fmt.Fprintf(os.Stderr, "%d descriptors before the tests, %d after\n", before, after)
		code = 1
	}
	os.Exit(code)
}

func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// A container in miniature: a program that exists only in its own mount namespace, process 1 of its own pid namespace,
// with a library and a perf map that the host does not have.
func TestContainer(t *testing.T) {
	tool(t, "unshare")
	if err := exec.Command("unshare", "-m", "-p", "--fork", "true").Run(); err != nil {
		t.Skipf("needs the right to make mount and pid namespaces: %v", err)
	}
	prog := build(t, "gcc", "prog.c", cSource, "-O1", "-static")
	dir := t.TempDir()
	script := `mount -t tmpfs none "$1" && mkdir -p "$1/tmp" "$1/lib" "$1/real" &&
cp "$2" "$1/real/app" && ln -s /real/app "$1/app" && cp "$2" "$1/real/libonly.so.1" && ln -s /real/libonly.so.1 "$1/lib/libonly.so.1" &&
echo "7000 100 jitted" > "$1/tmp/perf-1.map" && exec chroot "$1" /app`
	cmd := exec.Command("unshare", "-m", "-p", "--fork", "sh", "-c", script, "sh", dir, prog)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			in.Close()
			_ = cmd.Wait()
		}
	}
	defer stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	var visible uint64
	if _, err := fmt.Sscanf(line, "0x%x", &visible); err != nil {
		t.Fatal(line, err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
	if err != nil {
		t.Skipf("needs the list of children in /proc: %v", err)
	}
	var pid int
	if _, err := fmt.Sscan(string(children), &pid); err != nil {
		t.Fatal(err)
	}
	ns, err := Inspect(pid)
	if err != nil {
		t.Fatal(err)
	}
	if !ns.OtherMounts || ns.Inner() != 1 || ns.Root.Own() || len(ns.PIDs) != 2 {
		t.Fatalf("%+v", ns)
	}
	finder := Finder{Root: ns.Root, PID: pid}
	if got, err := finder.Find("libonly"); err != nil || got != "/lib/libonly.so.1" {
		t.Errorf("%q, %v", got, err)
	}
	host, err := ns.Root.Resolve("/app")
	if err != nil || host != filepath.Join(ns.Root.Dir, "real/app") {
		t.Errorf("%q, %v", host, err)
	}
	f, err := Open("/app", Options{Root: ns.Root})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Function("visible"); err != nil {
		t.Error(err)
	}
	s := New(Config{})
	defer s.Close()
	if _, err := s.Snapshot(pid); err != nil {
		t.Fatal(err)
	}
	if got := s.User(pid, visible); got.Name != "visible" || got.Module != "/real/app" {
		t.Errorf("%+v", got)
	}
	if got := s.User(pid, 0x7004); got.Name != "jitted" || got.Offset != 4 {
		t.Errorf("%+v", got)
	}
	stop()
	helper, err := f.Function("helper")
	if err != nil {
		t.Fatal(err)
	}
	shown, err := f.Function("visible")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.User(pid, visible-shown.Addr+helper.Addr); got.Name != "helper" {
		t.Errorf("after the container has ended: %+v", got)
	}
	if !strings.HasPrefix(f.Path(), "/app") {
		t.Errorf("path %q", f.Path())
	}
}
