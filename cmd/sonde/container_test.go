package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// containedProgram calls a function, and code that it made at run time and that its perf map names.
const containedProgram = `#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
__attribute__((noinline)) void tick(int n) { __asm__ volatile("" : : "r"(n)); }
int main(void) {
	/* push rbp; mov rsp, rbp; xor eax, eax; 1: inc eax; cmp eax, 200000; jne 1b; pop rbp; ret */
	static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x31, 0xc0, 0xff, 0xc0, 0x3d, 0x40, 0x0d, 0x03, 0x00, 0x75, 0xf7, 0x5d, 0xc3};
	unsigned char *p = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(p, code, sizeof code);
	char name[64];
	snprintf(name, sizeof name, "/tmp/perf-%d.map", getpid());
	FILE *f = fopen(name, "w");
	if (!f) return 1;
	fprintf(f, "%lx %zx jitted_loop\n", (unsigned long)p, sizeof code);
	fclose(f);
	for (int i = 0;; i++) { tick(i); ((void (*)(void))p)(); if (i % 50 == 0) usleep(1000); }
}
`

// TestKernelContainer traces a program in a real container: by its process in the files that only the container has, and by the container's
// name. Code made at run time has the name that the map inside of the container gives it.
func TestKernelContainer(t *testing.T) {
	k := openKernel(t)
	if _, err := k.CgroupMount(); err != nil {
		t.Skip("needs version 2 control groups: ", err)
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("needs x86-64")
	}
	bundle := t.TempDir()
	rootfs := filepath.Join(bundle, "rootfs")
	for _, d := range []string{"tmp", "proc", "dev", "sys"} {
		if err := os.MkdirAll(filepath.Join(rootfs, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	source := filepath.Join(bundle, "app.c")
	if err := os.WriteFile(source, []byte(containedProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-O1", "-static", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-o", filepath.Join(rootfs, "app"), source).CombinedOutput(); err != nil {
		t.Skipf("needs gcc and a static C library: %v\n%s", err, out)
	}
	name := fmt.Sprintf("sonde-test-%d", os.Getpid())
	pid := startContainer(t, bundle, name)
	for _, c := range []struct {
		what string
		args []string
		want []string
	}{
		{
			"by process",
			[]string{"-p", strconv.Itoa(pid), "-e", `uprobe:/app:tick { @t = count(); } profile:hz:199 { @[ustack(3)] = count(); } interval:s:1 { exit(); }`},
			[]string{`(?m)^@t: \d+$`, `(?m)^\s+jitted_loop\+\d+\n\s+main\+\d+$`},
		},
		{
			"by name",
			[]string{"--container", name, "-e", `syscall:clock_nanosleep { @[pid(init), comm] = count(); } interval:s:1 { exit(); }`},
			[]string{fmt.Sprintf(`(?m)^\s*@\[%d, app\]: \d+\s*$`, pid)},
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			var out, errs bytes.Buffer
			code := run(ctx, append([]string{"sonde"}, c.args...), stdio{strings.NewReader(""), &out, &errs})
			for _, want := range c.want {
				if code != 0 || !regexp.MustCompile(want).MatchString(out.String()) {
					t.Errorf("status %d, no %s in\n%s%s", code, want, out.String(), errs.String())
				}
			}
			if others := strings.Count(out.String(), "@["); c.what == "by name" && others > 1 {
				t.Errorf("the filter lets other processes through:\n%s", out.String())
			}
		})
	}
}

// startContainer starts /app of a bundle with a runtime of the machine, and gives its process.
func startContainer(t *testing.T, bundle, name string) int {
	t.Helper()
	for _, tool := range []string{"runc", "crun"} {
		if _, err := exec.LookPath(tool); err != nil {
			continue
		}
		cmd := exec.Command(tool, "spec")
		cmd.Dir = bundle
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("%s: %v\n%s", tool, err, out)
			continue
		}
		editSpec(t, filepath.Join(bundle, "config.json"))
		// The runtime's output goes to a file: the container keeps it open.
		log, err := os.Create(filepath.Join(bundle, "log"))
		if err != nil {
			t.Fatal(err)
		}
		cmd = exec.Command(tool, "run", "-d", "--pid-file", filepath.Join(bundle, "pid"), name)
		cmd.Dir, cmd.Stdout, cmd.Stderr = bundle, log, log
		err = cmd.Run()
		log.Close()
		t.Cleanup(func() { _ = exec.Command(tool, "delete", "-f", name).Run() })
		text, perr := os.ReadFile(filepath.Join(bundle, "pid"))
		if err != nil || perr != nil {
			said, _ := os.ReadFile(log.Name())
			t.Logf("%s: %v\n%s", tool, err, said)
			_ = os.Remove(filepath.Join(bundle, "config.json"))
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	t.Skip("needs runc or crun that can start a container here")
	return 0
}

// editSpec makes the container run /app, without a terminal.
func editSpec(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(b, &spec); err != nil {
		t.Fatal(err)
	}
	process, _ := spec["process"].(map[string]any)
	root, _ := spec["root"].(map[string]any)
	process["terminal"], process["args"], root["readonly"] = false, []string{"/app"}, false
	if b, err = json.Marshal(spec); err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
