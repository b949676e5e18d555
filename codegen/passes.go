package codegen

import (
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
)

// optimise runs the passes over a program.
func (c *compiler) optimise(p *lower.Program, m *ir.Module) error {
	if c.opts.NoOpt {
		return nil
	}
	if c.opts.Dump != nil {
		c.opts.Dump("ir-opt", m)
	}
	return nil
}
