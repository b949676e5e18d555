// Package flame shows where time (or anything else that is counted by stack) goes: folded stacks, flame graphs as searchable SVG, and
// profiles for `go tool pprof`.
//
// It knows no kernel and no script: the session gives it [Sample] values, and [ParseFolded] reads those of other tools. It imports nothing of
// ours, keeps no state, and its functions may be called from several goroutines. Read [Fold] first.
package flame

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Frame is one function of a stack.
type Frame struct {
	// Name is the function, or the address in hexadecimal when it has no name.
	Name string
	// Addr is the address in the process, 0 when unknown.
	Addr uint64
	// Module is the file, kernel module or place in brackets that the code is in, "" when unknown.
	Module string
	// FileOffset is the place of Addr in Module, BuildID that of the file in hexadecimal.
	FileOffset uint64
	BuildID    string
	// File and Line are the source, "" and 0 when unknown.
	File string
	Line int
	// Kernel is set for code of the kernel.
	Kernel bool
	// Inlined is set for a function whose code is in that of the frame before it, its caller.
	Inlined bool
}

// Sample is a stack with what was counted for it.
type Sample struct {
	// Labels are what stands before the stack: the name of the process and so on.
	Labels []string
	// Frames are the functions, the outermost first.
	Frames []Frame
	Value  int64
}

// names are the parts of a folded stack, outermost first. Semicolons, which part them, become colons.
func (s *Sample) names() []string {
	out := make([]string, 0, len(s.Labels)+len(s.Frames))
	for _, l := range s.Labels {
		out = append(out, clean(l))
	}
	for i := range s.Frames {
		name := clean(s.Frames[i].Name)
		if s.Frames[i].Kernel {
			name += kernelMark
		}
		out = append(out, name)
	}
	if len(out) == 0 {
		return []string{noStack} // such as the kernel's while a program runs in user space
	}
	return out
}

const noStack = "[no stack]"

// kernelMark ends the names of the kernel's functions, as other tools have it.
const kernelMark = "_[k]"

func clean(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ';':
			return ':'
		case r < ' ':
			return ' '
		}
		return r
	}, name)
}

// Stack is a folded stack.
type Stack struct {
	Names []string // outermost first
	Value int64
}

// Fold adds up samples with the same names, in the order of the names.
func Fold(samples []Sample) []Stack {
	sums := make(map[string]int64, len(samples))
	for i := range samples {
		sums[strings.Join(samples[i].names(), ";")] += samples[i].Value
	}
	out := make([]Stack, 0, len(sums))
	for text, v := range sums {
		out = append(out, Stack{strings.Split(text, ";"), v})
	}
	slices.SortFunc(out, func(a, b Stack) int { return slices.Compare(a.Names, b.Names) })
	return out
}

// WriteFolded writes one line for each stack: the names, parted by semicolons, and the number.
func WriteFolded(w io.Writer, stacks []Stack) error {
	b := bufio.NewWriter(w)
	for _, s := range stacks {
		fmt.Fprintf(b, "%s %d\n", strings.Join(s.Names, ";"), s.Value)
	}
	return b.Flush()
}

// ParseFolded reads what WriteFolded and other tools write. Empty lines and lines that start with # are left out.
func ParseFolded(r io.Reader) ([]Stack, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<24)
	var out []Stack
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			return nil, fmt.Errorf("line %d: `%s` has no number at its end", n, line)
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil || v < 0 {
			return nil, fmt.Errorf("line %d: `%s` is no number of samples", n, line[i+1:])
		}
		out = append(out, Stack{strings.Split(strings.TrimSpace(line[:i]), ";"), int64(v)})
	}
	slices.SortStableFunc(out, func(a, b Stack) int { return slices.Compare(a.Names, b.Names) })
	return out, sc.Err()
}
