package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

const vmlinuxBTF = "/sys/kernel/btf/vmlinux"

func hostBTF(t testing.TB) *BTF {
	t.Helper()
	b, err := OpenBTF(vmlinuxBTF, nil)
	if errors.Is(err, ErrNoBTF) {
		t.Skip("needs kernel BTF: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// btfBuilder writes small BTF blobs by hand, so that these tests know every byte.
type btfBuilder struct {
	types, strs []byte
	strBase     uint32
}

func newBTFBuilder() *btfBuilder { return &btfBuilder{strs: []byte{0}} }

func (w *btfBuilder) str(s string) uint32 {
	if s == "" {
		return 0
	}
	if i := bytes.Index(w.strs, append(append([]byte{0}, s...), 0)); i >= 0 {
		return w.strBase + uint32(i) + 1
	}
	off := uint32(len(w.strs))
	w.strs = append(append(w.strs, s...), 0)
	return w.strBase + off
}

func (w *btfBuilder) add(name string, k Kind, flag bool, vlen int, size uint32, rest ...uint32) {
	info := uint32(k)<<24 | uint32(vlen)
	if flag {
		info |= 1 << 31
	}
	for _, v := range append([]uint32{w.str(name), info, size}, rest...) {
		w.types = binary.LittleEndian.AppendUint32(w.types, v)
	}
}

func (w *btfBuilder) bytes() []byte {
	h := binary.LittleEndian.AppendUint16(nil, btfMagic)
	h = append(h, 1, 0)
	for _, v := range []int{24, 0, len(w.types), len(w.types), len(w.strs)} {
		h = binary.LittleEndian.AppendUint32(h, uint32(v))
	}
	return append(append(h, w.types...), w.strs...)
}

func sampleBTF() []byte {
	w := newBTFBuilder()
	w.add("int", KindInt, false, 0, 4, 1<<24|32) // 1
	w.add("char", KindInt, false, 0, 1, 8)       // 2
	w.add("", KindArray, false, 0, 0, 2, 1, 16)  // 3 char[16]
	w.add("task", KindStruct, false, 3, 40,      // 4
		w.str("pid"), 1, 0, w.str("comm"), 3, 64, w.str(""), 6, 192)
	w.add("", KindPtr, false, 0, 4)   // 5 struct task *
	w.add("", KindUnion, false, 2, 8, // 6
		w.str("parent"), 5, 0, w.str("raw"), 1, 0)
	w.add("flags", KindStruct, true, 2, 4, // 7
		w.str("a"), 1, 3<<24, w.str("b"), 1, 5<<24|3)
	w.add("", KindConst, false, 0, 4)         // 8 const struct task
	w.add("", KindPtr, false, 0, 8)           // 9
	w.add("task_t", KindTypedef, false, 0, 8) // 10
	w.add("state", KindEnum, true, 2, 4,      // 11
		w.str("RUNNING"), 0, w.str("DEAD"), 0xffffffff)
	w.add("big", KindEnum64, false, 1, 8, w.str("HUGE"), 1, 2)                // 12
	w.add("", KindFuncProto, false, 3, 1, w.str("t"), 9, w.str("n"), 1, 0, 0) // 13
	w.add("do_task", KindFunc, false, 1, 13)                                  // 14
	w.add("runq", KindVar, false, 0, 4, 1)                                    // 15
	w.add(".data..percpu", KindDatasec, false, 1, 64, 15, 24, 40)             // 16
	w.add("", KindFuncProto, false, 2, 0, 0, 9, w.str("cpu"), 1)              // 17
	w.add("", KindPtr, false, 0, 17)                                          // 18
	w.add("btf_trace_switch", KindTypedef, false, 0, 18)                      // 19
	w.add("real", KindFloat, false, 0, 8)                                     // 20
	w.add("task", KindFwd, true, 0, 0)                                        // 21 union task, forward
	w.add("user", KindTypeTag, false, 0, 2)                                   // 22
	w.add("kfunc", KindDeclTag, false, 0, 14, 0xffffffff)                     // 23
	return w.bytes()
}

func mustParseBTF(t testing.TB, data []byte, base *BTF) *BTF {
	t.Helper()
	b, err := ParseBTF(data, base)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	return b
}

func mustType(t testing.TB, b *BTF, name string, kinds ...Kind) Type {
	t.Helper()
	id, ok := b.TypeByName(name, kinds...)
	if !ok {
		t.Fatalf("no type %s", name)
	}
	ty, err := b.Type(id)
	if err != nil {
		t.Fatal(err)
	}
	return ty
}

func TestBTFDecode(t *testing.T) {
	b := mustParseBTF(t, sampleBTF(), nil)
	if n := b.NumTypes(); n != 24 {
		t.Errorf("NumTypes = %d, want 24", n)
	}
	task := mustType(t, b, "task", KindStruct)
	if task.ID != 4 || task.Size != 40 || task.Len() != 3 {
		t.Errorf("task = %+v", task)
	}
	if m := task.Member(1); m.Name != "comm" || m.Offset() != 8 || m.BitSize != 0 || b.String(m.Type) != "char[16]" {
		t.Errorf("comm = %+v", m)
	}
	if m, ok := task.MemberByName("raw"); !ok || m.BitOffset != 192 {
		t.Errorf("member of an anonymous union = %+v, %v", m, ok)
	}
	if _, ok := task.MemberByName("nothing"); ok {
		t.Error("found a member that does not exist")
	}
	if m := mustType(t, b, "flags").Member(1); m.BitOffset != 3 || m.BitSize != 5 {
		t.Errorf("bit-field b = %+v", m)
	}
	if fwd := mustType(t, b, "task", KindFwd); fwd.ID != 21 || !fwd.IsUnion() {
		t.Errorf("fwd = %+v", fwd)
	}
	if e := mustType(t, b, "int").Int(); !e.Signed || e.Bits != 32 {
		t.Errorf("int = %+v", e)
	}
	td := mustType(t, b, "task_t")
	if r, err := b.Resolve(td.ID); err != nil || r.ID != 4 {
		t.Errorf("Resolve(task_t) = %+v, %v", r, err)
	}
	if n, err := b.Sizeof(3); err != nil || n != 16 {
		t.Errorf("Sizeof(char[16]) = %d, %v", n, err)
	}
	if _, err := b.Sizeof(14); err == nil {
		t.Error("a function has a size")
	}
	if _, err := b.Type(24); err == nil {
		t.Error("type 24 exists")
	}
	for name, want := range map[string]uint64{"RUNNING": 0, "DEAD": ^uint64(0), "HUGE": 2<<32 | 1} {
		if e, _, ok := b.EnumValue(name); !ok || e.Value != want || e.Name != name {
			t.Errorf("EnumValue(%s) = %+v, %v, want %#x", name, e, ok, want)
		}
	}
	if _, _, ok := b.EnumValue("task"); ok {
		t.Error("a struct is an enumerator")
	}
	if v, at, ok := b.PerCPU("runq"); !ok || at.Offset != 24 || at.Size != 40 || v.Ref != 4 {
		t.Errorf("PerCPU = %+v %+v %v", v, at, ok)
	}
	if s, err := b.FuncArgs("do_task"); err != nil || s != "int do_task(const struct task * t, int n, ...)" {
		t.Errorf("FuncArgs = %q, %v", s, err)
	}
	if td, ps, ok := b.TracepointProto("switch"); !ok || td.ID != 19 || len(ps) != 1 || ps[0].Name != "cpu" {
		t.Errorf("TracepointProto = %+v %+v %v", td, ps, ok)
	}
	if c := mustType(t, b, "kfunc").Component(); c != -1 {
		t.Errorf("Component = %d", c)
	}
}

func TestBTFNames(t *testing.T) {
	b := mustParseBTF(t, sampleBTF(), nil)
	var got []string
	for _, name := range b.Each("*task*", KindStruct, KindFunc, KindTypedef) {
		got = append(got, name)
	}
	if want := []string{"task", "task_t", "do_task"}; !slices.Equal(got, want) {
		t.Errorf("Each = %v, want %v", got, want)
	}
	// The scan and the index that replaces it give the same answers.
	for round := range 3 * scansBeforeIndex {
		b.TypeByName(strings.Repeat("x", round+1))
		for name, want := range map[string]ID{"task": 4, "do_task": 14, "tas": 0, "task\x00": 0, "": 0, "real": 20} {
			id, ok := b.TypeByName(name)
			if id != want || ok != (want != 0) {
				t.Fatalf("round %d: TypeByName(%q) = %d, %v", round, name, id, ok)
			}
		}
	}
	if b.index == nil {
		t.Error("no index was made")
	}
	if id, _ := b.TypeByName("task", KindFwd); id != 21 {
		t.Errorf("fwd task = %d", id)
	}
}

func TestFindName(t *testing.T) {
	s := sampleBTF()
	for i := range s {
		for n := range min(20, len(s)-i) {
			needle := s[i : i+n]
			if got, want := findName(s, needle), bytes.Index(s, needle); got != want {
				t.Fatalf("findName(%q) = %d, want %d", needle, got, want)
			}
		}
	}
	if i := findName(s, []byte("no such name")); i != -1 {
		t.Errorf("found what is not there at %d", i)
	}
}

func TestBTFSplit(t *testing.T) {
	base := mustParseBTF(t, sampleBTF(), nil)
	w := &btfBuilder{strBase: uint32(len(base.strs))}
	w.strs = append([]byte("mod_struct"), 0)
	w.types = nil
	w.add("own", KindFunc, false, 0, 13)
	info := []uint32{w.strBase, uint32(KindStruct)<<24 | 1, 8, 5, 5, 0} // name is the first string of the module
	for _, v := range info {
		w.types = binary.LittleEndian.AppendUint32(w.types, v)
	}
	b := mustParseBTF(t, w.bytes(), base)
	if id, ok := b.TypeByName("own"); !ok || id != 24 {
		t.Errorf("own = %d %v", id, ok)
	}
	st := mustType(t, b, "mod_struct")
	if st.ID != 25 || b.String(st.Member(0).Type) != "struct task *" {
		t.Errorf("mod_struct = %+v, member %s", st, b.String(st.Member(0).Type))
	}
	if id, ok := b.TypeByName("task"); !ok || id != 4 {
		t.Errorf("type of the base = %d %v", id, ok)
	}
	if ty, err := b.Type(4); err != nil || ty.Name != "task" {
		t.Errorf("Type(4) = %+v, %v", ty, err)
	}
}

func TestBTFAgainstLibrary(t *testing.T) {
	b := hostBTF(t)
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	n := b.NumTypes()
	seen := map[Kind]int{}
	for id := ID(1); int(id) < n; id++ {
		got, err := b.Type(id)
		if err != nil {
			t.Fatal(err)
		}
		// Every type of a rare kind, every eleventh of the others: the library needs half a second for all.
		if seen[got.Kind]++; seen[got.Kind] > 200 && id%11 != 0 {
			continue
		}
		want, err := spec.TypeByID(btf.TypeID(id))
		if err != nil {
			t.Fatalf("library: type %d: %v", id, err)
		}
		compareType(t, b, spec, got, want)
		if t.Failed() {
			t.FailNow()
		}
	}
	if _, err := spec.TypeByID(btf.TypeID(n)); err == nil {
		t.Errorf("the library knows a type %d, we end at %d", n, n-1)
	}
	if seen[KindStruct] == 0 || seen[KindFunc] == 0 {
		t.Errorf("kinds seen: %v", seen)
	}
}

func compareType(t *testing.T, b *BTF, spec *btf.Spec, got Type, want btf.Type) {
	t.Helper()
	id := got.ID
	sameRef := func(what string, ref ID, ty btf.Type) {
		if _, void := ty.(*btf.Void); void {
			if ref != 0 {
				t.Errorf("type %d: %s = %d, want void", id, what, ref)
			}
			return
		}
		wantID, err := spec.TypeID(ty)
		if err != nil || ID(wantID) != ref {
			t.Errorf("type %d: %s = %d, want %d (%v)", id, what, ref, wantID, err)
		}
	}
	same := func(what string, g, w any) {
		if g != w {
			t.Errorf("type %d (%s %s): %s = %v, want %v", id, got.Kind, got.Name, what, g, w)
		}
	}
	members := func(size uint32, ms []btf.Member) {
		same("size", got.Size, size)
		same("members", got.Len(), len(ms))
		for i, m := range got.Members() {
			same("member", m.Name, ms[i].Name)
			same("member offset", m.BitOffset, uint32(ms[i].Offset))
			same("member width", m.BitSize, uint32(ms[i].BitfieldSize))
			sameRef("member", m.Type, ms[i].Type)
		}
	}
	switch w := want.(type) {
	case *btf.Int:
		same("kind", got.Kind, KindInt)
		same("name", got.Name, w.Name)
		same("size", got.Size, w.Size)
		e := got.Int()
		same("signed", e.Signed, w.Encoding == btf.Signed)
		same("bool", e.Bool, w.Encoding == btf.Bool)
		same("char", e.Char, w.Encoding == btf.Char)
	case *btf.Struct:
		same("kind", got.Kind, KindStruct)
		same("name", got.Name, w.Name)
		members(w.Size, w.Members)
	case *btf.Union:
		same("kind", got.Kind, KindUnion)
		same("name", got.Name, w.Name)
		members(w.Size, w.Members)
	case *btf.Enum:
		same("enum", got.Kind == KindEnum || got.Kind == KindEnum64, true)
		same("name", got.Name, w.Name)
		same("size", got.Size, w.Size)
		same("signed", got.Signed(), w.Signed)
		same("values", got.Len(), len(w.Values))
		for i, e := range got.Enumerators() {
			same("enumerator", e, Enumerator{w.Values[i].Name, w.Values[i].Value})
		}
	case *btf.Array:
		same("length", got.Len(), int(w.Nelems))
		sameRef("element", got.Ref, w.Type)
		sameRef("index", got.Index(), w.Index)
	case *btf.Pointer:
		same("kind", got.Kind, KindPtr)
		sameRef("target", got.Ref, w.Target)
	case *btf.Typedef:
		same("name", got.Name, w.Name)
		sameRef("target", got.Ref, w.Type)
	case *btf.Const:
		same("kind", got.Kind, KindConst)
		sameRef("target", got.Ref, w.Type)
	case *btf.Func:
		same("name", got.Name, w.Name)
		same("linkage", got.Linkage(), uint32(w.Linkage))
		sameRef("prototype", got.Ref, w.Type)
	case *btf.FuncProto:
		sameRef("result", got.Ref, w.Return)
		ps, variadic := got.Params()
		n := len(w.Params)
		if variadic {
			n--
		}
		same("parameters", len(ps), n)
		for i, p := range ps {
			same("parameter", p.Name, w.Params[i].Name)
			sameRef("parameter", p.Type, w.Params[i].Type)
		}
	case *btf.Var:
		same("name", got.Name, w.Name)
		same("linkage", got.Linkage(), uint32(w.Linkage))
		sameRef("type", got.Ref, w.Type)
	case *btf.Datasec:
		same("name", got.Name, w.Name)
		same("size", got.Size, w.Size)
		for i, v := range w.Vars {
			e := got.VarEntry(i)
			same("var", [2]uint32{e.Offset, e.Size}, [2]uint32{v.Offset, v.Size})
			sameRef("var", e.Type, v.Type)
		}
	}
	if n, err := btf.Sizeof(want); err == nil && n != 0 {
		m, err := b.Sizeof(id)
		if err != nil || m != uint64(n) {
			t.Errorf("type %d (%s %s): Sizeof = %d, %v, want %d", id, got.Kind, got.Name, m, err, n)
		}
	}
}

func TestBTFHostLookups(t *testing.T) {
	b := hostBTF(t)
	task := mustType(t, b, "task_struct", KindStruct)
	if m, ok := task.MemberByName("comm"); !ok || b.String(m.Type) != "char[16]" {
		t.Errorf("comm = %+v %v %s", m, ok, b.String(m.Type))
	}
	if m, ok := task.MemberByName("parent"); !ok || !strings.HasPrefix(b.String(m.Type), "struct task_struct *") {
		t.Errorf("parent = %+v %v %s", m, ok, b.String(m.Type))
	}
	if _, _, ok := b.FuncProto("vfs_read"); !ok {
		t.Error("no vfs_read")
	}
	if td, ps, ok := b.TracepointProto("sched_switch"); !ok || len(ps) < 3 || ps[1].Name != "prev" || td.Kind != KindTypedef {
		t.Errorf("sched_switch = %+v %+v %v", td, ps, ok)
	}
	if e, _, ok := b.EnumValue("BPF_MAP_TYPE_HASH"); !ok || e.Value != 1 {
		t.Errorf("BPF_MAP_TYPE_HASH = %+v %v", e, ok)
	}
	if _, ok := b.TypeByName(".data..percpu", KindDatasec); !ok {
		t.Skip("needs variables in the kernel's BTF (pahole 1.18)")
	}
	if _, _, ok := b.PerCPU("runqueues"); !ok {
		t.Error("no per-CPU variable runqueues")
	}
}

func TestOpenBTFErrors(t *testing.T) {
	if _, err := OpenBTF("testdata/none", nil); !errors.Is(err, ErrNoBTF) {
		t.Errorf("missing file: %v", err)
	}
	dir := t.TempDir()
	for name, data := range map[string]string{"empty": "", "short": "\x9f\xeb", "elf": "\x7fELF123", "text": strings.Repeat("x", 100)} {
		p := dir + "/" + name
		if err := os.WriteFile(p, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenBTF(p, nil); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// touchAll uses everything of a BTF; none of it may panic or hang, whatever the bytes.
func touchAll(b *BTF) {
	n := min(b.NumTypes(), 2000)
	for id := ID(0); int(id) <= n; id++ {
		t, err := b.Type(id)
		if err != nil {
			continue
		}
		_ = b.String(id)
		_, _ = b.Sizeof(id)
		_, _ = b.Resolve(id)
		_, _ = t.MemberByName("comm")
		for range t.Members() {
		}
		for range t.Enumerators() {
		}
		_, _ = t.Params()
		for i := range min(t.Len(), 100) {
			_ = t.VarEntry(i)
		}
		_, _, _, _ = t.Int(), t.Index(), t.Linkage(), t.Component()
		if t.Name != "" {
			b.TypeByName(t.Name)
			_, _ = b.FuncArgs(t.Name)
			b.PerCPU(t.Name)
		}
	}
	b.EnumValue("RUNNING")
	b.TracepointProto("switch")
	for range b.Each("") {
	}
}

func FuzzBTF(f *testing.F) {
	f.Add(sampleBTF())
	s := sampleBTF()
	for _, i := range []int{8, 12, 16, 20, 27, 30, 40, 100, 200} {
		c := bytes.Clone(s)
		c[i] ^= 0x7f
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseBTF(data, nil)
		if err != nil {
			return
		}
		touchAll(b)
		if split, err := ParseBTF(data, mustParse(sampleBTF())); err == nil {
			touchAll(split)
		}
	})
}

func mustParse(data []byte) *BTF {
	b, err := ParseBTF(data, nil)
	if err != nil {
		panic(err)
	}
	return b
}

func BenchmarkBTFOpen(b *testing.B) {
	hostBTF(b)
	for b.Loop() {
		if _, err := OpenBTF(vmlinuxBTF, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBTFScan(b *testing.B) {
	bt := hostBTF(b)
	for _, name := range []string{"task_struct", "vfs_read", "btf_trace_sched_switch", "no_such_name"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				bt.scan(name, ^uint32(0))
			}
		})
	}
}

func BenchmarkBTFString(b *testing.B) {
	bt := hostBTF(b)
	for _, name := range []string{"task_struct", "vfs_read", "seq_file", "tcp_sendmsg", "no_such_name"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				bt.stringOffset(name)
			}
		})
	}
}

func BenchmarkBTFOffsets(b *testing.B) {
	bt := hostBTF(b)
	for b.Loop() {
		c := &BTF{types: bt.types, strs: bt.strs, order: bt.order, firstID: 1}
		c.allOffsets()
	}
}

func BenchmarkBTFNameIndex(b *testing.B) {
	bt := hostBTF(b)
	for b.Loop() {
		newNameIndex(bt)
	}
}

func BenchmarkBTFIndexed(b *testing.B) {
	bt := hostBTF(b)
	bt.index = newNameIndex(bt)
	for b.Loop() {
		bt.TypeByName("vfs_read", KindFunc)
	}
}

func BenchmarkBTFEachFunc(b *testing.B) {
	bt := hostBTF(b)
	for b.Loop() {
		for range bt.Each("vfs_*", KindFunc) {
		}
	}
}

func BenchmarkBTFEnumValue(b *testing.B) {
	bt := hostBTF(b)
	for b.Loop() {
		bt.scanEnums("BPF_MAP_TYPE_HASH")
	}
}

func TestHostModuleBTF(t *testing.T) {
	k := host(t)
	mods, err := k.BTFModules()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.ModuleBTF("no_such_module"); err == nil {
		t.Error("a module that is not loaded has type information")
	}
	if _, err := k.ModuleBTF("../vmlinux"); err == nil {
		t.Error("a path is a module")
	}
	if fd, err := k.ModuleBTFFD(""); err != nil || fd != 0 {
		t.Errorf("descriptor of the kernel itself = %d, %v", fd, err)
	}
	if len(mods) == 0 {
		t.Skip("needs a loaded module with BTF")
	}
	base, err := k.BTF()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mods {
		b, err := k.ModuleBTF(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Err(); err != nil {
			t.Errorf("%s: %v", m, err)
		}
		if int(b.FirstID()) != base.NumTypes() || b.Base() != base {
			t.Errorf("%s starts at %d, the kernel ends at %d", m, b.FirstID(), base.NumTypes())
		}
		for id, name := range b.Each("*", KindFunc) {
			// FindFunc takes the kernel's function of the same name first, unless a module is named.
			ref, err := k.FindFunc(m, name)
			if err != nil || ref.Module != m || ref.Func.Name != name {
				t.Errorf("FindFunc(%s, %s) = %+v, %v, want type %d", m, name, ref, err, id)
			}
			if s, err := b.FuncArgs(name); err != nil || s == "" {
				t.Errorf("%s: FuncArgs(%s) = %q, %v", m, name, s, err)
			}
			if _, inKernel := base.TypeByName(name, KindFunc); !inKernel {
				if any, err := k.FindFunc("", name); err != nil || any.Module == "" {
					t.Errorf("FindFunc(%s) = %+v, %v", name, any, err)
				}
			}
		}
		fd, err := k.ModuleBTFFD(m)
		if err != nil || fd <= 0 {
			t.Errorf("ModuleBTFFD(%s) = %d, %v", m, fd, err)
		}
		if again, _ := k.ModuleBTFFD(m); again != fd {
			t.Errorf("%s was opened twice", m)
		}
	}
}
