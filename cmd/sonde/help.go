package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/sonde-sh/sonde/cmd/sonde/shell"
)

// printHelp prints a help text, folded to the terminal's width where it goes to a terminal.
func printHelp(w io.Writer, text string) {
	if cols, _, ok := shell.TerminalSize(w); ok && cols >= 40 {
		text = foldHelp(text, cols)
	}
	fmt.Fprint(w, text)
}

// foldHelp breaks lines of more than width columns between words. Lines of a paragraph are joined first; what belongs to an option goes on below
// its own beginning.
func foldHelp(text string, width int) string {
	var b strings.Builder
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		indent := hanging(line)
		command := strings.HasPrefix(strings.TrimSpace(line), "sonde ") && !strings.Contains(strings.TrimSpace(line), "  ")
		if command || strings.HasPrefix(line, "USAGE: ") {
			b.WriteString(line + "\n") // as it would be typed
			continue
		}
		if indent == 0 { // a paragraph
			for i+1 < len(lines) && lines[i+1] != "" && lines[i+1][0] != ' ' && line != "" && !strings.HasSuffix(line, ":") && !strings.HasPrefix(lines[i+1], "EXIT STATUS") {
				i++
				line += " " + lines[i]
			}
		} else if len(line) > width { // its own further lines
			for i+1 < len(lines) && len(lines[i+1]) > indent && strings.Trim(lines[i+1][:indent], " ") == "" && lines[i+1][indent] != ' ' {
				i++
				line += " " + strings.TrimSpace(lines[i])
			}
		}
		for len(line) > width {
			cut := strings.LastIndexByte(line[:width+1], ' ')
			if cut <= indent {
				break
			}
			b.WriteString(strings.TrimRight(line[:cut], " ") + "\n")
			line = strings.Repeat(" ", indent) + strings.TrimLeft(line[cut:], " ")
		}
		b.WriteString(line)
		if i < len(lines)-1 {
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// hanging is the column where the description of an option begins, behind the last gap of two blanks or more; for other lines their indentation.
func hanging(line string) int {
	start := len(line) - len(strings.TrimLeft(line, " "))
	if gap := strings.Index(line[start:], "  "); start > 0 && gap > 0 {
		rest := line[start+gap:]
		return start + gap + len(rest) - len(strings.TrimLeft(rest, " "))
	}
	return start
}
