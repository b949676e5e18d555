package stdlib

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/sonde-sh/sonde/runtime/kernel"
)

// ListOptions says what a listing shows.
type ListOptions struct {
	Verbose bool // fill Listed.Args
	PID     int  // the process whose files are meant, 0 for none
}

// Listed is one attach point of a listing.
type Listed struct {
	Name string   // as it can be used in a script
	Args []string // with Verbose: "int dfd", one for each argument; the last is "retval" where there is one
	Body string   // a definition in C, for struct, union and enum
}

// List lists the attach points, structs and enums that a pattern matches: `kprobe:tcp_*,tracepoint:sched:*`, `*sleep*` (any kind), `struct sock`,
// "" (everything of the kernel). It stops when yield returns false. A pattern that matches nothing lists nothing.
func List(m *Machine, entries []KindEntry, pattern string, opts ListOptions, yield func(Listed) bool) error {
	more := true
	stop := func(l Listed) bool {
		more = more && yield(l)
		return more
	}
	patterns := splitOutsideQuotes(pattern, ',')
	for _, p := range patterns {
		p = strings.TrimSpace(p)
		if p == "" && len(patterns) > 1 {
			continue
		}
		if err := listOne(m, entries, p, opts, stop); err != nil || !more {
			return err
		}
	}
	return nil
}

func listOne(m *Machine, entries []KindEntry, pattern string, opts ListOptions, yield func(Listed) bool) error {
	if what, name, ok := strings.Cut(pattern, " "); ok && slices.Contains([]string{"struct", "union", "enum"}, what) {
		return listTypes(m, what, strings.TrimSpace(name), opts, yield)
	}
	parts := splitOutsideQuotes(pattern, ':')
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], `"`, "")
	}
	kind, segments := parts[0], parts[1:]
	if len(segments) > 0 && len(kind) > 2 {
		kind = strings.ToLower(kind) // names of kinds, but not the short ones, are read in any case
	}
	switch {
	case pattern == "" || len(parts) == 1 && pattern == "*":
		kind, segments = "*", nil
	case len(parts) == 1 && kernel.HasWildcard(kind):
		kind, segments = "*", []string{pattern} // a name of any kind
	case !kernel.HasWildcard(kind):
		i := slices.IndexFunc(entries, func(e KindEntry) bool { return e.Kind.Name() == kind || slices.Contains(e.Aliases, kind) })
		if i < 0 && len(parts) == 1 { // the name of a probe of any kind
			found := false
			err := listEach(entries, "*", []string{pattern}, opts, func(l Listed) bool {
				found = true
				return yield(l)
			})
			if found || err != nil {
				return err
			}
		}
		if i < 0 {
			return &UnknownKindError{Name: kind, Near: nearest(kind, kindNames(entries))}
		}
		return entries[i].Kind.(Kind).List(segments, opts, yield)
	}
	return listEach(entries, kind, segments, opts, yield)
}

// listEach lists what matches of each kind that a pattern stands for.
func listEach(entries []KindEntry, kind string, segments []string, opts ListOptions, yield func(Listed) bool) error {
	g := kernel.CompileGlob(kind)
	more := true
	for _, e := range entries {
		if !more {
			break
		}
		if !g.Match(e.Kind.Name()) || slices.Contains(unlisted, e.Kind.Name()) {
			continue
		}
		if kind == "*" && !listedByDefault(e.Kind.Name(), opts) {
			continue
		}
		err := e.Kind.(Kind).List(segments, opts, func(l Listed) bool {
			more = yield(l)
			return more
		})
		if err != nil && kind != "*" {
			return err
		}
	}
	return nil
}

// listedByDefault tells which kinds a listing of everything shows: with a process those of user space, else those of the kernel. Return probes
// have the same names as their entries.
func listedByDefault(kind string, opts ListOptions) bool {
	switch kind {
	case "uprobe", "usdt":
		return opts.PID != 0
	case "uretprobe", "kretprobe", "fexit", "interval", "profile", "watchpoint", "syscall":
		return false
	}
	return opts.PID == 0
}

func kindNames(entries []KindEntry) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, e := range entries {
			if !yield(e.Kind.Name()) {
				return
			}
		}
	}
}

// UnknownKindError says that there is no probe kind of a name.
type UnknownKindError struct {
	Name string
	Near []string
}

func (e *UnknownKindError) Error() string {
	s := "Invalid probe type: " + e.Name
	if len(e.Near) > 0 {
		s += " (did you mean " + strings.Join(e.Near, ", ") + "?)"
	}
	return s
}

// splitOutsideQuotes splits at a separator that is not inside double quotes or parentheses (of a C++ name).
func splitOutsideQuotes(s string, sep byte) []string {
	var out []string
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}

// Write formats a listed attach point as it is printed, with its line ends.
func (l Listed) Write(b []byte) []byte {
	if l.Body != "" {
		return append(append(b, l.Body...), '\n')
	}
	b = append(append(b, l.Name...), '\n')
	for _, a := range l.Args {
		b = append(append(append(b, "    "...), a...), '\n')
	}
	return b
}

// listTypes lists structs, unions or enums of the kernel, with Verbose their definitions.
func listTypes(m *Machine, what, pattern string, opts ListOptions, yield func(Listed) bool) error {
	b, err := m.Types.Kernel()
	if err != nil {
		return fmt.Errorf("list types: %w", err)
	}
	kinds := map[string][]kernel.Kind{"struct": {kernel.KindStruct}, "union": {kernel.KindUnion}, "enum": {kernel.KindEnum, kernel.KindEnum64}}[what]
	type named struct {
		name string
		id   kernel.ID
	}
	var found []named
	for id, name := range b.Each(pattern, kinds...) {
		found = append(found, named{name, id})
	}
	slices.SortStableFunc(found, func(a, b named) int { return strings.Compare(a.name, b.name) })
	found = slices.CompactFunc(found, func(a, b named) bool { return a.name == b.name })
	for _, f := range found {
		l := Listed{Name: what + " " + f.name}
		if opts.Verbose {
			l.Body = "vmlinux: " + cDefinition(b, f.id) // the kernel itself, not a module
		}
		if !yield(l) {
			return nil
		}
	}
	return nil
}
