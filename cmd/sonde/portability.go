package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/cilium/ebpf/asm"
	"github.com/spf13/pflag"

	"github.com/sonde-sh/sonde/codegen"
	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/codegen/target"
	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/stdlib"
)

const portabilityUsage = `USAGE: sonde portability [-f text|json] SCRIPT...

Says, without booting anything, which kernel features each script needs and since which mainline version they are there, what takes the
place of those that may be missing, and the least kernel. Distributions may have a feature earlier, or leave it out. Whether the functions,
tracepoints and fields that a script names are there only the kernel itself can tell: ask ` + "`sonde verify`" + `.

EXIT STATUS: 0, 1 a script has errors, 2 wrong usage
`

// oldestKernel is what sonde itself needs: the ring buffer with its accounting, and type information.
const oldestKernel = "5.10"

// need is a kernel feature that a script uses.
type need struct {
	Feature string `json:"feature"`
	Since   string `json:"since"`
	About   string `json:"about"`
	// Fallback is what takes its place where it is missing; empty when the script needs it.
	Fallback string `json:"fallback,omitempty"`
	// Where is the place in the script that needs it, as file:line, and Why the error without it.
	Where string `json:"where,omitempty"`
	Why   string `json:"why,omitempty"`
}

// portability is the answer for one script.
type portability struct {
	Path  string `json:"path"`
	Least string `json:"least"` // mainline version
	Full  string `json:"full"`  // from which version on nothing is replaced
	Needs []need `json:"needs"`
	// Names are what the script expects of the kernel by name.
	Names []string `json:"names"`
}

// runPortability is the sub-command `portability`.
func runPortability(_ context.Context, argv []string, std stdio) int {
	fs := pflag.NewFlagSet("portability", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	format := fs.StringP("format", "f", "text", "")
	err := fs.Parse(argv)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		printHelp(std.out, portabilityUsage)
		return exitOK
	case err == nil && fs.NArg() == 0:
		err = usagef("no script given")
	case err == nil && *format != "text" && *format != "json":
		err = usagef("unknown format `%s`: use text or json", *format)
	}
	if err != nil {
		fmt.Fprintf(std.err, "ERROR: %v\nHINT: run `sonde portability --help` for the options\n", err)
		return exitUsage
	}
	code := exitOK
	results := []*portability{}
	for _, path := range fs.Args() {
		a := &app{opts: &options{name: "sonde", file: path, named: map[string]string{}, unsafe: true, noWarn: true}, std: std}
		p, err := a.portability(path)
		if err != nil {
			code = max(code, a.fail(err))
		} else {
			results = append(results, p)
		}
		a.close()
	}
	if *format == "json" {
		e := json.NewEncoder(std.out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		if err := e.Encode(results); err != nil {
			return exitInternal
		}
		return code
	}
	for _, p := range results {
		p.print(std.out)
	}
	return code
}

// portability compiles a script for a kernel that has everything, then without each feature that it asked for.
func (a *app) portability(path string) (*portability, error) {
	if err := a.openMachine(); err != nil {
		return nil, err
	}
	set, file, err := a.script()
	if err != nil {
		return nil, err
	}
	a.set = set
	diags := &diag.List{}
	script := syntax.Parse(set, file, diags)
	info, err := a.check(script, diags)
	if err != nil {
		return nil, err
	}
	asked := map[target.Feature]bool{}
	full, errs := a.compileFor(info, func(f target.Feature) bool { asked[f] = true; return true })
	if errs.HasErrors() {
		return nil, a.reportAll(errs)
	}
	p := &portability{Path: path, Least: oldestKernel, Full: oldestKernel, Names: kernelNames(full)}
	var replaced []target.Feature
	for f := range target.NumFeatures {
		if !asked[f] {
			continue
		}
		fi := stdlib.FeatureInfo(f)
		if notNewer(fi.Since, oldestKernel) {
			continue
		}
		n := need{Feature: fi.Name, Since: fi.Since, About: fi.About}
		without, errs := a.compileFor(info, func(x target.Feature) bool { return x != f })
		switch {
		case errs.HasErrors():
			d := errs.All()[0]
			n.Why = d.Message
			if d.Span.IsValid() {
				pos := set.Position(d.Span.Start)
				n.Where = fmt.Sprintf("%s:%d", pos.File.Name, pos.Line)
			}
		case sameCode(full, without):
			continue
		default:
			n.Fallback = fallbackText(f)
			replaced = append(replaced, f)
		}
		p.Needs = append(p.Needs, n)
	}
	// What is left when everything that can be replaced is: helpers that nothing asks about are needed.
	bare, errs := a.compileFor(info, func(x target.Feature) bool { return !slices.Contains(replaced, x) })
	if errs.HasErrors() {
		return nil, a.reportAll(errs)
	}
	p.addHelpers(bare)
	slices.SortStableFunc(p.Needs, func(a, b need) int {
		switch {
		case a.Since == b.Since:
			return 0
		case notNewer(a.Since, b.Since):
			return -1
		}
		return 1
	})
	for _, n := range p.Needs {
		p.Full = newer(p.Full, n.Since)
		if n.Fallback == "" {
			p.Least = newer(p.Least, n.Since)
		}
	}
	return p, nil
}

// compileFor compiles for a kernel with the features that has names.
func (a *app) compileFor(info *check.Info, has func(target.Feature) bool) (*object.Object, *diag.List) {
	t := a.machine.TargetFor(info.Config)
	t.Features = target.Lazy(has)
	diags := &diag.List{}
	obj, err := codegen.Compile(info, t, codegen.Options{Diags: diags})
	if err != nil && !diags.HasErrors() {
		diags.Add(&diag.Diagnostic{Message: err.Error()})
	}
	return obj, diags
}

// sameCode reports whether two objects do the same in the same way.
func sameCode(a, b *object.Object) bool {
	text := func(o *object.Object) []byte {
		var w bytes.Buffer
		printBPF(&w, o)
		printPlan(&w, o)
		return w.Bytes()
	}
	return bytes.Equal(text(a), text(b))
}

// addHelpers adds the helper functions that the programs call and that are newer than the oldest kernel.
func (p *portability) addHelpers(o *object.Object) {
	for _, prog := range o.Programs {
		for i := range prog.Insns {
			ins := &prog.Insns[i]
			if !ins.IsBuiltinCall() {
				continue
			}
			fi, ok := kernel.HelperInfo(asm.BuiltinFunc(ins.Constant))
			if !ok || notNewer(fi.Since, oldestKernel) || slices.ContainsFunc(p.Needs, func(n need) bool { return n.Feature == fi.Name }) {
				continue
			}
			n := need{Feature: fi.Name, Since: fi.Since, About: fi.About}
			p.Needs = append(p.Needs, n)
		}
	}
}

// kernelNames are the functions, tracepoints and the like that the attach points name.
func kernelNames(o *object.Object) []string {
	var out []string
	for _, pt := range o.Points {
		kind, _, _ := strings.Cut(pt, ":")
		switch kind {
		case "kprobe", "kretprobe", "fentry", "fexit", "tracepoint", "rawtracepoint", "lsm", "iter":
			out = append(out, pt)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// notNewer reports whether version a is b or older.
func notNewer(a, b string) bool {
	x, errX := kernel.ParseVersion(a)
	y, errY := kernel.ParseVersion(b)
	return errX == nil && errY == nil && !y.Less(x)
}

func newer(a, b string) string {
	if notNewer(a, b) {
		return b
	}
	return a
}

func fallbackText(f target.Feature) string {
	switch f { //nolint:exhaustive // features without a text have the last one
	case target.AtomicFetch:
		return "compare and store in two steps"
	case target.BpfLoop:
		return "loops of unknown length stop at the number of rounds that the verifier follows; what is cut off is counted and reported"
	case target.TaskBTF:
		return "fields of the task are copied by a helper in place of plain loads"
	case target.Jiffies64:
		return "the clock decides when the reader is woken"
	case target.AttachCookie, target.PerfLink:
		return "a program for each attach point in place of one for all"
	case target.GetFuncIP:
		return "the address of the function comes from the saved registers"
	case target.KprobeMulti, target.UprobeMulti:
		return "a perf event for each function: slower to attach and to detach, and per hit"
	case target.TPBTF:
		return "arguments are copied by a helper in place of plain loads"
	case target.MapLookupPercpu:
		return "aggregations that the script reads back are kept in shared maps"
	case target.NsPidTgid:
		return "numbers of the initial pid namespace"
	}
	return "another way with the same meaning"
}

func (p *portability) print(w io.Writer) {
	fmt.Fprintf(w, "%s: Linux %s or newer", p.Path, p.Least)
	if p.Full != p.Least {
		fmt.Fprintf(w, ", at its best from %s on", p.Full)
	}
	fmt.Fprintln(w)
	if len(p.Needs) > 0 {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tw, "    SINCE\tFEATURE\tWITHOUT IT")
		for _, n := range p.Needs {
			without := n.Fallback
			switch {
			case n.Why != "":
				without = "refused: " + n.Why
				if n.Where != "" {
					without = "refused, " + n.Where + ": " + n.Why
				}
			case without == "":
				without = "refused"
			}
			fmt.Fprintf(tw, "    %s\t%s\t%s\n", n.Since, n.Feature, without)
		}
		_ = tw.Flush()
	}
	if len(p.Names) > 0 {
		shown := p.Names
		more := ""
		if len(shown) > 8 {
			shown, more = shown[:8], fmt.Sprintf(" and %d more", len(p.Names)-8)
		}
		fmt.Fprintf(w, "    by name, to be checked with `sonde verify`: %s%s\n", strings.Join(shown, ", "), more)
	}
}
