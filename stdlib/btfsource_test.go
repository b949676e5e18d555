package stdlib

import (
	encoding "encoding/binary"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// fixtureBTF builds a BTF blob with the types of a small imaginary kernel.
func fixtureBTF(t testing.TB, add ...btf.Type) *kernel.BTF {
	t.Helper()
	b, err := btf.NewBuilder(add, nil)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := b.Marshal(nil, &btf.MarshalOptions{Order: encoding.NativeEndian})
	if err != nil {
		t.Fatal(err)
	}
	out, err := kernel.ParseBTF(blob, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var (
	cInt    = &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	cChar   = &btf.Int{Name: "char", Size: 1, Encoding: btf.Signed}
	cUchar  = &btf.Int{Name: "unsigned char", Size: 1}
	cULong  = &btf.Int{Name: "unsigned long", Size: 8}
	cBool   = &btf.Int{Name: "_Bool", Size: 1, Encoding: btf.Bool}
	cInt128 = &btf.Int{Name: "__int128", Size: 16, Encoding: btf.Signed}
)

func array(elem btf.Type, n uint32) *btf.Array { return &btf.Array{Index: cInt, Type: elem, Nelems: n} }

func typeSource(t testing.TB, add ...btf.Type) *BTFSource {
	b := fixtureBTF(t, add...)
	return NewBTFSource(func() (*kernel.BTF, error) { return b, nil }, nil)
}

func TestBTFSourceTypes(t *testing.T) {
	inner := &btf.Struct{Name: "inner", Size: 8, Members: []btf.Member{{Name: "x", Type: cInt}, {Name: "y", Type: cInt, Offset: 32}}}
	node := &btf.Struct{Name: "node", Size: 128}
	color := &btf.Enum{Name: "color", Size: 4, Signed: true, Values: []btf.EnumValue{{Name: "RED", Value: 0}, {Name: "NONE", Value: ^uint64(0)}}}
	big := &btf.Enum{Name: "big", Size: 8, Values: []btf.EnumValue{{Name: "HUGE", Value: 1 << 40}}}
	node.Members = []btf.Member{
		{Name: "next", Type: &btf.Pointer{Target: node}},
		{Name: "name", Type: array(cChar, 16), Offset: 64},
		{Name: "raw", Type: array(cUchar, 4), Offset: 192},
		{Name: "grid", Type: array(array(cInt, 3), 2), Offset: 224},
		{Name: "", Type: &btf.Union{Size: 8, Members: []btf.Member{{Name: "as_long", Type: cULong}, {Name: "as_inner", Type: inner}}}, Offset: 448},
		{Name: "flag", Type: cInt, Offset: 515, BitfieldSize: 5},
		{Name: "color", Type: &btf.Const{Type: color}, Offset: 544},
		{Name: "buf", Type: &btf.Pointer{Target: &btf.TypeTag{Value: "user", Type: cChar}}, Offset: 576},
		{Name: "ok", Type: cBool, Offset: 640},
		{Name: "wide", Type: cInt128, Offset: 768},
		{Name: "big", Type: big, Offset: 896},
		{Name: "call", Type: &btf.Pointer{Target: &btf.FuncProto{Return: cInt}}, Offset: 960},
	}
	fn := &btf.Func{Name: "do_it", Linkage: btf.GlobalFunc, Type: &btf.FuncProto{Return: &btf.Typedef{Name: "my_int", Type: cInt}, Params: []btf.FuncParam{
		{Name: "n", Type: &btf.Pointer{Target: node}}, {Name: "pair", Type: &btf.Struct{Name: "pair", Size: 16}}, {Name: "len", Type: cInt},
	}}}
	s := typeSource(t, node, fn)

	st := s.StructType("node")
	if st == nil {
		t.Fatal("no struct node")
	}
	cases := []struct {
		field  string
		typ    string
		offset int
		bits   [2]int
	}{
		{"next", "struct node *", 0, [2]int{}},
		{"name", "string[16]", 8, [2]int{}},
		{"raw", "uint8[4]", 24, [2]int{}},
		{"grid", "int32[3][2]", 28, [2]int{}},
		{"as_long", "uint64", 56, [2]int{}},
		{"as_inner", "struct inner", 56, [2]int{}},
		{"flag", "int32", 64, [2]int{3, 5}},
		{"color", "enum color", 68, [2]int{}},
		{"buf", "int8 *", 72, [2]int{}},
		{"ok", "bool", 80, [2]int{}},
		{"wide", "uint64[2]", 96, [2]int{}},
		{"big", "enum big", 112, [2]int{}},
		{"call", "void *", 120, [2]int{}},
	}
	for _, c := range cases {
		f, ok := st.Struct.Field(c.field)
		if !ok {
			t.Errorf("%s: no such field", c.field)
			continue
		}
		if f.Type.String() != c.typ || f.Offset != c.offset || f.BitOffset != c.bits[0] || f.BitSize != c.bits[1] {
			t.Errorf("%s: %s at %d, bits %d:%d; want %s at %d, bits %v", c.field, f.Type, f.Offset, f.BitOffset, f.BitSize, c.typ, c.offset, c.bits)
		}
	}
	next, _ := st.Struct.Field("next")
	if next.Type.Elem != st {
		t.Error("a type is converted twice")
	}
	if f, _ := st.Struct.Field("buf"); f.Type.Space != types.SpaceUser {
		t.Error("a pointer tagged `user` is not a user pointer")
	}
	if v, typ, ok := s.EnumConst("NONE"); !ok || v != -1 || typ.Enum.Name != "color" {
		t.Errorf("NONE = %d, %s, %v", v, typ, ok)
	}
	if v, _, ok := s.EnumConst("HUGE"); !ok || v != 1<<40 {
		t.Errorf("HUGE = %d, %v", v, ok)
	}
	p := s.FuncProto("do_it")
	if p == nil || len(p.Params) != 3 || p.Params[1].Offset != 8 || p.Params[2].Offset != 24 || p.Result.Name != "my_int" {
		t.Errorf("do_it: %+v", p)
	}
	if got := s.Names("struct", "n", 0); !slices.Equal(got, []string{"node"}) {
		t.Errorf("structs in n: %v", got)
	}
	if got := s.Names("const", "", 2); !slices.Equal(got, []string{"HUGE", "NONE"}) {
		t.Errorf("constants: %v", got)
	}
	if s.StructType("nothing") != nil || s.EnumType("node") != nil || s.FuncProto("node") != nil {
		t.Error("found what is not there")
	}
}

func TestBTFSourceLazy(t *testing.T) {
	s := NewBTFSource(func() (*kernel.BTF, error) { t.Error("BTF was opened"); return nil, errors.New("no") }, nil)
	for _, name := range []string{"size_t", "pid_t", "u8", "unsigned int", "uint64_t", "bool"} {
		if s.Typedef(name) == nil {
			t.Errorf("%s is not known", name)
		}
	}
}

func TestBTFSourceWithoutBTF(t *testing.T) {
	s := NewBTFSource(nil, nil)
	if s.StructType("task_struct") != nil || s.Typedef("nothing") != nil {
		t.Error("found a type without BTF")
	}
	if _, err := s.Kernel(); !errors.Is(err, kernel.ErrNoBTF) {
		t.Errorf("error %v", err)
	}
}

// TestBasicTypesAgree compares the built-in table with the machine's own kernel.
func TestBasicTypesAgree(t *testing.T) {
	b, err := kernel.OpenBTF("/sys/kernel/btf/vmlinux", nil)
	if err != nil {
		t.Skip("needs the kernel's BTF: ", err)
	}
	s := NewBTFSource(func() (*kernel.BTF, error) { return b, nil }, nil)
	for name, want := range basicTypes() {
		got := s.find(name, kernel.KindTypedef, kernel.KindInt)
		if got != nil && (got.Size != want.Size || got.Signed != want.Signed && name != "char" || got.Kind != want.Kind) {
			t.Errorf("%s: the kernel has %s, the table %s", name, got, want)
		}
	}
	task := s.StructType("task_struct")
	if f, ok := task.Struct.Field("comm"); !ok || f.Type.String() != "string[16]" {
		t.Errorf("task_struct.comm: %v", f.Type)
	}
}

func TestBTFSourceConcurrent(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		t.Skip("needs the kernel's BTF: ", err)
	}
	s := NewBTFSource(func() (*kernel.BTF, error) { return kernel.OpenBTF("/sys/kernel/btf/vmlinux", nil) }, nil)
	var wg sync.WaitGroup
	got := make([]*types.Type, 8)
	for i := range got {
		wg.Add(1)
		go func() {
			defer wg.Done()
			st := s.StructType("task_struct")
			st.Struct.Field("nonexistent")
			got[i] = st
		}()
	}
	wg.Wait()
	for _, g := range got {
		if g != got[0] {
			t.Error("goroutines see different types")
		}
	}
}

func BenchmarkBTFSourceTaskStruct(b *testing.B) {
	for b.Loop() {
		s := NewBTFSource(func() (*kernel.BTF, error) { return kernel.OpenBTF("/sys/kernel/btf/vmlinux", nil) }, nil)
		s.StructType("task_struct").Struct.Field("comm")
	}
}
