package codegen_test

import (
	"slices"
	"testing"

	"github.com/cilium/ebpf/asm"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
)

// TestBudgetedTellsTheTruth compiles scripts with less and less room for loops: where the object says that this makes no difference, it makes none.
func TestBudgetedTellsTheTruth(t *testing.T) {
	budgeted := 0
	for _, c := range semanticsTable {
		for _, without := range [][]target.Feature{{target.TaskBTF}, old} {
			if c.newOnly && len(without) > 1 || c.kernelOnly {
				continue
			}
			obj := compile(t, fixtureInfo(t, c.script()), fixtureTarget(without...), codegen.Options{})
			if obj.Budgeted {
				budgeted++
				continue
			}
			for _, budget := range []int{40_000, 5000, 625} {
				again := compile(t, fixtureInfo(t, c.script()), fixtureTarget(without...), codegen.Options{LoopBudget: budget})
				if !slices.EqualFunc(obj.Programs, again.Programs, func(p, q *object.Program) bool {
					return slices.EqualFunc(p.Insns, q.Insns, func(a, b asm.Instruction) bool {
						return a.OpCode == b.OpCode && a.Dst == b.Dst && a.Src == b.Src && a.Offset == b.Offset && a.Constant == b.Constant
					})
				}) {
					t.Errorf("%s: a budget of %d gives other code", c.name, budget)
				}
			}
		}
	}
	if budgeted == 0 || budgeted > len(semanticsTable) {
		t.Errorf("%d of the scripts depend on the budget", budgeted)
	}
}
