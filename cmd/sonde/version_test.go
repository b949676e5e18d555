package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	for name, want := range map[string]string{"sonde": "sonde ", "bpftrace": "bpftrace v0.27.1 (sonde "} {
		for _, flag := range []string{"-V", "--version"} {
			var out, errs bytes.Buffer
			code := run(context.Background(), []string{"/usr/bin/" + name, flag}, stdio{nil, &out, &errs})
			if code != exitOK || errs.Len() > 0 || !strings.HasPrefix(out.String(), want) {
				t.Errorf("%s %s: status %d, %q, %q", name, flag, code, &out, &errs)
			}
		}
	}
}
