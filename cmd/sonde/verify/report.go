package verify

import (
	"fmt"
	"strings"

	"github.com/sonde-sh/sonde/runtime/lab"
)

// State is how far a row came on a kernel.
type State string

// The states, from the best to the worst.
const (
	OK      State = "ok"
	Compile State = "compile" // the script is wrong there: a name, a field or a feature that the kernel lacks
	Load    State = "load"    // the verifier, or the making of a map, refused
	Attach  State = "attach"  // a probe could not be attached
	Running State = "run"     // --run: ended with an error
	Guest   State = "guest"   // the kernel under test hung, panicked, ran out of memory or did not come up
)

// Diagnostic is a finding with its place.
type Diagnostic struct {
	Severity string   `json:"severity"` // error or warning
	Code     string   `json:"code,omitempty"`
	Message  string   `json:"message"`
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"` // from 1
	Column   int      `json:"column,omitempty"`
	Hints    []string `json:"hints,omitempty"`
	// Text is the finding as a terminal shows it, with the source line and its underline.
	Text string `json:"text"`
}

// Program is one program that the kernel took.
type Program struct {
	Name         string `json:"name"`
	Instructions int    `json:"instructions"`
}

// Row is what came of one script or object on one kernel.
type Row struct {
	Path        string       `json:"path"`
	State       State        `json:"state"`
	Reason      string       `json:"reason,omitempty"` // one line; empty when State is [OK]
	Probes      int          `json:"probes"`           // attach points of the script, wildcards expanded
	Programs    []Program    `json:"programs,omitempty"`
	Diagnostics []Diagnostic `json:"diagnostics,omitempty"`
	// Output and Log are what a run printed on standard output and error, at most [MaxOutput] bytes of each.
	Output string `json:"output,omitempty"`
	Log    string `json:"log,omitempty"`
	// Seconds is the time on the kernel's own clock.
	Seconds float64 `json:"seconds"`
}

// MaxOutput is how much of a run's output is kept, in bytes.
const MaxOutput = 64 << 10

// Column is what came of one kernel.
type Column struct {
	Kernel  string `json:"kernel"` // as it was asked for
	Release string `json:"release,omitempty"`
	Arch    string `json:"arch"`
	// Boot is the time until the guest's init ran, in seconds of the host; 0 for the running kernel.
	Boot float64 `json:"boot,omitempty"`
	// Modules are the kernel modules that were brought along, each with why it is not loaded.
	Modules []lab.ModuleResult `json:"modules,omitempty"`
	Rows    []Row              `json:"rows"`
	// Failure says why the kernel as a whole gave no full result.
	Failure string `json:"failure,omitempty"`
	// Console is the end of the kernel's console after a failure.
	Console string `json:"console,omitempty"`
}

// Name is the heading of the column.
func (c *Column) Name(host string) string {
	name := c.Kernel
	if c.Arch != host {
		name += "/" + c.Arch
	}
	return name
}

// Report is everything.
type Report struct {
	Host    string   `json:"host"` // architecture of this machine
	Columns []Column `json:"kernels"`
}

// OK reports whether every row is fine on every kernel.
func (r *Report) OK() bool {
	for i := range r.Columns {
		if r.Columns[i].Failure != "" {
			return false
		}
		for j := range r.Columns[i].Rows {
			if r.Columns[i].Rows[j].State != OK {
				return false
			}
		}
	}
	return true
}

// Broken reports whether a kernel as a whole failed: nothing is known then about the scripts.
func (r *Report) Broken() bool {
	for i := range r.Columns {
		if r.Columns[i].Failure != "" {
			return true
		}
	}
	return false
}

// FirstError is the reason of a row: its first error in one line.
func FirstError(list []Diagnostic) string {
	for _, d := range list {
		if d.Severity == "error" {
			msg, _, _ := strings.Cut(d.Message, "\n")
			if d.Code != "" {
				msg += " [" + d.Code + "]"
			}
			if d.Line > 0 {
				return fmt.Sprintf("line %d: %s", d.Line, msg)
			}
			return msg
		}
	}
	return ""
}
