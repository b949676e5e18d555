package kernel

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Release is the kernel's release as uname -r prints it.
func (k *Kernel) Release() (string, error) {
	if s, err := k.line("/proc/sys/kernel/osrelease"); err == nil {
		return s, nil
	} else if !k.Running() {
		return "", fmt.Errorf("kernel release: %w", err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("kernel release: %w", err)
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// Version is the release's numbers, for messages and tests only: what the kernel can do is probed, never derived.
type Version struct{ Major, Minor int }

// String writes "6.1".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Less orders versions.
func (v Version) Less(w Version) bool {
	return v.Major < w.Major || v.Major == w.Major && v.Minor < w.Minor
}

// ParseVersion reads the leading "MAJOR.MINOR" of a release.
func ParseVersion(release string) (Version, error) {
	var v Version
	if n, err := fmt.Sscanf(release, "%d.%d", &v.Major, &v.Minor); n != 2 {
		return Version{}, fmt.Errorf("kernel release %q has no version: %w", release, err)
	}
	return v, nil
}

// Arch is the machine's architecture by Go's name: amd64 or arm64.
func (k *Kernel) Arch() string { return runtime.GOARCH }

// PageSize in bytes.
func (k *Kernel) PageSize() int { return os.Getpagesize() }

// CPUList is a set of CPU numbers, sorted.
type CPUList []int

// OnlineCPUs are the CPUs that run now: perf events are opened on these.
func (k *Kernel) OnlineCPUs() (CPUList, error) { return k.cpus("online") }

// PossibleCPUs are the CPUs that there may ever be: per-CPU maps have a value for each number up to the highest.
func (k *Kernel) PossibleCPUs() (CPUList, error) { return k.cpus("possible") }

func (k *Kernel) cpus(which string) (CPUList, error) {
	s, err := k.line("/sys/devices/system/cpu/" + which)
	if err != nil {
		return nil, fmt.Errorf("%s CPUs: %w", which, err)
	}
	l, err := ParseCPUList(s)
	if err != nil {
		return nil, fmt.Errorf("%s CPUs: %w", which, err)
	}
	return l, nil
}

// ParseCPUList reads the kernel's list form, for example "0-3,8,10-11".
func ParseCPUList(s string) (CPUList, error) {
	var out CPUList
	for part := range strings.SplitSeq(strings.TrimSpace(s), ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(lo)
		if err != nil || a < 0 {
			return nil, fmt.Errorf("bad CPU list %q", s)
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(hi); err != nil || b < a || b > 1<<16 {
				return nil, fmt.Errorf("bad CPU list %q", s)
			}
		}
		for ; a <= b; a++ {
			out = append(out, a)
		}
	}
	return out, nil
}

// Config is the configuration that the kernel was built with.
type Config struct {
	path   string
	values map[string]string
}

// Config reads /proc/config.gz or /boot/config-RELEASE. Many machines have neither: the error then wraps fs.ErrNotExist.
func (k *Kernel) Config() (*Config, error) { return k.config() }

func (k *Kernel) openConfig() (*Config, error) {
	release, _ := k.Release()
	for _, p := range []string{
		"/proc/config.gz", "/boot/config-" + release, "/lib/modules/" + release + "/config",
		"/usr/lib/modules/" + release + "/config", "/lib/modules/" + release + "/build/.config",
	} {
		f, err := os.Open(k.Path(p))
		if err != nil {
			continue
		}
		var r io.Reader = f
		if strings.HasSuffix(p, ".gz") {
			if r, err = gzip.NewReader(f); err != nil {
				_ = f.Close()
				return nil, fmt.Errorf("kernel configuration %s: %w", p, err)
			}
		}
		c, err := parseConfig(r)
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("kernel configuration %s: %w", p, err)
		}
		c.path = p
		return c, nil
	}
	return nil, fmt.Errorf("kernel configuration: neither /proc/config.gz nor /boot/config-%s: %w", release, fs.ErrNotExist)
}

func parseConfig(r io.Reader) (*Config, error) {
	c := &Config{values: map[string]string{}}
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		if key, val, ok := strings.Cut(sc.Text(), "="); ok && strings.HasPrefix(key, "CONFIG_") {
			c.values[key] = strings.Trim(val, `"`)
		}
	}
	return c, sc.Err()
}

// Path is the file that the configuration came from.
func (c *Config) Path() string { return c.path }

// Get is the value of an option such as CONFIG_HZ, "" when it is not set.
func (c *Config) Get(option string) string { return c.values[option] }

// Enabled tells whether an option is y or m.
func (c *Config) Enabled(option string) bool { v := c.values[option]; return v == "y" || v == "m" }

// HZ is how many ticks the kernel counts per second (jiffies). ok is false when that cannot be told. The coarse clock advances once
// per tick, and its resolution is that step; no configuration file is needed.
func (k *Kernel) HZ() (hz int, ok bool) {
	if k.Running() {
		var res unix.Timespec
		if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &res); err == nil && res.Nano() > 0 && res.Nano() < 1e9 {
			return int((1e9 + res.Nano()/2) / res.Nano()), true
		}
	}
	c, err := k.Config()
	if err != nil {
		return 0, false
	}
	hz, err = strconv.Atoi(c.Get("CONFIG_HZ"))
	return hz, err == nil
}

// Clocks are two readings of one moment.
type Clocks struct {
	Wall time.Time
	Boot time.Duration // CLOCK_BOOTTIME: since boot, time asleep counted
	Mono time.Duration // CLOCK_MONOTONIC: what bpf_ktime_get_ns gives
}

// ReadClocks reads wall, boot and monotonic clock as close together as it can: the best of five tries, which is a
// matter of some hundred nanoseconds.
func (k *Kernel) ReadClocks() (Clocks, error) {
	var best Clocks
	gap := time.Duration(1<<63 - 1)
	for range 5 {
		var a, r, m, b unix.Timespec
		if err := errors.Join(unix.ClockGettime(unix.CLOCK_BOOTTIME, &a), unix.ClockGettime(unix.CLOCK_REALTIME, &r),
			unix.ClockGettime(unix.CLOCK_MONOTONIC, &m), unix.ClockGettime(unix.CLOCK_BOOTTIME, &b)); err != nil {
			return Clocks{}, fmt.Errorf("read clocks: %w", err)
		}
		if d := time.Duration(b.Nano() - a.Nano()); d < gap {
			gap = d
			best = Clocks{Wall: time.Unix(0, r.Nano()), Boot: time.Duration(a.Nano()) + d/2, Mono: time.Duration(m.Nano())}
		}
	}
	return best, nil
}

// BootTime is the wall clock's time at which the boot clock was zero: add nanoseconds of CLOCK_BOOTTIME to it.
func (c Clocks) BootTime() time.Time { return c.Wall.Add(-c.Boot) }

// Namespace names a namespace as the kernel does.
type Namespace struct {
	Dev, Inode uint64
}

// PIDNamespace is the pid namespace of a process, 0 for our own. bpf_get_ns_current_pid_tgid takes its two numbers.
func (k *Kernel) PIDNamespace(pid int) (Namespace, error) { return k.namespace(pid, "pid") }

// MountNamespace is the mount namespace of a process, 0 for our own.
func (k *Kernel) MountNamespace(pid int) (Namespace, error) { return k.namespace(pid, "mnt") }

func (k *Kernel) namespace(pid int, kind string) (Namespace, error) {
	who := "self"
	if pid != 0 {
		who = strconv.Itoa(pid)
	}
	var st unix.Stat_t
	if err := unix.Stat(k.Path("/proc/"+who+"/ns/"+kind), &st); err != nil {
		return Namespace{}, fmt.Errorf("%s namespace of process %s: %w", kind, who, err)
	}
	return Namespace{st.Dev, st.Ino}, nil
}

// initPIDInode is the inode of the first pid namespace, PROC_PID_INIT_INO in the kernel's include/linux/proc_ns.h.
const initPIDInode = 0xeffffffc

// InInitPIDNamespace tells whether we see the same pids as the kernel does.
func (k *Kernel) InInitPIDNamespace() (bool, error) {
	ns, err := k.PIDNamespace(0)
	return ns.Inode == initPIDInode, err
}

// Sysctl reads a value below /proc/sys, for example "kernel/kptr_restrict".
func (k *Kernel) Sysctl(name string) (string, error) {
	s, err := k.line("/proc/sys/" + name)
	if err != nil {
		return "", fmt.Errorf("sysctl %s: %w", strings.ReplaceAll(name, "/", "."), err)
	}
	return s, nil
}

// StatsEnabled tells whether the kernel counts runs and time of BPF programs, which --stats needs and costs some 30 ns a run.
func (k *Kernel) StatsEnabled() bool {
	s, err := k.Sysctl("kernel/bpf_stats_enabled")
	return err == nil && s != "0"
}

// Modules lists loaded modules in the kernel's order, empty for a kernel without modules.
func (k *Kernel) Modules() ([]string, error) {
	b, err := k.read("/proc/modules")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	var out []string
	for line := range bytes.Lines(b) {
		if name, _, ok := bytes.Cut(line, []byte{' '}); ok {
			out = append(out, string(name))
		}
	}
	return out, nil
}

// RaiseMemlock lifts the limit on locked memory for this process. Kernels before 5.11 charge maps and programs to it, and its
// default of 64 KiB lets almost nothing load; later kernels ignore it.
func RaiseMemlock() error {
	inf := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &inf); err != nil {
		return fmt.Errorf("raise the limit on locked memory (ulimit -l): %w", err)
	}
	return nil
}
