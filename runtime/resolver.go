package runtime

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/symbol"
	"github.com/sonde-sh/sonde/runtime/value"
)

// resolver answers for one session what only the machine knows. It opens the symbol tables when the first address is printed.
type resolver struct {
	kernel *kernel.Kernel
	obj    *object.Object
	stacks func() *ebpf.Map // the map of stack records, nil when the object has none
	hub    *Hub             // of a session at the prompt: it has the names of the attach points

	debugDirs []string

	mu    sync.Mutex
	syms  *symbol.Symbolizer
	watch *symbol.Watcher // nil when no user address is shown
	users map[uint32]string
}

// kernelSymbols adapts the kernel's symbol table, which is read at the first lookup.
type kernelSymbols struct {
	k     *kernel.Kernel
	again sync.Once
}

func (s *kernelSymbols) Lookup(addr uint64) (name string, off uint64, module string, ok bool) {
	table, err := s.k.Symbols()
	if err != nil {
		return "", 0, "", false
	}
	sym, off, ok := table.Lookup(addr)
	if ok && sym.Module == "bpf" {
		// A table that was read before this session may not have its programs: what is found then is the program before.
		s.again.Do(func() { _, _ = s.k.ReloadSymbols() })
		if table, err = s.k.Symbols(); err == nil {
			sym, off, ok = table.Lookup(addr)
		}
	}
	return sym.Name, off, sym.Module, ok
}

func (r *resolver) symbolizer() *symbol.Symbolizer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.syms == nil {
		mode, err := symbol.ParseCacheMode(r.obj.Config.UserSymbolCache)
		if err != nil {
			mode, _ = symbol.ParseCacheMode("PER_PID")
		}
		r.syms = symbol.New(symbol.Config{
			Gone: r.gone, DebugDirs: symbol.DebugDirs(r.debugDirs),
			Kernel: &kernelSymbols{k: r.kernel}, Cache: mode, Demangle: r.obj.Config.CppDemangle, Lines: r.obj.Config.ShowDebugInfo,
		})
	}
	return r.syms
}

// follow starts to note what processes map, so that their addresses have names when they have ended. Where the kernel does not allow it,
// only processes that still run are named.
func (r *resolver) follow(obj *object.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watch != nil || !showsUser(obj) {
		return
	}
	if w, err := symbol.Watch(); err == nil {
		r.watch = w
	}
}

func (r *resolver) gone(pid int) *symbol.Process {
	r.mu.Lock()
	w := r.watch
	r.mu.Unlock()
	if w == nil {
		return nil
	}
	return w.Process(pid)
}

// showsUser reports whether addresses of processes are printed by name.
func showsUser(obj *object.Object) bool {
	for _, m := range obj.Maps {
		if hasUser(m.Key, 0) || hasUser(m.Value, 0) {
			return true
		}
	}
	for _, e := range obj.Events {
		for _, f := range e.Fields {
			if hasUser(f.Type, 0) {
				return true
			}
		}
	}
	return false
}

func hasUser(t *types.Type, depth int) bool {
	if t == nil || depth > 8 {
		return false
	}
	switch t.Kind {
	case types.UStack, types.USym:
		return true
	case types.Tuple, types.Record:
		return slices.ContainsFunc(t.Fields, func(f types.Field) bool { return hasUser(f.Type, depth+1) })
	case types.Array:
		return hasUser(t.Elem, depth+1)
	default:
		return false
	}
}

func (r *resolver) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	if r.watch != nil {
		errs = append(errs, r.watch.Close())
	}
	if r.syms != nil {
		errs = append(errs, r.syms.Close())
	}
	return errors.Join(errs...)
}

func hexAddr(addr uint64) string { return "0x" + strconv.FormatUint(addr, 16) }

func frameText(f symbol.Frame, addr uint64, offset bool) string {
	if !f.Known() {
		if addr == 0 {
			return "0"
		}
		return hexAddr(addr)
	}
	if !offset {
		return f.Name
	}
	return f.Name + "+" + strconv.FormatUint(f.Offset, 10)
}

// buildIDText is the place of an address in its file, for machines that have the files' symbols: the build id and the offset. Memory
// without a file, and files without a build id, give the bare address.
func buildIDText(f symbol.Frame, addr uint64) string {
	if len(f.BuildID) == 0 {
		return strconv.FormatUint(addr, 16)
	}
	return hex.EncodeToString(f.BuildID) + " 0x" + strconv.FormatUint(f.FileOffset, 16)
}

// KernelSymbol names a kernel address.
func (r *resolver) KernelSymbol(addr uint64, offset bool) string {
	return frameText(r.symbolizer().Kernel(addr), addr, offset)
}

// UserSymbol names an address of a process.
func (r *resolver) UserSymbol(pid uint32, addr uint64, offset bool) string {
	return frameText(r.symbolizer().User(int(pid), addr), addr, offset)
}

// Stack prints a stack: a line break, then one frame per line. bpftrace mode indents by indent blanks, perf mode by a tab,
// raw mode not at all.
func (r *resolver) Stack(t *types.Type, id uint64, indent int) string {
	frames, pid, ok := r.stack(id)
	if !ok {
		if id == 0 {
			return "\n" // an empty stack, such as the kernel's while a program runs in user space
		}
		return fmt.Sprintf("\n%*s[stack %#x was not stored: the map of stacks is full]\n", indent, "", id)
	}
	if t.Frames > 0 && len(frames) > t.Frames {
		frames = frames[:t.Frames]
	}
	var b strings.Builder
	b.WriteByte('\n')
	pad := strings.Repeat(" ", indent)
	syms := r.symbolizer()
	for _, addr := range frames {
		if t.Mode == types.StackRaw {
			fmt.Fprintf(&b, "%x\n", addr)
			continue
		}
		var list []symbol.Frame
		if t.Kind == types.KStack {
			list = []symbol.Frame{syms.Kernel(addr)}
		} else if list = syms.UserFrames(int(pid), addr); len(list) == 0 {
			list = []symbol.Frame{{}}
		}
		for _, f := range list {
			if t.Mode == types.StackBuildID {
				if !f.Inlined {
					b.WriteString(buildIDText(f, addr) + "\n")
				}
				continue
			}
			text := frameText(f, addr, !f.Inlined)
			if t.Mode == types.StackPerf {
				if t.Kind == types.UStack {
					mod := f.Module
					if mod == "" {
						mod = "[unknown]"
					}
					text += " (" + mod + ")"
				}
				fmt.Fprintf(&b, "\t%x %s\n", addr, text)
				continue
			}
			if f.File != "" {
				text += "@" + f.File + ":" + strconv.Itoa(f.Line)
			}
			b.WriteString(pad + text + "\n")
		}
	}
	return b.String()
}

// stack reads a stack record.
func (r *resolver) stack(id uint64) (frames []uint64, pid uint32, ok bool) {
	m := r.stacks()
	if id == 0 || m == nil {
		return nil, 0, false
	}
	rec := make([]byte, m.ValueSize())
	if err := m.Lookup(id, rec); err != nil {
		return nil, 0, false
	}
	n := min(int(binary.NativeEndian.Uint32(rec)), (len(rec)-object.StackHeader)/8)
	for i := range n {
		frames = append(frames, binary.NativeEndian.Uint64(rec[object.StackHeader+8*i:]))
	}
	return frames, binary.NativeEndian.Uint32(rec[8:]), true
}

// Username gives the name of a user, the number when it has none.
func (r *resolver) Username(uid uint32) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name, ok := r.users[uid]; ok {
		return name
	}
	name := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	if r.users == nil {
		r.users = map[uint32]string{}
	}
	r.users[uid] = name
	return name
}

// WallTime converts a timestamp of one of the kernel's clocks.
func (r *resolver) WallTime(mode string, ns uint64) time.Time {
	if mode == "tai" || mode == "sw_tai" {
		var ts unix.Timespec
		var wall, tai time.Duration
		wall = time.Duration(time.Now().UnixNano())
		if unix.ClockGettime(unix.CLOCK_TAI, &ts) == nil {
			tai = time.Duration(ts.Nano())
		}
		return time.Unix(0, int64(ns)+int64((wall-tai).Round(time.Second)))
	}
	clock := int32(unix.CLOCK_BOOTTIME)
	if mode == "monotonic" {
		clock = unix.CLOCK_MONOTONIC
	}
	// Measured each time: the clock may be stepped, and the machine suspended, while a script runs.
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return time.Unix(0, int64(ns))
	}
	return time.Now().Add(time.Duration(int64(ns) - ts.Nano()))
}

// CgroupPath names a cgroup in the hierarchies that have its number: "unified:/a,cpu:/b". A filter is a pattern of the names of hierarchies.
func (r *resolver) CgroupPath(id uint64, filter string) string {
	mounts, err := r.kernel.CgroupMounts()
	if err != nil {
		return ""
	}
	var found []string
	for _, m := range mounts {
		name := "unified"
		if m.Type != "cgroup2" {
			name = filepath.Base(m.Dir)
		}
		if filter != "" && !symbol.Match(filter, name) {
			continue
		}
		if p, err := r.kernel.CgroupPathIn(m.Dir, id); err == nil {
			found = append(found, name+":"+p)
		}
	}
	if len(found) > 1 {
		slices.Sort(found[1:]) // the unified one is first
	}
	return strings.Join(found, ",")
}

// FuncName names the function of an attach point; it is empty where the kind has none.
func (r *resolver) FuncName(i uint64) string {
	if r.hub != nil {
		_, name, _ := r.hub.pointName(i)
		return name
	}
	if i < uint64(len(r.obj.Funcs)) {
		return r.obj.Funcs[i]
	}
	return ""
}

// ProbeName names an attach point.
func (r *resolver) ProbeName(i uint64) string {
	if r.hub != nil {
		if name, _, ok := r.hub.pointName(i); ok {
			return name
		}
		return "unknown"
	}
	if i < uint64(len(r.obj.Points)) {
		return r.obj.Points[i]
	}
	return "unknown"
}

// SyscallName names a system call of the machine.
func (r *resolver) SyscallName(nr int64) string {
	if name := kernel.SyscallName(r.kernel.Arch(), int(nr)); name != "" {
		return name
	}
	return strconv.FormatInt(nr, 10)
}

var _ value.Resolver = (*resolver)(nil)
