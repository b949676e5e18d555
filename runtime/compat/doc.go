// Package compat holds the scripts that show where sonde does what bpftrace does, as tests: testdata/*.txt are lists of cases, each a program
// with what it must print. A case marked SAME is also given to the machine's own bpftrace, and the two outputs are compared. docs/compat.md
// says in prose what differs and why.
//
// A case is a block of lines between blank lines, each a directive and its text:
//
//	NAME          what the case shows, unique in its file
//	PROG          the program, for -e
//	RUN           more arguments; words between blanks
//	ENV           NAME=VALUE for the environment, repeatable
//	EXPECT        a line that must be printed (standard output or error), repeatable and in this order
//	EXPECT_REGEX  an expression that the whole output must match
//	EXPECT_NONE   an expression that must match nothing
//	EXIT          the exit status, 0 when not given
//	BEFORE        a command of the shell that runs meanwhile and is ended afterwards
//	AFTER         a command of the shell that is run once the probes are attached
//	REQUIRES      a command of the shell that must succeed, else the case is skipped
//	TIMEOUT       seconds, 120 when not given
//	SAME          bpftrace prints the same; the text, if any, says from which version on
//	DIFFERS       why bpftrace prints something else, for the reader
//
// SONDE_COMPAT_PEER names another bpftrace than the one of the PATH.
//
// The package has tests only and imports nothing of ours: it runs the binary. Read TestCompat first.
package compat
