package runtime

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/value"
)

// Hub owns what the sessions of one prompt share: the maps of the scripts, the store of stacks, the names of attach points and the symbols. A
// session that is made with Options.Hub borrows them, so that it can be detached and closed alone while the maps live on. It is safe for
// concurrent use.
//
// An object for a hub is compiled against Hub.Shared; no other object may join before the session of that one was made, or both would give the
// same number to different attach points. The prompt compiles one item at a time.
type Hub struct {
	kernel   *kernel.Kernel
	resolver *resolver
	values   *value.Decoder

	mu     sync.Mutex
	maps   map[string]*hubMap
	shared object.Shared
	cpus   int
	closed bool
}

// hubMap is one map of the session.
type hubMap struct {
	spec  *object.Map
	m     *ebpf.Map // nil for a scalar, which lives in its array
	mem   []byte    // the mapped memory of an array of scalars
	users int       // sessions that are open and use it
}

// NewHub makes a hub without maps.
func NewHub(k *kernel.Kernel, cfg object.Config) (*Hub, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count the CPUs: %w", err)
	}
	h := &Hub{kernel: k, maps: map[string]*hubMap{}, shared: object.Shared{Maps: map[string]*object.Map{}}, cpus: cpus}
	h.resolver = &resolver{kernel: k, obj: &object.Object{Config: cfg}, stacks: h.stacks, hub: h}
	h.values = &value.Decoder{R: h.resolver, Trailer: cfg.StrTruncTrailer, Indent: 8}
	return h, nil
}

// Shared is what the next script must be compiled against. The caller owns the result.
func (h *Hub) Shared() *object.Shared {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &object.Shared{Maps: maps.Clone(h.shared.Maps), Points: slices.Clone(h.shared.Points), Funcs: slices.Clone(h.shared.Funcs)}
}

func (h *Hub) stacks() *ebpf.Map {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.maps {
		if m.spec.Role == object.MapStacks {
			return m.m
		}
	}
	return nil
}

// pointName names an attach point of the session.
func (h *Hub) pointName(i uint64) (name, fn string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i >= uint64(len(h.shared.Points)) {
		return "", "", false
	}
	return h.shared.Points[i], h.shared.Funcs[i], true
}

// join takes over the attach points of an object.
func (h *Hub) join(obj *object.Object) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(obj.Points) > len(h.shared.Points) {
		h.shared.Points, h.shared.Funcs = slices.Clone(obj.Points), slices.Clone(obj.Funcs)
	}
}

// borrow gives a shared map of an object, and makes it when it is new. create is how maps are made.
func (h *Hub) borrow(m *object.Map, create func(*object.Map) (*ebpf.Map, error)) (*hubMap, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hm := h.maps[m.Name]; hm != nil {
		if !fits(hm.spec, m) {
			return nil, &MapError{m, errors.New("the session has a map of that name with another layout")}
		}
		hm.users++
		return hm, nil
	}
	hm := &hubMap{spec: m, users: 1}
	if m.Global == nil {
		em, err := create(m)
		if err != nil {
			return nil, err
		}
		hm.m = em
		if m.Role == object.MapState {
			if hm.mem, err = mapGlobals(em); err != nil {
				return nil, errors.Join(err, em.Close())
			}
		}
	}
	h.maps[m.Name] = hm
	spec := *m
	h.shared.Maps[m.Name] = &spec
	return hm, nil
}

func (h *Hub) has(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.maps[name] != nil
}

// fits reports whether what was compiled for b works with a, which exists.
func fits(a, b *object.Map) bool {
	return a.Type == b.Type && a.KeySize == b.KeySize && a.ValueSize == b.ValueSize && (a.Global == nil) == (b.Global == nil) &&
		(a.Global == nil || *a.Global == *b.Global)
}

// giveBack ends the use of a map by a session. fresh drops it when nobody else uses it: the session that made it failed.
func (h *Hub) giveBack(name string, fresh bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	hm := h.maps[name]
	if hm == nil {
		return
	}
	hm.users--
	if fresh && hm.users == 0 {
		_ = h.drop(name)
	}
}

func (h *Hub) drop(name string) error {
	hm := h.maps[name]
	delete(h.maps, name)
	delete(h.shared.Maps, name)
	var errs []error
	if hm.mem != nil {
		errs = append(errs, unix.Munmap(hm.mem))
	}
	if hm.m != nil {
		errs = append(errs, hm.m.Close())
	}
	return errors.Join(errs...)
}

// user gives a map of the scripts by its name with @. h.mu is held.
func (h *Hub) user(name string) (*userMap, error) {
	hm := h.maps[name]
	if hm == nil || hm.spec.Role != object.MapUser {
		return nil, fmt.Errorf("%s: %w", name, ErrNoMap)
	}
	u := &userMap{spec: hm.spec, m: hm.m, cpus: h.cpus}
	if g := hm.spec.Global; g != nil {
		array := h.maps[g.Map]
		if array == nil {
			return nil, fmt.Errorf("%s: the array that holds it is missing", name)
		}
		u.m, u.mem = array.m, array.mem
	}
	return u, nil
}

// Maps lists the maps of the scripts by name, sorted.
func (h *Hub) Maps() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []string
	for name, m := range h.maps {
		if m.spec.Role == object.MapUser {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// MapInfo is what is known of a map without reading it.
type MapInfo struct {
	*object.Map
	Users int   // items that use it now
	Bytes int64 // upper limit of the kernel memory of its entries, 0 when it is not known
}

// Map describes a map of the scripts.
func (h *Hub) Map(name string) (MapInfo, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	hm := h.maps[name]
	if hm == nil || hm.spec.Role != object.MapUser {
		return MapInfo{}, fmt.Errorf("%s: %w", name, ErrNoMap)
	}
	info := MapInfo{Map: hm.spec, Users: hm.users}
	m := hm.m
	if g := hm.spec.Global; g != nil && h.maps[g.Map] != nil {
		m = h.maps[g.Map].m
	}
	if m != nil {
		if ki, err := m.Info(); err == nil {
			if n, ok := ki.Memlock(); ok {
				info.Bytes = int64(n)
			}
		}
	}
	return info, nil
}

// Dump reads a map.
func (h *Hub) Dump(name string) (*value.Dump, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u, err := h.user(name)
	if err != nil {
		return nil, err
	}
	return u.dump()
}

// Clear removes all keys of a map; a scalar becomes unset.
func (h *Hub) Clear(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	u, err := h.user(name)
	if err != nil {
		return err
	}
	return u.clear()
}

// Drop forgets a map, so that its name is free for another type. It fails while an item uses the map.
func (h *Hub) Drop(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	hm := h.maps[name]
	if hm == nil || hm.spec.Role != object.MapUser {
		return fmt.Errorf("%s: %w", name, ErrNoMap)
	}
	if hm.users > 0 {
		return fmt.Errorf("%s: %w", name, ErrMapUsed)
	}
	err := h.drop(name)
	if g := hm.spec.Global; g != nil && h.maps[g.Map] != nil {
		err = errors.Join(err, h.drop(g.Map))
	}
	return err
}

// ErrMapUsed says that an item that runs uses the map.
var ErrMapUsed = errors.New("the map is used by an item that runs")

// Values decodes what the maps hold.
func (h *Hub) Values() *value.Decoder { return h.values }

// Close releases the maps. The sessions must be closed before.
func (h *Hub) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	var errs []error
	for name := range h.maps {
		errs = append(errs, h.drop(name))
	}
	return errors.Join(append(errs, h.resolver.close())...)
}
