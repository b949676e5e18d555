package runtime

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf/perf"

	"github.com/sonde-sh/sonde/codegen/object"
)

// captures writes the packets of skboutput to their files. nil when the script has none.
type captures struct {
	reader *perf.Reader
	files  []*captureFile
	done   chan error // the end of the goroutine that reads
}

// packetBytes is the buffer of each CPU when the script sets none: sixteen packets of the longest kind.
const packetBytes = 1 << 20

// startCaptures makes the files and starts to read packets.
func (s *Session) startCaptures() error {
	if len(s.obj.Captures) == 0 || s.opts.DryRun {
		return nil
	}
	size := s.obj.Config.PacketBytes
	if size == 0 {
		size = packetBytes
	}
	r, err := perf.NewReader(s.mapOf(object.MapPackets), size)
	if err != nil {
		return fmt.Errorf("make the buffers for packets: %w", err)
	}
	c := &captures{reader: r, done: make(chan error, 1)}
	s.captures = c
	for _, path := range s.obj.Captures {
		f, err := createCapture(path)
		if err != nil {
			c.done <- nil
			return fmt.Errorf("create the file of skboutput: %w", err)
		}
		c.files = append(c.files, f)
	}
	go func() { c.done <- c.read(s.resolver) }()
	return nil
}

// read writes packets until the reader is flushed. Where a file cannot be written, its packets are thrown away and the first error is the result.
// Packets that were lost are counted where they were sent.
func (c *captures) read(clock *resolver) (err error) {
	var rec perf.Record
	for {
		switch e := c.reader.ReadInto(&rec); {
		case errors.Is(e, perf.ErrFlushed), errors.Is(e, perf.ErrClosed):
			return err
		case e != nil:
			return fmt.Errorf("read packets: %w", e)
		case rec.LostSamples > 0:
			continue
		}
		b := rec.RawSample
		if len(b) < object.PacketHeader {
			return fmt.Errorf("read packets: a record of %d bytes", len(b))
		}
		word := func(off int) uint32 { return binary.NativeEndian.Uint32(b[off:]) }
		at, skip, n, whole := word(8), word(12), word(16), word(20)
		if int(at) >= len(c.files) || skip > n || uint64(n)+object.PacketHeader > uint64(len(b)) {
			return fmt.Errorf("read packets: a record of %d bytes holds %d, from %d, for file %d", len(b), n, skip, at)
		}
		f := c.files[at]
		f.packet(clock.WallTime("", binary.NativeEndian.Uint64(b)).UnixMicro(), b[object.PacketHeader:][skip:n], whole)
		if rec.Remaining == 0 { // nothing more to come at once: who follows the file sees it
			_ = f.w.Flush() // the writer keeps the error
		}
	}
}

// stop writes what is there still and closes the files.
func (c *captures) stop() error {
	if c == nil || c.reader == nil {
		return nil
	}
	errs := []error{c.reader.Flush()}
	errs = append(errs, <-c.done, c.reader.Close())
	for _, f := range c.files {
		if err := errors.Join(f.w.Flush(), f.f.Close()); err != nil {
			errs = append(errs, fmt.Errorf("write the file of skboutput: %w", err))
		}
	}
	c.reader = nil
	return errors.Join(errs...)
}

// captureFile is a capture in the classic pcap format.
type captureFile struct {
	f *os.File
	w *bufio.Writer
}

const (
	pcapMagic   = 0xa1b2c3d4 // in the byte order of the writer, times in microseconds
	pcapRawIP   = 101        // LINKTYPE_RAW: the first byte tells IPv4 from IPv6
	pcapSnapLen = 1<<16 - 1
)

func createCapture(path string) (*captureFile, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	c := &captureFile{f, bufio.NewWriterSize(f, 1<<16)}
	c.words(pcapMagic, 2|4<<16, 0, 0, pcapSnapLen, pcapRawIP) // version 2.4: two halves of a word
	return c, c.w.Flush()
}

// words appends numbers of 32 bits; the writer keeps the first error.
func (c *captureFile) words(ws ...uint32) {
	var b [4]byte
	for _, w := range ws {
		binary.NativeEndian.PutUint32(b[:], w)
		_, _ = c.w.Write(b[:])
	}
}

// packet appends one packet. whole is its length where not all of it is there.
func (c *captureFile) packet(micros int64, b []byte, whole uint32) {
	c.words(uint32(micros/1e6), uint32(micros%1e6), uint32(len(b)), whole)
	_, _ = c.w.Write(b)
}
