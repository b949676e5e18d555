package lab

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"sync"
)

// A frame is what travels from the guest to the host over the result line:
//
//	u32 magic, u8 kind, u8 zero, u16 job, u32 length, u32 CRC-32C of the 8
//	bytes after the magic and the payload, then the payload
//
// all little-endian. A serial line has no record bounds and may lose bytes, so
// the reader finds the next frame by its magic and counts what it skipped.
const (
	frameMagic     = 0x31424c53 // "SLB1"
	frameHeaderLen = 16
	// framePayloadMax bounds what one corrupt length can make the reader wait
	// for.
	framePayloadMax = 32 << 10
)

type frameKind uint8

const (
	frameInvalid frameKind = iota
	frameHello             // JSON guestHello, once
	frameStart             // a job was started
	frameStdout            // bytes
	frameStderr            // bytes
	frameExit              // JSON jobExit
	frameFatal             // text: init could not go on
	frameDone              // all jobs have ended
	frameModules           // JSON []ModuleResult, before the first job
	frameKindEnd
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type frame struct {
	kind    frameKind
	job     int
	payload []byte
}

// frameWriter writes frames; it may be used by several goroutines.
type frameWriter struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

// write sends payload, in several frames when it is long.
func (f *frameWriter) write(kind frameKind, job int, payload []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		part := payload[:min(len(payload), framePayloadMax)]
		payload = payload[len(part):]
		f.buf = appendFrame(f.buf[:0], kind, job, part)
		if _, err := f.w.Write(f.buf); err != nil {
			return err
		}
		if len(payload) == 0 {
			return nil
		}
	}
}

func appendFrame(b []byte, kind frameKind, job int, payload []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, frameMagic)
	b = append(b, byte(kind), 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(job))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	sum := crc32.Update(crc32.Checksum(b[at+4:], castagnoli), castagnoli, payload)
	b = binary.LittleEndian.AppendUint32(b, sum)
	return append(b, payload...)
}

// frameReader reads frames and skips what is none.
type frameReader struct {
	r *bufio.Reader
	// skipped counts bytes that belonged to no valid frame.
	skipped int64
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, framePayloadMax+frameHeaderLen)}
}

// next returns the next valid frame; its payload is valid until the next call.
// At the end of the stream it returns io.EOF, whatever was left over.
func (f *frameReader) next() (frame, error) {
	for {
		head, err := f.r.Peek(frameHeaderLen)
		if err != nil {
			f.skip(len(head))
			return frame{}, endOfStream(err)
		}
		if binary.LittleEndian.Uint32(head) != frameMagic {
			f.skip(1)
			continue
		}
		kind := frameKind(head[4])
		job := int(binary.LittleEndian.Uint16(head[6:]))
		size := int(binary.LittleEndian.Uint32(head[8:]))
		want := binary.LittleEndian.Uint32(head[12:])
		if kind == frameInvalid || kind >= frameKindEnd || head[5] != 0 || size > framePayloadMax {
			f.skip(1)
			continue
		}
		all, err := f.r.Peek(frameHeaderLen + size)
		if err != nil {
			// A corrupt length near the end may hide whole frames behind it.
			if len(all) > frameHeaderLen && errors.Is(err, io.EOF) {
				f.skip(1)
				continue
			}
			f.skip(len(all))
			return frame{}, endOfStream(err)
		}
		sum := crc32.Update(crc32.Checksum(all[4:12], castagnoli), castagnoli, all[frameHeaderLen:])
		if sum != want {
			f.skip(1)
			continue
		}
		if _, err := f.r.Discard(len(all)); err != nil {
			return frame{}, err
		}
		return frame{kind: kind, job: job, payload: all[frameHeaderLen:]}, nil
	}
}

func (f *frameReader) skip(n int) {
	d, _ := f.r.Discard(n) // n bytes were peeked, so they are there
	f.skipped += int64(d)
}

func endOfStream(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}
