package opt

import (
	"fmt"
	"slices"

	"github.com/sonde-sh/sonde/codegen/ir"
)

// Options say what to do and what the kernel can do.
type Options struct {
	// Verify checks the function after each pass.
	Verify bool
	// Trace, when set, is told each pass that changed a function.
	Trace func(pass string, f *ir.Func)
	// Only limits the passes to those named; nil runs all.
	Only []string
}

// Counts tells how often each rule applied and how often each pass changed something.
type Counts map[string]int

// Pass is a row of the pass table. Func reports whether it changed the function.
type Pass struct {
	Name string
	Doc  string
	Func func(c *context, f *ir.Func) bool
	// Shape says that it may change which blocks there are and where they lead.
	Shape bool
}

// Passes returns the passes in the order in which they run. The list repeats until nothing changes.
func Passes() []Pass {
	return []Pass{
		{"constants", "each constant once, at the start of the function", constants, false},
		{"simplify", "rewrite rules", simplify, true},
		{"cse", "equal values computed once", cse, false},
		{"forward", "loads from slots see what was stored", forward, false},
		{"lookup", "equal keys made once, their elements looked up once", lookups, false},
		{"deadstore", "stores to slots that nobody reads", deadStores, false},
		{"implied", "branches and bounds that a dominating branch decides", implied, true},
		{"branches", "constant branches, jumps to jumps, blocks in a row", branches, true},
		{"dead", "values, parameters and blocks that nobody needs", dead, true},
	}
}

// Order is a pair of passes whose order matters.
type Order struct{ First, Then, Reason string }

// Orders returns the ordered pairs. TestOrders checks Passes against it.
func Orders() []Order {
	return []Order{
		{"constants", "simplify", "rules compare constants by identity, and threading needs blocks without values"},
		{"constants", "cse", "values are equal only when their constant arguments are the same values"},
		{"simplify", "cse", "rules bring equal values into the same form"},
		{"cse", "forward", "addresses of the same place must be the same value"},
		{"forward", "deadstore", "a store that every load has forgotten is dead"},
		{"cse", "lookup", "keys are equal when they are made of the same values"},
		{"lookup", "deadstore", "the bytes of keys that are no longer used go"},
		{"lookup", "implied", "the check of a lookup that is gone is decided by the one before"},
		{"cse", "implied", "conditions are recognised by their operands"},
		{"implied", "branches", "decided branches become jumps"},
		{"branches", "dead", "parameters and blocks that lost their edges go"},
	}
}

// maxRounds bounds how often the passes repeat; the last rounds of real scripts change nothing.
const maxRounds = 8

// context is the state of one run.
type context struct {
	opts   *Options
	counts Counts
	rules  *[ir.NumOps][]*Rule // by op

	// What is known of the function's shape, until a pass changes it; passes only read it.
	tree  *ir.DomTree
	edges [][]*ir.Block
}

// dom gives the dominator tree of the function.
func (c *context) dom(f *ir.Func) *ir.DomTree {
	if c.tree == nil {
		c.tree = ir.NewDomTree(f)
	}
	return c.tree
}

// preds gives the predecessors of each block, by Block.Seq.
func (c *context) preds(f *ir.Func) [][]*ir.Block {
	if c.edges == nil {
		c.edges = f.Preds()
	}
	return c.edges
}

// reshaped forgets the shape of the function.
func (c *context) reshaped() { c.tree, c.edges = nil, nil }

// Run optimises every function of the module in place.
func Run(m *ir.Module, opts Options) (Counts, error) {
	c := &context{opts: &opts, counts: Counts{}, rules: ruleIndex()}
	for _, f := range m.Funcs {
		if err := c.function(f); err != nil {
			return c.counts, err
		}
	}
	return c.counts, nil
}

// first are the passes that run once before all rounds: what they remove of the code that lowering makes is nothing for the others to look at, and
// would make them all look again if it were found behind them.
var first = []string{"constants", "branches", "dead"}

func (c *context) function(f *ir.Func) error {
	f.DropUnreachable()
	c.reshaped()
	passes := slices.DeleteFunc(Passes(), func(p Pass) bool { return !c.wants(p.Name) })
	for _, p := range passes {
		if slices.Contains(first, p.Name) {
			if _, err := c.pass(p, f); err != nil {
				return err
			}
		}
	}
	quiet := 0 // passes since the last change: once all have looked at the same code in vain, another look is in vain too
	for round := 0; round < maxRounds && quiet < len(passes); round++ {
		any := false
		for _, p := range passes {
			if quiet++; quiet > len(passes) {
				break
			}
			changed, err := c.pass(p, f)
			if err != nil {
				return err
			}
			if changed {
				quiet = 0
				any = any || p.Name != "constants"
			}
		}
		if !any {
			break
		}
	}
	return nil
}

// pass runs one pass over a function and tells whether it changed it.
func (c *context) pass(p Pass, f *ir.Func) (changed bool, err error) {
	if changed = p.Func(c, f); changed {
		if p.Shape {
			f.DropUnreachable() // branches may have been decided
			c.reshaped()
		}
		c.counts[p.Name]++
		if c.opts.Trace != nil {
			c.opts.Trace(p.Name, f)
		}
	}
	if c.opts.Verify {
		if err := ir.Verify(f); err != nil {
			return changed, fmt.Errorf("after pass %s: %w", p.Name, err)
		}
	}
	return changed, nil
}

func (c *context) wants(name string) bool {
	if c.opts.Only == nil {
		return true
	}
	for _, n := range c.opts.Only {
		if n == name {
			return true
		}
	}
	return false
}

// constants moves every constant to the start of the function, each value once. It costs nothing: instruction selection makes constants
// again at each use.
func constants(_ *context, f *ir.Func) bool {
	type key struct {
		n int64
		t ir.Type
	}
	entry := f.Blocks[0]
	known := map[key]*ir.Value{}
	by := map[*ir.Value]*ir.Value{}
	var all []*ir.Value
	changed := false
	leading := true
	for _, b := range f.Blocks {
		kept := b.Values[:0]
		for _, v := range b.Values {
			if v.Op != ir.OpConst {
				leading = false
				kept = append(kept, v)
				continue
			}
			if b != entry {
				leading = false
			}
			k := key{v.Imm, v.Type}
			if w := known[k]; w != nil {
				by[v] = w
				changed = true
				continue
			}
			changed = changed || !leading
			v.Block = entry
			known[k] = v
			all = append(all, v)
		}
		clear(b.Values[len(kept):])
		b.Values = kept
	}
	entry.Values = append(all, entry.Values...)
	f.Replace(by)
	return changed
}

// dead removes what nobody needs.
func dead(c *context, f *ir.Func) bool {
	changed := f.DropUnreachable()
	if f.DropTrivialParams() {
		changed = true
	}
	if dropStable(f) {
		changed = true
	}
	if f.DropDead() {
		changed = true
	}
	return changed
}
