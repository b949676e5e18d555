package main

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime"
	"github.com/sonde-sh/sonde/runtime/value"
)

// special runs --test and --bench.
func (a *app) special(ctx context.Context, s *runtime.Session, out *runtime.Output) (int, error) {
	failed := 0
	if a.opts.bench {
		results, err := s.RunBenchmarks(ctx)
		if err != nil {
			return 0, kernelError{err}
		}
		a.attached(out, len(results))
		if !out.JSON() {
			out.Message("", "\n\n")
		}
		out.Append(func(dst []byte) []byte { return runtime.AppendBenchmarks(dst, results, out.JSON()) })
	} else {
		results, err := s.RunTests(ctx)
		if err != nil {
			return 0, kernelError{err}
		}
		failed = printTests(out, results)
	}
	if err := s.EndSpecial(); err != nil {
		return 0, kernelError{err}
	}
	if err := out.Close(); err != nil {
		return 0, err
	}
	if failed > 0 {
		return exitUser, nil
	}
	return exitOK, nil
}

// printTests prints the results of tests as bpftrace does: what a test printed is shown only when it failed. It returns how many did.
func printTests(out *runtime.Output, results []runtime.TestResult) int {
	var failed []string
	noun := func(n int) string {
		if n == 1 {
			return "1 test"
		}
		return fmt.Sprintf("%d tests", n)
	}
	say := func(tag, text string) {
		if !out.JSON() {
			out.Message("", fmt.Sprintf("[%s] %s\n", tag, text))
		}
	}
	say("==========", fmt.Sprintf("Running %d tests.", len(results)))
	for _, r := range results {
		name := strings.TrimPrefix(r.Name, "test:")
		out.Append(func(dst []byte) []byte {
			if !out.JSON() {
				return dst
			}
			dst = value.AppendJSONString(append(dst, `{"type": "test_result", "data": {`...), name)
			dst = fmt.Appendf(dst, `: {"duration": %d, "passed": %t, "output": `, r.Time.Nanoseconds(), r.Passed)
			return append(value.AppendJSONString(dst, r.Output), "}}}\n"...)
		})
		say(" RUN      ", name)
		if r.Passed {
			say("       OK ", fmt.Sprintf("%s (%d us)", name, r.Time.Microseconds()))
			continue
		}
		failed = append(failed, name)
		if !out.JSON() {
			out.Message("", r.Output)
		}
		say("  FAILED  ", fmt.Sprintf("%s (%d us): %s", name, r.Time.Microseconds(), r.Why))
	}
	say("==========", noun(len(results))+" ran.")
	say("  PASSED  ", noun(len(results)-len(failed))+".")
	if len(failed) > 0 {
		say("  FAILED  ", noun(len(failed))+", listed below:")
		for _, name := range failed {
			say("  FAILED  ", name)
		}
	}
	return len(failed)
}

// scriptHelp prints the named parameters of a script.
func (a *app) scriptHelp(info *check.Info) error {
	name := a.opts.file
	if name == "" {
		name = "-e 'PROGRAM'"
	}
	fmt.Fprintf(a.std.out, "USAGE:\n    %s %s -- [OPTIONS]\n", a.opts.name, name)
	if info == nil || len(info.Options) == 0 {
		fmt.Fprintf(a.std.out, "\nThe program has no options of its own; `%s --help` without a program prints those of %s.\n", a.opts.name, a.opts.name)
		return nil
	}
	fmt.Fprint(a.std.out, "\nexpected program options:\n")
	opts := append([]*check.Option(nil), info.Options...)
	sort.SliceStable(opts, func(i, j int) bool { return opts[i].Name < opts[j].Name })
	for _, o := range opts {
		text := "--" + o.Name
		if o.Help != "" {
			text += ": " + o.Help
		}
		switch {
		case o.Kind != "bool":
			text += fmt.Sprintf(" (%s, default %s)", o.Kind, o.Default)
		case o.Default == "true":
			text += " (default true)"
		}
		fmt.Fprintln(a.std.out, text)
	}
	return nil
}

func hasOption(info *check.Info, name string) bool {
	return info != nil && slices.ContainsFunc(info.Options, func(o *check.Option) bool { return o.Name == name })
}

// unknownOptions refuses named parameters that the script never asks for: a typo would otherwise change nothing in silence.
func (a *app) unknownOptions(info *check.Info) error {
	known := map[string]bool{}
	var names []string
	for _, o := range info.Options {
		known[o.Name] = true
		names = append(names, o.Name)
	}
	for name := range a.opts.named {
		if known[name] {
			continue
		}
		hint := "run with -- --help for the options of the program"
		if near := diag.Nearest(name, names); near != "" {
			hint = fmt.Sprintf("did you mean `--%s`?", near)
		}
		return &userError{"unexpected program command line options: --" + name, hint}
	}
	return nil
}
