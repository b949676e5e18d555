package interp

import (
	"errors"
	"fmt"
	"sort"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen/ir"
)

// Map is a fake map. Array kinds have all their values from the start; per-CPU kinds have one copy.
type Map struct {
	Type                           ebpf.MapType
	KeySize, ValueSize, MaxEntries int
	Contents                       []byte // initial value of the first entry of an array

	values map[string]uint64 // key bytes -> address of the value
	self   uint64
}

func (mp *Map) isArray() bool { return mp.Type == ebpf.Array || mp.Type == ebpf.PerCPUArray }

func (m *Machine) mapNamed(name string) (*Map, error) {
	if mp := m.Maps[name]; mp != nil {
		return mp, nil
	}
	return nil, fmt.Errorf("interp: no map %q", name)
}

// handle returns what stands for the map as an argument.
func (mp *Map) handle(m *Machine) uint64 {
	if mp.self == 0 {
		mp.self = m.alloc("a map itself", nil, false)
	}
	return mp.self
}

func (mp *Map) slot(m *Machine, key string) uint64 {
	if mp.values == nil {
		mp.values = map[string]uint64{}
	}
	p, ok := mp.values[key]
	if !ok {
		value := make([]byte, mp.ValueSize)
		if mp.isArray() && key == arrayKey(0) {
			copy(value, mp.Contents)
		}
		p = m.alloc("a map value", value, false)
		mp.values[key] = p
	}
	return p
}

func arrayKey(i int) string {
	return string([]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)})
}

// value returns the address of entry i of an array.
func (mp *Map) value(m *Machine, i int) uint64 { return mp.slot(m, arrayKey(i)) }

// Bytes returns the value of a key, nil when there is none. Writing to it changes the map.
func (m *Machine) Bytes(name string, key []byte) []byte {
	mp := m.Maps[name]
	if mp == nil {
		return nil
	}
	p := mp.lookup(m, string(key))
	if p == 0 {
		return nil
	}
	b, _ := m.Read(p, mp.ValueSize)
	return b
}

// ArrayBytes returns entry i of an array map.
func (m *Machine) ArrayBytes(name string, i int) []byte { return m.Bytes(name, []byte(arrayKey(i))) }

// Keys returns the keys of a hash map in ascending order of bytes.
func (m *Machine) Keys(name string) []string {
	var out []string
	for k := range m.Maps[name].values {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func (mp *Map) lookup(m *Machine, key string) uint64 {
	if mp.isArray() {
		i := int(key[0]) | int(key[1])<<8 | int(key[2])<<16 | int(key[3])<<24
		if i >= mp.MaxEntries {
			return 0
		}
		return mp.slot(m, key)
	}
	return mp.values[key]
}

func (m *Machine) mapOf(handle uint64) (*Map, error) {
	for _, mp := range m.Maps {
		if mp.self == handle && handle != 0 {
			return mp, nil
		}
	}
	return nil, errors.New("interp: the argument is not a map")
}

// funcHandle gives a number that stands for a function.
func (m *Machine) funcHandle(f *ir.Func) uint64 {
	for i, r := range m.regions {
		if r.name == "func "+f.Name {
			return uint64(i+1)<<32 + regionBase
		}
	}
	if m.Helpers == nil {
		m.Helpers = map[asm.BuiltinFunc]Helper{}
	}
	h := m.alloc("func "+f.Name, nil, false)
	m.Helpers[asm.BuiltinFunc(h>>32)|callbackBit] = func(m *Machine, a [5]uint64) (uint64, error) {
		return m.Call(f, a[:len(f.Blocks[0].Params)]...)
	}
	return h
}

// callbackBit marks callbacks among the helpers.
const callbackBit asm.BuiltinFunc = 1 << 27

func (m *Machine) callback(handle uint64, args [5]uint64) (uint64, error) {
	h := m.Helpers[asm.BuiltinFunc(handle>>32)|callbackBit]
	if h == nil {
		return 0, errors.New("interp: the argument is not a function")
	}
	return h(m, args)
}

const (
	errNoEnt = ^uint64(1)  // -2
	errFault = ^uint64(13) // -14
	errExist = ^uint64(16) // -17
	errBig   = ^uint64(6)  // -7
)

func (m *Machine) helper(fn asm.BuiltinFunc, a [5]uint64) (uint64, error) {
	if h := m.Helpers[fn]; h != nil {
		return h(m, a)
	}
	switch fn {
	case asm.FnMapLookupElem, asm.FnMapUpdateElem, asm.FnMapDeleteElem, asm.FnForEachMapElem:
		return m.mapHelper(fn, a)
	case asm.FnMapLookupPercpuElem:
		if a[2] != 0 { // there is one CPU
			return 0, nil
		}
		return m.mapHelper(asm.FnMapLookupElem, a)
	case asm.FnLoop:
		for i := range a[0] {
			x, err := m.callback(a[1], [5]uint64{i, a[2]})
			if err != nil || x != 0 {
				return i + 1, err
			}
		}
		return a[0], nil
	case asm.FnProbeReadKernel, asm.FnProbeReadUser, asm.FnProbeRead:
		return m.probeRead(a[0], a[1], a[2])
	case asm.FnProbeReadKernelStr, asm.FnProbeReadUserStr, asm.FnProbeReadStr:
		return m.probeReadStr(a[0], a[1], a[2])
	case asm.FnRingbufReserve:
		m.open++
		return m.alloc("a ring-buffer record", make([]byte, a[1]), false), nil
	case asm.FnRingbufSubmit, asm.FnRingbufDiscard:
		r, off, err := m.find(a[0], 0)
		if err != nil {
			return 0, err
		}
		if off != 0 {
			return 0, fmt.Errorf("interp: byte %d of a record instead of its start", off)
		}
		if fn == asm.FnRingbufSubmit {
			m.Records = append(m.Records, append([]byte(nil), r.data...))
		}
		m.open--
		r.freed = true
		return 0, nil
	case asm.FnRingbufOutput:
		b, err := m.Read(a[1], int(a[2]))
		if err == nil {
			m.Records = append(m.Records, append([]byte(nil), b...))
		}
		return 0, err
	case asm.FnGetSmpProcessorId:
		return 0, nil
	case asm.FnKtimeGetNs:
		return uint64(m.steps), nil // time goes by
	default:
	}
	return 0, fmt.Errorf("interp: no helper %s", fn)
}

func (m *Machine) mapHelper(fn asm.BuiltinFunc, a [5]uint64) (uint64, error) {
	mp, err := m.mapOf(a[0])
	if err != nil {
		return 0, err
	}
	if fn == asm.FnForEachMapElem {
		keys := make([]string, 0, len(mp.values))
		for k := range mp.values {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for i, k := range keys {
			key := m.alloc("a key", []byte(k), false)
			x, err := m.callback(a[1], [5]uint64{a[0], key, mp.values[k], a[2]})
			if err != nil || x != 0 {
				return uint64(i) + 1, err
			}
		}
		return uint64(len(keys)), nil
	}
	b, err := m.Read(a[1], mp.KeySize)
	if err != nil {
		return 0, err
	}
	key := string(b)
	p := mp.lookup(m, key)
	switch fn {
	case asm.FnMapLookupElem:
		return p, nil
	case asm.FnMapDeleteElem:
		if p == 0 {
			return errNoEnt, nil
		}
		delete(mp.values, key)
		return 0, nil
	default:
	}
	v, err := m.Read(a[2], mp.ValueSize)
	if err != nil {
		return 0, err
	}
	v = append([]byte(nil), v...)
	switch {
	case p != 0 && a[3] == uint64(ebpf.UpdateNoExist):
		return errExist, nil
	case p == 0 && (a[3] == uint64(ebpf.UpdateExist) || mp.isArray()):
		return errNoEnt, nil
	case p == 0 && len(mp.values) >= mp.MaxEntries:
		return errBig, nil
	case p == 0:
		p = mp.slot(m, key)
	}
	dst, err := m.Write(p, mp.ValueSize)
	copy(dst, v)
	return 0, err
}

// probeRead copies; memory that is not there gives an error and zeroes.
func (m *Machine) probeRead(dst, n, src uint64) (uint64, error) {
	d, err := m.Write(dst, int(n))
	if err != nil {
		return 0, err
	}
	r, off, err := m.find(src, int(n))
	if err != nil {
		clear(d)
		return errFault, nil
	}
	copy(d, r.data[off:])
	return 0, nil
}

// probeReadStr copies up to and including a NUL and returns the length with it.
func (m *Machine) probeReadStr(dst, n, src uint64) (uint64, error) {
	d, err := m.Write(dst, int(n))
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, nil
	}
	r, off, err := m.find(src, 0)
	if err != nil {
		clear(d)
		return errFault, nil
	}
	for i := range d {
		if off+i >= len(r.data) {
			clear(d)
			return errFault, nil
		}
		d[i] = r.data[off+i]
		if d[i] == 0 || i == len(d)-1 {
			d[i] = 0
			return uint64(i) + 1, nil
		}
	}
	return 0, nil
}
