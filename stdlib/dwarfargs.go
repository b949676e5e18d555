package stdlib

import (
	"slices"
	"sync"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/symbol"
)

// signature is what debug information tells of a function, read when it is first needed: large programs have hundreds of megabytes of it.
type signature func() ([]symbol.Parameter, bool)

// signatureOf reads the parameters of a function.
func signatureOf(file *symbol.File, s symbol.Symbol) signature {
	return sync.OnceValues(func() ([]symbol.Parameter, bool) {
		sig, err := file.Signature(s)
		if err != nil {
			return nil, false
		}
		return sig.Params, true
	})
}

// dwarfTypes converts types of a program. It keeps what it converted, because types refer to each other in circles.
type dwarfTypes struct {
	mu    sync.Mutex
	known map[*symbol.Type]*types.Type
}

func newDwarfTypes() *dwarfTypes { return &dwarfTypes{known: make(map[*symbol.Type]*types.Type)} }

// argsOf is the type of `args` of a function with debug information.
func argsOf(name string, sig signature, conv *dwarfTypes) *types.Type {
	return argsType(name, func() []types.Field {
		params, _ := sig()
		out := make([]types.Field, 0, len(params))
		off := 0 // in the copy that all of `args` is
		for i, p := range params {
			f := types.Field{Name: p.Name, Type: conv.convert(p.Type, maxConvertDepth), Offset: off, ArgIndex: i}
			out = append(out, f)
			off += max(8, (f.Type.Size+7)/8*8)
		}
		return out
	})
}

func (d *dwarfTypes) convert(t *symbol.Type, depth int) *types.Type {
	if t == nil || depth == 0 {
		return types.TVoid
	}
	d.mu.Lock()
	have := d.known[t]
	d.mu.Unlock()
	if have != nil {
		return have
	}
	out := d.build(t, depth)
	d.mu.Lock()
	defer d.mu.Unlock()
	if have := d.known[t]; have != nil {
		return have
	}
	d.known[t] = out
	return out
}

func (d *dwarfTypes) build(t *symbol.Type, depth int) *types.Type {
	size := int(max(t.Bytes(), 0))
	switch t.Kind {
	case symbol.TypeInt:
		if size > 8 || size == 0 {
			return types.ArrayOf(types.TUint8, size)
		}
		c := *types.IntOf(size, t.Signed)
		c.Name = t.Name
		return &c
	case symbol.TypeBool:
		c := *types.TBool
		c.Size = max(size, 1)
		return &c
	case symbol.TypeFloat:
		return types.ArrayOf(types.TUint8, size)
	case symbol.TypePointer, symbol.TypeReference:
		return types.PointerTo(d.convert(t.Elem(), depth-1), types.SpaceUser, types.ProvRaw)
	case symbol.TypeFunc:
		return &types.Type{Kind: types.Void, Name: "function"}
	case symbol.TypeStruct, symbol.TypeUnion:
		return d.structType(t, size)
	case symbol.TypeEnum:
		def := &types.EnumDef{Name: t.Name, Size: size, Signed: t.Signed}
		for _, e := range t.Enumerators() {
			def.Values = append(def.Values, types.EnumValue{Name: e.Name, Value: e.Value})
		}
		return &types.Type{Kind: types.Enum, Size: size, Signed: t.Signed, Enum: def}
	case symbol.TypeArray:
		elem := t.Elem()
		n := int(max(t.Count, 0))
		if len(t.Dims()) == 1 && n > 0 && isCharacter(elem) {
			return types.StringOf(n)
		}
		out := d.convert(elem, depth-1)
		if len(t.Dims()) <= 1 {
			return types.ArrayOf(out, n)
		}
		for _, dim := range slices.Backward(t.Dims()) { // one type of DWARF has all dimensions
			out = types.ArrayOf(out, int(max(dim, 0)))
		}
		return out
	case symbol.TypeTypedef:
		c := *d.convert(t.Elem(), depth-1)
		c.Name = t.Name
		return &c
	case symbol.TypeQualified:
		return d.convert(t.Elem(), depth-1)
	}
	return types.TVoid
}

// isCharacter reports whether elements of an array are characters: char, but not what is a number to who named it, such as uint8_t.
func isCharacter(t *symbol.Type) bool {
	for t != nil && t.Kind == symbol.TypeQualified {
		t = t.Elem()
	}
	return t != nil && t.Kind == symbol.TypeInt && t.Char && t.Bytes() == 1
}

func (d *dwarfTypes) structType(t *symbol.Type, size int) *types.Type {
	def := &types.StructDef{Name: t.Name, Union: t.Kind == symbol.TypeUnion, Size: size}
	def.Resolve = sync.OnceValue(func() []types.Field {
		var out []types.Field
		for _, f := range t.Fields() {
			field := types.Field{Name: f.Name, Type: d.convert(f.Type, maxConvertDepth), Offset: int(f.Offset), ArgIndex: -1}
			if f.BitSize > 0 {
				field.Offset, field.BitOffset, field.BitSize = int(f.BitOffset/8), int(f.BitOffset%8), int(f.BitSize)
			}
			out = append(out, field)
		}
		return out
	})
	return &types.Type{Kind: types.Struct, Size: size, Struct: def}
}

// programTypes gives the types that the debug information of a program names.
type programTypes struct {
	file *symbol.File
	conv *dwarfTypes
}

func (p *programTypes) found(t *symbol.Type) *types.Type {
	if t == nil {
		return nil
	}
	return p.conv.convert(t, maxConvertDepth)
}

// StructType implements types.Source.
func (p *programTypes) StructType(name string) *types.Type { return p.found(p.file.StructNamed(name)) }

// EnumType implements types.Source.
func (p *programTypes) EnumType(name string) *types.Type { return p.found(p.file.EnumNamed(name)) }

// Typedef implements types.Source.
func (p *programTypes) Typedef(name string) *types.Type { return p.found(p.file.TypedefNamed(name)) }

// EnumConst implements types.Source: enumerators are read from the kernel and the script only.
func (*programTypes) EnumConst(string) (int64, *types.Type, bool) { return 0, nil, false }

// FuncProto implements types.Source.
func (*programTypes) FuncProto(string) *types.Proto { return nil }

// Names implements types.Source.
func (*programTypes) Names(string, string, int) []string { return nil }

// typesOf gives the types of a program, the same ones each time; nil when it has no debug information.
func (m *Machine) typesOf(file *symbol.File) *programTypes {
	if !file.HasDebugInfo() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.programTypes == nil {
		m.programTypes = make(map[*symbol.File]*programTypes)
	}
	p := m.programTypes[file]
	if p == nil {
		p = &programTypes{file, newDwarfTypes()}
		m.programTypes[file] = p
	}
	return p
}

// parameterArgs reads parameters where debug information says that they are when the function is entered. argN stays what the registers hold.
type parameterArgs struct {
	lower.Registers
	sig   signature
	point *uprobePoint
}

// Member implements lower.Context.
func (c parameterArgs) Member(g *lower.Gen, f types.Field) lower.Operand {
	params, _ := c.sig()
	if f.ArgIndex >= len(params) {
		return g.ZeroOf(f.Type)
	}
	place := params[f.ArgIndex].Place
	size := max(f.Type.Size, 1)
	switch place.Kind {
	case symbol.PlaceRegisters:
		if f.Type.IsScalar() {
			v := register(g, place.Registers[0])
			if f.Type.Size < 8 {
				v = g.B.Ext(v, f.Type.Size*8, f.Type.Signed)
			}
			return lower.Scalar(f.Type, v)
		}
		tmp := g.Temp("param", 8*len(place.Registers))
		for i, r := range place.Registers {
			g.B.Store(tmp.Ptr, int(tmp.Off)+8*i, 8, register(g, r))
		}
		tmp.Size = size
		return lower.Operand{Type: f.Type, P: tmp}
	case symbol.PlaceStack:
		return c.memory(g, f.Type, lower.Place{Ptr: c.sp(g), Off: int32(place.Offset), Size: size, Space: types.SpaceUser})
	case symbol.PlacePointer:
		var addr *ir.Value
		if len(place.Registers) > 0 {
			addr = register(g, place.Registers[0])
		} else {
			addr = g.LoadScalar(lower.Place{Ptr: c.sp(g), Off: int32(place.Offset), Size: 8, Space: types.SpaceUser}, types.TUint64)
		}
		return c.memory(g, f.Type, lower.Place{Ptr: addr, Size: size, Space: types.SpaceUser})
	}
	why := place.Why
	if why == "" {
		why = "debug information does not say where it is"
	}
	g.Errorf(codeNoMeans, g.Hook.Point.Node, "the parameter `%s` of %s cannot be read: %s", f.Name, c.point.fn, why)
	return g.ZeroOf(f.Type)
}

func (c parameterArgs) memory(g *lower.Gen, t *types.Type, p lower.Place) lower.Operand {
	if t.IsScalar() {
		return g.Load(p, t)
	}
	return lower.Operand{Type: t, P: p}
}

func (c parameterArgs) sp(g *lower.Gen) *ir.Value {
	v, _ := c.Reg(g, "sp")
	return v
}
