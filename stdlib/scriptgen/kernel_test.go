package scriptgen_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/lab"
	"github.com/sonde-sh/sonde/stdlib/scriptgen"
)

// Flags rather than the environment, because they reach a lab guest: labrun -kernel 5.10 -test ./stdlib/scriptgen -- -scripts 5000
var (
	scripts  = flag.Int("scripts", 0, "random scripts of each test that loads or runs them; 0 means 100, and 40 under emulation")
	seed     = flag.Int64("seed", 1, "first seed")
	duration = flag.Duration("campaign", 0, "go on with new seeds for so long")
	failures = flag.Int("failures", 5, "stop after so many failures")
	shrink   = flag.Int("shrink", 300, "texts to try to make a failing script smaller")
	old      = flag.Bool("old", false, "compile for what Linux 5.10 has")
	budget   = flag.Int("budget", 0, "room for loops to compile with at first, as if the verifier had found the script too long")
	verbose  = flag.Bool("show", false, "print each script before it is loaded")
)

func TestMain(m *testing.M) {
	lab.Init()
	flag.Parse()
	if !guestMain() {
		os.Exit(m.Run())
	}
}

// TestKernelRandomScripts loads random scripts with probes of all kinds: the verifier must not refuse one.
func TestKernelRandomScripts(t *testing.T) {
	h := openHost(t)
	g := scriptgen.New(scriptgen.Config{
		Registry: h.reg, Env: h.env, Sites: h.sites(t), NoMapLoops: !h.machine.Target().Features.Has(target.ForEachMapElem),
	})
	again := func(text string) (outcome, bool) {
		s, o, ok := h.load(g, text, runtime.Options{Output: runtime.NewOutput(&bytes.Buffer{}, false, 0)})
		if s != nil {
			o.err = s.Close()
		}
		return o, ok
	}
	campaign(t, g, func(c *tally, s *scriptgen.Script) {
		if *verbose {
			t.Logf("seed %d\n%s", s.Seed, s)
		}
		o, ok := again(s.String())
		if o.code != "" {
			c.codes[o.code]++
			if *verbose {
				t.Logf("%s", o.code)
			}
		}
		if o.obj != nil {
			for _, p := range o.obj.Programs {
				c.insns += p.Stats.Insns
			}
		}
		switch {
		case ok && o.err != nil:
			c.fail(s, o, again)
		case o.obj != nil:
			c.loaded++
		}
	})
}

// TestKernelRandomResults runs random begin probes and compares what they print with what the interpreter of the IR computes, before and after
// the optimiser.
func TestKernelRandomResults(t *testing.T) {
	h := openHost(t)
	g := scriptgen.New(scriptgen.Config{Registry: h.reg, Env: h.env, Deterministic: true})
	again := func(text string) (outcome, bool) {
		plain, ok := h.compile(g, text, codegen.Options{NoOpt: true})
		if !ok || plain.obj == nil || plain.module == nil {
			return plain, ok && plain.module != nil
		}
		want, err := interpret(plain.obj, plain.module)
		if errors.Is(err, errLimit) {
			return outcome{}, false
		}
		if err != nil && strings.Contains(err.Error(), "too many steps") {
			return outcome{}, false // a loop of the shrinking
		}
		if err != nil {
			return outcome{err: fmt.Errorf("interpreter: %w", err)}, true
		}
		opt, ok := h.compile(g, text, codegen.Options{LoopBudget: *budget})
		if !ok || opt.obj == nil {
			return opt, ok
		}
		got, err := interpret(opt.obj, opt.module)
		if errors.Is(err, errLimit) {
			return outcome{}, false
		}
		if err != nil {
			return outcome{err: fmt.Errorf("interpreter after the optimiser: %w", err)}, true
		}
		if d := difference(got, want); d != "" {
			return outcome{err: errors.New("optimiser: differs"), log: d}, true
		}
		got, o := h.run(g, text)
		if o.err != nil {
			return o, true
		}
		if strings.Contains(got, "stopped by a limit") && !h.machine.Target().Features.Has(target.BpfLoop) {
			return o, true // it said so
		}
		if d := difference(got, want); d != "" {
			return outcome{err: errors.New("kernel: differs"), log: d}, true
		}
		return opt, true
	}
	campaign(t, g, func(c *tally, s *scriptgen.Script) {
		if *verbose {
			t.Logf("seed %d\n%s", s.Seed, s)
		}
		o, ok := again(s.String())
		if o.code != "" {
			c.codes[o.code]++
		}
		switch {
		case ok && o.err != nil:
			c.fail(s, o, again)
		case o.obj != nil:
			c.loaded++
		}
	})
}
