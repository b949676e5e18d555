package seccomp

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

	"github.com/sonde-sh/sonde/runtime/kernel"
)

// launch starts the command: its task is known from the fork on, and counted from its execve on.
func (r *Recorder) launch() error {
	_, _ = os.FindProcess(os.Getpid()) // Go tries pidfds with a child of its own the first time: not while armed
	set := func(v uint32) func() error {
		return func() error { return r.maps["armed"].Put(uint32(0), v) }
	}
	c, err := start(&r.opts, set(1), set(0))
	if err != nil {
		return err
	}
	r.child = c
	return nil
}

// seedProcesses puts running processes, their threads and descendants under observation. Threads that appear while we look are
// children of known ones, so looking again until nothing is new misses none.
func (r *Recorder) seedProcesses(pids []int) error {
	known := map[int]bool{}
	for round := 0; ; round++ {
		fresh := 0
		for _, pid := range pids {
			if err := r.seedTree(pid, known, &fresh); err != nil && round == 0 {
				return err
			}
		}
		if fresh == 0 {
			return nil
		}
		if round > 100 {
			return errors.New("new threads appear faster than they can be found; record the command from its start")
		}
	}
}

func (r *Recorder) seedTree(pid int, known map[int]bool, fresh *int) error {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "task")
	threads, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("process %d: %w", pid, unix.ESRCH)
		}
		return fmt.Errorf("process %d: %w", pid, err)
	}
	slot := -1
	for _, e := range threads {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if !known[tid] {
			if slot < 0 {
				slot = r.programSlot(pid)
			}
			known[tid] = true
			*fresh++
			if err := r.follow(tid, slot, phaseUnknown, 0); err != nil {
				return err
			}
		}
		children, err := os.ReadFile(filepath.Join(dir, e.Name(), "children"))
		if err != nil {
			continue // the thread ended
		}
		for _, c := range strings.Fields(string(children)) {
			if n, err := strconv.Atoi(c); err == nil {
				_ = r.seedTree(n, known, fresh) // one that ended meanwhile has nothing to record
			}
		}
	}
	return nil
}

// follow enters a thread into the kernel's map, unless it is there already.
func (r *Recorder) follow(tid, slot int, phase, pending uint32) error {
	if hasFilter(tid) {
		r.lookOut()
	}
	v := make([]byte, stateSize)
	binary.NativeEndian.PutUint32(v[stateSlot:], uint32(slot))
	binary.NativeEndian.PutUint32(v[statePhase:], phase)
	binary.NativeEndian.PutUint32(v[statePending:], pending)
	err := r.maps["tasks"].Update(uint32(tid), v, 1) // BPF_NOEXIST
	if err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, unix.EEXIST) && !strings.Contains(err.Error(), "key already exist") {
		return fmt.Errorf("follow thread %d: %w", tid, err)
	}
	if err != nil {
		return nil
	}
	// The kernel told of the end of a thread that ended before we put it there: its number may be another one's some day.
	if ending(tid) && r.maps["tasks"].Delete(uint32(tid)) == nil {
		return nil
	}
	r.seeded++
	return nil
}

// ending tells whether a thread has ended, or is far on its way to that.
func ending(tid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", tid))
	if err != nil {
		return true
	}
	// number (name) state parent group session terminal foreground flags
	_, rest, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	f := strings.Fields(rest)
	if len(f) < 7 {
		return true
	}
	const exiting = 4 // PF_EXITING
	flags, err := strconv.ParseUint(f[6], 10, 64)
	return err != nil || flags&exiting != 0 || f[0] == "Z" || f[0] == "X"
}

// programSlot finds or makes the counters of the program that a process runs.
func (r *Recorder) programSlot(pid int) int {
	exe := fmt.Sprintf("/proc/%d/exe", pid)
	path, err := os.Readlink(exe)
	if err != nil {
		return slotUnknown
	}
	var st unix.Stat_t
	if err := unix.Stat(exe, &st); err != nil {
		return slotUnknown
	}
	key := make([]byte, 16)
	binary.NativeEndian.PutUint64(key, st.Ino)
	binary.NativeEndian.PutUint64(key[8:], uint64(unix.Major(st.Dev)<<20|unix.Minor(st.Dev))) // dev_t inside the kernel
	var v uint64
	if r.maps["programs"].Lookup(key, &v) == nil {
		return int(v)
	}
	for slot := slotFirst; slot < r.opts.Programs; slot++ {
		if r.maps["claimed"].Update(uint32(slot), uint64(1), 1) == nil {
			if r.maps["programs"].Update(key, uint64(slot), 1) != nil {
				break // an execve was faster: the next thread finds it
			}
			r.mu.Lock()
			r.paths[uint32(slot)] = path
			r.mu.Unlock()
			return slot
		}
	}
	return slotUnknown
}

// cgroupIdentity is a cgroup's number and depth, or zeros when it is of version 1, where the kernel's programs cannot ask for it.
func (r *Recorder) cgroupIdentity() (id uint64, level int, err error) {
	path, err := filepath.EvalSymlinks(r.opts.Cgroup)
	if err != nil {
		return 0, 0, fmt.Errorf("cgroup %s: %w", r.opts.Cgroup, errors.Unwrap(err))
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("cgroup %s: %w", path, err)
	}
	switch st.Type {
	case unix.CGROUP2_SUPER_MAGIC:
	case unix.CGROUP_SUPER_MAGIC:
		return 0, 0, nil
	default:
		return 0, 0, fmt.Errorf("%s is not a directory of a cgroup file system", path)
	}
	root, err := r.opts.Kernel.CgroupMount()
	if err != nil {
		return 0, 0, err
	}
	rel, err := filepath.Rel(r.opts.Kernel.Path(root), path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return 0, 0, fmt.Errorf("cgroup %s is not below %s", path, root)
	}
	if rel != "." {
		level = 1 + strings.Count(rel, "/")
	}
	id, err = r.opts.Kernel.CgroupID(path)
	return id, level, err
}

// seedCgroup follows what is in a cgroup already. What enters it later is found by its first call (version 2), or as a descendant.
func (r *Recorder) seedCgroup(path string) error {
	version2 := false
	if _, err := os.Stat(filepath.Join(path, "cgroup.controllers")); err == nil {
		version2 = true
	}
	known := map[int]bool{}
	for round := range 100 {
		fresh := 0
		err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				if p == path {
					return err
				}
				return nil
			}
			if !d.IsDir() {
				return nil
			}
			b, err := os.ReadFile(filepath.Join(p, "cgroup.procs"))
			if err != nil {
				return nil //nolint:nilerr // a threaded or vanished group; its threads are found by their calls
			}
			for _, f := range strings.Fields(string(b)) {
				if pid, err := strconv.Atoi(f); err == nil {
					if err := r.seedThreads(pid, known, &fresh); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("cgroup %s: %w", path, err)
		}
		if fresh == 0 {
			if round == 0 && !version2 {
				return fmt.Errorf("cgroup %s is of version 1 and empty; processes that enter it cannot be noticed there", path)
			}
			return nil
		}
	}
	return nil
}

func (r *Recorder) seedThreads(pid int, known map[int]bool, fresh *int) error {
	threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	if err != nil {
		return nil //nolint:nilerr // it ended
	}
	slot := -1
	for _, e := range threads {
		tid, err := strconv.Atoi(e.Name())
		if err != nil || known[tid] {
			continue
		}
		if slot < 0 {
			slot = r.programSlot(pid)
		}
		known[tid] = true
		*fresh++
		if err := r.follow(tid, slot, phaseUnknown, 0); err != nil {
			return err
		}
	}
	return nil
}

// FindCgroup finds the directory of a container (its id, or the beginning of it) or of a systemd unit.
func FindCgroup(k *kernel.Kernel, container, unit string) (string, error) {
	mounts, err := k.CgroupMounts()
	if err != nil {
		return "", err
	}
	match := func(name string) bool { return name == unit || name == unit+".service" } // as systemctl reads it
	what := "unit " + unit
	if container != "" {
		what = "container " + container
		if len(container) < 6 {
			return "", fmt.Errorf("container id `%s` is too short to be found; give at least 6 characters", container)
		}
		// docker-ID.scope, crio-ID.scope, libpod-ID, cri-containerd-ID.scope, or the id alone.
		match = func(name string) bool {
			name = strings.TrimSuffix(name, ".scope")
			if i := strings.LastIndexByte(name, '-'); i >= 0 && strings.HasPrefix(name[i+1:], container) {
				return true
			}
			return strings.HasPrefix(name, container)
		}
	}
	for _, m := range mounts {
		var found []string
		_ = filepath.WalkDir(k.Path(m.Dir), func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // groups come and go
			}
			if d.IsDir() && match(d.Name()) {
				found = append(found, p)
				return fs.SkipDir
			}
			return nil
		})
		if len(found) == 1 {
			return found[0], nil
		}
		if len(found) > 1 {
			return "", fmt.Errorf("%s: several cgroups match: %s", what, strings.Join(found, ", "))
		}
	}
	return "", fmt.Errorf("%s: no cgroup of that name; is it running?", what)
}
