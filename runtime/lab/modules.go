package lab

import (
	"archive/zip"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Modules are the loadable modules of one kernel. Its methods may be called from several goroutines.
type Modules struct {
	files map[string]string // name to path in tree
	tree  fs.FS
	// index is the file that keeps what Owners reads, "" when nothing is kept.
	index string
	close func() error
}

// ModuleFile is a module as the kernel takes it.
type ModuleFile struct {
	Name string
	Data []byte
}

// ModuleResult says what came of a module of [Config.Modules].
type ModuleResult struct {
	Name string `json:"name"`
	// Error is why it is not loaded, "" when it is.
	Error string `json:"error,omitempty"`
}

// modulesFile is the archive with a kernel's modules, beside its image in the cache.
const modulesFile = "modules.zip"

// ErrNoModule is wrapped by the errors of [Modules.Load] for a name that no file has: the kernel has it built in, or not at all.
var ErrNoModule = errors.New("no such module")

// moduleName makes the name of a module from that of its file: the kernel knows no dashes.
func moduleName(file string) (name string, ok bool) {
	base := path.Base(file)
	i := strings.Index(base, ".ko")
	if i <= 0 || !slices.Contains([]string{"", ".xz", ".zst", ".gz"}, base[i+3:]) {
		return "", false
	}
	return strings.ReplaceAll(base[:i], "-", "_"), true
}

func newModules(tree fs.FS) (*Modules, error) {
	m := &Modules{files: map[string]string{}, tree: tree, close: func() error { return nil }}
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, ok := moduleName(p); ok && d.Type().IsRegular() {
			m.files[name] = p
		}
		return nil
	})
	return m, err
}

// Close releases the files.
func (m *Modules) Close() error { return m.close() }

// Names lists all modules, sorted.
func (m *Modules) Names() []string {
	names := make([]string, 0, len(m.files))
	for n := range m.files {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (m *Modules) read(name string) ([]byte, error) {
	f, err := m.tree.Open(m.files[name])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	plain, done, err := decompress(f)
	if err != nil {
		return nil, err
	}
	defer done()
	return io.ReadAll(plain)
}

// Load gives the named modules and those that they need, each behind those.
func (m *Modules) Load(names ...string) ([]ModuleFile, error) {
	var out []ModuleFile
	seen := map[string]bool{}
	var add func(name string, optional bool) error
	add = func(name string, optional bool) error {
		name = strings.ReplaceAll(name, "-", "_")
		if seen[name] {
			return nil
		}
		seen[name] = true
		if m.files[name] == "" {
			if optional {
				return nil
			}
			return fmt.Errorf("lab: module %s: %w", name, ErrNoModule)
		}
		data, err := m.read(name)
		if err != nil {
			return fmt.Errorf("lab: module %s: %w", name, err)
		}
		needs, wishes, err := moduleNeeds(data)
		if err != nil {
			return fmt.Errorf("lab: module %s: %w", name, err)
		}
		for _, n := range needs {
			if err := add(n, false); err != nil {
				return fmt.Errorf("lab: module %s needs another: %w", name, err)
			}
		}
		for _, n := range wishes {
			// An algorithm is asked for by its name; the module that always has it is the generic one.
			if n = strings.ReplaceAll(n, "-", "_"); m.files[n] == "" {
				n += "_generic"
			}
			if err := add(n, true); err != nil {
				return err
			}
		}
		out = append(out, ModuleFile{Name: name, Data: data})
		return nil
	}
	for _, n := range names {
		if err := add(n, false); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// moduleNeeds reads what a module says of others: those whose symbols it uses, and those that it asks to be loaded before it.
func moduleNeeds(data []byte) (needs, wishes []string, err error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, nil, errors.New("it has no .modinfo section")
	}
	b, err := s.Data()
	if err != nil {
		return nil, nil, err
	}
	for _, field := range strings.Split(string(b), "\x00") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "depends":
			for n := range strings.SplitSeq(value, ",") {
				if n != "" {
					needs = append(needs, n)
				}
			}
		case "softdep":
			before := false
			for _, w := range strings.Fields(value) {
				switch {
				case strings.HasSuffix(w, ":"):
					before = w == "pre:"
				case before:
					wishes = append(wishes, w)
				}
			}
		}
	}
	return needs, wishes, nil
}

// Owners tells which modules have a name.
type Owners struct {
	Functions   map[string][]string // function to modules
	Tracepoints map[string][]string // event to modules
}

// Owners reads the symbols of all modules, which takes seconds; for a kernel of the catalogue the result is kept.
func (m *Modules) Owners() (*Owners, error) {
	o := &Owners{}
	if b, err := os.ReadFile(m.index); err == nil && json.Unmarshal(b, o) == nil {
		return o, nil
	}
	o.Functions, o.Tracepoints = map[string][]string{}, map[string][]string{}
	for _, name := range m.Names() {
		data, err := m.read(name)
		if err != nil {
			return nil, fmt.Errorf("lab: module %s: %w", name, err)
		}
		if err := o.add(name, data); err != nil {
			return nil, fmt.Errorf("lab: module %s: %w", name, err)
		}
	}
	if m.index != "" {
		b, err := json.Marshal(o)
		if err != nil {
			return nil, err
		}
		if err := writeWhole(m.index, bytes.NewReader(b)); err != nil {
			return nil, fmt.Errorf("lab: cache: %w", err)
		}
	}
	return o, nil
}

func (o *Owners) add(module string, data []byte) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return err
	}
	symbols, err := f.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return err
	}
	note := func(in map[string][]string, name string) {
		if l := in[name]; len(l) == 0 || l[len(l)-1] != module {
			in[name] = append(l, module)
		}
	}
	for _, s := range symbols {
		if s.Section == elf.SHN_UNDEF {
			continue
		}
		if event, ok := strings.CutPrefix(s.Name, "__tracepoint_"); ok {
			note(o.Tracepoints, event)
		} else if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Name != "init_module" && s.Name != "cleanup_module" && !strings.HasPrefix(s.Name, "__") {
			note(o.Functions, s.Name)
		}
	}
	return nil
}

// writeWhole writes a file so that nobody sees half of it.
func writeWhole(name string, from io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// Modules finds the modules of a kernel that Fetch returned. Those of a catalogue kernel come from the package that belongs to it and are kept
// beside it; those of a kernel image are looked for in the folders where distributions put them, relative to the image and on this machine.
func (c *Catalogue) Modules(ctx context.Context, k Kernel) (*Modules, error) {
	dir := filepath.Dir(k.Image)
	store := filepath.Join(dir, modulesFile)
	if _, err := os.Stat(store); err != nil {
		if k.Package == "" {
			return modulesBeside(k)
		}
		unlock, err := lockEntry(ctx, dir)
		if err != nil {
			return nil, err
		}
		defer unlock()
		if _, err := os.Stat(store); err != nil { // or someone else has fetched them meanwhile
			if err := c.fetchModules(ctx, k, store); err != nil {
				return nil, fmt.Errorf("lab: modules of %s for %s: %w", k.Name, k.Arch, err)
			}
		}
	}
	z, err := zip.OpenReader(store)
	if err != nil {
		return nil, fmt.Errorf("lab: %s: %w", store, err)
	}
	m, err := newModules(z)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab: %s: %w", store, err), z.Close())
	}
	m.index, m.close = filepath.Join(dir, "modules.json"), z.Close
	return m, nil
}

// modulesBeside looks for boot/vmlinuz-R with lib/modules/R beside boot, for lib/modules/R/vmlinuz, and for R on this machine.
func modulesBeside(k Kernel) (*Modules, error) {
	dir := filepath.Dir(k.Image)
	places := []string{dir}
	if k.Release != "" {
		for _, root := range []string{filepath.Dir(dir), dir, "/"} {
			places = append(places, filepath.Join(root, "lib/modules", k.Release), filepath.Join(root, "usr/lib/modules", k.Release))
		}
	}
	for _, p := range places {
		if st, err := os.Stat(filepath.Join(p, "kernel")); err == nil && st.IsDir() {
			return newModules(os.DirFS(p))
		}
	}
	return nil, fmt.Errorf("lab: modules of %s: %w: neither beside the image nor in /lib/modules", k, ErrNoModule)
}

// fetchModules downloads the package with the modules of a kernel and repacks them, so that one can be read without the others.
func (c *Catalogue) fetchModules(ctx context.Context, k Kernel, store string) error {
	e, ok := findEntry(k.Name)
	if !ok {
		return ErrNoKernel
	}
	// Newer releases split the image from the modules.
	name := k.Package
	if release, ok := strings.CutPrefix(name, "linux-binary-"); ok {
		name = "linux-modules-" + release
	}
	return c.eachArchive(ctx, e, func(s suite, uri string) error {
		work, err := os.MkdirTemp(filepath.Dir(filepath.Dir(store)), "."+e.name+"-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(work)
		c.log("reading the index of %s for %s", s.name, k.Arch)
		a, err := newApt(ctx, work, uri, s.name, k.Arch)
		if err != nil {
			return err
		}
		p, err := a.show(ctx, name)
		if err != nil {
			return err
		}
		if p.version != k.Version {
			return fmt.Errorf("the archive has version %s, the kernel here is %s: fetch it again with --refresh", p.version, k.Version)
		}
		c.log("fetching %s %s", p.name, p.version)
		deb, err := a.download(ctx, p)
		if err != nil {
			return err
		}
		packed := filepath.Join(work, modulesFile)
		if err := repackModules(deb, packed); err != nil {
			return fmt.Errorf("package %s: %w", p.name, err)
		}
		return os.Rename(packed, store)
	})
}

// repackModules makes an archive of the modules of a package. Those that are compressed stay as they are.
func repackModules(deb, dst string) error {
	in, err := os.Open(deb)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	defer out.Close()
	z := zip.NewWriter(out)
	n := 0
	isModule := func(name string) bool { _, ok := moduleName(name); return ok && strings.Contains(name, "lib/modules/") }
	err = extractDeb(in, isModule, func(name string, r io.Reader) (bool, error) {
		h := &zip.FileHeader{Name: name, Method: zip.Store}
		if strings.HasSuffix(name, ".ko") {
			h.Method = zip.Deflate
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			return false, err
		}
		n++
		_, err = io.Copy(w, r)
		return false, err
	})
	switch {
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("%w: the package has none", ErrNoModule)
	}
	return errors.Join(z.Close(), out.Close())
}
