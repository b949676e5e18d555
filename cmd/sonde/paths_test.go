package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTraceableFunctions: a list of the user's own takes the place of the kernel's.
func TestTraceableFunctions(t *testing.T) {
	list := filepath.Join(t.TempDir(), "functions")
	if err := os.WriteFile(list, []byte("vfs_one [vmlinux]\nvfs_two\nvfs_three [ext9]\nother\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		argv []string
		out  string
		errs string
		code int
	}{
		{"all of them", []string{"-l", "kprobe:vfs_*"}, "kprobe:vfs_one\nkprobe:vfs_three\nkprobe:vfs_two\n", "", exitOK},
		{"those of the kernel", []string{"-l", "kprobe:vmlinux:vfs_*"}, "kprobe:vmlinux:vfs_one\nkprobe:vmlinux:vfs_two\n", "", exitOK},
		{"one that is not in the list", []string{"-e", "kprobe:vfs_four_* { }"}, "", "Probe has no valid attach points", exitUser},
		{"a list that is not there", []string{"--traceable-functions", list + ".not", "-l", "kprobe:vfs_*"}, "", "Could not read functions from " + list + ".not. (No such file or directory)", exitUser},
	} {
		t.Run(c.what, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(context.Background(), append([]string{"sonde", "--traceable-functions", list}, c.argv...), stdio{strings.NewReader(""), &out, &errs})
			if out.String() != c.out || !strings.Contains(errs.String(), c.errs) || code != c.code {
				t.Errorf("status %d, want %d; output %q, want %q; messages %s", code, c.code, out.String(), c.out, errs.String())
			}
		})
	}
}
