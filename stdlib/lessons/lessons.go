// Package lessons is the course at the prompt: one data file for each lesson, embedded.
//
// A file has a head of `title:`, `try:`, `check:` and `hint:` lines, then, behind a line of three dashes each, what is told before and what
// is told once every check holds. What checks mean is in cmd/sonde/shell, which asks the kernel. Read [All] first. Imports: nothing of ours.
package lessons

import (
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed *.txt
var files embed.FS

// Lesson is one lesson.
type Lesson struct {
	Name   string // of its file, without number and ending
	Title  string
	Before string   // what is told at the start
	Try    []string // lines to type
	Checks []Check  // all must hold
	Hint   string
	After  string // what is told at the end
}

// Check is one condition: a word and its arguments.
type Check struct {
	What string
	Args []string
}

// All gives the lessons in order. An error is a mistake in a file.
func All() ([]Lesson, error) {
	names, err := fs.Glob(files, "*.txt")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	out := make([]Lesson, 0, len(names))
	for _, name := range names {
		b, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		l, err := Parse(strings.TrimSuffix(name[3:], ".txt"), string(b))
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// Parse reads the text of one lesson.
func Parse(name, text string) (Lesson, error) {
	l := Lesson{Name: name}
	parts := strings.Split(text, "\n---\n")
	if len(parts) != 3 {
		return l, fmt.Errorf("lesson %s: it has %d parts, not a head and two texts", name, len(parts))
	}
	for line := range strings.Lines(parts[0]) {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\n"), ": ")
		if !ok {
			return l, fmt.Errorf("lesson %s: `%s` is no line of a head", name, strings.TrimSpace(line))
		}
		switch key {
		case "title":
			l.Title = value
		case "try":
			l.Try = append(l.Try, value)
		case "check":
			words := strings.Fields(value)
			l.Checks = append(l.Checks, Check{words[0], words[1:]})
		case "hint":
			l.Hint = value
		default:
			return l, fmt.Errorf("lesson %s: unknown key `%s`", name, key)
		}
	}
	l.Before, l.After = strings.TrimSpace(parts[1]), strings.TrimSpace(parts[2])
	if l.Title == "" || l.Hint == "" || len(l.Try) == 0 || len(l.Checks) == 0 || l.Before == "" || l.After == "" {
		return l, fmt.Errorf("lesson %s: title, try, check, hint and both texts are needed", name)
	}
	return l, nil
}
