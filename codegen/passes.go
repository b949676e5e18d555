package codegen

import (
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/opt"
)

// optimise runs the passes over a program.
func (c *compiler) optimise(p *lower.Program, m *ir.Module) error {
	if c.opts.NoOpt {
		return nil
	}
	if _, err := opt.Run(m, opt.Options{Verify: c.opts.Verify}); err != nil {
		return &InternalError{Program: describe(p), Cause: err}
	}
	if c.opts.Dump != nil {
		c.opts.Dump("ir-opt", m)
	}
	return nil
}
