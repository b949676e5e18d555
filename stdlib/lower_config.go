package stdlib

import (
	"maps"
	"slices"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// setting is one field of the record that config() gives: a bool, an integer or a string.
type setting struct {
	name  string
	value any
}

// settings are the keys in force, in the order in which they print.
func settings(c *check.Config) []setting {
	mode := "bpftrace"
	for name, m := range stackModes {
		if m == c.StackMode {
			mode = name
		}
	}
	list := []setting{
		{"cpp_demangle", c.CppDemangle},
		{"lazy_symbolication", c.LazySymbols},
		{"print_maps_on_exit", c.PrintMapsOnExit},
		{"show_debug_info", c.ShowDebugInfo},
		{"log_size", c.LogSize},
		{"max_bpf_progs", c.MaxBPFProgs},
		{"max_cat_bytes", c.MaxCatBytes},
		{"max_map_keys", c.MaxMapKeys},
		{"max_probes", c.MaxProbes},
		{"max_strlen", c.MaxStrlen},
		{"on_stack_limit", c.OnStackLimit},
		{"perf_rb_pages", c.PerfRBPages},
		{"str_trunc_trailer", c.StrTruncTrailer},
	}
	for _, name := range slices.Sorted(maps.Keys(c.Unstable)) {
		list = append(list, setting{name, c.Unstable[name]})
	}
	return append(list, setting{"missing_probes", c.MissingProbes}, setting{"stack_mode", mode},
		setting{"cache_user_symbols", c.UserSymbolCache}, setting{"license", c.License})
}

// configResult is the record of all settings.
func configResult(c *check.Call) *types.Type {
	var elems []*types.Type
	var names []string
	for _, s := range settings(c.Info.Config) {
		names = append(names, s.name)
		switch v := s.value.(type) {
		case bool:
			elems = append(elems, types.TBool)
		case int:
			elems = append(elems, types.TUint64)
		case string:
			elems = append(elems, types.StringOf(len(v)+1))
		}
	}
	return types.TupleOf(elems, names)
}

// lowerConfig stores the settings; a script that reads one of them keeps only that.
func lowerConfig(g *lower.Gen, c *check.Call) lower.Operand {
	t := g.Type(c.Node)
	p := g.Dest(t)
	g.B.Zero(p.Ptr, int(p.Off), t.Size)
	for i, s := range settings(c.Info.Config) {
		f := t.Fields[i]
		at := p.At(f.Offset, f.Type.Size)
		switch v := s.value.(type) {
		case bool:
			n := int64(0)
			if v {
				n = 1
			}
			g.StoreValue(at, f.Type, lower.Scalar(f.Type, g.B.Const(n)))
		case int:
			g.StoreValue(at, f.Type, lower.Scalar(f.Type, g.B.Const(int64(v))))
		case string:
			g.StoreValue(at, f.Type, g.Literal(v))
		}
	}
	return lower.Operand{Type: t, P: p}
}
