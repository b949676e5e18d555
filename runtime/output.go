package runtime

import (
	"io"
	"sync"

	"github.com/sonde-sh/sonde/runtime/value"
)

// BufferMode says when output is written.
type BufferMode uint8

// Buffer modes of -B.
const (
	BufferLine BufferMode = iota // when no event is waiting, or the buffer is full
	BufferNone                   // after each event
	BufferFull                   // only when the buffer is full
)

const bufferBytes = 64 << 10

// Output writes results as text or JSON. It is safe for concurrent use.
type Output struct {
	mu   sync.Mutex
	w    io.Writer
	buf  []byte
	json bool
	mode BufferMode
	err  error // the first write error; later output is dropped, Err reports it
}

// NewOutput writes to w.
func NewOutput(w io.Writer, json bool, mode BufferMode) *Output {
	return &Output{w: w, json: json, mode: mode, buf: make([]byte, 0, 4096)}
}

// JSON reports whether the output is JSON lines.
func (o *Output) JSON() bool { return o.json }

// Err returns the first error of the writer.
func (o *Output) Err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// Append lets fn append to the buffer.
func (o *Output) Append(fn func(dst []byte) []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = fn(o.buf)
	if o.mode == BufferNone || len(o.buf) >= bufferBytes {
		o.flush()
	}
}

// Message writes one event of a JSON type: the text itself, or {"type": kind, "data": text}.
func (o *Output) Message(kind, text string) {
	o.Append(func(dst []byte) []byte {
		if !o.json {
			return append(dst, text...)
		}
		return append(value.AppendJSONString(append(append(append(dst, `{"type": "`...), kind...), `", "data": `...), text), "}\n"...)
	})
}

// Flush writes what is buffered, unless the mode is BufferFull.
func (o *Output) Flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mode != BufferFull {
		o.flush()
	}
}

// Close writes what is buffered, whatever the mode.
func (o *Output) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flush()
	return o.err
}

func (o *Output) flush() {
	if len(o.buf) == 0 {
		return
	}
	if o.err == nil {
		_, o.err = o.w.Write(o.buf)
	}
	if cap(o.buf) > 4*bufferBytes {
		o.buf = make([]byte, 0, bufferBytes) // a printed map may have made it large
	}
	o.buf = o.buf[:0]
}
