package attach

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/runtime/kernel/needs"
)

// TestMain fails when a test leaves descriptors of links or perf events open.
func TestMain(m *testing.M) {
	before := bpfFDs()
	code := m.Run()
	if after := bpfFDs(); code == 0 && after > before {
		println("leaked descriptors:", after-before)
		code = 1
	}
	os.Exit(code)
}

func bpfFDs() (n int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		to, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if filepath.Base(to) == "anon_inode:[perf_event]" || filepath.Base(to) == "anon_inode:bpf_link" ||
			filepath.Base(to) == "anon_inode:bpf-prog" {
			n++
		}
	}
	return n
}

// counter loads a program that adds one to the only value of an array, and a function that reads it.
func counter(t testing.TB, spec ebpf.ProgramSpec) (*ebpf.Program, func() uint64) {
	t.Helper()
	needs.BPF(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	spec.License = "GPL"
	spec.Instructions = asm.Instructions{
		asm.LoadMapValue(asm.R1, m.FD(), 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}
	p, err := ebpf.NewProgram(&spec)
	if err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
			t.Skipf("needs a kernel that loads %s programs: %v", spec.Type, err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, func() uint64 {
		var v uint64
		if err := m.Lookup(uint32(0), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("%s: did not happen in a minute", what)
}

// tracefs gives the configuration and the directory of a machine with events of system calls, mounted or not.
func tracefs(t testing.TB) (Config, string) {
	t.Helper()
	k := needs.Kernel(t)
	dir, err := k.TracefsDir()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "events/syscalls")); err != nil {
		t.Skip("needs events of system calls: ", err)
	}
	return Config{NoTraceFS: k.TracefsDir}, dir
}

func TestKernelAttachAndDetach(t *testing.T) {
	cfg, _ := tracefs(t)
	cases := []struct {
		name string
		spec ebpf.ProgramSpec
		at   object.Attach
		hit  func()
	}{
		{
			"perf tracepoint",
			ebpf.ProgramSpec{Type: ebpf.TracePoint},
			object.Attach{Mechanism: object.PerfTracepoint, Target: "syscalls:sys_enter_getppid"},
			func() { unix.Getppid() },
		},
		{
			"raw tracepoint",
			ebpf.ProgramSpec{Type: ebpf.RawTracepoint},
			object.Attach{Mechanism: object.RawTracepoint, Target: "sys_enter"},
			func() { unix.Getppid() },
		},
		{
			"profile",
			ebpf.ProgramSpec{Type: ebpf.PerfEvent},
			object.Attach{Mechanism: object.PerfEvent, PerfType: unix.PERF_TYPE_SOFTWARE, PerfConfig: unix.PERF_COUNT_SW_CPU_CLOCK, Freq: 999, AllCPUs: true},
			func() {},
		},
		{
			"interval",
			ebpf.ProgramSpec{Type: ebpf.PerfEvent},
			object.Attach{Mechanism: object.PerfEvent, PerfType: unix.PERF_TYPE_SOFTWARE, PerfConfig: unix.PERF_COUNT_SW_CPU_CLOCK, Period: 2e6},
			func() {},
		},
		{
			"page faults",
			ebpf.ProgramSpec{Type: ebpf.PerfEvent},
			object.Attach{Mechanism: object.PerfEvent, PerfType: unix.PERF_TYPE_SOFTWARE, PerfConfig: unix.PERF_COUNT_SW_PAGE_FAULTS, Period: 1, AllCPUs: true},
			func() {
				b, _ := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
				b[0] = 1
				_ = unix.Munmap(b)
			},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			prog, count := counter(t, c.spec)
			l, err := New(cfg).Attach(&c.at, prog)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			until(t, "the program runs", func() bool { c.hit(); return count() > 0 })
			start := time.Now()
			if err := Detach([]*Link{l}); err != nil {
				t.Fatal(err)
			}
			t.Logf("detached in %v", time.Since(start))
			until(t, "the program stops", func() bool { // one that is running on another CPU may take its time
				time.Sleep(5 * time.Millisecond)
				n := count()
				for range 100 {
					c.hit()
				}
				time.Sleep(5 * time.Millisecond)
				return count() == n
			})
			start = time.Now()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			t.Logf("closed in %v", time.Since(start))
		})
	}
}

func TestKernelLeave(t *testing.T) {
	cfg, _ := tracefs(t)
	prog, count := counter(t, ebpf.ProgramSpec{Type: ebpf.TracePoint})
	a := New(cfg)
	var links []*Link
	for _, name := range []string{"getppid", "getpid", "gettid", "getuid", "geteuid", "getgid"} {
		l, err := a.Attach(&object.Attach{Mechanism: object.PerfTracepoint, Target: "syscalls:sys_enter_" + name}, prog)
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	unix.Getppid()
	if count() == 0 {
		t.Fatal("no event arrived")
	}
	start := time.Now()
	if err := Leave(links); err != nil {
		t.Fatal(err)
	}
	t.Logf("left %d tracepoints in %v", len(links), time.Since(start))
	until(t, "the programs stop", func() bool {
		n := count()
		unix.Getppid()
		return count() == n
	})
	t.Logf("silent after %v", time.Since(start))
}

func TestKernelAttachErrors(t *testing.T) {
	cfg, _ := tracefs(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		spec  ebpf.ProgramSpec
		at    object.Attach
		class Class
		text  string
	}{
		{
			"unknown tracepoint",
			ebpf.ProgramSpec{Type: ebpf.TracePoint},
			object.Attach{Mechanism: object.PerfTracepoint, Target: "syscalls:sys_enter_nothing"},
			Missing, "cannot attach tracepoint syscalls:sys_enter_nothing: the kernel has no such tracepoint",
		},
		{
			"unknown raw tracepoint",
			ebpf.ProgramSpec{Type: ebpf.RawTracepoint},
			object.Attach{Mechanism: object.RawTracepoint, Target: "nothing"},
			Missing, "cannot attach raw tracepoint nothing: the kernel has no such tracepoint",
		},
		{
			"unknown file",
			ebpf.ProgramSpec{Type: ebpf.Kprobe},
			object.Attach{Mechanism: object.Uprobe, Path: "/no/such/file", Offsets: []uint64{1}},
			Missing, "cannot attach uprobe /no/such/file at offset 0x1: the file does not exist",
		},
		{
			"offset outside",
			ebpf.ProgramSpec{Type: ebpf.Kprobe},
			object.Attach{Mechanism: object.Uprobe, Path: exe, Offsets: []uint64{1 << 40}},
			Untraceable, "cannot attach uprobe " + exe + " at offset 0x10000000000: the offset is outside of the file's code, or not the start of an instruction",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			prog, _ := counter(t, c.spec)
			l, err := New(cfg).Attach(&c.at, prog)
			if err == nil {
				l.Close()
				t.Fatal("attached")
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T is not an *Error", err)
			}
			if e.Class != c.class || e.Text != c.text {
				t.Errorf("class %d, %q; want %d, %q (%v)", e.Class, e.Text, c.class, c.text, e.Err)
			}
		})
	}
}

func TestKernelFallback(t *testing.T) {
	cfg, _ := tracefs(t)
	prog, count := counter(t, ebpf.ProgramSpec{Type: ebpf.RawTracepoint})
	at := &object.Attach{
		Mechanism: object.KprobeMulti, Targets: []string{"vfs_read"},
		Fallback: &object.Attach{Mechanism: object.RawTracepoint, Target: "sys_enter"},
	}
	l, err := New(cfg).Attach(at, prog)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Used != at.Fallback || l.Attach != at {
		t.Errorf("used %s, want the fallback", MechanismName(l.Used.Mechanism))
	}
	until(t, "the program runs", func() bool { unix.Getppid(); return count() > 0 })
}

func TestParseCPUs(t *testing.T) {
	cases := []struct {
		in   string
		want int // -1: an error
	}{{"0", 1}, {"0-3", 4}, {"0-1,4,6-7", 5}, {"", -1}, {"3-1", -1}, {"a", -1}, {"0-99999999", -1}}
	for _, c := range cases {
		got, err := parseCPUs(c.in)
		if (err != nil) != (c.want < 0) || err == nil && len(got) != c.want {
			t.Errorf("parseCPUs(%q) = %v, %v; want %d CPUs", c.in, got, err, c.want)
		}
	}
}
