package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// Cgroup is a version 2 control group as programs tell its tasks.
type Cgroup struct {
	Path  string // below the mount
	ID    uint64
	Level int // 0 for the root of all; -1 when a namespace hides how deep the group lies
	// Members are the ids of the group and of those below it, at most MaxMembers, for kernels without a helper that knows ancestors.
	Members []uint64
}

// MaxMembers limits Cgroup.Members.
const MaxMembers = 64

// initCgroupInode is the inode of the first cgroup namespace (PROC_CGROUP_INIT_INO).
const initCgroupInode = 0xEFFFFFFB

// Cgroup finds a control group by its path: absolute in the file system, or below the mount of version 2.
func (k *Kernel) Cgroup(path string) (Cgroup, error) {
	root, err := k.CgroupMount()
	if err != nil {
		return Cgroup{}, err
	}
	full := filepath.Clean(path)
	if full != root && !strings.HasPrefix(full, root+"/") {
		full = filepath.Join(root, path)
	}
	st, err := os.Stat(k.Path(full))
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is no directory: %w", full, fs.ErrNotExist)
	}
	if err != nil {
		return Cgroup{}, fmt.Errorf("control group: %w", err)
	}
	id, err := k.CgroupID(full)
	if err != nil {
		return Cgroup{}, err
	}
	c := Cgroup{Path: below(root, full), ID: id, Level: -1}
	if ns, err := os.Stat(k.Path("/proc/self/ns/cgroup")); err == nil && inode(ns) == initCgroupInode {
		c.Level = strings.Count(strings.Trim(c.Path, "/"), "/") + 1
		if c.Path == "/" {
			c.Level = 0
		}
	}
	_ = filepath.WalkDir(k.Path(full), func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil //nolint:nilerr // a group that vanishes meanwhile has no tasks
		}
		if info, err := d.Info(); err == nil {
			c.Members = append(c.Members, inode(info))
		}
		if len(c.Members) == MaxMembers {
			return fs.SkipAll
		}
		return nil
	})
	return c, nil
}

// CgroupNames lists the paths of the control groups, for suggestions.
func (k *Kernel) CgroupNames() []string {
	root, err := k.CgroupMount()
	if err != nil {
		return nil
	}
	var out []string
	_ = filepath.WalkDir(k.Path(root), func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			out = append(out, below(k.Path(root), p))
		}
		return nil
	})
	return out
}

func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// Container is a container, or a pod, that has a control group of its own.
type Container struct {
	ID   string // of a pod: its UID
	Name string // "" when it is not known
	Path string // of its control group, below the mount
	Pod  bool
}

var (
	containerDir = regexp.MustCompile(`^(?:(?:docker|libpod|cri-containerd|crio|nerdctl)-)?([0-9a-f]{64})(?:\.scope)?$`)
	machineDir   = regexp.MustCompile(`^(?:machine-|lxc\.payload\.|lxc\.)([^/]+?)(?:\.scope)?$`)
	podDir       = regexp.MustCompile(`^(?:kubepods(?:-burstable|-besteffort)?-)?pod([0-9a-f]{8}[-_0-9a-f]{28})(?:\.slice)?$`)
)

// Containers lists the containers and pods that the tree of version 2 control groups shows.
func (k *Kernel) Containers() []Container {
	names := k.containerNames()
	var out []Container
	for _, path := range k.CgroupNames() {
		dir := filepath.Base(path)
		switch {
		case containerDir.MatchString(dir):
			id := containerDir.FindStringSubmatch(dir)[1]
			out = append(out, Container{ID: id, Name: names[id], Path: path})
		case machineDir.MatchString(dir):
			name := unescapeUnit(machineDir.FindStringSubmatch(dir)[1])
			out = append(out, Container{ID: name, Name: name, Path: path})
		case podDir.MatchString(dir):
			uid := strings.ReplaceAll(podDir.FindStringSubmatch(dir)[1], "_", "-")
			out = append(out, Container{ID: uid, Name: names["pod "+uid], Path: path, Pod: true})
		}
	}
	for _, c := range k.runtimeContainers() {
		if !slices.ContainsFunc(out, func(o Container) bool { return o.Path == c.Path }) {
			out = append(out, c)
		}
	}
	return out
}

// runtimeContainers lists the containers of runc and crun, whose groups may have any name, by the state that they keep.
func (k *Kernel) runtimeContainers() []Container {
	var out []Container
	for _, pattern := range []string{"/run/runc/*/state.json", "/run/crun/*/status"} {
		files, _ := filepath.Glob(k.Path(pattern))
		for _, path := range files {
			var state struct {
				PID     int `json:"pid"`              // crun
				InitPID int `json:"init_process_pid"` // runc
			}
			b, err := os.ReadFile(path)
			pid := 0
			if err == nil && json.Unmarshal(b, &state) == nil {
				pid = max(state.PID, state.InitPID)
			}
			if pid == 0 {
				continue
			}
			group, err := k.ProcessCgroup(pid)
			if err != nil || strings.Trim(group, "/") == "" { // none of its own
				continue
			}
			name := filepath.Base(filepath.Dir(path))
			out = append(out, Container{ID: name, Name: name, Path: group})
		}
	}
	return out
}

// unescapeUnit undoes systemd's escape of a hyphen.
func unescapeUnit(name string) string { return strings.ReplaceAll(name, `\x2d`, "-") }

// containerNames reads the names that docker, podman and the kubelet have for ids.
func (k *Kernel) containerNames() map[string]string {
	names := map[string]string{}
	configs, _ := filepath.Glob(k.Path("/var/lib/docker/containers/*/config.v2.json"))
	for _, path := range configs {
		var c struct{ ID, Name string }
		if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &c) == nil {
			names[c.ID] = strings.TrimPrefix(c.Name, "/")
		}
	}
	stores, _ := filepath.Glob(k.Path("/var/lib/containers/storage/*-containers/containers.json"))
	for _, path := range stores {
		var list []struct {
			ID    string   `json:"id"`
			Names []string `json:"names"`
		}
		if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &list) == nil {
			for _, c := range list {
				if len(c.Names) > 0 {
					names[c.ID] = c.Names[0]
				}
			}
		}
	}
	pods, _ := os.ReadDir(k.Path("/var/log/pods")) // NAMESPACE_NAME_UID
	for _, p := range pods {
		if f := strings.Split(p.Name(), "_"); len(f) == 3 {
			names["pod "+f[2]] = f[1]
		}
	}
	return names
}

// ErrNoContainer says that no container of that name or id has a control group.
var ErrNoContainer = errors.New("no such container")

// FindContainer finds a container, or a pod, by its name or the start of its id. Names lists the names and short ids that exist when there is none.
func (k *Kernel) FindContainer(want string, pod bool) (c Container, names []string, err error) {
	var found []Container
	for _, c := range k.Containers() {
		if c.Pod != pod {
			continue
		}
		short := c.ID[:min(12, len(c.ID))]
		names = append(names, short)
		if c.Name != "" {
			names = append(names, c.Name)
		}
		if c.ID == want || c.Name == want {
			return c, nil, nil
		}
		if len(want) >= 4 && strings.HasPrefix(c.ID, want) {
			found = append(found, c)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	switch len(found) {
	case 1:
		return found[0], nil, nil
	case 0:
		return Container{}, names, ErrNoContainer
	}
	return Container{}, names, fmt.Errorf("%d containers have ids that start with %s", len(found), want)
}
