package stdlib

import (
	"bytes"
	encoding "encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/tools/txtar"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// fixtureMachine is a small imaginary machine: files from testdata/machine.txtar, BTF and a program built here.
func fixtureMachine(t testing.TB) *Machine {
	t.Helper()
	root := t.TempDir()
	ar, err := txtar.ParseFile("testdata/machine.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range ar.Files {
		write(t, filepath.Join(root, f.Name), f.Data)
	}
	b, err := btf.NewBuilder(fixtureTypes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := b.Marshal(nil, &btf.MarshalOptions{Order: encoding.NativeEndian})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "sys/kernel/btf/vmlinux"), blob)
	image := fixtureELF()
	write(t, filepath.Join(root, "usr/bin/tool"), image)
	write(t, filepath.Join(root, "usr/bin/tool2"), image)
	write(t, filepath.Join(root, "usr/lib/libdemo.so.1"), image)
	k, err := kernel.Open(kernel.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	m := NewMachine(k)
	m.Features = kernel.FixedFeatures(kernel.FeatureKprobes, kernel.FeatureKprobeMulti, kernel.FeatureUprobeMulti, kernel.FeatureTPBTF,
		kernel.FeatureFentry, kernel.FeaturePerfLink, "bpf_get_attach_cookie")
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// fixtureTypes are the types, functions and tracepoints of the imaginary kernel.
func fixtureTypes() []btf.Type {
	file := &btf.Struct{Name: "file", Size: 16, Members: []btf.Member{{Name: "f_mode", Type: cInt}, {Name: "f_pos", Type: cULong, Offset: 64}}}
	task := &btf.Struct{Name: "task_struct", Size: 32, Members: []btf.Member{{Name: "pid", Type: cInt}, {Name: "comm", Type: array(cChar, 16), Offset: 32}}}
	state := &btf.Enum{Name: "state", Size: 4, Values: []btf.EnumValue{{Name: "RUNNING"}, {Name: "SLEEPING", Value: 1}}}
	ssize := &btf.Typedef{Name: "ssize_t", Type: &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}}
	ptr := func(t btf.Type) btf.Type { return &btf.Pointer{Target: t} }
	fn := func(name string, ret btf.Type, params ...btf.FuncParam) btf.Type {
		return &btf.Func{Name: name, Linkage: btf.GlobalFunc, Type: &btf.FuncProto{Return: ret, Params: params}}
	}
	tp := func(name string, params ...btf.FuncParam) btf.Type {
		proto := &btf.FuncProto{Return: &btf.Void{}, Params: append([]btf.FuncParam{{Type: ptr(&btf.Void{})}}, params...)}
		return &btf.Typedef{Name: "btf_trace_" + name, Type: ptr(proto)}
	}
	// Iterators pad the pointers of their context to eight bytes by unions.
	slot := func(name string, t btf.Type) btf.Type {
		return &btf.Union{Size: 8, Members: []btf.Member{{Name: name, Type: ptr(t)}}}
	}
	meta := &btf.Struct{Name: "bpf_iter_meta", Size: 8, Members: []btf.Member{{Name: "seq_num", Type: cULong}}}
	iterTask := &btf.Struct{Name: "bpf_iter__task", Size: 16, Members: []btf.Member{{Type: slot("meta", meta)}, {Type: slot("task", task), Offset: 64}}}
	iterFile := &btf.Struct{Name: "bpf_iter__task_file", Size: 32, Members: []btf.Member{
		{Type: slot("meta", meta)},
		{Type: slot("task", task), Offset: 64},
		{Name: "fd", Type: &btf.Int{Name: "unsigned int", Size: 4}, Offset: 128},
		{Type: slot("file", file), Offset: 192},
	}}
	return []btf.Type{
		state, iterTask, iterFile,
		fn("bpf_iter_task", cInt, btf.FuncParam{Name: "meta", Type: ptr(meta)}, btf.FuncParam{Name: "task", Type: ptr(task)}),
		fn("bpf_lsm_file_open", cInt, btf.FuncParam{Name: "file", Type: ptr(file)}),
		fn("bpf_lsm_file_free", &btf.Void{}, btf.FuncParam{Name: "file", Type: ptr(file)}),
		fn("vfs_read", ssize, btf.FuncParam{Name: "file", Type: ptr(file)}, btf.FuncParam{Name: "buf", Type: ptr(cChar)}, btf.FuncParam{Name: "count", Type: cULong}),
		fn("vfs_readv", ssize, btf.FuncParam{Name: "file", Type: ptr(file)}),
		fn("vfs_write", ssize, btf.FuncParam{Name: "file", Type: ptr(file)}),
		fn("do_exit", &btf.Void{}, btf.FuncParam{Name: "code", Type: cInt}),
		tp("sched_switch", btf.FuncParam{Name: "preempt", Type: cBool}, btf.FuncParam{Name: "prev", Type: ptr(task)}, btf.FuncParam{Name: "state", Type: state}),
		tp("sched_waking", btf.FuncParam{Name: "p", Type: ptr(task)}),
	}
}

// fixtureELF is an executable of four functions: plain (push), landed (endbr64; push), locked (lock prefix) and a C++ one in two overloads.
func fixtureELF() []byte {
	text := make([]byte, 0x100)
	for i := range text {
		text[i] = 0x90 // nop
	}
	put := func(off int, code ...byte) { copy(text[off:], code) }
	put(0x00, 0x55, 0x48, 0x89, 0xe5, 0x5d, 0xc3)       // push rbp; mov rbp,rsp; pop rbp; ret
	put(0x20, 0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x5d, 0xc3) // endbr64; push rbp; pop rbp; ret
	put(0x40, 0xf0, 0xff, 0x0f, 0xc3)                   // lock dec [rdi]; ret
	put(0x60, 0x55, 0x5d, 0xc3)
	put(0x80, 0x55, 0x5d, 0xc3)
	syms := []struct {
		name string
		addr uint64
		size uint64
	}{{"plain", 0x401000, 6}, {"landed", 0x401020, 7}, {"locked", 0x401040, 4}, {"_ZN2ns1fEi", 0x401060, 3}, {"_ZN2ns1fEPKc", 0x401080, 3}}
	strtab := []byte{0}
	var symtab bytes.Buffer
	w := func(buf *bytes.Buffer, vs ...any) {
		for _, v := range vs {
			_ = encoding.Write(buf, encoding.LittleEndian, v)
		}
	}
	w(&symtab, [24]byte{})
	for _, s := range syms {
		w(&symtab, uint32(len(strtab)), uint8(0x12), uint8(0), uint16(1), s.addr, s.size)
		strtab = append(append(strtab, s.name...), 0)
	}
	shstr := []byte("\x00.text\x00.symtab\x00.strtab\x00.shstrtab\x00")
	const textOff = 0x1000
	symOff := uint64(textOff + len(text))
	strOff := symOff + uint64(symtab.Len())
	shstrOff := strOff + uint64(len(strtab))
	shOff := (shstrOff + uint64(len(shstr)) + 7) &^ 7
	var out bytes.Buffer
	w(&out, [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, uint16(2), uint16(62), uint32(1), uint64(0x401000), uint64(64), shOff, uint32(0),
		uint16(64), uint16(56), uint16(1), uint16(64), uint16(5), uint16(4))
	w(&out, uint32(1), uint32(5), uint64(textOff), uint64(0x401000), uint64(0x401000), uint64(len(text)), uint64(len(text)), uint64(0x1000))
	out.Write(make([]byte, textOff-out.Len()))
	out.Write(text)
	out.Write(symtab.Bytes())
	out.Write(strtab)
	out.Write(shstr)
	out.Write(make([]byte, int(shOff)-out.Len()))
	section := func(name, typ uint32, flags, addr, off, size uint64, link, info uint32, align, entsize uint64) {
		w(&out, name, typ, flags, addr, off, size, link, info, align, entsize)
	}
	section(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	section(1, 1, 6, 0x401000, textOff, uint64(len(text)), 0, 0, 16, 0)
	section(7, 2, 0, 0, symOff, uint64(symtab.Len()), 3, 1, 8, 24)
	section(15, 3, 0, 0, strOff, uint64(len(strtab)), 0, 0, 1, 0)
	section(23, 3, 0, 0, shstrOff, uint64(len(shstr)), 0, 0, 1, 0)
	return out.Bytes()
}

// Where the kernel tells nothing about its types, an error about a type says so; where it does, and with other errors, nothing is added.
func TestNoteTypes(t *testing.T) {
	root := t.TempDir()
	k, err := kernel.Open(kernel.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	without := NewMachine(k)
	for _, c := range []struct {
		m     *Machine
		code  diag.Code
		notes int
	}{
		{without, check.CodeUnknownField, 1},
		{without, check.CodeUnknownType, 1},
		{without, check.CodeUndefinedVar, 0},
		{fixtureMachine(t), check.CodeUnknownField, 0},
	} {
		diags := &diag.List{}
		d := diags.Errorf(c.code, source.Span{}, "wrong")
		c.m.NoteTypes(diags)
		if len(d.Notes) != c.notes || c.notes > 0 && !strings.Contains(d.Notes[0], "no type information (BTF)") {
			t.Errorf("%s: %q", c.code, d.Notes)
		}
	}
}
