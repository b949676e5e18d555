package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestContainers finds containers of several tools in a made-up tree.
func TestContainers(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := func(path string) { write(path+"/cgroup.procs", "") }
	a, b, c := strings.Repeat("a1", 32), strings.Repeat("b2", 32), strings.Repeat("b3", 32)
	write("proc/self/mountinfo", "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	dir("sys/fs/cgroup/system.slice/docker-" + a + ".scope")
	dir("sys/fs/cgroup/machine.slice/libpod-" + b + ".scope/container")
	dir("sys/fs/cgroup/machine.slice/machine-web\\x2d1.scope")
	dir("sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod01234567_89ab_cdef_0123_456789abcdef.slice/cri-containerd-" + c + ".scope")
	dir("sys/fs/cgroup/user.slice")
	write("var/lib/docker/containers/"+a+"/config.v2.json", `{"ID":"`+a+`","Name":"/db"}`)
	write("var/lib/containers/storage/overlay-containers/containers.json", `[{"id":"`+b+`","names":["cache"]}]`)
	write("var/log/pods/default_front_01234567-89ab-cdef-0123-456789abcdef/x", "")
	dir("sys/fs/cgroup/mine")
	write("run/runc/box/state.json", `{"id":"box","init_process_pid":71}`)
	write("run/crun/crate/status", `{"pid":72,"cgroup-path":""}`)
	write("proc/71/cgroup", "3:cpu:/other\n0::/mine\n")
	write("proc/72/cgroup", "0::/\n")
	k, err := Open(Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	cases := []struct {
		want string
		pod  bool
		path string
	}{
		{"db", false, "/system.slice/docker-" + a + ".scope"},
		{a[:12], false, "/system.slice/docker-" + a + ".scope"},
		{"cache", false, "/machine.slice/libpod-" + b + ".scope"},
		{b, false, "/machine.slice/libpod-" + b + ".scope"},
		{"web-1", false, "/machine.slice/machine-web\\x2d1.scope"},
		{"box", false, "/mine"},
		{"front", true, "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod01234567_89ab_cdef_0123_456789abcdef.slice"},
		{"01234567", true, "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod01234567_89ab_cdef_0123_456789abcdef.slice"},
	}
	for _, tc := range cases {
		got, _, err := k.FindContainer(tc.want, tc.pod)
		if err != nil || got.Path != tc.path {
			t.Errorf("%s: %+v, %v; want %s", tc.want, got, err, tc.path)
		}
	}
	if _, names, err := k.FindContainer("front", false); err == nil || len(names) != 7 {
		t.Errorf("a pod is no container: %v, %v", names, err)
	}
	g, err := k.Cgroup("/machine.slice")
	if err != nil || g.Path != "/machine.slice" || len(g.Members) != 4 {
		t.Errorf("control group: %+v, %v", g, err)
	}
	if _, err := k.Cgroup("/none"); err == nil {
		t.Error("a control group that does not exist was found")
	}
}
