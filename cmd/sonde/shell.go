package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/mattn/go-isatty"

	"github.com/sonde-sh/sonde/cmd/sonde/shell"
)

// prompt reports whether nothing was asked for on the command line but a session.
func (o *options) prompt() bool {
	return o.name == "sonde" && !o.hasProg && o.file == "" && !o.list && !o.info && o.command == "" && !o.test && !o.bench && len(o.stages) == 0 && o.output == ""
}

const learnUsage = `USAGE: sonde learn [LESSON]

A course of fifteen short lessons at the prompt, from the first or from the one that is named (a number; list shows them all). Each
says what to type and checks what was done. It needs root, because the lessons trace this machine.
`

// runLearn begins the course at the prompt.
func runLearn(ctx context.Context, argv []string, std stdio) int {
	switch {
	case len(argv) == 1 && (argv[0] == "-h" || argv[0] == "--help"):
		printHelp(std.out, learnUsage)
		return exitOK
	case len(argv) > 1 || len(argv) == 1 && strings.HasPrefix(argv[0], "-"):
		fmt.Fprintf(std.err, "ERROR: not a lesson: %s\n%s", strings.Join(argv, " "), learnUsage)
		return exitUsage
	}
	a := &app{opts: &options{name: "sonde", first: `\lesson ` + strings.Join(argv, "")}, std: std}
	defer a.close()
	if err := a.openMachine(); err != nil {
		return a.fail(err)
	}
	code, err := a.shell(ctx)
	if err != nil {
		return a.fail(err)
	}
	return code
}

// shell runs a session: at a terminal, or the lines of standard input.
func (a *app) shell(ctx context.Context) (int, error) {
	cfg := shell.Config{
		In: a.std.in, Out: a.std.out, Err: a.std.err, Kernel: a.kernel, Machine: a.machine, Unsafe: a.opts.unsafe, NoWarnings: a.opts.noWarn,
		First: a.opts.first, ParseFilter: a.parseFilter, IncludeDirs: a.opts.incDirs, Includes: a.opts.include, Version: versionText(), History: shell.HistoryFile(),
	}
	filter, err := a.promptFilter(a.opts)
	if err != nil {
		return 0, err
	}
	cfg.Filter = filter
	in, inFile := a.std.in.(*os.File)
	out, outFile := a.std.out.(*os.File)
	cfg.Terminal = inFile && outFile && isatty.IsTerminal(in.Fd()) && isatty.IsTerminal(out.Fd())
	cfg.Plain = os.Getenv("TERM") == "dumb"
	cfg.Color = cfg.Terminal && !cfg.Plain && os.Getenv("NO_COLOR") == ""
	sh, err := shell.New(cfg)
	if err != nil {
		return 0, kernelError{err}
	}
	code := exitOK
	if cfg.Terminal {
		// Ctrl-C belongs to the line or the view, not to the session.
		err = sh.RunTerminal(context.WithoutCancel(ctx), in, out)
	} else {
		var ok bool
		if ok, err = sh.ReadAll(ctx, a.std.in); !ok {
			code = exitUser
		}
	}
	if cerr := sh.Close(); err == nil {
		err = cerr
	}
	return code, err
}

// filterOptions are the options of the command line that say which processes a script sees, by their names at the prompt.
var filterOptions = []string{"comm", "cgroup", "container", "pod", "pid", "children"}

// parseFilter reads what follows \filter: options of the command line, with or without dashes.
func (a *app) parseFilter(words []string) (*shell.Filter, error) {
	var args []string
	value := false // the next word belongs to an option
	for _, w := range words {
		name, _, given := strings.Cut(strings.TrimLeft(w, "-"), "=")
		switch {
		case value:
			args, value = append(args, w), false
		case w == "-p":
			args, value = append(args, w), true
		case !slices.Contains(filterOptions, name):
			return nil, shell.NewHintError(fmt.Sprintf("`%s` is no filter", w), "")
		default:
			args = append(args, "--"+strings.TrimLeft(w, "-"))
			value = !given && name != "children"
		}
	}
	o, err := parseFlags(args)
	if err != nil {
		return nil, shell.NewHintError(strings.ReplaceAll(err.Error(), "-p PID or -c COMMAND", "pid N"), "")
	}
	f, err := a.promptFilter(o)
	if us := (*userError)(nil); errors.As(err, &us) {
		return nil, shell.NewHintError(us.text, us.hint)
	}
	return f, err
}

// promptFilter is the filter of the items of a session; nil for none. What it names must exist now.
func (a *app) promptFilter(o *options) (*shell.Filter, error) {
	f := &shell.Filter{PID: o.pid, Children: o.children}
	for _, opt := range []struct{ name, value string }{{"--comm", o.comm}, {"--cgroup", o.cgroup}, {"--container", o.container}, {"--pod", o.pod}} {
		if opt.value != "" {
			f.Options = append(f.Options, opt.name, opt.value)
		}
	}
	if o.pid != 0 {
		f.Options = append(f.Options, "-p", strconv.Itoa(o.pid))
	}
	if o.children {
		f.Options = append(f.Options, "--children")
		f.Compiled = everywhere
	}
	if len(f.Options) == 0 {
		return nil, nil
	}
	of := &app{opts: o, kernel: a.kernel, machine: a.machine}
	if err := of.checkPID(); err != nil {
		return nil, err
	}
	f.Lower = of.filter
	_, err := of.filter(a.machine.Target())
	return f, err
}
