package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// launched is the first line that the launcher reports; a usage is the second.
type launched struct {
	PID     int
	Started int64 // nanoseconds of Unix time
}

// runLaunch starts a command with our own standard streams and reports on descriptor 3 what it used.
func runLaunch(argv []string) int {
	if len(argv) == 0 {
		return 2
	}
	report := json.NewEncoder(os.NewFile(3, "report"))
	syscall.CloseOnExec(3)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := time.Now()
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Only now: writing takes time, and the pipe's reader runs on the CPU that the command could have.
	_ = report.Encode(launched{cmd.Process.Pid, started.UnixNano()})
	os.Stdout.Close() // the reader sees the end when the command ends
	_ = cmd.Wait()
	wall := time.Since(started)
	ru := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	_ = report.Encode(usage{
		Wall: wall, User: cmd.ProcessState.UserTime(), Sys: cmd.ProcessState.SystemTime(),
		MaxRSS: ru.Maxrss << 10, Code: cmd.ProcessState.ExitCode(),
	})
	return 0
}
