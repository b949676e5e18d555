package lab

import (
	"errors"
	"fmt"
	"strings"
)

// ErrorKind says why a guest gave no full result.
type ErrorKind uint8

// The kinds of failure of a guest as a whole.
const (
	KindInvalid ErrorKind = iota
	// KindBoot: the guest's init never reported.
	KindBoot
	// KindPanic: the kernel panicked or oopsed.
	KindPanic
	// KindTimeout: the guest did not finish in [Config.Timeout].
	KindTimeout
	// KindFlood: more than [Config.MaxOutputBytes] came back.
	KindFlood
	// KindMemory: the kernel had no memory to go on.
	KindMemory
	// KindInit: the guest's init could not set up or start something.
	KindInit
	// KindLost: QEMU ended before the guest was done.
	KindLost
)

// String returns the kind as one or two words.
func (k ErrorKind) String() string {
	switch k {
	case KindBoot:
		return "did not boot"
	case KindPanic:
		return "kernel panic"
	case KindTimeout:
		return "timeout"
	case KindFlood:
		return "output flood"
	case KindMemory:
		return "out of memory"
	case KindInit:
		return "init failed"
	case KindLost:
		return "guest lost"
	default:
		return "invalid"
	}
}

// Error is the failure of a guest as a whole. Jobs that had ended before keep
// their results.
type Error struct {
	Kind ErrorKind
	// Kernel is the release or name of the kernel that was booted.
	Kernel string
	// Detail is one line: the panic message, the limit that was hit.
	Detail string
	// Console is the tail of the kernel's console.
	Console string
}

// Error returns one line, without the console.
func (e *Error) Error() string {
	return fmt.Sprintf("lab: kernel %s: %s: %s", e.Kernel, e.Kind, e.Detail)
}

// MissingError says that a program the lab needs is not installed.
type MissingError struct {
	Program string
	// Package is the Debian package that brings it.
	Package string
}

// Error names the program and the package.
func (e *MissingError) Error() string {
	return fmt.Sprintf("lab: %s is not installed: install the package %s", e.Program, e.Package)
}

// ErrNoKernel is wrapped by the errors of [Catalogue.Fetch] when the mirror
// or the cache has no kernel for a spec.
var ErrNoKernel = errors.New("no such kernel")

// lastLines returns at most n lines from the end of s.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\r\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

// Message is the text of an error for a person, who need not be told that it comes from the lab.
func Message(err error) string { return strings.TrimPrefix(err.Error(), "lab: ") }
