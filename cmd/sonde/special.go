package main

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/runtime"
)

// special runs --test and --bench.
func (a *app) special(ctx context.Context, s *runtime.Session, out *runtime.Output) (int, error) {
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
		return exitOK, out.Close()
	}
	results, err := s.RunTests(ctx)
	if err != nil {
		return 0, kernelError{err}
	}
	failed := 0
	for _, r := range results {
		if r.Passed {
			out.Message("test", fmt.Sprintf("[  PASSED ] %s\n", r.Name))
			continue
		}
		failed++
		out.Message("test", fmt.Sprintf("%s[  FAILED ] %s: %s\n", r.Output, r.Name, r.Why))
	}
	out.Message("test", fmt.Sprintf("%d tests, %d passed, %d failed\n", len(results), len(results)-failed, failed))
	if err := out.Close(); err != nil {
		return 0, err
	}
	if failed > 0 {
		return exitUser, nil
	}
	return exitOK, nil
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
	fmt.Fprint(a.std.out, "\nOPTIONS:\n")
	opts := append([]*check.Option(nil), info.Options...)
	sort.SliceStable(opts, func(i, j int) bool { return opts[i].Name < opts[j].Name })
	for _, o := range opts {
		text := o.Help
		if o.Default != "" {
			text = strings.TrimSpace(text + " (default " + o.Default + ")")
		}
		arg := "--" + o.Name
		if o.Kind != "bool" {
			arg += "=" + strings.ToUpper(o.Kind)
		}
		fmt.Fprintf(a.std.out, "    %-24s %s\n", arg, text)
	}
	return nil
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
		hint := "run with --help behind the program for its options"
		if near := diag.Nearest(name, names); near != "" {
			hint = fmt.Sprintf("did you mean `--%s`?", near)
		}
		return &userError{fmt.Sprintf("the program has no option `--%s`", name), hint}
	}
	return nil
}
