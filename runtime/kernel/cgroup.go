package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one line of /proc/self/mountinfo.
type Mount struct {
	Dir     string // where it is mounted
	Root    string // which part of the file system is mounted there
	Type    string
	Options string // of the file system, for example the controllers of a version 1 cgroup
}

// Mounts lists what this process sees mounted, read once.
func (k *Kernel) Mounts() ([]Mount, error) { return k.mounts() }

func (k *Kernel) readMounts() ([]Mount, error) {
	b, err := k.read("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	return parseMountinfo(string(b)), nil
}

// parseMountinfo reads "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue".
func parseMountinfo(text string) []Mount {
	var out []Mount
	for line := range strings.Lines(text) {
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 1 {
			continue
		}
		m := Mount{Root: unescapeMount(l[3]), Dir: unescapeMount(l[4]), Type: r[0]}
		if len(r) > 2 {
			m.Options = r[2]
		}
		out = append(out, m)
	}
	return out
}

// unescapeMount undoes the kernel's octal escapes for space, tab, newline and backslash.
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// CgroupMount is where cgroups of version 2 are mounted: the root of the paths that CgroupPath gives. On a mixed machine that
// is often /sys/fs/cgroup/unified.
func (k *Kernel) CgroupMount() (string, error) {
	ms, err := k.Mounts()
	if err != nil {
		return "", err
	}
	for _, m := range ms {
		if m.Type == "cgroup2" {
			return m.Dir, nil
		}
	}
	return "", fmt.Errorf("no cgroup2 file system is mounted: %w", fs.ErrNotExist)
}

// CgroupMounts lists all cgroup mounts, version 2 first.
func (k *Kernel) CgroupMounts() ([]Mount, error) {
	ms, err := k.Mounts()
	if err != nil {
		return nil, err
	}
	var v2, v1 []Mount
	for _, m := range ms {
		switch m.Type {
		case "cgroup2":
			v2 = append(v2, m)
		case "cgroup":
			v1 = append(v1, m)
		}
	}
	return append(v2, v1...), nil
}

// CgroupID is the number of a cgroup, given the path of its directory: what bpf_get_current_cgroup_id returns for the tasks in
// it when it is of version 2.
func (k *Kernel) CgroupID(path string) (uint64, error) {
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, k.Path(path), 0)
	if err == nil && h.Size() == 8 {
		return binary.NativeEndian.Uint64(h.Bytes()), nil
	}
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOSYS) {
		return 0, fmt.Errorf("cgroup %s: %w", path, err)
	}
	// A container's system call filter may refuse handles; since 5.5 the inode is the same number on 64-bit machines.
	var st unix.Stat_t
	if err := unix.Stat(k.Path(path), &st); err != nil {
		return 0, fmt.Errorf("cgroup %s: %w", path, err)
	}
	return st.Ino, nil
}

// fileidKernfs is the type of a kernfs handle, FILEID_KERNFS in the kernel's sources.
const fileidKernfs = 0xfe

// CgroupPath is the path of a version 2 cgroup below its mount ("/" is the root), given its number. It asks the kernel by handle,
// and searches the tree where that is refused. The error wraps fs.ErrNotExist when the cgroup is gone.
func (k *Kernel) CgroupPath(id uint64) (string, error) {
	root, err := k.CgroupMount()
	if err != nil {
		return "", err
	}
	return k.CgroupPathIn(root, id)
}

// CgroupPathIn is CgroupPath for any hierarchy, given where it is mounted.
func (k *Kernel) CgroupPathIn(mount string, id uint64) (string, error) {
	root := k.Path(mount)
	if p, err := cgroupByHandle(root, id); err == nil {
		return p, nil
	} else if errors.Is(err, unix.ESTALE) {
		return "", fmt.Errorf("cgroup %d: %w", id, fs.ErrNotExist)
	}
	found := ""
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil //nolint:nilerr // a cgroup that vanishes meanwhile is not the one we look for
		}
		var st unix.Stat_t
		if unix.Stat(p, &st) == nil && st.Ino == id {
			found = p
			return fs.SkipAll
		}
		return nil
	})
	if err != nil || found == "" {
		return "", fmt.Errorf("cgroup %d: %w", id, errors.Join(err, fs.ErrNotExist))
	}
	return below(root, found), nil
}

func cgroupByHandle(root string, id uint64) (string, error) {
	dir, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	fd, err := unix.OpenByHandleAt(dir, unix.NewFileHandle(fileidKernfs, binary.NativeEndian.AppendUint64(nil, id)), unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	p, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return "", err
	}
	if p != root && !strings.HasPrefix(p, strings.TrimRight(root, "/")+"/") {
		return "", fmt.Errorf("cgroup %d is outside of %s", id, root)
	}
	return below(root, p), nil
}

func below(root, p string) string {
	if s := strings.TrimPrefix(p, strings.TrimRight(root, "/")); s != "" {
		return s
	}
	return "/"
}

// ProcessCgroup is the path of a process's version 2 cgroup below the mount, 0 for our own.
func (k *Kernel) ProcessCgroup(pid int) (string, error) {
	who := "self"
	if pid != 0 {
		who = strconv.Itoa(pid)
	}
	b, err := k.read("/proc/" + who + "/cgroup")
	if err != nil {
		return "", fmt.Errorf("cgroup of process %s: %w", who, err)
	}
	for line := range bytes.Lines(b) {
		if p, ok := bytes.CutPrefix(line, []byte("0::")); ok {
			return strings.TrimSpace(string(p)), nil
		}
	}
	return "", fmt.Errorf("process %s is in no version 2 cgroup: %w", who, fs.ErrNotExist)
}
