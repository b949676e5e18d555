package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sonde-sh/sonde/runtime/kernel/needs"
)

// TestSignalBeforeRun interrupts a command that still reads its script: nothing runs yet that would have to end in order.
func TestSignalBeforeRun(t *testing.T) {
	const name = "SONDE_TEST_SIGNAL"
	if script := os.Getenv(name); script != "" {
		os.Args = []string{"sonde", "--dry-run", script}
		main()
	}
	needs.BPF(t)
	fifo := filepath.Join(t.TempDir(), "script.bt")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), name+"="+fifo)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(fifo, os.O_WRONLY, 0) // waits for the reader
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		f.Close()
		if got, want := cmd.ProcessState.ExitCode(), 128+int(sig); got != want {
			t.Errorf("%v while the script is read: exit status %d, want %d", sig, got, want)
		}
	}
}
