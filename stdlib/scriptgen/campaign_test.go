package scriptgen_test

import (
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/sonde-sh/sonde/runtime/lab"

	"github.com/sonde-sh/sonde/runtime/kernel"

	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/stdlib/scriptgen"
)

// tally counts outcomes and reports failures with a smaller script.
type tally struct {
	known   bool // see olderVerifier
	t       testing.TB
	scripts int
	empty   int
	codes   map[diag.Code]int
	failed  map[string]int
	n       int
	insns   int
	loaded  int
	start   time.Time
}

func (c *tally) fail(s *scriptgen.Script, o outcome, again func(text string) (outcome, bool)) {
	c.n++
	kind := strings.SplitN(cause(o), "\n", 2)[0]
	c.failed[kind]++
	if c.n > *failures {
		return
	}
	until := time.Now().Add(30 * time.Second)
	small := s.Shrink(*shrink, func(text string) bool {
		if time.Now().After(until) {
			return false
		}
		x, ok := again(text)
		return ok && x.err != nil && cause(x) == cause(o)
	})
	if x, ok := again(small.String()); ok && x.err != nil {
		o = x
	}
	say := c.t.Errorf
	if c.known {
		say = c.t.Logf
	}
	say("seed %d: %v\n%s\n%s", s.Seed, o.err, small, tail(o.log, 25))
}

// cause is the line of the verifier that says what is wrong, without numbers, so that a smaller script fails for the same reason.
func cause(o outcome) string {
	text := ""
	if o.err != nil {
		text = o.err.Error()
		if i := strings.Index(text, ": "); i > 0 && o.log != "" {
			text = text[i:]
		}
	}
	lines := strings.Split(strings.TrimSpace(o.log), "\n")
	for i := len(lines) - 1; i >= 0 && !strings.HasPrefix(o.log, "goroutine"); i-- {
		if l := lines[i]; l != "" && !strings.HasPrefix(l, "processed ") && !strings.HasPrefix(l, "verification time") && !strings.HasPrefix(l, "stack depth") {
			text = l
			break
		}
	}
	if len(text) > 80 {
		text = text[:80]
	}
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text)
}

func tail(s string, lines int) string {
	l := strings.Split(s, "\n")
	return strings.Join(l[max(0, len(l)-lines):], "\n")
}

// olderVerifier tells kernels before 6.6. Up to one script in twenty, three in a small slice, may fail there, for what docs/compat.md names as their limits (long keys,
// the verifier's million steps) and what is still to be mended; each is logged. On newer kernels none may.
func olderVerifier(t *testing.T) bool {
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	return !k.Features().Has(kernel.FeatureCPUv4)
}

// campaign runs f for as many seeds as the flags say.
func campaign(t *testing.T, g *scriptgen.Generator, f func(c *tally, s *scriptgen.Script)) {
	c := &tally{t: t, known: olderVerifier(t), codes: map[diag.Code]int{}, failed: map[string]int{}, start: time.Now()}
	until := c.start.Add(*duration)
	n := *scripts
	switch {
	case n > 0:
	case lab.InGuest():
		n = 40
	default:
		n = 100
	}
	for i := int64(0); i < int64(n) || time.Now().Before(until); i++ {
		s := g.Script(*seed + i)
		if s == nil {
			c.empty++
			continue
		}
		c.scripts++
		f(c, s)
	}
	var parts []string
	for k, n := range c.codes {
		parts = append(parts, fmt.Sprintf("%s %d", k, n))
	}
	for k, n := range c.failed {
		parts = append(parts, fmt.Sprintf("FAILED %d: %s", n, k))
	}
	sort.Strings(parts)
	t.Logf("%d scripts from seed %d, %d empty, %d lines (%d dropped), %d instructions, %d loaded, %d failures, in %v\n%s", c.scripts, *seed, c.empty, g.Lines, g.Refused, c.insns, c.loaded, c.n,
		time.Since(c.start).Round(time.Millisecond), strings.Join(parts, "\n"))
	switch {
	case c.known && c.n > max(3, c.scripts/20):
		t.Errorf("%d of %d scripts fail, more than older kernels are known to refuse", c.n, c.scripts)
	case !c.known && c.n > *failures:
		t.Errorf("%d failures", c.n)
	}
	if c.scripts < c.empty {
		t.Errorf("%d of %d scripts are empty: the generator knows the language no more", c.empty, c.empty+c.scripts)
	}
}
