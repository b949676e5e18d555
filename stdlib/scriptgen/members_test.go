package scriptgen_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/lab"
	"github.com/sonde-sh/sonde/stdlib/scriptgen"
)

// structSite is a struct and the probes that have a pointer to it.
type structSite struct {
	name   string
	def    *types.StructDef
	probes []string // each with the expression of the pointer: "fentry:vfs_read args.file"
}

// structSites finds the structs that probes of this kernel have typed pointers to.
func (h *host) structSites(t *testing.T) []*structSite {
	b, err := h.kernel.BTF()
	if err != nil {
		t.Skip("needs BTF:", err)
	}
	const most = 3 // probes of a struct that are tried
	var out []*structSite
	byName := map[string]*structSite{}
	add := func(probe string, typ *types.Type, arg string) {
		if typ == nil || typ.Kind != types.Pointer || typ.Elem == nil || typ.Elem.Kind != types.Struct || typ.Space == types.SpaceUser || typ.Elem.Struct.Name == "" || typ.Elem.Size == 0 {
			return
		}
		s := byName[typ.Elem.Struct.Name]
		if s == nil {
			s = &structSite{name: typ.Elem.Struct.Name, def: typ.Elem.Struct}
			byName[s.name] = s
			out = append(out, s)
		}
		if len(s.probes) < most {
			s.probes = append(s.probes, probe+" "+arg)
		}
	}
	source := h.machine.Target().Types
	if f := h.kernel.Features(); f.Has(kernel.FeatureFentry) {
		for _, name := range b.Each("*", kernel.KindFunc) {
			if p := source.FuncProto(name); p != nil && len(p.Params) <= 6 {
				for _, a := range p.Params {
					if a.Name != "" {
						add("fentry:"+name, a.Type, "args."+a.Name)
					}
				}
			}
		}
	} else if f.Has(kernel.FeatureTPBTF) {
		for _, typedef := range b.Each("btf_trace_*", kernel.KindTypedef) {
			name := strings.TrimPrefix(typedef, "btf_trace_")
			_, params, ok := b.TracepointProto(name)
			if !ok {
				continue
			}
			for _, p := range params {
				if ptr, err := b.Resolve(p.Type); err == nil && ptr.Kind == kernel.KindPtr && p.Name != "" {
					if to, err := b.Resolve(ptr.Ref); err == nil && to.Name != "" {
						add("rawtracepoint:"+name, pointerTo(source.StructType(to.Name)), "args."+p.Name)
					}
				}
			}
		}
	} else {
		t.Skip("needs " + kernel.FeatureTPBTF)
	}
	return out
}

func pointerTo(t *types.Type) *types.Type {
	if t == nil {
		return nil
	}
	return &types.Type{Kind: types.Pointer, Size: 8, Elem: t}
}

// members gives expressions of everything in a struct that fits a number: members of members, elements of arrays, and what pointers lead to.
func members(at, dot string, s *types.StructDef, hops int, out []string) []string {
	for _, f := range s.Resolve() {
		if len(out) > 20_000 {
			break
		}
		if f.Name == "" {
			if f.Type.Kind == types.Struct {
				out = members(at, dot, f.Type.Struct, hops, out)
			}
			continue
		}
		out = values(at+dot+f.Name, f.Type, hops, out)
	}
	return out
}

func values(at string, t *types.Type, hops int, out []string) []string {
	switch t.Kind {
	case types.Int, types.Enum, types.Bool:
		return append(out, at)
	case types.Struct:
		return members(at, ".", t.Struct, hops, out)
	case types.Array:
		if t.Elem == nil {
			return out
		}
		out = values(at+"[0]", t.Elem, hops, out)
		if t.Len > 1 {
			out = values(fmt.Sprintf("%s[%d]", at, t.Len-1), t.Elem, hops, out)
		}
		return out
	case types.Pointer:
		out = append(out, at)
		if e := t.Elem; hops > 0 && e != nil && e.Kind == types.Struct && e.Struct.Name != "" && t.Space != types.SpaceUser {
			to := members(at, "->", e.Struct, hops-1, nil)
			out = append(out, to[:min(4, len(to))]...)
		}
	}
	return out
}

// TestKernelMembers loads reads of the members of the kernel's structs through typed pointers. The verifier checks each against its own types.
func TestKernelMembers(t *testing.T) {
	h := openHost(t)
	g := scriptgen.New(scriptgen.Config{Registry: h.reg, Env: h.env, Sites: []string{"begin"}})
	structs := h.structSites(t)
	n := *scripts
	if n == 0 {
		n = 20
		if lab.InGuest() {
			n = 20
		}
	}
	rnd := rand.New(rand.NewPCG(uint64(*seed), 0))
	rnd.Shuffle(len(structs), func(i, j int) { structs[i], structs[j] = structs[j], structs[i] })
	structs = structs[:min(n, len(structs))]
	load := func(probe string, exprs []string) (outcome, bool) {
		var sb strings.Builder
		fmt.Fprintf(&sb, "%s {\n", probe)
		for i, e := range exprs {
			fmt.Fprintf(&sb, "  @[%d] = (uint64)(%s);\n", i, e)
		}
		sb.WriteString("}\n")
		s, o, ok := h.load(g, sb.String(), runtime.Options{Output: runtime.NewOutput(&bytes.Buffer{}, false, 0)})
		if s != nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if !ok { // the checker refuses it
			_, diags := g.Check(sb.String())
			o.err = diags
		}
		return o, ok
	}
	loaded, reads, failed := 0, 0, 0
	for _, s := range structs {
		var probe, arg string
		var why error
		for _, p := range s.probes { // not every function can be traced
			probe, arg, _ = strings.Cut(p, " ")
			o, ok := load(probe, []string{arg})
			if ok && o.obj != nil && o.err == nil {
				break
			}
			if why = o.err; o.log != "" && !strings.Contains(o.log, "cannot be found") { // only its type is in the kernel
				t.Errorf("%s { (uint64)%s }: %v\n%s", probe, arg, o.err, tail(o.log, 4))
			}
			probe = ""
		}
		if probe == "" {
			t.Logf("struct %s, %s: %v", s.name, s.probes, why)
			continue
		}
		loaded++
		exprs := members(arg, "->", s.def, 1, nil)
		const most, chunk = 240, 40
		rnd.Shuffle(len(exprs), func(i, j int) { exprs[i], exprs[j] = exprs[j], exprs[i] })
		for part := range slices.Chunk(exprs[:min(most, len(exprs))], chunk) {
			reads += len(part)
			if o, ok := load(probe, part); ok && o.err == nil {
				continue
			}
			for _, e := range part {
				o, ok := load(probe, []string{e})
				if ok && o.err == nil {
					continue
				}
				if failed++; failed <= 40 {
					t.Errorf("%s { (uint64)(%s) }: %v\n%s", probe, e, o.err, tail(o.log, 4))
				}
			}
		}
	}
	t.Logf("%d structs of %d, %d reads, %d refused", loaded, len(structs), reads, failed)
	if loaded == 0 {
		t.Error("no struct could be read")
	}
}
