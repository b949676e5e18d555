package check_test

import (
	"errors"
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/stdlib"
)

// fixture is a small made-up kernel: a few structs, enums and functions.
type fixture struct {
	structs  map[string]*types.Type
	enums    map[string]*types.Type
	typedefs map[string]*types.Type
	protos   map[string]*types.Proto
}

func structOf(name string, size int, fields ...types.Field) *types.Type {
	return &types.Type{Kind: types.Struct, Size: size, Struct: &types.StructDef{Name: name, Size: size, Resolve: func() []types.Field { return fields }}}
}

func field(name string, t *types.Type, off int) types.Field {
	return types.Field{Name: name, Type: t, Offset: off, ArgIndex: -1}
}

func kptr(t *types.Type) *types.Type { return types.PointerTo(t, types.SpaceKernel, types.ProvRaw) }

func newFixture() *fixture {
	f := &fixture{structs: map[string]*types.Type{}, enums: map[string]*types.Type{}, typedefs: map[string]*types.Type{}, protos: map[string]*types.Proto{}}
	char := &types.Type{Kind: types.Int, Size: 1, Signed: true, Name: "char"}
	charPtr := kptr(char)
	userCharPtr := types.PointerTo(char, types.SpaceUser, types.ProvRaw)
	task := &types.Type{Kind: types.Struct, Size: 64}
	task.Struct = &types.StructDef{Name: "task_struct", Size: 64, Resolve: func() []types.Field {
		return []types.Field{
			field("pid", types.TInt32, 0), field("tgid", types.TInt32, 4), field("comm", types.StringOf(16), 8),
			field("real_parent", kptr(task), 24), field("mm", kptr(structOf("mm_struct", 8, field("brk", types.TUint64, 0))), 32),
			field("prio", types.TInt32, 40), field("group_leader", kptr(task), 48),
			{Name: "flag", Type: types.TUint32, Offset: 56, BitOffset: 1, BitSize: 3, ArgIndex: -1},
		}
	}}
	f.structs["task_struct"] = task
	qstr := structOf("qstr", 16, field("name", charPtr, 8), field("len", types.TUint32, 0))
	dentry := structOf("dentry", 24, field("d_name", qstr, 0), field("d_arr", types.ArrayOf(types.TUint8, 8), 16))
	path := structOf("path", 16, field("mnt", kptr(types.TVoid), 0), field("dentry", kptr(dentry), 8))
	f.structs["qstr"], f.structs["dentry"], f.structs["path"] = qstr, dentry, path
	f.structs["file"] = structOf("file", 32, field("f_path", path, 0), field("f_pos", types.TInt64, 16))
	anon := &types.Type{Kind: types.Struct, Size: 4, Struct: &types.StructDef{Union: true, Size: 4, Resolve: func() []types.Field {
		return []types.Field{field("skc_daddr", types.TUint32, 0), field("skc_bytes", types.ArrayOf(types.TUint8, 4), 0)}
	}}}
	f.structs["sock"] = structOf("sock", 16, field("", anon, 0), field("skc_family", types.TUint16, 4), field("v6", types.ArrayOf(types.TUint8, 16), 0))
	f.structs["sk_buff"] = structOf("sk_buff", 16, field("len", types.TUint32, 0), field("sk", kptr(f.structs["sock"]), 8))
	f.structs["bio"] = structOf("bio", 16, field("names", types.ArrayOf(charPtr, 2), 0))
	state := &types.EnumDef{Name: "state", Size: 4, Values: []types.EnumValue{{Name: "STATE_ON", Value: 1}, {Name: "STATE_OFF", Value: 300}}}
	f.enums["state"] = &types.Type{Kind: types.Enum, Size: 4, Enum: state}
	for name, size := range map[string]int{"uint8_t": 1, "uint16_t": 2, "uint32_t": 4, "uint64_t": 8, "u8": 1, "u32": 4, "u64": 8, "size_t": 8} {
		t := *types.IntOf(size, false)
		t.Name = name
		f.typedefs[name] = &t
	}
	f.protos["vfs_read"] = &types.Proto{Name: "vfs_read", Result: types.TInt64, Params: []types.Field{
		{Name: "file", Type: types.PointerTo(f.structs["file"], types.SpaceKernel, types.ProvBTF), ArgIndex: 0},
		{Name: "buf", Type: userCharPtr, ArgIndex: 1},
		{Name: "count", Type: types.TUint64, ArgIndex: 2},
	}}
	f.protos["tcp_connect"] = &types.Proto{Name: "tcp_connect", Result: types.TInt32, Params: []types.Field{
		{Name: "sk", Type: types.PointerTo(f.structs["sock"], types.SpaceKernel, types.ProvBTF), ArgIndex: 0},
	}}
	f.protos["get_file"] = &types.Proto{Name: "get_file", Result: types.PointerTo(f.structs["file"], types.SpaceKernel, types.ProvBTF)}
	return f
}

func (f *fixture) StructType(name string) *types.Type { return f.structs[name] }
func (f *fixture) EnumType(name string) *types.Type   { return f.enums[name] }
func (f *fixture) Typedef(name string) *types.Type    { return f.typedefs[name] }

func (f *fixture) EnumConst(name string) (int64, *types.Type, bool) {
	for _, t := range f.enums {
		for _, v := range t.Enum.Values {
			if v.Name == name {
				return v.Value, t, true
			}
		}
	}
	return 0, nil, false
}

func (f *fixture) FuncProto(name string) *types.Proto { return f.protos[name] }

func (f *fixture) Names(what, prefix string, limit int) []string {
	var out []string
	if what == "struct" {
		for n := range f.structs {
			if strings.HasPrefix(n, prefix) {
				out = append(out, n)
			}
		}
	}
	return out
}

// kind is a probe kind of the made-up machine.
type kind struct {
	name   string
	expand func(k *kind, segs []string) []*check.Point
}

func (k *kind) Name() string { return k.name }

func (k *kind) Expand(ap *ast.AttachPoint, _ *check.Env, diags *diag.List) []*check.Point {
	var segs []string
	for _, s := range ap.Segments {
		segs = append(segs, s.Text)
	}
	pts := k.expand(k, segs)
	if len(pts) == 0 {
		diags.Errorf(check.CodeBadAttach, ap.Sp, "no matches for %s %s", k.name, strings.Join(segs, ":"))
	}
	return pts
}

func argsOf(name string, fields []types.Field) *types.Type {
	return &types.Type{Kind: types.Args, Struct: &types.StructDef{Name: name, Size: 8 * len(fields), Resolve: func() []types.Field { return fields }}}
}

func plainPoint(k *kind, segs []string, p check.Point) *check.Point {
	p.Kind, p.Name = k, strings.Join(append([]string{k.name}, segs...), ":")
	if p.Scope == "" {
		p.Scope = k.name
	}
	return &p
}

func fixtureKinds(f *fixture) []stdlib.KindEntry {
	char := &types.Type{Kind: types.Int, Size: 1, Signed: true, Name: "char"}
	user := types.PointerTo(char, types.SpaceUser, types.ProvRaw)
	tracepoints := map[string][]types.Field{
		"syscalls:sys_enter_openat": {field("filename", user, 16), field("flags", types.TInt32, 24), field("mode", types.TUint16, 32)},
		"syscalls:sys_enter_execve": {field("filename", user, 16), field("argv", types.PointerTo(user, types.SpaceUser, types.ProvRaw), 24)},
		"syscalls:sys_exit_openat":  {field("ret", types.TInt64, 16)},
		"sched:sched_switch":        {field("prev_comm", types.StringOf(16), 8), field("next_pid", types.TInt32, 24), field("state", f.enums["state"], 28)},
		"raw_syscalls:sys_enter":    {field("id", types.TInt64, 8), field("args", types.ArrayOf(types.TUint64, 6), 16)},
	}
	simple := func(p check.Point) func(*kind, []string) []*check.Point {
		return func(k *kind, segs []string) []*check.Point {
			if p.NumArgs == 0 && p.Retval == nil && k.name != "kprobe" && k.name != "uprobe" {
				p.NumArgs = -1
			}
			return []*check.Point{plainPoint(k, segs, p)}
		}
	}
	mk := func(name string, expand func(*kind, []string) []*check.Point, aliases ...string) stdlib.KindEntry {
		return stdlib.KindEntry{Aliases: aliases, Kind: &kind{name, expand}}
	}
	return []stdlib.KindEntry{
		mk("begin", simple(check.Point{}), "BEGIN"),
		mk("end", simple(check.Point{}), "END"),
		mk("interval", simple(check.Point{}), "i"),
		mk("profile", simple(check.Point{}), "p"),
		mk("self", simple(check.Point{})),
		mk("kprobe", simple(check.Point{Space: types.SpaceKernel}), "k"),
		mk("kretprobe", simple(check.Point{Space: types.SpaceKernel, NumArgs: -1, Retval: types.TUint64}), "kr"),
		mk("uprobe", simple(check.Point{Space: types.SpaceUser}), "u"),
		mk("uretprobe", simple(check.Point{Space: types.SpaceUser, NumArgs: -1, Retval: types.TUint64}), "ur"),
		mk("tracepoint", func(k *kind, segs []string) []*check.Point {
			var out []*check.Point
			for _, n := range []string{"syscalls:sys_enter_openat", "syscalls:sys_enter_execve", "syscalls:sys_exit_openat", "sched:sched_switch", "raw_syscalls:sys_enter"} {
				want := strings.Join(segs, ":")
				if n == want || strings.HasSuffix(want, "*") && strings.HasPrefix(n, want[:len(want)-1]) {
					out = append(out, plainPoint(k, strings.Split(n, ":"), check.Point{Scope: "tracepoint:" + n, Base: "tracepoint", Args: argsOf(n, tracepoints[n]), NumArgs: -1, Space: types.SpaceKernel}))
				}
			}
			return out
		}, "t"),
		mk("fentry", func(k *kind, segs []string) []*check.Point {
			p := f.protos[strings.Join(segs[max(0, len(segs)-1):], "")]
			if p == nil {
				return nil
			}
			return []*check.Point{plainPoint(k, segs, check.Point{Scope: "fentry:" + p.Name, Args: argsOf(p.Name, p.Params), NumArgs: -1, Space: types.SpaceKernel})}
		}, "f", "kfunc"),
		mk("fexit", func(k *kind, segs []string) []*check.Point {
			p := f.protos[strings.Join(segs[max(0, len(segs)-1):], "")]
			if p == nil {
				return nil
			}
			return []*check.Point{plainPoint(k, segs, check.Point{Scope: "fexit:" + p.Name, Args: argsOf(p.Name, p.Params), Retval: p.Result, NumArgs: -1, Space: types.SpaceKernel})}
		}, "fr", "kretfunc"),
	}
}

var errNoFile = errors.New("no such file")

// run checks a script against the made-up machine.
func run(text string, change func(*check.Env)) (*check.Info, *source.Set, *diag.List) {
	set, file := source.NewSet("stdin", text)
	diags := &diag.List{}
	script := syntax.Parse(set, file, diags)
	f := newFixture()
	env := &check.Env{
		Types: f, Arch: "amd64", CPUs: 4,
		ParseScript: func(f *source.File, d *diag.List) *ast.Script { return syntax.Parse(set, f, d) },
		ParseExpr: func(f *source.File) ast.Expr {
			d := &diag.List{}
			e := syntax.ParseExpr(f, d)
			if d.HasErrors() {
				return nil
			}
			return e
		},
	}
	if change != nil {
		change(env)
	}
	if diags.HasErrors() || script == nil {
		return nil, set, diags
	}
	return check.Check(script, set, stdlib.New(fixtureKinds(f)), env, diags), set, diags
}
