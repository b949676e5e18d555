package codegen

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/bpf"
	"github.com/sonde-sh/sonde/codegen/ir"
	"github.com/sonde-sh/sonde/codegen/lower"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
)

// Options are choices of the user and hooks for tools.
type Options struct {
	// HelperErrors (-k) reports each failed helper with its place in the script.
	HelperErrors bool
	// RingBytes is the size of the ring buffer; 0 chooses.
	RingBytes int
	// LoopBudget is what the verifier may spend on loops of unknown length on kernels without bpf_loop; 0 is the default. A loader that is
	// told that a program is too complex (E2BIG, or EFAULT from older verifiers) may try again with an eighth.
	LoopBudget int
	// OutlineFrom tells from which time on the same operation on a map, or a record of the same form, becomes a call of a function in a program; 0
	// is the default, less than 0 never.
	OutlineFrom int
	// DryActions counts what signal(), override(), deny() and write_user() would do, and does nothing.
	DryActions bool
	// Filter, when set, emits what each program tests before anything else.
	Filter func(g *lower.Gen)
	// Shared compiles for a session of the prompt: maps that it names keep their layout and kind, maps that are new have a kernel map of their
	// own, and stacks and attach points have the same numbers in all objects of the session. nil compiles a script that stands alone.
	Shared *object.Shared
	// NoOpt leaves the IR as lowering made it.
	NoOpt bool
	// Verify checks the IR after lowering and after each pass.
	Verify bool
	// Diags takes what compilation finds, warnings too; nil makes a list of its own.
	Diags *diag.List
	// Dump, when set, gets the IR of each program: stage is "ir" or "ir-opt".
	Dump func(stage string, m *ir.Module)
}

// InternalError is a mistake of the compiler, with what is needed to find it.
type InternalError struct {
	Program string
	Span    source.Span
	Cause   any
	Stack   string
}

func (e *InternalError) Error() string {
	return fmt.Sprintf("internal error in %s: %v", e.Program, e.Cause)
}

// Compile makes an object of a checked script. Problems of the script that only the compiler can see are a *diag.List; a mistake of
// the compiler is an *InternalError.
func Compile(info *check.Info, t *target.Target, opts Options) (*object.Object, error) {
	diags := opts.Diags
	if diags == nil {
		diags = &diag.List{}
	}
	u := lower.NewUnit(info, t, lower.Options{HelperErrors: opts.HelperErrors, Ring: opts.RingBytes, LoopBudget: opts.LoopBudget, OutlineFrom: opts.OutlineFrom, DryActions: opts.DryActions, Filter: opts.Filter, Shared: opts.Shared}, diags)
	p, err := makePlan(info, u, t)
	if err != nil {
		return nil, err
	}
	u.Object.Probes = p.probes
	c := &compiler{info: info, target: t, opts: &opts, unit: u, scratchLevels: bpf.ScratchLevels + nesting(info)}
	for i, pr := range p.programs {
		if err := c.program(pr, p.cookies[i]); err != nil {
			return nil, err
		}
	}
	if err := diags.Err(); err != nil {
		return nil, err
	}
	c.scratch()
	u.Finish(len(p.programs))
	return u.Object, nil
}

// scratchMap is the name of the per-CPU scratch memory.
const scratchMap = "scratch"

type compiler struct {
	info   *check.Info
	target *target.Target
	opts   *Options
	unit   *lower.Unit

	scratchBytes, scratchChunks, scratchLevels int
}

// nesting is how deep loops are nested in any action of a script.
func nesting(info *check.Info) int {
	d := &loopDepth{}
	for _, b := range info.Bodies {
		if b.Block != nil {
			ast.Walk(d, b.Block)
		}
	}
	return d.most
}

type loopDepth struct{ now, most int }

func isLoop(n ast.Node) bool {
	switch n.(type) {
	case *ast.While, *ast.ForRange, *ast.ForMap:
		return true
	}
	return false
}

func (d *loopDepth) Enter(n ast.Node) bool {
	if isLoop(n) {
		d.now++
		d.most = max(d.most, d.now)
	}
	return true
}

func (d *loopDepth) Leave(n ast.Node) {
	if isLoop(n) {
		d.now--
	}
}

// program compiles one program and adds it to the object.
func (c *compiler) program(p *lower.Program, cookies bool) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &InternalError{Program: describe(p), Span: p.Bodies[0].Probe.Span(), Cause: r, Stack: string(debug.Stack())}
		}
	}()
	m, err := c.unit.Lower(p)
	if err != nil {
		return &InternalError{Program: describe(p), Span: p.Bodies[0].Probe.Span(), Cause: err}
	}
	if c.unit.Diags.HasErrors() {
		return nil // the code is not complete
	}
	if err := c.check(p, m, "lowering"); err != nil {
		return err
	}
	if c.opts.Dump != nil {
		c.opts.Dump("ir", m)
	}
	if err := c.optimise(p, m); err != nil {
		return err
	}
	code, err := bpf.Emit(m, m.Funcs[0], c.emitOptions(p))
	if err != nil {
		return c.tooLarge(p, err)
	}
	if code.ScratchChunks > 0 {
		c.unit.NeedCounters()
	}
	c.scratchBytes = max(c.scratchBytes, code.ScratchBytes)
	c.scratchChunks = max(c.scratchChunks, code.ScratchChunks)
	h := p.Hooks[0]
	out := &object.Program{
		Name: p.Name, Type: h.Type, AttachType: h.AttachType, AttachTo: h.AttachTo, Module: h.Module, Flags: h.Flags, Role: h.Role,
		Insns: code.Insns, Spans: code.Spans, Stats: code.Stats, Probe: p.Bodies[0].Probe.Span(), Bodies: len(p.Bodies),
	}
	if h.Point.Node != nil {
		out.Probe = h.Point.Node.Span()
	}
	kind := h.Point.Kind.(lower.ProbeKind)
	out.Attach = kind.Links(p.Hooks, cookies, c.target)
	c.unit.Object.Programs = append(c.unit.Object.Programs, out)
	return nil
}

func (c *compiler) check(p *lower.Program, m *ir.Module, stage string) error {
	if !c.opts.Verify {
		return nil
	}
	if err := m.Verify(); err != nil {
		return &InternalError{Program: describe(p), Cause: fmt.Errorf("after %s: %w", stage, err)}
	}
	return nil
}

func (c *compiler) emitOptions(p *lower.Program) bpf.Options {
	has := c.target.Features.Has
	return bpf.Options{
		KfuncID: c.target.KfuncID, AtomicFetch: has(target.AtomicFetch), CPUv4: has(target.SignedDiv), StackVarOff: has(target.AtomicFetch),
		Scratch: bpf.Scratch{
			Map: scratchMap, Counters: lower.CountersMap, CounterKey: 8 * (p.Index*object.CountersPerProgram + object.CounterScratch), Direct: true, Levels: c.scratchLevels,
		},
	}
}

// tooLarge reports a program that does not fit the kernel's limits.
func (c *compiler) tooLarge(p *lower.Program, err error) error {
	sp := p.Bodies[0].Probe.Span()
	msg := err.Error()
	if e, ok := bpf.AsError(err); ok {
		msg = e.Msg
		if e.Span.IsValid() {
			sp = e.Span
		}
	}
	c.unit.Diags.Errorf("E0710", sp, "the probe does not fit the kernel's limits: %s", msg).
		Hint("use fewer or smaller values at the same time, or split the action into several probes")
	return c.unit.Diags
}

// scratch declares the scratch memory that the programs need.
func (c *compiler) scratch() {
	if c.scratchChunks == 0 {
		return
	}
	c.unit.Internal(&object.Map{
		Name: scratchMap, Role: object.MapScratch, Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: c.scratchBytes,
		MaxEntries: c.scratchChunks * c.scratchLevels,
	})
}

// Text gives the IR of all programs, unoptimised or optimised, for `-d ir` and golden files.
func Text(info *check.Info, t *target.Target, opts Options) (string, error) {
	var sb strings.Builder
	want := "ir-opt"
	if opts.NoOpt {
		want = "ir"
	}
	opts.Dump = func(stage string, m *ir.Module) {
		if stage == want {
			sb.WriteString(m.String())
		}
	}
	_, err := Compile(info, t, opts)
	return sb.String(), err
}
