package kernel

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Info is a report on the machine for `sonde --info`: what it is, what is allowed, and every feature with its answer. It probes
// everything, which takes some milliseconds, and changes nothing. It begins as bpftrace's report does, with the same names.
func (k *Kernel) Info(version string) string {
	w := &infoWriter{}
	w.section("System")
	if k.Running() {
		w.pair("OS", systemText())
	}
	w.pair("Arch", MachineName(k.Arch()))
	w.section("Build")
	w.pair("version", version)
	w.pair("libdw (DWARF support)", "yes")
	w.pair("dwunwind (DWARF stack unwinding)", yes(k.Arch() == "amd64", nil))
	k.bpftraceInfo(w)

	w.section("Machine")
	w.fact("kernel", text(k.Release()))
	w.fact("architecture", k.Arch())
	w.fact("CPUs", k.cpuText())
	w.fact("page size", strconv.Itoa(k.PageSize()))
	if hz, ok := k.HZ(); ok {
		w.fact("ticks per second", strconv.Itoa(hz))
	}
	w.fact("user", k.rightsText())
	lock, err := k.Lockdown()
	w.fact("lockdown", text(string(lock), err))
	lsms, err := k.LSMs()
	w.fact("security modules", text(strings.Join(lsms, ","), err))
	w.fact("initial pid namespace", yes(k.InInitPIDNamespace()))
	cg, err := k.CgroupMount()
	w.fact("cgroups", text(cg, err))
	for _, s := range []string{"kernel/unprivileged_bpf_disabled", "kernel/perf_event_paranoid", "kernel/kptr_restrict", "net/core/bpf_jit_enable", "kernel/bpf_stats_enabled"} {
		if v, err := k.Sysctl(s); err == nil {
			w.fact(strings.ReplaceAll(s, "/", "."), v)
		}
	}

	w.section("Sources")
	w.fact("type information", k.btfText())
	if mods, err := k.BTFModules(); err == nil {
		w.fact("modules with type information", strconv.Itoa(len(mods)))
	}
	if t, err := k.Tracefs(); err != nil {
		w.fact("trace events", err.Error())
	} else {
		n := 0
		for range t.Events("*", "*") {
			n++
		}
		w.fact("trace events", fmt.Sprintf("%d in %s", n, t.Dir()))
	}
	if _, src, err := k.TraceableFunctions("vmlinux", "*"); err != nil {
		w.fact("traceable functions", err.Error())
	} else {
		w.fact("traceable functions", "from "+string(src))
	}
	if s, err := k.Symbols(); err != nil {
		w.fact("kernel symbols", err.Error())
	} else if s.Hidden() {
		w.fact("kernel symbols", ErrHiddenSymbols.Error())
	} else {
		w.fact("kernel symbols", strconv.Itoa(s.Len()))
	}
	if c, err := k.Config(); err != nil {
		w.fact("configuration", err.Error())
	} else {
		w.fact("configuration", c.Path())
	}

	f := k.Features()
	for _, g := range featureGroups() {
		w.section(g.title)
		names := make([]string, 0, len(g.rows))
		for _, r := range g.rows {
			names = append(names, r.name)
		}
		slices.Sort(names)
		for _, n := range names {
			w.fact(n, answer(f.Check(n)))
		}
	}
	return w.String()
}

type featureGroup struct {
	title string
	rows  []feature
}

func featureGroups() []featureGroup {
	g := []featureGroup{
		{"Instructions", insnFeatures()},
		{"Maps", mapFeatures()},
		{"Programs", progFeatures()},
		{"Attaching", attachFeatures()},
		{"Kernel", systemFeatures()},
		{title: "Helpers"},
	}
	for _, h := range helperTable {
		g[len(g)-1].rows = append(g[len(g)-1].rows, feature{name: h.name})
	}
	return g
}

// answer says in a word or two what a probe found.
func answer(err error) string {
	var fe *FeatureError
	var re *RefusedError
	switch {
	case err == nil:
		return "yes"
	case errors.As(err, &re):
		return fmt.Sprintf("refused by this machine (%v)", re.Err)
	case errors.As(err, &fe):
		if fe.Since != "" {
			return "no (mainline " + fe.Since + ")"
		}
		return "no"
	}
	return "cannot tell: " + err.Error()
}

func text(s string, err error) string {
	if err != nil {
		return err.Error()
	}
	return s
}

func yes(b bool, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case b:
		return "yes"
	}
	return "no"
}

func (k *Kernel) cpuText() string {
	on, err := k.OnlineCPUs()
	if err != nil {
		return err.Error()
	}
	s := fmt.Sprintf("%d online", len(on))
	if p, err := k.PossibleCPUs(); err == nil {
		s += fmt.Sprintf(", %d possible", len(p))
	}
	return s
}

func (k *Kernel) rightsText() string {
	s := "uid " + strconv.Itoa(os.Geteuid())
	if err := k.CheckRights(); err != nil {
		return s + ", " + err.Error()
	}
	return s + ", may trace"
}

func (k *Kernel) btfText() string {
	b, err := k.BTF()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s, %d types", b.Path(), b.NumTypes())
}

// infoWriter lines up facts in two columns.
type infoWriter struct {
	strings.Builder
}

func (w *infoWriter) section(title string) {
	if w.Len() > 0 {
		w.WriteByte('\n')
	}
	w.WriteString(title + "\n")
}

// pair writes a line as bpftrace does.
func (w *infoWriter) pair(name, value string) { fmt.Fprintf(w, "  %s: %s\n", name, value) }

func (w *infoWriter) fact(name, value string) {
	fmt.Fprintf(w, "  %-36s %s\n", name+":", value)
}

// MachineName is what uname(2) calls an architecture of Go: x86_64 is its amd64.
func MachineName(arch string) string {
	switch arch {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return arch
}
