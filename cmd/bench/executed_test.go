package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sonde-sh/sonde/runtime/lab"
)

// TestExecutedInstructions counts what the programs execute, the kernel's helpers and maps included, in an emulated kernel, and compares
// the counts with testdata/executed.txt, whose first line says how it is written. It needs 20 s of CPU time.
func TestExecutedInstructions(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a run without -short: it boots a kernel")
	}
	if lab.InGuest() {
		t.Skip("needs a host: guests do not nest")
	}
	if lab.HostArch() != "amd64" {
		t.Skip("needs an x86-64 machine: the limits are its instructions")
	}
	if err := lab.Available(lab.HostArch()); err != nil {
		t.Skipf("needs QEMU: %v", err)
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the go command")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 12*time.Minute)
	defer cancel()
	if _, err := lab.NewCatalogue().Fetch(ctx, "6.12", lab.HostArch()); err != nil {
		t.Skipf("needs a kernel: %v", err)
	}
	dir := t.TempDir()
	build := exec.CommandContext(ctx, goTool, "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "./cmd/sonde", "./cmd/bench")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "bench"), "-sonde", filepath.Join(dir, "sonde"), "-bpftrace", "none", "-icount",
		"-limits", filepath.Join("testdata", "executed.txt"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, errs.Bytes())
	}
	t.Logf("\n%s", out.Bytes())
}
