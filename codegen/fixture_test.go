package codegen_test

import (
	"errors"
	"flag"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/stdlib"
)

var update = flag.Bool("update", false, "rewrite golden files")

// fixture is a small made-up kernel.
type fixture struct{ structs map[string]*types.Type }

func structOf(name string, size int, fields ...types.Field) *types.Type {
	return &types.Type{Kind: types.Struct, Size: size, Struct: &types.StructDef{Name: name, Size: size, Resolve: func() []types.Field { return fields }}}
}

func field(name string, t *types.Type, off int) types.Field {
	return types.Field{Name: name, Type: t, Offset: off, ArgIndex: -1}
}

func kptr(t *types.Type) *types.Type { return types.PointerTo(t, types.SpaceKernel, types.ProvRaw) }

func newFixture() *fixture {
	f := &fixture{structs: map[string]*types.Type{}}
	char := &types.Type{Kind: types.Int, Size: 1, Signed: true, Name: "char"}
	task := &types.Type{Kind: types.Struct, Size: 128}
	task.Struct = &types.StructDef{Name: "task_struct", Size: 128, Resolve: func() []types.Field {
		return []types.Field{
			field("pid", types.TInt32, 0), field("tgid", types.TInt32, 4), field("comm", types.ArrayOf(char, 16), 8),
			field("real_parent", kptr(task), 24), field("group_leader", kptr(task), 32),
			{Name: "flags", Type: types.TUint32, Offset: 40, BitOffset: 3, BitSize: 5, ArgIndex: -1},
			field("addr", structOf("addr", 16, field("lo", types.TUint64, 0), field("name", kptr(char), 8)), 48),
		}
	}}
	f.structs["task_struct"] = task
	f.structs["bpf_mem_alloc"] = structOf("bpf_mem_alloc", 8)
	return f
}

func (f *fixture) StructType(name string) *types.Type { return f.structs[name] }
func (f *fixture) EnumType(string) *types.Type        { return nil }

func (f *fixture) Typedef(name string) *types.Type {
	return map[string]*types.Type{"u64": types.TUint64, "u32": types.TUint32}[name]
}

func (f *fixture) EnumConst(string) (int64, *types.Type, bool) { return 0, nil, false }
func (f *fixture) FuncProto(string) *types.Proto               { return nil }
func (f *fixture) Names(string, string, int) []string          { return nil }

// fixtureTarget is what golden files are compiled for; without lists features that it lacks.
func fixtureTarget(without ...target.Feature) *target.Target {
	return &target.Target{Arch: "amd64", Types: newFixture(), CPUs: 2, PageSize: 4096, Features: target.AllBut(without...)}
}

// old is what Linux 5.10 lacks.
var old = []target.Feature{
	target.AtomicFetch, target.BpfLoop, target.ForEachMapElem, target.TaskBTF, target.AttachCookie, target.GetFuncIP, target.MapLookupPercpu,
	target.TaiNS, target.StrncmpHelper, target.SignedDiv, target.IterNum, target.MayGoto, target.KprobeMulti, target.KprobeSession,
	target.UprobeMulti, target.PerfLink, target.LongKeys,
}

// kind is a probe kind of the fixture.
type kind struct {
	name  string
	hook  lower.Hook
	point func(p *check.Point, segs []string)
}

func (k *kind) Name() string { return k.name }

func (k *kind) Expand(ap *ast.AttachPoint, _ *check.Env, _ *diag.List) []*check.Point {
	p := &check.Point{Kind: k, Name: k.name, Scope: k.name, NumArgs: -1, Node: ap}
	var segs []string
	for _, s := range ap.Segments {
		segs = append(segs, s.Text)
		p.Name += ":" + s.Text
	}
	if k.point != nil {
		k.point(p, segs)
	}
	return []*check.Point{p}
}

func (k *kind) Hook(p *check.Point, _ *lower.Uses, _ *target.Target) *lower.Hook {
	h := k.hook
	h.Point = p
	return &h
}

func (k *kind) Links(hooks []*lower.Hook, cookies bool, _ *target.Target) []*object.Attach {
	if k.hook.Role != object.RoleProbe {
		return nil
	}
	var out []*object.Attach
	for _, h := range hooks {
		a := &object.Attach{Target: h.Point.Name, Points: []int{h.Index}}
		if cookies {
			a.Cookie = uint64(h.Index)
		}
		out = append(out, a)
	}
	return out
}

// argsOf makes the type of args.
func argsOf(name string, size int, fields ...types.Field) *types.Type {
	return &types.Type{Kind: types.Args, Struct: &types.StructDef{Name: name, Size: size, Resolve: func() []types.Field { return fields }}}
}

func fixtureKinds() []stdlib.KindEntry {
	char := &types.Type{Kind: types.Int, Size: 1, Signed: true, Name: "char"}
	btfTask := types.PointerTo(newFixture().structs["task_struct"], types.SpaceKernel, types.ProvBTF)
	kinds := []*kind{
		{name: "begin", hook: lower.Hook{Type: ebpf.RawTracepoint, Role: object.RoleBegin, Context: lower.NoContext{}}},
		{name: "end", hook: lower.Hook{Type: ebpf.RawTracepoint, Role: object.RoleEnd, Context: lower.NoContext{}}},
		{
			name: "tracepoint", hook: lower.Hook{Type: ebpf.TracePoint, Share: "tp", Cookies: true, Context: lower.TraceRecord{Size: 40}},
			point: func(p *check.Point, _ []string) {
				p.Space = types.SpaceUser
				p.Args = argsOf("tp", 40, field("nr", types.TInt32, 8), field("filename", types.PointerTo(char, types.SpaceUser, types.ProvRaw), 16),
					field("bytes", types.TUint64, 24), types.Field{Name: "text", Type: types.StringOf(64), Offset: 32, DataLoc: true, ArgIndex: -1})
			},
		},
		{
			name: "kprobe", hook: lower.Hook{Type: ebpf.Kprobe, Share: "kp", Context: lower.Registers{}},
			point: func(p *check.Point, segs []string) { p.Space, p.NumArgs, p.FuncName = types.SpaceKernel, 6, segs[0] },
		},
		{
			name: "profile", hook: lower.Hook{Type: ebpf.PerfEvent, Context: lower.Registers{}},
			point: func(p *check.Point, _ []string) { p.Space = types.SpaceNone },
		},
		{
			name: "fentry", hook: lower.Hook{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, Context: lower.ArgArray{Args: 2}},
			point: func(p *check.Point, segs []string) {
				p.Space, p.FuncName = types.SpaceKernel, segs[0]
				p.Args = argsOf("fe", 16, types.Field{Name: "task", Type: btfTask, ArgIndex: 0}, types.Field{Name: "n", Type: types.TInt32, Offset: 8, ArgIndex: 1})
			},
		},
	}
	var out []stdlib.KindEntry
	for _, k := range kinds {
		e := stdlib.KindEntry{Kind: k}
		if k.name == "begin" {
			e.Aliases = []string{"BEGIN"}
		}
		out = append(out, e)
	}
	return out
}

// checked takes a script through the checker; it fails the test on errors.
func checked(t testing.TB, text string, reg check.Universe, env *check.Env) *check.Info {
	t.Helper()
	set := &source.Set{}
	f := set.Add("stdin", text)
	diags := &diag.List{}
	script := syntax.Parse(set, f, diags)
	if diags.HasErrors() {
		t.Fatalf("parse: %s", messages(diags))
	}
	env.ParseScript = func(f *source.File, d *diag.List) *ast.Script { return syntax.Parse(set, f, d) }
	env.ParseExpr = func(f *source.File) ast.Expr { return syntax.ParseExpr(f, &diag.List{}) }
	env.ParseC = stdlib.ParseC(set)
	info := check.Check(script, set, reg, env, diags)
	if diags.HasErrors() {
		t.Fatalf("check: %s", messages(diags))
	}
	return info
}

func messages(l *diag.List) string {
	var sb strings.Builder
	for _, d := range l.All() {
		if d.Severity == diag.Error {
			sb.WriteString(d.Error() + "\n")
		}
	}
	return sb.String()
}

// fixtureInfo checks a script for the fixture.
func fixtureInfo(t testing.TB, text string) *check.Info {
	t.Helper()
	env := &check.Env{Types: newFixture(), Arch: "amd64", CPUs: 2, Unsafe: true, NamedUsed: map[string]bool{}}
	return checked(t, text, stdlib.New(fixtureKinds()), env)
}

// compile compiles a script for a target; it fails the test on errors.
func compile(t testing.TB, info *check.Info, tg *target.Target, opts codegen.Options) *object.Object {
	t.Helper()
	opts.Verify = true
	obj, err := codegen.Compile(info, tg, opts)
	if err != nil {
		if e := (*codegen.InternalError)(nil); errors.As(err, &e) {
			t.Fatalf("%v\n%s", e, e.Stack)
		}
		t.Fatal(err)
	}
	return obj
}
