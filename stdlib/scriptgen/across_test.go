package scriptgen_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/lab"
	"github.com/sonde-sh/sonde/stdlib/scriptgen"
)

var (
	across       = flag.String("across", "", "compile here for `kernels` of the lab, and load there")
	batch        = flag.Int("batch", 1000, "scripts that a guest loads")
	runs         = flag.Bool("runs", false, "with -across: run begin probes and compare with the interpreter")
	guestFacts   = flag.Bool("guest-facts", false, "print what compiling for this machine needs (for -across)")
	guestScripts = flag.String("guest-scripts", "", "load the compiled scripts of a `file` (for -across)")
)

// TestAcross is TestKernelRandomScripts, with -runs TestKernelRandomResults, for kernels of the lab, three times as fast: the guest gets
// compiled scripts. Its test binary is the guest's init and has to be static:
//
//	CGO_ENABLED=0 go test -timeout 0 -v -run TestAcross ./stdlib/scriptgen -across 5.10,newest -scripts 20000
func TestAcross(t *testing.T) {
	if *across == "" {
		t.Skip("needs -across, kernels")
	}
	for _, spec := range lab.ParseSpecs(*across) {
		t.Run(spec, func(t *testing.T) {
			t.Parallel()
			newCrossing(t, spec).run(t)
		})
	}
}

// crossing is a campaign on one kernel.
type crossing struct {
	kernel lab.Kernel
	host   *host
	gen    *scriptgen.Generator
	codes  map[diag.Code]int
	texts  map[int64]string // by seed, as the next two
	want   map[int64]string
	budget map[int64]int
	again  []*wireScript // with less room for loops
	loaded int
	failed map[string]int
}

func newCrossing(t *testing.T, spec string) *crossing {
	k, err := lab.NewCatalogue().Fetch(t.Context(), spec, lab.HostArch())
	if err != nil {
		t.Skipf("needs a kernel: %v", err)
	}
	c := &crossing{kernel: k, codes: map[diag.Code]int{}, failed: map[string]int{}, texts: map[int64]string{}, want: map[int64]string{}, budget: map[int64]int{}}
	out, err := c.guest(t.Context(), nil, "-guest-facts")
	var facts machineFacts
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(out)).Decode(&facts)
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.host, err = facts.open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	cfg := scriptgen.Config{Registry: c.host.reg, Env: c.host.env, Deterministic: *runs}
	if !*runs {
		cfg.Sites, cfg.NoMapLoops = c.host.sites(t), !c.host.machine.Target().Features.Has(target.ForEachMapElem)
	}
	c.gen = scriptgen.New(cfg)
	return c
}

// guest boots the kernel with this program as its init, runs it once more with a flag, and gives what that printed.
func (c *crossing) guest(ctx context.Context, scripts []byte, args ...string) ([]byte, error) {
	const name = "/scripts"
	config := lab.Config{
		Kernel: c.kernel, MemoryMiB: 2048, Cmdline: "mitigations=off pti=off",
		Jobs: []lab.Job{{Args: append([]string{"/init"}, args...), Timeout: time.Hour, MaxOutputBytes: 1 << 30}},
	}
	if scripts != nil {
		config.Files = []lab.File{{Path: name, Data: scripts, Mode: 0o600}}
		config.Jobs[0].Args = append(config.Jobs[0].Args, "-guest-scripts", name)
	}
	res, err := lab.Run(ctx, config)
	if err == nil {
		err = res.Err()
	}
	if err != nil && len(res.Jobs) > 0 {
		err = fmt.Errorf("%w\n%s", err, tail(string(res.Jobs[0].Stderr), 30))
	}
	if len(res.Jobs) == 0 {
		return nil, err
	}
	return res.Jobs[0].Stdout, err
}

func (c *crossing) run(t *testing.T) {
	start, empty := time.Now(), 0
	next, end := *seed, *seed+int64(max(*scripts, 1))
	for next < end || len(c.again) > 0 {
		var file bytes.Buffer
		enc, n := gob.NewEncoder(&file), 0
		put := func(w *wireScript) {
			if err := enc.Encode(w); err != nil {
				t.Fatal(err)
			}
			n++
		}
		retry := c.again
		c.again = nil
		for _, w := range retry {
			put(w)
		}
		for ; n < *batch && next < end; next++ {
			s := c.gen.Script(next)
			if s == nil {
				empty++
				continue
			}
			if w := c.compile(t, next, s.String(), 0); w != nil {
				put(w)
			}
		}
		if n == 0 {
			continue
		}
		out, err := c.guest(t.Context(), file.Bytes())
		got := c.results(t, out)
		if err != nil || got != n {
			t.Errorf("before seed %d: %d of %d scripts came back: %v", next, got, n, err)
		}
		t.Logf("to seed %d: %d loaded, %d empty, failed %v, refused by the compiler %v, in %v", next, c.loaded, empty, c.failed, c.codes, time.Since(start).Round(time.Second))
	}
}

// compile gives what a guest gets; nil where there is nothing to load.
func (c *crossing) compile(t *testing.T, seed int64, text string, budget int) *wireScript {
	if *runs {
		plain, ok := c.host.compile(c.gen, text, codegen.Options{NoOpt: true})
		if !ok || plain.obj == nil || plain.module == nil {
			return nil
		}
		want, err := interpret(plain.obj, plain.module)
		if errors.Is(err, errLimit) {
			return nil
		}
		if err != nil {
			c.fail(t, seed, fmt.Errorf("interpreter: %w", err), text, "")
			return nil
		}
		c.want[seed] = want
	}
	o, ok := c.host.compile(c.gen, text, codegen.Options{LoopBudget: budget})
	switch {
	case ok && o.err != nil:
		c.fail(t, seed, o.err, text, o.log)
	case o.code != "":
		c.codes[o.code]++
	}
	if o.obj == nil {
		return nil
	}
	o.obj.Config.PrintMapsOnExit = false
	c.texts[seed], c.budget[seed] = text, budget
	return pack(seed, *runs, o.obj)
}

// results takes what a guest says, and compiles again what was too long there.
func (c *crossing) results(t *testing.T, out []byte) (n int) {
	dec := gob.NewDecoder(bytes.NewReader(out))
	for {
		var r wireResult
		if err := dec.Decode(&r); errors.Is(err, io.EOF) {
			return n
		} else if err != nil {
			t.Errorf("the guest's answer: %v", err)
			return n
		}
		n++
		text := c.texts[r.Seed]
		switch {
		case r.TooLong && c.shorter(t, r.Seed, text):
		case r.Error != "":
			c.fail(t, r.Seed, errors.New(r.Error), text, r.Log)
		case *runs && r.Text != c.want[r.Seed] && !strings.Contains(r.Text, "stopped by a limit"):
			c.fail(t, r.Seed, errors.New("kernel: differs"), text, difference(r.Text, c.want[r.Seed]))
		default:
			c.loaded++
		}
	}
}

// shorter puts a script that was too long into the next batch, with the room for loops that the command would try next.
func (c *crossing) shorter(t *testing.T, seed int64, text string) bool {
	next := slices.Index(runtime.LoopBudgets, c.budget[seed]) + 1 // the first one behind none
	if next == len(runtime.LoopBudgets) {
		return false
	}
	w := c.compile(t, seed, text, runtime.LoopBudgets[next])
	if w == nil || !w.Budgeted {
		return false
	}
	c.again = append(c.again, w)
	return true
}

func (c *crossing) fail(t *testing.T, seed int64, err error, text, log string) {
	kind := cause(outcome{err: err, log: log})
	if c.failed[kind]++; c.failed[kind] <= *failures {
		t.Errorf("seed %d: %v\n%s\n%s", seed, err, text, tail(log, 25))
	}
}
