package check

import (
	"strings"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/types"
)

// builtinType returns a type by one of the language's own names, nil when it is none.
func builtinType(name string) *types.Type {
	switch name {
	case "void":
		return types.TVoid
	case "bool", "_Bool":
		return types.TBool
	case "int8":
		return types.TInt8
	case "int16":
		return types.TInt16
	case "int32":
		return types.TInt32
	case "int64":
		return types.TInt64
	case "uint8":
		return types.TUint8
	case "uint16":
		return types.TUint16
	case "uint32":
		return types.TUint32
	case "uint64":
		return types.TUint64
	case "string":
		return types.StringOf(0)
	case "buffer":
		return &types.Type{Kind: types.Buffer}
	case "inet":
		return &types.Type{Kind: types.Inet, Size: 24}
	case "mac_address", "macaddr_t":
		return &types.Type{Kind: types.Mac, Size: 6}
	case "ksym_t", "ksym":
		return &types.Type{Kind: types.KSym, Size: 8}
	case "usym_t", "usym":
		return &types.Type{Kind: types.USym, Size: 16}
	case "kstack_t", "kstack":
		return &types.Type{Kind: types.KStack, Size: 8}
	case "ustack_t", "ustack":
		return &types.Type{Kind: types.UStack, Size: 8}
	case "username", "username_t":
		return &types.Type{Kind: types.Username, Size: 8}
	case "timestamp":
		return &types.Type{Kind: types.Timestamp, Size: 16}
	case "cgroup_path_t", "cgroup_path":
		return &types.Type{Kind: types.CgroupPath, Size: 16}
	case "strerror_t":
		return &types.Type{Kind: types.Strerror, Size: 8}
	case "count_t":
		return &types.Type{Kind: types.Count, Size: 8}
	case "sum_t", "usum_t":
		return &types.Type{Kind: types.Sum, Size: 8, Signed: name == "sum_t"}
	case "min_t", "umin_t":
		return &types.Type{Kind: types.Min, Size: 8, Signed: name == "min_t"}
	case "max_t", "umax_t":
		return &types.Type{Kind: types.Max, Size: 8, Signed: name == "max_t"}
	case "avg_t", "uavg_t":
		return &types.Type{Kind: types.Avg, Size: 8, Signed: name == "avg_t"}
	case "stats_t", "ustats_t":
		return &types.Type{Kind: types.Stats, Size: 8, Signed: name == "stats_t"}
	case "hist_t":
		return &types.Type{Kind: types.Hist, Size: 8}
	case "lhist_t":
		return &types.Type{Kind: types.LHist, Size: 8}
	case "tseries_t":
		return &types.Type{Kind: types.TSeries, Size: 8}
	}
	return nil
}

// cType returns a basic type of C, which needs no definitions.
func cType(name string) *types.Type {
	switch strings.Join(strings.Fields(name), " ") {
	case "char", "signed char":
		return &types.Type{Kind: types.Int, Size: 1, Signed: true, Name: name}
	case "unsigned char":
		return types.TUint8
	case "short", "short int":
		return types.TInt16
	case "unsigned short", "unsigned short int":
		return types.TUint16
	case "int", "signed int", "signed":
		return types.TInt32
	case "unsigned", "unsigned int":
		return types.TUint32
	case "long", "long int", "long long", "long long int", "signed long":
		return types.TInt64
	case "unsigned long", "unsigned long int", "unsigned long long", "unsigned long long int", "long unsigned int":
		return types.TUint64
	}
	return nil
}

// typeSpec resolves a type as written: nil while it depends on a type that is not known yet, invalid after an error.
func (b *body) typeSpec(s *ast.TypeSpec) *types.Type {
	t := b.baseSpec(s)
	if t == nil || bad(t) {
		return t
	}
	for i, suf := range s.Suffix {
		if suf.Pointer {
			t = types.PointerTo(t, types.SpaceNone, types.ProvRaw)
			continue
		}
		n := int64(0)
		if suf.Len != nil {
			lt := b.infer(suf.Len)
			c, ok := b.Consts[suf.Len]
			switch {
			case lt == nil:
				return nil
			case bad(lt):
				return lt
			case !ok || c.IsString || c.Int < 0 || c.Int > 1<<30:
				return b.invalid(CodeNotConstant, suf.Len.Span(), "the length of an array must be an integer that is known while compiling")
			}
			n = c.Int
		}
		switch {
		case i == 0 && (t.Kind == types.String || t.Kind == types.Buffer) && t.Size == 0 && s.Name != "":
			if t.Kind == types.String {
				t = types.StringOf(int(n))
			} else {
				t = types.BufferOf(int(n))
			}
		case i == 0 && s.Name == "inet" && t.Kind == types.Inet:
		case t.Kind == types.Void:
			return b.invalid(CodeDeclType, s.Sp, "an array of `void` is not possible")
		case n > 0 && t.Size > 1<<30/int(n):
			return b.invalid(CodeDeclType, s.Sp, "the array is too large")
		default:
			t = types.ArrayOf(t, int(n))
		}
	}
	return t
}

func (b *body) baseSpec(s *ast.TypeSpec) *types.Type {
	c := b.c
	switch {
	case s.TypeofType != nil:
		return b.typeSpec(s.TypeofType)
	case s.Typeof != nil:
		return b.typeofExpr(s.Typeof)
	case s.Elems != nil || s.FieldNames != nil:
		elems := make([]*types.Type, len(s.Elems))
		for i, e := range s.Elems {
			elems[i] = b.typeSpec(e)
			if elems[i] == nil || bad(elems[i]) {
				return elems[i]
			}
		}
		return types.TupleOf(elems, s.FieldNames)
	}
	var t *types.Type
	switch s.Tag {
	case "struct", "union":
		t = c.defs.StructType(s.Name)
	case "enum":
		t = c.defs.EnumType(s.Name)
	default:
		if t = builtinType(s.Name); t == nil {
			t = c.defs.Typedef(s.Name)
		}
		if t == nil {
			t = cType(s.Name)
		}
		if t == nil { // the tag may be left out
			if t = c.defs.StructType(s.Name); t == nil {
				t = c.defs.EnumType(s.Name)
			}
		}
	}
	if t != nil {
		return t
	}
	name := s.Name
	if s.Tag != "" {
		name = s.Tag + " " + name
	}
	d := b.errorf(CodeUnknownType, s.Sp, "Cannot resolve unknown type \"%s\"", name)
	what := s.Tag
	if what == "" {
		what = "typedef"
	}
	if what == "union" {
		what = "struct"
	}
	if b.final {
		cands := c.defs.Names(what, prefix(s.Name, 3), 500)
		if s.Tag == "" {
			cands = append(cands, "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "string", "bool", "buffer")
		}
		didYouMean(d, s.Name, cands)
	}
	return types.TInvalid
}

// typeofExpr is typeof(expr): for a map with keys as a whole it is the type of the key, for one without the type of the value.
func (b *body) typeofExpr(x ast.Expr) *types.Type {
	if t := b.bareType(x); t != nil {
		return t
	}
	if m, ok := unparen(x).(*ast.MapRef); ok {
		st := b.c.mapOf(m)
		st.asked = true
		b.readMap(st)
		b.Types[x] = &types.Type{Kind: types.MapKind}
		if st.keyed.IsValid() {
			return b.c.closeType(st.m.Key)
		}
		return b.c.closeType(decay(st.m.Value))
	}
	t := b.infer(x)
	b.ask(x)
	return b.c.closeType(t)
}
