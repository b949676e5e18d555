package stdlib

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

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

// timer is interval and profile: the same clock, on one CPU or on all.
type timer struct {
	name string
	all  bool
}

// timerPoint is the period of a timer.
type timerPoint struct {
	periodNS uint64
}

func timerKinds(*Machine) []KindEntry {
	return []KindEntry{
		{Kind: &timer{"interval", false}, Aliases: []string{"i"}, Doc: Doc{
			Group: "time", Summary: "at a fixed interval, on one CPU",
			Text:    "`interval:s:1`, `interval:ms:100`, `interval:us:500`, `interval:hz:10`, `interval:1s`, or a plain number of nanoseconds.",
			Example: `interval:s:1 { print(@n); exit(); } tracepoint:raw_syscalls:sys_enter { @n = count(); }`, SeeAlso: []string{"profile"},
		}},
		{Kind: &timer{"profile", true}, Aliases: []string{"p"}, Doc: Doc{
			Group: "time", Summary: "at a fixed interval, on every CPU",
			Text:    "Takes the same units as `interval`. With `-p` only the time in which the process runs counts.",
			Example: `profile:hz:99 { @[kstack] = count(); }`, SeeAlso: []string{"interval"},
		}},
	}
}

// rateUnits are the units of the first segment, in the order of listings: nanoseconds of one, 0 for hz.
var rateUnits = []struct {
	name string
	ns   uint64
}{{"hz", 0}, {"ms", 1e6}, {"s", 1e9}, {"us", 1e3}}

func (k *timer) Name() string { return k.name }

func (k *timer) Expand(ap *ast.AttachPoint, env *check.Env, diags *diag.List) []*check.Point {
	r := newRequest(k.name, ap, env, diags)
	if !r.count(1, 2, k.name+":s:1") {
		return nil
	}
	d := &timerPoint{}
	name := ""
	if len(r.seg) == 1 {
		n, err := parseNumber(r.seg[0])
		switch {
		case err != nil && isRateUnit(r.seg[0]):
			r.errorf(codeTime, "Invalid rate of %s probe: %v", k.name, err).Hint("write `%s:%s:1`", k.name, r.seg[0])
			return nil
		case err != nil:
			r.errorf(codeTime, "Invalid rate of %s probe: %v", k.name, err).Hint("write `%s:1s` or `%s:ms:100`", k.name, k.name)
			return nil
		case n < 1000:
			r.errorf(codeTime, "Invalid rate of %s probe. Minimum is 1000 or 1us. Found: %d nanoseconds", k.name, n)
			return nil
		case n > math.MaxInt64:
			r.errorf(codeTime, "Invalid rate of %s probe: %s is longer than 292 years", k.name, r.seg[0])
			return nil
		}
		d.periodNS = n / 1000 * 1000
		name = fmt.Sprintf("%s:us:%d", k.name, n/1000)
	} else {
		unit, n, ok := k.rate(r)
		if !ok {
			return nil
		}
		d.periodNS = unit * n
		if unit == 0 {
			d.periodNS = max(1e9/n, 1)
		}
		name = fmt.Sprintf("%s:%s:%d", k.name, r.seg[0], n)
	}
	p := r.point(k, name)
	p.Data = d
	return []*check.Point{p}
}

func isRateUnit(s string) bool {
	return slices.ContainsFunc(rateUnits, func(u struct {
		name string
		ns   uint64
	},
	) bool {
		return u.name == s
	})
}

func (k *timer) rate(r *request) (unit, n uint64, ok bool) {
	known := false
	for _, u := range rateUnits {
		if u.name == r.seg[0] {
			unit, known = u.ns, true
		}
	}
	if !known {
		r.errorf(codeTime, "%s is not an accepted unit of time", r.seg[0]).Hint("use hz, s, ms or us")
		return 0, 0, false
	}
	n, err := parseNumber(r.seg[1])
	if below, ok := strings.CutPrefix(r.seg[1], "-"); err != nil && ok {
		if _, e := parseNumber(below); e == nil {
			n, err = 0, nil
		}
	}
	switch {
	case err != nil:
		r.errorf(codeTime, "Invalid rate of %s probe: %v", k.name, err)
		return 0, 0, false
	case n == 0:
		r.errorf(codeTime, "%s frequency should be a positive integer", k.name)
		return 0, 0, false
	case unit == 0 && n > 1e9 || unit > 0 && n > math.MaxInt64/unit:
		r.segErrorf(1, codeTime, "%s frequency is too large: %s", k.name, r.seg[1])
		return 0, 0, false
	}
	return unit, n, true
}

func (k *timer) List(segments []string, _ ListOptions, yield func(Listed) bool) error {
	if len(segments) > 2 {
		return nil
	}
	pattern := strings.Join(segments, ":")
	for _, u := range rateUnits {
		text := u.name + ":"
		if (pattern == "" || kernel.CompileGlob(pattern).Match(text) || pattern == u.name) && !yield(Listed{Name: k.name + ":" + text}) {
			return nil
		}
	}
	return nil
}

func (k *timer) Hook(p *check.Point, u *lower.Uses, _ *target.Target) *lower.Hook {
	return &lower.Hook{
		Point: p, Share: k.name, Type: ebpf.PerfEvent, Context: registerContext(), Data: p.Data,
		Seldom: !k.all && p.Data.(*timerPoint).periodNS >= uint64(time.Millisecond),
	}
}

func (k *timer) Links(hooks []*lower.Hook, _ bool, _ *target.Target) []*object.Attach {
	return eachHook(hooks, func(h *lower.Hook) *object.Attach {
		d := h.Data.(*timerPoint)
		return &object.Attach{
			Mechanism: object.PerfEvent, PerfType: unix.PERF_TYPE_SOFTWARE, PerfConfig: unix.PERF_COUNT_SW_CPU_CLOCK,
			Period: d.periodNS, AllCPUs: k.all, Reason: "the CPU clock is the only timer that runs programs",
		}
	})
}

// eachHook makes one link per hook and fills in what all links have.
func eachHook(hooks []*lower.Hook, f func(h *lower.Hook) *object.Attach) []*object.Attach {
	out := make([]*object.Attach, len(hooks))
	for i, h := range hooks {
		a := f(h)
		for x := a; x != nil; x = x.Fallback {
			x.Points = []int{h.Index}
			if h.Point.Node != nil {
				x.Span = h.Point.Node.Span()
			}
		}
		out[i] = a
	}
	return out
}
