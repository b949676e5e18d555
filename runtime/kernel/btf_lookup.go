package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// scansBeforeIndex is after how many look-ups by name the hash index is built. A scan costs 0.03 to 0.8 ms, the index
// 3 to 5 ms and 2 MB once: a one-liner never pays for it, a wildcard over functions always gains.
const scansBeforeIndex = 12

// TypeByName finds the type with exactly this name and one of the kinds (any kind when none is given). The base of a
// split BTF is searched when the module itself has no such type. Of several types with the same name and kind the first wins.
func (b *BTF) TypeByName(name string, kinds ...Kind) (ID, bool) {
	if name == "" || strings.IndexByte(name, 0) >= 0 {
		return 0, false
	}
	want := kindSet(kinds)
	if id, ok := b.lookup(name, want); ok {
		return id, true
	}
	if b.base != nil {
		return b.base.TypeByName(name, kinds...)
	}
	return 0, false
}

func kindSet(kinds []Kind) uint32 {
	if len(kinds) == 0 {
		return ^uint32(0)
	}
	var set uint32
	for _, k := range kinds {
		set |= 1 << (k & 31)
	}
	return set
}

func (b *BTF) lookup(name string, want uint32) (ID, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.index != nil {
		return b.index.find(b, name, want)
	}
	key := strconv.FormatUint(uint64(want), 36) + "/" + name
	if id, ok := b.memo[key]; ok {
		return id, id != 0
	}
	if b.scans++; b.scans > scansBeforeIndex {
		b.index = newNameIndex(b)
		b.memo = nil
		return b.index.find(b, name, want)
	}
	id := b.scan(name, want)
	if b.memo == nil {
		b.memo = make(map[string]ID)
	}
	b.memo[key] = id
	return id, id != 0
}

// scan is the look-up without any index: search the string section for the name, then pass over the types comparing
// nothing but the offset of their names.
func (b *BTF) scan(name string, want uint32) ID {
	off, ok := b.stringOffset(name)
	if !ok {
		return 0
	}
	if !b.big {
		return b.scanLE(off, want)
	}
	var found ID
	b.walk(func(id ID, _, nameOff, info uint32) bool {
		if nameOff == off && want>>(info>>24&0x1f)&1 != 0 {
			found = id
			return false
		}
		return true
	})
	return found
}

// scanLE is walk without its call per type, which is most of the cost of a look-up.
func (b *BTF) scanLE(name, want uint32) ID {
	t := b.types
	id := b.firstID
	for len(t) >= 12 {
		info := binary.LittleEndian.Uint32(t[4:])
		k := info >> 24 & 0x1f
		e := extraBytes[k]
		next := 12 + int(e.fixed) + int(e.per)*int(info&0xffff)
		if next > len(t) || !e.known {
			return 0
		}
		if binary.LittleEndian.Uint32(t) == name && want>>k&1 != 0 {
			return id
		}
		t = t[next:]
		id++
	}
	return 0
}

// rareFirst orders the characters of kernel names from rare to common, as counted in a kernel's BTF: `e` is every twelfth, `q` one in
// 270. Characters that are not listed are rarer than all.
const rareFirst = "79J5Z8Q01j3WzYKX26V4HGBUqMFDLCwNPOIySRAxhvkTEgbumfdlpnocisarte_"

// findName finds needle (a name between NUL bytes) in a string section. It looks for the rarest character of the name, which the
// library does 32 bytes at a time, and compares around each hit: two megabytes in 0.2 ms, a tenth of what a search for the whole takes.
func findName(s, needle []byte) int {
	at, rank := 0, len(rareFirst)+1
	for i, c := range needle {
		if c == 0 {
			continue
		}
		if r := strings.IndexByte(rareFirst, c); r < rank {
			at, rank = i, r
		}
	}
	if rank > len(rareFirst) {
		return bytes.Index(s, needle)
	}
	c := needle[at]
	for i := at; i < len(s); {
		n := bytes.IndexByte(s[i:], c)
		if n < 0 {
			return -1
		}
		i += n
		if from := i - at; from+len(needle) <= len(s) && s[from] == needle[0] && string(s[from:from+len(needle)]) == string(needle) {
			return from
		}
		i++
	}
	return -1
}

// stringOffset finds a whole string in the section of this blob and then its base's. BTF holds each string once.
func (b *BTF) stringOffset(name string) (uint32, bool) {
	needle := make([]byte, 0, 64)
	needle = append(needle, 0)
	needle = append(needle, name...)
	needle = append(needle, 0)
	if i := findName(b.strs, needle); i >= 0 {
		return b.firstSt + uint32(i) + 1, true
	}
	if bytes.HasPrefix(b.strs, needle[1:]) { // a split BTF starts with a real string
		return b.firstSt, true
	}
	if b.base != nil {
		return b.base.stringOffset(name)
	}
	return 0, false
}

// nameIndex is a hash table from name to the types of that name, in three flat arrays: no pointer, nothing per type.
type nameIndex struct {
	heads []uint32 // hash -> 1 + index of a type, 0 = empty
	next  []uint32 // index of a type -> 1 + index of the next one with the same hash slot
	offs  []uint32 // the BTF's offsets
	mask  uint32
}

func newNameIndex(b *BTF) *nameIndex {
	offs := b.allOffsets()
	size := uint32(1)
	for int(size) < len(offs) {
		size <<= 1
	}
	x := &nameIndex{heads: make([]uint32, size), next: make([]uint32, len(offs)), offs: offs, mask: size - 1}
	// From the last to the first, so that a chain goes in order of ID.
	for i := len(offs) - 1; i >= 0; i-- {
		nameOff := b.order.Uint32(b.types[offs[i]:])
		if nameOff == 0 {
			continue
		}
		h := hashName(b.str(nameOff)) & x.mask
		x.next[i] = x.heads[h]
		x.heads[h] = uint32(i) + 1
	}
	return x
}

func hashName(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h ^ h>>15
}

func (x *nameIndex) find(b *BTF, name string, want uint32) (ID, bool) {
	if len(x.heads) == 0 {
		return 0, false
	}
	for i := x.heads[hashName(name)&x.mask]; i != 0; i = x.next[i-1] {
		off := x.offs[i-1]
		info := b.order.Uint32(b.types[off+4:])
		if want>>(info>>24&0x1f)&1 != 0 && b.str(b.order.Uint32(b.types[off:])) == name {
			return b.firstID + ID(i-1), true
		}
	}
	return 0, false
}

// Each goes through all types of this blob (not its base) that have a name which matches and one of the kinds, in order
// of ID. A name can come several times.
func (b *BTF) Each(pattern string, kinds ...Kind) iter.Seq2[ID, string] {
	g, want := CompileGlob(pattern), kindSet(kinds)
	return func(yield func(ID, string) bool) {
		b.walk(func(id ID, _, nameOff, info uint32) bool {
			if nameOff == 0 || want>>(info>>24&0x1f)&1 == 0 {
				return true
			}
			name := b.str(nameOff)
			if name == "" || !g.Match(name) {
				return true
			}
			return yield(id, name)
		})
	}
}

// FuncProto finds a function and its prototype. ok is false when BTF has no such function: it was inlined, has no
// debug information, or the name belongs to a module.
func (b *BTF) FuncProto(name string) (fn, proto Type, ok bool) {
	id, ok := b.TypeByName(name, KindFunc)
	if !ok {
		return Type{}, Type{}, false
	}
	return b.funcProto(id)
}

func (b *BTF) funcProto(id ID) (fn, proto Type, ok bool) {
	fn, err := b.Type(id)
	if err != nil || fn.Kind != KindFunc {
		return Type{}, Type{}, false
	}
	proto, err = b.Type(fn.Ref)
	return fn, proto, err == nil && proto.Kind == KindFuncProto
}

// TracepointProto is the prototype of a tracepoint as tp_btf and raw tracepoint programs see it, without the leading
// `void *` that only the kernel's trampoline takes. fn is the typedef `btf_trace_NAME` whose ID a tp_btf program attaches to.
func (b *BTF) TracepointProto(name string) (typedef Type, params []Param, ok bool) {
	id, ok := b.TypeByName("btf_trace_"+name, KindTypedef)
	if !ok {
		return Type{}, nil, false
	}
	typedef, err := b.Type(id)
	if err != nil {
		return Type{}, nil, false
	}
	ptr, err := b.Resolve(typedef.Ref)
	if err != nil || ptr.Kind != KindPtr {
		return Type{}, nil, false
	}
	proto, err := b.Resolve(ptr.Ref)
	if err != nil || proto.Kind != KindFuncProto {
		return Type{}, nil, false
	}
	params, _ = proto.Params()
	if len(params) == 0 {
		return Type{}, nil, false
	}
	params = params[1:]
	// The typedef's prototype comes from a macro and has no parameter names on older kernels; the function that
	// calls the programs has them.
	if len(params) > 0 && params[0].Name == "" {
		if _, p, ok := b.FuncProto("__bpf_trace_" + name); ok {
			if named, _ := p.Params(); len(named) == len(params)+1 {
				return typedef, named[1:], true
			}
		}
		if _, p, ok := b.FuncProto("__traceiter_" + name); ok {
			if named, _ := p.Params(); len(named) == len(params)+1 {
				return typedef, named[1:], true
			}
		}
	}
	return typedef, params, true
}

// enumIndex finds enumerators by the offset of their names. It holds 12 bytes per enumerator, sorted by nothing: one
// look-up scans the enums, so it is only made when many are asked for.
type enumIndex struct {
	byName map[string]enumRef
}

type enumRef struct {
	enum ID
	i    uint32
}

// EnumValue finds a constant of any enum by its name, for example TASK_RUNNING. enum is the first enum that has it.
func (b *BTF) EnumValue(name string) (value Enumerator, enum ID, ok bool) {
	if name == "" || strings.IndexByte(name, 0) >= 0 {
		return Enumerator{}, 0, false
	}
	b.enumsMu.Lock()
	defer b.enumsMu.Unlock()
	if b.enums == nil {
		b.enums = &enumIndex{byName: make(map[string]enumRef)}
	}
	ref, known := b.enums.byName[name]
	if !known {
		ref = b.scanEnums(name)
		b.enums.byName[name] = ref
	}
	if ref.enum == 0 {
		if b.base != nil {
			return b.base.EnumValue(name)
		}
		return Enumerator{}, 0, false
	}
	t, err := b.Type(ref.enum)
	if err != nil {
		return Enumerator{}, 0, false
	}
	return t.Enumerator(int(ref.i)), ref.enum, true
}

func (b *BTF) scanEnums(name string) (found enumRef) {
	off, ok := b.stringOffset(name)
	if !ok {
		return found
	}
	b.walk(func(id ID, at, _, info uint32) bool {
		var step uint32
		switch Kind(info >> 24 & 0x1f) {
		case KindEnum:
			step = 8
		case KindEnum64:
			step = 12
		default:
			return true
		}
		p := b.types[at+12:]
		for i := range info & 0xffff {
			if b.order.Uint32(p[i*step:]) == off {
				found = enumRef{id, i}
				return false
			}
		}
		return true
	})
	return found
}

// PerCPU finds a per-CPU variable of the kernel: its type and its offset and size inside the per-CPU section.
func (b *BTF) PerCPU(name string) (v Type, at VarEntry, ok bool) {
	id, ok := b.TypeByName(name, KindVar)
	if !ok {
		return Type{}, VarEntry{}, false
	}
	b.percpu.Do(func() {
		b.pcVars = make(map[ID]VarEntry)
		for sec, name := range b.Each("*percpu*", KindDatasec) {
			if name != ".data..percpu" && name != ".data.percpu" {
				continue
			}
			t, err := b.Type(sec)
			if err != nil {
				continue
			}
			b.pcSec = sec
			for i := range t.Len() {
				e := t.VarEntry(i)
				b.pcVars[e.Type] = e
			}
		}
	})
	at, ok = b.pcVars[id]
	if !ok {
		return Type{}, VarEntry{}, false
	}
	v, err := b.Type(id)
	return v, at, err == nil
}

// FuncArgs describes a function's parameters in words, for messages: "int foo(struct file *f, char *buf)".
func (b *BTF) FuncArgs(name string) (string, error) {
	fn, proto, ok := b.FuncProto(name)
	if !ok {
		return "", fmt.Errorf("BTF has no function %s", name)
	}
	var s strings.Builder
	s.WriteString(b.String(proto.Ref))
	s.WriteByte(' ')
	s.WriteString(fn.Name)
	s.WriteByte('(')
	ps, variadic := proto.Params()
	for i, p := range ps {
		if i > 0 {
			s.WriteString(", ")
		}
		s.WriteString(b.String(p.Type))
		s.WriteByte(' ')
		s.WriteString(p.Name)
	}
	if variadic {
		s.WriteString(", ...")
	}
	s.WriteByte(')')
	return s.String(), nil
}
