package stdlib

import (
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// BTFSource gives the kernel's structs, enums, typedefs and function prototypes as types of the language. Nothing is opened
// before the first question that the table of basic names cannot answer, and only what is asked for is converted.
// It is safe for concurrent use.
type BTFSource struct {
	vmlinux func() (*kernel.BTF, error)
	module  func(name string) (*kernel.BTF, error)

	mu     sync.Mutex
	opened bool
	base   *kernel.BTF // nil when the kernel has no BTF
	err    error
	used   []*kernel.BTF // modules that the script names, in order of their first use
	names  []string      // their names
	cache  map[btfKey]*types.Type
}

var _ types.Source = (*BTFSource)(nil)

// btfKey identifies a type: IDs of two modules overlap.
type btfKey struct {
	blob *kernel.BTF
	id   kernel.ID
}

// NewBTFSource makes a source; vmlinux is called once, at the first need, and module once per module. Either may be nil: then there is
// no such BTF.
func NewBTFSource(vmlinux func() (*kernel.BTF, error), module func(name string) (*kernel.BTF, error)) *BTFSource {
	return &BTFSource{vmlinux: vmlinux, module: module, cache: make(map[btfKey]*types.Type)}
}

// Kernel returns the kernel's own BTF, or the reason why there is none.
func (s *BTFSource) Kernel() (*kernel.BTF, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kernel()
}

func (s *BTFSource) kernel() (*kernel.BTF, error) {
	if !s.opened {
		s.opened = true
		s.err = kernel.ErrNoBTF
		if s.vmlinux != nil {
			s.base, s.err = s.vmlinux()
		}
	}
	return s.base, s.err
}

// Module returns the BTF of a module ("" and "vmlinux" are the kernel itself) and makes its types visible to later look-ups by name, as
// a script means when it names the module in an attach point.
func (s *BTFSource) Module(name string) (*kernel.BTF, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	base, err := s.kernel()
	if name == "" || name == "vmlinux" || err != nil {
		return base, err
	}
	if i := slices.Index(s.names, name); i >= 0 {
		return s.used[i], nil
	}
	if s.module == nil {
		return nil, kernel.ErrNoBTF
	}
	b, err := s.module(name)
	if err != nil {
		return nil, err
	}
	s.names, s.used = append(s.names, name), append(s.used, b)
	return b, nil
}

// blobs are the places to look for a name, the kernel first.
func (s *BTFSource) blobs() []*kernel.BTF {
	s.mu.Lock()
	defer s.mu.Unlock()
	base, err := s.kernel()
	if err != nil {
		return nil
	}
	return append([]*kernel.BTF{base}, s.used...)
}

func (s *BTFSource) find(name string, kinds ...kernel.Kind) *types.Type {
	for _, b := range s.blobs() {
		if id, ok := b.TypeByName(name, kinds...); ok {
			return s.Convert(b, id)
		}
	}
	return nil
}

// StructType finds a struct or union by its tag.
func (s *BTFSource) StructType(name string) *types.Type {
	return s.find(name, kernel.KindStruct, kernel.KindUnion)
}

// EnumType finds an enum by its tag.
func (s *BTFSource) EnumType(name string) *types.Type {
	return s.find(name, kernel.KindEnum, kernel.KindEnum64)
}

// Typedef finds a typedef. Basic names (size_t, u32, pid_t, `unsigned int`) are known without BTF.
func (s *BTFSource) Typedef(name string) *types.Type {
	if t := basicType(name); t != nil {
		return t
	}
	return s.find(name, kernel.KindTypedef)
}

// EnumConst finds an enumerator of any enum.
func (s *BTFSource) EnumConst(name string) (int64, *types.Type, bool) {
	for _, b := range s.blobs() {
		if v, id, ok := b.EnumValue(name); ok {
			return int64(v.Value), s.Convert(b, id), true
		}
	}
	return 0, nil, false
}

// FuncProto finds a function of the kernel or of a module in use. Pointers among its parameters are raw kernel addresses.
func (s *BTFSource) FuncProto(name string) *types.Proto {
	for i, b := range s.blobs() {
		fn, proto, ok := b.FuncProto(name)
		if !ok {
			continue
		}
		p := &types.Proto{Name: fn.Name, Result: s.Convert(b, proto.Ref)}
		if i > 0 {
			s.mu.Lock()
			p.Module = s.names[i-1]
			s.mu.Unlock()
		}
		params, _ := proto.Params()
		p.Params = s.params(b, params, types.ProvRaw)
		for i := range p.Params {
			p.Params[i].ArgIndex = i
		}
		return p
	}
	return nil
}

// params lays parameters out as the kernel gives them to a tracing program: a word of eight bytes each, two for a large struct by value.
// ArgIndex is the first word.
func (s *BTFSource) params(b *kernel.BTF, params []kernel.Param, prov types.Provenance) []types.Field {
	fields := make([]types.Field, len(params))
	off := 0
	for i, p := range params {
		t := withProvenance(s.Convert(b, p.Type), prov)
		fields[i] = types.Field{Name: p.Name, Type: t, Offset: off, ArgIndex: off / 8}
		off += 8 * words(t.Size)
	}
	return fields
}

func withProvenance(t *types.Type, prov types.Provenance) *types.Type {
	if t.Kind != types.Pointer || t.Prov == prov || t.Space != types.SpaceKernel {
		return t
	}
	c := *t
	c.Prov = prov
	return &c
}

// Names lists names with a prefix in alphabetical order, at most limit of them (0 is all).
func (s *BTFSource) Names(what, prefix string, limit int) []string {
	var kinds []kernel.Kind
	switch what {
	case "struct":
		kinds = []kernel.Kind{kernel.KindStruct, kernel.KindUnion}
	case "enum":
		kinds = []kernel.Kind{kernel.KindEnum, kernel.KindEnum64}
	case "typedef":
		kinds = []kernel.Kind{kernel.KindTypedef}
	case "func":
		kinds = []kernel.Kind{kernel.KindFunc}
	case "const":
		return s.constNames(prefix, limit)
	default:
		return nil
	}
	var out []string
	if what == "typedef" {
		for name := range basicTypes() {
			if strings.HasPrefix(name, prefix) && !strings.Contains(name, " ") {
				out = append(out, name)
			}
		}
	}
	for _, b := range s.blobs() {
		for _, name := range b.Each(prefix+"*", kinds...) {
			out = append(out, name)
		}
	}
	return sortedNames(out, limit)
}

func (s *BTFSource) constNames(prefix string, limit int) []string {
	var out []string
	for _, b := range s.blobs() {
		for id := kernel.ID(1); int(id) < b.NumTypes(); id++ {
			if id < b.FirstID() {
				id = b.FirstID()
			}
			t, err := b.Type(id)
			if err != nil {
				break
			}
			for _, e := range t.Enumerators() {
				if strings.HasPrefix(e.Name, prefix) {
					out = append(out, e.Name)
				}
			}
		}
	}
	return sortedNames(out, limit)
}

func sortedNames(names []string, limit int) []string {
	sort.Strings(names)
	names = slices.Compact(names)
	if limit > 0 && len(names) > limit {
		names = names[:limit]
	}
	return names
}

// maxConvertDepth bounds references without a name on the way; only malformed BTF is deeper.
const maxConvertDepth = 64

// Convert gives the type with an ID of b. Structs are not looked into; their fields are converted when Resolve is called. A type that
// cannot be decoded is void.
func (s *BTFSource) Convert(b *kernel.BTF, id kernel.ID) *types.Type {
	return s.convert(b, id, maxConvertDepth)
}

func (s *BTFSource) convert(b *kernel.BTF, id kernel.ID, depth int) *types.Type {
	if id == 0 || depth == 0 {
		return types.TVoid
	}
	for b.Base() != nil && id < b.FirstID() {
		b = b.Base()
	}
	key := btfKey{b, id}
	s.mu.Lock()
	t, ok := s.cache[key]
	s.mu.Unlock()
	if ok {
		return t
	}
	t = s.build(b, id, depth)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.cache[key]; ok { // another goroutine was faster; types stay comparable by pointer where they can
		return old
	}
	s.cache[key] = t
	return t
}

func (s *BTFSource) build(b *kernel.BTF, id kernel.ID, depth int) *types.Type {
	bt, err := b.Type(id)
	if err != nil {
		return types.TVoid
	}
	switch bt.Kind {
	case kernel.KindInt:
		return intType(bt)
	case kernel.KindFloat:
		return types.ArrayOf(types.TUint8, int(bt.Size)) // BPF has no floating point: only the bytes can be shown
	case kernel.KindPtr:
		return s.pointer(b, bt, depth)
	case kernel.KindArray:
		return s.array(b, bt, depth)
	case kernel.KindStruct, kernel.KindUnion:
		return s.structType(b, bt)
	case kernel.KindFwd:
		return s.forward(b, bt)
	case kernel.KindEnum, kernel.KindEnum64:
		return enumType(bt)
	case kernel.KindTypedef:
		c := *s.convert(b, bt.Ref, depth-1)
		c.Name = bt.Name
		return &c
	case kernel.KindConst, kernel.KindVolatile, kernel.KindRestrict, kernel.KindTypeTag, kernel.KindVar:
		return s.convert(b, bt.Ref, depth-1)
	}
	return types.TVoid
}

func intType(bt kernel.Type) *types.Type {
	enc := bt.Int()
	switch {
	case bt.Size > 8:
		return types.ArrayOf(types.TUint64, int(bt.Size)/8) // __int128
	case enc.Bool:
		c := *types.TBool
		c.Size = int(bt.Size)
		return &c
	}
	c := *types.IntOf(int(bt.Size), enc.Signed || bt.Name == "char") // plain char is signed here, whatever the architecture says
	c.Name = bt.Name
	return &c
}

func (s *BTFSource) pointer(b *kernel.BTF, bt kernel.Type, depth int) *types.Type {
	space := types.SpaceKernel
	for id, n := bt.Ref, 0; n < maxConvertDepth; n++ {
		t, err := b.Type(id)
		if err != nil {
			break
		}
		if t.Kind == kernel.KindTypeTag && t.Name == "user" {
			space = types.SpaceUser
		}
		switch t.Kind {
		case kernel.KindConst, kernel.KindVolatile, kernel.KindRestrict, kernel.KindTypeTag:
			id = t.Ref
			continue
		}
		break
	}
	t := types.PointerTo(s.convert(b, bt.Ref, depth-1), space, types.ProvRaw)
	if to, err := b.Resolve(bt.Ref); err == nil && to.Kind == kernel.KindFwd {
		t.Declared = true
	}
	return t
}

func (s *BTFSource) array(b *kernel.BTF, bt kernel.Type, depth int) *types.Type {
	elem := s.convert(b, bt.Ref, depth-1)
	n := bt.Len()
	if n > 0 && isChar(b, bt.Ref) {
		return types.StringOf(n)
	}
	if elem.Size > 0 && n > 1<<30/elem.Size {
		n = 0
	}
	return types.ArrayOf(elem, n)
}

// isChar tells whether a type is C's plain char, of which arrays are strings; int8 and unsigned char are numbers.
func isChar(b *kernel.BTF, id kernel.ID) bool {
	t, err := b.Resolve(id)
	return err == nil && t.Kind == kernel.KindInt && t.Name == "char"
}

func (s *BTFSource) structType(b *kernel.BTF, bt kernel.Type) *types.Type {
	def := &types.StructDef{Name: bt.Name, Union: bt.Kind == kernel.KindUnion, Size: int(bt.Size)}
	def.Resolve = sync.OnceValue(func() []types.Field {
		fields := make([]types.Field, 0, bt.Len())
		for _, m := range bt.Members() {
			f := types.Field{Name: m.Name, Type: s.Convert(b, m.Type), Offset: int(m.Offset()), ArgIndex: -1}
			if m.BitSize > 0 {
				f.BitOffset, f.BitSize = int(m.BitOffset%8), int(m.BitSize)
			}
			fields = append(fields, f)
		}
		return fields
	})
	return &types.Type{Kind: types.Struct, Size: int(bt.Size), Struct: def}
}

// forward is a struct that this blob only declares. A module's BTF declares what the kernel defines, and the other way round.
func (s *BTFSource) forward(b *kernel.BTF, bt kernel.Type) *types.Type {
	kind := kernel.KindStruct
	if bt.IsUnion() {
		kind = kernel.KindUnion
	}
	if id, ok := b.TypeByName(bt.Name, kind); ok {
		return s.Convert(b, id)
	}
	def := &types.StructDef{Name: bt.Name, Union: bt.IsUnion()}
	def.Resolve = func() []types.Field { return nil }
	return &types.Type{Kind: types.Struct, Struct: def}
}

func enumType(bt kernel.Type) *types.Type {
	def := &types.EnumDef{Name: bt.Name, Size: int(bt.Size), Signed: bt.Signed(), Values: make([]types.EnumValue, 0, bt.Len())}
	for _, e := range bt.Enumerators() {
		def.Values = append(def.Values, types.EnumValue{Name: e.Name, Value: int64(e.Value)})
	}
	return &types.Type{Kind: types.Enum, Size: int(bt.Size), Signed: def.Signed, Enum: def}
}
