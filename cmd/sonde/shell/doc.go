// Package shell is the prompt: a session in which probes are attached, maps are looked at and questions are asked of a running kernel.
//
// A line is a command (`\list`, or the word `list`), an expression or statements (run once in the kernel), or a script item, which runs on as
// `#1` while the prompt is free. All items share their maps through runtime.Hub. Read [Shell.Line] first: every line goes through it, typed or
// read from a file.
//
// Imports: everything of ours below cmd. It is the only package that knows github.com/chzyer/readline. Concurrency: lines are handled by one
// goroutine; each item that runs has one more, which only prints (through screen) and reports its end.
package shell
