package shell

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/chzyer/readline"
	"golang.org/x/sys/unix"
)

// The prompts of a new line and of a line that continues a block.
const (
	prompt     = "sonde> "
	morePrompt = "  ...> "
)

// editor is the line editor, our own view of readline.
type editor struct {
	rl    *readline.Instance
	keys  *keyboard
	raw   *rawTerminal
	block string // the lines of the block so far
	comp  *completer
	out   *os.File
}

// HistoryFile is where the lines that are typed are kept: below $XDG_STATE_HOME or ~/.local/state. "" without a home.
func HistoryFile() string {
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "sonde", "history")
}

func newEditor(sh *Shell, in, out *os.File) (*editor, error) {
	keys, err := newKeyboard(in)
	if err != nil {
		return nil, err
	}
	e := &editor{keys: keys, out: out}
	history := sh.cfg.History
	if history != "" && os.MkdirAll(filepath.Dir(history), 0o700) != nil {
		history = ""
	}
	e.comp = newCompleter(sh)
	cfg := &readline.Config{
		Prompt: prompt, HistoryFile: history, HistoryLimit: 5000, DisableAutoSaveHistory: true, HistorySearchFold: true,
		AutoComplete: e, InterruptPrompt: "^C", EOFPrompt: "", VimMode: sh.set.vi,
		Stdin: keys, Stdout: out, Stderr: out,
		FuncIsTerminal: func() bool { return true },
		FuncGetWidth:   func() int { cols, _ := screenSize(out); return cols },
	}
	if e.raw, err = newRawTerminal(in); err != nil {
		return nil, err
	}
	cfg.FuncMakeRaw = func() error {
		defer sh.listen(false)
		return e.raw.enter()
	}
	cfg.FuncExitRaw = func() error {
		sh.listen(true)
		return e.raw.leave()
	}
	if sh.cfg.Color {
		cfg.Painter = &painter{sh: sh, editor: e}
	}
	if e.rl, err = readline.NewEx(cfg); err != nil {
		return nil, err
	}
	return e, nil
}

// rawTerminal switches the terminal between editing, waiting for one of our commands, and the mode that it was found in.
type rawTerminal struct {
	fd    int
	found unix.Termios
}

func newRawTerminal(f *os.File) (*rawTerminal, error) {
	r := &rawTerminal{fd: int(f.Fd())}
	t, err := unix.IoctlGetTermios(r.fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	r.found = *t
	return r, nil
}

func (r *rawTerminal) enter() error {
	_, err := readline.MakeRaw(r.fd)
	return err
}

// leave is for the time of a command. A Ctrl-D that is typed then must wait for us as the key that it is: as the end of the input it would come
// as a zero byte once the line is edited again, and so does Ctrl-Space.
func (r *rawTerminal) leave() error {
	t := r.found
	t.Cc[unix.VEOF] = 0 // _POSIX_VDISABLE
	return unix.IoctlSetTermios(r.fd, unix.TCSETS, &t)
}

// restore gives the terminal back, to a program that we start or at the end.
func (r *rawTerminal) restore() { _ = unix.IoctlSetTermios(r.fd, unix.TCSETS, &r.found) }

// Do is what readline asks for candidates: what may follow, and how many runes before the cursor they share.
func (e *editor) Do(line []rune, pos int) ([][]rune, int) {
	list, n := e.comp.complete(e.block, string(line[:pos]))
	out := make([][]rune, len(list))
	for i, c := range list {
		out[i] = []rune(c)
	}
	return out, n
}

// RunTerminal lets the user type until he leaves.
func (sh *Shell) RunTerminal(ctx context.Context, in, out *os.File) error {
	if sh.cfg.Plain {
		return sh.runPlain(ctx, in)
	}
	e, err := newEditor(sh, in, out)
	if err != nil {
		return fmt.Errorf("open the terminal: %w", err)
	}
	sh.editor = e
	defer func() {
		sh.out.retarget(out)
		_ = e.keys.Close() // the line editor may still be waiting for a key, and its end waits for it
		_ = e.rl.Close()
		e.raw.restore()
		sh.editor = nil
	}()
	defer sh.catchSignals(func() { _ = e.keys.Close() })()
	go e.comp.warm()
	sh.greet()
	sh.first(ctx)
	for !sh.quit && ctx.Err() == nil {
		fmt.Fprint(out, pasteModeOn)
		// Only while a line is typed is there one to print above: the editor's writer would repeat the prompt for a moment after Enter.
		sh.out.retarget(e.rl.Stdout())
		line, err := e.rl.Readline()
		sh.out.retarget(out)
		fmt.Fprint(out, pasteOff)
		switch {
		case errors.Is(err, readline.ErrInterrupt):
			e.setBlock("")
			continue
		case errors.Is(err, io.EOF):
			if e.block != "" {
				e.setBlock("")
				continue
			}
			return nil
		case err != nil:
			return fmt.Errorf("read the terminal: %w", err)
		}
		text := e.block + line
		if sh.incomplete(text) {
			e.setBlock(text + "\n")
			continue
		}
		e.setBlock("")
		if strings.TrimSpace(text) == "" {
			continue
		}
		sh.remember(text)
		sh.Line(ctx, text)
	}
	return nil
}

func (e *editor) setBlock(text string) {
	e.block = text
	if text == "" {
		e.rl.SetPrompt(prompt)
	} else {
		e.rl.SetPrompt(morePrompt)
	}
}

func (sh *Shell) greet() {
	release, _ := sh.cfg.Kernel.Release()
	sh.say("sonde %s, Linux %s\n\\help lists the commands, \\triage takes a first look, Ctrl-D leaves.", sh.cfg.Version, release)
}

// runPlain is the prompt of a terminal that cannot move its cursor.
func (sh *Shell) runPlain(ctx context.Context, in io.Reader) error {
	defer sh.catchSignals(func() { sh.quit = true })()
	sh.greet()
	sh.first(ctx)
	br := bufio.NewReader(in)
	block := ""
	for !sh.quit && ctx.Err() == nil {
		if block == "" {
			sh.write(prompt)
		} else {
			sh.write(morePrompt)
		}
		line, err := br.ReadString('\n')
		text := block + line
		if err == nil && sh.incomplete(text) {
			block = text
			continue
		}
		block = ""
		if strings.TrimSpace(text) != "" {
			sh.Line(ctx, text)
		}
		if err != nil {
			return nil
		}
	}
	return nil
}

// catchSignals makes Ctrl-C cancel what runs and SIGTERM or SIGHUP leave.
func (sh *Shell) catchSignals(leave func()) (stop func()) {
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-ch:
				sh.Interrupt()
				if s != os.Interrupt {
					leave()
				}
			case <-done:
				return
			}
		}
	}()
	return func() { signal.Stop(ch); close(done) }
}

// remember puts a line or block into the history, as one line, so that it comes back and is edited as a whole.
func (sh *Shell) remember(text string) {
	if sh.editor == nil {
		return
	}
	if line := historyLine(text); line != "" {
		_ = sh.editor.rl.SaveHistory(line)
	}
}

// historyLine joins the lines of a block. Comments to the end of a line become comments with an end; a block with preprocessor lines cannot be
// one line and gives "".
func historyLine(text string) string {
	var parts []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") && strings.Contains(strings.TrimSpace(text), "\n") {
			return ""
		}
		if i := commentStart(line); i >= 0 {
			line = line[:i] + "/*" + strings.ReplaceAll(line[i+2:], "*/", "* /") + " */"
		}
		if line != "" {
			parts = append(parts, line)
		}
	}
	return strings.Join(parts, " ")
}

// commentStart finds `//` outside of a string; -1 when there is none.
func commentStart(line string) int {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] == '\\' && quoted:
			i++
		case line[i] == '"':
			quoted = !quoted
		case !quoted && strings.HasPrefix(line[i:], "//") && (i == 0 || line[i-1] != ':'):
			return i
		}
	}
	return -1
}

// handOver gives the terminal to another program until the result is called.
func (sh *Shell) handOver() func() {
	sh.out.view(true)
	e := sh.editor
	if e == nil {
		return func() { sh.out.view(false) }
	}
	e.raw.restore()
	return func() {
		_ = e.raw.leave()
		sh.out.view(false)
	}
}

// width is the number of columns of the terminal, 100 where there is none.
func (sh *Shell) width() int {
	if f, ok := sh.cfg.Out.(*os.File); ok && sh.cfg.Terminal {
		cols, _ := screenSize(f)
		return max(cols, 40)
	}
	return 100
}

// height is how many rows the terminal has; 0 without one.
func (sh *Shell) height() int {
	if f, ok := sh.cfg.Out.(*os.File); ok && sh.cfg.Terminal {
		_, rows := screenSize(f)
		return rows
	}
	return 0
}
