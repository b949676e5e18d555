package codegen

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/check"
)

// site is one distinct point of the script and the bodies that run there, in script order.
type site struct {
	point  *check.Point
	bodies []int // indexes into info.Bodies
}

// plan is the programs of a script.
type plan struct {
	programs []*lower.Program
	cookies  []bool // program i tells its points apart by cookie
	probes   int    // attach points as the script counts them
}

// makePlan groups the points of a script into programs: points with the same hook and the same bodies share one.
func makePlan(info *check.Info, u *lower.Unit, t *target.Target) (*plan, error) {
	var sites []*site
	byName := map[string]*site{}
	p := &plan{}
	for i, b := range info.Bodies {
		for _, pt := range b.Points {
			p.probes++
			s := byName[pt.Name]
			if s == nil {
				s = &site{point: pt}
				byName[pt.Name] = s
				sites = append(sites, s)
			}
			s.bodies = append(s.bodies, i)
		}
	}
	uses := map[string]*lower.Uses{}
	groups := map[string]*lower.Program{}
	index := map[*lower.Program]int{}
	names := map[string]int{}
	for _, s := range sites {
		bodies := make([]*check.Body, len(s.bodies))
		for i, n := range s.bodies {
			bodies[i] = info.Bodies[n]
		}
		which := fmt.Sprint(s.bodies)
		use := uses[which]
		if use == nil {
			use = lower.UsesOf(bodies...)
			uses[which] = use
		}
		kind, ok := s.point.Kind.(lower.ProbeKind)
		if !ok {
			return nil, fmt.Errorf("probe kind %s cannot be compiled", s.point.Kind.Name())
		}
		h := kind.Hook(s.point, use, t)
		if h.Point == nil {
			h.Point = s.point
		}
		h.Index = u.Point(s.point)
		tells := tellsApart(use)
		key := ""
		if h.Share != "" && (!tells || h.Cookies || h.Which != nil) {
			key = fmt.Sprintf("%s|%s|%s|%s", s.point.Kind.Name(), h.Share, which, h.AttachTo)
		}
		if pr := groups[key]; key != "" && pr != nil {
			pr.Hooks = append(pr.Hooks, h)
			if tells && h.Which == nil {
				p.cookies[index[pr]] = true
			}
			continue
		}
		pr := &lower.Program{Index: len(p.programs), Name: programName(s.point.Name, names), Hooks: []*lower.Hook{h}, Bodies: bodies}
		if key != "" {
			groups[key] = pr
		}
		index[pr] = pr.Index
		p.programs = append(p.programs, pr)
		p.cookies = append(p.cookies, false)
	}
	return p, nil
}

// tellsApart reports whether bodies ask which point they run at.
func tellsApart(u *lower.Uses) bool { return u.Has("probe", "func", "uaddr") }

// programName makes a name unique.
func programName(name string, seen map[string]int) string {
	seen[name]++
	if n := seen[name]; n > 1 {
		return fmt.Sprintf("%s#%d", name, n)
	}
	return name
}

// describe lists the points of a program, for messages.
func describe(p *lower.Program) string {
	var names []string
	for _, h := range p.Hooks {
		names = append(names, h.Point.Name)
	}
	slices.Sort(names)
	if len(names) > 3 {
		return fmt.Sprintf("%s and %d more", names[0], len(names)-1)
	}
	return strings.Join(names, ", ")
}
