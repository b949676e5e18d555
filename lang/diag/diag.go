// Package diag holds diagnostics: what is wrong, where in the script, and what to do about it.
//
// Stages collect diagnostics in a [List] and go on; the driver decides when to stop. The first line of a rendered
// diagnostic has the form that bpftrace's users and editors know, `stdin:1:12-26: ERROR: message [E0301]`, followed by
// the source line, its underline and `HINT:` lines. Imports: lang/source.
package diag

import (
	"fmt"
	"slices"
	"sort"

	"github.com/sonde-sh/sonde/lang/source"
)

// Severity orders diagnostics; only errors stop a compilation.
type Severity uint8

// The severities.
const (
	Error Severity = iota
	Warning
	Note
)

func (s Severity) String() string {
	switch s {
	case Error:
		return "ERROR"
	case Warning:
		return "WARNING"
	default:
		return "NOTE"
	}
}

// Code is a stable name such as "E0301"; the table in codes.go documents each one.
type Code string

// Label points at another place that takes part in a diagnostic ("first defined here").
type Label struct {
	Span source.Span
	Text string
}

// Fix is a replacement that a tool may apply.
type Fix struct {
	Span source.Span
	Text string
}

// Diagnostic is one finding. Message is lower case, without full stop, user text in backquotes.
type Diagnostic struct {
	Severity Severity
	Code     Code
	Span     source.Span // invalid for findings about the whole run
	Message  string
	Labels   []Label
	Hints    []string // each starts with a verb
	Origins  []Label  // where the code came from: macro call, import, library script; innermost first
	Notes    []string // raw details, such as the useful lines of a verifier log
	Fix      *Fix
	Brief    bool // one line, without the source
}

func (d *Diagnostic) Error() string { return fmt.Sprintf("%s [%s]", d.Message, d.Code) }

// Hint appends a hint and returns d, so that calls chain.
func (d *Diagnostic) Hint(format string, args ...any) *Diagnostic {
	d.Hints = append(d.Hints, fmt.Sprintf(format, args...))
	return d
}

// Label appends a label and returns d.
func (d *Diagnostic) Label(sp source.Span, format string, args ...any) *Diagnostic {
	d.Labels = append(d.Labels, Label{sp, fmt.Sprintf(format, args...)})
	return d
}

// List collects diagnostics. The zero value is ready; it is not safe for concurrent use.
type List struct{ all []*Diagnostic }

// Errorf adds an error and returns it for hints and labels.
func (l *List) Errorf(code Code, sp source.Span, format string, args ...any) *Diagnostic {
	return l.Add(&Diagnostic{Severity: Error, Code: code, Span: sp, Message: fmt.Sprintf(format, args...)})
}

// Warnf adds a warning and returns it for hints and labels.
func (l *List) Warnf(code Code, sp source.Span, format string, args ...any) *Diagnostic {
	return l.Add(&Diagnostic{Severity: Warning, Code: code, Span: sp, Message: fmt.Sprintf(format, args...)})
}

// Add appends a finished diagnostic and returns it.
func (l *List) Add(d *Diagnostic) *Diagnostic {
	l.all = append(l.all, d)
	return d
}

// Drop takes back all but the first n diagnostics.
func (l *List) Drop(n int) { l.all = l.all[:n] }

// Filter forgets those behind the first n that keep does not want.
func (l *List) Filter(n int, keep func(*Diagnostic) bool) {
	l.all = append(l.all[:n], slices.DeleteFunc(l.all[n:], func(d *Diagnostic) bool { return !keep(d) })...)
}

// Len returns the number of diagnostics so far.
func (l *List) Len() int { return len(l.all) }

// HasErrors reports whether any diagnostic is an error.
func (l *List) HasErrors() bool {
	for _, d := range l.all {
		if d.Severity == Error {
			return true
		}
	}
	return false
}

// All returns the diagnostics sorted by position (those without one last), stable within a position.
func (l *List) All() []*Diagnostic {
	out := append([]*Diagnostic(nil), l.all...)
	sort.SliceStable(out, func(i, j int) bool {
		a, b := out[i].Span, out[j].Span
		if a.IsValid() != b.IsValid() {
			return a.IsValid()
		}
		return a.Start < b.Start
	})
	return out
}

// Err returns l as an error when it holds errors, else nil.
func (l *List) Err() error {
	if l.HasErrors() {
		return l
	}
	return nil
}

func (l *List) Error() string {
	for _, d := range l.All() {
		if d.Severity == Error {
			return d.Error()
		}
	}
	return "no error"
}
