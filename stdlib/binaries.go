package stdlib

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/sonde-sh/sonde/runtime/symbol"
)

// binary is a program or library that an attach point names.
type binary struct {
	path string // as the traced processes see it
	host string // as we, and the kernel on our behalf, reach it
	root symbol.Root
	name string // how the script says it
}

// binaries finds what segment i of an attach point names and complains when there is nothing.
func (m *Machine) binaries(r *request, i int, name string, pid int) ([]binary, bool) {
	bins, err := m.findBinaries(name, pid)
	switch {
	case err == nil && len(bins) > 0:
		return bins, true
	case err == nil || errors.Is(err, symbol.ErrNoBinary):
		d := r.errorf(codeTarget, "%s target file '%s' does not exist or is not executable", r.kind, name)
		suggest(d, m.nearestBinaries(name, pid))
		if err != nil && !strings.Contains(name, "/") {
			d.Notes = append(d.Notes, err.Error())
		}
	default:
		r.segErrorf(i, codeTarget, "error finding %s target: %v", r.kind, err)
	}
	return nil, false
}

// unreadable reports a file that is no program.
func (r *request) unreadable(path string, err error) {
	if errors.Is(err, symbol.ErrNotELF) {
		d := r.errorf(codeTarget, "%s target file '%s' does not exist or is not executable", r.kind, path)
		d.Notes = append(d.Notes, err.Error())
		return
	}
	r.segErrorf(0, codeTarget, "cannot read %s: %v", path, err)
}

// hasPathWildcard is for paths, in which shells also know sets of characters.
func hasPathWildcard(path string) bool { return strings.ContainsAny(path, "*?[") }

// findBinaries resolves a path, a library or program name, a path with wildcards, or `*` (every file that the process, or any process, has
// mapped as code).
func (m *Machine) findBinaries(name string, pid int) ([]binary, error) {
	root, err := m.root(pid)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	switch {
	case name == "*":
		return m.mappedFiles(pid)
	case hasPathWildcard(name) && strings.Contains(name, "/"):
		return globFiles(root, name)
	case hasPathWildcard(name):
		var all []binary
		for _, dir := range searchDirs(strings.HasPrefix(name, "lib")) {
			found, err := globFiles(root, filepath.Join(dir, name))
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
		return all, nil
	}
	path, err := symbol.Finder{Root: root, PID: pid}.Find(name)
	if err != nil {
		return nil, err
	}
	if strings.Contains(name, "/") {
		return []binary{{path, pathHere(root, path), root, name}}, nil
	}
	return []binary{{path, pathHere(root, path), root, path}}, nil
}

func searchDirs(library bool) []string {
	if library {
		return []string{"/lib/*-linux-gnu", "/lib64", "/lib", "/usr/local/lib"}
	}
	return filepath.SplitList(os.Getenv("PATH"))
}

// globFiles lists the ELF files that match a path, sorted, links to the same file left out.
func globFiles(root symbol.Root, pattern string) ([]binary, error) {
	named := func(path string) string { return path }
	if !filepath.IsAbs(pattern) && root.Own() {
		if abs, err := filepath.Abs(pattern); err == nil {
			named = relativeAs(pattern)
			pattern = abs
		}
	}
	prefix := ""
	if !root.Own() {
		prefix = root.Dir
	}
	paths, err := filepath.Glob(prefix + pattern)
	if err != nil {
		return nil, fmt.Errorf("pattern %s: %w", pattern, err)
	}
	var out []binary
	var infos []os.FileInfo
	for _, host := range paths {
		st, err := os.Stat(host)
		if err != nil || !st.Mode().IsRegular() || !isELF(host) {
			continue
		}
		if slices.ContainsFunc(infos, func(o os.FileInfo) bool { return os.SameFile(o, st) }) {
			continue
		}
		infos = append(infos, st)
		path := strings.TrimPrefix(host, prefix)
		out = append(out, binary{path, host, root, named(path)})
	}
	return out, nil
}

// relativeAs returns a function that names a path as a relative pattern that matched it does.
func relativeAs(pattern string) func(path string) string {
	return func(path string) string {
		here, err := os.Getwd()
		if err != nil {
			return path
		}
		rel, err := filepath.Rel(here, path)
		switch {
		case err != nil:
			return path
		case strings.HasPrefix(pattern, "./"):
			return "./" + rel
		}
		return rel
	}
}

func isELF(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	n, _ := f.Read(magic[:])
	return n == 4 && string(magic[:]) == "\x7fELF"
}

// listedBinaries is findBinaries for a listing, where `*` without a process also stands for every program of the search path.
func (m *Machine) listedBinaries(name string, pid int) ([]binary, error) {
	bins, err := m.findBinaries(name, pid)
	if err != nil || name != "*" || pid != 0 {
		return bins, err
	}
	seen := make(map[string]bool)
	for _, b := range bins {
		seen[b.path] = true
	}
	root, err := m.root(0)
	if err != nil {
		return nil, err
	}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		found, err := globFiles(root, filepath.Join(dir, "*"))
		if err != nil {
			continue // a folder that is not there
		}
		for _, b := range found {
			if st, err := os.Stat(b.host); err != nil || st.Mode()&0o111 == 0 || seen[b.path] {
				continue
			}
			seen[b.path] = true
			bins = append(bins, b)
		}
	}
	return bins, nil
}

// mappedFiles lists the files that a process (0: any process) has mapped as code, sorted.
func (m *Machine) mappedFiles(pid int) ([]binary, error) {
	pids := []int{pid}
	if pid == 0 {
		entries, err := os.ReadDir(m.Kernel.Path("/proc"))
		if err != nil {
			return nil, err
		}
		pids = pids[:0]
		for _, e := range entries {
			if n, err := strconv.Atoi(e.Name()); err == nil {
				pids = append(pids, n)
			}
		}
	}
	seen := make(map[string]bool)
	var out []binary
	for _, p := range pids {
		text, err := os.ReadFile(m.Kernel.Path("/proc/" + strconv.Itoa(p) + "/maps"))
		if err != nil {
			if pid != 0 {
				return nil, err
			}
			continue // gone in the meantime
		}
		root, err := m.root(p)
		if err != nil {
			continue
		}
		for _, mp := range symbol.ParseMaps(text) {
			if !mp.Exec || mp.Deleted || !strings.HasPrefix(mp.Path, "/") || seen[root.Dir+mp.Path] {
				continue
			}
			seen[root.Dir+mp.Path] = true
			out = append(out, binary{mp.Path, pathHere(root, mp.Path), root, mp.Path})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].path < out[j].path })
	return out, nil
}

// nearestBinaries suggests files beside a path that does not exist, or programs for a name.
func (m *Machine) nearestBinaries(name string, pid int) []string {
	root, err := m.root(pid)
	if err != nil {
		return nil
	}
	dirs := searchDirs(false)
	if strings.Contains(name, "/") {
		dirs = []string{filepath.Dir(name)}
	}
	return nearest(filepath.Base(name), func(yield func(string) bool) {
		for _, dir := range dirs {
			entries, err := os.ReadDir(root.Host(dir))
			if err != nil {
				continue
			}
			for _, e := range entries {
				if !e.IsDir() && !yield(e.Name()) {
					return
				}
			}
		}
		if strings.Contains(name, "/") {
			return
		}
		for _, lib := range (symbol.Finder{Root: root}).Libraries() {
			if short, _, _ := strings.Cut(lib, ".so"); !yield(short) {
				return
			}
		}
	})
}
