package seccomp

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestEmitPodman gives both forms to podman: it reads files as Docker's.
func TestEmitPodman(t *testing.T) {
	podman := tool(t, "podman")
	o := newRuntime(t, "runc") // its root file system; podman calls the runtime itself
	p := record(t, Options{}, tool(t, "busybox"), "ls", "/")
	base, err := RuntimeBase("runc", false)
	if err != nil {
		t.Fatal(err)
	}
	run := func(filter string, args ...string) (string, error) {
		argv := []string{
			"--cgroup-manager=cgroupfs", "--runtime", o.path, "run", "--rm", "--network=none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--pids-limit=-1",
			"--security-opt", "seccomp=" + filter, "--rootfs", filepath.Join(o.dir, "rootfs"), "/bin/busybox",
		}
		b, err := exec.Command(podman, append(argv, args...)...).CombinedOutput()
		return string(b), err
	}
	if out, err := run("unconfined", "true"); err != nil {
		t.Skipf("needs a machine on which podman starts containers: %v %s", err, out)
	}
	for _, format := range []string{"podman", "docker", "oci"} {
		t.Run(format, func(t *testing.T) {
			text, _ := emitted(t, format, mustPolicy(t, p, PolicyOptions{Base: base}), EmitOptions{Known: installedNames(t)})
			path := filepath.Join(t.TempDir(), "filter.json")
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := run(path, "ls", "/"); err != nil || !strings.Contains(out, "proc") {
				t.Errorf("%v\n%s", err, out)
			}
			if out, err := run(path, "chmod", "700", "/bin"); err == nil || !strings.Contains(out, "not permitted") {
				t.Errorf("chmod was not denied: %v\n%s", err, out)
			}
		})
	}
}

// bootMachine boots this system, in a container and on a file system that forgets what is written, and gives its root.
func bootMachine(t *testing.T, units map[string]string) string {
	t.Helper()
	nspawn := tool(t, "systemd-nspawn")
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	for _, d := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	if err := unix.Mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir="+filepath.Join(dir, "upper")+",workdir="+filepath.Join(dir, "work")); err != nil {
		t.Skipf("needs an overlay on the root file system: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	for name, text := range units {
		path := filepath.Join(root, "etc/systemd/system", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(nspawn, "-q", "--register=no", "--keep-unit", "-b", "-D", root, "--private-network", "systemd.unit=sonde-end.service")
	timer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Signal(unix.SIGTERM) })
	defer timer.Stop()
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("needs a machine that systemd-nspawn boots: %v %.2000s", err, b)
	}
	return root
}

// TestEmitSystemdEnforced boots a system whose units have our drop-in.
func TestEmitSystemdEnforced(t *testing.T) {
	tool(t, "systemd-nspawn")
	ls := tool(t, "ls")
	text, _ := emitted(t, "systemd", mustPolicy(t, record(t, Options{}, ls, "/"), PolicyOptions{}), EmitOptions{Known: installedNames(t)})
	unit := func(command, out string) string {
		return "[Service]\nType=oneshot\nExecStart=" + command + "\nStandardOutput=file:" + out + "\nStandardError=inherit\n"
	}
	root := bootMachine(t, map[string]string{
		"sonde-may.service":              unit(ls+" /", "/sonde-may.out"),
		"sonde-may.service.d/10.conf":    text,
		"sonde-maynot.service":           unit("/bin/mkdir /sonde-made", "/sonde-maynot.out"),
		"sonde-maynot.service.d/10.conf": text,
		"sonde-end.service": "[Unit]\nDefaultDependencies=no\nWants=sonde-may.service sonde-maynot.service\nAfter=sonde-may.service sonde-maynot.service\n" +
			"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'systemctl show -p Result sonde-may > /sonde-result; systemctl --no-block exit 0'\n",
	})
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Errorf("%v", err)
		}
		return string(b)
	}
	if out := read("sonde-may.out"); !strings.Contains(out, "etc\n") || !strings.Contains(read("sonde-result"), "Result=success") {
		t.Errorf("the unit did not run under its own list: %s", out)
	}
	if out := read("sonde-maynot.out"); !strings.Contains(out, "not permitted") {
		t.Errorf("mkdir was not denied: %q", out)
	}
	if _, err := os.Stat(filepath.Join(root, "sonde-made")); err == nil {
		t.Error("mkdir was not denied")
	}
}
