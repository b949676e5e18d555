// Command sonde traces a Linux machine with scripts in the bpftrace language.
//
// This package wires the rooms: flags, exit codes, signals. [run] is the whole program as a function, for tests.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/sonde-sh/sonde/runtime/lab"
)

// The program's first thread stays with main until the begin programs have run, because scripts look at the thread that runs them: there,
// pid and tid are the same. The session lets go of it then.
func init() { runtime.LockOSThread() }

func main() {
	lab.Init() // this program can also be the init of a lab guest
	// Ctrl-C ends the run and prints the maps; a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, stdio{os.Stdin, os.Stdout, os.Stderr}))
}
