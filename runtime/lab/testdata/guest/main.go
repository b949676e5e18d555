// Guest is the init and the only program of the lab's own test guests. Its
// first argument says what to do.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sonde-sh/sonde/runtime/lab"
)

func main() {
	lab.Init()
	switch arg(1) {
	case "facts":
		facts()
	case "cat":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "env":
		dir, _ := os.Getwd()
		fmt.Println(os.Getenv("GREETING"), dir, lab.InGuest(), os.Args[2:])
		fmt.Fprintln(os.Stderr, "on stderr")
	case "exit":
		n, _ := strconv.Atoi(arg(2))
		os.Exit(n)
	case "read":
		b, err := os.ReadFile(arg(2))
		fmt.Print(string(b), err)
	case "modules":
		b, err := os.ReadFile("/proc/modules")
		check(err)
		_, err = os.Stat("/sys/kernel/tracing/events/xfs")
		fmt.Println(string(b), "xfs events", err == nil)
	case "sleep":
		time.Sleep(time.Hour)
	case "family": // leaves a child behind that holds its output open
		cmd := exec.Command("/init", "sleep")
		cmd.Stdout = os.Stdout
		check(cmd.Start())
		fmt.Println("parent done")
	case "flood":
		n, _ := strconv.ParseInt(arg(2), 10, 64)
		line := bytes.Repeat([]byte("0123456789abcde\n"), 256)
		for ; n > 0; n -= int64(len(line)) {
			_, err := os.Stdout.Write(line[:min(n, int64(len(line)))])
			check(err)
		}
	case "eat":
		var kept [][]byte
		for {
			b := make([]byte, 16<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			kept = append(kept, b)
		}
	case "signal":
		check(syscall.Kill(os.Getpid(), syscall.SIGKILL))
		time.Sleep(time.Hour)
	case "panic":
		check(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
		time.Sleep(time.Hour)
	case "noise": // on the console and on the result line itself
		for i := range 50 {
			check(os.WriteFile("/dev/kmsg", []byte("<0>noise SLB1 "+strconv.Itoa(i)), 0))
			check(os.WriteFile("/dev/ttyS1", []byte("SLB1 not a frame \x00\xff"), 0))
			fmt.Println("line", i)
		}
	case "line-flood":
		f, err := os.OpenFile("/dev/ttyS1", os.O_WRONLY, 0)
		check(err)
		for {
			_, err := f.Write(bytes.Repeat([]byte("SLB"), 4096))
			check(err)
		}
	case "count": // instructions of a fixed loop, under icount
		best := time.Hour
		for range 5 {
			start := time.Now()
			n := spin(1_000_000)
			best = min(best, time.Since(start))
			if n == 0 {
				panic("never")
			}
		}
		fmt.Println(best.Nanoseconds())
	default:
		fmt.Fprintln(os.Stderr, "unknown command", os.Args)
		os.Exit(2)
	}
}

func arg(n int) string {
	if n < len(os.Args) {
		return os.Args[n]
	}
	return ""
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

//go:noinline
func spin(n int) int {
	x := 1
	for range n {
		x = x*1664525 + 1013904223
	}
	return x
}

// facts prints what tests rely on, a name and a value per line.
func facts() {
	version, err := os.ReadFile("/proc/sys/kernel/osrelease")
	check(err)
	fmt.Println("release", strings.TrimSpace(string(version)))
	fmt.Println("uid", os.Getuid())
	for name, path := range map[string]string{
		"btf":        "/sys/kernel/btf/vmlinux",
		"tracefs":    "/sys/kernel/tracing/events/syscalls/sys_enter_openat/format",
		"kprobes":    "/sys/kernel/debug/kprobes/list",
		"functions":  "/sys/kernel/tracing/available_filter_functions",
		"bpffs":      "/sys/fs/bpf",
		"cgroup2":    "/sys/fs/cgroup/cgroup.controllers",
		"securityfs": "/sys/kernel/security/lsm",
		"tmp":        "/tmp",
	} {
		_, err := os.Stat(path)
		fmt.Println(name, err == nil)
	}
	lsm, _ := os.ReadFile("/sys/kernel/security/lsm")
	fmt.Println("bpf-lsm", strings.Contains(string(lsm), "bpf"))
	lo, _ := os.ReadFile("/sys/class/net/lo/flags")
	flags, _ := strconv.ParseInt(strings.TrimSpace(string(lo)), 0, 64)
	fmt.Println("lo-up", flags&1 == 1)
}
