package shell

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/sonde-sh/sonde/runtime/kernel"
	"github.com/sonde-sh/sonde/stdlib"
)

// TestMain makes the test binary a prompt when it is started as one, so that tests can talk to it through a terminal.
func TestMain(m *testing.M) {
	if os.Getenv("SONDE_TEST_PROMPT") == "" {
		os.Exit(m.Run())
	}
	k, err := kernel.Open(kernel.Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	machine := stdlib.NewMachine(k)
	sh, err := New(Config{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Kernel: k, Machine: machine, Terminal: true, Plain: os.Getenv("TERM") == "dumb",
		Color: os.Getenv("NO_COLOR") == "", Version: "test", History: os.Getenv("SONDE_TEST_PROMPT"),
	})
	if err == nil {
		err = sh.RunTerminal(context.Background(), os.Stdin, os.Stdout)
		if cerr := sh.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// terminal is a prompt behind a pseudo-terminal.
type terminal struct {
	t   *testing.T
	f   *os.File
	cmd *exec.Cmd

	mu   sync.Mutex
	out  bytes.Buffer // everything so far
	seen int          // up to where expect has looked
	end  chan struct{}
}

func startTerminal(t *testing.T, history string, env ...string) *terminal {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Skipf("needs the right to use BPF: %v", err)
	}
	m.Close()
	if history == "" {
		history = filepath.Join(t.TempDir(), "history")
	}
	c := exec.Command(os.Args[0])
	c.Env = append(append(os.Environ(), "SONDE_TEST_PROMPT="+history, "TERM=xterm-256color"), env...)
	f, err := pty.StartWithSize(c, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	term := &terminal{t: t, f: f, cmd: c, end: make(chan struct{})}
	go func() {
		defer close(term.end)
		buf := make([]byte, 64<<10)
		for {
			n, err := f.Read(buf)
			term.mu.Lock()
			term.out.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		_ = f.Close()
	})
	term.expect(`sonde> `)
	return term
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]|\x1b[78]")

// expect waits until a pattern appears in what was printed since the last one, escape sequences removed.
func (term *terminal) expect(pattern string) string {
	term.t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.Now().Add(patience)
	for {
		term.mu.Lock()
		raw := term.out.Bytes()[term.seen:]
		text := escapes.ReplaceAllString(string(raw), "")
		total := term.out.Len()
		term.mu.Unlock()
		if m := re.FindString(text); m != "" {
			term.mu.Lock()
			term.seen = total
			term.mu.Unlock()
			return text
		}
		if time.Now().After(deadline) {
			term.t.Fatalf("%q did not appear in\n%s", pattern, text)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (term *terminal) send(keys string) {
	term.t.Helper()
	if _, err := term.f.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

// line types a line and waits for what it prints.
func (term *terminal) line(text, pattern string) string {
	term.t.Helper()
	term.send(text)
	shown := strings.ReplaceAll(text, "\x00", "")
	term.expect(regexp.QuoteMeta(shown[max(0, len(shown)-8):])) // the echo, so that it is not taken for the answer
	term.send("\r")
	return term.expect(pattern)
}

// command waits until the terminal is no longer in the hands of the line editor: a command runs, or is about to.
func (term *terminal) command() {
	term.t.Helper()
	until(term.t, "the end of editing", func() bool {
		m, err := unix.IoctlGetTermios(int(term.f.Fd()), unix.TCGETS)
		if err != nil {
			term.t.Fatal(err)
		}
		return m.Lflag&unix.ISIG != 0
	})
}

// still waits until nothing has been printed for a while.
func (term *terminal) still() {
	term.t.Helper()
	last, since := -1, time.Now()
	until(term.t, "silence", func() bool {
		term.mu.Lock()
		n := term.out.Len()
		term.mu.Unlock()
		if n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 500*time.Millisecond
	})
}

// leave presses Ctrl-D and waits for the end of the process.
func (term *terminal) leave() {
	term.t.Helper()
	term.send("\x04")
	select {
	case <-term.end:
	case <-time.After(patience):
		term.t.Fatal("the prompt did not end")
	}
	if err := term.cmd.Wait(); err != nil {
		term.t.Errorf("the prompt ended with %v", err)
	}
}

func TestTerminalTyping(t *testing.T) {
	term := startTerminal(t, "")
	term.line("1 << 20", `1048576\s+sonde> `)
	term.line("tracepoint:raw_syscalls:sys_enter { @[comm] = count() }", `#1 attached 1 probe by .* in .*\s+sonde> `)
	term.line("list", `#1 +attached`)
	term.line("nosuch + 1", `ERROR: Unknown identifier: 'nosuch'[^\n]*\s+nosuch \+ 1\s+~~~~~~`)
	term.line("6 * 7", `42\s+sonde> `)
	term.leave()
	if !strings.Contains(term.out.String(), "data quality: ") {
		t.Error("the data-quality line is missing at the end")
	}
}

func TestTerminalCompletion(t *testing.T) {
	term := startTerminal(t, "")
	term.send("tracepoint:raw_sysc\t")
	term.expect(`tracepoint:raw_syscalls:`)
	term.send("sys_ent\t")
	term.expect(`sys_enter`)
	term.send(" { @[usern\t")
	term.expect(`@\[username`)
	term.send("] = count() }\r")
	term.expect(`#1 attached`)
	term.send(`curtask->mm->mmap_l` + "\t")
	term.expect(`(?s)mmap_legacy_base +uint64.*mmap_lock +struct rw_semaphore`)
}

func TestTerminalHistory(t *testing.T) {
	history := filepath.Join(t.TempDir(), "state", "history")
	term := startTerminal(t, history)
	term.line("111 * 3", `333\s+sonde> `)
	term.send("if (1 == 1) {\r")
	term.expect(`\.\.\.> `)
	term.send("printf(\"a block\\n\") // said\r")
	term.expect(`\.\.\.> `)
	term.send("}\r")
	term.expect(`a block\s+sonde> `)
	term.leave()
	again := startTerminal(t, history)
	again.send("\x1b[A") // the whole block comes back as one line
	again.expect(`if \(1 == 1\) \{ printf\("a block\\n"\) /\* said \*/ \}`)
	again.send("\r")
	again.expect(`a block\s+sonde> `)
	again.send("\x12111") // Ctrl-R searches
	again.expect(`111 \* 3`)
	again.send("\r")
	again.expect(`333\s+sonde> `)
}

// TestTerminalTypeAhead presses Ctrl-D while a command runs, when the terminal and not the editor takes the key.
func TestTerminalTypeAhead(t *testing.T) {
	term := startTerminal(t, "")
	term.send("\\sleep 0.5\r")
	term.command()
	term.leave()
}

// TestTerminalZero presses Ctrl-Space, which the terminal sends as a zero byte: in an empty line, in the middle, and while a command runs.
func TestTerminalZero(t *testing.T) {
	term := startTerminal(t, "")
	term.send("\x00")
	term.line("6 * \x007", `42\s+sonde> `)
	term.send("\\sleep 0.5\r")
	term.command()
	term.send("\x00\x00")
	term.expect(`sonde> `)
	term.line("3 + 4", `7\s+sonde> `)
	term.leave()
}

// TestTerminalIsGivenBack looks at the mode that the terminal has afterwards, and that an editor finds.
func TestTerminalIsGivenBack(t *testing.T) {
	eof := func(f *os.File) uint8 {
		m, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if m.Lflag&unix.ICANON == 0 {
			return 0
		}
		return m.Cc[unix.VEOF]
	}
	note := filepath.Join(t.TempDir(), "mode")
	term := startTerminal(t, "", "VISUAL=", "EDITOR=stty -a >"+note+"; true")
	term.send("\\edit\r")
	term.expect(`nothing changed\s+sonde> `)
	if b, _ := os.ReadFile(note); !strings.Contains(string(b), "eof = ^D") || !strings.Contains(string(b), " icanon") {
		t.Errorf("the editor finds a terminal with\n%s", b)
	}
	// The terminal is there for as long as somebody has it open.
	tty, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/0", term.cmd.Process.Pid), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	term.send("\x04")
	if err := term.cmd.Wait(); err != nil {
		t.Errorf("the prompt ended with %v", err)
	}
	if c := eof(tty); c != 4 {
		t.Errorf("the end of the input is key %d afterwards, or the terminal is still raw", c)
	}
}

// TestTerminalEdit changes an item in an editor: what comes back takes its place, a mistake leaves the old one attached.
func TestTerminalEdit(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "editor")
	write := func(text string) {
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	term := startTerminal(t, "", "VISUAL=", "EDITOR="+script)
	term.line("rawtracepoint:sys_enter { @before = count() }", `#1 attached`)
	write(`sed -i s/before/after/ "$1"`)
	term.line(`\edit #1`, `#1 attached 1 probe`)
	term.line(`\d #1`, `@after = count\(\)`)
	write(`echo 'rawtracepoint:sys_enter { @ = nosuch }' > "$1"`)
	term.line(`\edit #1`, `Unknown identifier: 'nosuch'`)
	term.line(`\d #1`, `#1 attached\s+rawtracepoint:sys_enter \{ @after`)
	write("exit 3")
	term.line(`\edit`, `ERROR: edit: .* failed: exit status 3\s+HINT`)
	// An editor that uses the terminal: it reads a key.
	write(`stty -icanon -echo; printf 'key? '; k=$(dd bs=1 count=1 2>/dev/null); stty sane; sed -i "s/after/key_$k/" "$1"`)
	term.send("\\edit #1\r")
	term.expect(`key\? `)
	term.send("x")
	term.expect(`#1 attached 1 probe`)
	term.send("\x1b[A") // what was edited is in the history
	term.expect(`@key_x = count\(\)`)
	term.send("\x03")
	term.line("6 * 7", `42\s+sonde> `)
	term.leave()
}

// TestTerminalVi uses keys of vi.
func TestTerminalVi(t *testing.T) {
	term := startTerminal(t, "")
	term.line(`\set vi on`, `sonde> `)
	term.send("1111 * 2")
	term.expect(`1111 \* 2`)
	term.send("\x1b") // leaves the insert mode
	time.Sleep(100 * time.Millisecond)
	term.send("0x") // deletes the first character
	time.Sleep(100 * time.Millisecond)
	term.send("A + 1\r") // appends
	term.expect(`223\s+sonde> `)
	term.send("\x1b")
	time.Sleep(100 * time.Millisecond)
	term.send("k") // the line before
	term.expect(`111 \* 2 \+ 1`)
	term.send("\r")
	term.expect(`223\s+sonde> `)
	term.line(`\set vi off`, `sonde> `)
	term.line("2 * 4", `8\s+sonde> `)
	term.leave()
}

func TestTerminalPaste(t *testing.T) {
	term := startTerminal(t, "")
	// Tabs and line breaks inside of a paste are text, not keys.
	term.send(pasteStart + "if (1 == 1) {\n\tprintf(\"pasted\\n\");\n}" + pasteEnd)
	term.send("\r")
	term.expect(`pasted\s+sonde> `)
}

func TestTerminalInterrupt(t *testing.T) {
	term := startTerminal(t, "")
	term.send("printf(\"never")
	term.expect("never")
	term.send("\x03")
	term.expect(`\^C\s+sonde> `)
	term.send("rawtracepoint:sys_enter {\r")
	term.expect(`\.\.\.> `)
	term.send("\x03")
	term.expect(`sonde> `)
	term.line("2 + 2", `4\s+sonde> `)
	// A command that waits is canceled by the signal.
	term.send("\\sleep 600\r")
	term.command()
	term.send("\x03")
	term.expect(`sonde> `)
	term.line("2 + 3", `5\s+sonde> `)
	term.leave()
}

func TestTerminalWatch(t *testing.T) {
	term := startTerminal(t, "")
	term.line("tracepoint:raw_syscalls:sys_enter { @[comm] = count() }", `#1 attached`)
	term.send("\\watch @ 0.1 rate\r")
	term.expect(`(?s)@ every 100ms.*q leaves.*PER SECOND`)
	if err := pty.Setsize(term.f, &pty.Winsize{Rows: 10, Cols: 60}); err != nil {
		t.Fatal(err)
	}
	term.expect(`every 100ms`)
	for _, leave := range []string{"q", "\x03"} {
		term.send(leave)
		term.expect(`sonde> `)
		if leave == "q" {
			term.send("\\watch @ 0.1\r")
			term.expect(`every 100ms`)
		}
	}
	term.line("1 + 1", `2\s+sonde> `)
	if !strings.Contains(term.out.String(), "\x1b[?1049l") {
		t.Error("the view does not give the screen back")
	}
}

// A thousand lines of events a second do not tear what is typed, and what is not shown is counted.
func TestTerminalEventsWhileTyping(t *testing.T) {
	term := startTerminal(t, "")
	term.line(`interval:ms:1 { printf("event %d\n", nsecs) }`, `#1 attached`)
	term.expect(`event \d+`)
	for _, r := range "1111 * 3" {
		term.send(string(r))
		time.Sleep(30 * time.Millisecond)
	}
	term.expect(`(?s)event \d+.*sonde> 1111 \* 3`)
	term.send("\r")
	term.expect(`3333\r?\n`)
	term.expect(`\.\.\. [\d,]+ more lines not shown`)
	term.send("\\mute #1\r")
	term.still() // what was printed before may wait to be shown
	term.send("5 * 5\r")
	term.expect(`\b25\s+sonde> `)
	for line := range strings.Lines(escapes.ReplaceAllString(term.out.String(), "")) {
		line = strings.TrimRight(line, "\r\n")
		if i := strings.LastIndex(line, "\r"); i >= 0 {
			line = line[i+1:]
		}
		if strings.HasPrefix(line, "event ") && !regexp.MustCompile(`^event \d+$`).MatchString(line) {
			t.Errorf("an event is torn: %q", line)
		}
	}
}

func TestTerminalDumb(t *testing.T) {
	term := startTerminal(t, "", "TERM=dumb", "NO_COLOR=1")
	term.send("1 +\n")
	term.expect(`\.\.\.> `)
	term.send("1\n")
	term.expect(`2\s+sonde> `)
	term.send("list\n")
	term.expect(`no items yet`)
	if strings.Contains(term.out.String(), "\x1b") {
		t.Errorf("escape sequences on a dumb terminal: %q", term.out.String())
	}
	term.leave()
}

// When the process is killed, nothing stays behind in the kernel.
func TestKilledPromptLeavesNothing(t *testing.T) {
	term := startTerminal(t, "")
	const name = "left_behind_map"
	term.line("rawtracepoint:sys_enter { @"+name+"[pid] = count() }", `#1 attached`)
	if n := mapsNamed(t, name); n != 1 {
		t.Fatalf("%d maps are named %s while the probe is attached", n, name)
	}
	if err := term.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = term.cmd.Wait()
	until(t, "the end of the map", func() bool { return mapsNamed(t, name) == 0 })
}

func mapsNamed(t *testing.T, name string) int {
	t.Helper()
	n := 0
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if err != nil {
			return n
		}
		id = next
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue
		}
		if info, err := m.Info(); err == nil && info.Name == name {
			n++
		}
		m.Close()
	}
}
