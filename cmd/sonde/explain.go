package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sonde-sh/sonde/cmd/sonde/shell"
)

const explainUsage = `USAGE: sonde explain [-f text|json|html] [-o FILE] 'PROGRAM' | FILE
       sonde explain CODE

Says what becomes of each part of a program: its types, its IR, its eBPF instructions and what the verifier knew behind each, the native
code that the kernel made, and how the probes are attached, and why. The program is loaded, but nothing is attached.

With the code of a message (E0305, W0211), says what it means, and shows a script that gives it.
`

// tool is a sub-command that works through a session which prints to standard error.
type tool struct {
	*app
	sh *shell.Shell
	fs *pflag.FlagSet

	format, output *string
	quiet          bool // the session says nothing of its own
}

func newTool(name string, std stdio) *tool {
	t := &tool{app: &app{opts: &options{name: "sonde"}, std: std}, fs: pflag.NewFlagSet(name, pflag.ContinueOnError)}
	t.fs.SetOutput(std.err)
	t.fs.Usage = func() {}
	t.format = t.fs.StringP("format", "f", "text", "")
	t.output = t.fs.StringP("output", "o", "", "")
	return t
}

// open starts the session. What it says goes to standard error, so that a report on standard output is nothing else.
func (t *tool) open() (err error) {
	if err = t.openMachine(); err != nil {
		return err
	}
	out := t.std.err
	if t.quiet {
		out = io.Discard
	}
	t.sh, err = shell.New(shell.Config{In: t.std.in, Out: out, Err: t.std.err, Kernel: t.kernel, Machine: t.machine, Unsafe: t.opts.unsafe, Version: versionText()})
	if err == nil {
		t.closers = append(t.closers, t.sh.Close)
	}
	return err
}

// parse reads the command line. done tells that there is nothing more to do, because help was asked for or the line is wrong.
func (t *tool) parse(argv []string, usage string) (code int, done bool) {
	err := t.fs.Parse(argv)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		printHelp(t.std.out, usage)
		return exitOK, true
	case err != nil:
		return t.wrongUsage(err.Error(), usage), true
	}
	return exitOK, false
}

// wrongUsage says what is wrong with the command line.
func (t *tool) wrongUsage(what, usage string) int {
	fmt.Fprintf(t.std.err, "ERROR: %s\n%s", what, usage)
	return exitUsage
}

// emit writes a report.
func (t *tool) emit(text string) error {
	if *t.output == "" {
		_, err := fmt.Fprint(t.std.out, text)
		return err
	}
	return os.WriteFile(*t.output, []byte(text), 0o644)
}

// fails prints an error of a sub-command, unless it was printed.
func (t *tool) fails(err error) int {
	if !shell.Reported(err) {
		return t.fail(&userError{err.Error(), shell.Hint(err)})
	}
	return exitUser
}

func runExplain(_ context.Context, argv []string, std stdio) int {
	t := newTool("explain", std)
	defer t.close()
	if code, done := t.parse(argv, explainUsage); done {
		return code
	}
	switch {
	case t.fs.NArg() == 0:
		return t.wrongUsage("no program given", explainUsage)
	case t.fs.NArg() > 1:
		return t.wrongUsage("more than one program given: put it in quotes", explainUsage)
	}
	text := t.fs.Arg(0)
	if shell.IsCode(text) {
		s, err := shell.ExplainCode(text, 100)
		if err == nil {
			err = t.emit(s)
		}
		if err != nil {
			return t.fails(err)
		}
		return exitOK
	}
	if b, err := os.ReadFile(text); err == nil && !strings.Contains(text, "{") {
		text = string(b)
	}
	if err := t.open(); err != nil {
		return t.fail(err)
	}
	e, err := t.sh.Explain(text)
	if err != nil {
		return t.fails(err)
	}
	out := ""
	switch *t.format {
	case "text":
		out = e.Text(100)
	case "json":
		b, err := json.MarshalIndent(e, "", "  ")
		if err != nil {
			return t.fail(err)
		}
		out = string(b) + "\n"
	case "html":
		out = e.HTML()
	default:
		return t.fail(usagef("output format `%s` is not one of text, json, html", *t.format))
	}
	if err := t.emit(out); err != nil {
		return t.fail(err)
	}
	return exitOK
}
