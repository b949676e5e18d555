package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// The trace file system, which bpftrace wants mounted where sonde mounts one of its own. On a machine that has it nowhere, bench runs again in a
// mount namespace with it: both tracers find the same, and the machine stays as it is.

const tracingDir = "/sys/kernel/tracing"

// lacksTracing tells whether this run has to be made again by runMounted.
func lacksTracing() bool {
	if os.Geteuid() != 0 {
		return false
	}
	if _, err := os.Stat(tracingDir); err != nil {
		return false // the kernel has none
	}
	_, err := os.Stat(tracingDir + "/events")
	return err != nil
}

// runMounted runs this program with the same arguments in a mount namespace of its own and gives its status.
func runMounted(ctx context.Context, argv []string) int {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"mounted"}, argv...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it prints what it has
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// mountTracing mounts the trace file system. Without it what needs it is not measured, as the tracers say.
func mountTracing() {
	if err := unix.Mount("tracefs", tracingDir, "tracefs", 0, ""); err != nil {
		fmt.Fprintln(os.Stderr, "bench: mount the trace file system:", err)
	}
}
