// Command sonde traces a Linux machine with scripts in the bpftrace language.
//
// This package wires the rooms: flags, exit codes, signals. [run] is the whole program as a function, for tests.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// Ctrl-C ends the run and prints the maps; a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, stdio{os.Stdin, os.Stdout, os.Stderr}))
}
