package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sonde-sh/sonde/runtime"
)

// options are the command line.
type options struct {
	name string // what the program was called as: sonde, or bpftrace through a link

	program string // -e
	hasProg bool
	file    string // FILE or -
	args    []string
	named   map[string]string
	bare    map[string]bool // those of named without a value

	command    string
	pid        int
	list       bool
	verbose    bool
	format     string
	output     string
	buffer     runtime.BufferMode
	quiet      bool
	helperErr  bool
	dryRun     bool
	dryAction  bool
	unsafe     bool
	noWarn     bool
	info       bool
	stats      bool
	stages     []string
	version    bool
	help       bool
	test       bool
	bench      bool
	include    []string
	incDirs    []string
	noFeature  []string
	tidy       bool // --fmt
	filterExpr string
	filter     *regexp.Regexp // --probe-filter, nil without
	explain    bool
	first      string // a line for the prompt
	usdtFile   bool
	debugDirs  []string // --debuginfo
	functions  string   // --traceable-functions
	unwind     []int    // --dwarf-pid
	folded     bool
	container  string
	pod        string
	cgroup     string
	comm       string
	children   bool
	pprof      string
	graphMap   string
}

// usageError is a mistake in the command line: exit code 2.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// debugStages are the values of -d.
var debugStages = []string{"tokens", "ast", "checked", "ir", "ir-opt", "bpf", "verifier", "all"}

// bpftraceNames are the long options of bpftrace: an abbreviation that is clear there is clear here, whatever options of ours begin so too.
var bpftraceNames = []string{
	"bench", "btf", "cmd", "debug", "debuginfo", "dry-run", "dwarf-pid", "fmt", "help", "include", "info", "list", "mode", "no-feature",
	"no-warnings", "output", "pid", "probe-filter", "quiet", "test", "traceable-functions", "unsafe", "usdt-file-activation", "verbose",
	"verify-llvm-ir", "version", "warnings",
}

// longNames are the names of all options.
func longNames(fs *pflag.FlagSet) []string {
	var names []string
	fs.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

// unabbreviate returns the long option that name is the beginning of, or name and the options between which it does not decide.
func unabbreviate(name string, names []string) (full string, several []string) {
	if contains(names, name) || contains(bpftraceNames, name) {
		return name, nil
	}
	for _, list := range [][]string{bpftraceNames, names} {
		var found []string
		for _, n := range list {
			if strings.HasPrefix(n, name) {
				found = append(found, n)
			}
		}
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return name, found
		}
	}
	return name, nil
}

func parseFlags(argv []string) (*options, error) {
	o := &options{named: map[string]string{}, bare: map[string]bool{}}
	fs := pflag.NewFlagSet("sonde", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	buffer := "line"
	fs.StringVarP(&o.program, "execute", "e", "", "")
	fs.StringVarP(&o.command, "command", "c", "", "")
	pid := fs.StringP("pid", "p", "", "")
	fs.BoolVarP(&o.list, "list", "l", false, "")
	fs.BoolVarP(&o.verbose, "verbose", "v", false, "")
	fs.StringVarP(&o.format, "format", "f", "text", "")
	fs.StringVarP(&o.output, "output", "o", "", "")
	fs.StringVarP(&buffer, "buffer", "B", "line", "")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "")
	fs.CountP("keep", "k", "")
	fs.BoolVar(&o.dryRun, "dry-run", false, "")
	fs.BoolVar(&o.dryAction, "dry-run-actions", false, "")
	fs.BoolVar(&o.unsafe, "unsafe", false, "")
	fs.BoolVar(&o.noWarn, "no-warnings", false, "")
	fs.BoolVar(&o.info, "info", false, "")
	fs.BoolVar(&o.stats, "stats", false, "")
	fs.StringSliceVarP(&o.stages, "debug", "d", nil, "")
	fs.BoolVarP(&o.version, "version", "V", false, "")
	fs.BoolVarP(&o.help, "help", "h", false, "")
	fs.BoolVar(&o.test, "test", false, "")
	fs.BoolVar(&o.bench, "bench", false, "")
	fs.StringArrayVar(&o.include, "include", nil, "")
	fs.StringArrayVarP(&o.incDirs, "include-dir", "I", nil, "")
	fs.StringSliceVar(&o.noFeature, "no-feature", nil, "")
	mode := fs.String("mode", "", "")
	fs.StringVar(&o.filterExpr, "probe-filter", "", "")
	fs.BoolVar(&o.tidy, "fmt", false, "")
	fs.BoolVar(&o.explain, "explain-attach", false, "")
	fs.BoolVar(&o.usdtFile, "usdt-file-activation", false, "")
	fs.StringVar(&o.container, "container", "", "")
	fs.StringVar(&o.pod, "pod", "", "")
	fs.StringVar(&o.cgroup, "cgroup", "", "")
	fs.StringVar(&o.comm, "comm", "", "")
	fs.BoolVar(&o.children, "children", false, "")
	fs.BoolVar(&o.folded, "folded", false, "")
	fs.StringVar(&o.pprof, "pprof", "", "")
	fs.StringVar(&o.graphMap, "map", "", "")
	debug := fs.StringArray("debuginfo", nil, "")
	fs.StringVar(&o.functions, "traceable-functions", "", "")
	fs.IntSliceVar(&o.unwind, "dwarf-pid", nil, "")
	fs.Bool("verify-llvm-ir", false, "") // there is none
	fs.BoolP("btf", "b", false, "")      // always on
	names := longNames(fs)
	ambiguous := ""
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		full, several := unabbreviate(name, names)
		if len(several) > 0 {
			ambiguous = fmt.Sprintf("option '--%s' is ambiguous; possibilities: '--%s'", name, strings.Join(several, "' '--"))
		}
		switch full { // bpftrace's long names
		case "cmd":
			full = "command"
		case "warnings":
			full = "keep"
		}
		return pflag.NormalizedName(full)
	})
	if err := fs.Parse(argv); err != nil {
		if ambiguous != "" {
			return nil, usagef("%s", ambiguous)
		}
		return nil, usagef("%v", err)
	}
	o.hasProg = fs.Changed("execute")
	for _, d := range *debug {
		o.debugDirs = append(o.debugDirs, filepath.SplitList(d)...)
	}
	n, _ := fs.GetCount("keep")
	if o.helperErr = n > 0; n > 1 {
		return nil, usagef("USAGE: -kk has been deprecated. Use a single -k for runtime warnings for errors in map lookups and probe reads.")
	}
	if fs.Changed("pid") {
		p, err := strconv.ParseInt(*pid, 0, 64)
		switch {
		case errors.Is(err, strconv.ErrRange) || err == nil && (p < 0 || p > 4<<20):
			return nil, usagef("Pid out of range: %s", *pid)
		case err != nil:
			what := "integer"
			if *pid != strings.TrimLeft(*pid, "0123456789") {
				what = "trailing bytes"
			}
			return nil, usagef("Failed to parse pid: invalid %s: %s", what, *pid)
		case p == 0:
			return nil, usagef("Failed to attach to pid: Unable to open pidfd (Invalid argument)")
		}
		o.pid = int(p)
	}
	switch buffer {
	case "line":
		o.buffer = runtime.BufferLine
	case "none":
		o.buffer = runtime.BufferNone
	case "full":
		o.buffer = runtime.BufferFull
	default:
		return nil, usagef("USAGE: -B must be either 'line', 'full', or 'none'.")
	}
	if o.format != "text" && o.format != "json" {
		return nil, usagef("Invalid output format \"%s\"", o.format)
	}
	for i, st := range o.stages {
		switch st { // bpftrace's names
		case "parse":
			o.stages[i] = "tokens"
		case "types":
			o.stages[i] = "checked"
		case "codegen":
			o.stages[i] = "ir"
		case "codegen-opt":
			o.stages[i] = "ir-opt"
		case "dis", "libbpf":
			o.stages[i] = "bpf"
		}
		st = o.stages[i]
		if !contains(debugStages, st) {
			return nil, usagef("USAGE: invalid option for -d: %s (one of %s)", st, strings.Join(debugStages, ", "))
		}
	}
	switch {
	case o.children && o.pid == 0 && o.command == "":
		return nil, usagef("--children needs -p PID or -c COMMAND")
	case (o.container != "" && o.pod != "") || (o.container != "" && o.cgroup != "") || (o.pod != "" && o.cgroup != ""):
		return nil, usagef("--container, --pod and --cgroup cannot be used together")
	}
	if o.pid != 0 && o.command != "" {
		return nil, usagef("USAGE: Cannot use both -c and -p.")
	}
	for _, f := range o.noFeature {
		if f != "kprobe_multi" && f != "kprobe_session" && f != "uprobe_multi" {
			return nil, usagef("USAGE: --no-feature can only have values 'kprobe_multi,kprobe_session,uprobe_multi'.")
		}
	}
	switch *mode {
	case "":
	case "test":
		o.test = true
	case "bench":
		o.bench = true
	case "format":
		o.tidy = true
	case "codegen", "compiler-bench":
		return nil, usagef("--mode %s is about bpftrace's own compiler; `%s explain` shows what becomes of a program", *mode, "sonde")
	default:
		return nil, usagef("USAGE: --mode can only be 'bench', 'test' or 'format'.")
	}
	if o.test && o.bench {
		return nil, usagef("USAGE: --bench conflicts with existing --mode")
	}
	if o.filterExpr != "" {
		var err error
		if o.filter, err = regexp.Compile(o.filterExpr); err != nil {
			return nil, usagef("Invalid --probe-filter regex '%s': %v", o.filterExpr, err)
		}
	}
	rest := fs.Args()
	before := rest
	var after []string
	if at := fs.ArgsLenAtDash(); at >= 0 {
		before, after = rest[:at], rest[at:]
	}
	if !o.hasProg && len(before) > 0 {
		o.file, before = before[0], before[1:]
	} else if !o.hasProg && len(after) > 0 {
		o.file, after = after[0], after[1:]
	}
	if !o.hasProg && o.file == "" && len(rest) > 0 {
		return nil, usagef("failed to open file '': No such file or directory")
	}
	o.args = before
	for _, a := range after {
		if a == "--" {
			return nil, usagef("unexpected program command line options: --")
		}
		if !strings.HasPrefix(a, "--") {
			o.args = append(o.args, a)
			continue
		}
		name, value, has := strings.Cut(a[2:], "=")
		if !has {
			value = "true"
		}
		o.bare[name] = !has
		o.named[name] = value
	}
	return o, nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (o *options) stage(name string) bool {
	return contains(o.stages, name) || contains(o.stages, "all")
}

const usageText = `USAGE:
    %[1]s                        a session: probes and questions at a prompt (or the lines of standard input)
    %[1]s [options] FILE [ARGS...]
    %[1]s [options] -e 'PROGRAM' [ARGS...]
    %[1]s [options] -            (reads the program from standard input)

OPTIONS:
    -e PROGRAM       run this program
    -l [PATTERN]     list probes that match the pattern, or those of a program; -lv shows their arguments
    -c COMMAND       run a command and trace it from its first instruction; the run ends with it
    -p PID           attach to this process only; the run ends with it
    --children       with -p or -c: only the process and what descends from it
    --comm NAME      only threads of this name (NAME* for those that start so)
    --container X    only a container, by name or id; --pod X for a pod, --cgroup PATH for a control group
    -f FORMAT        output format: text or json (one JSON object a line)
    -o FILE          write results to FILE; FILE.svg gets a flame graph of the map that is keyed by stacks
    --folded         print that map as folded stacks, one line each
    --pprof FILE     write it as a profile for go tool pprof
    --map @NAME      which map, when several are keyed by stacks
    -B MODE          output buffering: line (default), full or none
    -q               print no messages of our own
    -k               report each failed memory read and map operation with its place in the script
    -v               verbose messages
    -d STAGE         print a stage of the compilation: tokens, ast, checked, ir, ir-opt, bpf, verifier, all
    -I DIR           add a directory to the search path for headers
    --include FILE   include a header before the program
    --debuginfo DIR  look for debug files in DIR too (or several, DIR:DIR)
    --dwarf-pid PID  dw_ustack is for this process too; may be repeated
    --traceable-functions FILE  take the names of the kernel's traceable functions from FILE
    --dry-run        compile, load and attach, then end
    --unsafe         allow what can change the system: system(), signal(), override(), deny() ...
    --dry-run-actions  count what these would do, and do nothing
    --no-warnings    print no warnings
    --no-feature F,  do not use a kernel feature: uprobe_multi, kprobe_multi, kprobe_session
    --explain-attach print how each probe is attached, and why
    --stats          print what each probe cost: hits, time per hit, share of a CPU
    --test, --bench  run the test: or bench: probes of the program; --probe-filter REGEX those whose names match
    --fmt            print the program in canonical form
    --info           print what this kernel offers
    -V, --version    print the version
    -h, --help       print this help

OTHER COMMANDS:
    %[1]s explain PROGRAM   print what becomes of it: types, IR, eBPF, native code (text, json, html)
    %[1]s explain CODE      say what the code of a message means, such as E0305
    %[1]s flame             sample stacks and draw a flame graph (see %[1]s flame --help)
    %[1]s learn             a course at the prompt
    %[1]s triage            a first look at a machine in trouble: one screen after 60 seconds
    %[1]s fmt FILE...       print scripts in canonical form (-w writes them back)
    %[1]s seccomp COMMAND   learn, check and emit seccomp allowlists (see %[1]s seccomp --help)
    %[1]s verify FILE...    check scripts on other kernels, booted under QEMU
    %[1]s portability FILE  say which kernels a script needs, without booting
    %[1]s lab COMMAND       list, fetch and use those kernels
    %[1]s help COMMAND      its options

EXAMPLES:
    %[1]s -l 'tracepoint:syscalls:*open*'
    %[1]s -e 'tracepoint:syscalls:sys_enter_openat { printf("%%s %%s\n", comm, str(args.filename)); }'
    %[1]s -e 'tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }'
    %[1]s -e 'tracepoint:syscalls:sys_exit_read /args.ret > 0/ { @bytes = hist(args.ret); }'
    %[1]s -e 'profile:hz:99 { @[kstack] = count(); }'

Exit status: 0 success, 1 error in the program, 2 wrong usage, 3 refused by the kernel, 4 internal error, or the argument of exit().
`
