package stdlib_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/stdlib"
)

const noGroup = 7654321 // a process that nobody asks for but callDeep

// callDeep makes a system call below n more frames.
//
//go:noinline
func callDeep(n int) int {
	if n > 0 {
		return callDeep(n-1) + 1
	}
	group, _ := unix.Getpgid(noGroup)
	return group
}

// TestKernelUserStacks takes stacks of user space by the walk of the program itself and by the kernel's helper: they are the same.
func TestKernelUserStacks(t *testing.T) {
	m := stdlib.TracingMachine(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const perf, raw = "tracepoint:syscalls:sys_enter_getpgid", "rawtracepoint:sys_enter"
	cases := []struct {
		name, probe, take string
		depth             int
		another           string // probe
		needs             []string
	}{
		{"perf tracepoint", perf, "@[ustack(raw)] = count();", 3, "", nil},
		{"raw tracepoint", raw, "@[ustack(raw)] = count();", 0, "", nil},
		{"trampoline", "fentry:find_task_by_vpid", "@[ustack(raw)] = count();", 5, "", []string{kernel.FeatureFentry}},
		{"limits", perf, "@[ustack(raw, 1), ustack(raw, 2), ustack(raw, 4)] = count();", 3, "", nil},
		{"more frames than are kept", perf, "@[ustack(raw)] = count();", 200, "", nil},
		{"both stacks", perf, "@[ustack(raw), len(ustack), len(kstack) > 0] = count();", 2, "", nil},
		{"many stacks", perf, strings.Repeat("@[ustack(raw)] = count();", 12), 2, "", nil},
		{"a task with probes", perf, "@[ustack(raw)] = count();", 3, fmt.Sprintf(`uprobe:%s:"github.com/sonde-sh/sonde/stdlib_test.probed" { @probed = 1; }`, exe), nil},
		{"in a loop", perf, "for ($i : 0..3) { @[ustack(raw)] = count(); }", 3, "", nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, f := range c.needs {
				if err := m.Kernel.Features().Check(f); err != nil {
					t.Skip("needs ", err)
				}
			}
			mine := fmt.Sprintf("pid == %d", os.Getpid())
			switch c.probe {
			case perf:
				mine += fmt.Sprintf(" && args.pid == %d", noGroup)
			case raw:
				mine += fmt.Sprintf(" && arg1 == %d", unix.SYS_GETPGID)
			default:
				mine += fmt.Sprintf(" && args.vnr == %d", noGroup)
			}
			text := fmt.Sprintf("%s /%s/ { if (@n < 20) { @n++; %s } if (@n == 20) { exit(); } } %s", c.probe, mine, c.take, c.another)
			var got [2]string
			for i, literal := range []bool{false, true} {
				walks := 0
				for _, p := range compiled(t, m, text, literal).Programs {
					for _, ins := range p.Insns {
						if ins.IsBuiltinCall() && asm.BuiltinFunc(ins.Constant) == asm.FnTaskPtRegs {
							walks++
						}
					}
				}
				able := m.Kernel.Arch() == "amd64" && m.Kernel.Features().Has("bpf_loop") && c.name != "in a loop"
				if want := able && !literal; want != (walks > 0) {
					t.Errorf("literal %v: the program walks %d times", literal, walks)
				}
				got[i] = script(t, m, text, literal, func() {
					if c.another != "" {
						probed(1, "")
					}
					callDeep(c.depth)
				})
			}
			if got[0] != got[1] || !strings.Contains(got[0], "@[") {
				t.Errorf("by the program\n%s\nby the kernel\n%s", got[0], got[1])
			}
			t.Log(got[0])
		})
	}
}
