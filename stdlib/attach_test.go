package stdlib

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime/attach"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/kernel/needs"
)

// patience is how long tests wait for what must happen. A machine that does much else takes long for everything: only a hang reaches it.
const patience = 2 * time.Minute

// HostMachine is hostMachine for the tests outside of the package.
var HostMachine = hostMachine

// TracingMachine is hostMachine where there are tracepoints.
func TracingMachine(t *testing.T) *Machine {
	t.Helper()
	m := hostMachine(t)
	if _, err := m.Kernel.Tracefs(); err != nil {
		t.Skip("needs tracefs: ", err)
	}
	return m
}

// hostMachine is the machine that the test runs on; the test needs root.
func hostMachine(t testing.TB) *Machine {
	t.Helper()
	needs.BPF(t)
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := NewMachine(k)
	t.Cleanup(func() {
		if err := errors.Join(m.Close(), k.Close()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// attachAll expands an attach point that must give points, and attaches one program that counts to all of them.
func attachAll(t testing.TB, m *Machine, text string, env *check.Env, uses ...string) (hits func() uint64, links []*attach.Link) {
	t.Helper()
	u := &lower.Uses{Names: map[string]bool{}, Fields: map[string]bool{}, MaxArg: -1}
	for _, n := range uses {
		u.Names[n] = true
	}
	env.Types, env.Arch, env.CPUs = m.Types, m.Kernel.Arch(), 1
	var diags diag.List
	var points []*check.Point
	for _, ap := range attachPoints(t, text) {
		points = append(points, FindKind(ProbeKinds(m), ap.Kind).Expand(ap, env, &diags)...)
	}
	if err := diags.Err(); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if len(points) == 0 {
		t.Fatalf("%s: no points", text)
	}
	kind := points[0].Kind.(lower.ProbeKind)
	var hooks []*lower.Hook
	for i, p := range points {
		h := kind.Hook(p, u, m.Target())
		h.Index = i
		hooks = append(hooks, h)
	}
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { counts.Close() })
	h := hooks[0]
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: h.Type, AttachType: h.AttachType, AttachTo: h.AttachTo, Flags: h.Flags, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMapValue(asm.R1, counts.FD(), 0),
			asm.Mov.Imm(asm.R2, 1),
			asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	t.Cleanup(func() { prog.Close() })
	a := attach.New(attach.Config{NoTraceFS: m.Kernel.TracefsDir})
	for _, plan := range kind.Links(hooks, false, m.Target()) {
		l, err := a.Attach(plan, prog)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		links = append(links, l)
	}
	t.Cleanup(func() {
		if err := attach.Leave(links); err != nil {
			t.Error(err)
		}
	})
	return func() uint64 {
		var n uint64
		if err := counts.Lookup(uint32(0), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}, links
}

//go:noinline
func probeMe(n int) int { return n + len(os.Args) }

// TestKernelAttach attaches what the kinds plan to the running kernel and sees the events arrive.
func TestKernelAttach(t *testing.T) {
	m := TracingMachine(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	own := exe + `:"github.com/sonde-sh/sonde/stdlib.probeMe"`
	syscall := func() { unix.Getppid() }
	read := func() {
		f, err := os.Open("/proc/self/status")
		if err == nil {
			_, _ = f.Read(make([]byte, 10))
			f.Close()
		}
	}
	call := func() { probeMe(1) }
	nothing := func() {}
	spin := func() {
		for range 1 << 20 {
			probeMe(1)
		}
	}
	touch := func() {
		if b, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err == nil {
			b[0] = 1
			_ = unix.Munmap(b)
		}
	}
	kprobes, fentries := []string{kernel.FeatureKprobes}, []string{kernel.FeatureFentry}
	cases := []struct {
		text  string
		uses  []string
		needs []string
		hit   func()
		min   uint64
	}{
		{"tracepoint:syscalls:sys_enter_getppid", nil, nil, syscall, 1},
		{"t:syscalls:sys_*_getppid", nil, nil, syscall, 2},
		{"rawtracepoint:sys_enter", nil, nil, syscall, 1},
		{"rawtracepoint:sys_enter", []string{"args"}, []string{kernel.FeatureTPBTF}, syscall, 1},
		{"syscall:getppid", nil, nil, syscall, 1},
		{"syscall:getppid:return", nil, nil, syscall, 1},
		{"interval:ms:5", nil, nil, nothing, 2},
		{"profile:hz:200", nil, nil, nothing, 2},
		{"software:context-switches:1", nil, nil, func() { time.Sleep(time.Millisecond) }, 2},
		{"kprobe:vfs_read", nil, kprobes, read, 1},
		{"kprobe:vfs_read+0", nil, kprobes, read, 1},
		{"kprobe:vfs_rea*", nil, kprobes, read, 1},
		{"kprobe:vmlinux:vfs_read", nil, kprobes, read, 1},
		{fmt.Sprintf("kprobe:%#x", symbolAddress(t, m, "vfs_read")), nil, kprobes, read, 1},
		{"hardware:cpu-cycles:100000", nil, nil, spin, 1},
		{"software:page-faults:1", nil, nil, touch, 1},
		{"kretprobe:vfs_read", nil, kprobes, read, 1},
		{"kretprobe:vfs_rea*", nil, kprobes, read, 1},
		{"fentry:vfs_read", nil, fentries, read, 1},
		{"fexit:vfs_read", nil, fentries, read, 1},
		{"uprobe:" + own, nil, nil, call, 1},
		{"uprobe:" + own, []string{"ustack"}, nil, call, 1},
		{"uretprobe:" + own, nil, nil, call, 1},
		{"lsm:file_open", nil, []string{kernel.FeatureLSM, kernel.FeatureLSMActive}, read, 1},
	}
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.text, exe, "self"), func(t *testing.T) {
			for _, f := range c.needs {
				if err := m.Kernel.Features().Check(f); err != nil {
					t.Skip("needs ", err)
				}
			}
			if strings.HasPrefix(c.text, "hardware:") && !hasCycles() {
				t.Skip("needs hardware counters, which emulated machines mostly do not have")
			}
			hits, links := attachAll(t, m, c.text, &check.Env{}, c.uses...)
			for end := time.Now().Add(patience); hits() < c.min; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d hits, want %d", hits(), c.min)
				}
				c.hit()
			}
			t.Logf("%s, %d hits", attach.MechanismName(links[0].Used.Mechanism), hits())
		})
	}
}

// symbolAddress is where a kernel function begins; any number where the kernel hides it, for a case that is skipped then.
func symbolAddress(t *testing.T, m *Machine, name string) uint64 {
	t.Helper()
	syms, err := m.Kernel.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for s := range syms.All() {
		if s.Name == name && s.Module == "" {
			return s.Addr
		}
	}
	return 1
}

// hasCycles tells whether the processor counts its cycles for us.
func hasCycles() bool {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_HARDWARE, Config: unix.PERF_COUNT_HW_CPU_CYCLES, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return false
	}
	return unix.Close(fd) == nil
}

// TestAttachLibrary probes the C library in processes that use it.
func TestAttachLibrary(t *testing.T) {
	m := hostMachine(t)
	if _, err := m.findBinaries("libc", 0); err != nil {
		t.Skip("needs a C library: ", err)
	}
	for _, text := range []string{"uprobe:libc:getenv", "uretprobe:libc:getenv", "uprobe:libc:*env*", "uprobe:libc:getenv,uprobe:libc:setlocale"} {
		t.Run(text, func(t *testing.T) {
			hits, links := attachAll(t, m, text, &check.Env{})
			for end := time.Now().Add(patience); hits() == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("no hit")
				}
				_ = exec.Command("/usr/bin/env").Run()
			}
			t.Logf("%s, %d hits", attach.MechanismName(links[0].Used.Mechanism), hits())
		})
	}
}

// TestAttachProcess probes one process only.
func TestAttachProcess(t *testing.T) {
	m := hostMachine(t)
	if _, err := m.findBinaries("libc", 0); err != nil {
		t.Skip("needs a C library: ", err)
	}
	wanted := exec.Command("/bin/sh", "-c", "while :; do /bin/true; sleep 0.01; done")
	if err := wanted.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = wanted.Process.Kill(); _ = wanted.Wait() })
	// bash and dash both call malloc for each command.
	hits, links := attachAll(t, m, "uprobe:libc:malloc", &check.Env{PID: wanted.Process.Pid})
	t.Log(attach.MechanismName(links[0].Used.Mechanism))
	for end := time.Now().Add(patience); hits() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no hit in the process")
		}
	}
	if err := unix.Kill(wanted.Process.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", wanted.Process.Pid))
		if _, rest, _ := strings.Cut(string(stat), ") "); err == nil && strings.HasPrefix(rest, "T") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the process does not stop: %s, %v", stat, err)
		}
	}
	n := hits()
	_ = exec.Command("/usr/bin/env").Run()
	if got := hits(); got != n {
		t.Errorf("%d hits from other processes", got-n)
	}
}
