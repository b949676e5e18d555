package stdlib

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime/kernel"
)

// perfKind is software and hardware: counted events of the kernel and of the processor.
type perfKind struct {
	name   string
	typ    uint64 // perf_event_attr.type
	events []perfEvent
}

// perfEvent is one event with the number of events between two samples when the script names none.
type perfEvent struct {
	name, alias string
	config      uint64
	period      uint64
}

// perfPoint is one event of a script.
type perfPoint struct {
	event  perfEvent
	period uint64
}

var softwareEvents = []perfEvent{
	{"alignment-faults", "", unix.PERF_COUNT_SW_ALIGNMENT_FAULTS, 1},
	{"bpf-output", "", unix.PERF_COUNT_SW_BPF_OUTPUT, 1},
	{"context-switches", "cs", unix.PERF_COUNT_SW_CONTEXT_SWITCHES, 1000},
	{"cpu-clock", "cpu", unix.PERF_COUNT_SW_CPU_CLOCK, 1e6},
	{"cpu-migrations", "", unix.PERF_COUNT_SW_CPU_MIGRATIONS, 1},
	{"dummy", "", unix.PERF_COUNT_SW_DUMMY, 1},
	{"emulation-faults", "", unix.PERF_COUNT_SW_EMULATION_FAULTS, 1},
	{"major-faults", "", unix.PERF_COUNT_SW_PAGE_FAULTS_MAJ, 1},
	{"minor-faults", "", unix.PERF_COUNT_SW_PAGE_FAULTS_MIN, 100},
	{"page-faults", "faults", unix.PERF_COUNT_SW_PAGE_FAULTS, 100},
	{"task-clock", "", unix.PERF_COUNT_SW_TASK_CLOCK, 1},
}

var hardwareEvents = []perfEvent{
	{"backend-stalls", "", unix.PERF_COUNT_HW_STALLED_CYCLES_BACKEND, 1e6},
	{"branch-instructions", "branches", unix.PERF_COUNT_HW_BRANCH_INSTRUCTIONS, 1e5},
	{"branch-misses", "", unix.PERF_COUNT_HW_BRANCH_MISSES, 1e5},
	{"bus-cycles", "", unix.PERF_COUNT_HW_BUS_CYCLES, 1e5},
	{"cache-misses", "", unix.PERF_COUNT_HW_CACHE_MISSES, 1e6},
	{"cache-references", "", unix.PERF_COUNT_HW_CACHE_REFERENCES, 1e6},
	{"cpu-cycles", "cycles", unix.PERF_COUNT_HW_CPU_CYCLES, 1e6},
	{"frontend-stalls", "", unix.PERF_COUNT_HW_STALLED_CYCLES_FRONTEND, 1e6},
	{"instructions", "", unix.PERF_COUNT_HW_INSTRUCTIONS, 1e6},
	{"ref-cycles", "", unix.PERF_COUNT_HW_REF_CPU_CYCLES, 1e6},
}

func perfKinds(*Machine) []KindEntry {
	return []KindEntry{
		{Kind: &perfKind{"software", unix.PERF_TYPE_SOFTWARE, softwareEvents}, Aliases: []string{"s"}, Doc: Doc{
			Group:   "processor",
			Summary: "an event that the kernel counts, every so many times",
			Text:    "`software:EVENT[:COUNT]` fires once in COUNT events: page-faults (faults), context-switches (cs), cpu-clock (cpu), cpu-migrations ...",
			Example: `software:page-faults:100 { @[comm] = count(); }`, SeeAlso: []string{"hardware", "profile"},
		}},
		{Kind: &perfKind{"hardware", unix.PERF_TYPE_HARDWARE, hardwareEvents}, Aliases: []string{"h"}, Doc: Doc{
			Group:   "processor",
			Summary: "an event that the processor counts, every so many times",
			Text:    "`hardware:EVENT[:COUNT]` fires once in COUNT events: cpu-cycles (cycles), instructions, cache-misses, branch-misses ... Virtual machines often have none.",
			Example: `hardware:cache-misses:1000000 { @[pid] = count(); }`, SeeAlso: []string{"software"},
		}},
	}
}

func (k *perfKind) Name() string { return k.name }

func (k *perfKind) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest(k.name, ap, env, diags)
	if !r.count(1, 2, k.name+":EVENT:COUNT") {
		return nil
	}
	switch {
	case r.seg[0] == "":
		r.errorf(codeSegments, "%s probe must have a %s event name", k.name, k.name).Hint("list them with -l '%s:*'", k.name)
		return nil
	case kernel.HasWildcard(r.seg[0]):
		r.segErrorf(0, codeSegments, "wildcards are not allowed for %s probe type", k.name)
		return nil
	}
	i := slices.IndexFunc(k.events, func(e perfEvent) bool { return r.seg[0] == e.name || r.seg[0] == e.alias })
	if i < 0 {
		d := r.errorf(codeNoMatch, "%s is not a %s probe", r.seg[0], k.name)
		suggest(d, nearest(r.seg[0], func(yield func(string) bool) {
			for _, e := range k.events {
				if !yield(e.name) || e.alias != "" && !yield(e.alias) {
					return
				}
			}
		}))
		d.Hint("list them with -l '%s:*'", k.name)
		return nil
	}
	d := &perfPoint{event: k.events[i], period: k.events[i].period}
	name := k.name + ":" + r.seg[0]
	if len(r.seg) == 2 && r.seg[1] != "" && r.seg[1] != "*" {
		n, err := parseNumber(r.seg[1])
		if strings.HasPrefix(r.seg[1], "-") {
			r.segErrorf(1, codeTime, "%s count should be a positive integer", k.name)
			return nil
		}
		if err != nil || n > math.MaxInt64 {
			if err == nil {
				err = fmt.Errorf("integer is too large: %s", r.seg[1])
			}
			r.segErrorf(1, codeTime, "Invalid count for %s probe: %v", k.name, err)
			return nil
		}
		if n != 0 {
			d.period = n
			name += fmt.Sprintf(":%d", n)
		}
	}
	p := r.point(k, name)
	p.Data = d
	return []*check.Point{p}
}

func (k *perfKind) List(segments []string, _ ListOptions, yield func(Listed) bool) error {
	pattern := strings.TrimSuffix(strings.Join(segments, ":"), ":")
	g := kernel.CompileGlob(pattern)
	var names []string
	for _, e := range k.events {
		for _, name := range []string{e.name, e.alias} {
			if name != "" && (g.Match(name) || g.Match(name+":")) {
				names = append(names, k.name+":"+name+":")
			}
		}
	}
	slices.Sort(names)
	for _, n := range names {
		if !yield(Listed{Name: n}) {
			break
		}
	}
	return nil
}

func (k *perfKind) Hook(p *check.Point, _ *lower.Uses, _ *target.Target) *lower.Hook {
	return &lower.Hook{Point: p, Share: k.name, Type: ebpf.PerfEvent, Context: registerContext(), Data: p.Data}
}

func (k *perfKind) Links(hooks []*lower.Hook, _ bool, _ *target.Target) []*object.Attach {
	return eachHook(hooks, func(h *lower.Hook) *object.Attach {
		d := h.Data.(*perfPoint)
		return &object.Attach{
			Mechanism: object.PerfEvent, Target: d.event.name, PerfType: k.typ, PerfConfig: d.event.config, Period: d.period, AllCPUs: true,
			Reason: "perf counts the event on each CPU",
		}
	})
}
