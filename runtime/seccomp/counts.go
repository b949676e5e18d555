package seccomp

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// FromCounts makes a profile of what a script counted: how often each system call of the native ABI was made, by name. The error names
// the entries that are no system calls.
func FromCounts(tool, release, target string, counts map[string]uint64) (*Profile, error) {
	p := New(Native(), tool, release)
	run := &Run{ID: newID(), Target: target, Kernel: release, Started: time.Now().Round(0)}
	p.Runs = []*Run{run}
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		number, ok := p.ABI.Number(name)
		if !ok {
			wrong = append(wrong, fmt.Sprintf("`%s`", name))
			continue
		}
		run.Calls += counts[name]
		p.Calls = append(p.Calls, &Call{ABI: p.ABI, Name: name, Number: number, Count: counts[name], Origin: OriginRecorded, Runs: []RunCount{{run.ID, counts[name]}}})
	}
	switch {
	case len(wrong) > 0:
		return nil, fmt.Errorf("%s: no system call of %s is called %s", target, p.ABI, strings.Join(wrong, ", "))
	case len(p.Calls) == 0:
		return nil, fmt.Errorf("%s: there is no system call in it", target)
	}
	return p, nil
}
