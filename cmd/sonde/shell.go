package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/mattn/go-isatty"

	"github.com/sonde-sh/sonde/cmd/sonde/shell"
)

// prompt reports whether nothing was asked for on the command line but a session.
func (o *options) prompt() bool {
	return o.name == "sonde" && !o.hasProg && o.file == "" && !o.list && !o.info && o.command == "" && !o.test && !o.bench && len(o.stages) == 0 && o.output == ""
}

// runLearn begins the course at the prompt.
func runLearn(ctx context.Context, argv []string, std stdio) int {
	if len(argv) > 1 {
		fmt.Fprint(std.err, "USAGE: sonde learn [LESSON]\n")
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
		First: a.opts.first, PID: a.opts.pid, IncludeDirs: a.opts.incDirs, Includes: a.opts.include, Version: versionText(), History: shell.HistoryFile(),
	}
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
