package kernel

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"

	"github.com/cilium/ebpf/asm"

	"golang.org/x/sys/unix"
)

// Features answers what the running kernel can do. Each feature is probed when it is first asked for, by trying the thing
// itself; nothing is derived from the version. It is safe for concurrent use.
type Features struct {
	k     *Kernel
	fixed map[string]bool // set for FixedFeatures: nothing is probed

	rows func() map[string]feature // the table by name
	once sync.Once
	mu   sync.Mutex
	done map[string]error // conclusive answers
}

// feature is one row of the table: what is probed, and since which mainline version a kernel with everything configured has it.
type feature struct {
	name  string
	since string // documentation and test only
	about string
	probe func(*Features) error
}

// ErrNotSupported says that the kernel lacks a feature.
var ErrNotSupported = errors.New("not supported by this kernel")

// FeatureError says that the kernel lacks a feature. It matches ErrNotSupported.
type FeatureError struct {
	Name   string
	About  string // what the feature is, in a few words
	Since  string // mainline version that has it
	Detail string // what the probe saw, may be empty
}

// Error names the feature and when it came.
func (e *FeatureError) Error() string {
	s := fmt.Sprintf("this kernel lacks %s (%s)", e.About, e.Name)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Since != "" {
		s += "; mainline has it since " + e.Since
	}
	return s
}

// Is makes it match ErrNotSupported.
func (e *FeatureError) Is(target error) bool { return target == ErrNotSupported }

// RefusedError says that the kernel knows a feature (or may know it) but refused this process: a missing right, lockdown, a
// security module or the hypervisor's policy. Another way to the same end may work.
type RefusedError struct {
	Name  string
	About string
	Err   error // EPERM or EACCES
}

// Error names what was refused.
func (e *RefusedError) Error() string {
	if e.About == "" {
		return fmt.Sprintf("%s: refused by this machine: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("%s (%s): refused by this machine: %v", e.About, e.Name, e.Err)
}

// Unwrap gives the errno.
func (e *RefusedError) Unwrap() error { return e.Err }

// Features of the running kernel. For a Kernel over another root every probe is inconclusive.
func (k *Kernel) Features() *Features { return k.feats() }

func newFeatures(k *Kernel) *Features {
	return &Features{k: k, rows: sync.OnceValue(rowsByName), done: map[string]error{}}
}

// FixedFeatures are features that are given and not probed, for tests and fixture targets: those named are there, all others
// are missing.
func FixedFeatures(names ...string) *Features {
	f := &Features{fixed: map[string]bool{}, rows: sync.OnceValue(rowsByName)}
	for _, n := range names {
		f.fixed[n] = true
	}
	return f
}

// Has tells whether the feature is there and usable by this process. A probe that cannot tell counts as no.
func (f *Features) Has(name string) bool { return f.Check(name) == nil }

// Check probes a feature: nil when it is there, a *FeatureError when the kernel lacks it, a *RefusedError when it refused, and
// another error when the probe could not tell or the name is not in the table (see FeatureNames). Helpers may be asked for by
// their kernel name even if they are not in the table ("bpf_loop"), and kfuncs as "kfunc:NAME".
func (f *Features) Check(name string) error {
	if f.fixed != nil {
		if f.fixed[name] {
			return nil
		}
		return f.missing(name, "")
	}
	f.mu.Lock()
	err, ok := f.done[name]
	f.mu.Unlock()
	if ok {
		return err
	}
	err = f.run(name)
	var fe *FeatureError
	var re *RefusedError
	if err == nil || errors.As(err, &fe) || errors.As(err, &re) {
		f.mu.Lock()
		f.done[name] = err
		f.mu.Unlock()
	}
	return err
}

func (f *Features) run(name string) error {
	row, ok := f.lookup(name)
	if !ok {
		return fmt.Errorf("feature %q is not known", name)
	}
	if !f.k.Running() {
		return fmt.Errorf("feature %s: cannot be probed: not the running kernel", name)
	}
	f.once.Do(func() { _ = RaiseMemlock() }) // before 5.11 the default limit makes probes fail with EPERM
	err := row.probe(f)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotSupported):
		return f.missing(name, strings.TrimPrefix(strings.TrimPrefix(err.Error(), ErrNotSupported.Error()), ": "))
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return &RefusedError{Name: row.name, About: row.about, Err: errnoOf(err)}
	}
	return fmt.Errorf("feature %s: the probe failed: %w", name, err)
}

func errnoOf(err error) error {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

func (f *Features) missing(name, detail string) error {
	row, _ := f.lookup(name)
	if row.about == "" {
		row.about = name
	}
	return &FeatureError{Name: name, About: row.about, Since: row.since, Detail: detail}
}

// FeatureInfo describes a feature, for documentation.
type FeatureInfo struct {
	Name  string
	Since string // mainline version
	About string
}

// FeatureNames lists the features that can be probed, sorted by name.
func FeatureNames() []FeatureInfo {
	var out []FeatureInfo
	for _, r := range featureRows() {
		out = append(out, FeatureInfo{r.name, r.since, r.about})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// HelperInfo describes a helper function of the kernel's; false when the table does not know it.
func HelperInfo(fn asm.BuiltinFunc) (FeatureInfo, bool) {
	for _, h := range helperTable {
		if h.id == fn {
			return FeatureInfo{h.name, h.since, "the helper " + h.name}, true
		}
	}
	return FeatureInfo{}, false
}
