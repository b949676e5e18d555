package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	const start = `{"Action":"start","Package":"p"}` + "\n"
	tests := []struct {
		name, in, last string
		ok             bool
		contains       string
	}{
		{
			name: "subtests count, their parent does not",
			in: start + `{"Action":"run","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"A/x"}
{"Action":"run","Package":"p","Test":"A/y"}
{"Action":"pass","Package":"p","Test":"A/x"}
{"Action":"pass","Package":"p","Test":"A/y"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Elapsed":1.5}
`,
			last: "2 passed, 0 failed, 0 skipped", ok: true, contains: "ok   p 1.5s",
		},
		{
			name: "a failed subtest counts once and shows its output",
			in: start + `{"Action":"run","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"A/x"}
{"Action":"output","Package":"p","Test":"A/x","Output":"    a_test.go:3: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"A/x"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"fail","Package":"p"}
`,
			last: "0 passed, 1 failed, 0 skipped", contains: "got 1, want 2",
		},
		{
			name: "a skip with a need",
			in: start + `{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"=== RUN   A\n"}
{"Action":"output","Package":"p","Test":"A","Output":"    a_test.go:3: needs kprobes\n"}
{"Action":"output","Package":"p","Test":"A","Output":"--- SKIP: A (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"A"}
{"Action":"pass","Package":"p"}
`,
			last: "0 passed, 0 failed, 1 skipped", ok: true, contains: "skipped 1: needs kprobes",
		},
		{
			name: "a skip for another reason fails",
			in: start + `{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"    a_test.go:3: flaky\n"}
{"Action":"skip","Package":"p","Test":"A"}
{"Action":"pass","Package":"p"}
`,
			last: "0 passed, 1 failed, 1 skipped", contains: `unexpected skip: p A: "flaky"`,
		},
		{
			name: "a package that does not build",
			in: `{"ImportPath":"p","Action":"build-output","Output":"p/a.go:3:1: syntax error\n"}
{"ImportPath":"p","Action":"build-fail"}
` + start + `{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p"}
`,
			last: "0 passed, 1 failed, 0 skipped", contains: "syntax error",
		},
		{
			name: "a test that panics is named",
			in: start + `{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"panic: oh\n"}
{"Action":"fail","Package":"p"}
`,
			last: "0 passed, 1 failed, 0 skipped", contains: "p A did not end\npanic: oh",
		},
		{
			name: "a stream that is cut",
			in:   start + `{"Action":"run","Package":"p","Test":"A"}` + "\n",
			last: "0 passed, 1 failed, 0 skipped", contains: "the stream ended",
		},
		{
			name: "a package without tests is no failure, and none at all is",
			in:   start + `{"Action":"skip","Package":"p"}` + "\n",
			last: "0 passed, 0 failed, 0 skipped", ok: true,
		},
		{name: "nothing", in: "", last: "0 passed, 0 failed, 0 skipped", contains: "no package was tested"},
		{
			name: "lines that are no events are shown",
			in:   "go: warning\n" + start + `{"Action":"pass","Package":"p"}` + "\n",
			last: "0 passed, 0 failed, 0 skipped", ok: true, contains: "go: warning\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			s := newSummary(&out)
			if err := s.read(strings.NewReader(tt.in)); err != nil {
				t.Fatal(err)
			}
			ok := s.finish(false)
			lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
			if got := lines[len(lines)-1]; got != tt.last || ok != tt.ok {
				t.Errorf("got %q, %v; want %q, %v\n%s", got, ok, tt.last, tt.ok, out.String())
			}
			if !strings.Contains(out.String(), tt.contains) {
				t.Errorf("no %q in:\n%s", tt.contains, out.String())
			}
		})
	}
}
