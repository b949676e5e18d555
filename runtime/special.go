package runtime

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime/value"
)

// TestResult is what one test: probe gave.
type TestResult struct {
	Name   string
	Passed bool
	Why    string // "" when passed
	Output string // what it printed
	Time   time.Duration
}

// RunTests runs the test: probes in script order, between the begin and the end probes. A test fails when it returns a value other than 0,
// reports an error, fails an assertion, or calls exit with a value other than 0. What begin probes print counts as the first test's.
func (s *Session) RunTests(ctx context.Context) ([]TestResult, error) {
	var out []TestResult
	begun := false
	for i, p := range s.obj.Programs {
		if p.Role != object.RoleTest || ctx.Err() != nil || !s.wanted(p.Name) {
			continue
		}
		var text strings.Builder
		kept, report := s.out, s.opts.Report
		s.out = NewOutput(&text, false, BufferFull) // in JSON it is one string, messages with it
		if kept.json {
			r := &diag.Renderer{Set: s.obj.Files}
			s.opts.Report = func(d *diag.Diagnostic) {
				if d.Severity != diag.Warning || !s.opts.NoWarnings {
					s.out.Message("", r.Render(d))
				}
			}
		}
		var err error
		if !begun {
			begun = true
			if err = s.runRole(object.RoleBegin); s.reader != nil {
				s.reader.Drain(s.handleRest)
			}
		}
		s.exitCode.Store(0)
		s.errors.Store(0)
		start := time.Now()
		var ret uint32
		if err == nil {
			ret, err = s.runProgram(i)
		}
		took := time.Since(start)
		if s.reader != nil {
			s.reader.Drain(s.handleRest)
		}
		closeErr := s.out.Close()
		s.out, s.opts.Report = kept, report
		if err != nil {
			return out, err
		}
		if closeErr != nil {
			return out, closeErr
		}
		r := TestResult{Name: strings.TrimPrefix(p.Name, "test:"), Output: text.String(), Time: took}
		switch {
		case ret != 0:
			r.Why = fmt.Sprintf("returned %d", int32(ret))
		case s.exitCode.Load() != 0:
			r.Why = fmt.Sprintf("called exit(%d)", s.exitCode.Load())
		case s.errors.Load() != 0:
			r.Why = "reported an error"
		default:
			r.Passed = true
		}
		out = append(out, r)
	}
	return out, nil
}

// EndSpecial runs the end probes behind tests or benchmarks.
func (s *Session) EndSpecial() error {
	err := s.runRole(object.RoleEnd)
	if s.reader != nil {
		s.reader.Drain(s.handleRest)
	}
	return err
}

// wanted reports whether the filter takes a probe.
func (s *Session) wanted(name string) bool {
	return s.opts.ProbeFilter == nil || s.opts.ProbeFilter(name)
}

// BenchResult is the mean time of one run of a bench: probe.
type BenchResult struct {
	Name string
	Time time.Duration
	Runs uint64
}

const benchTime = 200 * time.Millisecond

// RunBenchmarks runs each bench: probe for about 200 ms and measures it with the kernel's run-time statistics.
func (s *Session) RunBenchmarks(ctx context.Context) ([]BenchResult, error) {
	stats, err := ebpf.EnableStats(0)
	if err != nil {
		return nil, fmt.Errorf("switch on the kernel's run-time statistics: %w", err)
	}
	defer stats.Close()
	if err := s.runRole(object.RoleBegin); err != nil {
		return nil, err
	}
	var out []BenchResult
	for i, p := range s.obj.Programs {
		if p.Role != object.RoleBench || !s.wanted(p.Name) {
			continue
		}
		for end := time.Now().Add(benchTime); time.Now().Before(end) && ctx.Err() == nil; {
			for range 100 {
				if _, err := s.runProgram(i); err != nil {
					return out, err
				}
			}
			if s.reader != nil {
				s.reader.Drain(func([]byte) bool { return true }) // what a benchmark prints is not shown
			}
		}
		st, err := s.programs[i].Stats()
		if err != nil {
			return out, fmt.Errorf("statistics of %s: %w", p.Name, err)
		}
		r := BenchResult{Name: strings.TrimPrefix(p.Name, "bench:"), Runs: st.RunCount}
		if st.RunCount > 0 {
			r.Time = st.Runtime / time.Duration(st.RunCount)
		}
		out = append(out, r)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// AppendBenchmarks appends the table of benchmark results, or one JSON line.
func AppendBenchmarks(dst []byte, results []BenchResult, json bool) []byte {
	if json {
		dst = append(dst, `{"type": "benchmark_results", "data": {`...)
		for i, r := range results {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = fmt.Appendf(append(value.AppendJSONString(dst, r.Name), ": "...), "%d", r.Time.Nanoseconds())
		}
		return append(dst, "}}\n"...)
	}
	const name, average = "BENCHMARK", "NANOSECONDS"
	wide := len(name)
	for _, r := range results {
		wide = max(wide, len(r.Name))
	}
	if len(results) == 0 {
		return dst
	}
	line := fmt.Sprintf("+%s+%s+\n", strings.Repeat("-", wide+2), strings.Repeat("-", len(average)+2))
	dst = fmt.Appendf(dst, "%s| %-*s | %s |\n%s", line, wide, name, average, line)
	for _, r := range results {
		dst = fmt.Appendf(dst, "| %-*s | %-*d |\n", wide, r.Name, len(average), r.Time.Nanoseconds())
	}
	return fmt.Appendf(dst, "%s\n", line)
}
