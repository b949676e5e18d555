package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sonde-sh/sonde/runtime/lab"
)

// KernelNames are names of an item's attach points that a module of the kernel may have.
type KernelNames struct {
	Modules     []string // named by themselves: `kprobe:xfs:...`
	Functions   []string
	Tracepoints []Tracepoint
}

// Tracepoint is an event of a category; the event may be a pattern.
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
		if found := it.Names.owners(owners); len(found) > 0 {
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

// owners are the modules that have the names. A name that several have, such as a static helper, brings them all only when they are few.
func (n *KernelNames) owners(o *lab.Owners) []string {
	const few = 4
	var out []string
	for _, f := range n.Functions {
		if l := o.Functions[f]; len(l) <= few {
			out = append(out, l...)
		}
	}
	for _, t := range n.Tracepoints {
		if l := o.Tracepoints[t.Event]; len(l) <= few {
			out = append(out, l...)
		}
		// The modules of a category have its name, or its name with more behind it.
		if strings.ContainsAny(t.Event, "*?[") {
			for _, l := range o.Tracepoints {
				for _, m := range l {
					if m == t.Category && !slices.Contains(out, m) {
						out = append(out, m)
					}
				}
			}
		}
	}
	return out
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
