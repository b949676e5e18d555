package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"github.com/sonde-sh/sonde/lang/ast"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
)

const fmtUsage = `USAGE: sonde fmt [-w] [--modern] FILE...    (- reads standard input)

    -w          write each file back instead of printing it
    --modern    also rewrite old spellings: BEGIN, kfunc:, args->x, delete(@m[k]) ...
`

// runFmt prints scripts in canonical form.
func runFmt(_ context.Context, argv []string, std stdio) int {
	fs := pflag.NewFlagSet("fmt", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	write := fs.BoolP("write", "w", false, "")
	modern := fs.Bool("modern", false, "")
	help := fs.BoolP("help", "h", false, "")
	if err := fs.Parse(argv); err != nil {
		fmt.Fprintf(std.err, "ERROR: %v\n%s", err, fmtUsage)
		return exitUsage
	}
	if *help {
		printHelp(std.out, fmtUsage)
		return exitOK
	}
	if fs.NArg() == 0 {
		fmt.Fprintf(std.err, "ERROR: no file given\n%s", fmtUsage)
		return exitUsage
	}
	code := exitOK
	for _, name := range fs.Args() {
		text, err := readScript(name, std.in)
		if err != nil {
			fmt.Fprintf(std.err, "ERROR: cannot read `%s`: %v\n", name, err)
			code = exitUser
			continue
		}
		set, file := source.NewSet(displayName(name), text)
		diags := &diag.List{}
		script := syntax.Parse(set, file, diags)
		if diags.HasErrors() {
			_ = (&diag.Renderer{Set: set}).Write(std.err, diags, diag.DefaultLimit)
			code = exitUser
			continue
		}
		out := ast.FormatWith(script, set, ast.FormatOptions{Modern: *modern})
		if !*write || name == "-" {
			fmt.Fprint(std.out, out)
			continue
		}
		if out == text {
			continue
		}
		if err := replaceFile(name, out); err != nil {
			fmt.Fprintf(std.err, "ERROR: cannot write `%s`: %v\n", name, err)
			code = exitUser
		}
	}
	return code
}

func displayName(name string) string {
	if name == "-" {
		return "stdin"
	}
	return name
}

func readScript(name string, in io.Reader) (string, error) {
	if name == "-" {
		b, err := io.ReadAll(in)
		return string(b), err
	}
	b, err := os.ReadFile(name)
	return string(b), err
}

// replaceFile writes a file so that a crash leaves the old or the new text, never half of it.
func replaceFile(name, text string) error {
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	tmp := name + ".sonde-fmt"
	if err := os.WriteFile(tmp, []byte(text), st.Mode().Perm()); err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return nil
}
