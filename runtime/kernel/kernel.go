package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// Options say where a Kernel finds its facts. The zero value is the running machine.
type Options struct {
	// Root is put before /proc, /sys, /boot and /dev. Empty and "/" are the running machine. With any other root nothing
	// is mounted and no feature is probed (every probe says so), because the files are then not of this kernel.
	Root string

	// BTF is a file to use instead of the kernel's own type information: raw BTF, or an ELF file with a .BTF section.
	BTF string

	// Functions is a file with the names of the functions that can be traced, in the form of tracefs' available_filter_functions, which is read
	// when it is empty.
	Functions string
}

// Kernel is the running machine as the rest of sonde sees it. It is safe for concurrent use.
type Kernel struct {
	root string
	opts Options

	vmlinux func() (*BTF, error)
	tracefs func() (*Tracefs, error)
	config  func() (*Config, error)
	blocked func() (*Blacklist, error)
	mounts  func() ([]Mount, error)
	feats   func() *Features
	filter  func() (*functionList, error)

	mu      sync.Mutex
	modules map[string]*moduleBTF
	fds     map[string]*btf.Handle
	syms    *Symbols
	views   map[string]string // file systems mounted for ourselves alone: type -> directory
	closers []func() error
}

type moduleBTF struct {
	btf *BTF
	err error
}

// Open prepares a Kernel. Nothing is read until it is asked for.
func Open(o Options) (*Kernel, error) {
	k := &Kernel{opts: o, root: strings.TrimRight(o.Root, "/"), modules: map[string]*moduleBTF{}, fds: map[string]*btf.Handle{}, views: map[string]string{}}
	if k.root != "" {
		st, err := os.Stat(k.root)
		if err != nil {
			return nil, fmt.Errorf("open kernel: %w", err)
		}
		if !st.IsDir() {
			return nil, fmt.Errorf("open kernel: %s is not a directory", k.root)
		}
	}
	k.vmlinux = sync.OnceValues(k.openBTF)
	k.tracefs = sync.OnceValues(k.openTracefs)
	k.config = sync.OnceValues(k.openConfig)
	k.blocked = sync.OnceValues(k.readBlacklist)
	k.mounts = sync.OnceValues(k.readMounts)
	k.filter = sync.OnceValues(k.readFilterFunctions)
	k.feats = sync.OnceValue(func() *Features { return newFeatures(k) })
	return k, nil
}

// Close releases descriptors that were opened on the way: those of modules' BTF and of private mounts. Types, symbols
// and events that were handed out stay valid.
func (k *Kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	for _, h := range k.fds {
		errs = append(errs, h.Close())
	}
	clear(k.fds)
	for _, c := range slices.Backward(k.closers) {
		errs = append(errs, c())
	}
	k.closers = nil
	clear(k.views)
	return errors.Join(errs...)
}

// Running tells whether this is the machine we run on, and not a directory of a test.
func (k *Kernel) Running() bool { return k.root == "" }

// Path is where a path of the machine is found: the root is put before it.
func (k *Kernel) Path(p string) string { return k.root + p }

func (k *Kernel) read(p string) ([]byte, error) { return os.ReadFile(k.Path(p)) }

// line reads a file of one line, without its end.
func (k *Kernel) line(p string) (string, error) {
	b, err := k.read(p)
	if err != nil {
		return "", err
	}
	b, _, _ = bytes.Cut(b, []byte{'\n'})
	return strings.TrimSpace(string(b)), nil
}

// BTF is the kernel's type information. The error wraps ErrNoBTF when it has none.
func (k *Kernel) BTF() (*BTF, error) { return k.vmlinux() }

func (k *Kernel) openBTF() (*BTF, error) {
	if k.opts.BTF != "" {
		return OpenBTF(k.opts.BTF, nil)
	}
	b, err := OpenBTF(k.Path("/sys/kernel/btf/vmlinux"), nil)
	if err == nil || !errors.Is(err, ErrNoBTF) {
		return b, err
	}
	// Kernels with BTF but without sysfs files for it, and systems that ship the file.
	release, rerr := k.Release()
	if rerr != nil {
		return nil, err
	}
	for _, p := range []string{
		"/boot/vmlinux-" + release, "/lib/modules/" + release + "/build/vmlinux",
		"/usr/lib/debug/lib/modules/" + release + "/vmlinux", "/usr/lib/debug/boot/vmlinux-" + release,
	} {
		if b, err2 := OpenBTF(k.Path(p), nil); err2 == nil {
			return b, nil
		}
	}
	return nil, err
}

// BTFModules lists the modules with type information of their own, sorted.
func (k *Kernel) BTFModules() ([]string, error) {
	ents, err := os.ReadDir(k.Path("/sys/kernel/btf"))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("list BTF modules: %w", err)
	}
	var names []string
	for _, e := range ents {
		if e.Name() != "vmlinux" {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// ModuleBTF is the split type information of a loaded module, on top of the kernel's. "" and "vmlinux" are the kernel's own.
func (k *Kernel) ModuleBTF(module string) (*BTF, error) {
	base, err := k.BTF()
	if err != nil || module == "" || module == "vmlinux" {
		return base, err
	}
	if strings.ContainsAny(module, "/") || module == ".." {
		return nil, fmt.Errorf("module name %q is not valid", module)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.modules[module]
	if m == nil {
		m = &moduleBTF{}
		m.btf, m.err = OpenBTF(k.Path("/sys/kernel/btf/"+module), base)
		k.modules[module] = m
	}
	return m.btf, m.err
}

// FuncRef is a function of the kernel or of a module, as BTF describes it.
type FuncRef struct {
	Module string // "" for the kernel itself
	BTF    *BTF
	Func   Type // Func.ID is what a tracing program attaches to, together with the module's BTF descriptor
	Proto  Type
}

// ErrNoFunc says that type information has no such function.
var ErrNoFunc = errors.New("no such function in the kernel's type information")

// FindFunc finds a function in the kernel's type information and then in that of every module, or only in the given
// module. It is missing there when it was inlined or comes from code without debug information.
func (k *Kernel) FindFunc(module, name string) (FuncRef, error) {
	base, err := k.BTF()
	if err != nil {
		return FuncRef{}, err
	}
	if module == "" || module == "vmlinux" {
		if fn, proto, ok := base.FuncProto(name); ok {
			return FuncRef{"", base, fn, proto}, nil
		}
		if module == "vmlinux" {
			return FuncRef{}, fmt.Errorf("%s: %w", name, ErrNoFunc)
		}
	}
	mods := []string{module}
	if module == "" {
		if mods, err = k.BTFModules(); err != nil {
			return FuncRef{}, err
		}
	}
	for _, m := range mods {
		b, err := k.ModuleBTF(m)
		if err != nil {
			if module != "" {
				return FuncRef{}, fmt.Errorf("module %s: %w", module, err)
			}
			continue
		}
		if id, ok := b.lookup(name, 1<<KindFunc); ok {
			if fn, proto, ok := b.funcProto(id); ok {
				return FuncRef{m, b, fn, proto}, nil
			}
		}
	}
	if module != "" {
		name = module + ":" + name
	}
	return FuncRef{}, fmt.Errorf("%s: %w", name, ErrNoFunc)
}

// FindTracepoint finds a tracepoint's prototype (see BTF.TracepointProto) in the kernel or in a module.
func (k *Kernel) FindTracepoint(name string) (module string, b *BTF, typedef Type, params []Param, err error) {
	base, err := k.BTF()
	if err != nil {
		return "", nil, Type{}, nil, err
	}
	if td, ps, ok := base.TracepointProto(name); ok {
		return "", base, td, ps, nil
	}
	mods, err := k.BTFModules()
	if err != nil {
		return "", nil, Type{}, nil, err
	}
	for _, m := range mods {
		b, err := k.ModuleBTF(m)
		if err != nil {
			continue
		}
		if _, ok := b.lookup("btf_trace_"+name, 1<<KindTypedef); !ok {
			continue
		}
		if td, ps, ok := b.TracepointProto(name); ok {
			return m, b, td, ps, nil
		}
	}
	return "", nil, Type{}, nil, fmt.Errorf("raw tracepoint %s: not in the kernel's type information", name)
}

// ModuleBTFFD is a descriptor of a module's BTF as the kernel holds it, which attaching to a function of the module
// needs beside the ID (attach_btf_obj_fd). It stays open until Close. The kernel's own BTF needs none and gives 0.
// Needs Linux 5.11.
func (k *Kernel) ModuleBTFFD(module string) (int, error) {
	if module == "" || module == "vmlinux" {
		return 0, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.fds[module]; h != nil {
		return h.FD(), nil
	}
	h, err := btf.FindHandle(func(i *btf.HandleInfo) bool { return i.IsKernel && i.Name == module })
	if err != nil {
		return 0, fmt.Errorf("BTF of module %s: %w", module, err)
	}
	k.fds[module] = h
	return h.FD(), nil
}

// view finds a kernel file system that may not be mounted: the usual places first, then a mount that only this process
// holds and that vanishes with it, so that nothing is left behind on the machine.
func (k *Kernel) view(fstype, probe string, places ...string) (string, error) {
	for _, p := range places {
		if _, err := os.Stat(filepath.Join(k.Path(p), probe)); err == nil {
			return k.Path(p), nil
		} else if errors.Is(err, fs.ErrPermission) {
			return "", fmt.Errorf("%s: %w", p, err)
		}
	}
	if !k.Running() {
		return "", fmt.Errorf("%s: %w", places[0], fs.ErrNotExist)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if dir, ok := k.views[fstype]; ok {
		return dir, nil
	}
	dir, done, err := privateMount(fstype)
	if err != nil {
		return "", fmt.Errorf("%s is not mounted at %s, and mounting it failed: %w", fstype, places[0], err)
	}
	if _, err := os.Stat(filepath.Join(dir, probe)); err != nil {
		_ = done()
		return "", fmt.Errorf("%s has no %s", fstype, probe)
	}
	k.views[fstype] = dir
	k.closers = append(k.closers, done)
	return dir, nil
}

// privateMount mounts a file system at no place: it lives as long as its descriptor. Needs CAP_SYS_ADMIN.
func privateMount(fstype string) (dir string, done func() error, err error) {
	fsfd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return "", nil, os.NewSyscallError("fsopen "+fstype, err)
	}
	defer unix.Close(fsfd)
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return "", nil, os.NewSyscallError("fsconfig "+fstype, err)
	}
	fd, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return "", nil, os.NewSyscallError("fsmount "+fstype, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), func() error { return unix.Close(fd) }, nil
}
