package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const probedProgram = `#include <unistd.h>
namespace work {
struct Loop {
	int n;
	__attribute__((noinline)) int spin(int k) {
		n += k;
		usleep(1000);
		return n;
	}
};
}
int main(int argc, char **) { work::Loop l{argc}; for (;;) l.spin(3); }
`

// TestKernelUprobes puts probes into a C++ program in all the ways that name a place, in a position-independent one and another.
func TestKernelUprobes(t *testing.T) {
	openKernel(t)
	dir := t.TempDir()
	source := filepath.Join(dir, "loop.cc")
	if err := os.WriteFile(source, []byte(probedProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"-pie", "-no-pie"} {
		bin := filepath.Join(dir, "loop"+flag)
		if out, err := exec.Command("g++", "-g", "-O1", "-fno-omit-frame-pointer", flag, "-o", bin, source).CombinedOutput(); err != nil {
			t.Skipf("needs g++: %v\n%s", err, out)
		}
		stripped := bin + "-stripped"
		for _, args := range [][]string{
			{"objcopy", "--only-keep-debug", bin, stripped + ".debug"},
			{"objcopy", "--strip-all", "--add-gnu-debuglink=" + stripped + ".debug", bin, stripped},
		} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Skipf("needs objcopy: %v\n%s", err, out)
			}
		}
		for _, program := range []string{bin, stripped} {
			cmd := exec.Command(program)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			for _, c := range []struct{ place, body, want string }{
				{`cpp:"work::Loop::spin"`, `printf("%d %d %s\n", args.k, args.this->n > 0, usym(reg("ip")))`, `(?m)^3 1 work::Loop::spin\(int\)$`},
				{`cpp:"work::Loop::sp*"`, `printf("%s\n", probe)`, `(?m)^uprobe:.*spin`},
				{`_ZN4work4Loop4spinEi`, `printf("%s %d\n", ustack(2), args.k)`, `(?s)work::Loop::spin\(int\)\+0\n.* 3\n`},
				{`loop.cc:6`, `printf("%s\n", probe)`, `(?m)^uprobe:\S+:loop\.cc:6$`},
				{`loop.cc:6:3`, `printf("%s\n", func)`, `(?m)spin`},
			} {
				t.Run(filepath.Base(program)+"/"+c.place, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					defer cancel()
					var out, errs bytes.Buffer
					prog := "uprobe:" + program + ":" + c.place + " { " + c.body + "; exit(); }"
					code := run(ctx, []string{"sonde", "-p", strconv.Itoa(cmd.Process.Pid), "-e", prog}, stdio{strings.NewReader(""), &out, &errs})
					if code != 0 || !regexp.MustCompile(c.want).MatchString(out.String()) {
						t.Errorf("%s: status %d\n%s%s\nwant %s", prog, code, out.String(), errs.String(), c.want)
					}
				})
			}
		}
	}
}
