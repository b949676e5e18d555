package object

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
