package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const insideEnv = "SONDE_TEST_INSIDE_PID_NAMESPACE"

// TestKernelPIDNamespace runs the tool in a pid namespace of its own: ids are those of the namespace, pid(init) is what the machine has, and
// stacks of its processes have names.
func TestKernelPIDNamespace(t *testing.T) {
	if os.Getenv(insideEnv) != "" {
		insidePIDNamespace(t)
		return
	}
	openKernel(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKernelPIDNamespace$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Skip("needs pid namespaces: ", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		fmt.Sprintf(`(?m)^ids 1 %d 1 1$`, cmd.Process.Pid),
		`(?m)^stack \n\s+[\w./]+\S*\+\d+$`,
		`(?m)^there is no process 4194303$`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
}

func insidePIDNamespace(t *testing.T) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	defer close(stop)
	go activity(stop)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	const prog = `syscall:openat /pid == 1/ { printf("ids %d %d %d %d\nstack %s\n", pid, pid(init), pid(curr_ns), tid(init) >= pid(init), ustack(1)); exit(); }`
	for _, args := range [][]string{{"-p", "1", "-e", prog}, {"-p", "4194303", "-e", "begin { }"}} {
		var out, errs bytes.Buffer
		run(ctx, append([]string{"sonde"}, args...), stdio{strings.NewReader(""), &out, &errs})
		fmt.Println(out.String(), strings.ReplaceAll(errs.String(), "ERROR: ", "\n"))
	}
}
