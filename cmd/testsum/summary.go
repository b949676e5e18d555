package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// event is a line of go test -json; see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build events
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

// test is what is known of a test that has not ended, or has failed.
type test struct {
	output   []string
	children int
	// failedBelow says that a subtest failed, which makes the parent fail.
	failedBelow bool
}

type skip struct{ pkg, test, reason string }

type summary struct {
	w io.Writer
	// tests holds running tests by package and name; the name "" is the
	// package itself.
	tests                   map[string]map[string]*test
	passed, failed, skipped int
	skips                   []skip
	failedPackages          []string
	sawPackage              bool
}

func newSummary(w io.Writer) *summary {
	return &summary{w: w, tests: map[string]map[string]*test{}}
}

func (s *summary) read(r io.Reader) error {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			var e event
			if line[0] != '{' || json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(s.w, "%s\n", line) // go's own messages are not always events
			} else {
				s.take(e)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) get(pkg, name string) *test {
	if s.tests[pkg] == nil {
		s.tests[pkg] = map[string]*test{}
	}
	t := s.tests[pkg][name]
	if t == nil {
		t = &test{}
		s.tests[pkg][name] = t
		if parent, ok := parentOf(name); ok {
			s.get(pkg, parent).children++
		}
	}
	return t
}

func parentOf(name string) (string, bool) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", false
	}
	return name[:i], true
}

func (s *summary) take(e event) {
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.w, e.Output)
		return
	case "build-fail":
		return // the package's own fail event follows
	}
	t := s.get(e.Package, e.Test)
	if e.Action == "output" {
		t.output = append(t.output, e.Output)
		return
	}
	if e.Action != "pass" && e.Action != "fail" && e.Action != "skip" {
		return
	}
	if e.Test == "" {
		s.endPackage(e, t)
		return
	}
	s.endTest(e, t)
}

func (s *summary) endTest(e event, t *test) {
	switch {
	case e.Action == "fail":
		if parent, ok := parentOf(e.Test); ok {
			s.get(e.Package, parent).failedBelow = true
		}
		s.get(e.Package, "").failedBelow = true
		if !t.failedBelow {
			s.failed++
		}
		fmt.Fprintf(s.w, "--- FAIL %s %s\n%s", e.Package, e.Test, strings.Join(t.output, ""))
	case e.Action == "skip":
		s.skipped++
		s.skips = append(s.skips, skip{e.Package, e.Test, skipReason(t.output)})
	case t.children == 0:
		s.passed++
	}
	// Subtests end before their parent; a later run of the name starts anew.
	delete(s.tests[e.Package], e.Test)
}

func (s *summary) endPackage(e event, t *test) {
	s.sawPackage = true
	// A test that is still there when its package ends was cut off.
	for name := range s.tests[e.Package] {
		if name != "" && e.Action == "fail" && !t.failedBelow {
			s.failed++
			t.failedBelow = true
			fmt.Fprintf(s.w, "--- FAIL %s %s did not end\n%s", e.Package, name,
				strings.Join(s.tests[e.Package][name].output, ""))
		}
	}
	switch e.Action {
	case "fail":
		s.failedPackages = append(s.failedPackages, e.Package)
		if !t.failedBelow {
			s.failed++
		}
		fmt.Fprintf(s.w, "%sFAIL %s %.1fs\n", strings.Join(t.output, ""), e.Package, e.Elapsed)
	case "pass":
		fmt.Fprintf(s.w, "ok   %s %.1fs\n", e.Package, e.Elapsed)
	}
	delete(s.tests, e.Package)
}

// skipMessage is how the testing package prints the arguments of Skip.
var skipMessage = regexp.MustCompile(`^\s+\S+\.go:\d+: (.*)`)

// skipReason returns the last message of a skipped test.
func skipReason(output []string) string {
	for _, line := range slices.Backward(output) {
		if m := skipMessage.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			return m[1]
		}
	}
	return ""
}

// finish prints skips and the closing line and tells whether all is well.
func (s *summary) finish(verbose bool) bool {
	for pkg, tests := range s.tests { // no end was seen: the stream was cut
		if pkg == "" && len(tests) == 0 {
			continue
		}
		s.failed++
		fmt.Fprintf(s.w, "FAIL %s: the stream ended before its tests did\n", pkg)
	}
	unexpected := 0
	reasons := map[string]int{}
	for _, k := range s.skips {
		expected := strings.HasPrefix(k.reason, "needs ")
		reasons[k.reason]++
		if !expected {
			unexpected++
			fmt.Fprintf(s.w, "unexpected skip: %s %s: %q does not start with \"needs \"\n", k.pkg, k.test, k.reason)
		} else if verbose {
			fmt.Fprintf(s.w, "skip %s %s: %s\n", k.pkg, k.test, k.reason)
		}
	}
	if !verbose {
		var keys []string
		for r := range reasons {
			keys = append(keys, r)
		}
		slices.Sort(keys)
		for _, r := range keys {
			fmt.Fprintf(s.w, "skipped %d: %s\n", reasons[r], r)
		}
	}
	for _, p := range s.failedPackages {
		fmt.Fprintf(s.w, "failed: %s\n", p)
	}
	if !s.sawPackage {
		fmt.Fprintln(s.w, "no package was tested")
	}
	fmt.Fprintf(s.w, "%d passed, %d failed, %d skipped\n", s.passed, s.failed+unexpected, s.skipped)
	return s.sawPackage && s.failed == 0 && unexpected == 0
}
