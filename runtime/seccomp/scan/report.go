package scan

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"text/tabwriter"

	"github.com/sonde-sh/sonde/runtime/seccomp"
)

type elfMachine = elf.Machine

const (
	machineX86   = elf.EM_X86_64
	machineARM64 = elf.EM_AARCH64
)

// fits reports whether a file is there and of the same machine.
func (img *image) fits(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return f.Machine == machineOf(img.abi) && f.Class == elf.ELFCLASS64
}

// Reach says how code gets to a call.
type Reach string

const (
	// ReachDirect is by calls, and by addresses that the code on the way takes.
	ReachDirect Reach = "direct"
	// ReachPointer is by a function whose address is in data: whether anything calls it is not known.
	ReachPointer Reach = "pointer"
)

// Report is what a scan found.
type Report struct {
	Files []File `json:"files"`
	Calls []Call `json:"calls"`
	// Unknown are reached sites whose number is not known.
	Unknown []UnknownSite `json:"unknown_sites"`
	// Missing are libraries that were not found: what they do is not here.
	Missing []string `json:"missing_libraries,omitempty"`
	Notes   []string `json:"notes,omitempty"`
}

// File is what was found in one file, reached or not.
type File struct {
	Path      string      `json:"path"`
	ABI       seccomp.ABI `json:"abi"`
	Language  string      `json:"language,omitempty"` // "go"
	Functions int         `json:"functions"`
	// Sites are instructions that enter the kernel, and calls of wrappers.
	Sites    int `json:"sites"`
	Resolved int `json:"resolved"`
	// Wrappers are functions that take the number as a parameter.
	Wrappers  []string `json:"wrappers,omitempty"`
	Undecoded int      `json:"undecoded_bytes,omitempty"`
}

// Call is a system call that is reached, was observed, or both.
type Call struct {
	ABI      seccomp.ABI `json:"abi"`
	Name     string      `json:"name"`
	Number   int         `json:"number"`
	Observed uint64      `json:"observed"` // how often, 0 without a recording
	Reach    Reach       `json:"reach,omitempty"`
	// Chain is one way to it: functions, each with its file where that changes.
	Chain []string `json:"chain,omitempty"`
	Sites int      `json:"sites,omitempty"` // how many reached places make it
}

// UnknownSite is a place that makes a call of which the number is not known.
type UnknownSite struct {
	File     string   `json:"file"`
	Address  string   `json:"address"`
	Function string   `json:"function"`
	Why      string   `json:"why"`
	Reach    Reach    `json:"reach"`
	Chain    []string `json:"chain,omitempty"`
}

// Run scans files: programs from their entry, libraries from all that they export, with the libraries that they need. The error
// names the file that cannot be read.
func Run(paths []string) (*Report, error) {
	s := &system{byPath: map[string]int{}, roots: map[int]bool{}, loaders: map[int]bool{}, needs: map[int][]int{}}
	for _, p := range paths {
		if _, err := s.load(p, true); err != nil {
			return nil, err
		}
	}
	if len(s.images) == 0 {
		return nil, errors.New("no file to scan")
	}
	for _, img := range s.images {
		if img.abi != s.images[0].abi {
			return nil, fmt.Errorf("%s and %s are for different machines; scan them one by one", s.images[0].path, img.path)
		}
	}
	if err := s.loadAll(); err != nil {
		return nil, err
	}
	s.resolveAll()
	s.walk()
	return s.report(), nil
}

func (s *system) report() *Report {
	r := &Report{Missing: s.missing, Calls: []Call{}, Unknown: []UnknownSite{}}
	slices.Sort(r.Missing)
	for i, img := range s.images {
		f := File{Path: img.path, ABI: img.abi, Functions: len(img.funcs), Undecoded: img.bad}
		if img.isGo {
			f.Language = "go"
		}
		for _, x := range s.resolved[i].sites {
			f.Sites++
			if x.unknown == "" {
				f.Resolved++
			}
		}
		for w := range s.resolved[i].wrappers {
			if w.entry < importBase {
				f.Wrappers = append(f.Wrappers, img.label(w.entry))
			}
		}
		slices.Sort(f.Wrappers)
		f.Wrappers = slices.Compact(f.Wrappers)
		r.Files = append(r.Files, f)
	}
	s.reportCalls(r)
	s.reportUnknown(r)
	for _, name := range []string{"dlopen", "dlmopen"} {
		if d, ok := s.definedIn[name]; ok && s.how[d] == ReachDirect {
			chain := strings.Join(s.chain(d), " > ")
			r.Notes = append(r.Notes, "libraries are opened while it runs ("+chain+"): scan them too, by naming them")
			break
		}
	}
	return r
}

func (s *system) reportCalls(r *Report) {
	best := map[callID]node{}
	count := map[callID]int{}
	length := map[node]int{}
	for i := range s.images {
		for f, ids := range s.effects[i] {
			n := node{i, f}
			how := s.how[n]
			if how == "" {
				continue
			}
			length[n] = len(s.chain(n))
			for _, id := range ids {
				count[id]++
				old, ok := best[id]
				if !ok || s.better(n, old, length) {
					best[id] = n
				}
			}
		}
	}
	for id, n := range best {
		r.Calls = append(r.Calls, Call{ABI: id.abi, Name: id.name(), Number: id.number, Reach: s.how[n], Chain: s.chain(n), Sites: count[id]})
	}
	r.sort()
}

// better prefers direct ways, then short ones; the rest makes the answer the same each time.
func (s *system) better(a, b node, length map[node]int) bool {
	rank := func(n node) int {
		if s.how[n] == ReachDirect {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(length[a], length[b]), cmp.Compare(a.img, b.img), cmp.Compare(a.fn, b.fn)) < 0
}

func (r *Report) sort() {
	fam := r.Files[0].ABI.Family()
	sort.Slice(r.Calls, func(i, j int) bool {
		a, b := &r.Calls[i], &r.Calls[j]
		return cmp.Or(cmp.Compare(slices.Index(fam, a.ABI), slices.Index(fam, b.ABI)), cmp.Compare(a.Name, b.Name)) < 0
	})
}

func (s *system) reportUnknown(r *Report) {
	for i, img := range s.images {
		for f, sites := range s.unknown[i] {
			n := node{i, f}
			if s.how[n] == "" {
				continue
			}
			for _, x := range sites {
				r.Unknown = append(r.Unknown, UnknownSite{img.path, fmt.Sprintf("%#x", x.at), img.label(x.at), x.unknown, s.how[n], s.chain(n)})
			}
		}
	}
	sort.Slice(r.Unknown, func(i, j int) bool {
		a, b := &r.Unknown[i], &r.Unknown[j]
		return cmp.Or(cmp.Compare(a.Reach, b.Reach), cmp.Compare(a.File, b.File), cmp.Compare(len(a.Address), len(b.Address)), cmp.Compare(a.Address, b.Address)) < 0
	})
}

// Join adds what a recording saw of the scanned programs. Where the recording has none of them, all its calls count, and a note
// says so.
func (r *Report) Join(p *seccomp.Profile, paths []string) error {
	if p.ABI != r.Files[0].ABI {
		return fmt.Errorf("the recording is of a machine with ABI %s, the scanned files are for %s", p.ABI, r.Files[0].ABI)
	}
	scanned := map[string]bool{}
	for _, path := range paths {
		scanned[realPath(path)] = true
	}
	found := false
	for _, run := range p.Runs {
		for _, q := range run.Programs {
			found = found || scanned[realPath(q.Path)]
		}
	}
	if !found {
		r.Notes = append(r.Notes, "the recording has no program of these files, so all its calls are compared")
	}
	for _, c := range p.Calls {
		if c.Origin == seccomp.OriginRuntime {
			continue
		}
		n := c.Count
		if found {
			n = 0
			for _, q := range c.Programs {
				if scanned[realPath(q.Path)] {
					n += q.Count
				}
			}
		}
		if n == 0 {
			continue
		}
		i := slices.IndexFunc(r.Calls, func(x Call) bool { return x.ABI == c.ABI && x.Number == c.Number })
		if i < 0 {
			r.Calls = append(r.Calls, Call{ABI: c.ABI, Name: c.Name, Number: c.Number})
			i = len(r.Calls) - 1
		}
		r.Calls[i].Observed += n
	}
	r.sort()
	return nil
}

func realPath(p string) string {
	if real, err := filepath.EvalSymlinks(p); err == nil {
		return real
	}
	return p
}

// Column says in which of the three lists a call belongs.
func (c *Call) column() string {
	switch {
	case c.Observed > 0 && c.Reach == "":
		return "beyond"
	case c.Observed > 0:
		return "observed"
	}
	return "reachable"
}

// Show prints the report for people. joined is set after [Report.Join].
func (r *Report) Show(w io.Writer, joined bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FILE\tFUNCTIONS\tSITES\tRESOLVED\tWRAPPERS")
	for _, f := range r.Files {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\n", f.Path, f.Functions, f.Sites, share(f.Resolved, f.Sites), brief(f.Wrappers, 3))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, m := range r.Missing {
		fmt.Fprintf(w, "not found, so not scanned: %s\n", m)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	lists := map[string][]Call{}
	for _, c := range r.Calls {
		lists[c.column()] = append(lists[c.column()], c)
	}
	native := r.Files[0].ABI
	if joined {
		fmt.Fprintf(w, "\nobserved: %d\n", len(lists["observed"])+len(lists["beyond"]))
		var names []string
		for _, c := range append(slices.Clone(lists["observed"]), lists["beyond"]...) {
			names = append(names, label(native, c.ABI, c.Name))
		}
		slices.Sort(names)
		fold(w, names)
		if len(lists["beyond"]) > 0 {
			fmt.Fprintf(w, "\nobserved, though the scan does not reach it: %d (it cannot see all of this program)\n", len(lists["beyond"]))
			for _, c := range lists["beyond"] {
				fmt.Fprintf(w, "    %s\n", label(native, c.ABI, c.Name))
			}
		}
	}
	head := "reachable"
	if joined {
		head = "reachable, never seen"
	}
	fmt.Fprintf(w, "\n%s: %d\n", head, len(lists["reachable"]))
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, how := range []Reach{ReachDirect, ReachPointer} {
		for _, c := range lists["reachable"] {
			if c.Reach == how {
				fmt.Fprintf(t, "    %s\t%s\t%s\n", label(native, c.ABI, c.Name), c.Reach, strings.Join(c.Chain, " > "))
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nunknown sites: %d\n", len(r.Unknown))
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, u := range r.Unknown {
		fmt.Fprintf(t, "    %s %s\t%s\t%s\t%s\n", filepath.Base(u.File), u.Address, u.Function, u.Reach, u.Why)
	}
	return t.Flush()
}

func label(native, abi seccomp.ABI, name string) string {
	if abi == native {
		return name
	}
	return name + " (" + string(abi) + ")"
}

func share(part, whole int) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%d (%.1f %%)", part, 100*float64(part)/float64(whole))
}

func brief(list []string, n int) string {
	switch {
	case len(list) == 0:
		return "-"
	case len(list) <= n:
		return strings.Join(list, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:n], " "), len(list)-n)
}

// fold prints words in lines of a usual width.
func fold(w io.Writer, words []string) {
	line := "   "
	for _, x := range words {
		if len(line)+1+len(x) > 110 {
			fmt.Fprintln(w, line)
			line = "   "
		}
		line += " " + x
	}
	if line != "   " {
		fmt.Fprintln(w, line)
	}
}
