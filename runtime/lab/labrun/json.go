package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"

	"github.com/sonde-sh/sonde/runtime/lab"
)

// emitJSON prints a test job's output as go test -json would have. A job that
// ended badly without a failing test (the guest died, a limit was hit) becomes
// a failure of the package.
func (o *options) emitJSON(name string, r *lab.JobResult, guestErr error) {
	cmd := exec.Command("go", "tool", "test2json", "-p", name)
	cmd.Stdin = bytes.NewReader(append(append([]byte(nil), r.Stdout...), r.Stderr...))
	out, err := cmd.Output()
	if err != nil {
		o.emitEvent(name, "output", fmt.Sprintf("test2json: %v\n", err))
	}
	o.stdout.Write(out)
	// The test binary's own verdict is in the stream already.
	failed := bytes.Contains(lastLine(out), []byte(`"Action":"fail"`))
	if err := r.Err(); err != nil && !failed {
		text := err.Error()
		if guestErr != nil && !r.Ended {
			text = guestErr.Error()
		}
		o.emitEvent(name, "output", "lab: "+text+"\n")
		o.emitEvent(name, "fail", "")
	}
}

func (o *options) emitEvent(name, action, text string) {
	b, err := json.Marshal(struct {
		Action, Package string
		Output          string `json:",omitempty"`
	}{action, name, text})
	if err == nil {
		fmt.Fprintf(o.stdout, "%s\n", b)
	}
}

func lastLine(b []byte) []byte {
	b = bytes.TrimRight(b, "\n")
	return b[bytes.LastIndexByte(b, '\n')+1:]
}
