package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sonde-sh/sonde/lang/check"
	"github.com/sonde-sh/sonde/lang/diag"
	"github.com/sonde-sh/sonde/lang/source"
	"github.com/sonde-sh/sonde/lang/syntax"
	"github.com/sonde-sh/sonde/stdlib"
)

// listProbes does -l: the probes that match a pattern, or those of a program.
func (a *app) listProbes() error {
	if a.opts.hasProg || a.isScript(a.opts.file) {
		set, file, err := a.script()
		if err != nil {
			return err
		}
		a.set = set
		return a.listScript(set, file)
	}
	opts := stdlib.ListOptions{Verbose: a.opts.verbose, PID: a.opts.pid}
	w := bufio.NewWriterSize(a.std.out, 64<<10)
	found := false
	var line []byte
	err := stdlib.List(a.machine, stdlib.ProbeKinds(a.machine), a.opts.file, opts, func(l stdlib.Listed) bool {
		found = true
		line = l.Write(line[:0])
		_, werr := w.Write(line)
		return werr == nil
	})
	if err := w.Flush(); err != nil {
		return nil // the reader went away: `sonde -l | head`
	}
	var unknown *stdlib.UnknownKindError
	switch {
	case errors.As(err, &unknown): // as in bpftrace: nothing to list is no failure
		a.nothingListed(unknown.Error())
	case errors.Is(err, fs.ErrPermission):
		return &userError{err.Error(), "run as root"}
	case err != nil:
		return &userError{err.Error(), ""}
	case !found && a.opts.file != "":
		a.nothingListed(fmt.Sprintf("no probe matches `%s`; use wildcards, as in `*open*`, or list a kind, as in `tracepoint:*`", a.opts.file))
	}
	return nil
}

// nothingListed says why a listing is empty.
func (a *app) nothingListed(why string) {
	if !a.opts.noWarn {
		fmt.Fprintf(a.std.err, "WARNING: %s\n", why)
	}
}

// isScript tells a file from a pattern.
func (a *app) isScript(name string) bool {
	if name == "-" {
		return true
	}
	st, err := os.Stat(name)
	return err == nil && st.Mode().IsRegular()
}

// listed is an attach point of a script, with its arguments where they are asked for and known.
func (a *app) listed(name string) stdlib.Listed {
	found := stdlib.Listed{Name: name}
	if a.opts.verbose {
		opts := stdlib.ListOptions{Verbose: true, PID: a.opts.pid}
		_ = stdlib.List(a.machine, stdlib.ProbeKinds(a.machine), name, opts, func(l stdlib.Listed) bool { // the script's check has reported what is wrong
			if l.Name == name {
				found = l
			}
			return l.Name != name
		})
	}
	return found
}

// listScript prints the attach points of a program, wildcards expanded.
func (a *app) listScript(set *source.Set, file *source.File) error {
	diags := &diag.List{}
	script := syntax.Parse(set, file, diags)
	if diags.HasErrors() {
		return a.reportAll(diags)
	}
	info := check.Check(script, set, stdlib.New(stdlib.ProbeKinds(a.machine)), a.env(), diags)
	a.machine.NoteTypes(diags)
	if diags.HasErrors() {
		return a.reportAll(diags)
	}
	w := bufio.NewWriter(a.std.out)
	seen := map[string]bool{}
	var line []byte
	for _, b := range info.Bodies {
		for _, p := range b.Points {
			if !seen[p.Name] {
				seen[p.Name] = true
				line = a.listed(p.Name).Write(line[:0])
				if _, err := w.Write(line); err != nil {
					return err
				}
			}
		}
	}
	return w.Flush()
}
