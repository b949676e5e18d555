package shell

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sonde-sh/sonde/lang/diag"
)

// command is one command of the prompt. Dispatch, help and completion read it.
type command struct {
	name    string
	aliases []string
	args    string // as the help shows them
	group   string
	summary string
	doc     string // more lines for `\help name`
	takes   string // what its argument completes as: "map", "item", "path", "pattern", "command", "topic", "set", "lesson"
	// word tells whether the name alone, without a backslash, is the command whatever follows; others need an argument that is no code.
	run func(sh *Shell, ctx context.Context, args string) error
}

// The groups of the help, in order.
const (
	groupItems  = "items"
	groupMaps   = "maps"
	groupLearn  = "looking things up"
	groupScreen = "the screen and the session"
	groupWork   = "at work"
)

// commands is the table of commands.
func commands() []command {
	return slices.Concat(itemCommands(), mapCommands(), lookCommands(), sessionCommands(), workCommands())
}

// command finds the command of a line: `\name args`, with any prefix that only one command has, or the name as a word.
func (sh *Shell) command(text string) (cmd *command, args string) {
	line, rest, more := strings.Cut(text, "\n")
	if more && strings.TrimSpace(rest) != "" {
		return nil, ""
	}
	word, args, _ := strings.Cut(strings.TrimSpace(line), " ")
	args = strings.TrimSpace(args)
	if name, ok := strings.CutPrefix(word, `\`); ok {
		// `\d@x` and `\#1` read as they look.
		if i := strings.IndexAny(name, "@#"); i > 0 {
			name, args = name[:i], strings.TrimSpace(name[i:]+" "+args)
		}
		c, _ := findCommand(name)
		return c, args
	}
	if !isWord(word) {
		return nil, ""
	}
	exact := exactCommand(word)
	if exact == nil && len(word) > 1 && sh.reg.Builtin(word) == nil && !strings.ContainsAny(args, "{}();=") {
		exact, _ = findCommand(word)
	}
	if exact == nil || startsOperator(args) {
		return nil, ""
	}
	if b := sh.reg.Builtin(word); b != nil && args == "" && b.Var != nil {
		return nil, "" // a variable of the language wins
	}
	return exact, args
}

func isWord(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == ""
}

// startsOperator tells code that begins with the name of a command: `time = 3`, `print (x)`, `list: ...`.
func startsOperator(args string) bool {
	return args != "" && strings.ContainsAny(args[:1], "=(+:?,{<>&|^") || strings.HasPrefix(args, "/") && strings.Contains(args, "{")
}

func exactCommand(word string) *command {
	list := commands()
	for i := range list {
		if list[i].name == word || len(word) > 1 && slices.Contains(list[i].aliases, word) {
			return &list[i]
		}
	}
	return nil
}

// findCommand finds a command by its name, an alias or a prefix; near is what a prefix could mean when it means more than one.
func findCommand(name string) (c *command, near []string) {
	list := commands()
	for i := range list {
		if list[i].name == name || slices.Contains(list[i].aliases, name) {
			return &list[i], nil
		}
	}
	for i := range list {
		if name != "" && strings.HasPrefix(list[i].name, name) {
			near = append(near, list[i].name)
			c = &list[i]
		}
	}
	if len(near) != 1 {
		return nil, near
	}
	return c, nil
}

func commandNames() []string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	slices.Sort(names)
	return names
}

func (sh *Shell) unknownCommand(text string) error {
	name, _, _ := strings.Cut(strings.TrimPrefix(text, `\`), " ")
	_, near := findCommand(name)
	if len(near) > 1 {
		return hintf("write one letter more", "`\\%s` could be: \\%s", name, strings.Join(near, ", \\"))
	}
	if n := diag.Nearest(name, commandNames()); n != "" {
		return hintf(fmt.Sprintf("did you mean `\\%s`? `\\help` lists all commands", n), "there is no command `\\%s`", name)
	}
	return hintf("`\\help` lists all commands", "there is no command `\\%s`", name)
}
