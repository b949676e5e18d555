package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// TestKernelFlame samples this very process and reads back what is written.
func TestKernelFlame(t *testing.T) {
	openKernel(t)
	dir := t.TempDir()
	svg, pb := filepath.Join(dir, "out.svg"), filepath.Join(dir, "out.pb.gz")
	stop := make(chan struct{})
	defer close(stop)
	go activity(stop)
	script := `profile:hz:199 { @[comm, ustack, kstack] = count(); } interval:ms:500 { exit(); }`
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"sonde", "-o", svg, "--folded", "--pprof", pb, "-e", script}, stdio{strings.NewReader(""), &out, &errs}); code != 0 {
		t.Fatalf("status %d\n%s", code, errs.String())
	}
	if !regexp.MustCompile(`^(\S.* [1-9]\d*\n)+$`).MatchString(out.String()) {
		t.Errorf("folded stacks:\n%s", out.String())
	}
	picture, err := os.ReadFile(svg)
	if err != nil || !bytes.Contains(picture, []byte(`data-n="all"`)) {
		t.Errorf("picture: %v, %d bytes", err, len(picture))
	}
	f, err := os.Open(pb)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := profile.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, s := range p.Sample {
		sum += s.Value[0]
	}
	folded := int64(0)
	for _, m := range regexp.MustCompile(` (\d+)\n`).FindAllStringSubmatch(out.String(), -1) {
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		folded += n
	}
	if sum == 0 || folded != sum || p.Period != 1_000_000_000/199 || time.Duration(p.DurationNanos) < 400*time.Millisecond {
		t.Errorf("profile: %d samples, period %d, %v", sum, p.Period, time.Duration(p.DurationNanos))
	}
}

func TestFlameErrors(t *testing.T) {
	openKernel(t)
	dir := t.TempDir()
	cases := []struct {
		args []string
		want string
		code int
	}{
		{[]string{"-o", filepath.Join(dir, "x.svg"), "-e", `BEGIN { @ = 1; }`}, "no map is keyed by stacks", exitUser},
		{[]string{"--folded", "-e", `profile:hz:9 { @a[kstack] = count(); @b[ustack] = count(); }`}, "choose one with --map: @a, @b", exitUser},
		{[]string{"--folded", "--map", "c", "-e", `profile:hz:9 { @a[kstack] = count(); @b[ustack] = count(); }`}, "the map `@c` is not keyed by stacks", exitUser},
		{[]string{"--map", "@a", "-e", `profile:hz:9 { @a[kstack] = count(); }`}, "--map says which map is drawn", exitUsage},
		{[]string{"--folded", "-f", "json", "-e", `profile:hz:9 { @a[kstack] = count(); }`}, "--folded is text", exitUsage},
		{[]string{"-o", "/no/such/folder/x.svg", "-e", `profile:hz:9 { @a[kstack] = count(); }`}, "cannot write `/no/such/folder/x.svg`: no such file", exitUser},
		{[]string{"flame", "/no/such/file"}, "cannot read `/no/such/file`", exitUser},
		{[]string{"flame", "-F", "0"}, "0 samples a second", exitUsage},
		{[]string{"flame", "a", "b"}, "more than one file", exitUsage},
	}
	for _, c := range cases {
		var out, errs bytes.Buffer
		code := run(context.Background(), append([]string{"sonde"}, c.args...), stdio{strings.NewReader(""), &out, &errs})
		if code != c.code || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%q: status %d, want %d\n%s", c.args, code, c.code, errs.String())
		}
	}
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"sonde", "flame", "--folded", "-"}, stdio{strings.NewReader("b;c 2\na 1\n"), &out, &errs}); code != 0 || out.String() != "a 1\nb;c 2\n" {
		t.Errorf("folded again: status %d, %q, %s", code, out.String(), errs.String())
	}
}
