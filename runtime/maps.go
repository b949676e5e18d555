package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/value"
)

// userMap is a map of the script as the session holds it.
type userMap struct {
	spec *object.Map
	m    *ebpf.Map // its own map, or the array of globals that holds it
	mem  []byte    // the mapped memory of the array of globals, nil when it cannot be mapped
	cpus int
	pair *ebpf.Map // the slots in front of the map, nil when it has none
	// since is when the map began to be filled: at the start of the session, or when it was last cleared. The goroutine of events owns it.
	since time.Time
}

// ErrNoMap says that the session has no map of that name.
var ErrNoMap = errors.New("no such map")

func (u *userMap) keyed() bool { return u.spec.Key != nil }

// dump reads the whole map. A scalar that was never set gives no entry.
func (u *userMap) dump() (*value.Dump, error) {
	d := &value.Dump{Name: u.spec.Name, Key: u.spec.Key, Value: u.spec.Value}
	if u.spec.Global != nil {
		return d, u.dumpGlobal(d)
	}
	d.KeySize, d.Stride = u.spec.KeySize, (u.spec.ValueSize+7)&^7
	d.Copies = 1
	if perCPU(u.spec.Type) {
		d.Copies = u.cpus
	} else {
		d.Stride = u.spec.ValueSize
	}
	d.ValueSize = d.Stride * d.Copies
	if !u.keyed() {
		d.KeySize = u.spec.KeySize
	}
	if err := u.readAll(d); err != nil {
		return nil, fmt.Errorf("read map %s: %w", u.spec.Name, err)
	}
	if err := u.readSlots(d); err != nil {
		return nil, fmt.Errorf("read the slots of map %s: %w", u.spec.Name, err)
	}
	return d, nil
}

// readSlots adds the keys that are in slots in front of the map.
func (u *userMap) readSlots(d *value.Dump) error {
	if u.pair == nil {
		return nil
	}
	mem := make([]byte, u.pair.ValueSize())
	if err := u.pair.Lookup(uint32(0), mem); err != nil {
		return err
	}
	object.EachPair(mem, func(tid uint64, value []byte) {
		var key [8]byte // of which a smaller type takes the first ones: all machines that sonde runs on are little-endian
		binary.LittleEndian.PutUint64(key[:], tid)
		d.Keys, d.Values = append(d.Keys, key[:d.KeySize]...), append(d.Values, value...)
		d.N++
	})
	return nil
}

func perCPU(t ebpf.MapType) bool {
	return t == ebpf.PerCPUHash || t == ebpf.PerCPUArray || t == ebpf.LRUCPUHash
}

// isSet reports whether a scalar of the shared array was set: a set word or a byte of its value is not zero.
func isSet(g *object.GlobalSlot, mem []byte, size int) bool {
	for c := 0; c < max(g.Copies, 1); c++ {
		if g.SetOff >= 0 && value.Word(mem[g.SetOff+c*g.Stride:], 8, false) != 0 {
			return true
		}
		for _, b := range mem[g.Off+c*g.Stride:][:size] {
			if b != 0 {
				return true
			}
		}
	}
	return false
}

func (u *userMap) dumpGlobal(d *value.Dump) error {
	g := u.spec.Global
	mem, err := u.globals()
	if err != nil {
		return err
	}
	size := object.AggSize(u.spec.Value)
	if !isSet(g, mem, size) {
		return nil
	}
	d.N, d.Copies, d.Stride = 1, max(g.Copies, 1), g.Stride
	if d.Copies == 1 {
		d.Stride = size
	}
	d.ValueSize = d.Stride*(d.Copies-1) + size
	d.Values = append([]byte(nil), mem[g.Off:g.Off+d.ValueSize]...)
	return nil
}

// zeroRow makes an unset scalar the zero of its type, which an explicit print shows; histograms and stacks have none.
func (u *userMap) zeroRow(d *value.Dump) {
	switch u.spec.Value.Kind {
	case types.Hist, types.LHist, types.TSeries, types.KStack, types.UStack:
		return
	}
	size := (max(object.AggSize(u.spec.Value), u.spec.ValueSize) + 7) &^ 7
	d.N, d.Copies, d.Stride, d.ValueSize = 1, 1, size, size
	d.Keys, d.Values = make([]byte, d.KeySize), make([]byte, size)
}

// globals gives the memory of the array of globals, mapped or as a copy.
func (u *userMap) globals() ([]byte, error) {
	if u.mem != nil {
		return u.mem, nil
	}
	buf := make([]byte, u.m.ValueSize())
	if err := u.m.Lookup(uint32(0), buf); err != nil {
		return nil, fmt.Errorf("read map %s: %w", u.spec.Name, err)
	}
	return buf, nil
}

// mapGlobals maps the memory of a mmap-able array; nil without error when the map was not made mmap-able.
func mapGlobals(m *ebpf.Map) ([]byte, error) {
	if m.Flags()&unix.BPF_F_MMAPABLE == 0 {
		return nil, nil
	}
	page := os.Getpagesize()
	size := (int(m.ValueSize())*int(m.MaxEntries()) + page - 1) / page * page
	mem, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the globals: %w", err)
	}
	return mem, nil
}

// batchAttr is the part of union bpf_attr for the batch commands.
type batchAttr struct {
	inBatch, outBatch, keys, values uint64
	count, mapFD                    uint32
	elemFlags, flags                uint64
}

const (
	cmdMapLookupBatch = 24 // Linux 5.6
	batchEntries      = 4096
)

// readAll fills the dump with all entries, in batches where the kernel has them.
func (u *userMap) readAll(d *value.Dump) error {
	if u.spec.Type == ebpf.Array || u.spec.Type == ebpf.PerCPUArray {
		return u.iterate(d)
	}
	var cursor [2][]byte // opaque positions: in and out
	for i := range cursor {
		cursor[i] = make([]byte, max(d.KeySize, 8))
	}
	n, started := batchEntries, false
	for {
		// The slices grow in place: a million keys are never held twice.
		d.Keys = grow(d.Keys, d.N*d.KeySize, n*d.KeySize)
		d.Values = grow(d.Values, d.N*d.ValueSize, n*d.ValueSize)
		attr := batchAttr{outBatch: pointer(cursor[1]), keys: pointer(d.Keys[d.N*d.KeySize:]), values: pointer(d.Values[d.N*d.ValueSize:]), count: uint32(n), mapFD: uint32(u.m.FD())}
		if started {
			attr.inBatch = pointer(cursor[0])
		}
		_, _, errno := unix.Syscall(unix.SYS_BPF, cmdMapLookupBatch, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		runtime.KeepAlive(cursor)
		switch {
		case errno == 0 || errno == unix.ENOENT:
			d.N += int(attr.count)
			if errno == unix.ENOENT {
				d.Keys, d.Values = d.Keys[:d.N*d.KeySize], d.Values[:d.N*d.ValueSize]
				return nil
			}
			copy(cursor[0], cursor[1])
			started = true
		case errno == unix.ENOSPC: // one bucket holds more than a batch
			n *= 2
		case errno == unix.EINTR || errno == unix.EAGAIN:
		case !started && (errno == unix.EINVAL || errno == unix.ENOTSUP || errno == 524):
			return u.iterate(d) // before Linux 5.6, and map types without batches
		default:
			return errno
		}
	}
}

func grow(b []byte, used, more int) []byte {
	if cap(b)-used >= more {
		return b[:used+more]
	}
	out := make([]byte, used+more, max(2*cap(b), used+more))
	copy(out, b[:used])
	return out
}

func (u *userMap) iterate(d *value.Dump) error {
	keys, err := u.keys()
	if err != nil {
		return err
	}
	for i := 0; i+d.KeySize <= len(keys); i += max(d.KeySize, 1) {
		key := keys[i : i+d.KeySize]
		buf, err := u.lookup(key, d.ValueSize)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		d.Keys, d.Values = append(d.Keys, key...), append(d.Values, buf...)
		d.N++
	}
	return nil
}

// lookup reads one value with the raw call: the library wants Go slices for per-CPU values.
func (u *userMap) lookup(key []byte, size int) ([]byte, error) {
	buf := make([]byte, size)
	attr := elemAttr{mapFD: uint32(u.m.FD()), key: pointer(key), value: pointer(buf)}
	if errno := attr.call(cmdMapLookup); errno == unix.ENOENT {
		return nil, ebpf.ErrKeyNotExist
	} else if errno != 0 {
		return nil, errno
	}
	runtime.KeepAlive(key)
	return buf, nil
}

type elemAttr struct {
	mapFD, _          uint32
	key, value, flags uint64
}

const (
	cmdMapLookup  = 1
	cmdMapUpdate  = 2
	cmdMapDelete  = 3
	cmdMapNextKey = 4
)

func (a *elemAttr) call(cmd uintptr) unix.Errno {
	for {
		_, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(unsafe.Pointer(a)), unsafe.Sizeof(*a))
		if errno != unix.EINTR {
			return errno
		}
	}
}

// keys reads all keys. A key that is deleted while the list is read makes the kernel start over, so the number of steps is bounded.
func (u *userMap) keys() ([]byte, error) {
	size := u.spec.KeySize
	var all []byte
	var prev []byte
	for range 2*u.spec.MaxEntries + 16 {
		next := make([]byte, size)
		attr := elemAttr{mapFD: uint32(u.m.FD()), value: pointer(next)}
		if prev != nil {
			attr.key = pointer(prev)
		}
		errno := attr.call(cmdMapNextKey)
		runtime.KeepAlive(prev)
		if errno == unix.ENOENT {
			return all, nil
		}
		if errno != 0 {
			return nil, errno
		}
		all, prev = append(all, next...), next
	}
	return all, nil
}

// clear removes all keys; a scalar becomes unset.
func (u *userMap) clear() error {
	if u.pair != nil {
		// Before the hash: a slot that counts too many keys there is no harm.
		free := make([]byte, u.pair.ValueSize())
		copy(free, object.PairContents())
		if err := u.pair.Put(uint32(0), free); err != nil {
			return fmt.Errorf("clear %s: %w", u.spec.Name, err)
		}
	}
	if g := u.spec.Global; g != nil {
		if err := u.writeGlobal(true); err != nil {
			return fmt.Errorf("clear %s: %w", u.spec.Name, err)
		}
		return nil
	}
	keys, err := u.keys()
	if err != nil {
		return fmt.Errorf("clear %s: %w", u.spec.Name, err)
	}
	array := u.spec.Type == ebpf.Array || u.spec.Type == ebpf.PerCPUArray
	for i := 0; i+u.spec.KeySize <= len(keys) && u.spec.KeySize > 0; i += u.spec.KeySize {
		key := keys[i : i+u.spec.KeySize]
		attr := elemAttr{mapFD: uint32(u.m.FD()), key: pointer(key)}
		cmd := uintptr(cmdMapDelete)
		if array {
			zeros := make([]byte, u.bytesPerEntry())
			attr.value, cmd = pointer(zeros), cmdMapUpdate
		}
		errno := attr.call(cmd)
		runtime.KeepAlive(keys)
		if errno != 0 && errno != unix.ENOENT {
			return fmt.Errorf("clear %s: %w", u.spec.Name, errno)
		}
	}
	return nil
}

func (u *userMap) bytesPerEntry() int {
	if perCPU(u.spec.Type) {
		return (u.spec.ValueSize + 7) &^ 7 * u.cpus
	}
	return u.spec.ValueSize
}

// zero sets all values to zero and keeps the keys.
func (u *userMap) zero() error {
	if u.spec.Global != nil {
		if err := u.writeGlobal(false); err != nil {
			return fmt.Errorf("zero %s: %w", u.spec.Name, err)
		}
		return nil
	}
	keys, err := u.keys()
	if err != nil {
		return fmt.Errorf("zero %s: %w", u.spec.Name, err)
	}
	zeros := make([]byte, u.bytesPerEntry())
	const existing = 2 // BPF_EXIST: a key that was deleted meanwhile must not come back
	for i := 0; i+u.spec.KeySize <= len(keys) && u.spec.KeySize > 0; i += u.spec.KeySize {
		attr := elemAttr{mapFD: uint32(u.m.FD()), key: pointer(keys[i : i+u.spec.KeySize]), value: pointer(zeros), flags: existing}
		errno := attr.call(cmdMapUpdate)
		runtime.KeepAlive([][]byte{keys, zeros})
		if errno != 0 && errno != unix.ENOENT {
			return fmt.Errorf("zero %s: %w", u.spec.Name, errno)
		}
	}
	return nil
}

func (u *userMap) writeGlobal(unset bool) error {
	g := u.spec.Global
	mem, err := u.globals()
	if err != nil {
		return err
	}
	size := object.AggSize(u.spec.Value)
	for c := 0; c < max(g.Copies, 1); c++ {
		at := g.Off + c*g.Stride
		clear(mem[at : at+size])
	}
	if g.SetOff >= 0 {
		for c := 0; c < max(g.Copies, 1); c++ {
			clear(mem[g.SetOff+c*g.Stride:][:8])
		}
		if !unset {
			binary.NativeEndian.PutUint64(mem[g.SetOff:], 1)
		}
	}
	if u.mem != nil {
		return nil
	}
	return u.m.Put(uint32(0), mem)
}
