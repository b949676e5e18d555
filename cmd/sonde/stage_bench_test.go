package main

import (
	"io"
	"os"
	"testing"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/lexer"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/kernel/needs"
	"github.com/sonde-sh/sonde/stdlib"
)

// stageScripts are what the stages are measured with. They attach to what every kernel has.
var stageScripts = []struct{ name, text string }{
	{"one-liner", "tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }"},
	{"tool", `
BEGIN { printf("Tracing... Hit Ctrl-C to end.\n"); @limit = 100; }
tracepoint:raw_syscalls:sys_enter
/pid != 0 && comm != "sonde"/
{
	@start[tid] = nsecs;
	@name[tid] = comm;
	if (args.id > 300) { @new[args.id] = count(); } else { @old[args.id, comm] = count(); }
}
tracepoint:raw_syscalls:sys_exit
/@start[tid]/
{
	$ns = nsecs - @start[tid];
	if ($ns > @limit * 1000) {
		printf("%-8d %-16s %-4d %lld us\n", pid, @name[tid], args.id, $ns / 1000);
	}
	@us[comm] = hist($ns / 1000);
	@mean[args.id] = avg($ns);
	@worst = max($ns);
	$i = 0;
	while ($i < 4) { @ret[args.ret & 0xff] += 1; $i++; }
	delete(@start, tid);
	delete(@name, tid);
}
interval:s:1 { time("%H:%M:%S\n"); print(@us, 5); clear(@us); }
END { clear(@start); clear(@name); clear(@limit); }
`},
}

// stageRun carries a script from stage to stage.
type stageRun struct {
	b    *testing.B
	app  *app
	file *source.File
	reg  *stdlib.Registry
}

func newStageRun(b *testing.B, text string) *stageRun {
	b.Helper()
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		b.Skip("needs the kernel's type information: ", err)
	}
	a := &app{opts: &options{}, std: stdio{nil, io.Discard, io.Discard}}
	if err := a.openMachine(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(a.close)
	r := &stageRun{b: b, app: a}
	a.set, r.file = source.NewSet("bench.bt", text)
	r.reg = stdlib.New(stdlib.ProbeKinds(a.machine))
	return r
}

func (r *stageRun) parse() *ast.Script {
	var diags diag.List
	s := syntax.Parse(r.app.set, r.file, &diags)
	if diags.HasErrors() {
		r.b.Fatal(diags.Err())
	}
	return s
}

func (r *stageRun) check(s *ast.Script) *check.Info {
	var diags diag.List
	info := check.Check(s, r.app.set, r.reg, r.app.env(), &diags)
	if diags.HasErrors() {
		r.b.Fatal(diags.Err())
	}
	return info
}

func (r *stageRun) compile(info *check.Info) *object.Object {
	obj, err := codegen.Compile(info, r.app.machine.Target(), codegen.Options{})
	if err != nil {
		r.b.Fatal(err)
	}
	return obj
}

func (r *stageRun) load(obj *object.Object) {
	s, err := runtime.New(runtime.Options{
		Object: obj, Kernel: r.app.kernel, Targets: r.app.machine,
		Output: runtime.NewOutput(io.Discard, false, runtime.BufferFull), Report: func(*diag.Diagnostic) {},
	})
	if err != nil {
		r.b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		r.b.Fatal(err)
	}
}

// BenchmarkStage takes scripts through one stage of the compiler each. A stage does its work anew in every round: what a stage finds in a
// checked script may be kept there.
func BenchmarkStage(b *testing.B) {
	for _, sc := range stageScripts {
		stages := []struct {
			name string
			run  func(*stageRun) func()
		}{
			{"lex", func(r *stageRun) func() { return func() { lexer.Lex(r.file, &diag.List{}) } }},
			{"parse", func(r *stageRun) func() { return func() { r.parse() } }},
			{"check", func(r *stageRun) func() {
				return func() {
					r.b.StopTimer()
					s := r.parse()
					r.b.StartTimer()
					r.check(s)
				}
			}},
			{"compile", func(r *stageRun) func() {
				return func() {
					r.b.StopTimer()
					info := r.check(r.parse())
					r.b.StartTimer()
					r.compile(info)
				}
			}},
			{"load", func(r *stageRun) func() {
				needs.BPF(r.b)
				obj := r.compile(r.check(r.parse()))
				return func() { r.load(obj) }
			}},
		}
		for _, st := range stages {
			b.Run(st.name+"/"+sc.name, func(b *testing.B) {
				f := st.run(newStageRun(b, sc.text))
				f() // what is built once is not counted
				b.ReportAllocs()
				for b.Loop() {
					f()
				}
			})
		}
	}
}

// BenchmarkStageRegistry builds the table of everything predeclared.
func BenchmarkStageRegistry(b *testing.B) {
	r := newStageRun(b, "")
	for b.Loop() {
		stdlib.New(stdlib.ProbeKinds(r.app.machine))
	}
}
