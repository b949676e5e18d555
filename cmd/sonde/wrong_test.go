package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/sonde-sh/sonde/runtime/kernel"
)

type wrongInput struct {
	what, probe, want string
	args              []string
}

// TestKernelWrongInput names what does not exist: the message says so, with the nearest real name where there is one.
func TestKernelWrongInput(t *testing.T) {
	k := openKernel(t)
	if _, err := k.Tracefs(); err != nil {
		t.Skip("needs tracefs: ", err)
	}
	cases := []wrongInput{
		{"a kind", "kprob:vfs_read", "Invalid probe type: kprob(?s:.*)use `kprobe`", nil},
		{"an event", "tracepoint:sched:sched_swich", "No matches for tracepoint sched:sched_swich(?s:.*)`sched:sched_switch`", nil},
		{"a category", "tracepoint:shed:sched_switch", "No matches for(?s:.*)`sched:sched_switch`", nil},
		{"a system call", "syscall:opnat", "No matches for syscall opnat(?s:.*)openat", nil},
		{"a raw tracepoint", "rawtracepoint:sched_swich", "no valid attach points(?s:.*)`sched_switch`", nil},
		{"a software event", "software:cpu-clok:1", "cpu-clok is not a software probe(?s:.*)`cpu-clock`", nil},
		{"a program", "uprobe:/proc/self/exee:main", "does not exist or is not executable", nil},
		{"a function", "uprobe:/proc/self/exe:main.mian", "No matches for uprobe(?s:.*)main\\.main", nil},
		{"a source file", "uprobe:/proc/self/exe:mian.go:1", "no source file mian.go|no debug information", nil},
		{"an offset inside of an instruction", "uprobe:/proc/self/exe:main.main+100000", "offset 100000|outside|No matches", nil},
		{"an address", "uprobe:/proc/self/exe:0xffffffffffff", "is not in the code of", nil},
		{"an address of data", fmt.Sprintf("uprobe:/proc/self/exe:%#x", dataAddress(t)), "is not in the code of", nil},
		{"a unit of time", "profile:hertz:9", "hertz is not an accepted unit of time", nil},
		{"a process", "interval:s:1", "there is no process 4194303", []string{"-p", "4194303"}},
		{"a container", "interval:s:1", "there is no container `nosuch`", []string{"--container", "nosuch"}},
		{"a pod", "interval:s:1", "there is no pod `nosuch`", []string{"--pod", "nosuch"}},
		{"a control group", "interval:s:1", "there is no control group `/nosuch`", []string{"--cgroup", "/nosuch"}},
	}
	if k.Features().Has(kernel.FeatureKprobes) {
		cases = append(cases, []wrongInput{
			{"a kernel function", "kprobe:vfs_raed", "No matches for kprobe vfs_raed(?s:.*)vfs_read", nil},
			{"a module", "kprobe:nosuch:vfs_read", "module nosuch in probe kprobe:nosuch:vfs_read is not loaded", nil},
			{"an offset inside of an instruction of the kernel", "kprobe:vfs_read+1", "not the start of an instruction", nil},
			{"an offset behind the function", "kprobe:vfs_read+1000000", "offset 1000000 is behind the end of vfs_read", nil},
			{"an address that is no code", "kprobe:0x1234", "address 0x1234 is in no function of the kernel", nil},
			{"a function that must not be probed", "kprobe:do_int3", "the function cannot be probed|No matches", nil},
		}...)
	}
	if k.Features().Has(kernel.FeatureFentry) {
		cases = append(cases, wrongInput{"a function for fentry", "fentry:vfs_raed", "No matches for fentry vfs_raed(?s:.*)vfs_read", nil})
	}
	for _, c := range cases {
		t.Run(c.what, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(context.Background(), append([]string{"sonde", "-e", c.probe + " { exit(); }"}, c.args...), stdio{strings.NewReader(""), &out, &errs})
			if code != exitUser && code != exitKernel || !regexp.MustCompile(c.want).MatchString(errs.String()) {
				t.Errorf("%s: status %d, %s\nwant %s", c.probe, code, errs.String(), c.want)
			}
		})
	}
}

// dataAddress is an address of this program that holds no code.
func dataAddress(t *testing.T) uint64 {
	t.Helper()
	f, err := elf.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := f.Section(".rodata")
	if s == nil {
		t.Fatal("this program has no section .rodata")
	}
	return s.Addr
}

// TestKernelPathRefused tells where the kernel gives paths, in place of the verifier's words.
func TestKernelPathRefused(t *testing.T) {
	k := openKernel(t)
	if !k.Features().Has(kernel.FeatureFentry) {
		t.Skip("needs " + kernel.FeatureFentry)
	}
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"sonde", "-e", "fentry:vfs_read { print(path(args.file->f_path)); }"}, stdio{strings.NewReader(""), &out, &errs})
	if code == exitOK || !strings.Contains(errs.String(), "helper bpf_d_path not allowed in probe") || !strings.Contains(errs.String(), "filp_close") {
		t.Errorf("status %d\n%s", code, errs.String())
	}
}
