package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"

	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/runtime/seccomp"
)

func (c *seccompCommand) record(ctx context.Context) (int, error) {
	out := c.fs.StringP("output", "o", "", "")
	pids := c.fs.IntSlice("pid", nil, "")
	cgroup := c.fs.String("cgroup", "", "")
	container := c.fs.String("container", "", "")
	unit := c.fs.String("unit", "", "")
	create := c.fs.Bool("runtime-create", false, "")
	duration := c.fs.Duration("duration", 0, "")
	learn := c.fs.Bool("args", false, "")
	stacks := c.fs.Bool("stacks", false, "")
	tasks := c.fs.Int("max-tasks", 0, "")
	programs := c.fs.Int("max-programs", 0, "")
	rest, command, err := c.parse()
	if err != nil {
		return 0, err
	}
	if len(rest) > 0 {
		return 0, badUse("put `--` before the command: sonde seccomp record -- %s", strings.Join(slices.Concat(rest, command), " "))
	}
	if err := recordTarget(*pids, *cgroup, *container, *unit, command, *create); err != nil {
		return 0, err
	}
	if *duration < 0 || *duration == 0 && c.fs.Changed("duration") {
		return 0, badUse("--duration is %v; give a time such as 30s", *duration)
	}
	if err := seccomp.CheckLimits(*programs, *tasks); err != nil {
		return 0, badUse("%v", err)
	}
	if err := writable(*out); err != nil { // known before hours of recording, not after
		return 0, err
	}
	var parked []string
	if *create {
		parked, command = command, nil
	}
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		return 0, err
	}
	defer k.Close()
	if *container != "" || *unit != "" {
		if *cgroup, err = seccomp.FindCgroup(k, *container, *unit); err != nil {
			return 0, err
		}
	}
	r, err := seccomp.Start(seccomp.Options{
		Kernel: k, Tool: strings.TrimSpace("sonde " + version), Command: command, Create: parked, PIDs: *pids, Cgroup: *cgroup, Learn: *learn, Stacks: *stacks,
		Tasks: *tasks, Programs: *programs, Stdin: c.std.in, Stdout: c.std.out, Stderr: c.std.err,
	})
	if err != nil {
		return 0, err
	}
	defer r.Close()
	if len(command) > 0 {
		signal.Ignore(os.Interrupt) // it reaches the command too, whose end ends the recording
		defer signal.Reset(os.Interrupt)
	}
	if *duration > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, *duration)
		defer stop()
	}
	done := make(chan struct{})
	finished := c.live(r, done)
	err = r.Wait(ctx)
	close(done)
	<-finished
	if err != nil && ctx.Err() == nil {
		return 0, err
	}
	p, err := r.Stop()
	if err != nil {
		return 0, err
	}
	for _, f := range p.Lint() {
		switch {
		case len(p.Calls) == 0:
			fmt.Fprintln(c.std.err, "warning: no call was made while it was recorded")
		case f.Severity != seccomp.SeverityNote:
			fmt.Fprintln(c.std.err, f)
		}
	}
	if how := p.Runs[0].Exit; how != "" && how != "still running" {
		fmt.Fprintf(c.std.err, "note: the command ended with %s\n", how)
	}
	if *out == "" {
		return exitOK, p.Show(c.std.out, seccomp.ShowOptions{})
	}
	if err := p.WriteFile(*out); err != nil {
		return 0, err
	}
	fmt.Fprintf(c.std.err, "%s: %s, %d made by %s\n", *out, seccomp.Counted(uint64(len(p.Calls)), "different system call"), p.Runs[0].Calls, seccomp.Counted(p.Runs[0].Tasks, "thread"))
	return exitOK, nil
}

// live keeps a line on a terminal up to date.
func (c *seccompCommand) live(r *seccomp.Recorder, done <-chan struct{}) <-chan struct{} {
	finished := make(chan struct{})
	f, ok := c.std.err.(*os.File)
	if !ok || !isatty.IsTerminal(f.Fd()) {
		close(finished)
		return finished
	}
	go func() {
		defer close(finished)
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-done:
				fmt.Fprint(f, "\r\x1b[K")
				return
			case <-t.C:
				if l, err := r.Live(); err == nil {
					fmt.Fprintf(f, "\r\x1b[K%v  %d calls of %d kinds, %d new in the last minute, %d denied, about %.1f still unseen",
						l.Elapsed.Round(time.Second), l.Calls, l.Kinds, l.New, l.Denied, l.Unseen.Missing)
				}
			}
		}
	}()
	return finished
}

// recordTarget says what is wrong with what is to be recorded.
func recordTarget(pids []int, cgroup, container, unit string, command []string, create bool) error {
	if create && len(command) == 0 {
		return badUse("--runtime-create needs the command that creates the container: -- runc create --bundle DIR ID")
	}
	var given []string
	for _, t := range []struct {
		name string
		is   bool
	}{{"a command", len(command) > 0}, {"--pid", len(pids) > 0}, {"--cgroup", cgroup != ""}, {"--container", container != ""}, {"--unit", unit != ""}} {
		if t.is {
			given = append(given, t.name)
		}
	}
	switch len(given) {
	case 0:
		return badUse("nothing to record: give a command behind `--`, or --pid, --cgroup, --container, --unit")
	case 1:
	default:
		return badUse("a recording has one target; given are %s", strings.Join(given, " and "))
	}
	for _, pid := range pids {
		if pid <= 0 {
			return badUse("%d is no process number", pid)
		}
	}
	return nil
}

// writable tells why a file could not be written in the end, as WriteFile does it; "" is standard output.
func writable(path string) error {
	if path == "" {
		return nil
	}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return fmt.Errorf("-o %s: is a directory", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".sonde-*")
	if err != nil {
		var at *fs.PathError
		if errors.As(err, &at) {
			err = at.Err
		}
		return fmt.Errorf("-o %s: %w", path, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
