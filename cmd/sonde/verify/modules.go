package verify

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sonde-sh/sonde/runtime/lab"
)

// KernelNames are names of an item's attach points that a module of the kernel may have.
type KernelNames struct {
	Modules     []string // named by themselves: `kprobe:xfs:...`
	Functions   []string // or patterns
	Tracepoints []Tracepoint
}

// Tracepoint is an event of a category; both may be patterns, and the category may be empty.
type Tracepoint struct{ Category, Event string }

// boot is one guest: a kernel, the items that it checks and the modules that it has.
type boot struct {
	kernel  lab.Kernel
	items   []Item
	modules []lab.ModuleFile
	missing []lab.ModuleResult // what was asked for and is not there
}

// bring adds modules and what they need to a boot. The modules of a kernel are fetched when the first one is asked for.
func (o *Options) bring(ctx context.Context, b *boot, names []string) error {
	if len(names) == 0 {
		return nil
	}
	m, err := o.Catalogue.Modules(ctx, b.kernel)
	if err != nil {
		return err
	}
	defer m.Close()
	have := m.Names()
	var wanted []string
	for _, n := range names {
		n = strings.ReplaceAll(n, "-", "_")
		if _, ok := slices.BinarySearch(have, n); ok {
			wanted = append(wanted, n)
		} else {
			b.missing = append(b.missing, lab.ModuleResult{Name: n, Error: "this kernel has no such module, or has it built in"})
		}
	}
	b.modules, err = m.Load(wanted...)
	return err
}

// named are the modules that items name, and those of the command line.
func (o *Options) named(items []Item) []string {
	names := slices.Clone(o.Modules)
	for _, it := range items {
		names = append(names, it.Names.Modules...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// retry finds the rows of a column that a module could mend, and makes a boot for them with those modules; nil when there are none.
func (o *Options) retry(ctx context.Context, k lab.Kernel, c *Column) (*boot, error) {
	b := &boot{kernel: k}
	var owners *lab.Owners
	names := o.named(o.Items)
	for i, it := range o.Items {
		row := &c.Rows[i]
		if row.State != Compile && row.State != Attach && len(row.Diagnostics) == 0 || len(it.Names.Functions)+len(it.Names.Tracepoints) == 0 {
			continue
		}
		if owners == nil {
			m, err := o.Catalogue.Modules(ctx, k)
			if err != nil {
				return nil, err
			}
			owners, err = m.Owners()
			if cerr := m.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				return nil, err
			}
		}
		found, many := it.Names.owners(owners)
		for _, hint := range many {
			row.hint(hint)
		}
		if len(found) > 0 {
			names = append(names, found...)
			b.items = append(b.items, it)
		}
	}
	if len(b.items) == 0 {
		return nil, nil
	}
	slices.Sort(names)
	return b, o.bring(ctx, b, slices.Compact(names))
}

// owners are the modules that have the names. What many modules have, such as a static helper or a wide pattern, brings none of them: many says so.
func (n *KernelNames) owners(o *lab.Owners) (modules, many []string) {
	const few = 4
	take := func(name string, found []string) {
		slices.Sort(found)
		found = slices.Compact(found)
		if own, ok := namesake(name, found); ok {
			found = []string{own}
		}
		if len(found) <= few {
			modules = append(modules, found...)
			return
		}
		many = append(many, fmt.Sprintf("`%s` is in %d modules of this kernel: %s, ...; bring those that you mean with `--module NAME,...`",
			name, len(found), strings.Join(found[:few], ", ")))
	}
	for _, f := range n.Functions {
		var found []string
		for _, l := range matching(o.Functions, f) {
			found = append(found, l...)
		}
		take(f, found)
	}
	for _, t := range n.Tracepoints {
		var found []string
		for _, l := range matching(o.Tracepoints, t.Event) {
			// The modules of a category mostly have its name. An event that is named needs no category.
			for _, m := range l {
				if ok, err := path.Match(t.Category, m); !pattern(t.Event) || t.Category == "" || err == nil && ok {
					found = append(found, m)
				}
			}
		}
		take(strings.TrimPrefix(t.Category+":"+t.Event, ":"), found)
	}
	return modules, many
}

func pattern(s string) bool { return strings.ContainsAny(s, "*?[") }

// matching gives the entries whose name is name, or matches it when it is a pattern.
func matching(of map[string][]string, name string) map[string][]string {
	if !pattern(name) {
		return map[string][]string{name: of[name]}
	}
	out := map[string][]string{}
	for n, l := range of {
		if ok, err := path.Match(name, n); err == nil && ok {
			out[n] = l
		}
	}
	return out
}

// namesake finds the module that a pattern is named after: `xfs_*` means xfs, also where others have such functions.
func namesake(pat string, modules []string) (string, bool) {
	head, rest, ok := strings.Cut(pat, "*")
	if !ok || rest != "" {
		return "", false
	}
	head = strings.TrimRight(head, "_")
	_, found := slices.BinarySearch(modules, head)
	return head, found
}

// hint adds a hint to the first error of a row.
func (r *Row) hint(text string) {
	for i := range r.Diagnostics {
		if d := &r.Diagnostics[i]; d.Severity == "error" {
			d.Hints = append(d.Hints, text)
			d.Text = strings.TrimRight(d.Text, "\n") + "\nHINT: " + text + "\n"
			return
		}
	}
}

// note adds what is to be said of modules to a column.
func (b *boot) note(c *Column, loaded []lab.ModuleResult) {
	for _, m := range slices.Concat(b.missing, loaded) {
		if !slices.Contains(c.Modules, m) {
			c.Modules = append(c.Modules, m)
		}
	}
}

// moduleNotes are the lines of the table about modules that are not there.
func moduleNotes(c *Column, host string) string {
	var b strings.Builder
	for _, m := range c.Modules {
		if m.Error != "" {
			fmt.Fprintf(&b, "\n%s: the module `%s` is not loaded: %s\n", c.Name(host), m.Name, m.Error)
		}
	}
	return b.String()
}
