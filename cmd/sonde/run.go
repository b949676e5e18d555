package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/sonde-sh/sonde/cmd/sonde/shell"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
)

// stdio are the standard streams, replaced in tests.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// Exit codes.
const (
	exitOK       = 0
	exitUser     = 1
	exitUsage    = 2
	exitKernel   = 3
	exitInternal = 4
)

// languageVersion is the bpftrace whose language and options these are.
const languageVersion = "v0.27.1"

// version is set by the linker; a build from a module knows its own.
var version = ""

func versionText() string {
	if version != "" {
		return version
	}
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
		return bi.Main.Version
	}
	return "devel"
}

func run(ctx context.Context, argv []string, std stdio) int {
	name := "sonde"
	if len(argv) > 0 && filepath.Base(argv[0]) == "bpftrace" {
		name = "bpftrace"
	}
	argv = argv[min(1, len(argv)):]
	if len(argv) > 0 {
		if argv[0] == "help" && name == "sonde" {
			if argv = askHelp(argv[1:]); argv == nil {
				fmt.Fprint(std.err, "ERROR: there is no such command\nHINT: `sonde help` lists the commands, `\\help NAME` at the prompt explains functions, variables and probes\n")
				return exitUsage
			}
		}
		if cmd := command(argv[0]); cmd != nil {
			return cmd(ctx, argv[1:], std)
		}
	}
	o, err := parseFlags(argv)
	if err != nil {
		fmt.Fprintf(std.err, "ERROR: %v\nHINT: run `%s --help` for the options\n", err, name)
		return exitUsage
	}
	o.name = name
	switch {
	case o.help && !o.hasProg && o.file == "":
		text := fmt.Sprintf(usageText, name)
		if name != "sonde" { // which has no prompt
			first := strings.SplitAfterN(text, "\n", 3)
			text = first[0] + first[2]
		}
		printHelp(std.out, text)
		return exitOK
	case o.version:
		text := "sonde " + versionText()
		if name == "bpftrace" { // wrappers read the version of the language here
			text = fmt.Sprintf("bpftrace %s (%s)", languageVersion, text)
		}
		fmt.Fprintln(std.out, text)
		return exitOK
	}
	a := &app{opts: o, std: std}
	defer a.close()
	code, err := a.main(ctx)
	if err != nil {
		return a.fail(err)
	}
	return code
}

// commandNames are the sub-commands.
var commandNames = []string{"explain", "flame", "learn", "triage", "fmt", "seccomp", "verify", "portability", "lab", "help"}

// askHelp is the command line that asks for what `help WORDS` means: the help of the program, of a sub-command, or of a code; nil for none of
// them.
func askHelp(words []string) []string {
	switch {
	case len(words) == 0 || words[0] == "help" || strings.HasPrefix(words[0], "-"):
		return []string{"--help"}
	case command(words[0]) != nil:
		return []string{words[0], "--help"}
	case shell.IsCode(words[0]):
		return []string{"explain", words[0]}
	}
	return nil
}

// command gives a sub-command by its name.
func command(name string) func(context.Context, []string, stdio) int {
	switch name {
	case "flame":
		return runFlame
	case "fmt":
		return runFmt
	case "explain":
		return runExplain
	case "learn":
		return runLearn
	case "triage":
		return runTriage
	case "seccomp":
		return runSeccomp
	case "verify":
		return runVerify
	case "portability":
		return runPortability
	case "lab":
		return runLab
	}
	return nil
}

// script reads the program text that the command line names.
func (a *app) script() (set *source.Set, file *source.File, err error) {
	o := a.opts
	switch {
	case o.hasProg && o.program == "":
		return nil, nil, &userError{"USAGE: filename or -e 'program' required.", "give a FILE, -e 'PROGRAM' or -"}
	case o.hasProg:
		set, file = source.NewSet("stdin", o.program)
		return set, file, nil
	case o.file == "-":
		b, err := io.ReadAll(a.std.in)
		if err != nil {
			return nil, nil, fmt.Errorf("read standard input: %w", err)
		}
		set, file = source.NewSet("stdin", string(b))
		return set, file, nil
	case o.file == "":
		return nil, nil, usagef("no program: give a FILE, -e 'PROGRAM' or -")
	}
	b, err := os.ReadFile(o.file)
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			return nil, nil, &userError{fmt.Sprintf("failed to open file '%s': %s", o.file, diag.Sentence(pe.Err.Error())), noFileHint(o)}
		}
		return nil, nil, err
	}
	set, file = source.NewSet(o.file, string(b))
	return set, file, nil
}

// noFileHint says what to do about a file that is not there: it may be a sub-command, a program or a pattern.
func noFileHint(o *options) string {
	if near := diag.Nearest(o.file, commandNames); near != "" && o.name == "sonde" {
		return fmt.Sprintf("use `%s %s`?", o.name, near)
	}
	if strings.ContainsAny(o.file, "{}") {
		return "put -e before a program: -e 'PROGRAM'"
	}
	if strings.ContainsAny(o.file, "*:") {
		return "put -l before a pattern to list probes, or -e before a program"
	}
	return "give the path of a script, or use -e 'PROGRAM'"
}

// userError is an error in what the user gave that has no place in a script.
type userError struct{ text, hint string }

func (e *userError) Error() string { return e.text }

// environ gives the variables of the environment that configure a script.
func environ(list []string) map[string]string {
	out := map[string]string{}
	for _, kv := range list {
		if k, v, ok := strings.Cut(kv, "="); ok && (strings.HasPrefix(k, "BPFTRACE_") || strings.HasPrefix(k, "SONDE_")) {
			out[k] = v
		}
	}
	return out
}
