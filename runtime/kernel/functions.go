package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"unsafe"
)

// Function is a kernel function that may be probed.
type Function struct {
	Name   string
	Module string // "" for the kernel itself
}

// String writes module:name, or the name alone.
func (f Function) String() string {
	if f.Module == "" {
		return f.Name
	}
	return f.Module + ":" + f.Name
}

// functionList is tracefs' available_filter_functions, kept as the text that the kernel wrote: 60,000 lines.
type functionList struct {
	text string
}

func (k *Kernel) readFilterFunctions() (*functionList, error) {
	path := k.opts.Functions
	if path == "" {
		t, err := k.Tracefs()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(t.dir, "available_filter_functions")
	}
	b, err := readLarge(path)
	if err != nil {
		return nil, fmt.Errorf("list traceable functions: %w", err)
	}
	return &functionList{unsafe.String(unsafe.SliceData(b), len(b))}, nil
}

func (l *functionList) all(yield func(Function) bool) {
	for line := range strings.SplitSeq(l.text, "\n") {
		name, mod, _ := strings.Cut(line, " ")
		// Functions of a module that went away read "__ftrace_invalid_address___N".
		if name == "" || strings.HasPrefix(name, "__ftrace_invalid_address__") {
			continue
		}
		mod = strings.TrimSpace(mod)
		if i := strings.IndexByte(mod, ']'); strings.HasPrefix(mod, "[") && i > 0 {
			mod = mod[1:i]
			if mod == "vmlinux" { // in a list of Options.Functions
				mod = ""
			}
		} else {
			mod = ""
		}
		if !yield(Function{name, mod}) {
			return
		}
	}
}

// FilterFunctions goes through the functions that the function tracer can follow: those with a patchable entry. fentry and
// kprobe_multi attach to no others. The list may be unreadable even for root; TraceableFunctions then falls back.
func (k *Kernel) FilterFunctions() (iter.Seq[Function], error) {
	l, err := k.filter()
	if err != nil {
		return nil, err
	}
	return l.all, nil
}

// FunctionSource says where a list of functions came from.
type FunctionSource string

// The sources of TraceableFunctions, from exact to a guess.
const (
	FromFtrace   FunctionSource = "available_filter_functions" // exact
	FromBTF      FunctionSource = "BTF and kallsyms"           // functions with a prototype that exist; some may have no patchable entry
	FromKallsyms FunctionSource = "kallsyms"                   // every symbol of code
)

// TraceableFunctions goes through the functions whose module and name match, as a kprobe or fentry wildcard does. module "" or "*"
// is every module and the kernel itself, "vmlinux" only the kernel. It takes the best list that this machine lets us read.
func (k *Kernel) TraceableFunctions(module, name string) (iter.Seq[Function], FunctionSource, error) {
	m, n := CompileGlob(module), CompileGlob(name)
	match := func(f Function) bool {
		if module == "vmlinux" {
			return f.Module == "" && n.Match(f.Name)
		}
		return m.Match(f.Module) && n.Match(f.Name)
	}
	filtered := func(src func(func(Function) bool)) iter.Seq[Function] {
		return func(yield func(Function) bool) {
			src(func(f Function) bool { return !match(f) || yield(f) })
		}
	}
	l, ferr := k.filter()
	if ferr == nil && l.text != "" {
		return filtered(l.all), FromFtrace, nil
	}
	syms, serr := k.Symbols()
	base, berr := k.BTF()
	if berr != nil && serr != nil {
		return nil, "", errors.Join(ferr, serr, berr)
	}
	if berr != nil {
		return filtered(func(yield func(Function) bool) {
			for s := range syms.All() {
				if s.IsText() && !yield(Function{s.Name, s.Module}) {
					return
				}
			}
		}), FromKallsyms, nil
	}
	return filtered(func(yield func(Function) bool) {
		mods := []string{""}
		if module != "vmlinux" {
			if names, err := k.BTFModules(); err == nil {
				mods = append(mods, names...)
			}
		}
		for _, mod := range mods {
			b := base
			if mod != "" {
				if !m.Match(mod) {
					continue
				}
				var err error
				if b, err = k.ModuleBTF(mod); err != nil {
					continue
				}
			}
			prev := ""
			for _, fn := range b.Each(name, KindFunc) {
				if fn == prev { // static functions of the same name follow each other
					continue
				}
				prev = fn
				if serr == nil && !syms.HasText(fn) {
					continue
				}
				if !yield(Function{fn, mod}) {
					return
				}
			}
		}
	}), FromBTF, nil
}

// RawTracepoints goes through the tracepoints whose module and name match, by the types that the kernel keeps for each; Function.Name is
// the tracepoint's name. They include those of modules, and some that tracefs shows no event for. module "" or "*" is every
// module and the kernel itself, "vmlinux" only the kernel. The error wraps ErrNoBTF where there are no types to read.
func (k *Kernel) RawTracepoints(module, name string) (iter.Seq[Function], error) {
	base, err := k.BTF()
	if err != nil {
		return nil, fmt.Errorf("list raw tracepoints: %w", err)
	}
	m, n := CompileGlob(module), CompileGlob(name)
	each := func(b *BTF, mod string, yield func(Function) bool) bool {
		for _, typ := range b.Each("btf_trace_*", KindTypedef) {
			if tp := strings.TrimPrefix(typ, "btf_trace_"); n.Match(tp) && !yield(Function{tp, mod}) {
				return false
			}
		}
		return true
	}
	return func(yield func(Function) bool) {
		if (module == "vmlinux" || m.Match("")) && !each(base, "", yield) || module == "vmlinux" {
			return
		}
		mods, err := k.BTFModules()
		if err != nil {
			return
		}
		for _, mod := range mods {
			if b, err := k.ModuleBTF(mod); err == nil && m.Match(mod) && !each(b, mod, yield) {
				return
			}
		}
	}, nil
}

// Blacklist is the set of functions that the kernel refuses to put a kprobe in.
type Blacklist struct {
	ranges []addrRange
	names  map[string]bool
}

type addrRange struct {
	from, to uint64
	name     string
}

// Has tells by name.
func (b *Blacklist) Has(name string) bool { return b.names[name] }

// HasAddr tells by address; it needs addresses that are not hidden (kptr_restrict).
func (b *Blacklist) HasAddr(addr uint64) bool {
	i := sort.Search(len(b.ranges), func(i int) bool { return b.ranges[i].to > addr })
	return i < len(b.ranges) && b.ranges[i].from <= addr
}

// Len is the number of entries.
func (b *Blacklist) Len() int { return len(b.names) }

// KprobeBlacklist reads the functions that cannot be kprobed from debugfs. A kernel without kprobes has none: the error then
// wraps fs.ErrNotExist.
func (k *Kernel) KprobeBlacklist() (*Blacklist, error) { return k.blocked() }

func (k *Kernel) readBlacklist() (*Blacklist, error) {
	dir, err := k.view("debugfs", "kprobes/blacklist", "/sys/kernel/debug")
	if err != nil {
		if !errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w (%w)", err, fs.ErrNotExist)
		}
		return nil, fmt.Errorf("kprobe blacklist: %w", err)
	}
	text, err := readLarge(filepath.Join(dir, "kprobes/blacklist"))
	if err != nil {
		return nil, fmt.Errorf("kprobe blacklist: %w", err)
	}
	return parseBlacklist(string(text)), nil
}

// parseBlacklist reads lines such as "0xffffffff810001a0-0xffffffff810001f5\tdo_one_initcall".
func parseBlacklist(text string) *Blacklist {
	b := &Blacklist{names: map[string]bool{}}
	for line := range strings.Lines(text) {
		addrs, name, ok := strings.Cut(strings.TrimSpace(line), "\t")
		from, to, ok2 := strings.Cut(addrs, "-")
		if !ok || !ok2 {
			continue
		}
		lo, err1 := strconv.ParseUint(strings.TrimPrefix(from, "0x"), 16, 64)
		hi, err2 := strconv.ParseUint(strings.TrimPrefix(to, "0x"), 16, 64)
		b.names[name] = true
		if err1 == nil && err2 == nil && lo != 0 {
			b.ranges = append(b.ranges, addrRange{lo, hi, name})
		}
	}
	sort.Slice(b.ranges, func(i, j int) bool { return b.ranges[i].from < b.ranges[j].from })
	return b
}
