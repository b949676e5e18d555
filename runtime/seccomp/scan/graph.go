package scan

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sonde-sh/sonde/runtime/seccomp"
	"github.com/sonde-sh/sonde/runtime/symbol"
)

// system is a program with the files that the loader puts beside it.
type system struct {
	images    []*image // in the loader's order
	resolved  []*resolver
	byPath    map[string]int
	roots     map[int]bool  // files that were asked for
	needs     map[int][]int // libraries of each file
	missing   []string
	effects   []map[int][]callID // by file and function
	unknown   []map[int][]*site
	how       map[node]Reach
	parent    map[node]node
	queue     []node
	loaders   map[int]bool // dynamic loaders, which run from their own entry
	definedIn map[string]node
}

// node is a function of a file.
type node struct{ img, fn int }

// none is the parent of where the loader, or a person, enters.
var none = node{-1, -1}

// load opens a file and what it needs, breadth first.
func (s *system) load(path string, root bool) (int, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return -1, err
	}
	if i, ok := s.byPath[real]; ok {
		s.roots[i] = s.roots[i] || root
		return i, nil
	}
	img, err := open(real)
	if err != nil {
		return -1, err
	}
	img.name = filepath.Base(path)
	i := len(s.images)
	s.images = append(s.images, img)
	s.byPath[real] = i
	s.roots[i] = root
	return i, nil
}

// loadAll opens what all files need.
func (s *system) loadAll() error {
	for i := 0; i < len(s.images); i++ {
		img := s.images[i]
		for _, name := range img.needed {
			path := s.find(img, name)
			if path == "" {
				if !slices.Contains(s.missing, name) {
					s.missing = append(s.missing, name)
				}
				continue
			}
			j, err := s.load(path, false)
			if err != nil {
				return err
			}
			s.images[j].library = true
			s.needs[i] = append(s.needs[i], j)
		}
		if img.interp == "" {
			continue
		}
		path := img.interp
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			path = s.find(img, filepath.Base(path))
		}
		if path == "" {
			s.missing = append(s.missing, img.interp)
			continue
		}
		j, err := s.load(path, false)
		if err != nil {
			return err
		}
		s.loaders[j] = true
	}
	return nil
}

// find looks for a library as the loader does: where the file says, then where all are; and beside the file, for those of
// another machine.
func (s *system) find(img *image, name string) string {
	if filepath.IsAbs(name) {
		if _, err := os.Stat(name); err == nil {
			return name
		}
		return ""
	}
	dirs := slices.Clone(img.search)
	if len(s.images) > 0 && s.images[0] != img {
		dirs = append(dirs, s.images[0].search...)
	}
	for _, dir := range dirs {
		if p := filepath.Join(dir, name); img.fits(p) {
			return p
		}
	}
	m := symbol.NativeMachine()
	if want := machineOf(img.abi); want != m {
		m = want
	} else if p, err := (symbol.Finder{Machine: m}).Find(name); err == nil && filepath.Base(p) == name {
		return p
	}
	if p := filepath.Join(filepath.Dir(img.path), name); img.fits(p) {
		return p
	}
	if p, err := (symbol.Finder{Machine: m}).Find(name); err == nil && filepath.Base(p) == name {
		return p
	}
	return ""
}

// resolveAll finds numbers, libraries before those that use them: wrappers are known then.
func (s *system) resolveAll() {
	s.definedIn = map[string]node{}
	for i, img := range s.images {
		for name, addr := range img.exports {
			if _, ok := s.definedIn[name]; !ok {
				if f := img.functionAt(addr); f >= 0 {
					s.definedIn[name] = node{i, f}
				}
			}
		}
	}
	s.resolved = make([]*resolver, len(s.images))
	imports := func(name string) []wrapper {
		if d, ok := s.definedIn[name]; ok && s.resolved[d.img] != nil {
			return s.resolved[d.img].exportedWrappers(name)
		}
		return nil
	}
	begun := map[int]bool{}
	var resolve func(i int)
	resolve = func(i int) {
		if begun[i] {
			return
		}
		begun[i] = true
		for _, j := range s.needs[i] {
			resolve(j)
		}
		s.resolved[i] = s.images[i].resolve(imports)
	}
	for i := range s.images {
		resolve(i)
	}
	s.effects, s.unknown = make([]map[int][]callID, len(s.images)), make([]map[int][]*site, len(s.images))
	for i, r := range s.resolved {
		s.effects[i], s.unknown[i] = map[int][]callID{}, map[int][]*site{}
		for at, x := range r.sites {
			f := s.images[i].functionAt(at)
			s.effects[i][f] = append(s.effects[i][f], r.calls(x)...)
			if x.unknown != "" {
				s.unknown[i][f] = append(s.unknown[i][f], x)
			}
		}
	}
}

// walk finds what is reached: from entries and constructors by calls and by addresses that reached code takes, then from all
// functions whose address is in data.
func (s *system) walk() {
	s.how, s.parent = map[node]Reach{}, map[node]node{}
	for i, img := range s.images {
		if s.loaders[i] || s.roots[i] && !img.library {
			s.enter(i, img.entry, none, ReachDirect)
		}
		for _, a := range img.starts {
			s.enter(i, a, none, ReachDirect)
		}
		if s.roots[i] && img.library {
			for _, a := range img.exports {
				s.enter(i, a, none, ReachDirect)
			}
		}
	}
	s.spread(ReachDirect)
	for i, img := range s.images {
		for _, a := range img.pointers {
			s.enter(i, a, none, ReachPointer)
		}
	}
	s.spread(ReachPointer)
}

// enter notes that control comes to an address of a file, or to an import of it.
func (s *system) enter(img int, addr uint64, from node, how Reach) {
	n := node{img, -1}
	if addr >= importBase {
		if addr-importBase >= uint64(len(s.images[img].imports)) {
			return
		}
		d, ok := s.definedIn[s.images[img].imports[addr-importBase]]
		if !ok {
			return
		}
		n = d
	} else if n.fn = s.images[img].functionAt(addr); n.fn < 0 {
		return
	}
	if s.how[n] != "" {
		return
	}
	s.how[n], s.parent[n] = how, from
	s.queue = append(s.queue, n)
}

func (s *system) spread(how Reach) {
	for len(s.queue) > 0 {
		n := s.queue[0]
		s.queue = s.queue[1:]
		img := s.images[n.img]
		for _, e := range img.edgesOf(&img.funcs[n.fn]) {
			s.enter(n.img, e.to, n, how)
		}
	}
}

// chain are the functions that lead to one, the first entered first.
func (s *system) chain(n node) []string {
	var nodes []node
	for ; n != none && len(nodes) < 64; n = s.parent[n] {
		nodes = append(nodes, n)
	}
	slices.Reverse(nodes)
	var out []string
	last := -1
	for _, n := range nodes {
		img := s.images[n.img]
		if s := img.sectionAt(img.funcs[n.fn].start); s != nil && s.stubs {
			continue // the way into another file is no function of anybody
		}
		name := img.label(img.funcs[n.fn].start)
		if n.img != last {
			name = img.name + ": " + name
			last = n.img
		}
		out = append(out, name)
	}
	return out
}

func machineOf(abi seccomp.ABI) elfMachine {
	if abi == seccomp.AArch64 {
		return machineARM64
	}
	return machineX86
}
