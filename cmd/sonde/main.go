// Command sonde traces a Linux machine with scripts in the bpftrace language.
//
// This package wires the rooms: flags, exit codes, signals. [run] is the whole program as a function, for tests.
package main

import (
	"context"
	"errors"
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
	// Ctrl-C ends the run and prints the maps; a second one, or the first before anything runs, ends the process at once.
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		sig := <-signals
		signal.Stop(signals)
		cancel(signalError{sig.(syscall.Signal)})
	}()
	os.Exit(run(ctx, os.Args, stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// signalError is the cause of a context that a signal ended.
type signalError struct{ sig syscall.Signal }

func (e signalError) Error() string { return e.sig.String() }

// exitOnSignal ends the process when a signal ends ctx, with the status that shells give for it, until the function that it returns is called:
// what is compiled or loaded does nothing yet and cannot be interrupted.
func exitOnSignal(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		if e := (signalError{}); errors.As(context.Cause(ctx), &e) {
			os.Exit(128 + int(e.sig))
		}
	})
}
