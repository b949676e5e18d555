package main

import (
	"context"
	"fmt"
	"time"
)

const triageUsage = `USAGE: sonde triage [-d DURATION] [-f text|json|html] [-o FILE]

A first look at a machine in trouble, in the order in which an incident is worked on: load, run queue, new processes, opens that fail, block
I/O, file system, TCP, errors of system calls, waiting, stacks. It takes 60 seconds unless -d says otherwise; Ctrl-C ends it early. The
report says what it cost, and which script each answer came from.
`

func runTriage(ctx context.Context, argv []string, std stdio) int {
	t := newTool("triage", std)
	defer t.close()
	length := t.fs.DurationP("duration", "d", 60*time.Second, "")
	if code, done := t.parse(argv, triageUsage); done {
		return code
	}
	switch {
	case t.fs.NArg() > 0:
		return t.wrongUsage(fmt.Sprintf("`%s` is not understood", t.fs.Arg(0)), triageUsage)
	case *t.format != "text" && *t.format != "json" && *t.format != "html":
		return t.fail(usagef("output format `%s` is not one of text, json, html", *t.format))
	}
	t.quiet = true // the report says what was lost, with the answer that it belongs to
	if err := t.open(); err != nil {
		return t.fail(err)
	}
	r, err := t.sh.Triage(ctx, *length)
	if err != nil {
		return t.fails(err)
	}
	text, err := r.Format(*t.format, 100)
	if err == nil {
		err = t.emit(text)
	}
	if err != nil {
		return t.fail(err)
	}
	return exitOK
}
