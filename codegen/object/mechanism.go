package object

import (
	"fmt"
	"strings"
)

// shownPoints is how many attach points of a link are named.
const shownPoints = 4

// Plan says in a line for each link how a program is attached, and why.
func (o *Object) Plan(p *Program) []string {
	if len(p.Attach) == 0 {
		return []string{p.Name + ": run by sonde itself"}
	}
	var out []string
	for _, a := range p.Attach {
		var names []string
		for _, i := range a.Points {
			if i < len(o.Points) {
				names = append(names, o.Points[i])
			}
		}
		line := strings.Join(names, ", ")
		if len(names) > shownPoints {
			line = fmt.Sprintf("%s and %d more", strings.Join(names[:shownPoints], ", "), len(names)-shownPoints)
		}
		line += ": " + a.Mechanism.String()
		if a.Reason != "" {
			line += " (" + a.Reason + ")"
		}
		for f := a.Fallback; f != nil; f = f.Fallback {
			line += ", else " + f.Mechanism.String()
		}
		out = append(out, line)
	}
	return out
}

// String is the name of the mechanism as people read it.
func (m Mechanism) String() string {
	names := [...]string{
		MechNone: "none", PerfTracepoint: "perf tracepoint", RawTracepoint: "raw tracepoint", TPBTF: "BTF raw tracepoint",
		Kprobe: "kprobe", Kretprobe: "kretprobe", KprobeMulti: "kprobe.multi", KretprobeMulti: "kretprobe.multi",
		Fentry: "trampoline (fentry, fexit)", Uprobe: "uprobe", Uretprobe: "uretprobe", UprobeMulti: "uprobe.multi",
		UretprobeMulti: "uretprobe.multi", PerfEvent: "perf event", Iter: "iterator", Breakpoint: "hardware breakpoint", LSM: "BPF LSM",
	}
	if int(m) < len(names) {
		return names[m]
	}
	return "unknown"
}
