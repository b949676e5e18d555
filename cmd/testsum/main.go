// Testsum reads the stream of go test -json, shows what a person wants to see
// of it, and ends with one line:
//
//	812 passed, 0 failed, 31 skipped
//
// It fails when a test failed, when a package did not build, when nothing ran,
// and when a test was skipped for a reason that does not start with "needs ":
// a machine without rights must not look green by accident.
//
//	go test -json ./... | testsum [-v] [-o events.json]
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(argv []string, stdin io.Reader, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("testsum", flag.ContinueOnError)
	fs.SetOutput(stderr)
	verbose := fs.Bool("v", false, "list every skipped test with its reason")
	copyTo := fs.String("o", "", "also write the stream to `file`")
	if err := fs.Parse(argv); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	in := stdin
	if *copyTo != "" {
		f, err := os.Create(*copyTo)
		if err != nil {
			fmt.Fprintln(stderr, "testsum:", err)
			return 2
		}
		defer f.Close()
		in = io.TeeReader(stdin, f)
	}
	s := newSummary(stdout)
	if err := s.read(in); err != nil {
		fmt.Fprintln(stderr, "testsum:", err)
		return 2
	}
	if !s.finish(*verbose) {
		return 1
	}
	return 0
}
