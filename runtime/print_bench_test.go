package runtime

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/sonde-sh/sonde/codegen/object"
	"github.com/sonde-sh/sonde/lang/types"
	"github.com/sonde-sh/sonde/runtime/event"
	"github.com/sonde-sh/sonde/runtime/value"
)

// BenchmarkPrintf takes one record with a number, a short and a long string from the ring's memory to the output's buffer.
func BenchmarkPrintf(b *testing.B) {
	ev := &object.Event{Kind: object.EvPrintf, Format: "%d %s %s\n", Size: 32, Fields: []object.EventField{
		{Type: types.TUint32, Off: 8}, {Type: types.StringOf(16), Off: 12}, {Type: types.StringOf(1024), Off: 28, Tail: true},
	}}
	path := "/usr/lib/x86_64-linux-gnu/libc.so.6"
	rec := make([]byte, 32, 128)
	binary.NativeEndian.PutUint32(rec[8:], 12345)
	copy(rec[12:], "openat-loop")
	binary.NativeEndian.PutUint32(rec[28:], uint32(len(path)))
	rec = append(rec, path...)
	for _, json := range []bool{false, true} {
		name := map[bool]string{false: "text", true: "json"}[json]
		b.Run(name, func(b *testing.B) {
			s := &Session{out: NewOutput(io.Discard, json, BufferLine), values: &value.Decoder{}}
			d, err := event.NewDecoder(ev, s.values)
			if err != nil {
				b.Fatal(err)
			}
			s.events = append(s.events, d)
			b.ReportAllocs()
			for b.Loop() {
				s.handle(rec)
			}
		})
	}
}
