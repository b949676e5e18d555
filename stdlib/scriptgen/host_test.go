package scriptgen_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-sh/sonde/lang/source"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/kernel/needs"
	"github.com/sonde-sh/sonde/stdlib"
	"github.com/sonde-sh/sonde/stdlib/scriptgen"
)

// lacking is what Linux 5.10 does not have.
var lacking = []target.Feature{
	target.AtomicFetch, target.BpfLoop, target.ForEachMapElem, target.TaskBTF, target.AttachCookie, target.GetFuncIP, target.MapLookupPercpu,
	target.TaiNS, target.StrncmpHelper, target.SignedDiv, target.IterNum, target.MayGoto, target.KprobeMulti, target.KprobeSession,
	target.UprobeMulti, target.PerfLink,
}

// host is the running machine as the tests use it.
type host struct {
	kernel  *kernel.Kernel
	machine *stdlib.Machine
	reg     *stdlib.Registry
}

func openHost(t testing.TB) *host {
	t.Helper()
	needs.BPF(t)
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m := stdlib.NewMachine(k)
	tg := m.Target()
	if *old {
		with := tg.Features
		tg.Features = target.Lazy(func(f target.Feature) bool { return !slices.Contains(lacking, f) && with.Has(f) })
	}
	t.Cleanup(func() {
		if err := errors.Join(m.Close(), k.Close()); err != nil {
			t.Error(err)
		}
	})
	return hostOf(k, m)
}

func hostOf(k *kernel.Kernel, m *stdlib.Machine) *host {
	return &host{k, m, stdlib.New(stdlib.ProbeKinds(m))}
}

// logOf is what the verifier said of a program that it refused.
func logOf(err error) string {
	var le *runtime.LoadError
	if errors.As(err, &le) {
		return le.Log
	}
	return ""
}

func (h *host) env() *check.Env {
	set, _ := source.NewSet("script", "")
	return h.machine.Env(set)
}

// sites are attach points of every kind; the generator leaves out what the machine does not have.
func (h *host) sites(t testing.TB) []string {
	exe, err := os.Executable()
	if err != nil || probed(1, "") == 0 { // the linker drops what is not called
		t.Fatal(err)
	}
	out := []string{
		"begin", "end", "interval:ms:100", "profile:hz:99", "software:page-faults:100",
		fmt.Sprintf("uprobe:%s:%q", exe, "github.com/sonde-sh/sonde/stdlib/scriptgen_test.probed"),
		fmt.Sprintf("uretprobe:%s:%q", exe, "github.com/sonde-sh/sonde/stdlib/scriptgen_test.probed"),
		"rawtracepoint:sys_enter", "rawtracepoint:sched_switch", "rawtracepoint:sched_wakeup",
	}
	for _, n := range []string{"openat", "read", "write", "execve", "mmap", "connect", "futex", "epoll_wait"} {
		out = append(out, "tracepoint:syscalls:sys_enter_"+n, "tracepoint:syscalls:sys_exit_"+n)
	}
	for _, n := range []string{
		"sched:sched_switch", "sched:sched_wakeup", "sched:sched_process_exec", "sched:sched_process_exit", "raw_syscalls:sys_enter", "raw_syscalls:sys_exit", "signal:signal_generate",
		"irq:irq_handler_entry", "irq:softirq_entry", "timer:timer_start", "timer:hrtimer_start", "block:block_rq_issue", "net:net_dev_xmit", "skb:kfree_skb", "kmem:kmalloc", "kmem:mm_page_alloc",
		"tcp:tcp_probe", "sock:inet_sock_set_state", "task:task_newtask", "workqueue:workqueue_execute_start", "writeback:writeback_dirty_folio", "printk:console", "power:cpu_idle",
	} {
		out = append(out, "tracepoint:"+n)
	}
	f := cmp.Or(h.machine.Features, h.kernel.Features())
	for _, k := range []string{"vfs_read", "vfs_open", "tcp_sendmsg", "tcp_connect", "schedule", "wake_up_new_task", "security_file_open", "do_nanosleep", "ip_output", "dput"} {
		if f.Has(kernel.FeatureKprobes) {
			out = append(out, "kprobe:"+k, "kretprobe:"+k)
		}
		if f.Has(kernel.FeatureFentry) {
			out = append(out, "fentry:"+k, "fexit:"+k)
		}
	}
	if f.Has(kernel.FeatureLSM) && f.Has(kernel.FeatureLSMActive) {
		out = append(out, "lsm:file_open", "lsm:task_kill")
	}
	if f.Has(kernel.FeatureIter) {
		out = append(out, "iter:task", "iter:task_file")
	}
	return out
}

// probed is there to be traced.
//
//go:noinline
func probed(n int, s string) int { return n + len(s) + len(os.Args) }

// outcome is what became of a text.
type outcome struct {
	obj    *object.Object
	module *ir.Module // of the last program, unoptimised with NoOpt
	code   diag.Code  // a diagnostic of the compiler
	err    error      // a failure: a mistake of ours
	log    string
}

// compile compiles a text that the checker accepts; ok is false for other texts.
func (h *host) compile(g *scriptgen.Generator, text string, opts codegen.Options) (out outcome, ok bool) {
	defer func() {
		if r := recover(); r != nil {
			out.err, ok = fmt.Errorf("panic: %v", r), true
		}
	}()
	info, diags := g.Check(text)
	if info == nil || diags.HasErrors() {
		return outcome{}, false
	}
	opts.Verify, opts.Diags = true, diags
	if len(text)%2 == 1 { // half of the scripts share code that is there twice
		opts.OutlineFrom = 1 + len(text)/2%2
	}
	opts.Dump = func(_ string, m *ir.Module) { out.module = m }
	obj, err := codegen.Compile(info, h.machine.Target(), opts)
	var list *diag.List
	switch {
	case errors.As(err, &list):
		out.code = "?"
		for _, d := range list.All() {
			if d.Severity == diag.Error {
				out.code = d.Code
				break
			}
		}
	case err != nil:
		out.err = err
		var ie *codegen.InternalError
		if errors.As(err, &ie) {
			out.log = ie.Stack
		}
	default:
		out.obj = obj
	}
	return out, true
}

// load makes the maps and loads the programs of a text; where loops are too long for the verifier, it compiles again with less room for them,
// as the command does.
func (h *host) load(g *scriptgen.Generator, text string, out runtime.Options) (*runtime.Session, outcome, bool) {
	o, ok := h.compile(g, text, codegen.Options{LoopBudget: *budget})
	if !ok || o.obj == nil {
		return nil, o, ok
	}
	out.Kernel, out.Targets = h.kernel, h.machine
	if out.Report == nil {
		out.Report = func(*diag.Diagnostic) {}
	}
	out.Object = o.obj
	out.Recompile = func(budget int) (*object.Object, error) {
		again, _ := h.compile(g, text, codegen.Options{LoopBudget: budget})
		if again.obj == nil {
			return nil, fmt.Errorf("with room for %d instructions of loops: code %q: %w", budget, again.code, cmp.Or(again.err, errors.New("refused")))
		}
		o = again
		o.obj.Config.PrintMapsOnExit = false
		return o.obj, nil
	}
	o.obj.Config.PrintMapsOnExit = false
	s, err := runtime.New(out)
	o.err, o.log = err, logOf(err)
	return s, o, true
}

// runObject loads an object as it is, and runs it to its end where it is asked to.
func (h *host) runObject(obj *object.Object, run bool) (string, outcome) {
	var buf bytes.Buffer
	opts := printing(&buf)
	opts.Kernel, opts.Targets, opts.Object = h.kernel, h.machine, obj
	s, err := runtime.New(opts)
	switch {
	case err != nil:
		return "", outcome{err: err, log: logOf(err)}
	case !run:
		return "", outcome{err: s.Close()}
	}
	return finish(s, opts.Output, &buf)
}

// run runs a text to its end and gives what it printed.
func (h *host) run(g *scriptgen.Generator, text string) (string, outcome) {
	var buf bytes.Buffer
	opts := printing(&buf)
	s, o, _ := h.load(g, text, opts)
	if s == nil {
		return "", o
	}
	return finish(s, opts.Output, &buf)
}

// printing are options for a run whose output is compared.
func printing(w io.Writer) runtime.Options {
	out := runtime.NewOutput(w, false, 0)
	return runtime.Options{Output: out, Report: func(d *diag.Diagnostic) {
		if d.Severity == diag.Error || strings.Contains(d.Message, "stopped by a limit") {
			out.Message("", d.Message)
		}
	}}
}

// finish runs a session to its end.
func finish(s *runtime.Session, out *runtime.Output, buf *bytes.Buffer) (string, outcome) {
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // only a hang reaches it
	defer cancel()
	if _, err := s.Run(ctx); err != nil {
		return "", outcome{err: err}
	}
	out.Flush()
	return strings.TrimSuffix(buf.String(), "\n\n"), outcome{} // what the end of a run prints
}
