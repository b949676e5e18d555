package shell

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// Limits of what events may do to a terminal. Maps and a transcript get everything.
const (
	floodLines  = 200 // lines of events shown per second
	floodWindow = time.Second
	paintEvery  = 40 * time.Millisecond // how long lines of events are collected before they are painted
)

// screen is where everything that the session prints goes. Answers to the user are printed at once; events of items are painted above the line
// that is being typed, and on a terminal a flood is throttled with a count of what was not shown. It is safe for concurrent use.
type screen struct {
	mu        sync.Mutex
	w         io.Writer
	copy      io.Writer // transcript, nil for none
	throttle  bool
	paused    bool
	held      [][]byte // lines that came while paused
	heldMore  int
	pending   bytes.Buffer
	timer     *time.Timer
	windowEnd time.Time
	shown     int
	hidden    int
	total     int // hidden since the session started
	now       func() time.Time
	err       error
	viewing   bool // a view has the whole screen: events wait
}

// maxHeld is how many lines are kept while the screen is paused.
const maxHeld = 1000

func newScreen(w io.Writer, terminal bool) *screen {
	return &screen{w: w, throttle: terminal, now: time.Now}
}

// print shows an answer.
func (s *screen) print(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paint()
	s.emit([]byte(text))
}

// emit writes to the terminal and the transcript. s.mu is held.
func (s *screen) emit(b []byte) {
	if len(b) == 0 {
		return
	}
	if s.copy != nil {
		_, _ = s.copy.Write(b)
	}
	if s.err == nil {
		_, s.err = s.w.Write(b)
	}
}

// events shows output of an item: whole lines.
func (s *screen) events(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.throttle {
		s.emit(b)
		return
	}
	now := s.now()
	for len(b) > 0 {
		n := bytes.IndexByte(b, '\n') + 1
		if n == 0 {
			n = len(b)
		}
		s.line(now, b[:n])
		b = b[n:]
	}
	if s.timer == nil && (s.pending.Len() > 0 || s.hidden > 0) {
		s.timer = time.AfterFunc(paintEvery, s.flush)
	}
}

func (s *screen) line(now time.Time, line []byte) {
	if s.paused || s.viewing {
		if len(s.held) < maxHeld {
			s.held = append(s.held, bytes.Clone(line))
		} else {
			s.heldMore++
		}
		return
	}
	if now.After(s.windowEnd) {
		s.tellHidden() // of the second before: the timer may come too late in a flood that goes on
		s.windowEnd, s.shown = now.Add(floodWindow), 0
	}
	if s.shown >= floodLines {
		s.hidden++
		s.total++
		if s.copy != nil {
			_, _ = s.copy.Write(line)
		}
		return
	}
	s.shown++
	s.pending.Write(line)
}

// flush paints what was collected.
func (s *screen) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	s.paint()
	if s.hidden > 0 {
		s.timer = time.AfterFunc(max(s.windowEnd.Sub(s.now()), 0)+time.Millisecond, s.flush)
	}
}

// tellHidden says how many lines were not shown.
func (s *screen) tellHidden() {
	if s.hidden > 0 {
		fmt.Fprintf(&s.pending, "... %s more lines not shown (maps have everything; \\pause, \\mute #N)\n", group(s.hidden))
		s.hidden = 0
	}
}

func (s *screen) paint() {
	if s.now().After(s.windowEnd) {
		s.tellHidden()
	}
	if s.pending.Len() == 0 || s.viewing {
		return
	}
	b := s.pending.Bytes()
	if b[len(b)-1] != '\n' {
		s.pending.WriteByte('\n') // what is typed starts on a line of its own
	}
	s.emit(s.pending.Bytes())
	s.pending.Reset()
}

// pause holds events back; resume shows the last of what came meanwhile.
func (s *screen) pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = true
}

func (s *screen) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = false
	s.release()
}

func (s *screen) release() {
	s.paint()
	for _, l := range s.held {
		s.emit(l)
	}
	if s.heldMore > 0 {
		s.emit(fmt.Appendf(nil, "... %s more lines came while the screen was paused\n", group(s.heldMore)))
	}
	s.held, s.heldMore = nil, 0
}

// view gives the screen to a live view, and back.
func (s *screen) view(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paint()
	s.viewing = on
	if !on && !s.paused {
		s.release()
	}
}

func (s *screen) setCopy(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copy = w
}

// retarget makes another writer the terminal: the one that paints above the line being typed.
func (s *screen) retarget(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w = w
}

func (s *screen) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.windowEnd = time.Time{}
	s.viewing = false
	s.paint()
}

// group prints a number with separators.
func group(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// itemWriter is where the Output of one item writes.
type itemWriter struct {
	sh   *Shell
	item *item
	// direct is set for what the user waits for: an answer is never throttled.
	direct bool
	rest   []byte // a line that has no end yet
}

// Write shows whole lines at once; a line without an end is shown when the item prints more or ends.
func (w *itemWriter) Write(b []byte) (int, error) {
	w.sh.mu.Lock()
	muted := w.item.muted
	w.sh.mu.Unlock()
	if muted {
		return len(b), nil
	}
	data := b
	if len(w.rest) > 0 {
		data = append(w.rest, b...)
	}
	end := bytes.LastIndexByte(data, '\n') + 1
	if end > 0 {
		w.show(data[:end])
	}
	w.rest = bytes.Clone(data[end:])
	return len(b), nil
}

// end shows what has no line end.
func (w *itemWriter) end() {
	if len(w.rest) > 0 {
		w.show(append(w.rest, '\n'))
		w.rest = nil
	}
}

func (w *itemWriter) show(b []byte) {
	if w.direct {
		w.sh.out.print(string(b))
		return
	}
	w.sh.out.events(b)
}
