package lower

import (
	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/types"
)

// Map is a map of the script with its place in the kernel.
type Map struct {
	*check.Map
	Spec *object.Map
	plan *mapPlan
}

// mapPlan is how a map of the script is stored; the choice follows its use.
type mapPlan struct {
	spec   *object.Map
	store  storage
	size   int // bytes of a value, of one CPU's copy for aggregations
	aggreg bool
}

type storage uint8

const (
	storeGlobal storage = iota // scalar in the shared array, one copy
	storeLines                 // aggregation without key: one copy per CPU in the shared array
	storeHash                  // hash of values; a map without key uses the key 0
	storePerCPU                // aggregation in a per-CPU hash
	storeShared                // aggregation in a hash that all CPUs share, updated atomically
)

func (p *mapPlan) agg() bool { return p.aggreg }

// hasKernelMap reports whether the map is a map of the kernel of its own.
func (p *mapPlan) hasKernelMap() bool { return p.store >= storeHash }

// CountersMap is the name of the map of counters.
const CountersMap = "counters"

const (
	line        = 64        // bytes that CPUs must not share
	maxLines    = 256 << 10 // largest aggregation without key that goes to the shared array, all CPUs together
	prealloc    = 4096      // entries up to which a hash is allocated at once
	preallocMem = 16 << 20  // bytes: keys of two strings of max_strlen bytes
	scalarKey   = 8         // bytes of the key of a map without key that has a hash of its own
	ringMap     = "ring"
	stacksMap   = "stacks"
	zerosMap    = "zeros"
)

// BPF_F_NO_PREALLOC and BPF_F_MMAPABLE of the kernel.
const (
	flagNoPrealloc = 1
	flagMmapable   = 1 << 10
)

// Map finds a map of the script by its name with @; nil when there is none.
func (g *Gen) Map(name string) *Map { return g.u.Map(name) }

// Map finds a map of the script by its name with @, planning its storage when it is first used; nil when there is none.
func (u *Unit) Map(name string) *Map {
	cm := u.Info.Maps[name]
	if cm == nil || cm.Value == nil {
		return nil
	}
	p := u.maps[name]
	if p == nil {
		p = u.planMap(cm)
		u.maps[name] = p
		u.Object.Maps = append(u.Object.Maps, p.spec)
	}
	return &Map{Map: cm, Spec: p.spec, plan: p}
}

func (u *Unit) planMap(m *check.Map) *mapPlan {
	if u.Opts.Shared != nil {
		if old := u.Opts.Shared.Maps[m.Name]; old != nil {
			return u.borrow(m, old)
		}
	}
	p := &mapPlan{size: 8, aggreg: m.Value.IsAggregation()}
	switch {
	case p.aggreg:
		p.size = object.AggSize(m.Value)
	case !m.Value.IsScalar():
		p.size = max(m.Value.Size, 1)
	}
	p.spec = &object.Map{
		Name: m.Name, Role: object.MapUser, Key: m.Key, Value: m.Value, Declared: m.Declared, Span: m.Span,
		ValueSize: p.size,
	}
	session := u.Opts.Shared != nil
	p.spec.Shared = session
	// Another item of a session may read what this one only counts.
	readHere := (m.Read || m.Iterated || session) && p.aggreg
	switch {
	case m.Key == nil && m.Kind == "" && p.aggreg && u.linesFit(p.size):
		p.store = storeLines
		if session {
			p.spec.Global = u.ownLines(m.Name, p.size)
		} else {
			p.spec.Global = u.globalLines(p.size, true)
		}
		p.spec.PerCPU = true
	case m.Key == nil && m.Kind == "" && !p.aggreg && m.Value.IsScalar():
		p.store = storeGlobal
		if session {
			p.spec.Global = &object.GlobalSlot{Map: u.scalarArray(m.Name, line), Copies: 1, SetOff: 8}
			break
		}
		off := u.global(16, line)
		p.spec.Global = &object.GlobalSlot{Map: object.GlobalsMap, Off: off, Copies: 1, SetOff: off + 8}
	case p.aggreg && readHere && !u.Target.Features.Has(target.MapLookupPercpu):
		p.store = storeShared
	case p.aggreg:
		p.store = storePerCPU
	default:
		p.store = storeHash
	}
	if p.hasKernelMap() {
		u.planHash(m, p)
	}
	if p.store == storeHash {
		u.planPair(m, p)
	}
	return p
}

// borrow plans a map that the session has already: its layout is what the other items were compiled for, whatever this script does with it.
func (u *Unit) borrow(m *check.Map, old *object.Map) *mapPlan {
	spec := *old
	spec.Span, spec.Declared, spec.Shared = m.Span, m.Declared, true
	p := &mapPlan{spec: &spec, size: spec.ValueSize, aggreg: m.Value.IsAggregation()}
	switch {
	case spec.Global != nil && p.aggreg:
		p.store = storeLines
	case spec.Global != nil:
		p.store = storeGlobal
	case spec.PerCPU:
		p.store = storePerCPU
	case p.aggreg:
		p.store = storeShared
	default:
		p.store = storeHash
	}
	if spec.Global != nil {
		if array := u.Opts.Shared.Maps[spec.Global.Map]; array != nil {
			a := *array
			u.addInternal(&a)
		}
	}
	return p
}

// scalarArray declares the array of a session that holds one scalar map, and gives its name.
func (u *Unit) scalarArray(name string, size int) string {
	array := object.ScalarArray(name)
	u.addInternal(&object.Map{
		Name: array, Role: object.MapState, Type: ebpf.Array, KeySize: 4, ValueSize: (size + line - 1) / line * line, MaxEntries: 1,
		Flags: flagMmapable, Shared: true,
	})
	return array
}

// ownLines is globalLines with a set word in an array of the session.
func (u *Unit) ownLines(name string, size int) *object.GlobalSlot {
	stride := (size + 8 + line - 1) / line * line
	return &object.GlobalSlot{Map: u.scalarArray(name, stride*u.copies()), Stride: stride, Copies: u.copies(), SetOff: size}
}

// shortKey is the longest key of a hash map in bytes before Linux 5.11.
const shortKey = 512

func (u *Unit) planHash(m *check.Map, p *mapPlan) {
	s := p.spec
	s.KeySize = scalarKey
	s.MaxEntries = 1
	if m.Key != nil {
		s.KeySize = max(m.Key.Size, 1)
		if s.KeySize > shortKey && !u.Target.Features.Has(target.LongKeys) {
			u.longKey(m, s.KeySize)
		}
		s.MaxEntries = m.Max
		if s.MaxEntries == 0 && u.Info.Config != nil {
			s.MaxEntries = u.Info.Config.MaxMapKeys
		}
		if s.MaxEntries == 0 {
			s.MaxEntries = prealloc
		}
	}
	s.PerCPU = p.store == storePerCPU
	lru := m.Kind == "lruhash" || m.Kind == "percpulruhash"
	switch {
	case s.PerCPU && lru:
		s.Type = ebpf.LRUCPUHash
	case s.PerCPU:
		s.Type = ebpf.PerCPUHash
	case lru:
		s.Type = ebpf.LRUHash
	default:
		s.Type = ebpf.Hash
	}
	copies := 1
	if s.PerCPU {
		copies = max(u.Target.CPUs, 1)
	}
	// An entry that is allocated when it is first needed can be refused where the kernel cannot refill its stock in time (in the scheduler, in
	// interrupts), so this is for maps that are too large otherwise.
	large := s.MaxEntries > prealloc || s.MaxEntries*(s.KeySize+copies*s.ValueSize) > preallocMem
	if !lru && large && u.allocatesSafely() {
		s.Flags |= flagNoPrealloc
	}
}

// longKey reports a key that this kernel does not take, and what makes it fit. Strings are not shortened unasked: a script would count things
// together here that it tells apart elsewhere.
func (u *Unit) longKey(m *check.Map, size int) {
	d := u.Diags.Errorf("E0710", m.Span, "the keys of `%s` take %d bytes, and this kernel allows %d", m.Name, size, shortKey)
	const since = "since Linux 5.11 there is no such limit"
	if c := u.Info.Config; c != nil {
		if n := stringsOf(m.Key, c.MaxStrlen); n > 0 {
			if fit := (shortKey - (size - n*c.MaxStrlen)) / n &^ 7; fit >= 16 {
				d.Hint("set it to what fits: `config = { max_strlen = %d }` or SONDE_MAX_STRLEN=%d; or shorten the strings, as in `str(x, 64)`; %s", fit, fit, since)
				return
			}
		}
	}
	d.Hint("make them shorter, as in `str(x, 64)`; %s", since)
}

// stringsOf counts the strings of a size in a key.
func stringsOf(t *types.Type, size int) int {
	if t.Kind == types.String && t.Size == size {
		return 1
	}
	n := 0
	if t.Kind == types.Tuple || t.Kind == types.Record {
		for _, f := range t.Fields {
			n += stringsOf(f.Type, size)
		}
	}
	return n
}

// allocatesSafely reports whether hashes without preallocation are safe in tracing programs: since 6.1, which brought the allocator
// bpf_mem_alloc.
func (u *Unit) allocatesSafely() bool {
	return u.Target.Types != nil && u.Target.Types.StructType("bpf_mem_alloc") != nil
}

// copies is the number of per-CPU copies in the shared array: a power of two, so that a mask bounds the CPU's number for the verifier.
func (u *Unit) copies() int {
	n := 1
	for n < max(u.Target.CPUs, 1) {
		n *= 2
	}
	return n
}

func (u *Unit) linesFit(size int) bool {
	return (size+8+line-1)/line*line*u.copies() <= maxLines
}

// global takes size bytes of the shared array.
func (u *Unit) global(size, align int) int {
	off := (u.globals + align - 1) / align * align
	u.globals = off + size
	if u.internal[object.GlobalsMap] == nil {
		u.addInternal(&object.Map{
			Name: object.GlobalsMap, Role: object.MapState, Type: ebpf.Array, KeySize: 4, MaxEntries: 1, Flags: flagMmapable,
		})
	}
	u.internal[object.GlobalsMap].ValueSize = (u.globals + line - 1) / line * line
	return off
}

// globalLines takes a copy per CPU; set adds a word that tells whether the scalar was ever set.
func (u *Unit) globalLines(size int, set bool) *object.GlobalSlot {
	n := size
	if set {
		n += 8
	}
	stride := (n + line - 1) / line * line
	s := &object.GlobalSlot{Map: object.GlobalsMap, Stride: stride, Copies: u.copies(), SetOff: -1}
	s.Off = u.global(stride*s.Copies, line)
	if set {
		s.SetOff = s.Off + size
	}
	return s
}

// addInternal adds a map of sonde's own; a map with the same name is kept.
func (u *Unit) addInternal(m *object.Map) *object.Map {
	if old := u.internal[m.Name]; old != nil {
		return old
	}
	u.internal[m.Name] = m
	u.Object.Maps = append(u.Object.Maps, m)
	return m
}

// Internal declares a map of sonde's own and gives the one that exists already under that name.
func (u *Unit) Internal(m *object.Map) *object.Map { return u.addInternal(m) }

// counters declares the map of counters; Finish sets its size.
func (u *Unit) counters() {
	u.addInternal(&object.Map{
		Name: CountersMap, Role: object.MapCounters, Type: ebpf.Array, KeySize: 4, ValueSize: 8 * object.CountersPerProgram, MaxEntries: 1,
	})
}

// zeros declares a read-only value of at least size zero bytes.
func (u *Unit) zeros(size int) {
	m := u.addInternal(&object.Map{
		Name: zerosMap, Role: object.MapConst, Type: ebpf.Array, KeySize: 4, MaxEntries: 1,
	})
	m.ValueSize = max(m.ValueSize, (size+7)/8*8)
}

// NeedCounters declares the map of counters, which code that is not lowered here also uses.
func (u *Unit) NeedCounters() { u.counters() }

// Finish completes the object once all programs are lowered: maps that only user space uses, sizes, the configuration.
func (u *Unit) Finish(programs int) {
	for _, name := range u.Info.Order {
		u.Map(name)
	}
	if m := u.internal[CountersMap]; m != nil {
		m.ValueSize = max(programs, 1) * 8 * object.CountersPerProgram
	}
	c := u.Info.Config
	if c == nil {
		return
	}
	if c.License != "" {
		u.Object.License = c.License
	}
	ring, packets := u.Object.Config.RingBytes, c.PerfRBPages*max(u.Target.PageSize, 4096)
	u.Object.Config = object.Config{
		PrintMapsOnExit: c.PrintMapsOnExit, StrTruncTrailer: c.StrTruncTrailer, MaxStrlen: c.MaxStrlen, RingBytes: ring, PacketBytes: packets,
		MissingProbes: c.MissingProbes, CppDemangle: c.CppDemangle, LazySymbols: c.LazySymbols, UserSymbolCache: c.UserSymbolCache,
		ShowDebugInfo: c.ShowDebugInfo, MaxCatBytes: c.MaxCatBytes, LogSize: c.LogSize, MaxProbes: c.MaxProbes,
	}
}

// Flags of bpf_map_update_elem.
const (
	updateAny     = 0
	updateNoExist = 1
)

// Table declares a constant of the script's programs, once under its name, and gives its address. Its bytes may be read by plain loads.
func (g *Gen) Table(name string, contents []byte) *ir.Value {
	g.u.addInternal(&object.Map{
		Name: name, Role: object.MapConst, Type: ebpf.Array, KeySize: 4, MaxEntries: 1, ValueSize: (len(contents) + 7) &^ 7, Contents: contents,
	})
	return g.B.MapValAddr(name, 0)
}
